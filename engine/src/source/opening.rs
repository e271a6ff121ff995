//! Time limit and cancellation of opening a video.
//!
//! Opening reads a source from many places (tables, libavformat, the scan, the search for packets), all on one thread.
//! An [`Opening`] applies to that thread while it runs, and every wait for bytes of a remote source checks it. Decoders
//! that wait for bytes have deadlines of their own.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::error::{ErrorKind, Result};

/// Interval between checks of the limits during a wait for bytes.
pub(crate) const LOOK: Duration = Duration::from_millis(50);
/// Bytes a second that count as progress: the timeout grows by the time in which they come. A container that is read as
/// a whole may take longer than any timeout, and one byte a second must not.
const PROGRESS: f64 = (1 << 20) as f64;

thread_local! {
    /// The openings that apply to this thread, the outermost first.
    static CURRENT: RefCell<Vec<Opening>> = const { RefCell::new(Vec::new()) };
}

/// The limits of one opening. Clones share them.
#[derive(Debug, Clone)]
pub struct Opening {
    began: Instant,
    timeout: Option<Duration>,
    is_cancelled: Arc<AtomicBool>,
}

impl Opening {
    /// Begins now; fails after `timeout` without enough progress.
    pub fn new(timeout: Option<Duration>) -> Opening {
        Opening { began: Instant::now(), timeout, is_cancelled: Arc::default() }
    }

    /// Cancels the opening: its next wait for bytes fails with `OpenCancelled`.
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Relaxed);
    }

    /// Runs `open` within these limits, and within those that apply already.
    pub fn run<T>(&self, open: impl FnOnce() -> T) -> T {
        struct CurrentOpeningGuard;
        impl Drop for CurrentOpeningGuard {
            fn drop(&mut self) {
                CURRENT.with_borrow_mut(|current| _ = current.pop());
            }
        }
        CURRENT.with_borrow_mut(|current| current.push(self.clone()));
        let _installed = CurrentOpeningGuard;
        open()
    }

    fn check(&self, fetched_bytes: u64) -> Result<()> {
        if self.is_cancelled.load(Relaxed) {
            return Err(ErrorKind::OpenCancelled.into());
        }
        let progress = Duration::from_secs_f64(fetched_bytes as f64 / PROGRESS);
        match self.timeout {
            Some(timeout) if self.began.elapsed() >= timeout.saturating_add(progress) => {
                Err(ErrorKind::OpenTimeout { timeout }.into())
            }
            _ => Ok(()),
        }
    }
}

/// Checks the limits of this thread, for a source that has fetched `fetched_bytes`.
///
/// # Errors
/// `OpenTimeout`, `OpenCancelled`.
pub(crate) fn check(fetched_bytes: u64) -> Result<()> {
    CURRENT.with_borrow(|current| current.iter().try_for_each(|opening| opening.check(fetched_bytes)))
}

/// Whether limits apply to this thread: waits then check them every [`LOOK`].
#[cfg_attr(not(feature = "remote"), allow(dead_code, reason = "only remote sources take long"))]
pub(crate) fn is_active() -> bool {
    CURRENT.with_borrow(|current| !current.is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Opening, check, is_active};
    use crate::error::ErrorKind;

    #[test]
    fn limits_hold_within_an_opening_and_the_outer_one_counts_too() {
        assert!(check(0).is_ok() && !is_active());
        let (outer, inner) = (Opening::new(None), Opening::new(Some(Duration::from_secs(3600))));
        outer.run(|| {
            inner.run(|| {
                assert!(check(0).is_ok() && is_active());
                outer.cancel();
                assert!(matches!(check(0).unwrap_err().kind(), ErrorKind::OpenCancelled));
            });
        });
        assert!(check(0).is_ok() && !is_active());
    }

    #[test]
    fn a_trickle_is_no_progress_and_a_stream_of_bytes_is() {
        let began = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        let late = Opening { began, ..Opening::new(Some(Duration::from_secs(5))) };
        late.run(|| {
            assert!(matches!(check(100).unwrap_err().kind(), ErrorKind::OpenTimeout { .. }));
            assert!(check(1 << 40).is_ok());
        });
    }
}
