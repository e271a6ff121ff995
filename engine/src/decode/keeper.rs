//! Where a planned decode run leaves checkpoints, and how far apart.

use ffi::Decoder;

use super::checkpoints::Store;
use super::counters::Counters;
use crate::plan::State;
use crate::plan::route::{Leg, Needs};

/// A run of so many pictures, and of twice, three and four times as many, leaves its checkpoints so many times further apart:
/// most of what it decodes is not asked for again, and to keep a picture costs a third of decoding it, in fresh memory.
const LONG_RUN: usize = 32;

/// Where most pictures of a long run are wanted, that one of the others is asked for soon is unlikely. So checkpoints are at
/// least so far apart there.
const DENSE_SPACING: u32 = 32;

/// Where a run leaves checkpoints, and how close.
pub struct Keeper<'a> {
    /// Where they go.
    pub store: &'a Store,
    /// The number of the video in there.
    pub video: u64,
    /// Pictures from one to the next.
    pub spacing: u32,
    /// What is known of the samples.
    pub needs: &'a dyn Needs,
}

impl Keeper<'_> {
    /// Keeps the decoder's state just behind `state.position`.
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

    /// Whether a checkpoint should be left behind `sample`, `since` pictures after the last one.
    pub(super) fn is_due(&self, leg: &Leg, sample: u32, since: u32) -> bool {
        // What the first run through a long GOP has left sparsely, those after it make denser where it is wanted.
        let spacing = spacing_of(leg, self.spacing);
        since >= spacing.saturating_mul(2) || (since >= spacing && self.needs.is_referred_to(sample))
    }
}

/// Pictures from one checkpoint of a run to the next.
fn spacing_of(leg: &Leg, spacing: u32) -> u32 {
    let spacing = spacing.saturating_mul((leg.samples.len() / LONG_RUN).clamp(1, 4) as u32);
    if leg.is_dense() && leg.samples.len() > LONG_RUN { spacing.max(DENSE_SPACING) } else { spacing }
}
