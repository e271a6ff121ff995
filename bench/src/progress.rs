//! The progress bar on a terminal.

use crate::host::BenchHost;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A progress bar. It does not change while the clock runs, because drawing takes time. Without a terminal on standard
/// error there is none.
pub(crate) struct RoundProgress {
    bar: ProgressBar,
    host: &'static dyn BenchHost,
}

impl RoundProgress {
    /// For this many rounds, of all engines together.
    pub(crate) fn new(rounds: usize, host: &'static dyn BenchHost) -> RoundProgress {
        let bar = ProgressBar::with_draw_target(Some(rounds as u64), ProgressDrawTarget::stderr_with_hz(5));
        let style = ProgressStyle::with_template("{spinner} [{elapsed}] {bar:30} {pos}/{len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        RoundProgress { bar, host }
    }

    /// Shows the next step.
    pub(crate) fn show(&self, what: String) {
        self.bar.set_message(what);
    }

    /// Counts a finished round.
    pub(crate) fn step(&self) {
        self.bar.inc(1);
    }

    /// Prints a line without disturbing the bar.
    pub(crate) fn say(&self, line: &str) {
        self.bar.suspend(|| self.host.say(line));
    }
}

impl Drop for RoundProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
