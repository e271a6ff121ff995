//! The reference structure of a whole track, learned from all of its samples at once, for an index file.
//!
//! It equals what `references`, `slots` and `droppable` learn on request. Samples that cannot be read or are in doubt
//! stay unknown. The format of the file is left to `container`.

use std::sync::Arc;

use super::gop::GopTail;
use super::references::{LearnedGop, TrackInput, configured, sets_before};
use super::slots::SlotTracker;
use super::{Planner, References, Structure};
use crate::bitstream::SyncSampleFacts;
use crate::bitstream::hevc_sets::ParameterSets;
use crate::bitstream::references::SampleReferences;
use crate::bitstream::{Codec, RandomAccessPoint};
use crate::container::{self, ReferenceGraph, ReferenceRuns, ReferenceTable, Track};
use crate::source::Source;

impl Planner {
    /// Learns the references of all samples, for an index file. Reads all of them, and takes as long as that.
    pub(crate) fn learn(&self, track: &Track, source: &dyn Source) -> container::TrackReferences {
        let sync_samples = self.sync.iter().map(|&sync| self.facts(track, source, sync)).collect();
        let table = match track.codec {
            Codec::Hevc => ReferenceTable::Graph(graph(self, track, source)),
            Codec::H264 => ReferenceTable::Droppable(droppable(self, track, source)),
            Codec::Av1 | Codec::Vp9 => ReferenceTable::Runs(units(track, source)),
        };
        container::TrackReferences { sync_samples, table }
    }
}

fn graph(planner: &Planner, track: &Track, source: &dyn Source) -> ReferenceGraph {
    let input = TrackInput { planner, track, source };
    let mut graph = ReferenceGraph::builder();
    let mut before: Option<(u32, Arc<GopTail>)> = None;
    let mut carried = CarriedSets::default();
    for &first in &planner.sync {
        let facts = planner.facts(track, source, first);
        let sets = carried.advance(input, first, facts);
        if facts.kind == RandomAccessPoint::Unsafe {
            continue;
        }
        let tail = before.take().filter(|(next, _)| *next == first);
        let mut gop = LearnedGop::with(first, sets);
        // A sample that cannot be read ends the known part.
        let _ = gop.learn_to(input, track.samples.len() as u32 - 1);
        let joined = tail.and_then(|(_, tail)| gop.segment(Some(&tail)));
        let joined = joined.map(|segment| segment.pictures).unwrap_or_default();
        let is_added = graph.begin(first).is_ok()
            && gop.pictures.iter().enumerate().all(|(place, alone)| match joined.get(place) {
                Some(picture) => graph.picture(picture, true).is_ok(),
                None => graph.picture(alone, false).is_ok(),
            });
        before = gop.next.filter(|_| is_added);
    }
    graph.finish()
}

/// The active parameter sets, carried from one sync sample to the next. They equal those of [`sets_before`], which for
/// each GOP reads all sync samples before it.
#[derive(Default)]
struct CarriedSets {
    description: u16,
    /// The sets since a sync sample with all kinds of sets, or since the first with any.
    sets: Option<ParameterSets>,
}

impl CarriedSets {
    /// The sets that are active if decoding begins at `sync`; then adds the sets of that sample.
    fn advance(&mut self, input: TrackInput<'_>, sync: u32, facts: SyncSampleFacts) -> ParameterSets {
        let TrackInput { track, source, .. } = input;
        if track.history.is_some() {
            // Sets that cannot be read now count as unknown.
            return sets_before(input, sync).unwrap_or_default();
        }
        let description = track.samples[sync as usize].description;
        if std::mem::replace(&mut self.description, description) != description {
            self.sets = None;
        }
        let carried = self.sets.clone().filter(|_| !facts.has_all_parameter_sets);
        let before = carried.unwrap_or_else(|| configured(track, sync));
        if facts.has_some_parameter_sets {
            let mut sets = before.clone();
            if let Ok(data) = track.read(source, sync, false) {
                track.framing.units(data.data()).for_each(|unit| _ = sets.absorb(unit));
            }
            self.sets = Some(sets);
        }
        before
    }
}

fn droppable(planner: &Planner, track: &Track, source: &dyn Source) -> Vec<u32> {
    let last = track.samples.len() as u32 - 1;
    match References::new().structure(planner, track, source, 0, last) {
        Structure::Droppable(droppable) => (0..=last).filter(|&sample| droppable.is_droppable(sample)).collect(),
        _ => Vec::new(),
    }
}

/// A run continues past a random access point if a tracker that begins there has the same state.
fn units(track: &Track, source: &dyn Source) -> ReferenceRuns {
    let (mut units, mut tracker): (ReferenceRuns, Option<SlotTracker>) = (ReferenceRuns::default(), None);
    for (sample, at) in (0..).zip(&track.samples) {
        let Ok(data) = track.read(source, sample, false) else {
            tracker = None;
            continue;
        };
        let unit = tracker.as_mut().map(|tracker| tracker.take(sample, data.data()));
        let fresh = at.key.then(|| begin(track, sample, data.data())).flatten();
        let unit = match (fresh, unit) {
            (Some((fresh, own)), unit) => {
                if unit != Some(Some(own.clone())) || tracker.as_ref() != Some(&fresh) {
                    tracker = units.begin(sample).is_ok().then_some(fresh);
                }
                Some(own)
            }
            (None, Some(unit)) => unit,
            (None, None) => continue,
        };
        // If the table cannot hold a unit, this unit and those after it are unknown.
        if units.push(unit.as_ref()).is_err() && units.push(None).is_err() {
            tracker = None;
        }
    }
    units
}

/// A tracker that begins at a sample; `None` if the sample is no random access point.
fn begin(track: &Track, sample: u32, data: &[u8]) -> Option<(SlotTracker, SampleReferences)> {
    let mut tracker = SlotTracker::of(track);
    let unit = tracker.take(sample, data).filter(|unit| unit.is_key)?;
    Some((tracker, unit))
}
