//! Requests: their headers, the checks of their answers, and which failures are worth another attempt.
//!
//! A request for a range demands the version that was opened (`If-Match`), so that parts of two versions never mix. The
//! options limit each step, and all of them together. Fetching a range completely is left to `lane`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Response, StatusCode, Url};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout, timeout_at};

#[cfg(feature = "stores")]
use super::authority::{Authority, Verdict};
use super::client::Connections;
use super::host::Host;
use super::options::HttpOptions;
use super::public::{PRIVATE, is_private};
use super::redirect::{self, Lost};
use super::version::Version;
use crate::error::{Error, ErrorKind};
use crate::source::{ByteRange, Counters, Refusal};

/// Why there are no bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// The server has another version than the one that was opened.
    Changed,
    Refused(Refusal),
}

impl Problem {
    /// Whether the opened version no longer exists.
    pub(super) fn is_end(&self) -> bool {
        match self {
            Problem::Changed | Problem::Refused(Refusal::NotFound(_)) => true,
            #[cfg(feature = "stores")]
            Problem::Refused(Refusal::Store { status, .. }) => matches!(status, 404 | 410),
            Problem::Refused(_) => false,
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Error {
        match problem {
            Problem::Changed => ErrorKind::Changed.into(),
            Problem::Refused(refusal) => ErrorKind::Remote(refusal).into(),
        }
    }
}

/// How an attempt failed.
pub(super) enum Failure {
    /// Another attempt would fail too.
    Final(Problem),
    /// Another attempt may succeed, after the pause that the server demands, if any.
    Passing(Refusal, Option<Duration>),
}

pub(super) type Tried<T> = Result<T, Failure>;

pub(super) fn refused<T>(refusal: Refusal) -> Tried<T> {
    Err(Failure::Final(Problem::Refused(refusal)))
}

pub(super) fn distrust<T>(what: impl Into<String>) -> Tried<T> {
    refused(Refusal::Answer(what.into()))
}

/// Where requests go, over which connections, and with which options.
pub(super) struct Origin {
    pub(super) connections: Arc<Connections>,
    pub(super) place: Place,
    /// Statistics of the server.
    pub(super) host: Arc<Host>,
    pub(super) options: HttpOptions,
}

/// The address of requests, and their headers.
pub(super) enum Place {
    /// A fixed address, with the user's headers.
    Named(Url, HeaderMap),
    /// The authority chooses both for each request.
    #[cfg(feature = "stores")]
    Store(Arc<dyn Authority>),
}

/// Without the address's secrets and the headers' values.
impl std::fmt::Debug for Origin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Origin").field("options", &self.options).finish_non_exhaustive()
    }
}

/// The attempts made for one range, and its deadline.
pub(super) struct Tries<'a> {
    options: &'a HttpOptions,
    made: u32,
    deadline: Instant,
}

impl<'a> Tries<'a> {
    pub(super) fn new(options: &'a HttpOptions) -> Tries<'a> {
        Tries { options, made: 0, deadline: Instant::now() + options.deadline }
    }

    /// Counts an attempt.
    pub(super) fn begin(&mut self) {
        self.made += 1;
    }

    /// Resets the count and the deadline: an attempt that makes progress has not failed, and is not late.
    pub(super) fn progressed(&mut self) {
        self.made = 0;
        self.deadline = Instant::now() + self.options.deadline;
    }

    /// Runs an attempt, or a part of one, until the deadline.
    pub(super) async fn attempt<T>(&mut self, attempt: impl Future<Output = Tried<T>>) -> Tried<T> {
        let late = Refusal::Timeout { what: "the bytes", limit: self.options.deadline };
        timeout_at(self.deadline, attempt).await.unwrap_or_else(|_| refused(late))
    }

    /// Waits until the next attempt is due; fails if there is none.
    pub(super) async fn again(&mut self, failure: Failure) -> Result<(), Problem> {
        let (why, after) = match failure {
            Failure::Final(problem) => return Err(problem),
            Failure::Passing(why, after) => (why, after),
        };
        // Exponential back-off, with jitter.
        let pause = Duration::from_millis(100 << self.made.min(6)).mul_f64(0.5 + 0.5 * fastrand::f64());
        let pause = pause.max(after.unwrap_or_default());
        if self.made >= self.options.attempts || Instant::now() + pause >= self.deadline {
            return Err(Problem::Refused(why));
        }
        sleep(pause).await;
        Ok(())
    }
}

/// An answer whose body is on its way. It holds its permit until the body has arrived.
pub(super) struct Begun {
    pub(super) answer: Response,
    pub(super) permit: OwnedSemaphorePermit,
}

/// The result of the opening request.
pub(super) enum Opened {
    /// A partial answer, and the range of its body.
    Part(Begun, ByteRange),
    /// The complete file, of a server without ranges.
    Whole(Bytes),
}

/// Requests the first block, and learns the version.
pub(super) async fn open(origin: &Origin, counters: &Counters) -> Result<(Version, Opened), Problem> {
    let mut tries = Tries::new(&origin.options);
    loop {
        tries.begin();
        match tries.attempt(first(origin, counters)).await {
            Ok(opened) => return Ok(opened),
            Err(failure) => tries.again(failure).await?,
        }
    }
}

async fn first(origin: &Origin, counters: &Counters) -> Tried<(Version, Opened)> {
    let wanted = ByteRange { start: 0, len: origin.options.block.max(1) };
    let permit = origin.host.permit().await;
    let response = ask(origin, counters, wanted, None).await?;
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let (part, len) = part(&response, wanted)?;
            Ok((Version::of(response.headers(), len), Opened::Part(Begun { answer: response, permit }, part)))
        }
        StatusCode::OK => {
            plain(&response)?;
            let headers = response.headers().clone();
            let bytes = whole(origin, counters, response).await?;
            Ok((Version::of(&headers, bytes.len() as u64), Opened::Whole(bytes)))
        }
        // An empty file has no first byte.
        StatusCode::RANGE_NOT_SATISFIABLE
            if text(response.headers(), header::CONTENT_RANGE).is_some_and(is_of_none) =>
        {
            Ok((Version::of(response.headers(), 0), Opened::Whole(Bytes::new())))
        }
        _ => Err(refusal(&response, false)),
    }
}

/// Asks for one byte, with the version as the condition: fails if that is not current.
pub(super) async fn confirm(origin: &Origin, counters: &Counters, version: &Version) -> Tried<()> {
    let wanted = ByteRange { start: 0, len: 1 };
    let mut response = ask(origin, counters, wanted, Some(version)).await?;
    let is_part = match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let (_, len) = part(&response, wanted)?;
            same(&response, len, version)?;
            true
        }
        // Of a server without ranges, the head suffices.
        StatusCode::OK => {
            whole_of(&response, version)?;
            false
        }
        _ => return Err(refusal(&response, true)),
    };
    // Read to the end, so that the connection serves the next request.
    while is_part && let Some(bytes) = chunk(&origin.options, &mut response).await? {
        counters.fetched(bytes.len() as u64);
    }
    Ok(())
}

/// Fails unless an answer is of the version that was opened.
pub(super) fn same(response: &Response, len: u64, version: &Version) -> Tried<()> {
    let is_same = version.is(&Version::of(response.headers(), len));
    if is_same { Ok(()) } else { Err(Failure::Final(Problem::Changed)) }
}

/// The same for a complete answer, which need not state its length.
pub(super) fn whole_of(response: &Response, version: &Version) -> Tried<()> {
    plain(response)?;
    same(response, response.content_length().unwrap_or(version.len), version)
}

fn is_of_none(content_range: String) -> bool {
    content_range.strip_prefix("bytes */") == Some("0")
}

/// Requests a range, and waits for the head of the answer.
pub(super) async fn ask(
    origin: &Origin,
    counters: &Counters,
    wanted: ByteRange,
    version: Option<&Version>,
) -> Tried<Response> {
    let conditions = conditions(wanted, version)?;
    match &origin.place {
        Place::Named(url, headers) => {
            let mut headers = headers.clone();
            headers.extend(conditions);
            send(origin, counters, url.clone(), headers, Some(origin.options.redirects)).await
        }
        #[cfg(feature = "stores")]
        Place::Store(authority) => admitted(origin, &**authority, counters, &conditions).await,
    }
}

/// The headers of range and version.
fn conditions(wanted: ByteRange, version: Option<&Version>) -> Tried<HeaderMap> {
    let range = HeaderValue::try_from(format!("bytes={}-{}", wanted.start, wanted.end() - 1)).expect("digits");
    let mut headers = HeaderMap::from_iter([(header::RANGE, range)]);
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(condition) = version.and_then(Version::condition) {
        let Ok((name, value)) = condition else { return distrust("its ETag or date is not valid in a header") };
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Sends a request as the authority of a store demands; a second one if the refusal says how to correct it.
#[cfg(feature = "stores")]
pub(super) async fn admitted(
    origin: &Origin,
    authority: &dyn Authority,
    counters: &Counters,
    conditions: &HeaderMap,
) -> Tried<Response> {
    let mut is_repeated = false;
    loop {
        let (url, headers) = authority.admit(conditions.clone()).await.map_err(not_admitted)?;
        let response = send(origin, counters, url, headers, None).await?;
        match authority.judge(response).await {
            Verdict::Answer(response) => return Ok(response),
            Verdict::Again(_) if !is_repeated => is_repeated = true,
            Verdict::Again(refusal) | Verdict::Refused(refusal) => return refused(refusal),
        }
    }
}

/// Fetching credentials may fail as a request does.
#[cfg(feature = "stores")]
fn not_admitted(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Connection(_) | Refusal::Timeout { .. } | Refusal::Busy(_) => Failure::Passing(refusal, None),
        _ => Failure::Final(Problem::Refused(refusal)),
    }
}

/// Sends a request, follows up to `redirects` redirects, and waits for the head of the answer. With `None`, a redirect
/// is an answer.
async fn send(
    origin: &Origin,
    counters: &Counters,
    url: Url,
    headers: HeaderMap,
    redirects: Option<usize>,
) -> Tried<Response> {
    let client = match origin.connections.to(&url) {
        Ok(client) => client,
        Err(refusal) => return refused(refusal),
    };
    let request = client.get(url).headers(headers);
    counters.request();
    origin.host.asked();
    let limit = origin.options.first_byte_timeout;
    match timeout(limit, redirect::send(&origin.connections, request, redirects)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(Lost::Astray)) => distrust("it redirects too often, or without a valid address"),
        Ok(Err(Lost::Unsent(refusal))) => refused(refusal),
        Ok(Err(Lost::Failed(error))) => Err(unanswered(origin, error)),
        Err(_) => Err(Failure::Passing(Refusal::Timeout { what: "an answer", limit }, None)),
    }
}

/// Classifies a request that got no answer.
fn unanswered(origin: &Origin, error: reqwest::Error) -> Failure {
    let limit = origin.options.connect_timeout;
    if error.is_builder() {
        return Failure::Final(Problem::Refused(Refusal::Address(reason(error))));
    }
    if is_private(&error) {
        return Failure::Final(Problem::Refused(PRIVATE));
    }
    if let Some(why) = certificate(&error) {
        let why = format!("the server's certificate is not accepted ({why}): does this machine trust its authority?");
        return Failure::Final(Problem::Refused(Refusal::Connection(why)));
    }
    match error.is_connect() && error.is_timeout() {
        true => Failure::Passing(Refusal::Timeout { what: "a connection", limit }, None),
        false => Failure::Passing(Refusal::Connection(reason(error)), None),
    }
}

/// Why a certificate is not accepted, if that is the error.
fn certificate(error: &reqwest::Error) -> Option<String> {
    let mut at: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = at {
        if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
            return Some(why.to_string());
        }
        // The source of an I/O error skips the error that it wraps: it has to be taken out.
        at = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The innermost cause, without the address, which may hold secrets.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut bottom: &dyn std::error::Error = &error;
    while let Some(source) = bottom.source() {
        bottom = source;
    }
    bottom.to_string()
}

/// The range of a partial answer and the length of the file. The range must begin where the request does.
pub(super) fn part(response: &Response, wanted: ByteRange) -> Tried<(ByteRange, u64)> {
    plain(response)?;
    let Some(told) = text(response.headers(), header::CONTENT_RANGE) else {
        return distrust("it does not say which part it is (no single Content-Range)");
    };
    let Some((start, end, len)) = content_range(&told) else {
        return distrust(format!("its Content-Range is {told:?}"));
    };
    let part = ByteRange { start, len: end - start };
    if start != wanted.start || end > wanted.end() || end > len || part.len == 0 {
        let asked = format!("{}-{}", wanted.start, wanted.end() - 1);
        return distrust(format!("bytes {asked} were asked for, {told:?} came"));
    }
    match response.content_length() {
        Some(told) if told != part.len => distrust(format!("{told} bytes are said to be {} bytes", part.len)),
        _ => Ok((part, len)),
    }
}

/// Start, end and length of `bytes 0-65535/1234567`.
fn content_range(told: &str) -> Option<(u64, u64, u64)> {
    let (range, len) = told.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (start, end) = (first.trim().parse().ok()?, last.trim().parse::<u64>().ok()?.checked_add(1)?);
    // libavformat counts bytes in a signed number.
    let len = len.trim().parse().ok().filter(|&len| i64::try_from(len).is_ok())?;
    (start < end).then_some((start, end, len))
}

/// Refuses compressed answers.
fn plain(response: &Response) -> Tried<()> {
    match text(response.headers(), header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.eq_ignore_ascii_case("identity") => refused(Refusal::Compressed(encoding)),
        _ => Ok(()),
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(|value| value.trim().to_owned())
}

/// Classifies a status without bytes.
pub(super) fn refusal(response: &Response, is_open: bool) -> Failure {
    let status = response.status().as_u16();
    let after = text(response.headers(), header::RETRY_AFTER).and_then(|seconds| seconds.parse::<u32>().ok());
    let refusal = match status {
        // The condition does not hold, or the range lies past the end.
        412 | 416 if is_open => return Failure::Final(Problem::Changed),
        401 => Refusal::Unauthorized,
        403 => Refusal::Forbidden,
        404 | 410 => Refusal::NotFound(status),
        408 | 429 | 500 | 502..=504 => {
            return Failure::Passing(Refusal::Busy(status), after.map(|seconds| Duration::from_secs(seconds.into())));
        }
        _ => Refusal::Status(status),
    };
    Failure::Final(Problem::Refused(refusal))
}

/// The next bytes of a body; `None` at its end.
pub(super) async fn chunk(options: &HttpOptions, response: &mut Response) -> Tried<Option<Bytes>> {
    let limit = options.stall_timeout;
    match timeout(limit, response.chunk()).await {
        Ok(Ok(chunk)) => Ok(chunk),
        Ok(Err(error)) => Err(Failure::Passing(Refusal::Connection(reason(error)), None)),
        Err(_) => Err(Failure::Passing(Refusal::Timeout { what: "more of the answer", limit }, None)),
    }
}

/// The body of a server without ranges, up to half of the cache.
async fn whole(origin: &Origin, counters: &Counters, mut response: Response) -> Tried<Bytes> {
    let limit = origin.options.cache / 2;
    let told = response.content_length();
    if told.is_some_and(|told| told > limit) {
        return refused(Refusal::NoRanges { limit });
    }
    let mut all = Vec::new();
    while let Some(bytes) = chunk(&origin.options, &mut response).await? {
        counters.fetched(bytes.len() as u64);
        all.extend_from_slice(&bytes);
        if all.len() as u64 > limit {
            return refused(Refusal::NoRanges { limit });
        }
    }
    Ok(all.into())
}

#[cfg(test)]
mod tests {
    use super::content_range;

    #[test]
    fn content_ranges_are_read_or_refused() {
        assert_eq!(content_range("bytes 0-65535/1234567"), Some((0, 65_536, 1_234_567)));
        for senseless in ["", "bytes", "bytes 5-4/10", "bytes 0-9/*", "bytes */10", "items 0-9/10", "bytes -1-9/10"] {
            assert_eq!(content_range(senseless), None, "{senseless}");
        }
        assert_eq!(content_range("bytes 0-18446744073709551615/10"), None);
        assert_eq!(content_range("bytes 0-9/18446744073709551615"), None);
    }
}
