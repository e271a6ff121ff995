//! The WebSocket protocol: every item gets exactly one answer, and the correct one.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::test_server::{ExpectedStills, TestServer, config};
use testing::clips::fixture;

pub(crate) struct TestSocket(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

/// A message of the server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SocketEvent {
    Message(Value),
    Frame(Value, Bytes),
    Closed(Option<u16>),
}

impl TestSocket {
    pub(crate) async fn connect(server: &TestServer) -> TestSocket {
        TestSocket(connect_async(format!("ws://{}/ws", server.address)).await.unwrap().0)
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    pub(crate) async fn receive(&mut self) -> SocketEvent {
        loop {
            let next = tokio::time::timeout(Duration::from_secs(120), self.0.next()).await.expect("an answer");
            match next {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if message["type"] != "Frame" {
                        return SocketEvent::Message(message);
                    }
                    // Directly after it.
                    let Some(Ok(Message::Binary(bytes))) = self.0.next().await else { panic!("no picture") };
                    assert_eq!(message["size"], bytes.len());
                    return SocketEvent::Frame(message, bytes);
                }
                Some(Ok(Message::Close(frame))) => return SocketEvent::Closed(frame.map(|frame| frame.code.into())),
                Some(Ok(Message::Binary(_))) => panic!("a picture without its message"),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return SocketEvent::Closed(None),
            }
        }
    }

    pub(crate) async fn set_video(&mut self, path: &str) {
        self.send(json!({"type": "SetVideo", "path": path})).await;
        assert_eq!(self.receive().await, SocketEvent::Message(json!({"type": "VideoSet", "path": path, "ok": true})));
    }

    /// Collects this many answers: index, and the code of an error.
    pub(crate) async fn answers(&mut self, count: usize) -> Vec<(i64, Option<String>)> {
        let mut answers = Vec::new();
        while answers.len() < count {
            let (message, error) = match self.receive().await {
                SocketEvent::Frame(message, _) => (message, None),
                SocketEvent::Message(message) => {
                    let error = message["error"].as_str().map(str::to_owned);
                    (message, error)
                }
                SocketEvent::Closed(code) => panic!("closed: {code:?}"),
            };
            answers.push((message["index"].as_i64().unwrap(), error));
        }
        answers
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_by_the_offsets_of_their_samples() {
    let server = TestServer::open().await;
    let mut line = TestSocket::connect(&server).await;
    for clip in ["hevc_open_gop.mp4", "h264_bframes.mp4", "hevc.mkv"] {
        let expected = ExpectedStills::of(&fixture(clip));
        line.set_video(&format!("fx/{clip}")).await;
        let wanted = expected.shuffled(11);
        let samples = wanted.iter().map(|frame| expected.video.sample_of(*frame).unwrap());
        let mut frames: Vec<Value> = samples
            .enumerate()
            .map(|(index, sample)| json!({"offset": sample.offset, "index": 1000 + index}))
            .collect();
        // An invalid item among them.
        frames.insert(3, json!({"offset": 1, "index": -5}));
        line.send(json!({"type": "RequestFrames", "irap_offset": 0, "frames": frames})).await;
        for (place, entry) in frames.iter().enumerate() {
            match line.receive().await {
                SocketEvent::Message(message) => {
                    assert_eq!(place, 3);
                    assert_eq!((&message["type"], &message["error"]), (&json!("FrameError"), &json!("bad_offset")));
                    assert_eq!((&message["index"], &message["offset"]), (&json!(-5), &json!(1)));
                }
                SocketEvent::Frame(message, bytes) => {
                    let frame = wanted[message["index"].as_i64().unwrap() as usize - 1000];
                    assert_eq!(
                        (&message["index"], &message["offset"]),
                        (&entry["index"], &entry["offset"]),
                        "in order"
                    );
                    assert_eq!((&message["frame"], &message["pts"]), (&json!(frame), &json!(expected.pts[&frame])));
                    assert_eq!(message["key"], expected.video.sample_of(frame).unwrap().key);
                    assert!(bytes == expected.stills[&frame][..], "{clip} {frame}");
                }
                SocketEvent::Closed(code) => panic!("closed: {code:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_by_number_and_time_in_any_size() {
    let server = TestServer::open().await;
    let mut line = TestSocket::connect(&server).await;
    line.set_video("fx/hevc_demo.mp4").await;
    let small = ExpectedStills::with(&fixture("hevc_demo.mp4"), |options| bucket_streamer::still::StillOptions {
        quality: 33,
        shape: bucket_streamer::pixels::Shape { width: Some(48), ..options.shape },
        ..options
    });
    let last = small.video.frame_count() as u32 - 1;
    let seconds = |frame: u32| small.video.timeline().seconds(small.pts[&frame]);
    let frames = json!([{"frame": 3}, {"frame": 3}, {"time": seconds(7) + 0.001}, {"time": format!("0:{:.3}", seconds(9) + 0.001)},
        {"frame": last}, {"frame": last + 1}, {"time": 1e6}, {"frame": -1}, {"nothing": 1}, {"frame": 0, "index": 77}]);
    line.send(json!({"type": "RequestFrames", "frames": frames, "width": 48, "quality": 33})).await;
    let mut told = Vec::new();
    for _ in 0..10 {
        match line.receive().await {
            SocketEvent::Frame(message, bytes) => {
                let frame = message["frame"].as_u64().unwrap() as u32;
                assert!(bytes == small.stills[&frame][..], "{frame}");
                told.push((message["index"].as_i64().unwrap(), frame.to_string()));
            }
            SocketEvent::Message(message) => {
                told.push((message["index"].as_i64().unwrap(), message["error"].as_str().unwrap().to_owned()))
            }
            SocketEvent::Closed(code) => panic!("closed: {code:?}"),
        }
    }
    let last = last.to_string();
    let expected = [
        (0, "3"),
        (1, "3"),
        (2, "7"),
        (3, "9"),
        (4, &last[..]),
        (5, "not_found"),
        (6, "not_found"),
        (7, "not_found"),
        (8, "not_found"),
        (77, "0"),
    ];
    assert_eq!(told, expected.map(|(index, what)| (index, what.to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_all_frames_in_order() {
    let server = TestServer::open().await;
    let mut line = TestSocket::connect(&server).await;
    // More frames than a batch, over many GOPs, and leading pictures at the beginning that are not shown.
    for clip in ["hevc_open_gop_cut.265", "hevc_closed_gop.mp4", "av1.mp4"] {
        let expected = ExpectedStills::of(&fixture(clip));
        line.set_video(&format!("fx/{clip}")).await;
        let count = expected.video.frame_count();
        let all: Vec<Value> = (0..3 * count).map(|place| json!({"frame": place % count})).collect();
        line.send(json!({"type": "RequestFrames", "frames": all})).await;
        for place in 0..3 * count {
            match (line.receive().await, expected.stills.get(&((place % count) as u32))) {
                (SocketEvent::Frame(message, bytes), Some(still)) => {
                    assert_eq!(message["index"], place);
                    assert!(bytes == still[..], "{clip} {place}");
                }
                (SocketEvent::Message(message), None) => {
                    assert_eq!((&message["index"], &message["error"]), (&json!(place), &json!("decode_failed")));
                }
                (said, _) => panic!("{clip} {place}: {said:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_request_supersedes_older_ones_and_cancel_drops_all() {
    let server = TestServer::open().await;
    let mut line = TestSocket::connect(&server).await;
    line.set_video("fx/hevc_demo.mp4").await;
    for index in 0..40 {
        line.send(json!({"type": "RequestFrames", "order": "latest", "frames": [{"frame": index, "index": index}]}))
            .await;
    }
    let answers = line.answers(40).await;
    assert_eq!(
        answers.iter().filter(|(_, error)| error.is_none()).map(|(index, _)| *index).max(),
        Some(39),
        "{answers:?}"
    );
    assert!(answers.iter().all(|(_, error)| error.as_deref().is_none_or(|error| error == "superseded")));
    let mut indices: Vec<i64> = answers.iter().map(|(index, _)| *index).collect();
    indices.sort_unstable();
    assert_eq!(indices, (0..40).collect::<Vec<_>>(), "each once");
    // After a cancellation the session continues.
    let frames: Vec<Value> = (0..500).map(|place| json!({"frame": place % 60})).collect();
    line.send(json!({"type": "RequestFrames", "quality": 70, "frames": frames})).await;
    line.send(json!({"type": "Cancel"})).await;
    let answers = line.answers(500).await;
    assert!(answers.iter().filter(|(_, error)| error.as_deref() == Some("cancelled")).count() > 300);
    line.send(json!({"type": "RequestFrames", "frames": [{"frame": 2}]})).await;
    assert_eq!(line.answers(1).await, [(0, None)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_messages_are_errors_and_end_nothing() {
    let server = TestServer::open().await;
    let mut line = TestSocket::connect(&server).await;
    line.send(json!({"type": "RequestFrames", "frames": [{"frame": 1}, {"offset": 3}]})).await;
    let error = |index| (index, Some("not_found".to_owned()));
    assert_eq!(line.answers(2).await, [error(0), error(1)], "no video is set");
    for path in ["fx/missing.mp4", "fx/not_video.txt", "../etc/passwd", ""] {
        line.send(json!({"type": "SetVideo", "path": path})).await;
        let SocketEvent::Message(message) = line.receive().await else { panic!("no message") };
        assert_eq!(
            (&message["type"], &message["path"], &message["ok"]),
            (&json!("VideoSet"), &json!(path), &json!(false))
        );
        assert!(
            !message["error"].as_str().unwrap().contains(env!("CARGO_MANIFEST_DIR"))
                && !message["error"].as_str().unwrap().contains("fixtures")
        );
    }
    for text in
        ["", "{", "[1]", "{\"type\":\"Other\"}", "{\"type\":\"RequestFrames\",\"frames\":[],\"width\":0}", "null"]
    {
        line.0.send(Message::text(text)).await.unwrap();
        let SocketEvent::Message(message) = line.receive().await else { panic!("no message") };
        assert_eq!(message["type"], "Error", "{text}");
    }
    line.0.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert!(matches!(line.receive().await, SocketEvent::Message(message) if message["type"] == "Error"));
    line.set_video("fx/hevc_demo.mp4").await;
    line.send(json!({"type": "RequestFrames", "frames": [{"frame": 1}]})).await;
    assert_eq!(line.answers(1).await, [(0, None)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_is_allowed_is_refused_frame_by_frame() {
    let server =
        TestServer::with(bucket_streamer_server::Config { frames: 20, ..config() }, &[("fx", &fixture(""))]).await;
    let mut line = TestSocket::connect(&server).await;
    line.set_video("fx/hevc_demo.mp4").await;
    let frames: Vec<Value> = (0..30).map(|frame| json!({"frame": frame})).collect();
    for _ in 0..4 {
        line.send(json!({"type": "RequestFrames", "frames": frames})).await;
    }
    for _ in 0..4 {
        let answers = line.answers(30).await;
        for (place, (index, error)) in answers.into_iter().enumerate() {
            let expected = (place >= 20).then(|| "overloaded".to_owned());
            assert_eq!((index, error), (place as i64, expected));
        }
    }
    // A message above the limit ends the session, with a reason.
    line.0.send(Message::text("x".repeat(300 << 10))).await.unwrap();
    assert_eq!(line.receive().await, SocketEvent::Closed(Some(1009)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_that_is_set_while_frames_wait_comes_after_them() {
    let server = TestServer::open().await;
    let mut line = TestSocket::connect(&server).await;
    line.set_video("fx/hevc_demo.mp4").await;
    let (demo, other) =
        (ExpectedStills::of(&fixture("hevc_demo.mp4")), ExpectedStills::of(&fixture("h264_bframes.mp4")));
    line.send(
        json!({"type": "RequestFrames", "frames": (0..20).map(|frame| json!({"frame": frame})).collect::<Vec<_>>()}),
    )
    .await;
    line.send(json!({"type": "SetVideo", "path": "fx/h264_bframes.mp4"})).await;
    line.send(json!({"type": "RequestFrames", "frames": [{"frame": 4}]})).await;
    for frame in 0..20 {
        assert!(matches!(line.receive().await, SocketEvent::Frame(_, bytes) if bytes == demo.stills[&frame][..]));
    }
    assert!(matches!(line.receive().await, SocketEvent::Message(message) if message["type"] == "VideoSet"));
    assert!(matches!(line.receive().await, SocketEvent::Frame(_, bytes) if bytes == other.stills[&4][..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn fast_scrubbing_still_shows_some_pictures() {
    let server = TestServer::open().await;
    let mut line = TestSocket::connect(&server).await;
    line.set_video("fx/hevc_demo.mp4").await;
    // Each is superseded while in progress: the next request is sent before the answer can have arrived.
    let (mut shown, mut answered) = (0, 0);
    for round in 0..60 {
        let frame = (round * 37) % 240;
        let frames = json!([{"frame": frame, "index": round}]);
        line.send(json!({"type": "RequestFrames", "order": "latest", "frames": frames, "quality": 60})).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    while answered < 60 {
        let answers = line.answers(1).await;
        shown += answers.iter().filter(|(_, error)| error.is_none()).count();
        answered += 1;
    }
    assert!(shown >= 2, "{shown} of 60");
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_sizes_are_answered_frame_by_frame() {
    let server = TestServer::open().await;
    let mut line = TestSocket::connect(&server).await;
    line.set_video("fx/hevc_demo.mp4").await;
    for wrong in [
        json!({"width": 0}),
        json!({"height": -3}),
        json!({"quality": 101}),
        json!({"width": "x"}),
        json!({"width": 1e9}),
    ] {
        let mut message = json!({"type": "RequestFrames", "frames": [{"frame": 1}, {"frame": 2, "index": 9}]});
        message.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        line.send(message).await;
        assert!(matches!(line.receive().await, SocketEvent::Message(message) if message["type"] == "Error"), "{wrong}");
        let failed = |index| (index, Some("decode_failed".to_owned()));
        assert_eq!(line.answers(2).await, [failed(0), failed(9)], "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_only_sends_is_disconnected() {
    let limits = bucket_streamer_server::Config { frames: 50, slow_timeout: Duration::from_secs(2), ..config() };
    let server = TestServer::with(limits, &[("fx", &fixture(""))]).await;
    let line = TestSocket::connect(&server).await;
    let (mut sink, stream) = line.0.split();
    // The answers to these are long, and the client does not read them.
    let path = "x".repeat(4000);
    let flood = async {
        for _ in 0..1_000_000 {
            let message = json!({"type": "SetVideo", "path": path}).to_string();
            if sink.send(Message::text(message)).await.is_err() {
                return true;
            }
        }
        false
    };
    let ended = tokio::time::timeout(Duration::from_secs(60), flood).await;
    assert_eq!(ended, Ok(true), "the server disconnects the client");
    drop(stream);
    let other = server.get("/frame/fx/hevc_demo.mp4?frame=1").await;
    assert_eq!(other.status(), 200);
    assert!(server.metric("process_resident_bytes").await < 2e9);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_hosts_are_refused() {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let server = TestServer::open().await;
    let ask = async |origin: String| {
        let mut request = format!("ws://{}/ws", server.address).into_client_request().unwrap();
        request.headers_mut().insert("origin", origin.parse().unwrap());
        connect_async(request).await.is_ok()
    };
    assert!(ask(format!("http://{}", server.address)).await);
    assert!(!ask("http://evil.example".into()).await);
    assert!(!ask("null".into()).await);
}
