//! The part of a picture that a still shows, and its size: combines sample aspect ratio, rotation, crop and requested
//! shape.
//!
//! The picture *as shown* has square pixels and is rotated: first the side that is too short for the sample aspect
//! ratio is enlarged (so that no samples are lost), then the picture is turned by quarters. A crop counts pixels of the
//! result, and the shape applies to the crop. Everything is combined to one rectangle of stored samples and one size,
//! so that planes are resampled once, before they are turned.

use super::orientation::Orientation;
use crate::pixels::PictureError;
use crate::pixels::crop::{Crop, PixelRect};
use crate::pixels::scale::{ScalePlan, Shape};

/// Larger ratios, or smaller than their inverse, are taken for damage and ignored.
const LARGEST_RATIO: u64 = 16;

/// The geometry of a still.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Layout {
    /// The sample aspect ratio, as `(width, height)`; square if a part is not positive.
    pub sample_aspect_ratio: (i32, i32),
    /// The rotation.
    pub orientation: Orientation,
    /// The part to show, in pixels as shown; `None` for all of it.
    pub crop: Option<PixelRect>,
    /// The requested size.
    pub shape: Shape,
}

impl Layout {
    /// Width and height of a picture of `size` as shown, before cropping and scaling.
    pub fn display_size(&self, size: (usize, usize)) -> (usize, usize) {
        self.orientation.size(square(size, self.sample_aspect_ratio))
    }

    /// Width and height of the still, and its rectangle of stored samples; both before rotation.
    ///
    /// # Errors
    /// `Crop` for a part outside of the picture.
    pub(super) fn resolve(&self, size: (usize, usize)) -> Result<ScalePlan, PictureError> {
        let display_size = self.display_size(size);
        let part = self.crop.map_or(Ok(whole(display_size)), |part| within(part, display_size))?;
        let ScalePlan { width, height, crop } = self.shape.resolve(part.width as usize, part.height as usize);
        let crop = Crop { left: part.left + crop.left, top: part.top + crop.top, ..crop };
        let before = self.orientation.before((display_size.0 as f64, display_size.1 as f64), crop);
        let square = self.orientation.size(display_size);
        let (x, y) = (size.0 as f64 / square.0 as f64, size.1 as f64 / square.1 as f64);
        let crop =
            Crop { left: before.left * x, top: before.top * y, width: before.width * x, height: before.height * y };
        let (width, height) = self.orientation.size((width, height));
        Ok(ScalePlan { width, height, crop: inside(crop, size) })
    }
}

/// Moves edges that rounding has put outside.
fn inside(crop: Crop, size: (usize, usize)) -> Crop {
    let (left, top) = (crop.left.max(0.0), crop.top.max(0.0));
    Crop { left, top, width: crop.width.min(size.0 as f64 - left), height: crop.height.min(size.1 as f64 - top) }
}

fn whole((width, height): (usize, usize)) -> Crop {
    Crop { left: 0.0, top: 0.0, width: width as f64, height: height as f64 }
}

fn within(part: PixelRect, (width, height): (usize, usize)) -> Result<Crop, PictureError> {
    let ends = |start: u32, length: u32| u64::from(start) + u64::from(length);
    let fits = ends(part.left, part.width) <= width as u64 && ends(part.top, part.height) <= height as u64;
    if part.width == 0 || part.height == 0 || !fits {
        return Err(PictureError::Crop { part, width, height });
    }
    let [left, top, width, height] = [part.left, part.top, part.width, part.height].map(f64::from);
    Ok(Crop { left, top, width, height })
}

/// The size in square pixels, rounded to the nearest.
fn square((width, height): (usize, usize), (across, down): (i32, i32)) -> (usize, usize) {
    let (Ok(across), Ok(down)) = (u64::try_from(across), u64::try_from(down)) else { return (width, height) };
    if across == 0 || down == 0 || across > LARGEST_RATIO * down || down > LARGEST_RATIO * across {
        return (width, height);
    }
    let stretched = |side: usize, by: u64, to: u64| {
        let product = side as u128 * u128::from(by) + u128::from(to) / 2;
        usize::try_from(product / u128::from(to)).unwrap_or(usize::MAX)
    };
    if across > down { (stretched(width, across, down), height) } else { (width, stretched(height, down, across)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::Fit;

    const KEPT: Shape = Shape { width: None, height: None, fit: Fit::Contain };

    fn layout() -> Layout {
        Layout { sample_aspect_ratio: (1, 1), orientation: Orientation::default(), crop: None, shape: KEPT }
    }

    fn clockwise() -> Orientation {
        Orientation::from_rotation(-90.0, false)
    }

    #[test]
    fn without_options_the_whole_picture_is_shown() {
        for size in [(1, 1), (3, 5), (1600, 100), (8192, 4320)] {
            let resolved = layout().resolve(size).unwrap();
            assert_eq!(resolved.crop, whole(size));
            assert_eq!((resolved.width as usize, resolved.height as usize), size);
        }
    }

    #[test]
    fn the_side_that_is_too_short_is_enlarged() {
        let shown = |size, sample_aspect_ratio| Layout { sample_aspect_ratio, ..layout() }.display_size(size);
        assert_eq!(shown((720, 576), (64, 45)), (1024, 576));
        assert_eq!(shown((720, 480), (8, 9)), (720, 540));
        assert_eq!(shown((1440, 1080), (4, 3)), (1920, 1080));
        assert_eq!(shown((1, 1), (3, 2)), (2, 1));
        for ratio in [(0, 1), (1, 0), (-4, 3), (1, 1), (7, 7), (17, 1), (1, i32::MAX)] {
            assert_eq!(shown((720, 576), ratio), (720, 576), "{ratio:?}");
        }
        let turned = Layout { sample_aspect_ratio: (4, 3), orientation: clockwise(), ..layout() };
        assert_eq!(turned.display_size((1440, 1080)), (1080, 1920));
    }

    #[test]
    fn width_means_the_picture_as_shown() {
        let shape = Shape { width: Some(540), ..KEPT };
        let resolved = Layout { sample_aspect_ratio: (4, 3), orientation: clockwise(), shape, ..layout() };
        let resolved = resolved.resolve((1440, 1080)).unwrap();
        // 540 columns and 960 rows after rotation.
        assert_eq!((resolved.width, resolved.height), (960, 540));
        assert_eq!(resolved.crop, whole((1440, 1080)));
    }

    #[test]
    fn a_crop_counts_pixels_as_shown() {
        let part = |text: &str| Some(text.parse::<PixelRect>().unwrap());
        let resolved = Layout { crop: part("100x50+10+20"), ..layout() }.resolve((320, 180)).unwrap();
        assert_eq!((resolved.width, resolved.height), (100, 50));
        assert_eq!(resolved.crop, Crop { left: 10.0, top: 20.0, width: 100.0, height: 50.0 });
        // Shown 180 wide and 320 high; the upper right corner is the stored upper left one.
        let turned =
            Layout { crop: part("30x40+150+0"), orientation: clockwise(), ..layout() }.resolve((320, 180)).unwrap();
        assert_eq!(turned.crop, Crop { left: 0.0, top: 0.0, width: 40.0, height: 30.0 });
        let wide = Layout { crop: part("200x100+100+0"), sample_aspect_ratio: (2, 1), ..layout() };
        let wide = wide.resolve((320, 180)).unwrap();
        assert_eq!(wide.crop, Crop { left: 50.0, top: 0.0, width: 100.0, height: 100.0 });
        assert_eq!((wide.width, wide.height), (200, 100));
    }

    #[test]
    fn parts_outside_are_errors() {
        for text in ["321x1+0+0", "1x181", "320x180+1+0", "1x1+0+180", "4294967295x4294967295+4294967295+4294967295"] {
            let crop = Some(text.parse().unwrap());
            let error = Layout { crop, ..layout() }.resolve((320, 180)).unwrap_err();
            assert!(matches!(error, PictureError::Crop { width: 320, height: 180, .. }), "{text}");
        }
        for text in ["", "1", "0x1+0+0", "1x0", "axb", "1x1+1+1+1", "-1x1", "1x1+-1+0", "1x99999999999"] {
            assert!(text.parse::<PixelRect>().is_err(), "{text}");
        }
        assert_eq!("7x8+9+10".parse::<PixelRect>().unwrap().to_string(), "7x8+9+10");
    }
}
