//! What a video is, as `info --json` prints it and the server answers.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::container::StreamSummary;
use crate::error::Result;
use crate::pixels::{Meaning, colour};
use crate::session::frame::Described;
use crate::session::video::Video;

/// What a video is. Times are in seconds, sizes in pixels and bytes, `start_pts` in ticks of `time_base`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Info {
    /// Of this form.
    pub version: u32,
    /// What it is called.
    pub video: String,
    /// As libavformat calls it.
    pub container: String,
    /// `hevc`, `h264`, `vp9` or `av1`.
    pub codec: &'static str,
    /// As FFmpeg calls it.
    pub profile: Option<&'static str>,
    /// In pixels, cropped, before turning.
    pub width: usize,
    /// In pixels, cropped, before turning.
    pub height: usize,
    /// As FFmpeg calls it.
    pub pixel_format: Option<&'static str>,
    /// Bits a sample.
    pub bit_depth: Option<u8>,
    /// What the samples mean.
    pub color: Color,
    /// If there is a record of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dolby_vision: Option<DolbyVision>,
    /// Degrees, counter-clockwise, by which players turn it.
    pub rotation: i32,
    /// Of one sample, as `W:H`.
    pub sample_aspect_ratio: Option<String>,
    /// Frames that can be asked for.
    pub frames: usize,
    /// Frames of sync samples.
    pub keyframes: usize,
    /// From the first frame to the end of the last.
    pub duration_s: f64,
    /// Seconds of a tick, as a fraction.
    pub time_base: String,
    /// Presentation time of the first frame.
    pub start_pts: i64,
    /// Frames a second.
    pub average_frame_rate: f64,
    /// True if frames are not evenly spaced.
    pub variable_frame_rate: bool,
    /// All streams of the container.
    pub tracks: Vec<Track>,
    /// Length of the source.
    pub size_bytes: u64,
    /// What opening took.
    pub opened_with: OpenedWith,
}

/// Code points by their names, as FFmpeg has them.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Color {
    /// Colour primaries.
    pub primaries: &'static str,
    /// Transfer characteristics.
    pub transfer: &'static str,
    /// Matrix coefficients.
    pub matrix: &'static str,
    /// Full or limited.
    pub range: &'static str,
    /// What the stream leaves open, and what is made of it.
    pub assumed: BTreeMap<&'static str, &'static str>,
}

/// The container's record of Dolby Vision.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DolbyVision {
    /// As FFmpeg calls it.
    pub profile: u8,
    /// With what else: the record's number.
    pub compatibility: u8,
    /// Why there are no stills.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<&'static str>,
}

/// A stream of the container.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Track {
    /// Number in the container.
    pub stream: usize,
    /// `video`, `audio`, ...
    pub kind: &'static str,
    /// `hevc`, `h264`, `vp9` or `av1`.
    pub codec: &'static str,
    /// In pixels, cropped, before turning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// In pixels, cropped, before turning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<usize>,
    /// The number that `--track` takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub track: Option<usize>,
    /// True for the track that this is about.
    pub selected: bool,
}

/// What opening took.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OpenedWith {
    /// Reads, or requests to a server.
    pub requests: u64,
    /// Bytes read.
    pub bytes: u64,
}

impl Info {
    /// What `video` is. Decodes its first frame, for what only pictures tell.
    ///
    /// # Errors
    /// As [`Video::describe`].
    pub fn of(video: &Video) -> Result<Info> {
        Ok(info(video, &video.describe()?))
    }
}

fn info(video: &Video, described: &Described) -> Info {
    let track = video.track();
    let timeline = video.timeline();
    let opened = video.opened_with();
    let is_key = |frame: &u32| track.samples[*frame as usize].key;
    let base = track.time_base;
    let aspect = described.sample_aspect_ratio;
    Info {
        version: 1,
        // As the source names itself: of an address, without credentials and signatures.
        video: video.source().name().to_owned(),
        container: track.container.name().to_owned(),
        codec: track.codec.name(),
        profile: described.profile,
        width: described.size.0,
        height: described.size.1,
        pixel_format: described.format.map(|format| format.name()),
        bit_depth: described.format.map(|format| format.depth()),
        color: color(described),
        dolby_vision: track.parameters.dolby_vision().map(|record| DolbyVision {
            profile: record.profile,
            compatibility: record.compatibility,
            refused: colour::refused(Some(record)),
        }),
        // The nearest whole degree: matrices of telephones are turned by exact quarters.
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

fn color(described: &Described) -> Color {
    let [primaries, transfer, matrix, range] = described.color.names();
    let meaning = described.format.map(|format| Meaning::of(&described.color, format, described.size));
    let assumed = meaning.map(|meaning| meaning.assumptions().into_iter().collect()).unwrap_or_default();
    Color { primaries, transfer, matrix, range, assumed }
}

fn tracks(video: &Video) -> Vec<Track> {
    let track = video.track();
    let entry = |stream: &StreamSummary| Track {
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
