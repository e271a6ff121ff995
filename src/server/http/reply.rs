//! Answers with bodies.

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use bytes::Bytes;

use crate::server::stills::{Found, Still, Timing};

/// An answer of these bytes.
pub(super) fn bytes(media_type: &'static str, bytes: Bytes) -> Response {
    let length = bytes.len();
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    // For HEAD, too.
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// Says which frame an answer shows.
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

/// Says that a picture is damaged.
pub(super) fn corrupt(headers: &mut HeaderMap) {
    put(headers, "x-frame-corrupt", "true");
}

/// Says where the time went (<https://www.w3.org/TR/server-timing/>), in milliseconds.
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
