//! A decode run: samples through one decoder, in decode order, and the events that come of it, one at a time.
//!
//! There is one loop of sending and receiving, written as a state machine that the caller pulls: [`DecodeRun::next`] does as
//! much as the next event takes. Fallback decodes and playback run over all samples of a range ([`DecodeRun::over`]); planned
//! decodes over those that their targets need ([`DecodeRun::planned`]), leave checkpoints, and end at the first sign of damage.
//! How samples become packets is left to [`samples`](super::samples), which events may be shown to the caller.

use std::collections::VecDeque;

use ffi::{AvError, Decoder, Found, Frame, Packet, Received, Sent};

use super::keeper::Keeper;
use super::pool::Lease;
use super::samples::SampleReader;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::State;
use crate::plan::route::{Base, Leg};

/// What a decode run comes upon.
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

/// What the run does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A planned run restores its checkpoint.
    Begin,
    /// The next sample becomes a packet.
    Read,
    /// The packet goes to the decoder.
    Send,
    /// Pictures that are ready come out; then the packet again, if the decoder was full.
    Receive,
    /// The sample was sent: the oldest that waits is decoded by now.
    Sent,
    /// Frame threads that are at work are waited for.
    Settle,
    /// Samples that waited are looked at.
    Check,
    /// No more samples: the decoder should give out what it holds back.
    End,
    /// It does.
    Drain,
    Over,
}

/// The samples of a run.
#[derive(Debug)]
enum Samples<'a> {
    /// `next..=last`, all of them.
    Range { next: u32, last: u32 },
    /// Those of a plan from `next` on, counted in `leg.samples`; `set` counts in `leg.sets`.
    Planned { leg: &'a Leg, next: usize, set: usize },
    /// A packet that was made before.
    Single,
}

/// The state of a planned run, for its checkpoints.
#[derive(Debug)]
struct Checkpointing {
    /// Pictures since the last checkpoint.
    since: u32,
    /// What the decoder has been through, up to the last sample that was looked at.
    state: State,
    /// One should be left as soon as the caller has the picture.
    is_due: bool,
}

/// A decode run; see the module.
pub struct DecodeRun<'a> {
    samples: Samples<'a>,
    /// The sample at which the decoder begins anew, if it does.
    entry: Option<u32>,
    checkpoints: Option<Checkpointing>,
    phase: Phase,
    packet: Option<Packet>,
    /// The sample that was sent last.
    sample: u32,
    /// The packet is parameter sets alone.
    is_set: bool,
    is_full: bool,
    /// Samples that were sent and may not be decoded yet: with frame threads, as many as there are threads but one.
    waiting: VecDeque<u32>,
    /// The decoder configuration in use.
    description: Option<u16>,
    /// What was found and is not given out yet.
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
    /// It also ends where the decoder's reservation is used up, without an event: nothing that comes after a picture without
    /// memory is to be believed.
    pub fn over(entry: u32, last: u32) -> DecodeRun<'a> {
        DecodeRun::new(Samples::Range { next: entry, last }, Some(entry), entry)
    }

    /// A run over the samples of a plan. Targets come out as soon as they are decoded; any other picture may come, too. It leaves
    /// checkpoints where `keeper`, also that of the reader, says, and ends with the first event that is not a sound picture.
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

    /// A run of one packet, without its end: what the decoder holds back stays there.
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

    /// No more is wanted. A planned run may still have events: the pictures of what was sent. It then leaves its decoder's
    /// state as a checkpoint, so that another run can go on from there.
    pub fn stop(&mut self) {
        let is_before_end = !matches!(self.phase, Phase::End | Phase::Drain | Phase::Over);
        let is_sent = matches!(self.phase, Phase::Receive | Phase::Sent) && !self.is_full && !self.is_set;
        if is_sent {
            // Its picture may have come as it was sent: the decoder's state is the one behind it.
            self.waiting.push_back(self.sample);
        }
        self.is_stopping = true;
        self.packet = None;
        self.phase = if self.checkpoints.is_some() && is_before_end { Phase::Settle } else { Phase::Over };
    }

    /// The next event; `None` at the end of the run. The reader and the lease are the same for all calls; the lease flushes the
    /// decoder of a run that was not pulled to its end.
    ///
    /// # Errors
    /// Only for lack of memory; everything else is an [`Event`].
    pub fn next(&mut self, reader: &SampleReader<'_>, lease: &mut Lease) -> Result<Option<Event>> {
        loop {
            if self.checkpoints.is_some() && self.is_damaged {
                // Frame threads that are still at work may have decoded what refers to damage.
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

    /// The sample that comes next, and whether only its parameter sets are sent.
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
        // The damage first: the picture that it is in may be among those that are ready.
        if let (Err(error), Phase::Receive) = (sent, self.phase) {
            self.found = Some(Event::Damage(self.sample, error));
        }
        self.is_full = sent == Ok(Sent::Full);
    }

    /// Takes one picture out, or goes on where there is none.
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
                // A picture without a number was made up by the decoder to fill a gap; it belongs to no sample.
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
        // What is still missing the decoder holds back, or shows only at its turn.
        self.phase = Phase::Drain;
        if let Err(error) = decoder.send_end() {
            self.found = Some(Event::Damage(self.sample, error));
        }
    }

    /// Looks at the oldest sample that waits, which is decoded by now. Damage is known here before the pictures that refer to it
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
        // The decoder complained: its state is worth nothing.
        if !self.is_damaged && !decoder.lacks_room() {
            keeper.keep(decoder, checkpoints.state, is_end, reader.counters);
            checkpoints.since = 0;
        }
    }
}
