//! bucket-streamer's border with C.
//!
//! Everything `unsafe` of the project is in here: FFmpeg's demuxers, parsers and decoders behind owning types that
//! cannot be misused from safe Rust, the encoders of libjpeg-turbo and libwebp for planes, and file maps that survive
//! truncation. Types follow FFmpeg's objects one to one and decide nothing; what to decode and why is the engine's.
//!
//! The bindings (`sys`) are made by bindgen from `shim/bindings.h` over the vendored headers, with an allow-list
//! (`build/bindings.rs`), and checked in; `scripts/bindings` makes them anew.

#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod account;
mod affinity;
mod checkpoint;
mod codec_parameters;
mod decoder;
mod demux;
mod error;
mod frame;
mod gpu;
mod jpeg;
mod library;
mod log;
mod mapping;
mod memory;
pub mod meter;
mod packet;
mod parameters;
mod parser;
mod pixel;
mod process;
mod signals;
mod version;
mod webp;

pub use account::{Account, Ledger, Lender};
pub use affinity::{Affinity, thread_time, while_unbound};
pub use checkpoint::{Checkpoint, HeldPicture};
pub use codec_parameters::{CodecParameters, Color, DolbyVision};
pub use decoder::{DamageOptions, Decoder, Found, Received, Sent, Threads};
pub use demux::{CropRectangle, Demuxed, Demuxer, Input, MovSample, MovSamples, StreamInfo, StreamKind};
pub use error::AvError;
pub use frame::{Frame, PlaneBytes};
pub use gpu::{DevicePicture, DevicePlanes, Gpu, GpuColour, GpuEncoder, GpuError, GpuInfo};
pub use jpeg::{JpegEncoder, JpegPlane, JpegSubsampling};
pub use library::missing_library;
pub use log::{LogLevel, set_log};
pub use mapping::{MappedFile, survive_truncation, survives_truncation};
pub use memory::{return_free_pages, return_large_blocks};
pub use packet::{PADDING, Packet, PaddedBytes};
pub use parameters::{ParameterValues, SideData, codec_name};
pub use parser::{AccessUnit, Parser, PictureStructure};
pub use pixel::{PixelFormat, PlaneLayout};
pub use process::process_number;
pub use signals::{Termination, survive_file_size_limit};
pub use version::{Component, components, cpu_count, ffmpeg_configuration};
pub use webp::{WEBP_MAX_SIDE, WebpPlane, encode_webp};

/// Raw bindings, made by bindgen.
#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    dead_code,
    unnecessary_transmutes,
    unreachable_pub,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    unsafe_op_in_unsafe_fn,
    reason = "generated from C headers"
)]
pub(crate) mod sys {
    #[cfg(not(feature = "bindgen"))]
    include!("bindings.rs");
    #[cfg(feature = "bindgen")]
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

/// FFmpeg's mark for "no timestamp" (`AV_NOPTS_VALUE`).
pub(crate) const NOPTS: i64 = i64::MIN;

/// `None` for FFmpeg's "no timestamp".
pub(crate) fn timestamp(value: i64) -> Option<i64> {
    (value != NOPTS).then_some(value)
}

/// A time base or rate: `(numerator, denominator)`.
pub type Rational = (i32, i32);

pub(crate) fn rational(value: sys::AVRational) -> Rational {
    (value.num, value.den)
}

/// A C string that lives as long as the program, as FFmpeg's names do.
///
/// # Safety
/// `name` is null or points to a NUL-terminated string that is never freed or changed.
pub(crate) unsafe fn static_name(name: *const std::ffi::c_char) -> Option<&'static str> {
    if name.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    unsafe { std::ffi::CStr::from_ptr(name) }.to_str().ok()
}
