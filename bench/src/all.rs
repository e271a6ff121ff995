//! `bench all`: every scenario with every engine over a folder of videos, and curves over budgets, threads and callers
//! on one.

use std::path::Path;
use std::{env, fs};

use bucket_streamer::Result;

use super::args::{BenchArguments, EngineName, Scenario};
use super::check::{FAR, ReferenceDecode};
use super::measure::Bench;
use super::progress::RoundProgress;
use super::records::EngineResult;
use super::records::ReportPart;
use super::results::{is_failed, json, messages, write_results};
use super::setup::{RequestLoad, Setup};
use super::table;
use crate::host::{BenchHost, BenchOutcome};

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
/// The GOP length above which the cost of a frame grows no more.
const LONG_GOP: usize = 250;

/// A video that can be read.
struct CorpusVideo {
    location: String,
    pixels: usize,
    frames: usize,
    longest_gop: usize,
}

/// Measures everything and writes the report.
pub(crate) fn run(arguments: &BenchArguments, setup: &Setup) -> BenchOutcome {
    let Some(corpus) = arguments.video.clone().or_else(|| env::var(VARIABLE).ok().filter(|name| !name.is_empty()))
    else {
        setup.context.host.say(&format!("bench all needs a folder of videos: name one, or set {VARIABLE}"));
        return BenchOutcome::Usage;
    };
    let setup = Setup {
        engines: if arguments.engine.is_empty() { ENGINES.to_vec() } else { arguments.engine.clone() },
        rounds: arguments.rounds.unwrap_or(ROUNDS),
        ..setup.clone()
    };
    let host = setup.context.host;
    let videos = match videos(&corpus, &setup) {
        Ok(videos) if !videos.is_empty() => videos,
        Ok(_) => return unreadable(host, &format!("{corpus}: none of the files is a readable video")),
        Err(error) => return unreadable(host, &format!("{corpus}: {error}")),
    };
    setup.print_resources();
    let all =
        CorpusBench { arguments, setup: &setup, progress: RoundProgress::new(rounds(&setup, videos.len()), host) };
    let mut entries = Vec::new();
    let is_whole = all.measure(&videos, &mut entries);
    drop(all);
    messages(host, &entries);
    let is_written = write_results(host, arguments, &entries, || table::of_all(&entries));
    if is_whole && is_written && !is_failed(&entries) { BenchOutcome::Done } else { BenchOutcome::SomeFailed }
}

fn unreadable(host: &dyn BenchHost, why: &str) -> BenchOutcome {
    host.say(why);
    BenchOutcome::Unreadable
}

/// The videos directly in a folder, sorted by name; or the one video at the path `corpus`.
fn videos(corpus: &str, setup: &Setup) -> std::io::Result<Vec<CorpusVideo>> {
    let mut files = vec![Path::new(corpus).to_owned()];
    if fs::metadata(corpus)?.is_dir() {
        files = fs::read_dir(corpus)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        files.retain(|file| file.is_file());
        files.sort();
    }
    let engine = setup.builder().build();
    let mut videos = Vec::new();
    for location in files.iter().map(|file| file.to_string_lossy().into_owned()) {
        match setup.context.opening.open(&engine, &location) {
            Ok(video) => {
                let (width, height) = video.track().parameters.size();
                let (pixels, frames) = (width * height, video.frame_count());
                videos.push(CorpusVideo { location, pixels, frames, longest_gop: video.longest_gop() });
            }
            Err(error) => setup.context.host.say(&format!("left out: {error}")),
        }
    }
    Ok(videos)
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
    let curves: usize = curve_setups(setup).iter().map(|curve| curve.engines.len()).sum();
    (each * videos + curves) * (usize::from(setup.rounds) + usize::from(setup.sums()))
}

/// The points of all curves.
fn curve_setups(setup: &Setup) -> Vec<Setup> {
    let of = |part, names: &[EngineName]| {
        let engines = setup.engines.iter().copied().filter(|name| names.contains(name)).collect();
        Setup { part: Some(part), engines, count: Some(setup.count.unwrap_or(FEW) * 2), floor: false, ..setup.clone() }
    };
    let budgets = BUDGETS.map(|bytes| {
        let warm = 2 * setup.count.unwrap_or(FEW);
        Setup { checkpoint_memory: Some(bytes), warm, ..of(ReportPart::CheckpointMemory, &[EngineName::Cpu]) }
    });
    let most = bucket_streamer::Machine::read().processors() * 2;
    let threads = [1, 2, 4, 8, 16, 32, 64].into_iter().filter(|&threads| threads <= most).map(|threads| {
        let names = [EngineName::Cpu, EngineName::FfmpegCli, EngineName::FfmpegPass];
        Setup { threads: Some(threads), count: setup.count.or(Some(FEW)), ..of(ReportPart::Threads, &names) }
    });
    let callers = CALLERS.map(|callers| {
        let load = RequestLoad { callers, rate_per_s: None };
        Setup { load, ..of(ReportPart::Callers, &[EngineName::Cpu, EngineName::FfmpegCli]) }
    });
    let points = budgets.into_iter().chain(threads).chain(callers);
    points.filter(|point| !point.engines.is_empty()).collect()
}

struct CorpusBench<'a> {
    arguments: &'a BenchArguments,
    setup: &'a Setup,
    progress: RoundProgress,
}

impl CorpusBench<'_> {
    /// True if every video was measured.
    fn measure(&self, videos: &[CorpusVideo], entries: &mut Vec<EngineResult>) -> bool {
        let mut is_whole = true;
        for video in videos {
            is_whole &= self.attempt(video, Self::scenarios, entries);
            self.keep(entries);
        }
        let is_fit = |video: &&CorpusVideo| video.pixels <= CURVE_PIXELS && video.frames > FEW as usize;
        let hardest = |video: &&CorpusVideo| video.longest_gop.min(LONG_GOP) * video.pixels;
        if let Some(video) = videos.iter().filter(is_fit).max_by_key(hardest) {
            is_whole &= self.attempt(video, Self::curves, entries);
        }
        is_whole
    }

    /// Measures a video. An error does not stop the other videos.
    fn attempt(
        &self,
        video: &CorpusVideo,
        measure: fn(&Self, &str, Option<&ReferenceDecode>, &mut Vec<EngineResult>) -> Result<()>,
        entries: &mut Vec<EngineResult>,
    ) -> bool {
        let done = self.reference(video).and_then(|known| measure(self, &video.location, known.as_ref(), entries));
        if let Err(error) = &done {
            self.progress.say(&error.to_string());
        }
        done.is_ok()
    }

    /// Every frame of the video, for the comparison of all scenarios. For a long video, each scenario decodes the
    /// frames that it needs.
    fn reference(&self, video: &CorpusVideo) -> Result<Option<ReferenceDecode>> {
        if !self.setup.check || video.frames > FAR as usize {
            return Ok(None);
        }
        let everything = Setup { count: None, floor: false, ..self.setup.clone() };
        let bench = Bench::open(Scenario::Sequential, &everything, &video.location, None, &self.progress)?;
        bench.reference().map(Some)
    }

    fn measure_scenario(
        &self,
        scenario: Scenario,
        setup: &Setup,
        location: &str,
        known: Option<&ReferenceDecode>,
    ) -> Result<Vec<EngineResult>> {
        let bench = Bench::open(scenario, setup, location, None, &self.progress)?;
        match known {
            None if setup.check => bench.measure(Some(&bench.reference()?)),
            known => bench.measure(known),
        }
    }

    fn scenarios(
        &self,
        location: &str,
        known: Option<&ReferenceDecode>,
        entries: &mut Vec<EngineResult>,
    ) -> Result<()> {
        for scenario in SCENARIOS {
            let usual = if matches!(scenario, Scenario::Sequential | Scenario::Keyframes) { MANY } else { FEW };
            let setup = Setup {
                part: Some(ReportPart::Clips),
                count: self.setup.count.or(Some(usual)),
                engines: engines(scenario, &self.setup.engines),
                ..self.setup.clone()
            };
            entries.extend(self.measure_scenario(scenario, &setup, location, known)?);
        }
        Ok(())
    }

    fn curves(&self, location: &str, known: Option<&ReferenceDecode>, entries: &mut Vec<EngineResult>) -> Result<()> {
        for setup in curve_setups(self.setup) {
            entries.extend(self.measure_scenario(Scenario::Random, &setup, location, known)?);
        }
        Ok(())
    }

    /// Writes the results so far: measuring takes long, and may be interrupted.
    fn keep(&self, entries: &[EngineResult]) {
        if let Some(file) = self.arguments.json.as_deref().filter(|file| *file != "-") {
            let _ = self.setup.context.host.write(Path::new(file), json(entries).as_bytes());
        }
    }
}
