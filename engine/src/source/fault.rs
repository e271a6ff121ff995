//! A source that fails on command, for tests of everything above. Faults of servers are left to the `testing` crate.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{ByteRange, ReadCounters, ReadCounts, RemoteSource, Source, SourceVersion};
use crate::error::{ErrorKind, Result};

/// A fault to inject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Reads that touch these bytes fail with an I/O error.
    Unreadable(ByteRange),
    /// The source has changed from the read with this number on, counted from 0.
    ChangedAfter(u64),
    /// The source ends at this offset, although it reports another length.
    CutAt(u64),
}

/// A source with injected faults.
#[derive(Debug)]
pub struct FaultSource {
    inner: Arc<dyn Source>,
    faults: Mutex<Vec<Fault>>,
}

impl FaultSource {
    /// A source that reads `inner` and applies `faults`; `set` replaces them.
    pub fn new(inner: Arc<dyn Source>, faults: impl Into<Vec<Fault>>) -> FaultSource {
        FaultSource { inner, faults: Mutex::new(faults.into()) }
    }

    /// Replaces the faults from now on.
    pub fn set(&self, faults: impl Into<Vec<Fault>>) {
        *self.faults.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = faults.into();
    }

    fn faults(&self) -> Vec<Fault> {
        self.faults.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// The error of reading a range, if a fault affects it.
    fn fault_of(&self, range: ByteRange) -> Option<ErrorKind> {
        self.faults().into_iter().find_map(|fault| match fault {
            Fault::Unreadable(bad) if range.start < bad.end() && bad.start < range.end() => {
                Some(ErrorKind::Read(io::Error::other("injected fault")))
            }
            Fault::CutAt(length) if range.end() > length => Some(ErrorKind::PastEnd { length, end: range.end() }),
            _ => None,
        })
    }

    /// The remote part of the wrapped source. `FaultSource` returns its own only if that exists.
    fn inner_remote(&self) -> &dyn RemoteSource {
        self.inner.remote().expect("a source that is remote stays remote")
    }
}

impl Source for FaultSource {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read(&self, range: ByteRange) -> Result<Bytes> {
        match self.fault_of(range) {
            Some(kind) => Err(kind.into()),
            None => self.inner.read(range),
        }
    }

    fn version(&self) -> Option<SourceVersion> {
        self.inner.version()
    }

    fn check(&self) -> Result<()> {
        let requests = self.counters().now().requests;
        let changed = |fault: &Fault| matches!(fault, Fault::ChangedAfter(count) if requests > *count);
        if self.faults().iter().any(changed) { Err(ErrorKind::Changed.into()) } else { self.inner.check() }
    }

    fn counters(&self) -> &ReadCounters {
        self.inner.counters()
    }

    fn remote(&self) -> Option<&dyn RemoteSource> {
        self.inner.remote().map(|_| self as &dyn RemoteSource)
    }
}

/// Ranges that a fault affects are not fetched either: they are neither in memory nor in flight.
impl RemoteSource for FaultSource {
    fn will_need(&self, ranges: &mut dyn Iterator<Item = ByteRange>) {
        self.inner_remote().will_need(&mut ranges.filter(|&range| self.fault_of(range).is_none()));
    }

    fn on_available(&self, ranges: &mut dyn Iterator<Item = ByteRange>, then: Box<dyn FnOnce() + Send>) {
        self.inner_remote().on_available(&mut ranges.filter(|&range| self.fault_of(range).is_none()), then);
    }

    fn is_pending_after(&self, range: ByteRange, patience: Duration) -> bool {
        self.fault_of(range).is_none() && self.inner_remote().is_pending_after(range, patience)
    }

    fn is_available(&self, range: ByteRange) -> bool {
        self.fault_of(range).is_none() && self.inner_remote().is_available(range)
    }

    fn prefetch_capacity(&self) -> u64 {
        self.inner_remote().prefetch_capacity()
    }

    fn opening_reads(&self) -> ReadCounts {
        self.inner_remote().opening_reads()
    }

    fn validated_at(&self) -> Instant {
        self.inner_remote().validated_at()
    }

    fn revalidate(&self) {
        self.inner_remote().revalidate();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Fault, FaultSource};
    use crate::source::{ByteRange, MemorySource, Source, conformance};

    #[test]
    fn conforms_without_faults_and_fails_with_them() {
        let source = FaultSource::new(Arc::new(MemorySource::new("memory", conformance::bytes())), []);
        conformance::local(&source);
        source.set([Fault::Unreadable(ByteRange { start: 100, len: 10 }), Fault::CutAt(5000)]);
        assert!(source.read(ByteRange { start: 0, len: 100 }).is_ok());
        assert!(source.read(ByteRange { start: 0, len: 101 }).is_err());
        assert!(source.read_padded(ByteRange { start: 4999, len: 2 }).is_err());
        assert!(source.check().is_ok());
        source.set([Fault::ChangedAfter(0)]);
        assert!(source.check().is_err());
    }

    #[cfg(feature = "remote")]
    #[test]
    fn conforms_over_a_network_and_fetches_nothing_that_a_fault_hides() {
        use std::time::Duration;

        use crate::source::RemoteSource;
        use crate::source::remote::{HttpClient, HttpOptions};

        let server = testing::range_server::RangeServer::start();
        let address = server.put("bytes", conformance::bytes(), "\"1\"");
        let options = HttpOptions { block: 1000, gap: 100, cache: 20_000, ..HttpOptions::default() };
        let open = || {
            let inner = HttpClient::new(options.clone()).unwrap().open(&address).unwrap();
            FaultSource::new(Arc::new(inner), [])
        };
        conformance::remote(&open());
        let source = open();
        source.set([Fault::Unreadable(ByteRange { start: 5000, len: 1 })]);
        let (bad, good) = (ByteRange { start: 4990, len: 20 }, ByteRange { start: 8000, len: 20 });
        let (sender, arrived) = std::sync::mpsc::channel();
        source.on_available(&mut [bad, good].into_iter(), Box::new(move || sender.send(()).unwrap()));
        arrived.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(
            source.is_available(good) && !source.is_available(bad) && !source.is_pending_after(bad, Duration::ZERO)
        );
        source.set([]);
        assert!(!source.is_available(bad), "the hint was not passed on");
    }
}
