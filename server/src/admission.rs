//! Admission with fair scheduling: the number of requests that use a resource, the number that wait, and the next one
//! to run.
//!
//! Each client (a token or an address) has an account of the cost of its requests, which decays over time. A free
//! permit goes to the waiting request with the least sum of its client's charge and its own estimated cost, so that
//! cheap requests overtake costly ones; waiting earns credit. Cheap requests of clients with a small charge come before
//! all others, however many clients there are, except at every fifth turn, so that the others do not starve. While
//! others wait, no client gets more than half of the permits; of four or more, no client ever gets all; a third is for
//! cheap requests of light clients, which therefore begin at once. When the waiting room is full, the client with the
//! greatest burden loses its costliest request.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use bucket_streamer::Account as Worked;

/// A permit that brings no progress for longer than this counts as fruitless.
const LONG: Duration = Duration::from_secs(10);
/// Half-life of a charge, in seconds.
const HALF_LIFE_S: f64 = 4.0;
/// Value of a second of waiting in seconds of cost; the second one is for cheap requests of light clients.
const CREDIT: f64 = 0.1;
const SMALL_CREDIT: f64 = 0.01;
/// Weight of a light client's charge: the cost of its requests counts more.
const LIGHT_CHARGE: f64 = 0.05;
/// Least cost of a request, in seconds.
const LEAST_COST_S: f64 = 0.001;
/// Charges below this count as none.
const NO_CHARGE_S: f64 = 0.001;
/// Number of accounts above which those without a charge are closed.
const ACCOUNTS: usize = 256;
/// One of this many permits is kept from a client that is alone.
const RESERVE: usize = 4;
/// One of this many permits is reserved for cheap requests of light clients.
const LIGHT_RESERVE: usize = 3;
/// Greatest cost of a cheap request, in seconds.
const CHEAP_S: f64 = 0.1;
/// The share of all workers that a light client may use continuously.
const LIGHT: f64 = 0.25;
/// Number of cheap requests in a row after which another request is next.
const ROW: usize = 4;

/// The client of a request: a token's name or an address, one of its connections, and the time that workers spent on
/// it.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) who: Arc<str>,
    pub(super) connection: u64,
    pub(super) worked: Arc<Worked>,
}

/// The time that workers spent on each client. Clients without references are forgotten.
#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<HashMap<Arc<str>, Arc<Worked>>>);

impl Clients {
    /// The client of a request.
    pub(super) fn client(&self, who: &str, connection: u64) -> Client {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((who, worked)) = all.get_key_value(who) {
            return Client { who: Arc::clone(who), connection, worked: Arc::clone(worked) };
        }
        if all.len() >= all.capacity() {
            all.retain(|_, worked| Arc::strong_count(worked) > 1);
        }
        let (who, worked): (Arc<str>, _) = (who.into(), Arc::new(Worked::of_client()));
        all.insert(Arc::clone(&who), Arc::clone(&worked));
        Client { who, connection, worked }
    }
}

/// The waiting room is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full {
    /// Seconds after which the client may try again.
    pub(super) retry_after_s: u64,
}

/// Numbers of requests that run and that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) running: usize,
    pub(super) waiting: usize,
    pub(super) room: usize,
}

/// The measure of a client's charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charged {
    /// The time of workers, and their number.
    Work { workers: usize },
    /// The time for which the client holds permits.
    Possession,
}

/// Returns the seconds since the admission was made.
type Clock = Box<dyn Fn() -> f64 + Send + Sync>;

pub(super) struct Admission {
    state: Mutex<State>,
    limit: usize,
    /// Most permits of one client: alone, and while others wait.
    alone: usize,
    contended: usize,
    /// Most permits of requests other than cheap ones of light clients.
    costly: usize,
    /// Greatest charge of a light client.
    light_s: f64,
    room: usize,
    charged: Charged,
    clock: Clock,
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Admission").field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// The costly ones among the running requests.
    costly: usize,
    /// Cheap requests of light clients that ran in a row while others waited.
    row: usize,
    waiting: usize,
    next: u64,
    /// Clients with permits, waiting requests, or a charge.
    accounts: HashMap<Arc<str>, Account>,
    /// Smoothed duration of a permit, in seconds.
    takes_s: f64,
    /// Fruitless permits in a row.
    fruitless: usize,
}

/// The account of one client.
#[derive(Debug)]
struct Account {
    worked: Arc<Worked>,
    /// The part of the worked time that is in the charge.
    seen_s: f64,
    charge_s: f64,
    /// Time of the last settlement, in seconds.
    at_s: f64,
    running: usize,
    waiting: usize,
    /// Number of the client's last permit: among equals the one that has waited longest is next.
    turn: u64,
    /// Connections in round-robin order, each with its queue of waiting requests.
    turns: VecDeque<(u64, VecDeque<Waiter>)>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    cost_s: f64,
    since_s: f64,
    tell: Tell,
}

impl Waiter {
    /// The cost, less the credit for waiting.
    fn price_s(&self, now_s: f64) -> f64 {
        self.cost_s - CREDIT * (now_s - self.since_s)
    }
}

impl Account {
    fn new(worked: &Arc<Worked>, now_s: f64) -> Account {
        Account {
            seen_s: worked.worked_s(),
            worked: Arc::clone(worked),
            charge_s: 0.0,
            at_s: now_s,
            running: 0,
            waiting: 0,
            turn: 0,
            turns: VecDeque::new(),
        }
    }

    /// Updates the charge.
    fn settle(&mut self, now_s: f64, charged: Charged) {
        let passed_s = (now_s - self.at_s).max(0.0);
        self.charge_s *= 0.5_f64.powf(passed_s / HALF_LIFE_S);
        self.at_s = now_s;
        self.charge_s += match charged {
            Charged::Possession => self.running as f64 * passed_s,
            Charged::Work { .. } => {
                let worked_s = self.worked.worked_s();
                worked_s - std::mem::replace(&mut self.seen_s, worked_s)
            }
        };
    }

    fn waiters(&self) -> impl Iterator<Item = &Waiter> {
        self.turns.iter().flat_map(|(_, queue)| queue)
    }

    /// The price and the place of the connection whose first request is next for this client, among requests that cost
    /// at most `most_s`: the cheapest one, or the first in turn.
    fn best(&self, now_s: f64, most_s: f64) -> Option<(f64, usize)> {
        let price = |queue: &VecDeque<Waiter>| {
            queue.front().filter(|waiter| waiter.cost_s <= most_s).map(|waiter| waiter.price_s(now_s))
        };
        let prices = self.turns.iter().enumerate().filter_map(|(place, (_, queue))| Some((price(queue)?, place)));
        prices.min_by(|(a, _), (b, _)| a.total_cmp(b))
    }

    /// The client's load on others: its charge, and the cost of its waiting requests.
    fn burden_s(&self) -> f64 {
        self.charge_s + self.waiters().map(|waiter| waiter.cost_s + LEAST_COST_S).sum::<f64>()
    }

    fn is_idle(&self) -> bool {
        self.running == 0 && self.waiting == 0
    }
}

type Tell = oneshot::Sender<Result<Permit, Full>>;

/// Permission to use the resource, until dropped.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    who: Arc<str>,
    since: Instant,
    is_costly: bool,
    is_void: bool,
    is_fruitful: AtomicBool,
}

impl Permit {
    /// Marks the permit as fruitful: a result has arrived.
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
        state.costly -= usize::from(self.is_costly);
        let (now_s, charged) = ((self.admission.clock)(), self.admission.charged);
        if let Some(account) = state.accounts.get_mut(&self.who) {
            account.settle(now_s, charged);
            account.running -= 1;
        }
        if !self.is_fruitful.load(Relaxed) && self.since.elapsed() > LONG {
            state.fruitless += 1;
        }
        self.admission.let_in(&mut state);
        state.close_accounts(now_s, charged);
    }
}

/// The place of a waiting request. Dropping gives it up.
struct Place<'a> {
    admission: &'a Arc<Admission>,
    client: &'a Client,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        state.remove(self.client, self.number);
        // If the permit came just before, the next request gets it.
        self.admission.let_in(&mut state);
    }
}

impl Admission {
    /// Admits up to `limit` requests at one time; up to `room` more may wait.
    pub(super) fn new(limit: usize, room: usize, charged: Charged) -> Arc<Admission> {
        let began = Instant::now();
        Admission::with_clock(limit, room, charged, Box::new(move || began.elapsed().as_secs_f64()))
    }

    fn with_clock(limit: usize, room: usize, charged: Charged, clock: Clock) -> Arc<Admission> {
        let limit = limit.max(1);
        let (alone, contended) = match charged {
            Charged::Work { .. } => (limit - limit / RESERVE, limit.div_ceil(2)),
            // Openings mostly wait: half of the permits is enough for one client.
            Charged::Possession => (limit.div_ceil(2), limit.div_ceil(2)),
        };
        let costly = match charged {
            Charged::Work { .. } => (limit - limit.div_ceil(LIGHT_RESERVE)).max(1),
            Charged::Possession => limit,
        };
        let light_s = match charged {
            // The charge in equilibrium of steady use and decay.
            Charged::Work { workers } => LIGHT * workers as f64 * HALF_LIFE_S / std::f64::consts::LN_2,
            Charged::Possession => f64::INFINITY,
        };
        let state = Mutex::default();
        Arc::new(Admission { state, limit, alone, contended, costly, light_s, room, charged, clock })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn load(&self) -> Load {
        let state = self.lock();
        Load { running: state.running, waiting: state.waiting, room: self.room }
    }

    /// The number of fruitless permits in a row, if it reaches the limit of running requests: then the resource seems
    /// stuck.
    pub(super) fn fruitless(&self) -> Option<usize> {
        Some(self.lock().fruitless).filter(|fruitless| *fruitless >= self.limit)
    }

    /// The refusal for a request that waits in vain.
    pub(super) fn full(&self) -> Full {
        self.lock().full(self.limit)
    }

    /// Whether requests wait.
    pub(super) fn is_contended(&self) -> bool {
        self.lock().waiting > 0
    }

    /// Whether a request of this client and cost should yield: to a waiting request of another client, or to a far
    /// cheaper one of its own.
    pub(super) fn is_pressed(&self, client: &Client, cost_s: f64) -> bool {
        let state = self.lock();
        let is_cheaper = |waiter: &Waiter| waiter.cost_s < cost_s / 2.0;
        let mut waiting = state.accounts.iter().filter(|(_, account)| account.waiting > 0);
        waiting.any(|(who, account)| *who != client.who || account.waiters().any(is_cheaper))
    }

    /// Waits for a permit, for a request with this estimated cost in seconds.
    ///
    /// # Errors
    /// `Full` where the waiting room has no place, or where the place is needed for a client with a smaller burden.
    pub(super) async fn enter(self: &Arc<Admission>, client: &Client, cost_s: f64) -> Result<Permit, Full> {
        let (place, told) = {
            let mut state = self.lock();
            let now_s = (self.clock)();
            let account = state.account(client, now_s);
            account.settle(now_s, self.charged);
            let is_costly = cost_s > CHEAP_S || account.charge_s > self.light_s;
            let is_free = state.running < self.limit && (!is_costly || state.costly < self.costly);
            if state.waiting == 0 && is_free && state.account(client, now_s).running < self.alone {
                return Ok(self.begin(&mut state, &client.who, is_costly));
            }
            if state.waiting >= self.room && !state.make_room(client, cost_s, self.limit) {
                return Err(state.full(self.limit));
            }
            let (tell, told) = oneshot::channel();
            let number = state.wait(client, cost_s, now_s, tell);
            self.let_in(&mut state);
            (Place { admission: self, client, number }, told)
        };
        // The sender goes only after an answer, or when the waiting request is removed.
        let told = told.await.unwrap_or(Err(Full { retry_after_s: 1 }));
        drop(place);
        told
    }

    fn begin(self: &Arc<Admission>, state: &mut State, who: &Arc<str>, is_costly: bool) -> Permit {
        state.running += 1;
        state.costly += usize::from(is_costly);
        state.next += 1;
        let turn = state.next;
        if let Some(account) = state.accounts.get_mut(who) {
            account.running += 1;
            account.turn = turn;
        }
        let (since, is_fruitful) = (Instant::now(), AtomicBool::new(false));
        Permit { admission: Arc::clone(self), who: Arc::clone(who), since, is_costly, is_void: false, is_fruitful }
    }

    fn let_in(self: &Arc<Admission>, state: &mut State) {
        let now_s = (self.clock)();
        while state.running < self.limit && state.waiting > 0 {
            for account in state.accounts.values_mut() {
                account.settle(now_s, self.charged);
            }
            let is_full = state.costly >= self.costly;
            let Some((who, waiter, is_costly)) =
                state.next(now_s, (self.alone, self.contended), (is_full, self.light_s))
            else {
                return;
            };
            let permit = self.begin(state, &who, is_costly);
            // A request that has gone since takes no turn. Its permit must not run `drop`, because the lock is held
            // here.
            if let Err(Ok(mut permit)) = waiter.tell.send(Ok(permit)) {
                permit.is_void = true;
                state.running -= 1;
                state.costly -= usize::from(permit.is_costly);
                if let Some(account) = state.accounts.get_mut(&who) {
                    account.running -= 1;
                }
            }
        }
    }
}

impl State {
    fn account(&mut self, client: &Client, now_s: f64) -> &mut Account {
        self.accounts.entry(Arc::clone(&client.who)).or_insert_with(|| Account::new(&client.worked, now_s))
    }

    /// Closes idle accounts without a charge, if there are many accounts.
    fn close_accounts(&mut self, now_s: f64, charged: Charged) {
        if self.accounts.len() > ACCOUNTS {
            self.accounts.retain(|_, account| {
                account.settle(now_s, charged);
                !account.is_idle() || account.charge_s > NO_CHARGE_S
            });
        }
    }

    fn wait(&mut self, client: &Client, cost_s: f64, since_s: f64, tell: Tell) -> u64 {
        self.next += 1;
        self.waiting += 1;
        let number = self.next;
        let waiter = Waiter { number, cost_s, since_s, tell };
        let account = self.account(client, since_s);
        account.waiting += 1;
        match account.turns.iter_mut().find(|(connection, _)| *connection == client.connection) {
            Some((_, queue)) => queue.push_back(waiter),
            None => account.turns.push_back((client.connection, VecDeque::from([waiter]))),
        }
        number
    }

    /// The next request, its client, and whether it is costly (not a cheap request of a light client). With `is_full`
    /// no costly request is chosen. Clients with a charge up to `light_s` are light.
    fn next(
        &mut self,
        now_s: f64,
        (alone, contended): (usize, usize),
        (is_full, light_s): (bool, f64),
    ) -> Option<(Arc<str>, Waiter, bool)> {
        let clients = self.accounts.values().filter(|account| account.waiting > 0).count();
        let most = if clients > 1 { contended } else { alone };
        let candidate = |(who, account): (&Arc<str>, &Account)| {
            let is_light = account.charge_s <= light_s;
            if account.running >= most || is_full && !is_light {
                return None;
            }
            let (price_s, place) = account.best(now_s, if is_full { CHEAP_S } else { f64::INFINITY })?;
            let first = account.turns[place].1.front()?;
            let is_other = first.cost_s > CHEAP_S || !is_light;
            let price_s = match is_other {
                true => account.charge_s + price_s,
                false => first.cost_s + LIGHT_CHARGE * account.charge_s - SMALL_CREDIT * (now_s - first.since_s),
            };
            Some((is_other, price_s, (account.turn, first.number), (Arc::clone(who), place)))
        };
        let candidates: Vec<_> = self.accounts.iter().filter_map(candidate).collect();
        let is_mixed = candidates.iter().any(|one| one.0) && candidates.iter().any(|one| !one.0);
        let is_others_turn = is_mixed && self.row >= ROW;
        self.row = if is_mixed && !is_others_turn { self.row + 1 } else { 0 };
        let best = candidates.into_iter().min_by(|a, b| {
            let class = (a.0 != is_others_turn).cmp(&(b.0 != is_others_turn));
            class.then_with(|| a.1.total_cmp(&b.1)).then_with(|| a.2.cmp(&b.2))
        });
        let (is_other, .., (who, place)) = best?;
        let account = self.accounts.get_mut(&who)?;
        let (connection, mut queue) = account.turns.remove(place)?;
        let waiter = queue.pop_front()?;
        if !queue.is_empty() {
            account.turns.push_back((connection, queue));
        }
        account.waiting -= 1;
        self.waiting -= 1;
        Some((who, waiter, is_other))
    }

    fn remove(&mut self, client: &Client, number: u64) {
        let Some(account) = self.accounts.get_mut(&client.who) else { return };
        let before = account.waiting;
        for (_, queue) in account.turns.iter_mut().filter(|(connection, _)| *connection == client.connection) {
            let length = queue.len();
            queue.retain(|waiter| waiter.number != number);
            account.waiting -= length - queue.len();
        }
        account.turns.retain(|(_, queue)| !queue.is_empty());
        self.waiting -= before - account.waiting;
    }

    /// Refuses the costliest request of the client with the greatest burden (the last one of equals), if that burden
    /// exceeds what `client` would have.
    fn make_room(&mut self, client: &Client, cost_s: f64, limit: usize) -> bool {
        let own_s = self.accounts.get(&client.who).map_or(0.0, Account::burden_s) + cost_s + LEAST_COST_S;
        let waiting = self.accounts.iter().filter(|(_, account)| account.waiting > 0);
        let most = waiting.map(|(who, account)| (account.burden_s(), who)).max_by(|a, b| a.0.total_cmp(&b.0));
        // Sums of the same numbers may differ in their last digits.
        let Some((_, who)) = most.filter(|(burden_s, _)| *burden_s > own_s + LEAST_COST_S / 2.0) else { return false };
        let (who, full) = (Arc::clone(who), self.full(limit));
        let Some(account) = self.accounts.get_mut(&who) else { return false };
        let costliest = account.waiters().max_by(|a, b| a.cost_s.total_cmp(&b.cost_s).then(a.number.cmp(&b.number)));
        let Some(number) = costliest.map(|waiter| waiter.number) else { return false };
        for (_, queue) in &mut account.turns {
            let Some(place) = queue.iter().position(|waiter| waiter.number == number) else { continue };
            let Some(waiter) = queue.remove(place) else { continue };
            let _ = waiter.tell.send(Err(full));
            account.waiting -= 1;
            self.waiting -= 1;
        }
        account.turns.retain(|(_, queue)| !queue.is_empty());
        true
    }

    fn full(&self, limit: usize) -> Full {
        let wait_s = self.waiting as f64 * self.takes_s / limit as f64;
        Full { retry_after_s: (wait_s.ceil() as u64).clamp(1, 30) }
    }
}

#[cfg(test)]
mod tests;
