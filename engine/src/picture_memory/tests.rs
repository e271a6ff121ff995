//! Tests of the budget.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use ffi::Lender;

use super::shares::{ALONE, OVERTAKING};
use super::{Budget, Kind, Reservation};

/// 64 MiB: 4 for probes (up to 2 each), 12 for small runs (up to 8 each), 48 for the rest.
fn budget() -> Arc<Budget> {
    Budget::new(64 << 20)
}

fn mib(count: u64) -> u64 {
    count << 20
}

type Given = Arc<Mutex<Vec<(&'static str, Reservation)>>>;

/// Waits for room in the queue; a reservation goes to `given`, with its name.
fn wait(budget: &Arc<Budget>, bytes: u64, name: &'static str, given: &Given) {
    let given = Arc::clone(given);
    budget.when_room(Kind::Run, bytes, || false, move |memory| given.lock().unwrap().push((name, memory)));
}

fn names(given: &Given) -> Vec<&'static str> {
    given.lock().unwrap().iter().map(|(name, _)| *name).collect()
}

#[test]
fn probes_that_wait_hold_up_no_run_and_go_on_when_others_have_probed() {
    let budget = budget();
    let probes = [mib(2), mib(2)].map(|bytes| budget.try_reserve(Kind::Probe, bytes).expect("room"));
    let given = Given::default();
    let own = Arc::clone(&given);
    budget.when_room(Kind::Probe, mib(2), || false, move |memory| own.lock().unwrap().push(("third", memory)));
    assert!(budget.is_waited_for() && names(&given).is_empty());
    let run = budget.try_reserve(Kind::Run, mib(5));
    assert!(run.is_some(), "runs have shares of their own");
    // It goes on reading, and decodes nothing more.
    probes[0].give_back();
    assert_eq!(names(&given), ["third"]);
    assert_eq!(probes[0].account().granted(), 0);
    drop((probes, run));
    given.lock().unwrap().clear();
    assert!(budget.try_reserve(Kind::Probe, mib(2)).is_some(), "counted once");
}

#[test]
fn small_runs_go_on_while_large_ones_wait() {
    let budget = budget();
    let large = budget.try_reserve(Kind::Run, mib(30)).expect("room");
    assert!(budget.try_reserve(Kind::Run, mib(20)).is_none());
    let given = Given::default();
    wait(&budget, mib(20), "second", &given);
    wait(&budget, mib(9), "third", &given);
    let small: Vec<_> = (0..3).map(|_| budget.try_reserve(Kind::Run, mib(5)).expect("a share")).collect();
    assert!(names(&given).is_empty(), "in the order of the queue");
    assert_eq!(budget.now().waiting, 2);
    drop(large);
    assert_eq!(names(&given), ["second", "third"]);
    drop(small);
}

#[test]
fn one_that_needs_more_than_the_budget_has_it_alone() {
    let budget = budget();
    let first = budget.try_reserve(Kind::Run, mib(30)).expect("room");
    let given = Given::default();
    wait(&budget, mib(500), "huge", &given);
    assert!(names(&given).is_empty());
    drop(first);
    assert_eq!(names(&given), ["huge"]);
    assert_eq!(given.lock().unwrap()[0].1.account().granted(), ALONE);
    assert!(budget.try_reserve(Kind::Run, mib(9)).is_none(), "no other large one");
    assert!(budget.try_reserve(Kind::Run, mib(8)).is_some(), "small ones go on");
    given.lock().unwrap().clear();
    assert!(budget.try_reserve(Kind::Run, mib(40)).is_some());
}

#[test]
fn a_large_run_is_not_overtaken_for_ever() {
    let budget = budget();
    let mut small: Vec<_> = (0..4).map(|_| budget.try_reserve(Kind::Run, mib(7)).expect("room")).collect();
    let given = Given::default();
    wait(&budget, mib(40), "large", &given);
    // Small runs that begin and end hold more than their share all the time.
    for round in 0..OVERTAKING {
        small.push(budget.try_reserve(Kind::Run, mib(7)).expect("still ahead"));
        small.remove(0);
        assert!(names(&given).is_empty(), "round {round}");
    }
    assert!(budget.try_reserve(Kind::Run, mib(7)).is_none(), "no longer");
    wait(&budget, mib(7), "small", &given);
    small.remove(0);
    assert!(names(&given).is_empty(), "21 MiB are more than their share");
    small.remove(0);
    assert_eq!(names(&given), ["large"], "14 MiB are not");
    small.clear();
    assert_eq!(names(&given), ["large", "small"]);
}

#[test]
fn a_run_that_grows_is_refused_with_the_bytes_to_reserve() {
    let budget = budget();
    let held = budget.try_reserve(Kind::Run, mib(36)).expect("room");
    // Within the free bytes; then beyond them.
    assert!(budget.grow(0, 0, mib(6)) >= mib(6));
    assert_eq!(budget.grow(0, mib(7) + (1 << 19), mib(60)), mib(7) + (1 << 19));
    drop(held);
    let memory = budget.reserve(Kind::Run, mib(12));
    assert_eq!(memory.refusal(), None);
    let granted = budget.grow(0, mib(12), mib(30));
    assert!(granted >= mib(30));
    assert_eq!(budget.grow(0, granted, mib(49)), granted, "what needs more begins anew, alone");
}

#[test]
fn cancelled_callers_make_room_for_those_behind_them() {
    let budget = budget();
    let first = budget.try_reserve(Kind::Run, mib(40)).expect("room");
    let (given, is_gone) = (Given::default(), Arc::new(AtomicBool::new(false)));
    let (cancelled, own) = (Arc::clone(&is_gone), Arc::clone(&given));
    let is_cancelled = move || cancelled.load(Relaxed);
    budget.when_room(Kind::Run, mib(999), is_cancelled, move |memory| own.lock().unwrap().push(("gone", memory)));
    wait(&budget, mib(10), "next", &given);
    is_gone.store(true, Relaxed);
    budget.forget_cancelled();
    assert_eq!(budget.now().waiting, 1);
    drop(first);
    assert_eq!(names(&given), ["next"]);
    // A caller that was cancelled without a call of `forget_cancelled` is skipped as well.
    let (cancelled, own) = (Arc::clone(&is_gone), Arc::clone(&given));
    budget.when_room(
        Kind::Run,
        mib(999),
        move || cancelled.load(Relaxed),
        move |memory| own.lock().unwrap().push(("gone", memory)),
    );
    given.lock().unwrap().clear();
    assert!(names(&given).is_empty() && budget.now().waiting == 0);
}

#[test]
fn callers_that_wait_inside_a_run_are_admitted() {
    let budget = budget();
    let play = budget.reserve(Kind::Run, mib(500));
    let pause = play.pause();
    let inner = budget.reserve(Kind::Run, mib(500));
    assert_eq!(inner.account().granted(), ALONE);
    let given = Given::default();
    wait(&budget, mib(20), "one at a time", &given);
    assert!(names(&given).is_empty(), "the inner one is at work");
    drop(inner);
    assert_eq!(names(&given), ["one at a time"]);
    drop(pause);
}

#[test]
fn probes_have_their_own_share() {
    let budget = budget();
    let run = budget.reserve(Kind::Run, mib(500));
    let small = budget.try_reserve(Kind::Run, mib(8)).expect("a share");
    let empty = budget.try_reserve(Kind::Probe, 0).expect("nothing takes nothing away");
    let probes: Vec<_> = (0..2).map(|_| budget.try_reserve(Kind::Probe, mib(2)).expect("a share")).collect();
    assert!(budget.try_reserve(Kind::Probe, mib(2)).is_none());
    drop((run, small, empty, probes));
    let large = budget.try_reserve(Kind::Probe, mib(30)).expect("room");
    assert!(budget.try_reserve(Kind::Run, mib(30)).is_none(), "counted with the large runs");
    drop(large);
}
