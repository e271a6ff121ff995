//! The knowledge of a track's samples, as the planning of decode runs asks for it.
//!
//! In H.265 the reference graph has the references of each picture. A decoder in any state that holds them can decode
//! it, whichever pictures it decoded before: it carries over nothing but what the graph and picture order counts
//! describe. In AV1 and VP9 a run from an entry takes the samples that the target needs. In H.264 a run takes all
//! samples in order, except those without references to them; and in streams that are not understood, all samples.
//! Learning the references is left to [`References`].

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::route::{Base, Leg, Needs, Target};
use super::{Kept, Pictures, Planner, References, State, Structure};
use crate::bitstream::Codec;
use crate::bitstream::hevc_slice::Kind;
use crate::container::Track;
use crate::source::Source;

/// A track and its known references, for one plan.
pub struct Known<'a> {
    track: &'a Track,
    source: &'a dyn Source,
    planner: &'a Planner,
    references: &'a References,
    /// The last run that was asked for: mostly the next question is about it too.
    run: RefCell<Option<(u32, u32, Structure)>>,
}

impl<'a> Known<'a> {
    /// `planner` and `references` must be those of `track`.
    pub fn new(
        track: &'a Track,
        source: &'a dyn Source,
        planner: &'a Planner,
        references: &'a References,
    ) -> Known<'a> {
        Known { track, source, planner, references, run: RefCell::default() }
    }

    /// The structure of the samples from `first` to at least `last`.
    fn structure(&self, first: u32, last: u32) -> Structure {
        let mut run = self.run.borrow_mut();
        match &*run {
            Some((from, to, structure)) if *from == first && last <= *to => structure.clone(),
            _ => {
                let structure = self.references.structure(self.planner, self.track, self.source, first, last);
                *run = Some((first, last, structure.clone()));
                structure
            }
        }
    }

    /// True if the samples up to a target indicate that others are missing, which it may need.
    pub fn follows_loss(&self, target: Target) -> bool {
        match self.structure(target.entry, target.sample) {
            Structure::Slots(slots) => slots.follows_loss(target.sample),
            _ => false,
        }
    }

    fn is_hevc(&self) -> bool {
        self.track.codec == Codec::Hevc
    }

    fn graph(&self, first: u32, last: u32) -> Option<Pictures> {
        match self.structure(first, last) {
            Structure::Graph(pictures) => Some(pictures),
            _ => None,
        }
    }

    /// True if a sequential decode shows the target's picture, as far as is known. A checkpoint may hold a picture that
    /// it does not show.
    pub fn is_shown(&self, target: Target) -> bool {
        match self.structure(target.entry, target.sample) {
            Structure::Graph(pictures) => {
                pictures.get(target.sample).is_some_and(|it| it.is_output) && !pictures.is_skipped(target.sample)
            }
            _ => !self.is_hevc(),
        }
    }

    /// Samples in any order, only the target's references.
    fn by_graph(
        &self,
        pictures: &Pictures,
        target: Target,
        from: Option<&Kept>,
        planned: &BTreeSet<u32>,
        limit: usize,
    ) -> Option<Vec<u32>> {
        let wanted = pictures.get(target.sample)?;
        if !wanted.is_output || pictures.is_skipped(target.sample) {
            return None;
        }
        let is_there = |sample: u32| planned.contains(&sample) || from.is_some_and(|kept| kept.holds(sample));
        let mut needed = BTreeSet::new();
        let mut open = vec![target.sample];
        while let Some(sample) = open.pop() {
            if is_there(sample) || !needed.insert(sample) {
                continue;
            }
            if needed.len() > limit {
                return None;
            }
            let picture = pictures.get(sample)?;
            open.extend(&picture.refs);
            match from {
                // The decoder might skip a picture of an earlier IRAP than its last one.
                Some(kept) if picture.irap < kept.state.irap => return None,
                Some(kept) if picture.irap == kept.state.irap => {}
                // A RASL picture is decoded only if its IRAP was not the beginning.
                _ if picture.kind == Kind::Rasl => open.push(picture.irap),
                _ => {}
            }
        }
        let needed: Vec<u32> = needed.into_iter().collect();
        if let Some(kept) = from {
            let all: Vec<u32> =
                planned.iter().copied().chain(needed.iter().copied()).collect::<BTreeSet<_>>().into_iter().collect();
            let goes_back = all.first().is_some_and(|&first| first <= kept.state.position);
            if pictures.misplaced_after(kept.state.tid0, &all).is_some() || (goes_back && self.has_sets(pictures)) {
                return None;
            }
            // A decoded picture releases all pictures that its reference picture set lacks: those behind it.
            let is_held_later = |of: &u32| all.first() < Some(of) && all.binary_search(of).is_err();
            if goes_back
                && all.iter().any(|&sample| pictures.get(sample).is_none_or(|it| it.refs.iter().any(is_held_later)))
            {
                return None;
            }
        }
        Some(needed)
    }

    /// True if there are parameter sets after the first sample: then the order of samples matters.
    fn has_sets(&self, pictures: &Pictures) -> bool {
        (pictures.first() + 1..=pictures.last()).any(|sample| pictures.get(sample).is_none_or(|it| it.has_sets))
    }

    /// Samples in order, without those that can be left out.
    fn in_order(
        &self,
        can_be_left_out: impl Fn(u32) -> bool,
        target: Target,
        from: Option<&Kept>,
        planned: &BTreeSet<u32>,
        limit: usize,
    ) -> Option<Vec<u32>> {
        let last = self.planner.last_for(self.track, self.source, target.sample);
        let done = planned.last().copied().or(from.map(|kept| kept.state.position));
        let first = match done {
            Some(done) if done >= target.sample => return None,
            Some(done) => done + 1,
            None => target.entry,
        };
        let needed = (first..=last).filter(|&sample| sample >= target.sample || !can_be_left_out(sample));
        let needed: Vec<u32> = needed.take(limit.saturating_add(1)).collect();
        (needed.len() <= limit).then_some(needed)
    }
}

impl Needs for Known<'_> {
    fn needed(&self, target: Target, from: Option<&Kept>, planned: &BTreeSet<u32>, limit: usize) -> Option<Vec<u32>> {
        let last = from.map_or(target.sample, |kept| kept.state.position.max(target.sample));
        match self.structure(target.entry, last) {
            Structure::Graph(pictures) => self.by_graph(&pictures, target, from, planned, limit),
            Structure::Droppable(droppable) => {
                self.in_order(|sample| droppable.is_droppable(sample), target, from, planned, limit)
            }
            Structure::Slots(slots) if from.is_none() => {
                let needed = slots.needed(target.sample)?;
                let needed: Vec<u32> = needed.into_iter().filter(|sample| !planned.contains(sample)).collect();
                (needed.len() <= limit && needed.first() >= Some(&target.entry)).then_some(needed)
            }
            // A checkpoint's state has the position only, not the list of samples that it decoded.
            Structure::Slots(_) if from.is_some_and(|kept| kept.state.is_pruned) => None,
            Structure::Slots(_) => self.in_order(|_| false, target, from, planned, limit),
            // The references may be among the samples that this run or an earlier one left out.
            Structure::Unknown
                if self.is_hevc()
                    && (from.is_some_and(|kept| kept.state.is_pruned) || (from.is_some() && !planned.is_empty())) =>
            {
                None
            }
            Structure::Unknown => self.in_order(|_| false, target, from, planned, limit),
        }
    }

    fn complete(&self, leg: &Leg, planned: BTreeSet<u32>) -> Option<Vec<u32>> {
        if let Base::Checkpoint(kept) = &leg.base {
            // The samples that `sets_between` reads.
            let (first, last) = (*planned.first()?, *planned.last()?);
            let entry = self.planner.entry_before(self.track, self.source, first.min(kept.state.position));
            let _ = self.structure(entry, last.max(kept.state.position));
            return Some(planned.into_iter().collect());
        }
        if !self.is_hevc() {
            return Some(planned.into_iter().collect());
        }
        self.graph(leg.entry, *planned.last()?)?.to_decode(&leg.targets)
    }

    fn can_go_on_pruned(&self) -> bool {
        !matches!(self.track.codec, Codec::Vp9 | Codec::Av1)
    }

    fn note(&self, state: &mut State, sample: u32) {
        let run = self.run.borrow();
        let picture = match &*run {
            Some((_, _, Structure::Graph(pictures))) => pictures.get(sample),
            _ => None,
        };
        match picture {
            Some(picture) => {
                state.irap = if picture.irap == sample { sample } else { state.irap };
                state.tid0 = if picture.is_tid0 { sample } else { state.tid0 };
            }
            // From now on the state only serves runs in order.
            None => (state.irap, state.tid0) = (u32::MAX, u32::MAX),
        }
    }

    fn is_referred_to(&self, sample: u32) -> bool {
        match &*self.run.borrow() {
            Some((_, _, Structure::Graph(pictures))) => pictures.get(sample).is_none_or(|picture| picture.is_tid0),
            Some((_, _, Structure::Droppable(droppable))) => !droppable.is_droppable(sample),
            _ => true,
        }
    }

    fn begin(&self, leg: &Leg) -> bool {
        let (Some(&first), Some(&last)) = (leg.samples.first(), leg.samples.last()) else { return false };
        let (from, last, done) = match &leg.base {
            Base::Entry => (leg.entry, last, leg.entry),
            Base::Checkpoint(kept) => {
                let entry = self.planner.entry_before(self.track, self.source, first.min(kept.state.position));
                (entry, last.max(kept.state.position), kept.state.position + 1)
            }
        };
        let _ = self.structure(from, last);
        leg.samples.len() as u32 != (last + 1).saturating_sub(done)
    }

    fn sets_between(&self, first: u32, samples: &[u32]) -> Vec<u32> {
        let Some(&last) = samples.last() else { return Vec::new() };
        match &*self.run.borrow() {
            Some((_, _, Structure::Graph(pictures))) => {
                let has_sets = |sample: &u32| pictures.get(*sample).is_some_and(|picture| picture.has_sets);
                let is_left_out = |sample: &u32| samples.binary_search(sample).is_err();
                (first..=last).filter(has_sets).filter(is_left_out).collect()
            }
            _ => Vec::new(),
        }
    }
}
