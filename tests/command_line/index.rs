//! `index`, and commands with an index file.

use super::*;

/// A folder with the index of a fixture, and its path.
fn make_index(name: &str, more: &[&str]) -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("clip.index").to_string_lossy().into_owned();
    let ran = run_command(&[&["index", &clip(name), "-o", &path], more].concat());
    assert_eq!((ran.code(), ran.text(), ran.stderr.as_str()), (0, "", ""));
    (folder, path)
}

#[test]
fn info_and_extract_have_the_same_output_with_an_index_file() {
    for name in ["hevc.ts", "hevc.mkv", "hevc_rotated.mp4", "h264_truncated.mp4", "hevc_open_gop_cut.265"] {
        let (_folder, path) = make_index(name, &[]);
        let info = |more: &[&str]| run_command(&[&["info", &clip(name), "--json"], more].concat()).json().remove(0);
        let (mut without, mut with) = (info(&[]), info(&["--index", &path]));
        let opened = with["opened_with"].take();
        without["opened_with"].take();
        assert_eq!(without, with, "{name}");
        assert!(opened["requests"].as_u64() <= Some(2) && opened["bytes"].as_u64() <= Some(131_072), "{opened}");
        let wanted = ["--count", "5", "--format", "framemd5", "--json"];
        let (without, with) = (extract(name, &wanted), extract(name, &[&wanted[..], &["--index", &path]].concat()));
        assert_eq!((without.code(), without.text()), (with.code(), with.text()), "{name}");
    }
}

#[test]
fn standard_output_gets_the_index_of_the_selected_track() {
    let ran = run_command(&["index", &clip("h264_avc3_4tracks.mp4"), "-o", "-", "--track", "1"]);
    let (_folder, path) = make_index("h264_avc3_4tracks.mp4", &["--track", "1"]);
    assert_eq!((ran.code(), ran.stdout), (0, fs::read(&path).expect("the index")));
    let info = |more: &[&str]| {
        let clip = clip("h264_avc3_4tracks.mp4");
        let arguments = [&["info", &clip, "--json"], more].concat();
        run_command(&arguments).json().remove(0)["tracks"].take()
    };
    assert_eq!(info(&["--index", &path]), info(&["--track", "1"]));
}

/// Checks that `arguments` end with this exit code and one line on standard error that contains `why`.
fn check_refused(arguments: &[&str], code: i32, why: &str) {
    let ran = run_command(arguments);
    assert_eq!((ran.code(), ran.text()), (code, ""), "{arguments:?}: {}", ran.stderr);
    assert!(ran.stderr.lines().count() == 1 && ran.stderr.contains(why), "{arguments:?}: {}", ran.stderr);
    check_messages(&ran);
}

#[test]
fn an_unusable_index_is_refused_in_one_line() {
    let (folder, path) = make_index("hevc.ts", &[]);
    let (ts, mkv) = (clip("hevc.ts"), clip("hevc.mkv"));
    let extract = ["extract", &mkv, "--frames", "0", "--format", "framemd5", "--index", &path];
    check_refused(&extract, 3, "hevc.mkv has");
    check_refused(&["info", &mkv, "--index", &path], 3, "clip.index: this index cannot be used: it is of a file of");
    check_refused(&["info", &ts, "--index", &ts], 3, "it is no index file");
    check_refused(&["info", &ts, "--index", "/nowhere/clip.index"], 3, "/nowhere/clip.index: No such file");
    check_refused(&["info", &ts, "--index", &path, "--track", "0"], 2, "cannot be used with");
    check_refused(&["index", &clip("audio_only.mp4"), "-o", &path], 3, "no video track");
    check_refused(&["index", &ts, "-o", "/nowhere/clip.index"], 1, "/nowhere/clip.index");
    check_refused(&["index", &ts], 2, "--output <FILE>");
    let bytes = fs::read(&path).expect("the index");
    fs::write(&path, &bytes[..bytes.len() / 2]).expect("cut");
    check_refused(&["info", &ts, "--index", &path], 3, "damaged");
    let video = folder.path().join("cam.ts");
    fs::copy(&ts, &video).expect("a copy");
    let video = video.to_str().expect("text");
    check_refused(&["index", video, "-o", video], 2, "the video itself");
    assert_eq!(fs::read(video).expect("still there"), fs::read(&ts).expect("the fixture"));
}
