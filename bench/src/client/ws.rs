//! Callers over WebSocket: each has a connection, and keeps several requests outstanding. `session` interprets the
//! responses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use super::expected::{Spot, Sums};
use super::server::{Server, Socket, cause};
use super::session::{Ask, Session, Told};
use super::tally::Tally;
use super::tickets::{Ticket, Tickets};
use crate::args::{By, ClientArguments, Order};

/// Time for a server to send its last messages and to close.
const GOODBYE: Duration = Duration::from_secs(2);

/// State that all callers share.
pub(super) struct Asking {
    pub(super) server: Arc<Server>,
    pub(super) tickets: Tickets,
    pub(super) video: String,
    pub(super) arguments: ClientArguments,
    /// The offsets of samples, if requests name frames by them.
    pub(super) spots: Option<Arc<[Option<Spot>]>>,
    pub(super) known: Option<Arc<Sums>>,
}

/// A connection, with the video set.
///
/// # Errors
/// Why it failed, for the user.
pub(super) async fn connect(server: &Server, video: &str) -> Result<Socket, String> {
    let mut socket = server.socket().await?;
    send(&mut socket, &Ask::SetVideo { path: video }).await?;
    let answer = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return Err(ended(other)),
            }
        }
    };
    let answer = tokio::time::timeout(server.timeout, answer).await;
    let text = answer.map_err(|_| "no answer to SetVideo in time".to_owned())??;
    match serde_json::from_str(&text) {
        Ok(Told::VideoSet { ok: true, .. }) => Ok(socket),
        Ok(Told::VideoSet { error, .. }) => {
            let why = error.map_or_else(String::new, |error| error.as_str().map_or(error.to_string(), str::to_owned));
            Err(format!("the server does not set the video: {}", why.lines().next().unwrap_or_default()))
        }
        _ => Err("the server does not answer SetVideo with VideoSet".to_owned()),
    }
}

async fn send(socket: &mut Socket, ask: &Ask<'_>) -> Result<(), String> {
    let text = serde_json::to_string(ask).map_err(|error| error.to_string())?;
    socket.send(Message::text(text)).await.map_err(|error| cause(&error))
}

/// Describes the end of a connection.
fn ended(last: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>) -> String {
    match last {
        Some(Ok(Message::Close(Some(frame)))) => format!(
            "the server closed the connection ({} {})",
            u16::from(frame.code),
            frame.reason.lines().next().unwrap_or("")
        )
        .replace(" )", ")"),
        Some(Ok(Message::Close(None))) | None => "the server closed the connection".to_owned(),
        Some(Ok(_)) => "a message outside of the protocol".to_owned(),
        Some(Err(error)) => format!("the connection broke: {}", cause(&error)),
    }
}

impl Asking {
    /// Makes requests until there are no tickets left. A lost connection is made anew if there are more tickets.
    pub(super) async fn call(self: Arc<Asking>, first: Result<Socket, String>) -> Tally {
        let order = self.arguments.order.unwrap_or_default();
        let mut session = Session::new(order, self.server.timeout, self.known.as_deref());
        let mut socket = first.ok();
        session.tally.connections = u64::from(socket.is_some());
        let mut held = None;
        loop {
            held = held.or_else(|| self.tickets.take());
            let Some(ticket) = held.take() else { break };
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
            match self.converse(&mut open, &mut session, ticket, &mut held).await {
                Ok(()) => socket = Some(open),
                Err(why) => session.lost(&why),
            }
        }
        session.tally.ended = Some(Instant::now());
        if let Some(socket) = socket {
            goodbye(socket, &mut session).await;
        }
        session.tally
    }

    /// Sends and receives until there are no tickets and no outstanding requests, or until the connection is lost: then
    /// `held` is the ticket that was not sent.
    async fn converse(
        &self,
        socket: &mut Socket,
        session: &mut Session<'_>,
        first: Ticket,
        held: &mut Option<Ticket>,
    ) -> Result<(), String> {
        let most = self.arguments.pipeline.map_or(1, usize::from);
        *held = Some(first);
        loop {
            while let Some(ticket) = *held
                && session.waiting() < most
                && ticket.due.is_none_or(|due| due <= Instant::now())
            {
                *held = None;
                self.ask(socket, session, ticket).await?;
                *held = self.tickets.take();
            }
            if held.is_none() && session.waiting() == 0 {
                return Ok(());
            }
            let due = held.filter(|_| session.waiting() < most).and_then(|ticket| ticket.due);
            let wake = [due, session.deadline()].into_iter().flatten().min();
            let wake = wake.unwrap_or_else(|| Instant::now() + self.server.timeout);
            tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => session.text(&text),
                    Some(Ok(Message::Binary(bytes))) => session.binary(&bytes),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    other => return Err(ended(other)),
                },
                () = tokio::time::sleep_until(wake.into()) => session.expire(),
            }
        }
    }

    async fn ask(&self, socket: &mut Socket, session: &mut Session<'_>, ticket: Ticket) -> Result<(), String> {
        let is_by_offset = self.arguments.by == Some(By::Offset);
        let spots = self.spots.as_deref().filter(|_| is_by_offset);
        let spot = spots.and_then(|spots| spots.get(ticket.frame as usize).copied().flatten());
        let wish = session.ask(ticket, spot);
        let ClientArguments { width, height, order, .. } = self.arguments;
        let quality = self.arguments.quality();
        let order = if order == Some(Order::Latest) { "latest" } else { "fifo" };
        let irap_offset = spot.map(|spot| spot.irap_offset);
        send(socket, &Ask::RequestFrames { irap_offset, frames: [wish], order, width, height, quality }).await
    }
}

/// Closes a connection, and receives what was still in flight: duplicate responses, for example.
async fn goodbye(mut socket: Socket, session: &mut Session<'_>) {
    let listen = async {
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
    let _ = tokio::time::timeout(GOODBYE, listen).await;
}
