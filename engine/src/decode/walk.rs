//! A walk: a run of samples through a decoder, in decode order, and the pictures that come of it.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ffi::{AvError, Decoder, Found, Frame, Packet, PaddedBytes, Received, Sent};

use super::checkpoints::Store;
use super::pool::Lease;
use crate::bitstream::parameter_sets::identify;
use crate::bitstream::{Codec, hevc};
use crate::container::Track;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::route::{Base, Leg, Needs};
use crate::plan::{Planner, State};
use crate::source::Source;

/// What a walk comes upon.
#[derive(Debug)]
pub enum Event {
    /// The picture of a sample.
    Picture(u32, Frame),
    /// The decoder rejected this sample or, with several threads, one that was sent not long before.
    Damage(u32, AvError),
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
    /// Counts what is decoded.
    pub counters: &'a Counters,
    /// Asked before each sample is read: false ends the walk there.
    pub may_read: Option<&'a dyn Fn(u32) -> bool>,
}

/// What an engine has done so far. Only ever grows.
#[derive(Debug, Default)]
pub struct Counters {
    decoded: AtomicU64,
    forks: AtomicU64,
    checkpoints: AtomicU64,
    device_frames: AtomicU64,
}

/// A reading of [`Counters`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Samples that were decoded, slices and all.
    pub decoded_pictures: u64,
    /// Walks that began at a checkpoint.
    pub forks: u64,
    /// Checkpoints that were taken.
    pub checkpoints: u64,
    /// Frames that a GPU has decoded.
    pub device_frames: u64,
}

impl Counters {
    fn decoded(&self, pictures: u64) {
        self.decoded.fetch_add(pictures, Relaxed);
    }

    /// A GPU has decoded a frame that was asked for.
    pub(crate) fn device_frame(&self) {
        self.device_frames.fetch_add(1, Relaxed);
    }

    /// The counts now.
    pub fn now(&self) -> Work {
        Work {
            decoded_pictures: self.decoded.load(Relaxed),
            forks: self.forks.load(Relaxed),
            checkpoints: self.checkpoints.load(Relaxed),
            device_frames: self.device_frames.load(Relaxed),
        }
    }
}

/// Where a leg leaves checkpoints, and how close.
pub struct Keeper<'a> {
    /// Where they go.
    pub store: &'a Store,
    /// The number of the video in there.
    pub video: u64,
    /// Pictures from one to the next.
    pub spacing: u32,
    /// What is known of the samples.
    pub needs: &'a dyn Needs,
}

impl Keeper<'_> {
    /// Keeps the decoder's state just behind `state.position`.
    fn keep(&self, decoder: &mut Decoder, state: State, is_end: bool, counters: &Counters) {
        let is_of_use = !state.is_pruned || self.needs.can_go_on_pruned();
        if !self.store.is_open() || !is_of_use || self.store.has(self.video, &state) {
            return;
        }
        if let Some(checkpoint) = decoder.save(state.position, self.store.take_spare()) {
            counters.checkpoints.fetch_add(1, Relaxed);
            self.store.keep(self.video, state, checkpoint, is_end);
        }
    }
}

impl Walk<'_> {
    /// Decodes samples `entry..=last` and drains. `sink` may break off; the decoder is then flushed by its lease.
    ///
    /// It also ends where the decoder's reservation is used up, without an event: nothing that comes after a picture without
    /// memory is to be believed.
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
        let (is_fresh, lag) = (lease.is_fresh(), lease.lag() as u32);
        let decoder = lease.decoder();
        let mut description = None;
        for index in entry..=last {
            if !self.may_read(index) {
                return Ok(ControlFlow::Break(()));
            }
            let data = match self.read(index, entry) {
                Ok(data) => data,
                Err(error) => {
                    if sink(Event::Unreadable(index, error)).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                    continue;
                }
            };
            self.counters.decoded(1);
            let mut packet = self.packet(index, &data)?;
            let extradata = self.extradata(index, index == entry && !is_fresh, &mut description);
            if let Some(extradata) = extradata {
                packet.set_new_extradata(extradata).map_err(ErrorKind::Decoder)?;
            }
            if self.send(decoder, &packet, index, sink).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if decoder.lacks_room() {
                return Ok(ControlFlow::Break(()));
            }
            // What refers to a damaged picture may be shown before it: told as soon as its thread has done with it.
            if index >= entry + lag
                && !decoder.is_clean(index - lag)
                && sink(Event::Damage(index - lag, AvError::INVALID_DATA)).is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
        if self.receive(decoder, last, sink, Decoder::settle).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        for index in last.saturating_sub(lag).max(entry)..=last {
            if !decoder.is_clean(index) && sink(Event::Damage(index, AvError::INVALID_DATA)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if let Err(error) = decoder.send_end()
            && sink(Event::Damage(last, error)).is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
        Ok(self.receive_all(decoder, last, sink))
    }

    /// Sends one more sample to a decoder with one thread. False if it cannot be read, or the decoder rejects it.
    pub fn accepts(&self, lease: &mut Lease, index: u32) -> bool {
        let packet = self.track.read(self.source, index, self.zeros).and_then(|data| self.packet(index, &data));
        let mut is_accepted = packet.is_ok();
        if let Ok(packet) = packet {
            let _ = self.send(lease.decoder(), &packet, index, &mut |event| {
                is_accepted &= matches!(event, Event::Picture(..));
                ControlFlow::Continue(())
            });
            is_accepted &= !lease.decoder().lacks_room();
        }
        is_accepted
    }

    /// Decodes samples `entry..=last` on one thread and says of each what was found in its picture. The pictures go.
    ///
    /// # Errors
    /// As [`Walk::run`].
    pub fn run_each(&self, lease: &mut Lease, entry: u32, last: u32, sink: &mut dyn FnMut(Found)) -> Result<()> {
        for index in entry..=last {
            let Ok(data) = self.read(index, entry) else { continue };
            let packet = self.packet(index, &data)?;
            let decoder = lease.decoder();
            decoder.forget_found();
            let _ = self.send(decoder, &packet, index, &mut |_| ControlFlow::Continue(()));
            if decoder.lacks_room() {
                return Ok(());
            }
            sink(decoder.found());
        }
        Ok(())
    }

    /// Decodes the samples of a leg, takes its targets out as soon as they are decoded, and leaves checkpoints. Any
    /// picture may come with an event, not only targets. When `sink` breaks off, the decoder's state is kept, so that
    /// someone else can go on from there.
    ///
    /// # Errors
    /// Only for lack of memory; everything else is an [`Event`].
    pub fn run_leg(
        &self,
        lease: &mut Lease,
        leg: &Leg,
        keeper: &Keeper<'_>,
        sink: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let (is_fresh, lag) = (lease.is_fresh(), lease.lag());
        let decoder = lease.decoder();
        let mut description = None;
        let is_damaged = Cell::new(false);
        let sink = &mut |event: Event| {
            // Frame threads that are still waited for may have decoded what refers to damage.
            if is_damaged.get() {
                return ControlFlow::Break(());
            }
            let is_sound = matches!(&event, Event::Picture(_, picture) if !picture.is_corrupt());
            is_damaged.set(is_damaged.get() || !is_sound);
            sink(event)
        };
        let mut state = leg.state();
        state.is_pruned |= keeper.needs.begin(leg);
        let is_damaged = &is_damaged;
        let mut behind = Behind { walk: self, leg, keeper, is_damaged, since: 0, state, waiting: VecDeque::new() };
        if let Base::Checkpoint(kept) = &leg.base {
            decoder.restore(kept.checkpoint()).map_err(ErrorKind::Decoder)?;
            self.counters.forks.fetch_add(1, Relaxed);
            description = Some(self.track.samples[kept.state.position as usize].description);
            keeper.store.used(keeper.video, kept.state.position, !leg.samples.is_empty());
        }
        let begins = matches!(leg.base, Base::Entry);
        let mut sets = leg.sets.iter().copied().peekable();
        for &index in &leg.samples {
            while let Some(set) = sets.next_if(|&set| set < index) {
                if let Err(error) = self.send_sets(decoder, set, sink)? {
                    let _ = sink(Event::Unreadable(set, error));
                    return Ok(ControlFlow::Break(()));
                }
            }
            if !self.may_read(index) {
                return Ok(behind.stop(decoder, sink));
            }
            let read =
                if begins { self.read(index, leg.entry) } else { self.track.read(self.source, index, self.zeros) };
            let data = match read {
                Ok(data) => data,
                Err(error) => {
                    let _ = sink(Event::Unreadable(index, error));
                    return Ok(ControlFlow::Break(()));
                }
            };
            if begins && index == leg.entry && !self.planner.keeps_promise(self.track, index, data.data()) {
                let _ = sink(Event::Damage(index, AvError::INVALID_DATA));
                return Ok(ControlFlow::Break(()));
            }
            self.counters.decoded(1);
            let mut packet = self.packet(index, &data)?;
            let is_reentry = begins && index == leg.entry && !is_fresh;
            if let Some(extradata) = self.extradata(index, is_reentry, &mut description) {
                packet.set_new_extradata(extradata).map_err(ErrorKind::Decoder)?;
            }
            let mut flow = self.send(decoder, &packet, index, sink);
            behind.waiting.push_back(index);
            if flow.is_continue() && behind.waiting.len() > lag {
                flow = behind.next(decoder, sink);
            }
            if flow.is_break() {
                return Ok(behind.stop(decoder, sink));
            }
        }
        let last = leg.samples.last().copied().unwrap_or(leg.entry);
        if self.receive(decoder, last, sink, Decoder::settle).is_break() {
            return Ok(behind.stop(decoder, sink));
        }
        while !behind.waiting.is_empty() {
            if behind.next(decoder, sink).is_break() {
                return Ok(behind.stop(decoder, sink));
            }
        }
        let _ = behind.stop(decoder, sink);
        // What is still missing the decoder holds back, or shows only at its turn.
        if let Err(error) = decoder.send_end()
            && sink(Event::Damage(last, error)).is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
        Ok(self.receive_all(decoder, last, sink))
    }

    /// Sends what outlives its picture of a sample whose slices are left out: parameter sets, SEI messages that last. The
    /// inner error is that it could not be read.
    fn send_sets(
        &self,
        decoder: &mut Decoder,
        index: u32,
        sink: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Result<()>> {
        let framing = self.track.framing;
        let data = match self.track.read(self.source, index, false) {
            Ok(data) => data,
            Err(error) => return Ok(Err(error)),
        };
        let lasting = framing.units(data.data()).filter(|unit| hevc::outlives_its_picture(unit));
        let sets: Vec<Vec<u8>> = lasting.map(|unit| framing.frame(unit)).collect();
        let pieces: Vec<&[u8]> = sets.iter().map(|set| &set[..]).collect();
        let data = PaddedBytes::copy_of(&pieces);
        self.source.counters().copy(data.len());
        let packet = self.packet(index, &data)?;
        let _ = self.send(decoder, &packet, index, sink);
        Ok(Ok(()))
    }

    fn may_read(&self, index: u32) -> bool {
        self.may_read.is_none_or(|may_read| may_read(index))
    }

    fn packet(&self, index: u32, data: &PaddedBytes) -> Result<Packet> {
        let sample = &self.track.samples[index as usize];
        // Times are the container's business: to the decoder, time is the sample's number, which comes back where the
        // tag does not (`sample_of`).
        let mut packet = Packet::new(data, index, Some(i64::from(index))).map_err(ErrorKind::Decoder)?;
        packet.set_flags(sample.key, sample.discard);
        Ok(packet)
    }

    /// The sample's bytes; before those of the entry come the parameter sets that hold there, unless it brings them all.
    fn read(&self, index: u32, entry: u32) -> Result<PaddedBytes> {
        let data = self.track.read(self.source, index, self.zeros)?;
        if index != entry {
            return Ok(data);
        }
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

    fn parameter_sets(&self, entry: u32, sample: &[u8]) -> Result<Vec<Vec<u8>>> {
        let (track, framing) = (self.track, self.track.framing);
        if !matches!(track.codec, Codec::Hevc | Codec::H264) {
            return Ok(Vec::new());
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
            return Ok(framed(history.before(entry)));
        }
        if self.planner.facts(track, self.source, entry).has_parameter_sets {
            return Ok(Vec::new());
        }
        let earlier = self.planner.sync_samples_since_parameter_sets(track, self.source, entry);
        let read = |sync| match track.read(self.source, sync, false) {
            // What is not in the file brings nothing to anyone.
            Err(error) if matches!(error.kind(), ErrorKind::PastEnd { .. }) => None,
            read => Some(read),
        };
        let samples = earlier.into_iter().filter_map(read).collect::<Result<Vec<PaddedBytes>>>()?;
        let units = samples.iter().flat_map(|sample| framing.units(sample.data()));
        Ok(framed(units.filter_map(|unit| Some((identify(track.codec, unit)?, unit))).collect()))
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
        sample: u32,
        sink: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        loop {
            let sent = decoder.send(packet);
            if decoder.lacks_room() {
                return ControlFlow::Break(());
            }
            // The damage first: the picture that it is in may be among those that are ready.
            if let Err(error) = sent {
                sink(Event::Damage(sample, error))?;
            }
            self.receive_all(decoder, sample, sink)?;
            match sent {
                Ok(Sent::Full) => {}
                Ok(Sent::Accepted) | Err(_) => return ControlFlow::Continue(()),
            }
        }
    }

    /// Takes out everything that the decoder has ready. The sample is the one that was sent last.
    fn receive_all(
        &self,
        decoder: &mut Decoder,
        sample: u32,
        sink: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.receive(decoder, sample, sink, Decoder::receive)
    }

    fn receive(
        &self,
        decoder: &mut Decoder,
        sample: u32,
        sink: &mut dyn FnMut(Event) -> ControlFlow<()>,
        take: fn(&mut Decoder) -> std::result::Result<Received, AvError>,
    ) -> ControlFlow<()> {
        loop {
            let taken = take(decoder);
            if decoder.lacks_room() {
                return ControlFlow::Break(());
            }
            match taken {
                Ok(Received::Picture(frame)) => {
                    // A picture without a number was made up by the decoder to fill a gap: nobody's.
                    if let Some(sample) = self.sample_of(&frame) {
                        sink(Event::Picture(sample, frame))?;
                    }
                }
                Ok(Received::NeedsMore | Received::End) => return ControlFlow::Continue(()),
                Err(error) => {
                    sink(Event::Damage(sample, error))?;
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

/// A leg of so many pictures, and twice, three and four times as many, leaves its checkpoints so many times further apart:
/// most of what it decodes nobody asks for again, and to keep a picture costs a third of decoding it, in fresh memory.
const LONG_LEG: usize = 32;

/// Who has asked for most pictures of a long leg has them: that one of the others is asked for soon is unlikely. So checkpoints
/// are at least so far apart there.
const DENSE_SPACING: u32 = 32;

/// Pictures from one checkpoint of a leg to the next.
fn spacing_of(leg: &Leg, spacing: u32) -> u32 {
    let spacing = spacing.saturating_mul((leg.samples.len() / LONG_LEG).clamp(1, 4) as u32);
    if leg.is_dense() && leg.samples.len() > LONG_LEG { spacing.max(DENSE_SPACING) } else { spacing }
}

/// The samples of a leg that were sent, and whose pictures are looked at as soon as they are decoded.
struct Behind<'a> {
    walk: &'a Walk<'a>,
    leg: &'a Leg,
    keeper: &'a Keeper<'a>,
    /// The decoder complained: its state is worth nothing.
    is_damaged: &'a Cell<bool>,
    /// Pictures since the last checkpoint.
    since: u32,
    /// What the decoder has been through, up to the last sample that was looked at.
    state: State,
    /// Samples that were sent and may not be decoded yet: with frame threads, as many as there are threads but one.
    waiting: VecDeque<u32>,
}

impl Behind<'_> {
    /// Looks at the oldest waiting sample, which is decoded by now.
    fn next(&mut self, decoder: &mut Decoder, sink: &mut dyn FnMut(Event) -> ControlFlow<()>) -> ControlFlow<()> {
        let Some(sample) = self.waiting.pop_front() else { return ControlFlow::Continue(()) };
        self.state.position = sample;
        self.keeper.needs.note(&mut self.state, sample);
        self.since += 1;
        if decoder.lacks_room() {
            return ControlFlow::Break(());
        }
        if !decoder.is_clean(sample) || decoder.found() != Found::Nothing {
            let _ = sink(Event::Damage(sample, AvError::INVALID_DATA));
            return ControlFlow::Break(());
        }
        let mut flow = ControlFlow::Continue(());
        if self.leg.targets.binary_search(&sample).is_ok()
            && let Some(picture) = decoder.picture(sample)
        {
            flow = sink(Event::Picture(sample, picture));
        }
        // What the first walk through a long GOP has left sparsely, those after it make denser where it is wanted.
        let spacing = spacing_of(self.leg, self.keeper.spacing);
        if self.since >= spacing.saturating_mul(2)
            || (self.since >= spacing && self.keeper.needs.is_referred_to(sample))
        {
            self.keep(decoder, false);
        }
        flow
    }

    fn keep(&mut self, decoder: &mut Decoder, is_end: bool) {
        if self.is_damaged.get() || decoder.lacks_room() {
            return;
        }
        self.keeper.keep(decoder, self.state, is_end, self.walk.counters);
        self.since = 0;
    }

    /// The leg ends here: what was sent should not have to be decoded again. Frame threads that are still at work are
    /// waited for, and whatever `sink` says, it gets what they have decoded.
    fn stop(&mut self, decoder: &mut Decoder, sink: &mut dyn FnMut(Event) -> ControlFlow<()>) -> ControlFlow<()> {
        let sink = &mut |event: Event| {
            let _ = sink(event);
            ControlFlow::Continue(())
        };
        if !self.is_damaged.get() {
            let _ = self.walk.receive(decoder, self.state.position, sink, Decoder::settle);
        }
        while !self.is_damaged.get() && !self.waiting.is_empty() {
            let _ = self.next(decoder, sink);
        }
        if self.since >= 2 {
            self.keep(decoder, true);
        }
        ControlFlow::Break(())
    }
}
