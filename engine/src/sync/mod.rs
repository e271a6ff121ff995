//! Locks, atomics, threads and time for code with model-checked schedules (`scripts/model-check`).
//!
//! They are the standard library's. In unit tests that are compiled with `--cfg shuttle` they are Shuttle's, which runs
//! all threads of a test on one thread and chooses the next one at each lock, wait and atomic operation. The tests
//! themselves are left to the modules of the checked code. With the feature `lock-statistics` the locks count how often
//! they are waited for and how long they are held.

#[cfg(all(test, shuttle))]
pub(crate) mod model;
#[cfg(feature = "lock-statistics")]
pub mod statistics;

/// The locks of code without model-checked schedules: never Shuttle's.
pub(crate) mod unmodelled {
    #[cfg(feature = "lock-statistics")]
    pub(crate) use super::statistics::{CountedCondvar as Condvar, CountedGuard as MutexGuard, CountedMutex as Mutex};
    #[cfg(not(feature = "lock-statistics"))]
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
}

#[cfg(not(all(test, shuttle)))]
mod real {
    pub(crate) use std::sync::atomic;
    pub(crate) use std::thread;
    pub(crate) use std::thread_local;
    pub(crate) use std::time::Instant;

    pub(crate) use ffi::thread_time;

    pub(crate) use super::unmodelled::{Condvar, Mutex, MutexGuard};
}

#[cfg(all(test, shuttle))]
pub(crate) use self::model::{Condvar, Instant, Mutex, MutexGuard, atomic, thread, thread_local, thread_time};
#[cfg(not(all(test, shuttle)))]
pub(crate) use self::real::{Condvar, Instant, Mutex, MutexGuard, atomic, thread, thread_local, thread_time};
