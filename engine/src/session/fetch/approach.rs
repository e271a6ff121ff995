//! What becomes of a group whose bytes are far away: they are asked for before anything else, nobody waits for them who could
//! do other work, and who has nothing else to do decodes towards the target as they come.
//!
//! Which pictures a target is made of only the samples tell, and the last to come is its own. But the pictures that come
//! later in presentation than all before them, *anchors*, are what others refer to, in every GOP that encoders make: so
//! they are decoded as they come, each with what it needs, and leave a checkpoint. At worst a few pictures are decoded for
//! nothing; which frame comes out is decided as always.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::turns::{Held, Turns};
use super::{End, Group, grouped_by, near, needs, pictures, submit_groups};
use crate::bitstream::Codec;
use crate::decode::judge::Place;
use crate::error::Result;
use crate::plan::route::{Target, plan};
use crate::session::request::Request;
use crate::session::video::Shared;

/// Samples from one anchor to the next that is decoded to before its time: each time, the decoder's threads run dry.
const STRIDE: u32 = 8;
/// Into how many parts what there is room for is cut, so that ranges of neighbours are fetched together.
const BUNDLES: u64 = 8;
/// How often somebody who waits for bytes looks whether there is other work.
const LOOK: Duration = Duration::from_millis(5);

/// Submits tasks for `samples`, each for when there is something to do: what is likely to belong together, as far as that
/// can be told without reading, and when there is room for its bytes.
pub(super) fn submit<T: Send + 'static>(video: &Arc<Shared>, request: &Arc<Request<T>>, samples: &BTreeSet<u32>) {
    let (track, planner, room) = (&video.track, &video.planner, video.source.room());
    let groups = grouped_by(samples, |sample| planner.likely_entry(track, sample));
    for (bundle, bytes) in bundled(groups, room / BUNDLES, |group| missing(video, group)) {
        let turn = Arc::new(OnceLock::new());
        let mut waiting = Vec::with_capacity(bundle.len());
        for group in &bundle {
            let samples: BTreeSet<u32> = group.iter().map(|target| target.sample).collect();
            let (own, asked, turn): (_, _, Held) = (Arc::clone(video), Arc::clone(request), Some(Arc::clone(&turn)));
            let task = move |_| submit_groups(&own, &asked, &samples, &turn);
            request.submit_when(Place::Processor, pictures(group), task, |then| waiting.push((group[0].entry, then)));
        }
        let (video, asked) = (Arc::clone(video), Arc::clone(request));
        let engine = Arc::clone(&video.engine);
        Turns::take(&engine, bytes, room, move |begun| {
            let _ = turn.set(begun);
            if asked.is_cancelled() {
                // Nothing is fetched for nobody.
                return waiting.into_iter().for_each(|(_, then)| then());
            }
            will_plan(&video, bundle.iter().flatten().map(|target| target.sample));
            for (entry, then) in waiting {
                let looked_at = video.planner.unread_for_entry(&video.track, entry);
                video.source.when_here(&mut looked_at.into_iter(), then);
            }
        });
    }
    if let (Some(&sample), 1) = (samples.first(), samples.len()) {
        let ahead = planner.frame_of(sample).and_then(|frame| {
            let entry = planner.likely_entry(track, sample);
            video.habit.note(track, (sample, frame), entry, |sample| planner.sync_before(sample))
        });
        // After what is needed: requests are made in this order.
        video.source.will_need(&mut ahead.into_iter());
    }
}

/// Groups that are asked for together, as many as need no more than `most` bytes; and how many they need.
fn bundled(groups: Vec<Vec<Target>>, most: u64, bytes: impl Fn(&[Target]) -> u64) -> Vec<(Vec<Vec<Target>>, u64)> {
    let mut bundles: Vec<(Vec<Vec<Target>>, u64)> = Vec::new();
    for group in groups {
        let own = bytes(&group);
        match bundles.last_mut() {
            Some((bundle, held)) if held.saturating_add(own) <= most => {
                bundle.push(group);
                *held += own;
            }
            _ => bundles.push((vec![group], own)),
        }
    }
    bundles
}

/// Bytes from the entry of a group to its last target that are not here: at most so many are fetched.
fn missing(video: &Shared, group: &[Target]) -> u64 {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return 0 };
    let ranges = (first.entry..=last.sample).filter_map(|sample| video.track.extent(sample));
    ranges.filter(|range| !video.source.is_here(*range)).map(|range| range.len).sum()
}

/// Puts a group off until the bytes of `samples` have come.
pub(super) fn put_off<T: Send + 'static>(
    video: &Shared,
    request: &Arc<Request<T>>,
    samples: &[u32],
    (place, pictures): (Place, u64),
    answer: impl FnOnce(usize) + Send + 'static,
) {
    let ranges = &mut samples.iter().filter_map(|&sample| video.track.extent(sample));
    request.submit_when(place, pictures, answer, |then| video.source.when_here(ranges, then));
}

/// Tells the source what will be looked at before the way to `targets` is known.
fn will_plan(video: &Shared, targets: impl Iterator<Item = u32>) {
    let (track, planner, references) = (&video.track, &video.planner, &video.references);
    let unread = targets.flat_map(|target| planner.unread(track, references, target));
    video.source.will_need(&mut unread.chain(planner.unread_promise(track)));
}

impl<T: Send + 'static> Group<T> {
    /// Decodes towards the first target while its bytes come, if it takes a look at all of them to know the way. What comes
    /// of it are checkpoints.
    pub(super) fn approach(&self, targets: &[Target]) -> Result<End> {
        let video = &*self.video;
        if !video.source.is_remote() {
            return Ok(End::Over);
        }
        // Again: of many targets the first ones may have been all that the source had room for.
        will_plan(video, targets.iter().map(|target| target.sample));
        // A GPU has no checkpoints to leave, and its workers may wait.
        if self.place == Place::Device {
            return Ok(End::Over);
        }
        let is_known = |target: &Target| {
            video.references.is_known(&video.planner, &video.track, target.entry, target.sample)
                || video.engine.store.picture(video.id, target.sample).is_some()
        };
        match targets.first() {
            Some(target) if !is_known(target) => self.approach_one(*target),
            _ => Ok(End::Over),
        }
    }

    fn approach_one(&self, target: Target) -> Result<End> {
        let video = &*self.video;
        let is_of_use = video.engine.store.is_open() && video.track.codec != Codec::Av1;
        let (mut here, mut done) = (target.entry, target.entry);
        loop {
            here = self.here_up_to(here, target.sample);
            if here > target.sample {
                return Ok(End::Over);
            }
            if let Some(anchor) = self.anchor(done, here).filter(|_| is_of_use) {
                if !self.advance(Target { sample: anchor, ..target }, done)? {
                    return Ok(End::Over);
                }
                done = anchor;
                continue;
            }
            over!(self.unless_awaited(here..=target.sample));
            if self.request.is_cancelled() {
                return Ok(End::Stopped);
            }
            let since = Instant::now();
            let is_awaited = video.track.is_awaited(&*video.source, here, LOOK);
            self.request.fetched(since.elapsed());
            if !is_awaited && !video.track.is_here(&*video.source, here) {
                // It will not come, or has gone again: who reads it finds out why.
                return Ok(End::Over);
            }
        }
    }

    /// The first sample from `first` on that is not here.
    fn here_up_to(&self, first: u32, last: u32) -> u32 {
        let is_here = |&sample: &u32| self.video.track.is_here(&*self.video.source, sample);
        (first..=last).take_while(is_here).last().map_or(first, |last| last + 1)
    }

    /// The last anchor in front of `here`, if it is far enough from the one that was decoded to.
    fn anchor(&self, done: u32, here: u32) -> Option<u32> {
        let frame_of = |sample: u32| self.video.planner.frame_of(sample);
        let mut highest = frame_of(done)?;
        let mut anchor = None;
        for sample in done + 1..here {
            if let Some(frame) = frame_of(sample).filter(|&frame| frame > highest) {
                (highest, anchor) = (frame, Some(sample));
            }
        }
        anchor.filter(|anchor| anchor - done >= STRIDE)
    }

    /// Decodes up to an anchor. False if nothing is left of that.
    fn advance(&self, anchor: Target, done: u32) -> Result<bool> {
        let video = &*self.video;
        let needs = needs(video);
        let keeper = self.keeper(&needs);
        for leg in plan(&[anchor], &needs, &|target| near(video, target)) {
            self.leg(&leg, &keeper, &mut BTreeMap::new())?;
        }
        Ok(!video.engine.store.within(video.id, done + 1..=anchor.sample).is_empty())
    }

    /// Is there other work: for this worker, or for the memory that this run holds?
    fn is_waited_for(&self) -> bool {
        let engine = &self.video.engine;
        engine.workers.is_waited_for() || (self.memory.is_some() && engine.pictures.is_waited_for())
    }

    /// May a walk read a sample now? Waits for it as long as there is no other work; `awaited` is set where there is.
    pub(super) fn may_read(&self, sample: u32, awaited: &Cell<Option<u32>>) -> bool {
        let (track, source) = (&self.video.track, &*self.video.source);
        // A GPU's workers may wait.
        if !source.is_remote() || self.place == Place::Device || track.is_here(source, sample) {
            return true;
        }
        track.will_need(source, std::iter::once(sample));
        let since = Instant::now();
        let may_read = loop {
            if !track.is_awaited(source, sample, LOOK) {
                break true;
            }
            if self.request.is_cancelled() {
                break false;
            }
            if self.is_waited_for() {
                awaited.set(Some(sample));
                break false;
            }
        };
        self.request.fetched(since.elapsed());
        may_read
    }

    /// How a walk has ended that may have been broken off for a sample that is on its way.
    pub(super) fn unless_put_off(&self, end: End, awaited: &Cell<Option<u32>>) -> End {
        match (end, awaited.get()) {
            (End::Over, _) if self.request.is_cancelled() => End::Stopped,
            (End::Over, Some(sample)) => End::Later(vec![sample]),
            (end, _) => end,
        }
    }

    /// `Later` if some of these samples are on their way and there is other work.
    pub(super) fn unless_awaited(&self, samples: impl Iterator<Item = u32>) -> End {
        let (track, source) = (&self.video.track, &*self.video.source);
        if !source.is_remote() || !self.is_waited_for() {
            return End::Over;
        }
        let samples: Vec<u32> = samples.filter(|&sample| track.is_awaited(source, sample, Duration::ZERO)).collect();
        if samples.is_empty() { End::Over } else { End::Later(samples) }
    }
}
