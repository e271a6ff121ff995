//! The configuration of a server. The command line reads it from flags, the environment and a file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::scope::Credential;
use bucket_streamer::OnDamage;

/// The configuration of a server; the default is meant for a service inside a team's network.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address to listen on; port 0 selects any free one.
    pub listen: SocketAddr,
    /// Quality of JPEG and WebP unless a request sets it, 1 to 100.
    pub jpeg_quality: u8,
    /// The handling of damaged pictures unless a request sets it. The engine has to output such pictures
    /// ([`OnDamage::Flag`], its default), because it serves requests of both kinds.
    pub on_damage: OnDamage,
    /// Bytes for the cache of stills.
    pub still_memory: u64,
    /// Bytes of responses that are not sent yet: bodies, and pictures for WebSockets. One client may hold as much as is
    /// still free: alone half of it.
    pub reply_memory: u64,
    /// Requests that may use the engine at one time; for videos behind a network, four times as many. By default twice
    /// the number of its threads, plus two.
    pub running: Option<usize>,
    /// Requests that may wait for the engine; more are refused.
    pub waiting: usize,
    /// Longest duration of a request.
    pub deadline: Duration,
    /// Most connections at one time; more are refused. [`Server::connections`](super::Server::connections) says how
    /// many the process has descriptors for.
    pub connections: usize,
    /// Most connections of one address at one time, unless `trust_forwarded` is set; 0 for no limit per address.
    pub connections_per_client: usize,
    /// Longest side of a requested still in pixels.
    pub longest_side: u32,
    /// Most frames that one message may request, and that a WebSocket may have outstanding.
    pub frames: usize,
    /// Most tiles of a storyboard.
    pub tiles: u32,
    /// Most bytes of one WebSocket message.
    pub message: usize,
    /// Most bytes of a request's head.
    pub head: usize,
    /// Time for the first request's head to arrive, and for the handshake of TLS.
    pub head_timeout: Duration,
    /// Time for the next request's head to arrive: longer than proxies keep idle connections.
    pub keep_alive: Duration,
    /// A WebSocket without a message for this time is closed.
    pub idle_timeout: Duration,
    /// Interval of pings; a WebSocket whose client stops answering them is closed.
    pub ping: Duration,
    /// A client that reads less than 64 KiB in this time while more is ready is given up: a connection of HTTP/1.1, a
    /// stream of HTTP/2.
    pub slow_timeout: Duration,
    /// Time for which requests are still accepted after the server is asked to end, while `/ready` already answers 503.
    pub drain_delay: Duration,
    /// Time for requests in flight to finish after the server is asked to end.
    pub drain_timeout: Duration,
    /// Tokens, one of which must come with each request. Without tokens and keys, requests need none.
    pub tokens: Vec<Credential>,
    /// Keys that may sign addresses. A signed address reaches what its key reaches.
    pub url_keys: Vec<Credential>,
    /// Origins whose pages may read responses; `*` for all.
    pub cors_origins: Vec<String>,
    /// Trust `X-Forwarded-For` of the connected peer: only behind a proxy that sets it.
    pub trust_forwarded: bool,
    /// Certificates and key, in PEM. Without them the server speaks plain HTTP.
    pub tls: Option<Tls>,
    /// Also accept HTTP/2 without TLS, from clients that begin with it.
    pub http2_cleartext: bool,
}

/// The files of certificates and key.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The chain, the server's own certificate first.
    pub certificates: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            jpeg_quality: 80,
            on_damage: OnDamage::Flag,
            still_memory: 256 << 20,
            reply_memory: 256 << 20,
            running: None,
            waiting: 256,
            deadline: Duration::from_secs(30),
            connections: 4096,
            connections_per_client: 1024,
            longest_side: 8192,
            frames: 4096,
            tiles: 400,
            message: 256 << 10,
            head: 32 << 10,
            head_timeout: Duration::from_secs(15),
            keep_alive: Duration::from_secs(75),
            idle_timeout: Duration::from_secs(600),
            ping: Duration::from_secs(20),
            slow_timeout: Duration::from_secs(30),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
            tokens: Vec::new(),
            url_keys: Vec::new(),
            cors_origins: Vec::new(),
            trust_forwarded: false,
            tls: None,
            http2_cleartext: false,
        }
    }
}
