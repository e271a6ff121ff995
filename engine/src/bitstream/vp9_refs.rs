//! VP9: the samples that a sample needs. The closure over them is left to `references`.
//!
//! # Why leaving out the rest is exact
//!
//! `references` shows why a set of samples is enough if it contains, for each of its samples, the samples that wrote
//! the state that this one reads. In VP9 a frame reads more than the slots of its three references: four sets of
//! probabilities, which frames adapt backwards and leave to the next one; the motion vectors of the preceding frame,
//! and whether that was shown; its segmentation map; loop filter deltas and segmentation features that stay until they
//! are changed. The tracker models all of these as one state that every decoded frame writes. So an ordinary frame
//! needs the frame decoded before it, and with that all frames since the last one that reads none of this state. A
//! finer model would gain little: the preceding frame provides the motion vectors, or, if it is hidden, the fact that
//! there are none.
//!
//! A frame reads none of it if it is a key frame, has `error_resilient_mode`, or is an intra-only frame with
//! `reset_frame_context` 3. Then all probabilities are reset (7.2, `setup_past_independence` and
//! `reset_frame_context`), the deltas and features too, and neither motion vectors nor the map are read.
//! `libavcodec/vp9.c` of FFmpeg 9.0.2 does the same: it resets `prob_ctx`, `lf_delta` and `segmentation.feat`, uses a
//! blank frame for the motion vectors (`REF_FRAME_MVPAIR`), and drops the segmentation map since the blank frame's size
//! differs. So the state after such a frame depends on that frame alone.
//!
//! Pixel format and colour description persist as well: they are those of the last key or intra-only frame. So each
//! sample after an intra-only frame needs the last of these, even if only for its tags. A frame that shows an existing
//! one reads its slot and writes nothing: libavcodec returns before it touches the state.
//!
//! So samples can be left out in error resilient streams only; in all others the tracker returns all samples since the
//! key frame.

use super::bits::BitReader;
use super::references::{SampleReferences, tidy};

/// The fields of a frame header (6.2) that references need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vp9FrameHeader {
    /// `show_existing_frame`: the frame in this slot is shown.
    ShowExisting(u32),
    /// The header of a coded frame.
    Frame {
        /// `frame_type` is `KEY_FRAME`.
        is_key: bool,
        /// `show_frame`.
        shown: bool,
        /// `error_resilient_mode`.
        error_resilient: bool,
        /// `intra_only`.
        intra_only: bool,
        /// `reset_frame_context`.
        reset_context: u32,
        /// `refresh_frame_flags`: slots that it writes.
        refresh: u32,
        /// `ref_frame_idx`: slots that it reads, of an inter frame.
        references: Option<[u32; 3]>,
    },
}

impl Vp9FrameHeader {
    /// Reads `uncompressed_header` (6.2) up to the references; `frame` is one frame of a superframe. `None` if it ends
    /// early, lacks `frame_sync_code`, or has an unknown profile.
    pub fn parse(frame: &[u8]) -> Option<Vp9FrameHeader> {
        let mut bits = BitReader::new(frame);
        if bits.bits(2)? != 2 {
            return None;
        }
        let profile = bits.bits(1)? | bits.bits(1)? << 1;
        if profile == 3 && bits.flag()? {
            return None;
        }
        if bits.flag()? {
            return Some(Vp9FrameHeader::ShowExisting(bits.bits(3)?));
        }
        let (is_key, shown, error_resilient) = (!bits.flag()?, bits.flag()?, bits.flag()?);
        if is_key {
            let (intra_only, reset_context) = (false, 0);
            sync_code(&mut bits)?;
            let (refresh, references) = (0xff, None);
            return Some(Vp9FrameHeader::Frame {
                is_key,
                shown,
                error_resilient,
                intra_only,
                reset_context,
                refresh,
                references,
            });
        }
        let intra_only = !shown && bits.flag()?;
        let reset_context = if error_resilient { 0 } else { bits.bits(2)? };
        if intra_only {
            sync_code(&mut bits)?;
            skip_color(profile, &mut bits)?;
        }
        let refresh = bits.bits(8)?;
        let references = if intra_only { None } else { Some(references(&mut bits)?) };
        Some(Vp9FrameHeader::Frame { is_key, shown, error_resilient, intra_only, reset_context, refresh, references })
    }
}

/// `frame_sync_code` (6.2.1).
fn sync_code(bits: &mut BitReader) -> Option<()> {
    (bits.bits(24)? == 0x49_83_42).then_some(())
}

/// `color_config` of an intra-only frame (6.2.2): profile 0 has none.
fn skip_color(profile: u32, bits: &mut BitReader) -> Option<()> {
    if profile == 0 {
        return Some(());
    }
    if profile >= 2 {
        bits.skip(1)?;
    }
    let is_rgb = bits.bits(3)? == 7;
    match (is_rgb, profile & 1) {
        (false, 1) => bits.skip(4),
        (true, 0) => None,
        _ => bits.skip(1),
    }
}

fn references(bits: &mut BitReader) -> Option<[u32; 3]> {
    let mut slots = [0; 3];
    for slot in &mut slots {
        *slot = bits.bits(3)?;
        // ref_frame_sign_bias.
        bits.skip(1)?;
    }
    Some(slots)
}

/// The frames of a sample, which may be a superframe (Annex B), in decode order; `None` if its index contradicts its
/// size.
pub fn frames(sample: &[u8]) -> Option<Vec<&[u8]>> {
    let &marker = sample.last()?;
    let (count, size_bytes) = (usize::from(marker & 7) + 1, usize::from(marker >> 3 & 3) + 1);
    let begin = sample.len().checked_sub(2 + count * size_bytes);
    let Some(begin) = begin.filter(|&at| marker & 0xe0 == 0xc0 && sample.get(at) == Some(&marker)) else {
        return Some(vec![sample]);
    };
    let (mut data, index) = sample.split_at(begin);
    let mut frames = Vec::with_capacity(count);
    for size in index.get(1..)?.chunks_exact(size_bytes).take(count) {
        let size = size.iter().rev().fold(0_usize, |value, &byte| value << 8 | usize::from(byte));
        let (frame, rest) = data.split_at_checked(size)?;
        frames.push(frame);
        data = rest;
    }
    Some(frames)
}

/// The samples that the slots and the other state of a decoder come from.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Vp9Tracker {
    slots: [Option<u32>; 8],
    /// The sample of the last decoded frame; `None` before the random access point.
    state: Option<u32>,
    /// The sample of the last intra-only frame since the random access point.
    intra_only: Option<u32>,
}

impl Vp9Tracker {
    /// A tracker before the first sample.
    pub fn new() -> Vp9Tracker {
        Vp9Tracker::default()
    }

    /// Reads the next sample in decode order. `None` if it cannot be parsed: then no sample may be left out for it, and
    /// later samples are unknown until the next random access point.
    pub fn take(&mut self, sample: u32, data: &[u8]) -> Option<SampleReferences> {
        let mut unit = SampleReferences { refs: Vec::new(), is_key: false, refreshes: false, shows: false };
        let read = frames(data).and_then(|frames| {
            frames.into_iter().enumerate().try_for_each(|(number, frame)| {
                let header = Vp9FrameHeader::parse(frame)?;
                unit.is_key |= number == 0 && matches!(header, Vp9FrameHeader::Frame { is_key: true, .. });
                self.frame(sample, header, &mut unit)
            })
        });
        if read.is_none() {
            *self = Vp9Tracker::new();
            return None;
        }
        unit.refs = tidy(unit.refs, sample);
        Some(unit)
    }

    fn frame(&mut self, sample: u32, header: Vp9FrameHeader, unit: &mut SampleReferences) -> Option<()> {
        let (is_key, shown, error_resilient, intra_only, reset_context, refresh, references) = match header {
            Vp9FrameHeader::ShowExisting(slot) => {
                unit.refs.push(self.slot(slot)?);
                unit.refs.extend(self.intra_only);
                unit.shows = true;
                return Some(());
            }
            Vp9FrameHeader::Frame {
                is_key,
                shown,
                error_resilient,
                intra_only,
                reset_context,
                refresh,
                references,
            } => (is_key, shown, error_resilient, intra_only, reset_context, refresh, references),
        };
        if is_key {
            *self = Vp9Tracker::new();
        } else {
            let state = self.state?;
            let is_independent = error_resilient || intra_only && reset_context == 3;
            unit.refs.extend((!is_independent).then_some(state));
        }
        for slot in references.into_iter().flatten() {
            unit.refs.push(self.slot(slot)?);
        }
        unit.refs.extend(self.intra_only);
        for (bit, slot) in self.slots.iter_mut().enumerate() {
            if refresh >> bit & 1 == 1 {
                *slot = Some(sample);
            }
        }
        self.state = Some(sample);
        if intra_only {
            self.intra_only = Some(sample);
        }
        unit.refreshes |= refresh != 0;
        unit.shows |= shown;
        Some(())
    }

    fn slot(&self, index: u32) -> Option<u32> {
        *self.slots.get(usize::try_from(index).ok()?)?
    }
}

#[cfg(test)]
mod tests {
    use super::{SampleReferences, Vp9FrameHeader, Vp9Tracker, frames};

    /// Bits as text to bytes.
    fn bits(text: &str) -> Vec<u8> {
        let bits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').map(|byte| byte - b'0').collect();
        let byte = |bits: &[u8]| bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | bit << (7 - at));
        bits.chunks(8).map(byte).collect()
    }

    const SYNC: &str = "01001001 10000011 01000010";

    fn key() -> Vec<u8> {
        bits(&format!("10 00 0 0 1 0 {SYNC} 0000"))
    }

    /// An inter frame: `resilient` is `error_resilient_mode`; then `refresh_frame_flags` and three slots.
    fn inter(resilient: bool, refresh: &str, slots: [u8; 3]) -> Vec<u8> {
        let mode = if resilient { "1" } else { "0 00" };
        let slots = slots.map(|slot| format!("{slot:03b} 0")).join(" ");
        bits(&format!("10 00 0 1 1 {mode} {refresh} {slots} 0000"))
    }

    fn intra_only(reset: &str) -> Vec<u8> {
        bits(&format!("10 00 0 1 0 0 1 {reset} {SYNC} 00010000 0000"))
    }

    fn show(slot: u8) -> Vec<u8> {
        bits(&format!("10 00 1 {slot:03b}"))
    }

    fn refs(tracker: &mut Vp9Tracker, sample: u32, data: &[u8]) -> Option<Vec<u32>> {
        tracker.take(sample, data).map(|unit| unit.refs)
    }

    #[test]
    fn ordinary_frames_need_the_one_before() {
        let mut tracker = Vp9Tracker::new();
        assert_eq!(tracker.take(0, &inter(true, "00000001", [0; 3])), None, "before the random access point");
        let entry = SampleReferences { refs: vec![], is_key: true, refreshes: true, shows: true };
        assert_eq!(tracker.take(1, &key()), Some(entry));
        assert_eq!(refs(&mut tracker, 2, &inter(false, "00000001", [1; 3])), Some(vec![1]));
        assert_eq!(refs(&mut tracker, 3, &inter(false, "00000010", [2; 3])), Some(vec![1, 2]));
        assert_eq!(refs(&mut tracker, 4, &show(0)), Some(vec![2]));
        assert_eq!(
            refs(&mut tracker, 5, &inter(false, "00000000", [2; 3])),
            Some(vec![1, 3]),
            "showing writes nothing"
        );
    }

    #[test]
    fn error_resilient_frames_need_their_slots_only() {
        let mut tracker = Vp9Tracker::new();
        tracker.take(0, &key());
        assert_eq!(refs(&mut tracker, 1, &inter(true, "00000001", [1; 3])), Some(vec![0]));
        assert_eq!(refs(&mut tracker, 2, &inter(true, "00000000", [0, 0, 1])), Some(vec![0, 1]));
        assert_eq!(refs(&mut tracker, 3, &inter(true, "00000010", [0; 3])), Some(vec![1]));
        assert_eq!(refs(&mut tracker, 4, &inter(false, "00000010", [0; 3])), Some(vec![1, 3]), "after one of them");
    }

    #[test]
    fn intra_only_frames() {
        let mut tracker = Vp9Tracker::new();
        tracker.take(0, &key());
        tracker.take(1, &inter(true, "00000001", [1; 3]));
        assert_eq!(refs(&mut tracker, 2, &intra_only("10")), Some(vec![1]), "one set of probabilities is not all");
        assert_eq!(refs(&mut tracker, 3, &intra_only("11")), Some(vec![2]), "its colours replace the last one's");
        assert_eq!(refs(&mut tracker, 4, &inter(true, "00000000", [0; 3])), Some(vec![1, 3]), "which sets the format");
        let mut tracker = Vp9Tracker::new();
        tracker.take(0, &key());
        tracker.take(1, &inter(true, "00000001", [1; 3]));
        assert_eq!(refs(&mut tracker, 2, &intra_only("11")), Some(vec![]));
        assert_eq!(tracker.take(3, &key()).map(|unit| unit.is_key), Some(true));
        assert_eq!(refs(&mut tracker, 4, &inter(true, "00000000", [0; 3])), Some(vec![3]), "forgotten at a key frame");
    }

    #[test]
    fn superframes() {
        let (first, second) = (key(), inter(false, "00000001", [3; 3]));
        let marker = 0xc1;
        let index = [marker, first.len() as u8, second.len() as u8, marker];
        let sample = [&first[..], &second, &index].concat();
        assert_eq!(frames(&sample), Some(vec![&first[..], &second]));
        let whole = SampleReferences { refs: vec![], is_key: true, refreshes: true, shows: true };
        assert_eq!(Vp9Tracker::new().take(7, &sample), Some(whole));
        assert_eq!(frames(&[marker, 9, 9, marker]), None, "sizes that do not fit");
        assert_eq!(frames(&[1, 2]), Some(vec![&[1, 2][..]]));
        assert_eq!(frames(&[]), None);
    }

    #[test]
    fn headers_that_are_none() {
        for bad in [bits("01 00 0 0 1 0"), bits("10 11 1 0"), bits("10 00 0 0 1 0 00000000 00000000 00000000"), vec![]]
        {
            assert_eq!(Vp9FrameHeader::parse(&bad), None, "{bad:?}");
        }
        assert_eq!(Vp9FrameHeader::parse(&show(5)), Some(Vp9FrameHeader::ShowExisting(5)));
        let rgb = bits(&format!("10 10 0 1 0 0 1 11 {SYNC} 111 0 00010000 0000"));
        let Some(Vp9FrameHeader::Frame { refresh, .. }) = Vp9FrameHeader::parse(&rgb) else { panic!("a frame") };
        assert_eq!(refresh, 16);
    }
}
