//! The page at `/`. Its files are part of the program, and it sends requests to this server only.

use axum::extract::Path;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName};
use axum::response::Response;
use bytes::Bytes;

use super::reply;
use crate::problem::Problem;

/// The Content-Security-Policy: the page may load files from this server, and show pictures from WebSocket messages
/// (`blob:`).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
    connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

const INDEX: &str = include_str!("../page/index.html");

const JS: &str = "text/javascript; charset=utf-8";

/// The page's files: name, media type, content.
const FILES: [(&str, &str, &str); 11] = [
    ("api.js", JS, include_str!("../page/api.js")),
    ("app.js", JS, include_str!("../page/app.js")),
    ("details.js", JS, include_str!("../page/details.js")),
    ("icon.svg", "image/svg+xml", include_str!("../page/icon.svg")),
    ("library.js", JS, include_str!("../page/library.js")),
    ("link.js", JS, include_str!("../page/link.js")),
    ("player.js", JS, include_str!("../page/player.js")),
    ("store.js", JS, include_str!("../page/store.js")),
    ("style.css", "text/css; charset=utf-8", include_str!("../page/style.css")),
    ("timeline.js", JS, include_str!("../page/timeline.js")),
    ("words.js", JS, include_str!("../page/words.js")),
];

fn respond(media_type: &'static str, content: &'static str) -> Response {
    let mut response = reply::bytes(media_type, Bytes::from_static(content.as_bytes()));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer"));
    response
}

pub(super) async fn index() -> Response {
    respond("text/html; charset=utf-8", INDEX)
}

pub(super) async fn file(Path(name): Path<String>) -> Result<Response, Problem> {
    let file = FILES.iter().find(|(own, _, _)| *own == name);
    let (_, media_type, content) = file.ok_or_else(|| Problem::not_found("the page has no such file"))?;
    Ok(respond(media_type, content))
}
