//! Saves the checkpoints of a planned decode run, and decides their spacing. Storing and evicting them is left to
//! [`checkpoints`](super::checkpoints).

use ffi::Decoder;

use super::checkpoints::CheckpointStore;
use super::counters::DecodeCounters;
use crate::plan::DecoderHistory;
use crate::plan::runs::{PlannedRun, RunStart, SampleDependencies};

/// Shorter runs have their normal spacing; runs of two, three, four times as many pictures have a spacing as many times
/// larger. Most pictures of a long run are not requested again, and to save a picture costs a third of decoding it, in
/// fresh memory.
const LONG_RUN: usize = 32;

/// The largest factor of the spacing. Long runs from a random access point have it: most are the first run through
/// their GOP, and the runs that begin at their checkpoints add others near targets.
const LARGEST_FACTOR: usize = 4;

/// The least spacing in a long run of which most pictures are targets: the others are unlikely to be requested soon.
const DENSE_SPACING: u32 = 32;

/// The destination of a run's checkpoints, and their spacing.
pub struct CheckpointWriter<'a> {
    /// The store of the engine.
    pub store: &'a CheckpointStore,
    /// The number of the video in the store.
    pub video: u64,
    /// Decoded pictures between checkpoints, at least 1.
    pub spacing: u32,
    /// The dependencies of the video's samples.
    pub dependencies: &'a dyn SampleDependencies,
}

impl CheckpointWriter<'_> {
    /// Saves the decoder's state after `state.position`, unless the store has one.
    pub(super) fn save(&self, decoder: &mut Decoder, state: DecoderHistory, is_end: bool, counters: &DecodeCounters) {
        let is_useful = !state.is_pruned || self.dependencies.can_continue_pruned();
        if !self.store.is_open() || !is_useful || self.store.has(self.video, &state) {
            return;
        }
        if let Some(checkpoint) = decoder.save(state.position, self.store.take_spare()) {
            counters.checkpoint();
            self.store.insert(self.video, state, checkpoint, is_end);
        }
    }

    /// True if the run should save a checkpoint after `sample`, `since` pictures after the last one.
    pub(super) fn is_due(&self, planned_run: &PlannedRun, sample: u32, since: u32) -> bool {
        // The first run through a long GOP saves few checkpoints; later runs add more near targets.
        let spacing = spacing_of(planned_run, self.spacing);
        since >= spacing.saturating_mul(2) || (since >= spacing && self.dependencies.is_referred_to(sample))
    }
}

/// Pictures between the checkpoints of a run.
fn spacing_of(planned_run: &PlannedRun, spacing: u32) -> u32 {
    let lengths = planned_run.samples.len() / LONG_RUN;
    let is_first = matches!(planned_run.start, RunStart::RandomAccessPoint) && lengths > 0;
    let factor = if is_first { LARGEST_FACTOR } else { lengths.clamp(1, LARGEST_FACTOR) };
    let spacing = spacing.saturating_mul(factor as u32);
    if planned_run.is_dense() && planned_run.samples.len() > LONG_RUN { spacing.max(DENSE_SPACING) } else { spacing }
}
