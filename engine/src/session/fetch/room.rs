//! Groups that wait for memory for their pictures, and those that cannot have as much as they need.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::{End, Group, pictures};
use crate::decode::judge::Place;
use crate::picture_memory::{Kind, Refused, Reservation};
use crate::plan::route::Target;

impl<T: Send + 'static> Group<T> {
    /// Puts everything off until so many bytes can be reserved. The worker goes on with other tasks.
    pub(super) fn wait_for_room(&self, targets: Vec<Target>, bytes: u64) {
        let (pictures, overtaken) = (pictures(&targets), self.overtaken);
        let slot = Arc::new(OnceLock::new());
        let (video, request, held, turn) =
            (Arc::clone(&self.video), Arc::clone(&self.request), Arc::clone(&slot), self.turn.clone());
        let task = move |width| {
            let memory = Arc::into_inner(held).and_then(OnceLock::into_inner);
            Group { overtaken, memory, ..Group::new(video, request, width, turn, Place::Processor) }.answer(targets);
        };
        let waits = Arc::clone(&self.request);
        let budget = &self.video.engine.pictures;
        self.request.submit_when(Place::Processor, pictures, task, |then| {
            let is_cancelled = move || waits.is_cancelled();
            budget.when_room(Kind::Run, bytes, is_cancelled, move |memory| {
                let _ = slot.set(memory);
                drop(slot);
                then();
            });
        });
    }

    /// Answers targets (sample to frame) that need more memory than they can have.
    pub(super) fn refuse_for_good(&self, refused: Refused, targets: BTreeMap<u32, u32>) {
        let Refused::ForGood { needed } = refused else { return };
        let (video, name) = (&self.video, self.video.source.name());
        for (sample, index) in targets {
            let offset = video.track.samples[sample as usize].offset;
            let error = video.engine.pictures.too_much(needed);
            let error = error.at_frame(index).at_sample(sample, Some(offset)).of(name);
            self.request.give(index, Err(error), Duration::ZERO);
        }
    }

    /// Was there memory for all pictures up to now?
    pub(super) fn unless_refused(&self) -> End {
        self.memory.as_ref().and_then(Reservation::refusal).map_or(End::Over, End::NoRoom)
    }
}
