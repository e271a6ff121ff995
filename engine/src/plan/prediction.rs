//! Planning over a network: predicts the bytes that planning will read, so that a source fetches them together, and
//! learns the facts of a sync sample from a part of it.
//!
//! Known facts are not read again. The rest is a guess, since the samples that would settle it are not available: a
//! wrong guess costs one more request, or unused bytes. `docs/decisions/0047-planning-reads.md` has the reasons.
//! Fetching is left to the source.

use super::droppable::after_picture;
use super::{MAX_REORDER, Planner, References, claims_configuration};
use crate::bitstream::{Codec, Framing, RandomAccessPoint, SyncSampleFacts};
use crate::container::Track;
use crate::source::{ByteRange, Source};

/// The first bytes of a sync sample: in nearly every stream they hold the parameter sets, the messages, and the
/// beginning of the first slice.
const HEAD: u64 = 4 << 10;
/// The last bytes of a sample: they hold an end of sequence and an end of bitstream with their lengths. No other unit
/// may follow these.
const TAIL: u64 = 12;

impl Planner {
    /// The ranges that planning a run to `target` reads for the first time, as far as they can be predicted. Reads
    /// nothing.
    pub(crate) fn unread(&self, track: &Track, references: &References, target: u32) -> Vec<ByteRange> {
        let start = self.likely_start(track, target);
        let mut ranges = self.unread_for_sync_sample(track, start);
        if self.known_facts(track, start).is_none() || !references.is_known(self, track, start, target) {
            ranges.extend((start..after_picture(track, target)).filter_map(|sample| track.extent(sample)));
        }
        ranges.extend(
            self.sync_behind(track, target).into_iter().flat_map(|sync| self.unread_for_sync_sample(track, sync)),
        );
        ranges
    }

    /// The ranges that are read to find parameter sets, for any target.
    pub(crate) fn unread_configuration(&self, track: &Track) -> Vec<ByteRange> {
        let first = self.sync.first().filter(|_| claims_configuration(track) && self.references(track).is_none());
        first.map_or(Vec::new(), |&first| self.unread_for_sync_sample(track, first))
    }

    /// The ranges that are read to learn the facts of a sync sample.
    pub(crate) fn unread_for_sync_sample(&self, track: &Track, sync: u32) -> Vec<ByteRange> {
        if self.known_facts(track, sync).is_some() {
            return Vec::new();
        }
        let before = sync.checked_sub(1).filter(|_| track.codec == Codec::Hevc);
        let (before, itself) = match (before, head(track, sync)) {
            (Some(before), Some(head)) => (tail(track, before), Some(head)),
            (None, Some(head)) => (None, Some(head)),
            (before, None) => (before.and_then(|before| track.extent(before)), track.extent(sync)),
        };
        before.into_iter().chain(itself).collect()
    }

    /// The expected first sample of a run to `target`: an unread sync sample counts as an open random access point, as
    /// most are at least.
    pub(crate) fn likely_start(&self, track: &Track, target: u32) -> u32 {
        let before = &self.sync[..self.sync.partition_point(|&sync| sync <= target)];
        let is_likely = |sync: &&u32| match self.known_facts(track, **sync).map(|facts| facts.kind) {
            Some(RandomAccessPoint::Clean) => true,
            Some(RandomAccessPoint::Open) | None => self.is_presented_later(track, **sync, target),
            _ => false,
        };
        before.iter().rev().find(is_likely).copied().unwrap_or(0)
    }

    /// The last sync sample up to `sample`.
    pub(crate) fn sync_before(&self, sample: u32) -> Option<u32> {
        self.sync[..self.sync.partition_point(|&sync| sync <= sample)].last().copied()
    }

    /// The first sync sample after `target` that [`Planner::last_for`] reads. It stops at the first random access
    /// point, and most sync samples are one.
    fn sync_behind(&self, track: &Track, target: u32) -> Option<u32> {
        let after = self.sync.partition_point(|&sync| sync <= target);
        self.sync.get(after).copied().filter(|sync| track.codec == Codec::Hevc && sync - target <= MAX_REORDER)
    }
}

/// True for a sample in one range of the file, with lengths before its NAL units.
fn is_plain(track: &Track, sample: u32) -> bool {
    matches!(track.codec, Codec::Hevc | Codec::H264)
        && matches!(track.framing, Framing::Length(_))
        && track.is_plain(sample)
}

/// The first bytes of a sample, if they are enough for its facts.
pub(super) fn head(track: &Track, sample: u32) -> Option<ByteRange> {
    let range = track.samples.get(sample as usize).filter(|_| is_plain(track, sample))?.range();
    Some(ByteRange { len: range.len.min(HEAD), ..range })
}

/// The last bytes of a sample.
fn tail(track: &Track, sample: u32) -> Option<ByteRange> {
    let range = track.samples.get(sample as usize).filter(|_| is_plain(track, sample))?.range();
    let len = range.len.min(TAIL);
    Some(ByteRange { start: range.end() - len, len })
}

/// The facts of a sync sample of a remote source, from its first bytes and the last of the sample before, if these are
/// enough.
pub(super) fn facts(track: &Track, source: &dyn Source, sync: u32) -> Option<SyncSampleFacts> {
    if source.is_remote() { facts_by_ends(track, source, sync) } else { None }
}

fn facts_by_ends(track: &Track, source: &dyn Source, sync: u32) -> Option<SyncSampleFacts> {
    let head = source.read_padded(head(track, sync)?).ok()?;
    let after_end = match sync.checked_sub(1).filter(|_| track.codec == Codec::Hevc) {
        Some(before) if may_end_sequence(source.read_padded(tail(track, before)?).ok()?.data()) => return None,
        _ => false,
    };
    SyncSampleFacts::of_head(track.codec, track.framing, head.data(), after_end)
}

/// True if the end of a sample may hold an end of sequence (H.265 7.3.1.2, type 36) or of bitstream (37). Slice data
/// may contain the same bytes: then the whole sample has to be read.
fn may_end_sequence(tail: &[u8]) -> bool {
    tail.windows(2).any(|bytes| bytes[0] == 36 << 1 || bytes[0] == 37 << 1)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::super::ends_sequence;
    use super::{Track, facts_by_ends, may_end_sequence};
    use crate::bitstream::SyncSampleFacts;
    use crate::source::{FileSource, Source};

    #[test]
    fn the_ends_of_samples_say_what_all_of_them_says() {
        let mut found = 0;
        let corpus = std::env::var_os("BUCKET_STREAMER_CORPUS").map(std::path::PathBuf::from);
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
        for folder in [Some(fixtures), corpus].into_iter().flatten() {
            for clip in std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
                let Ok(source) = FileSource::open(&clip) else { continue };
                let source: Arc<dyn Source> = Arc::new(source);
                let Ok(track) = Track::open(&source, 0) else { continue };
                for sync in (0..track.samples.len() as u32).filter(|&at| track.samples[at as usize].key) {
                    let Some(facts) = facts_by_ends(&track, &*source, sync) else { continue };
                    let Ok(data) = track.read(&*source, sync, false) else { continue };
                    let after_end = sync > 0 && ends_sequence(&track, &*source, sync - 1) == Some(true);
                    let all = SyncSampleFacts::of(track.codec, track.framing, data.data(), after_end);
                    assert_eq!(facts, all, "{}: sample {sync}", clip.display());
                    found += 1;
                }
            }
        }
        assert!(found > 20, "{found}");
        assert!(may_end_sequence(&[9, 9, 0, 0, 0, 2, 0x48, 1]) && !may_end_sequence(&[9, 9, 0, 0x80]));
    }
}
