//! Checkpoints: saving a decoder's state, and restoring it. H.265, H.264 and VP9; AV1 cannot be forked.
//!
//! The state is that of a decoder on one thread, some pictures after its random access point, with as many references
//! as the stream has there.
//!
//! - `save`: a new checkpoint. Dropping it is not timed.
//! - `save_again`: the same into a used checkpoint, which drops its old content: the usual case once the budget of
//!   checkpoints is used up.
//! - `restore`: a checkpoint into a decoder in the same state, which first drops its own pictures.
//! - `restore_and_next`: the same, plus decoding the next sample, to compare a fork with a picture.
//!
//! Not included: the engine's bookkeeping of checkpoints.

use std::cell::{LazyCell, RefCell};
use std::hint::black_box;

use bucket_streamer::Video;
use bucket_streamer::bitstream::Codec;
use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion};
use ffi::{Checkpoint, Decoder, DecoderOutput, Packet, SendStatus, Threads};

use super::clips::clips;

/// The sample after which the state is saved; in a shorter video, the sample in its middle.
const POSITION: u32 = 40;

/// All of `fork`.
pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fork");
    let fixtures = ["hevc_demo.mp4", "h264_bframes.mp4", "vp9.webm"];
    let corpus = [
        "hevc_bbb_1080p_fmp4_30s.mp4",
        "h264_croatia_1080p25_framecode.mp4",
        "vp9_800x640.mp4",
        "hevc_4k60_10bit_dv81_hdr10.mp4",
    ];
    for clip in clips(&fixtures, &corpus) {
        let video = clip.open();
        one(&mut group, &clip.name, &video);
    }
    group.finish();
}

fn one(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, video: &Video) {
    let position = POSITION.min(video.track().samples.len() as u32 / 2);
    let decoder = LazyCell::new(|| RefCell::new(decoded(video, position)));
    let save = |spare| decoder.borrow_mut().save(position, spare).expect("a checkpoint");

    group.bench_function(BenchmarkId::new("save", name), |bencher| {
        LazyCell::force(&decoder);
        bencher.iter_batched(|| (), |()| save(None), BatchSize::SmallInput);
    });
    let mut spare: Option<Checkpoint> = None;
    group.bench_function(BenchmarkId::new("save_again", name), |bencher| {
        LazyCell::force(&decoder);
        bencher.iter(|| spare = Some(save(black_box(spare.take()))));
    });
    // From here on the decoder is in the state of the checkpoint.
    let checkpoint = LazyCell::new(|| save(None));
    let restore = || decoder.borrow_mut().restore(&checkpoint).expect("a state that can be restored");
    group.bench_function(BenchmarkId::new("restore", name), |bencher| {
        LazyCell::force(&checkpoint);
        bencher.iter(restore);
    });
    let next = packet(video, position + 1);
    group.bench_function(BenchmarkId::new("restore_and_next", name), |bencher| {
        LazyCell::force(&checkpoint);
        bencher.iter(|| {
            restore();
            decode(&mut decoder.borrow_mut(), &next)
        });
    });
}

/// A decoder that has decoded the samples up to this one.
fn decoded(video: &Video, last: u32) -> Decoder {
    let track = video.track();
    let mut decoder =
        Decoder::open(&track.parameters, Threads::One, track.codec == Codec::Hevc).expect("a decoder for the clip");
    (0..=last).for_each(|sample| _ = decode(&mut decoder, &packet(video, sample)));
    decoder
}

fn packet(video: &Video, sample: u32) -> Packet {
    let bytes = video.sample_bytes(sample).expect("a sample that can be read");
    let mut packet = Packet::new(&bytes, sample, Some(i64::from(sample))).expect("memory");
    let at = &video.track().samples[sample as usize];
    packet.set_flags(at.key, at.discard);
    packet
}

/// Decodes a sample, and takes the pictures that the decoder then outputs.
fn decode(decoder: &mut Decoder, packet: &Packet) -> usize {
    assert_eq!(decoder.send(packet).expect("a sample without damage"), SendStatus::Accepted);
    let mut pictures = 0;
    while let DecoderOutput::Picture(picture) = decoder.receive().expect("a sample without damage") {
        black_box(picture);
        pictures += 1;
    }
    pictures
}
