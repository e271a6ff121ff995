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
use axum::response::Response;

use super::Shared;
use super::admission::Client;
use super::listen::Held;
use super::problem::Problem;
use session::Session;

/// The subprotocol that pages name beside their token.
const SUBPROTOCOL: &str = "bucket-streamer";

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
    Extension(held): Extension<Held>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    if shared.is_draining() {
        return Err(Problem::draining());
    }
    let upgrade = upgrade.map_err(|rejection| Problem::bad_parameter(rejection.body_text()))?;
    let limit = shared.config.message;
    // Pictures go out one by one: what is written waits for nothing.
    let upgrade = upgrade.protocols([SUBPROTOCOL]).max_message_size(limit).max_frame_size(limit).write_buffer_size(0);
    Ok(upgrade.on_upgrade(move |socket| async move {
        shared.websockets.fetch_add(1, Relaxed);
        let counted = Counted { shared: Arc::clone(&shared), _held: held };
        Session::new(shared, client).run(socket).await;
        drop(counted);
    }))
}
