//! The command keeps its resident memory within the budget of pictures.
#![allow(clippy::print_stderr, reason = "tests report what they leave out")]

mod common;

use std::process::{Command, Stdio};
use std::time::Duration;

use testing::damage::bombs::{LARGEST, bombs};

use common::bucket_streamer;

/// Limits the command's resident memory, with the pictures that wait to be written.
#[test]
fn the_command_stays_within_the_budget() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = std::env::var_os("BUCKET_STREAMER_DAMAGE_DIR").map(std::path::PathBuf::from);
    for (number, (name, bytes)) in bombs(LARGEST).into_iter().enumerate() {
        let path = kept.as_deref().unwrap_or(folder.path()).join(format!("{number}-{name}"));
        std::fs::write(&path, bytes).expect("a file");
        let path = path.to_str().expect("UTF-8");
        let arguments = ["extract", path, "--frames", "0-5", "-f", "framemd5", "-o", "-", "--threads", "4"];
        let (code, peak_kib) = peak_of(&mut bucket_streamer(&[&arguments[..], &["--picture-memory", "128M"]].concat()));
        eprintln!("{name}: {} MiB, exit code {code}", peak_kib >> 10);
        assert!(peak_kib < 512 << 10, "{name}: {} MiB", peak_kib >> 10);
        assert!(matches!(code, 0 | 1 | 3), "{name}: exit code {code}");
    }
}

/// Runs a command: its exit code, and its peak of resident memory.
fn peak_of(command: &mut Command) -> (i32, u64) {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("to start");
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let peak =
            text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().trim_end_matches(" kB").parse().ok());
        peak_kib = peak_kib.max(peak.unwrap_or(0));
        if let Some(status) = child.try_wait().expect("a child") {
            return (status.code().unwrap_or(-1), peak_kib);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
