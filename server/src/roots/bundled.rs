//! Clips in the program itself, for a server that has no other videos.

use bytes::Bytes;

use bucket_streamer::source::MemorySource;

/// The clips: names and contents.
pub(super) static CLIPS: [(&str, &[u8]); 3] = [
    ("av1.mp4", include_bytes!("../../../fixtures/av1.mp4")),
    ("h264_bframes.mp4", include_bytes!("../../../fixtures/h264_bframes.mp4")),
    ("hevc_demo.mp4", include_bytes!("../../../fixtures/hevc_demo.mp4")),
];

pub(super) fn open(name: &str) -> Option<MemorySource> {
    let (name, bytes) = CLIPS.iter().find(|(own, _)| *own == name)?;
    Some(MemorySource::new(name, Bytes::from_static(bytes)))
}
