//! The arguments.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

/// The arguments of a run.
pub(crate) struct Plan {
    pub(crate) url: Url,
    pub(crate) root: String,
    pub(crate) folder: PathBuf,
    pub(crate) clients: usize,
    pub(crate) videos: usize,
    pub(crate) lasting: Duration,
    /// The share of clients that use WebSocket.
    pub(crate) ws: f64,
    pub(crate) width: Option<u32>,
    pub(crate) quality: u8,
    /// Only this many first frames of a video.
    pub(crate) frames: usize,
    /// Most frames of one request over WebSocket.
    pub(crate) batch: usize,
    pub(crate) pid: Option<u32>,
    pub(crate) abuse: usize,
    pub(crate) term_after: Option<Duration>,
    pub(crate) retry: bool,
    pub(crate) timeout: Duration,
    pub(crate) seed: u64,
    /// Pause between a response and the next request.
    pub(crate) pause: Duration,
    pub(crate) token: Option<String>,
}

impl Plan {
    /// # Errors
    /// An argument that is missing or wrong.
    pub(crate) fn read() -> Result<Plan, String> {
        let (mut url, mut root) = (None, None);
        let mut plan = Plan {
            url: Url::parse("http://localhost").map_err(|error| error.to_string())?,
            root: String::new(),
            folder: PathBuf::new(),
            clients: 1000,
            videos: 50,
            lasting: Duration::from_secs(300),
            ws: 0.5,
            width: None,
            quality: 85,
            frames: usize::MAX,
            batch: 8,
            pid: None,
            abuse: 0,
            term_after: None,
            retry: false,
            timeout: Duration::from_secs(60),
            seed: 1,
            pause: Duration::ZERO,
            token: std::env::var("BUCKET_STREAMER_BEARER_TOKEN").ok().filter(|token| !token.is_empty()),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            if name == "--retry" {
                plan.retry = true;
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number = || value.parse::<f64>().map_err(|_| format!("{name} needs a number, not {value:?}"));
            match &name[..] {
                "--url" => url = Some(Url::parse(&value).map_err(|error| format!("{value}: {error}"))?),
                "--root" => root = Some(pair(value.split_once('=').ok_or("--root needs NAME=FOLDER")?)),
                "--clients" => plan.clients = number()? as usize,
                "--videos" => plan.videos = number()? as usize,
                "--minutes" => plan.lasting = seconds(number()? * 60.0)?,
                "--seconds" => plan.lasting = seconds(number()?)?,
                "--ws" => plan.ws = number()?,
                "--width" => plan.width = Some(number()? as u32),
                "--quality" => plan.quality = number()? as u8,
                "--frames" => plan.frames = number()? as usize,
                "--batch" => plan.batch = (number()? as usize).max(1),
                "--pid" => plan.pid = Some(number()? as u32),
                "--abuse" => plan.abuse = number()? as usize,
                "--term-after" => plan.term_after = Some(seconds(number()?)?),
                "--timeout" => plan.timeout = seconds(number()?)?,
                "--seed" => plan.seed = number()? as u64,
                "--pause" => plan.pause = seconds(number()? / 1e3)?,
                _ => return Err(format!("unknown option {name}")),
            }
        }
        plan.url = url.ok_or("--url is missing: the address of the server")?;
        (plan.root, plan.folder) = root.ok_or("--root NAME=FOLDER is missing: a root of the server")?;
        if plan.url.scheme() != "http" {
            return Err("--url must be http://, without TLS".to_owned());
        }
        if plan.term_after.is_some() && plan.pid.is_none() {
            return Err("--term-after needs --pid".to_owned());
        }
        Ok(plan)
    }

    /// `host:port`.
    pub(crate) fn authority(&self) -> String {
        let host = self.url.host_str().unwrap_or("localhost");
        format!("{host}:{}", self.url.port_or_known_default().unwrap_or(80))
    }

    /// The query of every still.
    pub(crate) fn query(&self) -> String {
        let width = self.width.map(|width| format!("&width={width}")).unwrap_or_default();
        format!("&quality={}{width}", self.quality)
    }
}

fn pair((name, folder): (&str, &str)) -> (String, PathBuf) {
    (name.to_owned(), PathBuf::from(folder))
}

fn seconds(seconds: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
