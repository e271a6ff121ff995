//! The prefetcher: recognises the access pattern of single frames (steps forwards or backwards, or jumps).
//!
//! A client that steps misses a few bytes at each step, and waits a round trip for them. So bytes ahead of it are
//! fetched before they are requested: more with each step, none for a client that jumps. Fetching is left to the
//! caller.

use std::sync::PoisonError;

use crate::container::Track;
use crate::source::ByteRange;
use crate::sync::unmodelled::Mutex;

/// The longest step in samples: one or two seconds of scrubbing.
const STEP: u32 = 48;
/// Samples are decoded in another order than shown: their distance may be this much longer than a step.
const REORDER: u32 = 16;
/// The first window of bytes to fetch ahead, and the largest one.
const FIRST: u64 = 64 << 10;
const MOST: u64 = 4 << 20;

/// The single-frame requests of a video so far.
#[derive(Debug, Default)]
pub(crate) struct AccessPattern {
    state: Mutex<Steps>,
}

#[derive(Debug, Default)]
struct Steps {
    /// Sample and frame of the last request.
    last: Option<(u32, u32)>,
    /// Steps in a row: positive forwards, negative backwards.
    run: i32,
    /// Forwards: the end of the bytes that were fetched ahead. Backwards: their start.
    ahead: u64,
    window: u64,
}

impl AccessPattern {
    /// Records a request for the frame `frame` of `sample`, whose run begins at `entry`, and returns the range to fetch
    /// ahead. `sync` returns the last sync sample up to a sample.
    pub(crate) fn note(
        &self,
        track: &Track,
        (sample, frame): (u32, u32),
        start: u32,
        sync: impl Fn(u32) -> Option<u32>,
    ) -> Option<ByteRange> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, frame_before) = state.last.replace((sample, frame))?;
        let is_near = sample.abs_diff(before) <= STEP + REORDER && frame.abs_diff(frame_before) <= STEP;
        state.run = match frame.cmp(&frame_before) {
            std::cmp::Ordering::Greater if is_near => state.run.max(0) + 1,
            std::cmp::Ordering::Less if is_near => state.run.min(0) - 1,
            std::cmp::Ordering::Equal => return None,
            _ => 0,
        };
        match state.run {
            0 => {
                (state.ahead, state.window) = (0, FIRST);
                None
            }
            1.. => state.forwards(track, sample),
            // A whole GOP is fetched backwards: one step back does not justify it.
            -1 => None,
            _ => state.backwards(track, sample, start, sync),
        }
    }
}

impl Steps {
    /// The next window, once half of the last one is used.
    fn forwards(&mut self, track: &Track, sample: u32) -> Option<ByteRange> {
        let end = track.extent(sample)?.end();
        let window = self.window.clamp(FIRST, MOST);
        if self.ahead > end + window / 2 && self.ahead <= end + 2 * MOST {
            return None;
        }
        let start = if self.ahead <= end + 2 * MOST { self.ahead.max(end) } else { end };
        self.window = (2 * window).min(MOST);
        self.ahead = end + window;
        (start < self.ahead).then(|| ByteRange { start, len: self.ahead - start })
    }

    /// The GOP before this one: a step into it needs all of it.
    fn backwards(
        &mut self,
        track: &Track,
        sample: u32,
        start: u32,
        sync: impl Fn(u32) -> Option<u32>,
    ) -> Option<ByteRange> {
        if sample.saturating_sub(start) > STEP {
            return None;
        }
        let (from, to) = (track.extent(sync(start.checked_sub(1)?)?)?, track.extent(start - 1)?);
        let range = ByteRange { start: from.start, len: to.end().checked_sub(from.start)? };
        if range.len > MOST || self.ahead == range.start {
            return None;
        }
        self.ahead = range.start;
        Some(range)
    }
}
