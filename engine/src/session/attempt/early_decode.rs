//! Early decode: towards a target while its bytes arrive, before a plan for it is possible.
//!
//! The references of a target are known only after all samples up to it have arrived, and the target itself arrives
//! last. But pictures that are later in presentation than all before them, *anchors*, are reference pictures in every
//! GOP that encoders make. So they are decoded as they arrive, each with its references, and their run saves a
//! checkpoint. At worst a few pictures are decoded in vain; the frame itself is left to the planned decode and the
//! fallback.

use std::collections::BTreeMap;

use crate::plan::runs::{Target, plan};
use crate::session::attempt::task::{Attempt, AttemptResult, Interrupt, checkpoints_near};
use crate::session::prefetch::in_flight::prefetch_for_planning;

/// The least number of samples between two anchors that are decoded early: after each of them the decoder's threads
/// have no work.
const STRIDE: u32 = 8;

impl Attempt {
    /// Decodes towards the first target while its bytes arrive, and saves checkpoints.
    pub(super) fn decode_early(&self, targets: &[Target]) -> AttemptResult {
        let video = &*self.video;
        if !video.source.is_remote() {
            return Ok(());
        }
        // Repeated: the source may have had room only for the first of many targets.
        let planning = (&video.planner, &video.references);
        prefetch_for_planning((&video.track, &*video.source), planning, targets.iter().map(|target| target.sample));
        if self.traits().may_wait {
            return Ok(());
        }
        let is_known = |target: &Target| {
            video.references.is_known(&video.planner, &video.track, target.start, target.sample)
                || video.engine.store.picture(video.id, target.sample).is_some()
        };
        match targets.first() {
            Some(target) if !is_known(target) => self.decode_target_early(*target),
            _ => Ok(()),
        }
    }

    fn decode_target_early(&self, target: Target) -> AttemptResult {
        let in_flight = self.in_flight();
        let is_of_use = self.traits().leaves_checkpoints;
        let (mut here, mut done) = (target.start, target.start);
        loop {
            here = in_flight.here_up_to(here..=target.sample);
            if here > target.sample {
                return Ok(());
            }
            if let Some(anchor) = self.anchor(done, here).filter(|_| is_of_use) {
                if !self.decode_up_to(Target { sample: anchor, ..target }, done)? {
                    return Ok(());
                }
                done = anchor;
                continue;
            }
            self.check_in_flight(here..=target.sample)?;
            if self.sink.is_cancelled() {
                return Err(Interrupt::Stopped);
            }
            if !in_flight.is_arriving(here) {
                return Ok(());
            }
        }
    }

    /// The last anchor before `here`, if it is at least [`STRIDE`] samples after `done`.
    fn anchor(&self, done: u32, here: u32) -> Option<u32> {
        let frame_of = |sample: u32| self.video.planner.frame_of(sample);
        let mut highest = frame_of(done)?;
        let mut anchor = None;
        for sample in done + 1..here {
            if let Some(frame) = frame_of(sample).filter(|&frame| frame > highest) {
                (highest, anchor) = (frame, Some(sample));
            }
        }
        anchor.filter(|anchor| anchor - done >= STRIDE)
    }

    /// Decodes up to an anchor. False if that saves no checkpoint.
    fn decode_up_to(&self, anchor: Target, done: u32) -> AttemptResult<bool> {
        let video = &*self.video;
        let dependencies = video.dependencies();
        let checkpoint_writer = self.checkpoint_writer(&dependencies);
        for planned_run in plan(&[anchor], &dependencies, &|target| checkpoints_near(video, target)) {
            // The next step returns the same interrupt.
            if let Err(Interrupt::Failed(error)) =
                self.run_planned(&planned_run, &checkpoint_writer, &mut BTreeMap::new())
            {
                return Err(error.into());
            }
        }
        Ok(!video.engine.store.within(video.id, done + 1..=anchor.sample).is_empty())
    }
}
