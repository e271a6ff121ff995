//! H.264: the samples that no other sample refers to.
//!
//! References in H.264 depend on frame numbers and marking commands, which fail if a reference picture is missing. A
//! picture with `nal_ref_idc` 0 (7.4.1) affects no other picture; this is the only rule here. The choice of samples is
//! left to [`runs`](super::runs).

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use super::Planner;
use crate::bitstream::{Framing, h264};
use crate::container::{ReferenceTable, Track};
use crate::error::ErrorKind;
use crate::source::Source;

const UNSEEN: u8 = 0;
const DROPPABLE: u8 = 1;
const NEEDED: u8 = 2;

/// The samples of a run that may be left out if they are no targets.
#[derive(Debug, Clone)]
pub struct Droppable {
    classes: Arc<[AtomicU8]>,
    first: u32,
    last: u32,
}

impl Droppable {
    /// True if no other sample refers to this one. Both fields of a picture have the same value. False outside of the
    /// run.
    pub fn is_droppable(&self, sample: u32) -> bool {
        (self.first..=self.last).contains(&sample) && self.classes[sample as usize].load(Relaxed) == DROPPABLE
    }
}

/// The classified samples of a track, filled on request.
#[derive(Debug, Default)]
pub(super) struct DroppableCache(OnceLock<Arc<[AtomicU8]>>);

impl DroppableCache {
    /// Classifies samples `first..=last`; `last` must be in the track.
    pub(super) fn run(
        &self,
        planner: &Planner,
        track: &Track,
        source: &dyn Source,
        first: u32,
        last: u32,
    ) -> Droppable {
        let classes = self.0.get_or_init(|| initial_classes(planner, track));
        let is_unseen = |&sample: &u32| classes[sample as usize].load(Relaxed) == UNSEEN;
        track.will_need(source, (first..=last).filter(is_unseen));
        let mut at = first;
        while at <= last {
            let after = after_picture(track, at);
            if classes[at as usize].load(Relaxed) == UNSEEN {
                let class = match (at..after).map(|sample| is_droppable(track, source, sample)).min() {
                    // A sample that cannot be read is needed; another attempt may succeed.
                    Some(None) | None => UNSEEN,
                    Some(Some(false)) => NEEDED,
                    Some(Some(true)) => DROPPABLE,
                };
                classes[at as usize..after as usize].iter().for_each(|place| place.store(class, Relaxed));
            }
            at = after;
        }
        Droppable { classes: Arc::clone(classes), first, last }
    }
}

impl DroppableCache {
    /// True if all samples from `first` to `last` are classified.
    pub(super) fn knows(&self, first: u32, last: u32) -> bool {
        let classes = self.0.get().and_then(|known| known.get(first as usize..=last as usize));
        classes.is_some_and(|run| run.iter().all(|place| place.load(Relaxed) != UNSEEN))
    }
}

/// The initial classes: those of an index file for all samples, otherwise none.
fn initial_classes(planner: &Planner, track: &Track) -> Arc<[AtomicU8]> {
    let Some(ReferenceTable::Droppable(list)) = planner.references(track).map(|references| &references.table) else {
        return track.samples.iter().map(|_| AtomicU8::new(UNSEEN)).collect();
    };
    let classes: Arc<[AtomicU8]> = track.samples.iter().map(|_| AtomicU8::new(NEEDED)).collect();
    list.iter().for_each(|&sample| classes[sample as usize].store(DROPPABLE, Relaxed));
    classes
}

/// The sample after this one and the second field of its picture.
pub(super) fn after_picture(track: &Track, sample: u32) -> u32 {
    let is_silent = |sample: u32| track.samples.get(sample as usize).is_some_and(|sample| sample.silent);
    sample + 1 + u32::from(!is_silent(sample) && is_silent(sample + 1))
}

/// True if no other sample refers to this one; `None` for a sample that cannot be read.
fn is_droppable(track: &Track, source: &dyn Source, sample: u32) -> Option<bool> {
    if track.samples[sample as usize].key {
        return Some(false);
    }
    match track.read(source, sample, false) {
        Ok(data) => Some(is_unreferenced(track.framing, data.data())),
        Err(error) => matches!(error.kind(), ErrorKind::PastEnd { .. }).then_some(false),
    }
}

/// True if the sample is a picture with `nal_ref_idc` 0 without persistent messages or parameter sets.
pub(super) fn is_unreferenced(framing: Framing, sample: &[u8]) -> bool {
    let (mut units, mut slices) = (framing.units(sample), 0);
    for unit in units.by_ref().filter(|unit| !unit.is_empty()) {
        match h264::kind(unit) {
            Some(1) if h264::ref_idc(unit) == Some(0) => slices += 1,
            Some(6) if !h264::has_lasting_message(unit) => {}
            // Delimiter, filler.
            Some(9 | 12) => {}
            _ => return false,
        }
    }
    slices > 0 && (framing == Framing::AnnexB || units.remainder().is_empty())
}

#[cfg(test)]
mod tests {
    use super::{Framing, is_unreferenced};

    #[test]
    fn only_plain_pictures_that_nothing_refers_to_leave_no_trace() {
        let of = |units: &[&[u8]]| {
            let sample: Vec<u8> = units.iter().flat_map(|unit| Framing::Length(4).frame(unit)).collect();
            is_unreferenced(Framing::Length(4), &sample)
        };
        let (slice, reference) = ([0x01, 0x9a], [0x21, 0x9a]);
        assert!(of(&[&[9, 0xf0], &slice, &slice]));
        assert!(!of(&[&slice, &reference]) && !of(&[&[9, 0xf0]]) && !of(&[]));
        assert!(!of(&[&[0x67, 1], &slice]) && !of(&[&[0x65, 1]]));
        assert!(of(&[&[6, 1, 1, 0xaa, 0x80], &slice]), "picture timing");
        assert!(!of(&[&[6, 6, 1, 0xc4, 0x80], &slice]), "a recovery point");
        assert!(!is_unreferenced(Framing::Length(1), &[2, 0x01, 0x9a, 9]), "cut off");
    }
}
