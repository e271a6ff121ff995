//! `bench`: how fast frames come, beside others and beside what is possible at all.
//!
//! `scenario` says which frames are asked for; `ours` and `peer` make rounds of it, `make` what becomes of a frame;
//! `floor` times the bare loop; `stats`, `machine` and `report` turn rounds into what is told. A new scenario is a
//! variant in `args` with its frames and manner in `scenario`; a new engine one with its rounds here.

mod args;
mod floor;
mod machine;
mod make;
mod ours;
mod peer;
mod report;
mod scenario;
mod stats;

use std::io::Write;

use bucket_streamer::{Engine, Result, Video};

pub(crate) use args::BenchArguments;
use args::{EngineName, typed};
use floor::Plan;
use make::{Make, What};
use peer::{Peer, Task};
use report::{Each, Entry, Heading};
use scenario::Requests;
use stats::{Answer, Round};

use super::{Outcome, open, say};

pub(crate) fn run(arguments: &BenchArguments) -> Outcome {
    let listed = match scenario::listed(arguments) {
        Ok(listed) => listed,
        Err(why) => {
            say(&format!("bucket-streamer: {why}"));
            return Outcome::Usage;
        }
    };
    let threads = arguments.threads.map(usize::from);
    // Tells which frames and times there are; measured are others, opened for it.
    let engine = Engine::new(threads);
    let video = match open(&engine, &arguments.video, arguments.which.track, arguments.which.index.as_deref()) {
        Ok(video) => video,
        Err(outcome) => return outcome,
    };
    let requests = scenario::requests(arguments, listed, &video);
    let plans = [false, true].map(|from_key| floor::plans(&video, &requests, from_key));
    let bench = Bench { arguments, threads, engine: &engine, video: &video, requests, plans };
    match bench.all() {
        Ok(entries) => bench.tell(&entries),
        Err(error) => {
            say(&format!("bucket-streamer: {error}"));
            Outcome::Unreadable
        }
    }
}

struct Bench<'a> {
    arguments: &'a BenchArguments,
    threads: Option<usize>,
    engine: &'a Engine,
    video: &'a Video,
    requests: Requests,
    /// What a cold engine decodes for each request; and from the key frame on.
    plans: [Vec<Plan>; 2],
}

/// Who makes rounds.
enum Contender {
    Ours(EngineName),
    Peer(Peer),
    Absent(String),
}

impl Contender {
    fn of(name: EngineName) -> Contender {
        match name {
            EngineName::Cpu | EngineName::FromKey => Contender::Ours(name),
            EngineName::Nvdec => Contender::Absent("not built".into()),
            EngineName::FfmpegCli => Peer::find().map_or_else(Contender::Absent, Contender::Peer),
        }
    }

    fn version(&self) -> Option<String> {
        match self {
            Contender::Peer(peer) => Some(peer.version.clone()),
            _ => None,
        }
    }
}

impl Bench<'_> {
    /// Engines take turns, so that whatever else the machine does meets all of them.
    fn all(&self) -> Result<Vec<Entry>> {
        let mut contenders: Vec<(Contender, Vec<Round>)> =
            self.arguments.engine.iter().map(|&name| (Contender::of(name), Vec::new())).collect();
        for _ in 0..self.arguments.rounds {
            for (contender, rounds) in &mut contenders {
                rounds.extend(self.round(contender, self.arguments.output.into())?);
            }
        }
        let names = self.arguments.engine.iter().map(|&name| typed(name));
        names.zip(contenders).map(|(name, (contender, rounds))| self.entry(name, &contender, rounds)).collect()
    }

    /// A round, and the floor beneath it; `None` of who is not there.
    fn round(&self, contender: &Contender, what: What) -> Result<Option<Round>> {
        match contender {
            Contender::Absent(_) => Ok(None),
            Contender::Peer(peer) => {
                let (location, video, threads) = (&self.arguments.video, self.video, self.threads);
                Ok(Some(Task { peer, location, video, threads, what }.round(&self.requests)))
            }
            Contender::Ours(name) => {
                let engine = ours::engine_for(*name, self.arguments);
                let place =
                    (self.arguments.video.as_str(), self.arguments.which.track, self.arguments.which.index.as_deref());
                let round = ours::round(&engine, place, &self.requests, what)?;
                let floor = match what {
                    What::Md5 => None,
                    _ if self.arguments.no_floor => None,
                    _ => floor::floor(
                        self.engine,
                        self.video,
                        &self.plans[usize::from(*name == EngineName::FromKey)],
                        &mut Make::new(what)?,
                    ),
                };
                Ok(Some(Round { floor, ..round }))
            }
        }
    }

    fn entry(&self, engine: String, contender: &Contender, rounds: Vec<Round>) -> Result<Entry> {
        let Some(round) = stats::median(rounds) else {
            let unavailable = match contender {
                Contender::Absent(why) => why.clone(),
                _ => "no round was made".into(),
            };
            return Ok(Entry::Unavailable { engine, unavailable });
        };
        for error in round.answers.iter().filter_map(|answer| answer.error.as_deref()) {
            say(&format!("bucket-streamer: {engine}: {error}"));
        }
        let mut measured = self.heading().measured(engine, contender.version(), &round);
        let sums = if self.arguments.md5 { self.round(contender, What::Md5)? } else { None };
        if self.arguments.md5 || self.arguments.indices.is_some() {
            measured.each = Some(self.each(&round.answers, sums.map_or(Vec::new(), |sums| sums.answers)));
        }
        Ok(Entry::Measured(Box::new(measured)))
    }

    fn each(&self, answers: &[Answer], sums: Vec<Answer>) -> Vec<Each> {
        let mut sums = sums.into_iter();
        let each = |answer: &Answer| {
            let pts = self.video.sample_of(answer.index).map(|sample| sample.pts);
            // Both rounds asked for the same.
            let md5 = sums.next().filter(|sum| sum.index == answer.index).and_then(|sum| sum.md5);
            Each::of(answer, pts, md5)
        };
        answers.iter().map(each).collect()
    }

    fn heading(&self) -> Heading {
        Heading {
            scenario: typed(self.arguments.scenario),
            video: self.arguments.video.clone(),
            output: typed(self.arguments.output),
            threads: self.engine.threads(),
        }
    }

    /// Prints the table and writes the JSON.
    fn tell(&self, entries: &[Entry]) -> Outcome {
        let json = || serde_json::to_string(entries).expect("plain data") + "\n";
        let printed = match self.arguments.json.as_deref() {
            Some("-") => json(),
            _ => self.heading().table(entries),
        };
        let mut is_told = true;
        if let Some(file) = self.arguments.json.as_deref().filter(|file| *file != "-")
            && let Err(error) = std::fs::write(file, json())
        {
            say(&format!("bucket-streamer: {file}: {error}"));
            is_told = false;
        }
        if let Err(error) = std::io::stdout().lock().write_all(printed.as_bytes()) {
            // Whoever read has gone: nothing to say to them.
            if error.kind() != std::io::ErrorKind::BrokenPipe {
                say(&format!("bucket-streamer: standard output: {error}"));
            }
            is_told = false;
        }
        let is_failed = |entry: &Entry| matches!(entry, Entry::Measured(measured) if measured.errors > 0);
        if is_told && !entries.iter().any(is_failed) { Outcome::Done } else { Outcome::SomeFailed }
    }
}
