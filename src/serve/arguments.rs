//! The settings of a server: flags, environment variables and a file, all with the same names.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bucket_streamer::quantities::{MemorySize, PixelCount};
use bucket_streamer::{OnDamage, time};
use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::options::DeviceName;

/// The storage of the unnamed root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backend {
    /// A folder, see --local-path
    Local,
    /// A bucket, see --s3-bucket
    S3,
}

/// The settings of one source. Every field is optional, so that the next source can supply it.
#[derive(Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArguments {
    /// Read settings from this TOML file: the names of flags, with _ for -
    #[arg(long, value_name = "FILE", env = "BUCKET_STREAMER_CONFIG")]
    #[serde(skip)]
    pub(super) config: Option<PathBuf>,
    /// Address and port to listen on [default: 127.0.0.1:3000]
    #[arg(long, value_name = "ADDRESS:PORT", env = "BUCKET_STREAMER_LISTEN_ADDR")]
    pub(super) listen_addr: Option<SocketAddr>,
    /// Serve the videos of a place under a name: cams=/data/cams, film=s3://bucket/prefix, web=https://host/path/; may
    /// be repeated
    /// [env: BUCKET_STREAMER_ROOT, with commas between them]
    #[arg(long, value_name = "NAME=PLACE")]
    pub(super) root: Vec<String>,
    /// Storage of the unnamed root
    #[arg(long, value_enum, env = "BUCKET_STREAMER_STORAGE_BACKEND")]
    pub(super) storage_backend: Option<Backend>,
    /// Folder of the unnamed root [default: ./data, or bundled clips if that has no videos]
    #[arg(long, value_name = "DIR", env = "BUCKET_STREAMER_LOCAL_PATH")]
    pub(super) local_path: Option<PathBuf>,
    /// Bucket of the unnamed root, optionally with a prefix: bucket/videos
    #[arg(long, value_name = "BUCKET", env = "BUCKET_STREAMER_S3_BUCKET")]
    pub(super) s3_bucket: Option<String>,
    /// Region of buckets [default: as Amazon's tools are configured]
    #[arg(long, value_name = "REGION", env = "BUCKET_STREAMER_S3_REGION")]
    pub(super) s3_region: Option<String>,
    /// Quality of stills unless a request sets it, 1 to 100 [default: 80]
    #[arg(
        long, value_name = "N", env = "BUCKET_STREAMER_JPEG_QUALITY",
        value_parser = clap::value_parser!(u8).range(1..=100)
    )]
    pub(super) jpeg_quality: Option<u8>,
    /// Threads for decoding [default: one per processor available to the process]
    #[arg(
        long, value_name = "N", env = "BUCKET_STREAMER_THREADS",
        value_parser = clap::value_parser!(u16).range(1..=64)
    )]
    pub(super) threads: Option<u16>,
    /// Memory for decoder checkpoints: 512M, 2G; 0 for none [default: 1/16 of the memory available to the process]
    #[arg(long, value_name = "SIZE", env = "BUCKET_STREAMER_CHECKPOINT_MEMORY")]
    pub(super) checkpoint_memory: Option<MemorySize>,
    /// Device for decoding: the CPU, an NVIDIA GPU, or the one that takes less time [default: cpu]
    #[arg(long, value_name = "auto|cpu|nvdec[:N]", env = "BUCKET_STREAMER_DEVICE")]
    pub(super) device: Option<DeviceName>,
    /// Handling of frames that are known to be damaged, unless a request sets it: output them flagged, or fail
    /// [default: flag]
    #[arg(long, value_name = "flag|error", env = "BUCKET_STREAMER_ON_DAMAGE")]
    pub(super) on_damage: Option<OnDamage>,
    /// Compare each decoded H.265 picture with its hash in the stream, if there is one; a mismatch counts as damage
    #[arg(long, env = "BUCKET_STREAMER_CHECK_HASHES", num_args = 0..=1, default_missing_value = "true")]
    pub(super) check_hashes: Option<bool>,
    /// Refuse videos whose pictures have more pixels: 8388608, 8192x4352 [default: 8192x4352]
    #[arg(long, value_name = "N|WxH", env = "BUCKET_STREAMER_MAX_PIXELS")]
    pub(super) max_pixels: Option<PixelCount>,
    /// Memory for the pictures in all decoders: 512M, 2G [default: 1/8 of the memory available to the process, 256M to
    /// 1G]
    #[arg(long, value_name = "SIZE", env = "BUCKET_STREAMER_PICTURE_MEMORY")]
    pub(super) picture_memory: Option<MemorySize>,
    /// Refuse videos whose index needs more memory while it is built; at most three builds of more than 16M run at one
    /// time [default: 384M]
    #[arg(long, value_name = "SIZE", env = "BUCKET_STREAMER_INDEX_MEMORY")]
    pub(super) index_memory: Option<MemorySize>,
    /// Memory for the cache of stills and storyboards [default: 256M, or less where there is little memory]
    #[arg(long, value_name = "SIZE", env = "BUCKET_STREAMER_STILL_MEMORY")]
    pub(super) still_memory: Option<MemorySize>,
    /// Memory for responses and pictures that are not sent yet; one client may hold half of it [default: 256M, or less
    /// where there is little memory]
    #[arg(long, value_name = "SIZE", env = "BUCKET_STREAMER_REPLY_MEMORY")]
    pub(super) reply_memory: Option<MemorySize>,
    /// Requests that may use the engine at one time [default: twice the threads, plus two]
    #[arg(long, value_name = "N", env = "BUCKET_STREAMER_RUNNING", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) running: Option<u16>,
    /// Requests that may wait for the engine; the server refuses more with 503 [default: 256]
    #[arg(long, value_name = "N", env = "BUCKET_STREAMER_QUEUE")]
    pub(super) queue: Option<u32>,
    /// Longest duration of a request [default: 30s]
    #[arg(long, value_name = "TIME", env = "BUCKET_STREAMER_DEADLINE")]
    pub(super) deadline: Option<Period>,
    /// Most connections at one time [default: 4096]
    #[arg(
        long, value_name = "N", env = "BUCKET_STREAMER_MAX_CONNECTIONS",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub(super) max_connections: Option<u32>,
    /// Most connections of one address at one time; 0 for no limit per address [default: 1024]
    #[arg(long, value_name = "N", env = "BUCKET_STREAMER_MAX_CONNECTIONS_PER_CLIENT")]
    pub(super) max_connections_per_client: Option<u32>,
    /// Longest side of a requested still, in pixels [default: 8192]
    #[arg(
        long, value_name = "PIXELS", env = "BUCKET_STREAMER_MAX_SIDE",
        value_parser = clap::value_parser!(u32).range(1..=65535)
    )]
    pub(super) max_side: Option<u32>,
    /// Most frames that a WebSocket may wait for at one time [default: 4096]
    #[arg(
        long, value_name = "N", env = "BUCKET_STREAMER_MAX_FRAMES",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub(super) max_frames: Option<u32>,
    /// Most tiles of a storyboard [default: 400]
    #[arg(
        long, value_name = "N", env = "BUCKET_STREAMER_MAX_TILES",
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    pub(super) max_tiles: Option<u32>,
    /// Most bytes of one WebSocket message [default: 256K]
    #[arg(long, value_name = "SIZE", env = "BUCKET_STREAMER_MAX_MESSAGE")]
    pub(super) max_message: Option<MemorySize>,
    /// Most bytes of a request's head, at least 8K [default: 32K]
    #[arg(long, value_name = "SIZE", env = "BUCKET_STREAMER_MAX_HEAD")]
    pub(super) max_head: Option<MemorySize>,
    /// Time for the head of a connection's first request to arrive [default: 15s]
    #[arg(long, value_name = "TIME", env = "BUCKET_STREAMER_HEAD_TIMEOUT")]
    pub(super) head_timeout: Option<Period>,
    /// Longest idle time of a connection between requests [default: 75s]
    #[arg(long, value_name = "TIME", env = "BUCKET_STREAMER_KEEP_ALIVE")]
    pub(super) keep_alive: Option<Period>,
    /// Interval of the pings that check whether a WebSocket's client is alive [default: 20s]
    #[arg(long, value_name = "TIME", env = "BUCKET_STREAMER_PING")]
    pub(super) ping: Option<Period>,
    /// Give up a client that reads less than 64 KiB in this time [default: 30s]
    #[arg(long, value_name = "TIME", env = "BUCKET_STREAMER_SLOW_TIMEOUT")]
    pub(super) slow_timeout: Option<Period>,
    /// Close a WebSocket after this time without a request [default: 10m]
    #[arg(long, value_name = "TIME", env = "BUCKET_STREAMER_IDLE_TIMEOUT")]
    pub(super) idle_timeout: Option<Period>,
    /// Time for which requests are still accepted after SIGTERM, while /ready already answers 503 [default: none]
    #[arg(long, value_name = "TIME", env = "BUCKET_STREAMER_DRAIN_DELAY")]
    pub(super) drain_delay: Option<Period>,
    /// Time for requests in flight to finish on SIGTERM [default: 30s]
    #[arg(long, value_name = "TIME", env = "BUCKET_STREAMER_DRAIN_TIMEOUT")]
    pub(super) drain_timeout: Option<Period>,
    /// Require one of these tokens with each request (Authorization: Bearer ...); may be repeated. Prefer the
    /// environment or the file: process lists show flags [env: BUCKET_STREAMER_TOKENS, with commas between them]
    #[arg(long, value_name = "TOKEN")]
    pub(super) token: Vec<String>,
    /// Tokens of the file, optionally limited to roots and prefixes.
    #[arg(skip)]
    pub(super) tokens: Vec<Granted>,
    /// Accept addresses signed with one of these keys without a token (see `sign`); may be repeated
    /// [env: BUCKET_STREAMER_URL_KEYS, with commas between them]
    #[arg(long, value_name = "KEY")]
    pub(super) url_key: Vec<String>,
    /// Keys of the file, optionally limited to roots and prefixes.
    #[arg(skip)]
    pub(super) url_keys: Vec<Granted>,
    /// Let pages of this origin read responses: https://example.com, or * for all; may be repeated
    /// [env: BUCKET_STREAMER_CORS_ORIGINS, with commas between them]
    #[arg(long, value_name = "ORIGIN")]
    pub(super) cors_origin: Vec<String>,
    /// Trust X-Forwarded-For: only behind a proxy that sets it
    #[arg(long, env = "BUCKET_STREAMER_TRUST_FORWARDED")]
    pub(super) trust_forwarded: bool,
    /// Also follow redirects of web roots to private addresses
    #[arg(long, env = "BUCKET_STREAMER_ALLOW_PRIVATE_REDIRECTS")]
    pub(super) allow_private_redirects: bool,
    /// Certificate chain for TLS, in PEM, the server's own certificate first
    #[arg(long, value_name = "FILE", env = "BUCKET_STREAMER_TLS_CERT")]
    pub(super) tls_cert: Option<PathBuf>,
    /// Private key for TLS, in PEM
    #[arg(long, value_name = "FILE", env = "BUCKET_STREAMER_TLS_KEY")]
    pub(super) tls_key: Option<PathBuf>,
    /// Also accept HTTP/2 without TLS, from clients that begin with it
    #[arg(long, env = "BUCKET_STREAMER_HTTP2_CLEARTEXT")]
    pub(super) http2_cleartext: bool,
    /// Format of messages on standard error [default: text]
    #[arg(long, value_enum, env = "BUCKET_STREAMER_LOG_FORMAT")]
    pub(super) log_format: Option<LogFormat>,
    /// Messages to show: error, warn, info, debug (every request), or a filter in RUST_LOG's syntax [default: info]
    #[arg(long, value_name = "LEVEL", env = "BUCKET_STREAMER_LOG")]
    pub(super) log: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  bucket-streamer serve
  bucket-streamer serve --root cams=/data/cams --root film=s3://bucket/films --listen-addr 0.0.0.0:3000
  curl 'http://127.0.0.1:3000/frame/cams/a.mp4?frame=120' > frame.jpg

Every flag can be set in the environment (BUCKET_STREAMER_LISTEN_ADDR=...) and in the file of --config
(listen_addr = \"...\"). docs/serving.md has the routes, the WebSocket's messages, and notes on operation.";

/// A token or a key of the file with its limits: `[[tokens]]` and `[[url_keys]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Granted {
    #[serde(alias = "key")]
    pub(super) token: String,
    pub(super) name: Option<String>,
    pub(super) roots: Option<Vec<String>>,
    pub(super) prefixes: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Lines of text
    Text,
    /// One JSON object per line
    Json,
}

/// A duration, as users write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Period(pub(super) Duration);

impl std::str::FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Period, String> {
        let nanos = time::parse(text)?.0;
        let nanos = u64::try_from(nanos).ok().filter(|nanos| (1_000_000..=86_400_000_000_000).contains(nanos));
        nanos.map(|nanos| Period(Duration::from_nanos(nanos))).ok_or_else(|| format!("{text} is not in 1ms to 24h"))
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl ServeArguments {
    /// Takes a setting from the file where flags and the environment have none.
    pub(super) fn or(self, file: ServeArguments) -> ServeArguments {
        let first = |own: Vec<String>, other: Vec<String>| if own.is_empty() { other } else { own };
        let (storage_backend, local_path, s3_bucket) = self.storage_or(&file);
        ServeArguments {
            config: self.config,
            listen_addr: self.listen_addr.or(file.listen_addr),
            root: first(self.root, file.root),
            storage_backend,
            local_path,
            s3_bucket,
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

    /// A place from a flag or the environment replaces the file's place of any kind.
    fn storage_or(&self, file: &ServeArguments) -> (Option<Backend>, Option<PathBuf>, Option<String>) {
        let has_storage = self.storage_backend.is_some() || self.local_path.is_some() || self.s3_bucket.is_some();
        let storage = if has_storage { self } else { file };
        (storage.storage_backend, storage.local_path.clone(), storage.s3_bucket.clone())
    }
}

/// The comma-separated list in an environment variable. An empty variable is an empty list.
pub(super) fn listed(name: &str) -> Vec<String> {
    let text = std::env::var(name).unwrap_or_default();
    text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect()
}

impl ServeArguments {
    /// Takes lists from the environment where there are no flags.
    pub(super) fn with_lists(mut self) -> ServeArguments {
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

pub(super) fn from_file(path: &Path) -> Result<ServeArguments, String> {
    let with_path = |why: String| format!("{}: {why}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| with_path(error.to_string()))?;
    toml::from_str(&text).map_err(|error| with_path(error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")))
}
