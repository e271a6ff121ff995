//! Attempts to get in where nobody should.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bucket_streamer::server::{Config, sign};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::common::fixture;
use crate::house::{House, config};

const TOKEN: &str = "a-token-of-some-length";
const KEY: &str = "a-key-of-some-length";

async fn guarded() -> House {
    let config = Config { tokens: vec!["another-token".into(), TOKEN.into()], url_keys: vec![KEY.into()], ..config() };
    House::with(config, &[("fx", &fixture(""))]).await
}

/// The answer to bytes that no well-behaved client would send: its status, and all of it.
pub async fn raw(house: &House, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(std::time::Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    (text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), text)
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outside_of_the_roots() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir_all(root.join("inner")).unwrap();
    std::fs::copy(fixture("hevc_demo.mp4"), folder.path().join("secret.mp4")).unwrap();
    std::fs::copy(fixture("hevc_demo.mp4"), root.join("inner/in.mp4")).unwrap();
    std::os::unix::fs::symlink("../secret.mp4", root.join("link.mp4")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret.mp4"), root.join("absolute.mp4")).unwrap();
    std::os::unix::fs::symlink("..", root.join("up")).unwrap();
    std::os::unix::fs::symlink("inner/in.mp4", root.join("inside.mp4")).unwrap();
    let house = House::with(config(), &[("a", &root), ("", &root)]).await;
    for good in ["a/inner/in.mp4", "inner/in.mp4", "a/inside.mp4"] {
        assert_eq!(house.get(&format!("/frame/{good}?frame=1")).await.status(), 200, "{good}");
    }
    let secret = folder.path().join("secret.mp4").display().to_string();
    let mut names: Vec<String> = [
        "../secret.mp4",
        "a/../secret.mp4",
        "a/../../secret.mp4",
        "a/inner/../../secret.mp4",
        "link.mp4",
        "a/link.mp4",
        "a/absolute.mp4",
        "a/up/secret.mp4",
        "up/secret.mp4",
        "%2e%2e/secret.mp4",
        "a/%2e%2e/secret.mp4",
        "a%2f..%2f..%2fsecret.mp4",
        "a/..%2fsecret.mp4",
        "a/inner/%2e%2e/%2e%2e/secret.mp4",
        "a/.%2e/secret.mp4",
        "..%5csecret.mp4",
        "a/inner%00/in.mp4",
        "a/inner/in.mp4%00.jpg",
        "a//inner/in.mp4",
        "a/./inner/in.mp4",
        "/etc/passwd",
        "//etc/passwd",
        "%2fetc%2fpasswd",
        "file:///etc/passwd",
        "a/inner",
        "http://127.0.0.1/x.mp4",
        "s3://bucket/x.mp4",
        "a",
        "a/",
        "",
    ]
    .map(str::to_owned)
    .into();
    names.push(secret.clone());
    names.push(format!("a/{secret}"));
    names.push(format!("file://{secret}"));
    for name in names {
        for target in [
            format!("/frame/{name}?frame=1"),
            format!("/frame?video={name}&frame=1"),
            format!("/videos/{name}?v=1"),
            format!("/storyboard/{name}.jpg"),
        ] {
            let (status, answer) = raw(&house, &get(&target)).await;
            assert!(
                (400..500).contains(&status) || (answer.starts_with("HTTP/1.1 200") && target.starts_with("/videos/?")),
                "{target}: {answer}"
            );
            let told = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
            assert!(!told.contains(folder.path().to_str().unwrap()), "{told}");
        }
    }
    assert!(!house.json("/videos").await.to_string().contains("secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_with_a_token_or_a_signature() {
    let house = guarded().await;
    let frame = "/frame/fx/hevc_demo.mp4?frame=1";
    let soon = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 600;
    for path in [
        frame,
        "/videos",
        "/videos/fx/hevc_demo.mp4",
        "/storyboard/fx/hevc_demo.mp4.vtt",
        "/metrics",
        "/ws",
        "/frame?video=fx/hevc_demo.mp4&frame=1",
    ] {
        assert_eq!(house.problem(path).await, (401, "unauthorized".to_owned()), "{path}");
        assert_eq!(house.get(path).await.headers()["www-authenticate"], "Bearer");
        let wrong = house.get_with(path, &[("authorization", "Bearer a-token-of-some-lengtH")]).await;
        assert_eq!(wrong.status(), 401, "{path}");
        let head = house.client.head(house.url(path)).send().await.unwrap();
        assert_eq!(head.status(), 401, "{path}");
    }
    // What shows nothing of videos is open.
    for path in ["/", "/health", "/ready", "/openapi.json"] {
        assert_eq!(house.get(path).await.status(), 200, "{path}");
    }
    let bearer = format!("Bearer {TOKEN}");
    let answer = house.get_with(frame, &[("authorization", &bearer)]).await;
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["cache-control"].to_str().unwrap()),
        (200, "private, no-cache")
    );
    let signed = sign(KEY, frame, soon);
    assert_eq!(house.get(&signed).await.status(), 200);
    for (wrong, status) in [
        (signed.replace("frame=1", "frame=2"), 403),
        (signed.replace("/frame/fx", "/videos/fx"), 403),
        (signed.replace(&soon.to_string(), &(soon + 9).to_string()), 403),
        (format!("{signed}&width=3"), 403),
        (sign(KEY, frame, soon - 10_000), 403),
        (sign("another-key-of-length", frame, soon), 403),
        (signed.split("&signature").next().unwrap().to_owned(), 401),
    ] {
        assert_eq!(house.get(&wrong).await.status(), status, "{wrong}");
    }
    // The cues of a signed storyboard lead to its sheet.
    let cues = house.get(&sign(KEY, "/storyboard/fx/hevc_demo.mp4.vtt?count=3", soon)).await.text().await.unwrap();
    let sheet = cues.lines().find(|line| line.contains("#xywh")).unwrap().split('#').next().unwrap().to_owned();
    assert_eq!(house.get(&format!("/storyboard/fx/{sheet}")).await.status(), 200, "{cues}");
    // A page names its token among the subprotocols.
    let ask = |protocols: Option<String>| {
        let mut request = format!("ws://{}/ws", house.address).into_client_request().unwrap();
        if let Some(protocols) = protocols {
            request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_str(&protocols).unwrap());
        }
        connect_async(request)
    };
    assert!(ask(None).await.is_err());
    let bearer = |token: &str| Some(format!("bucket-streamer, bearer.{}", URL_SAFE_NO_PAD.encode(token)));
    assert!(ask(bearer("wrong-token-of-length")).await.is_err());
    let (_, answer) = ask(bearer(TOKEN)).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "bucket-streamer");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_only_where_they_are_named() {
    let cors = Config { cors_origins: vec!["https://good.example".into()], ..config() };
    let house = House::with(cors, &[("fx", &fixture(""))]).await;
    let allowed = async |origin: &str| {
        let answer = house.get_with("/videos", &[("origin", origin)]).await;
        answer.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(allowed("https://good.example").await.as_deref(), Some("https://good.example"));
    assert_eq!(allowed("https://evil.example").await, None);
    let plain = House::open().await;
    let answer = plain.get_with("/videos", &[("origin", "https://good.example")]).await;
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
}
