//! What is told of results to programs: the objects of the JSON array. `docs/benchmarks.md` says what the fields mean.

#[cfg(feature = "client")]
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::machine::{self, Machine};
use super::stats::{self, Answer, Latency, Round, milliseconds};

/// What an engine did; one object of the JSON array.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Entry {
    Measured(Box<Measured>),
    Unavailable { engine: String, unavailable: String },
}

impl Entry {
    /// The numbers, if there are any.
    pub(crate) fn measured(&self) -> Option<&Measured> {
        match self {
            Entry::Measured(measured) => Some(measured),
            Entry::Unavailable { .. } => None,
        }
    }
}

/// Rounds that lie further apart than this say more of the machine than of the engine.
const NOISE: f64 = 0.25;

/// The numbers of one engine. `None`: it cannot tell.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) version: u32,
    pub(crate) scenario: String,
    pub(crate) engine: String,
    /// What `-version` says, for programs that are not this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) engine_version: Option<String>,
    pub(crate) video: String,
    pub(crate) output: String,
    pub(crate) threads: usize,
    /// Frames that came.
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
    /// Of those that were fetched: bytes that were copied on their way to the decoder.
    pub(crate) copied_bytes: Option<u64>,
    /// Blocks of memory that code in Rust asked for.
    pub(crate) allocations: Option<u64>,
    pub(crate) errors: usize,
    /// Frames that came and are not those that a sequential decode shows there.
    pub(crate) wrong: Option<usize>,
    /// Frames that were compared with it.
    pub(crate) checked: Option<usize>,
    /// Of a bare loop, for each frame that was asked for.
    pub(crate) floor_ms: Option<f64>,
    /// In their order.
    pub(crate) rounds: Vec<RoundTold>,
    /// From the shortest round to the longest, in parts of the one that is told.
    pub(crate) spread: Option<f64>,
    pub(crate) setup: SetupTold,
    pub(crate) clip: Clip,
    pub(crate) machine: Machine,
    /// The command line, as a shell takes it.
    pub(crate) command: String,
    /// Of a server that was asked: what it answered, and how.
    #[cfg(feature = "client")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) served: Option<Served>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) each: Option<Vec<Each>>,
    /// Why frames did not come, in any round.
    #[serde(skip)]
    pub(crate) messages: Vec<String>,
    /// Of each frame that came.
    #[serde(skip)]
    pub(crate) latencies: Vec<Duration>,
}

/// What is reported of a server's answers besides times.
#[cfg(feature = "client")]
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Served {
    pub(crate) manner: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) order: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pipeline: Option<usize>,
    pub(crate) connections: u64,
    pub(crate) received_bytes: u64,
    /// How often each status came, or each kind of answer.
    pub(crate) answers: BTreeMap<String, u64>,
    /// What broke the protocol without being an answer to a request.
    pub(crate) strays: BTreeMap<String, u64>,
    /// The medians of what the server says of its time.
    pub(crate) server_timing_ms: BTreeMap<String, f64>,
}

#[cfg(feature = "client")]
impl std::fmt::Display for Served {
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
pub(crate) struct RoundTold {
    pub(crate) seconds: f64,
    pub(crate) fps: f64,
    /// For each frame that was asked for, as the times below.
    pub(crate) cpu_ms: Option<f64>,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) floor_ms: Option<f64>,
    pub(crate) floor_cpu_ms: Option<f64>,
    pub(crate) allocations: Option<u64>,
}

impl Measured {
    /// Frames that were asked for.
    pub(crate) fn requested(&self) -> usize {
        self.frames + self.errors
    }

    /// How many times as long as the bare loop it took: the median of the rounds' own ratios. `None` where requests
    /// overlap, or wait until they are due: the bare loop does neither.
    pub(crate) fn ratio(&self) -> Option<f64> {
        if self.setup.callers > 1 || self.setup.rate_per_s.is_some() {
            return None;
        }
        let of = |round: &RoundTold| {
            let each = round.seconds * 1e3 / self.requested().max(1) as f64;
            round.floor_ms.filter(|floor| *floor > 0.0).map(|floor| each / floor)
        };
        let mut ratios: Vec<f64> = self.rounds.iter().filter_map(of).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        ratios.get(ratios.len().saturating_sub(1) / 2).copied()
    }

    /// This program's own engine, in one manner or another?
    pub(crate) fn is_ours(&self) -> bool {
        self.engine_version.is_none()
    }

    /// A warning, if the rounds lie too far apart to be believed.
    pub(crate) fn noise(&self) -> Option<String> {
        let spread = self.spread.filter(|spread| *spread > NOISE && self.rounds.len() > 2)?;
        Some(format!(
            "its rounds lie {:.0}% apart: the machine is busy with something else, and single times mean little",
            spread * 1e2
        ))
    }
}

impl RoundTold {
    fn of(round: &Round) -> RoundTold {
        RoundTold {
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

/// What a measurement of `bench all` is for: a scenario over clips, or a point of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    Clips,
    CheckpointMemory,
    Threads,
    Callers,
}

impl Part {
    /// As it is called in records, in the names of plots and in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Part::Clips => "clips",
            Part::CheckpointMemory => "checkpoint-memory",
            Part::Threads => "threads",
            Part::Callers => "callers",
        }
    }
}

/// What may differ from one measurement to the next. `None`: as the engine chooses.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SetupTold {
    /// What an entry is for in the report of `all`: `clips`, or what its curve runs over: `threads`, `callers`,
    /// `checkpoint-memory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) part: Option<Part>,
    pub(crate) callers: usize,
    pub(crate) rate_per_s: Option<f64>,
    pub(crate) warm: u32,
    pub(crate) checkpoint_memory_bytes: Option<u64>,
    pub(crate) checkpoint_spacing: Option<u32>,
}

/// What the video is.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Clip {
    pub(crate) container: String,
    pub(crate) codec: String,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) pixel_format: Option<String>,
    pub(crate) frames: usize,
    pub(crate) keyframes: usize,
    /// The greatest number of frames from one key frame to the next; servers do not tell.
    pub(crate) longest_gop: Option<usize>,
}

/// One request.
#[derive(Debug, Serialize)]
pub(crate) struct Each {
    index: u32,
    pts: Option<i64>,
    latency_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    md5: Option<String>,
    /// Another frame than the one asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    wrong: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Each {
    pub(crate) fn of(answer: &Answer, pts: Option<i64>, md5: Option<String>, wrong: bool) -> Each {
        let latency_ms = answer.latency.map(milliseconds);
        Each { index: answer.index, pts, latency_ms, md5, wrong, error: answer.error.clone() }
    }
}

/// What all engines of a run have in common.
pub(crate) struct Heading {
    pub(crate) scenario: String,
    pub(crate) video: String,
    pub(crate) output: String,
    pub(crate) threads: usize,
    pub(crate) setup: SetupTold,
    pub(crate) clip: Clip,
}

impl Heading {
    /// The numbers of the round at `told` among all of them. What was compared comes to it later.
    pub(crate) fn measured(
        &self,
        engine: String,
        engine_version: Option<String>,
        rounds: &[Round],
        told: usize,
    ) -> Measured {
        let round = &rounds[told];
        Measured {
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
            rounds: rounds.iter().map(RoundTold::of).collect(),
            spread: stats::spread(rounds),
            setup: self.setup.clone(),
            clip: self.clip.clone(),
            machine: Machine::this(),
            command: machine::command_line(),
            #[cfg(feature = "client")]
            served: None,
            each: None,
            messages: Vec::new(),
            latencies: round.latencies(),
        }
    }
}
