//! Fetch admission: groups of remote sources begin one after the other, so that the bytes that are in flight or not
//! decoded yet fit into the source's memory. Otherwise the source would evict the first bytes for the last, and fetch
//! them again. The bytes of a group are left to [`schedule`](crate::session::schedule).

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, PoisonError};

use crate::sync::unmodelled::{Mutex, MutexGuard};

/// The admission queue of an engine. Clones share one queue.
#[derive(Debug, Default, Clone)]
pub(crate) struct FetchAdmission(Arc<Mutex<AdmissionQueue>>);

#[derive(Debug, Default)]
struct AdmissionQueue {
    /// Bytes of the admitted groups.
    taken: u64,
    waiting: VecDeque<WaitingBundle>,
}

struct WaitingBundle {
    bytes: u64,
    room: u64,
    start: Box<dyn FnOnce(FetchPermit) + Send>,
}

impl std::fmt::Debug for WaitingBundle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("WaitingBundle").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// The admission of a bundle of groups; it ends on drop.
#[derive(Debug)]
pub(crate) struct FetchPermit {
    admission: FetchAdmission,
    bytes: u64,
}

/// The admission of a bundle, which lasts as long as one of its groups is being decoded; `None` for local sources.
pub(crate) type SharedFetchPermit = Option<Arc<OnceLock<FetchPermit>>>;

impl FetchAdmission {
    fn lock(&self) -> MutexGuard<'_, AdmissionQueue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `start` once `bytes` are admitted. Admission is in order: the admitted bytes stay within `room`, or the
    /// group is the only one.
    pub(crate) fn admit(&self, bytes: u64, room: u64, start: impl FnOnce(FetchPermit) + Send + 'static) {
        self.lock().waiting.push_back(WaitingBundle { bytes, room, start: Box::new(start) });
        self.admit_next();
    }

    fn admit_next(&self) {
        loop {
            let mut queue = self.lock();
            let fits = |next: &WaitingBundle| queue.taken == 0 || queue.taken.saturating_add(next.bytes) <= next.room;
            if !queue.waiting.front().is_some_and(fits) {
                return;
            }
            let Some(next) = queue.waiting.pop_front() else { return };
            let bytes = next.bytes.max(1);
            queue.taken += bytes;
            drop(queue);
            (next.start)(FetchPermit { admission: self.clone(), bytes });
        }
    }
}

impl Drop for FetchPermit {
    fn drop(&mut self) {
        self.admission.lock().taken -= self.bytes;
        self.admission.admit_next();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::{FetchAdmission, FetchPermit};

    #[test]
    fn groups_are_admitted_in_order_and_only_as_many_as_there_is_room_for() {
        let admission = FetchAdmission::default();
        let begun: Arc<Mutex<Vec<(u32, FetchPermit)>>> = Arc::default();
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
        assert_eq!(names(), [3], "more bytes than the room, alone");
        end(3);
        assert_eq!(names(), [4]);
    }
}
