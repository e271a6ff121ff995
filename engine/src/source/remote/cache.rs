//! The byte budget of all sources of a client, and the eviction of the least recently used pieces. Pieces are kept by
//! `spans`.

use std::sync::{Arc, Weak};

use super::spans::SpanTable;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::sync::{Mutex, MutexGuard};

/// One budget of bytes for all sources of a client.
#[derive(Debug)]
pub(super) struct Cache {
    budget: u64,
    held: AtomicU64,
    /// A clock of uses, common to all sources.
    clock: AtomicU64,
    members: Mutex<Vec<Weak<SpanTable>>>,
}

impl Cache {
    pub(super) fn new(budget: u64) -> Cache {
        Cache { budget, held: AtomicU64::new(0), clock: AtomicU64::new(0), members: Mutex::default() }
    }

    fn members(&self) -> MutexGuard<'_, Vec<Weak<SpanTable>>> {
        self.members.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Includes a source's bytes in the budget.
    pub(super) fn join(&self, spans: &Arc<SpanTable>) {
        let mut members = self.members();
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(spans));
    }

    /// Advances the clock of uses, and returns its time.
    pub(super) fn now(&self) -> u64 {
        self.clock.fetch_add(1, Relaxed)
    }

    /// Adds to the bytes held.
    pub(super) fn add_bytes(&self, bytes: u64) {
        self.held.fetch_add(bytes, Relaxed);
    }

    /// Subtracts from the bytes held.
    pub(super) fn remove_bytes(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Relaxed);
    }

    /// Bytes held now.
    pub(super) fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Over budget, evicts the least recently used pieces of any source until an eighth is free. The caller must hold
    /// no lock on a source's bytes.
    pub(super) fn evict_over_budget(&self) {
        if self.held() <= self.budget {
            return;
        }
        // One caller at a time: two would evict twice the excess.
        let members = self.members();
        let limit = self.budget - self.budget / 8;
        let mut too_much = self.held().saturating_sub(limit);
        if self.held() <= self.budget {
            return;
        }
        let alive: Vec<Arc<SpanTable>> = members.iter().filter_map(Weak::upgrade).collect();
        let of = |(place, spans): (usize, &Arc<SpanTable>)| {
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
