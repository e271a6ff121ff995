//! The configuration of a server. The command line reads it from flags, the environment and a file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::scope::Credential;
use bucket_streamer::OnDamage;

/// The configuration of a server. The default is for a service inside a team's network: without TLS and credentials,
/// listening on the loopback interface.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address to listen on; port 0 selects any free one.
    pub listen: SocketAddr,
    /// Quality of JPEG and WebP, 1 to 100, for requests that do not set it.
    pub jpeg_quality: u8,
    /// The handling of damaged pictures, for requests that do not set it. The engine itself has to output such pictures
    /// ([`OnDamage::Flag`], its default), because it serves requests with either policy.
    pub on_damage: OnDamage,
    /// Bytes for the cache of stills and storyboards; 0 disables it.
    pub still_memory: u64,
    /// Bytes of responses that are not sent yet: bodies, and pictures for WebSockets. One client may hold at most as
    /// much as is still free, that is half of it if no other client holds any. At least 1 MiB is used.
    pub reply_memory: u64,
    /// Requests for local videos that may use the engine at one time; for videos behind a network, four times as many.
    /// By default twice the number of the engine's threads, plus two.
    pub running: Option<usize>,
    /// Requests that may wait for the engine; further ones are refused with 503.
    pub waiting: usize,
    /// Longest duration of a request; then it ends with 504. A storyboard may take four times as long.
    pub deadline: Duration,
    /// Most connections at one time; further ones are refused with 503. The descriptors of the process may limit them
    /// further: see [`Server::connections`](super::Server::connections).
    pub connections: usize,
    /// Most connections of one address at one time, unless `trust_forwarded` is set; 0 for no limit per address.
    pub connections_per_client: usize,
    /// Longest side of a requested still in pixels.
    pub longest_side: u32,
    /// Most frames in one WebSocket message, and most unanswered frames of one WebSocket.
    pub frames: usize,
    /// Most tiles of a storyboard.
    pub tiles: u32,
    /// Most bytes of one WebSocket message.
    pub message: usize,
    /// Most bytes of a request's head: request line and headers.
    pub head: usize,
    /// Time for the first request's head to arrive, and for the TLS handshake.
    pub head_timeout: Duration,
    /// Time for the next request's head to arrive. It should be longer than proxies keep idle connections, so that a
    /// proxy does not send a request on a connection that the server is closing.
    pub keep_alive: Duration,
    /// A WebSocket without a message for this time is closed.
    pub idle_timeout: Duration,
    /// Interval of pings; a WebSocket whose client stops answering them is closed.
    pub ping: Duration,
    /// If a client reads less than 64 KiB in this time while more is ready, its HTTP/1.1 connection is closed or its
    /// HTTP/2 stream is reset.
    pub slow_timeout: Duration,
    /// Time for which requests are still accepted after shutdown was requested, while `/ready` already answers 503.
    pub drain_delay: Duration,
    /// Time for requests in flight to finish, after the server has stopped accepting connections.
    pub drain_timeout: Duration,
    /// Tokens, one of which each request must have. Without tokens and keys, requests need no credentials.
    pub tokens: Vec<Credential>,
    /// Keys that may sign addresses. A signed address reaches what its key reaches.
    pub url_keys: Vec<Credential>,
    /// Origins (RFC 6454) of pages that may read responses and open WebSockets; `*` for all.
    pub cors_origins: Vec<String>,
    /// Identify clients by the last address in `X-Forwarded-For`. Only for servers behind a proxy that sets it: other
    /// peers could forge it.
    pub trust_forwarded: bool,
    /// Certificates and key. Without them the server speaks plain HTTP.
    pub tls: Option<Tls>,
    /// Also accept HTTP/2 without TLS, from clients with prior knowledge (RFC 9113, section 3.3).
    pub http2_cleartext: bool,
}

/// The files of the certificates and of the private key, in PEM.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The certificate chain, the server's own certificate first.
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
