//! Answers a batch of items of one request: finds their frames, fetches them together, and sends them in order.
//!
//! Batches make streams of frames fast, because frames share decoding within one. But a batch holds the engine: it is
//! short while other requests wait, and it is given up if its reader is slow meanwhile. The memory for pictures that
//! are not sent has a budget over all connections; a batch takes its part before the engine, and returns it frame by
//! frame.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::agenda::Portion;
use super::outlet::{Gone, Outlet};
use super::protocol::{Wish, Word, frame, word};
use super::session::Session;
use crate::problem::{Kind, Problem};
use crate::replies::Held;
use crate::stills::{Batch, Found, Spec, Still};
use crate::target::frame_of;
use crate::videos::Opened;
use bucket_streamer::OnDamage;
use bucket_streamer::still::StillFormat;

/// Items of a batch: without and with other requests waiting.
const LONG: usize = 64;
const SHORT: usize = 8;
/// Most items where frames are consecutive; such a batch ends with a GOP if possible.
const LONGEST: usize = 320;
/// Greatest cost of a batch, in seconds of each worker: a costlier one is split.
const BATCH_S: f64 = 2.0;
/// Time for which a long batch keeps the engine from other requests.
const SLICE: Duration = Duration::from_millis(500);
/// Time for which a slow reader may keep the engine from other requests.
const GRACE: Duration = Duration::from_millis(100);
/// Most pictures that are taken from the batch while one is sent.
const AHEAD: usize = 16;

/// The plan for an item.
enum Plan {
    Frame(u32),
    Fails(Word, Option<String>),
}

impl Session {
    /// Answers the beginning of a portion, and returns the rest to the queue.
    pub(super) async fn answer(
        &self,
        outlet: &mut Outlet<'_>,
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
            return self.fail_all(outlet, &mut portion, Word::NotFound, Some(message)).await;
        };
        let spec = Spec { format: StillFormat::Jpeg, quality: portion.job.quality, shape: portion.job.shape };
        let plans = self.plans(opened, &portion.job.wishes);
        let on_damage = portion.job.on_damage;
        let mut run = Run { session: self, opened, spec, on_damage, plans, ready: HashMap::new(), fetched: None };
        let done = run.answer(outlet, &mut portion).await;
        self.agenda.put_back(portion);
        done
    }

    /// Opens the video again if it has changed.
    async fn refresh(&self, outlet: &mut Outlet<'_>, video: &mut Option<Opened>) -> Result<Result<(), Problem>, Gone> {
        let Some(opened) = video.as_ref().filter(|opened| opened.video.source().check().is_err()) else {
            return Ok(Ok(()));
        };
        let name = Arc::clone(&opened.name);
        let again = outlet.while_waiting(self.open(&name)).await?;
        Ok(again.map(|again| *video = Some(again)))
    }

    /// Memory for a picture to send; `None` if there is none in time.
    async fn hold(&self, outlet: &mut Outlet<'_>, bytes: usize) -> Result<Option<Held>, Gone> {
        let patience = self.shared.config.deadline;
        let held = self.shared.replies.hold(&self.client.who, bytes as u64, patience);
        Ok(outlet.while_waiting(held).await?.ok())
    }

    async fn fail_all(
        &self,
        outlet: &mut Outlet<'_>,
        portion: &mut Portion,
        word: Word,
        message: Option<String>,
    ) -> Result<(), Gone> {
        while let Some(wish) = portion.job.wishes.pop_front() {
            self.fail(outlet, &wish, word, message.clone()).await?;
        }
        Ok(())
    }

    /// Plans for the first items: as many as are answered together.
    fn plans(&self, opened: &Opened, wishes: &VecDeque<Wish>) -> VecDeque<Plan> {
        let plan = |wish: &Wish| match &wish.target {
            Err(word) => Plan::Fails(*word, None),
            Ok(target) => match frame_of(&opened.video, opened.order(), target) {
                Ok(frame) => Plan::Frame(frame),
                Err(problem) => Plan::Fails(word(wish, &problem), Some(problem.detail)),
            },
        };
        let is_contended = self.shared.stills.admission(opened).is_contended();
        let most = if is_contended { SHORT } else { LONG };
        let mut plans: VecDeque<Plan> = wishes.iter().take(most).map(plan).collect();
        let frame = |plan: &Plan| if let Plan::Frame(frame) = plan { Some(*frame) } else { None };
        let frames: Vec<u32> = plans.iter().filter_map(frame).collect();
        let is_run = frames.len() == LONG && frames.windows(2).all(|pair| pair[1] == pair[0] + 1);
        if is_run {
            // Extends the batch over consecutive frames, up to the end of a GOP: decoding a split GOP begins anew.
            let mut next = frames[LONG - 1] + 1;
            for plan in wishes.iter().skip(LONG).take(LONGEST - LONG).map(plan) {
                if frame(&plan) != Some(next) {
                    break;
                }
                plans.push_back(plan);
                next += 1;
            }
            let keys = opened.video.key_frames();
            let last = keys.partition_point(|key| *key <= next).checked_sub(1).and_then(|last| keys.get(last));
            let whole = last.and_then(|key| key.checked_sub(frames[0])).map_or(0, |whole| whole as usize);
            if whole >= LONG && wishes.len() > plans.len() {
                plans.truncate(whole);
            }
        }
        plans
    }
}

/// The result of a frame.
type Outcome = Result<(Arc<Still>, Found), Problem>;

/// A batch in progress.
struct Fetched {
    /// Dropped as soon as no more frames come, which returns the engine's permit.
    batch: Option<Batch>,
    left: usize,
    /// Memory for frames that have arrived or will, and the share of one frame.
    memory: Held,
    one: u64,
}

impl Fetched {
    /// The next frame to arrive; pending forever where none will.
    async fn next(&mut self) -> Option<(u32, Result<Arc<Still>, Problem>)> {
        let Some(batch) = &mut self.batch else { return std::future::pending().await };
        let next = batch.next().await;
        self.left = self.left.saturating_sub(1);
        if self.left == 0 || next.is_none() {
            self.batch = None;
        }
        next
    }

    /// Gives up the rest: returns the engine's permit, and the memory for frames that will not come.
    fn give_up(&mut self) {
        if self.batch.take().is_some() {
            self.memory.release(self.left as u64 * self.one);
            self.left = 0;
        }
    }
}

/// A portion in progress.
struct Run<'a> {
    session: &'a Session,
    opened: &'a Opened,
    spec: Spec,
    on_damage: OnDamage,
    plans: VecDeque<Plan>,
    /// Frames that have arrived and are not sent.
    ready: HashMap<u32, Outcome>,
    fetched: Option<Fetched>,
}

impl Run<'_> {
    /// Answers items from the front of the portion, as many as possible.
    async fn answer(&mut self, outlet: &mut Outlet<'_>, portion: &mut Portion) -> Result<(), Gone> {
        if let Err(problem) = self.begin(outlet, portion).await? {
            return self.fail_missing(outlet, portion, &problem).await;
        }
        let (mut sent, is_batch, since) = (0, self.fetched.is_some(), Instant::now());
        while let Some(plan) = self.plans.front() {
            let stale = self.session.agenda.stale(portion);
            // The first picture is sent even if it is superseded: else a fast scrub would show no picture at all.
            let is_shown = matches!(plan, Plan::Frame(frame) if sent == 0 && self.ready.contains_key(frame));
            if let Some(word) = stale.filter(|word| *word != Word::Superseded || !is_shown) {
                self.fetched = None;
                return self.session.fail_all(outlet, portion, word, None).await;
            }
            let outcome = match plan {
                Plan::Fails(word, message) => Err((*word, message.clone())),
                Plan::Frame(frame) => match self.wait(outlet, *frame).await? {
                    // Answered later, in another batch.
                    None => return Ok(()),
                    Some(Ok(ready)) => Ok(ready),
                    Some(Err(problem)) if problem.kind == Kind::Deadline => {
                        self.fetched = None;
                        return self.fail_missing(outlet, portion, &problem).await;
                    }
                    Some(Err(problem)) => Err((problem.word(), Some(problem.detail))),
                },
            };
            let answered = self.plans.pop_front();
            let Some(wish) = portion.job.wishes.pop_front() else { return Ok(()) };
            match outcome {
                Ok((still, found)) => self.send(outlet, &wish, &still, found).await?,
                Err((word, message)) => self.session.fail(outlet, &wish, word, message).await?,
            }
            if let Some(Plan::Frame(frame)) = answered {
                self.let_go(frame);
            }
            sent += 1;
            let is_long = sent >= SHORT || since.elapsed() >= SLICE;
            if self.session.agenda.is_urgent(portion) || is_batch && is_long && self.is_contended() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn is_contended(&self) -> bool {
        self.session.shared.stills.admission(self.opened).is_contended()
    }

    /// Frames that are neither here nor cached, each once, in the order of the items.
    fn missing(&self) -> Vec<u32> {
        let mut seen = HashSet::new();
        let is_missing = |frame: &u32| !self.session.shared.stills.has(self.opened, *frame, self.spec);
        let frame = |plan: &Plan| if let Plan::Frame(frame) = plan { Some(*frame) } else { None };
        self.plans.iter().filter_map(frame).filter(|frame| seen.insert(*frame)).filter(is_missing).collect()
    }

    /// Begins to fetch the frames that are not cached.
    async fn begin(&mut self, outlet: &mut Outlet<'_>, portion: &Portion) -> Result<Result<(), Problem>, Gone> {
        let (session, deadline) = (self.session, self.session.shared.config.deadline);
        let missing = self.missing();
        match missing[..] {
            [] => {}
            [frame] => {
                // A single frame shares the work of other requests for it.
                let got = session.shared.stills.get(self.opened, frame, self.spec, &session.client, deadline);
                let got = async {
                    tokio::select! {
                        got = got => Some(got),
                        () = session.agenda.cancelled(portion) => None,
                    }
                };
                if let Some(got) = outlet.while_waiting(got).await? {
                    self.ready.insert(frame, got.map(|(still, _, found)| (still, found)));
                }
            }
            _ => {
                let begun = timeout(deadline, batch(session, self.opened, self.spec, missing));
                match outlet.while_waiting(begun).await?.unwrap_or_else(|_| Err(Problem::deadline())) {
                    Ok(fetched) => self.fetched = Some(fetched),
                    Err(problem) => return Ok(Err(problem)),
                }
            }
        }
        Ok(Ok(()))
    }

    /// Answers all items without a batch: frames that are here get their pictures, invalid items their own errors.
    async fn fail_missing(
        &mut self,
        outlet: &mut Outlet<'_>,
        portion: &mut Portion,
        problem: &Problem,
    ) -> Result<(), Gone> {
        for plan in std::mem::take(&mut self.plans) {
            let Some(wish) = portion.job.wishes.pop_front() else { break };
            match plan {
                Plan::Fails(word, message) => self.session.fail(outlet, &wish, word, message).await?,
                Plan::Frame(frame) => match self.here(frame) {
                    Some(Ok((still, found))) => self.send(outlet, &wish, &still, found).await?,
                    _ => self.session.fail(outlet, &wish, problem.word(), Some(problem.detail.clone())).await?,
                },
            }
        }
        Ok(())
    }

    /// The result of a frame that has arrived or is cached; a damaged picture is a problem if the request refuses it.
    fn here(&self, frame: u32) -> Option<Outcome> {
        let kept = || self.session.shared.stills.kept(self.opened, frame, self.spec);
        let outcome = self.ready.get(&frame).cloned().or_else(|| Some(Ok((kept()?, Found::Kept))))?;
        Some(outcome.and_then(|(still, found)| match still.refusal(self.on_damage, self.opened) {
            Some(problem) => Err(problem),
            None => Ok((still, found)),
        }))
    }

    /// The result of a frame; `None` if it does not come in this portion.
    async fn wait(&mut self, outlet: &mut Outlet<'_>, frame: u32) -> Result<Option<Outcome>, Gone> {
        let deadline = self.session.shared.config.deadline;
        loop {
            if let Some(ready) = self.here(frame) {
                return Ok(Some(ready));
            }
            let Some(fetched) = self.fetched.as_mut().filter(|fetched| fetched.batch.is_some()) else {
                return Ok(None);
            };
            match outlet.while_waiting(timeout(deadline, fetched.next())).await? {
                Ok(Some((frame, made))) => self.take(frame, made),
                Ok(None) => return Ok(Some(Err(Problem::internal("no result")))),
                Err(_) => return Ok(Some(Err(Problem::deadline()))),
            }
        }
    }

    fn take(&mut self, frame: u32, made: Result<Arc<Still>, Problem>) {
        self.ready.insert(frame, made.map(|still| (still, Found::Made)));
    }

    /// Sends a picture, and takes the next ones meanwhile. A slow reader loses the batch when other requests wait for
    /// the engine.
    async fn send(
        &mut self,
        outlet: &mut Outlet<'_>,
        wish: &Wish,
        still: &Arc<Still>,
        found: Found,
    ) -> Result<(), Gone> {
        let sample = self.opened.video.sample_of(still.frame).map(|sample| sample.offset);
        let text = frame(wish, sample, still, found);
        // The memory of a batch includes one more picture, the one being sent.
        let _memory = match self.fetched.is_some() {
            true => None,
            false => match self.session.hold(outlet, still.bytes.len()).await? {
                Some(held) => Some(held),
                None => return self.session.fail(outlet, wish, Word::Overloaded, None).await,
            },
        };
        {
            let mut sending = std::pin::pin!(outlet.picture(text, still.bytes.clone()));
            loop {
                let has_room = self.ready.len() < AHEAD;
                let fetched = self.fetched.as_mut().filter(|fetched| has_room && fetched.batch.is_some());
                let next = async {
                    match fetched {
                        Some(fetched) => fetched.next().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    sent = &mut sending => {
                        sent?;
                        break;
                    }
                    next = next => if let Some((frame, made)) = next {
                        self.take(frame, made);
                    },
                    () = sleep(GRACE) => {
                        if self.is_contended() && let Some(fetched) = &mut self.fetched {
                            fetched.give_up();
                        }
                    }
                }
            }
        }
        self.sent(still);
        Ok(())
    }

    /// Drops a picture that no later item needs.
    fn let_go(&mut self, frame: u32) {
        let is_wanted = |plan: &Plan| matches!(plan, Plan::Frame(other) if *other == frame);
        if !self.plans.iter().any(is_wanted)
            && self.ready.remove(&frame).is_some()
            && let Some(fetched) = &mut self.fetched
        {
            fetched.memory.release(fetched.one);
        }
    }

    fn sent(&self, still: &Still) {
        let shared = &self.session.shared;
        shared.metrics.frame("sent");
        shared.metrics.sent(still.bytes.len());
        self.session.agenda.answered();
    }
}

/// A batch of the first of these frames, as many as there is memory for.
async fn batch(session: &Session, opened: &Opened, spec: Spec, mut frames: Vec<u32>) -> Result<Fetched, Problem> {
    let shared = &session.shared;
    let most_s = BATCH_S * shared.stills.threads() as f64;
    while frames.len() > 1 && spec.cost_s(opened, &frames) > most_s {
        frames.truncate(frames.len() / 2);
    }
    let (who, one) = (&session.client.who, bytes_of_one(opened, spec));
    // Memory comes before the engine: a session that waits for memory blocks no other from decoding.
    let memory = loop {
        // Plus one cached picture that is sent in between.
        let all = one * (frames.len() as u64 + 1);
        let memory = (all <= shared.config.reply_memory / 2).then(|| shared.replies.try_take(who, all)).flatten();
        match memory {
            Some(memory) => break memory,
            None if frames.len() > 1 => frames.truncate(frames.len() / 2),
            None => break shared.replies.take(who, all).await,
        }
    };
    let permit = shared.stills.enter(opened, &session.client, spec.cost_s(opened, &frames)).await?;
    let batch = shared.stills.batch(opened, &frames, spec, (permit, &session.client)).await?;
    Ok(Fetched { batch: Some(batch), left: frames.len(), memory, one })
}

/// The approximate size of a still.
fn bytes_of_one(opened: &Opened, spec: Spec) -> u64 {
    (spec.pixels(opened) / 4).max(8 << 10)
}
