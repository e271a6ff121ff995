//! Finds the requested frame: by number, by time, or by bytes of the file.

use super::problem::Problem;
use super::sample_order::SampleOrder;
use bucket_streamer::Video;
use bucket_streamer::bitstream::Codec;
use bucket_streamer::container::Sample;
use bucket_streamer::time::Nanos;

/// The way in which a request identifies a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameLocator {
    /// The number in presentation order, from 0.
    Frame(u64),
    /// The time at which the frame is shown, since the first frame.
    Time(Nanos),
    /// Byte offsets in the file: the start of a sync sample, the end of the range, and the start of the frame's sample.
    Bytes { irap: u64, end: Option<u64>, offset: Option<u64> },
    /// The byte offset of the frame's sample.
    Offset(u64),
}

/// The number of the located frame, in presentation order.
///
/// # Errors
/// `not-found` if there is no such frame or if it is not shown, `bad-parameter` if the bytes do not select one sample.
pub(super) fn frame_of(video: &Video, order: &SampleOrder, locator: &FrameLocator) -> Result<u32, Problem> {
    let (track, frame_of) = (video.track(), |sample| video.frame_of_sample(sample));
    let lookup = SampleLookup { samples: &track.samples, order, codec: track.codec, frame_of: &frame_of };
    match *locator {
        FrameLocator::Frame(frame) => {
            let frames = video.frame_count();
            let known = u32::try_from(frame).ok().filter(|&known| (known as usize) < frames);
            known.ok_or_else(|| {
                Problem::not_found(format!("there is no frame {frame}: the video has {frames}, counted from 0"))
            })
        }
        FrameLocator::Time(time) => Ok(video.index_at(time, false)?),
        FrameLocator::Offset(offset) => lookup.frame_at("offset", offset, |_| true),
        FrameLocator::Bytes { irap, end, offset } => lookup.frame_by_bytes(irap, end, offset),
    }
}

/// Samples by their offsets in the file, and their frames.
struct SampleLookup<'a> {
    samples: &'a [Sample],
    order: &'a SampleOrder,
    codec: Codec,
    /// The frame that shows a sample, if any.
    frame_of: &'a dyn Fn(u32) -> Option<u32>,
}

impl SampleLookup<'_> {
    fn frame_by_bytes(&self, irap: u64, end: Option<u64>, offset: Option<u64>) -> Result<u32, Problem> {
        let is_key = |sample: u32| self.samples[sample as usize].key;
        if !self.samples_at(irap).any(is_key) {
            return Err(Problem::bad_parameter(format!("no sync sample begins at byte {irap} (irap)")));
        }
        if end.is_some_and(|end| end <= irap) {
            return Err(Problem::bad_parameter("end must be after irap: it is the byte after the frame's sample"));
        }
        match (offset, end) {
            (Some(offset), _) if offset < irap || end.is_some_and(|end| offset >= end) => {
                Err(Problem::bad_parameter("offset must lie between irap and end"))
            }
            (Some(offset), _) => self.frame_at("offset", offset, |_| true),
            (None, Some(end)) => {
                let last = self.order.last_within(self.samples, irap, end);
                self.frame_at("end", last.map_or(irap, |last| self.samples[last as usize].offset), |_| true)
            }
            // Without an end, the request is for the sync sample itself.
            (None, None) => self.frame_at("irap", irap, is_key),
        }
    }

    /// The frame of the one sample that begins at `byte`, among the samples that `is_meant` accepts. `name` is the
    /// parameter's name in errors.
    fn frame_at(&self, name: &str, byte: u64, is_meant: impl Fn(u32) -> bool) -> Result<u32, Problem> {
        let found: Vec<u32> = self.samples_at(byte).filter(|&sample| is_meant(sample)).collect();
        let Some(&first) = found.first() else {
            return Err(Problem::bad_parameter(format!("no sample begins at byte {byte} ({name})")));
        };
        // A second field in a sample of its own belongs to the frame of the first field.
        let is_field = |sample: &u32| self.codec == Codec::H264 && self.samples[*sample as usize].silent;
        let frame_of_field = |sample: &u32| is_field(sample).then(|| (self.frame_of)(sample.checked_sub(1)?)).flatten();
        let frames: Vec<u32> = found.iter().filter_map(|&sample| (self.frame_of)(sample)).collect();
        let frames = if frames.is_empty() { found.iter().filter_map(frame_of_field).collect() } else { frames };
        match frames[..] {
            [frame] => Ok(frame),
            [] => Err(Problem::not_found(format!("sample {first} is not a frame that is shown"))),
            // In a transport stream one packet may contain several small samples: the byte alone does not select one.
            [..] => Err(Problem::bad_parameter(format!("{} frames begin at byte {byte} ({name})", frames.len()))),
        }
    }

    /// The samples that begin at a byte, in decode order.
    fn samples_at(&self, byte: u64) -> impl Iterator<Item = u32> {
        self.order.samples_within(self.samples, byte, byte.saturating_add(1))
    }
}

/// The last key frame at or before `frame`; the first key frame if there is none.
pub(super) fn key_before(video: &Video, frame: u32) -> u32 {
    let keys = video.key_frames();
    let before = keys.partition_point(|key| *key <= frame);
    keys.get(before.saturating_sub(1)).copied().unwrap_or(frame)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use bucket_streamer::{Engine, Video};

    use super::{FrameLocator, SampleLookup};
    use crate::problem::Problem;
    use crate::sample_order::SampleOrder;

    fn frame_of(video: &Video, locator: &FrameLocator) -> Result<u32, Problem> {
        super::frame_of(video, &SampleOrder::of(&video.track().samples), locator)
    }

    fn open(name: &str) -> Video {
        let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name);
        Engine::new(Some(1)).open_path(clip).unwrap()
    }

    /// The frames of all offsets; `None` for offsets that do not lead to one frame.
    fn by_offsets(video: &Video) -> HashMap<u64, Option<u32>> {
        let offsets = video.track().samples.iter().map(|sample| sample.offset);
        offsets.map(|offset| (offset, frame_of(video, &FrameLocator::Offset(offset)).ok())).collect()
    }

    #[test]
    fn every_offset_leads_to_its_own_frame_or_to_none() {
        for name in
            ["hevc_demo.mp4", "hevc_open_gop.mp4", "hevc.ts", "h264_fields.h264", "h264_size_change.ts", "vp9.webm"]
        {
            let video = open(name);
            let found = by_offsets(&video);
            let samples = &video.track().samples;
            for (&sample, frame) in video.track().frames.iter().zip(0..) {
                let offset = samples[sample as usize].offset;
                let is_alone =
                    samples.iter().filter(|other| other.offset == offset && other.is_displayable()).count() == 1;
                assert_eq!(found[&offset], is_alone.then_some(frame), "{name}, sample {sample}");
            }
            let beyond = samples.iter().map(|sample| sample.offset).max().unwrap() + 1;
            assert!(frame_of(&video, &FrameLocator::Offset(beyond)).is_err());
        }
    }

    #[test]
    fn a_second_field_shows_the_frame_of_the_first() {
        let video = open("h264_fields.h264");
        let samples = &video.track().samples;
        let second = samples.iter().position(|sample| sample.silent).expect("fields that are samples of their own");
        let at = |sample: usize| frame_of(&video, &FrameLocator::Offset(samples[sample].offset)).unwrap();
        assert_eq!(at(second), at(second - 1));
        let key = samples[..second].iter().rfind(|sample| sample.key).unwrap().offset;
        let end = Some(samples[second].offset + u64::from(samples[second].size));
        assert_eq!(frame_of(&video, &FrameLocator::Bytes { irap: key, end, offset: None }).unwrap(), at(second));
    }

    #[test]
    fn several_frames_in_one_packet_are_an_error() {
        let video = open("hevc_demo.mp4");
        let mut samples = video.track().samples.clone();
        let [first, second, third] = [0, 1, 2].map(|frame| video.track().frames[frame] as usize);
        let offset = samples[first].offset;
        samples[second].offset = offset;
        let own = samples[third].offset;
        let order = SampleOrder::of(&samples);
        let frame_of = |sample| video.frame_of_sample(sample);
        let lookup = SampleLookup { samples: &samples, order: &order, codec: video.track().codec, frame_of: &frame_of };
        assert!(lookup.frame_at("offset", offset, |_| true).is_err());
        assert_eq!(lookup.frame_at("offset", own, |_| true).unwrap(), 2);
        // The sync sample among them can still be selected.
        assert!(samples[first].key && lookup.frame_by_bytes(offset, None, None).unwrap() == 0);
    }
}
