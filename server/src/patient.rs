//! Connection timeouts: a stream ends if no byte goes over it for a long time, or if its reader takes next to nothing
//! while more is ready.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Bytes that a reader must take within the time for slow readers.
pub(super) const LEAST: usize = 64 << 10;

/// A stream with timeouts.
pub(super) struct Patient<S> {
    stream: S,
    /// Longest time without a byte in either direction, in milliseconds; other tasks may change it.
    idle: Arc<AtomicU64>,
    idle_over: Pin<Box<Sleep>>,
    /// The limit that `idle_over` was set with.
    begun_with: Duration,
    /// Time for a reader to take [`LEAST`] bytes while more are ready.
    slow: Duration,
    slow_over: Option<Pin<Box<Sleep>>>,
    taken: usize,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, idle: Arc<AtomicU64>, slow: Duration) -> Patient<S> {
        let begun_with = Duration::from_millis(idle.load(Relaxed));
        let idle_over = Box::pin(sleep(begun_with));
        Patient { stream, idle, idle_over, begun_with, slow, slow_over: None, taken: 0 }
    }

    fn moves(&mut self) {
        // Set late: resetting the timer for every byte would cost more than the bytes.
        let idle = Duration::from_millis(self.idle.load(Relaxed));
        let until = Instant::now() + idle;
        if until.saturating_duration_since(self.idle_over.deadline()) > idle / 8 {
            self.idle_over.as_mut().reset(until);
            self.begun_with = idle;
        }
    }

    /// Notes that the reader took bytes.
    fn took(&mut self, bytes: usize) {
        self.moves();
        self.taken += bytes;
        if self.taken >= LEAST {
            self.taken = 0;
            self.slow_over = None;
        }
    }

    fn too_slow(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let slow = self.slow;
        let over = self.slow_over.get_or_insert_with(|| Box::pin(sleep(slow)));
        ready!(over.as_mut().poll(context));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client reads too slowly"))
    }

    fn too_quiet(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        ready!(self.idle_over.as_mut().poll(context));
        // The limit may have grown since.
        let (idle, before) = (Duration::from_millis(self.idle.load(Relaxed)), self.idle_over.deadline());
        if idle > self.begun_with {
            let more = idle - self.begun_with;
            self.begun_with = idle;
            self.idle_over.as_mut().reset(before + more);
            ready!(self.idle_over.as_mut().poll(context));
        }
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the connection is idle"))
    }

    fn written(&mut self, written: Poll<io::Result<usize>>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.took(bytes);
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.too_slow(context).map(Err),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                if buffer.filled().len() > before {
                    self.moves();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.too_quiet(context).map(Err),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Pending => self.too_slow(context).map(Err),
            flushed => {
                // The system has everything: nothing waits for the reader.
                self.taken = 0;
                self.slow_over = None;
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

    use super::{Arc, AtomicU64, Patient, Relaxed};

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn silence_ends_and_talk_does_not() {
        let (near, mut far) = duplex(64);
        let mut near = Patient::new(near, Arc::new(AtomicU64::new(90_000)), 30 * SECOND);
        for _ in 0..20 {
            tokio::time::sleep(60 * SECOND).await;
            far.write_all(b"x").await.unwrap();
            assert_eq!(near.read_u8().await.unwrap(), b'x');
        }
        assert_eq!(near.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_asked_for_something_is_waited_for_longer() {
        let (near, _far) = duplex(64);
        let (idle, since) = (Arc::new(AtomicU64::new(10_000)), tokio::time::Instant::now());
        let mut near = Patient::new(near, Arc::clone(&idle), 30 * SECOND);
        idle.store(100_000, Relaxed);
        assert_eq!(near.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        assert!(since.elapsed() >= 100 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_who_takes_next_to_nothing_is_given_up() {
        let pace = async |bytes: usize| {
            let (near, mut far) = duplex(1024);
            let mut near = Patient::new(near, Arc::new(AtomicU64::new(900_000)), 30 * SECOND);
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
