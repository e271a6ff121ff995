//! HTTP clients: connection pools, and the state that their sources share. Requests are left to `request`.

use std::collections::HashMap;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, OnceLock, PoisonError};

#[cfg(feature = "stores")]
use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::address::without_secrets;
use super::cache::Cache;
#[cfg(feature = "stores")]
use super::document;
use super::host::HostLimiter;
use super::http::HttpSource;
use super::options::HttpOptions;
use super::public::PublicAddresses;
use super::request::{self, Endpoint, Origin};
use super::runtime::runtime;
#[cfg(feature = "stores")]
use super::signer::RequestSigner;
use super::tls;
use crate::error::{Error, ErrorKind, Result};
use crate::process::{PerProcess, ProcessBound};
use crate::source::{ReadCounters, Refusal, opening};
use crate::sync::unmodelled::Mutex;

static SHARED: OnceLock<HttpClient> = OnceLock::new();

/// An HTTP client. Its sources share connections and a cache. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpClient {
    options: HttpOptions,
    /// A child process after `fork` makes its own state: the parent's connections and their threads are not usable
    /// there.
    state: ProcessBound<PerProcess<ClientState>>,
}

/// State shared by the sources of a client within a process.
#[derive(Debug)]
struct ClientState {
    connections: Arc<ClientPool>,
    cache: Arc<Cache>,
    hosts: Mutex<HashMap<String, Arc<HostLimiter>>>,
}

impl ClientState {
    fn new(options: &HttpOptions) -> Result<ClientState> {
        let connections = Arc::new(ClientPool::new(options)?);
        Ok(ClientState { connections, cache: Arc::new(Cache::new(options.cache)), hosts: Mutex::default() })
    }
}

impl HttpClient {
    /// A client with connections of its own.
    ///
    /// # Errors
    /// `Remote` if a certificate or a header of the options is not valid.
    pub fn new(options: HttpOptions) -> Result<HttpClient> {
        let state = ProcessBound::new(PerProcess::of(ClientState::new(&options)?));
        Ok(HttpClient { options, state })
    }

    fn state(&self) -> Result<&ClientState> {
        self.state.get_or_try_init(|| ClientState::new(&self.options))
    }

    /// Bytes that all sources of this client keep in memory now.
    pub fn held_bytes(&self) -> u64 {
        self.state().map_or(0, |state| state.cache.held())
    }

    /// The limits and statistics of an endpoint's server; a bucket counts as a server.
    fn host(&self, state: &ClientState, endpoint: &Endpoint) -> Arc<HostLimiter> {
        let name = match endpoint {
            Endpoint::Fixed(url, _) => url.origin().ascii_serialization(),
            #[cfg(feature = "stores")]
            Endpoint::Store(authority) => authority.bucket(),
        };
        let mut hosts = state.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(hosts.entry(name).or_insert_with(|| Arc::new(HostLimiter::new(&self.options))))
    }

    /// The client of the process, with default options unless another one was [shared](HttpClient::share).
    ///
    /// # Errors
    /// As [`HttpClient::new`].
    pub fn shared() -> Result<HttpClient> {
        match SHARED.get() {
            Some(shared) => Ok(shared.clone()),
            None => {
                let built = HttpClient::new(HttpOptions::default())?;
                Ok(SHARED.get_or_init(|| built).clone())
            }
        }
    }

    /// Makes this client the shared one of the process, which [`source::open`](crate::source::open) uses. False,
    /// without effect, if there is one already.
    pub fn share(self) -> bool {
        SHARED.set(self).is_ok()
    }

    /// Opens the file at an `http://` or `https://` address with one request, which also brings the first bytes. Blocks
    /// until they arrive, or the limits of [`HttpOptions`] are reached.
    ///
    /// # Errors
    /// `Remote`, with the reason.
    pub fn open(&self, address: &str) -> Result<HttpSource> {
        let url = Url::parse(address).map_err(|error| refused(Refusal::Address(error.to_string())))?;
        let name = without_secrets(&url);
        self.open_url(url, &name).map_err(|error| error.of(&name))
    }

    /// As [`HttpClient::open`], with `name` instead of the address as the name of the source and in messages.
    ///
    /// # Errors
    /// As [`HttpClient::open`].
    pub fn open_as(&self, address: &str, name: &str) -> Result<HttpSource> {
        let url = Url::parse(address).map_err(|error| refused(Refusal::Address(error.to_string())).of(name))?;
        self.open_url(url, name).map_err(|error| error.of(name))
    }

    fn open_url(&self, url: Url, name: &str) -> Result<HttpSource> {
        let endpoint = Endpoint::Fixed(url.clone(), headers(&self.options)?);
        let (client, own) = (self.clone(), name.to_owned());
        Ok(self.open_place(endpoint, name)?.with_reopener(move || client.open_url(url.clone(), &own)))
    }

    /// Opens the object whose requests `signer` signs.
    #[cfg(feature = "stores")]
    pub(super) fn open_signed(&self, signer: Arc<dyn RequestSigner>, name: &str) -> Result<HttpSource> {
        self.open_place(Endpoint::Store(signer), name)
    }

    #[cfg(feature = "stores")]
    pub(super) fn client(&self) -> Result<&Client> {
        let connections = &self.state()?.connections;
        Ok(connections.secure().unwrap_or(&connections.plain))
    }

    fn origin(&self, endpoint: Endpoint) -> Result<Origin> {
        let state = self.state()?;
        let (connections, options) = (Arc::clone(&state.connections), self.options.clone());
        let host = self.host(state, &endpoint);
        Ok(Origin { connections, endpoint, host, options })
    }

    /// Fetches the document whose requests `signer` signs, if it has at most `limit` bytes: without ranges, and without
    /// the cache.
    #[cfg(feature = "stores")]
    pub(super) fn document(&self, signer: Arc<dyn RequestSigner>, limit: usize) -> Result<Bytes> {
        let origin = self.origin(Endpoint::Store(signer))?;
        let (sender, receiver) = std::sync::mpsc::channel();
        runtime().map_err(refused)?.spawn(async move {
            let _ = sender.send(document::fetch(&origin, limit).await);
        });
        let broken = |_| refused(Refusal::Connection("the network thread has ended".to_owned()));
        Ok(receiver.recv().map_err(broken)??)
    }

    fn open_place(&self, endpoint: Endpoint, name: &str) -> Result<HttpSource> {
        let origin = self.origin(endpoint)?;
        let counters = Arc::new(ReadCounters::default());
        let runtime = runtime().map_err(refused)?;
        let (sender, receiver) = std::sync::mpsc::channel();
        let own = Arc::clone(&counters);
        let task = runtime.spawn(async move {
            let opened = request::open(&origin, &own).await;
            let _ = sender.send((origin, opened));
        });
        let broken = || refused(Refusal::Connection("the network thread has ended".to_owned()));
        let (origin, opened) = loop {
            match receiver.recv_timeout(opening::LOOK) {
                Ok(result) => break result,
                Err(RecvTimeoutError::Disconnected) => return Err(broken()),
                Err(RecvTimeoutError::Timeout) => opening::check(counters.now().bytes).inspect_err(|_| task.abort())?,
            }
        };
        let (version, opened) = opened?;
        Ok(HttpSource::new(name, origin, version, opened, counters, &self.state()?.cache))
    }
}

/// Connection pools without and with TLS. The latter is made at its first use: to read the system's certificates takes
/// longer than a request to a near server.
#[derive(Debug)]
pub(super) struct ClientPool {
    plain: Client,
    secure: OnceLock<Client>,
    /// For redirects away from the requested server, to public addresses only; made at the first redirect.
    plain_public: OnceLock<Client>,
    secure_public: OnceLock<Client>,
    roots: Vec<CertificateDer<'static>>,
    options: HttpOptions,
}

impl ClientPool {
    fn new(options: &HttpOptions) -> Result<ClientPool> {
        let plain = builder(options).tls_backend_preconfigured(tls::without_roots()).build().map_err(unusable)?;
        let (secure, plain_public, secure_public) = Default::default();
        Ok(ClientPool { plain, secure, plain_public, secure_public, roots: roots(options)?, options: options.clone() })
    }

    /// The pool for the server of an address.
    pub(super) fn client_for(&self, url: &Url) -> std::result::Result<&Client, Refusal> {
        if url.scheme() == "https" { self.secure() } else { Ok(&self.plain) }
    }

    /// The pool for redirects to other servers: to public addresses only.
    pub(super) fn public_client_for(&self, url: &Url) -> std::result::Result<&Client, Refusal> {
        // No proxy: it would resolve the name itself, unchecked.
        let builder = || builder(&self.options).no_proxy().dns_resolver(PublicAddresses);
        match url.scheme() {
            "https" => {
                get_or_build(&self.secure_public, || Ok(builder().tls_backend_preconfigured(tls::with(&self.roots)?)))
            }
            _ => get_or_build(&self.plain_public, || Ok(builder().tls_backend_preconfigured(tls::without_roots()))),
        }
    }

    fn secure(&self) -> std::result::Result<&Client, Refusal> {
        get_or_build(&self.secure, || Ok(builder(&self.options).tls_backend_preconfigured(tls::with(&self.roots)?)))
    }

    /// Whether redirects to private addresses are allowed.
    pub(super) fn allows_private_redirects(&self) -> bool {
        self.options.private_redirects
    }
}

/// A client made at its first use.
fn get_or_build(
    place: &OnceLock<Client>,
    make: impl FnOnce() -> std::result::Result<ClientBuilder, Refusal>,
) -> std::result::Result<&Client, Refusal> {
    if let Some(client) = place.get() {
        return Ok(client);
    }
    let built = make()?.build().map_err(|error| Refusal::Connection(error.without_url().to_string()))?;
    Ok(place.get_or_init(|| built))
}

fn builder(options: &HttpOptions) -> ClientBuilder {
    // `redirect` follows redirects, since it knows which headers each server may see.
    Client::builder()
        .user_agent(concat!("bucket-streamer/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(options.connect_timeout)
        .redirect(Policy::none())
        .pool_max_idle_per_host(options.connections)
        .tcp_nodelay(true)
}

fn unusable(error: reqwest::Error) -> Error {
    refused(Refusal::Connection(error.without_url().to_string()))
}

/// Certificates trusted in addition to the system's.
fn roots(options: &HttpOptions) -> Result<Vec<CertificateDer<'static>>> {
    let mut roots = options.ca_file.as_deref().map_or(Ok(Vec::new()), |file| {
        std::fs::read(file)
            .map_err(|error| {
                refused(Refusal::Certificates { file: file.display().to_string(), why: error.to_string() })
            })
            .and_then(|pem| certificates(&pem, &file.display().to_string()))
    })?;
    for pem in &options.roots {
        roots.extend(certificates(pem, "given")?);
    }
    Ok(roots)
}

fn certificates(pem: &[u8], file: &str) -> Result<Vec<CertificateDer<'static>>> {
    let useless = |why: String| refused(Refusal::Certificates { file: file.to_owned(), why });
    let certificates: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|error| useless(error.to_string()))?;
    if certificates.is_empty() { Err(useless("it contains none".to_owned())) } else { Ok(certificates) }
}

fn headers(options: &HttpOptions) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &options.headers {
        let senseless = || refused(Refusal::Address(format!("{name:?} with its value is not a valid header")));
        let name = HeaderName::try_from(name).map_err(|_| senseless())?;
        let mut value = HeaderValue::try_from(value).map_err(|_| senseless())?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

pub(super) fn refused(refusal: Refusal) -> Error {
    ErrorKind::Remote(refusal).into()
}
