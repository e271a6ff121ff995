//! What a still is to be: file format, size, part, turning, colour.

use ffi::Frame;

use super::encode::StillFormat;
use super::layout::Layout;
use super::turn::Turn;
use crate::pixels::{ColourOptions, Fit, Part, Shape};

/// How a still is to be made: what is wanted, and what must be known of the video besides its pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StillOptions {
    /// What file it is to be.
    pub format: StillFormat,
    /// Quality of JPEG and WebP, 1 to 100.
    pub quality: u8,
    /// Size of the still: turned, square pixels, of what the crop leaves.
    pub shape: Shape,
    /// What to show of the picture, in pixels as shown; all of it without.
    pub crop: Option<Part>,
    /// How the container wants it turned.
    pub turn: Turn,
    /// The container's sample aspect ratio; where a part of it is 0, the stream's own counts.
    pub sample_aspect_ratio: (i32, i32),
    /// Whether one field is to be made a picture of, where the decoder calls a picture interlaced.
    pub deinterlace: bool,
    /// Colour.
    pub colour: ColourOptions,
}

impl Default for StillOptions {
    /// A JPEG of quality 85, in the picture's own size, nothing turned, pixels as square as the stream says.
    fn default() -> StillOptions {
        StillOptions {
            format: StillFormat::Jpeg,
            quality: 85,
            shape: Shape { width: None, height: None, fit: Fit::Contain },
            crop: None,
            turn: Turn::default(),
            sample_aspect_ratio: (0, 1),
            deinterlace: true,
            colour: ColourOptions::default(),
        }
    }
}

impl StillOptions {
    /// Is all of the picture shown, pixel for pixel? `size` is that of its planes.
    pub(super) fn is_all_of(&self, picture: &Frame, size: (usize, usize)) -> bool {
        self.turn.is_none() && self.layout(picture).resolve(size).is_ok_and(|resolved| resolved.is_all_of(size))
    }

    pub(super) fn layout(&self, picture: &Frame) -> Layout {
        let container = self.sample_aspect_ratio;
        let is_known = container.0 > 0 && container.1 > 0;
        let sample_aspect_ratio = if is_known { container } else { picture.sample_aspect_ratio() };
        Layout { sample_aspect_ratio, turn: self.turn, crop: self.crop, shape: self.shape }
    }
}
