//! Decoders, and the walks that they make over samples.
//!
//! [`pool`] keeps open decoders for reuse; [`walk`] feeds one with a run of samples and hands out what comes, each
//! picture with the sample that it belongs to. Who asked, and for what, is left to others.

pub mod checkpoints;
pub mod judge;
pub mod on_device;
pub mod pool;
pub mod walk;
pub mod workers;

pub use ffi::{Checkpoint, Decoder, Found, Gpu, GpuError, HeldPicture};
pub use pool::{Lease, Pool};
pub use walk::{Counters, Event, Keeper, Walk, Work};
