//! A small HTTP/1.1 server for tests: gives ranges of files, counts what it gives, and misbehaves on command.
#![allow(dead_code, reason = "unit tests use a part of it")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server does with a request instead of answering it well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 206 with what was asked for.
    Good,
    /// A status without a body, with a header.
    Status(u16, &'static str),
    /// 200 with everything, whatever was asked for.
    Whole,
    /// The same without saying how long it is.
    WholeUnbounded,
    /// So many bytes of the body, then the connection ends.
    Cut(u64),
    /// So many bytes of the body, then nothing more.
    Stall(u64),
    /// No answer at all: the connection ends.
    HangUp,
    /// The head comes this late.
    Late(Duration),
    /// The body is longer than Content-Range says.
    TooLong,
    /// Another range than was asked for.
    OtherRange,
    /// Says that it is compressed.
    Gzip,
    /// No Content-Range.
    NoContentRange,
    /// Content-Range with another length of the whole.
    OtherLength,
}

/// A request as it came, and what it got.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Path and query.
    pub path: String,
    /// First byte and one past the last.
    pub range: Option<(u64, u64)>,
    /// By lower-case name.
    pub headers: HashMap<String, String>,
    /// Bytes of the body that were sent.
    pub sent: u64,
}

type Behaviour = Box<dyn FnMut(&Asked) -> Answer + Send>;

/// Bytes and their ETag.
type File = (Arc<Vec<u8>>, String);

struct State {
    files: Mutex<HashMap<String, File>>,
    log: Mutex<Vec<Asked>>,
    behaviour: Mutex<Behaviour>,
    connections: AtomicU64,
}

/// A server on a port of its own, for as long as the process runs.
pub struct Server {
    address: SocketAddr,
    state: Arc<State>,
}

impl Server {
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            files: Mutex::default(),
            log: Mutex::default(),
            behaviour: Mutex::new(Box::new(|_| Answer::Good)),
            connections: AtomicU64::new(0),
        });
        let own = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                own.connections.fetch_add(1, Relaxed);
                let state = Arc::clone(&own);
                std::thread::spawn(move || while serve(&stream, &state).is_some() {});
            }
        });
        Server { address, state }
    }

    /// Puts a file there, or replaces it, and returns its address.
    pub fn put(&self, name: &str, bytes: Vec<u8>, etag: &str) -> String {
        self.state.files.lock().expect("no panic").insert(format!("/{name}"), (Arc::new(bytes), etag.to_owned()));
        self.at(name)
    }

    /// The address of a file.
    pub fn at(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// How requests are answered from now on.
    pub fn behave(&self, behaviour: impl FnMut(&Asked) -> Answer + Send + 'static) {
        *self.state.behaviour.lock().expect("no panic") = Box::new(behaviour);
    }

    /// What was asked since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.log.lock().expect("no panic"))
    }

    /// Connections that were made so far.
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Relaxed)
    }
}

/// Requests and bytes of a list.
pub fn sum(asked: &[Asked]) -> (usize, u64) {
    (asked.len(), asked.iter().map(|asked| asked.sent).sum())
}

fn read_request(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut headers = HashMap::new();
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let range = headers.get("range").and_then(|range| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse::<u64>().ok()? + 1))
    });
    Some(Asked { path, range, headers, sent: 0 })
}

/// Answers one request; `None` ends the connection.
fn serve(stream: &TcpStream, state: &State) -> Option<()> {
    let asked = read_request(stream)?;
    let answer = (state.behaviour.lock().expect("no panic"))(&asked);
    let name = asked.path.split('?').next().unwrap_or_default();
    let file = state.files.lock().expect("no panic").get(name).cloned();
    // What is logged before it is sent is there when the client has it.
    let place = {
        let mut log = state.log.lock().expect("no panic");
        log.push(asked.clone());
        log.len() - 1
    };
    let (head, body, stop) = compose(&asked, answer, file)?;
    if let Some(entry) = state.log.lock().expect("no panic").get_mut(place) {
        entry.sent = body.len() as u64;
    }
    let mut stream = stream;
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&body).ok()?;
    stream.flush().ok()?;
    match stop {
        Stop::No => Some(()),
        Stop::Close => None,
        Stop::Hang => {
            std::thread::sleep(Duration::from_secs(20));
            None
        }
    }
}

enum Stop {
    No,
    Close,
    Hang,
}

type Composed = (String, Vec<u8>, Stop);

fn compose(asked: &Asked, answer: Answer, file: Option<File>) -> Option<Composed> {
    let status = |status: u16, header: &str| {
        let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
        Some((format!("HTTP/1.1 {status} no\r\n{header}Content-Length: 0\r\n\r\n"), Vec::new(), Stop::No))
    };
    match answer {
        Answer::Status(code, header) => return status(code, header),
        Answer::HangUp => return None,
        Answer::Late(time) => std::thread::sleep(time),
        _ => {}
    }
    let Some((bytes, etag)) = file else { return status(404, "") };
    let etag = if etag.is_empty() { String::new() } else { format!("ETag: {etag}\r\n") };
    if asked.headers.get("if-match").is_some_and(|wanted| !etag.contains(&wanted[..])) {
        return status(412, "");
    }
    let len = bytes.len() as u64;
    let whole = matches!(answer, Answer::Whole | Answer::WholeUnbounded);
    let Some((start, end)) = asked.range.filter(|_| !whole) else {
        let length = if answer == Answer::Whole { format!("Content-Length: {len}\r\n") } else { String::new() };
        let stop = if answer == Answer::Whole { Stop::No } else { Stop::Close };
        return Some((format!("HTTP/1.1 200 OK\r\n{length}{etag}\r\n"), bytes.to_vec(), stop));
    };
    if start >= len {
        return status(416, &format!("Content-Range: bytes */{len}"));
    }
    let end = end.min(len);
    let mut body = bytes[start as usize..end as usize].to_vec();
    let (mut told, mut told_len, mut more, mut stop) = ((start, end), len, etag, Stop::No);
    let content_length = body.len() as u64;
    match answer {
        Answer::Cut(kept) => (stop, _) = (Stop::Close, body.truncate(kept as usize)),
        Answer::Stall(kept) => (stop, _) = (Stop::Hang, body.truncate(kept as usize)),
        Answer::OtherRange => told = (start + 1, end + 1),
        Answer::OtherLength => told_len += 1000,
        Answer::Gzip => more += "Content-Encoding: gzip\r\n",
        Answer::TooLong => body.extend([0; 100]),
        _ => {}
    }
    let content_length = if answer == Answer::TooLong { body.len() as u64 } else { content_length };
    let range = format!("Content-Range: bytes {}-{}/{told_len}\r\n", told.0, told.1 - 1);
    let range = if answer == Answer::NoContentRange { String::new() } else { range };
    let head = format!("HTTP/1.1 206 Partial Content\r\nContent-Length: {content_length}\r\n{range}{more}\r\n");
    Some((head, body, stop))
}
