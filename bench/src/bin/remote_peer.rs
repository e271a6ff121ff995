//! This engine behind the interface of `bench/remote`: one command per line on standard input, one JSON object per line
//! back.
//!
//!     open URL [INDEX]    a path will do, too; a new engine, a new client without connections
//!     reopen URL [INDEX]  a new engine, the client's connections are kept
//!     frame N             one frame
//!     frames N,N,N        many in one request
//!     keys                the frames that are key frames, in one request
//!
//! The clock runs during a command; MD5 sums are computed afterwards.
#![allow(clippy::print_stdout, reason = "a program that prints its results")]

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use bucket_streamer::source::remote::{HttpClient, HttpOptions};
use bucket_streamer::source::{self, Source};
use bucket_streamer::still::raw;
use bucket_streamer::{Engine, Index, Result, Video, VideoFrame, process};
use serde_json::{Value, json};

fn main() {
    process::dedicate().expect("a signal handler");
    let mut peer = RemoteSession::default();
    for line in std::io::stdin().lines().map_while(std::io::Result::ok) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = peer.answer(&words).unwrap_or_else(|error| json!({ "error": error.to_string() }));
        println!("{answer}");
        let _ = std::io::stdout().flush();
    }
}

#[derive(Default)]
struct RemoteSession {
    client: Option<HttpClient>,
    video: Option<(Engine, Video)>,
}

impl RemoteSession {
    fn answer(&mut self, words: &[&str]) -> Result<Value> {
        match words {
            ["open", rest @ ..] => {
                (self.video, self.client) = (None, None);
                self.open(rest)
            }
            ["reopen", rest @ ..] => {
                self.video = None;
                self.open(rest)
            }
            ["frame", number] => self.frames(numbers(number)),
            ["frames", list] => self.frames(numbers(list)),
            ["keys"] => {
                let keys = self.video.as_ref().map(|(_, video)| video.key_indices());
                self.frames(keys.unwrap_or_default())
            }
            _ => Ok(json!({ "error": "no such command" })),
        }
    }

    fn open(&mut self, words: &[&str]) -> Result<Value> {
        let [url, index @ ..] = words else { return Ok(json!({ "error": "open what?" })) };
        let began = Instant::now();
        let client = match self.client.take() {
            Some(client) => client,
            None => HttpClient::new(HttpOptions::default())?,
        };
        let source: Arc<dyn Source> =
            if url.contains("://") { Arc::new(client.open(url)?) } else { source::open(url)? };
        let engine = bucket_streamer_bench::engine().build();
        let video = match index {
            [] => engine.open(source, 0)?,
            [index, ..] => engine.open_with_index(source, &Index::read(&*source::open(index)?)?)?,
        };
        let ms = milliseconds(began);
        let count = video.frame_count();
        (self.client, self.video) = (Some(client), Some((engine, video)));
        Ok(json!({ "ms": ms, "count": count }))
    }

    fn frames(&self, wanted: Vec<u32>) -> Result<Value> {
        let Some((engine, video)) = &self.video else { return Ok(json!({ "error": "nothing is open" })) };
        let (decoded, fetched) = (engine.work().decoded_pictures, video.source().counters().now());
        let began = Instant::now();
        let mut frames: Vec<(u32, VideoFrame)> = match wanted[..] {
            [one] => vec![(one, video.frame(one)?)],
            _ => video.frames(&wanted).map(|(index, frame)| Ok((index, frame?))).collect::<Result<_>>()?,
        };
        let ms = milliseconds(began);
        frames.sort_unstable_by_key(|(index, _)| *index);
        let sums = frames.iter().map(|(index, frame)| (index.to_string(), raw::hex(&raw::md5(&frame.picture)).into()));
        let now = video.source().counters().now();
        Ok(json!({
            "ms": ms,
            "md5": serde_json::Map::from_iter(sums),
            "decoded_pictures": engine.work().decoded_pictures - decoded,
            "own_requests": now.requests - fetched.requests,
        }))
    }
}

fn numbers(list: &str) -> Vec<u32> {
    list.split(',').filter_map(|number| number.parse().ok()).collect()
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
