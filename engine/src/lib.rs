//! Random access to the frames of a video, bit-exact.
//!
//! bucket-streamer decodes single frames of H.265, H.264, VP9 and AV1 video. Each frame equals, bit for bit, the one
//! that a sequential decode by the same libavcodec outputs, independent of which frames were requested before and in
//! which order.
//!
//! ```no_run
//! use bucket_streamer::Engine;
//!
//! let engine = Engine::builder().threads(4).checkpoint_memory(1 << 30).build();
//! let video = engine.open_path("cam.mp4")?;
//!
//! // One frame: its planes, without a copy.
//! let frame = video.frame(120)?;
//! for plane in frame.planes() {
//!     println!("{}x{}, {} bytes from row to row", plane.columns, plane.rows, plane.stride);
//! }
//!
//! // A batch, as the frames are decoded; and in the order of the request.
//! for (index, frame) in video.frames(&[7, 300, 120]) {
//!     println!("frame {index} is shown at {}", frame?.pts);
//! }
//! for frame in video.frames_in_order(vec![300, 7, 7]) {
//!     println!("frame {}", frame?.index);
//! }
//! # Ok::<(), bucket_streamer::Error>(())
//! ```
//!
//! Without blocking, in any async runtime:
//!
//! ```
//! # fn run(video: &bucket_streamer::Video) -> impl Future<Output = bucket_streamer::Result<()>> + '_ {
//! async {
//!     let frame = video.frame_async(120).await?;
//!     println!("{}x{}", frame.width(), frame.height());
//!     Ok(())
//! }
//! # }
//! ```
//!
//! # Main types
//!
//! - [`Engine`] owns the worker threads, the decoders and the memory budgets; [`EngineBuilder`] sets them. All videos
//!   of an engine share them, so a process needs one engine.
//! - [`Video`] is one video track with its index. Frames are numbered from 0 in presentation order; [`Video::index_at`]
//!   converts a time.
//! - [`VideoFrame`] is a decoded picture in the stream's pixel format, with its presentation time.
//!   [`still::StillMaker`] makes it a JPEG, PNG or WebP file; [`pixels`] converts its colour to that of JFIF.
//! - [`source::Source`] is where bytes come from. [`source::open`] opens a path, an `http(s)://` address (feature
//!   `remote`), or an `s3://`, `gs://` or `az://` object (feature `stores`); [`Engine::open`] takes any implementation.
//! - [`OpenOptions`] opens a location with a stored [`Index`] or an [`IndexCache`], which saves the analysis of the
//!   file. [`Catalog`] keeps videos open by their addresses.
//!
//! # Cost of a frame
//!
//! A decode begins at a random access point or at a *checkpoint*, a saved decoder state, whichever is nearer, and
//! decodes only the pictures that the frame refers to. Frames that are close to each other therefore cost little more
//! than one of them: request them together ([`Video::frames`]).
//!
//! # Errors and damage
//!
//! [`Error`] has a kind ([`ErrorKind`]) and coordinates: source, frame, sample and byte offset. A frame that fails does
//! not affect the other frames of its batch. A picture that decodes with damage, or refers to such a picture, is
//! returned with [`VideoFrame::is_corrupt`], or refused, as [`OnDamage`] says. A source that changes while it is open
//! gives [`ErrorKind::Changed`].
//!
//! # Threads and processes
//!
//! [`Engine`] and [`Video`] are `Send + Sync`, and their clones are cheap. Workers of the engine decode while the
//! caller waits or polls; [`Video::play`] and [`Video::sequence`] decode in the caller's thread. The library changes no
//! state of the process (signal handlers, allocator, limits) unless the program calls [`process`]. After `fork`, a
//! child uses [`Engine::reopen`] and [`Video::reopen_in`].
//!
//! # Modules
//!
//! [`source`] (bytes) → [`container`] (samples) → [`bitstream`] (headers of samples) → [`plan`] (samples to decode) →
//! [`decode`] (pictures) → [`pixels`] (colour, size) → [`still`] (files). The server is the crate
//! `bucket_streamer_server`. `engine/examples` has three short programs.

#![forbid(unsafe_code)]

pub mod bitstream;
mod catalog;
pub mod container;
mod damage;
pub mod decode;
mod device;
pub mod error;
mod index_cache;
pub mod info;
pub mod machine;
mod opening;
pub mod picture_memory;
pub mod pixels;
pub mod plan;
pub mod process;
pub mod quantities;
mod session;
pub mod source;
pub mod still;
pub mod storyboard;
mod sync;
pub mod time;

pub use catalog::Catalog;
pub use container::{DEFAULT_INDEX_MEMORY, Index};
pub use damage::{DEFAULT_MAX_PIXELS, OnDamage};
pub use decode::workers::Account;
pub use device::{Device, DeviceChoice};
pub use error::{Error, ErrorKind, Result};
pub use ffi::{
    AvError, CodecParameters, Color, DevicePicture, DevicePlanes, DolbyVision, Frame, GpuInfo, PaddedBytes,
    PixelFormat, PlaneBytes, Rational, Threads,
};
pub use index_cache::IndexCache;
pub use info::Info;
pub use machine::Machine;
pub use opening::OpenOptions;
pub use session::engine::{DEFAULT_OPEN_TIMEOUT, Engine, EngineBuilder};
pub use session::frame::{DecodedFrame, DeviceFrame, OmittedFrames, StreamProperties, VideoFrame};
pub use session::in_order::OrderedFrames;
pub use session::results::{FrameFuture, Frames, RequestTiming, unanswered};
pub use session::sequence::Sequence;
pub use session::shared::resident_bytes;
pub use session::video::{Video, WeakVideo};
#[cfg(feature = "lock-statistics")]
pub use sync::statistics as lock_statistics;
