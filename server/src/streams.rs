//! Limits for HTTP/2 streams, as strict as those for a connection of HTTP/1.1.
//!
//! A body goes out in small parts, few of which are in flight at one time, so that the unsent rest stays here. A stream
//! whose reader takes next to nothing while more is ready is reset, whatever else the connection does. A connection
//! ends if its client resets many of its streams, or if none is open for a long time.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::rt::Executor;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::patient::LEAST;
use super::replies::Held;

/// Checks of the number of bodies in the time for slow readers.
const LOOKS: u32 = 16;
/// Bytes of one part of a body: a frame of HTTP/2.
const PART: usize = 16 << 10;
/// Most bytes of parts in flight.
const AHEAD: usize = 64 << 10;
/// Streams that a client may reset freely.
const RESETS: u64 = 200;
/// Resets per answered stream that a client may add.
const RESETS_EACH: u64 = 2;

tokio::task_local! {
    /// The stream that a task serves, if any.
    static STREAM: Arc<Stream>;
}

/// The streams of one connection. As hyper's executor it runs each stream in a task.
#[derive(Debug, Clone)]
pub(super) struct Streams(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    slow: Duration,
    /// Open streams, and those among them with a body to send.
    open: AtomicUsize,
    bodies: AtomicUsize,
    answered: AtomicU64,
    reset: AtomicU64,
    last: Mutex<Instant>,
    abused: Notify,
}

/// One stream.
#[derive(Debug)]
struct Stream {
    connection: Arc<Connection>,
    sending: Mutex<Sending>,
    begun: Notify,
}

#[derive(Debug, Default)]
struct Sending {
    has_body: bool,
    /// Nothing is left to send.
    is_answered: bool,
    /// Bytes that the connection has taken, and those among them that it has not sent.
    taken: u64,
    unsent: usize,
    waker: Option<Waker>,
}

impl Streams {
    /// For a connection whose readers take 64 KiB in the time `slow` or are given up.
    pub(super) fn new(slow: Duration) -> Streams {
        Streams(Arc::new(Connection {
            slow,
            open: AtomicUsize::new(0),
            bodies: AtomicUsize::new(0),
            answered: AtomicU64::new(0),
            reset: AtomicU64::new(0),
            last: Mutex::new(Instant::now()),
            abused: Notify::new(),
        }))
    }

    /// Waits until no stream has been open for this time.
    pub(super) async fn idle(&self, limit: Duration) {
        let tick = (limit / 8).max(Duration::from_millis(20));
        loop {
            sleep(tick).await;
            let last = *self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
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

impl<F: Future + Send + 'static> Executor<F> for Streams {
    fn execute(&self, future: F) {
        let stream = Arc::new(Stream::open(&self.0));
        tokio::spawn(async move {
            let served = STREAM.scope(Arc::clone(&stream), future);
            // Dropping the future resets the stream, and drops its unsent bytes.
            tokio::select! {
                _ = served => {}
                () = stream.stalled() => tracing::debug!("the client reads a stream too slowly"),
            }
        });
    }
}

impl Stream {
    fn open(connection: &Arc<Connection>) -> Stream {
        connection.open.fetch_add(1, Relaxed);
        Stream { connection: Arc::clone(connection), sending: Mutex::default(), begun: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Sending> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that were sent.
    fn sent(&self) -> u64 {
        let sending = self.lock();
        sending.taken - sending.unsent as u64
    }

    /// Waits until there is a body and its reader takes too little of it. The streams of a connection share the minimum
    /// of a connection of HTTP/1.1, so that none has to wait for the others.
    async fn stalled(&self) {
        self.begun.notified().await;
        loop {
            let (before, mut streams) = (self.sent(), 1);
            // Streams that have ended meanwhile had their share, too.
            for _ in 0..LOOKS {
                streams = streams.max(self.connection.bodies.load(Relaxed));
                sleep(self.connection.slow / LOOKS).await;
            }
            if self.sent() - before < (LEAST / streams) as u64 {
                return;
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let (has_body, is_answered) = {
            let sending = self.lock();
            (sending.has_body, sending.is_answered)
        };
        let connection = &self.connection;
        if has_body {
            connection.bodies.fetch_sub(1, Relaxed);
        }
        *connection.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
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

/// The body of a response over HTTP/2; `held` is its share of the memory for replies.
pub(super) fn body(bytes: Bytes, held: Option<Held>) -> Body {
    let Ok(stream) = STREAM.try_with(Arc::clone) else { return Body::from(bytes) };
    stream.lock().has_body = true;
    stream.connection.bodies.fetch_add(1, Relaxed);
    stream.begun.notify_one();
    Body::new(Paced { rest: bytes, stream, _held: held })
}

/// Notes that the response of this task's stream has no body.
pub(super) fn no_body() {
    let _ = STREAM.try_with(|stream| stream.lock().is_answered = true);
}

/// A body in parts. It ends when all of them are sent.
struct Paced {
    rest: Bytes,
    stream: Arc<Stream>,
    _held: Option<Held>,
}

/// A part that the connection has taken, until it is sent.
struct Part {
    bytes: Bytes,
    stream: Arc<Stream>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Part {
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

impl hyper::body::Body for Paced {
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
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(Part { bytes, stream })))))
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

    use super::{AHEAD, Bytes, PART, Relaxed, Streams, body, no_body};

    const SECOND: Duration = Duration::from_secs(1);

    /// Runs a stream whose reader takes a body of `len` bytes, with `pause` after each part, and keeps none. True at
    /// its end.
    async fn read(streams: &Streams, len: usize, pause: Duration) -> bool {
        let (tell, told) = oneshot::channel();
        streams.execute(async move {
            let mut body = body(Bytes::from(vec![7; len]), None);
            let mut read = 0;
            while let Some(Ok(frame)) = body.frame().await {
                read += frame.into_data().unwrap().len();
                sleep(pause).await;
            }
            let _ = tell.send(read);
        });
        told.await == Ok(len)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_stands_still_ends_and_one_that_is_read_does_not() {
        let streams = Streams::new(30 * SECOND);
        assert!(read(&streams, 40 * PART, 2 * SECOND).await);
        assert!(!read(&streams, 40 * PART, 20 * SECOND).await);
        // Streams of one connection share its minimum.
        let both = tokio::join!(read(&streams, 40 * PART, 10 * SECOND), read(&streams, 40 * PART, 10 * SECOND));
        assert_eq!(both, (true, true));
        assert_eq!((streams.0.open.load(Relaxed), streams.0.bodies.load(Relaxed)), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_on_its_way_than_may_be_and_the_last_part_is_waited_for() {
        let streams = Streams::new(30 * SECOND);
        let (tell, told) = oneshot::channel();
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
            let _ = tell.send((ahead, is_waiting, body.frame().await.is_none()));
        });
        assert_eq!(told.await.unwrap(), (AHEAD, true, true));
    }

    #[tokio::test(start_paused = true)]
    async fn resets_without_answers_are_abuse() {
        let streams = Streams::new(30 * SECOND);
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
