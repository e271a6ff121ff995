//! Frames on their way from the workers to whoever asked.
//!
//! A request is a set of groups of targets, each a task of the workers. Results wait in a short queue; a task that finds it
//! full ends and is submitted again when there is room: no worker ever waits for a reader. Dropping the reader cancels.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_core::Stream;

use crate::decode::judge::Place;
use crate::decode::workers::{self, Account, Task};
use crate::error::{Error, ErrorKind, Result};
use crate::session::engine;
use crate::session::video::{Video, VideoFrame};

/// Decoded frames that wait for their reader; past that their tasks rest.
const WAITING_FRAMES: usize = 8;
/// What they may take, if there are several.
const WAITING_BYTES: u64 = 128 << 20;

struct State<T> {
    results: VecDeque<(u32, T)>,
    /// How many may wait: [`WAITING_FRAMES`], or fewer large ones.
    most: usize,
    /// Tasks that are in the workers' queue or at work.
    tasks: usize,
    /// Tasks that rest until there is room.
    resting: Vec<(Place, Task)>,
    waker: Option<Waker>,
}

/// What is made of each frame, by the worker that has decoded it.
type Make<T> = Box<dyn Fn(u32, Result<VideoFrame>) -> T + Send + Sync>;

/// What workers and reader share.
pub(crate) struct Request<T> {
    engine: Arc<engine::Shared>,
    make: Make<T>,
    state: Mutex<State<T>>,
    change: Condvar,
    /// A result was taken, or nobody waits for any more.
    room: Condvar,
    cancelled: AtomicBool,
    clock: Clock,
    payer: Payer,
    stay: Stay,
}

/// What the tasks of a request are charged to.
#[derive(Debug, Default)]
pub(crate) struct Payer {
    pub(crate) account: Charged,
    /// What one picture is likely to cost, in nanoseconds.
    pub(crate) picture_ns: u64,
}

/// Whose account it is.
#[derive(Debug)]
pub(crate) enum Charged {
    /// The request's own.
    Own(Account),
    /// That of a client, which other requests share.
    Client(Arc<Account>),
}

impl Default for Charged {
    fn default() -> Charged {
        Charged::Own(Account::default())
    }
}

impl Payer {
    fn account(&self) -> &Account {
        match &self.account {
            Charged::Own(account) => account,
            Charged::Client(account) => account,
        }
    }
}

/// Whether frames are to stay in a GPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stay {
    /// All come to the host.
    No,
    /// Those that are decoded there may stay.
    May,
    /// They stay, or are refused.
    Must,
}

/// Where the time goes.
struct Clock {
    made: Instant,
    /// Nanoseconds from then to when the first task began, 0 as long as none has.
    begun: AtomicU64,
    /// Nanoseconds that tasks have waited for bytes.
    fetched: AtomicU64,
}

/// Where the time of a request has gone so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Until a worker took it up, but for what was waited for bytes by then.
    pub queue: Duration,
    /// Waiting for bytes: of a request for several GOPs, the sum of what each has waited.
    pub fetch: Duration,
    /// Since it was made.
    pub total: Duration,
}

impl Clock {
    fn begins(&self) {
        let now = nanos(self.made.elapsed()).max(1);
        let _ = self.begun.compare_exchange(0, now, Relaxed, Relaxed);
    }

    fn spent(&self) -> Spent {
        let total = self.made.elapsed();
        let fetch = Duration::from_nanos(self.fetched.load(Relaxed));
        let begun = match self.begun.load(Relaxed) {
            0 => total,
            begun => Duration::from_nanos(begun),
        };
        Spent { queue: begun.saturating_sub(fetch), fetch, total }
    }
}

/// How many frames of this size may wait.
fn most_waiting(frame: &VideoFrame, budget: u64) -> usize {
    let bytes: usize = frame.planes().map(|plane| plane.data.len()).sum();
    let most = WAITING_BYTES.min(budget / 8) / (bytes as u64).max(1);
    usize::try_from(most).unwrap_or(WAITING_FRAMES).clamp(1, WAITING_FRAMES)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl<T: Send + 'static> Request<T> {
    pub(crate) fn new(engine: Arc<engine::Shared>, make: Make<T>, payer: Payer) -> Arc<Request<T>> {
        let state =
            State { results: VecDeque::new(), most: WAITING_FRAMES, tasks: 0, resting: Vec::new(), waker: None };
        let (state, change, room) = (Mutex::new(state), Condvar::new(), Condvar::new());
        let clock = Clock { made: Instant::now(), begun: AtomicU64::new(0), fetched: AtomicU64::new(0) };
        let cancelled = AtomicBool::new(false);
        Arc::new(Request { engine, make, state, change, room, cancelled, clock, payer, stay: Stay::No })
    }
}

impl<T: Send + 'static> Request<T> {
    /// One whose frames may stay in a GPU's memory.
    pub(crate) fn staying(engine: Arc<engine::Shared>, make: Make<T>, payer: Payer, stay: Stay) -> Arc<Request<T>> {
        let mut request = Request::new(engine, make, payer);
        if let Some(request) = Arc::get_mut(&mut request) {
            request.stay = stay;
        }
        request
    }

    /// Submits a task that was not there before.
    pub(crate) fn submit(
        self: &Arc<Request<T>>,
        place: Place,
        pictures: u64,
        run: impl FnOnce(usize) + Send + 'static,
    ) {
        self.lock().tasks += 1;
        self.engine.workers_at(place).submit(self.task(pictures, run), self.payer.account());
    }

    /// Submits a task when `when` calls what it is given.
    pub(crate) fn submit_when(
        self: &Arc<Request<T>>,
        place: Place,
        pictures: u64,
        run: impl FnOnce(usize) + Send + 'static,
        when: impl FnOnce(Box<dyn FnOnce() + Send>),
    ) {
        self.lock().tasks += 1;
        let task = self.task(pictures, run);
        let (request, since) = (Arc::downgrade(self), Instant::now());
        let engine = Arc::clone(&self.engine);
        when(Box::new(move || {
            // The task holds it.
            let Some(request) = request.upgrade() else { return };
            request.fetched(since.elapsed());
            engine.workers_at(place).submit(task, request.payer.account());
        }));
    }

    /// Puts a task off until there is room for its results.
    pub(crate) fn rest(self: &Arc<Request<T>>, place: Place, pictures: u64, run: impl FnOnce(usize) + Send + 'static) {
        let task = Task { goes_on: Some(workers::position()), ..self.task(pictures, run) };
        let mut state = self.lock();
        state.tasks += 1;
        if self.is_cancelled() {
            // Nobody takes out what rests any more, and the task holds the request: it goes, after the lock.
            drop(state);
        } else if state.results.len() < state.most {
            drop(state);
            self.engine.workers_at(place).submit(task, self.payer.account());
        } else {
            state.resting.push((place, task));
        }
    }

    /// However the task ends, run or dropped, the reader learns of it.
    fn task(self: &Arc<Request<T>>, pictures: u64, run: impl FnOnce(usize) + Send + 'static) -> Task {
        let cost_ns = pictures.saturating_mul(self.payer.picture_ns);
        let ticket = Ticket { request: Arc::clone(self), cost_ns, has_begun: false };
        let run = move |width| {
            let mut ticket = ticket;
            ticket.has_begun = true;
            if !ticket.request.is_cancelled() {
                ticket.request.clock.begins();
                run(width);
            }
        };
        Task { pictures, cost_ns, goes_on: None, run: Box::new(run) }
    }
}

impl<T> Request<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Gives a result to the reader. False if it should be the last one for now; before that, the reader gets `patience`
    /// to make room.
    pub(crate) fn give(&self, index: u32, result: Result<VideoFrame>, patience: Duration) -> bool {
        let most = result.as_ref().map_or(WAITING_FRAMES, |frame| most_waiting(frame, self.engine.pictures.limit()));
        let made = (self.make)(index, result);
        let mut state = self.lock();
        state.most = state.most.min(most);
        state.results.push_back((index, made));
        let waker = state.waker.take();
        drop(state);
        self.change.notify_all();
        waker.into_iter().for_each(Waker::wake);
        let mut state = self.lock();
        if !patience.is_zero() {
            let is_full = |state: &mut State<T>| state.results.len() >= state.most && !self.is_cancelled();
            let waited = self.room.wait_timeout_while(state, patience, is_full);
            state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        state.results.len() < state.most && !self.is_cancelled()
    }

    /// Whether its frames are to stay in a GPU's memory.
    pub(crate) fn stay(&self) -> Stay {
        self.stay
    }

    /// So long a task has waited for bytes.
    pub(crate) fn fetched(&self, time: Duration) {
        self.clock.fetched.fetch_add(nanos(time), Relaxed);
    }

    /// True if nobody waits any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }

    /// A result if there is one; `None` in it at the end.
    fn take(&self, state: &mut State<T>) -> Option<Option<(u32, T)>> {
        let result = state.results.pop_front();
        if result.is_none() && state.tasks > 0 {
            return None;
        }
        Some(result)
    }

    /// Wakes up what rests, if there is room.
    fn resume(&self) {
        self.room.notify_all();
        let mut state = self.lock();
        if state.results.len() > state.most / 2 {
            return;
        }
        let tasks = std::mem::take(&mut state.resting);
        drop(state);
        tasks.into_iter().for_each(|(place, task)| self.engine.workers_at(place).submit(task, self.payer.account()));
    }
}

/// A task that is not finished.
struct Ticket<T> {
    request: Arc<Request<T>>,
    /// What it is expected to cost.
    cost_ns: u64,
    has_begun: bool,
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        let request = &*self.request;
        let took = if self.has_begun { workers::took() } else { Duration::ZERO };
        request.payer.account().settle(self.cost_ns, took);
        let mut state = request.lock();
        state.tasks -= 1;
        let waker = if state.tasks == 0 { state.waker.take() } else { None };
        drop(state);
        request.change.notify_all();
        waker.into_iter().for_each(Waker::wake);
    }
}

/// Frames that were asked for together, or what was made of them, as they come: each once, GOP by GOP, in decode order.
/// Both an [`Iterator`] that waits and a [`Stream`] for any runtime; dropping it ends the work.
pub struct Frames<T = Result<VideoFrame>> {
    request: Arc<Request<T>>,
}

impl<T> std::fmt::Debug for Frames<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Frames").finish_non_exhaustive()
    }
}

impl<T> Frames<T> {
    pub(crate) fn of(request: Arc<Request<T>>) -> Frames<T> {
        Frames { request }
    }

    /// Where the time has gone so far.
    pub fn spent(&self) -> Spent {
        self.request.clock.spent()
    }
}

impl<T> Iterator for Frames<T> {
    type Item = (u32, T);

    fn next(&mut self) -> Option<Self::Item> {
        let mut state = self.request.lock();
        let result = loop {
            match self.request.take(&mut state) {
                Some(result) => break result,
                None => state = self.request.change.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner()),
            }
        };
        drop(state);
        self.request.resume();
        result
    }
}

impl<T> Stream for Frames<T> {
    type Item = (u32, T);

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.request.lock();
        match self.request.take(&mut state) {
            Some(result) => {
                drop(state);
                self.request.resume();
                Poll::Ready(result)
            }
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Frames<T> {
    fn drop(&mut self) {
        self.request.cancelled.store(true, Relaxed);
        self.request.room.notify_all();
        let resting = std::mem::take(&mut self.request.lock().resting);
        drop(resting);
        self.request.engine.pictures.forget_cancelled();
    }
}

/// One frame that is on its way: a future for any runtime.
#[derive(Debug)]
pub struct FrameFuture {
    frames: Frames,
    index: u32,
}

impl FrameFuture {
    pub(crate) fn of(frames: Frames, index: u32) -> FrameFuture {
        FrameFuture { frames, index }
    }
}

/// What is said of a frame that got no answer; it takes a bug.
pub fn unanswered(index: u32) -> Error {
    Error::from(ErrorKind::NotShown).at_frame(index)
}

impl std::future::Future for FrameFuture {
    type Output = Result<VideoFrame>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let index = self.index;
        let next = Pin::new(&mut self.frames).poll_next(context);
        next.map(|next| next.map_or_else(|| Err(unanswered(index)), |(_, result)| result))
    }
}

/// Frames in the order in which they were asked for, duplicates too. They are asked for in portions, so that no more than
/// a portion has to wait for its turn.
#[derive(Debug)]
pub struct InOrder<'a> {
    video: &'a Video,
    indices: Vec<u32>,
    next: usize,
    until: usize,
    frames: Option<Frames>,
    waiting: HashMap<u32, Result<VideoFrame>>,
}

/// Frames of a portion.
const PORTION: usize = 64;

impl<'a> InOrder<'a> {
    pub(crate) fn of(video: &'a Video, indices: Vec<u32>) -> InOrder<'a> {
        InOrder { video, indices, next: 0, until: 0, frames: None, waiting: HashMap::new() }
    }

    /// The result for a frame. One that is asked for again in the portion stays, and an error is made anew by asking.
    fn hand_out(&mut self, index: u32, result: Result<VideoFrame>) -> Result<VideoFrame> {
        if let Ok(frame) = &result
            && self.indices[self.next..self.until].contains(&index)
        {
            self.waiting.insert(index, Ok(frame.clone()));
        }
        result
    }
}

impl Iterator for InOrder<'_> {
    type Item = Result<VideoFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = *self.indices.get(self.next)?;
        if self.next == self.until {
            self.until = (self.next + PORTION).min(self.indices.len());
            self.waiting.clear();
            self.frames = Some(self.video.frames(&self.indices[self.next..self.until]));
        }
        self.next += 1;
        loop {
            if let Some(result) = self.waiting.remove(&index) {
                return Some(self.hand_out(index, result));
            }
            match self.frames.as_mut().and_then(Iterator::next) {
                Some((other, result)) => _ = self.waiting.insert(other, result),
                // Asked for twice, and an error the first time.
                None => return Some(self.video.frame(index)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Frames, Payer, Place, Request};
    use crate::Engine;

    #[test]
    fn a_task_that_rests_when_the_reader_has_gone_keeps_nothing_alive() {
        let request =
            Request::new(Arc::clone(&Engine::new(Some(1)).shared), Box::new(|_, result| result), Payer::default());
        let alive = Arc::downgrade(&request);
        drop(Frames::of(Arc::clone(&request)));
        request.rest(Place::Processor, 1, |_| ());
        drop(request);
        assert!(alive.upgrade().is_none());
    }
}
