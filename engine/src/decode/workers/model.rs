//! Model check of the pool. Under every schedule that is tried each task is run or dropped exactly once, no worker
//! sleeps while a task waits for it, and all threads end once the pool is dropped.

use std::sync::Arc;

use super::{Account, Task, WorkerPool};
use crate::sync::model::{TimedWaits, check};
use crate::sync::{Condvar, Mutex, thread};

/// The outcome of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Run,
    Dropped,
}

/// The outcomes of a test's tasks, in order.
#[derive(Debug, Default)]
struct Outcomes {
    list: Mutex<Vec<(usize, Outcome)>>,
    change: Condvar,
}

impl Outcomes {
    fn lock(&self) -> crate::sync::MutexGuard<'_, Vec<(usize, Outcome)>> {
        self.list.lock().unwrap()
    }

    /// Waits until this many tasks have an outcome. If one never has, all threads are blocked, and the check fails.
    fn wait_for(&self, count: usize) -> Vec<(usize, Outcome)> {
        let mut list = self.lock();
        while list.len() < count {
            list = self.change.wait(list).unwrap();
        }
        list.clone()
    }
}

/// Part of a task: records its outcome.
struct Token {
    number: usize,
    has_run: bool,
    outcomes: Arc<Outcomes>,
}

impl Drop for Token {
    fn drop(&mut self) {
        let outcome = if self.has_run { Outcome::Run } else { Outcome::Dropped };
        self.outcomes.lock().push((self.number, outcome));
        self.outcomes.change.notify_all();
    }
}

/// A task of this many pictures that does `work`.
fn task(number: usize, pictures: u64, outcomes: &Arc<Outcomes>, work: impl FnOnce() + Send + 'static) -> Task {
    let mut token = Token { number, has_run: false, outcomes: Arc::clone(outcomes) };
    let run = move |_width| {
        // Captures the whole token, not only the field.
        let token = &mut token;
        token.has_run = true;
        work();
    };
    Task { pictures, cost_ns: 1, resume_ns: None, run: Box::new(run) }
}

/// Each task has one outcome.
fn assert_once(outcomes: &[(usize, Outcome)], count: usize) {
    let mut numbers: Vec<usize> = outcomes.iter().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "{outcomes:?}");
}

/// Submits tasks from two threads, of an account each: narrow ones and wide ones.
fn submit_from_two_threads(pool: &Arc<WorkerPool>, outcomes: &Arc<Outcomes>) -> [thread::JoinHandle<()>; 2] {
    [(0, Account::default()), (3, Account::of_client())].map(|(first, account)| {
        let (pool, outcomes) = (Arc::clone(pool), Arc::clone(outcomes));
        thread::spawn(move || {
            for (number, pictures) in (first..first + 3).zip([1, 100, 1]) {
                pool.submit(task(number, pictures, &outcomes, || ()), &account);
            }
        })
    })
}

#[test]
fn all_tasks_run_while_the_pool_is_there() {
    check(TimedWaits::MayTimeOut, || {
        let (pool, outcomes) = (Arc::new(WorkerPool::new(2, false)), Arc::default());
        let submitters = submit_from_two_threads(&pool, &outcomes);
        let list = outcomes.wait_for(6);
        assert!(list.iter().all(|(_, outcome)| *outcome == Outcome::Run), "{list:?}");
        submitters.into_iter().for_each(|thread| thread.join().unwrap());
        drop(pool);
        assert_once(&outcomes.lock(), 6);
    });
}

/// Two tasks wait for each other, queued after one that occupies both workers: when it ends, both workers have to
/// continue.
#[test]
fn no_worker_sleeps_while_a_task_waits_for_it() {
    check(TimedWaits::MayTimeOut, || {
        let (pool, outcomes, account) = (WorkerPool::new(2, false), Arc::<Outcomes>::default(), Account::default());
        let met = Arc::new((Mutex::new(0), Condvar::new()));
        let meet = || {
            let met = Arc::clone(&met);
            move || {
                let mut count = met.0.lock().unwrap();
                *count += 1;
                met.1.notify_all();
                while *count < 2 {
                    count = met.1.wait(count).unwrap();
                }
            }
        };
        pool.submit(task(0, 100, &outcomes, || ()), &account);
        (1..3).for_each(|number| pool.submit(task(number, 1, &outcomes, meet()), &account));
        assert_once(&outcomes.wait_for(3), 3);
    });
}

#[test]
fn each_task_is_run_or_dropped_when_the_pool_is_dropped() {
    check(TimedWaits::MayTimeOut, || {
        let (pool, outcomes) = (Arc::new(WorkerPool::new(2, false)), Arc::default());
        let submitters = submit_from_two_threads(&pool, &outcomes);
        // The last submitter drops it, at any time.
        drop(pool);
        submitters.into_iter().for_each(|thread| thread.join().unwrap());
        assert_once(&outcomes.wait_for(6), 6);
    });
}

#[test]
fn the_pool_may_be_dropped_by_its_own_task() {
    check(TimedWaits::MayTimeOut, || {
        let (pool, outcomes) = (Arc::new(WorkerPool::new(2, false)), Arc::<Outcomes>::default());
        let (own, own_outcomes) = (Arc::clone(&pool), Arc::clone(&outcomes));
        let again = move || {
            own.submit(task(1, 1, &own_outcomes, || ()), &Account::default());
            drop(own);
        };
        pool.submit(task(0, 1, &outcomes, again), &Account::default());
        pool.submit(task(2, 1, &outcomes, || ()), &Account::default());
        drop(pool);
        assert_once(&outcomes.wait_for(3), 3);
    });
}

#[test]
fn tasks_of_an_account_begin_in_their_order() {
    check(TimedWaits::MayTimeOut, || {
        let (pool, outcomes) = (Arc::new(WorkerPool::new(1, false)), Arc::default());
        let submitters = [0, 3].map(|first| {
            let (pool, outcomes) = (Arc::clone(&pool), Arc::clone(&outcomes));
            thread::spawn(move || {
                let account = Account::default();
                (first..first + 3).for_each(|number| pool.submit(task(number, 1, &outcomes, || ()), &account));
            })
        });
        let numbers: Vec<usize> = outcomes.wait_for(6).into_iter().map(|(number, _)| number).collect();
        for account in [0..3, 3..6] {
            assert!(numbers.iter().filter(|&&number| account.contains(&number)).is_sorted(), "{numbers:?}");
        }
        submitters.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Two clients occupy both workers until a third one's task has run: only the spare thread can run it.
#[test]
fn the_spare_thread_runs_what_workers_never_would() {
    check(TimedWaits::TimeOut, || {
        let (pool, outcomes) = (WorkerPool::new(2, false), Arc::<Outcomes>::default());
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let clients: [Account; 3] = std::array::from_fn(|_| Account::of_client());
        for (number, client) in clients[..2].iter().enumerate() {
            let gate = Arc::clone(&gate);
            let wait = move || {
                let mut is_open = gate.0.lock().unwrap();
                while !*is_open {
                    is_open = gate.1.wait(is_open).unwrap();
                }
            };
            pool.submit(task(number, 1, &outcomes, wait), client);
        }
        let open = move || {
            *gate.0.lock().unwrap() = true;
            gate.1.notify_all();
        };
        pool.submit(task(2, 1, &outcomes, open), &clients[2]);
        assert_once(&outcomes.wait_for(3), 3);
    });
}
