//! A walk: a run of samples through a decoder, in decode order, and the pictures that come of it.

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
        let mut packet = Packet::new(data, index, Some(sample.pts)).map_err(crate::error::ErrorKind::Decoder)?;
        packet.set_flags(sample.key, sample.discard);
        Ok(packet)
    }

    /// The sample's bytes; before those of the entry come the parameter sets that hold there, where it brings none or
    /// they change in the course of the stream.
    fn read(&self, index: u32, entry: u32) -> Result<PaddedBytes> {
        let data = self.track.read(self.source, index, self.zeros)?;
        if index != entry || index == 0 {
            return Ok(data);
        }
        let sets = self.parameter_sets(index);
        if sets.is_empty() {
            return Ok(data);
        }
        let mut pieces: Vec<&[u8]> = sets.iter().map(|set| &set[..]).collect();
        pieces.push(data.data());
        let all = PaddedBytes::copy_of(&pieces);
        self.source.counters().copy(all.len());
        Ok(all)
    }

    fn parameter_sets(&self, entry: u32) -> Vec<Vec<u8>> {
        let (track, framing) = (self.track, self.track.framing);
        if !matches!(track.codec, Codec::Hevc | Codec::H264) {
            return Vec::new();
        }
        let brings_its_own = self.planner.facts(track, self.source, entry).has_parameter_sets;
        if let Some(history) = &track.history {
            if brings_its_own && !history.changes() {
                return Vec::new();
            }
            return history.before(entry).into_iter().map(|unit| framing.frame(unit)).collect();
        }
        if brings_its_own {
            return Vec::new();
        }
        let Some(earlier) = self.planner.parameter_sets_before(track, self.source, entry) else { return Vec::new() };
        let Ok(sample) = track.read(self.source, earlier, false) else { return Vec::new() };
        let sets = framing.units(sample.data()).filter(|unit| identify(track.codec, unit).is_some());
        sets.map(|unit| framing.frame(unit)).collect()
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
        let can_change = matches!(track.codec, Codec::Hevc | Codec::H264) && track.history.is_none();
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
                    // A picture without a tag was made up by the decoder to fill a gap: nobody's.
                    if let Some(sample) = frame.tag().map(|tag| self.first_field(tag)) {
                        sink(Event::Picture(sample, frame))?;
                    }
                }
                Ok(Received::NeedsMore | Received::End) => return ControlFlow::Continue(()),
                Err(error) => sink(Event::Damage(error))?,
            }
        }
    }

    /// The sample that a picture counts for: a second field's is that of the first.
    fn first_field(&self, tag: u32) -> u32 {
        let is_silent = |sample: u32| self.track.samples.get(sample as usize).is_some_and(|sample| sample.silent);
        if tag > 0 && is_silent(tag) && self.track.codec == Codec::H264 { tag - 1 } else { tag }
    }
}
