//! H.264: NAL unit types (table 7-1), recovery point SEI (D.2.8), parameter set identifiers. References are left to
//! `plan::droppable`.

use super::bits::{BitReader, unescape};
use super::hevc::{sei_has_other_than, sei_number};

/// `nal_unit_type` (7.3.1).
pub fn kind(unit: &[u8]) -> Option<u8> {
    unit.first().map(|byte| byte & 0x1f)
}

/// `nal_ref_idc` (7.3.1).
pub fn ref_idc(unit: &[u8]) -> Option<u8> {
    unit.first().map(|byte| byte >> 5 & 3)
}

/// True if an SEI unit has a message that may concern later pictures (table D.1), or is malformed. These only concern
/// their own picture: buffering period, picture timing, pan-scan, filler, registered and unregistered user data.
pub fn has_lasting_message(unit: &[u8]) -> bool {
    unit.get(1..).is_none_or(|payload| sei_has_other_than(&unescape(payload), &[0, 1, 2, 3, 4, 5]))
}

/// True for the NAL unit types of slices in a primary coded picture: 1 to 5 (table 7-1).
pub fn is_slice(kind: u8) -> bool {
    matches!(kind, 1..=5)
}

/// A recovery point SEI message (D.2.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryPoint {
    /// `recovery_frame_cnt`: frames from this one until pictures are right; 0 if this one is.
    pub frame_count: u32,
    /// `exact_match_flag`: pictures are then exact, not only approximately right.
    pub exact_match: bool,
    /// `broken_link_flag`: an edit has broken references across the point.
    pub broken_link: bool,
}

impl RecoveryPoint {
    /// True if decoding that begins here is bit-exact for all pictures shown from this one on.
    pub fn is_exact(self) -> bool {
        self.frame_count == 0 && self.exact_match && !self.broken_link
    }
}

/// The recovery point SEI message (payload type 6) in a NAL unit. `None` for other units, and if it is malformed.
pub fn recovery_point(unit: &[u8]) -> Option<RecoveryPoint> {
    if kind(unit)? != 6 {
        return None;
    }
    let payload = unescape(&unit[1..]);
    let mut rest = &payload[..];
    while rest.len() > 2 {
        let (kind, after) = sei_number(rest)?;
        let (size, after) = sei_number(after)?;
        let (message, after) = after.split_at_checked(size)?;
        if kind == 6 {
            let mut bits = BitReader::new(message);
            return Some(RecoveryPoint {
                frame_count: bits.ue()?,
                exact_match: bits.flag()?,
                broken_link: bits.flag()?,
            });
        }
        rest = after;
    }
    None
}

/// Type and identifier of a sequence (7) or picture (8) parameter set.
pub fn parameter_set_id(unit: &[u8]) -> Option<(u8, u32)> {
    let kind = kind(unit)?;
    let payload = unescape(unit.get(1..unit.len().min(32))?);
    let mut bits = BitReader::new(&payload);
    match kind {
        7 => bits.skip(24)?,
        8 => {}
        _ => return None,
    }
    Some((kind, bits.ue()?))
}

#[cfg(test)]
mod tests {
    use super::{RecoveryPoint, parameter_set_id, recovery_point};

    #[test]
    fn recovery_points_behind_other_messages() {
        // Payload type 6, one byte: ue(0) = 1, exact_match 1, broken_link 0, changing_slice_group_idc 00.
        let unit = [6, 5, 2, 0, 0, 6, 1, 0b1100_0100, 0x80];
        let point = recovery_point(&unit).unwrap();
        assert_eq!(point, RecoveryPoint { frame_count: 0, exact_match: true, broken_link: false });
        assert!(point.is_exact());
        assert!(!recovery_point(&[6, 6, 1, 0b1000_0100, 0x80]).unwrap().is_exact(), "only about right");
        assert!(!recovery_point(&[6, 6, 1, 0b0101_0100, 0x80]).unwrap().is_exact(), "a frame later");
        assert_eq!(recovery_point(&[6, 6]), None);
        assert_eq!(recovery_point(&[5, 6, 1, 0xff, 0x80]), None);
    }

    #[test]
    fn identifiers_of_parameter_sets() {
        assert_eq!(parameter_set_id(&[0x67, 100, 0, 40, 0b0101_0000]), Some((7, 1)));
        assert_eq!(parameter_set_id(&[0x68, 0b1000_0000]), Some((8, 0)));
        assert_eq!(parameter_set_id(&[0x67, 100]), None);
    }
}
