//! What all videos of a process share: decoders, worker threads, checkpoints.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::container::{DEFAULT_INDEX_MEMORY, Index, IndexBudget, Most, Track};
use crate::damage::{DEFAULT_MAX_PIXELS, OnDamage};
use crate::decode::checkpoints::{Held, Store};
use crate::decode::pool::Inspection;
use crate::decode::workers::WorkerPool;
use crate::decode::{Counters, Pool, Work};
use crate::device::{CostModel, Cpu, Device, DeviceChoice, Devices, Listener, Nvdec};
use crate::error::Result;
use crate::machine::Machine;
use crate::picture_memory::{self, Budget, PicturesInWork};
use crate::process::{Owned, Owner};
use crate::session::prefetch::admission::FetchAdmission;
use crate::session::shared::{EngineState, Resident};
use crate::session::video::Video;
use crate::source::opening::Opening;
use crate::source::{FileSource, Source};

/// Opens videos. Cheap to clone; the clones share everything.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) shared: Owned<EngineState>,
    /// What it was built with.
    settings: Arc<EngineBuilder>,
}

/// What an [`Engine`] may use, see [`Engine::builder`].
#[derive(Debug, Clone)]
pub struct EngineBuilder {
    threads: Option<usize>,
    checkpoint_memory: Option<u64>,
    picture_memory: Option<u64>,
    spacing: u32,
    pin: bool,
    from_entry: bool,
    others: u64,
    device: Device,
    on_damage: OnDamage,
    max_pixels: u64,
    index_memory: u64,
    check_hashes: bool,
    open_timeout: Option<Duration>,
    listener: Listener,
}

/// Bounds of the memory for checkpoints where none is named.
const LEAST_FOR_CHECKPOINTS: u64 = 128 << 20;
const MOST_FOR_CHECKPOINTS: u64 = 4 << 30;
/// What idle decoders may keep, as a part of the budget of pictures: a quarter.
const IDLE_PART: u64 = 4;

/// The longest that opening a video of a remote source may take, unless [`EngineBuilder::open_timeout`] says otherwise.
pub const DEFAULT_OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// Pictures from one checkpoint to the next: docs/decisions/0018-checkpoint-budget.md has the measurements.
const SPACING: u32 = 4;

impl EngineBuilder {
    /// Never more threads at work than this; by default one for each processor that the process is given, see
    /// [`Machine::processors`]. A sequential decode ([`Video::play`]) takes as many
    /// as libavcodec does by itself unless a number is given; where it uses wavefronts, never more than there are processors.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> EngineBuilder {
        self.threads = Some(threads.max(1));
        self
    }

    /// Bytes for checkpoints, pictures and all. By default a 16th of the memory that the process is given
    /// ([`Machine::memory_bytes`]), at least 128 MiB (or a quarter of the memory, if that is less) and at most 4 GiB. With 0 there are none, and every frame is decoded from its entry on.
    #[must_use]
    pub fn checkpoint_memory(mut self, bytes: u64) -> EngineBuilder {
        self.checkpoint_memory = Some(bytes);
        self
    }

    /// Bytes for the pictures that all decoders of the engine have in work, with the decoders' own tables for them: not for
    /// frames that were handed out, nor for checkpoints. By default an eighth of the machine's memory, at least 256 MiB and at
    /// most 1 GiB, or 64 MiB for each thread where that is more; 1 MiB is the least. Decode runs for which there is no room
    /// wait, and small ones go ahead. One that needs more than the budget has it to itself; where its pictures are damaged, it
    /// is refused ([`ErrorKind::PictureMemory`](crate::ErrorKind::PictureMemory)).
    #[must_use]
    pub fn picture_memory(mut self, bytes: u64) -> EngineBuilder {
        self.picture_memory = Some(bytes);
        self
    }

    /// Decoded pictures from one checkpoint to the next, at least 1; by default 4.
    #[must_use]
    pub fn checkpoint_spacing(mut self, pictures: u32) -> EngineBuilder {
        self.spacing = pictures.max(1);
        self
    }

    /// Whether each worker is bound to a core of its own, where there are as many threads as cores and no other engine has
    /// workers bound to them. By default not: a program that has its processors to itself ([`Machine::may_pin`]) may ask for it.
    #[must_use]
    pub fn pin_threads(mut self, pin: bool) -> EngineBuilder {
        self.pin = pin;
        self
    }

    /// Decode every picture from the entry to the frame, for every frame, as players do: what all else is measured
    /// against.
    #[must_use]
    pub fn from_entry(mut self) -> EngineBuilder {
        self.from_entry = true;
        self
    }

    /// Bytes that others in the process may hold, caches above all; by default none. Where the process takes more memory
    /// than that and the checkpoints' budget explain, checkpoints are let go of.
    #[must_use]
    pub fn others(mut self, bytes: u64) -> EngineBuilder {
        self.others = bytes;
        self
    }

    /// Where pictures are decoded; by default on the processor.
    #[must_use]
    pub fn device(mut self, device: Device) -> EngineBuilder {
        self.device = device;
        self
    }

    /// What requests get for pictures that are known to be damaged; by default they are flagged.
    #[must_use]
    pub fn on_damage(mut self, on_damage: OnDamage) -> EngineBuilder {
        self.on_damage = on_damage;
        self
    }

    /// Whether every picture of H.265 that is decoded is compared with its hash in the stream, where there is one (SEI decoded
    /// picture hash, ITU-T H.265 D.3.19); by default not. A picture that does not match counts as damaged.
    #[must_use]
    pub fn check_hashes(mut self, check: bool) -> EngineBuilder {
        self.check_hashes = check;
        self
    }

    /// Pixels (width times height, as coded) that a picture may have; by default [`DEFAULT_MAX_PIXELS`]. A stream that
    /// claims more is refused before memory is allocated for its pictures.
    #[must_use]
    pub fn max_pixels(mut self, pixels: u64) -> EngineBuilder {
        self.max_pixels = pixels.max(1);
        self
    }

    /// The longest that opening a video may take whose bytes come over a network; by default [`DEFAULT_OPEN_TIMEOUT`]. Time in
    /// which at least 1 MiB a second comes does not count: a container without tables is read as a whole. `None` for no limit.
    #[must_use]
    pub fn open_timeout(mut self, timeout: Option<Duration>) -> EngineBuilder {
        self.open_timeout = timeout;
        self
    }

    /// Bytes that the index of one video may take while it is made, libavformat's tables for all tracks of the file
    /// included; by default [`DEFAULT_INDEX_MEMORY`]. A file that asks for more is refused before memory is allocated for
    /// it. At most three openings take more than 16 MiB at one time; others wait for them.
    #[must_use]
    pub fn index_memory(mut self, bytes: u64) -> EngineBuilder {
        self.index_memory = bytes;
        self
    }

    /// Calls this with what should be known of the GPU, once for each thing, as soon as it is known. [`Engine::device_notes`] has
    /// the same for those that ask.
    #[must_use]
    pub fn on_device_note(mut self, hear: impl Fn(&str) + Send + Sync + 'static) -> EngineBuilder {
        self.listener = Listener::new(hear);
        self
    }

    /// The engine.
    pub fn build(self) -> Engine {
        let (owner, settings) = (Owner::this(), Arc::new(self.clone()));
        let machine = Machine::read();
        let cores = machine.processors();
        let threads = self.threads.unwrap_or(cores).max(1);
        // As many as libavcodec takes by itself: one thread more than there are processors. Damage is decoded by one.
        let automatic = if cores > 1 { (cores + 1).min(16) } else { 1 };
        let budget = if self.from_entry {
            0
        } else {
            self.checkpoint_memory.unwrap_or_else(|| default_checkpoint_memory(&machine))
        };
        let is_forced = matches!(self.device.choice, DeviceChoice::Nvdec(_));
        let pictures =
            Budget::new(self.picture_memory.unwrap_or_else(|| picture_memory::default_bytes(&machine, threads)));
        let inspection = Inspection {
            check_hashes: self.check_hashes,
            max_pixels: self.max_pixels,
            idle_bytes: pictures.limit() / IDLE_PART,
        };
        let (costs, counters) = (Arc::new(CostModel::default()), Arc::new(Counters::default()));
        let workers = WorkerPool::new(threads, self.pin);
        // Where there is no choice nothing is learned for it.
        let has_choice = self.device.gpu.is_some() && !is_forced;
        let cpu = Cpu::new(workers, budget > 0, has_choice.then(|| Arc::clone(&costs)));
        let nvdec = self
            .device
            .gpu
            .map(|gpu| Nvdec::new(gpu, is_forced, self.listener, Arc::clone(&costs), Arc::clone(&counters)));
        let state = EngineState {
            owner,
            pool: Pool::new(2 * threads + 2, inspection),
            pictures,
            devices: Devices::new(cpu, nvdec, costs),
            store: Store::new(budget),
            counters,
            resident: Resident::default(),
            admission: FetchAdmission::default(),
            threads,
            processors: cores,
            sequential_threads: self.threads.unwrap_or(automatic).max(1),
            spacing: self.spacing,
            from_entry: self.from_entry,
            on_damage: self.on_damage,
            max_pixels: self.max_pixels,
            open_timeout: self.open_timeout,
            index_budget: IndexBudget::new(self.index_memory),
            external_bytes: self.others,
            given: machine.memory_bytes().unwrap_or(u64::MAX),
        };
        Engine { shared: Owned::of(Arc::new(state), owner), settings }
    }
}

/// A 16th of the memory that the process is given, within sensible bounds.
fn default_checkpoint_memory(machine: &Machine) -> u64 {
    machine.memory_share(16, MOST_FOR_CHECKPOINTS).max(machine.memory_share(4, LEAST_FOR_CHECKPOINTS))
}

impl Engine {
    /// An engine with `threads` threads, or one per core, and everything else by default.
    pub fn new(threads: Option<usize>) -> Engine {
        let builder = Engine::builder();
        threads.map_or(builder.clone(), |threads| builder.threads(threads)).build()
    }

    /// Says what an engine may use.
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
            from_entry: false,
            others: 0,
            device: Device::default(),
            on_damage: OnDamage::default(),
            max_pixels: DEFAULT_MAX_PIXELS,
            index_memory: DEFAULT_INDEX_MEMORY,
            check_hashes: false,
            open_timeout: Some(DEFAULT_OPEN_TIMEOUT),
            listener: Listener::default(),
        }
    }

    /// An engine with the same settings and nothing else in common with this one. A child after `fork` makes it, and its videos
    /// with [`Video::reopen_in`]: the threads of this one are not there, and whatever it is asked for is the error `Forked`.
    /// A GPU's driver does not outlive `fork` either: in a child the new engine decodes on the processor.
    #[must_use]
    pub fn reopen(&self) -> Engine {
        let settings = EngineBuilder::clone(&self.settings);
        if self.shared.is_here() { settings.build() } else { settings.device(Device::default()).build() }
    }

    /// Opens a local file's first video track.
    ///
    /// # Errors
    /// See [`Engine::open`].
    pub fn open_path(&self, path: impl AsRef<Path>) -> Result<Video> {
        self.open(Arc::new(FileSource::open(path)?), 0)
    }

    /// Opens video track `track` (counted from 0) of a source: reads its index, decodes nothing.
    ///
    /// # Errors
    /// What makes a video unreadable, see [`crate::ErrorKind`].
    pub fn open(&self, source: Arc<dyn Source>, track: usize) -> Result<Video> {
        let (pixels, budget) = (self.shared.max_pixels, &self.shared.index_budget);
        let open = |source: &Arc<dyn Source>| {
            let opened =
                self.shared.pictures.probe(|memory| Track::open_within(source, track, Most { pixels, memory }, budget));
            opened.map_err(|error| error.of(source.name()))
        };
        self.opening(|| Video::open(self.shared.arc(), source, open))
    }

    /// Opens the video track that `index` is of, and reads nothing of the source but its ends, to know it again.
    ///
    /// # Errors
    /// `BadIndex` if the index is of another file, or says what cannot be; and those of the source.
    pub fn open_with_index(&self, source: Arc<dyn Source>, index: &Index) -> Result<Video> {
        let budget = &self.shared.index_budget;
        let restore = |source: &Arc<dyn Source>| budget.open_source(&**source, || index.restore(&**source));
        self.opening(|| Video::open(self.shared.arc(), source, restore))
    }

    /// The same, after the index was compared with one that is made anew: what it says is then known to be so, and not
    /// only possible. Reads all samples if the index says what pictures refer to.
    ///
    /// # Errors
    /// `BadIndex` too if it says anything else, with the names of those fields; and those of [`Engine::open`].
    pub fn open_with_verified_index(&self, source: Arc<dyn Source>, index: &Index) -> Result<Video> {
        let video = self.open_with_index(Arc::clone(&source), index)?;
        let anew = self.open(source, index.track())?;
        let told = video.export_known_index()?;
        let found = if told.has_references() { anew.export_index()? } else { anew.export_known_index()? };
        index.compare(&told, &found, anew.source().name())?;
        Ok(video)
    }

    /// The same for an index that is known to be of this source.
    pub(crate) fn open_with_known_index(&self, source: Arc<dyn Source>, index: &Index) -> Result<Video> {
        let budget = &self.shared.index_budget;
        let restore = |source: &Arc<dyn Source>| budget.open_source(&**source, || index.restore_known(&**source));
        self.opening(|| Video::open(self.shared.arc(), source, restore))
    }

    /// The longest that opening a video of a remote source may take, without the time in which bytes come.
    pub fn open_timeout(&self) -> Option<Duration> {
        self.shared.open_timeout
    }

    /// Runs `open`, which opens sources and videos, under one [open timeout](EngineBuilder::open_timeout): that of the engine
    /// begins when `open` does.
    ///
    /// # Errors
    /// Those of `open`; `OpenTimeout` where a remote source took too long.
    pub fn opening<T>(&self, open: impl FnOnce() -> Result<T>) -> Result<T> {
        self.shared.check()?;
        Opening::new(self.shared.open_timeout).run(open)
    }

    /// Threads that were asked for, or the number of processors that the process is given.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Are workers bound to cores?
    pub fn is_pinned(&self) -> bool {
        self.shared.is_here() && self.shared.devices.host_workers().is_pinned()
    }

    /// What should be known of the GPU: videos that it does not decode, and what its driver failed of. Each once; only ever
    /// grows, to a bound.
    pub fn device_notes(&self) -> Vec<String> {
        self.shared.devices.nvdec().filter(|_| self.shared.is_here()).map(Nvdec::notes).unwrap_or_default()
    }

    /// The GPU, if there is one.
    pub fn gpu(&self) -> Option<ffi::GpuInfo> {
        self.shared.devices.nvdec().map(Nvdec::info)
    }

    /// What was done so far.
    pub fn work(&self) -> Work {
        self.shared.counters.now()
    }

    /// The checkpoints that are held now.
    pub fn checkpoints(&self) -> Held {
        if self.shared.is_here() { self.shared.store.held() } else { Held::default() }
    }

    /// The pictures that decoders have in work now.
    pub fn pictures_in_work(&self) -> PicturesInWork {
        if self.shared.is_here() { self.shared.pictures.now() } else { PicturesInWork::default() }
    }

    /// The budget of pictures in work in bytes.
    pub fn picture_memory(&self) -> u64 {
        self.shared.pictures.limit()
    }

    /// The budget of checkpoints in bytes.
    pub fn checkpoint_memory(&self) -> u64 {
        self.shared.store.budget()
    }
}

impl Video {
    /// The same video, opened by another engine: in a child after `fork` by one that was made there ([`Engine::reopen`]). Its
    /// index is taken over, not read again. A local file is opened again; of a file behind a network the first bytes are fetched.
    ///
    /// # Errors
    /// `Changed` if the source has changed since it was opened, and those of opening it; `Forked` for an engine of a parent, and
    /// for a source that cannot be [opened again](Source::reopen).
    pub fn reopen_in(&self, engine: &Engine) -> Result<Video> {
        engine.opening(|| {
            let source = self.shared.source.reopen().map_err(|error| error.of(self.source().name()))?;
            let index = Index::of_known(self.track(), &*source, self.shared.planner.told(self.track()))?;
            engine.open_with_known_index(source, &index)
        })
    }
}
