//! The properties of a video, for `info --json` and the server. Their analysis is left to `session` and `container`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::container::StreamSummary;
use crate::error::Result;
use crate::pixels::{ColourInterpretation, colour};
use crate::session::frame::StreamProperties;
use crate::session::video::Video;

/// Properties of a video. Times are in seconds, sizes in pixels and bytes, `start_pts` in ticks of `time_base`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Info {
    /// Version of this JSON form.
    pub version: u32,
    /// Name of the source.
    pub video: String,
    /// Name of the format in libavformat.
    pub container: String,
    /// `hevc`, `h264`, `vp9` or `av1`.
    pub codec: &'static str,
    /// Name of the profile in FFmpeg.
    pub profile: Option<&'static str>,
    /// In pixels, cropped, before rotation.
    pub width: usize,
    /// In pixels, cropped, before rotation.
    pub height: usize,
    /// Name of the pixel format in FFmpeg.
    pub pixel_format: Option<&'static str>,
    /// Bits per sample.
    pub bit_depth: Option<u8>,
    /// Colour description.
    pub color: ColorInfo,
    /// The Dolby Vision configuration record, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dolby_vision: Option<DolbyVisionInfo>,
    /// Rotation for display in degrees, counter-clockwise.
    pub rotation: i32,
    /// Sample aspect ratio, as `W:H`.
    pub sample_aspect_ratio: Option<String>,
    /// Number of frames.
    pub frames: usize,
    /// Number of frames that are sync samples.
    pub keyframes: usize,
    /// From the first frame to the end of the last, in seconds.
    pub duration_s: f64,
    /// Duration of a tick in seconds, as a fraction.
    pub time_base: String,
    /// Presentation time of the first frame, in ticks.
    pub start_pts: i64,
    /// Frames per second.
    pub average_frame_rate: f64,
    /// True if the distances between frames differ by more than rounding.
    pub variable_frame_rate: bool,
    /// All streams of the container.
    pub tracks: Vec<TrackInfo>,
    /// Length of the source, in bytes.
    pub size_bytes: u64,
    /// Cost of opening.
    pub opened_with: OpenedWith,
}

/// Names of the code points in FFmpeg.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Color))]
pub struct ColorInfo {
    /// Colour primaries.
    pub primaries: &'static str,
    /// Transfer characteristics.
    pub transfer: &'static str,
    /// Matrix coefficients.
    pub matrix: &'static str,
    /// `full` or `limited`.
    pub range: &'static str,
    /// Unspecified properties, and the values assumed for them.
    pub assumed: BTreeMap<&'static str, &'static str>,
}

/// The Dolby Vision configuration record of the container.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = DolbyVision))]
pub struct DolbyVisionInfo {
    /// Number of the profile.
    pub profile: u8,
    /// The base layer's compatibility id.
    pub compatibility: u8,
    /// Why stills are refused, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<&'static str>,
}

/// A stream of the container.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Track))]
pub struct TrackInfo {
    /// Number of the stream in the container.
    pub stream: usize,
    /// `video`, `audio`, ...
    pub kind: &'static str,
    /// `hevc`, `h264`, `vp9` or `av1`.
    pub codec: &'static str,
    /// In pixels, cropped, before rotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// In pixels, cropped, before rotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<usize>,
    /// Number of the video track, for `--track`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub track: Option<usize>,
    /// True for the track that the other properties describe.
    pub selected: bool,
}

/// Cost of opening.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OpenedWith {
    /// Reads; of a remote source, requests.
    pub requests: u64,
    /// Bytes read.
    pub bytes: u64,
}

impl Info {
    /// The properties of `video`. Decodes its first frame, since some properties are only in pictures.
    ///
    /// # Errors
    /// As [`Video::describe`].
    pub fn of(video: &Video) -> Result<Info> {
        Ok(info(video, &video.describe()?))
    }
}

fn info(video: &Video, described: &StreamProperties) -> Info {
    let track = video.track();
    let timeline = video.timeline();
    let opened = video.opened_with();
    let is_key = |frame: &u32| track.samples[*frame as usize].key;
    let base = track.time_base;
    let aspect = described.sample_aspect_ratio;
    Info {
        version: 1,
        // The name of the source contains neither credentials nor signatures.
        video: video.source().name().to_owned(),
        container: track.container.name().to_owned(),
        codec: track.codec.name(),
        profile: described.profile,
        width: described.size.0,
        height: described.size.1,
        pixel_format: described.format.map(|format| format.name()),
        bit_depth: described.format.map(|format| format.depth()),
        color: color(described),
        dolby_vision: track.parameters.dolby_vision().map(|record| DolbyVisionInfo {
            profile: record.profile,
            compatibility: record.compatibility,
            refused: colour::unsupported_reason(Some(record)),
        }),
        // Rounded to whole degrees: matrices of telephones are exact quarter turns.
        rotation: track.parameters.rotation().0.round() as i32,
        sample_aspect_ratio: (aspect.0 > 0 && aspect.1 > 0).then(|| format!("{}:{}", aspect.0, aspect.1)),
        frames: video.frame_count(),
        keyframes: track.frames.iter().filter(|frame| is_key(frame)).count(),
        duration_s: timeline.duration_s(),
        time_base: format!("{}/{}", base.0, base.1),
        start_pts: timeline.start_pts(),
        average_frame_rate: video.frame_count() as f64 / timeline.duration_s(),
        variable_frame_rate: timeline.is_variable(),
        tracks: tracks(video),
        size_bytes: video.source().len(),
        opened_with: OpenedWith { requests: opened.requests, bytes: opened.bytes },
    }
}

fn color(described: &StreamProperties) -> ColorInfo {
    let [primaries, transfer, matrix, range] = described.color.names();
    let meaning = described.format.map(|format| ColourInterpretation::of(&described.color, format, described.size));
    let assumed = meaning.map(|meaning| meaning.assumptions().into_iter().collect()).unwrap_or_default();
    ColorInfo { primaries, transfer, matrix, range, assumed }
}

fn tracks(video: &Video) -> Vec<TrackInfo> {
    let track = video.track();
    let entry = |stream: &StreamSummary| TrackInfo {
        stream: stream.stream,
        kind: stream.kind.name(),
        codec: stream.codec,
        width: stream.size.map(|size| size.0),
        height: stream.size.map(|size| size.1),
        track: stream.track,
        selected: stream.track == Some(track.track),
    };
    track.streams.iter().map(entry).collect()
}
