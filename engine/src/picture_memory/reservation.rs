//! The memory for the pictures of one decode run. The budget that grants it is the parent module's.

use std::sync::Arc;

use ffi::PictureAccount;

use super::shares::ALONE;
use super::{Budget, ReservationKind};

/// The reason why a run was refused memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservationRefusal {
    /// Other runs hold it: the caller reserves `needed` bytes and tries again.
    Temporary {
        /// Bytes to reserve.
        needed: u64,
    },
    /// The run needs more than the budget, and its purpose does not justify that.
    Permanent {
        /// Bytes that the run needs.
        needed: u64,
    },
}

/// Memory for the pictures of one decode run, released on drop.
pub struct Reservation {
    budget: Arc<Budget>,
    kind: ReservationKind,
    account: PictureAccount,
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reservation").field("granted", &self.account.granted()).finish_non_exhaustive()
    }
}

impl Reservation {
    /// A reservation that the budget has counted already.
    pub(super) fn of(budget: &Arc<Budget>, kind: ReservationKind, account: PictureAccount) -> Reservation {
        Reservation { budget: Arc::clone(budget), kind, account }
    }

    /// The account that decoders charge their pictures to.
    pub fn account(&self) -> &PictureAccount {
        &self.account
    }

    /// True if it may use as much as it needs, beyond the budget, on one thread.
    pub fn is_exclusive(&self) -> bool {
        self.account.granted() == ALONE
    }

    /// The refusal of a picture, if there was one.
    pub fn refusal(&self) -> Option<ReservationRefusal> {
        let needed = self.account.refused()?;
        if self.account.is_refused_for_good() {
            return Some(ReservationRefusal::Permanent { needed });
        }
        // Twice as much if that is within bounds: otherwise the next picture would be refused.
        let twice = self.account.granted().saturating_mul(2).min(self.budget.largest_run());
        Some(ReservationRefusal::Temporary { needed: needed.max(twice) })
    }

    /// Releases unused bytes while no decoder is at work, so that other runs do not wait for the caller's other work.
    pub fn release_unused(&self) {
        let mut usage = self.budget.lock();
        let (before, after) = self.account.shrink();
        usage.remove(self.kind, before);
        usage.add(self.kind, after);
        drop(usage);
        self.budget.admit_waiters();
    }

    /// Marks the run as paused until the result is dropped: the caller's code runs, which may wait for other runs of
    /// the engine. So other runs do not rely on the progress of this one.
    pub fn pause(&self) -> Pause {
        self.budget.lock().paused += 1;
        self.budget.admit_waiters();
        Pause(Arc::clone(&self.budget))
    }
}

/// A paused run. While it exists, the reservation's run does not count as one that will end; see `shares`.
#[derive(Debug)]
pub struct Pause(Arc<Budget>);

impl Drop for Pause {
    fn drop(&mut self) {
        self.0.lock().paused -= 1;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let granted = self.account.granted();
        let mut usage = self.budget.lock();
        usage.remove(self.kind, granted);
        usage.holders -= 1;
        drop(usage);
        self.budget.admit_waiters();
    }
}
