//! What a coded sample says of itself: NAL units, picture types, random access points, parameter sets, picture hashes.
//!
//! Only as much as exact random access needs. Containers and decoding are left to others; nothing here trusts a length
//! that it has not checked, and nothing panics.

pub mod av1;
pub mod bits;
pub mod entry;
pub mod h264;
pub mod hevc;
pub mod nal;
pub mod parameter_sets;
pub mod vp9;

pub use entry::{Entry, EntryFacts};
pub use nal::Framing;

/// The codecs that can be decoded.
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
    /// From FFmpeg's name.
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
