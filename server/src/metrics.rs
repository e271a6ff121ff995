//! Metrics for Prometheus (OpenMetrics 1.0): counts, durations and sizes. `http::status` serves them.
//!
//! Counters and histograms change with each event; gauges are read from their owners at each scrape.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use bucket_streamer::source::OpenFiles;

/// Media type of the text of [`Metrics::text`].
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of histogram buckets in seconds: from the time of a cached still to the default deadline.
const SECONDS: [f64; 15] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    queue: &'static str,
}

#[derive(Debug, Clone, Default)]
struct LatencyBuckets;

impl MetricConstructor<Histogram> for LatencyBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(SECONDS)
    }
}

/// The time of one still by stage.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StillTiming {
    /// Time of waiting for a permit, and for a worker.
    pub(super) queue: Duration,
    /// Time of waiting for bytes.
    pub(super) fetch: Duration,
    pub(super) decode: Duration,
    pub(super) encode: Duration,
}

/// Values that other modules own, at the time of a scrape.
#[derive(Debug, Default)]
pub(super) struct MetricsSnapshot {
    /// Running and waiting requests by queue.
    pub(super) admissions: Vec<(&'static str, usize, usize)>,
    pub(super) still_bytes: u64,
    pub(super) stills: usize,
    pub(super) videos: usize,
    pub(super) index_bytes: u64,
    pub(super) fetched_held_bytes: u64,
    pub(super) fetched_bytes: u64,
    pub(super) checkpoint_bytes: u64,
    pub(super) picture_bytes: u64,
    pub(super) picture_budget_bytes: u64,
    pub(super) picture_waiting: usize,
    pub(super) checkpoints: usize,
    pub(super) decoded_pictures: u64,
    pub(super) forks: u64,
    pub(super) device_frames: u64,
    pub(super) checkpoints_taken: u64,
    pub(super) resident_bytes: u64,
    pub(super) connections: usize,
    pub(super) websockets: usize,
    pub(super) reply_bytes: u64,
    pub(super) files: OpenFiles,
}

/// All metrics.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<RouteLabels, Counter>,
    latency: Family<RouteLabels, Histogram, LatencyBuckets>,
    stages: Family<StageLabels, Histogram, LatencyBuckets>,
    cache: Family<OutcomeLabels, Counter>,
    rejected: Family<OutcomeLabels, Counter>,
    frames: Family<OutcomeLabels, Counter>,
    sent: Counter,
    gauges: Gauges,
}

#[derive(Debug, Default)]
struct Gauges {
    running: Family<QueueLabels, Gauge>,
    waiting: Family<QueueLabels, Gauge>,
    still_bytes: Gauge,
    stills: Gauge,
    videos: Gauge,
    index_bytes: Gauge,
    fetched_held_bytes: Gauge,
    checkpoint_bytes: Gauge,
    picture_bytes: Gauge,
    picture_budget_bytes: Gauge,
    picture_waiting: Gauge,
    checkpoints: Gauge,
    resident_bytes: Gauge,
    connections: Gauge,
    websockets: Gauge,
    reply_bytes: Gauge,
    files_open: Gauge,
    /// Counters that other modules own; their values are copied at each scrape and only grow.
    fetched_bytes: Counter<u64, AtomicU64>,
    decoded_pictures: Counter<u64, AtomicU64>,
    forks: Counter<u64, AtomicU64>,
    device_frames: Counter<u64, AtomicU64>,
    checkpoints_taken: Counter<u64, AtomicU64>,
    files_reopened: Counter<u64, AtomicU64>,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("bucket_streamer"),
            requests: Family::default(),
            latency: Family::new_with_constructor(LatencyBuckets),
            stages: Family::new_with_constructor(LatencyBuckets),
            cache: Family::default(),
            rejected: Family::default(),
            frames: Family::default(),
            sent: Counter::default(),
            gauges: Gauges::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("http_requests", "Responses, by route and status", self.requests.clone());
        let help = "Time from a request's head to its response's, by route and status";
        registry.register_with_unit("http_request_duration", help, Unit::Seconds, self.latency.clone());
        let help = "Time of a still by stage: queue, fetch, decode, encode";
        registry.register_with_unit("still_stage_duration", help, Unit::Seconds, self.stages.clone());
        registry.register(
            "still_cache",
            "Stills found in the cache (hit), not found (miss), or shared with a request in progress (joined)",
            self.cache.clone(),
        );
        registry.register("rejected", "Refused requests, by reason", self.rejected.clone());
        registry.register("websocket_frames", "Responses over WebSockets, by outcome", self.frames.clone());
        registry.register_with_unit("still_sent", "Stills passed to connections", Unit::Bytes, self.sent.clone());
        let gauges = &self.gauges;
        registry.register("engine_running", "Requests that use the engine", gauges.running.clone());
        registry.register("engine_waiting", "Requests that wait for the engine", gauges.waiting.clone());
        registry.register_with_unit("still_cache_held", "Stills in memory", Unit::Bytes, gauges.still_bytes.clone());
        registry.register("still_cache_entries", "Stills in memory", gauges.stills.clone());
        registry.register("videos_open", "Videos that are open", gauges.videos.clone());
        registry.register_with_unit("index_held", "Indexes of open videos", Unit::Bytes, gauges.index_bytes.clone());
        let help = "Bytes of videos fetched over a network and kept in memory";
        registry.register_with_unit("fetch_held", help, Unit::Bytes, gauges.fetched_held_bytes.clone());
        let help = "Bytes of videos fetched over a network";
        registry.register_with_unit("fetch_received", help, Unit::Bytes, gauges.fetched_bytes.clone());
        registry.register_with_unit(
            "checkpoint_held",
            "Checkpoints of decoders",
            Unit::Bytes,
            gauges.checkpoint_bytes.clone(),
        );
        let help = "Pictures in decoders, with the decoders' tables for them";
        registry.register_with_unit("picture_held", help, Unit::Bytes, gauges.picture_bytes.clone());
        let help = "The budget of pictures in decoders";
        registry.register_with_unit("picture_budget", help, Unit::Bytes, gauges.picture_budget_bytes.clone());
        let help = "Decode runs that wait for this budget";
        registry.register("picture_waiting", help, gauges.picture_waiting.clone());
        registry.register("checkpoint_entries", "Checkpoints of decoders", gauges.checkpoints.clone());
        registry.register("checkpoints_taken", "Checkpoints that were taken", gauges.checkpoints_taken.clone());
        registry.register("decoder_forks", "Decode runs that began at a checkpoint", gauges.forks.clone());
        registry.register("device_frames", "Frames that a GPU has decoded", gauges.device_frames.clone());
        registry.register("pictures_decoded", "Samples that were decoded", gauges.decoded_pictures.clone());
        registry.register_with_unit("process_resident", "Resident memory", Unit::Bytes, gauges.resident_bytes.clone());
        registry.register("connections_open", "Connections, WebSockets too", gauges.connections.clone());
        registry.register("websockets_open", "WebSockets", gauges.websockets.clone());
        let help = "Responses that are not sent yet";
        registry.register_with_unit("reply_held", help, Unit::Bytes, gauges.reply_bytes.clone());
        registry.register("files_open", "Local files that are open", gauges.files_open.clone());
        let help = "Local files that were closed to free descriptors and opened again";
        registry.register("files_reopened", help, gauges.files_reopened.clone());
    }

    /// Counts a response.
    pub(super) fn request(&self, route: &'static str, status: u16, took: Duration) {
        let labels = RouteLabels { route, status };
        self.requests.get_or_create(&labels).inc();
        self.latency.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Counts a lookup in the cache of stills.
    pub(super) fn cache(&self, is_hit: bool) {
        self.cache.get_or_create(&OutcomeLabels { outcome: if is_hit { "hit" } else { "miss" } }).inc();
    }

    /// Counts a still that was shared with a request in progress.
    pub(super) fn joined(&self) {
        self.cache.get_or_create(&OutcomeLabels { outcome: "joined" }).inc();
    }

    /// Records the stages of a new still.
    pub(super) fn record_still(&self, timing: &StillTiming) {
        let stages = [("queue", timing.queue), ("fetch", timing.fetch), ("decode", timing.decode)];
        for (stage, time) in stages {
            self.stages.get_or_create(&StageLabels { stage }).observe(time.as_secs_f64());
        }
        self.record_encoding(timing.encode);
    }

    /// Records the encoding of a still.
    pub(super) fn record_encoding(&self, time: Duration) {
        self.stages.get_or_create(&StageLabels { stage: "encode" }).observe(time.as_secs_f64());
    }

    /// Counts a refusal; `reason` is `queue`, `connections`, `replies`, `http2` or `resets`.
    pub(super) fn rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&OutcomeLabels { outcome: reason }).inc();
    }

    /// Counts the response to a frame requested over a WebSocket: `sent`, or the code of its error.
    pub(super) fn frame(&self, outcome: &'static str) {
        self.frames.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Counts the bytes of a still that is passed to a connection.
    pub(super) fn sent(&self, bytes: usize) {
        self.sent.inc_by(bytes as u64);
    }

    /// All metrics in the text format; `snapshot` has the current gauges.
    pub(super) fn text(&self, snapshot: &MetricsSnapshot) -> String {
        let gauges = &self.gauges;
        for (queue, running, waiting) in &snapshot.admissions {
            let queue = QueueLabels { queue };
            gauges.running.get_or_create(&queue).set(*running as i64);
            gauges.waiting.get_or_create(&queue).set(*waiting as i64);
        }
        let levels = [
            (&gauges.still_bytes, snapshot.still_bytes),
            (&gauges.stills, snapshot.stills as u64),
            (&gauges.videos, snapshot.videos as u64),
            (&gauges.index_bytes, snapshot.index_bytes),
            (&gauges.fetched_held_bytes, snapshot.fetched_held_bytes),
            (&gauges.checkpoint_bytes, snapshot.checkpoint_bytes),
            (&gauges.picture_bytes, snapshot.picture_bytes),
            (&gauges.picture_budget_bytes, snapshot.picture_budget_bytes),
            (&gauges.picture_waiting, snapshot.picture_waiting as u64),
            (&gauges.checkpoints, snapshot.checkpoints as u64),
            (&gauges.resident_bytes, snapshot.resident_bytes),
            (&gauges.connections, snapshot.connections as u64),
            (&gauges.websockets, snapshot.websockets as u64),
            (&gauges.reply_bytes, snapshot.reply_bytes),
            (&gauges.files_open, snapshot.files.open as u64),
        ];
        for (gauge, value) in levels {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        let counts = [
            (&gauges.fetched_bytes, snapshot.fetched_bytes),
            (&gauges.decoded_pictures, snapshot.decoded_pictures),
            (&gauges.forks, snapshot.forks),
            (&gauges.device_frames, snapshot.device_frames),
            (&gauges.checkpoints_taken, snapshot.checkpoints_taken),
            (&gauges.files_reopened, snapshot.files.reopened),
        ];
        for (counter, value) in counts {
            counter.inner().fetch_max(value, std::sync::atomic::Ordering::Relaxed);
        }
        let mut text = String::new();
        // Writing to a `String` does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
