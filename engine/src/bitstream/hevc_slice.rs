//! H.265: the first slice segment header of a picture (7.3.6.1), up to its reference picture set, and picture order
//! counts (8.3.1).
//!
//! Which pictures the set refers to is left to `plan::references`.

use super::bits::{BitReader, unescape};
use super::hevc;
use super::hevc_sets::{ParameterSets, Pps, ShortTermSet, Sps, read_short_term_set};

/// Prefixes in bytes: nearly every header up to its reference picture set fits into the first, every one into the
/// second.
const PREFIXES: [usize; 2] = [64, 1024];
/// The most long-term pictures that a header may name: more than any picture buffer has.
const MOST_LONG_TERM: u32 = 32;

/// The kind of a picture by its slices' NAL unit type (table 7-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PictureKind {
    /// Instantaneous decoding refresh: earlier pictures do not matter from here on.
    Idr,
    /// Clean random access: pictures that are output after it need no earlier one.
    Cra,
    /// Broken link access: as a CRA, but the references of its leading pictures, which are skipped, are missing.
    Bla,
    /// A leading picture that only needs its IRAP.
    Radl,
    /// A leading picture that may refer to pictures before its IRAP; it is skipped if decoding begins there.
    Rasl,
    /// Any other picture.
    Trailing,
}

impl PictureKind {
    /// The kind of a `nal_unit_type`; `None` for other units than slices and for reserved types.
    pub fn of(nal_unit_type: u8) -> Option<PictureKind> {
        Some(match nal_unit_type {
            0..=5 => PictureKind::Trailing,
            6 | 7 => PictureKind::Radl,
            8 | 9 => PictureKind::Rasl,
            16..=18 => PictureKind::Bla,
            19 | 20 => PictureKind::Idr,
            21 => PictureKind::Cra,
            _ => return None,
        })
    }

    /// An intra random access point picture.
    pub fn is_irap(self) -> bool {
        matches!(self, PictureKind::Idr | PictureKind::Cra | PictureKind::Bla)
    }
}

/// A long-term element of a reference picture set (7.4.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongTerm {
    /// PocLsbLt: the low bits of its picture order count.
    pub poc_lsb: u32,
    /// DeltaPocMsbCycleLt, accumulated (7-52), if `delta_poc_msb_present_flag` is set; otherwise only the low bits are
    /// known.
    pub msb_cycle: Option<u32>,
    /// UsedByCurrPicLt: the current picture may refer to it.
    pub used: bool,
}

/// The beginning of a picture's first slice segment header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceHeader {
    /// `nal_unit_type`.
    pub nal_unit_type: u8,
    /// The kind of its NAL unit type.
    pub kind: PictureKind,
    /// TemporalId.
    pub temporal_id: u8,
    /// `no_output_of_prior_pics_flag`; false for other pictures than IRAP.
    pub no_output_of_prior_pics: bool,
    /// `pic_output_flag`; true if absent.
    pub pic_output: bool,
    /// `slice_pic_order_cnt_lsb`; 0 for IDR.
    pub poc_lsb: u32,
    /// `log2_max_pic_order_cnt_lsb_minus4` + 4 of its sequence parameter set.
    pub log2_max_poc_lsb: u32,
    /// The short-term reference picture set; empty for IDR.
    pub short_term: ShortTermSet,
    /// The long-term elements; none for IDR.
    pub long_term: Vec<LongTerm>,
}

/// `first_slice_segment_in_pic_flag` of a slice: `None` if the unit ends before it.
pub fn is_first_in_picture(unit: &[u8]) -> Option<bool> {
    // The first bit after the header: too early in the unit for emulation prevention.
    unit.get(2).map(|byte| byte & 0x80 != 0)
}

impl SliceHeader {
    /// Reads the NAL unit of a picture's first slice segment in the base layer. `None` for any other unit, for one
    /// without its parameter sets, and for a malformed one.
    pub fn parse(unit: &[u8], sets: &ParameterSets) -> Option<SliceHeader> {
        PREFIXES.iter().find_map(|&prefix| {
            let payload = unescape(unit.get(2..unit.len().min(prefix))?);
            read_header(unit, &mut BitReader::new(&payload), sets)
        })
    }

    /// True if the picture becomes prevTid0Pic for later pictures (8.3.1).
    pub fn is_tid0(&self) -> bool {
        let is_sub_layer_non_reference = self.nal_unit_type < 16 && self.nal_unit_type.is_multiple_of(2);
        self.temporal_id == 0
            && !matches!(self.kind, PictureKind::Radl | PictureKind::Rasl)
            && !is_sub_layer_non_reference
    }
}

fn read_header(unit: &[u8], bits: &mut BitReader<'_>, sets: &ParameterSets) -> Option<SliceHeader> {
    let (nal_unit_type, 0) = hevc::header(unit)? else { return None };
    let kind = PictureKind::of(nal_unit_type)?;
    let temporal_id = (unit.get(1)? & 7).checked_sub(1)?;
    if !bits.flag()? {
        return None;
    }
    let no_output_of_prior_pics = kind.is_irap() && bits.flag()?;
    let (pps, sps) = sets.get(bits.ue()?)?;
    let pic_output = read_to_output_flag(bits, pps)?;
    let mut header = SliceHeader {
        nal_unit_type,
        kind,
        temporal_id,
        no_output_of_prior_pics,
        pic_output,
        poc_lsb: 0,
        log2_max_poc_lsb: sps.log2_max_poc_lsb,
        short_term: Vec::new(),
        long_term: Vec::new(),
    };
    if sps.separate_colour_plane {
        bits.skip(2)?;
    }
    if kind != PictureKind::Idr {
        header.poc_lsb = bits.bits(sps.log2_max_poc_lsb)?;
        header.short_term = read_short_term(bits, sps)?;
        header.long_term = read_long_term(bits, sps)?;
    }
    Some(header)
}

/// Reads `slice_type` and the fields around it; returns `pic_output_flag`.
fn read_to_output_flag(bits: &mut BitReader<'_>, pps: &Pps) -> Option<bool> {
    bits.skip(pps.extra_slice_header_bits as usize)?;
    bits.ue_to(2)?;
    if pps.output_flag_present { bits.flag() } else { Some(true) }
}

fn read_short_term(bits: &mut BitReader<'_>, sps: &Sps) -> Option<ShortTermSet> {
    let sets = &sps.short_term_sets;
    if bits.flag()? { sets.get(bits.index(sets.len())?).cloned() } else { read_short_term_set(bits, sets, true) }
}

fn read_long_term(bits: &mut BitReader<'_>, sps: &Sps) -> Option<Vec<LongTerm>> {
    let Some(in_sps) = &sps.long_term else { return Some(Vec::new()) };
    let from_sps = if in_sps.is_empty() { 0 } else { bits.ue_to(MOST_LONG_TERM)? };
    let in_slice = bits.ue_to(MOST_LONG_TERM)?;
    let mut entries = Vec::with_capacity((from_sps + in_slice) as usize);
    let mut msb_cycle = 0_u32;
    for index in 0..from_sps + in_slice {
        let (poc_lsb, used) = if index < from_sps {
            *in_sps.get(bits.index(in_sps.len())?)?
        } else {
            (bits.bits(sps.log2_max_poc_lsb)?, bits.flag()?)
        };
        let has_msb = bits.flag()?;
        // (7-52): accumulated from the preceding element; the slice's own elements start again from 0.
        let before = if index == from_sps { 0 } else { msb_cycle };
        msb_cycle = before.checked_add(if has_msb { bits.ue()? } else { 0 })?;
        entries.push(LongTerm { poc_lsb, msb_cycle: has_msb.then_some(msb_cycle), used });
    }
    Some(entries)
}

/// Derives picture order counts in decode order (8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PocState {
    /// PicOrderCntVal of prevTid0Pic.
    previous: i32,
}

impl PocState {
    /// PicOrderCntVal of the next picture in decode order. For IDR and BLA, and with `begins` (an IRAP with
    /// NoRaslOutputFlag, where decoding begins), it is the low bits alone. `None` if it exceeds 32 bits.
    pub fn next(&mut self, header: &SliceHeader, begins: bool) -> Option<i32> {
        let begins = begins || matches!(header.kind, PictureKind::Idr | PictureKind::Bla);
        let poc = if begins {
            i32::try_from(header.poc_lsb).ok()?
        } else {
            self.nearest(header.poc_lsb, header.log2_max_poc_lsb)?
        };
        if header.is_tid0() {
            self.previous = poc;
        }
        Some(poc)
    }

    /// The state if prevTid0Pic has the count `poc`.
    pub fn after(poc: i32) -> PocState {
        PocState { previous: poc }
    }

    /// The count with these low bits that is nearest to prevTid0Pic's (8-1); `None` if it exceeds 32 bits.
    pub fn nearest(self, poc_lsb: u32, log2_max_poc_lsb: u32) -> Option<i32> {
        let max = 1_i32.checked_shl(log2_max_poc_lsb).filter(|&max| max > 1)?;
        let lsb = i32::try_from(poc_lsb).ok()?;
        let before = self.previous & (max - 1);
        let msb = self.previous - before;
        if lsb < before && before - lsb >= max / 2 {
            msb.checked_add(max)?.checked_add(lsb)
        } else if lsb > before && lsb - before > max / 2 {
            msb.checked_sub(max)?.checked_add(lsb)
        } else {
            msb.checked_add(lsb)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LongTerm, ParameterSets, PictureKind, PocState, SliceHeader};
    use crate::bitstream::bits::BitWriter;
    use crate::bitstream::hevc_sets::{ShortTerm, tests::sps};

    /// Two short-term sets, three long-term pictures; `pic_output_flag` written, one extra bit.
    fn sets() -> ParameterSets {
        let mut sets = ParameterSets::default();
        sets.absorb(&sps(|bits| {
            bits.ue(2).ue(1).ue(0).ue(0).bits(1, 1);
            bits.bits(1, 0).ue(1).ue(0).ue(1).bits(1, 1);
            bits.bits(1, 1).ue(3).bits(8, 10).bits(1, 1).bits(8, 20).bits(1, 0).bits(8, 30).bits(1, 1).bits(1, 1);
        }));
        sets.absorb(BitWriter::default().ue(0).ue(0).bits(2, 0b01).bits(3, 1).unit(&[34 << 1, 1]).as_slice());
        sets
    }

    fn slice(kind: u8, rest: impl Fn(&mut BitWriter)) -> Vec<u8> {
        let mut bits = BitWriter::default();
        rest(bits.bits(1, 1));
        bits.bits(16, 0).unit(&[kind << 1, 1])
    }

    #[test]
    fn long_term_entries_from_both_places_count_their_cycles_apart() {
        let unit = slice(1, |bits| {
            // PPS 0, extra bit, P, not for output, count 5, set 1 of the SPS.
            bits.ue(0).bits(1, 0).ue(1).bits(1, 0).bits(8, 5).bits(1, 1).bits(1, 1);
            // Two of the SPS: 30 with cycle 2, 20 without; then 40 with 3, 50 with 1 more, 60 without.
            bits.ue(2).ue(3).bits(2, 2).bits(1, 1).ue(2).bits(2, 1).bits(1, 0);
            bits.bits(8, 40).bits(2, 0b11).ue(3).bits(8, 50).bits(2, 0b01).ue(1).bits(8, 60).bits(2, 0b10);
        });
        let header = SliceHeader::parse(&unit, &sets()).expect("a header");
        let long = |poc_lsb, msb_cycle, used| LongTerm { poc_lsb, msb_cycle, used };
        let expected = [
            long(30, Some(2), true),
            long(20, None, false),
            long(40, Some(3), true),
            long(50, Some(4), false),
            long(60, None, true),
        ];
        assert_eq!(header.long_term, expected);
        assert_eq!(header.short_term, [ShortTerm { delta_poc: -2, used: true }]);
        assert_eq!((header.poc_lsb, header.kind, header.pic_output), (5, PictureKind::Trailing, false));
        assert!((0..10).all(|end| SliceHeader::parse(&unit[..end], &sets()).is_none()), "cut off");
        assert!(SliceHeader::parse(&unit, &ParameterSets::default()).is_none(), "without its sets");
    }

    #[test]
    fn headers_of_random_access_points() {
        let unit = slice(19, |bits| _ = bits.bits(1, 1).ue(0).bits(1, 0).ue(2).bits(1, 1));
        let header = SliceHeader::parse(&unit, &sets()).expect("a header");
        assert!(
            header.no_output_of_prior_pics && header.pic_output && header.is_tid0() && header.short_term.is_empty()
        );
        assert_eq!((header.kind, header.poc_lsb), (PictureKind::Idr, 0));
        let mut not_first = unit.clone();
        not_first[2] &= 0x7f;
        assert!(SliceHeader::parse(&not_first, &sets()).is_none());
        let reserved = slice(22, |bits| _ = bits.bits(1, 1).ue(0).bits(1, 0).ue(2).bits(1, 1));
        assert!(SliceHeader::parse(&reserved, &sets()).is_none());
    }

    fn header(nal_unit_type: u8, poc_lsb: u32) -> SliceHeader {
        SliceHeader {
            nal_unit_type,
            kind: PictureKind::of(nal_unit_type).expect("a slice"),
            temporal_id: 0,
            no_output_of_prior_pics: false,
            pic_output: true,
            poc_lsb,
            log2_max_poc_lsb: 4,
            short_term: Vec::new(),
            long_term: Vec::new(),
        }
    }

    #[test]
    fn counts_go_on_from_the_last_reference_picture_of_layer_0() {
        let mut state = PocState::default();
        let mut next = |kind, lsb| state.next(&header(kind, lsb), false);
        assert_eq!([next(19, 0), next(1, 6), next(1, 12)], [Some(0), Some(6), Some(12)]);
        assert_eq!([next(1, 3), next(0, 10), next(1, 14)], [Some(19), Some(26), Some(14)], "type 0 does not count");
        assert_eq!([next(21, 5), next(9, 15), next(1, 8)], [Some(21), Some(15), Some(24)], "nor do leading pictures");
        assert_eq!([next(16, 9), next(1, 1)], [Some(9), Some(17)], "a BLA resets the count");
        assert_eq!(PocState::after(-3).nearest(1, 4), Some(1));
        assert_eq!(PocState::after(-3).nearest(6, 4), Some(-10));
        assert_eq!(PocState::after(i32::MAX).nearest(0, 16), None);
    }
}
