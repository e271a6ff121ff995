//! Which samples will be read before a walk can be planned: told to a source in advance, so that it fetches them together.
//!
//! What is known already is not read. The rest is a guess, since the samples that would tell are those that are not here:
//! a wrong one costs a request more, or bytes that nobody wanted.

use super::{LONGEST_WAIT, Planner, References, first_head, is_configured, says_so};
use crate::bitstream::{Codec, Entry};
use crate::container::Track;
use crate::source::ByteRange;

impl Planner {
    /// Samples that planning a walk to `target` looks at for the first time, as far as that can be told.
    pub(crate) fn unread<'a>(
        &'a self,
        track: &'a Track,
        references: &References,
        target: u32,
    ) -> impl Iterator<Item = u32> + use<'a> {
        let first = self.likely_entry(track, target);
        let is_known = self.known_facts(track, first).is_some() && references.is_known(self, track, first, target);
        let run = (!is_known).then_some(first - lookback(track, first)..=target);
        run.into_iter().flatten().chain(self.behind(track, target))
    }

    /// The beginning of the first sample, where that is looked at to know where parameter sets lie.
    pub(crate) fn unread_head(&self, track: &Track) -> Option<ByteRange> {
        let is_asked = is_configured(track) && !says_so(track) && self.told(track).is_none();
        first_head(track).filter(|_| is_asked && self.first_brings.get().is_none())
    }

    /// Samples that finding out about the sync sample `first` looks at.
    pub(crate) fn unread_for_entry(&self, track: &Track, first: u32) -> std::ops::Range<u32> {
        match self.known_facts(track, first) {
            Some(_) => 0..0,
            None => first - lookback(track, first)..first + 1,
        }
    }

    /// The sync sample from which `target` is exact, unless one that nobody has looked into promises less than most do.
    pub(crate) fn likely_entry(&self, track: &Track, target: u32) -> u32 {
        let before = &self.sync[..self.sync.partition_point(|&sync| sync <= target)];
        let is_entry = |sync: &&u32| match self.known_facts(track, **sync).map(|facts| facts.entry) {
            Some(Entry::Clean) => true,
            Some(Entry::Open) | None => self.is_presented_later(track, **sync, target),
            _ => false,
        };
        before.iter().rev().find(is_entry).copied().unwrap_or(0)
    }

    /// Samples behind `target` that [`Planner::last_for`] looks at.
    fn behind<'a>(&'a self, track: &'a Track, target: u32) -> impl Iterator<Item = u32> + use<'a> {
        let after =
            if track.codec == Codec::Hevc { self.sync.partition_point(|&sync| sync <= target) } else { usize::MAX };
        let near = self.sync.get(after..).unwrap_or(&[]).iter().take_while(move |&&sync| sync - target <= LONGEST_WAIT);
        // The first that is an entry ends it: most are.
        let near = near.take(1).filter(|&&sync| self.known_facts(track, sync).is_none());
        near.flat_map(|&sync| [sync - 1, sync])
    }
}

/// The end of an H.265 coded video sequence is told in the sample before the next.
fn lookback(track: &Track, first: u32) -> u32 {
    u32::from(track.codec == Codec::Hevc && first > 0)
}
