//! Checks whether frames are the right ones: a benchmark of wrong frames is worthless.
//!
//! The right frame is what a sequential decode from the first sample on shows at that place; far into a long video,
//! where that would take minutes, it is what a decode from the key frame gives. The MD5s are over planes, whatever
//! output the benchmark measures.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use bucket_streamer::still::raw;
use bucket_streamer::{EngineBuilder, OpenOptions, Result, Video};

use super::stats::Answer;

/// Frames from this one on are compared with a decode from the key frame.
pub(crate) const FAR: u32 = 20_000;

/// The right frames.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Reference {
    /// The MD5 of each requested frame; without frames that are damaged, or not shown at all.
    sums: HashMap<u32, String>,
    /// The frames that the sequential decode showed, ascending.
    shown: Vec<u32>,
    /// The decode reached the end: there are no other frames.
    is_whole: bool,
}

impl Reference {
    /// The number of frames that a sequential decode shows before this one; `None` if it does not show it. Frames
    /// behind its end are assumed to be shown.
    pub(crate) fn place(&self, index: u32) -> Option<usize> {
        match self.shown.last() {
            Some(&last) if index > last && !self.is_whole => Some(self.shown.len() + (index - last - 1) as usize),
            Some(_) => self.shown.binary_search(&index).ok(),
            None => Some(index as usize),
        }
    }

    /// The frame that a sequential decode shows after this many others, if it shows as many.
    pub(crate) fn at(&self, place: usize) -> Option<u32> {
        let beyond = || self.shown.last().map_or(0, |last| last + 1) + (place - self.shown.len()) as u32;
        self.shown.get(place).copied().or_else(|| (!self.is_whole).then(beyond))
    }

    /// Whether this is another frame than the requested one; `None` where that is unknown.
    pub(crate) fn is_wrong(&self, answer: &Answer) -> Option<bool> {
        Some(self.sums.get(&answer.index)? != answer.md5.as_ref()?)
    }
}

/// The location of the video, and the options for opening it.
pub(crate) type Place<'a> = (&'a str, OpenOptions);

/// Decodes the right frames.
///
/// # Errors
/// The error that makes the video unreadable.
pub(crate) fn reference(builder: EngineBuilder, place: &Place<'_>, frames: &[u32]) -> Result<Reference> {
    let (location, opening) = place;
    let engine = builder.checkpoint_memory(0).from_entry().build();
    let video = opening.open(&engine, location)?;
    let (near, far): (BTreeSet<u32>, BTreeSet<u32>) =
        frames.iter().filter(|&&frame| (frame as usize) < video.frame_count()).partition(|&&frame| frame < FAR);
    let mut reference = if near.is_empty() { Reference::default() } else { played(&video, &near)? };
    reference.sums.extend(from_key(&video, &far));
    Ok(reference)
}

/// Plays until all wanted frames, or as many other ones, were shown.
fn played(video: &Video, wanted: &BTreeSet<u32>) -> Result<Reference> {
    let last = wanted.last().copied().unwrap_or(0);
    let mut reference = Reference { is_whole: true, ..Reference::default() };
    video.play(&mut |frame| {
        let index = frame.index;
        if (wanted.contains(&index) || index > last) && !frame.is_corrupt() {
            reference.sums.insert(index, raw::hex(&raw::md5(&frame.picture)));
        }
        reference.shown.push(index);
        if index < last || reference.shown.len() < wanted.len() {
            return ControlFlow::Continue(());
        }
        reference.is_whole = false;
        ControlFlow::Break(())
    })?;
    reference.shown.sort_unstable();
    Ok(reference)
}

fn from_key(video: &Video, wanted: &BTreeSet<u32>) -> HashMap<u32, String> {
    let wanted: Vec<u32> = wanted.iter().copied().collect();
    let sound = |(index, frame): (u32, Result<bucket_streamer::VideoFrame>)| {
        let frame = frame.ok().filter(|frame| !frame.is_corrupt())?;
        Some((index, raw::hex(&raw::md5(&frame.picture))))
    };
    video.frames(&wanted).filter_map(sound).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bucket_streamer::Engine;

    use super::{Answer, OpenOptions, from_key, played, reference};

    const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/hevc_open_gop.mp4");
    const CUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/hevc_open_gop_cut.265");

    #[test]
    fn what_is_far_into_a_video_has_the_same_reference() {
        let video = Engine::new(Some(1)).open_path(CLIP).expect("a clip");
        let wanted: BTreeSet<u32> = [3, 47, 48, 49, 60].into();
        let near = played(&video, &wanted).expect("to play");
        assert_eq!((near.sums.len(), &near.sums), (5, &from_key(&video, &wanted)));
        assert_eq!(
            near,
            reference(Engine::builder().threads(1), &(CLIP, OpenOptions::new()), &[60, 49, 3, 48, 47, 3])
                .expect("a reference")
        );
    }

    #[test]
    fn another_frame_is_wrong_and_of_one_that_is_not_there_nobody_knows() {
        let known =
            reference(Engine::builder().threads(1), &(CLIP, OpenOptions::new()), &[3, 4, 9999]).expect("a reference");
        let came = |index, md5: Option<&String>| Answer { index, latency: None, error: None, md5: md5.cloned() };
        let verdict = |index, of: u32| known.is_wrong(&came(index, known.sums.get(&of)));
        assert_eq!([verdict(3, 3), verdict(3, 4), verdict(3, 9999)], [Some(false), Some(true), None]);
        assert_eq!(known.is_wrong(&came(9999, known.sums.get(&3))), None);
    }

    #[test]
    fn places_are_counted_among_the_frames_that_are_shown() {
        // The clip's first three frames refer to pictures that were cut off.
        let known = reference(Engine::builder().threads(1), &(CUT, OpenOptions::new()), &(0..10).collect::<Vec<_>>())
            .expect("a reference");
        assert_eq!(
            [known.place(2), known.place(3), known.place(9), known.place(50)],
            [None, Some(0), Some(6), Some(47)]
        );
        assert_eq!([known.at(0), known.at(6), known.at(47)], [Some(3), Some(9), Some(50)]);
        assert_eq!(known.sums.len(), 10, "as many as were asked for");
        let whole = reference(Engine::builder().threads(1), &(CUT, OpenOptions::new()), &(0..99).collect::<Vec<_>>())
            .expect("a reference");
        assert_eq!((whole.at(95), whole.at(96), whole.place(99)), (Some(98), None, None));
    }
}
