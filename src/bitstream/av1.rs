//! AV1: open bitstream units (5.3) as far as telling a key frame takes.

use super::bits::BitReader;

/// Does the temporal unit begin with a shown key frame? `None` if its first frame header is not found.
pub fn is_key(mut sample: &[u8]) -> Option<bool> {
    loop {
        let mut bits = BitReader::new(sample);
        bits.skip(1)?;
        let kind = bits.bits(4)?;
        let (extension, has_size) = (bits.flag()?, bits.flag()?);
        let header = 1 + usize::from(extension);
        let body = sample.get(header..)?;
        let (size, body) = if has_size { leb128(body)? } else { (body.len(), body) };
        let payload = body.get(..size)?;
        // OBU_FRAME_HEADER, OBU_FRAME: show_existing_frame, frame_type, show_frame (5.9.2). A reduced still picture
        // header has none of them and is a key frame; its first bits are then something else, and an error here only
        // costs a longer walk.
        if matches!(kind, 3 | 6) {
            let mut bits = BitReader::new(payload);
            let repeats = bits.flag()?;
            return Some(!repeats && bits.bits(2)? == 0 && bits.flag()?);
        }
        sample = &body[size..];
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
