//! The engine and its builder: the settings and the state that all videos of an engine share. Scheduling is left to
//! [`schedule`](super::schedule) and the modules below it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::container::{DEFAULT_INDEX_MEMORY, Index, IndexBudget, ProbeLimits, Track};
use crate::damage::{DEFAULT_MAX_PIXELS, OnDamage};
use crate::decode::checkpoints::{CheckpointStore, CheckpointUsage};
use crate::decode::pool::PoolOptions;
use crate::decode::workers::WorkerPool;
use crate::decode::{DecodeCounters, DecodeCounts, DecoderPool};
use crate::device::{CostModel, Cpu, Device, DeviceChoice, Devices, NoteListener, Nvdec};
use crate::error::Result;
use crate::machine::Machine;
use crate::picture_memory::{self, Budget, PictureMemoryUsage};
use crate::process::{Owner, ProcessBound};
use crate::session::prefetch::admission::FetchAdmission;
use crate::session::shared::{EngineState, ResidentMemory};
use crate::session::video::Video;
use crate::source::opening::Opening;
use crate::source::{FileSource, Source};

/// Opens videos and decodes their frames. Threads can share it. Cheap to clone: all clones share one state, which is
/// freed with the last clone and the last video.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) shared: ProcessBound<EngineState>,
    /// The settings of its builder, for [`Engine::reopen`].
    settings: Arc<EngineBuilder>,
}

/// Settings and limits of an [`Engine`], see [`Engine::builder`]. No setting is an error: values below a minimum are
/// raised to it.
#[derive(Debug, Clone)]
pub struct EngineBuilder {
    threads: Option<usize>,
    checkpoint_memory: Option<u64>,
    picture_memory: Option<u64>,
    spacing: u32,
    pin: bool,
    pin_if_alone: bool,
    from_random_access_point: bool,
    for_one_request: bool,
    external_memory: u64,
    device: Device,
    on_damage: OnDamage,
    max_pixels: u64,
    index_memory: u64,
    check_hashes: bool,
    open_timeout: Option<Duration>,
    listener: NoteListener,
}

/// Bounds of the default memory for checkpoints, in bytes.
const LEAST_FOR_CHECKPOINTS: u64 = 128 << 20;
const MOST_FOR_CHECKPOINTS: u64 = 4 << 30;
/// Idle decoders may use this fraction (a quarter) of the picture budget.
const IDLE_PART: u64 = 4;

/// The default limit on the time to open a video of a remote source, see [`EngineBuilder::open_timeout`].
pub const DEFAULT_OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// Decoded pictures between checkpoints. `docs/decisions/0018-checkpoint-budget.md` has the measurements.
const SPACING: u32 = 4;

impl EngineBuilder {
    /// The largest number of worker threads, at least 1; by default one for each processor that the process may use
    /// ([`Machine::processors`]). A sequential decode ([`Video::play`]) uses this many threads, or libavcodec's own
    /// default if no number is set; with wavefronts (H.265 WPP, `entropy_coding_sync_enabled_flag`) it uses at most one
    /// thread for each processor.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> EngineBuilder {
        self.threads = Some(threads.max(1));
        self
    }

    /// Bytes for checkpoints, their pictures included. The default is a 16th of the memory that the process may use
    /// ([`Machine::memory_bytes`]), at least 128 MiB (or a quarter of the memory, if that is less) and at most 4 GiB.
    /// With 0 there are no checkpoints, and every frame is decoded from its random access point.
    #[must_use]
    pub fn checkpoint_memory(mut self, bytes: u64) -> EngineBuilder {
        self.checkpoint_memory = Some(bytes);
        self
    }

    /// Bytes for the pictures that the decoders of the engine hold while they decode, with the decoders' own tables for
    /// them. Frames that callers hold and checkpoints do not count. The default is an eighth of the memory that the
    /// process may use, at least 256 MiB (or a quarter of the memory, if that is less) and at most 1 GiB, or 64 MiB for
    /// each thread where that is more; the minimum is 1 MiB. A decode run waits until its pictures fit, and smaller
    /// runs overtake it. A run that needs more than the budget runs alone; if its pictures are damaged, it is refused
    /// ([`ErrorKind::PictureMemory`](crate::ErrorKind::PictureMemory)).
    #[must_use]
    pub fn picture_memory(mut self, bytes: u64) -> EngineBuilder {
        self.picture_memory = Some(bytes);
        self
    }

    /// Decoded pictures between checkpoints, at least 1; by default 4.
    #[must_use]
    pub fn checkpoint_spacing(mut self, pictures: u32) -> EngineBuilder {
        self.spacing = pictures.max(1);
        self
    }

    /// Whether to bind each worker to a core of its own. It takes effect if there are as many threads as cores and no
    /// other engine has bound workers. By default off; a program that is alone on its processors ([`Machine::may_pin`])
    /// may turn it on.
    #[must_use]
    pub fn pin_threads(mut self, pin: bool) -> EngineBuilder {
        self.pin = pin;
        self
    }

    /// As [`EngineBuilder::pin_threads`], if the processors belong to this process alone when the engine is built
    /// ([`Machine::may_pin`]).
    #[must_use]
    pub fn pin_threads_if_alone(mut self) -> EngineBuilder {
        self.pin_if_alone = true;
        self
    }

    /// Decodes every frame from its random access point, over all samples up to it, as players do, and saves no
    /// checkpoints: the baseline for comparisons.
    #[must_use]
    pub fn from_random_access_point(mut self) -> EngineBuilder {
        self.from_random_access_point = true;
        self
    }

    /// For a program that makes one request and ends: checkpoints are saved only where the request waits for its
    /// caller, since no other request begins at them. Later requests get the same frames, but decode them from their
    /// random access points.
    #[must_use]
    pub fn for_one_request(mut self) -> EngineBuilder {
        self.for_one_request = true;
        self
    }

    /// External memory in bytes: memory that the process may allocate outside of this engine, such as caches; by
    /// default 0. It is a hint, and reserves nothing. The engine evicts checkpoints when the resident memory of the
    /// process has grown by more than the sum of this number, the checkpoint budget and a slack for decoders, or by
    /// more than three quarters of the process's memory ([`Machine::memory_bytes`]). So a program that fills a cache of
    /// n bytes passes n here; without it, the engine takes that growth for its own and evicts checkpoints early.
    #[must_use]
    pub fn external_memory(mut self, bytes: u64) -> EngineBuilder {
        self.external_memory = bytes;
        self
    }

    /// The device that decodes, see [`Device::open`]; by default the processor.
    #[must_use]
    pub fn device(mut self, device: Device) -> EngineBuilder {
        self.device = device;
        self
    }

    /// Whether a request returns a picture that is known to be damaged, flagged, or an error; by default the picture.
    #[must_use]
    pub fn on_damage(mut self, on_damage: OnDamage) -> EngineBuilder {
        self.on_damage = on_damage;
        self
    }

    /// Whether to compare every decoded H.265 picture with its hash in the stream, where there is one (decoded picture
    /// hash SEI message, ITU-T H.265 D.3.19); by default off. A picture that does not match counts as damaged.
    #[must_use]
    pub fn check_hashes(mut self, check: bool) -> EngineBuilder {
        self.check_hashes = check;
        self
    }

    /// The largest picture in pixels (coded width times height), at least 1; by default [`DEFAULT_MAX_PIXELS`]. A
    /// stream that claims more is refused before memory is allocated for its pictures.
    #[must_use]
    pub fn max_pixels(mut self, pixels: u64) -> EngineBuilder {
        self.max_pixels = pixels.max(1);
        self
    }

    /// The limit on the time to open a video of a remote source; by default [`DEFAULT_OPEN_TIMEOUT`]. Time in which at
    /// least 1 MiB arrives per second does not count, since a container without tables is read to its end. `None` for
    /// no limit.
    #[must_use]
    pub fn open_timeout(mut self, timeout: Option<Duration>) -> EngineBuilder {
        self.open_timeout = timeout;
        self
    }

    /// Bytes that the index of one video may take while it is built, libavformat's tables for all tracks of the file
    /// included; by default [`DEFAULT_INDEX_MEMORY`]. A file that needs more is refused before memory is allocated for
    /// it. At most three openings use more than 16 MiB at the same time; others wait.
    #[must_use]
    pub fn index_memory(mut self, bytes: u64) -> EngineBuilder {
        self.index_memory = bytes;
        self
    }

    /// Calls `callback` with each note about the GPU once, as soon as it is known, on the thread that makes the note.
    /// [`Engine::device_notes`] returns the same notes.
    #[must_use]
    pub fn on_device_note(mut self, callback: impl Fn(&str) + Send + Sync + 'static) -> EngineBuilder {
        self.listener = NoteListener::new(callback);
        self
    }

    /// Builds the engine. Its workers start with the first task. It reads the processor and memory limits of the
    /// process once.
    pub fn build(self) -> Engine {
        let (owner, settings) = (Owner::current(), Arc::new(self.clone()));
        let machine = Machine::read();
        let cores = machine.processors();
        let threads = self.threads.unwrap_or(cores).max(1);
        // libavcodec's own default: one thread more than processors. Damaged streams are decoded with one thread.
        let automatic = if cores > 1 { (cores + 1).min(16) } else { 1 };
        let budget = if self.from_random_access_point {
            0
        } else {
            self.checkpoint_memory.unwrap_or_else(|| default_checkpoint_memory(&machine))
        };
        let is_forced = matches!(self.device.choice, DeviceChoice::Nvdec(_));
        let pictures =
            Budget::new(self.picture_memory.unwrap_or_else(|| picture_memory::default_bytes(&machine, threads)));
        let inspection = PoolOptions {
            check_hashes: self.check_hashes,
            max_pixels: self.max_pixels,
            idle_bytes: pictures.limit() / IDLE_PART,
        };
        let (costs, counters) = (Arc::new(CostModel::default()), Arc::new(DecodeCounters::default()));
        let workers = WorkerPool::new(threads, self.pin || (self.pin_if_alone && machine.may_pin()));
        // Without a choice of devices the cost model learns nothing.
        let has_choice = self.device.gpu.is_some() && !is_forced;
        let cpu = Cpu::new(workers, budget > 0, has_choice.then(|| Arc::clone(&costs)));
        let nvdec = self
            .device
            .gpu
            .map(|gpu| Nvdec::new(gpu, is_forced, self.listener, Arc::clone(&costs), Arc::clone(&counters)));
        let state = EngineState {
            owner,
            pool: DecoderPool::new(2 * threads + 2, inspection),
            pictures,
            devices: Devices::new(cpu, nvdec, costs),
            store: CheckpointStore::new(budget),
            counters,
            resident: ResidentMemory::default(),
            admission: FetchAdmission::default(),
            threads,
            processors: cores,
            sequential_threads: self.threads.unwrap_or(automatic).max(1),
            spacing: if self.for_one_request { u32::MAX } else { self.spacing },
            for_one_request: self.for_one_request,
            from_random_access_point: self.from_random_access_point,
            on_damage: self.on_damage,
            max_pixels: self.max_pixels,
            open_timeout: self.open_timeout,
            index_budget: IndexBudget::new(self.index_memory),
            external_memory: self.external_memory,
            process_memory: machine.memory_bytes().unwrap_or(u64::MAX),
        };
        Engine { shared: ProcessBound::of(Arc::new(state), owner), settings }
    }
}

/// A 16th of the memory that the process may use, between the bounds above.
fn default_checkpoint_memory(machine: &Machine) -> u64 {
    machine.memory_share(16, MOST_FOR_CHECKPOINTS).max(machine.memory_share(4, LEAST_FOR_CHECKPOINTS))
}

impl Engine {
    /// An engine with `threads` threads (by default one for each processor) and default settings.
    pub fn new(threads: Option<usize>) -> Engine {
        let builder = Engine::builder();
        threads.map_or(builder.clone(), |threads| builder.threads(threads)).build()
    }

    /// A builder with default settings.
    ///
    /// ```
    /// let engine = bucket_streamer::Engine::builder().threads(2).checkpoint_memory(256 << 20).build();
    /// assert_eq!(engine.threads(), 2);
    /// ```
    pub fn builder() -> EngineBuilder {
        EngineBuilder {
            threads: None,
            checkpoint_memory: None,
            picture_memory: None,
            spacing: SPACING,
            pin: false,
            pin_if_alone: false,
            from_random_access_point: false,
            for_one_request: false,
            external_memory: 0,
            device: Device::default(),
            on_damage: OnDamage::default(),
            max_pixels: DEFAULT_MAX_PIXELS,
            index_memory: DEFAULT_INDEX_MEMORY,
            check_hashes: false,
            open_timeout: Some(DEFAULT_OPEN_TIMEOUT),
            listener: NoteListener::default(),
        }
    }

    /// A new engine with the same settings that shares nothing with this one. A child process after `fork` needs it,
    /// and reopens its videos with [`Video::reopen_in`]: the threads of the old engine do not exist there, and every
    /// request to it fails with `Forked`. A GPU's driver does not survive `fork` either: in a child the new engine
    /// decodes on the processor.
    #[must_use]
    pub fn reopen(&self) -> Engine {
        let settings = EngineBuilder::clone(&self.settings);
        if self.shared.is_current() { settings.build() } else { settings.device(Device::default()).build() }
    }

    /// Opens a local file's first video track. Blocks for the reads of its index.
    ///
    /// # Errors
    /// See [`Engine::open`].
    pub fn open_path(&self, path: impl AsRef<Path>) -> Result<Video> {
        self.open(Arc::new(FileSource::open(path)?), 0)
    }

    /// Opens video track `track` (counted from 0) of a source: reads its index and decodes nothing. Blocks; the time
    /// and memory of opening are limited ([`EngineBuilder::open_timeout`], [`EngineBuilder::index_memory`]).
    ///
    /// # Errors
    /// The errors of the container, the track and the source, see [`crate::ErrorKind`].
    pub fn open(&self, source: Arc<dyn Source>, track: usize) -> Result<Video> {
        let (pixels, budget) = (self.shared.max_pixels, &self.shared.index_budget);
        let open = |source: &Arc<dyn Source>| {
            let opened = self
                .shared
                .pictures
                .probe(|memory| Track::open_within(source, track, ProbeLimits { pixels, memory }, budget));
            opened.map_err(|error| error.of(source.name()))
        };
        self.opening(|| Video::open(self.shared.arc(), source, open))
    }

    /// Opens the video track that `index` describes. Reads only the two ends of the source, to check that the index
    /// belongs to it. An index may be malicious: it can cause errors, and in H.264, AV1 and VP9 wrong frames, but no
    /// panic.
    ///
    /// # Errors
    /// `BadIndex` if the index belongs to another file or is inconsistent; and those of the source.
    pub fn open_with_index(&self, source: Arc<dyn Source>, index: &Index) -> Result<Video> {
        let budget = &self.shared.index_budget;
        let restore = |source: &Arc<dyn Source>| budget.open_source(&**source, || index.restore(&**source));
        self.opening(|| Video::open(self.shared.arc(), source, restore))
    }

    /// As [`Engine::open_with_index`], after a comparison with an index that is rebuilt from the video: the contents
    /// are then known to be correct, and not only consistent. Reads all samples if the index has references.
    ///
    /// # Errors
    /// `BadIndex` also if the two differ, with the names of the fields; and those of [`Engine::open`].
    pub fn open_with_verified_index(&self, source: Arc<dyn Source>, index: &Index) -> Result<Video> {
        let video = self.open_with_index(Arc::clone(&source), index)?;
        let rebuilt_video = self.open(source, index.track())?;
        let stored = video.export_known_index()?;
        let rebuilt =
            if stored.has_references() { rebuilt_video.export_index()? } else { rebuilt_video.export_known_index()? };
        index.compare(&stored, &rebuilt, rebuilt_video.source().name())?;
        Ok(video)
    }

    /// As [`Engine::open_with_index`], for an index that the caller has identified as that of this source.
    pub(crate) fn open_with_known_index(&self, source: Arc<dyn Source>, index: &Index) -> Result<Video> {
        let budget = &self.shared.index_budget;
        let restore = |source: &Arc<dyn Source>| budget.open_source(&**source, || index.restore_known(&**source));
        self.opening(|| Video::open(self.shared.arc(), source, restore))
    }

    /// The limit on the time to open a video of a remote source, without the time in which bytes arrive.
    pub fn open_timeout(&self) -> Option<Duration> {
        self.shared.open_timeout
    }

    /// Runs `open`, which opens sources and videos, under one [open timeout](EngineBuilder::open_timeout) that begins
    /// now.
    ///
    /// # Errors
    /// Those of `open`; `OpenTimeout` where a remote source took too long.
    pub fn opening<T>(&self, open: impl FnOnce() -> Result<T>) -> Result<T> {
        self.shared.check()?;
        Opening::new(self.shared.open_timeout).run(open)
    }

    /// The number of worker threads: that of the settings, or the number of processors that the process may use.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// True if workers are bound to cores.
    pub fn is_pinned(&self) -> bool {
        self.shared.is_current() && self.shared.devices.host_workers().is_pinned()
    }

    /// Notes about the GPU: videos that it cannot decode, and failures of its driver. Each note appears once. The list
    /// never shrinks, and its length is bounded.
    pub fn device_notes(&self) -> Vec<String> {
        self.shared.devices.nvdec().filter(|_| self.shared.is_current()).map(Nvdec::notes).unwrap_or_default()
    }

    /// The GPU, if the engine has one.
    pub fn gpu(&self) -> Option<ffi::GpuInfo> {
        self.shared.devices.nvdec().map(Nvdec::info)
    }

    /// Counts of the work so far. They never decrease.
    pub fn work(&self) -> DecodeCounts {
        self.shared.counters.now()
    }

    /// The contents of the checkpoint store.
    pub fn checkpoints(&self) -> CheckpointUsage {
        if self.shared.is_current() { self.shared.store.usage() } else { CheckpointUsage::default() }
    }

    /// The memory of the pictures that decoders hold.
    pub fn pictures_in_work(&self) -> PictureMemoryUsage {
        if self.shared.is_current() { self.shared.pictures.now() } else { PictureMemoryUsage::default() }
    }

    /// The picture budget in bytes.
    pub fn picture_memory(&self) -> u64 {
        self.shared.pictures.limit()
    }

    /// The checkpoint budget in bytes.
    pub fn checkpoint_memory(&self) -> u64 {
        self.shared.store.budget()
    }
}

impl Video {
    /// The same video, opened by another engine; in a child after `fork` that engine must have been built there
    /// ([`Engine::reopen`]). The index is taken over and not read again. A local file is opened again; of a remote file
    /// the first bytes are fetched.
    ///
    /// # Errors
    /// `Changed` if the source has changed since it was opened, and those of opening it; `Forked` for an engine of a
    /// parent process, and for a source that cannot be [opened again](Source::reopen).
    pub fn reopen_in(&self, engine: &Engine) -> Result<Video> {
        engine.opening(|| {
            let source = self.shared.source.reopen().map_err(|error| error.of(self.source().name()))?;
            let index = Index::of_known(self.track(), &*source, self.shared.planner.references(self.track()))?;
            engine.open_with_known_index(source, &index)
        })
    }
}
