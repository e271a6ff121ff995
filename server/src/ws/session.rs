//! The session of one WebSocket: reads messages into the request queue, and processes the queue.

use std::collections::VecDeque;
use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, WebSocket, close_code};
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use tokio::time::timeout;

use super::protocol::{ClientMessage, FrameErrorCode, QueueItem, ServerMessage, error_message, number, on_damage};
use super::request_queue::{RequestQueue, SessionTask, SocketRequest};
use super::writer::{ClientGone, SentCount, SocketWriter};
use crate::admission::RequestClient;
use crate::auth::Principal;
use crate::limits::{quality, shape};
use crate::problem::Problem;
use crate::server_state::ServerState;
use crate::videos::OpenVideo;
use bucket_streamer::pixels::{Fit, Shape};

/// Invalid messages after which the session ends.
const INVALID_MESSAGES: u32 = 100;
/// Ping intervals without any message after which the client counts as disconnected.
const PINGS: u32 = 3;
/// Most bytes of a video's name.
const LONGEST_PATH: usize = 4096;
/// Most characters of an error about an invalid message: it may repeat parts of the message.
const LONGEST_ERROR: usize = 200;
/// Frames above the limit of one message get one error each, up to this multiple of the limit.
const SURPLUS: usize = 4;
/// Time for the client to read the last messages.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// A session; see the module.
pub(super) struct SocketSession {
    pub(super) shared: Arc<ServerState>,
    pub(super) client: RequestClient,
    principal: Principal,
    pub(super) queue: RequestQueue,
    sent: SentCount,
}

/// An error of a message of the client.
enum MessageError {
    Invalid(String),
    /// The message has too many frames for one error each.
    TooManyFrames,
}

/// The reason why reading ends.
enum SessionEnd {
    /// The client has disconnected, or has closed the connection.
    Gone,
    /// The server shuts down.
    Draining,
    /// The server closes the connection, with this code and reason.
    Close(u16, &'static str),
}

impl SocketSession {
    pub(super) fn new(shared: Arc<ServerState>, client: RequestClient, principal: Principal) -> SocketSession {
        SocketSession { shared, client, principal, queue: RequestQueue::default(), sent: SentCount::default() }
    }

    pub(super) async fn run(self, socket: WebSocket) {
        let (sink, mut stream) = socket.split();
        let mut writer = SocketWriter::new(sink, self.shared.config.ping, &self.sent);
        let end = {
            let mut work = std::pin::pin!(self.process(&mut writer));
            tokio::select! {
                over = self.read(&mut stream) => match over {
                    // Requests in the queue are still answered.
                    SessionEnd::Draining => {
                        self.queue.close();
                        let _ = work.await;
                        SessionEnd::Close(close_code::AWAY, "the server is shutting down")
                    }
                    over => over,
                },
                _ = &mut work => SessionEnd::Gone,
            }
        };
        if let SessionEnd::Close(code, reason) = end {
            writer.close(code, reason).await;
        }
        // Further input is read and dropped: closing a socket with unread input resets the connection, and the client
        // may lose the last messages. Reading also answers the client's close message.
        let _ = timeout(CLOSE_GRACE, async { while let Some(Ok(_)) = stream.next().await {} }).await;
        tracing::debug!(left = self.queue.outstanding(), "WebSocket closed");
    }

    /// Reads messages until the session ends.
    async fn read(&self, stream: &mut SplitStream<WebSocket>) -> SessionEnd {
        let config = &self.shared.config;
        let mut draining = self.shared.draining.subscribe();
        let (mut invalid_messages, mut last_message, mut sent) = (0, Instant::now(), 0);
        loop {
            let next = tokio::select! {
                next = timeout(config.ping * PINGS, stream.next()) => next,
                _ = draining.wait_for(|draining| *draining) => return SessionEnd::Draining,
            };
            let message = match next {
                // The client still reads pictures: it has not reached the last pings yet.
                Err(_) if self.sent.count() > sent => {
                    sent = self.sent.count();
                    continue;
                }
                Err(_) => return SessionEnd::Close(close_code::POLICY, "the client does not answer pings"),
                Ok(None | Some(Ok(Message::Close(_)))) => return SessionEnd::Gone,
                Ok(Some(Err(error))) => return end_after(&error),
                Ok(Some(Ok(message))) => message,
            };
            let result = match message {
                Message::Text(text) => tokio::select! {
                    result = self.enqueue(text.as_str()) => result,
                    _ = draining.wait_for(|draining| *draining) => return SessionEnd::Draining,
                },
                Message::Binary(_) => Err(MessageError::Invalid("messages must be JSON text".to_owned())),
                _ if last_message.elapsed() > config.idle_timeout && self.queue.outstanding() == 0 => {
                    return SessionEnd::Close(close_code::POLICY, "the connection was idle for too long");
                }
                _ => continue,
            };
            last_message = Instant::now();
            match result {
                Ok(()) => {}
                Err(MessageError::TooManyFrames) => {
                    return SessionEnd::Close(close_code::POLICY, "too many frames in one message");
                }
                Err(MessageError::Invalid(message)) => {
                    invalid_messages += 1;
                    if invalid_messages > INVALID_MESSAGES {
                        return SessionEnd::Close(close_code::POLICY, "too many invalid messages");
                    }
                    self.queue.push_error(message.chars().take(LONGEST_ERROR).collect());
                }
            }
        }
    }

    /// Parses a message and adds it to the queue; waits until the queue has room.
    async fn enqueue(&self, text: &str) -> Result<(), MessageError> {
        let config = &self.shared.config;
        let parsed = serde_json::from_str(text);
        match parsed.map_err(|error| MessageError::Invalid(format!("invalid message: {error}")))? {
            ClientMessage::SetVideo { path } if path.len() > LONGEST_PATH => {
                return Err(MessageError::Invalid("the video's name is too long".to_owned()));
            }
            ClientMessage::SetVideo { path } => {
                self.queue.wait_for_room(config.frames).await;
                self.queue.set_video(path);
            }
            ClientMessage::Cancel => self.queue.cancel(),
            ClientMessage::RequestFrames {
                frames,
                order,
                width,
                height,
                quality: quality_value,
                on_damage: policy,
            } => {
                if frames.len() > SURPLUS * config.frames {
                    return Err(MessageError::TooManyFrames);
                }
                let mut items: VecDeque<QueueItem> =
                    frames.iter().enumerate().map(|(place, entry)| QueueItem::parse(entry, place)).collect();
                drop(frames);
                items.iter_mut().skip(config.frames).for_each(|item| item.locator = Err(FrameErrorCode::Overloaded));
                let form = (|| {
                    let (width, height) = (number("width", &width)?, number("height", &height)?);
                    let shape = shape(config, width, height, Fit::Contain).map_err(|problem| problem.detail)?;
                    let jpeg_quality =
                        quality(config, number("quality", &quality_value)?).map_err(|problem| problem.detail)?;
                    Ok((shape, jpeg_quality, on_damage(&policy)?.unwrap_or(config.on_damage)))
                })();
                let (shape, quality, on_damage) = form.unwrap_or_else(|message: String| {
                    self.queue.push_error(message);
                    items.iter_mut().for_each(|item| item.locator = Err(FrameErrorCode::DecodeFailed));
                    (Shape { width: None, height: None, fit: Fit::Contain }, config.jpeg_quality, config.on_damage)
                });
                self.queue.wait_for_room(config.frames).await;
                self.queue.push(SocketRequest { items, order, shape, quality, on_damage });
            }
        }
        Ok(())
    }

    /// Processes the queue until it is closed and empty.
    async fn process(&self, writer: &mut SocketWriter<'_>) -> Result<(), ClientGone> {
        let mut video: Option<OpenVideo> = None;
        loop {
            match writer.while_waiting(self.queue.next()).await? {
                SessionTask::End => return Ok(()),
                SessionTask::Error(message) => writer.text(ServerMessage::Error { message: &message }.text()).await?,
                SessionTask::Refuse(item, code) => self.fail(writer, &item, code, None).await?,
                SessionTask::SetVideo(path) => self.set_video(writer, &mut video, &path).await?,
                SessionTask::Batch(batch) => self.answer(writer, &mut video, batch).await?,
            }
        }
    }

    /// Opens a video by name, if the session's principal may open it.
    pub(super) async fn open(&self, name: &str) -> Result<OpenVideo, Problem> {
        let permitted = self.shared.permit(&self.principal, name)?;
        self.shared.videos.open(permitted, &self.client, self.shared.config.deadline).await
    }

    async fn set_video(
        &self,
        writer: &mut SocketWriter<'_>,
        video: &mut Option<OpenVideo>,
        path: &str,
    ) -> Result<(), ClientGone> {
        let error = match writer.while_waiting(self.open(path)).await? {
            Ok(opened) => {
                *video = Some(opened);
                None
            }
            Err(problem) => {
                // Later items must not get frames of the previous video.
                *video = None;
                Some(problem.detail)
            }
        };
        writer.text(ServerMessage::VideoSet { path, ok: error.is_none(), error }.text()).await
    }

    /// Answers an item with an error.
    pub(super) async fn fail(
        &self,
        writer: &mut SocketWriter<'_>,
        item: &QueueItem,
        code: FrameErrorCode,
        message: Option<String>,
    ) -> Result<(), ClientGone> {
        self.shared.metrics.frame(code.name());
        if code == FrameErrorCode::Overloaded {
            self.shared.metrics.rejected("queue");
        }
        writer.text(error_message(item, code, message)).await?;
        self.queue.mark_answered();
        Ok(())
    }
}

/// The end of a session after a read error.
fn end_after(error: &axum::Error) -> SessionEnd {
    match error.source().and_then(|source| source.downcast_ref()) {
        Some(tungstenite::Error::Capacity(_)) => SessionEnd::Close(close_code::SIZE, "the message is too long"),
        _ => SessionEnd::Gone,
    }
}
