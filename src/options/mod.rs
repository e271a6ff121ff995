//! Options that several commands share, each defined once with its help, its environment variable and its default.
//! Options of one command are in that command's file. `serve` defines its own options: each can also come from the
//! environment or a file, and has no default until all three are read.

mod decoding;
mod device;
#[cfg(feature = "remote")]
mod remote;
mod still;
mod video;

pub(crate) use decoding::{Decoding, VideoLimitOptions};
pub(crate) use device::{DeviceName, DeviceOption};
#[cfg(feature = "remote")]
pub(crate) use remote::RemoteArguments;
#[cfg(all(feature = "bench", feature = "remote"))]
pub(crate) use remote::configured;
#[cfg(feature = "server")]
pub(crate) use remote::http_options;
pub(crate) use still::{FitArgument, Format, Quality};
pub(crate) use video::{Location, TrackAndIndex, TrackOption};
