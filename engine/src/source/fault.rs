//! A source that fails on command: for tests of everything above.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{ByteRange, Counted, Counters, Source};
use crate::error::{Error, ErrorKind, Result};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Reads that touch these bytes fail with an I/O error.
    Unreadable(ByteRange),
    /// From the read with this number on (counted from 0), the source has changed.
    ChangedAfter(u64),
    /// The source ends here, whatever it said its length was.
    CutAt(u64),
}

/// Another source with faults.
#[derive(Debug)]
pub struct FaultSource {
    inner: Arc<dyn Source>,
    faults: Mutex<Vec<Fault>>,
}

impl FaultSource {
    /// Wraps `inner`.
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
}

impl Source for FaultSource {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read(&self, range: ByteRange) -> Result<Bytes> {
        for fault in self.faults() {
            match fault {
                Fault::Unreadable(bad) if range.start < bad.end() && bad.start < range.end() => {
                    return Err(Error::from(ErrorKind::Read(io::Error::other("injected fault"))));
                }
                Fault::CutAt(length) if range.end() > length => {
                    return Err(ErrorKind::PastEnd { length, end: range.end() }.into());
                }
                _ => {}
            }
        }
        self.inner.read(range)
    }

    fn will_need(&self, ranges: &mut dyn Iterator<Item = ByteRange>) {
        self.inner.will_need(ranges);
    }

    fn when_here(&self, ranges: &mut dyn Iterator<Item = ByteRange>, then: Box<dyn FnOnce() + Send>) {
        self.inner.when_here(ranges, then);
    }

    fn is_awaited(&self, range: ByteRange, patience: Duration) -> bool {
        self.inner.is_awaited(range, patience)
    }

    fn is_here(&self, range: ByteRange) -> bool {
        self.inner.is_here(range)
    }

    fn room(&self) -> u64 {
        self.inner.room()
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }

    fn version(&self) -> Option<String> {
        self.inner.version()
    }

    fn version_hint(&self) -> Option<String> {
        self.inner.version_hint()
    }

    fn confirmed(&self) -> Option<Instant> {
        self.inner.confirmed()
    }

    fn confirm(&self) {
        self.inner.confirm();
    }

    fn opening(&self) -> Counted {
        self.inner.opening()
    }

    fn check(&self) -> Result<()> {
        let requests = self.counters().now().requests;
        let changed = |fault: &Fault| matches!(fault, Fault::ChangedAfter(count) if requests > *count);
        if self.faults().iter().any(changed) { Err(ErrorKind::Changed.into()) } else { self.inner.check() }
    }

    fn counters(&self) -> &Counters {
        self.inner.counters()
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
        conformance::run(&source);
        source.set([Fault::Unreadable(ByteRange { start: 100, len: 10 }), Fault::CutAt(5000)]);
        assert!(source.read(ByteRange { start: 0, len: 100 }).is_ok());
        assert!(source.read(ByteRange { start: 0, len: 101 }).is_err());
        assert!(source.read_padded(ByteRange { start: 4999, len: 2 }).is_err());
        assert!(source.check().is_ok());
        source.set([Fault::ChangedAfter(0)]);
        assert!(source.check().is_err());
    }
}
