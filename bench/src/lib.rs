//! The harness behind `bench`: measures frame latency and throughput against other engines and against a floor.
//!
//! `scenario` selects the frames of the requests, `setup` has their options, `load` their callers; `measure` alternates
//! the rounds of the `contender`s: `own_engine` and `ffmpeg_cli` run them, `frame_output` processes frames, `check`
//! compares them with a reference, `floor` times the bare loop. `stats`, `machine` and `records` turn rounds into
//! records; `results` prints and writes them, with `table`, `html` and `plots`, to the `files` of the arguments. `all`
//! measures a folder of videos, `client` requests frames from a server instead of an engine. A new scenario is a
//! variant in `args` with its frames and request mode in `scenario`; a new engine is a variant in `contender` with its
//! rounds in a file of its own.
//!
//! The program that calls [`run`] is a [`BenchHost`]: it owns the terminal, the files and the options of engines and
//! servers. [`allocations`] is for its allocator. The programs in `src/bin` (feature `harness`) measure and load one
//! thing each, and are not part of `bench`.

#![deny(unsafe_code)]

mod all;
pub mod allocations;
mod args;
mod check;
#[cfg(feature = "client")]
mod client;
mod contender;
mod ffmpeg_cli;
mod files;
mod floor;
mod frame_output;
mod host;
mod html;
mod load;
mod machine;
mod measure;
mod own_engine;
mod plots;
mod progress;
mod records;
mod results;
mod scenario;
mod setup;
mod stats;
mod table;

use std::any::Any;
use std::io::Write;

use bucket_streamer::{Engine, EngineBuilder, Result};
use tempfile::TempPath;

pub use args::BenchArguments;
use args::Scenario;
pub use host::{BenchContext, BenchHost, BenchOutcome};
use measure::Bench;
use progress::RoundProgress;
use records::{BenchHeading, EngineResult};
use results::{is_failed, messages, write_results};
use setup::Setup;

/// An engine as the command builds it: workers are pinned to cores if the process has these to itself. For programs
/// that measure, after [`process::dedicate`](bucket_streamer::process::dedicate).
pub fn engine() -> EngineBuilder {
    Engine::builder().pin_threads_if_alone()
}

/// The clip that is measured if no video is named.
const BUNDLED: &[u8] = include_bytes!("../../fixtures/hevc_demo.mp4");

/// Measures as the arguments say, and reports the results.
pub fn run(arguments: &BenchArguments, context: &BenchContext) -> BenchOutcome {
    let host = context.host;
    let listed = match scenario::listed(arguments, context) {
        Ok(listed) => listed,
        Err(why) => {
            host.say(&why);
            return BenchOutcome::Usage;
        }
    };
    #[cfg(feature = "client")]
    if let Err(why) = args::check_options(arguments) {
        host.say(&why);
        return BenchOutcome::Usage;
    }
    if let Err(outcome) = files::check(arguments, context) {
        return outcome;
    }
    #[cfg(feature = "client")]
    if arguments.scenario.is_of_server() {
        return client::run(arguments, context, listed);
    }
    let setup = Setup { name: arguments.video.is_none().then_some("(bundled clip)"), ..Setup::of(arguments, context) };
    if arguments.scenario == Scenario::All {
        return all::run(arguments, &Setup { name: None, ..setup });
    }
    let bundled = if arguments.video.is_none() { bundled_clip(host) } else { Ok(None) };
    let location = match (&arguments.video, &bundled) {
        (Some(video), _) => video.clone(),
        (None, Ok(clip)) => clip.iter().map(|(path, _)| path.to_string_lossy()).collect(),
        (None, Err(error)) => {
            host.say(&format!("the bundled clip cannot be written: {error}"));
            return BenchOutcome::Unreadable;
        }
    };
    match measure_video(arguments.scenario, &setup, &location, listed) {
        Ok((heading, entries)) => {
            messages(host, &entries);
            let is_written = write_results(host, arguments, &entries, || heading.table(&entries));
            if is_written && !is_failed(&entries) { BenchOutcome::Done } else { BenchOutcome::SomeFailed }
        }
        Err(error) => {
            host.say(&error.to_string());
            BenchOutcome::Unreadable
        }
    }
}

/// Writes the bundled clip to a temporary file, so that other programs can read it too.
fn bundled_clip(host: &dyn BenchHost) -> std::io::Result<Option<(TempPath, Box<dyn Any>)>> {
    let mut file = tempfile::Builder::new().prefix("bucket-streamer-").suffix(".mp4").tempfile()?;
    let removed = host.remove_at_termination(file.path());
    file.write_all(BUNDLED)?;
    Ok(Some((file.into_temp_path(), removed)))
}

fn measure_video(
    scenario: Scenario,
    setup: &Setup,
    location: &str,
    listed: Option<Vec<u32>>,
) -> Result<(BenchHeading, Vec<EngineResult>)> {
    let rounds = usize::from(setup.rounds) + usize::from(setup.sums());
    let progress = RoundProgress::new(rounds * setup.engines.len(), setup.context.host);
    let bench = Bench::open(scenario, setup, location, listed, &progress)?;
    setup.print_resources();
    let reference = if setup.check { Some(bench.reference()?) } else { None };
    let entries = bench.measure(reference.as_ref())?;
    Ok((bench.heading(), entries))
}
