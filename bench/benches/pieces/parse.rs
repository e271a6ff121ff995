//! Parsing each picture before decoding. Throughput counts pictures; a round covers a whole clip.
//!
//! - `headers`: this project's own parsers for the first slice or frame header of each sample, with the samples in
//!   memory. H.265: the slice header up to its reference picture set, with the parameter sets known. VP9 and AV1: frame
//!   headers, and the slots that they read and write. H.264: kinds of NAL units and recovery points; nothing more of it
//!   is parsed.
//! - `structure`: the samples that each sample needs, learned from the first to the last sample as at the first
//!   request. In addition to the headers this includes views of the mapped file, picture order counts, and the tables
//!   of the result; the file itself is in memory.
//! - `parser`: the same samples through libavcodec's parser, which orders the pictures of streams without times (H.265
//!   and H.264), to compare with our own.

use std::hint::black_box;

use bucket_streamer::Video;
use bucket_streamer::bitstream::hevc_sets::ParameterSets;
use bucket_streamer::bitstream::hevc_slice::SliceHeader;
use bucket_streamer::bitstream::{Codec, SyncSampleFacts, av1_refs, hevc, vp9_refs};
use bucket_streamer::container::Track;
use bucket_streamer::plan::{Planner, References, Structure};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use ffi::{PaddedBytes, Parser};

use super::clips::clips;

/// All of `parse`.
pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    let fixtures = ["hevc_demo.mp4", "h264_bframes.mp4", "vp9.webm", "av1.mp4"];
    let corpus = [
        "hevc_bbb_1080p_fmp4_30s.mp4",
        "h264_croatia_1080p25_framecode.mp4",
        "vp9_800x640.mp4",
        "av1_720p_fmp4.mp4",
        "hevc_4k60_10bit_dv81_hdr10.mp4",
    ];
    for clip in clips(&fixtures, &corpus) {
        let video = clip.open();
        let samples = read(&video);
        group.throughput(Throughput::Elements(samples.len() as u64));
        headers(&mut group, &clip.name, video.track(), &samples);
        structure(&mut group, &clip.name, &video);
        parser(&mut group, &clip.name, video.track(), &samples);
    }
    group.finish();
}

fn read(video: &Video) -> Vec<PaddedBytes> {
    let samples = 0..video.track().samples.len() as u32;
    samples.map(|sample| video.sample_bytes(sample).expect("a sample that can be read")).collect()
}

fn headers(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, track: &Track, samples: &[PaddedBytes]) {
    let mut sets = ParameterSets::from_configuration(track.parameters.extradata());
    let units = || samples.iter().flat_map(|sample| track.framing.units(sample.data()));
    if track.codec == Codec::Hevc {
        units().for_each(|unit| _ = sets.absorb(unit));
    }
    // All samples must parse: otherwise this would measure parsers that stop early.
    let understood = || match track.codec {
        Codec::Hevc => {
            let first_slice = |sample: &PaddedBytes| {
                let unit = track.framing.units(sample.data()).find(|unit| hevc::kind(unit).is_slice())?;
                black_box(SliceHeader::parse(unit, &sets))
            };
            samples.iter().filter_map(first_slice).count()
        }
        // A sample without any claims and a sample that is no picture parse alike, so the result is not counted.
        Codec::H264 => {
            let facts = |sample: &PaddedBytes| SyncSampleFacts::of(track.codec, track.framing, sample.data(), false);
            samples.iter().for_each(|sample| _ = black_box(facts(sample)));
            samples.len()
        }
        Codec::Vp9 => {
            let mut tracker = vp9_refs::Vp9Tracker::new();
            let take = |(number, sample): (u32, &PaddedBytes)| black_box(tracker.take(number, sample.data()));
            (0..).zip(samples).filter_map(take).count()
        }
        Codec::Av1 => {
            let mut tracker = av1_refs::Av1Tracker::new(track.parameters.extradata());
            let take = |(number, sample): (u32, &PaddedBytes)| black_box(tracker.take(number, sample.data()));
            (0..).zip(samples).filter_map(take).count()
        }
    };
    assert_eq!(understood(), samples.len(), "{name}: every sample is understood");
    group.bench_function(BenchmarkId::new("headers", name), |bencher| bencher.iter(understood));
}

fn structure(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, video: &Video) {
    let (track, source) = (video.track(), video.source());
    let last = track.samples.len() as u32 - 1;
    let learned = || References::new().structure(&Planner::new(track), track, source, 0, last);
    assert!(!matches!(learned(), Structure::Unknown), "{name}: its structure is understood");
    group.bench_function(BenchmarkId::new("structure", name), |bencher| bencher.iter_with_large_drop(learned));
}

fn parser(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, track: &Track, samples: &[PaddedBytes]) {
    if !matches!(track.codec, Codec::Hevc | Codec::H264) {
        return;
    }
    let parsed = || {
        let mut parser = Parser::new(&track.parameters, true).expect("libavcodec has a parser");
        let read = |sample: &PaddedBytes| black_box(parser.parse(sample, 0)).ok()?.1;
        samples.iter().filter_map(read).count()
    };
    assert_eq!(parsed(), samples.len(), "{name}: every sample is understood");
    group.bench_function(BenchmarkId::new("parser", name), |bencher| bencher.iter(parsed));
}
