//! What only a source behind a network has: bytes that are on their way, and a version that can be confirmed.

use std::time::{Duration, Instant};

use super::{ByteRange, Counted, Source};

/// The part of a [`Source`] whose bytes come over a network ([`Source::remote`]). Local sources have none; the methods of the
/// same names on `dyn Source` then answer for bytes that are always here.
pub trait RemoteSource {
    /// A hint: all of these ranges will be read soon. Returns at once; the source begins to fetch what is neither here nor on
    /// its way, in as few requests as it sees fit. Ranges may overlap, and may lie past the end.
    fn will_need(&self, ranges: &mut dyn Iterator<Item = ByteRange>);

    /// As [`RemoteSource::will_need`], and calls `then` once none of these bytes is on its way any more, whether they came or
    /// failed. `then` is called once, by any thread, possibly before this returns, and must not take long.
    fn when_here(&self, ranges: &mut dyn Iterator<Item = ByteRange>, then: Box<dyn FnOnce() + Send>);

    /// Are bytes of a range on their way? Waits up to `patience` for them to arrive before it says that they are.
    fn is_awaited(&self, range: ByteRange, patience: Duration) -> bool;

    /// Can a range be read without waiting?
    fn is_here(&self, range: ByteRange) -> bool;

    /// How many bytes may be on their way, or wait to be read, at one time.
    fn room(&self) -> u64;

    /// What opening the source took. A part of [`Source::counters`], fixed from then on.
    fn opening(&self) -> Counted;

    /// When the server was last asked for the version, and confirmed it or could not be reached.
    fn confirmed(&self) -> Instant;

    /// Asks the server whether it still has the version that was opened: if not, [`Source::check`] fails from then on. Waits
    /// for the answer, two seconds at most; a server that cannot be reached proves nothing.
    fn confirm(&self);
}

/// [`RemoteSource`], with the answers of bytes that are always here for a source without that part.
impl dyn Source + '_ {
    /// Do bytes come over a network? Then it is worth finding out what to tell [`RemoteSource::will_need`].
    pub fn is_remote(&self) -> bool {
        self.remote().is_some()
    }

    /// See [`RemoteSource::will_need`]. A local source does not even look at the ranges.
    pub fn will_need(&self, ranges: &mut dyn Iterator<Item = ByteRange>) {
        if let Some(remote) = self.remote() {
            remote.will_need(ranges);
        }
    }

    /// See [`RemoteSource::when_here`]. A local source calls `then` before this returns.
    pub fn when_here(&self, ranges: &mut dyn Iterator<Item = ByteRange>, then: Box<dyn FnOnce() + Send>) {
        match self.remote() {
            Some(remote) => remote.when_here(ranges, then),
            None => then(),
        }
    }

    /// See [`RemoteSource::is_awaited`]. Never, of a local source.
    pub fn is_awaited(&self, range: ByteRange, patience: Duration) -> bool {
        self.remote().is_some_and(|remote| remote.is_awaited(range, patience))
    }

    /// See [`RemoteSource::is_here`]. Always, of a local source.
    pub fn is_here(&self, range: ByteRange) -> bool {
        self.remote().is_none_or(|remote| remote.is_here(range))
    }

    /// See [`RemoteSource::room`], in bytes. A local source has no limit.
    pub fn room(&self) -> u64 {
        self.remote().map_or(u64::MAX, RemoteSource::room)
    }

    /// See [`RemoteSource::opening`]. Nothing, of a local source.
    pub fn opening(&self) -> Counted {
        self.remote().map(RemoteSource::opening).unwrap_or_default()
    }

    /// See [`RemoteSource::confirmed`]; `None` of a local source, whose [`Source::check`] always knows.
    pub fn confirmed(&self) -> Option<Instant> {
        self.remote().map(RemoteSource::confirmed)
    }

    /// See [`RemoteSource::confirm`]. A local source needs no confirmation.
    pub fn confirm(&self) {
        if let Some(remote) = self.remote() {
            remote.confirm();
        }
    }
}
