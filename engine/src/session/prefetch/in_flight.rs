//! Samples in flight: workers that wait for them, and tasks that are deferred until they arrive.
//!
//! A worker waits for bytes as long as it has no other work; otherwise its task is deferred until they arrive.
//! Resubmitting the task is left to [`schedule`](crate::session::schedule).

use std::cell::Cell;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::container::Track;
use crate::plan::{Planner, References};
use crate::source::Source;

/// The interval at which a waiting worker checks for other work.
const LOOK: Duration = Duration::from_millis(5);

/// A task that may wait for bytes.
pub(crate) trait FetchWaiter {
    /// True if the request is cancelled.
    fn is_cancelled(&self) -> bool;
    /// True if its worker, or its picture memory, is needed for another task.
    fn has_other_work(&self) -> bool;
    /// Records time spent waiting for bytes.
    fn add_wait_time(&self, time: Duration);
}

/// The samples of a track for one task.
pub(crate) struct InFlightSamples<'a> {
    pub(crate) track: &'a Track,
    pub(crate) source: &'a dyn Source,
    /// The worker waits even if there is other work.
    pub(crate) may_wait: bool,
    pub(crate) waiter: &'a dyn FetchWaiter,
}

impl InFlightSamples<'_> {
    /// True if a run may read a sample now. Waits for the sample as long as there is no other work; if there is, sets
    /// `awaited` to it.
    pub(crate) fn may_read(&self, sample: u32, awaited: &Cell<Option<u32>>) -> bool {
        if !self.source.is_remote() || self.may_wait || self.track.is_here(self.source, sample) {
            return true;
        }
        self.track.will_need(self.source, std::iter::once(sample));
        let since = Instant::now();
        let may_read = loop {
            if !self.track.is_pending(self.source, sample, LOOK) {
                break true;
            }
            if self.waiter.is_cancelled() {
                break false;
            }
            if self.waiter.has_other_work() {
                awaited.set(Some(sample));
                break false;
            }
        };
        self.waiter.add_wait_time(since.elapsed());
        may_read
    }

    /// The samples that are in flight, if the task can be deferred and there is other work; otherwise none.
    pub(crate) fn deferrable(&self, samples: impl Iterator<Item = u32>) -> Vec<u32> {
        if !self.source.is_remote() || !self.waiter.has_other_work() {
            return Vec::new();
        }
        samples.filter(|&sample| self.track.is_pending(self.source, sample, Duration::ZERO)).collect()
    }

    /// Waits briefly for a sample. False if it has failed or was evicted: a read returns the error.
    pub(crate) fn is_arriving(&self, sample: u32) -> bool {
        let since = Instant::now();
        let is_pending = self.track.is_pending(self.source, sample, LOOK);
        self.waiter.add_wait_time(since.elapsed());
        is_pending || self.track.is_here(self.source, sample)
    }

    /// The first of `samples` that has not arrived; the one after the last if all have.
    pub(crate) fn here_up_to(&self, samples: RangeInclusive<u32>) -> u32 {
        let first = *samples.start();
        let is_here = |&sample: &u32| self.track.is_here(self.source, sample);
        samples.take_while(is_here).last().map_or(first, |last| last + 1)
    }
}

/// Bytes of the samples that have not arrived: an upper bound of the bytes to fetch.
pub(crate) fn missing_bytes(track: &Track, source: &dyn Source, samples: RangeInclusive<u32>) -> u64 {
    let ranges = samples.filter_map(|sample| track.extent(sample));
    ranges.filter(|range| !source.is_available(*range)).map(|range| range.len).sum()
}

/// Hints the bytes that planning will read for `targets` to the source.
pub(crate) fn prefetch_for_planning(
    (track, source): (&Track, &dyn Source),
    (planner, references): (&Planner, &References),
    targets: impl Iterator<Item = u32>,
) {
    let unread = targets.flat_map(|target| planner.unread(track, references, target));
    source.will_need(&mut unread.chain(planner.unread_configuration(track)));
}
