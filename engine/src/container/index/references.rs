//! The section of an index file with the references of samples. It has its own version, since an index without it is
//! complete: a section of another version is ignored.
//!
//! This file has its columns; the tables in `container/references` check their values.

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::column::RunLengthColumn;
use super::{bad, parser_message};
use crate::bitstream::hevc_slice::PictureKind;
use crate::bitstream::references::{Picture, SampleReferences};
use crate::bitstream::{RandomAccessPoint, SyncSampleFacts};
use crate::container::references::MOST;
use crate::container::{ReferenceGraph, ReferenceRuns, ReferenceTable, Track, TrackReferences};
use crate::error::Result;

const VERSION: u32 = 3;

/// Kinds of pictures by their number in the file.
const KINDS: [PictureKind; 6] =
    [PictureKind::Trailing, PictureKind::Radl, PictureKind::Rasl, PictureKind::Idr, PictureKind::Cra, PictureKind::Bla];
/// Kinds of random access points by their number in the file.
const ENTRIES: [RandomAccessPoint; 3] = [RandomAccessPoint::Unsafe, RandomAccessPoint::Open, RandomAccessPoint::Clean];

#[derive(Deserialize)]
struct SectionHeader {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct ReferenceSection {
    version: u32,
    /// One per sync sample.
    entries: RunLengthColumn,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    h265: Option<GraphColumns>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    h264: Option<DroppableColumns>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slots: Option<UnitColumns>,
}

#[derive(Serialize, Deserialize)]
struct GraphColumns {
    /// One per GOP.
    first: RunLengthColumn,
    pictures: RunLengthColumn,
    cut: RunLengthColumn,
    /// One per picture of the GOPs.
    picture_order_count: RunLengthColumn,
    low_bits: RunLengthColumn,
    kind: RunLengthColumn,
    flags: RunLengthColumn,
    references: ReferenceLists,
}

#[derive(Serialize, Deserialize)]
struct DroppableColumns {
    droppable: RunLengthColumn,
}

#[derive(Serialize, Deserialize)]
struct UnitColumns {
    /// One per run.
    first: RunLengthColumn,
    samples: RunLengthColumn,
    /// One per sample of the runs.
    flags: RunLengthColumn,
    references: ReferenceLists,
}

/// Samples that samples refer to.
#[derive(Serialize, Deserialize)]
struct ReferenceLists {
    /// Number of references per sample.
    counts: RunLengthColumn,
    /// Distance back to each of them.
    back: RunLengthColumn,
}

impl ReferenceLists {
    fn of<'a>(lists: impl Iterator<Item = (u32, &'a [u32])> + Clone) -> ReferenceLists {
        let back = lists.clone().flat_map(|(sample, refs)| refs.iter().map(move |of| i64::from(sample - of)));
        ReferenceLists {
            counts: RunLengthColumn::of(lists.map(|(_, refs)| refs.len() as i64)),
            back: RunLengthColumn::of(back),
        }
    }

    /// `count` lists, as distances.
    fn distances(&self, count: usize) -> Result<ReferenceDistances> {
        let counts = self.counts.values::<u8>("references.counts", count)?;
        if counts.iter().any(|&count| usize::from(count) > MOST) {
            return Err(bad("a sample has too many references"));
        }
        let all = counts.iter().map(|&count| usize::from(count)).sum();
        let back = self.back.values::<u32>("references.back", all)?;
        Ok(ReferenceDistances { counts: counts.into_iter(), back: back.into_iter() })
    }
}

struct ReferenceDistances {
    counts: std::vec::IntoIter<u8>,
    back: std::vec::IntoIter<u32>,
}

impl ReferenceDistances {
    /// The next list, which is that of `sample`; `None` if a distance reaches past the beginning.
    fn next(&mut self, sample: u32) -> Option<Vec<u32>> {
        let count = usize::from(self.counts.next()?);
        self.back.by_ref().take(count).map(|back| sample.checked_sub(back)).collect()
    }
}

fn number<T: PartialEq>(all: &[T], one: &T) -> i64 {
    all.iter().position(|other| other == one).unwrap_or_default() as i64
}

fn bits<const N: usize>(flags: [bool; N]) -> i64 {
    (0..).zip(flags).map(|(bit, flag)| i64::from(flag) << bit).sum()
}

pub(super) fn section(references: &TrackReferences) -> Box<RawValue> {
    let entry = |facts: &SyncSampleFacts| {
        let flags = [facts.has_all_parameter_sets, facts.drops_earlier, facts.has_some_parameter_sets];
        number(&ENTRIES, &facts.kind) + (bits(flags) << 2)
    };
    let entries = RunLengthColumn::of(references.sync_samples.iter().map(entry));
    let mut section = ReferenceSection { version: VERSION, entries, h265: None, h264: None, slots: None };
    match &references.table {
        ReferenceTable::Graph(graph) => section.h265 = Some(graph_columns(graph)),
        ReferenceTable::Droppable(list) => {
            let droppable = RunLengthColumn::of_steps(list.iter().map(|&sample| i64::from(sample)));
            section.h264 = Some(DroppableColumns { droppable });
        }
        ReferenceTable::Runs(units) => section.slots = Some(unit_columns(units)),
    }
    to_raw_value(&section).expect("plain data")
}

fn graph_columns(graph: &ReferenceGraph) -> GraphColumns {
    let pictures: Vec<(u32, Picture)> =
        graph.gops().iter().flat_map(|gop| (gop.first..).zip(graph.pictures(gop, false))).collect();
    let of = |value: fn(&Picture) -> i64| pictures.iter().map(move |(_, picture)| value(picture));
    let refs = graph
        .gops()
        .iter()
        .flat_map(|gop| (gop.first..gop.first + gop.pictures).map(move |sample| (sample, graph.refs(gop, sample))));
    let cut = |known: u32, all: u32| i64::from(all - known);
    GraphColumns {
        first: RunLengthColumn::of_steps(graph.gops().iter().map(|gop| i64::from(gop.first))),
        pictures: RunLengthColumn::of(graph.gops().iter().map(|gop| i64::from(gop.pictures))),
        cut: RunLengthColumn::of(
            graph.gops().iter().map(|gop| gop.continuation.map_or(0, |behind| cut(behind.pictures, gop.pictures))),
        ),
        picture_order_count: RunLengthColumn::of_steps(of(|picture| i64::from(picture.poc))),
        low_bits: RunLengthColumn::of(of(|picture| i64::from(picture.log2_max_poc_lsb))),
        kind: RunLengthColumn::of(of(|picture| number(&KINDS, &picture.kind))),
        flags: RunLengthColumn::of(of(|picture| bits([picture.is_tid0, picture.is_output, picture.has_sets]))),
        references: ReferenceLists::of(refs),
    }
}

fn unit_columns(units: &ReferenceRuns) -> UnitColumns {
    let all: Vec<(u32, Option<SampleReferences>)> =
        units.firsts().flat_map(|first| (first..).zip(units.of_run(first))).collect();
    let flags = |unit: &Option<SampleReferences>| {
        unit.as_ref().map_or(0, |unit| bits([true, unit.is_key, unit.refreshes, unit.shows]))
    };
    let refs = all.iter().map(|(sample, unit)| (*sample, unit.as_ref().map_or(&[][..], |unit| &unit.refs)));
    UnitColumns {
        first: RunLengthColumn::of_steps(units.firsts().map(i64::from)),
        samples: RunLengthColumn::of(units.runs().map(|(_, samples)| i64::from(samples))),
        flags: RunLengthColumn::of(all.iter().map(|(_, unit)| flags(unit))),
        references: ReferenceLists::of(refs),
    }
}

/// The references of a section, for a track. `None` for a section of another version.
///
/// # Errors
/// `BadIndex` for impossible values.
pub(super) fn of(section: &RawValue, track: &Track) -> Result<Option<TrackReferences>> {
    let damaged = |error| bad(parser_message(&error));
    if serde_json::from_str::<SectionHeader>(section.get()).map_err(damaged)?.version != VERSION {
        return Ok(None);
    }
    let section: ReferenceSection = serde_json::from_str(section.get()).map_err(damaged)?;
    let samples = track.samples.len();
    let table = match (section.h265, section.h264, section.slots) {
        (Some(columns), None, None) => ReferenceTable::Graph(graph(&columns, samples)?),
        (None, Some(columns), None) => {
            ReferenceTable::Droppable(columns.droppable.samples("references.h264.droppable", samples)?)
        }
        (None, None, Some(columns)) => ReferenceTable::Runs(units(&columns, samples)?),
        _ => return Err(bad("its references are not of one codec")),
    };
    let syncs = track.samples.iter().filter(|sample| sample.key).count();
    let references = TrackReferences { sync_samples: entries(&section.entries, syncs)?, table };
    references.problem(track).map_or(Ok(Some(references)), |problem| Err(bad(problem)))
}

fn entries(column: &RunLengthColumn, syncs: usize) -> Result<Vec<SyncSampleFacts>> {
    let facts = |number: u8| {
        let entry = ENTRIES.get(usize::from(number & 3)).copied().filter(|_| number < 32)?;
        let (all, some) = (number & 4 != 0, number & 16 != 0);
        let is_possible = some || !all;
        is_possible.then_some(SyncSampleFacts {
            kind: entry,
            has_all_parameter_sets: all,
            has_some_parameter_sets: some,
            drops_earlier: number & 8 != 0,
        })
    };
    let numbers = column.values::<u8>("references.entries", syncs)?;
    let entries: Option<Vec<SyncSampleFacts>> = numbers.into_iter().map(facts).collect();
    entries.ok_or_else(|| bad("a sync sample has an unknown kind"))
}

/// GOPs or runs: first sample and number of samples, each after the preceding one, all within the track.
fn sample_ranges(first: &RunLengthColumn, count: &RunLengthColumn, samples: usize) -> Result<(Vec<(u32, u32)>, usize)> {
    let first = first.samples("references.first", samples)?;
    let counts = count.values::<u32>("references.samples", first.len())?;
    let ends = first.iter().skip(1).map(|&next| next as usize).chain([samples]);
    let fits =
        first.iter().zip(&counts).zip(ends).all(|((&first, &count), end)| first as usize + count as usize <= end);
    let all = counts.iter().map(|&count| count as usize).sum();
    if fits {
        Ok((first.into_iter().zip(counts).collect(), all))
    } else {
        Err(bad("its references are not in the order of samples"))
    }
}

fn graph(columns: &GraphColumns, samples: usize) -> Result<ReferenceGraph> {
    let (gops, all) = sample_ranges(&columns.first, &columns.pictures, samples)?;
    let cut = columns.cut.values::<u32>("references.h265.cut", gops.len())?;
    let mut pictures = pictures(columns, all)?.into_iter();
    let mut lists = columns.references.distances(all)?;
    let mut graph = ReferenceGraph::builder();
    for ((first, count), cut) in gops.into_iter().zip(cut) {
        graph.begin(first).map_err(bad)?;
        let joined = count.checked_sub(cut).ok_or_else(|| bad("more pictures of a GOP are unknown than it has"))?;
        for (sample, place) in (first..).zip(0..count) {
            let refused = |why| bad(format!("{why} (sample {sample})"));
            let (Some(picture), Some(refs)) = (pictures.next(), lists.next(sample)) else {
                return Err(refused("a picture refers to one before the first sample"));
            };
            let picture = Picture { refs: refs.into(), ..picture };
            graph.picture(&picture, place < joined).map_err(refused)?;
        }
    }
    Ok(graph.finish())
}

/// The pictures without their references.
fn pictures(columns: &GraphColumns, count: usize) -> Result<Vec<Picture>> {
    let poc = columns.picture_order_count.steps("references.h265.picture_order_count", count)?;
    let low_bits = columns.low_bits.values::<u8>("references.h265.low_bits", count)?;
    let kinds = columns.kind.values::<u8>("references.h265.kind", count)?;
    let flags = columns.flags.values::<u8>("references.h265.flags", count)?;
    let picture = |at: usize| {
        Some(Picture {
            refs: Box::default(),
            poc: i32::try_from(poc[at]).ok()?,
            irap: 0,
            kind: *KINDS.get(usize::from(kinds[at]))?,
            log2_max_poc_lsb: low_bits[at],
            is_tid0: flags[at] & 1 != 0,
            is_output: flags[at] & 2 != 0,
            has_sets: flags[at] & 4 != 0,
        })
        .filter(|_| flags[at] < 8)
    };
    let picture = |at: usize| picture(at).ok_or_else(|| bad(format!("picture {at} in references.h265 cannot be")));
    (0..count).map(picture).collect()
}

fn units(columns: &UnitColumns, samples: usize) -> Result<ReferenceRuns> {
    let (runs, all) = sample_ranges(&columns.first, &columns.samples, samples)?;
    let flags = columns.flags.values::<u8>("references.slots.flags", all)?;
    let (mut flags, mut lists) = (flags.into_iter(), columns.references.distances(all)?);
    let mut units = ReferenceRuns::default();
    for (first, count) in runs {
        units.begin(first).map_err(bad)?;
        for sample in first..first + count {
            let refused = |why| bad(format!("{why} (sample {sample})"));
            let (Some(flags @ 0..16), Some(refs)) = (flags.next(), lists.next(sample)) else {
                return Err(refused("a sample refers to one before the first sample"));
            };
            let has = |bit: u8| flags & bit != 0;
            let unit = has(1).then(|| SampleReferences { refs, is_key: has(2), refreshes: has(4), shows: has(8) });
            if unit.is_none() && flags != 0 {
                return Err(refused("a sample is both known and unknown"));
            }
            units.push(unit.as_ref()).map_err(refused)?;
        }
    }
    Ok(units)
}
