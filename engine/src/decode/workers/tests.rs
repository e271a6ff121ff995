//! Tests of the worker pool.

use std::sync::mpsc;
use std::time::Duration;

use super::{Account, Task, WorkerPool, current_position, own_cores};

#[test]
fn a_lone_task_gets_all_threads_and_many_get_one_each() {
    let pool = WorkerPool::new(2, false);
    let (send, results) = mpsc::channel();
    let task = |pictures: u64| {
        let send = send.clone();
        Task { pictures, cost_ns: 1, resume_ns: None, run: Box::new(move |width| send.send(width).unwrap()) }
    };
    let account = Account::default();
    pool.submit(task(100), &account);
    assert_eq!(results.recv().unwrap(), 2);
    let (hold, held) = mpsc::channel::<()>();
    pool.submit(plain(1, move |_| _ = held.recv()), &account);
    (0..4).for_each(|_| pool.submit(task(10), &account));
    drop(hold);
    let widths: Vec<usize> = (0..4).map(|_| results.recv().unwrap()).collect();
    assert_eq!(widths[..2], [1, 1], "{widths:?}");
}

/// A task of this many nanoseconds.
fn plain(cost_ns: u64, run: impl FnOnce(usize) + Send + 'static) -> Task {
    Task { pictures: 1, cost_ns, resume_ns: None, run: Box::new(run) }
}

/// A pool of one worker, which a task of the first account occupies until it is released.
fn busy(account: &Account) -> (WorkerPool, mpsc::Sender<()>) {
    let pool = WorkerPool::new(1, false);
    // Without a spare thread that helps out.
    pool.shared.lock().has_spare = true;
    let (hold, held) = mpsc::channel::<()>();
    let (begun, is_begun) = mpsc::channel();
    let wait = move |_| {
        begun.send(()).unwrap();
        let _ = held.recv();
    };
    pool.submit(plain(1, wait), account);
    is_begun.recv().unwrap();
    (pool, hold)
}

#[test]
fn accounts_take_turns() {
    let all: [Account; 4] = Default::default();
    let (pool, hold) = busy(&all[0]);
    let (send, results) = mpsc::channel();
    let task = |name: &'static str| {
        let send = send.clone();
        plain(1, move |_| send.send(name).unwrap())
    };
    ["a1", "a2", "a3", "a4"].into_iter().for_each(|name| pool.submit(task(name), &all[1]));
    pool.submit(task("b"), &all[2]);
    ["c1", "c2"].into_iter().for_each(|name| pool.submit(task(name), &all[3]));
    pool.submit(Task { resume_ns: Some(0), ..task("a0") }, &all[1]);
    drop(hold);
    let names: Vec<&str> = (0..8).map(|_| results.recv().unwrap()).collect();
    assert_eq!(names, ["a0", "a1", "b", "c1", "a2", "c2", "a3", "a4"]);
}

#[test]
fn two_pools_never_bind_workers_to_the_same_cores() {
    let both = [(); 2].map(|()| WorkerPool::new(ffi::cpu_count(), true));
    let (send, results) = mpsc::channel();
    for pool in &both {
        let send = send.clone();
        let run = move |_| send.send(own_cores().len()).unwrap();
        pool.submit(plain(1, run), &Account::default());
    }
    // A task of one picture has one thread, so a worker that is bound runs it on one core.
    let cores = [results.recv().unwrap(), results.recv().unwrap()];
    // If another process of the same machine has bound the cores, neither does.
    assert!(both.iter().filter(|pool| pool.is_pinned()).count() < 2);
    let bound = cores.iter().filter(|cores| **cores < ffi::cpu_count()).count();
    assert!(bound < 2, "{cores:?}");
    assert!(
        !WorkerPool::new(ffi::cpu_count() + 1, true).is_pinned()
            && !WorkerPool::new(ffi::cpu_count(), false).is_pinned()
    );
}

#[test]
fn short_tasks_overtake_long_ones_and_what_was_spent_counts() {
    let all: [Account; 5] = Default::default();
    let (pool, hold) = busy(&all[0]);
    let (send, results) = mpsc::channel();
    let task = |name: &'static str, cost_ns: u64| {
        let send = send.clone();
        plain(cost_ns, move |_| send.send(name).unwrap())
    };
    // Its tasks took far longer than expected.
    pool.submit(task("expected to be short", 10), &all[1]);
    all[1].settle(10, Duration::from_secs(1));
    pool.submit(task("of the same account", 10), &all[1]);
    pool.submit(task("long", 1_000_000), &all[2]);
    pool.submit(task("short", 1000), &all[3]);
    drop(hold);
    let names: Vec<&str> = (0..4).map(|_| results.recv().unwrap()).collect();
    assert_eq!(names, ["expected to be short", "short", "long", "of the same account"]);
}

#[test]
fn a_task_is_overtaken_by_another_account_and_not_by_its_own() {
    let pool = std::sync::Arc::new(WorkerPool::new(1, false));
    let all: std::sync::Arc<[Account; 2]> = std::sync::Arc::default();
    let (send, results) = mpsc::channel();
    let (own, accounts) = (std::sync::Arc::clone(&pool), std::sync::Arc::clone(&all));
    let long = move |_| {
        while current_position() < 1_000_000 {
            std::hint::spin_loop();
        }
        let is_overtaken = || own.is_overtaken(Duration::ZERO);
        let alone = is_overtaken();
        own.submit(plain(1, |_| ()), &accounts[0]);
        let by_itself = is_overtaken();
        own.submit(plain(1, |_| ()), &accounts[1]);
        send.send((alone, by_itself, is_overtaken(), own.is_overtaken(Duration::from_secs(3600)))).unwrap();
    };
    pool.submit(plain(1, long), &all[0]);
    assert_eq!(results.recv(), Ok((false, false, true, false)));
}

#[test]
fn short_tasks_of_light_clients_come_before_those_of_ever_new_ones() {
    let (modest, greedy) = (Account::of_client(), Account::of_client());
    let newcomers: [Account; 3] = std::array::from_fn(|_| Account::of_client());
    let (pool, hold) = busy(&greedy);
    let (send, results) = mpsc::channel();
    let task = |name: &'static str, cost_ns: u64| {
        let send = send.clone();
        plain(cost_ns, move |_| send.send(name).unwrap())
    };
    // By now it has used more than its share, though little.
    modest.settle(0, Duration::from_millis(900));
    greedy.settle(0, Duration::from_secs(60));
    for newcomer in &newcomers {
        pool.submit(task("long", 300_000_000), newcomer);
    }
    pool.submit(task("greedy", 1000), &greedy);
    for _ in 0..6 {
        pool.submit(task("modest", 1_000_000), &modest);
    }
    drop(hold);
    let names: Vec<&str> = (0..10).map(|_| results.recv().unwrap()).collect();
    assert_eq!(names[..5], ["modest", "modest", "modest", "modest", "long"]);
    assert_eq!(names[5..], ["modest", "modest", "long", "long", "greedy"]);
}

#[test]
fn clients_that_keep_all_workers_do_not_keep_out_another_one() {
    let clients: [Account; 3] = std::array::from_fn(|_| Account::of_client());
    let pool = WorkerPool::new(2, false);
    let (hold, held) = mpsc::channel::<()>();
    let held = std::sync::Arc::new(std::sync::Mutex::new(held));
    let (begun, is_begun) = mpsc::channel();
    for client in [&clients[0], &clients[1]] {
        let (begun, held) = (begun.clone(), std::sync::Arc::clone(&held));
        pool.submit(
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
    pool.submit(task("newcomer"), &clients[2]);
    assert_eq!(is_begun.recv(), Ok("newcomer"), "though no worker is free");
    drop(hold);
}

#[test]
fn a_panic_ends_only_its_task() {
    let pool = WorkerPool::new(1, false);
    let account = Account::default();
    pool.submit(plain(1, |_| panic!("of a task")), &account);
    let (send, results) = mpsc::channel();
    pool.submit(plain(1, move |width| send.send(width).unwrap()), &account);
    assert_eq!(results.recv(), Ok(1));
}

#[test]
fn the_sum_of_expected_pictures_is_that_of_the_tasks_that_wait() {
    let account = Account::default();
    let (pool, hold) = busy(&account);
    let (send, results) = mpsc::channel();
    for pictures in [3, 5] {
        let send = send.clone();
        pool.submit(Task { pictures, ..plain(1, move |_| send.send(pictures).unwrap()) }, &account);
    }
    assert_eq!(pool.shared.lock().queue.pictures(), 8);
    drop(hold);
    assert_eq!([results.recv().unwrap(), results.recv().unwrap()], [3, 5]);
    assert_eq!(pool.shared.lock().queue.pictures(), 0);
}

#[test]
fn the_spare_thread_sleeps_while_workers_are_free() {
    let (pool, client) = (WorkerPool::new(2, false), Account::of_client());
    let (send, results) = mpsc::channel();
    for _ in 0..8 {
        let send = send.clone();
        while pool.shared.lock().has_spare && !pool.shared.lock().is_spare_asleep {
            std::thread::yield_now();
        }
        let was_asleep = pool.shared.lock().has_spare;
        pool.submit(plain(1, move |_| send.send(()).unwrap()), &client);
        assert_eq!(pool.shared.lock().is_spare_asleep, was_asleep, "one task for two workers");
        results.recv().unwrap();
    }
}
