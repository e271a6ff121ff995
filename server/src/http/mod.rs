//! The routes, and the layers around all of them: authentication, request ids, logging and metrics.

mod conditional;
mod frame;
mod page;
mod params;
mod reply;
mod status;
mod storyboard;
mod videos;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State as Extract};
use axum::http::header::{AUTHORIZATION, HeaderName, SEC_WEBSOCKET_PROTOCOL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, Method, Version};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_http::cors::{AllowOrigin, Any, CorsLayer, ExposeHeaders};
use tracing::Instrument;

use super::admission::RequestClient;
use super::auth::{Principal, RequestCredentials};
use super::connection::ConnectionPeer;
use super::problem::{Problem, ProblemKind};
use super::server_state::ServerState;
use super::{streams, ws};

pub use status::openapi;

/// The header with the id of a request, for logs of the server and of the client.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header with the addresses of the client and of proxies.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The longest request id that is accepted from a client.
const LONGEST_ID: usize = 128;
/// Most headers of one request.
pub(super) const HEADERS: usize = 64;
/// Response headers that pages of other origins may read (`Access-Control-Expose-Headers`).
const EXPOSED: [&str; 13] = [
    "etag",
    "link",
    "retry-after",
    "server-timing",
    "x-cache",
    "x-frame-corrupt",
    "x-frame-height",
    "x-frame-index",
    "x-frame-key",
    "x-frame-pts",
    "x-frame-time",
    "x-frame-width",
    "x-request-id",
];

/// The router of all routes. Those that show videos or metrics require authentication.
pub(super) fn router(shared: &Arc<ServerState>) -> Router {
    let guarded = Router::new()
        .route("/videos", get(videos::list))
        .route("/videos/{*video}", get(videos::info))
        .route("/frame", get(frame::by_query))
        .route("/frame/{*video}", get(frame::by_path))
        .route("/storyboard/{*video}", get(storyboard::get))
        .route("/ws", get(ws::open))
        .route("/metrics", get(status::metrics))
        .layer(from_fn_with_state(Arc::clone(shared), authenticate));
    let open = Router::new()
        .route("/", get(page::index))
        .route("/page/{file}", get(page::file))
        .route("/health", get(status::health))
        .route("/ready", get(status::ready))
        .route("/openapi.json", get(status::document));
    let mut all = guarded
        .merge(open)
        .fallback(|| async { Problem::not_found("there is nothing at this address (/openapi.json lists the routes)") })
        .method_not_allowed_fallback(|| async { Problem::bad_method() });
    if !shared.config.cors_origins.is_empty() {
        all = all.layer(cors(&shared.config.cors_origins));
    }
    all.layer(from_fn_with_state(Arc::clone(shared), observe_request)).with_state(Arc::clone(shared))
}

fn cors(origins: &[String]) -> CorsLayer {
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers([AUTHORIZATION, axum::http::header::IF_NONE_MATCH, REQUEST_ID])
        .expose_headers(ExposeHeaders::list(EXPOSED.map(HeaderName::from_static)))
        .max_age(std::time::Duration::from_secs(3600));
    if origins.iter().any(|origin| origin == "*") {
        return layer.allow_origin(Any);
    }
    let origins = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    layer.allow_origin(AllowOrigin::list(origins))
}

/// Authenticates a request, and adds its [`RequestClient`] and its [`Principal`] to the extensions.
async fn authenticate(Extract(shared): Extract<Arc<ServerState>>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let credentials = RequestCredentials {
        path: request.uri().path(),
        query: request.uri().query(),
        authorization: text(headers, &AUTHORIZATION),
        subprotocols: text(headers, &SEC_WEBSOCKET_PROTOCOL),
    };
    let principal = match shared.authenticator.authenticate(&credentials) {
        Ok(principal) => principal,
        Err(problem) => return problem.into_response(),
    };
    let Some(peer) = request.extensions().get::<ConnectionPeer>().copied() else {
        return Problem::internal("the connection has no number").into_response();
    };
    let client_name = match principal {
        Principal::Token(number) => format!("token {}", shared.authenticator.name(number)),
        Principal::Anonymous | Principal::UrlKey(_) => {
            let forwarded = forwarded(headers).filter(|_| shared.config.trust_forwarded);
            address_key(forwarded.unwrap_or(peer.address.ip()))
        }
    };
    let client = shared.clients.client(&client_name, peer.number);
    request.extensions_mut().insert(client.clone());
    request.extensions_mut().insert(principal);
    let mut response = next.run(request).await;
    response.extensions_mut().insert(client);
    response
}

/// The client's address from the nearest proxy: the last address of the last header. Clients can forge the addresses
/// before it.
fn forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all(FORWARDED_FOR).iter().next_back()?.to_str().ok()?;
    last.rsplit(',').next()?.trim().parse().ok()
}

/// The name of a client that is identified by its address. For IPv6 it is the /64 network, since one host can use all
/// addresses of its network.
fn address_key(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("{:x?}", &address.segments()[..4]),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Assigns an id to every request, reserves memory for its response, counts it, and logs its result.
async fn observe_request(Extract(shared): Extract<Arc<ServerState>>, request: Request, next: Next) -> Response {
    let since = Instant::now();
    let route = route(request.uri().path());
    let id = request_id(request.headers());
    // The query is not logged: it may contain a signature.
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let (is_head, is_http2) = (method == Method::HEAD, request.version() == Version::HTTP_2);
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default(), %method, path);
    let peer = request.extensions().get::<ConnectionPeer>().map(|peer| peer.address.ip());
    // HTTP/2 has no limit on the number of headers; that of HTTP/1.1 is in the parser.
    let mut response = match request.headers().len() > HEADERS {
        true => Problem::too_many_headers().into_response(),
        false => next.run(request).instrument(span.clone()).await,
    };
    if is_head {
        streams::no_body();
    } else {
        let known = response.extensions().get::<RequestClient>().map(|client| Arc::clone(&client.name));
        let client_name = known.unwrap_or_else(|| peer.map(address_key).unwrap_or_default().into());
        response = reply::reserve_memory(&shared, &client_name, is_http2, response).await;
    }
    let (status, took) = (response.status(), since.elapsed());
    shared.metrics.request(route, status.as_u16(), took);
    if response.extensions().get::<ProblemKind>() == Some(&ProblemKind::Overloaded) {
        shared.metrics.rejected("queue");
    }
    let _entered = span.enter();
    if status.is_server_error() {
        tracing::warn!(status = status.as_u16(), ms = took.as_secs_f64() * 1e3, "failed");
    } else {
        tracing::debug!(status = status.as_u16(), ms = took.as_secs_f64() * 1e3, "answered");
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The client's request id, if it is short and printable, so that it cannot corrupt logs; else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_fit = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=LONGEST_ID).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    };
    if let Some(sent) = headers.get(REQUEST_ID).filter(is_fit) {
        return sent.clone();
    }
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Relaxed);
    if number == 0 {
        NEXT.store(fastrand::u64(..1 << 48) << 8, Relaxed);
    }
    HeaderValue::from_str(&format!("{number:016x}")).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

/// The name of a route in metrics. Only these names exist, so that arbitrary paths add no time series.
fn route(path: &str) -> &'static str {
    match path.split('/').nth(1).unwrap_or_default() {
        "" | "page" => "page",
        "frame" => "frame",
        "videos" => "videos",
        "storyboard" => "storyboard",
        "ws" => "ws",
        "health" => "health",
        "ready" => "ready",
        "metrics" => "metrics",
        "openapi.json" => "openapi",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::{HeaderMap, HeaderValue, address_key, forwarded};

    #[test]
    fn only_the_address_from_the_nearest_proxy_is_trusted() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            values
                .iter()
                .for_each(|value| _ = headers.append("x-forwarded-for", HeaderValue::from_str(value).unwrap()));
            forwarded(&headers).map(|address| address.to_string())
        };
        assert_eq!(of(&["1.2.3.4, 5.6.7.8"]).as_deref(), Some("5.6.7.8"));
        assert_eq!(of(&["1.2.3.4", "9.9.9.9"]).as_deref(), Some("9.9.9.9"), "a proxy that adds a header of its own");
        assert_eq!(of(&["1.2.3.4, unknown"]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let of = |text: &str| address_key(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::3"), of("2001:db8:1:2:ffff::4"));
        assert_ne!(of("2001:db8:1:2::3"), of("2001:db8:1:3::3"));
        assert_eq!(of("::ffff:1.2.3.4"), of("1.2.3.4"));
    }
}
