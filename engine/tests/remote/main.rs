//! Frames over HTTP: the same as from disk, in few requests, and typed errors where a server misbehaves.
#![cfg(feature = "remote")]
#![allow(clippy::print_stderr, reason = "tests report their counts")]

mod misbehaving;
mod requests;
mod versions;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bucket_streamer::source::remote::{HttpClient, HttpOptions};
use bucket_streamer::still::raw;
use bucket_streamer::{Engine, Error, Video};

use testing::clips::{clips, fixture, name, play, sequential};
use testing::range_server::{RangeReply, RangeRequest, RangeServer, totals};

/// Small files in small blocks, so that there are as many requests as for a large file. Without hedging, so that the
/// counts do not depend on the load of the machine.
fn options() -> HttpOptions {
    HttpOptions {
        block: 4096,
        gap: 1024,
        first_byte_timeout: Duration::from_millis(400),
        stall_timeout: Duration::from_millis(300),
        deadline: Duration::from_secs(8),
        attempts: 3,
        hedged_share: 0.0,
        ..HttpOptions::default()
    }
}

fn open_with(address: &str, options: HttpOptions) -> Result<Video, Error> {
    Engine::new(Some(2)).open(Arc::new(HttpClient::new(options)?.open(address)?), 0)
}

fn open(address: &str) -> Result<Video, Error> {
    open_with(address, options())
}

fn bytes(clip: &Path) -> Vec<u8> {
    std::fs::read(clip).expect("the fixture")
}

fn put(server: &RangeServer, clip: &Path) -> String {
    server.put(&name(clip), bytes(clip), "\"1\"")
}

fn md5(video: &Video, frame: u32) -> Result<String, Error> {
    video.frame(frame).map(|frame| raw::hex(&raw::md5(&frame.picture)))
}

/// Bytes that were sent more than once.
fn sent_twice(requests: &[RangeRequest]) -> u64 {
    let mut ranges: Vec<(u64, u64)> =
        requests.iter().filter_map(|asked| asked.range.map(|(start, _)| (start, start + asked.sent))).collect();
    ranges.sort_unstable();
    let mut twice = 0;
    let mut end = 0;
    for (start, stop) in ranges {
        twice += end.min(stop).saturating_sub(start);
        end = end.max(stop);
    }
    twice
}

/// The requests, and the source's counts, once all requested bytes have arrived, which may be after the frame.
fn settled(server: &RangeServer, video: &Video) -> (Vec<RangeRequest>, (usize, u64)) {
    let (begun, mut requests) = (Instant::now(), Vec::new());
    loop {
        requests.extend(server.take_requests());
        let counted = video.source().counters().now();
        let counted = (counted.requests as usize, counted.bytes);
        if counted == totals(&requests) || begun.elapsed() > Duration::from_secs(5) {
            return (requests, counted);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn every_clip_is_over_http_what_it_is_on_disk() {
    let server = RangeServer::start();
    let mut random = fastrand::Rng::with_seed(11);
    let mut frames = 0;
    for clip in clips() {
        let address = put(&server, &clip);
        let Some(expected) = sequential(&clip) else {
            assert!(open(&address).is_err(), "{}", name(&clip));
            server.take_requests();
            continue;
        };
        let by_number = expected.by_number();
        // Pictures of damage depend on the number of threads: both use the default.
        let open = || {
            let source = HttpClient::new(options()).and_then(|client| client.open(&address))?;
            Engine::new(None).open(Arc::new(source), 0)
        };
        let video = open().unwrap_or_else(|error| panic!("{error}"));
        for _ in 0..6 {
            let frame = random.u32(0..video.frame_count() as u32);
            assert_eq!(md5(&video, frame).ok().as_ref(), by_number.get(&frame), "{} frame {frame}", name(&clip));
            frames += 1;
        }
        let (asked, counted) = settled(&server, &video);
        assert_eq!(sent_twice(&asked), 0, "{}: {asked:#?}", name(&clip));
        assert_eq!(counted, totals(&asked), "{}", name(&clip));
        let (played, _) = play(&open().expect("again"));
        assert_eq!(played, expected.frames, "{}", name(&clip));
        server.take_requests();
    }
    eprintln!("{frames} frames");
    assert!(frames > 200);
}

#[test]
fn credentials_are_sent_and_never_shown() {
    let server = RangeServer::start();
    let clip = fixture("hevc_demo.mp4");
    let address = put(&server, &clip).replace("http://", "http://me:geheim@") + "?signature=geheim";
    let headers = vec![("X-Token".to_owned(), "geheim".to_owned())];
    let video = open_with(&address, HttpOptions { headers, ..options() }).expect("a clip");
    let asked = server.take_requests();
    assert_eq!(asked[0].headers["authorization"], "Basic bWU6Z2VoZWlt");
    assert_eq!((&asked[0].headers["x-token"][..], &asked[0].path[..]), ("geheim", "/hevc_demo.mp4?signature=geheim"));
    let mut shown = vec![format!("{video:?}"), video.source().name().to_owned()];
    for answer in
        [RangeReply::Status(403, ""), RangeReply::HangUp, RangeReply::Status(302, "Location: ?signature=geheim")]
    {
        server.set_behaviour(move |_| answer.clone());
        let error = open(&address).expect_err("refused");
        shown.extend([error.to_string(), format!("{error:?}")]);
    }
    assert!(shown.iter().all(|text| !text.contains("geheim")), "{shown:#?}");
}
