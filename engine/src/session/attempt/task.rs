//! The state of an attempt at a group, and the reasons for an interrupt. Decoding is left to the sibling modules.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::device::{DecodeDevice, DecodedPicture, DeviceTraits};
use crate::error::{Error, Result};
use crate::picture_memory::{Reservation, ReservationRefusal};
use crate::plan::StoredCheckpoint;
use crate::plan::runs::Target;
use crate::session::frame::DecodedFrame;
use crate::session::prefetch::admission::SharedFetchPermit;
use crate::session::prefetch::in_flight::{FetchWaiter, InFlightSamples};
use crate::session::results::ResultSink;
use crate::session::shared::VideoState;
use crate::session::validate;

/// Checkpoints up to this many samples after a target are candidates too: in H.265 such a checkpoint may hold all
/// reference pictures of the target.
const BEHIND: u32 = 16;
/// Checkpoints on each side of a target that are considered.
const CANDIDATES: usize = 4;
/// The time that a task may use its worker before a task of another account can interrupt it.
const SLICE: Duration = Duration::from_millis(50);

/// The work on a group of targets on one device.
pub(crate) struct Attempt {
    pub(crate) video: Arc<VideoState>,
    pub(crate) sink: Arc<dyn ResultSink>,
    pub(crate) device: Arc<dyn DecodeDevice>,
    /// Threads of its decoders.
    pub(crate) width: usize,
    /// The permit to fetch its bytes.
    pub(crate) permit: SharedFetchPermit,
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
    /// No more results can be delivered for now: the request is cancelled, or its queue is full.
    Stopped,
    /// Fair scheduling: a task of another account goes first.
    Overtaken,
    /// The device cannot decode the rest: the host does.
    Moved,
    /// The bytes of these samples are in flight, and the worker has other work.
    InFlight(Vec<u32>),
    /// The pictures need more memory than is reserved.
    NoRoom(ReservationRefusal),
    /// An error for all pending targets: no decoder, no memory.
    Failed(Error),
}

impl From<Error> for Interrupt {
    fn from(error: Error) -> Interrupt {
        Interrupt::Failed(error)
    }
}

/// `Err` if work on a group is interrupted.
pub(crate) type AttemptResult<T = ()> = std::result::Result<T, Interrupt>;

impl Attempt {
    pub(crate) fn traits(&self) -> DeviceTraits {
        self.device.traits(&self.video.track)
    }

    /// True if a task of another account should go first; only on a device whose decoded pictures survive in
    /// checkpoints. Each further slice is twice as long, so that every group ends even without room for checkpoints.
    pub(crate) fn is_overtaken(&self) -> bool {
        let slice = SLICE * (1 << self.overtaken.min(16));
        self.traits().leaves_checkpoints && self.device.workers().is_overtaken(slice)
    }

    /// The samples in flight; this attempt waits for them.
    pub(crate) fn in_flight(&self) -> InFlightSamples<'_> {
        let (track, source) = (&self.video.track, &*self.video.source);
        InFlightSamples { track, source, may_wait: self.traits().may_wait, waiter: self }
    }

    /// Interrupts the attempt if some of these samples are in flight and the worker has other work.
    pub(crate) fn check_in_flight(&self, samples: impl Iterator<Item = u32>) -> AttemptResult {
        let awaited = self.in_flight().deferrable(samples);
        if awaited.is_empty() { Ok(()) } else { Err(Interrupt::InFlight(awaited)) }
    }

    /// Interrupts the attempt if memory for a picture was refused.
    pub(crate) fn check_refused(&self) -> AttemptResult {
        match self.memory.as_ref().and_then(Reservation::refusal) {
            Some(refused) => Err(Interrupt::NoRoom(refused)),
            None => Ok(()),
        }
    }

    /// Delivers a picture to the sink, if its frame has no answer yet. Interrupts the attempt if the sink takes no more
    /// results for now.
    pub(crate) fn release(&self, sample: u32, picture: DecodedPicture, pending: &mut Pending) -> AttemptResult {
        let Some(index) = pending.remove(&sample) else { return Ok(()) };
        self.deliver(index, validate::release_frame(&self.video, index, sample, picture))
    }

    /// Delivers an answer to the sink. Interrupts the attempt if the sink takes no more results for now.
    pub(crate) fn deliver(&self, index: u32, result: Result<DecodedFrame>) -> AttemptResult {
        let has_room = self.sink.deliver(index, result, self.traits().output_timeout);
        if has_room { Ok(()) } else { Err(Interrupt::Stopped) }
    }

    /// Answers targets that need more picture memory than the budget with an error.
    pub(crate) fn fail_over_budget(&self, needed: u64, targets: Pending) {
        let (video, name) = (&self.video, self.video.source.name());
        for (sample, index) in targets {
            let offset = video.track.samples[sample as usize].offset;
            let error = video.engine.pictures.too_much(needed);
            let error = error.at_frame(index).at_sample(sample, Some(offset)).of(name);
            self.sink.deliver(index, Err(error), Duration::ZERO);
        }
    }
}

impl FetchWaiter for Attempt {
    fn is_cancelled(&self) -> bool {
        self.sink.is_cancelled()
    }

    fn has_other_work(&self) -> bool {
        let engine = &self.video.engine;
        self.device.workers().has_waiting_tasks() || (self.memory.is_some() && engine.pictures.has_waiters())
    }

    fn add_wait_time(&self, time: Duration) {
        self.sink.add_fetch_time(time);
    }
}

/// The checkpoints around a target, at most [`CANDIDATES`] on each side.
pub(crate) fn checkpoints_near(video: &VideoState, target: Target) -> Vec<Arc<StoredCheckpoint>> {
    let last = target.sample.saturating_add(BEHIND);
    video.engine.store.near(video.id, target.start, target.sample, last, CANDIDATES)
}
