//! The frames of a video as each kind of request returns them.

use std::fmt;
use std::ops::ControlFlow;

use bucket_streamer::still::raw;
use bucket_streamer::{Engine, Result, Video, VideoFrame};

/// The result of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A picture: MD5 of its planes, and the flag.
    Picture { md5: String, is_corrupt: bool },
    /// The error's message without its coordinates.
    Failed(String),
    /// Left out by a sequential decode.
    LeftOut,
}

impl Seen {
    fn of(result: Result<VideoFrame>) -> Seen {
        match result {
            Ok(frame) => Seen::picture(&frame),
            Err(error) => Seen::Failed(error.message()),
        }
    }

    fn picture(frame: &VideoFrame) -> Seen {
        Seen::Picture { md5: raw::hex(&raw::md5(&frame.picture)), is_corrupt: frame.is_corrupt() }
    }

    /// Whether another request's result agrees. A frame that a sequential decode leaves out is an error in other
    /// requests.
    pub fn agrees(&self, other: &Seen) -> bool {
        match (self, other) {
            (Seen::LeftOut, Seen::Failed(_)) | (Seen::Failed(_), Seen::LeftOut) => true,
            _ => self == other,
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seen::Picture { md5, is_corrupt: false } => f.write_str(&md5[..8]),
            Seen::Picture { md5, is_corrupt: true } => write!(f, "{} (corrupt)", &md5[..8]),
            Seen::Failed(message) => write!(f, "'{message}'"),
            Seen::LeftOut => f.write_str("nothing"),
        }
    }
}

/// A kind of request for all frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    Forwards,
    Backwards,
    /// One by one in an order from the seed.
    Shuffled(u64),
    Batch,
    Play,
}

impl Path {
    /// Calls `each` with every frame; for [`Path::Play`] with those that are shown.
    pub fn frames(self, video: &Video, mut each: impl FnMut(u32, Result<VideoFrame>)) {
        let mut numbers: Vec<u32> = (0..video.frame_count() as u32).collect();
        match self {
            Path::Forwards => (),
            Path::Backwards => numbers.reverse(),
            Path::Shuffled(seed) => fastrand::Rng::with_seed(seed).shuffle(&mut numbers),
            Path::Batch => return video.frames(&numbers).for_each(|(number, frame)| each(number, frame)),
            Path::Play => {
                // If it fails altogether, all frames are left out.
                let _ = video.play(&mut |frame| {
                    each(frame.index, Ok(frame));
                    ControlFlow::Continue(())
                });
                return;
            }
        }
        numbers.into_iter().for_each(|number| each(number, video.frame(number)));
    }

    /// All frames, by number.
    pub fn see(self, video: &Video) -> Vec<Seen> {
        let mut seen = vec![Seen::LeftOut; video.frame_count()];
        self.frames(video, |number, frame| seen[number as usize] = Seen::of(frame));
        seen
    }
}

/// An engine with this many threads, and by default with the default checkpoint memory.
pub fn engine(threads: usize, checkpoint_memory: Option<u64>) -> Engine {
    let builder = Engine::builder().threads(threads).pin_threads(false);
    checkpoint_memory.map_or(builder.clone(), |bytes| builder.checkpoint_memory(bytes)).build()
}
