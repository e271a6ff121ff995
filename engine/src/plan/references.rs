//! The reference structure of a track, learned on request: the samples that each picture refers to.
//!
//! It is learned GOP by GOP, each from its first sample on and only as far as needed, and cached, so that repeated
//! requests cost next to nothing. Where a reference is in doubt the structure is unknown, and no sample may be left
//! out. The choice of samples is left to [`runs`](super::runs).

use std::collections::HashMap;
use std::sync::Arc;

use super::Planner;
use super::droppable::{Droppable, DroppableCache};
use super::gop::{ContinuedGop, GopLearner, GopTail, Picture};
use super::pictures::{Pictures, Segment};
use super::slots::{SlotCache, Slots};
use crate::bitstream::hevc_sets::ParameterSets;
use crate::bitstream::hevc_slice::{PictureKind, SliceHeader, is_first_in_picture};
use crate::bitstream::{Codec, Framing, RandomAccessPoint, hevc};
use crate::container::{IndexedGop, ReferenceGraph, ReferenceTable, Track};
use crate::error::ErrorKind;
use crate::source::Source;
use crate::sync::unmodelled::{Mutex, MutexGuard};

/// Approximate number of pictures in the cache: a few dozen megabytes. Beyond it the cache is emptied.
const LIMIT: usize = 1 << 18;

/// The structure of a run of samples, as far as the codec and its stream reveal it.
#[derive(Debug, Clone)]
pub enum Structure {
    /// The references of every picture.
    Graph(Pictures),
    /// Only the samples without any reference to them.
    Droppable(Droppable),
    /// The references of each sample, if decoding begins at the run's first.
    Slots(Slots),
    /// Nothing is certain: no sample may be left out.
    Unknown,
}

/// The reference structure of a track, as far as it was requested. Threads share it.
#[derive(Debug)]
pub struct References {
    gops: Mutex<LearnedGops>,
    /// The GOPs from an index file.
    indexed: Mutex<IndexedGops>,
    droppable: DroppableCache,
    slots: SlotCache,
}

/// GOPs of an index file, by their first sample and whether the run began before them.
#[derive(Debug, Default)]
struct IndexedGops {
    segments: HashMap<(u32, bool), Segment>,
    pictures: usize,
}

/// GOPs by their first sample.
#[derive(Debug, Default)]
struct LearnedGops {
    by_first: HashMap<u32, Arc<Mutex<LearnedGop>>>,
    /// Number of samples in the known GOPs, counted when they were added.
    pictures: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Default for References {
    fn default() -> References {
        References::new()
    }
}

impl References {
    /// An empty structure; references are learned on request.
    pub fn new() -> References {
        References {
            gops: Mutex::default(),
            indexed: Mutex::default(),
            droppable: DroppableCache::default(),
            slots: SlotCache::default(),
        }
    }

    /// The structure of samples `first..=last`, where `first` is a sync sample at which decoding begins. `planner` and
    /// `source` must be those of the same track. Reads the samples that are not known yet; where one cannot be read,
    /// the result is [`Structure::Unknown`].
    pub fn structure(&self, planner: &Planner, track: &Track, source: &dyn Source, first: u32, last: u32) -> Structure {
        if first > last || last as usize >= track.samples.len() {
            return Structure::Unknown;
        }
        match track.codec {
            Codec::Hevc => {
                self.pictures(planner, track, source, first, last).map_or(Structure::Unknown, Structure::Graph)
            }
            Codec::H264 => Structure::Droppable(self.droppable.run(planner, track, source, first, last)),
            Codec::Av1 | Codec::Vp9 => {
                self.slots.run(planner, track, source, first, last).map_or(Structure::Unknown, Structure::Slots)
            }
        }
    }

    /// Approximate memory in bytes.
    pub(crate) fn bytes(&self) -> usize {
        // A picture, its references, and the facts about it that planning caches.
        const PICTURE: usize = 128;
        PICTURE * (lock(&self.gops).pictures + lock(&self.indexed).pictures)
    }

    /// True if the structure of samples `first..=last` is known as far as it can be. Reads nothing.
    pub(crate) fn is_known(&self, planner: &Planner, track: &Track, first: u32, last: u32) -> bool {
        planner.references(track).is_some()
            || match track.codec {
                Codec::Hevc => self.is_learned(first, last),
                Codec::H264 => self.droppable.knows(first, last),
                Codec::Av1 | Codec::Vp9 => self.slots.knows(first, last),
            }
    }

    fn is_learned(&self, first: u32, last: u32) -> bool {
        let mut at = first;
        loop {
            let Some(gop) = lock(&self.gops).by_first.get(&at).cloned() else { return false };
            // Another task is learning the GOP: its bytes are already in flight.
            let Ok(gop) = gop.try_lock() else { return false };
            if gop.is_broken || last.saturating_sub(at) < gop.pictures.len() as u32 {
                return true;
            }
            match &gop.next {
                Some((next, _)) => at = *next,
                None => return false,
            }
        }
    }

    /// H.265: the pictures of samples `first..=last`, where `first` is a sync sample with an IRAP picture. `None` if
    /// the structure is not certain up to `last`.
    pub fn pictures(
        &self,
        planner: &Planner,
        track: &Track,
        source: &dyn Source,
        first: u32,
        last: u32,
    ) -> Option<Pictures> {
        if track.codec != Codec::Hevc || first > last || last as usize >= track.samples.len() {
            return None;
        }
        if let Some(ReferenceTable::Graph(graph)) = planner.references(track).map(|references| &references.table) {
            return self.indexed_pictures(graph, first, last);
        }
        let input = TrackInput { planner, track, source };
        let mut segments: Vec<Segment> = Vec::with_capacity(2);
        let (mut at, mut before) = (first, None);
        loop {
            let gop = self.gop(input, at)?;
            let mut gop = lock(&gop);
            gop.learn_to(input, last)?;
            let segment = gop.segment(before.as_deref())?;
            let known = segment.pictures.len();
            segments.push(segment);
            if last - at < known as u32 {
                return Some(Pictures { first, last, segments });
            }
            // A GOP that is not known to its end ends the run.
            let (next, tail) = gop.next.as_ref().filter(|(next, _)| (next - at) as usize == known)?;
            (at, before) = (*next, Some(Arc::clone(tail)));
        }
    }

    /// As [`References::pictures`], from an index file, which describes the whole track: an omitted picture is unknown.
    fn indexed_pictures(&self, graph: &ReferenceGraph, first: u32, last: u32) -> Option<Pictures> {
        let mut segments: Vec<Segment> = Vec::with_capacity(2);
        let mut at = first;
        loop {
            let segment = self.indexed_segment(graph, graph.gop(at)?, !segments.is_empty());
            let known = segment.pictures.len() as u32;
            segments.push(segment);
            if last - at < known {
                return Some(Pictures { first, last, segments });
            }
            // Without any known picture the next GOP is unknown too.
            at = at.checked_add(known).filter(|_| known > 0)?;
        }
    }

    fn indexed_segment(&self, graph: &ReferenceGraph, gop: &IndexedGop, is_behind: bool) -> Segment {
        let key = (gop.first, is_behind && gop.continuation.is_some());
        if let Some(segment) = lock(&self.indexed).segments.get(&key) {
            return segment.clone();
        }
        let shift = gop.continuation.filter(|_| key.1).map(|continuation| continuation.shift);
        let segment = Segment { first: gop.first, pictures: Arc::new(graph.pictures(gop, key.1)), shift };
        let mut indexed = lock(&self.indexed);
        if indexed.pictures > LIMIT {
            *indexed = IndexedGops::default();
        }
        indexed.pictures += segment.pictures.len();
        indexed.segments.insert(key, segment.clone());
        segment
    }

    fn gop(&self, input: TrackInput<'_>, first: u32) -> Option<Arc<Mutex<LearnedGop>>> {
        if let Some(gop) = lock(&self.gops).by_first.get(&first) {
            return Some(Arc::clone(gop));
        }
        // Not under the lock: this reads samples.
        let gop = Arc::new(Mutex::new(LearnedGop::new(input, first)?));
        let mut gops = lock(&self.gops);
        if gops.pictures > LIMIT {
            *gops = LearnedGops::default();
        }
        gops.pictures += input.planner.gop_length(input.track, first);
        Some(Arc::clone(gops.by_first.entry(first).or_insert(gop)))
    }
}

/// The track and the source of its samples.
#[derive(Clone, Copy)]
pub(super) struct TrackInput<'a> {
    pub(super) planner: &'a Planner,
    pub(super) track: &'a Track,
    pub(super) source: &'a dyn Source,
}

/// The known part of a GOP: from a sync sample with an IRAP to the next one.
#[derive(Debug)]
pub(super) struct LearnedGop {
    first: u32,
    /// The parameter sets that are active after the last known picture.
    sets: ParameterSets,
    learner: GopLearner,
    pub(super) pictures: Arc<Vec<Picture>>,
    /// The next GOP's first sample, and the state that it begins with.
    pub(super) next: Option<(u32, Arc<GopTail>)>,
    /// The sample after `pictures` cannot be parsed, so the rest of the GOP is unknown.
    is_broken: bool,
    joined: ContinuedGop,
}

impl LearnedGop {
    /// `None` if `first` is no sync sample with an IRAP.
    fn new(input: TrackInput<'_>, first: u32) -> Option<LearnedGop> {
        let TrackInput { planner, track, source } = input;
        let is_access_point = track.samples.get(first as usize)?.key
            && planner.facts(track, source, first).kind != RandomAccessPoint::Unsafe;
        if is_access_point { Some(LearnedGop::with(first, sets_before(input, first)?)) } else { None }
    }

    /// A GOP with the parameter sets that are active if decoding begins at `first`.
    pub(super) fn with(first: u32, sets: ParameterSets) -> LearnedGop {
        LearnedGop {
            first,
            sets,
            learner: GopLearner::default(),
            pictures: Arc::default(),
            next: None,
            is_broken: false,
            joined: ContinuedGop::default(),
        }
    }

    /// Learns up to sample `last` or the end of the GOP. `None` if a sample cannot be read, which may succeed later.
    pub(super) fn learn_to(&mut self, input: TrackInput<'_>, last: u32) -> Option<()> {
        let TrackInput { planner, track, source } = input;
        let next = self.first + self.pictures.len() as u32;
        if !self.is_broken && self.next.is_none() {
            track.will_need(source, next..=last);
        }
        while !self.is_broken && self.next.is_none() {
            let sample = self.first + self.pictures.len() as u32;
            if sample > last {
                break;
            }
            let is_sync = sample != self.first && track.samples[sample as usize].key;
            if is_sync && planner.try_facts(track, source, sample)?.kind != RandomAccessPoint::Unsafe {
                self.next = Some((sample, Arc::new(self.learner.finish())));
                break;
            }
            let data = track.read(source, sample, false).ok()?;
            match self.learn(track, sample, data.data()) {
                Some(picture) => Arc::make_mut(&mut self.pictures).push(picture),
                None => self.is_broken = true,
            }
        }
        Some(())
    }

    fn learn(&mut self, track: &Track, sample: u32, data: &[u8]) -> Option<Picture> {
        let description = |sample: u32| track.samples[sample as usize].description;
        if description(sample) != description(self.first) {
            return None;
        }
        let (header, has_sets) = read_sample(track.framing, data, &mut self.sets)?;
        self.learner.learn(sample, &header, has_sets)
    }

    /// The known pictures, as decoded after the GOP with the tail `before`, or by a run that begins here.
    pub(super) fn segment(&mut self, before: Option<&GopTail>) -> Option<Segment> {
        let alone = |shift| Segment { first: self.first, pictures: Arc::clone(&self.pictures), shift };
        let (Some(tail), Some(cra)) = (before, self.pictures.first().filter(|first| first.kind == PictureKind::Cra))
        else {
            return Some(alone(None));
        };
        let bits = u32::from(cra.log2_max_poc_lsb);
        let shift = tail.poc.nearest(cra.poc as u32, bits)?.checked_sub(cra.poc)?;
        self.joined.extend(self.first, &self.pictures, &self.learner, tail, shift);
        Some(Segment { first: self.first, pictures: Arc::clone(&self.joined.pictures), shift: Some(shift) })
    }
}

/// The parameter sets that are active if decoding begins at `first`: those that `decode/samples.rs` sends. `None` if a
/// sample cannot be read, which may succeed later.
pub(super) fn sets_before(input: TrackInput<'_>, first: u32) -> Option<ParameterSets> {
    let TrackInput { planner, track, source } = input;
    let mut sets = configured(track, first);
    if let Some(history) = &track.history {
        history.before(first).into_values().for_each(|unit| _ = sets.absorb(unit));
    } else if !planner.facts(track, source, first).has_all_parameter_sets {
        for sync in planner.sync_samples_since_parameter_sets(track, source, first) {
            let data = match track.read(source, sync, false) {
                Ok(data) => data,
                // A sample past the end of the file contains no parameter sets.
                Err(error) if matches!(error.kind(), ErrorKind::PastEnd { .. }) => continue,
                Err(_) => return None,
            };
            track.framing.units(data.data()).for_each(|unit| _ = sets.absorb(unit));
        }
    }
    Some(sets)
}

/// The parameter sets of a sample's decoder configuration.
pub(super) fn configured(track: &Track, sample: u32) -> ParameterSets {
    let description = track.samples[sample as usize].description;
    let configuration = track.descriptions.get(usize::from(description)).map(|bytes| &bytes[..]);
    ParameterSets::from_configuration(configuration.unwrap_or(track.parameters.extradata()))
}

/// The first slice header of the only picture in a sample, and whether the sample has NAL units that affect later
/// pictures. Updates `sets` with its parameter sets. `None` if the sample has an unusual structure.
pub(super) fn read_sample(framing: Framing, data: &[u8], sets: &mut ParameterSets) -> Option<(SliceHeader, bool)> {
    let (mut units, mut found, mut has_sets) = (framing.units(data), None, false);
    for unit in units.by_ref().filter(|unit| !unit.is_empty()) {
        let (kind, layer) = hevc::header(unit)?;
        match kind {
            0..=31 => match (layer, is_first_in_picture(unit)?, &found) {
                (0, true, None) => found = Some(SliceHeader::parse(unit, sets)?),
                // Another slice of the same picture.
                (0, false, Some(header)) if header.nal_unit_type == kind => {}
                _ => return None,
            },
            // The next picture begins a coded video sequence.
            36 | 37 => return None,
            _ => {
                sets.absorb(unit);
                has_sets |= hevc::outlives_its_picture(unit);
            }
        }
    }
    let is_whole = framing == Framing::AnnexB || units.remainder().is_empty();
    found.filter(|_| is_whole).map(|header| (header, has_sets))
}
