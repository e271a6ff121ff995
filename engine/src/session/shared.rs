//! The state that all parts of a session share: what an engine has, and what an open video has. At the bottom of this folder.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::container::{IndexBudget, Track};
use crate::damage::OnDamage;
use crate::decode::checkpoints::Store;
use crate::decode::{Counters, Pool};
use crate::device::{Devices, Kind};
use crate::picture_memory::Budget;
use crate::plan::{Known, Planner, References};
use crate::process::Owner;
use crate::session::prefetch::admission::FetchAdmission;
use crate::session::prefetch::pattern::AccessPattern;
use crate::source::{Counted, Source};
use crate::time::Timeline;

#[derive(Debug)]
pub(crate) struct EngineState {
    /// The process whose threads decode.
    pub(crate) owner: Owner,
    pub(crate) pool: Arc<Pool>,
    /// What pictures in work may take.
    pub(crate) pictures: Arc<Budget>,
    /// What decodes.
    pub(crate) devices: Devices,
    pub(crate) store: Store,
    pub(crate) counters: Arc<Counters>,
    pub(crate) resident: Resident,
    /// Which groups may have bytes fetched.
    pub(crate) admission: FetchAdmission,
    pub(crate) threads: usize,
    /// Threads that can run at the same time.
    pub(crate) processors: usize,
    /// Threads of a sequential decode.
    pub(crate) sequential_threads: usize,
    /// Pictures from one checkpoint to the next.
    pub(crate) spacing: u32,
    /// Decode everything from the entry on, every time.
    pub(crate) from_entry: bool,
    /// What requests get for damaged pictures.
    pub(crate) on_damage: OnDamage,
    /// Pixels that a picture may have.
    pub(crate) max_pixels: u64,
    /// The longest that opening a video of a remote source may take.
    pub(crate) open_timeout: Option<Duration>,
    /// What opening videos may cost.
    pub(crate) index_budget: IndexBudget,
    /// What other parts of the process may hold, in bytes.
    pub(crate) external_bytes: u64,
    /// The memory that the process is given, in bytes.
    pub(crate) given: u64,
}

/// What a video's tasks share with it.
#[derive(Debug)]
pub(crate) struct VideoState {
    pub(crate) engine: Arc<EngineState>,
    pub(crate) id: u64,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) track: Track,
    pub(crate) planner: Planner,
    pub(crate) references: References,
    pub(crate) timeline: Timeline,
    pub(crate) opened_with: Counted,
    pub(crate) pattern: AccessPattern,
    /// Rows of blocks that can be decoded side by side, see `ParameterSets::rows_side_by_side`.
    pub(crate) rows_side_by_side: OnceLock<u32>,
    /// See `Video::key_frames`.
    pub(crate) key_frames: OnceLock<Box<[u32]>>,
    /// The GPU does not decode it.
    pub(crate) is_refused: AtomicBool,
    /// The most that pictures of one of its decode runs have taken, in bytes.
    pub(crate) pictures_of_run: [AtomicU64; WIDTHS],
    /// Where data of its slices and tiles end says nothing of damage: see `learn_of_ends`.
    pub(crate) ends_anywhere: OnceLock<bool>,
}

/// Numbers of threads that are told apart by what their runs took: powers of two.
pub(crate) const WIDTHS: usize = 8;

impl VideoState {
    /// What is known of the samples, for planning.
    pub(crate) fn needs(&self) -> Known<'_> {
        Known::new(&self.track, &*self.source, &self.planner, &self.references)
    }

    /// What costs of its decode runs are alike for.
    pub(crate) fn kind(&self) -> Kind {
        Kind { codec: self.track.codec, size: self.track.parameters.size() }
    }
}

impl Drop for VideoState {
    fn drop(&mut self) {
        self.engine.pool.forget(self.id);
        self.engine.store.forget(self.id);
    }
}

/// What checkpoints may take beyond their budget before resident memory counts as too high: decoders with their pictures,
/// the allocator's own, what others in the process do.
const SLACK: u64 = 512 << 20;
/// As many of a video's pictures count as slack too, up to the budget of pictures: those that decoders hold.
const SLACK_PICTURES: u64 = 48;
/// Requests from one look at resident memory to the next.
const LOOKS: u32 = 32;

/// Resident memory, now and when it was looked at first.
#[derive(Debug, Default)]
pub(crate) struct Resident {
    looks: AtomicU32,
    first: OnceLock<u64>,
}

impl Resident {
    /// Is it time for a look?
    fn is_due(&self) -> bool {
        self.looks.fetch_add(1, Relaxed).is_multiple_of(LOOKS)
    }

    /// Bytes that the process has more than at the first look.
    fn grown(&self) -> Option<u64> {
        let now = resident_bytes()?;
        Some(now.saturating_sub(*self.first.get_or_init(|| now)))
    }
}

/// Resident memory of the process, where the system tells.
pub fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    // Pages of what Linux calls a page on x86-64, and on most of aarch64.
    text.split(' ').nth(1)?.parse::<u64>().ok()?.checked_mul(4096)
}

impl EngineState {
    /// What a request keeps of the engine: the budget that bounds its pictures, and the process.
    pub(crate) fn for_requests(&self) -> (Arc<Budget>, Owner) {
        (Arc::clone(&self.pictures), self.owner)
    }

    /// Whether or not the books are right: where resident memory grows past what they allow, or past three quarters of what
    /// the process is given (a control group would end it at the limit), the allocator gives back what
    /// it keeps; if that is not enough, half of the checkpoints and all idle decoders go. `picture` is the size of one
    /// picture.
    pub(crate) fn relieve(&self, picture: u64) {
        let slack = SLACK + (SLACK_PICTURES * picture).min(self.pictures.limit());
        let limit =
            self.store.budget().saturating_add(self.external_bytes).saturating_add(slack).min(self.given / 4 * 3);
        let is_too_much = |grown: Option<u64>| grown.is_some_and(|grown| grown > limit);
        if !self.resident.is_due() || !is_too_much(self.resident.grown()) {
            return;
        }
        ffi::return_free_pages();
        if is_too_much(self.resident.grown()) {
            self.store.shrink(self.store.budget() / 2);
            self.pool.close_idle();
        }
    }
}
