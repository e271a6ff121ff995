//! [`HttpSource`]: a file behind HTTP, read through the span table.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ffi::{PADDING, PaddedBytes};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::address::lasting_query;
use super::cache::Cache;
use super::client::refused;
use super::range_fetch::{self, FetchContext};
use super::read_ahead::ReadAhead;
use super::request::{self, Endpoint, FetchError, FirstResponse, Origin, PendingResponse, RequestFailure};
use super::runtime::runtime;
use super::spans::SpanTable;
use super::validation::ValidationTime;
use super::version::ObjectVersion;
use crate::error::{Error, ErrorKind, Result};
use crate::process::{Owner, ProcessBound};
use crate::source::{
    ByteRange, ReadCounters, ReadCounts, Refusal, RemoteSource, Source, SourceVersion, check_bounds, opening,
};
use crate::sync::unmodelled::Mutex;

/// After a final failure nothing is requested for this long, unless bytes arrive after all: a decode run over many
/// samples would otherwise wait for each of them.
const PAUSE: Duration = Duration::from_secs(1);

/// The time limit of a validation.
const CONFIRMING: Duration = Duration::from_secs(2);

/// The head start of the first of several requests: it takes the idle connection.
const AFTER: Duration = Duration::from_millis(1);

/// A file behind HTTP or HTTPS, on a server with range requests; without them, if it is small. Fetched bytes are kept
/// in memory within a budget, and all readers share them. Its counters count requests and bytes of answers.
#[derive(Debug)]
pub struct HttpSource {
    shared: ProcessBound<HttpSourceInner>,
    reopener: Option<Reopener>,
    /// Read-ahead of the demuxer, which reads in small steps, and of samples, which are read as they are.
    demuxer: Mutex<ReadAhead>,
    samples: Mutex<ReadAhead>,
}

/// Opens the same file in another process.
struct Reopener(Box<dyn Fn() -> Result<HttpSource> + Send + Sync>);

impl fmt::Debug for Reopener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Reopener")
    }
}

/// State shared with the fetches in flight.
#[derive(Debug)]
struct HttpSourceInner {
    name: Arc<str>,
    origin: Origin,
    version: ObjectVersion,
    /// The complete file, of a server without ranges.
    whole: Option<Bytes>,
    spans: Arc<SpanTable>,
    counters: Arc<ReadCounters>,
    opening_reads: ReadCounts,
    has_changed: AtomicBool,
    validated: ValidationTime,
    /// Held during a validation, so that concurrent callers share its result.
    validation_lock: Mutex<()>,
    /// The last failed range's time and reason, if nothing has arrived since.
    recent_error: Mutex<Option<(Instant, FetchError)>>,
    /// The source was dropped.
    is_closed: AtomicBool,
    /// Notified when the source is dropped: fetches in flight then end.
    closing: Notify,
}

impl HttpSource {
    pub(super) fn new(
        name: &str,
        origin: Origin,
        version: ObjectVersion,
        opened: FirstResponse,
        counters: Arc<ReadCounters>,
        cache: &Arc<Cache>,
    ) -> HttpSource {
        let options = origin.options.clone();
        let (whole, part) = match opened {
            FirstResponse::Whole(bytes) => (Some(bytes), None),
            FirstResponse::Part(begun, part) => (None, Some((begun, part))),
        };
        let first = part.as_ref().map_or(0, |(_, part)| part.len);
        // The rest of the opening answer is in flight, and counts as received.
        counters.fetched(first);
        let opening = counters.now();
        let shared = Arc::new(HttpSourceInner {
            name: name.into(),
            version,
            whole,
            spans: SpanTable::new(cache),
            counters,
            opening_reads: opening,
            has_changed: AtomicBool::new(false),
            validated: ValidationTime::now(),
            validation_lock: Mutex::default(),
            recent_error: Mutex::default(),
            is_closed: AtomicBool::new(false),
            closing: Notify::new(),
            origin,
        });
        if let Some((begun, part)) = part {
            let fetches = shared.spans.reserve(vec![part], 0, u64::MAX);
            fetches.into_iter().zip([begun]).for_each(|((number, range), begun)| {
                HttpSourceInner::spawn_fetch(&shared, number, range, Some(begun), Duration::ZERO);
            });
        }
        let (block, most, gap) = (options.block, options.read_ahead, options.gap);
        HttpSource {
            shared: ProcessBound::of(shared, Owner::current()),
            reopener: None,
            demuxer: Mutex::new(ReadAhead::new(block, block, most, gap, first)),
            samples: Mutex::new(ReadAhead::new(1, 2 * block, most, gap, 0)),
        }
    }

    /// Sets how [`Source::reopen`] opens the file.
    pub(super) fn with_reopener(
        mut self,
        again: impl Fn() -> Result<HttpSource> + Send + Sync + 'static,
    ) -> HttpSource {
        self.reopener = Some(Reopener(Box::new(again)));
        self
    }

    fn check_process(&self) -> Result<()> {
        self.shared.check().map_err(|error| error.of(&self.shared.name))
    }

    /// Begins to fetch the bytes that are neither in memory nor in flight.
    fn start(&self, ranges: Vec<ByteRange>) {
        let options = &self.shared.origin.options;
        let len = self.len();
        let within = |range: ByteRange| {
            let end = range.end().min(len);
            (range.start < end).then(|| ByteRange { start: range.start, len: end - range.start })
        };
        let ranges: Vec<ByteRange> = ranges.into_iter().filter_map(within).collect();
        // The first request takes the idle connection; the others may have to open one.
        let first = ranges.first().map_or(0, |range| range.start);
        let mut fetches = self.shared.spans.reserve(ranges, options.gap, options.longest);
        fetches.sort_by_key(|(_, range)| range.end() <= first || first < range.start);
        for (place, (number, range)) in fetches.into_iter().enumerate() {
            let delay = if place == 0 { Duration::ZERO } else { AFTER };
            HttpSourceInner::spawn_fetch(self.shared.arc(), number, range, None, delay);
        }
    }

    /// The ranges for which there is room: more would evict earlier ones before they are read.
    fn within_cache(&self, ranges: &mut dyn Iterator<Item = ByteRange>) -> Vec<ByteRange> {
        let mut accepted = Vec::new();
        if self.shared.whole.is_some() || self.shared.recent_error().is_some() {
            return accepted;
        }
        let mut room = self.shared.origin.options.cache / 2;
        for range in ranges {
            let len = range.len.min(room);
            accepted.push(ByteRange { len, ..range });
            room -= len;
            if room == 0 {
                break;
            }
        }
        accepted
    }

    /// The bytes of a range, in pieces, with the read-ahead of `reader`.
    fn pieces(&self, range: ByteRange, reader: &Mutex<ReadAhead>) -> Result<Vec<Bytes>> {
        let reader = || reader.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = self.shared.origin.options.deadline;
        let check = || opening::check(self.shared.counters.now().bytes).map_err(|error| error.of(&self.shared.name));
        check()?;
        let read = self.shared.spans.read(range, limit, &|| check().is_err(), &mut |missing| {
            if let Some(problem) = self.shared.recent_error() {
                return Err(problem);
            }
            let ahead = reader().miss(missing);
            self.start(vec![ahead]);
            Ok(())
        });
        let late = || refused(Refusal::Timeout { what: "the bytes", limit });
        let pieces = read.map_err(Error::from).and_then(|pieces| match pieces {
            Some(pieces) => Ok(pieces),
            None => check().and_then(|()| Err(late())),
        });
        let pieces = pieces.map_err(|error| error.of(&self.shared.name))?;
        let ahead = reader().pass(range).filter(|_| self.shared.recent_error().is_none());
        self.start(ahead.into_iter().collect());
        Ok(pieces)
    }
}

impl HttpSourceInner {
    /// The error for which no requests are sent now.
    fn recent_error(&self) -> Option<FetchError> {
        if self.has_changed.load(Relaxed) {
            return Some(FetchError::Changed);
        }
        let recent = self.recent_error.lock().unwrap_or_else(PoisonError::into_inner);
        recent.as_ref().filter(|(since, _)| since.elapsed() < PAUSE).map(|(_, problem)| problem.clone())
    }

    fn note(&self, problem: Option<FetchError>) {
        let mut recent = self.recent_error.lock().unwrap_or_else(PoisonError::into_inner);
        *recent = problem.map(|problem| (Instant::now(), problem));
    }

    /// Validates the version with one request, and records the outcome.
    async fn request_validation(&self) {
        let since = Instant::now();
        let response = timeout(CONFIRMING, async {
            let _permit = self.origin.host.permit().await;
            request::revalidate(&self.origin, &self.counters, &self.version).await
        });
        match response.await {
            Ok(Ok(())) => self.validated.note(since),
            Ok(Err(RequestFailure::Final(problem))) if problem.is_end() => self.has_changed.store(true, Relaxed),
            // The bytes in memory stay valid. The next validation is due after the usual interval, not at once.
            _ => self.validated.note(Instant::now()),
        }
    }

    /// Starts the task of a fetch. `begun` is an answer to its request that has begun already.
    fn spawn_fetch(
        self: &Arc<HttpSourceInner>,
        number: u64,
        range: ByteRange,
        begun: Option<PendingResponse>,
        delay: Duration,
    ) {
        let task = FetchTask { shared: Arc::clone(self), number, problem: None };
        match runtime() {
            Ok(runtime) => drop(runtime.spawn(task.fetch(range, begun, delay))),
            Err(refusal) => task.end(Some(FetchError::Refused(refusal))),
        }
    }
}

/// The task of a fetch. Its drop ends the fetch in the span table, even if the task is cancelled or panics.
struct FetchTask {
    shared: Arc<HttpSourceInner>,
    number: u64,
    problem: Option<FetchError>,
}

impl FetchTask {
    async fn fetch(self, range: ByteRange, begun: Option<PendingResponse>, delay: Duration) {
        if !delay.is_zero() {
            sleep(delay).await;
        }
        let shared = Arc::clone(&self.shared);
        let mut closing = pin!(shared.closing.notified());
        // From here on a notification of the source's end is not missed.
        closing.as_mut().enable();
        let (begun, _permit) = match begun {
            Some(PendingResponse { answer, permit }) => (Some(answer), permit),
            None => {
                let limit = shared.origin.options.deadline;
                let permit = tokio::select! {
                    permit = timeout(limit, shared.origin.host.permit()) => permit,
                    () = &mut closing => return,
                };
                let Ok(permit) = permit else {
                    return self.end(Some(FetchError::Refused(Refusal::Timeout { what: "a free connection", limit })));
                };
                (None, permit)
            }
        };
        if shared.is_closed.load(Relaxed) {
            return;
        }
        // A failure of another range in the meantime applies to this one.
        if let Some(problem) = shared.recent_error() {
            return self.end(Some(problem));
        }
        let mut arrive = |bytes| {
            shared.spans.arrive(self.number, bytes);
            shared.note(None);
            !shared.is_closed.load(Relaxed)
        };
        let (counters, version, confirmed) = (&shared.counters, &shared.version, &shared.validated);
        let context = FetchContext { origin: &shared.origin, counters, version, validated: confirmed };
        // A stalled server must not hold the connection of a dropped source.
        let fetched = tokio::select! {
            fetched = range_fetch::fetch(context, range, begun, &mut arrive) => fetched,
            () = closing => return,
        };
        self.end(fetched.err());
    }

    fn end(mut self, problem: Option<FetchError>) {
        if problem == Some(FetchError::Changed) {
            self.shared.has_changed.store(true, Relaxed);
        } else if problem.is_some() {
            self.shared.note(problem.clone());
        }
        self.problem = problem;
    }
}

impl Drop for FetchTask {
    fn drop(&mut self) {
        self.shared.spans.end(self.number, self.problem.take());
    }
}

impl Drop for HttpSource {
    fn drop(&mut self) {
        if !self.shared.is_current() {
            return;
        }
        self.shared.is_closed.store(true, Relaxed);
        self.shared.closing.notify_waiters();
    }
}

impl Source for HttpSource {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn len(&self) -> u64 {
        self.shared.version.len
    }

    fn read(&self, range: ByteRange) -> Result<Bytes> {
        self.check_process()?;
        check_bounds(range, self.len())?;
        if let Some(whole) = &self.shared.whole {
            return Ok(whole.slice(range.start as usize..range.end() as usize));
        }
        let mut pieces = self.pieces(range, &self.demuxer)?;
        Ok(if pieces.len() == 1 { pieces.swap_remove(0) } else { pieces.concat().into() })
    }

    fn read_padded(&self, range: ByteRange) -> Result<PaddedBytes> {
        self.check_process()?;
        check_bounds(range, self.len())?;
        let end = range.end().saturating_add(PADDING as u64);
        let bytes = match &self.shared.whole {
            Some(whole) => (end <= self.len()).then(|| whole.slice(range.start as usize..end as usize)),
            None => self.shared.spans.view(range, end),
        };
        let view = bytes.and_then(|bytes| PaddedBytes::view(bytes, range.len as usize));
        view.map_or_else(|| self.read_zero_padded(range), Ok)
    }

    fn read_zero_padded(&self, range: ByteRange) -> Result<PaddedBytes> {
        self.check_process()?;
        check_bounds(range, self.len())?;
        let pieces = match &self.shared.whole {
            Some(whole) => vec![whole.slice(range.start as usize..range.end() as usize)],
            None => self.pieces(range, &self.samples)?,
        };
        self.shared.counters.copy(range.len as usize);
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
        Ok(PaddedBytes::copy_of(&pieces))
    }

    fn check(&self) -> Result<()> {
        self.check_process()?;
        let changed = || Error::from(ErrorKind::Changed).of(&self.shared.name);
        if self.shared.has_changed.load(Relaxed) { Err(changed()) } else { Ok(()) }
    }

    /// Exact for a strong ETag, together with the part of the query that identifies the resource. Else approximate,
    /// from the headers.
    fn version(&self) -> Option<SourceVersion> {
        let Some(tag) = self.shared.version.strong() else {
            return self.shared.version.hint().map(SourceVersion::Approximate);
        };
        Some(SourceVersion::Exact(match &self.shared.origin.endpoint {
            Endpoint::Fixed(url, _) => format!("etag {tag} of {}", lasting_query(url)),
            #[cfg(feature = "stores")]
            Endpoint::Store(_) => format!("etag {tag}"),
        }))
    }

    fn reopen(&self) -> Result<Arc<dyn Source>> {
        let Some(Reopener(again)) = &self.reopener else { return Err(ErrorKind::Forked.into()) };
        let source = again()?;
        if !self.shared.version.is(&source.shared.version) {
            return Err(Error::from(ErrorKind::Changed).of(&self.shared.name));
        }
        Ok(Arc::new(source))
    }

    fn counters(&self) -> &ReadCounters {
        &self.shared.counters
    }

    fn remote(&self) -> Option<&dyn RemoteSource> {
        Some(self)
    }
}

impl RemoteSource for HttpSource {
    fn will_need(&self, ranges: &mut dyn Iterator<Item = ByteRange>) {
        if self.shared.is_current() {
            self.start(self.within_cache(ranges));
        }
    }

    fn on_available(&self, ranges: &mut dyn Iterator<Item = ByteRange>, then: Box<dyn FnOnce() + Send>) {
        if !self.shared.is_current() {
            return then();
        }
        let requested: Vec<ByteRange> = ranges.collect();
        // Waits for bytes in flight even if nothing more is requested now.
        self.start(self.within_cache(&mut requested.iter().copied()));
        self.shared.spans.on_available(&requested, then);
    }

    fn is_pending_after(&self, range: ByteRange, patience: Duration) -> bool {
        self.shared.is_current() && self.shared.whole.is_none() && self.shared.spans.is_pending_after(range, patience)
    }

    fn is_available(&self, range: ByteRange) -> bool {
        !self.shared.is_current() || self.shared.whole.is_some() || self.shared.spans.is_available(range)
    }

    fn prefetch_capacity(&self) -> u64 {
        self.shared.origin.options.cache / 2
    }

    fn opening_reads(&self) -> ReadCounts {
        self.shared.opening_reads
    }

    fn validated_at(&self) -> Instant {
        self.shared.validated.last()
    }

    fn revalidate(&self) {
        if !self.shared.is_current() {
            return;
        }
        let shared = Arc::clone(self.shared.arc());
        let last = self.shared.validated.last();
        let _guard = self.shared.validation_lock.lock().unwrap_or_else(PoisonError::into_inner);
        // Another caller has validated the version in the meantime.
        let is_validated = shared.has_changed.load(Relaxed) || shared.validated.last() > last;
        let Some(runtime) = runtime().ok().filter(|_| !is_validated && self.len() > 0) else { return };
        let (sender, receiver) = mpsc::channel();
        runtime.spawn(async move {
            shared.request_validation().await;
            let _ = sender.send(());
        });
        let _ = receiver.recv();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::HttpClient;
    use super::HttpSource;
    use crate::source::remote::HttpOptions;
    use crate::source::{ByteRange, RemoteSource, Source, conformance};
    use testing::range_server::{RangeReply, RangeServer, totals};

    fn options() -> HttpOptions {
        HttpOptions {
            block: 1000,
            gap: 100,
            cache: 16_000,
            deadline: Duration::from_secs(20),
            ..HttpOptions::default()
        }
    }

    fn open(server: &RangeServer, options: HttpOptions) -> HttpSource {
        let address = server.put("bytes", conformance::bytes(), "\"1\"");
        HttpClient::new(options).unwrap().open(&address).unwrap()
    }

    #[test]
    fn conforms_and_fetches_no_byte_twice() {
        let server = RangeServer::start();
        let source = open(&server, options());
        conformance::remote(&source);
        let requests = server.take_requests();
        let confirming = 1;
        assert_eq!(totals(&requests).1, source.len() + confirming, "{requests:#?}");
        let counted = source.counters().now();
        assert_eq!((counted.requests as usize, counted.bytes), totals(&requests));
        assert!(requests[1..].iter().all(|requests| requests.headers["if-match"] == "\"1\""));
    }

    #[test]
    fn conforms_where_there_is_no_room_to_keep_anything() {
        let server = RangeServer::start();
        conformance::remote(&open(&server, HttpOptions { cache: 700, ..options() }));
    }

    #[test]
    fn conforms_where_the_server_gives_no_parts() {
        let server = RangeServer::start();
        for answer in [RangeReply::Whole, RangeReply::WholeUnbounded] {
            server.set_behaviour(move |_| answer.clone());
            conformance::remote(&open(&server, HttpOptions { cache: 20_000, ..options() }));
        }
    }

    #[test]
    fn a_hint_brings_everything_in_few_requests() {
        let server = RangeServer::start();
        let source = open(&server, options());
        let range = |start, len| ByteRange { start, len };
        source.will_need(&mut [range(2000, 500), range(2550, 100), range(5000, 10), range(500, 50)].into_iter());
        for (start, len) in [(2000, 500), (2550, 100), (5000, 10), (500, 50)] {
            assert_eq!(source.read_padded(range(start, len)).unwrap().len() as u64, len);
        }
        let ranges: Vec<_> = server.take_requests().iter().filter_map(|requests| requests.range).skip(1).collect();
        assert!(ranges.len() == 2 && ranges.contains(&(2000, 2650)) && ranges.contains(&(5000, 5010)), "{ranges:?}");
    }

    #[test]
    fn a_validation_detects_a_replaced_or_deleted_file() {
        for is_whole in [false, true] {
            let server = RangeServer::start();
            let good = if is_whole { RangeReply::Whole } else { RangeReply::Good };
            let behave = |answer: &RangeReply| {
                let answer = answer.clone();
                server.set_behaviour(move |_| answer.clone());
            };
            behave(&good);
            let source = open(&server, HttpOptions { cache: 20_000, ..options() });
            let all = ByteRange { start: 0, len: source.len() };
            source.read(all).unwrap();
            let opened = source.validated_at();
            server.take_requests();
            source.revalidate();
            let confirmed = source.validated_at();
            assert!(confirmed > opened && source.check().is_ok() && server.take_requests().len() == 1);
            // An unreachable server proves nothing.
            for answer in [RangeReply::HangUp, RangeReply::Status(503, ""), RangeReply::Status(403, "")] {
                behave(&answer);
                source.revalidate();
                source.check().unwrap();
                assert!(source.validated_at() > confirmed && server.take_requests().len() == 1);
            }
            behave(&good);
            server.put("bytes", conformance::bytes(), "\"2\"");
            source.check().unwrap();
            source.revalidate();
            assert!(source.check().is_err());
            let source = open(&server, HttpOptions { cache: 20_000, ..options() });
            behave(&RangeReply::Status(404, ""));
            source.revalidate();
            assert!(source.check().is_err(), "the file is deleted");
            // The same bytes, but no header says so.
            for tags in ["", "ETag: W/\"2\"", "ETag: \"2\"\r\nETag: \"3\""] {
                behave(&good);
                let source = open(&server, HttpOptions { cache: 20_000, ..options() });
                behave(&if is_whole { RangeReply::WholeTagged(tags) } else { RangeReply::Tagged(tags) });
                source.revalidate();
                assert!(source.check().is_err(), "{tags}");
            }
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let server = RangeServer::start();
        let options = HttpOptions { headers: vec![("Authorization".into(), "secret".into())], ..options() };
        assert!(!format!("{:?}", open(&server, options)).contains("secret"));
    }
}
