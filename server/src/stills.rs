//! Stills for requests: from the cache, from a request for the same still in progress (single-flight), or from the
//! engine under a permit of `admission`.

use std::collections::HashSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use quick_cache::{OptionsBuilder, Weighter, sync::Cache};

use super::admission::{Admission, AdmissionPermit, ChargeBasis, RequestClient};
use super::metrics::{Metrics, StillTiming};
use super::problem::Problem;
use super::single_flight::{FlightRole, SingleFlight};
use super::videos::OpenVideo;
use crate::locks::Mutex;
use bucket_streamer::Account;
use bucket_streamer::OnDamage;
use bucket_streamer::VideoFrame;
use bucket_streamer::error::{Error, ErrorKind, Result};
use bucket_streamer::pixels::{Fit, Shape};
use bucket_streamer::still::{StillFormat, StillMaker, StillOptions};

/// From this many GOPs per thread on, the thread that decodes a frame also encodes its still.
const GOPS_A_THREAD: usize = 2;
/// Most idle makers in the pool.
const MAKERS: usize = 32;
/// Bytes or pixels of a still above which its maker does not return to the pool. A 4K still is below.
const LARGE: usize = 10 << 20;
/// Bytes of a cached still in addition to its data.
const OVERHEAD: u64 = 256;
/// Expected number of stills in the cache.
const EXPECTED: usize = 4096;
/// Least bytes of a shard of the cache: a still larger than its shard is not cached.
const SHARD_BYTES: u64 = 64 << 20;

/// The version of stills in ETags. It has to change if a release returns different bytes for the same request.
const STILL_VERSION: &str = "1";

/// The form of a still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct StillSpec {
    pub(super) format: StillFormat,
    pub(super) quality: u8,
    pub(super) shape: Shape,
}

impl StillSpec {
    /// The part of an ETag that distinguishes stills of one frame.
    pub(super) fn tag(&self) -> String {
        let side = |side: Option<u32>| side.map_or("-".to_owned(), |side| side.to_string());
        let fit = match self.shape.fit {
            Fit::Contain => 'i',
            Fit::Cover => 'o',
            Fit::Fill => 'f',
        };
        let (format, quality) = (self.format.extension(), self.quality);
        format!("{STILL_VERSION}-{}x{}{fit}{quality}{format}", side(self.shape.width), side(self.shape.height))
    }

    /// The approximate number of pixels of a still of this video.
    pub(super) fn pixels(&self, video: &OpenVideo) -> u64 {
        let (width, height) = video.video.track().parameters.size();
        let (width, height) = (width.max(16) as u64, height.max(16) as u64);
        match (self.shape.width, self.shape.height) {
            (Some(own), Some(other)) => u64::from(own) * u64::from(other),
            (Some(own), None) => u64::from(own) * u64::from(own) * height / width,
            (None, Some(own)) => u64::from(own) * u64::from(own) * width / height,
            (None, None) => width * height,
        }
    }

    /// The estimated time that workers spend on decoding and encoding these frames, in seconds.
    pub(super) fn cost_s(&self, video: &OpenVideo, frames: &[u32]) -> f64 {
        let encoding_ns = self.pixels(video).saturating_mul(self.format.encoding_ns_per_pixel());
        video.video.cost_s(frames) + frames.len() as f64 * encoding_ns as f64 / 1e9
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct StillKey {
    video: u128,
    frame: u32,
    spec: StillSpec,
}

/// An encoded still, and the properties of its frame.
#[derive(Debug)]
pub(super) struct EncodedStill {
    pub(super) bytes: Bytes,
    pub(super) frame: u32,
    pub(super) pts: i64,
    pub(super) time_s: f64,
    pub(super) key: bool,
    pub(super) corrupt: bool,
    pub(super) size: (usize, usize),
}

impl EncodedStill {
    /// The problem for a request that refuses damage, if the picture is damaged. The check follows the cache, because
    /// cached stills serve requests with either policy.
    pub(super) fn refusal(&self, on_damage: OnDamage, video: &OpenVideo) -> Option<Problem> {
        let is_refused = self.corrupt && on_damage == OnDamage::Error;
        is_refused.then(|| damage_problem(self.frame, video))
    }
}

/// The problem for a request that refuses the damaged picture of this frame, with its sample and offset.
pub(super) fn damage_problem(frame: u32, video: &OpenVideo) -> Problem {
    let track = video.video.track();
    let sample = track.frames.get(frame as usize).copied();
    let offset = sample.and_then(|sample| track.samples.get(sample as usize)).map(|sample| sample.offset);
    let error = Error::from(ErrorKind::Corrupt).at_frame(frame);
    Problem::of(&sample.into_iter().fold(error, |error, sample| error.at_sample(sample, offset)))
}

/// The origin of a still, for `X-Cache` and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CacheOutcome {
    Hit,
    /// From a request in progress.
    Joined,
    Miss,
}

impl CacheOutcome {
    pub(super) fn name(self) -> &'static str {
        match self {
            CacheOutcome::Hit => "hit",
            CacheOutcome::Joined => "joined",
            CacheOutcome::Miss => "miss",
        }
    }
}

/// A still, its time by stage, and its origin.
pub(super) type StillResult = std::result::Result<(Arc<EncodedStill>, StillTiming, CacheOutcome), Problem>;

type RenderResult = std::result::Result<(Arc<EncodedStill>, StillTiming), Problem>;

#[derive(Debug, Clone)]
struct StillWeighter;

impl Weighter<StillKey, Arc<EncodedStill>> for StillWeighter {
    fn weight(&self, _: &StillKey, still: &Arc<EncodedStill>) -> u64 {
        still.bytes.len() as u64 + OVERHEAD
    }
}

/// Makes stills, and caches them within a budget of bytes.
#[derive(Clone)]
pub(super) struct Stills {
    inner: Arc<StillsInner>,
}

struct StillsInner {
    cache: Option<Cache<StillKey, Arc<EncodedStill>, StillWeighter>>,
    single_flight: SingleFlight<StillKey, RenderResult>,
    local: Arc<Admission>,
    remote: Arc<Admission>,
    makers: StillMakerPool,
    metrics: Arc<Metrics>,
    threads: usize,
    deadline: Duration,
}

/// A pool of idle makers, because their buffers are large.
#[derive(Clone, Default)]
pub(super) struct StillMakerPool(Arc<Mutex<Vec<PooledMaker>>>);

/// A maker, and its output buffer.
type PooledMaker = (StillMaker, Vec<u8>);

impl StillMakerPool {
    /// Encodes the still of a frame with a maker of the pool. Also returns the time that this took.
    fn make(&self, frame: &VideoFrame, options: &StillOptions, time_s: f64) -> Result<(EncodedStill, Duration)> {
        let since = Instant::now();
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (mut maker, mut buffer) = match kept {
            Some(kept) => kept,
            None => (StillMaker::new()?, Vec::new()),
        };
        let still = maker.encode(&frame.picture, options, &mut buffer).map(|size| EncodedStill {
            bytes: Bytes::copy_from_slice(&buffer),
            frame: frame.index,
            pts: frame.pts,
            time_s,
            key: frame.key,
            corrupt: frame.is_corrupt(),
            size,
        });
        // The buffers of a maker are as large as its largest still.
        if buffer.len() <= LARGE && still.as_ref().is_ok_and(|still| still.size.0 * still.size.1 <= LARGE) {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < MAKERS {
                kept.push((maker, buffer));
            }
        }
        still.map(|still| (still, since.elapsed())).map_err(|error| error.at_frame(frame.index))
    }
}

/// Encodes the still of a decoded frame; runs on any thread.
type RenderStill = Arc<dyn Fn(&VideoFrame) -> Result<(EncodedStill, Duration)> + Send + Sync>;

impl Stills {
    /// Caches `budget` bytes of stills. Up to `running` requests for local videos use the engine at one time, and four
    /// times as many for remote ones; `waiting` more may wait for each.
    pub(super) fn new(
        budget: u64,
        (running, waiting): (usize, usize),
        (threads, deadline): (usize, Duration),
        metrics: &Arc<Metrics>,
    ) -> Stills {
        let shards = usize::try_from(budget / SHARD_BYTES).unwrap_or(1).clamp(1, 8);
        let options = OptionsBuilder::new()
            .weight_capacity(budget)
            .estimated_items_capacity(EXPECTED)
            .shards(1 << shards.ilog2())
            .build();
        let cache = options
            .ok()
            .filter(|_| budget > 0)
            .map(|options| Cache::with_options(options, StillWeighter, Default::default(), Default::default()));
        let inner = StillsInner {
            cache,
            single_flight: SingleFlight::default(),
            local: Admission::new(running, waiting, ChargeBasis::WorkerTime { workers: threads }),
            remote: Admission::new(4 * running, waiting, ChargeBasis::WorkerTime { workers: threads }),
            makers: StillMakerPool::default(),
            metrics: Arc::clone(metrics),
            threads,
            deadline,
        };
        Stills { inner: Arc::new(inner) }
    }

    /// The admission for a video: local and remote videos have one each.
    pub(super) fn admission(&self, video: &OpenVideo) -> &Arc<Admission> {
        if video.video.source().is_remote() { &self.inner.remote } else { &self.inner.local }
    }

    /// The number of the engine's threads.
    pub(super) fn threads(&self) -> usize {
        self.inner.threads
    }

    /// The admissions for local videos, and for those behind a network.
    pub(super) fn admissions(&self) -> [(&'static str, &Arc<Admission>); 2] {
        [("local", &self.inner.local), ("remote", &self.inner.remote)]
    }

    /// The number of fruitless requests in a row, if it reaches the limit of running requests.
    pub(super) fn fruitless(&self) -> Option<usize> {
        self.inner.local.fruitless()
    }

    /// Bytes and number of the cached stills.
    pub(super) fn cache_size(&self) -> (u64, usize) {
        self.inner.cache.as_ref().map_or((0, 0), |cache| (cache.weight(), cache.len()))
    }

    /// Whether the still is in the cache.
    pub(super) fn is_cached(&self, video: &OpenVideo, frame: u32, spec: StillSpec) -> bool {
        let key = StillKey { video: video.tag, frame, spec };
        self.inner.cache.as_ref().is_some_and(|cache| cache.peek(&key).is_some())
    }

    /// Waits for a permit to use the engine, for a request with an estimated cost of `cost_s` seconds of a worker.
    ///
    /// # Errors
    /// `overloaded` if the queue is full, or if there is no permit after three quarters of the deadline: with a later
    /// one the response would be too late.
    pub(super) async fn enter(
        &self,
        video: &OpenVideo,
        client: &RequestClient,
        cost_s: f64,
    ) -> std::result::Result<AdmissionPermit, Problem> {
        self.inner.enter(self.admission(video), client, cost_s).await
    }

    /// The still from the cache.
    pub(super) fn cached(&self, video: &OpenVideo, frame: u32, spec: StillSpec) -> Option<Arc<EncodedStill>> {
        let still = self.inner.cache.as_ref()?.get(&StillKey { video: video.tag, frame, spec })?;
        self.inner.metrics.cache(true);
        Some(still)
    }

    /// The still of an existing frame. Waits for at most `max_wait`.
    pub(super) async fn get(
        &self,
        video: &OpenVideo,
        frame: u32,
        spec: StillSpec,
        client: &RequestClient,
        max_wait: Duration,
    ) -> StillResult {
        if let Some(still) = self.cached(video, frame, spec) {
            return Ok((still, StillTiming::default(), CacheOutcome::Hit));
        }
        let key = StillKey { video: video.tag, frame, spec };
        let since = Instant::now();
        let work = async {
            let permit = self.enter(video, client, spec.cost_s(video, &[frame]));
            let (work, is_joined) = match self.inner.single_flight.lead_or_join(&key, permit).await {
                FlightRole::Follower(work) => (work, true),
                FlightRole::Leader(permit) => {
                    let (permit, waited) = (permit?, since.elapsed());
                    // Another request may have made the still meanwhile.
                    if let Some(still) = self.cached(video, frame, spec) {
                        return Ok((still, StillTiming { queue: waited, ..StillTiming::default() }, CacheOutcome::Hit));
                    }
                    self.inner.single_flight.join(&key, || {
                        let (inner, video) = (Arc::clone(&self.inner), video.clone());
                        let account = Arc::clone(&client.account);
                        async move { inner.make(&video, key, &account, (permit, waited)).await }
                    })
                }
            };
            let (still, timing) = work.await?;
            if is_joined {
                self.inner.metrics.joined();
                return Ok((
                    still,
                    StillTiming { queue: since.elapsed(), ..StillTiming::default() },
                    CacheOutcome::Joined,
                ));
            }
            self.inner.metrics.cache(false);
            Ok((still, timing, CacheOutcome::Miss))
        };
        tokio::time::timeout(max_wait, work).await.unwrap_or_else(|_| Err(Problem::deadline()))
    }

    /// Stills of existing frames, each once, in the order of their completion: see [`StillStream::next`]. The stream
    /// holds the permit until it is dropped.
    pub(super) async fn stream(
        &self,
        video: &OpenVideo,
        frames: &[u32],
        spec: StillSpec,
        (permit, client): (AdmissionPermit, &RequestClient),
    ) -> std::result::Result<StillStream, Problem> {
        let account = Arc::clone(&client.account);
        let render = self.inner.renderer(video, spec);
        let is_spread = is_spread(video, frames, self.inner.threads);
        let (video, frames, threads) = (video.clone(), frames.to_vec(), self.inner.threads);
        let (tag, inner) = (video.tag, Arc::clone(&self.inner));
        let begin = move || -> BoxStream<'static, (u32, Result<(EncodedStill, Duration)>)> {
            if is_spread {
                let make = move |_, frame: Result<VideoFrame>| render(&frame?);
                return video.video.frames_for(&account, &frames, make).boxed();
            }
            // Few GOPs keep few threads decoding: encoding runs on other threads.
            let own = Arc::clone(&account);
            let encode = move |(index, frame): (u32, Result<VideoFrame>)| {
                let (render, account) = (Arc::clone(&render), Arc::clone(&account));
                async move {
                    let still = match frame {
                        Ok(frame) => {
                            let make = move || render(&frame).inspect(|(_, took)| account.charge(*took));
                            tokio::task::spawn_blocking(make).await.ok()
                        }
                        Err(error) => Some(Err(error)),
                    };
                    (index, still.unwrap_or_else(|| Err(bucket_streamer::unanswered(index))))
                }
            };
            let frames = video.video.frames_for(&own, &frames, |_, frame| frame);
            StreamExt::map(frames, encode).buffer_unordered(threads).boxed()
        };
        // The permit moves to the blocking task, so that it is held as long as the task runs, even if the caller is
        // cancelled.
        let started = tokio::task::spawn_blocking(move || (begin(), permit)).await;
        let (stream, permit) = started.map_err(|_| Problem::internal("no thread"))?;
        Ok(StillStream { stream, inner, tag, spec, permit })
    }
}

/// The stills of a batch of frames, and its permit.
pub(super) struct StillStream {
    stream: BoxStream<'static, (u32, Result<(EncodedStill, Duration)>)>,
    inner: Arc<StillsInner>,
    tag: u128,
    spec: StillSpec,
    permit: AdmissionPermit,
}

impl StillStream {
    /// The next finished still, in any order, with the number of its frame; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<(u32, std::result::Result<Arc<EncodedStill>, Problem>)> {
        let (frame, still) = self.stream.next().await?;
        self.permit.mark_fruitful();
        let still = still.map_err(|error| Problem::of(&error)).map(|(still, encode)| {
            self.inner.metrics.record_encoding(encode);
            self.inner.keep(StillKey { video: self.tag, frame, spec: self.spec }, still)
        });
        Some((frame, still))
    }
}

impl StillsInner {
    /// See [`Stills::enter`].
    async fn enter(
        &self,
        admission: &Arc<Admission>,
        client: &RequestClient,
        cost_s: f64,
    ) -> std::result::Result<AdmissionPermit, Problem> {
        let max_wait = self.deadline * 3 / 4;
        let entered = tokio::time::timeout(max_wait, admission.enter(client, cost_s)).await;
        entered.unwrap_or_else(|_| Err(admission.full())).map_err(Problem::from)
    }

    fn keep(&self, key: StillKey, still: EncodedStill) -> Arc<EncodedStill> {
        let still = Arc::new(still);
        if let Some(cache) = &self.cache {
            cache.insert(key, Arc::clone(&still));
        }
        still
    }

    fn renderer(&self, video: &OpenVideo, spec: StillSpec) -> RenderStill {
        let options = StillOptions {
            format: spec.format,
            quality: spec.quality,
            shape: spec.shape,
            ..video.video.still_options()
        };
        let (makers, video) = (self.makers.clone(), video.video.clone());
        Arc::new(move |frame| makers.make(frame, &options, video.timeline().seconds(frame.pts)))
    }

    /// Makes a still under a permit; `waited` is the time that the request waited for it.
    async fn make(
        &self,
        video: &OpenVideo,
        key: StillKey,
        account: &Arc<Account>,
        (permit, waited): (AdmissionPermit, Duration),
    ) -> RenderResult {
        let (render, own, account) = (self.renderer(video, key.spec), video.video.clone(), Arc::clone(account));
        // Planning may read from the source, which must not block a thread of the async runtime.
        let started = tokio::task::spawn_blocking(move || {
            (own.frames_for(&account, &[key.frame], move |_, frame: Result<VideoFrame>| render(&frame?)), permit)
        });
        let (mut frames, permit) = started.await.map_err(|_| Problem::internal("no thread"))?;
        let next = poll_fn(|context| Pin::new(&mut frames).poll_next(context)).await;
        permit.mark_fruitful();
        let (_, still) = next.ok_or_else(|| Problem::of(&bucket_streamer::unanswered(key.frame)))?;
        let (still, encode) = still.map_err(|error| Problem::of(&error))?;
        let spent = frames.timing();
        drop((frames, permit));
        let decode = spent.total.saturating_sub(spent.queue + spent.fetch + encode);
        let timing = StillTiming { queue: waited + spent.queue, fetch: spent.fetch, decode, encode };
        self.metrics.record_still(&timing);
        Ok((self.keep(key, still), timing))
    }
}

/// Whether the frames lie in enough GOPs to keep all threads decoding.
fn is_spread(video: &OpenVideo, frames: &[u32], threads: usize) -> bool {
    let keys = video.video.key_frames();
    let gops: HashSet<usize> = frames.iter().map(|index| keys.partition_point(|key| key <= index)).collect();
    gops.len() >= GOPS_A_THREAD * threads
}
