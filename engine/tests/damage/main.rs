//! Damaged videos: they show nothing of other videos, equal requests get equal bytes, and known damage is reported.
//!
//! By default some damaged pictures of each clip are made, and thousands with `BUCKET_STREAMER_EXHAUSTIVE`.
//! `BUCKET_STREAMER_DAMAGE_DIR` is a folder for the damaged clips, to examine them with other programs.
#![allow(clippy::print_stderr, reason = "tests report their counts")]

mod foreign;
mod oracle;
mod pictures;
mod silent;
mod sizes;
mod stills;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use bucket_streamer::Video;

use testing::damage::observations::{AccessOrder, FrameObservation, engine};
use testing::damage::{ContainerForm, DamageKind, DamagedClip, IntactClip, open, variants};

/// Clips with several slices or tiles per picture: four pictures of noise, then two GOPs of twelve.
const IN_PIECES: [&str; 10] = [
    "hevc_slices.mp4",
    "hevc_slices_10bit.mp4",
    "hevc_slices_12bit.mp4",
    "h264_slices.mp4",
    "h264_slices_10bit.mp4",
    "vp9_tiles.ivf",
    "vp9_tiles_10bit.ivf",
    "vp9_tiles_12bit.ivf",
    "av1_tiles.ivf",
    "av1_tiles_10bit.ivf",
];

/// Their pictures of noise.
const NOISE: usize = 4;

/// Clips with other structures: rows, B-frames, superframes, hidden frames, other containers. The second half is for
/// exhaustive runs.
const OTHERS: [&str; 12] = [
    "hevc_wavefronts.mp4",
    "h264_bframes.mp4",
    "vp9.webm",
    "av1.mp4",
    "hevc_10bit.mp4",
    "hevc_open_gop.mp4",
    "hevc_444_8bit.mp4",
    "h264_interlaced.mp4",
    "h264_fields.h264",
    "h264_nal_length_2.mp4",
    "vp9_resized.ivf",
    "av1.ivf",
];

fn is_exhaustive() -> bool {
    std::env::var_os("BUCKET_STREAMER_EXHAUSTIVE").is_some()
}

/// A clip with several slices, split into the noise and the rest, both as raw streams.
fn noise_and_rest(name: &str) -> (IntactClip, IntactClip) {
    let clip = IntactClip::fixture(name);
    let clip = if clip.form == ContainerForm::InPlace { clip.annex_b().expect("a raw stream") } else { clip };
    let all = clip.samples.len();
    (clip.part(0..NOISE).expect("the noise"), clip.part(NOISE..all).expect("the rest"))
}

/// The clips to damage: those with several slices, as raw streams and unchanged, and others.
fn victims() -> Vec<IntactClip> {
    let mut clips = Vec::new();
    for name in IN_PIECES {
        clips.push(noise_and_rest(name).1);
        if name == "hevc_slices.mp4" || name == "h264_slices.mp4" {
            clips.push(IntactClip::fixture(name));
        }
    }
    let others = if is_exhaustive() { OTHERS.len() } else { 4 };
    clips.extend(OTHERS[..others].iter().map(|name| IntactClip::fixture(name)));
    if is_exhaustive() {
        let raw = ["hevc_wavefronts.mp4", "hevc_10bit.mp4", "h264_bframes.mp4"];
        clips.extend(raw.iter().filter_map(|name| IntactClip::fixture(name).annex_b()));
        clips.extend(of_the_corpus());
    }
    clips
}

/// The small clips of the corpus.
fn of_the_corpus() -> Vec<IntactClip> {
    const BYTES: u64 = 100_000;
    const SAMPLES: usize = 100;
    let Some(folder) = std::env::var_os("BUCKET_STREAMER_CORPUS") else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.metadata().is_ok_and(|is| is.is_file() && is.len() <= BYTES));
    paths.sort();
    let is_damaged = |path: &PathBuf| testing::clips::name(path).starts_with("bad_");
    let clips = paths.iter().filter(|path| !is_damaged(path)).filter_map(|path| IntactClip::read(path));
    clips.filter(|clip| clip.samples.len() <= SAMPLES).collect()
}

/// Damaged copies of a clip: by default one of each `every`-th kind; in exhaustive runs all kinds, two of each if all
/// are requested.
fn damaged_copies(clip: &IntactClip, seed: u64, every: usize) -> Vec<DamagedClip> {
    let seed = seed + clip.name.bytes().map(u64::from).sum::<u64>();
    if is_exhaustive() {
        return variants(clip, seed, if every == 1 { 2 } else { 1 });
    }
    let all = variants(clip, seed, 1);
    all.into_iter()
        .enumerate()
        .filter(|(at, _)| (*at as u64 + seed).is_multiple_of(every as u64))
        .map(|(_, one)| one)
        .collect()
}

#[test]
fn a_seed_makes_the_same_damage_and_reports_its_first_access_unit() {
    for name in ["hevc_slices.mp4", "h264_slices.mp4", "vp9_tiles.ivf", "av1_tiles.ivf"] {
        let clip = noise_and_rest(name).1;
        let (one, again) = (variants(&clip, 5, 1), variants(&clip, 5, 1));
        assert!(one.len() > 9, "{name}: {} kinds", one.len());
        for (one, again) in one.iter().zip(&again) {
            assert_eq!((&one.name, &one.bytes), (&again.name, &again.bytes));
            let Some(first) = one.first_damaged else { continue };
            // The header of a packet contains its size.
            let until = clip.samples[first].start.saturating_sub(12);
            assert_eq!(one.bytes[..until], clip.bytes[..until], "{}: changed before the touched unit", one.name);
            if let Some(before) = first.checked_sub(1) {
                let origin = one.origin(clip.samples[before].start as u64);
                assert_eq!(origin, Some(before), "{}: the access unit before", one.name);
            }
        }
    }
}

fn video(engine: &bucket_streamer::Engine, clip: &IntactClip) -> Video {
    open(engine, &clip.name, &clip.bytes).expect("an intact clip")
}

#[test]
fn the_same_request_gives_the_same_bytes() {
    let beside = IntactClip::fixture("h264_interlaced.mp4");
    let mut wrong = Vec::new();
    let (mut clips, mut frames) = (0, 0);
    for clip in victims() {
        for damaged in damaged_copies(&clip, 2, 4) {
            let open = |engine: &bucket_streamer::Engine| open(engine, &damaged.name, &damaged.bytes);
            let Ok(first) = open(&engine(1, None)) else { continue };
            clips += 1;
            let expected = AccessOrder::Forwards.observe(&first);
            frames += expected.len();
            let mut compare = |what: &str, seen: &[FrameObservation]| {
                let all = expected.iter().zip(seen).enumerate();
                let differ: Vec<_> = all.filter(|(_, (one, other))| !one.agrees(other)).collect();
                if let Some((number, (one, other))) = differ.first() {
                    let count = differ.len();
                    wrong.push(format!(
                        "{}: {what}: {count} frames; frame {number}: {one} instead of {other}",
                        damaged.name
                    ));
                }
            };
            compare("again, backwards", &AccessOrder::Backwards.observe(&first));
            compare("again, shuffled", &AccessOrder::Shuffled(3).observe(&first));
            for threads in [1, 2, 4] {
                let fresh = || open(&engine(threads, None)).expect("opened before");
                compare(&format!("shuffled with {threads} threads"), &AccessOrder::Shuffled(4).observe(&fresh()));
                compare(&format!("a batch with {threads} threads"), &AccessOrder::Batch.observe(&fresh()));
                compare(&format!("played with {threads} threads"), &AccessOrder::Play.observe(&fresh()));
            }
            compare(
                "without checkpoints",
                &AccessOrder::Backwards.observe(&open(&engine(1, Some(0))).expect("opened before")),
            );
            let engine = engine(2, None);
            let (video, other) = (open(&engine).expect("opened before"), self::video(&engine, &beside));
            let is_done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !is_done.load(Relaxed) {
                        AccessOrder::Batch.frames(&other, |_, frame| drop(frame));
                    }
                });
                compare("beside another video", &AccessOrder::Forwards.observe(&video));
                is_done.store(true, Relaxed);
            });
        }
    }
    eprintln!("{clips} damaged clips, {frames} frames, {} paths give other bytes", wrong.len());
    assert!(wrong.is_empty(), "{}", shown(&wrong));
}

/// Tables by kind and codec.
type Table<T> = BTreeMap<(DamageKind, &'static str), T>;

/// The first of many lines.
fn shown(lines: &[String]) -> String {
    let first: Vec<&str> = lines.iter().take(100).map(String::as_str).collect();
    format!("{} in all:\n{}", lines.len(), first.join("\n"))
}
