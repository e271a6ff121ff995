//! Frames out of object stores: the same as from disk, with signed requests, and typed errors where a store refuses.
#![cfg(feature = "stores")]
#![allow(clippy::print_stderr, reason = "tests report their counts")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bucket_streamer::source::remote::{HttpClient, HttpOptions, HttpSource, Settings, StoreClient};
use bucket_streamer::source::{ByteRange, ReadCounts, Refusal, Source};
use bucket_streamer::still::raw;
use bucket_streamer::{Engine, Error, ErrorKind, Video};

use testing::clips::{clips, fixture, name, sequential};
use testing::range_server::{RangeReply, RangeRequest, RangeServer};
use testing::s3::{KEY_ID, S3Server, SECRET};

/// Small files in small blocks, so that there are as many requests as for a large file.
fn options() -> HttpOptions {
    HttpOptions {
        block: 4096,
        gap: 1024,
        deadline: Duration::from_secs(20),
        hedged_share: 0.0,
        ..HttpOptions::default()
    }
}

fn client(settings: Settings) -> StoreClient {
    StoreClient::new(HttpClient::new(options()).expect("a client"), settings)
}

fn settings(endpoint: &str) -> Settings {
    let keys = Settings::none().with("AWS_ACCESS_KEY_ID", KEY_ID).with("AWS_SECRET_ACCESS_KEY", SECRET);
    keys.with("AWS_ENDPOINT_URL", endpoint)
}

fn open(client: &StoreClient, address: &str) -> Result<Video, Error> {
    Engine::new(Some(2)).open(Arc::new(client.open(address)?), 0)
}

fn bytes(clip: &Path) -> Vec<u8> {
    std::fs::read(clip).expect("the clip")
}

fn demo() -> Vec<u8> {
    bytes(&fixture("hevc_demo.mp4"))
}

fn md5(video: &Video, frame: u32) -> Result<String, Error> {
    video.frame(frame).map(|frame| raw::hex(&raw::md5(&frame.picture)))
}

/// The error of opening: message, the store's code and the status.
fn refusal(opened: Result<HttpSource, Error>) -> (String, Option<(String, u16)>) {
    let error = opened.expect_err("it is refused");
    let reason = match error.kind() {
        ErrorKind::Remote(Refusal::Store { status, code, .. }) => Some((code.clone(), *status)),
        _ => None,
    };
    (error.to_string(), reason)
}

/// The requests, and the source's counts, once all requested bytes have arrived, which may be after the frame.
fn settled(store: &S3Server, video: &Video) -> (Vec<testing::s3::ObjectRequest>, ReadCounts) {
    // Read-ahead of the preceding clip may arrive after its last frame.
    let key = video.source().name().rsplit('/').next().unwrap_or_default().to_owned();
    let of_video = || store.take_requests().into_iter().filter(|asked| asked.key.ends_with(&key)).collect::<Vec<_>>();
    let mut asked = of_video();
    for _ in 0..100 {
        let counted = video.source().counters().now();
        if asked.len() as u64 == counted.requests {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        asked.extend(of_video());
    }
    (asked, video.source().counters().now())
}

#[test]
fn every_clip_is_in_a_store_what_it_is_on_disk() {
    let store = S3Server::start();
    let client = client(settings(&store.endpoint()));
    let mut random = fastrand::Rng::with_seed(12);
    let mut frames = 0;
    // Damaged pictures may differ from run to run.
    for clip in clips().into_iter().filter(|clip| !name(clip).starts_with("bad_")) {
        let address = store.put(&name(&clip), bytes(&clip), "1");
        let Some(expected) = sequential(&clip) else {
            assert!(open(&client, &address).is_err(), "{}", name(&clip));
            store.take_requests();
            continue;
        };
        let by_number = expected.by_number();
        let video = open(&client, &address).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(video.source().name(), address);
        for _ in 0..6 {
            let frame = random.u32(0..video.frame_count() as u32);
            assert_eq!(md5(&video, frame).ok().as_ref(), by_number.get(&frame), "{} frame {frame}", name(&clip));
            frames += 1;
        }
        let (asked, counted) = settled(&store, &video);
        // An unnecessary second request may not have been sent.
        let sure = counted.requests - counted.hedged;
        assert!((sure..=counted.requests).contains(&(asked.len() as u64)), "{}: {counted:?}", name(&clip));
        assert!(asked[1..].iter().all(|asked| asked.condition.as_deref() == Some("\"1\"")), "{asked:#?}");
    }
    eprintln!("{frames} frames");
    assert!(frames > 200);
}

#[test]
fn rejected_credentials_are_errors_with_a_reason() {
    let store = S3Server::start();
    let address = store.put("clip.mp4", demo(), "1");
    let with = |name: &str, value: &str| client(settings(&store.endpoint()).with(name, value)).open(&address);
    let why = |opened| refusal(opened).1.unwrap_or_else(|| panic!("no reason from the store"));
    let is = |code: &str, status| (code.to_owned(), status);
    with("AWS_REGION", "eu-central-1").expect("the right secret");
    assert_eq!(store.take_requests()[0].region.as_deref(), Some("eu-central-1"));
    assert_eq!(why(with("AWS_SECRET_ACCESS_KEY", "wrong")), is("SignatureDoesNotMatch", 403));
    assert_eq!(why(with("AWS_ACCESS_KEY_ID", "AKIDWRONG")).1, 403);
    assert_eq!(why(with("AWS_SKIP_SIGNATURE", "true")), is("AccessDenied", 403));
    let unauthorized = client(Settings::none().with("AWS_ENDPOINT_URL", store.endpoint()));
    let (message, reason) = refusal(unauthorized.open(&address));
    assert!(reason == Some(is("AccessDenied", 403)) && message.contains("without credentials"), "{message}");
    let (message, _) = refusal(with("AWS_SECRET_ACCESS_KEY", ""));
    assert!(message.contains("AWS_SECRET_ACCESS_KEY is not set"), "{message}");
    assert!(store.take_requests().is_empty(), "no request was accepted");
    let (message, _) = refusal(with("AWS_SECRET_ACCESS_KEY", ""));
    assert!(message.contains("AWS_SECRET_ACCESS_KEY is not set"), "{message}");
    assert!(store.take_requests().is_empty(), "no request was accepted");
    let client = client(settings(&store.endpoint()));
    assert_eq!(why(client.open("s3://clips/nothing.mp4")), is("NoSuchKey", 404));
    assert_eq!(why(client.open("s3://elsewhere/clip.mp4")), is("NoSuchBucket", 404));
}

#[test]
fn an_object_that_is_replaced_is_an_error() {
    let store = S3Server::start();
    let client = client(settings(&store.endpoint()));
    let address = store.put("clip.mp4", demo(), "1");
    let video = open(&client, &address).expect("a clip");
    store.put("clip.mp4", demo(), "2");
    let error = md5(&video, 240).expect_err("it was replaced");
    assert!(matches!(error.kind(), ErrorKind::Changed), "{error:?}");
    md5(&open(&client, &address).expect("the new one"), 240).expect("a frame");
}

#[test]
fn names_are_taken_as_they_are() {
    let store = S3Server::start();
    let client = client(settings(&store.endpoint()));
    for key in ["a b/c.mp4", "100% ü+&=?#[x]*'().mp4", "/two//slashes/", "a%20b", "~$@:!,;"] {
        let address = store.put(key, demo(), "1");
        let source = client.open(&address).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((source.name(), source.len()), (&address[..], demo().len() as u64));
        assert_eq!(store.take_requests()[0].key, key);
    }
}

/// Answers that the bucket is in another region, until the request is signed for the right one.
fn only_in(region: &'static str, server: &RangeServer, status: u16) {
    let header: &'static str = Box::leak(format!("x-amz-bucket-region: {region}").into_boxed_str());
    server.set_behaviour(move |asked| match asked.headers["authorization"].contains(&format!("/{region}/s3/")) {
        true => RangeReply::Good,
        false => RangeReply::Status(status, header),
    });
}

#[test]
fn the_region_of_a_bucket_is_learned_once() {
    for status in [301, 400] {
        let server = RangeServer::start();
        server.put("clips/clip.mp4", demo(), "\"1\"");
        only_in("ap-south-1", &server, status);
        let client = client(settings(&server.at("")));
        assert_eq!(open(&client, "s3://clips/clip.mp4").expect("a clip").source().opening_reads().requests, 2);
        client.open("s3://clips/clip.mp4").expect("at once");
        let asked = server.take_requests();
        assert_eq!(asked.iter().filter(|asked| asked.headers["authorization"].contains("us-east-1")).count(), 1);
    }
    let server = RangeServer::start();
    server.set_behaviour(|asked| match asked.headers["authorization"].contains("/here/") {
        true => RangeReply::Status(301, "x-amz-bucket-region: there"),
        false => RangeReply::Status(301, "x-amz-bucket-region: here"),
    });
    let (message, reason) = refusal(client(settings(&server.at(""))).open("s3://clips/clip.mp4"));
    assert!(reason.is_some_and(|(_, status)| status == 301) && message.contains("AWS_REGION"), "{message}");
    assert_eq!(server.take_requests().len(), 2, "one retry only");
}

#[test]
fn requests_carry_headers_and_no_message_contains_them() {
    let server = RangeServer::start();
    server.put("clips/clip.mp4", demo(), "\"1\"");
    let headers = vec![("X-Token".to_owned(), "geheim".to_owned())];
    let http = HttpClient::new(HttpOptions { headers, ..options() }).expect("a client");
    let settings = settings(&server.at(""));
    let settings = settings.with("AWS_SESSION_TOKEN", "token-geheim").with("AWS_REQUEST_PAYER", "requester");
    let client = StoreClient::new(http, settings);
    let source = client.open("s3://clips/clip.mp4").expect("an object");
    let headers = server.take_requests().remove(0).headers;
    assert_eq!(headers["x-amz-security-token"], "token-geheim");
    assert_eq!(headers["x-amz-request-payer"], "requester");
    assert!(headers["authorization"].contains(KEY_ID) && !headers.contains_key("x-token"));
    let mut shown = vec![format!("{source:?} {client:?}"), source.name().to_owned()];
    for answer in
        [RangeReply::Status(403, ""), RangeReply::HangUp, RangeReply::Status(307, "Location: /?X-Amz-Signature=geheim")]
    {
        server.set_behaviour(move |_| answer.clone());
        let error = client.open("s3://clips/clip.mp4").expect_err("refused");
        shown.extend([error.to_string(), format!("{error:?}")]);
    }
    assert!(shown.iter().all(|text| !text.contains("geheim") && !text.contains("AKID")), "{shown:#?}");
}

fn all_of(source: &HttpSource) -> Vec<u8> {
    source.read(ByteRange { start: 0, len: source.len() }).expect("all of it").to_vec()
}

fn authorization(requests: &[RangeRequest]) -> Vec<Option<&str>> {
    requests.iter().map(|asked| asked.headers.get("authorization").map(|value| &value[..])).collect()
}

#[test]
fn google_requests_have_a_token() {
    let server = RangeServer::start();
    server.put("clips/a%20b.mp4", demo(), "\"1\"");
    let settings = Settings::none().with("STORAGE_EMULATOR_HOST", server.at("").trim_start_matches("http://"));
    let anonymous = client(settings.clone()).open("gs://clips/a b.mp4").expect("public");
    assert_eq!(all_of(&anonymous), demo());
    assert!(authorization(&server.take_requests()).iter().all(Option::is_none));
    let known = client(settings.with("GOOGLE_BEARER_TOKEN", "geheim")).open("gs://clips/a b.mp4").expect("an object");
    assert_eq!(all_of(&known), demo());
    assert!(authorization(&server.take_requests()).iter().all(|value| *value == Some("Bearer geheim")));
    assert!(!format!("{known:?}").contains("geheim") && known.name() == "gs://clips/a b.mp4");
    let missing = Settings::none().with("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere.json");
    let (message, _) = refusal(client(missing).open("gs://clips/a.mp4"));
    assert!(message.contains("/nowhere.json"), "{message}");
}

#[test]
fn azure_requests_have_a_key_a_signature_or_a_token() {
    let server = RangeServer::start();
    server.put("account/clips/a%20b.mp4", demo(), "\"1\"");
    let endpoint = server.at("account");
    let settings =
        Settings::none().with("AZURE_STORAGE_ACCOUNT_NAME", "account").with("AZURE_STORAGE_ENDPOINT", &endpoint);
    let open = |settings: Settings| client(settings).open("az://clips/a b.mp4");
    assert_eq!(all_of(&open(settings.clone()).expect("public")), demo());
    let asked = server.take_requests();
    assert!(authorization(&asked).iter().all(Option::is_none) && asked[0].headers.contains_key("x-ms-version"));
    let key = open(settings.clone().with("AZURE_STORAGE_ACCOUNT_KEY", "Z2VoZWlt")).expect("a key");
    assert_eq!(all_of(&key), demo());
    let asked = server.take_requests();
    let signatures = authorization(&asked);
    assert!(signatures.iter().all(|value| value.is_some_and(|value| value.starts_with("SharedKey account:"))));
    assert!(asked.len() > 1 && signatures[0] != signatures[1], "ranges and conditions are signed");
    let sas = open(settings.clone().with("AZURE_STORAGE_SAS_TOKEN", "sv=2022-11-02&sig=geheim%3D")).expect("a SAS");
    assert_eq!(server.take_requests()[0].path, "/account/clips/a%20b.mp4?sv=2022-11-02&sig=geheim%3D");
    let token = open(settings.clone().with("AZURE_STORAGE_TOKEN", "geheim")).expect("a token");
    assert_eq!(authorization(&server.take_requests())[0], Some("Bearer geheim"));
    assert!([&key, &sas, &token].iter().all(|source| !format!("{source:?} {}", source.name()).contains("geheim")));
    server.set_behaviour(|_| RangeReply::Status(404, "x-ms-error-code: BlobNotFound"));
    assert_eq!(refusal(open(settings)).1, Some(("BlobNotFound".to_owned(), 404)));
    let (message, _) = refusal(open(Settings::none()));
    assert!(message.contains("AZURE_STORAGE_ACCOUNT_NAME"), "{message}");
}

#[test]
fn invalid_addresses_are_errors_of_one_line() {
    let client = client(Settings::none());
    for address in ["s3://bucket", "gs:///key", "az://c/blob?sv=1&sig=geheim", "s3://geheim@bucket/key"] {
        let error = client.open(address).expect_err("no address");
        assert!(matches!(error.kind(), ErrorKind::Remote(Refusal::Address(_))), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("geheim"), "{error}");
    }
}
