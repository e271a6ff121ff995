//! Planning: chooses the samples to decode for the requested frames.
//!
//! A decode run begins at a random access point and ends at its last target; targets can share a run. It begins at the
//! nearest [`RandomAccessPoint`] from which the target is exact, or at one further back ([`Depth`]) if an attempt has
//! shown that to be wrong. Threads and decoders are left to [`decode`](crate::decode), the order of attempts and of
//! reads to `session`.

mod decoder_history;
mod dependencies;
mod droppable;
mod gop;
mod learn;
mod pictures;
mod prediction;
#[cfg(test)]
mod reads;
mod references;
pub mod runs;
mod slots;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::bitstream::hevc_sets::ParameterSets;
use crate::bitstream::hevc_slice::PictureKind;
use crate::bitstream::{Codec, Framing, RandomAccessPoint, SyncSampleFacts, hevc, random_access};
use crate::container::{self, Track};
use crate::error::ErrorKind;
use crate::source::Source;
use crate::sync::unmodelled::Mutex;

pub use decoder_history::{DecoderHistory, StoredCheckpoint};
pub use dependencies::TrackDependencies;
pub use droppable::Droppable;
pub use gop::Picture;
pub use pictures::Pictures;
pub use references::{References, Structure};
pub use slots::Slots;

/// How far back a decode run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// At the nearest random access point from which the target is exact according to its sample.
    Nearest,
    /// One such random access point earlier, unless the nearest is clean.
    Earlier,
    /// Where no earlier sample affects even damaged pictures, so that the result equals that of a sequential decode. In
    /// H.264 that is the first sample, since libavcodec fills holes in a picture from earlier pictures.
    Sequential,
}

/// A decode run over all samples `first..=last`, in decode order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallbackRun {
    /// First sample to decode.
    pub first: u32,
    /// Last sample to decode.
    pub last: u32,
    /// The samples of the targets, ascending.
    pub targets: Vec<u32>,
    /// An earlier random access point would give the same pictures.
    pub is_self_contained: bool,
}

/// The largest number of pictures that are decoded while another one waits for output: a decoded picture buffer holds
/// 16 pictures (H.265 A.4.2).
const MAX_REORDER: u32 = 16;

/// Sync samples that are read together in the search for parameter sets.
const READ_BATCH: usize = 64;

/// Finds the random access points of a track. It reads sync samples as needed and caches their [`SyncSampleFacts`].
/// Threads can share it.
#[derive(Debug)]
pub struct Planner {
    sync: Vec<u32>,
    /// The frame number of each sample; `u32::MAX` for one that is not shown.
    frame_of: Vec<u32>,
    facts: Mutex<HashMap<u32, SyncSampleFacts>>,
    /// The index file's kind of a random access point was wrong: its references are distrusted from then on.
    is_index_distrusted: AtomicBool,
}

impl Planner {
    /// A planner for `track`, with its sync samples and frame numbers. It reads nothing, and takes time proportional to
    /// the number of samples. The planner does not keep the track: the caller passes the same track to its other
    /// methods, and a source with the bytes of that track.
    pub fn new(track: &Track) -> Planner {
        let sync = (0_u32..).zip(&track.samples).filter(|(_, sample)| sample.key).map(|(index, _)| index).collect();
        let mut frame_of = vec![u32::MAX; track.samples.len()];
        track.frames.iter().zip(0..).for_each(|(&sample, frame)| frame_of[sample as usize] = frame);
        Planner { sync, frame_of, facts: Mutex::default(), is_index_distrusted: AtomicBool::new(false) }
    }

    /// The decode runs for `targets` (sample numbers, ascending, no duplicates), ascending. Adjacent and overlapping
    /// runs are merged. Reads sync samples of `source` as needed; a sample that cannot be read counts as no random
    /// access point, and the run over it returns the error.
    pub fn plan(&self, track: &Track, source: &dyn Source, targets: &[u32], depth: Depth) -> Vec<FallbackRun> {
        debug_assert!(targets.is_sorted());
        let mut runs: Vec<FallbackRun> = Vec::new();
        for &target in targets {
            let (first, is_self_contained) = self.start_for(track, source, target, depth);
            let last = self.last_for(track, source, target);
            match runs.last_mut() {
                // To continue a run costs no more than to begin another one, and keeps the decoder's threads busy.
                Some(run) if first <= run.last + 1 && run.first <= first => {
                    run.last = run.last.max(last);
                    run.targets.push(target);
                }
                _ => runs.push(FallbackRun { first, last, targets: vec![target], is_self_contained }),
            }
        }
        runs
    }

    /// The first sample of a run to `target`, and whether an earlier random access point would give the same picture.
    pub(crate) fn start_for(&self, track: &Track, source: &dyn Source, target: u32, depth: Depth) -> (u32, bool) {
        let before = &self.sync[..self.sync.partition_point(|&sync| sync <= target)];
        let mut passed = 0;
        for (reads, &sync) in before.iter().rev().enumerate() {
            // In most cases the nearest one is enough. The sync samples before it are fetched in batches of doubled
            // size, each with one wait.
            if reads > 0 && (reads % READ_BATCH == 0 || reads < READ_BATCH && reads.is_power_of_two()) {
                let stretch = before.iter().rev().skip(reads).take(reads.min(READ_BATCH));
                source.will_need(&mut stretch.flat_map(|&sync| self.unread_for_sync_sample(track, sync)));
            }
            match self.facts(track, source, sync).kind {
                RandomAccessPoint::Clean if depth == Depth::Sequential && track.codec == Codec::H264 => break,
                RandomAccessPoint::Clean => return (sync, true),
                RandomAccessPoint::Open if self.is_exact_from(track, source, sync, target) => match depth {
                    Depth::Nearest => return (sync, sync == 0),
                    Depth::Earlier if passed > 0 => return (sync, sync == 0),
                    _ => passed += 1,
                },
                _ => {}
            }
        }
        (0, true)
    }

    /// The last sync sample up to `sample` with a random access point picture; the first sample if there is none.
    pub(crate) fn access_point_before(&self, track: &Track, source: &dyn Source, sample: u32) -> u32 {
        let before = &self.sync[..self.sync.partition_point(|&sync| sync <= sample)];
        let is_access_point = |sync: &&u32| self.facts(track, source, **sync).kind != RandomAccessPoint::Unsafe;
        before.iter().rev().find(is_access_point).copied().unwrap_or(0)
    }

    /// The last sample of a run to `target`: the target itself, unless a key frame soon after it drops pictures that
    /// still wait for output. Only decoding that key frame shows whether the target is one of them.
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
        for &sync in after.iter().take_while(|&&sync| sync - target <= MAX_REORDER) {
            match self.try_facts(track, source, sync) {
                // A sample that cannot be read may drop pictures: the run to it returns the error.
                None | Some(SyncSampleFacts { drops_earlier: true, .. }) => return sync,
                Some(SyncSampleFacts { kind: RandomAccessPoint::Clean, .. }) => break,
                _ => {}
            }
        }
        target
    }

    /// The frame number of a sample; `None` if it is not shown.
    pub fn frame_of(&self, sample: u32) -> Option<u32> {
        self.frame_of.get(sample as usize).copied().filter(|&frame| frame != u32::MAX)
    }

    /// A picture that is presented before an open random access point may need earlier pictures, unless it is a RADL
    /// picture.
    fn is_exact_from(&self, track: &Track, source: &dyn Source, sync: u32, target: u32) -> bool {
        let is_presented_later = self.is_presented_later(track, sync, target);
        let kind = self.references(track).and_then(|indexed| indexed.kind(target));
        is_presented_later
            || kind == Some(PictureKind::Radl)
            || kind.is_none()
                && track
                    .read(source, target, false)
                    .is_ok_and(|sample| random_access::is_decodable_leading(track.codec, track.framing, sample.data()))
    }

    fn is_presented_later(&self, track: &Track, sync: u32, target: u32) -> bool {
        match self.frame_of[sync as usize] {
            // A sync sample that is not shown has no frame number, only a time.
            u32::MAX => track.samples[target as usize].pts >= track.samples[sync as usize].pts,
            of_sync => self.frame_of[target as usize] >= of_sync,
        }
    }

    /// The facts of a sync sample; a sample that cannot be read counts as no random access point.
    pub(crate) fn facts(&self, track: &Track, source: &dyn Source, sync: u32) -> SyncSampleFacts {
        self.try_facts(track, source, sync).unwrap_or(SyncSampleFacts::UNKNOWN)
    }

    /// As `facts`; `None` for a sample that cannot be read now, since a later read may succeed.
    pub(crate) fn try_facts(&self, track: &Track, source: &dyn Source, sync: u32) -> Option<SyncSampleFacts> {
        if let Some(facts) = self.known_facts(track, sync) {
            return Some(facts);
        }
        let facts = match prediction::facts(track, source, sync) {
            Some(facts) => facts,
            None => {
                let after_end = sync > 0 && ends_sequence(track, source, sync - 1)?;
                match track.read(source, sync, false) {
                    Ok(data) => SyncSampleFacts::of(track.codec, track.framing, data.data(), after_end),
                    // A sample past the end of the file is no random access point.
                    Err(error) if matches!(error.kind(), ErrorKind::PastEnd { .. }) => SyncSampleFacts::UNKNOWN,
                    Err(_) => return None,
                }
            }
        };
        self.facts.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(sync, facts);
        Some(facts)
    }

    /// The facts of a sync sample that was read, or that the index file has. Reads nothing.
    fn known_facts(&self, track: &Track, sync: u32) -> Option<SyncSampleFacts> {
        let indexed = || self.references(track)?.sync_samples.get(self.sync.binary_search(&sync).ok()?).copied();
        indexed().or_else(|| self.facts.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&sync).copied())
    }

    /// The references from the index file, unless it is distrusted.
    pub(crate) fn references<'a>(&self, track: &'a Track) -> Option<&'a container::TrackReferences> {
        track.references.as_ref().filter(|_| !self.is_index_distrusted())
    }

    /// True if the index file is distrusted.
    pub(crate) fn is_index_distrusted(&self) -> bool {
        self.is_index_distrusted.load(Relaxed)
    }

    /// Compares the first sample of a run with the claim of the index file. If they differ, the file's references are
    /// distrusted from now on.
    pub(crate) fn matches_index(&self, track: &Track, first: u32, sample: &[u8]) -> bool {
        if self.references(track).is_none() || !track.samples.get(first as usize).is_some_and(|sample| sample.key) {
            return true;
        }
        let claimed =
            self.sync.binary_search(&first).ok().and_then(|at| self.references(track)?.sync_samples.get(at).copied());
        let found = SyncSampleFacts::of(track.codec, track.framing, sample, false);
        let is_match = claimed.is_none_or(|claim| {
            claim.kind == found.kind && (found.has_all_parameter_sets || !claim.has_all_parameter_sets)
        });
        if !is_match {
            self.is_index_distrusted.store(true, Relaxed);
        }
        is_match
    }

    /// Number of samples from the sync sample `first` up to the next one.
    fn gop_length(&self, track: &Track, first: u32) -> usize {
        let after = self.sync.get(self.sync.partition_point(|&sync| sync <= first));
        after.map_or(track.samples.len(), |&after| after as usize) - first as usize
    }

    /// True if all parameter sets are taken to be in the decoder configuration. To verify that takes a read of every
    /// sync sample. For a remote file it is assumed if the sample entry says so (ISO/IEC 14496-15: `hvc1`, `avc1`), the
    /// first sample does not contradict it, and no sample read so far does. An index file with references has checked
    /// all samples.
    fn trusts_configuration(&self, track: &Track, source: &dyn Source, run: &[u32]) -> bool {
        let has_sets = |sync: &u32| self.known_facts(track, *sync).is_some_and(|facts| facts.has_some_parameter_sets);
        let has_none = |first: u32| self.try_facts(track, source, first).is_some_and(|it| !it.has_some_parameter_sets);
        source.is_remote()
            && claims_configuration(track)
            && self.references(track).is_none()
            && !run.iter().any(has_sets)
            && run.first().is_some_and(|&first| has_none(first))
    }

    /// The sync samples before `start` that contain parameter sets, ascending: from the nearest one with all kinds of
    /// sets on, or from the first. Samples of another sample description do not count.
    pub(crate) fn sync_samples_since_parameter_sets(&self, track: &Track, source: &dyn Source, start: u32) -> Vec<u32> {
        let description = |sample: u32| track.samples[sample as usize].description;
        let before = &self.sync[..self.sync.partition_point(|&sync| sync < start)];
        let run = before.iter().rev().take_while(|&&sync| description(sync) == description(start)).count();
        let run = &before[before.len() - run..];
        if self.trusts_configuration(track, source, run) {
            return Vec::new();
        }
        let mut found = Vec::new();
        for some in run.rchunks(READ_BATCH) {
            source.will_need(&mut some.iter().rev().flat_map(|&sync| self.unread_for_sync_sample(track, sync)));
            for &sync in some.iter().rev() {
                match self.try_facts(track, source, sync) {
                    Some(SyncSampleFacts { has_some_parameter_sets: false, .. }) => continue,
                    // A sample that cannot be read is included: the run that reads it returns the error.
                    Some(SyncSampleFacts { has_all_parameter_sets: false, .. }) | None => found.push(sync),
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

/// True if an H.265 sample ends its coded video sequence; `None` if it cannot be read. A sample past the end of the
/// file ends nothing.
fn ends_sequence(track: &Track, source: &dyn Source, sample: u32) -> Option<bool> {
    if track.codec != Codec::Hevc {
        return Some(false);
    }
    match track.read(source, sample, false) {
        Ok(data) => Some(hevc::ends_sequence(track.framing, data.data())),
        Err(error) => matches!(error.kind(), ErrorKind::PastEnd { .. }).then_some(false),
    }
}

/// True if the sample entry says that all parameter sets are in the decoder configuration, and the configuration has
/// some.
fn claims_configuration(track: &Track) -> bool {
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
