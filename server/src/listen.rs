//! Accepts connections up to a limit, with or without TLS, and shuts them down gracefully. `http` answers their
//! requests.
//!
//! With TLS the client and the server negotiate HTTP/1.1 or HTTP/2 (ALPN, RFC 7301). Without TLS, HTTP/2 is refused
//! unless the configuration allows it.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tower::Service;

use super::config::{Config, Tls};
use super::connection::{AddressCounts, ConnectionPeer, ConnectionSlot};
use super::http::{HEADERS, router};
use super::preface;
use super::problem::Problem;
use super::roots::Roots;
use super::server_state::ServerState;
use super::streams::Http2Streams;
use super::timeouts::TimeoutStream;
use bucket_streamer::source::open_files::{DescriptorReservation, close_half, is_exhausted};
use bucket_streamer::{Engine, IndexCache};

/// Most concurrent streams of one HTTP/2 connection.
const STREAMS: u32 = 32;
/// Flow-control windows of one stream and of one connection of HTTP/2, in bytes of request bodies: no route reads a
/// body.
const BODY_AHEAD: u32 = 16 << 10;
const BODIES_AHEAD: u32 = 64 << 10;
/// Bytes that one stream of HTTP/2 may have in the connection's send buffer.
const SEND_AHEAD: usize = 64 << 10;
/// Most streams that the client resets before the server accepts them, and most that the server resets because of
/// errors; then the connection is closed (CVE-2023-44487).
const RESET_EARLY: usize = 20;
const RESET_WRONG: usize = 100;
/// Pause before the next accept after an error, for example if no descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Most refusals that are sent at one time; further connections are closed without one.
const REFUSALS: usize = 512;
/// Descriptors reserved for each root behind a network: the most connections to its server.
const PER_ROOT: usize = 16;
/// Time for a refusal to be sent, and for the client to disconnect.
const REFUSAL: Duration = Duration::from_secs(2);

/// A server that is bound and ready to run.
pub struct Server {
    shared: Arc<ServerState>,
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    limits: ConnectionLimits,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Binds the address of the configuration. The server accepts connections only in [`Server::run`]. Has to be called
    /// in a Tokio runtime.
    ///
    /// With `indexes`, the indexes of opened videos are stored there, so that a restarted server opens them faster.
    ///
    /// # Errors
    /// The system's error for the address; certificates or a key that cannot be read or used; a scope of a token or key
    /// with a root or prefix that does not exist.
    pub async fn bind(
        config: Config,
        engine: Engine,
        roots: Arc<Roots>,
        indexes: Option<IndexCache>,
    ) -> io::Result<Server> {
        let shared = ServerState::new(config, engine, roots, indexes).map_err(io::Error::other)?;
        let tls = shared.config.tls.as_ref().map(acceptor).transpose()?;
        let listener = TcpListener::bind(shared.config.listen).await?;
        let address = listener.local_addr()?;
        let limits = ConnectionLimits::of(&shared.config, shared.roots.remote_count());
        Ok(Server { shared: Arc::new(shared), listener, address, tls, limits })
    }

    /// Most connections at one time: as many as the configuration allows, but no more than half of the descriptors that
    /// the process may have (`RLIMIT_NOFILE`) when the server is bound. The other half is for files of videos; beyond
    /// it, the least recently used ones are closed and reopened on demand.
    pub fn connections(&self) -> usize {
        self.limits.connections
    }

    /// The address that the server listens on, with the actual port if the configured one is 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `end` is ready. Then `/ready` answers 503, and the server still accepts requests for the drain
    /// delay; after that it accepts no more connections and finishes requests in flight. Returns false if some
    /// connections did not end within the drain timeout.
    pub async fn run(self, end: impl Future<Output = ()>) -> bool {
        let Server { shared, listener, tls, limits, .. } = self;
        let acceptor = ConnectionAcceptor {
            router: router(&shared),
            limit: Arc::new(Semaphore::new(limits.connections)),
            addresses: Arc::default(),
            refusals: Arc::new(Semaphore::new(limits.refusals)),
            tls,
            shared: Arc::clone(&shared),
        };
        let delay = shared.config.drain_delay;
        let stopping = Arc::clone(&shared);
        let mut end = pin!(async move {
            end.await;
            stopping.is_stopping.store(true, Relaxed);
            if !delay.is_zero() {
                tracing::info!("shutting down soon: not ready any more");
                tokio::time::sleep(delay).await;
            }
        });
        loop {
            tokio::select! {
                () = &mut end => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, address)) => acceptor.accept(stream, address),
                    Err(error) => {
                        // The client has disconnected, or there are no descriptors: both conditions pass.
                        tracing::warn!(%error, "no connection");
                        if is_exhausted(&error) {
                            let _ = tokio::task::spawn_blocking(close_half).await;
                        }
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        tracing::info!("shutting down: no new connections, requests in flight are finished");
        shared.draining.send_replace(true);
        let ConnectionAcceptor { limit, .. } = acceptor;
        let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
        let finished = async {
            // Each connection holds its permit until it is closed; a WebSocket does, too.
            let _ = limit.acquire_many(all).await;
        };
        let is_finished = timeout(shared.config.drain_timeout, finished).await.is_ok();
        if !is_finished {
            tracing::warn!("some connections did not end in time");
        }
        #[cfg(feature = "lock-statistics")]
        crate::locks::log_counts();
        is_finished
    }
}

/// The limits of connections, and the descriptors reserved for them.
struct ConnectionLimits {
    connections: usize,
    /// Most refusals that are sent at one time.
    refusals: usize,
    _reserved: DescriptorReservation,
}

impl ConnectionLimits {
    /// As many connections as the configuration allows, but no more than half of the descriptors: the other half is for
    /// files of videos.
    fn of(config: &Config, remote_roots: usize) -> ConnectionLimits {
        let requested = config.connections.clamp(1, Semaphore::MAX_PERMITS);
        let remote = PER_ROOT * remote_roots;
        let reserved = DescriptorReservation::at_most(requested.saturating_add(REFUSALS).saturating_add(remote));
        let left = reserved.count() - remote.min(reserved.count() / 4);
        let refusals = REFUSALS.min(left / 8).max(1);
        let connections = requested.min(left.saturating_sub(refusals)).max(1);
        ConnectionLimits { connections, refusals, _reserved: reserved }
    }
}

fn http1(config: &Config) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(config.keep_alive.max(config.head_timeout))
        .max_headers(HEADERS)
        .max_buf_size(config.head.max(8192));
    builder
}

fn http2(config: &Config, streams: Http2Streams) -> http2::Builder<Http2Streams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(config.head).unwrap_or(u32::MAX))
        .initial_stream_window_size(BODY_AHEAD)
        .initial_connection_window_size(BODIES_AHEAD)
        .max_send_buf_size(SEND_AHEAD)
        .max_pending_accept_reset_streams(RESET_EARLY)
        .max_local_error_reset_streams(RESET_WRONG)
        .keep_alive_interval(config.ping)
        .keep_alive_timeout(config.ping);
    builder
}

fn acceptor(tls: &Tls) -> io::Result<TlsAcceptor> {
    let failed = |file: &std::path::Path, why: String| io::Error::other(format!("{}: {why}", file.display()));
    let certificates = CertificateDer::pem_file_iter(&tls.certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(&tls.certificates, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| failed(&tls.key, error.to_string()))?;
    // The process may have installed a default provider of cryptography; otherwise ring is used.
    let provider = CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(ring::default_provider()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key));
    let mut config = config.map_err(|error| failed(&tls.certificates, error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

struct ConnectionAcceptor {
    router: Router,
    limit: Arc<Semaphore>,
    addresses: Arc<AddressCounts>,
    refusals: Arc<Semaphore>,
    tls: Option<TlsAcceptor>,
    shared: Arc<ServerState>,
}

/// Counts a connection until dropped.
struct ConnectionCount(Arc<ServerState>);

impl Drop for ConnectionCount {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

impl ConnectionAcceptor {
    fn accept(&self, stream: TcpStream, address: SocketAddr) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let config = &self.shared.config;
        // Behind a proxy all connections come from one address.
        let most = Some(config.connections_per_client).filter(|most| *most > 0 && !config.trust_forwarded);
        let address_slot = most.map(|most| self.addresses.acquire(address.ip(), most));
        let permit = Arc::clone(&self.limit).try_acquire_owned().ok().filter(|_| !matches!(address_slot, Some(None)));
        let Some(permit) = permit else {
            self.shared.metrics.rejected("connections");
            if let (None, Ok(permit)) = (&self.tls, Arc::clone(&self.refusals).try_acquire_owned()) {
                tokio::spawn(async move {
                    let _permit = permit;
                    let _ = timeout(REFUSAL, refuse(stream)).await;
                });
            }
            return;
        };
        let address_slot = address_slot.flatten();
        let _ = stream.set_nodelay(true);
        let peer = ConnectionPeer { address, number: NEXT.fetch_add(1, Relaxed) };
        self.shared.connections.fetch_add(1, Relaxed);
        let count = ConnectionCount(Arc::clone(&self.shared));
        let (router, tls) = (self.router.clone(), self.tls.clone());
        let draining = self.shared.draining.subscribe();
        tokio::spawn(async move {
            let count = count;
            let shared = Arc::clone(&count.0);
            let config = &shared.config;
            let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let idle = Arc::new(AtomicU64::new(millis(config.head_timeout)));
            // A client that waits for a response is silent until then: the limit has to exceed the longest request.
            let idle_limits = (Arc::clone(&idle), millis(config.keep_alive + 5 * config.deadline));
            let stream = TimeoutStream::new(stream, idle, config.slow_timeout);
            let slot = ConnectionSlot::new(permit, address_slot);
            let limit = config.head_timeout;
            let handler = ConnectionHandler { shared: Arc::clone(&shared), router, peer, slot, idle_limits };
            match tls {
                None => match begin_within(preface::read(stream), limit, draining).await {
                    Some((stream, true)) if !config.http2_cleartext => {
                        shared.metrics.rejected("http2");
                        let _ = timeout(REFUSAL, preface::refuse(stream)).await;
                    }
                    Some((stream, is_http2)) => handler.run(stream, is_http2).await,
                    None => tracing::debug!(peer = %peer.address, "no request"),
                },
                Some(tls) => match begin_within(tls.accept(stream), limit, draining).await {
                    Some(stream) => {
                        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                        handler.run(stream, is_http2).await;
                    }
                    None => tracing::debug!(peer = %peer.address, "no TLS"),
                },
            }
            drop(count);
        });
    }
}

/// The result of `beginning` (the preface or TLS handshake); `None` if it fails, exceeds the limit, or if the server
/// shuts down.
async fn begin_within<T>(
    beginning: impl Future<Output = io::Result<T>>,
    limit: Duration,
    mut draining: watch::Receiver<bool>,
) -> Option<T> {
    tokio::select! {
        _ = draining.wait_for(|draining| *draining) => None,
        begun = timeout(limit, beginning) => begun.ok()?.ok(),
    }
}

/// Sends a refusal on a connection above the limit, and closes it.
async fn refuse(mut stream: TcpStream) {
    let body = Problem::too_many_connections().json();
    let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n";
    let text = format!("{head}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    if stream.write_all(text.as_bytes()).await.is_ok() {
        let _ = stream.shutdown().await;
        // Closing a socket with unread input resets the connection, and the client may lose the response.
        let mut sink = [0; 4096];
        while let Ok(1..) = tokio::io::AsyncReadExt::read(&mut stream, &mut sink).await {}
    }
}

/// Serves the requests of one connection.
struct ConnectionHandler {
    shared: Arc<ServerState>,
    router: Router,
    peer: ConnectionPeer,
    slot: ConnectionSlot,
    /// The idle limit of the connection, and its value from the first request on.
    idle_limits: (Arc<AtomicU64>, u64),
}

impl ConnectionHandler {
    async fn run<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S, is_http2: bool) {
        let ConnectionHandler { shared, router, peer, slot, idle_limits } = self;
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            idle_limits.0.store(idle_limits.1, Relaxed);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(slot.clone());
            router.clone().call(request)
        });
        let (config, stream) = (&shared.config, TokioIo::new(stream));
        let draining = shared.draining.subscribe();
        let result = if is_http2 {
            let streams = Http2Streams::new(config.slow_timeout);
            let connection = http2(config, streams.clone()).serve_connection(stream, service);
            let keep_alive = config.keep_alive.max(config.head_timeout);
            tokio::select! {
                done = drive(connection, draining, streams.idle(keep_alive)) => done,
                // The graceful shutdown does not finish, because the client keeps the connection open.
                () = streams.idle(keep_alive + REFUSAL) => Ok(()),
                // The client has reset most of its streams: the connection is closed at once.
                () = streams.abused() => {
                    shared.metrics.rejected("resets");
                    Ok(())
                }
            }
        } else {
            let connection = http1(config).serve_connection(stream, service).with_upgrades();
            drive(connection, draining, std::future::pending()).await
        };
        if let Err(error) = result {
            // Usually the client has disconnected.
            tracing::debug!(peer = %peer.address, %error, "connection");
        }
    }
}

/// Serves a connection until it ends. It accepts no more requests after the server begins to drain or `stop` is ready.
async fn drive<C: GracefulShutdown>(
    connection: C,
    mut draining: watch::Receiver<bool>,
    stop: impl Future<Output = ()>,
) -> hyper::Result<()> {
    let mut connection = pin!(connection);
    {
        let mut end = pin!(async {
            tokio::select! {
                _ = draining.wait_for(|draining| *draining) => {}
                () = stop => {}
            }
        });
        tokio::select! {
            done = &mut connection => return done,
            () = &mut end => {}
        }
    }
    connection.as_mut().begin_shutdown();
    connection.await
}

/// A connection that can accept no more requests, finish those in flight, and end.
trait GracefulShutdown: Future<Output = hyper::Result<()>> {
    fn begin_shutdown(self: Pin<&mut Self>);
}

impl<I, S> GracefulShutdown for http1::UpgradeableConnection<I, S>
where
    S: HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    fn begin_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> GracefulShutdown for http2::Connection<I, S, Http2Streams>
where
    S: HttpService<Incoming, ResBody = Body>,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    fn begin_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
