//! Storyboards for requests: from the cache, from a request in progress, or made by the engine in slices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quick_cache::{OptionsBuilder, Weighter, sync::Cache};

use super::admission::Client;
use super::flights::Flights;
use super::problem::{Kind, Problem};
use super::stills::Stills;
use super::videos::Opened;
use bucket_streamer::pixels::Shape;
use bucket_streamer::still::{Grid, StillFormat, StillOptions};
use bucket_streamer::storyboard::{Going, Making, Shown};

/// Least time for which making a sheet keeps its permit while other requests wait.
const SLICE: Duration = Duration::from_millis(100);
/// Pause before a sheet that has lost its place in the waiting room asks for a permit again.
const PAUSE: Duration = Duration::from_secs(1);
/// Expected number of storyboards in the cache.
const EXPECTED: usize = 256;

/// The form of a storyboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SheetSpec {
    pub(super) count: u32,
    pub(super) columns: u32,
    pub(super) shape: Shape,
    pub(super) quality: u8,
    pub(super) shown: Shown,
}

impl SheetSpec {
    /// The part of an ETag for this form.
    pub(super) fn tag(&self) -> String {
        let shown = if self.shown == Shown::Key { 'k' } else { 'm' };
        let (count, columns, width) = (self.count, self.columns, self.shape.width.unwrap_or(0));
        format!("{count}c{columns}w{width}q{}{shown}", self.quality)
    }
}

/// A finished storyboard.
#[derive(Debug)]
pub(super) struct Sheet {
    pub(super) image: Bytes,
    pub(super) grid: Grid,
    /// Begin and end of each tile's part, in seconds.
    pub(super) times: Vec<(f64, f64)>,
    /// The first damaged frame in it, if there is one.
    pub(super) corrupt: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    video: u128,
    spec: SheetSpec,
}

#[derive(Debug, Clone)]
struct Bytewise;

impl Weighter<Key, Arc<Sheet>> for Bytewise {
    fn weight(&self, _: &Key, sheet: &Arc<Sheet>) -> u64 {
        (sheet.image.len() + sheet.times.len() * 16 + 256) as u64
    }
}

/// Makes storyboards, and caches them within a budget of bytes.
#[derive(Debug)]
pub(super) struct Sheets {
    cache: Arc<Cache<Key, Arc<Sheet>, Bytewise>>,
    flights: Flights<Key, Result<Arc<Sheet>, Problem>>,
}

/// Tells the making thread that the last caller has gone.
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

impl Sheets {
    pub(super) fn new(budget: u64) -> Sheets {
        // One shard: a sheet larger than its shard would never be kept.
        let options =
            OptionsBuilder::new().weight_capacity(budget).estimated_items_capacity(EXPECTED).shards(1).build();
        let cache = match options {
            Ok(options) => Cache::with_options(options, Bytewise, Default::default(), Default::default()),
            Err(_) => Cache::with_weighter(EXPECTED, budget, Bytewise),
        };
        let cache = Arc::new(cache);
        Sheets { cache, flights: Flights::default() }
    }

    /// The storyboard of a video. Waits for at most `patience`.
    pub(super) async fn get(
        &self,
        stills: &Stills,
        video: &Opened,
        spec: SheetSpec,
        client: &Client,
        patience: Duration,
    ) -> Result<Arc<Sheet>, Problem> {
        let key = Key { video: video.tag, spec };
        if let Some(sheet) = self.cache.get(&key) {
            return Ok(sheet);
        }
        let until = Instant::now() + patience;
        loop {
            let (work, is_joined) = self.flights.join(&key, || {
                let (stills, video, client) = (stills.clone(), video.clone(), client.clone());
                let cache = Arc::clone(&self.cache);
                async move {
                    let sheet = Arc::new(make(&stills, &video, spec, &client).await?);
                    cache.insert(key, Arc::clone(&sheet));
                    Ok(sheet)
                }
            });
            match tokio::time::timeout_at(until.into(), work).await.unwrap_or_else(|_| Err(Problem::deadline())) {
                // The other client had no room: this client tries with its own permit.
                Err(problem) if is_joined && problem.kind == Kind::Overloaded => {}
                made => return made,
            }
        }
    }
}

/// Makes a sheet, some tiles at a time: while other requests wait, the permit is returned between tiles and requested
/// again.
async fn make(stills: &Stills, video: &Opened, spec: SheetSpec, client: &Client) -> Result<Sheet, Problem> {
    let abandoned = Arc::new(AtomicBool::new(false));
    let _abandon = Abandon(Arc::clone(&abandoned));
    let options = StillOptions { shape: spec.shape, ..video.video.still_options() };
    let (own, how) = (video.video.clone(), (spec.count, spec.columns, spec.shown));
    let broken = |_| Problem::internal("the storyboard failed");
    // Finding the key frames reads all samples: not on a serving thread.
    let begun = tokio::task::spawn_blocking(move || Making::new(&own, &options, how));
    let mut making = begun.await.map_err(broken)??;
    let mut is_first = true;
    loop {
        let (cost_s, account) = (video.video.cost_s(making.next(stills.threads())), Arc::clone(&client.worked));
        let permit = match stills.enter(video, client, cost_s).await {
            Ok(permit) => permit,
            // The tiles that are made are not lost because of that.
            Err(problem) if problem.kind == Kind::Overloaded && !is_first => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(problem) => return Err(problem),
        };
        is_first = false;
        let (stills, video, client, is_abandoned) =
            (stills.clone(), video.clone(), client.clone(), Arc::clone(&abandoned));
        let made = tokio::task::spawn_blocking(move || {
            let since = Instant::now();
            let is_pressed = || stills.admission(&video).is_pressed(&client, cost_s);
            let going = || match () {
                () if is_abandoned.load(Relaxed) => Going::Abandoned,
                () if since.elapsed() >= SLICE && is_pressed() => Going::Later,
                () => Going::On,
            };
            let most = if is_pressed() { stills.threads() } else { usize::MAX };
            let frames = |indices: &[u32]| video.video.frames_for(&account, indices, |_, frame| frame);
            let going = making.go_on(most, &frames, &going)?;
            permit.progresses();
            match going {
                Going::Abandoned => Err(Problem::deadline()),
                _ if making.is_done() => finish(making, spec).map(Made::Sheet),
                _ => Ok(Made::Part(Box::new(making))),
            }
        });
        match made.await.map_err(broken)?? {
            Made::Sheet(sheet) => return Ok(sheet),
            Made::Part(part) => making = *part,
        }
    }
}

/// The result of a slice.
enum Made {
    Part(Box<Making>),
    Sheet(Sheet),
}

fn finish(making: Making, spec: SheetSpec) -> Result<Sheet, Problem> {
    let storyboard = making.finish()?;
    let image = storyboard.encode(StillFormat::Jpeg, spec.quality)?;
    let times = storyboard.tiles.iter().map(|tile| (tile.start_s, tile.end_s)).collect();
    let corrupt = storyboard.corrupt().first().copied();
    Ok(Sheet { image: image.into(), grid: storyboard.grid, times, corrupt })
}
