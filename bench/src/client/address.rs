//! Parses the address of a server, and builds the addresses of its routes. `server` connects.

use percent_encoding::percent_decode_str;
use reqwest::Url;

/// A server, and optionally one of its videos.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerAddress {
    /// Base of the routes; it ends with a slash.
    base: Url,
    /// The server's name of the video.
    pub(super) video: Option<String>,
}

const EXPECTED: &str = "http://HOST:PORT, or http://HOST:PORT/frame/VIDEO, or ws://HOST:PORT/ws";

impl ServerAddress {
    /// Parses `http://host:port`, `http://host:port/frame/cams/a.mp4`, `ws://host:port/ws`; also with TLS, and below a
    /// path that a proxy may add.
    ///
    /// # Errors
    /// The fault of the address, as a message for the user.
    pub(super) fn parse(text: &str) -> Result<ServerAddress, String> {
        let invalid = |why: &str| format!("{}: {why}; expected {EXPECTED}", bucket_streamer::source::redacted(text));
        let url = Url::parse(text).map_err(|error| invalid(&error.to_string()))?;
        let scheme = match url.scheme() {
            "http" | "ws" => "http",
            "https" | "wss" => "https",
            _ => return Err(invalid("not the address of a server")),
        };
        let path = url.path().trim_end_matches('/');
        let (prefix, video) = match path.split_once("/frame/") {
            Some((prefix, video)) => (prefix, Some(video)),
            None if path.ends_with("/ws") => (path.trim_end_matches("/ws"), None),
            None if path.is_empty() => (path, None),
            None => return Err(invalid("the path is not a route to frames")),
        };
        let video = video.map(|video| percent_decode_str(video).decode_utf8().map(String::from));
        let video = video.transpose().map_err(|_| invalid("the video's name is not UTF-8"))?;
        let rest = url.as_str().split_once(':').map_or("", |(_, rest)| rest);
        let mut base = Url::parse(&format!("{scheme}:{rest}")).map_err(|error| invalid(&error.to_string()))?;
        base.set_path(&format!("{prefix}/"));
        base.set_query(None);
        base.set_fragment(None);
        Ok(ServerAddress { base, video })
    }

    /// Whether the server is reached with TLS.
    pub(super) fn is_secure(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// `GET /videos`, or `GET /videos/{video}`.
    pub(super) fn videos(&self, video: Option<&str>) -> Url {
        self.route("videos", video.unwrap_or_default())
    }

    /// `GET /frame/{video}`.
    pub(super) fn frame(&self, video: &str) -> Url {
        self.route("frame", video)
    }

    /// `/ws`, with the scheme of WebSocket.
    pub(super) fn ws(&self) -> String {
        // `http` becomes `ws`, `https` `wss`.
        format!("ws{}", self.route("ws", "").as_str().trim_start_matches("http"))
    }

    /// The base address without secrets.
    pub(super) fn redacted(&self) -> String {
        bucket_streamer::source::redacted(self.base.as_str()).trim_end_matches('/').to_owned()
    }

    fn route(&self, name: &str, video: &str) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push(name);
            // A name is a path: its slashes stay.
            path.extend(video.split('/').filter(|part| !part.is_empty()));
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::ServerAddress;

    #[test]
    fn a_server_may_be_named_with_or_without_a_video() {
        let of = |text: &str| ServerAddress::parse(text).expect("an address");
        for text in ["http://h:8080", "http://h:8080/", "ws://h:8080/ws", "ws://h:8080"] {
            let address = of(text);
            assert_eq!((address.video.as_deref(), address.is_secure()), (None, false), "{text}");
            assert_eq!((address.videos(None).as_str(), &address.ws()[..]), ("http://h:8080/videos", "ws://h:8080/ws"));
        }
        let named = of("https://h/api/frame/cams/a%20b.mp4");
        assert_eq!((named.video.as_deref(), named.is_secure()), (Some("cams/a b.mp4"), true));
        assert_eq!(named.frame("cams/a b?.mp4").as_str(), "https://h/api/frame/cams/a%20b%3F.mp4");
        assert_eq!((named.ws(), named.redacted()), ("wss://h/api/ws".to_owned(), "https://h/api".to_owned()));
    }

    #[test]
    fn an_invalid_address_is_refused_without_secrets_in_the_message() {
        for text in ["cam.mp4", "s3://b/c", "http://", "http://me:word@h/elsewhere"] {
            let why = ServerAddress::parse(text).expect_err(text);
            assert!(why.contains("/ws") && !why.contains("word"), "{why}");
        }
    }
}
