//! One budget for the pictures that an engine's decoders have in work.
//!
//! A decode run reserves an estimate before it begins, and its pictures are charged to the reservation (`ffi::Account`). A run
//! that turns out to need more requests it while it runs, which never waits. Where there is no room its picture is refused, the
//! run ends, gives back what it holds, and is queued again for what it needs. So no run waits for memory while it holds some, and
//! none of them can block another for good.
//!
//! The budget has shares (`shares.rs`), so that costly runs do not keep cheap ones waiting. Small runs may use their own share and
//! whatever of the rest is free; large ones only the rest. Each kind is served in the order of its queue; when small runs have
//! overtaken a waiting large one too often, they are kept to their own share. Decoding that determines a file's properties has a
//! small share of its own, since it holds memory while bytes are on their way.
//!
//! A run that needs more than the large share is alone with it, on one thread, and gets all that it asks for: the budget is
//! exceeded by one such run at most. Damaged pictures and those of files that are being opened do not justify that: past the
//! large share they are refused.

mod reservation;
mod shares;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

pub use ffi::Account;
use ffi::{Ledger, Lender};

pub use self::reservation::{Pause, Refused, Reservation};

use self::shares::{ALONE, Share, Shares, Usage, Waiting};
use crate::error::{Error, ErrorKind, Result};
use crate::machine::Machine;
use crate::source::opening;

/// Bounds of the default budget.
const LEAST_BY_DEFAULT: u64 = 256 << 20;
const MOST_BY_DEFAULT: u64 = 1 << 30;
/// The upper bound for each thread, where there are many.
const BYTES_A_THREAD: u64 = 64 << 20;

/// The least budget.
const LEAST: u64 = 1 << 20;
/// The part of a request that is granted in addition: each request takes the budget's lock.
const SPARE_PART: u64 = 4;

/// The default budget of an engine with this many threads: an eighth of the memory that the process may use, within
/// bounds.
pub(crate) fn default_bytes(machine: &Machine, threads: usize) -> u64 {
    let most = (threads as u64).saturating_mul(BYTES_A_THREAD).max(MOST_BY_DEFAULT);
    machine.memory_share(8, most).max(machine.memory_share(4, LEAST_BY_DEFAULT))
}

/// The purpose of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A decode run.
    Run = 0,
    /// Determining the properties of a file.
    Probe = 1,
}

/// The use of a budget, for reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PicturesInWork {
    /// Bytes that decoders hold, with the tables that they keep for pictures.
    pub bytes: u64,
    /// The largest number of bytes so far.
    pub peak_bytes: u64,
    /// Decode runs that wait for memory.
    pub waiting: usize,
}

/// The budget of an engine.
pub struct Budget {
    limit: u64,
    shares: Shares,
    ledger: Ledger,
    usage: Mutex<Usage>,
    /// Callers in the queues, to check without the lock.
    waiting: AtomicUsize,
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Budget").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Budget {
    /// A budget of `limit` bytes, at least 1 MiB.
    pub fn new(limit: u64) -> Arc<Budget> {
        let limit = limit.clamp(LEAST, ALONE / 4);
        let shares = Shares::of(limit);
        let (usage, waiting) = (Mutex::new(Usage::of(shares)), AtomicUsize::new(0));
        Arc::new(Budget { limit, shares, ledger: Ledger::new(), usage, waiting })
    }

    /// The budget in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The largest reservation of a run while others have some.
    pub fn largest_run(&self) -> u64 {
        self.shares.large
    }

    /// The bytes that decoders hold now.
    pub fn now(&self) -> PicturesInWork {
        let (bytes, peak_bytes) = (self.ledger.live(), self.ledger.peak());
        PicturesInWork { bytes, peak_bytes, waiting: self.waiting.load(Relaxed) }
    }

    /// A reservation of `bytes`, if there is room and no waiting caller is overtaken too often.
    pub fn try_reserve(self: &Arc<Self>, kind: Kind, bytes: u64) -> Option<Reservation> {
        let mut usage = self.lock();
        let share = self.shares.share_of(kind, bytes);
        // A reservation of no bytes always fits.
        let is_free = bytes == 0 || (usage.queue(share).is_empty() && usage.has_room(share, bytes));
        if !is_free && !usage.is_stalled() {
            return None;
        }
        Some(self.begin(&mut usage, kind, bytes))
    }

    /// Waits for `bytes`, in the caller's thread.
    pub fn reserve(self: &Arc<Self>, kind: Kind, bytes: u64) -> Reservation {
        if let Some(reservation) = self.try_reserve(kind, bytes) {
            return reservation;
        }
        let (give, given) = mpsc::sync_channel(1);
        self.when_room(kind, bytes, || false, move |reservation| _ = give.send(reservation));
        // The entry only leaves the queue to be called.
        given.recv().unwrap_or_else(|_| self.begin(&mut self.lock(), kind, bytes))
    }

    /// Calls `then` with a reservation of `bytes` as soon as there is room, perhaps at once. `then` should only pass it
    /// on. Once `is_cancelled` returns true, `then` may be dropped instead.
    pub fn when_room(
        self: &Arc<Self>,
        kind: Kind,
        bytes: u64,
        is_cancelled: impl Fn() -> bool + Send + 'static,
        then: impl FnOnce(Reservation) + Send + 'static,
    ) {
        let share = self.shares.share_of(kind, bytes);
        let waiting = Waiting { kind, bytes, is_cancelled: Box::new(is_cancelled), then: Box::new(then) };
        let mut usage = self.lock();
        usage.queue(share).push_back(waiting);
        self.waiting.fetch_add(1, Relaxed);
        drop(usage);
        self.admit();
    }

    /// As `reserve`, for a probe, until its opening takes too long or is cancelled.
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

    /// True if a caller waits for room.
    pub fn is_waited_for(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    /// Drops callers that were cancelled while they waited.
    pub fn forget_cancelled(self: &Arc<Self>) {
        if !self.is_waited_for() {
            return;
        }
        let mut usage = self.lock();
        let cancelled = usage.take_cancelled();
        self.waiting.fetch_sub(cancelled.len(), Relaxed);
        drop(usage);
        drop(cancelled);
        self.admit();
    }

    /// Runs `open`, with the pictures that it decodes charged to the budget; again with a larger reservation if that
    /// was too small.
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

    /// The error of a run that needs more than the largest reservation.
    pub fn too_much(&self, needed: u64) -> Error {
        ErrorKind::PictureMemory { needed, limit: self.shares.large }.into()
    }

    fn begin(self: &Arc<Self>, usage: &mut Usage, kind: Kind, bytes: u64) -> Reservation {
        usage.begin(kind, bytes);
        let exceeds = self.shares.share_of(kind, bytes) == Share::Large && bytes > self.shares.large;
        let granted = if exceeds { ALONE } else { bytes };
        Reservation::of(self, kind, Account::open(&self.ledger, self, kind as i32, granted, self.shares.large))
    }

    /// Calls the waiting callers that have room now.
    fn admit(self: &Arc<Self>) {
        loop {
            let mut usage = self.lock();
            let Some(waiting) = usage.next() else { return };
            self.waiting.fetch_sub(1, Relaxed);
            if (waiting.is_cancelled)() {
                drop(usage);
                continue;
            }
            let reservation = self.begin(&mut usage, waiting.kind, waiting.bytes);
            drop(usage);
            (waiting.then)(reservation);
        }
    }

    fn admit_if_any_waits(self: &Arc<Self>) {
        if self.is_waited_for() {
            self.admit();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lender for Budget {
    fn grow(&self, kind: i32, granted: u64, used: u64) -> u64 {
        let kind = if kind == Kind::Probe as i32 { Kind::Probe } else { Kind::Run };
        let mut usage = self.lock();
        usage.remove(kind, granted);
        let before = self.shares.share_of(kind, granted);
        let more = used.saturating_add(used / SPARE_PART).min(self.shares.large);
        // A growing run does not overtake waiting runs either: it ends, and waits as well.
        let may_have = |&bytes: &u64| {
            let share = self.shares.share_of(kind, bytes);
            let goes_ahead = share == Share::Large && before != Share::Large && usage.is_large_awaited();
            bytes >= used && bytes <= self.shares.large && !goes_ahead && usage.has_room(share, bytes)
        };
        let bytes = [more, used].into_iter().find(may_have).unwrap_or(granted);
        usage.add(kind, bytes);
        bytes
    }
}
