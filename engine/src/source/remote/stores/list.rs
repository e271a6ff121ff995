//! Lists of a bucket, page by page: S3's `ListObjectsV2`, which Google's store understands too, and Azure's `List
//! Blobs`. Connections, credentials, region and refusals are those of reading objects. Keys are returned unchanged,
//! including those that no path could have.

use serde::Deserialize;

use super::StoreClient;
use super::address::{StoreAddress, StoreKind};
use crate::error::Refusal;
use crate::error::{Error, ErrorKind, Result};
use crate::source::remote::HttpSource;

/// The largest page: a thousand keys of a thousand bytes each, and their properties.
const LIMIT: usize = 8 << 20;

/// A part of a bucket: all objects whose keys begin with a prefix.
#[derive(Debug, Clone)]
pub struct StorePrefix {
    /// Its key is empty or ends with a slash.
    address: StoreAddress,
}

/// A page of the objects of a prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StorePage {
    /// Keys without the prefix, and lengths in bytes, in the order of the keys' bytes.
    pub objects: Vec<(String, u64)>,
    /// The token of the next page, if there is one.
    pub token: Option<String>,
}

impl StorePrefix {
    /// Parses `s3://bucket` or `s3://bucket/prefix`, with or without a final slash.
    ///
    /// # Errors
    /// The reason why `address` is not that of a bucket or of a part of one.
    pub fn parse(address: &str) -> std::result::Result<StorePrefix, Refusal> {
        let mut address = StoreAddress::parse_prefix(address)?;
        if !address.key.is_empty() && !address.key.ends_with('/') {
            address.key.push('/');
        }
        Ok(StorePrefix { address })
    }

    /// The list request: keys that begin with the prefix and `beginning`.
    fn question(&self, beginning: &str, after: Option<&str>, token: Option<&str>) -> StoreAddress {
        let key = |text: &str| format!("{}{text}", self.address.key);
        let query = match self.address.store {
            StoreKind::S3 | StoreKind::Google => {
                let from = token.map(str::to_owned).or_else(|| after.map(key));
                let mut query = vec![("list-type", "2".to_owned()), ("prefix", key(beginning))];
                query.extend(from.map(|from| ("start-after", from)));
                query
            }
            // Azure has no start key, only its own tokens.
            StoreKind::Azure => {
                let mut query = vec![("comp", "list".to_owned()), ("prefix", key(beginning))];
                query.extend(token.map(|token| ("marker", token.to_owned())));
                query.push(("restype", "container".to_owned()));
                query
            }
        };
        StoreAddress { key: String::new(), query, ..self.address.clone() }
    }
}

impl StoreClient {
    /// Opens the object with the key prefix + `key`; messages and the source's name say `name`.
    ///
    /// # Errors
    /// As [`StoreClient::open`].
    pub fn open_below(&self, place: &StorePrefix, key: &str, name: &str) -> Result<HttpSource> {
        let address = StoreAddress { key: format!("{}{key}", place.address.key), ..place.address.clone() };
        self.open_address(address, name)
    }

    /// Requests a page of the objects whose keys, after the prefix, begin with `beginning` and are greater than
    /// `after`: one request, for which the caller blocks. `token` is that of the preceding page, which was requested
    /// with the same arguments.
    ///
    /// # Errors
    /// `Remote`, with the reason of the store, but without any name.
    pub fn list(
        &self,
        place: &StorePrefix,
        beginning: &str,
        after: Option<&str>,
        token: Option<&str>,
    ) -> Result<StorePage> {
        let refuse = |refusal| Error::from(ErrorKind::Remote(refusal));
        let authority = self.signer(place.question(beginning, after, token))?;
        let answer = self.http.document(authority, LIMIT)?;
        let distrust = |what: &str| refuse(Refusal::Answer(what.to_owned()));
        let text = std::str::from_utf8(&answer).map_err(|_| distrust("a list that is no text"))?;
        let page = match place.address.store {
            StoreKind::S3 | StoreKind::Google => read_s3(text),
            StoreKind::Azure => read_azure(text),
        };
        let (objects, next) = page.ok_or_else(|| distrust("a list that cannot be read"))?;
        // A server that ignores the start key would cause endless requests.
        if next.is_some() && next.as_deref() <= token && place.address.store != StoreKind::Azure {
            return Err(distrust("a list that does not go on"));
        }
        let behind = objects.into_iter().filter_map(|(key, len)| {
            let key = key.strip_prefix(&place.address.key[..]).filter(|key| key.starts_with(beginning))?;
            after.is_none_or(|after| after < key).then(|| (key.to_owned(), len))
        });
        let mut objects: Vec<(String, u64)> = behind.collect();
        objects.sort();
        Ok(StorePage { objects, token: next })
    }
}

type ParsedList = (Vec<(String, u64)>, Option<String>);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListBucketResult {
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    contents: Vec<Contents>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Contents {
    key: String,
    size: u64,
}

/// The next page is requested by the last key instead of the server's token: all servers with lists understand that.
fn read_s3(text: &str) -> Option<ParsedList> {
    let result: ListBucketResult = quick_xml::de::from_str(text).ok()?;
    let last = result.contents.last().map(|last| last.key.clone());
    let objects = result.contents.into_iter().map(|it| (it.key, it.size)).collect();
    Some((objects, last.filter(|_| result.is_truncated)))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EnumerationResults {
    blobs: Blobs,
    #[serde(default)]
    next_marker: String,
}

#[derive(Deserialize)]
struct Blobs {
    #[serde(default, rename = "Blob")]
    blobs: Vec<AzureBlob>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AzureBlob {
    name: String,
    properties: Properties,
}

#[derive(Deserialize)]
struct Properties {
    #[serde(rename = "Content-Length", default)]
    length: u64,
}

fn read_azure(text: &str) -> Option<ParsedList> {
    let result: EnumerationResults = quick_xml::de::from_str(text.trim_start_matches('\u{feff}')).ok()?;
    let objects = result.blobs.blobs.into_iter().map(|it| (it.name, it.properties.length)).collect();
    Some((objects, Some(result.next_marker).filter(|marker| !marker.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::{StorePrefix, read_azure, read_s3};

    #[test]
    fn lists_are_read_as_stores_write_them() {
        let text = "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name>\
            <IsTruncated>true</IsTruncated><Contents><Key>a&amp;b//c.mp4</Key><Size>7</Size><ETag>&quot;1&quot;</ETag></Contents>\
            <CommonPrefixes><Prefix>x/</Prefix></CommonPrefixes><Contents><Key>d</Key><Size>8</Size></Contents></ListBucketResult>";
        let (objects, next) = read_s3(text).unwrap();
        assert_eq!(objects, [("a&b//c.mp4".to_owned(), 7), ("d".to_owned(), 8)]);
        assert_eq!(next.as_deref(), Some("d"));
        assert_eq!(read_s3("<ListBucketResult><Name>b</Name></ListBucketResult>").unwrap(), (Vec::new(), None));
        let text = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"https://a/\" \
            ContainerName=\"c\"><Prefix>p/</Prefix><Blobs><Blob><Name>p/a.mp4</Name><Properties><Creation-Time>x</Creation-Time>\
            <Content-Length>9</Content-Length></Properties><OrMetadata /></Blob></Blobs><NextMarker>2!4</NextMarker>\
            </EnumerationResults>";
        let (objects, next) = read_azure(text).unwrap();
        assert_eq!((objects, next.as_deref()), (vec![("p/a.mp4".to_owned(), 9)], Some("2!4")));
        let none = "<EnumerationResults><Blobs /><NextMarker /></EnumerationResults>";
        assert_eq!(read_azure(none).unwrap(), (Vec::new(), None));
        assert!(read_s3("<html>").is_none() && read_azure("").is_none());
    }

    #[test]
    fn a_prefix_is_a_folder() {
        for (address, key) in [("s3://b", ""), ("s3://b/", ""), ("s3://b/a", "a/"), ("az://c/a/b/", "a/b/")] {
            assert_eq!(StorePrefix::parse(address).unwrap().address.key, key);
        }
        for none in ["s3://", "s3://a@b/c", "s3://b/../c", "s3://b/a?X-Amz-Signature=1"] {
            assert!(StorePrefix::parse(none).is_err(), "{none}");
        }
        let place = StorePrefix::parse("s3://b/a").unwrap();
        let url = place.question("x y", Some("x y/&.mp4"), None).below("http://h", true).unwrap();
        assert_eq!(url.as_str(), "http://h/b?list-type=2&prefix=a%2Fx%20y&start-after=a%2Fx%20y%2F%26.mp4");
    }
}
