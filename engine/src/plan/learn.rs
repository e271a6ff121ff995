//! The reference structure of a whole track, learned from all of its samples at once, for an index file.
//!
//! It equals what `references`, `slots` and `droppable` learn on request. Samples that cannot be read or are in doubt
//! stay unknown. The format of the file is left to `container`.

use std::sync::Arc;

use super::gop::Tail;
use super::references::{Gop, Place, configured, sets_before};
use super::slots::Tracker;
use super::{Planner, References, Structure};
use crate::bitstream::EntryFacts;
use crate::bitstream::hevc_sets::ParameterSets;
use crate::bitstream::references::Unit;
use crate::bitstream::{Codec, Entry};
use crate::container::{self, Graph, Table, Track, Units};
use crate::source::Source;

impl Planner {
    /// Learns the references of all samples. Reads all of them.
    pub(crate) fn learn(&self, track: &Track, source: &dyn Source) -> container::References {
        let entries = self.sync.iter().map(|&sync| self.facts(track, source, sync)).collect();
        let table = match track.codec {
            Codec::Hevc => Table::Graph(graph(self, track, source)),
            Codec::H264 => Table::Droppable(droppable(self, track, source)),
            Codec::Av1 | Codec::Vp9 => Table::Units(units(track, source)),
        };
        container::References { entries, table }
    }
}

fn graph(planner: &Planner, track: &Track, source: &dyn Source) -> Graph {
    let place = Place { planner, track, source };
    let mut graph = Graph::builder();
    let mut before: Option<(u32, Arc<Tail>)> = None;
    let mut carried = Carried::default();
    for &first in &planner.sync {
        let facts = planner.facts(track, source, first);
        let sets = carried.pass(place, first, facts);
        if facts.entry == Entry::Unsafe {
            continue;
        }
        let tail = before.take().filter(|(next, _)| *next == first);
        let mut gop = Gop::with(first, sets);
        // A sample that cannot be read ends the known part.
        let _ = gop.learn_to(place, track.samples.len() as u32 - 1);
        let joined = tail.and_then(|(_, tail)| gop.segment(Some(&tail)));
        let joined = joined.map(|segment| segment.pictures).unwrap_or_default();
        let is_put_in = graph.begin(first).is_ok()
            && gop.pictures.iter().enumerate().all(|(place, alone)| match joined.get(place) {
                Some(picture) => graph.picture(picture, true).is_ok(),
                None => graph.picture(alone, false).is_ok(),
            });
        before = gop.next.filter(|_| is_put_in);
    }
    graph.finish()
}

/// The active parameter sets, carried from one sync sample to the next. It equals [`sets_before`], which for each GOP
/// reads all sync samples before it.
#[derive(Default)]
struct Carried {
    description: u16,
    /// The sets since a sync sample that brings all kinds, or since the first that brings any.
    sets: Option<ParameterSets>,
}

impl Carried {
    /// The sets that are active if decoding begins at `sync`; then adds those that the sample brings.
    fn pass(&mut self, place: Place<'_>, sync: u32, facts: EntryFacts) -> ParameterSets {
        let Place { track, source, .. } = place;
        if track.history.is_some() {
            // Sets that cannot be read now are unknown.
            return sets_before(place, sync).unwrap_or_default();
        }
        let description = track.samples[sync as usize].description;
        if std::mem::replace(&mut self.description, description) != description {
            self.sets = None;
        }
        let carried = self.sets.clone().filter(|_| !facts.has_parameter_sets);
        let before = carried.unwrap_or_else(|| configured(track, sync));
        if facts.brings_parameter_sets {
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

/// A run continues past an entry if a tracker that begins there has the same state.
fn units(track: &Track, source: &dyn Source) -> Units {
    let (mut units, mut tracker): (Units, Option<Tracker>) = (Units::default(), None);
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

/// A tracker that begins at a sample, if the sample is an entry.
fn begin(track: &Track, sample: u32, data: &[u8]) -> Option<(Tracker, Unit)> {
    let mut tracker = Tracker::of(track);
    let unit = tracker.take(sample, data).filter(|unit| unit.is_key)?;
    Some((tracker, unit))
}
