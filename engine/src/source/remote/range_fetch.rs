//! Fetches one range: attempts until all of it has arrived, hedged by a second request when the first one is slow.
//!
//! The bytes of a broken attempt are kept: the next one requests the rest. Of two requests in flight, the first to
//! bring the next bytes is continued, and the other one dropped. Where the bytes go is left to the caller.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Response, StatusCode};
use tokio::select;
use tokio::time::{Instant, sleep, timeout};

use super::request::{
    FetchError, Origin, RequestFailure, RequestResult, RetryState, check_whole, chunk, invalid_answer, part, refusal,
    request_range, same,
};
use super::validation::ValidationTime;
use super::version::ObjectVersion;
use crate::source::{ByteRange, ReadCounters, Refusal};

/// The wait for the end of an answer whose bytes have all arrived.
const END: Duration = Duration::from_millis(5);
/// The wait for the connection's task to mark it idle.
const HOP: Duration = Duration::from_millis(1);
/// Bytes after which an attempt counts as progress.
const PROGRESS: u64 = 64 << 10;

/// The server and version of a fetch.
#[derive(Clone, Copy)]
pub(super) struct FetchContext<'a> {
    pub(super) origin: &'a Origin,
    pub(super) counters: &'a ReadCounters,
    pub(super) version: &'a ObjectVersion,
    pub(super) validated: &'a ValidationTime,
}

/// One request, to the last byte of its answer.
struct RangeStream<'a> {
    context: FetchContext<'a>,
    /// The bytes of the range that are missing.
    left: ByteRange,
    answer: Option<Response>,
    /// The bytes of this answer that are missing: a server may send less than was requested.
    of_answer: u64,
    /// The bytes of the answer are counted already.
    is_counted: bool,
    /// All of the answer has arrived.
    is_ending: bool,
}

impl<'a> RangeStream<'a> {
    fn new(context: FetchContext<'a>, left: ByteRange) -> RangeStream<'a> {
        RangeStream { context, left, answer: None, of_answer: 0, is_counted: false, is_ending: false }
    }

    /// A stream for an answer to a request for `left`.
    fn from_response(context: FetchContext<'a>, left: ByteRange, answer: Response) -> RangeStream<'a> {
        RangeStream { answer: Some(answer), of_answer: left.len, is_counted: true, ..RangeStream::new(context, left) }
    }

    /// The next bytes; `None` at the end of the answer.
    async fn next(&mut self) -> RequestResult<Option<Bytes>> {
        let FetchContext { origin, counters, version, validated: confirmed } = self.context;
        if self.answer.is_none() {
            let since = std::time::Instant::now();
            let answer = request_range(origin, counters, self.left, Some(version)).await?;
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
            return Err(RequestFailure::Transient(Refusal::Answer(early), None));
        };
        let len = bytes.len() as u64;
        if len > self.of_answer {
            return invalid_answer("it is longer than its Content-Range");
        }
        if !self.is_counted {
            counters.fetched(len);
        }
        self.of_answer -= len;
        self.left = ByteRange { start: self.left.start + len, len: self.left.len - len };
        if self.of_answer == 0 {
            origin.host.begin_release();
            self.is_ending = true;
        }
        Ok(Some(bytes))
    }
}

impl RangeStream<'_> {
    /// Reads to the end of the answer, so that its connection becomes idle and serves the next request; otherwise that
    /// request opens a connection.
    async fn finish(&mut self) {
        if let Some(mut answer) = self.answer.take() {
            let _ = timeout(END, answer.chunk()).await;
            drop(answer);
            sleep(HOP).await;
        }
        if std::mem::take(&mut self.is_ending) {
            self.context.origin.host.finish_release();
        }
    }
}

impl Drop for RangeStream<'_> {
    fn drop(&mut self) {
        if self.is_ending {
            self.context.origin.host.finish_release();
        }
    }
}

/// The number of bytes of `left` that an answer brings.
fn accept(answer: &Response, left: ByteRange, version: &ObjectVersion) -> RequestResult<u64> {
    match answer.status() {
        StatusCode::PARTIAL_CONTENT => {
            let (part, len) = part(answer, left)?;
            same(answer, len, version)?;
            Ok(part.len)
        }
        // The server sent parts before.
        StatusCode::OK => {
            check_whole(answer, version)?;
            Err(RequestFailure::Transient(Refusal::Answer("it gives the whole instead of a part".to_owned()), None))
        }
        _ => Err(refusal(answer, true)),
    }
}

/// Fetches a range of the opened version, and passes bytes on as they arrive, until `arrive` ends the fetch.
/// `first_response` is an answer to an earlier request for the range; its bytes are counted already.
pub(super) async fn fetch(
    context: FetchContext<'_>,
    range: ByteRange,
    first_response: Option<Response>,
    arrive: &mut (dyn FnMut(Bytes) -> bool + Send),
) -> Result<(), FetchError> {
    let mut retries = RetryState::new(&context.origin.options);
    retries.begin();
    let mut stream = match first_response {
        Some(answer) => RangeStream::from_response(context, range, answer),
        None => RangeStream::new(context, range),
    };
    let mut of_attempt = 0;
    loop {
        match retries.run(next(&mut stream)).await {
            Ok(Some(bytes)) => {
                of_attempt += bytes.len() as u64;
                if of_attempt >= PROGRESS {
                    retries.reset();
                    of_attempt -= PROGRESS;
                }
                if !arrive(bytes) {
                    return Ok(());
                }
                continue;
            }
            Ok(None) if stream.left.len == 0 => return Ok(()),
            Ok(None) => {}
            Err(failure) => {
                retries.back_off(failure).await?;
            }
        }
        (stream, of_attempt) = (RangeStream::new(context, stream.left), 0);
        retries.begin();
    }
}

/// The next bytes of a stream. If none arrive within the delay of [`HostLimiter`](super::host::HostLimiter), a second
/// request is sent (hedging), and the stream that brings bytes first is kept.
async fn next(stream: &mut RangeStream<'_>) -> RequestResult<Option<Bytes>> {
    let (context, host) = (stream.context, &stream.context.origin.host);
    let (begun, is_first) = (Instant::now(), stream.answer.is_none());
    let note = |result: RequestResult<Option<Bytes>>| {
        if is_first && result.is_ok() {
            host.record_latency(begun.elapsed());
        }
        result
    };
    let Some(patience) = host.hedge_delay(is_first) else { return note(stream.next().await) };
    let mut hedge = RangeStream::new(context, stream.left);
    let result = {
        let mut first = pin!(stream.next());
        select! {
            result = &mut first => return note(result),
            () = sleep(patience) => {}
        }
        // Not at the limit of requests: a request that waits for its permit is not slow.
        let permit = host.permit_now();
        if permit.is_none() || !host.may_hedge() {
            return note(first.await);
        }
        context.counters.hedged();
        let mut second = pin!(hedge.next());
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
    *stream = hedge;
    note(result)
}
