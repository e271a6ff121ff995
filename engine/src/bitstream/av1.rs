//! AV1: open bitstream units (AV1 specification, 5.3), and whether a temporal unit begins with a key frame.
//!
//! Headers are left to `av1_headers`, references to `av1_refs`.

use super::bits::BitReader;

/// `obu_type` (6.2.2): a sequence header.
pub(super) const SEQUENCE_HEADER: u32 = 1;
/// `obu_type`: a frame header alone.
pub(super) const FRAME_HEADER: u32 = 3;
/// `obu_type`: tiles of the frame with the preceding header.
pub(super) const TILE_GROUP: u32 = 4;
/// `obu_type`: a frame header and tiles.
pub(super) const FRAME: u32 = 6;
/// `obu_type`: a repeated frame header.
pub(super) const REDUNDANT_FRAME_HEADER: u32 = 7;
/// `obu_type`: tiles of large scale tile coding.
pub(super) const TILE_LIST: u32 = 8;

/// An open bitstream unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Obu<'a> {
    /// `obu_type`.
    pub kind: u32,
    /// `obu_extension_flag`: the header names a temporal and a spatial layer.
    pub is_layered: bool,
    /// The bytes after header and size.
    pub payload: &'a [u8],
}

/// Takes the first unit from `data` (5.3.1), which then begins at the next one. `None` if the unit exceeds `data`.
pub(super) fn next_obu<'a>(data: &mut &'a [u8]) -> Option<Obu<'a>> {
    let mut bits = BitReader::new(data);
    bits.skip(1)?;
    let kind = bits.bits(4)?;
    let (is_layered, has_size) = (bits.flag()?, bits.flag()?);
    let body = data.get(1 + usize::from(is_layered)..)?;
    let (size, body) = if has_size { leb128(body)? } else { (body.len(), body) };
    let (payload, rest) = body.split_at_checked(size)?;
    *data = rest;
    Some(Obu { kind, is_layered, payload })
}

/// True if the first frame header of a temporal unit (5.9.2) is that of a shown key frame; `None` if there is no frame
/// header.
pub fn is_key(mut sample: &[u8]) -> Option<bool> {
    loop {
        let obu = next_obu(&mut sample)?;
        // show_existing_frame, frame_type, show_frame (5.9.2). A reduced still picture header has none of them and is a
        // key frame; its first bits mean something else, and an error here only costs a longer decode run.
        if matches!(obu.kind, FRAME_HEADER | FRAME) {
            let mut bits = BitReader::new(obu.payload);
            let repeats = bits.flag()?;
            return Some(!repeats && bits.bits(2)? == 0 && bits.flag()?);
        }
    }
}

/// leb128() (4.10.5).
fn leb128(data: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_u64;
    for (index, &byte) in data.iter().enumerate().take(8) {
        value |= u64::from(byte & 0x7f) << (index * 7);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, &data[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::is_key;

    #[test]
    fn key_frames_behind_delimiter_and_sequence_header() {
        // Temporal delimiter (type 2, size 0), sequence header (type 1, size 1), frame (type 6).
        let key = [0x12, 0, 0x0a, 1, 0, 0x32, 1, 0b0001_0000];
        assert_eq!(is_key(&key), Some(true));
        assert_eq!(is_key(&[0x12, 0, 0x32, 1, 0b0011_0000]), Some(false), "an inter frame");
        assert_eq!(is_key(&[0x12, 0, 0x1a, 1, 0b1000_0000]), Some(false), "shows an existing frame");
        assert_eq!(is_key(&[0x12, 0]), None);
        assert_eq!(is_key(&[0x32, 0xff, 0xff]), None);
    }
}
