//! The state of the server: for orchestrators (health, readiness), operators (metrics) and authors of clients
//! (OpenAPI).

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::{Extension, State as Extract};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;
use utoipa::OpenApi;

use super::{frame, reply, storyboard, videos};
use crate::auth::Principal;
use crate::metrics::{CONTENT_TYPE, MetricsSnapshot};
use crate::problem::Problem;
use crate::server_state::ServerState;

/// The result of a health check, part by part.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Report {
    ok: bool,
    checks: Vec<Check>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Check {
    name: &'static str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl Check {
    fn of(name: &'static str, why: Option<String>) -> Check {
        Check { name, ok: why.is_none(), why }
    }
}

fn report(checks: Vec<Check>) -> Response {
    let report = Report { ok: checks.iter().all(|check| check.ok), checks };
    let json = serde_json::to_vec(&report).unwrap_or_default();
    let mut response = reply::bytes("application/json", json.into());
    if !report.ok {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether the process is healthy. It is not if many requests in a row have ended without any result after a long time.
#[utoipa::path(get, path = "/health", operation_id = "health", responses(
    (status = 200, description = "The process is healthy", body = Report), (status = 503, description = "The process should be restarted", body = Report),
))]
pub(super) async fn health(Extract(shared): Extract<Arc<ServerState>>) -> Response {
    report(vec![Check::of("decoders", shared.stuck_reason())])
}

/// Whether the server should get requests: it should not if it is about to end, if folders of its roots are missing, or
/// if its request queue is full.
#[utoipa::path(get, path = "/ready", operation_id = "ready", responses(
    (status = 200, description = "The server is ready", body = Report), (status = 503, description = "The server should get no requests now", body = Report),
))]
pub(super) async fn ready(Extract(shared): Extract<Arc<ServerState>>) -> Response {
    let is_ending = shared.is_stopping.load(Relaxed) || shared.is_draining();
    let draining = is_ending.then(|| "the server is shutting down".to_owned());
    let is_full = |load: super::super::admission::AdmissionLoad| load.waiting > 0 && load.waiting >= load.max_waiting;
    let full = shared.stills.admissions().iter().any(|(_, admission)| is_full(admission.load()));
    let full = full.then(|| "the request queue is full".to_owned());
    let roots = Arc::clone(&shared.roots);
    // The route needs no credentials, but limited credentials must not reveal the names of all roots.
    let may_name_roots = !shared.authenticator.is_limited();
    let missing = tokio::task::spawn_blocking(move || {
        let missing = roots.missing();
        match may_name_roots || missing.is_empty() {
            true => missing.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", "),
            false => format!("{} roots", missing.len()),
        }
    })
    .await
    .unwrap_or_default();
    let missing = (!missing.is_empty()).then(|| format!("folders of these roots cannot be read: {missing}"));
    report(vec![
        Check::of("draining", draining),
        Check::of("queue", full),
        Check::of("roots", missing),
        Check::of("decoders", shared.stuck_reason()),
    ])
}

/// Metrics for Prometheus.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", responses(
    (status = 200, description = "OpenMetrics", content_type = "application/openmetrics-text"),
    (status = 403, description = "The token or signature reaches only a part of the videos", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn metrics(
    Extract(shared): Extract<Arc<ServerState>>,
    Extension(principal): Extension<Principal>,
) -> Result<Response, Problem> {
    // Metrics include the requests of all clients; therefore limited credentials may not read them.
    if !shared.authenticator.reach(&principal).is_all() {
        return Err(Problem::out_of_reach());
    }
    let text = shared.metrics.text(&snapshot(&shared));
    Ok(reply::bytes(CONTENT_TYPE, text.into()))
}

fn snapshot(shared: &ServerState) -> MetricsSnapshot {
    let (still_bytes, stills) = shared.stills.cache_size();
    let (work, held, opening) = (shared.engine.work(), shared.engine.checkpoints(), shared.videos.load());
    let pictures = shared.engine.pictures_in_work();
    let load = |(name, admission): &(&'static str, &Arc<super::super::admission::Admission>)| {
        let load = admission.load();
        (*name, load.running, load.waiting)
    };
    MetricsSnapshot {
        admissions: shared
            .stills
            .admissions()
            .iter()
            .map(load)
            .chain([("opening", opening.running, opening.waiting)])
            .collect(),
        still_bytes,
        stills,
        videos: shared.videos.catalog.count(),
        index_bytes: shared.videos.catalog.held_bytes(),
        fetched_held_bytes: shared.roots.held_bytes(),
        fetched_bytes: bucket_streamer::source::fetched_bytes(),
        checkpoint_bytes: held.bytes,
        picture_bytes: pictures.bytes,
        picture_budget_bytes: shared.engine.picture_memory(),
        picture_waiting: pictures.waiting,
        checkpoints: held.checkpoints,
        decoded_pictures: work.decoded_pictures,
        forks: work.forks,
        device_frames: work.device_frames,
        checkpoints_taken: work.checkpoints,
        resident_bytes: bucket_streamer::resident_bytes().unwrap_or(0),
        connections: shared.connections.load(Relaxed),
        websockets: shared.websockets.load(Relaxed),
        reply_bytes: shared.reply_memory.used(),
        files: bucket_streamer::source::open_files(),
    }
}

/// The OpenAPI document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "bucket-streamer",
        description = "Exact random access to the frames of videos. `/ws` is a WebSocket: docs/serving.md describes its messages.",
    ),
    paths(
        videos::list,
        videos::info,
        frame::by_path,
        frame::by_query,
        storyboard::get,
        crate::ws::open,
        health,
        ready,
        metrics,
    ),
    components(schemas(Problem))
)]
struct ApiDocument;

/// The OpenAPI document that `/openapi.json` serves, as JSON.
pub fn openapi() -> String {
    ApiDocument::openapi().to_json().unwrap_or_default()
}

pub(super) async fn document() -> Response {
    reply::bytes("application/json", Bytes::from(openapi()))
}
