//! Fuzzes the parsers of bitstreams with arbitrary bytes.
#![no_main]

use bucket_streamer::bitstream::bits::{BitReader, unescape};
use bucket_streamer::bitstream::hevc_sets::{ParameterSets, Pps, ShortTerm, Sps};
use bucket_streamer::bitstream::hevc_slice::{PocState, SliceHeader};
use bucket_streamer::bitstream::parameter_sets::{ParameterSetHistory, identify};
use bucket_streamer::bitstream::random_access::is_decodable_leading;
use bucket_streamer::bitstream::{Codec, Framing, RandomAccessPoint, SyncSampleFacts, av1, h264, hevc, vp9};
use libfuzzer_sys::fuzz_target;

const CODECS: [Codec; 4] = [Codec::Hevc, Codec::H264, Codec::Vp9, Codec::Av1];
const FRAMINGS: [Framing; 5] =
    [Framing::AnnexB, Framing::Length(1), Framing::Length(2), Framing::Length(3), Framing::Length(4)];

/// The symbol for C compiled to count its edges (see `container`): this target runs none.
#[unsafe(no_mangle)]
extern "C" fn bucket_streamer_fuzz_edge() {}

fuzz_target!(|data: &[u8]| {
    for codec in CODECS {
        let framing = Framing::of(codec, data);
        assert!(matches!(framing, Framing::AnnexB | Framing::Length(1..=4)));
        for framing in FRAMINGS {
            sample(codec, framing, data);
        }
    }
    for framing in FRAMINGS {
        units(framing, data);
    }
    assert_eq!(Framing::AnnexB.units(data).collect::<Vec<_>>(), annex_b_the_simple_way(data));
    unit(data);
    escapes(data);
    bits(data);
    history(data);
    headers(data);
});

/// Parses sets and slice headers, one after another: values must be those that the specification allows.
fn headers(data: &[u8]) {
    let mut sets = ParameterSets::from_configuration(data);
    let mut state = PocState::default();
    for framing in [Framing::AnnexB, Framing::Length(1)] {
        for unit in framing.units(data) {
            if sets.absorb(unit) {
                set(unit);
            }
            let Some(header) = SliceHeader::parse(unit, &sets) else { continue };
            short_term(&header.short_term);
            assert!(header.poc_lsb < 1 << header.log2_max_poc_lsb && header.long_term.len() <= 64);
            let low = (1_i32 << header.log2_max_poc_lsb) - 1;
            if let Some(poc) = state.next(&header, false) {
                assert_eq!((poc & low) as u32, header.poc_lsb);
            }
        }
    }
}

fn set(unit: &[u8]) {
    if let Some(sps) = Sps::parse(unit).filter(|_| hevc::header(unit) == Some((33, 0))) {
        assert_eq!(hevc::parameter_set_id(unit), Some((33, sps.id)));
        assert!((4..=16).contains(&sps.log2_max_poc_lsb) && sps.short_term_sets.len() <= 64);
        sps.short_term_sets.iter().for_each(|set| short_term(set));
    }
    if let Some(pps) = Pps::parse(unit).filter(|_| hevc::header(unit) == Some((34, 0))) {
        assert_eq!(hevc::parameter_set_id(unit), Some((34, pps.id)));
    }
}

/// First the pictures before, then those after the current one, nearest first, without repetition.
fn short_term(set: &[ShortTerm]) {
    let order = |entry: &ShortTerm| (entry.delta_poc > 0, entry.delta_poc.abs());
    assert!(set.len() <= 16 && set.windows(2).all(|pair| order(&pair[0]) < order(&pair[1])));
    assert!(set.iter().all(|entry| entry.delta_poc != 0));
}

/// Units lie inside the sample, in order, without overlap; framed again they parse as before.
fn units(framing: Framing, data: &[u8]) {
    let all = data.as_ptr_range();
    let mut end = all.start;
    let mut framed = Vec::new();
    let mut expected = Vec::new();
    for unit in framing.units(data) {
        let range = unit.as_ptr_range();
        assert!(range.start >= end && range.end <= all.end, "{framing:?}: a unit outside of its sample");
        end = range.end;
        let alone = framing.frame(unit);
        match framing {
            Framing::AnnexB if unit.is_empty() => assert_eq!(framing.units(&alone).count(), 0),
            _ => {
                assert_eq!(framing.units(&alone).collect::<Vec<_>>(), [unit], "{framing:?}");
                framed.extend(alone);
                expected.push(unit);
            }
        }
    }
    assert_eq!(framing.units(&framed).collect::<Vec<_>>(), expected, "{framing:?}");
}

/// A reference parser of Annex B, byte by byte (B.1.1), for the fast search.
fn annex_b_the_simple_way(data: &[u8]) -> Vec<&[u8]> {
    let is_start = |at: &usize| data[*at..].starts_with(&[0, 0, 1]);
    let starts: Vec<usize> = (0..data.len()).filter(is_start).collect();
    let ends = starts.iter().skip(1).copied().chain([data.len()]);
    let without_zeros = |unit: &'_ [u8]| unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let unit = |(&start, end): (&usize, usize)| &data[start + 3..start + 3 + without_zeros(&data[start + 3..end])];
    let mut units: Vec<&[u8]> = starts.iter().zip(ends).map(unit).collect();
    // No unit follows the last start code.
    if starts.last().is_some_and(|&last| last + 3 == data.len()) {
        units.pop();
    }
    units
}

/// The facts of a sample that planning uses.
fn sample(codec: Codec, framing: Framing, data: &[u8]) {
    let facts = SyncSampleFacts::of(codec, framing, data, false);
    let after_end = SyncSampleFacts::of(codec, framing, data, true);
    assert_eq!((facts.kind, facts.has_all_parameter_sets), (after_end.kind, after_end.has_all_parameter_sets));
    assert!(!facts.drops_earlier || (after_end.drops_earlier && facts.kind != RandomAccessPoint::Unsafe));
    if matches!(codec, Codec::Vp9 | Codec::Av1) {
        assert_ne!(facts.kind, RandomAccessPoint::Open, "{codec:?} has no open random access points");
    }
    if is_decodable_leading(codec, framing, data) {
        assert_eq!(
            (codec, facts.kind),
            (Codec::Hevc, RandomAccessPoint::Unsafe),
            "a leading picture is no random access point"
        );
    }
}

/// The facts of a single unit.
fn unit(data: &[u8]) {
    if let Some((kind, id)) = hevc::parameter_set_id(data) {
        assert!(matches!(kind, 32..=34));
        assert!(kind != 32 || id < 16);
    }
    if let Some((kind, _)) = h264::parameter_set_id(data) {
        assert!(matches!(kind, 7 | 8));
    }
    for codec in CODECS {
        let id = identify(codec, data);
        assert!(id.is_none() || matches!(codec, Codec::Hevc | Codec::H264));
    }
    let _ = (hevc::kind(data).is_slice(), hevc::drops_earlier(data, false));
    let _ = FRAMINGS.map(|framing| hevc::ends_sequence(framing, data));
    if let Some(hashes) = hevc::picture_hash_md5(data) {
        assert!(hashes.len() * 16 <= data.len());
    }
    assert!(h264::kind(data).is_none_or(|kind| kind < 32));
    if let Some(point) = h264::recovery_point(data) {
        assert!(!point.is_exact() || (point.exact_match && point.frame_count == 0));
    }
    let _ = (vp9::facts(data), av1::is_key(data));
}

/// Escaping as in an encoder, and unescaping, give the original bytes.
fn escapes(data: &[u8]) {
    let mut escaped = Vec::with_capacity(data.len() * 3 / 2);
    let mut zeros = 0;
    for &byte in data {
        if zeros == 2 && byte <= 3 {
            escaped.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        escaped.push(byte);
    }
    assert_eq!(unescape(&escaped), data);
    assert!(unescape(data).len() <= data.len());
}

/// The first bytes are a list of reads of the rest, none past the end.
fn bits(data: &[u8]) {
    let (reads, data) = data.split_at(data.len().min(16));
    let mut reader = BitReader::new(data);
    let mut read = 0_usize;
    for &wanted in reads {
        let count = usize::from(wanted >> 2);
        let got = match wanted & 3 {
            0 => reader.bits(count as u32).map(|_| count.min(32)),
            1 => reader.skip(count).map(|()| count),
            2 => reader.ue().map(|code| 2 * (code + 1).ilog2() as usize + 1),
            _ => reader.flag().map(|_| 1),
        };
        let Some(got) = got else { break };
        read += got;
        assert!(read <= data.len() * 8);
    }
    let _ = (reader.skip(usize::MAX), reader.flag(), reader.ue());
}

/// Annex B samples one after another: the sets before each are the last ones, one per identifier.
fn history(data: &[u8]) {
    for codec in [Codec::Hevc, Codec::H264] {
        for framing in [Framing::AnnexB, Framing::Length(1)] {
            let mut history = ParameterSetHistory::default();
            let samples = data.chunks(64.max(data.len() / 8));
            for (index, sample) in (0..).zip(samples.clone()) {
                history.note(index, codec, framing, sample);
            }
            assert!(history.before(0).is_empty());
            for index in 0..=samples.len() as u32 {
                let before = history.before(index);
                assert!(
                    before.iter().all(|(id, unit)| identify(codec, unit) == Some(*id)),
                    "each under its identifier"
                );
            }
            let last = history.before(u32::MAX);
            for sample in samples.rev().take(1) {
                let mut seen = std::collections::HashSet::new();
                let units: Vec<_> = framing.units(sample).collect();
                for unit in units.into_iter().rev() {
                    let Some(id) = identify(codec, unit) else { continue };
                    if seen.insert(id) {
                        assert_eq!(last.get(&id), Some(&unit), "the latest of its identifier holds");
                    }
                }
            }
        }
    }
}
