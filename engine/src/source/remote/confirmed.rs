//! When a source was last known to be what was opened.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

#[derive(Debug)]
pub(super) struct Confirmed(Mutex<Instant>);

impl Confirmed {
    pub(super) fn now() -> Confirmed {
        Confirmed(Mutex::new(Instant::now()))
    }

    /// An answer to what was asked at a time was of this version.
    pub(super) fn note(&self, asked: Instant) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = asked.max(*last);
    }

    pub(super) fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
