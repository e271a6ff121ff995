//! `bench`: connects the harness (package `bucket-streamer-bench`) to the command line, the terminal and the files. The
//! harness decides what is measured.

use std::any::Any;
use std::io::{self, Write};
use std::path::Path;

use bucket_streamer::{Engine, Machine, Result};
use bucket_streamer_bench::{BenchArguments, BenchContext, BenchHost};
use clap::Args;

use crate::console::{self, CommandOutcome};
use crate::opening::builder;
use crate::options::{TrackAndIndex, VideoLimitOptions};
use crate::output::{check_writable, is_same_file, write_whole};
use crate::unfinished::UnfinishedFile;

#[derive(Debug, Args)]
pub(crate) struct BenchCommand {
    #[command(flatten)]
    arguments: BenchArguments,
    #[command(flatten)]
    which: TrackAndIndex,
    #[command(flatten)]
    limits: VideoLimitOptions,
}

/// The command as the harness's host.
#[derive(Debug)]
struct CommandHost;

impl BenchHost for CommandHost {
    fn say(&self, message: &str) {
        console::say(&format!("bucket-streamer: {message}"));
    }

    fn print(&self, text: &[u8]) -> io::Result<()> {
        io::stdout().lock().write_all(text)
    }

    fn write(&self, file: &Path, bytes: &[u8]) -> Result<()> {
        write_whole(file, bytes)
    }

    fn check_writable(&self, file: &Path) -> Result<()> {
        check_writable(file)
    }

    fn is_same_file(&self, input: &str, output: &Path) -> bool {
        is_same_file(input, output)
    }

    fn remove_at_termination(&self, file: &Path) -> Box<dyn Any> {
        Box::new(UnfinishedFile::existing(file))
    }

    fn resources(&self, engine: &Engine) -> String {
        crate::process_setup::resource_summary(&Machine::read(), engine)
    }
}

pub(crate) fn run(command: &BenchCommand) -> CommandOutcome {
    #[cfg(feature = "remote")]
    let (headers, ca_file) = crate::options::configured();
    #[cfg(not(feature = "remote"))]
    let (headers, ca_file) = (Vec::new(), None);
    let engine = builder(None, None, command.limits);
    let context = BenchContext { host: &CommandHost, engine, opening: command.which.opening(), headers, ca_file };
    match bucket_streamer_bench::run(&command.arguments, &context) {
        bucket_streamer_bench::BenchOutcome::Done => CommandOutcome::Done,
        bucket_streamer_bench::BenchOutcome::SomeFailed => CommandOutcome::SomeFailed,
        bucket_streamer_bench::BenchOutcome::Usage => CommandOutcome::Usage,
        bucket_streamer_bench::BenchOutcome::Unreadable => CommandOutcome::Unreadable,
    }
}
