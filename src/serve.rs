//! `serve`: what may be chosen about a server, from flags, the environment and a file; and its run.
//!
//! A flag counts before the environment, and that before the file. All three have the same names.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bucket_streamer::quantities::{MemorySize, PixelCount};
use bucket_streamer::source::remote::{HttpClient, HttpOptions};
#[cfg(feature = "stores")]
use bucket_streamer::source::remote::{Settings, StoreClient};
use bucket_streamer::{DEFAULT_INDEX_MEMORY, Machine, OnDamage, time};
use bucket_streamer_server::roots::{RootSpec, Roots};
use bucket_streamer_server::{Config, Credential, Scope, Server, Tls};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::console::{Outcome, say};
use crate::opening::{builder, index_cache, open_device};
use crate::options::{DeviceName, Limits, RemoteArguments, http_options};

/// Where videos are looked for when nobody names a place.
const DATA: &str = "./data";

/// What indexes of open videos may take: the default of a `Catalog`.
const INDEX_MEMORY: u64 = 512 << 20;

/// Where the unnamed root is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backend {
    /// A folder, see --local-path
    Local,
    /// A bucket, see --s3-bucket
    S3,
}

/// What may be typed, set, or written into the file: everything is optional, so that the next one can say it.
#[derive(Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArguments {
    /// Read settings from this TOML file: the same names, with _ for -
    #[arg(long, value_name = "FILE", env = "BUCKET_STREAMER_CONFIG")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:3000]
    #[arg(long, value_name = "ADDRESS:PORT", env = "BUCKET_STREAMER_LISTEN_ADDR")]
    listen_addr: Option<SocketAddr>,
    /// A place with videos and its name: cams=/data/cams, film=s3://bucket/prefix, web=https://host/path/; may be repeated
    /// [env: BUCKET_STREAMER_ROOT, with commas between them]
    #[arg(long, value_name = "NAME=PLACE")]
    root: Vec<String>,
    /// Where the root without a name is
    #[arg(long, value_enum, env = "BUCKET_STREAMER_STORAGE_BACKEND")]
    storage_backend: Option<Backend>,
    /// The folder of the root without a name [default: ./data, and bundled clips where that is empty]
    #[arg(long, value_name = "DIR", env = "BUCKET_STREAMER_LOCAL_PATH")]
    local_path: Option<PathBuf>,
    /// The bucket of the root without a name, perhaps with a prefix: bucket/videos
    #[arg(long, value_name = "BUCKET", env = "BUCKET_STREAMER_S3_BUCKET")]
    s3_bucket: Option<String>,
    /// The region of buckets [default: as Amazon's tools are told]
    #[arg(long, value_name = "REGION", env = "BUCKET_STREAMER_S3_REGION")]
    s3_region: Option<String>,
    /// Quality of stills unless a request says otherwise, 1 to 100 [default: 80]
    #[arg(long, value_name = "N", env = "BUCKET_STREAMER_JPEG_QUALITY", value_parser = clap::value_parser!(u8).range(1..=100))]
    jpeg_quality: Option<u8>,
    /// Threads for decoding [default: one for each processor that the process is given]
    #[arg(long, value_name = "N", env = "BUCKET_STREAMER_THREADS", value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: Option<u16>,
    /// Memory for checkpoints of decoders: 512M, 2G; 0 for none [default: a 16th of the memory that the process is given]
    #[arg(long, value_name = "SIZE", env = "BUCKET_STREAMER_CHECKPOINT_MEMORY")]
    checkpoint_memory: Option<MemorySize>,
    /// Where pictures are decoded: the processor, a GPU of NVIDIA's, or whichever takes less time [default: cpu]
    #[arg(long, value_name = "auto|cpu|nvdec[:N]", env = "BUCKET_STREAMER_DEVICE")]
    device: Option<DeviceName>,
    /// What to do with frames that are known to be damaged, unless a request says otherwise: give them out flagged, or fail
    /// [default: flag]
    #[arg(long, value_name = "flag|error", env = "BUCKET_STREAMER_ON_DAMAGE")]
    on_damage: Option<OnDamage>,
    /// Compare every decoded picture of H.265 with its hash in the stream, where it has one; one that does not match counts as
    /// damaged
    #[arg(long, env = "BUCKET_STREAMER_CHECK_HASHES", num_args = 0..=1, default_missing_value = "true")]
    check_hashes: Option<bool>,
    /// Refuse videos whose pictures have more pixels: 8388608, 8192x4352 [default: 8192x4352]
    #[arg(long, value_name = "N|WxH", env = "BUCKET_STREAMER_MAX_PIXELS")]
    max_pixels: Option<PixelCount>,
    /// Memory for the pictures that all decoders have in work: 512M, 2G [default: an eighth of what the process is
    /// given, 256M to 1G]
    #[arg(long, value_name = "SIZE", env = "BUCKET_STREAMER_PICTURE_MEMORY")]
    picture_memory: Option<MemorySize>,
    /// Refuse videos whose index takes more memory while it is made; three at most take more than 16M at one time
    /// [default: 384M]
    #[arg(long, value_name = "SIZE", env = "BUCKET_STREAMER_INDEX_MEMORY")]
    index_memory: Option<MemorySize>,
    /// Memory for stills and storyboards that are made [default: 256M, or less where there is little memory]
    #[arg(long, value_name = "SIZE", env = "BUCKET_STREAMER_STILL_MEMORY")]
    still_memory: Option<MemorySize>,
    /// Memory for answers and pictures that are made and not sent yet; one client may hold half of it [default: 256M, or less
    /// where there is little memory]
    #[arg(long, value_name = "SIZE", env = "BUCKET_STREAMER_REPLY_MEMORY")]
    reply_memory: Option<MemorySize>,
    /// Requests that may use the engine at one time [default: twice the threads, and two]
    #[arg(long, value_name = "N", env = "BUCKET_STREAMER_RUNNING", value_parser = clap::value_parser!(u16).range(1..))]
    running: Option<u16>,
    /// Requests that may wait for that; past it the answer is 503 [default: 256]
    #[arg(long, value_name = "N", env = "BUCKET_STREAMER_QUEUE")]
    queue: Option<u32>,
    /// The longest that a request may take [default: 30s]
    #[arg(long, value_name = "TIME", env = "BUCKET_STREAMER_DEADLINE")]
    deadline: Option<Period>,
    /// Connections at one time [default: 4096]
    #[arg(long, value_name = "N", env = "BUCKET_STREAMER_MAX_CONNECTIONS", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: Option<u32>,
    /// Connections of one address at one time; 0 for as many as there may be [default: 1024]
    #[arg(long, value_name = "N", env = "BUCKET_STREAMER_MAX_CONNECTIONS_PER_CLIENT")]
    max_connections_per_client: Option<u32>,
    /// The longest side of a still that may be asked for, in pixels [default: 8192]
    #[arg(long, value_name = "PIXELS", env = "BUCKET_STREAMER_MAX_SIDE", value_parser = clap::value_parser!(u32).range(1..=65535))]
    max_side: Option<u32>,
    /// Frames that a WebSocket may wait for at one time [default: 4096]
    #[arg(long, value_name = "N", env = "BUCKET_STREAMER_MAX_FRAMES", value_parser = clap::value_parser!(u32).range(1..))]
    max_frames: Option<u32>,
    /// Tiles that a storyboard may have [default: 400]
    #[arg(long, value_name = "N", env = "BUCKET_STREAMER_MAX_TILES", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    max_tiles: Option<u32>,
    /// Bytes of one message of a WebSocket [default: 256K]
    #[arg(long, value_name = "SIZE", env = "BUCKET_STREAMER_MAX_MESSAGE")]
    max_message: Option<MemorySize>,
    /// Bytes of a request's head, at least 8K [default: 32K]
    #[arg(long, value_name = "SIZE", env = "BUCKET_STREAMER_MAX_HEAD")]
    max_head: Option<MemorySize>,
    /// For the head of a connection's first request to come [default: 15s]
    #[arg(long, value_name = "TIME", env = "BUCKET_STREAMER_HEAD_TIMEOUT")]
    head_timeout: Option<Period>,
    /// How long a connection may be idle between requests [default: 75s]
    #[arg(long, value_name = "TIME", env = "BUCKET_STREAMER_KEEP_ALIVE")]
    keep_alive: Option<Period>,
    /// How often a WebSocket is asked whether somebody is there [default: 20s]
    #[arg(long, value_name = "TIME", env = "BUCKET_STREAMER_PING")]
    ping: Option<Period>,
    /// A reader who takes less than 64 KiB in this time is given up [default: 30s]
    #[arg(long, value_name = "TIME", env = "BUCKET_STREAMER_SLOW_TIMEOUT")]
    slow_timeout: Option<Period>,
    /// After so long without a request a WebSocket is closed [default: 10m]
    #[arg(long, value_name = "TIME", env = "BUCKET_STREAMER_IDLE_TIMEOUT")]
    idle_timeout: Option<Period>,
    /// How long requests are still taken after SIGTERM, while /ready says 503 already [default: none]
    #[arg(long, value_name = "TIME", env = "BUCKET_STREAMER_DRAIN_DELAY")]
    drain_delay: Option<Period>,
    /// For requests in flight to be finished on SIGTERM [default: 30s]
    #[arg(long, value_name = "TIME", env = "BUCKET_STREAMER_DRAIN_TIMEOUT")]
    drain_timeout: Option<Period>,
    /// Only who sends one of these tokens may ask (Authorization: Bearer ...); may be repeated. Better in the environment or
    /// in the file: lists of processes show flags [env: BUCKET_STREAMER_TOKENS, with commas between them]
    #[arg(long, value_name = "TOKEN")]
    token: Vec<String>,
    /// Tokens of the file that may be limited to roots and prefixes.
    #[arg(skip)]
    tokens: Vec<Granted>,
    /// Addresses signed with one of these keys are good without a token (see `sign`); may be repeated
    /// [env: BUCKET_STREAMER_URL_KEYS, with commas between them]
    #[arg(long, value_name = "KEY")]
    url_key: Vec<String>,
    /// The same of keys.
    #[arg(skip)]
    url_keys: Vec<Granted>,
    /// Pages of this origin may read answers: https://example.com, or * for all; may be repeated
    /// [env: BUCKET_STREAMER_CORS_ORIGINS, with commas between them]
    #[arg(long, value_name = "ORIGIN")]
    cors_origin: Vec<String>,
    /// Believe X-Forwarded-For: only behind a proxy that sets it
    #[arg(long, env = "BUCKET_STREAMER_TRUST_FORWARDED")]
    trust_forwarded: bool,
    /// Follow redirects of web roots to private addresses, too
    #[arg(long, env = "BUCKET_STREAMER_ALLOW_PRIVATE_REDIRECTS")]
    allow_private_redirects: bool,
    /// Certificates for TLS, in PEM, the server's own first
    #[arg(long, value_name = "FILE", env = "BUCKET_STREAMER_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// The private key for TLS, in PEM
    #[arg(long, value_name = "FILE", env = "BUCKET_STREAMER_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Speak HTTP/2 without TLS, too, with clients that begin with it
    #[arg(long, env = "BUCKET_STREAMER_HTTP2_CLEARTEXT")]
    http2_cleartext: bool,
    /// How messages look on standard error [default: text]
    #[arg(long, value_enum, env = "BUCKET_STREAMER_LOG_FORMAT")]
    log_format: Option<LogFormat>,
    /// Which messages: error, warn, info, debug (every request), or a filter as RUST_LOG has it [default: info]
    #[arg(long, value_name = "LEVEL", env = "BUCKET_STREAMER_LOG")]
    log: Option<String>,
}

/// A token or a key of the file, and what it is good for: `[[tokens]]` and `[[url_keys]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Granted {
    #[serde(alias = "key")]
    token: String,
    name: Option<String>,
    roots: Option<Vec<String>>,
    prefixes: Option<Vec<String>>,
}

/// Those that reach everything, and those that may be limited.
fn credentials(plain: &[String], granted: &[Granted]) -> Result<Vec<Credential>, String> {
    let mut all: Vec<Credential> = plain.iter().map(|secret| secret.as_str().into()).collect();
    for one in granted {
        let scope =
            Scope { roots: one.roots.clone().unwrap_or_default(), prefixes: one.prefixes.clone().unwrap_or_default() };
        // An empty list is a slip, and must not be good for everything.
        if scope.is_all() && (one.roots.is_some() || one.prefixes.is_some()) {
            return Err("a token or key whose roots and prefixes are empty reaches nothing".to_owned());
        }
        all.push(Credential { secret: one.token.clone(), name: one.name.clone(), scope });
    }
    if all.iter().any(|one| one.secret.len() < 8) {
        return Err("a token or a key of fewer than 8 characters is none".to_owned());
    }
    Ok(all)
}

const EXAMPLES: &str = "\
Examples:
  bucket-streamer serve
  bucket-streamer serve --root cams=/data/cams --root film=s3://bucket/films --listen-addr 0.0.0.0:3000
  curl 'http://127.0.0.1:3000/frame/cams/a.mp4?frame=120' > frame.jpg

Every flag can be set in the environment (BUCKET_STREAMER_LISTEN_ADDR=...) and in the file of --config
(listen_addr = \"...\"). docs/serving.md has the routes, the WebSocket's messages, and how it is run.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

/// A length of time, as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Period(Duration);

impl std::str::FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Period, String> {
        let nanos = time::parse(text)?.0;
        let nanos = u64::try_from(nanos).ok().filter(|nanos| (1_000_000..=86_400_000_000_000).contains(nanos));
        nanos.map(|nanos| Period(Duration::from_nanos(nanos))).ok_or_else(|| format!("{text} is not 1ms to 24h"))
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl ServeArguments {
    /// What the file says where nobody else has.
    fn or(self, file: ServeArguments) -> ServeArguments {
        let first = |own: Vec<String>, other: Vec<String>| if own.is_empty() { other } else { own };
        // A place that is typed replaces the one in the file, whatever kind that is of.
        let has_place = self.storage_backend.is_some() || self.local_path.is_some() || self.s3_bucket.is_some();
        let place = if has_place {
            ServeArguments::default()
        } else {
            ServeArguments {
                storage_backend: file.storage_backend,
                local_path: file.local_path,
                s3_bucket: file.s3_bucket,
                ..ServeArguments::default()
            }
        };
        ServeArguments {
            config: self.config,
            listen_addr: self.listen_addr.or(file.listen_addr),
            root: first(self.root, file.root),
            storage_backend: self.storage_backend.or(place.storage_backend),
            local_path: self.local_path.or(place.local_path),
            s3_bucket: self.s3_bucket.or(place.s3_bucket),
            s3_region: self.s3_region.or(file.s3_region),
            jpeg_quality: self.jpeg_quality.or(file.jpeg_quality),
            threads: self.threads.or(file.threads),
            checkpoint_memory: self.checkpoint_memory.or(file.checkpoint_memory),
            device: self.device.or(file.device),
            on_damage: self.on_damage.or(file.on_damage),
            check_hashes: self.check_hashes.or(file.check_hashes),
            max_pixels: self.max_pixels.or(file.max_pixels),
            picture_memory: self.picture_memory.or(file.picture_memory),
            index_memory: self.index_memory.or(file.index_memory),
            still_memory: self.still_memory.or(file.still_memory),
            reply_memory: self.reply_memory.or(file.reply_memory),
            running: self.running.or(file.running),
            queue: self.queue.or(file.queue),
            deadline: self.deadline.or(file.deadline),
            max_connections: self.max_connections.or(file.max_connections),
            max_connections_per_client: self.max_connections_per_client.or(file.max_connections_per_client),
            max_side: self.max_side.or(file.max_side),
            max_message: self.max_message.or(file.max_message),
            max_head: self.max_head.or(file.max_head),
            head_timeout: self.head_timeout.or(file.head_timeout),
            keep_alive: self.keep_alive.or(file.keep_alive),
            ping: self.ping.or(file.ping),
            slow_timeout: self.slow_timeout.or(file.slow_timeout),
            drain_delay: self.drain_delay.or(file.drain_delay),
            max_frames: self.max_frames.or(file.max_frames),
            max_tiles: self.max_tiles.or(file.max_tiles),
            idle_timeout: self.idle_timeout.or(file.idle_timeout),
            drain_timeout: self.drain_timeout.or(file.drain_timeout),
            token: first(self.token, file.token),
            tokens: file.tokens,
            url_key: first(self.url_key, file.url_key),
            url_keys: file.url_keys,
            cors_origin: first(self.cors_origin, file.cors_origin),
            trust_forwarded: self.trust_forwarded || file.trust_forwarded,
            allow_private_redirects: self.allow_private_redirects || file.allow_private_redirects,
            tls_cert: self.tls_cert.or(file.tls_cert),
            tls_key: self.tls_key.or(file.tls_key),
            http2_cleartext: self.http2_cleartext || file.http2_cleartext,
            log_format: self.log_format.or(file.log_format),
            log: self.log.or(file.log),
        }
    }

    fn config(&self) -> Result<Config, String> {
        let (usual, machine) = (Config::default(), Machine::read());
        // All that is kept together leaves room for decoders.
        let cache = |usual: u64| machine.memory_share(16, usual);
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificates), Some(key)) => Some(Tls { certificates: certificates.clone(), key: key.clone() }),
            (None, None) => None,
            _ => return Err("--tls-cert and --tls-key are given together".to_owned()),
        };
        let tokens = credentials(&self.token, &self.tokens)?;
        let url_keys = credentials(&self.url_key, &self.url_keys)?;
        let time = |period: Option<Period>, usual: Duration| period.map_or(usual, |Period(time)| time);
        let count = |count: Option<u32>, usual: usize| count.map_or(usual, |count| count as usize);
        let bytes = |size: Option<MemorySize>, usual: u64| size.map_or(usual, |MemorySize(bytes)| bytes);
        Ok(Config {
            listen: self.listen_addr.unwrap_or(usual.listen),
            jpeg_quality: self.jpeg_quality.unwrap_or(usual.jpeg_quality),
            on_damage: self.on_damage.unwrap_or(usual.on_damage),
            still_memory: bytes(self.still_memory, cache(usual.still_memory)),
            reply_memory: bytes(self.reply_memory, cache(usual.reply_memory)),
            running: self.running.map(usize::from),
            waiting: count(self.queue, usual.waiting),
            deadline: time(self.deadline, usual.deadline),
            connections: count(self.max_connections, usual.connections),
            connections_per_client: count(self.max_connections_per_client, usual.connections_per_client),
            longest_side: self.max_side.unwrap_or(usual.longest_side),
            message: bytes(self.max_message, usual.message as u64).clamp(1 << 10, 1 << 30) as usize,
            head: bytes(self.max_head, usual.head as u64).clamp(8 << 10, 1 << 20) as usize,
            head_timeout: time(self.head_timeout, usual.head_timeout),
            keep_alive: time(self.keep_alive, usual.keep_alive),
            ping: time(self.ping, usual.ping),
            slow_timeout: time(self.slow_timeout, usual.slow_timeout),
            drain_delay: time(self.drain_delay, usual.drain_delay),
            frames: count(self.max_frames, usual.frames),
            tiles: self.max_tiles.unwrap_or(usual.tiles),
            idle_timeout: time(self.idle_timeout, usual.idle_timeout),
            drain_timeout: time(self.drain_timeout, usual.drain_timeout),
            tokens,
            url_keys,
            cors_origins: self.cors_origin.clone(),
            trust_forwarded: self.trust_forwarded,
            http2_cleartext: self.http2_cleartext,
            tls,
        })
    }

    /// The place of the root without a name, if somebody names one.
    fn unnamed(&self) -> Result<Option<RootSpec>, String> {
        let backend = self.storage_backend.or(self.s3_bucket.as_ref().map(|_| Backend::S3));
        match (backend, &self.local_path, &self.s3_bucket) {
            (Some(Backend::S3), _, None) => Err("--storage-backend s3 wants --s3-bucket".to_owned()),
            (Some(Backend::S3), None, Some(bucket)) => {
                let bucket = bucket.trim_start_matches("s3://");
                Ok(Some(RootSpec::unnamed(&format!("s3://{bucket}"))))
            }
            (_, Some(_), Some(_)) => Err("--local-path and --s3-bucket are two roots without a name".to_owned()),
            (Some(Backend::Local), _, Some(_)) => Err("--s3-bucket is for --storage-backend s3".to_owned()),
            (_, Some(path), None) => Ok(Some(RootSpec::unnamed(&path.to_string_lossy()))),
            (Some(Backend::Local), None, None) => Ok(Some(RootSpec::unnamed(DATA))),
            (None, None, None) => Ok(None),
            (None, ..) => Ok(None),
        }
    }

    /// The roots, and who asks for what lies in them.
    fn roots(&self, remote: &RemoteArguments) -> Result<Roots, String> {
        let options = http_options(remote).map_err(str::to_owned)?;
        let options = HttpOptions { private_redirects: self.allow_private_redirects, ..options };
        let http = HttpClient::new(options).map_err(|error| error.to_string())?;
        let roots = self.places()?;
        #[cfg(feature = "stores")]
        let roots = {
            let settings = Settings::from_env();
            let settings = match &self.s3_region {
                Some(region) => settings.with("AWS_REGION", region),
                None => settings,
            };
            roots.with_stores(StoreClient::new(http.clone(), settings))
        };
        Ok(roots.with_http(http))
    }

    fn places(&self) -> Result<Roots, String> {
        let mut specs = self.root.iter().map(|text| RootSpec::parse(text)).collect::<Result<Vec<_>, _>>()?;
        specs.extend(self.unnamed()?);
        if !specs.is_empty() {
            return Roots::new(specs);
        }
        if !Roots::has_videos(DATA) {
            say("bucket-streamer: there are no videos in ./data: serving bundled clips (see --root)");
            return Ok(Roots::bundled());
        }
        Roots::new(vec![RootSpec::unnamed(DATA)])
    }

    fn log(&self) -> Result<(), String> {
        let level = self.log.as_deref().unwrap_or("info");
        // A plain level is ours; libraries say more than anybody wants.
        let filter =
            if level.contains(['=', ',']) { level.to_owned() } else { format!("warn,bucket_streamer={level}") };
        let filter = tracing_subscriber::EnvFilter::try_new(&filter).map_err(|error| format!("--log: {error}"))?;
        let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        match self.log_format.unwrap_or(LogFormat::Text) {
            LogFormat::Text => logs.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
            LogFormat::Json => logs.json().flatten_event(true).init(),
        }
        Ok(())
    }
}

/// What the environment lists, with commas between. A variable that is empty says nothing.
fn listed(name: &str) -> Vec<String> {
    let text = std::env::var(name).unwrap_or_default();
    text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect()
}

impl ServeArguments {
    /// What the environment lists where no flag does.
    fn with_lists(mut self) -> ServeArguments {
        let lists = [
            (&mut self.root, "BUCKET_STREAMER_ROOT"),
            (&mut self.token, "BUCKET_STREAMER_TOKENS"),
            (&mut self.url_key, "BUCKET_STREAMER_URL_KEYS"),
            (&mut self.cors_origin, "BUCKET_STREAMER_CORS_ORIGINS"),
        ];
        for (list, name) in lists {
            if list.is_empty() {
                *list = listed(name);
            }
        }
        self
    }
}

fn from_file(path: &Path) -> Result<ServeArguments, String> {
    let told = |why: String| format!("{}: {why}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| told(error.to_string()))?;
    toml::from_str(&text).map_err(|error| told(error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")))
}

pub(crate) fn run(arguments: ServeArguments, remote: &RemoteArguments) -> Outcome {
    let refuse = |why: String| {
        say(&format!("bucket-streamer: {why}"));
        Outcome::Usage
    };
    let file = match arguments.config.as_deref().map(from_file).transpose() {
        Ok(file) => file.unwrap_or_default(),
        Err(why) => return refuse(why),
    };
    let arguments = arguments.with_lists().or(file);
    let config = match arguments.log().and_then(|()| arguments.config()) {
        Ok(config) => config,
        Err(why) => return refuse(why),
    };
    let roots = match arguments.roots(remote) {
        Ok(roots) => Arc::new(roots),
        Err(why) => return refuse(why),
    };
    // What is kept here grows beside the engine, and is no reason for it to let go of anything.
    let usual = HttpOptions::default().cache;
    let fetched = remote.fetch_memory.map_or(usual, |MemorySize(bytes)| bytes);
    let machine = Machine::read();
    let others = config.still_memory + config.reply_memory + machine.memory_share(8, INDEX_MEMORY) + fetched;
    let device = match open_device(arguments.device.unwrap_or_default()) {
        Ok(device) => device,
        Err(outcome) => return outcome,
    };
    // What damaged frames come to is decided for each request: the engine gives all of them out.
    let limits = Limits {
        max_pixels: arguments.max_pixels.unwrap_or_default(),
        picture_memory: arguments.picture_memory,
        index_memory: arguments.index_memory.unwrap_or(MemorySize(DEFAULT_INDEX_MEMORY)),
    };
    let check_hashes = arguments.check_hashes.unwrap_or_default();
    let builder = builder(arguments.threads, arguments.checkpoint_memory, limits).check_hashes(check_hashes);
    // A client that waits no longer has no use for the video.
    let open_timeout = remote.open_timeout.unwrap_or(config.deadline);
    let builder = builder.open_timeout(Some(open_timeout).filter(|timeout| !timeout.is_zero()));
    let engine = builder.others(others).device(device).on_device_note(|note| tracing::warn!(note)).build();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = match runtime.worker_threads(machine.processors()).thread_name("serve").enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(format!("no threads to serve with: {error}")),
    };
    let outcome = runtime.block_on(async {
        let (is_secure, wanted) = (config.tls.is_some(), config.connections);
        let given = crate::given::line(&machine, &engine);
        let server = match Server::bind(config, engine, roots, index_cache().cloned()).await {
            Ok(server) => server,
            Err(error) => return refuse(format!("cannot serve: {error}")),
        };
        tracing::info!("{given}: {}", crate::given::shares(server.connections(), wanted));
        announce(server.address(), is_secure);
        let end = async {
            told_to_end().await;
            // Who says it again means it.
            tokio::spawn(async {
                told_to_end().await;
                std::process::exit(1);
            });
        };
        if server.run(end).await { Outcome::Done } else { Outcome::SomeFailed }
    });
    // What is still decoded for nobody is not waited for.
    runtime.shutdown_background();
    outcome
}

/// Where it listens: for people, and for whoever has asked for any port.
fn announce(address: SocketAddr, is_secure: bool) {
    use std::io::Write;
    let scheme = if is_secure { "https" } else { "http" };
    // Whoever does not read this knows the address.
    let _ = writeln!(std::io::stdout().lock(), "listening on {scheme}://{address}");
    let _ = std::io::stdout().lock().flush();
    tracing::info!(%address, "listening");
}

/// SIGTERM, as orchestrators end programs, or SIGINT, as people do.
async fn told_to_end() {
    let mut signals = [SignalKind::terminate(), SignalKind::interrupt()].map(|kind| signal(kind).ok());
    let [terminate, interrupt] = &mut signals;
    let next = async |signal: &mut Option<tokio::signal::unix::Signal>| match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    };
    tokio::select! {
        () = next(terminate) => {}
        () = next(interrupt) => {}
    }
}

/// An address that is good without a token for a while.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  BUCKET_STREAMER_URL_KEYS=secret-key bucket-streamer sign 'https://frames.example.com/frame/cams/a.mp4?frame=120' --expires 1h"
)]
pub(crate) struct SignArguments {
    /// The address, or its path and query, as it will be asked for
    address: String,
    /// For how long it is good
    #[arg(long, value_name = "TIME", default_value = "1h")]
    expires: Period,
    /// The key; one of the server's [env: BUCKET_STREAMER_URL_KEYS, the first one]
    #[arg(long, value_name = "KEY")]
    url_key: Option<String>,
}

pub(crate) fn sign(arguments: &SignArguments) -> Outcome {
    use std::io::Write;
    let listed = listed("BUCKET_STREAMER_URL_KEYS");
    let Some(key) = arguments.url_key.as_ref().or(listed.first()) else {
        say("bucket-streamer: sign wants a key: --url-key, or BUCKET_STREAMER_URL_KEYS");
        return Outcome::Usage;
    };
    // A server sees no more of an address than what comes behind its name.
    let address = &arguments.address;
    let begin = address.find("://").map_or(0, |scheme| scheme + 3);
    let path = if begin == 0 { 0 } else { address[begin..].find('/').map_or(address.len(), |slash| begin + slash) };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let signed = bucket_streamer_server::sign(key, &address[path..], now + arguments.expires.0.as_secs().max(1));
    match writeln!(std::io::stdout().lock(), "{}{signed}", &address[..path]) {
        Ok(()) => Outcome::Done,
        Err(_) => Outcome::SomeFailed,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{OnDamage, Period, PixelCount, ServeArguments};

    #[test]
    fn a_flag_counts_before_the_file() {
        let file: ServeArguments = toml::from_str(
            "listen_addr = \"0.0.0.0:80\"\nroot = [\"a=/a\"]\nlocal_path = \"/videos\"\ndeadline = \"5s\"\n\
             still_memory = \"1G\"\njpeg_quality = 70\non_damage = \"error\"\nmax_pixels = 1000000\n\
             picture_memory = \"768M\"\n",
        )
        .unwrap();
        let typed = ServeArguments { jpeg_quality: Some(90), s3_bucket: Some("b".into()), ..ServeArguments::default() };
        let both = typed.or(file);
        let config = both.config().unwrap();
        assert_eq!((config.jpeg_quality, config.still_memory, config.listen.port()), (90, 1 << 30, 80));
        assert_eq!((config.deadline, both.root.len(), both.local_path.is_some()), (Duration::from_secs(5), 1, false));
        assert_eq!((config.on_damage, both.max_pixels), (OnDamage::Error, Some(PixelCount(1_000_000))));
        assert_eq!(both.picture_memory.map(|size| size.0), Some(768 << 20));
        let text: ServeArguments = toml::from_str("max_pixels = \"4096x2160\"").unwrap();
        assert_eq!(text.max_pixels, Some(PixelCount(4096 * 2160)));
        for wrong in ["lisen_addr = \"x\"", "on_damage = \"ignore\"", "max_pixels = 0", "max_pixels = \"many\""] {
            assert!(toml::from_str::<ServeArguments>(wrong).is_err(), "{wrong}");
        }
        assert!("0s".parse::<Period>().is_err() && "25h".parse::<Period>().is_err() && "1m".parse::<Period>().is_ok());
    }

    #[test]
    fn tokens_and_keys_of_the_file_may_be_limited() {
        let file: ServeArguments = toml::from_str(
            "token = [\"for everything\"]\n\
             [[tokens]]\ntoken = \"of customer a\"\nname = \"a\"\nroots = [\"cams\"]\nprefixes = [\"films/a/\"]\n\
             [[tokens]]\ntoken = \"for all, too\"\n\
             [[url_keys]]\nkey = \"key of a...\"\nprefixes = [\"films/a\"]\n",
        )
        .unwrap();
        let typed = ServeArguments { token: vec!["typed token".into()], ..ServeArguments::default() };
        let config = typed.or(file).config().unwrap();
        let tokens: Vec<_> = config.tokens.iter().map(|one| (&one.secret[..], one.scope.is_all())).collect();
        assert_eq!(tokens, [("typed token", true), ("of customer a", false), ("for all, too", true)]);
        assert_eq!(config.tokens[1].name.as_deref(), Some("a"));
        assert_eq!((config.tokens[1].scope.roots.len(), config.tokens[1].scope.prefixes.len()), (1, 1));
        assert_eq!((&config.url_keys[0].secret[..], config.url_keys[0].scope.is_all()), ("key of a...", false));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let tls = ServeArguments { tls_cert: Some("x".into()), ..ServeArguments::default() };
        assert!(tls.config().is_err());
        let token = ServeArguments { token: vec!["short".into()], ..ServeArguments::default() };
        assert!(token.config().is_err());
        for wrong in
            ["token = \"short\"", "token = \"long enough\"\nroots = []", "token = \"long enough\"\nroot = [\"a\"]"]
        {
            let file = toml::from_str::<ServeArguments>(&format!("[[tokens]]\n{wrong}\n"));
            assert!(file.map_or(true, |file| ServeArguments::default().or(file).config().is_err()), "{wrong}");
        }
        let both =
            ServeArguments { local_path: Some("x".into()), s3_bucket: Some("b".into()), ..ServeArguments::default() };
        assert!(both.unnamed().is_err());
    }
}
