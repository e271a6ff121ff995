//! Failing sources and changing files: an error for the frames concerned, and the correct frame for all others.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::ops::ControlFlow;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use bucket_streamer::source::{ByteRange, Fault, FaultSource, MemorySource, Source, open_files};
use bucket_streamer::still::raw;
use bucket_streamer::{Engine, ErrorKind, Video, process};

use testing::clips::{fixture, hard_links, many_videos, play};

fn md5(video: &Video, frame: u32) -> Result<String, bucket_streamer::Error> {
    video.frame(frame).map(|frame| raw::hex(&raw::md5(&frame.picture)))
}

#[test]
fn an_unreadable_sample_fails_only_the_frames_that_need_it() {
    let clip = fixture("hevc_closed_gop.mp4");
    let memory: Arc<dyn Source> = Arc::new(MemorySource::new("clip", std::fs::read(&clip).expect("the fixture")));
    let faults = Arc::new(FaultSource::new(memory, []));
    let video = Engine::new(None).open(Arc::clone(&faults) as Arc<dyn Source>, 0).expect("a clip");
    let (expected, _) = play(&video);
    let bad = video.sample_of(60).expect("a frame of the second GOP");
    faults.set([Fault::Unreadable(ByteRange { start: bad.offset, len: 1 })]);
    let error = md5(&video, 60).expect_err("its sample cannot be read");
    assert!(matches!(error.kind(), ErrorKind::Read(_)), "{error}");
    assert_eq!((error.frame(), error.offset()), (Some(60), Some(bad.offset)));
    for frame in [0, 47, 48, 96, 143] {
        assert_eq!(md5(&video, frame).expect("of another GOP, or before"), expected[frame as usize].1);
    }
    faults.set([]);
    assert_eq!(md5(&video, 60).expect("readable again"), expected[60].1);
}

/// A decoder continues without missing samples, and then outputs pictures that are no frames of the video.
#[test]
fn frames_that_need_an_unreadable_sample_are_errors_and_never_other_pictures() {
    let clips =
        ["h264_bframes.mp4", "h264_open_gop.mkv", "h264_fields.h264", "hevc_open_gop.mp4", "vp9.webm", "av1.mp4"];
    for clip in clips {
        let memory: Arc<dyn Source> =
            Arc::new(MemorySource::new(clip, std::fs::read(fixture(clip)).expect("the fixture")));
        let faults = Arc::new(FaultSource::new(memory, []));
        let open = || Engine::new(None).open(Arc::clone(&faults) as Arc<dyn Source>, 0).expect("a clip");
        let video = open();
        let expected: HashMap<u32, String> = play(&video).0.into_iter().collect();
        let frames = expected.len() as u32;
        let (mut right, mut failed) = (0, 0);
        for bad in [1, frames / 3, frames / 2] {
            let sample = video.sample_of(bad).expect("a frame");
            let video = open();
            faults.set([Fault::Unreadable(ByteRange { start: sample.offset, len: 1 })]);
            for frame in (0..frames).step_by(3).chain([bad]) {
                match md5(&video, frame) {
                    Ok(md5) => right += u32::from(expected.get(&frame) == Some(&md5)),
                    Err(_) => failed += 1,
                }
            }
            faults.set([]);
        }
        let all = 3 * (frames.div_ceil(3) + 1);
        assert_eq!(right + failed, all, "{clip}: the rest are wrong pictures");
        assert!(right > all / 4 && failed > 2, "{clip}: {right} right, {failed} failed");
    }
}

#[test]
fn a_file_that_is_cut_while_open_is_an_error_not_a_crash_and_not_a_wrong_frame() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("clip.mp4");
    std::fs::copy(fixture("hevc_demo.mp4"), &path).expect("a copy");
    // Unmapped files: `testing/guest/tests/truncation.rs`.
    process::map_files().expect("a signal handler");
    let video = Engine::new(None).open_path(&path).expect("a clip");
    video.frame(10).expect("a frame of the whole file");
    let file = OpenOptions::new().write(true).open(&path).expect("the copy");
    file.set_len(20_000).expect("cut");
    for frame in [0, 10, 120, 249] {
        let error = video.frame(frame).expect_err("the file has changed");
        assert!(matches!(error.kind(), ErrorKind::Changed), "frame {frame}: {error}");
    }
    let error = video.play(&mut |_| ControlFlow::Continue(())).expect_err("the file has changed");
    assert!(matches!(error.kind(), ErrorKind::Changed), "{error}");
}

#[test]
fn frames_outlive_their_video() {
    let frame = {
        let engine = Engine::new(None);
        let video = engine.open_path(fixture("h264_bframes.mp4")).expect("a clip");
        video.frame(33).expect("a frame")
    };
    let again =
        Engine::new(Some(1)).open_path(fixture("h264_bframes.mp4")).expect("a clip").frame(33).expect("a frame");
    assert_eq!(raw::md5(&frame.picture), raw::md5(&again.picture));
}

#[test]
fn many_callers_share_a_video() {
    let video = Arc::new(Engine::new(Some(2)).open_path(fixture("hevc_open_gop.mp4")).expect("a clip"));
    let (expected, _) = play(&video);
    let expected = Arc::new(expected);
    let callers: Vec<_> = (0..4)
        .map(|seed| {
            let (video, expected) = (Arc::clone(&video), Arc::clone(&expected));
            std::thread::spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..15 {
                    let frame = random.u32(0..120);
                    assert_eq!(md5(&video, frame).expect("a frame"), expected[frame as usize].1, "frame {frame}");
                }
            })
        })
        .collect();
    callers.into_iter().for_each(|caller| caller.join().expect("no panic"));
}

#[test]
fn a_stopped_playback_does_not_affect_the_next_request() {
    let video = Engine::new(None).open_path(fixture("hevc_closed_gop.mp4")).expect("a clip");
    let (expected, _) = play(&video);
    for stop in [1, 5, 17] {
        let mut seen = 0;
        video
            .play(&mut |_| {
                seen += 1;
                if seen == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .expect("a partial playback");
        assert_eq!(md5(&video, 100).expect("a frame"), expected[100].1, "after stopping at {stop}");
    }
}

#[test]
fn compressed_bytes_are_not_copied_on_their_way_to_the_decoder() {
    process::map_files().expect("a signal handler");
    // The index comes last in this file, so every sample has bytes behind it that serve as padding.
    let video = Engine::new(None).open_path(fixture("hevc_closed_gop.mp4")).expect("a clip");
    play(&video);
    for frame in [100, 3, 60] {
        md5(&video, frame).expect("a frame");
    }
    assert_eq!(video.source().counters().now().copied, 0);
    // Here the last sample ends the file: only it is copied.
    let video = Engine::new(None).open_path(fixture("hevc_open_gop.mp4")).expect("a clip");
    play(&video);
    let last = video.track().samples.iter().max_by_key(|sample| sample.offset).expect("a sample").size;
    assert_eq!(video.source().counters().now().copied, u64::from(last));
}

#[test]
fn packets_before_an_invalid_header_can_be_decoded() {
    let mut bytes = std::fs::read(fixture("av1.ivf")).expect("the fixture");
    // IVF: a file header of 32 bytes, then for each packet its size (4 bytes), its time (8 bytes) and its data.
    let mut header = 32;
    for _ in 0..10 {
        let size = u32::from_le_bytes(bytes[header..header + 4].try_into().expect("four bytes"));
        header += 12 + size as usize;
    }
    bytes[header..header + 4].fill(0xff);
    let whole = Engine::new(None).open_path(fixture("av1.ivf")).expect("a clip");
    let cut = Engine::new(None).open(Arc::new(MemorySource::new("cut", bytes)), 0).expect("ten packets");
    assert!((10..=11).contains(&cut.frame_count()), "{} frames", cut.frame_count());
    let (expected, _) = play(&whole);
    for frame in 0..10 {
        assert_eq!(md5(&cut, frame).expect("a frame"), expected[frame as usize].1);
    }
}

#[allow(clippy::print_stderr, reason = "the cost of opening again")]
/// In a process of its own, since limits belong to the process. With `BUCKET_STREAMER_EXHAUSTIVE` 100,000 videos.
#[test]
fn more_videos_than_descriptors_can_be_kept_open() {
    const NAME: &str = "more_videos_than_descriptors_can_be_kept_open";
    const INSIDE: &str = "BUCKET_STREAMER_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return keep_many_open();
    }
    let limit = std::env::var("BUCKET_STREAMER_DESCRIPTORS").unwrap_or_else(|_| "128".to_owned());
    let script = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
    let mut shell = Command::new("sh");
    let own = std::env::current_exe().expect("this program");
    shell.args(["-c", &script]).arg(own).args(["--exact", NAME, "--nocapture"]).env(INSIDE, "1");
    let output = shell.output().expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().filter(|line| line.contains(" videos, ")).for_each(|line| eprintln!("{line}"));
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[allow(clippy::print_stdout, reason = "the cost of opening again")]
fn keep_many_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let names = hard_links(folder.path(), many_videos(500));
    let engine = Engine::new(None);
    let begin = Instant::now();
    let videos: Vec<Video> =
        names.iter().map(|name| engine.open_path(folder.path().join(name)).expect("a descriptor is free")).collect();
    let opening = begin.elapsed();
    let (files, read) = (open_files(), ByteRange { start: 0, len: 4096 });
    assert!(files.open <= files.most && files.most < videos.len() && files.descriptors < videos.len(), "{files:?}");
    // The first opened files are closed by now: each read opens one again.
    let begin = Instant::now();
    videos.iter().for_each(|video| _ = video.source().read(read).expect("a descriptor is free"));
    let (reopening, reopened) = (begin.elapsed(), open_files().reopened - files.reopened);
    assert!(reopened >= (videos.len() - files.most) as u64, "{reopened} of {}", videos.len());
    let begin = Instant::now();
    (0..videos.len()).for_each(|_| _ = videos[0].source().read(read).expect("it is open"));
    let micros = |time: std::time::Duration| time.as_secs_f64() * 1e6 / videos.len() as f64;
    println!(
        "{} videos, {} files open of {}: opening takes {:.1} us each, reading after opening again {:.2} us, while open {:.2} us",
        videos.len(),
        files.open,
        files.most,
        micros(opening),
        micros(reopening),
        micros(begin.elapsed())
    );
    let clips = 4;
    let expected: Vec<String> = videos[..clips].iter().map(|video| md5(video, 3).expect("a frame")).collect();
    for (place, video) in videos.iter().enumerate().step_by(videos.len() / 100 + 1) {
        assert_eq!(md5(video, 3).expect("a frame"), expected[place % clips], "{place}");
    }
    // A file that was replaced while it was closed is another file.
    assert!(open_files().most < videos.len() - 1, "reading all others closes it");
    let gone = folder.path().join(&names[0]);
    std::fs::remove_file(&gone).expect("to remove");
    std::fs::copy(fixture("hevc_gray.mp4"), &gone).expect("to copy");
    videos[1..].iter().for_each(|video| _ = video.source().read(read).expect("a descriptor is free"));
    let error = md5(&videos[0], 2).expect_err("another file");
    assert!(matches!(error.kind(), ErrorKind::Changed), "{error}");
}
