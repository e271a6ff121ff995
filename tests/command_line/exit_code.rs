//! The exit codes of the command.

use super::*;

#[test]
fn is_0_for_success_and_1_if_some_frames_fail() {
    let code = |frames: &str| Stills::of("hevc_gray.mp4", &["--frames", frames]).ran.code();
    assert_eq!([code("0-2"), code("0,48,2"), code("48")], [0, 1, 1]);
}

#[test]
fn is_2_in_one_line_for_wrong_usage_before_the_video_is_opened() {
    for wrong in [
        "extract no-such-video",
        "extract --all",
        "extract no-such-video --all --frames 3",
        "extract no-such-video --times 1 --every 2s",
        "extract no-such-video --frames 1,x",
        "extract no-such-video --frames 1,,2",
        "extract no-such-video --frames 9-3",
        "extract no-such-video --frames 0-99999999",
        "extract no-such-video --frames=-1",
        "extract no-such-video --times 1:x",
        "extract no-such-video --times 1.2.3",
        "extract no-such-video --times=-1",
        "extract no-such-video --every 0",
        "extract no-such-video --every sometimes",
        "extract no-such-video --count 0",
        "extract no-such-video --count many",
        "extract no-such-video --all --json --output -",
        "extract no-such-video --all --format gif",
        "extract no-such-video --all --quality 0",
        "extract no-such-video --all --quality 101",
        "extract no-such-video --all --width 0",
        "extract no-such-video --all --height 70000",
        "extract no-such-video --all --fit squeeze",
        "extract no-such-video --all --threads 0",
        "extract no-such-video --all --no-such-option",
        "info",
        "extract no-such-video --all --on-damage ignore",
        "extract no-such-video --all --on-damage Error",
        "sheet no-such-video --output s.jpg --on-damage hide",
        "extract no-such-video --all --max-pixels 0",
        "info no-such-video --max-pixels 8192x",
        "index no-such-video --output i --max-pixels -1",
        "info no-such-video --track first",
        "no-such-command",
    ] {
        let ran = run_command(&wrong.split_whitespace().collect::<Vec<_>>());
        assert_eq!((ran.code(), ran.text()), (2, ""), "{wrong}: {}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{wrong}: {}", ran.stderr);
        check_messages(&ran);
    }
}

#[test]
fn is_2_with_help_on_standard_error_without_arguments() {
    let ran = run_command(&[]);
    assert_eq!((ran.code(), ran.text()), (2, ""));
    assert!(ran.stderr.contains("Usage: bucket-streamer"), "{}", ran.stderr);
}

#[test]
fn is_3_when_the_video_cannot_be_read() {
    for name in ["no-such-video.mp4", "empty.mp4", "not_video.txt", "audio_only.mp4"] {
        for ran in [
            run_command(&["info", &clip(name)]),
            run_command(&["info", &clip(name), "--json"]),
            Stills::of(name, &["--all"]).ran,
            extract(name, &["--frames", "0", "--format", "framemd5"]),
        ] {
            assert_eq!((ran.code(), ran.text()), (3, ""), "{name}: {}", ran.stderr);
            assert!(ran.stderr.lines().count() == 1 && ran.stderr.contains(&format!("{name}: ")), "{}", ran.stderr);
            check_messages(&ran);
        }
    }
}

#[test]
fn is_3_when_pictures_exceed_max_pixels() {
    let (clip, folder) = (clip("hevc_gray.mp4"), tempfile::tempdir().expect("a folder"));
    let output = folder.path().join("output.jpg");
    let output = output.to_str().expect("text");
    for command in [
        &["info", &clip][..],
        &["extract", &clip, "--all", "--format", "framemd5"],
        &["extract", &clip, "--frames", "0", "--format", "framemd5"],
        &["sheet", &clip, "-o", output],
        &["index", &clip, "-o", output],
        &["bench", "random", &clip, "--count", "1"],
    ] {
        if !is_built_in(command) {
            continue;
        }
        let ran = run_command(&[command, &["--max-pixels", "1000"]].concat());
        assert_eq!((ran.code(), ran.text()), (3, ""), "{command:?}: {}", ran.stderr);
        assert!(ran.stderr.lines().count() == 1 && ran.stderr.contains("1000 pixels"), "{}", ran.stderr);
        check_messages(&ran);
    }
    assert_eq!(run_command(&["info", &clip, "--max-pixels", "640x360"]).code(), 0);
}

#[test]
fn is_3_for_an_unknown_scheme() {
    let ran = run_command(&["info", "gopher://example/cam.mp4"]);
    assert_eq!((ran.code(), ran.text(), ran.stderr.lines().count()), (3, "", 1));
    assert!(ran.stderr.contains("gopher://example/cam.mp4: "), "{}", ran.stderr);
}
