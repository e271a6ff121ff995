//! H.265: sequence and picture parameter sets, as far as slice headers need them, and the sets that are active.
//!
//! Slice headers are left to `hevc_slice`, the choice of the sets that are active at a sample to `parameter_sets`.

use std::sync::Arc;

use super::bits::{BitReader, unescape};
use super::{Framing, hevc};

/// Most pictures in one short-term reference picture set: a picture buffer holds 16 pictures (A.4.2).
const MOST_PICTURES: usize = 16;
/// Most short-term sets in a sequence parameter set (7.4.3.2.1).
const MOST_SETS: u32 = 64;
/// Most long-term pictures in a sequence parameter set (7.4.3.2.1).
const MOST_LONG_TERM: u32 = 32;

/// An element of a short-term reference picture set (7.4.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShortTerm {
    /// Picture order count, relative to the current picture. Never 0.
    pub delta_poc: i32,
    /// The current picture may refer to it; otherwise the decoder keeps it for later pictures only.
    pub used: bool,
}

/// A short-term reference picture set (7.3.7): the pictures before in output order, nearest first, then those after,
/// nearest first.
pub type ShortTermSet = Vec<ShortTerm>;

/// The fields of a sequence parameter set (7.3.2.2) that slice headers need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sps {
    /// `sps_seq_parameter_set_id`.
    pub id: u32,
    /// `separate_colour_plane_flag`.
    pub separate_colour_plane: bool,
    /// `log2_max_pic_order_cnt_lsb_minus4` + 4: 4 to 16.
    pub log2_max_poc_lsb: u32,
    /// Width and height in coding tree blocks (7-15, 7-17).
    pub size_in_ctbs: (u32, u32),
    /// `st_ref_pic_set(i)`.
    pub short_term_sets: Vec<ShortTermSet>,
    /// `lt_ref_pic_poc_lsb_sps[i]` and `used_by_curr_pic_lt_sps_flag[i]`; `None` without
    /// `long_term_ref_pics_present_flag`.
    pub long_term: Option<Vec<(u32, bool)>>,
    /// `sps_temporal_mvp_enabled_flag`.
    pub temporal_mvp: bool,
}

/// The fields of a picture parameter set (7.3.2.3) that slice headers need. None of them depends on the sequence
/// parameter set, which may come later or be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pps {
    /// `pps_pic_parameter_set_id`.
    pub id: u32,
    /// `pps_seq_parameter_set_id`.
    pub sps_id: u32,
    /// `dependent_slice_segments_enabled_flag`.
    pub dependent_slice_segments: bool,
    /// `output_flag_present_flag`.
    pub output_flag_present: bool,
    /// `num_extra_slice_header_bits`.
    pub extra_slice_header_bits: u32,
    /// `entropy_coding_sync_enabled_flag` without tiles: rows of blocks can be decoded side by side. False if the set
    /// is malformed before it.
    pub has_wavefronts: bool,
}

impl Sps {
    /// Reads a sequence parameter set: a NAL unit of type 33 with its header, with emulation prevention bytes. `None`
    /// if it is malformed.
    pub fn parse(unit: &[u8]) -> Option<Sps> {
        let payload = unescape(unit.get(2..)?);
        let mut bits = BitReader::new(&payload);
        let bits = &mut bits;
        bits.skip(4)?;
        let max_sub_layers_minus1 = bits.bits(3)?;
        bits.skip(1)?;
        hevc::skip_profile_tier_level(bits, max_sub_layers_minus1)?;
        let id = bits.ue_to(15)?;
        let separate_colour_plane = bits.ue_to(3)? == 3 && bits.flag()?;
        let size = (bits.ue()?, bits.ue()?);
        skip_window_and_depths(bits)?;
        let log2_max_poc_lsb = bits.ue_to(12)? + 4;
        skip_sub_layer_ordering(bits, max_sub_layers_minus1)?;
        let log2_ctb = read_block_sizes(bits)?;
        skip_tools(bits)?;
        let short_term_sets = read_short_term_sets(bits)?;
        let long_term = if bits.flag()? { Some(read_long_term(bits, log2_max_poc_lsb)?) } else { None };
        Some(Sps {
            id,
            separate_colour_plane,
            log2_max_poc_lsb,
            size_in_ctbs: (size.0.div_ceil(1 << log2_ctb), size.1.div_ceil(1 << log2_ctb)),
            short_term_sets,
            long_term,
            temporal_mvp: bits.flag()?,
        })
    }
}

/// Conformance window and bit depths.
fn skip_window_and_depths(bits: &mut BitReader<'_>) -> Option<()> {
    let codes = if bits.flag()? { 4 + 2 } else { 2 };
    (0..codes).try_for_each(|_| bits.ue().map(|_| ()))
}

fn skip_sub_layer_ordering(bits: &mut BitReader<'_>, max_sub_layers_minus1: u32) -> Option<()> {
    let all_present = bits.flag()?;
    let sub_layers = if all_present { max_sub_layers_minus1 + 1 } else { 1 };
    (0..3 * sub_layers).try_for_each(|_| bits.ue().map(|_| ()))
}

/// Reads the sizes of coding and transform blocks and returns CtbLog2SizeY.
fn read_block_sizes(bits: &mut BitReader<'_>) -> Option<u32> {
    let log2_min_coding_block = bits.ue_to(3)? + 3;
    let log2_ctb = log2_min_coding_block + bits.ue_to(3)?;
    // Minimum transform block, difference to the maximum, hierarchy depths of inter and intra.
    (0..4).try_for_each(|_| bits.ue().map(|_| ()))?;
    Some(log2_ctb)
}

/// Skips scaling lists, asymmetric partitions, sample adaptive offset, PCM.
fn skip_tools(bits: &mut BitReader<'_>) -> Option<()> {
    if bits.flag()? && bits.flag()? {
        skip_scaling_lists(bits)?;
    }
    bits.skip(2)?;
    if bits.flag()? {
        bits.skip(8)?;
        bits.ue()?;
        bits.ue()?;
        bits.skip(1)?;
    }
    Some(())
}

/// Skips 7.3.4. Signed codes are as long as unsigned ones.
fn skip_scaling_lists(bits: &mut BitReader<'_>) -> Option<()> {
    for size in 0..4 {
        for _ in 0..if size == 3 { 2 } else { 6 } {
            // Predicted from another list, or a DC coefficient (in the two larger sizes) and up to 64 others.
            let codes = if bits.flag()? { 64.min(1 << (4 + 2 * size)) + i32::from(size > 1) } else { 1 };
            (0..codes).try_for_each(|_| bits.ue().map(|_| ()))?;
        }
    }
    Some(())
}

fn read_short_term_sets(bits: &mut BitReader<'_>) -> Option<Vec<ShortTermSet>> {
    let count = bits.ue_to(MOST_SETS)?;
    let mut sets = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let set = read_short_term_set(bits, &sets, false)?;
        sets.push(set);
    }
    Some(sets)
}

fn read_long_term(bits: &mut BitReader<'_>, log2_max_poc_lsb: u32) -> Option<Vec<(u32, bool)>> {
    let count = bits.ue_to(MOST_LONG_TERM)?;
    (0..count).map(|_| Some((bits.bits(log2_max_poc_lsb)?, bits.flag()?))).collect()
}

/// Reads `st_ref_pic_set(earlier.len())` (7.3.7). `None` also for sets that no conforming stream has: too many
/// pictures, the current picture itself, a picture twice.
pub(super) fn read_short_term_set(
    bits: &mut BitReader<'_>,
    earlier: &[ShortTermSet],
    is_in_slice: bool,
) -> Option<ShortTermSet> {
    let is_predicted = !earlier.is_empty() && bits.flag()?;
    let set = if is_predicted { predicted_set(bits, earlier, is_in_slice)? } else { explicit_set(bits)? };
    (set.len() <= MOST_PICTURES).then_some(set)
}

/// A set that is predicted from an earlier one (7-61, 7-62).
fn predicted_set(bits: &mut BitReader<'_>, earlier: &[ShortTermSet], is_in_slice: bool) -> Option<ShortTermSet> {
    let back = if is_in_slice { bits.ue()?.checked_add(1)? } else { 1 };
    let base = earlier.get(earlier.len().checked_sub(back as usize)?)?;
    let is_negative = bits.flag()?;
    let distance = bits.ue_to((1 << 15) - 1)? as i32 + 1;
    let shift = if is_negative { -distance } else { distance };
    let mut set = Vec::with_capacity(base.len() + 1);
    // The last flags concern the earlier set's picture itself.
    for base_delta in base.iter().map(|entry| entry.delta_poc).chain([0]) {
        let used = bits.flag()?;
        if used || bits.flag()? {
            set.push(ShortTerm { delta_poc: base_delta + shift, used });
        }
    }
    set.sort_by_key(|entry| (entry.delta_poc > 0, entry.delta_poc.abs()));
    let is_twice = set.windows(2).any(|pair| pair[0].delta_poc == pair[1].delta_poc);
    (!is_twice && set.iter().all(|entry| entry.delta_poc != 0)).then_some(set)
}

fn explicit_set(bits: &mut BitReader<'_>) -> Option<ShortTermSet> {
    let (before, after) = (bits.ue_to(MOST_PICTURES as u32)?, bits.ue_to(MOST_PICTURES as u32)?);
    let mut set = Vec::with_capacity((before + after) as usize);
    for (count, sign) in [(before, -1), (after, 1)] {
        let mut delta_poc = 0;
        for _ in 0..count {
            delta_poc += sign * (bits.ue_to((1 << 15) - 1)? as i32 + 1);
            set.push(ShortTerm { delta_poc, used: bits.flag()? });
        }
    }
    Some(set)
}

impl Pps {
    /// Reads a picture parameter set: a NAL unit of type 34 with its header, with emulation prevention bytes. `None` if
    /// it is malformed.
    pub fn parse(unit: &[u8]) -> Option<Pps> {
        let payload = unescape(unit.get(2..unit.len().min(32))?);
        let mut bits = BitReader::new(&payload);
        Some(Pps {
            id: bits.ue_to(63)?,
            sps_id: bits.ue_to(15)?,
            dependent_slice_segments: bits.flag()?,
            output_flag_present: bits.flag()?,
            extra_slice_header_bits: bits.bits(3)?,
            has_wavefronts: read_wavefronts(&mut bits).unwrap_or(false),
        })
    }
}

/// Reads from `sign_data_hiding_enabled_flag` on.
fn read_wavefronts(bits: &mut BitReader<'_>) -> Option<bool> {
    bits.skip(2)?;
    // Default counts of references, and the initial quantiser; its signed code is as long as an unsigned one.
    (0..3).try_for_each(|_| bits.ue().map(|_| ()))?;
    bits.skip(2)?;
    if bits.flag()? {
        bits.ue()?;
    }
    (0..2).try_for_each(|_| bits.ue().map(|_| ()))?;
    bits.skip(4)?;
    let has_tiles = bits.flag()?;
    Some(bits.flag()? && !has_tiles)
}

/// The active parameter sets at a position in a stream. Clones share the sets.
#[derive(Debug, Clone, Default)]
pub struct ParameterSets {
    sps: [Option<Arc<Sps>>; 16],
    /// By identifier; sorted.
    pps: Vec<Pps>,
}

impl ParameterSets {
    /// The sets in a decoder configuration: an `hvcC` record (ISO/IEC 14496-15, 8.3.3.1) or Annex B.
    pub fn from_configuration(extradata: &[u8]) -> ParameterSets {
        let mut sets = ParameterSets::default();
        sets.absorb_configuration(extradata);
        sets
    }

    /// Adds the sets of a decoder configuration, as [`ParameterSets::from_configuration`] reads them.
    pub fn absorb_configuration(&mut self, extradata: &[u8]) {
        match Framing::of(super::Codec::Hevc, extradata) {
            Framing::AnnexB => Framing::AnnexB.units(extradata).for_each(|unit| _ = self.absorb(unit)),
            Framing::Length(_) => _ = self.absorb_arrays(extradata),
        }
    }

    /// Adds the arrays of NAL units after the 22 fixed bytes of an `hvcC` record.
    fn absorb_arrays(&mut self, record: &[u8]) -> Option<()> {
        let (&arrays, mut rest) = record.get(22..)?.split_first()?;
        for _ in 0..arrays {
            let (head, after) = rest.split_at_checked(3)?;
            rest = after;
            for _ in 0..u16::from_be_bytes([head[1], head[2]]) {
                let (length, after) = rest.split_first_chunk::<2>()?;
                let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
                self.absorb(unit);
                rest = after;
            }
        }
        Some(())
    }

    /// Adds a unit if it is a parameter set of the base layer; it replaces an earlier one. True if it is a parameter
    /// set. A malformed set with a readable identifier removes the one that it would replace.
    pub fn absorb(&mut self, unit: &[u8]) -> bool {
        if hevc::kind(unit) != hevc::NalKind::ParameterSet {
            return false;
        }
        match hevc::parameter_set_id(unit) {
            Some((33, id)) => {
                if let Some(place) = self.sps.get_mut(id as usize) {
                    *place = Sps::parse(unit).map(Arc::new);
                }
            }
            Some((34, id)) => self.replace_pps(id, Pps::parse(unit)),
            _ => {}
        }
        true
    }

    fn replace_pps(&mut self, id: u32, pps: Option<Pps>) {
        let at = self.pps.binary_search_by_key(&id, |pps| pps.id);
        match (at, pps) {
            (Ok(at), Some(pps)) => self.pps[at] = pps,
            (Ok(at), None) => _ = self.pps.remove(at),
            (Err(at), Some(pps)) => self.pps.insert(at, pps),
            (Err(_), None) => {}
        }
    }

    /// True if there is no picture parameter set.
    pub fn is_empty(&self) -> bool {
        self.pps.is_empty()
    }

    /// Rows of coding tree blocks that can be decoded side by side, the minimum over all sets; 0 without wavefronts.
    pub fn rows_side_by_side(&self) -> u32 {
        let rows =
            |pps: &Pps| self.get(pps.id).filter(|(pps, _)| pps.has_wavefronts).map_or(0, |(_, sps)| sps.size_in_ctbs.1);
        self.pps.iter().map(rows).min().unwrap_or(0)
    }

    /// The picture parameter set with this identifier, and the sequence parameter set that it refers to. `None` if
    /// either is missing.
    pub fn get(&self, pps_id: u32) -> Option<(&Pps, &Sps)> {
        let pps = &self.pps[self.pps.binary_search_by_key(&pps_id, |pps| pps.id).ok()?];
        Some((pps, self.sps.get(pps.sps_id as usize)?.as_deref()?))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{ParameterSets, Pps, ShortTerm, Sps};
    use crate::bitstream::bits::BitWriter;

    /// An SPS of one sub-layer, 416x240 in blocks of 16, counts of 8 bits. `rest` writes the fields from
    /// `num_short_term_ref_pic_sets` on.
    pub(crate) fn sps(rest: impl Fn(&mut BitWriter)) -> Vec<u8> {
        let mut bits = BitWriter::default();
        bits.bits(8, 1);
        (0..12).for_each(|_| _ = bits.bits(8, 0x11));
        bits.ue(0).ue(1).ue(416).ue(240).bits(1, 1).ue(0).ue(1).ue(0).ue(2).ue(0).ue(0).ue(4);
        bits.bits(1, 1).ue(4).ue(2).ue(0);
        bits.ue(0).ue(1).ue(0).ue(3).ue(1).ue(1);
        // Scaling lists: all predicted but one of 4x4 and one of 32x32.
        bits.bits(2, 3);
        for list in 0..20 {
            match list {
                2 => (0..16).fold(bits.bits(1, 1), |bits, _| bits.ue(3)),
                19 => (0..65).fold(bits.bits(1, 1), |bits, _| bits.ue(2)),
                _ => bits.bits(1, 0).ue(0),
            };
        }
        // Tools, and PCM with its sizes.
        bits.bits(3, 0b011).bits(8, 0x77).ue(0).ue(1).bits(1, 1);
        rest(&mut bits);
        bits.unit(&[33 << 1, 1])
    }

    fn entry((delta_poc, used): (i32, bool)) -> ShortTerm {
        ShortTerm { delta_poc, used }
    }

    #[test]
    fn sets_predicted_from_the_set_before() {
        let unit = sps(|bits| {
            bits.ue(3);
            // -1, -3 (for later pictures only), +2
            bits.ue(2).ue(1).ue(0).bits(1, 1).ue(1).bits(1, 0).ue(1).bits(1, 1);
            // Shifted by -2: -3, -5, 0 (left out), and the picture itself: -2.
            bits.bits(1, 1).bits(1, 1).ue(1).bits(1, 1).bits(2, 0b01).bits(2, 0b00).bits(1, 1);
            // Shifted by 4: 4 - 2, 4 - 3, 4 - 5, and itself.
            bits.bits(1, 1).bits(1, 0).ue(3).bits(1, 1).bits(1, 1).bits(1, 1).bits(2, 0b01);
            bits.bits(1, 0).bits(1, 1);
        });
        let sps = Sps::parse(&unit).expect("a set");
        let expected = [
            vec![(-1, true), (-3, false), (2, true)],
            vec![(-2, true), (-3, true), (-5, false)],
            vec![(-1, true), (1, true), (2, true), (4, false)],
        ];
        assert_eq!(sps.short_term_sets, expected.map(|set| set.into_iter().map(entry).collect::<Vec<_>>()));
        assert_eq!((sps.id, sps.log2_max_poc_lsb, sps.size_in_ctbs), (0, 8, (26, 15)));
        assert!(sps.temporal_mvp && sps.long_term.is_none() && !sps.separate_colour_plane);
        assert!((0..unit.len() - 2).all(|end| Sps::parse(&unit[..end]).is_none()), "cut off");
    }

    #[test]
    fn a_picture_cannot_refer_to_itself_or_twice_to_another() {
        let predicted = |flags: u32| {
            sps(|bits| {
                bits.ue(2).ue(2).ue(0).ue(0).bits(1, 1).ue(0).bits(1, 1);
                bits.bits(1, 1).bits(1, 0).ue(0).bits(3, flags).bits(2, 0).bits(1, 1);
            })
        };
        // -1 and -2, shifted by 1: 0 and -1, and 1 for the picture itself.
        assert!(Sps::parse(&predicted(0b111)).is_none());
    }

    #[test]
    fn wavefronts_count_where_there_are_no_tiles() {
        let pps = |id: u32, has_tiles: u32, is_synchronised: u32| {
            let mut bits = BitWriter::default();
            bits.ue(id).ue(0).bits(7, 0).ue(3).ue(0).ue(9).bits(2, 0).bits(1, 1).ue(1).ue(12).ue(11).bits(4, 0b0101);
            bits.bits(1, has_tiles).bits(1, is_synchronised).unit(&[34 << 1, 1])
        };
        let mut sets = ParameterSets::default();
        assert!(sets.is_empty() && sets.rows_side_by_side() == 0);
        assert!(sets.absorb(&sps(|bits| _ = bits.ue(0).bits(2, 0b01))) && sets.absorb(&pps(0, 0, 1)));
        assert_eq!(sets.rows_side_by_side(), 15);
        assert!(sets.absorb(&pps(1, 1, 1)) && sets.rows_side_by_side() == 0);
        assert!(sets.absorb(&pps(1, 0, 1)) && sets.rows_side_by_side() == 15);
        assert!(sets.absorb(&pps(2, 0, 0)) && sets.rows_side_by_side() == 0);
    }

    #[test]
    fn sets_are_replaced_by_number_and_survive_each_other() {
        let pps =
            |id: u32, extra: u32| BitWriter::default().ue(id).ue(0).bits(2, 0b01).bits(3, extra).unit(&[34 << 1, 1]);
        let none = sps(|bits| _ = bits.ue(0).bits(2, 0b01));
        let long = sps(|bits| _ = bits.ue(0).bits(1, 1).ue(1).bits(8, 77).bits(1, 1).bits(1, 0));
        let mut sets = ParameterSets::default();
        assert!(sets.absorb(&pps(3, 2)) && sets.get(3).is_none(), "its sequence parameter set is missing");
        assert!(sets.absorb(&none) && sets.absorb(&pps(1, 0)));
        let expected = Pps {
            id: 3,
            sps_id: 0,
            dependent_slice_segments: false,
            output_flag_present: true,
            extra_slice_header_bits: 2,
            has_wavefronts: false,
        };
        assert_eq!(sets.get(3).map(|(pps, sps)| (*pps, sps.long_term.clone())), Some((expected, None)));
        assert!(sets.absorb(&long) && sets.absorb(&pps(3, 1)));
        let (pps, sps) = sets.get(3).expect("both");
        assert_eq!((pps.extra_slice_header_bits, sps.long_term.as_deref()), (1, Some(&[(77, true)][..])));
        assert!(sets.absorb(&long[..30]) && sets.get(3).is_none(), "a malformed set removes the earlier one");
        assert!(!sets.absorb(&[1 << 1, 1, 0x80]) && !sets.absorb(&[]));
    }

    #[test]
    fn configurations_are_arrays_or_annex_b() {
        let (sps, pps) = (sps(|bits| _ = bits.ue(0).bits(2, 0b01)), vec![34 << 1, 1, 0b1110_0000, 0b1000_0000]);
        let mut record = vec![1; 22];
        record.push(2);
        for unit in [&sps, &pps] {
            record.extend([unit[0] >> 1, 0, 1, 0, unit.len() as u8]);
            record.extend(unit);
        }
        let annex_b = [&[0, 0, 0, 1], &sps[..], &[0, 0, 1], &pps].concat();
        for extradata in [&record, &annex_b] {
            assert!(ParameterSets::from_configuration(extradata).get(0).is_some());
            assert!(ParameterSets::from_configuration(&extradata[..extradata.len() - 3]).get(0).is_none());
        }
        assert!(ParameterSets::from_configuration(&[]).get(0).is_none());
    }
}
