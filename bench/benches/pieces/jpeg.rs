//! JPEG stills of quality 85. Throughput counts the picture's pixels.
//!
//! - `still`: a decoded picture to the bytes of a file, in its own size: conversion and compression.
//! - `compression`: libjpeg-turbo alone, on converted planes: the floor to compare with. The aim for BT.709 in 8 bits
//!   is that `still` takes less than 1.25 times as long.
//! - `still_640`: a still 640 pixels wide: conversion, scaling, and compression of fewer pixels.
//!
//! Decoding and writing files are not included.

use std::cell::LazyCell;
use std::hint::black_box;

use bucket_streamer::pixels::{JfifPlanes, Shape};
use bucket_streamer::still::{StillMaker, StillOptions};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use ffi::{JpegEncoder, JpegPlane, JpegSubsampling};

use super::clips::{clips, picture, pixels};

/// All of `jpeg`.
pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("jpeg");
    group.sampling_mode(SamplingMode::Flat);
    let corpus =
        ["hevc_bbb_1080p_fmp4_30s.mp4", "h264_croatia_1080p25_framecode.mp4", "hevc_phone_hdr10_multislice_vfr.mp4"];
    for clip in clips(&["hevc_demo.mp4"], &corpus) {
        let (video, name) = (clip.open(), &clip.name);
        let picture = LazyCell::new(|| picture(&video));
        group.throughput(Throughput::Elements(pixels(&video)));
        let options = video.still_options();
        let width = Shape { width: Some(640), ..options.shape };
        for (kind, options) in [("still", options), ("still_640", StillOptions { shape: width, ..options })] {
            let (mut maker, mut out) = (StillMaker::new().expect("memory"), Vec::new());
            group.bench_function(BenchmarkId::new(kind, name), |bencher| {
                let picture = &*picture;
                bencher.iter(|| maker.encode(black_box(picture), &options, &mut out).expect("a still"));
            });
        }
        let planes: LazyCell<JfifPlanes, _> = LazyCell::new(|| {
            let mut maker = StillMaker::new().expect("memory");
            maker.planes(&picture, &options).expect("a still").clone()
        });
        let (mut encoder, mut out) = (JpegEncoder::new().expect("memory"), Vec::new());
        group.bench_function(BenchmarkId::new("compression", name), |bencher| {
            let planes = &*planes;
            let view =
                |plane: usize| JpegPlane { data: &planes.planes[plane].data, stride: planes.planes[plane].stride };
            let (views, size) = ([view(0), view(1), view(2)], (planes.width, planes.height));
            bencher.iter(|| {
                let views = black_box(&views);
                encoder.encode(views, size, JpegSubsampling::Yuv420, options.quality, &mut out).expect("a JPEG");
            });
        });
    }
    group.finish();
}
