//! Tests of the budget.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use ffi::Lender;

use super::shares::{ALONE, OVERTAKING};
use super::{Budget, Reservation, ReservationKind};

/// 64 MiB: 4 for probes (up to 2 each), 12 for small runs (up to 8 each), 48 for the rest.
fn budget() -> Arc<Budget> {
    Budget::new(64 << 20)
}

fn mib(count: u64) -> u64 {
    count << 20
}

type TestGrants = Arc<Mutex<Vec<(&'static str, Reservation)>>>;

/// Waits for room in the queue; a reservation goes to `given`, with its name.
fn wait(budget: &Arc<Budget>, bytes: u64, name: &'static str, grants: &TestGrants) {
    let grants = Arc::clone(grants);
    budget.reserve_later(
        ReservationKind::Run,
        bytes,
        || false,
        move |memory| grants.lock().unwrap().push((name, memory)),
    );
}

fn names(grants: &TestGrants) -> Vec<&'static str> {
    grants.lock().unwrap().iter().map(|(name, _)| *name).collect()
}

#[test]
fn probes_that_wait_hold_up_no_run_and_go_on_when_others_have_probed() {
    let budget = budget();
    let probes = [mib(2), mib(2)].map(|bytes| budget.try_reserve(ReservationKind::Probe, bytes).expect("room"));
    let grants = TestGrants::default();
    let own = Arc::clone(&grants);
    budget.reserve_later(
        ReservationKind::Probe,
        mib(2),
        || false,
        move |memory| own.lock().unwrap().push(("third", memory)),
    );
    assert!(budget.has_waiters() && names(&grants).is_empty());
    let run = budget.try_reserve(ReservationKind::Run, mib(5));
    assert!(run.is_some(), "runs have shares of their own");
    // It goes on reading, and decodes nothing more.
    probes[0].release_unused();
    assert_eq!(names(&grants), ["third"]);
    assert_eq!(probes[0].account().granted(), 0);
    drop((probes, run));
    grants.lock().unwrap().clear();
    assert!(budget.try_reserve(ReservationKind::Probe, mib(2)).is_some(), "counted once");
}

#[test]
fn small_runs_go_on_while_large_ones_wait() {
    let budget = budget();
    let large = budget.try_reserve(ReservationKind::Run, mib(30)).expect("room");
    assert!(budget.try_reserve(ReservationKind::Run, mib(20)).is_none());
    let grants = TestGrants::default();
    wait(&budget, mib(20), "second", &grants);
    wait(&budget, mib(9), "third", &grants);
    let small: Vec<_> = (0..3).map(|_| budget.try_reserve(ReservationKind::Run, mib(5)).expect("a share")).collect();
    assert!(names(&grants).is_empty(), "in the order of the queue");
    assert_eq!(budget.now().waiting, 2);
    drop(large);
    assert_eq!(names(&grants), ["second", "third"]);
    drop(small);
}

#[test]
fn one_that_needs_more_than_the_budget_has_it_alone() {
    let budget = budget();
    let first = budget.try_reserve(ReservationKind::Run, mib(30)).expect("room");
    let grants = TestGrants::default();
    wait(&budget, mib(500), "huge", &grants);
    assert!(names(&grants).is_empty());
    drop(first);
    assert_eq!(names(&grants), ["huge"]);
    assert_eq!(grants.lock().unwrap()[0].1.account().granted(), ALONE);
    assert!(budget.try_reserve(ReservationKind::Run, mib(9)).is_none(), "no other large one");
    assert!(budget.try_reserve(ReservationKind::Run, mib(8)).is_some(), "small ones go on");
    grants.lock().unwrap().clear();
    assert!(budget.try_reserve(ReservationKind::Run, mib(40)).is_some());
}

#[test]
fn a_large_run_is_not_overtaken_for_ever() {
    let budget = budget();
    let mut small: Vec<_> = (0..4).map(|_| budget.try_reserve(ReservationKind::Run, mib(7)).expect("room")).collect();
    let grants = TestGrants::default();
    wait(&budget, mib(40), "large", &grants);
    // Small runs that begin and end hold more than their share all the time.
    for round in 0..OVERTAKING {
        small.push(budget.try_reserve(ReservationKind::Run, mib(7)).expect("still ahead"));
        small.remove(0);
        assert!(names(&grants).is_empty(), "round {round}");
    }
    assert!(budget.try_reserve(ReservationKind::Run, mib(7)).is_none(), "no longer");
    wait(&budget, mib(7), "small", &grants);
    small.remove(0);
    assert!(names(&grants).is_empty(), "21 MiB are more than their share");
    small.remove(0);
    assert_eq!(names(&grants), ["large"], "14 MiB are not");
    small.clear();
    assert_eq!(names(&grants), ["large", "small"]);
}

#[test]
fn a_run_that_grows_is_refused_with_the_bytes_to_reserve() {
    let budget = budget();
    let held = budget.try_reserve(ReservationKind::Run, mib(36)).expect("room");
    // Within the free bytes; then beyond them.
    assert!(budget.grow(0, 0, mib(6)) >= mib(6));
    assert_eq!(budget.grow(0, mib(7) + (1 << 19), mib(60)), mib(7) + (1 << 19));
    drop(held);
    let memory = budget.reserve(ReservationKind::Run, mib(12));
    assert_eq!(memory.refusal(), None);
    let granted = budget.grow(0, mib(12), mib(30));
    assert!(granted >= mib(30));
    assert_eq!(budget.grow(0, granted, mib(49)), granted, "what needs more begins anew, alone");
}

#[test]
fn cancelled_callers_make_room_for_those_behind_them() {
    let budget = budget();
    let first = budget.try_reserve(ReservationKind::Run, mib(40)).expect("room");
    let (grants, is_gone) = (TestGrants::default(), Arc::new(AtomicBool::new(false)));
    let (cancelled, own) = (Arc::clone(&is_gone), Arc::clone(&grants));
    let is_cancelled = move || cancelled.load(Relaxed);
    budget.reserve_later(ReservationKind::Run, mib(999), is_cancelled, move |memory| {
        own.lock().unwrap().push(("gone", memory))
    });
    wait(&budget, mib(10), "next", &grants);
    is_gone.store(true, Relaxed);
    budget.remove_cancelled();
    assert_eq!(budget.now().waiting, 1);
    drop(first);
    assert_eq!(names(&grants), ["next"]);
    // A caller that was cancelled without a call of `remove_cancelled` is skipped as well.
    let (cancelled, own) = (Arc::clone(&is_gone), Arc::clone(&grants));
    budget.reserve_later(
        ReservationKind::Run,
        mib(999),
        move || cancelled.load(Relaxed),
        move |memory| own.lock().unwrap().push(("gone", memory)),
    );
    grants.lock().unwrap().clear();
    assert!(names(&grants).is_empty() && budget.now().waiting == 0);
}

#[test]
fn callers_that_wait_inside_a_run_are_admitted() {
    let budget = budget();
    let play = budget.reserve(ReservationKind::Run, mib(500));
    let pause = play.pause();
    let inner = budget.reserve(ReservationKind::Run, mib(500));
    assert_eq!(inner.account().granted(), ALONE);
    let grants = TestGrants::default();
    wait(&budget, mib(20), "one at a time", &grants);
    assert!(names(&grants).is_empty(), "the inner one is at work");
    drop(inner);
    assert_eq!(names(&grants), ["one at a time"]);
    drop(pause);
}

#[test]
fn probes_have_their_own_share() {
    let budget = budget();
    let run = budget.reserve(ReservationKind::Run, mib(500));
    let small = budget.try_reserve(ReservationKind::Run, mib(8)).expect("a share");
    let empty = budget.try_reserve(ReservationKind::Probe, 0).expect("nothing takes nothing away");
    let probes: Vec<_> = (0..2).map(|_| budget.try_reserve(ReservationKind::Probe, mib(2)).expect("a share")).collect();
    assert!(budget.try_reserve(ReservationKind::Probe, mib(2)).is_none());
    drop((run, small, empty, probes));
    let large = budget.try_reserve(ReservationKind::Probe, mib(30)).expect("room");
    assert!(budget.try_reserve(ReservationKind::Run, mib(30)).is_none(), "charged to the large share");
    drop(large);
}
