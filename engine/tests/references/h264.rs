//! H.264: samples that contain no reference picture.

use bucket_streamer::bitstream::{Codec, h264};
use bucket_streamer::plan::{References, Structure};

use testing::clips::clips;

use crate::trace::TracedUnit;
use crate::{Clip, open};

#[test]
fn h264_samples_without_reference_pictures_are_those_of_the_trace() {
    let (mut samples, mut droppable) = (0, 0);
    for path in clips() {
        // The filter omits packets of a damaged file.
        let Some(clip) = open(&path, Codec::H264).filter(|clip| !clip.name.starts_with("bad_")) else { continue };
        let trace = clip.trace(&path);
        let Structure::Droppable(ours) = clip.structure(&References::new(), 0, clip.count() - 1) else {
            panic!("{}: no structure", clip.name)
        };
        let is_free = |sample: usize| {
            let mut slices = trace.packets[sample].1.iter().filter(|unit| h264_is_slice(unit)).peekable();
            slices.peek().is_some() && slices.all(|unit| unit.get("nal_ref_idc") == Some(0))
        };
        for sample in 0..trace.packets.len() {
            let is_silent = |sample: usize| clip.track.samples.get(sample).is_some_and(|sample| sample.silent);
            let free = is_free(sample)
                && (!is_silent(sample + 1) || is_free(sample + 1))
                && (!is_silent(sample) || is_free(sample - 1));
            let lasts = trace.packets[sample].1.iter().any(|unit| matches!(unit.kind(), 7 | 8));
            let ours = ours.is_droppable(sample as u32);
            assert!(!ours || free, "{}: sample {sample} is referred to", clip.name);
            let has_odd = has_odd_units(&clip, sample as u32);
            assert!(ours || !free || lasts || has_odd, "{}: sample {sample} could be left out", clip.name);
            samples += 1;
            droppable += u32::from(ours);
        }
    }
    eprintln!("{samples} samples, {droppable} droppable");
    assert!(droppable > 100);
}

fn h264_is_slice(unit: &TracedUnit) -> bool {
    matches!(unit.kind(), 1..=5)
}

/// Whether units keep a sample from being droppable, independent of its slices.
fn has_odd_units(clip: &Clip, sample: u32) -> bool {
    let Ok(data) = clip.track.read(&*clip.source, sample, false) else { return true };
    let is_odd = |unit: &[u8]| match h264::kind(unit) {
        Some(1 | 9 | 12) => false,
        Some(6) => h264::has_lasting_message(unit),
        _ => true,
    };
    clip.track.samples[sample as usize].key || clip.track.framing.units(data.data()).any(is_odd)
}
