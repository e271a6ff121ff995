//! `index`: what opening the video finds out, as a file.

use std::io::ErrorKind::BrokenPipe;
use std::io::Write;
use std::path::Path;

use bucket_streamer::{ErrorKind, Result};

use super::args::{IndexArguments, Opening};
use super::output::{is_same_file, write_whole};
use super::{Outcome, builder, open, say};

pub(crate) fn run(arguments: &IndexArguments) -> Outcome {
    let output = Path::new(&arguments.output);
    if is_same_file(&arguments.video, output) {
        say("bucket-streamer: --output is the video itself: the index would take its place");
        return Outcome::Usage;
    }
    let engine = builder(Some(1), None, arguments.limits).build();
    let video = match open(&engine, &arguments.video, Opening::Track(arguments.track)) {
        Ok(video) => video,
        Err(outcome) => return outcome,
    };
    let index = if arguments.no_references { video.export_index_without_references() } else { video.export_index() };
    let bytes = match index {
        Ok(index) => {
            // It knows more than what opening has put there.
            super::INDEXES.get().into_iter().for_each(|cache| cache.keep(&video, &index));
            index.to_bytes()
        }
        Err(error) => {
            say(&format!("bucket-streamer: {error}"));
            return Outcome::Unreadable;
        }
    };
    match write(&arguments.output, &bytes) {
        Ok(()) => Outcome::Done,
        Err(error) => {
            // Whoever read has gone: nothing to say to them.
            let is_gone = matches!(error.kind(), ErrorKind::Write { error, .. } if error.kind() == BrokenPipe);
            if !is_gone {
                say(&format!("bucket-streamer: {error}"));
            }
            Outcome::SomeFailed
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
