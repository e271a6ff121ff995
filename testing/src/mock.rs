//! A server with the protocols of `bucket-streamer serve`, correct or with one fault. Its stills are encoded at the
//! start, its one video is `cams/clip.mp4`.

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
pub enum MockFault {
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
    /// Delays each answer by this many milliseconds.
    Slow(u64),
    /// No fault, but a token is required.
    Closed,
}

struct Mock {
    fault: MockFault,
    stills: Vec<Bytes>,
    offsets: HashMap<u64, usize>,
    /// Time and sync flag of each frame.
    timing: Vec<(i64, bool)>,
    request_count: AtomicU64,
    connections: AtomicU64,
    /// The requests, as received.
    requests: Mutex<Vec<String>>,
}

/// Listens on a port of its own until it is dropped.
pub struct MockServer {
    pub address: SocketAddr,
    mock: Arc<Mock>,
    _runtime: Runtime,
}

impl MockServer {
    /// Decodes the frames of a clip to stills, and starts a server with them on a free port.
    pub fn start(clip: &Path, fault: MockFault) -> MockServer {
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
        let samples = track.frames.iter().map(|&sample| &track.samples[sample as usize]);
        let timing = samples.map(|sample| (sample.pts, sample.key)).collect();
        let (request_count, connections) = (AtomicU64::new(0), AtomicU64::new(0));
        let mock =
            Arc::new(Mock { fault, stills, offsets, timing, request_count, connections, requests: Mutex::default() });
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
        // With Nagle's algorithm the still, a second packet, would wait for the acknowledgement of its head.
        let listener = listener.tap_io(|stream| _ = stream.set_nodelay(true));
        runtime.spawn(async move { axum::serve(listener, router).await });
        MockServer { address, mock, _runtime: runtime }
    }

    /// The address of a path, which begins with a slash or is empty.
    pub fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The number of WebSocket connections since the start.
    pub fn connections(&self) -> u64 {
        self.mock.connections.load(SeqCst)
    }

    /// Removes and returns the queries and messages since the last call.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.mock.requests.lock().expect("no panic"))
    }
}

type MockState = State<Arc<Mock>>;

async fn videos(State(mock): MockState, headers: HeaderMap) -> Response {
    if mock.fault == MockFault::Closed && headers.get("authorization").is_none_or(|value| value != "Bearer token") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    axum::Json(json!({"videos": [{"video": VIDEO}, {"video": "other.mp4"}]})).into_response()
}

async fn info(State(mock): MockState, At(video): At<String>, headers: HeaderMap) -> Response {
    if mock.fault == MockFault::Closed && headers.get("authorization").is_none_or(|value| value != "Bearer token") {
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
    fn is_faulty(&self) -> bool {
        self.request_count.fetch_add(1, SeqCst) % 3 == 2
    }

    async fn pause(&self) {
        if let MockFault::Slow(milliseconds) = self.fault {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        }
    }

    /// The announced number of a frame, and its still.
    fn still(&self, frame: usize, is_faulty: bool) -> (usize, Bytes) {
        let next = (frame + 1) % self.stills.len();
        match self.fault {
            MockFault::NextFrame if is_faulty => (next, self.stills[next].clone()),
            MockFault::NextPicture if is_faulty => (frame, self.stills[next].clone()),
            MockFault::Short if is_faulty => (frame, self.stills[frame].slice(..100)),
            _ => (frame, self.stills[frame].clone()),
        }
    }
}

async fn frame(State(mock): MockState, Query(query): Query<HashMap<String, String>>) -> Response {
    mock.requests.lock().expect("no panic").push(format!("{query:?}"));
    let Some(frame) = query.get("frame").and_then(|frame| frame.parse::<usize>().ok()) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    if frame >= mock.stills.len() {
        let problem = json!({"type": "about:blank", "title": "There is no such frame", "status": 404});
        return (StatusCode::NOT_FOUND, axum::Json(problem)).into_response();
    }
    mock.pause().await;
    let is_faulty = mock.is_faulty();
    match mock.fault {
        MockFault::Full if is_faulty => {
            return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "2")]).into_response();
        }
        MockFault::FullForever if is_faulty => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        MockFault::Failing if is_faulty => return StatusCode::UNPROCESSABLE_ENTITY.into_response(),
        MockFault::Silent if is_faulty => std::future::pending().await,
        _ => {}
    }
    let (index, still) = mock.still(frame, is_faulty);
    let headers = [
        ("content-type", "image/jpeg".to_owned()),
        ("x-frame-index", index.to_string()),
        ("x-frame-pts", mock.timing[index].0.to_string()),
        ("server-timing", "queue;dur=0.25, fetch;dur=1, decode;dur=8.5, encode;dur=2".to_owned()),
    ];
    if mock.fault == MockFault::Gone && is_faulty {
        let half = still.slice(..still.len() / 2);
        let broken = std::io::Error::other("gone");
        let parts = futures_util::stream::iter([Ok(half), Err(broken)]);
        return (headers, Body::from_stream(parts)).into_response();
    }
    (headers, still).into_response()
}

async fn ws(State(mock): MockState, upgrade: WebSocketUpgrade) -> Response {
    mock.connections.fetch_add(1, SeqCst);
    upgrade.on_upgrade(async move |socket| _ = session(&mock, socket).await)
}

/// Runs until either side ends; `None` then.
async fn session(mock: &Mock, mut socket: WebSocket) -> Option<()> {
    let mut later: Option<(u64, usize)> = None;
    loop {
        let Message::Text(text) = socket.recv().await?.ok()? else { continue };
        mock.requests.lock().expect("no panic").push(text.to_string());
        let Ok(message) = serde_json::from_str::<Value>(&text) else {
            send_json(&mut socket, &json!({"type": "Error", "message": "no JSON"})).await?;
            continue;
        };
        if message["type"] == "SetVideo" {
            let reply = match message["path"] == VIDEO {
                true => json!({"type": "VideoSet", "path": VIDEO, "ok": true}),
                false => json!({"type": "VideoSet", "path": message["path"], "ok": false, "error": "not_found"}),
            };
            send_json(&mut socket, &reply).await?;
            continue;
        }
        if message["type"] != "RequestFrames" {
            send_json(&mut socket, &json!({"type": "Error", "message": "no such type"})).await?;
            continue;
        }
        for (place, item) in message["frames"].as_array().into_iter().flatten().enumerate() {
            let tag = item["index"].as_u64().unwrap_or(place as u64);
            let by_offset = item["offset"].as_u64().map(|offset| mock.offsets.get(&offset).copied());
            let frame = by_offset.unwrap_or_else(|| item["frame"].as_u64().map(|frame| frame as usize));
            let Some(frame) = frame.filter(|&frame| frame < mock.stills.len()) else {
                let error = if by_offset.is_some() { "bad_offset" } else { "not_found" };
                let reply = json!({"type": "FrameError", "index": tag, "offset": item["offset"], "error": error});
                send_json(&mut socket, &reply).await?;
                continue;
            };
            mock.pause().await;
            let is_faulty = mock.is_faulty();
            match mock.fault {
                MockFault::Silent if is_faulty => {}
                MockFault::Gone if is_faulty => return None,
                MockFault::Swapped if is_faulty => later = Some((tag, frame)),
                MockFault::Failing if is_faulty => {
                    send_json(&mut socket, &json!({"type": "FrameError", "index": tag, "error": "decode_failed"}))
                        .await?;
                }
                MockFault::Full if is_faulty => {
                    send_json(&mut socket, &json!({"type": "FrameError", "index": tag, "error": "overloaded"})).await?;
                }
                MockFault::Twice if is_faulty => {
                    still(mock, &mut socket, tag, frame, is_faulty).await?;
                    still(mock, &mut socket, tag, frame, is_faulty).await?;
                }
                _ => still(mock, &mut socket, tag, frame, is_faulty).await?,
            }
            if let Some((tag, frame)) = later.take_if(|_| !is_faulty) {
                still(mock, &mut socket, tag, frame, false).await?;
            }
        }
    }
}

async fn send_json(socket: &mut WebSocket, message: &Value) -> Option<()> {
    socket.send(Message::Text(message.to_string().into())).await.ok()
}

async fn still(mock: &Mock, socket: &mut WebSocket, tag: u64, frame: usize, is_faulty: bool) -> Option<()> {
    let (claimed, still) = mock.still(frame, is_faulty);
    let offset = mock.offsets.iter().find(|entry| *entry.1 == claimed).map(|entry| *entry.0);
    let size = if mock.fault == MockFault::Short { mock.stills[claimed].len() } else { still.len() };
    let header = json!({"type": "Frame", "index": tag, "offset": offset, "size": size,
        "frame": claimed, "pts": mock.timing[claimed].0, "time_s": 0.0, "key": mock.timing[claimed].1});
    send_json(socket, &header).await?;
    socket.send(Message::Binary(still)).await.ok()
}
