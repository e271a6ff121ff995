//! Responses with bodies, and the headers that describe a still. `replies` has the budget of their memory.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use crate::metrics::Timing;
use crate::problem::Problem;
use crate::replies::Held;
use crate::shared::Shared;
use crate::stills::{Found, Still};
use crate::streams;

/// A response with these bytes.
pub(super) fn bytes(media_type: &'static str, bytes: Bytes) -> Response {
    let length = bytes.len();
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    // HEAD responses need it, too.
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

/// Smaller bodies do not count in the memory for replies: their bookkeeping takes as much.
const SMALL: u64 = 1 << 10;

/// Bytes and their share of the memory for replies, until they are sent.
struct Charged {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The response to client `who`, with its body counted in the memory for replies until it is sent or dropped; a refusal
/// where there is no room for it. All responses go through here; those over HTTP/2 go in parts, at the reader's pace.
pub(super) async fn charge(shared: &Shared, who: &Arc<str>, is_second: bool, response: Response) -> Response {
    if response.body().is_end_stream() {
        streams::no_body();
        return response;
    }
    let (head, body) = response.into_parts();
    // All bodies are in memory, so this does not copy.
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        return Problem::internal("a response broke off").into_response();
    };
    let mut held = None;
    if bytes.len() as u64 >= SMALL {
        held = shared.replies.hold(who, bytes.len() as u64, shared.config.deadline / 4).await.ok();
        if held.is_none() {
            drop(bytes);
            shared.metrics.rejected("replies");
            let (mut head, body) = Problem::unread().into_response().into_parts();
            // The original response was counted.
            head.extensions.clear();
            let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
            return Response::from_parts(head, if is_second { streams::body(bytes, None) } else { Body::from(bytes) });
        }
    }
    let body = match held {
        held if is_second => streams::body(bytes, held),
        Some(held) => Body::from(Bytes::from_owner(Charged { bytes, _held: held })),
        None => Body::from(bytes),
    };
    Response::from_parts(head, body)
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// Sets the headers that describe the frame.
pub(super) fn describe(headers: &mut HeaderMap, still: &Still) {
    put(headers, "x-frame-index", &still.frame.to_string());
    put(headers, "x-frame-pts", &still.pts.to_string());
    put(headers, "x-frame-time", &format!("{:.6}", still.time_s));
    put(headers, "x-frame-key", if still.key { "true" } else { "false" });
    put(headers, "x-frame-width", &still.size.0.to_string());
    put(headers, "x-frame-height", &still.size.1.to_string());
    if still.corrupt {
        corrupt(headers);
    }
}

/// Sets the header of a damaged picture.
pub(super) fn corrupt(headers: &mut HeaderMap) {
    put(headers, "x-frame-corrupt", "true");
}

/// Sets the timing header (<https://www.w3.org/TR/server-timing/>), in milliseconds.
pub(super) fn timing(headers: &mut HeaderMap, timing: &Timing, found: Found) {
    let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    let (queue, fetch) = (ms(timing.queue), ms(timing.fetch));
    let (decode, encode) = (ms(timing.decode), ms(timing.encode));
    let cache = found.name();
    let text = format!(
        "cache;desc={cache}, queue;dur={queue:.3}, fetch;dur={fetch:.3}, decode;dur={decode:.3}, encode;dur={encode:.3}"
    );
    put(headers, "server-timing", &text);
    put(headers, "x-cache", cache);
}
