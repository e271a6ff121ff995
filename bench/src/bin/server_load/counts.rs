//! The results of all clients together.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::expected::{LoadVideo, Sum, sum};

/// Requests from shortly before SIGTERM may not have reached the server.
const GREY: Duration = Duration::from_millis(250);

/// Most wrong frames that are listed.
const TOLD: usize = 40;

/// Upper bound of a request's duration: an hour, in microseconds.
const LONGEST: u64 = 3_600_000_000;

/// The counts of results.
#[derive(Default)]
pub(crate) struct Counts {
    right: AtomicU64,
    wrong: AtomicU64,
    /// The wrong frames: the requested frame and its expected MD5.
    wrongs: Mutex<BTreeMap<(u32, Sum), u64>>,
    /// Requests without a response.
    lost: AtomicU64,
    /// Correct refusals of a full server.
    pub(crate) full: AtomicU64,
    /// Refusals after SIGTERM.
    refused: AtomicU64,
    bytes: AtomicU64,
    /// Other faults, by kind.
    other: Mutex<BTreeMap<String, u64>>,
    /// The actions of abusive clients, and their results.
    pub(crate) abuse: Mutex<BTreeMap<&'static str, u64>>,
    latencies: Mutex<Option<Histogram<u64>>>,
    /// The time of SIGTERM.
    pub(crate) termination: Mutex<Option<Instant>>,
}

fn one(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Counts {
    /// Counts a still that arrived for a frame.
    pub(crate) fn still(&self, claimed: Option<u32>, (frame, known): (u32, Sum), bytes: &[u8], took: Duration) {
        let is_right = claimed == Some(frame) && sum(bytes) == known;
        one(if is_right { &self.right } else { &self.wrong });
        if !is_right {
            *self.wrongs.lock().expect("no panic").entry((frame, known)).or_default() += 1;
        }
        self.bytes.fetch_add(bytes.len() as u64, Relaxed);
        let mut latencies = self.latencies.lock().expect("no panic");
        let histogram =
            latencies.get_or_insert_with(|| Histogram::new_with_bounds(1, LONGEST, 3).expect("a histogram"));
        histogram.saturating_record(took.as_micros() as u64);
    }

    /// Counts a request of that time that got no response.
    pub(crate) fn lost(&self, sent: Instant, why: &str) {
        if self.is_ending(sent + GREY) {
            return one(&self.refused);
        }
        one(&self.lost);
        self.other(format!("lost: {why}"));
    }

    /// Counts a response that should not occur.
    pub(crate) fn other(&self, kind: impl Into<String>) {
        *self.other.lock().expect("no panic").entry(kind.into()).or_default() += 1;
    }

    /// Counts an action of an abusive client.
    pub(crate) fn abused(&self, how: &'static str) {
        *self.abuse.lock().expect("no panic").entry(how).or_default() += 1;
    }

    /// Whether SIGTERM was sent before then.
    pub(crate) fn is_ending(&self, then: Instant) -> bool {
        self.termination.lock().expect("no panic").is_some_and(|told| told <= then)
    }

    /// Counts a correct refusal: the server is full, or ends.
    pub(crate) fn refused(&self, sent: Instant) {
        one(if self.is_ending(sent) { &self.refused } else { &self.full });
    }

    /// Prints all counts. True if there were no faults.
    pub(crate) fn print_summary(&self, took: Duration, videos: &[LoadVideo]) -> bool {
        let now = |counter: &AtomicU64| counter.load(Relaxed);
        let (right, wrong, lost) = (now(&self.right), now(&self.wrong), now(&self.lost));
        println!("{right} stills right, {wrong} wrong, {lost} lost, {:.1} MB", now(&self.bytes) as f64 / 1e6);
        println!("{} refused because the server was full, {} because it ends", now(&self.full), now(&self.refused));
        let latencies = self.latencies.lock().expect("no panic");
        if let Some(latencies) = latencies.as_ref() {
            let at = |share| latencies.value_at_quantile(share) as f64 / 1e3;
            let (p50, p99, max) = (at(0.5), at(0.99), latencies.max() as f64 / 1e3);
            println!("latency p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms");
        }
        println!("{:.1} stills a second over {:.1} s", right as f64 / took.as_secs_f64().max(1e-9), took.as_secs_f64());
        let other = self.other.lock().expect("no panic");
        other.iter().for_each(|(kind, count)| println!("not as it should be: {count} times {kind}"));
        self.abuse.lock().expect("no panic").iter().for_each(|(how, count)| println!("abuse: {count} times {how}"));
        for ((frame, sum), count) in self.wrongs.lock().expect("no panic").iter().take(TOLD) {
            let is_it = |video: &&LoadVideo| video.frames.contains(&(*frame, *sum));
            let name = videos.iter().find(is_it).map_or("?", |video| &video.name);
            println!("not as it should be: {count} times another picture than frame {frame} of {name}");
        }
        if right == 0 {
            println!("not as it should be: no still arrived");
        }
        right > 0 && wrong == 0 && lost == 0 && other.is_empty()
    }
}
