//! The access pattern of single frames: step by step forwards or backwards, or here and there.
//!
//! A caller that steps finds a few bytes missing at each step, and waits a round trip for them. So what lies ahead is fetched
//! before it is asked for: more and more of it while the steps go on, nothing for a caller that jumps.

use std::sync::{Mutex, PoisonError};

use crate::container::Track;
use crate::source::ByteRange;

/// The longest step, in samples: a second or two of scrubbing.
const STEP: u32 = 48;
/// Steps back within this are none: samples are decoded in another order than shown.
const REORDER: u32 = 16;
/// What is fetched ahead at first, and at most, in bytes.
const FIRST: u64 = 64 << 10;
const MOST: u64 = 4 << 20;

/// The single requests of a video so far.
#[derive(Debug, Default)]
pub(crate) struct AccessPattern {
    state: Mutex<Steps>,
}

#[derive(Debug, Default)]
struct Steps {
    /// Sample and frame that were asked for last.
    last: Option<(u32, u32)>,
    /// Steps in a row: forwards above zero, backwards below.
    run: i32,
    /// Up to here, or down to here, all is fetched or asked for.
    ahead: u64,
    window: u64,
}

impl AccessPattern {
    /// Takes note of a request for the frame `frame` of `sample`, which needs nothing before the sample `entry`; what is
    /// worth fetching ahead of the next one. `sync` gives the sync sample before another.
    pub(crate) fn note(
        &self,
        track: &Track,
        (sample, frame): (u32, u32),
        entry: u32,
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
            // A GOP is much: one step back is none yet.
            -1 => None,
            _ => state.backwards(track, sample, entry, sync),
        }
    }
}

impl Steps {
    /// More of what follows, once half of what was fetched is used up.
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

    /// The GOP before this one, since a step into it needs all of it.
    fn backwards(
        &mut self,
        track: &Track,
        sample: u32,
        entry: u32,
        sync: impl Fn(u32) -> Option<u32>,
    ) -> Option<ByteRange> {
        if sample.saturating_sub(entry) > STEP {
            return None;
        }
        let (from, to) = (track.extent(sync(entry.checked_sub(1)?)?)?, track.extent(entry - 1)?);
        let range = ByteRange { start: from.start, len: to.end().checked_sub(from.start)? };
        if range.len > MOST || self.ahead == range.start {
            return None;
        }
        self.ahead = range.start;
        Some(range)
    }
}
