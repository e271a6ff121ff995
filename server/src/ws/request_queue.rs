//! The request queue of a WebSocket: items and commands in the order of their responses. Every item gets one response.

use std::collections::VecDeque;
use std::sync::PoisonError;

use tokio::sync::Notify;

use super::protocol::{FrameErrorCode, QueueItem, RequestOrder};
use crate::locks::{Mutex, MutexGuard};
use bucket_streamer::OnDamage;
use bucket_streamer::pixels::Shape;

/// Number of items from which on no further requests are appended to a batch.
const JOINED: usize = 1024;

/// The items of one message, and their common options.
#[derive(Debug)]
pub(super) struct SocketRequest {
    pub(super) items: VecDeque<QueueItem>,
    pub(super) order: RequestOrder,
    pub(super) shape: Shape,
    pub(super) quality: u8,
    pub(super) on_damage: OnDamage,
}

#[derive(Debug)]
enum QueueStep {
    SetVideo(String),
    Frames(SocketRequest),
}

/// The next task of the session.
#[derive(Debug)]
pub(super) enum SessionTask {
    /// An item that gets an error instead of a picture.
    Refuse(QueueItem, FrameErrorCode),
    SetVideo(String),
    /// Items with common options.
    Batch(ItemBatch),
    /// The error of an invalid message.
    Error(String),
    /// The queue is empty, and closed.
    End,
}

/// Items in progress, and the counts of cancellations and of requests with the order `latest` when they were taken.
#[derive(Debug)]
pub(super) struct ItemBatch {
    pub(super) request: SocketRequest,
    cancel_count: u64,
    latest_count: u64,
}

/// The request queue; see the module.
#[derive(Debug, Default)]
pub(super) struct RequestQueue {
    state: Mutex<RequestQueueState>,
    /// There is a task for the session.
    work_ready: Notify,
    /// An item was answered, or a task was taken.
    progress: Notify,
    /// The items in progress may be cancelled or superseded.
    interrupted: Notify,
}

#[derive(Debug, Default)]
struct RequestQueueState {
    steps: VecDeque<QueueStep>,
    refused: VecDeque<(QueueItem, FrameErrorCode)>,
    errors: VecDeque<String>,
    outstanding: usize,
    cancel_count: u64,
    latest_count: u64,
    is_closed: bool,
}

impl RequestQueueState {
    /// Refuses the items of queued requests for which `is_affected` holds.
    fn refuse(&mut self, code: FrameErrorCode, is_affected: impl Fn(&SocketRequest) -> bool) {
        let RequestQueueState { steps, refused, .. } = self;
        for step in steps.iter_mut() {
            if let QueueStep::Frames(request) = step
                && is_affected(request)
            {
                refused.extend(request.items.drain(..).map(|item| (item, code)));
            }
        }
        steps.retain(|step| !matches!(step, QueueStep::Frames(request) if request.items.is_empty()));
    }

    /// The size of the queue, including items in progress and errors.
    fn size(&self) -> usize {
        self.outstanding + self.steps.len() + self.errors.len()
    }

    fn is_latest(step: &QueueStep) -> bool {
        matches!(step, QueueStep::Frames(request) if request.order == RequestOrder::Latest)
    }

    /// Appends the next requests to a request, if they have the same options: many clients send one frame per message,
    /// and frames share decoding only within a batch.
    fn join(&mut self, request: &mut SocketRequest) {
        while request.items.len() < JOINED
            && let Some(QueueStep::Frames(next)) = self.steps.front_mut()
            && (request.order, next.order) == (RequestOrder::Fifo, RequestOrder::Fifo)
            && (next.shape, next.quality, next.on_damage) == (request.shape, request.quality, request.on_damage)
        {
            request.items.append(&mut next.items);
            self.steps.pop_front();
        }
    }

    fn after_last_video(&self) -> usize {
        let last = self.steps.iter().rposition(|step| matches!(step, QueueStep::SetVideo(_)));
        last.map_or(0, |last| last + 1)
    }
}

impl RequestQueue {
    fn lock(&self) -> MutexGuard<'_, RequestQueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut RequestQueueState)) {
        change(&mut self.lock());
        self.work_ready.notify_one();
    }

    pub(super) fn set_video(&self, path: String) {
        self.change(|state| state.steps.push_back(QueueStep::SetVideo(path)));
    }

    pub(super) fn push_error(&self, message: String) {
        self.change(|state| state.errors.push_back(message));
    }

    /// Adds a request. One with [`RequestOrder::Latest`] supersedes queued ones of this order and precedes all others,
    /// but not the `SetVideo` that it follows.
    pub(super) fn push(&self, request: SocketRequest) {
        self.change(|state| {
            state.outstanding += request.items.len();
            match request.order {
                RequestOrder::Fifo => state.steps.push_back(QueueStep::Frames(request)),
                RequestOrder::Latest => {
                    state.latest_count += 1;
                    state.refuse(FrameErrorCode::Superseded, |queued| queued.order == RequestOrder::Latest);
                    let position = state.after_last_video();
                    state.steps.insert(position, QueueStep::Frames(request));
                }
            }
        });
        self.interrupted.notify_waiters();
    }

    /// Cancels all items, queued and in progress.
    pub(super) fn cancel(&self) {
        self.change(|state| {
            state.cancel_count += 1;
            state.refuse(FrameErrorCode::Cancelled, |_| true);
        });
        self.interrupted.notify_waiters();
    }

    /// Closes the queue: after its last task, [`RequestQueue::next`] returns [`SessionTask::End`].
    pub(super) fn close(&self) {
        self.change(|state| state.is_closed = true);
    }

    /// Waits for the next task.
    pub(super) async fn next(&self) -> SessionTask {
        loop {
            if let Some(work) = self.try_next() {
                self.progress.notify_one();
                return work;
            }
            self.work_ready.notified().await;
        }
    }

    fn try_next(&self) -> Option<SessionTask> {
        let mut state = self.lock();
        if let Some(message) = state.errors.pop_front() {
            return Some(SessionTask::Error(message));
        }
        if let Some((item, code)) = state.refused.pop_front() {
            return Some(SessionTask::Refuse(item, code));
        }
        let (cancel_count, latest_count) = (state.cancel_count, state.latest_count);
        match state.steps.pop_front() {
            Some(QueueStep::SetVideo(path)) => Some(SessionTask::SetVideo(path)),
            Some(QueueStep::Frames(mut request)) => {
                state.join(&mut request);
                Some(SessionTask::Batch(ItemBatch { request, cancel_count, latest_count }))
            }
            None => state.is_closed.then_some(SessionTask::End),
        }
    }

    /// The error code for the rest of a batch that was cancelled or superseded, if it was.
    pub(super) fn stale_reason(&self, batch: &ItemBatch) -> Option<FrameErrorCode> {
        let state = self.lock();
        if state.cancel_count > batch.cancel_count {
            return Some(FrameErrorCode::Cancelled);
        }
        (batch.request.order == RequestOrder::Latest && state.latest_count > batch.latest_count)
            .then_some(FrameErrorCode::Superseded)
    }

    /// Waits until a batch is cancelled.
    pub(super) async fn cancelled(&self, batch: &ItemBatch) {
        loop {
            let interrupted = self.interrupted.notified();
            if self.stale_reason(batch) == Some(FrameErrorCode::Cancelled) {
                return;
            }
            interrupted.await;
        }
    }

    /// Whether a request with [`RequestOrder::Latest`] precedes the rest of a batch.
    pub(super) fn is_preempted(&self, batch: &ItemBatch) -> bool {
        batch.request.order == RequestOrder::Fifo && self.lock().steps.front().is_some_and(RequestQueueState::is_latest)
    }

    /// Returns the rest of a batch to the queue. If it was cancelled or superseded, its items are refused.
    pub(super) fn put_back(&self, batch: ItemBatch) {
        let stale = self.stale_reason(&batch);
        self.change(|state| match stale {
            _ if batch.request.items.is_empty() => {}
            Some(code) => state.refused.extend(batch.request.items.into_iter().map(|item| (item, code))),
            None => {
                let is_first = batch.request.order == RequestOrder::Latest;
                let urgent = state.steps.iter().take_while(|step| RequestQueueState::is_latest(step)).count();
                state.steps.insert(if is_first { 0 } else { urgent }, QueueStep::Frames(batch.request));
            }
        });
    }

    /// Records that an item was answered.
    pub(super) fn mark_answered(&self) {
        self.lock().outstanding -= 1;
        self.progress.notify_one();
    }

    /// Waits until the queue has fewer than `most` entries: unanswered items, requests, commands and errors.
    pub(super) async fn wait_for_room(&self, most: usize) {
        while self.lock().size() >= most.max(1) {
            self.progress.notified().await;
        }
    }

    /// The number of unanswered items.
    pub(super) fn outstanding(&self) -> usize {
        self.lock().outstanding
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::{QueueItem, RequestOrder};
    use super::{FrameErrorCode, OnDamage, RequestQueue, SessionTask, SocketRequest};
    use crate::frame_locator::FrameLocator;
    use bucket_streamer::pixels::{Fit, Shape};

    fn request(order: RequestOrder, frames: std::ops::Range<u64>) -> SocketRequest {
        let item =
            |frame: u64| QueueItem { index: frame as i64, offset: None, locator: Ok(FrameLocator::Frame(frame)) };
        let shape = Shape { width: None, height: None, fit: Fit::Contain };
        SocketRequest { items: frames.map(item).collect(), order, shape, quality: 80, on_damage: OnDamage::Flag }
    }

    /// All tasks in the queue, in short form.
    fn drain(queue: &RequestQueue) -> String {
        let mut tasks = Vec::new();
        while let Some(work) = queue.try_next() {
            let names = |request: &SocketRequest| {
                request.items.iter().map(|item| item.index.to_string()).collect::<Vec<_>>().join(",")
            };
            tasks.push(match work {
                SessionTask::Refuse(item, code) => format!("{}:{}", item.index, code.name()),
                SessionTask::SetVideo(path) => format!("video {path}"),
                SessionTask::Batch(batch) => format!("[{}]", names(&batch.request)),
                SessionTask::Error(message) => message,
                SessionTask::End => break,
            });
        }
        tasks.join(" ")
    }

    #[test]
    fn items_keep_their_order_and_equal_requests_join() {
        let queue = RequestQueue::default();
        queue.push(request(RequestOrder::Fifo, 0..3));
        queue.set_video("b".into());
        queue.push(request(RequestOrder::Fifo, 3..4));
        queue.push(request(RequestOrder::Fifo, 4..6));
        queue.push(SocketRequest { quality: 10, ..request(RequestOrder::Fifo, 6..7) });
        queue.push(SocketRequest { on_damage: OnDamage::Error, ..request(RequestOrder::Fifo, 7..8) });
        queue.push(request(RequestOrder::Fifo, 8..9));
        assert_eq!((drain(&queue).as_str(), queue.outstanding()), ("[0,1,2] video b [3,4,5] [6] [7] [8]", 9));
    }

    #[test]
    fn the_newest_is_first_and_superseded_items_are_answered() {
        let queue = RequestQueue::default();
        queue.push(request(RequestOrder::Fifo, 0..1));
        queue.push(request(RequestOrder::Latest, 10..12));
        queue.push(request(RequestOrder::Latest, 20..21));
        assert_eq!(drain(&queue), "10:superseded 11:superseded [20] [0]");
        queue.push(request(RequestOrder::Fifo, 0..1));
        queue.set_video("b".into());
        queue.push(request(RequestOrder::Fifo, 1..2));
        queue.push(request(RequestOrder::Latest, 30..31));
        assert_eq!(drain(&queue), "[0] video b [30] [1]", "not before its video");
    }

    #[test]
    fn a_batch_in_progress_becomes_stale() {
        let queue = RequestQueue::default();
        queue.push(request(RequestOrder::Latest, 0..2));
        let Some(SessionTask::Batch(batch)) = queue.try_next() else { panic!("a batch") };
        assert_eq!(queue.stale_reason(&batch), None);
        queue.push(request(RequestOrder::Fifo, 5..6));
        assert_eq!(queue.stale_reason(&batch), None);
        queue.push(request(RequestOrder::Latest, 9..10));
        assert_eq!(queue.stale_reason(&batch), Some(FrameErrorCode::Superseded));
        queue.put_back(batch);
        assert_eq!(drain(&queue), "0:superseded 1:superseded [9] [5]");
        queue.push(request(RequestOrder::Fifo, 0..2));
        let Some(SessionTask::Batch(mut batch)) = queue.try_next() else { panic!("a batch") };
        queue.push(request(RequestOrder::Fifo, 7..8));
        queue.cancel();
        assert_eq!(queue.stale_reason(&batch), Some(FrameErrorCode::Cancelled));
        assert_eq!(drain(&queue), "7:cancelled");
        batch.request.items.clear();
        queue.put_back(batch);
        assert_eq!(drain(&queue), "");
    }

    #[test]
    fn the_newest_precedes_the_rest_of_a_batch() {
        let queue = RequestQueue::default();
        queue.push(request(RequestOrder::Fifo, 0..3));
        let Some(SessionTask::Batch(mut batch)) = queue.try_next() else { panic!("a batch") };
        batch.request.items.pop_front();
        assert!(!queue.is_preempted(&batch));
        queue.push(request(RequestOrder::Latest, 9..10));
        assert!(queue.is_preempted(&batch));
        queue.put_back(batch);
        assert_eq!(drain(&queue), "[9] [1,2]");
    }

    #[tokio::test]
    async fn there_is_room_after_answers() {
        let queue = RequestQueue::default();
        queue.push(request(RequestOrder::Fifo, 0..2));
        // Two items and their request.
        let mut room = Box::pin(queue.wait_for_room(3));
        assert!(futures_util::poll!(&mut room).is_pending());
        queue.mark_answered();
        assert!(futures_util::poll!(&mut room).is_ready());
        drop(room);
        queue.set_video(String::new());
        assert!(futures_util::poll!(Box::pin(queue.wait_for_room(3))).is_pending(), "videos count, too");
        queue.close();
        assert!(matches!(queue.next().await, SessionTask::Batch(_)));
        assert!(matches!(queue.next().await, SessionTask::SetVideo(_)));
        assert!(matches!(queue.next().await, SessionTask::End));
    }
}
