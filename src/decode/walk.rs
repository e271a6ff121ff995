//! A walk: a run of samples through a decoder, in decode order, and the pictures that come of it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use ffi::{AvError, Decoder, Frame, Packet, PaddedBytes, Received, Sent};

use super::pool::Lease;
use crate::bitstream::Codec;
use crate::bitstream::parameter_sets::identify;
use crate::container::Track;
use crate::error::{Error, Result};
use crate::plan::Planner;
use crate::source::Source;

/// What a walk comes upon.
#[derive(Debug)]
pub enum Event {
    /// The picture of a sample.
    Picture(u32, Frame),
    /// The decoder rejected something: a sample sent before, not known which.
    Damage(AvError),
    /// A sample could not be read; the walk goes on without it.
    Unreadable(u32, Error),
}

/// A run of samples to be decoded.
pub struct Walk<'a> {
    /// The track.
    pub track: &'a Track,
    /// Its bytes.
    pub source: &'a dyn Source,
    /// Its entries.
    pub planner: &'a Planner,
    /// Put zeros behind every packet, by copying: what a sequential decode of a damaged file sees there.
    pub zeros: bool,
}

impl Walk<'_> {
    /// Decodes samples `entry..=last` and drains. `sink` may break off; the decoder is then flushed by its lease.
    ///
    /// # Errors
    /// Only for lack of memory; everything else is an [`Event`].
    pub fn run(
        &self,
        lease: &mut Lease,
        entry: u32,
        last: u32,
        sink: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let is_fresh = lease.is_fresh();
        let decoder = lease.decoder();
        let mut description = None;
        for index in entry..=last {
            let data = match self.read(index, entry) {
                Ok(data) => data,
                Err(error) => {
                    if sink(Event::Unreadable(index, error)).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                    continue;
                }
            };
            let mut packet = self.packet(index, &data)?;
            let extradata = self.extradata(index, index == entry && !is_fresh, &mut description);
            if let Some(extradata) = extradata {
                packet.set_new_extradata(extradata).map_err(crate::error::ErrorKind::Decoder)?;
            }
            if self.send(decoder, &packet, sink).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if let Err(error) = decoder.send_end()
            && sink(Event::Damage(error)).is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
        Ok(self.receive_all(decoder, sink))
    }

    fn packet(&self, index: u32, data: &PaddedBytes) -> Result<Packet> {
        let sample = &self.track.samples[index as usize];
        // Times are the container's business: to the decoder, time is the sample's number, which comes back where the
        // tag does not (`sample_of`).
        let mut packet = Packet::new(data, index, Some(i64::from(index))).map_err(crate::error::ErrorKind::Decoder)?;
        packet.set_flags(sample.key, sample.discard);
        Ok(packet)
    }

    /// The sample's bytes; before those of the entry come the parameter sets that hold there, unless it brings them all.
    fn read(&self, index: u32, entry: u32) -> Result<PaddedBytes> {
        let data = self.track.read(self.source, index, self.zeros)?;
        if index != entry {
            return Ok(data);
        }
        let sets = self.parameter_sets(index, data.data());
        if sets.is_empty() {
            return Ok(data);
        }
        let mut pieces: Vec<&[u8]> = sets.iter().map(|set| &set[..]).collect();
        pieces.push(data.data());
        let all = PaddedBytes::copy_of(&pieces);
        self.source.counters().copy(all.len());
        Ok(all)
    }

    fn parameter_sets(&self, entry: u32, sample: &[u8]) -> Vec<Vec<u8>> {
        let (track, framing) = (self.track, self.track.framing);
        if !matches!(track.codec, Codec::Hevc | Codec::H264) {
            return Vec::new();
        }
        let own: Vec<_> = framing.units(sample).filter_map(|unit| identify(track.codec, unit)).collect();
        let framed = |held: BTreeMap<(u8, u32), &[u8]>| -> Vec<Vec<u8>> {
            if held.keys().all(|id| own.contains(id)) {
                return Vec::new();
            }
            // By type: VPS, SPS, PPS, each before those that refer to it.
            held.values().map(|unit| framing.frame(unit)).collect()
        };
        if let Some(history) = &track.history {
            return framed(history.before(entry));
        }
        if self.planner.facts(track, self.source, entry).has_parameter_sets {
            return Vec::new();
        }
        let earlier = self.planner.sync_samples_since_parameter_sets(track, self.source, entry);
        let samples: Vec<PaddedBytes> =
            earlier.into_iter().filter_map(|sync| track.read(self.source, sync, false).ok()).collect();
        let units = samples.iter().flat_map(|sample| framing.units(sample.data()));
        framed(units.filter_map(|unit| Some((identify(track.codec, unit)?, unit))).collect())
    }

    /// The decoder configuration to send along with a sample: where the description changes, and at the beginning of a
    /// walk with a decoder that may have met other parameter sets.
    fn extradata(&self, index: u32, is_reentry: bool, current: &mut Option<u16>) -> Option<&[u8]> {
        let track = self.track;
        if !track.descriptions.is_empty() {
            let wanted = track.samples[index as usize].description;
            let changed = current.replace(wanted) != Some(wanted);
            let description = track.descriptions.get(usize::from(wanted))?;
            return (changed && !description.is_empty()).then_some(&description[..]);
        }
        let can_change = matches!(track.codec, Codec::Hevc | Codec::H264);
        let extradata = track.parameters.extradata();
        (is_reentry && can_change && !extradata.is_empty()).then_some(extradata)
    }

    fn send(
        &self,
        decoder: &mut Decoder,
        packet: &Packet,
        sink: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        loop {
            let sent = decoder.send(packet);
            self.receive_all(decoder, sink)?;
            match sent {
                Ok(Sent::Accepted) => return ControlFlow::Continue(()),
                Ok(Sent::Full) => {}
                Err(error) => return sink(Event::Damage(error)),
            }
        }
    }

    /// Takes out everything that the decoder has ready.
    fn receive_all(&self, decoder: &mut Decoder, sink: &mut dyn FnMut(Event) -> ControlFlow<()>) -> ControlFlow<()> {
        loop {
            match decoder.receive() {
                Ok(Received::Picture(frame)) => {
                    // A picture without a number was made up by the decoder to fill a gap: nobody's.
                    if let Some(sample) = self.sample_of(&frame) {
                        sink(Event::Picture(sample, frame))?;
                    }
                }
                Ok(Received::NeedsMore | Received::End) => return ControlFlow::Continue(()),
                Err(error) => {
                    sink(Event::Damage(error))?;
                    if error == AvError::NO_MEMORY {
                        return ControlFlow::Break(());
                    }
                }
            }
        }
    }

    /// The sample that a picture counts for: a second field's is that of the first. In VP9, a frame that shows an
    /// existing one comes out with the tag of the one that it shows, but with its own time.
    fn sample_of(&self, frame: &Frame) -> Option<u32> {
        let tag = match self.track.codec {
            Codec::Vp9 => frame.pts().and_then(|pts| u32::try_from(pts).ok())?,
            _ => frame.tag()?,
        };
        let is_silent = |sample: u32| self.track.samples.get(sample as usize).is_some_and(|sample| sample.silent);
        Some(if tag > 0 && is_silent(tag) && self.track.codec == Codec::H264 { tag - 1 } else { tag })
    }
}
