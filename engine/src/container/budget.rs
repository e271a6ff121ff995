//! Limits of opening a video: memory and work for its index, and the memory of all concurrent openings.
//!
//! The tables of a file can demand far more than the file contains. `ffi::meter` applies the limits while libavformat
//! reads the tables, not after. An opening starts with a small share of memory; one that needs more takes one of a few
//! large shares, or waits until one is free.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use ffi::meter::{self, ExceededLimit, Grant, MeterLimits};

use crate::error::{Error, ErrorKind, Result};
use crate::source::{Source, opening};

/// The default of [`EngineBuilder::index_memory`](crate::EngineBuilder::index_memory) in bytes: about three million
/// samples.
pub const DEFAULT_INDEX_MEMORY: u64 = 384 << 20;
/// The memory that every opening may take, independent of the others.
const SMALL_BYTES: u64 = 16 << 20;
/// Concurrent openings that may take more than that.
const LARGE_SHARES: usize = 3;
/// The longest time that an opening waits for a large share.
const PATIENCE: Duration = Duration::from_secs(30);

/// Steps of work for any file; each byte of the file adds one.
const STEPS: u64 = 1 << 30;
/// Processor time for any file, as a limit on work that no counter covers.
const TIME: Duration = Duration::from_secs(5);
/// A lower bound of the bytes read in a second of processor time.
const BYTES_A_SECOND: u64 = 16 << 20;

/// The budget of all openings of an engine.
#[derive(Debug)]
pub(crate) struct IndexBudget {
    /// Limit of one opening, in bytes.
    bytes: u64,
    timeout: Duration,
    /// Free large shares.
    free: Mutex<usize>,
    freed: Condvar,
}

impl Default for IndexBudget {
    fn default() -> IndexBudget {
        IndexBudget::new(DEFAULT_INDEX_MEMORY)
    }
}

/// A large share, released on drop.
#[derive(Debug)]
struct LargeShare<'a>(&'a IndexBudget);

impl Drop for LargeShare<'_> {
    fn drop(&mut self) {
        *self.0.free() += 1;
        // All waiting threads are woken: the first may not be allowed to take the last share.
        self.0.freed.notify_all();
    }
}

impl IndexBudget {
    /// A budget with `bytes` for one opening.
    pub(crate) fn new(bytes: u64) -> IndexBudget {
        IndexBudget { bytes, timeout: PATIENCE, free: Mutex::new(LARGE_SHARES), freed: Condvar::new() }
    }

    /// A budget for callers without an engine, which no other opening shares.
    pub(crate) fn unshared() -> Arc<IndexBudget> {
        Arc::new(IndexBudget::default())
    }

    fn free(&self) -> std::sync::MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A large share; `None` if none becomes free in time. Remote sources do not get the last one, since they may
    /// deliver bytes slowly.
    fn share(&self, is_far: bool) -> Option<LargeShare<'_>> {
        let end = Instant::now() + self.timeout;
        let mut free = self.free();
        while *free <= usize::from(is_far) {
            let left = end.checked_duration_since(Instant::now())?.min(opening::LOOK);
            free = self.freed.wait_timeout(free, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
            opening::check(0).ok()?;
        }
        *free -= 1;
        Some(LargeShare(self))
    }

    /// Opens a source within the limits.
    ///
    /// # Errors
    /// `IndexTooLarge`, `IndexTooCostly` and `IndexBusy` for an exceeded limit; otherwise those of `open`.
    pub(crate) fn open_source<T>(&self, source: &dyn Source, open: impl FnOnce() -> Result<T>) -> Result<T> {
        let opened = self.open(source.len(), source.is_remote(), open);
        // A timeout that passed during the wait is the better reason.
        if matches!(&opened, Err(error) if matches!(error.kind(), ErrorKind::IndexBusy)) {
            opening::check(0)?;
        }
        opened
    }

    fn open<T>(&self, length: u64, is_far: bool, open: impl FnOnce() -> Result<T>) -> Result<T> {
        let limits = MeterLimits {
            bytes: SMALL_BYTES.min(self.bytes),
            steps: STEPS.saturating_add(length),
            time: TIME + Duration::from_secs(length / BYTES_A_SECOND),
        };
        let mut share = None;
        let mut more = |wanted: u64| {
            if wanted <= self.bytes && share.is_none() {
                share = self.share(is_far);
                return if share.is_some() { Grant::Limit(self.bytes) } else { Grant::Busy };
            }
            Grant::Limit(0)
        };
        let (result, exceeded) = meter::run(limits, &mut more, open);
        match exceeded {
            None => result,
            // The exceeded limit is the cause: libavformat's error is only its consequence.
            Some(exceeded) => Err(self.error(exceeded)),
        }
    }

    fn error(&self, exceeded: ExceededLimit) -> Error {
        match exceeded {
            ExceededLimit::Memory => ErrorKind::IndexTooLarge { limit: self.bytes },
            ExceededLimit::Work => ErrorKind::IndexTooCostly("its tables lead over the same entries again and again"),
            ExceededLimit::Time => ErrorKind::IndexTooCostly("it takes too much processor time for its length"),
            ExceededLimit::Busy => ErrorKind::IndexBusy,
        }
        .into()
    }

    /// Charges memory of the index.
    ///
    /// # Errors
    /// `IndexTooLarge`; [`IndexBudget::open`] replaces it by the limit that was exceeded.
    pub(super) fn charge(bytes: usize) -> Result<()> {
        let kind = || ErrorKind::IndexTooLarge { limit: DEFAULT_INDEX_MEMORY };
        if meter::charge(bytes) { Ok(()) } else { Err(kind().into()) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{IndexBudget, LARGE_SHARES, SMALL_BYTES};
    use crate::error::ErrorKind;

    const LARGE: usize = SMALL_BYTES as usize + 1;

    #[test]
    fn an_opening_has_a_limit() {
        let budget = IndexBudget::new(2 * SMALL_BYTES);
        assert!(budget.open(1, false, || IndexBudget::charge(2 * SMALL_BYTES as usize)).is_ok());
        let error = budget.open(1, false, || IndexBudget::charge(2 * SMALL_BYTES as usize + 1)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::IndexTooLarge { limit } if *limit == 2 * SMALL_BYTES), "{error}");
        // Refused even if the caller ignores the error.
        assert!(budget.open(1, false, || Ok(IndexBudget::charge(usize::MAX).is_ok())).is_err());
    }

    #[test]
    fn large_openings_wait_for_each_other_and_small_ones_do_not() {
        fn nested(budget: &IndexBudget, depth: usize) -> crate::Result<()> {
            if depth == 0 {
                // All shares are taken: a small opening continues, a large one is refused.
                assert!(budget.open(1, false, || IndexBudget::charge(SMALL_BYTES as usize)).is_ok());
                let error = budget.open(1, false, || IndexBudget::charge(LARGE)).unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::IndexBusy), "{error}");
                return Ok(());
            }
            std::thread::scope(|scope| {
                let one = scope.spawn(|| {
                    budget.open(1, false, || {
                        IndexBudget::charge(LARGE)?;
                        std::thread::scope(|scope| scope.spawn(|| nested(budget, depth - 1)).join().unwrap())
                    })
                });
                one.join().unwrap()
            })
        }
        let budget = IndexBudget { timeout: Duration::from_millis(20), ..IndexBudget::new(4 * SMALL_BYTES) };
        nested(&budget, LARGE_SHARES).unwrap();
        assert_eq!(*budget.free(), LARGE_SHARES);
        let near = budget.share(false).unwrap();
        let far = budget.share(true).unwrap();
        assert!(budget.share(true).is_none(), "the last share is for local sources");
        drop((budget.share(false).unwrap(), near, far));
        assert!(budget.open(1, false, || IndexBudget::charge(LARGE)).is_ok());
    }
}
