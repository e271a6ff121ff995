//! A folder over HTTP/1.1, with a chosen round-trip time and bandwidth: the server of `bench/remote`.
//!
//!     cargo run --release -p bucket-streamer-bench --features harness --bin range_server -- FOLDER [--port N] [--rtt-ms MS] [--rate-mbit N]
//!     cargo run --release -p bucket-streamer-bench --features harness --bin range_server -- --self-test
//!
//! A round trip passes before the first request of a connection is processed (connecting takes one), and one more
//! before the head of each response is sent. Bodies share one token bucket, in small slices and with almost no burst.
//! The server supports GET and HEAD, one range per request, ETag and If-Match, and keep-alive. It does not simulate
//! TCP's slow start.
//!
//! `/_counts` reports requests and bytes since `/_reset`, `/_log` each request with its times. Bytes count when they
//! are passed to the socket, whose buffer is small: bytes that a client never read count if they were in flight. These
//! three routes have no delay and are not counted. Once the server listens, it prints its address.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its results")]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Error, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Bytes that are taken from the bucket at once.
const SLICE: usize = 8 << 10;
/// Depth of the bucket, in time: a thread that wakes up late loses no bandwidth.
const DEPTH: Duration = Duration::from_millis(2);
/// Most bytes in the socket's buffer, between the server and the link.
const SEND_BUFFER: usize = 64 << 10;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["--self-test"] {
        return self_test();
    }
    let number = |name: &str, usual: f64| {
        let value = arguments.iter().position(|argument| argument == name).map(|place| arguments.get(place + 1));
        value.map_or(Some(usual), |text| text?.parse().ok())
    };
    let (port, rtt, rate) = (number("--port", 0.0), number("--rtt-ms", 0.0), number("--rate-mbit", 0.0));
    let folder = arguments.first().filter(|folder| Path::new(folder).is_dir());
    let (Some(folder), Some(port), Some(rtt), Some(rate)) = (folder, port, rtt, rate) else {
        eprintln!("usage: range_server FOLDER [--port N] [--rtt-ms MS] [--rate-mbit N]; FOLDER must exist");
        std::process::exit(2);
    };
    let (listener, server) = server(folder, port as u16, rtt, rate)?;
    println!("http://{}", listener.local_addr()?);
    accept(&listener, &server);
    Ok(())
}

fn server(folder: &str, port: u16, rtt_ms: f64, rate_mbit: f64) -> Result<(TcpListener, Arc<LinkServer>)> {
    let server = LinkServer {
        folder: PathBuf::from(folder),
        rtt: Duration::from_secs_f64(rtt_ms / 1e3),
        line: SimulatedLink::new(rate_mbit),
        counts: Mutex::new(RequestLog::new()),
    };
    Ok((TcpListener::bind(("127.0.0.1", port))?, Arc::new(server)))
}

fn accept(listener: &TcpListener, server: &Arc<LinkServer>) {
    for stream in listener.incoming().flatten() {
        let server = Arc::clone(server);
        std::thread::spawn(move || {
            // An error ends the connection only.
            let _ = server.connection(&stream, Instant::now());
        });
    }
}

/// The bandwidth that all bodies share.
struct SimulatedLink {
    /// Seconds per byte; zero without a limit.
    seconds_a_byte: f64,
    /// The time until which the link is busy.
    taken: Mutex<Instant>,
}

impl SimulatedLink {
    fn new(rate_mbit: f64) -> SimulatedLink {
        let seconds_a_byte = if rate_mbit > 0.0 { 8.0 / (rate_mbit * 1e6) } else { 0.0 };
        SimulatedLink { seconds_a_byte, taken: Mutex::new(Instant::now()) }
    }

    /// Waits as long as `len` more bytes take.
    fn pass(&self, len: usize) {
        if self.seconds_a_byte == 0.0 {
            return;
        }
        let took = Duration::from_secs_f64(self.seconds_a_byte * len as f64);
        let until = {
            let mut taken = lock(&self.taken);
            *taken = (*taken).max(Instant::now().checked_sub(DEPTH).unwrap_or(*taken)) + took;
            *taken
        };
        sleep(until.saturating_duration_since(Instant::now()));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request and its response; times are since the last reset.
#[derive(Debug, Clone, Serialize)]
struct LoggedRequest {
    number: u64,
    /// The request is older than the last reset and still sends bytes: those count, the request does not.
    is_older: bool,
    connection: u64,
    method: String,
    path: String,
    range: Option<String>,
    status: u16,
    /// Length of the body, as in the head.
    promised: u64,
    /// Bytes of the body passed to the socket.
    bytes: u64,
    came_ms: f64,
    head_ms: f64,
    end_ms: Option<f64>,
}

#[derive(Debug, Default, Clone, Serialize)]
struct RequestTotals {
    requests: u64,
    bytes: u64,
    /// Connections with at least one request.
    connections: u64,
}

struct RequestLog {
    since: Instant,
    connections: u64,
    requests: u64,
    log: Vec<LoggedRequest>,
}

impl RequestLog {
    fn new() -> RequestLog {
        RequestLog { since: Instant::now(), connections: 0, requests: 0, log: Vec::new() }
    }

    fn reset(&mut self) {
        self.since = Instant::now();
        self.log.retain_mut(|request| {
            (request.is_older, request.bytes) = (true, 0);
            request.end_ms.is_none()
        });
    }

    fn now_ms(&self) -> f64 {
        self.since.elapsed().as_secs_f64() * 1e3
    }

    fn of(&mut self, number: u64) -> Option<&mut LoggedRequest> {
        self.log.iter_mut().find(|asked| asked.number == number)
    }

    fn sum<'a>(requests: impl Iterator<Item = &'a LoggedRequest> + Clone) -> RequestTotals {
        let new = requests.clone().filter(|asked| !asked.is_older);
        let mut connections: Vec<u64> = new.clone().map(|asked| asked.connection).collect();
        connections.sort_unstable();
        connections.dedup();
        let bytes = requests.map(|asked| asked.bytes).sum();
        RequestTotals { requests: new.count() as u64, bytes, connections: connections.len() as u64 }
    }

    fn summary(&self) -> serde_json::Value {
        let mut paths: Vec<&str> = self.log.iter().map(|asked| &asked.path[..]).collect();
        paths.sort_unstable();
        paths.dedup();
        let of = |path: &str| RequestLog::sum(self.log.iter().filter(move |asked| asked.path == path));
        let each: HashMap<&str, RequestTotals> = paths.into_iter().map(|path| (path, of(path))).collect();
        let open = self.log.iter().filter(|asked| asked.end_ms.is_none()).count();
        serde_json::json!({ "all": RequestLog::sum(self.log.iter()), "unfinished": open, "paths": each })
    }
}

struct LinkServer {
    folder: PathBuf,
    rtt: Duration,
    line: SimulatedLink,
    counts: Mutex<RequestLog>,
}

/// A parsed request.
struct Request {
    method: String,
    path: String,
    headers: HashMap<String, String>,
}

impl Request {
    fn is_last(&self) -> bool {
        self.headers.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// A response to send.
struct LinkResponse {
    status: &'static str,
    headers: String,
    file: Option<File>,
    start: u64,
    len: u64,
}

impl LinkResponse {
    fn bare(status: &'static str) -> LinkResponse {
        LinkResponse { status, headers: String::new(), file: None, start: 0, len: 0 }
    }
}

impl LinkServer {
    fn connection(&self, stream: &TcpStream, accepted: Instant) -> Result<()> {
        stream.set_nodelay(true)?;
        socket2::SockRef::from(stream).set_send_buffer_size(SEND_BUFFER)?;
        let mut reader = BufReader::new(stream);
        let mut number = None;
        while let Some(request) = read_request(&mut reader)? {
            if let Some(control) = request.path.strip_prefix("/_") {
                self.control(stream, control)?;
                continue;
            }
            let number = *number.get_or_insert_with(|| self.register_connection(accepted));
            self.answer(stream, &request, number, Instant::now())?;
            if request.is_last() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Registers a connection one round trip after it was accepted; returns its number.
    fn register_connection(&self, accepted: Instant) -> u64 {
        sleep((accepted + self.rtt).saturating_duration_since(Instant::now()));
        let mut counts = lock(&self.counts);
        counts.connections += 1;
        counts.connections
    }

    fn control(&self, mut stream: &TcpStream, what: &str) -> Result<()> {
        let body = match what {
            "counts" => lock(&self.counts).summary().to_string(),
            "log" => serde_json::to_string(&lock(&self.counts).log)?,
            "reset" => {
                lock(&self.counts).reset();
                "{}".to_owned()
            }
            _ => return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        };
        let head = format!("Content-Type: application/json\r\nContent-Length: {}", body.len());
        stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}").as_bytes())
    }

    fn answer(&self, mut stream: &TcpStream, request: &Request, connection: u64, received: Instant) -> Result<()> {
        let answer = self.compose(request);
        let number = self.log(request, &answer, connection, received);
        sleep((received + self.rtt).saturating_duration_since(Instant::now()));
        self.note(number, |asked, now| asked.head_ms = now);
        let last = if request.is_last() { "Connection: close\r\n" } else { "" };
        let head = format!("{last}Content-Length: {}\r\nAccept-Ranges: bytes\r\n{}", answer.len, answer.headers);
        let sent = stream.write_all(format!("HTTP/1.1 {}\r\n{head}\r\n", answer.status).as_bytes());
        let sent = match &answer.file {
            Some(file) if request.method == "GET" => sent.and_then(|()| self.body(stream, file, &answer, number)),
            _ => sent,
        };
        self.note(number, |asked, now| asked.end_ms = Some(now));
        sent
    }

    fn log(&self, request: &Request, answer: &LinkResponse, connection: u64, received: Instant) -> u64 {
        let mut counts = lock(&self.counts);
        counts.requests += 1;
        let entry = LoggedRequest {
            number: counts.requests,
            is_older: false,
            connection,
            method: request.method.clone(),
            path: request.path.clone(),
            range: request.headers.get("range").cloned(),
            status: answer.status[..3].parse().unwrap_or(0),
            promised: answer.len,
            bytes: 0,
            came_ms: received.saturating_duration_since(counts.since).as_secs_f64() * 1e3,
            head_ms: 0.0,
            end_ms: None,
        };
        counts.log.push(entry);
        counts.requests
    }

    fn note(&self, number: u64, change: impl FnOnce(&mut LoggedRequest, f64)) {
        let mut counts = lock(&self.counts);
        let now = counts.now_ms();
        if let Some(asked) = counts.of(number) {
            change(asked, now);
        }
    }

    fn body(&self, mut stream: &TcpStream, file: &File, answer: &LinkResponse, number: u64) -> Result<()> {
        let mut slice = vec![0; SLICE];
        let mut at = answer.start;
        let end = answer.start + answer.len;
        while at < end {
            let slice = &mut slice[..SLICE.min((end - at) as usize)];
            file.read_exact_at(slice, at)?;
            self.line.pass(slice.len());
            stream.write_all(slice)?;
            at += slice.len() as u64;
            self.note(number, |asked, _| asked.bytes += slice.len() as u64);
        }
        Ok(())
    }

    fn compose(&self, request: &Request) -> LinkResponse {
        if !["GET", "HEAD"].contains(&&request.method[..]) {
            return LinkResponse::bare("405 Method Not Allowed");
        }
        let name = request.path.split('?').next().unwrap_or_default().trim_start_matches('/');
        let is_inside = name.split('/').all(|part| !part.is_empty() && part != "..");
        let file = File::open(self.folder.join(name)).ok().filter(|_| is_inside);
        let Some((file, about)) = file.and_then(|file| file.metadata().ok().map(|about| (file, about))) else {
            return LinkResponse::bare("404 Not Found");
        };
        if !about.is_file() {
            return LinkResponse::bare("404 Not Found");
        }
        let etag = format!("\"{:x}-{:x}-{:x}\"", about.len(), about.mtime(), about.mtime_nsec());
        let wanted = request.headers.get("if-match");
        if wanted.is_some_and(|wanted| wanted != "*" && !wanted.split(',').any(|one| one.trim() == etag)) {
            return LinkResponse::bare("412 Precondition Failed");
        }
        part(request.headers.get("range"), file, about.len(), &etag)
    }
}

/// The part of a file that a Range header requests. An invalid header is ignored.
fn part(range: Option<&String>, file: File, len: u64, etag: &str) -> LinkResponse {
    let headers = format!("Content-Type: application/octet-stream\r\nETag: {etag}\r\n");
    let whole = |file| LinkResponse { status: "200 OK", headers: headers.clone(), file: Some(file), start: 0, len };
    let Some((first, last)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) else {
        return whole(file);
    };
    let (start, end) = match (first.parse::<u64>().ok(), last.parse::<u64>().ok()) {
        (Some(start), Some(last)) => (start, last.saturating_add(1).min(len)),
        (Some(start), None) => (start, len),
        (None, Some(suffix)) => (len.saturating_sub(suffix), len),
        (None, None) => return whole(file),
    };
    if start >= end {
        let headers = format!("Content-Range: bytes */{len}\r\n");
        return LinkResponse { headers, ..LinkResponse::bare("416 Range Not Satisfiable") };
    }
    let headers = format!("{headers}Content-Range: bytes {start}-{}/{len}\r\n", end - 1);
    LinkResponse { status: "206 Partial Content", headers, file: Some(file), start, len: end - start }
}

fn read_request(reader: &mut impl BufRead) -> Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Err(Error::other("no request")) };
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    Ok(Some(Request { method, path, headers }))
}

/// Checks that the delay and the bandwidth are within 5% of the chosen values.
fn self_test() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("range_server-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("bytes"), vec![7; 5 << 20])?;
    let mut report = String::new();
    let outcome = [(20.0, 200.0), (80.0, 200.0)].into_iter().try_for_each(|(rtt_ms, rate_mbit)| {
        let (listener, server) = server(&folder.to_string_lossy(), 0, rtt_ms, rate_mbit)?;
        let address = listener.local_addr()?;
        std::thread::spawn(move || accept(&listener, &server));
        check(address, rtt_ms, rate_mbit, &mut report)
    });
    print!("{report}");
    std::fs::remove_dir_all(&folder)?;
    outcome
}

fn check(address: SocketAddr, rtt_ms: f64, rate_mbit: f64, report: &mut String) -> Result<()> {
    let bits = |bytes: usize| bytes as f64 * 8.0 / 1e6;
    let mut report_value = |what: &str, measured: f64, wanted: f64| {
        let off = measured / wanted - 1.0;
        let _ = writeln!(report, "{what}: {measured:.2}, expected {wanted:.2}, {:+.1}%", off * 1e2);
        if off.abs() < 0.05 { Ok(()) } else { Err(Error::other(format!("{what} is off by {:.0}%", off * 1e2))) }
    };
    let began = Instant::now();
    let stream = TcpStream::connect(address)?;
    get(&stream, 1)?;
    report_value("ms, a connection and a request", began.elapsed().as_secs_f64() * 1e3, 2.0 * rtt_ms)?;
    let mut times: Vec<f64> = Vec::new();
    for _ in 0..9 {
        let began = Instant::now();
        get(&stream, 1)?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_unstable_by(f64::total_cmp);
    report_value("ms, a request", times[4], rtt_ms)?;
    let (len, began) = (4 << 20, Instant::now());
    get(&stream, len)?;
    report_value("Mbit/s, one body", bits(len) / (began.elapsed().as_secs_f64() - rtt_ms / 1e3), rate_mbit)?;
    let began = Instant::now();
    let streams = (0..4).map(|_| std::thread::spawn(move || get(&TcpStream::connect(address)?, 2 << 20)));
    streams.collect::<Vec<_>>().into_iter().try_for_each(|one| one.join().expect("no panic"))?;
    let seconds = began.elapsed().as_secs_f64() - 2.0 * rtt_ms / 1e3;
    report_value("Mbit/s, four bodies together", bits(8 << 20) / seconds, rate_mbit)
}

/// Reads the first bytes of the file.
fn get(mut stream: &TcpStream, len: usize) -> Result<()> {
    let request = format!("GET /bytes HTTP/1.1\r\nHost: here\r\nRange: bytes=0-{}\r\n\r\n", len - 1);
    stream.write_all(request.as_bytes())?;
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body)
}
