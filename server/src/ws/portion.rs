//! Some frames of one request: found out, fetched as a batch, and answered in order.
//!
//! A batch is what makes a stream of frames fast: what frames share is decoded once. But it holds the engine, so it is
//! short where others wait, and given up where its reader does not keep pace while they do. What has come and is not sent
//! has a budget of memory over all connections, which is taken before the engine, and given back frame by frame.

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

/// Frames of a portion, where nobody else waits and where somebody does.
const LONG: usize = 64;
const SHORT: usize = 8;
/// Up to so many where they follow each other, ending with a GOP where one ends.
const LONGEST: usize = 320;
/// What a batch may cost, in seconds of each worker: a longer one is asked for in parts.
const BATCH_S: f64 = 2.0;
/// How long a batch keeps the engine from others, if it is not short.
const SLICE: Duration = Duration::from_millis(500);
/// How long a reader may keep the engine from others.
const GRACE: Duration = Duration::from_millis(100);
/// Pictures that are taken from the batch while others are sent.
const AHEAD: usize = 16;

/// What becomes of a wish.
enum Plan {
    Frame(u32),
    Fails(Word, Option<String>),
}

impl Session {
    /// Answers the beginning of a portion; the rest goes back.
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

    /// Memory for a picture that is to be sent; `None` if there is none in time.
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

    /// What becomes of the first wishes: of as many as are answered together.
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
            // As long as frames follow each other; and to the end of a GOP, since one that is broken off is begun again.
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

/// What has come of a frame.
type Outcome = Result<(Arc<Still>, Found), Problem>;

/// Frames on their way.
struct Fetched {
    /// Goes as soon as nothing more comes of it, and gives the engine back.
    batch: Option<Batch>,
    left: usize,
    /// Memory for what has come or will, and how much of it is one frame's.
    memory: Held,
    one: u64,
}

impl Fetched {
    /// The next one to come; for ever nothing where none will.
    async fn next(&mut self) -> Option<(u32, Result<Arc<Still>, Problem>)> {
        let Some(batch) = &mut self.batch else { return std::future::pending().await };
        let next = batch.next().await;
        self.left = self.left.saturating_sub(1);
        if self.left == 0 || next.is_none() {
            self.batch = None;
        }
        next
    }

    /// No more is wanted: the engine is given back, and the memory for what will not come.
    fn give_up(&mut self) {
        if self.batch.take().is_some() {
            self.memory.release(self.left as u64 * self.one);
            self.left = 0;
        }
    }
}

/// A portion at work.
struct Run<'a> {
    session: &'a Session,
    opened: &'a Opened,
    spec: Spec,
    on_damage: OnDamage,
    plans: VecDeque<Plan>,
    /// What has come, and is not sent.
    ready: HashMap<u32, Outcome>,
    fetched: Option<Fetched>,
}

impl Run<'_> {
    /// Answers wishes from the front of the portion, as many as it can.
    async fn answer(&mut self, outlet: &mut Outlet<'_>, portion: &mut Portion) -> Result<(), Gone> {
        if let Err(problem) = self.begin(outlet, portion).await? {
            return self.fail_missing(outlet, portion, &problem).await;
        }
        let (mut sent, is_batch, since) = (0, self.fetched.is_some(), Instant::now());
        while let Some(plan) = self.plans.front() {
            let stale = self.session.agenda.stale(portion);
            // What has come is shown, though there is something newer: else who scrubs fast would see nothing at all.
            let is_shown = matches!(plan, Plan::Frame(frame) if sent == 0 && self.ready.contains_key(frame));
            if let Some(word) = stale.filter(|word| *word != Word::Superseded || !is_shown) {
                self.fetched = None;
                return self.session.fail_all(outlet, portion, word, None).await;
            }
            let outcome = match plan {
                Plan::Fails(word, message) => Err((*word, message.clone())),
                Plan::Frame(frame) => match self.wait(outlet, *frame).await? {
                    // Later, as a part of another batch.
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

    /// Frames that are neither here nor kept, each once, in the order of the wishes.
    fn missing(&self) -> Vec<u32> {
        let mut seen = HashSet::new();
        let is_missing = |frame: &u32| !self.session.shared.stills.has(self.opened, *frame, self.spec);
        let frame = |plan: &Plan| if let Plan::Frame(frame) = plan { Some(*frame) } else { None };
        self.plans.iter().filter_map(frame).filter(|frame| seen.insert(*frame)).filter(is_missing).collect()
    }

    /// Begins to fetch what is not kept.
    async fn begin(&mut self, outlet: &mut Outlet<'_>, portion: &Portion) -> Result<Result<(), Problem>, Gone> {
        let (session, deadline) = (self.session, self.session.shared.config.deadline);
        let missing = self.missing();
        match missing[..] {
            [] => {}
            [frame] => {
                // Somebody else may wait for it, too.
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

    /// There is no batch: what is known or wrong has its own answer all the same.
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

    /// What has come of a frame, or was kept; a damaged picture is a problem where it is to be one.
    fn here(&self, frame: u32) -> Option<Outcome> {
        let kept = || self.session.shared.stills.kept(self.opened, frame, self.spec);
        let outcome = self.ready.get(&frame).cloned().or_else(|| Some(Ok((kept()?, Found::Kept))))?;
        Some(outcome.and_then(|(still, found)| match still.refusal(self.on_damage, self.opened) {
            Some(problem) => Err(problem),
            None => Ok((still, found)),
        }))
    }

    /// What comes of a frame; `None` if nothing will, in this portion.
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
                Ok(None) => return Ok(Some(Err(Problem::internal("there was no answer")))),
                Err(_) => return Ok(Some(Err(Problem::deadline()))),
            }
        }
    }

    fn take(&mut self, frame: u32, made: Result<Arc<Still>, Problem>) {
        self.ready.insert(frame, made.map(|still| (still, Found::Made)));
    }

    /// Sends a picture, and takes the next ones meanwhile. A reader who does not keep pace loses the batch when others wait
    /// for the engine.
    async fn send(
        &mut self,
        outlet: &mut Outlet<'_>,
        wish: &Wish,
        still: &Arc<Still>,
        found: Found,
    ) -> Result<(), Gone> {
        let sample = self.opened.video.sample_of(still.frame).map(|sample| sample.offset);
        let text = frame(wish, sample, still, found);
        // A batch has memory for one more than itself, which is what is sent.
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

    /// Only what is asked for again stays in memory.
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
    // Before the engine: a session that waits for memory keeps no other from decoding.
    let memory = loop {
        // And for one that is kept, and sent in between.
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

/// What a still takes, about.
fn bytes_of_one(opened: &Opened, spec: Spec) -> u64 {
    (spec.pixels(opened) / 4).max(8 << 10)
}
