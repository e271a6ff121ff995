//! When a source was last known to be what was opened.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Without a lock: a child after `fork` may ask.
#[derive(Debug)]
pub(super) struct Confirmed {
    opened: Instant,
    /// From then on.
    last_ns: AtomicU64,
}

impl Confirmed {
    pub(super) fn now() -> Confirmed {
        Confirmed { opened: Instant::now(), last_ns: AtomicU64::new(0) }
    }

    /// An answer to what was asked at a time was of this version.
    pub(super) fn note(&self, asked: Instant) {
        let since = asked.saturating_duration_since(self.opened);
        self.last_ns.fetch_max(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn last(&self) -> Instant {
        self.opened + Duration::from_nanos(self.last_ns.load(Relaxed))
    }
}
