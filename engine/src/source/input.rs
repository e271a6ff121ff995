//! Adapts a source to the reads of libavformat.

use std::io;
use std::sync::Arc;

use super::{ByteRange, Source, opening};

/// Passes a demuxer's reads on to a source.
pub(crate) struct SourceInput(pub(crate) Arc<dyn Source>);

impl ffi::Input for SourceInput {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let len = (into.len() as u64).min(self.0.len().saturating_sub(offset));
        if len == 0 {
            return Ok(0);
        }
        // A demuxer requests as much as its buffer holds, and needs the first bytes first: a prefix in memory is
        // returned at once.
        let is_here = |len: &u64| self.0.is_available(ByteRange { start: offset, len: *len });
        let halves = std::iter::successors(Some(len), |len| (*len > 1).then(|| len.div_ceil(2)));
        let len = halves.into_iter().find(is_here).unwrap_or(len);
        // Local reads are too fast to need a limit.
        let fetched_bytes = if self.0.is_remote() { self.0.counters().now().bytes } else { u64::MAX };
        opening::check(fetched_bytes).map_err(io::Error::other)?;
        let bytes = self.0.read(ByteRange { start: offset, len }).map_err(io::Error::other)?;
        into[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}
