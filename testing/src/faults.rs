//! Frames over HTTP under random faults: counts correct frames, errors, times, and leaked resources.
//! `bench/src/bin/remote_faults.rs` runs it at length, `engine/tests/remote_faults.rs` briefly.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bucket_streamer::source::MemorySource;
use bucket_streamer::source::remote::{HttpClient, HttpOptions};
use bucket_streamer::still::raw;
use bucket_streamer::{Engine, ErrorKind, Result, Video};

use crate::range_server::{RangeReply, RangeRequest, RangeServer, Traffic};

/// Containers with and without tables, all codecs, long and short GOPs.
const CLIPS: [&str; 10] = [
    "hevc_demo.mp4",
    "hevc_closed_gop.mp4",
    "hevc_open_gop.mp4",
    "hevc_fragmented.mp4",
    "hevc.mkv",
    "hevc.ts",
    "h264_bframes.mp4",
    "h264_open_gop.mkv",
    "vp9.webm",
    "av1.mp4",
];

/// One in this many requests reopens its video, because bytes in memory need no requests.
const REOPEN: u32 = 10;

/// The amount and the kinds of faults.
#[derive(Debug, Clone)]
pub struct FaultPlan {
    pub requests: u64,
    pub callers: u64,
    pub seed: u64,
    /// Of a hundred requests to the server, this many meet each fault.
    pub percent: u32,
    pub options: HttpOptions,
}

impl FaultPlan {
    /// 5% of each of five faults, with short time limits.
    pub fn new(requests: u64, seed: u64) -> FaultPlan {
        let options = HttpOptions {
            block: 4096,
            gap: 1024,
            first_byte_timeout: Duration::from_millis(700),
            stall_timeout: Duration::from_millis(500),
            deadline: Duration::from_secs(6),
            attempts: 4,
            ..HttpOptions::default()
        };
        FaultPlan { requests, callers: 8, seed, percent: 5, options }
    }
}

/// The results.
#[derive(Debug, Default)]
pub struct FaultReport {
    pub right: u64,
    /// Errors by their text, without coordinates.
    pub refused: BTreeMap<String, u64>,
    /// Openings among them.
    pub not_opened: u64,
    /// Violations: another picture, another number of frames, an error without an injected cause.
    pub wrong: Vec<String>,
    /// The slowest frame and the slowest opening.
    pub slowest: Duration,
    pub slowest_opening: Duration,
    /// Frames that took longer than the limit of one read.
    pub over_deadline: u64,
    /// Counts of the sources.
    pub attempts: u64,
    pub bytes: u64,
    /// Attempts that were second requests.
    pub hedged: u64,
    pub openings: u64,
    /// Replies of the server, by kind.
    pub answers: BTreeMap<&'static str, u64>,
    /// Bytes that arrived although the same source had them, for sources with room for everything.
    pub duplicate_bytes: u64,
    pub traffic: Traffic,
    pub took: Duration,
}

/// Resources of the process.
#[derive(Debug, Clone, Copy)]
pub struct ProcessResources {
    pub resident_kib: u64,
    pub descriptors: usize,
    pub threads: usize,
}

impl ProcessResources {
    /// Reads the present values of this process.
    pub fn now() -> ProcessResources {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
        let entries = |folder: &str| std::fs::read_dir(folder).map_or(0, Iterator::count);
        ProcessResources {
            resident_kib: 4 * pages,
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
        }
    }
}

/// A clip on the server, and its frames.
struct HostedClip {
    name: &'static str,
    address: String,
    frame_count: usize,
    frames: HashMap<u32, [u8; 16]>,
}

/// Ranges sent to each source with room for everything, by the number in its address.
type SentRanges = Mutex<HashMap<u64, Vec<(u64, u64)>>>;

/// A video that callers share until one of them reopens it.
struct CallerVideo {
    video: Video,
    number: u64,
}

/// State shared by runs: a server with clips, and an engine.
pub struct FaultHarness {
    server: RangeServer,
    engine: Engine,
    clips: Vec<HostedClip>,
    sent: Arc<SentRanges>,
    openings: AtomicU64,
}

/// A run in progress.
struct FaultRun<'a> {
    faults: &'a FaultHarness,
    plan: &'a FaultPlan,
    /// Two clients: the cache of one holds all bytes, the cache of the other almost none.
    clients: [HttpClient; 2],
    slots: Vec<Mutex<Option<Arc<CallerVideo>>>>,
    report: Mutex<FaultReport>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl FaultHarness {
    /// Decodes all clips once, for comparison with HTTP.
    pub fn new() -> Result<FaultHarness> {
        let server = RangeServer::start();
        let engine = Engine::builder().threads(2).checkpoint_memory(64 << 20).build();
        let mut clips = Vec::new();
        for name in CLIPS {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name);
            let bytes = std::fs::read(path).expect("the fixture");
            let video = engine.open(Arc::new(MemorySource::new(name, bytes.clone())), 0)?;
            let mut frames = HashMap::new();
            video.play(&mut |frame| {
                frames.insert(frame.index, raw::md5(&frame.picture));
                ControlFlow::Continue(())
            })?;
            let address = server.put(name, bytes, "\"1\"");
            clips.push(HostedClip { name, address, frame_count: video.frame_count(), frames });
        }
        Ok(FaultHarness { server, engine, clips, sent: Arc::default(), openings: AtomicU64::new(0) })
    }

    /// Requests frames, and closes all videos again.
    pub fn run(&self, plan: &FaultPlan) -> Result<FaultReport> {
        let answers = Arc::new(Mutex::new(BTreeMap::new()));
        self.inject_faults(plan, Arc::clone(&answers));
        let started = Instant::now();
        let roomy = HttpClient::new(plan.options.clone())?;
        let tight = HttpClient::new(HttpOptions { cache: 100_000, ..plan.options.clone() })?;
        let slots = (0..2 * self.clips.len()).map(|_| Mutex::default()).collect();
        let run = FaultRun { faults: self, plan, clients: [roomy, tight], slots, report: Mutex::default() };
        std::thread::scope(|scope| {
            for caller in 0..plan.callers {
                let run = &run;
                scope.spawn(move || run.call(caller));
            }
        });
        for slot in &run.slots {
            run.close(lock(slot).take());
        }
        let mut report = run.report.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        report.answers = lock(&answers).clone();
        report.traffic = self.server.traffic();
        report.took = started.elapsed();
        Ok(report)
    }

    /// Makes the server inject each fault into its share of requests, and records what it sends.
    fn inject_faults(&self, plan: &FaultPlan, answers: Arc<Mutex<BTreeMap<&'static str, u64>>>) {
        let (percent, options) = (plan.percent, plan.options.clone());
        let lengths: HashMap<String, u64> = self.clips.iter().map(|clip| (clip.path(), clip.len())).collect();
        let sent = Arc::clone(&self.sent);
        let mut random = fastrand::Rng::with_seed(plan.seed);
        self.server.set_behaviour(move |request| {
            let (kind, answer) = pick(&mut random, percent, &options);
            *lock(&answers).entry(kind).or_default() += 1;
            if kind != TOO_SLOW {
                record_sent(&sent, request, &answer, &lengths);
            }
            answer
        });
    }

    /// Waits until the server is idle, and returns the resources of the process.
    pub fn settled(&self) -> ProcessResources {
        let mut last = None;
        for _ in 0..50 {
            std::thread::sleep(Duration::from_millis(200));
            self.server.take_requests();
            let now = (self.server.traffic().open, ProcessResources::now().threads);
            if last == Some(now) {
                break;
            }
            last = Some(now);
        }
        ProcessResources::now()
    }
}

impl HostedClip {
    fn path(&self) -> String {
        format!("/{}", self.name)
    }

    fn len(&self) -> u64 {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(self.name);
        std::fs::metadata(path).map_or(0, |data| data.len())
    }
}

/// Slower than the time limit: these bytes are not waited for.
const TOO_SLOW: &str = "slow first byte, too slow";

/// Second requests that a client may accumulate for one server.
const SAVED: u64 = 8;

/// The reply to a request: mostly the correct one.
fn pick(random: &mut fastrand::Rng, percent: u32, options: &HttpOptions) -> (&'static str, RangeReply) {
    let some = random.u64(0..5000);
    match random.u32(0..100) / percent.max(1) {
        0 if some.is_multiple_of(2) => ("reset", RangeReply::Reset),
        0 => ("reset in the body", RangeReply::ResetAfter(some)),
        1 => ("stall", RangeReply::Stall(some)),
        2 => ("cut", RangeReply::Cut(some)),
        3 => ("503", RangeReply::Status(503, "")),
        // One in four is too late.
        4 if some.is_multiple_of(4) => (TOO_SLOW, RangeReply::Late(2 * options.first_byte_timeout)),
        4 => ("slow first byte", RangeReply::Late(options.first_byte_timeout / 4)),
        _ => ("good", RangeReply::Good),
    }
}

/// Records the received bytes of a reply, for sources with room for all bytes. After a reset they are not certain.
fn record_sent(sent: &SentRanges, request: &RangeRequest, answer: &RangeReply, lengths: &HashMap<String, u64>) {
    let Some((path, number)) = request.path.split_once("?opening=") else { return };
    let (Some((start, end)), Some(&len)) = (request.range, lengths.get(path)) else { return };
    let most = match answer {
        RangeReply::Good | RangeReply::Late(_) => u64::MAX,
        RangeReply::Cut(kept) | RangeReply::Stall(kept) => *kept,
        _ => return,
    };
    let number = number.parse().unwrap_or(0);
    if let Some(ranges) = lock(sent).get_mut(&number) {
        ranges.push((start, end.min(len).min(start.saturating_add(most))));
    }
}

/// Bytes in more than one range.
fn overlap(mut ranges: Vec<(u64, u64)>) -> u64 {
    ranges.sort_unstable();
    let (mut overlapping, mut end) = (0, 0);
    for (start, stop) in ranges {
        overlapping += end.min(stop).saturating_sub(start);
        end = end.max(stop);
    }
    overlapping
}

impl FaultRun<'_> {
    /// One caller's share of the requests.
    fn call(&self, caller: u64) {
        let mut random = fastrand::Rng::with_seed(self.plan.seed ^ (caller << 32));
        for request in 0..self.plan.requests / self.plan.callers {
            self.frame(&mut random);
            // The log would grow without bound.
            if request % 64 == 0 {
                self.faults.server.take_requests();
            }
        }
    }

    fn frame(&self, random: &mut fastrand::Rng) {
        let slot = random.usize(..self.slots.len());
        let clip = &self.faults.clips[slot / 2];
        let Some(opened) = self.video_of(slot, random.u32(..REOPEN) == 0) else { return };
        let frame = random.u32(..clip.frame_count as u32);
        let started = Instant::now();
        let result = opened.video.frame(frame).map(|frame| raw::md5(&frame.picture));
        let took = started.elapsed();
        self.close(Some(opened));
        let mut report = lock(&self.report);
        report.slowest = report.slowest.max(took);
        report.over_deadline += u64::from(took > self.plan.options.deadline);
        let what = format!("{} frame {frame}", clip.name);
        match (result, clip.frames.get(&frame)) {
            (Ok(md5), Some(expected)) if md5 == *expected => report.right += 1,
            (Err(error), None) if matches!(error.kind(), ErrorKind::NotShown) => report.right += 1,
            (Ok(_), _) => report.wrong.push(format!("{what} is another picture")),
            (Err(error), _) => report.refuse(&what, &error),
        }
    }

    /// The video of a slot, opened if necessary.
    fn video_of(&self, slot: usize, anew: bool) -> Option<Arc<CallerVideo>> {
        let mut slot_video = lock(&self.slots[slot]);
        if anew {
            let old = slot_video.take();
            self.close(old);
        }
        if let Some(opened) = &*slot_video {
            return Some(Arc::clone(opened));
        }
        let opened = self.open(slot);
        *slot_video = opened.clone();
        opened
    }

    fn open(&self, slot: usize) -> Option<Arc<CallerVideo>> {
        let clip = &self.faults.clips[slot / 2];
        let number = self.faults.openings.fetch_add(1, Relaxed);
        if slot.is_multiple_of(2) {
            lock(&self.faults.sent).insert(number, Vec::new());
        }
        let started = Instant::now();
        let source = self.clients[slot % 2].open(&format!("{}?opening={number}", clip.address));
        let video = source.and_then(|source| self.faults.engine.open(Arc::new(source), 0));
        let took = started.elapsed();
        let mut report = lock(&self.report);
        report.openings += 1;
        report.slowest_opening = report.slowest_opening.max(took);
        match video {
            Ok(video) if video.frame_count() == clip.frame_count => Some(Arc::new(CallerVideo { video, number })),
            Ok(video) => {
                report.wrong.push(format!("{} has {} frames", clip.name, video.frame_count()));
                None
            }
            Err(error) => {
                report.not_opened += 1;
                report.refuse(clip.name, &error);
                None
            }
        }
    }

    /// Releases a video; the last caller adds its counts.
    fn close(&self, opened: Option<Arc<CallerVideo>>) {
        let Some(opened) = opened.and_then(Arc::into_inner) else { return };
        let counted = opened.video.source().counters().now();
        let sent = lock(&self.faults.sent).remove(&opened.number);
        let mut report = lock(&self.report);
        report.attempts += counted.requests;
        report.bytes += counted.bytes;
        report.hedged += counted.hedged;
        report.duplicate_bytes += sent.map_or(0, overlap);
    }
}

impl FaultReport {
    /// An error is correct if it names the server's fault.
    fn refuse(&mut self, what: &str, error: &bucket_streamer::Error) {
        let text = match error.kind() {
            ErrorKind::Remote(refusal) => refusal.to_string(),
            ErrorKind::NeedsUnreadable(why) => format!("(a sample) {}", why.split(" (sample").next().unwrap_or(why)),
            _ => {
                self.wrong.push(format!("{what}: {error}"));
                return;
            }
        };
        *self.refused.entry(text).or_default() += 1;
    }

    /// The number of second requests that both clients together can send without a fault.
    pub fn most_hedged(&self, plan: &FaultPlan) -> u64 {
        (plan.options.hedged_share * self.attempts as f64) as u64 + 2 * SAVED
    }

    /// The number of requests with a faulty reply. A slow first byte is no fault.
    pub fn faulty_replies(&self) -> u64 {
        self.answers
            .iter()
            .filter(|(kind, _)| !matches!(**kind, "good" | "slow first byte"))
            .map(|(_, count)| count)
            .sum()
    }
}
