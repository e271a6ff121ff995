//! The state of an attempt at a group, and the reasons for an interrupt. Decoding is left to the modules beside this
//! one.

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

/// Checkpoints up to this many samples behind a target are considered too: in H.265 such a checkpoint may hold all
/// reference pictures of the target.
const BEHIND: u32 = 16;
/// Checkpoints on each side of a target that are considered.
const CANDIDATES: usize = 4;
/// The time that a task has its worker before a task of another account can interrupt it.
const SLICE: Duration = Duration::from_millis(50);

/// The work on a group of targets on one device.
pub(crate) struct Attempt {
    pub(crate) video: Arc<VideoState>,
    pub(crate) reader: Arc<dyn Reader>,
    pub(crate) device: Arc<dyn DecodeDevice>,
    /// Threads of its decoders.
    pub(crate) width: usize,
    /// The admission to fetch its bytes.
    pub(crate) admitted: Held,
    /// Number of times that it was interrupted for another account.
    pub(crate) overtaken: u32,
    /// The reservation that its pictures are charged to, if they are in the host's memory.
    pub(crate) memory: Option<Reservation>,
}

/// The unanswered frames, by their samples.
pub(crate) type Pending = BTreeMap<u32, u32>;

/// The reason why work on a group stops before all of its frames have answers.
#[derive(Debug)]
pub(crate) enum Interrupt {
    /// No more results are wanted for now: the request is cancelled, or the reader has no room.
    Stopped,
    /// Fair scheduling: a task of another account goes first.
    Overtaken,
    /// The device cannot decode the rest: the host does.
    Moved,
    /// The bytes of these samples are in flight, and the worker has other work.
    InFlight(Vec<u32>),
    /// The pictures need more memory than is reserved.
    NoRoom(Refused),
    /// An error for all pending targets: no decoder, no memory.
    Failed(Error),
}

impl From<Error> for Interrupt {
    fn from(error: Error) -> Interrupt {
        Interrupt::Failed(error)
    }
}

/// `Err` if work on a group is interrupted.
pub(crate) type Step<T = ()> = std::result::Result<T, Interrupt>;

impl Attempt {
    pub(crate) fn traits(&self) -> Traits {
        self.device.traits(&self.video.track)
    }

    /// True if a task of another account should go first; only on a device whose decoded pictures survive in
    /// checkpoints. Each further slice is twice as long, so that every group ends even without room for checkpoints.
    pub(crate) fn is_overtaken(&self) -> bool {
        let slice = SLICE * (1 << self.overtaken.min(16));
        self.traits().leaves_checkpoints && self.device.workers().is_overtaken(slice)
    }

    /// The samples in flight, with this attempt as the waiter.
    pub(crate) fn in_flight(&self) -> InFlight<'_> {
        let (track, source) = (&self.video.track, &*self.video.source);
        InFlight { track, source, may_wait: self.traits().may_wait, waiter: self }
    }

    /// Interrupts if some of these samples are in flight and the worker has other work.
    pub(crate) fn unless_in_flight(&self, samples: impl Iterator<Item = u32>) -> Step {
        let awaited = self.in_flight().worth_putting_off(samples);
        if awaited.is_empty() { Ok(()) } else { Err(Interrupt::InFlight(awaited)) }
    }

    /// Interrupts if memory for a picture was refused.
    pub(crate) fn unless_refused(&self) -> Step {
        match self.memory.as_ref().and_then(Reservation::refusal) {
            Some(refused) => Err(Interrupt::NoRoom(refused)),
            None => Ok(()),
        }
    }

    /// Gives a picture to the reader, if its frame has no answer yet. Interrupts if no more results are wanted for now.
    pub(crate) fn let_out(&self, sample: u32, picture: Decoded, pending: &mut Pending) -> Step {
        let Some(index) = pending.remove(&sample) else { return Ok(()) };
        self.give(index, validate::let_out(&self.video, index, sample, picture))
    }

    /// Gives an answer to the reader. Interrupts if no more results are wanted for now.
    pub(crate) fn give(&self, index: u32, result: Result<DecodedFrame>) -> Step {
        let goes_on = self.reader.give(index, result, self.traits().patience);
        if goes_on { Ok(()) } else { Err(Interrupt::Stopped) }
    }

    /// Answers targets that need more picture memory than the budget.
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

/// The checkpoints around a target, at most [`CANDIDATES`] on each side.
pub(crate) fn checkpoints_near(video: &VideoState, target: Target) -> Vec<Arc<Kept>> {
    let near = video.engine.store.within(video.id, target.entry..=target.sample.saturating_add(BEHIND));
    let before = near.partition_point(|kept| kept.state.position <= target.sample);
    let (first, last) = (before.saturating_sub(CANDIDATES), (before + CANDIDATES).min(near.len()));
    near[first..last].to_vec()
}
