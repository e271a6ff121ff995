//! AV1: the samples that a temporal unit needs. The closure over them is left to `references`.
//!
//! # Why leaving out the rest is exact
//!
//! `references` shows why a set of samples is enough if it contains, for each of its samples, the samples that wrote
//! the state that this one reads. It remains to show that a frame reads nothing but its slots. All state that a frame
//! carries over lies in them: picture, order hint, probabilities, segmentation map and parameters, loop filter deltas,
//! global motion, motion vectors with the order hints of *their* references, film grain (7.20, 7.21). dav1d 1.4.3 does
//! so: it writes `c->refs[8]` and `c->cdf[8]` together when a frame is submitted. Outside of tiles, it reads
//!
//! - of the seven references: pictures, sizes, order hints (skip mode, motion field), frame identifiers; of the primary
//!   one, which is among them, probabilities, segmentation, loop filter deltas and global motion. Film grain parameters
//!   may only come from one of the seven, anything else is an error there;
//! - of all eight slots: order hints, with `frame_refs_short_signaling` (7.8). Here such a frame needs the contents of
//!   all slots, so all of them are right;
//! - of all eight slots: nothing else. `ref_order_hint` of error resilient frames and the bounds of frame identifiers
//!   would only declare slots invalid (7.20); dav1d reads past them, and in an intact stream no frame refers to such a
//!   slot before it is written again;
//! - of the slot that `show_existing_frame` names: picture and film grain. If that is a key frame, all slots are
//!   written (7.21), so what they hold afterwards counts as this sample's, which in turn needs the frame's own.
//!
//! Three things are kept outside of slots. The sequence header: a changed one clears all slots, so if it comes with
//! anything but a shown key frame, later samples are unknown until the next random access point; an unchanged one has
//! no effect. A frame that is incomplete at the end of its sample: only damaged streams have those, apart from headers
//! and tiles in different samples, which the tracker rejects. Metadata (light levels, mastering display): it
//! accompanies pictures and changes no pixel; metadata of an omitted sample is missing. An inter frame with an empty
//! slot among its references is an error in dav1d, not a picture: if this file is wrong in that respect, no wrong
//! picture results.
//!
//! FFmpeg does not give the container's configuration to dav1d, and a flush drops the sequence header: a random access
//! point must have one in its own sample. The tracker rejects layers (operating points with several, or extension
//! headers).

use super::av1::{self, Obu};
use super::av1_headers::{Av1FrameHeader, FrameReferences, KEY_FRAME, SequenceHeader};
use super::references::{SampleReferences, tidy};

/// The contents of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RefSlot {
    /// The sample that wrote it last.
    sample: u32,
    is_key: bool,
    order_hint: u32,
}

/// The active sequence header, and the samples of the frames in the slots.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Av1Tracker {
    sequence: Option<SequenceHeader>,
    /// The bytes of the sequence header, to detect a change.
    sequence_bytes: Vec<u8>,
    /// The sequence header comes from a sample, not only from the container's configuration.
    is_in_band: bool,
    /// All samples since a random access point were parsed. A frame of intra blocks does not set this again: the sample
    /// that was rejected may have had a sequence header.
    is_on_track: bool,
    slots: [Option<RefSlot>; 8],
    /// The order hint of the last shown picture.
    shown_hint: Option<u32>,
    follows_loss: bool,
}

/// The contents of one temporal unit so far.
#[derive(Default)]
struct TemporalUnit {
    headers: Vec<Av1FrameHeader>,
    refs: Vec<u32>,
    has_sequence_header: bool,
    has_changed: bool,
    is_key: bool,
    refreshes: bool,
    shows: bool,
    /// The order hint of the picture that it shows.
    shown_hint: Option<u32>,
    /// A shown key frame restarts the order hints.
    restarts: bool,
    /// A frame header precedes its tiles in a unit of its own.
    awaits_tiles: bool,
    has_tiles: bool,
}

impl Av1Tracker {
    /// A tracker before the first sample. `extradata` is the container's configuration, an `av1C` record (AV1-ISOBMFF
    /// 2.3.3) or plain units; it may be empty.
    pub fn new(extradata: &[u8]) -> Av1Tracker {
        let mut tracker = Av1Tracker::default();
        let mut units = if extradata.first() == Some(&0x81) { extradata.get(4..).unwrap_or(&[]) } else { extradata };
        while !units.is_empty() {
            let Some(obu) = av1::next_obu(&mut units) else { break };
            if obu.kind == av1::SEQUENCE_HEADER {
                tracker.sequence = SequenceHeader::parse(obu.payload);
                tracker.sequence_bytes = obu.payload.to_vec();
            }
        }
        tracker
    }

    /// Reads the next temporal unit in decode order; `sample` is its number. `None` if it cannot be parsed: then no
    /// sample may be left out for it, and later samples are unknown until the next random access point.
    pub fn take(&mut self, sample: u32, data: &[u8]) -> Option<SampleReferences> {
        self.take_with_headers(sample, data).map(|(unit, _)| unit)
    }

    /// As [`Av1Tracker::take`], with the frame headers of the unit.
    pub fn take_with_headers(
        &mut self,
        sample: u32,
        mut data: &[u8],
    ) -> Option<(SampleReferences, Vec<Av1FrameHeader>)> {
        let mut temporal_unit = TemporalUnit::default();
        while !data.is_empty() {
            let read = av1::next_obu(&mut data).and_then(|obu| self.obu(sample, obu, &mut temporal_unit));
            if read.is_none() {
                self.lose();
                return None;
            }
        }
        self.compare_hints(&temporal_unit);
        let is_open = temporal_unit.awaits_tiles && !temporal_unit.has_tiles;
        if !self.is_on_track || is_open || temporal_unit.has_changed && !temporal_unit.is_key {
            self.lose();
            return None;
        }
        let TemporalUnit { headers, refs, is_key, refreshes, shows, .. } = temporal_unit;
        Some((SampleReferences { refs: tidy(refs, sample), is_key, refreshes, shows }, headers))
    }

    /// True if the last unit skips order hints. Pictures are shown in the order of their hints, each once (7.20, 7.21):
    /// so units before it are missing, and its slots may have wrong contents.
    pub fn follows_loss(&self) -> bool {
        self.follows_loss
    }

    fn compare_hints(&mut self, temporal_unit: &TemporalUnit) {
        let bits = self.sequence.as_ref().map_or(0, |sequence| sequence.order_hint_bits);
        let next = |hint: u32| (hint + 1) & ((1 << bits) - 1);
        self.follows_loss = match (self.shown_hint, temporal_unit.shown_hint) {
            (Some(last), Some(hint)) => bits > 0 && !temporal_unit.restarts && hint != next(last),
            _ => false,
        };
        self.shown_hint = temporal_unit.shown_hint.or(self.shown_hint);
    }

    fn lose(&mut self) {
        self.slots = [None; 8];
        self.is_on_track = false;
        (self.shown_hint, self.follows_loss) = (None, false);
    }

    fn obu(&mut self, sample: u32, obu: Obu, temporal_unit: &mut TemporalUnit) -> Option<()> {
        match obu.kind {
            av1::SEQUENCE_HEADER => self.sequence_header(obu.payload, temporal_unit),
            av1::FRAME_HEADER | av1::FRAME if !obu.is_layered => {
                // A frame header may be repeated before its tiles.
                if temporal_unit.awaits_tiles && !temporal_unit.has_tiles {
                    return (obu.kind == av1::FRAME_HEADER).then_some(());
                }
                let header = Av1FrameHeader::parse(self.sequence.as_ref()?, obu.payload)?;
                let is_shown_again = matches!(header, Av1FrameHeader::ShowExisting(_));
                (temporal_unit.awaits_tiles, temporal_unit.has_tiles) =
                    (obu.kind == av1::FRAME_HEADER && !is_shown_again, false);
                temporal_unit.headers.push(header);
                self.frame(sample, header, temporal_unit)
            }
            av1::TILE_GROUP if !obu.is_layered => {
                temporal_unit.has_tiles = true;
                (!temporal_unit.headers.is_empty()).then_some(())
            }
            // It replaces the frame header if that was lost, which is damage.
            av1::REDUNDANT_FRAME_HEADER => (!temporal_unit.headers.is_empty()).then_some(()),
            av1::FRAME_HEADER | av1::FRAME | av1::TILE_GROUP | av1::TILE_LIST => None,
            _ => Some(()),
        }
    }

    fn sequence_header(&mut self, payload: &[u8], temporal_unit: &mut TemporalUnit) -> Option<()> {
        temporal_unit.has_sequence_header = true;
        if !self.is_in_band || self.sequence_bytes != payload {
            // Not even the operating points' parameters may differ: stricter than necessary, but simple.
            temporal_unit.has_changed = true;
            self.lose();
            self.sequence = SequenceHeader::parse(payload);
            self.sequence_bytes = payload.to_vec();
            self.is_in_band = true;
            if !temporal_unit.headers.is_empty() {
                return None;
            }
        }
        self.sequence.as_ref().is_some_and(|sequence| !sequence.is_layered).then_some(())
    }

    fn frame(&mut self, sample: u32, header: Av1FrameHeader, temporal_unit: &mut TemporalUnit) -> Option<()> {
        let (kind, shown, refresh, references, order_hint) = match header {
            Av1FrameHeader::ShowExisting(slot) => return self.show_existing(sample, slot, temporal_unit),
            Av1FrameHeader::Frame { kind, shown, refresh, references, order_hint, .. } => {
                (kind, shown, refresh, references, order_hint)
            }
        };
        let is_key = kind == KEY_FRAME;
        if is_key && shown && temporal_unit.headers.len() == 1 {
            // If no sample has a sequence header, the container's applies to all.
            temporal_unit.is_key = temporal_unit.has_sequence_header || !self.is_in_band;
            self.is_on_track |= temporal_unit.is_key;
        }
        if !self.is_on_track {
            return None;
        }
        match references {
            None => {}
            Some(FrameReferences::Listed(slots)) => {
                for slot in slots {
                    temporal_unit.refs.push(self.slot(slot)?.sample);
                }
            }
            Some(FrameReferences::FromOrderHints(..)) => {
                for slot in self.slots {
                    temporal_unit.refs.push(slot?.sample);
                }
            }
        }
        for (bit, slot) in self.slots.iter_mut().enumerate() {
            if refresh >> bit & 1 == 1 {
                *slot = Some(RefSlot { sample, is_key, order_hint });
            }
        }
        temporal_unit.refreshes |= refresh != 0;
        temporal_unit.shows |= shown;
        if shown {
            temporal_unit.shown_hint = Some(order_hint);
            temporal_unit.restarts |= is_key;
        }
        Some(())
    }

    fn show_existing(&mut self, sample: u32, slot: u32, temporal_unit: &mut TemporalUnit) -> Option<()> {
        let slot = self.slot(slot)?;
        temporal_unit.refs.push(slot.sample);
        temporal_unit.shows = true;
        temporal_unit.shown_hint = Some(slot.order_hint);
        if slot.is_key {
            temporal_unit.restarts = true;
            self.slots = [Some(RefSlot { sample, ..slot }); 8];
            temporal_unit.refreshes = true;
        }
        Some(())
    }

    fn slot(&self, index: u32) -> Option<RefSlot> {
        *self.slots.get(usize::try_from(index).ok()?)?
    }
}

#[cfg(test)]
mod tests {
    use super::{Av1FrameHeader, Av1Tracker, FrameReferences, SampleReferences};

    /// A sequence header: no timing, one operating point, 16x16, order hints of 7 bits, screen content left to frames.
    const SEQUENCE: &str = "000 0 0 0 0 00000 000000000000 00000 0011 0011 1111 1111 0 000 0000 1 00 1 1 110 000";

    /// Bits as text to bytes.
    fn bits(text: &str) -> Vec<u8> {
        let bits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').map(|byte| byte - b'0').collect();
        let byte = |bits: &[u8]| bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | bit << (7 - at));
        bits.chunks(8).map(byte).collect()
    }

    fn obu(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut obu = vec![kind << 3 | 2, payload.len() as u8];
        obu.extend_from_slice(payload);
        obu
    }

    fn sequence() -> Vec<u8> {
        obu(1, &bits(SEQUENCE))
    }

    /// A shown key frame with its tiles.
    fn key() -> Vec<u8> {
        obu(6, &bits("0 00 1 0 0 0 0000000 0000 0000"))
    }

    /// An inter frame that writes and reads these slots: `refresh` and `references` as bits.
    fn inter(refresh: &str, references: &str) -> Vec<u8> {
        // show_existing_frame, frame_type, show_frame, error_resilient_mode, disable_cdf_update,
        // allow_screen_content_tools, frame_size_override_flag, order_hint, primary_ref_frame.
        obu(6, &bits(&format!("0 01 1 0 0 0 0 0000001 000 {refresh} {references} 0000 0000")))
    }

    fn listed(slots: [u8; 7]) -> String {
        slots.iter().fold("0".to_owned(), |text, slot| format!("{text} {slot:03b}"))
    }

    fn show(slot: u8) -> Vec<u8> {
        obu(3, &bits(&format!("1 {slot:03b} 1000")))
    }

    fn unit(refs: &[u32], is_key: bool, refreshes: bool) -> Option<SampleReferences> {
        Some(SampleReferences { refs: refs.into(), is_key, refreshes, shows: true })
    }

    #[test]
    fn slots_become_samples() {
        let mut tracker = Av1Tracker::new(&[]);
        assert_eq!(tracker.take(4, &inter("00000001", &listed([0; 7]))), None, "before the random access point");
        assert_eq!(tracker.take(5, &[sequence(), key()].concat()), unit(&[], true, true));
        assert_eq!(tracker.take(6, &inter("00000001", &listed([0; 7]))), unit(&[5], false, true));
        assert_eq!(tracker.take(7, &inter("00000010", &listed([0, 7, 7, 7, 7, 7, 7]))), unit(&[5, 6], false, true));
        assert_eq!(tracker.take(8, &inter("00000000", &listed([1; 7]))), unit(&[7], false, false));
        assert_eq!(tracker.take(9, &show(0)), unit(&[6], false, false));
        let both = [inter("00000100", &listed([0; 7])), inter("00001000", &listed([2, 1, 1, 1, 1, 1, 1]))].concat();
        assert_eq!(tracker.take(10, &both), unit(&[6, 7], false, true), "its own frames do not count");
    }

    #[test]
    fn short_signaling_needs_all_slots() {
        let mut tracker = Av1Tracker::new(&[]);
        tracker.take(0, &[sequence(), key()].concat());
        tracker.take(1, &inter("00000001", &listed([3; 7])));
        tracker.take(2, &inter("10000000", &listed([3; 7])));
        let short = inter("00000000", "1 011 100");
        assert_eq!(tracker.take(3, &short), unit(&[0, 1, 2], false, false));
        let (_, headers) = tracker.take_with_headers(4, &short).unwrap();
        let Av1FrameHeader::Frame { references, .. } = headers[0] else { panic!("a frame") };
        assert_eq!(references, Some(FrameReferences::FromOrderHints(3, 4)));
    }

    #[test]
    fn a_key_frame_shown_later_fills_all_slots_then() {
        let mut tracker = Av1Tracker::new(&[]);
        tracker.take(0, &[sequence(), key()].concat());
        // Hidden and showable, into slot 2; frame_size_override_flag and order_hint before refresh_frame_flags.
        let hidden = obu(6, &bits("0 00 0 1 0 0 0 0 0000100 00000100 0000 0000"));
        let unit_of_hidden = tracker.take(1, &hidden).unwrap();
        assert_eq!((unit_of_hidden.is_key, unit_of_hidden.shows, unit_of_hidden.refreshes), (false, false, true));
        assert_eq!(tracker.take(2, &inter("00000001", &listed([1; 7]))), unit(&[0], false, true));
        assert_eq!(tracker.take(3, &show(2)), unit(&[1], false, true));
        assert_eq!(tracker.take(4, &inter("00000001", &listed([0; 7]))), unit(&[3], false, true));
    }

    #[test]
    fn sequence_headers_of_container_and_samples() {
        let av1c = [vec![0x81, 0, 0, 0], sequence()].concat();
        let mut tracker = Av1Tracker::new(&av1c);
        assert_eq!(tracker.take(0, &key()), unit(&[], true, true), "the container's sequence header applies");
        assert_eq!(Av1Tracker::new(&[]).take(0, &key()), None);
        assert_eq!(tracker.take(1, &[sequence(), key()].concat()), unit(&[], true, true));
        assert_eq!(tracker.take(2, &key()), unit(&[], false, true), "not clean without a sequence header");
        assert_eq!(
            tracker.take(3, &[sequence(), inter("00000001", &listed([0; 7]))].concat()),
            unit(&[2], false, true)
        );
        let other = obu(1, &bits(&SEQUENCE.replace("1111 1111", "1110 1110")));
        assert_eq!(tracker.take(4, &[other, inter("00000001", &listed([0; 7]))].concat()), None);
        assert_eq!(tracker.take(5, &inter("00000001", &listed([0; 7]))), None, "until the next random access point");
        assert_eq!(tracker.take(6, &[sequence(), key()].concat()), unit(&[], true, true));
    }

    #[test]
    fn what_is_not_understood() {
        let with = |sequence: &str| Av1Tracker::new(&[]).take(0, &[obu(1, &bits(sequence)), key()].concat());
        assert!(with(SEQUENCE).is_some());
        assert_eq!(with(&SEQUENCE.replace("000000000000", "000100000011")), None, "two temporal layers");
        assert!(with(&SEQUENCE.replace("000000000000", "000100000001")).is_some(), "one layer");
        let start = |tracker: &mut Av1Tracker| tracker.take(0, &[sequence(), key()].concat()).unwrap();
        for bad in [
            vec![0b0011_0110, 0, 2, 0x30, 0],
            obu(3, &bits("0 01 1 0 0 0 0 0000001 000 00000001 0 000000000000000000000 0")),
            obu(4, &[0]),
            obu(8, &[0]),
            vec![0x32, 200],
            vec![0x32, 1, 0x30],
        ] {
            let mut tracker = Av1Tracker::new(&[]);
            start(&mut tracker);
            assert_eq!(tracker.take(1, &bad), None, "{bad:?}");
        }
        let mut tracker = Av1Tracker::new(&[]);
        start(&mut tracker);
        let padding = SampleReferences { refs: vec![], is_key: false, refreshes: false, shows: false };
        assert_eq!(tracker.take(1, &obu(15, &[1, 2])), Some(padding));
    }
}
