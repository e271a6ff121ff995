//! The command's parsing of addresses, and the servers that get headers and credentials.
#![cfg(feature = "remote")]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use bucket_streamer::source::Source;
use bucket_streamer::source::remote::{HttpClient, HttpOptions};

use common::{ProgramRun, bucket_streamer, fixture, run_command};
use testing::range_server::{RangeReply, RangeServer};

fn clip() -> Vec<u8> {
    std::fs::read(fixture("hevc_demo.mp4")).expect("the fixture")
}

/// Redirects all requests for one server to another address, with a 302.
fn redirect(server: &RangeServer, to: &str) {
    let header: &'static str = Box::leak(format!("Location: {to}").into_boxed_str());
    server.set_behaviour(move |asked| match &asked.path[..] {
        "/first" => RangeReply::Status(302, header),
        _ => RangeReply::Good,
    });
}

#[test]
fn headers_are_for_the_server_that_was_named() {
    let (named, other) = (RangeServer::start(), RangeServer::start());
    let secret = |name: &str| (name.to_owned(), "geheim".to_owned());
    let headers = vec![secret("X-Token"), secret("Authorization"), secret("Cookie")];
    let client = HttpClient::new(HttpOptions { headers, ..HttpOptions::default() }).expect("a client");

    redirect(&named, &named.put("clip.mp4", clip(), "\"1\""));
    client.open(&named.at("first")).expect("the same server");
    let requests = named.take_requests();
    assert_eq!(requests[1].path, "/clip.mp4");
    assert!(requests.iter().all(|asked| asked.headers["x-token"] == "geheim"), "{requests:#?}");

    redirect(&named, &other.put("clip.mp4", clip(), "\"1\""));
    for address in [named.at("first"), named.at("first").replace("http://", "http://me:geheim@")] {
        let source = client.open(&address).expect("another server");
        source.read(bucket_streamer::source::ByteRange { start: 0, len: source.len() }).expect("all of it");
        let requests = other.take_requests();
        assert!(!requests.is_empty() && named.take_requests()[0].headers["x-token"] == "geheim");
        assert!(!format!("{requests:?}").contains("geheim"), "{requests:#?}");
    }

    redirect(&other, &named.at("clip.mp4"));
    redirect(&named, &other.at("first"));
    client.open(&named.at("first")).expect("there and back");
    let requests = named.take_requests();
    assert!(!requests[1].headers.contains_key("x-token"), "another server may say where: {requests:#?}");
}

#[test]
fn user_and_password_go_along_on_the_same_server() {
    let server = RangeServer::start();
    server.put("clip.mp4", clip(), "\"1\"");
    redirect(&server, "clip.mp4");
    let client = HttpClient::new(HttpOptions::default()).expect("a client");
    client.open(&server.at("first").replace("http://", "http://me:geheim@")).expect("the same server");
    assert!(server.take_requests().iter().all(|asked| asked.headers["authorization"] == "Basic bWU6Z2VoZWlt"));
}

#[test]
fn the_command_line_sends_headers_and_a_token() {
    let server = RangeServer::start();
    let address = server.put("clip.mp4", clip(), "\"1\"");
    let mut command = bucket_streamer(&["info", &address, "--header", "X-Token: geheim", "--header", "x-more:1"]);
    let ran = ProgramRun::run(command.env("BUCKET_STREAMER_BEARER_TOKEN", "gedicht"));
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let headers = &server.take_requests()[0].headers;
    assert_eq!((&headers["x-token"][..], &headers["x-more"][..]), ("geheim", "1"));
    assert_eq!(headers["authorization"], "Bearer gedicht");

    for (typed, code) in [("geheim", 2), ("bad name: geheim", 3)] {
        let ran = run_command(&["info", &address, "--header", typed]);
        assert!(ran.code() == code && !ran.stderr.contains("geheim"), "{}", ran.stderr);
    }
    let ran = run_command(&["info", &address, "--ca-file", "/nowhere.pem"]);
    assert!(ran.code() == 2 && ran.stderr.contains("/nowhere.pem"), "{}", ran.stderr);
}

/// A TLS server with an unknown certificate, and the file of that certificate; it serves ranges of the clip.
fn encrypted(folder: &Path) -> (String, String) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let file = folder.join("own.pem");
    std::fs::write(&file, own.cert.pem()).expect("to write");
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = config.with_no_client_auth().with_single_cert(vec![own.cert.der().clone()], key);
    let config = Arc::new(config.expect("a certificate with its key"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let tls = ServerConnection::new(Arc::clone(&config)).expect("a connection");
            std::thread::spawn(move || give_range(StreamOwned::new(tls, stream)));
        }
    });
    (format!("https://localhost:{port}/clip.mp4"), file.to_str().expect("a name").to_owned())
}

fn give_range(mut stream: StreamOwned<ServerConnection, TcpStream>) -> Option<()> {
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        request.push(byte[0].to_ascii_lowercase());
    }
    let request = String::from_utf8(request).ok()?;
    let (first, last) = request.split_once("range: bytes=")?.1.lines().next()?.split_once('-')?;
    let (bytes, first) = (clip(), first.parse::<usize>().ok()?);
    let part = &bytes[first..=last.parse::<usize>().ok()?.min(bytes.len() - 1)];
    let range = format!("bytes {first}-{}/{}", first + part.len() - 1, bytes.len());
    let head = format!("HTTP/1.1 206 OK\r\nContent-Range: {range}\r\nContent-Length: {}\r\n", part.len());
    write!(stream, "{head}Connection: close\r\n\r\n").ok()?;
    stream.write_all(part).ok()?;
    stream.conn.send_close_notify();
    stream.flush().ok()
}

#[test]
fn certificates_of_ones_own_are_believed_when_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, file) = encrypted(folder.path());
    let unknown = run_command(&["info", &address]);
    assert!(unknown.code() == 3 && unknown.stderr.contains("certificate"), "{}", unknown.stderr);
    let named = run_command(&["info", &address, "--ca-file", &file]);
    assert_eq!(named.code(), 0, "{}", named.stderr);
    let named = ProgramRun::run(bucket_streamer(&["info", &address]).env("SSL_CERT_FILE", &file));
    assert_eq!(named.code(), 0, "{}", named.stderr);
}

#[test]
fn the_command_line_takes_addresses() {
    let server = RangeServer::start();
    let clip = fixture("hevc_demo.mp4");
    let address = server.put("hevc_demo.mp4", std::fs::read(&clip).expect("the fixture"), "\"1\"");
    let info = run_command(&["info", "--json", &address]);
    assert_eq!(info.code(), 0, "{}", info.stderr);
    assert_eq!(info.json()[0]["opened_with"]["requests"], 1);
    let frames = ["--frames", "0,120,249", "--format", "framemd5"];
    let of = |video: &str| run_command(&[&["extract", video][..], &frames].concat()).text().to_owned();
    assert_eq!(of(&address), of(clip.to_str().expect("a name")));
    let missing = run_command(&["info", &server.at("nothing.mp4")]);
    assert_eq!(missing.code(), 3);
    assert!(missing.stderr.contains("404"), "{}", missing.stderr);
}
