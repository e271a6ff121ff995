//! The JSON lines of `extract`: their fields and values.

use super::*;

const FRAME: [&str; 7] = ["index", "pts", "time_s", "key", "width", "height", "format"];

fn with<'a>(fields: &[&'a str], last: &'a str) -> BTreeSet<&'a str> {
    fields.iter().copied().chain([last]).collect()
}

#[test]
fn lines_have_the_documented_fields_and_no_others() {
    let planes = extract("hevc_vfr.mp4", &["--frames", "0,7", "--format", "framemd5", "--json"]).json();
    assert!(planes.iter().all(|line| keys(line) == with(&FRAME, "md5")), "{planes:?}");
    for format in ["jpeg", "raw"] {
        let stills = Stills::of("hevc_vfr.mp4", &["--frames", "0,7", "--format", format]).ran.json();
        assert!(stills.iter().all(|line| keys(line) == with(&FRAME, "file")), "{stills:?}");
    }
    let missing = extract("hevc_vfr.mp4", &["--frames", "100", "--format", "framemd5", "--json"]).json();
    assert_eq!(keys(&missing[0]), with(&["index"], "error"));
    // The line of a frame that exists but cannot be shown has its known properties.
    let hidden = extract("hevc_open_gop_cut.265", &["--frames", "1", "--format", "framemd5", "--json"]).json();
    assert_eq!(keys(&hidden[0]), with(&FRAME[..4], "error"));
}

#[test]
fn lines_have_the_time_key_flag_and_shape_of_each_frame() {
    let pts = oracle_pts(&fixture("hevc.ts"));
    let keys: HashMap<Option<i64>, bool> = oracle_packets(&fixture("hevc.ts")).into_iter().collect();
    let lines = extract("hevc.ts", &["--all", "--format", "framemd5", "--json"]).json();
    assert_eq!(lines.len(), pts.len());
    for (line, pts) in lines.iter().zip(pts) {
        assert_eq!(line["pts"].as_i64(), pts);
        assert_eq!(line["key"].as_bool(), keys.get(&pts).copied());
        let seconds = (pts.expect("a time") - 133_200) as f64 / 90_000.0;
        assert!((line["time_s"].as_f64().expect("seconds") - seconds).abs() < 1e-9, "time 0 is the first frame");
        let shape = json!([320, 180, "yuv420p"]);
        assert_eq!(json!([line["width"], line["height"], line["format"]]), shape);
    }
}

#[test]
fn omitted_frames_do_not_renumber_later_frames() {
    let ran = extract("hevc_open_gop_cut.265", &["--all", "--format", "framemd5", "--json"]);
    assert_eq!(numbers(&ran.json()), (3..99).map(Some).collect::<Vec<_>>());
    assert_eq!(ran.code(), 0, "nothing is wrong with them: a sequential decode does not show them");
    assert!(ran.stderr.contains("hevc_open_gop_cut.265: left out 3 of 99 frames"), "{}", ran.stderr);
    check_messages(&ran);
}
