//! Keeps videos open by their addresses, within a budget of index bytes. Opening is left to the engine.
//!
//! Concurrent requests for one video share one opening. A video whose source has changed is opened again. The catalog
//! keeps the index, and the references learned from pictures; bytes and decoders have budgets of their own.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::Result;
use crate::index_cache::IndexCache;
use crate::machine::Machine;
use crate::session::engine::Engine;
use crate::session::video::Video;
use crate::source::opening::{self, Opening};
use crate::source::{self, Source};
use crate::sync::unmodelled::{Condvar, Mutex, MutexGuard};

/// The default budget in bytes; less on machines with little memory.
const BUDGET: u64 = 512 << 20;

/// All indexes are measured again once an eighth of the videos was opened since the last measurement, and an eighth of
/// the budget is freed at one time.
const WEIGHED: usize = 8;

/// Opens the source at an address.
type Opener = dyn Fn(&str) -> Result<Arc<dyn Source>> + Send + Sync;

/// Open videos by address and track, for any number of threads. The least recently used videos are removed when their
/// indexes exceed the budget; callers can go on with a [`Video`] that was removed.
pub struct Catalog {
    engine: Engine,
    opener: Box<Opener>,
    indexes: Option<IndexCache>,
    budget: u64,
    state: Mutex<CatalogState>,
    change: Condvar,
}

#[derive(Default)]
struct CatalogState {
    videos: HashMap<(String, usize), CatalogEntry>,
    bytes: u64,
    clock: u64,
    /// Videos opened since the last measurement of all.
    unmeasured: usize,
}

enum CatalogEntry {
    /// A caller opens the video.
    Opening,
    Open {
        video: Video,
        bytes: u64,
        used: u64,
    },
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Catalog").field("budget", &self.budget).finish_non_exhaustive()
    }
}

impl Catalog {
    /// A catalog that opens videos with `engine`, at the addresses of [`source::open`].
    pub fn new(engine: &Engine) -> Catalog {
        Catalog {
            engine: engine.clone(),
            opener: Box::new(source::open),
            indexes: None,
            budget: Machine::read().memory_share(8, BUDGET),
            state: Mutex::default(),
            change: Condvar::new(),
        }
    }

    /// Uses `opener` instead of [`source::open`].
    #[must_use]
    pub fn with_opener(mut self, opener: impl Fn(&str) -> Result<Arc<dyn Source>> + Send + Sync + 'static) -> Catalog {
        self.opener = Box::new(opener);
        self
    }

    /// Stores indexes on disk too.
    #[must_use]
    pub fn with_index_cache(mut self, cache: IndexCache) -> Catalog {
        self.indexes = Some(cache);
        self
    }

    /// Sets how many bytes the indexes of open videos may take together: by default an eighth of the memory, at most
    /// 512 MiB. The video used last is always kept.
    #[must_use]
    pub fn budget(mut self, bytes: u64) -> Catalog {
        self.budget = bytes;
        self
    }

    fn lock(&self) -> MutexGuard<'_, CatalogState> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The video at an address: video track `track`, counted from 0. Waits if another caller is opening it.
    ///
    /// # Errors
    /// Those of [`source::open`] and [`Engine::open`]. Errors are not cached: the next call opens again.
    pub fn open(&self, location: &str, track: usize) -> Result<Video> {
        self.open_within(location, track, &Opening::new(self.engine.shared.open_timeout))
    }

    /// As [`Catalog::open`], within the limits of `opening`.
    ///
    /// # Errors
    /// Those of [`Catalog::open`]; `OpenCancelled` once `opening` is cancelled.
    pub fn open_within(&self, location: &str, track: usize, opening: &Opening) -> Result<Video> {
        self.engine.shared.check()?;
        opening.run(|| self.open_now(location, track))
    }

    fn open_now(&self, location: &str, track: usize) -> Result<Video> {
        let key = (location.to_owned(), track);
        if let Some(video) = self.find(&key)? {
            return Ok(video);
        }
        // If opening fails or panics, the drop of the guard wakes the callers that wait for it.
        let guard = PendingOpen { catalog: self, key: Some(key) };
        let source = (self.opener)(location)?;
        let video = match &self.indexes {
            Some(cache) => cache.open_video(&self.engine, source, track)?,
            None => self.engine.open(source, track)?,
        };
        guard.complete(video.clone());
        Ok(video)
    }

    /// The video at an address if it is open and has not changed; never waits for an opening. The check takes as long
    /// as the file system's answer.
    pub fn get(&self, location: &str, track: usize) -> Option<Video> {
        if !self.engine.shared.is_current() {
            return None;
        }
        let key = (location.to_owned(), track);
        let video = self.lock().touch(&key)?;
        video.source().check().is_ok().then_some(video)
    }

    /// Number of entries: open videos, and those being opened.
    pub fn count(&self) -> usize {
        if self.engine.shared.is_current() { self.lock().videos.len() } else { 0 }
    }

    /// The open video; `None` if the caller has to open it.
    fn find(&self, key: &(String, usize)) -> Result<Option<Video>> {
        loop {
            let Some(video) = self.opened(key)? else { return Ok(None) };
            // Outside of the lock: a file system may take long, or never answer.
            if video.source().check().is_ok() {
                return Ok(Some(video));
            }
            let mut state = self.lock();
            // Another caller may have detected the change first.
            if state.videos.get(key).is_some_and(|slot| slot.is_of(&video)) {
                let evicted = state.videos.insert(key.clone(), CatalogEntry::Opening);
                state.bytes -= evicted.as_ref().map_or(0, CatalogEntry::bytes);
                drop(state);
                return Ok(None);
            }
        }
    }

    /// The open video, after a wait for a caller that opens it; `None` if the caller has to open it.
    fn opened(&self, key: &(String, usize)) -> Result<Option<Video>> {
        let mut state = self.lock();
        loop {
            match state.videos.get(key) {
                Some(CatalogEntry::Opening) => {
                    // A cancelled caller stops waiting for the other one.
                    opening::check(u64::MAX)?;
                    let waited = self.change.wait_timeout(state, opening::LOOK);
                    state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
                }
                Some(CatalogEntry::Open { .. }) => return Ok(state.touch(key)),
                None => {
                    state.videos.insert(key.clone(), CatalogEntry::Opening);
                    return Ok(None);
                }
            }
        }
    }

    /// Bytes of the indexes of open videos, approximately.
    pub fn held_bytes(&self) -> u64 {
        if self.engine.shared.is_current() { self.lock().bytes } else { 0 }
    }
}

impl CatalogEntry {
    fn bytes(&self) -> u64 {
        match self {
            CatalogEntry::Opening => 0,
            CatalogEntry::Open { bytes, .. } => *bytes,
        }
    }

    fn is_of(&self, other: &Video) -> bool {
        matches!(self, CatalogEntry::Open { video, .. } if video.shared.id == other.shared.id)
    }
}

impl CatalogState {
    /// The open video, marked as used.
    fn touch(&mut self, key: &(String, usize)) -> Option<Video> {
        self.clock += 1;
        match self.videos.get_mut(key)? {
            CatalogEntry::Open { video, used, .. } => {
                *used = self.clock;
                Some(video.clone())
            }
            CatalogEntry::Opening => None,
        }
    }

    fn open(&self) -> Vec<Video> {
        let video = |slot: &CatalogEntry| match slot {
            CatalogEntry::Open { video, .. } => Some(video.clone()),
            CatalogEntry::Opening => None,
        };
        self.videos.values().filter_map(video).collect()
    }

    /// Whether all videos should be measured again. Not after each opening: for many videos that would take longer than
    /// opening.
    fn is_due(&mut self) -> bool {
        self.unmeasured += 1;
        let is_due = self.unmeasured > self.videos.len() / WEIGHED;
        if is_due {
            self.unmeasured = 0;
        }
        is_due
    }

    /// Stores the measured sizes.
    fn update_sizes(&mut self, sizes: &HashMap<u64, u64>) {
        self.bytes = 0;
        for slot in self.videos.values_mut() {
            if let CatalogEntry::Open { video, bytes, .. } = slot {
                *bytes = sizes.get(&video.shared.id).copied().unwrap_or(*bytes);
                self.bytes += *bytes;
            }
        }
    }

    /// Removes the least recently used videos until there is room, and some more, so that not every opening searches
    /// for the oldest. Returns them, to be closed outside of the lock.
    fn evict(&mut self, budget: u64) -> Vec<CatalogEntry> {
        if self.bytes <= budget {
            return Vec::new();
        }
        let age = |slot: &CatalogEntry| match slot {
            CatalogEntry::Open { used, .. } if *used < self.clock => Some(*used),
            _ => None,
        };
        let aged = self.videos.iter().filter_map(|(key, slot)| Some((age(slot)?, key.clone())));
        let mut aged: Vec<(u64, (String, usize))> = aged.collect();
        aged.sort_unstable();
        let mut evicted = Vec::new();
        for (_, key) in aged {
            if self.bytes <= budget - budget / WEIGHED as u64 {
                break;
            }
            if let Some(slot) = self.videos.remove(&key) {
                self.bytes -= slot.bytes();
                evicted.push(slot);
            }
        }
        evicted
    }
}

/// The exclusive right to open a video; concurrent callers wait until it completes or is dropped.
struct PendingOpen<'a> {
    catalog: &'a Catalog,
    key: Option<(String, usize)>,
}

impl PendingOpen<'_> {
    fn complete(mut self, video: Video) {
        let Some(key) = self.key.take() else { return };
        let bytes = video.index_bytes();
        let mut state = self.catalog.lock();
        state.clock += 1;
        let slot = CatalogEntry::Open { video, bytes, used: state.clock };
        state.videos.insert(key, slot);
        state.bytes += bytes;
        let open = if state.is_due() { state.open() } else { Vec::new() };
        drop(state);
        self.catalog.change.notify_all();
        // Outside of the lock. Sizes grow as references are learned, so they are measured again now and then.
        let sizes: HashMap<u64, u64> = open.iter().map(|video| (video.shared.id, video.index_bytes())).collect();
        let mut state = self.catalog.lock();
        if !sizes.is_empty() {
            state.update_sizes(&sizes);
        }
        let evicted = state.evict(self.catalog.budget);
        drop(state);
        // Outside of the lock, since closing takes time.
        drop((evicted, open));
    }
}

impl Drop for PendingOpen<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.catalog.lock().videos.remove(&key);
            self.catalog.change.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use std::sync::mpsc::channel;
    use std::sync::{Arc, RwLock};

    use bytes::Bytes;

    use super::Catalog;
    use crate::Engine;
    use crate::error::Result;
    use crate::source::{ByteRange, Fault, FaultSource, FileSource, ReadCounters, Source};

    /// A file on a file system that does not answer while the lock is held.
    #[derive(Debug)]
    struct Hanging(FileSource, Arc<RwLock<()>>);

    impl Source for Hanging {
        fn name(&self) -> &str {
            self.0.name()
        }

        fn len(&self) -> u64 {
            self.0.len()
        }

        fn read(&self, range: ByteRange) -> Result<Bytes> {
            self.0.read(range)
        }

        fn check(&self) -> Result<()> {
            drop(self.1.read());
            self.0.check()
        }

        fn counters(&self) -> &ReadCounters {
            self.0.counters()
        }
    }

    #[test]
    fn a_file_system_that_hangs_delays_no_other_video() {
        let hangs = Arc::new(RwLock::new(()));
        let own = Arc::clone(&hangs);
        let catalog = Catalog::new(&Engine::new(Some(1))).with_opener(move |name| {
            let (place, name) = name.split_once('/').unwrap();
            let file = FileSource::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name))?;
            Ok(if place == "far" { Arc::new(Hanging(file, Arc::clone(&own))) } else { Arc::new(file) })
        });
        catalog.open("far/hevc_demo.mp4", 0).unwrap();
        catalog.open("near/hevc_demo.mp4", 0).unwrap();
        let hung = hangs.write().unwrap();
        let (sender, receiver) = channel();
        std::thread::scope(|scope| {
            for ask in [Catalog::get, |catalog: &Catalog, name: &str, track| catalog.open(name, track).ok()] {
                let (sender, catalog) = (sender.clone(), &catalog);
                scope.spawn(move || {
                    let found = ask(catalog, "far/hevc_demo.mp4", 0).is_some();
                    sender.send(found).unwrap();
                });
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(catalog.get("near/hevc_demo.mp4", 0).is_some());
            catalog.open("near/hevc_demo.mp4", 0).unwrap();
            catalog.open("near/hevc_open_gop.mp4", 0).unwrap();
            assert!(receiver.try_recv().is_err(), "both calls wait for the file system");
            drop(hung);
            assert_eq!([receiver.recv(), receiver.recv()], [Ok(true); 2]);
        });
    }

    #[test]
    fn concurrent_requests_open_once_and_a_changed_source_is_opened_again() {
        let opened = Arc::new(AtomicU32::new(0));
        let last: Arc<std::sync::Mutex<Option<Arc<FaultSource>>>> = Arc::default();
        let (count, keep) = (Arc::clone(&opened), Arc::clone(&last));
        let catalog = Catalog::new(&Engine::new(Some(1))).with_opener(move |name| {
            count.fetch_add(1, Relaxed);
            let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name);
            let source = Arc::new(FaultSource::new(Arc::new(FileSource::open(clip)?), []));
            *keep.lock().unwrap() = Some(Arc::clone(&source));
            Ok(source as Arc<dyn Source>)
        });
        std::thread::scope(|scope| {
            (0..8).for_each(|_| _ = scope.spawn(|| catalog.open("hevc_demo.mp4", 0).unwrap()));
        });
        assert_eq!(opened.load(Relaxed), 1);
        assert!(catalog.open("missing.mp4", 0).is_err() && catalog.open("missing.mp4", 0).is_err());
        assert_eq!(opened.load(Relaxed), 3, "errors are not cached");
        catalog.open("hevc_demo.mp4", 0).unwrap();
        assert_eq!(opened.load(Relaxed), 3);
        let held = catalog.held_bytes();
        assert!(held > 1000);
        catalog.open("hevc_open_gop.mp4", 0).unwrap();
        assert!(catalog.held_bytes() > held);
        last.lock().unwrap().as_ref().unwrap().set([Fault::ChangedAfter(0)]);
        catalog.open("hevc_open_gop.mp4", 0).unwrap();
        assert_eq!(opened.load(Relaxed), 5, "the source has changed");
        let catalog = catalog.budget(held);
        catalog.open("hevc_closed_gop.mp4", 0).unwrap();
        catalog.open("hevc_demo.mp4", 0).unwrap();
        assert!(opened.load(Relaxed) == 7 && catalog.held_bytes() > 0, "the other videos were evicted");
    }
}
