//! The locks of the library under many workers: how often they are waited for, and how long they are held.
//!
//!     cargo run --release -p bucket-streamer-bench --features lock-statistics --bin locks -- singles|batches|remote
//!         [--workers 64] [--callers 64] [--seconds 5] [--warm 3] [--checkpoints MIB] [--batch 32] [--seed N] CLIP...
//!
//! Callers open random clips through a catalog and request random frames of them: one at a time (`singles`), as many as
//! `--batch` says (`batches`), or one at a time over HTTP from a server in this process (`remote`). After `--warm`
//! seconds all counts begin anew. The program prints the frames of `--seconds` seconds with their processor time,
//! context switches and page faults, and a table of the locks. Threads wait for a lock on few cores when its holder is
//! preempted; on many cores they do when it is held for a large share of the work. `cores` is that share's inverse:
//! with so many cores, the lock would be held all the time. `bench/locks/run` adds the locks of C code.
#![allow(clippy::print_stdout, reason = "a program that prints its results")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bucket_streamer::source::remote::{HttpClient, HttpOptions};
use bucket_streamer::{Catalog, Engine, Result, lock_statistics, process};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use testing::range_server::RangeServer;

struct Plan {
    scenario: String,
    workers: usize,
    callers: u64,
    seconds: u64,
    warm: u64,
    /// Memory for checkpoints in bytes; the engine's default without it.
    checkpoints: Option<u64>,
    batch: usize,
    seed: u64,
    clips: Vec<String>,
}

impl Plan {
    fn read() -> Plan {
        let mut plan = Plan {
            scenario: String::new(),
            workers: 64,
            callers: 64,
            seconds: 5,
            warm: 3,
            checkpoints: None,
            batch: 32,
            seed: 1,
            clips: Vec::new(),
        };
        let mut arguments = std::env::args().skip(1);
        plan.scenario = arguments.next().expect("singles, batches or remote");
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().and_then(|text| text.parse::<u64>().ok()).expect("a number");
            match &argument[..] {
                "--workers" => plan.workers = value() as usize,
                "--callers" => plan.callers = value(),
                "--seconds" => plan.seconds = value(),
                "--warm" => plan.warm = value(),
                "--checkpoints" => plan.checkpoints = Some(value() << 20),
                "--batch" => plan.batch = value() as usize,
                "--seed" => plan.seed = value(),
                _ => plan.clips.push(argument),
            }
        }
        assert!(!plan.clips.is_empty(), "no clip is named");
        plan
    }
}

struct Callers {
    catalog: Catalog,
    addresses: Vec<String>,
    /// Frames of one request.
    batch: usize,
    frames: AtomicU64,
    failed: AtomicU64,
    is_over: AtomicBool,
}

impl Callers {
    fn call(&self, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        while !self.is_over.load(Relaxed) {
            let address = &self.addresses[random.usize(..self.addresses.len())];
            if self.request(address, &mut random).is_err() {
                self.failed.fetch_add(1, Relaxed);
            }
        }
    }

    fn request(&self, address: &str, random: &mut fastrand::Rng) -> Result<()> {
        let video = self.catalog.open(address, 0)?;
        let count = video.frame_count() as u32;
        if self.batch == 1 {
            video.frame(random.u32(..count))?;
            self.frames.fetch_add(1, Relaxed);
            return Ok(());
        }
        let frames = random.choose_multiple(0..count, self.batch);
        for (_, frame) in video.frames(&frames) {
            frame?;
            self.frames.fetch_add(1, Relaxed);
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    process::dedicate().expect("a signal handler");
    let plan = Plan::read();
    let builder = Engine::builder().threads(plan.workers);
    let engine = plan.checkpoints.map_or(builder.clone(), |bytes| builder.checkpoint_memory(bytes)).build();
    let (server, mut catalog, mut addresses) = (RangeServer::start(), Catalog::new(&engine), plan.clips.clone());
    if plan.scenario == "remote" {
        let client = HttpClient::new(HttpOptions::default())?;
        catalog = catalog.with_opener(move |address| Ok(Arc::new(client.open(address)?)));
        addresses = Vec::new();
        for (number, clip) in plan.clips.iter().enumerate() {
            addresses.push(server.put(&number.to_string(), std::fs::read(clip).expect("a clip"), "\"1\""));
        }
    }
    let callers = Callers {
        catalog,
        addresses,
        batch: if plan.scenario == "batches" { plan.batch } else { 1 },
        frames: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        for caller in 0..plan.callers {
            let callers = &callers;
            scope.spawn(move || callers.call(plan.seed ^ (caller << 32)));
        }
        std::thread::sleep(Duration::from_secs(plan.warm));
        measure(&plan, &callers, &engine);
        callers.is_over.store(true, Relaxed);
    });
    Ok(())
}

/// Counts for the time that the plan says, and prints the results.
fn measure(plan: &Plan, callers: &Callers, engine: &Engine) {
    let usage_now = || getrusage(UsageWho::RUSAGE_SELF).expect("it exists");
    let (before, since, warm) = (usage_now(), Instant::now(), callers.frames.load(Relaxed));
    lock_statistics::reset();
    std::thread::sleep(Duration::from_secs(plan.seconds));
    let (after, seconds) = (usage_now(), since.elapsed().as_secs_f64());
    let work = processor_time(&after) - processor_time(&before);
    let table = lock_statistics::table(work);
    let frames = (callers.frames.load(Relaxed) - warm).max(1);
    let each = |count: fn(&Usage) -> i64| (count(&after) - count(&before)) as f64 / frames as f64;
    println!(
        "{}: {frames} frames, {} failed, {:.1} frames/s; a frame: {:.3} ms of processor time, {:.2} waits and {:.2} \
         preemptions of threads, {:.0} page faults; {} MiB of checkpoints",
        plan.scenario,
        callers.failed.load(Relaxed),
        frames as f64 / seconds,
        work.as_secs_f64() * 1e3 / frames as f64,
        each(Usage::voluntary_context_switches),
        each(Usage::involuntary_context_switches),
        each(Usage::minor_page_faults),
        engine.checkpoints().bytes >> 20,
    );
    println!("{table}");
}

fn processor_time(usage: &Usage) -> Duration {
    let microseconds = (usage.user_time() + usage.system_time()).num_microseconds();
    Duration::from_micros(u64::try_from(microseconds).unwrap_or_default())
}
