//! Requests: their headers, the checks of their answers, and which failures are worth another attempt.
//!
//! A request for a range demands the version that was opened (`If-Match`), so that parts of two versions never mix. The
//! options limit each step, and all of them together. Fetching a range completely is left to `range_fetch`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Response, StatusCode, Url};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::client::ClientPool;
use super::host::HostLimiter;
use super::options::HttpOptions;
use super::public::{PRIVATE, is_private};
use super::redirect::{self, SendError};
#[cfg(feature = "stores")]
use super::signer::{RequestSigner, StoreResponse};
use super::version::ObjectVersion;
use crate::error::{Error, ErrorKind};
use crate::source::{ByteRange, ReadCounters, Refusal};

/// The reason why a fetch brings no bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FetchError {
    /// The server has another version than the one that was opened.
    Changed,
    Refused(Refusal),
}

impl FetchError {
    /// Whether the opened version no longer exists.
    pub(super) fn is_end(&self) -> bool {
        match self {
            FetchError::Changed | FetchError::Refused(Refusal::NotFound(_)) => true,
            #[cfg(feature = "stores")]
            FetchError::Refused(Refusal::Store { status, .. }) => matches!(status, 404 | 410),
            FetchError::Refused(_) => false,
        }
    }
}

impl From<FetchError> for Error {
    fn from(problem: FetchError) -> Error {
        match problem {
            FetchError::Changed => ErrorKind::Changed.into(),
            FetchError::Refused(refusal) => ErrorKind::Remote(refusal).into(),
        }
    }
}

/// The failure of an attempt.
pub(super) enum RequestFailure {
    /// Another attempt would fail too.
    Final(FetchError),
    /// Another attempt may succeed, after the pause that the server demands, if any.
    Transient(Refusal, Option<Duration>),
}

pub(super) type RequestResult<T> = Result<T, RequestFailure>;

pub(super) fn refused<T>(refusal: Refusal) -> RequestResult<T> {
    Err(RequestFailure::Final(FetchError::Refused(refusal)))
}

pub(super) fn invalid_answer<T>(what: impl Into<String>) -> RequestResult<T> {
    refused(Refusal::Answer(what.into()))
}

/// The destination of requests, with their connections and options.
pub(super) struct Origin {
    pub(super) connections: Arc<ClientPool>,
    pub(super) endpoint: Endpoint,
    /// Statistics of the server.
    pub(super) host: Arc<HostLimiter>,
    pub(super) options: HttpOptions,
}

/// The address of requests, and their headers.
pub(super) enum Endpoint {
    /// A fixed address, with the user's headers.
    Fixed(Url, HeaderMap),
    /// The signer chooses both for each request.
    #[cfg(feature = "stores")]
    Store(Arc<dyn RequestSigner>),
}

/// Without the address's secrets and the headers' values.
impl std::fmt::Debug for Origin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Origin").field("options", &self.options).finish_non_exhaustive()
    }
}

/// The attempts made for one range, and its deadline.
pub(super) struct RetryState<'a> {
    options: &'a HttpOptions,
    attempts: u32,
    deadline: Instant,
}

impl<'a> RetryState<'a> {
    pub(super) fn new(options: &'a HttpOptions) -> RetryState<'a> {
        RetryState { options, attempts: 0, deadline: Instant::now() + options.deadline }
    }

    /// Counts an attempt.
    pub(super) fn begin(&mut self) {
        self.attempts += 1;
    }

    /// Resets the count and the deadline: an attempt that makes progress has not failed, and is not late.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
        self.deadline = Instant::now() + self.options.deadline;
    }

    /// Runs an attempt, or a part of one, until the deadline.
    pub(super) async fn run<T>(&mut self, attempt: impl Future<Output = RequestResult<T>>) -> RequestResult<T> {
        let late = Refusal::Timeout { what: "the bytes", limit: self.options.deadline };
        timeout_at(self.deadline, attempt).await.unwrap_or_else(|_| refused(late))
    }

    /// Waits until the next attempt is due; fails if there is none.
    pub(super) async fn back_off(&mut self, failure: RequestFailure) -> Result<(), FetchError> {
        let (why, after) = match failure {
            RequestFailure::Final(problem) => return Err(problem),
            RequestFailure::Transient(why, after) => (why, after),
        };
        // Exponential back-off, with jitter.
        let pause = Duration::from_millis(100 << self.attempts.min(6)).mul_f64(0.5 + 0.5 * fastrand::f64());
        let pause = pause.max(after.unwrap_or_default());
        if self.attempts >= self.options.attempts || Instant::now() + pause >= self.deadline {
            return Err(FetchError::Refused(why));
        }
        sleep(pause).await;
        Ok(())
    }
}

/// An answer with its body in flight. It holds its permit until the body has arrived.
pub(super) struct PendingResponse {
    pub(super) answer: Response,
    pub(super) permit: OwnedSemaphorePermit,
}

/// The result of the opening request.
pub(super) enum FirstResponse {
    /// A partial answer, and the range of its body.
    Part(PendingResponse, ByteRange),
    /// The complete file, of a server without ranges.
    Whole(Bytes),
}

/// Requests the first block, and learns the version.
pub(super) async fn open(
    origin: &Origin,
    counters: &ReadCounters,
) -> Result<(ObjectVersion, FirstResponse), FetchError> {
    let mut retries = RetryState::new(&origin.options);
    loop {
        retries.begin();
        match retries.run(first(origin, counters)).await {
            Ok(opened) => return Ok(opened),
            Err(failure) => retries.back_off(failure).await?,
        }
    }
}

async fn first(origin: &Origin, counters: &ReadCounters) -> RequestResult<(ObjectVersion, FirstResponse)> {
    let range = ByteRange { start: 0, len: origin.options.block.max(1) };
    let permit = origin.host.permit().await;
    let response = request_range(origin, counters, range, None).await?;
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let (part, len) = part(&response, range)?;
            Ok((
                ObjectVersion::of(response.headers(), len),
                FirstResponse::Part(PendingResponse { answer: response, permit }, part),
            ))
        }
        StatusCode::OK => {
            plain(&response)?;
            let headers = response.headers().clone();
            let bytes = whole(origin, counters, response).await?;
            Ok((ObjectVersion::of(&headers, bytes.len() as u64), FirstResponse::Whole(bytes)))
        }
        // An empty file has no first byte.
        StatusCode::RANGE_NOT_SATISFIABLE
            if text(response.headers(), header::CONTENT_RANGE).is_some_and(is_of_none) =>
        {
            Ok((ObjectVersion::of(response.headers(), 0), FirstResponse::Whole(Bytes::new())))
        }
        _ => Err(refusal(&response, false)),
    }
}

/// Requests one byte on the condition of the version (RFC 9110 13.1): fails if the server has another one.
pub(super) async fn revalidate(origin: &Origin, counters: &ReadCounters, version: &ObjectVersion) -> RequestResult<()> {
    let range = ByteRange { start: 0, len: 1 };
    let mut response = request_range(origin, counters, range, Some(version)).await?;
    let is_part = match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let (_, len) = part(&response, range)?;
            same(&response, len, version)?;
            true
        }
        // Of a server without ranges, the head suffices.
        StatusCode::OK => {
            check_whole(&response, version)?;
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
pub(super) fn same(response: &Response, len: u64, version: &ObjectVersion) -> RequestResult<()> {
    let is_same = version.is(&ObjectVersion::of(response.headers(), len));
    if is_same { Ok(()) } else { Err(RequestFailure::Final(FetchError::Changed)) }
}

/// The same for a complete answer, which need not state its length.
pub(super) fn check_whole(response: &Response, version: &ObjectVersion) -> RequestResult<()> {
    plain(response)?;
    same(response, response.content_length().unwrap_or(version.len), version)
}

fn is_of_none(content_range: String) -> bool {
    content_range.strip_prefix("bytes */") == Some("0")
}

/// Requests a range, and waits for the head of the answer.
pub(super) async fn request_range(
    origin: &Origin,
    counters: &ReadCounters,
    range: ByteRange,
    version: Option<&ObjectVersion>,
) -> RequestResult<Response> {
    let conditions = conditions(range, version)?;
    match &origin.endpoint {
        Endpoint::Fixed(url, headers) => {
            let mut headers = headers.clone();
            headers.extend(conditions);
            send(origin, counters, url.clone(), headers, Some(origin.options.redirects)).await
        }
        #[cfg(feature = "stores")]
        Endpoint::Store(authority) => send_signed(origin, &**authority, counters, &conditions).await,
    }
}

/// The headers of range and version.
fn conditions(requested: ByteRange, version: Option<&ObjectVersion>) -> RequestResult<HeaderMap> {
    let range = HeaderValue::try_from(format!("bytes={}-{}", requested.start, requested.end() - 1)).expect("digits");
    let mut headers = HeaderMap::from_iter([(header::RANGE, range)]);
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(condition) = version.and_then(ObjectVersion::condition) {
        let Ok((name, value)) = condition else { return invalid_answer("its ETag or date is not valid in a header") };
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Sends a request as the store's signer prepares it; a second one if the refusal says how to correct the first.
#[cfg(feature = "stores")]
pub(super) async fn send_signed(
    origin: &Origin,
    signer: &dyn RequestSigner,
    counters: &ReadCounters,
    conditions: &HeaderMap,
) -> RequestResult<Response> {
    let mut is_repeated = false;
    loop {
        let (url, headers) = signer.sign_request(conditions.clone()).await.map_err(signing_failure)?;
        let response = send(origin, counters, url, headers, None).await?;
        match signer.classify(response).await {
            StoreResponse::Accepted(response) => return Ok(response),
            StoreResponse::Retry(_) if !is_repeated => is_repeated = true,
            StoreResponse::Retry(refusal) | StoreResponse::Refused(refusal) => return refused(refusal),
        }
    }
}

/// Fetching credentials may fail as a request does.
#[cfg(feature = "stores")]
fn signing_failure(refusal: Refusal) -> RequestFailure {
    match refusal {
        Refusal::Connection(_) | Refusal::Timeout { .. } | Refusal::Busy(_) => RequestFailure::Transient(refusal, None),
        _ => RequestFailure::Final(FetchError::Refused(refusal)),
    }
}

/// Sends a request, follows up to `redirects` redirects, and waits for the head of the answer. With `None`, a redirect
/// is an answer.
async fn send(
    origin: &Origin,
    counters: &ReadCounters,
    url: Url,
    headers: HeaderMap,
    redirects: Option<usize>,
) -> RequestResult<Response> {
    let client = match origin.connections.client_for(&url) {
        Ok(client) => client,
        Err(refusal) => return refused(refusal),
    };
    let request = client.get(url).headers(headers);
    counters.request();
    origin.host.count_request();
    let limit = origin.options.first_byte_timeout;
    match timeout(limit, redirect::send(&origin.connections, request, redirects)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(SendError::BadRedirect)) => invalid_answer("it redirects too often, or without a valid address"),
        Ok(Err(SendError::Refused(refusal))) => refused(refusal),
        Ok(Err(SendError::Failed(error))) => Err(connection_failure(origin, error)),
        Err(_) => Err(RequestFailure::Transient(Refusal::Timeout { what: "an answer", limit }, None)),
    }
}

/// Classifies a request that got no answer.
fn connection_failure(origin: &Origin, error: reqwest::Error) -> RequestFailure {
    let limit = origin.options.connect_timeout;
    if error.is_builder() {
        return RequestFailure::Final(FetchError::Refused(Refusal::Address(reason(error))));
    }
    if is_private(&error) {
        return RequestFailure::Final(FetchError::Refused(PRIVATE));
    }
    if let Some(why) = certificate(&error) {
        let why = format!("the server's certificate is not accepted ({why}): does this machine trust its authority?");
        return RequestFailure::Final(FetchError::Refused(Refusal::Connection(why)));
    }
    match error.is_connect() && error.is_timeout() {
        true => RequestFailure::Transient(Refusal::Timeout { what: "a connection", limit }, None),
        false => RequestFailure::Transient(Refusal::Connection(reason(error)), None),
    }
}

/// The reason why a certificate is not accepted, if that is the error.
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
pub(super) fn part(response: &Response, requested: ByteRange) -> RequestResult<(ByteRange, u64)> {
    plain(response)?;
    let Some(content_range_text) = text(response.headers(), header::CONTENT_RANGE) else {
        return invalid_answer("it does not say which part it is (no single Content-Range)");
    };
    let Some((start, end, len)) = content_range(&content_range_text) else {
        return invalid_answer(format!("its Content-Range is {content_range_text:?}"));
    };
    let part = ByteRange { start, len: end - start };
    if start != requested.start || end > requested.end() || end > len || part.len == 0 {
        let expected = format!("{}-{}", requested.start, requested.end() - 1);
        return invalid_answer(format!("bytes {expected} were requested, the answer has {content_range_text:?}"));
    }
    match response.content_length() {
        Some(content_length) if content_length != part.len => {
            invalid_answer(format!("its Content-Length is {content_length}, its Content-Range has {} bytes", part.len))
        }
        _ => Ok((part, len)),
    }
}

/// Start, end and length of `bytes 0-65535/1234567`.
fn content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, len) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (start, end) = (first.trim().parse().ok()?, last.trim().parse::<u64>().ok()?.checked_add(1)?);
    // libavformat counts bytes in a signed number.
    let len = len.trim().parse().ok().filter(|&len| i64::try_from(len).is_ok())?;
    (start < end).then_some((start, end, len))
}

/// Refuses compressed answers.
fn plain(response: &Response) -> RequestResult<()> {
    match text(response.headers(), header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.eq_ignore_ascii_case("identity") => refused(Refusal::Compressed(encoding)),
        _ => Ok(()),
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(|value| value.trim().to_owned())
}

/// Classifies a status without bytes.
pub(super) fn refusal(response: &Response, is_open: bool) -> RequestFailure {
    let status = response.status().as_u16();
    let after = text(response.headers(), header::RETRY_AFTER).and_then(|seconds| seconds.parse::<u32>().ok());
    let refusal = match status {
        // The condition does not hold, or the range lies past the end.
        412 | 416 if is_open => return RequestFailure::Final(FetchError::Changed),
        401 => Refusal::Unauthorized,
        403 => Refusal::Forbidden,
        404 | 410 => Refusal::NotFound(status),
        408 | 429 | 500 | 502..=504 => {
            return RequestFailure::Transient(
                Refusal::Busy(status),
                after.map(|seconds| Duration::from_secs(seconds.into())),
            );
        }
        _ => Refusal::Status(status),
    };
    RequestFailure::Final(FetchError::Refused(refusal))
}

/// The next bytes of a body; `None` at its end.
pub(super) async fn chunk(options: &HttpOptions, response: &mut Response) -> RequestResult<Option<Bytes>> {
    let limit = options.stall_timeout;
    match timeout(limit, response.chunk()).await {
        Ok(Ok(chunk)) => Ok(chunk),
        Ok(Err(error)) => Err(RequestFailure::Transient(Refusal::Connection(reason(error)), None)),
        Err(_) => Err(RequestFailure::Transient(Refusal::Timeout { what: "more of the answer", limit }, None)),
    }
}

/// The body of a server without ranges, up to half of the cache.
async fn whole(origin: &Origin, counters: &ReadCounters, mut response: Response) -> RequestResult<Bytes> {
    let limit = origin.options.cache / 2;
    let content_length = response.content_length();
    if content_length.is_some_and(|content_length| content_length > limit) {
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
