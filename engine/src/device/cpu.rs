//! Decode runs on the processor, by the engine's workers and the decoders of its pool. What a run decodes is left to
//! the session.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ffi::{Frame, GpuError};

use super::cost_model::{CostModel, Kind, Place};
use super::seam::{DecodeDevice, Decoded, Opening, Residency, Traits};
use crate::bitstream::Codec;
use crate::container::Track;
use crate::decode::Lease;
use crate::decode::workers::WorkerPool;
use crate::error::Result;

/// The time that a task waits for its reader to make room, if there are no checkpoints: a task that ended would have to
/// begin anew.
const PATIENCE: Duration = Duration::from_millis(200);

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

    fn traits(&self, track: &Track) -> Traits {
        // dav1d's decoders have no state that can be saved.
        let leaves_checkpoints = self.has_checkpoints && track.codec != Codec::Av1;
        let patience = if leaves_checkpoints { Duration::ZERO } else { PATIENCE };
        Traits { leaves_checkpoints, may_wait: false, is_host: true, patience }
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Option<Lease>> {
        let lease = opening.pool.lease(opening.key, opening.track).map_err(|error| error.of(opening.source))?;
        Ok(Some(match opening.memory {
            Some(memory) => lease.charged_to(memory),
            None => lease,
        }))
    }

    fn take(&self, picture: Frame, _track: &Track, _residency: Residency) -> std::result::Result<Decoded, GpuError> {
        Ok(Decoded::Host(picture))
    }

    fn abandoned(&self, _source: &str, _is_refused: &AtomicBool, _error: Option<GpuError>) {}

    fn learn(&self, kind: Kind, pictures: u64, time: Duration) {
        if let Some(costs) = &self.costs {
            costs.learn(kind, Place::Processor, pictures, time.as_secs_f64());
        }
    }
}
