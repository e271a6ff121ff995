//! The arguments of `extract`, and the frames, the engine and the destination that they select.

use std::path::PathBuf;

use bucket_streamer::pixels::PixelRect;
use bucket_streamer::quantities::{MemorySize, frame_list};
use bucket_streamer::still::StillFormat;
use bucket_streamer::time;
use bucket_streamer::{EngineBuilder, ErrorKind, OnDamage, Result};
use clap::{ArgGroup, Args};

use crate::opening;
use crate::options::{Decoding, DeviceOption, FitArgument, Format, Location, Quality, TrackAndIndex};
use crate::output::Destination;
use crate::selection::FrameSelection;

#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("which").required(true).args(["frames", "times", "every", "count", "keyframes", "all"])),
    after_help = EXTRACT_EXAMPLES
)]
pub(crate) struct ExtractArguments {
    #[command(flatten)]
    pub(crate) location: Location,
    /// Frames by number, counted from 0; ranges are inclusive
    #[arg(long, value_name = "0,10,20-30")]
    pub(crate) frames: Option<String>,
    /// Frames shown at these times; time 0 is the first frame
    #[arg(long, value_name = "1.5,0:02.25")]
    pub(crate) times: Option<String>,
    /// One frame per interval of this length, from time 0 on
    #[arg(long, value_name = "1s")]
    pub(crate) every: Option<String>,
    /// This many frames, evenly spread
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) count: Option<u32>,
    /// Every sync sample
    #[arg(long)]
    pub(crate) keyframes: bool,
    /// Every frame, as a sequential decode gives them
    #[arg(long)]
    pub(crate) all: bool,
    /// With --times: take the last frame for times past the end instead of failing
    #[arg(long, requires = "times")]
    pub(crate) clamp: bool,
    /// Folder for the stills; `-` writes their bytes to standard output
    #[arg(short, long, value_name = "DIR", default_value = "frames")]
    pub(crate) output: String,
    /// Output format of a frame
    #[arg(short, long, value_enum, default_value_t = Format::Still(StillFormat::Jpeg))]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) quality: Quality,
    /// Crop to this part of the picture as it is shown: after rotation, with square pixels, before scaling
    #[arg(long, value_name = "WxH+X+Y")]
    pub(crate) crop: Option<PixelRect>,
    /// Width of the still in pixels, after rotation
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65535))]
    pub(crate) width: Option<u32>,
    /// Height of the still in pixels, after rotation
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65535))]
    pub(crate) height: Option<u32>,
    /// With both --width and --height: how to fit the picture into them
    #[arg(long, value_enum, default_value_t = FitArgument::Contain)]
    pub(crate) fit: FitArgument,
    /// Keep HDR and wide gamut instead of converting to SDR and BT.709
    #[arg(long)]
    pub(crate) no_tonemap: bool,
    /// Print one JSON line per frame to standard output
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) which: TrackAndIndex,
    /// Handling of frames that are known to be damaged: output them flagged, or fail
    #[arg(long, value_name = "flag|error", default_value_t)]
    pub(crate) on_damage: OnDamage,
    #[command(flatten)]
    pub(crate) decoding: Decoding,
    /// Threads for decoding, and as many for encoding [default: libavcodec's choice, and one per processor that is
    /// available to the process]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) threads: Option<u16>,
    /// Memory for decoder checkpoints: 512M, 2G; 0 for none [default: 1/16 of the memory available to the process]
    #[arg(long, value_name = "SIZE")]
    pub(crate) checkpoint_memory: Option<MemorySize>,
    #[command(flatten)]
    pub(crate) device: DeviceOption,
    /// Make JPEGs of pictures that a GPU decodes on that GPU too (nvJPEG), if the still is the whole picture in its own
    /// size; the bytes differ from those made on the CPU
    #[arg(long)]
    pub(crate) gpu_jpeg: bool,
}

const EXTRACT_EXAMPLES: &str = "\
Examples:
  bucket-streamer extract cam.mp4 --frames 0,10,20-30
  bucket-streamer extract cam.mp4 --times 1.5,0:02.25 --output stills --quality 95
  bucket-streamer extract cam.mp4 --every 10s --width 320 --json
  bucket-streamer extract cam.mp4 --frames 120 --output - > frame.jpg
  bucket-streamer extract cam.mp4 --frames 120 --format png --crop 640x480+100+50
  bucket-streamer extract cam.mp4 --all --format framemd5

Stills match what players show: rotated as the container says, with square pixels, and one instant
of an interlaced picture. raw and framemd5 apply none of this.

framemd5 goes to standard output, one line per frame: stream, dts, pts, duration, size, md5 of the
cropped planes in the stream's own pixel format. raw is those planes.";

/// The frames that the command line selects.
pub(super) fn selection(arguments: &ExtractArguments) -> std::result::Result<FrameSelection, String> {
    if let Some(list) = &arguments.frames {
        return frame_list(list).map(FrameSelection::Frames);
    }
    if let Some(list) = &arguments.times {
        let times: std::result::Result<_, _> = list.split(',').map(|part| time::parse(part.trim())).collect();
        return times.map(FrameSelection::Times);
    }
    if let Some(step) = &arguments.every {
        let step = time::parse(step)?;
        return if step.0 > 0 { Ok(FrameSelection::Every(step)) } else { Err("--every needs a time above 0".into()) };
    }
    Ok(match arguments.count {
        Some(count) => FrameSelection::Count(count),
        None if arguments.keyframes => FrameSelection::KeyFrames,
        None => FrameSelection::All,
    })
}

/// With `--all`, `ExtractRun::play` refuses damaged frames, so that the message can name them.
pub(super) fn builder(arguments: &ExtractArguments, selection: &FrameSelection) -> EngineBuilder {
    let on_damage = if arguments.all { OnDamage::Flag } else { arguments.on_damage };
    let builder = opening::builder(arguments.threads, arguments.checkpoint_memory, arguments.decoding.limits)
        .on_damage(on_damage)
        .check_hashes(arguments.decoding.check_hashes);
    // Bytes for standard output are requested in windows, whose frames may share GOPs.
    let has_windows = arguments.output == "-" && arguments.format != Format::Framemd5 && !selection.is_one();
    if has_windows { builder } else { builder.for_one_request() }
}

pub(super) fn destination(arguments: &ExtractArguments) -> Result<Destination> {
    if arguments.output == "-" || arguments.format == Format::Framemd5 {
        return Ok(Destination::StandardOutput);
    }
    let folder = PathBuf::from(&arguments.output);
    let path = arguments.output.clone();
    std::fs::create_dir_all(&folder).map_err(|error| ErrorKind::Write { path, error })?;
    Ok(Destination::Folder(folder))
}
