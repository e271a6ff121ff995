//! Damaged videos: nothing of another video shows in them, the same request gives the same bytes, known damage is reported.
//!
//! `BUCKET_STREAMER_EXHAUSTIVE` makes thousands of damaged pictures of every clip; by default there are some of each.
//! `BUCKET_STREAMER_DAMAGE_DIR` is where the damaged clips are written, for looking at them with other programs.
#![allow(clippy::print_stderr, reason = "tests report what they count")]

#[path = "damage/pictures.rs"]
mod pictures;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path as FilePath, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bucket_streamer::bitstream::Codec;
use bucket_streamer::pixels::{Fit, JfifPlanes, Part, Shape};
use bucket_streamer::still::{Grid, StillEncoder, StillFormat, StillMaker, StillOptions, Turn};
use bucket_streamer::{ErrorKind, Video};

use testing::clips::program;
use testing::damage::foreign::{Foreign, check_that_the_judge_can_fail};
use testing::damage::seen::{Path, Seen, engine};
use testing::damage::{Clip, Damaged, Form, Kind, often, open, resized, variants};

/// Clips with several slices or tiles a picture: four pictures of noise, then two GOPs of twelve.
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
/// Pictures of noise in them.
const NOISE: usize = 4;

/// Other shapes of clips: rows, B-frames, superframes, hidden frames, other containers. The second half is for
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

/// A clip with noise, and one of as large pictures whose bytes change in place.
const IN_OTHER_CONTAINERS: [(&str, &str); 4] = [
    ("hevc_slices.mp4", "hevc_wavefronts.mp4"),
    ("h264_slices.mp4", "h264_hybrid_fragmented.mp4"),
    ("vp9_tiles.ivf", "vp9.webm"),
    ("av1_tiles.ivf", "av1.mp4"),
];

/// A VP9 clip whose pictures do not adapt probabilities (error resilient): when one is lost, nothing in the others tells, since VP9
/// has no frame numbers.
const UNTOLD: &str = "vp9_resized.ivf";

/// Share of the pictures that other bytes in slices and tiles change without anything telling, at most: 3 % was measured (7 of 268
/// pictures of VP9 with one bit flipped).
const SILENT_OVERWRITTEN: f64 = 0.06;

fn is_exhaustive() -> bool {
    std::env::var_os("BUCKET_STREAMER_EXHAUSTIVE").is_some()
}

/// A clip in pieces: the noise, and the rest, both as raw streams.
fn noise_and_rest(name: &str) -> (Clip, Clip) {
    let clip = Clip::fixture(name);
    let clip = if clip.form == Form::InPlace { clip.annex_b().expect("a raw stream") } else { clip };
    let all = clip.samples.len();
    (clip.part(0..NOISE).expect("the noise"), clip.part(NOISE..all).expect("the rest"))
}

/// The clips to be damaged: in pieces as raw streams and as they are, and others.
fn victims() -> Vec<Clip> {
    let mut clips = Vec::new();
    for name in IN_PIECES {
        clips.push(noise_and_rest(name).1);
        if name == "hevc_slices.mp4" || name == "h264_slices.mp4" {
            clips.push(Clip::fixture(name));
        }
    }
    let others = if is_exhaustive() { OTHERS.len() } else { 4 };
    clips.extend(OTHERS[..others].iter().map(|name| Clip::fixture(name)));
    if is_exhaustive() {
        let raw = ["hevc_wavefronts.mp4", "hevc_10bit.mp4", "h264_bframes.mp4"];
        clips.extend(raw.iter().filter_map(|name| Clip::fixture(name).annex_b()));
        clips.extend(of_the_corpus());
    }
    clips
}

/// The small clips of the corpus.
fn of_the_corpus() -> Vec<Clip> {
    const BYTES: u64 = 100_000;
    const SAMPLES: usize = 100;
    let Some(folder) = std::env::var_os("BUCKET_STREAMER_CORPUS") else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.metadata().is_ok_and(|is| is.is_file() && is.len() <= BYTES));
    paths.sort();
    let is_damaged = |path: &PathBuf| testing::clips::name(path).starts_with("bad_");
    let clips = paths.iter().filter(|path| !is_damaged(path)).filter_map(|path| Clip::read(path));
    clips.filter(|clip| clip.samples.len() <= SAMPLES).collect()
}

/// Damaged copies of a clip: by default one of each `every`-th kind; in exhaustive runs of all kinds, of each two where all
/// are asked for.
fn damaged(clip: &Clip, seed: u64, every: usize) -> Vec<Damaged> {
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
fn a_seed_makes_the_same_damage_and_says_where_it_begins() {
    for name in ["hevc_slices.mp4", "h264_slices.mp4", "vp9_tiles.ivf", "av1_tiles.ivf"] {
        let clip = noise_and_rest(name).1;
        let (one, again) = (variants(&clip, 5, 1), variants(&clip, 5, 1));
        assert!(one.len() > 9, "{name}: {} kinds", one.len());
        for (one, again) in one.iter().zip(&again) {
            assert_eq!((&one.name, &one.bytes), (&again.name, &again.bytes));
            let Some(first) = one.first_touched else { continue };
            // The header of a packet has its size.
            let until = clip.samples[first].start.saturating_sub(12);
            assert_eq!(one.bytes[..until], clip.bytes[..until], "{}: changed before what it touches", one.name);
            if let Some(before) = first.checked_sub(1) {
                let origin = one.origin(clip.samples[before].start as u64);
                assert_eq!(origin, Some(before), "{}: the access unit before", one.name);
            }
        }
    }
}

#[test]
fn the_judge_of_foreign_pixels_can_fail() {
    check_that_the_judge_can_fail();
    let (noise, rest) = noise_and_rest("h264_slices.mp4");
    let foreign = foreign(&noise, &rest);
    let engine = engine(1, None);
    let find = |clip: &Clip| foreign.find(&video(&engine, clip).frame(2).expect("a frame").picture).len();
    assert!(find(&noise) > 3000, "{} runs of the noise itself", find(&noise));
    assert_eq!(find(&rest), 0);
}

/// What gives a video away in another.
fn foreign(pattern: &Clip, victim: &Clip) -> Foreign {
    let engine = engine(1, None);
    let mut foreign = Foreign::default();
    let all = |clip: &Clip, take: &mut dyn FnMut(&bucket_streamer::Frame)| {
        Path::Play.frames(&video(&engine, clip), |_, frame| take(&frame.expect("an intact frame").picture));
    };
    all(pattern, &mut |picture| foreign.add(picture));
    all(victim, &mut |picture| foreign.except(picture));
    assert!(foreign.count() > 10_000, "{}: {} runs", pattern.name, foreign.count());
    foreign
}

fn video(engine: &bucket_streamer::Engine, clip: &Clip) -> Video {
    open(engine, &clip.name, &clip.bytes).expect("an intact clip")
}

#[test]
fn nothing_of_one_video_shows_in_another() {
    let mut wrong = Vec::new();
    let (mut pictures, mut decoded) = (0, 0);
    // By the kind of damage and the clip that the noise is of.
    let mut table: BTreeMap<(Kind, &str), usize> = BTreeMap::new();
    let in_other_containers = IN_OTHER_CONTAINERS.map(|(name, victim)| (name, Some(victim)));
    for (name, victim) in IN_PIECES.map(|name| (name, None)).into_iter().chain(in_other_containers) {
        let (noise, rest) = noise_and_rest(name);
        let victim = victim.map_or(rest, Clip::fixture);
        let foreign = foreign(&noise, &victim);
        let mut damaged = damaged(&victim, 1, 2);
        if victim.form != Form::InPlace {
            damaged.extend(grown(&victim));
        }
        for damaged in damaged {
            // Checkpoints are there when the second path begins.
            for (threads, memory, paths) in [
                (1, None, &[Path::Shuffled(7), Path::Batch][..]),
                (4, None, &[Path::Play, Path::Batch]),
                (2, Some(0), &[Path::Shuffled(8)]),
            ] {
                let engine = engine(threads, memory);
                // All of it may be unreadable.
                let Ok(video) = open(&engine, &damaged.name, &damaged.bytes) else { continue };
                for path in paths {
                    leave_behind(&engine, &noise);
                    let mut shown = Vec::new();
                    path.frames(&video, |number, frame| {
                        pictures += 1;
                        let Ok(frame) = frame else { return };
                        decoded += 1;
                        let found = foreign.find(&frame.picture);
                        shown.extend(found.first().map(|&first| (number, first, found.len(), frame.is_corrupt())));
                    });
                    let Some((number, (plane, row, byte), runs, is_corrupt)) = shown.first() else { continue };
                    let count = shown.len();
                    *table.entry((damaged.kind, name)).or_default() += count;
                    wrong.push(format!(
                        "{}, {path:?} with {threads} threads: {count} pictures; frame {number} (corrupt: {is_corrupt}) \
                         in {runs} places, first in plane {plane}, row {row}, byte {byte}",
                        damaged.name
                    ));
                }
            }
        }
    }
    let count: usize = table.values().sum();
    eprintln!("{pictures} frames asked for, {decoded} pictures looked at, foreign pixels in {count}");
    table.iter().for_each(|((kind, clip), count)| eprintln!("{kind:<17} {clip:<22} {count:>6}"));
    assert!(wrong.is_empty(), "{}", shown(&wrong));
}

/// Fills memory for pictures with those of a clip and lets go of it: more than are in use at the same time.
fn leave_behind(engine: &bucket_streamer::Engine, clip: &Clip) {
    let mut held = Vec::new();
    for _ in 0..8 {
        Path::Batch.frames(&video(engine, clip), |_, frame| held.extend(frame.ok()));
    }
}

/// Ways of making stills: whole, smaller, turned, a part; of odd widths and heights too.
fn ways_of_stills() -> Vec<StillOptions> {
    let shape = |width, height, fit| Shape { width, height, fit };
    let whole = StillOptions::default();
    let turned = StillOptions { turn: Turn::from_rotation(90.0, false), ..whole };
    vec![
        whole,
        StillOptions { shape: shape(Some(161), None, Fit::Contain), ..whole },
        StillOptions { shape: shape(Some(97), Some(151), Fit::Cover), ..whole },
        StillOptions { shape: shape(Some(33), Some(7), Fit::Fill), ..turned },
        turned,
        StillOptions { crop: Some(Part { left: 3, top: 5, width: 91, height: 75 }), ..whole },
    ]
}

/// A picture of the video, as far as it can be decoded.
fn picture(clip: &Clip, frame: u32) -> bucket_streamer::Frame {
    video(&engine(1, None), clip).frame(frame).expect("a frame").picture
}

#[test]
fn stills_show_nothing_of_the_stills_before() {
    let noise = picture(&noise_and_rest("h264_slices.mp4").0, 1);
    let damaged = often(&noise_and_rest("hevc_slices.mp4").1, Kind::SliceMissing, 1, 1).expect("a damaged clip");
    let damaged = Clip::of(&damaged.name, damaged.bytes).expect("a clip");
    let others = ["hevc_444_8bit.mp4", "hevc_12bit_422.mp4", "hevc_gray.mp4", "vp9_odd.webm", "h264_interlaced.mp4"];
    let mut pictures = vec![(damaged.name.clone(), picture(&damaged, 2))];
    pictures.extend(others.map(|name| (name.to_owned(), picture(&Clip::fixture(name), 20))));
    let mut used = StillMaker::new().expect("a maker");
    let (mut found, mut expected, mut stills) = (Vec::new(), Vec::new(), 0);
    for (name, picture) in &pictures {
        for options in ways_of_stills() {
            for format in [StillFormat::Jpeg, StillFormat::Png, StillFormat::Webp] {
                let options = StillOptions { format, ..options };
                let size = StillMaker::new().expect("a maker").encode(picture, &options, &mut expected);
                let size = size.unwrap_or_else(|error| panic!("{name}: {error}"));
                for before in ways_of_stills() {
                    used.encode(&noise, &StillOptions { format, ..before }, &mut found).expect("a still of noise");
                    assert_eq!(used.encode(picture, &options, &mut found).expect("a still"), size, "{name}");
                    assert!(found == expected, "{name}: {options:?} after {before:?}");
                    stills += 1;
                }
            }
        }
    }
    eprintln!("{stills} stills, {} pictures", pictures.len());
}

#[test]
fn sheets_show_nothing_of_the_sheets_before() {
    let (mut maker, mut used) = (StillMaker::new().expect("a maker"), StillEncoder::new().expect("an encoder"));
    let noise = picture(&noise_and_rest("h264_slices.mp4").0, 1);
    let odd = picture(&Clip::fixture("vp9_odd.webm"), 20);
    let mut tile = |picture, width| {
        let shape = Shape { width: Some(width), height: None, fit: Fit::Contain };
        maker.planes(picture, &StillOptions { shape, ..StillOptions::default() }).expect("a tile").clone()
    };
    let grid = Grid::new((75, 57), 2, 4).expect("a grid");
    let of_noise = tile(&noise, 75);
    let (first, last) = (tile(&odd, 75), tile(&odd, 31));
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    for format in [StillFormat::Jpeg, StillFormat::Png, StillFormat::Webp] {
        let mut fresh = StillEncoder::new().expect("an encoder");
        let sheet = |tiles: [Option<&JfifPlanes>; 4]| grid.compose(&tiles).expect("a sheet");
        let shown = sheet([Some(&first), None, Some(&last), None]);
        fresh.encode(&shown, format, 85, &mut expected).expect("a sheet");
        used.encode(&sheet([Some(&of_noise); 4]), format, 85, &mut found).expect("a sheet of noise");
        // In the cells of tiles that failed nothing is left of those of another sheet.
        let again = sheet([Some(&first), None, Some(&last), None]);
        used.encode(&again, format, 85, &mut found).expect("a sheet");
        assert!(found == expected, "{format:?}");
        let (left, top) = grid.place(1);
        let cell = (0..56).flat_map(|y| &again.planes[0].row(top + y)[left..left + 76]);
        assert!(cell.copied().all(|luma| luma == 0), "the cell of a tile that failed is black");
    }
}

/// Copies of smaller videos that claim the size of the clip, so that they get its memory: most of it is never written.
fn grown(clip: &Clip) -> Vec<Damaged> {
    let smaller: &[&str] = match clip.codec {
        Codec::Hevc => &["hevc_size_change.265"],
        Codec::H264 => &["h264_fields.h264"],
        Codec::Vp9 => &["vp9.ivf"],
        Codec::Av1 => &["av1_forward_key.ivf"],
    };
    smaller.iter().filter_map(|name| resized(&Clip::fixture(name), (320, 192))).collect()
}

#[test]
fn the_same_request_gives_the_same_bytes() {
    let beside = Clip::fixture("h264_interlaced.mp4");
    let mut wrong = Vec::new();
    let (mut clips, mut frames) = (0, 0);
    for clip in victims() {
        for damaged in damaged(&clip, 2, 4) {
            let open = |engine: &bucket_streamer::Engine| open(engine, &damaged.name, &damaged.bytes);
            let Ok(first) = open(&engine(1, None)) else { continue };
            clips += 1;
            let expected = Path::Forwards.see(&first);
            frames += expected.len();
            let mut compare = |what: &str, seen: &[Seen]| {
                let all = expected.iter().zip(seen).enumerate();
                let differ: Vec<_> = all.filter(|(_, (one, other))| !one.agrees(other)).collect();
                if let Some((number, (one, other))) = differ.first() {
                    let count = differ.len();
                    wrong.push(format!(
                        "{}: {what}: {count} frames; frame {number}: {one}, and here {other}",
                        damaged.name
                    ));
                }
            };
            compare("again, backwards", &Path::Backwards.see(&first));
            compare("again, shuffled", &Path::Shuffled(3).see(&first));
            for threads in [1, 2, 4] {
                let fresh = || open(&engine(threads, None)).expect("opened before");
                compare(&format!("shuffled with {threads} threads"), &Path::Shuffled(4).see(&fresh()));
                compare(&format!("a batch with {threads} threads"), &Path::Batch.see(&fresh()));
                compare(&format!("played with {threads} threads"), &Path::Play.see(&fresh()));
            }
            compare("without checkpoints", &Path::Backwards.see(&open(&engine(1, Some(0))).expect("opened before")));
            let engine = engine(2, None);
            let (video, other) = (open(&engine).expect("opened before"), self::video(&engine, &beside));
            let is_done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !is_done.load(Relaxed) {
                        Path::Batch.frames(&other, |_, frame| drop(frame));
                    }
                });
                compare("beside another video", &Path::Forwards.see(&video));
                is_done.store(true, Relaxed);
            });
        }
    }
    eprintln!("{clips} damaged clips, {frames} frames, {} paths give something else", wrong.len());
    assert!(wrong.is_empty(), "{}", shown(&wrong));
}

/// Counts of a kind of damage and a codec.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    clips: u32,
    unreadable: u32,
    frames: u32,
    /// Frames of samples that show nothing in the intact clip.
    unmatched: u32,
    different: u32,
    flagged: u32,
    failed: u32,
    silent: u32,
    /// Frames that are as in the intact clip and flagged nevertheless.
    needless: u32,
}

/// Tables by kind and codec.
type Table<T> = BTreeMap<(Kind, &'static str), T>;

#[test]
fn known_damage_is_never_silent() {
    let folder = std::env::var_os("BUCKET_STREAMER_DAMAGE_DIR").map(PathBuf::from);
    let mut table: Table<Counts> = BTreeMap::new();
    let mut silent = Vec::new();
    for clip in victims() {
        let intact = intact(&clip);
        for damaged in damaged(&clip, 3, 1) {
            if let Some(folder) = &folder {
                std::fs::create_dir_all(folder).expect("a folder");
                std::fs::write(folder.join(&damaged.name), &damaged.bytes).expect("to write a clip");
            }
            let counts = table.entry((damaged.kind, clip.codec.name())).or_default();
            counts.clips += 1;
            let Ok(video) = open(&engine(2, None), &damaged.name, &damaged.bytes) else {
                counts.unreadable += 1;
                continue;
            };
            let seen = Path::Batch.see(&video);
            let played = Path::Play.see(&video);
            let (mut in_batch, mut in_play) = (Vec::new(), Vec::new());
            for (number, (seen, played)) in seen.iter().zip(&played).enumerate() {
                counts.frames += 1;
                let number = number as u32;
                let sample = video.sample_of(number).expect("a frame's sample");
                let Some(expected) = damaged.origin(sample.offset).and_then(|origin| intact.get(&origin)) else {
                    counts.unmatched += 1;
                    continue;
                };
                let is_silent =
                    |seen: &Seen| matches!(seen, Seen::Picture { md5, is_corrupt: false } if md5 != expected);
                match seen {
                    Seen::Picture { md5, is_corrupt } if md5 != expected => {
                        counts.different += 1;
                        counts.flagged += u32::from(*is_corrupt);
                    }
                    Seen::Picture { is_corrupt, .. } => counts.needless += u32::from(*is_corrupt),
                    _ => counts.failed += 1,
                }
                if is_silent(seen) {
                    counts.silent += 1;
                    in_batch.push(number);
                }
                if is_silent(played) {
                    in_play.push(number);
                }
            }
            let is_known = damaged.kind.is_known() && !(clip.name == UNTOLD && damaged.kind.is_loss());
            if is_known && !(in_batch.is_empty() && in_play.is_empty()) {
                silent.push(format!(
                    "{} (touched: access unit {:?}): frames {in_batch:?} of a batch, {in_play:?} played",
                    damaged.name, damaged.first_touched
                ));
            }
        }
    }
    report(&table);
    for codec in ["hevc", "h264", "vp9", "av1"] {
        for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_known()) {
            let Some(counts) = table.get(&(kind, codec)).filter(|counts| counts.different > 0) else { continue };
            let share = f64::from(counts.silent) / f64::from(counts.different);
            eprintln!("{kind}, {codec}: {:.0} % of the pictures that change are silent", share * 100.0);
            if is_exhaustive() && matches!(kind, Kind::Overwritten | Kind::BitFlipped | Kind::TileOverwritten) {
                assert!(share <= SILENT_OVERWRITTEN, "{kind}, {codec}: {share}");
            }
        }
    }
    let changes = |kind: Kind| {
        table
            .iter()
            .filter(|((other, _), _)| *other == kind)
            .any(|(_, counts)| counts.different + counts.failed + counts.unreadable > 0)
    };
    for kind in Kind::ALL {
        assert!(changes(kind), "{kind} changes no picture");
    }
    if is_exhaustive() {
        let frames: u32 = table.values().map(|counts| counts.different + counts.failed).sum();
        assert!(frames >= 5000, "{frames} damaged pictures");
    }
    assert!(silent.is_empty(), "{}", shown(&silent));
}

/// MD5s of an intact clip's frames, by access unit.
fn intact(clip: &Clip) -> HashMap<usize, String> {
    let video = video(&engine(2, None), clip);
    let seen = Path::Batch.see(&video);
    let of = |(number, seen): (usize, Seen)| match seen {
        Seen::Picture { md5, .. } => Some((*video.track().frames.get(number)? as usize, md5)),
        _ => None,
    };
    seen.into_iter().enumerate().filter_map(of).collect()
}

fn report(table: &Table<Counts>) {
    eprintln!(
        "{:<17} {:<5} {:>5} {:>10} {:>6} {:>9} {:>9} {:>7} {:>6} {:>6} {:>8}",
        "kind",
        "codec",
        "clips",
        "unreadable",
        "frames",
        "unmatched",
        "different",
        "flagged",
        "error",
        "silent",
        "needless"
    );
    for ((kind, codec), counts) in table {
        eprintln!(
            "{kind:<17} {codec:<5} {:>5} {:>10} {:>6} {:>9} {:>9} {:>7} {:>6} {:>6} {:>8}",
            counts.clips,
            counts.unreadable,
            counts.frames,
            counts.unmatched,
            counts.different,
            counts.flagged,
            counts.failed,
            counts.silent,
            counts.needless
        );
    }
}

#[test]
fn damaged_frames_equal_ffmpeg_with_one_thread() {
    let folder = tempfile::tempdir().expect("a folder");
    // Equal, different, ours alone, ffmpeg's alone; and frames of clips that ffmpeg does not decode the same twice.
    let mut table: Table<[usize; 5]> = BTreeMap::new();
    let mut wrong = Vec::new();
    for clip in victims() {
        for damaged in damaged(&clip, 4, 3) {
            let Ok(video) = open(&engine(2, None), &damaged.name, &damaged.bytes) else { continue };
            let path = folder.path().join(&damaged.name);
            std::fs::write(&path, &damaged.bytes).expect("to write a clip");
            let counts = table.entry((damaged.kind, clip.codec.name())).or_default();
            let compare = if clip.form == Form::AnnexB { by_order } else { by_time };
            // Where nothing was decoded it shows earlier pictures, and which depends on when their memory came free.
            let theirs = ffmpeg(&path);
            let is_oracle = (0..2).all(|_| ffmpeg(&path) == theirs);
            let [equal, different, ours_alone, theirs_alone] = compare(&ours(&video), &theirs);
            if !is_oracle {
                counts[4] += equal + different;
                continue;
            }
            // Behind a key frame that is not there `ffmpeg` gives pictures other times than their samples'.
            if different > 0 && clip.codec == Codec::H264 && damaged.kind != Kind::KeyLost {
                wrong.push(format!("{}: {different} of {} frames differ", damaged.name, equal + different));
            }
            let found = [equal, different, ours_alone, theirs_alone];
            counts.iter_mut().zip(found).for_each(|(count, found)| *count += found);
        }
    }
    eprintln!(
        "{:<17} {:<5} {:>6} {:>9} {:>10} {:>12} {:>9}",
        "kind", "codec", "equal", "different", "ours alone", "ffmpeg alone", "no oracle"
    );
    for ((kind, codec), [equal, different, ours, theirs, unstable]) in &table {
        eprintln!("{kind:<17} {codec:<5} {equal:>6} {different:>9} {ours:>10} {theirs:>12} {unstable:>9}");
    }
    assert!(table.values().map(|counts| counts[0]).sum::<usize>() > 500, "hardly anything was compared");
    assert!(wrong.is_empty(), "{}", shown(&wrong));
}

/// Time and MD5 of all frames of a batch; without MD5 those that are errors.
fn ours(video: &Video) -> Vec<(i64, Option<String>)> {
    let md5 = |seen| match seen {
        Seen::Picture { md5, .. } => Some(md5),
        _ => None,
    };
    let seen = Path::Batch.see(video).into_iter().enumerate();
    seen.map(|(number, seen)| (video.sample_of(number as u32).expect("a frame's sample").pts, md5(seen))).collect()
}

/// Time and MD5 of the frames that `ffmpeg` shows with one thread.
fn ffmpeg(path: &FilePath) -> Vec<(i64, String)> {
    let arguments = ["-v", "quiet", "-nostdin", "-noautorotate", "-copyts", "-threads", "1", "-i"];
    let more = ["-map", "0:v:0", "-fps_mode", "passthrough", "-enc_time_base", "demux", "-noautoscale"];
    let output = Command::new(program("ffmpeg"))
        .args(arguments)
        .arg(path)
        .args(more)
        .args(["-f", "framemd5", "-"])
        .output()
        .expect("to start");
    let frame = |line: &str| {
        let mut fields = line.split(',').map(str::trim);
        Some((fields.nth(2)?.parse().ok()?, fields.nth(2)?.to_owned()))
    };
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.starts_with('#')).filter_map(frame).collect()
}

/// Frames of the same time.
fn by_time(ours: &[(i64, Option<String>)], theirs: &[(i64, String)]) -> [usize; 4] {
    let mut left: HashMap<i64, &String> = theirs.iter().map(|(pts, md5)| (*pts, md5)).collect();
    let mut counts = [0; 4];
    for (pts, md5) in ours.iter().filter_map(|(pts, md5)| Some((pts, md5.as_ref()?))) {
        match left.remove(pts) {
            Some(other) if other == md5 => counts[0] += 1,
            Some(_) => counts[1] += 1,
            None => counts[2] += 1,
        }
    }
    counts[3] = left.len();
    counts
}

/// Frames that both show, in this order: raw streams have no times. The longest common subsequence is equal; what both
/// have besides is different.
fn by_order(ours: &[(i64, Option<String>)], theirs: &[(i64, String)]) -> [usize; 4] {
    let ours: Vec<&String> = ours.iter().filter_map(|(_, md5)| md5.as_ref()).collect();
    let mut lengths = vec![0; theirs.len() + 1];
    for md5 in &ours {
        let mut diagonal = 0;
        for (at, (_, other)) in theirs.iter().enumerate() {
            let above = lengths[at + 1];
            lengths[at + 1] = if other == *md5 { diagonal + 1 } else { above.max(lengths[at]) };
            diagonal = above;
        }
    }
    let equal = lengths[theirs.len()];
    let both = ours.len().min(theirs.len());
    [equal, both - equal, ours.len() - both, theirs.len() - both]
}

/// The first of many lines.
fn shown(lines: &[String]) -> String {
    let first: Vec<&str> = lines.iter().take(100).map(String::as_str).collect();
    format!("{} in all:\n{}", lines.len(), first.join("\n"))
}

/// A stream that claims pictures of 256 million pixels is refused before anything is allocated for them.
#[test]
fn pictures_that_are_too_large_are_refused_before_they_take_memory() {
    let before = peak_kib();
    let mut tried = 0;
    for name in ["hevc_open_gop_cut.265", "hevc_size_change.265", "h264_fields.h264", "vp9_tiles.ivf", "av1_tiles.ivf"]
    {
        let Some(claims) = resized(&Clip::fixture(name), (16_000, 16_000)) else { continue };
        tried += 1;
        let frames = match open(&engine(2, None), name, &claims.bytes) {
            Ok(video) => Path::Batch.see(&video),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::TooManyPixels { .. }), "{name}: {error}");
                continue;
            }
        };
        assert!(frames.iter().all(|seen| !matches!(seen, Seen::Picture { .. })), "{name}");
    }
    let taken = peak_kib() - before;
    assert!(tried >= 4 && taken < 256 << 10, "{tried} clips, {taken} KiB");
}

/// The same where the container says another size, and parameter sets in samples the real one.
#[test]
fn pictures_that_are_larger_than_the_container_says_are_errors() {
    let mut tried = 0;
    for name in
        ["hevc_params_in_samples.mp4", "h264_slices.mp4", "h264_bframes.mp4", "hevc_slices.mp4", "hevc_closed_gop.mp4"]
    {
        let Some(claims) = resized(&Clip::fixture(name), (640, 352)) else { continue };
        let engine = bucket_streamer::Engine::builder().threads(2).max_pixels(320 * 192).build();
        let Ok(video) = open(&engine, name, &claims.bytes) else { continue };
        tried += 1;
        let error = video.frame(0).expect_err("pictures are too large");
        assert!(matches!(error.kind(), ErrorKind::TooManyPixels { width: 640, .. }), "{name}: {error}");
    }
    assert!(tried > 0);
}

/// The most memory that was resident in this process so far.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
