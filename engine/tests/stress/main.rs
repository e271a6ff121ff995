//! Thousands of requests of all kinds, from several callers, on engines of all sizes: every answer equals the
//! sequential decode, and each frame has exactly one answer.
//!
//! A round is one engine with some videos and their requests, all derived from the seed and the round's number.
//! `BUCKET_STREAMER_EXHAUSTIVE=1` makes at least 10,000 requests, the default as many as fit into half a minute. To
//! repeat rounds, or to make fewer: `BUCKET_STREAMER_STRESS` with any of `seed=7 first=130 rounds=1 requests=100
//! clips=vp9.webm,hevc.ts patience=3600`.
#![allow(clippy::print_stderr, reason = "tests report their results")]

mod clip;
mod requests;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use bucket_streamer::{Engine, Video, process};
use fastrand::Rng;

use testing::clips::{clips, name, open};

use crate::clip::{Clip, Truth};
use crate::requests::{RequestCounts, Subject, pattern};
use crate::waiting::HangWatch;

/// A setting of `BUCKET_STREAMER_STRESS`.
fn setting<T: FromStr>(key: &str) -> Option<T> {
    let all = std::env::var("BUCKET_STREAMER_STRESS").unwrap_or_default();
    let value = all.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.parse().unwrap_or_else(|_| panic!("BUCKET_STREAMER_STRESS: {key}={value}")))
}

/// The threads of engines are counted, so only one test at a time may have engines.
static ALONE: Mutex<()> = Mutex::new(());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Clips that can be opened, the fixtures first.
fn stress_clips() -> Vec<Clip> {
    let only: Option<String> = setting("clips");
    let is_wanted =
        |path: &PathBuf| only.as_ref().is_none_or(|only| only.split(',').any(|wanted| wanted == name(path)));
    let is_large = |path: &PathBuf| path.metadata().is_ok_and(|it| it.len() > 1 << 20);
    let has_time = exhaustive() || only.is_some();
    clips().into_iter().filter(is_wanted).filter(|path| has_time || !is_large(path)).filter_map(Clip::of).collect()
}

fn exhaustive() -> bool {
    std::env::var_os("BUCKET_STREAMER_EXHAUSTIVE").is_some()
}

/// The number of callers, and the distribution of their requests over videos.
#[derive(Debug, Clone, Copy)]
enum Callers {
    One,
    /// Four, all on the first video.
    FourOnOne,
    /// Four, each on the next video.
    FourOnAll,
}

/// One engine, its videos, and their requests.
fn round(number: u64, seed: u64, clips: &[&Clip], requests: usize, counts: &RequestCounts, watch: &HangWatch) {
    let mut random = Rng::with_seed(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let threads = random.usize(1..=4);
    let memory = match random.u8(0..6) {
        0 => 0,
        1..=3 => random.u64(8..=40) << 20,
        4 => 160 << 20,
        _ => 1 << 30,
    };
    let spacing = *random.choice([1, 1, 2, 4, 9].iter()).expect("some");
    let callers = *random.choice([Callers::One, Callers::FourOnOne, Callers::FourOnAll].iter()).expect("some");
    let engine = Engine::builder().threads(threads).checkpoint_memory(memory).checkpoint_spacing(spacing);
    let engine = engine.pin_threads(random.bool());
    let is_one = random.u8(0..8) == 0;
    let engine = if is_one { engine.for_one_request() } else { engine }.build();
    // The first round reads files, all others map them.
    if number > 0 {
        process::map_files().expect("a signal handler");
    }
    let names: Vec<&str> = clips.iter().map(|clip| &clip.name[..]).collect();
    let recipe = format!(
        "[seed={seed} first={number} rounds=1: {threads} threads, {} MiB, every {spacing}{}, {callers:?}, {names:?}]",
        memory >> 20,
        if is_one { ", for one request" } else { "" }
    );
    if setting("talk") == Some(1) {
        eprintln!("{recipe}");
    }
    let videos: Vec<Video> = clips.iter().map(|clip| open(&engine, &clip.path).expect("opened before")).collect();
    let subject = |at: usize| Subject {
        clip: clips[at],
        engine: &engine,
        video: &videos[at],
        truths: clips[at].truths(threads),
        counts,
        recipe: &recipe,
    };
    match callers {
        Callers::One => {
            let subjects: Vec<Subject> = (0..clips.len()).map(subject).collect();
            for _ in 0..requests {
                subjects[random.usize(0..subjects.len())].request(&mut random, watch);
            }
        }
        Callers::FourOnOne | Callers::FourOnAll => thread::scope(|scope| {
            for caller in 0..4 {
                let is_one = matches!(callers, Callers::FourOnOne);
                let subject = subject(if is_one { 0 } else { caller % clips.len() });
                let mut random = random.fork();
                scope.spawn(move || (0..requests.div_ceil(4)).for_each(|_| subject.request(&mut random, watch)));
            }
        }),
    }
    let work = engine.work();
    counts.forks.fetch_add(work.forks as usize, Relaxed);
    counts.decoded.fetch_add(work.decoded_pictures as usize, Relaxed);
    drop((videos, engine));
    // Cancelled requests must not keep anything alive: the workers end when the last reference to the engine is
    // dropped.
    watch.during(format!("{recipe}: workers that do not end"), || {
        while workers() > 0 {
            thread::sleep(Duration::from_millis(1));
        }
    });
}

/// Threads of running engines.
fn workers() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let is_worker = |name: &String| name.starts_with("decode-");
    threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok()).filter(is_worker).count()
}

#[test]
fn any_requests_get_the_sequential_decode() {
    let _alone = lock(&ALONE);
    let begun = Instant::now();
    let clips = stress_clips();
    eprintln!("{} clips, {:.0?} to decode them", clips.len(), begun.elapsed());
    let seed: u64 = setting("seed").unwrap_or(11);
    let first: u64 = setting("first").unwrap_or(0);
    let rounds: u64 = setting("rounds").unwrap_or(u64::MAX);
    let enough = setting("requests").unwrap_or(if exhaustive() { 12_000 } else { 1_000_000 });
    let until = Instant::now() + Duration::from_secs(if exhaustive() { 100_000 } else { 25 });
    let (counts, watch) = (RequestCounts::default(), HangWatch::start());
    for number in first..first.saturating_add(rounds) {
        // Each clip in turn, with up to two others.
        let mut random = Rng::with_seed(seed.wrapping_add(number));
        let mut chosen = vec![&clips[number as usize % clips.len()]];
        let others = clips.iter().filter(|clip| clip.pixels < 500_000).collect::<Vec<_>>();
        for _ in 0..random.usize(0..3).min(others.len()) {
            chosen.push(others[random.usize(0..others.len())]);
        }
        let requests = match chosen[0].pixels {
            0..100_000 => 60,
            100_000..500_000 => 40,
            500_000..3_000_000 => 20,
            _ => 8,
        };
        let before = Instant::now();
        round(number, seed, &chosen, requests, &counts, &watch);
        if before.elapsed() > Duration::from_secs(20) {
            eprintln!("round {number} ({}) took {:.0?}", chosen[0].name, before.elapsed());
        }
        if number % 50 == 49 {
            eprintln!("{} rounds, {} requests, {:.0?}", number + 1, counts.requests.load(Relaxed), begun.elapsed());
        }
        if counts.requests.load(Relaxed) >= enough || Instant::now() > until {
            break;
        }
    }
    let read = |count: &AtomicUsize| count.load(Relaxed);
    eprintln!(
        "{} requests: {} frames compared, {} errors as expected, {} broken off, {} frames that vary; {} forks, {} pictures decoded; {:.0?}",
        read(&counts.requests),
        read(&counts.frames),
        read(&counts.errors),
        read(&counts.cancelled),
        read(&counts.unstable),
        read(&counts.forks),
        read(&counts.decoded),
        begun.elapsed()
    );
    eprintln!("{:?}", lock(&counts.kinds));
    let fewest =
        lock(&counts.clips).iter().min_by_key(|(_, count)| **count).map(|(clip, count)| format!("{clip} {count}"));
    eprintln!("{} clips, fewest requests: {fewest:?}", lock(&counts.clips).len());
}

/// A batch on a new engine decodes no picture outside of the union of the closures, and none twice.
#[test]
fn a_cold_batch_decodes_the_union_of_the_closures() {
    let _alone = lock(&ALONE);
    let clips = stress_clips();
    let seed: u64 = setting("seed").unwrap_or(11);
    let (mut batches, mut less, mut more) = (0, 0, BTreeMap::<String, (usize, u64, String)>::new());
    for (number, clip) in clips.iter().enumerate().filter(|(_, clip)| !clip.is_damaged) {
        let truths = clip.truths(0);
        let tries = if clip.pixels > 500_000 { 4 } else { 12 };
        for attempt in 0..tries {
            let mut random = Rng::with_seed(seed ^ (number as u64) << 32 ^ attempt);
            let threads = 1 + attempt as usize % 4;
            let spacing = [1, 2, 4, 9][random.usize(0..4)];
            let engine =
                Engine::builder().threads(threads).checkpoint_memory(2 << 30).checkpoint_spacing(spacing).build();
            let video = open(&engine, &clip.path).expect("opened before");
            let mut wanted = pattern(&mut random, &video, 40);
            // Frames that are not shown use the fallback decode.
            wanted.retain(|&index| matches!(truths.get(index as usize), Some(Truth::Shown(_))));
            let planned: u64 = video.plan(&wanted).iter().map(|run| run.samples.len() as u64).sum();
            let distinct: BTreeSet<u32> = wanted.iter().copied().collect();
            assert_eq!(video.frames(&wanted).filter(|(_, result)| result.is_ok()).count(), distinct.len());
            let decoded = engine.work().decoded_pictures;
            batches += 1;
            less += usize::from(decoded < planned);
            if decoded > planned {
                let entry = more.entry(clip.name.clone()).or_default();
                entry.0 += 1;
                if decoded - planned > entry.1 {
                    entry.1 = decoded - planned;
                    entry.2 = format!("{decoded} instead of {planned}: {threads} threads, every {spacing}, {wanted:?}");
                }
            }
        }
    }
    eprintln!("{batches} batches, {less} with fewer pictures than planned");
    for (clip, (count, _, worst)) in &more {
        eprintln!("{clip}: {count} batches with more; {worst}");
    }
}
