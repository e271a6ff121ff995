//! What the planner has to know of a decoder's state that was kept: how far it had come, and which pictures it holds. Keeping
//! such states, within a budget of memory, is the decoders' business ([`decode::checkpoints`](crate::decode::checkpoints)).

use ffi::{Checkpoint, HeldPicture};

/// What the decoder had been through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// First sample of its walk.
    pub entry: u32,
    /// Sample that was decoded last.
    pub position: u32,
    /// H.265: the IRAP that was decoded last.
    pub irap: u32,
    /// Samples were left out on the way.
    pub is_pruned: bool,
    /// H.265: the picture from which the next one's POC is derived (8.3.1, prevTid0Pic).
    pub tid0: u32,
}

/// A checkpoint, and what is known of it.
#[derive(Debug)]
pub struct Kept {
    /// What the decoder had been through.
    pub state: State,
    /// The samples whose pictures it holds, ascending.
    pub held: Box<[u32]>,
    checkpoint: Checkpoint,
    pictures: Box<[HeldPicture]>,
}

impl Kept {
    /// A decoder that has been through `state` and holds the pictures of the samples `held` (ascending), `pictures` among them.
    pub fn new(state: State, held: Box<[u32]>, checkpoint: Checkpoint, pictures: Box<[HeldPicture]>) -> Kept {
        Kept { state, held, checkpoint, pictures }
    }

    /// The pictures that it holds.
    pub fn pictures(&self) -> &[HeldPicture] {
        &self.pictures
    }

    /// The decoder's state, to be reused: what was known of it is gone.
    pub fn into_checkpoint(self) -> Checkpoint {
        self.checkpoint
    }

    /// The decoder's state, to be restored.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// True if it holds the picture of a sample.
    pub fn holds(&self, sample: u32) -> bool {
        self.held.binary_search(&sample).is_ok()
    }
}
