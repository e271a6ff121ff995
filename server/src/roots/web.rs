//! A root on a web server: addresses below a base address. Its videos cannot be listed.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;

use super::no_such_video;
use bucket_streamer::error::Result;
use bucket_streamer::source::remote::{HttpClient, HttpSource};

/// All characters except the unreserved ones, which have no meaning in any part of an address (RFC 3986, section 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(super) struct WebRoot {
    /// The base address; it ends with a slash.
    base: Url,
}

/// Omits the user and the password of the address.
impl std::fmt::Debug for WebRoot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("WebRoot").field("host", &self.base.host_str()).finish_non_exhaustive()
    }
}

impl WebRoot {
    pub(super) fn new(address: &str) -> std::result::Result<WebRoot, String> {
        let mut base = Url::parse(address).map_err(|error| format!("its address is not valid ({error})"))?;
        if base.query().is_some() || base.fragment().is_some() {
            return Err("its address must not have a ? or a #: paths are added to it".to_owned());
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        Ok(WebRoot { base })
    }

    /// The address of a path below the root. Each segment is escaped, so that it has no other meaning.
    pub(super) fn address(&self, path: &str) -> Option<String> {
        let escaped: Vec<String> =
            path.split('/').map(|segment| utf8_percent_encode(segment, ESCAPED).to_string()).collect();
        let address = format!("{}{}", self.base, escaped.join("/"));
        // The parser may still change the path: segments of dots, for example, could lead out of the root.
        let is_below = Url::parse(&address).is_ok_and(|url| url.as_str().starts_with(self.base.as_str()));
        is_below.then_some(address)
    }

    pub(super) fn open(&self, client: HttpClient, path: &str, video: &str) -> Result<HttpSource> {
        client.open_as(&self.address(path).ok_or_else(|| no_such_video(video))?, video)
    }
}

#[cfg(test)]
mod tests {
    use super::WebRoot;

    #[test]
    fn names_are_escaped_in_addresses() {
        let web = WebRoot::new("https://me:secret@host/films").unwrap();
        let base = "https://me:secret@host/films/";
        for (path, escaped) in [
            ("a/b.mp4", "a/b.mp4"),
            ("@evil", "%40evil"),
            ("a?b#c", "a%3Fb%23c"),
            ("%2e%2e/secret", "%252e%252e/secret"),
            ("http:/evil", "http%3A/evil"),
            ("ü ;&=+$,!", "%C3%BC%20%3B%26%3D%2B%24%2C%21"),
        ] {
            assert_eq!(web.address(path), Some(format!("{base}{escaped}")));
        }
        for outside in ["..", "../a", "a/../../b"] {
            assert_eq!(web.address(outside), None, "{outside}");
        }
        assert!(WebRoot::new("https://host/?a").is_err() && WebRoot::new("https://").is_err());
        assert!(!format!("{web:?}").contains("secret"));
    }
}
