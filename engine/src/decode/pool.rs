//! The pool of idle decoders: opening a decoder costs more than decoding a small picture. The choice of a decoder's
//! options is left to `session::decoders`.

use std::sync::Arc;

use ffi::{DamageOptions, Decoder, Threads};

use crate::container::Track;
use crate::error::{ErrorKind, Result};
use crate::picture_memory::Reservation;
use crate::sync::unmodelled::{Mutex, MutexGuard};

/// Decoders with equal keys can replace each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderKey {
    /// The number of the open video, unique in the process.
    pub video: u64,
    /// Number and use of threads.
    pub threads: Threads,
    /// Output damaged pictures, flagged; with one thread. Such a decoder is not reused. Otherwise damage is an error.
    pub lenient: bool,
    /// Data that end early or late in a slice or tile count as damage.
    pub check_ends: bool,
}

/// An idle decoder.
#[derive(Debug)]
struct IdleDecoder {
    key: DecoderKey,
    decoder: Decoder,
    /// Bytes of its tables, which grow with pictures.
    bytes: u64,
}

/// Idle decoders, at most `limit` of them with `idle_bytes` of memory; beyond that the pool closes the one that is idle
/// longest.
#[derive(Debug)]
pub struct DecoderPool {
    idle: Mutex<Vec<IdleDecoder>>,
    limit: usize,
    idle_bytes: u64,
    inspection: PoolOptions,
}

/// Checks and limits of a pool's decoders.
#[derive(Debug, Clone, Copy)]
pub struct PoolOptions {
    /// Compare pictures with their hashes in the stream.
    pub check_hashes: bool,
    /// The largest picture in pixels.
    pub max_pixels: u64,
    /// The limit on the memory of idle decoders in bytes.
    pub idle_bytes: u64,
}

impl DecoderPool {
    /// A pool of at most `limit` idle decoders.
    pub fn new(limit: usize, inspection: PoolOptions) -> Arc<DecoderPool> {
        Arc::new(DecoderPool { idle: Mutex::default(), limit, idle_bytes: inspection.idle_bytes, inspection })
    }

    /// Memory of idle decoders in bytes, as far as it grows with pictures.
    pub fn idle_bytes(&self) -> u64 {
        self.lock().iter().map(|idle| idle.bytes).sum()
    }

    /// An idle decoder for `key`, or a new one. It returns to the pool when the lease is dropped.
    ///
    /// # Errors
    /// `Decoder` if none can be opened.
    pub fn lease(self: &Arc<Self>, key: DecoderKey, track: &Track) -> Result<Lease> {
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

    /// A new decoder, which has decoded no sample.
    ///
    /// # Errors
    /// `Decoder` if none can be opened.
    pub fn lease_fresh(self: &Arc<Self>, key: DecoderKey, track: &Track) -> Result<Lease> {
        Ok(Lease { pool: Some(Arc::clone(self)), key, decoder: Some(self.open(key, track)?), is_fresh: true })
    }

    /// Closes all idle decoders.
    pub fn close_idle(&self) {
        let idle = std::mem::take(&mut *self.lock());
        drop(idle);
    }

    /// Closes the idle decoders of a video that is no longer open.
    pub fn close_video(&self, video: u64) {
        let mut idle = self.lock();
        let closed: Vec<IdleDecoder> = idle.extract_if(.., |idle| idle.key.video == video).collect();
        drop(idle);
        // Without the lock: closing a decoder takes time.
        drop(closed);
    }

    /// The checks of a decoder for `key`.
    pub fn damage_options(&self, key: DecoderKey) -> DamageOptions {
        DamageOptions {
            owner: key.video + 1,
            lenient: key.lenient,
            check_hashes: self.inspection.check_hashes,
            check_ends: key.check_ends,
            max_pixels: self.inspection.max_pixels,
        }
    }

    fn open(&self, key: DecoderKey, track: &Track) -> Result<Decoder> {
        Decoder::open_inspecting(&track.parameters, key.threads, &self.damage_options(key))
            .map_err(|error| ErrorKind::Decoder(error).into())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<IdleDecoder>> {
        self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A decoder in use. On drop it is flushed and returned to its pool.
#[derive(Debug)]
pub struct Lease {
    /// The pool that it returns to, if it is reused.
    pool: Option<Arc<DecoderPool>>,
    key: DecoderKey,
    decoder: Option<Decoder>,
    is_fresh: bool,
}

impl Lease {
    /// A decoder that is closed on drop.
    pub fn unpooled(decoder: Decoder, key: DecoderKey) -> Lease {
        Lease { pool: None, key, decoder: Some(decoder), is_fresh: true }
    }

    /// True if the decoder has decoded nothing yet: its only parameter sets are those of its configuration.
    pub fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// Samples that may still be decoding when the next one is sent.
    pub fn lag(&self) -> usize {
        self.decoder.as_ref().map_or(0, Decoder::lag)
    }

    /// The decoder, with its pictures charged to a reservation until it returns to the pool.
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
        // The output of a lenient decoder for damage depends on the samples that it has seen.
        if self.key.lenient {
            return;
        }
        // After memory for a picture was refused in the middle of it, the state of a decoder is unknown.
        if decoder.lacks_room() {
            return;
        }
        decoder.flush();
        decoder.charge_to(None);
        let bytes = decoder.table_bytes();
        // It would evict all other decoders and then itself.
        if bytes > pool.idle_bytes {
            return;
        }
        let mut idle = pool.lock();
        idle.push(IdleDecoder { key: self.key, decoder, bytes });
        while idle.len() > pool.limit || idle.iter().map(|one| one.bytes).sum::<u64>() > pool.idle_bytes {
            let oldest = idle.remove(0);
            drop(idle);
            drop(oldest);
            idle = pool.lock();
        }
    }
}
