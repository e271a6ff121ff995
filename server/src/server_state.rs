//! The server state that all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use bytes::Bytes;
use quick_cache::sync::Cache;
use tokio::sync::{Semaphore, watch};

use super::admission::ClientRegistry;
use super::auth::{Authenticator, Principal};
use super::config::Config;
use super::metrics::Metrics;
use super::problem::Problem;
use super::reply_memory::ReplyMemory;
use super::roots::Roots;
use super::scope::PermittedName;
use super::sheets::Sheets;
use super::single_flight::SingleFlight;
use super::stills::Stills;
use super::videos::Videos;
use bucket_streamer::{Engine, IndexCache};

/// Most listings at one time.
const LISTINGS: usize = 4;
/// Most properties of videos in the cache.
const INFOS: usize = 4096;
/// Storyboards get one part in this many of the memory for stills.
const SHEETS_SHARE: u64 = 8;
/// The least memory for responses, in bytes: with less, not even one still fits.
const LEAST_REPLY_MEMORY: u64 = 1 << 20;

/// The server state; see the module.
pub(super) struct ServerState {
    pub(super) config: Config,
    pub(super) engine: Engine,
    pub(super) roots: Arc<Roots>,
    pub(super) videos: Videos,
    pub(super) stills: Stills,
    pub(super) sheets: Sheets,
    pub(super) infos: Cache<u128, Bytes>,
    pub(super) info_requests: SingleFlight<u128, Result<Bytes, Problem>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) authenticator: Authenticator,
    pub(super) clients: ClientRegistry,
    pub(super) listing: Arc<Semaphore>,
    /// Memory for responses that are not sent yet.
    pub(super) reply_memory: ReplyMemory,
    /// Shutdown was requested; the server still accepts requests for the drain delay.
    pub(super) is_stopping: AtomicBool,
    pub(super) draining: watch::Sender<bool>,
    pub(super) connections: AtomicUsize,
    pub(super) websockets: AtomicUsize,
}

impl ServerState {
    /// # Errors
    /// One line about a token or key whose scope does not exist: see [`Authenticator::new`].
    pub(super) fn new(
        config: Config,
        engine: Engine,
        roots: Arc<Roots>,
        indexes: Option<IndexCache>,
    ) -> Result<ServerState, String> {
        let authenticator = Authenticator::new(&config.tokens, &config.url_keys, &roots)?;
        let threads = engine.threads();
        let metrics = Arc::new(Metrics::new());
        let running = config.running.unwrap_or(2 * threads + 2);
        let sheets = config.still_memory / SHEETS_SHARE;
        Ok(ServerState {
            videos: Videos::new(&engine, &roots, indexes, config.waiting),
            stills: Stills::new(
                config.still_memory - sheets,
                (running, config.waiting),
                (threads, config.deadline),
                &metrics,
            ),
            sheets: Sheets::new(sheets),
            infos: Cache::new(INFOS),
            info_requests: SingleFlight::default(),
            metrics,
            authenticator,
            clients: ClientRegistry::default(),
            listing: Arc::new(Semaphore::new(LISTINGS)),
            reply_memory: ReplyMemory::new(config.reply_memory.max(LEAST_REPLY_MEMORY)),
            is_stopping: AtomicBool::new(false),
            draining: watch::Sender::new(false),
            connections: AtomicUsize::new(0),
            websockets: AtomicUsize::new(0),
            config,
            engine,
            roots,
        })
    }

    /// Permits the name of a video, if the principal may open it: see [`PermittedName`].
    ///
    /// # Errors
    /// The same refusal for all other names.
    pub(super) fn permit<'a>(&self, principal: &Principal, video: &'a str) -> Result<PermittedName<'a>, Problem> {
        self.authenticator.reach(principal).permit(&self.roots, video)
    }

    /// Whether responses must not be in shared caches, because they require credentials.
    pub(super) fn is_private(&self) -> bool {
        !self.config.tokens.is_empty() || !self.config.url_keys.is_empty()
    }

    pub(super) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// The reason why the decoders seem to be stuck, if they do. Requests for remote videos do not count, since their
    /// servers can be slow, too.
    pub(super) fn stuck_reason(&self) -> Option<String> {
        let fruitless = self.stills.fruitless()?;
        Some(format!("{fruitless} requests in a row ended without any result after a long time"))
    }
}
