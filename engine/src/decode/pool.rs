//! Open decoders, kept for the next request: opening one costs more than a small picture.

use std::sync::{Arc, Mutex};

use ffi::{DamageOptions, Decoder, Threads};

use crate::container::Track;
use crate::error::{ErrorKind, Result};
use crate::picture_memory::Reservation;

/// What a decoder can be reused for: the same track, the same use of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// A number that no other open video of the process has.
    pub video: u64,
    /// Threads.
    pub threads: Threads,
    /// Damaged pictures come out, flagged; on one thread. Such a decoder is not kept. Else damage is an error.
    pub lenient: bool,
    /// Where data of slices and tiles end counts as well.
    pub check_ends: bool,
}

/// A decoder that nothing uses.
#[derive(Debug)]
struct Idle {
    key: Key,
    decoder: Decoder,
    /// What it keeps for pictures.
    bytes: u64,
}

/// Idle decoders, at most `limit` of them with `idle_bytes` of memory; past that the one that has been idle longest is closed.
#[derive(Debug)]
pub struct Pool {
    idle: Mutex<Vec<Idle>>,
    limit: usize,
    idle_bytes: u64,
    inspection: Inspection,
}

/// What decoders of a pool look at.
#[derive(Debug, Clone, Copy)]
pub struct Inspection {
    /// Pictures are compared with hashes in the stream.
    pub check_hashes: bool,
    /// Pixels that a picture may have.
    pub max_pixels: u64,
    /// Bytes that idle decoders may keep.
    pub idle_bytes: u64,
}

impl Pool {
    /// A pool that keeps up to `limit` decoders open while they are idle.
    pub fn new(limit: usize, inspection: Inspection) -> Arc<Pool> {
        Arc::new(Pool { idle: Mutex::default(), limit, idle_bytes: inspection.idle_bytes, inspection })
    }

    /// Bytes that idle decoders keep, as far as they grow with pictures.
    pub fn idle_bytes(&self) -> u64 {
        self.lock().iter().map(|idle| idle.bytes).sum()
    }

    /// An idle decoder for `key`, or a new one.
    ///
    /// # Errors
    /// `Decoder` if none can be opened.
    pub fn lease(self: &Arc<Self>, key: Key, track: &Track) -> Result<Lease> {
        let reused = {
            let mut idle = self.lock();
            idle.iter().rposition(|other| other.key == key).map(|at| idle.remove(at).decoder)
        };
        let is_fresh = reused.is_none();
        let decoder = match reused {
            Some(decoder) => decoder,
            None => self.open(key, track)?,
        };
        Ok(Lease { pool: Some(Arc::clone(self)), key, decoder: Some(decoder), is_fresh })
    }

    /// A new decoder, that nothing has been through.
    ///
    /// # Errors
    /// `Decoder` if none can be opened.
    pub fn lease_fresh(self: &Arc<Self>, key: Key, track: &Track) -> Result<Lease> {
        Ok(Lease { pool: Some(Arc::clone(self)), key, decoder: Some(self.open(key, track)?), is_fresh: true })
    }

    /// Closes all idle decoders.
    pub fn close_idle(&self) {
        let idle = std::mem::take(&mut *self.lock());
        drop(idle);
    }

    /// Closes the idle decoders of a video that is no longer open.
    pub fn forget(&self, video: u64) {
        self.lock().retain(|idle| idle.key.video != video);
    }

    /// What a decoder for `key` looks at.
    pub fn damage_options(&self, key: Key) -> DamageOptions {
        DamageOptions {
            owner: key.video + 1,
            lenient: key.lenient,
            check_hashes: self.inspection.check_hashes,
            check_ends: key.check_ends,
            max_pixels: self.inspection.max_pixels,
        }
    }

    fn open(&self, key: Key, track: &Track) -> Result<Decoder> {
        Decoder::open_inspecting(&track.parameters, key.threads, &self.damage_options(key))
            .map_err(|error| ErrorKind::Decoder(error).into())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A decoder in use. It goes back to its pool, flushed, when dropped.
#[derive(Debug)]
pub struct Lease {
    /// Where it goes back to, if it is kept.
    pool: Option<Arc<Pool>>,
    key: Key,
    decoder: Option<Decoder>,
    is_fresh: bool,
}

impl Lease {
    /// A new decoder that is closed when it is not in use any more.
    pub fn of_unkept(decoder: Decoder, key: Key) -> Lease {
        Lease { pool: None, key, decoder: Some(decoder), is_fresh: true }
    }

    /// True if the decoder has decoded nothing yet: it holds no parameter sets but those of its configuration.
    pub fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// Samples that may be in work when the next one is sent: with frame threads all but one thread's.
    pub fn lag(&self) -> usize {
        match (self.key.threads, &self.decoder) {
            (Threads::Frame(threads), Some(decoder)) if decoder.can_fork() => threads - 1,
            _ => 0,
        }
    }

    /// The decoder, its pictures charged to a reservation until it goes back to the pool.
    #[must_use]
    pub fn charged_to(mut self, memory: &Reservation) -> Lease {
        self.decoder().charge_to(Some(memory.account()));
        self
    }

    /// The decoder.
    pub fn decoder(&mut self) -> &mut Decoder {
        self.decoder.as_mut().expect("present until drop")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some(mut decoder), Some(pool)) = (self.decoder.take(), &self.pool) else { return };
        // What a lenient decoder makes of damage depends on what it has been through.
        if self.key.lenient {
            return;
        }
        // Of one that was refused memory in the middle of a picture nothing is known.
        if decoder.lacks_room() {
            return;
        }
        decoder.flush();
        decoder.charge_to(None);
        let bytes = decoder.table_bytes();
        // It would only make all others go before it goes itself.
        if bytes > pool.idle_bytes {
            return;
        }
        let mut idle = pool.lock();
        idle.push(Idle { key: self.key, decoder, bytes });
        while idle.len() > pool.limit || idle.iter().map(|one| one.bytes).sum::<u64>() > pool.idle_bytes {
            let oldest = idle.remove(0);
            drop(idle);
            drop(oldest);
            idle = pool.lock();
        }
    }
}
