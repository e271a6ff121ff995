//! Runs the built command, for tests.
#![allow(dead_code, unused_imports, reason = "each test file uses a part")]

use std::process::Command;

pub(crate) use testing::clips::{
    clips, damaged, fixture, flagged_and_sound, hard_links, many_videos, name, oracle_md5s, oracle_packets, oracle_pts,
    program,
};
pub(crate) use testing::program_run::ProgramRun;

/// The built `bucket-streamer` with these arguments.
pub(crate) fn bucket_streamer(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bucket-streamer"));
    command.args(arguments);
    command
}

/// Runs the built `bucket-streamer` to its end.
pub(crate) fn run_command(arguments: &[&str]) -> ProgramRun {
    ProgramRun::run(&mut bucket_streamer(arguments))
}
