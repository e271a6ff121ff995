//! Errors with coordinates: which source, frame, sample and byte, and what was expected there.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

mod refusal;

pub use refusal::Refusal;

/// Short for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, and where. One line when shown, with the cause in it: [`std::error::Error::source`] is what lies beneath that
/// cause.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    source: Option<Arc<str>>,
    frame: Option<u64>,
    sample: Option<u32>,
    offset: Option<u64>,
}

/// What went wrong.
///
/// The line that a kind shows contains the cause that it holds. [`std::error::Error::source`] is therefore what lies beneath that
/// cause, so that a chain of causes has each text once.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The source could not be opened or read.
    #[error(transparent)]
    Read(io::Error),
    /// A server did not give what was asked for.
    #[error(transparent)]
    Remote(Refusal),
    /// Opening took longer than the engine allows ([`EngineBuilder::open_timeout`](crate::EngineBuilder::open_timeout)).
    #[error("opening took longer than {timeout:?}: its bytes come too slowly (--open-timeout)")]
    OpenTimeout {
        /// The limit.
        timeout: Duration,
    },
    /// Opening was given up: nothing waits for its result any more.
    #[error("opening was cancelled")]
    OpenCancelled,
    /// It was made before `fork`, by the parent of this process. Its threads are not here, and its locks may be held for ever.
    #[error("it was opened before fork(): open it anew in this process (Engine::reopen, Video::reopen_in)")]
    Forked,
    /// The source is no longer what was opened: cut, grown, or written to.
    #[error("the file changed while it was being read")]
    Changed,
    /// A sample lies, in part or whole, past the end of the source.
    #[error("the file ends at byte {length}, the sample at byte {end}: the file is truncated")]
    PastEnd {
        /// Length of the source in bytes.
        length: u64,
        /// End of the sample.
        end: u64,
    },
    /// Nothing that could be a video has that name where it was looked for, or nothing could have such a name.
    #[error("there is no such video")]
    NoSuchVideo,
    /// No container that can be read, or a broken one.
    #[error("not a video that can be read ({0})")]
    NotAVideo(String),
    /// A container without any video track.
    #[error("no video track")]
    NoVideoTrack,
    /// The wanted video track is not there.
    #[error("no video track {wanted}: there are {available}, counted from 0")]
    NoSuchTrack {
        /// What was asked for.
        wanted: usize,
        /// How many there are.
        available: usize,
    },
    /// A track without a single picture that could be shown.
    #[error("the video track has no frames")]
    NoFrames,
    /// The samples are encrypted.
    #[error("the video track is encrypted")]
    Encrypted,
    /// No decoder for the codec.
    #[error("no decoder for {0}: this build decodes H.265, H.264, VP9 and AV1")]
    UnsupportedCodec(&'static str),
    /// The decoder could not be opened.
    #[error("the decoder could not be opened: {0}")]
    Decoder(ffi::AvError),
    /// More samples than a file of that size has.
    #[error("the video track has {samples} samples or more, above the {limit} that a file of this size may have")]
    TooManySamples {
        /// How many there are.
        samples: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A GPU that was asked for cannot be had.
    #[error("no NVDEC: {0}")]
    Device(String),
    /// A frame was asked for in a GPU's memory and was not decoded there.
    #[error("this frame cannot be decoded on the GPU")]
    NotOnDevice,
    /// More than the index may hold in memory.
    #[error("the index would need more than {limit} bytes of memory for samples that cannot be read in place")]
    IndexBudget {
        /// The budget in bytes.
        limit: u64,
    },
    /// The tables of a file, and what is made of them, would take more memory than an opening may
    /// ([`EngineBuilder::index_memory`](crate::EngineBuilder::index_memory)).
    #[error("its index would take more than {limit} bytes of memory (--index-memory)")]
    IndexTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The tables of a file are far more work to read than its length explains.
    #[error("its index would take too much work: {0}")]
    IndexTooCostly(&'static str),
    /// Other videos that are being opened have the memory that this one needs. It may be there later.
    #[error("its index is large, and others are being opened that are: try again later")]
    IndexBusy,
    /// An index file that is damaged, of another version, or of another video.
    #[error("this index cannot be used: {0}")]
    BadIndex(String),
    /// A frame number past the last.
    #[error("there is no such frame: the video has {frames}, counted from 0")]
    NoSuchFrame {
        /// Number of frames.
        frames: usize,
    },
    /// A time past the end of the last frame.
    #[error("{time_s} s is past the end of the video at {end_s} s")]
    PastEndOfVideo {
        /// The time asked for.
        time_s: f64,
        /// When the last frame goes.
        end_s: f64,
    },
    /// A sequential decode does not show this sample: a leading picture whose references come before the first key
    /// frame, or a picture that says of itself that it is not for output.
    #[error(
        "a sequential decode does not show it (its references lie before the first key frame, or it is not for output)"
    )]
    NotShown,
    /// The decoder rejected the sample, or one that it refers to.
    #[error("damaged: {0}")]
    Damaged(ffi::AvError),
    /// The picture can be decoded in part, or refers to one that can, and the request refuses such pictures
    /// ([`OnDamage::Error`](crate::OnDamage::Error)).
    #[error("the picture is damaged, or refers to a damaged one")]
    Corrupt,
    /// A picture has more pixels than the engine allows ([`EngineBuilder::max_pixels`](crate::EngineBuilder::max_pixels)).
    #[error("pictures of {width}x{height} are above the limit of {limit} pixels (--max-pixels)")]
    TooManyPixels {
        /// Width in pixels that the stream claims.
        width: usize,
        /// Height in pixels that the stream claims.
        height: usize,
        /// Pixels that a picture may have.
        limit: u64,
    },
    /// The pictures that it takes to decode a frame need more memory than the engine's budget for pictures leaves one decode run
    /// ([`EngineBuilder::picture_memory`](crate::EngineBuilder::picture_memory)), and are damaged, or those of a file that is being
    /// opened: only intact pictures may exceed it, one decode run at a time.
    #[error(
        "its pictures need {needed} bytes of memory, above the {limit} that a decode run may use (--picture-memory)"
    )]
    PictureMemory {
        /// Bytes that would have been in use at the same time.
        needed: u64,
        /// Bytes that one decode run may use.
        limit: u64,
    },
    /// A sample that it refers to could not be read.
    #[error("needs a sample that could not be read: {0}")]
    NeedsUnreadable(String),
    /// A place that this build cannot read from.
    #[error("this build reads no {0}:// addresses (docs/remote.md has those that there are)")]
    UnsupportedScheme(String),
    /// The picture could not be turned into a still.
    #[error("{0}")]
    Still(String),
    /// A result could not be written.
    #[error("{path}: {error}")]
    Write {
        /// Where to.
        path: String,
        /// What the system says.
        error: io::Error,
    },
}

impl Error {
    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Names the source.
    pub fn of(mut self, source: &str) -> Error {
        self.0.source.get_or_insert_with(|| source.into());
        self
    }

    /// Names the frame.
    pub fn at_frame(mut self, frame: impl TryInto<u64>) -> Error {
        self.0.frame = self.0.frame.or(frame.try_into().ok());
        self
    }

    /// Names the sample and where it begins.
    pub fn at_sample(mut self, sample: u32, offset: Option<u64>) -> Error {
        self.0.sample = self.0.sample.or(Some(sample));
        self.0.offset = self.0.offset.or(offset);
        self
    }

    /// The name of the source that it happened in: a path, or an address without credentials.
    pub fn source_name(&self) -> Option<&str> {
        self.0.source.as_deref()
    }

    /// The frame that it happened at, counted from 0 in presentation order.
    pub fn frame(&self) -> Option<u64> {
        self.0.frame
    }

    /// The sample that it happened at, counted from 0 in decode order.
    pub fn sample(&self) -> Option<u32> {
        self.0.sample
    }

    /// The byte in the source where that sample begins.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// True if the video as a whole cannot be read, rather than one frame of it.
    pub fn is_unreadable_video(&self) -> bool {
        use ErrorKind::{
            BadIndex, Decoder, Encrypted, IndexBudget, IndexBusy, IndexTooCostly, IndexTooLarge, NoFrames, NoSuchTrack,
            NoSuchVideo, NoVideoTrack, NotAVideo, OpenCancelled, OpenTimeout, PictureMemory, Read, Remote,
            TooManyPixels, TooManySamples, UnsupportedCodec, UnsupportedScheme,
        };
        matches!(
            self.kind(),
            Read(_)
                | Remote(_)
                | OpenTimeout { .. }
                | OpenCancelled
                | NoSuchVideo
                | NotAVideo(_)
                | NoVideoTrack
                | NoSuchTrack { .. }
                | NoFrames
                | Encrypted
                | UnsupportedCodec(_)
                | Decoder(_)
                | BadIndex(_)
                | IndexBudget { .. }
                | PictureMemory { .. }
                | IndexBusy
                | IndexTooCostly(_)
                | IndexTooLarge { .. }
                | TooManyPixels { .. }
                | TooManySamples { .. }
                | UnsupportedScheme(_)
        )
    }

    /// What happened, without where.
    pub fn message(&self) -> String {
        self.0.kind.to_string()
    }
}

impl ErrorKind {
    /// The same once more, for another frame that fails of it; `None` of those that hold what cannot be copied.
    pub(crate) fn repeated(&self) -> Option<ErrorKind> {
        Some(match self {
            ErrorKind::Remote(refusal) => ErrorKind::Remote(refusal.clone()),
            ErrorKind::Forked => ErrorKind::Forked,
            ErrorKind::Changed => ErrorKind::Changed,
            &ErrorKind::PastEnd { length, end } => ErrorKind::PastEnd { length, end },
            &ErrorKind::Decoder(error) => ErrorKind::Decoder(error),
            &ErrorKind::Damaged(error) => ErrorKind::Damaged(error),
            ErrorKind::Corrupt => ErrorKind::Corrupt,
            ErrorKind::Device(text) => ErrorKind::Device(text.clone()),
            ErrorKind::NotOnDevice => ErrorKind::NotOnDevice,
            &ErrorKind::TooManyPixels { width, height, limit } => ErrorKind::TooManyPixels { width, height, limit },
            &ErrorKind::PictureMemory { needed, limit } => ErrorKind::PictureMemory { needed, limit },
            ErrorKind::NeedsUnreadable(text) => ErrorKind::NeedsUnreadable(text.clone()),
            _ => return None,
        })
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Error {
        Error(Box::new(Inner { kind, source: None, frame: None, sample: None, offset: None }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if let Some(source) = &inner.source {
            write!(f, "{source}: ")?;
        }
        if let Some(frame) = inner.frame {
            write!(f, "frame {frame}: ")?;
        }
        write!(f, "{}", inner.kind)?;
        match (inner.sample, inner.offset) {
            (Some(sample), Some(offset)) => write!(f, " (sample {sample} at byte {offset})"),
            (Some(sample), None) => write!(f, " (sample {sample})"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.kind {
            // Shown by the kind beside the path.
            ErrorKind::Write { error, .. } => error.source(),
            kind => std::error::Error::source(kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as StdError;
    use std::io;
    use std::time::Duration;

    use super::{Error, ErrorKind, Refusal};

    #[test]
    fn an_error_is_one_line_with_its_coordinates() {
        let error = Error::from(ErrorKind::PastEnd { length: 10, end: 30 })
            .at_sample(7, Some(20))
            .at_frame(5_u64)
            .of("cam.mp4");
        let line = error.to_string();
        assert_eq!(
            line,
            "cam.mp4: frame 5: the file ends at byte 10, the sample at byte 30: the file is truncated (sample 7 at byte 20)"
        );
        assert_eq!(
            (error.source_name(), error.frame(), error.sample(), error.offset()),
            (Some("cam.mp4"), Some(5), Some(7), Some(20))
        );
        assert_eq!(error.of("other").to_string(), line, "the first name given stays");
    }

    /// A cause with another beneath it.
    #[derive(Debug, thiserror::Error)]
    #[error("the upper cause")]
    struct Upper(#[source] Lower);

    #[derive(Debug, thiserror::Error)]
    #[error("the lower cause")]
    struct Lower;

    /// An I/O error as libraries make them: of an error that has a cause of its own.
    fn layered() -> io::Error {
        io::Error::other(Upper(Lower))
    }

    /// One of each kind. A new kind has to be added: `is_listed` does not compile without it.
    fn kinds() -> Vec<ErrorKind> {
        let text = || "some text".to_owned();
        vec![
            ErrorKind::Read(layered()),
            ErrorKind::Read(io::Error::from_raw_os_error(5)),
            // As a demuxer passes on what a source says.
            ErrorKind::Read(io::Error::other(Error::from(ErrorKind::Read(layered())).of("cam.mp4"))),
            ErrorKind::Remote(Refusal::Connection(text())),
            ErrorKind::OpenTimeout { timeout: Duration::from_secs(1) },
            ErrorKind::OpenCancelled,
            ErrorKind::Changed,
            ErrorKind::PastEnd { length: 1, end: 2 },
            ErrorKind::NoSuchVideo,
            ErrorKind::NotAVideo(text()),
            ErrorKind::NoVideoTrack,
            ErrorKind::NoSuchTrack { wanted: 1, available: 0 },
            ErrorKind::NoFrames,
            ErrorKind::Encrypted,
            ErrorKind::UnsupportedCodec("theora"),
            ErrorKind::Decoder(ffi::AvError::INVALID_DATA),
            ErrorKind::TooManySamples { samples: 2, limit: 1 },
            ErrorKind::Device(text()),
            ErrorKind::NotOnDevice,
            ErrorKind::IndexBudget { limit: 1 },
            ErrorKind::IndexTooLarge { limit: 1 },
            ErrorKind::IndexTooCostly("too many boxes"),
            ErrorKind::IndexBusy,
            ErrorKind::BadIndex(text()),
            ErrorKind::NoSuchFrame { frames: 1 },
            ErrorKind::PastEndOfVideo { time_s: 2.0, end_s: 1.0 },
            ErrorKind::NotShown,
            ErrorKind::Damaged(ffi::AvError::INVALID_DATA),
            ErrorKind::Corrupt,
            ErrorKind::TooManyPixels { width: 1, height: 1, limit: 0 },
            ErrorKind::PictureMemory { needed: 2, limit: 1 },
            ErrorKind::NeedsUnreadable(text()),
            ErrorKind::UnsupportedScheme("ftp".into()),
            ErrorKind::Still(text()),
            ErrorKind::Forked,
            ErrorKind::Write { path: "a.jpg".into(), error: layered() },
        ]
    }

    /// Where a kind stands among [`kinds`]: only the compiler reads it, to ask for kinds that are not there.
    fn is_listed(kind: &ErrorKind) -> bool {
        use ErrorKind as K;
        match kind {
            K::Read(_) | K::Remote(_) | K::OpenTimeout { .. } | K::OpenCancelled | K::Changed | K::PastEnd { .. } => {
                true
            }
            K::NoSuchVideo | K::NotAVideo(_) | K::NoVideoTrack | K::NoSuchTrack { .. } | K::NoFrames => true,
            K::Encrypted | K::UnsupportedCodec(_) | K::Decoder(_) | K::TooManySamples { .. } | K::Device(_) => true,
            K::NotOnDevice | K::IndexBudget { .. } | K::IndexTooLarge { .. } | K::IndexTooCostly(_) => true,
            K::IndexBusy | K::BadIndex(_) | K::NoSuchFrame { .. } | K::PastEndOfVideo { .. } | K::NotShown => true,
            K::Damaged(_) | K::Corrupt | K::TooManyPixels { .. } | K::PictureMemory { .. } => true,
            K::NeedsUnreadable(_) | K::UnsupportedScheme(_) | K::Still(_) | K::Write { .. } | K::Forked => true,
        }
    }

    fn chain(error: &(dyn StdError + 'static)) -> Vec<String> {
        std::iter::successors(Some(error), |error| (*error).source()).map(ToString::to_string).collect()
    }

    #[test]
    fn a_chain_of_causes_has_each_text_once() {
        for kind in kinds() {
            assert!(is_listed(&kind));
            let of_kind = chain(&kind);
            let error = Error::from(kind).of("cam.mp4").at_frame(5_u64).at_sample(7, Some(20));
            for texts in [of_kind, chain(&error)] {
                for (place, text) in texts.iter().enumerate() {
                    assert!(!text.is_empty());
                    let above = &texts[..place];
                    assert!(!above.iter().any(|above| above.contains(text.as_str())), "{texts:#?}");
                }
            }
        }
    }

    #[test]
    fn no_cause_is_missing_from_a_chain() {
        let read = Error::from(ErrorKind::Read(layered())).of("cam.mp4");
        assert_eq!(chain(&read), ["cam.mp4: the upper cause", "the lower cause"]);
        let write = Error::from(ErrorKind::Write { path: "a.jpg".into(), error: layered() });
        assert_eq!(chain(&write), ["a.jpg: the upper cause", "the lower cause"]);
        let passed_on = Error::from(ErrorKind::Read(io::Error::other(read)));
        assert_eq!(chain(&passed_on), ["cam.mp4: the upper cause", "the lower cause"]);
    }
}
