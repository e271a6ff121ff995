//! The threads that decode, and how many cores a task gets.
//!
//! There are as many workers as the engine may use threads, each on a core of its own; a task takes one, and more when it
//! is so long that the others would only wait for it: its decoder then uses as many threads. Tasks never wait for whoever
//! asked: one that cannot get rid of its results ends, and is submitted again later. What a task does is others'.
//!
//! Tasks are scheduled by start-time fair queueing: each belongs to an [`Account`], that of its request or of a client with
//! all of its requests, and virtual time is the time that workers spend. A task starts, in virtual time, where its account's
//! last one ends, and not before the task that was begun last; the one that would end first is next. So an account that has
//! asked for much waits for those that have not, and what is short overtakes what is long. Short tasks of clients that have
//! used little of late come before all others, however many accounts there are, but for every fifth. A task that goes on for longer
//! than another one would have to wait is [overtaken](Crew::is_overtaken): it may end early, and be submitted again. Not all
//! can: where tasks of other clients keep all workers for long, a spare thread begins the next one.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ffi::Affinity;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::machine::Pins;

/// A piece of work. It is told how many threads it may use.
pub struct Task {
    /// About how long it takes, in pictures.
    pub pictures: u64,
    /// The same in nanoseconds of one worker.
    pub cost_ns: u64,
    /// Where in virtual time it was broken off, if it was.
    pub goes_on: Option<u64>,
    /// Does it.
    pub run: Box<dyn FnOnce(usize) + Send>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Task").field("pictures", &self.pictures).finish_non_exhaustive()
    }
}

/// What a short task costs at most.
const SHORT_NS: u64 = 100_000_000;
/// The share of all workers that a client may use on and on and is light.
const LIGHT: f64 = 0.25;
/// In so long half of what a client has used is forgotten, in seconds.
const HALF_LIFE_S: f64 = 4.0;
/// So many short tasks of light clients in a row are followed by another one.
const ROW: usize = 4;

/// What tasks are charged to: a request, or a client with all of its requests.
#[derive(Debug, Default)]
pub struct Account {
    /// Where in virtual time its last task ends, in nanoseconds.
    end_ns: AtomicU64,
    /// Time that workers have spent on its tasks.
    worked_ns: AtomicU64,
    is_client: bool,
    used: Mutex<Used>,
}

/// What a client has used of late.
#[derive(Debug, Default)]
struct Used {
    used_s: f64,
    /// What of its work is in that.
    seen_ns: u64,
    at: Option<Instant>,
}

impl Account {
    /// That of a client, whose requests share it.
    pub fn of_client() -> Account {
        Account { is_client: true, ..Account::default() }
    }

    /// Time that workers have spent on its tasks so far, in seconds.
    pub fn worked_s(&self) -> f64 {
        self.worked_ns.load(Relaxed) as f64 / 1e9
    }

    /// Time that was spent for it.
    pub fn worked(&self, time: Duration) {
        self.worked_ns.fetch_add(nanos(time), Relaxed);
    }

    /// A task has ended: what it was expected to cost is replaced by what it took.
    pub fn settle(&self, expected_ns: u64, took: Duration) {
        self.worked(took);
        let settle = |end_ns: u64| Some(end_ns.saturating_add(nanos(took)).saturating_sub(expected_ns));
        let _ = self.end_ns.fetch_update(Relaxed, Relaxed, settle);
    }

    /// Has a client used little of `threads` workers of late?
    fn is_light(&self, threads: usize) -> bool {
        if !self.is_client {
            return false;
        }
        let mut used = self.used.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (now, worked_ns) = (Instant::now(), self.worked_ns.load(Relaxed));
        let passed_s = used.at.map_or(0.0, |at| now.duration_since(at).as_secs_f64());
        used.used_s *= 0.5_f64.powf(passed_s / HALF_LIFE_S);
        used.used_s += worked_ns.saturating_sub(used.seen_ns) as f64 / 1e9;
        (used.seen_ns, used.at) = (worked_ns, Some(now));
        used.used_s <= LIGHT * threads as f64 * HALF_LIFE_S / std::f64::consts::LN_2
    }

    fn owner(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Where all tasks have been at work for so long, a spare thread begins one of another client.
const STUCK: Duration = Duration::from_millis(250);
/// How often that thread looks.
const LOOK: Duration = Duration::from_millis(50);

/// The task that is at work on this thread.
#[derive(Debug, Clone, Copy)]
struct Running {
    start_ns: u64,
    since: Instant,
    /// The processor time of this thread then.
    time: Duration,
    width: u32,
    owner: usize,
    is_light: bool,
}

impl Running {
    /// What it has cost so far: processor time, or where others share the work, theirs too, about.
    fn took(&self) -> Duration {
        match self.width {
            1 => ffi::thread_time().saturating_sub(self.time),
            width => self.since.elapsed() * width,
        }
    }

    fn now_ns(&self) -> u64 {
        self.start_ns.saturating_add(nanos(self.took()))
    }
}

thread_local! {
    static RUNNING: Cell<Option<Running>> = const { Cell::new(None) };
}

/// What the task that is at work on this thread has cost so far: time, by the threads that it has.
pub fn took() -> Duration {
    RUNNING.get().map_or(Duration::ZERO, |running| running.took())
}

/// Where in virtual time the task is that is at work on this thread.
pub fn position() -> u64 {
    RUNNING.get().map_or(0, |running| running.now_ns())
}

/// When it is a task's turn: where it would end in virtual time; among equals, what goes on comes first, then what was there
/// first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    end_ns: u64,
    is_new: bool,
    number: u64,
    start_ns: u64,
    owner: usize,
    is_client: bool,
    /// A short task of a light client.
    is_light: bool,
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

/// Tasks that wait.
#[derive(Debug, Default)]
struct Queue {
    light: BinaryHeap<Waiting>,
    others: BinaryHeap<Waiting>,
    /// Light tasks that came in a row while others waited.
    row: usize,
}

impl Queue {
    fn push(&mut self, waiting: Waiting) {
        if waiting.place.0.is_light { self.light.push(waiting) } else { self.others.push(waiting) }
    }

    fn is_lights_turn(&self) -> bool {
        !self.light.is_empty() && (self.row < ROW || self.others.is_empty())
    }

    fn peek(&self) -> Option<&Waiting> {
        if self.is_lights_turn() { self.light.peek() } else { self.others.peek() }
    }

    fn pop(&mut self) -> Option<Waiting> {
        let is_light = self.is_lights_turn();
        self.row = if is_light && !self.others.is_empty() { self.row + 1 } else { 0 };
        if is_light { self.light.pop() } else { self.others.pop() }
    }

    fn len(&self) -> usize {
        self.light.len() + self.others.len()
    }

    fn is_empty(&self) -> bool {
        self.light.is_empty() && self.others.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.light.iter().chain(&self.others)
    }
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    /// Virtual time: where the task starts that was begun last.
    now_ns: u64,
    /// Tasks so far.
    number: u64,
    /// Threads that may be started and are not in use.
    free: usize,
    /// Tasks at work: whose they are, and since when.
    at_work: Vec<(usize, Instant)>,
    has_spare: bool,
    started: bool,
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    /// For the spare thread.
    spare: Condvar,
    threads: usize,
    pin: bool,
    /// The cores that workers are bound to. They are free again when the last worker has ended.
    pins: Mutex<Option<Pins>>,
    /// Every task gets one thread.
    is_narrow: bool,
    /// Where in virtual time the task would end that is next, and whose it is: for those at work to see.
    next_end_ns: AtomicU64,
    next_owner: AtomicUsize,
    next_is_light: AtomicBool,
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
        self.shared.pins().is_some() || (!is_started && self.shared.pin && Pins::take(own_cores()).is_some())
    }

    /// Takes the cores to bind workers to; none where that is not wanted, or where another crew has them.
    fn cores(&self) -> Vec<usize> {
        if !self.shared.pin {
            return Vec::new();
        }
        let cores = own_cores();
        let mut pins = self.shared.pins();
        *pins = Pins::take(cores.clone());
        if pins.is_some() { cores } else { Vec::new() }
    }

    /// A crew whose tasks wait for something else to be done, one thread each.
    pub fn of_waiters(threads: usize) -> Crew {
        Crew::with(State { free: threads, ..State::default() }, threads, false, true)
    }

    fn with(state: State, threads: usize, pin: bool, is_narrow: bool) -> Crew {
        let (state, work, spare) = (Mutex::new(state), Condvar::new(), Condvar::new());
        let (next_end_ns, next_owner) = (AtomicU64::new(u64::MAX), AtomicUsize::new(0));
        let (pins, next_is_light) = (Mutex::default(), AtomicBool::new(false));
        let shared =
            Shared { state, work, spare, threads, pin, pins, is_narrow, next_end_ns, next_owner, next_is_light };
        Crew { shared: Arc::new(shared) }
    }

    /// Puts a task into the queue: behind others of the same account, or where it was broken off.
    pub fn submit(&self, task: Task, account: &Account) {
        let mut state = self.shared.lock();
        if !std::mem::replace(&mut state.started, true) {
            self.start();
        }
        if account.is_client && !self.shared.is_narrow && !std::mem::replace(&mut state.has_spare, true) {
            let shared = Arc::clone(&self.shared);
            // Without it tasks only wait longer.
            let _ = std::thread::Builder::new().name("decode-spare".to_owned()).spawn(move || shared.help_out());
        }
        state.number += 1;
        let last_ns = account.end_ns.load(Relaxed);
        let is_light = task.cost_ns <= SHORT_NS && account.is_light(self.shared.threads);
        // What is light has no share to keep within.
        let own_ns = if is_light { 0 } else { task.goes_on.unwrap_or(last_ns) };
        let start_ns = state.now_ns.max(own_ns);
        // A task of the account may end meanwhile.
        let extend = |end_ns: u64| Some(end_ns.max(start_ns).saturating_add(task.cost_ns));
        let _ = account.end_ns.fetch_update(Relaxed, Relaxed, extend);
        let (is_new, number) = (task.goes_on.is_none(), state.number);
        // What goes on is mostly nearly done.
        let end_ns = if is_new { start_ns.saturating_add(task.cost_ns) } else { start_ns };
        let (owner, is_client) = (account.owner(), account.is_client);
        let place = Place { end_ns, is_new, number, start_ns, owner, is_client, is_light };
        state.queue.push(Waiting { place: Reverse(place), task });
        self.shared.show_next(&state);
        drop(state);
        self.shared.work.notify_one();
        self.shared.spare.notify_one();
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

    /// Has the task on this thread gone on for `slice` at least, and for longer than a task of another account would have
    /// to wait?
    pub fn is_overtaken(&self, slice: Duration) -> bool {
        let next_ns = self.shared.next_end_ns.load(Relaxed);
        let Some(running) = RUNNING.get().filter(|_| next_ns < u64::MAX) else { return false };
        let is_before = || self.shared.next_is_light.load(Relaxed) && !running.is_light;
        self.shared.next_owner.load(Relaxed) != running.owner
            && running.since.elapsed() >= slice
            && (is_before() || next_ns < running.now_ns())
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
                    bind_to(core);
                }
                everywhere.is_for_decoders();
                shared.work();
            };
            // Without a thread there is nobody to do the work; the system's refusal is as good as no memory.
            std::thread::Builder::new().name(format!("decode-{worker}")).spawn(work).expect("a thread");
        }
    }
}

/// The cores that this thread may run on, by their numbers; none where the system does not tell.
fn own_cores() -> Vec<usize> {
    let Ok(cores) = sched_getaffinity(Pid::from_raw(0)) else { return Vec::new() };
    (0..CpuSet::count()).filter(|&core| cores.is_set(core).unwrap_or(false)).collect()
}

/// From now on this thread runs on one core only, if the system allows it.
fn bind_to(core: usize) {
    let mut cores = CpuSet::new();
    if cores.set(core).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(0), &cores);
    }
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
        self.shared.spare.notify_all();
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

    /// Runs a task, without the lock.
    fn run<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        task: Task,
        (place, width): (Place, usize),
    ) -> MutexGuard<'a, State> {
        let Place { start_ns, owner, is_light, .. } = place;
        let (since, time) = (Instant::now(), ffi::thread_time());
        state.at_work.push((owner, since));
        drop(state);
        RUNNING.set(Some(Running { start_ns, since, time, width: width as u32, owner, is_light }));
        // A panic is a bug of ours; it must not take the other requests' worker with it.
        let run =
            AssertUnwindSafe(|| if width > 1 { ffi::while_unbound(|| (task.run)(width)) } else { (task.run)(width) });
        let _ = catch_unwind(run);
        RUNNING.set(None);
        let mut state = self.lock();
        if let Some(place) = state.at_work.iter().position(|at_work| *at_work == (owner, since)) {
            state.at_work.swap_remove(place);
        }
        state
    }

    /// Begins what waits where tasks of others have all workers for long.
    fn help_out(&self) {
        let mut state = self.lock();
        while !state.closed {
            let is_stuck = state.free == 0 && state.at_work.iter().all(|(_, since)| since.elapsed() >= STUCK);
            let next = state.queue.peek().map(|waiting| waiting.place.0).filter(|_| is_stuck);
            let is_due =
                next.is_some_and(|next| next.is_client && state.at_work.iter().all(|(owner, _)| *owner != next.owner));
            if let Some(Waiting { place, task }) = if is_due { state.queue.pop() } else { None } {
                self.show_next(&state);
                state = self.run(state, task, (place.0, 1));
                continue;
            }
            let poisoned = std::sync::PoisonError::into_inner;
            state = if state.queue.is_empty() {
                self.spare.wait(state).unwrap_or_else(poisoned)
            } else {
                self.spare.wait_timeout(state, LOOK).map_or_else(|error| error.into_inner().0, |(state, _)| state)
            };
        }
    }

    fn show_next(&self, state: &State) {
        let next = state.queue.peek().map(|waiting| waiting.place.0);
        self.next_end_ns.store(next.map_or(u64::MAX, |place| place.end_ns), Relaxed);
        self.next_owner.store(next.map_or(0, |place| place.owner), Relaxed);
        self.next_is_light.store(next.is_some_and(|place| place.is_light), Relaxed);
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
            state.now_ns = state.now_ns.max(place.0.start_ns);
            self.show_next(&state);
            let width = self.width(&task, &state);
            state.free -= width;
            state = self.run(state, task, (place.0, width));
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
    use std::time::Duration;

    use super::{Account, Crew, Task, own_cores, position};

    #[test]
    fn a_lone_task_gets_all_threads_and_many_get_one_each() {
        let crew = Crew::new(2, false);
        let (tell, told) = mpsc::channel();
        let task = |pictures: u64| {
            let tell = tell.clone();
            Task { pictures, cost_ns: 1, goes_on: None, run: Box::new(move |width| tell.send(width).unwrap()) }
        };
        let account = Account::default();
        crew.submit(task(100), &account);
        assert_eq!(told.recv().unwrap(), 2);
        let (hold, held) = mpsc::channel::<()>();
        crew.submit(plain(1, move |_| _ = held.recv()), &account);
        (0..4).for_each(|_| crew.submit(task(10), &account));
        drop(hold);
        let widths: Vec<usize> = (0..4).map(|_| told.recv().unwrap()).collect();
        assert_eq!(widths[..2], [1, 1], "{widths:?}");
    }

    /// A task of so many nanoseconds.
    fn plain(cost_ns: u64, run: impl FnOnce(usize) + Send + 'static) -> Task {
        Task { pictures: 1, cost_ns, goes_on: None, run: Box::new(run) }
    }

    /// A crew of one worker, which is busy with a task of the first account until that is let go.
    fn busy(account: &Account) -> (Crew, mpsc::Sender<()>) {
        let crew = Crew::new(1, false);
        // None that helps out where that takes long.
        crew.shared.lock().has_spare = true;
        let (hold, held) = mpsc::channel::<()>();
        let (begun, is_begun) = mpsc::channel();
        let wait = move |_| {
            begun.send(()).unwrap();
            let _ = held.recv();
        };
        crew.submit(plain(1, wait), account);
        is_begun.recv().unwrap();
        (crew, hold)
    }

    #[test]
    fn accounts_take_turns() {
        let all: [Account; 4] = Default::default();
        let (crew, hold) = busy(&all[0]);
        let (tell, told) = mpsc::channel();
        let task = |name: &'static str| {
            let tell = tell.clone();
            plain(1, move |_| tell.send(name).unwrap())
        };
        ["a1", "a2", "a3", "a4"].into_iter().for_each(|name| crew.submit(task(name), &all[1]));
        crew.submit(task("b"), &all[2]);
        ["c1", "c2"].into_iter().for_each(|name| crew.submit(task(name), &all[3]));
        crew.submit(Task { goes_on: Some(0), ..task("a0") }, &all[1]);
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
            let run = move |_| tell.send(own_cores().len()).unwrap();
            crew.submit(plain(1, run), &Account::default());
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
    fn short_tasks_overtake_long_ones_and_what_was_spent_counts() {
        let all: [Account; 5] = Default::default();
        let (crew, hold) = busy(&all[0]);
        let (tell, told) = mpsc::channel();
        let task = |name: &'static str, cost_ns: u64| {
            let tell = tell.clone();
            plain(cost_ns, move |_| tell.send(name).unwrap())
        };
        // Its tasks took far longer than they were expected to.
        crew.submit(task("expected to be short", 10), &all[1]);
        all[1].settle(10, Duration::from_secs(1));
        crew.submit(task("of the same account", 10), &all[1]);
        crew.submit(task("long", 1_000_000), &all[2]);
        crew.submit(task("short", 1000), &all[3]);
        drop(hold);
        let names: Vec<&str> = (0..4).map(|_| told.recv().unwrap()).collect();
        assert_eq!(names, ["expected to be short", "short", "long", "of the same account"]);
    }

    #[test]
    fn a_task_is_overtaken_by_another_account_and_not_by_its_own() {
        let crew = std::sync::Arc::new(Crew::new(1, false));
        let all: std::sync::Arc<[Account; 2]> = std::sync::Arc::default();
        let (tell, told) = mpsc::channel();
        let (own, accounts) = (std::sync::Arc::clone(&crew), std::sync::Arc::clone(&all));
        let long = move |_| {
            while position() < 1_000_000 {
                std::hint::spin_loop();
            }
            let is_overtaken = || own.is_overtaken(Duration::ZERO);
            let alone = is_overtaken();
            own.submit(plain(1, |_| ()), &accounts[0]);
            let by_itself = is_overtaken();
            own.submit(plain(1, |_| ()), &accounts[1]);
            tell.send((alone, by_itself, is_overtaken(), own.is_overtaken(Duration::from_secs(3600)))).unwrap();
        };
        crew.submit(plain(1, long), &all[0]);
        assert_eq!(told.recv(), Ok((false, false, true, false)));
    }

    #[test]
    fn short_tasks_of_light_clients_come_before_those_of_ever_new_ones() {
        let (modest, greedy) = (Account::of_client(), Account::of_client());
        let newcomers: [Account; 3] = std::array::from_fn(|_| Account::of_client());
        let (crew, hold) = busy(&greedy);
        let (tell, told) = mpsc::channel();
        let task = |name: &'static str, cost_ns: u64| {
            let tell = tell.clone();
            plain(cost_ns, move |_| tell.send(name).unwrap())
        };
        // It has used more than its share by now, though little.
        modest.settle(0, Duration::from_millis(900));
        greedy.settle(0, Duration::from_secs(60));
        for newcomer in &newcomers {
            crew.submit(task("long", 300_000_000), newcomer);
        }
        crew.submit(task("greedy", 1000), &greedy);
        for _ in 0..6 {
            crew.submit(task("modest", 1_000_000), &modest);
        }
        drop(hold);
        let names: Vec<&str> = (0..10).map(|_| told.recv().unwrap()).collect();
        assert_eq!(names[..5], ["modest", "modest", "modest", "modest", "long"]);
        assert_eq!(names[5..], ["modest", "modest", "long", "long", "greedy"]);
    }

    #[test]
    fn clients_that_keep_all_workers_do_not_keep_out_another_one() {
        let clients: [Account; 3] = std::array::from_fn(|_| Account::of_client());
        let crew = Crew::new(2, false);
        let (hold, held) = mpsc::channel::<()>();
        let held = std::sync::Arc::new(std::sync::Mutex::new(held));
        let (begun, is_begun) = mpsc::channel();
        for client in [&clients[0], &clients[1]] {
            let (begun, held) = (begun.clone(), std::sync::Arc::clone(&held));
            crew.submit(
                plain(1, move |_| {
                    begun.send("busy").unwrap();
                    let _ = held.lock().unwrap().recv();
                }),
                client,
            );
            is_begun.recv().unwrap();
        }
        let task = |name: &'static str| {
            let begun = begun.clone();
            plain(1_000_000_000, move |_| begun.send(name).unwrap())
        };
        crew.submit(task("newcomer"), &clients[2]);
        assert_eq!(is_begun.recv(), Ok("newcomer"), "though no worker is free");
        drop(hold);
    }

    #[test]
    fn a_panic_takes_nobody_with_it() {
        let crew = Crew::new(1, false);
        let account = Account::default();
        crew.submit(plain(1, |_| panic!("of a task")), &account);
        let (tell, told) = mpsc::channel();
        crew.submit(plain(1, move |width| tell.send(width).unwrap()), &account);
        assert_eq!(told.recv(), Ok(1));
    }
}
