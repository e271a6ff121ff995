//! The run: all kinds of clients until the time is up, while `watch` records the server's resources.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::counts::Counts;
use crate::expected::{LoadVideo, Sum};
use crate::plan::Plan;
use crate::watch::ResourceWatch;
use crate::{abuse, expected, http, ws};

/// Time for a server to finish its requests after SIGTERM.
const TO_END: Duration = Duration::from_secs(60);

/// State that all clients share.
pub(crate) struct Load {
    pub(crate) plan: Plan,
    pub(crate) videos: Vec<LoadVideo>,
    pub(crate) counts: Counts,
    until: Instant,
}

impl Load {
    /// Whether clients go on.
    pub(crate) fn goes_on(&self) -> bool {
        let now = Instant::now();
        now < self.until && !self.counts.is_ending(now)
    }

    /// A random frame of a random video, and the video's name.
    pub(crate) fn any(&self, random: &mut Rng) -> (&str, (u32, Sum)) {
        let video = &self.videos[random.usize(..self.videos.len())];
        (&video.name, video.frames[random.usize(..video.frames.len())])
    }
}

/// Runs the load. True if there were no faults.
///
/// # Errors
/// The reason why the run cannot begin.
pub(crate) fn run(plan: Plan) -> Result<bool, String> {
    // The clients need a provider of cryptography, even without TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // A connection is a file, and there may be many.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
    let began = Instant::now();
    let videos = expected::videos(&plan)?;
    let frames: usize = videos.iter().map(|video| video.frames.len()).sum();
    println!("{} videos, {frames} frames, known after {:.1} s", videos.len(), began.elapsed().as_secs_f64());
    let until = Instant::now() + plan.lasting;
    let load = Arc::new(Load { plan, videos, counts: Counts::default(), until });
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    runtime.block_on(all(&load))
}

async fn all(load: &Arc<Load>) -> Result<bool, String> {
    let plan = &load.plan;
    TcpStream::connect(plan.authority()).await.map_err(|error| format!("{}: {error}", plan.authority()))?;
    let (began, watch) = (Instant::now(), ResourceWatch::start(plan.pid));
    let (mut clients, mut abusers) = (JoinSet::new(), JoinSet::new());
    let over_ws = (plan.clients as f64 * plan.ws).round() as usize;
    for number in 0..plan.clients {
        let random = Rng::with_seed(plan.seed ^ ((number as u64) << 32));
        let load = Arc::clone(load);
        if number < over_ws {
            clients.spawn(ws::client(load, random))
        } else {
            clients.spawn(http::client(load, random))
        };
    }
    for number in 0..plan.abuse {
        abusers.spawn(abuse::client(Arc::clone(load), number, Rng::with_seed(plan.seed ^ !(number as u64))));
    }
    let mut is_well = true;
    if let Some((after, pid)) = plan.term_after.zip(plan.pid) {
        sleep(after).await;
        *load.counts.termination.lock().expect("no panic") = Some(Instant::now());
        is_well = Command::new("kill").args(["-TERM", &pid.to_string()]).status().is_ok_and(|status| status.success());
        println!("SIGTERM after {:.1} s", began.elapsed().as_secs_f64());
        // From now on, or nearly, the server must refuse new requests.
        sleep(Duration::from_millis(500)).await;
        let answer = newcomer(&plan.authority()).await;
        let is_refused = answer.as_deref().is_none_or(|line| line.contains(" 503 "));
        println!("a new request is answered with {}", answer.as_deref().unwrap_or("nothing: refused"));
        is_well &= is_refused;
    }
    while let Some(ended) = clients.join_next().await {
        if let Err(error) = ended {
            load.counts.other(format!("a client that failed: {error}"));
        }
    }
    let took = began.elapsed();
    abusers.abort_all();
    if plan.term_after.is_some() {
        is_well &= has_ended(plan.pid).await;
    } else if plan.pid.is_some() && !is_there(plan.pid) {
        println!("not as it should be: the server has ended");
        is_well = false;
    }
    watch.print_summary();
    is_well &= load.counts.print_summary(took, &load.videos);
    println!("{}", if is_well { "all is well" } else { "not as it should be" });
    Ok(is_well)
}

/// The first line that a new connection gets; none if it is refused.
async fn newcomer(authority: &str) -> Option<String> {
    let ask = async {
        let mut stream = TcpStream::connect(authority).await.ok()?;
        let request = format!("GET /videos HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut start = [0; 256];
        let read = stream.read(&mut start).await.ok().filter(|&read| read > 0)?;
        String::from_utf8_lossy(&start[..read]).lines().next().map(str::to_owned)
    };
    timeout(Duration::from_secs(5), ask).await.ok().flatten()
}

fn is_there(pid: Option<u32>) -> bool {
    // A zombie, which has ended but was not waited for, does not count.
    let status = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    status.is_some_and(|status| !status.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
}

/// Waits until the server has ended.
async fn has_ended(pid: Option<u32>) -> bool {
    let began = Instant::now();
    while is_there(pid) && began.elapsed() < TO_END {
        sleep(Duration::from_millis(50)).await;
    }
    let has_ended = !is_there(pid);
    let what = if has_ended { "the server has ended, " } else { "not as it should be: the server is still there, " };
    println!("{what}{:.1} s after the last answer", began.elapsed().as_secs_f64());
    has_ended
}
