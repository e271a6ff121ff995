//! Errors with coordinates: the source, frame, sample and byte offset at which they occurred.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

mod refusal;

pub use refusal::Refusal;

/// A `Result` with the error of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of an [`ErrorKind`], and where it occurred. `Display` is one line that includes the cause;
/// [`std::error::Error::source`] is therefore the cause of that cause.
#[derive(Debug)]
pub struct Error(Box<ErrorInner>);

#[derive(Debug)]
struct ErrorInner {
    kind: ErrorKind,
    source: Option<Arc<str>>,
    frame: Option<u64>,
    sample: Option<u32>,
    offset: Option<u64>,
}

/// The kinds of errors.
///
/// `Display` of a kind includes the error that it holds. [`std::error::Error::source`] is therefore the cause of that
/// error, so that a chain of causes has each text once.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The source could not be opened or read.
    #[error(transparent)]
    Read(io::Error),
    /// A server refused a request, or did not answer.
    #[error(transparent)]
    Remote(Refusal),
    /// Opening exceeded the limit of the engine ([`EngineBuilder::open_timeout`](crate::EngineBuilder::open_timeout)).
    #[error("opening took longer than {timeout:?}: its bytes arrive too slowly (--open-timeout)")]
    OpenTimeout {
        /// The limit.
        timeout: Duration,
    },
    /// The opening was cancelled by its caller ([`Opening::cancel`](crate::source::Opening::cancel)).
    #[error("opening was cancelled")]
    OpenCancelled,
    /// The engine, video or source was made before `fork`, by the parent of this process. Its threads do not exist
    /// here, and its locks may be held for ever.
    #[error("it was opened before fork(): open it anew in this process (Engine::reopen, Video::reopen_in)")]
    Forked,
    /// The source is no longer what was opened: cut, grown, overwritten or replaced.
    #[error("the file changed while it was being read")]
    Changed,
    /// A sample lies, in part or whole, past the end of the source.
    #[error("the file ends at byte {length}, the sample at byte {end}: the file is truncated")]
    PastEnd {
        /// Length of the source in bytes.
        length: u64,
        /// End of the sample, as a byte offset.
        end: u64,
    },
    /// No video has that name, or the name is not valid for a video.
    #[error("there is no such video")]
    NoSuchVideo,
    /// The container is of no known format, or broken.
    #[error("not a video that can be read ({0})")]
    NotAVideo(String),
    /// The container has no video track.
    #[error("no video track")]
    NoVideoTrack,
    /// The container has no video track of that number.
    #[error("no video track {wanted}: there are {available}, counted from 0")]
    NoSuchTrack {
        /// The requested track, counted from 0.
        wanted: usize,
        /// The number of video tracks.
        available: usize,
    },
    /// The track has no picture that could be shown.
    #[error("the video track has no frames")]
    NoFrames,
    /// The samples are encrypted.
    #[error("the video track is encrypted")]
    Encrypted,
    /// This build has no decoder for the codec.
    #[error("no decoder for {0}: this build decodes H.265, H.264, VP9 and AV1")]
    UnsupportedCodec(&'static str),
    /// The decoder could not be opened.
    #[error("the decoder could not be opened: {0}")]
    Decoder(ffi::AvError),
    /// The track has more samples than a file of that size can have.
    #[error("the video track has {samples} samples or more, above the {limit} that a file of this size may have")]
    TooManySamples {
        /// The number of samples found so far.
        samples: usize,
        /// The limit.
        limit: usize,
    },
    /// A GPU was demanded and is not available.
    #[error("no NVDEC: {0}")]
    Device(String),
    /// A frame was requested in GPU memory and cannot be decoded there.
    #[error("this frame cannot be decoded on the GPU")]
    NotOnDevice,
    /// Samples that have to be kept in memory exceed the memory of an index.
    #[error("the index would need more than {limit} bytes of memory for samples that cannot be read in place")]
    IndexBudget {
        /// The limit in bytes.
        limit: u64,
    },
    /// The tables of a file, and the index made of them, exceed the memory of an opening
    /// ([`EngineBuilder::index_memory`](crate::EngineBuilder::index_memory)).
    #[error("its index would take more than {limit} bytes of memory (--index-memory)")]
    IndexTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// Reading the tables of a file takes far more work than the file's length explains.
    #[error("its index would take too much work: {0}")]
    IndexTooCostly(&'static str),
    /// Concurrent openings use the memory that this one needs. A later attempt may succeed.
    #[error("its index is large, and concurrent openings use the memory: try again later")]
    IndexBusy,
    /// An index file that is damaged, of another version, or of another video.
    #[error("this index cannot be used: {0}")]
    BadIndex(String),
    /// A frame number past the last frame.
    #[error("there is no such frame: the video has {frames}, counted from 0")]
    NoSuchFrame {
        /// The number of frames.
        frames: usize,
    },
    /// A time past the end of the last frame.
    #[error("{time_s} s is past the end of the video at {end_s} s")]
    PastEndOfVideo {
        /// The requested time, in seconds.
        time_s: f64,
        /// The end of the last frame, in seconds.
        end_s: f64,
    },
    /// A sequential decode does not output this sample: a leading picture with references before the first key frame,
    /// or a picture that is not for output.
    #[error(
        "a sequential decode does not show it (its references lie before the first key frame, or it is not for output)"
    )]
    NotShown,
    /// The decoder rejected the sample, or one that it refers to.
    #[error("damaged: {0}")]
    Damaged(ffi::AvError),
    /// The picture decodes only in part, or refers to such a picture, and the request refuses damage
    /// ([`OnDamage::Error`](crate::OnDamage::Error)).
    #[error("the picture is damaged, or refers to a damaged one")]
    Corrupt,
    /// A picture has more pixels than the engine allows
    /// ([`EngineBuilder::max_pixels`](crate::EngineBuilder::max_pixels)).
    #[error("pictures of {width}x{height} are above the limit of {limit} pixels (--max-pixels)")]
    TooManyPixels {
        /// Width in pixels, from the stream.
        width: usize,
        /// Height in pixels, from the stream.
        height: usize,
        /// The limit in pixels.
        limit: u64,
    },
    /// Decoding the frame needs more picture memory than one decode run may use
    /// ([`EngineBuilder::picture_memory`](crate::EngineBuilder::picture_memory)), and its pictures are damaged or the
    /// file is being opened. Only intact pictures may exceed the budget, in one decode run at a time.
    #[error(
        "its pictures need {needed} bytes of memory, above the {limit} that a decode run may use (--picture-memory)"
    )]
    PictureMemory {
        /// Bytes needed at the same time.
        needed: u64,
        /// Bytes that one decode run may use.
        limit: u64,
    },
    /// A sample that the frame refers to could not be read.
    #[error("needs a sample that could not be read: {0}")]
    NeedsUnreadable(String),
    /// This build cannot read addresses of this scheme.
    #[error("this build reads no {0}:// addresses (docs/remote.md lists those that it reads)")]
    UnsupportedScheme(String),
    /// The picture could not be made into a still.
    #[error("{0}")]
    Still(String),
    /// A result could not be written.
    #[error("{path}: {error}")]
    Write {
        /// Path of the file.
        path: String,
        /// The system's error.
        error: io::Error,
    },
}

impl Error {
    /// The kind of the error.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Adds the name of the source, unless the error has one.
    pub fn of(mut self, source: &str) -> Error {
        self.0.source.get_or_insert_with(|| source.into());
        self
    }

    /// Adds the number of the frame, unless the error has one.
    pub fn at_frame(mut self, frame: impl TryInto<u64>) -> Error {
        self.0.frame = self.0.frame.or(frame.try_into().ok());
        self
    }

    /// Adds the number of the sample and the offset at which it begins, unless the error has them.
    pub fn at_sample(mut self, sample: u32, offset: Option<u64>) -> Error {
        self.0.sample = self.0.sample.or(Some(sample));
        self.0.offset = self.0.offset.or(offset);
        self
    }

    /// The name of the source: a path, or an address without credentials.
    pub fn source_name(&self) -> Option<&str> {
        self.0.source.as_deref()
    }

    /// The frame, counted from 0 in presentation order.
    pub fn frame(&self) -> Option<u64> {
        self.0.frame
    }

    /// The sample, counted from 0 in decode order.
    pub fn sample(&self) -> Option<u32> {
        self.0.sample
    }

    /// The byte offset at which the sample begins.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// True if the error concerns the whole video, not one of its frames.
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

    /// The text of the kind, without the coordinates.
    pub fn message(&self) -> String {
        self.0.kind.to_string()
    }
}

impl ErrorKind {
    /// The same error for another frame; `None` for kinds that hold an error that cannot be cloned.
    pub(crate) fn try_clone(&self) -> Option<ErrorKind> {
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
        Error(Box::new(ErrorInner { kind, source: None, frame: None, sample: None, offset: None }))
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
            // `Display` of the kind includes it, after the path.
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
        assert_eq!(error.of("other").to_string(), line, "the first name stays");
    }

    /// A cause with a cause of its own.
    #[derive(Debug, thiserror::Error)]
    #[error("the upper cause")]
    struct Upper(#[source] Lower);

    #[derive(Debug, thiserror::Error)]
    #[error("the lower cause")]
    struct Lower;

    /// An I/O error that wraps an error with a cause of its own, as libraries return them.
    fn layered() -> io::Error {
        io::Error::other(Upper(Lower))
    }

    /// One error of each kind. The exhaustive match in `is_listed` is a reminder to add new kinds here.
    fn kinds() -> Vec<ErrorKind> {
        let text = || "some text".to_owned();
        vec![
            ErrorKind::Read(layered()),
            ErrorKind::Read(io::Error::from_raw_os_error(5)),
            // As a demuxer passes on the error of a source.
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

    /// True for all [`kinds`]. Its exhaustive match does not compile without a new kind.
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
    fn a_cloned_kind_is_the_same_kind() {
        let (mut repeated, mut left) = (0, Vec::new());
        for kind in kinds() {
            match kind.try_clone() {
                Some(again) => {
                    repeated += 1;
                    assert_eq!(format!("{again:?}"), format!("{kind:?}"));
                }
                None => left.push(kind),
            }
        }
        assert!(repeated >= 12, "{repeated}");
        // Another frame of the file that changed is `Changed` too, not unreadable.
        assert!(!left.iter().any(|kind| matches!(kind, ErrorKind::Changed | ErrorKind::PictureMemory { .. })));
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
