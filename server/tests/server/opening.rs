//! Opening videos from a server that does not answer: which clients are delayed, for how long, and the resulting
//! errors.

use std::sync::Arc;
use std::time::Duration;

use bucket_streamer::error::ErrorKind;
use bucket_streamer::source::Source;
use bucket_streamer::source::remote::{HttpClient, HttpOptions};
use bucket_streamer::{Engine, Error};
use bucket_streamer_server::Config;
use bucket_streamer_server::roots::{RootSpec, Roots};
use futures_util::future::join_all;

use crate::house::{House, config, problem};
use testing::clips::fixture;
use testing::range_server::{Answer, Server};

const OPENING: &str = "engine_running{queue=\"opening\"}";
const WAITING: &str = "engine_waiting{queue=\"opening\"}";

/// Options under which no request is given up soon.
fn patient() -> HttpOptions {
    let long = Duration::from_secs(3600);
    HttpOptions {
        first_byte_timeout: long,
        stall_timeout: long,
        deadline: long,
        hedged_share: 0.0,
        ..Default::default()
    }
}

/// Local clips as `fx`, and those of `server` as `web`.
fn roots(server: &Server, options: HttpOptions) -> Roots {
    let web = RootSpec::parse(&format!("web={}", server.at("films"))).unwrap();
    let local = RootSpec::parse(&format!("fx={}", fixture("").display())).unwrap();
    Roots::new(vec![web, local]).unwrap().with_http(HttpClient::new(options).unwrap())
}

fn put(server: &Server, name: &str) {
    server.put(&format!("films/{name}.mp4"), std::fs::read(fixture("hevc_demo.mp4")).unwrap(), "\"1\"");
}

/// Requests of one client for videos whose bytes never arrive.
fn stalled(house: &House, who: &'static str, count: usize) -> Vec<tokio::task::JoinHandle<()>> {
    let ask = |number| {
        let (client, url) = (house.client.clone(), house.url(&format!("/frame/web/{who}{number}.mp4?frame=0")));
        tokio::spawn(async move { drop(client.get(url).header("x-forwarded-for", who).send().await) })
    };
    (0..count).map(ask).collect()
}

/// Makes these videos unavailable: no head of an answer, or no byte after it.
fn stall(asked: &str) -> Answer {
    match asked {
        asked if asked.contains("good") => Answer::Good,
        asked if asked.contains("0.mp4") => Answer::Late(Duration::from_secs(3600)),
        _ => Answer::Stall(0),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stalls_keeps_nothing_from_other_roots_and_clients() {
    let server = Server::start();
    ["good0", "good1"].into_iter().for_each(|name| put(&server, name));
    for client in ["10.0.0.1", "10.0.0.2"] {
        (0..40).for_each(|number| put(&server, &format!("{client}{number}")));
    }
    server.behave(|asked| stall(&asked.path));
    let long = Duration::from_secs(3600);
    let limits = Config { trust_forwarded: true, deadline: long, ..config() };
    let engine = Engine::builder().threads(2).open_timeout(Some(long)).build();
    let house = House::with_engine(engine, limits, roots(&server, patient())).await;
    let first = stalled(&house, "10.0.0.1", 40);
    house.until(WAITING, |waiting| waiting == 34.0).await;
    assert_eq!(house.metric(OPENING).await, 6.0, "half of twelve");
    assert_eq!(house.get("/frame/fx/hevc_demo.mp4?frame=0").await.status(), 200, "another root");
    let other = [("x-forwarded-for", "10.0.0.9")];
    assert_eq!(house.get_with("/frame/web/good0.mp4?frame=0", &other).await.status(), 200, "another client");
    // All permits are in use when a second client does the same. They are returned when the first client disconnects,
    // and so are the connections to the server, except for those of openings that may continue.
    let second = stalled(&house, "10.0.0.2", 40);
    house.until(OPENING, |opening| opening == 12.0).await;
    assert_eq!(house.get("/frame/fx/hevc_open_gop.mp4?frame=0").await.status(), 200, "another root");
    first.iter().for_each(tokio::task::JoinHandle::abort);
    house.until(OPENING, |opening| opening == 6.0).await;
    house.until(WAITING, |waiting| waiting == 34.0).await;
    assert_eq!(house.get_with("/frame/web/good1.mp4?frame=0", &other).await.status(), 200, "another client");
    second.iter().for_each(tokio::task::JoinHandle::abort);
    house.until(OPENING, |opening| opening == 0.0).await;
    house.until(WAITING, |waiting| waiting == 0.0).await;
    while server.traffic().open > 2 + 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    join_all(first.into_iter().chain(second)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_has_a_deadline_and_the_answer_says_so() {
    let server = Server::start();
    ["late", "stalled", "slow"].into_iter().for_each(|name| put(&server, name));
    server.behave(|asked| match &asked.path {
        path if path.contains("late") => Answer::Late(Duration::from_secs(3600)),
        path if path.contains("stalled") => Answer::Stall(100),
        _ => Answer::Trickle(1, Duration::from_millis(30)),
    });
    let timeout = Duration::from_millis(400);
    let engine = Engine::builder().threads(2).open_timeout(Some(timeout)).build();
    let house = House::with_engine(engine, config(), roots(&server, patient())).await;
    for name in ["late", "stalled", "slow"] {
        let answer = house.get(&format!("/frame/web/{name}.mp4?frame=0")).await;
        assert_eq!(answer.headers()["retry-after"], "5", "{name}");
        let text = answer.text().await.unwrap();
        assert!(text.contains("\"status\":504") && text.contains("opening took longer than 400ms"), "{name}: {text}");
    }
    // The deadline of the request is reported, too.
    let engine = Engine::builder().threads(2).open_timeout(None).build();
    let limits = Config { deadline: timeout, ..config() };
    let house = House::with_engine(engine, limits, roots(&server, patient())).await;
    let (status, kind) = problem(house.get("/frame/web/slow.mp4?frame=0").await).await;
    assert_eq!((status, kind.as_str()), (504, "deadline"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stalls_later_keeps_no_worker() {
    let server = Server::start();
    let clips = ["hevc_closed_gop.mp4", "h264_bframes.mp4", "vp9.webm", "av1.mp4"];
    for clip in clips {
        server.put(&format!("films/{clip}"), std::fs::read(fixture(clip)).unwrap(), "\"1\"");
    }
    put(&server, "good");
    // Nothing read and decoded is kept, except for the learned references.
    let options = HttpOptions { cache: 300_000, ..patient() };
    let engine = Engine::builder().threads(2).checkpoint_memory(0).build();
    let long = Duration::from_secs(3600);
    let limits = Config { still_memory: 0, deadline: long, ..config() };
    let house = House::with_engine(engine, limits, roots(&server, options).good_for(long)).await;
    for clip in clips {
        for frame in [5, 25] {
            let status = house.get(&format!("/frame/web/{clip}?frame={frame}")).await.status();
            assert_eq!(status, 200, "{clip}, {frame}");
        }
    }
    assert_eq!(house.get("/frame/web/good.mp4?frame=40").await.status(), 200);
    server.behave(|_| Answer::Stall(0));
    let ask = |clip: &str| {
        let (client, url) = (house.client.clone(), house.url(&format!("/frame/web/{clip}?frame=25")));
        tokio::spawn(async move { drop(client.get(url).send().await) })
    };
    let stalled: Vec<_> = clips.into_iter().map(ask).collect();
    house.until("engine_running{queue=\"remote\"}", |running| running >= 2.0).await;
    for frame in 0..5 {
        let path = format!("/frame/fx/hevc_demo.mp4?frame={frame}");
        let local = tokio::time::timeout(Duration::from_secs(60), house.get(&path)).await;
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
async fn what_the_server_fails_of_is_the_error_whatever_libavformat_makes_of_it() {
    let check = || {
        let server = Server::start();
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
            let address = server.put(name, std::fs::read(fixture(name)).unwrap(), "\"1\"");
            // The first requests are answered, the later ones are not.
            for answered in 0.. {
                let mut left = answered;
                server.behave(move |_| {
                    left -= i32::from(left > 0);
                    if left > 0 { Answer::Good } else { Answer::Status(403, "") }
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
async fn a_trickle_is_a_timeout_and_no_lack_of_tracks() {
    let check = || {
        let server = Server::start();
        server.behave(|_| Answer::Trickle(1, Duration::from_millis(20)));
        let engine = Engine::builder().threads(1).open_timeout(Some(Duration::from_millis(200))).build();
        for name in ["hevc_demo.mp4", "hevc.mkv", "hevc.ts"] {
            let address = server.put(name, std::fs::read(fixture(name)).unwrap(), "\"1\"");
            let error = open(&engine, &address, HttpOptions::default()).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::OpenTimeout { .. }), "{name}: {error}");
            assert!(error.is_unreadable_video() && error.to_string().contains("--open-timeout"), "{error}");
        }
    };
    tokio::task::spawn_blocking(check).await.unwrap();
}
