//! The state that all parts of a session share: that of an engine, and that of an open video. Its use is left to the
//! other modules.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::container::{IndexBudget, Track};
use crate::damage::OnDamage;
use crate::decode::checkpoints::CheckpointStore;
use crate::decode::{DecodeCounters, DecoderPool};
use crate::device::{CostClass, Devices};
use crate::picture_memory::Budget;
use crate::plan::{Planner, References, TrackDependencies};
use crate::process::Owner;
use crate::session::prefetch::admission::FetchAdmission;
use crate::session::prefetch::pattern::AccessPattern;
use crate::source::{ReadCounts, Source};
use crate::time::Timeline;

#[derive(Debug)]
pub(crate) struct EngineState {
    /// The process that the worker threads belong to.
    pub(crate) owner: Owner,
    pub(crate) pool: Arc<DecoderPool>,
    /// The budget of the pictures that decoders hold.
    pub(crate) pictures: Arc<Budget>,
    /// The processor and the GPU.
    pub(crate) devices: Devices,
    pub(crate) store: CheckpointStore,
    pub(crate) counters: Arc<DecodeCounters>,
    pub(crate) resident: ResidentMemory,
    /// The queue of groups that need remote bytes.
    pub(crate) admission: FetchAdmission,
    pub(crate) threads: usize,
    /// Threads that can run at the same time.
    pub(crate) processors: usize,
    /// Threads of a sequential decode.
    pub(crate) sequential_threads: usize,
    /// Decoded pictures from one checkpoint to the next.
    pub(crate) spacing: u32,
    /// No request follows the first one: runs save checkpoints only where they pause.
    pub(crate) for_one_request: bool,
    /// Decode every frame from the random access point, without checkpoints.
    pub(crate) from_random_access_point: bool,
    /// Whether requests return damaged pictures or errors.
    pub(crate) on_damage: OnDamage,
    /// The largest picture in pixels.
    pub(crate) max_pixels: u64,
    /// The limit on the time to open a video of a remote source.
    pub(crate) open_timeout: Option<Duration>,
    /// The budget of indexes that are being built.
    pub(crate) index_budget: IndexBudget,
    /// External memory: the bytes that the rest of the process may allocate.
    pub(crate) external_memory: u64,
    /// The memory that the process may use, in bytes.
    pub(crate) process_memory: u64,
}

/// The state that an open video shares with its tasks.
#[derive(Debug)]
pub(crate) struct VideoState {
    pub(crate) engine: Arc<EngineState>,
    pub(crate) id: u64,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) track: Track,
    pub(crate) planner: Planner,
    pub(crate) references: References,
    pub(crate) timeline: Timeline,
    pub(crate) opened_with: ReadCounts,
    pub(crate) pattern: AccessPattern,
    /// Rows of blocks that can be decoded side by side, see `ParameterSets::rows_side_by_side`.
    pub(crate) rows_side_by_side: OnceLock<u32>,
    /// See `Video::key_frames`.
    pub(crate) key_frames: OnceLock<Box<[u32]>>,
    /// The GPU cannot decode it.
    pub(crate) is_unsupported: AtomicBool,
    /// The peak of the picture memory of its decode runs, in bytes, by their threads (`decoders.rs`).
    pub(crate) pictures_of_run: [AtomicU64; WIDTHS],
    /// The ends of its slices and tiles do not indicate damage, see `learn_slice_ends`.
    pub(crate) has_loose_ends: OnceLock<bool>,
}

/// Classes of thread numbers (powers of two) with separate peaks of picture memory.
pub(crate) const WIDTHS: usize = 8;

impl VideoState {
    /// The dependencies of the samples, for planning.
    pub(crate) fn dependencies(&self) -> TrackDependencies<'_> {
        TrackDependencies::new(&self.track, &*self.source, &self.planner, &self.references)
    }

    /// The class of decode runs with similar costs, for the cost model.
    pub(crate) fn kind(&self) -> CostClass {
        CostClass { codec: self.track.codec, size: self.track.parameters.size() }
    }
}

impl Drop for VideoState {
    fn drop(&mut self) {
        self.engine.pool.close_video(self.id);
        self.engine.store.remove_video(self.id);
    }
}

/// Resident memory beyond the checkpoint budget that does not trigger an eviction: decoders with their pictures, the
/// allocator's own memory, small uses by the rest of the process.
const SLACK: u64 = 512 << 20;
/// Pictures of the video that decoders hold count as slack too, up to the picture budget.
const SLACK_PICTURES: u64 = 48;
/// Requests from one check of resident memory to the next.
const CHECK_INTERVAL: u32 = 32;

/// The growth of resident memory.
#[derive(Debug, Default)]
pub(crate) struct ResidentMemory {
    checks: AtomicU32,
    baseline: OnceLock<u64>,
}

impl ResidentMemory {
    /// True once for every [`CHECK_INTERVAL`] calls.
    fn is_due(&self) -> bool {
        self.checks.fetch_add(1, Relaxed).is_multiple_of(CHECK_INTERVAL)
    }

    /// The growth of resident memory since the first check, in bytes.
    fn grown(&self) -> Option<u64> {
        let now = resident_bytes()?;
        Some(now.saturating_sub(*self.baseline.get_or_init(|| now)))
    }
}

/// Resident memory of the process in bytes; `None` if the system does not report it.
pub fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    // In pages: 4 KiB on Linux for x86-64, and on most aarch64 systems.
    text.split(' ').nth(1)?.parse::<u64>().ok()?.checked_mul(4096)
}

impl EngineState {
    /// The parts of the engine that every request holds: the picture budget, and the process.
    pub(crate) fn for_requests(&self) -> (Arc<Budget>, Owner) {
        (Arc::clone(&self.pictures), self.owner)
    }

    /// A safeguard in case the accounting is wrong. If resident memory grows beyond the budgets and the slack, or
    /// beyond three quarters of the memory that the process may use (a control group kills the process at the limit),
    /// the allocator returns free pages; if that is not enough, the checkpoints shrink to half of their budget and idle
    /// decoders are closed. `picture` is the size of one picture in bytes.
    pub(crate) fn trim_memory(&self, picture: u64) {
        let slack = SLACK + (SLACK_PICTURES * picture).min(self.pictures.limit());
        let limit = self
            .store
            .budget()
            .saturating_add(self.external_memory)
            .saturating_add(slack)
            .min(self.process_memory / 4 * 3);
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
