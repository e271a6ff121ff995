//! Single-flight: concurrent requests for one key share one future.
//!
//! The work goes on as long as one caller waits, even if the caller that began it has gone, and ends when the last one
//! goes. Results are not kept: that is for caches.

use std::collections::HashMap;
use std::hash::Hash;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use tokio::sync::Notify;

/// Work in progress, by key.
#[derive(Debug)]
pub(super) struct Flights<K, V: Clone> {
    under_way: Arc<Mutex<HashMap<K, Flight<V>>>>,
    next: AtomicU64,
    /// Callers that wait for a turn of their own: their number, and the notification that another caller has begun.
    turns: Mutex<HashMap<K, (usize, Arc<Notify>)>>,
}

/// The result of waiting for a turn.
pub(super) enum Turn<P, V: Clone> {
    /// The caller has its turn and begins the work.
    Own(P),
    /// Another caller began before: the caller shares its work.
    Joined(Shared<Work<V>>),
}

/// Shared work in progress.
pub(super) type Work<V> = BoxFuture<'static, V>;

#[derive(Debug)]
struct Flight<V: Clone> {
    number: u64,
    work: WeakShared<Work<V>>,
}

impl<K, V: Clone> Default for Flights<K, V> {
    fn default() -> Flights<K, V> {
        Flights { under_way: Arc::default(), next: AtomicU64::new(0), turns: Mutex::default() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the work from the map, however it ends.
struct Landing<K: Eq + Hash, V: Clone> {
    under_way: Arc<Mutex<HashMap<K, Flight<V>>>>,
    key: K,
    number: u64,
}

impl<K: Eq + Hash, V: Clone> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let mut under_way = lock(&self.under_way);
        if under_way.get(&self.key).is_some_and(|flight| flight.number == self.number) {
            under_way.remove(&self.key);
        }
    }
}

impl<K, V> Flights<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The work for `key`: the work in progress, with `true`, or what `begin` makes.
    pub(super) fn join<F>(&self, key: &K, begin: impl FnOnce() -> F) -> (Shared<Work<V>>, bool)
    where
        F: Future<Output = V> + Send + 'static,
    {
        // `begin` only creates the future, so it may run under the lock.
        let mut under_way = lock(&self.under_way);
        if let Some(work) = under_way.get(key).and_then(|flight| flight.work.upgrade()) {
            return (work, true);
        }
        let number = self.next.fetch_add(1, Relaxed);
        let landing = Landing { under_way: Arc::clone(&self.under_way), key: key.clone(), number };
        let begun = begin();
        let work = async move {
            let _landing = landing;
            begun.await
        };
        let work = work.boxed().shared();
        // Work that is not over can be joined.
        if let Some(weak) = work.downgrade() {
            under_way.insert(key.clone(), Flight { number, work: weak });
        }
        drop(under_way);
        if let Some((_, begun)) = lock(&self.turns).get(key) {
            begun.notify_waiters();
        }
        (work, false)
    }

    /// Waits for `enter`, the turn to begin the work for `key`, or joins work that another caller has begun. Each
    /// caller waits for a turn of its own, so that a caller whose turn is far off delays no other.
    pub(super) async fn turn<P>(&self, key: &K, enter: impl Future<Output = P>) -> Turn<P, V> {
        let waiting = Waiting::new(self, key);
        let mut enter = pin!(enter);
        loop {
            let mut begun = pin!(waiting.begun.notified());
            begun.as_mut().enable();
            if let Some(work) = lock(&self.under_way).get(key).and_then(|flight| flight.work.upgrade()) {
                return Turn::Joined(work);
            }
            tokio::select! {
                biased;
                entered = &mut enter => return Turn::Own(entered),
                () = begun => {}
            }
        }
    }
}

/// A caller that waits for its turn to begin the work for a key.
struct Waiting<'a, K: Eq + Hash, V: Clone> {
    flights: &'a Flights<K, V>,
    key: &'a K,
    begun: Arc<Notify>,
}

impl<'a, K: Eq + Hash + Clone, V: Clone> Waiting<'a, K, V> {
    fn new(flights: &'a Flights<K, V>, key: &'a K) -> Waiting<'a, K, V> {
        let mut turns = lock(&flights.turns);
        let (count, begun) = turns.entry(key.clone()).or_default();
        *count += 1;
        Waiting { flights, key, begun: Arc::clone(begun) }
    }
}

impl<K: Eq + Hash, V: Clone> Drop for Waiting<'_, K, V> {
    fn drop(&mut self) {
        let mut turns = lock(&self.flights.turns);
        if let Some((count, _)) = turns.get_mut(self.key) {
            *count -= 1;
            if *count == 0 {
                turns.remove(self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use tokio::sync::Notify;

    use super::{Flights, Turn};

    #[tokio::test]
    async fn a_caller_whose_turn_is_far_off_keeps_back_no_other_and_joins_it() {
        let flights: Flights<u32, u32> = Flights::default();
        let (far, go) = (std::future::pending::<()>(), Arc::new(Notify::new()));
        let mut first = Box::pin(flights.turn(&1, far));
        assert!(futures_util::poll!(&mut first).is_pending());
        assert!(matches!(flights.turn(&1, async {}).await, Turn::Own(())), "its own turn has come");
        let own = Arc::clone(&go);
        let (second, joined) = flights.join(&1, || async move {
            own.notified().await;
            7
        });
        assert!(!joined);
        let Turn::Joined(work) = first.await else { panic!("its turn has not come") };
        go.notify_one();
        assert_eq!((second.await, work.await), (7, 7));
        assert!(flights.turns.lock().unwrap().is_empty() && flights.under_way.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn who_asks_together_waits_for_the_same() {
        let flights: Flights<u32, u32> = Flights::default();
        let (begun, go) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        let work = || {
            let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
            || async move {
                begun.fetch_add(1, Relaxed);
                go.notified().await;
                7
            }
        };
        let (first, joined) = flights.join(&1, work());
        assert!(!joined);
        let first = tokio::spawn(first);
        tokio::task::yield_now().await;
        let (second, joined) = flights.join(&1, work());
        assert!(joined);
        // The caller that began it leaves: the work goes on.
        first.abort();
        let _ = first.await;
        go.notify_one();
        assert_eq!((second.await, begun.load(Relaxed)), (7, 1));
        assert!(flights.under_way.lock().unwrap().is_empty(), "nothing is kept");
        // The last caller leaves: the work ends, and the next caller begins anew.
        let (third, _) = flights.join(&1, work());
        drop(third);
        assert!(flights.under_way.lock().unwrap().is_empty());
        assert!(!flights.join(&1, work()).1);
    }
}
