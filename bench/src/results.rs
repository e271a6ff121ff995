//! Delivers results: messages, a table or JSON on standard output, and files.

use std::path::Path;

use super::args::BenchArguments;
use super::entry::{Entry, Measured};
use super::host::Host;
use super::{html, plots};

/// Whether a frame of this program's engines is missing or wrong. Faults of other engines are results, if both are
/// measured.
pub(crate) fn is_failed(entries: &[Entry]) -> bool {
    let measured = || entries.iter().filter_map(Entry::measured);
    let has_ours = measured().any(Measured::is_ours);
    let is_failed = |one: &Measured| !one.messages.is_empty() || one.wrong > Some(0);
    measured().filter(|one| one.is_ours()).any(is_failed)
        || (!has_ours && measured().any(|one| !one.messages.is_empty()))
}

/// Prints messages: a line for each frame that is missing, and a warning where times are unreliable.
pub(crate) fn messages(host: &dyn Host, entries: &[Entry]) {
    for measured in entries.iter().filter_map(Entry::measured) {
        for message in measured.messages.iter().map(String::as_str).chain(measured.noise().as_deref()) {
            host.say(&format!("{}: {message}", measured.engine));
        }
    }
}

pub(crate) fn json(entries: &[Entry]) -> String {
    serde_json::to_string(entries).expect("plain data") + "\n"
}

/// Prints the table or the JSON, and writes the files of the arguments. False if writing failed.
pub(crate) fn tell(host: &dyn Host, arguments: &BenchArguments, entries: &[Entry], table: impl Fn() -> String) -> bool {
    let printed = if arguments.json.as_deref() == Some("-") { json(entries) } else { table() };
    let mut is_told = true;
    let mut write = |file: &str, text: String| {
        if let Err(error) = host.write(Path::new(file), text.as_bytes()) {
            host.say(&error.to_string());
            is_told = false;
        }
    };
    if let Some(file) = arguments.json.as_deref().filter(|file| *file != "-") {
        write(file, json(entries));
    }
    if let Some(file) = arguments.html.as_deref() {
        write(file, html::page(entries));
    }
    if let Some(folder) = arguments.plots.as_deref() {
        // If the folder cannot be made, the errors of its files say why.
        let _ = std::fs::create_dir_all(folder);
        for plot in plots::of(entries) {
            write(&format!("{folder}/{}.svg", plot.name), plot.svg);
        }
    }
    if let Err(error) = host.print(printed.as_bytes()) {
        // A closed pipe is no error to report: the reader wants no more.
        if error.kind() != std::io::ErrorKind::BrokenPipe {
            host.say(&format!("standard output: {error}"));
        }
        is_told = false;
    }
    is_told
}
