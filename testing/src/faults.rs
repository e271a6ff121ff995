//! Frames over HTTP under random faults: counts correct and refused frames, times, and what is left behind.
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

use crate::range_server::{Answer, Asked, Server, Traffic};

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

/// One in this many requests opens its video anew, since bytes in memory need no requests.
const REOPEN: u32 = 10;

/// The amount and the kinds of faults.
#[derive(Debug, Clone)]
pub struct Plan {
    pub requests: u64,
    pub callers: u64,
    pub seed: u64,
    /// Of a hundred requests to the server, this many meet each fault.
    pub percent: u32,
    pub options: HttpOptions,
}

impl Plan {
    /// 5% of each of five faults, with short time limits.
    pub fn new(requests: u64, seed: u64) -> Plan {
        let options = HttpOptions {
            block: 4096,
            gap: 1024,
            first_byte_timeout: Duration::from_millis(700),
            stall_timeout: Duration::from_millis(500),
            deadline: Duration::from_secs(6),
            attempts: 4,
            ..HttpOptions::default()
        };
        Plan { requests, callers: 8, seed, percent: 5, options }
    }
}

/// The results.
#[derive(Debug, Default)]
pub struct Report {
    pub right: u64,
    /// Errors by their text, without coordinates.
    pub refused: BTreeMap<String, u64>,
    /// Openings among them.
    pub not_opened: u64,
    /// Violations: another picture, another number of frames, an error without an explanation.
    pub wrong: Vec<String>,
    /// The slowest frame and the slowest opening.
    pub slowest: Duration,
    pub slowest_opening: Duration,
    /// Frames that took longer than the limit of one read.
    pub long: u64,
    /// Counts of the sources.
    pub attempts: u64,
    pub bytes: u64,
    /// Attempts that were second requests.
    pub hedged: u64,
    pub openings: u64,
    /// Answers of the server, by kind.
    pub answers: BTreeMap<&'static str, u64>,
    /// Bytes that arrived although the same source had them, for sources with room for everything.
    pub twice: u64,
    pub traffic: Traffic,
    pub took: Duration,
}

/// Resources of the process.
#[derive(Debug, Clone, Copy)]
pub struct Resources {
    pub resident_kib: u64,
    pub descriptors: usize,
    pub threads: usize,
}

impl Resources {
    /// As of now.
    pub fn now() -> Resources {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
        let entries = |folder: &str| std::fs::read_dir(folder).map_or(0, Iterator::count);
        Resources {
            resident_kib: 4 * pages,
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
        }
    }
}

/// A clip on the server, and its frames.
struct Clip {
    name: &'static str,
    address: String,
    frame_count: usize,
    frames: HashMap<u32, [u8; 16]>,
}

/// Ranges sent to each source with room for everything, by the number in its address.
type Sent = Mutex<HashMap<u64, Vec<(u64, u64)>>>;

/// A video that callers share until one of them opens it anew.
struct Opened {
    video: Video,
    number: u64,
}

/// State shared by runs: a server with clips, and an engine.
pub struct Faults {
    server: Server,
    engine: Engine,
    clips: Vec<Clip>,
    sent: Arc<Sent>,
    openings: AtomicU64,
}

/// A run in progress.
struct Run<'a> {
    faults: &'a Faults,
    plan: &'a Plan,
    /// One keeps everything, the other next to nothing.
    clients: [HttpClient; 2],
    slots: Vec<Mutex<Option<Arc<Opened>>>>,
    report: Mutex<Report>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Faults {
    /// Decodes all clips once, for comparison with HTTP.
    pub fn new() -> Result<Faults> {
        let server = Server::start();
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
            clips.push(Clip { name, address, frame_count: video.frame_count(), frames });
        }
        Ok(Faults { server, engine, clips, sent: Arc::default(), openings: AtomicU64::new(0) })
    }

    /// Requests frames, and closes all videos again.
    pub fn run(&self, plan: &Plan) -> Result<Report> {
        let answers = Arc::new(Mutex::new(BTreeMap::new()));
        self.misbehave(plan, Arc::clone(&answers));
        let begun = Instant::now();
        let roomy = HttpClient::new(plan.options.clone())?;
        let tight = HttpClient::new(HttpOptions { cache: 100_000, ..plan.options.clone() })?;
        let slots = (0..2 * self.clips.len()).map(|_| Mutex::default()).collect();
        let run = Run { faults: self, plan, clients: [roomy, tight], slots, report: Mutex::default() };
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
        report.took = begun.elapsed();
        Ok(report)
    }

    /// Makes the server inject each fault into its share of requests, and records what it sends.
    fn misbehave(&self, plan: &Plan, answers: Arc<Mutex<BTreeMap<&'static str, u64>>>) {
        let (percent, options) = (plan.percent, plan.options.clone());
        let lengths: HashMap<String, u64> = self.clips.iter().map(|clip| (clip.path(), clip.len())).collect();
        let sent = Arc::clone(&self.sent);
        let mut random = fastrand::Rng::with_seed(plan.seed);
        self.server.behave(move |asked| {
            let (kind, answer) = pick(&mut random, percent, &options);
            *lock(&answers).entry(kind).or_default() += 1;
            if kind != TOO_SLOW {
                note(&sent, asked, &answer, &lengths);
            }
            answer
        });
    }

    /// Waits until the server is idle, and returns the resources of the process.
    pub fn settled(&self) -> Resources {
        let mut last = None;
        for _ in 0..50 {
            std::thread::sleep(Duration::from_millis(200));
            self.server.asked();
            let now = (self.server.traffic().open, Resources::now().threads);
            if last == Some(now) {
                break;
            }
            last = Some(now);
        }
        Resources::now()
    }
}

impl Clip {
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

/// The answer to a request: mostly the correct one.
fn pick(random: &mut fastrand::Rng, percent: u32, options: &HttpOptions) -> (&'static str, Answer) {
    let some = random.u64(0..5000);
    match random.u32(0..100) / percent.max(1) {
        0 if some.is_multiple_of(2) => ("reset", Answer::Reset),
        0 => ("reset in the body", Answer::ResetAfter(some)),
        1 => ("stall", Answer::Stall(some)),
        2 => ("cut", Answer::Cut(some)),
        3 => ("503", Answer::Status(503, "")),
        // One in four is too late.
        4 if some.is_multiple_of(4) => (TOO_SLOW, Answer::Late(2 * options.first_byte_timeout)),
        4 => ("slow first byte", Answer::Late(options.first_byte_timeout / 4)),
        _ => ("good", Answer::Good),
    }
}

/// Records what of an answer arrives, if the source keeps everything. After a reset that is not certain.
fn note(sent: &Sent, asked: &Asked, answer: &Answer, lengths: &HashMap<String, u64>) {
    let Some((path, number)) = asked.path.split_once("?opening=") else { return };
    let (Some((start, end)), Some(&len)) = (asked.range, lengths.get(path)) else { return };
    let most = match answer {
        Answer::Good | Answer::Late(_) => u64::MAX,
        Answer::Cut(kept) | Answer::Stall(kept) => *kept,
        _ => return,
    };
    let number = number.parse().unwrap_or(0);
    if let Some(ranges) = lock(sent).get_mut(&number) {
        ranges.push((start, end.min(len).min(start.saturating_add(most))));
    }
}

/// Bytes in more than one range.
fn twice(mut ranges: Vec<(u64, u64)>) -> u64 {
    ranges.sort_unstable();
    let (mut twice, mut end) = (0, 0);
    for (start, stop) in ranges {
        twice += end.min(stop).saturating_sub(start);
        end = end.max(stop);
    }
    twice
}

impl Run<'_> {
    /// One caller's share of the requests.
    fn call(&self, caller: u64) {
        let mut random = fastrand::Rng::with_seed(self.plan.seed ^ (caller << 32));
        for request in 0..self.plan.requests / self.plan.callers {
            self.frame(&mut random);
            // The log would grow without bound.
            if request % 64 == 0 {
                self.faults.server.asked();
            }
        }
    }

    fn frame(&self, random: &mut fastrand::Rng) {
        let slot = random.usize(..self.slots.len());
        let clip = &self.faults.clips[slot / 2];
        let Some(opened) = self.opened(slot, random.u32(..REOPEN) == 0) else { return };
        let frame = random.u32(..clip.frame_count as u32);
        let begun = Instant::now();
        let result = opened.video.frame(frame).map(|frame| raw::md5(&frame.picture));
        let took = begun.elapsed();
        self.close(Some(opened));
        let mut report = lock(&self.report);
        report.slowest = report.slowest.max(took);
        report.long += u64::from(took > self.plan.options.deadline);
        let what = format!("{} frame {frame}", clip.name);
        match (result, clip.frames.get(&frame)) {
            (Ok(md5), Some(expected)) if md5 == *expected => report.right += 1,
            (Err(error), None) if matches!(error.kind(), ErrorKind::NotShown) => report.right += 1,
            (Ok(_), _) => report.wrong.push(format!("{what} is another picture")),
            (Err(error), _) => report.refuse(&what, &error),
        }
    }

    /// The video of a slot, opened if necessary.
    fn opened(&self, slot: usize, anew: bool) -> Option<Arc<Opened>> {
        let mut held = lock(&self.slots[slot]);
        if anew {
            let old = held.take();
            self.close(old);
        }
        if let Some(opened) = &*held {
            return Some(Arc::clone(opened));
        }
        let opened = self.open(slot);
        *held = opened.clone();
        opened
    }

    fn open(&self, slot: usize) -> Option<Arc<Opened>> {
        let clip = &self.faults.clips[slot / 2];
        let number = self.faults.openings.fetch_add(1, Relaxed);
        if slot.is_multiple_of(2) {
            lock(&self.faults.sent).insert(number, Vec::new());
        }
        let begun = Instant::now();
        let source = self.clients[slot % 2].open(&format!("{}?opening={number}", clip.address));
        let video = source.and_then(|source| self.faults.engine.open(Arc::new(source), 0));
        let took = begun.elapsed();
        let mut report = lock(&self.report);
        report.openings += 1;
        report.slowest_opening = report.slowest_opening.max(took);
        match video {
            Ok(video) if video.frame_count() == clip.frame_count => Some(Arc::new(Opened { video, number })),
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
    fn close(&self, opened: Option<Arc<Opened>>) {
        let Some(opened) = opened.and_then(Arc::into_inner) else { return };
        let counted = opened.video.source().counters().now();
        let sent = lock(&self.faults.sent).remove(&opened.number);
        let mut report = lock(&self.report);
        report.attempts += counted.requests;
        report.bytes += counted.bytes;
        report.hedged += counted.hedged;
        report.twice += sent.map_or(0, twice);
    }
}

impl Report {
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

    /// Second requests that both clients may make.
    pub fn most_hedged(&self, plan: &Plan) -> u64 {
        (plan.options.hedged_share * self.attempts as f64) as u64 + 2 * SAVED
    }

    /// Requests with a faulty answer.
    pub fn spoiled(&self) -> u64 {
        self.answers
            .iter()
            .filter(|(kind, _)| !matches!(**kind, "good" | "slow first byte"))
            .map(|(_, count)| count)
            .sum()
    }
}
