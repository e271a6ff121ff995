//! Detects HTTP/2 by the first bytes of a connection without TLS, where it is refused unless the configuration allows
//! it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// The connection preface of an HTTP/2 client (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An empty SETTINGS frame (RFC 9113, section 6.5), and a GOAWAY frame (section 6.8) with the last stream 0, the error
/// HTTP_1_1_REQUIRED and the reason as text.
const REFUSAL: &[u8] = b"\0\0\0\x04\0\0\0\0\0\
    \0\0\x28\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0dHTTP/2 is spoken over TLS only  ";

/// A stream whose first bytes were read before: reading begins with them.
pub(super) struct ReplayStream<S> {
    buffered: Bytes,
    stream: S,
}

/// Reads until it is certain whether the input begins with the preface; returns true if it does.
///
/// # Errors
/// Those of the stream.
pub(super) async fn read<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<(ReplayStream<S>, bool)> {
    let mut first = Vec::with_capacity(PREFACE.len());
    let mut part = [0; PREFACE.len()];
    loop {
        let read = stream.read(&mut part[..PREFACE.len() - first.len()]).await?;
        first.extend_from_slice(&part[..read]);
        let is_http2 = first.len() == PREFACE.len() && first == PREFACE;
        if is_http2 || read == 0 || !PREFACE.starts_with(&first) {
            return Ok((ReplayStream { buffered: first.into(), stream }, is_http2));
        }
    }
}

/// Refuses an HTTP/2 client, and closes the connection.
pub(super) async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    if stream.write_all(REFUSAL).await.is_ok() && stream.shutdown().await.is_ok() {
        // Closing a socket with unread input resets the connection, and the client may lose the refusal.
        let mut sink = [0; 4096];
        while let Ok(1..) = stream.read(&mut sink).await {}
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReplayStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.buffered.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let len = self.buffered.len().min(buffer.remaining());
        buffer.put_slice(&self.buffered[..len]);
        self.buffered.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReplayStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::{PREFACE, REFUSAL, read};

    #[tokio::test]
    async fn detection_consumes_no_bytes() {
        for (sent, is_http2) in [
            (PREFACE, true),
            (&PREFACE[..23], false),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", false),
            (b"GET / HTTP/1.1\r\n\r\n", false),
            (b"", false),
        ] {
            let (near, mut far) = duplex(7);
            let sent = [sent, b"rest"].concat();
            let whole = sent.clone();
            let writer = tokio::spawn(async move {
                far.write_all(&whole).await.unwrap();
            });
            let (mut stream, detected) = read(near).await.unwrap();
            assert_eq!(detected, is_http2);
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, sent);
            writer.await.unwrap();
        }
    }

    #[test]
    fn the_refusal_is_two_frames() {
        let len = |at: usize| usize::from(REFUSAL[at + 1]) << 8 | usize::from(REFUSAL[at + 2]);
        assert_eq!((len(0), 9 + 9 + len(9)), (0, REFUSAL.len()));
    }
}
