//! Whose turn it is, which request makes room, and what is left behind, with a clock that the tests move.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Admission, Charged, Client, Clients, Permit};

/// An admission with a clock that the test moves.
struct Desk {
    admission: Arc<Admission>,
    clients: Clients,
    ms: Arc<AtomicU64>,
    /// The requests that were admitted or refused, in order, with their permits.
    came: Arc<Mutex<Vec<Came>>>,
}

type Came = (String, Option<Permit>);

impl Desk {
    fn new(limit: usize, room: usize, charged: Charged) -> Desk {
        let ms = Arc::new(AtomicU64::new(0));
        let own = Arc::clone(&ms);
        let clock = Box::new(move || own.load(Relaxed) as f64 / 1e3);
        let admission = Admission::with_clock(limit, room, charged, clock);
        Desk { admission, clients: Clients::default(), ms, came: Arc::default() }
    }

    fn client(&self, who: &str, connection: u64) -> Client {
        self.clients.client(who, connection)
    }

    /// Requests a permit; the result is added to `came`.
    async fn ask(&self, name: &str, client: Client, cost_s: f64) {
        let (admission, came, name) = (Arc::clone(&self.admission), Arc::clone(&self.came), name.to_owned());
        tokio::spawn(async move {
            let entered = admission.enter(&client, cost_s).await;
            let verdict = if entered.is_ok() { "" } else { " refused" };
            came.lock().unwrap().push((format!("{name}{verdict}"), entered.ok()));
        });
        self.settle().await;
    }

    async fn settle(&self) {
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }

    fn names(&self) -> Vec<String> {
        self.came.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
    }

    /// Returns permits one after the other, in the order in which they were given, until no request waits.
    async fn drain(&self) -> Vec<String> {
        let mut place = 0;
        while let Some(permit) = { self.came.lock().unwrap().get_mut(place).map(|(_, permit)| permit.take()) } {
            drop(permit);
            self.settle().await;
            place += 1;
        }
        assert_eq!((self.admission.load().running, self.admission.load().waiting), (0, 0));
        self.names()
    }
}

#[tokio::test]
async fn clients_take_turns_and_so_do_their_connections() {
    let desk = Desk::new(1, 100, Charged::Work { workers: 1 });
    desk.ask("first", desk.client("first", 0), 0.0).await;
    for (who, connection) in [("a", 1), ("a", 1), ("a", 2), ("a", 1), ("b", 3), ("b", 3)] {
        desk.ask(&format!("{who}{connection}"), desk.client(who, connection), 0.0).await;
    }
    assert_eq!(desk.drain().await, ["first", "a1", "b3", "a2", "b3", "a1", "a1"]);
}

#[tokio::test]
async fn the_client_that_was_charged_least_is_next() {
    let desk = Desk::new(1, 100, Charged::Work { workers: 1 });
    let (greedy, modest) = (desk.client("greedy", 1), desk.client("modest", 2));
    desk.ask("first", greedy.clone(), 0.0).await;
    for place in 0..3 {
        desk.ask(&format!("greedy{place}"), greedy.clone(), 0.1).await;
        desk.ask(&format!("modest{place}"), modest.clone(), 0.1).await;
    }
    // Workers spent time on both clients, far more on one of them.
    greedy.worked.worked(Duration::from_secs(5));
    modest.worked.worked(Duration::from_millis(100));
    assert_eq!(desk.drain().await, ["first", "modest0", "modest1", "modest2", "greedy0", "greedy1", "greedy2"]);
}

#[tokio::test]
async fn a_charge_is_forgotten() {
    let desk = Desk::new(1, 100, Charged::Work { workers: 1 });
    let (once, newcomer) = (desk.client("once", 1), desk.client("newcomer", 2));
    desk.ask("first", once.clone(), 0.0).await;
    once.worked.worked(Duration::from_secs(5));
    desk.admission.let_in(&mut desk.admission.lock());
    desk.ask("held", once.clone(), 0.0).await;
    drop(desk.came.lock().unwrap()[0].1.take());
    desk.settle().await;
    desk.ms.store(120_000, Relaxed);
    desk.ask("once", once, 0.0).await;
    desk.ask("newcomer", newcomer, 0.0).await;
    // Both cost nothing, and the first client's charge has decayed; only its turn counts.
    let charge_s = desk.admission.lock().accounts["once"].charge_s;
    assert!(charge_s < 1e-6, "{charge_s}");
    drop(desk.drain().await);
}

#[tokio::test]
async fn cheap_requests_overtake_costly_ones_and_do_not_starve_them() {
    let desk = Desk::new(1, 100, Charged::Work { workers: 1 });
    desk.ask("first", desk.client("first", 0), 0.0).await;
    for place in 0..3 {
        desk.ask(&format!("costly{place}"), desk.client(&format!("costly{place}"), place), 2.0).await;
    }
    // Also of a client with a costly request.
    desk.ask("cheap of costly0", desk.client("costly0", 9), 0.01).await;
    desk.ask("cheap", desk.client("cheap", 5), 0.02).await;
    // Every fifth turn goes to another request.
    desk.ms.store(1000, Relaxed);
    for place in 0..4 {
        desk.ask(&format!("late{place}"), desk.client("late", 6), 0.02).await;
    }
    let names = desk.drain().await;
    assert_eq!(names[..5], ["first", "cheap of costly0", "cheap", "late0", "late1"]);
    assert_eq!(names[5..], ["costly1", "late2", "late3", "costly2", "costly0"]);
}

#[tokio::test]
async fn no_client_has_more_than_half_while_others_wait_and_never_all() {
    let desk = Desk::new(8, 100, Charged::Work { workers: 1 });
    let many = desk.client("many", 1);
    for place in 0..8 {
        desk.ask(&format!("many{place}"), many.clone(), 0.05).await;
    }
    assert_eq!(desk.admission.load().running, 6, "a quarter is left for others");
    desk.ask("other", desk.client("other", 2), 0.1).await;
    assert_eq!(desk.names().last().map(String::as_str), Some("other"), "it need not wait");
    for place in 0..3 {
        desk.ask(&format!("third{place}"), desk.client(&format!("third{place}"), 3), 0.1).await;
    }
    assert_eq!(desk.admission.load().running, 8);
    // Two permits return: the client with more than half of them gets none.
    for place in 0..2 {
        drop(desk.came.lock().unwrap()[place].1.take());
        desk.settle().await;
    }
    assert_eq!(desk.names()[7..], ["third0", "third1", "third2"]);
    desk.drain().await;
}

#[tokio::test]
async fn costly_requests_of_many_clients_leave_room_for_cheap_ones() {
    let desk = Desk::new(6, 100, Charged::Work { workers: 2 });
    for place in 0..20 {
        desk.ask(&format!("costly{place}"), desk.client(&format!("costly{place}"), place), 5.0).await;
    }
    assert_eq!(desk.admission.load().running, 4);
    for place in 0..3 {
        desk.ask(&format!("cheap{place}"), desk.client("cheap", 100), 0.01).await;
    }
    assert_eq!(desk.names()[4..], ["cheap0", "cheap1"]);
    // A returned costly permit goes to the cheap request before all others.
    drop(desk.came.lock().unwrap()[0].1.take());
    desk.settle().await;
    assert_eq!(desk.names()[6..], ["cheap2"]);
    assert_eq!(desk.drain().await.len(), 23);
}

#[tokio::test]
async fn a_client_that_uses_little_comes_before_ever_new_ones_that_ask_for_more() {
    let desk = Desk::new(1, 1000, Charged::Work { workers: 2 });
    let modest = desk.client("modest", 0);
    desk.ask("first", desk.client("first", 1), 0.0).await;
    for place in 0..100 {
        desk.ask("new", desk.client(&format!("new{place}"), place + 2), 0.09).await;
    }
    // The new clients have waited long, while the modest one was served all the time.
    desk.admission.lock().account(&modest, 0.0);
    desk.ms.store(1000, Relaxed);
    modest.worked.worked(Duration::from_secs(1));
    desk.ask("modest", modest, 0.01).await;
    assert_eq!(desk.drain().await[..3], ["first", "modest", "new"]);
}

#[tokio::test]
async fn of_what_is_possessed_no_client_has_more_than_half() {
    let desk = Desk::new(4, 100, Charged::Possession);
    let (many, other) = (desk.client("many", 1), desk.client("other", 2));
    for _ in 0..4 {
        desk.ask("many", many.clone(), 0.0).await;
    }
    assert_eq!(desk.admission.load(), super::Load { running: 2, waiting: 2, room: 100 });
    desk.ask("other", other, 0.0).await;
    desk.ms.store(1000, Relaxed);
    desk.ask("third", desk.client("third", 3), 0.0).await;
    assert_eq!(desk.names(), ["many", "many", "other", "third"]);
    desk.drain().await;
}

#[tokio::test]
async fn the_greatest_burden_makes_room_and_nothing_else() {
    let desk = Desk::new(1, 3, Charged::Work { workers: 1 });
    desk.ask("first", desk.client("first", 0), 0.0).await;
    for (who, connection) in [("a", 1), ("a", 1), ("a", 1), ("b", 2), ("a", 1), ("c", 3)] {
        desk.ask(who, desk.client(who, connection), 0.0).await;
    }
    let order = desk.drain().await;
    let refused = order.iter().filter(|one| one.ends_with("refused")).count();
    assert_eq!(refused, 3, "{order:?}");
    assert!(order.contains(&"b".into()) && order.contains(&"c".into()), "{order:?}");
}

#[tokio::test]
async fn a_costly_request_makes_room_for_a_cheap_one_of_another_client() {
    let desk = Desk::new(1, 2, Charged::Work { workers: 1 });
    desk.ask("first", desk.client("first", 0), 0.0).await;
    desk.ask("costly", desk.client("a", 1), 3.0).await;
    desk.ask("cheap", desk.client("b", 2), 0.01).await;
    desk.ask("cheap, too", desk.client("c", 3), 0.01).await;
    desk.ask("costly, too", desk.client("d", 4), 3.0).await;
    assert_eq!(desk.drain().await, ["first", "costly refused", "costly, too refused", "cheap", "cheap, too"]);
}

#[tokio::test]
async fn a_request_that_goes_while_waiting_or_just_then_holds_nothing() {
    let desk = Desk::new(1, 10, Charged::Work { workers: 1 });
    let admission = &desk.admission;
    for _ in 0..20 {
        let held = admission.enter(&desk.client("a", 1), 0.0).await.unwrap();
        let own = desk.client("b", 2);
        let mut waiting = Box::pin(admission.enter(&own, 0.0));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(held);
        // The permit has been sent, but not received.
        drop(waiting);
        assert_eq!((admission.load().running, admission.load().waiting), (0, 0));
        let held = admission.enter(&own, 0.0).await.unwrap();
        let mut waiting = Box::pin(admission.enter(&own, 0.0));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(waiting);
        assert_eq!((admission.load().running, admission.load().waiting), (1, 0));
        drop(held);
    }
    assert!(admission.lock().accounts.values().all(super::Account::is_idle));
}
