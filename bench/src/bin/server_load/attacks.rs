//! Attacks on a server that a well-behaved client uses at the same time. Each attack continues until it is dropped.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;

use crate::raw;

/// The source address of most attacks.
const OWN: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// One attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attack {
    None,
    SlowHeads,
    SlowReaders,
    SlowReadersHttp2,
    WebSockets,
    Storyboards,
    Stills,
    StillsOfManyAddresses,
    SlowFiles,
    Bombs,
    StalledRoot,
}

impl Attack {
    pub(crate) const ALL: [Attack; 11] = [
        Attack::None,
        Attack::SlowHeads,
        Attack::SlowReaders,
        Attack::SlowReadersHttp2,
        Attack::WebSockets,
        Attack::Storyboards,
        Attack::Stills,
        Attack::StillsOfManyAddresses,
        Attack::SlowFiles,
        Attack::Bombs,
        Attack::StalledRoot,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Attack::None => "none",
            Attack::SlowHeads => "1,000 slow request heads",
            Attack::SlowReaders => "200 slow readers, HTTP/1.1",
            Attack::SlowReadersHttp2 => "96 unread streams, HTTP/2",
            Attack::WebSockets => "64 WebSockets, 4K frames",
            Attack::Storyboards => "64 exact 4K storyboards",
            Attack::Stills => "200 4K stills, one address",
            Attack::StillsOfManyAddresses => "200 4K stills, 200 addresses",
            Attack::SlowFiles => "64 requests for damaged 4K files",
            Attack::Bombs => "64 requests for picture bombs",
            Attack::StalledRoot => "100 videos of a stalled web root",
        }
    }

    fn clients(self) -> usize {
        match self {
            Attack::None => 0,
            Attack::SlowHeads => 1000,
            Attack::SlowReaders | Attack::Stills | Attack::StillsOfManyAddresses => 200,
            Attack::SlowReadersHttp2 => 3,
            Attack::WebSockets | Attack::Storyboards | Attack::SlowFiles | Attack::Bombs => 64,
            Attack::StalledRoot => 100,
        }
    }

    /// Starts the attack's clients.
    pub(crate) fn start(self, target: &Target) -> JoinSet<()> {
        let mut clients = JoinSet::new();
        for number in 0..self.clients() {
            let target = target.clone();
            clients.spawn(async move {
                loop {
                    let _ = self.once(&target, number as u32).await;
                    sleep(Duration::from_millis(50)).await;
                }
            });
        }
        clients
    }

    async fn once(self, target: &Target, number: u32) -> Option<()> {
        let (clip, server) = (&target.large, target.server);
        let frame = target.next() * 37 % target.frames;
        let still = format!("/frame/{clip}?frame={frame}&quality={}", 60 + number % 40);
        match self {
            Attack::None => {}
            Attack::SlowHeads => slow_head(server).await?,
            Attack::SlowReaders => slow_reader(server, clip, frame).await?,
            Attack::SlowReadersHttp2 => unread_streams(server, clip, frame).await?,
            Attack::WebSockets => flood(server, clip, target.frames, number).await?,
            Attack::Storyboards => {
                let path =
                    format!("/storyboard/{clip}.jpg?mode=exact&count={}&width={}", 60 + number, 100 + target.next());
                drop(raw::get(server, OWN, &path).await.ok()?);
            }
            Attack::Stills => drop(raw::get(server, OWN, &still).await.ok()?),
            Attack::StillsOfManyAddresses => {
                let own = Ipv4Addr::new(127, 0, 1, number as u8 + 1);
                drop(raw::get(server, own, &still).await.ok()?);
            }
            Attack::SlowFiles => {
                let path = format!("/frame/hostile/slow{}.mp4?frame={frame}", number % 8);
                drop(raw::get(server, OWN, &path).await.ok()?);
            }
            Attack::Bombs => {
                let path = format!("/frame/hostile/bomb{}.ivf?frame={}&width=64", number % 8, frame % 20);
                drop(raw::get(server, OWN, &path).await.ok()?);
            }
            Attack::StalledRoot => {
                let path = format!("/frame/stalled/{}.mp4?frame=0", target.next());
                drop(raw::get(server, OWN, &path).await.ok()?);
            }
        }
        Some(())
    }
}

/// The target of an attack.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) server: SocketAddr,
    /// The server's name of a 4K video, and its number of frames.
    pub(crate) large: String,
    pub(crate) frames: u32,
    pub(crate) next: Arc<AtomicU32>,
}

impl Target {
    fn next(&self) -> u32 {
        self.next.fetch_add(1, Relaxed)
    }
}

async fn slow_head(server: SocketAddr) -> Option<()> {
    let mut stream = raw::connect(server, OWN).await.ok()?;
    stream.write_all(b"GET /health HTTP/1.1\r\nX-Slow: ").await.ok()?;
    loop {
        stream.write_all(b"a").await.ok()?;
        sleep(Duration::from_secs(1)).await;
    }
}

async fn slow_reader(server: SocketAddr, clip: &str, frame: u32) -> Option<()> {
    let mut stream = raw::connect_slowly(server, OWN).await.ok()?;
    for place in 0..8 {
        let request =
            format!("GET /frame/{clip}?frame={}&format=png HTTP/1.1\r\nHost: x\r\n\r\n", frame.min(100) + place);
        stream.write_all(request.as_bytes()).await.ok()?;
    }
    loop {
        if stream.read(&mut [0; 1024]).await.ok()? == 0 {
            return None;
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// A connection with 32 streams of HTTP/2 (RFC 9113) by prior knowledge; none is read past its window.
async fn unread_streams(server: SocketAddr, clip: &str, frame: u32) -> Option<()> {
    let mut stream = raw::connect(server, OWN).await.ok()?;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for place in 0..32_u32 {
        let path = format!("/frame/{clip}?frame={}&format=png", (frame + place) % 128);
        let mut block = Vec::new();
        for (name, value) in [(":method", "GET"), (":scheme", "http"), (":path", &path), (":authority", "x")] {
            // A literal without indexing and without Huffman coding (RFC 7541, section 6.2.2); all are short.
            block.extend([0, name.len() as u8]);
            block.extend(name.as_bytes());
            block.push(value.len() as u8);
            block.extend(value.as_bytes());
        }
        bytes.extend(&(block.len() as u32).to_be_bytes()[1..]);
        // HEADERS, with the end of the stream and of the headers.
        bytes.extend([1, 5]);
        bytes.extend((2 * place + 1).to_be_bytes());
        bytes.extend(block);
    }
    stream.write_all(&bytes).await.ok()?;
    // The windows' content arrives, and is not acknowledged.
    loop {
        if stream.read(&mut [0; 65536]).await.ok()? == 0 {
            return None;
        }
    }
}

async fn flood(server: SocketAddr, clip: &str, frames: u32, number: u32) -> Option<()> {
    let stream = raw::connect(server, OWN).await.ok()?;
    let (mut socket, _) = tokio_tungstenite::client_async(format!("ws://{server}/ws"), stream).await.ok()?;
    let text = |value: serde_json::Value| Message::text(value.to_string());
    socket.send(text(serde_json::json!({"type": "SetVideo", "path": clip}))).await.ok()?;
    for message in 0..10 {
        let wanted: Vec<_> = (0..200)
            .map(|place| serde_json::json!({"frame": (number * 31 + message * 17 + place * 53) % frames}))
            .collect();
        let ask = serde_json::json!({"type": "RequestFrames", "quality": 50 + number % 40, "frames": wanted});
        socket.send(text(ask)).await.ok()?;
    }
    while socket.next().await?.is_ok() {}
    Some(())
}
