//! Follows redirects. The HTTP library does not do it, since the user's headers are only for the server of the address:
//! the library drops `Authorization` for other servers, but cannot know which other header is a credential, and it
//! sends a referrer whose query may be a signature. This module also confines redirects to public addresses where the
//! options demand it ([`HttpOptions::private_redirects`]).
//!
//! [`HttpOptions::private_redirects`]: super::HttpOptions::private_redirects

use reqwest::header::{self, HeaderMap, HeaderName};
use reqwest::{Method, Request, RequestBuilder, Response, Url};

use super::client::ClientPool;
use super::public::{PRIVATE, is_private_literal};
use crate::error::Refusal;

/// Headers that every server may see.
const HARMLESS: [HeaderName; 4] =
    [header::RANGE, header::IF_MATCH, header::IF_UNMODIFIED_SINCE, header::ACCEPT_ENCODING];

/// The reason why a request has no answer.
pub(super) enum SendError {
    Failed(reqwest::Error),
    /// The request was not sent.
    Refused(Refusal),
    /// Too many redirects, or one without a valid location.
    BadRedirect,
}

impl From<reqwest::Error> for SendError {
    fn from(error: reqwest::Error) -> SendError {
        SendError::Failed(error)
    }
}

/// Sends a request, and follows up to `redirects` redirects. With `None`, a redirect is an answer.
pub(super) async fn send(
    connections: &ClientPool,
    request: RequestBuilder,
    redirects: Option<usize>,
) -> Result<Response, SendError> {
    let mut request = request.build()?;
    let mut is_strange = false;
    for _ in 0..=redirects.unwrap_or(0) {
        let (here, mut headers) = (request.url().clone(), request.headers().clone());
        let client = if is_strange { connections.public_client_for(&here) } else { connections.client_for(&here) };
        let response = client.map_err(SendError::Refused)?.execute(request).await?;
        if redirects.is_none() || !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(response);
        }
        let next = next(&here, response.headers()).ok_or(SendError::BadRedirect)?;
        if !connections.allows_private_redirects() {
            // A server that redirects away must not redirect back into a private network.
            is_strange |= !is_same_server(&here, &next);
            allow(&here, &next, is_strange).map_err(SendError::Refused)?;
        }
        if next.origin() != here.origin() {
            headers =
                HARMLESS.into_iter().filter_map(|name| headers.get(&name).cloned().map(|it| (name, it))).collect();
        }
        request = Request::new(Method::GET, next);
        *request.headers_mut() = headers;
    }
    Err(SendError::BadRedirect)
}

/// The location of a redirect, if that is HTTP or HTTPS.
fn next(here: &Url, headers: &HeaderMap) -> Option<Url> {
    let location = std::str::from_utf8(headers.get(header::LOCATION)?.as_bytes()).ok()?;
    here.join(location).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
}

/// The same origin, or the same host with an upgrade to TLS.
fn is_same_server(here: &Url, next: &Url) -> bool {
    let is_upgrade = || here.scheme() == "http" && next.scheme() == "https" && here.port().or(next.port()).is_none();
    here.origin() == next.origin() || here.host() == next.host() && is_upgrade()
}

/// The checks before a name is resolved; `public` checks the addresses of names.
fn allow(here: &Url, next: &Url, is_strange: bool) -> Result<(), Refusal> {
    if here.scheme() == "https" && next.scheme() == "http" {
        return Err(Refusal::Redirect("http from https"));
    }
    if is_strange && next.host_str().is_none_or(is_private_literal) { Err(PRIVATE) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use crate::source::remote::{HttpClient, HttpOptions};
    use crate::source::{Refusal, Source};
    use crate::{Error, ErrorKind};
    use testing::range_server::{RangeReply, RangeServer};

    /// Opens a server that redirects its first path to `to`.
    fn sent(server: &RangeServer, to: &str, private_redirects: bool) -> Result<u64, Error> {
        let header: &'static str = format!("Location: {to}").leak();
        server.set_behaviour(move |requests| match &requests.path[..] {
            "/first" => RangeReply::Status(302, header),
            "/round" => RangeReply::Status(302, "Location: /round"),
            _ => RangeReply::Good,
        });
        let options = HttpOptions { private_redirects, ..HttpOptions::default() };
        HttpClient::new(options)?.open_as(&server.at("first"), "a.mp4").map(|source| source.len())
    }

    #[track_caller]
    fn is_rejected(sent: Result<u64, Error>) {
        let error = sent.expect_err("it is refused");
        assert!(matches!(error.kind(), ErrorKind::Remote(Refusal::Redirect(_))), "{error}");
        assert_eq!(
            error.to_string(),
            "a.mp4: the server redirects to an address that is not public, which is not followed"
        );
    }

    #[test]
    fn redirects_into_a_private_network_are_refused() {
        let (server, inner) = (RangeServer::start(), RangeServer::start());
        inner.put("secret", vec![1; 100], "\"1\"");
        let port = inner.at("").split(':').nth(2).map(|rest| rest.trim_end_matches('/').to_owned()).unwrap();
        let hosts =
            ["127.0.0.1", "2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "0", "[::ffff:127.0.0.1]"];
        for host in hosts.into_iter().chain(["[::1]", "localhost", "LOCALHOST", "user:pass@localhost"]) {
            is_rejected(sent(&server, &format!("http://{host}:{port}/secret"), false));
        }
        is_rejected(sent(&server, &format!("//127.0.0.1:{port}/secret"), false));
        for address in ["http://169.254.169.254/latest/meta-data/", "https://10.0.0.1/", "http://[fd00:ec2::254]/"] {
            is_rejected(sent(&server, address, false));
        }
        assert!(inner.take_requests().is_empty() && inner.connections() == 0, "there was no connection at all");
        assert_eq!(sent(&server, &inner.at("secret"), true).unwrap(), 100, "unless the options allow it");
    }

    #[test]
    fn redirects_within_the_requested_server_are_followed() {
        let server = RangeServer::start();
        server.put("clip", vec![1; 100], "\"1\"");
        assert_eq!(sent(&server, "/clip", false).unwrap(), 100);
        assert_eq!(sent(&server, &server.at("clip"), false).unwrap(), 100);
        let error = sent(&server, "/round", false).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Remote(Refusal::Answer(_))), "{error}");
        let error = sent(&server, "file:///etc/passwd", false).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Remote(Refusal::Answer(_))), "{error}");
    }

    #[test]
    fn redirects_from_https_to_http_are_refused_and_upgrades_keep_the_host() {
        let url = |address: &str| reqwest::Url::parse(address).unwrap();
        let allow = |here: &str, next: &str| {
            super::allow(&url(here), &url(next), !super::is_same_server(&url(here), &url(next)))
        };
        assert!(allow("https://example.com/", "http://example.com/").is_err());
        assert!(allow("https://example.com/", "http://example.org/").is_err());
        assert!(allow("http://10.0.0.1/", "https://10.0.0.1/").is_ok());
        assert!(allow("http://10.0.0.1/", "http://10.0.0.1:22/").is_err(), "another port is another server");
        assert!(allow("http://10.0.0.1/", "https://10.0.0.1:8443/").is_err());
        assert!(allow("https://example.com/", "https://8.8.8.8/").is_ok());
    }
}
