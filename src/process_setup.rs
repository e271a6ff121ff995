//! Sets up the process for the engine: raises the limit of open files, and applies the settings of
//! `bucket_streamer::process`. Summarizes the resources of the process and their use in one line for operators.

use std::sync::OnceLock;

use bucket_streamer::process;
#[cfg(any(feature = "bench", feature = "server"))]
use bucket_streamer::{Engine, Machine, source};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::console::say;

/// Whether the soft limit of open files was raised.
static IS_RAISED: OnceLock<bool> = OnceLock::new();

/// Sets up the process for the engine. `main` calls this first.
pub(crate) fn set_up_process() {
    raise_open_files();
    if let Err(error) = process::dedicate() {
        say(&format!("bucket-streamer: local files are read, not mapped: {error}"));
    }
}

/// Raises the soft limit of open files to the hard one. The usual soft limit (1,024) is meant for programs that use
/// `select`; child processes inherit the limit.
fn raise_open_files() {
    let raise = || {
        let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return false };
        soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok()
    };
    IS_RAISED.get_or_init(raise);
}

/// The resources of the process, and their use: `2 of 64 processors (quota of 2.0 in /sys/fs/cgroup/a), 4.0 GiB of
/// memory: 2 workers, not pinned; checkpoints 256 MiB; 16,384 open files (soft limit raised)`
#[cfg(any(feature = "bench", feature = "server"))]
pub(crate) fn resource_summary(machine: &Machine, engine: &Engine) -> String {
    let workers = engine.threads();
    let plural = if workers == 1 { "" } else { "s" };
    let pinned = if engine.is_pinned() { "pinned" } else { "not pinned" };
    let checkpoints = engine.checkpoint_memory() >> 20;
    let files = grouped(source::open_files().descriptors);
    let raised = if IS_RAISED.get() == Some(&true) { " (soft limit raised)" } else { "" };
    format!("{machine}: {workers} worker{plural}, {pinned}; checkpoints {checkpoints} MiB; {files} open files{raised}")
}

/// The division of a server's open files: `4,096 connections, 8,192 videos`, with the configured number of connections
/// if that is larger.
#[cfg(feature = "server")]
pub(crate) fn open_file_shares(connections: usize, requested: usize) -> String {
    let less = if connections < requested { format!(" (of {} asked for)", grouped(requested)) } else { String::new() };
    format!("{} connections{less}, {} videos", grouped(connections), grouped(source::open_files().most))
}

/// `16,384`
#[cfg(any(feature = "bench", feature = "server"))]
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let (head, tail) = digits.split_at(first);
    let groups = tail.as_bytes().chunks(3).map(|group| String::from_utf8_lossy(group).into_owned());
    let all = Some(head.to_owned()).filter(|head| !head.is_empty()).into_iter().chain(groups);
    all.collect::<Vec<_>>().join(",")
}

#[cfg(all(test, any(feature = "bench", feature = "server")))]
mod tests {
    use super::grouped;

    #[test]
    fn digits_are_grouped_in_threes() {
        assert_eq!([0, 999, 1024, 16_384, 1_048_576].map(grouped), ["0", "999", "1,024", "16,384", "1,048,576"]);
    }
}
