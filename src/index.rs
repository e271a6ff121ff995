//! `index`: writes the index of a video to a file. The library defines the format.

use std::io::ErrorKind::BrokenPipe;
use std::io::Write;
use std::path::Path;

use bucket_streamer::{ErrorKind, Result};
use clap::Args;

use crate::console::{CommandOutcome, report, say};
use crate::opening::{builder, index_cache, open};
use crate::options::{Location, TrackOption, VideoLimitOptions};
use crate::output::{is_same_file, write_whole};

#[derive(Debug, Args)]
#[command(after_help = INDEX_EXAMPLES)]
pub(crate) struct IndexArguments {
    #[command(flatten)]
    pub(crate) location: Location,
    /// File to write the index to; `-` for standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: String,
    #[command(flatten)]
    pub(crate) track: TrackOption,
    /// Leave out the references between pictures: the file is made faster and is smaller, but each GOP is parsed when
    /// used
    #[arg(long)]
    pub(crate) no_references: bool,
    #[command(flatten)]
    pub(crate) limits: VideoLimitOptions,
}

const INDEX_EXAMPLES: &str = "\
Examples:
  bucket-streamer index cam.ts -o cam.index
  bucket-streamer extract cam.ts --index cam.index --frames 120

The index is valid as long as the video does not change; the video may be moved. The file is JSON,
compressed with gzip.";

pub(crate) fn run(arguments: &IndexArguments) -> CommandOutcome {
    let output = Path::new(&arguments.output);
    if is_same_file(&arguments.location.video, output) {
        say("bucket-streamer: --output is the video itself: the index would overwrite it (choose another file)");
        return CommandOutcome::Usage;
    }
    let engine = builder(Some(1), None, arguments.limits).build();
    let video = match open(&engine, &arguments.location.video, arguments.track.opening()) {
        Ok(video) => video,
        Err(outcome) => return outcome,
    };
    let index = if arguments.no_references { video.export_index_without_references() } else { video.export_index() };
    let bytes = match index {
        Ok(index) => {
            // This index has more fields than the one that opening stored.
            index_cache().into_iter().for_each(|cache| cache.store(&video, &index));
            index.to_bytes()
        }
        Err(error) => {
            report(&error);
            return CommandOutcome::Unreadable;
        }
    };
    match write(&arguments.output, &bytes) {
        Ok(()) => CommandOutcome::Done,
        Err(error) => {
            // A closed pipe is not reported: the reader needs no more.
            let is_gone = matches!(error.kind(), ErrorKind::Write { error, .. } if error.kind() == BrokenPipe);
            if !is_gone {
                report(&error);
            }
            CommandOutcome::SomeFailed
        }
    }
}

fn write(output: &str, bytes: &[u8]) -> Result<()> {
    if output != "-" {
        return write_whole(Path::new(output), bytes);
    }
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|error| ErrorKind::Write { path: "standard output".to_owned(), error }.into())
}
