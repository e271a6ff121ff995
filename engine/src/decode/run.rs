//! A decode run: samples through one decoder, in decode order, and the resulting events, one at a time.
//!
//! There is one loop of sending and receiving, written as a state machine that the caller pulls: [`DecodeRun::next`]
//! works until the next event. Fallback decodes and playback run over all samples of a range ([`DecodeRun::over`]).
//! Planned decodes run over the samples that their targets need ([`DecodeRun::planned`]), leave checkpoints, and end at
//! the first sign of damage. Making packets is left to [`samples`](super::samples), the decision on each picture to the
//! caller.

use std::collections::VecDeque;

use ffi::{AvError, Decoder, Found, Frame, Packet, Received, Sent};

use super::keeper::Keeper;
use super::pool::Lease;
use super::samples::SampleReader;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::State;
use crate::plan::route::{Base, Leg};

/// A result of a decode run.
#[derive(Debug)]
pub enum Event {
    /// The picture of a sample.
    Picture(u32, Frame),
    /// The decoder rejected this sample or, with several threads, one that was sent not long before.
    Damage(u32, AvError),
    /// A sample could not be read; a run over a range goes on without it.
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
    /// Pictures that are ready come out; then the packet is sent again, if the decoder was full.
    Receive,
    /// The sample was sent: the oldest waiting sample is decoded by now.
    Sent,
    /// Waits for frame threads that are at work.
    Settle,
    /// The waiting samples are checked.
    Check,
    /// No more samples: the decoder is drained.
    End,
    /// The last pictures come out.
    Drain,
    Over,
}

/// The samples of a run.
#[derive(Debug)]
enum Samples<'a> {
    /// All samples `next..=last`.
    Range { next: u32, last: u32 },
    /// The samples of a plan: `next` is the place in `leg.samples`, `set` that in `leg.sets`.
    Planned { leg: &'a Leg, next: usize, set: usize },
    /// A packet that the caller made.
    Single,
}

/// The state of a planned run, for its checkpoints.
#[derive(Debug)]
struct Checkpointing {
    /// Pictures since the last checkpoint.
    since: u32,
    /// The decoder's state after the last sample that was checked.
    state: State,
    /// A checkpoint is due as soon as the caller has the picture.
    is_due: bool,
}

/// A decode run; see the module.
pub struct DecodeRun<'a> {
    samples: Samples<'a>,
    /// The sample at which the decoder begins without references, if it does.
    entry: Option<u32>,
    checkpoints: Option<Checkpointing>,
    phase: Phase,
    packet: Option<Packet>,
    /// The sample that was sent last.
    sample: u32,
    /// The packet holds parameter sets only.
    is_set: bool,
    is_full: bool,
    /// Samples that were sent and may not be decoded yet: with frame threads, one fewer than threads.
    waiting: VecDeque<u32>,
    /// The decoder configuration in use.
    description: Option<u16>,
    /// An event that the caller does not have yet.
    found: Option<Event>,
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
    /// A run over samples `entry..=last`, which goes on after damage for as long as the caller pulls.
    ///
    /// It also ends, without an event, where the decoder's reservation is used up: after a picture without memory no
    /// result is reliable.
    pub fn over(entry: u32, last: u32) -> DecodeRun<'a> {
        DecodeRun::new(Samples::Range { next: entry, last }, Some(entry), entry)
    }

    /// A run over the samples of a plan. Targets come out as soon as they are decoded; other pictures may come too.
    /// `keeper`, which is also the reader's, decides where it leaves checkpoints. It ends with the first event that is
    /// not a sound picture.
    pub fn planned(leg: &'a Leg, keeper: &Keeper<'_>) -> DecodeRun<'a> {
        let mut state = leg.state();
        state.is_pruned |= keeper.needs.begin(leg);
        let entry = matches!(leg.base, Base::Entry).then_some(leg.entry);
        DecodeRun {
            checkpoints: Some(Checkpointing { since: 0, state, is_due: false }),
            phase: Phase::Begin,
            ..DecodeRun::new(Samples::Planned { leg, next: 0, set: 0 }, entry, leg.entry)
        }
    }

    /// A run of one packet without draining: pictures that the decoder holds back stay there.
    pub(super) fn single(packet: Packet, sample: u32) -> DecodeRun<'a> {
        let packet = Some(packet);
        DecodeRun { packet, phase: Phase::Send, ..DecodeRun::new(Samples::Single, None, sample) }
    }

    fn new(samples: Samples<'a>, entry: Option<u32>, sample: u32) -> DecodeRun<'a> {
        DecodeRun {
            samples,
            entry,
            checkpoints: None,
            phase: Phase::Read,
            packet: None,
            sample,
            is_set: false,
            is_full: false,
            waiting: VecDeque::new(),
            description: None,
            found: None,
            is_damaged: false,
            is_stopping: false,
        }
    }

    /// Stops reading samples. A planned run may still have events: the pictures of the samples that were sent. It then
    /// leaves its decoder's state as a checkpoint, from which another run can continue.
    pub fn stop(&mut self) {
        let is_before_end = !matches!(self.phase, Phase::End | Phase::Drain | Phase::Over);
        let is_sent = matches!(self.phase, Phase::Receive | Phase::Sent) && !self.is_full && !self.is_set;
        if is_sent {
            // Its picture may have come as it was sent: the decoder's state is that after it.
            self.waiting.push_back(self.sample);
        }
        self.is_stopping = true;
        self.packet = None;
        self.phase = if self.checkpoints.is_some() && is_before_end { Phase::Settle } else { Phase::Over };
    }

    /// The next event; `None` at the end of the run. The reader and the lease are the same for all calls; the lease
    /// flushes the decoder of a run that was not pulled to its end.
    ///
    /// # Errors
    /// Only for lack of memory; every other error is an [`Event`].
    pub fn next(&mut self, reader: &SampleReader<'_>, lease: &mut Lease) -> Result<Option<Event>> {
        loop {
            if self.checkpoints.is_some() && self.is_damaged {
                // Frame threads at work may have decoded pictures that refer to damage.
                self.phase = Phase::Over;
                return Ok(None);
            }
            if let Some(event) = self.found.take() {
                self.is_damaged |= !event.is_sound();
                return Ok(Some(event));
            }
            self.keep_if_due(reader, lease.decoder());
            match self.phase {
                Phase::Begin => self.begin(reader, lease)?,
                Phase::Read => self.read(reader, lease)?,
                Phase::Send => self.send(lease.decoder()),
                Phase::Receive => self.receive(reader, lease.decoder(), Decoder::receive),
                Phase::Sent => self.sent(reader, lease),
                Phase::Settle => self.receive(reader, lease.decoder(), Decoder::settle),
                Phase::Check => self.check(reader, lease.decoder()),
                Phase::End => self.end(lease.decoder()),
                Phase::Drain => self.receive(reader, lease.decoder(), Decoder::receive),
                Phase::Over => return Ok(None),
            }
        }
    }

    fn begin(&mut self, reader: &SampleReader<'_>, lease: &mut Lease) -> Result<()> {
        self.phase = Phase::Read;
        if let Samples::Planned { leg, .. } = self.samples
            && let Base::Checkpoint(kept) = &leg.base
        {
            lease.decoder().restore(kept.checkpoint()).map_err(ErrorKind::Decoder)?;
            reader.counters.fork();
            let position = kept.state.position;
            self.description = Some(reader.track.samples[position as usize].description);
            if let Some(keeper) = reader.keeper {
                keeper.store.used(keeper.video, position, !leg.samples.is_empty());
            }
        }
        Ok(())
    }

    /// The next sample, and whether only its parameter sets are sent.
    fn upcoming(&self) -> Option<(u32, bool)> {
        match self.samples {
            Samples::Range { next, last } => (next <= last).then_some((next, false)),
            Samples::Planned { leg, next, set } => {
                let sample = *leg.samples.get(next)?;
                let set = leg.sets.get(set).copied().filter(|&set| set < sample);
                Some(set.map_or((sample, false), |set| (set, true)))
            }
            Samples::Single => None,
        }
    }

    fn advance(&mut self) {
        match &mut self.samples {
            Samples::Range { next, .. } => *next += 1,
            Samples::Planned { set, .. } if self.is_set => *set += 1,
            Samples::Planned { next, .. } => *next += 1,
            Samples::Single => {}
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
        let is_entry = self.entry == Some(sample);
        let data = match is_set {
            true => reader.lasting_units(sample),
            false if is_entry => reader.entry(sample),
            false => reader.sample(sample),
        };
        let data = match data {
            Ok(data) => data,
            Err(error) => {
                self.found = Some(Event::Unreadable(sample, error));
                return Ok(());
            }
        };
        if self.checkpoints.is_some() && is_entry && !reader.keeps_promise(sample, data.data()) {
            self.found = Some(Event::Damage(sample, AvError::INVALID_DATA));
            return Ok(());
        }
        let mut packet = reader.packet(sample, &data)?;
        if !is_set {
            reader.counters.decoded(1);
            let is_reentry = is_entry && !lease.is_fresh();
            if let Some(extradata) = reader.extradata(sample, is_reentry, &mut self.description) {
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
        // The damage comes first: the damaged picture may be among those that are ready.
        if let (Err(error), Phase::Receive) = (sent, self.phase) {
            self.found = Some(Event::Damage(self.sample, error));
        }
        self.is_full = sent == Ok(Sent::Full);
    }

    /// Receives one picture, or takes the next step if there is none.
    fn receive(
        &mut self,
        reader: &SampleReader<'_>,
        decoder: &mut Decoder,
        take: fn(&mut Decoder) -> std::result::Result<Received, AvError>,
    ) {
        let taken = take(decoder);
        if decoder.lacks_room() {
            self.phase = Phase::Over;
            return;
        }
        match taken {
            Ok(Received::Picture(frame)) => {
                // The decoder made a picture without a number to fill a gap: it belongs to no sample.
                if let Some(sample) = reader.sample_of(&frame) {
                    self.found = Some(Event::Picture(sample, frame));
                }
            }
            Ok(Received::NeedsMore | Received::End) => self.phase = self.after_receiving(),
            Err(error) => {
                self.found = Some(Event::Damage(self.sample, error));
                if error == AvError::NO_MEMORY {
                    self.phase = Phase::Over;
                }
            }
        }
    }

    fn after_receiving(&self) -> Phase {
        match (self.phase, &self.samples) {
            (Phase::Receive, _) if self.is_full => Phase::Send,
            (Phase::Receive, Samples::Single) => Phase::Over,
            (Phase::Receive, _) if self.is_set => Phase::Read,
            (Phase::Receive, _) => Phase::Sent,
            (Phase::Settle, _) => Phase::Check,
            _ => Phase::Over,
        }
    }

    fn sent(&mut self, reader: &SampleReader<'_>, lease: &mut Lease) {
        self.packet = None;
        self.phase = Phase::Read;
        self.waiting.push_back(self.sample);
        if self.waiting.len() > lease.lag() {
            self.look_at_oldest(reader, lease.decoder());
        }
    }

    fn check(&mut self, reader: &SampleReader<'_>, decoder: &mut Decoder) {
        if !self.waiting.is_empty() {
            self.look_at_oldest(reader, decoder);
            return;
        }
        if self.checkpoints.as_ref().is_some_and(|checkpoints| checkpoints.since >= 2) {
            self.keep(reader, decoder, true);
        }
        self.phase = if self.is_stopping { Phase::Over } else { Phase::End };
    }

    fn end(&mut self, decoder: &mut Decoder) {
        // The decoder still holds back the remaining pictures.
        self.phase = Phase::Drain;
        if let Err(error) = decoder.send_end() {
            self.found = Some(Event::Damage(self.sample, error));
        }
    }

    /// Checks the oldest waiting sample, which is decoded by now. So damage is found before pictures that refer to it
    /// come out.
    fn look_at_oldest(&mut self, reader: &SampleReader<'_>, decoder: &mut Decoder) {
        let Some(sample) = self.waiting.pop_front() else { return };
        let Some(checkpoints) = &mut self.checkpoints else {
            if !decoder.is_clean(sample) {
                self.found = Some(Event::Damage(sample, AvError::INVALID_DATA));
            }
            return;
        };
        checkpoints.state.position = sample;
        if let Some(keeper) = reader.keeper {
            keeper.needs.note(&mut checkpoints.state, sample);
        }
        checkpoints.since += 1;
        if decoder.lacks_room() {
            self.phase = Phase::Over;
            return;
        }
        if !decoder.is_clean(sample) || decoder.found() != Found::Nothing {
            self.found = Some(Event::Damage(sample, AvError::INVALID_DATA));
            return;
        }
        if let Samples::Planned { leg, .. } = self.samples {
            if leg.targets.binary_search(&sample).is_ok()
                && let Some(picture) = decoder.picture(sample)
            {
                self.found = Some(Event::Picture(sample, picture));
            }
            checkpoints.is_due = reader.keeper.is_some_and(|keeper| keeper.is_due(leg, sample, checkpoints.since));
        }
    }

    fn keep_if_due(&mut self, reader: &SampleReader<'_>, decoder: &mut Decoder) {
        if self.checkpoints.as_mut().is_some_and(|checkpoints| std::mem::take(&mut checkpoints.is_due)) {
            self.keep(reader, decoder, false);
        }
    }

    fn keep(&mut self, reader: &SampleReader<'_>, decoder: &mut Decoder, is_end: bool) {
        let (Some(checkpoints), Some(keeper)) = (&mut self.checkpoints, reader.keeper) else { return };
        // After an error of the decoder its state is useless.
        if !self.is_damaged && !decoder.lacks_room() {
            keeper.keep(decoder, checkpoints.state, is_end, reader.counters);
            checkpoints.since = 0;
        }
    }
}
