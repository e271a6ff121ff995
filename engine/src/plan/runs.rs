//! Plans the cheapest decode runs for a set of pictures: the samples to decode, and the decoder state to begin with.
//!
//! A [`PlannedRun`] is one decode run: from a random access point or a checkpoint over the samples that its targets
//! need, in decode order. What a target needs depends on how much the codec reveals ([`SampleDependencies`]). Costs are
//! counted in pictures. Storing checkpoints is left to [`decode`](crate::decode), the number of threads to its workers.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{DecoderHistory, StoredCheckpoint};

/// The beginning of a decode run.
#[derive(Debug, Clone)]
pub enum RunStart {
    /// At its first sample, a random access point, with a decoder without reference pictures.
    RandomAccessPoint,
    /// With this saved state.
    Checkpoint(Arc<StoredCheckpoint>),
}

/// One planned decode run. Samples count from 0 in decode order. [`Video::plan`](crate::Video::plan) returns such runs,
/// where `start` is always [`RunStart::RandomAccessPoint`].
#[derive(Debug, Clone)]
pub struct PlannedRun {
    /// The initial state of the decoder.
    pub start: RunStart,
    /// The first sample of the decoder's history: that of the run, or that of the checkpoint's run.
    pub history_start: u32,
    /// The samples to decode, ascending.
    pub samples: Vec<u32>,
    /// Samples that are sent without their slices, for their parameter sets; ascending, none of them in `samples`.
    pub sets: Vec<u32>,
    /// The subset of `samples` with the pictures of targets, ascending.
    pub targets: Vec<u32>,
}

impl PlannedRun {
    /// The history of the decoder at the beginning of the run.
    pub fn state(&self) -> DecoderHistory {
        match &self.start {
            RunStart::RandomAccessPoint => {
                let first = self.history_start;
                DecoderHistory { start: first, position: first, irap: first, is_pruned: false, tid0: first }
            }
            RunStart::Checkpoint(kept) => kept.state,
        }
    }

    /// True if at least half of its pictures are targets.
    pub fn is_dense(&self) -> bool {
        2 * self.targets.len() >= self.samples.len()
    }
}

/// The cost of restoring a checkpoint, in pictures: see docs/decisions/0016-decoder-checkpoints.md.
const FORK_COST: f64 = 0.1;

/// The dependencies between the samples from a random access point to a target, as far as they are known.
pub trait SampleDependencies {
    /// The samples to decode for `target` with a decoder in the state `from`, besides those in `planned`, which the
    /// same run decodes. With `None` the run begins at a random access point: that of the target, if nothing is
    /// planned. Returns `None` if that is impossible, or takes more than `limit` samples.
    fn needed(
        &self,
        target: Target,
        from: Option<&StoredCheckpoint>,
        planned: &BTreeSet<u32>,
        limit: usize,
    ) -> Option<Vec<u32>>;

    /// The final samples of a run: adds samples that are needed for other reasons than references. `None` if no sample
    /// between its beginning and its last target may be left out.
    fn complete(&self, planned_run: &PlannedRun, planned: BTreeSet<u32>) -> Option<Vec<u32>>;

    /// Prepares for a run, before its first sample is read. True if the run leaves samples out.
    fn begin(&self, _leg: &PlannedRun) -> bool {
        false
    }

    /// True if a decoder's state can be reused after a run that left samples out.
    fn can_continue_pruned(&self) -> bool {
        true
    }

    /// Updates `state` for a decoder that has decoded `sample`, which follows `state.position`.
    fn update_history(&self, _state: &mut DecoderHistory, _sample: u32) {}

    /// True if a later picture may refer to this one. A checkpoint after an unreferenced picture holds a picture that
    /// no later picture needs.
    fn is_referred_to(&self, _sample: u32) -> bool {
        true
    }

    /// The samples from `first` to the last of `samples` that contain parameter sets and are not in `samples`.
    fn sets_between(&self, first: u32, samples: &[u32]) -> Vec<u32>;
}

/// The sample of a requested picture, and the random access point from which it is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Its sample, counted in decode order from 0.
    pub sample: u32,
    /// The nearest random access point from which it is exact.
    pub start: u32,
}

/// Plans decode runs for `targets` (ascending, no duplicates). `checkpoints_near` returns the checkpoints around a
/// target.
///
/// Each target either joins the preceding run or begins another one, whichever costs less. So no picture is decoded
/// outside of the union of the targets' references, and none twice that a run could share. Targets that no run can
/// reach are left out: the caller has to decode them over all samples ([`Planner::plan`](super::Planner::plan)).
pub fn plan(
    targets: &[Target],
    dependencies: &dyn SampleDependencies,
    checkpoints_near: &dyn Fn(Target) -> Vec<Arc<StoredCheckpoint>>,
) -> Vec<PlannedRun> {
    let mut planned_runs: Vec<(PlannedRun, BTreeSet<u32>)> = Vec::new();
    for &target in targets {
        let joined = planned_runs.last().and_then(|(planned_run, planned)| {
            let from = match &planned_run.start {
                RunStart::RandomAccessPoint => None,
                RunStart::Checkpoint(kept) => Some(&**kept),
            };
            // A target may not be exact from a random access point after its own.
            let is_reachable = planned_run.history_start <= target.start;
            is_reachable.then(|| dependencies.needed(target, from, planned, usize::MAX - 1)).flatten()
        });
        let limit = joined.as_ref().map_or(usize::MAX - 1, Vec::len);
        match (cheapest_start(target, dependencies, checkpoints_near, limit), joined) {
            (Some((cost, base, samples)), joined) if joined.as_ref().is_none_or(|it| cost < it.len() as f64) => {
                let history_start = match &base {
                    RunStart::RandomAccessPoint => target.start,
                    RunStart::Checkpoint(kept) => kept.state.start,
                };
                let planned_run = PlannedRun {
                    start: base,
                    history_start,
                    samples: Vec::new(),
                    sets: Vec::new(),
                    targets: vec![target.sample],
                };
                planned_runs.push((planned_run, samples.into_iter().collect()));
            }
            (_, Some(samples)) => {
                let (planned_run, planned) = planned_runs.last_mut().expect("joined");
                planned.extend(samples);
                planned_run.targets.push(target.sample);
            }
            (_, None) => {}
        }
    }
    let finish = |(planned_run, planned): (PlannedRun, BTreeSet<u32>)| {
        let last = planned.last().copied()?;
        let (first, samples) = match &planned_run.start {
            RunStart::RandomAccessPoint => {
                let all = || (planned_run.history_start..=last).collect();
                (planned_run.history_start, dependencies.complete(&planned_run, planned).unwrap_or_else(all))
            }
            RunStart::Checkpoint(kept) => (kept.state.position + 1, dependencies.complete(&planned_run, planned)?),
        };
        let sets = dependencies.sets_between(first, &samples);
        Some(PlannedRun { samples, sets, ..planned_run })
    };
    planned_runs.into_iter().filter_map(finish).collect()
}

/// The cheapest beginning for a single target, with its cost and samples: a checkpoint, or its random access point.
fn cheapest_start(
    target: Target,
    dependencies: &dyn SampleDependencies,
    checkpoints_near: &dyn Fn(Target) -> Vec<Arc<StoredCheckpoint>>,
    limit: usize,
) -> Option<(f64, RunStart, Vec<u32>)> {
    let none = BTreeSet::new();
    let mut best: Option<(f64, RunStart, Vec<u32>)> = None;
    for kept in checkpoints_near(target) {
        if kept.state.start > target.start {
            continue;
        }
        let limit = best.as_ref().map_or(limit, |(_, _, samples)| samples.len());
        let Some(samples) = dependencies.needed(target, Some(&kept), &none, limit) else { continue };
        let cost = samples.len() as f64 + FORK_COST;
        if best.as_ref().is_none_or(|(lowest, ..)| cost < *lowest) {
            best = Some((cost, RunStart::Checkpoint(kept), samples));
        }
    }
    let limit = best.as_ref().map_or(limit, |(_, _, samples)| samples.len());
    if let Some(samples) = dependencies.needed(target, None, &none, limit) {
        let cost = samples.len() as f64;
        if best.as_ref().is_none_or(|(lowest, ..)| cost < *lowest) {
            best = Some((cost, RunStart::RandomAccessPoint, samples));
        }
    }
    best
}
