//! Counts the work of an engine.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The work of an engine so far. The counts never decrease.
#[derive(Debug, Default)]
pub struct DecodeCounters {
    decoded: AtomicU64,
    forks: AtomicU64,
    checkpoints: AtomicU64,
    device_frames: AtomicU64,
}

/// A reading of [`DecodeCounters`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecodeCounts {
    /// Samples that were decoded with their slices.
    pub decoded_pictures: u64,
    /// Decode runs that began at a checkpoint.
    pub forks: u64,
    /// Checkpoints that were saved.
    pub checkpoints: u64,
    /// Requested frames that a GPU has decoded.
    pub device_frames: u64,
}

impl DecodeCounters {
    pub(super) fn decoded(&self, pictures: u64) {
        self.decoded.fetch_add(pictures, Relaxed);
    }

    pub(super) fn fork(&self) {
        self.forks.fetch_add(1, Relaxed);
    }

    pub(super) fn checkpoint(&self) {
        self.checkpoints.fetch_add(1, Relaxed);
    }

    /// Counts a requested frame that a GPU has decoded.
    pub(crate) fn device_frame(&self) {
        self.device_frames.fetch_add(1, Relaxed);
    }

    /// The current counts.
    pub fn now(&self) -> DecodeCounts {
        DecodeCounts {
            decoded_pictures: self.decoded.load(Relaxed),
            forks: self.forks.load(Relaxed),
            checkpoints: self.checkpoints.load(Relaxed),
            device_frames: self.device_frames.load(Relaxed),
        }
    }
}
