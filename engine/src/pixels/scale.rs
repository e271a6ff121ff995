//! Scales JFIF planes to a requested size.
//!
//! Each plane is resampled separately, so chroma stays subsampled and no RGB is computed: a row of the new height in 16
//! bits, then its columns ([`ffi::blend_rows`], [`ffi::weigh_columns`]). The filter is a cubic one, stretched by the
//! scale when shrinking, so that every source sample counts. Its outer lobes are those of swscale's bicubic filter. It
//! has two thirds of the taps of Lanczos3, and rings less beside hard edges (titles, letterboxes).
//!
//! A chroma sample covers the square of its luma samples, before and after, as in JFIF.
//!
//! Sizes and crops count stored pixels: sample aspect ratios and rotation are left to `still::layout`, the planes to
//! `jfif`. The limits of JPEG's sides and of pixels are checked here.

use std::sync::Arc;

use ffi::{FilterTaps, SampleRows, blend_rows, weigh_columns};

use super::crop::Crop;
use super::error::{MAX_SIDE, PictureError};
use super::planes::{JfifPlanes, Plane};

/// The treatment of a shape with another aspect ratio than the picture's: CSS' `object-fit`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Fit {
    /// Fits the whole picture inside, undistorted; enlarges too. One side may be smaller than requested.
    Contain,
    /// Fills the shape undistorted and crops the excess, equally on both sides; enlarges too.
    Cover,
    /// Fills the shape, distorted.
    Fill,
}

/// The requested size, in luma samples. With one side the other follows from the aspect ratio; without both the picture
/// keeps its size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Shape {
    /// Columns.
    pub width: Option<u32>,
    /// Rows.
    pub height: Option<u32>,
    /// The meaning of both sides together.
    pub fit: Fit,
}

/// A [`Shape`] resolved for a picture.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ScalePlan {
    /// Columns of the output.
    pub width: u32,
    /// Rows of the output.
    pub height: u32,
    /// The part of the source that is shown.
    pub crop: Crop,
}

impl ScalePlan {
    /// True if this is the whole source, unscaled. The argument is the source's width and height.
    pub(crate) fn is_all_of(&self, (width, height): (usize, usize)) -> bool {
        let crop = Crop { left: 0.0, top: 0.0, width: width as f64, height: height as f64 };
        self.crop == crop && (self.width as usize, self.height as usize) == (width, height)
    }
}

impl Shape {
    /// Output size and crop for a source of this size, in luma samples. A side that follows from the other is rounded
    /// to the nearest, at least 1. [`Scaler::scale`] checks sides against JPEG's limit.
    pub fn resolve(&self, source_width: usize, source_height: usize) -> ScalePlan {
        let (width, height) = self.size(source_width, source_height);
        let (source_width, source_height) = (source_width as f64, source_height as f64);
        let mut crop = Crop { left: 0.0, top: 0.0, width: source_width, height: source_height };
        if let (Some(_), Some(_), Fit::Cover) = (self.width, self.height, self.fit) {
            let aspect = f64::from(width) / f64::from(height);
            crop.width = (source_height * aspect).min(source_width);
            crop.height = (source_width / aspect).min(source_height);
            crop.left = (source_width - crop.width) / 2.0;
            crop.top = (source_height - crop.height) / 2.0;
        }
        ScalePlan { width, height, crop }
    }

    fn size(&self, source_width: usize, source_height: usize) -> (u32, u32) {
        let height_of = |width| proportional(width, source_height, source_width);
        let width_of = |height| proportional(height, source_width, source_height);
        match (self.width, self.height) {
            (None, None) => (saturated(source_width as u128), saturated(source_height as u128)),
            (Some(width), None) => (width, height_of(width)),
            (None, Some(height)) => (width_of(height), height),
            (Some(width), Some(height)) if self.fit == Fit::Contain => {
                // The side that is exhausted first decides; the other one is then within the request.
                if u128::from(width) * source_height as u128 <= u128::from(height) * source_width as u128 {
                    (width, height_of(width))
                } else {
                    (width_of(height), height)
                }
            }
            (Some(width), Some(height)) => (width, height),
        }
    }
}

/// `side * numerator / denominator`, rounded to the nearest, at least 1.
fn proportional(side: u32, numerator: usize, denominator: usize) -> u32 {
    let denominator = (denominator as u128).max(1);
    let product = u128::from(side) * numerator as u128;
    saturated((product + denominator / 2) / denominator).max(1)
}

fn saturated(side: u128) -> u32 {
    u32::try_from(side).unwrap_or(u32::MAX)
}

/// Scales pictures. It reuses its buffers, so each thread needs its own.
#[derive(Debug, Default)]
pub struct Scaler {
    /// The filters of the last picture.
    filters: Vec<(PlaneSide, Arc<FilterTaps>)>,
    row: Vec<i16>,
}

/// One side of a plane, in samples.
#[derive(Clone, Copy, PartialEq, Debug)]
struct PlaneSide {
    /// The source.
    from: usize,
    /// The part of the source that is shown.
    start: f64,
    length: f64,
    /// The result.
    to: usize,
}

/// The most filters that are kept: two planes have two each.
const MOST_FILTERS: usize = 4;

impl Scaler {
    /// A scaler that uses the best instructions of this processor.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fills `out` with `source` in the requested shape, at the same subsampling.
    ///
    /// # Errors
    /// If a side of the output would not be 1 to [`MAX_SIDE`], or the planes of `source` do not fit together. `out` is
    /// then unchanged.
    pub fn scale(&mut self, source: &JfifPlanes, shape: &Shape, out: &mut JfifPlanes) -> Result<(), PictureError> {
        source.check()?;
        self.resample(source, &scale_plan(source, shape)?, out)
    }

    /// Fills `out` with the crop and size of `plan`, at the same subsampling.
    ///
    /// # Errors
    /// As [`Scaler::scale`].
    pub(crate) fn resample(
        &mut self,
        source: &JfifPlanes,
        plan: &ScalePlan,
        out: &mut JfifPlanes,
    ) -> Result<(), PictureError> {
        source.check()?;
        let ScalePlan { width, height, crop } = *plan;
        check_sides(width, height)?;
        let (log2_w, log2_h) = (source.log2_chroma_w, source.log2_chroma_h);
        out.reshape(width as usize, height as usize, source.planes.len(), log2_w, log2_h);
        for (index, (from, to)) in source.planes.iter().zip(&mut out.planes).enumerate() {
            let crop = if index == 0 { crop } else { chroma_crop(&crop, (width, height), (log2_w, log2_h), from, to) };
            self.scale_plane(from, &crop, to);
        }
        out.repeat_edges();
        Ok(())
    }

    fn scale_plane(&mut self, from: &Plane, crop: &Crop, to: &mut Plane) {
        let across = self.filter(PlaneSide { from: from.width, start: crop.left, length: crop.width, to: to.width });
        let down = self.filter(PlaneSide { from: from.height, start: crop.top, length: crop.height, to: to.height });
        let source = SampleRows { data: &from.data, stride: from.stride };
        for y in 0..to.height {
            blend_rows(source, &down, y, &across, &mut self.row);
            weigh_columns(&self.row, &across, to.row_mut(y));
        }
    }

    fn filter(&mut self, axis: PlaneSide) -> Arc<FilterTaps> {
        if let Some((_, taps)) = self.filters.iter().find(|(known, _)| *known == axis) {
            return Arc::clone(taps);
        }
        let taps = Arc::new(FilterTaps::new(&(0..axis.to).map(|index| axis.taps(index)).collect::<Vec<_>>()));
        self.filters.truncate(MOST_FILTERS - 1);
        self.filters.insert(0, (axis, Arc::clone(&taps)));
        taps
    }
}

impl PlaneSide {
    /// The first source sample of a sample of the result, and the weights from there on.
    fn taps(&self, index: usize) -> (usize, Vec<f64>) {
        let step = self.length / self.to as f64;
        let stretch = step.max(1.0);
        let centre = self.start + (index as f64 + 0.5) * step - 0.5;
        let last = self.from - 1;
        let first = ((centre - 2.0 * stretch).floor().max(-1.0) + 1.0).min(last as f64) as usize;
        let end = (((centre + 2.0 * stretch).ceil() - 1.0).max(0.0) as usize).min(last).max(first);
        let mut weights: Vec<f64> = (first..=end).map(|at| cubic((at as f64 - centre) / stretch)).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
        (first, weights)
    }
}

/// Mitchell's and Netravali's filter with B = 0 and C = 0.6.
fn cubic(place: f64) -> f64 {
    const C: f64 = 0.6;
    let x = place.abs();
    match x {
        _ if x < 1.0 => ((2.0 - C) * x + C - 3.0) * x * x + 1.0,
        _ if x < 2.0 => ((5.0 * C - C * x) * x - 8.0 * C) * x + 4.0 * C,
        _ => 0.0,
    }
}

fn scale_plan(source: &JfifPlanes, shape: &Shape) -> Result<ScalePlan, PictureError> {
    let plan = shape.resolve(source.planes[0].width, source.planes[0].height);
    // A side of 0 is rounded to 1 in the result, so the request is checked first.
    check_sides(shape.width.unwrap_or(plan.width), shape.height.unwrap_or(plan.height))?;
    check_sides(plan.width, plan.height)?;
    Ok(plan)
}

/// The most pixels of a resampled picture: four times an 8K one. The sample aspect ratio is an untrusted input, too.
const MOST_PIXELS: u64 = 1 << 27;

fn check_sides(width: u32, height: u32) -> Result<(), PictureError> {
    let fits = |side| (1..=MAX_SIDE).contains(&side);
    if !fits(width) || !fits(height) {
        return Err(PictureError::OutputSize { width, height });
    }
    if u64::from(width) * u64::from(height) > MOST_PIXELS {
        return Err(PictureError::TooManyPixels { width, height });
    }
    Ok(())
}

/// The crop of a chroma plane.
///
/// Chroma samples at the right and lower edge may cover more than the picture. The crop makes the output's do so in the
/// same proportion, so that colour stays on its luma, as far as the plane has samples: where it has not (odd sides),
/// colour at that edge is off by up to one luma sample of the output.
fn chroma_crop(luma: &Crop, out: (u32, u32), log2: (u8, u8), from: &Plane, to: &Plane) -> Crop {
    let side = |start: f64, length: f64, luma_out: u32, log2: u8, from: usize, to: usize| {
        let (divisor, plane) = (f64::from(1 << log2), from as f64);
        let start = start / divisor;
        // The same number of source samples per output sample as in luma.
        let length = length / f64::from(luma_out) * to as f64;
        (start, length.min(plane - start))
    };
    let (left, width) = side(luma.left, luma.width, out.0, log2.0, from.width, to.width);
    let (top, height) = side(luma.top, luma.height, out.1, log2.1, from.height, to.height);
    Crop { left, top, width, height }
}

#[cfg(test)]
mod tests {
    use super::super::testing::planes;
    use super::*;

    fn shape(width: impl Into<Option<u32>>, height: impl Into<Option<u32>>, fit: Fit) -> Shape {
        Shape { width: width.into(), height: height.into(), fit }
    }

    fn scaled(source: &JfifPlanes, shape: Shape) -> JfifPlanes {
        let mut out = JfifPlanes::default();
        Scaler::new().scale(source, &shape, &mut out).unwrap();
        out
    }

    const SUBSAMPLINGS: [Option<(u8, u8)>; 5] = [Some((1, 1)), Some((1, 0)), Some((0, 1)), Some((0, 0)), None];
    const FITS: [Fit; 3] = [Fit::Contain, Fit::Cover, Fit::Fill];

    #[test]
    fn sizes_follow_the_fit() {
        let size = |source: (usize, usize), shape: Shape| {
            let resolved = shape.resolve(source.0, source.1);
            (resolved.width, resolved.height)
        };
        let hd = (1920, 1080);
        assert_eq!(size(hd, shape(640, 640, Fit::Contain)), (640, 360));
        assert_eq!(size(hd, shape(1000, 100, Fit::Contain)), (178, 100));
        assert_eq!(size(hd, shape(3840, 3840, Fit::Contain)), (3840, 2160));
        assert_eq!(size((1000, 1), shape(10, 10, Fit::Contain)), (10, 1));
        assert_eq!(size((1, 1000), shape(10, 10, Fit::Contain)), (1, 10));
        assert_eq!(size(hd, shape(100, 300, Fit::Cover)), (100, 300));
        assert_eq!(size(hd, shape(100, 300, Fit::Fill)), (100, 300));
        for fit in FITS {
            assert_eq!(size(hd, shape(None, None, fit)), (1920, 1080));
            assert_eq!(size(hd, shape(640, None, fit)), (640, 360));
            assert_eq!(size(hd, shape(None, 720, fit)), (1280, 720));
            assert_eq!(size(hd, shape(1, None, fit)), (1, 1));
            assert_eq!(size((99999, 1), shape(None, u32::MAX, fit)), (u32::MAX, u32::MAX));
            // Senseless input must not panic.
            shape(10, 10, fit).resolve(0, 0);
            shape(None, 10, fit).resolve(0, usize::MAX);
        }
    }

    #[test]
    fn contain_never_leaves_the_box() {
        for (width, height) in (1..40).flat_map(|w| (1..40).map(move |h| (w, h))) {
            for (box_width, box_height) in [(7, 5), (5, 7), (1, 1), (64, 3), (100, 100)] {
                let resolved = shape(box_width, box_height, Fit::Contain).resolve(width, height);
                assert!(resolved.width <= box_width && resolved.height <= box_height);
                assert!(resolved.width == box_width || resolved.height == box_height);
                assert!(resolved.width >= 1 && resolved.height >= 1);
            }
        }
    }

    #[test]
    fn cover_cuts_the_centre_out() {
        let crop = |w, h| shape(w, h, Fit::Cover).resolve(1920, 1080).crop;
        assert_eq!(crop(500, 500), Crop { left: 420.0, top: 0.0, width: 1080.0, height: 1080.0 });
        assert_eq!(crop(1920, 540), Crop { left: 0.0, top: 270.0, width: 1920.0, height: 540.0 });
        assert_eq!(crop(960, 540), Crop { left: 0.0, top: 0.0, width: 1920.0, height: 1080.0 });
        for fit in [Fit::Contain, Fit::Fill] {
            let whole = Crop { left: 0.0, top: 0.0, width: 1920.0, height: 1080.0 };
            assert_eq!(shape(500, 500, fit).resolve(1920, 1080).crop, whole);
        }
    }

    #[test]
    fn cover_shows_the_centre_in_every_plane() {
        for subsampling in SUBSAMPLINGS {
            let log2_w = subsampling.map_or(0, |s| s.0);
            // Black, then 40 of 120 luma columns in the middle, then white.
            let source = planes((120, 40), subsampling, |plane, x, _| match x << if plane > 0 { log2_w } else { 0 } {
                0..40 => 0,
                40..80 => 100,
                _ => 255,
            });
            let out = scaled(&source, shape(40, 40, Fit::Cover));
            for plane in &out.planes {
                assert!((0..plane.height).all(|y| plane.row(y).iter().all(|&v| v == 100)), "{subsampling:?}");
            }
            // At half size the kernel reaches over the edges of the crop, equally on both sides.
            let out = scaled(&source, shape(20, 20, Fit::Cover));
            for plane in &out.planes {
                let row = plane.row(0);
                assert!(row[2..row.len() - 2].iter().all(|&v| v == 100), "{subsampling:?} {row:?}");
            }
        }
    }

    #[test]
    fn output_keeps_the_subsampling() {
        for subsampling in SUBSAMPLINGS {
            let source = planes((33, 21), subsampling, |_, x, y| (x * y) as u8);
            for fit in FITS {
                let out = scaled(&source, shape(17, 13, fit));
                let (log2_w, log2_h) = subsampling.unwrap_or((0, 0));
                assert_eq!((out.log2_chroma_w, out.log2_chroma_h), (log2_w, log2_h));
                assert_eq!(out.planes.len(), source.planes.len());
                assert_eq!((out.width, out.height), (out.planes[0].width, out.planes[0].height));
                for chroma in &out.planes[1..] {
                    assert_eq!(chroma.width, out.width.div_ceil(1 << log2_w));
                    assert_eq!(chroma.height, out.height.div_ceil(1 << log2_h));
                }
                out.check().unwrap();
            }
        }
    }

    #[test]
    fn edges_are_repeated_outside_the_picture() {
        let source = planes((64, 64), Some((1, 1)), |_, x, y| (x * 3 + y) as u8);
        let luma = &scaled(&source, shape(17, 13, Fit::Fill)).planes[0];
        assert_eq!(luma.data.len(), luma.stride * 14);
        assert_eq!(luma.data[13 * luma.stride..], luma.data[12 * luma.stride..][..luma.stride]);
        assert!(luma.data[17..luma.stride].iter().all(|&v| v == luma.data[16]));
    }

    #[test]
    fn constant_planes_stay_constant() {
        let mut scaler = Scaler::new();
        let mut out = JfifPlanes::default();
        for subsampling in SUBSAMPLINGS {
            for size in [(1, 1), (2, 1), (33, 21), (640, 3), (1999, 2)] {
                let source = planes(size, subsampling, |plane, _, _| [255, 1, 129][plane]);
                for fit in FITS {
                    for (width, height) in [(1, 1), (1, 50), (7, 5), (100, 101), (3000, 1)] {
                        scaler.scale(&source, &shape(width, height, fit), &mut out).unwrap();
                        for (plane, value) in out.planes.iter().zip([255, 1, 129]) {
                            assert!(plane.data.iter().all(|&v| v == value), "{size:?} {fit:?} {width}x{height}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_gradient_stays_monotonic() {
        for subsampling in SUBSAMPLINGS {
            for size in [(256, 9), (255, 9), (100, 9)] {
                let (log2_w, step) = (subsampling.map_or(0, |s| s.0), 255 / (size.0 - 1).max(1));
                let source = planes(size, subsampling, |plane, x, _| {
                    ((x << if plane > 0 { log2_w } else { 0 }) * step).min(255) as u8
                });
                for (width, height) in [(31, 9), (128, 40), (400, 9), (1999, 3)] {
                    for plane in &scaled(&source, shape(width, height, Fit::Fill)).planes {
                        for y in 0..plane.height {
                            assert!(plane.row(y).is_sorted(), "{size:?} to {width}x{height}: {:?}", plane.row(y));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn colour_stays_on_its_luma() {
        // Luma and chroma show the same ramp; after scaling they must still agree at the same place.
        let source = planes((201, 8), Some((1, 0)), |plane, x, _| if plane == 0 { x as u8 } else { (2 * x) as u8 });
        for width in [400, 199, 101, 51, 20] {
            let out = scaled(&source, shape(width, 8, Fit::Fill));
            let (luma, chroma) = (out.planes[0].row(0), out.planes[1].row(0));
            let ratio = 201.0 / f64::from(width);
            for (pair, &chroma) in luma.as_chunks::<2>().0.iter().zip(chroma).skip(2).rev().skip(2) {
                // Luma x has the value x, chroma x the value 2x at the middle of its luma, 2x + 0.5.
                let luma = (f64::from(pair[0]) + f64::from(pair[1])) / 2.0 - 0.5;
                let off = (luma - f64::from(chroma)).abs();
                assert!(off <= if width % 2 == 0 { 1.0 } else { 1.0 + ratio }, "{width}: {luma} {chroma}");
            }
        }
    }

    #[test]
    fn the_same_size_is_a_copy() {
        let source = planes((37, 21), Some((1, 1)), |plane, x, y| (plane * 50 + x * y) as u8);
        for fit in FITS {
            assert_eq!(scaled(&source, shape(None, None, fit)).planes, source.planes);
            assert_eq!(scaled(&source, shape(37, 21, fit)).planes, source.planes);
        }
    }

    #[test]
    fn one_pixel_is_enough() {
        for subsampling in SUBSAMPLINGS {
            let source = planes((1, 1), subsampling, |_, _, _| 77);
            for fit in FITS {
                for (width, height) in [(1, 1), (2, 2), (5, 1), (1, 300), (MAX_SIDE, 1), (1, MAX_SIDE)] {
                    let out = scaled(&source, shape(width, height, fit));
                    assert!(out.planes.iter().all(|plane| plane.data.iter().all(|&v| v == 77)));
                }
            }
        }
    }

    #[test]
    fn sides_no_jpeg_can_have_are_errors() {
        let source = planes((16, 9), None, |_, _, _| 1);
        let mut out = JfifPlanes::default();
        for (width, height) in [(0, 9), (16, 0), (65536, 1), (1, 65536), (u32::MAX, u32::MAX)] {
            for fit in [Fit::Cover, Fit::Fill, Fit::Contain] {
                let result = Scaler::new().scale(&source, &shape(width, height, fit), &mut out);
                assert_eq!(result, Err(PictureError::OutputSize { width, height }), "{fit:?}");
            }
        }
        let derived = Scaler::new().scale(&source, &shape(None, 65535, Fit::Contain), &mut out);
        assert_eq!(derived, Err(PictureError::OutputSize { width: 116507, height: 65535 }));
        assert!(out.planes.is_empty());
    }

    #[test]
    fn planes_that_do_not_fit_together_are_errors() {
        let source = planes((16, 10), Some((1, 1)), |_, _, _| 1);
        let spoilt = |spoil: &dyn Fn(&mut JfifPlanes)| {
            let mut source = source.clone();
            spoil(&mut source);
            Scaler::new().scale(&source, &shape(8, 5, Fit::Fill), &mut JfifPlanes::default()).unwrap_err()
        };
        assert_eq!(spoilt(&|source| source.planes.clear()), PictureError::PlaneCount { found: 0 });
        assert!(matches!(spoilt(&|source| source.planes[0].width = 0), PictureError::Empty { .. }));
        assert!(matches!(spoilt(&|source| source.planes[1].data.clear()), PictureError::Data { plane: 1, .. }));
        assert!(matches!(spoilt(&|source| source.planes[0].stride = 15), PictureError::Stride { .. }));
        assert!(matches!(spoilt(&|source| source.log2_chroma_h = 0), PictureError::PlaneSize { .. }));
    }
}
