//! Statistics and limits of one server, shared by its sources: requests in flight, times to the first byte, and the
//! budget of second requests (hedging).
//!
//! In every store a few answers take ten times as long as the others, and a second request mostly gets its answer at
//! once. But an overloaded server must not get twice the requests: hedging is limited to a share of all requests.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::options::HttpOptions;
use crate::sync::unmodelled::{Mutex, MutexGuard};

/// Answers in the statistics.
const REMEMBERED: usize = 128;
/// Answers before a percentile is used.
const ENOUGH: usize = 16;
/// The percentile of the time to the first byte after which a request is hedged.
const IN_TIME: f64 = 0.95;
/// The least time before a request is hedged.
const LEAST: Duration = Duration::from_millis(20);
/// The least gap within a body before the rest is hedged: most gaps come from a full network.
const GAP: Duration = Duration::from_millis(250);
/// The wait for a connection that is about to become idle.
const MOMENT: Duration = Duration::from_millis(5);
/// Second requests that may accumulate.
const SAVED: f64 = 8.0;

/// One server.
#[derive(Debug)]
pub(super) struct HostLimiter {
    /// Limits the requests in flight.
    permits: Arc<Semaphore>,
    /// Answers that have arrived, but whose connections are not yet idle.
    ending: AtomicUsize,
    has_ended: Notify,
    /// Second requests per request.
    share: f64,
    latency: Mutex<HostLatency>,
}

#[derive(Debug, Default)]
struct HostLatency {
    waits: VecDeque<Duration>,
    /// The percentile of times to the first byte.
    most: Option<Duration>,
    /// Second requests allowed now.
    credit: f64,
}

impl HostLimiter {
    pub(super) fn new(options: &HttpOptions) -> HostLimiter {
        let permits = Arc::new(Semaphore::new(options.connections.max(1)));
        let share = options.hedged_share.clamp(0.0, 1.0);
        HostLimiter { permits, ending: AtomicUsize::new(0), has_ended: Notify::new(), share, latency: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HostLatency> {
        self.latency.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A permit for a request. Waits a moment for a connection that is about to become idle: a new one costs at least a
    /// round trip.
    pub(super) async fn permit(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("it is never closed");
        let ended = self.has_ended.notified();
        if self.ending.load(Relaxed) > 0 {
            let _ = timeout(MOMENT, ended).await;
        }
        permit
    }

    /// All of an answer has arrived. Called before a reader can see the bytes.
    pub(super) fn begin_release(&self) {
        self.ending.fetch_add(1, Relaxed);
    }

    /// Its connection is idle.
    pub(super) fn finish_release(&self) {
        self.ending.fetch_sub(1, Relaxed);
        self.has_ended.notify_waiters();
    }

    /// As `permit`, without waiting.
    pub(super) fn permit_now(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    /// Counts a request, which adds to the budget of second requests.
    pub(super) fn count_request(&self) {
        let mut latency = self.lock();
        latency.credit = (latency.credit + self.share).min(SAVED);
    }

    /// Records a time to the first byte.
    pub(super) fn record_latency(&self, wait: Duration) {
        let mut latency = self.lock();
        if latency.waits.len() == REMEMBERED {
            latency.waits.pop_front();
        }
        latency.waits.push_back(wait);
        if latency.waits.len() < ENOUGH {
            return;
        }
        let mut waits: Vec<Duration> = latency.waits.iter().copied().collect();
        let place = ((waits.len() as f64 * IN_TIME) as usize).min(waits.len() - 1);
        latency.most = Some(*waits.select_nth_unstable(place).1);
    }

    /// The delay of a second request: after a request for the first bytes of an answer, or within a body for the next.
    /// `None` without hedging, or with too few answers in the statistics.
    pub(super) fn hedge_delay(&self, is_first: bool) -> Option<Duration> {
        if self.share == 0.0 {
            return None;
        }
        let wait = self.lock().most?.max(LEAST);
        Some(if is_first { wait } else { (4 * wait).max(GAP) })
    }

    /// Takes a second request from the budget, if it suffices.
    pub(super) fn may_hedge(&self) -> bool {
        let mut latency = self.lock();
        let may = latency.credit >= 1.0;
        if may {
            latency.credit -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ENOUGH, HostLimiter, LEAST};
    use crate::source::remote::HttpOptions;

    #[test]
    fn patience_is_what_most_answers_take() {
        let host = HostLimiter::new(&HttpOptions::default());
        (1..ENOUGH).for_each(|_| host.record_latency(Duration::from_millis(30)));
        assert_eq!(host.hedge_delay(true), None, "too few");
        (0..100).for_each(|_| host.record_latency(Duration::from_millis(40)));
        assert_eq!(host.hedge_delay(true), Some(Duration::from_millis(40)));
        (0..200).for_each(|_| host.record_latency(Duration::from_micros(300)));
        assert_eq!(host.hedge_delay(true), Some(LEAST), "only the last ones count");
        assert!(host.hedge_delay(false) > host.hedge_delay(true));
    }

    #[test]
    fn second_requests_are_a_share_of_all() {
        let host = HostLimiter::new(&HttpOptions { hedged_share: 0.1, ..HttpOptions::default() });
        let mut hedged = 0;
        for _ in 0..1000 {
            host.count_request();
            hedged += u32::from(host.may_hedge());
        }
        assert!((90..=101).contains(&hedged), "{hedged}");
        let none = HostLimiter::new(&HttpOptions { hedged_share: 0.0, ..HttpOptions::default() });
        (0..100).for_each(|_| none.record_latency(Duration::ZERO));
        assert_eq!(none.hedge_delay(true), None);
    }
}
