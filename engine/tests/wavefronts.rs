//! Wavefronts, the rows of one picture decoded by several threads: the samples that use them, equal results, and the
//! effect of damage.
#![allow(clippy::print_stderr, reason = "tests report their results")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use bucket_streamer::source::{MemorySource, Source};
use bucket_streamer::still::raw;
use bucket_streamer::{Engine, Video};
use ffi::{AvError, Decoder, DecoderOutput, Packet, SendStatus, Threads};

use testing::clips::{clips, fixture, name, open, play};

/// Twelve rows of blocks in parallel: enough for two threads, not for four.
const CLIP: &str = "hevc_wavefronts.mp4";

fn engine(threads: usize, checkpoints: bool) -> Engine {
    let builder = Engine::builder().threads(threads);
    if checkpoints { builder.build() } else { builder.checkpoint_memory(0).build() }
}

fn md5(video: &Video, frame: u32) -> Result<String, bucket_streamer::Error> {
    video.frame(frame).map(|frame| raw::hex(&raw::md5(&frame.picture)))
}

/// The samples that a new engine decodes for a frame.
fn samples_for(video: &Video, frame: u32) -> Vec<u32> {
    video.plan(&[frame]).into_iter().flat_map(|run| run.samples).collect()
}

/// A frame for which many samples are left out.
fn pruned(video: &Video) -> Vec<u32> {
    let all = (0..video.frame_count() as u32).map(|frame| samples_for(video, frame));
    let left_out = |samples: &Vec<u32>| samples[samples.len() - 1] as usize + 1 - samples[0] as usize - samples.len();
    all.max_by_key(left_out).filter(|samples| left_out(samples) > 10).expect("a frame with many omitted samples")
}

fn shuffled(frames: usize, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..frames as u32).collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut order);
    order
}

#[test]
fn chains_are_decoded_in_wavefronts_where_there_are_enough_rows() {
    let video = engine(2, true).open_path(fixture(CLIP)).expect("a clip");
    let pruned_ = pruned(&video);
    let whole: Vec<u32> = (0..=pruned_[pruned_.len() - 1]).collect();
    assert_eq!(video.use_of_threads(2, &pruned_), Threads::Slice(2));
    assert_eq!(video.use_of_threads(2, &whole), Threads::Frame(2), "nothing is left out");
    assert_eq!(video.use_of_threads(2, &whole[..2]), Threads::Slice(2), "too few for frame threads");
    assert_eq!(video.use_of_threads(4, &pruned_), Threads::Frame(4), "too few rows");
    assert_eq!(video.use_of_threads(1, &pruned_), Threads::One);
    let from_entry = Engine::builder().threads(2).from_random_access_point().build();
    let video = from_entry.open_path(fixture(CLIP)).expect("a clip");
    assert_eq!(video.use_of_threads(2, &pruned_), Threads::Frame(2), "as in players");
    // Three rows of blocks, of any width.
    let video = engine(2, true).open_path(fixture("hevc_closed_gop.mp4")).expect("a clip");
    assert_eq!(video.use_of_threads(2, &pruned(&video)), Threads::Frame(2));
    // H.264 has no wavefronts.
    let video = engine(2, true).open_path(fixture("h264_bframes.mp4")).expect("a clip");
    assert_eq!(video.use_of_threads(2, &[0, 4, 5]), Threads::Frame(2));
}

#[test]
fn frames_out_of_wavefronts_are_the_sequential_decodes() {
    let (expected, _) = play(&engine(1, false).open_path(fixture(CLIP)).expect("a clip"));
    assert_eq!(expected.len(), 60);
    for (seed, checkpoints) in [(1, true), (2, false)] {
        let video = engine(2, checkpoints).open_path(fixture(CLIP)).expect("a clip");
        for frame in shuffled(expected.len(), seed) {
            let found = md5(&video, frame).expect("a frame");
            assert_eq!(found, expected[frame as usize].1, "frame {frame}, checkpoints: {checkpoints}");
        }
    }
}

/// The result of a closure, or a failure if it takes too long.
fn in_time<T: Send + 'static>(what: String, act: impl FnOnce() -> T + Send + 'static) -> T {
    let (give, take) = mpsc::channel();
    std::thread::spawn(move || give.send(act()));
    take.recv_timeout(Duration::from_secs(120)).unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// The clip with some changed bytes of a sample.
fn damaged(bytes: &[u8], video: &Video, sample: u32, random: &mut fastrand::Rng) -> Vec<u8> {
    let at = &video.track().samples[sample as usize];
    let mut bytes = bytes.to_vec();
    // After the length and the type of the first unit, so that headers and entry points are affected too.
    for _ in 0..random.u32(1..6) {
        let place = at.offset as usize + random.usize(6..at.size as usize);
        bytes[place] ^= random.u8(1..);
    }
    bytes
}

/// A damaged sample, decoded by several threads: every frame has an answer; frames that do not need the sample are
/// correct, and the others equal the sequential decode. Only undecoded parts may differ: there the picture has the
/// former content of its memory.
#[test]
fn damage_in_one_sample_is_what_it_is_in_a_sequential_decode() {
    let bytes = std::fs::read(fixture(CLIP)).expect("the fixture");
    let whole = engine(1, false).open_path(fixture(CLIP)).expect("a clip");
    let expected = play(&whole).0;
    let mut random = fastrand::Rng::with_seed(11);
    let (mut independent, mut dependent, mut changed, mut errors) = (0, 0, 0, 0);
    let (mut other, mut other_usually) = (0, 0);
    for round in 0..24 {
        let sample = random.u32(5..50);
        let source = Arc::new(MemorySource::new("damaged", damaged(&bytes, &whole, sample, &mut random)));
        let single = engine(1, false).open(Arc::clone(&source) as Arc<dyn Source>, 0).expect("the tables are whole");
        let sequential: HashMap<u32, String> = play(&single).0.into_iter().collect();
        let from_entry = Engine::builder().threads(2).from_random_access_point().build();
        let usual = from_entry.open(Arc::clone(&source) as Arc<dyn Source>, 0).expect("the tables are whole");
        let video = engine(2, round % 2 == 0).open(source, 0).expect("the tables are whole");
        assert_eq!(video.frame_count(), expected.len());
        let order = shuffled(expected.len(), round);
        let asked = order.clone();
        let answers = in_time(format!("round {round}, sample {sample}"), move || {
            asked.into_iter().map(|frame| md5(&video, frame)).collect::<Vec<_>>()
        });
        for (frame, answer) in order.into_iter().zip(answers) {
            let answer = answer.ok();
            let right = Some(&expected[frame as usize].1);
            if samples_for(&whole, frame).contains(&sample) {
                dependent += 1;
                changed += u32::from(answer.as_ref() != right);
                other += u32::from(answer.as_ref() != sequential.get(&frame));
                errors += u32::from(answer.is_none());
                other_usually += u32::from(md5(&usual, frame).ok().as_ref() != sequential.get(&frame));
            } else {
                assert_eq!(answer.as_ref(), right, "round {round}: {frame} does not need {sample}");
                independent += 1;
            }
        }
    }
    eprintln!(
        "{independent} frames do not need a damaged sample; of {dependent} that do {changed} are not as they were, {other} \
         not as in a sequential decode ({other_usually} without wavefronts), {errors} errors"
    );
    assert!(independent > 300 && dependent > 300 && changed > 200);
    assert!(other < other_usually + dependent / 10, "{other}, {other_usually} of {dependent}");
}

/// All pictures of these samples, by sample; strict, so that detected damage is an error.
fn decode(video: &Video, samples: u32, threads: Threads) -> Result<BTreeMap<u32, [u8; 16]>, AvError> {
    let track = video.track();
    let mut decoder = Decoder::open(&track.parameters, threads, true)?;
    let mut pictures = BTreeMap::new();
    let mut take = |decoder: &mut Decoder| {
        while let DecoderOutput::Picture(picture) = decoder.receive()? {
            pictures.extend(picture.tag().map(|sample| (sample, raw::md5(&picture))));
        }
        Ok(())
    };
    for sample in 0..samples {
        let data = track.read(video.source(), sample, false).expect("a sample");
        let packet = Packet::new(&data, sample, None)?;
        while decoder.send(&packet)? == SendStatus::Full {
            take(&mut decoder)?;
        }
    }
    decoder.send_end()?;
    take(&mut decoder)?;
    Ok(pictures)
}

#[test]
fn whole_rows_are_not_taken_for_damaged_ones() {
    let (mut clips_with_rows, mut pictures) = (0, 0);
    for clip in clips().iter().filter(|clip| !name(clip).contains("damaged")) {
        let Some(video) = open(&engine(2, false), clip) else { continue };
        let (width, height) = video.track().parameters.size();
        let samples = (video.track().samples.len() as u32).min((60_000_000 / (width * height).max(1)) as u32);
        let has_one_description = video.track().descriptions.len() < 2;
        if !has_one_description || video.use_of_threads(2, &[0, 1]) != Threads::Slice(2) {
            continue;
        }
        let Ok(expected) = decode(&video, samples, Threads::One) else { continue };
        assert_eq!(decode(&video, samples, Threads::Slice(2)).as_ref(), Ok(&expected), "{}", name(clip));
        clips_with_rows += 1;
        pictures += expected.len();
    }
    eprintln!("{pictures} pictures of {clips_with_rows} clips");
    assert!(pictures >= 60);
}
