//! Times of frames: parsing, conversion between ticks and seconds, and the frame shown at a time.

use crate::container::Track;
use crate::error::{ErrorKind, Result};

/// A time in nanoseconds, relative to the presentation of the first frame. Negative times are before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub i64);

const SECOND: i128 = 1_000_000_000;

/// Times that differ by less (in nanoseconds) are equal: a user's `0.033333` means the frame at 1/30 s.
const TOLERANCE: i128 = 1_000;

impl Nanos {
    /// The time in seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

/// Presentation times of all frames. Time 0 is the first frame's.
#[derive(Debug)]
pub struct Timeline {
    /// Presentation times in ticks, by frame.
    pts: Vec<i64>,
    /// The end of the last frame, in ticks.
    end_pts: i64,
    time_base: (i128, i128),
}

impl Timeline {
    pub(crate) fn of(track: &Track) -> Timeline {
        let samples = &track.samples;
        let mut pts: Vec<i64> = track.frames.iter().map(|&sample| samples[sample as usize].pts).collect();
        // Frames ordered by their pictures may have decreasing times: such a frame gets the time of the one before it.
        let mut latest = i64::MIN;
        pts.iter_mut().for_each(|pts| {
            latest = latest.max(*pts);
            *pts = latest;
        });
        let last_duration = track.frames.last().map_or(0, |&last| samples[last as usize].duration);
        Timeline::new(pts, last_duration, track.time_base)
    }

    fn new(pts: Vec<i64>, last_duration: i64, time_base: (i32, i32)) -> Timeline {
        let last = pts.last().copied().unwrap_or(0);
        // Without a duration the last frame lasts as long as the one before it.
        let before = pts.len().checked_sub(2).map_or(1, |at| last.saturating_sub(pts[at]).max(1));
        let duration = if last_duration > 0 { last_duration } else { before };
        Timeline {
            end_pts: last.saturating_add(duration),
            pts,
            time_base: (i128::from(time_base.0), i128::from(time_base.1)),
        }
    }

    /// Presentation time of the first frame, in ticks.
    pub fn start_pts(&self) -> i64 {
        self.pts.first().copied().unwrap_or(0)
    }

    fn nanos(&self, pts: i64) -> i128 {
        let ticks = i128::from(pts) - i128::from(self.start_pts());
        ticks * self.time_base.0 * SECOND / self.time_base.1
    }

    /// Seconds from the first frame to `pts`.
    pub fn seconds(&self, pts: i64) -> f64 {
        let ticks = i128::from(pts) - i128::from(self.start_pts());
        (ticks * self.time_base.0) as f64 / self.time_base.1 as f64
    }

    /// Seconds from the first frame to the end of the last.
    pub fn duration_s(&self) -> f64 {
        self.seconds(self.end_pts)
    }

    /// The frame shown at `time`: the last one that has begun, with a tolerance of a microsecond. A time before the
    /// first frame gives the first. With `clamp`, a time past the end gives the last.
    ///
    /// # Errors
    /// `PastEndOfVideo` without `clamp` for a time at or past the end of the last frame.
    pub fn frame_at(&self, time: Nanos, clamp: bool) -> Result<u32> {
        let requested = i128::from(time.0);
        if requested + TOLERANCE >= self.nanos(self.end_pts) && !clamp {
            let kind = ErrorKind::PastEndOfVideo { time_s: time.as_secs_f64(), end_s: self.duration_s() };
            return Err(kind.into());
        }
        let begun = self.pts.partition_point(|&pts| self.nanos(pts) <= requested + TOLERANCE);
        Ok(begun.saturating_sub(1) as u32)
    }

    /// True if frames are not evenly spaced: the least and the greatest distance differ by more than the tick that
    /// rounding explains.
    pub fn is_variable(&self) -> bool {
        let distances = || self.pts.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        match (distances().min(), distances().max()) {
            (Some(least), Some(most)) => most.saturating_sub(least) > 1,
            _ => false,
        }
    }
}

/// Parses a time: seconds (`12.5`), clock (`0:12.5`, `1:02:03`), or units (`5m2s`, `1h`, `250ms`).
///
/// # Errors
/// A message of one line, if the text is not a time, or exceeds 64 bits of nanoseconds (292 years).
pub fn parse(text: &str) -> std::result::Result<Nanos, String> {
    let fail = || format!("`{text}` is not a time: write seconds (12.5), a clock time (0:12.5) or units (1m2.5s)");
    if text.contains(':') {
        let parts: Vec<&str> = text.split(':').collect();
        let (seconds, rest) = parts.split_last().ok_or_else(fail)?;
        let minutes_fit = rest.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
        if rest.len() > 2 || !minutes_fit {
            return Err(fail());
        }
        let seconds = decimal(seconds).ok_or_else(fail)?;
        let whole = rest.iter().try_fold(0_i64, |sum, part| sum.checked_mul(60)?.checked_add(part.parse().ok()?));
        return whole.and_then(|minutes| nanos(minutes, 60)?.checked_add(seconds)).map(Nanos).ok_or_else(fail);
    }
    if let Some(plain) = decimal(text) {
        return Ok(Nanos(plain));
    }
    let (mut rest, mut sum) = (text, 0_i64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(fail)?;
        let number = decimal(&rest[..digits]).ok_or_else(fail)?;
        let unit_len = rest[digits..].find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len() - digits);
        let (unit, after) = rest[digits..].split_at(unit_len);
        let scaled = match unit {
            "h" => number.checked_mul(3600),
            "m" | "min" => number.checked_mul(60),
            "s" => Some(number),
            "ms" => Some(number / 1000),
            _ => None,
        };
        sum = scaled.and_then(|scaled| sum.checked_add(scaled)).ok_or_else(fail)?;
        rest = after;
    }
    if text.is_empty() { Err(fail()) } else { Ok(Nanos(sum)) }
}

fn nanos(value: i64, seconds: i64) -> Option<i64> {
    value.checked_mul(seconds)?.checked_mul(1_000_000_000)
}

/// A decimal number of seconds, in nanoseconds.
fn decimal(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: i64 = format!("{:0<9}", &fraction[..fraction.len().min(9)]).parse().ok()?;
    nanos(whole, 1)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::{Nanos, Timeline, parse};

    #[test]
    fn times_in_every_notation() {
        let ms = |text: &str| parse(text).map(|time| time.0 as f64 / 1e6);
        for (text, expected) in [
            ("1.5", 1500.0),
            ("0", 0.0),
            (".25", 250.0),
            ("0:02.25", 2250.0),
            ("1:00:00", 3_600_000.0),
            ("5m2s", 302_000.0),
            ("1h", 3_600_000.0),
            ("1m2.5s", 62_500.0),
            ("250ms", 250.0),
        ] {
            assert_eq!(ms(text), Ok(expected), "{text}");
        }
        for text in ["", "-1", "x", "1:2:3:4", "1:", ":1x", "1.2.3", "5q", "s", "1e3", "99999999999999", "1:-2"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_frame_at_a_time_is_the_last_one_that_has_begun() {
        let timeline = Timeline::new(vec![90, 93, 96, 105], 3, (1, 90));
        let at = |seconds: f64| timeline.frame_at(Nanos((seconds * 1e9) as i64), false).ok();
        assert_eq!(at(0.0), Some(0));
        assert_eq!(at(0.0333), Some(0));
        assert_eq!(at(0.033_333_3), Some(1), "rounded down by the user");
        assert_eq!(at(0.1), Some(2), "a gap shows the frame before it");
        assert_eq!(at(0.19), Some(3));
        assert_eq!(at(0.2), None, "the end is past the last frame");
        assert_eq!(timeline.frame_at(Nanos(i64::MAX), true).unwrap(), 3);
        assert!(timeline.is_variable());
        assert!((timeline.duration_s() - 0.2).abs() < 1e-12);
    }
}
