//! Planning: the samples to decode for requested frames, when the references of all pictures are known (`parse`
//! measures how they are learned). Nothing is decoded.
//!
//! - `one`: a random frame, for an engine without checkpoints; a different one each time.
//! - `batch`: 60 random frames in one request, likewise.
//! - `near`: a random frame, a different one each time, after 60 other frames have left their checkpoints: planning
//!   compares decode runs from up to eight checkpoints. The search for the nearest is included. AV1 has none.

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;

use bucket_streamer::bitstream::Codec;
use bucket_streamer::decode::checkpoints::CheckpointStore;
use bucket_streamer::decode::pool::{DecoderKey, PoolOptions};
use bucket_streamer::decode::{CheckpointWriter, DecodeCounters, DecodeRun, DecoderPool, Event, SampleReader};
use bucket_streamer::plan::runs::{self, PlannedRun, Target};
use bucket_streamer::plan::{Depth, Planner, References, StoredCheckpoint, TrackDependencies};
use bucket_streamer::{DEFAULT_MAX_PIXELS, Video};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use ffi::Threads;

use super::clips::{clips, random_frames};

const FRAMES: usize = 60;
/// The engine's values: pictures between checkpoints, samples behind a target, and candidate checkpoints on each side.
const SPACING: u32 = 4;
const BEHIND: u32 = 16;
const CANDIDATES: usize = 4;

/// All of `plan`.
pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    let fixtures = ["hevc_demo.mp4", "h264_bframes.mp4", "vp9.webm", "av1.mp4"];
    let corpus = ["hevc_bbb_1080p_fmp4_30s.mp4", "h264_croatia_1080p25_framecode.mp4"];
    for clip in clips(&fixtures, &corpus) {
        let video = clip.open();
        let frames = random_frames(&video, FRAMES, 0);
        let all: Vec<u32> = (0..video.frame_count() as u32).collect();
        assert!(!video.plan(&all).is_empty(), "learns the references of all samples");
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("one", &clip.name), |bencher| {
            let mut frames = frames.iter().cycle();
            bencher.iter(|| video.plan(&[*frames.next().expect("without end")]));
        });
        group.throughput(Throughput::Elements(FRAMES as u64));
        group.bench_function(BenchmarkId::new("batch", &clip.name), |bencher| {
            bencher.iter(|| video.plan(black_box(&frames)));
        });
        if video.track().codec != Codec::Av1 {
            near(&mut group, &clip.name, &video);
        }
    }
    group.finish();
}

fn near(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, video: &Video) {
    let warm = LazyCell::new(|| WarmVideo::decode(video, &random_frames(video, FRAMES, 0)));
    let frames = random_frames(video, FRAMES, 1);
    group.throughput(Throughput::Elements(1));
    group.bench_function(BenchmarkId::new("near", name), |bencher| {
        let warm = &*warm;
        let mut frames = frames.iter().cycle();
        bencher.iter(|| warm.plan(*frames.next().expect("without end")));
    });
}

/// A video with checkpoints of some decoded frames.
struct WarmVideo<'a> {
    video: &'a Video,
    planner: Planner,
    references: References,
    store: CheckpointStore,
}

/// The number of the only video in its store.
const VIDEO: u64 = 0;

impl<'a> WarmVideo<'a> {
    /// Decodes these frames, one after the other.
    fn decode(video: &'a Video, frames: &[u32]) -> WarmVideo<'a> {
        let (planner, references) = (Planner::new(video.track()), References::new());
        let warm = WarmVideo { video, planner, references, store: CheckpointStore::new(u64::MAX) };
        let (pool, counters) = (
            DecoderPool::new(
                1,
                PoolOptions { check_hashes: false, max_pixels: DEFAULT_MAX_PIXELS, idle_bytes: u64::MAX },
            ),
            DecodeCounters::default(),
        );
        for planned in frames.iter().flat_map(|&frame| warm.plan(frame)) {
            warm.run(&planned, &pool, &counters);
        }
        assert!(warm.store.usage().checkpoints > 0, "checkpoints were left");
        // The references of the other frames are learned now, not while the clock runs.
        (0..video.frame_count() as u32).for_each(|frame| _ = warm.plan(frame));
        warm
    }

    fn known(&self) -> TrackDependencies<'_> {
        TrackDependencies::new(self.video.track(), self.video.source(), &self.planner, &self.references)
    }

    /// Plans a frame as the engine does, except for the check whether a checkpoint holds the picture itself.
    fn plan(&self, frame: u32) -> Vec<PlannedRun> {
        let track = self.video.track();
        let sample = track.frames[frame as usize];
        let jobs = self.planner.plan(track, self.video.source(), &[sample], Depth::Nearest);
        let near = |target: Target| -> Vec<Arc<StoredCheckpoint>> {
            let near = self.store.within(VIDEO, target.start..=target.sample.saturating_add(BEHIND));
            let before = near.partition_point(|kept| kept.state.position <= target.sample);
            near[before.saturating_sub(CANDIDATES)..(before + CANDIDATES).min(near.len())].to_vec()
        };
        runs::plan(&[Target { sample, start: jobs[0].first }], &self.known(), &near)
    }

    fn run(&self, planned: &PlannedRun, pool: &Arc<DecoderPool>, counters: &DecodeCounters) {
        let (track, source, needs) = (self.video.track(), self.video.source(), self.known());
        let key = DecoderKey { video: VIDEO, threads: Threads::One, lenient: false, check_ends: true };
        let mut lease = pool.lease(key, track).expect("a decoder");
        let checkpoint_writer =
            CheckpointWriter { store: &self.store, video: VIDEO, spacing: SPACING, dependencies: &needs };
        let (planner, checkpoint_writer) = (&self.planner, &checkpoint_writer);
        let keeps = Some(checkpoint_writer);
        let reader =
            SampleReader { track, source, planner, zeros: false, counters, may_read: None, checkpoint_writer: keeps };
        let mut left: BTreeSet<u32> = planned.targets.iter().copied().collect();
        let mut run = DecodeRun::planned(planned, checkpoint_writer);
        while let Some(event) = run.next(&reader, &mut lease).expect("memory") {
            if matches!(event, Event::Picture(sample, _) if left.remove(&sample)) && left.is_empty() {
                run.stop();
            }
        }
    }
}
