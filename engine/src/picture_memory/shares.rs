//! The shares of the budget: the share that a reservation counts against, and whether it has room there. Calling the
//! callbacks is left to the parent module.

use std::collections::VecDeque;

use super::{Reservation, ReservationKind};

/// The granted bytes of a run that may use as many as it needs.
pub(super) const ALONE: u64 = i64::MAX as u64;
/// Small runs that may overtake a waiting large one.
pub(super) const OVERTAKING: u32 = 32;

/// The bytes of each share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shares {
    pub(super) probe: u64,
    pub(super) small: u64,
    pub(super) large: u64,
    /// A run with more bytes is large.
    small_run: u64,
    /// A probe with more bytes counts as a large run.
    small_probe: u64,
}

/// The share that a reservation is charged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BudgetShare {
    Probe,
    Small,
    Large,
}

impl BudgetShare {
    pub(super) const ALL: [BudgetShare; 3] = [BudgetShare::Probe, BudgetShare::Small, BudgetShare::Large];
}

impl Shares {
    pub(super) fn of(limit: u64) -> Shares {
        let (probe, small) = (limit / 16, limit * 3 / 16);
        Shares { probe, small, large: limit - probe - small, small_run: limit / 8, small_probe: limit / 32 }
    }

    pub(super) fn share_of(&self, kind: ReservationKind, bytes: u64) -> BudgetShare {
        match kind {
            ReservationKind::Probe if bytes <= self.small_probe => BudgetShare::Probe,
            ReservationKind::Run if bytes <= self.small_run => BudgetShare::Small,
            _ => BudgetShare::Large,
        }
    }

    /// The bytes that a reservation charges to its share: the whole large share if it may exceed it.
    fn counted(&self, share: BudgetShare, bytes: u64) -> u64 {
        if share == BudgetShare::Large { bytes.min(self.large) } else { bytes }
    }
}

/// A reservation that waits for room.
pub(super) struct QueuedReservation {
    pub(super) kind: ReservationKind,
    pub(super) bytes: u64,
    pub(super) is_cancelled: Box<dyn Fn() -> bool + Send>,
    pub(super) then: Box<dyn FnOnce(Reservation) + Send>,
}

/// The reserved bytes, and the queues of waiting reservations.
pub(super) struct Usage {
    shares: Shares,
    probes: u64,
    small: u64,
    large: u64,
    /// Number of reservations.
    pub(super) holders: usize,
    /// The number of `holders` that are paused: the code of their callers runs, and may wait for other runs.
    pub(super) paused: usize,
    probe_queue: VecDeque<QueuedReservation>,
    small_queue: VecDeque<QueuedReservation>,
    large_queue: VecDeque<QueuedReservation>,
    /// Small runs that overtook the first large one, with memory that it could use.
    overtaken: u32,
}

impl Usage {
    pub(super) fn of(shares: Shares) -> Usage {
        let [probe_queue, small_queue, large_queue] = [const { VecDeque::new() }; 3];
        let (probes, small, large, holders, paused, overtaken) = (0, 0, 0, 0, 0, 0);
        Usage { shares, probes, small, large, holders, paused, probe_queue, small_queue, large_queue, overtaken }
    }

    fn count(&mut self, share: BudgetShare) -> &mut u64 {
        match share {
            BudgetShare::Probe => &mut self.probes,
            BudgetShare::Small => &mut self.small,
            BudgetShare::Large => &mut self.large,
        }
    }

    pub(super) fn queue(&mut self, share: BudgetShare) -> &mut VecDeque<QueuedReservation> {
        match share {
            BudgetShare::Probe => &mut self.probe_queue,
            BudgetShare::Small => &mut self.small_queue,
            BudgetShare::Large => &mut self.large_queue,
        }
    }

    pub(super) fn add(&mut self, kind: ReservationKind, bytes: u64) {
        let share = self.shares.share_of(kind, bytes);
        *self.count(share) += self.shares.counted(share, bytes);
    }

    pub(super) fn remove(&mut self, kind: ReservationKind, bytes: u64) {
        let share = self.shares.share_of(kind, bytes);
        *self.count(share) -= self.shares.counted(share, bytes);
    }

    /// Counts a new reservation.
    pub(super) fn begin(&mut self, kind: ReservationKind, bytes: u64) {
        match self.shares.share_of(kind, bytes) {
            BudgetShare::Large => self.overtaken = 0,
            BudgetShare::Small if self.small + bytes > self.shares.small && !self.large_queue.is_empty() => {
                self.overtaken += 1;
            }
            BudgetShare::Small | BudgetShare::Probe => {}
        }
        self.add(kind, bytes);
        self.holders += 1;
    }

    /// True if every reservation is paused, so that none of them is sure to end: then the next one is admitted without
    /// room.
    pub(super) fn is_stalled(&self) -> bool {
        self.holders == self.paused
    }

    pub(super) fn has_large_waiters(&self) -> bool {
        !self.large_queue.is_empty()
    }

    fn fits(&self, share: BudgetShare, bytes: u64) -> bool {
        let (shares, bytes) = (&self.shares, self.shares.counted(share, bytes));
        let fits_at_all = self.small + self.large + bytes <= shares.small + shares.large;
        match share {
            BudgetShare::Probe => self.probes + bytes <= shares.probe,
            BudgetShare::Small => self.small + bytes <= shares.small || fits_at_all,
            BudgetShare::Large => self.large + bytes <= shares.large && fits_at_all,
        }
    }

    /// True if a new reservation fits, and does not overtake a large run too often.
    pub(super) fn has_room(&self, share: BudgetShare, bytes: u64) -> bool {
        let is_own = share != BudgetShare::Small || self.small + bytes <= self.shares.small;
        let is_held_back = !is_own && self.has_large_waiters() && self.overtaken >= OVERTAKING;
        !is_held_back && self.fits(share, bytes)
    }

    /// Removes the next reservation with room from its queue.
    pub(super) fn next(&mut self) -> Option<QueuedReservation> {
        for share in BudgetShare::ALL {
            let Some((kind, bytes)) = self.queue(share).front().map(|first| (first.kind, first.bytes)) else {
                continue;
            };
            if self.has_room(self.shares.share_of(kind, bytes), bytes) || self.is_stalled() {
                return self.queue(share).pop_front();
            }
        }
        None
    }

    /// Removes the cancelled reservations from the queues.
    pub(super) fn take_cancelled(&mut self) -> Vec<QueuedReservation> {
        let mut cancelled = Vec::new();
        for share in BudgetShare::ALL {
            for waiting in std::mem::take(self.queue(share)) {
                if (waiting.is_cancelled)() {
                    cancelled.push(waiting);
                } else {
                    self.queue(share).push_back(waiting);
                }
            }
        }
        cancelled
    }
}
