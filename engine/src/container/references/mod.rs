//! A track's whole reference structure, as an index file stores it: the references of each sample, and the kinds of its
//! random access points.
//!
//! This module has the tables and their checks, both for tables from slice headers and for tables from index files,
//! which may be forged. Building the structure, and using it, is left to `plan`.

mod graph;
mod runs;

pub(crate) use graph::{IndexedGop, ReferenceGraph};
pub(crate) use runs::ReferenceRuns;

use super::Track;
use crate::bitstream::hevc_slice::PictureKind;
use crate::bitstream::{Codec, RandomAccessPoint, SyncSampleFacts};

/// The largest number of references of a sample: in all codecs, decoders hold at most 16 pictures of two fields each.
pub(crate) const MOST: usize = 32;

/// The references of all samples of a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrackReferences {
    /// For each sync sample, in order.
    pub(crate) sync_samples: Vec<SyncSampleFacts>,
    /// By codec.
    pub(crate) table: ReferenceTable,
}

/// The references, in the form of the codec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReferenceTable {
    /// H.265: the references of every picture.
    Graph(ReferenceGraph),
    /// H.264: the samples without references to them, ascending.
    Droppable(Vec<u32>),
    /// AV1, VP9: the references of samples, from random access point to random access point.
    Runs(ReferenceRuns),
}

impl TrackReferences {
    /// The kind of an H.265 picture, if known.
    pub(crate) fn kind(&self, sample: u32) -> Option<PictureKind> {
        match &self.table {
            ReferenceTable::Graph(graph) => graph.kind(sample),
            _ => None,
        }
    }

    /// The contradiction to the track, if there is one. The container's sync samples are the possible random access
    /// points.
    pub(super) fn problem(&self, track: &Track) -> Option<&'static str> {
        let syncs = (0_u32..).zip(&track.samples).filter(|(_, sample)| sample.key).map(|(index, _)| index);
        let entries: Vec<(u32, RandomAccessPoint)> =
            syncs.zip(self.sync_samples.iter().map(|facts| facts.kind)).collect();
        match (&self.table, track.codec) {
            (ReferenceTable::Graph(graph), Codec::Hevc) => graph_problem(graph, track, &entries),
            (ReferenceTable::Droppable(list), Codec::H264) => droppable_problem(list, track),
            (ReferenceTable::Runs(units), Codec::Av1 | Codec::Vp9) => {
                let is_sync = |first: u32| track.samples.get(first as usize).is_some_and(|sample| sample.key);
                (!units.firsts().all(is_sync)).then_some("its references do not begin at a sync sample")
            }
            _ => Some("its references are of another codec"),
        }
    }
}

/// GOPs must begin at random access points of the right kind, end before the next one, and have one decoder
/// configuration. Samples with parameter sets must be marked as such.
fn graph_problem(graph: &ReferenceGraph, track: &Track, entries: &[(u32, RandomAccessPoint)]) -> Option<&'static str> {
    let entries: Vec<(u32, RandomAccessPoint)> =
        entries.iter().copied().filter(|(_, entry)| *entry != RandomAccessPoint::Unsafe).collect();
    for gop in graph.gops() {
        let Ok(at) = entries.binary_search_by_key(&gop.first, |(sample, _)| *sample) else {
            return Some("a GOP does not begin at a random access point");
        };
        let next = entries.get(at + 1).map_or(track.samples.len(), |(sample, _)| *sample as usize);
        let end = (gop.first + gop.pictures) as usize;
        if end > next {
            return Some("a GOP continues past the beginning of the next");
        }
        let kind = graph.kind(gop.first);
        if kind.is_some_and(|kind| (kind == PictureKind::Idr) != (entries[at].1 == RandomAccessPoint::Clean)) {
            return Some("a GOP's first picture contradicts its sync sample");
        }
        let samples = &track.samples[gop.first as usize..end];
        if samples.windows(2).any(|pair| pair[0].description != pair[1].description) {
            return Some("the decoder configuration changes within a GOP");
        }
    }
    let mut changes = track.history.iter().flat_map(|history| history.changes());
    let is_unmarked = |(sample, _): (u32, &[u8])| graph.has_sets(sample) == Some(false);
    changes.any(is_unmarked).then_some("a sample with parameter sets is marked as one without")
}

/// Sync samples are not droppable, and of a picture's two fields both or none are.
fn droppable_problem(list: &[u32], track: &Track) -> Option<&'static str> {
    let is_silent = |sample: u32| track.samples.get(sample as usize).is_some_and(|sample| sample.silent);
    let is_listed = |sample: u32| list.binary_search(&sample).is_ok();
    let is_wrong = |&sample: &u32| {
        let is_second = is_silent(sample) && sample > 0 && !is_silent(sample - 1);
        let is_first = !is_silent(sample) && is_silent(sample + 1);
        let is_key = track.samples.get(sample as usize).is_none_or(|sample| sample.key);
        is_key || (is_second && !is_listed(sample - 1)) || (is_first && !is_listed(sample + 1))
    };
    list.iter().any(is_wrong).then_some("a sample with references to it is marked as droppable")
}
