//! Which frame is meant: by number, by time, by bytes of the file.

use super::problem::Problem;
use crate::bitstream::Codec;
use crate::time::Nanos;
use crate::video::Video;

/// What somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// A number in presentation order.
    Frame(u64),
    /// A time from the first frame on.
    Time(Nanos),
    /// Bytes of the file: where the sync sample begins, where the range ends, and where the sample begins.
    Bytes { irap: u64, end: Option<u64>, offset: Option<u64> },
    /// The sample that begins at this byte.
    Offset(u64),
}

/// The number of the frame.
pub(super) fn frame_of(video: &Video, target: &Target) -> Result<u32, Problem> {
    match *target {
        Target::Frame(frame) => {
            let frames = video.frame_count();
            let known = u32::try_from(frame).ok().filter(|&known| (known as usize) < frames);
            known.ok_or_else(|| {
                Problem::not_found(format!("there is no frame {frame}: the video has {frames}, counted from 0"))
            })
        }
        Target::Time(time) => Ok(video.index_at(time, false)?),
        Target::Offset(offset) => at(video, "offset", offset, |_| true),
        Target::Bytes { irap, end, offset } => by_bytes(video, irap, end, offset),
    }
}

fn by_bytes(video: &Video, irap: u64, end: Option<u64>, offset: Option<u64>) -> Result<u32, Problem> {
    let samples = &video.track().samples;
    let is_key = |sample: u32| samples[sample as usize].key;
    if !beginning_at(video, irap).any(is_key) {
        return Err(Problem::bad_parameter(format!("no sync sample begins at byte {irap} (irap)")));
    }
    if end.is_some_and(|end| end <= irap) {
        return Err(Problem::bad_parameter("end is the byte behind the frame's sample, and irap comes before it"));
    }
    match (offset, end) {
        (Some(offset), _) if offset < irap || end.is_some_and(|end| offset >= end) => {
            Err(Problem::bad_parameter("offset lies outside of irap and end"))
        }
        (Some(offset), _) => at(video, "offset", offset, |_| true),
        (None, Some(end)) => {
            let last = video.shared.served.last_within(samples, irap, end);
            at(video, "end", last.map_or(irap, |last| samples[last as usize].offset), |_| true)
        }
        // Where nothing says how far, it is the one that is named.
        (None, None) => at(video, "irap", irap, is_key),
    }
}

/// The frame of the sample that begins at a byte, of those that are meant.
fn at(video: &Video, name: &str, byte: u64, is_meant: impl Fn(u32) -> bool) -> Result<u32, Problem> {
    let found: Vec<u32> = beginning_at(video, byte).filter(|&sample| is_meant(sample)).collect();
    let Some(&first) = found.first() else {
        return Err(Problem::bad_parameter(format!("no sample begins at byte {byte} ({name})")));
    };
    let frame_of = |sample: u32| video.shared.planner.frame_of(sample);
    // A second field that is a sample of its own shows the frame of the first.
    let is_field = |sample: &u32| video.track().codec == Codec::H264 && video.track().samples[*sample as usize].silent;
    let frame_of_field = |sample: &u32| is_field(sample).then(|| frame_of(sample.checked_sub(1)?)).flatten();
    let frames: Vec<u32> = found.iter().filter_map(|&sample| frame_of(sample)).collect();
    let frames = if frames.is_empty() { found.iter().filter_map(frame_of_field).collect() } else { frames };
    match frames[..] {
        [frame] => Ok(frame),
        [] => Err(Problem::not_found(format!("sample {first} is not a frame that is shown"))),
        // In a transport stream, a packet may hold several small samples: which one is meant nobody can tell.
        [..] => Err(Problem::bad_parameter(format!("{} frames begin at byte {byte} ({name})", frames.len()))),
    }
}

/// The samples that begin at a byte, in decode order.
fn beginning_at(video: &Video, byte: u64) -> impl Iterator<Item = u32> {
    video.shared.served.samples_within(&video.track().samples, byte, byte.saturating_add(1))
}

/// The last frame at or before `frame` that is a sync sample's; the first such one where none is.
pub(super) fn key_before(video: &Video, frame: u32) -> u32 {
    let keys = video.key_frames();
    let before = keys.partition_point(|key| *key <= frame);
    keys.get(before.saturating_sub(1)).copied().unwrap_or(frame)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use super::{Target, frame_of};
    use crate::{Engine, Video};

    fn open(name: &str) -> Video {
        let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
        Engine::new(Some(1)).open_path(clip).unwrap()
    }

    /// Frames that offsets lead to; `None` for those that do not lead to one alone.
    fn by_offsets(video: &Video) -> HashMap<u64, Option<u32>> {
        let offsets = video.track().samples.iter().map(|sample| sample.offset);
        offsets.map(|offset| (offset, frame_of(video, &Target::Offset(offset)).ok())).collect()
    }

    #[test]
    fn every_offset_leads_to_its_own_frame_or_to_none() {
        for name in
            ["hevc_demo.mp4", "hevc_open_gop.mp4", "hevc.ts", "h264_fields.h264", "h264_size_change.ts", "vp9.webm"]
        {
            let video = open(name);
            let found = by_offsets(&video);
            let samples = &video.track().samples;
            for (&sample, frame) in video.track().frames.iter().zip(0..) {
                let offset = samples[sample as usize].offset;
                let is_alone =
                    samples.iter().filter(|other| other.offset == offset && other.is_displayable()).count() == 1;
                assert_eq!(found[&offset], is_alone.then_some(frame), "{name}, sample {sample}");
            }
            let beyond = samples.iter().map(|sample| sample.offset).max().unwrap() + 1;
            assert!(frame_of(&video, &Target::Offset(beyond)).is_err());
        }
    }

    #[test]
    fn a_second_field_shows_the_frame_of_the_first() {
        let video = open("h264_fields.h264");
        let samples = &video.track().samples;
        let second = samples.iter().position(|sample| sample.silent).expect("fields that are samples of their own");
        let at = |sample: usize| frame_of(&video, &Target::Offset(samples[sample].offset)).unwrap();
        assert_eq!(at(second), at(second - 1));
        let key = samples[..second].iter().rfind(|sample| sample.key).unwrap().offset;
        let end = Some(samples[second].offset + u64::from(samples[second].size));
        assert_eq!(frame_of(&video, &Target::Bytes { irap: key, end, offset: None }).unwrap(), at(second));
    }

    #[test]
    fn which_of_several_frames_in_one_packet_is_meant_is_not_guessed() {
        let mut video = open("hevc_demo.mp4");
        let shared = std::sync::Arc::get_mut(&mut video.shared).expect("nobody else has it");
        let (first, second, third) = (shared.track.frames[0], shared.track.frames[1], shared.track.frames[2]);
        let offset = shared.track.samples[first as usize].offset;
        shared.track.samples[second as usize].offset = offset;
        let own = shared.track.samples[third as usize].offset;
        assert!(frame_of(&video, &Target::Offset(offset)).is_err());
        assert_eq!(frame_of(&video, &Target::Offset(own)).unwrap(), 2);
        // The sync sample among them can be named all the same.
        let key = video.track().samples[first as usize].key;
        assert!(key && frame_of(&video, &Target::Bytes { irap: offset, end: None, offset: None }).unwrap() == 0);
    }
}
