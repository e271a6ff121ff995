//! The queue of results between the tasks of a request and its reader.
//!
//! A request is a set of tasks of the worker pool. Results wait in a short queue; a task that finds it full ends and is
//! submitted again when there is room, so no worker waits for a reader. Dropping the reader cancels the request. The
//! work of the tasks is left to [`attempt`](super::attempt), which sees a [`Reader`].

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

/// Decoded frames that wait for their reader; beyond that the tasks pause.
const WAITING_FRAMES: usize = 8;
/// The bytes of these frames, if there is more than one.
const WAITING_BYTES: u64 = 128 << 20;

struct Queue<T> {
    results: VecDeque<(u32, T)>,
    /// The largest number of waiting results: [`WAITING_FRAMES`], or fewer large ones.
    most: usize,
    /// Tasks that are queued or running.
    tasks: usize,
    /// Tasks that pause until there is room.
    resting: Vec<(Arc<dyn DecodeDevice>, Task)>,
    waker: Option<Waker>,
}

/// Makes the result of a frame, on the worker that has decoded it.
type Make<T> = Box<dyn Fn(u32, Result<DecodedFrame>) -> T + Send + Sync>;

/// The work of a task, with a decoder of this many threads.
pub(crate) type Run = Box<dyn FnOnce(usize) + Send>;

/// Calls its argument when a task may begin.
pub(crate) type When<'a> = Box<dyn FnOnce(Box<dyn FnOnce() + Send>) + 'a>;

/// The state that workers and reader share.
pub(crate) struct Request<T> {
    /// The picture budget: it bounds the pictures that wait for the reader, too.
    pictures: Arc<Budget>,
    /// The engine's process.
    owner: Owner,
    make: Make<T>,
    queue: Mutex<Queue<T>>,
    change: Condvar,
    /// A result was taken, or the reader was dropped.
    room: Condvar,
    cancelled: AtomicBool,
    clock: Clock,
    payer: Payer,
    residency: Residency,
}

/// The account that the tasks of a request are charged to, and their price.
#[derive(Debug, Default)]
pub(crate) struct Payer {
    pub(crate) account: Charged,
    /// The estimated cost of one picture, in nanoseconds.
    pub(crate) picture_ns: u64,
}

/// The owner of the account.
#[derive(Debug)]
pub(crate) enum Charged {
    /// The request has its own account.
    Own(Account),
    /// A client's account, which its requests share.
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

/// Measures the phases of a request.
struct Clock {
    made: Instant,
    /// Nanoseconds from then until the first task began; 0 before that.
    begun: AtomicU64,
    /// Nanoseconds that tasks have waited for bytes.
    fetched: AtomicU64,
}

/// The time that a request has taken so far, by phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Until a worker began the first task, without the time in which that waited for bytes.
    pub queue: Duration,
    /// Waiting for bytes; of a request for several GOPs, the sum over its tasks.
    pub fetch: Duration,
    /// Since the request was made.
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

/// The number of frames of this size that may wait.
fn most_waiting(frame: &DecodedFrame, budget: u64) -> usize {
    let most = WAITING_BYTES.min(budget / 8) / (frame.host_bytes() as u64).max(1);
    usize::try_from(most).unwrap_or(WAITING_FRAMES).clamp(1, WAITING_FRAMES)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The request, as its tasks see it.
pub(crate) trait Reader: Send + Sync {
    /// Gives a result to the reader. False if the task should pause now; before that it waits up to `patience` for the
    /// reader to make room.
    fn give(&self, index: u32, result: Result<DecodedFrame>, patience: Duration) -> bool;

    /// True if the reader was dropped.
    fn is_cancelled(&self) -> bool;

    /// Records time that a task spent waiting for bytes.
    fn fetched(&self, time: Duration);

    /// The memory in which the frames are wanted.
    fn residency(&self) -> Residency;

    /// Submits a new task of about `pictures` pictures.
    fn submit(self: Arc<Self>, device: &Arc<dyn DecodeDevice>, pictures: u64, run: Run);

    /// As `submit`, once `when` calls its argument.
    fn submit_when(self: Arc<Self>, device: &Arc<dyn DecodeDevice>, pictures: u64, run: Run, when: When<'_>);

    /// Pauses a task until there is room for its results.
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
            // The task holds the request: without it the task has been dropped.
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
            // The reader alone takes paused tasks out, and each holds the request: this one is dropped, after the lock.
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
    /// A request whose results `make` makes, of frames in the memory that `residency` names.
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

    /// A task with a ticket, which counts it as finished however it ends, run or dropped.
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

    /// The next result; `Some(None)` at the end, `None` if the reader has to wait.
    fn take(&self, queue: &mut Queue<T>) -> Option<Option<(u32, T)>> {
        let result = queue.results.pop_front();
        if result.is_none() && queue.tasks > 0 {
            return None;
        }
        Some(result)
    }

    /// Submits the paused tasks, if the queue is at most half full.
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

/// Counts a task as unfinished until it is dropped.
struct Ticket<T> {
    request: Arc<Request<T>>,
    /// The expected cost of the task.
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

/// The results of one request as they are decoded: each frame once, GOP by GOP, in decode order. It is a blocking
/// [`Iterator`] and a [`Stream`] for any runtime; dropping it cancels the work.
pub struct Frames<T = Result<VideoFrame>> {
    request: Owned<Request<T>>,
    /// The frames that have not come yet: in a child after `fork` each is an error, since no worker exists there.
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

    /// The error of the next missing frame in a child after `fork`.
    fn refuse(&mut self) -> Option<(u32, T)> {
        let index = self.missing.pop_first()?;
        Some((index, (self.request.make)(index, Err(Error::from(ErrorKind::Forked).at_frame(index)))))
    }

    fn came(&mut self, result: &Option<(u32, T)>) {
        if let Some((index, _)) = result {
            self.missing.remove(index);
        }
    }

    /// The time that the request has taken so far.
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
        // With the lock: a task that has checked the flag before is waiting for room by the time it is woken.
        self.request.cancelled.store(true, Relaxed);
        let resting = std::mem::take(&mut queue.resting);
        drop(queue);
        self.request.room.notify_all();
        drop(resting);
        self.request.pictures.forget_cancelled();
    }
}

/// One frame that is being decoded: a future for any runtime.
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

/// The error of a frame without an answer; only a bug leads to it.
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
