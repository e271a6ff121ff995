//! Clips in the program itself: something to look at where nothing else is served.

use bytes::Bytes;

use bucket_streamer::source::MemorySource;

/// By their names.
pub(super) static CLIPS: [(&str, &[u8]); 3] = [
    ("av1.mp4", include_bytes!("../../../fixtures/av1.mp4")),
    ("h264_bframes.mp4", include_bytes!("../../../fixtures/h264_bframes.mp4")),
    ("hevc_demo.mp4", include_bytes!("../../../fixtures/hevc_demo.mp4")),
];

pub(super) fn open(name: &str) -> Option<MemorySource> {
    let (name, bytes) = CLIPS.iter().find(|(own, _)| *own == name)?;
    Some(MemorySource::new(name, Bytes::from_static(bytes)))
}
