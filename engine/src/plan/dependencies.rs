//! The dependencies of a track's samples, in the form that the planning of decode runs needs.
//!
//! In H.265 the reference graph has the references of each picture. A decoder in any state that holds them can decode
//! it, whichever pictures it decoded before: it carries over nothing but what the graph and picture order counts
//! describe. In AV1 and VP9 a run from a random access point takes the samples that the target needs; in AV1 also a run
//! from a checkpoint, if it holds their references. In H.264 a run
//! takes all samples in order, except those without references to them; and in streams that cannot be parsed, all
//! samples. Learning the references is left to [`References`].

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::runs::{PlannedRun, RunStart, SampleDependencies, Target};
use super::{DecoderHistory, Pictures, Planner, References, StoredCheckpoint, Structure};
use crate::bitstream::Codec;
use crate::bitstream::hevc_slice::PictureKind;
use crate::container::Track;
use crate::source::Source;

/// The dependencies of a track's samples, for one plan. They are learned on request, which reads samples.
pub struct TrackDependencies<'a> {
    track: &'a Track,
    source: &'a dyn Source,
    planner: &'a Planner,
    references: &'a References,
    /// The last structure that was requested: most requests repeat its range.
    last_run: RefCell<Option<(u32, u32, Structure)>>,
}

impl<'a> TrackDependencies<'a> {
    /// `planner` and `references` must be those of `track`.
    pub fn new(
        track: &'a Track,
        source: &'a dyn Source,
        planner: &'a Planner,
        references: &'a References,
    ) -> TrackDependencies<'a> {
        TrackDependencies { track, source, planner, references, last_run: RefCell::default() }
    }

    /// The structure of the samples from `first` to at least `last`.
    fn structure(&self, first: u32, last: u32) -> Structure {
        let mut run = self.last_run.borrow_mut();
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
        match self.structure(target.start, target.sample) {
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
    /// a sequential decode does not show.
    pub fn is_shown(&self, target: Target) -> bool {
        match self.structure(target.start, target.sample) {
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
        from: Option<&StoredCheckpoint>,
        planned: &BTreeSet<u32>,
        limit: usize,
    ) -> Option<Vec<u32>> {
        let target_picture = pictures.get(target.sample)?;
        if !target_picture.is_output || pictures.is_skipped(target.sample) {
            return None;
        }
        let is_there =
            |sample: u32| planned.contains(&sample) || from.is_some_and(|checkpoint| checkpoint.holds(sample));
        let mut needed = BTreeSet::new();
        let mut unresolved = vec![target.sample];
        while let Some(sample) = unresolved.pop() {
            if is_there(sample) || !needed.insert(sample) {
                continue;
            }
            if needed.len() > limit {
                return None;
            }
            let picture = pictures.get(sample)?;
            unresolved.extend(&picture.refs);
            match from {
                // The decoder might skip a picture of an earlier IRAP than its last one.
                Some(checkpoint) if picture.irap < checkpoint.state.irap => return None,
                Some(checkpoint) if picture.irap == checkpoint.state.irap => {}
                // A RASL picture is decoded only if its IRAP was not the beginning.
                _ if picture.kind == PictureKind::Rasl => unresolved.push(picture.irap),
                _ => {}
            }
        }
        let needed: Vec<u32> = needed.into_iter().collect();
        if let Some(checkpoint) = from {
            let all: Vec<u32> =
                planned.iter().copied().chain(needed.iter().copied()).collect::<BTreeSet<_>>().into_iter().collect();
            let goes_back = all.first().is_some_and(|&first| first <= checkpoint.state.position);
            if pictures.misplaced_after(checkpoint.state.tid0, &all).is_some() || (goes_back && self.has_sets(pictures))
            {
                return None;
            }
            // A decoded picture releases all pictures that its reference picture set lacks: those after it in decode
            // order.
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
        from: Option<&StoredCheckpoint>,
        planned: &BTreeSet<u32>,
        limit: usize,
    ) -> Option<Vec<u32>> {
        let last = self.planner.last_for(self.track, self.source, target.sample);
        let done = planned.last().copied().or(from.map(|checkpoint| checkpoint.state.position));
        let first = match done {
            Some(done) if done >= target.sample => return None,
            Some(done) => done + 1,
            None => target.start,
        };
        let needed = (first..=last).filter(|&sample| sample >= target.sample || !can_be_left_out(sample));
        let needed: Vec<u32> = needed.take(limit.saturating_add(1)).collect();
        (needed.len() <= limit).then_some(needed)
    }
}

impl SampleDependencies for TrackDependencies<'_> {
    fn needed(
        &self,
        target: Target,
        from: Option<&StoredCheckpoint>,
        planned: &BTreeSet<u32>,
        limit: usize,
    ) -> Option<Vec<u32>> {
        let last = from.map_or(target.sample, |checkpoint| checkpoint.state.position.max(target.sample));
        match self.structure(target.start, last) {
            Structure::Graph(pictures) => self.by_graph(&pictures, target, from, planned, limit),
            Structure::Droppable(droppable) => {
                self.in_order(|sample| droppable.is_droppable(sample), target, from, planned, limit)
            }
            Structure::Slots(slots) if from.is_none() => {
                let needed = slots.needed(target.sample)?;
                let needed: Vec<u32> = needed.into_iter().filter(|sample| !planned.contains(sample)).collect();
                (needed.len() <= limit && needed.first() >= Some(&target.start)).then_some(needed)
            }
            Structure::Slots(slots) if self.track.codec == Codec::Av1 => {
                let mut needed = slots.needed_after(target.sample, from?)?;
                needed.retain(|sample| !planned.contains(sample));
                (needed.len() <= limit).then_some(needed)
            }
            // A checkpoint's history has the position only, not the list of samples that the decoder has decoded.
            Structure::Slots(_) if from.is_some_and(|checkpoint| checkpoint.state.is_pruned) => None,
            Structure::Slots(_) => self.in_order(|_| false, target, from, planned, limit),
            // The references may be among the samples that this run or an earlier one left out.
            Structure::Unknown
                if self.is_hevc()
                    && (from.is_some_and(|checkpoint| checkpoint.state.is_pruned)
                        || (from.is_some() && !planned.is_empty())) =>
            {
                None
            }
            Structure::Unknown => self.in_order(|_| false, target, from, planned, limit),
        }
    }

    fn complete(&self, planned_run: &PlannedRun, planned: BTreeSet<u32>) -> Option<Vec<u32>> {
        if let RunStart::Checkpoint(checkpoint) = &planned_run.start {
            // The samples that `sets_between` reads.
            let (first, last) = (*planned.first()?, *planned.last()?);
            let entry = self.planner.access_point_before(self.track, self.source, first.min(checkpoint.state.position));
            let _ = self.structure(entry, last.max(checkpoint.state.position));
            return Some(planned.into_iter().collect());
        }
        if !self.is_hevc() {
            return Some(planned.into_iter().collect());
        }
        self.graph(planned_run.history_start, *planned.last()?)?.to_decode(&planned_run.targets)
    }

    fn can_continue_pruned(&self) -> bool {
        self.track.codec != Codec::Vp9
    }

    fn update_history(&self, state: &mut DecoderHistory, sample: u32) {
        let run = self.last_run.borrow();
        let picture = match &*run {
            Some((_, _, Structure::Graph(pictures))) => pictures.get(sample),
            _ => None,
        };
        match picture {
            Some(picture) => {
                state.irap = if picture.irap == sample { sample } else { state.irap };
                state.tid0 = if picture.is_tid0 { sample } else { state.tid0 };
            }
            // From now on the history only serves runs in order.
            None => (state.irap, state.tid0) = (u32::MAX, u32::MAX),
        }
    }

    fn is_referred_to(&self, sample: u32) -> bool {
        match &*self.last_run.borrow() {
            Some((_, _, Structure::Graph(pictures))) => pictures.get(sample).is_none_or(|picture| picture.is_tid0),
            Some((_, _, Structure::Droppable(droppable))) => !droppable.is_droppable(sample),
            Some((_, _, Structure::Slots(slots))) => slots.is_referred_to(sample),
            _ => true,
        }
    }

    fn begin(&self, planned_run: &PlannedRun) -> bool {
        let (Some(&first), Some(&last)) = (planned_run.samples.first(), planned_run.samples.last()) else {
            return false;
        };
        let (from, last, done) = match &planned_run.start {
            RunStart::RandomAccessPoint => (planned_run.history_start, last, planned_run.history_start),
            RunStart::Checkpoint(checkpoint) => {
                let entry =
                    self.planner.access_point_before(self.track, self.source, first.min(checkpoint.state.position));
                (entry, last.max(checkpoint.state.position), checkpoint.state.position + 1)
            }
        };
        let _ = self.structure(from, last);
        planned_run.samples.len() as u32 != (last + 1).saturating_sub(done)
    }

    fn sets_between(&self, first: u32, samples: &[u32]) -> Vec<u32> {
        let Some(&last) = samples.last() else { return Vec::new() };
        match &*self.last_run.borrow() {
            Some((_, _, Structure::Graph(pictures))) => {
                let has_sets = |sample: &u32| pictures.get(*sample).is_some_and(|picture| picture.has_sets);
                let is_left_out = |sample: &u32| samples.binary_search(sample).is_err();
                (first..=last).filter(has_sets).filter(is_left_out).collect()
            }
            _ => Vec::new(),
        }
    }
}
