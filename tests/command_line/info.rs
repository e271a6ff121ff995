//! The output of `info`.

use super::*;

fn info(name: &str, more: &[&str]) -> Value {
    let ran = run_command(&[&["info", &clip(name), "--json"], more].concat());
    assert_eq!((ran.code(), ran.stderr.as_str(), ran.text().lines().count()), (0, "", 1), "{name}");
    ran.json().remove(0)
}

const FIELDS: &str = "version video container codec profile width height pixel_format bit_depth color rotation \
                      sample_aspect_ratio frames keyframes duration_s time_base start_pts average_frame_rate \
                      variable_frame_rate tracks size_bytes opened_with";

fn fields(list: &str) -> BTreeSet<&str> {
    list.split_whitespace().collect()
}

#[test]
fn has_the_documented_fields_and_no_others() {
    for name in ["hevc_closed_gop.mp4", "h264_avc3_4tracks.mp4", "vp9.ivf", "hevc_open_gop_cut.265", "hevc.mkv"] {
        let info = info(name, &[]);
        assert_eq!(keys(&info), fields(FIELDS), "{name}");
        assert_eq!(keys(&info["color"]), fields("primaries transfer matrix range assumed"), "{name}");
        assert_eq!(keys(&info["opened_with"]), fields("requests bytes"), "{name}");
        let size = fs::metadata(fixture(name)).expect("the fixture").len();
        assert_eq!(info["size_bytes"], size, "{name}");
        assert_eq!((&info["version"], &info["video"]), (&json!(1), &json!(clip(name))), "{name}");
    }
}

/// Checks some fields of `info --json`.
fn check(name: &str, more: &[&str], expected: Value) {
    let info = info(name, more);
    for (field, value) in expected.as_object().expect("fields") {
        assert_eq!(&info[field], value, "{name}: {field}");
    }
}

#[test]
fn has_the_properties_of_every_kind_of_video() {
    check(
        "hevc_closed_gop.mp4",
        &[],
        json!({
            "container": "mp4", "codec": "hevc", "profile": "Main", "width": 320, "height": 180, "rotation": 0,
            "pixel_format": "yuv420p", "bit_depth": 8, "frames": 144, "keyframes": 3, "duration_s": 5.76,
            "color": {"primaries": "bt709", "transfer": "bt709", "matrix": "bt709", "range": "tv", "assumed": {}},
            "average_frame_rate": 25.0, "variable_frame_rate": false, "sample_aspect_ratio": "1:1",
        }),
    );
    check("hevc_rotated.mp4", &[], json!({"rotation": -90, "width": 320, "height": 180, "frames": 24}));
    check(
        "hevc_10bit.mp4",
        &[],
        json!({
            "profile": "Main 10", "pixel_format": "yuv420p10le", "bit_depth": 10,
            "color": {"primaries": "bt2020", "transfer": "arib-std-b67", "matrix": "bt2020nc", "range": "tv",
                      "assumed": {}},
        }),
    );
    check("hevc_gray.mp4", &[], json!({"pixel_format": "gray", "bit_depth": 8}));
    let color = &info("vp9_odd.webm", &[])["color"];
    assert_eq!((&color["matrix"], &color["assumed"]["matrix"]), (&json!("unknown"), &json!("smpte170m")), "{color}");
    check(
        "hevc_vfr.mp4",
        &[],
        json!({
            "frames": 100, "variable_frame_rate": true, "time_base": "1/90000", "start_pts": 0,
        }),
    );
    // 96 coded pictures, 22 of them hidden, among these the first key frame.
    check("hevc_edit_list.mp4", &[], json!({"frames": 74, "keyframes": 1, "duration_s": 2.96, "start_pts": 0}));
    check("h264_two_edits.mp4", &[], json!({"frames": 60, "start_pts": 10240, "duration_s": 2.4}));
    check("hevc.ts", &[], json!({"container": "mpegts", "start_pts": 133_200, "time_base": "1/90000"}));
    check("hevc.mkv", &[], json!({"container": "matroska", "frames": 120, "keyframes": 5, "time_base": "1/1000"}));
    check("vp9_odd.webm", &[], json!({"codec": "vp9", "width": 161, "height": 121, "frames": 48}));
    check("av1.ivf", &[], json!({"container": "ivf", "codec": "av1", "frames": 48, "keyframes": 2}));
    check("hevc_open_gop_cut.265", &[], json!({"container": "annexb", "frames": 99, "keyframes": 4}));
}

#[test]
fn duration_and_frame_rate_match_the_frame_times() {
    let pts: Vec<i64> = oracle_pts(&fixture("hevc_vfr.mp4")).into_iter().flatten().collect();
    let info = info("hevc_vfr.mp4", &[]);
    let (seconds, rate) = (info["duration_s"].as_f64().expect("s"), info["average_frame_rate"].as_f64().expect("fps"));
    let begins = (pts.last().expect("frames") - pts[0]) as f64 / 90_000.0;
    assert!(begins < seconds && seconds < begins + 0.15, "{seconds}: the last frame lasts from {begins} on");
    assert!((rate - 100.0 / seconds).abs() < 0.01, "{rate}");
}

#[test]
fn lists_every_track_and_marks_the_selected_one() {
    let expected = |chosen: u64| {
        json!([
            {"stream": 0, "kind": "audio", "codec": "aac", "selected": false},
            {"stream": 1, "kind": "video", "codec": "h264", "width": 240, "height": 136, "track": 0,
             "selected": chosen == 0},
            {"stream": 2, "kind": "subtitle", "codec": "mov_text", "selected": false},
            {"stream": 3, "kind": "video", "codec": "h264", "width": 416, "height": 240, "track": 1,
             "selected": chosen == 1},
        ])
    };
    let first = json!({"tracks": expected(0), "width": 240, "height": 136, "frames": 48});
    check("h264_avc3_4tracks.mp4", &[], first.clone());
    check("h264_avc3_4tracks.mp4", &["--track", "0"], first);
    check("h264_avc3_4tracks.mp4", &["--track", "1"], json!({"tracks": expected(1), "width": 416, "height": 240}));
    let ran = run_command(&["info", &clip("h264_avc3_4tracks.mp4"), "--track", "2"]);
    assert_eq!((ran.code(), ran.text()), (3, ""));
    assert!(ran.stderr.contains("h264_avc3_4tracks.mp4: no video track 2: there are 2"), "{}", ran.stderr);
    check_messages(&ran);
}

#[test]
fn without_json_the_same_properties_are_a_table() {
    let ran = run_command(&["info", &clip("hevc_rotated.mp4")]);
    assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""));
    for part in ["hevc, Main", "320x180, yuv420p", "24, 1 of them key frames", "-90 degrees"] {
        assert!(ran.text().contains(part), "{part}: {}", ran.text());
    }
}
