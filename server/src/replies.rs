//! A memory budget for responses that are not sent yet: bodies of HTTP/1.1 and HTTP/2, and pictures for WebSockets.
//!
//! A client may hold as much as is still free, and no more: alone that is half of the budget. The last eighth is for
//! clients that hold nothing. So clients that do not read leave room for every other client's next response. A response
//! that finds no room waits, in a budget of its own, until others are sent; if that budget is full, the response is
//! refused.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// The waiting responses may take one part in this many of the budget, in addition to it.
const WAITING_SHARE: u64 = 4;
/// One part in this many of a budget is reserved for clients that hold nothing of it.
const RESERVED_SHARE: u64 = 8;

/// Memory for responses; see the module.
#[derive(Debug)]
pub(super) struct Replies {
    sending: Arc<Budget>,
    waiting: Arc<Budget>,
}

/// Bytes that clients share.
#[derive(Debug)]
struct Budget {
    total: u64,
    state: Mutex<State>,
    released: Notify,
}

#[derive(Debug, Default)]
struct State {
    held: u64,
    clients: HashMap<Arc<str>, u64>,
}

/// A part of the budget, returned when dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Arc<Budget>,
    who: Arc<str>,
    bytes: u64,
}

/// The budget is full, and so is the budget of waiting responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom;

impl Replies {
    /// A budget of `total` bytes.
    pub(super) fn new(total: u64) -> Replies {
        Replies { sending: Budget::new(total), waiting: Budget::new(total / WAITING_SHARE) }
    }

    /// Takes room for a response that is not made yet, if there is some now.
    pub(super) fn try_take(&self, who: &Arc<str>, bytes: u64) -> Option<Held> {
        self.sending.try_take(who, bytes)
    }

    /// Takes room for a response that is not made yet; waits for it.
    pub(super) async fn take(&self, who: &Arc<str>, bytes: u64) -> Held {
        loop {
            let released = self.sending.released.notified();
            let mut released = std::pin::pin!(released);
            // Enabled before the attempt, so that a release in between is not missed.
            released.as_mut().enable();
            if let Some(held) = self.try_take(who, bytes) {
                return held;
            }
            released.await;
        }
    }

    /// Takes room for a response that is already in memory. Waits for up to `patience`.
    ///
    /// # Errors
    /// `NoRoom` where it may not wait, or where it has waited in vain: the response is to be dropped.
    pub(super) async fn hold(&self, who: &Arc<str>, bytes: u64, patience: Duration) -> Result<Held, NoRoom> {
        if let Some(held) = self.try_take(who, bytes) {
            return Ok(held);
        }
        let _waiting = self.waiting.try_take(who, bytes).ok_or(NoRoom)?;
        timeout(patience, self.take(who, bytes)).await.map_err(|_| NoRoom)
    }

    /// Bytes that are not sent, including those that wait for room.
    pub(super) fn held(&self) -> u64 {
        self.sending.lock().held + self.waiting.lock().held
    }
}

impl Budget {
    fn new(total: u64) -> Arc<Budget> {
        Arc::new(Budget { total, state: Mutex::default(), released: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_take(self: &Arc<Budget>, who: &Arc<str>, bytes: u64) -> Option<Held> {
        // A response larger than a client's share takes all of the share.
        let bytes = bytes.min(self.total / 2);
        let mut state = self.lock();
        let own = state.clients.get(who).copied().unwrap_or(0);
        let has_room = own == 0 || state.held + bytes <= self.total - self.total / RESERVED_SHARE;
        if own + bytes > self.total.saturating_sub(state.held) || !has_room {
            return None;
        }
        state.held += bytes;
        *state.clients.entry(Arc::clone(who)).or_default() += bytes;
        Some(Held { budget: Arc::clone(self), who: Arc::clone(who), bytes })
    }
}

impl Held {
    /// Returns a part.
    pub(super) fn release(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let mut state = self.budget.lock();
        state.held -= bytes;
        if let Some(own) = state.clients.get_mut(&self.who) {
            *own -= bytes;
            if *own == 0 {
                state.clients.remove(&self.who);
            }
        }
        drop(state);
        self.budget.released.notify_waiters();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{NoRoom, Replies};

    fn client(number: usize) -> Arc<str> {
        format!("client {number}").into()
    }

    #[test]
    fn a_client_has_half_and_others_still_find_room() {
        let replies = Replies::new(1000);
        let mut held = Vec::new();
        let mut owned = Vec::new();
        for number in 0..9 {
            let mut own = 0;
            while let Some(part) = replies.try_take(&client(number), 10) {
                held.push(part);
                own += 10;
            }
            owned.push(own);
        }
        assert_eq!(owned, [500, 250, 120, 10, 10, 10, 10, 10, 10]);
        assert!(replies.try_take(&client(0), 1).is_none(), "its share is taken");
        assert!(replies.try_take(&client(99), 50).is_some(), "a newcomer has room all the same");
        drop(held);
        assert_eq!((replies.held(), replies.sending.lock().clients.len()), (0, 0));
    }

    #[test]
    fn what_is_larger_than_a_share_goes_alone() {
        let replies = Replies::new(1000);
        let large = replies.try_take(&client(0), 5000).unwrap();
        assert!(replies.try_take(&client(0), 10).is_none() && replies.try_take(&client(1), 10).is_some());
        drop(large);
        assert!(replies.try_take(&client(0), 10).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_finds_none_waits_and_not_all_may() {
        let replies = Replies::new(1000);
        let mut held = replies.try_take(&client(0), 450).unwrap();
        let patience = Duration::from_secs(5);
        assert_eq!(replies.hold(&client(0), 200, patience).await.unwrap_err(), NoRoom, "more than may wait");
        assert_eq!(replies.hold(&client(0), 120, patience).await.unwrap_err(), NoRoom, "nothing was given back");
        let later = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            held.release(100);
        };
        let who = client(0);
        let (got, ()) = tokio::join!(replies.hold(&who, 120, patience), later);
        assert_eq!((got.unwrap().bytes, replies.waiting.lock().held), (120, 0));
    }
}
