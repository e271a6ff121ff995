//! `info`: what the video is.

use std::collections::BTreeMap;
use std::io::Write;

use bucket_streamer::picture::{Meaning, colour};
use bucket_streamer::{Described, Engine, Video};
use serde::Serialize;

use super::args::InfoArguments;
use super::{Outcome, open, say};

#[derive(Serialize)]
struct Info<'a> {
    version: u32,
    video: &'a str,
    container: &'a str,
    codec: &'static str,
    profile: Option<&'static str>,
    width: usize,
    height: usize,
    pixel_format: Option<&'static str>,
    bit_depth: Option<u8>,
    color: Color,
    #[serde(skip_serializing_if = "Option::is_none")]
    dolby_vision: Option<DolbyVision>,
    rotation: i32,
    sample_aspect_ratio: Option<String>,
    frames: usize,
    keyframes: usize,
    duration_s: f64,
    time_base: String,
    start_pts: i64,
    average_frame_rate: f64,
    variable_frame_rate: bool,
    tracks: Vec<Track>,
    size_bytes: u64,
    opened_with: OpenedWith,
}

#[derive(Serialize)]
struct Color {
    primaries: &'static str,
    transfer: &'static str,
    matrix: &'static str,
    range: &'static str,
    /// What the stream leaves open, and what is made of it.
    assumed: BTreeMap<&'static str, &'static str>,
}

#[derive(Serialize)]
struct DolbyVision {
    profile: u8,
    compatibility: u8,
    /// Why there are no stills.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'static str>,
}

#[derive(Serialize)]
struct Track {
    stream: usize,
    kind: &'static str,
    codec: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<usize>,
    /// The number that `--track` takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    track: Option<usize>,
    selected: bool,
}

#[derive(Serialize)]
struct OpenedWith {
    requests: u64,
    bytes: u64,
}

pub(crate) fn run(arguments: &InfoArguments) -> Outcome {
    let engine = Engine::new(Some(1));
    let video = match open(&engine, &arguments.video, arguments.which.track, arguments.which.index.as_deref()) {
        Ok(video) => video,
        Err(outcome) => return outcome,
    };
    let described = match video.describe() {
        Ok(described) => described,
        Err(error) => {
            say(&format!("bucket-streamer: {error}"));
            return Outcome::Unreadable;
        }
    };
    // As the source calls itself: an address without what nobody else is to see.
    let info = info(video.source().name(), &video, &described);
    let text = if arguments.json { serde_json::to_string(&info).expect("plain data") + "\n" } else { table(&info) };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => Outcome::Done,
        Err(error) => {
            // Whoever read has gone: nothing to say to them.
            if error.kind() != std::io::ErrorKind::BrokenPipe {
                say(&format!("bucket-streamer: standard output: {error}"));
            }
            Outcome::SomeFailed
        }
    }
}

fn info<'a>(name: &'a str, video: &'a Video, described: &Described) -> Info<'a> {
    let track = video.track();
    let timeline = video.timeline();
    let opened = video.opened_with();
    let is_key = |frame: &u32| track.samples[*frame as usize].key;
    let base = track.time_base;
    let aspect = described.sample_aspect_ratio;
    Info {
        version: 1,
        video: name,
        container: track.container,
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
    let entry = |stream: &bucket_streamer::container::StreamSummary| Track {
        stream: stream.stream,
        kind: stream.kind,
        codec: stream.codec,
        width: stream.size.map(|size| size.0),
        height: stream.size.map(|size| size.1),
        track: stream.track,
        selected: stream.track == Some(track.track),
    };
    track.streams.iter().map(entry).collect()
}

fn table(info: &Info<'_>) -> String {
    let color = &info.color;
    let mut lines = vec![
        ("video", info.video.to_owned()),
        ("container", format!("{}, {} bytes", info.container, info.size_bytes)),
        ("codec", format!("{}{}", info.codec, info.profile.map(|name| format!(", {name}")).unwrap_or_default())),
        ("picture", format!("{}x{}, {}", info.width, info.height, info.pixel_format.unwrap_or("unknown"))),
        (
            "colour",
            format!(
                "primaries {}, transfer {}, matrix {}, range {}",
                color.primaries, color.transfer, color.matrix, color.range
            ),
        ),
        ("frames", format!("{}, {} of them key frames", info.frames, info.keyframes)),
        (
            "time",
            format!(
                "{:.3} s, {:.3} frames a second{}, time base {}, starts at {}",
                info.duration_s,
                info.average_frame_rate,
                if info.variable_frame_rate { " on average (variable)" } else { "" },
                info.time_base,
                info.start_pts
            ),
        ),
    ];
    if !color.assumed.is_empty() {
        let assumed: Vec<_> = color.assumed.iter().map(|(name, value)| format!("{name} {value}")).collect();
        lines.insert(5, ("assumed", assumed.join(", ")));
    }
    if let Some(dolby_vision) = &info.dolby_vision {
        let profile = format!("profile {}.{}", dolby_vision.profile, dolby_vision.compatibility);
        let refused = dolby_vision.refused.map(|why| format!(" ({why})")).unwrap_or_default();
        lines.push(("dolby vision", profile + &refused));
    }
    if info.rotation != 0 {
        lines.push(("rotation", format!("{} degrees (counter-clockwise)", info.rotation)));
    }
    if let Some(aspect) = info.sample_aspect_ratio.as_ref().filter(|aspect| *aspect != "1:1") {
        lines.push(("aspect", format!("{aspect} (one sample)")));
    }
    for track in &info.tracks {
        let size =
            track.width.zip(track.height).map(|(width, height)| format!(" {width}x{height}")).unwrap_or_default();
        let number = track.track.map(|number| format!(", --track {number}")).unwrap_or_default();
        let selected = if track.selected { " (this one)" } else { "" };
        lines.push(("stream", format!("{}: {} {}{size}{number}{selected}", track.stream, track.kind, track.codec)));
    }
    lines.push(("opened with", format!("{} reads, {} bytes", info.opened_with.requests, info.opened_with.bytes)));
    lines.iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect()
}
