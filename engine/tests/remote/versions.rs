//! Files that are replaced while they are read: another version is `Changed`, never a wrong frame.

use std::path::Path;

use bucket_streamer::{Engine, ErrorKind};

use testing::clips::{fixture, sequential};
use testing::range_server::{RangeReply, RangeServer};

use crate::{bytes, md5, open};

#[test]
fn a_file_that_is_replaced_is_an_error_and_a_fresh_one_when_opened_again() {
    let server = RangeServer::start();
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
    server.set_behaviour(|_| RangeReply::OtherLength);
    assert!(matches!(md5(&video, 240).expect_err("it has grown").kind(), ErrorKind::Changed));
}

/// The clip with other bytes in the middle of each of its samples: of the same length, with other pictures.
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

/// A server that ignores `If-Match` and sends bytes of another file of the same length, under any headers.
#[test]
fn every_answer_must_have_the_first_version() {
    let server = RangeServer::start();
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
            for answer in [RangeReply::Tagged(other), RangeReply::WholeTagged(other)] {
                let address = server.put("clip.mp4", bytes(&clip), "");
                server.set_behaviour(move |_| RangeReply::Tagged(opened));
                let video = open(&address).expect("a clip");
                server.put("clip.mp4", altered(&clip), "");
                let own = answer.clone();
                server.set_behaviour(move |_| own.clone());
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

/// Headers that differ without a change of version.
#[test]
fn the_same_version_may_be_spelled_differently() {
    let server = RangeServer::start();
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
        server.set_behaviour(move |_| RangeReply::Tagged(opened));
        let video = open(&address).expect("a clip");
        server.set_behaviour(move |_| RangeReply::Tagged(then));
        assert_eq!(md5(&video, 240).ok().as_ref(), expected.get(&240), "{opened:?} and then {then:?}");
        video.source().revalidate();
        video.source().check().expect("the same");
    }
}
