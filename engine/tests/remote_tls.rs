//! Frames over HTTPS and HTTP/2: connections are reused, certificates are verified, and credentials are sent only to
//! the server that they are for.
#![cfg(feature = "remote")]
#![allow(clippy::print_stderr, reason = "tests report their counts")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bucket_streamer::source::Refusal;
use bucket_streamer::source::remote::{HttpClient, HttpOptions};
use bucket_streamer::still::raw;
use bucket_streamer::{Engine, Error, ErrorKind, Video};

use testing::clips::{fixture, sequential};
use testing::range_server::{RangeReply, RangeServer};
use testing::tls::{TestAuthority, TlsServer};

const CLIPS: [&str; 4] = ["hevc_closed_gop.mp4", "hevc_demo.mp4", "h264_bframes.mp4", "av1.mp4"];

fn options() -> HttpOptions {
    HttpOptions { block: 4096, gap: 1024, ..HttpOptions::default() }
}

fn trusting(authority: &TestAuthority) -> HttpOptions {
    HttpOptions { roots: vec![authority.pem()], ..options() }
}

fn open(client: &HttpClient, address: &str) -> Result<Video, Error> {
    Engine::new(Some(2)).open(Arc::new(client.open(address)?), 0)
}

fn bytes(clip: &str) -> Vec<u8> {
    std::fs::read(fixture(clip)).expect("the fixture")
}

/// Some frames of a video, compared with the sequential decode of its clip.
fn check(video: &Video, clip: &str, frames: impl IntoIterator<Item = u32>) {
    let expected = sequential(&fixture(clip)).expect("a clip").by_number();
    for frame in frames {
        let md5 = video.frame(frame).map(|frame| raw::hex(&raw::md5(&frame.picture)));
        assert_eq!(md5.ok().as_ref(), expected.get(&frame), "{clip} frame {frame}");
    }
}

fn refused<T>(result: Result<T, Error>) -> String {
    match result.err().expect("refused").kind() {
        ErrorKind::Remote(Refusal::Connection(why)) => why.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn frames_over_tls_are_those_on_disk_and_a_warm_client_makes_no_connection() {
    let authority = TestAuthority::generate();
    for (protocols, version, most) in [
        (&["http/1.1"][..], hyper::Version::HTTP_11, options().connections as u64),
        (&["h2", "http/1.1"], hyper::Version::HTTP_2, 1),
    ] {
        let server = TlsServer::start(&authority, protocols);
        let client = HttpClient::new(trusting(&authority)).expect("a client");
        let videos = CLIPS.map(|clip| (clip, open(&client, &server.put(clip, bytes(clip))).expect("a clip")));
        for (clip, video) in &videos {
            check(video, clip, [0]);
        }
        let warm = server.handshakes();
        assert!(warm <= most, "{protocols:?}: {warm} handshakes");
        let before = server.take_requests().len();
        for (clip, video) in &videos {
            let last = video.frame_count() as u32 - 1;
            check(video, clip, [last, last / 2, last / 3]);
        }
        let seen = server.take_requests();
        eprintln!("{protocols:?}: {warm} handshakes, {before} requests to open, {} since", seen.len());
        assert!(!seen.is_empty() && seen.iter().all(|seen| seen.version == version));
        // Two concurrent readers need a second connection of HTTP/1.1.
        assert!(server.handshakes() <= most && server.handshakes() == server.connections());
    }
}

/// Sequential requests need no further connections: there is no handshake per frame.
#[test]
fn frames_one_by_one_take_no_handshake_once_the_client_is_warm() {
    let authority = TestAuthority::generate();
    for protocols in [&["http/1.1"][..], &["h2"]] {
        let server = TlsServer::start(&authority, protocols);
        let client = HttpClient::new(trusting(&authority)).expect("a client");
        let address = server.put("clip.mp4", bytes("hevc_closed_gop.mp4"));
        check(&open(&client, &address).expect("a clip"), "hevc_closed_gop.mp4", [0]);
        let warm = server.handshakes();
        for frame in (0..100).step_by(10) {
            check(&open(&client, &address).expect("a clip"), "hevc_closed_gop.mp4", [frame]);
        }
        let more = server.handshakes() - warm;
        // A cancelled body ends its connection of HTTP/1.1.
        assert!(
            if protocols == ["h2"] { more == 0 } else { more <= 3 },
            "{protocols:?}: {more} handshakes of 10 frames"
        );
    }
}

#[test]
fn many_requests_at_one_time_share_a_connection_of_http_2() {
    let authority = TestAuthority::generate();
    let server = TlsServer::start(&authority, &["h2", "http/1.1"]);
    let client = HttpClient::new(trusting(&authority)).expect("a client");
    let addresses = CLIPS.map(|clip| (clip, server.put(clip, bytes(clip))));
    let videos: Vec<_> = addresses.iter().map(|(clip, at)| (*clip, open(&client, at).expect("a clip"))).collect();
    // Slow enough for the requests to overlap.
    server.slow_down(Duration::from_millis(30));
    std::thread::scope(|scope| {
        for caller in 0..16 {
            let videos = &videos;
            scope.spawn(move || {
                let (clip, video) = &videos[caller % videos.len()];
                let last = video.frame_count() as u32 - 1;
                check(video, clip, [last * caller as u32 / 16, last - caller as u32]);
            });
        }
    });
    eprintln!("{} requests, {} at one time", server.take_requests().len(), server.most_in_flight());
    assert_eq!(server.handshakes(), 1);
    assert!(server.most_in_flight() >= 3, "{}", server.most_in_flight());
}

#[test]
fn an_untrusted_certificate_is_an_immediate_error() {
    let authority = TestAuthority::generate();
    let server = TlsServer::start(&authority, &["h2", "http/1.1"]);
    let address = server.put("clip.mp4", bytes("hevc_demo.mp4"));
    let other = trusting(&TestAuthority::generate());
    for options in [options(), other] {
        let before = server.connections();
        let begun = Instant::now();
        let why = refused(HttpClient::new(options).expect("a client").open(&address));
        assert!(why.contains("certificate is not accepted"), "{why}");
        assert_eq!(server.connections() - before, 1, "a retry would not help");
        assert!(begun.elapsed() < Duration::from_secs(3));
    }
    let elsewhere = TlsServer::named(&authority, &["example.com"], &["h2"]);
    let client = HttpClient::new(trusting(&authority)).expect("a client");
    let why = refused(client.open(&elsewhere.at("clip.mp4")));
    assert!(why.contains("certificate is not accepted"), "{why}");
    assert!(server.handshakes() == 0 && elsewhere.handshakes() == 0);
}

#[test]
fn an_authority_must_be_a_certificate() {
    for roots in [vec![Vec::new()], vec![b"no certificate".to_vec()]] {
        let error = HttpClient::new(HttpOptions { roots, ..options() }).expect_err("none");
        assert!(matches!(error.kind(), ErrorKind::Remote(Refusal::Certificates { .. })), "{error:?}");
    }
}

/// Names of the request's headers that are credentials.
fn secrets(names: impl Iterator<Item = String>) -> Vec<String> {
    let is_secret = |name: &String| matches!(&name[..], "authorization" | "x-token" | "cookie" | "referer");
    let mut secrets: Vec<_> = names.filter(is_secret).collect();
    secrets.sort();
    secrets
}

#[test]
fn redirects_are_followed_and_credentials_stay_with_their_host() {
    let authority = TestAuthority::generate();
    let (plain, tls) = (RangeServer::start(), TlsServer::start(&authority, &["h2"]));
    let headers = vec![("X-Token".to_owned(), "geheim".to_owned()), ("Cookie".to_owned(), "geheim".to_owned())];
    let client = HttpClient::new(HttpOptions { headers, ..trusting(&authority) }).expect("a client");
    let clip = "hevc_demo.mp4";
    let there = tls.put(clip, bytes(clip));
    let location: &'static str = format!("Location: {there}?signature=a%2Fb").leak();
    plain.set_behaviour(move |asked| match &asked.path[..] {
        "/again.mp4?q=1" => RangeReply::Status(307, "Location: /first.mp4?q=2"),
        _ => RangeReply::Status(302, location),
    });
    let address = plain.at("again.mp4?q=1").replace("http://", "http://me:geheim@");
    check(&open(&client, &address).expect("a clip"), clip, [7, 200]);
    let asked = plain.take_requests();
    assert_eq!((&asked[0].path[..], &asked[1].path[..]), ("/again.mp4?q=1", "/first.mp4?q=2"));
    for asked in &asked {
        assert_eq!(secrets(asked.headers.keys().cloned()), ["authorization", "cookie", "x-token"], "{asked:?}");
        assert!(asked.range.is_some());
    }
    let seen = tls.take_requests();
    assert!(seen.len() >= 2 && seen.len() * 2 == asked.len(), "{} and {}", seen.len(), asked.len());
    for (place, seen) in seen.iter().enumerate() {
        assert_eq!(seen.path, "/hevc_demo.mp4?signature=a%2Fb");
        assert!(secrets(seen.headers.keys().map(|name| name.as_str().to_owned())).is_empty(), "{seen:?}");
        assert!(seen.headers.contains_key("range") && seen.headers.contains_key("if-match") == (place > 0));
    }
    // The same machine under another name is another host, and a redirect back does not restore trust.
    let home = TlsServer::start(&authority, &["h2"]);
    let back = tls.redirect("back", &home.put(clip, bytes(clip)));
    let address = home.redirect("out", &back.replace("127.0.0.1", "localhost"));
    check(&open(&client, &address).expect("a clip"), clip, [7]);
    let secret = |seen: &testing::tls::TlsRequest| secrets(seen.headers.keys().map(|name| name.as_str().to_owned()));
    let (seen, away) = (home.take_requests(), tls.take_requests());
    assert_eq!(secret(&seen[0]), ["cookie", "x-token"]);
    assert!(secret(&seen[1]).is_empty() && !away.is_empty() && away.iter().all(|seen| secret(seen).is_empty()));
}

#[test]
fn redirects_have_a_limit_and_lead_to_http_only() {
    let server = RangeServer::start();
    let address = server.put("clip.mp4", bytes("hevc_demo.mp4"), "\"1\"");
    let message = |redirects: usize| {
        let client = HttpClient::new(HttpOptions { redirects, ..options() }).expect("a client");
        open(&client, &server.at("3")).map(|_| ())
    };
    server.set_behaviour(|asked| match &asked.path[..] {
        "/3" => RangeReply::Status(301, "Location: /2"),
        "/2" => RangeReply::Status(303, "Location: 1"),
        "/1" => RangeReply::Status(308, "Location: clip.mp4"),
        _ => RangeReply::Good,
    });
    assert!(message(3).is_ok());
    let astray = |result: Result<(), Error>| matches!(result.expect_err("astray").kind(), ErrorKind::Remote(Refusal::Answer(why)) if why.contains("redirects"));
    assert!(astray(message(2)) && astray(message(0)));
    for location in ["Location: file:///etc/passwd", "Location: http://", ""] {
        server.set_behaviour(move |_| RangeReply::Status(302, location));
        server.take_requests();
        assert!(astray(message(3)), "{location}");
        assert_eq!(server.take_requests().len(), 1, "{location}");
    }
    assert!(address.ends_with("clip.mp4"));
}

/// A signature covers the bytes of the address as written.
#[test]
fn a_signed_address_reaches_the_server_as_it_was_typed() {
    let server = RangeServer::start();
    let client = HttpClient::new(options()).expect("a client");
    let clip = "hevc_demo.mp4";
    server.put(clip, bytes(clip), "\"1\"");
    for query in [
        "X-Amz-Credential=AKIA%2F20260101%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Signature=ab%2b%2B",
        "sig=a+b/c==&se=2026-01-01T00%3A00%3A00Z&sp=r",
        "a=%e4%f6&b=~!$()*,;:@-._&&c&=d&e=%7e%41",
        "",
    ] {
        let typed = format!("/{clip}?{query}");
        let address = server.at(&typed[1..]);
        check(&open(&client, &address).expect("a clip"), clip, [200]);
        let asked = server.take_requests();
        assert!(asked.len() > 1 && asked.iter().all(|asked| asked.path == typed), "{typed}: {}", asked[0].path);
    }
}
