//! The results of all requests: counted by each caller, merged, and reported.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::expected::{StillMd5, StillMd5s, sum};
use crate::args::{FrameAddressing, QueuePolicy, RequestPattern};
use crate::records::ServerSummary;
use crate::stats::MeasuredRequest;

/// The error of a frame that was dropped for a newer one.
pub(super) const SUPERSEDED: &str = "superseded";

/// A still that arrived.
pub(super) struct ReceivedStill<'a> {
    pub(super) frame: u32,
    /// The frame's number according to the server.
    pub(super) index: Option<u32>,
    pub(super) pts: Option<i64>,
    pub(super) latency: Duration,
    pub(super) bytes: &'a [u8],
}

/// The result of one request.
#[derive(Debug, Clone)]
pub(super) struct ClientStillResult {
    /// Position in the order of all requests.
    pub(super) place: usize,
    pub(super) answer: MeasuredRequest,
    pub(super) pts: Option<i64>,
    /// `None` if unknown.
    pub(super) wrong: Option<bool>,
}

/// The results of a caller.
#[derive(Debug, Default)]
pub(super) struct ClientTally {
    pub(super) results: Vec<ClientStillResult>,
    /// The number of responses of each kind: statuses, or errors of the protocol.
    pub(super) kinds: BTreeMap<String, u64>,
    pub(super) bytes: u64,
    /// The server's own timing in milliseconds, by stage.
    pub(super) timing: BTreeMap<String, Vec<f64>>,
    /// Faults outside of requests: the number of each kind.
    pub(super) protocol_errors: BTreeMap<String, u64>,
    /// Connections that were made, as far as the client knows.
    pub(super) connections: u64,
    /// The time of the last response.
    pub(super) ended: Option<Instant>,
}

impl ClientTally {
    pub(super) fn count(&mut self, kind: impl Into<String>) {
        *self.kinds.entry(kind.into()).or_default() += 1;
    }

    pub(super) fn protocol_error(&mut self, kind: impl Into<String>) {
        *self.protocol_errors.entry(kind.into()).or_default() += 1;
    }

    /// Adds a still. It is wrong if the server says that it is another frame, or if it differs from the expected one.
    pub(super) fn still(&mut self, place: usize, still: &ReceivedStill<'_>, expected: Option<&StillMd5s>) {
        self.bytes += still.bytes.len() as u64;
        let md5: StillMd5 = sum(still.bytes);
        let is_another = still.index.is_some_and(|index| index != still.frame);
        let differs = expected.and_then(|known| known.get(&still.frame)).map(|known| *known != md5);
        let answer = MeasuredRequest {
            index: still.frame,
            latency: Some(still.latency),
            error: None,
            md5: Some(bucket_streamer::still::raw::hex(&md5)),
        };
        let wrong = if is_another { Some(true) } else { differs };
        self.results.push(ClientStillResult { place, answer, pts: still.pts, wrong });
    }

    /// Adds a request without a still.
    pub(super) fn error(&mut self, place: usize, frame: u32, why: String) {
        let answer = MeasuredRequest { index: frame, latency: None, error: Some(why), md5: None };
        self.results.push(ClientStillResult { place, answer, pts: None, wrong: None });
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

    /// Adds the results of another caller.
    pub(super) fn merge(mut self, other: ClientTally) -> ClientTally {
        self.results.extend(other.results);
        other.kinds.into_iter().for_each(|(kind, count)| *self.kinds.entry(kind).or_default() += count);
        other
            .protocol_errors
            .into_iter()
            .for_each(|(kind, count)| *self.protocol_errors.entry(kind).or_default() += count);
        other.timing.into_iter().for_each(|(name, times)| self.timing.entry(name).or_default().extend(times));
        self.bytes += other.bytes;
        self.connections += other.connections;
        self.ended = self.ended.max(other.ended);
        self
    }

    /// The failures, a line for each kind.
    pub(super) fn messages(&self, order: QueuePolicy) -> Vec<String> {
        let mut by_kind: BTreeMap<&str, (usize, u32)> = BTreeMap::new();
        for result in &self.results {
            let is_wrong = result.wrong == Some(true);
            let error = result.answer.error.as_deref().or(is_wrong.then_some("another picture than the one asked for"));
            // With `latest`, superseded frames are as intended.
            for error in error.iter().filter(|error| order != QueuePolicy::Latest || **error != SUPERSEDED) {
                by_kind.entry(error).or_insert((0, result.answer.index)).0 += 1;
            }
        }
        let all = self.results.len();
        let failed = by_kind.into_iter().map(|(why, (count, first))| match count {
            1 => format!("frame {first}: {why}"),
            _ => format!("{count} of {all} frames, {first} the first of them: {why}"),
        });
        let strays = self.protocol_errors.iter().map(|(why, count)| format!("{count} times: {why}"));
        failed.chain(strays).collect()
    }

    /// The part of the results that is reported beside times.
    pub(super) fn summary(
        &self,
        manner: Option<RequestPattern>,
        ws: Option<(QueuePolicy, FrameAddressing, usize)>,
    ) -> ServerSummary {
        let median = |(name, times): (&String, &Vec<f64>)| {
            let mut times = times.clone();
            times.sort_unstable_by(f64::total_cmp);
            times.get(times.len().saturating_sub(1) / 2).map(|&middle| (name.clone(), middle))
        };
        ServerSummary {
            manner: manner.map(|manner| match manner {
                RequestPattern::Random => "random",
                RequestPattern::Sequential => "sequential",
                RequestPattern::Scrub => "scrub",
            }),
            order: ws.map(|(order, ..)| if order == QueuePolicy::Fifo { "fifo" } else { "latest" }),
            by: ws.map(|(_, by, _)| if by == FrameAddressing::Frame { "frame" } else { "offset" }),
            pipeline: ws.map(|(.., pipeline)| pipeline),
            connections: self.connections,
            received_bytes: self.bytes,
            answers: self.kinds.clone(),
            strays: self.protocol_errors.clone(),
            server_timing_ms: self.timing.iter().filter_map(median).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn still(frame: u32, index: Option<u32>, bytes: &[u8]) -> ReceivedStill<'_> {
        ReceivedStill { frame, index, pts: None, latency: Duration::from_millis(1), bytes }
    }

    #[test]
    fn another_picture_is_wrong_by_number_or_by_sum() {
        let known = StillMd5s::from([(3, sum(b"three")), (4, sum(b"four"))]);
        let verdict = |still: &ReceivedStill<'_>| {
            let mut tally = ClientTally::default();
            tally.still(0, still, Some(&known));
            (tally.results[0].wrong, tally.messages(QueuePolicy::Fifo).len())
        };
        assert_eq!(verdict(&still(3, Some(3), b"three")), (Some(false), 0));
        assert_eq!(verdict(&still(3, Some(3), b"four")), (Some(true), 1));
        assert_eq!(verdict(&still(3, Some(4), b"three")), (Some(true), 1));
        assert_eq!(verdict(&still(9, Some(9), b"nine")), (None, 0));
    }

    #[test]
    fn a_superseded_frame_is_no_failure_only_with_latest() {
        let mut tally = ClientTally::default();
        tally.error(0, 7, SUPERSEDED.to_owned());
        tally.error(1, 8, "decode_failed".to_owned());
        tally.error(2, 9, "decode_failed".to_owned());
        assert_eq!(tally.messages(QueuePolicy::Latest), ["2 of 3 frames, 8 the first of them: decode_failed"]);
        assert_eq!(tally.messages(QueuePolicy::Fifo)[1], "frame 7: superseded");
    }

    #[test]
    fn the_server_timing_is_reported_by_medians() {
        let mut tally = ClientTally::default();
        for header in ["queue;dur=1, decode;desc=\"x\";dur=8.5", "queue;dur=3,hit", "queue;dur=2, decode;dur=x"] {
            tally.server_timing(header);
        }
        let served = tally.summary(None, None);
        assert_eq!(served.server_timing_ms, BTreeMap::from([("decode".into(), 8.5), ("queue".into(), 2.0)]));
        assert!(served.to_string().contains("decode 8.50, queue 2.00"), "{served}");
    }
}
