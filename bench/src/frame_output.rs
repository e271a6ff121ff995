//! The processing of a decoded frame: none, a still in memory, or its MD5.

use bucket_streamer::still::{StillMaker, StillOptions, raw};
use bucket_streamer::{Frame, Result};

use super::args::Output;

/// The default quality of `extract`.
const QUALITY: u8 = 85;

/// The kind of processing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameOutput {
    Planes,
    Jpeg,
    Md5,
}

impl From<Output> for FrameOutput {
    fn from(output: Output) -> FrameOutput {
        match output {
            Output::Planes => FrameOutput::Planes,
            Output::Jpeg => FrameOutput::Jpeg,
        }
    }
}

/// One thread's state for processing.
pub(crate) enum FrameProcessor {
    Planes,
    Jpeg(Box<StillMaker>, Vec<u8>),
    Md5,
}

impl FrameProcessor {
    /// # Errors
    /// The allocation of the encoder failed.
    pub(crate) fn new(output: FrameOutput) -> Result<FrameProcessor> {
        Ok(match output {
            FrameOutput::Planes => FrameProcessor::Planes,
            FrameOutput::Jpeg => FrameProcessor::Jpeg(Box::new(StillMaker::new()?), Vec::new()),
            FrameOutput::Md5 => FrameProcessor::Md5,
        })
    }

    /// Processes a picture. Returns the MD5, if that is the kind.
    ///
    /// # Errors
    /// The picture cannot be made into a still.
    pub(crate) fn process(&mut self, picture: &Frame) -> Result<Option<String>> {
        match self {
            FrameProcessor::Planes => Ok(None),
            FrameProcessor::Jpeg(jpeg, bytes) => {
                jpeg.encode(picture, &StillOptions { quality: QUALITY, ..StillOptions::default() }, bytes)?;
                Ok(None)
            }
            FrameProcessor::Md5 => Ok(Some(raw::hex(&raw::md5(picture)))),
        }
    }
}
