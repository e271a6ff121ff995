//! Any frame of a video, exact, now.
//!
//! bucket-streamer decodes single frames out of H.265, H.264, VP9 and AV1 video, as a sequential decode by the same
//! libavcodec shows them, bit for bit, whichever frames were asked for before and in whatever order.
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
//! // A batch, as the frames come; and in the order in which they are asked for.
//! for (index, frame) in video.frames(&[7, 300, 120]) {
//!     println!("frame {index} is shown at {}", frame?.pts);
//! }
//! for frame in video.frames_in_order(vec![300, 7, 7]) {
//!     println!("frame {}", frame?.index);
//! }
//! # Ok::<(), bucket_streamer::Error>(())
//! ```
//!
//! Without blocking, in any runtime:
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
//! Frames that are close to each other cost little more than one: an engine keeps *checkpoints* of its decoders' state
//! and begins at the nearest one, and decodes only the pictures that a frame refers to. All videos of an engine share its
//! threads and its memory for checkpoints.
//!
//! A video need not be a file: [`Engine::open`] takes any [`source::Source`], and [`source::open`] makes one of a path or of an
//! address: `http(s)://` with the feature `remote`, `s3://`, `gs://` and `az://` with `stores`. [`OpenOptions`] does both steps, with
//! an index file or an [`IndexCache`] if there is one; [`Catalog`] keeps videos open by their addresses.
//!
//! The way of a frame: [`source`] (bytes) → [`container`] (samples) → [`bitstream`] (what a sample says of itself) →
//! [`plan`] (what to decode) → [`decode`] (pictures) → [`pixels`] (colour, size) → [`still`] (files). [`Engine`] and [`Video`]
//! tie them together.
//!
//! The server is the crate `bucket_streamer_server`. `engine/examples` has three short programs.

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
pub use session::frame::{DecodedFrame, Described, DeviceFrame, LeftOut, VideoFrame};
pub use session::in_order::InOrder;
pub use session::results::{FrameFuture, Frames, Spent, unanswered};
pub use session::sequence::Sequence;
pub use session::shared::resident_bytes;
pub use session::video::{Video, WeakVideo};
