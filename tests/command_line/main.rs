//! The interface of the command: standard output, standard error, and the exit code.
#![allow(clippy::print_stderr, reason = "tests report skipped checks")]

#[path = "../common/mod.rs"]
mod common;
mod console;
mod damage;
mod exit_code;
mod files;
mod framemd5;
mod index;
mod info;
mod json;
mod manual;
mod order;
mod program;
mod selection;
mod stills;
mod streams;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use md5::{Digest, Md5};
use serde_json::{Value, json};
use tempfile::TempDir;

use common::{
    ProgramRun, bucket_streamer, clips, fixture, name, oracle_md5s, oracle_packets, oracle_pts, program, run_command,
};

/// A fixture's path, as an argument.
fn clip(name: &str) -> String {
    fixture(name).to_string_lossy().into_owned()
}

/// False for `bench` if its feature is off.
fn is_built_in(command: &[&str]) -> bool {
    command[0] != "bench" || cfg!(feature = "bench")
}

/// `extract` of a fixture.
fn extract(name: &str, arguments: &[&str]) -> ProgramRun {
    run_command(&[&["extract", &clip(name)], arguments].concat())
}

/// `extract` of a fixture into a folder of its own.
struct Stills {
    folder: TempDir,
    ran: ProgramRun,
}

impl Stills {
    fn of(name: &str, arguments: &[&str]) -> Stills {
        let folder = tempfile::tempdir().expect("a folder");
        let output = folder.path().join("stills");
        let more = ["--output", output.to_str().expect("text"), "--json"];
        let ran = extract(name, &[arguments, &more].concat());
        Stills { folder, ran }
    }

    /// Names of the files, sorted.
    fn names(&self) -> Vec<String> {
        let files = fs::read_dir(self.folder.path().join("stills")).expect("the folder");
        let mut names: Vec<String> = files.map(|file| name(&file.expect("a file").path())).collect();
        names.sort();
        names
    }

    /// The bytes of the files, in the order of the JSON lines.
    fn files(&self) -> Vec<Vec<u8>> {
        let read = |line: Value| fs::read(line["file"].as_str().expect("a file")).expect("the still");
        self.ran.json().into_iter().map(read).collect()
    }
}

/// Checks that every message is one line that begins with the name of the program.
fn check_messages(ran: &ProgramRun) {
    for line in ran.stderr.lines() {
        assert!(line.starts_with("bucket-streamer: ") && line.len() > 20, "{line}");
    }
}

fn numbers(lines: &[Value]) -> Vec<Option<u64>> {
    lines.iter().map(|line| line["index"].as_u64()).collect()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn md5_of(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The MD5s of `--format framemd5` lines.
fn md5s_of(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.rsplit(", ").next()).collect()
}
