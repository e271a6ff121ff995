//! `info`: shows a video's properties. The library collects them.

use bucket_streamer::Info;
use clap::Args;

use crate::console::{CommandOutcome, print, print_table, report};
use crate::opening::{builder, open};
use crate::options::{Location, TrackAndIndex, VideoLimitOptions};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bucket-streamer info cam.mp4\n  bucket-streamer info cam.mp4 --json | jq .frames")]
pub(crate) struct InfoArguments {
    #[command(flatten)]
    pub(crate) location: Location,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) which: TrackAndIndex,
    #[command(flatten)]
    pub(crate) limits: VideoLimitOptions,
}

pub(crate) fn run(arguments: &InfoArguments) -> CommandOutcome {
    let engine = builder(Some(1), None, arguments.limits).build();
    let video = match open(&engine, &arguments.location.video, arguments.which.opening()) {
        Ok(video) => video,
        Err(outcome) => return outcome,
    };
    let info = match Info::of(&video) {
        Ok(info) => info,
        Err(error) => {
            report(&error);
            return CommandOutcome::Unreadable;
        }
    };
    if arguments.json {
        return print((serde_json::to_string(&info).expect("plain data") + "\n").as_bytes());
    }
    print_table(&rows(&info))
}

/// The names and values of the output.
fn rows(info: &Info) -> Vec<(&'static str, String)> {
    let color = &info.color;
    let mut lines = vec![
        ("video", info.video.clone()),
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
    lines
}
