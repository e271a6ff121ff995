//! Opening a video: the time until the first frame can be requested. The files are in the page cache.
//!
//! - `open`: an MP4 of 100,000 samples from its tables; to compare, the demo clip (250 samples), and clips without
//!   tables, which are read from end to end (Matroska, MPEG-TS).
//! - `open_with_index`: the large one with an index in memory, which has the references of its samples.
//! - `read`: this index from the bytes of its file, which are in memory.
//! - `write`: the reverse of `read`.
//! - `open_with_index_bare`, `read_bare`: the same with an index without references.
//!
//! Throughput counts samples. One engine opens all videos; closing is not timed. The large file is the demo clip 400
//! times over; the `ffmpeg` of the same build writes it once, in Cargo's folder for such files.

use std::cell::LazyCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bucket_streamer::source::{FileSource, MemorySource};
use bucket_streamer::{Engine, Index};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};

use super::clips::BenchClip;

const SAMPLES: usize = 100_000;

/// All of `index`.
pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index");
    // See `colour`.
    group.sampling_mode(SamplingMode::Flat);
    let engine = Engine::new(Some(1));
    for name in ["hevc_demo.mp4", "vp9.webm", "hevc.ts"] {
        let clip = BenchClip::fixture(name);
        group.throughput(Throughput::Elements(clip.open().track().samples.len() as u64));
        group.bench_function(BenchmarkId::new("open", &clip.name), |bencher| {
            bencher.iter_with_large_drop(|| engine.open_path(clip.path()).expect("a video"));
        });
    }
    group.throughput(Throughput::Elements(SAMPLES as u64));
    let large = LazyCell::new(|| BenchClip::at(&looped_file(BenchClip::fixture("hevc_demo.mp4").path())));
    group.bench_function(BenchmarkId::new("open", SAMPLES), |bencher| {
        LazyCell::force(&large);
        bencher.iter_with_large_drop(|| engine.open_path(large.path()).expect("a video"));
    });
    let full = LazyCell::new(|| large.open().export_index().expect("an index"));
    with_index(&mut group, &engine, "", &large, &full);
    let bare = LazyCell::new(|| large.open().export_index_without_references().expect("an index"));
    with_index(&mut group, &engine, "_bare", &large, &bare);
    group.bench_function(BenchmarkId::new("write", SAMPLES), |bencher| {
        LazyCell::force(&full);
        bencher.iter_with_large_drop(|| full.to_bytes());
    });
    group.finish();
}

fn with_index<M, E>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    engine: &Engine,
    kind: &str,
    large: &LazyCell<BenchClip, M>,
    index: &LazyCell<Index, E>,
) where
    M: FnOnce() -> BenchClip,
    E: FnOnce() -> Index,
{
    let bytes = LazyCell::new(|| MemorySource::new("index", index.to_bytes()));
    let read = || Index::read(&*bytes).expect("an index");
    group.bench_function(BenchmarkId::new(format!("read{kind}"), SAMPLES), |bencher| {
        LazyCell::force(&bytes);
        bencher.iter_with_large_drop(read);
    });
    group.bench_function(BenchmarkId::new(format!("open_with_index{kind}"), SAMPLES), |bencher| {
        let index = &**index;
        bencher.iter_with_large_drop(|| {
            let source = FileSource::open(large.path()).expect("a file");
            engine.open_with_index(Arc::new(source), index).expect("the index's video")
        });
    });
}

/// A file of [`SAMPLES`] samples, made from copies of this clip unless it exists.
fn looped_file(clip: &Path) -> PathBuf {
    let count = BenchClip::at(clip).open().track().samples.len();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // The name depends on the clip, so that another clip gives another file.
    let length = std::fs::metadata(clip).expect("a file").len();
    let path = folder.join(format!("samples_{SAMPLES}_of_{length}.mp4"));
    if !path.exists() {
        // A rename gives a complete file its name.
        let unfinished = folder.join(format!("unfinished_{}.mp4", std::process::id()));
        let ffmpeg = vendor::ensure(&mut |_| {}).expect("the vendored build").program("ffmpeg");
        let mut command = Command::new(ffmpeg);
        command.args(["-nostdin", "-v", "error", "-y", "-stream_loop", &(SAMPLES / count - 1).to_string(), "-i"]);
        let status = command.arg(clip).args(["-c", "copy"]).arg(&unfinished).status().expect("ffmpeg to start");
        assert!(status.success(), "ffmpeg: {status}");
        std::fs::rename(&unfinished, &path).expect("to rename a file");
    }
    assert_eq!(BenchClip::at(&path).open().track().samples.len(), SAMPLES);
    path
}
