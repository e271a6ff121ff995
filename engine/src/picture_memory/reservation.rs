//! Memory for the pictures of one decode run.

use std::sync::Arc;

use ffi::Account;

use super::shares::ALONE;
use super::{Budget, Kind};

/// Why a run was refused memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Other runs hold it: reserve `needed` bytes and try again.
    ForNow {
        /// Bytes to reserve.
        needed: u64,
    },
    /// It is more than the budget, and its purpose does not justify exceeding that.
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
    /// A reservation that the budget has counted already.
    pub(super) fn of(budget: &Arc<Budget>, kind: Kind, account: Account) -> Reservation {
        Reservation { budget: Arc::clone(budget), kind, account }
    }

    /// What decoders charge their pictures to.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Whether it may use as much as it needs, on one thread.
    pub fn is_alone(&self) -> bool {
        self.account.granted() == ALONE
    }

    /// Whether a picture was refused, and what to do about it.
    pub fn refusal(&self) -> Option<Refused> {
        let needed = self.account.refused()?;
        if self.account.is_refused_for_good() {
            return Some(Refused::ForGood { needed });
        }
        // Twice as much where that is not too much: otherwise the next picture would be refused.
        let twice = self.account.granted().saturating_mul(2).min(self.budget.largest_run());
        Some(Refused::ForNow { needed: needed.max(twice) })
    }

    /// Gives back what is not in use: no decoder is at work, and other runs need not wait for what else the caller does.
    pub fn give_back(&self) {
        let mut usage = self.budget.lock();
        let (before, after) = self.account.shrink();
        usage.remove(self.kind, before);
        usage.add(self.kind, after);
        drop(usage);
        self.budget.admit_if_any_waits();
    }

    /// Other runs need not count on this one to go on by itself, until the pause is dropped: the caller's code runs, which may
    /// wait for other runs of the engine.
    pub fn pause(&self) -> Pause {
        self.budget.lock().paused += 1;
        self.budget.admit_if_any_waits();
        Pause(Arc::clone(&self.budget))
    }
}

/// A run that is paused.
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
        self.budget.admit_if_any_waits();
    }
}
