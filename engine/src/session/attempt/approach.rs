//! Decoding towards a target while its bytes arrive, before a plan for it is possible.
//!
//! The references of a target are known only after all samples up to it are here, and the target itself arrives last.
//! But pictures that are later in presentation than all before them, *anchors*, are reference pictures in every GOP
//! that encoders make. So they are decoded as they arrive, each with its references, and leave a checkpoint. At worst a
//! few pictures are decoded in vain; the choice of the frame is left to the planned decode and the fallback.

use std::collections::BTreeMap;

use crate::plan::route::{Target, plan};
use crate::session::attempt::task::{Attempt, Interrupt, Step, checkpoints_near};
use crate::session::prefetch::in_flight::will_plan;

/// The least number of samples from one anchor that is decoded early to the next: after each the decoder's threads run
/// dry.
const STRIDE: u32 = 8;

impl Attempt {
    /// Decodes towards the first target while its bytes arrive, and leaves checkpoints.
    pub(super) fn approach(&self, targets: &[Target]) -> Step {
        let video = &*self.video;
        if !video.source.is_remote() {
            return Ok(());
        }
        // Repeated: the source may have had room only for the first of many targets.
        let planning = (&video.planner, &video.references);
        will_plan((&video.track, &*video.source), planning, targets.iter().map(|target| target.sample));
        if self.traits().may_wait {
            return Ok(());
        }
        let is_known = |target: &Target| {
            video.references.is_known(&video.planner, &video.track, target.entry, target.sample)
                || video.engine.store.picture(video.id, target.sample).is_some()
        };
        match targets.first() {
            Some(target) if !is_known(target) => self.approach_one(*target),
            _ => Ok(()),
        }
    }

    fn approach_one(&self, target: Target) -> Step {
        let in_flight = self.in_flight();
        let is_of_use = self.traits().leaves_checkpoints;
        let (mut here, mut done) = (target.entry, target.entry);
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
            self.unless_in_flight(here..=target.sample)?;
            if self.reader.is_cancelled() {
                return Err(Interrupt::Stopped);
            }
            if !in_flight.is_coming(here) {
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

    /// Decodes up to an anchor. False if that leaves no checkpoint.
    fn decode_up_to(&self, anchor: Target, done: u32) -> Step<bool> {
        let video = &*self.video;
        let needs = video.needs();
        let keeper = self.keeper(&needs);
        for leg in plan(&[anchor], &needs, &|target| checkpoints_near(video, target)) {
            // The next step meets the same interrupt.
            if let Err(Interrupt::Failed(error)) = self.run_planned(&leg, &keeper, &mut BTreeMap::new()) {
                return Err(error.into());
            }
        }
        Ok(!video.engine.store.within(video.id, done + 1..=anchor.sample).is_empty())
    }
}
