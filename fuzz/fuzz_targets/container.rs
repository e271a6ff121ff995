//! Fuzzes opening, describing, decoding and JPEG stills with arbitrary bytes as a file.
#![no_main]

use std::sync::{Arc, LazyLock};

use bucket_streamer::Engine;
use bucket_streamer::source::MemorySource;
use libfuzzer_sys::fuzz_target;

#[path = "counters.rs"]
mod counters;
#[path = "look.rs"]
mod look;

/// One thread, so that runs with the same input are identical.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(Some(1)));

const INPUT_LIMIT: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    counters::keep();
    if data.len() > INPUT_LIMIT {
        return;
    }
    let open = |track| {
        let source = Arc::new(MemorySource::new("fuzz", data.to_vec()));
        ENGINE.open(source, track)
    };
    match open(0) {
        Ok(video) => look::look(&video),
        Err(error) => assert!(!error.to_string().contains('\n'), "an error is one line"),
    }
    let _ = open(1).map(|video| look::look(&video));
});
