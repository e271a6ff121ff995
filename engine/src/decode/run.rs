//! A decode run: samples through one decoder, in decode order, and the resulting events, one at a time.
//!
//! There is one loop of sending and receiving, written as a state machine that the caller pulls: [`DecodeRun::next`]
//! works until the next event. Fallback decodes and playback run over all samples of a range ([`DecodeRun::over`]).
//! Planned decodes run over the samples that their targets need ([`DecodeRun::planned`]), save checkpoints, and end at
//! the first sign of damage. Making packets is left to [`samples`](super::samples), the decision on each picture to the
//! caller.

use std::collections::VecDeque;

use ffi::{AvError, DamageSign, Decoder, DecoderOutput, Frame, Packet, SendStatus};

use super::checkpoint_writer::CheckpointWriter;
use super::pool::Lease;
use super::samples::SampleReader;
use crate::bitstream::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::DecoderHistory;
use crate::plan::runs::{PlannedRun, RunStart};

/// One result that `DecodeRun` passes to the caller: a picture, damage, or an unreadable sample.
#[derive(Debug)]
pub enum Event {
    /// The picture of a sample.
    Picture(u32, Frame),
    /// The decoder rejected this sample or, with several threads, one that was sent not long before.
    Damage(u32, AvError),
    /// A sample could not be read; a run over a range continues without it.
    Unreadable(u32, Error),
}

impl Event {
    /// True for a picture in which the decoder found no damage.
    pub fn is_sound(&self) -> bool {
        matches!(self, Event::Picture(_, picture) if !picture.is_corrupt())
    }
}

/// The next step of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A planned run restores its checkpoint.
    Begin,
    /// The next sample becomes a packet.
    Read,
    /// The packet goes to the decoder.
    Send,
    /// Ready pictures are received; then the packet is sent again, if the decoder was full.
    Receive,
    /// The sample was sent: the decoder has decoded the oldest waiting sample by now.
    Sent,
    /// Waits for frame threads that are decoding.
    Settle,
    /// The waiting samples are checked.
    Check,
    /// No more samples: the decoder is drained.
    End,
    /// The last pictures are received.
    Drain,
    Over,
}

/// The samples of a run.
#[derive(Debug)]
enum RunSamples<'a> {
    /// All samples `next..=last`.
    Range { next: u32, last: u32 },
    /// The samples of a plan: `next` is the position in `planned_run.samples`, `set` that in `planned_run.sets`.
    Planned { planned_run: &'a PlannedRun, next: usize, set: usize },
    /// A packet from the caller.
    Single,
}

/// The state of a planned run, for its checkpoints.
#[derive(Debug)]
struct CheckpointProgress {
    /// Pictures since the last checkpoint.
    since: u32,
    /// The decoder's state after the last sample that was checked.
    state: DecoderHistory,
    /// A checkpoint is due as soon as the caller has the picture.
    is_due: bool,
}

/// A decode run: a state machine over the samples of one decoder. See the module.
pub struct DecodeRun<'a> {
    samples: RunSamples<'a>,
    /// The sample at which the decoder begins without reference pictures, if there is one.
    start: Option<u32>,
    checkpoints: Option<CheckpointProgress>,
    phase: Phase,
    packet: Option<Packet>,
    /// The sample that was sent last.
    sample: u32,
    /// The packet holds parameter sets only.
    is_set: bool,
    is_full: bool,
    /// Samples that were sent and may not be decoded yet ([`Decoder::lag`]).
    waiting: VecDeque<u32>,
    /// The decoder configuration in use.
    description: Option<u16>,
    /// An event that the caller has not pulled yet.
    pending_event: Option<Event>,
    is_damaged: bool,
    is_stopping: bool,
}

impl std::fmt::Debug for DecodeRun<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut it = formatter.debug_struct("DecodeRun");
        it.field("phase", &self.phase).field("sample", &self.sample).finish_non_exhaustive()
    }
}

impl<'a> DecodeRun<'a> {
    /// A run over samples `first..=last`, which continues after damage for as long as the caller pulls.
    ///
    /// It also ends, without an event, where the decoder's reservation is used up: after a picture without memory no
    /// result is reliable.
    pub fn over(first: u32, last: u32) -> DecodeRun<'a> {
        DecodeRun::new(RunSamples::Range { next: first, last }, Some(first), first)
    }

    /// A run over the samples of a plan. It returns targets as soon as they are decoded; other pictures may be among
    /// them. `checkpoint_writer`, which must also be that of the [`SampleReader`], decides where it saves checkpoints.
    /// It ends with the first event that is not a sound picture.
    pub fn planned(planned_run: &'a PlannedRun, checkpoint_writer: &CheckpointWriter<'_>) -> DecodeRun<'a> {
        let mut state = planned_run.state();
        state.is_pruned |= checkpoint_writer.dependencies.begin(planned_run);
        let start = matches!(planned_run.start, RunStart::RandomAccessPoint).then_some(planned_run.history_start);
        DecodeRun {
            checkpoints: Some(CheckpointProgress { since: 0, state, is_due: false }),
            phase: Phase::Begin,
            ..DecodeRun::new(RunSamples::Planned { planned_run, next: 0, set: 0 }, start, planned_run.history_start)
        }
    }

    /// A run of one packet without draining: pictures that the decoder holds back stay there.
    pub(super) fn single(packet: Packet, sample: u32) -> DecodeRun<'a> {
        let packet = Some(packet);
        DecodeRun { packet, phase: Phase::Send, ..DecodeRun::new(RunSamples::Single, None, sample) }
    }

    fn new(samples: RunSamples<'a>, start: Option<u32>, sample: u32) -> DecodeRun<'a> {
        DecodeRun {
            samples,
            start,
            checkpoints: None,
            phase: Phase::Read,
            packet: None,
            sample,
            is_set: false,
            is_full: false,
            waiting: VecDeque::new(),
            description: None,
            pending_event: None,
            is_damaged: false,
            is_stopping: false,
        }
    }

    /// Stops reading samples. A planned run may still have events: the pictures of the samples that were sent. It then
    /// saves its decoder's state as a checkpoint, from which another run can continue.
    pub fn stop(&mut self) {
        let is_sent = matches!(self.phase, Phase::Receive | Phase::Sent) && !self.is_full && !self.is_set;
        if is_sent {
            // Its picture may have been received when it was sent: the decoder's state is that after it.
            self.waiting.push_back(self.sample);
        }
        self.is_stopping = true;
        self.packet = None;
        self.phase = match self.phase {
            Phase::End | Phase::Over => Phase::Over,
            _ if self.checkpoints.is_none() => Phase::Over,
            Phase::Drain => Phase::Drain,
            _ => Phase::Settle,
        };
    }

    /// The next event; `None` at the end of the run. The reader and the lease must be the same for all calls; the lease
    /// flushes the decoder of a run that was not pulled to its end.
    ///
    /// # Errors
    /// Only for lack of memory; every other error is an [`Event`].
    pub fn next(&mut self, reader: &SampleReader<'_>, lease: &mut Lease) -> Result<Option<Event>> {
        loop {
            if self.checkpoints.is_some() && self.is_damaged {
                // Frame threads may have decoded pictures that refer to damage.
                self.phase = Phase::Over;
                return Ok(None);
            }
            if let Some(event) = self.pending_event.take() {
                self.is_damaged |= !event.is_sound();
                return Ok(Some(event));
            }
            self.save_if_due(reader, lease.decoder());
            match self.phase {
                Phase::Begin => self.begin(reader, lease)?,
                Phase::Read => self.read(reader, lease)?,
                Phase::Send => self.send(lease.decoder()),
                Phase::Receive => self.receive(reader, lease.decoder(), Decoder::receive),
                Phase::Sent => self.after_sending(reader, lease),
                Phase::Settle if drains_first(reader) => self.end(lease.decoder()),
                Phase::Settle => self.receive(reader, lease.decoder(), Decoder::settle),
                Phase::Check => self.check(reader, lease.decoder()),
                Phase::End => self.end(lease.decoder()),
                Phase::Drain if self.is_stopping && !drains_first(reader) => return Ok(None),
                Phase::Drain => self.receive(reader, lease.decoder(), Decoder::receive),
                Phase::Over => return Ok(None),
            }
        }
    }

    fn begin(&mut self, reader: &SampleReader<'_>, lease: &mut Lease) -> Result<()> {
        self.phase = Phase::Read;
        if let RunSamples::Planned { planned_run, .. } = self.samples
            && let RunStart::Checkpoint(kept) = &planned_run.start
        {
            lease.decoder().restore(kept.checkpoint()).map_err(ErrorKind::Decoder)?;
            reader.counters.fork();
            let position = kept.state.position;
            self.description = Some(reader.track.samples[position as usize].description);
            if let Some(checkpoint_writer) = reader.checkpoint_writer {
                checkpoint_writer.store.touch(checkpoint_writer.video, position, !planned_run.samples.is_empty());
            }
        }
        Ok(())
    }

    /// The next sample, and whether only its parameter sets are sent.
    fn upcoming(&self) -> Option<(u32, bool)> {
        match self.samples {
            RunSamples::Range { next, last } => (next <= last).then_some((next, false)),
            RunSamples::Planned { planned_run, next, set } => {
                let sample = *planned_run.samples.get(next)?;
                let set = planned_run.sets.get(set).copied().filter(|&set| set < sample);
                Some(set.map_or((sample, false), |set| (set, true)))
            }
            RunSamples::Single => None,
        }
    }

    fn advance(&mut self) {
        match &mut self.samples {
            RunSamples::Range { next, .. } => *next += 1,
            RunSamples::Planned { set, .. } if self.is_set => *set += 1,
            RunSamples::Planned { next, .. } => *next += 1,
            RunSamples::Single => {}
        }
    }

    fn read(&mut self, reader: &SampleReader<'_>, lease: &Lease) -> Result<()> {
        let Some((sample, is_set)) = self.upcoming() else {
            self.phase = Phase::Settle;
            return Ok(());
        };
        if !is_set && !reader.may_read(sample) {
            self.stop();
            return Ok(());
        }
        self.is_set = is_set;
        self.advance();
        let is_first = self.start == Some(sample);
        let data = match is_set {
            true => reader.lasting_units(sample),
            false if is_first => reader.sample_with_parameter_sets(sample),
            false => reader.sample(sample),
        };
        let data = match data {
            Ok(data) => data,
            Err(error) => {
                self.pending_event = Some(Event::Unreadable(sample, error));
                return Ok(());
            }
        };
        if self.checkpoints.is_some() && is_first && !reader.matches_index(sample, data.data()) {
            self.pending_event = Some(Event::Damage(sample, AvError::INVALID_DATA));
            return Ok(());
        }
        let mut packet = reader.packet(sample, &data)?;
        if !is_set {
            reader.counters.decoded(1);
            let is_restart = is_first && !lease.is_fresh();
            if let Some(extradata) = reader.extradata(sample, is_restart, &mut self.description) {
                packet.set_new_extradata(extradata).map_err(ErrorKind::Decoder)?;
            }
        }
        (self.packet, self.sample, self.phase) = (Some(packet), sample, Phase::Send);
        Ok(())
    }

    fn send(&mut self, decoder: &mut Decoder) {
        let Some(packet) = &self.packet else {
            self.phase = Phase::Over;
            return;
        };
        let sent = decoder.send(packet);
        self.phase = if decoder.lacks_room() { Phase::Over } else { Phase::Receive };
        // The damage is reported first: the damaged picture may be among those that are ready.
        if let (Err(error), Phase::Receive) = (sent, self.phase) {
            self.pending_event = Some(Event::Damage(self.sample, error));
        }
        self.is_full = sent == Ok(SendStatus::Full);
    }

    /// Receives one picture, or takes the next step if there is none.
    fn receive(
        &mut self,
        reader: &SampleReader<'_>,
        decoder: &mut Decoder,
        take: fn(&mut Decoder) -> std::result::Result<DecoderOutput, AvError>,
    ) {
        let taken = take(decoder);
        if decoder.lacks_room() {
            self.phase = Phase::Over;
            return;
        }
        match taken {
            Ok(DecoderOutput::Picture(frame)) => {
                // The decoder has made a picture without a number to fill a gap: it belongs to no sample.
                if let Some(sample) = reader.sample_of(&frame) {
                    self.pending_event = Some(Event::Picture(sample, frame));
                }
            }
            Ok(DecoderOutput::NeedsMore | DecoderOutput::End) => self.phase = self.after_receiving(reader),
            Err(error) => {
                self.pending_event = Some(Event::Damage(self.sample, error));
                if error == AvError::NO_MEMORY {
                    self.phase = Phase::Over;
                }
            }
        }
    }

    fn after_receiving(&self, reader: &SampleReader<'_>) -> Phase {
        match (self.phase, &self.samples) {
            (Phase::Receive, _) if self.is_full => Phase::Send,
            (Phase::Receive, RunSamples::Single) => Phase::Over,
            (Phase::Receive, _) if self.is_set => Phase::Read,
            (Phase::Receive, _) => Phase::Sent,
            (Phase::Settle, _) => Phase::Check,
            (Phase::Drain, _) if drains_first(reader) => Phase::Check,
            _ => Phase::Over,
        }
    }

    fn after_sending(&mut self, reader: &SampleReader<'_>, lease: &mut Lease) {
        self.packet = None;
        self.phase = Phase::Read;
        self.waiting.push_back(self.sample);
        if self.waiting.len() > lease.lag() {
            self.check_oldest(reader, lease.decoder());
        }
    }

    fn check(&mut self, reader: &SampleReader<'_>, decoder: &mut Decoder) {
        if !self.waiting.is_empty() {
            self.check_oldest(reader, decoder);
            return;
        }
        if self.checkpoints.as_ref().is_some_and(|checkpoints| checkpoints.since >= 2) {
            self.save_checkpoint(reader, decoder, true);
        }
        let is_over = self.is_stopping || drains_first(reader);
        self.phase = if is_over { Phase::Over } else { Phase::End };
    }

    fn end(&mut self, decoder: &mut Decoder) {
        // The decoder still holds back the remaining pictures.
        self.phase = Phase::Drain;
        if let Err(error) = decoder.send_end() {
            self.pending_event = Some(Event::Damage(self.sample, error));
        }
    }

    /// Checks the oldest waiting sample, which is decoded by now. So damage is detected before the caller gets pictures
    /// that refer to it.
    fn check_oldest(&mut self, reader: &SampleReader<'_>, decoder: &mut Decoder) {
        let Some(sample) = self.waiting.pop_front() else { return };
        let Some(checkpoints) = &mut self.checkpoints else {
            if !decoder.is_clean(sample) {
                self.pending_event = Some(Event::Damage(sample, AvError::INVALID_DATA));
            }
            return;
        };
        checkpoints.state.position = sample;
        if let Some(checkpoint_writer) = reader.checkpoint_writer {
            checkpoint_writer.dependencies.update_history(&mut checkpoints.state, sample);
        }
        checkpoints.since += 1;
        if decoder.lacks_room() {
            self.phase = Phase::Over;
            return;
        }
        if !decoder.is_clean(sample) || decoder.damage_sign() != DamageSign::Nothing {
            self.pending_event = Some(Event::Damage(sample, AvError::INVALID_DATA));
            return;
        }
        if let RunSamples::Planned { planned_run, .. } = self.samples {
            if planned_run.targets.binary_search(&sample).is_ok()
                && let Some(picture) = decoder.picture(sample)
            {
                self.pending_event = Some(Event::Picture(sample, picture));
            }
            checkpoints.is_due = reader
                .checkpoint_writer
                .is_some_and(|checkpoint_writer| checkpoint_writer.is_due(planned_run, sample, checkpoints.since));
        }
    }

    fn save_if_due(&mut self, reader: &SampleReader<'_>, decoder: &mut Decoder) {
        if self.checkpoints.as_mut().is_some_and(|checkpoints| std::mem::take(&mut checkpoints.is_due)) {
            self.save_checkpoint(reader, decoder, false);
        }
    }

    fn save_checkpoint(&mut self, reader: &SampleReader<'_>, decoder: &mut Decoder, is_end: bool) {
        let (Some(checkpoints), Some(checkpoint_writer)) = (&mut self.checkpoints, reader.checkpoint_writer) else {
            return;
        };
        // After an error of the decoder its state is useless.
        if !self.is_damaged && !decoder.lacks_room() && !is_last_of_gop(reader, checkpoints.state.position) {
            checkpoint_writer.save(decoder, checkpoints.state, is_end, reader.counters);
            checkpoints.since = 0;
        }
    }
}

/// True if no sample can be decoded from the state after this one: in AV1 a key frame replaces it, and its pictures cannot
/// be output.
fn is_last_of_gop(reader: &SampleReader<'_>, sample: u32) -> bool {
    let next = reader.track.samples.get(sample as usize + 1);
    reader.track.codec == Codec::Av1 && next.is_none_or(|next| next.key)
}

/// True if the pictures of all samples are received before the last state is saved. In AV1 only draining decodes a frame
/// that was sent last, and the state outlasts it; in the other codecs draining drops the references.
fn drains_first(reader: &SampleReader<'_>) -> bool {
    reader.track.codec == Codec::Av1
}
