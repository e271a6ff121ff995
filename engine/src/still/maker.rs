//! Makes stills of pictures: from a decoder's planes to a file.
//!
//! The steps: conversion to JFIF's colour, deinterlacing, crop and size in one resampling, rotation, encoding. They
//! process planes of Y, Cb and Cr; only PNG converts to R'G'B' at the end.

use ffi::{DevicePicture, Frame};

use super::deinterlace::Deinterlacer;
use super::device_encoder::DeviceStillEncoder;
use super::encode::StillEncoder;
use super::layout::Layout;
use super::options::StillOptions;
use crate::error::{ErrorKind, Result};
use crate::pixels::scale::Scaler;
use crate::pixels::{ColourConverter, JfifPlanes, PictureError};

/// Makes stills of decoded pictures. Keep it: it reuses its buffers. Each thread needs its own.
pub struct StillMaker {
    encoder: StillEncoder,
    renderer: StillRenderer,
    device_encoder: DeviceStillEncoder,
}

impl StillMaker {
    /// A new maker.
    ///
    /// # Errors
    /// `Still` if memory runs out.
    pub fn new() -> Result<StillMaker> {
        Ok(StillMaker {
            encoder: StillEncoder::new()?,
            renderer: StillRenderer::default(),
            device_encoder: DeviceStillEncoder::default(),
        })
    }

    /// Encodes a picture into `out`, and returns the still's width and height in pixels.
    ///
    /// # Errors
    /// As [`ColourConverter::to_jfif`], and `Still` for parts outside of the picture and sizes that the format cannot
    /// have.
    pub fn encode(&mut self, picture: &Frame, options: &StillOptions, out: &mut Vec<u8>) -> Result<(usize, usize)> {
        let planes = self.renderer.shape(picture, options)?;
        self.encoder.encode(planes, options.format, options.quality, out)?;
        Ok((planes.width, planes.height))
    }

    /// The same for a picture in GPU memory: encoded on the GPU if possible, otherwise after a copy to the host.
    ///
    /// # Errors
    /// As [`StillMaker::encode`], and `Device` with the driver's error.
    pub fn encode_on_device(
        &mut self,
        picture: &DevicePicture,
        options: &StillOptions,
        out: &mut Vec<u8>,
    ) -> Result<(usize, usize)> {
        if let Some(size) = self.device_encoder.encode(picture, options, out) {
            return Ok(size);
        }
        let picture = picture.download().map_err(|error| ErrorKind::Device(error.to_string()))?;
        self.encode(&picture, options, out)
    }

    /// The planes that [`StillMaker::encode`] would encode.
    ///
    /// # Errors
    /// As [`StillMaker::encode`].
    pub fn planes(&mut self, picture: &Frame, options: &StillOptions) -> Result<&JfifPlanes> {
        self.renderer.shape(picture, options)
    }
}

/// The steps before the encoding.
#[derive(Default)]
struct StillRenderer {
    colour: ColourConverter,
    deinterlacer: Deinterlacer,
    scaler: Scaler,
    converted: JfifPlanes,
    scaled: JfifPlanes,
    turned: JfifPlanes,
}

impl StillRenderer {
    fn shape(&mut self, picture: &Frame, options: &StillOptions) -> Result<&JfifPlanes> {
        self.colour.to_jfif(picture, &options.colour, &mut self.converted)?;
        if options.deinterlace && picture.is_interlaced() {
            self.deinterlacer.keep_field(&mut self.converted, picture.is_top_field_first());
        }
        self.lay_out(&options.layout(picture)).map_err(|error| ErrorKind::Still(error.to_string()).into())
    }

    fn lay_out(&mut self, layout: &Layout) -> std::result::Result<&JfifPlanes, PictureError> {
        let size = (self.converted.width, self.converted.height);
        let resolved = layout.resolve(size)?;
        let mut planes = &self.converted;
        if !resolved.is_all_of(size) {
            self.scaler.resample(planes, &resolved, &mut self.scaled)?;
            planes = &self.scaled;
        }
        if !layout.orientation.is_none() {
            layout.orientation.apply(planes, &mut self.turned);
            planes = &self.turned;
        }
        Ok(planes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::testing::planes;
    use crate::pixels::{Fit, PixelRect, Shape};
    use crate::still::Orientation;

    /// A renderer with a converted picture.
    fn with(
        size: (usize, usize),
        subsampling: Option<(u8, u8)>,
        sample: impl Fn(usize, usize, usize) -> u8,
    ) -> StillRenderer {
        StillRenderer { converted: planes(size, subsampling, sample), ..StillRenderer::default() }
    }

    fn layout(width: Option<u32>, degrees: f64) -> Layout {
        let shape = Shape { width, height: None, fit: Fit::Contain };
        Layout {
            sample_aspect_ratio: (1, 1),
            orientation: Orientation::from_rotation(degrees, false),
            crop: None,
            shape,
        }
    }

    #[test]
    fn sizes_at_the_edge_of_what_there_is() {
        for subsampling in [Some((1, 1)), Some((1, 0)), Some((0, 0)), None] {
            for (size, width, expected) in [
                ((1, 1), None, (1, 1)),
                ((1, 1), Some(7), (7, 7)),
                ((3, 5), None, (5, 3)),
                ((3, 5), Some(10), (10, 6)),
                ((1600, 100), Some(20), (20, 320)),
                ((100, 1600), Some(160), (160, 10)),
                ((8192, 4320), Some(540), (540, 1024)),
            ] {
                let mut renderer = with(size, subsampling, |plane, x, y| (plane + x / 9 + y / 7) as u8);
                let out = renderer.lay_out(&layout(width, -90.0)).unwrap();
                out.check().unwrap();
                assert_eq!((out.width, out.height), expected, "{size:?}");
            }
        }
    }

    #[test]
    fn a_part_of_a_turned_picture_is_cut_out_exactly() {
        let mut renderer = with((32, 16), Some((0, 0)), |_, x, y| (x + 32 * y) as u8);
        let whole = renderer.lay_out(&layout(None, -90.0)).unwrap().clone();
        let crop = Some(PixelRect { left: 3, top: 20, width: 7, height: 9 });
        let part = renderer.lay_out(&Layout { crop, ..layout(None, -90.0) }).unwrap();
        assert_eq!((part.width, part.height), (7, 9));
        for y in 0..9 {
            assert_eq!(part.planes[0].row(y), &whole.planes[0].row(20 + y)[3..10]);
        }
    }

    #[test]
    fn samples_that_are_not_square_are_resolved() {
        // A circle that is stored at half of its width.
        let ring = |_: usize, x: usize, y: usize| {
            let (x, y) = (2.0 * x as f64 + 0.5 - 60.0, y as f64 - 59.5);
            if (x * x + y * y).sqrt() < 40.0 { 220 } else { 30 }
        };
        let mut renderer = with((60, 120), Some((1, 1)), ring);
        let out = renderer.lay_out(&Layout { sample_aspect_ratio: (2, 1), ..layout(None, 0.0) }).unwrap();
        assert_eq!((out.width, out.height), (120, 120));
        let inside = |samples: &mut dyn Iterator<Item = u8>| samples.filter(|&sample| sample > 128).count();
        let across = inside(&mut out.planes[0].row(60).iter().copied());
        let down = inside(&mut (0..120).map(|y| out.planes[0].row(y)[60]));
        assert!(across.abs_diff(80) <= 2 && down.abs_diff(80) <= 2, "{across} {down}");
    }
}
