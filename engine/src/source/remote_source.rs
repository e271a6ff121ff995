//! The remote part of a source: bytes in flight, and a version that the server validates. Fetching is left to `remote`.

use std::time::{Duration, Instant};

use super::{ByteRange, ReadCounts, Source};

/// The part of a [`Source`] behind a network ([`Source::remote`]). A local source has none: the methods of the same
/// names on `dyn Source` then answer that all bytes are available.
pub trait RemoteSource {
    /// A hint that all of these ranges will be read soon. Returns at once; the source begins to fetch the bytes that
    /// are neither in memory nor in flight, in few requests. Ranges may overlap and may lie past the end.
    fn will_need(&self, ranges: &mut dyn Iterator<Item = ByteRange>);

    /// As [`RemoteSource::will_need`], and calls `then` once none of these bytes is in flight any more, whether they
    /// arrived or failed. Any thread calls `then`, once, possibly before this method returns; it must not take long.
    fn on_available(&self, ranges: &mut dyn Iterator<Item = ByteRange>, then: Box<dyn FnOnce() + Send>);

    /// Whether bytes of a range are in flight. Waits up to `patience` for them before it returns true.
    fn is_pending_after(&self, range: ByteRange, timeout: Duration) -> bool;

    /// Whether a range can be read without waiting.
    fn is_available(&self, range: ByteRange) -> bool;

    /// The number of bytes that may be in flight, or wait to be read, at one time.
    fn prefetch_capacity(&self) -> u64;

    /// The requests and bytes of opening the source: a fixed part of [`Source::counters`].
    fn opening_reads(&self) -> ReadCounts;

    /// The time of the last validation: the start of the request in which the server confirmed the version, or the end
    /// of one without an answer.
    fn validated_at(&self) -> Instant;

    /// Validates the version with one request to the server. If the server has another one, [`Source::check`] fails
    /// from then on. Blocks until the answer, for two seconds at most. A server that cannot be reached leaves the
    /// source as it is.
    fn revalidate(&self);
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

    /// See [`RemoteSource::on_available`]. A local source calls `then` before this method returns.
    pub fn on_available(&self, ranges: &mut dyn Iterator<Item = ByteRange>, then: Box<dyn FnOnce() + Send>) {
        match self.remote() {
            Some(remote) => remote.on_available(ranges, then),
            None => then(),
        }
    }

    /// See [`RemoteSource::is_pending_after`]. False for a local source.
    pub fn is_pending_after(&self, range: ByteRange, timeout: Duration) -> bool {
        self.remote().is_some_and(|remote| remote.is_pending_after(range, timeout))
    }

    /// See [`RemoteSource::is_available`]. True for a local source.
    pub fn is_available(&self, range: ByteRange) -> bool {
        self.remote().is_none_or(|remote| remote.is_available(range))
    }

    /// See [`RemoteSource::prefetch_capacity`], in bytes. `u64::MAX` for a local source.
    pub fn prefetch_capacity(&self) -> u64 {
        self.remote().map_or(u64::MAX, RemoteSource::prefetch_capacity)
    }

    /// See [`RemoteSource::opening_reads`]. Zero for a local source.
    pub fn opening_reads(&self) -> ReadCounts {
        self.remote().map(RemoteSource::opening_reads).unwrap_or_default()
    }

    /// See [`RemoteSource::validated_at`]; `None` for a local source, whose [`Source::check`] needs no server.
    pub fn validated_at(&self) -> Option<Instant> {
        self.remote().map(RemoteSource::validated_at)
    }

    /// See [`RemoteSource::revalidate`]. A local source does nothing.
    pub fn revalidate(&self) {
        if let Some(remote) = self.remote() {
            remote.revalidate();
        }
    }
}
