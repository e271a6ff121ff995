//! Frames straight out of HTTP: the same as from disk, in few requests, and typed errors where a server misbehaves.
#![cfg(feature = "remote")]
#![allow(clippy::print_stderr, reason = "tests report what they counted")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bucket_streamer::source::remote::{HttpClient, HttpOptions};
use bucket_streamer::source::{ByteRange, MemorySource, Refusal, Source};
use bucket_streamer::still::raw;
use bucket_streamer::{Catalog, Engine, Error, ErrorKind, Index, IndexCache, Video};

use testing::clips::{clips, fixture, name, play, sequential};
use testing::range_server::{Answer, Asked, Server, sum};

/// Small files in small blocks: as many requests as a large file would take. Nothing is asked for twice while it is waited
/// for: what is counted here should not depend on how busy the machine is.
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

fn put(server: &Server, clip: &Path) -> String {
    server.put(&name(clip), bytes(clip), "\"1\"")
}

fn md5(video: &Video, frame: u32) -> Result<String, Error> {
    video.frame(frame).map(|frame| raw::hex(&raw::md5(&frame.picture)))
}

/// Bytes that were sent more than once.
fn sent_twice(asked: &[Asked]) -> u64 {
    let mut ranges: Vec<(u64, u64)> =
        asked.iter().filter_map(|asked| asked.range.map(|(start, _)| (start, start + asked.sent))).collect();
    ranges.sort_unstable();
    let mut twice = 0;
    let mut end = 0;
    for (start, stop) in ranges {
        twice += end.min(stop).saturating_sub(start);
        end = end.max(stop);
    }
    twice
}

/// What was asked, and what the source counted: once all that was asked for has come, which may be after the frame has.
fn settled(server: &Server, video: &Video) -> (Vec<Asked>, (usize, u64)) {
    let (begun, mut asked) = (Instant::now(), Vec::new());
    loop {
        asked.extend(server.asked());
        let counted = video.source().counters().now();
        let counted = (counted.requests as usize, counted.bytes);
        if counted == sum(&asked) || begun.elapsed() > Duration::from_secs(5) {
            return (asked, counted);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until nothing more comes, asked for by whomever.
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

#[test]
fn every_clip_is_over_http_what_it_is_on_disk() {
    let server = Server::start();
    let mut random = fastrand::Rng::with_seed(11);
    let mut frames = 0;
    for clip in clips() {
        let address = put(&server, &clip);
        let Some(expected) = sequential(&clip) else {
            assert!(open(&address).is_err(), "{}", name(&clip));
            server.asked();
            continue;
        };
        let by_number = expected.by_number();
        // What is made of damage depends on the number of threads: the default's is everybody's.
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
        assert_eq!(counted, sum(&asked), "{}", name(&clip));
        let (played, _) = play(&open().expect("again"));
        assert_eq!(played, expected.frames, "{}", name(&clip));
        server.asked();
    }
    eprintln!("{frames} frames");
    assert!(frames > 200);
}

/// Requests and bytes of one thing done.
fn counted<T>(server: &Server, what: &str, act: impl FnOnce() -> T) -> (T, usize, u64) {
    server.asked();
    let done = act();
    let asked = server.asked();
    let (requests, bytes) = sum(&asked);
    let ranges: Vec<_> = asked.iter().filter_map(|asked| asked.range).collect();
    eprintln!("{what}: {requests} requests, {bytes} bytes, {ranges:?}");
    (done, requests, bytes)
}

/// The file with a box that says nothing in front of another: as if it were longer by so many bytes.
fn padded(file: &[u8], before: Option<&[u8; 4]>, len: u32) -> Vec<u8> {
    let place = before.map(|kind| file.windows(4).position(|bytes| bytes == kind).expect("the box") - 4);
    let (front, back) = file.split_at(place.unwrap_or(file.len()));
    let free = [&len.to_be_bytes()[..], b"free", &vec![0; len as usize - 8]].concat();
    [front, &free, back].concat()
}

/// With the defaults of everyone, and files that are larger than a block.
#[test]
fn opening_takes_few_requests() {
    let server = Server::start();
    let fast = put(&server, &fixture("hevc_demo.mp4"));
    let last = padded(&bytes(&fixture("hevc_closed_gop.mp4")), Some(b"moov"), 1 << 20);
    let last = server.put("last.mp4", last, "\"1\"");
    for (address, most, frame) in [(fast, 1, 200), (last, 3, 130)] {
        let open = || open_with(&address, HttpOptions::default()).expect("a clip");
        let (video, requests, sent) = counted(&server, &format!("{address} open"), open);
        let opened = video.opened_with();
        // What was sent may still be on its way.
        assert!(requests <= most && opened.requests == requests as u64 && opened.bytes <= sent);
        let (_, requests, _) = counted(&server, "a frame", || md5(&video, frame).expect("a frame"));
        assert!(requests <= 1);
    }
}

#[test]
fn frames_take_few_requests() {
    let server = Server::start();
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
        let (_, requests, _) = counted(&server, "the next, and what is ahead", next);
        assert!(requests <= 2);
        let (_, requests, _) = counted(&server, "the same", || md5(&video, frame).expect("a frame"));
        assert_eq!(requests, 0);
        let (_, requests, _) = counted(&server, "key frames", || video.keyframes().count());
        assert!(requests <= 3 * video.key_indices().len());
        let batch: Vec<u32> = (0..video.frame_count() as u32).step_by(5).collect();
        counted(&server, &format!("batch of {}", batch.len()), || video.frames(&batch).count());
    }
}

/// Who steps through a video waits for a request now and then, whichever way; who jumps gets nothing that was not asked for.
#[test]
fn steps_are_fetched_ahead_and_jumps_are_not() {
    let server = Server::start();
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
    let server = Server::start();
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
            server.asked();
            let plan = video.plan(&[frame]);
            assert!(server.asked().is_empty(), "a plan reads nothing");
            md5(&video, frame).expect("a frame");
            let asked = server.asked();
            let mut ranges: Vec<(u64, u64)> = plan
                .iter()
                .flat_map(|(samples, _)| samples)
                .map(|&at| &video.track().samples[at as usize])
                .map(|sample| (sample.offset, sample.offset + u64::from(sample.size)))
                .collect();
            ranges.sort_unstable();
            let closure: u64 = ranges.iter().map(|(start, end)| end - start).sum();
            let gaps = ranges.windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].1)).filter(|&gap| gap <= 1024);
            let most = closure as f64 * 1.05 + gaps.sum::<u64>() as f64;
            let (requests, bytes) = sum(&asked);
            eprintln!("{} frame {frame}: {requests} requests, {bytes} bytes for a closure of {closure}", name(&clip));
            assert!(bytes as f64 <= most, "{} frame {frame}: {bytes} of {closure}", name(&clip));
            shares.push(bytes as f64 / closure as f64);
        }
    }
    assert!(shares.len() > 10);
}

#[test]
fn callers_of_one_video_share_what_is_fetched() {
    let server = Server::start();
    let clip = fixture("hevc_closed_gop.mp4");
    let address = put(&server, &clip);
    // Slow enough that callers meet on their way.
    server.behave(|_| Answer::Late(Duration::from_millis(10)));
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
    let asked = server.asked();
    eprintln!("{:?} for {} bytes, {} connections", sum(&asked), video.source().len(), server.connections());
    assert_eq!(sent_twice(&asked), 0);
    assert!(server.connections() <= options().connections as u64 + 1);
}

/// What a misbehaving server comes to, when it does so from the start and from the second request on.
#[test]
fn a_server_that_misbehaves_is_a_typed_error_in_time() {
    type Expected = fn(&ErrorKind) -> bool;
    let refused: [(Answer, Expected); 14] = [
        (Answer::Status(404, ""), |kind| matches!(kind, ErrorKind::Remote(Refusal::NotFound(404)))),
        (Answer::Status(403, ""), |kind| matches!(kind, ErrorKind::Remote(Refusal::Forbidden))),
        (Answer::Status(401, ""), |kind| matches!(kind, ErrorKind::Remote(Refusal::Unauthorized))),
        (Answer::Status(418, ""), |kind| matches!(kind, ErrorKind::Remote(Refusal::Status(418)))),
        (Answer::Status(503, ""), |kind| matches!(kind, ErrorKind::Remote(Refusal::Busy(503)))),
        (Answer::Status(429, "Retry-After: 3600"), |kind| matches!(kind, ErrorKind::Remote(Refusal::Busy(429)))),
        (Answer::Status(302, "Location: /again.mp4"), |kind| matches!(kind, ErrorKind::Remote(Refusal::Answer(_)))),
        (Answer::Gzip, |kind| matches!(kind, ErrorKind::Remote(Refusal::Compressed(_)))),
        (Answer::NoContentRange, |kind| matches!(kind, ErrorKind::Remote(Refusal::Answer(_)))),
        (Answer::OtherRange, |kind| matches!(kind, ErrorKind::Remote(Refusal::Answer(_)))),
        (Answer::TooLong, |kind| matches!(kind, ErrorKind::Remote(Refusal::Answer(_)))),
        (Answer::HangUp, |kind| matches!(kind, ErrorKind::Remote(Refusal::Connection(_)))),
        (Answer::Stall(0), |kind| matches!(kind, ErrorKind::Remote(Refusal::Timeout { .. }))),
        (Answer::Late(Duration::from_secs(3)), |kind| matches!(kind, ErrorKind::Remote(Refusal::Timeout { .. }))),
    ];
    let server = Server::start();
    let clip = fixture("hevc_demo.mp4");
    let address = put(&server, &clip);
    open(&address).expect("a clip");
    let opening = server.asked().len() as i32;
    for (answer, is_expected) in refused {
        for good in [0, opening] {
            let (own, mut left) = (answer.clone(), good);
            server.behave(move |_| {
                left -= 1;
                if left >= 0 { Answer::Good } else { own.clone() }
            });
            let begun = Instant::now();
            let result = open(&address).and_then(|video| md5(&video, 240));
            let error = result.expect_err("the server misbehaves");
            // A frame whose samples cannot be read tells the reason as text.
            let is_told = is_expected(error.kind()) || matches!(error.kind(), ErrorKind::NeedsUnreadable(_));
            assert!(is_told, "{answer:?} after {good}: {error:?}");
            assert!(begun.elapsed() < Duration::from_secs(30), "{answer:?} after {good}: {:?}", begun.elapsed());
            assert!(error.to_string().starts_with(&address), "{error}");
        }
    }
}

#[test]
fn what_can_be_repeated_is_and_what_came_is_not_fetched_again() {
    let server = Server::start();
    let clip = fixture("hevc_demo.mp4");
    let address = put(&server, &clip);
    let expected = sequential(&clip).expect("a clip").by_number();
    let faults = [
        Answer::Cut(1000),
        Answer::Stall(1000),
        Answer::HangUp,
        Answer::Status(503, ""),
        Answer::Status(429, "Retry-After: 1"),
        Answer::Late(Duration::from_secs(1)),
    ];
    for fault in faults {
        let (own, mut turn) = (fault.clone(), 0);
        server.behave(move |_| {
            turn += 1;
            if turn % 2 == 1 { own.clone() } else { Answer::Good }
        });
        server.asked();
        let video = open(&address).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        for frame in [240, 3] {
            assert_eq!(md5(&video, frame).ok().as_ref(), expected.get(&frame), "{fault:?}");
        }
        let asked = server.asked();
        if matches!(fault, Answer::Cut(_) | Answer::Stall(_)) {
            assert_eq!(sent_twice(&asked), 0, "{fault:?}");
        }
    }
}

#[test]
fn a_file_that_is_replaced_is_an_error_and_a_fresh_one_when_opened_again() {
    let server = Server::start();
    let clip = fixture("hevc_demo.mp4");
    for (etag, then) in [("\"1\"", "\"2\""), ("W/\"1\"", "W/\"2\"")] {
        let address = server.put("clip.mp4", bytes(&clip), etag);
        let video = open(&address).expect("a clip");
        server.put("clip.mp4", bytes(&clip), then);
        let error = md5(&video, 240).expect_err("it was replaced");
        assert!(matches!(error.kind(), ErrorKind::Changed), "{etag}: {error:?}");
        assert!(video.source().check().is_err());
        md5(&open(&address).expect("the new one"), 240).expect("a frame");
    }
    let address = server.put("clip.mp4", bytes(&clip), "");
    let video = open(&address).expect("a clip");
    server.behave(|_| Answer::OtherLength);
    assert!(matches!(md5(&video, 240).expect_err("it has grown").kind(), ErrorKind::Changed));
}

/// The clip with other bytes in the middle of each of its samples: as long, and decoded to other pictures.
fn altered(clip: &Path) -> Vec<u8> {
    let mut bytes = bytes(clip);
    let video = Engine::new(Some(1)).open_path(clip).expect("a clip");
    for sample in &video.track().samples {
        let middle = sample.offset as usize + sample.size as usize / 2;
        bytes[middle..middle + sample.size as usize / 4].iter_mut().for_each(|byte| *byte ^= 0x55);
    }
    bytes
}

const NOT_CHANGED: (&str, &str) =
    ("Last-Modified: Mon, 02 Nov 2026 10:00:00 GMT", "Last-Modified: Tue, 03 Nov 2026 10:00:00 GMT");

/// A server that does not look at `If-Match` and gives bytes of another file of the same length, under whatever headers.
#[test]
fn a_version_that_was_seen_is_demanded_of_every_answer() {
    let server = Server::start();
    let clip = fixture("hevc_closed_gop.mp4");
    let expected = sequential(&clip).expect("a clip").by_number();
    let (monday, tuesday) = NOT_CHANGED;
    let changes = [
        ("ETag: \"1\"", vec!["", "ETag: W/\"1\"", "ETag: \"2\"", "ETag: ", "ETag: *", "ETag: 1", monday]),
        ("ETag: \"1\"", vec!["ETag: \"1\"\r\nETag: \"2\"", "ETag: \"2\"\r\nETag: \"1\""]),
        ("ETag: W/\"1\"", vec!["", "ETag: \"1\"", "ETag: W/\"2\""]),
        (monday, vec!["", tuesday, "ETag: \"1\""]),
        ("X-Goog-Generation: 1", vec!["", "X-Goog-Generation: 2"]),
    ];
    let mut wrong = 0;
    for (opened, others) in changes {
        for other in others {
            for answer in [Answer::Tagged(other), Answer::WholeTagged(other)] {
                let address = server.put("clip.mp4", bytes(&clip), "");
                server.behave(move |_| Answer::Tagged(opened));
                let video = open(&address).expect("a clip");
                server.put("clip.mp4", altered(&clip), "");
                let own = answer.clone();
                server.behave(move |_| own.clone());
                let what = format!("{opened:?} and then {answer:?}");
                for frame in (60..expected.len() as u32).step_by(9) {
                    match md5(&video, frame) {
                        Ok(md5) => wrong += u32::from(Some(&md5) != expected.get(&frame)),
                        Err(error) => assert!(matches!(error.kind(), ErrorKind::Changed), "{what}: {error:?}"),
                    }
                }
                assert!(video.source().check().is_err(), "{what}");
            }
        }
    }
    assert_eq!(wrong, 0);
}

/// What differs without being a difference.
#[test]
fn the_same_version_may_be_told_in_other_words() {
    let server = Server::start();
    let clip = fixture("hevc_demo.mp4");
    let expected = sequential(&clip).expect("a clip").by_number();
    let (monday, tuesday) = NOT_CHANGED;
    let with = |line: &str| -> &'static str { Box::leak(format!("ETag: \"\u{e4}1\"\r\n{line}").into_boxed_str()) };
    let same = [
        (with(monday), with(tuesday)),
        (with("X-Amz-Version-Id: a"), with("X-Amz-Version-Id: b")),
        (with("ETag: \"\u{e4}1\""), with("X-A: b")),
        (monday, monday),
        ("", ""),
    ];
    let address = server.put("clip.mp4", bytes(&clip), "");
    for (opened, then) in same {
        server.behave(move |_| Answer::Tagged(opened));
        let video = open(&address).expect("a clip");
        server.behave(move |_| Answer::Tagged(then));
        assert_eq!(md5(&video, 240).ok().as_ref(), expected.get(&240), "{opened:?} and then {then:?}");
        video.source().confirm();
        video.source().check().expect("the same");
    }
}

#[test]
fn a_server_without_ranges_will_do_for_a_small_file_only() {
    let server = Server::start();
    let clip = fixture("hevc_demo.mp4");
    let address = put(&server, &clip);
    let expected = sequential(&clip).expect("a clip").by_number();
    for answer in [Answer::Whole, Answer::WholeUnbounded] {
        server.behave(move |_| answer.clone());
        assert_eq!(md5(&open(&address).expect("small enough"), 99).ok().as_ref(), expected.get(&99));
        let error = open_with(&address, HttpOptions { cache: 100_000, ..options() }).expect_err("too much");
        assert!(matches!(error.kind(), ErrorKind::Remote(Refusal::NoRanges { limit: 50_000 })), "{error}");
    }
}

#[test]
fn credentials_are_sent_and_never_shown() {
    let server = Server::start();
    let clip = fixture("hevc_demo.mp4");
    let address = put(&server, &clip).replace("http://", "http://me:geheim@") + "?signature=geheim";
    let headers = vec![("X-Token".to_owned(), "geheim".to_owned())];
    let video = open_with(&address, HttpOptions { headers, ..options() }).expect("a clip");
    let asked = server.asked();
    assert_eq!(asked[0].headers["authorization"], "Basic bWU6Z2VoZWlt");
    assert_eq!((&asked[0].headers["x-token"][..], &asked[0].path[..]), ("geheim", "/hevc_demo.mp4?signature=geheim"));
    let mut shown = vec![format!("{video:?}"), video.source().name().to_owned()];
    for answer in [Answer::Status(403, ""), Answer::HangUp, Answer::Status(302, "Location: ?signature=geheim")] {
        server.behave(move |_| answer.clone());
        let error = open(&address).expect_err("refused");
        shown.extend([error.to_string(), format!("{error:?}")]);
    }
    assert!(shown.iter().all(|text| !text.contains("geheim")), "{shown:#?}");
}

#[test]
fn a_slow_answer_is_asked_for_again_within_a_budget() {
    let server = Server::start();
    let content: Vec<u8> = (0..200 * 8192_u32).map(|at| (at % 251) as u8).collect();
    let address = server.put("long.bin", content.clone(), "\"1\"");
    for (every, share, most) in [(20, 0.05, 200 / 20 + 8), (2, 0.05, 200 / 20 + 8), (20, 0.0, 0)] {
        let mut turn = 0;
        server.behave(move |_| {
            turn += 1;
            if turn > 40 && turn % every == 0 { Answer::Late(Duration::from_millis(120)) } else { Answer::Good }
        });
        let options = HttpOptions { hedged_share: share, ..options() };
        let source = HttpClient::new(options).and_then(|client| client.open(&address)).expect("it is there");
        for part in 1..200_u64 {
            let range = ByteRange { start: part * 8192, len: 100 };
            assert_eq!(source.read(range).expect("bytes")[..], content[part as usize * 8192..][..100]);
        }
        let counted = source.counters().now();
        eprintln!("every {every}th is slow: {} of {} requests were second ones", counted.hedged, counted.requests);
        assert!(counted.hedged <= most && (most == 0 || counted.hedged > 3), "{counted:?}");
        // One that was not needed any more may not have left.
        assert!(server.asked().len() <= counted.requests as usize);
    }
}

#[test]
fn an_index_on_disk_saves_all_requests_but_one() {
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let cache = IndexCache::open(folder.path()).expect("a folder");
    for clip in ["hevc_fragmented.mp4", "hevc.ts", "vp9.webm"].map(fixture) {
        let address = put(&server, &clip);
        let open = |address: &str| {
            let source = HttpClient::new(options()).and_then(|client| client.open(address)).expect("it is there");
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
    let server = Server::start();
    let clips = ["hevc_demo.mp4", "hevc_closed_gop.mp4", "h264_bframes.mp4"].map(fixture);
    let expected: Vec<_> = clips.iter().map(|clip| sequential(clip).expect("a clip").by_number()).collect();
    let addresses: Vec<(String, usize)> =
        (0..9).map(|at| (server.put(&format!("{at}.mp4"), bytes(&clips[at % 3]), "\"1\""), at % 3)).collect();
    server.behave(|_| Answer::Late(Duration::from_millis(5)));
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
                    // What is on its way to memory that others hold may come on top.
                    assert!(client.held_bytes() < 400_000, "{}", client.held_bytes());
                }
            });
        }
    });
    let opened = server.asked().iter().filter(|asked| !asked.headers.contains_key("if-match")).count();
    assert_eq!(opened, addresses.len(), "each once");
    assert!(server.connections() <= 6 + 1, "{} connections", server.connections());
}

/// A share of everything goes wrong: every answer is the right frame or a typed error, and none is late.
#[test]
fn frames_are_right_or_errors_whatever_goes_wrong() {
    let server = Server::start();
    let clip = fixture("hevc_closed_gop.mp4");
    let address = put(&server, &clip);
    let expected = sequential(&clip).expect("a clip").by_number();
    let mut random = fastrand::Rng::with_seed(3);
    server.behave(move |_| match random.u8(0..20) {
        0 => Answer::Cut(500),
        1 => Answer::HangUp,
        2 => Answer::Status(503, ""),
        3 => Answer::Late(Duration::from_millis(50)),
        _ => Answer::Good,
    });
    let mut random = fastrand::Rng::with_seed(4);
    let mut outcomes: HashMap<bool, u32> = HashMap::new();
    for _ in 0..60 {
        let begun = Instant::now();
        let frame = random.u32(0..expected.len() as u32);
        let result = open(&address).and_then(|video| md5(&video, frame));
        assert!(begun.elapsed() < 3 * options().deadline);
        *outcomes.entry(result.is_ok()).or_default() += 1;
        if let Ok(md5) = result {
            assert_eq!(Some(&md5), expected.get(&frame), "frame {frame}");
        }
    }
    eprintln!("right or not: {outcomes:?}");
    assert!(outcomes[&true] > 50);
}
