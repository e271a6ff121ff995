//! The boundaries of NAL units inside a sample. Their contents are left to the codecs' modules.

/// The separation of NAL units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Start codes `00 00 01` (H.264 and H.265, Annex B).
    AnnexB,
    /// A big-endian length of this many bytes (1 to 4; 3 is not allowed, but readable) before each unit (ISO/IEC
    /// 14496-15).
    Length(u8),
}

impl Framing {
    /// The framing that the decoder configuration declares: `avcC` and `hvcC` records (ISO/IEC 14496-15, 5.3.3.1 and
    /// 8.3.3.1) have the size of lengths; anything else is Annex B.
    pub fn of(codec: super::Codec, extradata: &[u8]) -> Framing {
        let length_size = match codec {
            super::Codec::H264 if extradata.first() == Some(&1) => extradata.get(4),
            // As in libavcodec: hvcC begins with a version, or with 0 and no start code.
            super::Codec::Hevc
                if extradata.len() > 3 && (extradata[0] != 0 || extradata[1] != 0 || extradata[2] > 1) =>
            {
                extradata.get(21)
            }
            _ => None,
        };
        length_size.map_or(Framing::AnnexB, |byte| Framing::Length((byte & 3) + 1))
    }

    /// The NAL units of a sample in order, without start codes or lengths. The iterator stops at the first unit that
    /// exceeds the sample.
    pub fn units(self, sample: &[u8]) -> NalUnits<'_> {
        let rest = match self {
            Framing::AnnexB => after_start_code(sample).unwrap_or(&[]),
            Framing::Length(_) => sample,
        };
        NalUnits { framing: self, rest, is_head: false }
    }

    /// As [`Framing::units`], for the first bytes of a sample: the last unit is cut off where they end.
    pub fn units_of_head(self, head: &[u8]) -> NalUnits<'_> {
        NalUnits { is_head: true, ..self.units(head) }
    }

    /// A unit with its start code or length.
    pub fn frame(self, unit: &[u8]) -> Vec<u8> {
        let mut framed = match self {
            Framing::AnnexB => vec![0, 0, 0, 1],
            Framing::Length(size) => (unit.len() as u32).to_be_bytes()[4 - usize::from(size.clamp(1, 4))..].to_vec(),
        };
        framed.extend_from_slice(unit);
        framed
    }
}

/// Iterator over the NAL units of a sample.
#[derive(Debug, Clone)]
pub struct NalUnits<'a> {
    framing: Framing,
    rest: &'a [u8],
    is_head: bool,
}

impl<'a> NalUnits<'a> {
    /// The bytes that were not returned: at the end, those that are no unit (a length that does not fit).
    pub fn remainder(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for NalUnits<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match self.framing {
            Framing::Length(size) => {
                let (length, rest) = self.rest.split_at_checked(usize::from(size))?;
                let length = length.iter().fold(0_usize, |value, &byte| value << 8 | usize::from(byte));
                let length = if self.is_head { length.min(rest.len()) } else { length };
                let (unit, rest) = rest.split_at_checked(length)?;
                self.rest = rest;
                Some(unit)
            }
            Framing::AnnexB => {
                if self.rest.is_empty() {
                    return None;
                }
                let end = start_code(self.rest).unwrap_or(self.rest.len());
                let unit = &self.rest[..end];
                self.rest = after_start_code(&self.rest[end..]).unwrap_or(&[]);
                let zeros = unit.iter().rev().take_while(|&&byte| byte == 0).count();
                Some(&unit[..unit.len() - zeros])
            }
        }
    }
}

/// The offset of the next `00 00 01`.
fn start_code(data: &[u8]) -> Option<usize> {
    // Checks every third byte: a start code cannot lie between two bytes above 1.
    let mut at = 2;
    while at < data.len() {
        match data[at] {
            0 => at += 1,
            1 if data[at - 1] == 0 && data[at - 2] == 0 => return Some(at - 2),
            _ => at += 3,
        }
    }
    None
}

fn after_start_code(data: &[u8]) -> Option<&[u8]> {
    start_code(data).map(|at| &data[at + 3..])
}

#[cfg(test)]
mod tests {
    use super::Framing;

    #[test]
    fn units_of_annex_b_with_three_and_four_byte_start_codes() {
        let sample = [0, 0, 0, 1, 9, 8, 0, 0, 1, 7, 0, 0, 0, 1, 6];
        let units: Vec<_> = Framing::AnnexB.units(&sample).collect();
        assert_eq!(units, [&[9, 8][..], &[7], &[6]]);
        assert_eq!(Framing::AnnexB.units(&[1, 2, 3]).count(), 0);
        assert_eq!(Framing::AnnexB.units(&[0, 0, 1]).count(), 0);
        let dense: Vec<_> = Framing::AnnexB.units(&[0, 0, 1, 5, 0, 0, 1, 4]).collect();
        assert_eq!(dense, [&[5][..], &[4]]);
    }

    #[test]
    fn units_with_lengths_stop_at_one_that_does_not_fit() {
        let sample = [0, 2, 9, 8, 0, 1, 7, 0, 9, 6];
        let units: Vec<_> = Framing::Length(2).units(&sample).collect();
        assert_eq!(units, [&[9, 8][..], &[7]]);
        let mut units = Framing::Length(2).units(&sample);
        assert_eq!((units.by_ref().count(), units.remainder()), (2, &[0, 9, 6][..]));
        assert_eq!(Framing::Length(4).units(&[0xff; 7]).count(), 0);
    }

    #[test]
    fn framing_a_unit_and_reading_it_back() {
        for framing in [Framing::AnnexB, Framing::Length(1), Framing::Length(2), Framing::Length(4)] {
            assert_eq!(framing.units(&framing.frame(&[1, 2, 3])).collect::<Vec<_>>(), [&[1, 2, 3]]);
        }
    }
}
