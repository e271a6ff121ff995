//! Frames and their properties, as callers receive them. Converting and encoding pictures is left to
//! [`still`](crate::still).

use ffi::{AvError, Color, DevicePicture, Frame, PixelFormat, PlaneBytes, Rational};

use crate::container::Track;
use crate::damage::OnDamage;
use crate::device::DecodedPicture;
use crate::error::{Error, ErrorKind, Result};

/// A decoded frame in the host's memory. Ticks are those of [`Track::time_base`](crate::container::Track::time_base).
#[derive(Debug, Clone)]
pub struct VideoFrame {
    /// Number in presentation order, from 0.
    pub index: u32,
    /// Number of its sample in decode order.
    pub sample: u32,
    /// Presentation time in ticks of the stream.
    pub pts: i64,
    /// Duration in ticks of the stream, 0 if unknown.
    pub duration: i64,
    /// The container's sync flag of its sample.
    pub key: bool,
    /// The planes in the stream's own pixel format. The picture is flagged where libavcodec reports damage.
    pub picture: Frame,
}

impl VideoFrame {
    /// Width in pixels, after the crop of stream and container.
    pub fn width(&self) -> usize {
        self.picture.width()
    }

    /// Height in pixels, after the crop of stream and container.
    pub fn height(&self) -> usize {
        self.picture.height()
    }

    /// The stream's own pixel format.
    pub fn format(&self) -> PixelFormat {
        self.picture.format()
    }

    /// Colour description: range, primaries, transfer and matrix, as the stream signals them (ITU-T H.273).
    pub fn color(&self) -> Color {
        self.picture.color()
    }

    /// The planes as the decoder has left them: rows of samples with the distance between rows. No copy is made; the
    /// data live as long as the frame, even if video and engine are closed.
    pub fn planes(&self) -> impl Iterator<Item = PlaneBytes<'_>> {
        (0..self.picture.planes()).filter_map(|index| self.picture.plane(index))
    }

    /// True if damage is known to have affected the picture or one of its references. A request returns such a frame
    /// only if a sequential decode has no undamaged picture for it.
    pub fn is_corrupt(&self) -> bool {
        self.picture.is_corrupt()
    }

    /// The frame, or an error if it is damaged and `on_damage` refuses damaged frames.
    ///
    /// # Errors
    /// `Corrupt`, with the frame's number.
    pub fn unless_refused(self, on_damage: OnDamage) -> Result<VideoFrame> {
        if on_damage == OnDamage::Error && self.is_corrupt() {
            return Err(Error::from(ErrorKind::Corrupt).at_frame(self.index).at_sample(self.sample, None));
        }
        Ok(self)
    }
}

/// A frame whose picture is in a GPU's memory. Ticks are those of
/// [`Track::time_base`](crate::container::Track::time_base).
#[derive(Debug, Clone)]
pub struct DeviceFrame {
    /// Number in presentation order, from 0.
    pub index: u32,
    /// Number of its sample in decode order.
    pub sample: u32,
    /// Presentation time in ticks of the stream.
    pub pts: i64,
    /// Duration in ticks of the stream, 0 if unknown.
    pub duration: i64,
    /// The container's sync flag of its sample.
    pub key: bool,
    /// The picture in GPU memory, with the stream's crop but not the container's.
    pub picture: DevicePicture,
}

/// A frame in the host's or a GPU's memory.
#[derive(Debug, Clone)]
pub enum DecodedFrame {
    /// In the host's memory.
    Host(VideoFrame),
    /// In a GPU's memory.
    Device(DeviceFrame),
}

impl DecodedFrame {
    /// Frame `index` of a track, with the picture of `sample`.
    pub(crate) fn of(track: &Track, index: u32, sample: u32, picture: DecodedPicture) -> DecodedFrame {
        let at = &track.samples[sample as usize];
        let (pts, duration, key) = (at.pts, at.duration, at.key);
        match picture {
            DecodedPicture::Host(picture) => {
                DecodedFrame::Host(VideoFrame { index, sample, pts, duration, key, picture })
            }
            DecodedPicture::Device(picture) => {
                DecodedFrame::Device(DeviceFrame { index, sample, pts, duration, key, picture })
            }
        }
    }

    /// The frame in the host's memory. Blocks for a copy if it is in a GPU's memory.
    ///
    /// # Errors
    /// `Device` with the driver's message.
    pub fn into_host(self) -> Result<VideoFrame> {
        match self {
            DecodedFrame::Host(frame) => Ok(frame),
            DecodedFrame::Device(DeviceFrame { index, sample, pts, duration, key, picture }) => {
                let picture = picture.download().map_err(|error| Error::from(ErrorKind::Device(error.to_string())))?;
                Ok(VideoFrame { index, sample, pts, duration, key, picture })
            }
        }
    }

    /// The frame in a GPU's memory.
    ///
    /// # Errors
    /// `NotOnDevice` if it is in the host's memory.
    pub fn into_device(self) -> Result<DeviceFrame> {
        match self {
            DecodedFrame::Device(frame) => Ok(frame),
            DecodedFrame::Host(frame) => Err(Error::from(ErrorKind::NotOnDevice).at_frame(u64::from(frame.index))),
        }
    }

    /// Bytes of its planes in the host's memory; 0 for a frame in a GPU's memory.
    pub(crate) fn host_bytes(&self) -> usize {
        match self {
            DecodedFrame::Host(frame) => frame.planes().map(|plane| plane.data.len()).sum(),
            DecodedFrame::Device(_) => 0,
        }
    }
}

/// Properties of a stream that only a decoded picture has, from its first decodable frame.
#[derive(Debug, Clone)]
pub struct StreamProperties {
    /// Pixel format; without a decodable frame that of the container, if it has one.
    pub format: Option<PixelFormat>,
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// Colour description.
    pub color: Color,
    /// Sample aspect ratio, `(0, 1)` if unknown.
    pub sample_aspect_ratio: Rational,
    /// Profile by its name in FFmpeg, such as `Main 10`; `None` without a decodable frame.
    pub profile: Option<&'static str>,
}

/// The frames that a sequential decode has omitted, with the reasons.
#[derive(Debug, Default)]
pub struct OmittedFrames {
    /// Frames without a picture, ascending.
    pub frames: Vec<u32>,
    /// The decoder's first error. Without one, a decode from this beginning is not meant to show the frames.
    pub damage: Option<AvError>,
    /// The errors of samples that could not be read.
    pub unreadable: Vec<Error>,
    /// Damaged frames that the engine's settings refuse.
    pub refused: Vec<Error>,
}

impl OmittedFrames {
    /// True if the file is damaged or unreadable, rather than frames left out by intent.
    pub fn is_damaged(&self) -> bool {
        self.damage.is_some() || !self.unreadable.is_empty() || !self.refused.is_empty()
    }
}
