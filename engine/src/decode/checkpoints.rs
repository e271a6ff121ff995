//! Checkpoints of decoders, within a budget of bytes, shared by all threads of an engine.
//!
//! A decode run through a GOP saves a checkpoint every few pictures; a later request for a frame of that GOP begins at
//! the nearest one. Pictures are shared by reference count: a picture that ten checkpoints hold is counted once. When
//! the budget is used up, the checkpoints that save the least work for the bytes that only they hold are evicted first.
//! The choice of checkpoints for a target is left to the planner.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ffi::{Checkpoint, CheckpointPicture, Frame};

use crate::plan::{DecoderHistory, StoredCheckpoint};
use crate::sync::unmodelled::{Mutex, MutexGuard};

/// A picture, counted for all checkpoints that hold it.
#[derive(Debug)]
struct SharedPicture {
    holders: u32,
    bytes: u64,
}

#[derive(Debug)]
struct StoreSlot {
    stored: Arc<StoredCheckpoint>,
    /// The clock at its last use.
    last_use: u64,
    /// It marks the end of a run, not a regular position: the next run from there may replace it.
    is_end: bool,
}

#[derive(Debug, Default)]
struct VideoCheckpoints {
    slots: BTreeMap<u32, StoreSlot>,
    /// For each sample, the positions of the checkpoints that can show its picture.
    shown_by: HashMap<u32, Vec<u32>>,
}

#[derive(Debug, Default)]
struct StoreInner {
    videos: HashMap<u64, VideoCheckpoints>,
    pictures: HashMap<u64, SharedPicture>,
    bytes: u64,
    count: usize,
    clock: u64,
    spares: Vec<Checkpoint>,
}

/// The contents of a store, for reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckpointUsage {
    /// Number of checkpoints.
    pub checkpoints: usize,
    /// Distinct pictures that they hold.
    pub pictures: usize,
    /// Bytes of pictures and states; a picture that several checkpoints hold is counted once.
    pub bytes: u64,
}

/// The checkpoints of an engine.
#[derive(Debug)]
pub struct CheckpointStore {
    inner: Mutex<StoreInner>,
    budget: u64,
}

/// Bytes of a checkpoint besides its pictures: a codec context with its private part, which is never opened.
const OWN_BYTES: u64 = 96 << 10;
/// After this many uses of other checkpoints, an unused one counts half.
const HALF_LIFE: u64 = 256;
/// Empty checkpoints that the store keeps for reuse.
const SPARES: usize = 8;

impl CheckpointStore {
    /// A store for up to `budget` bytes; 0: none is stored.
    pub fn new(budget: u64) -> CheckpointStore {
        CheckpointStore { inner: Mutex::default(), budget }
    }

    /// The budget in bytes; 0: none is stored.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// True if the budget is not 0.
    pub fn is_open(&self) -> bool {
        self.budget > 0
    }

    /// The checkpoints of a video with positions in `range`, ascending. The caller may use them after their eviction.
    pub fn within(&self, video: u64, range: std::ops::RangeInclusive<u32>) -> Vec<Arc<StoredCheckpoint>> {
        let inner = self.lock();
        let Some(of_video) = inner.videos.get(&video).filter(|_| range.start() <= range.end()) else {
            return Vec::new();
        };
        of_video.slots.range(range).map(|(_, slot)| Arc::clone(&slot.stored)).collect()
    }

    /// The picture of a sample, if a checkpoint holds it; no decoding is needed. Counts as a use of that checkpoint.
    pub fn picture(&self, video: u64, sample: u32) -> Option<Frame> {
        let checkpoint = {
            let mut inner = self.lock();
            inner.clock += 1;
            let clock = inner.clock;
            let of_video = inner.videos.get_mut(&video)?;
            let position = *of_video.shown_by.get(&sample)?.first()?;
            let slot = of_video.slots.get_mut(&position)?;
            slot.last_use = clock;
            Arc::clone(&slot.stored)
        };
        checkpoint.checkpoint().picture(sample)
    }

    /// Records the use of a checkpoint. If it marks the end of an earlier run and the new run `continues` past it, it
    /// is removed: the new run saves one at its own end.
    pub fn touch(&self, video: u64, position: u32, continues: bool) {
        let mut inner = self.lock();
        inner.clock += 1;
        let clock = inner.clock;
        let Some(slot) = inner.videos.get_mut(&video).and_then(|of_video| of_video.slots.get_mut(&position)) else {
            return;
        };
        slot.last_use = clock;
        if slot.is_end && continues {
            let removed = inner.remove(video, position);
            inner.recycle(removed);
        }
    }

    /// True if there is a checkpoint at this position that serves at least as many targets as one of `state` would.
    pub fn has(&self, video: u64, state: &DecoderHistory) -> bool {
        let inner = self.lock();
        let existing = inner.videos.get(&video).and_then(|of_video| of_video.slots.get(&state.position));
        existing.is_some_and(|slot| state.is_pruned || !slot.stored.state.is_pruned)
    }

    /// An empty checkpoint for reuse.
    pub fn take_spare(&self) -> Option<Checkpoint> {
        self.lock().spares.pop()
    }

    /// Stores a checkpoint, and evicts others until all fit into the budget. An existing one at the same position
    /// stays, unless its run left samples out and the new one's did not.
    pub fn insert(&self, video: u64, state: DecoderHistory, checkpoint: Checkpoint, is_end: bool) {
        let pictures: Box<[CheckpointPicture]> = checkpoint.pictures().into();
        let mut samples: Vec<u32> = pictures.iter().filter_map(|picture| picture.tag).collect();
        samples.sort_unstable();
        samples.dedup();
        let checkpoint = StoredCheckpoint::new(state, samples.into(), checkpoint, pictures);
        let mut evicted = Vec::new();
        let mut inner = self.lock();
        let existing = inner.videos.get(&video).and_then(|of_video| of_video.slots.get(&state.position));
        match existing.map(|slot| slot.stored.state.is_pruned) {
            // A checkpoint without omitted samples serves more targets.
            Some(true) if !state.is_pruned => evicted.extend(inner.remove(video, state.position)),
            Some(_) => {
                inner.recycle(Some(checkpoint.into_checkpoint()));
                return;
            }
            None => {}
        }
        inner.insert(video, checkpoint, is_end);
        while inner.bytes > self.budget && inner.count > 0 {
            let Some((video, position)) = inner.least_valuable() else { break };
            evicted.extend(inner.remove(video, position));
        }
        drop(inner);
        // Releasing pictures takes time: not under the lock.
        evicted.iter_mut().for_each(Checkpoint::clear);
        let mut inner = self.lock();
        evicted.into_iter().for_each(|checkpoint| inner.recycle(Some(checkpoint)));
    }

    /// Evicts checkpoints until the rest takes no more than `bytes`.
    pub fn shrink(&self, bytes: u64) {
        let mut evicted = Vec::new();
        let mut inner = self.lock();
        while inner.bytes > bytes && inner.count > 0 {
            let Some((video, position)) = inner.least_valuable() else { break };
            evicted.extend(inner.remove(video, position));
        }
        inner.spares.clear();
    }

    /// Removes all checkpoints of a closed video. Idempotent.
    pub fn remove_video(&self, video: u64) {
        let mut inner = self.lock();
        let positions: Vec<u32> =
            inner.videos.get(&video).map(|of_video| of_video.slots.keys().copied().collect()).unwrap_or_default();
        let removed: Vec<_> = positions.into_iter().map(|position| inner.remove(video, position)).collect();
        inner.videos.remove(&video);
        drop(inner);
        drop(removed);
    }

    /// The contents of the store.
    pub fn usage(&self) -> CheckpointUsage {
        let inner = self.lock();
        CheckpointUsage { checkpoints: inner.count, pictures: inner.pictures.len(), bytes: inner.bytes }
    }

    fn lock(&self) -> MutexGuard<'_, StoreInner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl StoreInner {
    fn insert(&mut self, video: u64, checkpoint: StoredCheckpoint, is_end: bool) {
        for picture in checkpoint.pictures() {
            let shared_picture =
                self.pictures.entry(picture.identity).or_insert(SharedPicture { holders: 0, bytes: picture.bytes });
            shared_picture.holders += 1;
            if shared_picture.holders == 1 {
                self.bytes += shared_picture.bytes;
            }
        }
        self.bytes += OWN_BYTES;
        self.count += 1;
        self.clock += 1;
        let position = checkpoint.state.position;
        let of_video = self.videos.entry(video).or_default();
        for sample in shown_samples(&checkpoint) {
            of_video.shown_by.entry(sample).or_default().push(position);
        }
        of_video.slots.insert(position, StoreSlot { stored: Arc::new(checkpoint), last_use: self.clock, is_end });
    }

    fn remove(&mut self, video: u64, position: u32) -> Option<Checkpoint> {
        let of_video = self.videos.get_mut(&video)?;
        let slot = of_video.slots.remove(&position)?;
        for sample in shown_samples(&slot.stored) {
            if let Some(positions) = of_video.shown_by.get_mut(&sample) {
                positions.retain(|&other| other != position);
                if positions.is_empty() {
                    of_video.shown_by.remove(&sample);
                }
            }
        }
        for picture in slot.stored.pictures() {
            let Some(shared) = self.pictures.get_mut(&picture.identity) else { continue };
            shared.holders -= 1;
            if shared.holders == 0 {
                self.bytes -= shared.bytes;
                self.pictures.remove(&picture.identity);
            }
        }
        self.bytes -= OWN_BYTES;
        self.count -= 1;
        // A run may be restoring it: the last reference frees it then.
        Arc::try_unwrap(slot.stored).ok().map(StoredCheckpoint::into_checkpoint)
    }

    fn recycle(&mut self, checkpoint: Option<Checkpoint>) {
        if let Some(mut checkpoint) = checkpoint
            && self.spares.len() < SPARES
        {
            checkpoint.clear();
            self.spares.push(checkpoint);
        }
    }

    /// The checkpoint that saves the least. Without it, targets up to the next checkpoint begin at the one before: the
    /// product of both distances is the work that it saves over all of them.
    fn least_valuable(&self) -> Option<(u64, u32)> {
        let mut least: Option<(f64, u64, u32)> = None;
        for (&video, of_video) in &self.videos {
            let mut before = None;
            let mut slots = of_video.slots.iter().peekable();
            while let Some((&position, slot)) = slots.next() {
                let start = slot.stored.state.start;
                let from = before.map_or(start, |before: u32| before.max(start));
                let until = slots.peek().map_or(position + 32, |(next, _)| (**next).min(position + 256));
                before = Some(position);
                let saved = f64::from(position.saturating_sub(from) + 1) * f64::from(until - position);
                let age = (self.clock - slot.last_use) as f64 / HALF_LIFE as f64;
                let score = saved * (-age).exp2() / self.own_bytes(&slot.stored) as f64;
                if least.is_none_or(|(lowest, ..)| score < lowest) {
                    least = Some((score, video, position));
                }
            }
        }
        least.map(|(_, video, position)| (video, position))
    }

    /// The bytes that an eviction frees.
    fn own_bytes(&self, checkpoint: &StoredCheckpoint) -> u64 {
        let alone =
            |picture: &&CheckpointPicture| self.pictures.get(&picture.identity).is_some_and(|it| it.holders == 1);
        OWN_BYTES + checkpoint.pictures().iter().filter(alone).map(|picture| picture.bytes).sum::<u64>()
    }
}

/// The samples of the whole pictures that a checkpoint holds.
fn shown_samples(checkpoint: &StoredCheckpoint) -> impl Iterator<Item = u32> + '_ {
    checkpoint.pictures().iter().filter(|picture| picture.is_whole).filter_map(|picture| picture.tag)
}
