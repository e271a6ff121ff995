//! `/ws`: many frames over one connection.
//!
//! `protocol` has the messages, `agenda` what is still to be answered and in which order; `session` reads the one into the
//! other and works it off, `portion` answers some frames of one request, `outlet` sends.

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

/// The subprotocol that pages name beside their token.
const SUBPROTOCOL: &str = "bucket-streamer";

/// Bytes that wait for more before they are written.
const WRITE_BUFFER: usize = 4 << 10;

/// Counts a WebSocket as long as it lives, and keeps its place among connections.
struct Counted {
    shared: Arc<Shared>,
    _held: Held,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.websockets.fetch_sub(1, Relaxed);
    }
}

/// A WebSocket for scrubbing and streams of frames; docs/serving.md has its messages.
#[utoipa::path(get, path = "/ws", operation_id = "ws", responses(
    (status = 101, description = "From here on messages are WebSocket's"),
    (status = 400, description = "It is no WebSocket's request", body = Problem, content_type = "application/problem+json"),
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
        return Err(Problem::forbidden("pages of this origin may not use it (--cors-origin)"));
    }
    let limit = shared.config.message;
    // The message before a picture goes with it; a picture waits for nothing.
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

/// Does a request come from our own page, from one that is allowed, or from no page at all? Browsers let every page open
/// WebSockets to everywhere, and say which page it is.
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
