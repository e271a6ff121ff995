//! What is being done, for people at a terminal.

use crate::host::Host;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A line that tells how far measuring is. It stands still while the clock runs: drawing takes time too. Where standard error is no terminal there is none.
pub(crate) struct Progress {
    bar: ProgressBar,
    host: &'static dyn Host,
}

impl Progress {
    /// For so many rounds, of all engines together.
    pub(crate) fn new(rounds: usize, host: &'static dyn Host) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(rounds as u64), ProgressDrawTarget::stderr_with_hz(5));
        let style = ProgressStyle::with_template("{spinner} [{elapsed}] {bar:30} {pos}/{len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress { bar, host }
    }

    /// What comes next.
    pub(crate) fn tell(&self, what: String) {
        self.bar.set_message(what);
    }

    /// A round is made.
    pub(crate) fn step(&self) {
        self.bar.inc(1);
    }

    /// Prints a line without disturbing the other one.
    pub(crate) fn say(&self, line: &str) {
        self.bar.suspend(|| self.host.say(line));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
