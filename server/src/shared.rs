//! The server state that all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use bytes::Bytes;
use quick_cache::sync::Cache;
use tokio::sync::{Semaphore, watch};

use super::admission::Clients;
use super::auth::{Guard, Visitor};
use super::config::Config;
use super::flights::Flights;
use super::metrics::Metrics;
use super::problem::Problem;
use super::replies::Replies;
use super::roots::Roots;
use super::scope::Permitted;
use super::sheets::Sheets;
use super::stills::Stills;
use super::videos::Videos;
use bucket_streamer::{Engine, IndexCache};

/// Most listings at one time.
const LISTINGS: usize = 4;
/// Descriptions of videos in the cache.
const INFOS: usize = 4096;
/// Storyboards get one part in this many of the memory for stills.
const SHEETS_SHARE: u64 = 8;
/// The least memory for responses, in bytes: with less, not even one still would fit.
const LEAST_REPLIES: u64 = 1 << 20;

/// The server state; see the module.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) engine: Engine,
    pub(super) roots: Arc<Roots>,
    pub(super) videos: Videos,
    pub(super) stills: Stills,
    pub(super) sheets: Sheets,
    pub(super) infos: Cache<u128, Bytes>,
    pub(super) describing: Flights<u128, Result<Bytes, Problem>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) guard: Guard,
    pub(super) clients: Clients,
    pub(super) listing: Arc<Semaphore>,
    /// Memory for responses that are not sent yet.
    pub(super) replies: Replies,
    /// The server is about to end, but still accepts requests.
    pub(super) is_leaving: AtomicBool,
    pub(super) draining: watch::Sender<bool>,
    pub(super) connections: AtomicUsize,
    pub(super) websockets: AtomicUsize,
}

impl Shared {
    /// An error names the token or key that is limited to something that does not exist.
    pub(super) fn new(
        config: Config,
        engine: Engine,
        roots: Arc<Roots>,
        indexes: Option<IndexCache>,
    ) -> Result<Shared, String> {
        let guard = Guard::new(&config.tokens, &config.url_keys, &roots)?;
        let threads = engine.threads();
        let metrics = Arc::new(Metrics::new());
        let running = config.running.unwrap_or(2 * threads + 2);
        let sheets = config.still_memory / SHEETS_SHARE;
        Ok(Shared {
            videos: Videos::new(&engine, &roots, indexes, config.waiting),
            stills: Stills::new(
                config.still_memory - sheets,
                (running, config.waiting),
                (threads, config.deadline),
                &metrics,
            ),
            sheets: Sheets::new(sheets),
            infos: Cache::new(INFOS),
            describing: Flights::default(),
            metrics,
            guard,
            clients: Clients::default(),
            listing: Arc::new(Semaphore::new(LISTINGS)),
            replies: Replies::new(config.reply_memory.max(LEAST_REPLIES)),
            is_leaving: AtomicBool::new(false),
            draining: watch::Sender::new(false),
            connections: AtomicUsize::new(0),
            websockets: AtomicUsize::new(0),
            config,
            engine,
            roots,
        })
    }

    /// The name of a video, if the visitor may open it. Functions that open videos require it.
    pub(super) fn permit<'a>(&self, visitor: &Visitor, video: &'a str) -> Result<Permitted<'a>, Problem> {
        self.guard.reach(visitor).permit(&self.roots, video)
    }

    /// Whether a response is for its client only, and not for shared caches.
    pub(super) fn is_private(&self) -> bool {
        !self.config.tokens.is_empty() || !self.config.url_keys.is_empty()
    }

    pub(super) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// The reason why the decoders seem to be stuck, if they do. Only local videos count: remote servers have faults of
    /// their own.
    pub(super) fn stuck(&self) -> Option<String> {
        let fruitless = self.stills.fruitless()?;
        Some(format!("{fruitless} requests in a row ended without any result after a long time"))
    }
}
