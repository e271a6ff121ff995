//! Measures one scenario on one video with all engines, in alternating rounds.

use std::cell::RefCell;

use bucket_streamer::{Engine, Result, Video};

use super::args::{EngineName, Scenario, typed};
use super::check::{self, BenchInput, ReferenceDecode};
use super::contender::Contender;
use super::ffmpeg_cli::FfmpegTask;
use super::floor::{self, PacketPlan};
use super::frame_output::{FrameOutput, FrameProcessor};
use super::own_engine;
use super::progress::RoundProgress;
use super::records::{BenchHeading, ClipProperties, EngineResult, FrameRecord, Measurement};
use super::scenario::{self, Requests};
use super::setup::{RequestLoad, Setup};
use super::stats::{self, MeasuredRequest, Round};

/// The state of a measurement, ready before the clock starts.
pub(crate) struct Bench<'a> {
    scenario: Scenario,
    setup: &'a Setup,
    location: &'a str,
    /// Lists the frames and decodes for the floor. Each measured round has an engine of its own.
    engine: Engine,
    video: Video,
    requests: Requests,
    /// The samples that a cold engine decodes for each request: with planning, and from the key frame on.
    plans: [Vec<PacketPlan>; 2],
    progress: &'a RoundProgress,
}

impl<'a> Bench<'a> {
    /// Opens the video and selects frames.
    ///
    /// # Errors
    /// The error that makes the video unreadable.
    pub(crate) fn open(
        scenario: Scenario,
        setup: &'a Setup,
        location: &'a str,
        listed: Option<Vec<u32>>,
        progress: &'a RoundProgress,
    ) -> Result<Bench<'a>> {
        let engine = setup.builder().build();
        let video = setup.context.opening.open(&engine, location)?;
        let requests = scenario::requests(scenario, setup, listed, &video);
        let plans = match setup.floor {
            true => [false, true].map(|from_key| floor::plans(&video, &requests, from_key)),
            false => Default::default(),
        };
        Ok(Bench { scenario, setup, location, engine, video, requests, plans, progress })
    }

    fn input(&self) -> BenchInput<'_> {
        (self.location, self.setup.context.opening.clone().verified())
    }

    /// Decodes the reference: the right frames.
    ///
    /// # Errors
    /// The error that makes the video unreadable.
    pub(crate) fn reference(&self) -> Result<ReferenceDecode> {
        self.progress.show(format!("{}: sequential decode, to compare with", self.location));
        check::reference(self.setup.builder(), &self.input(), &self.requests.frames)
    }

    /// Runs all rounds. Engines alternate, in reversed order every other time, so that other load of the machine
    /// affects all of them.
    ///
    /// # Errors
    /// The error that makes the video unreadable; or a failed allocation.
    pub(crate) fn measure(&self, reference: Option<&ReferenceDecode>) -> Result<Vec<EngineResult>> {
        let unknown = ReferenceDecode::default();
        let shown = reference.unwrap_or(&unknown);
        let mut contestants =
            self.setup.engines.iter().map(|&name| EngineRounds::new(name, self.setup.load)).collect::<Vec<_>>();
        if self.setup.sums() {
            for contestant in &mut contestants {
                contestant.sums =
                    self.round(contestant, FrameOutput::Md5, shown)?.map_or(Vec::new(), |round| round.answers);
            }
        }
        for number in 0..self.setup.rounds {
            let mut order: Vec<usize> = (0..contestants.len()).collect();
            if number % 2 == 1 {
                order.reverse();
            }
            for position in order {
                let round = self.round(&contestants[position], self.setup.output.into(), shown)?;
                contestants[position].rounds.extend(round);
            }
        }
        Ok(contestants.into_iter().map(|contestant| self.result(contestant, reference)).collect())
    }

    /// A round, and its floor; `None` for an engine that is absent.
    fn round(
        &self,
        contestant: &EngineRounds,
        output: FrameOutput,
        reference: &ReferenceDecode,
    ) -> Result<Option<Round>> {
        let stage = if output == FrameOutput::Md5 { "sums" } else { "timed" };
        self.progress.show(format!("{}: {}, {}, {stage}", self.location, typed(self.scenario), typed(contestant.name)));
        // The round of sums is not timed, so it ignores the rate.
        let (setup, load) =
            (self.setup, if output == FrameOutput::Md5 { RequestLoad::default() } else { self.setup.load });
        let round = match &contestant.contender {
            Contender::Absent(_) => None,
            Contender::FfmpegCli(peer, way) => {
                let (location, video, threads) = (self.location, &self.video, setup.threads);
                Some(
                    FfmpegTask { ffmpeg: peer, ffmpeg_mode: *way, location, video, threads, load, output, reference }
                        .round(&self.requests),
                )
            }
            Contender::OwnEngine(name) => {
                let engine = setup.engine(*name)?;
                let round = own_engine::round(&engine, &self.input(), &self.requests, load, output)?;
                // Frames that the CPU decoded instead would be measured as the GPU's.
                if let Some(note) = not_on_device(&engine, *name, &round) {
                    return Ok(self.mark_absent(contestant, note));
                }
                drop(engine);
                let floor = match setup.floor && output != FrameOutput::Md5 {
                    true => self.floor(*name, output)?,
                    false => None,
                };
                Some(Round { floor, ..round })
            }
        };
        self.progress.step();
        Ok(round)
    }

    /// Records the reason why an engine cannot run its rounds.
    fn mark_absent(&self, contestant: &EngineRounds, why: String) -> Option<Round> {
        self.progress.step();
        contestant.why_not.replace(Some(why));
        None
    }

    fn floor(&self, name: EngineName, output: FrameOutput) -> Result<Option<stats::Floor>> {
        let plans = &self.plans[usize::from(name == EngineName::FromKey)];
        Ok(floor::floor(&self.engine, &self.video, plans, &mut FrameProcessor::new(output)?))
    }

    fn result(&self, contestant: EngineRounds, reference: Option<&ReferenceDecode>) -> EngineResult {
        let engine = typed(contestant.name);
        let median = stats::median(&contestant.rounds).filter(|_| contestant.why_not.borrow().is_none());
        let Some(median) = median else {
            let unavailable = match (contestant.why_not.take(), contestant.contender) {
                (Some(why), _) | (None, Contender::Absent(why)) => why,
                _ => "no round was completed".into(),
            };
            return EngineResult::Unavailable { engine, unavailable };
        };
        let measured = self.heading().measurement(engine, contestant.contender.version(), &contestant.rounds, median);
        let wrong = |sum: &MeasuredRequest| reference.and_then(|reference| reference.is_wrong(sum));
        let verdicts: Vec<bool> = contestant.sums.iter().filter_map(wrong).collect();
        let checked = reference.map(|_| verdicts.len());
        let errors =
            contestant.rounds.iter().flat_map(|round| &round.answers).filter_map(|answer| answer.error.clone());
        let mut messages: Vec<String> = errors.collect();
        messages.sort_unstable();
        messages.dedup();
        let each = self.setup.each.then(|| self.each(&contestant.rounds[median].answers, &contestant.sums, wrong));
        EngineResult::Measured(Box::new(Measurement {
            checked,
            wrong: checked.map(|_| verdicts.iter().filter(|is_wrong| **is_wrong).count()),
            each,
            messages,
            ..measured
        }))
    }

    fn each(
        &self,
        answers: &[MeasuredRequest],
        sums: &[MeasuredRequest],
        wrong: impl Fn(&MeasuredRequest) -> Option<bool>,
    ) -> Vec<FrameRecord> {
        let mut sums = sums.iter();
        let each = |answer: &MeasuredRequest| {
            let pts = self.video.sample_of(answer.index).map(|sample| sample.pts);
            // Both rounds have the same requests.
            let sum = sums.next().filter(|sum| sum.index == answer.index);
            FrameRecord::of(answer, pts, sum.and_then(|sum| sum.md5.clone()), sum.and_then(&wrong) == Some(true))
        };
        answers.iter().map(each).collect()
    }

    /// The data that all engines share.
    pub(crate) fn heading(&self) -> BenchHeading {
        BenchHeading {
            scenario: typed(self.scenario),
            // The source's own name has no secrets of an address.
            video: self.setup.name.unwrap_or(self.video.source().name()).to_owned(),
            output: typed(self.setup.output),
            threads: self.engine.threads(),
            setup: self.setup.record(),
            clip: self.clip(),
        }
    }

    fn clip(&self) -> ClipProperties {
        let track = self.video.track();
        let (width, height) = track.parameters.size();
        ClipProperties {
            container: track.container.name().to_owned(),
            codec: track.parameters.codec_name().to_owned(),
            width,
            height,
            pixel_format: self
                .video
                .describe()
                .ok()
                .and_then(|described| described.format)
                .map(|format| format.name().to_owned()),
            frames: self.video.frame_count(),
            longest_gop: Some(self.video.longest_gop()),
            keyframes: self.video.key_indices().len(),
        }
    }
}

/// The reason why a round of the GPU's engine is void.
fn not_on_device(engine: &Engine, name: EngineName, round: &Round) -> Option<String> {
    if name != EngineName::Nvdec {
        return None;
    }
    let (frames, there) = (round.answers.iter().filter(|answer| answer.error.is_none()).count() as u64, engine.work());
    let few = || format!("{} of {frames} frames were decoded on the CPU", frames - there.device_frames);
    engine.device_notes().into_iter().next().or_else(|| (there.device_frames < frames).then(few))
}

/// The rounds of one engine.
struct EngineRounds {
    name: EngineName,
    contender: Contender,
    sums: Vec<MeasuredRequest>,
    rounds: Vec<Round>,
    /// The reason why an available engine cannot run its rounds.
    why_not: RefCell<Option<String>>,
}

impl EngineRounds {
    fn new(name: EngineName, load: RequestLoad) -> EngineRounds {
        EngineRounds {
            name,
            contender: Contender::of(name, load),
            sums: Vec::new(),
            rounds: Vec::new(),
            why_not: RefCell::default(),
        }
    }
}
