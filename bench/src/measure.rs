//! Measures one scenario on one video with all engines, in alternating rounds.

use std::cell::RefCell;

use bucket_streamer::{Engine, Result, Video};

use super::args::{EngineName, Scenario, typed};
use super::check::{self, Place, Reference};
use super::contender::Contender;
use super::entry::{Clip, Each, Entry, Heading, Measured};
use super::floor::{self, Plan};
use super::make::{Make, What};
use super::ours;
use super::peer::Task;
use super::progress::Progress;
use super::scenario::{self, Requests};
use super::setup::{Load, Setup};
use super::stats::{self, Answer, Round};

/// The state of a measurement, ready before the clock starts.
pub(crate) struct Bench<'a> {
    scenario: Scenario,
    setup: &'a Setup,
    location: &'a str,
    /// Lists the frames and decodes for the floor; the measured engines are others.
    engine: Engine,
    video: Video,
    requests: Requests,
    /// The samples that a cold engine decodes for each request: with planning, and from the key frame on.
    plans: [Vec<Plan>; 2],
    progress: &'a Progress,
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
        progress: &'a Progress,
    ) -> Result<Bench<'a>> {
        let engine = setup.builder().build();
        let video = setup.given.opening.open(&engine, location)?;
        let requests = scenario::requests(scenario, setup, listed, &video);
        let plans = match setup.floor {
            true => [false, true].map(|from_key| floor::plans(&video, &requests, from_key)),
            false => Default::default(),
        };
        Ok(Bench { scenario, setup, location, engine, video, requests, plans, progress })
    }

    fn place(&self) -> Place<'_> {
        (self.location, self.setup.given.opening.clone().verified())
    }

    /// The right frames.
    ///
    /// # Errors
    /// The error that makes the video unreadable.
    pub(crate) fn reference(&self) -> Result<Reference> {
        self.progress.tell(format!("{}: sequential decode, to compare with", self.location));
        check::reference(self.setup.builder(), &self.place(), &self.requests.frames)
    }

    /// Makes all rounds. Engines alternate, in reversed order every other time, so that other load of the machine
    /// affects all of them.
    ///
    /// # Errors
    /// The error that makes the video unreadable; or no memory.
    pub(crate) fn measure(&self, reference: Option<&Reference>) -> Result<Vec<Entry>> {
        let unknown = Reference::default();
        let shown = reference.unwrap_or(&unknown);
        let mut turns = self.setup.engines.iter().map(|&name| Turns::new(name, self.setup.load)).collect::<Vec<_>>();
        if self.setup.sums() {
            for turn in &mut turns {
                turn.sums = self.round(turn, What::Md5, shown)?.map_or(Vec::new(), |round| round.answers);
            }
        }
        for number in 0..self.setup.rounds {
            let mut order: Vec<usize> = (0..turns.len()).collect();
            if number % 2 == 1 {
                order.reverse();
            }
            for place in order {
                let round = self.round(&turns[place], self.setup.output.into(), shown)?;
                turns[place].rounds.extend(round);
            }
        }
        Ok(turns.into_iter().map(|turn| self.entry(turn, reference)).collect())
    }

    /// A round, and its floor; `None` for an engine that is absent.
    fn round(&self, turn: &Turns, what: What, reference: &Reference) -> Result<Option<Round>> {
        let stage = if what == What::Md5 { "sums" } else { "timed" };
        self.progress.tell(format!("{}: {}, {}, {stage}", self.location, typed(self.scenario), typed(turn.name)));
        // The round of sums is not timed, so it ignores the rate.
        let (setup, load) = (self.setup, if what == What::Md5 { Load::default() } else { self.setup.load });
        let round = match &turn.contender {
            Contender::Absent(_) => None,
            Contender::Peer(peer, way) => {
                let (location, video, threads) = (self.location, &self.video, setup.threads);
                Some(Task { peer, way: *way, location, video, threads, load, what, reference }.round(&self.requests))
            }
            Contender::Ours(name) => {
                let engine = setup.engine(*name)?;
                let round = ours::round(&engine, &self.place(), &self.requests, load, what)?;
                // Frames that the CPU decoded instead would be measured as the GPU's.
                if let Some(note) = not_on_device(&engine, *name, &round) {
                    return Ok(self.absent(turn, note));
                }
                drop(engine);
                let floor = match setup.floor && what != What::Md5 {
                    true => self.floor(*name, what)?,
                    false => None,
                };
                Some(Round { floor, ..round })
            }
        };
        self.progress.step();
        Ok(round)
    }

    /// Notes why an engine does not do its work.
    fn absent(&self, turn: &Turns, why: String) -> Option<Round> {
        self.progress.step();
        turn.why_not.replace(Some(why));
        None
    }

    fn floor(&self, name: EngineName, what: What) -> Result<Option<stats::Floor>> {
        let plans = &self.plans[usize::from(name == EngineName::FromKey)];
        Ok(floor::floor(&self.engine, &self.video, plans, &mut Make::new(what)?))
    }

    fn entry(&self, turn: Turns, reference: Option<&Reference>) -> Entry {
        let engine = typed(turn.name);
        let told = stats::median(&turn.rounds).filter(|_| turn.why_not.borrow().is_none());
        let Some(told) = told else {
            let unavailable = match (turn.why_not.take(), turn.contender) {
                (Some(why), _) | (None, Contender::Absent(why)) => why,
                _ => "no round was made".into(),
            };
            return Entry::Unavailable { engine, unavailable };
        };
        let measured = self.heading().measured(engine, turn.contender.version(), &turn.rounds, told);
        let wrong = |sum: &Answer| reference.and_then(|reference| reference.is_wrong(sum));
        let verdicts: Vec<bool> = turn.sums.iter().filter_map(wrong).collect();
        let checked = reference.map(|_| verdicts.len());
        let errors = turn.rounds.iter().flat_map(|round| &round.answers).filter_map(|answer| answer.error.clone());
        let mut messages: Vec<String> = errors.collect();
        messages.sort_unstable();
        messages.dedup();
        let each = self.setup.each.then(|| self.each(&turn.rounds[told].answers, &turn.sums, wrong));
        Entry::Measured(Box::new(Measured {
            checked,
            wrong: checked.map(|_| verdicts.iter().filter(|is_wrong| **is_wrong).count()),
            each,
            messages,
            ..measured
        }))
    }

    fn each(&self, answers: &[Answer], sums: &[Answer], wrong: impl Fn(&Answer) -> Option<bool>) -> Vec<Each> {
        let mut sums = sums.iter();
        let each = |answer: &Answer| {
            let pts = self.video.sample_of(answer.index).map(|sample| sample.pts);
            // Both rounds have the same requests.
            let sum = sums.next().filter(|sum| sum.index == answer.index);
            Each::of(answer, pts, sum.and_then(|sum| sum.md5.clone()), sum.and_then(&wrong) == Some(true))
        };
        answers.iter().map(each).collect()
    }

    /// The data that all engines share.
    pub(crate) fn heading(&self) -> Heading {
        Heading {
            scenario: typed(self.scenario),
            // The source's own name has no secrets of an address.
            video: self.setup.name.unwrap_or(self.video.source().name()).to_owned(),
            output: typed(self.setup.output),
            threads: self.engine.threads(),
            setup: self.setup.told(),
            clip: self.clip(),
        }
    }

    fn clip(&self) -> Clip {
        let track = self.video.track();
        let (width, height) = track.parameters.size();
        Clip {
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
struct Turns {
    name: EngineName,
    contender: Contender,
    sums: Vec<Answer>,
    rounds: Vec<Round>,
    /// The engine is available, but does not do its work.
    why_not: RefCell<Option<String>>,
}

impl Turns {
    fn new(name: EngineName, load: Load) -> Turns {
        Turns {
            name,
            contender: Contender::of(name, load),
            sums: Vec::new(),
            rounds: Vec::new(),
            why_not: RefCell::default(),
        }
    }
}
