//! The bookkeeping of a WebSocket session: requests, responses, and whether every request got exactly one response.
//! `ws` transports the messages.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::expected::{Spot, Sums};
use super::tally::{Still, Tally};
use super::tickets::Ticket;
use crate::args::Order;

/// A message of the client.
#[derive(Debug, Serialize)]
#[serde(tag = "type")]
pub(super) enum Ask<'a> {
    SetVideo {
        path: &'a str,
    },
    RequestFrames {
        #[serde(skip_serializing_if = "Option::is_none")]
        irap_offset: Option<u64>,
        frames: [Wish; 1],
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
pub(super) struct Wish {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) frame: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<u64>,
    pub(super) index: u64,
}

/// A message of the server.
#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
pub(super) enum Told {
    VideoSet { ok: bool, error: Option<Value> },
    Frame(Header),
    FrameError { index: u64, error: String },
    Error { message: Option<String> },
}

/// The message before a still.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    index: u64,
    offset: Option<u64>,
    size: u64,
    frame: u32,
    pts: Option<i64>,
}

/// A request that waits for its response.
#[derive(Debug)]
struct Waiting {
    tag: u64,
    ticket: Ticket,
    since: Instant,
    sent: Instant,
    offset: Option<u64>,
    /// Later requests were answered before.
    is_overtaken: bool,
}

/// The state of a session.
pub(super) struct Session<'a> {
    order: Order,
    timeout: Duration,
    known: Option<&'a Sums>,
    next: u64,
    waiting: VecDeque<Waiting>,
    /// Places of responses in the tally, by their tags.
    answered: HashMap<u64, usize>,
    /// The message before the next still.
    header: Option<Header>,
    pub(super) tally: Tally,
}

impl<'a> Session<'a> {
    pub(super) fn new(order: Order, timeout: Duration, known: Option<&'a Sums>) -> Session<'a> {
        let (waiting, answered) = (VecDeque::new(), HashMap::new());
        Session { order, timeout, known, next: 0, waiting, answered, header: None, tally: Tally::default() }
    }

    /// The number of frames that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The time at which the oldest of them counts as missing.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|waiting| waiting.sent + self.timeout)
    }

    /// Registers a request for a frame; by its sample's offset, if that is given.
    pub(super) fn ask(&mut self, ticket: Ticket, spot: Option<Spot>) -> Wish {
        let (tag, sent) = (self.next, Instant::now());
        self.next += 1;
        let offset = spot.map(|spot| spot.offset);
        let since = ticket.due.unwrap_or(sent);
        self.waiting.push_back(Waiting { tag, ticket, since, sent, offset, is_overtaken: false });
        Wish { frame: spot.is_none().then_some(ticket.frame), offset, index: tag }
    }

    /// Takes a text message.
    pub(super) fn text(&mut self, text: &str) {
        if self.header.take().is_some() {
            self.tally.stray("a Frame without its still");
        }
        match serde_json::from_str(text) {
            Ok(Told::Frame(header)) => self.header = Some(header),
            Ok(Told::FrameError { index, error }) => {
                self.tally.count(&error[..]);
                if let Some(waiting) = self.answer(index) {
                    self.put(&waiting, error);
                }
            }
            Ok(Told::Error { message }) => {
                self.tally.count("Error");
                self.tally.stray(format!("an Error: {}", message.unwrap_or_default()));
            }
            Ok(Told::VideoSet { .. }) => self.tally.stray("a VideoSet without a SetVideo"),
            Err(_) => self.tally.stray("a message outside of the protocol"),
        }
    }

    /// Takes a binary message.
    pub(super) fn binary(&mut self, bytes: &[u8]) {
        let now = Instant::now();
        let Some(header) = self.header.take() else { return self.tally.stray("a still without its Frame") };
        self.tally.count("Frame");
        let Some(waiting) = self.answer(header.index) else { return self.tally.bytes += bytes.len() as u64 };
        if header.size != bytes.len() as u64 {
            return self.put(&waiting, "a still with another size than its Frame says".to_owned());
        }
        if waiting.is_overtaken {
            return self.put(&waiting, "answered out of order, after frames that were requested later".to_owned());
        }
        // A still of another sample than the requested one is another frame, whatever its number.
        let is_there = waiting.offset.is_none() || waiting.offset == header.offset;
        let index = Some(if is_there { header.frame } else { u32::MAX });
        let latency = now.saturating_duration_since(waiting.since);
        let still = Still { frame: waiting.ticket.frame, index, pts: header.pts, latency, bytes };
        self.answered.insert(waiting.tag, self.tally.came.len());
        self.tally.still(waiting.ticket.place, &still, self.known);
    }

    /// Gives up requests that have waited too long.
    pub(super) fn expire(&mut self) {
        let (now, timeout) = (Instant::now(), self.timeout);
        while self.waiting.front().is_some_and(|waiting| waiting.sent + timeout <= now)
            && let Some(waiting) = self.waiting.pop_front()
        {
            self.tally.count("missing");
            self.put(&waiting, format!("no answer within {} s", timeout.as_secs_f64()));
        }
    }

    /// The connection has gone: requests that wait, and the frame that is announced, are lost.
    pub(super) fn lost(&mut self, why: &str) {
        self.header = None;
        while let Some(waiting) = self.waiting.pop_front() {
            self.tally.count("lost");
            self.put(&waiting, format!("no answer: {why}"));
        }
    }

    /// The request with this tag, if it waits; none for a second response, or a response to no request.
    fn answer(&mut self, tag: u64) -> Option<Waiting> {
        let Some(place) = self.waiting.iter().position(|waiting| waiting.tag == tag) else {
            self.unexpected(tag);
            return None;
        };
        if self.order == Order::Fifo {
            self.waiting.iter_mut().take(place).for_each(|older| older.is_overtaken = true);
        }
        self.waiting.remove(place)
    }

    fn unexpected(&mut self, tag: u64) {
        let Some(&at) = self.answered.get(&tag) else { return self.tally.stray("an answer to no request") };
        let answer = &mut self.tally.came[at].answer;
        match &mut answer.error {
            // The request counts as missing: a late response does not change that.
            Some(_) => self.tally.stray("a second or late answer to a request"),
            error => *error = Some("answered more than once".to_owned()),
        }
    }

    fn put(&mut self, waiting: &Waiting, why: String) {
        self.answered.insert(waiting.tag, self.tally.came.len());
        self.tally.error(waiting.ticket.place, waiting.ticket.frame, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(asked: usize, timeout: u64) -> Session<'static> {
        let mut session = Session::new(Order::Fifo, Duration::from_secs(timeout), None);
        for place in 0..asked {
            session.ask(Ticket { place, frame: 10 + place as u32, due: None }, None);
        }
        session
    }

    fn frame(session: &mut Session<'_>, index: u64, frame: u32) {
        session.text(&format!(
            r#"{{"type":"Frame","index":{index},"offset":1,"size":3,"frame":{frame},"pts":5,"time_s":1.0,"key":false}}"#
        ));
        session.binary(b"abc");
    }

    fn errors<'a>(session: &'a Session<'_>) -> Vec<Option<&'a str>> {
        session.tally.came.iter().map(|came| came.answer.error.as_deref()).collect()
    }

    #[test]
    fn an_answer_for_each_is_all_that_is_wanted() {
        let mut session = session(3, 100);
        frame(&mut session, 0, 10);
        session.text(r#"{"type":"FrameError","index":1,"offset":7,"error":"decode_failed"}"#);
        frame(&mut session, 2, 12);
        assert_eq!(errors(&session), [None, Some("decode_failed"), None]);
        assert_eq!((session.waiting(), session.tally.strays.len(), session.tally.bytes), (0, 0, 6));
        assert_eq!(session.tally.came[0].pts, Some(5));
    }

    #[test]
    fn another_frame_is_wrong() {
        let mut session = session(1, 100);
        frame(&mut session, 0, 11);
        assert_eq!((errors(&session), session.tally.came[0].wrong), (vec![None], Some(true)));
        let mut by_offset = Session::new(Order::Fifo, Duration::from_secs(100), None);
        let spot = Spot { offset: 2, irap_offset: 0 };
        by_offset.ask(Ticket { place: 0, frame: 10, due: None }, Some(spot));
        frame(&mut by_offset, 0, 10);
        assert_eq!(by_offset.tally.came[0].wrong, Some(true), "the sample at 1 is not the one at 2");
    }

    #[test]
    fn what_comes_twice_or_late_or_for_nobody_is_seen() {
        let mut session = session(3, 100);
        frame(&mut session, 0, 10);
        frame(&mut session, 0, 10);
        frame(&mut session, 7, 17);
        assert_eq!(errors(&session), [Some("answered more than once")]);
        assert_eq!(session.tally.strays.keys().collect::<Vec<_>>(), ["an answer to no request"]);
        frame(&mut session, 2, 12);
        frame(&mut session, 1, 11);
        assert!(errors(&session)[2].is_some_and(|why| why.contains("out of order")), "{:?}", errors(&session));
    }

    #[test]
    fn what_does_not_come_is_missing_and_what_follows_is_not_blamed() {
        let mut missing = session(2, 0);
        frame(&mut missing, 1, 11);
        missing.expire();
        assert_eq!(errors(&missing), [None, Some("no answer within 0 s")]);
        let mut lost = session(2, 100);
        lost.lost("closed");
        assert_eq!((errors(&lost), lost.waiting()), (vec![Some("no answer: closed"); 2], 0));
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
        assert_eq!(session.tally.strays.values().sum::<u64>(), 4, "{:?}", session.tally.strays);
        assert_eq!(errors(&session), [Some("a still with another size than its Frame says")]);
    }
}
