//! Options that several commands have: each is said here once, with its help, its name in the environment and its default.
//! Those of one command are in its file. Those of `serve` are there too: each may also come from the environment or a file, and has
//! no default before all three were read.

mod decoding;
mod device;
#[cfg(feature = "remote")]
mod remote;
mod still;
mod video;

pub(crate) use decoding::{Decoding, Limits};
pub(crate) use device::{DeviceName, DeviceOption};
#[cfg(feature = "remote")]
pub(crate) use remote::RemoteArguments;
#[cfg(all(feature = "bench", feature = "remote"))]
pub(crate) use remote::chosen;
#[cfg(feature = "server")]
pub(crate) use remote::http_options;
pub(crate) use still::{FitArgument, Format, Quality};
pub(crate) use video::{Location, TrackOption, Which};
