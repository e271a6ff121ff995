//! The references of AV1 and VP9 samples: compares headers with FFmpeg's `trace_headers`, and decode runs over the
//! needed samples alone with sequential ones.
#![allow(clippy::print_stderr, reason = "tests report their results")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use bucket_streamer::bitstream::av1_headers::{Av1FrameHeader, FrameReferences};
use bucket_streamer::bitstream::references::{SampleReferences, needed};
use bucket_streamer::bitstream::{Codec, av1_refs, vp9_refs};
use bucket_streamer::source::ByteRange;
use bucket_streamer::still::raw;
use bucket_streamer::{Engine, Video};
use ffi::{DamageOptions, Decoder, DecoderOutput, Packet, PaddedBytes, SendStatus, Threads};

use testing::clips::{clips, fixture, name, open, play, program};

/// AV1 with spatial layers: its references are not read.
const LAYERS: &str = "av1_layers.ivf";

/// Opened clips of a codec whose references are read.
fn of(codec: Codec) -> impl Iterator<Item = (PathBuf, Video)> {
    let is_meant = |clip: &PathBuf| {
        // Damaged on purpose: their references are not reliable.
        !name(clip).starts_with("bad_") && name(clip) != LAYERS
    };
    clips().into_iter().filter(is_meant).filter_map(move |clip| {
        let video = open(&Engine::new(Some(1)), &clip).filter(|video| video.track().codec == codec)?;
        Some((clip, video))
    })
}

fn read(video: &Video, sample: u32) -> PaddedBytes {
    let at = &video.track().samples[sample as usize];
    let range = ByteRange { start: at.offset, len: u64::from(at.size) };
    video.source().read_zero_padded(range).expect("a sample in one piece")
}

fn units(video: &Video) -> Vec<Option<SampleReferences>> {
    let samples = 0..video.track().samples.len() as u32;
    if video.track().codec == Codec::Av1 {
        let mut tracker = av1_refs::Av1Tracker::new(video.track().parameters.extradata());
        samples.map(|sample| tracker.take(sample, read(video, sample).data())).collect()
    } else {
        let mut tracker = vp9_refs::Vp9Tracker::new();
        samples.map(|sample| tracker.take(sample, read(video, sample).data())).collect()
    }
}

/// Fields of our headers, by the names of `trace_headers`.
type Fields = HashMap<String, u32>;

fn fields(pairs: &[(&str, u32)], slots: &[u32]) -> Fields {
    let listed = slots.iter().enumerate().map(|(index, slot)| (format!("ref_frame_idx[{index}]"), *slot));
    pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).chain(listed).collect()
}

fn av1_fields(header: Av1FrameHeader) -> Fields {
    match header {
        Av1FrameHeader::ShowExisting(slot) => {
            fields(&[("show_existing_frame", 1), ("frame_to_show_map_idx", slot)], &[])
        }
        Av1FrameHeader::Frame {
            kind,
            shown,
            showable,
            error_resilient,
            order_hint,
            primary_ref,
            refresh,
            references,
        } => {
            let mut pairs = vec![
                ("show_existing_frame", 0),
                ("frame_type", kind),
                ("show_frame", shown.into()),
                ("showable_frame", showable.into()),
                ("error_resilient_mode", error_resilient.into()),
                ("order_hint", order_hint),
                ("primary_ref_frame", primary_ref),
                ("refresh_frame_flags", refresh),
            ];
            match references {
                None => fields(&pairs, &[]),
                Some(FrameReferences::Listed(slots)) => {
                    pairs.push(("frame_refs_short_signaling", 0));
                    fields(&pairs, &slots)
                }
                Some(FrameReferences::FromOrderHints(last, golden)) => {
                    pairs.push(("frame_refs_short_signaling", 1));
                    pairs.extend([("last_frame_idx", last), ("golden_frame_idx", golden)]);
                    fields(&pairs, &[])
                }
            }
        }
    }
}

fn vp9_fields(header: vp9_refs::Vp9FrameHeader) -> Fields {
    match header {
        vp9_refs::Vp9FrameHeader::ShowExisting(slot) => {
            fields(&[("show_existing_frame", 1), ("frame_to_show_map_idx", slot)], &[])
        }
        vp9_refs::Vp9FrameHeader::Frame {
            is_key,
            shown,
            error_resilient,
            intra_only,
            reset_context,
            refresh,
            references,
        } => {
            let pairs = [
                ("show_existing_frame", 0),
                ("frame_type", (!is_key).into()),
                ("show_frame", shown.into()),
                ("error_resilient_mode", error_resilient.into()),
                ("intra_only", intra_only.into()),
                ("reset_frame_context", reset_context),
                ("refresh_frame_flags", refresh),
            ];
            fields(&pairs, references.as_ref().map_or(&[], |slots| &slots[..]))
        }
    }
}

/// The frame headers of a clip from FFmpeg. Inferred fields are not printed.
fn traced(clip: &Path) -> Vec<Fields> {
    let more = ["-map", "0:v:0", "-c", "copy", "-copyinkf", "-bsf:v", "trace_headers", "-f", "null", "-"];
    let output = Command::new(program("ffmpeg"))
        .args(["-v", "info", "-nostdin", "-ignore_editlist", "1", "-i"])
        .arg(clip)
        .args(more)
        .output()
        .expect("to start");
    let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
    if text.contains("ignore_editlist") {
        // Demuxers other than MP4's have no such option.
        let output = Command::new(program("ffmpeg"))
            .args(["-v", "info", "-nostdin", "-i"])
            .arg(clip)
            .args(more)
            .output()
            .expect("to start");
        text = String::from_utf8_lossy(&output.stderr).into_owned();
    }
    let mut frames: Vec<Fields> = Vec::new();
    let lines = text.lines().filter_map(|line| line.strip_prefix("[trace_headers @ ")?.split_once("] "));
    for (_, line) in lines.skip_while(|(_, line)| !line.starts_with("Packet: ")) {
        let mut words = line.split_whitespace();
        let (Some(_), Some(field)) = (words.next(), words.next()) else { continue };
        let Some(Ok(value)) = line.rsplit_once("= ").map(|(_, value)| value.trim().parse()) else { continue };
        if field == "show_existing_frame" {
            frames.push(Fields::new());
        }
        if let Some(frame) = frames.last_mut() {
            frame.insert(field.to_owned(), value);
        }
    }
    frames
}

fn has_trace_headers() -> bool {
    let output = Command::new(program("ffmpeg")).args(["-hide_banner", "-bsfs"]).output().expect("to start");
    let has = String::from_utf8_lossy(&output.stdout).contains("trace_headers");
    if !has {
        eprintln!("SKIPPED: the vendored ffmpeg has no trace_headers; headers were compared with nothing");
    }
    has
}

/// Every field that FFmpeg prints equals ours, where our parsers have it; each frame has at least `least` of them.
fn compare(clip: &Path, ours: &[Fields], least: usize) {
    let theirs = traced(clip);
    assert_eq!(ours.len(), theirs.len(), "{}: number of frame headers", name(clip));
    let mut compared = 0;
    for (number, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        let common = ours.iter().filter_map(|(field, value)| Some((field, value, theirs.get(field)?)));
        let mut count = 0;
        for (field, ours, theirs) in common {
            assert_eq!(ours, theirs, "{}: {field} of frame header {number}", name(clip));
            count += 1;
        }
        let is_whole = ours.keys().filter(|field| field.starts_with("ref_frame_idx")).all(|f| theirs.contains_key(f));
        assert!(is_whole && count >= least, "{}: frame header {number}: {ours:?} and {theirs:?}", name(clip));
        compared += count;
    }
    eprintln!("{}: {} frame headers, {compared} fields equal to FFmpeg's", name(clip), ours.len());
}

#[test]
fn headers_are_what_ffmpeg_reads() {
    if !has_trace_headers() {
        return;
    }
    for (clip, video) in of(Codec::Av1) {
        let mut tracker = av1_refs::Av1Tracker::new(video.track().parameters.extradata());
        let mut ours = Vec::new();
        for sample in 0..video.track().samples.len() as u32 {
            let (_, headers) =
                tracker.take_with_headers(sample, read(&video, sample).data()).expect("an intact temporal unit");
            ours.extend(headers.into_iter().map(av1_fields));
        }
        if ours.len() == 1 {
            continue; // A still picture: its header may be reduced, and then all of this is inferred.
        }
        compare(&clip, &ours, 2);
    }
    for (clip, video) in of(Codec::Vp9) {
        let mut ours = Vec::new();
        for sample in 0..video.track().samples.len() as u32 {
            let data = read(&video, sample);
            for frame in vp9_refs::frames(data.data()).expect("an intact sample") {
                ours.push(vp9_fields(vp9_refs::Vp9FrameHeader::parse(frame).expect("a frame header")));
            }
        }
        compare(&clip, &ours, 2);
    }
}

/// Pictures by sample.
type Pictures = HashMap<u32, String>;

/// Adds the pictures that are ready; failed ones are missing.
fn take(decoder: &mut Decoder, pictures: &mut Pictures) {
    loop {
        match decoder.receive() {
            Ok(DecoderOutput::Picture(picture)) => {
                let number = picture.pts().and_then(|pts| u32::try_from(pts).ok()).expect("a sample's number");
                pictures.insert(number, format!("{} {:?}", raw::hex(&raw::md5(&picture)), picture.color()));
            }
            Ok(DecoderOutput::NeedsMore | DecoderOutput::End) => break,
            Err(_) => {}
        }
    }
}

fn send(decoder: &mut Decoder, video: &Video, sample: u32, pictures: &mut Pictures) {
    let packet = Packet::new(&read(video, sample), sample, Some(i64::from(sample))).expect("a packet");
    while let Ok(SendStatus::Full) = decoder.send(&packet) {
        take(decoder, pictures);
    }
    take(decoder, pictures);
}

fn drain(decoder: &mut Decoder, pictures: &mut Pictures) {
    let _ = decoder.send_end();
    take(decoder, pictures);
}

/// The pictures of these samples from a new decoder.
fn decode(video: &Video, samples: &[u32]) -> Pictures {
    let mut decoder = Decoder::open(&video.track().parameters, Threads::One, false).expect("a decoder");
    let mut pictures = HashMap::new();
    for &sample in samples {
        send(&mut decoder, video, sample, &mut pictures);
    }
    drain(&mut decoder, &mut pictures);
    pictures
}

/// Results of a clip's pruned decode runs.
#[derive(Default)]
struct Tally {
    targets: usize,
    sent: usize,
    from_random_access_point: usize,
    /// Runs without one member, and those of them that failed or gave another picture.
    cut: usize,
    cut_wrong: usize,
}

fn prune(clip: &Path, video: &Video, targets: usize) -> Tally {
    let units = units(video);
    let count = units.len() as u32;
    let whole = decode(video, &(0..count).collect::<Vec<u32>>());
    assert!(units.iter().all(Option::is_some), "{}: a temporal unit could not be parsed", name(clip));
    let mut random = fastrand::Rng::with_seed(7);
    let mut tally = Tally::default();
    for round in 0..targets {
        let target = if targets >= count as usize { round as u32 } else { random.u32(0..count) };
        if target >= count {
            break;
        }
        let unit = units[target as usize].as_ref().expect("understood");
        assert_eq!(unit.shows, whole.contains_key(&target), "{}: sample {target} shows a picture", name(clip));
        let closure = needed(0, &units, target).expect("an entry");
        if !unit.shows {
            continue;
        }
        let pruned = decode(video, &closure);
        // All pictures between random access point and target are correct too, not only the target.
        for (sample, picture) in &pruned {
            assert_eq!(Some(picture), whole.get(sample), "{}: {sample} on the way to {target}", name(clip));
        }
        assert!(pruned.contains_key(&target), "{}: {target} is shown", name(clip));
        tally.targets += 1;
        tally.sent += closure.len();
        tally.from_random_access_point += (target - closure[0]) as usize + 1;
        if closure.len() > 2 {
            let left_out = random.usize(0..closure.len() - 1);
            let cut: Vec<u32> = closure.iter().copied().filter(|&sample| sample != closure[left_out]).collect();
            tally.cut += 1;
            tally.cut_wrong += usize::from(decode(video, &cut).get(&target) != whole.get(&target));
        }
    }
    let Tally { targets, sent, from_random_access_point, cut, cut_wrong } = tally;
    eprintln!(
        "{}: {targets} targets exact with {sent} of {from_random_access_point} samples; {cut_wrong} of {cut} walks with one member \
         too few went wrong",
        name(clip)
    );
    tally
}

#[test]
fn pruned_decode_runs_are_exact() {
    let (mut pruned, mut cut, mut cut_wrong) = (0, 0, 0);
    for codec in [Codec::Av1, Codec::Vp9] {
        for (clip, video) in of(codec) {
            let pixels = video.track().parameters.size();
            let is_small = pixels.0 * pixels.1 <= 320 * 180 && video.track().samples.len() <= 150;
            let tally = prune(&clip, &video, if is_small { 150 } else { 12 });
            pruned += tally.from_random_access_point - tally.sent;
            cut += tally.cut;
            cut_wrong += tally.cut_wrong;
        }
    }
    assert!(pruned > 0, "no sample was left out");
    assert!(cut_wrong * 2 > cut, "{cut_wrong} of {cut}: closures have needless members");
}

/// Decodes with one decoder, saves its state after each sample as soon as it is available, and decodes the rest with
/// another one.
fn fork_after_every_sample(clip: &Path, video: &Video, threads: [Threads; 2], whole: &Pictures) {
    let opened = |threads| {
        let damage =
            DamageOptions { owner: 1, lenient: false, check_hashes: false, check_ends: false, max_pixels: 1 << 20 };
        Decoder::open_inspecting(&video.track().parameters, threads, &damage).expect("a decoder")
    };
    let (mut from, mut to) = (opened(threads[0]), opened(threads[1]));
    let count = video.track().samples.len() as u32;
    let mut saved = 0;
    for sample in 0..count {
        send(&mut from, video, sample, &mut HashMap::new());
        let Some(position) = sample.checked_sub(from.lag() as u32) else { continue };
        let what = format!("{}, {threads:?}, after {position}", name(clip));
        let checkpoint = from.save(position, None).unwrap_or_else(|| panic!("{what}: no state"));
        let after = position + 1..count.min(position + 6);
        to.restore(&checkpoint).unwrap_or_else(|error| panic!("{what}: {error}"));
        drop(checkpoint);
        let mut pictures = HashMap::new();
        after.clone().for_each(|sample| send(&mut to, video, sample, &mut pictures));
        drain(&mut to, &mut pictures);
        to.flush();
        for sample in after {
            assert_eq!(pictures.get(&sample), whole.get(&sample), "{what}: {sample}");
        }
        saved += 1;
    }
    // The state after the last sample is available when its frames are decoded.
    drain(&mut from, &mut HashMap::new());
    let end = from.save(count - 1, None);
    assert!(end.is_some() && saved > 0, "{}: {saved} states, and the last: {end:?}", name(clip));
}

#[test]
fn the_state_of_a_decoder_continues_in_one_of_any_number_of_threads() {
    let kinds = [Threads::One, Threads::Frame(2), Threads::Frame(9)];
    let pairs = kinds.iter().flat_map(|&from| kinds.iter().map(move |&to| [from, to])).collect::<Vec<_>>();
    let layers = open(&Engine::new(Some(1)), &fixture(LAYERS)).map(|video| (fixture(LAYERS), video));
    for (clip, video) in of(Codec::Av1).chain(layers) {
        let pixels = video.track().parameters.size();
        if pixels.0 * pixels.1 > 320 * 180 || video.track().samples.len() > 100 {
            continue;
        }
        let whole = decode(&video, &(0..video.track().samples.len() as u32).collect::<Vec<u32>>());
        for &threads in &pairs {
            fork_after_every_sample(&clip, &video, threads, &whole);
        }
    }
}

#[test]
fn streams_with_layers_are_decoded_in_order_and_have_checkpoints() {
    let engine = Engine::builder().threads(1).checkpoint_spacing(4).build();
    let video = open(&engine, &fixture(LAYERS)).expect("a clip");
    assert!(units(&video).iter().any(Option::is_none), "its references are read by now");
    let expected = play(&video).0.into_iter().collect::<HashMap<u32, String>>();
    let mut decoded = Vec::new();
    for frame in [40, 46] {
        let before = engine.work().decoded_pictures;
        let picture = video.frame(frame).expect("a frame");
        assert_eq!(Some(&raw::hex(&raw::md5(&picture.picture))), expected.get(&frame));
        decoded.push(engine.work().decoded_pictures - before);
    }
    assert!(decoded[0] == 41 && decoded[1] < 10, "the second request begins at a checkpoint: {decoded:?}");
}
