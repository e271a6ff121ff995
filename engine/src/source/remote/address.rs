//! Parts of addresses: those that may be shown, and those that identify the object.

use reqwest::Url;
use sha2::{Digest, Sha256};

/// An address without user, password and query (which may be a signature), for messages.
pub(super) fn without_secrets(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// A checksum of the part of a query that identifies the object.
pub(super) fn lasting_query(url: &Url) -> String {
    Sha256::digest(lasting(url)).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The query without the parameters of signatures, which differ each time.
fn lasting(url: &Url) -> String {
    const AZURE: [&str; 14] =
        ["sv", "ss", "srt", "sp", "se", "st", "spr", "sig", "sr", "skoid", "sktid", "skt", "ske", "sks"];
    const OTHERS: [&str; 7] =
        ["awsaccesskeyid", "googleaccessid", "expires", "signature", "policy", "key-pair-id", "token"];
    let is_signature = |name: &str| {
        let name = name.to_ascii_lowercase();
        ["x-amz-", "x-goog-"].iter().any(|prefix| name.starts_with(prefix))
            || AZURE.contains(&&name[..])
            || OTHERS.contains(&&name[..])
    };
    let lasting = url.query_pairs().filter(|(name, _)| !is_signature(name));
    lasting.map(|(name, value)| format!("{name}={value}&")).collect()
}

#[cfg(test)]
mod tests {
    use super::{Url, lasting, without_secrets};

    #[test]
    fn addresses_are_shown_without_their_secrets() {
        let url = Url::parse("https://me:secret@example.com/a/b.mp4?X-Amz-Signature=secret#part").unwrap();
        assert_eq!(without_secrets(&url), "https://example.com/a/b.mp4");
    }

    #[test]
    fn a_version_is_the_same_however_it_is_signed() {
        let query = |text: &str| lasting(&Url::parse(&format!("https://example.com/a?{text}")).unwrap());
        assert_eq!(query("X-Amz-Signature=1&versionId=7&X-Amz-Date=2"), "versionId=7&");
        assert_eq!(query("sig=a&se=b"), "");
        assert_ne!(query("file=a"), query("file=b"));
    }
}
