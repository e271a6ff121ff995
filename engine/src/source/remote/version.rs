//! The version of a file, from the headers of an answer.
//!
//! Later answers must repeat the headers of the first one. A server that omits its ETag, or ignores `If-Match`, gives
//! no proof that the file is the same.

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Headers with the revision of an object, of Google's and Amazon's stores.
const REVISIONS: [HeaderName; 2] =
    [HeaderName::from_static("x-goog-generation"), HeaderName::from_static("x-amz-version-id")];

/// A version of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectVersion {
    /// Length of the whole file, in bytes.
    pub(super) len: u64,
    etag: Option<String>,
    modified: Option<String>,
    revision: Option<String>,
}

impl ObjectVersion {
    pub(super) fn of(headers: &HeaderMap, len: u64) -> ObjectVersion {
        let etag = header_text(headers, &header::ETAG);
        // Several different tags prove nothing: they count as a weak one.
        let etag = etag.map(|(etag, is_single)| if is_single { etag } else { format!("W/{etag}") });
        let modified = header_text(headers, &header::LAST_MODIFIED).map(|(modified, _)| modified);
        let revision = REVISIONS.iter().find_map(|name| header_text(headers, name)).map(|(revision, _)| revision);
        ObjectVersion { len, etag, modified, revision }
    }

    /// The tag, unless it is weak: weak tags do not identify bytes (RFC 9110 8.8.1).
    pub(super) fn strong(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| !etag.starts_with("W/") && *etag != "*")
    }

    /// Properties that another version may share: a weak tag, the time of the last change.
    pub(super) fn hint(&self) -> Option<String> {
        let known: Vec<&str> = [&self.etag, &self.modified].into_iter().flatten().map(|text| &text[..]).collect();
        (!known.is_empty()).then(|| known.join(", "))
    }

    /// The condition of a range request. `Err` if it cannot be sent as a header.
    pub(super) fn condition(&self) -> Option<Result<(HeaderName, HeaderValue), ()>> {
        let (name, text) = match (self.strong(), &self.modified) {
            (Some(etag), _) => (header::IF_MATCH, etag),
            (_, Some(modified)) => (header::IF_UNMODIFIED_SINCE, &modified[..]),
            _ => return None,
        };
        let bytes: Option<Vec<u8>> = text.chars().map(|letter| u8::try_from(u32::from(letter)).ok()).collect();
        let value = bytes.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok());
        Some(value.map(|value| (name, value)).ok_or(()))
    }

    /// Whether an answer with the headers `other` is of this version. A strong tag decides alone. Without one, all
    /// headers that either answer has must agree; one that only one of them has is a difference.
    pub(super) fn is(&self, other: &ObjectVersion) -> bool {
        match self.strong() {
            Some(etag) => self.len == other.len && other.strong() == Some(etag),
            None => self == other,
        }
    }
}

/// The values of a header, without repetitions, and whether there is exactly one. Tags may have any byte (RFC 9110
/// 8.8.3), so each byte becomes a character.
fn header_text(headers: &HeaderMap, name: &HeaderName) -> Option<(String, bool)> {
    let mut values: Vec<&[u8]> = Vec::new();
    for value in headers.get_all(name) {
        let value = value.as_bytes().trim_ascii();
        if !value.is_empty() && !values.contains(&value) {
            values.push(value);
        }
    }
    let is_single = values.len() == 1;
    let text: String = values.join(&b", "[..]).into_iter().map(char::from).collect();
    (!values.is_empty()).then_some((text, is_single))
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    use super::ObjectVersion;

    fn version(len: u64, headers: &[(&'static str, &str)]) -> ObjectVersion {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        ObjectVersion::of(&map, len)
    }

    const TAG: (&str, &str) = ("etag", "\"a\"");
    const WEAK: (&str, &str) = ("etag", "W/\"a\"");
    const MONDAY: (&str, &str) = ("last-modified", "Mon, 02 Nov 2026 10:00:00 GMT");
    const TUESDAY: (&str, &str) = ("last-modified", "Tue, 03 Nov 2026 10:00:00 GMT");

    #[test]
    fn a_strong_tag_decides_alone_and_is_demanded() {
        let opened = version(10, &[TAG, MONDAY]);
        for same in [&[TAG][..], &[TAG, MONDAY], &[TAG, TUESDAY], &[TAG, TAG]] {
            assert!(opened.is(&version(10, same)), "{same:?}");
        }
        for other in [&[][..], &[MONDAY], &[WEAK, MONDAY], &[("etag", "\"b\"")], &[("etag", "")], &[("etag", "*")]] {
            assert!(!opened.is(&version(10, other)), "{other:?}");
        }
        assert!(!opened.is(&version(11, &[TAG, MONDAY])));
        assert!(!opened.is(&version(10, &[TAG, ("etag", "\"b\"")])), "two that differ are none");
    }

    #[test]
    fn without_one_everything_has_to_agree() {
        let of = |headers: &[(&'static str, &str)]| version(10, headers);
        let cases: [&[(&str, &str)]; 7] = [
            &[],
            &[MONDAY],
            &[TUESDAY],
            &[WEAK],
            &[WEAK, MONDAY],
            &[("etag", "W/\"b\""), MONDAY],
            &[MONDAY, ("x-goog-generation", "17")],
        ];
        for one in cases {
            for other in cases {
                assert_eq!(of(one).is(&of(other)), one == other, "{one:?} {other:?}");
            }
            assert!(!of(one).is(&version(11, one)));
        }
        assert!(!of(&[("x-amz-version-id", "17")]).is(&of(&[("x-amz-version-id", "18")])));
    }

    #[test]
    fn the_condition_is_the_strongest_that_a_server_can_check() {
        let sent = |headers: &[(&'static str, &str)]| {
            let (name, value) = version(1, headers).condition()?.unwrap();
            Some((name.as_str().to_owned(), value.as_bytes().to_vec()))
        };
        assert_eq!(sent(&[TAG, MONDAY]), Some(("if-match".into(), b"\"a\"".to_vec())));
        assert_eq!(sent(&[WEAK, MONDAY]), Some(("if-unmodified-since".into(), MONDAY.1.as_bytes().to_vec())));
        assert_eq!(sent(&[WEAK]), None);
        assert_eq!(sent(&[("etag", "*")]), None);
        // A tag is sent back as it was received.
        assert_eq!(sent(&[("etag", "\"ä\"")]), Some(("if-match".into(), "\"ä\"".as_bytes().to_vec())));
    }
}
