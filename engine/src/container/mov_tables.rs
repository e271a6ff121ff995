//! MP4 and MOV: locates the tables by reading the headers of the outermost boxes (ISO/IEC 14496-12, 4.2).
//!
//! libavformat would find them too, but in many small reads, one after another; a remote source needs the ranges in
//! advance. The prefetch affects no result: a missed or wrong range costs requests.

use crate::error::Result;
use crate::source::{ByteRange, Source};

/// The largest number of boxes before the tables that are examined.
const BOXES: usize = 16;
/// Kinds of boxes that come before the tables.
const BEFORE: [&[u8; 4]; 7] = [b"ftyp", b"free", b"skip", b"wide", b"mdat", b"uuid", b"pdin"];
/// The largest number of fragments that are prefetched.
const FRAGMENTS: usize = 1 << 14;
/// Bytes of a `moof` prefetched while its size is unknown.
const HEAD: u64 = 4 << 10;
/// The longest list of fragments that is read.
const LIST: u64 = 1 << 20;
/// Data after the samples is prefetched whole up to this length: usually it is the tables.
const TAIL: u64 = 1 << 20;

/// Kind and size of a box.
type BoxHeader = ([u8; 4], u64);

/// Announces the tables to the source, if it is an MP4.
pub(super) fn will_need(source: &dyn Source) -> Result<()> {
    let mut at = 0;
    for _ in 0..BOXES {
        let Some((kind, len)) = head(source, at)? else { return Ok(()) };
        let end = at.saturating_add(len);
        match &kind {
            b"moov" => {
                // With the header of the next box, which libavformat reads after the tables.
                source.will_need(&mut std::iter::once(ByteRange { start: at, len: len.saturating_add(HEAD) }));
                return fragments(source, end);
            }
            b"mdat" => source.will_need(&mut std::iter::once(ByteRange { start: end, len: TAIL })),
            kind if BEFORE.contains(&kind) => {}
            _ => return Ok(()),
        }
        at = end;
    }
    Ok(())
}

/// The box that begins at `at`, if one may begin there.
fn head(source: &dyn Source, at: u64) -> Result<Option<BoxHeader>> {
    let Some(left) = source.len().checked_sub(at).filter(|&left| left >= 8) else { return Ok(None) };
    let head = source.read(ByteRange { start: at, len: left.min(16) })?;
    // Size 0 means up to the end of the file.
    Ok(parse(&head).map(|(kind, len)| (kind, if len == 0 { left } else { len })).filter(|(_, len)| *len >= 8))
}

/// Kind and size of the box that begins with `head`.
fn parse(head: &[u8]) -> Option<BoxHeader> {
    let kind = head.get(4..8)?.try_into().ok()?;
    match number(head, 0, 4)? {
        1 => Some((kind, number(head, 8, 8)?)),
        size => Some((kind, size)),
    }
}

/// The big-endian number of `len` bytes at `at`.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(len)?)?;
    Some(bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

/// Announces the heads of the fragments after `moov`: all at once if a list has their offsets, otherwise each after the
/// preceding one.
fn fragments(source: &dyn Source, mut at: u64) -> Result<()> {
    for _ in 0..BOXES {
        let Some((kind, len)) = head(source, at)? else { return Ok(()) };
        let list = match &kind {
            b"sidx" => segments(&source.read(within(source, at, len.min(LIST)))?, at.saturating_add(len)),
            b"moof" => random_access(source)?,
            b"styp" | b"prft" | b"emsg" | b"free" | b"skip" | b"uuid" => Vec::new(),
            _ => return Ok(()),
        };
        if !list.is_empty() {
            source.will_need(&mut list.into_iter().map(|start| ByteRange { start, len: HEAD }));
            return Ok(());
        }
        if &kind == b"moof" {
            return fetch_fragments(source, at);
        }
        at = at.saturating_add(len);
    }
    Ok(())
}

fn within(source: &dyn Source, start: u64, len: u64) -> ByteRange {
    ByteRange { start, len: len.min(source.len().saturating_sub(start)) }
}

/// Offsets of the subsegments of a `sidx` box that ends at `end` (8.16.3).
fn segments(sidx: &[u8], end: u64) -> Vec<u64> {
    let read = || {
        let is_long = number(sidx, 8, 1)? > 0;
        let (first, count) = if is_long { (number(sidx, 28, 8)?, 38) } else { (number(sidx, 24, 4)?, 30) };
        let mut at = end.checked_add(first)?;
        let mut starts = Vec::new();
        for entry in sidx.get(count + 2..)?.chunks_exact(12).take((number(sidx, count, 2)? as usize).min(FRAGMENTS)) {
            let size = number(entry, 0, 4)?;
            // The range of another `sidx` box begins with that box.
            starts.push(at);
            at = at.checked_add(size & 0x7fff_ffff)?;
        }
        Some(starts)
    };
    read().unwrap_or_default()
}

/// Offsets of fragments from the `mfra` box at the end (8.8.9): those with random access points.
fn random_access(source: &dyn Source) -> Result<Vec<u64>> {
    let Some(start) = source.len().checked_sub(16) else { return Ok(Vec::new()) };
    let last = source.read(ByteRange { start, len: 16 })?;
    let len = number(&last, 12, 4).filter(|len| &last[4..8] == b"mfro" && (16..=LIST).contains(len));
    let Some(start) = len.and_then(|len| source.len().checked_sub(len)) else { return Ok(Vec::new()) };
    let mfra = source.read(ByteRange { start, len: source.len() - start })?;
    let (mut at, mut starts) = (8, Vec::new());
    while let Some((kind, len)) = mfra.get(at..).and_then(parse).filter(|(_, len)| *len >= 8) {
        let Some(end) = usize::try_from(len).ok().and_then(|len| at.checked_add(len)) else { break };
        if let (b"tfra", Some(list)) = (&kind, mfra.get(at..end)) {
            starts.extend(entries(list).unwrap_or_default());
        }
        at = end;
    }
    starts.sort_unstable();
    starts.dedup();
    starts.truncate(FRAGMENTS);
    Ok(starts)
}

/// The offsets in a `tfra` box (8.8.10).
fn entries(tfra: &[u8]) -> Option<Vec<u64>> {
    let width = if number(tfra, 8, 1)? > 0 { 8 } else { 4 };
    let sizes = number(tfra, 16, 4)?;
    let numbers: u64 = [4, 2, 0].iter().map(|shift| (sizes >> shift & 3) + 1).sum();
    let entries = tfra.get(24..)?.chunks_exact(2 * width + numbers as usize).take(number(tfra, 20, 4)? as usize);
    entries.map(|entry| number(entry, width, width)).collect()
}

/// Announces fragment after fragment: requests the rest of the preceding one's head, and the header of the next box.
fn fetch_fragments(source: &dyn Source, mut at: u64) -> Result<()> {
    let mut guess = HEAD;
    for _ in 0..2 * FRAGMENTS {
        if !source.is_available(within(source, at, 16)) {
            source.will_need(&mut std::iter::once(ByteRange { start: at, len: guess }));
        }
        let Some((kind, len)) = head(source, at)? else { return Ok(()) };
        if &kind == b"moof" {
            if len > guess {
                source.will_need(&mut std::iter::once(ByteRange {
                    start: at.saturating_add(guess),
                    len: (len - guess).saturating_add(16),
                }));
            }
            guess = len.saturating_add(len / 4).clamp(HEAD, LIST);
        }
        at = at.saturating_add(len);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{entries, parse, segments};

    #[test]
    fn boxes_have_short_and_long_sizes() {
        assert_eq!(parse(b"\0\0\0\x20ftypisom"), Some((*b"ftyp", 32)));
        assert_eq!(parse(b"\0\0\0\x01mdat\0\0\0\x01\0\0\0\0"), Some((*b"mdat", 1 << 32)));
        assert_eq!(parse(b"\0\0\0\x01mdat"), None);
        assert_eq!(parse(b"\0\0"), None);
    }

    fn bytes(numbers: &[(u64, usize)]) -> Vec<u8> {
        numbers.iter().flat_map(|(number, len)| number.to_be_bytes()[8 - len..].to_vec()).collect()
    }

    #[test]
    fn lists_of_fragments_are_read() {
        let refs = [(700, 4), (1, 4), (0, 4), (0x8000_0000 | 300, 4), (1, 4), (0, 4)];
        let short = [&[(0, 8), (0, 4), (1, 4), (1, 4), (0, 4), (50, 4), (0, 2), (2, 2)][..], &refs].concat();
        assert_eq!(segments(&bytes(&short), 1000), [1050, 1750]);
        let long = [&[(0, 8), (1 << 24, 4), (1, 4), (1, 4), (0, 8), (50, 8), (0, 2), (2, 2)][..], &refs].concat();
        assert_eq!(segments(&bytes(&long), 1000), [1050, 1750]);
        assert!(segments(&bytes(&long)[..40], 1000).is_empty());
        let tfra = [(0, 8), (0, 4), (1, 4), (0b01_00_10, 4), (2, 4)];
        let tfra = [&tfra[..], &[(0, 4), (9, 4), (7, 6), (5, 4), (10, 4), (7, 6)]].concat();
        assert_eq!(entries(&bytes(&tfra)), Some(vec![9, 10]));
        let tfra = [(0, 8), (1 << 24, 4), (1, 4), (0, 4), (1, 4), (0, 8), (1 << 40, 8), (0, 3)];
        assert_eq!(entries(&bytes(&tfra)), Some(vec![1 << 40]));
    }
}
