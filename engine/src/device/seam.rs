//! The interface of a device that decodes for an engine. The purpose of a run and the decision on its pictures are left
//! to the session.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ffi::{DevicePicture, Frame, GpuError};

use super::cost_model::Kind;
use crate::container::Track;
use crate::decode::Lease;
use crate::decode::pool::{Key, Pool};
use crate::decode::workers::WorkerPool;
use crate::error::Result;
use crate::picture_memory::Reservation;

/// The memory in which the caller wants frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Residency {
    /// In the host's memory.
    Host,
    /// The memory in which they were decoded.
    Either,
    /// A GPU's memory; otherwise the frame is refused.
    Device,
}

/// A picture in the host's or a GPU's memory.
#[derive(Debug, Clone)]
pub(crate) enum Decoded {
    /// In the host's memory: it has planes.
    Host(Frame),
    /// In a GPU's memory.
    Device(DevicePicture),
}

/// The rules for tasks on a device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traits {
    /// Runs begin at checkpoints and leave them: an interrupted run is not lost.
    pub(crate) leaves_checkpoints: bool,
    /// Workers may wait for bytes: they take no processor from other tasks.
    pub(crate) may_wait: bool,
    /// Pictures in work are in the host's memory, and the fallback decode runs there.
    pub(crate) is_host: bool,
    /// The time that a task waits for its reader to make room before it ends.
    pub(crate) patience: Duration,
}

/// The arguments of [`DecodeDevice::open`].
pub(crate) struct Opening<'a> {
    /// The source's name, for messages.
    pub(crate) source: &'a str,
    pub(crate) track: &'a Track,
    pub(crate) key: Key,
    pub(crate) pool: &'a Arc<Pool>,
    /// The reservation for its pictures in the host's memory.
    pub(crate) memory: Option<&'a Reservation>,
    /// Set once the device cannot decode this video.
    pub(crate) is_refused: &'a AtomicBool,
}

/// A device that decodes for an engine.
pub(crate) trait DecodeDevice: Debug + Send + Sync {
    /// The workers that make its decode runs.
    fn workers(&self) -> &WorkerPool;

    /// The rules for tasks with samples of this track.
    fn traits(&self, track: &Track) -> Traits;

    /// A decoder for one run; `None` if another device has to make the run.
    ///
    /// # Errors
    /// `Decoder`, if no decoder can be opened at all.
    fn open(&self, opening: &Opening<'_>) -> Result<Option<Lease>>;

    /// Takes over a picture of one of its decoders. In the host's memory it has the container's crop.
    ///
    /// # Errors
    /// The driver's error; the run must then be abandoned.
    fn take(&self, picture: Frame, track: &Track, residency: Residency) -> std::result::Result<Decoded, GpuError>;

    /// A run was abandoned for damage, or for `error`. Called on the thread that made it.
    fn abandoned(&self, source: &str, is_refused: &AtomicBool, error: Option<GpuError>);

    /// Records the duration of a run of this many pictures.
    fn learn(&self, kind: Kind, pictures: u64, time: Duration);
}
