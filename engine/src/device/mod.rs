//! Devices: the interface between the engine and its decoders.
//!
//! A [`DecodeDevice`] (`interface`) opens decoders, takes pictures from them, and defines the rules for its workers and
//! the meaning of its failures; the processor (`cpu`) and NVDEC (`nvdec`) are two of them. [`Devices`] chooses one for
//! a group of frames by the costs that `cost_model` has learned. The user's choice is in `choice`. The samples to
//! decode are left to [`session`](crate::session).

mod choice;
mod cost_model;
mod cpu;
mod interface;
mod nvdec;

use std::sync::Arc;

pub use self::choice::{Device, DeviceChoice};
pub(crate) use self::cost_model::{CostClass, CostModel, DeviceClass, Workload};
pub(crate) use self::cpu::Cpu;
pub(crate) use self::interface::{DecodeDevice, DecodedPicture, DecoderOpening, DeviceTraits, Residency};
pub(crate) use self::nvdec::{NoteListener, Nvdec};
use crate::bitstream::Codec;
use crate::decode::workers::WorkerPool;

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

    /// The processor, which decodes every supported stream.
    pub(crate) fn host(&self) -> Arc<dyn DecodeDevice> {
        Arc::clone(&self.cpu) as Arc<dyn DecodeDevice>
    }

    /// The processor's workers.
    pub(crate) fn host_workers(&self) -> &WorkerPool {
        self.cpu.workers()
    }

    /// The GPU, if one was chosen and opened.
    pub(crate) fn nvdec(&self) -> Option<&Nvdec> {
        self.nvdec.as_deref()
    }

    /// The device for a group of frames. A GPU decodes `pictures` pictures for it, the processor `from_checkpoints()`.
    /// With `is_host_only` a GPU is chosen only if the frames must be in its memory.
    pub(crate) fn choose(
        &self,
        kind: CostClass,
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
        // For these codecs the driver does not report damaged pictures: a GPU decodes them only if the user has chosen
        // it.
        if matches!(kind.codec, Codec::Vp9 | Codec::Av1) {
            return self.host();
        }
        let host_load = Workload { pictures: from_checkpoints(), load: self.cpu.workers().load() };
        let gpu_load = Workload { pictures, load: nvdec.workers().load() };
        match self.costs.choose(kind, host_load, gpu_load) {
            DeviceClass::Processor => self.host(),
            DeviceClass::Device => on_device(),
        }
    }
}
