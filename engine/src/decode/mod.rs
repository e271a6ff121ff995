//! Decoders, and the decode runs that they make over samples.
//!
//! [`workers`] are the threads, [`pool`] keeps open decoders for reuse, [`checkpoints`] their states; [`samples`] makes
//! packets, [`run`] sends them and receives pictures, each with its sample. The choice of runs is left to
//! [`plan`](crate::plan), the decision on each picture to `session`.

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
