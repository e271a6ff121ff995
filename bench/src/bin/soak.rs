//! Random requests for a chosen time, over all clips of the arguments, with one engine; prints the resident memory at
//! intervals.
//!
//!     cargo run --release -p bucket-streamer-bench --features harness --bin soak -- MINUTES MEBIBYTES CLIP...
#![allow(clippy::print_stdout, reason = "a program that prints its results")]

use std::time::{Duration, Instant};

use bucket_streamer::{Result, process};

/// Resident memory in MiB.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096 / (1 << 20)
}

fn main() -> Result<()> {
    process::dedicate().expect("a signal handler");
    let mut arguments = std::env::args().skip(1);
    let mut number = || arguments.next().and_then(|text| text.parse::<u64>().ok()).expect("MINUTES MEBIBYTES CLIP...");
    let (minutes, budget) = (number(), number());
    let engine = bucket_streamer_bench::engine().checkpoint_memory(budget << 20).build();
    let videos = arguments.map(|clip| engine.open_path(clip)).collect::<Result<Vec<_>>>()?;
    let (began, mut next_report, mut random) = (Instant::now(), Duration::ZERO, fastrand::Rng::with_seed(1));
    let (mut requests, mut failed) = (0_u64, 0_u64);
    while began.elapsed() < Duration::from_secs(60 * minutes) {
        let video = &videos[random.usize(..videos.len())];
        let frames = video.frame_count() as u32;
        match random.u8(..4) {
            0 => {
                let wanted: Vec<u32> = (0..random.u32(1..12)).map(|_| random.u32(..frames)).collect();
                failed += video.frames(&wanted).filter(|(_, frame)| frame.is_err()).count() as u64;
            }
            // A caller that drops the request before its end.
            1 => drop(video.frames(&[random.u32(..frames), random.u32(..frames), random.u32(..frames)]).next()),
            _ => failed += u64::from(video.frame(random.u32(..frames)).is_err()),
        }
        requests += 1;
        if began.elapsed() >= next_report {
            next_report += Duration::from_secs(20);
            let held = engine.checkpoints();
            let (seconds, bytes) = (began.elapsed().as_secs(), held.bytes >> 20);
            println!(
                "{seconds:4} s  {requests} requests, {failed} failed, {bytes} MiB in {} checkpoints, resident {} MiB",
                held.checkpoints,
                resident()
            );
        }
    }
    Ok(())
}
