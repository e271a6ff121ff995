//! Checkpoints of decoders, within a budget of bytes, shared by all threads of an engine.
//!
//! A decode run through a GOP saves a checkpoint every few pictures; a later request for a frame of that GOP begins at
//! the nearest one. Pictures are shared by reference count: a picture that ten checkpoints hold is counted once. When
//! the budget is used up, the checkpoints that save the least work for the bytes that only they hold are evicted first.
//! The choice of checkpoints for a target is left to the planner.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
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

/// A map by numbers of our own: addresses, samples, videos. The store looks up many under its lock.
type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// A hash by multiplication, for keys of one number.
#[derive(Debug, Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        // The golden ratio.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        // The map uses the lowest and the highest bits; those in the middle are mixed best.
        self.0.rotate_left(26)
    }
}

#[derive(Debug, Default)]
struct VideoCheckpoints {
    slots: BTreeMap<u32, StoreSlot>,
    /// For each sample, the positions of the checkpoints that can show its picture.
    shown_by: NumberMap<u32, Vec<u32>>,
}

#[derive(Debug, Default)]
struct StoreInner {
    videos: NumberMap<u64, VideoCheckpoints>,
    pictures: NumberMap<u64, SharedPicture>,
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
/// Over budget, one in this many checkpoints is evicted, or the budget is undercut by one part in this many.
const EVICTED_PART: u64 = 32;

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

    /// The checkpoints of a video from `start` on that are nearest to `target`, ascending: at most `most` at or before
    /// it, and as many behind it, up to `last`.
    pub fn near(&self, video: u64, start: u32, target: u32, last: u32, most: usize) -> Vec<Arc<StoredCheckpoint>> {
        let inner = self.lock();
        let Some(of_video) = inner.videos.get(&video).filter(|_| start <= target && target < last) else {
            return Vec::new();
        };
        let mut near: Vec<_> = of_video.slots.range(start..=target).rev().take(most).collect();
        near.reverse();
        near.extend(of_video.slots.range(target + 1..=last).take(most));
        near.into_iter().map(|(_, slot)| Arc::clone(&slot.stored)).collect()
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
            drop(inner);
            self.recycle(removed);
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
                drop(inner);
                self.recycle([checkpoint.into_checkpoint()]);
                return;
            }
            None => {}
        }
        inner.insert(video, checkpoint, is_end);
        inner.evict(self.budget, &mut evicted);
        drop(inner);
        self.recycle(evicted);
    }

    /// Evicts checkpoints until the rest takes no more than `bytes`.
    pub fn shrink(&self, bytes: u64) {
        let mut evicted = Vec::new();
        let mut inner = self.lock();
        inner.evict(bytes, &mut evicted);
        evicted.append(&mut inner.spares);
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

    /// Keeps removed checkpoints for reuse, or drops them. Releasing their pictures takes time: not under the lock.
    fn recycle(&self, removed: impl IntoIterator<Item = Checkpoint>) {
        for mut checkpoint in removed {
            checkpoint.clear();
            let mut inner = self.lock();
            if inner.spares.len() < SPARES {
                inner.spares.push(checkpoint);
            } else {
                drop(inner);
                drop(checkpoint);
            }
        }
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

    /// Evicts checkpoints until the rest takes no more than `bytes`, the least valuable ones first. A comparison of all
    /// takes time, under the lock of all workers: so each frees a part of the budget.
    fn evict(&mut self, bytes: u64, evicted: &mut Vec<Checkpoint>) {
        while self.bytes > bytes && self.count > 0 {
            let limit = bytes - bytes / EVICTED_PART;
            let mut changed = HashSet::new();
            for (video, position) in self.least_valuable(self.count.div_ceil(EVICTED_PART as usize)) {
                if changed.contains(&(video, position)) {
                    continue;
                }
                // Without it, its neighbours save more than they did: a GOP is thinned out, not emptied.
                changed.extend(self.neighbours(video, position).map(|neighbour| (video, neighbour)));
                evicted.extend(self.remove(video, position));
                if self.bytes <= limit {
                    break;
                }
            }
        }
    }

    /// The positions before and behind this one that have checkpoints.
    fn neighbours(&self, video: u64, position: u32) -> impl Iterator<Item = u32> + use<> {
        let slots = self.videos.get(&video).map(|of_video| &of_video.slots);
        let before = slots.and_then(|slots| slots.range(..position).next_back());
        let behind = slots.and_then(|slots| slots.range(position.saturating_add(1)..).next());
        let places = [before, behind].map(|slot| slot.map(|(&place, _)| place));
        places.into_iter().flatten()
    }

    /// The `most` checkpoints that save the least, ascending. Without one, targets up to the next checkpoint begin at
    /// the one before: the product of both distances is the work that it saves over all of them.
    fn least_valuable(&self, most: usize) -> Vec<(u64, u32)> {
        let mut scores: Vec<(f64, u64, u32)> = Vec::with_capacity(self.count);
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
                scores.push((score, video, position));
            }
        }
        let by_score = |a: &(f64, u64, u32), b: &(f64, u64, u32)| a.0.total_cmp(&b.0);
        if most < scores.len() {
            scores.select_nth_unstable_by(most, by_score);
            scores.truncate(most);
        }
        scores.sort_unstable_by(by_score);
        scores.into_iter().map(|(_, video, position)| (video, position)).collect()
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
