//! Abusive clients: their own results do not matter, but they must not harm other clients.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::load::Load;
use crate::ws;

/// Longest duration of one abuse.
const LONGEST: Duration = Duration::from_secs(30);

/// Repeats one kind of abuse, selected by its number.
pub(crate) async fn client(load: Arc<Load>, number: usize, mut random: Rng) {
    while load.goes_on() {
        let (how, what) = match number % 8 {
            0 => ("left in the middle of a response", timeout(LONGEST, gone(&load, &mut random)).await),
            1 => ("left in the middle of a session", timeout(LONGEST, gone_ws(&load, &mut random)).await),
            2 => ("read 1 KB/s", timeout(LONGEST, slow(&load, &mut random)).await),
            3 => ("sent bytes at random", timeout(LONGEST, bytes(&load, &mut random)).await),
            4 => ("sent broken HTTP", timeout(LONGEST, broken_http(&load, &mut random)).await),
            5 => ("sent an invalid message", timeout(LONGEST, broken_ws(&load, &mut random)).await),
            6 => ("requested a million frames", timeout(LONGEST, million(&load, &mut random)).await),
            _ => ("sent nothing", timeout(LONGEST, silent(&load)).await),
        };
        load.counts.abused(how);
        if what.is_ok_and(|done| done.is_none()) {
            load.counts.abused("was disconnected");
        }
        sleep(Duration::from_millis(random.u64(10..200))).await;
    }
}

async fn open(load: &Load) -> Option<TcpStream> {
    TcpStream::connect(load.plan.authority()).await.ok()
}

/// A request for a frame, as it goes over the wire.
fn request(load: &Load, random: &mut Rng) -> String {
    let (video, (frame, _)) = load.any(random);
    let token = load.plan.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    // Only blanks are escaped: names of test clips have no other special characters.
    let video = video.replace(' ', "%20");
    format!("GET /frame/{video}?frame={frame} HTTP/1.1\r\nHost: {}\r\n{token}\r\n", load.plan.authority())
}

async fn gone(load: &Load, random: &mut Rng) -> Option<()> {
    let mut stream = open(load).await?;
    stream.write_all(request(load, random).as_bytes()).await.ok()?;
    // Before the response begins, or in the middle of it.
    sleep(Duration::from_millis(random.u64(0..50))).await;
    let _ = timeout(Duration::from_millis(random.u64(0..100)), stream.read(&mut [0; 100])).await;
    Some(())
}

async fn gone_ws(load: &Load, random: &mut Rng) -> Option<()> {
    let mut socket = ws::connect(load).await.ok()?;
    let (video, _) = load.any(random);
    ws::say(&mut socket, &json!({"type": "SetVideo", "path": video})).await.ok()?;
    let frames: Vec<Value> = (0..50).map(|_| json!({"frame": load.any(random).1.0})).collect();
    ws::say(&mut socket, &json!({"type": "RequestFrames", "frames": frames})).await.ok()?;
    for _ in 0..random.usize(0..6) {
        socket.next().await?.ok()?;
    }
    Some(())
}

async fn slow(load: &Load, random: &mut Rng) -> Option<()> {
    let socket = tokio::net::TcpSocket::new_v4().ok()?;
    // A larger buffer would let the system read for the client.
    socket.set_recv_buffer_size(2048).ok()?;
    let address = tokio::net::lookup_host(load.plan.authority()).await.ok()?.find(|address| address.is_ipv4())?;
    let mut stream = socket.connect(address).await.ok()?;
    for _ in 0..8 {
        stream.write_all(request(load, random).as_bytes()).await.ok()?;
    }
    loop {
        if stream.read(&mut [0; 1024]).await.ok()? == 0 {
            return None;
        }
        sleep(Duration::from_secs(1)).await;
    }
}

async fn bytes(load: &Load, random: &mut Rng) -> Option<()> {
    let mut stream = open(load).await?;
    let garbage: Vec<u8> = (0..random.usize(1..20_000)).map(|_| random.u8(..)).collect();
    stream.write_all(&garbage).await.ok()?;
    stream.read(&mut [0; 1024]).await.ok().filter(|&read| read > 0).map(|_| ())
}

async fn broken_http(load: &Load, random: &mut Rng) -> Option<()> {
    let long = "x".repeat(200_000);
    let head = format!("GET /videos HTTP/1.1\r\nHost: {}\r\n", load.plan.authority());
    let text = match random.u8(..8) {
        0 => "GET / HTTP/9.9\r\n\r\n".to_owned(),
        1 => format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
        2 => format!("{head}X-Long: {long}\r\n\r\n"),
        3 => format!("{head}Content-Length: 5\r\nContent-Length: 7\r\n\r\nabcde"),
        4 => format!("{head}Transfer-Encoding: chunked\r\n\r\nzzz\r\n"),
        5 => "GET /frame/%ff%00/../../etc/passwd?frame=-1 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        6 => format!("GET /frame/a?frame={}&width=4294967295&height=4294967295 HTTP/1.1\r\nHost: x\r\n\r\n", u64::MAX),
        _ => format!("{head}Content-Length: 1000000000\r\n\r\nabc"),
    };
    let mut stream = open(load).await?;
    stream.write_all(text.as_bytes()).await.ok()?;
    stream.read(&mut [0; 1024]).await.ok().filter(|&read| read > 0).map(|_| ())
}

async fn broken_ws(load: &Load, random: &mut Rng) -> Option<()> {
    let mut socket = ws::connect(load).await.ok()?;
    let nested = "[".repeat(100_000);
    let message = match random.u8(..9) {
        0 => Message::text("{"),
        1 => Message::text(r#"{"type":"Nothing"}"#),
        2 => Message::binary(vec![7; 1000]),
        3 => Message::text("x".repeat(8 << 20)),
        4 => Message::text(nested),
        5 => Message::text(r#"{"type":"RequestFrames","frames":[{"frame":-1},{"time":1e400},{"offset":"x"}]}"#),
        6 => Message::text(r#"{"type":"SetVideo","path":"../../etc/passwd"}"#),
        7 => Message::text(r#"{"type":"RequestFrames","frames":[{"frame":1}]}"#),
        _ => Message::text(
            r#"{"type":"RequestFrames","irap_offset":18446744073709551615,"frames":[{"offset":18446744073709551615,"index":0}]}"#,
        ),
    };
    socket.send(message).await.ok()?;
    // An error message or a close: both are correct.
    matches!(socket.next().await?.ok()?, Message::Text(_)).then_some(())
}

async fn million(load: &Load, random: &mut Rng) -> Option<()> {
    let mut socket = ws::connect(load).await.ok()?;
    let (video, _) = load.any(random);
    ws::say(&mut socket, &json!({"type": "SetVideo", "path": video})).await.ok()?;
    socket.next().await?.ok()?;
    // In one message, or in many small ones.
    let (messages, each) = if random.bool() { (1, 1_000_000) } else { (1000, 1000) };
    let frames = vec![r#"{"frame":1}"#; each].join(",");
    for _ in 0..messages {
        let message = Message::text(format!(r#"{{"type":"RequestFrames","frames":[{frames}]}}"#));
        socket.send(message).await.ok()?;
    }
    while socket.next().await?.ok()?.is_text() {}
    Some(())
}

async fn silent(load: &Load) -> Option<()> {
    let mut stream = open(load).await?;
    stream.read(&mut [0; 16]).await.ok().filter(|&read| read > 0).map(|_| ())
}
