//! The sending side of a WebSocket: messages, and pings while there is nothing to send.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures_util::stream::SplitSink;
use futures_util::{FutureExt, SinkExt};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// The other end is not there any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// Messages that have gone out: while there are more and more, somebody takes them.
#[derive(Debug, Default)]
pub(super) struct Sent(AtomicU64);

impl Sent {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Sends.
pub(super) struct Outlet<'a> {
    sink: SplitSink<WebSocket, Message>,
    ping: Interval,
    sent: &'a Sent,
}

impl<'a> Outlet<'a> {
    pub(super) fn new(sink: SplitSink<WebSocket, Message>, every: std::time::Duration, sent: &'a Sent) -> Outlet<'a> {
        let mut ping = interval(every.max(std::time::Duration::from_millis(10)));
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick comes at once.
        ping.reset();
        Outlet { sink, ping, sent }
    }

    pub(super) async fn text(&mut self, text: String) -> Result<(), Gone> {
        self.sink.send(Message::Text(text.into())).await.map_err(|_| Gone)
    }

    /// A picture with the message before it.
    pub(super) async fn picture(&mut self, text: String, bytes: Bytes) -> Result<(), Gone> {
        // Where there is always something to send nobody waits: whoever only listens is asked here.
        if self.ping.tick().now_or_never().is_some() {
            self.sink.feed(Message::Ping(Bytes::new())).await.map_err(|_| Gone)?;
        }
        self.sink.feed(Message::Text(text.into())).await.map_err(|_| Gone)?;
        self.sink.send(Message::Binary(bytes)).await.map_err(|_| Gone)?;
        self.sent.0.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Waits for `work`, and shows the other end meanwhile that somebody is here.
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

    /// Says good-bye, and why.
    pub(super) async fn close(&mut self, code: u16, reason: &'static str) {
        let _ = self.sink.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
    }
}
