//! One budget for the pictures in the decoders of an engine.
//!
//! A decode run reserves an estimate before it begins, and its pictures are charged to the reservation
//! (`ffi::PictureAccount`). A run that needs more requests it while it runs, and never waits for it. Without room the
//! picture is refused: the run ends, releases its memory, and is queued again with the larger estimate. So no run waits
//! for memory while it holds some, and no two runs can block each other for ever.
//!
//! The budget has shares (`shares.rs`), so that costly runs do not delay cheap ones. Small runs may use their own share
//! and the free part of the rest; large ones only the rest. Each share has a queue in order of arrival. After small
//! runs have overtaken a waiting large one too often, they are limited to their own share. Decoding that determines the
//! properties of a file has a small share of its own, since it holds memory while bytes are in flight.
//!
//! A run that needs more than the large share has it exclusively, on one thread, and gets all memory that it requests:
//! one such run at most exceeds the budget. Damaged pictures, and those of files that are being opened, do not justify
//! that: past the large share they are refused.

mod reservation;
mod shares;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, mpsc};

pub use ffi::PictureAccount;
use ffi::{Ledger, Lender};

pub use self::reservation::{Pause, Reservation, ReservationRefusal};

use self::shares::{ALONE, BudgetShare, QueuedReservation, Shares, Usage};
use crate::error::{Error, ErrorKind, Result};
use crate::machine::Machine;
use crate::source::opening;
use crate::sync::unmodelled::{Mutex, MutexGuard};

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

/// The share and queue that a reservation belongs to, and whether it may exceed the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservationKind {
    /// A decode run.
    Run = 0,
    /// Determining the properties of a file.
    Probe = 1,
}

/// The use of a budget, for reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PictureMemoryUsage {
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
    /// A budget of `limit` bytes, at least 1 MiB, for all decoders of an engine.
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

    /// Bytes of the largest reservation that a run can have beside other runs.
    pub fn largest_run(&self) -> u64 {
        self.shares.large
    }

    /// The use of the budget now.
    pub fn now(&self) -> PictureMemoryUsage {
        let (bytes, peak_bytes) = (self.ledger.live(), self.ledger.peak());
        PictureMemoryUsage { bytes, peak_bytes, waiting: self.waiting.load(Relaxed) }
    }

    /// A reservation of `bytes`, if there is room now, and it overtakes no waiting caller too often; `None` otherwise.
    /// Never waits.
    pub fn try_reserve(self: &Arc<Self>, kind: ReservationKind, bytes: u64) -> Option<Reservation> {
        let mut usage = self.lock();
        let share = self.shares.share_of(kind, bytes);
        // A reservation of no bytes always fits.
        let is_free = bytes == 0 || (usage.queue(share).is_empty() && usage.has_room(share, bytes));
        if !is_free && !usage.is_stalled() {
            return None;
        }
        Some(self.begin(usage, kind, bytes))
    }

    /// Reserves `bytes`, and blocks the calling thread until there is room.
    pub fn reserve(self: &Arc<Self>, kind: ReservationKind, bytes: u64) -> Reservation {
        if let Some(reservation) = self.try_reserve(kind, bytes) {
            return reservation;
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        self.reserve_later(kind, bytes, || false, move |reservation| _ = sender.send(reservation));
        // An item leaves the queue only when its callback is called.
        receiver.recv().unwrap_or_else(|_| self.begin(self.lock(), kind, bytes))
    }

    /// Calls `then` with a reservation of `bytes` as soon as there is room, perhaps before this method returns, in the
    /// thread that makes the room. `then` must not take long: it passes the reservation on. Once `is_cancelled` returns
    /// true, `then` may be dropped instead.
    pub fn reserve_later(
        self: &Arc<Self>,
        kind: ReservationKind,
        bytes: u64,
        is_cancelled: impl Fn() -> bool + Send + 'static,
        then: impl FnOnce(Reservation) + Send + 'static,
    ) {
        let share = self.shares.share_of(kind, bytes);
        let queued = QueuedReservation { kind, bytes, is_cancelled: Box::new(is_cancelled), then: Box::new(then) };
        let mut usage = self.lock();
        usage.queue(share).push_back(queued);
        self.waiting.fetch_add(1, Relaxed);
        drop(usage);
        self.admit();
    }

    /// As `reserve`, for a probe, until its opening takes too long or is cancelled.
    ///
    /// # Errors
    /// `OpenTimeout`, `OpenCancelled`.
    fn reserve_for_probe(self: &Arc<Self>, bytes: u64) -> Result<Reservation> {
        if let Some(reservation) = self.try_reserve(ReservationKind::Probe, bytes) {
            return Ok(reservation);
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let own = Arc::clone(&is_cancelled);
        self.reserve_later(
            ReservationKind::Probe,
            bytes,
            move || own.load(Relaxed),
            move |reservation| _ = sender.send(reservation),
        );
        loop {
            if let Ok(reservation) = receiver.recv_timeout(opening::LOOK) {
                return Ok(reservation);
            }
            if let Err(error) = opening::check(0) {
                is_cancelled.store(true, Relaxed);
                self.remove_cancelled();
                return Err(error);
            }
        }
    }

    /// True if a caller waits for room.
    pub fn has_waiters(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    /// Drops the queued reservations that were cancelled, and admits those behind them.
    pub fn remove_cancelled(self: &Arc<Self>) {
        if !self.has_waiters() {
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
                Some(ReservationRefusal::Permanent { needed }) => return Err(self.too_much(needed)),
                Some(ReservationRefusal::Temporary { needed }) => bytes = needed,
            }
        }
    }

    /// The error of a run that needs `needed` bytes, more than the largest reservation.
    pub fn too_much(&self, needed: u64) -> Error {
        ErrorKind::PictureMemory { needed, limit: self.shares.large }.into()
    }

    fn begin(self: &Arc<Self>, mut usage: MutexGuard<'_, Usage>, kind: ReservationKind, bytes: u64) -> Reservation {
        usage.begin(kind, bytes);
        // Without the lock: an account is allocated.
        drop(usage);
        let exceeds = self.shares.share_of(kind, bytes) == BudgetShare::Large && bytes > self.shares.large;
        let granted = if exceeds { ALONE } else { bytes };
        Reservation::of(self, kind, PictureAccount::open(&self.ledger, self, kind as i32, granted, self.shares.large))
    }

    /// Calls the callbacks of the waiting reservations that have room now.
    fn admit(self: &Arc<Self>) {
        loop {
            let mut usage = self.lock();
            let Some(queued) = usage.next() else { return };
            self.waiting.fetch_sub(1, Relaxed);
            if (queued.is_cancelled)() {
                drop(usage);
                continue;
            }
            let reservation = self.begin(usage, queued.kind, queued.bytes);
            (queued.then)(reservation);
        }
    }

    fn admit_waiters(self: &Arc<Self>) {
        if self.has_waiters() {
            self.admit();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lender for Budget {
    fn grow(&self, kind: i32, granted: u64, used: u64) -> u64 {
        let kind = if kind == ReservationKind::Probe as i32 { ReservationKind::Probe } else { ReservationKind::Run };
        let mut usage = self.lock();
        usage.remove(kind, granted);
        let before = self.shares.share_of(kind, granted);
        let more = used.saturating_add(used / SPARE_PART).min(self.shares.large);
        // A growing run does not overtake waiting runs either: it is refused, ends, and waits as well.
        let may_have = |&bytes: &u64| {
            let share = self.shares.share_of(kind, bytes);
            let goes_ahead = share == BudgetShare::Large && before != BudgetShare::Large && usage.has_large_waiters();
            bytes >= used && bytes <= self.shares.large && !goes_ahead && usage.has_room(share, bytes)
        };
        let bytes = [more, used].into_iter().find(may_have).unwrap_or(granted);
        usage.add(kind, bytes);
        bytes
    }
}
