//! Decode runs on a GPU's hardware decoders (NVDEC).
//!
//! Runs are planned as for the processor, but begin at random access points, since there are no checkpoints. A GPU is
//! only the first try: the processor decodes again what the GPU does not decode as expected, and also decides about
//! damaged frames.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ffi::{AvError, Decoder, Frame, Gpu, GpuError, GpuInfo};

use super::cost_model::{CostClass, CostModel, DeviceClass};
use super::interface::{DecodeDevice, DecodedPicture, DecoderOpening, DeviceTraits, Residency};
use crate::container::Track;
use crate::decode::workers::WorkerPool;
use crate::decode::{DecodeCounters, Lease};
use crate::error::{ErrorKind, Result};

/// Workers for each NVDEC: one waits for a picture, another one sends samples or copies a picture.
const WORKERS_PER_ENGINE: usize = 2;
/// Workers if the driver does not report the number of NVDECs.
const WORKERS: usize = 4;
/// The largest number of workers: each has a decoder with its surfaces.
const MOST_WORKERS: usize = 32;
/// The largest number of notes.
const MOST_NOTES: usize = 64;

type NoteCallback = dyn Fn(&str) + Send + Sync;

/// Passes each note to a callback as soon as it is made, if there is one.
#[derive(Clone, Default)]
pub(crate) struct NoteListener(Option<Arc<NoteCallback>>);

impl NoteListener {
    /// Calls `callback` with each note.
    pub(crate) fn new(callback: impl Fn(&str) + Send + Sync + 'static) -> NoteListener {
        NoteListener(Some(Arc::new(callback)))
    }

    fn notify(&self, note: &str) {
        if let Some(callback) = &self.0 {
            callback(note);
        }
    }
}

impl std::fmt::Debug for NoteListener {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("NoteListener").field(&self.0.is_some()).finish()
    }
}

/// The pause after the GPU's memory is full.
const PAUSE: Duration = Duration::from_secs(5);
/// The time that a task waits for room in the queue of its results: a waiting worker takes no processor time.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(2);

/// The GPU of an engine.
#[derive(Debug)]
pub(crate) struct Nvdec {
    gpu: Gpu,
    /// The workers wait for the GPU, and are not bound to cores.
    workers: WorkerPool,
    /// The GPU decodes all streams that it can.
    is_forced: bool,
    costs: Arc<CostModel>,
    counters: Arc<DecodeCounters>,
    notes: Mutex<Vec<String>>,
    listener: NoteListener,
    /// The GPU is not used before this time.
    paused_until: Mutex<Option<Instant>>,
}

impl Nvdec {
    /// With `is_forced`, the GPU decodes all streams that it can.
    pub(crate) fn new(
        gpu: Gpu,
        is_forced: bool,
        listener: NoteListener,
        costs: Arc<CostModel>,
        counters: Arc<DecodeCounters>,
    ) -> Nvdec {
        let engines = gpu.info().engines;
        let workers = if engines == 0 { WORKERS } else { (engines * WORKERS_PER_ENGINE).clamp(WORKERS, MOST_WORKERS) };
        Nvdec {
            gpu,
            workers: WorkerPool::for_waiting_tasks(workers),
            is_forced,
            costs,
            counters,
            notes: Mutex::default(),
            listener,
            paused_until: Mutex::default(),
        }
    }

    /// True if the GPU decodes all streams that it can.
    pub(crate) fn is_forced(&self) -> bool {
        self.is_forced
    }

    /// True unless the GPU is lost or paused.
    pub(crate) fn is_ready(&self) -> bool {
        let until = *self.paused_until.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        !self.gpu.is_lost() && until.is_none_or(|until| Instant::now() >= until)
    }

    /// The GPU.
    pub(crate) fn info(&self) -> GpuInfo {
        self.gpu.info()
    }

    /// The notes so far.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Pauses the GPU if its memory is full, and excludes a video that it cannot decode. Notes either once.
    fn record_failure(&self, source: &str, is_unsupported: &AtomicBool, error: &GpuError) {
        if error.is_for_good() {
            is_unsupported.store(true, Relaxed);
        } else if error.code == AvError::NO_MEMORY {
            *self.paused_until.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(Instant::now() + PAUSE);
        }
        let note = format!("{source}: {error}: decoded on the CPU");
        {
            let mut notes = self.notes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if notes.len() >= MOST_NOTES || notes.contains(&note) {
                return;
            }
            notes.push(note.clone());
        }
        // Without the lock: the callback may call [`Nvdec::notes`].
        self.listener.notify(&note);
    }
}

impl DecodeDevice for Nvdec {
    fn workers(&self) -> &WorkerPool {
        &self.workers
    }

    fn traits(&self, _track: &Track) -> DeviceTraits {
        DeviceTraits { leaves_checkpoints: false, may_wait: true, is_host: false, output_timeout: OUTPUT_TIMEOUT }
    }

    fn open(&self, opening: &DecoderOpening<'_>) -> Result<Option<Lease>> {
        if opening.is_unsupported.load(Relaxed) || self.gpu.is_lost() {
            return Ok(None);
        }
        GpuError::forget();
        let damage = opening.pool.damage_options(opening.key);
        match Decoder::open_on(&opening.track.parameters, &self.gpu, &damage) {
            Ok(decoder) => Ok(Some(Lease::unpooled(decoder, opening.key))),
            Err(error) => {
                let why = ErrorKind::Device(error.to_string()).to_string();
                self.record_failure(
                    opening.source,
                    opening.is_unsupported,
                    &GpuError { code: AvError::NOT_SUPPORTED, why },
                );
                Ok(None)
            }
        }
    }

    fn take(
        &self,
        surface: Frame,
        track: &Track,
        residency: Residency,
    ) -> std::result::Result<DecodedPicture, GpuError> {
        let taken = match residency {
            Residency::Host => DecodedPicture::Host(surface.download(&track.parameters)?),
            Residency::Either | Residency::Device => DecodedPicture::Device(surface.keep_on_device()?),
        };
        self.counters.device_frame();
        Ok(taken)
    }

    fn record_abandoned(&self, source: &str, is_unsupported: &AtomicBool, error: Option<GpuError>) {
        // Without an error of the driver the cause is the stream, as libavcodec or the GPU reports it. The processor
        // decodes it next.
        let of_stream = || {
            let why = "a picture is damaged or lacks a reference".to_owned();
            GpuError { code: AvError::INVALID_DATA, why }
        };
        self.record_failure(source, is_unsupported, &error.or_else(GpuError::last).unwrap_or_else(of_stream));
    }

    fn learn(&self, kind: CostClass, pictures: u64, time: Duration) {
        if !self.is_forced && pictures > 0 {
            self.costs.learn(kind, DeviceClass::Device, pictures, time.as_secs_f64());
        }
    }
}
