//! Decode runs on a GPU's hardware decoders (NVDEC).
//!
//! What goes there is planned as everything else, from random access points on, since there are no checkpoints. It is the first
//! try only: whatever does not come of it as it should, the processor decodes, and decides what a damaged frame is.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ffi::{AvError, Decoder, Frame, Gpu, GpuError, GpuInfo};

use super::cost_model::{CostModel, Kind, Place};
use super::seam::{DecodeDevice, Decoded, Opening, Residency, Traits};
use crate::container::Track;
use crate::decode::workers::WorkerPool;
use crate::decode::{Counters, Lease};
use crate::error::{ErrorKind, Result};

/// Workers for each NVDEC: one whose picture is decoded, one that sends or fetches.
const WORKERS_PER_ENGINE: usize = 2;
/// Workers where the driver does not say how many NVDECs there are.
const WORKERS: usize = 4;
/// At most so many: each has a decoder with its surfaces.
const MOST_WORKERS: usize = 32;
/// Notes that are kept.
const MOST_NOTES: usize = 64;

type Hear = dyn Fn(&str) + Send + Sync;

/// What is called with each note as soon as there is one, if anything is.
#[derive(Clone, Default)]
pub(crate) struct Listener(Option<Arc<Hear>>);

impl Listener {
    /// Calls this.
    pub(crate) fn new(hear: impl Fn(&str) + Send + Sync + 'static) -> Listener {
        Listener(Some(Arc::new(hear)))
    }

    fn hear(&self, note: &str) {
        if let Some(hear) = &self.0 {
            hear(note);
        }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Listener").field(&self.0.is_some()).finish()
    }
}

/// How long the card is left alone when its memory is full.
const REST: Duration = Duration::from_secs(5);
/// How long a task waits for its reader to make room: a worker that waits takes no processor time.
const PATIENCE: Duration = Duration::from_secs(2);

/// The GPU of an engine.
#[derive(Debug)]
pub(crate) struct Nvdec {
    gpu: Gpu,
    /// They wait for the card, and are bound to no core.
    workers: WorkerPool,
    /// All that it decodes goes there.
    is_forced: bool,
    costs: Arc<CostModel>,
    counters: Arc<Counters>,
    notes: Mutex<Vec<String>>,
    listener: Listener,
    /// Until then nothing goes there.
    rests_until: Mutex<Option<Instant>>,
}

impl Nvdec {
    /// With `is_forced`, whatever the card decodes goes there.
    pub(crate) fn new(
        gpu: Gpu,
        is_forced: bool,
        listener: Listener,
        costs: Arc<CostModel>,
        counters: Arc<Counters>,
    ) -> Nvdec {
        let engines = gpu.info().engines;
        let workers = if engines == 0 { WORKERS } else { (engines * WORKERS_PER_ENGINE).clamp(WORKERS, MOST_WORKERS) };
        Nvdec {
            gpu,
            workers: WorkerPool::of_waiters(workers),
            is_forced,
            costs,
            counters,
            notes: Mutex::default(),
            listener,
            rests_until: Mutex::default(),
        }
    }

    /// Whether all that the card decodes goes there.
    pub(crate) fn is_forced(&self) -> bool {
        self.is_forced
    }

    /// Whether runs should be made there at all now.
    pub(crate) fn is_ready(&self) -> bool {
        let until = *self.rests_until.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        !self.gpu.is_lost() && until.is_none_or(|until| Instant::now() >= until)
    }

    /// The GPU.
    pub(crate) fn info(&self) -> GpuInfo {
        self.gpu.info()
    }

    /// What was noted so far.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Leaves the card alone for a while where its memory is full, and its videos where it does not decode them. Says so once.
    fn failed(&self, source: &str, is_refused: &AtomicBool, error: &GpuError) {
        if error.is_for_good() {
            is_refused.store(true, Relaxed);
        } else if error.code == AvError::NO_MEMORY {
            *self.rests_until.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(Instant::now() + REST);
        }
        let note = format!("{source}: {error}: decoded on the CPU");
        {
            let mut notes = self.notes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if notes.len() >= MOST_NOTES || notes.contains(&note) {
                return;
            }
            notes.push(note.clone());
        }
        // Without the lock: what is called may ask for the notes.
        self.listener.hear(&note);
    }
}

impl DecodeDevice for Nvdec {
    fn workers(&self) -> &WorkerPool {
        &self.workers
    }

    fn traits(&self, _track: &Track) -> Traits {
        Traits { leaves_checkpoints: false, may_wait: true, is_host: false, patience: PATIENCE }
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Option<Lease>> {
        if opening.is_refused.load(Relaxed) || self.gpu.is_lost() {
            return Ok(None);
        }
        GpuError::forget();
        let damage = opening.pool.damage_options(opening.key);
        match Decoder::open_on(&opening.track.parameters, &self.gpu, &damage) {
            Ok(decoder) => Ok(Some(Lease::of_unkept(decoder, opening.key))),
            Err(error) => {
                let why = ErrorKind::Device(error.to_string()).to_string();
                self.failed(opening.source, opening.is_refused, &GpuError { code: AvError::NOT_SUPPORTED, why });
                Ok(None)
            }
        }
    }

    fn take(&self, surface: Frame, track: &Track, residency: Residency) -> std::result::Result<Decoded, GpuError> {
        let taken = match residency {
            Residency::Host => Decoded::Host(surface.download(&track.parameters)?),
            Residency::Either | Residency::Device => Decoded::Device(surface.keep_on_device()?),
        };
        self.counters.device_frame();
        Ok(taken)
    }

    fn abandoned(&self, source: &str, is_refused: &AtomicBool, error: Option<GpuError>) {
        // Something about the stream, as libavcodec or the card sees it, if the driver says nothing: the processor will see.
        let of_stream = || {
            let why = "a picture that is damaged, or refers to what is not there".to_owned();
            GpuError { code: AvError::INVALID_DATA, why }
        };
        self.failed(source, is_refused, &error.or_else(GpuError::last).unwrap_or_else(of_stream));
    }

    fn learn(&self, kind: Kind, pictures: u64, time: Duration) {
        if !self.is_forced && pictures > 0 {
            self.costs.learn(kind, Place::Device, pictures, time.as_secs_f64());
        }
    }
}
