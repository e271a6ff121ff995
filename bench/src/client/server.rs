//! The server: connections, and its list and descriptions of videos. `http` and `ws` request frames.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

use super::address::ServerAddress;
use crate::host::BenchContext;

/// Timeout for a connection, including TLS.
const CONNECT: Duration = Duration::from_secs(10);
/// Most bytes of a message.
const LARGEST: usize = 256 << 20;

/// A connection that speaks WebSocket.
pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A server's description of a video: some fields of `info --json`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RemoteVideoInfo {
    pub(super) frames: u32,
    #[serde(default)]
    pub(super) container: String,
    #[serde(default)]
    pub(super) codec: String,
    #[serde(default)]
    pub(super) width: usize,
    #[serde(default)]
    pub(super) height: usize,
    pub(super) pixel_format: Option<String>,
    #[serde(default)]
    pub(super) keyframes: usize,
}

/// The address of a server, and the options for connecting.
pub(super) struct ServerEndpoint {
    pub(super) address: ServerAddress,
    pub(super) timeout: Duration,
    headers: HeaderMap,
    tls: Option<Arc<ClientConfig>>,
}

impl ServerEndpoint {
    /// # Errors
    /// Invalid headers and certificates, as a message for the user.
    pub(super) fn new(
        address: ServerAddress,
        context: &BenchContext,
        timeout: Duration,
    ) -> Result<ServerEndpoint, String> {
        // A provider of cryptography that was installed before stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        for (name, value) in &context.headers {
            // The error omits the value: it may be a secret.
            let invalid = || format!("{name:?} and its value are not a valid header");
            let name = HeaderName::try_from(name).map_err(|_| invalid())?;
            let mut value = HeaderValue::try_from(value).map_err(|_| invalid())?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        let tls = if address.is_secure() { Some(Arc::new(tls(context)?)) } else { None };
        Ok(ServerEndpoint { address, timeout, headers, tls })
    }

    /// A client with one keep-alive connection of its own.
    ///
    /// # Errors
    /// The system's error.
    pub(super) fn client(&self) -> Result<Client, String> {
        // No proxy: the server is measured, and WebSocket would not use the proxy either.
        let builder = Client::builder()
            .user_agent(concat!("bucket-streamer/", env!("CARGO_PKG_VERSION")))
            .default_headers(self.headers.clone())
            .connect_timeout(CONNECT)
            .timeout(self.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(1)
            .tcp_nodelay(true)
            .http1_only()
            .no_proxy();
        let builder = match &self.tls {
            Some(tls) => builder.tls_backend_preconfigured(ClientConfig::clone(tls)),
            // Plain HTTP needs no certificates, and loading the system's takes time.
            None => builder.tls_certs_only([]),
        };
        builder.build().map_err(|error| root_cause(&error))
    }

    /// A connection to `/ws`.
    ///
    /// # Errors
    /// The reason why the connection failed.
    pub(super) async fn socket(&self) -> Result<Socket, String> {
        let address = self.address.ws();
        let mut request = address.as_str().into_client_request().map_err(|error| root_cause(&error))?;
        request.headers_mut().extend(self.headers.clone());
        let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
        let connector = self.tls.clone().map_or(Connector::Plain, Connector::Rustls);
        let connect = tokio_tungstenite::connect_async_tls_with_config(request, Some(config), true, Some(connector));
        match tokio::time::timeout(CONNECT.min(self.timeout), connect).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(error)) => Err(root_cause(&error)),
            Err(_) => Err("no connection in time".to_owned()),
        }
    }

    /// The first video of the server's list.
    ///
    /// # Errors
    /// The reason why it is unknown, as a message for the user.
    pub(super) async fn first_video(&self, client: &Client) -> Result<String, String> {
        let listed: Value = self.get(client, None).await?;
        // A list, or a page with a list; of names, or of objects with names.
        let list = listed.as_array().or_else(|| listed["videos"].as_array()).or_else(|| listed["items"].as_array());
        let first = list.and_then(|list| list.first()).ok_or("the server has no videos")?;
        let name = ["video", "path", "name", "id"].iter().find_map(|field| first[*field].as_str()).or(first.as_str());
        name.map(str::to_owned).ok_or_else(|| "the server's list of videos has no names: give --video-path".into())
    }

    /// The server's description of a video.
    ///
    /// # Errors
    /// The reason why it is unknown, as a message for the user.
    pub(super) async fn info(&self, client: &Client, video: &str) -> Result<RemoteVideoInfo, String> {
        self.get(client, Some(video)).await
    }

    async fn get<T: for<'a> Deserialize<'a>>(&self, client: &Client, video: Option<&str>) -> Result<T, String> {
        let response = client.get(self.address.videos(video)).send().await.map_err(|error| root_cause(&error))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| root_cause(&error))?;
        match status {
            StatusCode::OK => {
                serde_json::from_slice(&body).map_err(|error| format!("the server's response is invalid: {error}"))
            }
            StatusCode::NOT_FOUND if video.is_some() => Err("the server has no such video".to_owned()),
            _ => Err(describe_refusal(status, &body)),
        }
    }
}

/// Describes a response that is no success, with the title of its problem document.
pub(super) fn describe_refusal(status: StatusCode, body: &[u8]) -> String {
    let problem: Option<Value> = serde_json::from_slice(body).ok();
    let field_text = |field: &str| problem.as_ref()?[field].as_str().map(str::to_owned);
    // Only the first line: the rest of a body is not for a terminal.
    match field_text("title") {
        Some(title) => format!("{}: {}", status.as_u16(), title.lines().next().unwrap_or_default()),
        None => format!("{}", status.as_u16()),
    }
}

/// The innermost error: outer ones only say that something failed.
pub(super) fn root_cause(error: &dyn Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// Trusts the system's certificates, and those of `--ca-file`.
fn tls(context: &BenchContext) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = &context.ca_file {
        let invalid = |why: String| format!("--ca-file {}: {why}", file.display());
        let pem = std::fs::read(file).map_err(|error| invalid(error.to_string()))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
            roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    // WebSocket needs HTTP/1.1; and with HTTP/2 all callers could share one connection.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
