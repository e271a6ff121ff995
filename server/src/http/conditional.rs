//! Conditional requests (RFC 9110, section 13), and the caching of responses (RFC 9111).

use axum::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

/// The validator of a response (RFC 9110, section 8.8): its ETag, and the inputs of `Cache-Control`.
pub(super) struct CacheValidator {
    etag: HeaderValue,
    /// The address names the video's current version: the response never changes.
    is_named: bool,
    is_private: bool,
}

impl CacheValidator {
    /// For a response with the tag `etag` from a video with the tag `video`. `named` is the version in the address.
    pub(super) fn new(etag: &str, video: &str, named: Option<&str>, is_private: bool) -> CacheValidator {
        // Clients may copy the whole value of an ETag header, with its quotes.
        let plain = |text: &str| text.trim_start_matches("W/").trim_matches('"').to_owned();
        let etag = HeaderValue::from_str(&format!("\"{etag}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"\""));
        CacheValidator { etag, is_named: named.is_some_and(|named| plain(named) == video), is_private }
    }

    /// Whether `If-None-Match` lists this ETag (RFC 9110, section 13.1.2, weak comparison).
    pub(super) fn matches(&self, headers: &HeaderMap) -> bool {
        let own = self.etag.to_str().unwrap_or_default();
        let listed = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        listed.flat_map(|list| list.split(',')).any(|one| one.trim().trim_start_matches("W/") == own)
    }

    /// The 304 response for a client that has this version.
    pub(super) fn not_modified(&self) -> Response {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        self.set_headers(response.headers_mut());
        response
    }

    /// Sets `ETag` and `Cache-Control`: a response whose address names its version never changes, any other one must be
    /// revalidated.
    pub(super) fn set_headers(&self, headers: &mut HeaderMap) {
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
    use super::{CacheValidator, HeaderMap, HeaderValue, IF_NONE_MATCH};

    #[test]
    fn a_listed_etag_matches() {
        let validator = CacheValidator::new("abc-1", "abc", None, false);
        let matches = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_str(value).unwrap());
            validator.matches(&headers)
        };
        assert!(matches("\"abc-1\"") && matches("\"x\", W/\"abc-1\""));
        assert!(!matches("\"abc\"") && !matches("abc-1") && !matches("*"));
    }

    #[test]
    fn only_an_address_with_the_current_version_is_immutable() {
        let control = |named: Option<&str>, is_private: bool| {
            let mut headers = HeaderMap::new();
            CacheValidator::new("abc-1", "abc", named, is_private).set_headers(&mut headers);
            headers["cache-control"].to_str().unwrap().to_owned()
        };
        assert_eq!(control(Some("abc"), false), "public, max-age=31536000, immutable");
        assert_eq!(control(Some("W/\"abc\""), true), "private, max-age=31536000, immutable");
        assert_eq!(control(Some("abd"), false), "no-cache");
        assert_eq!(control(None, true), "private, no-cache");
    }
}
