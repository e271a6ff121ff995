//! Limits for HTTP/2 streams, as strict as those for a connection of HTTP/1.1.
//!
//! A body is sent in small parts, few of which are in flight at one time, so that the unsent rest stays in its budget.
//! A stream whose client reads too little while more is ready is reset, independent of the connection's other streams.
//! A connection is closed if its client resets many streams, or if no stream is open for a long time.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::rt::Executor;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::reply_memory::ReplyReservation;
use super::timeouts::LEAST_READ;
use crate::locks::{Mutex, MutexGuard};

/// Checks of the number of bodies within the time limit of slow clients.
const CHECKS: u32 = 16;
/// Bytes of one part of a body: the default maximum of a DATA frame (RFC 9113, section 4.2).
const PART: usize = 16 << 10;
/// Most bytes of one body in flight.
const AHEAD: usize = 64 << 10;
/// Streams that a client may reset without limit.
const RESETS: u64 = 200;
/// Further resets that each answered stream permits.
const RESETS_EACH: u64 = 2;

tokio::task_local! {
    /// The HTTP/2 stream that a task serves; tasks of HTTP/1.1 have none.
    static STREAM: Arc<Http2Stream>;
}

/// The streams of one connection. As hyper's executor it runs each stream in a task.
#[derive(Debug, Clone)]
pub(super) struct Http2Streams(Arc<Http2Connection>);

#[derive(Debug)]
struct Http2Connection {
    slow: Duration,
    /// Open streams, and those of them with a body to send.
    open: AtomicUsize,
    bodies: AtomicUsize,
    answered: AtomicU64,
    reset: AtomicU64,
    last_active: Mutex<Instant>,
    abused: Notify,
}

/// One stream.
#[derive(Debug)]
struct Http2Stream {
    connection: Arc<Http2Connection>,
    sending: Mutex<SendState>,
    body_started: Notify,
}

#[derive(Debug, Default)]
struct SendState {
    has_body: bool,
    /// The response is complete: nothing is left to send.
    is_answered: bool,
    /// Bytes that the connection has taken, and those of them that it has not sent.
    taken: u64,
    unsent: usize,
    waker: Option<Waker>,
}

impl Http2Streams {
    /// For a connection whose client has to read 64 KiB in the time `slow` while bodies are ready.
    pub(super) fn new(slow: Duration) -> Http2Streams {
        Http2Streams(Arc::new(Http2Connection {
            slow,
            open: AtomicUsize::new(0),
            bodies: AtomicUsize::new(0),
            answered: AtomicU64::new(0),
            reset: AtomicU64::new(0),
            last_active: Mutex::new(Instant::now()),
            abused: Notify::new(),
        }))
    }

    /// Waits until no stream has been open for `limit`.
    pub(super) async fn idle(&self, limit: Duration) {
        let tick = (limit / 8).max(Duration::from_millis(20));
        loop {
            sleep(tick).await;
            let last = *self.0.last_active.lock().unwrap_or_else(PoisonError::into_inner);
            if self.0.open.load(Relaxed) == 0 && last.elapsed() >= limit {
                return;
            }
        }
    }

    /// Waits until the client has reset too many streams.
    pub(super) async fn abused(&self) {
        self.0.abused.notified().await;
    }
}

impl<F: Future + Send + 'static> Executor<F> for Http2Streams {
    fn execute(&self, future: F) {
        let stream = Arc::new(Http2Stream::open(&self.0));
        tokio::spawn(async move {
            let task = STREAM.scope(Arc::clone(&stream), future);
            // Dropping the future resets the stream, and drops its unsent bytes.
            tokio::select! {
                _ = task => {}
                () = stream.stalled() => tracing::debug!("the client reads a stream too slowly"),
            }
        });
    }
}

impl Http2Stream {
    fn open(connection: &Arc<Http2Connection>) -> Http2Stream {
        connection.open.fetch_add(1, Relaxed);
        Http2Stream { connection: Arc::clone(connection), sending: Mutex::default(), body_started: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, SendState> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that were sent.
    fn sent(&self) -> u64 {
        let sending = self.lock();
        sending.taken - sending.unsent as u64
    }

    /// Waits until the client reads too little of the stream's body. The streams of a connection share the minimum of
    /// an HTTP/1.1 connection, so that parallel streams need no higher rate.
    async fn stalled(&self) {
        self.body_started.notified().await;
        loop {
            let (before, mut streams) = (self.sent(), 1);
            // Streams that ended meanwhile had a share, too: the maximum counts.
            for _ in 0..CHECKS {
                streams = streams.max(self.connection.bodies.load(Relaxed));
                sleep(self.connection.slow / CHECKS).await;
            }
            if self.sent() - before < (LEAST_READ / streams) as u64 {
                return;
            }
        }
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        let (has_body, is_answered) = {
            let sending = self.lock();
            (sending.has_body, sending.is_answered)
        };
        let connection = &self.connection;
        if has_body {
            connection.bodies.fetch_sub(1, Relaxed);
        }
        *connection.last_active.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        connection.open.fetch_sub(1, Relaxed);
        if is_answered {
            connection.answered.fetch_add(1, Relaxed);
            return;
        }
        let reset = connection.reset.fetch_add(1, Relaxed) + 1;
        if reset > RESETS + RESETS_EACH * connection.answered.load(Relaxed) {
            connection.abused.notify_one();
        }
    }
}

/// The body of a response over HTTP/2; `reservation` is its share of the memory for responses.
pub(super) fn body(bytes: Bytes, reservation: Option<ReplyReservation>) -> Body {
    let Ok(stream) = STREAM.try_with(Arc::clone) else { return Body::from(bytes) };
    stream.lock().has_body = true;
    stream.connection.bodies.fetch_add(1, Relaxed);
    stream.body_started.notify_one();
    Body::new(PacedBody { rest: bytes, stream, _reservation: reservation })
}

/// Records that the response of this task's stream has no body. Without effect for HTTP/1.1.
pub(super) fn no_body() {
    let _ = STREAM.try_with(|stream| stream.lock().is_answered = true);
}

/// A body in parts. It ends when all parts are sent, so that the reservation covers them.
struct PacedBody {
    rest: Bytes,
    stream: Arc<Http2Stream>,
    _reservation: Option<ReplyReservation>,
}

/// A part that the connection has taken. It is dropped when it is sent.
struct BodyPart {
    bytes: Bytes,
    stream: Arc<Http2Stream>,
}

impl AsRef<[u8]> for BodyPart {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for BodyPart {
    fn drop(&mut self) {
        let mut sending = self.stream.lock();
        sending.unsent -= self.bytes.len();
        let waker = sending.waker.take();
        drop(sending);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl hyper::body::Body for PacedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let stream = Arc::clone(&self.stream);
        let mut sending = stream.lock();
        if self.rest.is_empty() && sending.unsent == 0 {
            sending.is_answered = true;
            return Poll::Ready(None);
        }
        if self.rest.is_empty() || sending.unsent >= AHEAD {
            sending.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let len = self.rest.len().min(PART);
        sending.taken += len as u64;
        sending.unsent += len;
        drop(sending);
        let bytes = self.rest.split_to(len);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(BodyPart { bytes, stream })))))
    }

    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;
    use hyper::rt::Executor;
    use tokio::sync::oneshot;
    use tokio::time::sleep;

    use super::{AHEAD, Bytes, Http2Streams, PART, Relaxed, body, no_body};

    const SECOND: Duration = Duration::from_secs(1);

    /// Runs a stream whose client reads a body of `len` bytes with a pause after each part. Returns whether it reads
    /// all.
    async fn read(streams: &Http2Streams, len: usize, pause: Duration) -> bool {
        let (sender, receiver) = oneshot::channel();
        streams.execute(async move {
            let mut body = body(Bytes::from(vec![7; len]), None);
            let mut read = 0;
            while let Some(Ok(frame)) = body.frame().await {
                read += frame.into_data().unwrap().len();
                sleep(pause).await;
            }
            let _ = sender.send(read);
        });
        receiver.await == Ok(len)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_stream_ends_and_one_that_is_read_does_not() {
        let streams = Http2Streams::new(30 * SECOND);
        assert!(read(&streams, 40 * PART, 2 * SECOND).await);
        assert!(!read(&streams, 40 * PART, 20 * SECOND).await);
        // Streams of one connection share its minimum.
        let both = tokio::join!(read(&streams, 40 * PART, 10 * SECOND), read(&streams, 40 * PART, 10 * SECOND));
        assert_eq!(both, (true, true));
        assert_eq!((streams.0.open.load(Relaxed), streams.0.bodies.load(Relaxed)), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn parts_in_flight_are_limited_and_the_body_ends_after_the_last_one() {
        let streams = Http2Streams::new(30 * SECOND);
        let (sender, receiver) = oneshot::channel();
        streams.execute(async move {
            let mut body = body(Bytes::from(vec![7; 2 * AHEAD]), None);
            let mut parts = Vec::new();
            while let Ok(Some(Ok(frame))) = tokio::time::timeout(SECOND, body.frame()).await {
                parts.push(frame);
            }
            let ahead = parts.len() * PART;
            parts.clear();
            while parts.len() * PART < AHEAD {
                parts.push(body.frame().await.unwrap().unwrap());
            }
            let is_waiting = tokio::time::timeout(SECOND, body.frame()).await.is_err();
            parts.clear();
            let _ = sender.send((ahead, is_waiting, body.frame().await.is_none()));
        });
        assert_eq!(receiver.await.unwrap(), (AHEAD, true, true));
    }

    #[tokio::test(start_paused = true)]
    async fn resets_without_answers_are_abuse() {
        let streams = Http2Streams::new(30 * SECOND);
        for _ in 0..1000 {
            streams.execute(async { no_body() });
        }
        for _ in 0..2000 {
            streams.execute(async {});
        }
        sleep(SECOND).await;
        assert!(tokio::time::timeout(SECOND, streams.abused()).await.is_err(), "most are answered");
        for _ in 0..300 {
            streams.execute(async {});
        }
        assert!(tokio::time::timeout(SECOND, streams.abused()).await.is_ok());
    }
}
