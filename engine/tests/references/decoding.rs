//! Compares closures with decoders: without all other samples the pictures are the same, without any member they
//! differ.

use std::collections::{BTreeMap, BTreeSet};

use bucket_streamer::bitstream::Codec;
use bucket_streamer::plan::{Pictures, References};
use bucket_streamer::still::raw;
use ffi::{AvError, Decoder, DecoderOutput, Packet, SendStatus, Threads};

use testing::clips::{clips, name};

use crate::{Clip, open};

/// Samples as packets, each with its number; a changed sample description is included.
pub(crate) fn packets(clip: &Clip, samples: &[u32]) -> impl Iterator<Item = Packet> {
    let (track, mut description) = (&clip.track, None);
    samples.iter().map(move |&sample| {
        let data = track.read(&*clip.source, sample, true).expect("the sample");
        let mut packet = Packet::new(&data, sample, Some(i64::from(sample))).expect("memory");
        let wanted = track.samples[sample as usize].description;
        if description.replace(wanted) != Some(wanted)
            && let Some(configuration) = track.descriptions.get(usize::from(wanted))
        {
            packet.set_new_extradata(configuration).expect("memory");
        }
        packet
    })
}

/// Decodes these samples and drains the decoder: MD5s by sample.
fn decode(clip: &Clip, samples: &[u32], strict: bool) -> Result<BTreeMap<u32, [u8; 16]>, AvError> {
    let mut decoder = Decoder::open(&clip.track.parameters, Threads::One, strict).expect("a decoder");
    let mut pictures = BTreeMap::new();
    for packet in packets(clip, samples) {
        while decoder.send(&packet)? == SendStatus::Full {
            receive(&mut decoder, &mut pictures)?;
        }
    }
    decoder.send_end()?;
    receive(&mut decoder, &mut pictures)?;
    Ok(pictures)
}

fn receive(decoder: &mut Decoder, pictures: &mut BTreeMap<u32, [u8; 16]>) -> Result<(), AvError> {
    while let DecoderOutput::Picture(frame) = decoder.receive()? {
        pictures.extend(frame.tag().map(|sample| (sample, raw::md5(&frame))));
    }
    Ok(())
}

/// Decoding the samples of [`Pictures::to_decode`] gives the picture of a sequential decode. Tests some targets of each
/// clip, few of large ones.
#[test]
fn pictures_decoded_without_all_others_are_the_same() {
    let (mut targets, mut sent, mut left_out) = (0, 0, 0);
    for path in clips().iter().filter(|path| !name(path).contains("damaged")) {
        let Some(clip) = open(path, Codec::Hevc) else { continue };
        let (width, height) = clip.track.parameters.size();
        let budget = (150_000_000 / (width * height).max(1)) as u32;
        let whole: Vec<u32> = (0..clip.count().min(budget)).collect();
        let Ok(sequential) = decode(&clip, &whole, false) else { continue };
        let (references, mut random) = (References::new(), fastrand::Rng::with_seed(1));
        let mut spent = 0;
        while spent < budget.min(200) {
            spent += 1;
            let target = random.u32(0..whole.len() as u32);
            let Some(kept) = to_decode(&clip, &references, target) else { continue };
            let pictures = decode(&clip, &kept, true);
            assert_eq!(
                pictures.as_ref().map(|pictures| pictures.get(&target)),
                Ok(sequential.get(&target)),
                "{}: sample {target}, sent {kept:?}",
                clip.name
            );
            targets += 1;
            spent += kept.len() as u32;
            sent += kept.len() as u32;
            left_out += target - kept[0] + 1 - kept.len() as u32;
        }
    }
    eprintln!("{targets} targets: {sent} pictures sent, {left_out} left out");
    assert!(targets > 200 && left_out > 500);
}

/// The target's picture from these samples, by a decoder that continues after errors: MD5, and whether it is flagged.
fn picture_of(clip: &Clip, samples: &[u32], target: u32, show_broken: bool) -> Option<([u8; 16], bool)> {
    let mut decoder = Decoder::open(&clip.track.parameters, Threads::One, false).expect("a decoder");
    if show_broken {
        decoder.output_corrupt();
    }
    let mut found = None;
    let mut take = |decoder: &mut Decoder| {
        loop {
            match decoder.receive() {
                Ok(DecoderOutput::Picture(frame)) if frame.tag() == Some(target) => {
                    found = Some((raw::md5(&frame), frame.is_corrupt()));
                }
                Ok(DecoderOutput::Picture(_)) | Err(_) => {}
                Ok(DecoderOutput::NeedsMore | DecoderOutput::End) => break,
            }
        }
    };
    for packet in packets(clip, samples) {
        while let Ok(SendStatus::Full) = decoder.send(&packet) {
            take(&mut decoder);
        }
        take(&mut decoder);
    }
    let _ = decoder.send_end();
    take(&mut decoder);
    found
}

/// Results for targets whose closure lacks one member.
#[derive(Debug, Default)]
struct Cuts {
    count: usize,
    /// The decoder with its usual settings returned no picture, or flagged it.
    refused: usize,
    /// Forced to output it, the decoder returned another picture or none.
    other: usize,
}

/// Some members of a target's closure: the first (mostly the IRAP picture), one in the middle, the nearest direct
/// reference, any.
fn some_members(graph: &Pictures, target: u32, random: &mut fastrand::Rng) -> BTreeSet<u32> {
    let members: Vec<u32> = graph.closure(&[target]).into_iter().filter(|&sample| sample != target).collect();
    let direct = graph.get(target).and_then(|picture| picture.refs.last().copied());
    let any = random.choice(&members).copied();
    let some = [members.first().copied(), members.get(members.len() / 2).copied(), direct, any];
    some.into_iter().flatten().collect()
}

/// Closures are minimal: without any one member the decoder refuses the target; forced to output it, it shows other
/// pixels. The latter not always, since a stream may list a picture that no block refers to. Tests some targets of each
/// clip, few of large ones.
#[test]
fn closures_without_one_of_their_members_are_detected() {
    let mut all = Cuts::default();
    for path in clips().iter().filter(|path| !name(path).contains("damaged")) {
        let Some(clip) = open(path, Codec::Hevc) else { continue };
        let (width, height) = clip.track.parameters.size();
        let budget = (40_000_000 / (width * height).max(1)).clamp(12, 300) as u32;
        let whole: Vec<u32> = (0..clip.count().min(budget)).collect();
        let Ok(sequential) = decode(&clip, &whole, false) else { continue };
        let (references, mut random) = (References::new(), fastrand::Rng::with_seed(2));
        let (mut here, mut spent) = (Cuts::default(), 0);
        while spent < budget {
            spent += 1;
            let target = random.u32(0..whole.len() as u32);
            let Some((graph, kept)) = graph_and_to_decode(&clip, &references, target) else { continue };
            let Some(right) = sequential.get(&target) else { continue };
            for member in some_members(&graph, target, &mut random) {
                let cut: Vec<u32> = kept.iter().copied().filter(|&sample| sample != member).collect();
                assert_eq!(cut.len() + 1, kept.len(), "{}: {member} is to be decoded for {target}", clip.name);
                let [usual, broken] = [false, true].map(|broken| picture_of(&clip, &cut, target, broken));
                here.count += 1;
                here.refused += usize::from(usual.is_none_or(|(_, is_corrupt)| is_corrupt));
                here.other += usize::from(broken.is_none_or(|(md5, _)| md5 != *right));
                // For any omission, unflagged output is correct.
                let is_right = usual.is_none_or(|(md5, is_corrupt)| is_corrupt || md5 == *right);
                assert!(is_right, "{}: {target} without {member}", clip.name);
                spent += 2 * cut.len() as u32;
            }
        }
        eprintln!("{}: {here:?}", clip.name);
        all.count += here.count;
        all.refused += here.refused;
        all.other += here.other;
    }
    eprintln!("all: {all:?}");
    assert!(all.count > 300, "{all:?}");
    assert!(all.refused * 100 > all.count * 95 && all.other * 100 > all.count * 80, "{all:?}");
}

/// The samples to decode for a target in a decode run from the first sample of its GOP, or of the preceding one.
pub(crate) fn to_decode(clip: &Clip, references: &References, target: u32) -> Option<Vec<u32>> {
    graph_and_to_decode(clip, references, target).map(|(_, samples)| samples)
}

fn graph_and_to_decode(clip: &Clip, references: &References, target: u32) -> Option<(Pictures, Vec<u32>)> {
    let is_sync = |sample: &u32| clip.track.samples[*sample as usize].key;
    let syncs = (0..=target).rev().filter(is_sync).take(2);
    let mut graphs = syncs.filter_map(|first| clip.graph(references, first, target));
    let graph = graphs.find(|graph| !graph.is_skipped(target))?;
    let samples = graph.to_decode(&[target])?;
    Some((graph, samples))
}
