//! The active parameter sets at each sample, for streams that carry them in samples.
//!
//! A sequential decode receives every set in order. A decode run that begins in the middle needs the sets that are
//! active there, and not those of a later sample, since a decoder keeps its sets over a flush. Sending them is left to
//! `decode`.

use std::collections::{BTreeMap, HashMap};

use super::nal::Framing;
use super::{Codec, h264, hevc};

/// Type and identifier of the parameter set in a NAL unit (with its header). `None` for other units, and for AV1 and
/// VP9, which have no NAL units.
pub fn identify(codec: Codec, unit: &[u8]) -> Option<(u8, u32)> {
    match codec {
        Codec::Hevc if hevc::kind(unit) == hevc::NalKind::ParameterSet => hevc::parameter_set_id(unit),
        Codec::H264 => h264::parameter_set_id(unit),
        _ => None,
    }
}

/// The parameter sets of a stream, each with the sample that contains it; repetitions are not stored.
#[derive(Debug, Default)]
pub struct ParameterSetHistory {
    /// In the order of samples.
    changes: Vec<(u32, (u8, u32), Vec<u8>)>,
    latest: HashMap<(u8, u32), usize>,
    bytes: usize,
}

/// Bytes of different parameter sets that one stream may contain. The sets of real streams take a few kilobytes.
pub const LIMIT: usize = 16 << 20;

impl ParameterSetHistory {
    /// Records the sets in a sample; the caller passes samples in decode order. False if all sets together exceed
    /// [`LIMIT`] bytes: the history is then incomplete.
    pub fn note(&mut self, sample_index: u32, codec: Codec, framing: Framing, sample: &[u8]) -> bool {
        if !matches!(codec, Codec::Hevc | Codec::H264) {
            return true;
        }
        for unit in framing.units(sample) {
            if !self.note_unit(sample_index, codec, unit) {
                return false;
            }
        }
        true
    }

    /// As [`ParameterSetHistory::note`], for a single NAL unit; other units than parameter sets are ignored.
    pub fn note_unit(&mut self, sample_index: u32, codec: Codec, unit: &[u8]) -> bool {
        let Some(id) = identify(codec, unit) else { return true };
        let known = self.latest.get(&id).is_some_and(|&at| self.changes[at].2 == unit);
        if !known {
            self.bytes += unit.len() + size_of::<(u32, (u8, u32), Vec<u8>)>();
            if self.bytes > LIMIT {
                return false;
            }
            self.latest.insert(id, self.changes.len());
            self.changes.push((sample_index, id, unit.to_vec()));
        }
        true
    }

    /// Bytes of the recorded sets; at most [`LIMIT`].
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Every set that differs from the one it replaces, with the sample that contains it, in the order of samples.
    pub fn changes(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.changes.iter().map(|(sample, _, unit)| (*sample, &unit[..]))
    }

    /// The active sets when `sample_index` begins: of all sets from earlier samples, the latest of each identifier.
    pub fn before(&self, sample_index: u32) -> BTreeMap<(u8, u32), &[u8]> {
        let earlier = self.changes.iter().take_while(|(at, _, _)| *at < sample_index);
        earlier.map(|(_, id, unit)| (*id, &unit[..])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Codec, Framing, ParameterSetHistory};

    #[test]
    fn what_holds_at_a_sample_is_what_came_before_it() {
        let (sps_a, sps_b, pps) = ([0x67, 1, 0, 1, 0b1010_0000], [0x67, 1, 0, 2, 0b1010_0000], [0x68, 0b1110_0000]);
        let frame = |units: &[&[u8]]| units.iter().flat_map(|unit| Framing::AnnexB.frame(unit)).collect::<Vec<_>>();
        let mut history = ParameterSetHistory::default();
        assert!(history.note(0, Codec::H264, Framing::AnnexB, &frame(&[&sps_a, &pps, &[0x65, 9]])));
        assert!(history.note(5, Codec::H264, Framing::AnnexB, &frame(&[&sps_a, &pps, &[0x65, 9]])));
        assert!(history.note(9, Codec::H264, Framing::AnnexB, &frame(&[&sps_b, &pps, &[0x65, 9]])));
        let before = |sample| history.before(sample).into_values().collect::<Vec<_>>();
        assert_eq!(before(0), Vec::<&[u8]>::new());
        assert_eq!(before(9), [&sps_a[..], &pps]);
        assert_eq!(before(10), [&sps_b[..], &pps]);
    }
}
