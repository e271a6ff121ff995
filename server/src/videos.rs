//! Open videos for requests: found by name, and opened on threads that may block. `roots` finds their sources.
//!
//! Each root has permits of its own for opening, so that a server that does not answer blocks no other root. Within a
//! root no client has more than half of them. When no request waits for a video any more, its permit is returned and
//! its opening is cancelled, except for a few that may continue: reading a whole container may take longer than a
//! request may, and the next request then finds the video open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::admission::{Admission, Charged, Client, Load, Permit};
use super::flights::{Flights, Turn};
use super::problem::Problem;
use super::roots::Roots;
use super::sample_order::SampleOrder;
use super::scope::Permitted;
use bucket_streamer::Catalog;
use bucket_streamer::Engine;
use bucket_streamer::IndexCache;
use bucket_streamer::source::{Opening, SourceVersion};
use bucket_streamer::{Video, WeakVideo};

/// Most videos of a root that are opened at one time: more wait. Of a remote root, one client's openings then use fewer
/// than half of the requests that its server gets at one time.
const OPENING: usize = 32;
const OPENING_REMOTE: usize = 12;
/// Approximately the same for all roots together.
const OPENING_IN_ALL: usize = 256;
/// Most openings of a root that continue although no request waits for them.
const ADRIFT: usize = 2;
/// Most videos of a root that are checked for changes at one time: more wait.
const CONFIRMING: usize = 64;

/// The permits for opening videos of a root.
#[derive(Debug)]
struct Gate {
    opening: Arc<Admission>,
    adrift: Arc<Semaphore>,
    confirming: Arc<Semaphore>,
}

impl Gate {
    fn new(roots: usize, is_remote: bool, waiting: usize) -> Gate {
        let most = if is_remote { OPENING_REMOTE } else { OPENING };
        let most = (OPENING_IN_ALL / roots.max(1)).clamp(4, most);
        let turns = |most| Arc::new(Semaphore::new(most));
        let opening = Admission::new(most, waiting, Charged::Possession);
        Gate { opening, adrift: turns(ADRIFT), confirming: turns(CONFIRMING) }
    }
}

/// The permit that an opening holds while it runs.
#[derive(Debug)]
enum Held {
    Permit { _permit: Permit },
    Adrift { _permit: OwnedSemaphorePermit },
}

/// An opening that requests wait for. It is dropped when the last one goes.
struct Awaited {
    opening: Opening,
    held: Arc<Mutex<Option<Held>>>,
    adrift: Arc<Semaphore>,
}

impl Drop for Awaited {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // The opening may be over.
        let Some(permit) = held.take() else { return };
        let permit = match Arc::clone(&self.adrift).try_acquire_owned() {
            Ok(adrift) => {
                *held = Some(Held::Adrift { _permit: adrift });
                Some(permit)
            }
            // The opening's thread returns the permit when it notices: until then it may be computing.
            Err(_) => {
                self.opening.cancel();
                *held = Some(permit);
                None
            }
        };
        drop((held, permit));
    }
}

/// A video, and the tag of this version of it.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub(super) name: Arc<str>,
    pub(super) video: Video,
    pub(super) tag: u128,
    order: Arc<SampleOrder>,
}

impl Opened {
    /// The samples by their offsets.
    pub(super) fn order(&self) -> &SampleOrder {
        &self.order
    }

    /// The tag as in addresses and headers, without quotes.
    pub(super) fn etag(&self) -> String {
        format!("{:032x}", self.tag)
    }
}

/// The open videos of the roots.
#[derive(Debug)]
pub(super) struct Videos {
    pub(super) catalog: Arc<Catalog>,
    flights: Flights<Arc<str>, Result<Opened, Problem>>,
    confirmations: Flights<Arc<str>, Result<(), Problem>>,
    roots: Arc<Roots>,
    seen: Arc<Seen>,
    /// One for each root, and one for names in no root.
    gates: Vec<Gate>,
    timeout: Option<Duration>,
}

impl Videos {
    /// Up to `waiting` requests wait for each root.
    pub(super) fn new(engine: &Engine, roots: &Arc<Roots>, indexes: Option<IndexCache>, waiting: usize) -> Videos {
        let own = Arc::clone(roots);
        let catalog = Catalog::new(engine).with_opener(move |name| own.open(name));
        let catalog = Arc::new(match indexes {
            Some(cache) => catalog.with_index_cache(cache),
            None => catalog,
        });
        let count = roots.count();
        let gates = (0..=count).map(|root| Gate::new(count, roots.is_remote(root), waiting)).collect();
        let timeout = engine.open_timeout();
        let (flights, confirmations) = (Flights::default(), Flights::default());
        Videos { catalog, flights, confirmations, roots: Arc::clone(roots), seen: Arc::default(), gates, timeout }
    }

    /// Openings that run and that wait, of all roots together.
    pub(super) fn load(&self) -> Load {
        let none = Load { running: 0, waiting: 0, room: 0 };
        self.gates.iter().map(|gate| gate.opening.load()).fold(none, |all, load| Load {
            running: all.running + load.running,
            waiting: all.waiting + load.waiting,
            room: all.room + load.room,
        })
    }

    /// The video of a permitted name. Concurrent requests for a video that is being opened share the result, errors
    /// included.
    pub(super) async fn open(
        &self,
        name: Permitted<'_>,
        client: &Client,
        patience: Duration,
    ) -> Result<Opened, Problem> {
        let name: Arc<str> = name.name().into();
        let work = async {
            if let Some(video) = self.catalog.get(&name, 0) {
                let is_due = self.roots.is_due(video.source());
                if is_due {
                    self.confirm(&name, &video).await?;
                }
                if let Some(seen) = self.seen.of(&video)
                    && (!is_due || video.source().check().is_ok())
                {
                    return Ok(seen.opened(name, video));
                }
            }
            let gate = self.gate(&name);
            let work = match self.flights.turn(&name, gate.opening.enter(client, 0.0)).await {
                Turn::Joined(work) => work,
                Turn::Own(permit) => {
                    let permit = permit?;
                    self.flights.join(&name, || self.opened(&name, permit, &gate.adrift)).0
                }
            };
            work.await
        };
        tokio::time::timeout(patience, work).await.unwrap_or_else(|_| Err(Problem::not_opened_in_time()))
    }

    fn gate(&self, name: &str) -> &Gate {
        &self.gates[self.roots.root_number(name)]
    }

    /// Asks the source whether an open video is unchanged: cached bytes and stills alone would not reveal that it was
    /// replaced. A changed video is opened anew. A server that cannot be reached now is no error: the cached data stay
    /// in use.
    async fn confirm(&self, name: &Arc<str>, video: &Video) -> Result<(), Problem> {
        let (work, _) = self.confirmations.join(name, || {
            let (confirming, video) = (Arc::clone(&self.gate(name).confirming), video.clone());
            async move {
                let turn = confirming.acquire_owned().await.map_err(|_| Problem::draining())?;
                let asked = tokio::task::spawn_blocking(move || {
                    let _turn = turn;
                    video.source().confirm();
                });
                asked.await.map_err(|_| Problem::internal("no thread"))
            }
        });
        work.await
    }

    /// Opens a video under a permit.
    fn opened(
        &self,
        name: &Arc<str>,
        permit: Permit,
        adrift: &Arc<Semaphore>,
    ) -> impl Future<Output = Result<Opened, Problem>> + Send + 'static {
        let (catalog, name, timeout) = (Arc::clone(&self.catalog), Arc::clone(name), self.timeout);
        let (adrift, seen) = (Arc::clone(adrift), Arc::clone(&self.seen));
        async move {
            let opening = Opening::new(timeout);
            let held = Arc::new(Mutex::new(Some(Held::Permit { _permit: permit })));
            let (own, within) = (Arc::clone(&held), opening.clone());
            let _awaited = Awaited { opening, held, adrift };
            let opened = tokio::task::spawn_blocking(move || {
                let opened =
                    catalog.open_within(&name, 0, &within).map(|video| seen.look_at(&name, &video).opened(name, video));
                drop(own.lock().unwrap_or_else(PoisonError::into_inner).take());
                opened
            });
            opened.await.map_err(|_| Problem::internal("opening failed"))?.map_err(|error| Problem::of(&error))
        }
    }
}

/// Results about an open video that need all of its samples.
#[derive(Debug, Clone)]
struct Found {
    tag: u128,
    order: Arc<SampleOrder>,
}

impl Found {
    fn opened(self, name: Arc<str>, video: Video) -> Opened {
        Opened { name, video, tag: self.tag, order: self.order }
    }
}

/// An open video with its results, or their computation in progress.
#[derive(Debug)]
struct Look {
    video: WeakVideo,
    found: Arc<OnceLock<Found>>,
}

/// Results about open videos. A closed video's results are removed soon: there are never many more of them here than
/// open videos.
#[derive(Debug, Default)]
struct Seen(Mutex<Looks>);

/// Results by the videos' numbers.
#[derive(Debug, Default)]
struct Looks {
    by_id: HashMap<u64, Look>,
    /// The number of entries at which those of closed videos are removed.
    most: usize,
}

/// Entries that are kept whether their videos are open or not.
const FEW: usize = 8;

impl Looks {
    /// Takes out the entries of closed videos, if there are about as many of them as of open ones.
    fn closed(&mut self) -> HashMap<u64, Look> {
        if self.by_id.len() < self.most.max(FEW) {
            return HashMap::new();
        }
        let all = std::mem::take(&mut self.by_id).into_iter();
        let (closed, open): (HashMap<_, _>, HashMap<_, _>) = all.partition(|(_, look)| look.video.is_closed());
        self.most = 2 * open.len();
        self.by_id = open;
        closed
    }
}

impl Seen {
    /// The results about a video, if they are known.
    fn of(&self, video: &Video) -> Option<Found> {
        self.lock().by_id.get(&video.id())?.found.get().cloned()
    }

    /// Reads all samples of a video, unless that was done: not for serving threads.
    fn look_at(&self, name: &str, video: &Video) -> Found {
        let (cell, closed) = {
            let mut looks = self.lock();
            let closed = looks.closed();
            let new = || Look { video: video.downgrade(), found: Arc::default() };
            (Arc::clone(&looks.by_id.entry(video.id()).or_insert_with(new).found), closed)
        };
        // Dropped after the lock is released, because requests wait for it.
        drop(closed);
        let look = || {
            video.key_frames();
            Found { tag: tag_of(name, video), order: Arc::new(SampleOrder::of(&video.track().samples)) }
        };
        cell.get_or_init(look).clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Looks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A checksum of the video's name and of its version: the exact version from the source, or else its approximate one
/// (to the second) with the offsets, sizes and times of all samples.
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

    use super::{FEW, Seen};
    use bucket_streamer::Engine;

    #[test]
    fn tags_tell_versions_apart_even_by_the_second_alone() {
        let folder = std::env::temp_dir().join(format!("bucket-streamer-tags-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/hevc_demo.mp4");
        let copy = folder.join("clip.mp4");
        std::fs::write(&copy, std::fs::read(fixture).unwrap()).unwrap();
        let tag = |seconds: f64, name: &str| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds);
            std::fs::File::options().write(true).open(&copy).unwrap().set_modified(time).unwrap();
            Seen::default().look_at(name, &Engine::new(Some(1)).open_path(&copy).unwrap()).tag
        };
        let first = tag(1e9, "a");
        assert_eq!(first, tag(1e9, "a"));
        assert!(first != tag(1e9 + 1.0, "a") && first != tag(1e9 + 0.5, "a") && first != tag(1e9, "b"));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_was_found_out_goes_after_its_video() {
        let (seen, engine) = (Seen::default(), Engine::new(Some(1)));
        let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/hevc_gray.mp4");
        let open = || engine.open_path(&fixture).unwrap();
        let kept: Vec<_> = (0..20).map(|_| open()).collect();
        let found: Vec<u128> = kept.iter().map(|video| seen.look_at("a", video).tag).collect();
        for _ in 0..100 {
            seen.look_at("b", &open());
        }
        let count = seen.lock().by_id.len();
        assert!((kept.len()..=2 * kept.len() + FEW).contains(&count), "{count}");
        let known: Vec<u128> = kept.iter().map(|video| seen.of(video).expect("it is open").tag).collect();
        assert_eq!(known, found);
        assert!(seen.of(&open()).is_none());
    }
}
