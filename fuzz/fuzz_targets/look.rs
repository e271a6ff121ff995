//! The common part of all targets: examines an open video's tables, decodes some frames, cancels a request, makes
//! stills, describes it.

use bucket_streamer::pixels::{Fit, Shape};
use bucket_streamer::still::{StillFormat, StillMaker, StillOptions};
use bucket_streamer::time::Nanos;
use bucket_streamer::{Video, VideoFrame};

const PIXEL_LIMIT: usize = 4_000_000;
/// A decode run over more samples takes long, but is no hang.
const SAMPLE_LIMIT: u32 = 400;

pub fn look(video: &Video) {
    let track = video.track();
    let frames = video.frame_count();
    assert!(frames > 0, "a video without frames is an error");
    tables(video);
    let (width, height) = track.parameters.size();
    if width * height > PIXEL_LIMIT {
        return;
    }
    let in_reach = |frame: &u32| track.frames[*frame as usize] < SAMPLE_LIMIT;
    let last = frames as u32 - 1;
    let mut wanted: Vec<u32> = vec![last, 0, last / 2, last / 2, 1.min(last)];
    wanted.retain(in_reach);
    if wanted.is_empty() {
        return;
    }
    wanted.push(frames as u32);
    let mut answers = std::collections::BTreeMap::new();
    let mut first = None;
    for (index, frame) in video.frames(&wanted) {
        if let Ok(frame) = &frame {
            assert_eq!(frame.index, index);
            check(frame);
        }
        assert!(answers.insert(index, frame.is_ok()).is_none(), "one answer for each frame");
        if first.is_none() {
            first = frame.ok();
        }
    }
    assert!(wanted.iter().all(|index| answers.contains_key(index)), "every frame gets an answer");
    assert!(!answers[&(frames as u32)]);
    // A dropped request leaves tasks behind, which must end.
    drop(video.frames(&wanted));
    if let Some(frame) = first {
        still(&frame, video.still_options());
    }
    if (0..frames.min(32) as u32).all(|frame| in_reach(&frame)) {
        let _ = video.describe();
    }
}

/// The part that needs no pictures.
fn tables(video: &Video) {
    let track = video.track();
    assert!(track.time_base.0 > 0 && track.time_base.1 > 0);
    for frame in (0..video.frame_count() as u32).take(50) {
        let at = video.sample_of(frame).expect("every frame has a sample");
        assert!(at.is_displayable());
    }
    let _ = (track.parameters.rotation(), track.parameters.color().names(), track.parameters.pixel_format());
    let timeline = video.timeline();
    assert!(timeline.duration_s() >= 0.0);
    for time in [0, 1, 40_000_000, i64::MAX, i64::MIN] {
        let frame = timeline.frame_at(Nanos(time), true).expect("clamped");
        assert!((frame as usize) < video.frame_count());
        let _ = timeline.frame_at(Nanos(time), false);
    }
    let _ = timeline.is_variable();
}

/// Reads every visible byte of the planes.
fn check(frame: &VideoFrame) {
    let picture = &frame.picture;
    let mut sum = 0_u64;
    for index in 0..picture.planes() {
        let Some(plane) = picture.plane(index) else { continue };
        let mut rows = 0;
        for row in plane.rows() {
            assert_eq!(row.len(), plane.row_bytes);
            sum += row.iter().map(|&byte| u64::from(byte)).sum::<u64>();
            rows += 1;
        }
        assert_eq!(rows, plane.rows);
    }
    std::hint::black_box(sum);
}

fn still(frame: &VideoFrame, options: StillOptions) {
    if frame.picture.width() * frame.picture.height() > PIXEL_LIMIT {
        return;
    }
    let Ok(mut stills) = StillMaker::new() else { return };
    let mut out = Vec::new();
    for (width, format) in [None, Some(37), Some(38)].into_iter().cycle().zip(StillFormat::ALL) {
        let shape = Shape { width, height: None, fit: Fit::Contain };
        let options = StillOptions { quality: 50, shape, format, ..options };
        if stills.encode(&frame.picture, &options, &mut out).is_ok() {
            assert!(out.starts_with(format.signature()));
        }
    }
}
