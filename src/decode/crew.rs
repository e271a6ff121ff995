//! The threads that decode, and how many cores a task gets.
//!
//! There are as many workers as the engine may use threads, each on a core of its own; a task takes one, and more when it
//! is so long that the others would only wait for it: its decoder then uses as many threads. Tasks never wait for whoever
//! asked: one that cannot get rid of its results ends, and is submitted again later. Requests take turns: who asks for one
//! frame does not wait for all that somebody else has asked for before. What a task does is others'.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use core_affinity::CoreId;
use ffi::Affinity;

use crate::machine::Pins;

/// A piece of work. It is told how many threads it may use.
pub struct Task {
    /// About how long it takes, in pictures.
    pub pictures: u64,
    /// Does it.
    pub run: Box<dyn FnOnce(usize) + Send>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Task").field("pictures", &self.pictures).finish_non_exhaustive()
    }
}

/// The turns of a request: in each round that it has tasks, one of them is done.
#[derive(Debug, Default)]
pub struct Turns {
    /// The round of its next task.
    next: AtomicU64,
}

/// When it is a task's turn: its round; within that, what goes on comes first, then what was there first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    round: u64,
    is_new: bool,
    number: u64,
}

/// A task that waits.
#[derive(Debug)]
struct Waiting {
    place: Reverse<Place>,
    task: Task,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Waiting) -> bool {
        self.place == other.place
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Waiting) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Waiting) -> std::cmp::Ordering {
        self.place.cmp(&other.place)
    }
}

#[derive(Debug, Default)]
struct State {
    queue: BinaryHeap<Waiting>,
    /// The round of the task that was begun last.
    round: u64,
    /// Tasks so far.
    number: u64,
    /// Threads that may be started and are not in use.
    free: usize,
    started: bool,
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    threads: usize,
    pin: bool,
    /// The cores that workers are bound to. They are free again when the last worker has ended.
    pins: Mutex<Option<Pins>>,
    /// Every task gets one thread.
    is_narrow: bool,
}

/// The workers of an engine. They end when it goes.
#[derive(Debug)]
pub struct Crew {
    shared: Arc<Shared>,
}

impl Crew {
    /// A crew of `threads`; none is started before there is work. With `pin` each has a core of its own, if there are
    /// as many, and no other crew has workers bound to them.
    pub fn new(threads: usize, pin: bool) -> Crew {
        let state = State { free: threads, ..State::default() };
        // With fewer threads than cores, every process would choose the same ones.
        let pin = pin && threads == ffi::cpu_count();
        Crew::with(state, threads, pin, false)
    }

    /// Are workers bound to cores? Before there was work: would they be, if there were some now?
    pub fn is_pinned(&self) -> bool {
        let is_started = self.shared.lock().started;
        self.shared.pins().is_some() || (!is_started && self.shared.pin && take(&own_cores()).is_some())
    }

    /// Takes the cores to bind workers to; none where that is not wanted, or where another crew has them.
    fn cores(&self) -> Vec<CoreId> {
        if !self.shared.pin {
            return Vec::new();
        }
        let cores = own_cores();
        let mut pins = self.shared.pins();
        *pins = take(&cores);
        if pins.is_some() { cores } else { Vec::new() }
    }

    /// A crew whose tasks wait for something else to be done, one thread each.
    pub fn of_waiters(threads: usize) -> Crew {
        Crew::with(State { free: threads, ..State::default() }, threads, false, true)
    }

    fn with(state: State, threads: usize, pin: bool, is_narrow: bool) -> Crew {
        let (state, work) = (Mutex::new(state), Condvar::new());
        Crew { shared: Arc::new(Shared { state, work, threads, pin, pins: Mutex::default(), is_narrow }) }
    }

    /// Puts a task into the queue: behind others of the same request, or where one that was broken off goes on, to be the next
    /// of that.
    pub fn submit(&self, task: Task, turns: &Turns, goes_on: bool) {
        let mut state = self.shared.lock();
        if !std::mem::replace(&mut state.started, true) {
            self.start();
        }
        state.number += 1;
        let mut round = state.round + 1;
        if !goes_on {
            round = round.max(turns.next.load(Relaxed));
            turns.next.store(round + 1, Relaxed);
        }
        let place = Reverse(Place { round, is_new: !goes_on, number: state.number });
        state.queue.push(Waiting { place, task });
        drop(state);
        self.shared.work.notify_one();
    }

    /// Tasks for each worker that are at work or wait.
    pub fn load(&self) -> f64 {
        let state = self.shared.lock();
        (state.queue.len() + self.shared.threads - state.free) as f64 / self.shared.threads as f64
    }

    /// Is there work that nobody has begun?
    pub fn is_waited_for(&self) -> bool {
        !self.shared.lock().queue.is_empty()
    }

    fn start(&self) {
        let cores = self.cores();
        // Decoders with threads of their own must not pass a worker's single core on to them.
        let everywhere = Affinity::of_this_thread();
        for worker in 0..self.shared.threads {
            let shared = Arc::clone(&self.shared);
            let core = cores.get(worker).copied();
            let work = move || {
                if let Some(core) = core {
                    core_affinity::set_for_current(core);
                }
                everywhere.is_for_decoders();
                shared.work();
            };
            // Without a thread there is nobody to do the work; the system's refusal is as good as no memory.
            std::thread::Builder::new().name(format!("decode-{worker}")).spawn(work).expect("a thread");
        }
    }
}

/// The cores that this thread may run on.
fn own_cores() -> Vec<CoreId> {
    core_affinity::get_core_ids().unwrap_or_default()
}

fn take(cores: &[CoreId]) -> Option<Pins> {
    Pins::take(cores.iter().map(|core| core.id).collect())
}

impl Drop for Crew {
    fn drop(&mut self) {
        let tasks = {
            let mut state = self.shared.lock();
            state.closed = true;
            // Workers that have nothing to do only end: the next crew need not wait for that.
            if state.free == self.shared.threads {
                self.shared.pins().take();
            }
            std::mem::take(&mut state.queue)
        };
        self.shared.work.notify_all();
        drop(tasks);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn pins(&self) -> MutexGuard<'_, Option<Pins>> {
        self.pins.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if state.closed {
                return;
            }
            let ready = if state.free > 0 { state.queue.pop() } else { None };
            let Some(Waiting { place, task }) = ready else {
                state = self.work.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
                continue;
            };
            state.round = state.round.max(place.0.round);
            let width = self.width(&task, &state);
            state.free -= width;
            drop(state);
            // A panic is a bug of ours; it must not take the other requests' worker with it.
            let run =
                AssertUnwindSafe(
                    || if width > 1 { ffi::while_unbound(|| (task.run)(width)) } else { (task.run)(width) },
                );
            let _ = catch_unwind(run);
            state = self.lock();
            state.free += width;
            if !state.queue.is_empty() {
                self.work.notify_all();
            }
        }
    }

    /// How many threads a task gets: one, unless on one it would take longer than everything else on all of them. A power
    /// of two, so that few kinds of decoders are open.
    fn width(&self, task: &Task, state: &State) -> usize {
        if self.is_narrow {
            return 1;
        }
        let others: u64 = state.queue.iter().map(|waiting| waiting.task.pictures).sum();
        let is_longest = task.pictures.saturating_mul(self.threads as u64) > others + task.pictures;
        let most = if is_longest { state.free.min(task.pictures.max(1) as usize) } else { 1 };
        1 << most.max(1).ilog2()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::{Crew, Task, Turns};

    #[test]
    fn a_lone_task_gets_all_threads_and_many_get_one_each() {
        let crew = Crew::new(2, false);
        let (tell, told) = mpsc::channel();
        let task = |pictures: u64| {
            let tell = tell.clone();
            Task { pictures, run: Box::new(move |width| tell.send(width).unwrap()) }
        };
        let turns = Turns::default();
        crew.submit(task(100), &turns, false);
        assert_eq!(told.recv().unwrap(), 2);
        let (hold, held) = mpsc::channel::<()>();
        crew.submit(Task { pictures: 1, run: Box::new(move |_| _ = held.recv()) }, &turns, false);
        (0..4).for_each(|_| crew.submit(task(10), &turns, false));
        drop(hold);
        let widths: Vec<usize> = (0..4).map(|_| told.recv().unwrap()).collect();
        assert_eq!(widths[..2], [1, 1], "{widths:?}");
    }

    #[test]
    fn requests_take_turns() {
        let crew = Crew::new(1, false);
        let (tell, told) = mpsc::channel();
        let task = |name: &'static str| {
            let tell = tell.clone();
            Task { pictures: 1, run: Box::new(move |_| tell.send(name).unwrap()) }
        };
        let (hold, held) = mpsc::channel::<()>();
        let (begun, is_begun) = mpsc::channel();
        let wait = move |_| {
            begun.send(()).unwrap();
            let _ = held.recv();
        };
        let all: [Turns; 4] = Default::default();
        crew.submit(Task { pictures: 1, run: Box::new(wait) }, &all[0], false);
        is_begun.recv().unwrap();
        ["a1", "a2", "a3", "a4"].into_iter().for_each(|name| crew.submit(task(name), &all[1], false));
        crew.submit(task("b"), &all[2], false);
        ["c1", "c2"].into_iter().for_each(|name| crew.submit(task(name), &all[3], false));
        crew.submit(task("a0"), &all[1], true);
        drop(hold);
        let names: Vec<&str> = (0..8).map(|_| told.recv().unwrap()).collect();
        assert_eq!(names, ["a0", "a1", "b", "c1", "a2", "c2", "a3", "a4"]);
    }

    #[test]
    fn two_crews_never_bind_workers_to_the_same_cores() {
        let both = [(); 2].map(|()| Crew::new(ffi::cpu_count(), true));
        let (tell, told) = mpsc::channel();
        for crew in &both {
            let tell = tell.clone();
            let run = move |_| tell.send(core_affinity::get_core_ids().unwrap().len()).unwrap();
            crew.submit(Task { pictures: 1, run: Box::new(run) }, &Turns::default(), false);
        }
        // A task of one picture has one thread, so a worker that is bound runs it on one core.
        let cores = [told.recv().unwrap(), told.recv().unwrap()];
        // Where another process of the same machine has them, neither does.
        assert!(both.iter().filter(|crew| crew.is_pinned()).count() < 2);
        let bound = cores.iter().filter(|cores| **cores < ffi::cpu_count()).count();
        assert!(bound < 2, "{cores:?}");
        assert!(!Crew::new(ffi::cpu_count() + 1, true).is_pinned() && !Crew::new(ffi::cpu_count(), false).is_pinned());
    }

    #[test]
    fn a_panic_takes_nobody_with_it() {
        let crew = Crew::new(1, false);
        let turns = Turns::default();
        crew.submit(Task { pictures: 1, run: Box::new(|_| panic!("of a task")) }, &turns, false);
        let (tell, told) = mpsc::channel();
        crew.submit(Task { pictures: 1, run: Box::new(move |width| tell.send(width).unwrap()) }, &turns, false);
        assert_eq!(told.recv(), Ok(1));
    }
}
