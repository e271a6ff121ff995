//! What the user is told: results go to standard output, messages to standard error, and the exit code says what came of it.

use std::io::Write;
use std::process::ExitCode;

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

/// One line on standard error. That it cannot be written is no reason to fail.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
