//! The requested frames, in the order of the request.

use bucket_streamer::quantities::MOST_FRAMES;
use bucket_streamer::time::Nanos;
use bucket_streamer::{Error, Video};

/// Frames by number or time, before the video is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FrameSelection {
    Frames(Vec<u32>),
    Times(Vec<Nanos>),
    Every(Nanos),
    Count(u32),
    KeyFrames,
    All,
}

/// A requested frame, or the error in its place.
pub(crate) type RequestedIndex = Result<u32, Error>;

impl FrameSelection {
    /// True if it is one frame, whatever the video.
    pub(crate) fn is_one(&self) -> bool {
        match self {
            FrameSelection::Frames(frames) => frames.len() == 1,
            FrameSelection::Times(times) => times.len() == 1,
            FrameSelection::Count(count) => *count == 1,
            FrameSelection::Every(_) | FrameSelection::KeyFrames | FrameSelection::All => false,
        }
    }

    /// The frames of a video, in order.
    pub(crate) fn indices(&self, video: &Video, clamp: bool) -> Vec<RequestedIndex> {
        let frames = video.frame_count() as u64;
        match self {
            FrameSelection::Frames(frames) => frames.iter().copied().map(Ok).collect(),
            FrameSelection::Times(times) => times.iter().map(|&time| video.index_at(time, clamp)).collect(),
            FrameSelection::Every(step) => (0..MOST_FRAMES as i64)
                .map_while(|index| video.timeline().frame_at(Nanos(index.checked_mul(step.0)?), false).ok())
                .map(Ok)
                .collect(),
            // floor((i + 0.5) * frames / N), in whole numbers.
            FrameSelection::Count(count) => {
                (0..u64::from(*count)).map(|i| Ok(((2 * i + 1) * frames / (2 * u64::from(*count))) as u32)).collect()
            }
            FrameSelection::KeyFrames => {
                let is_key = |frame: &u32| video.sample_of(*frame).is_some_and(|sample| sample.key);
                (0..frames as u32).filter(is_key).map(Ok).collect()
            }
            FrameSelection::All => (0..frames as u32).map(Ok).collect(),
        }
    }
}
