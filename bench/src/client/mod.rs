//! `bench http` and `bench ws`: measures the frames of a server, and checks that they are the right ones.
//!
//! `address` parses the server's address, `server` connects and lists videos, `tickets` orders the requests and their
//! times. `http` and `ws` are the callers; `session` does the bookkeeping of a WebSocket connection. `expected` has the
//! expected stills, `tally` the results. The rest of `bench` reports them: a server's numbers have the same shape as an
//! engine's.

mod address;
mod expected;
mod http;
mod server;
mod session;
mod tally;
mod tickets;
mod ws;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::runtime::{Builder, Runtime};

use expected::{SampleOffsets, StillMd5s};
use server::{RemoteVideoInfo, ServerEndpoint};
use tally::ClientTally;
use tickets::RequestTickets;

use super::args::{BenchArguments, FrameAddressing, RequestPattern, Scenario, typed};
use super::records::{BenchHeading, ClipProperties, EngineResult, FrameRecord, Measurement};
use super::results::{is_failed, messages, write_results};
use super::scenario::{COUNT, SEED, scrubbed, shuffled};
use super::setup::Setup;
use super::stats::{self, Round};
use crate::host::{BenchContext, BenchOutcome};

/// Default of `--timeout`, in seconds.
const TIMEOUT: f64 = 30.0;

/// Requests frames from a server, and reports the results.
pub(super) fn run(arguments: &BenchArguments, context: &BenchContext, listed: Option<Vec<u32>>) -> BenchOutcome {
    let refuse = |outcome: BenchOutcome, why: &str| {
        context.host.say(why);
        outcome
    };
    let Some(location) = &arguments.video else {
        return refuse(BenchOutcome::Usage, "bench http and bench ws need the address of a server");
    };
    let timeout = Duration::from_secs_f64(arguments.client.timeout.unwrap_or(TIMEOUT));
    let address = address::ServerAddress::parse(location);
    let server = match address.and_then(|address| ServerEndpoint::new(address, context, timeout)) {
        Ok(server) => Arc::new(server),
        Err(why) => return refuse(BenchOutcome::Usage, &why),
    };
    let mut builder = Builder::new_multi_thread();
    if let Some(threads) = arguments.threads {
        builder.worker_threads(threads.into());
    }
    let runtime = match builder.thread_name("client").enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(BenchOutcome::Unreadable, &format!("cannot start the network's threads: {error}")),
    };
    let client = match ServerBench::open(arguments, context, &server, &runtime, listed) {
        Ok(client) => client,
        Err(why) => return refuse(BenchOutcome::Unreadable, &why),
    };
    let entries = [client.measure()];
    messages(context.host, &entries);
    let is_written = write_results(context.host, arguments, &entries, || client.heading().table(&entries));
    if is_written && !is_failed(&entries) { BenchOutcome::Done } else { BenchOutcome::SomeFailed }
}

/// The state of a measurement before the clock starts.
struct ServerBench<'a> {
    arguments: &'a BenchArguments,
    setup: Setup,
    server: &'a Arc<ServerEndpoint>,
    runtime: &'a Runtime,
    video: String,
    info: RemoteVideoInfo,
    frames: Arc<[u32]>,
    offsets: Option<Arc<[Option<SampleOffsets>]>>,
    expected: Option<Arc<StillMd5s>>,
    /// Time until the server's description of the video arrived.
    open: Duration,
}

impl<'a> ServerBench<'a> {
    /// # Errors
    /// The reason why nothing can be measured, as a message for the user.
    fn open(
        arguments: &'a BenchArguments,
        context: &BenchContext,
        server: &'a Arc<ServerEndpoint>,
        runtime: &'a Runtime,
        listed: Option<Vec<u32>>,
    ) -> Result<ServerBench<'a>, String> {
        let named = arguments.client.video_path.clone().or_else(|| server.address.video.clone());
        let opening = Instant::now();
        let (video, info) = runtime.block_on(async {
            let client = server.client()?;
            let of = |why: String| format!("{}: {why}", server.address.redacted());
            let video = match named {
                Some(video) => video,
                None => server.first_video(&client).await.map_err(of)?,
            };
            let info = server.info(&client, &video).await.map_err(|why| of(format!("{video}: {why}")))?;
            if arguments.scenario == Scenario::Ws {
                // A server without WebSocket is an error here, not an error of each frame.
                ws::connect(server, &video).await.map_err(|why| of(format!("/ws: {why}")))?;
            }
            Ok::<_, String>((video, info))
        })?;
        let open = opening.elapsed();
        let frames = frames(arguments, listed, info.frames);
        if frames.is_empty() {
            return Err(format!("{}: {video}: the server reports a video without frames", server.address.redacted()));
        }
        let client = &arguments.client;
        let expected =
            client.check.as_deref().map(|copy| expected::sums(copy, arguments, context, &frames)).transpose();
        let expected = expected.map_err(|error| error.to_string())?;
        let copy =
            client.copy.as_deref().or(client.check.as_deref()).filter(|_| client.by == Some(FrameAddressing::Offset));
        let offsets =
            copy.map(|copy| expected::sample_offsets(copy, context)).transpose().map_err(|error| error.to_string())?;
        let setup = Setup::of(arguments, context);
        Ok(ServerBench {
            arguments,
            setup,
            server,
            runtime,
            video,
            info,
            frames: frames.into(),
            offsets: offsets.map(Into::into),
            expected: expected.map(Arc::new),
            open,
        })
    }

    fn measure(&self) -> EngineResult {
        let (mut rounds, mut tallies) = (Vec::new(), Vec::new());
        for _ in 0..self.setup.rounds {
            let (round, tally) = self.runtime.block_on(self.round());
            rounds.push(round);
            tallies.push(tally);
        }
        let engine = typed(self.arguments.scenario);
        let Some(median) = stats::median(&rounds) else {
            return EngineResult::Unavailable { engine, unavailable: "no round was completed".into() };
        };
        let client = &self.arguments.client;
        let (order, by) = (client.order.unwrap_or_default(), client.by.unwrap_or_default());
        let compared = |frame: &u32| self.expected.as_ref().is_some_and(|known| known.contains_key(frame));
        let is_checked =
            |result: &&tally::ClientStillResult| result.answer.error.is_none() && compared(&result.answer.index);
        let tally = &tallies[median];
        let checked = tally.results.iter().filter(is_checked).count();
        let wrong = tally.results.iter().filter(|received| received.wrong == Some(true)).count();
        let ws = (self.arguments.scenario == Scenario::Ws).then(|| (order, by, client.pipeline.map_or(1, usize::from)));
        let manner = self.arguments.indices.is_none().then(|| client.manner.unwrap_or_default());
        let each = |result: &tally::ClientStillResult| {
            let md5 = result.answer.md5.clone();
            FrameRecord::of(&result.answer, result.pts, md5, result.wrong == Some(true))
        };
        let mut messages: Vec<String> = tallies.iter().flat_map(|tally| tally.messages(order)).collect();
        messages.sort_unstable();
        messages.dedup();
        EngineResult::Measured(Box::new(Measurement {
            wrong: Some(wrong),
            checked: self.expected.is_some().then_some(checked),
            served: Some(tally.summary(manner, ws)),
            each: self.setup.each.then(|| tally.results.iter().map(each).collect()),
            messages,
            ..self.heading().measurement(engine, None, &rounds, median)
        }))
    }

    /// Makes all requests once, by callers with connections of their own.
    async fn round(&self) -> (Round, ClientTally) {
        let duration = self.arguments.client.duration.map(Duration::from_secs_f64);
        let callers = self.setup.load.callers;
        let tickets = || RequestTickets::new(&self.frames, self.setup.load.rate_per_s, duration);
        let (mut tally, started) = match self.arguments.scenario {
            Scenario::Ws => {
                let sockets = join_all((0..callers).map(|_| ws::connect(self.server, &self.video))).await;
                let ws_callers = Arc::new(ws::WsCallers {
                    server: Arc::clone(self.server),
                    tickets: tickets(),
                    video: self.video.clone(),
                    arguments: self.arguments.client.clone(),
                    offsets: self.offsets.clone(),
                    expected: self.expected.clone(),
                });
                (
                    run_callers(sockets.into_iter().map(|socket| Arc::clone(&ws_callers).call(socket))).await,
                    ws_callers.tickets.started,
                )
            }
            _ => {
                let clients: Vec<_> = (0..callers).filter_map(|_| self.server.client().ok()).collect();
                let (server, tickets, route) = (Arc::clone(self.server), tickets(), self.route());
                let http_callers =
                    Arc::new(http::HttpCallers { server, tickets, route, expected: self.expected.clone() });
                (
                    run_callers(clients.into_iter().map(|client| Arc::clone(&http_callers).call(client))).await,
                    http_callers.tickets.started,
                )
            }
        };
        let took = tally.ended.map_or(Duration::ZERO, |ended| ended.saturating_duration_since(started));
        tally.results.sort_by_key(|received| received.place);
        let answers = tally.results.iter().map(|received| received.answer.clone()).collect();
        (Round { took, open: Some(self.open), answers, ..Round::default() }, tally)
    }

    /// The route of frames, with the parameters that all requests share.
    fn route(&self) -> reqwest::Url {
        let mut route = self.server.address.frame(&self.video);
        let client = &self.arguments.client;
        let quality = client.quality();
        for (name, value) in [("width", client.width), ("height", client.height), ("quality", quality.map(u32::from))] {
            if let Some(value) = value {
                route.query_pairs_mut().append_pair(name, &value.to_string());
            }
        }
        route
    }

    fn heading(&self) -> BenchHeading {
        let info = &self.info;
        BenchHeading {
            scenario: typed(self.arguments.scenario),
            video: self.server.address.frame(&self.video).to_string(),
            output: "jpeg".to_owned(),
            threads: self.runtime.metrics().num_workers(),
            setup: self.setup.record(),
            clip: ClipProperties {
                container: info.container.clone(),
                codec: info.codec.clone(),
                width: info.width,
                height: info.height,
                pixel_format: info.pixel_format.clone(),
                frames: info.frames as usize,
                keyframes: info.keyframes,
                longest_gop: None,
            },
        }
    }
}

/// Runs all callers, on all threads, and joins their tallies.
async fn run_callers(callers: impl Iterator<Item = impl Future<Output = ClientTally> + Send + 'static>) -> ClientTally {
    let callers: Vec<_> = callers.map(tokio::spawn).collect();
    // A caller that panics, which takes a bug, has no tally.
    join_all(callers)
        .await
        .into_iter()
        .filter_map(std::result::Result::ok)
        .fold(ClientTally::default(), ClientTally::merge)
}

/// The frames to request, in order.
fn frames(arguments: &BenchArguments, listed: Option<Vec<u32>>, frames: u32) -> Vec<u32> {
    if let Some(listed) = listed {
        return listed;
    }
    // With a duration, the default is the whole video.
    let usual = if arguments.client.duration.is_some() { frames } else { COUNT };
    let (count, seed) = (arguments.count.unwrap_or(usual) as usize, arguments.seed.unwrap_or(SEED));
    match arguments.client.manner.unwrap_or_default() {
        _ if frames == 0 => Vec::new(),
        RequestPattern::Random => shuffled(frames, count, seed),
        RequestPattern::Scrub => scrubbed(frames, count, seed),
        RequestPattern::Sequential => (0..frames).cycle().take(count).collect(),
    }
}
