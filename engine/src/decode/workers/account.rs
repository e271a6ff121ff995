//! Accounts: the tasks of an account have one share of the workers together. This module measures their time; the order
//! of tasks is left to `fair_queue`.

use std::time::Duration;

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::sync::{Instant, Mutex};

/// The share of all workers that a client may use continuously and still count as light.
const LIGHT: f64 = 0.25;
/// The half-life of a client's recent use, in seconds.
const HALF_LIFE_S: f64 = 4.0;

/// The account that tasks are charged to: that of a request, or that of a client with all of its requests.
#[derive(Debug, Default)]
pub struct Account {
    /// The end of its last task in virtual time, in nanoseconds.
    end_ns: AtomicU64,
    /// Time that workers have spent on its tasks.
    worked_ns: AtomicU64,
    is_client: bool,
    recent: Mutex<RecentUse>,
}

/// The recent use of a client, which decays exponentially.
#[derive(Debug, Default)]
struct RecentUse {
    used_s: f64,
    /// The part of `worked_ns` that `used_s` includes.
    seen_ns: u64,
    at: Option<Instant>,
}

impl Account {
    /// The account of a client, which all of its requests share.
    pub fn of_client() -> Account {
        Account { is_client: true, ..Account::default() }
    }

    /// Time that workers have spent on its tasks so far, in seconds.
    pub fn worked_s(&self) -> f64 {
        self.worked_ns.load(Relaxed) as f64 / 1e9
    }

    /// Charges time that was spent on its tasks.
    pub fn charge(&self, time: Duration) {
        self.worked_ns.fetch_add(nanos(time), Relaxed);
    }

    /// Records the end of a task: its measured cost replaces the expected one.
    pub fn settle(&self, expected_ns: u64, took: Duration) {
        self.charge(took);
        let settle = |end_ns: u64| Some(end_ns.saturating_add(nanos(took)).saturating_sub(expected_ns));
        let _ = self.end_ns.fetch_update(Relaxed, Relaxed, settle);
    }

    pub(super) fn is_client(&self) -> bool {
        self.is_client
    }

    /// The end of its last task in virtual time.
    pub(super) fn end_ns(&self) -> u64 {
        self.end_ns.load(Relaxed)
    }

    /// A task of this expected cost starts at `start_ns` or at the end of the last one, whichever is later.
    pub(super) fn extend(&self, start_ns: u64, cost_ns: u64) {
        // `settle` may run concurrently.
        let extend = |end_ns: u64| Some(end_ns.max(start_ns).saturating_add(cost_ns));
        let _ = self.end_ns.fetch_update(Relaxed, Relaxed, extend);
    }

    /// True for a client with little recent use of `threads` workers.
    pub(super) fn is_light(&self, threads: usize) -> bool {
        if !self.is_client {
            return false;
        }
        let mut recent = self.recent.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (now, worked_ns) = (Instant::now(), self.worked_ns.load(Relaxed));
        let passed_s = recent.at.map_or(0.0, |at| now.duration_since(at).as_secs_f64());
        recent.used_s *= 0.5_f64.powf(passed_s / HALF_LIFE_S);
        recent.used_s += worked_ns.saturating_sub(recent.seen_ns) as f64 / 1e9;
        (recent.seen_ns, recent.at) = (worked_ns, Some(now));
        recent.used_s <= LIGHT * threads as f64 * HALF_LIFE_S / std::f64::consts::LN_2
    }

    /// Identifies the account.
    pub(super) fn owner(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
