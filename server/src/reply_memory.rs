//! A memory budget for responses that are not sent yet: bodies of HTTP/1.1 and HTTP/2, and pictures for WebSockets.
//!
//! A client may hold at most as much as is still free: half of the budget if no other client holds any. The last eighth
//! is for clients that hold nothing. So clients that do not read leave room for every other client's next response. A
//! response without room waits, in a second budget, until others are sent; if that budget is full, too, the response is
//! refused.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::locks::{Mutex, MutexGuard};

/// Waiting responses may take one part in this many of the budget, in addition to it.
const WAITING_SHARE: u64 = 4;
/// One part in this many of a budget is reserved for clients that hold nothing of it.
const RESERVED_SHARE: u64 = 8;

/// The budgets of responses; see the module.
#[derive(Debug)]
pub(super) struct ReplyMemory {
    sending: Arc<ReplyBudget>,
    waiting: Arc<ReplyBudget>,
}

/// A budget of bytes that clients share.
#[derive(Debug)]
struct ReplyBudget {
    total: u64,
    state: Mutex<ReplyBudgetState>,
    released: Notify,
}

#[derive(Debug, Default)]
struct ReplyBudgetState {
    used: u64,
    clients: HashMap<Arc<str>, u64>,
}

/// Reserved bytes of a budget. Dropping it returns them.
#[derive(Debug)]
pub(super) struct ReplyReservation {
    budget: Arc<ReplyBudget>,
    client: Arc<str>,
    bytes: u64,
}

/// The refusal of a response: there is no room, and it may not wait any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReplyMemoryFull;

impl ReplyMemory {
    /// A budget of `total` bytes, and a quarter more for responses that wait.
    pub(super) fn new(total: u64) -> ReplyMemory {
        ReplyMemory { sending: ReplyBudget::new(total), waiting: ReplyBudget::new(total / WAITING_SHARE) }
    }

    /// Reserves memory for a response that is not in memory yet; `None` if there is no room now.
    pub(super) fn try_reserve(&self, client: &Arc<str>, bytes: u64) -> Option<ReplyReservation> {
        self.sending.try_reserve(client, bytes)
    }

    /// Reserves memory for a response that is not in memory yet; waits until there is room.
    pub(super) async fn reserve(&self, client: &Arc<str>, bytes: u64) -> ReplyReservation {
        loop {
            let released = self.sending.released.notified();
            let mut released = std::pin::pin!(released);
            // Enabled before the attempt, so that a release between the two is not missed.
            released.as_mut().enable();
            if let Some(reservation) = self.try_reserve(client, bytes) {
                return reservation;
            }
            released.await;
        }
    }

    /// Reserves memory for a response that is already in memory. Waits for up to `max_wait`.
    ///
    /// # Errors
    /// [`ReplyMemoryFull`] if the budget of waiting responses is full, or if there is no room in time. The caller then
    /// drops the response.
    pub(super) async fn reserve_within(
        &self,
        client: &Arc<str>,
        bytes: u64,
        max_wait: Duration,
    ) -> Result<ReplyReservation, ReplyMemoryFull> {
        if let Some(reservation) = self.try_reserve(client, bytes) {
            return Ok(reservation);
        }
        let _waiting = self.waiting.try_reserve(client, bytes).ok_or(ReplyMemoryFull)?;
        timeout(max_wait, self.reserve(client, bytes)).await.map_err(|_| ReplyMemoryFull)
    }

    /// Reserved bytes, including those of waiting responses.
    pub(super) fn used(&self) -> u64 {
        self.sending.lock().used + self.waiting.lock().used
    }
}

impl ReplyBudget {
    fn new(total: u64) -> Arc<ReplyBudget> {
        Arc::new(ReplyBudget { total, state: Mutex::default(), released: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, ReplyBudgetState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_reserve(self: &Arc<ReplyBudget>, client: &Arc<str>, bytes: u64) -> Option<ReplyReservation> {
        // A response larger than half of the budget reserves half.
        let bytes = bytes.min(self.total / 2);
        let mut state = self.lock();
        let own = state.clients.get(client).copied().unwrap_or(0);
        let has_room = own == 0 || state.used + bytes <= self.total - self.total / RESERVED_SHARE;
        if own + bytes > self.total.saturating_sub(state.used) || !has_room {
            return None;
        }
        state.used += bytes;
        *state.clients.entry(Arc::clone(client)).or_default() += bytes;
        Some(ReplyReservation { budget: Arc::clone(self), client: Arc::clone(client), bytes })
    }
}

impl ReplyReservation {
    /// Returns a part of the reservation.
    pub(super) fn release(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let mut state = self.budget.lock();
        state.used -= bytes;
        if let Some(own) = state.clients.get_mut(&self.client) {
            *own -= bytes;
            if *own == 0 {
                state.clients.remove(&self.client);
            }
        }
        drop(state);
        self.budget.released.notify_waiters();
    }
}

impl Drop for ReplyReservation {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{ReplyMemory, ReplyMemoryFull};

    fn client(number: usize) -> Arc<str> {
        format!("client {number}").into()
    }

    #[test]
    fn a_client_has_half_and_others_still_find_room() {
        let replies = ReplyMemory::new(1000);
        let mut held = Vec::new();
        let mut owned = Vec::new();
        for number in 0..9 {
            let mut own = 0;
            while let Some(part) = replies.try_reserve(&client(number), 10) {
                held.push(part);
                own += 10;
            }
            owned.push(own);
        }
        assert_eq!(owned, [500, 250, 120, 10, 10, 10, 10, 10, 10]);
        assert!(replies.try_reserve(&client(0), 1).is_none(), "its share is taken");
        assert!(replies.try_reserve(&client(99), 50).is_some(), "a new client has room all the same");
        drop(held);
        assert_eq!((replies.used(), replies.sending.lock().clients.len()), (0, 0));
    }

    #[test]
    fn a_response_larger_than_a_share_takes_the_share() {
        let replies = ReplyMemory::new(1000);
        let large = replies.try_reserve(&client(0), 5000).unwrap();
        assert!(replies.try_reserve(&client(0), 10).is_none() && replies.try_reserve(&client(1), 10).is_some());
        drop(large);
        assert!(replies.try_reserve(&client(0), 10).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_without_room_waits_within_a_second_budget() {
        let replies = ReplyMemory::new(1000);
        let mut reservation = replies.try_reserve(&client(0), 450).unwrap();
        let max_wait = Duration::from_secs(5);
        assert_eq!(
            replies.reserve_within(&client(0), 200, max_wait).await.unwrap_err(),
            ReplyMemoryFull,
            "more than may wait"
        );
        assert_eq!(
            replies.reserve_within(&client(0), 120, max_wait).await.unwrap_err(),
            ReplyMemoryFull,
            "nothing was released"
        );
        let later = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            reservation.release(100);
        };
        let waiting_client = client(0);
        let (reserved, ()) = tokio::join!(replies.reserve_within(&waiting_client, 120, max_wait), later);
        assert_eq!((reserved.unwrap().bytes, replies.waiting.lock().used), (120, 0));
    }
}
