//! Messages and exit codes: results go to standard output, messages to standard error.

use std::io::Write;
use std::process::ExitCode;

/// The result of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything succeeded.
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

/// Writes one line to standard error. A write error does not fail the run.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
