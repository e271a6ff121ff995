//! Where decode runs are made: the seam between the engine and what decodes for it.
//!
//! A [`DecodeDevice`] opens decoders, takes pictures from them, says what its workers may do and what its failures mean; the
//! processor ([`cpu`]) and NVDEC ([`nvdec`]) are two of them. [`Devices`] chooses one for a group of frames by the costs that
//! [`cost_model`] has learned. Which device a user wants is in [`choice`]. What is decoded, and which pictures may be shown, is
//! left to others.

mod choice;
mod cost_model;
mod cpu;
mod nvdec;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ffi::{DevicePicture, Frame, GpuError};

pub use self::choice::{Device, DeviceChoice};
pub(crate) use self::cost_model::{CostModel, Kind, Offer, Place};
pub(crate) use self::cpu::Cpu;
pub(crate) use self::nvdec::{Listener, Nvdec};
use crate::bitstream::Codec;
use crate::container::Track;
use crate::decode::pool::{Key, Pool};
use crate::decode::workers::WorkerPool;
use crate::decode::Lease;
use crate::error::Result;
use crate::picture_memory::Reservation;

/// Where frames should be when the caller gets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Residency {
    /// In the host's memory.
    Host,
    /// Where they were decoded.
    Either,
    /// In a GPU's memory, or they are refused.
    Device,
}

/// A picture, by where it is.
#[derive(Debug, Clone)]
pub(crate) enum Decoded {
    /// In the host's memory: it has planes.
    Host(Frame),
    /// In a GPU's memory.
    Device(DevicePicture),
}

/// What tasks may do on a device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traits {
    /// Runs begin at checkpoints and leave them: one that is broken off is not lost.
    pub(crate) leaves_checkpoints: bool,
    /// Workers may wait for bytes: they take no processor from other tasks.
    pub(crate) may_wait: bool,
    /// Pictures in work are in the host's memory, and whatever cannot be planned is decoded there too.
    pub(crate) is_host: bool,
    /// How long a task waits for its reader to make room before it ends.
    pub(crate) patience: Duration,
}

/// What a decoder is opened for.
pub(crate) struct Opening<'a> {
    /// The source's name, for messages.
    pub(crate) source: &'a str,
    pub(crate) track: &'a Track,
    pub(crate) key: Key,
    pub(crate) pool: &'a Arc<Pool>,
    /// What its pictures are charged to, in the host's memory.
    pub(crate) memory: Option<&'a Reservation>,
    /// Set once a device turns out not to decode this video.
    pub(crate) is_refused: &'a AtomicBool,
}

/// What decodes for an engine.
pub(crate) trait DecodeDevice: Debug + Send + Sync {
    /// The workers that make its decode runs.
    fn workers(&self) -> &WorkerPool;

    /// What tasks may do there with samples of this track.
    fn traits(&self, track: &Track) -> Traits;

    /// A decoder for one run; `None` where the run has to be made elsewhere.
    ///
    /// # Errors
    /// `Decoder`, where no decoder can be had at all.
    fn open(&self, opening: &Opening<'_>) -> Result<Option<Lease>>;

    /// A picture that one of its decoders gave out, for the caller to keep, in the size that the container wants where it is in
    /// the host's memory.
    ///
    /// # Errors
    /// What the driver says; the run is then to be abandoned.
    fn take(&self, picture: Frame, track: &Track, residency: Residency) -> std::result::Result<Decoded, GpuError>;

    /// A run was abandoned for damage, or for `error`. Called on the thread that made it.
    fn abandoned(&self, source: &str, is_refused: &AtomicBool, error: Option<GpuError>);

    /// A run of so many pictures took so long.
    fn learn(&self, kind: Kind, pictures: u64, time: Duration);
}

/// The devices of an engine.
#[derive(Debug)]
pub(crate) struct Devices {
    cpu: Arc<Cpu>,
    nvdec: Option<Arc<Nvdec>>,
    costs: Arc<CostModel>,
}

impl Devices {
    pub(crate) fn new(cpu: Cpu, nvdec: Option<Nvdec>, costs: Arc<CostModel>) -> Devices {
        Devices { cpu: Arc::new(cpu), nvdec: nvdec.map(Arc::new), costs }
    }

    /// The processor, which decodes whatever can be decoded.
    pub(crate) fn host(&self) -> Arc<dyn DecodeDevice> {
        Arc::clone(&self.cpu) as Arc<dyn DecodeDevice>
    }

    /// The processor's workers.
    pub(crate) fn host_workers(&self) -> &WorkerPool {
        self.cpu.workers()
    }

    /// The GPU, if one was asked for and is there.
    pub(crate) fn nvdec(&self) -> Option<&Nvdec> {
        self.nvdec.as_deref()
    }

    /// Where a group of frames should be decoded. On a GPU that takes `pictures` pictures, on the processor as many as
    /// `from_checkpoints` says. `is_host_only` where a GPU is not to be chosen by cost.
    pub(crate) fn choose(
        &self,
        kind: Kind,
        residency: Residency,
        is_host_only: bool,
        pictures: u64,
        from_checkpoints: impl FnOnce() -> u64,
    ) -> Arc<dyn DecodeDevice> {
        let Some(nvdec) = &self.nvdec else { return self.host() };
        let on_device = || Arc::clone(nvdec) as Arc<dyn DecodeDevice>;
        if residency == Residency::Device {
            return on_device();
        }
        if is_host_only || !nvdec.is_ready() {
            return self.host();
        }
        if nvdec.is_forced() {
            return on_device();
        }
        // Of these codecs the driver does not tell whether a picture is damaged: they go there only by order.
        if matches!(kind.codec, Codec::Vp9 | Codec::Av1) {
            return self.host();
        }
        let on_host = Offer { pictures: from_checkpoints(), load: self.cpu.workers().load() };
        let there = Offer { pictures, load: nvdec.workers().load() };
        match self.costs.choose(kind, on_host, there) {
            Place::Processor => self.host(),
            Place::Device => on_device(),
        }
    }
}
