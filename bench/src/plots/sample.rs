//! Synthetic results for tests: those of `bench` for one video, and those of `bench all`.

use crate::machine::MachineRecord;
use crate::records::ReportPart;
use crate::records::{ClipProperties, EngineResult, Measurement, RoundRecord, SetupRecord};
use crate::stats::Latency;

/// The engines of a report, and their relative speeds.
const ENGINES: [(&str, f64); 4] = [("cpu", 400.0), ("from-key", 120.0), ("ffmpeg-cli", 9.0), ("ffmpeg-pass", 30.0)];
pub(crate) const SCENARIOS: [&str; 5] = ["random", "batch", "sequential", "keyframes", "scrub"];

/// The result of an engine for `cam.mp4`, at this many frames a second.
pub(crate) fn measurement(scenario: &str, engine: &str, fps: f64) -> Measurement {
    let milliseconds = 1e3 / fps;
    let round = |factor: f64| RoundRecord {
        seconds: 10.0 / (fps * factor),
        fps: fps * factor,
        cpu_ms: Some(milliseconds),
        p50_ms: Some(milliseconds),
        floor_ms: Some(0.9 * milliseconds),
        floor_cpu_ms: None,
        allocations: None,
    };
    let is_pass = engine == "ffmpeg-pass";
    Measurement {
        version: 1,
        scenario: scenario.to_owned(),
        engine: engine.to_owned(),
        engine_version: engine.starts_with("ffmpeg").then(|| "ffmpeg version 8.0".to_owned()),
        video: "clips/cam.mp4".to_owned(),
        output: "planes".to_owned(),
        threads: 2,
        frames: 10,
        seconds: 10.0 / fps,
        fps,
        latency_ms: latency(milliseconds),
        latency_curve_ms: match is_pass {
            true => Vec::new(),
            false => (0..=100).map(|percent| milliseconds * (0.1 + f64::from(percent).powi(2) / 3450.0)).collect(),
        },
        open_ms: Some(1.5),
        cpu_ms: Some(10.0 * milliseconds),
        cpu_per_frame_ms: Some(milliseconds),
        peak_rss_bytes: Some(80 << 20),
        decoded_pictures: Some(120),
        fetched_bytes: Some(3 << 20),
        copied_bytes: None,
        allocations: None,
        errors: 0,
        wrong: Some(0),
        checked: Some(10),
        floor_ms: (!engine.starts_with("ffmpeg")).then_some(0.9 * milliseconds),
        rounds: [1.0, 0.93, 1.06].map(round).into(),
        spread: Some(0.13),
        setup: setup(),
        clip: clip(),
        machine: MachineRecord::this(),
        command: "bucket-streamer bench random cam.mp4".to_owned(),
        #[cfg(feature = "client")]
        served: None,
        each: None,
        messages: Vec::new(),
        latencies: Vec::new(),
    }
}

fn latency(mean: f64) -> Latency {
    let at = |part: f64| Some(mean * part);
    Latency { min: at(0.1), p50: at(0.8), p90: at(1.8), p95: at(2.1), p99: at(2.8), max: at(3.0), mean: at(1.0) }
}

fn setup() -> SetupRecord {
    SetupRecord {
        part: None,
        callers: 1,
        rate_per_s: None,
        warm: 0,
        checkpoint_memory_bytes: None,
        checkpoint_spacing: None,
    }
}

fn clip() -> ClipProperties {
    ClipProperties {
        container: "mp4".to_owned(),
        codec: "hevc".to_owned(),
        width: 1920,
        height: 1080,
        pixel_format: Some("yuv420p".to_owned()),
        frames: 500,
        keyframes: 10,
        longest_gop: Some(50),
    }
}

pub(crate) fn entry(measured: Measurement) -> EngineResult {
    EngineResult::Measured(Box::new(measured))
}

pub(crate) fn absent() -> EngineResult {
    EngineResult::Unavailable { engine: "nvdec".to_owned(), unavailable: "not <built>".to_owned() }
}

/// One video, all engines, wrong frames of one of them.
pub(crate) fn single(scenario: &str) -> Vec<EngineResult> {
    let one = |(engine, fps): (&str, f64)| {
        let measurement = measurement(scenario, engine, fps);
        let wrong = Some(if engine == "ffmpeg-cli" { 6 } else { 0 });
        entry(Measurement { wrong, ..measurement })
    };
    ENGINES.into_iter().map(one).chain([absent()]).collect()
}

/// A folder of this many videos, and the curves.
pub(crate) fn report(videos: usize) -> Vec<EngineResult> {
    let mut entries = Vec::new();
    for video in 0..videos {
        for scenario in SCENARIOS {
            entries.extend(ENGINES.map(|(engine, fps)| entry(of_folder(video, scenario, engine, fps))));
        }
        entries.push(absent());
    }
    for step in [0u32, 1, 2, 3] {
        let curve = |part: ReportPart, engine: &str, fps: f64| {
            let mut one = measurement("random", engine, fps);
            one.setup.part = Some(part);
            one
        };
        let times = 2f64.powi(step as i32);
        let mut memory = curve(ReportPart::CheckpointMemory, "cpu", 100.0 * times);
        memory.setup.checkpoint_memory_bytes = Some([0, 64 << 20, 256 << 20, 1 << 30][step as usize]);
        entries.push(entry(memory));
        for (engine, fps) in [ENGINES[0], ENGINES[2], ENGINES[3]] {
            let mut threads = curve(ReportPart::Threads, engine, fps * times.sqrt());
            threads.threads = 1 << step;
            threads.wrong = Some(if engine == "ffmpeg-cli" { step as usize } else { 0 });
            let mut callers = curve(ReportPart::Callers, engine, fps * times.sqrt());
            callers.setup.callers = 1 << step;
            entries.extend([entry(threads), entry(callers)]);
        }
    }
    entries
}

fn of_folder(video: usize, scenario: &str, engine: &str, fps: f64) -> Measurement {
    let factor = 1.0 + (video * 37 % 11) as f64 * 0.4;
    let mut one =
        measurement(scenario, engine, fps * factor / if engine == "from-key" { 1.0 + video as f64 } else { 1.0 });
    one.setup.part = Some(ReportPart::Clips);
    one.video = format!("clips/{video:02}_a_name_as_long_as_such_names_can_become.mp4");
    one.clip.codec = ["hevc", "h264", "av1", "vp9"][video % 4].to_owned();
    one.clip.longest_gop = Some(1 << (video % 10));
    if engine == "ffmpeg-cli" && video % 5 == 3 {
        one.wrong = Some(4);
    }
    one
}
