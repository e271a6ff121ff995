//! Parses AV1 and VP9 into OBUs, frames and tiles.

use std::ops::Range;

use bucket_streamer::bitstream::{Codec, vp9_refs};

/// Tiles of each frame of the clips with tiles.
pub(super) const TILES: usize = 4;
/// `obu_type` of a sequence header, and of a frame header with tiles (AV1 6.2.2).
pub(super) const SEQUENCE_HEADER: u8 = 1;
pub(super) const FRAME: u8 = 6;

/// `obu_type`.
pub(super) fn kind(obu: &[u8]) -> u8 {
    obu.first().map_or(0, |byte| byte >> 3 & 15)
}

/// Offset of the payload of an OBU, and its length if the OBU states it (AV1 5.3).
pub(super) fn payload(obu: &[u8]) -> Option<(usize, usize)> {
    let &header = obu.first()?;
    let begin = 1 + usize::from(header >> 2 & 1);
    if header & 2 == 0 {
        return Some((begin, obu.len().checked_sub(begin)?));
    }
    let mut size = 0;
    for at in 0..8 {
        let &byte = obu.get(begin + at)?;
        size |= usize::from(byte & 127) << (7 * at);
        if byte & 128 == 0 {
            return Some((begin + at + 1, size));
        }
    }
    None
}

/// The OBUs of a temporal unit, with their headers.
pub(super) fn obus(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut obus = Vec::new();
    while let Some((begin, size)) = payload(data) {
        let end = (begin + size).min(data.len());
        obus.push(data[..end].to_vec());
        data = &data[end..];
    }
    if !data.is_empty() {
        obus.push(data.to_vec());
    }
    obus
}

/// An OBU with another payload and a matching size.
pub(super) fn obu_with(obu: &[u8], payload: &[u8]) -> Vec<u8> {
    let extension = usize::from(obu[0] >> 2 & 1);
    let mut out = obu[..=extension].to_vec();
    out[0] |= 2;
    let mut size = payload.len();
    loop {
        let byte = (size & 127) as u8;
        size >>= 7;
        out.push(byte | if size > 0 { 128 } else { 0 });
        if size == 0 {
            break;
        }
    }
    out.extend_from_slice(payload);
    out
}

/// Ranges of the coded frames of a piece: those of a VP9 superframe, the payload of an OBU with tiles.
pub(super) fn frames(codec: Codec, piece: &[u8]) -> Vec<Range<usize>> {
    let begin = |frame: &[u8]| frame.as_ptr() as usize - piece.as_ptr() as usize;
    match codec {
        Codec::Vp9 => {
            let frames = vp9_refs::frames(piece).unwrap_or_default();
            frames.iter().map(|frame| begin(frame)..begin(frame) + frame.len()).collect()
        }
        _ if kind(piece) == FRAME => payload(piece).map(|(begin, _)| begin..piece.len()).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// The tiles of a frame: the position of the size of each, and its data. The last one has no size.
#[derive(Debug, Clone)]
pub(super) struct TileRanges {
    pub sizes: Vec<Range<usize>>,
    pub data: Vec<Range<usize>>,
}

/// Finds them without parsing headers: the first position from which sizes lead from tile to tile to the end. With
/// sizes of four bytes, three in a row hardly ever do so by chance; shorter ones are tried only if those are not found.
pub(super) fn find(codec: Codec, frame: &[u8]) -> Option<TileRanges> {
    let lengths: &[usize] = if codec == Codec::Vp9 { &[4] } else { &[4, 3, 2, 1] };
    lengths.iter().find_map(|&length| (3..frame.len()).find_map(|at| chain(codec, frame, at, length)))
}

fn chain(codec: Codec, frame: &[u8], mut at: usize, length: usize) -> Option<TileRanges> {
    let mut tiles = TileRanges { sizes: Vec::new(), data: Vec::new() };
    for _ in 1..TILES {
        let field = frame.get(at..at + length)?;
        let fold = |value: usize, &byte: &u8| value << 8 | usize::from(byte);
        // AV1 5.11.1: tile_size_minus_1, le(TileSizeBytes); VP9 6.4: tile_size, f(32).
        let size = if codec == Codec::Vp9 { field.iter().fold(0, fold) } else { field.iter().rev().fold(0, fold) + 1 };
        if size == 0 || at + length + size >= frame.len() {
            return None;
        }
        tiles.sizes.push(at..at + length);
        tiles.data.push(at + length..at + length + size);
        at += length + size;
    }
    tiles.data.push(at..frame.len());
    // One of four rows of tiles may have no blocks.
    let is_even = tiles.data.iter().filter(|tile| tile.len() * 40 > frame.len()).count() + 1 >= TILES;
    is_even.then_some(tiles)
}
