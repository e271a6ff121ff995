//! Frames in the order of the request, unlike [`results`](super::results), which returns them as they are decoded.

use std::collections::HashMap;

use crate::error::Result;
use crate::process::ProcessBound;
use crate::session::frame::VideoFrame;
use crate::session::results::Frames;
use crate::session::schedule;
use crate::session::shared::VideoState;

/// Frames in the order in which they were requested, duplicates included. It requests them in batches, so that at most
/// one batch is held in memory.
#[derive(Debug)]
pub struct OrderedFrames {
    video: ProcessBound<VideoState>,
    indices: Vec<u32>,
    next: usize,
    until: usize,
    frames: Option<Frames>,
    waiting: HashMap<u32, Result<VideoFrame>>,
}

/// Frames of a batch.
const BATCH: usize = 64;

impl OrderedFrames {
    pub(crate) fn of(video: ProcessBound<VideoState>, indices: Vec<u32>) -> OrderedFrames {
        OrderedFrames { video, indices, next: 0, until: 0, frames: None, waiting: HashMap::new() }
    }

    /// The result for a frame. A frame that the batch contains again stays; an error is repeated by a new request.
    fn keep_if_repeated(&mut self, index: u32, result: Result<VideoFrame>) -> Result<VideoFrame> {
        if let Ok(frame) = &result
            && self.indices[self.next..self.until].contains(&index)
        {
            self.waiting.insert(index, Ok(frame.clone()));
        }
        result
    }
}

impl Iterator for OrderedFrames {
    type Item = Result<VideoFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = *self.indices.get(self.next)?;
        if self.next == self.until {
            self.until = (self.next + BATCH).min(self.indices.len());
            self.waiting.clear();
            self.frames = Some(schedule::frames(self.video.arc(), &self.indices[self.next..self.until]));
        }
        self.next += 1;
        loop {
            if let Some(result) = self.waiting.remove(&index) {
                return Some(self.keep_if_repeated(index, result));
            }
            match self.frames.as_mut().and_then(Iterator::next) {
                Some((other, result)) => _ = self.waiting.insert(other, result),
                // A duplicate of a frame whose first result was an error.
                None => return Some(schedule::frame(self.video.arc(), index)),
            }
        }
    }
}
