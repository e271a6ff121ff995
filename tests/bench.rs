//! The command `bench`: its outputs, independent of the times.
#![cfg(feature = "bench")]

mod common;

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use common::{ProgramRun, bucket_streamer, fixture, oracle_packets, program, run_command};

fn clip(name: &str) -> String {
    fixture(name).to_string_lossy().into_owned()
}

/// `bench` of a fixture, compared with the vendored `ffmpeg`.
fn bench(scenario: &str, name: &str, more: &[&str]) -> ProgramRun {
    let clip = clip(name);
    let mut command = bucket_streamer(&[&["bench", scenario, &clip], more].concat());
    ProgramRun::run(command.env("BUCKET_STREAMER_FFMPEG", program("ffmpeg")))
}

/// Its messages, without those about the machine's resources and load.
fn messages(ran: &ProgramRun) -> String {
    let is_of_machine = |line: &str| line.contains("rounds lie") || line.contains("; checkpoints ");
    ran.stderr.lines().filter(|line| !is_of_machine(line)).collect()
}

/// The JSON array that it prints.
fn entries(scenario: &str, name: &str, more: &[&str]) -> Vec<Value> {
    let ran = bench(scenario, name, &[more, &["--json", "-"]].concat());
    assert_eq!((ran.code(), messages(&ran).as_str()), (0, ""), "{scenario} {name} {more:?}");
    serde_json::from_slice(&ran.stdout).expect("an array and nothing else")
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn words(list: &str) -> BTreeSet<&str> {
    list.split_whitespace().collect()
}

/// The MD5s that `extract` prints, in the order of the request.
fn extracted(name: &str, selection: &[&str]) -> Vec<String> {
    let ran = run_command(&[&["extract", &clip(name), "--format", "framemd5", "--json"], selection].concat());
    ran.json().iter().map(|line| line["md5"].as_str().expect("a sum").to_owned()).collect()
}

fn each<'a>(entry: &'a Value, field: &str) -> Vec<&'a Value> {
    entry["each"].as_array().expect("each").iter().map(|each| &each[field]).collect()
}

fn indices(entry: &Value) -> Vec<u64> {
    each(entry, "index").into_iter().map(|index| index.as_u64().expect("a number")).collect()
}

fn md5s(entry: &Value) -> Vec<&str> {
    each(entry, "md5").into_iter().map(|md5| md5.as_str().expect("a sum")).collect()
}

const SCENARIOS: [&str; 5] = ["random", "batch", "sequential", "keyframes", "scrub"];
const FIELDS: &str = "version scenario engine video output threads frames seconds fps latency_ms latency_curve_ms \
                      open_ms cpu_ms cpu_per_frame_ms peak_rss_bytes decoded_pictures fetched_bytes copied_bytes \
                      allocations errors wrong checked floor_ms rounds spread setup clip machine command";

mod json {
    use super::*;

    #[test]
    fn has_the_fields_that_are_promised_in_every_scenario() {
        for scenario in SCENARIOS {
            let more = ["--engine", "cpu,from-key,ffmpeg-cli", "--threads", "1", "--count", "4"];
            let entries = entries(scenario, "hevc_closed_gop.mp4", &more);
            let engines: Vec<&str> = entries.iter().map(|entry| entry["engine"].as_str().expect("a name")).collect();
            assert_eq!(engines, ["cpu", "from-key", "ffmpeg-cli"]);
            for entry in &entries {
                let is_ours = entry["engine"] != "ffmpeg-cli";
                let more = if is_ours { "" } else { " engine_version" };
                let is_timed = is_ours || !["sequential", "keyframes"].contains(&scenario);
                assert_eq!(keys(entry), words(&(FIELDS.to_owned() + more)), "{scenario}");
                assert_eq!(keys(&entry["latency_ms"]), words("min p50 p90 p95 p99 max mean"));
                assert_eq!(keys(&entry["machine"]), words("cpu cores memory_bytes os kernel version ffmpeg load"));
                assert_eq!(entry["latency_curve_ms"].as_array().map(Vec::len), Some(if is_timed { 101 } else { 0 }));
                assert_eq!((&entry["wrong"], &entry["checked"]), (&0.into(), &entry["frames"]), "{scenario}");
                assert_eq!((&entry["version"], &entry["scenario"]), (&1.into(), &scenario.into()));
                assert_eq!((&entry["output"], &entry["threads"]), (&"planes".into(), &1.into()));
                let sync = oracle_packets(&fixture("hevc_closed_gop.mp4")).iter().filter(|packet| packet.1).count();
                let frames = if scenario == "keyframes" { sync.min(4) } else { 4 };
                assert_eq!((&entry["frames"], &entry["errors"]), (&frames.into(), &0.into()), "{scenario}: {entry}");
                for known in ["open_ms", "decoded_pictures", "fetched_bytes", "copied_bytes", "allocations", "floor_ms"]
                {
                    assert_eq!(entry[known].is_number(), is_ours, "{scenario}: {known}");
                }
                let decoded = entry["decoded_pictures"].as_u64().unwrap_or(u64::MAX);
                assert!(decoded >= frames as u64, "{scenario}: {decoded}");
                for known in ["seconds", "fps", "cpu_ms"] {
                    assert!(entry[known].is_number(), "{scenario}: {known}");
                }
            }
        }
    }

    #[test]
    fn has_every_round_and_its_setup() {
        let more = ["--rounds", "3", "--count", "2", "--callers", "2", "--rate", "500", "--checkpoint-memory", "1M"];
        let entry = entries("random", "hevc_gray.mp4", &[&more[..], &["--engine", "cpu"]].concat()).remove(0);
        let rounds = entry["rounds"].as_array().expect("rounds");
        assert_eq!(rounds.len(), 3);
        for round in rounds {
            let fields = "seconds fps cpu_ms p50_ms floor_ms floor_cpu_ms allocations";
            assert_eq!(keys(round), words(fields));
            assert!(round.as_object().expect("an object").values().all(Value::is_number), "{round}");
        }
        assert!(rounds.iter().any(|round| round["seconds"] == entry["seconds"]) && entry["spread"].is_number());
        let setup = serde_json::json!({"callers": 2, "rate_per_s": 500.0, "warm": 0, "checkpoint_memory_bytes": 1 << 20,
            "checkpoint_spacing": null});
        assert_eq!(entry["setup"], setup);
        let clip = serde_json::json!({"container": "mp4", "codec": "hevc", "width": 320, "height": 180,
            "pixel_format": "gray", "frames": 48, "keyframes": 2, "longest_gop": 24});
        assert_eq!(entry["clip"], clip);
        let command = entry["command"].as_str().expect("text");
        assert!(command.starts_with("bucket-streamer bench random ") && command.contains("--callers 2"), "{command}");
    }

    #[test]
    fn overlapping_or_due_requests_have_no_ratio_and_exclude_the_single_process() {
        let more = ["--count", "2", "--rate", "100", "--engine", "cpu,ffmpeg-pass"];
        let entries = entries("random", "hevc_gray.mp4", &more);
        assert_eq!(keys(&entries[1]), words("engine unavailable"));
        let ran = bench("random", "hevc_gray.mp4", &more);
        let line = ran.text().lines().find(|line| line.starts_with("cpu ")).expect("its line");
        assert_eq!(line.split_whitespace().nth(11), Some("-"), "{line}");
    }

    #[test]
    fn a_mapped_file_is_not_copied() {
        let entry = entries("random", "hevc_closed_gop.mp4", &["--count", "3"]).remove(0);
        assert_eq!(entry["copied_bytes"], 0, "{entry}");
    }

    #[test]
    fn counts_decoded_pictures_and_fetched_bytes() {
        // From the key frame at frame 0 of one GOP, in decode order, to the target.
        let of = |list| entries("random", "h264_bframes.mp4", &["--indices", list, "--threads", "1"]).remove(0);
        let (first, both) = (of("0"), of("0,0"));
        let count = |entry: &Value, field: &str| entry[field].as_u64().expect("a count");
        assert_eq!(count(&first, "decoded_pictures"), 1);
        assert!(count(&first, "fetched_bytes") > 0);
        assert!(count(&both, "decoded_pictures") <= 2);
    }

    #[test]
    fn an_engine_that_is_not_there_says_why_and_does_no_harm() {
        let entries = entries("random", "hevc_gray.mp4", &["--engine", "nvdec,cpu", "--count", "1"]);
        let why = entries[0]["unavailable"].as_str().expect("why");
        assert!(["no libcuda", "no libnvcuvid"].contains(&why) || why.starts_with("not built"), "{why}");
        assert_eq!(keys(&entries[0]), words("engine unavailable"));
        assert_eq!(entries[1]["frames"], 1);

        let clip = clip("hevc_gray.mp4");
        let mut command = bucket_streamer(&["bench", "random", &clip, "--engine", "ffmpeg-cli", "--json", "-"]);
        let ran = ProgramRun::run(command.env("BUCKET_STREAMER_FFMPEG", "/nowhere/ffmpeg"));
        assert_eq!((ran.code(), messages(&ran).as_str()), (0, ""));
        assert!(ran.stderr.contains(" of memory") && ran.stderr.contains("; checkpoints "), "{}", ran.stderr);
        let entry = ran.json().remove(0).as_array_mut().expect("an array").remove(0);
        assert_eq!(keys(&entry), words("engine unavailable"));
        assert!(entry["unavailable"].as_str().expect("why").contains("/nowhere/ffmpeg"), "{entry}");
    }

    #[test]
    fn goes_to_a_file_beside_the_table() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("result.json");
        let more = ["--count", "2", "--rounds", "3", "--output", "jpeg", "--json", file.to_str().expect("text")];
        let ran = bench("batch", "hevc_10bit.mp4", &more);
        assert_eq!((ran.code(), messages(&ran).as_str()), (0, ""));
        assert!(ran.text().contains("=== Benchmark Results ==="));
        let written: Value = serde_json::from_slice(&fs::read(&file).expect("the file")).expect("JSON");
        assert_eq!((&written[0]["frames"], &written[0]["output"]), (&2.into(), &"jpeg".into()));

        let nowhere = folder.path().join("no/such/folder.json");
        let ran = bench("random", "hevc_gray.mp4", &["--count", "1", "--json", nowhere.to_str().expect("text")]);
        assert_eq!(ran.code(), 1);
        assert!(ran.stderr.contains("folder.json"), "{}", ran.stderr);
    }
}

mod frames {
    use super::*;

    #[test]
    fn come_from_a_list_or_a_file_in_their_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("list.txt");
        fs::write(&file, "100, 3\n50-52\n\n3 0\n").expect("to write");
        let from_file = format!("@{}", file.display());
        for scenario in ["random", "batch", "scrub"] {
            for list in ["100,3,50-52,3,0", &from_file] {
                let entry = entries(scenario, "hevc_closed_gop.mp4", &["--indices", list]).remove(0);
                assert_eq!(indices(&entry), [100, 3, 50, 51, 52, 3, 0], "{scenario} {list}");
                assert_eq!(entry["frames"], 7);
                assert_eq!(keys(&entry["each"][0]), words("index pts latency_ms md5"));
            }
        }
    }

    #[test]
    fn are_the_same_for_the_same_seed_and_differ_without_repetition() {
        let of = |seed: &str, count: &str| {
            let more = ["--seed", seed, "--count", count, "--md5", "--threads", "1"];
            indices(&entries("batch", "hevc_rotated.mp4", &more)[0])
        };
        let all: BTreeSet<u64> = (0..24).collect();
        assert_eq!(of("1", "24").into_iter().collect::<BTreeSet<_>>(), all);
        assert_eq!(of("1", "24")[..5], of("1", "5"));
        assert_ne!(of("1", "24"), of("2", "24"));
        assert_eq!(of("1", "60").len(), 60);
    }

    #[test]
    fn have_the_md5s_that_extract_prints() {
        for name in ["hevc_open_gop.mp4", "h264_bframes.mp4", "hevc.ts", "vp9.webm", "av1.mp4"] {
            let list = "20,3,21,3,0";
            let expected = extracted(name, &["--frames", list]);
            for scenario in ["random", "batch"] {
                for entry in entries(scenario, name, &["--indices", list, "--md5", "--engine", "cpu,from-key"]) {
                    assert_eq!(md5s(&entry), expected, "{scenario} {name}");
                }
            }
            for (scenario, selection) in [("sequential", "--all"), ("keyframes", "--keyframes")] {
                let entry = entries(scenario, name, &["--md5"]).remove(0);
                assert_eq!(md5s(&entry), extracted(name, &[selection]), "{scenario} {name}");
            }
        }
    }

    #[test]
    fn of_the_command_line_are_the_same_ones() {
        // Its last frames come after one or two changes of size.
        let list = "20,3,21,3,0,11,40,23";
        for name in ["hevc_closed_gop.mp4", "hevc_open_gop.mp4", "hevc_size_change.265", "h264_size_change.ts"] {
            let more = ["--indices", list, "--engine", "ffmpeg-pass"];
            let entry = entries("random", name, &more).remove(0);
            assert_eq!(
                (&entry["wrong"], &entry["checked"], &entry["errors"]),
                (&0.into(), &8.into(), &0.into()),
                "{name}"
            );
        }
        let list = "20,3,21,3,0,11";
        for name in ["hevc_closed_gop.mp4", "h264_bframes.mp4", "hevc_edit_list.mp4", "vp9.ivf", "hevc_size_change.265"]
        {
            let expected = extracted(name, &["--frames", list]);
            for scenario in ["random", "batch"] {
                let entry = entries(scenario, name, &["--indices", list, "--md5", "--engine", "ffmpeg-cli"]).remove(0);
                assert_eq!(md5s(&entry), expected, "{scenario} {name}");
            }
            let entry = entries("sequential", name, &["--md5", "--engine", "ffmpeg-cli"]).remove(0);
            assert_eq!(md5s(&entry), extracted(name, &["--all"]), "{name}");
        }
    }

    /// The ffmpeg command line seeks to the preceding sync sample, and shows the first picture after it: after an open
    /// GOP that is another frame.
    #[test]
    fn that_are_wrong_are_reported() {
        let more = ["--indices", "47,48,49,3", "--engine", "cpu,ffmpeg-cli,ffmpeg-pass"];
        let entries = entries("random", "hevc_open_gop.mp4", &more);
        let is_wrong = |each: &&Value| each["wrong"] == true;
        let count = |entry: &Value| entry["each"].as_array().expect("each").iter().filter(is_wrong).count();
        let wrong: Vec<usize> = entries.iter().map(count).collect();
        for (entry, wrong) in entries.iter().zip(&wrong) {
            assert_eq!((&entry["wrong"], &entry["checked"]), (&(*wrong).into(), &4.into()));
        }
        assert!(wrong[0] == 0 && wrong[1] > 0 && wrong[2] == 0, "{wrong:?}");
        let ran = bench("random", "hevc_open_gop.mp4", &more);
        assert!(ran.text().contains(&format!("ffmpeg-cli: {} of 4 frames are not the ones asked for", wrong[1])));
        let ran = bench("random", "hevc_open_gop.mp4", &["--no-check"]);
        assert!(ran.text().contains("Frames were not compared"));
    }

    #[test]
    fn of_the_bundled_clip_are_the_default() {
        let ran = run_command(&["bench", "random", "--count", "2", "--no-floor", "--json", "-"]);
        let entry = ran.json().remove(0).as_array_mut().expect("an array").remove(0);
        assert_eq!((&entry["frames"], &entry["wrong"], &entry["clip"]["frames"]), (&2.into(), &0.into(), &250.into()));
    }

    #[test]
    fn that_no_decode_shows_are_no_errors_of_any_engine_in_sequential() {
        for entry in entries("sequential", "hevc_open_gop_cut.265", &["--md5", "--engine", "cpu,ffmpeg-cli"]) {
            assert_eq!((&entry["wrong"], &entry["errors"]), (&0.into(), &0.into()), "{}", entry["engine"]);
            assert_eq!(indices(&entry), (3..99).collect::<Vec<_>>());
        }
    }
}

mod table {
    use super::*;

    const NAMES: [&str; 9] = [
        "Frames requested",
        "Frames received",
        "Frames errored",
        "Total time",
        "Average FPS",
        "Avg latency",
        "Min latency",
        "Max latency",
        "P95 latency",
    ];

    #[test]
    fn ends_with_the_block_of_nine_lines() {
        for (scenario, engines) in [("random", "cpu,ffmpeg-cli"), ("sequential", "ffmpeg-cli"), ("scrub", "nvdec,cpu")]
        {
            let ran = bench(scenario, "hevc_gray.mp4", &["--engine", engines, "--count", "5"]);
            assert_eq!((ran.code(), messages(&ran).as_str()), (0, ""));
            let (_, block) = ran.text().split_once("\n=== Benchmark Results ===\n").expect("the block");
            let pairs: Vec<(&str, &str)> = block.lines().map(|line| line.split_once(':').expect("a pair")).collect();
            assert_eq!(pairs.iter().map(|pair| pair.0).collect::<Vec<_>>(), NAMES);
            assert_eq!([0, 1, 2].map(|line| pairs[line].1.trim()), ["5", "5", "0"]);
            engines.split(',').for_each(|engine| assert!(ran.text().contains(&format!("\n{engine} ")), "{engine}"));
        }
    }
}

mod all {
    use super::*;

    #[test]
    fn measures_every_video_of_a_folder_in_every_scenario_and_the_curves() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["hevc_gray.mp4", "h264_bframes.mp4"] {
            fs::copy(fixture(name), folder.path().join(name)).expect("to copy");
        }
        fs::write(folder.path().join("notes.txt"), "no video").expect("to write");
        let (json, html) = (folder.path().join("all.json"), folder.path().join("all.html"));
        let place = folder.path().to_str().expect("text");
        let files = ["--json", json.to_str().expect("text"), "--html", html.to_str().expect("text")];
        let mut command =
            bucket_streamer(&[&["bench", "all", place, "--rounds", "1", "--count", "2"], &files[..]].concat());
        let ran = ProgramRun::run(command.env("BUCKET_STREAMER_FFMPEG", program("ffmpeg")));
        assert_eq!(ran.code(), 0, "{}", ran.stderr);
        assert!(messages(&ran).lines().all(|line| line.contains("notes.txt")), "{}", ran.stderr);
        assert!(ran.text().contains("\n=== Benchmark Results ===\n"));
        assert!(fs::read_to_string(&html).expect("the report").contains("</html>"));

        let entries: Vec<Value> = serde_json::from_slice(&fs::read(&json).expect("the file")).expect("an array");
        let measured = || entries.iter().filter(|entry| entry["unavailable"].is_null());
        assert!(measured().all(|entry| entry["wrong"] == 0 && entry["errors"] == 0));
        for name in ["hevc_gray.mp4", "h264_bframes.mp4"] {
            for scenario in SCENARIOS {
                let of = |entry: &&Value| {
                    let video = entry["video"].as_str().expect("a name");
                    video.ends_with(name) && entry["scenario"] == scenario && entry["setup"]["part"] == "clips"
                };
                let engines: BTreeSet<&str> =
                    measured().filter(of).map(|entry| entry["engine"].as_str().expect("a name")).collect();
                assert!(engines.is_superset(&words("cpu ffmpeg-cli")), "{name} {scenario}: {engines:?}");
            }
        }
        for part in ["checkpoint-memory", "threads", "callers"] {
            assert!(measured().filter(|entry| entry["setup"]["part"] == part).count() > 3, "{part}");
        }
    }

    #[test]
    fn wants_a_folder_with_videos() {
        let mut command = bucket_streamer(&["bench", "all"]);
        let ran = ProgramRun::run(command.env_remove("BUCKET_STREAMER_CORPUS"));
        assert_eq!((ran.code(), ran.text()), (2, ""));
        let folder = tempfile::tempdir().expect("a folder");
        for place in [folder.path().to_str().expect("text"), "/no/such/folder"] {
            let ran = run_command(&["bench", "all", place]);
            assert_eq!((ran.code(), ran.text()), (3, ""));
            assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        }
    }
}

mod exit_code {
    use super::*;

    #[test]
    fn is_1_with_a_missing_frame_which_is_counted_and_reported() {
        for scenario in ["random", "batch"] {
            let more = ["--indices", "3,9999", "--engine", "cpu,ffmpeg-cli", "--json", "-"];
            let ran = bench(scenario, "hevc_closed_gop.mp4", &more);
            assert_eq!(ran.code(), 1);
            let entries: Vec<Value> = serde_json::from_slice(&ran.stdout).expect("an array");
            for entry in entries {
                assert_eq!((&entry["frames"], &entry["errors"]), (&1.into(), &1.into()), "{scenario}: {entry}");
                let wrong = &entry["each"][1];
                assert_eq!(keys(wrong), words("index pts latency_ms error"));
                assert!(wrong["latency_ms"].is_null() && wrong["pts"].is_null());
            }
            assert_eq!(ran.stderr.matches("frame 9999: ").count(), 2, "{}", ran.stderr);
        }
    }

    #[test]
    fn is_2_for_wrong_usage() {
        for wrong in [
            &["random", "--engine", "gpu"][..],
            &["batch", "--callers", "2"],
            &["sequential", "--warm", "2"],
            &["all", "--rate", "2"],
            &["all", "--index", "some.index"],
            &["sequential", "--rate", "5"],
            &["random", "--rate", "0"],
            &["random", "--callers", "0"],
            &["random", "--indices", "a"],
            &["random", "--indices", "@/no/such/file"],
            &["random", "--indices", "1", "--count", "2"],
            &["random", "--count", "0"],
            &["sequential", "--indices", "1"],
            &["random", "--rounds", "0"],
        ] {
            let ran = bench(wrong[0], "hevc_gray.mp4", &wrong[1..]);
            assert_eq!((ran.code(), ran.text()), (2, ""), "{wrong:?}");
            assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        }
    }

    #[test]
    fn is_3_when_the_video_cannot_be_read() {
        for video in ["/no/such/video.mp4", file!()] {
            let ran = run_command(&["bench", "random", video]);
            assert_eq!((ran.code(), ran.text()), (3, ""));
            assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        }
    }
}
