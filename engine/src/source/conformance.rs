//! What every source must do, run against each implementation.

use ffi::PADDING;

use super::{ByteRange, Source};
use crate::error::ErrorKind;

const LENGTH: usize = 10_000;

/// The bytes that the source under test must hold.
pub(crate) fn bytes() -> Vec<u8> {
    (0..LENGTH).map(|index| (index * 7 + index / 256) as u8 | 1).collect()
}

/// For sources that count what they are asked for.
pub(crate) fn run(source: &dyn Source) {
    gives_what_it_has(source);
    let before = source.counters().now();
    let last = ByteRange { start: (LENGTH - PADDING) as u64, len: PADDING as u64 };
    source.read_padded(last).unwrap();
    let after = source.counters().now();
    assert_eq!((after.requests - before.requests, after.bytes - before.bytes), (1, PADDING as u64));
}

/// For all sources.
pub(crate) fn gives_what_it_has(source: &dyn Source) {
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
    source.check().unwrap();
}
