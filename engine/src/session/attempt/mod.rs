//! One attempt at a group of targets: decodes the samples and answers the frames.
//!
//! First comes the [`planned`] decode, with an [`approach`] while bytes arrive; then, for what is left, the
//! [`fallback`] over all samples. [`task`] has the state that they share. Grouping targets and resubmitting an
//! interrupted group are left to [`schedule`](super::schedule).

mod approach;
mod fallback;
mod planned;
mod task;

use std::time::Duration;

pub(crate) use self::task::{Attempt, Interrupt, Pending, Step, checkpoints_near};
use crate::device::Residency;
use crate::error::{Error, ErrorKind};
use crate::plan::route::Target;

impl Attempt {
    /// Answers all pending targets, or returns the reason for the interrupt.
    pub(crate) fn run(&self, targets: &[Target], pending: &mut Pending) -> Step {
        let is_host = self.traits().is_host;
        let must_stay = self.reader.residency() == Residency::Device;
        let is_plannable = !self.video.engine.from_entry && !self.video.planner.is_deceived();
        if is_plannable && !(must_stay && is_host) {
            self.approach(targets)?;
            self.planned(targets, pending)?;
        }
        if must_stay {
            self.refuse(pending);
        }
        if pending.is_empty() {
            return Ok(());
        }
        if is_host { self.fallback(pending) } else { Err(Interrupt::Moved) }
    }

    /// Answers the pending targets, which were wanted in a GPU's memory and cannot be decoded there.
    fn refuse(&self, pending: &mut Pending) {
        let source = self.video.source.name();
        for (_, index) in std::mem::take(pending) {
            let error = Error::from(ErrorKind::NotOnDevice).at_frame(index).of(source);
            self.reader.give(index, Err(error), Duration::ZERO);
        }
    }
}
