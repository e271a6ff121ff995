//! One attempt at a group of targets: decodes the samples and answers the frames.
//!
//! First comes the [`planned`] decode, with an [`early_decode`] while bytes arrive; then, for the remaining targets,
//! the [`fallback`] over all samples. [`task`] has the state that they share. Grouping targets and resubmitting an
//! interrupted group are left to [`schedule`](super::schedule).

mod early_decode;
mod fallback;
mod planned;
mod task;

use std::time::Duration;

pub(crate) use self::task::{Attempt, AttemptResult, Interrupt, Pending, checkpoints_near};
use crate::device::Residency;
use crate::error::{Error, ErrorKind};
use crate::plan::runs::Target;

impl Attempt {
    /// Answers all pending targets, or returns the reason for the interrupt.
    pub(crate) fn run(&self, targets: &[Target], pending: &mut Pending) -> AttemptResult {
        let is_host = self.traits().is_host;
        let must_stay = self.sink.residency() == Residency::Device;
        let is_plannable = !self.video.engine.from_random_access_point && !self.video.planner.is_index_distrusted();
        if is_plannable && !(must_stay && is_host) {
            self.decode_early(targets)?;
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

    /// Answers the pending targets with `NotOnDevice`: they were requested in a GPU's memory and cannot be decoded
    /// there.
    fn refuse(&self, pending: &mut Pending) {
        let source = self.video.source.name();
        for (_, index) in std::mem::take(pending) {
            let error = Error::from(ErrorKind::NotOnDevice).at_frame(index).of(source);
            self.sink.deliver(index, Err(error), Duration::ZERO);
        }
    }
}
