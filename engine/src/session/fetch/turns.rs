//! Whose turn it is to have bytes fetched: groups whose bytes are far away begin one after the other, so that what is on its way
//! and what has come for those that have not decoded it yet fit into the memory for it. Else what came first would have to go
//! for what comes last, and be fetched again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::session::engine;

/// The turns of an engine.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes of those whose turn it is.
    taken: u64,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    bytes: u64,
    room: u64,
    start: Box<dyn FnOnce(Turn) + Send>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Waiting").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Somebody's turn; it ends when this goes.
#[derive(Debug)]
pub(crate) struct Turn {
    engine: Arc<engine::Shared>,
    bytes: u64,
}

/// Where a turn is kept as long as a group is at work, whoever works on it; none where bytes are never far away.
pub(crate) type Held = Option<Arc<OnceLock<Turn>>>;

impl Turns {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `start` when it is the turn of somebody who needs `bytes`: when all that have it need no more than `room`
    /// together, or nobody has.
    pub(crate) fn take(engine: &Arc<engine::Shared>, bytes: u64, room: u64, start: impl FnOnce(Turn) + Send + 'static) {
        engine.turns.lock().waiting.push_back(Waiting { bytes, room, start: Box::new(start) });
        Turns::go_on(engine);
    }

    fn go_on(engine: &Arc<engine::Shared>) {
        loop {
            let mut state = engine.turns.lock();
            let fits = |next: &Waiting| state.taken == 0 || state.taken.saturating_add(next.bytes) <= next.room;
            if !state.waiting.front().is_some_and(fits) {
                return;
            }
            let Some(next) = state.waiting.pop_front() else { return };
            let bytes = next.bytes.max(1);
            state.taken += bytes;
            drop(state);
            (next.start)(Turn { engine: Arc::clone(engine), bytes });
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.engine.turns.lock().taken -= self.bytes;
        Turns::go_on(&self.engine);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::{Turn, Turns};
    use crate::Engine;

    #[test]
    fn turns_come_in_order_and_only_as_many_as_there_is_room_for() {
        let engine = Engine::new(Some(1)).shared;
        let begun: Arc<Mutex<Vec<(u32, Turn)>>> = Arc::default();
        for (name, bytes) in [(0, 60), (1, 30), (2, 20), (3, 500), (4, 1)] {
            let begun = Arc::clone(&begun);
            Turns::take(&engine, bytes, 100, move |turn| begun.lock().unwrap().push((name, turn)));
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
