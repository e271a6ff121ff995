//! Who may use the engine now, and who waits: so many at one time, so many waiting, and nobody at the cost of others.
//!
//! Those who wait take turns: first between clients, then between the connections of a client. When there is no more room
//! to wait, the newcomer is refused, unless another client has more waiting than it has: then that one's last is.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// Nothing that takes longer to bring anything is well.
const LONG: Duration = Duration::from_secs(10);

/// Who asks: a token's name or an address, and one connection of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Client {
    pub(super) who: Arc<str>,
    pub(super) connection: u64,
}

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full {
    /// When to try again, in seconds.
    pub(super) retry_after_s: u64,
}

/// How many are at work and how many wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) running: usize,
    pub(super) waiting: usize,
    pub(super) room: usize,
}

#[derive(Debug)]
pub(super) struct Admission {
    state: Mutex<State>,
    limit: usize,
    room: usize,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    waiting: usize,
    next: u64,
    /// Clients in turn; each has at least one waiting.
    turns: VecDeque<Arc<str>>,
    clients: HashMap<Arc<str>, Waiting>,
    /// How long one takes, smoothed, in seconds.
    takes_s: f64,
    /// How many have gone in a row after a long time with nothing.
    fruitless: usize,
}

/// What one client has waiting.
#[derive(Debug, Default)]
struct Waiting {
    count: usize,
    /// Connections in turn, each with those that wait, in order.
    turns: VecDeque<(u64, VecDeque<Waiter>)>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    tell: Tell,
}

type Tell = oneshot::Sender<Result<Permit, Full>>;

/// Leave to use the engine, until it goes.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    since: Instant,
    is_void: bool,
    is_fruitful: AtomicBool,
}

impl Permit {
    /// Something has come of it.
    pub(super) fn progresses(&self) {
        self.is_fruitful.store(true, Relaxed);
        self.admission.lock().fruitless = 0;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_void {
            return;
        }
        let mut state = self.admission.lock();
        let took = self.since.elapsed().as_secs_f64();
        state.takes_s = if state.takes_s == 0.0 { took } else { 0.9 * state.takes_s + 0.1 * took };
        state.running -= 1;
        if !self.is_fruitful.load(Relaxed) && self.since.elapsed() > LONG {
            state.fruitless += 1;
        }
        self.admission.let_in(&mut state);
    }
}

/// Somebody's place among those who wait; given up when it goes.
struct Place<'a> {
    admission: &'a Arc<Admission>,
    client: &'a Client,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        state.remove(self.client, self.number);
        // The turn may have come just before: then it is somebody else's.
        self.admission.let_in(&mut state);
    }
}

impl Admission {
    /// `limit` may be at work at one time, and up to `room` may wait.
    pub(super) fn new(limit: usize, room: usize) -> Arc<Admission> {
        Arc::new(Admission { state: Mutex::default(), limit: limit.max(1), room })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn load(&self) -> Load {
        let state = self.lock();
        Load { running: state.running, waiting: state.waiting, room: self.room }
    }

    /// Does nothing come of what is at work? So many have gone in a row after a long time with nothing, as many as may be
    /// at work, or none.
    pub(super) fn fruitless(&self) -> Option<usize> {
        Some(self.lock().fruitless).filter(|fruitless| *fruitless >= self.limit)
    }

    /// What is said to somebody whose turn does not come.
    pub(super) fn full(&self) -> Full {
        self.lock().full(self.limit)
    }

    /// Does anybody wait?
    pub(super) fn is_contended(&self) -> bool {
        self.lock().waiting > 0
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// `Full` where there is no room to wait, or where others need it more.
    pub(super) async fn enter(self: &Arc<Admission>, client: &Client) -> Result<Permit, Full> {
        let (place, told) = {
            let mut state = self.lock();
            if state.running < self.limit && state.waiting == 0 {
                state.running += 1;
                return Ok(self.permit());
            }
            if state.waiting >= self.room && !state.make_room(client, self.limit) {
                return Err(state.full(self.limit));
            }
            let (tell, told) = oneshot::channel();
            let number = state.wait(client, tell);
            self.let_in(&mut state);
            (Place { admission: self, client, number }, told)
        };
        // The other end goes only with an answer, or with its place.
        let told = told.await.unwrap_or(Err(Full { retry_after_s: 1 }));
        drop(place);
        told
    }

    fn permit(self: &Arc<Admission>) -> Permit {
        let (since, is_fruitful) = (Instant::now(), AtomicBool::new(false));
        Permit { admission: Arc::clone(self), since, is_void: false, is_fruitful }
    }

    fn let_in(self: &Arc<Admission>, state: &mut State) {
        while state.running < self.limit {
            let Some(waiter) = state.next() else { return };
            match waiter.tell.send(Ok(self.permit())) {
                Ok(()) => state.running += 1,
                // Whoever has gone since takes no turn; and the lock is held here.
                Err(Ok(mut permit)) => permit.is_void = true,
                Err(Err(_)) => {}
            }
        }
    }
}

impl State {
    fn wait(&mut self, client: &Client, tell: Tell) -> u64 {
        self.next += 1;
        let waiter = Waiter { number: self.next, tell };
        let turns = &mut self.turns;
        let waiting = self.clients.entry(Arc::clone(&client.who)).or_insert_with(|| {
            turns.push_back(Arc::clone(&client.who));
            Waiting::default()
        });
        waiting.count += 1;
        self.waiting += 1;
        match waiting.turns.iter_mut().find(|(connection, _)| *connection == client.connection) {
            Some((_, queue)) => queue.push_back(waiter),
            None => waiting.turns.push_back((client.connection, VecDeque::from([waiter]))),
        }
        self.next
    }

    /// Whose turn it is.
    fn next(&mut self) -> Option<Waiter> {
        let who = self.turns.pop_front()?;
        let waiting = self.clients.get_mut(&who)?;
        let (connection, mut queue) = waiting.turns.pop_front()?;
        let waiter = queue.pop_front()?;
        if !queue.is_empty() {
            waiting.turns.push_back((connection, queue));
        }
        waiting.count -= 1;
        self.waiting -= 1;
        if waiting.count == 0 {
            self.clients.remove(&who);
        } else {
            self.turns.push_back(who);
        }
        Some(waiter)
    }

    fn remove(&mut self, client: &Client, number: u64) {
        let Some(waiting) = self.clients.get_mut(&client.who) else { return };
        let before = waiting.count;
        for (_, queue) in waiting.turns.iter_mut().filter(|(connection, _)| *connection == client.connection) {
            let length = queue.len();
            queue.retain(|waiter| waiter.number != number);
            waiting.count -= length - queue.len();
        }
        waiting.turns.retain(|(_, queue)| !queue.is_empty());
        self.waiting -= before - waiting.count;
        if waiting.count == 0 {
            self.clients.remove(&client.who);
            self.turns.retain(|who| *who != client.who);
        }
    }

    /// Refuses the last one of whoever has most waiting, if that is somebody with more than `client` has.
    fn make_room(&mut self, client: &Client, limit: usize) -> bool {
        let own = self.clients.get(&client.who).map_or(0, |waiting| waiting.count);
        let most = self.clients.iter().max_by_key(|(_, waiting)| waiting.count);
        let Some((who, _)) = most.filter(|(_, waiting)| waiting.count > own + 1) else { return false };
        let last = |(connection, queue): &(u64, VecDeque<Waiter>)| Some((queue.back()?.number, *connection));
        let Some((_, connection)) = self.clients[who].turns.iter().filter_map(last).max() else { return false };
        let (who, full) = (Arc::clone(who), self.full(limit));
        let Some(waiting) = self.clients.get_mut(&who) else { return false };
        let queue = waiting.turns.iter_mut().find(|(own, _)| *own == connection);
        let Some(waiter) = queue.and_then(|(_, queue)| queue.pop_back()) else { return false };
        waiting.turns.retain(|(_, queue)| !queue.is_empty());
        waiting.count -= 1;
        self.waiting -= 1;
        let _ = waiter.tell.send(Err(full));
        true
    }

    fn full(&self, limit: usize) -> Full {
        let wait_s = self.waiting as f64 * self.takes_s / limit as f64;
        Full { retry_after_s: (wait_s.ceil() as u64).clamp(1, 30) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Admission, Client};

    fn client(who: &str, connection: u64) -> Client {
        Client { who: who.into(), connection }
    }

    /// The order in which they come in, one at a time.
    async fn order(admission: &Arc<Admission>, clients: Vec<Client>) -> Vec<String> {
        let first = admission.enter(&client("first", 0)).await.unwrap();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        for own in clients {
            let (admission, tell) = (Arc::clone(admission), tell.clone());
            tokio::spawn(async move {
                let entered = admission.enter(&own).await;
                let verdict = if entered.is_ok() { "" } else { " refused" };
                tell.send(format!("{}{}{verdict}", own.who, own.connection)).unwrap();
            });
            tokio::task::yield_now().await;
        }
        drop((first, tell));
        let mut order = Vec::new();
        while let Some(next) = told.recv().await {
            order.push(next);
        }
        order
    }

    #[tokio::test]
    async fn clients_take_turns_and_so_do_their_connections() {
        let admission = Admission::new(1, 100);
        let clients = [("a", 1), ("a", 1), ("a", 2), ("a", 1), ("b", 3), ("b", 3)];
        let order = order(&admission, clients.map(|(who, connection)| client(who, connection)).into()).await;
        assert_eq!(order, ["a1", "b3", "a2", "b3", "a1", "a1"]);
        assert_eq!(admission.load().running, 0);
    }

    #[tokio::test]
    async fn who_has_most_waiting_makes_room_and_nobody_else() {
        let admission = Admission::new(1, 3);
        let clients = [("a", 1), ("a", 1), ("a", 1), ("b", 2), ("a", 1), ("c", 3)];
        let order = order(&admission, clients.map(|(who, connection)| client(who, connection)).into()).await;
        let refused = order.iter().filter(|one| one.ends_with("refused")).count();
        assert_eq!(refused, 3, "{order:?}");
        assert!(order.contains(&"b2".into()) && order.contains(&"c3".into()), "{order:?}");
    }

    #[tokio::test]
    async fn who_goes_while_waiting_or_just_then_holds_nothing() {
        let admission = Admission::new(1, 10);
        for _ in 0..20 {
            let held = admission.enter(&client("a", 1)).await.unwrap();
            let own = client("b", 2);
            let mut waiting = Box::pin(admission.enter(&own));
            assert!(futures_util::poll!(&mut waiting).is_pending());
            drop(held);
            // Its turn has come, and it does not know it yet.
            drop(waiting);
            assert_eq!((admission.load().running, admission.load().waiting), (0, 0));
            let held = admission.enter(&own).await.unwrap();
            let mut waiting = Box::pin(admission.enter(&own));
            assert!(futures_util::poll!(&mut waiting).is_pending());
            drop(waiting);
            assert_eq!((admission.load().running, admission.load().waiting), (1, 0));
            drop(held);
        }
    }
}
