//! Stills of pictures in GPU memory: JPEGs are encoded there if the result is equivalent; otherwise the picture is
//! copied to the host first.
//!
//! The GPU supports 4:2:0 with matrices that have weights, SDR, and the whole picture at its own size. Its JPEGs come
//! from another encoder: of the same quality, but not the same bytes.

use ffi::{DevicePicture, GpuColour, GpuEncoder};

use super::encode::StillFormat;
use super::options::StillOptions;
use crate::pixels::colour::{self, Meaning};

/// Encodes JPEGs on GPUs. Keep it. After a failure it makes no further attempt.
#[derive(Debug, Default)]
pub(super) struct OnDevice {
    encoder: Option<GpuEncoder>,
    has_failed: bool,
}

impl OnDevice {
    /// Encodes the JPEG of a picture on a device into `out`, and returns its size; `None` if it has to be made on the
    /// host.
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

/// Whether a still with these options could be made on a device, for some picture.
pub(crate) fn may_be_made_there(options: &StillOptions) -> bool {
    let shape = options.shape;
    let is_whole = options.crop.is_none() && shape.width.is_none() && shape.height.is_none() && options.turn.is_none();
    options.format == StillFormat::Jpeg && is_whole && colour::refused(options.colour.dolby_vision).is_none()
}

/// The colour description of a picture, if its still can be made on the device.
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
