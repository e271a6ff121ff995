//! Fallback decode: over all samples from a random access point on; further back with each try, at last from the first
//! sample on.
//!
//! The answer is the picture that a sequential decode shows, or an error.

use std::cell::Cell;

use crate::bitstream::Codec;
use crate::decode::{DecodeRun, Lease, SampleReader};
use crate::device::DecodedPicture;
use crate::error::Result;
use crate::picture_memory::ReservationRefusal;
use crate::plan::{Depth, FallbackRun};
use crate::session::attempt::task::{Attempt, AttemptResult, Interrupt, Pending};
use crate::session::losses::Losses;
use crate::session::validate::{self, PictureDecision, Validator};

impl Attempt {
    /// Answers all pending targets.
    pub(super) fn fallback(&self, pending: &mut Pending) -> AttemptResult {
        for depth in [Depth::Nearest, Depth::Earlier, Depth::Sequential] {
            let left: Vec<u32> = pending.keys().copied().collect();
            for run in self.fallback_runs(&left, depth) {
                if depth != Depth::Sequential && self.lacks_samples(&run) {
                    continue;
                }
                self.run_fallback(&run, depth, pending)?;
            }
        }
        Ok(())
    }

    /// True if AV1 samples indicate that others between them are missing, which dav1d does not notice: then only the
    /// last resort is right.
    fn lacks_samples(&self, run: &FallbackRun) -> bool {
        let (track, source) = (&self.video.track, &*self.video.source);
        if track.codec != Codec::Av1 {
            return false;
        }
        track.will_need(source, run.first..=run.last);
        Losses::has_gaps(track, source, run.first, run.last)
    }

    /// The runs over all samples. A random access point from an index file is compared with its sample first.
    fn fallback_runs(&self, left: &[u32], depth: Depth) -> Vec<FallbackRun> {
        let (track, source, planner) = (&self.video.track, &*self.video.source, &self.video.planner);
        let runs = planner.plan(track, source, left, depth);
        let is_as_indexed = |run: &FallbackRun| {
            planner.references(track).is_none()
                || track
                    .read(source, run.first, false)
                    .is_ok_and(|data| planner.matches_index(track, run.first, data.data()))
        };
        if runs.iter().all(is_as_indexed) { runs } else { planner.plan(track, source, left, depth) }
    }

    /// Makes one run. It removes the targets that it answers from `pending`: pictures without a sign of damage, and at
    /// the last resort every result of a sequential decode.
    fn run_fallback(&self, run: &FallbackRun, depth: Depth, pending: &mut Pending) -> AttemptResult {
        let video = &*self.video;
        // The first try reads samples in place. A second one follows only damage, with zeros after each sample as in a
        // sequential reader: a damaged sample may make the decoder read there.
        let zeros = depth > Depth::Nearest;
        let conceals = video.track.codec == Codec::H264;
        let is_last_resort = depth == Depth::Sequential || (zeros && run.is_self_contained && !conceals);
        video.track.will_need(&*video.source, run.first..=run.last);
        self.check_in_flight(run.first..=run.last)?;
        let memory = self.memory.as_ref();
        let (mut lease, mut validator) = if is_last_resort {
            let lease = video.sequential_lease(true, memory)?;
            (lease, Validator::lenient(video.losses(run.first, run.last, memory)))
        } else {
            (video.lease(self.width, memory)?, Validator::strict())
        };
        // A run may pass targets of another run, which begins further back: it does not answer those.
        let take_target = |sample: &u32| Some((*sample, pending.remove(sample)?));
        let mut targets: Pending = run.targets.iter().filter_map(take_target).collect();
        let step = self.run_over(run, zeros, &mut validator, &mut lease, &mut targets);
        drop(lease);
        let is_settled = is_last_resort || (!validator.has_fault() && run.is_self_contained);
        let step = step.and_then(|()| if is_settled { self.settle(&validator, &mut targets) } else { Ok(()) });
        if let Err(Interrupt::NoRoom(ReservationRefusal::Permanent { needed })) = &step {
            self.fail_over_budget(*needed, std::mem::take(&mut targets));
        }
        pending.append(&mut targets);
        step
    }

    /// Pulls a run over all samples until its targets (`own`) have answers.
    fn run_over(
        &self,
        run: &FallbackRun,
        zeros: bool,
        validator: &mut Validator,
        lease: &mut Lease,
        own: &mut Pending,
    ) -> AttemptResult {
        let (video, memory) = (&*self.video, self.memory.as_ref());
        let awaited = Cell::new(None);
        let in_flight = self.in_flight();
        let may_read = |sample: u32| in_flight.may_read(sample, &awaited);
        let reader = SampleReader { may_read: Some(&may_read), ..video.reader(zeros) };
        let run = self.pull_over(DecodeRun::over(run.first, run.last), (&reader, lease), validator, own);
        video.learn_slice_ends(lease.decoder().damage_sign(), memory);
        validator.check_claimed_size(lease.decoder().claimed_size(), video.engine.max_pixels);
        run??;
        if own.is_empty() {
            return Ok(());
        }
        self.check_deferred(&awaited)?;
        self.check_refused()
    }

    fn pull_over(
        &self,
        mut run: DecodeRun<'_>,
        (reader, lease): (&SampleReader<'_>, &mut Lease),
        validator: &mut Validator,
        own: &mut Pending,
    ) -> Result<AttemptResult> {
        // Once all targets have answers, the remaining pictures in the decoder are not needed.
        while !own.is_empty()
            && let Some(event) = run.next(reader, lease)?
        {
            if self.sink.is_cancelled() {
                return Ok(Err(Interrupt::Stopped));
            }
            let (sample, result) = match validator.decide(&self.video, event) {
                PictureDecision::Show(sample, picture) => (sample, Ok(picture)),
                PictureDecision::Unreadable(sample, error) => (sample, Err(error)),
                PictureDecision::Nothing => continue,
                PictureDecision::Abandon => break,
            };
            let Some(index) = own.remove(&sample) else { continue };
            let result = result.map_err(|error| error.at_frame(index));
            let result = result
                .and_then(|picture| validate::release_frame(&self.video, index, sample, DecodedPicture::Host(picture)));
            if let Err(interrupt) = self.deliver(index, result) {
                return Ok(Err(interrupt));
            }
        }
        Ok(Ok(()))
    }

    /// Answers targets without a picture, after a run that is trusted.
    fn settle(&self, validator: &Validator, own: &mut Pending) -> AttemptResult {
        let mut step = Ok(());
        for (sample, index) in std::mem::take(own) {
            // Every target is settled even if the sink has no room: the decoding is done.
            step = step.and(self.deliver(index, Err(validator.missing(&self.video, index, sample))));
        }
        step
    }
}
