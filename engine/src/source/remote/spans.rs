//! The span table of a source: which bytes are in memory, and which are in flight.
//!
//! Bytes are kept in the pieces in which they arrived, until `cache` evicts them. A *fetch* reserves the bytes in
//! flight, so that they are requested once: all readers wait for it, and each gets its bytes as soon as they arrive,
//! not when the fetch ends. The requests are left to the caller.

#[cfg(all(test, shuttle))]
mod model;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;

use super::cache::Cache;
use super::request::FetchError;
use crate::source::{ByteRange, opening};
use crate::sync::{Condvar, Instant, Mutex, MutexGuard};

/// Smaller pieces are copied.
const SMALL: usize = 16 << 10;

#[derive(Debug)]
struct CachedSpan {
    bytes: Bytes,
    /// When it was last read, or arrived.
    used: u64,
}

/// The bytes in flight of one fetch.
#[derive(Debug)]
struct PendingSpan {
    number: u64,
    /// The bytes that have not arrived.
    left: ByteRange,
    /// The reason why they did not arrive.
    failed: Arc<OnceLock<FetchError>>,
}

/// A callback for the arrival of bytes.
type Callback = Box<dyn FnOnce() + Send>;

/// A callback for the end of fetches, successful or not.
struct Watcher {
    /// Numbers of fetches, and the offset up to which each is awaited.
    pending: Vec<(u64, u64)>,
    then: Callback,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Watcher").field("pending", &self.pending).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct SpanState {
    /// By their offsets; none overlaps another, or a fetch.
    pieces: BTreeMap<u64, CachedSpan>,
    pending: Vec<PendingSpan>,
    /// Ranges that readers wait for: not evicted before they are read.
    waited_for: Vec<ByteRange>,
    watchers: Vec<Watcher>,
    numbers: u64,
}

/// The bytes of one source.
#[derive(Debug)]
pub(super) struct SpanTable {
    state: Mutex<SpanState>,
    change: Condvar,
    cache: Arc<Cache>,
}

impl Drop for SpanTable {
    fn drop(&mut self) {
        let starts: Vec<u64> = self.lock().pieces.keys().copied().collect();
        self.forget(&starts);
    }
}

/// The state of the bytes at an offset.
enum SpanLookup {
    Available(Bytes),
    Pending(Arc<OnceLock<FetchError>>),
    Missing,
}

impl SpanTable {
    /// The table of a source that shares `cache` with others.
    pub(super) fn new(cache: &Arc<Cache>) -> Arc<SpanTable> {
        let spans = Arc::new(SpanTable { state: Mutex::default(), change: Condvar::new(), cache: Arc::clone(cache) });
        cache.join(&spans);
        spans
    }

    fn lock(&self) -> MutexGuard<'_, SpanState> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Reserves the parts of `ranges` that are neither in memory nor in flight, in as few fetches as gaps of `gap`
    /// bytes allow, none longer than `longest` bytes. The caller must end these fetches.
    pub(super) fn reserve(&self, mut ranges: Vec<ByteRange>, gap: u64, longest: u64) -> Vec<(u64, ByteRange)> {
        ranges.sort_unstable_by_key(|range| range.start);
        let mut state = self.lock();
        let mut merged: Vec<ByteRange> = Vec::new();
        for missing in ranges.into_iter().flat_map(|range| state.missing(range)) {
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

    /// Adds the next bytes of a fetch.
    pub(super) fn arrive(&self, number: u64, bytes: Bytes) {
        let mut state = self.lock();
        let Some(fetch) = state.pending.iter_mut().find(|fetch| fetch.number == number) else { return };
        let (start, len) = (fetch.left.start, bytes.len() as u64);
        fetch.left = ByteRange { start: start + len, len: fetch.left.len.saturating_sub(len) };
        let used = self.cache.now();
        self.cache.add_bytes(len);
        // A view of a few bytes would keep the whole buffer in which they arrived.
        let bytes = if bytes.len() < SMALL { Bytes::copy_from_slice(&bytes) } else { bytes };
        state.pieces.insert(start, CachedSpan { bytes, used });
        let due = state.due(number, start + len);
        drop(state);
        self.change.notify_all();
        due.into_iter().for_each(|then| then());
        self.cache.evict_over_budget();
    }

    /// Ends a fetch, successful or not.
    pub(super) fn end(&self, number: u64, problem: Option<FetchError>) {
        let mut state = self.lock();
        let due = state.due(number, u64::MAX);
        state.pending.retain(|fetch| {
            let is_over = fetch.number == number;
            if let (true, Some(problem)) = (is_over, &problem) {
                let _ = fetch.failed.set(problem.clone());
            }
            !is_over
        });
        drop(state);
        self.change.notify_all();
        due.into_iter().for_each(|then| then());
    }

    /// Calls `then` once no part of `ranges` is in flight, possibly before this method returns.
    pub(super) fn on_available(&self, ranges: &[ByteRange], then: Callback) {
        let mut state = self.lock();
        // If several ranges are part of a fetch, the end of the last one counts.
        let end = |left: ByteRange| {
            let within = ranges.iter().filter(|range| range.start < left.end() && left.start < range.end());
            within.map(|range| range.end().min(left.end())).max()
        };
        let pending = state.pending.iter().filter_map(|fetch| Some((fetch.number, end(fetch.left)?)));
        let pending: Vec<(u64, u64)> = pending.collect();
        if pending.is_empty() {
            drop(state);
            then();
        } else {
            state.watchers.push(Watcher { pending, then });
        }
    }

    /// Whether a part of `range` is in flight after a wait of up to `patience`.
    pub(super) fn is_pending_after(&self, range: ByteRange, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            let is_coming = |fetch: &PendingSpan| fetch.left.start < range.end() && range.start < fetch.left.end();
            if !state.pending.iter().any(is_coming) {
                return false;
            }
            let Some(wait) = deadline.checked_duration_since(Instant::now()) else { return true };
            state = self.change.wait_timeout(state, wait).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }

    /// Whether all of `range` is in memory.
    pub(super) fn is_available(&self, range: ByteRange) -> bool {
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
        match self.lock().slice_at(range.start, end, self.cache.now()) {
            Some(bytes) if bytes.len() as u64 == end - range.start => Some(bytes),
            _ => None,
        }
    }

    /// The bytes of `range`, in pieces. Calls `fetch` with a missing part, which it must reserve. `None` if no byte
    /// arrives for `patience`, or once `is_over` returns true.
    pub(super) fn read(
        &self,
        range: ByteRange,
        timeout: Duration,
        is_over: &dyn Fn() -> bool,
        fetch: &mut dyn FnMut(ByteRange) -> Result<(), FetchError>,
    ) -> Result<Option<Vec<Bytes>>, FetchError> {
        let (mut at, mut pieces) = (range.start, Vec::new());
        while at < range.end() {
            match self.wait_for(at, range.end(), timeout, is_over) {
                Some(SpanLookup::Available(bytes)) => {
                    at += bytes.len() as u64;
                    pieces.push(bytes);
                }
                Some(SpanLookup::Pending(failed)) => {
                    if let Some(problem) = failed.get() {
                        return Err(problem.clone());
                    }
                }
                Some(SpanLookup::Missing) => fetch(ByteRange { start: at, len: range.end() - at })?,
                None => return Ok(None),
            }
        }
        Ok(Some(pieces))
    }

    /// Pieces that may be evicted: time of last use, offset and length.
    pub(super) fn free(&self) -> Vec<(u64, u64, u64)> {
        let state = self.lock();
        let is_pending = |start: u64, end: u64| state.waited_for.iter().any(|it| it.start < end && start < it.end());
        let pieces = state.pieces.iter().map(|(&start, piece)| (piece.used, start, piece.bytes.len() as u64));
        pieces.filter(|&(_, start, len)| !is_pending(start, start + len)).collect()
    }

    /// Drops the pieces at these offsets.
    pub(super) fn forget(&self, starts: &[u64]) {
        let mut state = self.lock();
        let evicted: Vec<CachedSpan> = starts.iter().filter_map(|start| state.pieces.remove(start)).collect();
        drop(state);
        self.cache.remove_bytes(evicted.iter().map(|piece| piece.bytes.len() as u64).sum());
    }

    /// The state at an offset, after a wait for bytes in flight; `None` if none arrive for `patience`, or the wait is
    /// over.
    fn wait_for(&self, at: u64, end: u64, timeout: Duration, is_over: &dyn Fn() -> bool) -> Option<SpanLookup> {
        let mut state = self.lock();
        let mut last_error: Option<Arc<OnceLock<FetchError>>> = None;
        let (mut deadline, mut left) = (Instant::now() + timeout, 0);
        loop {
            if let Some(bytes) = state.slice_at(at, end, self.cache.now()) {
                return Some(SpanLookup::Available(bytes));
            }
            match state.pending.iter().find(|fetch| covers(fetch.left, at)) {
                Some(found) => {
                    last_error = Some(Arc::clone(&found.failed));
                    if std::mem::replace(&mut left, found.left.len) != found.left.len {
                        deadline = Instant::now() + timeout;
                    }
                }
                None => return Some(last_error.map_or(SpanLookup::Missing, SpanLookup::Pending)),
            }
            if is_over() {
                return None;
            }
            let wait = deadline.checked_duration_since(Instant::now())?;
            let wait = if opening::is_active() { wait.min(opening::LOOK) } else { wait };
            let awaited = ByteRange { start: at, len: end - at };
            state.waited_for.push(awaited);
            state = self.change.wait_timeout(state, wait).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
            if let Some(place) = state.waited_for.iter().position(|range| *range == awaited) {
                state.waited_for.swap_remove(place);
            }
        }
    }
}

impl SpanState {
    /// The bytes in memory from `at` on, up to `end`.
    fn slice_at(&mut self, at: u64, end: u64, now: u64) -> Option<Bytes> {
        let (&start, piece) = self.pieces.range_mut(..=at).next_back()?;
        let from = usize::try_from(at - start).ok().filter(|&from| from < piece.bytes.len())?;
        piece.used = now;
        Some(piece.bytes.slice(from..piece.bytes.len().min((end - start) as usize)))
    }

    fn begin(&mut self, left: ByteRange) -> u64 {
        self.numbers += 1;
        self.pending.push(PendingSpan { number: self.numbers, left, failed: Arc::default() });
        self.numbers
    }

    /// The callbacks that are due now that a fetch has reached `here`.
    fn due(&mut self, number: u64, here: u64) -> Vec<Callback> {
        for watcher in &mut self.watchers {
            watcher.pending.retain(|&(fetch, end)| fetch != number || end > here);
        }
        self.watchers.extract_if(.., |watcher| watcher.pending.is_empty()).map(|watcher| watcher.then).collect()
    }

    /// The parts of a range that are in memory or in flight, ascending.
    fn taken(&self, range: ByteRange) -> Vec<ByteRange> {
        let first = self.pieces.range(..=range.start).next_back().map_or(range.start, |(&start, _)| start);
        let pieces = self.pieces.range(first..range.end()).map(|(&start, piece)| (start, piece.bytes.len() as u64));
        let fetches = self.pending.iter().map(|fetch| (fetch.left.start, fetch.left.len));
        let all = pieces.chain(fetches).map(|(start, len)| ByteRange { start, len });
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
