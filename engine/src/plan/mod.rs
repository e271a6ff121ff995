//! Which samples to decode for the frames that are asked for.
//!
//! A walk begins at a sample where decoding may begin and goes on to the last target; targets of one walk share it. The
//! entry is the nearest one from which the target is exact ([`Entry`]), and a [`Depth`] further back when that turned
//! out not to hold. Threads, decoders and I/O scheduling are left to others.

mod ahead;
mod droppable;
mod gop;
mod known;
mod learn;
mod pictures;
#[cfg(test)]
mod reads;
mod references;
pub mod route;
mod slots;
mod state;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::bitstream::hevc_sets::ParameterSets;
use crate::bitstream::hevc_slice::Kind;
use crate::bitstream::{Codec, Entry, EntryFacts, Framing, entry, hevc};
use crate::container::{self, Track};
use crate::error::ErrorKind;
use crate::source::Source;

pub use droppable::Droppable;
pub use gop::Picture;
pub use known::Known;
pub use pictures::Pictures;
pub use references::{References, Structure};
pub use slots::Slots;
pub use state::{Kept, State};

/// How far back a walk begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// At the nearest entry that promises the target.
    Nearest,
    /// One such entry earlier, unless the nearest needs nothing before it.
    Earlier,
    /// Where nothing before matters even to damaged pictures: what a sequential decode has there, this has. In H.264
    /// that is the first sample, since libavcodec fills holes in a picture with what it has seen before.
    Sequential,
}

/// One walk: samples `entry..=last`, in decode order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// First sample to decode.
    pub entry: u32,
    /// Last sample to decode.
    pub last: u32,
    /// The samples whose pictures are wanted, ascending.
    pub targets: Vec<u32>,
    /// Nothing before `entry` matters: an earlier entry would not give anything else.
    pub is_self_contained: bool,
}

/// Pictures that can be decoded while one waits for output: a decoded picture buffer has 16 places (H.265 A.4.2).
const LONGEST_WAIT: u32 = 16;

/// Sync samples that are looked at together, where parameter sets are looked for.
const LOOKS: usize = 64;

/// Knows a track's entries; looks into sync samples as it needs them, and remembers.
#[derive(Debug)]
pub struct Planner {
    sync: Vec<u32>,
    /// Per sample, its frame number; `u32::MAX` for one that is not shown.
    frame_of: Vec<u32>,
    facts: Mutex<HashMap<u32, EntryFacts>>,
    /// What an index file said of entries turned out to be wrong: it counts for nothing any more.
    is_deceived: AtomicBool,
}

impl Planner {
    /// For a track's samples.
    pub fn new(track: &Track) -> Planner {
        let sync = (0_u32..).zip(&track.samples).filter(|(_, sample)| sample.key).map(|(index, _)| index).collect();
        let mut frame_of = vec![u32::MAX; track.samples.len()];
        track.frames.iter().zip(0..).for_each(|(&sample, frame)| frame_of[sample as usize] = frame);
        Planner { sync, frame_of, facts: Mutex::default(), is_deceived: AtomicBool::new(false) }
    }

    /// Walks for `targets` (samples, ascending, no duplicates). Walks that touch each other are one.
    pub fn plan(&self, track: &Track, source: &dyn Source, targets: &[u32], depth: Depth) -> Vec<Job> {
        debug_assert!(targets.is_sorted());
        let mut jobs: Vec<Job> = Vec::new();
        for &target in targets {
            let (entry, is_self_contained) = self.entry_for(track, source, target, depth);
            let last = self.last_for(track, source, target);
            match jobs.last_mut() {
                // Going on is never more work than beginning again, and keeps the decoder's threads busy.
                Some(job) if entry <= job.last + 1 && job.entry <= entry => {
                    job.last = job.last.max(last);
                    job.targets.push(target);
                }
                _ => jobs.push(Job { entry, last, targets: vec![target], is_self_contained }),
            }
        }
        jobs
    }

    /// Where a walk to `target` begins, and whether nothing before that matters.
    pub(crate) fn entry_for(&self, track: &Track, source: &dyn Source, target: u32, depth: Depth) -> (u32, bool) {
        let before = &self.sync[..self.sync.partition_point(|&sync| sync <= target)];
        let mut passed = 0;
        for (looks, &sync) in before.iter().rev().enumerate() {
            // The nearest is expected to do. Before it stretches are asked for that double: each is one wait.
            if looks > 0 && (looks % LOOKS == 0 || looks < LOOKS && looks.is_power_of_two()) {
                let stretch = before.iter().rev().skip(looks).take(looks.min(LOOKS));
                source.will_need(&mut stretch.flat_map(|&sync| self.unread_for_entry(track, sync)));
            }
            match self.facts(track, source, sync).entry {
                Entry::Clean if depth == Depth::Sequential && track.codec == Codec::H264 => break,
                Entry::Clean => return (sync, true),
                Entry::Open if self.is_exact_from(track, source, sync, target) => match depth {
                    Depth::Nearest => return (sync, sync == 0),
                    Depth::Earlier if passed > 0 => return (sync, sync == 0),
                    _ => passed += 1,
                },
                _ => {}
            }
        }
        (0, true)
    }

    /// The nearest sync sample at or before `sample` that may be an entry; the first sample if there is none.
    pub(crate) fn entry_before(&self, track: &Track, source: &dyn Source, sample: u32) -> u32 {
        let before = &self.sync[..self.sync.partition_point(|&sync| sync <= sample)];
        let is_entry = |sync: &&u32| self.facts(track, source, **sync).entry != Entry::Unsafe;
        before.iter().rev().find(is_entry).copied().unwrap_or(0)
    }

    /// The last sample of a walk to `target`: itself, unless a key frame soon after it has pictures dropped that still
    /// wait for output. Whether the target is one of them only decoding that key frame tells.
    pub(crate) fn last_for(&self, track: &Track, source: &dyn Source, target: u32) -> u32 {
        // The second field of the target's picture may be a sample of its own.
        let is_silent = |sample: u32| track.samples.get(sample as usize).is_some_and(|sample| sample.silent);
        if track.codec == Codec::H264 && is_silent(target + 1) {
            return target + 1;
        }
        if track.codec != Codec::Hevc {
            return target;
        }
        let after = &self.sync[self.sync.partition_point(|&sync| sync <= target)..];
        for &sync in after.iter().take_while(|&&sync| sync - target <= LONGEST_WAIT) {
            match self.look(track, source, sync) {
                // What cannot be read may drop anything: the walk to it finds out.
                None | Some(EntryFacts { drops_earlier: true, .. }) => return sync,
                Some(EntryFacts { entry: Entry::Clean, .. }) => break,
                _ => {}
            }
        }
        target
    }

    /// The frame number of a sample; `None` if it is not shown.
    pub fn frame_of(&self, sample: u32) -> Option<u32> {
        self.frame_of.get(sample as usize).copied().filter(|&frame| frame != u32::MAX)
    }

    /// A picture that is presented before an open entry may need what comes before the entry, unless it says not.
    fn is_exact_from(&self, track: &Track, source: &dyn Source, sync: u32, target: u32) -> bool {
        let is_presented_later = self.is_presented_later(track, sync, target);
        let kind = self.told(track).and_then(|told| told.kind(target));
        is_presented_later
            || kind == Some(Kind::Radl)
            || kind.is_none()
                && track
                    .read(source, target, false)
                    .is_ok_and(|sample| entry::is_decodable_leading(track.codec, track.framing, sample.data()))
    }

    fn is_presented_later(&self, track: &Track, sync: u32, target: u32) -> bool {
        match self.frame_of[sync as usize] {
            // A sync sample that is not shown has only its time.
            u32::MAX => track.samples[target as usize].pts >= track.samples[sync as usize].pts,
            of_sync => self.frame_of[target as usize] >= of_sync,
        }
    }

    /// What the bytes of a sync sample say; one that cannot be read promises nothing.
    pub(crate) fn facts(&self, track: &Track, source: &dyn Source, sync: u32) -> EntryFacts {
        self.look(track, source, sync).unwrap_or(EntryFacts::UNKNOWN)
    }

    /// The same; `None` for one that cannot be read: another time it may.
    pub(crate) fn look(&self, track: &Track, source: &dyn Source, sync: u32) -> Option<EntryFacts> {
        if let Some(facts) = self.known_facts(track, sync) {
            return Some(facts);
        }
        let facts = match ahead::facts(track, source, sync) {
            Some(facts) => facts,
            None => {
                let after_end = sync > 0 && ends_sequence(track, source, sync - 1)?;
                match track.read(source, sync, false) {
                    Ok(data) => EntryFacts::of(track.codec, track.framing, data.data(), after_end),
                    // What is not in the file promises nothing.
                    Err(error) if matches!(error.kind(), ErrorKind::PastEnd { .. }) => EntryFacts::UNKNOWN,
                    Err(_) => return None,
                }
            }
        };
        self.facts.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(sync, facts);
        Some(facts)
    }

    /// What is known of a sync sample without looking into it.
    fn known_facts(&self, track: &Track, sync: u32) -> Option<EntryFacts> {
        let told = || self.told(track)?.entries.get(self.sync.binary_search(&sync).ok()?).copied();
        told().or_else(|| self.facts.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&sync).copied())
    }

    /// What an index file says of the track's references, as long as it may be believed.
    pub(crate) fn told<'a>(&self, track: &'a Track) -> Option<&'a container::References> {
        track.references.as_ref().filter(|_| !self.is_deceived())
    }

    /// Was something that an index file says found to be wrong?
    pub(crate) fn is_deceived(&self) -> bool {
        self.is_deceived.load(Relaxed)
    }

    /// Does a sample at which a walk begins keep what an index file promises of it? Where it does not, nothing that the
    /// file says of references counts from now on.
    pub(crate) fn keeps_promise(&self, track: &Track, entry: u32, sample: &[u8]) -> bool {
        if self.told(track).is_none() || !track.samples.get(entry as usize).is_some_and(|sample| sample.key) {
            return true;
        }
        let promised = self.sync.binary_search(&entry).ok().and_then(|at| self.told(track)?.entries.get(at).copied());
        let found = EntryFacts::of(track.codec, track.framing, sample, false);
        let is_kept = promised.is_none_or(|promised| {
            promised.entry == found.entry && (found.has_parameter_sets || !promised.has_parameter_sets)
        });
        if !is_kept {
            self.is_deceived.store(true, Relaxed);
        }
        is_kept
    }

    /// Samples from the sync sample `first` up to the next one.
    fn gop_length(&self, track: &Track, first: u32) -> usize {
        let after = self.sync.get(self.sync.partition_point(|&sync| sync <= first));
        after.map_or(track.samples.len(), |&after| after as usize) - first as usize
    }

    /// Are parameter sets nowhere but in the decoder configuration? To be sure of that takes a look at every sync sample. Of a
    /// distant file it is believed where the sample entry promises it (ISO/IEC 14496-15: `hvc1`, `avc1`), the first sample
    /// does not break the promise, and no other is known to. An index file with references has looked.
    fn believes_configuration(&self, track: &Track, source: &dyn Source, run: &[u32]) -> bool {
        let brings = |sync: &u32| self.known_facts(track, *sync).is_some_and(|facts| facts.brings_parameter_sets);
        let keeps_promise = |first: u32| self.look(track, source, first).is_some_and(|it| !it.brings_parameter_sets);
        source.is_remote()
            && promises_configuration(track)
            && self.told(track).is_none()
            && !run.iter().any(brings)
            && run.first().is_some_and(|&first| keeps_promise(first))
    }

    /// The sync samples before `entry` that bring parameter sets, ascending: from the nearest that brings all kinds on, or from
    /// the first. Under another sample description sets are others'.
    pub(crate) fn sync_samples_since_parameter_sets(&self, track: &Track, source: &dyn Source, entry: u32) -> Vec<u32> {
        let description = |sample: u32| track.samples[sample as usize].description;
        let before = &self.sync[..self.sync.partition_point(|&sync| sync < entry)];
        let run = before.iter().rev().take_while(|&&sync| description(sync) == description(entry)).count();
        let run = &before[before.len() - run..];
        if self.believes_configuration(track, source, run) {
            return Vec::new();
        }
        let mut found = Vec::new();
        for some in run.rchunks(LOOKS) {
            source.will_need(&mut some.iter().rev().flat_map(|&sync| self.unread_for_entry(track, sync)));
            for &sync in some.iter().rev() {
                match self.look(track, source, sync) {
                    Some(EntryFacts { brings_parameter_sets: false, .. }) => continue,
                    // Whoever reads what cannot be read finds out why.
                    Some(EntryFacts { has_parameter_sets: false, .. }) | None => found.push(sync),
                    Some(_) => {
                        found.push(sync);
                        found.reverse();
                        return found;
                    }
                }
            }
        }
        found.reverse();
        found
    }
}

/// Does an H.265 sample end its coded video sequence? `None` if it cannot be read; what is not in the file ends nothing.
fn ends_sequence(track: &Track, source: &dyn Source, sample: u32) -> Option<bool> {
    if track.codec != Codec::Hevc {
        return Some(false);
    }
    match track.read(source, sample, false) {
        Ok(data) => Some(hevc::ends_sequence(track.framing, data.data())),
        Err(error) => matches!(error.kind(), ErrorKind::PastEnd { .. }).then_some(false),
    }
}

/// Does the sample entry promise that all parameter sets are in the decoder configuration, and are there some?
fn promises_configuration(track: &Track) -> bool {
    let extradata = track.parameters.extradata();
    let has_sets = match track.codec {
        Codec::Hevc => !ParameterSets::from_configuration(extradata).is_empty(),
        // Version, profile, compatibility, level, length size, number of SPS (ISO/IEC 14496-15, 5.3.3.1).
        Codec::H264 => extradata.first() == Some(&1) && extradata.get(5).is_some_and(|count| count & 31 > 0),
        _ => false,
    };
    let names = [b"hvc1", b"dvh1", b"avc1", b"dva1"].map(|name| u32::from_le_bytes(*name));
    has_sets
        && names.contains(&track.parameters.tag())
        && track.descriptions.is_empty()
        && matches!(track.framing, Framing::Length(_))
}
