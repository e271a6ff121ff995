//! The samples of a track as packets for a decoder, with the parameter sets that are active where a run begins, and the
//! decoder configuration where it changes. Sending packets is left to [`run`](super::run).

use std::collections::BTreeMap;

use ffi::{Frame, Packet, PaddedBytes};

use super::checkpoint_writer::CheckpointWriter;
use super::counters::DecodeCounters;
use crate::bitstream::parameter_sets::identify;
use crate::bitstream::{Codec, hevc};
use crate::container::Track;
use crate::error::{ErrorKind, Result};
use crate::plan::Planner;
use crate::source::Source;

/// The input of a decode run: reads the samples of a track and makes packets of them.
pub struct SampleReader<'a> {
    /// The track, as the planner has it.
    pub track: &'a Track,
    /// The source of its bytes.
    pub source: &'a dyn Source,
    /// The planner of the track, for its random access points and parameter sets.
    pub planner: &'a Planner,
    /// Copies every packet and pads it with zeros, which is what a sequential decode of a damaged file reads there.
    pub zeros: bool,
    /// The counters of decoded pictures.
    pub counters: &'a DecodeCounters,
    /// Called before each sample is read, with its number: false ends the run there.
    pub may_read: Option<&'a dyn Fn(u32) -> bool>,
    /// Saves the checkpoints of a planned run.
    pub checkpoint_writer: Option<&'a CheckpointWriter<'a>>,
}

impl SampleReader<'_> {
    pub(super) fn may_read(&self, index: u32) -> bool {
        self.may_read.is_none_or(|may_read| may_read(index))
    }

    pub(super) fn matches_index(&self, index: u32, data: &[u8]) -> bool {
        self.planner.matches_index(self.track, index, data)
    }

    pub(super) fn sample(&self, index: u32) -> Result<PaddedBytes> {
        self.track.read(self.source, index, self.zeros)
    }

    /// The NAL units of a sample that affect later pictures, for a sample whose slices are left out: parameter sets,
    /// persistent SEI messages.
    pub(super) fn lasting_units(&self, index: u32) -> Result<PaddedBytes> {
        let framing = self.track.framing;
        let data = self.track.read(self.source, index, false)?;
        let lasting = framing.units(data.data()).filter(|unit| hevc::outlives_its_picture(unit));
        let sets: Vec<Vec<u8>> = lasting.map(|unit| framing.frame(unit)).collect();
        let pieces: Vec<&[u8]> = sets.iter().map(|set| &set[..]).collect();
        let data = PaddedBytes::copy_of(&pieces);
        self.source.counters().copy(data.len());
        Ok(data)
    }

    pub(super) fn packet(&self, index: u32, data: &PaddedBytes) -> Result<Packet> {
        let sample = &self.track.samples[index as usize];
        // The decoder does not need the container's times. The packet's time is the sample's number, which the picture
        // has even where it lacks the tag (`sample_of`).
        let mut packet = Packet::new(data, index, Some(i64::from(index))).map_err(ErrorKind::Decoder)?;
        packet.set_flags(sample.key, sample.discard);
        Ok(packet)
    }

    /// The bytes of the first sample of a run, after the active parameter sets, unless the sample contains them all.
    pub(super) fn sample_with_parameter_sets(&self, index: u32) -> Result<PaddedBytes> {
        let data = self.sample(index)?;
        let sets = self.parameter_sets(index, data.data())?;
        if sets.is_empty() {
            return Ok(data);
        }
        let mut pieces: Vec<&[u8]> = sets.iter().map(|set| &set[..]).collect();
        pieces.push(data.data());
        let all = PaddedBytes::copy_of(&pieces);
        self.source.counters().copy(all.len());
        Ok(all)
    }

    fn parameter_sets(&self, first: u32, sample: &[u8]) -> Result<Vec<Vec<u8>>> {
        let (track, framing) = (self.track, self.track.framing);
        if !matches!(track.codec, Codec::Hevc | Codec::H264) {
            return Ok(Vec::new());
        }
        let own: Vec<_> = framing.units(sample).filter_map(|unit| identify(track.codec, unit)).collect();
        let framed = |active: BTreeMap<(u8, u32), &[u8]>| -> Vec<Vec<u8>> {
            if active.keys().all(|id| own.contains(id)) {
                return Vec::new();
            }
            // In the order of types: VPS, SPS, PPS, each before the sets that refer to it.
            active.values().map(|unit| framing.frame(unit)).collect()
        };
        if let Some(history) = &track.history {
            return Ok(framed(history.before(first)));
        }
        if self.planner.facts(track, self.source, first).has_all_parameter_sets {
            return Ok(Vec::new());
        }
        let earlier = self.planner.sync_samples_since_parameter_sets(track, self.source, first);
        let read = |sync| match track.read(self.source, sync, false) {
            // A sample past the end of the file has no parameter sets.
            Err(error) if matches!(error.kind(), ErrorKind::PastEnd { .. }) => None,
            read => Some(read),
        };
        let samples = earlier.into_iter().filter_map(read).collect::<Result<Vec<PaddedBytes>>>()?;
        let units = samples.iter().flat_map(|sample| framing.units(sample.data()));
        Ok(framed(units.filter_map(|unit| Some((identify(track.codec, unit)?, unit))).collect()))
    }

    /// The decoder configuration to send with a sample: where the description changes, and at the beginning of a run on
    /// a decoder that may have other parameter sets.
    pub(super) fn extradata(&self, index: u32, is_reentry: bool, current: &mut Option<u16>) -> Option<&[u8]> {
        let track = self.track;
        if !track.descriptions.is_empty() {
            let description_index = track.samples[index as usize].description;
            let changed = current.replace(description_index) != Some(description_index);
            let description = track.descriptions.get(usize::from(description_index))?;
            return (changed && !description.is_empty()).then_some(&description[..]);
        }
        let can_change = matches!(track.codec, Codec::Hevc | Codec::H264);
        let extradata = track.parameters.extradata();
        (is_reentry && can_change && !extradata.is_empty()).then_some(extradata)
    }

    /// The sample of a picture; that of a second field is the first field's. In VP9, a frame that shows an existing one
    /// has the existing frame's tag, but its own time.
    pub(super) fn sample_of(&self, frame: &Frame) -> Option<u32> {
        let tag = match self.track.codec {
            Codec::Vp9 => frame.pts().and_then(|pts| u32::try_from(pts).ok())?,
            _ => frame.tag()?,
        };
        let is_silent = |sample: u32| self.track.samples.get(sample as usize).is_some_and(|sample| sample.silent);
        Some(if tag > 0 && is_silent(tag) && self.track.codec == Codec::H264 { tag - 1 } else { tag })
    }
}
