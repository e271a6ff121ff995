//! A track's whole reference structure, as an index file keeps it: which samples each sample is made of, and what sync
//! samples are good for.
//!
//! Only the tables, and what they can never say: whoever fills one, be it from slice headers or from a file that somebody
//! forged, is told what is impossible. How the structure is found out, and what is made of it, is left to `plan`.

mod graph;
mod units;

pub(crate) use graph::{Gop, Graph};
pub(crate) use units::Units;

use super::Track;
use crate::bitstream::hevc_slice::Kind;
use crate::bitstream::{Codec, Entry, EntryFacts};

/// Most samples that one may be made of: in all codecs decoders hold 16 pictures at most, with two fields each.
pub(crate) const MOST: usize = 32;

/// What is known of all of a track's samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct References {
    /// Of each sync sample, in order.
    pub(crate) entries: Vec<EntryFacts>,
    /// By codec.
    pub(crate) table: Table,
}

/// Who needs whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Table {
    /// H.265: every picture's references.
    Graph(Graph),
    /// H.264: the samples that nothing refers to, ascending.
    Droppable(Vec<u32>),
    /// AV1, VP9: what samples read, from entry to entry.
    Units(Units),
}

impl References {
    /// The kind of an H.265 picture, if it is known.
    pub(crate) fn kind(&self, sample: u32) -> Option<Kind> {
        match &self.table {
            Table::Graph(graph) => graph.kind(sample),
            _ => None,
        }
    }

    /// What is impossible for this track, whose container says where decoding might begin, if anything is.
    pub(super) fn problem(&self, track: &Track) -> Option<&'static str> {
        let syncs = (0_u32..).zip(&track.samples).filter(|(_, sample)| sample.key).map(|(index, _)| index);
        let entries: Vec<(u32, Entry)> = syncs.zip(self.entries.iter().map(|facts| facts.entry)).collect();
        match (&self.table, track.codec) {
            (Table::Graph(graph), Codec::Hevc) => graph_problem(graph, track, &entries),
            (Table::Droppable(list), Codec::H264) => droppable_problem(list, track),
            (Table::Units(units), Codec::Av1 | Codec::Vp9) => {
                let is_sync = |first: u32| track.samples.get(first as usize).is_some_and(|sample| sample.key);
                (!units.firsts().all(is_sync)).then_some("what it says of references begins at no sync sample")
            }
            _ => Some("what it says of references is of another codec"),
        }
    }
}

/// GOPs begin at entries of the right kind and end before the next, and all of one have the same decoder configuration.
/// Samples that brought parameter sets are known to have done so.
fn graph_problem(graph: &Graph, track: &Track, entries: &[(u32, Entry)]) -> Option<&'static str> {
    let entries: Vec<(u32, Entry)> = entries.iter().copied().filter(|(_, entry)| *entry != Entry::Unsafe).collect();
    for gop in graph.gops() {
        let Ok(at) = entries.binary_search_by_key(&gop.first, |(sample, _)| *sample) else {
            return Some("a GOP begins where decoding cannot begin");
        };
        let next = entries.get(at + 1).map_or(track.samples.len(), |(sample, _)| *sample as usize);
        let end = (gop.first + gop.pictures) as usize;
        if end > next {
            return Some("a GOP goes on past the next one's beginning");
        }
        let kind = graph.kind(gop.first);
        if kind.is_some_and(|kind| (kind == Kind::Idr) != (entries[at].1 == Entry::Clean)) {
            return Some("a GOP begins with another kind of picture than its entry");
        }
        let samples = &track.samples[gop.first as usize..end];
        if samples.windows(2).any(|pair| pair[0].description != pair[1].description) {
            return Some("the decoder configuration changes within a GOP");
        }
    }
    let mut brought = track.history.iter().flat_map(|history| history.changes());
    let is_forgotten = |(sample, _): (u32, &[u8])| graph.has_sets(sample) == Some(false);
    brought.any(is_forgotten).then_some("a sample that brings parameter sets is said to bring none")
}

/// Sync samples stay, and of a picture's two fields none goes without the other.
fn droppable_problem(list: &[u32], track: &Track) -> Option<&'static str> {
    let is_silent = |sample: u32| track.samples.get(sample as usize).is_some_and(|sample| sample.silent);
    let is_listed = |sample: u32| list.binary_search(&sample).is_ok();
    let is_wrong = |&sample: &u32| {
        let is_second = is_silent(sample) && sample > 0 && !is_silent(sample - 1);
        let is_first = !is_silent(sample) && is_silent(sample + 1);
        let is_key = track.samples.get(sample as usize).is_none_or(|sample| sample.key);
        is_key || (is_second && !is_listed(sample - 1)) || (is_first && !is_listed(sample + 1))
    };
    list.iter().any(is_wrong).then_some("a sample that others need is said to be needed by none")
}
