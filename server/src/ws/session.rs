//! The session of one client's WebSocket: reads messages into the request queue, and processes the queue.

use std::collections::VecDeque;
use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, WebSocket, close_code};
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use tokio::time::timeout;

use super::agenda::{Agenda, Job, Work};
use super::outlet::{Gone, Outlet, Sent};
use super::protocol::{Incoming, Outgoing, Wish, Word, failed, number, on_damage};
use crate::admission::Client;
use crate::auth::Visitor;
use crate::limits::{quality, shape};
use crate::problem::Problem;
use crate::shared::Shared;
use crate::videos::Opened;
use bucket_streamer::pixels::{Fit, Shape};

/// Invalid messages after which the session ends.
const COMPLAINTS: u32 = 100;
/// Ping intervals without any message after which the client counts as gone.
const PINGS: u32 = 3;
/// Most bytes of a video's name.
const LONGEST_PATH: usize = 4096;
/// Most characters of an error about an invalid message: it may repeat the message.
const LONGEST_COMPLAINT: usize = 200;
/// Frames of one message beyond the limit still get one error each, up to this multiple of the limit.
const SURPLUS: usize = 4;
/// Time for the client to take the last messages.
const FAREWELL: Duration = Duration::from_secs(2);

/// A session; see the module.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) client: Client,
    visitor: Visitor,
    pub(super) agenda: Agenda,
    sent: Sent,
}

/// An error in a message.
enum Complaint {
    Of(String),
    /// Too many frames for one error each.
    TooMany,
}

/// The reason why reading ends.
enum Over {
    /// The client has gone, or has closed the connection.
    Gone,
    /// The server ends.
    Draining,
    /// The server closes the connection.
    Refused(u16, &'static str),
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, client: Client, visitor: Visitor) -> Session {
        Session { shared, client, visitor, agenda: Agenda::default(), sent: Sent::default() }
    }

    pub(super) async fn run(self, socket: WebSocket) {
        let (sink, mut stream) = socket.split();
        let mut outlet = Outlet::new(sink, self.shared.config.ping, &self.sent);
        let over = {
            let mut work = std::pin::pin!(self.work(&mut outlet));
            tokio::select! {
                over = self.read(&mut stream) => match over {
                    // Earlier requests are still answered.
                    Over::Draining => {
                        self.agenda.close();
                        let _ = work.await;
                        Over::Refused(close_code::AWAY, "the server is shutting down")
                    }
                    over => over,
                },
                _ = &mut work => Over::Gone,
            }
        };
        if let Over::Refused(code, reason) = over {
            outlet.close(code, reason).await;
        }
        // Further input is read and dropped: closing a socket with unread input resets the connection, and the last
        // messages are lost. The client's close message also gets its reply here.
        let _ = timeout(FAREWELL, async { while let Some(Ok(_)) = stream.next().await {} }).await;
        tracing::debug!(left = self.agenda.outstanding(), "WebSocket closed");
    }

    /// Reads messages until the session ends.
    async fn read(&self, stream: &mut SplitStream<WebSocket>) -> Over {
        let config = &self.shared.config;
        let mut draining = self.shared.draining.subscribe();
        let (mut complaints, mut spoken, mut sent) = (0, Instant::now(), 0);
        loop {
            let next = tokio::select! {
                next = timeout(config.ping * PINGS, stream.next()) => next,
                _ = draining.wait_for(|draining| *draining) => return Over::Draining,
            };
            let message = match next {
                // The client still takes pictures: its pongs may be stuck behind them.
                Err(_) if self.sent.count() > sent => {
                    sent = self.sent.count();
                    continue;
                }
                Err(_) => return Over::Refused(close_code::POLICY, "the client does not answer pings"),
                Ok(None | Some(Ok(Message::Close(_)))) => return Over::Gone,
                Ok(Some(Err(error))) => return refused(&error),
                Ok(Some(Ok(message))) => message,
            };
            let told = match message {
                Message::Text(text) => tokio::select! {
                    told = self.hear(text.as_str()) => told,
                    _ = draining.wait_for(|draining| *draining) => return Over::Draining,
                },
                Message::Binary(_) => Err(Complaint::Of("messages must be JSON text".to_owned())),
                _ if spoken.elapsed() > config.idle_timeout && self.agenda.outstanding() == 0 => {
                    return Over::Refused(close_code::POLICY, "the connection was idle for too long");
                }
                _ => continue,
            };
            spoken = Instant::now();
            match told {
                Ok(()) => {}
                Err(Complaint::TooMany) => return Over::Refused(close_code::POLICY, "too many frames in one message"),
                Err(Complaint::Of(message)) => {
                    complaints += 1;
                    if complaints > COMPLAINTS {
                        return Over::Refused(close_code::POLICY, "too many invalid messages");
                    }
                    self.agenda.complain(message.chars().take(LONGEST_COMPLAINT).collect());
                }
            }
        }
    }

    /// Adds a message to the queue; waits until the queue has room.
    async fn hear(&self, text: &str) -> Result<(), Complaint> {
        let config = &self.shared.config;
        let heard = serde_json::from_str(text);
        match heard.map_err(|error| Complaint::Of(format!("invalid message: {error}")))? {
            Incoming::SetVideo { path } if path.len() > LONGEST_PATH => {
                return Err(Complaint::Of("the video's name is too long".to_owned()));
            }
            Incoming::SetVideo { path } => {
                self.agenda.has_room(config.frames).await;
                self.agenda.set_video(path);
            }
            Incoming::Cancel => self.agenda.cancel(),
            Incoming::RequestFrames { frames, order, width, height, quality: wanted, on_damage: policy } => {
                if frames.len() > SURPLUS * config.frames {
                    return Err(Complaint::TooMany);
                }
                let mut wishes: VecDeque<Wish> =
                    frames.iter().enumerate().map(|(place, entry)| Wish::read(entry, place)).collect();
                drop(frames);
                wishes.iter_mut().skip(config.frames).for_each(|wish| wish.target = Err(Word::Overloaded));
                let asked = (|| {
                    let (width, height) = (number("width", &width)?, number("height", &height)?);
                    let shape = shape(config, width, height, Fit::Contain).map_err(|problem| problem.detail)?;
                    let wanted = quality(config, number("quality", &wanted)?).map_err(|problem| problem.detail)?;
                    Ok((shape, wanted, on_damage(&policy)?.unwrap_or(config.on_damage)))
                })();
                let (shape, quality, on_damage) = asked.unwrap_or_else(|message: String| {
                    self.agenda.complain(message);
                    wishes.iter_mut().for_each(|wish| wish.target = Err(Word::DecodeFailed));
                    (Shape { width: None, height: None, fit: Fit::Contain }, config.jpeg_quality, config.on_damage)
                });
                self.agenda.has_room(config.frames).await;
                self.agenda.ask(Job { wishes, order, shape, quality, on_damage });
            }
        }
        Ok(())
    }

    /// Processes the queue.
    async fn work(&self, outlet: &mut Outlet<'_>) -> Result<(), Gone> {
        let mut video: Option<Opened> = None;
        loop {
            match outlet.while_waiting(self.agenda.next()).await? {
                Work::End => return Ok(()),
                Work::Complain(message) => outlet.text(Outgoing::Error { message: &message }.text()).await?,
                Work::Refuse(wish, word) => self.fail(outlet, &wish, word, None).await?,
                Work::SetVideo(path) => self.set_video(outlet, &mut video, &path).await?,
                Work::Portion(portion) => self.answer(outlet, &mut video, portion).await?,
            }
        }
    }

    /// Opens a video by name, if this session may have it.
    pub(super) async fn open(&self, name: &str) -> Result<Opened, Problem> {
        let permitted = self.shared.permit(&self.visitor, name)?;
        self.shared.videos.open(permitted, &self.client, self.shared.config.deadline).await
    }

    async fn set_video(&self, outlet: &mut Outlet<'_>, video: &mut Option<Opened>, path: &str) -> Result<(), Gone> {
        let error = match outlet.while_waiting(self.open(path)).await? {
            Ok(opened) => {
                *video = Some(opened);
                None
            }
            Err(problem) => {
                // Frames that are requested from now on must not come from the old video.
                *video = None;
                Some(problem.detail)
            }
        };
        outlet.text(Outgoing::VideoSet { path, ok: error.is_none(), error }.text()).await
    }

    /// Sends the error of an item.
    pub(super) async fn fail(
        &self,
        outlet: &mut Outlet<'_>,
        wish: &Wish,
        word: Word,
        message: Option<String>,
    ) -> Result<(), Gone> {
        self.shared.metrics.frame(word.name());
        if word == Word::Overloaded {
            self.shared.metrics.rejected("queue");
        }
        outlet.text(failed(wish, word, message)).await?;
        self.agenda.answered();
        Ok(())
    }
}

/// How a session ends after a read error.
fn refused(error: &axum::Error) -> Over {
    match error.source().and_then(|source| source.downcast_ref()) {
        Some(tungstenite::Error::Capacity(_)) => Over::Refused(close_code::SIZE, "the message is too long"),
        _ => Over::Gone,
    }
}
