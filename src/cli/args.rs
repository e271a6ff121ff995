//! What can be typed.

use bucket_streamer::picture::Fit;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

/// Any frame of a video, exact, now.
#[derive(Debug, Parser)]
#[command(name = "bucket-streamer", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Show FFmpeg's warnings; twice, everything it says
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  bucket-streamer info cam.mp4
  bucket-streamer extract cam.mp4 --frames 0,10,20-30 --output stills
  bucket-streamer extract cam.mp4 --times 1.5,0:02.25 --json
  bucket-streamer extract cam.mp4 --all --format framemd5

Exit codes: 0 done, 1 done but some frames failed, 2 wrong usage, 3 the video cannot be read.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What the video is
    Info(InfoArguments),
    /// Stills of frames
    Extract(ExtractArguments),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bucket-streamer info cam.mp4\n  bucket-streamer info cam.mp4 --json | jq .frames")]
pub(crate) struct InfoArguments {
    /// The video: a path
    pub(crate) video: String,
    /// One JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Which video track, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) track: usize,
}

#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("which").required(true).args(["frames", "times", "every", "count", "keyframes", "all"])),
    after_help = EXTRACT_EXAMPLES
)]
pub(crate) struct ExtractArguments {
    /// The video: a path
    pub(crate) video: String,
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
    #[arg(short, long, value_enum, default_value_t = Format::Jpeg)]
    pub(crate) format: Format,
    /// JPEG quality
    #[arg(short, long, default_value_t = 85, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) quality: u8,
    /// Width of the still in pixels
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65535))]
    pub(crate) width: Option<u32>,
    /// Height of the still in pixels
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65535))]
    pub(crate) height: Option<u32>,
    /// With both --width and --height: how the picture is fitted in
    #[arg(long, value_enum, default_value_t = FitArgument::Contain)]
    pub(crate) fit: FitArgument,
    /// One JSON line per frame on standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Which video track, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) track: usize,
    /// Threads for decoding, and as many for encoding [default: as libavcodec chooses, and one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) threads: Option<u16>,
}

const EXTRACT_EXAMPLES: &str = "\
Examples:
  bucket-streamer extract cam.mp4 --frames 0,10,20-30
  bucket-streamer extract cam.mp4 --times 1.5,0:02.25 --output stills --quality 95
  bucket-streamer extract cam.mp4 --every 10s --width 320 --json
  bucket-streamer extract cam.mp4 --frames 120 --output - > frame.jpg
  bucket-streamer extract cam.mp4 --all --format framemd5

framemd5 goes to standard output, one line a frame: stream, dts, pts, duration, size, md5 of the
cropped planes in the stream's own pixel format. raw is those planes.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// JPEG files, their matrix and range converted from the stream's (not its primaries, nor HDR curves)
    Jpeg,
    /// The planes as they are
    Raw,
    /// MD5 sums of the planes, as `ffmpeg -f framemd5` prints them
    Framemd5,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FitArgument {
    /// As large as fits inside, whole
    Contain,
    /// Fill it, cut off what stands out
    Cover,
    /// Fill it, stretched
    Fill,
}

impl From<FitArgument> for Fit {
    fn from(fit: FitArgument) -> Fit {
        match fit {
            FitArgument::Contain => Fit::Contain,
            FitArgument::Cover => Fit::Cover,
            FitArgument::Fill => Fit::Fill,
        }
    }
}
