//! Overload, and an orderly shutdown.

use std::time::Duration;

use bucket_streamer_server::Config;
use futures_util::future::join_all;
use serde_json::json;

use crate::house::{Expected, House, config};
use crate::socket::{Line, Said};
use testing::clips::fixture;

#[tokio::test(flavor = "multi_thread")]
async fn past_the_queue_the_answer_is_503_and_no_frame_is_wrong() {
    let limits = Config { running: Some(1), waiting: 2, still_memory: 0, ..config() };
    let house = House::with(limits, &[("fx", &fixture(""))]).await;
    let expected = Expected::of(&fixture("hevc_closed_gop.mp4"));
    let frames = expected.shuffled(1);
    let ask = async |place: usize| {
        let frame = frames[place % frames.len()];
        let answer =
            house.get(&format!("/frame/fx/hevc_closed_gop.mp4?frame={frame}&quality={}", 50 + place % 40)).await;
        let status = answer.status().as_u16();
        if status == 503 {
            let seconds: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=30).contains(&seconds));
            assert_eq!(crate::house::problem(answer).await.1, "overloaded");
        } else {
            assert_eq!((status, answer.headers()["x-frame-index"].to_str().unwrap()), (200, &frame.to_string()[..]));
        }
        status
    };
    let statuses = join_all((0..200).map(&ask)).await;
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert!(refused > 0 && refused < 200, "{refused}");
    assert!(house.metric("rejected_total{outcome=\"queue\"}").await >= refused as f64);
    assert_eq!(house.metric("engine_waiting{queue=\"local\"}").await, 0.0);
    assert_eq!(house.metric("engine_running{queue=\"local\"}").await, 0.0);
    assert_eq!(ask(0).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_ends_with_a_word() {
    // Expired from the start: on a busy machine a frame can be ready before a timer of a millisecond is checked.
    let limits = Config { deadline: Duration::ZERO, ..config() };
    let house = House::with(limits, &[("fx", &fixture(""))]).await;
    let (status, kind) = house.problem("/frame/fx/hevc_closed_gop.mp4?frame=100").await;
    assert_eq!((status, kind.as_str()), (504, "deadline"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_is_finished_before_the_end() {
    let mut house = House::open().await;
    let expected = Expected::of(&fixture("hevc_closed_gop.mp4"));
    let mut line = Line::to(&house).await;
    line.set("fx/hevc_closed_gop.mp4").await;
    let frames = expected.shuffled(4);
    let wishes: Vec<_> = frames.iter().map(|frame| json!({"frame": frame})).collect();
    line.say(json!({"type": "RequestFrames", "frames": wishes})).await;
    assert!(matches!(line.hear().await, Said::Frame(..)));
    let asked = (0..20).map(|place| {
        let (client, frame) = (house.client.clone(), frames[place]);
        let url = house.url(&format!("/frame/fx/hevc_closed_gop.mp4?frame={frame}&quality=81"));
        tokio::spawn(async move {
            // A connection that the server had not accepted before the shutdown is refused; an answer that it has begun
            // is completed.
            let answer = client.get(url).send().await.ok()?;
            Some((answer.status().as_u16(), answer.bytes().await.unwrap().len()))
        })
    });
    let asked: Vec<_> = asked.collect();
    // Most requests have arrived, or have been answered.
    while house.metric("connections_open").await < 10.0 && !asked.iter().all(|one| one.is_finished()) {
        tokio::task::yield_now().await;
    }
    house.tell();
    let answers: Vec<_> = join_all(asked).await.into_iter().filter_map(Result::unwrap).collect();
    assert!(!answers.is_empty());
    for (status, length) in answers {
        assert!(status == 200 && length > 500, "{status}");
    }
    for frame in &frames[1..] {
        assert!(matches!(line.hear().await, Said::Frame(_, bytes) if bytes == expected.stills[frame][..]), "{frame}");
    }
    assert_eq!(line.hear().await, Said::Closed(Some(1001)));
    let address = house.address;
    assert!(house.wait().await, "nothing is left");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_go_leave_nothing_behind() {
    let house = House::with(Config { running: Some(1), ..config() }, &[("fx", &fixture(""))]).await;
    for round in 0..30 {
        let url = house.url(&format!("/frame/fx/hevc_closed_gop.mp4?frame={}&quality={}", round % 50, 40 + round));
        let _ = tokio::time::timeout(Duration::from_micros(300 * round), house.client.get(url).send()).await;
        let mut line = Line::to(&house).await;
        line.set("fx/hevc_closed_gop.mp4").await;
        line.say(json!({"type": "RequestFrames", "quality": 30 + round, "frames": [{"frame": 1}, {"frame": 49}, {"frame": 20}]})).await;
    }
    for _ in 0..500 {
        let busy = house.metric("engine_running{queue=\"local\"}").await
            + house.metric("engine_waiting{queue=\"local\"}").await;
        if busy == 0.0 && house.metric("websockets_open").await == 0.0 {
            assert_eq!(house.get("/frame/fx/hevc_closed_gop.mp4?frame=7").await.status(), 200);
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the engine is still in use");
}
