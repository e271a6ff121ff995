//! Fetch admission: groups of remote sources begin one after the other, so that the bytes that are in flight or not
//! decoded yet fit into the source's memory. Otherwise the first bytes would be evicted for the last, and be fetched
//! again. Which bytes a group needs is left to [`schedule`](crate::session::schedule).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// The admission queue of an engine. Clones share it.
#[derive(Debug, Default, Clone)]
pub(crate) struct FetchAdmission(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    /// Bytes of the admitted groups.
    taken: u64,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    bytes: u64,
    room: u64,
    start: Box<dyn FnOnce(Admitted) + Send>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Waiting").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// The admission of a bundle of groups, which ends on drop.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: FetchAdmission,
    bytes: u64,
}

/// Keeps the admission of a bundle as long as one of its groups is at work; `None` for local sources.
pub(crate) type Held = Option<Arc<OnceLock<Admitted>>>;

impl FetchAdmission {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `start` once `bytes` are admitted. Admission is in order: the admitted bytes stay within `room`, or
    /// nothing else is admitted.
    pub(crate) fn admit(&self, bytes: u64, room: u64, start: impl FnOnce(Admitted) + Send + 'static) {
        self.lock().waiting.push_back(Waiting { bytes, room, start: Box::new(start) });
        self.go_on();
    }

    fn go_on(&self) {
        loop {
            let mut queue = self.lock();
            let fits = |next: &Waiting| queue.taken == 0 || queue.taken.saturating_add(next.bytes) <= next.room;
            if !queue.waiting.front().is_some_and(fits) {
                return;
            }
            let Some(next) = queue.waiting.pop_front() else { return };
            let bytes = next.bytes.max(1);
            queue.taken += bytes;
            drop(queue);
            (next.start)(Admitted { admission: self.clone(), bytes });
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.lock().taken -= self.bytes;
        self.admission.go_on();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::{Admitted, FetchAdmission};

    #[test]
    fn groups_are_admitted_in_order_and_only_as_many_as_there_is_room_for() {
        let admission = FetchAdmission::default();
        let begun: Arc<Mutex<Vec<(u32, Admitted)>>> = Arc::default();
        for (name, bytes) in [(0, 60), (1, 30), (2, 20), (3, 500), (4, 1)] {
            let begun = Arc::clone(&begun);
            admission.admit(bytes, 100, move |admitted| begun.lock().unwrap().push((name, admitted)));
        }
        let names = || begun.lock().unwrap().iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let end = |name: u32| {
            let mut begun = begun.lock().unwrap();
            let place = begun.iter().position(|(other, _)| *other == name).unwrap();
            let gone = begun.remove(place);
            drop(begun);
            drop(gone);
        };
        assert_eq!(names(), [0, 1]);
        end(0);
        assert_eq!(names(), [1, 2]);
        end(2);
        end(1);
        assert_eq!(names(), [3], "more than there is room for, alone");
        end(3);
        assert_eq!(names(), [4]);
    }
}
