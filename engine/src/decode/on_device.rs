//! A GPU at work for an engine: its workers, what they cost, and what was said of it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ffi::{Gpu, GpuError};

use super::judge::{Judge, Kind, Offer, Place};
use super::workers::WorkerPool;

/// Workers for each NVDEC: one whose picture is decoded, one that sends or fetches.
const WORKERS_PER_ENGINE: usize = 2;
/// Workers where the driver does not say how many NVDECs there are.
const WORKERS: usize = 4;
/// At most so many: each has a decoder with its surfaces.
const MOST_WORKERS: usize = 32;
/// Things said that nobody has asked for yet.
const MOST_NOTES: usize = 64;

type Hear = dyn Fn(&str) + Send + Sync;

/// What is called with each note as soon as there is one, if anything is.
#[derive(Clone, Default)]
pub struct Listener(Option<Arc<Hear>>);

impl Listener {
    /// Calls this.
    pub fn new(hear: impl Fn(&str) + Send + Sync + 'static) -> Listener {
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

/// The GPU of an engine.
#[derive(Debug)]
pub struct OnDevice {
    /// The GPU.
    pub gpu: Gpu,
    /// Those who wait for it. They are bound to no core.
    pub workers: WorkerPool,
    /// Everything that it decodes goes there.
    is_forced: bool,
    judge: Judge,
    notes: Mutex<Vec<String>>,
    listener: Listener,
    /// Until then nothing goes there.
    rests_until: Mutex<Option<Instant>>,
}

/// How long the card is left alone when its memory is full.
const REST: Duration = Duration::from_secs(5);

impl OnDevice {
    /// With `is_forced`, whatever the card decodes goes there.
    pub fn new(gpu: Gpu, is_forced: bool, listener: Listener) -> OnDevice {
        let engines = gpu.info().engines;
        let workers = if engines == 0 { WORKERS } else { (engines * WORKERS_PER_ENGINE).clamp(WORKERS, MOST_WORKERS) };
        let workers = WorkerPool::of_waiters(workers);
        OnDevice {
            gpu,
            workers,
            is_forced,
            judge: Judge::default(),
            notes: Mutex::default(),
            listener,
            rests_until: Mutex::default(),
        }
    }

    /// Does everything that the card decodes go there?
    pub fn is_forced(&self) -> bool {
        self.is_forced
    }

    /// Where a group should go.
    pub fn choose(&self, kind: Kind, processor: Offer, device: Offer) -> Place {
        if self.gpu.is_lost() {
            Place::Processor
        } else if self.is_forced {
            Place::Device
        } else {
            self.judge.choose(kind, processor, device)
        }
    }

    /// A walk of so many pictures took so long.
    pub fn learn(&self, kind: Kind, place: Place, pictures: u64, time: Duration) {
        if !self.is_forced && pictures > 0 {
            self.judge.learn(kind, place, pictures, time.as_secs_f64());
        }
    }

    /// The card's memory is full: for a while nothing goes there.
    pub fn rest(&self) {
        *self.rests_until.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(Instant::now() + REST);
    }

    /// Is it left alone for now?
    pub fn rests(&self) -> bool {
        let until = *self.rests_until.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Says once what the user should know.
    pub fn note(&self, who: &str, error: &GpuError) {
        let note = format!("{who}: {error}: decoded on the CPU");
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

    /// What was noted so far.
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}
