//! `/ws`: many frames over one connection.
//!
//! `protocol` has the messages, `agenda` is the request queue; `session` reads messages into the queue and processes
//! it, `portion` answers a batch of items, `outlet` is the writer.

mod agenda;
mod outlet;
mod portion;
mod protocol;
mod session;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, State as Extract};
use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};
use axum::response::Response;
use tracing::Instrument;

use super::admission::Client;
use super::auth::Visitor;
use super::connection::Held;
use super::problem::Problem;
use super::shared::Shared;
use session::Session;

/// The subprotocol that pages offer beside their token.
const SUBPROTOCOL: &str = "bucket-streamer";

/// Bytes that the socket collects before it writes them.
const WRITE_BUFFER: usize = 4 << 10;

/// Counts a WebSocket until dropped, and keeps its connection's place.
struct Counted {
    shared: Arc<Shared>,
    _held: Held,
}

impl Drop for Counted {
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
    Extract(shared): Extract<Arc<Shared>>,
    Extension(client): Extension<Client>,
    Extension(visitor): Extension<Visitor>,
    Extension(held): Extension<Held>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    if shared.is_draining() {
        return Err(Problem::draining());
    }
    let upgrade = upgrade.map_err(|rejection| Problem::bad_parameter(rejection.body_text()))?;
    if !is_ours(&headers, &shared.config.cors_origins) {
        return Err(Problem::forbidden("pages of this origin are not allowed (see --cors-origin)"));
    }
    let limit = shared.config.message;
    // The message before a picture is written with it; a picture is not buffered.
    let upgrade = upgrade.max_message_size(limit).max_frame_size(limit).write_buffer_size(WRITE_BUFFER);
    let upgrade = upgrade.protocols([SUBPROTOCOL]);
    let span = tracing::Span::current();
    let serve = move |socket| async move {
        shared.websockets.fetch_add(1, Relaxed);
        let counted = Counted { shared: Arc::clone(&shared), _held: held };
        Session::new(shared, client, visitor).run(socket).await;
        drop(counted);
    };
    Ok(upgrade.on_upgrade(move |socket| serve(socket).instrument(span)))
}

/// Whether a request comes from the server's own page, from an allowed origin, or from no page. Browsers let every page
/// open WebSockets to any server, and send the page's origin.
fn is_ours(headers: &HeaderMap, allowed: &[String]) -> bool {
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

    use super::{HOST, HeaderMap, ORIGIN, is_ours};

    #[test]
    fn pages_of_others_stay_out() {
        let of = |origin: Option<&str>, allowed: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("frames.example:3000"));
            origin.map(|origin| headers.insert(ORIGIN, HeaderValue::from_str(origin).unwrap()));
            is_ours(&headers, &allowed.iter().map(|&one| one.to_owned()).collect::<Vec<_>>())
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
