//! Reads bits and Exp-Golomb codes (H.265 9.2, H.264 9.1) of NAL units. The syntax is left to the codecs' modules.

/// Removes the emulation prevention bytes from a NAL unit's payload (H.265 7.4.2): `00 00 03` becomes `00 00`.
pub fn unescape(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len());
    let mut zeros = 0;
    for &byte in payload {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

/// Bits of a byte slice, from the most significant; `None` past the end.
#[derive(Debug, Clone)]
pub struct BitReader<'a> {
    data: &'a [u8],
    position: usize,
}

impl<'a> BitReader<'a> {
    /// A reader at the first bit of `data`.
    pub fn new(data: &'a [u8]) -> BitReader<'a> {
        BitReader { data, position: 0 }
    }

    /// u(1); `None` past the end.
    pub fn flag(&mut self) -> Option<bool> {
        let byte = self.data.get(self.position / 8)?;
        let bit = byte >> (7 - self.position % 8) & 1;
        self.position += 1;
        Some(bit == 1)
    }

    /// `count` bits, at most 32: u(n).
    pub fn bits(&mut self, count: u32) -> Option<u32> {
        (0..count.min(32)).try_fold(0, |value, _| Some(value << 1 | u32::from(self.flag()?)))
    }

    /// Skips `count` bits.
    pub fn skip(&mut self, count: usize) -> Option<()> {
        self.position = self.position.checked_add(count)?;
        (self.position <= self.data.len() * 8).then_some(())
    }

    /// An unsigned Exp-Golomb code: ue(v). `None` for more than 32 leading zeros.
    pub fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1_u32 << zeros) - 1 + self.bits(zeros)?)
    }

    /// An unsigned Exp-Golomb code of at most `most`: ue(v). `None` for a larger one.
    pub fn ue_to(&mut self, most: u32) -> Option<u32> {
        self.ue().filter(|&code| code <= most)
    }

    /// An index of one of `count` items: u(v) with Ceil(Log2(`count`)) bits, none for a single item.
    pub fn index(&mut self, count: usize) -> Option<usize> {
        let bits = count.checked_sub(1)?.checked_ilog2().map_or(0, |log2| log2 + 1);
        self.bits(bits).map(|index| index as usize).filter(|&index| index < count)
    }
}

/// Writes the codes that a [`BitReader`] reads, for tests.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct BitWriter(Vec<bool>);

#[cfg(test)]
impl BitWriter {
    pub(crate) fn bits(&mut self, count: u32, value: u32) -> &mut Self {
        self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
        self
    }

    pub(crate) fn ue(&mut self, value: u32) -> &mut Self {
        let length = (value + 1).ilog2();
        self.bits(length, 0).bits(length + 1, value + 1)
    }

    /// A NAL unit with this header, a stop bit at its end, and emulation prevention.
    pub(crate) fn unit(&mut self, header: &[u8]) -> Vec<u8> {
        self.bits(1, 1);
        let byte = |bits: &[bool]| (0..8).fold(0, |byte, at| byte << 1 | u8::from(bits.get(at) == Some(&true)));
        let mut unit = header.to_vec();
        for byte in self.0.chunks(8).map(byte) {
            if byte <= 3 && unit.ends_with(&[0, 0]) {
                unit.push(3);
            }
            unit.push(byte);
        }
        unit
    }
}

#[cfg(test)]
mod tests {
    use super::{BitReader, unescape};

    #[test]
    fn emulation_prevention_is_taken_out_and_nothing_else() {
        assert_eq!(unescape(&[0, 0, 3, 1, 0, 0, 3, 0, 0, 3]), [0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(unescape(&[3, 0, 3, 0, 0, 2]), [3, 0, 3, 0, 0, 2]);
    }

    #[test]
    fn exp_golomb_codes_as_in_the_table_of_the_specification() {
        // 1, 010, 011, 00100, 00101 -> 0, 1, 2, 3, 4
        let data = [0b1010_0110, 0b0100_0010, 0b1000_0000];
        let mut reader = BitReader::new(&data);
        assert_eq!([(); 5].map(|()| reader.ue()), [Some(0), Some(1), Some(2), Some(3), Some(4)]);
        assert_eq!(BitReader::new(&[0; 8]).ue(), None, "too many zeros");
        assert_eq!(BitReader::new(&[]).ue(), None);
        assert_eq!(BitReader::new(&[0xff]).bits(9), None);
        assert_eq!(BitReader::new(&[0b0010_0000]).ue_to(2), None);
    }

    #[test]
    fn an_index_takes_as_many_bits_as_its_count_needs() {
        let data = [0b0110_0000];
        let index = |count| BitReader::new(&data).index(count);
        assert_eq!([0, 1, 2, 3, 4, 5, 8].map(index), [None, Some(0), Some(0), Some(1), Some(1), Some(3), Some(3)]);
        assert_eq!(BitReader::new(&[0xff]).index(3), None, "no third one");
    }
}
