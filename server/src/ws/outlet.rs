//! The writer of a WebSocket: messages, and pings while there is nothing to send.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures_util::stream::SplitSink;
use futures_util::{FutureExt, SinkExt};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// The client has gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// The number of sent pictures: as long as it grows, the client is reading.
#[derive(Debug, Default)]
pub(super) struct Sent(AtomicU64);

impl Sent {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The writer.
pub(super) struct Outlet<'a> {
    sink: SplitSink<WebSocket, Message>,
    ping: Interval,
    sent: &'a Sent,
}

impl<'a> Outlet<'a> {
    pub(super) fn new(sink: SplitSink<WebSocket, Message>, every: std::time::Duration, sent: &'a Sent) -> Outlet<'a> {
        let mut ping = interval(every.max(std::time::Duration::from_millis(10)));
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick would come at once.
        ping.reset();
        Outlet { sink, ping, sent }
    }

    pub(super) async fn text(&mut self, text: String) -> Result<(), Gone> {
        self.sink.send(Message::Text(text.into())).await.map_err(|_| Gone)
    }

    /// Sends a picture with the message before it.
    pub(super) async fn picture(&mut self, text: String, bytes: Bytes) -> Result<(), Gone> {
        // With a picture always ready, `while_waiting` sends no pings. A client that only listens must still get them.
        if self.ping.tick().now_or_never().is_some() {
            self.sink.feed(Message::Ping(Bytes::new())).await.map_err(|_| Gone)?;
        }
        self.sink.feed(Message::Text(text.into())).await.map_err(|_| Gone)?;
        self.sink.send(Message::Binary(bytes)).await.map_err(|_| Gone)?;
        self.sent.0.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Waits for `work`, and sends pings meanwhile.
    pub(super) async fn while_waiting<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Gone> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                _ = self.ping.tick() => {
                    self.sink.send(Message::Ping(Bytes::new())).await.map_err(|_| Gone)?;
                }
            }
        }
    }

    /// Sends a close message with the reason.
    pub(super) async fn close(&mut self, code: u16, reason: &'static str) {
        let _ = self.sink.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
    }
}
