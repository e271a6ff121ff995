//! Where decoding may begin.
//!
//! A container's sync flag is a claim. What begins there decides what is exact: after an IDR, everything; after a CRA,
//! what is presented from it on; after an H.264 I picture that promises nothing, perhaps nothing.

use super::nal::Framing;
use super::{Codec, av1, h264, hevc, vp9};

/// What a sample is good for as the first of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Nothing after it refers to anything before it.
    Clean,
    /// What is presented before it may refer to what comes before; the rest does not.
    Open,
    /// No promise: pictures after it may refer to pictures before it.
    Unsafe,
}

/// What a sync sample's bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryFacts {
    /// What it is good for.
    pub entry: Entry,
    /// It brings sequence and picture parameter sets of its own.
    pub has_parameter_sets: bool,
}

impl EntryFacts {
    /// Looks at a sample up to its first slice.
    pub fn of(codec: Codec, framing: Framing, sample: &[u8]) -> EntryFacts {
        let plain = |clean: bool| EntryFacts {
            entry: if clean { Entry::Clean } else { Entry::Unsafe },
            has_parameter_sets: true,
        };
        match codec {
            Codec::Hevc => of_hevc(framing, sample),
            Codec::H264 => of_h264(framing, sample),
            Codec::Vp9 => plain(vp9::facts(sample).is_some_and(|facts| facts.key)),
            Codec::Av1 => plain(av1::is_key(sample) == Some(true)),
        }
    }
}

fn of_hevc(framing: Framing, sample: &[u8]) -> EntryFacts {
    let mut sets = [false; 3];
    for unit in framing.units(sample) {
        let entry = match hevc::kind(unit) {
            hevc::NalKind::Idr => Entry::Clean,
            hevc::NalKind::Open => Entry::Open,
            hevc::NalKind::Slice | hevc::NalKind::Radl => Entry::Unsafe,
            hevc::NalKind::ParameterSet => {
                if let Some((kind @ 32..=34, _)) = hevc::header(unit) {
                    sets[usize::from(kind - 32)] = true;
                }
                continue;
            }
            hevc::NalKind::Other => continue,
        };
        return EntryFacts { entry, has_parameter_sets: sets == [true; 3] };
    }
    EntryFacts { entry: Entry::Unsafe, has_parameter_sets: false }
}

fn of_h264(framing: Framing, sample: &[u8]) -> EntryFacts {
    let (mut sets, mut promised) = ([false; 2], false);
    for unit in framing.units(sample) {
        match h264::kind(unit) {
            Some(kind @ (7 | 8)) => sets[usize::from(kind - 7)] = true,
            Some(6) => promised |= h264::recovery_point(unit).is_some_and(|point| point.is_exact_entry()),
            Some(kind) if h264::is_slice(kind) => {
                let entry = match (kind, promised) {
                    (5, _) => Entry::Clean,
                    (_, true) => Entry::Open,
                    _ => Entry::Unsafe,
                };
                return EntryFacts { entry, has_parameter_sets: sets == [true; 2] };
            }
            _ => {}
        }
    }
    EntryFacts { entry: Entry::Unsafe, has_parameter_sets: false }
}

/// Is the sample a leading picture that its own IRAP is enough for (H.265 RADL)?
pub fn is_decodable_leading(codec: Codec, framing: Framing, sample: &[u8]) -> bool {
    let slice = |unit: &&[u8]| !matches!(hevc::kind(unit), hevc::NalKind::ParameterSet | hevc::NalKind::Other);
    codec == Codec::Hevc
        && framing.units(sample).find(slice).is_some_and(|unit| hevc::kind(unit) == hevc::NalKind::Radl)
}

#[cfg(test)]
mod tests {
    use super::{Codec, Entry, EntryFacts, Framing};

    fn annex_b(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| Framing::AnnexB.frame(unit)).collect()
    }

    #[test]
    fn h264_sync_samples_are_only_as_good_as_their_promise() {
        let of = |units: &[&[u8]]| EntryFacts::of(Codec::H264, Framing::AnnexB, &annex_b(units));
        let (exact, vague) = ([6, 6, 1, 0b1100_0100, 0x80], [6, 6, 1, 0b1000_0100, 0x80]);
        assert_eq!(
            of(&[&[0x67, 1], &[0x68, 1], &[0x65, 1]]),
            EntryFacts { entry: Entry::Clean, has_parameter_sets: true }
        );
        assert_eq!(of(&[&exact, &[0x61, 1]]).entry, Entry::Open);
        assert_eq!(of(&[&vague, &[0x61, 1]]).entry, Entry::Unsafe);
        assert_eq!(of(&[&[0x61, 1], &exact]).entry, Entry::Unsafe, "a promise after the slice comes too late");
    }

    #[test]
    fn hevc_entries_by_picture_type() {
        let of = |units: &[&[u8]]| EntryFacts::of(Codec::Hevc, Framing::AnnexB, &annex_b(units));
        assert_eq!(of(&[&[0x40, 1], &[0x42, 1], &[0x44, 1], &[19 << 1, 1]]).entry, Entry::Clean);
        assert!(of(&[&[0x40, 1], &[0x42, 1], &[0x44, 1], &[21 << 1, 1]]).has_parameter_sets);
        assert_eq!(of(&[&[21 << 1, 1]]), EntryFacts { entry: Entry::Open, has_parameter_sets: false });
        assert_eq!(of(&[&[2, 1]]).entry, Entry::Unsafe);
        assert_eq!(of(&[]).entry, Entry::Unsafe);
    }
}
