//! Stills of pictures that are in a GPU's memory: JPEGs are made there, where that comes to the same as here; for everything
//! else the picture is copied to the host first.
//!
//! The GPU's way knows 4:2:0 with the matrices that have weights, SDR, and the whole picture in its own size. Its JPEGs are
//! those of another encoder: as good, but not the same bytes.

use ffi::{DevicePicture, GpuColour, GpuEncoder};

use super::encode::StillFormat;
use super::options::StillOptions;
use crate::pixels::colour::{self, Meaning};

/// Makes JPEGs on GPUs; keep it. After a failure nothing is tried any more.
#[derive(Debug, Default)]
pub(super) struct OnDevice {
    encoder: Option<GpuEncoder>,
    has_failed: bool,
}

impl OnDevice {
    /// The JPEG of a picture on a device into `out`, and its size; `None` if it has to be made here.
    pub(super) fn encode(
        &mut self,
        picture: &DevicePicture,
        options: &StillOptions,
        out: &mut Vec<u8>,
    ) -> Option<(usize, usize)> {
        let colour = meaning_there(picture, options).filter(|_| !self.has_failed)?;
        if self.encoder.as_ref().is_none_or(|encoder| !encoder.fits(picture)) {
            self.encoder = GpuEncoder::open(picture).ok();
        }
        let made = self.encoder.as_mut().map(|encoder| encoder.encode(picture, colour, options.quality, out));
        self.has_failed = !matches!(made, Some(Ok(())));
        (!self.has_failed).then(|| (picture.planes().width, picture.planes().height))
    }
}

/// Could a still with these options be made on a device, of some picture?
pub(crate) fn may_be_made_there(options: &StillOptions) -> bool {
    let shape = options.shape;
    let is_whole = options.crop.is_none() && shape.width.is_none() && shape.height.is_none() && options.turn.is_none();
    options.format == StillFormat::Jpeg && is_whole && colour::refused(options.colour.dolby_vision).is_none()
}

/// What its samples mean, if its still can be made on the device.
fn meaning_there(on_device: &DevicePicture, options: &StillOptions) -> Option<GpuColour> {
    let (picture, there) = (on_device.properties(), on_device.planes());
    let size = (there.width, there.height);
    let meaning = Meaning::of(&picture.color(), there.format, size);
    let is_fit = may_be_made_there(options)
        && there.plane_count == 2
        && there.format.chroma_shift() == (1, 1)
        && !(options.deinterlace && picture.is_interlaced())
        && options.is_all_of(picture, size)
        && !(options.colour.tonemap && meaning.is_hdr_or_wide(picture));
    let weights = meaning.weights().filter(|_| is_fit)?;
    let color = meaning.color;
    Some(GpuColour {
        weights: (weights.0 as f32, weights.1 as f32),
        is_full_range: meaning.is_full_range(),
        chroma_location: color.chroma_location,
    })
}
