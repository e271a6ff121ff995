//! The writer of a WebSocket: sends messages, and pings in between.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures_util::stream::SplitSink;
use futures_util::{FutureExt, SinkExt};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Sending failed, because the client has disconnected.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientGone;

/// The number of sent pictures. As long as it grows, the client is reading.
#[derive(Debug, Default)]
pub(super) struct SentCount(AtomicU64);

impl SentCount {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The sending half of a WebSocket, with its ping timer.
pub(super) struct SocketWriter<'a> {
    sink: SplitSink<WebSocket, Message>,
    ping: Interval,
    sent: &'a SentCount,
}

impl<'a> SocketWriter<'a> {
    pub(super) fn new(
        sink: SplitSink<WebSocket, Message>,
        every: std::time::Duration,
        sent: &'a SentCount,
    ) -> SocketWriter<'a> {
        let mut ping = interval(every.max(std::time::Duration::from_millis(10)));
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick of a new interval is immediate.
        ping.reset();
        SocketWriter { sink, ping, sent }
    }

    pub(super) async fn text(&mut self, text: String) -> Result<(), ClientGone> {
        self.sink.send(Message::Text(text.into())).await.map_err(|_| ClientGone)
    }

    /// Sends a picture with the message before it.
    pub(super) async fn picture(&mut self, text: String, bytes: Bytes) -> Result<(), ClientGone> {
        // If a picture is always ready, `while_waiting` sends no pings. A client that sends nothing must still get
        // them.
        if self.ping.tick().now_or_never().is_some() {
            self.sink.feed(Message::Ping(Bytes::new())).await.map_err(|_| ClientGone)?;
        }
        self.sink.feed(Message::Text(text.into())).await.map_err(|_| ClientGone)?;
        self.sink.send(Message::Binary(bytes)).await.map_err(|_| ClientGone)?;
        self.sent.0.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Waits for `work`, and sends pings at their interval meanwhile.
    pub(super) async fn while_waiting<T>(&mut self, work: impl Future<Output = T>) -> Result<T, ClientGone> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                _ = self.ping.tick() => {
                    self.sink.send(Message::Ping(Bytes::new())).await.map_err(|_| ClientGone)?;
                }
            }
        }
    }

    /// Sends a close message with the code and the reason.
    pub(super) async fn close(&mut self, code: u16, reason: &'static str) {
        let _ = self.sink.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
    }
}
