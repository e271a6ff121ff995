//! Clients over WebSocket: each sets a video, requests some batches of frames, and sets another video. Every frame must
//! get one response, in the order of the requests.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::expected::Sum;
use crate::load::Load;

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Batches of one video.
const BATCHES: usize = 8;
/// Wait of a client that was refused.
const AGAIN: Duration = Duration::from_secs(1);

/// A connection to `/ws`.
pub(crate) async fn connect(load: &Load) -> Result<Socket, Error> {
    let mut request = format!("ws://{}/ws", load.plan.authority()).into_client_request()?;
    if let Some(value) = load.plan.token.as_ref().and_then(|token| format!("Bearer {token}").parse().ok()) {
        request.headers_mut().insert("authorization", value);
    }
    tokio_tungstenite::connect_async_with_config(request, None, true).await.map(|(socket, _)| socket)
}

/// Requests random frames until the time is up.
pub(crate) async fn client(load: Arc<Load>, mut random: Rng) {
    while load.goes_on() {
        let requested_at = Instant::now();
        match timeout(load.plan.timeout, connect(&load)).await {
            Ok(Ok(mut socket)) => {
                let mut tag = 0;
                while load.goes_on() && video(&load, &mut socket, &mut random, &mut tag).await.is_ok() {}
                let _ = timeout(Duration::from_secs(1), socket.close(None)).await;
                continue;
            }
            Ok(Err(Error::Http(response))) if response.status() == 503 => load.counts.refused(requested_at),
            Ok(Err(Error::Http(response))) => {
                load.counts.other(format!("status {} at /ws", response.status().as_u16()))
            }
            Ok(Err(_)) => load.counts.lost(requested_at, "no connection to /ws"),
            Err(_) => load.counts.lost(requested_at, "no connection to /ws in time"),
        }
        sleep(AGAIN).await;
    }
}

/// A session has ended with an error, which is counted already.
struct SessionEnded;

/// Requests some batches of one video. No tag is used twice: else a second response could pass for that to another
/// request.
async fn video(load: &Load, socket: &mut Socket, random: &mut Rng, tag: &mut u64) -> Result<(), SessionEnded> {
    let video = random.usize(..load.videos.len());
    let name = &load.videos[video].name;
    let sent = Instant::now();
    let set = async {
        say(socket, &json!({"type": "SetVideo", "path": name})).await?;
        text(load, socket).await
    };
    let reply = set.await.map_err(|why| {
        load.counts.lost(sent, &why);
        SessionEnded
    })?;
    if reply["type"] != "VideoSet" || reply["ok"] != true {
        load.counts.other(format!("SetVideo {name}: {reply}"));
        return Ok(());
    }
    for _ in 0..BATCHES {
        if !load.goes_on() {
            break;
        }
        let frames = &load.videos[video].frames;
        let expected: VecDeque<(u32, Sum)> =
            (0..random.usize(1..=load.plan.batch)).map(|_| frames[random.usize(..frames.len())]).collect();
        batch(load, socket, expected, tag).await?;
        sleep(load.plan.pause).await;
    }
    Ok(())
}

async fn batch(
    load: &Load,
    socket: &mut Socket,
    mut expected: VecDeque<(u32, Sum)>,
    tag: &mut u64,
) -> Result<(), SessionEnded> {
    let frame = |(tag, (frame, _)): (u64, &(u32, Sum))| json!({"frame": frame, "index": tag});
    let frames: Vec<Value> = (*tag..).zip(&expected).map(frame).collect();
    let mut ask = json!({"type": "RequestFrames", "frames": frames, "order": "fifo", "quality": load.plan.quality});
    load.plan.width.iter().for_each(|width| ask["width"] = json!(width));
    let (sent, count) = (Instant::now(), expected.len());
    let lost = |left: usize, why: &str| {
        (0..left).for_each(|_| load.counts.lost(sent, why));
        SessionEnded
    };
    say(socket, &ask).await.map_err(|why| lost(count, &why))?;
    let mut is_full = false;
    while let Some(frame) = expected.front().copied() {
        let reply = text(load, socket).await.map_err(|why| lost(expected.len(), &why))?;
        if reply["index"].as_u64() != Some(*tag) {
            // Later responses can no longer be matched to requests.
            load.counts.other(format!("{} out of order", reply["type"]));
            return Err(SessionEnded);
        }
        match reply["type"].as_str() {
            Some("Frame") => {
                let still = next(load, socket).await.map_err(|why| lost(expected.len(), &why))?;
                let Message::Binary(bytes) = still else {
                    return Err(lost(expected.len(), "a Frame without its still"));
                };
                let number = reply["frame"].as_u64().and_then(|frame| u32::try_from(frame).ok());
                load.counts.still(number, frame, &bytes, sent.elapsed());
            }
            Some("FrameError") if reply["error"] == "overloaded" => {
                is_full = true;
                load.counts.refused(sent);
            }
            Some("FrameError") if load.counts.is_ending(sent) => load.counts.refused(sent),
            Some("FrameError") => load.counts.other(format!("FrameError {}", reply["error"])),
            _ => load.counts.other(format!("a message of type {}", reply["type"])),
        }
        expected.pop_front();
        *tag += 1;
    }
    if is_full {
        sleep(AGAIN).await;
    }
    Ok(())
}

/// Sends a message.
pub(crate) async fn say(socket: &mut Socket, what: &Value) -> Result<(), String> {
    socket.send(Message::text(what.to_string())).await.map_err(|_| "the connection broke".to_owned())
}

async fn text(load: &Load, socket: &mut Socket) -> Result<Value, String> {
    match next(load, socket).await? {
        Message::Text(text) => serde_json::from_str(&text).map_err(|_| "text that is no JSON".to_owned()),
        _ => Err("a still without its Frame".to_owned()),
    }
}

/// The next text or binary message.
async fn next(load: &Load, socket: &mut Socket) -> Result<Message, String> {
    loop {
        match timeout(load.plan.timeout, socket.next()).await {
            Err(_) => return Err("no answer in time".to_owned()),
            Ok(Some(Ok(message @ (Message::Text(_) | Message::Binary(_))))) => return Ok(message),
            Ok(Some(Ok(Message::Close(_))) | None) => return Err("the server closed the connection".to_owned()),
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(_))) => return Err("the connection broke".to_owned()),
        }
    }
}
