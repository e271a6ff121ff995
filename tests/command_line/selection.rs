//! The frames that `--frames`, `--times`, `--every`, `--count` and `--keyframes` select.

use super::*;

/// The frames of a selection, with exit code 0.
fn chosen(name: &str, arguments: &[&str]) -> Vec<u64> {
    let ran = extract(name, &[arguments, &["--format", "framemd5", "--json"]].concat());
    assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""), "{name} {arguments:?}");
    numbers(&ran.json()).into_iter().map(|number| number.expect("a number")).collect()
}

#[test]
fn count_spreads_evenly() {
    for count in [1_u64, 2, 3, 7, 24, 25, 60] {
        let expected: Vec<u64> = (0..count).map(|i| ((i as f64 + 0.5) * 24.0 / count as f64).floor() as u64).collect();
        assert_eq!(chosen("hevc_rotated.mp4", &["--count", &count.to_string()]), expected, "{count}");
    }
}

#[test]
fn keyframes_are_the_sync_samples() {
    for name in ["hevc_open_gop.mp4", "h264_bframes.mp4", "h264_open_gop.mkv", "hevc.ts", "vp9.webm", "av1.mp4"] {
        let mut packets = oracle_packets(&fixture(name));
        packets.sort();
        let sync: Vec<u64> = (0..).zip(&packets).filter(|(_, packet)| packet.1).map(|(number, _)| number).collect();
        assert!(sync.len() > 1, "{name}");
        assert_eq!(chosen(name, &["--keyframes"]), sync, "{name}");
    }
}

/// The last frame that has begun, by the times of `ffprobe`.
fn on_show(pts: &[i64], ticks: i64) -> u64 {
    pts.partition_point(|&pts| pts <= ticks).saturating_sub(1) as u64
}

#[test]
fn every_selects_the_frame_shown_at_each_step_up_to_the_end() {
    let pts: Vec<i64> = oracle_pts(&fixture("hevc_vfr.mp4")).into_iter().flatten().collect();
    for (step, ticks) in [("1s", 90_000), ("0.5", 45_000), ("700ms", 63_000), ("0:02", 180_000), ("1h", 324_000_000)] {
        let last = pts.last().expect("frames");
        let expected: Vec<u64> =
            (0..).map(|i| i * ticks).take_while(|at| at <= last).map(|at| on_show(&pts, at)).collect();
        assert_eq!(chosen("hevc_vfr.mp4", &["--every", step]), expected, "{step}");
    }
}

#[test]
fn times_are_counted_from_the_first_frame_in_any_notation() {
    // 25 frames a second; the first is at 1.48 s of the stream, or after an empty edit.
    for name in ["hevc.ts", "h264_two_edits.mp4", "hevc_edit_list.mp4"] {
        assert_eq!(chosen(name, &["--times", "0"]), [0], "{name}");
        let asked = "1.5,0:02.25,0:00:01,1s,40ms,0.0399,0.039999999,0,0:0,1.5";
        assert_eq!(chosen(name, &["--times", asked]), [37, 56, 25, 25, 1, 0, 1, 0, 0, 37], "{name}");
    }
    let pts: Vec<i64> = oracle_pts(&fixture("hevc_vfr.mp4")).into_iter().flatten().collect();
    assert_eq!(chosen("hevc_vfr.mp4", &["--times", "1,2,4.3"]), [90_000, 180_000, 387_000].map(|at| on_show(&pts, at)));
}

#[test]
fn a_time_past_the_end_is_an_error_or_the_last_frame_with_clamp() {
    let options = ["--times", "0,5.76,99,1", "--format", "framemd5", "--json"];
    let ran = extract("hevc_closed_gop.mp4", &options);
    let lines = ran.json();
    assert_eq!(ran.code(), 1);
    assert_eq!(numbers(&lines), [Some(0), None, None, Some(25)], "144 frames end at 5.76 s");
    assert!(lines[1]["error"].as_str().expect("why").contains("5.76 s is past the end"), "{lines:?}");
    check_messages(&ran);
    assert!(ran.stderr.lines().all(|line| line.contains("hevc_closed_gop.mp4: ")), "{}", ran.stderr);
    assert_eq!(chosen("hevc_closed_gop.mp4", &["--times", "0,5.76,99,1", "--clamp"]), [0, 143, 143, 25]);
}

#[test]
fn all_is_every_frame_in_order() {
    assert_eq!(chosen("h264_bframes.mp4", &["--all"]), (0..150).collect::<Vec<_>>());
    assert_eq!(chosen("hevc_edit_list.mp4", &["--all"]), (0..74).collect::<Vec<_>>());
}

#[test]
fn another_track_has_other_frames() {
    let size = |track: &str| {
        let ran =
            extract("h264_avc3_4tracks.mp4", &["--frames", "5", "--json", "--format", "framemd5", "--track", track]);
        (ran.code(), ran.json().first().map(|line| json!([line["width"], line["height"]])))
    };
    assert_eq!(size("0"), (0, Some(json!([240, 136]))));
    assert_eq!(size("1"), (0, Some(json!([416, 240]))));
    assert_eq!(size("2"), (3, None));
}
