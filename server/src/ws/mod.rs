//! `/ws`: many frames over one connection.
//!
//! `protocol` has the messages. `session` reads them into the `request_queue` and processes it, `batch` answers a batch
//! of items, `writer` sends messages and pings.

mod batch;
mod protocol;
mod request_queue;
mod session;
mod writer;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, State as Extract};
use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};
use axum::response::Response;
use tracing::Instrument;

use super::admission::RequestClient;
use super::auth::Principal;
use super::connection::ConnectionSlot;
use super::problem::Problem;
use super::server_state::ServerState;
use session::SocketSession;

/// The subprotocol that pages offer in addition to the one with their token: browsers require that the server selects
/// one of them, and the response must not repeat the token.
const SUBPROTOCOL: &str = "bucket-streamer";

/// Bytes that the socket buffers before it writes them.
const WRITE_BUFFER: usize = 4 << 10;

/// Counts a WebSocket until dropped, and holds its connection's slot.
struct WebSocketCount {
    shared: Arc<ServerState>,
    _slot: ConnectionSlot,
}

impl Drop for WebSocketCount {
    fn drop(&mut self) {
        self.shared.websockets.fetch_sub(1, Relaxed);
    }
}

/// A WebSocket for scrubbing and streams of frames; docs/serving.md describes its messages.
#[utoipa::path(get, path = "/ws", operation_id = "ws", responses(
    (status = 101, description = "The connection is a WebSocket now"),
    (status = 400, description = "The request is not a WebSocket upgrade", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn open(
    Extract(shared): Extract<Arc<ServerState>>,
    Extension(client): Extension<RequestClient>,
    Extension(principal): Extension<Principal>,
    Extension(slot): Extension<ConnectionSlot>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    if shared.is_draining() {
        return Err(Problem::draining());
    }
    let upgrade = upgrade.map_err(|rejection| Problem::bad_parameter(rejection.body_text()))?;
    if !is_allowed_origin(&headers, &shared.config.cors_origins) {
        return Err(Problem::forbidden("pages of this origin are not allowed (see --cors-origin)"));
    }
    let limit = shared.config.message;
    // The buffer holds the message before a picture, so that both are written together; pictures exceed it.
    let upgrade = upgrade.max_message_size(limit).max_frame_size(limit).write_buffer_size(WRITE_BUFFER);
    let upgrade = upgrade.protocols([SUBPROTOCOL]);
    let span = tracing::Span::current();
    let serve = move |socket| async move {
        shared.websockets.fetch_add(1, Relaxed);
        let count = WebSocketCount { shared: Arc::clone(&shared), _slot: slot };
        SocketSession::new(shared, client, principal).run(socket).await;
        drop(count);
    };
    Ok(upgrade.on_upgrade(move |socket| serve(socket).instrument(span)))
}

/// Whether a request comes from the server's own page, from an allowed origin, or from no page. Browsers allow every
/// page to open WebSockets to any server, and send the page's origin (RFC 6455, section 10.2).
fn is_allowed_origin(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let own = headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_some_and(|authority| own.is_some_and(|own| own.eq_ignore_ascii_case(authority)))
        || allowed.iter().any(|one| one == "*" || one.eq_ignore_ascii_case(origin))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::{HOST, HeaderMap, ORIGIN, is_allowed_origin};

    #[test]
    fn pages_of_other_origins_are_refused() {
        let of = |origin: Option<&str>, allowed: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("frames.example:3000"));
            origin.map(|origin| headers.insert(ORIGIN, HeaderValue::from_str(origin).unwrap()));
            is_allowed_origin(&headers, &allowed.iter().map(|&one| one.to_owned()).collect::<Vec<_>>())
        };
        assert!(
            of(None, &[])
                && of(Some("http://frames.example:3000"), &[])
                && of(Some("https://Frames.example:3000"), &[])
        );
        for other in ["http://evil.example", "http://frames.example", "null", "http://frames.example:3000.evil.example"]
        {
            assert!(!of(Some(other), &[]), "{other}");
            assert!(of(Some(other), &["*"]) && of(Some(other), &["https://x", other]), "{other}");
        }
    }
}
