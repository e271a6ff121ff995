//! Attempts at access without permission.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bucket_streamer_server::{Config, Credential, Scope, sign};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::socket::{SocketEvent, TestSocket};
use crate::test_server::{TestServer, config, problem};
use testing::clips::fixture;

const TOKEN: &str = "a-token-of-some-length";
const KEY: &str = "a-key-of-some-length";

async fn guarded() -> TestServer {
    let config = Config { tokens: vec!["another-token".into(), TOKEN.into()], url_keys: vec![KEY.into()], ..config() };
    TestServer::with(config, &[("fx", &fixture(""))]).await
}

/// The answer to any bytes: its status and text.
pub(crate) async fn raw(server: &TestServer, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(std::time::Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    (text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), text)
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes()
}

/// Names that no root contains or shows.
const OUTSIDE: [&str; 30] = [
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
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outside_of_the_roots_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir_all(root.join("inner")).unwrap();
    std::fs::copy(fixture("hevc_demo.mp4"), folder.path().join("secret.mp4")).unwrap();
    std::fs::copy(fixture("hevc_demo.mp4"), root.join("inner/in.mp4")).unwrap();
    std::os::unix::fs::symlink("../secret.mp4", root.join("link.mp4")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret.mp4"), root.join("absolute.mp4")).unwrap();
    std::os::unix::fs::symlink("..", root.join("up")).unwrap();
    std::os::unix::fs::symlink("inner/in.mp4", root.join("inside.mp4")).unwrap();
    let server = TestServer::with(config(), &[("a", &root), ("", &root)]).await;
    for good in ["a/inner/in.mp4", "inner/in.mp4", "a/inside.mp4"] {
        assert_eq!(server.get(&format!("/frame/{good}?frame=1")).await.status(), 200, "{good}");
    }
    let secret = folder.path().join("secret.mp4").display().to_string();
    let mut names: Vec<String> = OUTSIDE.map(str::to_owned).into();
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
            let (status, answer) = raw(&server, &get(&target)).await;
            assert!(
                (400..500).contains(&status) || (answer.starts_with("HTTP/1.1 200") && target.starts_with("/videos/?")),
                "{target}: {answer}"
            );
            let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
            assert!(!body.contains(folder.path().to_str().unwrap()), "{body}");
        }
    }
    assert!(!server.json("/videos").await.to_string().contains("secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_of_videos_require_a_token_or_a_signature() {
    let server = guarded().await;
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
        assert_eq!(server.problem(path).await, (401, "unauthorized".to_owned()), "{path}");
        assert_eq!(server.get(path).await.headers()["www-authenticate"], "Bearer");
        let wrong = server.get_with(path, &[("authorization", "Bearer a-token-of-some-lengtH")]).await;
        assert_eq!(wrong.status(), 401, "{path}");
        let head = server.client.head(server.url(path)).send().await.unwrap();
        assert_eq!(head.status(), 401, "{path}");
    }
    // Routes that show no video need no token.
    for path in ["/", "/health", "/ready", "/openapi.json"] {
        assert_eq!(server.get(path).await.status(), 200, "{path}");
    }
    let bearer = format!("Bearer {TOKEN}");
    let answer = server.get_with(frame, &[("authorization", &bearer)]).await;
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["cache-control"].to_str().unwrap()),
        (200, "private, no-cache")
    );
    let signed = sign(KEY, frame, soon);
    assert_eq!(server.get(&signed).await.status(), 200);
    for (wrong, status) in [
        (signed.replace("frame=1", "frame=2"), 403),
        (signed.replace("/frame/fx", "/videos/fx"), 403),
        (signed.replace(&soon.to_string(), &(soon + 9).to_string()), 403),
        (format!("{signed}&width=3"), 403),
        (sign(KEY, frame, soon - 10_000), 403),
        (sign("another-key-of-length", frame, soon), 403),
        (signed.split("&signature").next().unwrap().to_owned(), 401),
    ] {
        assert_eq!(server.get(&wrong).await.status(), status, "{wrong}");
    }
    // The cues of a signed storyboard contain a signed address of its sheet.
    let cues = server.get(&sign(KEY, "/storyboard/fx/hevc_demo.mp4.vtt?count=3", soon)).await.text().await.unwrap();
    let sheet = cues.lines().find(|line| line.contains("#xywh")).unwrap().split('#').next().unwrap().to_owned();
    assert_eq!(server.get(&format!("/storyboard/fx/{sheet}")).await.status(), 200, "{cues}");
    // A page sends its token as a subprotocol.
    let ask = |protocols: Option<String>| {
        let mut request = format!("ws://{}/ws", server.address).into_client_request().unwrap();
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
async fn only_configured_origins_are_allowed() {
    let cors = Config { cors_origins: vec!["https://good.example".into()], ..config() };
    let server = TestServer::with(cors, &[("fx", &fixture(""))]).await;
    let allowed = async |origin: &str| {
        let answer = server.get_with("/videos", &[("origin", origin)]).await;
        answer.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(allowed("https://good.example").await.as_deref(), Some("https://good.example"));
    assert_eq!(allowed("https://evil.example").await, None);
    let plain = TestServer::open().await;
    let answer = plain.get_with("/videos", &[("origin", "https://good.example")]).await;
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
}

const FOR_A: &str = "token-of-customer-a";
const FOR_B: &str = "token-of-customer-b";
const KEY_OF_A: &str = "key-of-customer-a";

fn limited(secret: &str, roots: &[&str], prefixes: &[&str]) -> Credential {
    let owned = |list: &[&str]| list.iter().map(|&one| one.to_owned()).collect();
    let scope = Scope { roots: owned(roots), prefixes: owned(prefixes) };
    Credential { secret: secret.to_owned(), name: Some(secret.to_owned()), scope }
}

/// A server for two customers with folders in one root, one of them with a root of its own, and for an operator.
async fn shared_server(folder: &std::path::Path) -> TestServer {
    let (films, cams) = (folder.join("films"), folder.join("cams"));
    for clip in
        ["customer-a/x.mp4", "customer-a/sub/z.mp4", "customer-ab/y.mp4", "customer-b/x.mp4", "a.mp4", "only.mp4"]
    {
        std::fs::create_dir_all(films.join(clip).parent().unwrap()).unwrap();
        std::fs::copy(fixture("hevc_demo.mp4"), films.join(clip)).unwrap();
    }
    std::fs::create_dir_all(&cams).unwrap();
    std::fs::copy(fixture("hevc_demo.mp4"), cams.join("c.mp4")).unwrap();
    let tokens = vec![
        TOKEN.into(),
        limited(FOR_A, &[], &["films/customer-a/", "films/only.mp4"]),
        limited(FOR_B, &["cams"], &["films/customer-b"]),
    ];
    let url_keys = vec![KEY.into(), limited(KEY_OF_A, &[], &["films/customer-a"])];
    TestServer::with(Config { tokens, url_keys, ..config() }, &[("films", &films), ("cams", &cams)]).await
}

/// The addresses of every route that names a video.
fn routes(video: &str) -> Vec<String> {
    vec![
        format!("/frame/{video}?frame=1&width=64"),
        format!("/frame?video={video}&frame=1&width=64"),
        format!("/frame?video={video}&irap=0&end=9&width=64"),
        format!("/videos/{video}"),
        format!("/storyboard/{video}.jpg?count=2&width=32"),
        format!("/storyboard/{video}.vtt?count=2&width=32"),
    ]
}

async fn as_of(server: &TestServer, token: &str, path: &str) -> reqwest::Response {
    server.get_with(path, &[("authorization", &format!("Bearer {token}"))]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_reaches_its_roots_and_prefixes_and_learns_nothing_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let server = shared_server(folder.path()).await;
    // Cached stills are protected too.
    for video in ["films/customer-b/x.mp4", "films/customer-a/x.mp4", "cams/c.mp4"] {
        for path in routes(video).into_iter().filter(|path| !path.contains("irap")) {
            assert_eq!(as_of(&server, TOKEN, &path).await.status(), 200, "{path}");
        }
    }
    for (token, videos) in [
        (FOR_A, ["films/customer-a/x.mp4", "films/customer-a/sub/z.mp4", "films/only.mp4"]),
        (FOR_B, ["films/customer-b/x.mp4", "films/customer%2Db/x.mp4", "cams/c.mp4"]),
    ] {
        for path in videos.into_iter().flat_map(routes).filter(|path| !path.contains("irap")) {
            assert_eq!(as_of(&server, token, &path).await.status(), 200, "{token} {path}");
        }
    }
    // Existing and missing videos get the same answer.
    let outside = [
        "films/customer-b/x.mp4",
        "films/customer-b/nothing.mp4",
        "films/customer-ab/y.mp4",
        "films/customer-ab",
        "films/customer-A/x.mp4",
        "films/a.mp4",
        "films/only.mp4x",
        "films/customer-a/../customer-b/x.mp4",
        "films/customer-a/%2e%2e/customer-b/x.mp4",
        "films/customer-a%2f..%2fcustomer-b/x.mp4",
        "films/customer-a/..%5ccustomer-b/x.mp4",
        "films//customer-a/x.mp4",
        "films/./customer-a/x.mp4",
        "%66ilms/customer-b/x.mp4",
        "cams/c.mp4",
        "cams/nothing.mp4",
        "nowhere/c.mp4",
        "films",
    ];
    let mut body: Vec<String> = Vec::new();
    for path in outside.into_iter().flat_map(routes) {
        let header = format!("Authorization: Bearer {FOR_A}\r\nIf-None-Match: *\r\nConnection: close\r\nHost: x\r\n");
        let (status, answer) = raw(&server, format!("GET {path} HTTP/1.1\r\n{header}\r\n").as_bytes()).await;
        assert_eq!(status, 403, "{path}: {answer}");
        body.push(answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned());
    }
    body.dedup();
    assert_eq!(body.len(), 1, "{body:#?}");
    let unknown = as_of(&server, FOR_A, "/frame/films/customer-a/nothing.mp4?frame=1").await;
    assert_eq!(problem(unknown).await, (404, "not-found".to_owned()), "errors about its own videos are specific");
    assert_eq!(as_of(&server, FOR_A, "/metrics").await.status(), 403);
    let metrics = as_of(&server, TOKEN, "/metrics").await.text().await.unwrap();
    assert!(!metrics.contains("customer") && !metrics.contains("films"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_contain_what_a_token_reaches_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    let server = shared_server(folder.path()).await;
    let own = ["films/customer-a/sub/z.mp4", "films/customer-a/x.mp4", "films/only.mp4"];
    let theirs = ["cams/c.mp4", "films/customer-b/x.mp4"];
    let all = async |token: &str, limit: usize, more: &str| {
        let (mut found, mut begin) = (Vec::new(), more.to_owned());
        loop {
            let list = as_of(&server, token, &format!("/videos?limit={limit}{begin}")).await;
            assert!(
                list.headers().get("link").is_none_or(|link| token == TOKEN || !link.to_str().unwrap().contains("ab"))
            );
            let list: Value = serde_json::from_slice(&list.bytes().await.unwrap()).unwrap();
            let page: Vec<String> =
                list["videos"].as_array().unwrap().iter().map(|one| one["video"].as_str().unwrap().into()).collect();
            assert!(page.len() <= limit && list["unlisted"] == json!([]), "{list}");
            found.extend(page);
            match list["next"].as_str() {
                Some(next) => {
                    assert!(token == TOKEN || found.iter().any(|one| one == next), "{next}");
                    let prefix = if more.starts_with("&prefix") { more } else { "" };
                    begin = format!("{prefix}&after={next}");
                }
                None => return found,
            }
        }
    };
    for limit in [1, 2, 100] {
        assert_eq!(all(FOR_A, limit, "").await, own);
        assert_eq!(all(FOR_B, limit, "").await, theirs);
        assert_eq!(all(TOKEN, limit, "").await.len(), 7);
        assert_eq!(all(FOR_A, limit, "&prefix=films/customer-").await, own[..2]);
        assert_eq!(all(FOR_A, limit, "&prefix=films/customer-a/s").await, own[..1]);
        assert_eq!(all(FOR_A, limit, "&prefix=films/only").await, own[2..]);
        for none in ["films/customer-b", "films/customer-ab", "cams", "films/only.mp4/", "x"] {
            assert_eq!(all(FOR_A, limit, &format!("&prefix={none}")).await, Vec::<String>::new(), "{none}");
        }
        assert_eq!(all(FOR_A, limit, "&after=films/customer-ab/y.mp4").await, own[2..]);
        assert_eq!(all(FOR_A, limit, "&after=cams/a").await, own);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_reaches_what_its_key_does_and_a_websocket_what_its_token_does() {
    let folder = tempfile::tempdir().unwrap();
    let server = shared_server(folder.path()).await;
    let soon = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 600;
    for (video, status) in [("films/customer-a/x.mp4", 200), ("films/customer-b/x.mp4", 403), ("films/only.mp4", 403)] {
        for path in routes(video).into_iter().filter(|path| !path.contains("irap")) {
            assert_eq!(server.get(&sign(KEY_OF_A, &path, soon)).await.status(), status, "{path}");
            assert_eq!(server.get(&sign(KEY, &path, soon)).await.status(), 200, "{path}");
        }
    }
    let cues = server.get(&sign(KEY_OF_A, "/storyboard/films/customer-a/x.mp4.vtt?count=2", soon)).await;
    let cues = cues.text().await.unwrap();
    let sheet = cues.lines().find(|line| line.contains(".jpg")).unwrap().split('#').next().unwrap();
    assert_eq!(server.get(&format!("/storyboard/films/customer-a/{sheet}")).await.status(), 200, "{sheet}");
    let list = server.get(&sign(KEY_OF_A, "/videos", soon)).await.text().await.unwrap();
    assert!(list.contains("customer-a/x.mp4") && !list.contains("customer-ab") && !list.contains("only"), "{list}");
    assert_eq!(server.get(&sign(KEY_OF_A, "/metrics", soon)).await.status(), 403);
    // Over a WebSocket.
    let mut request = format!("ws://{}/ws", server.address).into_client_request().unwrap();
    let header = HeaderValue::from_str(&format!("Bearer {FOR_A}")).unwrap();
    request.headers_mut().insert("authorization", header);
    let mut line = TestSocket(connect_async(request).await.unwrap().0);
    let mut body = Vec::new();
    for path in ["films/customer-b/x.mp4", "films/customer-b/nothing.mp4", "cams/c.mp4", "films/customer-a/../a.mp4"] {
        line.set_video("films/customer-a/x.mp4").await;
        line.send(json!({"type": "SetVideo", "path": path})).await;
        let SocketEvent::Message(message) = line.receive().await else { panic!("an answer") };
        assert_eq!((&message["type"], &message["ok"]), (&json!("VideoSet"), &json!(false)), "{message}");
        body.push(message["error"].clone());
        line.send(json!({"type": "RequestFrames", "frames": [{"frame": 1}]})).await;
        assert_eq!(line.answers(1).await, [(0, Some("not_found".to_owned()))], "the previous video is not set");
    }
    body.dedup();
    assert_eq!(body.len(), 1, "{body:?}");
    line.set_video("films/customer-a/sub/z.mp4").await;
    line.send(json!({"type": "RequestFrames", "frames": [{"frame": 1}]})).await;
    assert_eq!(line.answers(1).await, [(0, None)]);
}
