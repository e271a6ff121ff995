//! Indexes of other files, with impossible fields, or that differ from the video.

use std::path::Path;
use std::sync::Arc;

use bucket_streamer::source::MemorySource;
use bucket_streamer::still::StillMaker;
use bucket_streamer::{Engine, ErrorKind, Result, Video};
use serde_json::{Value, json};

use testing::clips::{clips, fixture, name, open};

use crate::{exported, index, packed, reopened, source, spread, unpacked};

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

/// A clip's index with one field of its text replaced.
fn with(clip: &str, field: &str, value: Value) -> Result<Video> {
    let mut text = unpacked(&exported(&fixture(clip)));
    *text.pointer_mut(field).unwrap_or_else(|| panic!("no {field}")) = value;
    reopened(&Engine::new(Some(1)), &fixture(clip), &packed(text.to_string().as_bytes()))
}

/// Fields of the index of `hevc.ts`, which has `samples` samples, with impossible values.
fn impossible_fields(samples: u64) -> Vec<(&'static str, Value)> {
    vec![
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
    ]
}

/// The same for its section of references.
fn impossible_references(samples: u64) -> Vec<(&'static str, Value)> {
    vec![
        ("/references", json!({"version": 3})),
        ("/references", json!({"version": 3, "entries": [], "h265": null})),
        ("/references/entries", json!([])),
        ("/references/entries", json!([[3, 1], [1, 2]])),
        ("/references/entries", json!([[16, u64::MAX]])),
        ("/references", json!({"version": 3, "entries": [], "h264": {"droppable": []}})),
        ("/references/h265/first", json!([])),
        ("/references/h265/first", json!([1])),
        ("/references/h265/pictures", json!([samples + 1])),
        ("/references/h265/cut", json!([samples + 1])),
        ("/references/h265/picture_order_count", json!([[1, samples]])),
        ("/references/h265/picture_order_count", json!([[i64::MAX, samples]])),
        ("/references/h265/low_bits", json!([[3, samples]])),
        ("/references/h265/low_bits", json!([[17, samples]])),
        ("/references/h265/kind", json!([[0, samples]])),
        ("/references/h265/kind", json!([[6, samples]])),
        ("/references/h265/flags", json!([[8, samples]])),
        ("/references/h265/references/counts", json!([[33, samples]])),
        ("/references/h265/references/counts", json!([[0, samples]])),
        ("/references/h265/references/back", json!([[1, u64::MAX]])),
        ("/references/h265/references/back", json!([])),
        ("/references", json!(7)),
    ]
}

#[test]
fn impossible_values_are_refused() {
    let samples = unpacked(&exported(&fixture("hevc.ts")))["samples"]["count"].as_u64().expect("a count");
    for (field, value) in impossible_fields(samples).into_iter().chain(impossible_references(samples)) {
        let error = with("hevc.ts", field, value.clone()).expect_err(&format!("{field} {value}"));
        let line = error.to_string();
        assert!(matches!(error.kind(), ErrorKind::BadIndex(_)), "{field} {value}: {line}");
        assert!(line.starts_with("clip.index: ") && !line.contains('\n') && line.len() < 300, "{line}");
    }
}

/// The items of a column, with runs expanded.
pub(crate) fn values(column: &Value) -> Vec<Value> {
    column.as_array().expect("a column").iter().cloned().flat_map(spread).collect()
}

fn verified(clip: &Path, bytes: &[u8]) -> Result<Video> {
    Engine::new(Some(1)).open_with_verified_index(source(clip), &index(bytes)?)
}

#[test]
fn an_index_equals_the_rebuilt_one() {
    for clip in clips().into_iter().filter(|clip| clip.starts_with(fixture(""))) {
        let Some(video) = open(&Engine::new(Some(1)), &clip) else { continue };
        for index in [video.export_index(), video.export_index_without_references()] {
            let bytes = index.expect("an index").to_bytes();
            verified(&clip, &bytes).unwrap_or_else(|error| panic!("{}: {error}", name(&clip)));
        }
        // Another notation of the same index.
        let mut text = unpacked(&exported(&clip));
        let samples = text["samples"]["count"].as_u64().expect("a count") as usize;
        text["made_by"] = json!("another program");
        text["samples"]["size"] = values(&text["samples"]["size"]).into();
        assert_eq!(text["samples"]["size"].as_array().expect("a column").len(), samples);
        verified(&clip, &packed(text.to_string().as_bytes()))
            .unwrap_or_else(|error| panic!("{}: {error}", name(&clip)));
    }
}

/// Claims that [`Engine::open_with_index`] accepts, since they are possible.
#[test]
fn an_index_that_contradicts_the_video_is_refused_on_verification() {
    let samples = unpacked(&exported(&fixture("hevc.ts")))["samples"]["count"].as_u64().expect("a count");
    for (clip, field, value) in [
        ("hevc.ts", "/codec/width", json!(64)),
        ("hevc.ts", "/codec/color/matrix", json!(9)),
        ("hevc.ts", "/sample_aspect_ratio", json!([4, 3])),
        ("hevc.ts", "/time_base", json!([1, 25])),
        ("hevc.ts", "/samples/pts", json!([[1, samples]])),
        ("hevc.ts", "/samples/duration", json!([[7, samples]])),
        ("hevc.ts", "/parameter_sets", json!([])),
        ("hevc.ts", "/references/entries", json!([0])),
        ("h264_bframes.mp4", "/references/h264/droppable", json!([1, [1, 20]])),
        ("vp9_show_existing.ivf", "/references/slots/references/counts", json!([])),
    ] {
        let mut text = unpacked(&exported(&fixture(clip)));
        if field.ends_with("entries") {
            // These pictures drop pictures that wait for output, which is not checked when decoding begins there.
            let column = values(text.pointer(field).expect("a column"));
            let dropping = |entry: Value| json!(entry.as_u64().expect("a number") | 8);
            *text.pointer_mut(field).expect("a column") = column.into_iter().map(dropping).collect();
        } else if field.ends_with("slots/references/counts") {
            let references = text.pointer_mut("/references/slots/references").expect("references");
            let counts = values(&references["counts"]).len();
            *references = json!({"counts": [[0, counts]], "back": []});
        } else {
            *text.pointer_mut(field).unwrap_or_else(|| panic!("no {field}")) = value;
        }
        let bytes = packed(text.to_string().as_bytes());
        reopened(&Engine::new(Some(1)), &fixture(clip), &bytes).unwrap_or_else(|error| panic!("{field}: {error}"));
        let error = verified(&fixture(clip), &bytes).expect_err(field);
        let line = error.to_string();
        assert!(matches!(error.kind(), ErrorKind::BadIndex(_)) && !line.contains('\n'), "{field}: {line}");
        let named = field[1..].replace('/', ".");
        assert!(line.contains("says otherwise than") && line.contains(&named), "{field}: {line}");
    }
}

#[test]
fn unknown_additions_of_a_newer_writer_are_ignored() {
    with("hevc.ts", "/made_by", json!("another program")).expect("an index by another program");
    with("hevc.ts", "/references", json!({"version": 99, "what": "ever"})).expect("an ignored section");
    let mut text = unpacked(&exported(&fixture("hevc.ts")));
    text["more"] = json!([1, {"two": 3}]);
    text.as_object_mut().expect("an object").remove("references");
    reopened(&Engine::new(Some(1)), &fixture("hevc.ts"), &packed(text.to_string().as_bytes())).expect("an index");
}

#[test]
fn stills_of_dolby_vision_profile_5_are_refused_and_nothing_else() {
    let record = |profile: u8, compatibility: u8| {
        let record = json!({"dolby_vision": [1, 0, profile, 4, 1, 0, 1, compatibility, 0]});
        with("hevc_10bit.mp4", "/codec/side_data", record).expect("a video")
    };
    let still = |video: &Video| {
        let frame = video.frame(3).expect("a frame");
        let options = video.still_options();
        StillMaker::new().expect("a maker").encode(&frame.picture, &options, &mut Vec::new())
    };
    let error = still(&record(5, 0)).expect_err("IPT-PQ-c2");
    assert!(matches!(error.kind(), ErrorKind::Still(why) if why.contains("Dolby Vision profile 5")), "{error}");
    assert!(still(&record(8, 4)).is_ok());
}
