//! Output into a pipe, and advice at the end of errors.

use super::*;

/// Output into a pipe has tabs between columns, and neither padding nor colour.
#[test]
fn a_pipe_gets_no_table_and_no_colour() {
    let info = run_command(&["info", &clip("hevc_closed_gop.mp4")]);
    let text = info.text();
    assert!(text.lines().all(|line| line.split('\t').count() == 2), "{text}");
    assert!(text.contains("codec\thevc, Main\n") && !text.contains('\u{1b}'), "{text}");
    let missing = run_command(&["info", "no-such-file.mp4"]);
    assert!(!missing.stderr.contains('\u{1b}'), "{}", missing.stderr);
    check_messages(&missing);
}

/// Advice follows an error whose text contains none.
#[test]
fn an_error_ends_with_advice() {
    let ran = extract("hevc_closed_gop.mp4", &["--times", "99", "--format", "framemd5"]);
    assert!(ran.stderr.contains("; --clamp takes the last frame\n"), "{}", ran.stderr);
    let ran = run_command(&["info", &clip("audio_only.mp4")]);
    assert!(ran.stderr.contains("; a file with H.265, H.264, VP9 or AV1 video is needed\n"), "{}", ran.stderr);
    let ran = run_command(&["info", &clip("hevc_closed_gop.mp4"), "--track", "7"]);
    assert!(ran.stderr.contains("; `bucket-streamer info` lists the tracks of a video\n"), "{}", ran.stderr);
}
