//! Work that several wait for is done once: who asks for what somebody else is waiting for waits for that.
//!
//! The work goes on as long as anybody waits, whoever began it, and ends when nobody does. Nothing is kept of what came of
//! it; that is for caches.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

/// Work by what it is for.
#[derive(Debug)]
pub(super) struct Flights<K, V: Clone> {
    under_way: Arc<Mutex<HashMap<K, Flight<V>>>>,
    next: AtomicU64,
}

type Work<V> = BoxFuture<'static, V>;

#[derive(Debug)]
struct Flight<V: Clone> {
    number: u64,
    work: WeakShared<Work<V>>,
}

impl<K, V: Clone> Default for Flights<K, V> {
    fn default() -> Flights<K, V> {
        Flights { under_way: Arc::default(), next: AtomicU64::new(0) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// However the work ends, it is not joined any more.
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
    /// The work for `key`: what is under way, with `true`, or else what `begin` makes.
    pub(super) fn join<F>(&self, key: &K, begin: impl FnOnce() -> F) -> (Shared<Work<V>>, bool)
    where
        F: Future<Output = V> + Send + 'static,
    {
        // To begin is only to say what is to be done: that may be under the lock.
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
        // Unless it is over, there is a way back to it.
        if let Some(weak) = work.downgrade() {
            under_way.insert(key.clone(), Flight { number, work: weak });
        }
        (work, false)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use tokio::sync::Notify;

    use super::Flights;

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
        // The one that began it leaves: the work goes on.
        first.abort();
        let _ = first.await;
        go.notify_one();
        assert_eq!((second.await, begun.load(Relaxed)), (7, 1));
        assert!(flights.under_way.lock().unwrap().is_empty(), "nothing is kept");
        // Nobody waits any more: it ends, and the next one begins anew.
        let (third, _) = flights.join(&1, work());
        drop(third);
        assert!(flights.under_way.lock().unwrap().is_empty());
        assert!(!flights.join(&1, work()).1);
    }
}
