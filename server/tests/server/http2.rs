//! HTTP/2 from a hostile client, frame by frame; and answers that the client does not read, over every protocol.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bucket_streamer_server::Config;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::guard::raw;
use crate::socket::TestSocket;
use crate::test_server::{TestServer, config};
use testing::clips::fixture;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of HTTP/2 frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// Flags of HTTP/2 frames.
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// The error code HTTP_1_1_REQUIRED (RFC 9113, section 7).
const REQUIRED: u8 = 0xd;

/// A frame from the server.
#[derive(Debug)]
struct Http2Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// A client that implements the frame format only: it follows no other rule of the protocol.
struct RawClient(TcpStream);

impl RawClient {
    /// Connects with this initial window of each stream.
    async fn connect(server: &TestServer, window: u32) -> RawClient {
        let mut raw = RawClient(TcpStream::connect(server.address).await.unwrap());
        raw.0.write_all(PREFACE).await.unwrap();
        // SETTINGS_INITIAL_WINDOW_SIZE.
        raw.send(SETTINGS, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat()).await.unwrap();
        raw
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<()> {
        let len = (payload.len() as u32).to_be_bytes();
        let frame = [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat();
        self.0.write_all(&frame).await
    }

    async fn get(&mut self, stream: u32, path: &str) -> std::io::Result<()> {
        self.send(HEADERS, END_STREAM | END_HEADERS, stream, &head(path)).await
    }

    /// The next frame; `None` if the server has closed the connection. Acknowledges SETTINGS and PING.
    async fn next(&mut self) -> Option<Http2Frame> {
        loop {
            let mut head = [0; 9];
            let read = tokio::time::timeout(Duration::from_secs(60), self.0.read_exact(&mut head)).await;
            read.expect("a frame, or the end").ok()?;
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; len];
            self.0.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let frame = Http2Frame { kind: head[3], flags: head[4], stream, payload };
            match (frame.kind, frame.flags & ACK) {
                (SETTINGS, 0) => self.send(SETTINGS, ACK, 0, &[]).await.ok()?,
                (PING, 0) => self.send(PING, ACK, 0, &frame.payload).await.ok()?,
                (SETTINGS | PING | WINDOW_UPDATE, _) => {}
                _ => return Some(frame),
            }
        }
    }

    /// The body of an answer; an error if the stream is reset or the connection ends.
    async fn body(&mut self, stream: u32) -> Result<Vec<u8>, Option<Http2Frame>> {
        let mut body = Vec::new();
        loop {
            let frame = self.next().await.ok_or(None)?;
            match frame.kind {
                RST_STREAM if frame.stream == stream => return Err(Some(frame)),
                GOAWAY => return Err(Some(frame)),
                DATA if frame.stream == stream => body.extend_from_slice(&frame.payload),
                _ => {}
            }
            if frame.stream == stream && frame.flags & END_STREAM != 0 {
                return Ok(body);
            }
        }
    }
}

/// The header block of a request in HPACK (RFC 7541), without compression.
fn head(path: &str) -> Vec<u8> {
    // :method GET, :scheme http, :authority x.
    let mut head = vec![0x82, 0x86, 0x01, 1, b'x', 0x04];
    assert!(path.len() < 127);
    head.push(path.len() as u8);
    head.extend_from_slice(path.as_bytes());
    head
}

/// A server that speaks HTTP/2 without TLS.
async fn http2_server(limits: Config) -> TestServer {
    TestServer::with(Config { http2_cleartext: true, ..limits }, &[("fx", &fixture(""))]).await
}

/// A still of some 400 kB.
fn large(frame: u32) -> String {
    format!("/frame/fx/hevc_demo.mp4?frame={frame}&format=png&width=1024")
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_without_tls_is_refused_unless_it_is_enabled() {
    let server = TestServer::open().await;
    for window in [0, 65_535] {
        let mut raw = RawClient::connect(&server, window).await;
        let _ = raw.get(1, "/health").await;
        let frame = raw.next().await.expect("a refusal");
        assert_eq!((frame.kind, frame.stream, frame.payload[7]), (GOAWAY, 0, REQUIRED), "{frame:?}");
        assert!(String::from_utf8_lossy(&frame.payload[8..]).contains("TLS"), "{frame:?}");
        assert!(raw.next().await.is_none(), "closed");
    }
    let metrics = server.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("bucket_streamer_rejected_total{outcome=\"http2\"} 2"), "{metrics}");
    // Nor is there an upgrade from HTTP/1.1.
    let upgrade = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n\
        HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    let (status, answer) = raw(&server, upgrade.as_bytes()).await;
    assert!(status == 200 && answer.starts_with("HTTP/1.1 "), "{answer}");
    // A request that only begins like the preface is refused.
    let (status, answer) = self::raw(&server, b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await;
    assert!(status == 0 || (400..=505).contains(&status), "{answer}");
    let server = http2_server(config()).await;
    let mut raw = RawClient::connect(&server, 65_535).await;
    raw.get(1, "/health").await.unwrap();
    assert!(String::from_utf8(raw.body(1).await.unwrap()).unwrap().contains("\"ok\":true"));
    assert_eq!(server.get("/health").await.status(), 200, "HTTP/1.1 is spoken all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unread_stream_is_reset_while_others_are_read() {
    let server = http2_server(Config { slow_timeout: Duration::from_millis(700), ..config() }).await;
    let len = server.get(&large(1)).await.bytes().await.unwrap().len() as u32;
    // The client reads nothing, a little, or all but the last byte.
    for window in [0, 1, 20_000, len - 1] {
        let mut raw = RawClient::connect(&server, window).await;
        raw.get(1, &large(1)).await.unwrap();
        let mut stream = 3;
        let reset = loop {
            raw.get(stream, "/openapi.json").await.unwrap();
            raw.send(WINDOW_UPDATE, 0, 0, &500_000_u32.to_be_bytes()).await.unwrap();
            raw.send(WINDOW_UPDATE, 0, stream, &500_000_u32.to_be_bytes()).await.unwrap();
            // The other streams' answers arrive, and at some time the reset of stream 1.
            match other(&mut raw, stream).await {
                Some(frame) => break frame,
                None => stream += 2,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!((reset.kind, reset.stream), (RST_STREAM, 1), "window {window}: {reset:?}");
        raw.get(stream + 2, "/health").await.unwrap();
        raw.send(WINDOW_UPDATE, 0, stream + 2, &500_000_u32.to_be_bytes()).await.unwrap();
        assert!(raw.body(stream + 2).await.is_ok(), "the connection goes on");
    }
    // The memory of the reset streams is released.
    for _ in 0..600 {
        if server.metric("reply_held_bytes").await == 0.0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} bytes are held", server.metric("reply_held_bytes").await);
}

/// Reads the answer on a stream; returns the frame that resets another stream, if one arrives before.
async fn other(raw: &mut RawClient, stream: u32) -> Option<Http2Frame> {
    loop {
        let frame = raw.next().await.expect("the connection lives");
        match frame.kind {
            RST_STREAM => return Some(frame),
            _ if frame.stream == stream && frame.flags & END_STREAM != 0 => return None,
            _ => {}
        }
    }
}

/// A connection from another address.
async fn from(address: &str, server: &TestServer) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
    socket.connect(server.address).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_answers_of_all_protocols_have_one_budget_and_leave_room_for_others() {
    const BUDGET: u64 = 6 << 20;
    let server = http2_server(Config { reply_memory: BUDGET, deadline: Duration::from_secs(4), ..config() }).await;
    let one = server.get(&large(0)).await.bytes().await.unwrap().len() as u64;
    assert!(one > 300_000 && one < BUDGET / 8, "{one}");
    // HTTP/2: the maximum of streams, none of them read.
    let mut second = Vec::new();
    for _ in 0..3 {
        let mut raw = RawClient::connect(&server, 0).await;
        for stream in 0..32 {
            raw.get(2 * stream + 1, &large(stream % 8)).await.unwrap();
        }
        second.push(raw);
    }
    // HTTP/1.1 and WebSockets: nothing is read.
    let mut first = Vec::new();
    for number in 0..24 {
        let stream = TcpSocket::new_v4().unwrap();
        stream.set_recv_buffer_size(4096).unwrap();
        let mut stream = stream.connect(server.address).await.unwrap();
        let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", large(number % 8));
        stream.write_all(request.as_bytes()).await.unwrap();
        first.push(stream);
    }
    let mut line = TestSocket::connect(&server).await;
    line.set_video("fx/hevc_demo.mp4").await;
    let frames: Vec<_> = (0..200).map(|frame| json!({"frame": frame})).collect();
    line.send(json!({"type": "RequestFrames", "width": 1024, "quality": 100, "frames": frames})).await;
    // Past the budget, answers are refusals, even for metrics: another address requests those.
    let operator = reqwest::Client::builder().no_proxy().local_address(Some([127, 0, 0, 3].into())).build().unwrap();
    let metrics = async || operator.get(server.url("/metrics")).send().await.unwrap().text().await.unwrap();
    let reply_bytes = async || {
        let text = metrics().await;
        let line = text.lines().find(|line| line.starts_with("bucket_streamer_reply_held_bytes ")).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let mut most: f64 = 0.0;
    for _ in 0..600 {
        most = most.max(reply_bytes().await);
        if metrics().await.contains("outcome=\"replies\"") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(metrics().await.contains("outcome=\"replies\""));
    most = most.max(reply_bytes().await);
    // Clients that wait for room have a quarter more.
    assert!(most > 2.0 * one as f64 && most <= BUDGET as f64 * 1.25, "{most}");
    // A client at another address is not affected.
    for number in 0..8 {
        let mut stream = from("127.0.0.2", &server).await;
        let request = format!("GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", large(number));
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 ") && answer.len() as u64 > one / 2, "{number}");
    }
    // After these clients have disconnected, their answers are dropped.
    drop((second, first, line));
    for _ in 0..600 {
        if reply_bytes().await == 0.0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} bytes are still held", reply_bytes().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_end_the_connection_and_nothing_else() {
    let server = http2_server(config()).await;
    // Requests that are cancelled at once.
    let mut raw = RawClient::connect(&server, 65_535).await;
    let mut sent: u32 = 0;
    for number in 0..3000 {
        let stream = 2 * number + 1;
        let path = format!("/frame/fx/hevc_closed_gop.mp4?frame=200&width={}", 64 + number);
        let is_asked = raw.get(stream, &path).await.is_ok();
        // Gives the server time to begin with each.
        tokio::time::sleep(Duration::from_millis(1)).await;
        if !is_asked || raw.send(RST_STREAM, 0, stream, &8_u32.to_be_bytes()).await.is_err() {
            break;
        }
        sent = number;
    }
    assert!(sent < 2900, "{sent} requests were cancelled");
    // A header block without an end.
    let mut raw = RawClient::connect(&server, 65_535).await;
    raw.send(HEADERS, END_STREAM, 1, &head("/health")).await.unwrap();
    let field = [&[0x00, 1, b'a', 100][..], &[b'b'; 100]].concat();
    let mut sent = 0;
    while sent < 8 << 20 {
        let part = field.repeat(100);
        if raw.send(CONTINUATION, 0, 1, &part).await.is_err() {
            break;
        }
        sent += part.len();
    }
    assert!(sent < 8 << 20, "{sent} bytes of a head");
    // More headers than the limit, which HTTP/1.1 has in its parser.
    let mut raw = RawClient::connect(&server, 65_535).await;
    let many = [head("/health"), [0x00, 1, b'a', 1, b'b'].repeat(100)].concat();
    raw.send(HEADERS, END_STREAM | END_HEADERS, 1, &many).await.unwrap();
    let body = String::from_utf8(raw.body(1).await.unwrap()).unwrap();
    assert!(body.contains("too-many-headers"), "{body}");
    assert_eq!(server.get("/frame/fx/hevc_demo.mp4?frame=1").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_requests_is_closed_despite_pings() {
    let short = Duration::from_millis(600);
    // The server's pings are not answered here: that is no reason to disconnect during this test.
    let ping = Duration::from_secs(600);
    let limits = Config { keep_alive: short, head_timeout: short, deadline: Duration::from_secs(1), ping, ..config() };
    let server = http2_server(limits).await;
    let mut raw = RawClient::connect(&server, 65_535).await;
    raw.get(1, "/health").await.unwrap();
    raw.body(1).await.unwrap();
    let mut pings = 0;
    while raw.send(PING, 0, 0, &[7; 8]).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        pings += 1;
        assert!(pings < 3000, "the connection is still open");
    }
}

/// With TLS the same limits apply: the client negotiates HTTP/2, and reads nothing.
#[tokio::test(flavor = "multi_thread")]
async fn with_tls_an_unread_stream_is_reset() {
    let folder = tempfile::tempdir().unwrap();
    let (certificates, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let certificate = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    std::fs::write(&certificates, certificate.cert.pem()).unwrap();
    std::fs::write(&key, certificate.signing_key.serialize_pem()).unwrap();
    let tls = Some(bucket_streamer_server::Tls { certificates: certificates.clone(), key });
    let limits = Config { tls, slow_timeout: Duration::from_millis(700), ..config() };
    let server = TestServer::with(limits, &[("fx", Path::new(&fixture("")))]).await;
    let trusted = reqwest::Certificate::from_pem(&std::fs::read(&certificates).unwrap()).unwrap();
    let builder =
        reqwest::Client::builder().no_proxy().tls_certs_only([trusted]).http2_initial_stream_window_size(1024);
    let client = builder.resolve("localhost", server.address).build().unwrap();
    let at = |path: &str| format!("https://localhost:{}{path}", server.address.port());
    let unread = client.get(at(&large(1))).send().await.unwrap();
    assert_eq!(unread.version(), reqwest::Version::HTTP_2);
    let mut unread = unread;
    assert!(unread.chunk().await.unwrap().is_some());
    // The connection is not idle meanwhile.
    for _ in 0..600 {
        let metrics = client.get(at("/metrics")).send().await.unwrap().text().await.unwrap();
        if metrics.lines().any(|line| line.starts_with("bucket_streamer_reply_held_bytes ") && line.ends_with(" 0")) {
            let end = loop {
                match unread.chunk().await {
                    Ok(Some(_)) => {}
                    end => break end,
                }
            };
            assert!(end.is_err(), "it was reset");
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the memory of the unread stream is not released");
}
