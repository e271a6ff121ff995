//! Redirects, followed here and not by the HTTP library: what says who asks is for the server that was named, and for no
//! other that it sends us to. A library knows that of `Authorization`; it cannot know it of a header that a user has chosen,
//! and it tells the next server where we come from, with a query that may be a signature.

use reqwest::header::{self, HeaderMap, HeaderName};
use reqwest::{Method, Request, RequestBuilder, Response, Url};

use super::client::Connections;
use crate::source::Refusal;

/// What every server may know.
const HARMLESS: [HeaderName; 4] =
    [header::RANGE, header::IF_MATCH, header::IF_UNMODIFIED_SINCE, header::ACCEPT_ENCODING];

/// Why there is no answer.
pub(super) enum Lost {
    Failed(reqwest::Error),
    /// It could not even be sent.
    Unsent(Refusal),
    /// On and on, or nowhere.
    Astray,
}

impl From<reqwest::Error> for Lost {
    fn from(error: reqwest::Error) -> Lost {
        Lost::Failed(error)
    }
}

/// Sends a request, and again to where the answer says, up to `redirects` times; with none, a redirect is an answer.
pub(super) async fn send(
    connections: &Connections,
    request: RequestBuilder,
    redirects: Option<usize>,
) -> Result<Response, Lost> {
    let mut request = request.build()?;
    for _ in 0..=redirects.unwrap_or(0) {
        let (here, mut headers) = (request.url().clone(), request.headers().clone());
        let response = connections.to(&here).map_err(Lost::Unsent)?.execute(request).await?;
        if redirects.is_none() || !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(response);
        }
        let next = next(&here, response.headers()).ok_or(Lost::Astray)?;
        if next.origin() != here.origin() {
            headers =
                HARMLESS.into_iter().filter_map(|name| headers.get(&name).cloned().map(|it| (name, it))).collect();
        }
        request = Request::new(Method::GET, next);
        *request.headers_mut() = headers;
    }
    Err(Lost::Astray)
}

/// Where an answer sends us: to HTTP and nothing else.
fn next(here: &Url, headers: &HeaderMap) -> Option<Url> {
    let location = std::str::from_utf8(headers.get(header::LOCATION)?.as_bytes()).ok()?;
    here.join(location).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
}
