//! VP9: the first bits of a frame header (7.2) and superframes (Annex B). References are left to `vp9_refs`.

use super::bits::BitReader;

/// The first bits of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameFacts {
    /// A key frame: it resets all state.
    pub key: bool,
    /// The sample shows a picture.
    pub shown: bool,
}

/// Reads the first frame of a sample. A superframe shows its last frame, so of its first frame only `key` is read.
pub fn facts(sample: &[u8]) -> Option<FrameFacts> {
    let superframe = is_superframe(sample);
    let mut bits = BitReader::new(sample);
    if bits.bits(2)? != 2 {
        return None;
    }
    let profile = u32::from(bits.flag()?) | u32::from(bits.flag()?) << 1;
    if profile == 3 {
        bits.skip(1)?;
    }
    if bits.flag()? {
        return Some(FrameFacts { key: false, shown: true });
    }
    let key = !bits.flag()?;
    let shown = bits.flag()?;
    Some(FrameFacts { key, shown: shown || superframe })
}

/// True if the sample ends with a superframe index.
fn is_superframe(sample: &[u8]) -> bool {
    let Some(&marker) = sample.last() else { return false };
    if marker & 0xe0 != 0xc0 {
        return false;
    }
    let (frames, size_bytes) = (usize::from(marker & 7) + 1, usize::from(marker >> 3 & 3) + 1);
    let index = 2 + frames * size_bytes;
    sample.len() > index && sample[sample.len() - index] == marker
}

#[cfg(test)]
mod tests {
    use super::{FrameFacts, facts};

    #[test]
    fn key_hidden_and_repeated_frames() {
        assert_eq!(facts(&[0b1000_0010, 0]), Some(FrameFacts { key: true, shown: true }));
        assert_eq!(facts(&[0b1000_0100, 0]), Some(FrameFacts { key: false, shown: false }));
        assert_eq!(facts(&[0b1000_1000, 0]), Some(FrameFacts { key: false, shown: true }));
        assert_eq!(facts(&[0b1000_0100, 5, 0xc0, 2, 0xc0]), Some(FrameFacts { key: false, shown: true }));
        assert_eq!(facts(&[0, 0]), None);
        assert_eq!(facts(&[]), None);
    }
}
