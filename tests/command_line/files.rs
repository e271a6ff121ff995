//! Output files are complete or missing, never replace an input, and a signal leaves no partial file.

use super::*;

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// The names of all files below a folder, sorted.
fn files_below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(name(&path)) }
    }
    files.sort();
    files
}

/// The built program with a limit of one block per file: a full disk without a disk.
fn on_a_full_disk(arguments: &[&str]) -> ProgramRun {
    let mut command = Command::new("sh");
    command.args(["-c", r#"ulimit -f 1 && exec "$0" "$@""#, env!("CARGO_BIN_EXE_bucket-streamer")]).args(arguments);
    ProgramRun::run(&mut command)
}

#[test]
fn on_a_full_disk_no_partial_file_is_left_and_existing_files_stay() {
    let (video, folder) = (clip("hevc_gray.mp4"), tempfile::tempdir().expect("a folder"));
    let place = |name: &str| text(&folder.path().join(name)).to_owned();
    let measured = ["bench", "random", &video, "--count", "1", "--no-floor", "--no-check"];
    let writers: [(&[&str], &str, &str); 7] = [
        (&["extract", &video, "--frames", "0", "--output"], "stills", "stills/frame-000000.jpg"),
        (&["extract", &video, "--frames", "0", "--format", "raw", "--output"], "planes", "planes/frame-000000.yuv"),
        (&["sheet", &video, "--output"], "sheet.png", "sheet.png"),
        (&["index", &video, "--output"], "index", "index"),
        (&[&measured[..], &["--json"]].concat(), "json", "json"),
        (&[&measured[..], &["--html"]].concat(), "html", "html"),
        (&[&measured[..], &["--callers", "2", "--plots"]].concat(), "plots", "plots/latency.svg"),
    ];
    for (arguments, output, file) in writers.into_iter().filter(|writer| is_built_in(writer.0)) {
        let output = place(output);
        let ran = on_a_full_disk(&[arguments, &[output.as_str()]].concat());
        assert_eq!(ran.code(), 1, "{arguments:?}: {}", ran.stderr);
        check_messages(&ran);
        let failed: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("File too large")).collect();
        assert!(
            !failed.is_empty() && failed.iter().all(|line| line.contains(&output)),
            "{arguments:?}: {}",
            ran.stderr
        );
        assert_eq!(files_below(folder.path()), [""; 0], "{arguments:?}");
        if file.starts_with("plots") {
            continue;
        }
        // An existing file is not truncated before the new one is complete.
        let file = folder.path().join(file);
        fs::write(&file, "before").expect("to write");
        let ran = on_a_full_disk(&[arguments, &[output.as_str()]].concat());
        assert_eq!((ran.code(), fs::read(&file).expect("the file")), (1, b"before".to_vec()), "{arguments:?}");
        fs::remove_file(&file).expect("to remove");
        assert_eq!(files_below(folder.path()), [""; 0], "{arguments:?}");
    }
}

#[test]
fn an_output_that_is_an_input_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let bytes = fs::read(fixture("hevc_gray.mp4")).expect("the fixture");
    fs::create_dir(at("frames")).expect("to make");
    // The video has the name of the third still.
    let video = at("frames/frame-000002.jpg");
    fs::write(&video, &bytes).expect("to write");
    fs::hard_link(&video, at("hard.mp4")).expect("to link");
    std::os::unix::fs::symlink(&video, at("soft.svg")).expect("to link");
    let (index, frames) = (at("index"), text(&at("frames")).to_owned());
    assert_eq!(run_command(&["index", text(&video), "--output", text(&index)]).code(), 0);
    let (hard, soft) = (at("hard.mp4"), at("soft.svg"));
    let address = format!("file://{}", text(&hard));
    let extract = ["--frames", "0-4", "--output", &frames];
    let measured =
        ["bench", "random", text(&video), "--index", text(&index), "--count", "1", "--no-floor", "--no-check"];
    let refused: [&[&str]; 12] = [
        &[&["extract", text(&video)], &extract[..]].concat(),
        &[&["extract", text(&hard)], &extract[..]].concat(),
        &[&["extract", text(&soft)], &extract[..]].concat(),
        &[&["extract", &address], &extract[..]].concat(),
        &["extract", text(&hard), "--all", "--output", &frames],
        &["index", text(&video), "--output", text(&hard)],
        &["index", text(&video), "--output", text(&soft)],
        &["sheet", text(&video), "--output", text(&hard)],
        &[&measured[..], &["--json", text(&hard)]].concat(),
        &[&measured[..], &["--html", text(&index)]].concat(),
        &[&measured[..], &["--plots", text(folder.path())]].concat(),
        &["bench", "all", &frames, "--json", text(&hard)],
    ];
    let names = files_below(folder.path());
    for arguments in refused.into_iter().filter(|arguments| is_built_in(arguments)) {
        let ran = run_command(arguments);
        assert_eq!((ran.code(), ran.stderr.lines().count()), (2, 1), "{arguments:?}: {}", ran.stderr);
        check_messages(&ran);
        assert_eq!(files_below(folder.path()), names, "{arguments:?}");
        assert!(fs::read(&video).expect("the video") == bytes, "{arguments:?}");
    }
    // Stills with other names are written beside it.
    let ran = run_command(&["extract", text(&video), "--frames", "0-1", "--output", &frames]);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert!(fs::read(&video).expect("the video") == bytes);
}

#[cfg(feature = "remote")]
mod signals {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Child;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::time::Duration;

    use testing::range_server::{RangeReply, RangeServer};

    use super::*;

    /// Starts `extract` and waits until it is blocked in a network read: the first still is written, and the bytes of
    /// the last ones never arrive. Signals have their default actions, except for those of `ignored`.
    fn waiting(server: &RangeServer, output: &Path, ignored: &str) -> Child {
        let video = fs::read(fixture("hevc_demo.mp4")).expect("the fixture");
        let (half, is_stalled) = (video.len() as u64 / 2, Arc::new(AtomicBool::new(false)));
        let address = server.put("a.mp4", video, "\"a\"");
        let stalled = Arc::clone(&is_stalled);
        server.set_behaviour(move |asked| match asked.range {
            Some((_, end)) if end > half => {
                stalled.store(true, Relaxed);
                RangeReply::Stall(1)
            }
            _ => RangeReply::Good,
        });
        let mut command = Command::new("env");
        let signals = ["--default-signal=INT,TERM,HUP".to_owned(), format!("--ignore-signal={ignored}")];
        command.args(&signals[..if ignored.is_empty() { 1 } else { 2 }]).arg(env!("CARGO_BIN_EXE_bucket-streamer"));
        command.args(["extract", &address, "--all", "--threads", "1", "--output", text(output)]);
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("to start");
        let first = output.join("frame-000000.jpg");
        // A program that ends by itself is detected below.
        while !(first.exists() && is_stalled.load(Relaxed)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    }

    fn signal(child: &Child, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().expect("to start");
        assert!(sent.success());
    }

    #[test]
    fn a_signal_in_the_middle_of_extract_ends_it_and_leaves_complete_files() {
        for (name, number) in [("INT", 2), ("TERM", 15), ("HUP", 1)] {
            let (server, folder) = (RangeServer::start(), tempfile::tempdir().expect("a folder"));
            let mut child = waiting(&server, folder.path(), "");
            signal(&child, name);
            assert_eq!(child.wait().expect("a status").signal(), Some(number));
            let files = files_below(folder.path());
            assert!(files.iter().all(|name| name.starts_with("frame-")) && files.len() < 250, "{files:?}");
            for file in files {
                let still = fs::read(folder.path().join(file)).expect("the still");
                assert!(still.starts_with(&[0xff, 0xd8]) && still.ends_with(&[0xff, 0xd9]), "the still is complete");
            }
        }
    }

    #[test]
    fn an_ignored_signal_stays_ignored() {
        let (server, folder) = (RangeServer::start(), tempfile::tempdir().expect("a folder"));
        let mut child = waiting(&server, folder.path(), "HUP");
        signal(&child, "HUP");
        signal(&child, "INT");
        assert_eq!(child.wait().expect("a status").signal(), Some(2));
    }
}

mod verify {
    use super::*;

    #[test]
    fn verify_compares_an_index_file_with_the_video() {
        let folder = tempfile::tempdir().expect("a folder");
        let (right, wrong) = (folder.path().join("right"), folder.path().join("wrong"));
        let video = clip("h264_bframes.mp4");
        assert_eq!(run_command(&["index", &video, "--output", text(&right)]).code(), 0);
        let unpacked = Command::new("gzip")
            .args(["--decompress", "--stdout"])
            .stdin(fs::File::open(&right).expect("a file"))
            .output();
        let index = unpacked.expect("to start");
        let mut forged: Value = serde_json::from_slice(&index.stdout).expect("JSON");
        // A valid claim, but a wrong one: no sample refers to another.
        forged["references"]["h264"]["droppable"] = json!([1, [1, 20]]);
        fs::write(folder.path().join("json"), forged.to_string()).expect("to write");
        let packed = ProgramRun::run(Command::new("gzip").args(["--stdout", text(&folder.path().join("json"))]));
        fs::write(&wrong, packed.stdout).expect("to write");

        let info =
            |index: &Path, more: &[&str]| run_command(&[&["info", &video, "--index", text(index)], more].concat());
        assert_eq!((info(&right, &[]).code(), info(&wrong, &[]).code()), (0, 0), "without --verify it is trusted");
        assert_eq!(info(&right, &["--verify"]).text(), info(&right, &[]).text());
        let refused = info(&wrong, &["--verify"]);
        assert_eq!((refused.code(), refused.stderr.lines().count()), (3, 1), "{}", refused.stderr);
        assert!(refused.stderr.contains("says otherwise than") && refused.stderr.contains("references.h264.droppable"));
        check_messages(&refused);
        let extracted = run_command(&[
            "extract",
            &video,
            "--frames",
            "0",
            "--format",
            "framemd5",
            "--index",
            text(&right),
            "--verify",
        ]);
        assert_eq!(extracted.code(), 0, "{}", extracted.stderr);
        assert_eq!(run_command(&["info", &video, "--verify"]).code(), 2, "there is nothing to compare");
    }
}
