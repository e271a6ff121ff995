//! Answers a batch of items of one request: finds their frames, requests their stills together, and sends them in
//! order.
//!
//! Batches make streams of frames fast, because the frames of one batch share decoding. But a batch holds a permit of
//! the engine: it is short while other requests wait, and it is aborted if its client reads slowly meanwhile. The
//! memory for pictures that are not sent has a budget over all connections; a batch reserves its part before it
//! requests the permit, and releases it frame by frame.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::protocol::{FrameErrorCode, QueueItem, error_code, picture_message};
use super::request_queue::ItemBatch;
use super::session::SocketSession;
use super::writer::{ClientGone, SocketWriter};
use crate::frame_locator::frame_of;
use crate::problem::{Problem, ProblemKind};
use crate::reply_memory::ReplyReservation;
use crate::stills::{CacheOutcome, EncodedStill, StillSpec, StillStream};
use crate::videos::OpenVideo;
use bucket_streamer::OnDamage;
use bucket_streamer::still::StillFormat;

/// Most items of a batch, without and with other requests waiting.
const LONG_BATCH: usize = 64;
const SHORT_BATCH: usize = 8;
/// Most items of a batch of consecutive frames; it ends at the end of a GOP if possible.
const LONGEST_BATCH: usize = 320;
/// Greatest cost of a batch, in seconds of each worker; a costlier batch is split.
const BATCH_S: f64 = 2.0;
/// Time after which a batch ends if other requests wait.
const SLICE: Duration = Duration::from_millis(500);
/// Time of waiting for the client while a picture is sent, after which a batch is aborted if other requests wait.
const GRACE: Duration = Duration::from_millis(100);
/// Most pictures that are taken from the stream while one is sent.
const AHEAD: usize = 16;

/// The response to an item: the picture of a frame, or an error.
enum ItemPlan {
    Frame(u32),
    Fails(FrameErrorCode, Option<String>),
}

impl SocketSession {
    /// Answers the first items of a batch, and returns the rest to the queue.
    pub(super) async fn answer(
        &self,
        writer: &mut SocketWriter<'_>,
        video: &mut Option<OpenVideo>,
        mut batch: ItemBatch,
    ) -> Result<(), ClientGone> {
        if let Some(code) = self.queue.stale_reason(&batch) {
            return self.fail_all(writer, &mut batch, code, None).await;
        }
        if let Err(problem) = self.refresh(writer, video).await? {
            let code = problem.frame_error();
            return self.fail_all(writer, &mut batch, code, Some(problem.detail)).await;
        }
        let Some(opened) = video else {
            let message = "no video is set (SetVideo)".to_owned();
            return self.fail_all(writer, &mut batch, FrameErrorCode::NotFound, Some(message)).await;
        };
        let spec = StillSpec { format: StillFormat::Jpeg, quality: batch.request.quality, shape: batch.request.shape };
        let plans = self.plans(opened, &batch.request.items);
        let on_damage = batch.request.on_damage;
        let mut run = BatchRun { session: self, opened, spec, on_damage, plans, ready: HashMap::new(), fetch: None };
        let done = run.answer(writer, &mut batch).await;
        self.queue.put_back(batch);
        done
    }

    /// Reopens the video if its source has changed.
    async fn refresh(
        &self,
        writer: &mut SocketWriter<'_>,
        video: &mut Option<OpenVideo>,
    ) -> Result<Result<(), Problem>, ClientGone> {
        let Some(opened) = video.as_ref().filter(|opened| opened.video.source().check().is_err()) else {
            return Ok(Ok(()));
        };
        let name = Arc::clone(&opened.name);
        let reopened = writer.while_waiting(self.open(&name)).await?;
        Ok(reopened.map(|again| *video = Some(again)))
    }

    /// Reserves memory for a picture to send; `None` if there is no room in time.
    async fn reserve(
        &self,
        writer: &mut SocketWriter<'_>,
        bytes: usize,
    ) -> Result<Option<ReplyReservation>, ClientGone> {
        let max_wait = self.shared.config.deadline;
        let reservation = self.shared.reply_memory.reserve_within(&self.client.name, bytes as u64, max_wait);
        Ok(writer.while_waiting(reservation).await?.ok())
    }

    async fn fail_all(
        &self,
        writer: &mut SocketWriter<'_>,
        batch: &mut ItemBatch,
        code: FrameErrorCode,
        message: Option<String>,
    ) -> Result<(), ClientGone> {
        while let Some(item) = batch.request.items.pop_front() {
            self.fail(writer, &item, code, message.clone()).await?;
        }
        Ok(())
    }

    /// The plans for the first items, as many as are answered together.
    fn plans(&self, opened: &OpenVideo, items: &VecDeque<QueueItem>) -> VecDeque<ItemPlan> {
        let plan = |item: &QueueItem| match &item.locator {
            Err(code) => ItemPlan::Fails(*code, None),
            Ok(locator) => match frame_of(&opened.video, opened.order(), locator) {
                Ok(frame) => ItemPlan::Frame(frame),
                Err(problem) => ItemPlan::Fails(error_code(item, &problem), Some(problem.detail)),
            },
        };
        let is_contended = self.shared.stills.admission(opened).is_contended();
        let most = if is_contended { SHORT_BATCH } else { LONG_BATCH };
        let mut plans: VecDeque<ItemPlan> = items.iter().take(most).map(plan).collect();
        let frame = |plan: &ItemPlan| if let ItemPlan::Frame(frame) = plan { Some(*frame) } else { None };
        let frames: Vec<u32> = plans.iter().filter_map(frame).collect();
        let is_run = frames.len() == LONG_BATCH && frames.windows(2).all(|pair| pair[1] == pair[0] + 1);
        if is_run {
            // Extends the batch over consecutive frames up to the end of a GOP: the next batch would decode the
            // beginning of a split GOP again.
            let mut next = frames[LONG_BATCH - 1] + 1;
            for plan in items.iter().skip(LONG_BATCH).take(LONGEST_BATCH - LONG_BATCH).map(plan) {
                if frame(&plan) != Some(next) {
                    break;
                }
                plans.push_back(plan);
                next += 1;
            }
            let keys = opened.video.key_frames();
            let last = keys.partition_point(|key| *key <= next).checked_sub(1).and_then(|last| keys.get(last));
            let whole = last.and_then(|key| key.checked_sub(frames[0])).map_or(0, |whole| whole as usize);
            if whole >= LONG_BATCH && items.len() > plans.len() {
                plans.truncate(whole);
            }
        }
        plans
    }
}

/// The result of a frame.
type FrameResult = Result<(Arc<EncodedStill>, CacheOutcome), Problem>;

/// The stills of a batch in progress, and their memory.
struct BatchFetch {
    /// Dropped after the last still, which returns the engine's permit.
    stream: Option<StillStream>,
    remaining: usize,
    /// Memory for stills that have arrived or are expected, and the share of one still.
    memory: ReplyReservation,
    still_bytes: u64,
}

impl BatchFetch {
    /// The next finished still with its frame's number; pending forever if the stream has ended.
    async fn next(&mut self) -> Option<(u32, Result<Arc<EncodedStill>, Problem>)> {
        let Some(stream) = &mut self.stream else { return std::future::pending().await };
        let next = stream.next().await;
        self.remaining = self.remaining.saturating_sub(1);
        if self.remaining == 0 || next.is_none() {
            self.stream = None;
        }
        next
    }

    /// Drops the rest: returns the engine's permit, and the memory for stills that will not arrive.
    fn abort(&mut self) {
        if self.stream.take().is_some() {
            self.memory.release(self.remaining as u64 * self.still_bytes);
            self.remaining = 0;
        }
    }
}

/// The state of answering a batch.
struct BatchRun<'a> {
    session: &'a SocketSession,
    opened: &'a OpenVideo,
    spec: StillSpec,
    on_damage: OnDamage,
    plans: VecDeque<ItemPlan>,
    /// Results of frames that have arrived and are not sent.
    ready: HashMap<u32, FrameResult>,
    fetch: Option<BatchFetch>,
}

impl BatchRun<'_> {
    /// Answers items from the front of the batch until the plans end, the batch is stale, or other work precedes it.
    async fn answer(&mut self, writer: &mut SocketWriter<'_>, batch: &mut ItemBatch) -> Result<(), ClientGone> {
        if let Err(problem) = self.begin(writer, batch).await? {
            return self.fail_missing(writer, batch, &problem).await;
        }
        let (mut sent, is_batch, since) = (0, self.fetch.is_some(), Instant::now());
        while let Some(plan) = self.plans.front() {
            let stale = self.session.queue.stale_reason(batch);
            // The first picture is sent even if it is superseded: otherwise fast scrubbing would show no picture at
            // all.
            let is_shown = matches!(plan, ItemPlan::Frame(frame) if sent == 0 && self.ready.contains_key(frame));
            if let Some(code) = stale.filter(|code| *code != FrameErrorCode::Superseded || !is_shown) {
                self.fetch = None;
                return self.session.fail_all(writer, batch, code, None).await;
            }
            let outcome = match plan {
                ItemPlan::Fails(code, message) => Err((*code, message.clone())),
                ItemPlan::Frame(frame) => match self.wait_for(writer, *frame).await? {
                    // The still is not in this batch: the item returns to the queue.
                    None => return Ok(()),
                    Some(Ok(ready)) => Ok(ready),
                    Some(Err(problem)) if problem.kind == ProblemKind::Deadline => {
                        self.fetch = None;
                        return self.fail_missing(writer, batch, &problem).await;
                    }
                    Some(Err(problem)) => Err((problem.frame_error(), Some(problem.detail))),
                },
            };
            let answered = self.plans.pop_front();
            let Some(item) = batch.request.items.pop_front() else { return Ok(()) };
            match outcome {
                Ok((still, cache)) => self.send(writer, &item, &still, cache).await?,
                Err((code, message)) => self.session.fail(writer, &item, code, message).await?,
            }
            if let Some(ItemPlan::Frame(frame)) = answered {
                self.release(frame);
            }
            sent += 1;
            let is_long = sent >= SHORT_BATCH || since.elapsed() >= SLICE;
            if self.session.queue.is_preempted(batch) || is_batch && is_long && self.is_contended() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn is_contended(&self) -> bool {
        self.session.shared.stills.admission(self.opened).is_contended()
    }

    /// Frames without a cached still, each once, in the order of the items.
    fn missing(&self) -> Vec<u32> {
        let mut seen = HashSet::new();
        let is_missing = |frame: &u32| !self.session.shared.stills.is_cached(self.opened, *frame, self.spec);
        let frame = |plan: &ItemPlan| if let ItemPlan::Frame(frame) = plan { Some(*frame) } else { None };
        self.plans.iter().filter_map(frame).filter(|frame| seen.insert(*frame)).filter(is_missing).collect()
    }

    /// Requests the stills that are not cached.
    async fn begin(
        &mut self,
        writer: &mut SocketWriter<'_>,
        batch: &ItemBatch,
    ) -> Result<Result<(), Problem>, ClientGone> {
        let (session, deadline) = (self.session, self.session.shared.config.deadline);
        let missing = self.missing();
        match missing[..] {
            [] => {}
            [frame] => {
                // A single frame shares the work of other requests for the same still (single-flight).
                let still = session.shared.stills.get(self.opened, frame, self.spec, &session.client, deadline);
                let still = async {
                    tokio::select! {
                        still = still => Some(still),
                        () = session.queue.cancelled(batch) => None,
                    }
                };
                if let Some(result) = writer.while_waiting(still).await? {
                    self.ready.insert(frame, result.map(|(still, _, cache)| (still, cache)));
                }
            }
            _ => {
                let start = timeout(deadline, start_fetch(session, self.opened, self.spec, missing));
                match writer.while_waiting(start).await?.unwrap_or_else(|_| Err(Problem::deadline())) {
                    Ok(fetch) => self.fetch = Some(fetch),
                    Err(problem) => return Ok(Err(problem)),
                }
            }
        }
        Ok(Ok(()))
    }

    /// Answers all planned items after a failure: frames that have arrived or are cached get their pictures, invalid
    /// items their own errors, all others `problem`.
    async fn fail_missing(
        &mut self,
        writer: &mut SocketWriter<'_>,
        batch: &mut ItemBatch,
        problem: &Problem,
    ) -> Result<(), ClientGone> {
        for plan in std::mem::take(&mut self.plans) {
            let Some(item) = batch.request.items.pop_front() else { break };
            match plan {
                ItemPlan::Fails(code, message) => self.session.fail(writer, &item, code, message).await?,
                ItemPlan::Frame(frame) => match self.available(frame) {
                    Some(Ok((still, cache))) => self.send(writer, &item, &still, cache).await?,
                    _ => self.session.fail(writer, &item, problem.frame_error(), Some(problem.detail.clone())).await?,
                },
            }
        }
        Ok(())
    }

    /// The result of a frame that has arrived or is cached; a damaged picture is a problem if the request refuses
    /// damage.
    fn available(&self, frame: u32) -> Option<FrameResult> {
        let cached = || self.session.shared.stills.cached(self.opened, frame, self.spec);
        let outcome = self.ready.get(&frame).cloned().or_else(|| Some(Ok((cached()?, CacheOutcome::Hit))))?;
        Some(outcome.and_then(|(still, cache)| match still.refusal(self.on_damage, self.opened) {
            Some(problem) => Err(problem),
            None => Ok((still, cache)),
        }))
    }

    /// The result of a frame; `None` if it is not in this batch.
    async fn wait_for(&mut self, writer: &mut SocketWriter<'_>, frame: u32) -> Result<Option<FrameResult>, ClientGone> {
        let deadline = self.session.shared.config.deadline;
        loop {
            if let Some(ready) = self.available(frame) {
                return Ok(Some(ready));
            }
            let Some(fetch) = self.fetch.as_mut().filter(|fetched| fetched.stream.is_some()) else {
                return Ok(None);
            };
            match writer.while_waiting(timeout(deadline, fetch.next())).await? {
                Ok(Some((frame, still))) => self.record(frame, still),
                Ok(None) => return Ok(Some(Err(Problem::internal("no result")))),
                Err(_) => return Ok(Some(Err(Problem::deadline()))),
            }
        }
    }

    fn record(&mut self, frame: u32, still: Result<Arc<EncodedStill>, Problem>) {
        self.ready.insert(frame, still.map(|still| (still, CacheOutcome::Miss)));
    }

    /// Sends a picture, and takes the next ones from the stream meanwhile. If the client reads slowly and other
    /// requests wait for the engine, the batch is aborted.
    async fn send(
        &mut self,
        writer: &mut SocketWriter<'_>,
        item: &QueueItem,
        still: &Arc<EncodedStill>,
        cache: CacheOutcome,
    ) -> Result<(), ClientGone> {
        let sample = self.opened.video.sample_of(still.frame).map(|sample| sample.offset);
        let text = picture_message(item, sample, still, cache);
        // The memory of a batch includes one further picture: the one being sent.
        let _memory = match self.fetch.is_some() {
            true => None,
            false => match self.session.reserve(writer, still.bytes.len()).await? {
                Some(reservation) => Some(reservation),
                None => return self.session.fail(writer, item, FrameErrorCode::Overloaded, None).await,
            },
        };
        {
            let mut sending = std::pin::pin!(writer.picture(text, still.bytes.clone()));
            loop {
                let has_room = self.ready.len() < AHEAD;
                let fetch = self.fetch.as_mut().filter(|fetched| has_room && fetched.stream.is_some());
                let next = async {
                    match fetch {
                        Some(fetch) => fetch.next().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    sent = &mut sending => {
                        sent?;
                        break;
                    }
                    next = next => if let Some((frame, still)) = next {
                        self.record(frame, still);
                    },
                    () = sleep(GRACE) => {
                        if self.is_contended() && let Some(fetched) = &mut self.fetch {
                            fetched.abort();
                        }
                    }
                }
            }
        }
        self.record_sent(still);
        Ok(())
    }

    /// Drops a sent picture, unless a later item needs it, and releases its memory.
    fn release(&mut self, frame: u32) {
        let is_needed = |plan: &ItemPlan| matches!(plan, ItemPlan::Frame(other) if *other == frame);
        if !self.plans.iter().any(is_needed)
            && self.ready.remove(&frame).is_some()
            && let Some(fetch) = &mut self.fetch
        {
            fetch.memory.release(fetch.still_bytes);
        }
    }

    fn record_sent(&self, still: &EncodedStill) {
        let shared = &self.session.shared;
        shared.metrics.frame("sent");
        shared.metrics.sent(still.bytes.len());
        self.session.queue.mark_answered();
    }
}

/// Begins a batch of the first of these frames: as many as cost and memory allow.
async fn start_fetch(
    session: &SocketSession,
    opened: &OpenVideo,
    spec: StillSpec,
    mut frames: Vec<u32>,
) -> Result<BatchFetch, Problem> {
    let shared = &session.shared;
    let most_s = BATCH_S * shared.stills.threads() as f64;
    while frames.len() > 1 && spec.cost_s(opened, &frames) > most_s {
        frames.truncate(frames.len() / 2);
    }
    let (client, still_bytes) = (&session.client.name, bytes_of_one(opened, spec));
    // Memory is reserved before the permit is requested, so that a session that waits for memory blocks no decoding.
    let memory = loop {
        // Plus one cached picture that is sent between those of the batch.
        let all = still_bytes * (frames.len() as u64 + 1);
        let memory =
            (all <= shared.config.reply_memory / 2).then(|| shared.reply_memory.try_reserve(client, all)).flatten();
        match memory {
            Some(memory) => break memory,
            None if frames.len() > 1 => frames.truncate(frames.len() / 2),
            None => break shared.reply_memory.reserve(client, all).await,
        }
    };
    let permit = shared.stills.enter(opened, &session.client, spec.cost_s(opened, &frames)).await?;
    let stream = shared.stills.stream(opened, &frames, spec, (permit, &session.client)).await?;
    Ok(BatchFetch { stream: Some(stream), remaining: frames.len(), memory, still_bytes })
}

/// The approximate size of a still, in bytes.
fn bytes_of_one(opened: &OpenVideo, spec: StillSpec) -> u64 {
    (spec.pixels(opened) / 4).max(8 << 10)
}
