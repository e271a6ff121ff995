//! MP4 and MOV: where the tables lie, found by walking over the outermost boxes (ISO/IEC 14496-12, 4.2).
//!
//! libavformat finds them by itself, but reads them bit by bit. A source far away is better told in advance.

use crate::error::Result;
use crate::source::{ByteRange, Source};

/// Boxes that are looked at. What has more in front of its tables is fragmented, or no MP4.
const BOXES: usize = 16;
/// Kinds that come before the tables.
const BEFORE: [&[u8; 4]; 7] = [b"ftyp", b"free", b"skip", b"wide", b"mdat", b"uuid", b"pdin"];

/// Tells the source of the tables, if it is an MP4 that has some.
pub(super) fn will_need(source: &dyn Source) -> Result<()> {
    let mut at = 0;
    for _ in 0..BOXES {
        let Some(left) = source.len().checked_sub(at) else { return Ok(()) };
        let head = source.read(ByteRange { start: at, len: left.min(16) })?;
        let Some((kind, size)) = parse(&head) else { return Ok(()) };
        // A box that goes on to the end says 0.
        let len = if size == 0 { source.len() - at } else { size };
        if &kind == b"moov" {
            source.will_need(&mut std::iter::once(ByteRange { start: at, len }));
        }
        if !BEFORE.contains(&&kind) || len < 8 {
            return Ok(());
        }
        at = at.saturating_add(len);
    }
    Ok(())
}

/// Kind and size of the box that begins with `head`.
fn parse(head: &[u8]) -> Option<([u8; 4], u64)> {
    let size = u32::from_be_bytes(head.get(..4)?.try_into().ok()?);
    let kind = head.get(4..8)?.try_into().ok()?;
    match size {
        1 => Some((kind, u64::from_be_bytes(head.get(8..16)?.try_into().ok()?))),
        size => Some((kind, u64::from(size))),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn boxes_have_short_and_long_sizes() {
        assert_eq!(parse(b"\0\0\0\x20ftypisom"), Some((*b"ftyp", 32)));
        assert_eq!(parse(b"\0\0\0\x01mdat\0\0\0\x01\0\0\0\0"), Some((*b"mdat", 1 << 32)));
        assert_eq!(parse(b"\0\0\0\x01mdat"), None);
        assert_eq!(parse(b"\0\0"), None);
    }
}
