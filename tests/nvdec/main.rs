//! Decoding on a GPU, without one: against a driver that checks its use and takes its pictures from a sequential decode
//! (`driver/`). The behaviour of real GPUs is left to tests on real ones.
#![allow(clippy::print_stderr, reason = "tests report what they leave out")]

#[path = "../common/mod.rs"]
mod common;
mod fake;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bucket_streamer::bitstream::Codec;
use bucket_streamer::pixels::ColourOptions;
use bucket_streamer::still::{StillMaker, StillOptions};
use bucket_streamer::{Device, DeviceChoice, Engine, ErrorKind};
use serde_json::Value;

use common::{clips, fixture, name};
use fake::{Driver, Run};

/// Clips that the GPU decodes, wholly or in part: 8 and 10 bits, open GOPs, leading pictures, cropped sizes, changed
/// parameter sets, slices, field pairs.
const ON_THE_CARD: [&str; 8] = [
    "hevc_closed_gop.mp4",
    "hevc_open_gop.mp4",
    "hevc_10bit.mp4",
    "hevc_demo.mp4",
    "h264_bframes.mp4",
    "h264_two_edits.mp4",
    "hevc_params_in_samples.mp4",
    "hevc_fragmented.mp4",
];

/// Every third frame, backwards, and the first two once more.
fn some_frames(count: usize) -> String {
    let frames = (0..count).rev().step_by(3).chain([0, 1.min(count - 1)]);
    frames.map(|frame| frame.to_string()).collect::<Vec<_>>().join(",")
}

/// The MD5s that `extract` prints, and its messages.
fn md5s(run: &mut Run, clip: &Path, device: &str, frames: &str) -> (String, String) {
    let arguments = ["extract", "--format", "framemd5", "--device", device, "--frames", frames];
    run.program(&arguments, clip)
}

fn number(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("{name} in {report}"))
}

/// Decodes some frames on the fake GPU, and compares them with those of the CPU.
fn same_as_on_the_cpu(driver: &Driver, clip: &Path, environment: &[(&str, &str)]) -> Option<(Value, String)> {
    let oracle = driver.oracle(clip)?;
    let frames = some_frames(oracle.frames);
    let (expected, _) = md5s(&mut Run::without_card(), clip, "cpu", &frames);
    let mut run = Run::on(driver, &oracle);
    run.set(environment);
    let (found, said) = md5s(&mut run, clip, "nvdec", &frames);
    assert_eq!(found, expected, "{}: {said}", name(clip));
    assert!(!said.contains("panicked"), "{}: {said}", name(clip));
    Some((run.report(), said))
}

#[test]
fn every_clip_has_the_same_frames_on_the_gpu_and_the_cpu() {
    let driver = Driver::build();
    let mut seen = Vec::new();
    for clip in clips() {
        let Some((report, said)) = same_as_on_the_cpu(&driver, &clip, &[]) else { continue };
        let name = name(&clip);
        assert_eq!(number(&report, "errors"), 0, "{name}: {report} {said}");
        assert_eq!(number(&report, "pictures_garbage"), 0, "{name}: {report} {said}");
        assert_eq!(number(&report, "maps"), number(&report, "unmaps"), "{name}: {report}");
        if number(&report, "maps") > 0 {
            seen.push(name);
        }
    }
    let missing: Vec<_> = ON_THE_CARD.iter().filter(|name| !seen.iter().any(|seen| seen == *name)).collect();
    assert!(missing.is_empty(), "decoded on the CPU: {missing:?}; on the card: {seen:?}");
    eprintln!("on the card: {}", seen.join(" "));
}

/// The GPU decodes only the pictures that a target needs.
#[test]
fn only_needed_pictures_are_decoded() {
    let driver = Driver::build();
    let clip = fixture("hevc_demo.mp4");
    let oracle = driver.oracle(&clip).expect("an oracle");
    let last = (oracle.frames - 1).to_string();
    let mut run = Run::on(&driver, &oracle);
    let (found, said) = md5s(&mut run, &clip, "nvdec", &last);
    assert_eq!(found, md5s(&mut Run::without_card(), &clip, "cpu", &last).0);
    let report = run.report();
    let engine = Engine::builder().checkpoint_memory(0).build();
    let video = engine.open_path(&clip).expect("to open");
    let planned: usize = video.plan(&[oracle.frames as u32 - 1]).iter().map(|run| run.samples.len()).sum();
    assert_eq!(number(&report, "pictures_decoded"), planned as u64, "{said}");
    assert!(planned < oracle.frames, "the clip has something to leave out");
    assert_eq!(number(&report, "maps"), 1, "only the requested picture is copied");
}

#[test]
fn unsupported_video_is_decoded_on_the_cpu_with_a_message() {
    let driver = Driver::build();
    let clip = fixture("hevc_closed_gop.mp4");
    let (report, said) = same_as_on_the_cpu(&driver, &clip, &[("FAKE_NO_CODEC", "hevc")]).expect("an oracle");
    assert_eq!(number(&report, "maps"), 0);
    assert!(said.contains("does not decode") && said.contains("on the CPU"), "{said}");
    let (_, said) = same_as_on_the_cpu(&driver, &clip, &[("FAKE_MIN_SIZE", "4096")]).expect("an oracle");
    assert!(said.contains("4096x4096"), "{said}");
    for lacking in ["hevc_12bit_422.mp4", "vp9_odd.webm", "av1.mp4"] {
        let (_, said) = same_as_on_the_cpu(&driver, &fixture(lacking), &[]).expect("an oracle");
        assert!(said.contains("on the CPU"), "{lacking}: {said}");
    }
}

/// For any failing call, time and code: the frames are correct, and the program ends orderly.
#[test]
fn failures_of_the_driver_end_on_the_cpu() {
    let driver = Driver::build();
    let clip = fixture("hevc_closed_gop.mp4");
    for call in
        ["cuvidCreateDecoder", "cuvidDecodePicture", "cuvidMapVideoFrame", "cuMemcpy2DAsync"].into_iter().chain([
            "cuStreamCreate",
            "cuStreamSynchronize",
            "cuvidGetDecodeStatus",
            "cuMemHostAlloc",
            "cuvidUnmapVideoFrame",
        ])
    {
        for (time, code) in [(1, 999), (3, 999), (2, 700), (1, 719), (1, 2)] {
            let fault = format!("{call}:{time}:{code}");
            let (report, said) = same_as_on_the_cpu(&driver, &clip, &[("FAKE_FAIL", &fault)]).expect("an oracle");
            // A call that runs out of memory is repeated; and not every call occurs three times.
            if code != 2 && number(&report, "maps") + number(&report, "pictures_decoded") > 0 && time == 1 {
                assert!(said.contains("on the CPU"), "{fault}: {said} {report}");
            }
        }
    }
    for call in ["cuInit", "cuDevicePrimaryCtxRetain", "cuvidGetDecoderCaps"] {
        let oracle = driver.oracle(&clip).expect("an oracle");
        let mut run = Run::on(&driver, &oracle);
        run.set(&[("FAKE_FAIL", &format!("{call}:1"))]);
        let output = run.output(&["extract", "--frames", "0", "--device", "nvdec", "--format", "framemd5"], &clip);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{call}: {said}");
        assert!(said.contains(call), "{said}");
    }
}

#[test]
fn memory_that_runs_out_is_no_end() {
    let driver = Driver::build();
    let clip = fixture("hevc_closed_gop.mp4");
    let (report, said) = same_as_on_the_cpu(&driver, &clip, &[("FAKE_MEMORY_MIB", "1")]).expect("an oracle");
    assert_eq!(number(&report, "maps"), 0, "{said}");
    assert!(said.contains("OUT_OF_MEMORY") && said.contains("on the CPU"), "{said}");
}

/// The GPU conceals damage, and reports it; the frames concerned are decoded on the CPU.
#[test]
fn damage_that_the_card_reports_is_never_shown() {
    let driver = Driver::build();
    let clip = fixture("hevc_closed_gop.mp4");
    let oracle = driver.oracle(&clip).expect("an oracle");
    let damaged = oracle.hash_of(3);
    for more in [&[][..], &[("FAKE_BUSY", "3")]] {
        let environment: Vec<_> = more.iter().copied().chain([("FAKE_DAMAGED", &damaged[..])]).collect();
        let (report, said) = same_as_on_the_cpu(&driver, &clip, &environment).expect("an oracle");
        assert!(number(&report, "maps") > 0, "{said}");
    }
}

#[test]
fn hardware_decoders_are_used_again() {
    let driver = Driver::build();
    let clip = fixture("hevc_closed_gop.mp4");
    let (report, _) = same_as_on_the_cpu(&driver, &clip, &[]).expect("an oracle");
    // At most one decoder per worker, for any number of decode runs.
    assert!(number(&report, "decoders_created") <= 14, "{report}");
    assert_eq!(number(&report, "decoders_created"), number(&report, "max_decoders_open"), "{report}");
}

#[test]
fn auto_without_a_card_is_the_cpu_and_says_so() {
    let clip = fixture("hevc_closed_gop.mp4");
    let (expected, _) = md5s(&mut Run::without_card(), &clip, "cpu", "0-9");
    let (found, said) = md5s(&mut Run::without_card(), &clip, "auto", "0-9");
    assert_eq!(found, expected);
    assert_eq!(said, "bucket-streamer: --device auto: no NVDEC (no libcuda): decoding on the CPU\n");
    let output = Run::without_card().output(&["extract", "--frames", "0", "--device", "nvdec"], &clip);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        (output.status.code(), &said[..]),
        (Some(2), "bucket-streamer: --device nvdec:0: no NVDEC: no libcuda\n")
    );
}

#[test]
fn auto_with_a_card_tries_both_and_every_frame_is_right() {
    let driver = Driver::build();
    for clip in ["hevc_demo.mp4", "h264_bframes.mp4"].map(fixture) {
        let oracle = driver.oracle(&clip).expect("an oracle");
        // One GOP after the other, so that the cost model has a choice.
        let frames = some_frames(oracle.frames);
        let expected = md5s(&mut Run::without_card(), &clip, "cpu", &frames).0;
        let mut run = Run::on(&driver, &oracle);
        assert_eq!(md5s(&mut run, &clip, "auto", &frames).0, expected);
        assert_eq!(number(&run.report(), "errors"), 0);
    }
}

#[cfg(feature = "bench")]
#[test]
fn bench_measures_it_or_says_why_not() {
    let driver = Driver::build();
    let clip = fixture("hevc_closed_gop.mp4");
    let oracle = driver.oracle(&clip).expect("an oracle");
    let entry = |environment: &[(&str, &str)]| {
        let folder = tempfile::tempdir().expect("a folder");
        let json = folder.path().join("bench.json");
        let mut run = Run::on(&driver, &oracle);
        run.set(environment);
        let json_path = json.to_str().expect("a path");
        run.program(
            &["bench", "random", "--engine", "nvdec", "--count", "8", "--no-floor", "--json", json_path],
            &clip,
        );
        let text = std::fs::read_to_string(&json).expect("what bench wrote");
        serde_json::from_str::<Value>(&text).expect("JSON")[0].clone()
    };
    let measured = entry(&[]);
    assert_eq!(
        (&measured["frames"], &measured["wrong"], &measured["errors"]),
        (&8.into(), &0.into(), &0.into()),
        "{measured}"
    );
    let refused = entry(&[("FAKE_NO_CODEC", "hevc")]);
    assert!(refused["unavailable"].as_str().is_some_and(|why| why.contains("does not decode")), "{refused}");
}

/// The CPU decodes nothing while bytes for a run on the GPU are on their way.
#[cfg(feature = "remote")]
#[test]
fn frames_from_afar_are_decoded_on_the_card() {
    let driver = Driver::build();
    let clip = fixture("hevc_closed_gop.mp4");
    let oracle = driver.oracle(&clip).expect("an oracle");
    let server = testing::range_server::RangeServer::start();
    let address = server.put("clip.mp4", std::fs::read(&clip).expect("the clip"), "\"1\"");
    let expected = md5s(&mut Run::without_card(), &clip, "cpu", "100,3,60,140").0;
    let mut run = Run::on(&driver, &oracle);
    assert_eq!(md5s(&mut run, Path::new(&address), "nvdec", "100,3,60,140").0, expected);
    let report = run.report();
    assert_eq!((number(&report, "maps"), number(&report, "errors")), (4, 0), "{report}");
}

/// Frames for a caller that continues on the GPU. In a process of its own, with the GPU.
#[test]
fn frames_stay_in_the_memory_of_the_card() {
    let driver = Driver::build();
    let clip = fixture("hevc_closed_gop.mp4");
    let oracle = driver.oracle(&clip).expect("an oracle");
    let mut run = Run::on(&driver, &oracle);
    run.again("on_the_card::frames_on_device");
    let report = run.report();
    assert!(number(&report, "maps") >= 4, "{report}");
    assert_eq!(number(&report, "errors"), 0, "{report}");
    // Everything was released: programs do not wait for that at their end.
    assert_eq!(number(&report, "decoders_created"), number(&report, "decoders_destroyed"), "{report}");
    assert_eq!(number(&report, "bytes_allocated_now") + number(&report, "host_bytes_now"), 0, "{report}");
}

/// Stills that are encoded on the GPU. This nvJPEG outputs the planes that it gets.
#[test]
fn stills_are_encoded_on_the_gpu() {
    let driver = Driver::build();
    // 8 and 10 bits, and of a cropped size.
    for clip in ["hevc_closed_gop.mp4", "hevc_10bit.mp4", "h264_bframes.mp4"].map(fixture) {
        let oracle = driver.oracle(&clip).expect("an oracle");
        let mut run = Run::on(&driver, &oracle);
        // One of them is HDR, which is treated as the others without tone mapping.
        let how = ["extract", "--device", "nvdec", "--gpu-jpeg", "--no-tonemap", "--quality", "77"];
        let (_, said) = run.program(&[&how[..], &["--frames", "3,17,8", "-o", "out"]].concat(), &clip);
        let video = Engine::new(Some(1)).open_path(&clip).expect("to open");
        let colour = ColourOptions { tonemap: false, ..ColourOptions::default() };
        let options = StillOptions { colour, ..video.still_options() };
        let mut maker = StillMaker::new().expect("memory");
        for index in [3, 17, 8] {
            let bytes = run.only_file_with("out", index);
            let planes = maker.planes(&video.frame(index).expect("a frame").picture, &options).expect("planes");
            let head = format!("FAKE 77 {} {}\n", planes.width, planes.height);
            let found = bytes.strip_prefix(head.as_bytes()).unwrap_or_else(|| panic!("{head}{said}"));
            let expected: Vec<u8> = planes
                .planes
                .iter()
                .flat_map(|plane| (0..plane.height).flat_map(|row| plane.row(row)[..plane.width].to_vec()))
                .collect();
            assert_eq!(found.len(), expected.len(), "{}", name(&clip));
            let furthest = found.iter().zip(&expected).map(|(found, expected)| found.abs_diff(*expected)).max();
            assert!(furthest <= Some(1), "{}: frame {index}: {furthest:?}", name(&clip));
        }
        assert_eq!(number(&run.report(), "errors"), 0);
    }
}

/// Other stills, and all of them when nvJPEG fails, are encoded on the CPU from the GPU's pictures.
#[test]
fn other_stills_are_encoded_on_the_cpu() {
    let driver = Driver::build();
    let clip = fixture("hevc_closed_gop.mp4");
    let oracle = driver.oracle(&clip).expect("an oracle");
    let made = |run: &mut Run, more: &[&str]| {
        let arguments = [&["extract", "--frames", "5", "-o", "out"], more].concat();
        run.program(&arguments, &clip);
        run.only_file_with("out", 5)
    };
    for (more, fault) in [
        (&["--width", "160"][..], ""),
        (&["--format", "png"], ""),
        (&[], "nvjpegEncodeYUV:6"),
        (&[], "nvjpegCreateSimple:1"),
        (&[], "nvjpegEncodeRetrieveBitstream:6"),
    ] {
        let mut run = Run::on(&driver, &oracle);
        run.set(&[("FAKE_NVJPEG_FAIL", fault)]);
        let found = made(&mut run, &[more, &["--device", "nvdec", "--gpu-jpeg"]].concat());
        assert!(number(&run.report(), "maps") > 0);
        assert!(found == made(&mut Run::without_card(), more), "{more:?} {fault}");
    }
}

/// Run by the tests above, in processes with the fake GPU.
mod on_the_card {
    use super::*;

    fn engine() -> Option<Engine> {
        std::env::var_os("FAKE_ORACLE")?;
        let device = Device::open(DeviceChoice::Nvdec(0)).expect("the card");
        Some(Engine::builder().threads(2).device(device).build())
    }

    fn clip() -> PathBuf {
        fixture("hevc_closed_gop.mp4")
    }

    #[test]
    fn frames_on_device() {
        let Some(engine) = engine() else { return };
        let video = engine.open_path(clip()).expect("to open");
        let plain = Engine::new(Some(1)).open_path(clip()).expect("to open");
        let mut count = 0;
        for (index, frame) in video.frames_on_device(&[0, 7, 3, 9]) {
            let frame = frame.expect("a frame");
            let there = frame.picture.planes();
            let here = plain.frame(index).expect("a frame");
            assert_eq!((there.width, there.height, there.plane_count), (here.width(), here.height(), 2));
            assert_eq!(frame.pts, here.pts);
            count += 1;
        }
        assert_eq!(count, 4);
        assert_eq!(engine.work().device_frames, 4);
        let (_, refused) = video.frames_on_device(&[1_000_000]).next().expect("an answer");
        assert!(matches!(refused.expect_err("no such frame").kind(), ErrorKind::NoSuchFrame { .. }));
        // Of a format that the GPU does not decode.
        let other = engine.open_path(fixture("hevc_12bit_422.mp4")).expect("to open");
        let (_, refused) = other.frames_on_device(&[0]).next().expect("an answer");
        assert!(matches!(refused.expect_err("not on this card").kind(), ErrorKind::NotOnDevice));
        assert_eq!(other.track().codec, Codec::Hevc);
        // Also downloaded frames, before the engine is dropped.
        assert_eq!(video.frame(5).expect("a frame").planes().count(), 3);
        drop((video, other, engine));
        // The workers release their current pictures.
        std::thread::sleep(Duration::from_millis(300));
    }
}
