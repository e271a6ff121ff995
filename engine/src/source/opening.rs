//! How long opening a video may take, and whether its result is still wanted.
//!
//! Opening reads a source from many places (tables, libavformat, the scan, the search for packets), all on one thread. An
//! [`Opening`] holds for that thread while it runs, and every wait for bytes of a remote source looks at it. Nothing else
//! does: a decoder that waits for bytes has deadlines of its own.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::error::{ErrorKind, Result};

/// From one look at the limits to the next while bytes are waited for.
pub(crate) const LOOK: Duration = Duration::from_millis(50);
/// Bytes a second that are progress: the time in which they come does not count. A container that is read as a whole may
/// take longer than any timeout, and one byte a second must not.
const PROGRESS: f64 = (1 << 20) as f64;

thread_local! {
    /// Openings that hold for this thread, the outermost first.
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
    /// One that begins now, and fails when it takes longer than `timeout`.
    pub fn new(timeout: Option<Duration>) -> Opening {
        Opening { began: Instant::now(), timeout, is_cancelled: Arc::default() }
    }

    /// Its result is not wanted any more: the next wait for bytes fails.
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Relaxed);
    }

    /// Runs `open` within these limits, and within those that hold already.
    pub fn run<T>(&self, open: impl FnOnce() -> T) -> T {
        struct Installed;
        impl Drop for Installed {
            fn drop(&mut self) {
                CURRENT.with_borrow_mut(|current| _ = current.pop());
            }
        }
        CURRENT.with_borrow_mut(|current| current.push(self.clone()));
        let _installed = Installed;
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

/// Checks the limits that hold for this thread, for a source of which so many bytes have come.
///
/// # Errors
/// `OpenTimeout`, `OpenCancelled`.
pub(crate) fn check(fetched_bytes: u64) -> Result<()> {
    CURRENT.with_borrow(|current| current.iter().try_for_each(|opening| opening.check(fetched_bytes)))
}

/// True where limits hold for this thread: waits have to look at them every [`LOOK`].
#[cfg_attr(not(feature = "remote"), allow(dead_code, reason = "only remote sources take long"))]
pub(crate) fn is_under_way() -> bool {
    CURRENT.with_borrow(|current| !current.is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Opening, check, is_under_way};
    use crate::error::ErrorKind;

    #[test]
    fn limits_hold_within_an_opening_and_the_outer_one_counts_too() {
        assert!(check(0).is_ok() && !is_under_way());
        let (outer, inner) = (Opening::new(None), Opening::new(Some(Duration::from_secs(3600))));
        outer.run(|| {
            inner.run(|| {
                assert!(check(0).is_ok() && is_under_way());
                outer.cancel();
                assert!(matches!(check(0).unwrap_err().kind(), ErrorKind::OpenCancelled));
            });
        });
        assert!(check(0).is_ok() && !is_under_way());
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
