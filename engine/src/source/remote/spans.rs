//! The span table of a source: which bytes are in memory, and which are on their way.
//!
//! Bytes are kept in the pieces in which they arrived, until `cache` evicts them. A *flight* reserves bytes on their
//! way, so that they are fetched once: all readers wait for it, and each gets its bytes as soon as they arrive, not
//! when the flight ends. How bytes are fetched is left to the caller.

#[cfg(all(test, shuttle))]
mod model;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;

use super::attempt::Problem;
use super::cache::Cache;
use crate::source::{ByteRange, opening};
use crate::sync::{Condvar, Instant, Mutex, MutexGuard};

/// Smaller pieces are copied.
const SMALL: usize = 16 << 10;

#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    /// When it was last read, or arrived.
    used: u64,
}

/// Bytes on their way.
#[derive(Debug)]
struct Flight {
    number: u64,
    /// The bytes that have not arrived.
    left: ByteRange,
    /// Why they did not arrive.
    failed: Arc<OnceLock<Problem>>,
}

/// A callback for the arrival of bytes.
type Then = Box<dyn FnOnce() + Send>;

/// A callback for the end of flights, successful or not.
struct Watcher {
    /// Numbers of flights, and the offset up to which each is awaited.
    flights: Vec<(u64, u64)>,
    then: Then,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Watcher").field("flights", &self.flights).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct SpanState {
    /// By their offsets; none overlaps another, or a flight.
    pieces: BTreeMap<u64, Piece>,
    flights: Vec<Flight>,
    /// Ranges that readers wait for: not evicted before they are read.
    awaited: Vec<ByteRange>,
    watchers: Vec<Watcher>,
    numbers: u64,
}

/// The bytes of one source.
#[derive(Debug)]
pub(super) struct Spans {
    state: Mutex<SpanState>,
    change: Condvar,
    cache: Arc<Cache>,
}

impl Drop for Spans {
    fn drop(&mut self) {
        let starts: Vec<u64> = self.lock().pieces.keys().copied().collect();
        self.forget(&starts);
    }
}

/// The state of the bytes at an offset.
enum Met {
    Here(Bytes),
    Coming(Arc<OnceLock<Problem>>),
    Missing,
}

impl Spans {
    /// The table of a source that shares `cache` with others.
    pub(super) fn new(cache: &Arc<Cache>) -> Arc<Spans> {
        let spans = Arc::new(Spans { state: Mutex::default(), change: Condvar::new(), cache: Arc::clone(cache) });
        cache.join(&spans);
        spans
    }

    fn lock(&self) -> MutexGuard<'_, SpanState> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Reserves the parts of `wanted` that are neither in memory nor on their way, in as few flights as gaps of `gap`
    /// bytes allow, none longer than `longest`. The caller must end these flights.
    pub(super) fn reserve(&self, mut wanted: Vec<ByteRange>, gap: u64, longest: u64) -> Vec<(u64, ByteRange)> {
        wanted.sort_unstable_by_key(|range| range.start);
        let mut state = self.lock();
        let mut merged: Vec<ByteRange> = Vec::new();
        for missing in wanted.into_iter().flat_map(|range| state.missing(range)) {
            match merged.last_mut() {
                Some(last) if missing.end() <= last.end() => {}
                Some(last) if missing.start <= last.end() + gap && state.is_free(last.end(), missing.start) => {
                    last.len = missing.end() - last.start;
                }
                _ => merged.push(missing),
            }
        }
        merged.into_iter().flat_map(|range| cut(range, longest)).map(|range| (state.begin(range), range)).collect()
    }

    /// Adds the next bytes of a flight.
    pub(super) fn arrive(&self, number: u64, bytes: Bytes) {
        let mut state = self.lock();
        let Some(flight) = state.flights.iter_mut().find(|flight| flight.number == number) else { return };
        let (start, len) = (flight.left.start, bytes.len() as u64);
        flight.left = ByteRange { start: start + len, len: flight.left.len.saturating_sub(len) };
        let used = self.cache.now();
        self.cache.took(len);
        // A view of a few bytes would keep the whole buffer in which they arrived.
        let bytes = if bytes.len() < SMALL { Bytes::copy_from_slice(&bytes) } else { bytes };
        state.pieces.insert(start, Piece { bytes, used });
        let due = state.due(number, start + len);
        drop(state);
        self.change.notify_all();
        due.into_iter().for_each(|then| then());
        self.cache.relieve();
    }

    /// Ends a flight, successful or not.
    pub(super) fn end(&self, number: u64, problem: Option<Problem>) {
        let mut state = self.lock();
        let due = state.due(number, u64::MAX);
        state.flights.retain(|flight| {
            let is_over = flight.number == number;
            if let (true, Some(problem)) = (is_over, &problem) {
                let _ = flight.failed.set(problem.clone());
            }
            !is_over
        });
        drop(state);
        self.change.notify_all();
        due.into_iter().for_each(|then| then());
    }

    /// Calls `then` once no part of `ranges` is on its way, possibly before this returns.
    pub(super) fn when_here(&self, ranges: &[ByteRange], then: Then) {
        let mut state = self.lock();
        // If several ranges are part of a flight, the end of the last one counts.
        let end = |left: ByteRange| {
            let within = ranges.iter().filter(|range| range.start < left.end() && left.start < range.end());
            within.map(|range| range.end().min(left.end())).max()
        };
        let flights = state.flights.iter().filter_map(|flight| Some((flight.number, end(flight.left)?)));
        let flights: Vec<(u64, u64)> = flights.collect();
        if flights.is_empty() {
            drop(state);
            then();
        } else {
            state.watchers.push(Watcher { flights, then });
        }
    }

    /// Whether a part of `range` is on its way after a wait of up to `patience`.
    pub(super) fn is_awaited(&self, range: ByteRange, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            let is_coming = |flight: &Flight| flight.left.start < range.end() && range.start < flight.left.end();
            if !state.flights.iter().any(is_coming) {
                return false;
            }
            let Some(wait) = deadline.checked_duration_since(Instant::now()) else { return true };
            state = self.change.wait_timeout(state, wait).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }

    /// Whether all of `range` is in memory.
    pub(super) fn is_here(&self, range: ByteRange) -> bool {
        let state = self.lock();
        let first = state.pieces.range(..=range.start).next_back().map_or(range.start, |(&start, _)| start);
        let mut at = range.start;
        for (&start, piece) in state.pieces.range(first..) {
            let end = start + piece.bytes.len() as u64;
            if start > at || at >= range.end() {
                break;
            }
            at = at.max(end);
        }
        at >= range.end()
    }

    /// A view of `range` and the bytes behind it, up to `end`, if they are in memory and in one piece.
    pub(super) fn view(&self, range: ByteRange, end: u64) -> Option<Bytes> {
        match self.lock().take(range.start, end, self.cache.now()) {
            Some(bytes) if bytes.len() as u64 == end - range.start => Some(bytes),
            _ => None,
        }
    }

    /// The bytes of `range`, in pieces. Calls `fetch` with a missing part, which it must reserve. `None` if no byte
    /// arrives for `patience`, or once `is_over` returns true.
    pub(super) fn read(
        &self,
        range: ByteRange,
        patience: Duration,
        is_over: &dyn Fn() -> bool,
        fetch: &mut dyn FnMut(ByteRange) -> Result<(), Problem>,
    ) -> Result<Option<Vec<Bytes>>, Problem> {
        let (mut at, mut pieces) = (range.start, Vec::new());
        while at < range.end() {
            match self.meet(at, range.end(), patience, is_over) {
                Some(Met::Here(bytes)) => {
                    at += bytes.len() as u64;
                    pieces.push(bytes);
                }
                Some(Met::Coming(failed)) => {
                    if let Some(problem) = failed.get() {
                        return Err(problem.clone());
                    }
                }
                Some(Met::Missing) => fetch(ByteRange { start: at, len: range.end() - at })?,
                None => return Ok(None),
            }
        }
        Ok(Some(pieces))
    }

    /// Pieces that may be evicted: time of last use, offset and length.
    pub(super) fn free(&self) -> Vec<(u64, u64, u64)> {
        let state = self.lock();
        let is_awaited = |start: u64, end: u64| state.awaited.iter().any(|it| it.start < end && start < it.end());
        let pieces = state.pieces.iter().map(|(&start, piece)| (piece.used, start, piece.bytes.len() as u64));
        pieces.filter(|&(_, start, len)| !is_awaited(start, start + len)).collect()
    }

    /// Drops the pieces at these offsets.
    pub(super) fn forget(&self, starts: &[u64]) {
        let mut state = self.lock();
        let gone: Vec<Piece> = starts.iter().filter_map(|start| state.pieces.remove(start)).collect();
        drop(state);
        self.cache.gave(gone.iter().map(|piece| piece.bytes.len() as u64).sum());
    }

    /// The state at an offset, after a wait for bytes on their way; `None` if none arrive for `patience`, or the wait
    /// is over.
    fn meet(&self, at: u64, end: u64, patience: Duration, is_over: &dyn Fn() -> bool) -> Option<Met> {
        let mut state = self.lock();
        let mut flight: Option<Arc<OnceLock<Problem>>> = None;
        let (mut deadline, mut left) = (Instant::now() + patience, 0);
        loop {
            if let Some(bytes) = state.take(at, end, self.cache.now()) {
                return Some(Met::Here(bytes));
            }
            match state.flights.iter().find(|flight| covers(flight.left, at)) {
                Some(found) => {
                    flight = Some(Arc::clone(&found.failed));
                    if std::mem::replace(&mut left, found.left.len) != found.left.len {
                        deadline = Instant::now() + patience;
                    }
                }
                None => return Some(flight.map_or(Met::Missing, Met::Coming)),
            }
            if is_over() {
                return None;
            }
            let wait = deadline.checked_duration_since(Instant::now())?;
            let wait = if opening::is_under_way() { wait.min(opening::LOOK) } else { wait };
            let awaited = ByteRange { start: at, len: end - at };
            state.awaited.push(awaited);
            state = self.change.wait_timeout(state, wait).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
            if let Some(place) = state.awaited.iter().position(|range| *range == awaited) {
                state.awaited.swap_remove(place);
            }
        }
    }
}

impl SpanState {
    /// The bytes in memory from `at` on, up to `end`.
    fn take(&mut self, at: u64, end: u64, now: u64) -> Option<Bytes> {
        let (&start, piece) = self.pieces.range_mut(..=at).next_back()?;
        let from = usize::try_from(at - start).ok().filter(|&from| from < piece.bytes.len())?;
        piece.used = now;
        Some(piece.bytes.slice(from..piece.bytes.len().min((end - start) as usize)))
    }

    fn begin(&mut self, left: ByteRange) -> u64 {
        self.numbers += 1;
        self.flights.push(Flight { number: self.numbers, left, failed: Arc::default() });
        self.numbers
    }

    /// The callbacks that are due now that a flight has reached `here`.
    fn due(&mut self, number: u64, here: u64) -> Vec<Then> {
        for watcher in &mut self.watchers {
            watcher.flights.retain(|&(flight, end)| flight != number || end > here);
        }
        self.watchers.extract_if(.., |watcher| watcher.flights.is_empty()).map(|watcher| watcher.then).collect()
    }

    /// The parts of a range that are in memory or on their way, ascending.
    fn taken(&self, range: ByteRange) -> Vec<ByteRange> {
        let first = self.pieces.range(..=range.start).next_back().map_or(range.start, |(&start, _)| start);
        let pieces = self.pieces.range(first..range.end()).map(|(&start, piece)| (start, piece.bytes.len() as u64));
        let flights = self.flights.iter().map(|flight| (flight.left.start, flight.left.len));
        let all = pieces.chain(flights).map(|(start, len)| ByteRange { start, len });
        let mut taken: Vec<_> = all.filter(|it| it.start < range.end() && range.start < it.end()).collect();
        taken.sort_unstable_by_key(|it| it.start);
        taken
    }

    fn missing(&self, range: ByteRange) -> Vec<ByteRange> {
        let (mut at, mut missing) = (range.start, Vec::new());
        for taken in self.taken(range) {
            if at < taken.start {
                missing.push(ByteRange { start: at, len: taken.start - at });
            }
            at = at.max(taken.end());
        }
        if at < range.end() {
            missing.push(ByteRange { start: at, len: range.end() - at });
        }
        missing
    }

    fn is_free(&self, start: u64, end: u64) -> bool {
        end <= start || self.taken(ByteRange { start, len: end - start }).is_empty()
    }
}

fn covers(range: ByteRange, at: u64) -> bool {
    (range.start..range.end()).contains(&at)
}

/// Splits a range into about equal parts, none longer than `longest`.
fn cut(range: ByteRange, longest: u64) -> impl Iterator<Item = ByteRange> {
    let parts = range.len.div_ceil(longest.max(1)).max(1);
    let len = range.len.div_ceil(parts);
    (0..parts).map(move |part| {
        let start = range.start + part * len;
        ByteRange { start, len: len.min(range.end() - start) }
    })
}
