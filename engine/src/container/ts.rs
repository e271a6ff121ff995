//! MPEG-TS (ISO/IEC 13818-1): locates the bytes of an elementary stream between packet headers.
//!
//! Demultiplexing is left to libavformat. This code reads the packets of one PID in parallel, removes transport and PES
//! headers, and so records where each sample begins and ends; [`gather`] repeats it to read one sample.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use ffi::PaddedBytes;

use super::locate::search;
use crate::error::{ErrorKind, Result};
use crate::source::{ByteRange, Source};

const SYNC: u8 = 0x47;
/// Bytes of the file that are read at a time.
const CHUNK: u64 = 4 << 20;
/// The longest search ahead in the elementary stream for a packet that does not follow the last one.
const SEARCH: usize = 8 << 20;
/// The most effort of such searches, in bytes examined.
const EFFORT: usize = 16 * SEARCH;

/// The layout of transport packets in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct TsPacketLayout {
    /// Packet identifier of the elementary stream.
    pub(super) pid: u16,
    /// Distance of transport packets: 188, or 192 and 204 with time codes and error correction.
    pub(super) distance: u64,
}

/// The location of a sample between packet headers, from which [`gather`] reads it.
#[derive(Debug, Clone, Copy)]
pub(super) struct TsLocation {
    /// First byte of the transport packet in which it begins.
    pub(super) packet: u64,
    /// Bytes of that packet's payload that come before it.
    pub(super) skip: u16,
    /// End of the transport packet in which it ends.
    pub(super) end: u64,
}

/// Reads a sample: one read of all its transport packets, and one copy without the headers.
pub(super) fn gather(
    source: &dyn Source,
    layout: TsPacketLayout,
    location: &TsLocation,
    size: usize,
) -> Result<PaddedBytes> {
    let all = source.read(ByteRange { start: location.packet, len: location.end - location.packet })?;
    let (mut pieces, mut left, mut skip, mut at) = (Vec::new(), size, usize::from(location.skip), 0);
    while left > 0 {
        let Some(packet) = all.get(at..at + 188) else { break };
        if packet[0] != SYNC {
            at += 1;
            continue;
        }
        at += layout.distance as usize;
        let Some((start, _)) = payload(packet, layout.pid) else { continue };
        let piece = packet.get(start + skip..).unwrap_or(&[]);
        skip = 0;
        let piece = &piece[..piece.len().min(left)];
        left -= piece.len();
        pieces.push(piece);
    }
    let gathered = PaddedBytes::copy_of(&pieces);
    source.counters().copy(gathered.len());
    // All bytes existed at the scan: missing ones mean that the file has changed.
    if left == 0 { Ok(gathered) } else { Err(ErrorKind::Changed.into()) }
}

/// A payload in the bytes read ahead.
#[derive(Debug, Clone, Copy)]
struct TsPayload {
    packet: u64,
    /// Bytes of the payload that have been taken.
    skip: usize,
    len: usize,
}

/// The elementary stream of one PID. More of it is read as packets are searched for.
pub(super) struct ElementaryStream {
    source: Arc<dyn Source>,
    layout: TsPacketLayout,
    /// Next transport packet in the file.
    next_packet: u64,
    chunk: (u64, Bytes),
    started: bool,
    /// Bytes read ahead of the last packet found. The first `taken` of them are used up.
    ahead: Vec<u8>,
    taken: usize,
    /// The locations of `ahead` in the file.
    pieces: VecDeque<TsPayload>,
    /// Bytes that searches may still examine. It grows with the packets, so that the total time is proportional to
    /// them.
    effort: usize,
}

impl ElementaryStream {
    pub(super) fn new(source: Arc<dyn Source>, pid: u16) -> Result<ElementaryStream> {
        let head = source.read(ByteRange { start: 0, len: source.len().min(64 * 1024) })?;
        let (start, distance) = packet_grid(&head).unwrap_or((0, 188));
        Ok(ElementaryStream {
            source,
            layout: TsPacketLayout { pid, distance },
            next_packet: start,
            chunk: (0, Bytes::new()),
            started: false,
            ahead: Vec::new(),
            taken: 0,
            pieces: VecDeque::new(),
            effort: EFFORT,
        })
    }

    pub(super) fn layout(&self) -> TsPacketLayout {
        self.layout
    }

    /// The location of `data`, the next packet of the stream; `None` if the stream does not continue with it.
    pub(super) fn find(&mut self, data: &[u8]) -> Result<Option<TsLocation>> {
        self.effort = (self.effort + 16 * data.len()).min(EFFORT);
        while self.rest().len() < data.len() && self.read_next_payload()? {}
        if !self.rest().starts_with(data) {
            // libavformat has skipped something: bytes before the first access unit, or a broken packet.
            while self.rest().len() < data.len() + SEARCH.min(self.effort) && self.read_next_payload()? {}
            let mut effort = self.effort;
            let found = search(self.rest(), data, &mut effort);
            self.effort = effort;
            let Some(start) = found else {
                // Repeated failures: keep pace with the demuxer at least.
                if self.effort < SEARCH {
                    self.take(data.len().min(self.rest().len()));
                }
                return Ok(None);
            };
            self.take(start);
        }
        Ok(self.take(data.len()))
    }

    fn rest(&self) -> &[u8] {
        &self.ahead[self.taken..]
    }

    /// Takes `len` bytes from those read ahead, and returns their location.
    fn take(&mut self, len: usize) -> Option<TsLocation> {
        self.taken += len;
        if self.taken > self.ahead.len() / 2 {
            self.ahead.drain(..self.taken);
            self.taken = 0;
        }
        let (mut taken, mut left) = (None, len);
        while left > 0 {
            let piece = self.pieces.front_mut()?;
            let part = piece.len.min(left);
            let end = piece.packet + 188;
            taken.get_or_insert(TsLocation { packet: piece.packet, skip: piece.skip as u16, end }).end = end;
            piece.skip += part;
            piece.len -= part;
            left -= part;
            if piece.len == 0 {
                self.pieces.pop_front();
            }
        }
        taken
    }

    /// Reads the payload of the PID's next packet; false at the end of the file.
    fn read_next_payload(&mut self) -> Result<bool> {
        loop {
            let start = self.next_packet;
            let Some(packet) = self.packet(start)? else { return Ok(false) };
            if packet[0] != SYNC {
                // Synchronisation is lost: try the next byte.
                self.next_packet += 1;
                continue;
            }
            self.next_packet += self.layout.distance;
            let Some((offset, unit_start)) = payload(&packet, self.layout.pid) else { continue };
            self.started |= unit_start;
            if !self.started {
                continue;
            }
            self.ahead.extend_from_slice(&packet[offset..]);
            self.pieces.push_back(TsPayload { packet: start, skip: 0, len: packet.len() - offset });
            return Ok(true);
        }
    }

    /// The 188 bytes at `start`; `None` if the file ends before.
    fn packet(&mut self, start: u64) -> Result<Option<Bytes>> {
        let end = start + 188;
        if end > self.source.len() {
            return Ok(None);
        }
        let (chunk_start, chunk) = &self.chunk;
        if start < *chunk_start || end > chunk_start + chunk.len() as u64 {
            let len = CHUNK.min(self.source.len() - start);
            self.chunk = (start, self.source.read(ByteRange { start, len })?);
        }
        let (chunk_start, chunk) = &self.chunk;
        let at = (start - chunk_start) as usize;
        Ok(Some(chunk.slice(at..at + 188)))
    }
}

/// Offset of the first packet, and the distance between packets.
fn packet_grid(head: &[u8]) -> Option<(u64, u64)> {
    let fits = |start: usize, distance: usize| {
        let bytes: Vec<_> = (0..8).map_while(|packet| head.get(start + packet * distance)).collect();
        bytes.len() >= 2 && bytes.iter().all(|&&byte| byte == SYNC)
    };
    [188, 192, 204]
        .into_iter()
        .flat_map(|distance| (0..distance).map(move |start| (start, distance)))
        .find(|&(start, distance)| fits(start, distance))
        .map(|(start, distance)| (start as u64, distance as u64))
}

/// Offset of the elementary stream's bytes in a packet of `pid`, after transport and PES headers, and whether a PES
/// packet begins with it (2.4.3.2). `None` if the packet has no such bytes.
fn payload(packet: &[u8], pid: u16) -> Option<(usize, bool)> {
    let unit_start = packet[1] & 0x40 != 0;
    let found = u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]);
    let (has_adaptation, has_payload) = (packet[3] & 0x20 != 0, packet[3] & 0x10 != 0);
    // Packets with transport_error_indicator count: libavformat uses their payload too.
    if found != pid || !has_payload {
        return None;
    }
    let mut offset = if has_adaptation { 5 + usize::from(packet[4]) } else { 4 };
    if unit_start {
        offset += pes_header_length(packet.get(offset..)?)?;
    }
    (offset < packet.len()).then_some((offset, unit_start))
}

/// Length of the PES header (2.4.3.6).
fn pes_header_length(payload: &[u8]) -> Option<usize> {
    let header = payload.get(..9).filter(|header| header.starts_with(&[0, 0, 1]))?;
    Some(9 + usize::from(header[8]))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{ElementaryStream, SEARCH, gather};
    use crate::source::{MemorySource, Source};

    /// A packet of 188 bytes of PID 256 with `payload` at its end.
    fn packet(unit_start: bool, payload: &[u8]) -> Vec<u8> {
        let stuffing = 184 - payload.len();
        let mut packet = vec![0x47, if unit_start { 0x41 } else { 0x01 }, 0, if stuffing > 0 { 0x30 } else { 0x10 }];
        if stuffing > 0 {
            packet.push(stuffing as u8 - 1);
            packet.extend(vec![0xff; stuffing - 1]);
        }
        packet.extend_from_slice(payload);
        packet
    }

    #[test]
    fn the_bytes_of_a_stream_are_found_between_headers() {
        let pes: Vec<u8> = [0, 0, 1, 0xe0, 0, 0, 0x80, 0, 2, 0xaa, 0xbb].into_iter().chain(1..=100).collect();
        for distance in [188, 192, 204] {
            let mut file = Vec::new();
            for packet in
                [packet(false, &[77; 184]), packet(true, &pes), packet(false, &(101..=150).collect::<Vec<_>>())]
            {
                file.extend(packet);
                file.resize(file.len().div_ceil(distance) * distance, 0);
            }
            file.extend(packet(true, &[0, 0, 1, 0xe0, 0, 0, 0x80, 0, 0, 9, 9, 9]));
            let source: Arc<dyn Source> = Arc::new(MemorySource::new("memory", file.clone()));
            let mut stream = ElementaryStream::new(Arc::clone(&source), 256).unwrap();
            let mut read = |wanted: &[u8]| {
                let place = stream.find(wanted).unwrap()?;
                Some(gather(&*source, stream.layout(), &place, wanted.len()).unwrap().data().to_vec())
            };
            let first: Vec<u8> = (1..=120).collect();
            assert_eq!(read(&first), Some(first), "packets {distance} apart");
            let later: Vec<u8> = (131..=150).collect();
            assert_eq!(read(&later), Some(later), "ten bytes were left out");
            assert_eq!(read(&[1, 2, 3]), None);
            assert_eq!(read(&[9, 9, 9]), Some(vec![9, 9, 9]));
        }
    }

    #[test]
    fn what_cannot_be_found_costs_no_more_than_what_was_read() {
        let pes = [&[0, 0, 1, 0xe0, 0, 0, 0x80, 0, 0][..], &[0; 175]].concat();
        let mut file = packet(true, &pes);
        (0..60_000).for_each(|_| file.extend(packet(false, &[0; 184])));
        file.extend(packet(false, &[5; 184]));
        let source: Arc<dyn Source> = Arc::new(MemorySource::new("memory", file));
        let mut stream = ElementaryStream::new(source, 256).unwrap();
        // Each offset matches except for its last byte: without a limit the search would take hours.
        let mut absent = vec![0; 500_000];
        absent.push(7);
        for _ in 0..15 {
            assert!(stream.find(&absent).unwrap().is_none());
        }
        assert!(stream.effort < SEARCH);
        assert!(stream.rest().len() < 4_000_000, "the search keeps pace with the demuxer");
    }

    #[test]
    fn packets_with_an_error_indicator_count() {
        let mut file = packet(true, &[0, 0, 1, 0xe0, 0, 0, 0x80, 0, 0, 1, 2, 3]);
        let mut damaged = packet(false, &[4, 5, 6]);
        damaged[1] |= 0x80;
        file.extend(damaged);
        let source: Arc<dyn Source> = Arc::new(MemorySource::new("memory", file));
        let mut stream = ElementaryStream::new(Arc::clone(&source), 256).unwrap();
        let place = stream.find(&[1, 2, 3, 4, 5, 6]).unwrap().unwrap();
        assert_eq!(gather(&*source, stream.layout(), &place, 6).unwrap().data(), [1, 2, 3, 4, 5, 6]);
    }
}
