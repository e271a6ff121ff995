//! Start-time fair queueing: the order of the waiting tasks. See the parent module for the policy.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::Task;

/// The number of light tasks in a row after which another task is next.
const LIGHT_IN_A_ROW: usize = 4;

/// The order of a task in its queue: by its end in virtual time; among equals, resumed tasks first, then by submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) end_ns: u64,
    pub(super) is_new: bool,
    /// Counts submissions, so that no two ranks are equal.
    pub(super) number: u64,
    pub(super) start_ns: u64,
    pub(super) owner: usize,
    pub(super) is_client: bool,
    /// A short task of a client with little recent use.
    pub(super) is_light: bool,
}

/// A waiting task.
#[derive(Debug)]
pub(super) struct QueuedTask {
    rank: Reverse<Rank>,
    pub(super) task: Task,
}

impl QueuedTask {
    pub(super) fn rank(&self) -> Rank {
        self.rank.0
    }
}

impl PartialEq for QueuedTask {
    fn eq(&self, other: &QueuedTask) -> bool {
        self.rank == other.rank
    }
}

impl Eq for QueuedTask {}

impl PartialOrd for QueuedTask {
    fn partial_cmp(&self, other: &QueuedTask) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for QueuedTask {
    fn cmp(&self, other: &QueuedTask) -> Ordering {
        self.rank.cmp(&other.rank)
    }
}

/// The waiting tasks.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    light: BinaryHeap<QueuedTask>,
    heavy: BinaryHeap<QueuedTask>,
    /// Light tasks that were taken in a row while others were waiting.
    in_a_row: usize,
    /// The expected pictures of all waiting tasks.
    pictures: u64,
}

impl FairQueue {
    pub(super) fn push(&mut self, rank: Rank, task: Task) {
        // Adding and subtracting with overflow keeps the sum of the tasks that are left.
        self.pictures = self.pictures.wrapping_add(task.pictures);
        let waiting = QueuedTask { rank: Reverse(rank), task };
        if rank.is_light { self.light.push(waiting) } else { self.heavy.push(waiting) }
    }

    fn is_light_next(&self) -> bool {
        !self.light.is_empty() && (self.in_a_row < LIGHT_IN_A_ROW || self.heavy.is_empty())
    }

    /// The rank of the task that [`pop`](FairQueue::pop) would take.
    pub(super) fn next(&self) -> Option<Rank> {
        let queue = if self.is_light_next() { &self.light } else { &self.heavy };
        queue.peek().map(QueuedTask::rank)
    }

    pub(super) fn pop(&mut self) -> Option<QueuedTask> {
        let is_light = self.is_light_next();
        self.in_a_row = if is_light && !self.heavy.is_empty() { self.in_a_row + 1 } else { 0 };
        let next = if is_light { self.light.pop() } else { self.heavy.pop() }?;
        self.pictures = self.pictures.wrapping_sub(next.task.pictures);
        Some(next)
    }

    pub(super) fn len(&self) -> usize {
        self.light.len() + self.heavy.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.light.is_empty() && self.heavy.is_empty()
    }

    /// The expected pictures of all waiting tasks.
    pub(super) fn pictures(&self) -> u64 {
        self.pictures
    }
}
