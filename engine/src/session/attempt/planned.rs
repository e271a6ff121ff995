//! Planned decode: from checkpoints, over only the samples that the targets need.
//!
//! Unexpected results and all damage are left to the fallback.

use std::cell::Cell;
use std::time::{Duration, Instant};

use ffi::GpuError;

use crate::bitstream::Codec;
use crate::decode::{DecodeRun, Event, Keeper, Lease, SampleReader};
use crate::device::{Decoded, Opening, Residency};
use crate::error::Result;
use crate::plan::Known;
use crate::plan::route::{Leg, Target, plan};
use crate::session::attempt::task::{Attempt, Interrupt, Pending, Step, checkpoints_near};
use crate::session::validate::{Ruling, Validator};

/// The progress of a planned run.
#[derive(Default)]
struct Progress {
    /// Targets without an answer.
    left: usize,
    interrupt: Option<Interrupt>,
    /// No further picture of the run is trusted.
    is_abandoned: bool,
    /// The device's error, if it caused that.
    error: Option<GpuError>,
    /// Time spent waiting for the reader.
    waited: Duration,
}

impl Attempt {
    /// Answers the targets that checkpoints and planned runs can answer.
    pub(super) fn planned(&self, targets: &[Target], pending: &mut Pending) -> Step {
        let video = &*self.video;
        let (track, source) = (&video.track, &*video.source);
        let needs = video.needs();
        let left = self.held_by_checkpoints(targets, &needs, pending)?;
        if left.is_empty() {
            return Ok(());
        }
        let leaves_checkpoints = self.traits().leaves_checkpoints;
        let near = |target| if leaves_checkpoints { checkpoints_near(video, target) } else { Vec::new() };
        let legs = plan(&left, &needs, &near);
        if track.codec == Codec::Av1 && left.iter().any(|&target| needs.follows_loss(target)) {
            return Ok(());
        }
        track.will_need(source, legs.iter().flat_map(|leg| leg.samples.iter().chain(&leg.sets).copied()));
        let keeper = self.keeper(&needs);
        for leg in &legs {
            self.unless_in_flight(leg.samples.iter().chain(&leg.sets).copied())?;
            self.run_planned(leg, &keeper, pending)?;
        }
        Ok(())
    }

    /// Answers targets from pictures that checkpoints hold. Returns the targets that are left to decode.
    fn held_by_checkpoints(&self, targets: &[Target], needs: &Known<'_>, pending: &mut Pending) -> Step<Vec<Target>> {
        let video = &*self.video;
        let mut left = Vec::with_capacity(targets.len());
        for &target in targets {
            if !pending.contains_key(&target.sample) {
                continue;
            }
            // Only a run to a key frame soon after the target shows whether that key frame has the target's picture
            // dropped.
            let last = video.planner.last_for(&video.track, &*video.source, target.sample);
            if video.track.codec == Codec::Hevc && last != target.sample {
                continue;
            }
            if self.reader.residency() != Residency::Device
                && let Some(picture) = video.engine.store.picture(video.id, target.sample)
                && let Ruling::Show(sample, picture) =
                    Validator::strict().rule(video, Event::Picture(target.sample, picture))
                && needs.is_shown(target)
            {
                self.let_out(sample, Decoded::Host(picture), pending)?;
                continue;
            }
            left.push(target);
        }
        Ok(left)
    }

    pub(super) fn keeper<'a>(&'a self, needs: &'a Known<'a>) -> Keeper<'a> {
        let engine = &self.video.engine;
        Keeper { store: &engine.store, video: self.video.id, spacing: engine.spacing, needs }
    }

    /// Makes one planned run. Any unexpected event ends it, and its other targets stay pending.
    pub(super) fn run_planned(&self, leg: &Leg, keeper: &Keeper<'_>, pending: &mut Pending) -> Step {
        let (video, since) = (&*self.video, Instant::now());
        let width = self.width.min(leg.samples.len().next_power_of_two());
        let opening = Opening {
            source: video.source.name(),
            track: &video.track,
            key: video.key_for(width, leg),
            pool: &video.engine.pool,
            memory: self.memory.as_ref(),
            is_refused: &video.is_refused,
        };
        let Some(mut lease) = self.device.open(&opening)? else { return Ok(()) };
        let awaited = Cell::new(None);
        let in_flight = self.in_flight();
        let may_read = |sample: u32| in_flight.may_read(sample, &awaited);
        let reader = SampleReader { may_read: Some(&may_read), keeper: Some(keeper), ..video.reader(false) };
        let mut progress = Progress { left: leg.targets.len(), ..Progress::default() };
        let run = self.pull(&mut progress, leg, DecodeRun::planned(leg, keeper), (&reader, &mut lease), pending);
        if self.memory.is_some() {
            video.learn_of_ends(lease.decoder().found(), self.memory.as_ref());
        }
        run?;
        drop(lease);
        if progress.is_abandoned {
            self.device.abandoned(video.source.name(), &video.is_refused, progress.error);
        }
        if let Some(interrupt) = progress.interrupt {
            return Err(interrupt);
        }
        if progress.left == 0 {
            let time = since.elapsed().saturating_sub(progress.waited);
            self.device.learn(video.kind(), leg.samples.len() as u64, time);
            return Ok(());
        }
        self.unless_put_off(&awaited)?;
        self.unless_refused()
    }

    /// Pulls a planned run to its last target, to the first sign of damage, or to an interrupt.
    fn pull(
        &self,
        progress: &mut Progress,
        leg: &Leg,
        mut run: DecodeRun<'_>,
        (reader, lease): (&SampleReader<'_>, &mut Lease),
        pending: &mut Pending,
    ) -> Result<()> {
        let mut validator = Validator::strict();
        while let Some(event) = run.next(reader, lease)? {
            match validator.rule(&self.video, event) {
                Ruling::Show(sample, picture) => {
                    let is_wanted = leg.targets.binary_search(&sample).is_ok() && pending.contains_key(&sample);
                    if is_wanted && !progress.is_abandoned {
                        self.show(progress, sample, picture, pending);
                    }
                }
                Ruling::Nothing => {}
                Ruling::Unreadable(..) | Ruling::Abandon => progress.is_abandoned = true,
            }
            if self.reader.is_cancelled() {
                progress.interrupt = Some(Interrupt::Stopped);
            }
            if progress.interrupt.is_none() && progress.left > 0 && self.is_overtaken() {
                progress.interrupt = Some(Interrupt::Overtaken);
            }
            // The remaining pictures in the decoder are no targets.
            if progress.left == 0 || progress.interrupt.is_some() || progress.is_abandoned {
                run.stop();
            }
        }
        Ok(())
    }

    fn show(&self, progress: &mut Progress, sample: u32, picture: ffi::Frame, pending: &mut Pending) {
        match self.device.take(picture, &self.video.track, self.reader.residency()) {
            Ok(picture) => {
                progress.left -= 1;
                let since = Instant::now();
                if let Err(interrupt) = self.let_out(sample, picture, pending) {
                    progress.interrupt = Some(interrupt);
                }
                progress.waited += since.elapsed();
            }
            Err(error) => (progress.is_abandoned, progress.error) = (true, Some(error)),
        }
    }

    /// Interrupts if a run was stopped for a sample that is in flight.
    pub(super) fn unless_put_off(&self, awaited: &Cell<Option<u32>>) -> Step {
        if self.reader.is_cancelled() {
            return Err(Interrupt::Stopped);
        }
        match awaited.get() {
            Some(sample) => Err(Interrupt::InFlight(vec![sample])),
            None => Ok(()),
        }
    }
}
