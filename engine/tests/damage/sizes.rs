//! Pictures above the size limit, or larger than the container claims.

use bucket_streamer::ErrorKind;

use testing::damage::observations::{AccessOrder, FrameObservation, engine};
use testing::damage::{IntactClip, open, resized};

/// A stream that claims pictures of 256 million pixels is refused before memory is allocated for them.
#[test]
fn pictures_that_are_too_large_are_refused_before_they_take_memory() {
    let before = peak_kib();
    let mut tried = 0;
    for name in ["hevc_open_gop_cut.265", "hevc_size_change.265", "h264_fields.h264", "vp9_tiles.ivf", "av1_tiles.ivf"]
    {
        let Some(claims) = resized(&IntactClip::fixture(name), (16_000, 16_000)) else { continue };
        tried += 1;
        let frames = match open(&engine(2, None), name, &claims.bytes) {
            Ok(video) => AccessOrder::Batch.observe(&video),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::TooManyPixels { .. }), "{name}: {error}");
                continue;
            }
        };
        assert!(frames.iter().all(|seen| !matches!(seen, FrameObservation::Picture { .. })), "{name}");
    }
    let taken = peak_kib() - before;
    assert!(tried >= 4 && taken < 256 << 10, "{tried} clips, {taken} KiB");
}

/// The same with another size in the container, and the real one in the parameter sets of samples.
#[test]
fn pictures_that_are_larger_than_the_container_says_are_errors() {
    let mut tried = 0;
    for name in
        ["hevc_params_in_samples.mp4", "h264_slices.mp4", "h264_bframes.mp4", "hevc_slices.mp4", "hevc_closed_gop.mp4"]
    {
        let Some(claims) = resized(&IntactClip::fixture(name), (640, 352)) else { continue };
        let engine = bucket_streamer::Engine::builder().threads(2).max_pixels(320 * 192).build();
        let Ok(video) = open(&engine, name, &claims.bytes) else { continue };
        tried += 1;
        let error = video.frame(0).expect_err("pictures are too large");
        assert!(matches!(error.kind(), ErrorKind::TooManyPixels { width: 640, .. }), "{name}: {error}");
    }
    assert!(tried > 0);
}

/// The peak of resident memory of this process.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
