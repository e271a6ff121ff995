//! What is told to people: a line for each engine, and the block that scripts look for.

use super::entry::{Entry, Heading, Measured};

impl Heading {
    /// A line for each engine, and the summary of the first one that is there.
    pub(crate) fn table(&self, entries: &[Entry]) -> String {
        let mut text = format!("{}: {}, {}, threads {}\n\n", self.scenario, self.video, self.output, self.threads);
        text += &row([
            "engine", "frames", "errors", "wrong", "fps", "p50", "p95", "p99", "open", "floor", "ratio", "cpu s", "MB",
        ]);
        for entry in entries {
            text += &match entry {
                Entry::Unavailable { engine, unavailable } => format!("{engine:<12} not there: {unavailable}\n"),
                Entry::Measured(measured) => row(measured.cells().each_ref().map(String::as_str)),
            };
        }
        text += "\nTimes are in milliseconds for each request; ratio is the time taken for a frame in floors.\n";
        text += &self.verdict(entries);
        let first = entries.iter().find_map(|entry| match entry {
            Entry::Measured(measured) => Some(measured.summary()),
            Entry::Unavailable { .. } => None,
        });
        text + &first.unwrap_or_default()
    }
}

impl Heading {
    /// How it stands with what was compared.
    fn verdict(&self, entries: &[Entry]) -> String {
        let measured = || entries.iter().filter_map(Entry::measured);
        let Some(checked) = measured().filter_map(|measured| measured.checked).max() else {
            return "Frames were not compared.\n".to_owned();
        };
        let wrong = |measured: &Measured| {
            let wrong = measured.wrong.filter(|wrong| *wrong > 0)?;
            Some(format!(
                "{}: {wrong} of {} frames are not the ones asked for.\n",
                measured.engine,
                measured.requested()
            ))
        };
        format!(
            "Compared with a sequential decode: {checked} of {} frames.\n",
            measured().map(Measured::requested).max().unwrap_or(0)
        ) + &measured().filter_map(wrong).collect::<String>()
    }
}

impl Measured {
    fn cells(&self) -> [String; 13] {
        let latency = &self.latency_ms;
        [
            self.engine.clone(),
            self.frames.to_string(),
            self.errors.to_string(),
            self.wrong.map_or_else(|| "-".to_owned(), |wrong| wrong.to_string()),
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

fn row(cells: [&str; 13]) -> String {
    let [engine, rest @ ..] = cells;
    let rest: String = rest.map(|cell| format!(" {cell:>8}")).concat();
    format!("{engine:<12}{rest}\n")
}
