//! Sources: the bytes of a video.
//!
//! A [`Source`] gives byte ranges as reference-counted views, without a copy where possible, and counts its reads. A
//! source behind a network has a second part, [`RemoteSource`]. The meaning of the bytes is left to `container`. Every
//! implementation passes the same suites, one for each trait (`conformance`).

#[cfg(test)]
pub(crate) mod conformance;
mod fault;
mod file;
mod input;
mod memory;
pub mod open_files;
pub(crate) mod opening;
#[cfg(feature = "remote")]
pub mod remote;
mod remote_source;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use ffi::{PADDING, PaddedBytes};

pub use crate::error::Refusal;
pub use fault::{Fault, FaultSource};
pub use file::FileSource;
pub(crate) use input::SourceInput;
pub use memory::MemorySource;
pub use open_files::OpenFiles;
pub use opening::Opening;
pub use remote_source::RemoteSource;

use crate::error::{Error, ErrorKind, Result};

/// Bytes `start..start + len` of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// Number of bytes.
    pub len: u64,
}

impl ByteRange {
    /// One past the last byte; saturates for ranges that no file can have.
    pub fn end(self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// Opens a path, a `file://`, `http://` or `https://` address, or the address of an object in a store:
/// `s3://bucket/key`, `gs://bucket/key`, `az://container/blob`. A remote source is opened with one request, and this
/// function blocks until its first bytes arrive.
///
/// # Errors
/// `UnsupportedScheme` for other addresses, `Remote` where a server or a store refuses, and those of
/// [`FileSource::open`].
pub fn open(location: &str) -> Result<Arc<dyn Source>> {
    // A scheme has at least two letters, so that no drive or file name is taken for one.
    match location.split_once("://").filter(|(scheme, _)| scheme.len() > 1) {
        None => Ok(Arc::new(FileSource::open(location)?)),
        Some(("file", path)) => Ok(Arc::new(FileSource::open(path)?)),
        #[cfg(feature = "remote")]
        Some((scheme, _)) if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
            Ok(Arc::new(remote::HttpClient::shared()?.open(location)?))
        }
        #[cfg(feature = "stores")]
        Some((scheme, _)) if remote::StoreClient::knows(scheme) => {
            Ok(Arc::new(remote::StoreClient::shared()?.open(location)?))
        }
        Some((scheme, _)) => Err(Error::from(ErrorKind::UnsupportedScheme(scheme.to_owned())).of(&redacted(location))),
    }
}

/// The number of open files of all [`FileSource`]s in this process, and its limit. When descriptors (`RLIMIT_NOFILE`)
/// or mappings (`vm.max_map_count`) run short, the least recently used files are closed; a source opens its file again
/// at its next read. The budget is half of the free descriptors, 8 to 8192; in a server, all but those reserved for
/// connections.
pub fn open_files() -> OpenFiles {
    open_files::now()
}

/// An address without its user, password and query (which may be a signature), for messages. A path stays as it is.
pub fn redacted(location: &str) -> String {
    let Some((scheme, rest)) = location.split_once("://") else { return location.to_owned() };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    format!("{scheme}://{}{path}", authority.rsplit('@').next().unwrap_or_default())
}

/// Bytes fetched over networks by all sources since the process began.
#[cfg(feature = "remote")]
static FETCHED: AtomicU64 = AtomicU64::new(0);

/// Bytes that all sources of the process have fetched over networks.
#[cfg(feature = "remote")]
pub fn fetched_bytes() -> u64 {
    FETCHED.load(Relaxed)
}

/// Counters of a source's reads, for any number of threads. They only grow.
#[derive(Debug, Default)]
pub struct ReadCounters {
    requests: AtomicU64,
    bytes: AtomicU64,
    copied: AtomicU64,
    hedged: AtomicU64,
}

/// A snapshot of [`ReadCounters`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// Reads; of a remote source, requests.
    pub requests: u64,
    /// Bytes read; of a remote source, bytes of answers.
    pub bytes: u64,
    /// Those of `bytes` that were copied on their way to the decoder: at the end of a map, scattered, or for zero
    /// padding.
    pub copied: u64,
    /// Those of `requests` that were second requests (hedging), sent while the first one was in flight.
    pub hedged: u64,
}

impl ReadCounters {
    pub(crate) fn read(&self, bytes: u64) {
        self.requests.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// Counts a request to a server.
    #[cfg(feature = "remote")]
    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// Counts bytes of an answer.
    #[cfg(feature = "remote")]
    pub(crate) fn fetched(&self, bytes: u64) {
        FETCHED.fetch_add(bytes, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// Counts a second request (hedging).
    #[cfg(feature = "remote")]
    pub(crate) fn hedged(&self) {
        self.hedged.fetch_add(1, Relaxed);
    }

    pub(crate) fn copy(&self, bytes: usize) {
        self.copied.fetch_add(bytes as u64, Relaxed);
    }

    /// The counts now.
    pub fn now(&self) -> ReadCounts {
        ReadCounts {
            requests: self.requests.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            copied: self.copied.load(Relaxed),
            hedged: self.hedged.load(Relaxed),
        }
    }
}

/// Identifies a version of a source among those of the same name. The text is only for comparison.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SourceVersion {
    /// No other version of a source of that name has the same text.
    Exact(String),
    /// Two versions may share the text: a time of modification to the second, a weak ETag.
    Approximate(String),
}

impl SourceVersion {
    /// The text, if it is exact.
    pub fn exact(self) -> Option<String> {
        match self {
            SourceVersion::Exact(text) => Some(text),
            SourceVersion::Approximate(_) => None,
        }
    }
}

/// Bytes of a fixed length, readable at any offset by any number of threads.
pub trait Source: Send + Sync + Debug {
    /// The name for messages: the path or address as given to the opening, without credentials and signatures.
    fn name(&self) -> &str;

    /// Length in bytes, as of opening.
    fn len(&self) -> u64;

    /// True if the source has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All bytes of `range`: a view where the source has them in memory.
    ///
    /// # Errors
    /// `PastEnd` if the range does not lie within the source; `Read` with the system's error, or `Remote` with the
    /// server's; `Changed` if the source no longer has the version that was opened.
    fn read(&self, range: ByteRange) -> Result<Bytes>;

    /// The bytes of `range`, followed by the readable padding that libavcodec demands. A view where at least
    /// [`PADDING`] bytes follow in memory (the padding is then the next bytes of the file); a counted copy with zeros
    /// otherwise.
    ///
    /// # Errors
    /// As [`Source::read`].
    fn read_padded(&self, range: ByteRange) -> Result<PaddedBytes> {
        self.read_zero_padded(range)
    }

    /// As [`Source::read_padded`], with zeros after the data: always a copy. For damaged samples, on which a decoder
    /// may read past the end.
    ///
    /// # Errors
    /// As [`Source::read`].
    fn read_zero_padded(&self, range: ByteRange) -> Result<PaddedBytes> {
        let bytes = self.read(range)?;
        self.counters().copy(bytes.len());
        Ok(PaddedBytes::copy_of(&[&bytes]))
    }

    /// The version of what was opened, if the source has one.
    fn version(&self) -> Option<SourceVersion> {
        None
    }

    /// Checks that the source still has the version that was opened. The engine calls it before it returns anything
    /// made from the bytes. One system call for a local file, and none for a remote source.
    ///
    /// # Errors
    /// `Changed` if not.
    fn check(&self) -> Result<()>;

    /// A new source for the same bytes, for a child after `fork`: locks of this source may be held for ever there, and
    /// its threads do not exist. Takes none of its locks.
    ///
    /// # Errors
    /// `Changed` if the bytes are not the same any more, and those of opening; `Forked` where the source cannot be
    /// opened again.
    fn reopen(&self) -> Result<Arc<dyn Source>> {
        Err(ErrorKind::Forked.into())
    }

    /// The counts of this source's reads.
    fn counters(&self) -> &ReadCounters;

    /// The remote part; `None` for a source whose bytes are always available.
    fn remote(&self) -> Option<&dyn RemoteSource> {
        None
    }
}

/// `PastEnd` unless `range` lies within `length`.
pub(crate) fn check_bounds(range: ByteRange, length: u64) -> Result<()> {
    let end = range.start.checked_add(range.len).filter(|&end| end <= length);
    end.map(|_| ()).ok_or_else(|| ErrorKind::PastEnd { length, end: range.end() }.into())
}

/// Slices `range` out of bytes in memory: a view if enough bytes follow to serve as padding, otherwise a counted copy.
pub(crate) fn padded_view(all: &Bytes, range: ByteRange, counters: &ReadCounters) -> Result<PaddedBytes> {
    check_bounds(range, all.len() as u64)?;
    let (start, len) = (range.start as usize, range.len as usize);
    counters.read(range.len);
    match all.len() - (start + len) {
        after if after >= PADDING => {
            let view = all.slice(start..start + len + PADDING);
            Ok(PaddedBytes::view(view, len).expect("sliced with its padding"))
        }
        _ => {
            counters.copy(len);
            Ok(PaddedBytes::copy_of(&[&all[start..start + len]]))
        }
    }
}
