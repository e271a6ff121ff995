//! Videos behind a network, served over HTTP.

use std::time::Duration;

use bucket_streamer::source::remote::{HttpClient, HttpOptions};
use bucket_streamer_server::roots::{RootSpec, Roots};

use testing::clips::fixture;
use testing::range_server::{RangeReply, RangeServer};

use crate::test_server::{ExpectedStills, PNG, TestServer, config};

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_video_is_served_anew_and_an_unreachable_one_from_memory() {
    const GOOD_FOR: Duration = Duration::from_millis(300);
    let origin = RangeServer::start();
    let put = |clip: &str, etag: &str| {
        origin.put("films/a.mp4", std::fs::read(fixture(clip)).unwrap(), etag);
    };
    put("hevc_demo.mp4", "\"1\"");
    let spec = RootSpec::parse(&format!("web={}", origin.at("films"))).unwrap();
    let roots = Roots::new(vec![spec]).unwrap().with_http(HttpClient::new(HttpOptions::default()).unwrap());
    let server = TestServer::with_roots(config(), roots.revalidate_after(GOOD_FOR)).await;
    let still = async || {
        let response = server.get("/frame?video=web/a.mp4&frame=2&format=png").await;
        let (status, etag) = (response.status(), response.headers().get("etag").cloned());
        (status.as_u16(), etag, response.bytes().await.unwrap())
    };
    let expected = |clip: &str| {
        ExpectedStills::with(&fixture(clip), |options| bucket_streamer::still::StillOptions { format: PNG, ..options })
    };
    let (first, other) = (expected("hevc_demo.mp4"), expected("hevc_open_gop.mp4"));
    let (status, etag, bytes) = still().await;
    assert!(status == 200 && bytes == first.stills[&2]);
    put("hevc_open_gop.mp4", "\"2\"");
    tokio::time::sleep(GOOD_FOR).await;
    let (status, new, bytes) = still().await;
    assert!(status == 200 && bytes == other.stills[&2] && new != etag);
    // Within this time, cached stills need no request to the store.
    origin.take_requests();
    tokio::time::sleep(GOOD_FOR).await;
    assert_eq!((still().await.0, still().await.0), (200, 200));
    assert_eq!(origin.take_requests().len(), 1);
    // Another file again, and a server without ETags.
    put("hevc_demo.mp4", "\"3\"");
    origin.set_behaviour(|_| RangeReply::Tagged(""));
    tokio::time::sleep(GOOD_FOR).await;
    let (status, untagged, bytes) = still().await;
    assert!(status == 200 && bytes == first.stills[&2] && untagged != new);
    let new = untagged;
    origin.set_behaviour(|_| RangeReply::HangUp);
    tokio::time::sleep(GOOD_FOR).await;
    assert_eq!(still().await, (200, new, bytes));
    origin.set_behaviour(|_| RangeReply::Status(404, ""));
    tokio::time::sleep(GOOD_FOR).await;
    assert_eq!(still().await.0, 404);
    drop(origin);
}
