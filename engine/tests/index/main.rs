//! The portable index: it gives the same video as opening without it; a file that is no index, or an index of another
//! video, is refused.
#![allow(clippy::print_stderr, reason = "tests report the clips that they skip")]

mod forged;
mod refused;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use bucket_streamer::bitstream::Codec;
use bucket_streamer::container::Container;
use bucket_streamer::plan::{Planner, References, Structure};
use bucket_streamer::source::{FileSource, MemorySource, Source};
use bucket_streamer::still::raw;
use bucket_streamer::{Engine, Index, Result, Video};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::Value;

use testing::clips::{clips, fixture, name, open};

fn source(clip: &Path) -> Arc<dyn Source> {
    Arc::new(FileSource::open(clip).expect("a clip"))
}

fn index(bytes: impl Into<Vec<u8>>) -> Result<Index> {
    Index::read(&MemorySource::new("clip.index", bytes.into()))
}

fn reopened(engine: &Engine, clip: &Path, bytes: &[u8]) -> Result<Video> {
    engine.open_with_index(source(clip), &index(bytes)?)
}

fn exported(clip: &Path) -> Vec<u8> {
    let video = Engine::new(Some(1)).open_path(clip).expect("a clip");
    video.export_index().expect("an index").to_bytes()
}

/// MD5s of a few frames; `None` for errors.
fn some_frames(video: &Video) -> BTreeMap<u32, Option<String>> {
    let mut random = fastrand::Rng::with_seed(11);
    let (width, height) = video.track().parameters.size();
    let most = if width * height * video.frame_count() < 50_000_000 { 6 } else { 2 };
    let wanted: Vec<u32> = (0..most).map(|_| random.u32(0..video.frame_count() as u32)).collect();
    let md5 = |frame: bucket_streamer::VideoFrame| raw::hex(&raw::md5(&frame.picture));
    video.frames(&wanted).map(|(index, frame)| (index, frame.ok().map(md5))).collect()
}

/// All properties of a track.
fn described(video: &Video) -> String {
    let track = video.track();
    let of = (&track.container, &track.streams, &track.track, &track.codec, &track.descriptions, &track.framing);
    let how = (track.time_base, track.sample_aspect_ratio, &track.samples, &track.frames);
    format!("{of:?} {how:?} {:?} {:?}", track.parameters.values(), track.parameters.rotation())
}

#[test]
fn every_clip_is_the_same_with_its_index_as_without() {
    let engine = Engine::new(None);
    for clip in clips() {
        let Some(video) = open(&engine, &clip) else { continue };
        let bytes = video.export_index().expect("an index").to_bytes();
        let again = reopened(&engine, &clip, &bytes).unwrap_or_else(|error| panic!("{}: {error}", name(&clip)));
        assert!(described(&video) == described(&again), "{}: the track differs", name(&clip));
        // Private parts (locations in transport streams, parameter sets, stored samples) are in the file too.
        assert!(bytes == again.export_index().expect("an index").to_bytes(), "{}: the index differs", name(&clip));
        assert_eq!(some_frames(&video), some_frames(&again), "{}", name(&clip));
        let opened = again.opened_with();
        assert!(opened.requests <= 2 && opened.bytes <= 128 * 1024, "{}: {opened:?}", name(&clip));
    }
}

/// All parts of the structure of samples `first..=last` that planning uses.
fn structure(video: &Video, planner: &Planner, references: &References, first: u32, last: u32) -> String {
    match references.structure(planner, video.track(), video.source(), first, last) {
        Structure::Graph(graph) => {
            let of = |sample| (graph.get(sample), graph.is_skipped(sample), graph.poc_in_gop_before(sample));
            format!("{:?}", (first..=last).map(of).collect::<Vec<_>>())
        }
        Structure::Droppable(list) => {
            format!("{:?}", (first..=last).filter(|&sample| list.is_droppable(sample)).collect::<Vec<_>>())
        }
        Structure::Slots(slots) => format!("{:?}", (first..=last).map(|to| slots.needed(to)).collect::<Vec<_>>()),
        Structure::Unknown => "unknown".to_owned(),
    }
}

#[test]
fn the_structure_from_an_index_equals_the_learned_one() {
    let engine = Engine::new(Some(1));
    let (mut runs, mut unknown) = (BTreeMap::new(), 0);
    for clip in clips() {
        let Some(video) = open(&engine, &clip) else { continue };
        let indexed = reopened(&engine, &clip, &video.export_index().expect("an index").to_bytes()).expect("the same");
        let before = indexed.source().counters().now();
        let planners = (Planner::new(video.track()), Planner::new(indexed.track()));
        let references = (References::new(), References::new());
        let samples = video.track().samples.len() as u32;
        let syncs: Vec<u32> = (0..samples).filter(|&sample| video.track().samples[sample as usize].key).collect();
        let step = syncs.len().div_ceil(12);
        for at in (0..syncs.len()).step_by(step.max(1)) {
            let (first, third) = (syncs[at], syncs.get(at + 2).map_or(samples - 1, |next| next - 1));
            let next = syncs.get(at + 1).map_or(samples - 1, |&next| next);
            for last in [first, first.midpoint(next), next, third, samples - 1] {
                let last = last.min(first + 500);
                let learned = structure(&video, &planners.0, &references.0, first, last);
                let indexed_structure = structure(&indexed, &planners.1, &references.1, first, last);
                assert!(
                    learned == indexed_structure,
                    "{}: {first}..={last}: {learned} is, from the index, {indexed_structure}",
                    name(&clip)
                );
                unknown += u32::from(learned == "unknown");
                *runs.entry(format!("{:?}", video.track().codec)).or_insert(0) += 1;
            }
        }
        let read = indexed.source().counters().now().requests - before.requests;
        if read > 0 {
            eprintln!("{}: {read} reads in spite of the index", name(&clip));
        }
    }
    eprintln!("{runs:?} runs, {unknown} unknown");
    assert!(runs.len() == 4 && runs.values().all(|&runs| runs > 5));
}

/// With an index, a single frame of a new engine reads the samples that it decodes, and nothing else.
#[test]
fn only_decoded_samples_are_read() {
    let (mut exact, mut random) = (0, fastrand::Rng::with_seed(4));
    for clip in clips() {
        let engine = Engine::new(Some(1));
        let Some(video) = open(&engine, &clip).filter(|video| video.track().codec == Codec::Hevc) else { continue };
        let (width, height) = video.track().parameters.size();
        if video.track().container != Container::Mp4 || width * height > 3_000_000 {
            continue;
        }
        let index = video.export_index().expect("an index").to_bytes();
        for _ in 0..3 {
            let engine = Engine::new(Some(1));
            let video = reopened(&engine, &clip, &index).expect("the same");
            let frame = random.u32(0..video.frame_count() as u32);
            let before = video.source().counters().now();
            let runs = video.plan(&[frame]);
            assert_eq!(video.source().counters().now(), before, "{}: reads for a plan", name(&clip));
            let planned: Vec<u32> = runs.into_iter().flat_map(|run| run.samples).collect();
            let Ok(_) = video.frame(frame) else { continue };
            let after = video.source().counters().now();
            let (requests, bytes) = (after.requests - before.requests, after.bytes - before.bytes);
            let work = engine.work().decoded_pictures;
            let sizes: u64 = planned.iter().map(|&at| u64::from(video.track().samples[at as usize].size)).sum();
            if (requests, bytes) == (work, sizes) {
                exact += 1;
                continue;
            }
            eprintln!("{} frame {frame}: {requests} reads of {bytes} bytes, decoded {work} of {sizes}", name(&clip));
            let last = planned.last().copied().unwrap_or_default();
            let is_long = work != planned.len() as u64 || last != video.track().frames[frame as usize];
            assert!(is_long || WITH_SETS.contains(&&name(&clip)[..]), "{}", name(&clip));
        }
    }
    eprintln!("{exact} frames read exactly");
    assert!(exact >= 3);
}

/// Clips whose parameter sets lie in samples, which are searched for in those before the random access point.
const WITH_SETS: [&str; 0] = [];

#[test]
fn the_same_video_gives_the_same_bytes() {
    for clip in ["hevc.ts", "hevc.mkv", "hevc_demo.mp4", "h264_sets_change.mkv", "h264_fields.h264", "vp9.ivf"] {
        let clip = fixture(clip);
        assert!(exported(&clip) == exported(&clip), "{}", name(&clip));
        // With another name, folder and time.
        let folder = tempfile::tempdir().expect("a folder");
        let copy = folder.path().join("elsewhere");
        std::fs::copy(&clip, &copy).expect("a copy");
        assert!(exported(&clip) == exported(&copy), "{}", name(&clip));
    }
}

fn unpacked(packed: &[u8]) -> Value {
    let mut text = String::new();
    GzDecoder::new(packed).read_to_string(&mut text).expect("gzip");
    serde_json::from_str(&text).expect("JSON")
}

fn packed(text: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(text).expect("memory");
    packer.finish().expect("memory")
}

fn spread(item: Value) -> Vec<Value> {
    match (item.get(0), item.get(1).and_then(Value::as_u64)) {
        (Some(value), Some(count)) => vec![value.clone(); count as usize],
        _ => vec![item],
    }
}
