//! How many bytes all sources of a client may keep in memory, and which of them go when there are too many.

use std::sync::{Arc, Weak};

use super::spans::Spans;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::sync::{Mutex, MutexGuard};

/// The budget of several sources.
#[derive(Debug)]
pub(super) struct Cache {
    budget: u64,
    held: AtomicU64,
    /// Counts uses, so that they can be compared between sources.
    clock: AtomicU64,
    members: Mutex<Vec<Weak<Spans>>>,
}

impl Cache {
    pub(super) fn new(budget: u64) -> Cache {
        Cache { budget, held: AtomicU64::new(0), clock: AtomicU64::new(0), members: Mutex::default() }
    }

    fn members(&self) -> MutexGuard<'_, Vec<Weak<Spans>>> {
        self.members.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes care of a source's bytes too.
    pub(super) fn join(&self, spans: &Arc<Spans>) {
        let mut members = self.members();
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(spans));
    }

    /// A time that is later than all before.
    pub(super) fn now(&self) -> u64 {
        self.clock.fetch_add(1, Relaxed)
    }

    /// So many bytes more are held.
    pub(super) fn took(&self, bytes: u64) {
        self.held.fetch_add(bytes, Relaxed);
    }

    /// So many bytes less are held.
    pub(super) fn gave(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Relaxed);
    }

    /// Bytes that are held now.
    pub(super) fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Where there is too much, the least recently read goes, whosever it is, until there is some room. To be called
    /// without a lock on any source's bytes.
    pub(super) fn relieve(&self) {
        if self.held() <= self.budget {
            return;
        }
        // One at a time: what two would throw out is twice what is too much.
        let members = self.members();
        let limit = self.budget - self.budget / 8;
        let mut too_much = self.held().saturating_sub(limit);
        if self.held() <= self.budget {
            return;
        }
        let alive: Vec<Arc<Spans>> = members.iter().filter_map(Weak::upgrade).collect();
        let of = |(place, spans): (usize, &Arc<Spans>)| {
            spans.free().into_iter().map(move |(used, start, len)| (used, place, start, len)).collect::<Vec<_>>()
        };
        let mut by_age: Vec<_> = alive.iter().enumerate().flat_map(of).collect();
        by_age.sort_unstable();
        let mut going: Vec<Vec<u64>> = vec![Vec::new(); alive.len()];
        for (_, place, start, len) in by_age {
            if too_much == 0 {
                break;
            }
            too_much = too_much.saturating_sub(len);
            going[place].push(start);
        }
        drop(members);
        alive.iter().zip(going).for_each(|(spans, starts)| spans.forget(&starts));
    }
}
