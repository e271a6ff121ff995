//! Where bytes come from.
//!
//! A [`Source`] hands out byte ranges as reference-counted views, without a copy where it can, and counts what it was
//! asked for. One whose bytes come over a network has a second part, [`RemoteSource`]. What the bytes mean is not its business.
//! Every implementation passes the same suites, one for each part (`conformance`).

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

/// Opens what a user named: a path, a `file://`, `http://` or `https://` address, or that of an object in a store:
/// `s3://bucket/key`, `gs://bucket/key`, `az://container/blob`.
///
/// # Errors
/// `UnsupportedScheme` for other addresses, `Remote` where a server or a store refuses, and those of [`FileSource::open`].
pub fn open(location: &str) -> Result<Arc<dyn Source>> {
    // A scheme is at least two letters: no drive or file name is mistaken for one.
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
        Some((scheme, _)) => Err(Error::from(ErrorKind::UnsupportedScheme(scheme.to_owned())).of(&shown(location))),
    }
}

/// How many files of [`FileSource`]s are open in this process, and how many may be. Files are closed for others, the least
/// recently used first, before descriptors (`RLIMIT_NOFILE`) or mappings (`vm.max_map_count`) run out, and opened again when they
/// are read. The budget is half of the descriptors that are left, 8 to 8192; beside a server all but those for its connections.
pub fn open_files() -> OpenFiles {
    open_files::now()
}

/// An address as it may be shown: without its user and password, and without its query, which may be a signature. A path
/// stays as it is.
pub fn shown(location: &str) -> String {
    let Some((scheme, rest)) = location.split_once("://") else { return location.to_owned() };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    format!("{scheme}://{}{path}", authority.rsplit('@').next().unwrap_or_default())
}

/// Bytes that came over networks, for all sources that there ever were.
#[cfg(feature = "remote")]
static FETCHED: AtomicU64 = AtomicU64::new(0);

/// Bytes that came over networks so far, for all sources of the process.
#[cfg(feature = "remote")]
pub fn fetched_bytes() -> u64 {
    FETCHED.load(Relaxed)
}

/// What a source was asked for so far. Only ever grows.
#[derive(Debug, Default)]
pub struct Counters {
    requests: AtomicU64,
    bytes: AtomicU64,
    copied: AtomicU64,
    hedged: AtomicU64,
}

/// A reading of [`Counters`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Reads; of a source behind a network, requests to it.
    pub requests: u64,
    /// Bytes read; from a network, if that is where they come from.
    pub bytes: u64,
    /// Bytes of them that were copied on their way to the decoder: at the end of a map, scattered, or for zero padding.
    pub copied: u64,
    /// Requests of them that were made a second time while the first was still waited for.
    pub hedged: u64,
}

impl Counters {
    pub(crate) fn read(&self, bytes: u64) {
        self.requests.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// A request was sent to whoever has the bytes.
    #[cfg(feature = "remote")]
    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// Bytes have come.
    #[cfg(feature = "remote")]
    pub(crate) fn fetched(&self, bytes: u64) {
        FETCHED.fetch_add(bytes, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// A request was made a second time.
    #[cfg(feature = "remote")]
    pub(crate) fn hedged(&self) {
        self.hedged.fetch_add(1, Relaxed);
    }

    pub(crate) fn copy(&self, bytes: usize) {
        self.copied.fetch_add(bytes as u64, Relaxed);
    }

    /// The counts now.
    pub fn now(&self) -> Counted {
        Counted {
            requests: self.requests.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            copied: self.copied.load(Relaxed),
            hedged: self.hedged.load(Relaxed),
        }
    }
}

/// What tells versions of a source of one name apart. The text means nothing but to be compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SourceVersion {
    /// No other version of a source of that name has the same.
    Exact(String),
    /// Most other versions differ in it, but two may agree: the time of the last change, to the second; a weak ETag.
    Approximate(String),
}

impl SourceVersion {
    /// The text, if no two versions share it.
    pub fn exact(self) -> Option<String> {
        match self {
            SourceVersion::Exact(text) => Some(text),
            SourceVersion::Approximate(_) => None,
        }
    }
}

/// Bytes of a fixed length that can be read at any place, by any number of threads.
pub trait Source: Send + Sync + Debug {
    /// What the user called it, for messages.
    fn name(&self) -> &str;

    /// Length in bytes, as of opening.
    fn len(&self) -> u64;

    /// True for no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of `range`, all of them: by reference where the source has them in memory.
    ///
    /// # Errors
    /// `PastEnd` if the range does not lie within the source; `Read` and `Changed` as they happen.
    fn read(&self, range: ByteRange) -> Result<Bytes>;

    /// The bytes of `range` with what libavcodec wants readable after them. A view where at least [`PADDING`] bytes
    /// follow in memory (those are then the next bytes of the file); a counted copy with zeros otherwise.
    ///
    /// # Errors
    /// As [`Source::read`].
    fn read_padded(&self, range: ByteRange) -> Result<PaddedBytes> {
        self.read_zero_padded(range)
    }

    /// As [`Source::read_padded`], with zeros after the data: always a copy. For damaged samples, where a decoder may
    /// look past the end.
    ///
    /// # Errors
    /// As [`Source::read`].
    fn read_zero_padded(&self, range: ByteRange) -> Result<PaddedBytes> {
        let bytes = self.read(range)?;
        self.counters().copy(bytes.len());
        Ok(PaddedBytes::copy_of(&[&bytes]))
    }

    /// The version of what was opened, as far as it is known.
    fn version(&self) -> Option<SourceVersion> {
        None
    }

    /// Is the source still what was opened? Asked before anything made from its bytes is let out.
    ///
    /// # Errors
    /// `Changed` if not.
    fn check(&self) -> Result<()>;

    /// The same bytes as a new source, for a child after `fork`, where this one's locks may be held for ever and its threads are
    /// not. Touches no lock of this one's.
    ///
    /// # Errors
    /// `Changed` if they are not the same any more, and those of opening; `Forked` where it cannot be done.
    fn reopen(&self) -> Result<Arc<dyn Source>> {
        Err(ErrorKind::Forked.into())
    }

    /// What the source was asked for.
    fn counters(&self) -> &Counters;

    /// The part of a source whose bytes come over a network; `None` of one whose bytes are always here.
    fn remote(&self) -> Option<&dyn RemoteSource> {
        None
    }
}

/// `PastEnd` unless `range` lies within `length`.
pub(crate) fn check_bounds(range: ByteRange, length: u64) -> Result<()> {
    let end = range.start.checked_add(range.len).filter(|&end| end <= length);
    end.map(|_| ()).ok_or_else(|| ErrorKind::PastEnd { length, end: range.end() }.into())
}

/// Slices `range` out of bytes that are in memory, as a view with the following bytes as padding if there are enough.
pub(crate) fn padded_view(all: &Bytes, range: ByteRange, counters: &Counters) -> Result<PaddedBytes> {
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
