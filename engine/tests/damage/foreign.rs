//! No video shows parts of another video.

use std::collections::BTreeMap;

use bucket_streamer::bitstream::Codec;

use testing::damage::foreign::{ForeignPixels, check_that_detection_can_fail};
use testing::damage::observations::{AccessOrder, engine};
use testing::damage::{ContainerForm, DamageKind, DamagedClip, IntactClip, open, resized};

use crate::{IN_PIECES, damaged_copies, noise_and_rest, shown, video};

/// A clip with noise, and one of equal size whose bytes change in place.
const IN_OTHER_CONTAINERS: [(&str, &str); 4] = [
    ("hevc_slices.mp4", "hevc_wavefronts.mp4"),
    ("h264_slices.mp4", "h264_hybrid_fragmented.mp4"),
    ("vp9_tiles.ivf", "vp9.webm"),
    ("av1_tiles.ivf", "av1.mp4"),
];

#[test]
fn the_check_for_foreign_pixels_can_fail() {
    check_that_detection_can_fail();
    let (noise, rest) = noise_and_rest("h264_slices.mp4");
    let foreign = foreign(&noise, &rest);
    let engine = engine(1, None);
    let find = |clip: &IntactClip| foreign.find(&video(&engine, clip).frame(2).expect("a frame").picture).len();
    assert!(find(&noise) > 3000, "{} runs of the noise itself", find(&noise));
    assert_eq!(find(&rest), 0);
}

/// The recognisable runs of a video.
fn foreign(pattern: &IntactClip, victim: &IntactClip) -> ForeignPixels {
    let engine = engine(1, None);
    let mut foreign = ForeignPixels::default();
    let all = |clip: &IntactClip, take: &mut dyn FnMut(&bucket_streamer::Frame)| {
        AccessOrder::Play.frames(&video(&engine, clip), |_, frame| take(&frame.expect("an intact frame").picture));
    };
    all(pattern, &mut |picture| foreign.add(picture));
    all(victim, &mut |picture| foreign.except(picture));
    assert!(foreign.count() > 10_000, "{}: {} runs", pattern.name, foreign.count());
    foreign
}

#[test]
fn no_video_shows_pixels_of_another() {
    let mut wrong = Vec::new();
    let (mut pictures, mut decoded) = (0, 0);
    // By the kind of damage and the clip with the noise.
    let mut table: BTreeMap<(DamageKind, &str), usize> = BTreeMap::new();
    let in_other_containers = IN_OTHER_CONTAINERS.map(|(name, victim)| (name, Some(victim)));
    for (name, victim) in IN_PIECES.map(|name| (name, None)).into_iter().chain(in_other_containers) {
        let (noise, rest) = noise_and_rest(name);
        let victim = victim.map_or(rest, IntactClip::fixture);
        let foreign = foreign(&noise, &victim);
        let mut damaged = damaged_copies(&victim, 1, 2);
        if victim.form != ContainerForm::InPlace {
            damaged.extend(grown(&victim));
        }
        for damaged in damaged {
            // The second engine begins with checkpoints.
            for (threads, memory, paths) in [
                (1, None, &[AccessOrder::Shuffled(7), AccessOrder::Batch][..]),
                (4, None, &[AccessOrder::Play, AccessOrder::Batch]),
                (2, Some(0), &[AccessOrder::Shuffled(8)]),
            ] {
                let engine = engine(threads, memory);
                // The clip may be completely unreadable.
                let Ok(video) = open(&engine, &damaged.name, &damaged.bytes) else { continue };
                for path in paths {
                    warm_up(&engine, &noise);
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
    eprintln!("{pictures} frames requested, {decoded} pictures checked, foreign pixels in {count}");
    table.iter().for_each(|((kind, clip), count)| eprintln!("{kind:<17} {clip:<22} {count:>6}"));
    assert!(wrong.is_empty(), "{}", shown(&wrong));
}

/// Fills memory with the pictures of a clip, more than are in use at the same time, and frees it.
fn warm_up(engine: &bucket_streamer::Engine, clip: &IntactClip) {
    let mut held = Vec::new();
    for _ in 0..8 {
        AccessOrder::Batch.frames(&video(engine, clip), |_, frame| held.extend(frame.ok()));
    }
}

/// Copies of smaller videos that claim the size of the clip, so that they reuse its memory: most of it is never
/// written.
fn grown(clip: &IntactClip) -> Vec<DamagedClip> {
    let smaller: &[&str] = match clip.codec {
        Codec::Hevc => &["hevc_size_change.265"],
        Codec::H264 => &["h264_fields.h264"],
        Codec::Vp9 => &["vp9.ivf"],
        Codec::Av1 => &["av1_forward_key.ivf"],
    };
    smaller.iter().filter_map(|name| resized(&IntactClip::fixture(name), (320, 192))).collect()
}
