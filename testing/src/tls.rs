//! A TLS server for tests: HTTP/1.1, and HTTP/2 by negotiation. Counts handshakes, and concurrent requests.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{HeaderMap, Request, Response, Version, header, http, service};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A certificate authority that no machine trusts by default.
pub struct TestAuthority(CertifiedIssuer<'static, KeyPair>);

impl TestAuthority {
    /// Generates a key and a self-signed certificate.
    pub fn generate() -> TestAuthority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        TestAuthority(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// Its own certificate, for clients that should trust it.
    pub fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    /// The configuration of a server with these names and protocols.
    pub fn config(&self, names: &[&str], protocols: &[&str]) -> ServerConfig {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain = vec![certificate.der().clone()];
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_no_client_auth().with_single_cert(chain, key);
        let mut config = config.expect("its key");
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    }
}

/// A request, as received.
#[derive(Debug, Clone)]
pub struct TlsRequest {
    pub version: Version,
    /// Path and query.
    pub path: String,
    pub headers: HeaderMap,
}

impl TlsRequest {
    /// The requested range: its first byte, and one past the last; `None` without a `Range` header.
    pub fn range(&self) -> Option<(u64, u64)> {
        range(&self.headers)
    }
}

fn range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let range = headers.get(header::RANGE)?.to_str().ok()?;
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse::<u64>().ok()?.saturating_add(1)))
}

#[derive(Default)]
struct TlsServerState {
    files: Mutex<HashMap<String, Bytes>>,
    redirects: Mutex<HashMap<String, String>>,
    requests: Mutex<Vec<TlsRequest>>,
    connections: AtomicU64,
    handshakes: AtomicU64,
    open: AtomicU64,
    most_open: AtomicU64,
    in_flight: AtomicU64,
    most_in_flight: AtomicU64,
    /// Milliseconds that each answer takes.
    pause: AtomicU64,
}

/// Listens on a port of its own until it is dropped.
pub struct TlsServer {
    address: SocketAddr,
    state: Arc<TlsServerState>,
    _runtime: Runtime,
}

impl TlsServer {
    /// A server for 127.0.0.1 and localhost. `protocols` are ALPN names, in the order of preference.
    pub fn start(authority: &TestAuthority, protocols: &[&str]) -> TlsServer {
        TlsServer::named(authority, &["127.0.0.1", "localhost"], protocols)
    }

    /// A server with a certificate for these names.
    pub fn named(authority: &TestAuthority, names: &[&str], protocols: &[&str]) -> TlsServer {
        let acceptor = TlsAcceptor::from(Arc::new(authority.config(names, protocols)));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(TlsServerState::default());
        let own = Arc::clone(&state);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                own.connections.fetch_add(1, SeqCst);
                tokio::spawn(connection(Arc::clone(&own), acceptor.clone(), stream));
            }
        });
        TlsServer { address, state, _runtime: runtime }
    }

    /// Adds or replaces a file, and returns its address.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> String {
        self.state.files.lock().expect("no panic").insert(format!("/{name}"), bytes.into());
        self.at(name)
    }

    /// Adds a file again under another name, and returns that address.
    pub fn put_again(&self, name: &str, again: &str) -> String {
        let mut files = self.state.files.lock().expect("no panic");
        let bytes = files.get(&format!("/{name}")).expect("it is there").clone();
        files.insert(format!("/{again}"), bytes);
        drop(files);
        self.at(again)
    }

    /// Redirects requests for a name to another address.
    pub fn redirect(&self, name: &str, to: &str) -> String {
        self.state.redirects.lock().expect("no panic").insert(format!("/{name}"), to.to_owned());
        self.at(name)
    }

    /// The address of a file with this name, which need not exist.
    pub fn at(&self, name: &str) -> String {
        format!("https://{}/{name}", self.address)
    }

    /// Delays every later response by this time, in whole milliseconds.
    pub fn slow_down(&self, pause: Duration) {
        self.state.pause.store(pause.as_millis() as u64, SeqCst);
    }

    /// Removes and returns the requests since the last call.
    pub fn take_requests(&self) -> Vec<TlsRequest> {
        std::mem::take(&mut self.state.requests.lock().expect("no panic"))
    }

    /// The number of accepted connections since the start.
    pub fn connections(&self) -> u64 {
        self.state.connections.load(SeqCst)
    }

    /// The number of completed TLS handshakes since the start.
    pub fn handshakes(&self) -> u64 {
        self.state.handshakes.load(SeqCst)
    }

    /// The greatest number of connections that were open at one time.
    pub fn most_open(&self) -> u64 {
        self.state.most_open.load(SeqCst)
    }

    /// The greatest number of requests that were in flight at one time.
    pub fn most_in_flight(&self) -> u64 {
        self.state.most_in_flight.load(SeqCst)
    }
}

async fn connection(state: Arc<TlsServerState>, acceptor: TlsAcceptor, stream: TcpStream) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    state.handshakes.fetch_add(1, SeqCst);
    let open = state.open.fetch_add(1, SeqCst) + 1;
    state.most_open.fetch_max(open, SeqCst);
    let is_second = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let own = Arc::clone(&state);
    let service = service::service_fn(move |request| answer(Arc::clone(&own), request));
    let stream = TokioIo::new(stream);
    if is_second {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
    }
    state.open.fetch_sub(1, SeqCst);
}

async fn answer(state: Arc<TlsServerState>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let now = state.in_flight.fetch_add(1, SeqCst) + 1;
    state.most_in_flight.fetch_max(now, SeqCst);
    let path = request.uri().path_and_query().map_or(String::new(), ToString::to_string);
    let received = TlsRequest { version: request.version(), path, headers: request.headers().clone() };
    state.requests.lock().expect("no panic").push(received);
    let pause = state.pause.load(SeqCst);
    tokio::time::sleep(Duration::from_millis(pause)).await;
    let response = respond(&state, &request).unwrap_or_else(|_| Response::new(Full::default()));
    state.in_flight.fetch_sub(1, SeqCst);
    Ok(response)
}

fn respond(state: &TlsServerState, request: &Request<Incoming>) -> http::Result<Response<Full<Bytes>>> {
    let path = request.uri().path();
    if let Some(to) = state.redirects.lock().expect("no panic").get(path) {
        return Response::builder().status(302).header(header::LOCATION, to).body(Full::default());
    }
    let files = state.files.lock().expect("no panic");
    let Some(bytes) = files.get(path) else { return Response::builder().status(404).body(Full::default()) };
    let len = bytes.len() as u64;
    let range = range(request.headers()).map(|(start, end)| (start as usize, end.min(len) as usize));
    let Some((start, end)) = range.filter(|(start, end)| start < end) else {
        return Response::builder().status(416).body(Full::default());
    };
    let content_range = format!("bytes {start}-{}/{}", end - 1, bytes.len());
    let response =
        Response::builder().status(206).header(header::CONTENT_RANGE, content_range).header(header::ETAG, "\"1\"");
    response.body(Full::new(bytes.slice(start..end)))
}
