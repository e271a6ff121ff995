//! Locks that count: how often each is taken and waited for, how long it is held, and how often threads sleep under it
//! until a notification (feature `lock-statistics`; `bench/src/bin/locks.rs` prints the numbers).
//!
//! The counters belong to the type of the protected data, which names the lock. Times of holding are the processor time
//! of the holder: they do not grow when the holder is preempted, so that a machine with few cores shows what a lock
//! costs on one with many. Each lock reads clocks, which adds about half a microsecond; [`overhead`] measures the part
//! of it that counts as holding.

use std::any::type_name;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, LockResult, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, TryLockResult};
use std::time::{Duration, Instant};

use ffi::thread_time;

/// The counts of all locks for data of one type.
#[derive(Debug, Clone)]
pub struct LockCounts {
    /// The type of the protected data, without paths.
    pub name: String,
    /// Times that a lock was taken.
    pub taken: u64,
    /// Times that it was held by another thread.
    pub waited: u64,
    /// The sum of these waits.
    pub wait: Duration,
    /// The longest of these waits.
    pub longest_wait: Duration,
    /// Processor time of the holders.
    pub hold: Duration,
    /// The longest of these times.
    pub longest_hold: Duration,
    /// Times that a thread has released the lock to wait for a notification, and was woken.
    pub wakeups: u64,
}

/// Counters of all locks for data of one type.
#[derive(Debug, Default)]
struct LockCounters {
    taken: AtomicU64,
    waited: AtomicU64,
    wait_ns: AtomicU64,
    longest_wait_ns: AtomicU64,
    hold_ns: AtomicU64,
    longest_hold_ns: AtomicU64,
    wakeups: AtomicU64,
}

impl LockCounters {
    fn record_hold(&self, hold: Duration) {
        self.taken.fetch_add(1, Relaxed);
        self.hold_ns.fetch_add(nanos(hold), Relaxed);
        self.longest_hold_ns.fetch_max(nanos(hold), Relaxed);
    }

    fn record_wait(&self, wait: Duration) {
        self.wait_ns.fetch_add(nanos(wait), Relaxed);
        self.longest_wait_ns.fetch_max(nanos(wait), Relaxed);
    }

    fn all(&self) -> [&AtomicU64; 7] {
        let waits = [&self.waited, &self.wait_ns, &self.longest_wait_ns];
        let [waited, wait_ns, longest_wait_ns] = waits;
        [&self.taken, waited, wait_ns, longest_wait_ns, &self.hold_ns, &self.longest_hold_ns, &self.wakeups]
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// All counters, by the type of the data. They live as long as the process.
static COUNTERS: Mutex<Vec<(&'static str, &'static LockCounters)>> = Mutex::new(Vec::new());

/// The counters of a type. A thread finds those that it has used before without a lock.
fn counters_of(name: &'static str) -> &'static LockCounters {
    thread_local! {
        static KNOWN: RefCell<HashMap<&'static str, &'static LockCounters>> = RefCell::default();
    }
    let find = || {
        let mut all = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counters)) = all.iter().find(|(other, _)| *other == name) {
            return *counters;
        }
        let counters: &'static LockCounters = Box::leak(Box::default());
        all.push((name, counters));
        counters
    };
    // While a thread ends, its map may be gone.
    KNOWN.try_with(|known| *known.borrow_mut().entry(name).or_insert_with(find)).unwrap_or_else(|_| find())
}

/// The counts since the start of the process or the last [`reset`], the lock with the greatest time of holding first.
pub fn lock_counts() -> Vec<LockCounts> {
    let all = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
    let time = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Relaxed));
    let counts = all.iter().map(|(name, counters)| LockCounts {
        name: without_paths(name),
        taken: counters.taken.load(Relaxed),
        waited: counters.waited.load(Relaxed),
        wait: time(&counters.wait_ns),
        longest_wait: time(&counters.longest_wait_ns),
        hold: time(&counters.hold_ns),
        longest_hold: time(&counters.longest_hold_ns),
        wakeups: counters.wakeups.load(Relaxed),
    });
    let mut counts: Vec<LockCounts> = counts.filter(|counts| counts.taken + counts.waited > 0).collect();
    counts.sort_by_key(|counts| std::cmp::Reverse(counts.hold));
    counts
}

/// Sets all counts to zero.
pub fn reset() {
    let all = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
    all.iter().flat_map(|(_, counters)| counters.all()).for_each(|counter| counter.store(0, Relaxed));
}

/// The time of holding that the counting itself adds to each lock, in the median of many.
pub fn overhead() -> Duration {
    let mut holds: Vec<Duration> = Vec::with_capacity(1001);
    for _ in 0..holds.capacity() {
        let since = thread_time();
        holds.push(thread_time().saturating_sub(since));
    }
    holds.sort_unstable();
    holds[holds.len() / 2]
}

/// A table of the counts. The share is that of the time of holding, less the [`overhead`], in `work`, the processor
/// time of all threads: its inverse is the number of cores at which all of them wait for the lock.
pub fn table(work: Duration) -> String {
    let overhead_ns = overhead().as_nanos() as f64;
    let mut lines = format!(
        "{:44} {:>9} {:>8} {:>10} {:>10} {:>10} {:>10} {:>9} {:>9} {:>7}\n",
        "lock", "taken", "waited", "wait ms", "longest ms", "hold ns", "longest us", "wakeups", "share %", "cores"
    );
    for counts in lock_counts() {
        let hold_ns = (counts.hold.as_nanos() as f64 / counts.taken.max(1) as f64 - overhead_ns).max(0.0);
        let share = hold_ns * counts.taken as f64 / work.as_nanos().max(1) as f64;
        let name: String = counts.name.chars().take(44).collect();
        lines += &format!(
            "{name:44} {:>9} {:>8} {:>10.2} {:>10.3} {:>10.0} {:>10.1} {:>9} {:>9.4} {:>7.0}\n",
            counts.taken,
            counts.waited,
            counts.wait.as_secs_f64() * 1e3,
            counts.longest_wait.as_secs_f64() * 1e3,
            hold_ns,
            counts.longest_hold.as_secs_f64() * 1e6,
            counts.wakeups,
            share * 100.0,
            (1.0 / share).min(9_999_999.0),
        );
    }
    lines
}

/// A type's name without the paths of its parts.
fn without_paths(name: &str) -> String {
    let parts = name.split_inclusive(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != ':');
    parts.map(|part| part.rsplit("::").next().unwrap_or(part)).collect()
}

/// A mutex that counts.
#[derive(Debug)]
pub struct CountedMutex<T> {
    counters: OnceLock<&'static LockCounters>,
    mutex: Mutex<T>,
}

impl<T: Default> Default for CountedMutex<T> {
    fn default() -> CountedMutex<T> {
        CountedMutex::new(T::default())
    }
}

impl<T> CountedMutex<T> {
    /// As [`Mutex::new`].
    pub const fn new(value: T) -> CountedMutex<T> {
        CountedMutex { counters: OnceLock::new(), mutex: Mutex::new(value) }
    }

    fn counters(&self) -> &'static LockCounters {
        self.counters.get_or_init(|| counters_of(type_name::<T>()))
    }

    /// As [`Mutex::lock`].
    ///
    /// # Errors
    /// Those of [`Mutex::lock`].
    pub fn lock(&self) -> LockResult<CountedGuard<'_, T>> {
        let counters = self.counters();
        match self.mutex.try_lock() {
            Ok(guard) => Ok(CountedGuard::of(guard, counters)),
            Err(TryLockError::Poisoned(poisoned)) => counted(Err(poisoned), counters),
            Err(TryLockError::WouldBlock) => {
                counters.waited.fetch_add(1, Relaxed);
                let since = Instant::now();
                let locked = self.mutex.lock();
                counters.record_wait(since.elapsed());
                counted(locked, counters)
            }
        }
    }

    /// As [`Mutex::try_lock`]. A refusal is no wait.
    ///
    /// # Errors
    /// Those of [`Mutex::try_lock`].
    pub fn try_lock(&self) -> TryLockResult<CountedGuard<'_, T>> {
        let counters = self.counters();
        match self.mutex.try_lock() {
            Ok(guard) => Ok(CountedGuard::of(guard, counters)),
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
            Err(TryLockError::Poisoned(poisoned)) => {
                let guard = CountedGuard::of(poisoned.into_inner(), counters);
                Err(TryLockError::Poisoned(PoisonError::new(guard)))
            }
        }
    }
}

/// The guard of a lock that was taken just now.
fn counted<'a, T>(
    locked: LockResult<MutexGuard<'a, T>>,
    counters: &'static LockCounters,
) -> LockResult<CountedGuard<'a, T>> {
    match locked {
        Ok(guard) => Ok(CountedGuard::of(guard, counters)),
        Err(poisoned) => Err(PoisonError::new(CountedGuard::of(poisoned.into_inner(), counters))),
    }
}

/// The guard of a [`CountedMutex`].
#[derive(Debug)]
pub struct CountedGuard<'a, T> {
    /// Present until the guard is dropped or waits.
    guard: Option<MutexGuard<'a, T>>,
    counters: &'static LockCounters,
    /// The processor time of the thread when it took the lock.
    since: Duration,
}

impl<'a, T> CountedGuard<'a, T> {
    fn of(guard: MutexGuard<'a, T>, counters: &'static LockCounters) -> CountedGuard<'a, T> {
        CountedGuard { guard: Some(guard), counters, since: thread_time() }
    }

    /// Ends the time of holding without a release, for a wait.
    fn suspended(mut self) -> (MutexGuard<'a, T>, &'static LockCounters) {
        self.counters.record_hold(thread_time().saturating_sub(self.since));
        (self.guard.take().expect("present until now"), self.counters)
    }
}

impl<T> Drop for CountedGuard<'_, T> {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            let hold = thread_time().saturating_sub(self.since);
            drop(guard);
            self.counters.record_hold(hold);
        }
    }
}

impl<T> Deref for CountedGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect("present until drop")
    }
}

impl<T> DerefMut for CountedGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("present until drop")
    }
}

/// A condition variable for [`CountedMutex`].
#[derive(Debug, Default)]
pub struct CountedCondvar(Condvar);

/// Whether a wait has ended at its limit.
#[derive(Debug, Clone, Copy)]
pub struct CountedTimeout(bool);

impl CountedTimeout {
    /// True if it has.
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

/// The result of a wait with a limit.
type TimedWait<'a, T> = LockResult<(CountedGuard<'a, T>, CountedTimeout)>;

impl CountedCondvar {
    /// As [`Condvar::new`].
    pub const fn new() -> CountedCondvar {
        CountedCondvar(Condvar::new())
    }

    /// As [`Condvar::notify_one`].
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// As [`Condvar::notify_all`].
    pub fn notify_all(&self) {
        self.0.notify_all();
    }

    /// As [`Condvar::wait`].
    ///
    /// # Errors
    /// Those of [`Condvar::wait`].
    pub fn wait<'a, T>(&self, guard: CountedGuard<'a, T>) -> LockResult<CountedGuard<'a, T>> {
        let (guard, counters) = guard.suspended();
        let locked = self.0.wait(guard);
        counters.wakeups.fetch_add(1, Relaxed);
        counted(locked, counters)
    }

    /// As [`Condvar::wait_timeout`].
    ///
    /// # Errors
    /// Those of [`Condvar::wait_timeout`].
    pub fn wait_timeout<'a, T>(&self, guard: CountedGuard<'a, T>, time: Duration) -> TimedWait<'a, T> {
        let (guard, counters) = guard.suspended();
        let locked = self.0.wait_timeout(guard, time);
        counters.wakeups.fetch_add(1, Relaxed);
        match locked {
            Ok((guard, result)) => Ok((CountedGuard::of(guard, counters), CountedTimeout(result.timed_out()))),
            Err(poisoned) => {
                let (guard, result) = poisoned.into_inner();
                Err(PoisonError::new((CountedGuard::of(guard, counters), CountedTimeout(result.timed_out()))))
            }
        }
    }

    /// As [`Condvar::wait_timeout_while`].
    ///
    /// # Errors
    /// Those of [`Condvar::wait_timeout_while`].
    pub fn wait_timeout_while<'a, T>(
        &self,
        mut guard: CountedGuard<'a, T>,
        time: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> TimedWait<'a, T> {
        let until = Instant::now() + time;
        while condition(&mut guard) {
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                return Ok((guard, CountedTimeout(true)));
            };
            guard = self.wait_timeout(guard, left)?.0;
        }
        Ok((guard, CountedTimeout(false)))
    }
}

#[cfg(test)]
mod tests {
    use super::{CountedCondvar, CountedMutex, Duration, LockCounts, lock_counts, without_paths};

    fn counts_of(name: &str) -> LockCounts {
        lock_counts().into_iter().find(|counts| counts.name == name).expect("it was taken")
    }

    #[test]
    fn names_have_no_paths() {
        assert_eq!(without_paths("a::b::C"), "C");
        assert_eq!(without_paths("std::collections::HashMap<a::Key, alloc::vec::Vec<&b::D>>"), "HashMap<Key, Vec<&D>>");
    }

    #[test]
    fn a_wait_is_counted_for_the_lock_that_another_thread_holds() {
        struct Waited;
        let mutex = CountedMutex::new(Waited);
        drop(mutex.lock().unwrap());
        std::thread::scope(|scope| {
            let guard = mutex.lock().unwrap();
            scope.spawn(|| drop(mutex.lock().unwrap()));
            while counts_of("Waited").waited == 0 {
                std::thread::yield_now();
            }
            drop(guard);
        });
        let counts = counts_of("Waited");
        assert_eq!((counts.taken, counts.waited, counts.wakeups), (3, 1, 0));
        assert!(counts.wait > Duration::ZERO && counts.longest_wait <= counts.wait && counts.hold > Duration::ZERO);
    }

    #[test]
    fn a_wait_for_a_notification_is_no_wait_for_the_lock() {
        struct Notified(bool);
        let (mutex, change) = (CountedMutex::new(Notified(false)), CountedCondvar::new());
        let is_unset = |state: &mut Notified| !state.0;
        let (guard, result) = change.wait_timeout_while(mutex.lock().unwrap(), Duration::ZERO, is_unset).unwrap();
        assert!(result.timed_out());
        drop(guard);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                mutex.lock().unwrap().0 = true;
                change.notify_all();
            });
            let limit = Duration::from_secs(60);
            let (guard, result) = change.wait_timeout_while(mutex.lock().unwrap(), limit, is_unset).unwrap();
            assert!(guard.0 && !result.timed_out());
        });
        let counts = counts_of("Notified");
        assert!(counts.taken >= 3 && counts.wakeups >= 1, "{counts:?}");
    }
}
