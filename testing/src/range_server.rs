//! A small HTTP/1.1 server for tests: serves ranges of files, counts its requests and bytes, and misbehaves on command.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

/// The reply to a request, correct or faulty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeReply {
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

/// A request, and its reply.
#[derive(Debug, Clone)]
pub struct RangeRequest {
    /// Path and query.
    pub path: String,
    /// First byte and one past the last.
    pub range: Option<(u64, u64)>,
    /// By lower-case name.
    pub headers: HashMap<String, String>,
    /// Bytes of the body that were sent.
    pub sent: u64,
}

type ServerBehaviour = Box<dyn FnMut(&RangeRequest) -> RangeReply + Send>;

/// Bytes and their ETag.
type RangeFile = (Arc<Vec<u8>>, String);

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

struct RangeServerState {
    files: Mutex<HashMap<String, RangeFile>>,
    log: Mutex<RangeRequestLog>,
    behaviour: Mutex<ServerBehaviour>,
    traffic: Mutex<Traffic>,
    /// By number.
    streams: Mutex<HashMap<usize, Arc<TcpStream>>>,
    is_closed: AtomicBool,
}

/// Requests, and the number of the first one: [`RangeServer::take_requests`] removes earlier ones.
#[derive(Default)]
struct RangeRequestLog {
    first: usize,
    requests: Vec<RangeRequest>,
}

/// A server on a port of its own. It and all of its connections end on drop.
pub struct RangeServer {
    address: SocketAddr,
    state: Arc<RangeServerState>,
    listener: Option<JoinHandle<()>>,
}

impl RangeServer {
    /// Starts a server without files on a free port of the loopback interface.
    pub fn start() -> RangeServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(RangeServerState {
            files: Mutex::default(),
            log: Mutex::default(),
            behaviour: Mutex::new(Box::new(|_| RangeReply::Good)),
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
                let connection = RangeConnection::new(Arc::clone(&own), stream);
                std::thread::spawn(move || while connection.serve().is_some() {});
            }
        });
        RangeServer { address, state, listener: Some(listener) }
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

    /// The address of a file with this name, which need not exist.
    pub fn at(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// Sets the function that chooses the reply to each later request. By default each reply is correct.
    pub fn set_behaviour(&self, behaviour: impl FnMut(&RangeRequest) -> RangeReply + Send + 'static) {
        *self.state.behaviour.lock().expect("no panic") = Box::new(behaviour);
    }

    /// Removes and returns the requests since the last call, in the order of their arrival.
    pub fn take_requests(&self) -> Vec<RangeRequest> {
        let mut log = self.state.log.lock().expect("no panic");
        log.first += log.requests.len();
        std::mem::take(&mut log.requests)
    }

    /// The number of connections since the start.
    pub fn connections(&self) -> u64 {
        self.traffic().opened
    }

    /// A copy of the counts since the start.
    pub fn traffic(&self) -> Traffic {
        self.state.traffic.lock().expect("no panic").clone()
    }
}

impl Drop for RangeServer {
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
pub struct UnresponsivePort {
    pub address: SocketAddr,
    _listener: Socket,
    _waiting: Vec<Socket>,
}

impl UnresponsivePort {
    /// Opens a port and fills its queue of connections.
    pub fn start() -> UnresponsivePort {
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
        UnresponsivePort { address, _waiting: (0..4).map(wait).collect(), _listener: listener }
    }
}

/// The number of requests, and the sum of the sent bytes of their bodies.
pub fn totals(requests: &[RangeRequest]) -> (usize, u64) {
    (requests.len(), requests.iter().map(|asked| asked.sent).sum())
}

fn read_request(stream: &TcpStream) -> Option<RangeRequest> {
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
    Some(RangeRequest { path, range, headers, sent: 0 })
}

/// An open connection. On drop it is closed and no longer counted.
struct RangeConnection {
    state: Arc<RangeServerState>,
    stream: Arc<TcpStream>,
    number: usize,
}

impl RangeConnection {
    fn new(state: Arc<RangeServerState>, stream: TcpStream) -> RangeConnection {
        let mut traffic = state.traffic.lock().expect("no panic");
        let number = traffic.requests.len();
        traffic.requests.push(0);
        traffic.opened += 1;
        traffic.open += 1;
        traffic.most_open = traffic.most_open.max(traffic.open);
        drop(traffic);
        // With Nagle's algorithm a body waits for the acknowledgement of its head.
        let _ = stream.set_nodelay(true);
        let stream = Arc::new(stream);
        state.streams.lock().expect("no panic").insert(number, Arc::clone(&stream));
        RangeConnection { state, stream, number }
    }

    /// Answers one request; `None` ends the connection.
    fn serve(&self) -> Option<()> {
        let state = &*self.state;
        let request = read_request(&self.stream)?;
        state.traffic.lock().expect("no panic").requests[self.number] += 1;
        let answer = (state.behaviour.lock().expect("no panic"))(&request);
        let name = request.path.split('?').next().unwrap_or_default();
        let file = state.files.lock().expect("no panic").get(name).cloned();
        let position = {
            let mut log = state.log.lock().expect("no panic");
            log.requests.push(request.clone());
            log.first + log.requests.len() - 1
        };
        match answer {
            RangeReply::HangUp => return None,
            RangeReply::Reset => return self.reset(),
            RangeReply::Late(time) => self.wait(time)?,
            _ => {}
        }
        let trickle = if let RangeReply::Trickle(bytes, pause) = answer { Some((bytes, pause)) } else { None };
        let (head, body, stop) = compose(&request, answer, file);
        // Logged before it is sent, so that the log is complete when the client has the reply.
        let mut log = state.log.lock().expect("no panic");
        if let Some(entry) = position.checked_sub(log.first).and_then(|place| log.requests.get_mut(place)) {
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
            AfterBody::No => Some(()),
            AfterBody::Close => None,
            AfterBody::Hang => self.wait(Duration::from_secs(20)).and(None),
            // The sent bytes have to arrive before the reset.
            AfterBody::Reset => self.wait(Duration::from_millis(20)).and_then(|()| self.reset()),
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

impl Drop for RangeConnection {
    fn drop(&mut self) {
        self.state.streams.lock().expect("no panic").remove(&self.number);
        self.state.traffic.lock().expect("no panic").open -= 1;
    }
}

enum AfterBody {
    No,
    Close,
    Hang,
    Reset,
}

type ComposedReply = (String, Vec<u8>, AfterBody);

/// Head and body of a reply, and the action after it.
fn compose(request: &RangeRequest, answer: RangeReply, file: Option<RangeFile>) -> ComposedReply {
    let status = |status: u16, header: &str| {
        let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
        (format!("HTTP/1.1 {status} no\r\n{header}Content-Length: 0\r\n\r\n"), Vec::new(), AfterBody::No)
    };
    if let RangeReply::Status(code, header) = answer {
        return status(code, header);
    }
    let Some((bytes, etag)) = file else { return status(404, "") };
    let etag = if etag.is_empty() { String::new() } else { format!("ETag: {etag}\r\n") };
    let etag = match answer {
        RangeReply::Tagged("") | RangeReply::WholeTagged("") => String::new(),
        RangeReply::Tagged(lines) | RangeReply::WholeTagged(lines) => format!("{lines}\r\n"),
        _ => etag,
    };
    let is_blind = matches!(answer, RangeReply::Tagged(_) | RangeReply::WholeTagged(_));
    if !is_blind && request.headers.get("if-match").is_some_and(|condition| !etag.contains(&condition[..])) {
        return status(412, "");
    }
    let len = bytes.len() as u64;
    let whole = matches!(answer, RangeReply::Whole | RangeReply::WholeUnbounded | RangeReply::WholeTagged(_));
    let Some((start, end)) = request.range.filter(|_| !whole) else {
        let has_length = answer != RangeReply::WholeUnbounded;
        let length = if has_length { format!("Content-Length: {len}\r\n") } else { String::new() };
        let stop = if has_length { AfterBody::No } else { AfterBody::Close };
        return (format!("HTTP/1.1 200 OK\r\n{length}{etag}\r\n"), bytes.to_vec(), stop);
    };
    if start >= len {
        return status(416, &format!("Content-Range: bytes */{len}"));
    }
    let end = end.min(len);
    let mut body = bytes[start as usize..end as usize].to_vec();
    let (mut claimed_range, mut claimed_len, mut more, mut stop) = ((start, end), len, etag, AfterBody::No);
    let content_length = body.len() as u64;
    match answer {
        RangeReply::Cut(kept) => (stop, _) = (AfterBody::Close, body.truncate(kept as usize)),
        RangeReply::Stall(kept) => (stop, _) = (AfterBody::Hang, body.truncate(kept as usize)),
        RangeReply::ResetAfter(kept) => (stop, _) = (AfterBody::Reset, body.truncate(kept as usize)),
        RangeReply::OtherRange => claimed_range = (start + 1, end + 1),
        RangeReply::OtherLength => claimed_len += 1000,
        RangeReply::Gzip => more += "Content-Encoding: gzip\r\n",
        RangeReply::TooLong => body.extend([0; 100]),
        _ => {}
    }
    let content_length = if answer == RangeReply::TooLong { body.len() as u64 } else { content_length };
    let range = format!("Content-Range: bytes {}-{}/{claimed_len}\r\n", claimed_range.0, claimed_range.1 - 1);
    let range = if answer == RangeReply::NoContentRange { String::new() } else { range };
    let head = format!("HTTP/1.1 206 Partial Content\r\nContent-Length: {content_length}\r\n{range}{more}\r\n");
    (head, body, stop)
}
