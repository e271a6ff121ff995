//! Fuzzes the references of AV1 and VP9 with arbitrary bytes as samples, one after another.
#![no_main]

use bucket_streamer::bitstream::references::{SampleReferences, needed};
use bucket_streamer::bitstream::{av1_refs, vp9_refs};
use libfuzzer_sys::fuzz_target;

/// The symbol for C compiled to count its edges (see `container`): this target runs none.
#[unsafe(no_mangle)]
extern "C" fn bucket_streamer_fuzz_edge() {}

fuzz_target!(|data: &[u8]| {
    // The first byte: the length of the configuration, and whether the samples repeat it.
    let Some((&first, data)) = data.split_first() else { return };
    let (extradata, samples) = data.split_at(data.len().min(usize::from(first & 0x3f)));
    let samples = samples_of(samples);
    let base = u32::from(first >> 6) * 1000;

    let mut tracker = av1_refs::Av1Tracker::new(extradata);
    let units: Vec<_> = (base..).zip(&samples).map(|(number, sample)| tracker.take(number, sample)).collect();
    check(base, &units);

    let mut tracker = vp9_refs::Vp9Tracker::new();
    let units: Vec<_> = (base..).zip(&samples).map(|(number, sample)| tracker.take(number, sample)).collect();
    check(base, &units);

    for sample in samples {
        if let Some(frames) = vp9_refs::frames(sample) {
            assert!(frames.iter().map(|frame| frame.len()).sum::<usize>() <= sample.len());
        }
    }
});

/// A length of one byte before each; the rest is the last.
fn samples_of(mut data: &[u8]) -> Vec<&[u8]> {
    let mut samples = Vec::new();
    while let Some((&length, rest)) = data.split_first() {
        let (sample, rest) = rest.split_at(rest.len().min(usize::from(length)));
        samples.push(sample);
        data = rest;
    }
    samples
}

/// References go backwards, at most to the random access point, and not across an unparsed unit; closures are closed.
fn check(base: u32, units: &[Option<SampleReferences>]) {
    let mut known = None;
    for (number, unit) in (base..).zip(units) {
        let Some(unit) = unit else {
            known = None;
            continue;
        };
        if unit.is_key {
            known = Some(number);
            assert!(unit.refs.is_empty(), "a random access point needs nothing");
        }
        assert!(unit.refs.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(unit.refs.iter().all(|&sample| sample >= base && sample < number));
        let start = known.expect("nothing is known before a random access point");
        assert!(unit.refs.iter().all(|&sample| sample >= start), "nothing before the random access point");
    }
    for target in base..base + units.len() as u32 {
        let Some(closure) = needed(base, units, target) else { continue };
        assert_eq!(closure.last(), Some(&target));
        let start = closure[0];
        assert!(units[(start - base) as usize].as_ref().is_some_and(|unit| unit.is_key));
        let unit_of = |sample: u32| units[(sample - base) as usize].as_ref();
        for unit in closure.iter().filter(|&&sample| sample > start).filter_map(|&sample| unit_of(sample)) {
            assert!(unit.refs.iter().all(|other| closure.binary_search(other).is_ok()));
        }
        if let Some(at) = closure.iter().rposition(|&sample| unit_of(sample).is_none()) {
            assert!(
                (start..=closure[at]).eq(closure[..=at].iter().copied()),
                "all samples up to the last one that is not parsed"
            );
        }
    }
    assert_eq!(needed(base, units, base + units.len() as u32), None);
}
