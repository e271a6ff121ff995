//! Open videos for requests, by name. They are opened on threads that may block. `roots` opens their sources.
//!
//! Each root has its own permits for openings, so that a server that does not respond blocks no other root. No client
//! has more than half of a root's permits. When no request waits for a video any more, its permit is returned and its
//! opening is cancelled, except for a few openings that continue: reading a whole container may exceed the deadline of
//! a request, and a later request then finds the video open.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::admission::{Admission, AdmissionLoad, AdmissionPermit, ChargeBasis, RequestClient};
use super::problem::Problem;
use super::roots::Roots;
use super::sample_order::SampleOrder;
use super::scope::PermittedName;
use super::single_flight::{FlightRole, SingleFlight};
use crate::locks::{Mutex, MutexGuard};
use bucket_streamer::Catalog;
use bucket_streamer::Engine;
use bucket_streamer::IndexCache;
use bucket_streamer::source::{Opening, SourceVersion};
use bucket_streamer::{Video, WeakVideo};

/// Most videos of a local and of a remote root that are opened at one time. One client's openings of a remote root then
/// use fewer than half of the concurrent requests to its server.
const OPENING: usize = 32;
const OPENING_REMOTE: usize = 12;
/// Most videos of all roots that are opened at one time, approximately.
const OPENING_IN_ALL: usize = 256;
/// Most openings of a root that continue although no request waits for them.
const DETACHED: usize = 2;
/// Most videos of a root that are revalidated at one time.
const CONFIRMING: usize = 64;

/// The permits for opening and revalidating videos of a root.
#[derive(Debug)]
struct OpeningLimits {
    opening: Arc<Admission>,
    detached: Arc<Semaphore>,
    confirming: Arc<Semaphore>,
}

impl OpeningLimits {
    fn new(roots: usize, is_remote: bool, waiting: usize) -> OpeningLimits {
        let most = if is_remote { OPENING_REMOTE } else { OPENING };
        let most = (OPENING_IN_ALL / roots.max(1)).clamp(4, most);
        let semaphore = |most| Arc::new(Semaphore::new(most));
        let opening = Admission::new(most, waiting, ChargeBasis::HoldTime);
        OpeningLimits { opening, detached: semaphore(DETACHED), confirming: semaphore(CONFIRMING) }
    }
}

/// The permit of a running opening: of a request, or of one that continues without requests.
#[derive(Debug)]
enum OpeningPermit {
    Permit { _permit: AdmissionPermit },
    Detached { _permit: OwnedSemaphorePermit },
}

/// An opening that requests wait for. It is dropped when it ends, or with the last of these requests.
struct SharedOpening {
    opening: Opening,
    permit: Arc<Mutex<Option<OpeningPermit>>>,
    detached: Arc<Semaphore>,
}

impl Drop for SharedOpening {
    fn drop(&mut self) {
        let mut slot = self.permit.lock().unwrap_or_else(PoisonError::into_inner);
        // Without a permit the opening has ended.
        let Some(permit) = slot.take() else { return };
        let permit = match Arc::clone(&self.detached).try_acquire_owned() {
            Ok(detached) => {
                *slot = Some(OpeningPermit::Detached { _permit: detached });
                Some(permit)
            }
            // The opening's thread returns the permit when it detects the cancellation: until then it may compute.
            Err(_) => {
                self.opening.cancel();
                *slot = Some(permit);
                None
            }
        };
        drop((slot, permit));
    }
}

/// An open video, and the tag of its version.
#[derive(Debug, Clone)]
pub(super) struct OpenVideo {
    pub(super) name: Arc<str>,
    pub(super) video: Video,
    pub(super) tag: u128,
    order: Arc<SampleOrder>,
}

impl OpenVideo {
    /// The samples by their byte offsets.
    pub(super) fn order(&self) -> &SampleOrder {
        &self.order
    }

    /// The tag in hexadecimal, as in addresses and headers, without quotes.
    pub(super) fn etag(&self) -> String {
        format!("{:032x}", self.tag)
    }
}

/// The open videos of the roots.
#[derive(Debug)]
pub(super) struct Videos {
    pub(super) catalog: Arc<Catalog>,
    openings: SingleFlight<Arc<str>, Result<OpenVideo, Problem>>,
    confirmations: SingleFlight<Arc<str>, Result<(), Problem>>,
    roots: Arc<Roots>,
    facts: Arc<FactsCache>,
    /// One for each root, and one for names in no root.
    limits: Vec<OpeningLimits>,
    timeout: Option<Duration>,
}

impl Videos {
    /// Up to `waiting` requests may wait for each root.
    pub(super) fn new(engine: &Engine, roots: &Arc<Roots>, indexes: Option<IndexCache>, waiting: usize) -> Videos {
        let own = Arc::clone(roots);
        let catalog = Catalog::new(engine).with_opener(move |name| own.open(name));
        let catalog = Arc::new(match indexes {
            Some(cache) => catalog.with_index_cache(cache),
            None => catalog,
        });
        let count = roots.count();
        let limits = (0..=count).map(|root| OpeningLimits::new(count, roots.is_remote(root), waiting)).collect();
        let timeout = engine.open_timeout();
        let (openings, confirmations) = (SingleFlight::default(), SingleFlight::default());
        Videos { catalog, openings, confirmations, roots: Arc::clone(roots), facts: Arc::default(), limits, timeout }
    }

    /// The running and waiting openings of all roots together.
    pub(super) fn load(&self) -> AdmissionLoad {
        let none = AdmissionLoad { running: 0, waiting: 0, max_waiting: 0 };
        self.limits.iter().map(|limits| limits.opening.load()).fold(none, |all, load| AdmissionLoad {
            running: all.running + load.running,
            waiting: all.waiting + load.waiting,
            max_waiting: all.max_waiting + load.max_waiting,
        })
    }

    /// The video of a permitted name. Concurrent requests for a video that is being opened share the result, including
    /// errors. Waits for at most `max_wait`.
    pub(super) async fn open(
        &self,
        name: PermittedName<'_>,
        client: &RequestClient,
        max_wait: Duration,
    ) -> Result<OpenVideo, Problem> {
        let name: Arc<str> = name.name().into();
        let work = async {
            if let Some(video) = self.catalog.get(&name, 0) {
                let is_due = self.roots.needs_revalidation(video.source());
                if is_due {
                    self.confirm(&name, &video).await?;
                }
                if let Some(facts) = self.facts.get(&video)
                    && (!is_due || video.source().check().is_ok())
                {
                    return Ok(facts.into_video(name, video));
                }
            }
            let limits = self.limits_of(&name);
            let work = match self.openings.lead_or_join(&name, limits.opening.enter(client, 0.0)).await {
                FlightRole::Follower(work) => work,
                FlightRole::Leader(permit) => {
                    let permit = permit?;
                    self.openings.join(&name, || self.open_with_permit(&name, permit, &limits.detached)).0
                }
            };
            work.await
        };
        tokio::time::timeout(max_wait, work).await.unwrap_or_else(|_| Err(Problem::not_opened_in_time()))
    }

    fn limits_of(&self, name: &str) -> &OpeningLimits {
        &self.limits[self.roots.root_number(name)]
    }

    /// Revalidates the source of an open video: cached bytes and stills alone would not reveal that it was replaced. A
    /// server that is unreachable now is no error: the cached data stay in use. Concurrent requests share one
    /// revalidation.
    async fn confirm(&self, name: &Arc<str>, video: &Video) -> Result<(), Problem> {
        let (work, _) = self.confirmations.join(name, || {
            let (confirming, video) = (Arc::clone(&self.limits_of(name).confirming), video.clone());
            async move {
                let permit = confirming.acquire_owned().await.map_err(|_| Problem::draining())?;
                let confirmed = tokio::task::spawn_blocking(move || {
                    let _permit = permit;
                    video.source().revalidate();
                });
                confirmed.await.map_err(|_| Problem::internal("no thread"))
            }
        });
        work.await
    }

    /// Opens a video under a permit; the caller shares the future by single-flight.
    fn open_with_permit(
        &self,
        name: &Arc<str>,
        permit: AdmissionPermit,
        detached: &Arc<Semaphore>,
    ) -> impl Future<Output = Result<OpenVideo, Problem>> + Send + 'static {
        let (catalog, name, timeout) = (Arc::clone(&self.catalog), Arc::clone(name), self.timeout);
        let (detached, facts) = (Arc::clone(detached), Arc::clone(&self.facts));
        async move {
            let opening = Opening::new(timeout);
            let slot = Arc::new(Mutex::new(Some(OpeningPermit::Permit { _permit: permit })));
            let (own, within) = (Arc::clone(&slot), opening.clone());
            let _guard = SharedOpening { opening, permit: slot, detached };
            let opened = tokio::task::spawn_blocking(move || {
                let opened = catalog
                    .open_within(&name, 0, &within)
                    .map(|video| facts.get_or_compute(&name, &video).into_video(name, video));
                drop(own.lock().unwrap_or_else(PoisonError::into_inner).take());
                opened
            });
            opened.await.map_err(|_| Problem::internal("opening failed"))?.map_err(|error| Problem::of(&error))
        }
    }
}

/// Results about an open video that need all of its samples.
#[derive(Debug, Clone)]
struct VideoFacts {
    tag: u128,
    order: Arc<SampleOrder>,
}

impl VideoFacts {
    fn into_video(self, name: Arc<str>, video: Video) -> OpenVideo {
        OpenVideo { name, video, tag: self.tag, order: self.order }
    }
}

/// An open video and its results, or an empty cell while they are computed.
#[derive(Debug)]
struct FactsEntry {
    video: WeakVideo,
    facts: Arc<OnceLock<VideoFacts>>,
}

/// Results about open videos. Those of closed videos are removed so often that at most about half of all entries are
/// theirs.
#[derive(Debug, Default)]
struct FactsCache(Mutex<FactsTable>);

/// Results by the videos' ids.
#[derive(Debug, Default)]
struct FactsTable {
    by_id: HashMap<u64, FactsEntry>,
    /// The number of entries at which those of closed videos are removed.
    sweep_at: usize,
}

/// Least number of entries at which those of closed videos are removed.
const LEAST_SWEEP: usize = 8;

impl FactsTable {
    /// Removes and returns the entries of closed videos, if the table has twice as many entries as there were open
    /// videos at the last removal.
    fn take_closed(&mut self) -> HashMap<u64, FactsEntry> {
        if self.by_id.len() < self.sweep_at.max(LEAST_SWEEP) {
            return HashMap::new();
        }
        let all = std::mem::take(&mut self.by_id).into_iter();
        let (closed, open): (HashMap<_, _>, HashMap<_, _>) = all.partition(|(_, entry)| entry.video.is_closed());
        self.sweep_at = 2 * open.len();
        self.by_id = open;
        closed
    }
}

impl FactsCache {
    /// The results about a video, if they have been computed.
    fn get(&self, video: &Video) -> Option<VideoFacts> {
        self.lock().by_id.get(&video.id())?.facts.get().cloned()
    }

    /// The results about a video; computes them on the first call. That reads all samples, and must not block a thread
    /// of the async runtime.
    fn get_or_compute(&self, name: &str, video: &Video) -> VideoFacts {
        let (cell, closed) = {
            let mut table = self.lock();
            let closed = table.take_closed();
            let new = || FactsEntry { video: video.downgrade(), facts: Arc::default() };
            (Arc::clone(&table.by_id.entry(video.id()).or_insert_with(new).facts), closed)
        };
        // Dropped after the lock is released, because requests wait for the lock.
        drop(closed);
        let compute = || {
            video.key_frames();
            VideoFacts { tag: tag_of(name, video), order: Arc::new(SampleOrder::of(&video.track().samples)) }
        };
        cell.get_or_init(compute).clone()
    }

    fn lock(&self) -> MutexGuard<'_, FactsTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first 16 bytes of SHA-256 over the video's name and version: the exact version of the source, or else the
/// approximate one (to the second) with the offsets, sizes and times of all samples.
fn tag_of(name: &str, video: &Video) -> u128 {
    let source = video.source();
    let mut hash = Sha256::new();
    hash.update((name.len() as u64).to_le_bytes());
    hash.update(name);
    hash.update(source.len().to_le_bytes());
    match source.version() {
        Some(SourceVersion::Exact(version)) => hash.update(version),
        version => {
            if let Some(SourceVersion::Approximate(hint)) = version {
                hash.update(hint);
            }
            hash.update(video.track().parameters.extradata());
            for sample in &video.track().samples {
                hash.update(sample.offset.to_le_bytes());
                hash.update(sample.size.to_le_bytes());
                hash.update(sample.pts.to_le_bytes());
            }
        }
    }
    let digest = hash.finalize();
    digest.iter().take(16).fold(0, |tag, byte| tag << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{FactsCache, LEAST_SWEEP};
    use bucket_streamer::Engine;

    #[test]
    fn tags_distinguish_versions_even_by_the_second_alone() {
        let folder = std::env::temp_dir().join(format!("bucket-streamer-tags-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/hevc_demo.mp4");
        let copy = folder.join("clip.mp4");
        std::fs::write(&copy, std::fs::read(fixture).unwrap()).unwrap();
        let tag = |seconds: f64, name: &str| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds);
            std::fs::File::options().write(true).open(&copy).unwrap().set_modified(time).unwrap();
            FactsCache::default().get_or_compute(name, &Engine::new(Some(1)).open_path(&copy).unwrap()).tag
        };
        let first = tag(1e9, "a");
        assert_eq!(first, tag(1e9, "a"));
        assert!(first != tag(1e9 + 1.0, "a") && first != tag(1e9 + 0.5, "a") && first != tag(1e9, "b"));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn facts_are_removed_after_their_video_is_closed() {
        let (facts, engine) = (FactsCache::default(), Engine::new(Some(1)));
        let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/hevc_gray.mp4");
        let open = || engine.open_path(&fixture).unwrap();
        let kept: Vec<_> = (0..20).map(|_| open()).collect();
        let found: Vec<u128> = kept.iter().map(|video| facts.get_or_compute("a", video).tag).collect();
        for _ in 0..100 {
            facts.get_or_compute("b", &open());
        }
        let count = facts.lock().by_id.len();
        assert!((kept.len()..=2 * kept.len() + LEAST_SWEEP).contains(&count), "{count}");
        let known: Vec<u128> = kept.iter().map(|video| facts.get(video).expect("it is open").tag).collect();
        assert_eq!(known, found);
        assert!(facts.get(&open()).is_none());
    }
}
