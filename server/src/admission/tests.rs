//! The order of permits, evictions from a full queue, and the absence of leaks, with a clock that the tests advance.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Admission, AdmissionPermit, ChargeBasis, ClientRegistry, RequestClient};

/// An admission with a clock that the test advances.
struct TestAdmission {
    admission: Arc<Admission>,
    clients: ClientRegistry,
    ms: Arc<AtomicU64>,
    /// Admitted and refused requests in the order of their results, with their permits.
    results: Arc<Mutex<Vec<AdmissionResult>>>,
}

type AdmissionResult = (String, Option<AdmissionPermit>);

impl TestAdmission {
    fn new(limit: usize, room: usize, charged: ChargeBasis) -> TestAdmission {
        let ms = Arc::new(AtomicU64::new(0));
        let own = Arc::clone(&ms);
        let clock = Box::new(move || own.load(Relaxed) as f64 / 1e3);
        let admission = Admission::with_clock(limit, room, charged, clock);
        TestAdmission { admission, clients: ClientRegistry::default(), ms, results: Arc::default() }
    }

    fn client(&self, name: &str, connection: u64) -> RequestClient {
        self.clients.client(name, connection)
    }

    /// Requests a permit in a task of its own; the result is added to `results`.
    async fn request(&self, name: &str, client: RequestClient, cost_s: f64) {
        let (admission, results, name) = (Arc::clone(&self.admission), Arc::clone(&self.results), name.to_owned());
        tokio::spawn(async move {
            let entered = admission.enter(&client, cost_s).await;
            let verdict = if entered.is_ok() { "" } else { " refused" };
            results.lock().unwrap().push((format!("{name}{verdict}"), entered.ok()));
        });
        self.settle().await;
    }

    async fn settle(&self) {
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }

    fn names(&self) -> Vec<String> {
        self.results.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
    }

    /// Returns permits one after the other, in the order in which they were issued, until no request waits.
    async fn drain(&self) -> Vec<String> {
        let mut place = 0;
        while let Some(permit) = { self.results.lock().unwrap().get_mut(place).map(|(_, permit)| permit.take()) } {
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
    let desk = TestAdmission::new(1, 100, ChargeBasis::WorkerTime { workers: 1 });
    desk.request("first", desk.client("first", 0), 0.0).await;
    for (client, connection) in [("a", 1), ("a", 1), ("a", 2), ("a", 1), ("b", 3), ("b", 3)] {
        desk.request(&format!("{client}{connection}"), desk.client(client, connection), 0.0).await;
    }
    assert_eq!(desk.drain().await, ["first", "a1", "b3", "a2", "b3", "a1", "a1"]);
}

#[tokio::test]
async fn the_client_that_was_charged_least_is_next() {
    let desk = TestAdmission::new(1, 100, ChargeBasis::WorkerTime { workers: 1 });
    let (greedy, modest) = (desk.client("greedy", 1), desk.client("modest", 2));
    desk.request("first", greedy.clone(), 0.0).await;
    for place in 0..3 {
        desk.request(&format!("greedy{place}"), greedy.clone(), 0.1).await;
        desk.request(&format!("modest{place}"), modest.clone(), 0.1).await;
    }
    // Workers spent time on both clients, far more on one of them.
    greedy.account.charge(Duration::from_secs(5));
    modest.account.charge(Duration::from_millis(100));
    assert_eq!(desk.drain().await, ["first", "modest0", "modest1", "modest2", "greedy0", "greedy1", "greedy2"]);
}

#[tokio::test]
async fn a_charge_decays() {
    let desk = TestAdmission::new(1, 100, ChargeBasis::WorkerTime { workers: 1 });
    let (once, newcomer) = (desk.client("once", 1), desk.client("newcomer", 2));
    desk.request("first", once.clone(), 0.0).await;
    once.account.charge(Duration::from_secs(5));
    desk.admission.admit_waiting(&mut desk.admission.lock());
    desk.request("held", once.clone(), 0.0).await;
    drop(desk.results.lock().unwrap()[0].1.take());
    desk.settle().await;
    desk.ms.store(120_000, Relaxed);
    desk.request("once", once, 0.0).await;
    desk.request("newcomer", newcomer, 0.0).await;
    // Both requests cost nothing, and the first client's charge has decayed: only the order of permits counts.
    let charge_s = desk.admission.lock().accounts["once"].charge_s;
    assert!(charge_s < 1e-6, "{charge_s}");
    drop(desk.drain().await);
}

#[tokio::test]
async fn cheap_requests_overtake_costly_ones_and_do_not_starve_them() {
    let desk = TestAdmission::new(1, 100, ChargeBasis::WorkerTime { workers: 1 });
    desk.request("first", desk.client("first", 0), 0.0).await;
    for place in 0..3 {
        desk.request(&format!("costly{place}"), desk.client(&format!("costly{place}"), place), 2.0).await;
    }
    // A cheap request of a client that also has a costly one.
    desk.request("cheap of costly0", desk.client("costly0", 9), 0.01).await;
    desk.request("cheap", desk.client("cheap", 5), 0.02).await;
    // Every fifth permit goes to a costly request.
    desk.ms.store(1000, Relaxed);
    for place in 0..4 {
        desk.request(&format!("late{place}"), desk.client("late", 6), 0.02).await;
    }
    let names = desk.drain().await;
    assert_eq!(names[..5], ["first", "cheap of costly0", "cheap", "late0", "late1"]);
    assert_eq!(names[5..], ["costly1", "late2", "late3", "costly2", "costly0"]);
}

#[tokio::test]
async fn no_client_has_more_than_half_while_others_wait_and_never_all() {
    let desk = TestAdmission::new(8, 100, ChargeBasis::WorkerTime { workers: 1 });
    let many = desk.client("many", 1);
    for place in 0..8 {
        desk.request(&format!("many{place}"), many.clone(), 0.05).await;
    }
    assert_eq!(desk.admission.load().running, 6, "a quarter is left for others");
    desk.request("other", desk.client("other", 2), 0.1).await;
    assert_eq!(desk.names().last().map(String::as_str), Some("other"), "it does not wait");
    for place in 0..3 {
        desk.request(&format!("third{place}"), desk.client(&format!("third{place}"), 3), 0.1).await;
    }
    assert_eq!(desk.admission.load().running, 8);
    // Of two returned permits, the client with more than half of all gets none.
    for place in 0..2 {
        drop(desk.results.lock().unwrap()[place].1.take());
        desk.settle().await;
    }
    assert_eq!(desk.names()[7..], ["third0", "third1", "third2"]);
    desk.drain().await;
}

#[tokio::test]
async fn costly_requests_of_many_clients_leave_room_for_cheap_ones() {
    let desk = TestAdmission::new(6, 100, ChargeBasis::WorkerTime { workers: 2 });
    for place in 0..20 {
        desk.request(&format!("costly{place}"), desk.client(&format!("costly{place}"), place), 5.0).await;
    }
    assert_eq!(desk.admission.load().running, 4);
    for place in 0..3 {
        desk.request(&format!("cheap{place}"), desk.client("cheap", 100), 0.01).await;
    }
    assert_eq!(desk.names()[4..], ["cheap0", "cheap1"]);
    // A returned costly permit goes to the cheap request before all others.
    drop(desk.results.lock().unwrap()[0].1.take());
    desk.settle().await;
    assert_eq!(desk.names()[6..], ["cheap2"]);
    assert_eq!(desk.drain().await.len(), 23);
}

#[tokio::test]
async fn a_light_client_precedes_ever_new_clients_with_costlier_requests() {
    let desk = TestAdmission::new(1, 1000, ChargeBasis::WorkerTime { workers: 2 });
    let modest = desk.client("modest", 0);
    desk.request("first", desk.client("first", 1), 0.0).await;
    for place in 0..100 {
        desk.request("new", desk.client(&format!("new{place}"), place + 2), 0.09).await;
    }
    // The new clients have waited for a second; meanwhile the modest client was charged a second of work.
    desk.admission.lock().account(&modest, 0.0);
    desk.ms.store(1000, Relaxed);
    modest.account.charge(Duration::from_secs(1));
    desk.request("modest", modest, 0.01).await;
    assert_eq!(desk.drain().await[..3], ["first", "modest", "new"]);
}

#[tokio::test]
async fn no_client_holds_more_than_half_of_the_permits_charged_by_time() {
    let desk = TestAdmission::new(4, 100, ChargeBasis::HoldTime);
    let (many, other) = (desk.client("many", 1), desk.client("other", 2));
    for _ in 0..4 {
        desk.request("many", many.clone(), 0.0).await;
    }
    assert_eq!(desk.admission.load(), super::AdmissionLoad { running: 2, waiting: 2, max_waiting: 100 });
    desk.request("other", other, 0.0).await;
    desk.ms.store(1000, Relaxed);
    desk.request("third", desk.client("third", 3), 0.0).await;
    assert_eq!(desk.names(), ["many", "many", "other", "third"]);
    desk.drain().await;
}

#[tokio::test]
async fn the_greatest_burden_makes_room_and_nothing_else() {
    let desk = TestAdmission::new(1, 3, ChargeBasis::WorkerTime { workers: 1 });
    desk.request("first", desk.client("first", 0), 0.0).await;
    for (client, connection) in [("a", 1), ("a", 1), ("a", 1), ("b", 2), ("a", 1), ("c", 3)] {
        desk.request(client, desk.client(client, connection), 0.0).await;
    }
    let order = desk.drain().await;
    let refused = order.iter().filter(|one| one.ends_with("refused")).count();
    assert_eq!(refused, 3, "{order:?}");
    assert!(order.contains(&"b".into()) && order.contains(&"c".into()), "{order:?}");
}

#[tokio::test]
async fn a_costly_request_makes_room_for_a_cheap_one_of_another_client() {
    let desk = TestAdmission::new(1, 2, ChargeBasis::WorkerTime { workers: 1 });
    desk.request("first", desk.client("first", 0), 0.0).await;
    desk.request("costly", desk.client("a", 1), 3.0).await;
    desk.request("cheap", desk.client("b", 2), 0.01).await;
    desk.request("cheap, too", desk.client("c", 3), 0.01).await;
    desk.request("costly, too", desk.client("d", 4), 3.0).await;
    assert_eq!(desk.drain().await, ["first", "costly refused", "costly, too refused", "cheap", "cheap, too"]);
}

#[tokio::test]
async fn a_request_that_is_cancelled_while_waiting_or_when_admitted_holds_nothing() {
    let desk = TestAdmission::new(1, 10, ChargeBasis::WorkerTime { workers: 1 });
    let admission = &desk.admission;
    for _ in 0..20 {
        let permit = admission.enter(&desk.client("a", 1), 0.0).await.unwrap();
        let own = desk.client("b", 2);
        let mut waiting = Box::pin(admission.enter(&own, 0.0));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(permit);
        // The permit has been sent, but not received.
        drop(waiting);
        assert_eq!((admission.load().running, admission.load().waiting), (0, 0));
        let permit = admission.enter(&own, 0.0).await.unwrap();
        let mut waiting = Box::pin(admission.enter(&own, 0.0));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(waiting);
        assert_eq!((admission.load().running, admission.load().waiting), (1, 0));
        drop(permit);
    }
    assert!(admission.lock().accounts.values().all(super::ClientAccount::is_idle));
}
