//! What may be chosen about a server. Where it is chosen (flags, environment, file) is the command line's business.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::scope::Credential;
use bucket_streamer::OnDamage;

/// What may be chosen; the default is meant for a service inside a team's network.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 for any that is free.
    pub listen: SocketAddr,
    /// Quality of JPEG and WebP unless a request says otherwise, 1 to 100.
    pub jpeg_quality: u8,
    /// What requests get for damaged pictures unless they say otherwise. The engine has to give such pictures out
    /// ([`OnDamage::Flag`], its default): it serves requests of both kinds.
    pub on_damage: OnDamage,
    /// Bytes for stills that are made.
    pub still_memory: u64,
    /// Bytes that may be made and not sent yet: bodies of answers, and pictures for WebSockets. One client may hold as much
    /// as is still free: alone half of it.
    pub reply_memory: u64,
    /// Requests that may use the engine at one time; of videos behind a network, four times as many. By default twice as
    /// many as it has threads, and two.
    pub running: Option<usize>,
    /// Requests that may wait for that; past it they are refused.
    pub waiting: usize,
    /// The longest that a request may take.
    pub deadline: Duration,
    /// Connections at one time; past it they are refused. See [`Server::connections`](super::Server::connections) for how many
    /// there are descriptors for.
    pub connections: usize,
    /// Connections of one address at one time, unless a proxy stands before all of them; 0 for as many as there may be.
    pub connections_per_client: usize,
    /// The longest side of a still in pixels that may be asked for.
    pub longest_side: u32,
    /// Frames that one message may ask for, and that a WebSocket may have outstanding.
    pub frames: usize,
    /// Tiles of a storyboard.
    pub tiles: u32,
    /// Bytes of one WebSocket message.
    pub message: usize,
    /// Bytes of a request's head.
    pub head: usize,
    /// For the first request's head to come, and for the handshake of TLS.
    pub head_timeout: Duration,
    /// For the next request's head: longer than proxies keep connections that are idle.
    pub keep_alive: Duration,
    /// After so long without a message a WebSocket is closed.
    pub idle_timeout: Duration,
    /// How often a WebSocket is asked whether it is still there; one that does not answer twice is closed.
    pub ping: Duration,
    /// A reader who takes less than 64 KiB in so long while there is more is given up: a connection of HTTP/1.1, a stream of
    /// HTTP/2.
    pub slow_timeout: Duration,
    /// How long requests are still taken when the server is told to end, while `/ready` says so already.
    pub drain_delay: Duration,
    /// For requests in flight to be finished when the server is told to end.
    pub drain_timeout: Duration,
    /// Tokens of which one must come with each request; with none, and no keys, anybody may ask.
    pub tokens: Vec<Credential>,
    /// Keys with which addresses may be signed. A signature reaches what its key does.
    pub url_keys: Vec<Credential>,
    /// Origins whose pages may read answers; `*` for all.
    pub cors_origins: Vec<String>,
    /// Believe `X-Forwarded-For` of whoever connects: only behind a proxy that sets it.
    pub trust_forwarded: bool,
    /// Certificates and key, in PEM.
    pub tls: Option<Tls>,
    /// Speak HTTP/2 without TLS, too, with clients that begin with it.
    pub http2_cleartext: bool,
}

/// Where certificates and key are.
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
