//! The queue of results between the tasks of a request and its reader.
//!
//! A request is a set of tasks of the worker pool. Results wait in a short queue; a task that finds it full ends and is submitted
//! again when there is room: no worker ever waits for a reader. Dropping the reader cancels. What the tasks do is left to others:
//! they see a [`Reader`].

#[cfg(all(test, shuttle))]
mod model;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;

use crate::decode::workers::{self, Account, Task};
use crate::device::{DecodeDevice, Residency};
use crate::error::{Error, ErrorKind, Result};
use crate::picture_memory::Budget;
use crate::process::{Owned, Owner};
use crate::session::frame::{DecodedFrame, VideoFrame};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use crate::sync::{Condvar, Instant, Mutex, MutexGuard};

/// Decoded frames that wait for their reader; past that their tasks rest.
const WAITING_FRAMES: usize = 8;
/// What they may take, if there are several.
const WAITING_BYTES: u64 = 128 << 20;

struct Queue<T> {
    results: VecDeque<(u32, T)>,
    /// How many may wait: [`WAITING_FRAMES`], or fewer large ones.
    most: usize,
    /// Tasks that are in the workers' queue or at work.
    tasks: usize,
    /// Tasks that rest until there is room.
    resting: Vec<(Arc<dyn DecodeDevice>, Task)>,
    waker: Option<Waker>,
}

/// What is made of each frame, by the worker that has decoded it.
type Make<T> = Box<dyn Fn(u32, Result<DecodedFrame>) -> T + Send + Sync>;

/// What a task does, with so many threads.
pub(crate) type Run = Box<dyn FnOnce(usize) + Send>;

/// Calls what it is given when a task may begin.
pub(crate) type When<'a> = Box<dyn FnOnce(Box<dyn FnOnce() + Send>) + 'a>;

/// What workers and reader share.
pub(crate) struct Request<T> {
    /// What bounds the pictures that are not read yet, too.
    pictures: Arc<Budget>,
    /// The engine's.
    owner: Owner,
    make: Make<T>,
    queue: Mutex<Queue<T>>,
    change: Condvar,
    /// A result was taken, or the reader has gone.
    room: Condvar,
    cancelled: AtomicBool,
    clock: Clock,
    payer: Payer,
    residency: Residency,
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
fn most_waiting(frame: &DecodedFrame, budget: u64) -> usize {
    let most = WAITING_BYTES.min(budget / 8) / (frame.host_bytes() as u64).max(1);
    usize::try_from(most).unwrap_or(WAITING_FRAMES).clamp(1, WAITING_FRAMES)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What tasks see of the request that they belong to.
pub(crate) trait Reader: Send + Sync {
    /// Gives a result to the reader. False if it should be the last one for now; before that, the reader gets `patience`
    /// to make room.
    fn give(&self, index: u32, result: Result<DecodedFrame>, patience: Duration) -> bool;

    /// True if nothing waits for results any more.
    fn is_cancelled(&self) -> bool;

    /// A task has waited so long for bytes.
    fn fetched(&self, time: Duration);

    /// Where its frames should be.
    fn residency(&self) -> Residency;

    /// Submits a task of about so many pictures that was not there before.
    fn submit(self: Arc<Self>, device: &Arc<dyn DecodeDevice>, pictures: u64, run: Run);

    /// Submits a task when `when` calls what it is given.
    fn submit_when(self: Arc<Self>, device: &Arc<dyn DecodeDevice>, pictures: u64, run: Run, when: When<'_>);

    /// Puts a task off until there is room for its results.
    fn rest(self: Arc<Self>, device: &Arc<dyn DecodeDevice>, pictures: u64, run: Run);
}

impl<T: Send + 'static> Reader for Request<T> {
    fn give(&self, index: u32, result: Result<DecodedFrame>, patience: Duration) -> bool {
        let most = result.as_ref().map_or(WAITING_FRAMES, |frame| most_waiting(frame, self.pictures.limit()));
        let made = (self.make)(index, result);
        let mut queue = self.lock();
        queue.most = queue.most.min(most);
        queue.results.push_back((index, made));
        let waker = queue.waker.take();
        drop(queue);
        self.change.notify_all();
        waker.into_iter().for_each(Waker::wake);
        let mut queue = self.lock();
        if !patience.is_zero() {
            let is_full = |queue: &mut Queue<T>| queue.results.len() >= queue.most && !self.is_cancelled();
            let waited = self.room.wait_timeout_while(queue, patience, is_full);
            queue = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        queue.results.len() < queue.most && !self.is_cancelled()
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }

    fn fetched(&self, time: Duration) {
        self.clock.fetched.fetch_add(nanos(time), Relaxed);
    }

    fn residency(&self) -> Residency {
        self.residency
    }

    fn submit(self: Arc<Self>, device: &Arc<dyn DecodeDevice>, pictures: u64, run: Run) {
        self.lock().tasks += 1;
        device.workers().submit(self.task(pictures, run), self.payer.account());
    }

    fn submit_when(self: Arc<Self>, device: &Arc<dyn DecodeDevice>, pictures: u64, run: Run, when: When<'_>) {
        self.lock().tasks += 1;
        let task = self.task(pictures, run);
        let (request, device, since) = (Arc::downgrade(&self), Arc::clone(device), Instant::now());
        when(Box::new(move || {
            // The task holds it.
            let Some(request) = request.upgrade() else { return };
            request.fetched(since.elapsed());
            device.workers().submit(task, request.payer.account());
        }));
    }

    fn rest(self: Arc<Self>, device: &Arc<dyn DecodeDevice>, pictures: u64, run: Run) {
        let task = Task { goes_on: Some(workers::position()), ..self.task(pictures, run) };
        let mut queue = self.lock();
        queue.tasks += 1;
        if self.is_cancelled() {
            // What rests is taken out by the reader alone, and the task holds the request: it goes, after the lock.
            drop(queue);
        } else if queue.results.len() < queue.most {
            drop(queue);
            device.workers().submit(task, self.payer.account());
        } else {
            queue.resting.push((Arc::clone(device), task));
        }
    }
}

impl<T: Send + 'static> Request<T> {
    /// A request whose results `make` makes. Its frames should be where `residency` says.
    pub(crate) fn new(
        (pictures, owner): (Arc<Budget>, Owner),
        make: Make<T>,
        payer: Payer,
        residency: Residency,
    ) -> Arc<Request<T>> {
        let queue =
            Queue { results: VecDeque::new(), most: WAITING_FRAMES, tasks: 0, resting: Vec::new(), waker: None };
        let (queue, change, room) = (Mutex::new(queue), Condvar::new(), Condvar::new());
        let clock = Clock { made: Instant::now(), begun: AtomicU64::new(0), fetched: AtomicU64::new(0) };
        let cancelled = AtomicBool::new(false);
        Arc::new(Request { pictures, owner, make, queue, change, room, cancelled, clock, payer, residency })
    }

    /// However the task ends, run or dropped, the reader learns of it.
    fn task(self: &Arc<Request<T>>, pictures: u64, run: Run) -> Task {
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
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A result if there is one; `None` in it at the end.
    fn take(&self, queue: &mut Queue<T>) -> Option<Option<(u32, T)>> {
        let result = queue.results.pop_front();
        if result.is_none() && queue.tasks > 0 {
            return None;
        }
        Some(result)
    }

    /// Wakes up what rests, if there is room.
    fn resume(&self) {
        self.room.notify_all();
        let mut queue = self.lock();
        if queue.results.len() > queue.most / 2 {
            return;
        }
        let tasks = std::mem::take(&mut queue.resting);
        drop(queue);
        tasks.into_iter().for_each(|(device, task)| device.workers().submit(task, self.payer.account()));
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
        let mut queue = request.lock();
        queue.tasks -= 1;
        let waker = if queue.tasks == 0 { queue.waker.take() } else { None };
        drop(queue);
        request.change.notify_all();
        waker.into_iter().for_each(Waker::wake);
    }
}

/// Frames that were asked for together, or what was made of them, as they come: each once, GOP by GOP, in decode order.
/// Both an [`Iterator`] that waits and a [`Stream`] for any runtime; dropping it ends the work.
pub struct Frames<T = Result<VideoFrame>> {
    request: Owned<Request<T>>,
    /// What has not come yet: a reader in a child after `fork` is refused it, since no worker is there to bring it.
    missing: BTreeSet<u32>,
}

impl<T> std::fmt::Debug for Frames<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Frames").finish_non_exhaustive()
    }
}

impl<T> Frames<T> {
    /// The results of a request for the frames `missing`.
    pub(crate) fn of(request: Arc<Request<T>>, missing: BTreeSet<u32>) -> Frames<T> {
        let owner = request.owner;
        Frames { request: Owned::of(request, owner), missing }
    }

    /// In a child after `fork`.
    fn refuse(&mut self) -> Option<(u32, T)> {
        let index = self.missing.pop_first()?;
        Some((index, (self.request.make)(index, Err(Error::from(ErrorKind::Forked).at_frame(index)))))
    }

    fn came(&mut self, result: &Option<(u32, T)>) {
        if let Some((index, _)) = result {
            self.missing.remove(index);
        }
    }

    /// Where the time has gone so far.
    pub fn spent(&self) -> Spent {
        self.request.clock.spent()
    }
}

impl<T> Iterator for Frames<T> {
    type Item = (u32, T);

    fn next(&mut self) -> Option<Self::Item> {
        if !self.request.is_here() {
            return self.refuse();
        }
        let mut queue = self.request.lock();
        let result = loop {
            match self.request.take(&mut queue) {
                Some(result) => break result,
                None => queue = self.request.change.wait(queue).unwrap_or_else(|poisoned| poisoned.into_inner()),
            }
        };
        drop(queue);
        self.request.resume();
        self.came(&result);
        result
    }
}

impl<T> Stream for Frames<T> {
    type Item = (u32, T);

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.request.is_here() {
            return Poll::Ready(self.get_mut().refuse());
        }
        let mut queue = self.request.lock();
        match self.request.take(&mut queue) {
            Some(result) => {
                drop(queue);
                self.request.resume();
                self.get_mut().came(&result);
                Poll::Ready(result)
            }
            None => {
                queue.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Frames<T> {
    fn drop(&mut self) {
        if !self.request.is_here() {
            return;
        }
        let mut queue = self.request.lock();
        // With the lock, so that no task begins to wait for room after it has looked and before it is woken.
        self.request.cancelled.store(true, Relaxed);
        let resting = std::mem::take(&mut queue.resting);
        drop(queue);
        self.request.room.notify_all();
        drop(resting);
        self.request.pictures.forget_cancelled();
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
        if !self.frames.request.is_here() {
            return Poll::Ready(Err(Error::from(ErrorKind::Forked).at_frame(index)));
        }
        let next = Pin::new(&mut self.frames).poll_next(context);
        next.map(|next| next.map_or_else(|| Err(unanswered(index)), |(_, result)| result))
    }
}
