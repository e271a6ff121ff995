//! `--format framemd5` prints the same as `ffmpeg`.

use super::*;

/// Clips whose times ffmpeg's command line changes: it makes times ascend, numbers the shown pictures of a raw stream,
/// and guesses missing durations. `ffprobe` has the same times as the engine (`engine/tests/exact.rs`).
const OTHER_TIMES: [&str; 8] = [
    "h264_fields_mixed.h264",
    "hevc_edit_segments.mp4",
    "hevc_test_1080p_fmp4_cra_rasl.mp4",
    "hevc_open_gop_cut.265",
    "vp9.ivf",
    "vp9_resized.ivf",
    "vp9_show_existing.ivf",
    "hevc_motionphoto_2tracks_rot.mp4",
];

/// The output of `ffmpeg -f framemd5`, with the file's times.
fn of_ffmpeg(clip: &Path) -> Vec<String> {
    let mut command = Command::new(program("ffmpeg"));
    command.args(["-v", "quiet", "-threads", "1", "-noautorotate", "-copyts", "-i"]).arg(clip);
    command.args(["-map", "0:v:0", "-fps_mode", "passthrough", "-noautoscale", "-enc_time_base", "demux"]);
    let ran = ProgramRun::run(command.args(["-f", "framemd5", "-"]));
    ran.text().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// Size and MD5, without stream, times and duration.
fn without_times(line: &str) -> &str {
    line.splitn(5, ',').last().expect("fields")
}

#[test]
fn prints_the_lines_that_ffmpeg_prints_and_no_others() {
    for clip in clips() {
        let path = clip.to_string_lossy();
        let ran = run_command(&["extract", &path, "--all", "--format", "framemd5"]);
        assert!([0, 1, 3].contains(&ran.code()), "{path}: {}", ran.stderr);
        let lines: Vec<&str> = ran.text().lines().collect();
        let expected = of_ffmpeg(&clip);
        assert_eq!(lines.len(), expected.len(), "{path}: number of frames");
        let has_other_times = OTHER_TIMES.contains(&name(&clip).as_str());
        for (line, expected) in lines.iter().zip(&expected) {
            if has_other_times {
                assert_eq!(without_times(line), without_times(expected), "{path}");
            } else {
                assert_eq!(line, expected, "{path}");
            }
        }
        check_messages(&ran);
    }
}

#[test]
fn has_six_fields_and_the_size_of_the_planes() {
    for (name, size) in [
        ("hevc_closed_gop.mp4", 320 * 180 * 3 / 2),
        ("hevc_10bit.mp4", 320 * 180 * 3),
        ("hevc_12bit_422.mp4", 320 * 180 * 4),
        ("hevc_444_8bit.mp4", 320 * 180 * 3),
        ("hevc_gray.mp4", 320 * 180),
        ("hevc_rotated.mp4", 320 * 180 * 3 / 2),
        ("vp9_odd.webm", 161 * 121 + 2 * 81 * 61),
    ] {
        let ran = extract(name, &["--frames", "3", "--format", "framemd5"]);
        let fields: Vec<&str> = ran.text().trim_end().split(',').map(str::trim).collect();
        let expected = &oracle_md5s(&fixture(name))[3];
        assert_eq!((fields[0], fields[4], fields[5]), ("0", size.to_string().as_str(), expected.as_str()), "{name}");
        assert_eq!((fields.len(), fields[1]), (6, fields[2]), "{name}: dts is pts");
        assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""), "{name}");
    }
}

#[test]
fn goes_to_standard_output_even_with_an_output_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("stills");
    let more = ["--frames", "0", "--format", "framemd5", "--output", output.to_str().expect("text")];
    let ran = extract("hevc_gray.mp4", &more);
    assert_eq!((ran.code(), ran.text().lines().count()), (0, 1));
    assert!(!output.exists(), "nothing to put into a folder");
}
