//! [`HttpSource`]: a file behind HTTP, read through the span table.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ffi::{PADDING, PaddedBytes};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::address::lasting_query;
use super::attempt::{self, Begun, Failure, Opened, Origin, Place, Problem};
use super::cache::Cache;
use super::client::refused;
use super::confirmed::Confirmed;
use super::lane::{self, Asking};
use super::read_ahead::ReadAhead;
use super::runtime::runtime;
use super::spans::Spans;
use super::version::Version;
use crate::error::{Error, ErrorKind, Result};
use crate::process::{Owned, Owner};
use crate::source::{
    ByteRange, Counted, Counters, Refusal, RemoteSource, Source, SourceVersion, check_bounds, opening,
};

/// After a final failure nothing is requested for this long, unless bytes arrive after all: a decode run over many
/// samples would otherwise wait for each of them.
const PAUSE: Duration = Duration::from_secs(1);

/// The limit of a confirmation.
const CONFIRMING: Duration = Duration::from_secs(2);

/// The head start of the first of several requests.
const AFTER: Duration = Duration::from_millis(1);

/// A file behind HTTP or HTTPS, on a server with range requests; without them, if it is small. Fetched bytes are kept
/// in memory within a budget, and all readers share them. Its counters count requests and bytes of answers.
#[derive(Debug)]
pub struct HttpSource {
    shared: Owned<Shared>,
    again: Option<Again>,
    /// Read-ahead of the demuxer, which reads in small steps, and of samples, which are read as they are.
    demuxer: Mutex<ReadAhead>,
    samples: Mutex<ReadAhead>,
}

/// How another process opens the same file.
struct Again(Box<dyn Fn() -> Result<HttpSource> + Send + Sync>);

impl fmt::Debug for Again {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Again")
    }
}

/// State shared with the requests under way.
#[derive(Debug)]
struct Shared {
    name: Arc<str>,
    origin: Origin,
    version: Version,
    /// The complete file, of a server without ranges.
    whole: Option<Bytes>,
    spans: Arc<Spans>,
    counters: Arc<Counters>,
    opening: Counted,
    has_changed: AtomicBool,
    confirmed: Confirmed,
    /// Held during a confirmation.
    confirming: Mutex<()>,
    /// The last failed range's time and reason, if nothing has arrived since.
    trouble: Mutex<Option<(Instant, Problem)>>,
    /// The source was dropped.
    is_closed: AtomicBool,
    /// Notified when the source is dropped: requests under way then end.
    closing: Notify,
}

impl HttpSource {
    pub(super) fn new(
        name: &str,
        origin: Origin,
        version: Version,
        opened: Opened,
        counters: Arc<Counters>,
        cache: &Arc<Cache>,
    ) -> HttpSource {
        let options = origin.options.clone();
        let (whole, part) = match opened {
            Opened::Whole(bytes) => (Some(bytes), None),
            Opened::Part(begun, part) => (None, Some((begun, part))),
        };
        let first = part.as_ref().map_or(0, |(_, part)| part.len);
        // The rest of the opening answer is on its way, and counts as received.
        counters.fetched(first);
        let opening = counters.now();
        let shared = Arc::new(Shared {
            name: name.into(),
            version,
            whole,
            spans: Spans::new(cache),
            counters,
            opening,
            has_changed: AtomicBool::new(false),
            confirmed: Confirmed::now(),
            confirming: Mutex::default(),
            trouble: Mutex::default(),
            is_closed: AtomicBool::new(false),
            closing: Notify::new(),
            origin,
        });
        if let Some((begun, part)) = part {
            let flights = shared.spans.reserve(vec![part], 0, u64::MAX);
            flights.into_iter().zip([begun]).for_each(|((number, range), begun)| {
                Shared::fly(&shared, number, range, Some(begun), Duration::ZERO);
            });
        }
        let (block, most, gap) = (options.block, options.read_ahead, options.gap);
        HttpSource {
            shared: Owned::of(shared, Owner::this()),
            again: None,
            demuxer: Mutex::new(ReadAhead::new(block, block, most, gap, first)),
            samples: Mutex::new(ReadAhead::new(1, 2 * block, most, gap, 0)),
        }
    }

    /// Sets how [`Source::reopen`] opens the file.
    pub(super) fn reopened_by(mut self, again: impl Fn() -> Result<HttpSource> + Send + Sync + 'static) -> HttpSource {
        self.again = Some(Again(Box::new(again)));
        self
    }

    fn check_process(&self) -> Result<()> {
        self.shared.check().map_err(|error| error.of(&self.shared.name))
    }

    /// Begins to fetch the bytes that are neither in memory nor on their way.
    fn start(&self, wanted: Vec<ByteRange>) {
        let options = &self.shared.origin.options;
        let len = self.len();
        let within = |range: ByteRange| {
            let end = range.end().min(len);
            (range.start < end).then(|| ByteRange { start: range.start, len: end - range.start })
        };
        let wanted: Vec<ByteRange> = wanted.into_iter().filter_map(within).collect();
        // The first request takes the idle connection; the others may have to open one.
        let first = wanted.first().map_or(0, |range| range.start);
        let mut flights = self.shared.spans.reserve(wanted, options.gap, options.longest);
        flights.sort_by_key(|(_, range)| range.end() <= first || first < range.start);
        for (place, (number, range)) in flights.into_iter().enumerate() {
            let delay = if place == 0 { Duration::ZERO } else { AFTER };
            Shared::fly(self.shared.arc(), number, range, None, delay);
        }
    }

    /// The ranges for which there is room: more would evict earlier ones before they are read.
    fn affordable(&self, ranges: &mut dyn Iterator<Item = ByteRange>) -> Vec<ByteRange> {
        let mut wanted = Vec::new();
        if self.shared.whole.is_some() || self.shared.trouble().is_some() {
            return wanted;
        }
        let mut room = self.shared.origin.options.cache / 2;
        for range in ranges {
            let len = range.len.min(room);
            wanted.push(ByteRange { len, ..range });
            room -= len;
            if room == 0 {
                break;
            }
        }
        wanted
    }

    /// The bytes of a range, in pieces, with the read-ahead of `reader`.
    fn pieces(&self, range: ByteRange, reader: &Mutex<ReadAhead>) -> Result<Vec<Bytes>> {
        let reader = || reader.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = self.shared.origin.options.deadline;
        let check = || opening::check(self.shared.counters.now().bytes).map_err(|error| error.of(&self.shared.name));
        check()?;
        let read = self.shared.spans.read(range, limit, &|| check().is_err(), &mut |missing| {
            if let Some(problem) = self.shared.trouble() {
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
        let ahead = reader().pass(range).filter(|_| self.shared.trouble().is_none());
        self.start(ahead.into_iter().collect());
        Ok(pieces)
    }
}

impl Shared {
    /// Why nothing is requested now.
    fn trouble(&self) -> Option<Problem> {
        if self.has_changed.load(Relaxed) {
            return Some(Problem::Changed);
        }
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.as_ref().filter(|(since, _)| since.elapsed() < PAUSE).map(|(_, problem)| problem.clone())
    }

    fn note(&self, problem: Option<Problem>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *trouble = problem.map(|problem| (Instant::now(), problem));
    }

    /// Confirms the version, and records the outcome.
    async fn ask_again(&self) {
        let since = Instant::now();
        let asked = timeout(CONFIRMING, async {
            let _permit = self.origin.host.permit().await;
            attempt::confirm(&self.origin, &self.counters, &self.version).await
        });
        match asked.await {
            Ok(Ok(())) => self.confirmed.note(since),
            Ok(Err(Failure::Final(problem))) if problem.is_end() => self.has_changed.store(true, Relaxed),
            // The bytes in memory stay valid. The server is asked again, but not at once.
            _ => self.confirmed.note(Instant::now()),
        }
    }

    /// Starts a flight. `begun` is an answer that has begun already.
    fn fly(self: &Arc<Shared>, number: u64, range: ByteRange, begun: Option<Begun>, delay: Duration) {
        let landing = Landing { shared: Arc::clone(self), number, problem: None };
        match runtime() {
            Ok(runtime) => drop(runtime.spawn(landing.fetch(range, begun, delay))),
            Err(refusal) => landing.end(Some(Problem::Refused(refusal))),
        }
    }
}

/// Ends a flight on drop, so that it ends even if its task is cancelled or panics.
struct Landing {
    shared: Arc<Shared>,
    number: u64,
    problem: Option<Problem>,
}

impl Landing {
    async fn fetch(self, range: ByteRange, begun: Option<Begun>, delay: Duration) {
        if !delay.is_zero() {
            sleep(delay).await;
        }
        let shared = Arc::clone(&self.shared);
        let mut closing = pin!(shared.closing.notified());
        // From here on a notification of the source's end is not missed.
        closing.as_mut().enable();
        let (begun, _permit) = match begun {
            Some(Begun { answer, permit }) => (Some(answer), permit),
            None => {
                let limit = shared.origin.options.deadline;
                let permit = tokio::select! {
                    permit = timeout(limit, shared.origin.host.permit()) => permit,
                    () = &mut closing => return,
                };
                let Ok(permit) = permit else {
                    return self.end(Some(Problem::Refused(Refusal::Timeout { what: "a free connection", limit })));
                };
                (None, permit)
            }
        };
        if shared.is_closed.load(Relaxed) {
            return;
        }
        // A failure of another range in the meantime applies to this one.
        if let Some(problem) = shared.trouble() {
            return self.end(Some(problem));
        }
        let mut arrive = |bytes| {
            shared.spans.arrive(self.number, bytes);
            shared.note(None);
            !shared.is_closed.load(Relaxed)
        };
        let (counters, version, confirmed) = (&shared.counters, &shared.version, &shared.confirmed);
        let asking = Asking { origin: &shared.origin, counters, version, confirmed };
        // A stalled server must not hold the connection of a dropped source.
        let fetched = tokio::select! {
            fetched = lane::fetch(asking, range, begun, &mut arrive) => fetched,
            () = closing => return,
        };
        self.end(fetched.err());
    }

    fn end(mut self, problem: Option<Problem>) {
        if problem == Some(Problem::Changed) {
            self.shared.has_changed.store(true, Relaxed);
        } else if problem.is_some() {
            self.shared.note(problem.clone());
        }
        self.problem = problem;
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.shared.spans.end(self.number, self.problem.take());
    }
}

impl Drop for HttpSource {
    fn drop(&mut self) {
        if !self.shared.is_here() {
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
        Some(SourceVersion::Exact(match &self.shared.origin.place {
            Place::Named(url, _) => format!("etag {tag} of {}", lasting_query(url)),
            #[cfg(feature = "stores")]
            Place::Store(_) => format!("etag {tag}"),
        }))
    }

    fn reopen(&self) -> Result<Arc<dyn Source>> {
        let Some(Again(again)) = &self.again else { return Err(ErrorKind::Forked.into()) };
        let source = again()?;
        if !self.shared.version.is(&source.shared.version) {
            return Err(Error::from(ErrorKind::Changed).of(&self.shared.name));
        }
        Ok(Arc::new(source))
    }

    fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    fn remote(&self) -> Option<&dyn RemoteSource> {
        Some(self)
    }
}

impl RemoteSource for HttpSource {
    fn will_need(&self, ranges: &mut dyn Iterator<Item = ByteRange>) {
        if self.shared.is_here() {
            self.start(self.affordable(ranges));
        }
    }

    fn when_here(&self, ranges: &mut dyn Iterator<Item = ByteRange>, then: Box<dyn FnOnce() + Send>) {
        if !self.shared.is_here() {
            return then();
        }
        let wanted: Vec<ByteRange> = ranges.collect();
        // Waits for bytes on their way even if nothing more is requested now.
        self.start(self.affordable(&mut wanted.iter().copied()));
        self.shared.spans.when_here(&wanted, then);
    }

    fn is_awaited(&self, range: ByteRange, patience: Duration) -> bool {
        self.shared.is_here() && self.shared.whole.is_none() && self.shared.spans.is_awaited(range, patience)
    }

    fn is_here(&self, range: ByteRange) -> bool {
        !self.shared.is_here() || self.shared.whole.is_some() || self.shared.spans.is_here(range)
    }

    fn room(&self) -> u64 {
        self.shared.origin.options.cache / 2
    }

    fn opening(&self) -> Counted {
        self.shared.opening
    }

    fn confirmed(&self) -> Instant {
        self.shared.confirmed.last()
    }

    fn confirm(&self) {
        if !self.shared.is_here() {
            return;
        }
        let shared = Arc::clone(self.shared.arc());
        let last = self.shared.confirmed.last();
        let _turn = self.shared.confirming.lock().unwrap_or_else(PoisonError::into_inner);
        // Another caller has asked in the meantime.
        let is_told = shared.has_changed.load(Relaxed) || shared.confirmed.last() > last;
        let Some(runtime) = runtime().ok().filter(|_| !is_told && self.len() > 0) else { return };
        let (tell, told) = mpsc::channel();
        runtime.spawn(async move {
            shared.ask_again().await;
            let _ = tell.send(());
        });
        let _ = told.recv();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::HttpClient;
    use super::HttpSource;
    use crate::source::remote::HttpOptions;
    use crate::source::{ByteRange, RemoteSource, Source, conformance};
    use testing::range_server::{Answer, Server, sum};

    fn options() -> HttpOptions {
        HttpOptions {
            block: 1000,
            gap: 100,
            cache: 16_000,
            deadline: Duration::from_secs(20),
            ..HttpOptions::default()
        }
    }

    fn open(server: &Server, options: HttpOptions) -> HttpSource {
        let address = server.put("bytes", conformance::bytes(), "\"1\"");
        HttpClient::new(options).unwrap().open(&address).unwrap()
    }

    #[test]
    fn conforms_and_fetches_no_byte_twice() {
        let server = Server::start();
        let source = open(&server, options());
        conformance::remote(&source);
        let asked = server.asked();
        let confirming = 1;
        assert_eq!(sum(&asked).1, source.len() + confirming, "{asked:#?}");
        let counted = source.counters().now();
        assert_eq!((counted.requests as usize, counted.bytes), sum(&asked));
        assert!(asked[1..].iter().all(|asked| asked.headers["if-match"] == "\"1\""));
    }

    #[test]
    fn conforms_where_there_is_no_room_to_keep_anything() {
        let server = Server::start();
        conformance::remote(&open(&server, HttpOptions { cache: 700, ..options() }));
    }

    #[test]
    fn conforms_where_the_server_gives_no_parts() {
        let server = Server::start();
        for answer in [Answer::Whole, Answer::WholeUnbounded] {
            server.behave(move |_| answer.clone());
            conformance::remote(&open(&server, HttpOptions { cache: 20_000, ..options() }));
        }
    }

    #[test]
    fn a_hint_brings_everything_in_few_requests() {
        let server = Server::start();
        let source = open(&server, options());
        let range = |start, len| ByteRange { start, len };
        source.will_need(&mut [range(2000, 500), range(2550, 100), range(5000, 10), range(500, 50)].into_iter());
        for (start, len) in [(2000, 500), (2550, 100), (5000, 10), (500, 50)] {
            assert_eq!(source.read_padded(range(start, len)).unwrap().len() as u64, len);
        }
        let ranges: Vec<_> = server.asked().iter().filter_map(|asked| asked.range).skip(1).collect();
        assert!(ranges.len() == 2 && ranges.contains(&(2000, 2650)) && ranges.contains(&(5000, 5010)), "{ranges:?}");
    }

    #[test]
    fn what_is_replaced_or_gone_is_noticed_by_who_asks_for_it() {
        for is_whole in [false, true] {
            let server = Server::start();
            let good = if is_whole { Answer::Whole } else { Answer::Good };
            let behave = |answer: &Answer| {
                let answer = answer.clone();
                server.behave(move |_| answer.clone());
            };
            behave(&good);
            let source = open(&server, HttpOptions { cache: 20_000, ..options() });
            let all = ByteRange { start: 0, len: source.len() };
            source.read(all).unwrap();
            let opened = source.confirmed();
            server.asked();
            source.confirm();
            let confirmed = source.confirmed();
            assert!(confirmed > opened && source.check().is_ok() && server.asked().len() == 1);
            // An unreachable server proves nothing.
            for answer in [Answer::HangUp, Answer::Status(503, ""), Answer::Status(403, "")] {
                behave(&answer);
                source.confirm();
                source.check().unwrap();
                assert!(source.confirmed() > confirmed && server.asked().len() == 1);
            }
            behave(&good);
            server.put("bytes", conformance::bytes(), "\"2\"");
            source.check().unwrap();
            source.confirm();
            assert!(source.check().is_err());
            let source = open(&server, HttpOptions { cache: 20_000, ..options() });
            behave(&Answer::Status(404, ""));
            source.confirm();
            assert!(source.check().is_err(), "it is gone");
            // The same bytes, but no header says so.
            for tags in ["", "ETag: W/\"2\"", "ETag: \"2\"\r\nETag: \"3\""] {
                behave(&good);
                let source = open(&server, HttpOptions { cache: 20_000, ..options() });
                behave(&if is_whole { Answer::WholeTagged(tags) } else { Answer::Tagged(tags) });
                source.confirm();
                assert!(source.check().is_err(), "{tags}");
            }
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let server = Server::start();
        let options = HttpOptions { headers: vec![("Authorization".into(), "secret".into())], ..options() };
        assert!(!format!("{:?}", open(&server, options)).contains("secret"));
    }
}
