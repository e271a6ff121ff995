//! Scaling a picture in JPEG's colour: 4:2:0, plane by plane. Throughput counts the input pixels.
//!
//! The content of the pixels does not affect the time, so all inputs are a frame of the demo clip, scaled to the input
//! size. That scaling is not timed; nor are conversion and compression, see `colour` and `jpeg`.

use std::cell::LazyCell;
use std::hint::black_box;

use bucket_streamer::pixels::scale::Scaler;
use bucket_streamer::pixels::{Fit, JfifPlanes, Shape};
use bucket_streamer::still::{StillMaker, StillOptions};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};

use super::clips::{BenchClip, picture};

/// Widths before and after scaling; heights follow, 16 to 9.
const WIDTHS: [(u32, u32); 4] = [(1920, 640), (1920, 160), (3840, 640), (640, 1920)];

/// All of `scale`.
pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scale");
    group.sampling_mode(SamplingMode::Flat);
    let source = LazyCell::new(|| picture(&BenchClip::fixture("hevc_demo.mp4").open()));
    for (from, to) in WIDTHS {
        let of_width = |width| Shape { width: Some(width), height: None, fit: Fit::Contain };
        let planes = LazyCell::new(|| {
            let options = StillOptions { shape: of_width(from), ..StillOptions::default() };
            let mut maker = StillMaker::new().expect("memory");
            maker.planes(&source, &options).expect("planes of that size").clone()
        });
        group.throughput(Throughput::Elements(u64::from(from) * u64::from(from) * 9 / 16));
        let (mut scaler, mut out) = (Scaler::new(), JfifPlanes::default());
        group.bench_function(BenchmarkId::new(format!("{from}_to"), to), |bencher| {
            let planes = &*planes;
            bencher.iter(|| scaler.scale(black_box(planes), &of_width(to), &mut out).expect("a size that there is"));
        });
    }
    group.finish();
}
