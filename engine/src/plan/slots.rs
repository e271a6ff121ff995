//! AV1 and VP9: the samples that each sample of a GOP needs, learned in decode order as far as requested.
//!
//! Reading the headers is left to `bitstream::av1_refs` and `vp9_refs`, which also say why leaving out other samples is
//! exact.

use std::collections::HashMap;
use std::sync::Arc;

use super::{DecoderHistory, Planner, StoredCheckpoint};
use crate::bitstream::references::{SampleReferences, needed, needed_after};
use crate::bitstream::{Codec, av1_refs, vp9_refs};
use crate::container::{ReferenceTable, Track};
use crate::source::Source;
use crate::sync::unmodelled::{Mutex, MutexGuard};

/// Approximate number of samples in the cache. Beyond it the cache is emptied.
const LIMIT: usize = 1 << 18;

/// The references of the samples from a random access point on.
#[derive(Debug, Clone)]
pub struct Slots {
    first: u32,
    units: Arc<Vec<Option<SampleReferences>>>,
    first_loss: Option<u32>,
}

impl Slots {
    /// True if the samples between the random access point and `target` indicate that others are missing.
    pub fn follows_loss(&self, target: u32) -> bool {
        self.first_loss.is_some_and(|first| first <= target)
    }

    /// The samples that must be decoded for `target`, ascending, itself the last: all from the random access point on if
    /// its references are unknown. `None` if it shows nothing.
    pub fn needed(&self, target: u32) -> Option<Vec<u32>> {
        if !self.may_show(target) {
            return None;
        }
        if self.is_unread() { Some((self.first..=target).collect()) } else { needed(self.first, &self.units, target) }
    }

    /// AV1: the same after a checkpoint. `None` also for a target that the checkpoint is behind, and if it lacks a
    /// reference.
    pub fn needed_after(&self, target: u32, checkpoint: &StoredCheckpoint) -> Option<Vec<u32>> {
        if !self.may_show(target) {
            return None;
        }
        let DecoderHistory { position, is_pruned, .. } = checkpoint.state;
        if self.is_unread() {
            return (!is_pruned && position < target).then(|| (position + 1..=target).collect());
        }
        let holds = |sample: u32| !is_pruned || checkpoint.holds(sample);
        needed_after(self.first, &self.units, target, position, holds).filter(|_| position < target)
    }

    /// True if not even the random access point is known, as in AV1 with spatial layers.
    fn is_unread(&self) -> bool {
        self.units.first().is_none_or(Option::is_none)
    }

    fn may_show(&self, target: u32) -> bool {
        self.unit(target).is_none_or(|unit| unit.shows)
    }

    /// True if later samples may refer to this one, as far as is known.
    pub fn is_referred_to(&self, sample: u32) -> bool {
        self.unit(sample).is_none_or(|unit| unit.refreshes)
    }

    fn unit(&self, sample: u32) -> Option<&SampleReferences> {
        self.units.get(usize::try_from(sample.checked_sub(self.first)?).ok()?)?.as_ref()
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum SlotTracker {
    Av1(av1_refs::Av1Tracker),
    Vp9(vp9_refs::Vp9Tracker),
}

#[derive(Debug)]
struct SlotRun {
    tracker: SlotTracker,
    /// Samples that the tracker has read; the references of an index file are not among them.
    tracked: u32,
    units: Arc<Vec<Option<SampleReferences>>>,
    /// The first sample that indicates missing samples before it.
    first_loss: Option<u32>,
}

/// The known samples of a track. Runs are locked one by one: learning reads samples.
#[derive(Debug, Default)]
pub(super) struct SlotCache(Mutex<SlotRuns>);

/// The runs of a track, by the random access point from which they were learned.
#[derive(Debug, Default)]
struct SlotRuns {
    by_first: HashMap<u32, Arc<Mutex<SlotRun>>>,
    /// Samples in the runs, counted when they were requested.
    samples: usize,
}

impl SlotCache {
    /// The samples from the random access point `first` to at least `last`. `None` if a sample cannot be read.
    pub(super) fn run(
        &self,
        planner: &Planner,
        track: &Track,
        source: &dyn Source,
        first: u32,
        last: u32,
    ) -> Option<Slots> {
        let indexed = match planner.references(track).map(|indexed| &indexed.table) {
            Some(ReferenceTable::Runs(units)) => Some(units),
            _ => None,
        };
        let run = lock(&self.0).run(planner, track, first);
        let mut run = lock(&run);
        if indexed.is_none() {
            track.will_need(source, first + run.tracked..=last);
        }
        while first + (run.units.len() as u32) <= last {
            let sample = first + run.units.len() as u32;
            let unit = match indexed.and_then(|indexed| indexed.unit(first, sample)) {
                Some(unit) => unit,
                None => run.learn_to(track, source, first, sample)?,
            };
            Arc::make_mut(&mut run.units).push(unit);
        }
        Some(Slots { first, units: Arc::clone(&run.units), first_loss: run.first_loss })
    }
}

impl SlotCache {
    /// True if all samples from the random access point `first` to `last` are known.
    pub(super) fn knows(&self, first: u32, last: u32) -> bool {
        let Some(run) = lock(&self.0).by_first.get(&first).cloned() else { return false };
        // Another task is learning the run: its bytes are already in flight.
        let Ok(run) = run.try_lock() else { return false };
        u64::from(last - first) < run.units.len() as u64
    }
}

impl SlotRuns {
    fn run(&mut self, planner: &Planner, track: &Track, first: u32) -> Arc<Mutex<SlotRun>> {
        if let Some(run) = self.by_first.get(&first) {
            return Arc::clone(run);
        }
        if self.samples > LIMIT {
            *self = SlotRuns::default();
        }
        self.samples += planner.gop_length(track, first);
        let (tracker, units) = (SlotTracker::of(track), Arc::default());
        let run = Arc::new(Mutex::new(SlotRun { tracker, tracked: 0, units, first_loss: None }));
        Arc::clone(self.by_first.entry(first).or_insert(run))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl SlotRun {
    /// Reads the samples up to this one and returns its unit. `None` if one cannot be read.
    fn learn_to(
        &mut self,
        track: &Track,
        source: &dyn Source,
        first: u32,
        sample: u32,
    ) -> Option<Option<SampleReferences>> {
        let mut last = None;
        while first + self.tracked <= sample {
            let next = first + self.tracked;
            let data = track.read(source, next, false).ok()?;
            last = self.tracker.take(next, data.data());
            if self.tracker.follows_loss() {
                self.first_loss = self.first_loss.or(Some(next));
            }
            self.tracked += 1;
        }
        Some(last)
    }
}

impl SlotTracker {
    pub(super) fn of(track: &Track) -> SlotTracker {
        match track.codec {
            Codec::Vp9 => SlotTracker::Vp9(vp9_refs::Vp9Tracker::new()),
            _ => SlotTracker::Av1(av1_refs::Av1Tracker::new(track.parameters.extradata())),
        }
    }

    pub(super) fn take(&mut self, sample: u32, data: &[u8]) -> Option<SampleReferences> {
        match self {
            SlotTracker::Av1(tracker) => tracker.take(sample, data),
            SlotTracker::Vp9(tracker) => tracker.take(sample, data),
        }
    }

    /// See [`av1_refs::Av1Tracker::follows_loss`]. VP9 has no order hints that indicate losses.
    pub(super) fn follows_loss(&self) -> bool {
        match self {
            SlotTracker::Av1(tracker) => tracker.follows_loss(),
            SlotTracker::Vp9(_) => false,
        }
    }
}
