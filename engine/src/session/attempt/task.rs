//! The state of a group of targets at work, and why its work may be interrupted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::device::{DecodeDevice, Decoded, Traits};
use crate::error::{Error, Result};
use crate::picture_memory::{Refused, Reservation};
use crate::plan::Kept;
use crate::plan::route::Target;
use crate::session::frame::DecodedFrame;
use crate::session::prefetch::admission::Held;
use crate::session::prefetch::in_flight::{InFlight, Waiter};
use crate::session::results::Reader;
use crate::session::shared::VideoState;
use crate::session::validate;

/// Samples behind a target whose checkpoints are looked at too: in H.265 one that stands behind it may hold all that it
/// refers to.
const BEHIND: u32 = 16;
/// Checkpoints on each side of a target that are looked at.
const CANDIDATES: usize = 4;
/// What a task has of its worker before another account's turn can come.
const SLICE: Duration = Duration::from_millis(50);

/// A group of targets at work on a device.
pub(crate) struct Attempt {
    pub(crate) video: Arc<VideoState>,
    pub(crate) reader: Arc<dyn Reader>,
    pub(crate) device: Arc<dyn DecodeDevice>,
    /// Threads of its decoders.
    pub(crate) width: usize,
    /// Leave to have its bytes fetched.
    pub(crate) admitted: Held,
    /// How often it was overtaken.
    pub(crate) overtaken: u32,
    /// What its pictures are charged to, if they are in the host's memory.
    pub(crate) memory: Option<Reservation>,
}

/// The frames that are still to be answered, by their samples.
pub(crate) type Pending = BTreeMap<u32, u32>;

/// Why work on a group ends before all of its frames have answers.
#[derive(Debug)]
pub(crate) enum Interrupt {
    /// No more is wanted for now: the request is cancelled, or the reader has no room.
    Stopped,
    /// It is another account's turn.
    Overtaken,
    /// The device does not do what is left: the host should.
    Moved,
    /// The bytes of these samples are in flight, and there is other work that can be done now.
    InFlight(Vec<u32>),
    /// It needs more memory for pictures than it has reserved.
    NoRoom(Refused),
    /// No decoder, no memory: that is the answer for all of them.
    Failed(Error),
}

impl From<Error> for Interrupt {
    fn from(error: Error) -> Interrupt {
        Interrupt::Failed(error)
    }
}

/// Whether work on a group goes on.
pub(crate) type Step<T = ()> = std::result::Result<T, Interrupt>;

impl Attempt {
    pub(crate) fn traits(&self) -> Traits {
        self.device.traits(&self.video.track)
    }

    /// Whether it is another account's turn; only where what was decoded is not lost. Each time after a slice twice as long: every
    /// group ends, even where there is no room for checkpoints.
    pub(crate) fn is_overtaken(&self) -> bool {
        let slice = SLICE * (1 << self.overtaken.min(16));
        self.traits().leaves_checkpoints && self.device.workers().is_overtaken(slice)
    }

    /// The samples that are in flight for it.
    pub(crate) fn in_flight(&self) -> InFlight<'_> {
        let (track, source) = (&self.video.track, &*self.video.source);
        InFlight { track, source, may_wait: self.traits().may_wait, waiter: self }
    }

    /// Interrupts if some of these samples are in flight and there is other work.
    pub(crate) fn unless_in_flight(&self, samples: impl Iterator<Item = u32>) -> Step {
        let awaited = self.in_flight().worth_putting_off(samples);
        if awaited.is_empty() { Ok(()) } else { Err(Interrupt::InFlight(awaited)) }
    }

    /// Interrupts if there was no memory for some picture.
    pub(crate) fn unless_refused(&self) -> Step {
        match self.memory.as_ref().and_then(Reservation::refusal) {
            Some(refused) => Err(Interrupt::NoRoom(refused)),
            None => Ok(()),
        }
    }

    /// Gives a picture to the reader, if its frame has no answer yet. Interrupts when no more is wanted for now.
    pub(crate) fn let_out(&self, sample: u32, picture: Decoded, pending: &mut Pending) -> Step {
        let Some(index) = pending.remove(&sample) else { return Ok(()) };
        self.give(index, validate::let_out(&self.video, index, sample, picture))
    }

    /// Gives an answer to the reader. Interrupts when no more is wanted for now.
    pub(crate) fn give(&self, index: u32, result: Result<DecodedFrame>) -> Step {
        let goes_on = self.reader.give(index, result, self.traits().patience);
        if goes_on { Ok(()) } else { Err(Interrupt::Stopped) }
    }

    /// Answers targets that need more memory than they can have.
    pub(crate) fn refuse_for_good(&self, needed: u64, targets: Pending) {
        let (video, name) = (&self.video, self.video.source.name());
        for (sample, index) in targets {
            let offset = video.track.samples[sample as usize].offset;
            let error = video.engine.pictures.too_much(needed);
            let error = error.at_frame(index).at_sample(sample, Some(offset)).of(name);
            self.reader.give(index, Err(error), Duration::ZERO);
        }
    }
}

impl Waiter for Attempt {
    fn is_cancelled(&self) -> bool {
        self.reader.is_cancelled()
    }

    fn has_other_work(&self) -> bool {
        let engine = &self.video.engine;
        self.device.workers().is_waited_for() || (self.memory.is_some() && engine.pictures.is_waited_for())
    }

    fn waited(&self, time: Duration) {
        self.reader.fetched(time);
    }
}

/// The checkpoints around a target.
pub(crate) fn checkpoints_near(video: &VideoState, target: Target) -> Vec<Arc<Kept>> {
    let near = video.engine.store.within(video.id, target.entry..=target.sample.saturating_add(BEHIND));
    let before = near.partition_point(|kept| kept.state.position <= target.sample);
    let (first, last) = (before.saturating_sub(CANDIDATES), (before + CANDIDATES).min(near.len()));
    near[first..last].to_vec()
}
