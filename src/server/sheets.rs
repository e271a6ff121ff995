//! Storyboards for requests: kept ones, and those that are being made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use quick_cache::{OptionsBuilder, Weighter, sync::Cache};

use super::admission::Client;
use super::flights::Flights;
use super::problem::Problem;
use super::stills::Stills;
use super::videos::Opened;
use crate::picture::{Grid, Shape, StillFormat, StillOptions};
use crate::storyboard::{Shown, Storyboard};

/// Storyboards that are expected in the cache.
const EXPECTED: usize = 256;

/// What a storyboard is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SheetSpec {
    pub(super) count: u32,
    pub(super) columns: u32,
    pub(super) shape: Shape,
    pub(super) quality: u8,
    pub(super) shown: Shown,
}

impl SheetSpec {
    /// A part of an ETag.
    pub(super) fn tag(&self) -> String {
        let shown = if self.shown == Shown::Key { 'k' } else { 'm' };
        let (count, columns, width) = (self.count, self.columns, self.shape.width.unwrap_or(0));
        format!("{count}c{columns}w{width}q{}{shown}", self.quality)
    }
}

/// A storyboard that is made.
#[derive(Debug)]
pub(super) struct Sheet {
    pub(super) image: Bytes,
    pub(super) grid: Grid,
    /// From when to when each tile stands, in seconds.
    pub(super) times: Vec<(f64, f64)>,
    /// The first frame in it that is known to be damaged, if any is.
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

/// Makes storyboards, and keeps them under a budget of bytes.
#[derive(Debug)]
pub(super) struct Sheets {
    cache: Arc<Cache<Key, Arc<Sheet>, Bytewise>>,
    flights: Flights<Key, Result<Arc<Sheet>, Problem>>,
}

/// Nobody waits any more.
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

impl Sheets {
    pub(super) fn new(budget: u64) -> Sheets {
        // In one part: a sheet that is larger than a part would never be kept.
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
        let (work, _) = self.flights.join(&key, || {
            let (stills, video, client) = (stills.clone(), video.clone(), client.clone());
            let cache = Arc::clone(&self.cache);
            async move {
                let permit = stills.enter(&video, &client).await?;
                let abandoned = Arc::new(AtomicBool::new(false));
                let is_abandoned = Arc::clone(&abandoned);
                let _abandon = Abandon(abandoned);
                let made = tokio::task::spawn_blocking(move || {
                    let made = make(&video, spec, &|| !is_abandoned.load(Relaxed));
                    permit.progresses();
                    made
                });
                let sheet = Arc::new(made.await.map_err(|_| Problem::internal("the storyboard failed"))??);
                cache.insert(key, Arc::clone(&sheet));
                Ok(sheet)
            }
        });
        tokio::time::timeout(patience, work).await.unwrap_or_else(|_| Err(Problem::deadline()))
    }
}

fn make(video: &Opened, spec: SheetSpec, is_wanted: &dyn Fn() -> bool) -> Result<Sheet, Problem> {
    let options = StillOptions { shape: spec.shape, ..StillOptions::for_video(&video.video) };
    let how = (spec.count, spec.columns, spec.shown);
    let made = Storyboard::make(&video.video, &options, how, is_wanted)?;
    let storyboard = made.ok_or_else(Problem::deadline)?;
    let image = storyboard.encode(StillFormat::Jpeg, spec.quality)?;
    let times = storyboard.tiles.iter().map(|tile| (tile.start_s, tile.end_s)).collect();
    let corrupt = storyboard.corrupt().first().copied();
    Ok(Sheet { image: image.into(), grid: storyboard.grid, times, corrupt })
}
