//! The command line: arguments, output, exit codes. Results go to standard output, messages to standard error.

mod args;
mod bench;
mod extract;
mod given;
mod in_flight;
mod index;
mod info;
mod output;
#[cfg(feature = "remote")]
mod remote;
#[cfg(feature = "server")]
mod serve;
mod sheet;
mod unfinished;
mod version;
mod wanted;

use std::io::Write;
use std::process::ExitCode;
use std::sync::OnceLock;
#[cfg(feature = "remote")]
use std::time::Duration;

use bucket_streamer::{Device, Engine, EngineBuilder, Error, Index, IndexCache, Video, source};
use clap::{CommandFactory, FromArgMatches};

use args::{Arguments, Command, Opening};

/// What a run comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything asked for was done.
    Done,
    /// Some frames failed.
    SomeFailed,
    /// Wrong usage.
    Usage,
    /// The video cannot be read.
    Unreadable,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        ExitCode::from(match outcome {
            Outcome::Done => 0,
            Outcome::SomeFailed => 1,
            Outcome::Usage => 2,
            Outcome::Unreadable => 3,
        })
    }
}

/// Where indexes are kept, if they are to be.
static INDEXES: OnceLock<IndexCache> = OnceLock::new();

/// The longest that opening a video of a remote source may take, if it was chosen; 0 for no limit.
#[cfg(feature = "remote")]
static OPEN_TIMEOUT: OnceLock<Duration> = OnceLock::new();

/// Runs the command line.
pub(crate) fn run() -> ExitCode {
    given::raise_open_files();
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
    if let Some(folder) = arguments.index_cache.filter(|folder| !folder.as_os_str().is_empty()) {
        match IndexCache::open(folder) {
            Ok(cache) => _ = INDEXES.set(cache),
            Err(error) => {
                say(&format!("bucket-streamer: --index-cache: {error}"));
                return Outcome::Usage.into();
            }
        }
    }
    #[cfg(feature = "remote")]
    {
        if let Err(outcome) = remote::configure(&arguments.remote) {
            return outcome.into();
        }
        arguments.remote.open_timeout.into_iter().for_each(|timeout| _ = OPEN_TIMEOUT.set(timeout));
    }
    match arguments.command {
        Command::Info(options) => info::run(&options),
        Command::Extract(options) => extract::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Index(options) => index::run(&options),
        Command::Sheet(options) => sheet::run(&options),
        #[cfg(feature = "server")]
        Command::Serve(options) => serve::run(*options, &arguments.remote),
        #[cfg(feature = "server")]
        Command::Sign(options) => serve::sign(&options),
    }
    .into()
}

/// A variable that is set to nothing says nothing: files for containers have them so.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    let command = command.mut_args(|arg| if is_empty(&arg) { arg.env(None::<&str>) } else { arg });
    command.mut_subcommands(|sub| sub.mut_args(|arg| if is_empty(&arg) { arg.env(None::<&str>) } else { arg }))
}

/// What was typed, where `--serve` is another name of `serve`.
fn typed() -> Vec<std::ffi::OsString> {
    let mut typed: Vec<_> = std::env::args_os().collect();
    if let Some(at) = typed.iter().position(|one| one == "--serve") {
        typed.remove(at);
        typed.insert(1.min(typed.len()), "serve".into());
    }
    typed
}

/// Help and version are results, and who types no command wants help; anything else is wrong usage, told in one line.
fn refuse(error: &clap::Error) -> Outcome {
    let is_result = !error.use_stderr();
    if is_result || error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return if is_result { Outcome::Done } else { Outcome::Usage };
    }
    let text = error.render().to_string();
    let told =
        text.split("\n\n").filter(|part| !part.starts_with("Usage:") && !part.starts_with("For more information"));
    let told: Vec<String> = told.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    say(&format!("bucket-streamer: {} (--help tells more)", told.join("; ").trim_start_matches("error: ")));
    Outcome::Usage
}

/// One line on standard error. Nobody listening is no reason to fail.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// The engine with this device, or says why there is none.
pub(crate) fn engine(builder: EngineBuilder, device: args::DeviceName) -> Result<Engine, Outcome> {
    Ok(builder.device(open_device(device)?).build())
}

/// The device that was asked for, or says why it is not to be had.
pub(crate) fn open_device(args::DeviceName(choice): args::DeviceName) -> Result<Device, Outcome> {
    let device = Device::open(choice).map_err(|error| {
        say(&format!("bucket-streamer: --device {choice}: {error}"));
        Outcome::Usage
    })?;
    if let Some(why) = device.why_not() {
        say(&format!("bucket-streamer: --device auto: no NVDEC ({why}): decoding on the CPU"));
    }
    Ok(device)
}

/// Says what should be known of the GPU.
pub(crate) fn tell_of_device(engine: &Engine) {
    engine.device_notes().iter().for_each(|note| say(&format!("bucket-streamer: {note}")));
}

/// What the command line says of the engine.
pub(crate) fn builder(threads: Option<u16>, memory: Option<args::MemorySize>, limits: args::Limits) -> EngineBuilder {
    let mut builder = limits.apply(Engine::builder());
    #[cfg(feature = "remote")]
    if let Some(&timeout) = OPEN_TIMEOUT.get() {
        builder = builder.open_timeout(Some(timeout).filter(|timeout| !timeout.is_zero()));
    }
    if let Some(threads) = threads {
        builder = builder.threads(threads.into());
    }
    if let Some(args::MemorySize(bytes)) = memory {
        builder = builder.checkpoint_memory(bytes);
    }
    builder
}

/// Opens the video, or says why not.
pub(crate) fn open(engine: &Engine, path: &str, opening: Opening<'_>) -> Result<Video, Outcome> {
    open_video(engine, path, opening).map_err(|error| {
        say(&format!("bucket-streamer: {error}"));
        Outcome::Unreadable
    })
}

/// Opens the video.
pub(crate) fn open_video(engine: &Engine, path: &str, opening: Opening<'_>) -> Result<Video, Error> {
    engine.opening(|| {
        let source = source::open(path)?;
        match (opening, INDEXES.get()) {
            (Opening::Track(track), Some(cache)) => cache.open_video(engine, source, track),
            (Opening::Track(track), None) => engine.open(source, track),
            (Opening::Index { file, verify }, _) => {
                let index = Index::read(&*source::open(file)?)?;
                if verify {
                    engine.open_with_verified_index(source, &index)
                } else {
                    engine.open_with_index(source, &index)
                }
            }
        }
    })
}
