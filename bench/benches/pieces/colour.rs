//! A decoded picture to JPEG's colour (BT.601, full range, 8 bits), in its own size. Throughput counts pixels.
//!
//! - `convert`: by a matrix where the picture is SDR in BT.709's primaries, by a table where it is HDR or wide gamut;
//!   for the second picture of a stream and later ones, for which the table and the buffers exist.
//! - `rgb`: the result of `convert` to R'G'B', for PNG.

use std::cell::LazyCell;
use std::hint::black_box;

use bucket_streamer::pixels::colour::is_hdr_picture;
use bucket_streamer::pixels::rgb::RgbConverter;
use bucket_streamer::pixels::{ColourConverter, JfifPlanes};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};

use super::clips::{clips, picture, pixels};

/// All of `colour`.
pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("colour");
    // A round takes milliseconds: flat sampling keeps the last measurement short. The same in `scale` and `jpeg`.
    group.sampling_mode(SamplingMode::Flat);
    let corpus =
        ["hevc_bbb_1080p_fmp4_30s.mp4", "hevc_phone_hdr10_multislice_vfr.mp4", "hevc_4k60_10bit_dv81_hdr10.mp4"];
    for clip in clips(&["hevc_demo.mp4", "hevc_10bit.mp4"], &corpus) {
        let (video, name) = (clip.open(), &clip.name);
        let options = video.colour_options();
        let picture = LazyCell::new(|| picture(&video));
        group.throughput(Throughput::Elements(pixels(&video)));
        // The colour description: not all containers have it, the first picture does.
        let is_hdr = is_hdr_picture(&video.frame(0).expect("a frame that can be decoded").picture);
        let convert = |converter: &mut ColourConverter, planes: &mut JfifPlanes| {
            converter.to_jfif(black_box(&picture), &options, planes).expect("a picture whose colour is known");
        };
        let (mut converter, mut planes) = (ColourConverter::new(), JfifPlanes::default());
        group.bench_function(BenchmarkId::new("convert", name), |bencher| {
            LazyCell::force(&picture);
            bencher.iter(|| convert(&mut converter, &mut planes));
        });
        if !is_hdr {
            let (mut rgb, mut out) = (RgbConverter::default(), Vec::new());
            let planes = LazyCell::new(|| {
                convert(&mut converter, &mut planes);
                planes
            });
            group.bench_function(BenchmarkId::new("rgb", name), |bencher| {
                let planes = &*planes;
                bencher.iter(|| rgb.convert(black_box(planes), &mut out));
            });
        }
    }
    group.finish();
}
