//! Which frames were asked for, in the order in which they were.

use bucket_streamer::time::{self, Nanos};
use bucket_streamer::{Error, Video};

use super::args::ExtractArguments;

/// More than this many frames in one list is a typing error.
const LIMIT: usize = 10_000_000;

/// Frames by number or time, before the video is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Frames(Vec<u32>),
    Times(Vec<Nanos>),
    Every(Nanos),
    Count(u32),
    KeyFrames,
    All,
}

/// A frame that was asked for, or why there is none.
pub(crate) type Request = Result<u32, Error>;

impl Wanted {
    /// From the command line.
    pub(crate) fn from_arguments(arguments: &ExtractArguments) -> Result<Wanted, String> {
        if let Some(list) = &arguments.frames {
            return frame_list(list).map(Wanted::Frames);
        }
        if let Some(list) = &arguments.times {
            return list.split(',').map(|part| time::parse(part.trim())).collect::<Result<_, _>>().map(Wanted::Times);
        }
        if let Some(step) = &arguments.every {
            let step = time::parse(step)?;
            return if step.0 > 0 { Ok(Wanted::Every(step)) } else { Err("--every wants a time above 0".into()) };
        }
        Ok(match arguments.count {
            Some(count) => Wanted::Count(count),
            None if arguments.keyframes => Wanted::KeyFrames,
            None => Wanted::All,
        })
    }

    /// The frames of a video, in order.
    pub(crate) fn requests(&self, video: &Video, clamp: bool) -> Vec<Request> {
        let frames = video.frame_count() as u64;
        match self {
            Wanted::Frames(frames) => frames.iter().copied().map(Ok).collect(),
            Wanted::Times(times) => times.iter().map(|&time| video.index_at(time, clamp)).collect(),
            Wanted::Every(step) => (0..LIMIT as i64)
                .map_while(|index| video.timeline().frame_at(Nanos(index.checked_mul(step.0)?), false).ok())
                .map(Ok)
                .collect(),
            // floor((i + 0.5) * frames / N), in whole numbers.
            Wanted::Count(count) => {
                (0..u64::from(*count)).map(|i| Ok(((2 * i + 1) * frames / (2 * u64::from(*count))) as u32)).collect()
            }
            Wanted::KeyFrames => {
                let is_key = |frame: &u32| video.sample_of(*frame).is_some_and(|sample| sample.key);
                (0..frames as u32).filter(is_key).map(Ok).collect()
            }
            Wanted::All => (0..frames as u32).map(Ok).collect(),
        }
    }
}

/// Numbers and ranges, in their order.
pub(crate) fn frame_list(list: &str) -> Result<Vec<u32>, String> {
    let mut frames = Vec::new();
    for part in list.split(',').map(str::trim) {
        let fail = || format!("`{part}` is no frame number or range: give for example 0,10,20-30");
        let number = |text: &str| text.trim().parse::<u32>().map_err(|_| fail());
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(format!("the range {part} runs backwards"));
        }
        if frames.len() + (last - first) as usize >= LIMIT {
            return Err(format!("more than {LIMIT} frames asked for at once"));
        }
        frames.extend(first..=last);
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::frame_list;

    #[test]
    fn lists_keep_their_order_and_their_duplicates() {
        assert_eq!(frame_list("5,0-2, 5,7-7"), Ok(vec![5, 0, 1, 2, 5, 7]));
        for wrong in ["", "a", "1,", "-1", "3-1", "1-2-3", "0-99999999", "4294967296"] {
            assert!(frame_list(wrong).is_err(), "{wrong}");
        }
    }
}
