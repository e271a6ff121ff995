//! Checkpoints of decoders, within a budget of bytes, shared by all threads of an engine.
//!
//! A decode run through a GOP leaves a checkpoint every few pictures; a later request for a frame of that GOP begins at
//! the nearest one. Pictures are shared by reference count: one that ten checkpoints hold is counted once. When the
//! budget is used up, the checkpoints go first that save the least work for the bytes that only they hold. Which targets
//! a checkpoint can serve is left to the planner.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use ffi::{Checkpoint, Frame, HeldPicture};

use crate::plan::{Kept, State};

/// A picture, counted for all checkpoints that hold it.
#[derive(Debug)]
struct Shared {
    holders: u32,
    bytes: u64,
}

#[derive(Debug)]
struct Slot {
    kept: Arc<Kept>,
    /// The clock at its last use.
    used: u64,
    /// It marks the end of a run, not a regular position: the next run from there may replace it.
    is_end: bool,
}

#[derive(Debug, Default)]
struct OfVideo {
    slots: BTreeMap<u32, Slot>,
    /// For each sample, the positions of the checkpoints that can show its picture.
    shown_by: HashMap<u32, Vec<u32>>,
}

#[derive(Debug, Default)]
struct Inner {
    videos: HashMap<u64, OfVideo>,
    pictures: HashMap<u64, Shared>,
    bytes: u64,
    count: usize,
    clock: u64,
    spares: Vec<Checkpoint>,
}

/// The contents of a store, for reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Number of checkpoints.
    pub checkpoints: usize,
    /// Distinct pictures that they hold.
    pub pictures: usize,
    /// Bytes of pictures and states.
    pub bytes: u64,
}

/// The checkpoints of an engine.
#[derive(Debug)]
pub struct Store {
    inner: Mutex<Inner>,
    budget: u64,
}

/// Bytes of a checkpoint besides its pictures: a codec context with its private part, never opened.
const OWN_BYTES: u64 = 96 << 10;
/// After this many uses of other checkpoints, an unused one counts half.
const HALF_LIFE: u64 = 256;
/// Empty checkpoints that are kept for reuse.
const SPARES: usize = 8;

impl Store {
    /// A store for up to `budget` bytes; it stores nothing with 0.
    pub fn new(budget: u64) -> Store {
        Store { inner: Mutex::default(), budget }
    }

    /// The budget in bytes.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// True if the store can hold anything at all.
    pub fn is_open(&self) -> bool {
        self.budget > 0
    }

    /// The checkpoints of a video with positions in `range`, ascending.
    pub fn within(&self, video: u64, range: std::ops::RangeInclusive<u32>) -> Vec<Arc<Kept>> {
        let inner = self.lock();
        let Some(of_video) = inner.videos.get(&video).filter(|_| range.start() <= range.end()) else {
            return Vec::new();
        };
        of_video.slots.range(range).map(|(_, slot)| Arc::clone(&slot.kept)).collect()
    }

    /// The picture of a sample, if a checkpoint holds it.
    pub fn picture(&self, video: u64, sample: u32) -> Option<Frame> {
        let kept = {
            let mut inner = self.lock();
            inner.clock += 1;
            let clock = inner.clock;
            let of_video = inner.videos.get_mut(&video)?;
            let position = *of_video.shown_by.get(&sample)?.first()?;
            let slot = of_video.slots.get_mut(&position)?;
            slot.used = clock;
            Arc::clone(&slot.kept)
        };
        kept.checkpoint().picture(sample)
    }

    /// Records the use of a checkpoint. If it marks the end of an earlier run and the new run `goes_on` past it, it is
    /// removed: the new run leaves one at its own end.
    pub fn used(&self, video: u64, position: u32, goes_on: bool) {
        let mut inner = self.lock();
        inner.clock += 1;
        let clock = inner.clock;
        let Some(slot) = inner.videos.get_mut(&video).and_then(|of_video| of_video.slots.get_mut(&position)) else {
            return;
        };
        slot.used = clock;
        if slot.is_end && goes_on {
            let gone = inner.remove(video, position);
            inner.spare(gone);
        }
    }

    /// True if there is a checkpoint at this position that is at least as useful.
    pub fn has(&self, video: u64, state: &State) -> bool {
        let inner = self.lock();
        let there = inner.videos.get(&video).and_then(|of_video| of_video.slots.get(&state.position));
        there.is_some_and(|slot| state.is_pruned || !slot.kept.state.is_pruned)
    }

    /// An empty checkpoint for reuse.
    pub fn take_spare(&self) -> Option<Checkpoint> {
        self.lock().spares.pop()
    }

    /// Stores a checkpoint, and evicts others until all fit into the budget. An existing one at the same position
    /// stays, unless samples were left out for it alone.
    pub fn keep(&self, video: u64, state: State, checkpoint: Checkpoint, is_end: bool) {
        let pictures: Box<[HeldPicture]> = checkpoint.pictures().into();
        let mut held: Vec<u32> = pictures.iter().filter_map(|picture| picture.tag).collect();
        held.sort_unstable();
        held.dedup();
        let kept = Kept::new(state, held.into(), checkpoint, pictures);
        let mut gone = Vec::new();
        let mut inner = self.lock();
        let there = inner.videos.get(&video).and_then(|of_video| of_video.slots.get(&state.position));
        match there.map(|slot| slot.kept.state.is_pruned) {
            // A checkpoint without omitted samples serves more targets.
            Some(true) if !state.is_pruned => gone.extend(inner.remove(video, state.position)),
            Some(_) => {
                inner.spare(Some(kept.into_checkpoint()));
                return;
            }
            None => {}
        }
        inner.insert(video, kept, is_end);
        while inner.bytes > self.budget && inner.count > 0 {
            let Some((video, position)) = inner.least() else { break };
            gone.extend(inner.remove(video, position));
        }
        drop(inner);
        // Releasing pictures takes time: not under the lock.
        gone.iter_mut().for_each(Checkpoint::clear);
        let mut inner = self.lock();
        gone.into_iter().for_each(|checkpoint| inner.spare(Some(checkpoint)));
    }

    /// Evicts checkpoints until the rest takes no more than `bytes`.
    pub fn shrink(&self, bytes: u64) {
        let mut gone = Vec::new();
        let mut inner = self.lock();
        while inner.bytes > bytes && inner.count > 0 {
            let Some((video, position)) = inner.least() else { break };
            gone.extend(inner.remove(video, position));
        }
        inner.spares.clear();
    }

    /// Removes all checkpoints of a closed video.
    pub fn forget(&self, video: u64) {
        let mut inner = self.lock();
        let positions: Vec<u32> =
            inner.videos.get(&video).map(|of_video| of_video.slots.keys().copied().collect()).unwrap_or_default();
        let gone: Vec<_> = positions.into_iter().map(|position| inner.remove(video, position)).collect();
        inner.videos.remove(&video);
        drop(inner);
        drop(gone);
    }

    /// The contents of the store.
    pub fn held(&self) -> Held {
        let inner = self.lock();
        Held { checkpoints: inner.count, pictures: inner.pictures.len(), bytes: inner.bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    fn insert(&mut self, video: u64, kept: Kept, is_end: bool) {
        for picture in kept.pictures() {
            let shared = self.pictures.entry(picture.identity).or_insert(Shared { holders: 0, bytes: picture.bytes });
            shared.holders += 1;
            if shared.holders == 1 {
                self.bytes += shared.bytes;
            }
        }
        self.bytes += OWN_BYTES;
        self.count += 1;
        self.clock += 1;
        let position = kept.state.position;
        let of_video = self.videos.entry(video).or_default();
        for sample in shown(&kept) {
            of_video.shown_by.entry(sample).or_default().push(position);
        }
        of_video.slots.insert(position, Slot { kept: Arc::new(kept), used: self.clock, is_end });
    }

    fn remove(&mut self, video: u64, position: u32) -> Option<Checkpoint> {
        let of_video = self.videos.get_mut(&video)?;
        let slot = of_video.slots.remove(&position)?;
        for sample in shown(&slot.kept) {
            if let Some(positions) = of_video.shown_by.get_mut(&sample) {
                positions.retain(|&other| other != position);
                if positions.is_empty() {
                    of_video.shown_by.remove(&sample);
                }
            }
        }
        for picture in slot.kept.pictures() {
            let Some(shared) = self.pictures.get_mut(&picture.identity) else { continue };
            shared.holders -= 1;
            if shared.holders == 0 {
                self.bytes -= shared.bytes;
                self.pictures.remove(&picture.identity);
            }
        }
        self.bytes -= OWN_BYTES;
        self.count -= 1;
        // A run may be restoring it: then it is freed after that.
        Arc::try_unwrap(slot.kept).ok().map(Kept::into_checkpoint)
    }

    fn spare(&mut self, checkpoint: Option<Checkpoint>) {
        if let Some(mut checkpoint) = checkpoint
            && self.spares.len() < SPARES
        {
            checkpoint.clear();
            self.spares.push(checkpoint);
        }
    }

    /// The checkpoint that saves the least. Without it, targets up to the next checkpoint begin at the one before: the
    /// product of both distances is the work that it saves over all of them.
    fn least(&self) -> Option<(u64, u32)> {
        let mut least: Option<(f64, u64, u32)> = None;
        for (&video, of_video) in &self.videos {
            let mut before = None;
            let mut slots = of_video.slots.iter().peekable();
            while let Some((&position, slot)) = slots.next() {
                let entry = slot.kept.state.entry;
                let from = before.map_or(entry, |before: u32| before.max(entry));
                let until = slots.peek().map_or(position + 32, |(next, _)| (**next).min(position + 256));
                before = Some(position);
                let saved = f64::from(position.saturating_sub(from) + 1) * f64::from(until - position);
                let age = (self.clock - slot.used) as f64 / HALF_LIFE as f64;
                let score = saved * (-age).exp2() / self.own_bytes(&slot.kept) as f64;
                if least.is_none_or(|(lowest, ..)| score < lowest) {
                    least = Some((score, video, position));
                }
            }
        }
        least.map(|(_, video, position)| (video, position))
    }

    /// The bytes that an eviction frees.
    fn own_bytes(&self, kept: &Kept) -> u64 {
        let alone = |picture: &&HeldPicture| self.pictures.get(&picture.identity).is_some_and(|it| it.holders == 1);
        OWN_BYTES + kept.pictures().iter().filter(alone).map(|picture| picture.bytes).sum::<u64>()
    }
}

/// The samples of the whole pictures that a checkpoint holds.
fn shown(kept: &Kept) -> impl Iterator<Item = u32> + '_ {
    kept.pictures().iter().filter(|picture| picture.is_whole).filter_map(|picture| picture.tag)
}
