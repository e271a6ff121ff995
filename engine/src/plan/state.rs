//! The planner's view of a saved decoder state: its position, and the pictures that it holds. Storing such states
//! within a memory budget is left to [`decode::checkpoints`](crate::decode::checkpoints).

use ffi::{Checkpoint, HeldPicture};

/// The history of a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// First sample of its decode run.
    pub entry: u32,
    /// The last sample that was decoded.
    pub position: u32,
    /// H.265: the last IRAP that was decoded.
    pub irap: u32,
    /// Samples of the run were left out.
    pub is_pruned: bool,
    /// H.265: the sample of prevTid0Pic, from which the next picture order count is derived (8.3.1).
    pub tid0: u32,
}

/// A checkpoint with the planner's knowledge of it.
#[derive(Debug)]
pub struct Kept {
    /// The history of the decoder.
    pub state: State,
    /// The samples of the pictures that it holds, ascending.
    pub held: Box<[u32]>,
    checkpoint: Checkpoint,
    pictures: Box<[HeldPicture]>,
}

impl Kept {
    /// A checkpoint of a decoder with the history `state`. It holds the pictures of the samples `held` (ascending),
    /// `pictures` among them.
    pub fn new(state: State, held: Box<[u32]>, checkpoint: Checkpoint, pictures: Box<[HeldPicture]>) -> Kept {
        Kept { state, held, checkpoint, pictures }
    }

    /// The pictures that it holds.
    pub fn pictures(&self) -> &[HeldPicture] {
        &self.pictures
    }

    /// The decoder's state, for reuse of its memory.
    pub fn into_checkpoint(self) -> Checkpoint {
        self.checkpoint
    }

    /// The decoder's state, to restore it.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// True if it holds the picture of a sample.
    pub fn holds(&self, sample: u32) -> bool {
        self.held.binary_search(&sample).is_ok()
    }
}
