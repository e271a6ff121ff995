//! The server program: flags, environment and file; its listeners, TLS, and shutdown.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use common::{damaged, fixture, flagged_and_sound, hard_links};
use reqwest::Client;

mod common;

fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

struct ServerProcess {
    child: Child,
    url: String,
}

impl ServerProcess {
    fn start(arguments: &[&str], environment: &[(&str, &str)], folder: &Path) -> ServerProcess {
        ServerProcess::begin(Command::new(env!("CARGO_BIN_EXE_bucket-streamer")), arguments, environment, folder)
    }

    /// With this many descriptors, as the soft and as the hard limit.
    fn start_within(soft: u32, hard: u32, arguments: &[&str], folder: &Path) -> ServerProcess {
        let mut shell = Command::new("sh");
        let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_bucket-streamer")]);
        ServerProcess::begin(shell, arguments, &[], folder)
    }

    fn begin(mut command: Command, arguments: &[&str], environment: &[(&str, &str)], folder: &Path) -> ServerProcess {
        let mut child = command
            .args(arguments)
            .envs(environment.iter().copied())
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        ServerProcess { child, url }
    }

    /// Stops it and waits: the exit code, and its messages.
    fn end(mut self, signal: &str) -> (Option<i32>, String) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let code = self.child.wait().unwrap().code();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (code, said)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_its_roots_and_ends_on_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let ask = async |url: String| client().get(url).send().await.unwrap();
    // Without roots and without ./data it serves the bundled clips.
    let program = ServerProcess::start(&["--serve", "--listen-addr", "127.0.0.1:0"], &[], folder.path());
    let list = ask(format!("{}/videos", program.url)).await.text().await.unwrap();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let first = list["videos"][0]["video"].as_str().unwrap().to_owned();
    assert_eq!(ask(format!("{}/frame/{first}?frame=2", program.url)).await.status(), 200);
    let (code, said) = program.end("-TERM");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("bundled clips"));
    let given = said.lines().find(|line| line.contains("; checkpoints ")).unwrap_or_else(|| panic!("{said}"));
    assert!(["processor", "of memory", "worker", "pinned"].iter().all(|word| given.contains(word)), "{given}");
    // With videos in ./data it serves those.
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::copy(fixture("hevc_demo.mp4"), folder.path().join("data/own.mp4")).unwrap();
    let program = ServerProcess::start(&["serve", "--listen-addr", "127.0.0.1:0"], &[], folder.path());
    assert_eq!(ask(format!("{}/frame/own.mp4?frame=2", program.url)).await.status(), 200);
    assert_eq!(program.end("-INT").0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_environment_and_file() {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = fixture("").display().to_string();
    let file = format!(
        "root = [\"file={fixtures}\"]\nlisten_addr = \"127.0.0.1:1\"\njpeg_quality = 20\nlog_format = \"json\"\n"
    );
    std::fs::write(folder.path().join("serve.toml"), file).unwrap();
    let environment =
        [("BUCKET_STREAMER_LISTEN_ADDR", "127.0.0.1:0"), ("BUCKET_STREAMER_TOKENS", "token-one,token-two")];
    let arguments = ["serve", "--config", "serve.toml", "--log", "debug", "--local-path", &fixtures];
    let program = ServerProcess::start(&arguments, &environment, folder.path());
    let ask = async |path: &str| {
        let url = format!("{}{path}", program.url);
        let answer = client().get(url).header("authorization", "Bearer token-two").send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap())
    };
    let low = ask("/frame/file/hevc_demo.mp4?frame=2").await;
    let same = ask("/frame/hevc_demo.mp4?frame=2&quality=20").await;
    assert!(low.0 == 200 && low.1 == same.1, "quality from the file, the unnamed root from the flag");
    assert_eq!(client().get(format!("{}/videos", program.url)).send().await.unwrap().status(), 401);
    let (code, said) = program.end("-TERM");
    assert_eq!(code, Some(0));
    let requests: Vec<serde_json::Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(
        requests
            .iter()
            .any(|line| line["message"] == "answered" && line["status"] == 200 && line["span"]["id"].is_string()),
        "{said}"
    );
    assert!(!said.contains("token-two") && !said.contains("quality="), "no secrets, no queries");
    // Invalid arguments are refused at the start.
    for arguments in [
        &["serve", "--root", "x"][..],
        &["serve", "--root", "a=/nowhere/at/all"],
        &["serve", "--config", "missing.toml"],
        &["serve", "--listen-addr", "here"],
        &["serve", "--tls-cert", "x"],
        &["serve", "--s3-bucket", "b", "--local-path", "/"],
        &["serve", "--on-damage", "ignore"],
        &["serve", "--max-pixels", "0"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_bucket-streamer"))
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1, "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_refused_where_the_settings_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let frame = flagged_and_sound(&damaged(folder.path())).0[0];
    let arguments = ["serve", "--listen-addr", "127.0.0.1:0", "--local-path", "."];
    let settings = [("BUCKET_STREAMER_ON_DAMAGE", "error"), ("BUCKET_STREAMER_MAX_PIXELS", "8192x4352")];
    for (more, environment, status) in
        [(&[][..], &settings[..], 422), (&["--on-damage", "flag"], &settings[..], 200), (&[], &[], 200)]
    {
        let program = ServerProcess::start(&[&arguments[..], more].concat(), environment, folder.path());
        let answer = client().get(format!("{}/frame/damaged.mp4?frame={frame}", program.url)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{more:?} {environment:?}");
        assert_eq!(program.end("-TERM").0, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn videos_of_too_large_pictures_are_refused() {
    let folder = fixture("");
    let arguments = ["serve", "--listen-addr", "127.0.0.1:0", "--local-path", ".", "--max-pixels", "100x10"];
    let program = ServerProcess::start(&arguments, &[], &folder);
    for path in ["/frame/hevc_gray.mp4?frame=0", "/videos/hevc_gray.mp4", "/storyboard/hevc_gray.mp4.jpg"] {
        let answer = client().get(format!("{}{path}", program.url)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 422, "{path}");
        let document: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert!(document["detail"].as_str().unwrap().contains("1000 pixels"), "{document}");
    }
    assert_eq!(program.end("-TERM").0, Some(0));
}

/// Requests frame 0 of each of these videos, by this many tasks, and returns the answers in their order.
async fn first_frames(
    client: &Client,
    url: &str,
    names: &[String],
    (tasks, width): (usize, u32),
) -> Vec<(u16, bytes::Bytes)> {
    let (client, names, url) = (client.clone(), Arc::new(names.to_vec()), url.to_owned());
    let ask = move |task: usize| {
        let (client, names, url) = (client.clone(), Arc::clone(&names), url.clone());
        tokio::spawn(async move {
            let mut answers = Vec::new();
            for (place, name) in names.iter().enumerate().skip(task).step_by(tasks) {
                let answer = client.get(format!("{url}/frame/{name}?frame=0&width={width}")).send().await.unwrap();
                answers.push((place, (answer.status().as_u16(), answer.bytes().await.unwrap())));
            }
            answers
        })
    };
    let mut answers = Vec::new();
    for task in (0..tasks).map(ask).collect::<Vec<_>>() {
        answers.extend(task.await.unwrap());
    }
    answers.sort_unstable_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

#[allow(clippy::print_stderr, reason = "how long many videos take")]
/// More videos than descriptors, and as many connections as allowed: 100,000 videos with `BUCKET_STREAMER_EXHAUSTIVE`,
/// or the number in `BUCKET_STREAMER_VIDEOS`.
#[tokio::test(flavor = "multi_thread")]
async fn more_videos_than_descriptors_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let limit = std::env::var("BUCKET_STREAMER_DESCRIPTORS").map_or(192, |text| text.parse().unwrap());
    let count = crate::common::many_videos(600);
    let names = hard_links(folder.path(), count);
    let arguments = ["serve", "--listen-addr", "127.0.0.1:0", "--local-path", "."];
    let program = ServerProcess::start_within(64, limit, &arguments, folder.path());
    let begin = Instant::now();
    let answers = first_frames(&client(), &program.url, &names, (8, 32)).await;
    eprintln!("{count} videos within {limit} descriptors: {:.1} s", begin.elapsed().as_secs_f64());
    let failed = answers.iter().filter(|(status, _)| *status != 200).count();
    assert_eq!(failed, 0, "of {count}");
    // Silent connections take all descriptors of connections, and those of videos remain.
    let (known, address) = (client(), program.url.strip_prefix("http://").unwrap());
    first_frames(&known, &program.url, &names[..1], (1, 32)).await;
    let idle: Vec<_> = (0..limit).filter_map(|_| std::net::TcpStream::connect(address).ok()).collect();
    assert_eq!(idle.len(), limit as usize);
    let again = first_frames(&known, &program.url, &names[..150], (1, 40)).await;
    assert!(again.iter().all(|(status, _)| *status == 200), "the same videos, opened again");
    // Videos are links to four clips in turn.
    for answers in [&answers, &again] {
        assert!(answers.iter().enumerate().all(|(place, answer)| answer == &answers[place % 4]));
    }
    drop(idle);
    let metrics = client().get(format!("{}/metrics", program.url)).send().await.unwrap().text().await.unwrap();
    let number = |name: &str| -> usize {
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("bucket_streamer_{name} ")));
        line.unwrap_or_else(|| panic!("{name}: {metrics}")).parse().unwrap()
    };
    assert!(number("files_open") < limit as usize && number("files_reopened_total") > 0, "{metrics}");
    let (code, said) = program.end("-TERM");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(" open files (soft limit raised)") && said.contains("(of 4,096 asked for)"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let root = format!("fx={}", fixture("").display());
    let arguments = [
        "serve",
        "--root",
        &root,
        "--listen-addr",
        "127.0.0.1:0",
        "--tls-cert",
        certificate.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
    ];
    let program = ServerProcess::start(&arguments, &[], folder.path());
    let port = program.url.strip_prefix("https://127.0.0.1:").unwrap();
    let trusted = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let _ = client();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([trusted]).build().unwrap();
    let answer = client.get(format!("https://localhost:{port}/frame/fx/hevc_demo.mp4?frame=2")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    assert!(answer.bytes().await.unwrap().starts_with(&[0xff, 0xd8]));
    assert_eq!(program.end("-TERM").0, Some(0));
}

#[test]
fn signs_addresses() {
    let sign = |address: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_bucket-streamer"))
            .args(["sign", address, "--expires", "10m"])
            .env("BUCKET_STREAMER_URL_KEYS", "key-one-of-two,key-two-of-two")
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let whole = sign("https://frames.example.com/frame/cams/a.mp4?frame=120");
    assert!(whole.starts_with("https://frames.example.com/frame/cams/a.mp4?frame=120&expires="), "{whole}");
    let path = sign("/frame/cams/a.mp4?frame=120");
    assert_eq!(whole.split("&signature=").nth(1).map(str::len), path.split("&signature=").nth(1).map(str::len));
}
