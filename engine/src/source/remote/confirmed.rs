//! The time at which a source's version was last confirmed.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Atomic, not locked: a child after `fork` may read it.
#[derive(Debug)]
pub(super) struct Confirmed {
    opened: Instant,
    /// Nanoseconds since `opened`.
    last_ns: AtomicU64,
}

impl Confirmed {
    pub(super) fn now() -> Confirmed {
        Confirmed { opened: Instant::now(), last_ns: AtomicU64::new(0) }
    }

    /// Records that the answer to a request of time `asked` had this version.
    pub(super) fn note(&self, asked: Instant) {
        let since = asked.saturating_duration_since(self.opened);
        self.last_ns.fetch_max(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn last(&self) -> Instant {
        self.opened + Duration::from_nanos(self.last_ns.load(Relaxed))
    }
}
