//! The results of all requests: counted by each caller, joined, and reported.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::expected::{Sum, Sums, sum};
use crate::args::{By, Manner, Order};
use crate::entry::Served;
use crate::stats::Answer;

/// The error of a frame that was dropped for a newer one.
pub(super) const SUPERSEDED: &str = "superseded";

/// A still that arrived.
pub(super) struct Still<'a> {
    pub(super) frame: u32,
    /// The frame's number according to the server.
    pub(super) index: Option<u32>,
    pub(super) pts: Option<i64>,
    pub(super) latency: Duration,
    pub(super) bytes: &'a [u8],
}

/// The result of one request.
#[derive(Debug, Clone)]
pub(super) struct Came {
    /// Place in the order of all requests.
    pub(super) place: usize,
    pub(super) answer: Answer,
    pub(super) pts: Option<i64>,
    /// `None` if unknown.
    pub(super) wrong: Option<bool>,
}

/// The results of a caller.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) came: Vec<Came>,
    /// The number of responses of each kind: statuses, or errors of the protocol.
    pub(super) kinds: BTreeMap<String, u64>,
    pub(super) bytes: u64,
    /// The server's own timing in milliseconds, by stage.
    pub(super) timing: BTreeMap<String, Vec<f64>>,
    /// Faults outside of requests: the number of each kind.
    pub(super) strays: BTreeMap<String, u64>,
    /// Connections that were made, as far as the client knows.
    pub(super) connections: u64,
    /// The time of the last response.
    pub(super) ended: Option<Instant>,
}

impl Tally {
    pub(super) fn count(&mut self, kind: impl Into<String>) {
        *self.kinds.entry(kind.into()).or_default() += 1;
    }

    pub(super) fn stray(&mut self, kind: impl Into<String>) {
        *self.strays.entry(kind.into()).or_default() += 1;
    }

    /// Adds a still. It is wrong if the server says that it is another frame, or if it differs from the expected one.
    pub(super) fn still(&mut self, place: usize, still: &Still<'_>, known: Option<&Sums>) {
        self.bytes += still.bytes.len() as u64;
        let md5: Sum = sum(still.bytes);
        let is_another = still.index.is_some_and(|index| index != still.frame);
        let differs = known.and_then(|known| known.get(&still.frame)).map(|known| *known != md5);
        let answer = Answer {
            index: still.frame,
            latency: Some(still.latency),
            error: None,
            md5: Some(bucket_streamer::still::raw::hex(&md5)),
        };
        let wrong = if is_another { Some(true) } else { differs };
        self.came.push(Came { place, answer, pts: still.pts, wrong });
    }

    /// Adds a request without a still.
    pub(super) fn error(&mut self, place: usize, frame: u32, why: String) {
        let answer = Answer { index: frame, latency: None, error: Some(why), md5: None };
        self.came.push(Came { place, answer, pts: None, wrong: None });
    }

    /// Adds the stages of a `Server-Timing` header: `queue;dur=0.1, decode;dur=8.2`.
    pub(super) fn server_timing(&mut self, header: &str) {
        for part in header.split(',') {
            let mut fields = part.split(';').map(str::trim);
            let name = fields.next().unwrap_or_default();
            let took = fields.find_map(|field| field.strip_prefix("dur=")?.parse::<f64>().ok());
            if let Some(took) = took.filter(|_| !name.is_empty()) {
                self.timing.entry(name.to_owned()).or_default().push(took);
            }
        }
    }

    /// Joins the results of another caller.
    pub(super) fn and(mut self, other: Tally) -> Tally {
        self.came.extend(other.came);
        other.kinds.into_iter().for_each(|(kind, count)| *self.kinds.entry(kind).or_default() += count);
        other.strays.into_iter().for_each(|(kind, count)| *self.strays.entry(kind).or_default() += count);
        other.timing.into_iter().for_each(|(name, times)| self.timing.entry(name).or_default().extend(times));
        self.bytes += other.bytes;
        self.connections += other.connections;
        self.ended = self.ended.max(other.ended);
        self
    }

    /// The failures, a line for each kind.
    pub(super) fn messages(&self, order: Order) -> Vec<String> {
        let mut by_kind: BTreeMap<&str, (usize, u32)> = BTreeMap::new();
        for came in &self.came {
            let is_wrong = came.wrong == Some(true);
            let error = came.answer.error.as_deref().or(is_wrong.then_some("another picture than the one asked for"));
            // With `latest`, superseded frames are as intended.
            for error in error.iter().filter(|error| order != Order::Latest || **error != SUPERSEDED) {
                by_kind.entry(error).or_insert((0, came.answer.index)).0 += 1;
            }
        }
        let all = self.came.len();
        let failed = by_kind.into_iter().map(|(why, (count, first))| match count {
            1 => format!("frame {first}: {why}"),
            _ => format!("{count} of {all} frames, {first} the first of them: {why}"),
        });
        let strays = self.strays.iter().map(|(why, count)| format!("{count} times: {why}"));
        failed.chain(strays).collect()
    }

    /// The part of the results that is reported beside times.
    pub(super) fn served(&self, manner: Option<Manner>, ws: Option<(Order, By, usize)>) -> Served {
        let median = |(name, times): (&String, &Vec<f64>)| {
            let mut times = times.clone();
            times.sort_unstable_by(f64::total_cmp);
            times.get(times.len().saturating_sub(1) / 2).map(|&middle| (name.clone(), middle))
        };
        Served {
            manner: manner.map(|manner| match manner {
                Manner::Random => "random",
                Manner::Sequential => "sequential",
                Manner::Scrub => "scrub",
            }),
            order: ws.map(|(order, ..)| if order == Order::Fifo { "fifo" } else { "latest" }),
            by: ws.map(|(_, by, _)| if by == By::Frame { "frame" } else { "offset" }),
            pipeline: ws.map(|(.., pipeline)| pipeline),
            connections: self.connections,
            received_bytes: self.bytes,
            answers: self.kinds.clone(),
            strays: self.strays.clone(),
            server_timing_ms: self.timing.iter().filter_map(median).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn still(frame: u32, index: Option<u32>, bytes: &[u8]) -> Still<'_> {
        Still { frame, index, pts: None, latency: Duration::from_millis(1), bytes }
    }

    #[test]
    fn another_picture_is_wrong_whoever_says_so() {
        let known = Sums::from([(3, sum(b"three")), (4, sum(b"four"))]);
        let verdict = |still: &Still<'_>| {
            let mut tally = Tally::default();
            tally.still(0, still, Some(&known));
            (tally.came[0].wrong, tally.messages(Order::Fifo).len())
        };
        assert_eq!(verdict(&still(3, Some(3), b"three")), (Some(false), 0));
        assert_eq!(verdict(&still(3, Some(3), b"four")), (Some(true), 1));
        assert_eq!(verdict(&still(3, Some(4), b"three")), (Some(true), 1));
        assert_eq!(verdict(&still(9, Some(9), b"nine")), (None, 0));
    }

    #[test]
    fn what_was_given_up_is_no_failure_only_where_that_was_asked_for() {
        let mut tally = Tally::default();
        tally.error(0, 7, SUPERSEDED.to_owned());
        tally.error(1, 8, "decode_failed".to_owned());
        tally.error(2, 9, "decode_failed".to_owned());
        assert_eq!(tally.messages(Order::Latest), ["2 of 3 frames, 8 the first of them: decode_failed"]);
        assert_eq!(tally.messages(Order::Fifo)[1], "frame 7: superseded");
    }

    #[test]
    fn the_parts_of_the_servers_time_are_told_by_their_medians() {
        let mut tally = Tally::default();
        for header in ["queue;dur=1, decode;desc=\"x\";dur=8.5", "queue;dur=3,hit", "queue;dur=2, decode;dur=x"] {
            tally.server_timing(header);
        }
        let served = tally.served(None, None);
        assert_eq!(served.server_timing_ms, BTreeMap::from([("decode".into(), 8.5), ("queue".into(), 2.0)]));
        assert!(served.to_string().contains("decode 8.50, queue 2.00"), "{served}");
    }
}
