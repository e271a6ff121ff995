//! Opening videos from a server that does not respond: the delays of other clients and roots, deadlines, and the
//! resulting errors.

use std::sync::Arc;
use std::time::Duration;

use bucket_streamer::error::ErrorKind;
use bucket_streamer::source::Source;
use bucket_streamer::source::remote::{HttpClient, HttpOptions};
use bucket_streamer::{Engine, Error};
use bucket_streamer_server::Config;
use bucket_streamer_server::roots::{RootSpec, Roots};
use futures_util::future::join_all;

use crate::test_server::{TestServer, config, problem};
use testing::clips::fixture;
use testing::range_server::{RangeReply, RangeServer};

const OPENING: &str = "engine_running{queue=\"opening\"}";
const WAITING: &str = "engine_waiting{queue=\"opening\"}";

/// Options without short timeouts, so that stalled requests stay open.
fn long_timeouts() -> HttpOptions {
    let long = Duration::from_secs(3600);
    HttpOptions {
        first_byte_timeout: long,
        stall_timeout: long,
        deadline: long,
        hedged_share: 0.0,
        ..Default::default()
    }
}

/// Local clips as `fx`, and those of `origin` as `web`.
fn roots(origin: &RangeServer, options: HttpOptions) -> Roots {
    let web = RootSpec::parse(&format!("web={}", origin.at("films"))).unwrap();
    let local = RootSpec::parse(&format!("fx={}", fixture("").display())).unwrap();
    Roots::new(vec![web, local]).unwrap().with_http(HttpClient::new(options).unwrap())
}

fn put(origin: &RangeServer, name: &str) {
    origin.put(&format!("films/{name}.mp4"), std::fs::read(fixture("hevc_demo.mp4")).unwrap(), "\"1\"");
}

/// Requests of one client for videos whose bytes never arrive.
fn stalled_requests(
    server: &TestServer,
    client_address: &'static str,
    count: usize,
) -> Vec<tokio::task::JoinHandle<()>> {
    let ask = |number| {
        let (client, url) =
            (server.client.clone(), server.url(&format!("/frame/web/{client_address}{number}.mp4?frame=0")));
        tokio::spawn(async move { drop(client.get(url).header("x-forwarded-for", client_address).send().await) })
    };
    (0..count).map(ask).collect()
}

/// The behaviour of the origin: videos without `good` in their path get no response head, or no byte after it.
fn stall(path: &str) -> RangeReply {
    match path {
        path if path.contains("good") => RangeReply::Good,
        path if path.contains("0.mp4") => RangeReply::Late(Duration::from_secs(3600)),
        _ => RangeReply::Stall(0),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_server_delays_no_other_root_or_client() {
    let origin = RangeServer::start();
    ["good0", "good1"].into_iter().for_each(|name| put(&origin, name));
    for client in ["10.0.0.1", "10.0.0.2"] {
        (0..40).for_each(|number| put(&origin, &format!("{client}{number}")));
    }
    origin.set_behaviour(|request| stall(&request.path));
    let long = Duration::from_secs(3600);
    let limits = Config { trust_forwarded: true, deadline: long, ..config() };
    let engine = Engine::builder().threads(2).open_timeout(Some(long)).build();
    let server = TestServer::with_engine(engine, limits, roots(&origin, long_timeouts())).await;
    let first = stalled_requests(&server, "10.0.0.1", 40);
    server.until(WAITING, |waiting| waiting == 34.0).await;
    assert_eq!(server.metric(OPENING).await, 6.0, "half of twelve");
    assert_eq!(server.get("/frame/fx/hevc_demo.mp4?frame=0").await.status(), 200, "another root");
    let other = [("x-forwarded-for", "10.0.0.9")];
    assert_eq!(server.get_with("/frame/web/good0.mp4?frame=0", &other).await.status(), 200, "another client");
    // A second client's openings take the other half of the permits. When the first client disconnects, its permits and
    // the connections to the origin are returned, except for those of openings that may continue.
    let second = stalled_requests(&server, "10.0.0.2", 40);
    server.until(OPENING, |opening| opening == 12.0).await;
    assert_eq!(server.get("/frame/fx/hevc_open_gop.mp4?frame=0").await.status(), 200, "another root");
    first.iter().for_each(tokio::task::JoinHandle::abort);
    server.until(OPENING, |opening| opening == 6.0).await;
    server.until(WAITING, |waiting| waiting == 34.0).await;
    assert_eq!(server.get_with("/frame/web/good1.mp4?frame=0", &other).await.status(), 200, "another client");
    second.iter().for_each(tokio::task::JoinHandle::abort);
    server.until(OPENING, |opening| opening == 0.0).await;
    server.until(WAITING, |waiting| waiting == 0.0).await;
    while origin.traffic().open > 2 + 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    join_all(first.into_iter().chain(second)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_has_a_deadline_and_the_answer_says_so() {
    let origin = RangeServer::start();
    ["late", "stalled", "slow"].into_iter().for_each(|name| put(&origin, name));
    origin.set_behaviour(|request| match &request.path {
        path if path.contains("late") => RangeReply::Late(Duration::from_secs(3600)),
        path if path.contains("stalled") => RangeReply::Stall(100),
        _ => RangeReply::Trickle(1, Duration::from_millis(30)),
    });
    let timeout = Duration::from_millis(400);
    let engine = Engine::builder().threads(2).open_timeout(Some(timeout)).build();
    let server = TestServer::with_engine(engine, config(), roots(&origin, long_timeouts())).await;
    for name in ["late", "stalled", "slow"] {
        let answer = server.get(&format!("/frame/web/{name}.mp4?frame=0")).await;
        assert_eq!(answer.headers()["retry-after"], "5", "{name}");
        let text = answer.text().await.unwrap();
        assert!(text.contains("\"status\":504") && text.contains("opening took longer than 400ms"), "{name}: {text}");
    }
    // The deadline of the request is reported, too.
    let engine = Engine::builder().threads(2).open_timeout(None).build();
    let limits = Config { deadline: timeout, ..config() };
    let server = TestServer::with_engine(engine, limits, roots(&origin, long_timeouts())).await;
    let (status, kind) = problem(server.get("/frame/web/slow.mp4?frame=0").await).await;
    assert_eq!((status, kind.as_str()), (504, "deadline"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stalls_after_opening_blocks_no_worker() {
    let origin = RangeServer::start();
    let clips = ["hevc_closed_gop.mp4", "h264_bframes.mp4", "vp9.webm", "av1.mp4"];
    for clip in clips {
        origin.put(&format!("films/{clip}"), std::fs::read(fixture(clip)).unwrap(), "\"1\"");
    }
    put(&origin, "good");
    // Caches are too small for read bytes and decoded pictures; only the references found while decoding are kept.
    let options = HttpOptions { cache: 300_000, ..long_timeouts() };
    let engine = Engine::builder().threads(2).checkpoint_memory(0).build();
    let long = Duration::from_secs(3600);
    let limits = Config { still_memory: 0, deadline: long, ..config() };
    let server = TestServer::with_engine(engine, limits, roots(&origin, options).revalidate_after(long)).await;
    for clip in clips {
        for frame in [5, 25] {
            let status = server.get(&format!("/frame/web/{clip}?frame={frame}")).await.status();
            assert_eq!(status, 200, "{clip}, {frame}");
        }
    }
    assert_eq!(server.get("/frame/web/good.mp4?frame=40").await.status(), 200);
    origin.set_behaviour(|_| RangeReply::Stall(0));
    let ask = |clip: &str| {
        let (client, url) = (server.client.clone(), server.url(&format!("/frame/web/{clip}?frame=25")));
        tokio::spawn(async move { drop(client.get(url).send().await) })
    };
    let stalled: Vec<_> = clips.into_iter().map(ask).collect();
    server.until("engine_running{queue=\"remote\"}", |running| running >= 2.0).await;
    for frame in 0..5 {
        let path = format!("/frame/fx/hevc_demo.mp4?frame={frame}");
        let local = tokio::time::timeout(Duration::from_secs(60), server.get(&path)).await;
        let status = local.expect("a worker").status();
        assert_eq!(status, 200);
    }
    stalled.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Opens `address`.
fn open(engine: &Engine, address: &str, options: HttpOptions) -> Result<(), Error> {
    engine.opening(|| {
        let source: Arc<dyn Source> = Arc::new(HttpClient::new(options)?.open(address)?);
        engine.open(source, 0).map(drop)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_error_is_reported_instead_of_libavformats_error() {
    let check = || {
        let origin = RangeServer::start();
        let engine = Engine::builder().threads(1).open_timeout(Some(Duration::from_secs(3600))).build();
        for name in [
            "hevc_demo.mp4",
            "hevc_fragmented.mp4",
            "hevc.mkv",
            "hevc.ts",
            "vp9.webm",
            "vp9.ivf",
            "hevc_size_change.265",
        ] {
            let address = origin.put(name, std::fs::read(fixture(name)).unwrap(), "\"1\"");
            // The first requests are answered, later ones are refused.
            for answered in 0.. {
                let mut left = answered;
                origin.set_behaviour(move |_| {
                    left -= i32::from(left > 0);
                    if left > 0 { RangeReply::Good } else { RangeReply::Status(403, "") }
                });
                let options =
                    HttpOptions { block: 2048, read_ahead: 4096, gap: 0, longest: 4096, ..HttpOptions::default() };
                match open(&engine, &address, options) {
                    Ok(()) => break,
                    Err(error) => {
                        assert!(matches!(error.kind(), ErrorKind::Remote(_)), "{name}, {answered} requests: {error}");
                    }
                }
            }
        }
    };
    tokio::task::spawn_blocking(check).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trickle_is_a_timeout_and_not_a_missing_track() {
    let check = || {
        let origin = RangeServer::start();
        origin.set_behaviour(|_| RangeReply::Trickle(1, Duration::from_millis(20)));
        let engine = Engine::builder().threads(1).open_timeout(Some(Duration::from_millis(200))).build();
        for name in ["hevc_demo.mp4", "hevc.mkv", "hevc.ts"] {
            let address = origin.put(name, std::fs::read(fixture(name)).unwrap(), "\"1\"");
            let error = open(&engine, &address, HttpOptions::default()).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::OpenTimeout { .. }), "{name}: {error}");
            assert!(error.is_unreadable_video() && error.to_string().contains("--open-timeout"), "{error}");
        }
    };
    tokio::task::spawn_blocking(check).await.unwrap();
}
