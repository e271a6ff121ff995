//! Frames over HTTP under random faults, and with failing sources in addition.
#![cfg(feature = "remote")]
#![allow(clippy::print_stderr, reason = "tests report their counts")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bucket_streamer::source::remote::{HttpClient, HttpOptions};
use bucket_streamer::source::{ByteRange, Fault, FaultSource, Refusal, Source};
use bucket_streamer::still::raw;
use bucket_streamer::{Engine, ErrorKind};

use testing::clips::{fixture, sequential};
use testing::faults::{FaultHarness, FaultPlan};
use testing::range_server::{RangeReply, RangeServer, UnresponsivePort};

/// A short run of `bench/src/bin/remote_faults.rs`.
#[test]
fn frames_are_right_or_refused_in_time_and_nothing_leaks() {
    let faults = FaultHarness::new().expect("the fixtures");
    let plan = FaultPlan::new(240, 7);
    faults.run(&FaultPlan { requests: 80, seed: 8, ..plan.clone() }).expect("a client");
    let before = faults.settled();
    let report = faults.run(&plan).expect("a client");
    let after = faults.settled();
    eprintln!("{before:?}\n{after:?}\n{report:#?}");
    assert!(report.wrong.is_empty(), "{:#?}", report.wrong);
    assert!(report.right > 200 && report.faulty_replies() > 20, "{report:#?}");
    assert!(report.hedged <= report.most_hedged(&plan), "{report:#?}");
    // A read ends in time; a frame needs several, and the machine may be busy.
    assert!(report.slowest < 3 * plan.options.deadline, "{:?}", report.slowest);
    // Another test of this file may have begun or ended meanwhile.
    assert!(after.resident_kib < before.resident_kib + (256 << 10));
    assert!(after.threads < before.threads + 40 && after.descriptors < before.descriptors + 80);
}

fn options() -> HttpOptions {
    HttpOptions {
        connect_timeout: Duration::from_millis(300),
        first_byte_timeout: Duration::from_millis(600),
        stall_timeout: Duration::from_millis(400),
        deadline: Duration::from_secs(5),
        attempts: 3,
        ..HttpOptions::default()
    }
}

#[test]
fn a_server_that_does_not_take_connections_is_an_error_in_time() {
    let deaf = UnresponsivePort::start();
    let client = HttpClient::new(options()).expect("a client");
    let begun = Instant::now();
    let error = client.open(&format!("http://{}/clip.mp4", deaf.address)).expect_err("no server answers");
    let refusal = Refusal::Timeout { what: "a connection", limit: options().connect_timeout };
    assert!(matches!(error.kind(), ErrorKind::Remote(told) if *told == refusal), "{error}");
    assert!(begun.elapsed() < 2 * options().deadline, "{:?}", begun.elapsed());
}

#[test]
fn a_body_that_trickles_is_read_until_the_deadline() {
    let server = RangeServer::start();
    let bytes: Vec<u8> = (0..20_000_u32).map(|byte| byte as u8).collect();
    let address = server.put("bytes", bytes.clone(), "\"1\"");
    let range = ByteRange { start: 0, len: bytes.len() as u64 };
    server.set_behaviour(|_| RangeReply::Trickle(1000, Duration::from_millis(20)));
    let source = HttpClient::new(options()).and_then(|client| client.open(&address)).expect("it comes");
    assert_eq!(source.read(range).expect("it comes")[..], bytes);
    assert_eq!(server.take_requests().len(), 1);
    // Never too long between two parts, too long for all of them.
    server.set_behaviour(|_| RangeReply::Trickle(100, Duration::from_millis(200)));
    let source = HttpClient::new(options()).and_then(|client| client.open(&address)).expect("the first bytes arrive");
    let begun = Instant::now();
    let error = source.read(range).expect_err("the deadline passes");
    assert!(matches!(error.kind(), ErrorKind::Remote(Refusal::Timeout { .. })), "{error}");
    assert!(begun.elapsed() < 2 * options().deadline, "{:?}", begun.elapsed());
}

/// A reset before or in the middle of an answer has the result of a closed connection.
#[test]
fn resets_are_retried_and_received_bytes_are_kept() {
    let server = RangeServer::start();
    let bytes: Vec<u8> = (0..300_000_u32).map(|byte| (byte / 7) as u8).collect();
    let address = server.put("bytes", bytes.clone(), "\"1\"");
    let mut turn = 0;
    server.set_behaviour(move |_| {
        turn += 1;
        [RangeReply::Reset, RangeReply::ResetAfter(30_000), RangeReply::Good][turn % 3].clone()
    });
    let source = HttpClient::new(options()).and_then(|client| client.open(&address)).expect("on the second try");
    for start in (0..bytes.len()).step_by(50_000) {
        let range = ByteRange { start: start as u64, len: 50_000 };
        assert_eq!(source.read(range).expect("on the second try")[..], bytes[start..start + 50_000]);
    }
    assert!(server.traffic().opened > 2, "{:?}", server.traffic());
}

/// Unreadable samples, with a correct server: frames that need them fail, and no others.
#[test]
fn a_failing_source_over_http_fails_only_the_frames_that_need_it() {
    let server = RangeServer::start();
    let clip = fixture("hevc_closed_gop.mp4");
    let expected = sequential(&clip).expect("a clip").by_number();
    let address = server.put("clip.mp4", std::fs::read(&clip).expect("the fixture"), "\"1\"");
    let remote = HttpClient::new(options()).and_then(|client| client.open(&address)).expect("a clip");
    let source = Arc::new(FaultSource::new(Arc::new(remote), []));
    let own: Arc<dyn Source> = source.clone();
    let video = Engine::new(Some(2)).open(own, 0).expect("a clip");
    let md5 = |frame| video.frame(frame).map(|frame| raw::hex(&raw::md5(&frame.picture)));
    let (last, first) = (expected.len() as u32 - 1, 0);
    let sample = *video.sample_of(last).expect("a sample");
    source.set([Fault::Unreadable(ByteRange { start: sample.offset, len: 1 })]);
    let error = md5(last).expect_err("its sample cannot be read");
    assert!(matches!(error.kind(), ErrorKind::Read(_) | ErrorKind::NeedsUnreadable(_)), "{error}");
    assert_eq!(error.frame(), Some(u64::from(last)));
    assert_eq!(md5(first).ok().as_ref(), expected.get(&first));
    source.set([Fault::ChangedAfter(0)]);
    assert!(matches!(md5(first).expect_err("it has changed").kind(), ErrorKind::Changed));
    source.set([]);
    assert_eq!(md5(last).ok().as_ref(), expected.get(&last), "a past fault has no effect");
}
