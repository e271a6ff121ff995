//! Callers over WebSocket: each has a connection, and keeps several requests outstanding. `session` interprets the
//! responses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use super::expected::{SampleOffsets, StillMd5s};
use super::server::{ServerEndpoint, Socket, root_cause};
use super::session::{WsClientMessage, WsClientSession, WsServerMessage};
use super::tally::ClientTally;
use super::tickets::{RequestTicket, RequestTickets};
use crate::args::{ClientArguments, FrameAddressing, QueuePolicy};

/// Time for a server to send its last messages and to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// State that all callers share.
pub(super) struct WsCallers {
    pub(super) server: Arc<ServerEndpoint>,
    pub(super) tickets: RequestTickets,
    pub(super) video: String,
    pub(super) arguments: ClientArguments,
    /// The offsets of samples, if requests name frames by them.
    pub(super) offsets: Option<Arc<[Option<SampleOffsets>]>>,
    pub(super) expected: Option<Arc<StillMd5s>>,
}

/// A connection, with the video set.
///
/// # Errors
/// The reason of the failure, as a message for the user.
pub(super) async fn connect(server: &ServerEndpoint, video: &str) -> Result<Socket, String> {
    let mut socket = server.socket().await?;
    send(&mut socket, &WsClientMessage::SetVideo { path: video }).await?;
    let answer = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return Err(describe_end(other)),
            }
        }
    };
    let answer = tokio::time::timeout(server.timeout, answer).await;
    let text = answer.map_err(|_| "no answer to SetVideo in time".to_owned())??;
    match serde_json::from_str(&text) {
        Ok(WsServerMessage::VideoSet { ok: true, .. }) => Ok(socket),
        Ok(WsServerMessage::VideoSet { error, .. }) => {
            let why = error.map_or_else(String::new, |error| error.as_str().map_or(error.to_string(), str::to_owned));
            Err(format!("the server does not set the video: {}", why.lines().next().unwrap_or_default()))
        }
        _ => Err("the server does not answer SetVideo with VideoSet".to_owned()),
    }
}

async fn send(socket: &mut Socket, message: &WsClientMessage<'_>) -> Result<(), String> {
    let text = serde_json::to_string(message).map_err(|error| error.to_string())?;
    socket.send(Message::text(text)).await.map_err(|error| root_cause(&error))
}

/// Describes the end of a connection.
fn describe_end(last: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>) -> String {
    match last {
        Some(Ok(Message::Close(Some(frame)))) => format!(
            "the server closed the connection ({} {})",
            u16::from(frame.code),
            frame.reason.lines().next().unwrap_or("")
        )
        .replace(" )", ")"),
        Some(Ok(Message::Close(None))) | None => "the server closed the connection".to_owned(),
        Some(Ok(_)) => "a message outside of the protocol".to_owned(),
        Some(Err(error)) => format!("the connection broke: {}", root_cause(&error)),
    }
}

impl WsCallers {
    /// Makes requests until there are no tickets left. A lost connection is replaced if there are more tickets.
    pub(super) async fn call(self: Arc<WsCallers>, first: Result<Socket, String>) -> ClientTally {
        let order = self.arguments.order.unwrap_or_default();
        let mut session = WsClientSession::new(order, self.server.timeout, self.expected.as_deref());
        let mut socket = first.ok();
        session.tally.connections = u64::from(socket.is_some());
        let mut unsent = None;
        loop {
            unsent = unsent.or_else(|| self.tickets.take());
            let Some(ticket) = unsent.take() else { break };
            let mut open = match socket.take() {
                Some(open) => open,
                None => match connect(&self.server, &self.video).await {
                    Ok(open) => {
                        session.tally.connections += 1;
                        open
                    }
                    Err(why) => {
                        session.tally.count("unconnected");
                        session.tally.error(ticket.place, ticket.frame, format!("no connection: {why}"));
                        continue;
                    }
                },
            };
            match self.exchange(&mut open, &mut session, ticket, &mut unsent).await {
                Ok(()) => socket = Some(open),
                Err(why) => session.lost(&why),
            }
        }
        session.tally.ended = Some(Instant::now());
        if let Some(socket) = socket {
            close_session(socket, &mut session).await;
        }
        session.tally
    }

    /// Sends and receives until there are no tickets and no outstanding requests, or until the connection is lost: then
    /// `unsent` is the ticket that was not sent.
    async fn exchange(
        &self,
        socket: &mut Socket,
        session: &mut WsClientSession<'_>,
        first: RequestTicket,
        unsent: &mut Option<RequestTicket>,
    ) -> Result<(), String> {
        let most = self.arguments.pipeline.map_or(1, usize::from);
        *unsent = Some(first);
        loop {
            while let Some(ticket) = *unsent
                && session.pending() < most
                && ticket.due.is_none_or(|due| due <= Instant::now())
            {
                *unsent = None;
                self.request_frame(socket, session, ticket).await?;
                *unsent = self.tickets.take();
            }
            if unsent.is_none() && session.pending() == 0 {
                return Ok(());
            }
            let due = unsent.filter(|_| session.pending() < most).and_then(|ticket| ticket.due);
            let wake = [due, session.deadline()].into_iter().flatten().min();
            let wake = wake.unwrap_or_else(|| Instant::now() + self.server.timeout);
            tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => session.text(&text),
                    Some(Ok(Message::Binary(bytes))) => session.binary(&bytes),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    other => return Err(describe_end(other)),
                },
                () = tokio::time::sleep_until(wake.into()) => session.expire(),
            }
        }
    }

    async fn request_frame(
        &self,
        socket: &mut Socket,
        session: &mut WsClientSession<'_>,
        ticket: RequestTicket,
    ) -> Result<(), String> {
        let is_by_offset = self.arguments.by == Some(FrameAddressing::Offset);
        let all_offsets = self.offsets.as_deref().filter(|_| is_by_offset);
        let offsets = all_offsets.and_then(|spots| spots.get(ticket.frame as usize).copied().flatten());
        let frame = session.register(ticket, offsets);
        let ClientArguments { width, height, order, .. } = self.arguments;
        let quality = self.arguments.quality();
        let order = if order == Some(QueuePolicy::Latest) { "latest" } else { "fifo" };
        let irap_offset = offsets.map(|spot| spot.irap_offset);
        send(socket, &WsClientMessage::RequestFrames { irap_offset, frames: [frame], order, width, height, quality })
            .await
    }
}

/// Closes a connection, and receives what was still in flight: duplicate responses, for example.
async fn close_session(mut socket: Socket, session: &mut WsClientSession<'_>) {
    let drain = async {
        if socket.close(None).await.is_err() {
            return;
        }
        while let Some(Ok(message)) = socket.next().await {
            match message {
                Message::Text(text) => session.text(&text),
                Message::Binary(bytes) => session.binary(&bytes),
                _ => {}
            }
        }
    };
    // A server that does not close in time is cut off.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, drain).await;
}
