//! The processing of a decoded frame: none, a still in memory, or its MD5.

use bucket_streamer::still::{StillMaker, StillOptions, raw};
use bucket_streamer::{Frame, Result};

use super::args::Output;

/// The default quality of `extract`.
const QUALITY: u8 = 85;

/// The kind of processing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Planes,
    Jpeg,
    Md5,
}

impl From<Output> for What {
    fn from(output: Output) -> What {
        match output {
            Output::Planes => What::Planes,
            Output::Jpeg => What::Jpeg,
        }
    }
}

/// One thread's state for processing.
pub(crate) enum Make {
    Planes,
    Jpeg(Box<StillMaker>, Vec<u8>),
    Md5,
}

impl Make {
    /// # Errors
    /// No memory.
    pub(crate) fn new(what: What) -> Result<Make> {
        Ok(match what {
            What::Planes => Make::Planes,
            What::Jpeg => Make::Jpeg(Box::new(StillMaker::new()?), Vec::new()),
            What::Md5 => Make::Md5,
        })
    }

    /// Processes a picture. Returns the MD5, if that is the kind.
    ///
    /// # Errors
    /// The picture cannot be made into a still.
    pub(crate) fn make(&mut self, picture: &Frame) -> Result<Option<String>> {
        match self {
            Make::Planes => Ok(None),
            Make::Jpeg(jpeg, bytes) => {
                jpeg.encode(picture, &StillOptions { quality: QUALITY, ..StillOptions::default() }, bytes)?;
                Ok(None)
            }
            Make::Md5 => Ok(Some(raw::hex(&raw::md5(picture)))),
        }
    }
}
