//! A decoded picture to JPEG's colour (BT.601, full range, 8 bits), in its own size. Throughput counts pixels.
//!
//! - `convert`: by a matrix where the picture is SDR in BT.709's primaries, by a table where it is HDR or wide gamut; the
//!   second picture of a stream and all that follow, which find the table and the buffers there.
//! - `first`: the first picture of an HDR stream, with making the table and getting memory.
//! - `rgb`: what `convert` made to R'G'B', for PNG.

use std::cell::LazyCell;
use std::hint::black_box;

use bucket_streamer::picture::colour::is_hdr_picture;
use bucket_streamer::picture::rgb::RgbConverter;
use bucket_streamer::picture::{ColourConverter, JfifPlanes};
use criterion::{BenchmarkId, Criterion, Throughput};

use super::clips::{clips, picture, pixels};

/// All of `colour`.
pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("colour");
    let corpus = [
        "hevc_bbb_1080p_fmp4_30s.mp4",
        "hevc_phone_hdr10_multislice_vfr.mp4",
        "hevc_phone_hlg_vfr_opengop_multigop.mp4",
        "hevc_4k60_10bit_dv81_hdr10.mp4",
    ];
    for clip in clips(&["hevc_demo.mp4", "hevc_10bit.mp4"], &corpus) {
        let (video, name) = (clip.open(), &clip.name);
        let options = video.colour_options();
        let picture = LazyCell::new(|| picture(&video));
        group.throughput(Throughput::Elements(pixels(&video)));
        let convert = |converter: &mut ColourConverter, planes: &mut JfifPlanes| {
            converter.to_jfif(black_box(&picture), &options, planes).expect("a picture whose colour is known");
        };
        group.bench_function(BenchmarkId::new("convert", name), |bencher| {
            let (mut converter, mut planes) = (ColourConverter::new(), JfifPlanes::default());
            convert(&mut converter, &mut planes);
            bencher.iter(|| convert(&mut converter, &mut planes));
        });
        // As the container tells it: no picture is decoded to find out.
        if matches!(video.track().parameters.color().transfer, 16 | 18) {
            group.bench_function(BenchmarkId::new("first", name), |bencher| {
                assert!(is_hdr_picture(&picture), "the stream is what the container says");
                bencher.iter_with_large_drop(|| {
                    let (mut converter, mut planes) = (ColourConverter::new(), JfifPlanes::default());
                    convert(&mut converter, &mut planes);
                    (converter, planes)
                });
            });
        } else {
            group.bench_function(BenchmarkId::new("rgb", name), |bencher| {
                let (mut planes, mut rgb, mut out) = (JfifPlanes::default(), RgbConverter::default(), Vec::new());
                convert(&mut ColourConverter::new(), &mut planes);
                bencher.iter(|| rgb.convert(black_box(&planes), &mut out));
            });
        }
    }
    group.finish();
}
