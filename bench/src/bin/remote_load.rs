//! Many callers, many videos, one server: frames per second, latencies, and the cost in connections, bytes and memory.
//! Every frame is compared with the sequential decode.
//!
//!     cargo run --release -p bucket-streamer-bench --features harness --bin remote_load -- --seconds 20 [--callers 64] [--videos 50]
//!         [--over http|https|h2|memory] [--late MS] [--cache MIB] [--seed N] [CLIP...]
//!
//! The videos are the clips, or a few fixtures, each under several addresses; callers share a catalog of them. `--late`
//! delays every response; over `memory` there is no server: the same load without a network. It fails if a frame was
//! wrong, if a video was opened twice, or if it opened more connections, repeated more requests, or held more memory
//! than the options allow.
#![allow(clippy::print_stdout, reason = "a program that prints its results")]

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bucket_streamer::source::remote::{HttpClient, HttpOptions};
use bucket_streamer::source::{MemorySource, ReadCounts, Source};
use bucket_streamer::still::raw;
use bucket_streamer::{Catalog, Engine, Result, process};
use bytes::Bytes;
use hdrhistogram::Histogram;

use testing::range_server::{RangeReply, RangeServer};
use testing::tls::{TestAuthority, TlsServer};

const FIXTURES: [&str; 6] =
    ["hevc_demo.mp4", "hevc_closed_gop.mp4", "hevc_open_gop.mp4", "h264_bframes.mp4", "hevc_fragmented.mp4", "av1.mp4"];

/// Memory for checkpoints, and for decoders and results in progress.
const CHECKPOINTS: u64 = 128 << 20;
const AT_WORK: u64 = 512 << 20;

struct Plan {
    seconds: u64,
    callers: u64,
    videos: usize,
    over: String,
    late: Duration,
    cache: Option<u64>,
    seed: u64,
    clips: Vec<String>,
}

impl Plan {
    fn read() -> Plan {
        let mut plan = Plan {
            seconds: 20,
            callers: 64,
            videos: 50,
            over: "http".to_owned(),
            late: Duration::ZERO,
            cache: None,
            seed: 1,
            clips: Vec::new(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().expect("a value");
            match &argument[..] {
                "--seconds" => plan.seconds = value().parse().expect("a number"),
                "--callers" => plan.callers = value().parse().expect("a number"),
                "--videos" => plan.videos = value().parse().expect("a number"),
                "--seed" => plan.seed = value().parse().expect("a number"),
                "--over" => plan.over = value(),
                "--late" => plan.late = Duration::from_millis(value().parse().expect("a number")),
                "--cache" => plan.cache = value().parse::<u64>().ok().map(|mebibytes| mebibytes << 20),
                _ => plan.clips.push(argument),
            }
        }
        if plan.clips.is_empty() {
            let fixture = |name: &str| format!("{}/../fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
            plan.clips = FIXTURES.map(fixture).into();
        }
        plan
    }
}

/// Most connections. Each concurrent request needs one. Of two requests for the same bytes the slower one is dropped
/// before the end of its response, and its connection with it: another one replaces it. If all cores decode, a few more
/// are opened, because a connection is not idle immediately after its response.
fn most_connections(options: &HttpOptions, hedged: u64) -> u64 {
    options.connections as u64 * 5 / 4 + hedged
}

/// Most second requests, of all requests to the one server.
fn most_hedged(options: &HttpOptions, requests: u64) -> u64 {
    (options.hedged_share * requests as f64).ceil() as u64
}

fn most_memory(options: &HttpOptions) -> u64 {
    CHECKPOINTS + AT_WORK + options.cache
}

enum LoadOrigin {
    Plain(RangeServer),
    Tls(Box<TlsServer>),
    /// Contents by name.
    Memory(Mutex<HashMap<String, Bytes>>),
}

impl LoadOrigin {
    fn start(plan: &Plan, authority: &TestAuthority) -> LoadOrigin {
        let tls = |protocols| {
            let server = TlsServer::start(authority, protocols);
            server.slow_down(plan.late);
            LoadOrigin::Tls(Box::new(server))
        };
        match &plan.over[..] {
            "h2" => tls(&["h2", "http/1.1"]),
            "https" => tls(&["http/1.1"]),
            "memory" => LoadOrigin::Memory(Mutex::default()),
            "http" => {
                let (server, late) = (RangeServer::start(), plan.late);
                server.set_behaviour(move |_| if late.is_zero() { RangeReply::Good } else { RangeReply::Late(late) });
                LoadOrigin::Plain(server)
            }
            other => panic!("--over is http, https, h2 or memory, not {other}"),
        }
    }

    fn put(&self, name: &str, bytes: &Bytes, first: Option<&str>) -> String {
        match (self, first) {
            (LoadOrigin::Memory(files), _) => {
                files.lock().expect("no panic").insert(name.to_owned(), bytes.clone());
                name.to_owned()
            }
            (LoadOrigin::Plain(server), Some(first)) => server.put_again(first, name),
            (LoadOrigin::Plain(server), None) => server.put(name, bytes.to_vec(), "\"1\""),
            (LoadOrigin::Tls(server), Some(first)) => server.put_again(first, name),
            (LoadOrigin::Tls(server), None) => server.put(name, bytes.to_vec()),
        }
    }

    fn open(&self, client: &HttpClient, address: &str) -> Result<Arc<dyn Source>> {
        match self {
            LoadOrigin::Memory(files) => {
                let bytes = files.lock().expect("no panic")[address].clone();
                Ok(Arc::new(MemorySource::new(address, bytes)))
            }
            _ => Ok(Arc::new(client.open(address)?)),
        }
    }

    fn connections(&self) -> u64 {
        match self {
            LoadOrigin::Plain(server) => server.connections(),
            LoadOrigin::Tls(server) => server.connections(),
            LoadOrigin::Memory(_) => 0,
        }
    }

    /// TLS handshakes; without TLS, connections.
    fn handshakes(&self) -> u64 {
        match self {
            LoadOrigin::Plain(server) => server.connections(),
            LoadOrigin::Tls(server) => server.handshakes(),
            LoadOrigin::Memory(_) => 0,
        }
    }

    fn most_open(&self) -> u64 {
        match self {
            LoadOrigin::Plain(server) => server.traffic().most_open,
            LoadOrigin::Tls(server) => server.most_open(),
            LoadOrigin::Memory(_) => 0,
        }
    }

    /// The ranges requested since the last call.
    fn take_ranges(&self) -> Vec<(String, (u64, u64))> {
        match self {
            LoadOrigin::Plain(server) => {
                server.take_requests().into_iter().filter_map(|asked| Some((asked.path, asked.range?))).collect()
            }
            LoadOrigin::Tls(server) => {
                server.take_requests().into_iter().filter_map(|seen| Some((seen.path.clone(), seen.range()?))).collect()
            }
            LoadOrigin::Memory(_) => Vec::new(),
        }
    }
}

/// A clip and the sums of its frames.
struct LoadClip {
    bytes: Bytes,
    frame_count: u32,
    frames: HashMap<u32, [u8; 16]>,
}

impl LoadClip {
    fn decode(engine: &Engine, path: &str) -> Result<LoadClip> {
        let bytes = Bytes::from(std::fs::read(path).expect("a clip"));
        let video = engine.open(Arc::new(MemorySource::new(path, bytes.clone())), 0)?;
        let mut frames = HashMap::new();
        video.play(&mut |frame| {
            frames.insert(frame.index, raw::md5(&frame.picture));
            ControlFlow::Continue(())
        })?;
        Ok(LoadClip { bytes, frame_count: video.frame_count() as u32, frames })
    }
}

struct Remote<'a> {
    address: String,
    clip: &'a LoadClip,
}

#[derive(Default)]
struct Counts {
    right: AtomicU64,
    wrong: AtomicU64,
    failed: AtomicU64,
}

type Sources = Mutex<Vec<Arc<dyn Source>>>;

struct Load<'a> {
    client: HttpClient,
    engine: Engine,
    catalog: Catalog,
    /// All sources that were opened.
    sources: Arc<Sources>,
    videos: Vec<Remote<'a>>,
    counts: Counts,
    latencies: Mutex<Histogram<u64>>,
    until: Instant,
}

impl Load<'_> {
    fn call(&self, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut own = Histogram::<u64>::new(3).expect("a histogram");
        while Instant::now() < self.until {
            let remote = &self.videos[random.usize(..self.videos.len())];
            let frame = random.u32(..remote.clip.frame_count);
            let begun = Instant::now();
            let outcome = self.frame(remote, frame);
            own.record(begun.elapsed().as_micros() as u64).expect("it grows as it must");
            let count = match outcome {
                Some(md5) if remote.clip.frames.get(&frame) == Some(&md5) => &self.counts.right,
                Some(_) => &self.counts.wrong,
                None => &self.counts.failed,
            };
            count.fetch_add(1, Relaxed);
        }
        self.latencies.lock().expect("no panic").add(own).expect("the same kind");
    }

    fn frame(&self, remote: &Remote<'_>, frame: u32) -> Option<[u8; 16]> {
        let video = self.catalog.open(&remote.address, 0).ok()?;
        video.frame(frame).ok().map(|frame| raw::md5(&frame.picture))
    }

    /// The sum of all sources' counters, and the number of sources.
    fn fetched(&self) -> (ReadCounts, usize) {
        let sources = self.sources.lock().expect("no panic");
        let sum = sources.iter().fold(ReadCounts::default(), |sum, source| {
            let one = source.counters().now();
            ReadCounts {
                requests: sum.requests + one.requests,
                bytes: sum.bytes + one.bytes,
                copied: sum.copied + one.copied,
                hedged: sum.hedged + one.hedged,
            }
        });
        (sum, sources.len())
    }
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// Bytes of all ranges, each counted once.
fn distinct(ranges_by_path: Vec<(String, (u64, u64))>, lengths: &HashMap<String, u64>) -> u64 {
    let mut by_path: HashMap<String, Vec<(u64, u64)>> = HashMap::new();
    ranges_by_path.into_iter().for_each(|(path, range)| by_path.entry(path).or_default().push(range));
    let mut sum = 0;
    for (path, mut ranges) in by_path {
        ranges.sort_unstable();
        let (len, mut at) = (lengths.get(&path).copied().unwrap_or(0), 0);
        for (start, end) in ranges {
            let end = end.min(len);
            sum += end.saturating_sub(start.max(at));
            at = at.max(end);
        }
    }
    sum
}

pub(crate) fn main() -> Result<ExitCode> {
    process::dedicate().expect("a signal handler");
    let plan = Plan::read();
    let engine = || bucket_streamer_bench::engine().checkpoint_memory(CHECKPOINTS).build();
    let clips = plan.clips.iter().map(|path| LoadClip::decode(&engine(), path)).collect::<Result<Vec<_>>>()?;
    let authority = TestAuthority::generate();
    let origin = Arc::new(LoadOrigin::start(&plan, &authority));
    let (mut videos, mut lengths) = (Vec::new(), HashMap::new());
    for number in 0..plan.videos {
        let clip = &clips[number % clips.len()];
        let first = (number >= clips.len()).then(|| (number % clips.len()).to_string());
        let address = origin.put(&number.to_string(), &clip.bytes, first.as_deref());
        lengths.insert(format!("/{number}"), clip.bytes.len() as u64);
        videos.push(Remote { address, clip });
    }
    let usual = HttpOptions::default();
    let cache = plan.cache.unwrap_or(usual.cache);
    let options = HttpOptions { roots: vec![authority.pem()], cache, ..usual };
    let (client, engine, sources) = (HttpClient::new(options.clone())?, engine(), Arc::<Sources>::default());
    let (asks, opens, keeps) = (client.clone(), Arc::clone(&origin), Arc::clone(&sources));
    let catalog = Catalog::new(&engine).with_opener(move |address| {
        let source = opens.open(&asks, address)?;
        keeps.lock().expect("no panic").push(Arc::clone(&source));
        Ok(source)
    });
    let load = Load {
        client,
        engine,
        catalog,
        sources,
        videos,
        counts: Counts::default(),
        latencies: Mutex::new(Histogram::new(3).expect("a histogram")),
        until: Instant::now() + Duration::from_secs(plan.seconds),
    };
    Ok(run(&load, &plan, &options, &origin, &lengths))
}

fn run(
    load: &Load<'_>,
    plan: &Plan,
    options: &HttpOptions,
    origin: &LoadOrigin,
    lengths: &HashMap<String, u64>,
) -> ExitCode {
    let (before, mut most_resident, mut requested) = (resident(), 0, Vec::new());
    let mut warm = None;
    std::thread::scope(|scope| {
        for caller in 0..plan.callers {
            scope.spawn(move || load.call(plan.seed ^ (caller << 32)));
        }
        // Until the end of the run, or nearly.
        while Instant::now() < load.until {
            std::thread::sleep(Duration::from_millis(250));
            most_resident = most_resident.max(resident());
            requested.extend(origin.take_ranges());
            if warm.is_none() && Instant::now() + Duration::from_secs(plan.seconds / 2) > load.until {
                warm = Some((origin.handshakes(), load.counts.right.load(Relaxed)));
            }
        }
    });
    requested.extend(origin.take_ranges());
    let Counts { right, wrong, failed } = &load.counts;
    let (right, wrong, failed) = (right.load(Relaxed), wrong.load(Relaxed), failed.load(Relaxed));
    let latencies = load.latencies.lock().expect("no panic");
    let quantile = |share| Duration::from_micros(latencies.value_at_quantile(share));
    println!("{right} frames right, {wrong} wrong, {failed} failed");
    let fps = right as f64 / plan.seconds as f64;
    println!("{fps:.1} frames/s, p50 {:?}, p95 {:?}", quantile(0.5), quantile(0.95));
    let (counted, openings) = load.fetched();
    println!("{openings} openings of {} videos", plan.videos);
    let (connections, most) = (origin.connections(), most_connections(options, counted.hedged));
    println!("{connections} connections of {most}, {} at one time", origin.most_open());
    let (handshakes, since) = warm.unwrap_or((origin.handshakes(), right));
    let (more, frames) = (origin.handshakes() - handshakes, (right - since).max(1));
    println!("handshakes in the second half: {more} for {frames} frames, {:.4} each", more as f64 / frames as f64);
    let (ReadCounts { requests, bytes, hedged, .. }, distinct) = (counted, distinct(requested, lengths));
    println!("{requests} requests, {bytes} bytes, {distinct} distinct, {} in all", lengths.values().sum::<u64>());
    let most_hedged = most_hedged(options, requests);
    println!("{hedged} of them sent a second time, of at most {most_hedged}");
    let (grown, limit) = (most_resident.saturating_sub(before), most_memory(options));
    println!("resident memory grew by {} MiB at most, of {} MiB", grown >> 20, limit >> 20);
    println!("{} MiB of it checkpoints", load.engine.checkpoints().bytes >> 20);
    println!("{} MiB of cached bytes, of at most {} MiB", load.client.held_bytes() >> 20, options.cache >> 20);
    let is_right = wrong == 0 && failed == 0 && openings <= plan.videos;
    let is_well = is_right && connections <= most && hedged <= most_hedged && grown <= limit;
    println!("{}", if is_well { "all is well" } else { "not as it should be" });
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
