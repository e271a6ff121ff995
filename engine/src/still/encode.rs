//! Encodes JFIF planes as a file: JPEG, PNG or WebP.
//!
//! *JPEG* stores the planes as they are. *PNG* stores R'G'B' (or grey) of 8 bits without loss, marked as sRGB. *WebP*
//! (lossy) stores Y'CbCr in 4:2:0 and limited range, which readers take for sRGB; no R'G'B' is computed. All three show
//! the same picture, within the limits of the formats.
//!
//! AVIF is missing: its encoder in Rust needs seconds for a picture, the others some hundredths of a second.

use ffi::{JpegEncoder, JpegPlane, JpegSubsampling, WebpPlane};

use crate::error::{ErrorKind, Result};
use crate::pixels::JfifPlanes;
use crate::pixels::rgb::RgbConverter;
use crate::pixels::subsample::to_420;

/// The file format of a still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StillFormat {
    /// JPEG (JFIF).
    Jpeg,
    /// PNG, without loss.
    Png,
    /// WebP, lossy.
    Webp,
}

/// The properties of the formats except for their encoding. The command, the server and the fuzz targets take them from
/// here, so that a further format changes this file only.
impl StillFormat {
    /// All formats, in the order of preference.
    pub const ALL: [StillFormat; 3] = [StillFormat::Jpeg, StillFormat::Png, StillFormat::Webp];

    /// The name in texts for people.
    pub fn title(self) -> &'static str {
        match self {
            StillFormat::Jpeg => "JPEG",
            StillFormat::Png => "PNG",
            StillFormat::Webp => "WebP",
        }
    }

    /// The name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            StillFormat::Jpeg => "jpeg",
            StillFormat::Png => "png",
            StillFormat::Webp => "webp",
        }
    }

    /// The media type of HTTP.
    pub fn media_type(self) -> &'static str {
        match self {
            StillFormat::Jpeg => "image/jpeg",
            StillFormat::Png => "image/png",
            StillFormat::Webp => "image/webp",
        }
    }

    /// The extension of file names, in lower case and without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            StillFormat::Jpeg => "jpg",
            other => other.name(),
        }
    }

    /// The format with this name ([`StillFormat::name`]) or extension ([`StillFormat::extension`]), both in lower case;
    /// `None` for other texts.
    pub fn of_name(name: &str) -> Option<StillFormat> {
        StillFormat::ALL.into_iter().find(|format| format.name() == name || format.extension() == name)
    }

    /// The format of a file with this extension, without the dot; ASCII case does not matter: `jpg`, `jpeg`, `png` or
    /// `webp`. `None` for other extensions.
    pub fn of_extension(extension: &str) -> Option<StillFormat> {
        StillFormat::of_name(&extension.to_ascii_lowercase())
    }

    /// Whether the quality setting changes the file.
    pub fn has_quality(self) -> bool {
        self != StillFormat::Png
    }

    /// The approximate time of encoding on a processor, in nanoseconds per pixel: for the order of requests, not a
    /// limit.
    pub fn encoding_ns_per_pixel(self) -> u64 {
        match self {
            StillFormat::Jpeg => 10,
            StillFormat::Png => 100,
            StillFormat::Webp => 60,
        }
    }

    /// The first bytes of a file (ITU-T T.81 B.1.1.3; PNG 5.2; RFC 9649 2.3).
    pub fn signature(self) -> &'static [u8] {
        match self {
            StillFormat::Jpeg => &[0xff, 0xd8],
            StillFormat::Png => b"\x89PNG\r\n\x1a\n",
            StillFormat::Webp => b"RIFF",
        }
    }
}

/// Success, or the reason why there is no file.
type EncodeResult = std::result::Result<(), String>;

/// Encodes planes. Keep it: it reuses its buffers.
#[derive(Debug)]
pub struct StillEncoder {
    jpeg: JpegEncoder,
    rgb: RgbConverter,
    pixels: Vec<u8>,
    limited: JfifPlanes,
}

impl StillEncoder {
    /// A new encoder.
    ///
    /// # Errors
    /// `Still` if memory runs out.
    pub fn new() -> Result<StillEncoder> {
        Ok(StillEncoder {
            jpeg: JpegEncoder::new().map_err(ErrorKind::Still)?,
            rgb: RgbConverter::default(),
            pixels: Vec::new(),
            limited: JfifPlanes::default(),
        })
    }

    /// Encodes planes into `out`, which is cleared first. `quality` is that of libjpeg-turbo and libwebp, 1 to 100; PNG
    /// ignores it.
    ///
    /// # Errors
    /// `Still` for planes that do not fit together, and for sizes that the format cannot have: sides above 65535
    /// pixels, with WebP above 16383.
    pub fn encode(&mut self, planes: &JfifPlanes, format: StillFormat, quality: u8, out: &mut Vec<u8>) -> Result<()> {
        planes.check().map_err(|error| ErrorKind::Still(error.to_string()))?;
        match format {
            StillFormat::Jpeg => self.jpeg(planes, quality, out),
            StillFormat::Png => self.png(planes, out),
            StillFormat::Webp => self.webp(planes, quality, out),
        }
        .map_err(|why| ErrorKind::Still(why).into())
    }

    fn jpeg(&mut self, planes: &JfifPlanes, quality: u8, out: &mut Vec<u8>) -> EncodeResult {
        let subsampling = match (planes.planes.len(), planes.log2_chroma_w, planes.log2_chroma_h) {
            (1, _, _) => JpegSubsampling::Gray,
            (_, 0, 0) => JpegSubsampling::Yuv444,
            (_, 1, 0) => JpegSubsampling::Yuv422,
            (_, 0, _) => JpegSubsampling::Yuv440,
            _ => JpegSubsampling::Yuv420,
        };
        let views: Vec<_> =
            planes.planes.iter().map(|plane| JpegPlane { data: &plane.data, stride: plane.stride }).collect();
        self.jpeg.encode(&views, (planes.width, planes.height), subsampling, quality, out)
    }

    fn png(&mut self, planes: &JfifPlanes, out: &mut Vec<u8>) -> EncodeResult {
        let text = |error: png::EncodingError| format!("PNG: {error}");
        let side = |length: usize| u32::try_from(length).map_err(|_| "a PNG cannot be that large".to_owned());
        self.rgb.convert(planes, &mut self.pixels);
        out.clear();
        let mut encoder = png::Encoder::new(&mut *out, side(planes.width)?, side(planes.height)?);
        let color = if planes.planes.len() == 1 { png::ColorType::Grayscale } else { png::ColorType::Rgb };
        encoder.set_color(color);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        encoder.set_source_srgb(png::SrgbRenderingIntent::Perceptual);
        let mut writer = encoder.write_header().map_err(text)?;
        writer.write_image_data(&self.pixels).map_err(text)?;
        writer.finish().map_err(text)
    }

    fn webp(&mut self, planes: &JfifPlanes, quality: u8, out: &mut Vec<u8>) -> EncodeResult {
        to_420(planes, &mut self.limited);
        for (index, plane) in self.limited.planes.iter_mut().enumerate() {
            limit(&mut plane.data, index > 0);
        }
        let view = |index: usize| {
            let plane = &self.limited.planes[index];
            WebpPlane { data: &plane.data, stride: plane.stride }
        };
        ffi::encode_webp(&[view(0), view(1), view(2)], (planes.width, planes.height), quality, out)
    }
}

/// Full range to limited: 0 to 255 becomes 16 to 235, or for chroma 16 to 240 around 128; rounded to the nearest.
fn limit(samples: &mut [u8], is_chroma: bool) {
    let (gain, black) = if is_chroma { (224.0 / 255.0, 128.0 - 128.0 * 224.0 / 255.0) } else { (219.0 / 255.0, 16.0) };
    let one = f64::from(1 << 16);
    let (gain, bias) = ((gain * one) as u32, ((black + 0.5) * one) as u32 + 64);
    for sample in samples {
        *sample = ((u32::from(*sample) * gain + bias) >> 16) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::testing::planes;

    #[test]
    fn limited_range_is_rounded_to_the_nearest() {
        for is_chroma in [false, true] {
            let mut samples: Vec<u8> = (0..=255).collect();
            limit(&mut samples, is_chroma);
            for (value, &found) in samples.iter().enumerate() {
                let value = value as f64;
                let exact =
                    if is_chroma { 128.0 + (value - 128.0) * 224.0 / 255.0 } else { 16.0 + value * 219.0 / 255.0 };
                assert!((exact - f64::from(found)).abs() <= 0.502, "{exact} {found}");
            }
        }
    }

    #[test]
    fn every_format_takes_every_kind_and_size() {
        let mut encoder = StillEncoder::new().unwrap();
        let mut out = Vec::new();
        for subsampling in [Some((1, 1)), Some((1, 0)), Some((0, 1)), Some((0, 0)), None] {
            for size in [(1, 1), (3, 5), (1600, 100), (161, 121)] {
                let picture = planes(size, subsampling, |plane, x, y| (plane * 90 + x + y) as u8);
                encoder.encode(&picture, StillFormat::Jpeg, 85, &mut out).unwrap();
                assert!(out.starts_with(&[0xff, 0xd8]) && out.ends_with(&[0xff, 0xd9]));
                encoder.encode(&picture, StillFormat::Webp, 85, &mut out).unwrap();
                assert!(out.starts_with(b"RIFF") && out[8..].starts_with(b"WEBPVP8 "));
                encoder.encode(&picture, StillFormat::Png, 85, &mut out).unwrap();
                let mut reader = png::Decoder::new(std::io::Cursor::new(&out)).read_info().unwrap();
                assert_eq!(reader.info().srgb, Some(png::SrgbRenderingIntent::Perceptual));
                let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
                let info = reader.next_frame(&mut pixels).unwrap();
                assert_eq!((info.width as usize, info.height as usize), size);
                let mut expected = Vec::new();
                RgbConverter::default().convert(&picture, &mut expected);
                assert_eq!(pixels, expected);
            }
        }
    }

    #[test]
    fn what_a_format_cannot_hold_is_an_error() {
        let mut encoder = StillEncoder::new().unwrap();
        let wide = planes((16384, 1), Some((1, 1)), |_, x, _| x as u8);
        let error = encoder.encode(&wide, StillFormat::Webp, 85, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("16383"), "{error}");
        encoder.encode(&wide, StillFormat::Jpeg, 85, &mut Vec::new()).unwrap();
        encoder.encode(&wide, StillFormat::Png, 85, &mut Vec::new()).unwrap();
        assert!(encoder.encode(&JfifPlanes::default(), StillFormat::Png, 85, &mut Vec::new()).is_err());
    }

    #[test]
    fn names_and_extensions() {
        for format in [StillFormat::Jpeg, StillFormat::Png, StillFormat::Webp] {
            assert_eq!(StillFormat::of_extension(format.extension()), Some(format));
            assert_eq!(StillFormat::of_extension(&format.name().to_uppercase()), Some(format));
        }
        assert_eq!(StillFormat::of_extension("gif"), None);
    }
}
