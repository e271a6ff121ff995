//! The bookkeeping of a WebSocket session: requests, responses, and whether every request got exactly one response.
//! `ws` transports the messages.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::expected::{SampleOffsets, StillMd5s};
use super::tally::{ClientTally, ReceivedStill};
use super::tickets::RequestTicket;
use crate::args::QueuePolicy;

/// A message of the client.
#[derive(Debug, Serialize)]
#[serde(tag = "type")]
pub(super) enum WsClientMessage<'a> {
    SetVideo {
        path: &'a str,
    },
    RequestFrames {
        #[serde(skip_serializing_if = "Option::is_none")]
        irap_offset: Option<u64>,
        frames: [WsFrameRequest; 1],
        order: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        width: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        height: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        quality: Option<u8>,
    },
}

/// One frame of a request.
#[derive(Debug, Serialize)]
pub(super) struct WsFrameRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) frame: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<u64>,
    pub(super) index: u64,
}

/// A message of the server.
#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
pub(super) enum WsServerMessage {
    VideoSet { ok: bool, error: Option<Value> },
    Frame(StillHeader),
    FrameError { index: u64, error: String },
    Error { message: Option<String> },
}

/// The message before a still.
#[derive(Debug, Deserialize)]
pub(super) struct StillHeader {
    index: u64,
    offset: Option<u64>,
    size: u64,
    frame: u32,
    pts: Option<i64>,
}

/// A request that waits for its response.
#[derive(Debug)]
struct WsPendingFrame {
    tag: u64,
    ticket: RequestTicket,
    since: Instant,
    sent: Instant,
    offset: Option<u64>,
    /// Later requests got a response first.
    has_later_response: bool,
}

/// The state of a session.
pub(super) struct WsClientSession<'a> {
    order: QueuePolicy,
    timeout: Duration,
    expected: Option<&'a StillMd5s>,
    next: u64,
    pending: VecDeque<WsPendingFrame>,
    /// Positions of responses in the tally, by their tags.
    answered: HashMap<u64, usize>,
    /// The message before the next still.
    header: Option<StillHeader>,
    pub(super) tally: ClientTally,
}

impl<'a> WsClientSession<'a> {
    pub(super) fn new(order: QueuePolicy, timeout: Duration, expected: Option<&'a StillMd5s>) -> WsClientSession<'a> {
        let (pending, answered) = (VecDeque::new(), HashMap::new());
        WsClientSession {
            order,
            timeout,
            expected,
            next: 0,
            pending,
            answered,
            header: None,
            tally: ClientTally::default(),
        }
    }

    /// The number of pending frames.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The time at which the oldest of them counts as missing.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pending.front().map(|waiting| waiting.sent + self.timeout)
    }

    /// Registers a request for a frame; by its sample's offset, if `offsets` is `Some`.
    pub(super) fn register(&mut self, ticket: RequestTicket, offsets: Option<SampleOffsets>) -> WsFrameRequest {
        let (tag, sent) = (self.next, Instant::now());
        self.next += 1;
        let offset = offsets.map(|spot| spot.offset);
        let since = ticket.due.unwrap_or(sent);
        self.pending.push_back(WsPendingFrame { tag, ticket, since, sent, offset, has_later_response: false });
        WsFrameRequest { frame: offsets.is_none().then_some(ticket.frame), offset, index: tag }
    }

    /// Takes a text message.
    pub(super) fn text(&mut self, text: &str) {
        if self.header.take().is_some() {
            self.tally.protocol_error("a Frame without its still");
        }
        match serde_json::from_str(text) {
            Ok(WsServerMessage::Frame(header)) => self.header = Some(header),
            Ok(WsServerMessage::FrameError { index, error }) => {
                self.tally.count(&error[..]);
                if let Some(waiting) = self.take_pending(index) {
                    self.record_error(&waiting, error);
                }
            }
            Ok(WsServerMessage::Error { message }) => {
                self.tally.count("Error");
                self.tally.protocol_error(format!("an Error: {}", message.unwrap_or_default()));
            }
            Ok(WsServerMessage::VideoSet { .. }) => self.tally.protocol_error("a VideoSet without a SetVideo"),
            Err(_) => self.tally.protocol_error("a message outside of the protocol"),
        }
    }

    /// Takes a binary message.
    pub(super) fn binary(&mut self, bytes: &[u8]) {
        let now = Instant::now();
        let Some(header) = self.header.take() else { return self.tally.protocol_error("a still without its Frame") };
        self.tally.count("Frame");
        let Some(waiting) = self.take_pending(header.index) else { return self.tally.bytes += bytes.len() as u64 };
        if header.size != bytes.len() as u64 {
            return self.record_error(&waiting, "a still with another size than its Frame says".to_owned());
        }
        if waiting.has_later_response {
            return self
                .record_error(&waiting, "answered out of order, after frames that were requested later".to_owned());
        }
        // A still of another sample than the requested one is another frame, for any number.
        let is_there = waiting.offset.is_none() || waiting.offset == header.offset;
        let index = Some(if is_there { header.frame } else { u32::MAX });
        let latency = now.saturating_duration_since(waiting.since);
        let still = ReceivedStill { frame: waiting.ticket.frame, index, pts: header.pts, latency, bytes };
        self.answered.insert(waiting.tag, self.tally.results.len());
        self.tally.still(waiting.ticket.place, &still, self.expected);
    }

    /// Gives up requests that have waited too long.
    pub(super) fn expire(&mut self) {
        let (now, timeout) = (Instant::now(), self.timeout);
        while self.pending.front().is_some_and(|waiting| waiting.sent + timeout <= now)
            && let Some(waiting) = self.pending.pop_front()
        {
            self.tally.count("missing");
            self.record_error(&waiting, format!("no answer within {} s", timeout.as_secs_f64()));
        }
    }

    /// The connection is closed: pending requests, and the announced frame, are lost.
    pub(super) fn lost(&mut self, why: &str) {
        self.header = None;
        while let Some(waiting) = self.pending.pop_front() {
            self.tally.count("lost");
            self.record_error(&waiting, format!("no answer: {why}"));
        }
    }

    /// The pending request with this tag; `None` for a second response, or a response to no request.
    fn take_pending(&mut self, tag: u64) -> Option<WsPendingFrame> {
        let Some(place) = self.pending.iter().position(|waiting| waiting.tag == tag) else {
            self.unexpected(tag);
            return None;
        };
        if self.order == QueuePolicy::Fifo {
            self.pending.iter_mut().take(place).for_each(|older| older.has_later_response = true);
        }
        self.pending.remove(place)
    }

    fn unexpected(&mut self, tag: u64) {
        let Some(&at) = self.answered.get(&tag) else { return self.tally.protocol_error("an answer to no request") };
        let answer = &mut self.tally.results[at].answer;
        match &mut answer.error {
            // The request counts as missing: a late response does not change that.
            Some(_) => self.tally.protocol_error("a second or late answer to a request"),
            error => *error = Some("answered more than once".to_owned()),
        }
    }

    fn record_error(&mut self, waiting: &WsPendingFrame, why: String) {
        self.answered.insert(waiting.tag, self.tally.results.len());
        self.tally.error(waiting.ticket.place, waiting.ticket.frame, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(requested: usize, timeout: u64) -> WsClientSession<'static> {
        let mut session = WsClientSession::new(QueuePolicy::Fifo, Duration::from_secs(timeout), None);
        for place in 0..requested {
            session.register(RequestTicket { place, frame: 10 + place as u32, due: None }, None);
        }
        session
    }

    fn frame(session: &mut WsClientSession<'_>, index: u64, frame: u32) {
        session.text(&format!(
            r#"{{"type":"Frame","index":{index},"offset":1,"size":3,"frame":{frame},"pts":5,"time_s":1.0,"key":false}}"#
        ));
        session.binary(b"abc");
    }

    fn errors<'a>(session: &'a WsClientSession<'_>) -> Vec<Option<&'a str>> {
        session.tally.results.iter().map(|came| came.answer.error.as_deref()).collect()
    }

    #[test]
    fn one_response_per_request_is_no_fault() {
        let mut session = session(3, 100);
        frame(&mut session, 0, 10);
        session.text(r#"{"type":"FrameError","index":1,"offset":7,"error":"decode_failed"}"#);
        frame(&mut session, 2, 12);
        assert_eq!(errors(&session), [None, Some("decode_failed"), None]);
        assert_eq!((session.pending(), session.tally.protocol_errors.len(), session.tally.bytes), (0, 0, 6));
        assert_eq!(session.tally.results[0].pts, Some(5));
    }

    #[test]
    fn another_frame_is_wrong() {
        let mut session = session(1, 100);
        frame(&mut session, 0, 11);
        assert_eq!((errors(&session), session.tally.results[0].wrong), (vec![None], Some(true)));
        let mut by_offset = WsClientSession::new(QueuePolicy::Fifo, Duration::from_secs(100), None);
        let spot = SampleOffsets { offset: 2, irap_offset: 0 };
        by_offset.register(RequestTicket { place: 0, frame: 10, due: None }, Some(spot));
        frame(&mut by_offset, 0, 10);
        assert_eq!(by_offset.tally.results[0].wrong, Some(true), "the sample at 1 is not the one at 2");
    }

    #[test]
    fn duplicate_late_and_unrequested_responses_are_detected() {
        let mut session = session(3, 100);
        frame(&mut session, 0, 10);
        frame(&mut session, 0, 10);
        frame(&mut session, 7, 17);
        assert_eq!(errors(&session), [Some("answered more than once")]);
        assert_eq!(session.tally.protocol_errors.keys().collect::<Vec<_>>(), ["an answer to no request"]);
        frame(&mut session, 2, 12);
        frame(&mut session, 1, 11);
        assert!(errors(&session)[2].is_some_and(|why| why.contains("out of order")), "{:?}", errors(&session));
    }

    #[test]
    fn a_missing_response_is_an_error_and_later_ones_are_not() {
        let mut missing = session(2, 0);
        frame(&mut missing, 1, 11);
        missing.expire();
        assert_eq!(errors(&missing), [None, Some("no answer within 0 s")]);
        let mut lost = session(2, 100);
        lost.lost("closed");
        assert_eq!((errors(&lost), lost.pending()), (vec![Some("no answer: closed"); 2], 0));
    }

    #[test]
    fn stills_and_their_heads_belong_together() {
        let mut session = session(2, 100);
        session.binary(b"abc");
        session.text(r#"{"type":"Frame","index":0,"size":3,"frame":10}"#);
        session.text(r#"{"type":"Frame","index":1,"size":4,"frame":11}"#);
        session.binary(b"abc");
        session.text("no JSON");
        session.text(r#"{"type":"Error","message":"what?"}"#);
        assert_eq!(session.tally.protocol_errors.values().sum::<u64>(), 4, "{:?}", session.tally.protocol_errors);
        assert_eq!(errors(&session), [Some("a still with another size than its Frame says")]);
    }
}
