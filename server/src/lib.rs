//! The server: frames over HTTP and WebSocket, for many at once.
//!
//! `roots` says which videos there are and opens them, `videos` keeps them open. A request goes through `auth`, which knows the
//! `scope` of its token or signature, is read by
//! `http` or `ws`, finds out which frame is meant (`target`), and gets its still from `stills`: out of memory, from somebody
//! who waits for the same (`flights`), or from the engine, when `admission` says that it is its turn. `sheets` does the same
//! for storyboards. What is made and not sent has a budget (`replies`). `listen` has the connections, `preface` finds out what
//! is spoken on them, `patient` and `streams` what is read of them, `metrics` what an operator sees, `problem` what goes wrong, `config` what
//! may be chosen. How frames come to be is the engine's business.

mod admission;
mod auth;
mod config;
mod flights;
mod http;
mod listen;
mod metrics;
mod patient;
mod preface;
mod problem;
mod replies;
pub mod roots;
mod sample_order;
mod scope;
mod sheets;
mod stills;
mod streams;
mod target;
mod videos;
mod ws;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use bytes::Bytes;
use quick_cache::sync::Cache;
use tokio::sync::{Semaphore, watch};

pub use auth::sign;
pub use config::{Config, Tls};
pub use http::openapi;
pub use listen::Server;
pub use scope::{Credential, Scope};

use admission::Clients;
use auth::{Guard, Visitor};
use bucket_streamer::Engine;
use bucket_streamer::IndexCache;
use flights::Flights;
use metrics::Metrics;
use problem::Problem;
use replies::Replies;
use roots::Roots;
use scope::Permitted;
use sheets::Sheets;
use stills::Stills;
use videos::Videos;

/// Listings at one time.
const LISTINGS: usize = 4;
/// Descriptions of videos that are kept.
const INFOS: usize = 4096;
/// What storyboards may take of the memory for stills.
const SHEETS_SHARE: u64 = 8;
/// The least memory for replies, in bytes: with less there would be none for a single still.
const LEAST_REPLIES: u64 = 1 << 20;

/// What all requests share.
struct Shared {
    config: Config,
    engine: Engine,
    roots: Arc<Roots>,
    videos: Videos,
    stills: Stills,
    sheets: Sheets,
    infos: Cache<u128, Bytes>,
    describing: Flights<u128, Result<Bytes, Problem>>,
    metrics: Arc<Metrics>,
    guard: Guard,
    clients: Clients,
    listing: Arc<Semaphore>,
    /// Memory for what is made and not sent yet.
    replies: Replies,
    /// The server is about to end, and takes requests for a little while yet.
    is_leaving: AtomicBool,
    draining: watch::Sender<bool>,
    connections: AtomicUsize,
    websockets: AtomicUsize,
}

impl Shared {
    /// An error says which token or key is limited to something that is not there.
    fn new(config: Config, engine: Engine, roots: Arc<Roots>, indexes: Option<IndexCache>) -> Result<Shared, String> {
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

    /// The name of a video, if the visitor may have it: without that nothing opens one.
    fn permit<'a>(&self, visitor: &Visitor, video: &'a str) -> Result<Permitted<'a>, Problem> {
        self.guard.reach(visitor).permit(&self.roots, video)
    }

    /// May an answer not be kept for others than whoever asked?
    fn is_private(&self) -> bool {
        !self.config.tokens.is_empty() || !self.config.url_keys.is_empty()
    }

    fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Why the decoders seem to be stuck, if they do. Only what lies here counts: servers far away have their own troubles.
    fn stuck(&self) -> Option<String> {
        let fruitless = self.stills.fruitless()?;
        Some(format!("{fruitless} requests in a row were given up after a long time in which nothing came of them"))
    }
}

impl Server {
    /// Binds the address and makes everything ready; nothing is answered before [`Server::run`]. Needs a Tokio runtime.
    ///
    /// # Errors
    /// What the system says of the address; certificates that cannot be used; tokens and keys that are limited to what is not
    /// there.
    pub async fn bind(
        config: Config,
        engine: Engine,
        roots: Arc<Roots>,
        indexes: Option<IndexCache>,
    ) -> io::Result<Server> {
        let shared = Shared::new(config, engine, roots, indexes).map_err(io::Error::other)?;
        Server::listen(Arc::new(shared)).await
    }

    /// Connections at one time: as many as the configuration allows, but no more than half of the descriptors that the process
    /// may have (`RLIMIT_NOFILE`) when the server is bound. The others are for videos, which are closed, the least recently used
    /// first, when there are more.
    pub fn connections(&self) -> usize {
        self.room()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.bound()
    }
}
