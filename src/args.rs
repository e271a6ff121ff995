//! The commands of the command line. The arguments of each command are in that command's file.

use clap::{Parser, Subcommand};

#[cfg(feature = "bench")]
use crate::bench::BenchCommand;
use crate::extract::ExtractArguments;
use crate::index::IndexArguments;
use crate::info::InfoArguments;
#[cfg(feature = "manual")]
use crate::manual::{CompletionsArguments, ManArguments};
#[cfg(feature = "remote")]
use crate::options::RemoteArguments;
#[cfg(feature = "server")]
use crate::serve::{ServeArguments, SignArguments};
use crate::sheet::SheetArguments;

/// Exact random access to the frames of a video
#[derive(Debug, Parser)]
#[command(name = "bucket-streamer", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Show FFmpeg's warnings; given twice, its informational messages too
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    /// Keep index files in this folder, and open videos with the ones already there
    #[arg(long, value_name = "DIR", global = true, env = "BUCKET_STREAMER_INDEX_CACHE")]
    pub(crate) index_cache: Option<std::path::PathBuf>,
    #[cfg(feature = "remote")]
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  bucket-streamer info cam.mp4
  bucket-streamer extract cam.mp4 --frames 0,10,20-30 --output stills
  bucket-streamer extract cam.mp4 --times 1.5,0:02.25 --json
  bucket-streamer extract cam.mp4 --all --format framemd5
  bucket-streamer sheet cam.mp4 -o sheet.jpg --columns 5 --count 25
  bucket-streamer bench random cam.mp4 --engine cpu,ffmpeg-cli
  bucket-streamer index cam.ts -o cam.index
  bucket-streamer serve --root cams=/data/cams

Exit codes: 0 done, 1 done but some frames failed, 2 wrong usage, 3 the video cannot be read.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show a video's properties
    Info(InfoArguments),
    /// Extract frames as stills, planes or MD5 sums
    Extract(ExtractArguments),
    /// Measure frame latency and throughput against baselines
    #[cfg(feature = "bench")]
    Bench(BenchCommand),
    /// Make a contact sheet, and a WebVTT file with the times of its tiles
    Sheet(SheetArguments),
    /// Write an index file, with which the video opens fast
    Index(IndexArguments),
    /// Serve frames over HTTP and WebSocket, with a web page; also --serve
    #[cfg(feature = "server")]
    Serve(Box<ServeArguments>),
    /// Sign an address of the server, so that it needs no token for a limited time
    #[cfg(feature = "server")]
    Sign(SignArguments),
    /// Print shell completions
    #[cfg(feature = "manual")]
    Completions(CompletionsArguments),
    /// Print a manual page, or write all of them
    #[cfg(feature = "manual")]
    Man(ManArguments),
}

impl Command {
    /// Whether the command handles terminating signals itself.
    pub(crate) fn waits_for_signals(&self) -> bool {
        #[cfg(feature = "server")]
        return matches!(self, Command::Serve(_));
        #[cfg(not(feature = "server"))]
        false
    }
}
