//! A small HTTP/1.1 server for tests: serves ranges of files, counts what it sends, and misbehaves on command.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

/// The answer to a request, correct or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 206 with the requested range.
    Good,
    /// A status without a body, with a header.
    Status(u16, &'static str),
    /// 200 with the whole file, for any request.
    Whole,
    /// The same without a length.
    WholeUnbounded,
    /// This many bytes of the body, then the connection is closed.
    Cut(u64),
    /// This many bytes of the body, then nothing more.
    Stall(u64),
    /// This many bytes of the body, then the connection is reset.
    ResetAfter(u64),
    /// The body in pieces of this size, with a pause before each.
    Trickle(usize, Duration),
    /// No answer: the connection is closed.
    HangUp,
    /// No answer: the connection is reset.
    Reset,
    /// The head is this late.
    Late(Duration),
    /// The body is longer than Content-Range.
    TooLong,
    /// Another range than the requested one.
    OtherRange,
    /// Claims to be compressed.
    Gzip,
    /// No Content-Range.
    NoContentRange,
    /// Content-Range with another length of the file.
    OtherLength,
    /// 206 with these headers in place of the ETag, for any condition: lines separated by `\r\n`.
    Tagged(&'static str),
    /// The same with status 200 and the whole file.
    WholeTagged(&'static str),
}

/// A request, and its answer.
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

/// Connections since the server started.
#[derive(Debug, Clone, Default)]
pub struct Traffic {
    /// The number of connections.
    pub opened: u64,
    /// The number of connections that are open now.
    pub open: u64,
    /// The most that were open at one time.
    pub most_open: u64,
    /// Requests of each, in the order of the connections.
    pub requests: Vec<u64>,
}

struct State {
    files: Mutex<HashMap<String, File>>,
    log: Mutex<Log>,
    behaviour: Mutex<Behaviour>,
    traffic: Mutex<Traffic>,
    /// By number.
    streams: Mutex<HashMap<usize, Arc<TcpStream>>>,
    is_closed: AtomicBool,
}

/// Requests, and the number of the first one: earlier ones were taken out.
#[derive(Default)]
struct Log {
    first: usize,
    asked: Vec<Asked>,
}

/// A server on a port of its own. It and all of its connections end on drop.
pub struct Server {
    address: SocketAddr,
    state: Arc<State>,
    listener: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            files: Mutex::default(),
            log: Mutex::default(),
            behaviour: Mutex::new(Box::new(|_| Answer::Good)),
            traffic: Mutex::default(),
            streams: Mutex::default(),
            is_closed: AtomicBool::new(false),
        });
        let own = Arc::clone(&state);
        let listener = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if own.is_closed.load(Relaxed) {
                    return;
                }
                let connection = Connection::new(Arc::clone(&own), stream);
                std::thread::spawn(move || while connection.serve().is_some() {});
            }
        });
        Server { address, state, listener: Some(listener) }
    }

    /// Adds or replaces a file, and returns its address.
    pub fn put(&self, name: &str, bytes: Vec<u8>, etag: &str) -> String {
        self.state.files.lock().expect("no panic").insert(format!("/{name}"), (Arc::new(bytes), etag.to_owned()));
        self.at(name)
    }

    /// Adds a file again under another name, and returns that address.
    pub fn put_again(&self, name: &str, again: &str) -> String {
        let mut files = self.state.files.lock().expect("no panic");
        let file = files.get(&format!("/{name}")).expect("it is there").clone();
        files.insert(format!("/{again}"), file);
        drop(files);
        self.at(again)
    }

    /// The address of a file.
    pub fn at(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// Sets how requests are answered from now on.
    pub fn behave(&self, behaviour: impl FnMut(&Asked) -> Answer + Send + 'static) {
        *self.state.behaviour.lock().expect("no panic") = Box::new(behaviour);
    }

    /// The requests since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        let mut log = self.state.log.lock().expect("no panic");
        log.first += log.asked.len();
        std::mem::take(&mut log.asked)
    }

    /// Connections made so far.
    pub fn connections(&self) -> u64 {
        self.traffic().opened
    }

    /// Counts of connections so far.
    pub fn traffic(&self) -> Traffic {
        self.state.traffic.lock().expect("no panic").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.is_closed.store(true, Relaxed);
        // The listener checks the flag when a connection arrives.
        let woken = TcpStream::connect(self.address).is_ok();
        if let Some(listener) = self.listener.take().filter(|_| woken) {
            let _ = listener.join();
        }
        for stream in self.state.streams.lock().expect("no panic").values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// A port where connections are neither accepted nor refused, as behind a firewall that drops packets.
pub struct Deaf {
    pub address: SocketAddr,
    _listener: Socket,
    _waiting: Vec<Socket>,
}

impl Deaf {
    /// Its queue of connections is full.
    pub fn start() -> Deaf {
        let stream = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let listener = stream();
        listener.bind(&any.into()).and_then(|()| listener.listen(0)).expect("a port");
        let address = listener.local_addr().ok().and_then(|address| address.as_socket()).expect("an address");
        let wait = |_| {
            let socket = stream();
            let _ = socket.set_nonblocking(true).and_then(|()| socket.connect(&address.into()));
            socket
        };
        Deaf { address, _waiting: (0..4).map(wait).collect(), _listener: listener }
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

/// An open connection. On drop it is closed and no longer counted.
struct Connection {
    state: Arc<State>,
    stream: Arc<TcpStream>,
    number: usize,
}

impl Connection {
    fn new(state: Arc<State>, stream: TcpStream) -> Connection {
        let mut traffic = state.traffic.lock().expect("no panic");
        let number = traffic.requests.len();
        traffic.requests.push(0);
        traffic.opened += 1;
        traffic.open += 1;
        traffic.most_open = traffic.most_open.max(traffic.open);
        drop(traffic);
        // Without this a body waits for the acknowledgement of its head.
        let _ = stream.set_nodelay(true);
        let stream = Arc::new(stream);
        state.streams.lock().expect("no panic").insert(number, Arc::clone(&stream));
        Connection { state, stream, number }
    }

    /// Answers one request; `None` ends the connection.
    fn serve(&self) -> Option<()> {
        let state = &*self.state;
        let asked = read_request(&self.stream)?;
        state.traffic.lock().expect("no panic").requests[self.number] += 1;
        let answer = (state.behaviour.lock().expect("no panic"))(&asked);
        let name = asked.path.split('?').next().unwrap_or_default();
        let file = state.files.lock().expect("no panic").get(name).cloned();
        let place = {
            let mut log = state.log.lock().expect("no panic");
            log.asked.push(asked.clone());
            log.first + log.asked.len() - 1
        };
        match answer {
            Answer::HangUp => return None,
            Answer::Reset => return self.reset(),
            Answer::Late(time) => self.wait(time)?,
            _ => {}
        }
        let trickle = if let Answer::Trickle(bytes, pause) = answer { Some((bytes, pause)) } else { None };
        let (head, body, stop) = compose(&asked, answer, file);
        // Logged before it is sent, so that the log is complete when the client has the answer.
        let mut log = state.log.lock().expect("no panic");
        if let Some(entry) = place.checked_sub(log.first).and_then(|place| log.asked.get_mut(place)) {
            entry.sent = body.len() as u64;
        }
        drop(log);
        let mut stream = &*self.stream;
        stream.write_all(head.as_bytes()).ok()?;
        for part in body.chunks(trickle.map_or(usize::MAX, |(bytes, _)| bytes)) {
            trickle.map_or(Some(()), |(_, pause)| self.wait(pause))?;
            stream.write_all(part).ok()?;
        }
        match stop {
            Stop::No => Some(()),
            Stop::Close => None,
            Stop::Hang => self.wait(Duration::from_secs(20)).and(None),
            // The sent bytes should arrive first.
            Stop::Reset => self.wait(Duration::from_millis(20)).and_then(|()| self.reset()),
        }
    }

    /// Waits, unless the client disconnects.
    fn wait(&self, time: Duration) -> Option<()> {
        self.stream.set_read_timeout(Some(time.max(Duration::from_millis(1)))).ok()?;
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(None).ok()?;
        match peeked {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Some(()),
            _ => None,
        }
    }

    /// A close without lingering is a reset.
    fn reset(&self) -> Option<()> {
        let _ = SockRef::from(&*self.stream).set_linger(Some(Duration::ZERO));
        None
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.state.streams.lock().expect("no panic").remove(&self.number);
        self.state.traffic.lock().expect("no panic").open -= 1;
    }
}

enum Stop {
    No,
    Close,
    Hang,
    Reset,
}

type Composed = (String, Vec<u8>, Stop);

/// Head and body of an answer, and the action after it.
fn compose(asked: &Asked, answer: Answer, file: Option<File>) -> Composed {
    let status = |status: u16, header: &str| {
        let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
        (format!("HTTP/1.1 {status} no\r\n{header}Content-Length: 0\r\n\r\n"), Vec::new(), Stop::No)
    };
    if let Answer::Status(code, header) = answer {
        return status(code, header);
    }
    let Some((bytes, etag)) = file else { return status(404, "") };
    let etag = if etag.is_empty() { String::new() } else { format!("ETag: {etag}\r\n") };
    let etag = match answer {
        Answer::Tagged("") | Answer::WholeTagged("") => String::new(),
        Answer::Tagged(lines) | Answer::WholeTagged(lines) => format!("{lines}\r\n"),
        _ => etag,
    };
    let is_blind = matches!(answer, Answer::Tagged(_) | Answer::WholeTagged(_));
    if !is_blind && asked.headers.get("if-match").is_some_and(|wanted| !etag.contains(&wanted[..])) {
        return status(412, "");
    }
    let len = bytes.len() as u64;
    let whole = matches!(answer, Answer::Whole | Answer::WholeUnbounded | Answer::WholeTagged(_));
    let Some((start, end)) = asked.range.filter(|_| !whole) else {
        let is_told = answer != Answer::WholeUnbounded;
        let length = if is_told { format!("Content-Length: {len}\r\n") } else { String::new() };
        let stop = if is_told { Stop::No } else { Stop::Close };
        return (format!("HTTP/1.1 200 OK\r\n{length}{etag}\r\n"), bytes.to_vec(), stop);
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
        Answer::ResetAfter(kept) => (stop, _) = (Stop::Reset, body.truncate(kept as usize)),
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
    (head, body, stop)
}
