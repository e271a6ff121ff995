//! Connections: taken as they come up to a limit, with or without TLS, and brought to an end in good order.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tower::Service;

use super::Shared;
use super::config::{Config, Tls};
use super::http::{Peer, router};
use super::patient::Patient;
use super::problem::Problem;

/// Streams of one HTTP/2 connection.
const STREAMS: u32 = 32;
/// Headers of one request.
const HEADERS: usize = 64;
/// What a new connection waits for when the system has no descriptors left.
const BREATH: Duration = Duration::from_millis(50);
/// Refusals that are sent at one time; past that connections are only closed.
const REFUSALS: usize = 512;
/// For a refusal to be sent.
const REFUSAL: Duration = Duration::from_secs(2);

/// A server that is bound, and ready to run.
pub struct Server {
    shared: Arc<Shared>,
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    pub(super) async fn listen(shared: Arc<Shared>) -> io::Result<Server> {
        let tls = shared.config.tls.as_ref().map(acceptor).transpose()?;
        let listener = TcpListener::bind(shared.config.listen).await?;
        let address = listener.local_addr()?;
        Ok(Server { shared, listener, address, tls })
    }

    pub(super) fn bound(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `end` is ready; then takes no more, finishes what is in flight, and returns. False if that took longer
    /// than it may, and something was left.
    pub async fn run(self, end: impl Future<Output = ()>) -> bool {
        let Server { shared, listener, tls, .. } = self;
        let connections = Connections {
            router: router(&shared),
            builder: builder(&shared.config),
            limit: Arc::new(Semaphore::new(shared.config.connections.clamp(1, Semaphore::MAX_PERMITS))),
            addresses: Arc::default(),
            refusals: Arc::new(Semaphore::new(REFUSALS)),
            graceful: GracefulShutdown::new(),
            tls,
            shared: Arc::clone(&shared),
        };
        let delay = shared.config.drain_delay;
        let leaving = Arc::clone(&shared);
        let mut end = pin!(async move {
            end.await;
            leaving.is_leaving.store(true, Relaxed);
            if !delay.is_zero() {
                tracing::info!("ending soon: not ready any more");
                tokio::time::sleep(delay).await;
            }
        });
        loop {
            tokio::select! {
                () = &mut end => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, address)) => connections.take(stream, address),
                    Err(error) => {
                        // One that has gone again, or no descriptors: both pass.
                        tracing::warn!(%error, "no connection");
                        tokio::time::sleep(BREATH).await;
                    }
                },
            }
        }
        drop(listener);
        tracing::info!("ending: no more connections are taken, what is in flight is finished");
        shared.draining.send_replace(true);
        let Connections { graceful, limit, .. } = connections;
        let all = u32::try_from(shared.config.connections.clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        let finished = async {
            graceful.shutdown().await;
            // WebSockets have left HTTP, and hold their permits until they are closed.
            let _ = limit.acquire_many(all).await;
        };
        let is_finished = timeout(shared.config.drain_timeout, finished).await.is_ok();
        if !is_finished {
            tracing::warn!("some connections did not end in time");
        }
        is_finished
    }
}

fn builder(config: &Config) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.keep_alive.max(config.head_timeout))
        .max_headers(HEADERS)
        .max_buf_size(config.head.max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(config.head).unwrap_or(u32::MAX))
        .keep_alive_interval(config.ping)
        .keep_alive_timeout(config.ping);
    // Without TLS nobody's browser speaks it, and a reader of one stream that stands still cannot be told from one who waits.
    if config.tls.is_none() { builder.http1_only() } else { builder }
}

fn acceptor(tls: &Tls) -> io::Result<TlsAcceptor> {
    let failed = |file: &std::path::Path, why: String| io::Error::other(format!("{}: {why}", file.display()));
    let certificates = CertificateDer::pem_file_iter(&tls.certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(&tls.certificates, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| failed(&tls.key, error.to_string()))?;
    // A program that has chosen its cryptography before keeps it.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key);
    let mut config = config.map_err(|error| failed(&tls.certificates, error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

struct Connections {
    router: Router,
    builder: Builder<TokioExecutor>,
    limit: Arc<Semaphore>,
    addresses: Arc<Addresses>,
    refusals: Arc<Semaphore>,
    graceful: GracefulShutdown,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
}

/// A connection's place; a WebSocket keeps it when HTTP has done.
#[derive(Debug, Clone)]
pub(super) struct Held {
    _permit: Arc<OwnedSemaphorePermit>,
    _place: Option<Arc<Place>>,
}

/// How many connections each address has.
#[derive(Debug, Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

/// One of them.
#[derive(Debug)]
struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more, if the address has fewer than `most`.
    fn take(self: &Arc<Addresses>, address: IpAddr, most: usize) -> Option<Arc<Place>> {
        let mut counts = self.lock();
        let count = counts.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Arc::new(Place { addresses: Arc::clone(self), address }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.addresses.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// Counts a connection as long as it lives.
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
        // Behind a proxy all come from one address.
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
        let (router, builder) = (self.router.clone(), self.builder.clone());
        let (watcher, tls) = (self.graceful.watcher(), self.tls.clone());
        let draining = self.shared.draining.subscribe();
        tokio::spawn(async move {
            let _counted = counted;
            let config = &_counted.0.config;
            let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let idle = Arc::new(AtomicU64::new(millis(config.head_timeout)));
            // Whoever is asked for a frame is silent for as long as that takes.
            let patience = (Arc::clone(&idle), millis(config.keep_alive + 5 * config.deadline));
            let stream = Patient::new(stream, idle, config.slow_timeout);
            let held = Held { _permit: Arc::new(permit), _place: place };
            let served = Served { router, builder, watcher, peer, held, patience };
            match tls {
                None => served.run(stream).await,
                Some(tls) => match handshake(&tls, stream, config.head_timeout, draining).await {
                    Some(stream) => served.run(stream).await,
                    None => tracing::debug!(peer = %peer.address, "no TLS"),
                },
            }
        });
    }
}

async fn handshake(
    tls: &TlsAcceptor,
    stream: Patient<TcpStream>,
    limit: Duration,
    mut draining: watch::Receiver<bool>,
) -> Option<tokio_rustls::server::TlsStream<Patient<TcpStream>>> {
    tokio::select! {
        _ = draining.wait_for(|draining| *draining) => None,
        accepted = timeout(limit, tls.accept(stream)) => accepted.ok()?.ok(),
    }
}

/// There is no room for a connection: it is told so, and closed.
async fn refuse(mut stream: TcpStream) {
    let body = Problem::too_many_connections().json();
    let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n";
    let text = format!("{head}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    if stream.write_all(text.as_bytes()).await.is_ok() {
        let _ = stream.shutdown().await;
        // What was asked is read away: else the system would reset the connection, and the answer with it.
        let mut sink = [0; 4096];
        while let Ok(1..) = tokio::io::AsyncReadExt::read(&mut stream, &mut sink).await {}
    }
}

/// What a connection needs to be served.
struct Served {
    router: Router,
    builder: Builder<TokioExecutor>,
    watcher: hyper_util::server::graceful::Watcher,
    peer: Peer,
    held: Held,
    /// What becomes of the patience with it once it has asked for something.
    patience: (Arc<AtomicU64>, u64),
}

impl Served {
    async fn run<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let Served { router, builder, watcher, peer, held, patience } = self;
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            patience.0.store(patience.1, Relaxed);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(held.clone());
            router.clone().call(request)
        });
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(connection.into_owned()).await {
            // Mostly somebody who has gone.
            tracing::debug!(peer = %peer.address, %error, "connection");
        }
    }
}
