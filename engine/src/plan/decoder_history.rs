//! The planner's view of a saved decoder state: its position, and the pictures that it holds. Storing such states
//! within a memory budget is left to [`decode::checkpoints`](crate::decode::checkpoints).

use ffi::{Checkpoint, CheckpointPicture};

/// The history of a decoder: the part of its state that the choice of later samples depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderHistory {
    /// First sample of its decode run.
    pub start: u32,
    /// The last sample that was decoded.
    pub position: u32,
    /// H.265: the last IRAP that was decoded.
    pub irap: u32,
    /// Samples of the run were left out: the decoder lacks their pictures.
    pub is_pruned: bool,
    /// H.265: the sample of prevTid0Pic, from which the next picture order count is derived (8.3.1).
    pub tid0: u32,
}

/// A checkpoint with the facts that the planner needs.
#[derive(Debug)]
pub struct StoredCheckpoint {
    /// The history of the decoder.
    pub state: DecoderHistory,
    /// The samples of the pictures that it holds, ascending.
    pub samples: Box<[u32]>,
    checkpoint: Checkpoint,
    pictures: Box<[CheckpointPicture]>,
}

impl StoredCheckpoint {
    /// A checkpoint of a decoder with the history `state`. It holds the pictures of `samples` (ascending); `checkpoint`
    /// has the decoder's own state.
    pub fn new(
        state: DecoderHistory,
        samples: Box<[u32]>,
        checkpoint: Checkpoint,
        pictures: Box<[CheckpointPicture]>,
    ) -> StoredCheckpoint {
        StoredCheckpoint { state, samples, checkpoint, pictures }
    }

    /// The pictures that it holds.
    pub fn pictures(&self) -> &[CheckpointPicture] {
        &self.pictures
    }

    /// The saved state of the decoder, for reuse of its memory.
    pub fn into_checkpoint(self) -> Checkpoint {
        self.checkpoint
    }

    /// The saved state of the decoder, to restore it.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// True if it holds the picture of a sample.
    pub fn holds(&self, sample: u32) -> bool {
        self.samples.binary_search(&sample).is_ok()
    }
}
