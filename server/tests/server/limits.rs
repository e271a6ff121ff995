//! Requests that are too large, too long, too slow, or malformed.

use std::time::Duration;

use bucket_streamer_server::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::guard::raw;
use crate::test_server::{TestServer, config};
use testing::clips::fixture;

#[tokio::test(flavor = "multi_thread")]
async fn large_heads_and_malformed_requests_are_refused() {
    let server = TestServer::open().await;
    let long = format!("GET /frame/{}?frame=1 HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
    let header = format!("GET /videos HTTP/1.1\r\nHost: x\r\nX-A: {}\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET /videos HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(200));
    for request in [long, header, many] {
        let (status, answer) = raw(&server, request.as_bytes()).await;
        assert!((400..500).contains(&status), "{answer}");
    }
    for request in [
        &b"\0\xff\xfe nonsense\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    ] {
        let (status, answer) = raw(&server, request).await;
        assert!(status == 0 || (400..=505).contains(&status), "{answer}");
    }
    assert_eq!(server.get("/videos").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_closed() {
    let limits = Config { head_timeout: Duration::from_millis(300), deadline: Duration::from_millis(200), ..config() };
    let server = TestServer::with(limits, &[("fx", &fixture(""))]).await;
    for begun in [&b""[..], b"GET /vid", b"GET /videos HTTP/1.1\r\nHost: x\r\n", b"PRI * HT"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(begun).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{begun:?}");
    }
    assert_eq!(server.metric("connections_open").await, 1.0, "the connection of this request");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_above_the_limit_get_a_refusal() {
    let server = TestServer::with(Config { connections: 3, ..config() }, &[("fx", &fixture(""))]).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        held.push(stream);
    }
    let (status, answer) = raw(&server, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer.contains("Retry-After: 1") && answer.contains("application/problem+json"));
    drop(held);
    // Closed connections return their slots.
    for _ in 0..200 {
        if raw(&server, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.0 == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unresponsive_or_idle_websocket_is_closed() {
    use crate::socket::{SocketEvent, TestSocket};
    use futures_util::StreamExt;
    let limits = Config { ping: Duration::from_millis(100), idle_timeout: Duration::from_millis(500), ..config() };
    let server = TestServer::with(limits, &[("fx", &fixture(""))]).await;
    // A client that answers pings, as its library does while the test reads.
    let mut line = TestSocket::connect(&server).await;
    assert_eq!(line.receive().await, SocketEvent::Closed(Some(1008)));
    // A client that reads nothing.
    let line = TestSocket::connect(&server).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    for _ in 0..500 {
        if server.metric("websockets_open").await == 0.0 {
            drop(line);
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (_, mut stream) = futures_util::StreamExt::split::<tokio_tungstenite::tungstenite::Message>(line.0);
    panic!("still open: {:?}", stream.next().await);
}
