//! Decoders, and the decode runs that they make over samples.
//!
//! [`workers`] are the threads, [`pool`] keeps open decoders for reuse, [`checkpoints`] their states; [`samples`] makes packets,
//! [`run`] sends them and receives pictures, each with the sample that it belongs to. Which runs are made, and which pictures
//! may be shown, is left to others.

pub mod checkpoints;
mod counters;
mod inspect;
mod keeper;
pub mod pool;
pub mod run;
pub mod samples;
pub mod workers;

pub use counters::{Counters, Work};
pub use ffi::{Checkpoint, Decoder, Found, Gpu, GpuError, HeldPicture};
pub use keeper::Keeper;
pub use pool::{Lease, Pool};
pub use run::{DecodeRun, Event};
pub use samples::SampleReader;
