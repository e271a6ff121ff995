//! Fallback decode: over all samples from a random access point on, further back each time, at last from the first
//! sample on.
//!
//! It answers with the picture that a sequential decode shows, or with an error.

use std::cell::Cell;

use crate::bitstream::Codec;
use crate::decode::{DecodeRun, Lease, SampleReader};
use crate::device::Decoded;
use crate::error::Result;
use crate::picture_memory::Refused;
use crate::plan::{Depth, Job};
use crate::session::attempt::task::{Attempt, Interrupt, Pending, Step};
use crate::session::losses::Losses;
use crate::session::validate::{self, Ruling, Validator};

impl Attempt {
    /// Answers all pending targets.
    pub(super) fn fallback(&self, pending: &mut Pending) -> Step {
        for depth in [Depth::Nearest, Depth::Earlier, Depth::Sequential] {
            let left: Vec<u32> = pending.keys().copied().collect();
            for job in self.jobs(&left, depth) {
                if depth != Depth::Sequential && self.lacks_samples(&job) {
                    continue;
                }
                self.run_job(&job, depth, pending)?;
            }
        }
        Ok(())
    }

    /// True if AV1 samples indicate that others between them are missing, which dav1d does not notice: only the last
    /// resort is right.
    fn lacks_samples(&self, job: &Job) -> bool {
        let (track, source) = (&self.video.track, &*self.video.source);
        if track.codec != Codec::Av1 {
            return false;
        }
        track.will_need(source, job.entry..=job.last);
        Losses::has_gaps(track, source, job.entry, job.last)
    }

    /// The runs over all samples. An entry from an index file is checked against its sample first.
    fn jobs(&self, left: &[u32], depth: Depth) -> Vec<Job> {
        let (track, source, planner) = (&self.video.track, &*self.video.source, &self.video.planner);
        let jobs = planner.plan(track, source, left, depth);
        let is_as_indexed = |job: &Job| {
            planner.told(track).is_none()
                || track
                    .read(source, job.entry, false)
                    .is_ok_and(|data| planner.keeps_promise(track, job.entry, data.data()))
        };
        if jobs.iter().all(is_as_indexed) { jobs } else { planner.plan(track, source, left, depth) }
    }

    /// Makes one run. Targets that it answers leave `pending`: pictures without a sign of damage, and at the last
    /// resort every result of a sequential decode.
    fn run_job(&self, job: &Job, depth: Depth, pending: &mut Pending) -> Step {
        let video = &*self.video;
        // The first try reads samples in place. A second one follows only damage, with zeros behind each sample as in a
        // sequential reader: a damaged sample may make the decoder read there.
        let zeros = depth > Depth::Nearest;
        let conceals = video.track.codec == Codec::H264;
        let is_last_resort = depth == Depth::Sequential || (zeros && job.is_self_contained && !conceals);
        video.track.will_need(&*video.source, job.entry..=job.last);
        self.unless_in_flight(job.entry..=job.last)?;
        let memory = self.memory.as_ref();
        let (mut lease, mut validator) = if is_last_resort {
            let lease = video.sequential_lease(true, memory)?;
            (lease, Validator::lenient(video.losses(job.entry, job.last, memory)))
        } else {
            (video.lease(self.width, memory)?, Validator::strict())
        };
        // A run may pass targets of another job, whose entry is further back: it does not answer those.
        let own = |sample: &u32| Some((*sample, pending.remove(sample)?));
        let mut own: Pending = job.targets.iter().filter_map(own).collect();
        let step = self.run_over(job, zeros, &mut validator, &mut lease, &mut own);
        drop(lease);
        let is_settled = is_last_resort || (!validator.has_fault() && job.is_self_contained);
        let step = step.and_then(|()| if is_settled { self.settle(&validator, &mut own) } else { Ok(()) });
        if let Err(Interrupt::NoRoom(Refused::ForGood { needed })) = &step {
            self.refuse_for_good(*needed, std::mem::take(&mut own));
        }
        pending.append(&mut own);
        step
    }

    /// Pulls a run over all samples of a job until its targets (`own`) have answers.
    fn run_over(
        &self,
        job: &Job,
        zeros: bool,
        validator: &mut Validator,
        lease: &mut Lease,
        own: &mut Pending,
    ) -> Step {
        let (video, memory) = (&*self.video, self.memory.as_ref());
        let awaited = Cell::new(None);
        let in_flight = self.in_flight();
        let may_read = |sample: u32| in_flight.may_read(sample, &awaited);
        let reader = SampleReader { may_read: Some(&may_read), ..video.reader(zeros) };
        let run = self.pull_over(DecodeRun::over(job.entry, job.last), (&reader, lease), validator, own);
        video.learn_of_ends(lease.decoder().found(), memory);
        validator.claims(lease.decoder().claimed_size(), video.engine.max_pixels);
        run??;
        if own.is_empty() {
            return Ok(());
        }
        self.unless_put_off(&awaited)?;
        self.unless_refused()
    }

    fn pull_over(
        &self,
        mut run: DecodeRun<'_>,
        (reader, lease): (&SampleReader<'_>, &mut Lease),
        validator: &mut Validator,
        own: &mut Pending,
    ) -> Result<Step> {
        // Once all targets have answers, the remaining pictures in the decoder are not wanted.
        while !own.is_empty()
            && let Some(event) = run.next(reader, lease)?
        {
            if self.reader.is_cancelled() {
                return Ok(Err(Interrupt::Stopped));
            }
            let (sample, result) = match validator.rule(&self.video, event) {
                Ruling::Show(sample, picture) => (sample, Ok(picture)),
                Ruling::Unreadable(sample, error) => (sample, Err(error)),
                Ruling::Nothing => continue,
                Ruling::Abandon => break,
            };
            let Some(index) = own.remove(&sample) else { continue };
            let result = result.map_err(|error| error.at_frame(index));
            let result =
                result.and_then(|picture| validate::let_out(&self.video, index, sample, Decoded::Host(picture)));
            if let Err(interrupt) = self.give(index, result) {
                return Ok(Err(interrupt));
            }
        }
        Ok(Ok(()))
    }

    /// Answers targets without a picture, after a run that is trusted.
    fn settle(&self, validator: &Validator, own: &mut Pending) -> Step {
        let mut step = Ok(());
        for (sample, index) in std::mem::take(own) {
            // Also where the reader has no room: the decoding is done.
            step = step.and(self.give(index, Err(validator.missing(&self.video, index, sample))));
        }
        step
    }
}
