//! The frames of a video as each kind of request returns them.

use std::fmt;
use std::ops::ControlFlow;

use bucket_streamer::still::raw;
use bucket_streamer::{Engine, Result, Video, VideoFrame};

/// The result of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameObservation {
    /// A picture: MD5 of its planes, and the flag.
    Picture { md5: String, is_corrupt: bool },
    /// The error's message without its coordinates.
    Failed(String),
    /// Omitted by a sequential decode.
    LeftOut,
}

impl FrameObservation {
    fn of(result: Result<VideoFrame>) -> FrameObservation {
        match result {
            Ok(frame) => FrameObservation::picture(&frame),
            Err(error) => FrameObservation::Failed(error.message()),
        }
    }

    fn picture(frame: &VideoFrame) -> FrameObservation {
        FrameObservation::Picture { md5: raw::hex(&raw::md5(&frame.picture)), is_corrupt: frame.is_corrupt() }
    }

    /// Whether another request's result agrees. A frame that a sequential decode omits is an error in other requests.
    pub fn agrees(&self, other: &FrameObservation) -> bool {
        match (self, other) {
            (FrameObservation::LeftOut, FrameObservation::Failed(_))
            | (FrameObservation::Failed(_), FrameObservation::LeftOut) => true,
            _ => self == other,
        }
    }
}

impl fmt::Display for FrameObservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameObservation::Picture { md5, is_corrupt: false } => f.write_str(&md5[..8]),
            FrameObservation::Picture { md5, is_corrupt: true } => write!(f, "{} (corrupt)", &md5[..8]),
            FrameObservation::Failed(message) => write!(f, "'{message}'"),
            FrameObservation::LeftOut => f.write_str("nothing"),
        }
    }
}

/// A kind of request for all frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessOrder {
    Forwards,
    Backwards,
    /// One by one in an order from the seed.
    Shuffled(u64),
    Batch,
    Play,
}

impl AccessOrder {
    /// Calls `each` with every frame; for [`AccessOrder::Play`] with the shown ones.
    pub fn frames(self, video: &Video, mut each: impl FnMut(u32, Result<VideoFrame>)) {
        let mut numbers: Vec<u32> = (0..video.frame_count() as u32).collect();
        match self {
            AccessOrder::Forwards => (),
            AccessOrder::Backwards => numbers.reverse(),
            AccessOrder::Shuffled(seed) => fastrand::Rng::with_seed(seed).shuffle(&mut numbers),
            AccessOrder::Batch => return video.frames(&numbers).for_each(|(number, frame)| each(number, frame)),
            AccessOrder::Play => {
                // If the decode fails as a whole, all frames count as omitted.
                let _ = video.play(&mut |frame| {
                    each(frame.index, Ok(frame));
                    ControlFlow::Continue(())
                });
                return;
            }
        }
        numbers.into_iter().for_each(|number| each(number, video.frame(number)));
    }

    /// The observation of every frame of the video; the index is the frame number.
    pub fn observe(self, video: &Video) -> Vec<FrameObservation> {
        let mut observations = vec![FrameObservation::LeftOut; video.frame_count()];
        self.frames(video, |number, frame| observations[number as usize] = FrameObservation::of(frame));
        observations
    }
}

/// An engine with this many threads, and by default with the default checkpoint memory.
pub fn engine(threads: usize, checkpoint_memory: Option<u64>) -> Engine {
    let builder = Engine::builder().threads(threads).pin_threads(false);
    checkpoint_memory.map_or(builder.clone(), |bytes| builder.checkpoint_memory(bytes)).build()
}
