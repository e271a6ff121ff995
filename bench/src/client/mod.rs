//! `bench http` and `bench ws`: measures the frames of a server, and checks that they are the right ones.
//!
//! `address` parses the server's address, `server` connects and asks for videos, `tickets` says which frame is
//! requested when. `http` and `ws` are the callers; `session` does the bookkeeping of a WebSocket connection.
//! `expected` has the expected stills, `tally` the results. The rest of `bench` reports them: a server's numbers have
//! the same shape as an engine's.

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

use expected::{Spot, Sums};
use server::{Info, Server};
use tally::Tally;
use tickets::Tickets;

use super::args::{BenchArguments, By, Manner, Scenario, typed};
use super::entry::{Clip, Each, Entry, Heading, Measured};
use super::results::{is_failed, messages, tell};
use super::scenario::{COUNT, SEED, scrubbed, shuffled};
use super::setup::Setup;
use super::stats::{self, Round};
use crate::host::{Given, Outcome};

/// Default of `--timeout`, in seconds.
const TIMEOUT: f64 = 30.0;

/// Requests frames from a server, and reports the results.
pub(super) fn run(arguments: &BenchArguments, given: &Given, listed: Option<Vec<u32>>) -> Outcome {
    let refuse = |outcome: Outcome, why: &str| {
        given.host.say(why);
        outcome
    };
    let Some(location) = &arguments.video else {
        return refuse(Outcome::Usage, "bench http and bench ws need the address of a server");
    };
    let timeout = Duration::from_secs_f64(arguments.client.timeout.unwrap_or(TIMEOUT));
    let address = address::Address::parse(location);
    let server = match address.and_then(|address| Server::new(address, given, timeout)) {
        Ok(server) => Arc::new(server),
        Err(why) => return refuse(Outcome::Usage, &why),
    };
    let mut builder = Builder::new_multi_thread();
    if let Some(threads) = arguments.threads {
        builder.worker_threads(threads.into());
    }
    let runtime = match builder.thread_name("client").enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(Outcome::Unreadable, &format!("cannot start the network's threads: {error}")),
    };
    let client = match Client::open(arguments, given, &server, &runtime, listed) {
        Ok(client) => client,
        Err(why) => return refuse(Outcome::Unreadable, &why),
    };
    let entries = [client.measure()];
    messages(given.host, &entries);
    let is_told = tell(given.host, arguments, &entries, || client.heading().table(&entries));
    if is_told && !is_failed(&entries) { Outcome::Done } else { Outcome::SomeFailed }
}

/// Everything that is known before the clock starts.
struct Client<'a> {
    arguments: &'a BenchArguments,
    setup: Setup,
    server: &'a Arc<Server>,
    runtime: &'a Runtime,
    video: String,
    info: Info,
    frames: Arc<[u32]>,
    spots: Option<Arc<[Option<Spot>]>>,
    known: Option<Arc<Sums>>,
    /// Time until the server had described the video.
    open: Duration,
}

impl<'a> Client<'a> {
    /// # Errors
    /// Why nothing can be measured, for the user.
    fn open(
        arguments: &'a BenchArguments,
        given: &Given,
        server: &'a Arc<Server>,
        runtime: &'a Runtime,
        listed: Option<Vec<u32>>,
    ) -> Result<Client<'a>, String> {
        let named = arguments.client.video_path.clone().or_else(|| server.address.video.clone());
        let opening = Instant::now();
        let (video, info) = runtime.block_on(async {
            let client = server.client()?;
            let of = |why: String| format!("{}: {why}", server.address.shown());
            let video = match named {
                Some(video) => video,
                None => server.first_video(&client).await.map_err(of)?,
            };
            let info = server.info(&client, &video).await.map_err(|why| of(format!("{video}: {why}")))?;
            if arguments.scenario == Scenario::Ws {
                // A server without WebSocket is an error now, not an error of each frame.
                ws::connect(server, &video).await.map_err(|why| of(format!("/ws: {why}")))?;
            }
            Ok::<_, String>((video, info))
        })?;
        let open = opening.elapsed();
        let frames = frames(arguments, listed, info.frames);
        if frames.is_empty() {
            return Err(format!("{}: {video}: the server reports a video without frames", server.address.shown()));
        }
        let client = &arguments.client;
        let known = client.check.as_deref().map(|copy| expected::sums(copy, arguments, given, &frames)).transpose();
        let known = known.map_err(|error| error.to_string())?;
        let copy = client.copy.as_deref().or(client.check.as_deref()).filter(|_| client.by == Some(By::Offset));
        let spots = copy.map(|copy| expected::spots(copy, given)).transpose().map_err(|error| error.to_string())?;
        let setup = Setup::of(arguments, given);
        Ok(Client {
            arguments,
            setup,
            server,
            runtime,
            video,
            info,
            frames: frames.into(),
            spots: spots.map(Into::into),
            known: known.map(Arc::new),
            open,
        })
    }

    fn measure(&self) -> Entry {
        let (mut rounds, mut tallies) = (Vec::new(), Vec::new());
        for _ in 0..self.setup.rounds {
            let (round, tally) = self.runtime.block_on(self.round());
            rounds.push(round);
            tallies.push(tally);
        }
        let engine = typed(self.arguments.scenario);
        let Some(told) = stats::median(&rounds) else {
            return Entry::Unavailable { engine, unavailable: "no round was made".into() };
        };
        let client = &self.arguments.client;
        let (order, by) = (client.order.unwrap_or_default(), client.by.unwrap_or_default());
        let compared = |frame: &u32| self.known.as_ref().is_some_and(|known| known.contains_key(frame));
        let is_checked = |came: &&tally::Came| came.answer.error.is_none() && compared(&came.answer.index);
        let tally = &tallies[told];
        let checked = tally.came.iter().filter(is_checked).count();
        let wrong = tally.came.iter().filter(|came| came.wrong == Some(true)).count();
        let ws = (self.arguments.scenario == Scenario::Ws).then(|| (order, by, client.pipeline.map_or(1, usize::from)));
        let manner = self.arguments.indices.is_none().then(|| client.manner.unwrap_or_default());
        let each = |came: &tally::Came| {
            let md5 = came.answer.md5.clone();
            Each::of(&came.answer, came.pts, md5, came.wrong == Some(true))
        };
        let mut messages: Vec<String> = tallies.iter().flat_map(|tally| tally.messages(order)).collect();
        messages.sort_unstable();
        messages.dedup();
        Entry::Measured(Box::new(Measured {
            wrong: Some(wrong),
            checked: self.known.is_some().then_some(checked),
            served: Some(tally.served(manner, ws)),
            each: self.setup.each.then(|| tally.came.iter().map(each).collect()),
            messages,
            ..self.heading().measured(engine, None, &rounds, told)
        }))
    }

    /// Makes all requests once, by callers with connections of their own.
    async fn round(&self) -> (Round, Tally) {
        let lasting = self.arguments.client.duration.map(Duration::from_secs_f64);
        let callers = self.setup.load.callers;
        let tickets = || Tickets::new(&self.frames, self.setup.load.rate_per_s, lasting);
        let (mut tally, started) = match self.arguments.scenario {
            Scenario::Ws => {
                let sockets = join_all((0..callers).map(|_| ws::connect(self.server, &self.video))).await;
                let asking = Arc::new(ws::Asking {
                    server: Arc::clone(self.server),
                    tickets: tickets(),
                    video: self.video.clone(),
                    arguments: self.arguments.client.clone(),
                    spots: self.spots.clone(),
                    known: self.known.clone(),
                });
                (all(sockets.into_iter().map(|socket| Arc::clone(&asking).call(socket))).await, asking.tickets.started)
            }
            _ => {
                let clients: Vec<_> = (0..callers).filter_map(|_| self.server.client().ok()).collect();
                let (server, tickets, route) = (Arc::clone(self.server), tickets(), self.route());
                let asking = Arc::new(http::Asking { server, tickets, route, known: self.known.clone() });
                (all(clients.into_iter().map(|client| Arc::clone(&asking).call(client))).await, asking.tickets.started)
            }
        };
        let took = tally.ended.map_or(Duration::ZERO, |ended| ended.saturating_duration_since(started));
        tally.came.sort_by_key(|came| came.place);
        let answers = tally.came.iter().map(|came| came.answer.clone()).collect();
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

    fn heading(&self) -> Heading {
        let info = &self.info;
        Heading {
            scenario: typed(self.arguments.scenario),
            video: self.server.address.frame(&self.video).to_string(),
            output: "jpeg".to_owned(),
            threads: self.runtime.metrics().num_workers(),
            setup: self.setup.told(),
            clip: Clip {
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
async fn all(callers: impl Iterator<Item = impl Future<Output = Tally> + Send + 'static>) -> Tally {
    let callers: Vec<_> = callers.map(tokio::spawn).collect();
    // A caller that panics, which takes a bug, has no tally.
    join_all(callers).await.into_iter().filter_map(std::result::Result::ok).fold(Tally::default(), Tally::and)
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
        Manner::Random => shuffled(frames, count, seed),
        Manner::Scrub => scrubbed(frames, count, seed),
        Manner::Sequential => (0..frames).cycle().take(count).collect(),
    }
}
