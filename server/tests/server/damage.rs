//! Damaged pictures are flagged or refused, by the policy of the request or else the server's.

use bucket_streamer::{Engine, OnDamage};
use bucket_streamer_server::Config;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::socket::{SocketEvent, TestSocket};
use crate::test_server::{TestServer, config};
use testing::clips::{damaged, fixture, flagged_and_sound};

/// A server with a damaged clip, `damaged.mp4`, and the fixtures.
struct DamageServer {
    server: TestServer,
    folder: TempDir,
    flagged: Vec<u32>,
    sound: Vec<u32>,
}

impl DamageServer {
    async fn with(config: Config) -> DamageServer {
        let folder = tempfile::tempdir().unwrap();
        let (flagged, sound) = flagged_and_sound(&damaged(folder.path()));
        let server = TestServer::with(config, &[("", folder.path()), ("fx", &fixture(""))]).await;
        DamageServer { server, folder, flagged, sound }
    }

    async fn get(&self, frame: u32, more: &str) -> Response {
        self.server.get(&format!("/frame/damaged.mp4?frame={frame}{more}")).await
    }

    async fn known(&self, frame: u32, more: &str, etag: &str) -> Response {
        self.server.get_with(&format!("/frame/damaged.mp4?frame={frame}{more}"), &[("if-none-match", etag)]).await
    }

    fn all(&self) -> usize {
        self.flagged.len() + self.sound.len()
    }
}

fn is_flagged(response: &Response) -> bool {
    response.headers().get("x-frame-corrupt").is_some_and(|value| value == "true")
}

fn header(response: &Response, name: &str) -> String {
    response.headers()[name].to_str().unwrap().to_owned()
}

/// Checks that an answer is a problem document that names the damaged frame.
async fn check_refused(response: Response, frame: u32) {
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        (header(&response, "content-type").as_str(), is_flagged(&response)),
        ("application/problem+json", false)
    );
    assert_eq!(header(&response, "cache-control"), "no-store");
    let document: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!((&document["type"], &document["frame"]), (&json!("undecodable"), &json!(frame)), "{document}");
    assert!(document["detail"].as_str().unwrap().contains("the picture is damaged"), "{document}");
    assert!(document["sample"].is_u64() && document["offset"].is_u64(), "{document}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_still_is_flagged_or_refused_by_the_policy_of_each_request() {
    let server = DamageServer::with(config()).await;
    let frame = server.flagged[0];
    // The still is made for a request that refuses damage, and cached for those that accept it.
    check_refused(server.get(frame, "&on-damage=error").await, frame).await;
    for more in ["", "&on-damage=flag", ""] {
        let flagged = server.get(frame, more).await;
        assert_eq!((flagged.status(), header(&flagged, "x-cache").as_str()), (StatusCode::OK, "hit"));
        assert!(is_flagged(&flagged));
        assert_eq!(flagged.bytes().await.unwrap()[..2], [0xff, 0xd8]);
    }
    check_refused(server.get(frame, "&on-damage=error").await, frame).await;
    // The same for other forms of the still.
    check_refused(server.get(frame, "&on-damage=error&width=64&format=png").await, frame).await;
    let sound = server.sound[0];
    for more in ["", "&on-damage=flag", "&on-damage=error"] {
        let response = server.get(sound, more).await;
        assert_eq!((response.status(), is_flagged(&response)), (StatusCode::OK, false), "{more}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_still_is_not_revalidated_for_a_request_that_refuses_damage() {
    let server = DamageServer::with(config()).await;
    let (frame, sound) = (server.flagged[0], server.sound[0]);
    let etag = header(&server.get(frame, "").await, "etag");
    assert_eq!(server.known(frame, "&on-damage=flag", &etag).await.status(), StatusCode::NOT_MODIFIED);
    check_refused(server.known(frame, "&on-damage=error", &etag).await, frame).await;
    let (flag, error) = (server.get(sound, "").await, server.get(sound, "&on-damage=error").await);
    let (loose, strict) = (header(&flag, "etag"), header(&error, "etag"));
    assert_ne!(loose, strict);
    assert!(flag.bytes().await.unwrap() == error.bytes().await.unwrap(), "the same still");
    assert_eq!(server.known(sound, "&on-damage=error", &strict).await.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(server.known(sound, "&on-damage=error", &loose).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_both_kinds_share_one_decode() {
    let server = DamageServer::with(config()).await;
    let frame = server.flagged[0];
    let asked = (0..16).map(|number| server.get(frame, if number % 2 == 0 { "" } else { "&on-damage=error" }));
    for (number, response) in futures_util::future::join_all(asked).await.into_iter().enumerate() {
        if number % 2 == 0 {
            assert_eq!((response.status(), is_flagged(&response)), (StatusCode::OK, true));
        } else {
            check_refused(response, frame).await;
        }
    }
    assert_eq!(server.server.metric("still_cache_total{outcome=\"miss\"}").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_by_bytes_have_the_same_choice() {
    let server = DamageServer::with(config()).await;
    let frame = server.flagged[0];
    let video = Engine::new(Some(1)).open_path(server.folder.path().join("damaged.mp4")).unwrap();
    let own = video.sample_of(frame).unwrap();
    let samples = &video.track().samples;
    let irap = samples.iter().rfind(|sample| sample.key && sample.offset <= own.offset).unwrap().offset;
    let path = format!("/frame?video=damaged.mp4&irap={irap}&offset={}", own.offset);
    let flagged = server.server.get(&path).await;
    assert_eq!((flagged.status(), is_flagged(&flagged)), (StatusCode::OK, true));
    check_refused(server.server.get(&format!("{path}&on-damage=error")).await, frame).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn storyboards_say_that_they_show_damage_or_are_refused() {
    let server = DamageServer::with(config()).await;
    let query = format!("count={}&columns=20&width=32&mode=exact", server.all());
    for kind in ["jpg", "vtt"] {
        let path = format!("/storyboard/damaged.mp4.{kind}?{query}");
        let flagged = server.server.get(&path).await;
        assert_eq!((flagged.status(), is_flagged(&flagged)), (StatusCode::OK, true), "{kind}");
        let etag = header(&flagged, "etag");
        let refusing = format!("{path}&on-damage=error");
        check_refused(server.server.get(&refusing).await, server.flagged[0]).await;
        check_refused(server.server.get_with(&refusing, &[("if-none-match", &etag)]).await, server.flagged[0]).await;
        let sound = server.server.get(&format!("/storyboard/fx/hevc_demo.mp4.{kind}?count=4&on-damage=error")).await;
        assert_eq!((sound.status(), is_flagged(&sound)), (StatusCode::OK, false), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_policy_get_the_servers() {
    let server = DamageServer::with(Config { on_damage: OnDamage::Error, ..config() }).await;
    let frame = server.flagged[0];
    check_refused(server.get(frame, "").await, frame).await;
    assert!(is_flagged(&server.get(frame, "&on-damage=flag").await));
    let mut line = TestSocket::connect(&server.server).await;
    line.set_video("damaged.mp4").await;
    line.send(json!({"type": "RequestFrames", "frames": [{"frame": frame}]})).await;
    assert_eq!(line.answers(1).await, [(0, Some("decode_failed".to_owned()))]);
    line.send(json!({"type": "RequestFrames", "frames": [{"frame": frame}], "on_damage": "flag"})).await;
    assert!(matches!(line.receive().await, SocketEvent::Frame(message, _) if message["corrupt"] == true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_damage_policy_is_an_error() {
    let server = DamageServer::with(config()).await;
    for path in [
        "/frame/damaged.mp4?frame=1&on-damage=ignore",
        "/frame/damaged.mp4?frame=1&on-damage=",
        "/frame/damaged.mp4?frame=1&on-damage=Error",
        "/frame?video=damaged.mp4&frame=1&on-damage=1",
        "/storyboard/damaged.mp4.jpg?on-damage=ignore",
        "/storyboard/damaged.mp4.vtt?on-damage=ignore",
    ] {
        let response = server.server.get(path).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{path}");
        let document: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        let detail = document["detail"].as_str().unwrap();
        assert!(["on-damage", "flag", "error"].iter().all(|part| detail.contains(part)), "{detail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_over_a_websocket_are_flagged_or_refused() {
    let server = DamageServer::with(config()).await;
    let mut line = TestSocket::connect(&server.server).await;
    line.set_video("damaged.mp4").await;
    let all: Vec<Value> = (0..server.all()).map(|frame| json!({"frame": frame})).collect();
    // First decoded for requests that refuse damage, then from memory for both kinds, then decoded for requests that
    // accept damage.
    for (policy, width) in
        [(Some("error"), 64), (Some("error"), 64), (None, 64), (Some("flag"), 96), (Some("error"), 96)]
    {
        let mut message = json!({"type": "RequestFrames", "frames": all, "width": width});
        if let Some(policy) = policy {
            message["on_damage"] = json!(policy);
        }
        line.send(message).await;
        for frame in 0..server.all() as u32 {
            let is_damaged = server.flagged.contains(&frame);
            match line.receive().await {
                SocketEvent::Frame(message, _) => {
                    assert_eq!((&message["index"], policy == Some("error") && is_damaged), (&json!(frame), false));
                    assert_eq!(message["corrupt"] == true, is_damaged, "{message}");
                }
                SocketEvent::Message(message) => {
                    assert_eq!((policy, is_damaged), (Some("error"), true), "{message}");
                    assert_eq!((&message["type"], &message["index"]), (&json!("FrameError"), &json!(frame)));
                    assert_eq!(message["error"], "decode_failed");
                    assert!(message["message"].as_str().unwrap().contains("damaged"), "{message}");
                }
                SocketEvent::Closed(code) => panic!("closed: {code:?}"),
            }
        }
    }
    for wrong in [json!("ignore"), json!(1)] {
        line.send(json!({"type": "RequestFrames", "frames": [{"frame": 1}], "on_damage": wrong})).await;
        let said = line.receive().await;
        assert!(
            matches!(&said, SocketEvent::Message(message) if message["type"] == "Error" && message["message"].as_str().unwrap().contains("on_damage")),
            "{said:?}"
        );
        assert_eq!(line.answers(1).await, [(0, Some("decode_failed".to_owned()))]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_document_has_the_choice() {
    let server = DamageServer::with(config()).await;
    let api = server.server.json("/openapi.json").await;
    for path in ["/frame/{video}", "/frame", "/storyboard/{video}"] {
        let get = &api["paths"][path]["get"];
        let parameters = get["parameters"].as_array().unwrap();
        let parameter = parameters.iter().find(|parameter| parameter["name"] == "on-damage").unwrap();
        let text = parameter.to_string();
        assert!(text.contains("\"flag\"") && text.contains("\"error\"") && parameter["required"] == false, "{text}");
        assert!(get["responses"]["422"]["description"].as_str().unwrap().contains("damaged"), "{path}");
    }
}
