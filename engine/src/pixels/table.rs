//! Conversions to JFIF that are no 3x3 matrix: other primaries, HDR transfer functions, R'G'B'.
//!
//! The result of a sample triple is computed exactly for the nodes of a grid over all triples ([`ColourTable`]), and
//! interpolated between them, linearly in each direction. Eight nodes make a value, and a cell of the grid has them
//! adjacent in memory: two rows of four, whose sum of products is one instruction (`pmaddwd`).
//!
//! Luma is looked up at its own places, with Cb and Cr interpolated by `siting`. Chroma stays at its resolution: it is
//! looked up with the mean of its luma samples. The meaning of the samples, and the conversion of light, are left to
//! `colour` and `light`.

use super::error::PictureError;
use super::light::{Curve, DisplayTransform};
use super::matrix::{ColourRange, Matrix, YcbcrView, jfif_of_rgb};
use super::planes::{JfifPlanes, PlaneView};
use super::siting::ChromaUpsampler;

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
const BITS: u32 = 12;
/// Binary logarithm of the grid's cells along the first sample, and along the other two. With half as many cells,
/// saturated colours of PQ outside of BT.709's gamut are off by up to 70 of 255.
const LUMA_CELLS: u32 = 6;
const CHROMA_CELLS: u32 = 6;
/// Fraction bits of a node's value: the largest fits an `i16`.
const FRACTION: u32 = 6;
/// Bits of the position between two nodes, in chroma: the product of two is a weight that fits an `i16`.
const PLACE: u32 = 7;
/// Interpolated chroma has three more bits ([`ChromaUpsampler`]).
const CHROMA_BITS: u32 = BITS + 3;

/// The four nodes around a place in the plane of Cb and Cr, at one Y.
type Corners = [i16; 4];

/// A grid for each of JFIF's Y, Cb and Cr: by Cb, then by Cr, then by Y.
pub(super) struct ColourTable {
    pub(super) key: TableKey,
    grids: [Vec<Corners>; 3],
}

impl ColourTable {
    /// Takes some ten milliseconds. `None` for unknown primaries.
    pub(super) fn new(key: TableKey) -> Option<ColourTable> {
        let light = match key.light {
            Some((primaries, curve)) => Some(DisplayTransform::new(primaries, curve)?),
            None => None,
        };
        let nodes = Nodes::new(&key, light.as_ref());
        Some(ColourTable { key, grids: [0, 1, 2].map(|plane| nodes.corners(plane)) })
    }

    /// A row of one of JFIF's planes. `luma` has [`BITS`] bits, `cb` and `cr` have [`CHROMA_BITS`].
    fn look_up(&self, plane: usize, luma: &[u16], cb: &[i16], cr: &[i16], out: &mut [u8]) {
        let grid = self.grids[plane].as_slice();
        for (((&luma, &cb), &cr), out) in luma.iter().zip(cb).zip(cr).zip(out) {
            let (cb_cell, cb_place) = cell(cb);
            let (cr_cell, cr_place) = cell(cr);
            let luma_cell = usize::from(luma >> (BITS - LUMA_CELLS));
            let start = ((cb_cell << CHROMA_CELLS) + cr_cell) * ((1 << LUMA_CELLS) + 1) + luma_cell;
            let Some(&[low, high]) = grid[start..].first_chunk::<2>() else { continue };
            let weights = weights(cb_place, cr_place);
            let (low, high) = (sum(low, weights), sum(high, weights));
            let place = i32::from(luma & ((1 << (BITS - LUMA_CELLS)) - 1));
            *out = whole(low, high, place);
        }
    }
}

/// The cell of interpolated chroma, and the position in it.
#[inline(always)]
fn cell(chroma: i16) -> (usize, i16) {
    let shift = CHROMA_BITS - CHROMA_CELLS;
    let chroma = chroma as u16 & ((1 << CHROMA_BITS) - 1);
    (usize::from(chroma >> shift), ((chroma & ((1 << shift) - 1)) >> (shift - PLACE)) as i16)
}

/// The weight of each corner; their sum is 2^(2·PLACE).
#[inline(always)]
fn weights(cb: i16, cr: i16) -> Corners {
    let one = 1 << PLACE;
    [(one - cb) * (one - cr), cb * (one - cr), (one - cb) * cr, cb * cr]
}

#[inline(always)]
fn sum(corners: Corners, weights: Corners) -> i32 {
    (0..4).map(|corner| i32::from(corners[corner]) * i32::from(weights[corner])).sum()
}

/// The value between two sums, rounded. Six bits are dropped before the last product, so that it fits 32.
#[inline(always)]
fn whole(low: i32, high: i32, place: i32) -> u8 {
    const SHIFT: u32 = BITS - LUMA_CELLS;
    let (low, high) = (low >> SHIFT, high >> SHIFT);
    let value = (low << SHIFT) + (high - low) * place;
    let scale = FRACTION + 2 * PLACE;
    ((value + (1 << (scale - 1))) >> scale).clamp(0, 255) as u8
}

/// JFIF's Y, Cb and Cr at the nodes.
struct Nodes(Vec<[i16; 3]>);

impl Nodes {
    const LUMA: usize = (1 << LUMA_CELLS) + 1;
    const CHROMA: usize = (1 << CHROMA_CELLS) + 1;

    fn new(key: &TableKey, light: Option<&DisplayTransform>) -> Nodes {
        let place = |node: usize, nodes: usize| node as f64 / (nodes - 1) as f64;
        let transform = light.map(CachedTransform::new);
        let node = |index: usize| {
            let (chroma, luma) = (index / Self::LUMA, index % Self::LUMA);
            let (cb, cr) = (chroma / Self::CHROMA, chroma % Self::CHROMA);
            let rgb = key.rgb([place(luma, Self::LUMA), place(cb, Self::CHROMA), place(cr, Self::CHROMA)]);
            let [y, cb, cr] = transform.as_ref().map_or_else(|| jfif_of_rgb(rgb), |shown| clipped_later(shown.of(rgb)));
            let one = f64::from(1 << FRACTION);
            [y * 255.0, cb * 255.0 + 128.0, cr * 255.0 + 128.0].map(|value| (value * one).round() as i16)
        };
        Nodes((0..Self::CHROMA * Self::CHROMA * Self::LUMA).map(node).collect())
    }

    fn corners(&self, plane: usize) -> Vec<Corners> {
        let cells = 1 << CHROMA_CELLS;
        let at = |cb: usize, cr: usize, luma: usize| self.0[(cb * Self::CHROMA + cr) * Self::LUMA + luma][plane];
        let places = (0..cells).flat_map(|cb| (0..cells).map(move |cr| (cb, cr)));
        let corners = places.flat_map(|(cb, cr)| {
            (0..Self::LUMA).map(move |y| [at(cb, cr, y), at(cb + 1, cr, y), at(cb, cr + 1, y), at(cb + 1, cr + 1, y)])
        });
        corners.collect()
    }
}

/// The R'G'B' of the still, with less work for the many nodes outside of the R'G'B' cube, which no picture has.
struct CachedTransform<'a> {
    light: &'a DisplayTransform,
    /// Results for greys, which replace those of nodes outside of the cube.
    greys: Vec<f64>,
}

impl CachedTransform<'_> {
    /// Steps of `greys`.
    const STEPS: usize = 256;
    /// The range of R', G' and B' outside of 0..=1, for overshoot and noise.
    const MARGIN: f64 = 0.1;

    fn new(light: &DisplayTransform) -> CachedTransform<'_> {
        let grey = |step: usize| light.apply([step as f64 / Self::STEPS as f64; 3])[0];
        CachedTransform { light, greys: (0..=Self::STEPS).map(grey).collect() }
    }

    fn of(&self, rgb: [f64; 3]) -> [f64; 3] {
        if rgb.iter().all(|value| (-Self::MARGIN..=1.0 + Self::MARGIN).contains(value)) {
            return self.light.apply(rgb);
        }
        rgb.map(|value| self.greys[(value.clamp(0.0, 1.0) * Self::STEPS as f64).round() as usize])
    }
}

/// JFIF's Y, Cb and Cr of R'G'B' that may lie outside of 0..=1. The reader of the JPEG clips R'G'B'; clipping here,
/// before interpolation, would bend the grid at the edge of the gamut. So the excess is kept as far as Y, Cb and Cr
/// have room for it.
fn clipped_later(rgb: [f64; 3]) -> [f64; 3] {
    let inside = jfif_of_rgb(rgb.map(|value| value.clamp(0.0, 1.0)));
    let outside = jfif_of_rgb(rgb);
    let room = [(0.0, 1.0), (-0.5, 0.5), (-0.5, 0.5)];
    let part = |index: usize| {
        let (step, (least, most)) = (outside[index] - inside[index], room[index]);
        let left = if step < 0.0 { least - inside[index] } else { most - inside[index] };
        if step == 0.0 { 1.0 } else { (left / step).clamp(0.0, 1.0) }
    };
    let part = (0..3).map(part).fold(1.0, f64::min);
    [0, 1, 2].map(|index| inside[index] + part * (outside[index] - inside[index]))
}

/// Row buffers of a conversion by a table.
#[derive(Clone, Debug, Default)]
pub(super) struct TableConverter {
    luma: Vec<u16>,
    cb: Vec<i16>,
    cr: Vec<i16>,
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
        self.luma.resize(luma.width, 0);
        for y in 0..luma.height {
            widen(luma.row::<N>(y), view.depth, &mut self.luma);
            table.look_up(0, &self.luma, &neutral, &neutral, out.planes[0].row_mut(y));
        }
    }

    fn colour<const N: usize>(
        &mut self,
        table: &ColourTable,
        view: &YcbcrView<'_>,
        [luma, cb, cr]: [PlaneView<'_>; 3],
        out: &mut JfifPlanes,
    ) {
        let subsampling = (view.log2_chroma_w, view.log2_chroma_h);
        self.luma.resize(luma.width, 0);
        self.upsampled.iter_mut().for_each(|upsampled| upsampled.begin(cb.width, cb.height));
        for y in 0..luma.height {
            widen(luma.row::<N>(y), view.depth, &mut self.luma);
            let [first, second] = &mut self.upsampled;
            let cb_row = first.row(y, view.siting, subsampling, |y, out| widen(cb.row::<N>(y), view.depth, out));
            let cr_row = second.row(y, view.siting, subsampling, |y, out| widen(cr.row::<N>(y), view.depth, out));
            table.look_up(0, &self.luma, cb_row, cr_row, out.planes[0].row_mut(y));
        }
        self.luma.resize(cb.width, 0);
        self.cb.resize(cb.width, 0);
        self.cr.resize(cb.width, 0);
        for y in 0..cb.height {
            let (upper, lower) = (y << view.log2_chroma_h, ((y + 1) << view.log2_chroma_h) - 1);
            let rows = [upper, lower.min(luma.height - 1)].map(|y| luma.row::<N>(y));
            mean_luma(rows, view.log2_chroma_w, view.depth, &mut self.luma);
            for (view_row, row) in [(cb.row::<N>(y), &mut self.cb), (cr.row::<N>(y), &mut self.cr)] {
                widen(view_row, view.depth, row);
                row.iter_mut().for_each(|value| *value <<= CHROMA_BITS - BITS);
            }
            for plane in [1, 2] {
                table.look_up(plane, &self.luma, &self.cb, &self.cr, out.planes[plane].row_mut(y));
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

/// The mean of the luma samples of each chroma sample, in two rows; the last column may have only one.
fn mean_luma<const N: usize>([upper, lower]: [&[[u8; N]]; 2], log2_w: u8, depth: u8, out: &mut [u16]) {
    let sum = |x: usize| widened(upper[x], depth) + widened(lower[x], depth);
    let last = upper.len() - 1;
    for (x, out) in out.iter_mut().enumerate() {
        let (left, right) = (x << log2_w, (((x + 1) << log2_w) - 1).min(last));
        *out = (sum(left) + sum(right) + 2) >> 2;
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
        let key = |primaries| {
            let (samples, range) = (ColourModel::Ycbcr(Matrix::Bt2020), ColourRange::Limited);
            TableKey { samples, range, depth: 10, light: Some((primaries, Curve::Hlg)) }
        };
        assert!([0, 2, 3, 10, 23, 1000].into_iter().all(|primaries| ColourTable::new(key(primaries)).is_none()));
    }
}
