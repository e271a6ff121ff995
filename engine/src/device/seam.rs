//! What a device has to do to decode for an engine. What the runs are for, and which pictures may be shown, is left to others.

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
