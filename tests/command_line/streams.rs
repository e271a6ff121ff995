//! Standard output and standard error as pipes.

use super::*;

#[test]
fn a_summary_of_stills_is_a_message_not_a_result() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().to_str().expect("text");
    let ran = extract("hevc_gray.mp4", &["--frames", "0,1,1", "--output", output]);
    assert_eq!((ran.code(), ran.text()), (0, ""));
    assert!(ran.stderr.contains("3 stills in ") && ran.stderr.lines().count() == 1, "{}", ran.stderr);
    check_messages(&ran);
}

#[test]
fn a_file_url_is_a_path() {
    let url = format!("file://{}", clip("hevc_gray.mp4"));
    let ran = run_command(&["extract", &url, "--frames", "0", "--format", "framemd5"]);
    assert_eq!((ran.code(), ran.text().lines().count()), (0, 1), "{}", ran.stderr);
}

/// Reads one line (or bytes up to the first newline among them), then closes the pipe.
fn first_of(arguments: &[&str]) -> (Vec<u8>, ProgramRun) {
    let mut child = bucket_streamer(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("to start");
    let mut line = Vec::new();
    let stdout = child.stdout.take().expect("a pipe");
    BufReader::new(stdout).read_until(b'\n', &mut line).expect("a line");
    let output = child.wait_with_output().expect("an end");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (line, ProgramRun { status: output.status, stdout: output.stdout, stderr })
}

#[test]
fn standard_output_closed_early_ends_the_command_without_messages() {
    let demo = clip("hevc_demo.mp4");
    for more in [
        &["--all", "--format", "framemd5"][..],
        &["--all", "--format", "framemd5", "--json"],
        &["--all", "--format", "raw", "--output", "-"],
        &["--all", "--output", "-"],
        &["--frames", "0-240", "--format", "raw", "--output", "-"],
    ] {
        let (line, ran) = first_of(&[&["extract", &demo], more].concat());
        assert!(!line.is_empty(), "{more:?}");
        // The last lines may have been written before the pipe was closed.
        assert!([0, 1].contains(&ran.code()), "{more:?}: {}", ran.status);
        assert_eq!(ran.stderr, "", "{more:?}");
    }
}
