//! Stills of pictures in GPU memory: a JPEG is encoded there if the result is equivalent; otherwise the picture is
//! copied to the host first.
//!
//! The GPU supports 4:2:0 with matrices that have weights, SDR, and the whole picture at its own size. Its JPEGs come
//! from another encoder: of the same quality, but not the same bytes.

use ffi::{DevicePicture, GpuColour, GpuEncoder};

use super::encode::StillFormat;
use super::options::StillOptions;
use crate::pixels::colour::{self, ColourInterpretation};

/// Encodes JPEGs on the GPU that holds a picture. Keep it: the encoder of the last GPU is reused. After a failure it
/// makes no further attempt, and all stills are encoded on the host.
#[derive(Debug, Default)]
pub(super) struct DeviceStillEncoder {
    encoder: Option<GpuEncoder>,
    has_failed: bool,
}

impl DeviceStillEncoder {
    /// Encodes the JPEG of a picture on its device into `out`, and returns the width and height in pixels; `None` if
    /// the host has to encode it: the options or the colour need the host, or the device has failed. `out` is then
    /// undefined.
    pub(super) fn encode(
        &mut self,
        picture: &DevicePicture,
        options: &StillOptions,
        out: &mut Vec<u8>,
    ) -> Option<(usize, usize)> {
        let colour = device_colour(picture, options).filter(|_| !self.has_failed)?;
        if self.encoder.as_ref().is_none_or(|encoder| !encoder.fits(picture)) {
            self.encoder = GpuEncoder::open(picture).ok();
        }
        let made = self.encoder.as_mut().map(|encoder| encoder.encode(picture, colour, options.quality, out));
        self.has_failed = !matches!(made, Some(Ok(())));
        (!self.has_failed).then(|| (picture.planes().width, picture.planes().height))
    }
}

/// Whether a device could encode a still with these options, for some picture: a whole JPEG without rotation or
/// scaling. Then pictures are worth keeping on the device.
pub(crate) fn can_encode_on_device(options: &StillOptions) -> bool {
    let shape = options.shape;
    let is_whole =
        options.crop.is_none() && shape.width.is_none() && shape.height.is_none() && options.orientation.is_none();
    options.format == StillFormat::Jpeg && is_whole && colour::unsupported_reason(options.colour.dolby_vision).is_none()
}

/// The colour of a picture for the encoder on the device; `None` if the host has to encode it.
fn device_colour(on_device: &DevicePicture, options: &StillOptions) -> Option<GpuColour> {
    let (picture, there) = (on_device.properties(), on_device.planes());
    let size = (there.width, there.height);
    let meaning = ColourInterpretation::of(&picture.color(), there.format, size);
    let is_fit = can_encode_on_device(options)
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
