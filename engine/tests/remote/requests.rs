//! Numbers of requests and bytes of opening, frames and batches, and sharing between callers.

use std::sync::Arc;
use std::time::Duration;

use bucket_streamer::source::remote::{HttpClient, HttpOptions};
use bucket_streamer::source::{ByteRange, MemorySource, Source};
use bucket_streamer::{Catalog, Engine, Index, IndexCache, Video};

use testing::clips::{fixture, name, sequential};
use testing::range_server::{RangeReply, RangeServer, totals};

use crate::{bytes, md5, open, open_with, options, put, sent_twice};

/// Waits until no more requests arrive.
fn quiet(video: &Video) {
    let counted = || video.source().counters().now();
    let mut before = counted();
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(50));
        let now = counted();
        if now == before {
            return;
        }
        before = now;
    }
}

/// Requests and bytes of one action.
pub(crate) fn counted<T>(server: &RangeServer, what: &str, act: impl FnOnce() -> T) -> (T, usize, u64) {
    server.take_requests();
    let done = act();
    let requests_seen = server.take_requests();
    let (requests, bytes) = totals(&requests_seen);
    let ranges: Vec<_> = requests_seen.iter().filter_map(|asked| asked.range).collect();
    eprintln!("{what}: {requests} requests, {bytes} bytes, {ranges:?}");
    (done, requests, bytes)
}

/// The file with a free box of this length in front of another box, as if it were longer.
fn padded(file: &[u8], before: Option<&[u8; 4]>, len: u32) -> Vec<u8> {
    let place = before.map(|kind| file.windows(4).position(|bytes| bytes == kind).expect("the box") - 4);
    let (front, back) = file.split_at(place.unwrap_or(file.len()));
    let free = [&len.to_be_bytes()[..], b"free", &vec![0; len as usize - 8]].concat();
    [front, &free, back].concat()
}

/// With default options, and files that are larger than a block.
#[test]
fn opening_takes_few_requests() {
    let server = RangeServer::start();
    let fast = put(&server, &fixture("hevc_demo.mp4"));
    let last = padded(&bytes(&fixture("hevc_closed_gop.mp4")), Some(b"moov"), 1 << 20);
    let last = server.put("last.mp4", last, "\"1\"");
    for (address, most, frame) in [(fast, 1, 200), (last, 3, 130)] {
        let open = || open_with(&address, HttpOptions::default()).expect("a clip");
        let (video, requests, sent) = counted(&server, &format!("{address} open"), open);
        let opened = video.opened_with();
        // Answers may still be on their way.
        assert!(requests <= most && opened.requests == requests as u64 && opened.bytes <= sent);
        let (_, requests, _) = counted(&server, "a frame", || md5(&video, frame).expect("a frame"));
        assert!(requests <= 1);
    }
}

#[test]
fn frames_take_few_requests() {
    let server = RangeServer::start();
    for (clip, most) in [("hevc_demo.mp4", 1), ("hevc_closed_gop.mp4", 3), ("hevc_fragmented.mp4", 12)] {
        let clip = fixture(clip);
        let address = put(&server, &clip);
        let (video, requests, _) =
            counted(&server, &format!("{} open", name(&clip)), || open(&address).expect("a clip"));
        assert!(requests <= most + 1, "{}", name(&clip));
        let opened = video.opened_with();
        assert_eq!(opened.requests as usize, requests);
        let frame = video.frame_count() as u32 / 2;
        let (_, requests, _) = counted(&server, "a frame", || md5(&video, frame).expect("a frame"));
        assert!(requests <= 2);
        let next = || {
            let md5 = md5(&video, frame + 1).expect("a frame");
            quiet(&video);
            md5
        };
        let (_, requests, _) = counted(&server, "the next frame, and read-ahead", next);
        assert!(requests <= 2);
        let (_, requests, _) = counted(&server, "the same frame", || md5(&video, frame).expect("a frame"));
        assert_eq!(requests, 0);
        let (_, requests, _) = counted(&server, "key frames", || video.keyframes().count());
        assert!(requests <= 3 * video.key_indices().len());
        let batch: Vec<u32> = (0..video.frame_count() as u32).step_by(5).collect();
        counted(&server, &format!("batch of {}", batch.len()), || video.frames(&batch).count());
    }
}

/// Stepping through a video waits rarely for a request, in either direction; jumps fetch only the requested bytes.
#[test]
fn steps_are_fetched_ahead_and_jumps_are_not() {
    let server = RangeServer::start();
    let clip = fixture("hevc_closed_gop.mp4");
    let address = server.put("long.mp4", bytes(&clip), "\"1\"");
    let expected = sequential(&clip).expect("a clip").by_number();
    let last = expected.len() as u32 - 1;
    let run = |what: &str, frames: Vec<u32>| {
        let video = open(&address).expect("a clip");
        let (_, requests, bytes) = counted(&server, what, || {
            for frame in &frames {
                assert_eq!(md5(&video, *frame).ok().as_ref(), expected.get(frame), "{what}: {frame}");
            }
            quiet(&video);
        });
        (requests, bytes)
    };
    let forwards = run("forwards", (0..=last).collect());
    assert!(forwards.0 < last as usize / 8, "{forwards:?}");
    let backwards = run("backwards", (0..=last).rev().collect());
    assert!(backwards.0 < last as usize / 4, "{backwards:?}");
    let jumps = run("jumps", vec![7, last - 3]);
    let single = run("single", vec![7]).1 + run("single", vec![last - 3]).1;
    assert!(jumps.1 <= single, "{jumps:?} for {single}");
}

#[test]
fn a_frame_with_known_references_costs_its_closure() {
    let server = RangeServer::start();
    let mut shares = Vec::new();
    for clip in ["hevc_demo.mp4", "hevc_closed_gop.mp4", "h264_bframes.mp4", "av1.mp4"].map(fixture) {
        let address = server.put(&name(&clip), padded(&bytes(&clip), None, 70_000), "\"1\"");
        let local =
            Engine::new(Some(1)).open(Arc::new(MemorySource::new("clip", padded(&bytes(&clip), None, 70_000))), 0);
        let local = local.expect("a clip");
        let index = local.export_index().expect("an index").to_bytes();
        for frame in (7..local.frame_count() as u32).step_by(41) {
            let source = HttpClient::new(options()).and_then(|client| client.open(&address)).expect("a clip");
            let index = Index::read(&MemorySource::new("index", index.clone())).expect("an index");
            let engine = Engine::new(Some(1));
            let video = engine.open_with_index(Arc::new(source), &index).expect("the same");
            server.take_requests();
            let plan = video.plan(&[frame]);
            assert!(server.take_requests().is_empty(), "a plan reads nothing");
            md5(&video, frame).expect("a frame");
            let asked = server.take_requests();
            let mut ranges: Vec<(u64, u64)> = plan
                .iter()
                .flat_map(|run| &run.samples)
                .map(|&at| &video.track().samples[at as usize])
                .map(|sample| (sample.offset, sample.offset + u64::from(sample.size)))
                .collect();
            ranges.sort_unstable();
            let closure: u64 = ranges.iter().map(|(start, end)| end - start).sum();
            let gaps = ranges.windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].1)).filter(|&gap| gap <= 1024);
            let most = closure as f64 * 1.05 + gaps.sum::<u64>() as f64;
            let (requests, bytes) = totals(&asked);
            eprintln!("{} frame {frame}: {requests} requests, {bytes} bytes for a closure of {closure}", name(&clip));
            assert!(bytes as f64 <= most, "{} frame {frame}: {bytes} of {closure}", name(&clip));
            shares.push(bytes as f64 / closure as f64);
        }
    }
    assert!(shares.len() > 10);
}

#[test]
fn callers_of_one_video_share_fetched_bytes() {
    let server = RangeServer::start();
    let clip = fixture("hevc_closed_gop.mp4");
    let address = put(&server, &clip);
    // Slow enough for concurrent requests to overlap.
    server.set_behaviour(|_| RangeReply::Late(Duration::from_millis(10)));
    let video = open(&address).expect("a clip");
    let expected = sequential(&clip).expect("a clip").by_number();
    std::thread::scope(|scope| {
        for seed in 0..16 {
            let (video, expected) = (&video, &expected);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed / 4);
                for _ in 0..6 {
                    let frame = random.u32(0..video.frame_count() as u32);
                    assert_eq!(md5(video, frame).ok().as_ref(), expected.get(&frame), "frame {frame}");
                }
            });
        }
    });
    let asked = server.take_requests();
    eprintln!("{:?} for {} bytes, {} connections", totals(&asked), video.source().len(), server.connections());
    assert_eq!(sent_twice(&asked), 0);
    assert!(server.connections() <= options().connections as u64 + 1);
}

#[test]
fn a_slow_request_is_repeated_within_a_budget() {
    let server = RangeServer::start();
    let content: Vec<u8> = (0..200 * 8192_u32).map(|at| (at % 251) as u8).collect();
    let address = server.put("long.bin", content.clone(), "\"1\"");
    for (every, share, most) in [(20, 0.05, 200 / 20 + 8), (2, 0.05, 200 / 20 + 8), (20, 0.0, 0)] {
        let mut turn = 0;
        server.set_behaviour(move |_| {
            turn += 1;
            if turn > 40 && turn % every == 0 { RangeReply::Late(Duration::from_millis(120)) } else { RangeReply::Good }
        });
        let options = HttpOptions { hedged_share: share, ..options() };
        let source = HttpClient::new(options).and_then(|client| client.open(&address)).expect("the file exists");
        for part in 1..200_u64 {
            let range = ByteRange { start: part * 8192, len: 100 };
            assert_eq!(source.read(range).expect("bytes")[..], content[part as usize * 8192..][..100]);
        }
        let counted = source.counters().now();
        eprintln!("every {every}th is slow: {} of {} requests were second ones", counted.hedged, counted.requests);
        assert!(counted.hedged <= most && (most == 0 || counted.hedged > 3), "{counted:?}");
        // An unnecessary second request may not have been sent.
        assert!(server.take_requests().len() <= counted.requests as usize);
    }
}

#[test]
fn an_index_on_disk_saves_all_requests_but_one() {
    let server = RangeServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let cache = IndexCache::open(folder.path()).expect("a folder");
    for clip in ["hevc_fragmented.mp4", "hevc.ts", "vp9.webm"].map(fixture) {
        let address = put(&server, &clip);
        let open = |address: &str| {
            let source = HttpClient::new(options()).and_then(|client| client.open(address)).expect("the file exists");
            cache.open_video(&Engine::new(Some(2)), Arc::new(source), 0).expect("a clip")
        };
        let (first, requests, _) = counted(&server, &format!("{} first", name(&clip)), || open(&address));
        let (again, then, _) = counted(&server, "again", || open(&(address.clone() + "?X-Amz-Signature=other")));
        assert!(requests > 1 && then == 1, "{requests} and {then}");
        let frame = first.frame_count() as u32 - 1;
        assert_eq!(md5(&again, frame).ok(), md5(&first, frame).ok());
        let replaced = server.put(&name(&clip), bytes(&clip), "\"2\"");
        let (_, requests, _) = counted(&server, "replaced", || open(&replaced));
        assert!(requests > 1, "another version has another index");
    }
}

#[test]
fn callers_of_many_videos_share_one_budget_and_open_each_once() {
    let server = RangeServer::start();
    let clips = ["hevc_demo.mp4", "hevc_closed_gop.mp4", "h264_bframes.mp4"].map(fixture);
    let expected: Vec<_> = clips.iter().map(|clip| sequential(clip).expect("a clip").by_number()).collect();
    let addresses: Vec<(String, usize)> =
        (0..9).map(|at| (server.put(&format!("{at}.mp4"), bytes(&clips[at % 3]), "\"1\""), at % 3)).collect();
    server.set_behaviour(|_| RangeReply::Late(Duration::from_millis(5)));
    let client = HttpClient::new(HttpOptions { cache: 300_000, connections: 6, ..options() }).expect("a client");
    let own = client.clone();
    let catalog = Catalog::new(&Engine::new(Some(2))).with_opener(move |address| Ok(Arc::new(own.open(address)?)));
    std::thread::scope(|scope| {
        for seed in 0..16 {
            let (catalog, addresses, expected, client) = (&catalog, &addresses, &expected, &client);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..12 {
                    let (address, clip) = &addresses[random.usize(0..addresses.len())];
                    let video = catalog.open(address, 0).expect("a clip");
                    let frame = random.u32(0..video.frame_count() as u32);
                    assert_eq!(md5(&video, frame).ok().as_ref(), expected[*clip].get(&frame), "{address} {frame}");
                    // Bytes in flight to memory that others hold may be added.
                    assert!(client.held_bytes() < 400_000, "{}", client.held_bytes());
                }
            });
        }
    });
    let opened = server.take_requests().iter().filter(|asked| !asked.headers.contains_key("if-match")).count();
    assert_eq!(opened, addresses.len(), "each once");
    assert!(server.connections() <= 6 + 1, "{} connections", server.connections());
}
