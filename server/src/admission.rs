//! Admission with fair scheduling: limits the requests that use a resource and those that wait for it, and selects the
//! next one.
//!
//! Each client (a token or an address) has an account of the cost of its requests. This charge halves every four
//! seconds. A free permit goes to the waiting request with the least sum of its client's charge and its own estimated
//! cost, less a credit for waiting, so that cheap requests overtake costly ones. Cheap requests of clients with a small
//! charge precede all others, however many clients there are, except for every fifth permit, so that the others do not
//! starve.
//!
//! While several clients wait, no client gets more than half of the permits. Of four or more permits, no client ever
//! gets all. A third is reserved for cheap requests of light clients, which therefore begin at once. When the queue is
//! full, the client with the greatest burden loses its costliest request.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use bucket_streamer::Account;

use crate::locks::{Mutex, MutexGuard};

/// A permit without a result for longer than this counts as fruitless.
const FRUITLESS_AFTER: Duration = Duration::from_secs(10);
/// Half-life of a charge, in seconds.
const HALF_LIFE_S: f64 = 4.0;
/// Credit for a second of waiting, in seconds of cost.
const CREDIT: f64 = 0.1;
/// The same for cheap requests of light clients.
const SMALL_CREDIT: f64 = 0.01;
/// Weight of a light client's charge, relative to the cost of its request.
const LIGHT_CHARGE: f64 = 0.05;
/// Least cost of a request, in seconds.
const LEAST_COST_S: f64 = 0.001;
/// Charges up to this count as none, in seconds.
const NO_CHARGE_S: f64 = 0.001;
/// Number of accounts above which idle accounts without a charge are closed.
const ACCOUNTS: usize = 256;
/// One of this many permits is withheld from a client, even if no other client waits.
const RESERVE: usize = 4;
/// One of this many permits is reserved for cheap requests of light clients.
const LIGHT_RESERVE: usize = 3;
/// Greatest cost of a cheap request, in seconds.
const CHEAP_S: f64 = 0.1;
/// The share of the time of all workers that a light client may use continuously.
const LIGHT: f64 = 0.25;
/// Number of cheap requests in a row after which a costly request is next.
const CHEAP_IN_ROW: usize = 4;

/// The client of a request: a token's name or an address, the number of the connection, and the account of the time
/// that workers spent on the client.
#[derive(Debug, Clone)]
pub(super) struct RequestClient {
    pub(super) name: Arc<str>,
    pub(super) connection: u64,
    pub(super) account: Arc<Account>,
}

/// The accounts of all clients, by name. Accounts without other references are removed when the map has to grow.
#[derive(Debug, Default)]
pub(super) struct ClientRegistry(Mutex<HashMap<Arc<str>, Arc<Account>>>);

impl ClientRegistry {
    /// The client with this name on this connection. All connections of a client share one account.
    pub(super) fn client(&self, name: &str, connection: u64) -> RequestClient {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, account)) = all.get_key_value(name) {
            return RequestClient { name: Arc::clone(name), connection, account: Arc::clone(account) };
        }
        if all.len() >= all.capacity() {
            all.retain(|_, account| Arc::strong_count(account) > 1);
        }
        let (name, account): (Arc<str>, _) = (name.into(), Arc::new(Account::of_client()));
        all.insert(Arc::clone(&name), Arc::clone(&account));
        RequestClient { name, connection, account }
    }
}

/// The refusal of a request because the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueFull {
    /// Seconds after which the client may try again.
    pub(super) retry_after_s: u64,
}

/// Numbers of running and waiting requests, and the limit of the latter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AdmissionLoad {
    pub(super) running: usize,
    pub(super) waiting: usize,
    pub(super) max_waiting: usize,
}

/// The quantity that a client is charged for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChargeBasis {
    /// The time that workers spend on the client; `workers` is their number.
    WorkerTime { workers: usize },
    /// The time for which the client holds permits, summed over the permits.
    HoldTime,
}

/// Returns the seconds since the admission was created.
type AdmissionClock = Box<dyn Fn() -> f64 + Send + Sync>;

pub(super) struct Admission {
    state: Mutex<AdmissionState>,
    limit: usize,
    /// Most permits of one client, if only that client waits, and if several clients wait.
    alone: usize,
    contended: usize,
    /// Most permits of requests other than cheap ones of light clients.
    costly: usize,
    /// Greatest charge of a light client.
    light_s: f64,
    max_waiting: usize,
    charge_basis: ChargeBasis,
    clock: AdmissionClock,
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Admission").field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct AdmissionState {
    running: usize,
    /// Running requests that are costly.
    costly: usize,
    /// Cheap requests of light clients that ran in a row while others waited.
    cheap_in_row: usize,
    waiting: usize,
    next: u64,
    /// Clients with permits, waiting requests, or a charge.
    accounts: HashMap<Arc<str>, ClientAccount>,
    /// Smoothed duration of a permit, in seconds.
    permit_duration_s: f64,
    /// Fruitless permits in a row.
    fruitless: usize,
}

/// The account of one client.
#[derive(Debug)]
struct ClientAccount {
    work: Arc<Account>,
    /// The part of the time in `work` that the charge includes.
    charged_work_s: f64,
    charge_s: f64,
    /// Time of the last settlement, in seconds.
    settled_at_s: f64,
    running: usize,
    waiting: usize,
    /// Number of the client's last permit: of equal prices, the client with the lowest number is next.
    last_permit: u64,
    /// Connections in round-robin order, each with its queue of waiting requests.
    connections: VecDeque<(u64, VecDeque<WaitingRequest>)>,
}

#[derive(Debug)]
struct WaitingRequest {
    number: u64,
    cost_s: f64,
    since_s: f64,
    sender: PermitSender,
}

impl WaitingRequest {
    /// The cost less the credit for waiting, in seconds.
    fn price_s(&self, now_s: f64) -> f64 {
        self.cost_s - CREDIT * (now_s - self.since_s)
    }
}

impl ClientAccount {
    fn new(work: &Arc<Account>, now_s: f64) -> ClientAccount {
        ClientAccount {
            charged_work_s: work.worked_s(),
            work: Arc::clone(work),
            charge_s: 0.0,
            settled_at_s: now_s,
            running: 0,
            waiting: 0,
            last_permit: 0,
            connections: VecDeque::new(),
        }
    }

    /// Decays the charge, and adds the use since the last settlement.
    fn settle(&mut self, now_s: f64, basis: ChargeBasis) {
        let passed_s = (now_s - self.settled_at_s).max(0.0);
        self.charge_s *= 0.5_f64.powf(passed_s / HALF_LIFE_S);
        self.settled_at_s = now_s;
        self.charge_s += match basis {
            ChargeBasis::HoldTime => self.running as f64 * passed_s,
            ChargeBasis::WorkerTime { .. } => {
                let worked_s = self.work.worked_s();
                worked_s - std::mem::replace(&mut self.charged_work_s, worked_s)
            }
        };
    }

    fn waiters(&self) -> impl Iterator<Item = &WaitingRequest> {
        self.connections.iter().flat_map(|(_, queue)| queue)
    }

    /// The price of the client's next request, and the position of its connection, among first requests that cost at
    /// most `most_s`: the cheapest one; of equal prices, that of the first connection in round-robin order.
    fn best(&self, now_s: f64, most_s: f64) -> Option<(f64, usize)> {
        let price = |queue: &VecDeque<WaitingRequest>| {
            queue.front().filter(|waiter| waiter.cost_s <= most_s).map(|waiter| waiter.price_s(now_s))
        };
        let prices =
            self.connections.iter().enumerate().filter_map(|(position, (_, queue))| Some((price(queue)?, position)));
        prices.min_by(|(a, _), (b, _)| a.total_cmp(b))
    }

    /// The client's charge plus the cost of its waiting requests, in seconds.
    fn burden_s(&self) -> f64 {
        self.charge_s + self.waiters().map(|waiter| waiter.cost_s + LEAST_COST_S).sum::<f64>()
    }

    fn is_idle(&self) -> bool {
        self.running == 0 && self.waiting == 0
    }
}

type PermitSender = oneshot::Sender<Result<AdmissionPermit, QueueFull>>;

/// A permit to use the resource. Dropping it returns the permit.
#[derive(Debug)]
pub(super) struct AdmissionPermit {
    admission: Arc<Admission>,
    client: Arc<str>,
    since: Instant,
    is_costly: bool,
    is_void: bool,
    is_fruitful: AtomicBool,
}

impl AdmissionPermit {
    /// Marks the permit as fruitful: a result has arrived.
    pub(super) fn mark_fruitful(&self) {
        self.is_fruitful.store(true, Relaxed);
        self.admission.lock().fruitless = 0;
    }
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        if self.is_void {
            return;
        }
        let mut state = self.admission.lock();
        let took = self.since.elapsed().as_secs_f64();
        state.permit_duration_s =
            if state.permit_duration_s == 0.0 { took } else { 0.9 * state.permit_duration_s + 0.1 * took };
        state.running -= 1;
        state.costly -= usize::from(self.is_costly);
        let (now_s, basis) = ((self.admission.clock)(), self.admission.charge_basis);
        if let Some(account) = state.accounts.get_mut(&self.client) {
            account.settle(now_s, basis);
            account.running -= 1;
        }
        if !self.is_fruitful.load(Relaxed) && self.since.elapsed() > FRUITLESS_AFTER {
            state.fruitless += 1;
        }
        self.admission.admit_waiting(&mut state);
        state.close_accounts(now_s, basis);
    }
}

/// The queue position of a waiting request. Dropping it removes the request from the queue.
struct AdmissionTicket<'a> {
    admission: &'a Arc<Admission>,
    client: &'a RequestClient,
    number: u64,
}

impl Drop for AdmissionTicket<'_> {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        state.remove(self.client, self.number);
        // A permit that was sent but not received goes to the next request.
        self.admission.admit_waiting(&mut state);
    }
}

impl Admission {
    /// Admits up to `limit` requests at one time; up to `max_waiting` more may wait.
    pub(super) fn new(limit: usize, max_waiting: usize, charge_basis: ChargeBasis) -> Arc<Admission> {
        let began = Instant::now();
        Admission::with_clock(limit, max_waiting, charge_basis, Box::new(move || began.elapsed().as_secs_f64()))
    }

    fn with_clock(
        limit: usize,
        max_waiting: usize,
        charge_basis: ChargeBasis,
        clock: AdmissionClock,
    ) -> Arc<Admission> {
        let limit = limit.max(1);
        let (alone, contended) = match charge_basis {
            ChargeBasis::WorkerTime { .. } => (limit - limit / RESERVE, limit.div_ceil(2)),
            // Openings mostly wait for bytes: half of the permits is enough for one client.
            ChargeBasis::HoldTime => (limit.div_ceil(2), limit.div_ceil(2)),
        };
        let costly = match charge_basis {
            ChargeBasis::WorkerTime { .. } => (limit - limit.div_ceil(LIGHT_RESERVE)).max(1),
            ChargeBasis::HoldTime => limit,
        };
        let light_s = match charge_basis {
            // The charge at which steady use and decay are in equilibrium.
            ChargeBasis::WorkerTime { workers } => LIGHT * workers as f64 * HALF_LIFE_S / std::f64::consts::LN_2,
            ChargeBasis::HoldTime => f64::INFINITY,
        };
        let state = Mutex::default();
        Arc::new(Admission { state, limit, alone, contended, costly, light_s, max_waiting, charge_basis, clock })
    }

    fn lock(&self) -> MutexGuard<'_, AdmissionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn load(&self) -> AdmissionLoad {
        let state = self.lock();
        AdmissionLoad { running: state.running, waiting: state.waiting, max_waiting: self.max_waiting }
    }

    /// The number of fruitless permits in a row, if it reaches the limit of running requests: the resource then seems
    /// to be stuck.
    pub(super) fn fruitless(&self) -> Option<usize> {
        Some(self.lock().fruitless).filter(|fruitless| *fruitless >= self.limit)
    }

    /// The refusal of a request that has waited for too long.
    pub(super) fn full(&self) -> QueueFull {
        self.lock().full(self.limit)
    }

    /// Whether requests wait.
    pub(super) fn is_contended(&self) -> bool {
        self.lock().waiting > 0
    }

    /// Whether a request of this client and cost should yield: to a waiting request of another client, or to a far
    /// cheaper one of its own.
    pub(super) fn should_yield(&self, client: &RequestClient, cost_s: f64) -> bool {
        let state = self.lock();
        let is_cheaper = |waiter: &WaitingRequest| waiter.cost_s < cost_s / 2.0;
        let mut waiting = state.accounts.iter().filter(|(_, account)| account.waiting > 0);
        waiting.any(|(name, account)| *name != client.name || account.waiters().any(is_cheaper))
    }

    /// Waits for a permit for a request with an estimated cost of `cost_s` seconds. Dropping the future removes the
    /// request from the queue.
    ///
    /// # Errors
    /// [`QueueFull`] if the queue is full, or if a client with a smaller burden takes the request's position.
    pub(super) async fn enter(
        self: &Arc<Admission>,
        client: &RequestClient,
        cost_s: f64,
    ) -> Result<AdmissionPermit, QueueFull> {
        let (ticket, receiver) = {
            let mut state = self.lock();
            let now_s = (self.clock)();
            let account = state.account(client, now_s);
            account.settle(now_s, self.charge_basis);
            let is_costly = cost_s > CHEAP_S || account.charge_s > self.light_s;
            let is_free = state.running < self.limit && (!is_costly || state.costly < self.costly);
            if state.waiting == 0 && is_free && state.account(client, now_s).running < self.alone {
                return Ok(self.issue_permit(&mut state, &client.name, is_costly));
            }
            if state.waiting >= self.max_waiting && !state.evict_costliest(client, cost_s, self.limit) {
                return Err(state.full(self.limit));
            }
            let (sender, receiver) = oneshot::channel();
            let number = state.enqueue(client, cost_s, now_s, sender);
            self.admit_waiting(&mut state);
            (AdmissionTicket { admission: self, client, number }, receiver)
        };
        // The sender is dropped without a result only if the waiting request is removed.
        let result = receiver.await.unwrap_or(Err(QueueFull { retry_after_s: 1 }));
        drop(ticket);
        result
    }

    fn issue_permit(
        self: &Arc<Admission>,
        state: &mut AdmissionState,
        client: &Arc<str>,
        is_costly: bool,
    ) -> AdmissionPermit {
        state.running += 1;
        state.costly += usize::from(is_costly);
        state.next += 1;
        let number = state.next;
        if let Some(account) = state.accounts.get_mut(client) {
            account.running += 1;
            account.last_permit = number;
        }
        let (since, is_fruitful) = (Instant::now(), AtomicBool::new(false));
        AdmissionPermit {
            admission: Arc::clone(self),
            client: Arc::clone(client),
            since,
            is_costly,
            is_void: false,
            is_fruitful,
        }
    }

    fn admit_waiting(self: &Arc<Admission>, state: &mut AdmissionState) {
        let now_s = (self.clock)();
        while state.running < self.limit && state.waiting > 0 {
            for account in state.accounts.values_mut() {
                account.settle(now_s, self.charge_basis);
            }
            let is_full = state.costly >= self.costly;
            let Some((name, waiter, is_costly)) =
                state.next(now_s, (self.alone, self.contended), (is_full, self.light_s))
            else {
                return;
            };
            let permit = self.issue_permit(state, &name, is_costly);
            // A request that was cancelled meanwhile does not count. Its permit must not run `drop`, which would lock
            // the state again.
            if let Err(Ok(mut permit)) = waiter.sender.send(Ok(permit)) {
                permit.is_void = true;
                state.running -= 1;
                state.costly -= usize::from(permit.is_costly);
                if let Some(account) = state.accounts.get_mut(&name) {
                    account.running -= 1;
                }
            }
        }
    }
}

impl AdmissionState {
    fn account(&mut self, client: &RequestClient, now_s: f64) -> &mut ClientAccount {
        self.accounts.entry(Arc::clone(&client.name)).or_insert_with(|| ClientAccount::new(&client.account, now_s))
    }

    /// Closes idle accounts without a charge, if there are many accounts.
    fn close_accounts(&mut self, now_s: f64, basis: ChargeBasis) {
        if self.accounts.len() > ACCOUNTS {
            self.accounts.retain(|_, account| {
                account.settle(now_s, basis);
                !account.is_idle() || account.charge_s > NO_CHARGE_S
            });
        }
    }

    fn enqueue(&mut self, client: &RequestClient, cost_s: f64, since_s: f64, sender: PermitSender) -> u64 {
        self.next += 1;
        self.waiting += 1;
        let number = self.next;
        let waiter = WaitingRequest { number, cost_s, since_s, sender };
        let account = self.account(client, since_s);
        account.waiting += 1;
        match account.connections.iter_mut().find(|(connection, _)| *connection == client.connection) {
            Some((_, queue)) => queue.push_back(waiter),
            None => account.connections.push_back((client.connection, VecDeque::from([waiter]))),
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
    ) -> Option<(Arc<str>, WaitingRequest, bool)> {
        let clients = self.accounts.values().filter(|account| account.waiting > 0).count();
        let most = if clients > 1 { contended } else { alone };
        let candidate = |(name, account): (&Arc<str>, &ClientAccount)| {
            let is_light = account.charge_s <= light_s;
            if account.running >= most || is_full && !is_light {
                return None;
            }
            let (price_s, position) = account.best(now_s, if is_full { CHEAP_S } else { f64::INFINITY })?;
            let first = account.connections[position].1.front()?;
            let is_costly = first.cost_s > CHEAP_S || !is_light;
            let price_s = match is_costly {
                true => account.charge_s + price_s,
                false => first.cost_s + LIGHT_CHARGE * account.charge_s - SMALL_CREDIT * (now_s - first.since_s),
            };
            Some((is_costly, price_s, (account.last_permit, first.number), (Arc::clone(name), position)))
        };
        let candidates: Vec<_> = self.accounts.iter().filter_map(candidate).collect();
        let is_mixed = candidates.iter().any(|one| one.0) && candidates.iter().any(|one| !one.0);
        let is_costly_next = is_mixed && self.cheap_in_row >= CHEAP_IN_ROW;
        self.cheap_in_row = if is_mixed && !is_costly_next { self.cheap_in_row + 1 } else { 0 };
        let best = candidates.into_iter().min_by(|a, b| {
            let class = (a.0 != is_costly_next).cmp(&(b.0 != is_costly_next));
            class.then_with(|| a.1.total_cmp(&b.1)).then_with(|| a.2.cmp(&b.2))
        });
        let (is_costly, .., (name, position)) = best?;
        let account = self.accounts.get_mut(&name)?;
        let (connection, mut queue) = account.connections.remove(position)?;
        let waiter = queue.pop_front()?;
        if !queue.is_empty() {
            account.connections.push_back((connection, queue));
        }
        account.waiting -= 1;
        self.waiting -= 1;
        Some((name, waiter, is_costly))
    }

    fn remove(&mut self, client: &RequestClient, number: u64) {
        let Some(account) = self.accounts.get_mut(&client.name) else { return };
        let before = account.waiting;
        for (_, queue) in account.connections.iter_mut().filter(|(connection, _)| *connection == client.connection) {
            let length = queue.len();
            queue.retain(|waiter| waiter.number != number);
            account.waiting -= length - queue.len();
        }
        account.connections.retain(|(_, queue)| !queue.is_empty());
        self.waiting -= before - account.waiting;
    }

    /// Refuses the costliest request of the client with the greatest burden (the last one of equals), if that burden
    /// exceeds the burden of `client` with a further request of `cost_s` seconds. Returns whether it did.
    fn evict_costliest(&mut self, client: &RequestClient, cost_s: f64, limit: usize) -> bool {
        let own_s = self.accounts.get(&client.name).map_or(0.0, ClientAccount::burden_s) + cost_s + LEAST_COST_S;
        let waiting = self.accounts.iter().filter(|(_, account)| account.waiting > 0);
        let most = waiting.map(|(name, account)| (account.burden_s(), name)).max_by(|a, b| a.0.total_cmp(&b.0));
        // Floating-point sums of the same numbers may differ in their last digits.
        let Some((_, name)) = most.filter(|(burden_s, _)| *burden_s > own_s + LEAST_COST_S / 2.0) else { return false };
        let (name, full) = (Arc::clone(name), self.full(limit));
        let Some(account) = self.accounts.get_mut(&name) else { return false };
        let costliest = account.waiters().max_by(|a, b| a.cost_s.total_cmp(&b.cost_s).then(a.number.cmp(&b.number)));
        let Some(number) = costliest.map(|waiter| waiter.number) else { return false };
        for (_, queue) in &mut account.connections {
            let Some(position) = queue.iter().position(|waiter| waiter.number == number) else { continue };
            let Some(waiter) = queue.remove(position) else { continue };
            let _ = waiter.sender.send(Err(full));
            account.waiting -= 1;
            self.waiting -= 1;
        }
        account.connections.retain(|(_, queue)| !queue.is_empty());
        true
    }

    fn full(&self, limit: usize) -> QueueFull {
        let wait_s = self.waiting as f64 * self.permit_duration_s / limit as f64;
        QueueFull { retry_after_s: (wait_s.ceil() as u64).clamp(1, 30) }
    }
}

#[cfg(test)]
mod tests;
