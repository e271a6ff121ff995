//! Addresses of objects: `s3://bucket/key`, `gs://bucket/key`, `az://container/blob`. The address of the HTTP request
//! is left to each store's file.

use reqwest::Url;

use crate::error::Refusal;

/// The kind of store that holds an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreKind {
    S3,
    Google,
    Azure,
}

impl StoreKind {
    pub(super) fn of(scheme: &str) -> Option<StoreKind> {
        match &scheme.to_ascii_lowercase()[..] {
            "s3" => Some(StoreKind::S3),
            "gs" => Some(StoreKind::Google),
            "az" | "abfs" | "abfss" => Some(StoreKind::Azure),
            _ => None,
        }
    }
}

/// The address of an object, parsed. Names are unescaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoreAddress {
    pub(super) store: StoreKind,
    /// The bucket; for Azure, the container.
    pub(super) bucket: String,
    pub(super) key: String,
    /// The account, from `abfss://container@account.dfs.core.windows.net/blob`.
    pub(super) account: Option<String>,
    /// The query of a request about the bucket instead of an object: names and values.
    pub(super) query: Vec<(&'static str, String)>,
}

/// Parameters of signed addresses, which stand behind the name: part of no name, and secret.
const SIGNATURES: [&str; 5] = ["sig=", "signature=", "x-amz-signature=", "x-goog-signature=", "x-amz-security-token="];

impl StoreAddress {
    /// Parses the address of an object.
    pub(super) fn parse(address: &str) -> Result<StoreAddress, Refusal> {
        let address = StoreAddress::parse_prefix(address)?;
        match address.key.is_empty() {
            true => Err(Refusal::Address("the name of the object is missing after the bucket's".to_owned())),
            false => Ok(address),
        }
    }

    /// Parses the address of a bucket, or a part of one: its key may be empty.
    pub(super) fn parse_prefix(address: &str) -> Result<StoreAddress, Refusal> {
        let refuse = |why: &str| Err(Refusal::Address(why.to_owned()));
        let parts = address.split_once("://").and_then(|(scheme, rest)| Some((StoreKind::of(scheme)?, rest)));
        let Some((store, rest)) = parts else { return refuse("it is not that of an object store") };
        let (place, key) = rest.split_once('/').unwrap_or((rest, ""));
        let (bucket, account) = match (store, place.split_once('@')) {
            (StoreKind::Azure, Some((container, host))) => (container, host.split('.').next().map(str::to_owned)),
            _ => (place, None),
        };
        if !is_name(bucket) || account.as_deref().is_some_and(|account| !is_name(account)) {
            return refuse("after :// the name of a bucket is expected, then / and the name of the object");
        }
        if has_signature(key) {
            return refuse("it is a signed one: signed addresses begin with https://");
        }
        if key.split('/').any(|part| part == "." || part == "..") {
            return refuse("no request can be made for a name with . or .. between slashes");
        }
        Ok(StoreAddress { store, bucket: bucket.to_owned(), key: key.to_owned(), account, query: Vec::new() })
    }

    /// A name of the bucket that is unique among all stores.
    pub(super) fn bucket_id(&self) -> String {
        let account = self.account.as_deref().unwrap_or_default();
        format!("{:?}://{account}@{}", self.store, self.bucket)
    }

    /// The HTTP address of the object below the store's endpoint, which may have a path of its own.
    pub(super) fn below(&self, endpoint: &str, with_bucket: bool) -> Result<Url, Refusal> {
        let bucket = if with_bucket { format!("/{}", self.bucket) } else { String::new() };
        let mut url = format!("{}{bucket}", endpoint.trim_end_matches('/'));
        if !self.key.is_empty() {
            url = format!("{url}/{}", escape(&self.key, true));
        }
        for (place, (name, value)) in self.query.iter().enumerate() {
            url = format!("{url}{}{name}={}", if place == 0 { '?' } else { '&' }, escape(value, false));
        }
        let no_address = |why: &dyn std::fmt::Display| {
            Refusal::Configuration(format!("the configured endpoint is not valid: {why}"))
        };
        let url = Url::parse(&url).map_err(|error| no_address(&error))?;
        match url.scheme() {
            "http" | "https" => Ok(url),
            _ => Err(no_address(&"it must begin with http:// or https://")),
        }
    }
}

/// An address for messages: of an invalid one, the parts that may be shown.
pub(super) fn redacted(address: &str) -> String {
    let Err(_) = StoreAddress::parse(address) else { return address.to_owned() };
    let (scheme, rest) = address.split_once("://").unwrap_or_default();
    let (place, key) = rest.split_once('/').unwrap_or((rest, ""));
    let key = if has_signature(key) { key.split('?').next().unwrap_or_default() } else { key };
    format!("{scheme}://{}/{key}", place.rsplit('@').next().unwrap_or_default())
}

fn has_signature(key: &str) -> bool {
    let query = key.split_once('?').map(|(_, query)| query.to_ascii_lowercase());
    query.is_some_and(|query| query.split('&').any(|pair| SIGNATURES.iter().any(|name| pair.starts_with(name))))
}

fn is_name(bucket: &str) -> bool {
    // The characters that any store allows in a bucket's name; in particular none that could change the server's name.
    !bucket.is_empty() && bucket.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.$".contains(&byte))
}

/// Percent-encodes all bytes but the unreserved characters of signatures (RFC 3986 2.3).
fn escape(text: &str, is_path: bool) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        b'/' if is_path => '/'.to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::{StoreAddress, StoreKind, redacted};

    fn parse(address: &str) -> Option<(StoreKind, String, String)> {
        StoreAddress::parse(address).ok().map(|address| (address.store, address.bucket, address.key))
    }

    #[test]
    fn addresses_are_taken_apart_as_they_are() {
        let is = |store, bucket: &str, key: &str| Some((store, bucket.to_owned(), key.to_owned()));
        assert_eq!(parse("s3://my.bucket/a b/c?d#e%20.mp4"), is(StoreKind::S3, "my.bucket", "a b/c?d#e%20.mp4"));
        assert_eq!(parse("GS://b//a//"), is(StoreKind::Google, "b", "/a//"));
        assert_eq!(parse("az://c/d"), is(StoreKind::Azure, "c", "d"));
        let address = StoreAddress::parse("abfss://c@account.dfs.core.windows.net/d").expect("an address");
        assert_eq!((&address.bucket[..], address.account.as_deref()), ("c", Some("account")));
        for none in
            ["s3://bucket", "s3://bucket/", "s3:///key", "s3://b@c/key", "s3://b:9/key", "gs://b/a/../c", "az:/c/d"]
        {
            assert_eq!(parse(none), None, "{none}");
        }
    }

    #[test]
    fn requests_go_to_the_object_and_nowhere_else() {
        let address = StoreAddress::parse("s3://b/a b/ü?c#d%2e.mp4").expect("an address");
        let url = address.below("http://localhost:9000/store/", true).expect("a url");
        assert_eq!(url.as_str(), "http://localhost:9000/store/b/a%20b/%C3%BC%3Fc%23d%252e.mp4");
        assert!(address.below("localhost:9000", true).is_err() && address.below("", true).is_err());
    }

    #[test]
    fn what_signs_an_address_is_not_shown() {
        assert_eq!(redacted("s3://b/k"), "s3://b/k");
        assert_eq!(redacted("az://c/clip.mp4?sv=1&sig=geheim"), "az://c/clip.mp4");
        assert!(StoreAddress::parse("az://c/clip.mp4?sv=1&sig=geheim").is_err());
        assert_eq!(redacted("s3://me:geheim@b/k"), "s3://b/k");
    }
}
