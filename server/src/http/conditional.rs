//! Conditional requests (RFC 9110, section 13), and the caching of responses (RFC 9111).

use axum::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

/// The ETag of a response, and whether its address names the video's version.
pub(super) struct Version {
    etag: HeaderValue,
    is_named: bool,
    is_private: bool,
}

impl Version {
    /// For a response made from the video with the tag `video`, to an address that names the version `named`.
    pub(super) fn new(etag: &str, video: &str, named: Option<&str>, is_private: bool) -> Version {
        // Clients may copy the value of a header, with its quotes.
        let plain = |text: &str| text.trim_start_matches("W/").trim_matches('"').to_owned();
        let etag = HeaderValue::from_str(&format!("\"{etag}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"\""));
        Version { etag, is_named: named.is_some_and(|named| plain(named) == video), is_private }
    }

    /// Whether the client has this version already.
    pub(super) fn is_known(&self, headers: &HeaderMap) -> bool {
        let own = self.etag.to_str().unwrap_or_default();
        let listed = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        listed.flat_map(|list| list.split(',')).any(|one| one.trim().trim_start_matches("W/") == own)
    }

    /// The response for a client that has it.
    pub(super) fn not_modified(&self) -> Response {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        self.mark(response.headers_mut());
        response
    }

    /// Sets the headers: a response whose address names its version never changes, any other one must be revalidated.
    pub(super) fn mark(&self, headers: &mut HeaderMap) {
        headers.insert(ETAG, self.etag.clone());
        let control = match (self.is_named, self.is_private) {
            (true, false) => "public, max-age=31536000, immutable",
            (true, true) => "private, max-age=31536000, immutable",
            (false, false) => "no-cache",
            (false, true) => "private, no-cache",
        };
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(control));
    }
}

#[cfg(test)]
mod tests {
    use super::{HeaderMap, HeaderValue, IF_NONE_MATCH, Version};

    #[test]
    fn what_is_known_is_not_sent_again() {
        let version = Version::new("abc-1", "abc", None, false);
        let asked = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_str(value).unwrap());
            version.is_known(&headers)
        };
        assert!(asked("\"abc-1\"") && asked("\"x\", W/\"abc-1\""));
        assert!(!asked("\"abc\"") && !asked("abc-1") && !asked("*"));
    }

    #[test]
    fn only_the_version_that_is_there_never_changes() {
        let control = |named: Option<&str>, is_private: bool| {
            let mut headers = HeaderMap::new();
            Version::new("abc-1", "abc", named, is_private).mark(&mut headers);
            headers["cache-control"].to_str().unwrap().to_owned()
        };
        assert_eq!(control(Some("abc"), false), "public, max-age=31536000, immutable");
        assert_eq!(control(Some("W/\"abc\""), true), "private, max-age=31536000, immutable");
        assert_eq!(control(Some("abd"), false), "no-cache");
        assert_eq!(control(None, true), "private, no-cache");
    }
}
