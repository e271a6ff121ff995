//! A server that speaks the protocols of `bucket-streamer serve`, correctly or with one fault. Its stills are made
//! beforehand, its one video is `cams/clip.mp4`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path as At, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use bucket_streamer::Engine;
use bucket_streamer::still::StillMaker;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

pub const VIDEO: &str = "cams/clip.mp4";

/// The fault of a mock; for frames, in every third request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    None,
    /// Returns the next frame, with that number.
    NextFrame,
    /// Returns the next frame, with the requested number.
    NextPicture,
    /// Reports overload, with Retry-After.
    Full,
    /// Reports overload.
    FullForever,
    /// Does not answer.
    Silent,
    /// Answers twice.
    Twice,
    /// Answers after a later request.
    Swapped,
    /// Disconnects in the middle of a body or a session.
    Gone,
    /// Reports a decoding error.
    Failing,
    /// Returns a still of another length than announced.
    Short,
    /// Takes this many milliseconds per answer.
    Slow(u64),
    /// No fault, but a token is required.
    Closed,
}

struct Mock {
    lie: Lie,
    stills: Vec<Bytes>,
    offsets: HashMap<u64, usize>,
    /// Time and sync flag of each frame.
    told: Vec<(i64, bool)>,
    asked: AtomicU64,
    connections: AtomicU64,
    /// The requests, as received.
    seen: Mutex<Vec<String>>,
}

/// Listens on a port of its own until it is dropped.
pub struct MockServer {
    pub address: SocketAddr,
    mock: Arc<Mock>,
    _runtime: Runtime,
}

impl MockServer {
    pub fn start(clip: &Path, lie: Lie) -> MockServer {
        let video = Engine::new(Some(1)).open_path(clip).expect("a clip");
        let (options, mut maker) = (video.still_options(), StillMaker::new().expect("memory"));
        let mut stills = vec![Bytes::new(); video.frame_count()];
        let played = video.play(&mut |frame| {
            let mut still = Vec::new();
            maker.encode(&frame.picture, &options, &mut still).expect("a still");
            stills[frame.index as usize] = still.into();
            ControlFlow::Continue(())
        });
        played.expect("to play");
        let track = video.track();
        let offset = |(frame, &sample): (usize, &u32)| (track.samples[sample as usize].offset, frame);
        let offsets = track.frames.iter().enumerate().map(offset).collect();
        let told = track.frames.iter().map(|&sample| &track.samples[sample as usize]);
        let told = told.map(|sample| (sample.pts, sample.key)).collect();
        let (asked, connections) = (AtomicU64::new(0), AtomicU64::new(0));
        let mock = Arc::new(Mock { lie, stills, offsets, told, asked, connections, seen: Mutex::default() });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new()
            .route("/videos", get(videos))
            .route("/videos/{*video}", get(info))
            .route("/frame/{*video}", get(frame))
            .route("/ws", get(ws))
            .with_state(Arc::clone(&mock));
        // Without this the still, a second packet, would wait for the acknowledgement of its head.
        let listener = listener.tap_io(|stream| _ = stream.set_nodelay(true));
        runtime.spawn(async move { axum::serve(listener, router).await });
        MockServer { address, mock, _runtime: runtime }
    }

    pub fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// WebSocket connections so far.
    pub fn connections(&self) -> u64 {
        self.mock.connections.load(SeqCst)
    }

    /// Queries and messages since the last call.
    pub fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.mock.seen.lock().expect("no panic"))
    }
}

type Shared = State<Arc<Mock>>;

async fn videos(State(mock): Shared, headers: HeaderMap) -> Response {
    if mock.lie == Lie::Closed && headers.get("authorization").is_none_or(|value| value != "Bearer token") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    axum::Json(json!({"videos": [{"video": VIDEO}, {"video": "other.mp4"}]})).into_response()
}

async fn info(State(mock): Shared, At(video): At<String>, headers: HeaderMap) -> Response {
    if mock.lie == Lie::Closed && headers.get("authorization").is_none_or(|value| value != "Bearer token") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if video != VIDEO {
        return StatusCode::NOT_FOUND.into_response();
    }
    let info = json!({"version": 1, "frames": mock.stills.len(), "container": "mp4", "codec": "hevc", "width": 320,
        "height": 180, "pixel_format": "yuv420p", "keyframes": 2});
    axum::Json(info).into_response()
}

impl Mock {
    /// Whether the fault applies to this request.
    fn lies(&self) -> bool {
        self.asked.fetch_add(1, SeqCst) % 3 == 2
    }

    async fn pause(&self) {
        if let Lie::Slow(milliseconds) = self.lie {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        }
    }

    /// The announced number of a frame, and its still.
    fn still(&self, frame: usize, lies: bool) -> (usize, Bytes) {
        let next = (frame + 1) % self.stills.len();
        match self.lie {
            Lie::NextFrame if lies => (next, self.stills[next].clone()),
            Lie::NextPicture if lies => (frame, self.stills[next].clone()),
            Lie::Short if lies => (frame, self.stills[frame].slice(..100)),
            _ => (frame, self.stills[frame].clone()),
        }
    }
}

async fn frame(State(mock): Shared, Query(query): Query<HashMap<String, String>>) -> Response {
    mock.seen.lock().expect("no panic").push(format!("{query:?}"));
    let Some(frame) = query.get("frame").and_then(|frame| frame.parse::<usize>().ok()) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    if frame >= mock.stills.len() {
        let problem = json!({"type": "about:blank", "title": "There is no such frame", "status": 404});
        return (StatusCode::NOT_FOUND, axum::Json(problem)).into_response();
    }
    mock.pause().await;
    let lies = mock.lies();
    match mock.lie {
        Lie::Full if lies => return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "2")]).into_response(),
        Lie::FullForever if lies => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Lie::Failing if lies => return StatusCode::UNPROCESSABLE_ENTITY.into_response(),
        Lie::Silent if lies => std::future::pending().await,
        _ => {}
    }
    let (index, still) = mock.still(frame, lies);
    let headers = [
        ("content-type", "image/jpeg".to_owned()),
        ("x-frame-index", index.to_string()),
        ("x-frame-pts", mock.told[index].0.to_string()),
        ("server-timing", "queue;dur=0.25, fetch;dur=1, decode;dur=8.5, encode;dur=2".to_owned()),
    ];
    if mock.lie == Lie::Gone && lies {
        let half = still.slice(..still.len() / 2);
        let broken = std::io::Error::other("gone");
        let parts = futures_util::stream::iter([Ok(half), Err(broken)]);
        return (headers, Body::from_stream(parts)).into_response();
    }
    (headers, still).into_response()
}

async fn ws(State(mock): Shared, upgrade: WebSocketUpgrade) -> Response {
    mock.connections.fetch_add(1, SeqCst);
    upgrade.on_upgrade(async move |socket| _ = session(&mock, socket).await)
}

/// Runs until either side ends; `None` then.
async fn session(mock: &Mock, mut socket: WebSocket) -> Option<()> {
    let mut later: Option<(u64, usize)> = None;
    loop {
        let Message::Text(text) = socket.recv().await?.ok()? else { continue };
        mock.seen.lock().expect("no panic").push(text.to_string());
        let Ok(message) = serde_json::from_str::<Value>(&text) else {
            tell(&mut socket, &json!({"type": "Error", "message": "no JSON"})).await?;
            continue;
        };
        if message["type"] == "SetVideo" {
            let told = match message["path"] == VIDEO {
                true => json!({"type": "VideoSet", "path": VIDEO, "ok": true}),
                false => json!({"type": "VideoSet", "path": message["path"], "ok": false, "error": "not_found"}),
            };
            tell(&mut socket, &told).await?;
            continue;
        }
        if message["type"] != "RequestFrames" {
            tell(&mut socket, &json!({"type": "Error", "message": "no such type"})).await?;
            continue;
        }
        for (place, wish) in message["frames"].as_array().into_iter().flatten().enumerate() {
            let tag = wish["index"].as_u64().unwrap_or(place as u64);
            let by_offset = wish["offset"].as_u64().map(|offset| mock.offsets.get(&offset).copied());
            let frame = by_offset.unwrap_or_else(|| wish["frame"].as_u64().map(|frame| frame as usize));
            let Some(frame) = frame.filter(|&frame| frame < mock.stills.len()) else {
                let error = if by_offset.is_some() { "bad_offset" } else { "not_found" };
                let told = json!({"type": "FrameError", "index": tag, "offset": wish["offset"], "error": error});
                tell(&mut socket, &told).await?;
                continue;
            };
            mock.pause().await;
            let lies = mock.lies();
            match mock.lie {
                Lie::Silent if lies => {}
                Lie::Gone if lies => return None,
                Lie::Swapped if lies => later = Some((tag, frame)),
                Lie::Failing if lies => {
                    tell(&mut socket, &json!({"type": "FrameError", "index": tag, "error": "decode_failed"})).await?;
                }
                Lie::Full if lies => {
                    tell(&mut socket, &json!({"type": "FrameError", "index": tag, "error": "overloaded"})).await?;
                }
                Lie::Twice if lies => {
                    still(mock, &mut socket, tag, frame, lies).await?;
                    still(mock, &mut socket, tag, frame, lies).await?;
                }
                _ => still(mock, &mut socket, tag, frame, lies).await?,
            }
            if let Some((tag, frame)) = later.take_if(|_| !lies) {
                still(mock, &mut socket, tag, frame, false).await?;
            }
        }
    }
}

async fn tell(socket: &mut WebSocket, what: &Value) -> Option<()> {
    socket.send(Message::Text(what.to_string().into())).await.ok()
}

async fn still(mock: &Mock, socket: &mut WebSocket, tag: u64, frame: usize, lies: bool) -> Option<()> {
    let (told, still) = mock.still(frame, lies);
    let offset = mock.offsets.iter().find(|entry| *entry.1 == told).map(|entry| *entry.0);
    let size = if mock.lie == Lie::Short { mock.stills[told].len() } else { still.len() };
    let header = json!({"type": "Frame", "index": tag, "offset": offset, "size": size,
        "frame": told, "pts": mock.told[told].0, "time_s": 0.0, "key": mock.told[told].1});
    tell(socket, &header).await?;
    socket.send(Message::Binary(still)).await.ok()
}
