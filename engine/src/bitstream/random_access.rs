//! Random access points and their kinds.
//!
//! A container's sync flag is a claim. The kind of picture decides which pictures are exact: after an IDR all; after a
//! CRA those presented from it on; after an H.264 I picture without a recovery point perhaps none. The choice of a
//! random access point is left to [`plan`](crate::plan).

use super::nal::{Framing, NalUnits};
use super::{Codec, av1, h264, hevc, vp9};

/// The kind of a sample as the first of a decode run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RandomAccessPoint {
    /// Clean: no later picture refers to an earlier one (H.265 and H.264: IDR, AV1 and VP9: key frame).
    Clean,
    /// Open: pictures presented before it may refer to earlier pictures; the others do not (H.265: CRA and BLA, H.264:
    /// an exact recovery point).
    Open,
    /// Unsafe: later pictures may refer to earlier ones.
    Unsafe,
}

/// The first bytes of a slice that suffice for its facts.
const SLICE: usize = 16;

/// The facts about a sync sample that its first bytes show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncSampleFacts {
    /// The kind of random access point.
    pub kind: RandomAccessPoint,
    /// It contains sequence and picture parameter sets, in H.265 also a video parameter set.
    pub has_all_parameter_sets: bool,
    /// It contains at least one parameter set, of any kind.
    pub has_some_parameter_sets: bool,
    /// It begins a coded video sequence and drops pictures that still wait for output (H.265
    /// `no_output_of_prior_pics_flag`).
    pub drops_earlier: bool,
}

impl SyncSampleFacts {
    /// The facts of a sample that cannot be read: it counts as no random access point.
    pub const UNKNOWN: SyncSampleFacts = SyncSampleFacts {
        kind: RandomAccessPoint::Unsafe,
        has_all_parameter_sets: false,
        has_some_parameter_sets: false,
        drops_earlier: false,
    };

    /// Reads a sample up to its first slice. `after_end_of_sequence`: an H.265 end of sequence NAL unit precedes it.
    pub fn of(codec: Codec, framing: Framing, sample: &[u8], after_end_of_sequence: bool) -> SyncSampleFacts {
        SyncSampleFacts::of_units(codec, framing.units(sample), sample, after_end_of_sequence)
    }

    /// As [`SyncSampleFacts::of`], for the first bytes of an H.265 or H.264 sample; `None` if the first slice is not in
    /// them.
    pub fn of_head(
        codec: Codec,
        framing: Framing,
        head: &[u8],
        after_end_of_sequence: bool,
    ) -> Option<SyncSampleFacts> {
        let is_slice = |unit: &[u8]| match codec {
            Codec::Hevc => hevc::kind(unit).is_slice(),
            Codec::H264 => h264::kind(unit).is_some_and(h264::is_slice),
            Codec::Av1 | Codec::Vp9 => false,
        };
        let units = framing.units_of_head(head);
        units.clone().find(|unit| is_slice(unit)).filter(|slice| slice.len() >= SLICE)?;
        Some(SyncSampleFacts::of_units(codec, units, head, after_end_of_sequence))
    }

    fn of_units(codec: Codec, units: NalUnits<'_>, sample: &[u8], after_end_of_sequence: bool) -> SyncSampleFacts {
        let plain = |clean: bool| SyncSampleFacts {
            kind: if clean { RandomAccessPoint::Clean } else { RandomAccessPoint::Unsafe },
            has_all_parameter_sets: true,
            has_some_parameter_sets: true,
            drops_earlier: false,
        };
        match codec {
            Codec::Hevc => of_hevc(units, after_end_of_sequence),
            Codec::H264 => of_h264(units),
            Codec::Vp9 => plain(vp9::facts(sample).is_some_and(|facts| facts.key)),
            Codec::Av1 => plain(av1::is_key(sample) == Some(true)),
        }
    }
}

fn of_hevc(units: NalUnits<'_>, mut after_end_of_sequence: bool) -> SyncSampleFacts {
    let mut sets = [false; 3];
    for unit in units {
        let point = match hevc::kind(unit) {
            hevc::NalKind::Idr => RandomAccessPoint::Clean,
            hevc::NalKind::Open => RandomAccessPoint::Open,
            hevc::NalKind::Slice | hevc::NalKind::Radl => RandomAccessPoint::Unsafe,
            hevc::NalKind::EndOfSequence => {
                after_end_of_sequence = true;
                continue;
            }
            hevc::NalKind::ParameterSet => {
                if let Some((kind @ 32..=34, _)) = hevc::header(unit) {
                    sets[usize::from(kind - 32)] = true;
                }
                continue;
            }
            hevc::NalKind::Other => continue,
        };
        let drops_earlier = point != RandomAccessPoint::Unsafe && hevc::drops_earlier(unit, after_end_of_sequence);
        return SyncSampleFacts {
            kind: point,
            has_all_parameter_sets: sets == [true; 3],
            has_some_parameter_sets: sets.contains(&true),
            drops_earlier,
        };
    }
    SyncSampleFacts::UNKNOWN
}

fn of_h264(units: NalUnits<'_>) -> SyncSampleFacts {
    let (mut sets, mut claims_recovery) = ([false; 2], false);
    for unit in units {
        match h264::kind(unit) {
            Some(kind @ (7 | 8)) => sets[usize::from(kind - 7)] = true,
            Some(6) => claims_recovery |= h264::recovery_point(unit).is_some_and(|point| point.is_exact()),
            Some(kind) if h264::is_slice(kind) => {
                let point = match (kind, claims_recovery) {
                    (5, _) => RandomAccessPoint::Clean,
                    (_, true) => RandomAccessPoint::Open,
                    _ => RandomAccessPoint::Unsafe,
                };
                return SyncSampleFacts {
                    kind: point,
                    has_all_parameter_sets: sets == [true; 2],
                    has_some_parameter_sets: sets.contains(&true),
                    drops_earlier: false,
                };
            }
            _ => {}
        }
    }
    SyncSampleFacts::UNKNOWN
}

/// True if the sample is a leading picture that only needs its own IRAP (H.265 RADL).
pub fn is_decodable_leading(codec: Codec, framing: Framing, sample: &[u8]) -> bool {
    let slice = |unit: &&[u8]| hevc::kind(unit).is_slice();
    codec == Codec::Hevc
        && framing.units(sample).find(slice).is_some_and(|unit| hevc::kind(unit) == hevc::NalKind::Radl)
}

#[cfg(test)]
mod tests {
    use super::{Codec, Framing, RandomAccessPoint, SyncSampleFacts};

    fn annex_b(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| Framing::AnnexB.frame(unit)).collect()
    }

    #[test]
    fn h264_sync_samples_are_only_as_good_as_their_recovery_point() {
        let of = |units: &[&[u8]]| SyncSampleFacts::of(Codec::H264, Framing::AnnexB, &annex_b(units), false);
        let (exact, vague) = ([6, 6, 1, 0b1100_0100, 0x80], [6, 6, 1, 0b1000_0100, 0x80]);
        assert_eq!(
            of(&[&[0x67, 1], &[0x68, 1], &[0x65, 1]]),
            SyncSampleFacts {
                kind: RandomAccessPoint::Clean,
                has_all_parameter_sets: true,
                has_some_parameter_sets: true,
                drops_earlier: false,
            }
        );
        assert_eq!(of(&[&exact, &[0x61, 1]]).kind, RandomAccessPoint::Open);
        assert_eq!(of(&[&vague, &[0x61, 1]]).kind, RandomAccessPoint::Unsafe);
        assert_eq!(
            of(&[&[0x61, 1], &exact]).kind,
            RandomAccessPoint::Unsafe,
            "a recovery point after the slice has no effect"
        );
    }

    #[test]
    fn hevc_random_access_points_by_picture_type() {
        let of = |units: &[&[u8]]| SyncSampleFacts::of(Codec::Hevc, Framing::AnnexB, &annex_b(units), false);
        assert_eq!(of(&[&[0x40, 1], &[0x42, 1], &[0x44, 1], &[19 << 1, 1]]).kind, RandomAccessPoint::Clean);
        assert!(of(&[&[0x40, 1], &[0x42, 1], &[0x44, 1], &[21 << 1, 1]]).has_all_parameter_sets);
        assert_eq!(
            of(&[&[21 << 1, 1]]),
            SyncSampleFacts {
                kind: RandomAccessPoint::Open,
                has_all_parameter_sets: false,
                has_some_parameter_sets: false,
                drops_earlier: false
            }
        );
        assert!(of(&[&[19 << 1, 1, 0b1100_0000]]).drops_earlier, "no_output_of_prior_pics_flag");
        assert!(!of(&[&[19 << 1, 1, 0b1000_0000]]).drops_earlier);
        assert!(of(&[&[36 << 1, 1], &[21 << 1, 1, 0b1000_0000]]).drops_earlier, "a CRA after an end of sequence");
        assert!(!of(&[&[21 << 1, 1, 0b1100_0000]]).drops_earlier, "a CRA within its sequence");
        assert_eq!(of(&[&[2, 1]]).kind, RandomAccessPoint::Unsafe);
        assert_eq!(of(&[]).kind, RandomAccessPoint::Unsafe);
    }
}
