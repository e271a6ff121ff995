//! Storyboards for requests: from the cache, from a request in progress (single-flight), or made in slices by the
//! engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quick_cache::{OptionsBuilder, Weighter, sync::Cache};

use super::admission::RequestClient;
use super::problem::{Problem, ProblemKind};
use super::single_flight::SingleFlight;
use super::stills::Stills;
use super::videos::OpenVideo;
use bucket_streamer::pixels::Shape;
use bucket_streamer::still::{Grid, StillFormat, StillOptions};
use bucket_streamer::storyboard::{BuildControl, StoryboardBuilder, TileFrame};

/// Least time for which a sheet keeps its permit while other requests wait.
const SLICE: Duration = Duration::from_millis(100);
/// Pause before a sheet that was evicted from the queue requests a permit again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Expected number of storyboards in the cache.
const EXPECTED: usize = 256;

/// The form of a storyboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SheetSpec {
    pub(super) count: u32,
    pub(super) columns: u32,
    pub(super) shape: Shape,
    pub(super) quality: u8,
    pub(super) shown: TileFrame,
}

impl SheetSpec {
    /// The part of an ETag that distinguishes sheets of one video.
    pub(super) fn tag(&self) -> String {
        let shown = if self.shown == TileFrame::Key { 'k' } else { 'm' };
        let (count, columns, width) = (self.count, self.columns, self.shape.width.unwrap_or(0));
        format!("{count}c{columns}w{width}q{}{shown}", self.quality)
    }
}

/// A finished storyboard.
#[derive(Debug)]
pub(super) struct RenderedSheet {
    pub(super) image: Bytes,
    pub(super) grid: Grid,
    /// Start and end of each tile's part of the video, in seconds.
    pub(super) times: Vec<(f64, f64)>,
    /// The first damaged frame in the sheet, if there is one.
    pub(super) corrupt: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct SheetKey {
    video: u128,
    spec: SheetSpec,
}

#[derive(Debug, Clone)]
struct SheetWeighter;

impl Weighter<SheetKey, Arc<RenderedSheet>> for SheetWeighter {
    fn weight(&self, _: &SheetKey, sheet: &Arc<RenderedSheet>) -> u64 {
        (sheet.image.len() + sheet.times.len() * 16 + 256) as u64
    }
}

/// Makes storyboards, and caches them within a budget of bytes.
#[derive(Debug)]
pub(super) struct Sheets {
    cache: Arc<Cache<SheetKey, Arc<RenderedSheet>, SheetWeighter>>,
    single_flight: SingleFlight<SheetKey, Result<Arc<RenderedSheet>, Problem>>,
}

/// Signals to the rendering thread that no caller waits any more.
struct AbandonGuard(Arc<AtomicBool>);

impl Drop for AbandonGuard {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

impl Sheets {
    pub(super) fn new(budget: u64) -> Sheets {
        // One shard: a sheet larger than its shard is not cached.
        let options =
            OptionsBuilder::new().weight_capacity(budget).estimated_items_capacity(EXPECTED).shards(1).build();
        let cache = match options {
            Ok(options) => Cache::with_options(options, SheetWeighter, Default::default(), Default::default()),
            Err(_) => Cache::with_weighter(EXPECTED, budget, SheetWeighter),
        };
        let cache = Arc::new(cache);
        Sheets { cache, single_flight: SingleFlight::default() }
    }

    /// The storyboard of a video. Waits for at most `max_wait`.
    pub(super) async fn get(
        &self,
        stills: &Stills,
        video: &OpenVideo,
        spec: SheetSpec,
        client: &RequestClient,
        max_wait: Duration,
    ) -> Result<Arc<RenderedSheet>, Problem> {
        let key = SheetKey { video: video.tag, spec };
        if let Some(sheet) = self.cache.get(&key) {
            return Ok(sheet);
        }
        let until = Instant::now() + max_wait;
        loop {
            let (work, is_joined) = self.single_flight.join(&key, || {
                let (stills, video, client) = (stills.clone(), video.clone(), client.clone());
                let cache = Arc::clone(&self.cache);
                async move {
                    let sheet = Arc::new(make(&stills, &video, spec, &client).await?);
                    cache.insert(key, Arc::clone(&sheet));
                    Ok(sheet)
                }
            });
            match tokio::time::timeout_at(until.into(), work).await.unwrap_or_else(|_| Err(Problem::deadline())) {
                // The leading client found the queue full: this client tries with a permit of its own.
                Err(problem) if is_joined && problem.kind == ProblemKind::Overloaded => {}
                result => return result,
            }
        }
    }
}

/// Makes a sheet in slices: while other requests wait, the permit is returned after some tiles and requested again.
async fn make(
    stills: &Stills,
    video: &OpenVideo,
    spec: SheetSpec,
    client: &RequestClient,
) -> Result<RenderedSheet, Problem> {
    let abandoned = Arc::new(AtomicBool::new(false));
    let _abandon = AbandonGuard(Arc::clone(&abandoned));
    let options = StillOptions { shape: spec.shape, ..video.video.still_options() };
    let (own, layout) = (video.video.clone(), (spec.count, spec.columns, spec.shown));
    let broken = |_| Problem::internal("the storyboard failed");
    // Finding the key frames reads all samples, which must not block a thread of the async runtime.
    let started = tokio::task::spawn_blocking(move || StoryboardBuilder::new(&own, &options, layout));
    let mut making = started.await.map_err(broken)??;
    let mut is_first = true;
    loop {
        let (cost_s, account) = (video.video.cost_s(making.next(stills.threads())), Arc::clone(&client.account));
        let permit = match stills.enter(video, client, cost_s).await {
            Ok(permit) => permit,
            // Finished tiles are kept: only the next slice waits.
            Err(problem) if problem.kind == ProblemKind::Overloaded && !is_first => {
                tokio::time::sleep(RETRY_PAUSE).await;
                continue;
            }
            Err(problem) => return Err(problem),
        };
        is_first = false;
        let (stills, video, client, is_abandoned) =
            (stills.clone(), video.clone(), client.clone(), Arc::clone(&abandoned));
        let slice = tokio::task::spawn_blocking(move || {
            let since = Instant::now();
            let is_pressed = || stills.admission(&video).should_yield(&client, cost_s);
            let next_step = || match () {
                () if is_abandoned.load(Relaxed) => BuildControl::Abort,
                () if since.elapsed() >= SLICE && is_pressed() => BuildControl::Suspend,
                () => BuildControl::Continue,
            };
            let most = if is_pressed() { stills.threads() } else { usize::MAX };
            let frames = |indices: &[u32]| video.video.frames_for(&account, indices, |_, frame| frame);
            let outcome = making.advance(most, &frames, &next_step)?;
            permit.mark_fruitful();
            match outcome {
                BuildControl::Abort => Err(Problem::deadline()),
                _ if making.is_done() => finish(making, spec).map(SheetProgress::Done),
                _ => Ok(SheetProgress::Partial(Box::new(making))),
            }
        });
        match slice.await.map_err(broken)?? {
            SheetProgress::Done(sheet) => return Ok(sheet),
            SheetProgress::Partial(partial) => making = *partial,
        }
    }
}

/// The result of a slice.
enum SheetProgress {
    Partial(Box<StoryboardBuilder>),
    Done(RenderedSheet),
}

fn finish(making: StoryboardBuilder, spec: SheetSpec) -> Result<RenderedSheet, Problem> {
    let storyboard = making.finish()?;
    let image = storyboard.encode(StillFormat::Jpeg, spec.quality)?;
    let times = storyboard.tiles.iter().map(|tile| (tile.start_s, tile.end_s)).collect();
    let corrupt = storyboard.corrupt().first().copied();
    Ok(RenderedSheet { image: image.into(), grid: storyboard.grid, times, corrupt })
}
