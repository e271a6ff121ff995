//! Fuzzes index files: opens a video with an arbitrary text, writes the index again, and decodes a few frames.
#![no_main]

use std::io::Write;
use std::sync::{Arc, LazyLock};

use bucket_streamer::source::{MemorySource, Source};
use bucket_streamer::{Engine, ErrorKind, Index, Video};
use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;

#[path = "counters.rs"]
mod counters;

/// One thread, so that runs with the same input are identical.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(Some(1)));

/// The files that the indexes describe (see `seed`); the first byte selects one.
const FILES: [&[u8]; 5] = [
    include_bytes!("../../fixtures/hevc.ts"),
    include_bytes!("../../fixtures/hevc.mkv"),
    include_bytes!("../../fixtures/hevc_two_descriptions.mp4"),
    include_bytes!("../../fixtures/h264_fields.h264"),
    include_bytes!("../../fixtures/vp9_show_existing.ivf"),
];

const PIXEL_LIMIT: usize = 1_000_000;
/// A decode run over more samples takes long, but is no hang.
const SAMPLE_LIMIT: u32 = 60;

fuzz_target!(|data: &[u8]| {
    counters::keep();
    let Some((&which, rest)) = data.split_first() else { return };
    // 255: the file's raw bytes. Otherwise its text, with a checksum that is always correct.
    let bytes = if which == 255 { rest.to_vec() } else { packed(rest) };
    let file = FILES[usize::from(which) % FILES.len()];
    let index = match Index::read(&MemorySource::new("index", bytes)) {
        Ok(index) => index,
        Err(error) => return refused(&error),
    };
    match open(file, &index) {
        Ok(video) => look(&video, file),
        Err(error) => refused(&error),
    }
});

fn packed(text: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::none());
    packer.write_all(text).expect("memory");
    packer.finish().expect("memory")
}

fn open(file: &'static [u8], index: &Index) -> bucket_streamer::Result<Video> {
    let source: Arc<dyn Source> = Arc::new(MemorySource::new("file", file));
    ENGINE.open_with_index(source, index)
}

fn refused(error: &bucket_streamer::Error) {
    assert!(matches!(error.kind(), ErrorKind::BadIndex(_)), "{error}");
    let line = error.to_string();
    assert!(!line.contains('\n') && line.len() < 2000, "an error is one line");
}

fn look(video: &Video, file: &'static [u8]) {
    let frames = video.frame_count() as u32;
    assert!(frames > 0, "a video without frames is an error");
    // An accepted index is written so that it is accepted again, as equal.
    let written = video.export_index().expect("an index").to_bytes();
    let again = Index::read(&MemorySource::new("index", written.clone())).expect("of our own writing");
    let again = open(file, &again).expect("of our own writing");
    assert_eq!(again.export_index().expect("an index").to_bytes(), written);
    let timeline = video.timeline();
    let _ = (timeline.duration_s(), timeline.is_variable(), video.track().parameters.rotation());
    let (width, height) = video.track().parameters.size();
    if width * height > PIXEL_LIMIT {
        return;
    }
    let mut wanted = vec![frames - 1, 0, frames / 2];
    wanted.retain(|&frame| video.track().frames[frame as usize] < SAMPLE_LIMIT);
    let mut answers = std::collections::BTreeSet::new();
    for (index, _) in video.frames(&wanted) {
        assert!(answers.insert(index), "one answer for each frame");
    }
    assert!(wanted.iter().all(|index| answers.contains(index)), "every frame gets an answer");
}
