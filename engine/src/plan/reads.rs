//! Tests of the ranges that planning reads on cold state: compares them with the predictions of `prediction`, and with
//! a planner that reports missing ranges and is called again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::prediction::head;
use super::runs::{Target, plan};
use super::{Depth, Planner, References, TrackDependencies};
use crate::bitstream::Codec;
use crate::container::Track;
use crate::error::{ErrorKind, Result};
use crate::source::{ByteRange, FileSource, ReadCounters, ReadCounts, RemoteSource, Source};

/// The default gap that `HttpOptions` bridges, in bytes.
const GAP: u64 = 64 << 10;
/// The most waits for one cold frame, where many sync samples before the nearest are read.
const MOST_ROUNDS: usize = 6;
/// Frames of each clip.
const FRAMES: usize = 24;

/// Byte ranges that neither overlap nor touch, by their starts.
#[derive(Debug, Clone, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn of(ranges: impl IntoIterator<Item = ByteRange>) -> Ranges {
        let mut all = Ranges::default();
        ranges.into_iter().for_each(|range| all.insert(range));
        all
    }

    fn insert(&mut self, range: ByteRange) {
        let (mut start, mut end) = (range.start, range.end());
        if start >= end {
            return;
        }
        while let Some((&before, &stop)) = self.0.range(..=end).next_back().filter(|(_, stop)| **stop >= start) {
            self.0.remove(&before);
            (start, end) = (start.min(before), end.max(stop));
        }
        self.0.insert(start, end);
    }

    fn missing(&self, range: ByteRange) -> Vec<ByteRange> {
        let (mut at, mut missing) = (range.start, Vec::new());
        let first = self.0.range(..=range.start).next_back().map_or(range.start, |(&start, _)| start);
        for (&start, &end) in self.0.range(first..range.end().max(first)) {
            if at < start {
                missing.push(ByteRange { start: at, len: start - at });
            }
            at = at.max(end);
        }
        if at < range.end() {
            missing.push(ByteRange { start: at, len: range.end() - at });
        }
        missing
    }

    fn has(&self, range: ByteRange) -> bool {
        range.len == 0 || self.missing(range).is_empty()
    }

    fn bytes(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }
}

/// The cost of fetching bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    /// Waits of the caller: ranges that are requested together arrive together.
    rounds: usize,
    /// Ranges that are not adjacent.
    requests: usize,
    bytes: u64,
}

/// The result of a read of missing bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// The read waits for them, and for all hinted ranges.
    Comes,
    /// The read is an error, and the source records the first one.
    IsNoted,
}

/// A remote file as a planner sees it, without any bytes at first.
#[derive(Debug)]
struct RemoteFile {
    file: FileSource,
    missing: Missing,
    state: Mutex<RemoteState>,
}

#[derive(Debug, Default)]
struct RemoteState {
    here: Ranges,
    /// Hinted ranges that have not arrived yet.
    coming: Ranges,
    /// The ranges that were read.
    read: Ranges,
    /// Reads of bytes that were neither available nor hinted.
    unpredicted: Vec<ByteRange>,
    /// `IsNoted`: the first missing range, with the hints before it.
    missing: Vec<ByteRange>,
    is_noted: bool,
    cost: Cost,
}

impl RemoteState {
    /// One round: requests all ranges together.
    fn fetch(&mut self, ranges: impl IntoIterator<Item = ByteRange>) {
        let wanted = Ranges::of(ranges.into_iter().flat_map(|range| self.here.missing(range)));
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (&start, &end) in &wanted.0 {
            match merged.last_mut() {
                Some((_, stop)) if start - *stop <= GAP => *stop = end,
                _ => merged.push((start, end)),
            }
        }
        self.cost.rounds += usize::from(!merged.is_empty());
        self.cost.requests += merged.len();
        for (start, end) in merged {
            self.cost.bytes += end - start;
            self.here.insert(ByteRange { start, len: end - start });
        }
    }
}

impl RemoteFile {
    fn new(clip: &Path, missing: Missing) -> RemoteFile {
        let file = FileSource::open(clip).expect("it was open before");
        RemoteFile { file, missing, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, RemoteState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for RemoteFile {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read(&self, range: ByteRange) -> Result<Bytes> {
        let bytes = self.file.read(range)?;
        let mut state = self.state();
        if !state.here.has(range) {
            if self.missing == Missing::IsNoted {
                if !std::mem::replace(&mut state.is_noted, true) {
                    state.missing.push(range);
                }
                return Err(ErrorKind::OpenCancelled.into());
            }
            let coming: Vec<ByteRange> = std::mem::take(&mut state.coming)
                .0
                .iter()
                .map(|(&start, &end)| ByteRange { start, len: end - start })
                .collect();
            if !Ranges::of(coming.iter().copied()).has(range) {
                state.unpredicted.push(range);
            }
            state.fetch(coming.into_iter().chain([range]));
        }
        state.read.insert(range);
        Ok(bytes)
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn counters(&self) -> &ReadCounters {
        self.file.counters()
    }

    fn remote(&self) -> Option<&dyn RemoteSource> {
        Some(self)
    }
}

impl RemoteSource for RemoteFile {
    fn will_need(&self, ranges: &mut dyn Iterator<Item = ByteRange>) {
        let mut state = self.state();
        for range in ranges {
            if self.missing == Missing::Comes {
                state.coming.insert(range);
            } else if !state.is_noted && !state.here.has(range) {
                state.missing.push(range);
            }
        }
    }

    fn on_available(&self, ranges: &mut dyn Iterator<Item = ByteRange>, then: Box<dyn FnOnce() + Send>) {
        self.will_need(ranges);
        then();
    }

    fn is_pending_after(&self, _range: ByteRange, _patience: Duration) -> bool {
        false
    }

    fn is_available(&self, range: ByteRange) -> bool {
        self.state().here.has(range)
    }

    fn prefetch_capacity(&self) -> u64 {
        u64::MAX
    }

    fn opening_reads(&self) -> ReadCounts {
        ReadCounts::default()
    }

    fn validated_at(&self) -> Instant {
        Instant::now()
    }

    fn revalidate(&self) {}
}

/// A clip, opened as a local file.
struct OpenedClip {
    path: std::path::PathBuf,
    track: Track,
}

/// Fixtures and corpus clips with a supported track.
fn clips() -> impl Iterator<Item = OpenedClip> {
    testing::clips::clips().into_iter().filter_map(|path| {
        let source: Arc<dyn Source> = Arc::new(FileSource::open(&path).ok()?);
        let track = Track::open(&source, 0).ok()?;
        Some(OpenedClip { path, track })
    })
}

/// A planner that has read nothing.
struct ColdPlanner<'a> {
    track: &'a Track,
    planner: Planner,
    references: References,
}

/// The samples to decode for a frame, and those that are sent for their parameter sets.
type DecodeSamples = Vec<u32>;

impl<'a> ColdPlanner<'a> {
    fn new(track: &'a Track) -> ColdPlanner<'a> {
        ColdPlanner { track, planner: Planner::new(track), references: References::new() }
    }

    /// Plans as a request for one frame does without checkpoints. Returns the first sample of the target's run and the
    /// samples to decode.
    fn plan(&self, source: &dyn Source, sample: u32) -> (u32, DecodeSamples) {
        let entry = self.planner.start_for(self.track, source, sample, Depth::Nearest).0;
        let known = TrackDependencies::new(self.track, source, &self.planner, &self.references);
        let planned_runs = plan(&[Target { sample, start: entry }], &known, &|_| Vec::new());
        (
            entry,
            planned_runs
                .into_iter()
                .flat_map(|planned_run| planned_run.samples.into_iter().chain(planned_run.sets))
                .collect(),
        )
    }

    fn predicted(&self, sample: u32) -> Vec<ByteRange> {
        let mut ranges = self.planner.unread(self.track, &self.references, sample);
        ranges.extend(self.planner.unread_configuration(self.track));
        ranges
    }

    fn extents(&self, samples: impl IntoIterator<Item = u32>) -> Vec<ByteRange> {
        samples.into_iter().filter_map(|sample| self.track.extent(sample)).collect()
    }
}

/// Samples of frames that are spread over a clip.
fn targets(track: &Track) -> Vec<u32> {
    let count = track.frames.len();
    let step = count.div_ceil(FRAMES).max(1);
    // In another step than most GOPs.
    (0..count)
        .step_by(step)
        .enumerate()
        .map(|(at, frame)| track.frames[(frame + at * 7 % step).min(count - 1)])
        .collect()
}

/// The cost of a cold frame if everything is requested in advance, as the engine does.
fn in_advance(clip: &OpenedClip, sample: u32) -> (Cost, (u32, DecodeSamples), RemoteState) {
    let (cold, source) = (ColdPlanner::new(&clip.track), RemoteFile::new(&clip.path, Missing::Comes));
    source.state().fetch(cold.predicted(sample));
    let planned = cold.plan(&source, sample);
    source.state().fetch(cold.extents(planned.1.iter().copied()));
    let state = std::mem::take(&mut *source.state());
    (state.cost, planned, state)
}

/// The cost if the planner reports the missing range first and is called again. It gets all bytes that certainly follow
/// from that range: the whole read of a sync sample, and all samples up to the target once the first sample of the run
/// is known.
fn by_replanning(clip: &OpenedClip, sample: u32) -> (Cost, (u32, DecodeSamples)) {
    let (cold, source) = (ColdPlanner::new(&clip.track), RemoteFile::new(&clip.path, Missing::IsNoted));
    loop {
        let entry = cold.planner.start_for(cold.track, &source, sample, Depth::Nearest).0;
        let has_entry = !source.state().is_noted;
        let (first, at_entry) = take_missing(&source);
        // Independent of the first sample.
        cold.planner.last_for(cold.track, &source, sample);
        let (behind, at_last) = take_missing(&source);
        if at_entry || at_last {
            let wanted = first.into_iter().chain(behind).flat_map(|range| completed(&cold, range));
            let wanted: Vec<ByteRange> = wanted.collect();
            source.state().fetch(wanted);
            continue;
        }
        let planned = cold.plan(&source, sample);
        let (wanted, is_missing) = take_missing(&source);
        if !is_missing {
            assert!(has_entry && planned.0 == entry);
            source.state().fetch(cold.extents(planned.1.iter().copied()));
            return (source.state().cost, planned);
        }
        let run = cold.extents(entry..=sample);
        let is_run = wanted.iter().any(|range| run.contains(range));
        let wanted = wanted.into_iter().flat_map(|range| completed(&cold, range));
        let wanted: Vec<ByteRange> = wanted.chain(run.into_iter().filter(|_| is_run)).collect();
        source.state().fetch(wanted);
    }
}

/// The missing ranges, and whether there are any.
fn take_missing(source: &RemoteFile) -> (Vec<ByteRange>, bool) {
    let mut state = source.state();
    let is_noted = std::mem::take(&mut state.is_noted);
    let wanted = std::mem::take(&mut state.missing);
    (wanted.into_iter().filter(|_| is_noted).collect(), is_noted)
}

/// All ranges of the read of a sync sample, if `range` is its first.
fn completed(cold: &ColdPlanner<'_>, range: ByteRange) -> Vec<ByteRange> {
    let begins = |&&sync: &&u32| head(cold.track, sync).or_else(|| cold.track.extent(sync)) == Some(range);
    let look = cold.planner.sync.iter().find(begins).map(|&sync| cold.planner.unread_for_sync_sample(cold.track, sync));
    look.into_iter().flatten().chain([range]).collect()
}

#[derive(Debug, Default)]
struct RoundsRow {
    clips: usize,
    frames: usize,
    /// Frames whose run begins elsewhere than predicted.
    strayed: usize,
    /// Reads that were not predicted.
    unforeseen: usize,
    advance: [u64; 3],
    again: [u64; 3],
    most: [usize; 2],
}

fn add(sums: &mut [u64; 3], cost: Cost) {
    for (sum, value) in sums.iter_mut().zip([cost.rounds as u64, cost.requests as u64, cost.bytes]) {
        *sum += value;
    }
}

/// Prints the table of `docs/decisions/0047-planning-reads.md`.
#[test]
#[ignore = "a measurement: it prints a table and checks nothing"]
#[allow(clippy::print_stdout, reason = "the table is what it is for")]
fn measure_rounds() {
    let mut rows: BTreeMap<(&str, &str), RoundsRow> = BTreeMap::new();
    for clip in clips() {
        let row = rows.entry((clip.track.codec.name(), clip.track.container.name())).or_default();
        row.clips += 1;
        for sample in targets(&clip.track) {
            let likely = ColdPlanner::new(&clip.track).planner.likely_start(&clip.track, sample);
            let (advance, planned, state) = in_advance(&clip, sample);
            let (again, same) = by_replanning(&clip, sample);
            assert_eq!(planned, same, "{} sample {sample}", clip.path.display());
            row.frames += 1;
            row.strayed += usize::from(planned.0 != likely);
            row.unforeseen += state.unpredicted.len();
            add(&mut row.advance, advance);
            add(&mut row.again, again);
            row.most = [row.most[0].max(advance.rounds), row.most[1].max(again.rounds)];
        }
    }
    println!("codec container clips frames strayed unforeseen | in advance: rounds most requests KiB | again: ...");
    for ((codec, container), row) in &rows {
        let of = |sums: [u64; 3], most: usize| {
            let [rounds, requests, bytes] = sums.map(|sum| sum as f64 / row.frames as f64);
            format!("{rounds:.2} {most} {requests:.2} {:.1}", bytes / 1024.0)
        };
        println!(
            "{codec} {container} {} {} {} {} | {} | {}",
            row.clips,
            row.frames,
            row.strayed,
            row.unforeseen,
            of(row.advance, row.most[0]),
            of(row.again, row.most[1])
        );
    }
}

/// Reads that were not predicted cost a round trip each; predicted bytes that are not read are wasted.
#[test]
fn planning_reads_only_predicted_ranges() {
    let (mut frames, mut strayed) = (BTreeMap::<&str, usize>::new(), 0);
    let (mut foreseen, mut unused) = (0, 0);
    for clip in clips() {
        for sample in targets(&clip.track) {
            let cold = ColdPlanner::new(&clip.track);
            let (likely, predicted) = (cold.planner.likely_start(&clip.track, sample), cold.predicted(sample));
            let (cost, (entry, decoded), state) = in_advance(&clip, sample);
            let place = || format!("{}: sample {sample} from {entry}", clip.path.display());
            assert!(cost.rounds <= MOST_ROUNDS, "{}: {} waits", place(), cost.rounds);
            // The whole sample before a sync sample is read if its end looks like an end of sequence.
            let before = |range: &ByteRange| {
                let mut befores = cold.planner.sync.iter().filter_map(|sync| sync.checked_sub(1));
                clip.track.codec == Codec::Hevc && befores.any(|before| clip.track.extent(before) == Some(*range))
            };
            let unforeseen: Vec<_> = state.unpredicted.iter().filter(|range| !before(range)).collect();
            assert!(unforeseen.is_empty(), "{}: {unforeseen:?}", place());
            *frames.entry(clip.track.codec.name()).or_default() += 1;
            strayed += usize::from(entry != likely);
            let mut used = state.read.clone();
            cold.extents(decoded).into_iter().for_each(|range| used.insert(range));
            foreseen += Ranges::of(predicted.iter().copied()).bytes();
            unused += predicted.iter().flat_map(|range| used.missing(*range)).map(|range| range.len).sum::<u64>();
        }
    }
    // In small clips the first bytes of a sample that may have to be read are most of it.
    let starts = 2048 * frames.values().sum::<usize>() as u64;
    assert!(unused < foreseen / 50 + starts, "{unused} of {foreseen} predicted bytes unused");
    let least = |codec: Codec| frames.get(codec.name()).copied().unwrap_or(0);
    let has_all = [Codec::Hevc, Codec::H264, Codec::Vp9, Codec::Av1].map(least).iter().all(|&frames| frames >= 20);
    assert!(has_all && strayed >= 20, "{frames:?}, {strayed} begin elsewhere than predicted");
}
