//! Decode runs on the processor, by the engine's workers and the decoders of its pool. The samples of a run are left to
//! the session.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ffi::{Frame, GpuError};

use super::cost_model::{CostClass, CostModel, DeviceClass};
use super::interface::{DecodeDevice, DecodedPicture, DecoderOpening, DeviceTraits, Residency};
use crate::container::Track;
use crate::decode::Lease;
use crate::decode::workers::WorkerPool;
use crate::error::Result;

/// The time that a task waits for room in the queue of its results, if there are no checkpoints: a task that ends has
/// to be decoded from its beginning.
const OUTPUT_TIMEOUT: Duration = Duration::from_millis(200);

/// The processor.
#[derive(Debug)]
pub(crate) struct Cpu {
    workers: WorkerPool,
    /// The engine has a budget for checkpoints.
    has_checkpoints: bool,
    /// Records costs, if there is a choice of devices.
    costs: Option<Arc<CostModel>>,
}

impl Cpu {
    /// The processor, with its workers.
    pub(crate) fn new(workers: WorkerPool, has_checkpoints: bool, costs: Option<Arc<CostModel>>) -> Cpu {
        Cpu { workers, has_checkpoints, costs }
    }
}

impl DecodeDevice for Cpu {
    fn workers(&self) -> &WorkerPool {
        &self.workers
    }

    fn traits(&self, _: &Track) -> DeviceTraits {
        let leaves_checkpoints = self.has_checkpoints;
        let output_timeout = if leaves_checkpoints { Duration::ZERO } else { OUTPUT_TIMEOUT };
        DeviceTraits { leaves_checkpoints, may_wait: false, is_host: true, output_timeout }
    }

    fn open(&self, opening: &DecoderOpening<'_>) -> Result<Option<Lease>> {
        let lease = opening.pool.lease(opening.key, opening.track).map_err(|error| error.of(opening.source))?;
        Ok(Some(match opening.memory {
            Some(memory) => lease.charged_to(memory),
            None => lease,
        }))
    }

    fn take(
        &self,
        picture: Frame,
        _track: &Track,
        _residency: Residency,
    ) -> std::result::Result<DecodedPicture, GpuError> {
        Ok(DecodedPicture::Host(picture))
    }

    fn record_abandoned(&self, _source: &str, _is_refused: &AtomicBool, _error: Option<GpuError>) {}

    fn learn(&self, kind: CostClass, pictures: u64, time: Duration) {
        if let Some(costs) = &self.costs {
            costs.learn(kind, DeviceClass::Processor, pictures, time.as_secs_f64());
        }
    }
}
