//! Some frames of one request: found out, fetched as a batch, and answered in order.
//!
//! A batch is what makes a stream of frames fast: what frames share is decoded once. But it holds the engine, so it is
//! short where others wait, and given up where its reader does not keep pace while they do.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::agenda::Portion;
use super::outlet::{Gone, Outlet};
use super::protocol::{NOT_FOUND, Wish, Word, frame, word};
use super::session::Session;
use crate::picture::StillFormat;
use crate::server::REPLY_UNIT;
use crate::server::problem::Problem;
use crate::server::stills::{Batch, Found, Spec, Still};
use crate::server::target::frame_of;
use crate::server::videos::Opened;

/// Frames of a portion, where nobody else waits and where somebody does.
const LONG: usize = 64;
const SHORT: usize = 8;
/// Up to so many where they follow each other, so that the portion ends with a GOP.
const LONGEST: usize = 320;
/// How long a reader may keep the engine from others.
const GRACE: Duration = Duration::from_millis(100);

/// What becomes of a wish.
enum Plan {
    Frame(u32),
    Fails(Word, Option<String>),
}

impl Session {
    /// How many wishes are looked at together.
    pub(super) fn longest_portion(&self) -> usize {
        LONGEST
    }

    /// Answers a portion, or its beginning: the rest goes back.
    pub(super) async fn answer(
        &self,
        outlet: &mut Outlet,
        video: &mut Option<Opened>,
        mut portion: Portion,
    ) -> Result<(), Gone> {
        if let Some(word) = self.agenda.stale(&portion) {
            return self.fail_all(outlet, &mut portion, word, None).await;
        }
        if let Err(problem) = self.refresh(outlet, video).await? {
            let word = problem.word();
            return self.fail_all(outlet, &mut portion, word, Some(problem.detail)).await;
        }
        let Some(opened) = video else {
            let message = "no video is set (SetVideo)".to_owned();
            return self.fail_all(outlet, &mut portion, NOT_FOUND, Some(message)).await;
        };
        let spec = Spec { format: StillFormat::Jpeg, quality: portion.job.quality, shape: portion.job.shape };
        let mut plans = plans(opened, &portion.job.wishes);
        let most = self.length(opened, &plans);
        let rest = portion.job.wishes.split_off(most.min(portion.job.wishes.len()));
        plans.truncate(most);
        let mut run = Run { session: self, opened, spec, plans, ready: HashMap::new(), batch: None, memory: None };
        let done = run.answer(outlet, &mut portion).await;
        // What is left of it comes before what was not begun.
        portion.job.wishes.extend(rest);
        self.agenda.put_back(portion);
        done
    }

    /// Opens the video again if it has changed.
    async fn refresh(&self, outlet: &mut Outlet, video: &mut Option<Opened>) -> Result<Result<(), Problem>, Gone> {
        let Some(opened) = video.as_ref().filter(|opened| opened.video.source().check().is_err()) else {
            return Ok(Ok(()));
        };
        let name = Arc::clone(&opened.name);
        let again = outlet.while_waiting(self.shared.videos.open(&name, self.shared.config.deadline)).await?;
        Ok(again.map(|again| *video = Some(again)))
    }

    async fn fail_all(
        &self,
        outlet: &mut Outlet,
        portion: &mut Portion,
        word: Word,
        message: Option<String>,
    ) -> Result<(), Gone> {
        while let Some(wish) = portion.job.wishes.pop_front() {
            self.fail(outlet, &wish, word, message.clone()).await?;
        }
        Ok(())
    }

    /// How many of these are answered together.
    fn length(&self, opened: &Opened, plans: &VecDeque<Plan>) -> usize {
        if self.shared.stills.admission(opened).is_contended() {
            return SHORT;
        }
        let frame = |plan: &Plan| if let Plan::Frame(frame) = plan { Some(*frame) } else { None };
        let frames: Option<Vec<u32>> = plans.iter().map(frame).collect();
        match frames.filter(|frames| frames.windows(2).all(|pair| pair[1] == pair[0] + 1)) {
            Some(frames) if frames.len() > LONG => {
                let keys = opened.video.key_indices();
                let next = keys.partition_point(|key| *key < frames[LONG]);
                let end = keys.get(next).map_or(LONGEST, |key| (key - frames[0]) as usize);
                end.clamp(LONG, LONGEST)
            }
            _ => LONG,
        }
    }
}

fn plans(opened: &Opened, wishes: &VecDeque<Wish>) -> VecDeque<Plan> {
    let plan = |wish: &Wish| match &wish.target {
        Err(word) => Plan::Fails(word, None),
        Ok(target) => match frame_of(&opened.video, target) {
            Ok(frame) => Plan::Frame(frame),
            Err(problem) => Plan::Fails(word(wish, &problem), Some(problem.detail)),
        },
    };
    wishes.iter().map(plan).collect()
}

/// What has come of a frame.
type Outcome = Result<(Arc<Still>, Found), Problem>;

/// A portion at work.
struct Run<'a> {
    session: &'a Session,
    opened: &'a Opened,
    spec: Spec,
    plans: VecDeque<Plan>,
    /// What has come, and is not sent.
    ready: HashMap<u32, Outcome>,
    batch: Option<Batch>,
    /// Memory for that.
    memory: Option<OwnedSemaphorePermit>,
}

impl Run<'_> {
    /// Answers wishes from the front of the portion, as many as it can.
    async fn answer(&mut self, outlet: &mut Outlet, portion: &mut Portion) -> Result<(), Gone> {
        let Some(missing) = self.begin(outlet, portion).await? else { return Ok(()) };
        let (mut sent, is_batch) = (0, missing > 0);
        while let Some(plan) = self.plans.front() {
            if let Some(word) = self.session.agenda.stale(portion) {
                self.batch = None;
                return self.session.fail_all(outlet, portion, word, None).await;
            }
            let outcome = match plan {
                Plan::Fails(word, message) => Err((*word, message.clone())),
                Plan::Frame(frame) => match self.wait(outlet, *frame).await? {
                    // Later, as a part of another batch.
                    None => return Ok(()),
                    Some(Ok(ready)) => Ok(ready),
                    Some(Err(problem)) => Err((problem.word(), Some(problem.detail))),
                },
            };
            self.plans.pop_front();
            let Some(wish) = portion.job.wishes.pop_front() else { return Ok(()) };
            match outcome {
                Ok((still, found)) => self.send(outlet, &wish, &still, found).await?,
                Err((word, message)) => self.session.fail(outlet, &wish, word, message).await?,
            }
            sent += 1;
            if is_batch && sent >= SHORT && self.is_contended() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn is_contended(&self) -> bool {
        self.session.shared.stills.admission(self.opened).is_contended()
    }

    /// Looks up what is kept, and begins a batch for the rest; so many are missing. `None` if there is nothing to do with
    /// this portion any more.
    async fn begin(&mut self, outlet: &mut Outlet, portion: &mut Portion) -> Result<Option<usize>, Gone> {
        let (shared, deadline) = (&self.session.shared, self.session.shared.config.deadline);
        let mut missing: Vec<u32> = Vec::new();
        for plan in &self.plans {
            let Plan::Frame(frame) = *plan else { continue };
            if self.ready.contains_key(&frame) || missing.contains(&frame) {
                continue;
            }
            match shared.stills.kept(self.opened, frame, self.spec) {
                Some(still) => _ = self.ready.insert(frame, Ok((still, Found::Kept))),
                None => missing.push(frame),
            }
        }
        if let [frame] = missing[..] {
            // Somebody else may wait for it, too.
            let got = shared.stills.get(self.opened, frame, self.spec, &self.session.client, deadline);
            let got = outlet.while_waiting(got).await?;
            self.ready.insert(frame, got.map(|(still, _, found)| (still, found)));
            return Ok(Some(0));
        }
        if missing.is_empty() {
            return Ok(Some(0));
        }
        let begun =
            outlet.while_waiting(timeout(deadline, batch(self.session, self.opened, self.spec, missing))).await?;
        let problem = match begun.unwrap_or_else(|_| Err(Problem::deadline())) {
            Ok((batch, memory, frames)) => {
                // There may be memory for some of them only.
                let is_begun = |plan: &Plan| match plan {
                    Plan::Frame(frame) => self.ready.contains_key(frame) || frames.contains(frame),
                    Plan::Fails(..) => true,
                };
                let until = self.plans.iter().position(|plan| !is_begun(plan)).unwrap_or(self.plans.len());
                self.plans.truncate(until);
                (self.batch, self.memory) = (Some(batch), Some(memory));
                return Ok(Some(frames.len()));
            }
            Err(problem) => problem,
        };
        // Each by itself: what is known or wrong has its own answer.
        let (word, message) = (problem.word(), problem.detail);
        for plan in std::mem::take(&mut self.plans) {
            let Some(wish) = portion.job.wishes.pop_front() else { break };
            match plan {
                Plan::Fails(word, message) => self.session.fail(outlet, &wish, word, message).await?,
                Plan::Frame(frame) => match self.ready.get(&frame).cloned() {
                    Some(Ok((still, found))) => self.send(outlet, &wish, &still, found).await?,
                    _ => self.session.fail(outlet, &wish, word, Some(message.clone())).await?,
                },
            }
        }
        Ok(None)
    }

    /// What comes of a frame; `None` if the batch has been given up.
    async fn wait(&mut self, outlet: &mut Outlet, frame: u32) -> Result<Option<Outcome>, Gone> {
        let deadline = self.session.shared.config.deadline;
        loop {
            if let Some(ready) = self.ready.get(&frame) {
                return Ok(Some(ready.clone()));
            }
            let Some(batch) = &mut self.batch else { return Ok(None) };
            match outlet.while_waiting(timeout(deadline, batch.next())).await? {
                Ok(Some((frame, made))) => {
                    let made = made.map(|still| (still, Found::Made));
                    self.ready.insert(frame, made);
                }
                Ok(None) => return Ok(Some(Err(Problem::internal("there was no answer")))),
                Err(_) => return Ok(Some(Err(Problem::deadline()))),
            }
        }
    }

    /// Sends a picture. A reader who does not keep pace loses the batch when others wait for the engine.
    async fn send(&mut self, outlet: &mut Outlet, wish: &Wish, still: &Arc<Still>, found: Found) -> Result<(), Gone> {
        let sample = self.opened.video.sample_of(still.frame).map(|sample| sample.offset);
        let text = frame(wish, sample, still, found);
        // Only what is wished for again stays.
        let is_wanted = |plan: &Plan| matches!(plan, Plan::Frame(frame) if *frame == still.frame);
        if !self.plans.iter().any(is_wanted) {
            self.ready.remove(&still.frame);
        }
        {
            let mut sending = std::pin::pin!(outlet.picture(text, still.bytes.clone()));
            loop {
                tokio::select! {
                    biased;
                    sent = &mut sending => {
                        sent?;
                        break;
                    }
                    () = tokio::time::sleep(GRACE) => {
                        let admission = self.session.shared.stills.admission(self.opened);
                        if self.batch.is_some() && admission.is_contended() {
                            self.batch = None;
                        }
                    }
                }
            }
        }
        let shared = &self.session.shared;
        shared.metrics.frame("sent");
        shared.metrics.sent(still.bytes.len());
        self.session.agenda.answered();
        Ok(())
    }
}

/// A batch of the first of these frames, as many as there is memory for.
async fn batch(
    session: &Session,
    opened: &Opened,
    spec: Spec,
    mut frames: Vec<u32>,
) -> Result<(Batch, OwnedSemaphorePermit, Vec<u32>), Problem> {
    let shared = &session.shared;
    let permit = shared.stills.admission(opened).enter(&session.client).await?;
    let all = shared.config.reply_memory / REPLY_UNIT;
    let one = (bytes_of_one(opened, spec) / REPLY_UNIT).clamp(1, all.max(1));
    let units = |frames: usize| u32::try_from(one * frames as u64).unwrap_or(u32::MAX);
    let memory = loop {
        let asked = Arc::clone(&shared.replies).try_acquire_many_owned(units(frames.len()));
        match asked {
            Ok(memory) => break memory,
            Err(_) if frames.len() > 1 => frames.truncate(frames.len() / 2),
            Err(_) => {
                let asked = Arc::clone(&shared.replies).acquire_many_owned(units(1)).await;
                break asked.map_err(|_| Problem::draining())?;
            }
        }
    };
    let batch = shared.stills.batch(opened, &frames, spec, permit).await?;
    Ok((batch, memory, frames))
}

/// What a still takes, about.
fn bytes_of_one(opened: &Opened, spec: Spec) -> u64 {
    let (width, height) = opened.video.track().parameters.size();
    let (width, height) = (width.max(16) as u64, height.max(16) as u64);
    let pixels = match (spec.shape.width, spec.shape.height) {
        (Some(own), Some(other)) => u64::from(own) * u64::from(other),
        (Some(own), None) => u64::from(own) * u64::from(own) * height / width,
        (None, Some(own)) => u64::from(own) * u64::from(own) * width / height,
        (None, None) => width * height,
    };
    (pixels / 4).max(8 << 10)
}
