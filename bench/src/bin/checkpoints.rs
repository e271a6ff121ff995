//! The cost of checkpoints: memory by spacing, and many videos under one budget. `bench/run` calls it.
//!
//! - `checkpoints spacings VIDEO FRAMES MEBIBYTES SPACING...` requests random frames, with a new engine for each
//!   spacing, and prints a line of JSON for each: the memory held then, and the bytes per checkpoint.
//! - `checkpoints many REQUESTS MEBIBYTES VIDEO...` opens all videos with one engine, requests random frames of random
//!   videos, and prints a line of JSON: the memory held, the peak of resident memory, and latencies.
//! - `checkpoints union VIDEO FRAME...` prints the number of pictures that single requests for these frames need, each
//!   counted once, and the number that a batch of them would send.
#![allow(clippy::print_stdout, reason = "a program that prints its results")]

use std::collections::BTreeSet;
use std::time::Instant;

use bucket_streamer::{Video, process};
use serde_json::json;

type Failure = Box<dyn std::error::Error>;

const THREADS: usize = 2;
const SEED: u64 = 1;

fn main() -> Result<(), Failure> {
    process::dedicate()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["spacings", video, frames, mebibytes, ref spacings @ ..] => {
            for spacing in spacings {
                spaced(video, frames.parse()?, mebibytes.parse()?, spacing.parse()?)?;
            }
            Ok(())
        }
        ["many", requests, mebibytes, ref videos @ ..] => many(requests.parse()?, mebibytes.parse()?, videos),
        ["union", video, ref frames @ ..] => {
            let frames = frames.iter().map(|frame| frame.parse()).collect::<Result<Vec<u32>, _>>()?;
            union(video, &frames)
        }
        _ => Err("usage: checkpoints spacings|many|union ..., see the top of bench/src/bin/checkpoints.rs".into()),
    }
}

fn spaced(path: &str, frames: usize, mebibytes: u64, spacing: u32) -> Result<(), Failure> {
    let engine = bucket_streamer_bench::engine()
        .threads(THREADS)
        .checkpoint_memory(mebibytes << 20)
        .checkpoint_spacing(spacing)
        .build();
    let video = engine.open_path(path)?;
    for index in fastrand::Rng::with_seed(SEED).choose_multiple(0..video.frame_count() as u32, frames) {
        video.frame(index)?;
    }
    let held = engine.checkpoints();
    println!(
        "{}",
        json!({
            "spacing": spacing,
            "checkpoints": held.checkpoints,
            "pictures": held.pictures,
            "bytes": held.bytes,
            "bytes_per_checkpoint": held.bytes / held.checkpoints.max(1) as u64,
        })
    );
    Ok(())
}

fn many(requests: usize, mebibytes: u64, paths: &[&str]) -> Result<(), Failure> {
    let engine = bucket_streamer_bench::engine().threads(THREADS).checkpoint_memory(mebibytes << 20).build();
    let videos = paths.iter().map(|path| engine.open_path(path)).collect::<Result<Vec<Video>, _>>()?;
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut latencies = Vec::with_capacity(requests);
    let mut most = 0;
    for _ in 0..requests {
        let video = &videos[random.usize(0..videos.len())];
        let index = random.u32(0..video.frame_count() as u32);
        let requested_at = Instant::now();
        video.frame(index)?;
        latencies.push(requested_at.elapsed().as_secs_f64() * 1e3);
        most = most.max(engine.checkpoints().bytes);
    }
    latencies.sort_by(f64::total_cmp);
    let percentile = |percent: usize| latencies[(latencies.len() * percent).div_ceil(100).saturating_sub(1)];
    let held = engine.checkpoints();
    println!(
        "{}",
        json!({
            "videos": videos.len(),
            "requests": requests,
            "budget_bytes": engine.checkpoint_memory(),
            "checkpoints": held.checkpoints,
            "pictures": held.pictures,
            "bytes": held.bytes,
            "most_bytes": most,
            "peak_rss_bytes": peak_rss(),
            "p50_ms": percentile(50),
            "p95_ms": percentile(95),
        })
    );
    Ok(())
}

fn union(path: &str, frames: &[u32]) -> Result<(), Failure> {
    let video = bucket_streamer_bench::engine().threads(THREADS).build().open_path(path)?;
    let needed = |frames: &[u32]| video.plan(frames).into_iter().flat_map(|run| run.samples).collect::<Vec<_>>();
    let alone: Vec<u32> = frames.iter().flat_map(|&frame| needed(&[frame])).collect();
    println!(
        "{}",
        json!({
            "frames": frames.len(),
            "union": alone.iter().collect::<BTreeSet<_>>().len(),
            "one_by_one": alone.len(),
            "together": needed(frames).len(),
        })
    );
    Ok(())
}

/// The peak of this process's resident memory, if the system reports it.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
}
