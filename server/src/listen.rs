//! Connections: accepted up to a limit, with or without TLS, and shut down gracefully. `http` answers their requests.
//!
//! With TLS the client and the server agree on HTTP/1.1 or HTTP/2 (ALPN). Without TLS, HTTP/2 is refused unless the
//! configuration allows it.

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
use super::connection::{Addresses, Held, Peer};
use super::http::{HEADERS, router};
use super::patient::Patient;
use super::preface;
use super::problem::Problem;
use super::roots::Roots;
use super::shared::Shared;
use super::streams::Streams;
use bucket_streamer::source::open_files::{Reserved, close_half, has_run_out};
use bucket_streamer::{Engine, IndexCache};

/// Most streams of one HTTP/2 connection.
const STREAMS: u32 = 32;
/// Bytes of request bodies that one stream, or one connection, of HTTP/2 may send ahead: no route reads a body.
const BODY_AHEAD: u32 = 16 << 10;
const BODIES_AHEAD: u32 = 64 << 10;
/// Bytes that one stream of HTTP/2 may have in the connection's send buffer.
const SEND_AHEAD: usize = 64 << 10;
/// Most streams that were reset: by the client before the server looked at them, or by the server for errors.
const RESET_EARLY: usize = 20;
const RESET_WRONG: usize = 100;
/// Pause before the next accept after an error, as when the system has no descriptors left.
const BREATH: Duration = Duration::from_millis(50);
/// Refusals that are sent at one time; further connections are only closed.
const REFUSALS: usize = 512;
/// Descriptors for each root behind a network: the most connections to its server.
const PER_ROOT: usize = 16;
/// Time for a refusal to be sent, and for the client to go.
const REFUSAL: Duration = Duration::from_secs(2);

/// A server that is bound and ready to run.
pub struct Server {
    shared: Arc<Shared>,
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    sockets: Sockets,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Binds the address and prepares everything; requests are answered from [`Server::run`] on. Needs a Tokio runtime.
    ///
    /// # Errors
    /// The system's error for the address; certificates that cannot be used; tokens and keys that are limited to
    /// something that does not exist.
    pub async fn bind(
        config: Config,
        engine: Engine,
        roots: Arc<Roots>,
        indexes: Option<IndexCache>,
    ) -> io::Result<Server> {
        let shared = Shared::new(config, engine, roots, indexes).map_err(io::Error::other)?;
        let tls = shared.config.tls.as_ref().map(acceptor).transpose()?;
        let listener = TcpListener::bind(shared.config.listen).await?;
        let address = listener.local_addr()?;
        let sockets = Sockets::of(&shared.config, shared.roots.far());
        Ok(Server { shared: Arc::new(shared), listener, address, tls, sockets })
    }

    /// Most connections at one time: as many as the configuration allows, but no more than half of the descriptors that
    /// the process may have (`RLIMIT_NOFILE`) when the server is bound. The others are for videos, of which the least
    /// recently used ones are closed when there are more.
    pub fn connections(&self) -> usize {
        self.sockets.connections
    }

    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `end` is ready; then accepts no more connections, finishes requests in flight, and returns. False
    /// if some were not finished within the drain timeout.
    pub async fn run(self, end: impl Future<Output = ()>) -> bool {
        let Server { shared, listener, tls, sockets, .. } = self;
        let connections = Connections {
            router: router(&shared),
            limit: Arc::new(Semaphore::new(sockets.connections)),
            addresses: Arc::default(),
            refusals: Arc::new(Semaphore::new(sockets.refusals)),
            tls,
            shared: Arc::clone(&shared),
        };
        let delay = shared.config.drain_delay;
        let leaving = Arc::clone(&shared);
        let mut end = pin!(async move {
            end.await;
            leaving.is_leaving.store(true, Relaxed);
            if !delay.is_zero() {
                tracing::info!("shutting down soon: not ready any more");
                tokio::time::sleep(delay).await;
            }
        });
        loop {
            tokio::select! {
                () = &mut end => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, address)) => connections.take(stream, address),
                    Err(error) => {
                        // The client has gone again, or there are no descriptors: both pass.
                        tracing::warn!(%error, "no connection");
                        if has_run_out(&error) {
                            let _ = tokio::task::spawn_blocking(close_half).await;
                        }
                        tokio::time::sleep(BREATH).await;
                    }
                },
            }
        }
        drop(listener);
        tracing::info!("shutting down: no new connections, requests in flight are finished");
        shared.draining.send_replace(true);
        let Connections { limit, .. } = connections;
        let all = u32::try_from(sockets.connections).unwrap_or(u32::MAX);
        let finished = async {
            // Each connection holds its permit until it is closed, WebSockets too.
            let _ = limit.acquire_many(all).await;
        };
        let is_finished = timeout(shared.config.drain_timeout, finished).await.is_ok();
        if !is_finished {
            tracing::warn!("some connections did not end in time");
        }
        is_finished
    }
}

/// The limits of connections, and the descriptors reserved for them.
struct Sockets {
    connections: usize,
    /// Connections that get a refusal at one time.
    refusals: usize,
    _reserved: Reserved,
}

impl Sockets {
    /// As many connections as the configuration allows, but no more than half of the descriptors: the others are for
    /// videos.
    fn of(config: &Config, far_roots: usize) -> Sockets {
        let wanted = config.connections.clamp(1, Semaphore::MAX_PERMITS);
        let far = PER_ROOT * far_roots;
        let reserved = Reserved::at_most(wanted.saturating_add(REFUSALS).saturating_add(far));
        let left = reserved.count() - far.min(reserved.count() / 4);
        let refusals = REFUSALS.min(left / 8).max(1);
        let connections = wanted.min(left.saturating_sub(refusals)).max(1);
        Sockets { connections, refusals, _reserved: reserved }
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

fn http2(config: &Config, streams: Streams) -> http2::Builder<Streams> {
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
    // A program that has installed a provider of cryptography keeps its choice; for any other one, ring is used.
    let provider = CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(ring::default_provider()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key));
    let mut config = config.map_err(|error| failed(&tls.certificates, error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

struct Connections {
    router: Router,
    limit: Arc<Semaphore>,
    addresses: Arc<Addresses>,
    refusals: Arc<Semaphore>,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
}

/// Counts a connection until dropped.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

impl Connections {
    fn take(&self, stream: TcpStream, address: SocketAddr) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let config = &self.shared.config;
        // Behind a proxy all connections come from one address.
        let most = Some(config.connections_per_client).filter(|most| *most > 0 && !config.trust_forwarded);
        let place = most.map(|most| self.addresses.take(address.ip(), most));
        let permit = Arc::clone(&self.limit).try_acquire_owned().ok().filter(|_| !matches!(place, Some(None)));
        let Some(permit) = permit else {
            self.shared.metrics.rejected("connections");
            if let (None, Ok(turn)) = (&self.tls, Arc::clone(&self.refusals).try_acquire_owned()) {
                tokio::spawn(async move {
                    let _turn = turn;
                    let _ = timeout(REFUSAL, refuse(stream)).await;
                });
            }
            return;
        };
        let place = place.flatten();
        let _ = stream.set_nodelay(true);
        let peer = Peer { address, number: NEXT.fetch_add(1, Relaxed) };
        self.shared.connections.fetch_add(1, Relaxed);
        let counted = Counted(Arc::clone(&self.shared));
        let (router, tls) = (self.router.clone(), self.tls.clone());
        let draining = self.shared.draining.subscribe();
        tokio::spawn(async move {
            let counted = counted;
            let shared = Arc::clone(&counted.0);
            let config = &shared.config;
            let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let idle = Arc::new(AtomicU64::new(millis(config.head_timeout)));
            // A client that waits for a frame is silent for as long as that takes.
            let patience = (Arc::clone(&idle), millis(config.keep_alive + 5 * config.deadline));
            let stream = Patient::new(stream, idle, config.slow_timeout);
            let held = Held::new(permit, place);
            let limit = config.head_timeout;
            let served = Served { shared: Arc::clone(&shared), router, peer, held, patience };
            match tls {
                None => match begun(preface::read(stream), limit, draining).await {
                    Some((stream, true)) if !config.http2_cleartext => {
                        shared.metrics.rejected("http2");
                        let _ = timeout(REFUSAL, preface::refuse(stream)).await;
                    }
                    Some((stream, is_second)) => served.run(stream, is_second).await,
                    None => tracing::debug!(peer = %peer.address, "no request"),
                },
                Some(tls) => match begun(tls.accept(stream), limit, draining).await {
                    Some(stream) => {
                        let is_second = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                        served.run(stream, is_second).await;
                    }
                    None => tracing::debug!(peer = %peer.address, "no TLS"),
                },
            }
            drop(counted);
        });
    }
}

/// The result of a connection's beginning (the preface or TLS handshake), if that is in time and the server does not
/// end.
async fn begun<T>(
    beginning: impl Future<Output = io::Result<T>>,
    limit: Duration,
    mut draining: watch::Receiver<bool>,
) -> Option<T> {
    tokio::select! {
        _ = draining.wait_for(|draining| *draining) => None,
        begun = timeout(limit, beginning) => begun.ok()?.ok(),
    }
}

/// Sends a refusal to a connection for which there is no room, and closes it.
async fn refuse(mut stream: TcpStream) {
    let body = Problem::too_many_connections().json();
    let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n";
    let text = format!("{head}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    if stream.write_all(text.as_bytes()).await.is_ok() {
        let _ = stream.shutdown().await;
        // The request is read and dropped: else the system would reset the connection, and the response with it.
        let mut sink = [0; 4096];
        while let Ok(1..) = tokio::io::AsyncReadExt::read(&mut stream, &mut sink).await {}
    }
}

/// The state for serving one connection.
struct Served {
    shared: Arc<Shared>,
    router: Router,
    peer: Peer,
    held: Held,
    /// The idle limit of the connection, and its value from the first request on.
    patience: (Arc<AtomicU64>, u64),
}

impl Served {
    async fn run<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S, is_second: bool) {
        let Served { shared, router, peer, held, patience } = self;
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            patience.0.store(patience.1, Relaxed);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(held.clone());
            router.clone().call(request)
        });
        let (config, stream) = (&shared.config, TokioIo::new(stream));
        let draining = shared.draining.subscribe();
        let done = if is_second {
            let streams = Streams::new(config.slow_timeout);
            let connection = http2(config, streams.clone()).serve_connection(stream, service);
            let keep_alive = config.keep_alive.max(config.head_timeout);
            tokio::select! {
                done = drive(connection, draining, streams.idle(keep_alive)) => done,
                // The connection was told to end, and does not.
                () = streams.idle(keep_alive + REFUSAL) => Ok(()),
                // Closed at once: the client has reset most of its requests.
                () = streams.abused() => {
                    shared.metrics.rejected("resets");
                    Ok(())
                }
            }
        } else {
            let connection = http1(config).serve_connection(stream, service).with_upgrades();
            drive(connection, draining, std::future::pending()).await
        };
        if let Err(error) = done {
            // Usually the client has gone.
            tracing::debug!(peer = %peer.address, %error, "connection");
        }
    }
}

/// Serves a connection until it is over. It accepts no more requests when the server ends or `enough` is ready.
async fn drive<C: Ending>(
    connection: C,
    mut draining: watch::Receiver<bool>,
    enough: impl Future<Output = ()>,
) -> hyper::Result<()> {
    let mut connection = pin!(connection);
    {
        let mut end = pin!(async {
            tokio::select! {
                _ = draining.wait_for(|draining| *draining) => {}
                () = enough => {}
            }
        });
        tokio::select! {
            done = &mut connection => return done,
            () = &mut end => {}
        }
    }
    connection.as_mut().end();
    connection.await
}

/// A connection that can finish its requests in flight and then end.
trait Ending: Future<Output = hyper::Result<()>> {
    fn end(self: Pin<&mut Self>);
}

impl<I, S> Ending for http1::UpgradeableConnection<I, S>
where
    S: HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Ending for http2::Connection<I, S, Streams>
where
    S: HttpService<Incoming, ResBody = Body>,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
