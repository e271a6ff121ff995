//! The `bucket-streamer` command: arguments, output, exit codes. Results go to standard output, messages to standard
//! error.
//!
//! `args` defines the commands; each command has a file with its arguments and its code. `options` has the options that
//! several commands share, `opening` makes engines and opens videos with them, `selection` selects frames, `output`
//! writes files, and `unfinished` removes incomplete files when the process is terminated. `console` writes messages
//! and results, and has the exit codes. The packages `bucket-streamer-bench` and `bucket-streamer-server` implement
//! `bench` and `serve`.

#![forbid(unsafe_code)]

mod args;
#[cfg(feature = "bench")]
mod bench;
mod console;
mod extract;
mod in_flight;
mod index;
mod info;
#[cfg(feature = "manual")]
mod manual;
mod opening;
mod options;
mod output;
mod process_setup;
mod selection;
#[cfg(feature = "server")]
mod serve;
mod sheet;
mod unfinished;
mod version;

#[cfg(all(feature = "bench", not(feature = "mimalloc")))]
use std::alloc::System;
use std::process::ExitCode;

#[cfg(feature = "bench")]
use bucket_streamer_bench::allocations::CountingAllocator;
use clap::{CommandFactory, FromArgMatches};

use args::{Arguments, Command};
use console::{CommandOutcome, say};

// Benchmarks report the number of allocations.
#[cfg(all(feature = "bench", not(feature = "mimalloc")))]
#[global_allocator]
static ALLOCATOR: CountingAllocator<System> = CountingAllocator(System);

#[cfg(all(feature = "bench", feature = "mimalloc"))]
#[global_allocator]
static ALLOCATOR: CountingAllocator<mimalloc::MiMalloc> = CountingAllocator(mimalloc::MiMalloc);

#[cfg(all(not(feature = "bench"), feature = "mimalloc"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    process_setup::set_up_process();
    let command = without_empty_variables(Arguments::command().long_version(version::long()));
    let arguments =
        match command.try_get_matches_from(typed()).and_then(|matches| Arguments::from_arg_matches(&matches)) {
            Ok(arguments) => arguments,
            Err(error) => return refuse(&error).into(),
        };
    ffi::survive_file_size_limit();
    if !arguments.command.waits_for_signals() {
        unfinished::remove_at_termination();
    }
    if arguments.verbose > 0 {
        let level = if arguments.verbose > 1 { ffi::LogLevel::Info } else { ffi::LogLevel::Warning };
        ffi::set_log(level, |_, line| say(&format!("ffmpeg: {line}")));
    }
    if let Some(folder) = arguments.index_cache.filter(|folder| !folder.as_os_str().is_empty())
        && let Err(outcome) = opening::keep_indexes(folder)
    {
        return outcome.into();
    }
    #[cfg(feature = "remote")]
    {
        if let Err(outcome) = arguments.remote.configure() {
            return outcome.into();
        }
        arguments.remote.open_timeout.into_iter().for_each(opening::limit_opening);
    }
    match arguments.command {
        Command::Info(options) => info::run(&options),
        Command::Extract(options) => extract::run(&options),
        #[cfg(feature = "bench")]
        Command::Bench(options) => bench::run(&options),
        Command::Index(options) => index::run(&options),
        Command::Sheet(options) => sheet::run(&options),
        #[cfg(feature = "server")]
        Command::Serve(options) => serve::run(*options, &arguments.remote),
        #[cfg(feature = "server")]
        Command::Sign(options) => serve::sign(&options),
        #[cfg(feature = "manual")]
        Command::Completions(options) => manual::completions(&options, Arguments::command()),
        #[cfg(feature = "manual")]
        Command::Man(options) => manual::man(&options, Arguments::command()),
    }
    .into()
}

/// Treats an empty environment variable as unset: container definitions set variables to empty values.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    let command = command.mut_args(|arg| if is_empty(&arg) { arg.env(None::<&str>) } else { arg });
    command.mut_subcommands(|sub| sub.mut_args(|arg| if is_empty(&arg) { arg.env(None::<&str>) } else { arg }))
}

/// The arguments of the process, with `--serve` replaced by `serve`.
fn typed() -> Vec<std::ffi::OsString> {
    let mut typed: Vec<_> = std::env::args_os().collect();
    if let Some(at) = typed.iter().position(|one| one == "--serve") {
        typed.remove(at);
        typed.insert(1.min(typed.len()), "serve".into());
    }
    typed
}

/// Prints help and version as results, and the help if the command is missing. Any other error is wrong usage, in one
/// line.
fn refuse(error: &clap::Error) -> CommandOutcome {
    let is_result = !error.use_stderr();
    if is_result || error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return if is_result { CommandOutcome::Done } else { CommandOutcome::Usage };
    }
    let text = error.render().to_string();
    let parts =
        text.split("\n\n").filter(|part| !part.starts_with("Usage:") && !part.starts_with("For more information"));
    let parts: Vec<String> = parts.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    say(&format!("bucket-streamer: {} (see --help)", parts.join("; ").trim_start_matches("error: ")));
    CommandOutcome::Usage
}
