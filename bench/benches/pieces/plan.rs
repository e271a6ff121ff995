//! Planning: the samples to decode for requested frames, when the references of all pictures are known (`parse`
//! measures how they are learned). Nothing is decoded.
//!
//! - `one`: a random frame, for an engine without checkpoints; a different one each time.
//! - `batch`: 60 random frames in one request, likewise.
//! - `near`: a random frame, a different one each time, after 60 others were decoded and have left their checkpoints:
//!   planning compares decode runs from up to eight of them. The search for the nearest is included. AV1 has none.

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;

use bucket_streamer::bitstream::Codec;
use bucket_streamer::decode::checkpoints::Store;
use bucket_streamer::decode::pool::{Inspection, Key};
use bucket_streamer::decode::{Counters, DecodeRun, Event, Keeper, Pool, SampleReader};
use bucket_streamer::plan::route::{self, Leg, Target};
use bucket_streamer::plan::{Depth, Kept, Known, Planner, References};
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
    let walked = LazyCell::new(|| Walked::through(video, &random_frames(video, FRAMES, 0)));
    let frames = random_frames(video, FRAMES, 1);
    group.throughput(Throughput::Elements(1));
    group.bench_function(BenchmarkId::new("near", name), |bencher| {
        let walked = &*walked;
        let mut frames = frames.iter().cycle();
        bencher.iter(|| walked.plan(*frames.next().expect("without end")));
    });
}

/// A video some of whose frames were decoded.
struct Walked<'a> {
    video: &'a Video,
    planner: Planner,
    references: References,
    store: Store,
}

/// The number of the only video in its store.
const VIDEO: u64 = 0;

impl<'a> Walked<'a> {
    /// Decodes these frames, one after the other.
    fn through(video: &'a Video, frames: &[u32]) -> Walked<'a> {
        let (planner, references) = (Planner::new(video.track()), References::new());
        let walked = Walked { video, planner, references, store: Store::new(u64::MAX) };
        let (pool, counters) = (
            Pool::new(1, Inspection { check_hashes: false, max_pixels: DEFAULT_MAX_PIXELS, idle_bytes: u64::MAX }),
            Counters::default(),
        );
        for leg in frames.iter().flat_map(|&frame| walked.plan(frame)) {
            walked.walk(&leg, &pool, &counters);
        }
        assert!(walked.store.held().checkpoints > 0, "checkpoints were left");
        // The references of the other frames are learned now, not while the clock runs.
        (0..video.frame_count() as u32).for_each(|frame| _ = walked.plan(frame));
        walked
    }

    fn known(&self) -> Known<'_> {
        Known::new(self.video.track(), self.video.source(), &self.planner, &self.references)
    }

    /// Plans a frame as the engine does, except for the check whether a checkpoint holds the picture itself.
    fn plan(&self, frame: u32) -> Vec<Leg> {
        let track = self.video.track();
        let sample = track.frames[frame as usize];
        let jobs = self.planner.plan(track, self.video.source(), &[sample], Depth::Nearest);
        let near = |target: Target| -> Vec<Arc<Kept>> {
            let near = self.store.within(VIDEO, target.entry..=target.sample.saturating_add(BEHIND));
            let before = near.partition_point(|kept| kept.state.position <= target.sample);
            near[before.saturating_sub(CANDIDATES)..(before + CANDIDATES).min(near.len())].to_vec()
        };
        route::plan(&[Target { sample, entry: jobs[0].entry }], &self.known(), &near)
    }

    fn walk(&self, leg: &Leg, pool: &Arc<Pool>, counters: &Counters) {
        let (track, source, needs) = (self.video.track(), self.video.source(), self.known());
        let key = Key { video: VIDEO, threads: Threads::One, lenient: false, check_ends: true };
        let mut lease = pool.lease(key, track).expect("a decoder");
        let keeper = Keeper { store: &self.store, video: VIDEO, spacing: SPACING, needs: &needs };
        let (planner, keeper) = (&self.planner, &keeper);
        let keeps = Some(keeper);
        let reader = SampleReader { track, source, planner, zeros: false, counters, may_read: None, keeper: keeps };
        let mut left: BTreeSet<u32> = leg.targets.iter().copied().collect();
        let mut run = DecodeRun::planned(leg, keeper);
        while let Some(event) = run.next(&reader, &mut lease).expect("memory") {
            if matches!(event, Event::Picture(sample, _) if left.remove(&sample)) && left.is_empty() {
                run.stop();
            }
        }
    }
}
