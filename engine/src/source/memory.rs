//! A source over bytes in memory.

use std::sync::Arc;

use bytes::Bytes;
use ffi::PaddedBytes;

use super::{ByteRange, ReadCounters, Source, check_bounds, padded_view};
use crate::error::Result;

/// A video in memory. It cannot change, so [`Source::check`] never fails; views share the one allocation.
#[derive(Debug)]
pub struct MemorySource {
    name: Arc<str>,
    bytes: Bytes,
    counters: ReadCounters,
}

impl MemorySource {
    /// A source over `bytes`, called `name` in messages.
    pub fn new(name: &str, bytes: impl Into<Bytes>) -> MemorySource {
        MemorySource { name: name.into(), bytes: bytes.into(), counters: ReadCounters::default() }
    }
}

impl Source for MemorySource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, range: ByteRange) -> Result<Bytes> {
        check_bounds(range, self.len())?;
        self.counters.read(range.len);
        Ok(self.bytes.slice(range.start as usize..range.end() as usize))
    }

    fn read_padded(&self, range: ByteRange) -> Result<PaddedBytes> {
        padded_view(&self.bytes, range, &self.counters)
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn reopen(&self) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(MemorySource::new(&self.name, self.bytes.clone())))
    }

    fn counters(&self) -> &ReadCounters {
        &self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::MemorySource;
    use crate::source::conformance;

    #[test]
    fn conforms() {
        conformance::local(&MemorySource::new("memory", conformance::bytes()));
    }
}
