//! Compares frames with a reference, because times of wrong frames have no meaning.
//!
//! The right frame is the one that a sequential decode from the first sample shows at this position. Far into a long
//! video, where that decode would take minutes, it is the one that a decode from the key frame shows. The MD5s are over
//! planes, for any measured output.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use bucket_streamer::still::raw;
use bucket_streamer::{EngineBuilder, OpenOptions, Result, Video};

use super::stats::MeasuredRequest;

/// Frames from this one on are compared with a decode from the key frame.
pub(crate) const FAR: u32 = 20_000;

/// The reference: the right frames.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct ReferenceDecode {
    /// The MD5 of each requested frame; without frames that are damaged, or not shown at all.
    sums: HashMap<u32, String>,
    /// The frames that the sequential decode showed, ascending.
    shown: Vec<u32>,
    /// The decode reached the end: there are no other frames.
    is_whole: bool,
}

impl ReferenceDecode {
    /// The number of frames that a sequential decode shows before this one; `None` if it does not show it. Frames
    /// behind its end are assumed to be shown.
    pub(crate) fn position_of(&self, index: u32) -> Option<usize> {
        match self.shown.last() {
            Some(&last) if index > last && !self.is_whole => Some(self.shown.len() + (index - last - 1) as usize),
            Some(_) => self.shown.binary_search(&index).ok(),
            None => Some(index as usize),
        }
    }

    /// The frame that a sequential decode shows after this many others; `None` if it shows fewer.
    pub(crate) fn frame_at(&self, position: usize) -> Option<u32> {
        let beyond = || self.shown.last().map_or(0, |last| last + 1) + (position - self.shown.len()) as u32;
        self.shown.get(position).copied().or_else(|| (!self.is_whole).then(beyond))
    }

    /// Whether this is another frame than the requested one; `None` where that is unknown.
    pub(crate) fn is_wrong(&self, answer: &MeasuredRequest) -> Option<bool> {
        Some(self.sums.get(&answer.index)? != answer.md5.as_ref()?)
    }
}

/// The location of the video, and the options for opening it.
pub(crate) type BenchInput<'a> = (&'a str, OpenOptions);

/// Decodes the right frames.
///
/// # Errors
/// The error that makes the video unreadable.
pub(crate) fn reference(builder: EngineBuilder, input: &BenchInput<'_>, frames: &[u32]) -> Result<ReferenceDecode> {
    let (location, opening) = input;
    let engine = builder.checkpoint_memory(0).from_random_access_point().build();
    let video = opening.open(&engine, location)?;
    let (near, far): (BTreeSet<u32>, BTreeSet<u32>) =
        frames.iter().filter(|&&frame| (frame as usize) < video.frame_count()).partition(|&&frame| frame < FAR);
    let mut reference = if near.is_empty() { ReferenceDecode::default() } else { play_until_shown(&video, &near)? };
    reference.sums.extend(from_key(&video, &far));
    Ok(reference)
}

/// Plays until all requested frames, or as many other ones, were shown.
fn play_until_shown(video: &Video, requested: &BTreeSet<u32>) -> Result<ReferenceDecode> {
    let last = requested.last().copied().unwrap_or(0);
    let mut reference = ReferenceDecode { is_whole: true, ..ReferenceDecode::default() };
    video.play(&mut |frame| {
        let index = frame.index;
        if (requested.contains(&index) || index > last) && !frame.is_corrupt() {
            reference.sums.insert(index, raw::hex(&raw::md5(&frame.picture)));
        }
        reference.shown.push(index);
        if index < last || reference.shown.len() < requested.len() {
            return ControlFlow::Continue(());
        }
        reference.is_whole = false;
        ControlFlow::Break(())
    })?;
    reference.shown.sort_unstable();
    Ok(reference)
}

fn from_key(video: &Video, requested: &BTreeSet<u32>) -> HashMap<u32, String> {
    let requested: Vec<u32> = requested.iter().copied().collect();
    let sound = |(index, frame): (u32, Result<bucket_streamer::VideoFrame>)| {
        let frame = frame.ok().filter(|frame| !frame.is_corrupt())?;
        Some((index, raw::hex(&raw::md5(&frame.picture))))
    };
    video.frames(&requested).filter_map(sound).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bucket_streamer::Engine;

    use super::{MeasuredRequest, OpenOptions, from_key, play_until_shown, reference};

    const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/hevc_open_gop.mp4");
    const CUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/hevc_open_gop_cut.265");

    #[test]
    fn frames_far_into_a_video_have_the_same_reference() {
        let video = Engine::new(Some(1)).open_path(CLIP).expect("a clip");
        let requested: BTreeSet<u32> = [3, 47, 48, 49, 60].into();
        let near = play_until_shown(&video, &requested).expect("to play");
        assert_eq!((near.sums.len(), &near.sums), (5, &from_key(&video, &requested)));
        assert_eq!(
            near,
            reference(Engine::builder().threads(1), &(CLIP, OpenOptions::new()), &[60, 49, 3, 48, 47, 3])
                .expect("a reference")
        );
    }

    #[test]
    fn another_frame_is_wrong_and_a_missing_one_is_unknown() {
        let known =
            reference(Engine::builder().threads(1), &(CLIP, OpenOptions::new()), &[3, 4, 9999]).expect("a reference");
        let result =
            |index, md5: Option<&String>| MeasuredRequest { index, latency: None, error: None, md5: md5.cloned() };
        let verdict = |index, of: u32| known.is_wrong(&result(index, known.sums.get(&of)));
        assert_eq!([verdict(3, 3), verdict(3, 4), verdict(3, 9999)], [Some(false), Some(true), None]);
        assert_eq!(known.is_wrong(&result(9999, known.sums.get(&3))), None);
    }

    #[test]
    fn places_are_counted_among_the_frames_that_are_shown() {
        // The clip's first three frames refer to pictures that were cut off.
        let known = reference(Engine::builder().threads(1), &(CUT, OpenOptions::new()), &(0..10).collect::<Vec<_>>())
            .expect("a reference");
        assert_eq!(
            [known.position_of(2), known.position_of(3), known.position_of(9), known.position_of(50)],
            [None, Some(0), Some(6), Some(47)]
        );
        assert_eq!([known.frame_at(0), known.frame_at(6), known.frame_at(47)], [Some(3), Some(9), Some(50)]);
        assert_eq!(known.sums.len(), 10, "one sum for each requested frame");
        let whole = reference(Engine::builder().threads(1), &(CUT, OpenOptions::new()), &(0..99).collect::<Vec<_>>())
            .expect("a reference");
        assert_eq!((whole.frame_at(95), whole.frame_at(96), whole.position_of(99)), (Some(98), None, None));
    }
}
