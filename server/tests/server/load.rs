//! Overload, and an orderly shutdown.

use std::time::Duration;

use bucket_streamer_server::Config;
use futures_util::future::join_all;
use serde_json::json;

use crate::socket::{SocketEvent, TestSocket};
use crate::test_server::{ExpectedStills, TestServer, config};
use testing::clips::fixture;

#[tokio::test(flavor = "multi_thread")]
async fn past_the_queue_the_answer_is_503_and_no_frame_is_wrong() {
    let limits = Config { running: Some(1), waiting: 2, still_memory: 0, ..config() };
    let server = TestServer::with(limits, &[("fx", &fixture(""))]).await;
    let expected = ExpectedStills::of(&fixture("hevc_closed_gop.mp4"));
    let frames = expected.shuffled(1);
    let ask = async |place: usize| {
        let frame = frames[place % frames.len()];
        let answer =
            server.get(&format!("/frame/fx/hevc_closed_gop.mp4?frame={frame}&quality={}", 50 + place % 40)).await;
        let status = answer.status().as_u16();
        if status == 503 {
            let seconds: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=30).contains(&seconds));
            assert_eq!(crate::test_server::problem(answer).await.1, "overloaded");
        } else {
            assert_eq!((status, answer.headers()["x-frame-index"].to_str().unwrap()), (200, &frame.to_string()[..]));
        }
        status
    };
    let statuses = join_all((0..200).map(&ask)).await;
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert!(refused > 0 && refused < 200, "{refused}");
    assert!(server.metric("rejected_total{outcome=\"queue\"}").await >= refused as f64);
    assert_eq!(server.metric("engine_waiting{queue=\"local\"}").await, 0.0);
    assert_eq!(server.metric("engine_running{queue=\"local\"}").await, 0.0);
    assert_eq!(ask(0).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_past_its_deadline_gets_an_error() {
    // The deadline is over at once: on a busy machine a frame can be ready before a timer of a millisecond is checked.
    let limits = Config { deadline: Duration::ZERO, ..config() };
    let server = TestServer::with(limits, &[("fx", &fixture(""))]).await;
    let (status, kind) = server.problem("/frame/fx/hevc_closed_gop.mp4?frame=100").await;
    assert_eq!((status, kind.as_str()), (504, "deadline"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_finishes_requests_in_flight() {
    let mut server = TestServer::open().await;
    let expected = ExpectedStills::of(&fixture("hevc_closed_gop.mp4"));
    let mut line = TestSocket::connect(&server).await;
    line.set_video("fx/hevc_closed_gop.mp4").await;
    let frames = expected.shuffled(4);
    let items: Vec<_> = frames.iter().map(|frame| json!({"frame": frame})).collect();
    line.send(json!({"type": "RequestFrames", "frames": items})).await;
    assert!(matches!(line.receive().await, SocketEvent::Frame(..)));
    let requests = (0..20).map(|place| {
        let (client, frame) = (server.client.clone(), frames[place]);
        let url = server.url(&format!("/frame/fx/hevc_closed_gop.mp4?frame={frame}&quality=81"));
        tokio::spawn(async move {
            // A connection that the server had not accepted before the shutdown is refused; an answer that it has begun
            // is completed.
            let answer = client.get(url).send().await.ok()?;
            Some((answer.status().as_u16(), answer.bytes().await.unwrap().len()))
        })
    });
    let requests: Vec<_> = requests.collect();
    // Most requests have arrived, or have been answered.
    while server.metric("connections_open").await < 10.0 && !requests.iter().all(|one| one.is_finished()) {
        tokio::task::yield_now().await;
    }
    server.stop();
    let answers: Vec<_> = join_all(requests).await.into_iter().filter_map(Result::unwrap).collect();
    assert!(!answers.is_empty());
    for (status, length) in answers {
        assert!(status == 200 && length > 500, "{status}");
    }
    for frame in &frames[1..] {
        assert!(
            matches!(line.receive().await, SocketEvent::Frame(_, bytes) if bytes == expected.stills[frame][..]),
            "{frame}"
        );
    }
    assert_eq!(line.receive().await, SocketEvent::Closed(Some(1001)));
    let address = server.address;
    assert!(server.wait().await, "nothing is left");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnected_clients_release_the_engine() {
    let server = TestServer::with(Config { running: Some(1), ..config() }, &[("fx", &fixture(""))]).await;
    for round in 0..30 {
        let url = server.url(&format!("/frame/fx/hevc_closed_gop.mp4?frame={}&quality={}", round % 50, 40 + round));
        let _ = tokio::time::timeout(Duration::from_micros(300 * round), server.client.get(url).send()).await;
        let mut line = TestSocket::connect(&server).await;
        line.set_video("fx/hevc_closed_gop.mp4").await;
        line.send(json!({"type": "RequestFrames", "quality": 30 + round, "frames": [{"frame": 1}, {"frame": 49}, {"frame": 20}]})).await;
    }
    for _ in 0..500 {
        let busy = server.metric("engine_running{queue=\"local\"}").await
            + server.metric("engine_waiting{queue=\"local\"}").await;
        if busy == 0.0 && server.metric("websockets_open").await == 0.0 {
            assert_eq!(server.get("/frame/fx/hevc_closed_gop.mp4?frame=7").await.status(), 200);
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the engine is still in use");
}
