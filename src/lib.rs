//! Any frame of a video, exact, now.
//!
//! bucket-streamer decodes single frames out of H.265, H.264, VP9 and AV1 video, as a sequential decode by the same
//! libavcodec shows them, bit for bit, whichever frames were asked for before and in whatever order.
//!
//! ```no_run
//! use bucket_streamer::Engine;
//!
//! let engine = Engine::new(None);
//! let video = engine.open_path("cam.mp4")?;
//! let frame = video.frame(120)?;
//! let luma = frame.picture.plane(0).expect("every picture has a first plane");
//! println!("{}x{}, first sample {}", luma.columns, luma.rows, luma.data[0]);
//! # Ok::<(), bucket_streamer::Error>(())
//! ```
//!
//! The way of a frame: [`source`] (bytes) → [`container`] (samples) → [`bitstream`] (what a sample says of itself) →
//! [`plan`] (what to decode) → [`decode`] (pictures) → [`picture`] (stills). [`Engine`] and [`Video`] tie them together.

#![forbid(unsafe_code)]

pub mod bitstream;
pub mod container;
pub mod decode;
mod engine;
pub mod error;
mod fetch;
pub mod picture;
pub mod plan;
mod request;
pub mod source;
pub mod time;
mod video;

pub use container::Index;
pub use engine::{Engine, EngineBuilder};
pub use error::{Error, ErrorKind, Result};
pub use ffi::{Color, Frame, PixelFormat, PlaneBytes};
pub use request::{FrameFuture, Frames, InOrder};
pub use video::{Described, LeftOut, Video, VideoFrame};
