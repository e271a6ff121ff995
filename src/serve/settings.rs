//! Turns the arguments of `serve` into the server's configuration, its roots and its logging.

use std::io::IsTerminal;
use std::time::Duration;

use bucket_streamer::Machine;
use bucket_streamer::quantities::MemorySize;
use bucket_streamer::source::remote::{HttpClient, HttpOptions};
#[cfg(feature = "stores")]
use bucket_streamer::source::remote::{Settings, StoreClient};
use bucket_streamer_server::roots::{RootSpec, Roots};
use bucket_streamer_server::{Config, Credential, Scope, Tls};

use super::arguments::{Backend, Granted, LogFormat, Period, ServeArguments};
use crate::console::say;
use crate::options::{RemoteArguments, http_options};

/// The default folder of videos.
const DATA: &str = "./data";

impl ServeArguments {
    pub(super) fn config(&self) -> Result<Config, String> {
        let (usual, machine) = (Config::default(), Machine::read());
        // The caches together leave room for decoders.
        let cache = |usual: u64| machine.memory_share(16, usual);
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificates), Some(key)) => Some(Tls { certificates: certificates.clone(), key: key.clone() }),
            (None, None) => None,
            _ => return Err("--tls-cert and --tls-key need each other: give both or neither".to_owned()),
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

    /// The place of the unnamed root, if there is one.
    pub(super) fn unnamed(&self) -> Result<Option<RootSpec>, String> {
        let backend = self.storage_backend.or(self.s3_bucket.as_ref().map(|_| Backend::S3));
        match (backend, &self.local_path, &self.s3_bucket) {
            (Some(Backend::S3), _, None) => Err("--storage-backend s3 needs --s3-bucket".to_owned()),
            (Some(Backend::S3), None, Some(bucket)) => {
                let bucket = bucket.trim_start_matches("s3://");
                Ok(Some(RootSpec::unnamed(&format!("s3://{bucket}"))))
            }
            (_, Some(_), Some(_)) => Err("--local-path and --s3-bucket both set the unnamed root: give one".to_owned()),
            (Some(Backend::Local), _, Some(_)) => Err("--s3-bucket needs --storage-backend s3".to_owned()),
            (_, Some(path), None) => Ok(Some(RootSpec::unnamed(&path.to_string_lossy()))),
            (Some(Backend::Local), None, None) => Ok(Some(RootSpec::unnamed(DATA))),
            (None, None, None) => Ok(None),
            (None, ..) => Ok(None),
        }
    }

    /// The roots, and the clients that fetch from them.
    pub(super) fn roots(&self, remote: &RemoteArguments) -> Result<Roots, String> {
        let options = http_options(remote).map_err(str::to_owned)?;
        let options = HttpOptions { private_redirects: self.allow_private_redirects, ..options };
        let http = HttpClient::new(options).map_err(|error| error.to_string())?;
        let roots = self.named_roots()?;
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

    fn named_roots(&self) -> Result<Roots, String> {
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

    pub(super) fn log(&self) -> Result<(), String> {
        let level = self.log.as_deref().unwrap_or("info");
        // A plain level applies to this program. Libraries show only warnings.
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

/// The credentials without limits, followed by those of the file.
fn credentials(plain: &[String], granted: &[Granted]) -> Result<Vec<Credential>, String> {
    let mut all: Vec<Credential> = plain.iter().map(|secret| secret.as_str().into()).collect();
    for one in granted {
        let scope =
            Scope { roots: one.roots.clone().unwrap_or_default(), prefixes: one.prefixes.clone().unwrap_or_default() };
        // An empty list is an error: it must not grant everything.
        if scope.is_all() && (one.roots.is_some() || one.prefixes.is_some()) {
            return Err("a token or key has empty lists of roots and prefixes: fill or remove them".to_owned());
        }
        all.push(Credential { secret: one.token.clone(), name: one.name.clone(), scope });
    }
    if all.iter().any(|one| one.secret.len() < 8) {
        return Err("a token or key has fewer than 8 characters: use a longer one".to_owned());
    }
    Ok(all)
}
