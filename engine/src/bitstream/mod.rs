//! Parsers of coded samples: NAL units, picture types, random access points, parameter sets, picture hashes.
//!
//! They read only as much as exact random access needs. Containers are left to [`container`](crate::container),
//! decoding to [`decode`](crate::decode). Every length is checked before it is used, and no input causes a panic.

pub mod av1;
pub mod av1_headers;
pub mod av1_refs;
pub mod bits;
pub mod h264;
pub mod hevc;
pub mod hevc_sets;
pub mod hevc_slice;
pub mod nal;
pub mod parameter_sets;
pub mod random_access;
pub mod references;
pub mod vp9;
pub mod vp9_refs;

pub use nal::Framing;
pub use random_access::{RandomAccessPoint, SyncSampleFacts};

/// The supported codecs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// ITU-T H.265.
    Hevc,
    /// ITU-T H.264.
    H264,
    /// VP9.
    Vp9,
    /// AV1.
    Av1,
}

impl Codec {
    /// FFmpeg's name of the codec: `hevc`, `h264`, `vp9`, `av1`.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Hevc => "hevc",
            Codec::H264 => "h264",
            Codec::Vp9 => "vp9",
            Codec::Av1 => "av1",
        }
    }

    /// The codec with FFmpeg's name `name`; `None` for other codecs.
    pub fn from_name(name: &str) -> Option<Codec> {
        Some(match name {
            "hevc" => Codec::Hevc,
            "h264" => Codec::H264,
            "vp9" => Codec::Vp9,
            "av1" => Codec::Av1,
            _ => return None,
        })
    }
}
