//! The requested frames, in the order of the request.

use bucket_streamer::quantities::MOST_FRAMES;
use bucket_streamer::time::Nanos;
use bucket_streamer::{Error, Video};

/// Frames by number or time, before the video is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Frames(Vec<u32>),
    Times(Vec<Nanos>),
    Every(Nanos),
    Count(u32),
    KeyFrames,
    All,
}

/// A requested frame, or the error in its place.
pub(crate) type Request = Result<u32, Error>;

impl Wanted {
    /// The frames of a video, in order.
    pub(crate) fn requests(&self, video: &Video, clamp: bool) -> Vec<Request> {
        let frames = video.frame_count() as u64;
        match self {
            Wanted::Frames(frames) => frames.iter().copied().map(Ok).collect(),
            Wanted::Times(times) => times.iter().map(|&time| video.index_at(time, clamp)).collect(),
            Wanted::Every(step) => (0..MOST_FRAMES as i64)
                .map_while(|index| video.timeline().frame_at(Nanos(index.checked_mul(step.0)?), false).ok())
                .map(Ok)
                .collect(),
            // floor((i + 0.5) * frames / N), in whole numbers.
            Wanted::Count(count) => {
                (0..u64::from(*count)).map(|i| Ok(((2 * i + 1) * frames / (2 * u64::from(*count))) as u32)).collect()
            }
            Wanted::KeyFrames => {
                let is_key = |frame: &u32| video.sample_of(*frame).is_some_and(|sample| sample.key);
                (0..frames as u32).filter(is_key).map(Ok).collect()
            }
            Wanted::All => (0..frames as u32).map(Ok).collect(),
        }
    }
}
