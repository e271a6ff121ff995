//! Planned decode: from checkpoints, over only the samples that the targets need.
//!
//! Unexpected results and all damage are left to the fallback.

use std::cell::Cell;
use std::time::{Duration, Instant};

use ffi::GpuError;

use crate::bitstream::Codec;
use crate::decode::{CheckpointWriter, DecodeRun, Event, Lease, SampleReader};
use crate::device::{DecodedPicture, DecoderOpening, Residency};
use crate::error::Result;
use crate::plan::TrackDependencies;
use crate::plan::runs::{PlannedRun, Target, plan};
use crate::session::attempt::task::{Attempt, AttemptResult, Interrupt, Pending, checkpoints_near};
use crate::session::validate::{PictureDecision, Validator};

/// The progress of a planned run.
#[derive(Default)]
struct PlannedProgress {
    /// Targets without an answer.
    left: usize,
    interrupt: Option<Interrupt>,
    /// The strict validator has abandoned the run: no further picture of it is shown.
    is_abandoned: bool,
    /// The device's error, if it is the reason.
    error: Option<GpuError>,
    /// Time spent waiting for room in the queue of results.
    waited: Duration,
}

impl Attempt {
    /// Answers the targets that checkpoints and planned runs can answer.
    pub(super) fn planned(&self, targets: &[Target], pending: &mut Pending) -> AttemptResult {
        let video = &*self.video;
        let (track, source) = (&video.track, &*video.source);
        let dependencies = video.dependencies();
        let left = self.answer_from_checkpoints(targets, &dependencies, pending)?;
        if left.is_empty() {
            return Ok(());
        }
        let leaves_checkpoints = self.traits().leaves_checkpoints;
        let checkpoints = |target| if leaves_checkpoints { checkpoints_near(video, target) } else { Vec::new() };
        let planned_runs = plan(&left, &dependencies, &checkpoints);
        if track.codec == Codec::Av1 && left.iter().any(|&target| dependencies.follows_loss(target)) {
            return Ok(());
        }
        track.will_need(
            source,
            planned_runs.iter().flat_map(|planned_run| planned_run.samples.iter().chain(&planned_run.sets).copied()),
        );
        let checkpoint_writer = self.checkpoint_writer(&dependencies);
        for planned_run in &planned_runs {
            self.check_in_flight(planned_run.samples.iter().chain(&planned_run.sets).copied())?;
            self.run_planned(planned_run, &checkpoint_writer, pending)?;
        }
        Ok(())
    }

    /// Answers targets from pictures that checkpoints hold. Returns the targets that are left to decode.
    fn answer_from_checkpoints(
        &self,
        targets: &[Target],
        dependencies: &TrackDependencies<'_>,
        pending: &mut Pending,
    ) -> AttemptResult<Vec<Target>> {
        let video = &*self.video;
        let mut left = Vec::with_capacity(targets.len());
        for &target in targets {
            if !pending.contains_key(&target.sample) {
                continue;
            }
            // Only a run to a key frame soon after the target shows whether that key frame drops the target's picture.
            let last = video.planner.last_for(&video.track, &*video.source, target.sample);
            if video.track.codec == Codec::Hevc && last != target.sample {
                continue;
            }
            if self.sink.residency() != Residency::Device
                && let Some(picture) = video.engine.store.picture(video.id, target.sample)
                && let PictureDecision::Show(sample, picture) =
                    Validator::strict().decide(video, Event::Picture(target.sample, picture))
                && dependencies.is_shown(target)
            {
                self.release(sample, DecodedPicture::Host(picture), pending)?;
                continue;
            }
            left.push(target);
        }
        Ok(left)
    }

    pub(super) fn checkpoint_writer<'a>(&'a self, dependencies: &'a TrackDependencies<'a>) -> CheckpointWriter<'a> {
        let engine = &self.video.engine;
        CheckpointWriter { store: &engine.store, video: self.video.id, spacing: engine.spacing, dependencies }
    }

    /// Makes one planned run. Any unexpected event ends it, and its other targets stay pending.
    pub(super) fn run_planned(
        &self,
        planned_run: &PlannedRun,
        checkpoint_writer: &CheckpointWriter<'_>,
        pending: &mut Pending,
    ) -> AttemptResult {
        let (video, since) = (&*self.video, Instant::now());
        let width = self.width.min(planned_run.samples.len().next_power_of_two());
        let opening = DecoderOpening {
            source: video.source.name(),
            track: &video.track,
            key: video.key_for(width, planned_run),
            pool: &video.engine.pool,
            memory: self.memory.as_ref(),
            is_unsupported: &video.is_unsupported,
        };
        let Some(mut lease) = self.device.open(&opening)? else { return Ok(()) };
        let awaited = Cell::new(None);
        let in_flight = self.in_flight();
        let may_read = |sample: u32| in_flight.may_read(sample, &awaited);
        let reader = SampleReader {
            may_read: Some(&may_read),
            checkpoint_writer: Some(checkpoint_writer),
            ..video.reader(false)
        };
        let mut progress = PlannedProgress { left: planned_run.targets.len(), ..PlannedProgress::default() };
        let run = self.pull(
            &mut progress,
            planned_run,
            DecodeRun::planned(planned_run, checkpoint_writer),
            (&reader, &mut lease),
            pending,
        );
        if self.memory.is_some() {
            video.learn_slice_ends(lease.decoder().damage_sign(), self.memory.as_ref());
        }
        run?;
        drop(lease);
        if progress.is_abandoned {
            self.device.record_abandoned(video.source.name(), &video.is_unsupported, progress.error);
        }
        if let Some(interrupt) = progress.interrupt {
            return Err(interrupt);
        }
        if progress.left == 0 {
            let time = since.elapsed().saturating_sub(progress.waited);
            self.device.learn(video.kind(), planned_run.samples.len() as u64, time);
            return Ok(());
        }
        self.check_deferred(&awaited)?;
        self.check_refused()
    }

    /// Pulls a planned run to its last target, to the first sign of damage, or to an interrupt.
    fn pull(
        &self,
        progress: &mut PlannedProgress,
        planned_run: &PlannedRun,
        mut run: DecodeRun<'_>,
        (reader, lease): (&SampleReader<'_>, &mut Lease),
        pending: &mut Pending,
    ) -> Result<()> {
        let mut validator = Validator::strict();
        while let Some(event) = run.next(reader, lease)? {
            match validator.decide(&self.video, event) {
                PictureDecision::Show(sample, picture) => {
                    let is_target = planned_run.targets.binary_search(&sample).is_ok() && pending.contains_key(&sample);
                    if is_target && !progress.is_abandoned {
                        self.show(progress, sample, picture, pending);
                    }
                }
                PictureDecision::Nothing => {}
                PictureDecision::Unreadable(..) | PictureDecision::Abandon => progress.is_abandoned = true,
            }
            if self.sink.is_cancelled() {
                progress.interrupt = Some(Interrupt::Stopped);
            }
            if progress.interrupt.is_none() && progress.left > 0 && self.is_overtaken() {
                progress.interrupt = Some(Interrupt::Overtaken);
            }
            // The state after the last target is a checkpoint for later requests alone.
            if progress.left == 0 && progress.interrupt.is_none() && self.video.engine.for_one_request {
                break;
            }
            // The remaining pictures in the decoder are no targets.
            if progress.left == 0 || progress.interrupt.is_some() || progress.is_abandoned {
                run.stop();
            }
        }
        Ok(())
    }

    fn show(&self, progress: &mut PlannedProgress, sample: u32, picture: ffi::Frame, pending: &mut Pending) {
        match self.device.take(picture, &self.video.track, self.sink.residency()) {
            Ok(picture) => {
                progress.left -= 1;
                let since = Instant::now();
                if let Err(interrupt) = self.release(sample, picture, pending) {
                    progress.interrupt = Some(interrupt);
                }
                progress.waited += since.elapsed();
            }
            Err(error) => (progress.is_abandoned, progress.error) = (true, Some(error)),
        }
    }

    /// Interrupts the attempt if a run was stopped for a sample in flight.
    pub(super) fn check_deferred(&self, awaited: &Cell<Option<u32>>) -> AttemptResult {
        if self.sink.is_cancelled() {
            return Err(Interrupt::Stopped);
        }
        match awaited.get() {
            Some(sample) => Err(Interrupt::InFlight(vec![sample])),
            None => Ok(()),
        }
    }
}
