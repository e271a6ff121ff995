//! Single-flight: concurrent requests for one key share one future.
//!
//! The work continues as long as one caller waits, even if the caller that began it is cancelled, and is dropped with
//! the last caller. Results are not kept: callers have caches.

use std::collections::HashMap;
use std::hash::Hash;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use tokio::sync::Notify;

use crate::locks::{Mutex, MutexGuard};

/// Work in progress, by key.
#[derive(Debug)]
pub(super) struct SingleFlight<K, V: Clone> {
    ongoing: Arc<Mutex<HashMap<K, FlightEntry<V>>>>,
    next: AtomicU64,
    /// Callers that wait for a permit to begin, by key: their number, and the notification that work has begun.
    waiters: Mutex<HashMap<K, (usize, Arc<Notify>)>>,
}

/// The role of a caller after [`SingleFlight::lead_or_join`].
pub(super) enum FlightRole<P, V: Clone> {
    /// The caller has its permit and has to begin the work with [`SingleFlight::join`].
    Leader(P),
    /// Another caller began first; its work is shared.
    Follower(Shared<FlightFuture<V>>),
}

/// Shared work in progress.
pub(super) type FlightFuture<V> = BoxFuture<'static, V>;

#[derive(Debug)]
struct FlightEntry<V: Clone> {
    number: u64,
    work: WeakShared<FlightFuture<V>>,
}

impl<K, V: Clone> Default for SingleFlight<K, V> {
    fn default() -> SingleFlight<K, V> {
        SingleFlight { ongoing: Arc::default(), next: AtomicU64::new(0), waiters: Mutex::default() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the work from the map when it is dropped: finished or not.
struct FlightGuard<K: Eq + Hash, V: Clone> {
    ongoing: Arc<Mutex<HashMap<K, FlightEntry<V>>>>,
    key: K,
    number: u64,
}

impl<K: Eq + Hash, V: Clone> Drop for FlightGuard<K, V> {
    fn drop(&mut self) {
        let mut ongoing = lock(&self.ongoing);
        if ongoing.get(&self.key).is_some_and(|shared| shared.number == self.number) {
            ongoing.remove(&self.key);
        }
    }
}

impl<K, V> SingleFlight<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The work for `key`: that in progress, with `true`, or else the future that `begin` returns, with `false`.
    pub(super) fn join<F>(&self, key: &K, begin: impl FnOnce() -> F) -> (Shared<FlightFuture<V>>, bool)
    where
        F: Future<Output = V> + Send + 'static,
    {
        // `begin` only creates the future and does not block, so that it may run under the lock.
        let mut ongoing = lock(&self.ongoing);
        if let Some(work) = ongoing.get(key).and_then(|shared| shared.work.upgrade()) {
            return (work, true);
        }
        let number = self.next.fetch_add(1, Relaxed);
        let guard = FlightGuard { ongoing: Arc::clone(&self.ongoing), key: key.clone(), number };
        let future = begin();
        let work = async move {
            let _guard = guard;
            future.await
        };
        let work = work.boxed().shared();
        // `downgrade` returns `None` only for finished work.
        if let Some(weak) = work.downgrade() {
            ongoing.insert(key.clone(), FlightEntry { number, work: weak });
        }
        drop(ongoing);
        if let Some((_, started)) = lock(&self.waiters).get(key) {
            started.notify_waiters();
        }
        (work, false)
    }

    /// Waits for `enter`, the permit to begin the work for `key`, or joins work that another caller begins meanwhile.
    /// Each caller waits for a permit of its own, so that a caller far back in the queue delays no other.
    pub(super) async fn lead_or_join<P>(&self, key: &K, enter: impl Future<Output = P>) -> FlightRole<P, V> {
        let waiter = FlightWaiter::new(self, key);
        let mut enter = pin!(enter);
        loop {
            let mut started = pin!(waiter.started.notified());
            started.as_mut().enable();
            if let Some(work) = lock(&self.ongoing).get(key).and_then(|shared| shared.work.upgrade()) {
                return FlightRole::Follower(work);
            }
            tokio::select! {
                biased;
                entered = &mut enter => return FlightRole::Leader(entered),
                () = started => {}
            }
        }
    }
}

/// A caller that waits for its permit to begin the work for a key.
struct FlightWaiter<'a, K: Eq + Hash, V: Clone> {
    single_flight: &'a SingleFlight<K, V>,
    key: &'a K,
    started: Arc<Notify>,
}

impl<'a, K: Eq + Hash + Clone, V: Clone> FlightWaiter<'a, K, V> {
    fn new(single_flight: &'a SingleFlight<K, V>, key: &'a K) -> FlightWaiter<'a, K, V> {
        let mut waiters = lock(&single_flight.waiters);
        let (count, started) = waiters.entry(key.clone()).or_default();
        *count += 1;
        FlightWaiter { single_flight, key, started: Arc::clone(started) }
    }
}

impl<K: Eq + Hash, V: Clone> Drop for FlightWaiter<'_, K, V> {
    fn drop(&mut self) {
        let mut waiters = lock(&self.single_flight.waiters);
        if let Some((count, _)) = waiters.get_mut(self.key) {
            *count -= 1;
            if *count == 0 {
                waiters.remove(self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use tokio::sync::Notify;

    use super::{FlightRole, SingleFlight};

    #[tokio::test]
    async fn a_caller_without_a_permit_delays_no_other_and_joins_it() {
        let single_flight: SingleFlight<u32, u32> = SingleFlight::default();
        let (far, go) = (std::future::pending::<()>(), Arc::new(Notify::new()));
        let mut first = Box::pin(single_flight.lead_or_join(&1, far));
        assert!(futures_util::poll!(&mut first).is_pending());
        assert!(
            matches!(single_flight.lead_or_join(&1, async {}).await, FlightRole::Leader(())),
            "it has a permit of its own"
        );
        let own = Arc::clone(&go);
        let (second, joined) = single_flight.join(&1, || async move {
            own.notified().await;
            7
        });
        assert!(!joined);
        let FlightRole::Follower(work) = first.await else { panic!("it has no permit") };
        go.notify_one();
        assert_eq!((second.await, work.await), (7, 7));
        assert!(single_flight.waiters.lock().unwrap().is_empty() && single_flight.ongoing.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn concurrent_callers_share_one_future() {
        let single_flight: SingleFlight<u32, u32> = SingleFlight::default();
        let (started, go) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        let work = || {
            let (started, go) = (Arc::clone(&started), Arc::clone(&go));
            || async move {
                started.fetch_add(1, Relaxed);
                go.notified().await;
                7
            }
        };
        let (first, joined) = single_flight.join(&1, work());
        assert!(!joined);
        let first = tokio::spawn(first);
        tokio::task::yield_now().await;
        let (second, joined) = single_flight.join(&1, work());
        assert!(joined);
        // The caller that began the work is cancelled: the work continues.
        first.abort();
        let _ = first.await;
        go.notify_one();
        assert_eq!((second.await, started.load(Relaxed)), (7, 1));
        assert!(single_flight.ongoing.lock().unwrap().is_empty(), "nothing is kept");
        // The last caller is cancelled: the work is dropped, and the next caller begins anew.
        let (third, _) = single_flight.join(&1, work());
        drop(third);
        assert!(single_flight.ongoing.lock().unwrap().is_empty());
        assert!(!single_flight.join(&1, work()).1);
    }
}
