//! Compares the reference structure with the slice headers that the vendored `ffmpeg` prints (its `trace_headers`
//! filter), and with decoding without all other samples.
#![allow(clippy::print_stderr, reason = "tests report the pictures that they skip")]

mod decoding;
mod h264;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bucket_streamer::bitstream::hevc_sets::ParameterSets;
use bucket_streamer::bitstream::hevc_slice::{PictureKind, SliceHeader};
use bucket_streamer::bitstream::{Codec, hevc};
use bucket_streamer::container::{Sample, Track};
use bucket_streamer::plan::{Pictures, Planner, References, Structure};
use bucket_streamer::source;
use bucket_streamer::source::Source;

use testing::clips::{clips, name};

use crate::trace::{Trace, TraceReader, TracedPicture, TracedUnit, trace};

fn ours(header: &SliceHeader) -> TracedPicture {
    let short = header.short_term.iter().map(|entry| (i64::from(entry.delta_poc), entry.used));
    let long = header.long_term.iter();
    TracedPicture {
        nal_unit_type: header.nal_unit_type.into(),
        temporal_id: header.temporal_id.into(),
        no_output_of_prior_pics: header.no_output_of_prior_pics,
        pic_output: header.pic_output,
        poc_lsb: header.poc_lsb.into(),
        log2_max_poc_lsb: header.log2_max_poc_lsb,
        short_term: short.collect(),
        long_term: long.map(|lt| (lt.poc_lsb.into(), lt.msb_cycle.map(i64::from), lt.used)).collect(),
    }
}

/// An opened clip.
struct Clip {
    name: String,
    source: Arc<dyn Source>,
    track: Track,
    planner: Planner,
}

fn open(path: &Path, codec: Codec) -> Option<Clip> {
    let source = source::open(path.to_str()?).ok()?;
    let track = Track::open(&source, 0).ok().filter(|track| track.codec == codec)?;
    let planner = Planner::new(&track);
    Some(Clip { name: name(path), source, track, planner })
}

impl Clip {
    fn count(&self) -> u32 {
        self.track.samples.len() as u32
    }

    fn structure(&self, references: &References, first: u32, last: u32) -> Structure {
        references.structure(&self.planner, &self.track, &*self.source, first, last)
    }

    fn graph(&self, references: &References, first: u32, last: u32) -> Option<Pictures> {
        match self.structure(references, first, last) {
            Structure::Graph(pictures) => Some(pictures),
            _ => None,
        }
    }

    /// The filter's output. Samples and packets are the same, in the same order; of a file that is cut, up to the cut.
    fn trace(&self, path: &Path) -> Trace {
        let mut trace = trace(path);
        let is_cut = |sample: &Sample| sample.offset + u64::from(sample.size) > self.source.len();
        if let Some(cut) = self.track.samples.iter().position(is_cut) {
            eprintln!("{}: cut at sample {cut} of {}", self.name, self.count());
            trace.packets.truncate(cut);
        } else {
            assert_eq!(self.track.samples.len(), trace.packets.len(), "{}", self.name);
        }
        for (at, (sample, (theirs, _))) in self.track.samples.iter().zip(&trace.packets).enumerate() {
            assert_eq!(sample.size as usize, *theirs, "{}: size of sample {at}", self.name);
        }
        trace
    }
}

/// The slices of the base layer in a packet.
fn slices(units: &[TracedUnit]) -> impl Iterator<Item = &TracedUnit> {
    units.iter().filter(|unit| unit.kind() < 32 && unit.get("nuh_layer_id") == Some(0))
}

/// Pictures by packet, from the filter's output; all slices of a picture must agree.
fn traced_pictures(trace: &Trace, clip: &str) -> Vec<Option<TracedPicture>> {
    let mut reader = TraceReader::default();
    let of_units = |units: &[TracedUnit], reader: &mut TraceReader| {
        units.iter().for_each(|unit| reader.absorb(unit));
        let mut slices = slices(units).filter_map(|unit| reader.slice(unit));
        let first = slices.next();
        for slice in slices {
            assert_eq!(Some(&slice), first.as_ref(), "{clip}: slices of one picture differ");
        }
        first
    };
    of_units(&trace.head, &mut reader);
    trace.packets.iter().map(|(_, units)| of_units(units, &mut reader)).collect()
}

/// Headers of all pictures from our parsers.
fn headers(clip: &Clip) -> Vec<Option<SliceHeader>> {
    let track = &clip.track;
    let mut sets = ParameterSets::from_configuration(track.parameters.extradata());
    let mut description = None;
    let mut header = |sample: u32| {
        let wanted = track.samples[sample as usize].description;
        if description.replace(wanted) != Some(wanted)
            && let Some(configuration) = track.descriptions.get(usize::from(wanted))
        {
            sets.absorb_configuration(configuration);
        }
        let data = track.read(&*clip.source, sample, false).ok()?;
        let mut found = None;
        for unit in track.framing.units(data.data()) {
            sets.absorb(unit);
            found = found.or_else(|| SliceHeader::parse(unit, &sets));
        }
        found
    };
    (0..clip.count()).map(&mut header).collect()
}

#[test]
fn headers_of_all_h265_pictures_are_what_ffmpeg_reads() {
    let (mut pictures, mut with_long_term) = (0, 0);
    for path in clips() {
        let Some(clip) = open(&path, Codec::Hevc) else { continue };
        let trace = clip.trace(&path);
        let theirs = traced_pictures(&trace, &clip.name);
        for (sample, (ours_, theirs)) in headers(&clip).iter().zip(&theirs).enumerate() {
            assert_eq!(ours_.as_ref().map(ours), *theirs, "{}: sample {sample}", clip.name);
            pictures += u32::from(theirs.is_some());
            with_long_term += u32::from(theirs.as_ref().is_some_and(|picture| !picture.long_term.is_empty()));
        }
    }
    eprintln!("{pictures} pictures, {with_long_term} with long-term entries");
    assert!(pictures > 2000);
}

/// Every picture's direct references by the equations, over the whole stream.
fn simple_references(pictures: &[Option<TracedPicture>]) -> Vec<BTreeSet<u32>> {
    let (mut previous, mut by_poc) = (0_i64, BTreeMap::<i64, u32>::new());
    let mut all = Vec::new();
    for (sample, picture) in (0..).zip(pictures) {
        let Some(picture) = picture else {
            all.push(BTreeSet::new());
            continue;
        };
        let max = 1_i64 << picture.log2_max_poc_lsb;
        let is_irap = (16..=23).contains(&picture.nal_unit_type);
        let begins = matches!(picture.nal_unit_type, 16..=20) || by_poc.is_empty();
        if begins {
            by_poc.clear();
        }
        // The count nearest to the preceding one.
        let candidates = [-1, 0, 1].map(|turn| (previous.div_euclid(max) + turn) * max + picture.poc_lsb);
        let nearest = candidates.into_iter().min_by_key(|poc| ((poc - previous).abs(), *poc < previous));
        let poc = if begins { picture.poc_lsb } else { nearest.expect("three candidates") };
        let short = picture.short_term.iter().filter(|(_, used)| *used).map(|(delta, _)| poc + delta);
        let long = picture.long_term.iter().filter(|(_, _, used)| *used).map(|(lsb, cycle, _)| match cycle {
            Some(cycle) => poc - cycle * max - picture.poc_lsb + lsb,
            None => *by_poc.keys().find(|poc| poc.rem_euclid(max) == *lsb).unwrap_or(&i64::MAX),
        });
        let refs = short.chain(long).filter_map(|poc| by_poc.get(&poc).copied());
        all.push(if is_irap { BTreeSet::new() } else { refs.collect() });
        by_poc.insert(poc, sample);
        let is_tid0 = picture.temporal_id == 0 && !matches!(picture.nal_unit_type, 0 | 2 | 4 | 6..=9 | 10 | 12 | 14);
        if is_tid0 {
            previous = poc;
        }
    }
    all
}

fn simple_closure(references: &[BTreeSet<u32>], target: u32) -> BTreeSet<u32> {
    let (mut closure, mut open) = (BTreeSet::new(), vec![target]);
    while let Some(sample) = open.pop() {
        if closure.insert(sample) {
            open.extend(&references[sample as usize]);
        }
    }
    closure
}

/// Sync samples with an IRAP picture.
fn entries(clip: &Clip, pictures: &[Option<TracedPicture>]) -> Vec<u32> {
    let is_first = |&sample: &u32| {
        let picture = pictures.get(sample as usize).and_then(Option::as_ref);
        clip.track.samples[sample as usize].key && picture.is_some_and(|picture| picture.nal_unit_type >= 16)
    };
    (0..clip.count()).filter(is_first).collect()
}

/// The samples of a decode run to the target: for a RASL picture it begins a GOP earlier.
fn run_for(entries: &[u32], pictures: &[Option<TracedPicture>], target: u32) -> Option<u32> {
    let before = entries.partition_point(|&entry| entry <= target);
    let is_rasl = pictures[target as usize].as_ref().is_some_and(|picture| matches!(picture.nal_unit_type, 8 | 9));
    entries.get(before.checked_sub(1 + usize::from(is_rasl))?).copied()
}

/// Clips in which some pictures have no definite reference structure: two layers.
const WITHOUT_GRAPH: [&str; 2] = ["mvhevc_stereo_spatial_160x120.mp4", "mvhevc_water_1934x2160.mov"];

#[test]
fn closures_are_those_of_a_simple_reading_of_the_trace() {
    let (mut known, mut unknown) = (0, 0);
    for path in clips() {
        let Some(clip) = open(&path, Codec::Hevc) else { continue };
        let trace = clip.trace(&path);
        let pictures = traced_pictures(&trace, &clip.name);
        let (simple, entries) = (simple_references(&pictures), entries(&clip, &pictures));
        let references = References::new();
        let (mut known_here, mut unknown_here) = (0, Vec::new());
        for target in 0..pictures.len() as u32 {
            let Some(first) = run_for(&entries, &pictures, target) else { continue };
            let Some(graph) = clip.graph(&references, first, target) else {
                unknown_here.push(target);
                continue;
            };
            let closure: BTreeSet<u32> = graph.closure(&[target]).into_iter().collect();
            assert_eq!(closure, simple_closure(&simple, target), "{}: closure of sample {target}", clip.name);
            assert!(!graph.is_skipped(target), "{}: sample {target}", clip.name);
            check_to_decode(&graph, target, &closure, &clip.name);
            known_here += 1;
        }
        if !unknown_here.is_empty() {
            eprintln!("{}: {known_here} known, unknown {unknown_here:?}", clip.name);
            assert!(WITHOUT_GRAPH.contains(&&clip.name[..]), "{}", clip.name);
        }
        (known, unknown) = (known + known_here, unknown + unknown_here.len());
    }
    eprintln!("{known} closures, {unknown} pictures without");
    assert!(known > 2000);
}

fn check_to_decode(graph: &Pictures, target: u32, closure: &BTreeSet<u32>, clip: &str) {
    let kept = graph.to_decode(&[target]).expect("what to decode");
    assert!(kept.is_sorted() && closure.iter().all(|sample| kept.contains(sample)), "{clip}: {target}");
    assert!(kept.contains(&graph.first()) && graph.misplaced(&kept).is_none(), "{clip}: {target}");
    let whole: Vec<u32> = (graph.first()..=target).filter(|&sample| !graph.is_skipped(sample)).collect();
    assert_eq!(graph.misplaced(&whole), None, "{clip}: all up to {target}");
}

#[test]
fn the_order_of_learning_does_not_matter() {
    for path in clips() {
        let Some(clip) = open(&path, Codec::Hevc) else { continue };
        let entries: Vec<u32> = (0..clip.count()).filter(|&sample| clip.track.samples[sample as usize].key).collect();
        let (whole, parts) = (References::new(), References::new());
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..60 {
            let Some(&first) = random.choice(&entries) else { continue };
            let last = random.u32(first..clip.count().min(first + 400));
            let fresh = References::new();
            let all = [&whole, &parts, &fresh].map(|references| clip.graph(references, first, last));
            let of = |graph: &Option<Pictures>, sample| graph.as_ref().and_then(|graph| graph.get(sample).cloned());
            for sample in first..=last {
                let of = all.each_ref().map(|graph| of(graph, sample));
                assert!(of[0] == of[1] && of[1] == of[2], "{}: {sample} of {first}..={last}", clip.name);
            }
            let _ = clip.graph(&whole, first, clip.count() - 1);
        }
    }
}

#[test]
fn kinds_and_sets_are_those_of_the_samples() {
    for path in clips() {
        let Some(clip) = open(&path, Codec::Hevc) else { continue };
        let references = References::new();
        let Some(graph) = clip.graph(&references, 0, clip.count() - 1) else { continue };
        for sample in 0..clip.count() {
            let data = clip.track.read(&*clip.source, sample, false).expect("the sample");
            let picture = graph.get(sample).expect("a picture");
            let units = || clip.track.framing.units(data.data());
            let kind = units().find(|unit| hevc::kind(unit).is_slice()).and_then(hevc::header).map(|(kind, _)| kind);
            assert_eq!(Some(picture.kind), kind.and_then(PictureKind::of), "{}: {sample}", clip.name);
            let has_sets = units().any(|unit| hevc::kind(unit) == hevc::NalKind::ParameterSet);
            assert!(!has_sets || picture.has_sets, "{}: {sample}", clip.name);
            assert_eq!(picture.irap == sample, picture.kind.is_irap(), "{}: {sample}", clip.name);
        }
    }
}

#[test]
fn a_repeated_request_costs_next_to_nothing() {
    let clip = open(&testing::clips::fixture("hevc_demo.mp4"), Codec::Hevc).expect("the fixture");
    let last = clip.count() - 1;
    let references = References::new();
    let timed = || {
        let start = Instant::now();
        assert!(clip.graph(&references, 0, last).is_some_and(|graph| graph.get(last).is_some()));
        start.elapsed()
    };
    let first = timed();
    let again = (0..200).map(|_| timed()).min().expect("some");
    eprintln!("{} pictures learned in {first:?}, requested again in {again:?}", last + 1);
    assert!(again < Duration::from_micros(20), "{again:?}");
}
