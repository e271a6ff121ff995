//! `bench all`: every scenario with every engine over a folder of videos, and curves over budgets, threads and callers
//! on one.

use std::path::Path;
use std::{env, fs};

use bucket_streamer::Result;

use super::args::{BenchArguments, EngineName, Scenario};
use super::check::{FAR, Reference};
use super::entry::Entry;
use super::entry::Part;
use super::measure::Bench;
use super::progress::Progress;
use super::results::{is_failed, json, messages, tell};
use super::setup::{Load, Setup};
use super::table;
use crate::host::{Host, Outcome};

/// Environment variable that names the folder, if the command line does not.
pub(super) const VARIABLE: &str = "BUCKET_STREAMER_CORPUS";

/// The default engines, rounds and frames of each video.
const ENGINES: [EngineName; 5] =
    [EngineName::Cpu, EngineName::FromKey, EngineName::FfmpegCli, EngineName::FfmpegPass, EngineName::Nvdec];
const ROUNDS: u16 = 3;
const FEW: u32 = 12;
/// Frames of scenarios that decode all frames: the first of them are enough for a number.
const MANY: u32 = 240;

const SCENARIOS: [Scenario; 5] =
    [Scenario::Random, Scenario::Batch, Scenario::Sequential, Scenario::Keyframes, Scenario::Scrub];

/// The budgets of checkpoints and the numbers of concurrent callers of the curves.
const BUDGETS: [u64; 6] = [0, 32 << 20, 64 << 20, 128 << 20, 256 << 20, 512 << 20];
const CALLERS: [usize; 5] = [1, 2, 4, 8, 16];
/// Most pixels of the curves' video: curves show growth, for which larger pictures take too long.
const CURVE_PIXELS: usize = 1920 * 1088;
/// A longer GOP is no harder: the cost of a frame grows no more.
const LONG_GOP: usize = 250;

/// A video that can be read.
struct Found {
    location: String,
    pixels: usize,
    frames: usize,
    longest_gop: usize,
}

/// Measures everything and writes the report.
pub(crate) fn run(arguments: &BenchArguments, setup: &Setup) -> Outcome {
    let Some(place) = arguments.video.clone().or_else(|| env::var(VARIABLE).ok().filter(|name| !name.is_empty()))
    else {
        setup.given.host.say(&format!("bench all needs a folder of videos: name one, or set {VARIABLE}"));
        return Outcome::Usage;
    };
    let setup = Setup {
        engines: if arguments.engine.is_empty() { ENGINES.to_vec() } else { arguments.engine.clone() },
        rounds: arguments.rounds.unwrap_or(ROUNDS),
        ..setup.clone()
    };
    let host = setup.given.host;
    let found = match videos(&place, &setup) {
        Ok(found) if !found.is_empty() => found,
        Ok(_) => return unreadable(host, &format!("{place}: none of the files is a readable video")),
        Err(error) => return unreadable(host, &format!("{place}: {error}")),
    };
    setup.say_what_is_given();
    let all = All { arguments, setup: &setup, progress: Progress::new(rounds(&setup, found.len()), host) };
    let mut entries = Vec::new();
    let is_whole = all.measure(&found, &mut entries);
    drop(all);
    messages(host, &entries);
    let is_told = tell(host, arguments, &entries, || table::of_all(&entries));
    if is_whole && is_told && !is_failed(&entries) { Outcome::Done } else { Outcome::SomeFailed }
}

fn unreadable(host: &dyn Host, why: &str) -> Outcome {
    host.say(why);
    Outcome::Unreadable
}

/// The videos directly in a folder, by name; or the one video that `place` names.
fn videos(place: &str, setup: &Setup) -> std::io::Result<Vec<Found>> {
    let mut files = vec![Path::new(place).to_owned()];
    if fs::metadata(place)?.is_dir() {
        files = fs::read_dir(place)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        files.retain(|file| file.is_file());
        files.sort();
    }
    let engine = setup.builder().build();
    let mut found = Vec::new();
    for location in files.iter().map(|file| file.to_string_lossy().into_owned()) {
        match setup.given.opening.open(&engine, &location) {
            Ok(video) => {
                let (width, height) = video.track().parameters.size();
                let (pixels, frames) = (width * height, video.frame_count());
                found.push(Found { location, pixels, frames, longest_gop: video.longest_gop() });
            }
            Err(error) => setup.given.host.say(&format!("left out: {error}")),
        }
    }
    Ok(found)
}

/// The engines that a scenario applies to: where one process decodes everything anyway, `ffmpeg-pass` adds nothing, and
/// where all frames are decoded, `from-key` adds nothing.
fn engines(scenario: Scenario, of: &[EngineName]) -> Vec<EngineName> {
    let is_for = |name: &EngineName| match name {
        EngineName::FfmpegPass => matches!(scenario, Scenario::Random | Scenario::Scrub),
        EngineName::FromKey => matches!(scenario, Scenario::Random | Scenario::Scrub | Scenario::Batch),
        _ => true,
    };
    of.iter().copied().filter(is_for).collect()
}

/// The estimated number of rounds.
fn rounds(setup: &Setup, videos: usize) -> usize {
    let each: usize = SCENARIOS.iter().map(|&scenario| engines(scenario, &setup.engines).len()).sum();
    let curves: usize = curves(setup).iter().map(|curve| curve.engines.len()).sum();
    (each * videos + curves) * (usize::from(setup.rounds) + usize::from(setup.sums()))
}

/// The points of all curves.
fn curves(setup: &Setup) -> Vec<Setup> {
    let of = |part, names: &[EngineName]| {
        let engines = setup.engines.iter().copied().filter(|name| names.contains(name)).collect();
        Setup { part: Some(part), engines, count: Some(setup.count.unwrap_or(FEW) * 2), floor: false, ..setup.clone() }
    };
    let budgets = BUDGETS.map(|bytes| {
        let warm = 2 * setup.count.unwrap_or(FEW);
        Setup { checkpoint_memory: Some(bytes), warm, ..of(Part::CheckpointMemory, &[EngineName::Cpu]) }
    });
    let most = bucket_streamer::Machine::read().processors() * 2;
    let threads = [1, 2, 4, 8, 16, 32, 64].into_iter().filter(|&threads| threads <= most).map(|threads| {
        let names = [EngineName::Cpu, EngineName::FfmpegCli, EngineName::FfmpegPass];
        Setup { threads: Some(threads), count: setup.count.or(Some(FEW)), ..of(Part::Threads, &names) }
    });
    let callers = CALLERS.map(|callers| {
        let load = Load { callers, rate_per_s: None };
        Setup { load, ..of(Part::Callers, &[EngineName::Cpu, EngineName::FfmpegCli]) }
    });
    let points = budgets.into_iter().chain(threads).chain(callers);
    points.filter(|point| !point.engines.is_empty()).collect()
}

struct All<'a> {
    arguments: &'a BenchArguments,
    setup: &'a Setup,
    progress: Progress,
}

impl All<'_> {
    /// True if every video could be measured.
    fn measure(&self, found: &[Found], entries: &mut Vec<Entry>) -> bool {
        let mut is_whole = true;
        for video in found {
            is_whole &= self.attempt(video, Self::scenarios, entries);
            self.keep(entries);
        }
        let is_fit = |video: &&Found| video.pixels <= CURVE_PIXELS && video.frames > FEW as usize;
        let hardest = |video: &&Found| video.longest_gop.min(LONG_GOP) * video.pixels;
        if let Some(video) = found.iter().filter(is_fit).max_by_key(hardest) {
            is_whole &= self.attempt(video, Self::curves, entries);
        }
        is_whole
    }

    /// Measures a video. An error does not stop the other videos.
    fn attempt(
        &self,
        video: &Found,
        measure: fn(&Self, &str, Option<&Reference>, &mut Vec<Entry>) -> Result<()>,
        entries: &mut Vec<Entry>,
    ) -> bool {
        let done = self.reference(video).and_then(|known| measure(self, &video.location, known.as_ref(), entries));
        if let Err(error) = &done {
            self.progress.say(&error.to_string());
        }
        done.is_ok()
    }

    /// Every frame of the video, for the comparison of all scenarios. For a long video, each scenario decodes the
    /// frames that it needs.
    fn reference(&self, video: &Found) -> Result<Option<Reference>> {
        if !self.setup.check || video.frames > FAR as usize {
            return Ok(None);
        }
        let everything = Setup { count: None, floor: false, ..self.setup.clone() };
        let bench = Bench::open(Scenario::Sequential, &everything, &video.location, None, &self.progress)?;
        bench.reference().map(Some)
    }

    fn one(&self, scenario: Scenario, setup: &Setup, location: &str, known: Option<&Reference>) -> Result<Vec<Entry>> {
        let bench = Bench::open(scenario, setup, location, None, &self.progress)?;
        match known {
            None if setup.check => bench.measure(Some(&bench.reference()?)),
            known => bench.measure(known),
        }
    }

    fn scenarios(&self, location: &str, known: Option<&Reference>, entries: &mut Vec<Entry>) -> Result<()> {
        for scenario in SCENARIOS {
            let usual = if matches!(scenario, Scenario::Sequential | Scenario::Keyframes) { MANY } else { FEW };
            let setup = Setup {
                part: Some(Part::Clips),
                count: self.setup.count.or(Some(usual)),
                engines: engines(scenario, &self.setup.engines),
                ..self.setup.clone()
            };
            entries.extend(self.one(scenario, &setup, location, known)?);
        }
        Ok(())
    }

    fn curves(&self, location: &str, known: Option<&Reference>, entries: &mut Vec<Entry>) -> Result<()> {
        for setup in curves(self.setup) {
            entries.extend(self.one(Scenario::Random, &setup, location, known)?);
        }
        Ok(())
    }

    /// Writes the results so far: measuring takes long, and may be interrupted.
    fn keep(&self, entries: &[Entry]) {
        if let Some(file) = self.arguments.json.as_deref().filter(|file| *file != "-") {
            let _ = self.setup.given.host.write(Path::new(file), json(entries).as_bytes());
        }
    }
}
