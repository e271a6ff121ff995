//! The task that runs on the current thread: its cost so far, and its position in virtual time.

use std::cell::Cell;
use std::time::Duration;

use super::account::nanos;
use super::fair_queue::Rank;
use crate::sync::{Instant, thread_local, thread_time};

/// A running task.
#[derive(Debug, Clone, Copy)]
pub(super) struct CurrentTask {
    pub(super) start_ns: u64,
    pub(super) since: Instant,
    /// The processor time of the thread when it began.
    time: Duration,
    /// Threads that it uses.
    width: u32,
    pub(super) owner: usize,
    pub(super) is_light: bool,
}

impl CurrentTask {
    /// A task of this rank that begins now, at `since`, on the current thread.
    pub(super) fn begin(rank: Rank, since: Instant, width: usize) -> CurrentTask {
        let Rank { start_ns, owner, is_light, .. } = rank;
        CurrentTask { start_ns, since, time: thread_time(), width: width as u32, owner, is_light }
    }

    /// Its cost so far: the thread's processor time, or with several threads an estimate for all of them.
    fn cost(&self) -> Duration {
        match self.width {
            1 => thread_time().saturating_sub(self.time),
            width => self.since.elapsed() * width,
        }
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.start_ns.saturating_add(nanos(self.cost()))
    }
}

thread_local! {
    static RUNNING: Cell<Option<CurrentTask>> = const { Cell::new(None) };
}

/// The task that runs on the current thread.
pub(super) fn current() -> Option<CurrentTask> {
    RUNNING.with(Cell::get)
}

pub(super) fn set_current(running: Option<CurrentTask>) {
    RUNNING.with(|current| current.set(running));
}

/// The cost of the current thread's task so far: time, on all threads that it uses.
pub fn current_cost() -> Duration {
    current().map_or(Duration::ZERO, |running| running.cost())
}

/// The position of the current thread's task in virtual time, in nanoseconds.
pub fn current_position() -> u64 {
    current().map_or(0, |running| running.now_ns())
}
