//! Limits the bytes of decoded pictures between the decoder and the threads that encode them.

use std::sync::{Condvar, Mutex, MutexGuard};

use bucket_streamer::VideoFrame;

/// The pictures in flight.
pub(crate) struct PicturesInFlight {
    bytes: Mutex<usize>,
    room: Condvar,
    most: usize,
}

/// A picture in flight, until dropped.
pub(crate) struct InFlightPicture<'a> {
    limit: &'a PicturesInFlight,
    bytes: usize,
}

impl PicturesInFlight {
    /// Up to `most` bytes, or one picture of any size.
    pub(crate) fn new(most: u64) -> PicturesInFlight {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        PicturesInFlight { bytes: Mutex::new(0), room: Condvar::new(), most }
    }

    /// Waits until there is room for a picture.
    pub(crate) fn reserve(&self, frame: &VideoFrame) -> InFlightPicture<'_> {
        let own: usize = frame.planes().map(|plane| plane.data.len()).sum();
        let is_full = |bytes: &mut usize| *bytes > 0 && *bytes + own > self.most;
        let waited = self.room.wait_while(self.lock(), is_full);
        *waited.unwrap_or_else(|poisoned| poisoned.into_inner()) += own;
        InFlightPicture { limit: self, bytes: own }
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.bytes.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for InFlightPicture<'_> {
    fn drop(&mut self) {
        *self.limit.lock() -= self.bytes;
        self.limit.room.notify_one();
    }
}
