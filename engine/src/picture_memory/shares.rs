//! The shares of the budget: the share that a reservation counts against, and whether it has room there. Calling the
//! waiting callers is left to the parent module.

use std::collections::VecDeque;

use super::{Kind, Reservation};

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

/// The share that a reservation is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    Probe,
    Small,
    Large,
}

impl Share {
    pub(super) const ALL: [Share; 3] = [Share::Probe, Share::Small, Share::Large];
}

impl Shares {
    pub(super) fn of(limit: u64) -> Shares {
        let (probe, small) = (limit / 16, limit * 3 / 16);
        Shares { probe, small, large: limit - probe - small, small_run: limit / 8, small_probe: limit / 32 }
    }

    pub(super) fn share_of(&self, kind: Kind, bytes: u64) -> Share {
        match kind {
            Kind::Probe if bytes <= self.small_probe => Share::Probe,
            Kind::Run if bytes <= self.small_run => Share::Small,
            _ => Share::Large,
        }
    }

    /// The bytes that a reservation counts: the whole large share if it may exceed it.
    fn counted(&self, share: Share, bytes: u64) -> u64 {
        if share == Share::Large { bytes.min(self.large) } else { bytes }
    }
}

/// A caller that waits for room.
pub(super) struct Waiting {
    pub(super) kind: Kind,
    pub(super) bytes: u64,
    pub(super) is_cancelled: Box<dyn Fn() -> bool + Send>,
    pub(super) then: Box<dyn FnOnce(Reservation) + Send>,
}

/// The reserved bytes, and the waiting callers.
pub(super) struct Usage {
    shares: Shares,
    probes: u64,
    small: u64,
    large: u64,
    /// Number of reservations.
    pub(super) holders: usize,
    /// The subset of `holders` with a caller that runs code that may wait for other runs.
    pub(super) paused: usize,
    probe_queue: VecDeque<Waiting>,
    small_queue: VecDeque<Waiting>,
    large_queue: VecDeque<Waiting>,
    /// Small runs that overtook the first large one, with memory that it could use.
    overtaken: u32,
}

impl Usage {
    pub(super) fn of(shares: Shares) -> Usage {
        let [probe_queue, small_queue, large_queue] = [const { VecDeque::new() }; 3];
        let (probes, small, large, holders, paused, overtaken) = (0, 0, 0, 0, 0, 0);
        Usage { shares, probes, small, large, holders, paused, probe_queue, small_queue, large_queue, overtaken }
    }

    fn count(&mut self, share: Share) -> &mut u64 {
        match share {
            Share::Probe => &mut self.probes,
            Share::Small => &mut self.small,
            Share::Large => &mut self.large,
        }
    }

    pub(super) fn queue(&mut self, share: Share) -> &mut VecDeque<Waiting> {
        match share {
            Share::Probe => &mut self.probe_queue,
            Share::Small => &mut self.small_queue,
            Share::Large => &mut self.large_queue,
        }
    }

    pub(super) fn add(&mut self, kind: Kind, bytes: u64) {
        let share = self.shares.share_of(kind, bytes);
        *self.count(share) += self.shares.counted(share, bytes);
    }

    pub(super) fn remove(&mut self, kind: Kind, bytes: u64) {
        let share = self.shares.share_of(kind, bytes);
        *self.count(share) -= self.shares.counted(share, bytes);
    }

    /// Counts a new reservation.
    pub(super) fn begin(&mut self, kind: Kind, bytes: u64) {
        match self.shares.share_of(kind, bytes) {
            Share::Large => self.overtaken = 0,
            Share::Small if self.small + bytes > self.shares.small && !self.large_queue.is_empty() => {
                self.overtaken += 1;
            }
            Share::Small | Share::Probe => {}
        }
        self.add(kind, bytes);
        self.holders += 1;
    }

    /// True if all reservations belong to callers that may wait for runs in the queues.
    pub(super) fn is_stalled(&self) -> bool {
        self.holders == self.paused
    }

    pub(super) fn is_large_awaited(&self) -> bool {
        !self.large_queue.is_empty()
    }

    fn fits(&self, share: Share, bytes: u64) -> bool {
        let (shares, bytes) = (&self.shares, self.shares.counted(share, bytes));
        let fits_at_all = self.small + self.large + bytes <= shares.small + shares.large;
        match share {
            Share::Probe => self.probes + bytes <= shares.probe,
            Share::Small => self.small + bytes <= shares.small || fits_at_all,
            Share::Large => self.large + bytes <= shares.large && fits_at_all,
        }
    }

    /// True if a new reservation fits, and does not overtake a large run too often.
    pub(super) fn has_room(&self, share: Share, bytes: u64) -> bool {
        let is_own = share != Share::Small || self.small + bytes <= self.shares.small;
        let is_held_back = !is_own && self.is_large_awaited() && self.overtaken >= OVERTAKING;
        !is_held_back && self.fits(share, bytes)
    }

    /// Removes the next caller with room from its queue.
    pub(super) fn next(&mut self) -> Option<Waiting> {
        for share in Share::ALL {
            let Some((kind, bytes)) = self.queue(share).front().map(|first| (first.kind, first.bytes)) else {
                continue;
            };
            if self.has_room(self.shares.share_of(kind, bytes), bytes) || self.is_stalled() {
                return self.queue(share).pop_front();
            }
        }
        None
    }

    /// Removes the cancelled callers from the queues.
    pub(super) fn take_cancelled(&mut self) -> Vec<Waiting> {
        let mut cancelled = Vec::new();
        for share in Share::ALL {
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
