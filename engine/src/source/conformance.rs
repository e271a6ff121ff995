//! The conformance suites of the two traits, run against each implementation.
//!
//! [`local`] is for sources without, [`remote`] for those with a [`RemoteSource`] part. Both begin with the suite of
//! [`Source`].

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use ffi::PADDING;

use super::{ByteRange, ReadCounts, RemoteSource, Source};
use crate::error::ErrorKind;

const LENGTH: usize = 10_000;

/// The time limit for bytes that travel within this machine.
const SOON: Duration = Duration::from_secs(20);

/// The bytes that the source under test must hold.
pub(crate) fn bytes() -> Vec<u8> {
    (0..LENGTH).map(|index| (index * 7 + index / 256) as u8 | 1).collect()
}

/// A source without a remote part: counters count reads, and `dyn Source` answers that bytes are available.
pub(crate) fn local(source: &dyn Source) {
    reads_all_ranges(source);
    let before = source.counters().now();
    let last = ByteRange { start: (LENGTH - PADDING) as u64, len: PADDING as u64 };
    source.read_padded(last).unwrap();
    let after = source.counters().now();
    assert_eq!((after.requests - before.requests, after.bytes - before.bytes), (1, PADDING as u64));
    assert!(source.remote().is_none() && !source.is_remote());
    source.will_need(&mut std::iter::from_fn(|| panic!("a local source does not look at hints")));
    let (sender, called) = channel();
    source.on_available(&mut std::iter::once(last), Box::new(move || sender.send(()).unwrap()));
    called.try_recv().expect("at once: the bytes are available");
    assert!(source.is_available(last) && !source.is_pending_after(last, SOON));
    assert_eq!(
        (source.prefetch_capacity(), source.opening_reads(), source.validated_at()),
        (u64::MAX, ReadCounts::default(), None)
    );
    source.revalidate();
    assert_eq!(source.counters().now(), after, "none of these calls reads");
}

/// A source with a remote part that was just opened, and whose server still has the same version.
pub(crate) fn remote(source: &dyn Source) {
    let remote = source.remote().expect("it has a remote part");
    assert!(source.is_remote());
    // The first block may be larger than a small cache: if it arrived later, it would evict what the suite reads.
    let (all, started) = (ByteRange { start: 0, len: LENGTH as u64 }, Instant::now());
    while remote.is_pending_after(all, SOON) {
        assert!(started.elapsed() < SOON, "the first block does not arrive");
    }
    hints_bring_bytes(source, remote);
    opening_is_counted(source, remote);
    a_version_is_confirmed(source, remote);
    reads_all_ranges(source);
    opening_is_counted(source, remote);
}

/// The suite of every source.
fn reads_all_ranges(source: &dyn Source) {
    let expected = bytes();
    assert_eq!(source.len(), LENGTH as u64);
    assert!(!source.name().is_empty());
    for (start, len) in [(0, 0), (0, 1), (0, LENGTH), (17, 4096), (LENGTH - 1, 1), (LENGTH, 0)] {
        let range = ByteRange { start: start as u64, len: len as u64 };
        assert_eq!(source.read(range).unwrap()[..], expected[start..start + len]);
        assert_eq!(source.read_padded(range).unwrap().data(), &expected[start..start + len]);
        assert_eq!(source.read_zero_padded(range).unwrap().data(), &expected[start..start + len]);
    }
    for (start, len) in [(0, LENGTH + 1), (LENGTH, 1), (LENGTH + 5, 0), (usize::MAX, 1), (1, usize::MAX)] {
        let range = ByteRange { start: start as u64, len: len as u64 };
        assert!(matches!(source.read(range).unwrap_err().kind(), ErrorKind::PastEnd { .. }), "{range:?}");
        assert!(source.read_padded(range).is_err() && source.read_zero_padded(range).is_err());
    }
    let before = source.counters().now();
    let last = ByteRange { start: (LENGTH - PADDING) as u64, len: PADDING as u64 };
    source.read_padded(last).unwrap();
    let after = source.counters().now();
    assert_eq!(
        after.copied - before.copied,
        PADDING as u64,
        "nothing follows the last bytes: they are copied, and counted"
    );
    assert_eq!(source.version(), source.version());
    source.check().unwrap();
}

/// Hints return at once, their bytes arrive and are then read without a request, and `then` is called exactly once,
/// for any ranges.
fn hints_bring_bytes(source: &dyn Source, remote: &dyn RemoteSource) {
    assert!(remote.prefetch_capacity() > 0);
    let len = (remote.prefetch_capacity() / 8).min(40);
    let ranges = [3000, 3000 + len, 9000].map(|start| ByteRange { start, len });
    let before = source.counters().now();
    let arrived = await_hint(remote, &ranges);
    let counted = source.counters().now();
    for range in ranges {
        assert!(remote.is_available(range) && !remote.is_pending_after(range, Duration::ZERO), "{range:?}");
        let (start, end) = (range.start as usize, range.end() as usize);
        assert_eq!(source.read_padded(range).unwrap().data(), &bytes()[start..end]);
    }
    let after = source.counters().now();
    assert_eq!((after.requests, after.bytes), (counted.requests, counted.bytes), "available bytes are not fetched");
    assert!(counted.bytes - before.bytes >= 3 * len || counted == before, "{arrived:?}: fetched, or available before");
    remote.will_need(&mut ranges.into_iter());
    let (end, past) = (ByteRange { start: LENGTH as u64, len: 0 }, ByteRange { start: LENGTH as u64, len: 1000 });
    await_hint(remote, &ranges);
    await_hint(remote, &[end, past, ByteRange { start: u64::MAX, len: u64::MAX }]);
    await_hint(remote, &[]);
    assert!(!remote.is_pending_after(past, Duration::ZERO), "no byte past the end is in flight");
    assert_eq!(source.counters().now().requests, after.requests, "no further request");
    let far = ByteRange { start: 6000, len };
    let (started, timeout) = (Instant::now(), Duration::from_millis(5));
    remote.will_need(&mut std::iter::once(far));
    while remote.is_pending_after(far, timeout) {
        assert!(started.elapsed() < SOON, "it does not arrive");
    }
    assert!(remote.is_available(far));
}

/// Waits until a hint calls back, and asserts that it does so once.
fn await_hint(remote: &dyn RemoteSource, ranges: &[ByteRange]) -> Duration {
    let (sender, called) = channel();
    let began = Instant::now();
    remote.on_available(&mut ranges.iter().copied(), Box::new(move || sender.send(()).unwrap()));
    called.recv_timeout(SOON).expect("it calls back");
    assert!(called.recv().is_err(), "it calls back once, and drops its callback");
    began.elapsed()
}

/// Opening has a fixed share of the counters.
fn opening_is_counted(source: &dyn Source, remote: &dyn RemoteSource) {
    let (opening, all) = (remote.opening_reads(), source.counters().now());
    assert!(opening.requests >= 1 && opening.requests <= all.requests, "{opening:?} of {all:?}");
    assert!(opening.bytes <= all.bytes && opening.copied <= all.copied, "{opening:?} of {all:?}");
    source.read(ByteRange { start: 7000, len: 100 }).unwrap();
    assert_eq!(remote.opening_reads(), opening);
}

/// A validation sets its time, and reports no change.
fn a_version_is_confirmed(source: &dyn Source, remote: &dyn RemoteSource) {
    let (started, version) = (Instant::now(), source.version());
    assert!(remote.validated_at() <= started);
    remote.revalidate();
    assert!(remote.validated_at() >= started && remote.validated_at() <= Instant::now());
    source.check().unwrap();
    assert!(version.is_some() && source.version() == version);
}
