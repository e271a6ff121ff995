//! Decoders, and the decode runs that they make over samples.
//!
//! [`workers`] are the threads, [`pool`] keeps open decoders for reuse, [`checkpoints`] their states; [`samples`] makes
//! packets, [`run`] sends them and receives pictures, each with its sample. The choice of runs is left to
//! [`plan`](crate::plan), the decision on each picture to `session`.

mod checkpoint_writer;
pub mod checkpoints;
mod counters;
mod inspect;
pub mod pool;
pub mod run;
pub mod samples;
pub mod workers;

pub use checkpoint_writer::CheckpointWriter;
pub use counters::{DecodeCounters, DecodeCounts};
pub use ffi::{Checkpoint, CheckpointPicture, DamageSign, Decoder, Gpu, GpuError};
pub use pool::{DecoderPool, Lease};
pub use run::{DecodeRun, Event};
pub use samples::SampleReader;
