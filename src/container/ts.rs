//! MPEG-TS (ISO/IEC 13818-1): where the bytes of an elementary stream lie between packet headers.
//!
//! libavformat does the demultiplexing. This only walks the packets of one PID beside it, takes off transport and PES
//! headers, and so knows for every byte of the elementary stream its place in the file.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Result;
use crate::source::{ByteRange, Source};

const SYNC: u8 = 0x47;
/// Bytes of the file that are looked at in one go.
const CHUNK: u64 = 4 << 20;
/// How far ahead in the elementary stream a packet is looked for, when it is not where the last one ended.
const SEARCH: usize = 8 << 20;

/// The elementary stream of one PID, read on as packets are looked for.
pub(super) struct ElementaryStream {
    source: Arc<dyn Source>,
    pid: u16,
    /// Distance of transport packets (188, or 192 and 204 with time codes and error correction).
    distance: u64,
    /// Next transport packet in the file.
    next_packet: u64,
    chunk: (u64, Bytes),
    started: bool,
    /// What has been read ahead of the last packet found.
    ahead: Vec<u8>,
    /// Where `ahead` lies in the file.
    pieces: VecDeque<ByteRange>,
}

impl ElementaryStream {
    pub(super) fn new(source: Arc<dyn Source>, pid: u16) -> Result<ElementaryStream> {
        let head = source.read(ByteRange { start: 0, len: source.len().min(64 * 1024) })?;
        let (start, distance) = packet_grid(&head).unwrap_or((0, 188));
        Ok(ElementaryStream {
            source,
            pid,
            distance,
            next_packet: start,
            chunk: (0, Bytes::new()),
            started: false,
            ahead: Vec::new(),
            pieces: VecDeque::new(),
        })
    }

    /// Where `data`, the next packet of the stream, lies; `None` if the stream does not go on like this.
    pub(super) fn find(&mut self, data: &[u8]) -> Result<Option<Vec<ByteRange>>> {
        while self.ahead.len() < data.len() && self.read_on()? {}
        if !self.ahead.starts_with(data) {
            // libavformat has left something out: bytes before the first access unit, a broken packet.
            while self.ahead.len() < data.len() + SEARCH && self.read_on()? {}
            let Some(last) = self.ahead.len().checked_sub(data.len()) else { return Ok(None) };
            let start =
                (0..=last.min(SEARCH)).find(|&at| self.ahead[at] == data[0] && self.ahead[at..].starts_with(data));
            let Some(start) = start else { return Ok(None) };
            self.take(start);
        }
        Ok(Some(self.take(data.len())))
    }

    /// Takes `len` bytes off what has been read ahead.
    fn take(&mut self, len: usize) -> Vec<ByteRange> {
        self.ahead.drain(..len);
        let (mut taken, mut left) = (Vec::new(), len as u64);
        while left > 0 {
            let Some(piece) = self.pieces.front_mut() else { break };
            let part = piece.len.min(left);
            taken.push(ByteRange { start: piece.start, len: part });
            piece.start += part;
            piece.len -= part;
            left -= part;
            if piece.len == 0 {
                self.pieces.pop_front();
            }
        }
        taken
    }

    /// Adds the payload of the next packet of our PID; false at the end of the file.
    fn read_on(&mut self) -> Result<bool> {
        loop {
            let start = self.next_packet;
            let Some(packet) = self.packet(start)? else { return Ok(false) };
            if packet[0] != SYNC {
                // Lost: the next byte that could be a packet.
                self.next_packet += 1;
                continue;
            }
            self.next_packet += self.distance;
            let Some((offset, unit_start)) = payload_offset(&packet, self.pid) else { continue };
            let skip = if unit_start { pes_header_length(&packet[offset..]) } else { Some(0) };
            self.started |= unit_start;
            let Some(offset) = skip.map(|skip| offset + skip).filter(|&offset| offset < packet.len()) else { continue };
            if !self.started {
                continue;
            }
            self.ahead.extend_from_slice(&packet[offset..]);
            self.pieces.push_back(ByteRange { start: start + offset as u64, len: (packet.len() - offset) as u64 });
            return Ok(true);
        }
    }

    /// The 188 bytes at `start`; `None` if the file has not as many.
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

/// Where the first packet begins and how far packets are apart.
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

/// Where the payload of a packet of `pid` begins, and whether a PES packet begins with it (2.4.3.2).
fn payload_offset(packet: &[u8], pid: u16) -> Option<(usize, bool)> {
    let error = packet[1] & 0x80 != 0;
    let found = u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]);
    let (has_adaptation, has_payload) = (packet[3] & 0x20 != 0, packet[3] & 0x10 != 0);
    if error || found != pid || !has_payload {
        return None;
    }
    let offset = if has_adaptation { 5 + usize::from(packet[4]) } else { 4 };
    (offset < packet.len()).then_some((offset, packet[1] & 0x40 != 0))
}

/// Length of the PES header (2.4.3.6).
fn pes_header_length(payload: &[u8]) -> Option<usize> {
    let header = payload.get(..9).filter(|header| header.starts_with(&[0, 0, 1]))?;
    Some(9 + usize::from(header[8]))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::ElementaryStream;
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
            let mut stream = ElementaryStream::new(source, 256).unwrap();
            let bytes = |pieces: Vec<crate::source::ByteRange>| -> Vec<u8> {
                pieces.iter().flat_map(|piece| &file[piece.start as usize..piece.end() as usize]).copied().collect()
            };
            let first: Vec<u8> = (1..=120).collect();
            assert_eq!(bytes(stream.find(&first).unwrap().unwrap()), first, "packets {distance} apart");
            let later: Vec<u8> = (131..=150).collect();
            assert_eq!(bytes(stream.find(&later).unwrap().unwrap()), later, "ten bytes were left out");
            assert!(stream.find(&[1, 2, 3]).unwrap().is_none());
            assert_eq!(bytes(stream.find(&[9, 9, 9]).unwrap().unwrap()), [9, 9, 9]);
        }
    }
}
