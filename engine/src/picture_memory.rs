//! One budget for the pictures that an engine's decoders have in work.
//!
//! A decode run reserves an estimate before it begins, and its pictures are charged to the reservation (`ffi::Account`). A run
//! that turns out to need more asks while it runs; that never waits. Where there is no room its picture is refused, the run
//! ends, gives back what it holds, and is queued again for what it needs. So no run waits for memory while it holds some, and
//! none of them can block another for good.
//!
//! The budget has shares, so that costly runs do not keep cheap ones waiting. Small runs may use their own share and whatever
//! of the rest is free; large ones only the rest. Each kind is served in the order of its queue; when small runs have
//! overtaken a waiting large one too often, they are kept to their own share. What is decoded to find out what a file is has a
//! small share of its own, since it holds memory while bytes are on their way.
//!
//! A run that needs more than the large share is alone with it, on one thread, and gets all that it asks for: the budget is
//! exceeded by one such run at most. Damaged pictures and those of files that are being opened are no reason for that: past the
//! large share they are refused.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};

pub use ffi::Account;
use ffi::{Ledger, Lender};

use crate::error::{Error, ErrorKind, Result};
use crate::machine::Machine;
use crate::source::opening;

/// Bounds of the memory for pictures in work where none is named.
const LEAST_BY_DEFAULT: u64 = 256 << 20;
const MOST_BY_DEFAULT: u64 = 1 << 30;
/// Bytes for pictures in work that a thread gets where there are many.
const BYTES_A_THREAD: u64 = 64 << 20;

/// The least budget.
const LEAST: u64 = 1 << 20;
/// The granted bytes of a run that may use as many as it needs.
const ALONE: u64 = i64::MAX as u64;
/// Small runs that may overtake a large one that waits.
const OVERTAKING: u32 = 32;
/// More than was asked for, in parts of that: asking takes the budget's lock.
const SPARE_PART: u64 = 4;

/// The budget where none is named: an eighth of the memory that the process is given, within sensible bounds, for an engine with so many threads.
pub(crate) fn default_bytes(machine: &Machine, threads: usize) -> u64 {
    let most = (threads as u64).saturating_mul(BYTES_A_THREAD).max(MOST_BY_DEFAULT);
    machine.memory_share(8, most).max(machine.memory_share(4, LEAST_BY_DEFAULT))
}

/// What a reservation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A decode run.
    Run = 0,
    /// Finding out what a file is.
    Probe = 1,
}

/// Bytes of the shares.
#[derive(Debug, Clone, Copy)]
struct Shares {
    probe: u64,
    small: u64,
    large: u64,
    /// A run of more bytes is large.
    small_run: u64,
    /// A probe of more bytes counts as a large run.
    small_probe: u64,
}

impl Shares {
    fn of(limit: u64) -> Shares {
        let (probe, small) = (limit / 16, limit * 3 / 16);
        Shares { probe, small, large: limit - probe - small, small_run: limit / 8, small_probe: limit / 32 }
    }
}

/// Where the bytes of a reservation are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Share {
    Probe,
    Small,
    Large,
}

const SHARES: [Share; 3] = [Share::Probe, Share::Small, Share::Large];

/// A caller that waits for room.
struct Waiting {
    kind: Kind,
    bytes: u64,
    is_cancelled: Box<dyn Fn() -> bool + Send>,
    then: Box<dyn FnOnce(Reservation) + Send>,
}

#[derive(Default)]
struct State {
    probes: u64,
    small: u64,
    large: u64,
    /// Reservations.
    holders: usize,
    /// Of these, runs whose caller is at work: it may wait for other runs.
    paused: usize,
    probe_queue: VecDeque<Waiting>,
    small_queue: VecDeque<Waiting>,
    large_queue: VecDeque<Waiting>,
    /// Small runs that went ahead of the first large one, with memory that it could use.
    overtaken: u32,
}

/// The budget of an engine.
pub struct Budget {
    limit: u64,
    shares: Shares,
    ledger: Ledger,
    state: Mutex<State>,
    /// Callers in the queues, for a look without the lock.
    waiting: AtomicUsize,
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Budget").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// Numbers for reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PicturesInWork {
    /// Bytes that decoders hold, with the tables that they keep for pictures.
    pub bytes: u64,
    /// The most that they have held at the same time.
    pub peak_bytes: u64,
    /// Decode runs that wait for memory.
    pub waiting: usize,
}

impl State {
    fn count(&mut self, share: Share) -> &mut u64 {
        match share {
            Share::Probe => &mut self.probes,
            Share::Small => &mut self.small,
            Share::Large => &mut self.large,
        }
    }

    fn queue(&mut self, share: Share) -> &mut VecDeque<Waiting> {
        match share {
            Share::Probe => &mut self.probe_queue,
            Share::Small => &mut self.small_queue,
            Share::Large => &mut self.large_queue,
        }
    }

    /// All holders wait for their callers, which may wait for runs in the queues.
    fn is_stalled(&self) -> bool {
        self.holders == self.paused
    }
}

impl Budget {
    /// A budget of `limit` bytes, at least 1 MiB.
    pub fn new(limit: u64) -> Arc<Budget> {
        let limit = limit.clamp(LEAST, ALONE / 4);
        let (state, waiting) = (Mutex::default(), AtomicUsize::new(0));
        Arc::new(Budget { limit, shares: Shares::of(limit), ledger: Ledger::new(), state, waiting })
    }

    /// The budget in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The most that a run may have while others have some.
    pub fn largest_run(&self) -> u64 {
        self.shares.large
    }

    /// What decoders hold now.
    pub fn now(&self) -> PicturesInWork {
        let (bytes, peak_bytes) = (self.ledger.live(), self.ledger.peak());
        PicturesInWork { bytes, peak_bytes, waiting: self.waiting.load(Relaxed) }
    }

    /// A reservation of `bytes`, if there is room and no caller that waits is overtaken too often.
    pub fn try_reserve(self: &Arc<Self>, kind: Kind, bytes: u64) -> Option<Reservation> {
        let mut state = self.lock();
        let share = self.share_of(kind, bytes);
        // Nothing takes nothing away.
        let is_free = bytes == 0 || (state.queue(share).is_empty() && self.has_room(&state, share, bytes));
        if !is_free && !state.is_stalled() {
            return None;
        }
        Some(self.begin(&mut state, kind, bytes))
    }

    /// Waits for `bytes`, in the caller's thread.
    pub fn reserve(self: &Arc<Self>, kind: Kind, bytes: u64) -> Reservation {
        if let Some(reservation) = self.try_reserve(kind, bytes) {
            return reservation;
        }
        let (give, given) = mpsc::sync_channel(1);
        self.when_room(kind, bytes, || false, move |reservation| _ = give.send(reservation));
        // It is only taken out of the queue to be called.
        given.recv().unwrap_or_else(|_| self.begin(&mut self.lock(), kind, bytes))
    }

    /// Calls `then` with a reservation of `bytes` as soon as there is room, perhaps at once. It should do no more than pass
    /// it on. Once `is_cancelled` says so, `then` may be dropped instead.
    pub fn when_room(
        self: &Arc<Self>,
        kind: Kind,
        bytes: u64,
        is_cancelled: impl Fn() -> bool + Send + 'static,
        then: impl FnOnce(Reservation) + Send + 'static,
    ) {
        let share = self.share_of(kind, bytes);
        let waiting = Waiting { kind, bytes, is_cancelled: Box::new(is_cancelled), then: Box::new(then) };
        let mut state = self.lock();
        state.queue(share).push_back(waiting);
        self.waiting.fetch_add(1, Relaxed);
        drop(state);
        self.admit();
    }

    /// The same for a probe, until its opening takes too long or is not wanted any more.
    ///
    /// # Errors
    /// `OpenTimeout`, `OpenCancelled`.
    fn reserve_for_probe(self: &Arc<Self>, bytes: u64) -> Result<Reservation> {
        if let Some(reservation) = self.try_reserve(Kind::Probe, bytes) {
            return Ok(reservation);
        }
        let (give, given) = mpsc::sync_channel(1);
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let own = Arc::clone(&is_cancelled);
        self.when_room(Kind::Probe, bytes, move || own.load(Relaxed), move |reservation| _ = give.send(reservation));
        loop {
            if let Ok(reservation) = given.recv_timeout(opening::LOOK) {
                return Ok(reservation);
            }
            if let Err(error) = opening::check(0) {
                is_cancelled.store(true, Relaxed);
                self.forget_cancelled();
                return Err(error);
            }
        }
    }

    /// Does a caller wait for room?
    pub fn is_waited_for(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    /// Lets go of callers that were cancelled while they waited.
    pub fn forget_cancelled(self: &Arc<Self>) {
        if self.waiting.load(Relaxed) == 0 {
            return;
        }
        let mut gone = Vec::new();
        let mut state = self.lock();
        for share in SHARES {
            let queue = std::mem::take(state.queue(share));
            for waiting in queue {
                if (waiting.is_cancelled)() {
                    gone.push(waiting);
                } else {
                    state.queue(share).push_back(waiting);
                }
            }
        }
        self.waiting.fetch_sub(gone.len(), Relaxed);
        drop(state);
        drop(gone);
        self.admit();
    }

    /// Opens something with what `open` decodes for it charged to the budget: again with more where that was not enough.
    ///
    /// # Errors
    /// Those of `open`, and `PictureMemory`.
    pub fn probe<T>(self: &Arc<Self>, open: impl Fn(&Reservation) -> Result<T>) -> Result<T> {
        let mut bytes = 0;
        loop {
            let memory = self.reserve_for_probe(bytes)?;
            let opened = open(&memory);
            match memory.refusal() {
                None => return opened,
                Some(Refused::ForGood { needed }) => return Err(self.too_much(needed)),
                Some(Refused::ForNow { needed }) => bytes = needed,
            }
        }
    }

    /// The error of a run that needs more than it can have.
    pub fn too_much(&self, needed: u64) -> Error {
        ErrorKind::PictureMemory { needed, limit: self.shares.large }.into()
    }

    fn share_of(&self, kind: Kind, bytes: u64) -> Share {
        match kind {
            Kind::Probe if bytes <= self.shares.small_probe => Share::Probe,
            Kind::Run if bytes <= self.shares.small_run => Share::Small,
            _ => Share::Large,
        }
    }

    /// What a reservation counts: all of the large share for one that may be larger.
    fn counted(&self, share: Share, bytes: u64) -> u64 {
        if share == Share::Large { bytes.min(self.shares.large) } else { bytes }
    }

    fn fits(&self, state: &State, share: Share, bytes: u64) -> bool {
        let (shares, bytes) = (&self.shares, self.counted(share, bytes));
        let fits_at_all = state.small + state.large + bytes <= shares.small + shares.large;
        match share {
            Share::Probe => state.probes + bytes <= shares.probe,
            Share::Small => state.small + bytes <= shares.small || fits_at_all,
            Share::Large => state.large + bytes <= shares.large && fits_at_all,
        }
    }

    /// The same for one that has nothing yet.
    fn has_room(&self, state: &State, share: Share, bytes: u64) -> bool {
        let is_own = share != Share::Small || state.small + bytes <= self.shares.small;
        let is_held_back = !is_own && !state.large_queue.is_empty() && state.overtaken >= OVERTAKING;
        !is_held_back && self.fits(state, share, bytes)
    }

    fn begin(self: &Arc<Self>, state: &mut State, kind: Kind, bytes: u64) -> Reservation {
        let share = self.share_of(kind, bytes);
        match share {
            Share::Large => state.overtaken = 0,
            Share::Small if state.small + bytes > self.shares.small && !state.large_queue.is_empty() => {
                state.overtaken += 1;
            }
            Share::Small | Share::Probe => {}
        }
        *state.count(share) += self.counted(share, bytes);
        state.holders += 1;
        let granted = if share == Share::Large && bytes > self.shares.large { ALONE } else { bytes };
        let account = Account::open(&self.ledger, self, kind as i32, granted, self.shares.large);
        Reservation { budget: Arc::clone(self), kind, account }
    }

    /// Lets in whom there is room for now.
    fn admit(self: &Arc<Self>) {
        loop {
            let mut state = self.lock();
            let Some(waiting) = self.next(&mut state) else { return };
            self.waiting.fetch_sub(1, Relaxed);
            if (waiting.is_cancelled)() {
                drop(state);
                continue;
            }
            let reservation = self.begin(&mut state, waiting.kind, waiting.bytes);
            drop(state);
            (waiting.then)(reservation);
        }
    }

    fn next(&self, state: &mut State) -> Option<Waiting> {
        for share in SHARES {
            let Some((kind, bytes)) = state.queue(share).front().map(|first| (first.kind, first.bytes)) else {
                continue;
            };
            if self.has_room(state, self.share_of(kind, bytes), bytes) || state.is_stalled() {
                return state.queue(share).pop_front();
            }
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Lender for Budget {
    fn grow(&self, kind: i32, granted: u64, used: u64) -> u64 {
        let kind = if kind == Kind::Probe as i32 { Kind::Probe } else { Kind::Run };
        let mut state = self.lock();
        let before = self.share_of(kind, granted);
        *state.count(before) -= self.counted(before, granted);
        let more = used.saturating_add(used / SPARE_PART).min(self.shares.large);
        // What waits is not overtaken by runs that grow, either: they end, and wait as well.
        let may_have = |&bytes: &u64| {
            let share = self.share_of(kind, bytes);
            let goes_ahead = share == Share::Large && before != Share::Large && !state.large_queue.is_empty();
            bytes >= used && bytes <= self.shares.large && !goes_ahead && self.has_room(&state, share, bytes)
        };
        let fitting = [more, used].into_iter().find(may_have);
        let bytes = fitting.unwrap_or(granted);
        let share = self.share_of(kind, bytes);
        *state.count(share) += self.counted(share, bytes);
        bytes
    }
}

/// Why a run was refused memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Others have it: reserve `needed` bytes and try again.
    ForNow {
        /// Bytes to reserve.
        needed: u64,
    },
    /// It is more than the budget, and what it is for is no reason to exceed it.
    ForGood {
        /// Bytes that would have been used.
        needed: u64,
    },
}

/// Memory for the pictures of one decode run, given back when dropped.
pub struct Reservation {
    budget: Arc<Budget>,
    kind: Kind,
    account: Account,
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reservation").field("granted", &self.account.granted()).finish_non_exhaustive()
    }
}

impl Reservation {
    /// What decoders charge their pictures to.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// It may use as much as it needs, on one thread.
    pub fn is_alone(&self) -> bool {
        self.account.granted() == ALONE
    }

    /// Whether a picture was refused, and what to do about it.
    pub fn refusal(&self) -> Option<Refused> {
        let needed = self.account.refused()?;
        if self.account.is_refused_for_good() {
            return Some(Refused::ForGood { needed });
        }
        // Twice as much where that is not too much: the next picture would be refused else.
        let twice = self.account.granted().saturating_mul(2).min(self.budget.shares.large);
        Some(Refused::ForNow { needed: needed.max(twice) })
    }

    /// Gives back what is not in use: no decoder is at work, and others need not wait for what else the caller does.
    pub fn give_back(&self) {
        let budget = &self.budget;
        let mut state = budget.lock();
        let (before, after) = self.account.shrink();
        for (granted, is_more) in [(before, false), (after, true)] {
            let share = budget.share_of(self.kind, granted);
            let bytes = budget.counted(share, granted);
            let count = state.count(share);
            *count = if is_more { *count + bytes } else { *count - bytes };
        }
        drop(state);
        if budget.is_waited_for() {
            budget.admit();
        }
    }

    /// Runs the caller's code, which may wait for other runs of the engine.
    pub fn paused<T>(&self, call: impl FnOnce() -> T) -> T {
        /// Ends the pause, also where `call` panics.
        struct Pause<'a>(&'a Budget);
        impl Drop for Pause<'_> {
            fn drop(&mut self) {
                self.0.lock().paused -= 1;
            }
        }
        self.budget.lock().paused += 1;
        let _pause = Pause(&self.budget);
        if self.budget.waiting.load(Relaxed) > 0 {
            self.budget.admit();
        }
        call()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let (budget, granted) = (&self.budget, self.account.granted());
        let mut state = budget.lock();
        let share = budget.share_of(self.kind, granted);
        *state.count(share) -= budget.counted(share, granted);
        state.holders -= 1;
        drop(state);
        if budget.waiting.load(Relaxed) > 0 {
            budget.admit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::sync::{Arc, Mutex};

    use ffi::Lender;

    use super::{ALONE, Budget, Kind, OVERTAKING, Reservation};

    /// 64 MiB: 4 for probes (up to 2 each), 12 for small runs (up to 8 each), 48 for the rest.
    fn budget() -> Arc<Budget> {
        Budget::new(64 << 20)
    }

    fn mib(count: u64) -> u64 {
        count << 20
    }

    type Given = Arc<Mutex<Vec<(&'static str, Reservation)>>>;

    /// Waits for room in the queue; what is let in goes to `given`, with its name.
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
        // It goes on reading, and decodes nothing any more.
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
        // Small runs that come and go hold more than their share all the time.
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
    fn runs_that_grow_are_refused_and_told_what_to_reserve() {
        let budget = budget();
        let held = budget.try_reserve(Kind::Run, mib(36)).expect("room");
        // Within what is free; then not.
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
        // A caller that was cancelled without a word is passed over as well.
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
    fn callers_that_wait_inside_a_run_are_let_in() {
        let budget = budget();
        let play = budget.reserve(Kind::Run, mib(500));
        let inner = play.paused(|| budget.reserve(Kind::Run, mib(500)));
        assert_eq!(inner.account().granted(), ALONE);
        let given = Given::default();
        wait(&budget, mib(20), "one at a time", &given);
        play.paused(|| assert!(names(&given).is_empty(), "the inner one is at work"));
        drop(inner);
        play.paused(|| assert_eq!(names(&given), ["one at a time"]));
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
}
