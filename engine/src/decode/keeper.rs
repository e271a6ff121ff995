//! Leaves the checkpoints of a planned decode run, and decides their spacing. Storing and evicting them is left to
//! [`checkpoints`](super::checkpoints).

use ffi::Decoder;

use super::checkpoints::Store;
use super::counters::Counters;
use crate::plan::State;
use crate::plan::route::{Leg, Needs};

/// Runs of this many pictures have their normal spacing; runs of two, three, four times as many have a spacing as many
/// times larger. Most pictures of a long run are not requested again, and to keep a picture costs a third of decoding
/// it, in fresh memory.
const LONG_RUN: usize = 32;

/// The least spacing in a long run of which most pictures are targets: the others are unlikely to be requested soon.
const DENSE_SPACING: u32 = 32;

/// Where a run leaves its checkpoints, and their spacing.
pub struct Keeper<'a> {
    /// The store.
    pub store: &'a Store,
    /// The number of the video in the store.
    pub video: u64,
    /// Pictures between checkpoints.
    pub spacing: u32,
    /// The knowledge of the samples.
    pub needs: &'a dyn Needs,
}

impl Keeper<'_> {
    /// Saves the decoder's state after `state.position`, unless the store has one.
    pub(super) fn keep(&self, decoder: &mut Decoder, state: State, is_end: bool, counters: &Counters) {
        let is_of_use = !state.is_pruned || self.needs.can_go_on_pruned();
        if !self.store.is_open() || !is_of_use || self.store.has(self.video, &state) {
            return;
        }
        if let Some(checkpoint) = decoder.save(state.position, self.store.take_spare()) {
            counters.checkpoint();
            self.store.keep(self.video, state, checkpoint, is_end);
        }
    }

    /// True if the run should leave a checkpoint after `sample`, `since` pictures after the last one.
    pub(super) fn is_due(&self, leg: &Leg, sample: u32, since: u32) -> bool {
        // The first run through a long GOP leaves few checkpoints; later runs add more where targets are.
        let spacing = spacing_of(leg, self.spacing);
        since >= spacing.saturating_mul(2) || (since >= spacing && self.needs.is_referred_to(sample))
    }
}

/// Pictures between the checkpoints of a run.
fn spacing_of(leg: &Leg, spacing: u32) -> u32 {
    let spacing = spacing.saturating_mul((leg.samples.len() / LONG_RUN).clamp(1, 4) as u32);
    if leg.is_dense() && leg.samples.len() > LONG_RUN { spacing.max(DENSE_SPACING) } else { spacing }
}
