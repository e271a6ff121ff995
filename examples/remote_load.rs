//! Many callers, many videos, one server: frames per second, how long each takes, and what it takes of connections, bytes
//! and memory. Every frame is compared with the sequential decode.
//!
//!     cargo run --release --example remote_load -- --seconds 20 [--callers 64] [--videos 50] [--over http|https|h2]
//!         [--seed N] [CLIP...]
//!
//! The videos are the clips, or a few fixtures, each under several addresses. Ends with a failure if a frame was wrong, or if
//! more connections were opened, or more memory was held, than the options allow.
#![allow(clippy::print_stdout, reason = "an example prints")]

#[cfg(feature = "remote")]
#[path = "../tests/common/server.rs"]
mod server;
#[cfg(feature = "remote")]
#[path = "../tests/common/tls.rs"]
mod tls;

#[cfg(not(feature = "remote"))]
fn main() {
    println!("this build has no remote sources");
}

#[cfg(feature = "remote")]
fn main() -> bucket_streamer::Result<std::process::ExitCode> {
    load::main()
}

#[cfg(feature = "remote")]
mod load {
    use std::collections::HashMap;
    use std::ops::ControlFlow;
    use std::process::ExitCode;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::sync::{Arc, Mutex, OnceLock};
    use std::time::{Duration, Instant};

    use bucket_streamer::picture::raw;
    use bucket_streamer::source::MemorySource;
    use bucket_streamer::source::remote::{HttpClient, HttpOptions};
    use bucket_streamer::{Engine, Result, Video};
    use hdrhistogram::Histogram;

    use crate::server::Server;
    use crate::tls::{Authority, TlsServer};

    const FIXTURES: [&str; 6] = [
        "hevc_demo.mp4",
        "hevc_closed_gop.mp4",
        "hevc_open_gop.mp4",
        "h264_bframes.mp4",
        "hevc_fragmented.mp4",
        "av1.mp4",
    ];

    /// Memory for checkpoints, and what decoders and results at work may hold besides.
    const CHECKPOINTS: u64 = 128 << 20;
    const AT_WORK: u64 = 512 << 20;

    struct Plan {
        seconds: u64,
        callers: u64,
        videos: usize,
        over: String,
        seed: u64,
        clips: Vec<String>,
    }

    impl Plan {
        fn read() -> Plan {
            let mut plan =
                Plan { seconds: 20, callers: 64, videos: 50, over: "http".to_owned(), seed: 1, clips: Vec::new() };
            let mut arguments = std::env::args().skip(1);
            while let Some(argument) = arguments.next() {
                let mut value = || arguments.next().expect("a value");
                match &argument[..] {
                    "--seconds" => plan.seconds = value().parse().expect("a number"),
                    "--callers" => plan.callers = value().parse().expect("a number"),
                    "--videos" => plan.videos = value().parse().expect("a number"),
                    "--seed" => plan.seed = value().parse().expect("a number"),
                    "--over" => plan.over = value(),
                    _ => plan.clips.push(argument),
                }
            }
            if plan.clips.is_empty() {
                let fixture = |name: &str| format!("{}/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
                plan.clips = FIXTURES.map(fixture).into();
            }
            plan
        }
    }

    /// The limits of all videos together, as the options have them: the places to look at when sources share more.
    fn most_connections(options: &HttpOptions, videos: usize) -> u64 {
        (options.connections * videos) as u64
    }

    fn most_memory(options: &HttpOptions, videos: usize) -> u64 {
        CHECKPOINTS + AT_WORK + options.cache * videos as u64
    }

    enum Origin {
        Plain(Server),
        Tls(Box<TlsServer>),
    }

    impl Origin {
        fn put(&self, name: &str, bytes: &[u8], first: Option<&str>) -> String {
            match (self, first) {
                (Origin::Plain(server), Some(first)) => server.put_again(first, name),
                (Origin::Plain(server), None) => server.put(name, bytes.into(), "\"1\""),
                (Origin::Tls(server), Some(first)) => server.put_again(first, name),
                (Origin::Tls(server), None) => server.put(name, bytes.into()),
            }
        }

        fn connections(&self) -> u64 {
            match self {
                Origin::Plain(server) => server.connections(),
                Origin::Tls(server) => server.connections(),
            }
        }

        /// Connections with TLS, or what there is of it without.
        fn handshakes(&self) -> u64 {
            match self {
                Origin::Plain(server) => server.connections(),
                Origin::Tls(server) => server.handshakes(),
            }
        }

        fn most_open(&self) -> u64 {
            match self {
                Origin::Plain(server) => server.traffic().most_open,
                Origin::Tls(server) => server.most_open(),
            }
        }

        /// Which ranges were asked for since the last call.
        fn asked(&self) -> Vec<(String, (u64, u64))> {
            match self {
                Origin::Plain(server) => {
                    server.asked().into_iter().filter_map(|asked| Some((asked.path, asked.range?))).collect()
                }
                Origin::Tls(server) => {
                    server.seen().into_iter().filter_map(|seen| Some((seen.path.clone(), seen.range()?))).collect()
                }
            }
        }
    }

    /// A clip and its frames.
    struct Clip {
        bytes: Vec<u8>,
        frame_count: u32,
        frames: HashMap<u32, [u8; 16]>,
    }

    impl Clip {
        fn decode(engine: &Engine, path: &str) -> Result<Clip> {
            let bytes = std::fs::read(path).expect("a clip");
            let video = engine.open(Arc::new(MemorySource::new(path, bytes.clone())), 0)?;
            let mut frames = HashMap::new();
            video.play(&mut |frame| {
                frames.insert(frame.index, raw::md5(&frame.picture));
                ControlFlow::Continue(())
            })?;
            Ok(Clip { bytes, frame_count: video.frame_count() as u32, frames })
        }
    }

    struct Remote<'a> {
        address: String,
        clip: &'a Clip,
        video: OnceLock<Result<Video>>,
    }

    #[derive(Default)]
    struct Counts {
        right: AtomicU64,
        wrong: AtomicU64,
        failed: AtomicU64,
    }

    struct Load<'a> {
        client: HttpClient,
        engine: Engine,
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

        /// Opens the video if nobody has.
        fn frame(&self, remote: &Remote<'_>, frame: u32) -> Option<[u8; 16]> {
            let open = || self.engine.open(Arc::new(self.client.open(&remote.address)?), 0);
            let video = remote.video.get_or_init(open).as_ref().ok()?;
            video.frame(frame).ok().map(|frame| raw::md5(&frame.picture))
        }

        fn fetched(&self) -> (u64, u64) {
            let opened = self.videos.iter().filter_map(|remote| remote.video.get()?.as_ref().ok());
            let counted = opened.map(|video| video.source().counters().now());
            counted.fold((0, 0), |sum, one| (sum.0 + one.requests, sum.1 + one.bytes))
        }
    }

    fn resident() -> u64 {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
    }

    /// Bytes of all ranges, each counted once.
    fn distinct(asked: Vec<(String, (u64, u64))>, lengths: &HashMap<String, u64>) -> u64 {
        let mut by_path: HashMap<String, Vec<(u64, u64)>> = HashMap::new();
        asked.into_iter().for_each(|(path, range)| by_path.entry(path).or_default().push(range));
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
        let plan = Plan::read();
        let engine = || Engine::builder().checkpoint_memory(CHECKPOINTS).build();
        let clips = plan.clips.iter().map(|path| Clip::decode(&engine(), path)).collect::<Result<Vec<_>>>()?;
        let authority = Authority::new();
        let origin = match &plan.over[..] {
            "h2" => Origin::Tls(Box::new(TlsServer::start(&authority, &["h2", "http/1.1"]))),
            "https" => Origin::Tls(Box::new(TlsServer::start(&authority, &["http/1.1"]))),
            _ => Origin::Plain(Server::start()),
        };
        let (mut videos, mut lengths) = (Vec::new(), HashMap::new());
        for number in 0..plan.videos {
            let clip = &clips[number % clips.len()];
            let first = (number >= clips.len()).then(|| (number % clips.len()).to_string());
            let address = origin.put(&number.to_string(), &clip.bytes, first.as_deref());
            lengths.insert(format!("/{number}"), clip.bytes.len() as u64);
            videos.push(Remote { address, clip, video: OnceLock::new() });
        }
        let options = HttpOptions { roots: vec![authority.pem()], ..HttpOptions::default() };
        let load = Load {
            client: HttpClient::new(options.clone())?,
            engine: engine(),
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
        origin: &Origin,
        lengths: &HashMap<String, u64>,
    ) -> ExitCode {
        let (before, mut most_resident, mut asked) = (resident(), 0, Vec::new());
        let mut warm = None;
        std::thread::scope(|scope| {
            for caller in 0..plan.callers {
                scope.spawn(move || load.call(plan.seed ^ (caller << 32)));
            }
            // Until all callers have come to an end, or nearly.
            while Instant::now() < load.until {
                std::thread::sleep(Duration::from_millis(250));
                most_resident = most_resident.max(resident());
                asked.extend(origin.asked());
                if warm.is_none() && Instant::now() + Duration::from_secs(plan.seconds / 2) > load.until {
                    warm = Some((origin.handshakes(), load.counts.right.load(Relaxed)));
                }
            }
        });
        asked.extend(origin.asked());
        let Counts { right, wrong, failed } = &load.counts;
        let (right, wrong, failed) = (right.load(Relaxed), wrong.load(Relaxed), failed.load(Relaxed));
        let latencies = load.latencies.lock().expect("no panic");
        let quantile = |share| Duration::from_micros(latencies.value_at_quantile(share));
        println!("{right} frames right, {wrong} wrong, {failed} failed");
        let fps = right as f64 / plan.seconds as f64;
        println!("{fps:.1} frames/s, p50 {:?}, p95 {:?}", quantile(0.5), quantile(0.95));
        let (connections, most) = (origin.connections(), most_connections(options, plan.videos));
        println!("{connections} connections of {most}, {} at one time", origin.most_open());
        let (handshakes, since) = warm.unwrap_or((origin.handshakes(), right));
        let (more, frames) = (origin.handshakes() - handshakes, (right - since).max(1));
        println!("handshakes in the second half: {more} for {frames} frames, {:.4} each", more as f64 / frames as f64);
        let ((requests, bytes), distinct) = (load.fetched(), distinct(asked, lengths));
        println!("{requests} requests, {bytes} bytes, {distinct} distinct, {} in all", lengths.values().sum::<u64>());
        let (grown, limit) = (most_resident.saturating_sub(before), most_memory(options, plan.videos));
        println!("resident memory grew by {} MiB at most, of {} MiB", grown >> 20, limit >> 20);
        println!("{} MiB of it checkpoints", load.engine.checkpoints().bytes >> 20);
        let is_well = wrong == 0 && failed == 0 && connections <= most && grown <= limit;
        println!("{}", if is_well { "all is well" } else { "not as it should be" });
        if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
