//! Connection timeouts: a stream fails if no byte passes for a long time, or if the peer reads too little while more is
//! ready.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Bytes that a client has to read within the time limit of slow clients.
pub(super) const LEAST_READ: usize = 64 << 10;

/// A stream with timeouts. Operations after a timeout fail with `TimedOut`.
pub(super) struct TimeoutStream<S> {
    stream: S,
    /// Longest time without a byte in either direction, in milliseconds; other tasks may change it.
    idle: Arc<AtomicU64>,
    idle_timer: Pin<Box<Sleep>>,
    /// The limit that `idle_timer` was set with.
    armed_with: Duration,
    /// Time for the client to read [`LEAST_READ`] bytes while more are ready.
    slow: Duration,
    slow_timer: Option<Pin<Box<Sleep>>>,
    taken: usize,
}

impl<S> TimeoutStream<S> {
    pub(super) fn new(stream: S, idle: Arc<AtomicU64>, slow: Duration) -> TimeoutStream<S> {
        let armed_with = Duration::from_millis(idle.load(Relaxed));
        let idle_timer = Box::pin(sleep(armed_with));
        TimeoutStream { stream, idle, idle_timer, armed_with, slow, slow_timer: None, taken: 0 }
    }

    fn mark_active(&mut self) {
        // The timer is reset only if it is off by an eighth: resetting it at every operation is expensive.
        let idle = Duration::from_millis(self.idle.load(Relaxed));
        let until = Instant::now() + idle;
        if until.saturating_duration_since(self.idle_timer.deadline()) > idle / 8 {
            self.idle_timer.as_mut().reset(until);
            self.armed_with = idle;
        }
    }

    /// Records that the client has read bytes.
    fn record_taken(&mut self, bytes: usize) {
        self.mark_active();
        self.taken += bytes;
        if self.taken >= LEAST_READ {
            self.taken = 0;
            self.slow_timer = None;
        }
    }

    fn poll_slow(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let slow = self.slow;
        let timer = self.slow_timer.get_or_insert_with(|| Box::pin(sleep(slow)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client reads too slowly"))
    }

    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        ready!(self.idle_timer.as_mut().poll(context));
        // The limit may have been raised since the timer was set.
        let (idle, before) = (Duration::from_millis(self.idle.load(Relaxed)), self.idle_timer.deadline());
        if idle > self.armed_with {
            let more = idle - self.armed_with;
            self.armed_with = idle;
            self.idle_timer.as_mut().reset(before + more);
            ready!(self.idle_timer.as_mut().poll(context));
        }
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the connection is idle"))
    }

    fn after_write(&mut self, written: Poll<io::Result<usize>>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.record_taken(bytes);
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_slow(context).map(Err),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimeoutStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                if buffer.filled().len() > before {
                    self.mark_active();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_idle(context).map(Err),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimeoutStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.after_write(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.after_write(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Pending => self.poll_slow(context).map(Err),
            flushed => {
                // The system has taken all bytes: none wait for the client.
                self.taken = 0;
                self.slow_timer = None;
                flushed
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::{Arc, AtomicU64, Relaxed, TimeoutStream};

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn an_idle_stream_times_out_and_an_active_one_does_not() {
        let (near, mut far) = duplex(64);
        let mut near = TimeoutStream::new(near, Arc::new(AtomicU64::new(90_000)), 30 * SECOND);
        for _ in 0..20 {
            tokio::time::sleep(60 * SECOND).await;
            far.write_all(b"x").await.unwrap();
            assert_eq!(near.read_u8().await.unwrap(), b'x');
        }
        assert_eq!(near.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_longer_idle_limit_extends_the_running_timer() {
        let (near, _far) = duplex(64);
        let (idle, since) = (Arc::new(AtomicU64::new(10_000)), tokio::time::Instant::now());
        let mut near = TimeoutStream::new(near, Arc::clone(&idle), 30 * SECOND);
        idle.store(100_000, Relaxed);
        assert_eq!(near.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        assert!(since.elapsed() >= 100 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_times_out() {
        let pace = async |bytes: usize| {
            let (near, mut far) = duplex(1024);
            let mut near = TimeoutStream::new(near, Arc::new(AtomicU64::new(900_000)), 30 * SECOND);
            let reader = tokio::spawn(async move {
                let mut buffer = vec![0; bytes];
                while far.read_exact(&mut buffer).await.is_ok() {
                    tokio::time::sleep(SECOND).await;
                }
            });
            let written = near.write_all(&vec![0; 400_000]).await;
            reader.abort();
            written.map_err(|error| error.kind())
        };
        assert_eq!(pace(1000).await, Err(std::io::ErrorKind::TimedOut));
        assert_eq!(pace(4000).await, Ok(()));
    }
}
