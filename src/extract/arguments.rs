//! The arguments of `extract`, and what they ask for: frames, an engine, a place for what is made of them.

use std::path::PathBuf;

use bucket_streamer::pixels::Part;
use bucket_streamer::quantities::{MemorySize, frame_list};
use bucket_streamer::still::StillFormat;
use bucket_streamer::time;
use bucket_streamer::{EngineBuilder, ErrorKind, OnDamage, Result};
use clap::{ArgGroup, Args};

use crate::opening;
use crate::options::{Decoding, DeviceOption, FitArgument, Format, Location, Quality, Which};
use crate::output::Destination;
use crate::wanted::Wanted;

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
    /// Frames on show at these times; time 0 is the first frame
    #[arg(long, value_name = "1.5,0:02.25")]
    pub(crate) times: Option<String>,
    /// A frame every so often, from time 0 on
    #[arg(long, value_name = "1s")]
    pub(crate) every: Option<String>,
    /// So many frames, evenly spread
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) count: Option<u32>,
    /// Every sync sample
    #[arg(long)]
    pub(crate) keyframes: bool,
    /// Every frame, as a sequential decode gives them
    #[arg(long)]
    pub(crate) all: bool,
    /// With --times: the last frame for times past the end, instead of an error
    #[arg(long, requires = "times")]
    pub(crate) clamp: bool,
    /// Folder for the stills; `-` writes their bytes to standard output
    #[arg(short, long, value_name = "DIR", default_value = "frames")]
    pub(crate) output: String,
    /// What to make of a frame
    #[arg(short, long, value_enum, default_value_t = Format::Still(StillFormat::Jpeg))]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) quality: Quality,
    /// Only a part of the picture as it is shown: turned, with square pixels, before scaling
    #[arg(long, value_name = "WxH+X+Y")]
    pub(crate) crop: Option<Part>,
    /// Width of the still in pixels, when turned
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65535))]
    pub(crate) width: Option<u32>,
    /// Height of the still in pixels, when turned
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65535))]
    pub(crate) height: Option<u32>,
    /// With both --width and --height: how the picture is fitted in
    #[arg(long, value_enum, default_value_t = FitArgument::Contain)]
    pub(crate) fit: FitArgument,
    /// HDR and wide gamut stay as they are, instead of being brought to SDR and BT.709
    #[arg(long)]
    pub(crate) no_tonemap: bool,
    /// One JSON line per frame on standard output
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) which: Which,
    /// What to do with frames that are known to be damaged: give them out flagged, or fail
    #[arg(long, value_name = "flag|error", default_value_t)]
    pub(crate) on_damage: OnDamage,
    #[command(flatten)]
    pub(crate) decoding: Decoding,
    /// Threads for decoding, and as many for encoding [default: as libavcodec chooses, and one for each processor that the
    /// process is given]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) threads: Option<u16>,
    /// Memory for checkpoints of decoders: 512M, 2G; 0 for none [default: a 16th of the memory that the process
    /// is given]
    #[arg(long, value_name = "SIZE")]
    pub(crate) checkpoint_memory: Option<MemorySize>,
    #[command(flatten)]
    pub(crate) device: DeviceOption,
    /// JPEGs of what a GPU decodes are made there too (nvJPEG), if the whole picture is wanted in its own size: not the same
    /// bytes as on the CPU
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

Stills are shown as players show them: turned as the container says, with square pixels, and of an
interlaced picture one instant. raw and framemd5 are untouched by all this.

framemd5 goes to standard output, one line a frame: stream, dts, pts, duration, size, md5 of the
cropped planes in the stream's own pixel format. raw is those planes.";

/// The frames that the command line asks for.
pub(super) fn wanted(arguments: &ExtractArguments) -> std::result::Result<Wanted, String> {
    if let Some(list) = &arguments.frames {
        return frame_list(list).map(Wanted::Frames);
    }
    if let Some(list) = &arguments.times {
        let times: std::result::Result<_, _> = list.split(',').map(|part| time::parse(part.trim())).collect();
        return times.map(Wanted::Times);
    }
    if let Some(step) = &arguments.every {
        let step = time::parse(step)?;
        return if step.0 > 0 { Ok(Wanted::Every(step)) } else { Err("--every wants a time above 0".into()) };
    }
    Ok(match arguments.count {
        Some(count) => Wanted::Count(count),
        None if arguments.keyframes => Wanted::KeyFrames,
        None => Wanted::All,
    })
}

/// With `--all` frames are refused in `Run::play`, so that the message can name them.
pub(super) fn builder(arguments: &ExtractArguments) -> EngineBuilder {
    let on_damage = if arguments.all { OnDamage::Flag } else { arguments.on_damage };
    opening::builder(arguments.threads, arguments.checkpoint_memory, arguments.decoding.limits)
        .on_damage(on_damage)
        .check_hashes(arguments.decoding.check_hashes)
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
