//! Conversions to JFIF that are no 3x3 matrix: other primaries, HDR transfer functions, R'G'B'.
//!
//! The result of a sample triple is computed exactly for the nodes of a grid over all triples ([`ColourTable`]), and
//! interpolated between them, linearly in each direction ([`ffi::interpolate`]). Eight nodes make a value, and a cell
//! of the grid has them adjacent in memory: two rows of four, whose sum of products is one instruction (`pmaddwd`).
//!
//! Luma is looked up at its own places, with Cb and Cr interpolated by `siting`. Chroma stays at its resolution: it is
//! looked up with the mean of its luma samples. The meaning of the samples, and the conversion of light, are left to
//! `colour` and `light`.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ffi::{ColourGrid, CornerValues, VectorWork, interpolate, prefetch, vectorised};

use super::error::PictureError;
use super::light::{Curve, DisplayTransform};
use super::matrix::{ColourRange, Matrix, YcbcrView, jfif_of_rgb};
use super::planes::{JfifPlanes, PlaneView};
use super::siting::ChromaUpsampler;
use crate::process::PerProcess;

/// The kind of the three samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ColourModel {
    /// Y', Cb and Cr.
    Ycbcr(Matrix),
    /// G', B' and R', in this order.
    Gbr,
}

/// The parameters of a table.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct TableKey {
    pub(super) samples: ColourModel,
    pub(super) range: ColourRange,
    pub(super) depth: u8,
    /// Primaries (H.273 table 2) and transfer function of the stream; `None` if they stay.
    pub(super) light: Option<(u32, Curve)>,
}

impl TableKey {
    /// R'G'B' of samples, given as parts of the sample range (2^depth is 1).
    fn rgb(&self, samples: [f64; 3]) -> [f64; 3] {
        let values = 2f64.powi(i32::from(self.depth));
        let luma = |sample: f64| match self.range {
            ColourRange::Limited => (sample * 256.0 - 16.0) / 219.0,
            ColourRange::Full => sample * values / (values - 1.0),
        };
        let chroma = |sample: f64, matrix: Matrix| match self.range {
            ColourRange::Limited => (sample * 256.0 - 128.0) / matrix.chroma_steps(),
            ColourRange::Full => (sample - 0.5) * values / (values - 1.0),
        };
        let [first, second, third] = samples;
        match self.samples {
            ColourModel::Ycbcr(matrix) => matrix.to_rgb([luma(first), chroma(second, matrix), chroma(third, matrix)]),
            ColourModel::Gbr => [luma(third), luma(first), luma(second)],
        }
    }
}

/// Samples of every depth are converted to this many bits.
const BITS: u32 = ColourGrid::FIRST_BITS;
/// Interpolated chroma has three more bits ([`ChromaUpsampler`]).
const CHROMA_BITS: u32 = ColourGrid::OTHER_BITS;

/// A grid for each of JFIF's Y, Cb and Cr. With half as many cells for chroma, saturated colours of PQ outside of
/// BT.709's gamut are off by up to 70 of 255.
pub(super) struct ColourTable {
    pub(super) key: TableKey,
    grids: [ColourGrid; 3],
}

/// A table that is made by its first user.
struct SharedTable {
    key: TableKey,
    table: OnceLock<Option<Arc<ColourTable>>>,
}

/// The last tables that were requested, the latest one last.
static TABLES: PerProcess<Mutex<Vec<Arc<SharedTable>>>> = PerProcess::new();
/// The most entries of [`TABLES`], of 6.4 MB each.
const MOST_TABLES: usize = 4;

impl ColourTable {
    /// The table of a key: the same one for all threads, which wait while the first of them makes it. `None` for
    /// unknown primaries.
    pub(super) fn shared(key: TableKey) -> Option<Arc<ColourTable>> {
        let entry = {
            let tables = TABLES.get_or_init(|| Mutex::new(Vec::new()));
            let mut tables = tables.lock().unwrap_or_else(PoisonError::into_inner);
            let known = tables.iter().position(|entry| entry.key == key).map(|index| tables.remove(index));
            let entry = known.unwrap_or_else(|| Arc::new(SharedTable { key, table: OnceLock::new() }));
            tables.push(Arc::clone(&entry));
            if tables.len() > MOST_TABLES {
                tables.remove(0);
            }
            entry
        };
        entry.table.get_or_init(|| ColourTable::new(key).map(Arc::new)).clone()
    }

    /// Takes some milliseconds. `None` for unknown primaries.
    fn new(key: TableKey) -> Option<ColourTable> {
        let light = match key.light {
            Some((primaries, curve)) => Some(DisplayTransform::new(primaries, curve)?),
            None => None,
        };
        let nodes = Nodes::new(&key, light.as_ref());
        let [luma, cb, cr] = [0, 1, 2].map(|plane| ColourGrid::new(nodes.corners(plane)));
        Some(ColourTable { key, grids: [luma?, cb?, cr?] })
    }
}

/// The values of a grid's nodes: by Cb, then by Cr, then by Y.
struct Nodes([Vec<i16>; 3]);

impl Nodes {
    const LUMA: usize = ColourGrid::NODES;
    const CHROMA: usize = (1 << ColourGrid::LOG2_CELLS) + 1;

    fn new(key: &TableKey, light: Option<&DisplayTransform>) -> Nodes {
        let transform = light.map(CachedTransform::new);
        let place = |node: usize| node as f64 / (Self::CHROMA - 1) as f64;
        let mut planes = [(); 3].map(|()| vec![0; Self::CHROMA * Self::CHROMA * Self::LUMA]);
        let [y, cb, cr] = planes.each_mut().map(|plane| plane.chunks_exact_mut(Self::LUMA));
        for (column, ((y, cb), cr)) in y.zip(cb).zip(cr).enumerate() {
            let chroma = [column / Self::CHROMA, column % Self::CHROMA].map(place);
            // R'G'B' is linear.
            let [from, to] = [0.0, 1.0].map(|luma| key.rgb([luma, chroma[0], chroma[1]]));
            for (node, ((y, cb), cr)) in y.iter_mut().zip(cb).zip(cr).enumerate() {
                let luma = node as f64 / (Self::LUMA - 1) as f64;
                let rgb = [0, 1, 2].map(|channel| from[channel] + luma * (to[channel] - from[channel]));
                let values = match &transform {
                    Some(transform) => transform.values(rgb),
                    None => whole(stored(jfif_of_rgb(rgb))),
                };
                [*y, *cb, *cr] = values;
            }
        }
        Nodes(planes)
    }

    fn corners(&self, plane: usize) -> Vec<CornerValues> {
        let cells = 1 << ColourGrid::LOG2_CELLS;
        let column = |cb: usize, cr: usize| &self.0[plane][(cb * Self::CHROMA + cr) * Self::LUMA..][..Self::LUMA];
        let mut corners = Vec::with_capacity(ColourGrid::LEN);
        for (cb, cr) in (0..cells).flat_map(|cb| (0..cells).map(move |cr| (cb, cr))) {
            let (first, second) = (column(cb, cr), column(cb + 1, cr));
            let (third, fourth) = (column(cb, cr + 1), column(cb + 1, cr + 1));
            let nodes = first.iter().zip(second).zip(third.iter().zip(fourth));
            corners.extend(nodes.map(|((&a, &b), (&c, &d))| [a, b, c, d]));
        }
        corners
    }
}

/// JFIF's Y, Cb and Cr as a grid has them.
fn stored([y, cb, cr]: [f64; 3]) -> [f64; 3] {
    let one = f64::from(1 << ColourGrid::FRACTION);
    [y * 255.0 * one, (cb * 255.0 + 128.0) * one, (cr * 255.0 + 128.0) * one]
}

/// Rounded by hand: without SSE4.1 `round` is a call.
fn whole(values: [f64; 3]) -> [i16; 3] {
    values.map(|value| ((value + 32768.5) as i32 - 32768) as i16)
}

/// The nodes of a still's light, with less work for the many outside of the R'G'B' cube, which no picture has.
struct CachedTransform<'a> {
    light: &'a DisplayTransform,
    /// For nodes outside of the cube each channel has the value of a grey: what it adds to a node.
    greys: Vec<[[f64; 3]; 3]>,
}

impl CachedTransform<'_> {
    /// Steps of `greys`.
    const STEPS: usize = 256;
    /// The range of R', G' and B' outside of 0..=1, for overshoot and noise.
    const MARGIN: f64 = 0.1;

    fn new(light: &DisplayTransform) -> CachedTransform<'_> {
        let greys = (0..=Self::STEPS).map(|step| {
            let grey = light.apply([step as f64 / Self::STEPS as f64; 3])[0];
            let black = stored([0.0; 3]);
            let alone = |channel| stored(jfif_of_rgb([0, 1, 2].map(|other| if other == channel { grey } else { 0.0 })));
            let [red, green, blue] = [0, 1, 2].map(alone);
            // The middle of chroma once.
            let less = |value: [f64; 3]| [0, 1, 2].map(|plane| value[plane] - black[plane]);
            [red, less(green), less(blue)]
        });
        CachedTransform { light, greys: greys.collect() }
    }

    fn values(&self, rgb: [f64; 3]) -> [i16; 3] {
        if rgb.iter().all(|value| (-Self::MARGIN..=1.0 + Self::MARGIN).contains(value)) {
            return whole(stored(clipped_later(self.light.apply(rgb))));
        }
        let grey = |channel: usize| {
            let step = (rgb[channel].clamp(0.0, 1.0) * Self::STEPS as f64 + 0.5) as i32 as usize;
            self.greys[step.min(Self::STEPS)][channel]
        };
        let [red, green, blue] = [grey(0), grey(1), grey(2)];
        whole([0, 1, 2].map(|plane| red[plane] + green[plane] + blue[plane]))
    }
}

/// JFIF's Y, Cb and Cr of R'G'B' that may lie outside of 0..=1. The reader of the JPEG clips R'G'B'; clipping here,
/// before interpolation, would bend the grid at the edge of the gamut. So the excess is kept as far as Y, Cb and Cr
/// have room for it.
fn clipped_later(rgb: [f64; 3]) -> [f64; 3] {
    if rgb.iter().all(|value| (0.0..=1.0).contains(value)) {
        return jfif_of_rgb(rgb);
    }
    let inside = jfif_of_rgb(rgb.map(|value| value.clamp(0.0, 1.0)));
    let outside = jfif_of_rgb(rgb);
    let room = [(0.0, 1.0), (-0.5, 0.5), (-0.5, 0.5)];
    let part = |index: usize| match (outside[index] - inside[index], room[index]) {
        (step, (least, _)) if outside[index] < least => (least - inside[index]) / step,
        (step, (_, most)) if outside[index] > most => (most - inside[index]) / step,
        _ => 1.0,
    };
    let part = (0..3).map(part).fold(1.0, f64::min);
    [0, 1, 2].map(|index| inside[index] + part * (outside[index] - inside[index]))
}

/// Row buffers of a conversion by a table.
#[derive(Clone, Debug, Default)]
pub(super) struct TableConverter {
    /// Luma rows: row y is at index y % 2.
    luma: [Vec<u16>; 2],
    /// The luma of a chroma row.
    mean: Vec<u16>,
    /// A row of Cb and one of Cr.
    chroma: [Vec<i16>; 2],
    upsampled: [ChromaUpsampler; 2],
}

impl TableConverter {
    /// As [`JfifPlanes::convert`], by `table`; matrix and range of `view` are ignored for the table's. Results are
    /// those of exact arithmetic where the colour is linear between nodes, and close to them elsewhere.
    ///
    /// # Errors
    /// As [`JfifPlanes::convert`].
    pub(super) fn convert(
        &mut self,
        table: &ColourTable,
        view: &YcbcrView<'_>,
        out: &mut JfifPlanes,
    ) -> Result<(), PictureError> {
        view.check()?;
        let luma = view.planes[0];
        out.reshape(luma.width, luma.height, view.planes.len(), view.log2_chroma_w, view.log2_chroma_h);
        out.siting = view.siting;
        match (view.planes, view.depth) {
            (&[luma], 8) => self.gray::<1>(table, view, luma, out),
            (&[luma], _) => self.gray::<2>(table, view, luma, out),
            (&[luma, cb, cr], 8) => self.colour::<1>(table, view, [luma, cb, cr], out),
            (&[luma, cb, cr], _) => self.colour::<2>(table, view, [luma, cb, cr], out),
            _ => unreachable!("the view was checked"),
        }
        out.repeat_edges();
        Ok(())
    }

    fn gray<const N: usize>(
        &mut self,
        table: &ColourTable,
        view: &YcbcrView<'_>,
        luma: PlaneView<'_>,
        out: &mut JfifPlanes,
    ) {
        let neutral = vec![1 << (CHROMA_BITS - 1); luma.width];
        self.luma[0].resize(luma.width, 0);
        for y in 0..luma.height {
            widen(luma.row::<N>(y), view.depth, &mut self.luma[0]);
            interpolate([&table.grids[0]], &self.luma[0], [&neutral, &neutral], [out.planes[0].row_mut(y)]);
        }
    }

    fn colour<const N: usize>(
        &mut self,
        table: &ColourTable,
        view: &YcbcrView<'_>,
        planes: [PlaneView<'_>; 3],
        out: &mut JfifPlanes,
    ) {
        let [luma, chroma, _] = planes;
        self.luma.iter_mut().for_each(|row| row.resize(luma.width, 0));
        self.upsampled.iter_mut().for_each(|upsampled| upsampled.begin(chroma.width, chroma.height));
        self.mean.resize(chroma.width, 0);
        self.chroma.iter_mut().for_each(|row| row.resize(chroma.width, 0));
        vectorised(ColourRows::<N> { buffers: self, table, view, planes, out });
    }
}

/// A conversion of a picture with chroma.
struct ColourRows<'a, const N: usize> {
    buffers: &'a mut TableConverter,
    table: &'a ColourTable,
    view: &'a YcbcrView<'a>,
    planes: [PlaneView<'a>; 3],
    out: &'a mut JfifPlanes,
}

impl<const N: usize> VectorWork for ColourRows<'_, N> {
    #[inline(always)]
    fn run(self) {
        let TableConverter { luma: rows, mean, chroma, upsampled: [first, second] } = self.buffers;
        let [luma, cb, cr] = self.planes;
        let (depth, siting) = (self.view.depth, self.view.siting);
        let (log2_w, log2_h) = (self.view.log2_chroma_w, self.view.log2_chroma_h);
        let [to_luma, to_cb, to_cr] = self.out.planes.as_mut_slice() else { return };
        let [of_luma, of_cb, of_cr] = &self.table.grids;
        for y in 0..luma.height {
            let own = y % 2;
            widen(luma.row::<N>(y), depth, &mut rows[own]);
            let cb_row = first.row(y, siting, (log2_w, log2_h), |y, out| widen(cb.row::<N>(y), depth, out));
            let cr_row = second.row(y, siting, (log2_w, log2_h), |y, out| widen(cr.row::<N>(y), depth, out));
            if y + 1 < luma.height {
                prefetch(luma.row::<N>(y + 1).as_flattened());
            }
            interpolate([of_luma], &rows[own], [cb_row, cr_row], [to_luma.row_mut(y)]);
            // The last luma row of a chroma row.
            let is_last = log2_h == 0 || own == 1 || y == luma.height - 1;
            if is_last {
                let chroma_y = y >> log2_h;
                let other = if log2_h == 0 { own } else { 0 };
                mean_luma([&rows[other], &rows[own]], log2_w, mean);
                for (plane, row) in [cb, cr].iter().zip(&mut *chroma) {
                    widen(plane.row::<N>(chroma_y), depth, row);
                    row.iter_mut().for_each(|value| *value <<= CHROMA_BITS - BITS);
                }
                for plane in [cb, cr].iter().filter(|plane| chroma_y + 2 < plane.height) {
                    prefetch(plane.row::<N>(chroma_y + 2).as_flattened());
                }
                let to = [to_cb.row_mut(chroma_y), to_cr.row_mut(chroma_y)];
                interpolate([of_cb, of_cr], mean, chroma.each_ref().map(Vec::as_slice), to);
            }
        }
    }
}

/// A sample at [`BITS`] bits. Bits above the depth are dropped.
#[inline(always)]
fn widened<const N: usize>(sample: [u8; N], depth: u8) -> u16 {
    let value = if N == 1 { u16::from(sample[0]) } else { u16::from_le_bytes([sample[0], sample[1]]) };
    (value << (16 - u32::from(depth))) >> (16 - BITS)
}

#[inline(always)]
fn widen<const N: usize, T: From12Bits>(row: &[[u8; N]], depth: u8, out: &mut [T]) {
    for (sample, out) in row.iter().zip(out) {
        *out = T::from_12_bits(widened(*sample, depth));
    }
}

trait From12Bits {
    fn from_12_bits(value: u16) -> Self;
}

impl From12Bits for u16 {
    fn from_12_bits(value: u16) -> u16 {
        value
    }
}

impl From12Bits for i16 {
    fn from_12_bits(value: u16) -> i16 {
        value as i16
    }
}

/// The mean of the luma samples of each chroma sample, in two rows of [`BITS`] bits; the last column may have only one.
#[inline(always)]
fn mean_luma([upper, lower]: [&[u16]; 2], log2_w: u8, out: &mut [u16]) {
    if log2_w == 0 {
        for ((upper, lower), out) in upper.iter().zip(lower).zip(out) {
            *out = (upper + lower + 1) >> 1;
        }
        return;
    }
    let pairs = upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0);
    for ((upper, lower), out) in pairs.zip(&mut *out) {
        *out = (upper[0] + upper[1] + lower[0] + lower[1] + 2) >> 2;
    }
    if let (true, [.., upper], [.., lower], [.., out]) = (upper.len() % 2 == 1, upper, lower, out) {
        *out = (upper + lower + 1) >> 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::{Kind, Picture, bars, display, waves};
    use super::*;

    fn through(table: &ColourTable, picture: &Picture) -> JfifPlanes {
        let mut out = JfifPlanes::default();
        picture.view(Matrix::Bt601, |view| TableConverter::default().convert(table, view, &mut out)).unwrap();
        out
    }

    fn table(kind: &Kind, samples: ColourModel, light: Option<(u32, Curve)>) -> ColourTable {
        let range = if kind.is_full { ColourRange::Full } else { ColourRange::Limited };
        ColourTable::new(TableKey { samples, range, depth: kind.depth, light }).unwrap()
    }

    fn hlg(depth: u8, primaries: u32) -> TableKey {
        let (samples, range) = (ColourModel::Ycbcr(Matrix::Bt2020), ColourRange::Limited);
        TableKey { samples, range, depth, light: Some((primaries, Curve::Hlg)) }
    }

    #[test]
    fn all_threads_have_one_table() {
        let tables = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(|| ColourTable::shared(hlg(10, 9)).unwrap()));
            threads.map(|thread| thread.join().unwrap())
        });
        assert!(tables.iter().all(|table| Arc::ptr_eq(table, &tables[0])));
        assert!(!Arc::ptr_eq(&ColourTable::shared(hlg(12, 9)).unwrap(), &tables[0]));
        let others = [8, 11, 13, 14, 15].map(|depth| ColourTable::shared(hlg(depth, 9)).unwrap());
        assert!(others.iter().zip([8, 11, 13, 14, 15]).all(|(table, depth)| table.key == hlg(depth, 9)));
        // A table in use stays; the memory of the others is limited.
        assert_eq!(tables[0].key, hlg(10, 9));
        let kept = TABLES.get_or_init(Default::default).lock().unwrap().len();
        assert!(kept <= MOST_TABLES, "{kept}");
    }

    const UHD: Kind = Kind {
        size: (96, 54),
        depth: 10,
        block: Some((1, 1)),
        is_full: false,
        weights: Some((0.2627, 0.0593)),
        location: 3,
    };

    type Shown = fn([f64; 3]) -> [f64; 3];

    const LIGHTS: [(Curve, Shown); 5] = [
        (Curve::Pq { peak: 1000 }, |rgb| display::of_pq(rgb, 1000.0)),
        (Curve::Pq { peak: 4000 }, |rgb| display::of_pq(rgb, 4000.0)),
        (Curve::Pq { peak: 203 }, |rgb| display::of_pq(rgb, 203.0)),
        (Curve::Hlg, display::of_hlg),
        (Curve::Sdr, display::of_wide_gamut),
    ];

    /// Outside of BT.709's gamut a component bends within a cell: by 40 of 255 at most in PQ.
    #[test]
    fn hdr_and_wide_gamut_are_those_of_exact_arithmetic() {
        for (curve, shown) in LIGHTS {
            for (depth, is_full) in [(8, false), (10, false), (12, false), (10, true), (16, true)] {
                let kind = Kind { depth, is_full, ..UHD };
                let table = table(&kind, ColourModel::Ycbcr(Matrix::Bt2020), Some((9, curve)));
                let (waves, bars) = (Picture::new(kind, waves(kind.size)), Picture::new(kind, bars(kind.size)));
                let (mean, most) = waves.errors(&through(&table, &waves), shown);
                assert!(mean < 0.8 && most < 45.0, "{curve:?} {kind:?}: mean {mean}, most {most}");
                let (mean, most) = bars.errors(&through(&table, &bars), shown);
                assert!(mean < 0.8 && most < 12.0, "{curve:?} {kind:?}: mean {mean}, most {most}");
            }
        }
    }

    /// With chroma at half resolution its luma is that of a whole block: exact in uniform pictures, close where changes
    /// are slow.
    #[test]
    fn subsampled_chroma_is_taken_from_where_it_lies() {
        for (curve, shown) in [LIGHTS[0], LIGHTS[3]] {
            let table = table(&UHD, ColourModel::Ycbcr(Matrix::Bt2020), Some((9, curve)));
            for (block, location) in
                [(2, 1), (1, 2), (2, 2)].into_iter().flat_map(|block| (1..=6).map(move |place| (block, place)))
            {
                for size in [(1, 1), (3, 5), (33, 7), (320, 180)] {
                    let kind = Kind { size, block: Some(block), location, ..UHD };
                    let flat = Picture::new(kind, |_, _| [0.5, 0.45, 0.4]);
                    let (_, most) = flat.errors(&through(&table, &flat), shown);
                    assert!(most < 3.0, "{curve:?} {kind:?}: flat, most {most}");
                    let waves = Picture::new(kind, waves(size));
                    let (mean, _) = waves.errors(&through(&table, &waves), shown);
                    assert!(size.0 < 100 || mean < 1.5, "{curve:?} {kind:?}: mean {mean}");
                }
            }
        }
    }

    #[test]
    fn gray_is_mapped_too() {
        for (curve, shown) in LIGHTS {
            let kind = Kind { block: None, ..UHD };
            let table = table(&kind, ColourModel::Ycbcr(Matrix::Bt601), Some((9, curve)));
            let ramp = Picture::new(kind, |x, y| [(x + y) as f64 / 150.0; 3]);
            let (mean, most) = ramp.errors(&through(&table, &ramp), shown);
            assert!(mean < 0.6 && most < 4.0, "{curve:?}: mean {mean}, most {most}");
        }
    }

    #[test]
    fn gbr_is_exact() {
        for (depth, is_full) in [8, 10, 12, 16].into_iter().flat_map(|depth| [(depth, false), (depth, true)]) {
            for size in [(96, 54), (1, 1), (3, 5)] {
                let kind = Kind { size, depth, is_full, weights: None, ..UHD };
                let table = table(&kind, ColourModel::Gbr, None);
                for picture in [Picture::new(kind, bars(size)), Picture::new(kind, waves(size))] {
                    let (mean, most) = picture.errors(&through(&table, &picture), |rgb| rgb);
                    assert!(mean <= 1.0 && most < 2.5, "{kind:?}: mean {mean}, most {most}");
                }
            }
        }
        let kind = Kind { weights: None, ..UHD };
        let picture = Picture::new(kind, waves(kind.size));
        let table = table(&kind, ColourModel::Gbr, Some((9, Curve::Hlg)));
        let (mean, _) = picture.errors(&through(&table, &picture), display::of_hlg);
        assert!(mean < 1.0, "HLG in R'G'B': mean {mean}");
    }

    #[test]
    fn unknown_primaries_have_no_table() {
        assert!([0, 2, 3, 10, 23, 1000].into_iter().all(|primaries| ColourTable::new(hlg(10, primaries)).is_none()));
    }
}
