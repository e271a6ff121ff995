//! Files that demand more than they contain (`scripts/make-hostile`): the cost of opening one is bounded, for any
//! tables. Long valid files still open.
//!
//! Each file is opened by the command in a process of its own, with a limit on processor time; the system reports the
//! consumption at its end. Processor time is a measure of work here: its limit is far above the normal consumption, so
//! that the load of the machine does not matter.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bucket_streamer::source::{FileSource, Source};
use bucket_streamer::{Engine, ErrorKind};
use serde_json::Value;

/// Limits of a process: peak of resident memory, and processor time.
const MIB: u64 = 512;
const SECONDS: f64 = 10.0;

/// Runs a command with limits far above those, and prints its consumption as JSON.
const RUNNER: &str = r#"
import json, resource, subprocess, sys
def limits():
    resource.setrlimit(resource.RLIMIT_CPU, (40, 40))
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
done = subprocess.run(sys.argv[1:], preexec_fn=limits, capture_output=True, text=True, errors="replace")
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"code": done.returncode, "mib": used.ru_maxrss // 1024, "seconds": used.ru_utime + used.ru_stime,
                  "stdout": done.stdout, "stderr": done.stderr}))
"#;

struct LimitedRun {
    code: i64,
    mib: u64,
    seconds: f64,
    stdout: String,
    stderr: String,
}

fn run(arguments: &[&str]) -> LimitedRun {
    let command = env!("CARGO_BIN_EXE_bucket-streamer");
    let ran = Command::new("python3").args(["-c", RUNNER, command]).args(arguments).output().expect("python3");
    let usage: Value = serde_json::from_slice(&ran.stdout).expect("what it took");
    let text = |name: &str| usage[name].as_str().unwrap_or_default().to_owned();
    LimitedRun {
        code: usage["code"].as_i64().expect("an exit code"),
        mib: usage["mib"].as_u64().expect("memory"),
        seconds: usage["seconds"].as_f64().expect("time"),
        stdout: text("stdout"),
        stderr: text("stderr"),
    }
}

fn make_hostile(arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/make-hostile");
    let ran = Command::new("python3").arg(script).args(arguments).output().expect("python3");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).expect("names")
}

/// Makes one file in a folder.
fn make(folder: &Path, name: &str) -> PathBuf {
    make_hostile(&[folder.to_str().expect("a path that is text"), name]);
    let path = |kind: &str| folder.join(kind).join(name);
    [path("hostile"), path("sound")].into_iter().find(|path| path.exists()).expect("a file")
}

/// Opens each hostile file of a kind, and decodes its first frame; reports violations.
fn check(prefix: &str, at_least: usize) {
    let names = make_hostile(&["--list"]);
    let names: Vec<&str> = names.lines().filter(|name| name.starts_with(prefix)).collect();
    assert!(names.len() >= at_least, "{names:?}");
    let mut wrong = Vec::new();
    for name in names {
        let folder = tempfile::tempdir().expect("a folder");
        let path = make(folder.path(), name);
        let path = path.to_str().expect("a path that is text");
        for arguments in [&["info", path][..], &["extract", path, "--frames", "0", "--format", "framemd5"]] {
            let LimitedRun { code, mib, seconds, stderr, .. } = run(arguments);
            let is_line = |line: &str| line.starts_with("bucket-streamer: ") && line.len() < 500;
            let is_clear = stderr.lines().count() == usize::from(code != 0) && stderr.lines().all(is_line);
            // "Cannot allocate memory" would mean that the machine has none.
            let is_clear = is_clear && !stderr.contains("annot allocate");
            if !([0, 1, 3].contains(&code) && is_clear && mib <= MIB && seconds <= SECONDS) {
                wrong.push(format!("{name}: {}: code {code}, {mib} MiB, {seconds:.1} s: {stderr}", arguments[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn mp4_edits() {
    check("mp4_edits", 4);
}

#[test]
fn mp4_tables() {
    check("mp4_m", 3);
    check("mp4_t", 5);
    check("mp4_h", 2);
}

#[test]
fn mp4_boxes_and_fragments() {
    for kind in ["a", "b", "c", "f", "p", "r", "s"] {
        check(&format!("mp4_{kind}"), 1);
    }
}

#[test]
fn matroska() {
    check("mkv", 16);
}

#[test]
fn transport_streams() {
    check("ts", 5);
}

#[test]
fn raw_streams() {
    check("raw", 6);
}

#[test]
fn ivf_and_obus() {
    check("ivf", 6);
    check("obu", 2);
}

/// The message names the exceeded limit.
#[test]
fn the_limit_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, why) in [
        ("mp4_edits_over_constant_stsz.mp4", "more than 402653184 bytes of memory (--index-memory)"),
        ("mp4_hundred_tracks.mp4", "more than 402653184 bytes of memory (--index-memory)"),
        ("mp4_metadata_keys.mp4", "over the same entries again and again"),
        ("mkv_attachments_and_tags.mkv", "over the same entries again and again"),
    ] {
        let path = make(folder.path(), name);
        let took = run(&["info", path.to_str().expect("a path that is text")]);
        assert!(took.code == 3 && took.stderr.contains(why), "{name}: code {}: {}", took.code, took.stderr);
    }
}

/// More than two hours, and more than 120,000 samples, in tables, in fragments, and as packets: all open, including
/// their last frame.
#[test]
fn long_videos_open() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, frames) in
        [("long.mp4", 200_000), ("long_fragmented.mp4", 200_016), ("long.mkv", 120_000), ("long.265", 4_800)]
    {
        let path = make(folder.path(), name);
        let path = path.to_str().expect("a path that is text");
        let took = run(&["info", path, "--json"]);
        assert_eq!(took.code, 0, "{name}: {}", took.stderr);
        let info: Value = serde_json::from_str(&took.stdout).expect("JSON");
        assert_eq!(info["frames"].as_u64(), Some(frames), "{name}: {info}");
        assert!(took.mib <= MIB / 2, "{name}: {} MiB", took.mib);
        if name != "long.mkv" {
            let last = (frames - 1).to_string();
            let took = run(&["extract", path, "--frames", &last, "--format", "framemd5"]);
            assert_eq!(took.code, 0, "{name}: {}", took.stderr);
        }
    }
}

/// 32 at once: they share memory, and small videos do not wait. On a busy machine large ones may report that they
/// waited for too long.
#[test]
fn openings_share_their_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let large = make(folder.path(), "mp4_edits_over_constant_stsz.mp4");
    let small = common::fixture("hevc_gray.mp4");
    let engine = Engine::builder().threads(1).build();
    let open = |path: &Path| {
        let source: Arc<dyn Source> = Arc::new(FileSource::open(path).expect("a file"));
        engine.open(source, 0)
    };
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                let error = open(&large).expect_err("too large");
                assert!(matches!(error.kind(), ErrorKind::IndexTooLarge { .. } | ErrorKind::IndexBusy), "{error}");
            });
            scope.spawn(|| assert!(open(&small).is_ok(), "a small one opens beside them"));
        }
    });
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak");
    let kib: u64 = peak.trim().trim_end_matches("kB").trim().parse().expect("a number");
    assert!(kib < 2 << 20, "{kib} KiB");
}
