//! The portable index: a video opened with it is the video opened without; what is none, or of another file, is refused.
#![allow(clippy::print_stderr, reason = "tests report what they leave out")]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use bucket_streamer::picture::raw;
use bucket_streamer::source::{MappedSource, MemorySource, Source};
use bucket_streamer::{Engine, ErrorKind, Index, Result, Video};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use common::{clips, fixture, name, open};

fn source(clip: &Path) -> Arc<dyn Source> {
    Arc::new(MappedSource::open(clip).expect("a clip"))
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

/// MD5s of a few frames; `None` for those that cannot be had.
fn some_frames(video: &Video) -> BTreeMap<u32, Option<String>> {
    let mut random = fastrand::Rng::with_seed(11);
    let (width, height) = video.track().parameters.size();
    let most = if width * height * video.frame_count() < 50_000_000 { 6 } else { 2 };
    let wanted: Vec<u32> = (0..most).map(|_| random.u32(0..video.frame_count() as u32)).collect();
    let md5 = |frame: bucket_streamer::VideoFrame| raw::hex(&raw::md5(&frame.picture));
    video.frames(&wanted).map(|(index, frame)| (index, frame.ok().map(md5))).collect()
}

/// Everything in a track that can be told apart.
fn described(video: &Video) -> String {
    let track = video.track();
    let of = (&track.container, &track.streams, &track.track, &track.codec, &track.descriptions, &track.framing);
    let how = (track.time_base, track.sample_aspect_ratio, &track.samples, &track.frames, &track.references);
    format!("{of:?} {how:?} {:?} {:?}", track.parameters.values(), track.parameters.rotation())
}

#[test]
fn every_clip_is_the_same_with_its_index_as_without() {
    let engine = Engine::new(None);
    for clip in clips() {
        let Some(video) = open(&engine, &clip) else { continue };
        let bytes = video.export_index().expect("an index").to_bytes();
        let again = reopened(&engine, &clip, &bytes).unwrap_or_else(|error| panic!("{}: {error}", name(&clip)));
        assert!(described(&video) == described(&again), "{}: another track", name(&clip));
        // What is kept to itself (places in transport streams, parameter sets, stored samples) is in the file too.
        assert!(bytes == again.export_index().expect("an index").to_bytes(), "{}: another index", name(&clip));
        assert_eq!(some_frames(&video), some_frames(&again), "{}", name(&clip));
        let opened = again.opened_with();
        assert!(opened.requests <= 2 && opened.bytes <= 128 * 1024, "{}: {opened:?}", name(&clip));
    }
}

#[test]
fn the_same_video_gives_the_same_bytes() {
    for clip in ["hevc.ts", "hevc.mkv", "hevc_demo.mp4", "h264_sets_change.mkv", "vp9.ivf"] {
        let clip = fixture(clip);
        assert!(exported(&clip) == exported(&clip), "{}", name(&clip));
        // Under another name, in another place, at another time.
        let folder = tempfile::tempdir().expect("a folder");
        let copy = folder.path().join("elsewhere");
        std::fs::copy(&clip, &copy).expect("a copy");
        assert!(exported(&clip) == exported(&copy), "{}", name(&clip));
    }
}

#[test]
fn an_index_of_another_file_is_refused() {
    let engine = Engine::new(Some(1));
    let clip = fixture("hevc.ts");
    let (bytes, index_of_clip) = (std::fs::read(&clip).expect("the fixture"), exported(&clip));
    let refused = |bytes: Vec<u8>| {
        let source = Arc::new(MemorySource::new("cam.ts", bytes));
        let error = engine.open_with_index(source, &index(&index_of_clip[..]).expect("an index")).expect_err("another");
        assert!(matches!(error.kind(), ErrorKind::BadIndex(_)) && error.is_unreadable_video(), "{error}");
        error.to_string()
    };
    assert_eq!(
        refused([&bytes[..], &[0]].concat()),
        "clip.index: this index cannot be used: it is of a file of 113176 bytes, cam.ts has 113177: make it anew"
    );
    refused(bytes[..bytes.len() - 188].to_vec());
    refused(Vec::new());
    for at in [0, 60_000, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(refused(changed).contains("another file of the same length"), "byte {at}");
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

/// A clip's index with one field of its text replaced.
fn with(clip: &str, field: &str, value: Value) -> Result<Video> {
    let mut text = unpacked(&exported(&fixture(clip)));
    *text.pointer_mut(field).unwrap_or_else(|| panic!("no {field}")) = value;
    reopened(&Engine::new(Some(1)), &fixture(clip), &packed(text.to_string().as_bytes()))
}

#[test]
fn what_cannot_be_is_refused() {
    let samples = unpacked(&exported(&fixture("hevc.ts")))["samples"]["count"].as_u64().expect("a count");
    for (field, value) in [
        ("/version", json!(2)),
        ("/format", json!("other")),
        ("/container", json!("avi")),
        ("/time_base", json!([0, 1])),
        ("/time_base", json!([1, -25])),
        ("/time_base", json!([1])),
        ("/codec/name", json!("mpeg2video")),
        ("/codec/video_delay", json!(1000)),
        ("/codec/pixel_format", json!("vaapi")),
        ("/codec/configuration", json!("not base64!")),
        ("/codec/side_data", json!({"display_matrix": [1, 2]})),
        ("/nal_length_size", json!(9)),
        ("/streams/0/kind", json!("no kind")),
        ("/samples/count", json!(samples + 1)),
        ("/samples/count", json!(u32::MAX)),
        ("/samples/size", json!([[0, samples]])),
        ("/samples/size", json!([[u32::MAX, samples]])),
        ("/samples/size", json!([[1, u64::MAX]])),
        ("/samples/gap", json!([[i64::MAX, samples]])),
        ("/samples/gap", json!([[-1_000_000, samples]])),
        ("/samples/key", json!([samples])),
        ("/samples/key", json!([[1, u64::MAX]])),
        ("/samples/discard", json!([0])),
        ("/samples/silent", json!([3, 0])),
        ("/samples/without_dts", json!([0])),
        ("/samples/description", json!([[70_000, samples]])),
        ("/frames", json!([])),
        ("/frames", json!([[0, samples]])),
        ("/frames", json!([samples, [1, samples - 1]])),
        ("/frames", json!([1, [1, samples - 1]])),
        ("/parameter_sets", json!([{"sample": 0, "unit": "AAAA"}])),
        ("/transport_stream/distance", json!(0)),
        ("/transport_stream/distance", json!(u64::MAX)),
        ("/transport_stream/pid", json!(8192)),
        ("/transport_stream/length", json!([[i64::MAX, samples]])),
        ("/transport_stream/length", json!([[0, samples]])),
        ("/transport_stream/samples", json!([])),
        ("/resident", json!({"samples": [0], "data": ["AAAA"]})),
        ("/resident", json!({"samples": [], "data": ["AAAA"]})),
        ("/references", json!({"version": 1})),
        ("/references", json!(7)),
    ] {
        let error = with("hevc.ts", field, value.clone()).expect_err(&format!("{field} {value}"));
        let line = error.to_string();
        assert!(matches!(error.kind(), ErrorKind::BadIndex(_)), "{field} {value}: {line}");
        assert!(line.starts_with("clip.index: ") && !line.contains('\n') && line.len() < 300, "{line}");
    }
}

#[test]
fn what_a_newer_writer_has_added_does_no_harm() {
    with("hevc.ts", "/made_by", json!("somebody else")).expect("as good as ours");
    with("hevc.ts", "/references", json!({"version": 99, "what": "ever"})).expect("a section left aside");
    let mut text = unpacked(&exported(&fixture("hevc.ts")));
    text["more"] = json!([1, {"two": 3}]);
    text.as_object_mut().expect("an object").remove("references");
    reopened(&Engine::new(Some(1)), &fixture("hevc.ts"), &packed(text.to_string().as_bytes())).expect("an index");
}

#[test]
fn a_damaged_index_is_an_error_or_the_same_index() {
    let engine = Engine::new(Some(1));
    let mut random = fastrand::Rng::with_seed(3);
    for clip in ["hevc.ts", "hevc.mkv", "hevc_two_descriptions.mp4", "vp9.ivf"].map(fixture) {
        let whole = exported(&clip);
        let same = described(&reopened(&engine, &clip, &whole).expect("whole"));
        for round in 0..250 {
            let mut damaged = whole.clone();
            match round % 5 {
                0 => damaged.truncate(random.usize(0..whole.len())),
                1 => damaged.extend((0..random.usize(1..9)).map(|_| random.u8(..))),
                _ => (0..=round % 3).for_each(|_| damaged[random.usize(0..whole.len())] ^= 1 << random.u8(0..8)),
            }
            match reopened(&engine, &clip, &damaged) {
                Ok(video) => assert_eq!(described(&video), same, "{}: round {round}", name(&clip)),
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::BadIndex(_)), "{}: {error}", name(&clip));
                    assert!(!error.to_string().contains('\n'));
                }
            }
        }
    }
}

/// Damage that the checksum of gzip does not see, since whoever did it made a new one.
#[test]
fn a_forged_index_is_an_error_or_gives_frames_and_errors_never_a_panic() {
    let engine = Engine::new(Some(1));
    let mut random = fastrand::Rng::with_seed(5);
    let (mut opened, mut refused) = (0, 0);
    for clip in ["hevc.ts", "hevc.mkv", "h264_fields.h264", "h264_two_edits.mp4", "vp9_show_existing.ivf"].map(fixture)
    {
        let whole = unpacked(&exported(&clip)).to_string().into_bytes();
        for _ in 0..200 {
            let mut forged = whole.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(0..whole.len());
                // Digits become other digits more often than the text becomes nonsense.
                forged[at] = match forged[at] {
                    b'0'..=b'9' => random.u8(b'0'..=b'9'),
                    _ if random.bool() => forged[at],
                    _ => random.u8(b' '..=b'~'),
                };
            }
            let Ok(video) = reopened(&engine, &clip, &packed(&forged)) else {
                refused += 1;
                continue;
            };
            opened += 1;
            if opened % 10 == 0 {
                let _ = video.frame(random.u32(0..video.frame_count() as u32));
            }
        }
    }
    assert!(opened > 100 && refused > 100, "{opened} opened, {refused} refused");
}
