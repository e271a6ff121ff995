//! Fuzzes the reference structure of arbitrary bytes as a file: queries in any order must return the same result.
#![no_main]

use std::sync::Arc;

use bucket_streamer::bitstream::hevc_slice::PictureKind;
use bucket_streamer::container::Track;
use bucket_streamer::plan::{Pictures, Planner, References, Structure};
use bucket_streamer::source::{MemorySource, Source};
use libfuzzer_sys::fuzz_target;

#[path = "counters.rs"]
mod counters;

const INPUT_LIMIT: usize = 1 << 20;
/// More samples take longer, but are no further case.
const SAMPLE_LIMIT: u32 = 200;

fuzz_target!(|data: &[u8]| {
    counters::keep();
    if data.len() > INPUT_LIMIT {
        return;
    }
    let source: Arc<dyn Source> = Arc::new(MemorySource::new("fuzz", data.to_vec()));
    let Ok(track) = Track::open(&source, 0) else { return };
    let (planner, count) = (Planner::new(&track), (track.samples.len() as u32).min(SAMPLE_LIMIT));
    let (often, once) = (References::new(), References::new());
    let syncs: Vec<u32> = (0..count).filter(|&sample| track.samples[sample as usize].key).collect();
    let structure =
        |references: &References, first, last| references.structure(&planner, &track, &*source, first, last);
    for &first in syncs.iter().chain([&0]) {
        let Structure::Graph(whole) = structure(&once, first, count - 1) else { continue };
        graph(&whole);
        for last in (first..count).step_by(7) {
            let Structure::Graph(part) = structure(&often, first, last) else {
                panic!("a part of a known run is unknown")
            };
            assert!((first..=last).all(|sample| part.get(sample) == whole.get(sample)), "the same each time");
        }
    }
    for last in 0..count {
        for &first in syncs.iter().rev().chain([&last, &count]) {
            match structure(&often, first, last) {
                Structure::Graph(pictures) => assert!(first <= last && pictures.get(last).is_some()),
                Structure::Droppable(samples) => _ = (0..=count).map(|at| samples.is_droppable(at)).collect::<Vec<_>>(),
                Structure::Slots(slots) => _ = slots.needed(last),
                Structure::Unknown => {}
            }
        }
    }
    assert!(matches!(structure(&often, 0, u32::MAX), Structure::Unknown), "no such sample");
});

/// Invariants that planning relies on.
fn graph(pictures: &Pictures) {
    let (first, last) = (pictures.first(), pictures.last());
    for sample in first..=last {
        let picture = pictures.get(sample).expect("all of the run");
        assert!(picture.refs.is_sorted() && picture.refs.iter().all(|&of| first <= of && of < sample));
        assert!(picture.irap <= sample && (picture.irap == sample) == picture.kind.is_irap());
        assert!(!picture.kind.is_irap() || picture.refs.is_empty());
        let is_rasl = |sample: u32| pictures.get(sample).is_some_and(|picture| picture.kind == PictureKind::Rasl);
        assert!(
            is_rasl(sample) || !picture.refs.iter().any(|&of| is_rasl(of)),
            "{sample} refers to a picture that may be skipped"
        );
        assert!(picture.kind == PictureKind::Cra || pictures.poc_in_gop_before(sample).is_none());
    }
    for target in (first..=last).step_by(5) {
        let closure = pictures.closure(&[target]);
        assert_eq!(closure.last(), Some(&target));
        if let Some(kept) = pictures.to_decode(&[target]) {
            assert!(kept.windows(2).all(|pair| pair[0] < pair[1]) && kept.first() == Some(&first));
            assert!(closure.iter().all(|sample| kept.contains(sample)) && pictures.misplaced(&kept).is_none());
        }
    }
}
