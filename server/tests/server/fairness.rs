//! The share of the server that one client may use while others wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bucket_streamer::Engine;
use bucket_streamer_server::Config;
use bucket_streamer_server::roots::{RootSpec, Roots};

use crate::test_server::{TestServer, config};
use testing::clips::fixture;

/// A server with one worker that trusts a proxy's client addresses.
async fn server_with_permits(running: usize) -> TestServer {
    let roots = Roots::new(vec![RootSpec::parse(&format!("fx={}", fixture("").display())).unwrap()]).unwrap();
    let limits = Config { running: Some(running), still_memory: 0, trust_forwarded: true, ..config() };
    TestServer::with_engine(Engine::builder().threads(1).build(), limits, roots).await
}

/// Requests `path` as the client with this address; returns the status and the rank among all answers.
fn request(
    server: &TestServer,
    client_address: &'static str,
    path: String,
    answers: &Arc<AtomicUsize>,
) -> tokio::task::JoinHandle<(u16, usize)> {
    let (client, url, answers) = (server.client.clone(), server.url(&path), Arc::clone(answers));
    tokio::spawn(async move {
        let answer = client.get(url).header("x-forwarded-for", client_address).send().await.unwrap();
        let status = answer.status().as_u16();
        answer.bytes().await.unwrap();
        (status, answers.fetch_add(1, SeqCst))
    })
}

const RUNNING: &str = "engine_running{queue=\"local\"}";
const WAITING: &str = "engine_waiting{queue=\"local\"}";

#[tokio::test(flavor = "multi_thread")]
async fn a_storyboard_lets_others_in_between_its_tiles() {
    let server = server_with_permits(1).await;
    let answers = Arc::default();
    assert_eq!(server.get("/frame/fx/hevc_closed_gop.mp4?frame=0").await.status(), 200);
    let path = "/storyboard/fx/hevc_closed_gop.mp4.jpg?mode=exact&count=100&width=1200&columns=10&quality=20";
    let sheet = request(&server, "10.0.0.1", path.to_owned(), &answers);
    server.until(RUNNING, |running| running == 1.0).await;
    for frame in 0..5 {
        let path = format!("/frame/fx/hevc_closed_gop.mp4?frame={frame}");
        assert_eq!(request(&server, "10.0.0.2", path, &answers).await.unwrap(), (200, frame), "before the sheet");
    }
    let (status, place) = sheet.await.unwrap();
    assert!(status == 200 && place == 5, "{status}, {place}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_has_all_permits() {
    let server = server_with_permits(4).await;
    let answers = Arc::default();
    let sheet = |number: usize| {
        let path =
            format!("/storyboard/fx/hevc_closed_gop.mp4.jpg?mode=exact&count={}&width=1200&quality=20", 90 + number);
        request(&server, "10.0.0.1", path, &answers)
    };
    let sheets: Vec<_> = (0..6).map(sheet).collect();
    server.until(WAITING, |waiting| waiting >= 1.0).await;
    for _ in 0..5 {
        let (waiting, running) = (server.metric(WAITING).await, server.metric(RUNNING).await);
        assert!(running <= 3.0, "{running} of 4, {waiting} wait");
    }
    let path = "/frame/fx/hevc_closed_gop.mp4?frame=7".to_owned();
    assert_eq!(request(&server, "10.0.0.2", path, &answers).await.unwrap(), (200, 0), "before all sheets");
    for sheet in sheets {
        assert_eq!(sheet.await.unwrap().0, 200);
    }
}
