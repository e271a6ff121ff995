//! The reference structure, against what the vendored `ffmpeg` prints of every slice header (its `trace_headers` filter),
//! and against decoding with everything else left out.
#![allow(clippy::print_stderr, reason = "tests report what they leave out")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bucket_streamer::bitstream::hevc_sets::ParameterSets;
use bucket_streamer::bitstream::hevc_slice::{Kind, SliceHeader};
use bucket_streamer::bitstream::{Codec, h264, hevc};
use bucket_streamer::container::{Sample, Track};
use bucket_streamer::plan::{Pictures, Planner, References, Structure};
use bucket_streamer::source::{self, Source};

use bucket_streamer::still::raw;
use ffi::{AvError, Decoder, Packet, Received, Sent, Threads};

use testing::clips::{clips, name, program};

/// A NAL unit as the filter prints it: name and value of each syntax element.
#[derive(Debug, Default)]
struct Unit {
    elements: Vec<(String, i64)>,
}

impl Unit {
    fn get(&self, name: &str) -> Option<i64> {
        self.elements.iter().find(|(element, _)| element == name).map(|(_, value)| *value)
    }

    fn kind(&self) -> i64 {
        self.get("nal_unit_type").expect("every unit has a type")
    }
}

/// What the filter prints of a clip: units before the first packet, and packets with their size.
struct Trace {
    head: Vec<Unit>,
    packets: Vec<(usize, Vec<Unit>)>,
}

fn trace(clip: &Path) -> Trace {
    let mut command = Command::new(program("ffmpeg"));
    command.args(["-hide_banner", "-nostats", "-nostdin", "-i"]).arg(clip);
    command.args(["-map", "0:v:0", "-c", "copy", "-copyinkf", "-copypriorss", "1"]);
    command.args(["-bsf:v", "trace_headers", "-f", "null", "-"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("to start");
    let mut trace = Trace { head: Vec::new(), packets: Vec::new() };
    for line in BufReader::new(child.stderr.take().expect("a pipe")).split(b'\n') {
        let line = line.expect("to read a pipe");
        let line = String::from_utf8_lossy(&line);
        let Some(text) = line.strip_prefix("[trace_headers").and_then(|line| line.split_once("] ")) else { continue };
        read_line(&mut trace, text.1.trim_end());
    }
    child.wait().expect("an end");
    trace
}

fn read_line(trace: &mut Trace, line: &str) {
    if let Some(packet) = line.strip_prefix("Packet: ") {
        let size = packet.split(' ').next().and_then(|size| size.parse().ok()).expect("a size");
        trace.packets.push((size, Vec::new()));
        return;
    }
    let units = trace.packets.last_mut().map_or(&mut trace.head, |(_, units)| units);
    let element = line.rsplit_once(" = ").and_then(|(left, value)| {
        let mut left = left.split_whitespace();
        left.next()?.parse::<u64>().ok()?;
        Some((left.next()?.to_owned(), value.parse().ok()?))
    });
    let Some(element) = element else { return };
    if element.0 == "forbidden_zero_bit" {
        units.push(Unit::default());
    }
    if let Some(unit) = units.last_mut() {
        unit.elements.push(element);
    }
}

/// Reads the elements of a unit one after another.
struct Cursor<'a>(&'a [(String, i64)]);

impl Cursor<'_> {
    /// The next element, which must be this one.
    fn take(&mut self, name: &str) -> i64 {
        let ((element, value), rest) = self.0.split_first().expect("another element");
        assert!(element == name || element.split('[').next() == Some(name), "{element} instead of {name}");
        self.0 = rest;
        *value
    }

    fn is_next(&self, name: &str) -> bool {
        self.0.first().is_some_and(|(element, _)| element.split('[').next() == Some(name))
    }

    fn if_next(&mut self, name: &str) -> Option<i64> {
        self.is_next(name).then(|| self.take(name))
    }

    fn skip_to(&mut self, names: &[&str]) {
        while !self.0.is_empty() && !names.iter().any(|name| self.is_next(name)) {
            self.0 = &self.0[1..];
        }
    }
}

/// A short-term set: distance, and whether it is used.
type Rps = Vec<(i64, bool)>;

/// `st_ref_pic_set` by the equations (7-61) and (7-62), as they stand.
fn read_rps(cursor: &mut Cursor, sets: &[Rps], is_slice: bool) -> Rps {
    if !sets.is_empty() && cursor.take("inter_ref_pic_set_prediction_flag") == 1 {
        let back = if is_slice { cursor.take("delta_idx_minus1") as usize + 1 } else { 1 };
        let base = &sets[sets.len() - back];
        let sign = 1 - 2 * cursor.take("delta_rps_sign");
        let delta_rps = sign * (cursor.take("abs_delta_rps_minus1") + 1);
        let flags: Vec<(bool, bool)> = (0..=base.len())
            .map(|_| {
                let used = cursor.take("used_by_curr_pic_flag") == 1;
                (used, used || cursor.take("use_delta_flag") == 1)
            })
            .collect();
        return predict(base, delta_rps, &flags);
    }
    let (negative, positive) = (cursor.take("num_negative_pics"), cursor.take("num_positive_pics"));
    let mut rps = Rps::new();
    for (count, sign, list) in [(negative, -1, "s0"), (positive, 1, "s1")] {
        let mut delta = 0;
        for _ in 0..count {
            delta += sign * (cursor.take(&format!("delta_poc_{list}_minus1")) + 1);
            rps.push((delta, cursor.take(&format!("used_by_curr_pic_{list}_flag")) == 1));
        }
    }
    rps
}

fn predict(base: &Rps, delta_rps: i64, flags: &[(bool, bool)]) -> Rps {
    let negative: Vec<usize> = (0..base.len()).filter(|&at| base[at].0 < 0).collect();
    let positive: Vec<usize> = (0..base.len()).filter(|&at| base[at].0 > 0).collect();
    let itself = base.len();
    let distance = |at: usize| if at == itself { delta_rps } else { base[at].0 + delta_rps };
    let before = positive.iter().rev().chain([&itself]).chain(&negative);
    let after = negative.iter().rev().chain([&itself]).chain(&positive);
    let taken = |at: &&usize| flags[**at].1;
    let entry = |at: &usize| (distance(*at), flags[*at].0);
    let before = before.filter(taken).map(entry).filter(|(distance, _)| *distance < 0);
    before.chain(after.filter(taken).map(entry).filter(|(distance, _)| *distance > 0)).collect()
}

#[derive(Debug, Default, Clone)]
struct TracedSps {
    log2_max_poc_lsb: u32,
    sets: Vec<Rps>,
    long_term: Vec<(i64, bool)>,
}

/// What the filter prints of a picture's slice header.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Traced {
    nal_unit_type: i64,
    temporal_id: i64,
    no_output_of_prior_pics: bool,
    pic_output: bool,
    poc_lsb: i64,
    log2_max_poc_lsb: u32,
    short_term: Rps,
    /// Low bits, accumulated cycles of the high bits, used.
    long_term: Vec<(i64, Option<i64>, bool)>,
}

/// Follows the parameter sets through a trace.
#[derive(Default)]
struct Reader {
    sps: HashMap<i64, TracedSps>,
    sps_of_pps: HashMap<i64, i64>,
}

impl Reader {
    fn absorb(&mut self, unit: &Unit) {
        if unit.get("nuh_layer_id") != Some(0) {
            return;
        }
        match unit.kind() {
            33 => {
                let id = unit.get("sps_seq_parameter_set_id").expect("an identifier");
                self.sps.insert(id, read_sps(unit));
            }
            34 => {
                let get = |name| unit.get(name).expect("an identifier");
                self.sps_of_pps.insert(get("pps_pic_parameter_set_id"), get("pps_seq_parameter_set_id"));
            }
            _ => {}
        }
    }

    fn slice(&self, unit: &Unit) -> Option<Traced> {
        if unit.get("dependent_slice_segment_flag") == Some(1) {
            return None;
        }
        let sps = &self.sps[&self.sps_of_pps[&unit.get("slice_pic_parameter_set_id").expect("an identifier")]];
        let mut traced = Traced {
            nal_unit_type: unit.kind(),
            temporal_id: unit.get("nuh_temporal_id_plus1").expect("a layer") - 1,
            no_output_of_prior_pics: unit.get("no_output_of_prior_pics_flag") == Some(1),
            pic_output: unit.get("pic_output_flag") != Some(0),
            poc_lsb: unit.get("slice_pic_order_cnt_lsb").unwrap_or(0),
            log2_max_poc_lsb: sps.log2_max_poc_lsb,
            short_term: Rps::new(),
            long_term: Vec::new(),
        };
        let mut cursor = Cursor(&unit.elements);
        cursor.skip_to(&["short_term_ref_pic_set_sps_flag"]);
        if let Some(in_sps) = cursor.if_next("short_term_ref_pic_set_sps_flag") {
            traced.short_term = if in_sps == 1 {
                sps.sets[cursor.if_next("short_term_ref_pic_set_idx").unwrap_or(0) as usize].clone()
            } else {
                read_rps(&mut cursor, &sps.sets, true)
            };
            traced.long_term = read_long_term(&mut cursor, sps);
        }
        Some(traced)
    }
}

fn read_sps(unit: &Unit) -> TracedSps {
    let log2_max_poc_lsb = unit.get("log2_max_pic_order_cnt_lsb_minus4").expect("a length") as u32 + 4;
    let mut cursor = Cursor(&unit.elements);
    cursor.skip_to(&["num_short_term_ref_pic_sets"]);
    let mut sps = TracedSps { log2_max_poc_lsb, ..TracedSps::default() };
    for _ in 0..cursor.take("num_short_term_ref_pic_sets") {
        let set = read_rps(&mut cursor, &sps.sets, false);
        sps.sets.push(set);
    }
    if cursor.take("long_term_ref_pics_present_flag") == 1 {
        for _ in 0..cursor.take("num_long_term_ref_pics_sps") {
            sps.long_term
                .push((cursor.take("lt_ref_pic_poc_lsb_sps"), cursor.take("used_by_curr_pic_lt_sps_flag") == 1));
        }
    }
    sps
}

fn read_long_term(cursor: &mut Cursor, sps: &TracedSps) -> Vec<(i64, Option<i64>, bool)> {
    let from_sps = cursor.if_next("num_long_term_sps").unwrap_or(0);
    let in_slice = cursor.if_next("num_long_term_pics").unwrap_or(0);
    let (mut entries, mut cycle) = (Vec::new(), 0);
    for index in 0..from_sps + in_slice {
        let (lsb, used) = if index < from_sps {
            sps.long_term[cursor.if_next("lt_idx_sps").unwrap_or(0) as usize]
        } else {
            (cursor.take("poc_lsb_lt"), cursor.take("used_by_curr_pic_lt_flag") == 1)
        };
        let has_cycle = cursor.take("delta_poc_msb_present_flag") == 1;
        let delta = if has_cycle { cursor.take("delta_poc_msb_cycle_lt") } else { 0 };
        cycle = if index == 0 || index == from_sps { delta } else { cycle + delta };
        entries.push((lsb, has_cycle.then_some(cycle), used));
    }
    entries
}

fn ours(header: &SliceHeader) -> Traced {
    let short = header.short_term.iter().map(|entry| (i64::from(entry.delta_poc), entry.used));
    let long = header.long_term.iter();
    Traced {
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

    /// What the filter prints. Samples and packets are the same, in the same order; of a file that is cut, up to there.
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
fn slices(units: &[Unit]) -> impl Iterator<Item = &Unit> {
    units.iter().filter(|unit| unit.kind() < 32 && unit.get("nuh_layer_id") == Some(0))
}

/// Pictures by packet, as the filter prints them; every slice of a picture must say the same.
fn traced_pictures(trace: &Trace, clip: &str) -> Vec<Option<Traced>> {
    let mut reader = Reader::default();
    let of_units = |units: &[Unit], reader: &mut Reader| {
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

/// Headers of all pictures as our parsers read them.
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

/// Every picture's references by the equations, over the whole stream: what it is made of, directly.
fn simple_references(pictures: &[Option<Traced>]) -> Vec<BTreeSet<u32>> {
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
        // The count nearest to the one before.
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
fn entries(clip: &Clip, pictures: &[Option<Traced>]) -> Vec<u32> {
    let is_entry = |&sample: &u32| {
        let picture = pictures.get(sample as usize).and_then(Option::as_ref);
        clip.track.samples[sample as usize].key && picture.is_some_and(|picture| picture.nal_unit_type >= 16)
    };
    (0..clip.count()).filter(is_entry).collect()
}

/// The run that a walk to the target decodes from: a RASL picture's begins a GOP earlier.
fn run_for(entries: &[u32], pictures: &[Option<Traced>], target: u32) -> Option<u32> {
    let before = entries.partition_point(|&entry| entry <= target);
    let is_rasl = pictures[target as usize].as_ref().is_some_and(|picture| matches!(picture.nal_unit_type, 8 | 9));
    entries.get(before.checked_sub(1 + usize::from(is_rasl))?).copied()
}

/// Clips in which some pictures have no certain place: two layers.
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

/// Samples as packets, each with its number; where the sample description changes, the new one goes with it.
fn packets(clip: &Clip, samples: &[u32]) -> impl Iterator<Item = Packet> {
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

/// Decodes these samples and drains: MD5s by sample.
fn decode(clip: &Clip, samples: &[u32], strict: bool) -> Result<BTreeMap<u32, [u8; 16]>, AvError> {
    let mut decoder = Decoder::open(&clip.track.parameters, Threads::One, strict).expect("a decoder");
    let mut pictures = BTreeMap::new();
    for packet in packets(clip, samples) {
        while decoder.send(&packet)? == Sent::Full {
            receive(&mut decoder, &mut pictures)?;
        }
    }
    decoder.send_end()?;
    receive(&mut decoder, &mut pictures)?;
    Ok(pictures)
}

fn receive(decoder: &mut Decoder, pictures: &mut BTreeMap<u32, [u8; 16]>) -> Result<(), AvError> {
    while let Received::Picture(frame) = decoder.receive()? {
        pictures.extend(frame.tag().map(|sample| (sample, raw::md5(&frame))));
    }
    Ok(())
}

/// A picture decoded from what [`Pictures::to_decode`] names is that of a sequential decode. Some targets of each clip; of
/// large ones few.
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

/// The target's picture out of these samples, by a decoder that passes over errors: MD5, and whether it is flagged.
fn picture_of(clip: &Clip, samples: &[u32], target: u32, show_broken: bool) -> Option<([u8; 16], bool)> {
    let mut decoder = Decoder::open(&clip.track.parameters, Threads::One, false).expect("a decoder");
    if show_broken {
        decoder.show_broken();
    }
    let mut found = None;
    let mut take = |decoder: &mut Decoder| {
        loop {
            match decoder.receive() {
                Ok(Received::Picture(frame)) if frame.tag() == Some(target) => {
                    found = Some((raw::md5(&frame), frame.is_corrupt()));
                }
                Ok(Received::Picture(_)) | Err(_) => {}
                Ok(Received::NeedsMore | Received::End) => break,
            }
        }
    };
    for packet in packets(clip, samples) {
        while let Ok(Sent::Full) = decoder.send(&packet) {
            take(&mut decoder);
        }
        take(&mut decoder);
    }
    let _ = decoder.send_end();
    take(&mut decoder);
    found
}

/// What became of targets that were sent with one member of their closure too few.
#[derive(Debug, Default)]
struct Cuts {
    count: usize,
    /// The decoder, as everybody uses it, kept the picture to itself or flagged it.
    refused: usize,
    /// Shown all the same, it was another picture or none.
    other: usize,
}

/// Some members of a target's closure: the first (mostly the IRAP), one in the middle, the nearest direct reference, any.
fn some_members(graph: &Pictures, target: u32, random: &mut fastrand::Rng) -> BTreeSet<u32> {
    let members: Vec<u32> = graph.closure(&[target]).into_iter().filter(|&sample| sample != target).collect();
    let direct = graph.get(target).and_then(|picture| picture.refs.last().copied());
    let any = random.choice(&members).copied();
    let some = [members.first().copied(), members.get(members.len() / 2).copied(), direct, any];
    some.into_iter().flatten().collect()
}

/// Closures are not larger than they have to be: without any one member the decoder refuses the target; and made to show
/// it, it shows other pixels. The latter not in every case, since a stream may name as used what no block refers to. Some
/// targets of each clip; of large ones few.
#[test]
fn closures_without_one_of_their_members_go_wrong() {
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
                // Whatever is left out: what comes out without a flag is right.
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

/// What to decode for a target that a walk from its own GOP's first sample, or from that of the GOP before, gives.
fn to_decode(clip: &Clip, references: &References, target: u32) -> Option<Vec<u32>> {
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

#[test]
fn h264_samples_without_reference_pictures_are_those_of_the_trace() {
    let (mut samples, mut droppable) = (0, 0);
    for path in clips() {
        // Of a damaged file the filter leaves out packets.
        let Some(clip) = open(&path, Codec::H264).filter(|clip| !clip.name.starts_with("bad_")) else { continue };
        let trace = clip.trace(&path);
        let Structure::Droppable(ours) = clip.structure(&References::new(), 0, clip.count() - 1) else {
            panic!("{}: no structure", clip.name)
        };
        let is_free = |sample: usize| {
            let mut slices = trace.packets[sample].1.iter().filter(|unit| h264_is_slice(unit)).peekable();
            slices.peek().is_some() && slices.all(|unit| unit.get("nal_ref_idc") == Some(0))
        };
        for sample in 0..trace.packets.len() {
            let is_silent = |sample: usize| clip.track.samples.get(sample).is_some_and(|sample| sample.silent);
            let free = is_free(sample)
                && (!is_silent(sample + 1) || is_free(sample + 1))
                && (!is_silent(sample) || is_free(sample - 1));
            let lasts = trace.packets[sample].1.iter().any(|unit| matches!(unit.kind(), 7 | 8));
            let ours = ours.is_droppable(sample as u32);
            assert!(!ours || free, "{}: sample {sample} is referred to", clip.name);
            let has_odd = has_odd_units(&clip, sample as u32);
            assert!(ours || !free || lasts || has_odd, "{}: sample {sample} could be left out", clip.name);
            samples += 1;
            droppable += u32::from(ours);
        }
    }
    eprintln!("{samples} samples, {droppable} droppable");
    assert!(droppable > 100);
}

fn h264_is_slice(unit: &Unit) -> bool {
    matches!(unit.kind(), 1..=5)
}

/// Are there units that keep a sample from being left out, whatever its slices say?
fn has_odd_units(clip: &Clip, sample: u32) -> bool {
    let Ok(data) = clip.track.read(&*clip.source, sample, false) else { return true };
    let is_odd = |unit: &[u8]| match h264::kind(unit) {
        Some(1 | 9 | 12) => false,
        Some(6) => h264::has_lasting_message(unit),
        _ => true,
    };
    clip.track.samples[sample as usize].key || clip.track.framing.units(data.data()).any(is_odd)
}

#[test]
fn what_was_learned_in_any_order_is_the_same() {
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
            assert_eq!(Some(picture.kind), kind.and_then(Kind::of), "{}: {sample}", clip.name);
            let has_sets = units().any(|unit| hevc::kind(unit) == hevc::NalKind::ParameterSet);
            assert!(!has_sets || picture.has_sets, "{}: {sample}", clip.name);
            assert_eq!(picture.irap == sample, picture.kind.is_irap(), "{}: {sample}", clip.name);
        }
    }
}

#[test]
fn asking_again_costs_next_to_nothing() {
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
    eprintln!("{} pictures learned in {first:?}, asked again {again:?}", last + 1);
    assert!(again < Duration::from_micros(20), "{again:?}");
}
