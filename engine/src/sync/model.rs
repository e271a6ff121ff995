//! Shuttle's locks, with what it lacks: waits that time out, spurious wakeups, and a clock.
//!
//! Time stands still unless a timed wait times out, which moves the clock to the end of that wait. So a deadline can
//! pass, and every run of a schedule is the same.

use std::cell::Cell;
use std::ops::{Add, Deref, DerefMut};
use std::sync::LockResult;
use std::time::Duration;

use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

pub(crate) use shuttle::{sync::atomic, thread, thread_local};

/// The behaviour of timed waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimedWaits {
    /// Each either times out or waits as without a limit, so that a missing notification is a deadlock.
    MayTimeOut,
    /// All time out, for code that relies on checking again.
    TimeOut,
}

std::thread_local! {
    static TIMED_WAITS: Cell<TimedWaits> = const { Cell::new(TimedWaits::MayTimeOut) };
    static CLOCK: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// The number of schedules of each kind that a test tries, unless the environment sets it.
const SCHEDULES: usize = 3000;
/// Preemptions at the places that matter, in the schedules that are not purely random.
const DEPTHS: [usize; 2] = [2, 3];

/// Runs `body` under many schedules: random ones, and those of probabilistic concurrency testing, which find bugs that
/// take few preemptions at the right places. Fails if an assertion fails, if all threads are blocked, or if a run does
/// not end.
pub(crate) fn check(timed_waits: TimedWaits, body: impl Fn() + Send + Sync + 'static) {
    let schedules = std::env::var("MODEL_SCHEDULES").ok().and_then(|count| count.parse().ok()).unwrap_or(SCHEDULES);
    let body = std::sync::Arc::new(move || {
        TIMED_WAITS.set(timed_waits);
        CLOCK.set(Duration::ZERO);
        body();
    });
    let mut config = Config::new();
    config.silence_warnings = true;
    let random = std::sync::Arc::clone(&body);
    Runner::new(RandomScheduler::new(schedules), config.clone()).run(move || random());
    for depth in DEPTHS {
        let body = std::sync::Arc::clone(&body);
        Runner::new(PctScheduler::new(depth, schedules), config.clone()).run(move || body());
    }
}

/// Processor time is the same model clock.
pub(crate) fn thread_time() -> Duration {
    CLOCK.get()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(Duration);

impl Instant {
    pub(crate) fn now() -> Instant {
        Instant(CLOCK.get())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        CLOCK.get().saturating_sub(self.0)
    }

    pub(crate) fn duration_since(&self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    pub(crate) fn checked_duration_since(&self, earlier: Instant) -> Option<Duration> {
        self.0.checked_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, time: Duration) -> Instant {
        Instant(self.0 + time)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

/// Has a reference to its mutex, so that a wait can release the lock and take it again.
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    guard: shuttle::sync::MutexGuard<'a, T>,
    mutex: &'a Mutex<T>,
}

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Mutex<T> {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    /// Ignores poison, as all callers of the standard mutex do.
    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        Ok(self.guarded(self.0.lock()))
    }

    fn guarded<'a>(&'a self, locked: LockResult<shuttle::sync::MutexGuard<'a, T>>) -> MutexGuard<'a, T> {
        MutexGuard { guard: locked.unwrap_or_else(|poisoned| poisoned.into_inner()), mutex: self }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

#[derive(Debug, Default)]
pub(crate) struct Condvar(shuttle::sync::Condvar);

#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) const fn new() -> Condvar {
        Condvar(shuttle::sync::Condvar::new())
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let mutex = guard.mutex;
        if thread_rng().gen_ratio(1, 8) {
            return Ok(let_others_run(guard));
        }
        Ok(mutex.guarded(self.0.wait(guard.guard)))
    }

    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        time: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        if TIMED_WAITS.get() == TimedWaits::TimeOut || thread_rng().gen_bool(0.5) {
            let end = CLOCK.get() + time;
            let guard = let_others_run(guard);
            CLOCK.set(CLOCK.get().max(end));
            return Ok((guard, WaitTimeoutResult(true)));
        }
        let guard = self.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner());
        Ok((guard, WaitTimeoutResult(false)))
    }

    pub(crate) fn wait_timeout_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        time: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let mut result = WaitTimeoutResult(false);
        while condition(&mut guard) {
            if result.timed_out() {
                return Ok((guard, result));
            }
            (guard, result) = self.wait_timeout(guard, time).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        Ok((guard, WaitTimeoutResult(false)))
    }
}

/// Releases the lock and takes it again.
fn let_others_run<T>(guard: MutexGuard<'_, T>) -> MutexGuard<'_, T> {
    let mutex = guard.mutex;
    drop(guard);
    thread::yield_now();
    mutex.guarded(mutex.0.lock())
}
