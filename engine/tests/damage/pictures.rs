//! The budget of picture memory: streams that claim large pictures wait or are refused, small videos continue beside
//! them, and every frame of an intact video is exact under any budget.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bucket_streamer::{Engine, ErrorKind};

use testing::clips::fixture;
use testing::damage::bombs::bombs;
use testing::damage::observations::AccessOrder;
use testing::damage::{ContainerForm, IntactClip, open, resized};

/// Large pictures, and the budget in these tests: in the same proportion as 256 MiB to the largest allowed pictures.
const LARGE: (u64, u64) = (4096, 2176);
const BUDGET: u64 = 64 * MIB;
/// Memory of the only run that may exceed the budget, until it detects damage: a large picture, and one for each
/// missing reference.
const ALONE: u64 = 96 * MIB;
const MIB: u64 = 1 << 20;
/// Frames requested of each.
const FRAMES: usize = 6;

/// Requests the frames of a small intact video repeatedly while `are_running` is set.
fn requests_alongside(engine: &Engine, are_running: &AtomicBool) -> usize {
    let clip = fixture("hevc_bframes.mp4");
    let clip = if clip.exists() { clip } else { fixture("hevc_closed_gop.mp4") };
    let expected = AccessOrder::Batch.observe(&Engine::new(Some(1)).open_path(&clip).expect("a video"));
    let mut rounds = 0;
    while rounds == 0 || are_running.load(Relaxed) {
        let video = engine.open_path(&clip).expect("a video");
        assert_eq!(AccessOrder::Batch.observe(&video), expected, "beside bombs, round {rounds}");
        rounds += 1;
    }
    rounds
}

/// The result of opening a bomb and requesting its first frames together; never an unflagged picture of that size.
fn request_bomb(engine: &Engine, name: &str, bytes: &[u8], outcomes: &mut BTreeMap<String, usize>) {
    let mut count = |what: &str| *outcomes.entry(what.to_owned()).or_default() += 1;
    let video = match open(engine, name, bytes) {
        Ok(video) => video,
        Err(error) => return count(if is_refused(error.kind()) { "not opened: memory" } else { "not opened" }),
    };
    let all: Vec<u32> = (0..video.frame_count().min(FRAMES) as u32).collect();
    for (index, frame) in video.frames(&all) {
        match frame {
            Ok(frame) if frame.width() < LARGE.0 as usize => count("small picture"),
            Ok(frame) => {
                assert!(frame.is_corrupt(), "{name}: frame {index}");
                count("flagged");
            }
            Err(error) => count(if is_refused(error.kind()) { "refused" } else { "error" }),
        }
    }
}

fn is_refused(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::PictureMemory { .. })
}

/// All bombs at once in one engine, beside a small video. Returns the peak of picture memory.
fn all_at_once(budget: u64, bombs: &[(String, Vec<u8>)]) -> (u64, BTreeMap<String, usize>, usize) {
    let engine = Engine::builder().threads(4).picture_memory(budget).checkpoint_memory(64 * MIB).build();
    let (is_busy, engine) = (AtomicBool::new(true), &engine);
    let (outcomes, rounds) = std::thread::scope(|scope| {
        let beside = scope.spawn(|| requests_alongside(engine, &is_busy));
        let set_off = |(name, bytes): &(String, Vec<u8>)| {
            let mut outcomes = BTreeMap::new();
            request_bomb(engine, name, bytes, &mut outcomes);
            outcomes
        };
        let running: Vec<_> = bombs.iter().map(|bomb| scope.spawn(move || set_off(bomb))).collect();
        let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
        for one in running {
            for (what, count) in one.join().expect("no panic") {
                *outcomes.entry(what).or_default() += count;
            }
        }
        is_busy.store(false, Relaxed);
        (outcomes, beside.join().expect("no panic"))
    });
    let pictures = engine.pictures_in_work();
    assert_eq!((pictures.bytes, pictures.waiting), (0, 0), "no picture is left in memory");
    (pictures.peak_bytes, outcomes, rounds)
}

#[test]
fn bombs_share_one_budget() {
    let bombs = bombs(LARGE);
    assert!(bombs.len() >= 8, "{} bombs", bombs.len());
    let budget = BUDGET;
    let (free, without, _) = all_at_once(u64::MAX, &bombs);
    let (taken, within, rounds) = all_at_once(budget, &bombs);
    eprintln!("without a budget {} MiB, {without:?}", free / MIB);
    eprintln!("within {} MiB: {} MiB, {within:?}, {rounds} rounds of the small video", budget / MIB, taken / MIB);
    assert!(free > 2 * budget, "{} MiB without a budget: these are no bombs", free / MIB);
    assert!(taken <= budget + ALONE, "{} MiB within {}", taken / MIB, budget / MIB);
}

/// Intact clips whose decoders need more than the smallest budget: reordered, interlaced, frame threads, changing
/// sizes.
const INTACT: [&str; 11] = [
    "hevc_wavefronts.mp4",
    "hevc_10bit.mp4",
    "hevc_444_8bit.mp4",
    "hevc_two_descriptions_sizes.mp4",
    "h264_bframes.mp4",
    "h264_interlaced.mp4",
    "h264_slices_10bit.mp4",
    "vp9.webm",
    "vp9_resized.ivf",
    "av1.mp4",
    "av1_tiles_10bit.ivf",
];

#[test]
fn intact_clips_are_exact_under_any_budget() {
    let (free, tight) = (Engine::new(Some(2)), Engine::builder().threads(4).picture_memory(0).build());
    let clips = INTACT.map(|name| {
        let expected = [AccessOrder::Batch, AccessOrder::Play]
            .map(|path| path.observe(&free.open_path(fixture(name)).expect("a video")));
        (name, expected)
    });
    // Concurrently, each in three orders: nearly every run needs more than the budget.
    std::thread::scope(|scope| {
        for (name, [batch, play]) in &clips {
            let tight = &tight;
            scope.spawn(move || {
                let video = tight.open_path(fixture(name)).expect("a video");
                for path in [AccessOrder::Shuffled(1), AccessOrder::Batch] {
                    assert_eq!(&path.observe(&video), batch, "{name}, {path:?}");
                }
                assert_eq!(&AccessOrder::Play.observe(&video), play, "{name}, played");
            });
        }
    });
    let pictures = tight.pictures_in_work();
    assert_eq!((pictures.bytes, pictures.waiting), (0, 0), "no picture is left in memory");
    eprintln!("{} KiB at most, within {} KiB", pictures.peak_bytes >> 10, tight.picture_memory() >> 10);
    assert!(pictures.peak_bytes > tight.picture_memory(), "no run had to be alone");
}

/// Frames that a caller keeps do not count, and callers may request frames inside of other requests.
#[test]
fn callers_that_keep_frames_or_exceed_the_budget_block_no_other() {
    let engine = Engine::builder().threads(2).picture_memory(0).checkpoint_memory(0).build();
    let video = engine.open_path(fixture("h264_bframes.mp4")).expect("a video");
    let other = engine.open_path(fixture("hevc_10bit.mp4")).expect("a video");
    let mut kept = Vec::new();
    let mut inner = 0;
    let shown = video.play(&mut |frame| {
        if frame.index % 8 == 0 {
            kept.push(other.frame(0).expect("a frame inside of another run"));
            other
                .play(&mut |frame| {
                    inner += 1;
                    kept.push(frame);
                    std::ops::ControlFlow::Break(())
                })
                .expect("a run inside of another");
        }
        kept.push(frame);
        std::ops::ControlFlow::Continue(())
    });
    shown.expect("all frames");
    assert!(kept.len() > 20 && inner > 2, "{} frames, {inner}", kept.len());
    let mut waiting = video.frames(&(0..20).collect::<Vec<_>>());
    assert!(waiting.next().is_some(), "a result of a request whose other results are not taken");
    assert!(other.frames(&(0..10).collect::<Vec<_>>()).all(|(_, frame)| frame.is_ok()));
    drop(waiting);
    assert_eq!(engine.pictures_in_work().waiting, 0);
}

/// The size changes in the middle: the first GOP is small.
#[test]
fn a_size_that_changes_in_mid_stream_is_charged() {
    let mut tried = 0;
    for name in ["hevc_slices.mp4", "h264_slices.mp4", "vp9_tiles.ivf", "av1_tiles.ivf"] {
        let clip = IntactClip::fixture(name);
        let clip = if clip.form == ContainerForm::InPlace { clip.annex_b().expect("a raw stream") } else { clip };
        let Some(claims) = resized(&clip, LARGE).and_then(|damaged| IntactClip::of(name_of(&clip), damaged.bytes))
        else {
            continue;
        };
        let Some(key) = (1..clip.samples.len()).find(|&sample| clip.keys[sample]) else { continue };
        let mut units = clip.units();
        for (own, other) in units.iter_mut().zip(claims.units()).skip(key) {
            own.1 = other.1;
        }
        let (bytes, _) = clip.with(&units).expect("a raw stream");
        let engine = Engine::builder().threads(2).picture_memory(BUDGET).build();
        let video = open(&engine, name_of(&clip), &bytes).expect("the first pictures are small");
        tried += 1;
        let frames = AccessOrder::Batch.observe(&video);
        let intact =
            AccessOrder::Batch.observe(&open(&Engine::new(Some(1)), name_of(&clip), &clip.bytes).expect("a video"));
        let same = frames.iter().zip(&intact).take_while(|(own, intact)| own == intact).count();
        let taken = engine.pictures_in_work().peak_bytes;
        eprintln!("{name}: {same} of {} frames, {} MiB", intact.len(), taken / MIB);
        assert!(same > 0 && same < intact.len(), "{name}: {same} of {}", intact.len());
        assert!(taken > MIB && taken <= ALONE, "{name}: {} MiB", taken / MIB);
    }
    assert!(tried >= 3, "{tried}");
}

fn name_of(clip: &IntactClip) -> &str {
    &clip.name
}
