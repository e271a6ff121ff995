//! MP4 and MOV: the index from the tables alone (`moov`, and the `moof` of fragments), without reading samples.
//!
//! libavformat parses the boxes and applies edit lists, so that frames are numbered as its sequential decode outputs
//! them. A shim reads its finished index (`ffi/shim/mov.c`).

use std::sync::Arc;

use ffi::{Demuxer, MovSample};

use super::pictures::{OutputPosition, PictureReader};
use super::{
    Container, IndexBudget, NoncontiguousSamples, SAMPLE_BYTES, Sample, Track, choose, order, sample_limit,
    sane_time_base, summaries, unreadable,
};
use crate::bitstream::Framing;
use crate::error::{ErrorKind, Result};
use crate::source::Source;

pub(super) fn index(demuxer: &mut Demuxer, source: &Arc<dyn Source>, track: usize) -> Result<Track> {
    let no_memory = |error| ErrorKind::NotAVideo(format!("{error}"));
    let mut streams = demuxer.streams().map_err(no_memory)?;
    let (chosen, codec) = choose(&streams, track)?;
    if demuxer.mov_is_encrypted(chosen) {
        return Err(ErrorKind::Encrypted.into());
    }
    demuxer.mov_read_fragments().map_err(unreadable)?;
    let (samples, limit) = (demuxer.mov_sample_count(chosen), sample_limit(source.len()));
    if samples > limit {
        return Err(ErrorKind::TooManySamples { samples, limit }.into());
    }
    demuxer.mov_drop_others(chosen);
    IndexBudget::charge(samples * SAMPLE_BYTES)?;
    let mut samples: Vec<Sample> = Vec::with_capacity(samples);
    samples.extend(demuxer.mov_samples(chosen).filter_map(sample));
    let streams_summary = summaries(&streams);
    let stream = streams.swap_remove(chosen);
    let descriptions = demuxer.mov_descriptions(chosen);
    let frames = order::by_pts(&samples);
    if frames.is_empty() {
        return Err(ErrorKind::NoFrames.into());
    }
    let is_ordered_by_pts = order::has_distinct_pts(&samples, &frames);
    let mut track = Track {
        container: Container::Mp4,
        streams: streams_summary,
        track,
        codec,
        framing: Framing::of(codec, stream.parameters.extradata()),
        parameters: stream.parameters,
        descriptions: if descriptions.len() > 1 { descriptions } else { Vec::new() },
        time_base: sane_time_base(stream.time_base),
        sample_aspect_ratio: stream.sample_aspect_ratio,
        samples,
        frames,
        history: None,
        noncontiguous: NoncontiguousSamples::default(),
        references: None,
    };
    if !is_ordered_by_pts {
        order_by_pictures(&mut track, &**source);
    }
    Ok(track)
}

/// Orders samples with equal times by their slice headers. Only this case reads samples.
fn order_by_pictures(track: &mut Track, source: &dyn Source) {
    let mut pictures = PictureReader::new(track.codec, track.framing, &track.parameters);
    if !pictures.reorders() || overlap_much(&track.samples, source.len()) {
        return;
    }
    let mut last = OutputPosition { sequence: 0, picture_order_count: 0 };
    let mut positions = Vec::with_capacity(track.samples.len());
    for sample in 0..track.samples.len() as u32 {
        if let Ok(data) = track.read(source, sample, false) {
            last = pictures.read(&data).0;
        }
        positions.push(last);
    }
    track.frames = order::by_picture_order(&track.samples, &positions);
}

/// True if the samples within the file have far more bytes together than the file, more than the repeats of an edit
/// list reach. Reading all of them would take too long, so their times decide.
fn overlap_much(samples: &[Sample], file_length: u64) -> bool {
    let in_file = samples.iter().map(Sample::range).filter(|range| range.end() <= file_length);
    in_file.fold(0_u64, |sum, range| sum.saturating_add(range.len)) > file_length.saturating_mul(16)
}

/// `None` for an entry without bytes, which libavformat skips too.
fn sample(raw: MovSample) -> Option<Sample> {
    Some(Sample {
        offset: u64::try_from(raw.offset).ok()?,
        size: Some(raw.size).filter(|&size| size > 0)?,
        description: u16::try_from(raw.description).unwrap_or(0),
        key: raw.key,
        discard: raw.discard,
        silent: false,
        pts: raw.pts,
        dts: Some(raw.dts),
        duration: raw.duration,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::overlap_much;
    use crate::container::Track;
    use crate::container::order::tests::sample;
    use crate::error::ErrorKind;
    use crate::source::{MemorySource, Source};

    /// Writes `values` into the first box named `kind`, `at` bytes after its name.
    fn patch(file: &mut [u8], kind: &[u8; 4], at: usize, values: &[u32]) {
        let start = file.windows(4).position(|bytes| bytes == kind).unwrap() + at;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
        file[start..start + bytes.len()].copy_from_slice(&bytes);
    }

    fn open(file: Vec<u8>) -> crate::Result<Track> {
        let source: Arc<dyn Source> = Arc::new(MemorySource::new("memory", file));
        Track::open(&source, 0)
    }

    #[test]
    fn tables_cannot_speak_of_more_samples_than_a_file_has() {
        let mut file = include_bytes!("../../../fixtures/hevc_10bit.mp4").to_vec();
        // One size for all samples, their number, and as many in the first chunk.
        patch(&mut file, b"stsz", 8, &[1, 3_000_000]);
        patch(&mut file, b"stsc", 16, &[3_000_000]);
        let error = open(file).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TooManySamples { samples: 3_000_000, .. }), "{error}");
    }

    #[test]
    fn samples_that_overlap_again_and_again_are_not_read_for_their_order() {
        let mut samples = vec![sample(0, 0, true); 1000];
        for (index, sample) in (0..).zip(&mut samples) {
            (sample.offset, sample.size) = (index * 100, 100);
        }
        assert!(!overlap_much(&samples, 100_000));
        assert!(!overlap_much(&samples, 1000), "cut off, not overlapping");
        samples.iter_mut().for_each(|sample| (sample.offset, sample.size) = (0, 99_000));
        assert!(overlap_much(&samples, 100_000));
    }
}
