//! Limits the bytes of decoded pictures between the decoder and the threads that make output of them.

use std::sync::{Condvar, Mutex, MutexGuard};

use bucket_streamer::VideoFrame;

/// The pictures in flight.
pub(crate) struct InFlight {
    bytes: Mutex<usize>,
    room: Condvar,
    most: usize,
}

/// A picture in flight, until dropped.
pub(crate) struct Held<'a> {
    of: &'a InFlight,
    bytes: usize,
}

impl InFlight {
    /// Up to `most` bytes, or one picture of any size.
    pub(crate) fn new(most: u64) -> InFlight {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        InFlight { bytes: Mutex::new(0), room: Condvar::new(), most }
    }

    /// Waits until there is room for a picture.
    pub(crate) fn enter(&self, frame: &VideoFrame) -> Held<'_> {
        let own: usize = frame.planes().map(|plane| plane.data.len()).sum();
        let is_full = |bytes: &mut usize| *bytes > 0 && *bytes + own > self.most;
        let waited = self.room.wait_while(self.lock(), is_full);
        *waited.unwrap_or_else(|poisoned| poisoned.into_inner()) += own;
        Held { of: self, bytes: own }
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.bytes.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.of.lock() -= self.bytes;
        self.of.room.notify_one();
    }
}
