//! Model check of the span table and its cache: concurrent readers, watchers, fetches and evictions of two sources.
//!
//! Under every schedule tried: no byte is fetched twice at a time, readers get the source's bytes, watchers are called
//! once, bytes that a reader waits for are not evicted before the reader has them, the cache's count is correct, and no
//! thread sleeps for ever.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;

use super::{Cache, FetchError, SpanTable};
use crate::source::ByteRange;
use crate::sync::model::{TimedWaits, check};
use crate::sync::{Mutex, thread};

const PATIENCE: Duration = Duration::from_secs(10);

/// A source in which the value of each byte is its offset.
struct Fixture {
    spans: Arc<SpanTable>,
    /// Bytes of fetches that have not arrived.
    under_way: Mutex<Vec<u64>>,
    /// Bytes that a fetch brings at a time.
    chunk: u64,
    /// The number of the fetch that fails half way.
    fails: Option<u64>,
}

impl Fixture {
    fn new(cache: &Arc<Cache>, chunk: u64, fails: Option<u64>) -> Arc<Fixture> {
        Arc::new(Fixture { spans: SpanTable::new(cache), under_way: Mutex::default(), chunk, fails })
    }

    /// Reserves the missing parts of a range, and fetches them in threads of their own.
    fn fetch(self: &Arc<Fixture>, range: ByteRange) {
        for (number, range) in self.spans.reserve(vec![range], 1, 4) {
            let mut under_way = self.under_way.lock().unwrap();
            for at in range.start..range.end() {
                assert!(!under_way.contains(&at), "{at} is fetched twice");
                under_way.push(at);
            }
            drop(under_way);
            let own = Arc::clone(self);
            thread::spawn(move || own.bring(number, range));
        }
    }

    fn bring(&self, number: u64, range: ByteRange) {
        let problem = (self.fails == Some(number)).then_some(FetchError::Changed);
        let end = if problem.is_some() { range.start + range.len / 2 } else { range.end() };
        let mut at = range.start;
        while at < end {
            let next = (at + self.chunk).min(end);
            // Before `arrive`: after it the bytes may be evicted, and fetched again.
            self.brought(at..next);
            self.spans.arrive(number, content(at, next));
            at = next;
        }
        self.brought(at..range.end());
        self.spans.end(number, problem);
    }

    fn brought(&self, bytes: Range<u64>) {
        self.under_way.lock().unwrap().retain(|at| !bytes.contains(at));
    }

    /// Reads a range, and fetches missing parts. `None` if the wait is too long.
    fn read(self: &Arc<Fixture>, range: ByteRange) -> Option<Vec<u8>> {
        let mut fetch = |missing| {
            self.fetch(missing);
            Ok(())
        };
        loop {
            match self.spans.read(range, PATIENCE, &|| false, &mut fetch) {
                Ok(pieces) => return pieces.map(|pieces| pieces.concat()),
                Err(problem) => assert!(problem == FetchError::Changed && self.fails.is_some()),
            }
        }
    }

    /// Bytes in memory.
    fn kept(&self) -> u64 {
        self.spans.lock().pieces.values().map(|piece| piece.bytes.len() as u64).sum()
    }
}

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange { start, len: end - start }
}

fn content(start: u64, end: u64) -> Bytes {
    (start..end).map(|at| at as u8).collect::<Vec<u8>>().into()
}

/// Reads in a thread of its own, and compares.
fn reader(source: &Arc<Fixture>, start: u64, end: u64) -> thread::JoinHandle<()> {
    let source = Arc::clone(source);
    thread::spawn(move || {
        if let Some(bytes) = source.read(range(start, end)) {
            assert_eq!(bytes, content(start, end));
        }
    })
}

fn join(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn readers_of_two_sources_get_their_bytes_while_the_cache_evicts() {
    check(TimedWaits::MayTimeOut, || {
        let cache = Arc::new(Cache::new(6));
        let sources = [3, 2].map(|chunk| Fixture::new(&cache, chunk, None));
        join([reader(&sources[0], 0, 6), reader(&sources[0], 3, 8), reader(&sources[1], 10, 15)]);
        // Fetches may outlast readers.
        while sources.iter().any(|source| !source.spans.lock().pending.is_empty()) {
            thread::yield_now();
        }
        assert_eq!(cache.held(), sources.iter().map(|source| source.kept()).sum::<u64>());
        sources[0].spans.lock().pieces.values().for_each(|piece| assert!(piece.bytes.len() <= 4));
    });
}

#[test]
fn the_cache_counts_what_is_kept_and_keeps_to_its_budget() {
    check(TimedWaits::MayTimeOut, || {
        let cache = Arc::new(Cache::new(4));
        let sources = [2, 2].map(|chunk| Fixture::new(&cache, chunk, None));
        let threads = [(0, 0), (0, 4), (1, 0), (1, 4)].map(|(source, start): (usize, u64)| {
            let source = Arc::clone(&sources[source]);
            thread::spawn(move || {
                for (number, range) in source.spans.reserve(vec![range(start, start + 4)], 0, 4) {
                    source.bring(number, range);
                }
            })
        });
        join(threads);
        // No reader waited, so no piece was protected.
        assert!(cache.held() <= 4, "{}", cache.held());
        assert_eq!(cache.held(), sources.iter().map(|source| source.kept()).sum::<u64>());
        drop(sources);
        assert_eq!(cache.held(), 0);
    });
}

#[test]
fn a_reader_that_waits_has_its_bytes_before_they_are_evicted() {
    check(TimedWaits::MayTimeOut, || {
        // With no budget, only awaited pieces stay.
        let cache = Arc::new(Cache::new(0));
        let source = Fixture::new(&cache, 4, None);
        let (number, reserved) = source.spans.reserve(vec![range(0, 4)], 0, 4)[0];
        let is_waiting = Arc::new(AtomicBool::new(false));
        let (own, waits) = (Arc::clone(&source), Arc::clone(&is_waiting));
        let reader = thread::spawn(move || {
            let mut fetches = 0;
            let mut fetch = |_| {
                fetches += 1;
                Err(FetchError::Changed)
            };
            // Called under the lock, just before the reader waits.
            let is_over = || {
                waits.store(true, Relaxed);
                false
            };
            let read = own.spans.read(range(0, 4), PATIENCE, &is_over, &mut fetch);
            (read.ok().flatten().map(|pieces| pieces.concat()), fetches)
        });
        thread::yield_now();
        let table = source.spans.lock();
        let is_waiting = is_waiting.load(Relaxed);
        drop(table);
        source.bring(number, reserved);
        let (bytes, fetches) = reader.join().unwrap();
        assert!(!is_waiting || fetches == 0, "the bytes were evicted, though waited for");
        assert!(bytes.is_none_or(|bytes| bytes == content(0, 4)[..]));
    });
}

#[test]
fn a_reader_has_its_bytes_before_the_fetch_ends() {
    check(TimedWaits::MayTimeOut, || {
        let source = Fixture::new(&Arc::new(Cache::new(100)), 4, None);
        let number = source.spans.reserve(vec![range(0, 4)], 0, 4)[0].0;
        let reader = reader(&source, 0, 2);
        source.spans.arrive(number, content(0, 2));
        reader.join().unwrap();
        source.spans.end(number, None);
    });
}

#[test]
fn readers_go_on_after_a_fetch_that_failed() {
    check(TimedWaits::MayTimeOut, || {
        let source = Fixture::new(&Arc::new(Cache::new(100)), 2, Some(1));
        join([reader(&source, 0, 4), reader(&source, 1, 6)]);
    });
}

#[test]
fn watchers_are_called_once_and_not_before_their_bytes_are_here() {
    check(TimedWaits::MayTimeOut, || {
        let source = Fixture::new(&Arc::new(Cache::new(100)), 2, None);
        let calls = Arc::new(Mutex::new([0; 3]));
        let wanted = [range(0, 3), range(2, 8), range(20, 24)];
        let watchers = wanted.iter().enumerate().map(|(watcher, &wanted)| {
            let (source, calls) = (Arc::clone(&source), Arc::clone(&calls));
            thread::spawn(move || {
                source.fetch(wanted);
                let own = Arc::clone(&source);
                let then = move || {
                    assert!(own.spans.is_available(wanted));
                    calls.lock().unwrap()[watcher] += 1;
                };
                source.spans.on_available(&[wanted], Box::new(then));
            })
        });
        join(watchers.collect::<Vec<_>>());
        while !source.spans.lock().pending.is_empty() || calls.lock().unwrap().contains(&0) {
            thread::yield_now();
        }
        assert_eq!(*calls.lock().unwrap(), [1; 3]);
    });
}

#[test]
fn a_watcher_of_a_fetch_that_fails_is_called() {
    check(TimedWaits::MayTimeOut, || {
        let source = Fixture::new(&Arc::new(Cache::new(100)), 2, Some(1));
        let calls = Arc::new(Mutex::new(0));
        source.fetch(range(0, 4));
        let own = Arc::clone(&calls);
        source.spans.on_available(&[range(0, 4)], Box::new(move || *own.lock().unwrap() += 1));
        while *calls.lock().unwrap() == 0 || !source.spans.lock().pending.is_empty() {
            thread::yield_now();
        }
        assert_eq!(*calls.lock().unwrap(), 1);
        assert!(source.spans.lock().watchers.is_empty());
    });
}

#[test]
fn a_wait_for_bytes_ends_when_they_are_here() {
    check(TimedWaits::MayTimeOut, || {
        let source = Fixture::new(&Arc::new(Cache::new(100)), 2, None);
        source.fetch(range(0, 4));
        let is_awaited = source.spans.is_pending_after(range(1, 3), PATIENCE);
        assert!(is_awaited || source.spans.is_available(range(1, 3)));
    });
}
