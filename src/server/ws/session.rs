//! One client's WebSocket: what it says becomes the agenda, and the agenda is worked off.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::ws::{Message, WebSocket, close_code};
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use tokio::time::timeout;

use super::agenda::{Agenda, Job, Work};
use super::outlet::{Gone, Outlet};
use super::protocol::{Incoming, OVERLOADED, Outgoing, Wish, failed};
use crate::picture::Fit;
use crate::server::Shared;
use crate::server::admission::Client;
use crate::server::http::{quality, shape};
use crate::server::videos::Opened;

/// Messages that made no sense before a client is sent away.
const COMPLAINTS: u32 = 100;
/// Pings that may go without any answer.
const PINGS: u32 = 3;

/// See the module.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) client: Client,
    pub(super) agenda: Agenda,
}

/// Why nothing more is read.
enum Over {
    /// The client has gone, or said good-bye.
    Gone,
    /// The server ends.
    Draining,
    /// The client is sent away.
    Refused(u16, &'static str),
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, client: Client) -> Session {
        Session { shared, client, agenda: Agenda::default() }
    }

    pub(super) async fn run(self, socket: WebSocket) {
        let (sink, stream) = socket.split();
        let mut outlet = Outlet::new(sink, self.shared.config.ping);
        let over = {
            let mut work = std::pin::pin!(self.work(&mut outlet));
            tokio::select! {
                over = self.read(stream) => match over {
                    // What was asked for before is still answered.
                    Over::Draining => {
                        self.agenda.close();
                        let _ = work.await;
                        Over::Refused(close_code::AWAY, "the server is ending")
                    }
                    over => over,
                },
                _ = &mut work => Over::Gone,
            }
        };
        match over {
            Over::Refused(code, reason) => outlet.close(code, reason).await,
            Over::Gone | Over::Draining => {}
        }
        tracing::debug!(left = self.agenda.outstanding(), "WebSocket closed");
    }

    /// Reads until there is no more to read.
    async fn read(&self, mut stream: SplitStream<WebSocket>) -> Over {
        let config = &self.shared.config;
        let mut draining = self.shared.draining.subscribe();
        let (mut complaints, mut spoken) = (0, Instant::now());
        loop {
            // Who asks for more than is answered is not listened to until it is.
            tokio::select! {
                () = self.agenda.has_room(config.frames) => {}
                _ = draining.wait_for(|draining| *draining) => return Over::Draining,
            }
            let next = tokio::select! {
                next = timeout(config.ping * PINGS, stream.next()) => next,
                _ = draining.wait_for(|draining| *draining) => return Over::Draining,
            };
            let message = match next {
                Err(_) => return Over::Refused(close_code::POLICY, "nobody answers"),
                Ok(None | Some(Ok(Message::Close(_)))) => return Over::Gone,
                Ok(Some(Err(error))) => return refused(&error),
                Ok(Some(Ok(message))) => message,
            };
            let told = match message {
                Message::Text(text) => self.hear(text.as_str()),
                Message::Binary(_) => Err("messages are JSON text".to_owned()),
                _ if spoken.elapsed() > config.idle_timeout && self.agenda.outstanding() == 0 => {
                    return Over::Refused(close_code::POLICY, "nothing was asked for in a long time");
                }
                _ => continue,
            };
            spoken = Instant::now();
            if let Err(message) = told {
                complaints += 1;
                if complaints > COMPLAINTS {
                    return Over::Refused(close_code::POLICY, "too many messages that make no sense");
                }
                self.agenda.complain(message);
            }
        }
    }

    /// Puts what the client says on the agenda.
    fn hear(&self, text: &str) -> Result<(), String> {
        let config = &self.shared.config;
        match serde_json::from_str(text).map_err(|error| format!("this makes no sense: {error}"))? {
            Incoming::SetVideo { path } => self.agenda.set_video(path),
            Incoming::Cancel => self.agenda.cancel(),
            Incoming::RequestFrames { frames, order, width, height, quality: wanted } => {
                let shape = shape(config, width, height, Fit::Contain).map_err(|problem| problem.detail)?;
                let quality = quality(config, wanted).map_err(|problem| problem.detail)?;
                let mut wishes: std::collections::VecDeque<Wish> =
                    frames.iter().enumerate().map(|(place, entry)| Wish::read(entry, place)).collect();
                wishes.iter_mut().skip(config.frames).for_each(|wish| wish.target = Err(OVERLOADED));
                self.agenda.ask(Job { wishes, order, shape, quality });
            }
        }
        Ok(())
    }

    /// Works the agenda off.
    async fn work(&self, outlet: &mut Outlet) -> Result<(), Gone> {
        let mut video: Option<Opened> = None;
        loop {
            let most = self.longest_portion();
            match outlet.while_waiting(self.agenda.next(most)).await? {
                Work::End => return Ok(()),
                Work::Complain(message) => outlet.text(Outgoing::Error { message: &message }.text()).await?,
                Work::Refuse(wish, word) => self.fail(outlet, &wish, word, None).await?,
                Work::SetVideo(path) => self.set_video(outlet, &mut video, &path).await?,
                Work::Portion(portion) => self.answer(outlet, &mut video, portion).await?,
            }
        }
    }

    async fn set_video(&self, outlet: &mut Outlet, video: &mut Option<Opened>, path: &str) -> Result<(), Gone> {
        let open = self.shared.videos.open(path, self.shared.config.deadline);
        let error = match outlet.while_waiting(open).await? {
            Ok(opened) => {
                *video = Some(opened);
                None
            }
            Err(problem) => {
                // Frames that are asked for now are not the old one's.
                *video = None;
                Some(problem.detail)
            }
        };
        outlet.text(Outgoing::VideoSet { path, ok: error.is_none(), error }.text()).await
    }

    /// The answer to a wish that is not fulfilled.
    pub(super) async fn fail(
        &self,
        outlet: &mut Outlet,
        wish: &Wish,
        word: super::protocol::Word,
        message: Option<String>,
    ) -> Result<(), Gone> {
        self.shared.metrics.frame(word);
        if word == OVERLOADED {
            self.shared.metrics.rejected("queue");
        }
        outlet.text(failed(wish, word, message)).await?;
        self.agenda.answered();
        Ok(())
    }
}

/// What is said to somebody whose message could not be read.
fn refused(error: &axum::Error) -> Over {
    let text = error.to_string();
    if text.contains("too long") || text.contains("too big") || text.contains("Space limit") {
        return Over::Refused(close_code::SIZE, "the message is too long");
    }
    Over::Gone
}
