//! The interface of a device that decodes for an engine. The samples of a run, and the decision on its pictures, are
//! left to the session.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ffi::{DevicePicture, Frame, GpuError};

use super::cost_model::CostClass;
use crate::container::Track;
use crate::decode::Lease;
use crate::decode::pool::{DecoderKey, DecoderPool};
use crate::decode::workers::WorkerPool;
use crate::error::Result;
use crate::picture_memory::Reservation;

/// The memory in which the caller requests frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Residency {
    /// In the host's memory.
    Host,
    /// The memory in which the decoder has left them.
    Either,
    /// A GPU's memory; a frame that cannot be there is an error.
    Device,
}

/// A picture in the host's or a GPU's memory.
#[derive(Debug, Clone)]
pub(crate) enum DecodedPicture {
    /// In the host's memory: it has planes.
    Host(Frame),
    /// In a GPU's memory.
    Device(DevicePicture),
}

/// The properties of a device that the scheduling of its tasks depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeviceTraits {
    /// Runs begin at checkpoints and save them: an interrupted run keeps its progress.
    pub(crate) leaves_checkpoints: bool,
    /// Workers may wait for bytes: they take no processor time from other tasks.
    pub(crate) may_wait: bool,
    /// Decoded pictures are in the host's memory, and the fallback decode runs there.
    pub(crate) is_host: bool,
    /// The time that a task waits for room in the queue of its results before it ends.
    pub(crate) output_timeout: Duration,
}

/// The arguments of [`DecodeDevice::open`].
pub(crate) struct DecoderOpening<'a> {
    /// The source's name, for messages.
    pub(crate) source: &'a str,
    pub(crate) track: &'a Track,
    pub(crate) key: DecoderKey,
    pub(crate) pool: &'a Arc<DecoderPool>,
    /// The reservation for its pictures in the host's memory.
    pub(crate) memory: Option<&'a Reservation>,
    /// The device sets it once it cannot decode this video.
    pub(crate) is_unsupported: &'a AtomicBool,
}

/// A device that decodes for an engine. Workers of several tasks call it concurrently.
pub(crate) trait DecodeDevice: Debug + Send + Sync {
    /// The workers that make its decode runs.
    fn workers(&self) -> &WorkerPool;

    /// The properties of the device for tasks with samples of this track.
    fn traits(&self, track: &Track) -> DeviceTraits;

    /// A decoder for one run. `None` if this device cannot make the run: its targets stay pending for another device.
    ///
    /// # Errors
    /// `Decoder`, if no decoder can be opened at all.
    fn open(&self, opening: &DecoderOpening<'_>) -> Result<Option<Lease>>;

    /// Takes over a picture of one of its decoders, in the memory that `residency` names where possible. In the host's
    /// memory it has the container's crop.
    /// # Errors
    /// The driver's error; the caller then abandons the run.
    fn take(
        &self,
        picture: Frame,
        track: &Track,
        residency: Residency,
    ) -> std::result::Result<DecodedPicture, GpuError>;

    /// Records that a run was abandoned, because of damage or of `error`; sets `is_refused` if the device cannot decode
    /// the video at all. Called on the thread of the run.
    fn record_abandoned(&self, source: &str, is_unsupported: &AtomicBool, error: Option<GpuError>);

    /// Records a complete run of `pictures` pictures for the cost model. `time` excludes the waits for room in the
    /// queue of results.
    fn learn(&self, kind: CostClass, pictures: u64, time: Duration);
}
