//! What only a source behind a network has: bytes on their way, and a version that can be confirmed. Fetching is left
//! to `remote`.

use std::time::{Duration, Instant};

use super::{ByteRange, Counted, Source};

/// The part of a [`Source`] behind a network ([`Source::remote`]). A local source has none: the methods of the same
/// names on `dyn Source` then answer that all bytes are available.
pub trait RemoteSource {
    /// A hint that all of these ranges will be read soon. Returns at once; the source begins to fetch the bytes that
    /// are neither in memory nor on their way, in few requests. Ranges may overlap and may lie past the end.
    fn will_need(&self, ranges: &mut dyn Iterator<Item = ByteRange>);

    /// As [`RemoteSource::will_need`], and calls `then` once none of these bytes is on its way any more, whether they
    /// arrived or failed. Any thread calls `then`, once, possibly before this method returns; it must not take long.
    fn when_here(&self, ranges: &mut dyn Iterator<Item = ByteRange>, then: Box<dyn FnOnce() + Send>);

    /// Whether bytes of a range are on their way. Waits up to `patience` for them before it returns true.
    fn is_awaited(&self, range: ByteRange, patience: Duration) -> bool;

    /// Whether a range can be read without waiting.
    fn is_here(&self, range: ByteRange) -> bool;

    /// Bytes that may be on their way, or wait to be read, at one time.
    fn room(&self) -> u64;

    /// The requests and bytes of opening the source: a fixed part of [`Source::counters`].
    fn opening(&self) -> Counted;

    /// When the server last confirmed the version, or could not be reached when asked.
    fn confirmed(&self) -> Instant;

    /// Asks the server whether it still has the version that was opened; if not, [`Source::check`] fails from then on.
    /// Waits for the answer, two seconds at most. A server that cannot be reached leaves the source as it is.
    fn confirm(&self);
}

/// [`RemoteSource`] for every source: a local source answers that its bytes are available.
impl dyn Source + '_ {
    /// Whether bytes come over a network. Only then are the ranges for [`RemoteSource::will_need`] worth computing.
    pub fn is_remote(&self) -> bool {
        self.remote().is_some()
    }

    /// See [`RemoteSource::will_need`]. A local source does not iterate over the ranges.
    pub fn will_need(&self, ranges: &mut dyn Iterator<Item = ByteRange>) {
        if let Some(remote) = self.remote() {
            remote.will_need(ranges);
        }
    }

    /// See [`RemoteSource::when_here`]. A local source calls `then` before this method returns.
    pub fn when_here(&self, ranges: &mut dyn Iterator<Item = ByteRange>, then: Box<dyn FnOnce() + Send>) {
        match self.remote() {
            Some(remote) => remote.when_here(ranges, then),
            None => then(),
        }
    }

    /// See [`RemoteSource::is_awaited`]. False for a local source.
    pub fn is_awaited(&self, range: ByteRange, patience: Duration) -> bool {
        self.remote().is_some_and(|remote| remote.is_awaited(range, patience))
    }

    /// See [`RemoteSource::is_here`]. True for a local source.
    pub fn is_here(&self, range: ByteRange) -> bool {
        self.remote().is_none_or(|remote| remote.is_here(range))
    }

    /// See [`RemoteSource::room`], in bytes. `u64::MAX` for a local source.
    pub fn room(&self) -> u64 {
        self.remote().map_or(u64::MAX, RemoteSource::room)
    }

    /// See [`RemoteSource::opening`]. Zero for a local source.
    pub fn opening(&self) -> Counted {
        self.remote().map(RemoteSource::opening).unwrap_or_default()
    }

    /// See [`RemoteSource::confirmed`]; `None` for a local source, whose [`Source::check`] needs no server.
    pub fn confirmed(&self) -> Option<Instant> {
        self.remote().map(RemoteSource::confirmed)
    }

    /// See [`RemoteSource::confirm`]. A local source does nothing.
    pub fn confirm(&self) {
        if let Some(remote) = self.remote() {
            remote.confirm();
        }
    }
}
