//! `bench http` and `bench ws` against a correct server and against faulty ones: the client has to detect every fault.
#![cfg(all(feature = "bench", feature = "server"))]

mod common;

use serde_json::{Value, json};

use common::{ProgramRun, bucket_streamer, fixture, run_command};
use testing::mock::{MockFault, MockServer, VIDEO};
use testing::tls::TestAuthority;

const CLIP: &str = "hevc_closed_gop.mp4";

fn clip() -> String {
    fixture(CLIP).to_string_lossy().into_owned()
}

fn server(lie: MockFault) -> MockServer {
    MockServer::start(&fixture(CLIP), lie)
}

/// `bench` of a server, compared with the clip.
fn bench(scenario: &str, server: &MockServer, more: &[&str]) -> ProgramRun {
    let (address, clip) = (server.at(""), clip());
    let usual = ["bench", scenario, &address, "--check", &clip];
    run_command(&[&usual, more].concat())
}

fn entry(ran: &ProgramRun) -> Value {
    let mut entries: Vec<Value> = serde_json::from_slice(&ran.stdout).expect("an array and nothing else");
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

/// The result of a fault: the exit code, the numbers of received, failed and wrong frames, and the messages.
fn caught(scenario: &str, lie: MockFault, more: &[&str]) -> (i32, [u64; 3], String, Value) {
    let server = server(lie);
    let ran = bench(scenario, &server, &[more, &["--count", "6", "--json", "-"]].concat());
    let entry = entry(&ran);
    let numbers = ["frames", "errors", "wrong"].map(|field| entry[field].as_u64().expect("a number"));
    (ran.code(), numbers, ran.stderr.clone(), entry)
}

mod of_a_correct_server {
    use super::*;

    #[test]
    fn every_frame_is_right_with_any_callers_and_options() {
        let server = server(MockFault::None);
        let offsets = ["--by", "offset", "--copy", &clip()];
        for (scenario, more) in [
            ("http", &[][..]),
            ("http", &["--callers", "4", "--manner", "sequential"]),
            ("http", &["--manner", "scrub", "--rate", "1000"]),
            ("ws", &[]),
            ("ws", &["--callers", "3", "--pipeline", "8", "--rounds", "2"]),
            ("ws", &["--pipeline", "4", "--rate", "2000", "--manner", "scrub"]),
            ("ws", &["--order", "latest"]),
            ("ws", &offsets),
        ] {
            let ran = bench(scenario, &server, &[more, &["--count", "30", "--json", "-"]].concat());
            assert_eq!((ran.code(), &ran.stderr[..]), (0, ""), "{scenario} {more:?}");
            let entry = entry(&ran);
            for (field, value) in [("frames", 30), ("errors", 0), ("wrong", 0), ("checked", 30)] {
                assert_eq!(entry[field], value, "{scenario} {more:?}: {field}");
            }
            assert_eq!((&entry["engine"], &entry["output"]), (&json!(scenario), &json!("jpeg")));
            let answers = if scenario == "http" { json!({"200": 30}) } else { json!({"Frame": 30}) };
            assert_eq!(entry["served"]["answers"], answers);
            assert!(entry["served"]["received_bytes"].as_u64() > Some(30 * 1000), "{entry}");
        }
    }

    #[test]
    fn the_summary_is_the_same_as_that_of_an_engine() {
        let server = server(MockFault::None);
        let ran = bench("http", &server, &["--count", "5"]);
        assert_eq!((ran.code(), &ran.stderr[..]), (0, ""));
        let names = "Frames requested, Frames received, Frames errored, Total time, Average FPS, Avg latency, Min latency, \
                     Max latency, P95 latency";
        let (above, block) = ran.text().split_once("\n=== Benchmark Results ===\n").expect("the block");
        let pairs: Vec<(&str, &str)> = block.lines().map(|line| line.split_once(':').expect("a pair")).collect();
        assert_eq!(pairs.iter().map(|pair| pair.0).collect::<Vec<_>>().join(", "), names);
        assert_eq!([0, 1, 2].map(|line| pairs[line].1.trim()), ["5", "5", "0"]);
        assert!(above.contains("sequential decode: http 5 of 5.") && above.contains("Answers: 200 5; "), "{above}");
        assert!(above.contains("decode 8.50, encode 2.00, fetch 1.00, queue 0.25"), "{above}");
    }

    #[test]
    fn the_requests_have_the_parameters_of_the_command_line() {
        let server = server(MockFault::None);
        let address = server.at(&format!("/frame/{VIDEO}"));
        let size = ["--width", "160", "--quality", "50"];
        let indices = ["--indices", "7,3", "--json", "-"];
        let ran = run_command(&[&["bench", "http", &address][..], &indices, &size].concat());
        assert_eq!((ran.code(), &ran.stderr[..]), (0, ""));
        let each = &entry(&ran)["each"];
        assert_eq!((&each[0]["index"], &each[1]["index"], &each[1]["pts"]), (&json!(7), &json!(3), &json!(1536)));
        let seen = server.take_requests().join(" ");
        for part in [r#""frame": "7""#, r#""frame": "3""#, r#""width": "160""#, r#""quality": "50""#] {
            assert!(seen.contains(part), "{part}: {seen}");
        }
        let address = format!("ws://{}/ws", server.address);
        let more = ["--video-path", VIDEO, "--order", "latest"];
        let ran = run_command(&[&["bench", "ws", &address][..], &indices, &size, &more].concat());
        assert_eq!((ran.code(), &ran.stderr[..]), (0, ""));
        let seen = server.take_requests();
        let request: Value = serde_json::from_str(&seen[2]).expect("JSON");
        let expected = json!({"type": "RequestFrames", "frames": [{"frame": 7, "index": 0}], "order": "latest",
            "width": 160, "quality": 50});
        assert_eq!((request, seen.len()), (expected, 4), "a connection to see that there is one, then the caller's");
    }

    #[test]
    fn a_sample_that_an_edit_list_shows_twice_is_requested_by_number() {
        let clip = fixture("hevc_edit_segments.mp4");
        let (server, clip) = (MockServer::start(&clip, MockFault::None), clip.to_string_lossy().into_owned());
        let more = ["--by", "offset", "--check", &clip, "--count", "100", "--json", "-"];
        let ran = run_command(&[&["bench", "ws", &server.at("")][..], &more].concat());
        assert_eq!((ran.code(), &ran.stderr[..]), (0, ""));
        let seen = server.take_requests().join(" ");
        assert!(seen.contains(r#""frame":"#) && seen.contains(r#""irap_offset":"#), "some by number, some by offset");
    }

    #[test]
    fn a_time_is_filled_with_requests_over_and_over() {
        let server = server(MockFault::Slow(1));
        let ran = bench("ws", &server, &["--duration", "0.5", "--indices", "1,2", "--pipeline", "2", "--json", "-"]);
        assert_eq!((ran.code(), &ran.stderr[..]), (0, ""));
        assert!(entry(&ran)["frames"].as_u64() > Some(2));
    }

    #[test]
    fn slow_responses_have_a_high_latency() {
        for scenario in ["http", "ws"] {
            let (code, numbers, stderr, entry) = caught(scenario, MockFault::Slow(20), &[]);
            assert_eq!((code, numbers, &stderr[..]), (0, [6, 0, 0], ""));
            assert!(entry["latency_ms"]["min"].as_f64() >= Some(20.0), "{entry}");
        }
    }
}

mod of_a_server_behind_tls {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// Terminates TLS in front of a server, until the runtime is dropped.
    fn tls_in_front_of(server: SocketAddr, authority: &TestAuthority) -> (SocketAddr, tokio::runtime::Runtime) {
        let acceptor = TlsAcceptor::from(Arc::new(authority.config(&["127.0.0.1"], &["http/1.1"])));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let (Ok(mut outside), Ok(mut inside)) =
                        (acceptor.accept(stream).await, TcpStream::connect(server).await)
                    else {
                        return;
                    };
                    let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                });
            }
        });
        (address, runtime)
    }

    #[test]
    fn frames_are_received_only_if_the_certificate_is_trusted() {
        let (server, authority) = (server(MockFault::None), TestAuthority::generate());
        let (address, _runtime) = tls_in_front_of(server.address, &authority);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, authority.pem()).expect("to write");
        let trusting = ["--ca-file", file.to_str().expect("text")];
        for (scenario, address) in [("http", format!("https://{address}")), ("ws", format!("wss://{address}/ws"))] {
            let ran = run_command(&[&["bench", scenario, &address, "--count", "3"], &trusting[..]].concat());
            assert_eq!((ran.code(), &ran.stderr[..]), (0, ""), "{scenario}");
            let ran = run_command(&["bench", scenario, &address, "--count", "3"]);
            assert_eq!((ran.code(), ran.stderr.lines().count()), (3, 1), "{}", ran.stderr);
            assert!(ran.stderr.contains("certificate"), "{}", ran.stderr);
        }
    }
}

mod of_a_faulty_server {
    use super::*;

    #[test]
    fn another_frame_is_wrong_even_if_it_says_so() {
        for scenario in ["http", "ws"] {
            for lie in [MockFault::NextFrame, MockFault::NextPicture] {
                let (code, numbers, stderr, _) = caught(scenario, lie, &[]);
                assert_eq!((code, numbers), (1, [6, 0, 2]), "{scenario} {lie:?}");
                assert!(stderr.contains("another picture than the one asked for"), "{stderr}");
            }
            let address = server(MockFault::NextFrame);
            let ran = run_command(&["bench", scenario, &address.at(""), "--count", "6", "--json", "-"]);
            let entry = entry(&ran);
            assert_eq!((ran.code(), &entry["wrong"], &entry["checked"]), (1, &json!(2), &Value::Null), "{scenario}");
        }
    }

    #[test]
    fn an_incomplete_still_is_an_error() {
        for (scenario, why) in [("http", "not a complete JPEG"), ("ws", "another size than its Frame says")] {
            let (code, numbers, stderr, _) = caught(scenario, MockFault::Short, &[]);
            assert_eq!((code, numbers), (1, [4, 2, 0]), "{scenario}");
            assert!(stderr.contains(why), "{stderr}");
        }
    }

    #[test]
    fn an_answer_that_does_not_come_is_missing() {
        for (scenario, more) in [("http", &[][..]), ("ws", &[]), ("ws", &["--pipeline", "3"])] {
            let server = server(MockFault::Silent);
            let more = [more, &["--timeout", "0.5", "--count", "6", "--json", "-"]].concat();
            let ran = run_command(&[&["bench", scenario, &server.at("")][..], &more].concat());
            let entry = entry(&ran);
            assert_eq!((ran.code(), &entry["frames"], &entry["errors"]), (1, &json!(4), &json!(2)), "{scenario}");
            assert!(ran.stderr.contains("no answer within 0.5 s"), "{}", ran.stderr);
            assert_eq!(entry["served"]["answers"]["missing"], 2);
        }
    }

    #[test]
    fn one_that_comes_twice_is_an_error_and_so_is_one_out_of_order() {
        for pipeline in ["1", "4"] {
            let (code, numbers, stderr, _) = caught("ws", MockFault::Twice, &["--pipeline", pipeline]);
            assert_eq!((code, numbers), (1, [4, 2, 0]), "{stderr}");
            assert!(stderr.contains("answered more than once"), "{stderr}");
        }
        // The last delayed one is the sixth, after which no frame is requested.
        let more = ["--pipeline", "2", "--timeout", "1"];
        let (code, numbers, stderr, _) = caught("ws", MockFault::Swapped, &more);
        assert_eq!((code, numbers), (1, [4, 2, 0]), "{stderr}");
        assert!(stderr.contains("out of order") && stderr.contains("no answer within 1 s"), "{stderr}");
    }

    #[test]
    fn the_rest_is_requested_again_after_a_disconnect() {
        let (code, numbers, stderr, _) = caught("http", MockFault::Gone, &[]);
        assert_eq!((code, numbers), (1, [4, 2, 0]), "{stderr}");
        let (code, numbers, stderr, entry) = caught("ws", MockFault::Gone, &[]);
        assert_eq!((code, numbers), (1, [4, 2, 0]), "{stderr}");
        assert!(stderr.contains("2 of 6 frames"), "{stderr}");
        assert_eq!((&entry["served"]["connections"], &entry["served"]["answers"]["lost"]), (&json!(2), &json!(2)));
    }

    #[test]
    fn refusals_are_counted_by_kind() {
        let outcome = |scenario, lie| {
            let (code, numbers, stderr, entry) = caught(scenario, lie, &[]);
            assert_eq!((code, numbers), (1, [4, 2, 0]), "{stderr}");
            (entry["served"]["answers"].clone(), stderr)
        };
        let (answers, stderr) = outcome("http", MockFault::Full);
        assert!(
            answers == json!({"200": 4, "503": 2}) && stderr.contains("asked again after 2s"),
            "{answers} {stderr}"
        );
        assert!(outcome("http", MockFault::FullForever).1.contains("without Retry-After"));
        assert_eq!(outcome("http", MockFault::Failing).0, json!({"200": 4, "422": 2}));
        assert_eq!(outcome("ws", MockFault::Failing).0, json!({"Frame": 4, "decode_failed": 2}));
        assert_eq!(outcome("ws", MockFault::Full).0, json!({"Frame": 4, "overloaded": 2}));
    }

    #[test]
    fn a_frame_past_the_end_is_an_error() {
        for (scenario, why) in [("http", "404: There is no such frame"), ("ws", "not_found")] {
            let server = server(MockFault::None);
            let ran = bench(scenario, &server, &["--indices", "3,9999,4", "--json", "-"]);
            let entry = entry(&ran);
            assert_eq!((ran.code(), &entry["frames"], &entry["errors"]), (1, &json!(2), &json!(1)), "{scenario}");
            assert_eq!(ran.stderr, format!("bucket-streamer: {scenario}: frame 9999: {why}\n"));
        }
    }
}

mod exit_code {
    use super::*;

    #[test]
    fn is_3_in_one_line_without_a_server_or_a_video() {
        let server = server(MockFault::Closed);
        // The server of this address has ended.
        let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        for scenario in ["http", "ws"] {
            for address in [format!("http://{gone}"), server.at(""), server.at("/frame/no/such.mp4")] {
                let ran = run_command(&["bench", scenario, &address]);
                assert_eq!((ran.code(), ran.text()), (3, ""), "{address}");
                assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
            }
            let mut command = bucket_streamer(&["bench", scenario, &server.at(""), "--count", "2"]);
            let ran = ProgramRun::run(command.env("BUCKET_STREAMER_BEARER_TOKEN", "token"));
            assert_eq!((ran.code(), &ran.stderr[..]), (0, ""));
        }
    }

    #[test]
    fn is_2_for_wrong_usage() {
        let usage: [&[&str]; 12] = [
            &["http"],
            &["http", "cam.mp4"],
            &["http", "http://127.0.0.1:1/elsewhere"],
            &["http", "http://127.0.0.1:1", "--pipeline", "2"],
            &["http", "http://127.0.0.1:1", "--engine", "cpu"],
            &["http", "http://127.0.0.1:1", "--by", "offset"],
            &["ws", "http://127.0.0.1:1", "--by", "offset"],
            &["ws", "http://127.0.0.1:1", "--indices", "1", "--manner", "scrub"],
            &["ws", "http://127.0.0.1:1", "--warm", "2"],
            &["ws", "http://127.0.0.1:1", "--duration", "0"],
            &["random", "cam.mp4", "--manner", "scrub"],
            &["random", "cam.mp4", "--order", "latest"],
        ];
        for wrong in usage {
            let ran = run_command(&[&["bench"], wrong].concat());
            assert_eq!((ran.code(), ran.text()), (2, ""), "{wrong:?}");
            assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        }
    }
}
