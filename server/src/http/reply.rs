//! Responses with bodies, and the headers that describe a still. `reply_memory` has the budget of their memory.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use crate::metrics::StillTiming;
use crate::problem::Problem;
use crate::reply_memory::ReplyReservation;
use crate::server_state::ServerState;
use crate::stills::{CacheOutcome, EncodedStill};
use crate::streams;

/// A 200 response with these bytes as its body.
pub(super) fn bytes(media_type: &'static str, bytes: Bytes) -> Response {
    let length = bytes.len();
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    // Responses to HEAD need the length, too.
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

/// Bodies with fewer bytes do not count in the memory budget: their bookkeeping takes as much.
const SMALL: u64 = 1 << 10;

/// A body with its reservation in the memory budget, which is returned when the body is sent or dropped.
struct ReservedBody {
    bytes: Bytes,
    _reservation: ReplyReservation,
}

impl AsRef<[u8]> for ReservedBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reserves memory for the body of a response, until the body is sent or dropped. Without room it is replaced by a
/// refusal. All responses pass through here. Bodies over HTTP/2 are sent in parts, at the pace of the client.
pub(super) async fn reserve_memory(
    shared: &ServerState,
    client: &Arc<str>,
    is_http2: bool,
    response: Response,
) -> Response {
    if response.body().is_end_stream() {
        streams::no_body();
        return response;
    }
    let (head, body) = response.into_parts();
    // All bodies are already in memory as one piece, so this does not copy.
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        return Problem::internal("a response broke off").into_response();
    };
    let mut reservation = None;
    if bytes.len() as u64 >= SMALL {
        reservation =
            shared.reply_memory.reserve_within(client, bytes.len() as u64, shared.config.deadline / 4).await.ok();
        if reservation.is_none() {
            drop(bytes);
            shared.metrics.rejected("replies");
            let (mut head, body) = Problem::unread_responses().into_response().into_parts();
            // The response with the extensions was counted: a refusal in its place counts as `replies` only.
            head.extensions.clear();
            let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
            return Response::from_parts(head, if is_http2 { streams::body(bytes, None) } else { Body::from(bytes) });
        }
    }
    let body = match reservation {
        reservation if is_http2 => streams::body(bytes, reservation),
        Some(reservation) => Body::from(Bytes::from_owner(ReservedBody { bytes, _reservation: reservation })),
        None => Body::from(bytes),
    };
    Response::from_parts(head, body)
}

fn set_header(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// Sets the headers that describe the frame.
pub(super) fn set_frame_headers(headers: &mut HeaderMap, still: &EncodedStill) {
    set_header(headers, "x-frame-index", &still.frame.to_string());
    set_header(headers, "x-frame-pts", &still.pts.to_string());
    set_header(headers, "x-frame-time", &format!("{:.6}", still.time_s));
    set_header(headers, "x-frame-key", if still.key { "true" } else { "false" });
    set_header(headers, "x-frame-width", &still.size.0.to_string());
    set_header(headers, "x-frame-height", &still.size.1.to_string());
    if still.corrupt {
        set_corrupt_header(headers);
    }
}

/// Marks the response as one with a damaged picture.
pub(super) fn set_corrupt_header(headers: &mut HeaderMap) {
    set_header(headers, "x-frame-corrupt", "true");
}

/// Sets `Server-Timing` (<https://www.w3.org/TR/server-timing/>) in milliseconds, and `X-Cache`.
pub(super) fn set_timing_headers(headers: &mut HeaderMap, timing: &StillTiming, cache: CacheOutcome) {
    let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    let (queue, fetch) = (ms(timing.queue), ms(timing.fetch));
    let (decode, encode) = (ms(timing.decode), ms(timing.encode));
    let cache = cache.name();
    let text = format!(
        "cache;desc={cache}, queue;dur={queue:.3}, fetch;dur={fetch:.3}, decode;dur={decode:.3}, encode;dur={encode:.3}"
    );
    set_header(headers, "server-timing", &text);
    set_header(headers, "x-cache", cache);
}
