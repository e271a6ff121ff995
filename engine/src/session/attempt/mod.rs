//! One attempt at a group of targets: from samples to answers for all of its frames.
//!
//! First [`planned`] decode, while bytes come with an [`approach`] to them; then, for what is left, the [`fallback`] over all
//! samples. [`task`] is what they share. Which targets make a group, and what becomes of an interrupted one, is left to
//! [`schedule`](super::schedule).

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
    /// Answers all that is pending, or says why not.
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

    /// What is left was wanted in a GPU's memory, and is not to be had there.
    fn refuse(&self, pending: &mut Pending) {
        let source = self.video.source.name();
        for (_, index) in std::mem::take(pending) {
            let error = Error::from(ErrorKind::NotOnDevice).at_frame(index).of(source);
            self.reader.give(index, Err(error), Duration::ZERO);
        }
    }
}
