//! Thousands of requests of all kinds, from several callers, on engines of all sizes: every answer is the sequential
//! decode's, and there is exactly one for each frame.
//!
//! A round is one engine with some videos and their requests; what it is made of follows from the seed and its number.
//! `BUCKET_STREAMER_EXHAUSTIVE=1`: 10,000 requests and more, otherwise as many as take about half a minute. To make
//! rounds again, or to make fewer: `BUCKET_STREAMER_STRESS` with any of `seed=7 first=130 rounds=1 requests=100
//! clips=vp9.webm,hevc.ts patience=3600`.
#![allow(clippy::print_stderr, reason = "tests report what they saw")]

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bucket_streamer::picture::raw;
use bucket_streamer::{Engine, Error, ErrorKind, Frames, Video, VideoFrame, process};
use fastrand::Rng;
use futures_core::Stream;

use testing::clips::{clips, name, open, sequential};

/// What `BUCKET_STREAMER_STRESS` says of something.
fn setting<T: FromStr>(key: &str) -> Option<T> {
    let all = std::env::var("BUCKET_STREAMER_STRESS").unwrap_or_default();
    let value = all.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.parse().unwrap_or_else(|_| panic!("BUCKET_STREAMER_STRESS: {key}={value}")))
}

/// What a sequential decode has for a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Truth {
    /// Its MD5.
    Shown(String),
    NotShown,
    /// Damaged, and not the same each time.
    Any,
}

struct Clip {
    path: PathBuf,
    name: String,
    is_damaged: bool,
    /// Pixels of a picture.
    pixels: usize,
    /// Without damage all numbers of threads give the same: that is under 0.
    truths: Mutex<HashMap<usize, Arc<Vec<Truth>>>>,
}

impl Clip {
    fn of(path: PathBuf) -> Option<Clip> {
        let video = open(&Engine::new(Some(1)), &path)?;
        let count = video.frame_count();
        if count == 0 {
            return None;
        }
        let sequential = sequential(&path)?;
        let (width, height) = video.track().parameters.size();
        let mut shown = sequential.by_number();
        let truth = |frame| shown.remove(&frame).map_or(Truth::NotShown, Truth::Shown);
        let truths: Vec<Truth> = (0..count as u32).map(truth).collect();
        // Only what is damaged, or not meant to be shown, is missing.
        let is_damaged = truths.contains(&Truth::NotShown) && is_damaged(&video);
        let name = name(&path);
        let is_damaged =
            is_damaged || name.contains("damaged") || name.contains("truncated") || name.starts_with("bad_");
        let truths = if is_damaged { HashMap::new() } else { HashMap::from([(0, Arc::new(truths))]) };
        Some(Clip { path, name, is_damaged, pixels: width * height, truths: Mutex::new(truths) })
    }

    /// What an engine with `threads` threads has to answer.
    fn truths(&self, threads: usize) -> Arc<Vec<Truth>> {
        let key = if self.is_damaged { threads } else { 0 };
        if let Some(known) = lock(&self.truths).get(&key) {
            return Arc::clone(known);
        }
        let mut truths: Vec<Truth> = Vec::new();
        for attempt in 0..3 {
            let video = open(&Engine::new(Some(threads)), &self.path).expect("opened before");
            let mut shown: HashMap<u32, String> = testing::clips::play(&video).0.into_iter().collect();
            let now = (0..video.frame_count() as u32).map(|it| shown.remove(&it).map_or(Truth::NotShown, Truth::Shown));
            if attempt == 0 {
                truths = now.collect();
            } else {
                truths.iter_mut().zip(now).filter(|(before, now)| *before != now).for_each(|(it, _)| *it = Truth::Any);
            }
        }
        let unstable = truths.iter().filter(|truth| **truth == Truth::Any).count();
        let missing = truths.iter().filter(|truth| **truth == Truth::NotShown).count();
        eprintln!("{}: damaged; with {threads} threads {unstable} frames vary, {missing} are not shown", self.name);
        Arc::clone(lock(&self.truths).entry(key).or_insert(Arc::new(truths)))
    }
}

fn is_damaged(video: &Video) -> bool {
    let mut is_damaged = false;
    let left_out = video.play(&mut |frame| {
        is_damaged |= frame.picture.is_corrupt();
        ControlFlow::Continue(())
    });
    is_damaged || left_out.is_ok_and(|left_out| left_out.is_damaged())
}

/// Engines' threads are counted, so that only one test may have any.
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

/// Waits for a future; it is polled when it was woken, and only then.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread, AtomicBool);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.1.store(true, Relaxed);
            self.0.unpark();
        }
    }
    let unpark = Arc::new(Unpark(thread::current(), AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&unpark));
    let mut future = pin!(future);
    loop {
        if unpark.1.swap(false, Relaxed)
            && let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker))
        {
            return output;
        }
        thread::park();
    }
}

/// The next of a stream.
struct Next<'a>(&'a mut Frames);

impl Future for Next<'_> {
    type Output = Option<(u32, Result<VideoFrame, Error>)>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut *self.0).poll_next(context)
    }
}

/// Who waits for what, since when: so that a hang is told from a long decode, and says what it hangs on.
#[derive(Default)]
struct Watch {
    waiting: Mutex<BTreeMap<usize, (Instant, String)>>,
    next: AtomicUsize,
}

impl Watch {
    fn start() -> Arc<Watch> {
        let watch = Arc::new(Watch::default());
        let (patience, own) = (Duration::from_secs(setting("patience").unwrap_or(240)), Arc::downgrade(&watch));
        thread::spawn(move || {
            while let Some(watch) = own.upgrade() {
                for (since, what) in lock(&watch.waiting).values() {
                    if since.elapsed() > patience {
                        eprintln!("HANGS: {what}");
                        std::process::abort();
                    }
                }
                drop(watch);
                thread::sleep(Duration::from_secs(1));
            }
        });
        watch
    }

    fn during<T>(&self, what: String, run: impl FnOnce() -> T) -> T {
        let key = self.next.fetch_add(1, Relaxed);
        lock(&self.waiting).insert(key, (Instant::now(), what));
        let result = run();
        lock(&self.waiting).remove(&key);
        result
    }
}

/// What was asked for and what came.
#[derive(Default)]
struct Counts {
    requests: AtomicUsize,
    frames: AtomicUsize,
    errors: AtomicUsize,
    cancelled: AtomicUsize,
    unstable: AtomicUsize,
    kinds: Mutex<BTreeMap<&'static str, usize>>,
    clips: Mutex<BTreeMap<String, usize>>,
    forks: AtomicUsize,
    decoded: AtomicUsize,
}

/// Whom the answers of one video are compared with.
struct Subject<'a> {
    clip: &'a Clip,
    engine: &'a Engine,
    video: &'a Video,
    truths: Arc<Vec<Truth>>,
    counts: &'a Counts,
    /// Seed, round, engine: for messages.
    recipe: &'a str,
}

impl Subject<'_> {
    fn check(&self, asked: u32, index: u32, result: &Result<VideoFrame, Error>, request: &str) {
        let place = || format!("{} {}: {request}", self.recipe, self.clip.name);
        assert_eq!(asked, index, "{}: another frame's answer", place());
        match (result, self.truths.get(index as usize)) {
            (Ok(frame), truth) => {
                self.counts.frames.fetch_add(1, Relaxed);
                assert_eq!(frame.index, index, "{}: number", place());
                let sample = self.video.sample_of(index).expect("it exists");
                assert_eq!((frame.pts, frame.key), (sample.pts, sample.key), "{}: frame {index}", place());
                let md5 = raw::hex(&raw::md5(&frame.picture));
                match truth {
                    Some(Truth::Any) => _ = self.counts.unstable.fetch_add(1, Relaxed),
                    truth => assert_eq!(Some(&Truth::Shown(md5)), truth, "{}: frame {index}", place()),
                }
            }
            (Err(error), None) => {
                self.counts.errors.fetch_add(1, Relaxed);
                assert!(matches!(error.kind(), ErrorKind::NoSuchFrame { .. }), "{}: frame {index}: {error}", place());
            }
            (Err(_), Some(Truth::NotShown | Truth::Any)) => _ = self.counts.errors.fetch_add(1, Relaxed),
            (Err(error), Some(Truth::Shown(_))) => panic!("{}: frame {index}: {error}", place()),
        }
    }

    /// Checks one answer of a batch.
    fn take(&self, left: &mut BTreeSet<u32>, index: u32, result: &Result<VideoFrame, Error>, request: &str) {
        assert!(left.remove(&index), "{} {}: {request}: frame {index} unasked or twice", self.recipe, self.clip.name);
        self.check(index, index, result, request);
    }

    /// Makes one request of a random kind.
    fn request(&self, random: &mut Rng, watch: &Watch) {
        let most = if self.clip.pixels > 500_000 { 12 } else { 48 };
        let wanted = pattern(random, self.video, most);
        let kind = random.choice(KINDS).expect("some");
        let text = format!("{kind:?} {wanted:?}");
        watch.during(format!("{} {}: {text}", self.recipe, self.clip.name), || {
            self.make(kind, &wanted, random, &text);
        });
        let (held, budget) = (self.engine.checkpoints(), self.engine.checkpoint_memory());
        assert!(held.bytes <= budget, "{} {}: {text}: {held:?} of {budget}", self.recipe, self.clip.name);
        self.counts.requests.fetch_add(1, Relaxed);
        *lock(&self.counts.kinds).entry(kind.name()).or_default() += 1;
        *lock(&self.counts.clips).entry(self.clip.name.clone()).or_default() += 1;
    }

    fn make(&self, kind: Kind, wanted: &[u32], random: &mut Rng, text: &str) {
        let video = self.video;
        let mut left: BTreeSet<u32> = wanted.iter().copied().collect();
        let none_left = |left: &BTreeSet<u32>| {
            assert!(left.is_empty(), "{} {}: {text}: no answer for {left:?}", self.recipe, self.clip.name);
        };
        match kind {
            Kind::Single => self.check(wanted[0], wanted[0], &video.frame(wanted[0]), text),
            Kind::Singly => {
                for &index in wanted.iter().take(8) {
                    self.check(index, index, &video.frame(index), text);
                }
            }
            Kind::Batch | Kind::Slowly => {
                let mut frames = video.frames(wanted);
                for (index, result) in frames.by_ref() {
                    self.take(&mut left, index, &result, text);
                    if matches!(kind, Kind::Slowly) && random.u8(0..4) == 0 {
                        thread::sleep(Duration::from_millis(random.u64(0..6)));
                    }
                }
                none_left(&left);
                assert!(frames.next().is_none(), "{} {}: {text}: an end is an end", self.recipe, self.clip.name);
            }
            Kind::InOrder => {
                let mut answers = video.frames_in_order(wanted.to_vec());
                for &index in wanted {
                    let result = answers.next().unwrap_or_else(|| panic!("{}: {text}: {index}", self.recipe));
                    let found = result.as_ref().map_or(index, |frame| frame.index);
                    self.check(index, found, &result, text);
                }
                assert!(answers.next().is_none(), "{} {}: {text}: an end is an end", self.recipe, self.clip.name);
            }
            Kind::Cancelled => {
                let read = random.usize(0..=wanted.len().min(12));
                for (index, result) in video.frames(wanted).take(read) {
                    self.take(&mut left, index, &result, text);
                }
                self.counts.cancelled.fetch_add(1, Relaxed);
            }
            Kind::InOrderCancelled => {
                let read = random.usize(0..=wanted.len());
                for (&index, result) in wanted.iter().zip(video.frames_in_order(wanted.to_vec())).take(read) {
                    self.check(index, index, &result, text);
                }
                self.counts.cancelled.fetch_add(1, Relaxed);
            }
            Kind::Async => {
                let index = wanted[0];
                self.check(index, index, &block_on(video.frame_async(index)), text);
            }
            Kind::ManyAsync => {
                let mut futures: Vec<_> =
                    wanted.iter().take(10).map(|&index| (index, video.frame_async(index))).collect();
                random.shuffle(&mut futures);
                for (index, mut future) in futures {
                    match random.u8(0..6) {
                        0 => drop(future),
                        // Dropped after it has left its waker.
                        1 => {
                            if let Poll::Ready(result) =
                                Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop()))
                            {
                                self.check(index, index, &result, text);
                            }
                        }
                        _ => self.check(index, index, &block_on(future), text),
                    }
                }
            }
            Kind::Streamed => {
                let mut frames = video.frames(wanted);
                while let Some((index, result)) = block_on(Next(&mut frames)) {
                    self.take(&mut left, index, &result, text);
                }
                none_left(&left);
            }
            Kind::Overlapping => {
                // Two batches of the same frames, read in turns.
                let mut both: VecDeque<_> = [(video.frames(wanted), left.clone()), (video.frames(wanted), left)].into();
                while let Some((mut frames, mut left)) = both.pop_front() {
                    match frames.next() {
                        Some((index, result)) => {
                            self.take(&mut left, index, &result, text);
                            both.push_back((frames, left));
                        }
                        None => none_left(&left),
                    }
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Single,
    Singly,
    Batch,
    Slowly,
    InOrder,
    Cancelled,
    InOrderCancelled,
    Async,
    ManyAsync,
    Streamed,
    Overlapping,
}

const KINDS: [Kind; 14] = [
    Kind::Single,
    Kind::Single,
    Kind::Single,
    Kind::Singly,
    Kind::Batch,
    Kind::Batch,
    Kind::Slowly,
    Kind::InOrder,
    Kind::Cancelled,
    Kind::InOrderCancelled,
    Kind::Async,
    Kind::ManyAsync,
    Kind::Streamed,
    Kind::Overlapping,
];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Single => "single",
            Kind::Singly => "one after the other",
            Kind::Batch => "batch",
            Kind::Slowly => "batch, read slowly",
            Kind::InOrder => "in order",
            Kind::Cancelled => "batch, dropped",
            Kind::InOrderCancelled => "in order, dropped",
            Kind::Async => "async",
            Kind::ManyAsync => "many async",
            Kind::Streamed => "stream",
            Kind::Overlapping => "two batches",
        }
    }
}

/// Frame numbers to ask for, at least one and at most `most`.
fn pattern(random: &mut Rng, video: &Video, most: usize) -> Vec<u32> {
    let frames = video.frame_count() as u32;
    let few = 1 + random.usize(0..most.min(10));
    let many = 1 + random.usize(0..most);
    let near = |random: &mut Rng, middle: u32, reach: u32| {
        random.u32(middle.saturating_sub(reach)..=middle.saturating_add(reach).min(frames - 1))
    };
    let mut wanted: Vec<u32> = match random.u8(0..9) {
        0 | 1 => (0..few).map(|_| random.u32(0..frames)).collect(),
        2 => (0..many).map(|_| random.u32(0..frames)).collect(),
        // A run, forwards or backwards.
        3 => (random.u32(0..frames)..frames).take(many).collect(),
        4 => (0..=random.u32(0..frames)).rev().take(many).collect(),
        // One neighbourhood.
        5 => {
            let middle = random.u32(0..frames);
            (0..few).map(|_| near(random, middle, 6)).collect()
        }
        // Around a key frame: what is presented before it, and after.
        6 | 7 => {
            let keys = video.key_indices();
            let key = random.choice(&keys).copied().unwrap_or(0);
            (0..few).map(|_| near(random, key, 8)).collect()
        }
        // Every so many.
        _ => {
            let step = random.usize(2..17);
            (random.u32(0..frames)..frames).step_by(step).take(many).collect()
        }
    };
    if random.u8(0..4) == 0 {
        let again = wanted[random.usize(0..wanted.len())];
        wanted.push(again);
        random.shuffle(&mut wanted);
    }
    if random.u8(0..25) == 0 {
        wanted.insert(random.usize(0..=wanted.len()), frames + random.u32(0..3));
    }
    wanted
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
enum Callers {
    One,
    /// Four, all on the first video.
    FourOnOne,
    /// Four, each on the next video.
    FourOnAll,
}

/// One engine, its videos, and their requests.
fn round(number: u64, seed: u64, clips: &[&Clip], requests: usize, counts: &Counts, watch: &Watch) {
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
    let engine = engine.pin_threads(random.bool()).build();
    // The first round reads files, all others map them.
    if number > 0 {
        process::map_files().expect("a signal handler");
    }
    let names: Vec<&str> = clips.iter().map(|clip| &clip.name[..]).collect();
    let recipe = format!(
        "[seed={seed} first={number} rounds=1: {threads} threads, {} MiB, every {spacing}, {callers:?}, {names:?}]",
        memory >> 20
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
    // What was cancelled must not keep anything alive: the workers end when the last that knows the engine has gone.
    watch.during(format!("{recipe}: workers that do not end"), || {
        while workers() > 0 {
            thread::sleep(Duration::from_millis(1));
        }
    });
}

/// Threads of engines that run.
fn workers() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let is_worker = |name: &String| name.starts_with("decode-");
    threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok()).filter(is_worker).count()
}

#[test]
fn any_requests_from_anyone_get_the_sequential_decode() {
    let _alone = lock(&ALONE);
    let begun = Instant::now();
    let clips = stress_clips();
    eprintln!("{} clips, {:.0?} to decode them", clips.len(), begun.elapsed());
    let seed: u64 = setting("seed").unwrap_or(11);
    let first: u64 = setting("first").unwrap_or(0);
    let rounds: u64 = setting("rounds").unwrap_or(u64::MAX);
    let enough = setting("requests").unwrap_or(if exhaustive() { 12_000 } else { 1_000_000 });
    let until = Instant::now() + Duration::from_secs(if exhaustive() { 100_000 } else { 25 });
    let (counts, watch) = (Counts::default(), Watch::start());
    for number in first..first.saturating_add(rounds) {
        // Each clip in its turn, so that none is left out, with up to two others.
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

/// A batch on an engine that has decoded nothing decodes no picture outside of the union of the closures, and none twice.
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
            // What is not shown is looked for the long way.
            wanted.retain(|&index| matches!(truths.get(index as usize), Some(Truth::Shown(_))));
            let planned: u64 = video.plan(&wanted).iter().map(|(samples, _)| samples.len() as u64).sum();
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
