//! Fetches one range: attempts until all of it has arrived, hedged by a second request when the first one is slow.
//!
//! The bytes of a broken attempt are kept: the next one requests the rest. Of two requests under way, the first to
//! bring the next bytes is continued, and the other one dropped. Where the bytes go is left to the caller.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Response, StatusCode};
use tokio::select;
use tokio::time::{Instant, sleep, timeout};

use super::attempt::{Failure, Origin, Problem, Tried, Tries, ask, chunk, distrust, part, refusal, same, whole_of};
use super::confirmed::Confirmed;
use super::version::Version;
use crate::source::{ByteRange, Counters, Refusal};

/// The wait for the end of an answer whose bytes have all arrived.
const END: Duration = Duration::from_millis(5);
/// The wait for the connection's task to mark it idle.
const HOP: Duration = Duration::from_millis(1);
/// Bytes after which an attempt counts as progress.
const PROGRESS: u64 = 64 << 10;

/// The server and version of a fetch.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) origin: &'a Origin,
    pub(super) counters: &'a Counters,
    pub(super) version: &'a Version,
    pub(super) confirmed: &'a Confirmed,
}

/// One request, to the last byte of its answer.
struct Lane<'a> {
    asking: Asking<'a>,
    /// The bytes of the range that are missing.
    left: ByteRange,
    answer: Option<Response>,
    /// The bytes of this answer that are missing: a server may send less than was requested.
    of_answer: u64,
    /// Its bytes are counted already.
    is_counted: bool,
    /// All of the answer has arrived.
    is_ending: bool,
}

impl<'a> Lane<'a> {
    fn new(asking: Asking<'a>, left: ByteRange) -> Lane<'a> {
        Lane { asking, left, answer: None, of_answer: 0, is_counted: false, is_ending: false }
    }

    /// A lane for an answer to a request for `left`.
    fn begun(asking: Asking<'a>, left: ByteRange, answer: Response) -> Lane<'a> {
        Lane { answer: Some(answer), of_answer: left.len, is_counted: true, ..Lane::new(asking, left) }
    }

    /// The next bytes; `None` at the end of the answer.
    async fn next(&mut self) -> Tried<Option<Bytes>> {
        let Asking { origin, counters, version, confirmed } = self.asking;
        if self.answer.is_none() {
            let since = std::time::Instant::now();
            let answer = ask(origin, counters, self.left, Some(version)).await?;
            self.of_answer = accept(&answer, self.left, version)?;
            confirmed.note(since);
            self.answer = Some(answer);
        }
        let Some(answer) = self.answer.as_mut().filter(|_| self.of_answer > 0) else {
            self.finish().await;
            return Ok(None);
        };
        let Some(bytes) = chunk(&origin.options, answer).await? else {
            let early = format!("it ends {} bytes early", self.of_answer);
            return Err(Failure::Passing(Refusal::Answer(early), None));
        };
        let len = bytes.len() as u64;
        if len > self.of_answer {
            return distrust("it is longer than its Content-Range");
        }
        if !self.is_counted {
            counters.fetched(len);
        }
        self.of_answer -= len;
        self.left = ByteRange { start: self.left.start + len, len: self.left.len - len };
        if self.of_answer == 0 {
            origin.host.ends();
            self.is_ending = true;
        }
        Ok(Some(bytes))
    }
}

impl Lane<'_> {
    /// Lets the connection see the end of the answer, so that it serves the next request. Without this wait the next
    /// request opens a connection.
    async fn finish(&mut self) {
        if let Some(mut answer) = self.answer.take() {
            let _ = timeout(END, answer.chunk()).await;
            drop(answer);
            sleep(HOP).await;
        }
        if std::mem::take(&mut self.is_ending) {
            self.asking.origin.host.ended();
        }
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        if self.is_ending {
            self.asking.origin.host.ended();
        }
    }
}

/// The number of bytes of `left` that an answer brings.
fn accept(answer: &Response, left: ByteRange, version: &Version) -> Tried<u64> {
    match answer.status() {
        StatusCode::PARTIAL_CONTENT => {
            let (part, len) = part(answer, left)?;
            same(answer, len, version)?;
            Ok(part.len)
        }
        // The server sent parts before.
        StatusCode::OK => {
            whole_of(answer, version)?;
            Err(Failure::Passing(Refusal::Answer("it gives the whole instead of a part".to_owned()), None))
        }
        _ => Err(refusal(answer, true)),
    }
}

/// Fetches a range of the opened version, and passes bytes on as they arrive, until `arrive` ends the fetch. `begun` is
/// an answer to an earlier request for the range; its bytes are counted.
pub(super) async fn fetch(
    asking: Asking<'_>,
    wanted: ByteRange,
    begun: Option<Response>,
    arrive: &mut (dyn FnMut(Bytes) -> bool + Send),
) -> Result<(), Problem> {
    let mut tries = Tries::new(&asking.origin.options);
    tries.begin();
    let mut lane = match begun {
        Some(answer) => Lane::begun(asking, wanted, answer),
        None => Lane::new(asking, wanted),
    };
    let mut of_attempt = 0;
    loop {
        match tries.attempt(next(&mut lane)).await {
            Ok(Some(bytes)) => {
                of_attempt += bytes.len() as u64;
                if of_attempt >= PROGRESS {
                    tries.progressed();
                    of_attempt -= PROGRESS;
                }
                if !arrive(bytes) {
                    return Ok(());
                }
                continue;
            }
            Ok(None) if lane.left.len == 0 => return Ok(()),
            Ok(None) => {}
            Err(failure) => {
                tries.again(failure).await?;
            }
        }
        (lane, of_attempt) = (Lane::new(asking, lane.left), 0);
        tries.begin();
    }
}

/// The next bytes of a lane. If none arrive in time a second lane is opened; the first to bring bytes remains.
async fn next(lane: &mut Lane<'_>) -> Tried<Option<Bytes>> {
    let (asking, host) = (lane.asking, &lane.asking.origin.host);
    let (begun, is_first) = (Instant::now(), lane.answer.is_none());
    let note = |result: Tried<Option<Bytes>>| {
        if is_first && result.is_ok() {
            host.answered(begun.elapsed());
        }
        result
    };
    let Some(patience) = host.patience(is_first) else { return note(lane.next().await) };
    let mut beside = Lane::new(asking, lane.left);
    let result = {
        let mut first = pin!(lane.next());
        select! {
            result = &mut first => return note(result),
            () = sleep(patience) => {}
        }
        // Not at the limit of requests: a request that waits for its permit is not slow.
        let permit = host.permit_now();
        if permit.is_none() || !host.may_hedge() {
            return note(first.await);
        }
        asking.counters.hedged();
        let mut second = pin!(beside.next());
        select! {
            result = &mut first => match result {
                Ok(bytes) => return note(Ok(bytes)),
                Err(_) => second.await,
            },
            result = &mut second => match result {
                Ok(bytes) => Ok(bytes),
                Err(_) => return note(first.await),
            },
        }
    };
    *lane = beside;
    note(result)
}
