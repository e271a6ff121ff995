//! What can be typed: the commands. What each of them takes is in its own file.

use clap::{Parser, Subcommand};

#[cfg(feature = "bench")]
use crate::bench::BenchCommand;
use crate::extract::ExtractArguments;
use crate::index::IndexArguments;
use crate::info::InfoArguments;
#[cfg(feature = "remote")]
use crate::options::RemoteArguments;
#[cfg(feature = "server")]
use crate::serve::{ServeArguments, SignArguments};
use crate::sheet::SheetArguments;

/// Any frame of a video, exact, now.
#[derive(Debug, Parser)]
#[command(name = "bucket-streamer", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Show FFmpeg's warnings; twice, everything it says
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    /// Keep indexes in this folder, and open videos with those that are there
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
    /// What the video is
    Info(InfoArguments),
    /// Stills of frames
    Extract(ExtractArguments),
    /// How fast frames come, and how fast they could
    #[cfg(feature = "bench")]
    Bench(BenchCommand),
    /// A contact sheet: one picture of many small ones, with their times for players
    Sheet(SheetArguments),
    /// Write an index file, with which the video opens at once
    Index(IndexArguments),
    /// Frames over HTTP and WebSocket, and a page to look at; also --serve
    #[cfg(feature = "server")]
    Serve(Box<ServeArguments>),
    /// An address of the server that is good without a token for a while
    #[cfg(feature = "server")]
    Sign(SignArguments),
}

impl Command {
    /// Does it end by itself when a signal asks it to?
    pub(crate) fn waits_for_signals(&self) -> bool {
        #[cfg(feature = "server")]
        return matches!(self, Command::Serve(_));
        #[cfg(not(feature = "server"))]
        false
    }
}
