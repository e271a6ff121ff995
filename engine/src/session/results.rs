//! The queue of results between the tasks of a request and the caller that receives them.
//!
//! A request is a set of tasks of the worker pool. Results wait in a short queue; a task that finds it full ends, and
//! is submitted again when there is room, so that no worker waits for a caller. Dropping [`Frames`] cancels the
//! request. The work of the tasks is left to [`attempt`](super::attempt), which delivers into a [`ResultSink`].

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
use crate::process::{Owner, ProcessBound};
use crate::session::frame::{DecodedFrame, VideoFrame};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use crate::sync::{Condvar, Instant, Mutex, MutexGuard};

/// Decoded frames that wait for the caller; beyond that the tasks pause.
const WAITING_FRAMES: usize = 8;
/// The bytes of these frames, if there is more than one.
const WAITING_BYTES: u64 = 128 << 20;

struct ResultQueue<T> {
    results: VecDeque<(u32, T)>,
    /// The largest number of waiting results: [`WAITING_FRAMES`], or fewer large ones.
    capacity: usize,
    /// Tasks that are queued or running.
    tasks: usize,
    /// Tasks that pause until there is room.
    paused: Vec<(Arc<dyn DecodeDevice>, Task)>,
    waker: Option<Waker>,
}

/// Makes the result of a frame, on the worker that has decoded the frame.
type MakeResult<T> = Box<dyn Fn(u32, Result<DecodedFrame>) -> T + Send + Sync>;

/// The work of a task, with a decoder of this many threads.
pub(crate) type TaskFn = Box<dyn FnOnce(usize) + Send>;

/// Decides when a task may begin: it calls its argument then.
pub(crate) type StartCondition<'a> = Box<dyn FnOnce(Box<dyn FnOnce() + Send>) + 'a>;

/// The state that workers and [`Frames`] share.
pub(crate) struct FrameRequest<T> {
    /// The picture budget: it bounds the pictures that wait in the queue, too.
    pictures: Arc<Budget>,
    /// The engine's process.
    owner: Owner,
    make: MakeResult<T>,
    queue: Mutex<ResultQueue<T>>,
    change: Condvar,
    /// A result was taken, or [`Frames`] was dropped.
    room: Condvar,
    cancelled: AtomicBool,
    clock: RequestClock,
    billing: Billing,
    residency: Residency,
}

/// The account that the tasks of a request are charged to, and the price of a picture.
#[derive(Debug, Default)]
pub(crate) struct Billing {
    pub(crate) account: RequestAccount,
    /// The estimated cost of one picture, in nanoseconds.
    pub(crate) picture_ns: u64,
}

/// The account of a request.
#[derive(Debug)]
pub(crate) enum RequestAccount {
    /// The request has its own account.
    Own(Account),
    /// A client's account, which its requests share.
    Client(Arc<Account>),
}

impl Default for RequestAccount {
    fn default() -> RequestAccount {
        RequestAccount::Own(Account::default())
    }
}

impl Billing {
    fn account(&self) -> &Account {
        match &self.account {
            RequestAccount::Own(account) => account,
            RequestAccount::Client(account) => account,
        }
    }
}

/// Measures the phases of a request.
struct RequestClock {
    created: Instant,
    /// Nanoseconds from then until the first task began; 0 before that.
    started_ns: AtomicU64,
    /// Nanoseconds that tasks have waited for bytes.
    fetched_ns: AtomicU64,
}

/// The time that a request has taken so far, by phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestTiming {
    /// Until a worker began the first task, without the time in which the task waited for bytes.
    pub queue: Duration,
    /// Waiting for bytes; of a request for several GOPs, the sum over its tasks.
    pub fetch: Duration,
    /// Since the request was submitted.
    pub total: Duration,
}

impl RequestClock {
    fn record_start(&self) {
        let now = nanos(self.created.elapsed()).max(1);
        let _ = self.started_ns.compare_exchange(0, now, Relaxed, Relaxed);
    }

    fn timing(&self) -> RequestTiming {
        let total = self.created.elapsed();
        let fetch = Duration::from_nanos(self.fetched_ns.load(Relaxed));
        let begun = match self.started_ns.load(Relaxed) {
            0 => total,
            begun => Duration::from_nanos(begun),
        };
        RequestTiming { queue: begun.saturating_sub(fetch), fetch, total }
    }
}

/// The number of frames of this size that may wait in the queue.
fn most_waiting(frame: &DecodedFrame, budget: u64) -> usize {
    let most = WAITING_BYTES.min(budget / 8) / (frame.host_bytes() as u64).max(1);
    usize::try_from(most).unwrap_or(WAITING_FRAMES).clamp(1, WAITING_FRAMES)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A request from the side of its tasks: it takes their results and their further tasks.
pub(crate) trait ResultSink: Send + Sync {
    /// Adds a result to the queue. If the queue is full, waits up to `timeout` for room. False if the task should pause
    /// now.
    fn deliver(&self, index: u32, result: Result<DecodedFrame>, timeout: Duration) -> bool;

    /// True if [`Frames`] was dropped.
    fn is_cancelled(&self) -> bool;

    /// Records time that a task spent waiting for bytes.
    fn add_fetch_time(&self, time: Duration);

    /// The memory in which the frames are requested.
    fn residency(&self) -> Residency;

    /// Submits a new task of about `pictures` pictures.
    fn submit(self: Arc<Self>, device: &Arc<dyn DecodeDevice>, pictures: u64, run: TaskFn);

    /// As `submit`, once `when` calls its argument.
    fn submit_when(
        self: Arc<Self>,
        device: &Arc<dyn DecodeDevice>,
        pictures: u64,
        run: TaskFn,
        when: StartCondition<'_>,
    );

    /// Pauses a task until there is room for its results.
    fn pause(self: Arc<Self>, device: &Arc<dyn DecodeDevice>, pictures: u64, run: TaskFn);
}

impl<T: Send + 'static> ResultSink for FrameRequest<T> {
    fn deliver(&self, index: u32, result: Result<DecodedFrame>, timeout: Duration) -> bool {
        let most = result.as_ref().map_or(WAITING_FRAMES, |frame| most_waiting(frame, self.pictures.limit()));
        let value = (self.make)(index, result);
        let mut queue = self.lock();
        queue.capacity = queue.capacity.min(most);
        queue.results.push_back((index, value));
        let waker = queue.waker.take();
        drop(queue);
        self.change.notify_all();
        waker.into_iter().for_each(Waker::wake);
        let mut queue = self.lock();
        if !timeout.is_zero() {
            let is_full = |queue: &mut ResultQueue<T>| queue.results.len() >= queue.capacity && !self.is_cancelled();
            let waited = self.room.wait_timeout_while(queue, timeout, is_full);
            queue = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        queue.results.len() < queue.capacity && !self.is_cancelled()
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }

    fn add_fetch_time(&self, time: Duration) {
        self.clock.fetched_ns.fetch_add(nanos(time), Relaxed);
    }

    fn residency(&self) -> Residency {
        self.residency
    }

    fn submit(self: Arc<Self>, device: &Arc<dyn DecodeDevice>, pictures: u64, run: TaskFn) {
        self.lock().tasks += 1;
        device.workers().submit(self.task(pictures, run), self.billing.account());
    }

    fn submit_when(
        self: Arc<Self>,
        device: &Arc<dyn DecodeDevice>,
        pictures: u64,
        run: TaskFn,
        when: StartCondition<'_>,
    ) {
        self.lock().tasks += 1;
        let task = self.task(pictures, run);
        let (request, device, since) = (Arc::downgrade(&self), Arc::clone(device), Instant::now());
        when(Box::new(move || {
            // The task holds the request: without it the task has been dropped.
            let Some(request) = request.upgrade() else { return };
            request.add_fetch_time(since.elapsed());
            device.workers().submit(task, request.billing.account());
        }));
    }

    fn pause(self: Arc<Self>, device: &Arc<dyn DecodeDevice>, pictures: u64, run: TaskFn) {
        let task = Task { resume_ns: Some(workers::current_position()), ..self.task(pictures, run) };
        let mut queue = self.lock();
        queue.tasks += 1;
        if self.is_cancelled() {
            // Only the caller takes paused tasks out, and each task holds the request: this one is dropped after the
            // lock is released.
            drop(queue);
        } else if queue.results.len() < queue.capacity {
            drop(queue);
            device.workers().submit(task, self.billing.account());
        } else {
            queue.paused.push((Arc::clone(device), task));
        }
    }
}

impl<T: Send + 'static> FrameRequest<T> {
    /// A request whose results `make` makes, of frames in the memory that `residency` names.
    pub(crate) fn new(
        (pictures, owner): (Arc<Budget>, Owner),
        make: MakeResult<T>,
        payer: Billing,
        residency: Residency,
    ) -> Arc<FrameRequest<T>> {
        let queue = ResultQueue {
            results: VecDeque::new(),
            capacity: WAITING_FRAMES,
            tasks: 0,
            paused: Vec::new(),
            waker: None,
        };
        let (queue, change, room) = (Mutex::new(queue), Condvar::new(), Condvar::new());
        let clock =
            RequestClock { created: Instant::now(), started_ns: AtomicU64::new(0), fetched_ns: AtomicU64::new(0) };
        let cancelled = AtomicBool::new(false);
        Arc::new(FrameRequest {
            pictures,
            owner,
            make,
            queue,
            change,
            room,
            cancelled,
            clock,
            billing: payer,
            residency,
        })
    }

    /// A task with a guard, which counts it as finished however it ends, run or dropped.
    fn task(self: &Arc<FrameRequest<T>>, pictures: u64, run: TaskFn) -> Task {
        let cost_ns = pictures.saturating_mul(self.billing.picture_ns);
        let guard = TaskGuard { request: Arc::clone(self), cost_ns, has_begun: false };
        let run = move |width| {
            let mut guard = guard;
            guard.has_begun = true;
            if !guard.request.is_cancelled() {
                guard.request.clock.record_start();
                run(width);
            }
        };
        Task { pictures, cost_ns, resume_ns: None, run: Box::new(run) }
    }
}

impl<T> FrameRequest<T> {
    fn lock(&self) -> MutexGuard<'_, ResultQueue<T>> {
        self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The next result; `Some(None)` at the end, `None` if the caller has to wait.
    fn take(&self, queue: &mut ResultQueue<T>) -> Option<Option<(u32, T)>> {
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
        if queue.results.len() > queue.capacity / 2 {
            return;
        }
        let tasks = std::mem::take(&mut queue.paused);
        drop(queue);
        tasks.into_iter().for_each(|(device, task)| device.workers().submit(task, self.billing.account()));
    }
}

/// Counts a task as unfinished until it is dropped.
struct TaskGuard<T> {
    request: Arc<FrameRequest<T>>,
    /// The expected cost of the task.
    cost_ns: u64,
    has_begun: bool,
}

impl<T> Drop for TaskGuard<T> {
    fn drop(&mut self) {
        let request = &*self.request;
        let took = if self.has_begun { workers::current_cost() } else { Duration::ZERO };
        request.billing.account().settle(self.cost_ns, took);
        let mut queue = request.lock();
        queue.tasks -= 1;
        let waker = if queue.tasks == 0 { queue.waker.take() } else { None };
        drop(queue);
        request.change.notify_all();
        waker.into_iter().for_each(Waker::wake);
    }
}

/// The results of one request in the order of decoding: each frame once, GOP by GOP. It is a blocking [`Iterator`] and
/// a [`Stream`] for any runtime; dropping it cancels the work. In a child process after `fork` the remaining results
/// are errors.
pub struct Frames<T = Result<VideoFrame>> {
    request: ProcessBound<FrameRequest<T>>,
    /// The frames without a result so far: in a child after `fork` each is an error, since no worker exists there.
    missing: BTreeSet<u32>,
}

impl<T> std::fmt::Debug for Frames<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Frames").finish_non_exhaustive()
    }
}

impl<T> Frames<T> {
    /// The results of a request for the frames `missing`.
    pub(crate) fn of(request: Arc<FrameRequest<T>>, missing: BTreeSet<u32>) -> Frames<T> {
        let owner = request.owner;
        Frames { request: ProcessBound::of(request, owner), missing }
    }

    /// The error of the next missing frame in a child after `fork`.
    fn next_forked(&mut self) -> Option<(u32, T)> {
        let index = self.missing.pop_first()?;
        Some((index, (self.request.make)(index, Err(Error::from(ErrorKind::Forked).at_frame(index)))))
    }

    fn mark_received(&mut self, result: &Option<(u32, T)>) {
        if let Some((index, _)) = result {
            self.missing.remove(index);
        }
    }

    /// The time that the request has taken so far, by phase.
    pub fn timing(&self) -> RequestTiming {
        self.request.clock.timing()
    }
}

impl<T> Iterator for Frames<T> {
    type Item = (u32, T);

    fn next(&mut self) -> Option<Self::Item> {
        if !self.request.is_current() {
            return self.next_forked();
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
        self.mark_received(&result);
        result
    }
}

impl<T> Stream for Frames<T> {
    type Item = (u32, T);

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.request.is_current() {
            return Poll::Ready(self.get_mut().next_forked());
        }
        let mut queue = self.request.lock();
        match self.request.take(&mut queue) {
            Some(result) => {
                drop(queue);
                self.request.resume();
                self.get_mut().mark_received(&result);
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
        if !self.request.is_current() {
            return;
        }
        let mut queue = self.request.lock();
        // With the lock: a task that has checked the flag before is waiting for room by the time of the wakeup.
        self.request.cancelled.store(true, Relaxed);
        let resting = std::mem::take(&mut queue.paused);
        drop(queue);
        self.request.room.notify_all();
        drop(resting);
        self.request.pictures.remove_cancelled();
    }
}

/// One frame that is being decoded: a future for any runtime. Dropping it cancels the work.
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
        if !self.frames.request.is_current() {
            return Poll::Ready(Err(Error::from(ErrorKind::Forked).at_frame(index)));
        }
        let next = Pin::new(&mut self.frames).poll_next(context);
        next.map(|next| next.map_or_else(|| Err(unanswered(index)), |(_, result)| result))
    }
}
