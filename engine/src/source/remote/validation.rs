//! The time at which a source's version was last validated.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Atomic, not locked: a child after `fork` may read it.
#[derive(Debug)]
pub(super) struct ValidationTime {
    opened: Instant,
    /// Nanoseconds since `opened`.
    last_ns: AtomicU64,
}

impl ValidationTime {
    pub(super) fn now() -> ValidationTime {
        ValidationTime { opened: Instant::now(), last_ns: AtomicU64::new(0) }
    }

    /// Records that the answer to a request sent at `requested_at` had this version.
    pub(super) fn note(&self, requested_at: Instant) {
        let since = requested_at.saturating_duration_since(self.opened);
        self.last_ns.fetch_max(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn last(&self) -> Instant {
        self.opened + Duration::from_nanos(self.last_ns.load(Relaxed))
    }
}
