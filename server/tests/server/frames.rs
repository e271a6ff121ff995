//! Stills, videos and storyboards, and their headers.

use std::time::Duration;

use bucket_streamer::pixels::{Fit, Shape};
use bucket_streamer::still::StillOptions;
use reqwest::{Method, StatusCode};

use crate::test_server::{ExpectedStills, PNG, TestServer, config};
use testing::clips::fixture;

#[tokio::test(flavor = "multi_thread")]
async fn every_frame_is_the_sequential_decodes() {
    let server = TestServer::open().await;
    for clip in
        ["hevc_open_gop.mp4", "hevc_edit_list.mp4", "h264_bframes.mp4", "hevc_rotated.mp4", "av1.mp4", "hevc.ts"]
    {
        let expected = ExpectedStills::of(&fixture(clip));
        for frame in expected.shuffled(7).into_iter().take(24) {
            let response = server.get(&format!("/frame/fx/{clip}?frame={frame}")).await;
            assert_eq!(response.status(), StatusCode::OK, "{clip} {frame}");
            let headers = response.headers().clone();
            let header = |name: &str| headers[name].to_str().unwrap().to_owned();
            assert_eq!(header("content-type"), "image/jpeg");
            assert_eq!(header("x-frame-index"), frame.to_string());
            assert_eq!(header("x-frame-pts"), expected.pts[&frame].to_string());
            let sample = expected.video.sample_of(frame).unwrap();
            assert_eq!(header("x-frame-key"), sample.key.to_string());
            let time_s = expected.video.timeline().seconds(sample.pts);
            assert!((header("x-frame-time").parse::<f64>().unwrap() - time_s).abs() < 1e-5);
            assert!(
                ["queue;dur=", "fetch;dur=", "decode;dur=", "encode;dur="]
                    .iter()
                    .all(|part| header("server-timing").contains(part))
            );
            assert!(response.bytes().await.unwrap() == expected.stills[&frame][..], "{clip} {frame}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_by_time_by_key_frame_and_by_bytes() {
    let server = TestServer::open().await;
    let expected = ExpectedStills::of(&fixture("hevc_open_gop.mp4"));
    let video = &expected.video;
    let shown = async |query: String| {
        let response = server.get(&format!("/frame/fx/hevc_open_gop.mp4?{query}")).await;
        assert_eq!(response.status(), StatusCode::OK, "{query}");
        let frame: u32 = response.headers()["x-frame-index"].to_str().unwrap().parse().unwrap();
        assert!(response.bytes().await.unwrap() == expected.stills[&frame][..], "{query}");
        frame
    };
    let seconds = |frame: u32| video.timeline().seconds(video.sample_of(frame).unwrap().pts);
    for frame in expected.shuffled(3).into_iter().take(8) {
        assert_eq!(shown(format!("time={}", seconds(frame) + 0.001)).await, frame);
        assert_eq!(shown(format!("time=0:{:06.3}", seconds(frame) + 0.001)).await, frame);
        let keys = video.key_indices();
        let key = keys.iter().copied().filter(|key| *key <= frame).max().unwrap_or(keys[0]);
        if expected.stills.contains_key(&key) {
            assert_eq!(shown(format!("frame={frame}&mode=keyframe")).await, key);
        }
    }
    // By byte offsets of the file, for clients with an index of their own.
    let samples = &video.track().samples;
    for frame in expected.shuffled(5).into_iter().take(8) {
        let own = video.sample_of(frame).unwrap();
        let irap = samples.iter().rfind(|sample| sample.key && sample.offset <= own.offset).unwrap().offset;
        let end = own.offset + u64::from(own.size);
        let base = format!("video=fx/hevc_open_gop.mp4&irap={irap}");
        for query in [
            format!("{base}&end={end}"),
            format!("{base}&offset={}", own.offset),
            format!("{base}&end={end}&offset={}", own.offset),
        ] {
            let response = server.get(&format!("/frame?{query}")).await;
            assert_eq!(response.headers()["x-frame-index"], frame.to_string(), "{query}");
            assert!(response.bytes().await.unwrap() == expected.stills[&frame][..], "{query}");
        }
    }
    let key = samples.iter().find(|sample| sample.key).unwrap().offset;
    let other = samples.iter().find(|sample| !sample.key).unwrap().offset;
    for (query, status) in [
        (format!("irap={other}&end=999999"), 400),
        (format!("irap={}&end=999999", key + 1), 400),
        (format!("irap={key}&end={key}"), 400),
        (format!("irap={key}&offset={}", other + 1), 400),
        (format!("irap={other}"), 400),
        (format!("irap={key}&frame=3"), 400),
        (format!("end={other}"), 400),
    ] {
        let (own, kind) = server.problem(&format!("/frame?video=fx/hevc_open_gop.mp4&{query}")).await;
        assert_eq!((own, &kind[..]), (status, "bad-parameter"), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_still_has_the_requested_size_and_format() {
    let server = TestServer::open().await;
    let clip = "hevc_rotated.mp4";
    let shape = |width, height, fit| Shape { width, height, fit };
    let cases = [
        ("width=64", shape(Some(64), None, Fit::Contain)),
        ("height=40", shape(None, Some(40), Fit::Contain)),
        ("width=50&height=60", shape(Some(50), Some(60), Fit::Contain)),
        ("width=50&height=60&fit=cover", shape(Some(50), Some(60), Fit::Cover)),
        ("width=50&height=60&fit=fill", shape(Some(50), Some(60), Fit::Fill)),
    ];
    for (query, shape) in cases {
        let expected = ExpectedStills::with(&fixture(clip), |options| StillOptions { shape, ..options });
        let response = server.get(&format!("/frame/fx/{clip}?frame=3&{query}")).await;
        assert!(response.bytes().await.unwrap() == expected.stills[&3][..], "{query}");
    }
    let png = ExpectedStills::with(&fixture(clip), |options| StillOptions { format: PNG, ..options });
    let plain = ExpectedStills::with(&fixture(clip), |options| StillOptions { quality: 31, ..options });
    for query in ["format=png", "format=png&quality=3"] {
        let response = server.get(&format!("/frame/fx/{clip}?frame=3&{query}")).await;
        assert_eq!(response.headers()["content-type"], "image/png");
        assert!(response.headers().get("vary").is_none());
        assert!(response.bytes().await.unwrap() == png.stills[&3][..]);
    }
    let accepting = async |accept: &str| {
        let response = server.get_with(&format!("/frame/fx/{clip}?frame=3&quality=31"), &[("accept", accept)]).await;
        assert_eq!(response.status() == 200, response.headers().get("vary").is_some_and(|vary| vary == "Accept"));
        (
            response.status().as_u16(),
            response.headers()["content-type"].to_str().unwrap().to_owned(),
            response.bytes().await.unwrap(),
        )
    };
    assert!(accepting("image/png").await.2 == png.stills[&3][..]);
    assert!(accepting("image/avif,image/*;q=0.8").await.2 == plain.stills[&3][..]);
    let webp = accepting("image/webp").await;
    assert_eq!((webp.1.as_str(), &webp.2[..4], &webp.2[8..12]), ("image/webp", &b"RIFF"[..], &b"WEBP"[..]));
    assert_eq!(accepting("text/html").await.0, 406);
}

#[tokio::test(flavor = "multi_thread")]
async fn known_versions_are_not_sent_again_and_never_change() {
    let server = TestServer::open().await;
    let path = "/frame/fx/hevc_demo.mp4?frame=5";
    let first = server.get(path).await;
    let etag = first.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(
        (first.headers()["cache-control"].to_str().unwrap(), &first.headers()["x-cache"]),
        ("no-cache", &"miss".parse().unwrap())
    );
    let again = server.get_with(path, &[("if-none-match", &etag)]).await;
    assert_eq!((again.status(), again.headers()["etag"].to_str().unwrap()), (StatusCode::NOT_MODIFIED, etag.as_str()));
    assert!(again.bytes().await.unwrap().is_empty());
    let other = server.get_with("/frame/fx/hevc_demo.mp4?frame=6", &[("if-none-match", &etag)]).await;
    assert_eq!(other.status(), StatusCode::OK);
    let kept = server.get(path).await;
    assert_eq!(kept.headers()["x-cache"], "hit");
    let head = server.client.request(Method::HEAD, server.url(path)).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], kept.headers()["content-length"]);
    assert_eq!(head.headers()["x-frame-index"], "5");
    assert!(head.bytes().await.unwrap().is_empty());
    // With the video's current version.
    let video = server.get("/videos/fx/hevc_demo.mp4").await;
    let tag = video.headers()["etag"].to_str().unwrap().trim_matches('"').to_owned();
    let named = server.get(&format!("{path}&v={tag}")).await;
    assert_eq!(named.headers()["cache-control"], "public, max-age=31536000, immutable");
    let named = server.get(&format!("{path}&v=0{}", &tag[1..])).await;
    assert_eq!(named.headers()["cache-control"], "no-cache");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_video_has_another_etag() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str| {
        let part = folder.path().join("part");
        std::fs::copy(fixture(name), &part).unwrap();
        std::fs::rename(&part, folder.path().join("clip.mp4")).unwrap();
    };
    put("hevc_demo.mp4");
    let server = TestServer::with(config(), &[("", folder.path())]).await;
    let still = async || {
        let response = server.get("/frame/clip.mp4?frame=3").await;
        let etag = response.headers()["etag"].to_str().unwrap().to_owned();
        (etag, response.bytes().await.unwrap())
    };
    let (etag, bytes) = still().await;
    assert!(bytes == ExpectedStills::of(&fixture("hevc_demo.mp4")).stills[&3][..]);
    put("h264_bframes.mp4");
    let (other, bytes) = still().await;
    assert!(bytes == ExpectedStills::of(&fixture("h264_bframes.mp4")).stills[&3][..], "the one that is there now");
    assert_ne!(etag, other);
    std::fs::remove_file(folder.path().join("clip.mp4")).unwrap();
    assert_eq!(server.problem("/frame/clip.mp4?frame=3").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_state_their_reason() {
    let server = TestServer::open().await;
    for (path, status, kind) in [
        ("/frame/fx/hevc_demo.mp4", 400, "bad-parameter"),
        ("/frame/fx/hevc_demo.mp4?frame=-1", 400, "bad-parameter"),
        ("/frame/fx/hevc_demo.mp4?frame=1&frame=2", 400, "bad-parameter"),
        ("/frame/fx/hevc_demo.mp4?frame=1&time=2", 400, "bad-parameter"),
        ("/frame/fx/hevc_demo.mp4?time=soon", 400, "bad-parameter"),
        ("/frame/fx/hevc_demo.mp4?frame=1&mode=near", 400, "bad-parameter"),
        ("/frame/fx/hevc_demo.mp4?frame=1&widht=3", 400, "bad-parameter"),
        ("/frame/fx/hevc_demo.mp4?frame=1&width=0", 400, "bad-parameter"),
        ("/frame/fx/hevc_demo.mp4?frame=1&width=100000", 400, "bad-parameter"),
        ("/frame/fx/hevc_demo.mp4?frame=1&quality=101", 400, "bad-parameter"),
        ("/frame/fx/hevc_demo.mp4?frame=1&format=gif", 400, "bad-parameter"),
        ("/frame?frame=1", 400, "bad-parameter"),
        ("/frame/fx/hevc_demo.mp4?frame=99999", 404, "not-found"),
        ("/frame/fx/hevc_demo.mp4?frame=99999999999999", 404, "not-found"),
        ("/frame/fx/hevc_demo.mp4?time=9999", 404, "not-found"),
        ("/frame/fx/missing.mp4?frame=1", 404, "not-found"),
        ("/frame/other/hevc_demo.mp4?frame=1", 404, "not-found"),
        ("/frame/fx/not_video.txt?frame=1", 422, "unreadable-video"),
        ("/frame/fx/empty.mp4?frame=1", 422, "unreadable-video"),
        ("/videos/fx/audio_only.mp4", 422, "unreadable-video"),
        ("/videos?limit=0", 400, "bad-parameter"),
        ("/storyboard/fx/hevc_demo.mp4.gif", 404, "not-found"),
        ("/storyboard/fx/hevc_demo.mp4.jpg?count=100000", 400, "bad-parameter"),
        ("/nothing", 404, "not-found"),
        ("/ws", 400, "bad-parameter"),
    ] {
        assert_eq!(server.problem(path).await, (status, kind.to_owned()), "{path}");
    }
    let post = server.client.post(server.url("/videos")).send().await.unwrap();
    assert_eq!(crate::test_server::problem(post).await.0, 405);
    // A frame that a sequential decode does not show, and a damaged one.
    let expected = ExpectedStills::of(&fixture("hevc_open_gop_cut.265"));
    let missing = (0..expected.video.frame_count() as u32).find(|frame| !expected.stills.contains_key(frame)).unwrap();
    let (status, kind) = server.problem(&format!("/frame/fx/hevc_open_gop_cut.265?frame={missing}")).await;
    assert_eq!((status, kind.as_str()), (422, "undecodable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn storyboards_have_a_cue_for_each_tile() {
    let server = TestServer::open().await;
    let sheet = server.get("/storyboard/fx/hevc_demo.mp4.jpg?count=7&columns=3&width=40").await;
    assert_eq!(sheet.headers()["content-type"], "image/jpeg");
    let jpeg = sheet.bytes().await.unwrap();
    let cues = server.get("/storyboard/fx/hevc_demo.mp4.vtt?count=7&columns=3&width=40").await;
    assert!(cues.headers()["content-type"].to_str().unwrap().starts_with("text/vtt"));
    let etag = cues.headers()["etag"].to_str().unwrap().to_owned();
    let text = cues.text().await.unwrap();
    assert_eq!(text.matches("-->").count(), 7);
    assert!(text.contains("hevc_demo.mp4.jpg?count=7&columns=3&width=40#xywh=80,"), "{text}");
    let (width, height) = jpeg_size(&jpeg);
    assert_eq!(width, 120);
    let cell = height / 3;
    assert!(text.contains(&format!("#xywh=0,{},40,{cell}", 2 * cell)), "{text}");
    let again = server
        .get_with("/storyboard/fx/hevc_demo.mp4.vtt?count=7&columns=3&width=40", &[("if-none-match", &etag)])
        .await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
}

/// Width and height from the frame header (ITU-T T.81, B.2.2).
fn jpeg_size(jpeg: &[u8]) -> (usize, usize) {
    let at = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    let side = |at: usize| usize::from(u16::from_be_bytes([jpeg[at], jpeg[at + 1]]));
    (side(at + 7), side(at + 5))
}

#[tokio::test(flavor = "multi_thread")]
async fn videos_are_listed_in_pages_and_described() {
    let server = TestServer::with(config(), &[("fx", &fixture("")), ("b", &fixture(""))]).await;
    let all = server.json("/videos?limit=1000").await;
    let names = |page: &serde_json::Value| -> Vec<String> {
        page["videos"].as_array().unwrap().iter().map(|one| one["video"].as_str().unwrap().to_owned()).collect()
    };
    let all_names = names(&all);
    assert!(all_names.len() > 60 && all["next"].is_null());
    assert!(all_names.contains(&"fx/hevc_demo.mp4".to_owned()) && all_names.contains(&"b/hevc.ts".to_owned()));
    let (mut paged, mut path) = (Vec::new(), "/videos?limit=7".to_owned());
    loop {
        let response = server.get(&path).await;
        let link = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        let page: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        paged.extend(names(&page));
        assert_eq!(link.is_some(), page["next"].is_string());
        let Some(link) = link else { break };
        path = link.split(['<', '>']).nth(1).unwrap().to_owned();
    }
    assert_eq!(paged, all_names);
    let some = server.json("/videos?prefix=fx/hevc_op").await;
    assert_eq!(names(&some), ["fx/hevc_open_gop.mp4", "fx/hevc_open_gop_cut.265"]);
    let info = server.json("/videos/fx/hevc_demo.mp4").await;
    // The same as the command's `info --json`.
    let video = bucket_streamer::Engine::new(Some(1)).open_path(fixture("hevc_demo.mp4")).unwrap();
    let mut printed = serde_json::to_value(bucket_streamer::Info::of(&video).unwrap()).unwrap();
    printed["video"] = "fx/hevc_demo.mp4".into();
    for (key, value) in printed.as_object().unwrap() {
        assert_eq!(&info[key], value, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_requests_are_decoded_once() {
    let server = TestServer::open().await;
    let before = server.engine.work().decoded_pictures;
    server.get("/frame/fx/hevc_closed_gop.mp4?frame=20").await;
    let one = server.engine.work().decoded_pictures - before;
    let fresh = TestServer::open().await;
    let requests = (0..32).map(|_| fresh.get("/frame/fx/hevc_closed_gop.mp4?frame=20"));
    let answers = futures_util::future::join_all(requests).await;
    assert!(answers.iter().all(|answer| answer.status() == 200));
    assert_eq!(fresh.engine.work().decoded_pictures, one);
    let found: Vec<_> = answers.iter().map(|answer| answer.headers()["x-cache"].to_str().unwrap()).collect();
    assert_eq!(found.iter().filter(|found| **found == "miss").count(), 1, "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_and_clients_see_what_there_is() {
    let server = TestServer::open().await;
    server.get("/frame/fx/hevc_demo.mp4?frame=5").await;
    server.get("/frame/fx/hevc_demo.mp4?frame=5").await;
    assert_eq!(server.metric("http_requests_total{route=\"frame\",status=\"200\"}").await, 2.0);
    assert_eq!(server.metric("still_cache_total{outcome=\"hit\"}").await, 1.0);
    assert_eq!(server.metric("still_stage_duration_seconds_count{stage=\"decode\"}").await, 1.0);
    assert!(server.metric("pictures_decoded_total").await >= 1.0);
    assert!(server.metric("still_cache_held_bytes").await > 1000.0);
    assert!(server.metric("process_resident_bytes").await > 1e6);
    assert_eq!(server.get("/health").await.status(), 200);
    assert_eq!(server.json("/ready").await["ok"], true);
    let page = server.get("/").await;
    assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    assert!(page.headers().contains_key("content-security-policy"));
    let api = server.json("/openapi.json").await;
    let paths = api["paths"].as_object().unwrap();
    for path in [
        "/videos",
        "/videos/{video}",
        "/frame",
        "/frame/{video}",
        "/storyboard/{video}",
        "/ws",
        "/health",
        "/ready",
        "/metrics",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
    let parameters = api["paths"]["/frame/{video}"]["get"]["parameters"].as_array().unwrap();
    for name in ["frame", "time", "mode", "width", "height", "fit", "format", "quality", "v", "signature"] {
        assert!(parameters.iter().any(|parameter| parameter["name"] == name), "{name}");
    }
    let named = server.get_with("/videos", &[("x-request-id", "abc-1")]).await;
    assert_eq!(named.headers()["x-request-id"], "abc-1");
    tokio::time::sleep(Duration::from_millis(1)).await;
}
