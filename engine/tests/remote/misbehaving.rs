//! Servers that fail, cut, delay or lie: the correct frame or a typed error, in time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bucket_streamer::ErrorKind;
use bucket_streamer::source::Refusal;
use bucket_streamer::source::remote::HttpOptions;

use testing::clips::{fixture, sequential};
use testing::range_server::{RangeReply, RangeServer};

use crate::{md5, open, open_with, options, put, sent_twice};

/// The result with a server that misbehaves from the start, and from the second request on.
#[test]
fn a_server_that_misbehaves_is_a_typed_error_in_time() {
    type Expected = fn(&ErrorKind) -> bool;
    let refused: [(RangeReply, Expected); 14] = [
        (RangeReply::Status(404, ""), |kind| matches!(kind, ErrorKind::Remote(Refusal::NotFound(404)))),
        (RangeReply::Status(403, ""), |kind| matches!(kind, ErrorKind::Remote(Refusal::Forbidden))),
        (RangeReply::Status(401, ""), |kind| matches!(kind, ErrorKind::Remote(Refusal::Unauthorized))),
        (RangeReply::Status(418, ""), |kind| matches!(kind, ErrorKind::Remote(Refusal::Status(418)))),
        (RangeReply::Status(503, ""), |kind| matches!(kind, ErrorKind::Remote(Refusal::Busy(503)))),
        (RangeReply::Status(429, "Retry-After: 3600"), |kind| matches!(kind, ErrorKind::Remote(Refusal::Busy(429)))),
        (RangeReply::Status(302, "Location: /again.mp4"), |kind| matches!(kind, ErrorKind::Remote(Refusal::Answer(_)))),
        (RangeReply::Gzip, |kind| matches!(kind, ErrorKind::Remote(Refusal::Compressed(_)))),
        (RangeReply::NoContentRange, |kind| matches!(kind, ErrorKind::Remote(Refusal::Answer(_)))),
        (RangeReply::OtherRange, |kind| matches!(kind, ErrorKind::Remote(Refusal::Answer(_)))),
        (RangeReply::TooLong, |kind| matches!(kind, ErrorKind::Remote(Refusal::Answer(_)))),
        (RangeReply::HangUp, |kind| matches!(kind, ErrorKind::Remote(Refusal::Connection(_)))),
        (RangeReply::Stall(0), |kind| matches!(kind, ErrorKind::Remote(Refusal::Timeout { .. }))),
        (RangeReply::Late(Duration::from_secs(3)), |kind| matches!(kind, ErrorKind::Remote(Refusal::Timeout { .. }))),
    ];
    let server = RangeServer::start();
    let clip = fixture("hevc_demo.mp4");
    let address = put(&server, &clip);
    open(&address).expect("a clip");
    let opening = server.take_requests().len() as i32;
    for (answer, is_expected) in refused {
        for good in [0, opening] {
            let (own, mut left) = (answer.clone(), good);
            server.set_behaviour(move |_| {
                left -= 1;
                if left >= 0 { RangeReply::Good } else { own.clone() }
            });
            let begun = Instant::now();
            let result = open(&address).and_then(|video| md5(&video, 240));
            let error = result.expect_err("the server misbehaves");
            // The error of a frame with unreadable samples contains the reason as text.
            let is_told = is_expected(error.kind()) || matches!(error.kind(), ErrorKind::NeedsUnreadable(_));
            assert!(is_told, "{answer:?} after {good}: {error:?}");
            assert!(begun.elapsed() < Duration::from_secs(30), "{answer:?} after {good}: {:?}", begun.elapsed());
            assert!(error.to_string().starts_with(&address), "{error}");
        }
    }
}

#[test]
fn failed_requests_are_repeated_and_received_bytes_are_not_fetched_again() {
    let server = RangeServer::start();
    let clip = fixture("hevc_demo.mp4");
    let address = put(&server, &clip);
    let expected = sequential(&clip).expect("a clip").by_number();
    let faults = [
        RangeReply::Cut(1000),
        RangeReply::Stall(1000),
        RangeReply::HangUp,
        RangeReply::Status(503, ""),
        RangeReply::Status(429, "Retry-After: 1"),
        RangeReply::Late(Duration::from_secs(1)),
    ];
    for fault in faults {
        let (own, mut turn) = (fault.clone(), 0);
        server.set_behaviour(move |_| {
            turn += 1;
            if turn % 2 == 1 { own.clone() } else { RangeReply::Good }
        });
        server.take_requests();
        let video = open(&address).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        for frame in [240, 3] {
            assert_eq!(md5(&video, frame).ok().as_ref(), expected.get(&frame), "{fault:?}");
        }
        let asked = server.take_requests();
        if matches!(fault, RangeReply::Cut(_) | RangeReply::Stall(_)) {
            assert_eq!(sent_twice(&asked), 0, "{fault:?}");
        }
    }
}

#[test]
fn a_server_without_ranges_is_enough_for_a_small_file_only() {
    let server = RangeServer::start();
    let clip = fixture("hevc_demo.mp4");
    let address = put(&server, &clip);
    let expected = sequential(&clip).expect("a clip").by_number();
    for answer in [RangeReply::Whole, RangeReply::WholeUnbounded] {
        server.set_behaviour(move |_| answer.clone());
        assert_eq!(md5(&open(&address).expect("small enough"), 99).ok().as_ref(), expected.get(&99));
        let error = open_with(&address, HttpOptions { cache: 100_000, ..options() }).expect_err("too much");
        assert!(matches!(error.kind(), ErrorKind::Remote(Refusal::NoRanges { limit: 50_000 })), "{error}");
    }
}

/// Random faults: every answer is the correct frame or a typed error, and none is late.
#[test]
fn frames_are_right_or_errors_under_random_faults() {
    let server = RangeServer::start();
    let clip = fixture("hevc_closed_gop.mp4");
    let address = put(&server, &clip);
    let expected = sequential(&clip).expect("a clip").by_number();
    let mut random = fastrand::Rng::with_seed(3);
    server.set_behaviour(move |_| match random.u8(0..20) {
        0 => RangeReply::Cut(500),
        1 => RangeReply::HangUp,
        2 => RangeReply::Status(503, ""),
        3 => RangeReply::Late(Duration::from_millis(50)),
        _ => RangeReply::Good,
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
    eprintln!("outcomes: {outcomes:?}");
    assert!(outcomes[&true] > 50);
}
