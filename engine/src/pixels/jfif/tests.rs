//! Compares the conversion with exact arithmetic, and tests refused views.

use super::super::planes::Plane;
use super::super::reference;
use super::super::siting::{Siting, SitingRow};
use super::*;

const MATRICES: [Matrix; 6] =
    [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020, Matrix::Fcc, Matrix::Smpte240m, Matrix::YCgCo];
const RANGES: [ColourRange; 2] = [ColourRange::Limited, ColourRange::Full];
const DEPTHS: [u8; 6] = [8, 9, 10, 12, 14, 16];
/// 4:2:0, 4:2:2, 4:4:0, 4:4:4 as (across, down), and grey.
const SUBSAMPLINGS: [Option<(u8, u8)>; 5] = [Some((1, 1)), Some((1, 0)), Some((0, 1)), Some((0, 0)), None];
const SIZES: [(usize, usize); 7] = [(1, 1), (2, 2), (1, 7), (6, 1), (3, 3), (37, 21), (64, 34)];

/// The kind of a test picture.
#[derive(Clone, Copy, Debug)]
struct Kind {
    size: (usize, usize),
    depth: u8,
    subsampling: Option<(u8, u8)>,
    matrix: Matrix,
    range: ColourRange,
    siting: Siting,
}

impl Kind {
    fn log2(&self) -> (u8, u8) {
        self.subsampling.unwrap_or((0, 0))
    }

    fn sizes(&self) -> Vec<(usize, usize)> {
        let (width, height) = self.size;
        match self.subsampling {
            None => vec![self.size],
            Some((w, h)) => {
                let chroma = ((width + usize::from(w)) >> w, (height + usize::from(h)) >> h);
                vec![self.size, chroma, chroma]
            }
        }
    }

    /// H.273 equations 29 to 37: YCgCo has no range of its own.
    fn chroma_steps(&self) -> f64 {
        if self.matrix == Matrix::YCgCo { 219.0 } else { 224.0 }
    }

    /// Y in 0..=1, Cb and Cr in -0.5..=0.5 from a sample, by the definitions of H.273.
    fn normal(&self, plane: usize, sample: f64) -> f64 {
        let unit = 2f64.powi(i32::from(self.depth) - 8);
        let top = 2f64.powi(i32::from(self.depth)) - 1.0;
        match (plane, self.range) {
            (0, ColourRange::Limited) => (sample / unit - 16.0) / 219.0,
            (0, ColourRange::Full) => sample / top,
            (_, ColourRange::Limited) => (sample / unit - 128.0) / self.chroma_steps(),
            (_, ColourRange::Full) => (sample - 128.0 * unit) / top,
        }
    }

    /// The sample nearest to a normal value.
    fn sample(&self, plane: usize, normal: f64) -> u16 {
        let unit = 2f64.powi(i32::from(self.depth) - 8);
        let top = 2f64.powi(i32::from(self.depth)) - 1.0;
        let sample = match (plane, self.range) {
            (0, ColourRange::Limited) => (normal * 219.0 + 16.0) * unit,
            (0, ColourRange::Full) => normal * top,
            (_, ColourRange::Limited) => (normal * self.chroma_steps() + 128.0) * unit,
            (_, ColourRange::Full) => normal * top + 128.0 * unit,
        };
        sample.round().clamp(0.0, top) as u16
    }

    fn each(mut check: impl FnMut(Kind)) {
        for matrix in MATRICES {
            for range in RANGES {
                for depth in DEPTHS {
                    for subsampling in SUBSAMPLINGS {
                        for size in SIZES {
                            check(Kind { size, depth, subsampling, matrix, range, siting: Siting::LEFT });
                        }
                    }
                }
            }
        }
    }
}

/// A picture as a decoder leaves it, with garbage between the rows and above the significant bits.
struct Picture {
    kind: Kind,
    samples: Vec<Vec<u16>>,
    bytes: Vec<Vec<u8>>,
    strides: Vec<usize>,
}

impl Picture {
    fn new(kind: Kind, mut sample: impl FnMut(usize, usize, usize) -> u16) -> Self {
        let sample_bytes = if kind.depth == 8 { 1 } else { 2 };
        let mut picture = Self { kind, samples: vec![], bytes: vec![], strides: vec![] };
        for (plane, (width, height)) in kind.sizes().into_iter().enumerate() {
            let stride = width * sample_bytes + [0, 7, 32][plane];
            let mut samples = vec![];
            let mut bytes = vec![];
            for y in 0..height {
                bytes.resize(y * stride, 0xa7);
                for x in 0..width {
                    let value = sample(plane, x, y);
                    samples.push(value);
                    let rubbish = 0xa7a7u16.checked_shl(u32::from(kind.depth)).unwrap_or(0);
                    bytes.extend_from_slice(&(value | rubbish).to_le_bytes()[..sample_bytes]);
                }
            }
            picture.samples.push(samples);
            picture.bytes.push(bytes);
            picture.strides.push(stride);
        }
        picture
    }

    /// A picture of one colour, in normal values.
    fn flat(kind: Kind, normal: [f64; 3]) -> Self {
        Self::new(kind, |plane, _, _| kind.sample(plane, normal[plane]))
    }

    fn views(&self) -> Vec<PlaneView<'_>> {
        let planes = self.bytes.iter().zip(&self.strides).zip(self.kind.sizes());
        planes.map(|((data, &stride), (width, height))| PlaneView { data, stride, width, height }).collect()
    }

    fn converted_into(&self, out: &mut JfifPlanes) -> Result<(), PictureError> {
        let planes = self.views();
        let (log2_chroma_w, log2_chroma_h) = self.kind.log2();
        let Kind { depth, matrix, range, siting, .. } = self.kind;
        out.convert(&YcbcrView { planes: &planes, depth, log2_chroma_w, log2_chroma_h, matrix, range, siting })
    }

    fn converted(&self) -> JfifPlanes {
        let mut out = JfifPlanes::default();
        self.converted_into(&mut out).unwrap();
        out
    }

    fn at(&self, plane: usize, x: f64, y: f64) -> f64 {
        let (width, height) = self.kind.sizes()[plane];
        let clamp = |v: f64, size: usize| v.clamp(0.0, size as f64 - 1.0) as usize;
        let sample = f64::from(self.samples[plane][clamp(y, height) * width + clamp(x, width)]);
        self.kind.normal(plane, sample)
    }

    /// Chroma at a luma place: linear between the nearest samples, with repeated edges.
    fn chroma_at(&self, plane: usize, x: usize, y: usize) -> f64 {
        let (log2_w, log2_h) = self.kind.log2();
        let across = if self.kind.siting.is_centred { 0.5 } else { 0.0 };
        let down = match self.kind.siting.row {
            SitingRow::Top => 0.0,
            SitingRow::Between => 0.5,
            SitingRow::Bottom => 1.0,
        };
        let x = if log2_w == 1 { (x as f64 - across) / 2.0 } else { x as f64 };
        let y = if log2_h == 1 { (y as f64 - down) / 2.0 } else { y as f64 };
        let (left, top) = (x.floor(), y.floor());
        let (right_part, bottom_part) = (x - left, y - top);
        let row = |y| (1.0 - right_part) * self.at(plane, left, y) + right_part * self.at(plane, left + 1.0, y);
        (1.0 - bottom_part) * row(top) + bottom_part * row(top + 1.0)
    }

    /// The exact result at a place of a plane, by way of R'G'B'.
    fn expected(&self, plane: usize, x: usize, y: usize) -> f64 {
        if plane == 0 {
            let luma = self.at(0, x as f64, y as f64);
            let (cb, cr) = match self.kind.subsampling {
                Some(_) => (self.chroma_at(1, x, y), self.chroma_at(2, x, y)),
                None => (0.0, 0.0),
            };
            jfif_of_rgb(rgb_of(self.kind.matrix, [luma, cb, cr]))[0]
        } else {
            let (x, y) = (x as f64, y as f64);
            jfif_of_rgb(rgb_of(self.kind.matrix, [0.5, self.at(1, x, y), self.at(2, x, y)]))[plane]
        }
    }
}

fn kr_kb(matrix: Matrix) -> (f64, f64) {
    match matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
        Matrix::Bt2020 => (0.2627, 0.0593),
        Matrix::Fcc => (0.30, 0.11),
        Matrix::Smpte240m => (0.212, 0.087),
        Matrix::YCgCo => unreachable!("it has no such weights"),
    }
}

fn rgb_of(matrix: Matrix, [y, cb, cr]: [f64; 3]) -> [f64; 3] {
    if matrix == Matrix::YCgCo {
        // H.273 equations 47 to 50.
        let t = y - cb;
        return [t + cr, y + cb, t - cr];
    }
    let (kr, kb) = kr_kb(matrix);
    let red = y + cr * 2.0 * (1.0 - kr);
    let blue = y + cb * 2.0 * (1.0 - kb);
    [red, (y - kr * red - kb * blue) / (1.0 - kr - kb), blue]
}

fn ycbcr_of(matrix: Matrix, [red, green, blue]: [f64; 3]) -> [f64; 3] {
    if matrix == Matrix::YCgCo {
        // H.273 equations 44 to 46.
        return [0.5 * green + 0.25 * (red + blue), 0.5 * green - 0.25 * (red + blue), 0.5 * (red - blue)];
    }
    let (kr, kb) = kr_kb(matrix);
    let y = kr * red + (1.0 - kr - kb) * green + kb * blue;
    [y, (blue - y) / (2.0 * (1.0 - kb)), (red - y) / (2.0 * (1.0 - kr))]
}

fn jfif_of_rgb(rgb: [f64; 3]) -> [f64; 3] {
    let [y, cb, cr] = ycbcr_of(Matrix::Bt601, rgb);
    [y * 255.0, cb * 255.0 + 128.0, cr * 255.0 + 128.0].map(|value| value.clamp(0.0, 255.0))
}

fn random(seed: u32) -> impl FnMut() -> u16 {
    let mut state = seed.wrapping_mul(2654435761) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as u16
    }
}

/// Ramps, colour bars, and noise over all values, including those outside of the range.
fn contents(kind: Kind) -> [Picture; 3] {
    let top = (1u32 << kind.depth) - 1;
    let ramps = Picture::new(kind, |plane, x, y| {
        let (width, height) = kind.sizes()[plane];
        let across = x as f64 / width.max(2) as f64;
        let down = y as f64 / height.max(2) as f64;
        (f64::from(top) * [across, (across + down) / 2.0, 1.0 - down][plane]) as u16
    });
    let bars = Picture::new(kind, |plane, x, _| {
        let (width, _) = kind.sizes()[plane];
        let bar = 7 - x * 8 / width;
        let rgb = [bar & 2, bar & 4, bar & 1].map(|bit| if bit > 0 { 0.75 } else { 0.0 });
        kind.sample(plane, ycbcr_of(kind.matrix, rgb)[plane])
    });
    let mut next = random(u32::from(kind.depth));
    let noise = Picture::new(kind, |_, _, _| next() & top as u16);
    [ramps, bars, noise]
}

/// Exact results differ from the nearest integer by up to 0.5 and, if evenly spread, by 0.25 on average. `Mix::of` adds
/// up to one and a half of 64 parts, luma and the shifts up to two: together under 0.06, and none on average.
#[test]
fn results_are_those_of_exact_arithmetic_through_rgb() {
    let (mut sum, mut signed, mut count) = (0.0, 0.0, 0.0);
    Kind::each(|kind| {
        for picture in contents(kind) {
            let out = picture.converted();
            assert_eq!(out.planes.len(), kind.sizes().len());
            for (index, plane) in out.planes.iter().enumerate() {
                assert_eq!((plane.width, plane.height), kind.sizes()[index]);
                let (mut plane_sum, mut plane_signed, area) = (0.0, 0.0, (plane.width * plane.height) as f64);
                for (x, y) in (0..plane.height).flat_map(|y| (0..plane.width).map(move |x| (x, y))) {
                    let expected = picture.expected(index, x, y);
                    let error = f64::from(plane.row(y)[x]) - expected;
                    assert!(error.abs() < 0.56, "{kind:?} plane {index} at {x},{y}: {error} off {expected}");
                    plane_sum += error.abs();
                    plane_signed += error;
                }
                assert!(area < 100.0 || plane_sum / area < 0.5, "{kind:?} plane {index}: {}", plane_sum / area);
                (sum, signed, count) = (sum + plane_sum, signed + plane_signed, count + area);
            }
        }
    });
    assert!(sum / count < 0.26, "mean {}", sum / count);
    assert!((signed / count).abs() < 0.02, "bias {}", signed / count);
}

#[test]
fn chroma_is_taken_from_where_it_lies() {
    for location in 0..=6 {
        let siting = Siting::from_location(location);
        for subsampling in SUBSAMPLINGS {
            for size in SIZES {
                for (depth, matrix) in [(8, Matrix::Bt709), (10, Matrix::Bt2020), (8, Matrix::YCgCo)] {
                    let range = ColourRange::Limited;
                    check(&contents(Kind { size, depth, subsampling, matrix, range, siting })[2]);
                }
            }
        }
    }
    let places: Vec<_> = (0..=6).map(Siting::from_location).collect();
    assert_eq!(places.iter().filter(|&&siting| siting == Siting::LEFT).count(), 2);
}

/// Every sample is within 0.56 of exact arithmetic.
fn check(picture: &Picture) {
    let out = picture.converted();
    for (index, plane) in out.planes.iter().enumerate() {
        for (x, y) in (0..plane.height).flat_map(|y| (0..plane.width).map(move |x| (x, y))) {
            let error = f64::from(plane.row(y)[x]) - picture.expected(index, x, y);
            assert!(error.abs() < 0.56, "{:?} plane {index} at {x},{y}: {error}", picture.kind);
        }
    }
}

#[test]
fn grey_stays_grey_and_black_and_white_reach_the_ends() {
    Kind::each(|kind| {
        for step in 0..=16 {
            let normal = f64::from(step) / 16.0;
            let out = Picture::flat(kind, [normal, 0.0, 0.0]).converted();
            let expected = kind.normal(0, f64::from(kind.sample(0, normal))) * 255.0;
            let luma = out.planes[0].data[0];
            assert!((f64::from(luma) - expected).abs() < 0.56, "{kind:?} {normal}: {luma}");
            assert!(step != 0 || luma == 0, "{kind:?}: black is {luma}");
            assert!(step != 16 || luma == 255, "{kind:?}: white is {luma}");
            assert!(out.planes[0].data.iter().all(|&sample| sample == luma), "{kind:?}");
            assert!(out.planes[1..].iter().all(|plane| plane.data.iter().all(|&sample| sample == 128)), "{kind:?}");
        }
    });
}

#[test]
fn below_black_and_above_white_are_clamped() {
    Kind::each(|kind| {
        let dark = Picture::new(kind, |plane, _, _| if plane == 0 { 0 } else { kind.sample(1, 0.0) }).converted();
        assert!(dark.planes[0].data.iter().all(|&sample| sample == 0));
        let top = ((1u32 << kind.depth) - 1) as u16;
        let bright = Picture::new(kind, |plane, _, _| if plane == 0 { top } else { kind.sample(1, 0.0) });
        assert!(bright.converted().planes[0].data.iter().all(|&sample| sample == 255));
    });
}

/// The source is quantised too: half a step of each of its planes, in steps of the output, changes luma by up to 0.75
/// and chroma by up to 0.65 at 8 bits in limited range. The output's own 0.56 is added.
#[test]
fn colours_are_those_that_were_filmed() {
    Kind::each(|kind| {
        for bits in 0..8u8 {
            let rgb = [bits & 4, bits & 2, bits & 1].map(|bit| if bit > 0 { 0.9 } else { 0.1 });
            let out = Picture::flat(kind, ycbcr_of(kind.matrix, rgb)).converted();
            for (index, plane) in out.planes.iter().enumerate().filter(|_| kind.subsampling.is_some()) {
                let expected = jfif_of_rgb(rgb)[index];
                for &sample in &plane.data {
                    assert!((f64::from(sample) - expected).abs() < 1.3, "{kind:?} {rgb:?}: {sample} for {expected}");
                }
            }
        }
    });
}

#[test]
fn what_is_jfif_already_is_copied() {
    for subsampling in SUBSAMPLINGS {
        let (matrix, siting) = (Matrix::Bt601, Siting::LEFT);
        let kind = Kind { size: (37, 21), depth: 8, subsampling, matrix, range: ColourRange::Full, siting };
        for picture in contents(kind) {
            let out = picture.converted();
            for (plane, samples) in out.planes.iter().zip(&picture.samples) {
                let rows: Vec<_> = (0..plane.height).flat_map(|y| plane.row(y).to_vec()).map(u16::from).collect();
                assert_eq!(&rows, samples);
            }
        }
    }
}

#[test]
fn rows_and_columns_outside_the_picture_repeat_its_edge() {
    Kind::each(|kind| {
        let out = contents(kind)[2].converted();
        let rows_of_luma = kind.sizes().last().unwrap().1 << kind.log2().1;
        for (index, plane) in out.planes.iter().enumerate() {
            assert!(plane.stride.is_multiple_of(Plane::ALIGN) && plane.stride >= plane.width);
            let rows = if index == 0 { rows_of_luma } else { plane.height };
            assert_eq!(plane.data.len(), rows * plane.stride);
            for (y, row) in plane.data.chunks_exact(plane.stride).enumerate() {
                let inside = plane.row(y.min(plane.height - 1));
                assert_eq!(&row[..plane.width], inside);
                assert!(row[plane.width..].iter().all(|sample| sample == inside.last().unwrap()));
            }
        }
    });
}

#[test]
fn buffers_of_another_picture_leave_no_trace() {
    let mut reused = JfifPlanes::default();
    Kind::each(|kind| {
        let picture = &contents(kind)[2];
        picture.converted_into(&mut reused).unwrap();
        let fresh = picture.converted();
        assert_eq!(reused.planes, fresh.planes);
        assert_eq!((reused.width, reused.height), kind.size);
        assert_eq!((reused.log2_chroma_w, reused.log2_chroma_h), kind.log2());
    });
}

/// The error for a 4:2:0 view of 16x10 after `spoil`.
fn error_of(depth: u8, spoil: impl FnOnce(&mut YcbcrView<'_>, &mut Vec<PlaneView<'_>>)) -> PictureError {
    let (matrix, range, siting) = (Matrix::Bt709, ColourRange::Full, Siting::LEFT);
    let kind = Kind { size: (16, 10), depth, subsampling: Some((1, 1)), matrix, range, siting };
    let picture = Picture::flat(kind, [0.5, 0.1, 0.1]);
    let mut planes = picture.views();
    let (log2_chroma_w, log2_chroma_h) = (1, 1);
    let mut view = YcbcrView { planes: &[], depth, log2_chroma_w, log2_chroma_h, matrix, range, siting };
    spoil(&mut view, &mut planes);
    let mut out = JfifPlanes::default();
    let error = out.convert(&YcbcrView { planes: &planes, ..view }).unwrap_err();
    assert!(out.planes.is_empty(), "{error} left something behind");
    assert!(!error.to_string().contains('\n'));
    error
}

#[test]
fn malformed_views_are_errors() {
    use PictureError::*;
    assert_eq!(error_of(8, |_, planes| planes.truncate(0)), PlaneCount { found: 0 });
    assert_eq!(error_of(8, |_, planes| planes.truncate(2)), PlaneCount { found: 2 });
    assert_eq!(error_of(8, |_, planes| planes.push(planes[0])), PlaneCount { found: 4 });
    assert_eq!(error_of(8, |view, _| view.depth = 7), Depth { found: 7 });
    assert_eq!(error_of(8, |view, _| view.depth = 17), Depth { found: 17 });
    let quarter = Subsampling { log2_chroma_w: 2, log2_chroma_h: 0 };
    assert_eq!(error_of(8, |view, _| (view.log2_chroma_w, view.log2_chroma_h) = (2, 0)), quarter);
    assert!(matches!(error_of(8, |view, _| view.log2_chroma_h = 255), Subsampling { .. }));
    assert_eq!(error_of(8, |_, planes| planes[0].width = 0), Empty { width: 0, height: 10 });
    assert_eq!(error_of(8, |_, planes| planes[0].height = 0), Empty { width: 16, height: 0 });
    let size = PlaneSize { plane: 2, width: 8, height: 4, expected_width: 8, expected_height: 5 };
    assert_eq!(error_of(8, |_, planes| planes[2].height = 4), size);
    assert!(matches!(error_of(8, |view, _| view.log2_chroma_w = 0), PlaneSize { plane: 1, .. }));
    assert_eq!(error_of(8, |_, planes| planes[0].stride = 15), Stride { plane: 0, stride: 15, needed: 16 });
    assert_eq!(error_of(10, |_, planes| planes[1].stride = 15), Stride { plane: 1, stride: 15, needed: 16 });
    let data = Data { plane: 0, found: 159, needed: 160 };
    assert_eq!(error_of(8, |_, planes| planes[0].data = &planes[0].data[..159]), data);
    // 8-bit planes under a view of 10 bits have half of the bytes.
    assert!(matches!(error_of(8, |view, _| view.depth = 10), Stride { plane: 0, .. }));
}

#[test]
fn sizes_that_overflow_are_errors() {
    use PictureError::*;
    assert!(matches!(error_of(8, |_, planes| planes[0].stride = usize::MAX), Data { plane: 0, .. }));
    assert!(matches!(error_of(10, |_, planes| planes[0].width = usize::MAX), Stride { plane: 0, .. }));
    assert!(matches!(error_of(10, |_, planes| planes[0].height = usize::MAX), Data { plane: 0, .. }));
}

/// Compares with a second reference, as a JPEG's reader does: in R'G'B'.
#[test]
fn colour_bars_are_those_of_the_standards() {
    const BLOCKS: [Option<(usize, usize)>; 5] = [Some((1, 1)), Some((2, 1)), Some((1, 2)), Some((2, 2)), None];
    for (matrix, weights) in reference::MATRICES {
        for (depth, is_full) in [8, 10, 12].into_iter().flat_map(|depth| [(depth, false), (depth, true)]) {
            for (block, location) in BLOCKS.into_iter().flat_map(|block| (0..=6).map(move |place| (block, place))) {
                for size in [(40, 24), (1, 1), (3, 5), (33, 7)] {
                    let weights = Some(weights);
                    let kind = reference::Kind { size, depth, block, is_full, weights, location };
                    let picture = reference::Picture::new(kind, reference::bars(size));
                    let mut out = JfifPlanes::default();
                    picture.view(matrix, |view| out.convert(view)).unwrap();
                    let (mean, most) = picture.errors(&out, |rgb| rgb);
                    assert!(mean < 0.4 && most < 1.5, "{kind:?}: mean {mean}, most {most}");
                }
            }
        }
    }
}
