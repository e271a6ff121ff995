//! Finds the bytes of a demuxed packet again in the file.
//!
//! libavformat hands out packets in memory of its own. So that a sample can later be read in place, the scan looks for
//! each packet's bytes near where its container says that it is, and believes only a full comparison. Whatever is not
//! found byte for byte stays in memory, within a budget that the scan keeps.

use std::sync::Arc;

use bytes::Bytes;

use super::ts::ElementaryStream;
use crate::error::Result;
use crate::source::{ByteRange, Source};

/// Where a packet's bytes are.
#[derive(Debug)]
pub(super) enum Found {
    /// One range of the file, beginning here.
    Whole(u64),
    /// Several ranges, in order.
    Pieces(Vec<ByteRange>),
    /// Not in the file as they are.
    Nowhere,
}

/// How far behind its container's position a packet's data may begin: block and packet headers, laces of small frames.
const WINDOW: u64 = 64 * 1024;

pub(super) struct Locator {
    source: Arc<dyn Source>,
    transport: Option<ElementaryStream>,
    /// End of the packet found last: packets of a raw stream follow each other.
    next: u64,
}

impl Locator {
    /// `pid` is the packet identifier of the track in a transport stream.
    pub(super) fn new(source: Arc<dyn Source>, pid: Option<i32>) -> Result<Locator> {
        let transport = match pid {
            Some(pid) => Some(ElementaryStream::new(Arc::clone(&source), pid as u16)?),
            None => None,
        };
        Ok(Locator { source, transport, next: 0 })
    }

    pub(super) fn find(&mut self, data: &[u8], position: Option<u64>) -> Result<Found> {
        if let Some(transport) = &mut self.transport {
            return Ok(transport.find(data)?.map_or(Found::Nowhere, Found::Pieces));
        }
        for start in [position, Some(self.next)].into_iter().flatten() {
            if let Some(offset) = self.search(data, start)? {
                self.next = offset + data.len() as u64;
                return Ok(Found::Whole(offset));
            }
        }
        Ok(Found::Nowhere)
    }

    /// The first place from `start` on, within the window, where the file has `data`.
    fn search(&self, data: &[u8], start: u64) -> Result<Option<u64>> {
        let end = (start.saturating_add(WINDOW).saturating_add(data.len() as u64)).min(self.source.len());
        if start >= end {
            return Ok(None);
        }
        let window: Bytes = self.source.read(ByteRange { start, len: end - start })?;
        let last = window.len().checked_sub(data.len());
        let Some(last) = last else { return Ok(None) };
        let found = (0..=last).find(|&at| window[at] == data[0] && window[at..at + data.len()] == *data);
        Ok(found.map(|at| start + at as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Found, Locator};
    use crate::source::MemorySource;

    #[test]
    fn packets_are_found_at_or_behind_their_position_or_not_at_all() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut locator = Locator::new(Arc::new(MemorySource::new("memory", bytes.clone())), None).unwrap();
        let at = |found| if let Found::Whole(offset) = found { Some(offset) } else { None };
        assert_eq!(at(locator.find(&bytes[1000..2000], Some(990)).unwrap()), Some(1000));
        assert_eq!(at(locator.find(&bytes[2000..2100], None).unwrap()), Some(2000), "right after the one before");
        assert_eq!(at(locator.find(&bytes[99_990..], Some(99_000)).unwrap()), Some(99_990));
        let mut changed = bytes[500..900].to_vec();
        changed[399] ^= 1;
        assert_eq!(at(locator.find(&changed, Some(400)).unwrap()), None, "almost is not found");
        assert_eq!(at(locator.find(&bytes[..10], Some(u64::MAX)).unwrap()), None);
    }
}
