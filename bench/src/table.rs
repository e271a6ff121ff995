//! The text output: a line for each engine, and the summary block that scripts parse.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::records::ReportPart;
use super::records::{BenchHeading, EngineResult, Measurement};
use super::stats::Latency;

const COLUMNS: [&str; 14] = [
    "engine", "frames", "errors", "wrong", "fps", "spread", "p50", "p95", "p99", "open", "floor", "ratio", "cpu s",
    "MB",
];
const TEXT: &str = "\nTimes are in milliseconds for each request; spread is from the shortest round to the longest; ratio is the time of a\nframe in floors.\n";

impl BenchHeading {
    /// A line for each engine, and the summary of the first one that is available.
    pub(crate) fn table(&self, entries: &[EngineResult]) -> String {
        let mut text = format!("{}: {}, {}, threads {}\n\n", self.scenario, self.video, self.output, self.threads);
        text += &row(COLUMNS);
        for entry in entries {
            let cells = |measured: &Measurement| row(measured.cells().each_ref().map(String::as_str));
            text += &entry.measurement().map(cells).or_else(|| entry.absent()).unwrap_or_default();
        }
        text += TEXT;
        text += &self.verdict(entries);
        text += &server_lines(entries);
        text += &machine(entries);
        let first = entries.iter().find_map(EngineResult::measurement);
        text + &first.map(|measured| summary(std::iter::once(measured))).unwrap_or_default()
    }
}

/// The responses of servers, if there are any.
#[cfg(feature = "client")]
fn server_lines(entries: &[EngineResult]) -> String {
    entries.iter().filter_map(|entry| entry.measurement()?.served.as_ref()).map(ToString::to_string).collect()
}

#[cfg(not(feature = "client"))]
fn server_lines(_: &[EngineResult]) -> String {
    String::new()
}

/// The machine of the measurements.
fn machine(entries: &[EngineResult]) -> String {
    entries
        .iter()
        .find_map(EngineResult::measurement)
        .map(|measured| format!("{}.\n", measured.machine))
        .unwrap_or_default()
}

impl EngineResult {
    /// The line of an engine that is not available.
    fn absent(&self) -> Option<String> {
        match self {
            EngineResult::Unavailable { engine, unavailable } => {
                Some(format!("{engine:<12} not available: {unavailable}\n"))
            }
            EngineResult::Measured(_) => None,
        }
    }
}

impl BenchHeading {
    /// The result of the comparison.
    fn verdict(&self, entries: &[EngineResult]) -> String {
        let measured = || entries.iter().filter_map(EngineResult::measurement);
        let compared = |measured: &Measurement| {
            let checked = measured.checked?;
            Some(format!("{} {checked} of {}", measured.engine, measured.frames))
        };
        let compared: Vec<String> = measured().filter_map(compared).collect();
        if compared.is_empty() {
            return "Frames were not compared.\n".to_owned();
        }
        let wrong = |measured: &Measurement| {
            let wrong = measured.wrong.filter(|wrong| *wrong > 0)?;
            Some(format!("{}: {wrong} of {} frames are not the ones asked for.\n", measured.engine, measured.frames))
        };
        format!("Frames compared with a sequential decode: {}.\n", compared.join(", "))
            + &measured().filter_map(wrong).collect::<String>()
    }
}

impl Measurement {
    fn cells(&self) -> [String; 14] {
        let latency = &self.latency_ms;
        [
            self.engine.clone(),
            self.frames.to_string(),
            self.errors.to_string(),
            self.wrong.map_or_else(|| "-".to_owned(), |wrong| wrong.to_string()),
            format!("{:.1}", self.fps),
            self.spread.map_or_else(|| "-".to_owned(), |spread| format!("{:.0}%", spread * 1e2)),
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
}

/// The block that scripts parse: the result of one engine, in one scenario or in many.
fn summary<'a>(of: impl Iterator<Item = &'a Measurement> + Clone) -> String {
    let sum = |number: fn(&Measurement) -> usize| of.clone().map(number).sum::<usize>();
    let seconds = of.clone().fold(0.0, |sum, measured| sum + measured.seconds);
    let frames = sum(|measured| measured.frames);
    let times: Vec<Duration> = of.clone().flat_map(|measured| measured.latencies.iter().copied()).collect();
    let latency = Latency::over(&times, frames, Duration::from_secs_f64(seconds));
    let milliseconds = |value: Option<f64>| match value {
        Some(value) => format!("{value:.3} ms"),
        None => "-".to_owned(),
    };
    let lines = [
        ("Frames requested", sum(Measurement::requested).to_string()),
        ("Frames received", frames.to_string()),
        ("Frames errored", sum(|measured| measured.errors).to_string()),
        ("Total time", format!("{seconds:.3} s")),
        ("Average FPS", format!("{:.2}", frames as f64 / seconds.max(1e-9))),
        ("Avg latency", milliseconds(latency.mean)),
        ("Min latency", milliseconds(latency.min)),
        ("Max latency", milliseconds(latency.max)),
        ("P95 latency", milliseconds(latency.p95)),
    ];
    let lines: String = lines.map(|(name, value)| format!("{:<18}{value}\n", format!("{name}:"))).concat();
    format!("\n=== Benchmark Results ===\n{lines}")
}

/// A line for each video, scenario and engine, a line for each point of a curve, and the summary of all results of the
/// first engine.
pub(crate) fn of_all(entries: &[EngineResult]) -> String {
    let measured = || entries.iter().filter_map(EngineResult::measurement);
    let width = measured().map(|measured| name(measured).chars().count()).max().unwrap_or(0).max(12);
    let line = |name: &str, cells: [&str; 14]| format!("{name:<width$} {}", row(cells));
    let mut text = line("video", COLUMNS);
    for one in measured() {
        text += &line(&name(one), one.cells().each_ref().map(String::as_str));
    }
    let absent: BTreeSet<String> = entries.iter().filter_map(EngineResult::absent).collect();
    text.extend(absent);
    text += TEXT;
    let wrong = |measured: &&Measurement| measured.wrong > Some(0);
    text += &format!(
        "{} of {} lines have frames that are not the ones asked for.\n",
        measured().filter(wrong).count(),
        measured().count()
    );
    text += &machine(entries);
    let first = measured().next().map(|measured| measured.engine.clone());
    text + &summary(measured().filter(move |measured| Some(&measured.engine) == first.as_ref()))
}

/// The name of a line: the file, and the scenario or the point of the curve.
fn name(measured: &Measurement) -> String {
    let file =
        Path::new(&measured.video).file_name().map_or(measured.video.as_str().into(), |name| name.to_string_lossy());
    let setup = &measured.setup;
    let of = match setup.part {
        Some(ReportPart::CheckpointMemory) => format!("{} MiB", setup.checkpoint_memory_bytes.unwrap_or(0) >> 20),
        Some(ReportPart::Threads) => format!("threads {}", measured.threads),
        Some(ReportPart::Callers) => format!("callers {}", setup.callers),
        Some(ReportPart::Clips) | None => measured.scenario.clone(),
    };
    format!("{file} {of}")
}

fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn row(cells: [&str; 14]) -> String {
    let [engine, rest @ ..] = cells;
    let rest: String = rest.map(|cell| format!(" {cell:>8}")).concat();
    format!("{engine:<12}{rest}\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{of_all, summary};
    use crate::plots::sample::measurement;
    use crate::records::{EngineResult, Measurement};

    fn of(frames: usize, errors: usize, milliseconds: &[u64]) -> Measurement {
        let latencies = milliseconds.iter().map(|&time| Duration::from_millis(time)).collect();
        Measurement { frames, errors, seconds: 0.5, latencies, ..measurement("random", "cpu", 4.0) }
    }

    #[test]
    fn the_block_of_many_is_that_of_all_their_frames_together() {
        let all = [of(2, 1, &[10, 30]), of(2, 0, &[20, 1000])];
        let text = summary(all.iter());
        for line in [
            "requested: 5",
            "received:  4",
            "errored:   1",
            "Total time:       1.000 s",
            "FPS:      4.00",
            "Avg latency:      265.000 ms",
            "Min latency:      10.000 ms",
            "Max latency:      1000.000 ms",
            "P95 latency:      1000.000 ms",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(summary([].iter()).contains("Total time:       0.000 s"));
    }

    #[test]
    fn an_absent_engine_is_reported_once() {
        let absent = || EngineResult::Unavailable { engine: "nvdec".into(), unavailable: "no libcuda".into() };
        let text = of_all(&[absent(), EngineResult::Measured(Box::new(of(2, 0, &[1, 2]))), absent()]);
        assert_eq!(text.matches("no libcuda").count(), 1, "{text}");
    }
}
