//! Tests of the span table.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Cache, FetchError, SpanTable};
use crate::source::ByteRange;

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange { start, len: end - start }
}

fn reserved(spans: &SpanTable, wanted: &[(u64, u64)], gap: u64) -> Vec<(u64, u64)> {
    let wanted = wanted.iter().map(|&(start, end)| range(start, end)).collect();
    spans.reserve(wanted, gap, 1000).into_iter().map(|(_, range)| (range.start, range.end())).collect()
}

#[test]
fn nothing_is_reserved_twice_and_gaps_are_bridged_where_nothing_is() {
    let spans = SpanTable::new(&Arc::new(Cache::new(10_000)));
    assert_eq!(reserved(&spans, &[(100, 200), (0, 50), (230, 250)], 40), [(0, 50), (100, 250)]);
    assert_eq!(reserved(&spans, &[(0, 300)], 40), [(50, 100), (250, 300)]);
    assert_eq!(reserved(&spans, &[(0, 300), (120, 130)], 40), []);
    assert_eq!(
        reserved(&spans, &[(280, 310), (300, 310), (5000, 7500)], 40),
        [(300, 310), (5000, 5834), (5834, 6668), (6668, 7500)]
    );
}

#[test]
fn a_reader_has_its_bytes_before_the_fetch_ends() {
    let spans = SpanTable::new(&Arc::new(Cache::new(10_000)));
    let number = spans.reserve(vec![range(0, 100)], 0, 1000)[0].0;
    spans.arrive(number, Bytes::from(vec![1; 60]));
    let soon = Duration::from_millis(20);
    let read = |range| spans.read(range, soon, &|| false, &mut |_| panic!("it is in flight"));
    let pieces = read(range(10, 60)).ok().flatten().expect("here");
    assert_eq!(pieces.concat(), [1; 50]);
    assert!(matches!(read(range(10, 61)), Ok(None)), "it has not arrived");
    spans.end(number, Some(FetchError::Changed));
    let mut asked = None;
    let read = spans.read(range(50, 100), Duration::from_secs(9), &|| false, &mut |missing| {
        asked = Some(missing);
        Err(FetchError::Changed)
    });
    assert!(read.is_err() && asked == Some(range(60, 100)), "what failed before is tried again");
}

#[test]
fn the_least_recently_read_goes_first() {
    let cache = Arc::new(Cache::new(100));
    let (spans, other) = (SpanTable::new(&cache), SpanTable::new(&cache));
    for start in [0, 40] {
        let number = spans.reserve(vec![range(start, start + 40)], 0, 1000)[0].0;
        spans.arrive(number, Bytes::from(vec![0; 40]));
        spans.end(number, None);
    }
    assert!(spans.view(range(0, 40), 40).is_some());
    let number = other.reserve(vec![range(80, 120)], 0, 1000)[0].0;
    other.arrive(number, Bytes::from(vec![0; 40]));
    assert!(spans.view(range(40, 41), 41).is_none(), "it makes room for another source");
    assert!(spans.view(range(0, 40), 40).is_some() && other.view(range(80, 120), 120).is_some());
    assert_eq!(cache.held(), 80);
    drop(spans);
    assert_eq!(cache.held(), 40);
}
