//! Messages and exit codes: results go to standard output, messages to standard error.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anstyle::Style;
use bucket_streamer::{Error, ErrorKind};

/// The names in front of messages.
const PROGRAMS: [&str; 2] = ["bucket-streamer", "ffmpeg"];

/// The result of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandOutcome {
    /// Everything succeeded.
    Done,
    /// Some frames failed.
    SomeFailed,
    /// Wrong usage.
    Usage,
    /// The video cannot be read.
    Unreadable,
}

impl From<CommandOutcome> for ExitCode {
    fn from(outcome: CommandOutcome) -> ExitCode {
        ExitCode::from(match outcome {
            CommandOutcome::Done => 0,
            CommandOutcome::SomeFailed => 1,
            CommandOutcome::Usage => 2,
            CommandOutcome::Unreadable => 3,
        })
    }
}

/// Writes one line to standard error. The leading program name is bold on a terminal, unless `NO_COLOR` is set. A write
/// error does not fail the run.
pub(crate) fn say(line: &str) {
    let bold = Style::new().bold();
    let mut stderr = anstream::stderr().lock();
    let _ = match line.split_once(": ").filter(|(name, _)| PROGRAMS.contains(name)) {
        Some((name, rest)) => writeln!(stderr, "{bold}{name}:{bold:#} {rest}"),
        None => writeln!(stderr, "{line}"),
    };
}

/// Reports an error in one line, with advice if the kind of error has any.
pub(crate) fn report(error: &Error) {
    let advice = advice(error.kind()).map(|advice| format!("; {advice}")).unwrap_or_default();
    say(&format!("bucket-streamer: {error}{advice}"));
}

/// Advice for errors whose text contains none.
fn advice(kind: &ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::BadIndex(_) => "`bucket-streamer index` writes a new one",
        ErrorKind::Changed => "try again once nothing writes to it",
        ErrorKind::Corrupt => "--on-damage flag outputs it, marked",
        ErrorKind::Encrypted => "decrypt it first: there is no option for keys",
        ErrorKind::NoSuchTrack { available: 1.., .. } => "`bucket-streamer info` lists the tracks of a video",
        ErrorKind::NoVideoTrack | ErrorKind::NoSuchTrack { .. } => {
            "a file with H.265, H.264, VP9 or AV1 video is needed"
        }
        ErrorKind::NotAVideo(_) => "supported are MP4, MOV, Matroska, WebM, MPEG-TS, IVF, raw H.264, H.265 and AV1",
        ErrorKind::PastEnd { .. } => "copy the whole file again",
        ErrorKind::Read(error) if error.kind() == std::io::ErrorKind::NotFound => "check the path",
        ErrorKind::PastEndOfVideo { .. } => "--clamp takes the last frame",
        _ => return None,
    })
}

/// Prints a result to standard output. A closed pipe is not reported: its reader needs no more.
pub(crate) fn print(bytes: &[u8]) -> CommandOutcome {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => CommandOutcome::Done,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::BrokenPipe {
                say(&format!("bucket-streamer: standard output: {error}"));
            }
            CommandOutcome::SomeFailed
        }
    }
}

/// Prints names and values to standard output: on a terminal as a table with bold names, elsewhere separated by a tab.
pub(crate) fn print_table(rows: &[(&str, String)]) -> CommandOutcome {
    let is_terminal = std::io::stdout().is_terminal();
    let bold = if has_colour() { Style::new().bold() } else { Style::new() };
    let line = |(name, value): &(&str, String)| {
        if is_terminal { format!("{bold}{name:<12}{bold:#} {value}\n") } else { format!("{name}\t{value}\n") }
    };
    print(rows.iter().map(line).collect::<String>().as_bytes())
}

/// True if standard output on a terminal may have colour, after the environment (`NO_COLOR`, `TERM`).
fn has_colour() -> bool {
    anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
}
