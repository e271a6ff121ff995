//! The cheapest way to a set of pictures: which samples to decode, and from which state of a decoder on.
//!
//! A [`Leg`] is one run of a decoder: from an entry or a checkpoint over the samples that its targets need, in decode
//! order. What is needed depends on what the codec lets us know ([`Needs`]). The costs are counted in pictures. Who holds
//! the checkpoints, and threads, are left to others.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Kept, State};

/// Where a leg begins.
#[derive(Debug, Clone)]
pub enum Base {
    /// At its first sample, which is an entry, with a decoder that knows nothing.
    Entry,
    /// With this state.
    Checkpoint(Arc<Kept>),
}

/// One run of a decoder.
#[derive(Debug, Clone)]
pub struct Leg {
    /// What it begins with.
    pub base: Base,
    /// Where the state began: the leg's first sample, or that of the checkpoint.
    pub entry: u32,
    /// The samples to decode, ascending.
    pub samples: Vec<u32>,
    /// Samples that are sent without their slices, for the parameter sets in them; ascending, none of them in `samples`.
    pub sets: Vec<u32>,
    /// Those of `samples` whose pictures are wanted, ascending.
    pub targets: Vec<u32>,
}

impl Leg {
    /// What the decoder has been through where it begins.
    pub fn state(&self) -> State {
        match &self.base {
            Base::Entry => {
                let entry = self.entry;
                State { entry, position: entry, irap: entry, is_pruned: false, tid0: entry }
            }
            Base::Checkpoint(kept) => kept.state,
        }
    }

    /// Are most of its pictures wanted?
    pub fn is_dense(&self) -> bool {
        2 * self.targets.len() >= self.samples.len()
    }
}

/// What forking a checkpoint costs, in pictures: 15 to 200 µs where a picture takes 1 to 20 ms.
const FORK_COST: f64 = 0.1;

/// What is known of the samples between an entry and a target.
pub trait Needs {
    /// Samples to decode for `target` with a decoder in the state of `from` (`None`: one that begins at an entry, the
    /// target's if nothing is planned), besides those in `planned`, which are decoded in the same leg. `None` if it cannot
    /// be done from there, or not with at most `limit` samples.
    fn needed(&self, target: Target, from: Option<&Kept>, planned: &BTreeSet<u32>, limit: usize) -> Option<Vec<u32>>;

    /// A leg as it should be: samples that are needed for another reason than being referred to are added. `None` if
    /// nothing may be left out between its entry and its last target.
    fn complete(&self, leg: &Leg, planned: BTreeSet<u32>) -> Option<Vec<u32>>;

    /// A leg begins. True if it leaves samples out.
    fn begin(&self, _leg: &Leg) -> bool {
        false
    }

    /// Is a decoder's state of use whose walk has left samples out?
    fn can_go_on_pruned(&self) -> bool {
        true
    }

    /// Takes note that a decoder in `state` has decoded `sample`.
    fn note(&self, _state: &mut State, _sample: u32) {}

    /// May a later picture refer to this one? A checkpoint behind one that nothing refers to holds it for nothing.
    fn is_referred_to(&self, _sample: u32) -> bool {
        true
    }

    /// Samples from `first` to the last of `samples`, other than those, that carry parameter sets.
    fn sets_between(&self, first: u32, samples: &[u32]) -> Vec<u32>;
}

/// A wanted picture, and the entry from which it is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Its sample.
    pub sample: u32,
    /// The nearest entry that promises it.
    pub entry: u32,
}

/// Plans legs for `targets` (ascending, no duplicates) with the checkpoints that `near` knows around a target.
///
/// Each target either joins the leg before it or begins one of its own, whichever costs less; so that no picture is
/// decoded that is not in the union of the closures, and none twice that a leg could share. Targets that no leg reaches
/// are left out.
pub fn plan(targets: &[Target], needs: &dyn Needs, near: &dyn Fn(Target) -> Vec<Arc<Kept>>) -> Vec<Leg> {
    let mut legs: Vec<(Leg, BTreeSet<u32>)> = Vec::new();
    for &target in targets {
        let joined = legs.last().and_then(|(leg, planned)| {
            let from = match &leg.base {
                Base::Entry => None,
                Base::Checkpoint(kept) => Some(&**kept),
            };
            // A later entry than the target's may not promise it.
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

/// The cheapest beginning for a target alone, with its cost and samples: a checkpoint, or its entry.
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
