//! One budget for the pictures that decoders have in work: streams that claim large ones wait or are refused, small videos go
//! on beside them, and every frame of an intact video is exact under any budget.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bucket_streamer::{Engine, ErrorKind};

use crate::common::fixture;
use crate::damage::seen::Path;
use crate::damage::{Clip, Form, open, resized};

/// The largest pictures that are allowed by default.
const LARGEST: (u64, u64) = (8192, 4352);
const MIB: u64 = 1 << 20;

/// Streams that claim pictures of this size, in every codec.
fn bombs(size: (u64, u64)) -> Vec<(String, Vec<u8>)> {
    let raw = |name: &str| {
        let clip = Clip::fixture(name);
        if clip.form == Form::InPlace { clip.annex_b().expect("a raw stream") } else { clip }
    };
    let names = [
        "hevc_open_gop_cut.265",
        "hevc_slices.mp4",
        "hevc_slices_10bit.mp4",
        "h264_fields.h264",
        "h264_slices.mp4",
        "h264_slices_10bit.mp4",
        "vp9_tiles.ivf",
        "vp9_tiles_10bit.ivf",
        "av1_tiles.ivf",
        "av1_tiles_10bit.ivf",
    ];
    let bombs = names.into_iter().filter_map(|name| {
        let clip = raw(name);
        Some((clip.name.clone(), resized(&clip, size)?.bytes))
    });
    bombs.collect()
}

/// The frames of a small intact video, asked for while `others` work, as often as they do.
fn asks_beside(engine: &Engine, others: &AtomicBool) -> usize {
    let clip = fixture("hevc_bframes.mp4");
    let clip = if clip.exists() { clip } else { fixture("hevc_closed_gop.mp4") };
    let expected = Path::Batch.see(&Engine::new(Some(1)).open_path(&clip).expect("a video"));
    let mut rounds = 0;
    while rounds == 0 || others.load(Relaxed) {
        let video = engine.open_path(&clip).expect("a video");
        assert_eq!(Path::Batch.see(&video), expected, "beside bombs, round {rounds}");
        rounds += 1;
    }
    rounds
}

/// What comes of opening a bomb and asking for all of its frames at once; never a picture of that size that is not flagged.
fn set_off(engine: &Engine, name: &str, bytes: &[u8], outcomes: &mut BTreeMap<String, usize>) {
    let mut count = |what: &str| *outcomes.entry(what.to_owned()).or_default() += 1;
    let video = match open(engine, name, bytes) {
        Ok(video) => video,
        Err(error) => return count(if is_refused(error.kind()) { "not opened: memory" } else { "not opened" }),
    };
    let all: Vec<u32> = (0..video.frame_count() as u32).collect();
    for (index, frame) in video.frames(&all) {
        match frame {
            Ok(frame) if frame.width() < 4096 => count("small picture"),
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

/// All bombs at once in one engine, beside a small video. The most that pictures took.
fn all_at_once(budget: u64, bombs: &[(String, Vec<u8>)]) -> (u64, BTreeMap<String, usize>, usize) {
    let engine = Engine::builder().threads(4).picture_memory(budget).checkpoint_memory(64 * MIB).build();
    let (is_busy, engine) = (AtomicBool::new(true), &engine);
    let (outcomes, rounds) = std::thread::scope(|scope| {
        let beside = scope.spawn(|| asks_beside(engine, &is_busy));
        let set_off = |(name, bytes): &(String, Vec<u8>)| {
            let mut outcomes = BTreeMap::new();
            set_off(engine, name, bytes, &mut outcomes);
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
    assert_eq!((pictures.bytes, pictures.waiting), (0, 0), "nothing is left in work");
    (pictures.peak_bytes, outcomes, rounds)
}

#[test]
fn bombs_share_one_budget() {
    let bombs = bombs(LARGEST);
    assert!(bombs.len() >= 8, "{} bombs", bombs.len());
    let budget = 256 * MIB;
    let (free, without, _) = all_at_once(u64::MAX, &bombs);
    let (taken, within, rounds) = all_at_once(budget, &bombs);
    eprintln!("without a budget {} MiB, {without:?}", free / MIB);
    eprintln!("within {} MiB: {} MiB, {within:?}, {rounds} rounds beside", budget / MIB, taken / MIB);
    assert!(free > 2 * budget, "{} MiB without a budget: no bombs", free / MIB);
    assert!(taken <= budget, "{} MiB within {}", taken / MIB, budget / MIB);
}
