//! The JSON records of `bench`. `docs/benchmarks.md` defines their fields.

#[cfg(feature = "client")]
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::machine::{self, MachineRecord};
use super::stats::{self, Latency, MeasuredRequest, Round, milliseconds};

/// The result of an engine; one object of the JSON array.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum EngineResult {
    Measured(Box<Measurement>),
    Unavailable { engine: String, unavailable: String },
}

impl EngineResult {
    /// The numbers, if there are any.
    pub(crate) fn measurement(&self) -> Option<&Measurement> {
        match self {
            EngineResult::Measured(measured) => Some(measured),
            EngineResult::Unavailable { .. } => None,
        }
    }
}

/// The spread of the rounds above which a warning is printed: it is then mostly noise of the machine.
const NOISE: f64 = 0.25;

/// The numbers of one engine; `None` where it does not report one.
#[derive(Debug, Serialize)]
pub(crate) struct Measurement {
    pub(crate) version: u32,
    pub(crate) scenario: String,
    pub(crate) engine: String,
    /// The first line of `-version`, for other programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) engine_version: Option<String>,
    pub(crate) video: String,
    pub(crate) output: String,
    pub(crate) threads: usize,
    /// Number of frames that arrived.
    pub(crate) frames: usize,
    pub(crate) seconds: f64,
    pub(crate) fps: f64,
    pub(crate) latency_ms: Latency,
    /// The percentiles 0, 1, ... 100.
    pub(crate) latency_curve_ms: Vec<f64>,
    pub(crate) open_ms: Option<f64>,
    pub(crate) cpu_ms: Option<f64>,
    pub(crate) cpu_per_frame_ms: Option<f64>,
    pub(crate) peak_rss_bytes: Option<u64>,
    pub(crate) decoded_pictures: Option<u64>,
    pub(crate) fetched_bytes: Option<u64>,
    /// Fetched bytes that were copied on their way to the decoder.
    pub(crate) copied_bytes: Option<u64>,
    /// Blocks of memory that Rust code requested.
    pub(crate) allocations: Option<u64>,
    pub(crate) errors: usize,
    /// Frames that differ from those of a sequential decode.
    pub(crate) wrong: Option<usize>,
    /// Frames that were compared.
    pub(crate) checked: Option<usize>,
    /// Time of a bare loop, per requested frame.
    pub(crate) floor_ms: Option<f64>,
    /// The rounds in their order.
    pub(crate) rounds: Vec<RoundRecord>,
    /// The difference of the longest and the shortest round, divided by the reported one.
    pub(crate) spread: Option<f64>,
    pub(crate) setup: SetupRecord,
    pub(crate) clip: ClipProperties,
    pub(crate) machine: MachineRecord,
    /// The command line, quoted for a shell.
    pub(crate) command: String,
    /// The responses of a server.
    #[cfg(feature = "client")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) served: Option<ServerSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) each: Option<Vec<FrameRecord>>,
    /// Errors of frames, in any round.
    #[serde(skip)]
    pub(crate) messages: Vec<String>,
    /// The latency of each frame that arrived.
    #[serde(skip)]
    pub(crate) latencies: Vec<Duration>,
}

/// The report on a server's responses, besides times.
#[cfg(feature = "client")]
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ServerSummary {
    pub(crate) manner: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) order: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pipeline: Option<usize>,
    pub(crate) connections: u64,
    pub(crate) received_bytes: u64,
    /// The number of responses by status, or by kind.
    pub(crate) answers: BTreeMap<String, u64>,
    /// Faults of the protocol outside of requests.
    pub(crate) strays: BTreeMap<String, u64>,
    /// The medians of the server's own timing.
    pub(crate) server_timing_ms: BTreeMap<String, f64>,
}

#[cfg(feature = "client")]
impl std::fmt::Display for ServerSummary {
    /// `Answers: 200 57, 503 3; 2.1 MB over 4 connections; server's medians in ms: decode 8.21, queue 0.12.`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |counts: &BTreeMap<String, u64>| {
            counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
        };
        let answers = if self.answers.is_empty() { "none".to_owned() } else { list(&self.answers) };
        let megabytes = self.received_bytes as f64 / 1e6;
        write!(f, "Answers: {answers}; {megabytes:.1} MB over {} connections", self.connections)?;
        if !self.server_timing_ms.is_empty() {
            let parts = self.server_timing_ms.iter().map(|(name, time)| format!("{name} {time:.2}"));
            write!(f, "; the server's medians in ms: {}", parts.collect::<Vec<_>>().join(", "))?;
        }
        writeln!(f, ".")
    }
}

/// One round.
#[derive(Debug, Serialize)]
pub(crate) struct RoundRecord {
    pub(crate) seconds: f64,
    pub(crate) fps: f64,
    /// Per requested frame, like the times below.
    pub(crate) cpu_ms: Option<f64>,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) floor_ms: Option<f64>,
    pub(crate) floor_cpu_ms: Option<f64>,
    pub(crate) allocations: Option<u64>,
}

impl Measurement {
    /// Number of requested frames.
    pub(crate) fn requested(&self) -> usize {
        self.frames + self.errors
    }

    /// The time relative to the bare loop: the median of the rounds' ratios. `None` where requests overlap, or wait
    /// until they are due: the bare loop does neither.
    pub(crate) fn ratio(&self) -> Option<f64> {
        if self.setup.callers > 1 || self.setup.rate_per_s.is_some() {
            return None;
        }
        let of = |round: &RoundRecord| {
            let each = round.seconds * 1e3 / self.requested().max(1) as f64;
            round.floor_ms.filter(|floor| *floor > 0.0).map(|floor| each / floor)
        };
        let mut ratios: Vec<f64> = self.rounds.iter().filter_map(of).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        ratios.get(ratios.len().saturating_sub(1) / 2).copied()
    }

    /// Whether this is one of this program's own engines.
    pub(crate) fn is_ours(&self) -> bool {
        self.engine_version.is_none()
    }

    /// A warning, if the rounds differ too much.
    pub(crate) fn noise(&self) -> Option<String> {
        let spread = self.spread.filter(|spread| *spread > NOISE && self.rounds.len() > 2)?;
        Some(format!("its rounds lie {:.0}% apart: the machine is busy, and single times are unreliable", spread * 1e2))
    }
}

impl RoundRecord {
    fn of(round: &Round) -> RoundRecord {
        RoundRecord {
            seconds: round.took.as_secs_f64(),
            fps: round.fps(),
            cpu_ms: round.cpu.and_then(|cpu| stats::each(round, cpu)),
            p50_ms: Latency::of(round).p50,
            floor_ms: round.floor.and_then(|floor| stats::each(round, floor.took)),
            floor_cpu_ms: round.floor.and_then(|floor| stats::each(round, floor.cpu?)),
            allocations: round.allocations,
        }
    }
}

/// The purpose of a measurement of `bench all`: a scenario over clips, or a point of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ReportPart {
    Clips,
    CheckpointMemory,
    Threads,
    Callers,
}

impl ReportPart {
    /// Its name in records, in the names of plots and in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ReportPart::Clips => "clips",
            ReportPart::CheckpointMemory => "checkpoint-memory",
            ReportPart::Threads => "threads",
            ReportPart::Callers => "callers",
        }
    }
}

/// The parameters of a measurement; `None` for the engine's default.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SetupRecord {
    /// The purpose of a result in the report of `all`: `clips`, or the parameter of its curve: `threads`, `callers`,
    /// `checkpoint-memory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) part: Option<ReportPart>,
    pub(crate) callers: usize,
    pub(crate) rate_per_s: Option<f64>,
    pub(crate) warm: u32,
    pub(crate) checkpoint_memory_bytes: Option<u64>,
    pub(crate) checkpoint_spacing: Option<u32>,
}

/// The properties of the video.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ClipProperties {
    pub(crate) container: String,
    pub(crate) codec: String,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) pixel_format: Option<String>,
    pub(crate) frames: usize,
    pub(crate) keyframes: usize,
    /// The greatest number of frames between key frames; servers do not report it.
    pub(crate) longest_gop: Option<usize>,
}

/// One request.
#[derive(Debug, Serialize)]
pub(crate) struct FrameRecord {
    index: u32,
    pts: Option<i64>,
    latency_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    md5: Option<String>,
    /// Whether this is another frame than the requested one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    wrong: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl FrameRecord {
    pub(crate) fn of(answer: &MeasuredRequest, pts: Option<i64>, md5: Option<String>, wrong: bool) -> FrameRecord {
        let latency_ms = answer.latency.map(milliseconds);
        FrameRecord { index: answer.index, pts, latency_ms, md5, wrong, error: answer.error.clone() }
    }
}

/// The data that all engines of a run share.
pub(crate) struct BenchHeading {
    pub(crate) scenario: String,
    pub(crate) video: String,
    pub(crate) output: String,
    pub(crate) threads: usize,
    pub(crate) setup: SetupRecord,
    pub(crate) clip: ClipProperties,
}

impl BenchHeading {
    /// The numbers of the round at `median`. Comparisons are added later.
    pub(crate) fn measurement(
        &self,
        engine: String,
        engine_version: Option<String>,
        rounds: &[Round],
        median: usize,
    ) -> Measurement {
        let round = &rounds[median];
        Measurement {
            version: 1,
            scenario: self.scenario.clone(),
            engine,
            engine_version,
            video: self.video.clone(),
            output: self.output.clone(),
            threads: self.threads,
            frames: round.frames(),
            seconds: round.took.as_secs_f64(),
            fps: round.fps(),
            latency_ms: Latency::of(round),
            latency_curve_ms: stats::latency_curve(round),
            open_ms: round.open.map(milliseconds),
            cpu_ms: round.cpu.map(milliseconds),
            cpu_per_frame_ms: round.cpu.and_then(|cpu| stats::each(round, cpu)),
            peak_rss_bytes: round.peak_rss,
            decoded_pictures: round.decoded_pictures,
            fetched_bytes: round.fetched_bytes,
            copied_bytes: round.copied_bytes,
            allocations: round.allocations,
            errors: round.errors(),
            wrong: None,
            checked: None,
            floor_ms: stats::median_floor(rounds),
            rounds: rounds.iter().map(RoundRecord::of).collect(),
            spread: stats::spread(rounds),
            setup: self.setup.clone(),
            clip: self.clip.clone(),
            machine: MachineRecord::this(),
            command: machine::command_line(),
            #[cfg(feature = "client")]
            served: None,
            each: None,
            messages: Vec::new(),
            latencies: round.latencies(),
        }
    }
}
