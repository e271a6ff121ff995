//! Compares damaged frames with those of `ffmpeg` with one thread.

use std::collections::{BTreeMap, HashMap};
use std::path::Path as FilePath;
use std::process::Command;

use bucket_streamer::Video;
use bucket_streamer::bitstream::Codec;

use testing::clips::program;
use testing::damage::observations::{AccessOrder, FrameObservation, engine};
use testing::damage::{ContainerForm, DamageKind, open};

use crate::{Table, damaged_copies, shown, victims};

#[test]
fn damaged_frames_equal_ffmpeg_with_one_thread() {
    let folder = tempfile::tempdir().expect("a folder");
    // Equal, different, only the engine's, only ffmpeg's; and frames of clips that ffmpeg decodes differently each
    // time.
    let mut table: Table<[usize; 5]> = BTreeMap::new();
    let mut wrong = Vec::new();
    for clip in victims() {
        for damaged in damaged_copies(&clip, 4, 3) {
            let Ok(video) = open(&engine(2, None), &damaged.name, &damaged.bytes) else { continue };
            let path = folder.path().join(&damaged.name);
            std::fs::write(&path, &damaged.bytes).expect("to write a clip");
            let counts = table.entry((damaged.kind, clip.codec.name())).or_default();
            let compare = if clip.form == ContainerForm::AnnexB { by_order } else { by_time };
            // Undecoded parts show earlier pictures, which depend on the order in which memory was freed.
            let theirs = ffmpeg(&path);
            let is_oracle = (0..2).all(|_| ffmpeg(&path) == theirs);
            let [equal, different, ours_alone, theirs_alone] = compare(&ours(&video), &theirs);
            if !is_oracle {
                counts[4] += equal + different;
                continue;
            }
            // After a missing key frame `ffmpeg` shifts pictures to other times than their samples'.
            if different > 0 && clip.codec == Codec::H264 && damaged.kind != DamageKind::KeyLost {
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

/// Time and MD5 of all frames of a batch; no MD5 for errors.
fn ours(video: &Video) -> Vec<(i64, Option<String>)> {
    let md5 = |seen| match seen {
        FrameObservation::Picture { md5, .. } => Some(md5),
        _ => None,
    };
    let seen = AccessOrder::Batch.observe(video).into_iter().enumerate();
    seen.map(|(number, seen)| (video.sample_of(number as u32).expect("a frame's sample").pts, md5(seen))).collect()
}

/// Time and MD5 of the frames that `ffmpeg` outputs with one thread.
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

/// Pairs of frames with the same time.
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

/// Pairs of frames in both outputs, in this order: raw streams have no times. The longest common subsequence is equal;
/// other frames of both are different.
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
