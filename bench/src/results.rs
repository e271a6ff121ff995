//! Delivers results: messages, a table or JSON on standard output, and files.

use std::path::Path;

use super::args::BenchArguments;
use super::host::BenchHost;
use super::records::{EngineResult, Measurement};
use super::{html, plots};

/// Whether a frame of this program's engines is missing or wrong. If those are measured, faults of other engines are
/// results and no failure.
pub(crate) fn is_failed(entries: &[EngineResult]) -> bool {
    let measured = || entries.iter().filter_map(EngineResult::measurement);
    let has_ours = measured().any(Measurement::is_ours);
    let is_failed = |one: &Measurement| !one.messages.is_empty() || one.wrong > Some(0);
    measured().filter(|one| one.is_ours()).any(is_failed)
        || (!has_ours && measured().any(|one| !one.messages.is_empty()))
}

/// Prints messages: a line for each frame that is missing, and a warning where times are unreliable.
pub(crate) fn messages(host: &dyn BenchHost, entries: &[EngineResult]) {
    for measured in entries.iter().filter_map(EngineResult::measurement) {
        for message in measured.messages.iter().map(String::as_str).chain(measured.noise().as_deref()) {
            host.say(&format!("{}: {message}", measured.engine));
        }
    }
}

pub(crate) fn json(entries: &[EngineResult]) -> String {
    serde_json::to_string(entries).expect("plain data") + "\n"
}

/// Prints the table or the JSON, and writes the files of the arguments. False if writing failed.
pub(crate) fn write_results(
    host: &dyn BenchHost,
    arguments: &BenchArguments,
    entries: &[EngineResult],
    table: impl Fn() -> String,
) -> bool {
    let printed = if arguments.json.as_deref() == Some("-") { json(entries) } else { table() };
    let mut is_written = true;
    let mut write = |file: &str, text: String| {
        if let Err(error) = host.write(Path::new(file), text.as_bytes()) {
            host.say(&error.to_string());
            is_written = false;
        }
    };
    if let Some(file) = arguments.json.as_deref().filter(|file| *file != "-") {
        write(file, json(entries));
    }
    if let Some(file) = arguments.html.as_deref() {
        write(file, html::page(entries));
    }
    if let Some(folder) = arguments.plots.as_deref() {
        // If the folder cannot be created, the errors of its files have the reason.
        let _ = std::fs::create_dir_all(folder);
        for plot in plots::of(entries) {
            write(&format!("{folder}/{}.svg", plot.name), plot.svg);
        }
    }
    if let Err(error) = host.print(printed.as_bytes()) {
        // A closed pipe is no error: the reader has ended.
        if error.kind() != std::io::ErrorKind::BrokenPipe {
            host.say(&format!("standard output: {error}"));
        }
        is_written = false;
    }
    is_written
}
