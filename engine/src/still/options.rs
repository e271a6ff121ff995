//! The options of a still: file format, size, part, rotation, colour.

use ffi::Frame;

use super::encode::StillFormat;
use super::layout::Layout;
use super::orientation::Orientation;
use crate::pixels::{ColourOptions, Fit, PixelRect, Shape};

/// The options of a still: the request, and the properties of the video that its pictures do not have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StillOptions {
    /// The file format.
    pub format: StillFormat,
    /// Quality of JPEG and WebP, 1 to 100.
    pub quality: u8,
    /// Size of the still, for the crop after rotation and in square pixels.
    pub shape: Shape,
    /// The part of the picture to show, in pixels as shown; `None` for all of it.
    pub crop: Option<PixelRect>,
    /// The container's rotation.
    pub orientation: Orientation,
    /// The container's sample aspect ratio; if a part of it is 0, the stream's own applies.
    pub sample_aspect_ratio: (i32, i32),
    /// Whether a picture that the decoder marks as interlaced is shown by one of its fields.
    pub deinterlace: bool,
    /// Options of the colour conversion.
    pub colour: ColourOptions,
}

impl Default for StillOptions {
    /// A JPEG of quality 85, in the picture's own size, without rotation, with the stream's sample aspect ratio.
    fn default() -> StillOptions {
        StillOptions {
            format: StillFormat::Jpeg,
            quality: 85,
            shape: Shape { width: None, height: None, fit: Fit::Contain },
            crop: None,
            orientation: Orientation::default(),
            sample_aspect_ratio: (0, 1),
            deinterlace: true,
            colour: ColourOptions::default(),
        }
    }
}

impl StillOptions {
    /// Whether the still shows the whole picture, unscaled. `size` is that of its planes.
    pub(super) fn is_all_of(&self, picture: &Frame, size: (usize, usize)) -> bool {
        self.orientation.is_none() && self.layout(picture).resolve(size).is_ok_and(|resolved| resolved.is_all_of(size))
    }

    pub(super) fn layout(&self, picture: &Frame) -> Layout {
        let container = self.sample_aspect_ratio;
        let is_known = container.0 > 0 && container.1 > 0;
        let sample_aspect_ratio = if is_known { container } else { picture.sample_aspect_ratio() };
        Layout { sample_aspect_ratio, orientation: self.orientation, crop: self.crop, shape: self.shape }
    }
}
