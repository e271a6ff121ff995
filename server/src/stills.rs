//! Stills for requests: from the cache, from a request for the same still in progress (single-flight), or made by the
//! engine under a permit.

use std::collections::HashSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use quick_cache::{OptionsBuilder, Weighter, sync::Cache};

use super::admission::{Admission, Charged, Client, Permit};
use super::flights::{Flights, Turn};
use super::metrics::{Metrics, Timing};
use super::problem::Problem;
use super::videos::Opened;
use bucket_streamer::Account;
use bucket_streamer::OnDamage;
use bucket_streamer::VideoFrame;
use bucket_streamer::error::{Error, ErrorKind, Result};
use bucket_streamer::pixels::{Fit, Shape};
use bucket_streamer::still::{StillFormat, StillMaker, StillOptions};

/// From this many GOPs a thread on, the thread that decodes a frame also encodes its still.
const GOPS_A_THREAD: usize = 2;
/// Most idle makers that are kept.
const MAKERS: usize = 32;
/// Bytes or pixels of a still above which its maker is not kept: a 4K still is below.
const LARGE: usize = 10 << 20;
/// Bytes of a cached still besides its data.
const OVERHEAD: u64 = 256;
/// Expected number of stills in the cache.
const EXPECTED: usize = 4096;
/// Least bytes of a shard of the cache: a still larger than its shard is not kept.
const PART: u64 = 64 << 20;

/// The version of stills in ETags: it changes when the same request gives other bytes than before.
const STILLS: &str = "1";

/// The form of a still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Spec {
    pub(super) format: StillFormat,
    pub(super) quality: u8,
    pub(super) shape: Shape,
}

impl Spec {
    /// The part of an ETag that distinguishes stills of one frame.
    pub(super) fn tag(&self) -> String {
        let side = |side: Option<u32>| side.map_or("-".to_owned(), |side| side.to_string());
        let fit = match self.shape.fit {
            Fit::Contain => 'i',
            Fit::Cover => 'o',
            Fit::Fill => 'f',
        };
        let (format, quality) = (self.format.extension(), self.quality);
        format!("{STILLS}-{}x{}{fit}{quality}{format}", side(self.shape.width), side(self.shape.height))
    }

    /// The approximate number of pixels of a video's still.
    pub(super) fn pixels(&self, video: &Opened) -> u64 {
        let (width, height) = video.video.track().parameters.size();
        let (width, height) = (width.max(16) as u64, height.max(16) as u64);
        match (self.shape.width, self.shape.height) {
            (Some(own), Some(other)) => u64::from(own) * u64::from(other),
            (Some(own), None) => u64::from(own) * u64::from(own) * height / width,
            (None, Some(own)) => u64::from(own) * u64::from(own) * width / height,
            (None, None) => width * height,
        }
    }

    /// The estimated time of a worker for the stills of these frames, in seconds.
    pub(super) fn cost_s(&self, video: &Opened, frames: &[u32]) -> f64 {
        let encoding_ns = self.pixels(video).saturating_mul(self.format.encoding_ns_per_pixel());
        video.video.cost_s(frames) + frames.len() as f64 * encoding_ns as f64 / 1e9
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    video: u128,
    frame: u32,
    spec: Spec,
}

/// A still, and the frame that it shows.
#[derive(Debug)]
pub(super) struct Still {
    pub(super) bytes: Bytes,
    pub(super) frame: u32,
    pub(super) pts: i64,
    pub(super) time_s: f64,
    pub(super) key: bool,
    pub(super) corrupt: bool,
    pub(super) size: (usize, usize),
}

impl Still {
    /// The problem of a request that refuses damaged pictures, if this is one. Cached stills serve requests of both
    /// kinds.
    pub(super) fn refusal(&self, on_damage: OnDamage, video: &Opened) -> Option<Problem> {
        let is_refused = self.corrupt && on_damage == OnDamage::Error;
        is_refused.then(|| refused(self.frame, video))
    }
}

/// The problem of a request that refuses the damaged picture of this frame.
pub(super) fn refused(frame: u32, video: &Opened) -> Problem {
    let track = video.video.track();
    let sample = track.frames.get(frame as usize).copied();
    let offset = sample.and_then(|sample| track.samples.get(sample as usize)).map(|sample| sample.offset);
    let error = Error::from(ErrorKind::Corrupt).at_frame(frame);
    Problem::of(&sample.into_iter().fold(error, |error, sample| error.at_sample(sample, offset)))
}

/// The origin of a still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Kept,
    /// From a request in progress.
    Joined,
    Made,
}

impl Found {
    pub(super) fn name(self) -> &'static str {
        match self {
            Found::Kept => "hit",
            Found::Joined => "joined",
            Found::Made => "miss",
        }
    }
}

/// A still, the stages of its time, and its origin.
pub(super) type Answer = std::result::Result<(Arc<Still>, Timing, Found), Problem>;

type Made = std::result::Result<(Arc<Still>, Timing), Problem>;

#[derive(Debug, Clone)]
struct Bytewise;

impl Weighter<Key, Arc<Still>> for Bytewise {
    fn weight(&self, _: &Key, still: &Arc<Still>) -> u64 {
        still.bytes.len() as u64 + OVERHEAD
    }
}

/// Makes stills, and caches them within a budget of bytes.
#[derive(Clone)]
pub(super) struct Stills {
    shared: Arc<Shared>,
}

struct Shared {
    cache: Option<Cache<Key, Arc<Still>, Bytewise>>,
    flights: Flights<Key, Made>,
    near: Arc<Admission>,
    far: Arc<Admission>,
    makers: Makers,
    metrics: Arc<Metrics>,
    threads: usize,
    deadline: Duration,
}

/// Idle makers: their buffers are large and worth keeping.
#[derive(Clone, Default)]
pub(super) struct Makers(Arc<Mutex<Vec<Tools>>>);

/// A maker, and its output buffer.
type Tools = (StillMaker, Vec<u8>);

impl Makers {
    /// Makes the still of a frame. Returns the duration, too.
    fn make(&self, frame: &VideoFrame, options: &StillOptions, time_s: f64) -> Result<(Still, Duration)> {
        let since = Instant::now();
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (mut maker, mut buffer) = match kept {
            Some(kept) => kept,
            None => (StillMaker::new()?, Vec::new()),
        };
        let made = maker.encode(&frame.picture, options, &mut buffer).map(|size| Still {
            bytes: Bytes::copy_from_slice(&buffer),
            frame: frame.index,
            pts: frame.pts,
            time_s,
            key: frame.key,
            corrupt: frame.is_corrupt(),
            size,
        });
        // A maker of a huge still would keep as much memory for nothing.
        if buffer.len() <= LARGE && made.as_ref().is_ok_and(|still| still.size.0 * still.size.1 <= LARGE) {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < MAKERS {
                kept.push((maker, buffer));
            }
        }
        made.map(|still| (still, since.elapsed())).map_err(|error| error.at_frame(frame.index))
    }
}

/// Makes stills of arriving frames.
type Making = Arc<dyn Fn(&VideoFrame) -> Result<(Still, Duration)> + Send + Sync>;

impl Stills {
    /// Caches `budget` bytes of stills. Up to `running` requests use the engine at one time, and `waiting` more may
    /// wait.
    pub(super) fn new(
        budget: u64,
        (running, waiting): (usize, usize),
        (threads, deadline): (usize, Duration),
        metrics: &Arc<Metrics>,
    ) -> Stills {
        let shards = usize::try_from(budget / PART).unwrap_or(1).clamp(1, 8);
        let options = OptionsBuilder::new()
            .weight_capacity(budget)
            .estimated_items_capacity(EXPECTED)
            .shards(1 << shards.ilog2())
            .build();
        let cache = options
            .ok()
            .filter(|_| budget > 0)
            .map(|options| Cache::with_options(options, Bytewise, Default::default(), Default::default()));
        let shared = Shared {
            cache,
            flights: Flights::default(),
            near: Admission::new(running, waiting, Charged::Work { workers: threads }),
            far: Admission::new(4 * running, waiting, Charged::Work { workers: threads }),
            makers: Makers::default(),
            metrics: Arc::clone(metrics),
            threads,
            deadline,
        };
        Stills { shared: Arc::new(shared) }
    }

    /// The admission for a video.
    pub(super) fn admission(&self, video: &Opened) -> &Arc<Admission> {
        if video.video.source().is_remote() { &self.shared.far } else { &self.shared.near }
    }

    /// The number of the engine's threads.
    pub(super) fn threads(&self) -> usize {
        self.shared.threads
    }

    /// The admissions for local videos, and for those behind a network.
    pub(super) fn admissions(&self) -> [(&'static str, &Arc<Admission>); 2] {
        [("local", &self.shared.near), ("remote", &self.shared.far)]
    }

    /// The number of fruitless requests in a row, if it reaches the limit of running requests.
    pub(super) fn fruitless(&self) -> Option<usize> {
        self.shared.near.fruitless()
    }

    /// Bytes and number of the cached stills.
    pub(super) fn held(&self) -> (u64, usize) {
        self.shared.cache.as_ref().map_or((0, 0), |cache| (cache.weight(), cache.len()))
    }

    /// Whether the still is in the cache.
    pub(super) fn has(&self, video: &Opened, frame: u32, spec: Spec) -> bool {
        let key = Key { video: video.tag, frame, spec };
        self.shared.cache.as_ref().is_some_and(|cache| cache.peek(&key).is_some())
    }

    /// Waits for a permit to use the engine, for a request with this estimated cost in seconds of a worker. Gives up
    /// when a later permit would be too late.
    pub(super) async fn enter(
        &self,
        video: &Opened,
        client: &Client,
        cost_s: f64,
    ) -> std::result::Result<Permit, Problem> {
        self.shared.enter(self.admission(video), client, cost_s).await
    }

    /// The still from the cache.
    pub(super) fn kept(&self, video: &Opened, frame: u32, spec: Spec) -> Option<Arc<Still>> {
        let still = self.shared.cache.as_ref()?.get(&Key { video: video.tag, frame, spec })?;
        self.shared.metrics.cache(true);
        Some(still)
    }

    /// The still of a frame that exists. Waits for at most `patience`.
    pub(super) async fn get(
        &self,
        video: &Opened,
        frame: u32,
        spec: Spec,
        client: &Client,
        patience: Duration,
    ) -> Answer {
        if let Some(still) = self.kept(video, frame, spec) {
            return Ok((still, Timing::default(), Found::Kept));
        }
        let key = Key { video: video.tag, frame, spec };
        let since = Instant::now();
        let work = async {
            let entering = self.enter(video, client, spec.cost_s(video, &[frame]));
            let (work, is_joined) = match self.shared.flights.turn(&key, entering).await {
                Turn::Joined(work) => (work, true),
                Turn::Own(permit) => {
                    let (permit, waited) = (permit?, since.elapsed());
                    // Another request may have made it since.
                    if let Some(still) = self.kept(video, frame, spec) {
                        return Ok((still, Timing { queue: waited, ..Timing::default() }, Found::Kept));
                    }
                    self.shared.flights.join(&key, || {
                        let (shared, video) = (Arc::clone(&self.shared), video.clone());
                        let account = Arc::clone(&client.worked);
                        async move { shared.make(&video, key, &account, (permit, waited)).await }
                    })
                }
            };
            let (still, timing) = work.await?;
            if is_joined {
                self.shared.metrics.joined();
                return Ok((still, Timing { queue: since.elapsed(), ..Timing::default() }, Found::Joined));
            }
            self.shared.metrics.cache(false);
            Ok((still, timing, Found::Made))
        };
        tokio::time::timeout(patience, work).await.unwrap_or_else(|_| Err(Problem::deadline()))
    }

    /// Stills of frames that exist, in the order in which they arrive, each once. The batch holds the engine until
    /// dropped: see [`Batch::next`].
    pub(super) async fn batch(
        &self,
        video: &Opened,
        frames: &[u32],
        spec: Spec,
        (permit, client): (Permit, &Client),
    ) -> std::result::Result<Batch, Problem> {
        let account = Arc::clone(&client.worked);
        let making = self.shared.making(video, spec);
        let is_spread = is_spread(video, frames, self.shared.threads);
        let (video, frames, threads) = (video.clone(), frames.to_vec(), self.shared.threads);
        let (tag, shared) = (video.tag, Arc::clone(&self.shared));
        let begin = move || -> BoxStream<'static, (u32, Result<(Still, Duration)>)> {
            if is_spread {
                let make = move |_, frame: Result<VideoFrame>| making(&frame?);
                return video.video.frames_for(&account, &frames, make).boxed();
            }
            // Encoding runs on other threads: the decoding thread goes on decoding.
            let own = Arc::clone(&account);
            let encode = move |(index, frame): (u32, Result<VideoFrame>)| {
                let (making, account) = (Arc::clone(&making), Arc::clone(&account));
                async move {
                    let made = match frame {
                        Ok(frame) => {
                            let make = move || making(&frame).inspect(|(_, took)| account.worked(*took));
                            tokio::task::spawn_blocking(make).await.ok()
                        }
                        Err(error) => Some(Err(error)),
                    };
                    (index, made.unwrap_or_else(|| Err(bucket_streamer::unanswered(index))))
                }
            };
            let frames = video.video.frames_for(&own, &frames, |_, frame| frame);
            StreamExt::map(frames, encode).buffer_unordered(threads).boxed()
        };
        // The permit moves with the work, also when the caller has gone.
        let begun = tokio::task::spawn_blocking(move || (begin(), permit)).await;
        let (stream, permit) = begun.map_err(|_| Problem::internal("no thread"))?;
        Ok(Batch { stream, shared, tag, spec, permit })
    }
}

/// A batch of frames that arrive as stills.
pub(super) struct Batch {
    stream: BoxStream<'static, (u32, Result<(Still, Duration)>)>,
    shared: Arc<Shared>,
    tag: u128,
    spec: Spec,
    permit: Permit,
}

impl Batch {
    /// The next still to arrive, in any order; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<(u32, std::result::Result<Arc<Still>, Problem>)> {
        let (frame, made) = self.stream.next().await?;
        self.permit.progresses();
        let made = made.map_err(|error| Problem::of(&error)).map(|(still, encode)| {
            self.shared.metrics.encoded(encode);
            self.shared.keep(Key { video: self.tag, frame, spec: self.spec }, still)
        });
        Some((frame, made))
    }
}

impl Shared {
    /// Waits for a permit, for most of the deadline: with a later permit the response would be too late.
    async fn enter(
        &self,
        admission: &Arc<Admission>,
        client: &Client,
        cost_s: f64,
    ) -> std::result::Result<Permit, Problem> {
        let patience = self.deadline * 3 / 4;
        let entered = tokio::time::timeout(patience, admission.enter(client, cost_s)).await;
        entered.unwrap_or_else(|_| Err(admission.full())).map_err(Problem::from)
    }

    fn keep(&self, key: Key, still: Still) -> Arc<Still> {
        let still = Arc::new(still);
        if let Some(cache) = &self.cache {
            cache.insert(key, Arc::clone(&still));
        }
        still
    }

    fn making(&self, video: &Opened, spec: Spec) -> Making {
        let options = StillOptions {
            format: spec.format,
            quality: spec.quality,
            shape: spec.shape,
            ..video.video.still_options()
        };
        let (makers, video) = (self.makers.clone(), video.video.clone());
        Arc::new(move |frame| makers.make(frame, &options, video.timeline().seconds(frame.pts)))
    }

    /// Makes a still under a permit, for which the request has waited for `waited`.
    async fn make(
        &self,
        video: &Opened,
        key: Key,
        account: &Arc<Account>,
        (permit, waited): (Permit, Duration),
    ) -> Made {
        let (making, own, account) = (self.making(video, key.spec), video.video.clone(), Arc::clone(account));
        // Planning may read: not on a serving thread.
        let begun = tokio::task::spawn_blocking(move || {
            (own.frames_for(&account, &[key.frame], move |_, frame: Result<VideoFrame>| making(&frame?)), permit)
        });
        let (mut frames, permit) = begun.await.map_err(|_| Problem::internal("no thread"))?;
        let next = poll_fn(|context| Pin::new(&mut frames).poll_next(context)).await;
        permit.progresses();
        let (_, made) = next.ok_or_else(|| Problem::of(&bucket_streamer::unanswered(key.frame)))?;
        let (still, encode) = made.map_err(|error| Problem::of(&error))?;
        let spent = frames.spent();
        drop((frames, permit));
        let decode = spent.total.saturating_sub(spent.queue + spent.fetch + encode);
        let timing = Timing { queue: waited + spent.queue, fetch: spent.fetch, decode, encode };
        self.metrics.made(&timing);
        Ok((self.keep(key, still), timing))
    }
}

/// Whether the frames lie in enough GOPs to keep all threads decoding.
fn is_spread(video: &Opened, frames: &[u32], threads: usize) -> bool {
    let keys = video.video.key_frames();
    let gops: HashSet<usize> = frames.iter().map(|index| keys.partition_point(|key| key <= index)).collect();
    gops.len() >= GOPS_A_THREAD * threads
}
