//! Plans the cheapest decode runs for a set of pictures: the samples to decode, and the decoder state to begin with.
//!
//! A [`Leg`] is one decode run: from a random access point or a checkpoint over the samples that its targets need, in
//! decode order. What a target needs depends on how much the codec reveals ([`Needs`]). Costs are counted in pictures.
//! Storing checkpoints and choosing threads are left to others.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Kept, State};

/// The beginning of a decode run.
#[derive(Debug, Clone)]
pub enum Base {
    /// At its first sample, a random access point, with a decoder without references.
    Entry,
    /// With this saved state.
    Checkpoint(Arc<Kept>),
}

/// One planned decode run.
#[derive(Debug, Clone)]
pub struct Leg {
    /// The initial state of the decoder.
    pub base: Base,
    /// The first sample of the state's history: that of the run, or that of the checkpoint's run.
    pub entry: u32,
    /// The samples to decode, ascending.
    pub samples: Vec<u32>,
    /// Samples that are sent without their slices, for their parameter sets; ascending, none of them in `samples`.
    pub sets: Vec<u32>,
    /// The subset of `samples` with the wanted pictures, ascending.
    pub targets: Vec<u32>,
}

impl Leg {
    /// The history of the decoder at the beginning of the run.
    pub fn state(&self) -> State {
        match &self.base {
            Base::Entry => {
                let entry = self.entry;
                State { entry, position: entry, irap: entry, is_pruned: false, tid0: entry }
            }
            Base::Checkpoint(kept) => kept.state,
        }
    }

    /// True if at least half of its pictures are wanted.
    pub fn is_dense(&self) -> bool {
        2 * self.targets.len() >= self.samples.len()
    }
}

/// The cost of restoring a checkpoint, in pictures: 15 to 200 µs where a picture takes 1 to 20 ms.
const FORK_COST: f64 = 0.1;

/// The knowledge of the samples between an entry and a target.
pub trait Needs {
    /// The samples to decode for `target` with a decoder in the state `from`, besides those in `planned`, which the
    /// same run decodes. With `None` the run begins at an entry: that of the target, if nothing is planned. Returns
    /// `None` if that is impossible, or takes more than `limit` samples.
    fn needed(&self, target: Target, from: Option<&Kept>, planned: &BTreeSet<u32>, limit: usize) -> Option<Vec<u32>>;

    /// The final samples of a run: adds samples that are needed for other reasons than references. `None` if no sample
    /// between its entry and its last target may be left out.
    fn complete(&self, leg: &Leg, planned: BTreeSet<u32>) -> Option<Vec<u32>>;

    /// Prepares for a run. True if it leaves samples out.
    fn begin(&self, _leg: &Leg) -> bool {
        false
    }

    /// True if a decoder's state can be reused after a run that left samples out.
    fn can_go_on_pruned(&self) -> bool {
        true
    }

    /// Updates `state` for a decoder that has decoded `sample`.
    fn note(&self, _state: &mut State, _sample: u32) {}

    /// True if a later picture may refer to this one. A checkpoint after an unreferenced picture holds that in vain.
    fn is_referred_to(&self, _sample: u32) -> bool {
        true
    }

    /// The samples from `first` to the last of `samples` that carry parameter sets and are not in `samples`.
    fn sets_between(&self, first: u32, samples: &[u32]) -> Vec<u32>;
}

/// A wanted picture, and the random access point from which it is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Its sample.
    pub sample: u32,
    /// The nearest random access point from which it is exact.
    pub entry: u32,
}

/// Plans decode runs for `targets` (ascending, no duplicates), with the checkpoints that `near` returns around a
/// target.
///
/// Each target either joins the run before it or begins a new one, whichever costs less. So no picture is decoded
/// outside of the union of the targets' references, and none twice that a run could share. Targets that no run can
/// reach are left out.
pub fn plan(targets: &[Target], needs: &dyn Needs, near: &dyn Fn(Target) -> Vec<Arc<Kept>>) -> Vec<Leg> {
    let mut legs: Vec<(Leg, BTreeSet<u32>)> = Vec::new();
    for &target in targets {
        let joined = legs.last().and_then(|(leg, planned)| {
            let from = match &leg.base {
                Base::Entry => None,
                Base::Checkpoint(kept) => Some(&**kept),
            };
            // A target may not be exact from an entry after its own.
            let promises = leg.entry <= target.entry;
            promises.then(|| needs.needed(target, from, planned, usize::MAX - 1)).flatten()
        });
        let limit = joined.as_ref().map_or(usize::MAX - 1, Vec::len);
        match (fresh(target, needs, near, limit), joined) {
            (Some((cost, base, samples)), joined) if joined.as_ref().is_none_or(|it| cost < it.len() as f64) => {
                let entry = match &base {
                    Base::Entry => target.entry,
                    Base::Checkpoint(kept) => kept.state.entry,
                };
                let leg = Leg { base, entry, samples: Vec::new(), sets: Vec::new(), targets: vec![target.sample] };
                legs.push((leg, samples.into_iter().collect()));
            }
            (_, Some(samples)) => {
                let (leg, planned) = legs.last_mut().expect("joined");
                planned.extend(samples);
                leg.targets.push(target.sample);
            }
            (_, None) => {}
        }
    }
    let finish = |(leg, planned): (Leg, BTreeSet<u32>)| {
        let last = planned.last().copied()?;
        let (first, samples) = match &leg.base {
            Base::Entry => {
                let all = || (leg.entry..=last).collect();
                (leg.entry, needs.complete(&leg, planned).unwrap_or_else(all))
            }
            Base::Checkpoint(kept) => (kept.state.position + 1, needs.complete(&leg, planned)?),
        };
        let sets = needs.sets_between(first, &samples);
        Some(Leg { samples, sets, ..leg })
    };
    legs.into_iter().filter_map(finish).collect()
}

/// The cheapest beginning for a single target, with its cost and samples: a checkpoint, or its entry.
fn fresh(
    target: Target,
    needs: &dyn Needs,
    near: &dyn Fn(Target) -> Vec<Arc<Kept>>,
    limit: usize,
) -> Option<(f64, Base, Vec<u32>)> {
    let none = BTreeSet::new();
    let mut best: Option<(f64, Base, Vec<u32>)> = None;
    for kept in near(target) {
        if kept.state.entry > target.entry {
            continue;
        }
        let limit = best.as_ref().map_or(limit, |(_, _, samples)| samples.len());
        let Some(samples) = needs.needed(target, Some(&kept), &none, limit) else { continue };
        let cost = samples.len() as f64 + FORK_COST;
        if best.as_ref().is_none_or(|(lowest, ..)| cost < *lowest) {
            best = Some((cost, Base::Checkpoint(kept), samples));
        }
    }
    let limit = best.as_ref().map_or(limit, |(_, _, samples)| samples.len());
    if let Some(samples) = needs.needed(target, None, &none, limit) {
        let cost = samples.len() as f64;
        if best.as_ref().is_none_or(|(lowest, ..)| cost < *lowest) {
            best = Some((cost, Base::Entry, samples));
        }
    }
    best
}
