//! The worker pool: the threads that decode, and how many of them a task gets.
//!
//! There are as many workers as the engine may use threads, each bound to a core if the engine is configured so. A task
//! occupies one worker. A task so long that all others together would finish earlier occupies several, and its decoder
//! uses as many threads. Tasks never wait long for room in the queue of their results: a task that cannot deliver ends,
//! and is submitted again later. The work of a task is left to its caller.
//!
//! Tasks are scheduled by start-time fair queueing (`fair_queue.rs`). Each task belongs to an [`Account`], that of its
//! request or of a client with all of its requests. Virtual time is the time that workers spend. In virtual time a task
//! starts where the last task of its account ends, but not before the start of the task that was begun last; the task
//! with the earliest end is next. So an account with many tasks waits for accounts with few, and short tasks overtake
//! long ones. Short tasks of clients with little recent use precede all others, however many accounts there are, except
//! for every fifth task.
//!
//! A task that runs for longer than another one would have to wait is [overtaken](WorkerPool::is_overtaken): it may end
//! early and be submitted again. Not every task can: if tasks of other clients occupy all workers for long, a spare
//! thread begins the next one.

mod account;
mod cores;
mod fair_queue;
#[cfg(all(test, shuttle))]
mod model;
mod running;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ffi::Affinity;

pub use self::account::Account;
pub use self::running::{current_cost, current_position};

use self::cores::{bind_to, own_cores};
use self::fair_queue::{FairQueue, QueuedTask, Rank};
use self::running::{CurrentTask, current, set_current};
use crate::machine::CoreReservation;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use crate::sync::{Condvar, Instant, Mutex, MutexGuard, thread};

/// The highest cost of a short task.
const SHORT_NS: u64 = 100_000_000;
/// The spare thread begins a task once all running tasks have run for this long.
const STUCK: Duration = Duration::from_millis(250);
/// The interval at which the spare thread checks that.
const STUCK_CHECK: Duration = Duration::from_millis(50);

/// A piece of work for one worker, or for several.
pub struct Task {
    /// Expected cost in pictures.
    pub pictures: u64,
    /// Expected cost in nanoseconds of one worker.
    pub cost_ns: u64,
    /// The position in virtual time at which it was interrupted, if it was.
    pub resume_ns: Option<u64>,
    /// Does the work, with the given number of threads. Called at most once, on a worker; a dropped pool drops it
    /// uncalled.
    pub run: Box<dyn FnOnce(usize) + Send>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Task").field("pictures", &self.pictures).finish_non_exhaustive()
    }
}

/// A running task, for the spare thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ActiveTask {
    owner: usize,
    since: Instant,
}

/// The state that the pool's lock protects.
#[derive(Debug, Default)]
struct PoolState {
    queue: FairQueue,
    /// Virtual time: the start of the task that was begun last.
    now_ns: u64,
    /// Submissions so far.
    number: u64,
    /// Workers that no task occupies.
    free: usize,
    active: Vec<ActiveTask>,
    has_spare: bool,
    /// The spare thread waits for a notification, without a limit.
    is_spare_asleep: bool,
    started: bool,
    closed: bool,
}

/// The state that the pool and its threads share.
#[derive(Debug)]
struct PoolShared {
    state: Mutex<PoolState>,
    /// Wakes workers.
    work: Condvar,
    /// Wakes the spare thread.
    spare: Condvar,
    threads: usize,
    pin: bool,
    /// The cores that workers are bound to. They are released when the last worker has ended.
    core_reservation: Mutex<Option<CoreReservation>>,
    /// Every task gets one thread.
    is_narrow: bool,
    /// The next task, which running tasks read without the lock: its end in virtual time, and its account.
    next_end_ns: AtomicU64,
    next_owner: AtomicUsize,
    next_is_light: AtomicBool,
}

/// The workers of an engine. Dropping the pool ends them after their current tasks, and drops the waiting tasks.
#[derive(Debug)]
pub struct WorkerPool {
    shared: Arc<PoolShared>,
}

impl WorkerPool {
    /// A pool of `threads` workers, started with the first task. With `pin` each is bound to a core of its own, if
    /// there are as many cores as workers, and no other pool has bound workers to them.
    pub fn new(threads: usize, pin: bool) -> WorkerPool {
        // With fewer threads than cores, every process would choose the same cores.
        WorkerPool::with(threads, pin && threads == ffi::cpu_count(), false)
    }

    /// A pool for tasks that wait for work done elsewhere; each task has one thread.
    pub fn for_waiting_tasks(threads: usize) -> WorkerPool {
        WorkerPool::with(threads, false, true)
    }

    fn with(threads: usize, pin: bool, is_narrow: bool) -> WorkerPool {
        let state = PoolState { free: threads, ..PoolState::default() };
        let shared = PoolShared {
            state: Mutex::new(state),
            work: Condvar::new(),
            spare: Condvar::new(),
            threads,
            pin,
            core_reservation: Mutex::default(),
            is_narrow,
            next_end_ns: AtomicU64::new(u64::MAX),
            next_owner: AtomicUsize::new(0),
            next_is_light: AtomicBool::new(false),
        };
        WorkerPool { shared: Arc::new(shared) }
    }

    /// True if workers are bound to cores; before they are started, if they would be now.
    pub fn is_pinned(&self) -> bool {
        let is_started = self.shared.lock().started;
        self.shared.core_reservation().is_some()
            || (!is_started && self.shared.pin && CoreReservation::take(own_cores()).is_some())
    }

    /// Queues a task: after others of the same account, or at the position at which it was interrupted.
    pub fn submit(&self, task: Task, account: &Account) {
        let is_light = task.cost_ns <= SHORT_NS && account.is_light(self.shared.threads);
        let mut state = self.shared.lock();
        if !std::mem::replace(&mut state.started, true) {
            self.start();
        }
        if account.is_client() && !self.shared.is_narrow && !std::mem::replace(&mut state.has_spare, true) {
            self.start_spare();
        }
        state.number += 1;
        let is_new = task.resume_ns.is_none();
        // A light task does not count against the share of its account.
        let own_ns = if is_light { 0 } else { task.resume_ns.unwrap_or(account.end_ns()) };
        let start_ns = state.now_ns.max(own_ns);
        account.extend(start_ns, task.cost_ns);
        // A resumed task is nearly done in most cases.
        let end_ns = if is_new { start_ns.saturating_add(task.cost_ns) } else { start_ns };
        let (number, owner, is_client) = (state.number, account.owner(), account.is_client());
        state.queue.push(Rank { end_ns, is_new, number, start_ns, owner, is_client, is_light }, task);
        self.shared.publish_next(&state);
        // Without free workers, the next one to end a task takes this one.
        let is_taken_now = state.free > 0;
        self.shared.wake_spare(&mut state);
        drop(state);
        if is_taken_now {
            self.shared.work.notify_one();
        }
    }

    /// Tasks for each worker that run or wait.
    pub fn load(&self) -> f64 {
        let state = self.shared.lock();
        (state.queue.len() + self.shared.threads - state.free) as f64 / self.shared.threads as f64
    }

    /// True if tasks wait for a worker.
    pub fn has_waiting_tasks(&self) -> bool {
        !self.shared.lock().queue.is_empty()
    }

    /// True if the task on this thread has run for at least `slice`, and for longer than a task of another account
    /// would have to wait.
    pub fn is_overtaken(&self, slice: Duration) -> bool {
        let next_ns = self.shared.next_end_ns.load(Relaxed);
        let Some(running) = current().filter(|_| next_ns < u64::MAX) else { return false };
        let is_before = || self.shared.next_is_light.load(Relaxed) && !running.is_light;
        self.shared.next_owner.load(Relaxed) != running.owner
            && running.since.elapsed() >= slice
            && (is_before() || next_ns < running.now_ns())
    }

    fn start(&self) {
        let cores = self.take_cores();
        // Decoders with threads of their own must not inherit the single core of a worker.
        let everywhere = Affinity::of_this_thread();
        for worker in 0..self.shared.threads {
            let shared = Arc::clone(&self.shared);
            let core = cores.get(worker).copied();
            let work = move || {
                if let Some(core) = core {
                    bind_to(core);
                }
                everywhere.is_for_decoders();
                shared.work();
            };
            // Without workers no task ever runs: a refused thread is treated like a refused allocation.
            thread::Builder::new().name(format!("decode-{worker}")).spawn(work).expect("a thread");
        }
    }

    fn start_spare(&self) {
        let shared = Arc::clone(&self.shared);
        // If it cannot be started, tasks only wait longer.
        let _ = thread::Builder::new().name("decode-spare".to_owned()).spawn(move || shared.spare_loop());
    }

    /// Takes the cores to bind workers to; none if `pin` is off or another pool has them.
    fn take_cores(&self) -> Vec<usize> {
        if !self.shared.pin {
            return Vec::new();
        }
        let cores = own_cores();
        let mut core_reservation = self.shared.core_reservation();
        *core_reservation = CoreReservation::take(cores.clone());
        if core_reservation.is_some() { cores } else { Vec::new() }
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        let tasks = {
            let mut state = self.shared.lock();
            state.closed = true;
            // Idle workers only have to end: the next pool need not wait for that.
            if state.free == self.shared.threads {
                self.shared.core_reservation().take();
            }
            std::mem::take(&mut state.queue)
        };
        self.shared.work.notify_all();
        self.shared.spare.notify_all();
        // Without the lock: workers need it to end, and the destructors of tasks are their callers' code.
        drop(tasks);
    }
}

impl PoolShared {
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn core_reservation(&self) -> MutexGuard<'_, Option<CoreReservation>> {
        self.core_reservation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop of a worker.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if state.closed {
                return;
            }
            let ready = if state.free > 0 { state.queue.pop() } else { None };
            let Some(next) = ready else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.now_ns = state.now_ns.max(next.rank().start_ns);
            self.publish_next(&state);
            let width = self.width(&next.task, &state);
            state.free -= width;
            self.wake_spare(&mut state);
            state = self.run(state, next, width);
            state.free += width;
            // This worker takes a task itself; the end of a wide task leaves room for more than that.
            if width > 1 && !state.queue.is_empty() {
                self.work.notify_all();
            }
        }
    }

    /// The loop of the spare thread: it begins the next task if tasks of other clients occupy all workers for long.
    fn spare_loop(&self) {
        let mut state = self.lock();
        while !state.closed {
            if self.is_spare_needed(&state)
                && let Some(next) = state.queue.pop()
            {
                self.publish_next(&state);
                state = self.run(state, next, 1);
            } else if state.queue.is_empty() || state.free > 0 {
                state.is_spare_asleep = true;
                state = self.spare.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.is_spare_asleep = false;
            } else {
                state = self.spare.wait_timeout(state, STUCK_CHECK).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// Wakes the spare thread if tasks wait and all workers are occupied.
    fn wake_spare(&self, state: &mut PoolState) {
        if state.free == 0 && !state.queue.is_empty() && std::mem::take(&mut state.is_spare_asleep) {
            self.spare.notify_one();
        }
    }

    fn is_spare_needed(&self, state: &PoolState) -> bool {
        let is_stuck = state.free == 0 && state.active.iter().all(|at_work| at_work.since.elapsed() >= STUCK);
        let is_others = |next: Rank| next.is_client && state.active.iter().all(|at_work| at_work.owner != next.owner);
        is_stuck && state.queue.next().is_some_and(is_others)
    }

    /// Runs a task, without the lock.
    fn run<'a>(
        &'a self,
        mut state: MutexGuard<'a, PoolState>,
        next: QueuedTask,
        width: usize,
    ) -> MutexGuard<'a, PoolState> {
        let own = ActiveTask { owner: next.rank().owner, since: Instant::now() };
        state.active.push(own);
        drop(state);
        set_current(Some(CurrentTask::begin(next.rank(), own.since, width)));
        let run = next.task.run;
        // A panic is a bug in a task; the worker must remain for other requests.
        let run = AssertUnwindSafe(|| if width > 1 { ffi::while_unbound(|| run(width)) } else { run(width) });
        let _ = catch_unwind(run);
        set_current(None);
        let mut state = self.lock();
        if let Some(place) = state.active.iter().position(|at_work| *at_work == own) {
            state.active.swap_remove(place);
        }
        state
    }

    fn publish_next(&self, state: &PoolState) {
        let next = state.queue.next();
        self.next_end_ns.store(next.map_or(u64::MAX, |rank| rank.end_ns), Relaxed);
        self.next_owner.store(next.map_or(0, |rank| rank.owner), Relaxed);
        self.next_is_light.store(next.is_some_and(|rank| rank.is_light), Relaxed);
    }

    /// The number of threads for a task: one, unless one thread would need longer for it than all threads for all other
    /// tasks. A power of two, so that few kinds of decoders are open.
    fn width(&self, task: &Task, state: &PoolState) -> usize {
        if self.is_narrow {
            return 1;
        }
        let others = state.queue.pictures();
        let is_longest = task.pictures.saturating_mul(self.threads as u64) > others + task.pictures;
        let most = if is_longest { state.free.min(task.pictures.max(1) as usize) } else { 1 };
        1 << most.max(1).ilog2()
    }
}
