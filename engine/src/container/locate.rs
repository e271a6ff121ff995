//! Finds the bytes of a demuxed packet in the file.
//!
//! libavformat returns packets in its own memory. To read samples in place later, the scan searches for each packet's
//! bytes near the position that the container states, and accepts only an exact match. Packets without one stay in
//! memory, within a budget of the scan.

use std::sync::Arc;

use bytes::Bytes;

use super::ts::{ElementaryStream, TsLocation, TsPacketLayout};
use crate::error::Result;
use crate::source::{ByteRange, Source};

/// The location of a packet's bytes.
#[derive(Debug)]
pub(super) enum PacketLocation {
    /// One range of the file, beginning at this offset.
    Whole(u64),
    /// Between packet headers.
    Scattered(TsLocation),
    /// The file does not contain the bytes in this form.
    Nowhere,
}

/// The longest distances from the container's position to a packet's data, tried in turn: none, a block's header, laces
/// of small frames.
const WINDOWS: [u64; 3] = [0, 64, 64 * 1024];

pub(super) struct Locator {
    source: Arc<dyn Source>,
    transport: Option<ElementaryStream>,
    /// End of the packet found last: packets of a raw stream follow each other.
    next: u64,
    /// Bytes that searches may still examine. It grows with the packets, so that the total time is proportional to
    /// them.
    effort: usize,
}

/// The largest effort of one search, in bytes examined.
const EFFORT: usize = 16 << 20;
/// Effort added per packet, and per byte of it.
const PACKET_EFFORT: usize = 2048;
const BYTE_EFFORT: usize = 32;

impl Locator {
    /// `pid` is the packet identifier of the track in a transport stream.
    pub(super) fn new(source: Arc<dyn Source>, pid: Option<i32>) -> Result<Locator> {
        let transport = match pid {
            Some(pid) => Some(ElementaryStream::new(Arc::clone(&source), pid as u16)?),
            None => None,
        };
        Ok(Locator { source, transport, next: 0, effort: EFFORT })
    }

    pub(super) fn find(&mut self, data: &[u8], position: Option<u64>) -> Result<PacketLocation> {
        if let Some(transport) = &mut self.transport {
            return Ok(transport.find(data)?.map_or(PacketLocation::Nowhere, PacketLocation::Scattered));
        }
        let more = PACKET_EFFORT.saturating_add(data.len().saturating_mul(BYTE_EFFORT));
        self.effort = self.effort.saturating_add(more).min(EFFORT);
        for window in WINDOWS {
            for start in [position, Some(self.next)].into_iter().flatten() {
                if let Some(offset) = self.search(data, start, window)? {
                    self.next = offset + data.len() as u64;
                    return Ok(PacketLocation::Whole(offset));
                }
            }
        }
        Ok(PacketLocation::Nowhere)
    }

    /// The layout of transport packets, in a transport stream.
    pub(super) fn packet_layout(&self) -> Option<TsPacketLayout> {
        self.transport.as_ref().map(ElementaryStream::layout)
    }

    /// The first offset of `data` in the file, from `start` on, within the window.
    fn search(&mut self, data: &[u8], start: u64, window: u64) -> Result<Option<u64>> {
        let window = window.min(self.effort as u64);
        let end = (start.saturating_add(window).saturating_add(data.len() as u64)).min(self.source.len());
        if start >= end {
            return Ok(None);
        }
        let window: Bytes = self.source.read(ByteRange { start, len: end - start })?;
        let most = (2 * window.len()).min(self.effort);
        let mut effort = most;
        let found = search(&window, data, &mut effort);
        self.effort -= most - effort;
        Ok(found.map(|at| start + at as u64))
    }
}

/// The first offset of `data` in `window`. Examines at most `effort` bytes, and subtracts them: without a limit, long
/// runs of one byte value would make the time the product of both lengths.
pub(super) fn search(window: &[u8], data: &[u8], effort: &mut usize) -> Option<usize> {
    let last = window.len().checked_sub(data.len())?;
    for at in 0..=last {
        let looked = if window[at] != data[0] {
            1
        } else if window[at..at + data.len()] == *data {
            return Some(at);
        } else {
            1 + window[at..].iter().zip(data).take_while(|(a, b)| a == b).count()
        };
        let Some(left) = effort.checked_sub(looked) else {
            *effort = 0;
            return None;
        };
        *effort = left;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Locator, PacketLocation, search};
    use crate::source::MemorySource;

    #[test]
    fn packets_are_found_at_or_behind_their_position_or_not_at_all() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut locator = Locator::new(Arc::new(MemorySource::new("memory", bytes.clone())), None).unwrap();
        let at = |found| if let PacketLocation::Whole(offset) = found { Some(offset) } else { None };
        assert_eq!(at(locator.find(&bytes[1000..2000], Some(990)).unwrap()), Some(1000));
        assert_eq!(at(locator.find(&bytes[2000..2100], None).unwrap()), Some(2000), "after the preceding packet");
        assert_eq!(at(locator.find(&bytes[99_990..], Some(99_000)).unwrap()), Some(99_990));
        let mut changed = bytes[500..900].to_vec();
        changed[399] ^= 1;
        assert_eq!(at(locator.find(&changed, Some(400)).unwrap()), None, "a partial match is none");
        assert_eq!(at(locator.find(&bytes[..10], Some(u64::MAX)).unwrap()), None);
    }

    #[test]
    fn a_search_gives_up_where_it_would_take_too_long() {
        let window = [vec![0; 1000], vec![1]].concat();
        let data = [vec![0; 100], vec![1]].concat();
        let mut effort = 100_000;
        assert_eq!(search(&window, &data, &mut effort), Some(900));
        assert!(effort < 100_000 - 900 * 100);
        assert_eq!(search(&window, &data, &mut 10_000), None);
        assert_eq!(search(&window, &window, &mut 0), Some(0), "a match at the first offset takes no effort");
    }
}
