//! Makes requests of every kind, and compares their answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use bucket_streamer::still::raw;
use bucket_streamer::{Engine, Error, ErrorKind, Video, VideoFrame};
use fastrand::Rng;

use crate::clip::{Clip, Truth};
use crate::lock;
use crate::waiting::{HangWatch, Next, block_on};

/// Counts of requests and answers.
#[derive(Default)]
pub(crate) struct RequestCounts {
    pub(crate) requests: AtomicUsize,
    pub(crate) frames: AtomicUsize,
    pub(crate) errors: AtomicUsize,
    pub(crate) cancelled: AtomicUsize,
    pub(crate) unstable: AtomicUsize,
    pub(crate) kinds: Mutex<BTreeMap<&'static str, usize>>,
    pub(crate) clips: Mutex<BTreeMap<String, usize>>,
    pub(crate) forks: AtomicUsize,
    pub(crate) decoded: AtomicUsize,
}

/// A video with the expected results of its answers.
pub(crate) struct Subject<'a> {
    pub(crate) clip: &'a Clip,
    pub(crate) engine: &'a Engine,
    pub(crate) video: &'a Video,
    pub(crate) truths: Arc<Vec<Truth>>,
    pub(crate) counts: &'a RequestCounts,
    /// Seed, round, engine: for messages.
    pub(crate) recipe: &'a str,
}

impl Subject<'_> {
    fn check(&self, expected: u32, index: u32, result: &Result<VideoFrame, Error>, request: &str) {
        let place = || format!("{} {}: {request}", self.recipe, self.clip.name);
        assert_eq!(expected, index, "{}: another frame's answer", place());
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
    pub(crate) fn request(&self, random: &mut Rng, watch: &HangWatch) {
        let most = if self.clip.pixels > 500_000 { 12 } else { 48 };
        let frames = pattern(random, self.video, most);
        let kind = random.choice(KINDS).expect("some");
        let text = format!("{kind:?} {frames:?}");
        watch.during(format!("{} {}: {text}", self.recipe, self.clip.name), || {
            self.make(kind, &frames, random, &text);
        });
        let (held, budget) = (self.engine.checkpoints(), self.engine.checkpoint_memory());
        assert!(held.bytes <= budget, "{} {}: {text}: {held:?} of {budget}", self.recipe, self.clip.name);
        self.counts.requests.fetch_add(1, Relaxed);
        *lock(&self.counts.kinds).entry(kind.name()).or_default() += 1;
        *lock(&self.counts.clips).entry(self.clip.name.clone()).or_default() += 1;
    }

    fn make(&self, kind: RequestKind, wanted: &[u32], random: &mut Rng, text: &str) {
        let first = wanted[0];
        match kind {
            RequestKind::Single => self.check(first, first, &self.video.frame(first), text),
            RequestKind::Singly => {
                for &index in wanted.iter().take(8) {
                    self.check(index, index, &self.video.frame(index), text);
                }
            }
            RequestKind::Batch => self.batch(wanted, text, || {}),
            RequestKind::Slowly => self.batch(wanted, text, || {
                if random.u8(0..4) == 0 {
                    thread::sleep(Duration::from_millis(random.u64(0..6)));
                }
            }),
            RequestKind::InOrder => self.in_order(wanted, text),
            RequestKind::Cancelled => {
                let read = random.usize(0..=wanted.len().min(12));
                let mut left: BTreeSet<u32> = wanted.iter().copied().collect();
                for (index, result) in self.video.frames(wanted).take(read) {
                    self.take(&mut left, index, &result, text);
                }
                self.counts.cancelled.fetch_add(1, Relaxed);
            }
            RequestKind::InOrderCancelled => {
                let read = random.usize(0..=wanted.len());
                for (&index, result) in wanted.iter().zip(self.video.frames_in_order(wanted.to_vec())).take(read) {
                    self.check(index, index, &result, text);
                }
                self.counts.cancelled.fetch_add(1, Relaxed);
            }
            RequestKind::Async => self.check(first, first, &block_on(self.video.frame_async(first)), text),
            RequestKind::ManyAsync => self.many_async(wanted, random, text),
            RequestKind::Streamed => self.streamed(wanted, text),
            RequestKind::Overlapping => self.overlapping(wanted, text),
        }
    }

    /// A batch, with a pause after each answer.
    fn batch(&self, wanted: &[u32], text: &str, mut pause: impl FnMut()) {
        let mut left: BTreeSet<u32> = wanted.iter().copied().collect();
        let mut frames = self.video.frames(wanted);
        for (index, result) in frames.by_ref() {
            self.take(&mut left, index, &result, text);
            pause();
        }
        self.none_left(&left, text);
        assert!(frames.next().is_none(), "{} {}: {text}: a result after the end", self.recipe, self.clip.name);
    }

    fn in_order(&self, wanted: &[u32], text: &str) {
        let mut answers = self.video.frames_in_order(wanted.to_vec());
        for &index in wanted {
            let result = answers.next().unwrap_or_else(|| panic!("{}: {text}: {index}", self.recipe));
            let found = result.as_ref().map_or(index, |frame| frame.index);
            self.check(index, found, &result, text);
        }
        assert!(answers.next().is_none(), "{} {}: {text}: a result after the end", self.recipe, self.clip.name);
    }

    fn many_async(&self, wanted: &[u32], random: &mut Rng, text: &str) {
        let mut futures: Vec<_> = wanted.iter().take(10).map(|&index| (index, self.video.frame_async(index))).collect();
        random.shuffle(&mut futures);
        for (index, mut future) in futures {
            match random.u8(0..6) {
                0 => drop(future),
                // Dropped after it has registered its waker.
                1 => {
                    if let Poll::Ready(result) = Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())) {
                        self.check(index, index, &result, text);
                    }
                }
                _ => self.check(index, index, &block_on(future), text),
            }
        }
    }

    fn streamed(&self, wanted: &[u32], text: &str) {
        let mut left: BTreeSet<u32> = wanted.iter().copied().collect();
        let mut frames = self.video.frames(wanted);
        while let Some((index, result)) = block_on(Next(&mut frames)) {
            self.take(&mut left, index, &result, text);
        }
        self.none_left(&left, text);
    }

    /// Two batches of the same frames, read alternately.
    fn overlapping(&self, wanted: &[u32], text: &str) {
        let left: BTreeSet<u32> = wanted.iter().copied().collect();
        let mut both: VecDeque<_> =
            [(self.video.frames(wanted), left.clone()), (self.video.frames(wanted), left)].into();
        while let Some((mut frames, mut left)) = both.pop_front() {
            match frames.next() {
                Some((index, result)) => {
                    self.take(&mut left, index, &result, text);
                    both.push_back((frames, left));
                }
                None => self.none_left(&left, text),
            }
        }
    }

    fn none_left(&self, left: &BTreeSet<u32>, text: &str) {
        assert!(left.is_empty(), "{} {}: {text}: no answer for {left:?}", self.recipe, self.clip.name);
    }
}

#[derive(Debug, Clone, Copy)]
enum RequestKind {
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

const KINDS: [RequestKind; 14] = [
    RequestKind::Single,
    RequestKind::Single,
    RequestKind::Single,
    RequestKind::Singly,
    RequestKind::Batch,
    RequestKind::Batch,
    RequestKind::Slowly,
    RequestKind::InOrder,
    RequestKind::Cancelled,
    RequestKind::InOrderCancelled,
    RequestKind::Async,
    RequestKind::ManyAsync,
    RequestKind::Streamed,
    RequestKind::Overlapping,
];

impl RequestKind {
    fn name(self) -> &'static str {
        match self {
            RequestKind::Single => "single",
            RequestKind::Singly => "one after the other",
            RequestKind::Batch => "batch",
            RequestKind::Slowly => "batch, read slowly",
            RequestKind::InOrder => "in order",
            RequestKind::Cancelled => "batch, dropped",
            RequestKind::InOrderCancelled => "in order, dropped",
            RequestKind::Async => "async",
            RequestKind::ManyAsync => "many async",
            RequestKind::Streamed => "stream",
            RequestKind::Overlapping => "two batches",
        }
    }
}

/// Frame numbers to request, at least one and at most `most`.
pub(crate) fn pattern(random: &mut Rng, video: &Video, most: usize) -> Vec<u32> {
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
        // Frames near each other.
        5 => {
            let middle = random.u32(0..frames);
            (0..few).map(|_| near(random, middle, 6)).collect()
        }
        // Around a key frame: frames presented before it, and after.
        6 | 7 => {
            let keys = video.key_indices();
            let key = random.choice(&keys).copied().unwrap_or(0);
            (0..few).map(|_| near(random, key, 8)).collect()
        }
        // Frames at equal distances.
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
