//! Every clip against the vendored FFmpeg, in order and out of order: the correct frame or an error.
#![allow(clippy::print_stderr, reason = "tests report their results")]

use std::collections::{HashMap, HashSet};

use bucket_streamer::bitstream::{Codec, hevc};
use bucket_streamer::container::Container;
use bucket_streamer::source::ByteRange;
use bucket_streamer::still::raw;
use bucket_streamer::{Engine, ErrorKind, Video};

use ffi::{Decoder, DecoderOutput, Packet, Threads};

use testing::clips::{clips, fixture, name, open, oracle_md5s, oracle_packets, oracle_pts, sequential};

#[test]
fn every_clip_plays_as_ffmpeg_decodes_it() {
    let mut wrong = Vec::new();
    for clip in clips() {
        let Some(sequential) = sequential(&clip) else {
            assert!(oracle_md5s(&clip).is_empty(), "{}: ffmpeg decodes it, the engine does not", name(&clip));
            continue;
        };
        let frames = &sequential.frames;
        let md5s: Vec<String> = frames.iter().map(|(_, md5)| md5.clone()).collect();
        if md5s != oracle_md5s(&clip) {
            wrong.push(name(&clip));
        }
        assert!(frames.windows(2).all(|pair| pair[0].0 < pair[1].0), "{}: frames are not in order", name(&clip));
    }
    assert!(wrong.is_empty(), "different from ffmpeg: {wrong:?}");
}

#[test]
fn the_index_is_what_ffprobe_shows() {
    let engine = Engine::new(None);
    for clip in clips() {
        let (Some(video), Some(sequential)) = (open(&engine, &clip), sequential(&clip)) else { continue };
        let left_out = &sequential.left_out;
        let pts_of = |frame: u32| video.sample_of(frame).expect("a frame").pts;
        let shown: Vec<u32> = (0..video.frame_count() as u32).filter(|frame| !left_out.contains(frame)).collect();
        let expected = oracle_pts(&clip);
        assert_eq!(shown.len(), expected.len(), "{}: number of frames", name(&clip));
        if expected.iter().any(Option::is_none) {
            continue; // A raw stream: it has no times.
        }
        let expected: Vec<i64> = expected.into_iter().flatten().collect();
        let found: Vec<i64> = shown.iter().map(|&frame| pts_of(frame)).collect();
        assert_eq!(found, expected, "{}: presentation times", name(&clip));
        let key = |frame: &u32| video.sample_of(*frame).expect("a frame").key;
        // Two frames may share a time, so the sets of pairs are compared.
        let mut found: Vec<(i64, bool)> = shown.iter().map(|frame| (pts_of(*frame), key(frame))).collect();
        let times: HashSet<i64> = found.iter().map(|(pts, _)| *pts).collect();
        let packets = oracle_packets(&clip).into_iter().filter_map(|(pts, key)| Some((pts?, key)));
        let mut packets: Vec<(i64, bool)> = packets.filter(|(pts, _)| times.contains(pts)).collect();
        found.sort_unstable();
        packets.sort_unstable();
        assert_eq!(found, packets, "{}: sync flags", name(&clip));
    }
}

/// Frames one at a time in random order, then as one batch, with one thread and with several.
#[test]
fn random_frames_equal_the_sequential_decode() {
    for clip in clips() {
        let (Some(video), Some(sequential)) = (open(&Engine::new(None), &clip), sequential(&clip)) else { continue };
        let sequential = sequential.by_number();
        check_random(&video, &sequential, &name(&clip));
        // With one thread libavcodec uses other code paths, whose results for damage differ.
        let single = open(&Engine::new(Some(1)), &clip).expect("opened before");
        if sequential.len() == single.frame_count() {
            check_batch(&single, &sequential, &wanted(&single, 12), &name(&clip));
        }
    }
}

/// 40 frames in random order, some twice; fewer one at a time where pictures are large and GOPs long.
fn wanted(video: &Video, most: usize) -> Vec<u32> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..most).map(|_| random.u32(0..video.frame_count() as u32)).collect()
}

fn check_random(video: &Video, sequential: &HashMap<u32, String>, clip: &str) {
    let frames = wanted(video, 40);
    let (width, height) = video.track().parameters.size();
    let is_exhaustive = std::env::var_os("BUCKET_STREAMER_EXHAUSTIVE").is_some();
    let singly = if is_exhaustive || width * height * video.frame_count() < 50_000_000 { 40 } else { 6 };
    for &frame in &frames[..singly] {
        match video.frame(frame) {
            Ok(found) => {
                assert_eq!(found.index, frame);
                let md5 = raw::hex(&raw::md5(&found.picture));
                assert_eq!(Some(&md5), sequential.get(&frame), "{clip}: frame {frame} alone");
            }
            Err(error) => assert!(!sequential.contains_key(&frame), "{clip}: frame {frame} alone: {error}"),
        }
    }
    check_batch(video, sequential, &frames, clip);
}

fn check_batch(video: &Video, sequential: &HashMap<u32, String>, frames: &[u32], clip: &str) {
    let mut answers = HashMap::new();
    for (index, frame) in video.frames(frames) {
        let md5 = frame.map(|frame| raw::hex(&raw::md5(&frame.picture)));
        assert!(answers.insert(index, md5.ok()).is_none(), "{clip}: frame {index} was answered twice");
    }
    for frame in frames {
        let answer = answers.get(frame).unwrap_or_else(|| panic!("{clip}: frame {frame} has no answer"));
        assert_eq!(answer.as_ref(), sequential.get(frame), "{clip}: frame {frame} in a batch");
    }
}

/// The hashes cover whole coded pictures with their margins, so a bare loop decodes the samples of the index here.
#[test]
fn pictures_agree_with_the_hashes_in_their_stream() {
    let engine = Engine::new(None);
    let (mut clips_with_hashes, mut checked) = (0, 0);
    for clip in clips() {
        let Some(video) = open(&engine, &clip) else { continue };
        // In the damaged fixture the hashes reveal the damage. Scattered samples have no single range in the file.
        let track = video.track();
        if track.codec != Codec::Hevc || clip == fixture("hevc_damaged.mp4") || track.container == Container::MpegTs {
            continue;
        }
        let agreeing = check_hashes(&video, &name(&clip));
        clips_with_hashes += u32::from(agreeing > 0);
        checked += agreeing;
    }
    eprintln!("{checked} pictures of {clips_with_hashes} clips agree with their hashes");
    assert!(checked > 200, "the fixtures alone have more pictures with hashes");
}

fn check_hashes(video: &Video, clip: &str) -> usize {
    let track = video.track();
    let mut decoder = Decoder::open(&track.parameters, Threads::One, false).expect("a decoder");
    decoder.keep_margins();
    let (mut hashes, mut agreeing) = (HashMap::new(), 0);
    let mut check = |decoder: &mut Decoder, hashes: &HashMap<u32, Vec<[u8; 16]>>| {
        while let Ok(DecoderOutput::Picture(picture)) = decoder.receive() {
            let Some(hash) = picture.tag().and_then(|tag| hashes.get(&tag)) else { continue };
            assert_eq!(&raw::plane_md5s(&picture), hash, "{clip}: sample {:?}", picture.tag());
            agreeing += 1;
        }
    };
    for (index, sample) in (0..).zip(&track.samples) {
        let range = ByteRange { start: sample.offset, len: u64::from(sample.size) };
        let data = video.source().read_padded(range).expect("a sample");
        if let Some(hash) = track.framing.units(data.data()).find_map(hevc::picture_hash_md5) {
            hashes.insert(index, hash);
        }
        if hashes.is_empty() && index == 2 {
            return 0;
        }
        decoder.send(&Packet::new(&data, index, None).expect("a packet")).expect("decodable");
        check(&mut decoder, &hashes);
    }
    decoder.send_end().expect("an end");
    check(&mut decoder, &hashes);
    agreeing
}

#[test]
fn leading_pictures_of_a_cut_stream_are_errors_and_keep_their_numbers() {
    let video = Engine::new(None).open_path(fixture("hevc_open_gop_cut.265")).expect("a stream");
    assert_eq!(video.frame_count(), 99);
    for frame in 0..3 {
        let error = video.frame(frame).expect_err("a leading picture without its references");
        assert!(matches!(error.kind(), ErrorKind::NotShown), "{error}");
    }
    assert_eq!(video.frame(3).expect("the first that is shown").index, 3);
}

#[test]
fn the_number_in_the_picture_is_the_requested_number() {
    // The fixtures contain their picture's number in cells of 16x16 pixels, lowest bit first (fixtures/README.md).
    for (clip, first) in
        [("hevc_closed_gop.mp4", 0), ("hevc_open_gop.mp4", 0), ("hevc_edit_list.mp4", 70), ("h264_two_edits.mp4", 50)]
    {
        let video = Engine::new(None).open_path(fixture(clip)).expect("a clip");
        for frame in wanted(&video, 10) {
            let picture = video.frame(frame).expect("a frame").picture;
            let luma = picture.plane(0).expect("luma");
            let bit = |bit: usize| u32::from(luma.data[8 * luma.stride + 16 * bit + 8] > 128) << bit;
            assert_eq!((0..10).map(bit).sum::<u32>(), frame + first, "{clip}");
        }
    }
}

/// Writes a copy of a fixture edited by `change`; the folder is removed with the handle.
fn edited(fixture_name: &str, change: impl FnOnce(&Video, &mut Vec<u8>)) -> (tempfile::TempDir, std::path::PathBuf) {
    let video = Engine::new(Some(1)).open_path(fixture(fixture_name)).expect("a clip");
    let mut bytes = std::fs::read(fixture(fixture_name)).expect("the fixture");
    change(&video, &mut bytes);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(fixture_name);
    std::fs::write(&path, bytes).expect("a copy");
    (folder, path)
}

#[test]
fn pictures_that_a_key_frame_has_dropped_are_errors_as_in_a_sequential_decode() {
    let (_folder, path) = edited("hevc_closed_gop.mp4", |video, bytes| {
        let track = video.track();
        for sample in track.samples.iter().filter(|sample| sample.key) {
            let at = sample.offset as usize..sample.offset as usize + sample.size as usize;
            let units: Vec<_> = track.framing.units(&bytes[at]).map(|unit| unit.as_ptr_range()).collect();
            for unit in units {
                let start = unit.start.addr() - bytes.as_ptr().addr();
                if hevc::kind(&bytes[start..]) == hevc::NalKind::Idr {
                    bytes[start + 2] |= 0x40; // no_output_of_prior_pics_flag
                }
            }
        }
    });
    let video = Engine::new(None).open_path(&path).expect("a clip");
    let (frames, left_out) = testing::clips::play(&video);
    let md5s: Vec<String> = frames.iter().map(|(_, md5)| md5.clone()).collect();
    assert_eq!(md5s, oracle_md5s(&path));
    assert!(!left_out.frames.is_empty() && !left_out.is_damaged(), "{left_out:?}");
    for frame in left_out.frames {
        let error = video.frame(frame).expect_err("not shown by a sequential decode");
        assert!(matches!(error.kind(), ErrorKind::NotShown), "{error}");
    }
    for (frame, md5) in frames.into_iter().filter(|(frame, _)| frame % 7 == 0 || frame % 48 > 40) {
        assert_eq!(raw::hex(&raw::md5(&video.frame(frame).expect("a frame").picture)), md5, "frame {frame}");
    }
}

/// Iterators own their state: they move to other threads, outlive the video, and run beside other requests.
#[test]
fn sequences_are_pulled_in_other_threads_beside_other_requests() {
    fn owned<T: Send + 'static>(iterator: T) -> T {
        iterator
    }
    for name in ["hevc_open_gop.mp4", "h264_bframes.mp4", "vp9.webm", "av1.mp4"] {
        let path = fixture(name);
        let engine = Engine::builder().threads(2).build();
        let video = engine.open_path(&path).expect("to open");
        let expected = oracle_md5s(&path);
        let (mut sequence, mut other) = (owned(video.sequence()), owned(video.sequence()));
        let in_order = owned(video.frames_in_order(vec![3, 1, 3]));
        drop(video);
        let reading = std::thread::spawn(move || {
            let frames: Vec<_> = in_order.map(|frame| frame.expect("a frame").index).collect();
            assert_eq!(frames, [3, 1, 3]);
            let _ = other.next();
            // Dropped in the middle.
        });
        let mut md5s = Vec::new();
        for frame in sequence.by_ref() {
            md5s.push(raw::hex(&raw::md5(&frame.expect("a frame").picture)));
        }
        reading.join().expect("no panic");
        assert_eq!(md5s, expected, "{name}");
        assert!(sequence.next().is_none(), "the iterator stays at its end");
        assert!(sequence.into_omitted().frames.is_empty());
    }
}

/// Its single frames leave no checkpoints. A batch that waits for its caller does, and continues there.
#[test]
fn a_program_with_one_request_saves_checkpoints_only_where_it_waits() {
    let path = fixture("hevc_demo.mp4");
    let expected = oracle_md5s(&path);
    let md5 = |frame: &bucket_streamer::VideoFrame| raw::hex(&raw::md5(&frame.picture));
    let usual = Engine::builder().threads(2).build();
    let video = usual.open_path(&path).expect("a clip");
    video.frame(40).expect("a frame");
    assert!(usual.checkpoints().checkpoints > 0, "a frame far from its key frame leaves some");

    let engine = Engine::builder().threads(2).for_one_request().build();
    let video = engine.open_path(&path).expect("a clip");
    for index in [40, 3, 41, 0] {
        assert_eq!(md5(&video.frame(index).expect("a frame")), expected[index as usize], "frame {index}");
    }
    assert_eq!(engine.checkpoints().checkpoints, 0);

    let all: Vec<u32> = (0..expected.len() as u32).collect();
    let mut frames = video.frames(&all);
    let first = frames.next().expect("an answer");
    // Then the queue of results is full, and its tasks pause.
    while engine.checkpoints().checkpoints == 0 {
        std::thread::yield_now();
    }
    let mut seen = 0;
    for (index, frame) in std::iter::once(first).chain(frames) {
        assert_eq!(md5(&frame.expect("a frame")), expected[index as usize], "frame {index}");
        seen += 1;
    }
    assert_eq!(seen, expected.len());
}
