//! H.265: NAL unit types (table 7-1), parameter set identifiers, picture hash SEI (D.2.19). The contents of sets are
//! left to `hevc_sets`, slice headers to `hevc_slice`.

use super::bits::{BitReader, unescape};

/// The kinds of base layer NAL units that random access needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NalKind {
    /// An IDR picture: no later picture refers to an earlier one.
    Idr,
    /// A CRA or BLA picture: its leading pictures may refer to earlier pictures.
    Open,
    /// A leading picture that only needs its IRAP (RADL).
    Radl,
    /// Another coded slice.
    Slice,
    /// A video, sequence or picture parameter set.
    ParameterSet,
    /// An end of sequence or of bitstream: the next picture begins a coded video sequence.
    EndOfSequence,
    /// Any other unit, and all units of other layers.
    Other,
}

impl NalKind {
    /// True for slices of the base layer.
    pub fn is_slice(self) -> bool {
        matches!(self, NalKind::Idr | NalKind::Open | NalKind::Radl | NalKind::Slice)
    }
}

/// `nal_unit_type` and `nuh_layer_id` (7.3.1.2).
pub fn header(unit: &[u8]) -> Option<(u8, u8)> {
    let (&first, &second) = (unit.first()?, unit.get(1)?);
    Some((first >> 1 & 0x3f, (first & 1) << 5 | second >> 3))
}

/// The kind of a NAL unit.
pub fn kind(unit: &[u8]) -> NalKind {
    match header(unit) {
        Some((19 | 20, 0)) => NalKind::Idr,
        Some((16..=18 | 21, 0)) => NalKind::Open,
        Some((6 | 7, 0)) => NalKind::Radl,
        Some((0..=31, 0)) => NalKind::Slice,
        Some((32..=34, 0)) => NalKind::ParameterSet,
        Some((36 | 37, 0)) => NalKind::EndOfSequence,
        _ => NalKind::Other,
    }
}

/// True if a sample ends its coded video sequence: an end of sequence follows its slices.
pub fn ends_sequence(framing: super::Framing, sample: &[u8]) -> bool {
    let units = framing.units(sample).map(kind);
    units.fold(false, |ends, kind| kind == NalKind::EndOfSequence || (ends && !kind.is_slice()))
}

/// True if an end of sequence precedes the first slice of a sample.
pub fn begins_after_end(framing: super::Framing, sample: &[u8]) -> bool {
    framing.units(sample).map(kind).take_while(|kind| !kind.is_slice()).any(|kind| kind == NalKind::EndOfSequence)
}

/// True if the picture of this IRAP slice begins a coded video sequence and drops pictures that still wait for output
/// (C.5.2.2). A CRA begins one only after an end of sequence, and then always drops them, as in libavcodec.
pub fn drops_earlier(unit: &[u8], after_end_of_sequence: bool) -> bool {
    // first_slice_segment_in_pic_flag, no_output_of_prior_pics_flag (7.3.6.1): too early in the unit for emulation
    // prevention.
    let flag = unit.get(2).is_some_and(|byte| byte & 0x40 != 0);
    match header(unit) {
        Some((21, _)) => after_end_of_sequence,
        Some((16..=20, _)) => flag,
        _ => false,
    }
}

/// Type (32 video, 33 sequence, 34 picture; table 7-1) and identifier of a parameter set. `None` for other units, and
/// for a unit that ends before its identifier.
pub fn parameter_set_id(unit: &[u8]) -> Option<(u8, u32)> {
    let (kind, _) = header(unit)?;
    let payload = unescape(unit.get(2..unit.len().min(128))?);
    let mut bits = BitReader::new(&payload);
    let id = match kind {
        32 => bits.bits(4)?,
        33 => {
            bits.skip(4)?;
            let sub_layers = bits.bits(3)?;
            bits.skip(1)?;
            skip_profile_tier_level(&mut bits, sub_layers)?;
            bits.ue()?
        }
        34 => bits.ue()?,
        _ => return None,
    };
    Some((kind, id))
}

/// Skips 7.3.3, with `profilePresentFlag` set.
pub(super) fn skip_profile_tier_level(bits: &mut BitReader<'_>, max_sub_layers_minus1: u32) -> Option<()> {
    bits.skip(88 + 8)?;
    let mut present = Vec::with_capacity(8);
    for _ in 0..max_sub_layers_minus1 {
        present.push((bits.flag()?, bits.flag()?));
    }
    if max_sub_layers_minus1 > 0 {
        bits.skip(2 * (8 - max_sub_layers_minus1 as usize))?;
    }
    for (profile, level) in present {
        bits.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    Some(())
}

/// The MD5 sums of the planes in a decoded picture hash SEI message; `None` for other units and hashes.
pub fn picture_hash_md5(unit: &[u8]) -> Option<Vec<[u8; 16]>> {
    let (kind, layer) = header(unit)?;
    if !matches!(kind, 39 | 40) || layer != 0 {
        return None;
    }
    let payload = unescape(unit.get(2..)?);
    let mut rest = &payload[..];
    while rest.len() > 2 {
        let (kind, after) = sei_number(rest)?;
        let (size, after) = sei_number(after)?;
        let (message, after) = after.split_at_checked(size)?;
        if kind == 132 && message.first() == Some(&0) {
            return Some(message[1..].chunks_exact(16).filter_map(|md5| md5.try_into().ok()).collect());
        }
        rest = after;
    }
    None
}

/// True if a unit without a slice affects later pictures. A decoder must get these units of a sample even if its slices
/// are left out: parameter sets, ends of sequences, and SEI messages that libavcodec keeps.
pub fn outlives_its_picture(unit: &[u8]) -> bool {
    match header(unit) {
        Some((32..=34 | 36 | 37, _)) => true,
        Some((39, _)) => unit.get(2..).is_none_or(|payload| sei_has_other_than(&unescape(payload), &OWN_MESSAGES)),
        // Slices, delimiters, filler, suffix SEI (hashes of this picture).
        Some((0..=31 | 35 | 38 | 40, _)) => false,
        // Dolby Vision's types 62 and 63 belong to a picture; libavcodec takes them as that picture's side data.
        Some((62 | 63, _)) => false,
        _ => true,
    }
}

/// SEI messages that only concern their own picture (table D.1): buffering period, picture timing, registered and
/// unregistered user data, recovery point, decoding unit information.
const OWN_MESSAGES: [usize; 6] = [0, 1, 4, 5, 6, 130];

/// True if an SEI payload has messages of other types than `known`, or is malformed.
pub(super) fn sei_has_other_than(mut payload: &[u8], known: &[usize]) -> bool {
    while payload.len() > 2 {
        let Some((kind, after)) = sei_number(payload) else { return true };
        let Some((size, after)) = sei_number(after) else { return true };
        match after.split_at_checked(size) {
            Some((_, after)) if known.contains(&kind) => payload = after,
            _ => return true,
        }
    }
    false
}

/// A payload type or size of an SEI message: bytes of 255 and a last one (7.3.5).
pub(crate) fn sei_number(data: &[u8]) -> Option<(usize, &[u8])> {
    let full = data.iter().take_while(|&&byte| byte == 0xff).count();
    let last = *data.get(full)?;
    Some((full * 255 + usize::from(last), &data[full + 1..]))
}

#[cfg(test)]
mod tests {
    use super::{NalKind, header, kind, parameter_set_id, picture_hash_md5};

    #[test]
    fn kinds_by_type_and_layer() {
        let unit = |kind: u8, layer: u8| [kind << 1 | layer >> 5, layer << 3 | 1];
        assert_eq!(header(&unit(33, 1)), Some((33, 1)));
        assert_eq!(kind(&unit(19, 0)), NalKind::Idr);
        assert_eq!(kind(&unit(21, 0)), NalKind::Open);
        assert_eq!(kind(&unit(21, 1)), NalKind::Other, "a CRA of a second layer is of no concern");
        assert_eq!(kind(&unit(8, 0)), NalKind::Slice);
        assert_eq!(kind(&[]), NalKind::Other);
    }

    #[test]
    fn identifiers_of_parameter_sets() {
        assert_eq!(parameter_set_id(&[0x40, 1, 0x3c]), Some((32, 3)));
        assert_eq!(parameter_set_id(&[0x44, 1, 0b0110_0000]), Some((34, 2)));
        // SPS, one sub-layer: 4 + 3 + 1 bits, 96 bits of profile, tier and level, then ue(v) = 1.
        let mut sps = vec![0x42, 1, 0x01];
        sps.extend([0x11; 12]);
        sps.push(0b0100_0000);
        assert_eq!(parameter_set_id(&sps), Some((33, 1)));
        assert_eq!(parameter_set_id(&sps[..10]), None);
    }

    #[test]
    fn what_outlives_its_picture() {
        let of = |unit: &[u8]| super::outlives_its_picture(unit);
        assert!([32, 33, 34, 36, 37, 41].iter().all(|kind| of(&[kind << 1, 1])));
        assert!(![0, 1, 19, 35, 38, 40].iter().any(|kind| of(&[kind << 1, 1])));
        assert!(!of(&[39 << 1, 1, 1, 1, 0xaa, 5, 1, 0xbb, 0x80]), "picture timing, user data");
        assert!(of(&[39 << 1, 1, 1, 1, 0xaa, 147, 1, 18, 0x80]), "transfer characteristics");
        assert!(of(&[39 << 1, 1, 1, 9, 0xaa]), "cut off");
    }

    #[test]
    fn hashes_are_found_behind_other_messages() {
        let mut unit = vec![40 << 1, 1, 5, 1, 0xaa, 132, 33, 0];
        unit.extend([7; 16]);
        unit.extend([8; 16]);
        unit.push(0x80);
        assert_eq!(picture_hash_md5(&unit), Some(vec![[7; 16], [8; 16]]));
        assert_eq!(picture_hash_md5(&unit[..20]), None, "cut off");
    }
}
