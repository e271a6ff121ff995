//! `bench`: connects the harness (package `bucket-streamer-bench`) to the command line, the terminal and the files. The
//! harness decides what is measured.

use std::any::Any;
use std::io::{self, Write};
use std::path::Path;

use bucket_streamer::{Engine, Machine, Result};
use bucket_streamer_bench::{BenchArguments, Given, Host};
use clap::Args;

use crate::console::{self, Outcome};
use crate::opening::builder;
use crate::options::{Limits, Which};
use crate::output::{check_writable, is_same_file, write_whole};
use crate::unfinished::Unfinished;

#[derive(Debug, Args)]
pub(crate) struct BenchCommand {
    #[command(flatten)]
    arguments: BenchArguments,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    limits: Limits,
}

/// The command as the harness's host.
#[derive(Debug)]
struct Program;

impl Host for Program {
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
        Box::new(Unfinished::there(file))
    }

    fn resources(&self, engine: &Engine) -> String {
        crate::given::line(&Machine::read(), engine)
    }
}

pub(crate) fn run(command: &BenchCommand) -> Outcome {
    #[cfg(feature = "remote")]
    let (headers, ca_file) = crate::options::chosen();
    #[cfg(not(feature = "remote"))]
    let (headers, ca_file) = (Vec::new(), None);
    let engine = builder(None, None, command.limits);
    let given = Given { host: &Program, engine, opening: command.which.opening(), headers, ca_file };
    match bucket_streamer_bench::run(&command.arguments, &given) {
        bucket_streamer_bench::Outcome::Done => Outcome::Done,
        bucket_streamer_bench::Outcome::SomeFailed => Outcome::SomeFailed,
        bucket_streamer_bench::Outcome::Usage => Outcome::Usage,
        bucket_streamer_bench::Outcome::Unreadable => Outcome::Unreadable,
    }
}
