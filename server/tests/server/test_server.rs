//! A test server in this process, its client, and the expected answers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bucket_streamer::still::{StillFormat, StillMaker, StillOptions};
use bucket_streamer::{Engine, Video, process};
use bucket_streamer_server::roots::{RootSpec, Roots};
use bucket_streamer_server::{Config, Server};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use testing::clips::fixture;

/// A test server that runs until it is dropped or stopped.
pub(crate) struct TestServer {
    pub address: SocketAddr,
    pub engine: Engine,
    pub client: Client,
    stop: Option<oneshot::Sender<()>>,
    done: JoinHandle<bool>,
}

/// A configuration for tests, with any port.
pub(crate) fn config() -> Config {
    Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Config::default() }
}

/// A client that follows no redirects and uses no proxies.
pub(crate) fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

impl TestServer {
    /// A server of the fixtures as `fx`.
    pub(crate) async fn open() -> TestServer {
        TestServer::with(config(), &[("fx", &fixture(""))]).await
    }

    pub(crate) async fn with(config: Config, roots: &[(&str, &Path)]) -> TestServer {
        TestServer::serving(TestServer::engine(), config, roots).await
    }

    pub(crate) async fn serving(engine: Engine, config: Config, roots: &[(&str, &Path)]) -> TestServer {
        let specs = roots.iter().map(|(name, folder)| match *name {
            "" => RootSpec::unnamed(&folder.to_string_lossy()),
            name => RootSpec::parse(&format!("{name}={}", folder.display())).unwrap(),
        });
        TestServer::start(engine, config, Roots::new(specs.collect()).unwrap()).await
    }

    pub(crate) async fn with_roots(config: Config, roots: Roots) -> TestServer {
        TestServer::start(TestServer::engine(), config, roots).await
    }

    /// A server with this engine and these roots.
    pub(crate) async fn with_engine(engine: Engine, config: Config, roots: Roots) -> TestServer {
        TestServer::start(engine, config, roots).await
    }

    fn engine() -> Engine {
        Engine::builder().threads(2).checkpoint_memory(64 << 20).build()
    }

    async fn start(engine: Engine, config: Config, roots: Roots) -> TestServer {
        // With the same setup as the command.
        process::map_files().unwrap();
        let server = Server::bind(config, engine.clone(), Arc::new(roots), None).await.unwrap();
        let address = server.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let done = tokio::spawn(server.run(async move {
            let _ = stopped.await;
        }));
        TestServer { address, engine, client: client(), stop: Some(stop), done }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let request = headers
            .iter()
            .fold(self.client.get(self.url(path)), |request, (name, value)| request.header(*name, *value));
        request.send().await.unwrap()
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }

    /// The status and the kind of a problem document.
    pub(crate) async fn problem(&self, path: &str) -> (u16, String) {
        problem(self.get(path).await).await
    }

    /// The value of a metric.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await.text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("bucket_streamer_{name} ")));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// Waits until a metric meets a condition.
    pub(crate) async fn until(&self, name: &str, is_enough: impl Fn(f64) -> bool) {
        for _ in 0..3000 {
            if is_enough(self.metric(name).await) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("{name} is {}", self.metric(name).await);
    }

    /// Begins the shutdown, without waiting for it.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    pub(crate) async fn wait(self) -> bool {
        self.done.await.unwrap()
    }
}

pub(crate) async fn problem(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{status}");
    let document: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(document["status"], status);
    assert!(document["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    (status, document["type"].as_str().unwrap().to_owned())
}

/// The expected stills of a clip, from a sequential decode.
pub(crate) struct ExpectedStills {
    pub video: Video,
    pub stills: HashMap<u32, Vec<u8>>,
    pub pts: HashMap<u32, i64>,
}

impl ExpectedStills {
    pub(crate) fn of(clip: &Path) -> ExpectedStills {
        ExpectedStills::with(clip, |options| options)
    }

    pub(crate) fn with(clip: &Path, change: impl Fn(StillOptions) -> StillOptions) -> ExpectedStills {
        let video = Engine::new(Some(1)).open_path(clip).unwrap();
        let options = change(StillOptions { quality: 80, ..video.still_options() });
        let mut maker = StillMaker::new().unwrap();
        let (mut stills, mut pts) = (HashMap::new(), HashMap::new());
        let mut sink = |frame: bucket_streamer::VideoFrame| {
            let mut bytes = Vec::new();
            maker.encode(&frame.picture, &options, &mut bytes).unwrap();
            stills.insert(frame.index, bytes);
            pts.insert(frame.index, frame.pts);
            ControlFlow::Continue(())
        };
        video.play(&mut sink).unwrap();
        ExpectedStills { video, stills, pts }
    }

    /// Numbers of all frames with stills, in random order.
    pub(crate) fn shuffled(&self, seed: u64) -> Vec<u32> {
        let mut frames: Vec<u32> = self.stills.keys().copied().collect();
        frames.sort_unstable();
        fastrand::Rng::with_seed(seed).shuffle(&mut frames);
        frames
    }
}

pub(crate) const PNG: StillFormat = StillFormat::Png;
