//! Which frame is meant: by number, by time, by bytes of the file.

use super::problem::Problem;
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
        Target::Offset(offset) => {
            let sample = sample_at(video, offset).ok_or_else(|| no_sample("offset", offset))?;
            shown(video, sample)
        }
        Target::Bytes { irap, end, offset } => by_bytes(video, irap, end, offset),
    }
}

fn by_bytes(video: &Video, irap: u64, end: Option<u64>, offset: Option<u64>) -> Result<u32, Problem> {
    let samples = &video.track().samples;
    let first = sample_at(video, irap).filter(|&sample| samples[sample as usize].key);
    let first = first.ok_or_else(|| Problem::bad_parameter(format!("no sync sample begins at byte {irap} (irap)")))?;
    if end.is_some_and(|end| end <= irap) {
        return Err(Problem::bad_parameter("end is the byte behind the frame's sample, and irap comes before it"));
    }
    let is_within = |byte: u64| byte >= irap && end.is_none_or(|end| byte < end);
    let sample = match (offset, end) {
        (Some(offset), _) if !is_within(offset) => {
            return Err(Problem::bad_parameter("offset lies outside of irap and end"));
        }
        (Some(offset), _) => sample_at(video, offset).ok_or_else(|| no_sample("offset", offset))?,
        (None, Some(_)) => {
            let last = samples.iter().rposition(|sample| is_within(sample.offset));
            last.map_or(first, |last| last as u32)
        }
        // Where nothing says how far, it is the one that is named.
        (None, None) => first,
    };
    shown(video, sample)
}

fn no_sample(name: &str, byte: u64) -> Problem {
    Problem::bad_parameter(format!("no sample begins at byte {byte} ({name})"))
}

fn shown(video: &Video, sample: u32) -> Result<u32, Problem> {
    let frame = video.shared.planner.frame_of(sample);
    frame.ok_or_else(|| Problem::not_found(format!("sample {sample} is not a frame that is shown")))
}

/// The sample that begins at a byte, in decode order.
pub(super) fn sample_at(video: &Video, offset: u64) -> Option<u32> {
    let samples = &video.track().samples;
    // Nearly always they lie in decode order.
    let at = samples.partition_point(|sample| sample.offset < offset);
    let is_it = |at: &usize| samples.get(*at).is_some_and(|sample| sample.offset == offset);
    let found = Some(at).filter(is_it).or_else(|| samples.iter().position(|sample| sample.offset == offset));
    found.map(|at| at as u32)
}

/// The last frame at or before `frame` that is a sync sample's; the first such one where none is.
pub(super) fn key_before(video: &Video, frame: u32) -> u32 {
    let keys = video.key_frames();
    let before = keys.partition_point(|key| *key <= frame);
    keys.get(before.saturating_sub(1)).copied().unwrap_or(frame)
}
