//! Are the frames the right ones? A benchmark of wrong frames is none.
//!
//! What is right is what a sequential decode from the first sample on shows at that place; where the video is so long
//! that this would take minutes, what a decode from the key frame gives. The MD5s are over planes, whatever the
//! benchmark makes of them.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use bucket_streamer::picture::raw;
use bucket_streamer::{Engine, Result, Video};

use super::stats::Answer;
use crate::cli::open_video;

/// Frames further on than this are not waited for.
const FAR: u32 = 20_000;

/// The right MD5 of each frame that is asked for; none of those that are damaged, or not shown at all.
pub(crate) type Reference = HashMap<u32, String>;

/// Where the video is, as it is opened.
pub(crate) type Place<'a> = (&'a str, usize, Option<&'a str>);

/// Decodes what is asked for.
///
/// # Errors
/// What makes the video unreadable.
pub(crate) fn reference(threads: Option<usize>, place: Place<'_>, frames: &[u32]) -> Result<Reference> {
    let wanted: BTreeSet<u32> = frames.iter().copied().collect();
    let mut builder = Engine::builder().checkpoint_memory(0);
    if let Some(threads) = threads {
        builder = builder.threads(threads);
    }
    let engine = builder.from_entry().build();
    let (location, track, index) = place;
    let video = open_video(&engine, location, track, index)?;
    let last = wanted.iter().rev().find(|&&frame| (frame as usize) < video.frame_count());
    match last {
        Some(&last) if last <= FAR => played(&video, &wanted, last),
        _ => Ok(from_key(&video, &wanted)),
    }
}

fn played(video: &Video, wanted: &BTreeSet<u32>, last: u32) -> Result<Reference> {
    let mut sums = Reference::new();
    video.play(&mut |frame| {
        if wanted.contains(&frame.index) && !frame.is_corrupt() {
            sums.insert(frame.index, raw::hex(&raw::md5(&frame.picture)));
        }
        if frame.index < last { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(sums)
}

fn from_key(video: &Video, wanted: &BTreeSet<u32>) -> Reference {
    let wanted: Vec<u32> = wanted.iter().copied().collect();
    let sound = |(index, frame): (u32, Result<bucket_streamer::VideoFrame>)| {
        let frame = frame.ok().filter(|frame| !frame.is_corrupt())?;
        Some((index, raw::hex(&raw::md5(&frame.picture))))
    };
    video.frames(&wanted).filter_map(sound).collect()
}

/// Is this another frame than the one asked for? `None` where nobody knows.
pub(crate) fn is_wrong(reference: &Reference, answer: &Answer) -> Option<bool> {
    Some(reference.get(&answer.index)? != answer.md5.as_ref()?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bucket_streamer::Engine;

    use super::{Answer, from_key, is_wrong, played, reference};

    const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/hevc_open_gop.mp4");

    #[test]
    fn what_is_far_into_a_video_has_the_same_reference() {
        let video = Engine::new(Some(1)).open_path(CLIP).expect("a clip");
        let wanted: BTreeSet<u32> = [3, 47, 48, 49, 60].into();
        let near = played(&video, &wanted, 60).expect("to play");
        assert_eq!((near.len(), &near), (5, &from_key(&video, &wanted)));
        assert_eq!(near, reference(Some(1), (CLIP, 0, None), &[60, 49, 3, 48, 47, 3]).expect("a reference"));
    }

    #[test]
    fn another_frame_is_wrong_and_of_one_that_is_not_there_nobody_knows() {
        let known = reference(Some(1), (CLIP, 0, None), &[3, 4, 9999]).expect("a reference");
        let came = |index, md5: Option<&String>| Answer { index, latency: None, error: None, md5: md5.cloned() };
        let verdict = |index, of: u32| is_wrong(&known, &came(index, known.get(&of)));
        assert_eq!([verdict(3, 3), verdict(3, 4), verdict(3, 9999)], [Some(false), Some(true), None]);
        assert_eq!(is_wrong(&known, &came(9999, known.get(&3))), None);
    }
}
