//! What is told of the results: JSON for programs, a table for people.

use serde::Serialize;

use super::machine::Machine;
use super::stats::{Answer, Latency, Round, milliseconds};

/// What an engine did; one object of the JSON array.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Entry {
    Measured(Box<Measured>),
    Unavailable { engine: String, unavailable: String },
}

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
    pub(crate) open_ms: Option<f64>,
    pub(crate) cpu_ms: Option<f64>,
    pub(crate) peak_rss_bytes: Option<u64>,
    pub(crate) decoded_pictures: Option<u64>,
    pub(crate) fetched_bytes: Option<u64>,
    pub(crate) errors: usize,
    /// Of a bare loop, for each frame that was asked for.
    pub(crate) floor_ms: Option<f64>,
    pub(crate) machine: Machine,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) each: Option<Vec<Each>>,
}

/// One request.
#[derive(Debug, Serialize)]
pub(crate) struct Each {
    index: u32,
    pts: Option<i64>,
    latency_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    md5: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Each {
    pub(crate) fn of(answer: &Answer, pts: Option<i64>, md5: Option<String>) -> Each {
        let latency_ms = answer.latency.map(milliseconds);
        Each { index: answer.index, pts, latency_ms, md5, error: answer.error.clone() }
    }
}

/// What all engines of a run have in common.
pub(crate) struct Heading {
    pub(crate) scenario: String,
    pub(crate) video: String,
    pub(crate) output: String,
    pub(crate) threads: usize,
}

impl Heading {
    pub(crate) fn measured(&self, engine: String, engine_version: Option<String>, round: &Round) -> Measured {
        let floor = round.floor.map(|floor| milliseconds(floor) / round.answers.len().max(1) as f64);
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
            open_ms: round.open.map(milliseconds),
            cpu_ms: round.cpu.map(milliseconds),
            peak_rss_bytes: round.peak_rss,
            decoded_pictures: round.decoded_pictures,
            fetched_bytes: round.fetched_bytes,
            errors: round.errors(),
            floor_ms: floor,
            machine: Machine::this(),
            each: None,
        }
    }

    /// A line for each engine, and the summary of the first one that is there.
    pub(crate) fn table(&self, entries: &[Entry]) -> String {
        let mut text = format!("{}: {}, {}, threads {}\n\n", self.scenario, self.video, self.output, self.threads);
        text +=
            &row(["engine", "frames", "errors", "fps", "p50", "p95", "p99", "open", "floor", "ratio", "cpu s", "MB"]);
        for entry in entries {
            text += &match entry {
                Entry::Unavailable { engine, unavailable } => format!("{engine:<12} not there: {unavailable}\n"),
                Entry::Measured(measured) => row(measured.cells().each_ref().map(String::as_str)),
            };
        }
        text += "\nTimes are in milliseconds for each request; ratio is the time taken for a frame in floors.\n";
        let first = entries.iter().find_map(|entry| match entry {
            Entry::Measured(measured) => Some(measured.summary()),
            Entry::Unavailable { .. } => None,
        });
        text + &first.unwrap_or_default()
    }
}

impl Measured {
    fn requested(&self) -> usize {
        self.frames + self.errors
    }

    /// How many times as long as the bare loop it took.
    fn ratio(&self) -> Option<f64> {
        let each = self.seconds * 1e3 / self.requested().max(1) as f64;
        self.floor_ms.filter(|floor| *floor > 0.0).map(|floor| each / floor)
    }

    fn cells(&self) -> [String; 12] {
        let latency = &self.latency_ms;
        [
            self.engine.clone(),
            self.frames.to_string(),
            self.errors.to_string(),
            format!("{:.1}", self.fps),
            cell(latency.p50, 2),
            cell(latency.p95, 2),
            cell(latency.p99, 2),
            cell(self.open_ms, 2),
            cell(self.floor_ms, 2),
            cell(self.ratio(), 2),
            cell(self.cpu_ms.map(|cpu| cpu / 1e3), 2),
            cell(self.peak_rss_bytes.map(|bytes| bytes as f64 / 1e6), 0),
        ]
    }

    fn summary(&self) -> String {
        let (latency, milliseconds) = (&self.latency_ms, |value: Option<f64>| match value {
            Some(value) => format!("{value:.3} ms"),
            None => "-".to_owned(),
        });
        let lines = [
            ("Frames requested", self.requested().to_string()),
            ("Frames received", self.frames.to_string()),
            ("Frames errored", self.errors.to_string()),
            ("Total time", format!("{:.3} s", self.seconds)),
            ("Average FPS", format!("{:.2}", self.fps)),
            ("Avg latency", milliseconds(latency.mean)),
            ("Min latency", milliseconds(latency.min)),
            ("Max latency", milliseconds(latency.max)),
            ("P95 latency", milliseconds(latency.p95)),
        ];
        let lines: String = lines.map(|(name, value)| format!("{:<18}{value}\n", format!("{name}:"))).concat();
        format!("\n=== Benchmark Results ===\n{lines}")
    }
}

fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn row(cells: [&str; 12]) -> String {
    let [engine, rest @ ..] = cells;
    let rest: String = rest.map(|cell| format!(" {cell:>8}")).concat();
    format!("{engine:<12}{rest}\n")
}
