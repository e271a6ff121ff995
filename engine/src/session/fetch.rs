//! How the frames of a request come to be.
//!
//! Targets are grouped so that what can share a picture is in one group; a group is one task. First it is tried the short
//! way: checkpoints, and only the pictures that are needed (`short`). Whatever does not come out of that as it should,
//! and everything where something is damaged, is tried the long way, from an entry on over all samples (`long`), further
//! back each time. What is let out is the sequential decode's picture, or an error.

/// Ends the function with an [`End`] that is not `Over`.
macro_rules! over {
    ($end:expr) => {
        match $end {
            End::Over => {}
            end => return Ok(end),
        }
    };
}

mod approach;
mod device;
pub(crate) mod habit;
mod room;
pub(crate) mod turns;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use ffi::AvError;

use self::turns::Held;
use crate::bitstream::Codec;
use crate::decode::judge::Place;
use crate::decode::{Event, Keeper, Walk};
use crate::error::{Error, ErrorKind, Result};
use crate::picture_memory::{Kind, Refused, Reservation};
use crate::plan::Kept;
use crate::plan::route::{Leg, Target, plan};
use crate::plan::{Depth, Job, Known};
use crate::session::losses::Losses;
use crate::session::request::{Request, Stay};
use crate::session::video::Shared;

/// Samples behind a target whose checkpoints are looked at too: in H.265 one that stands behind it may hold all that it
/// refers to.
const BEHIND: u32 = 16;
/// How long a reader gets to make room where there are no checkpoints: a task that ends would have to begin anew.
const PATIENCE: Duration = Duration::from_millis(200);
/// The same on a GPU, where a worker that waits takes nothing from anybody.
const PATIENCE_ON_DEVICE: Duration = Duration::from_secs(2);
/// What a group has of its worker before another account's turn can come.
const SLICE: Duration = Duration::from_millis(50);
/// Checkpoints on each side of a target that are looked at.
const CANDIDATES: usize = 4;

/// Submits tasks for the frames `indices`.
pub(crate) fn submit<T: Send + 'static>(video: &Arc<Shared>, request: &Arc<Request<T>>, indices: &BTreeSet<u32>) {
    let frames = video.track.frames.len();
    let mut samples = BTreeSet::new();
    for &index in indices {
        match video.track.frames.get(index as usize) {
            Some(&sample) => _ = samples.insert(sample),
            None => {
                let error = Error::from(ErrorKind::NoSuchFrame { frames }).at_frame(index).of(video.source.name());
                request.give(index, Err(error), Duration::ZERO);
            }
        }
    }
    if video.source.is_remote() {
        approach::submit(video, request, &samples);
    } else {
        submit_groups(video, request, &samples, &None);
    }
}

fn submit_groups<T: Send + 'static>(
    video: &Arc<Shared>,
    request: &Arc<Request<T>>,
    samples: &BTreeSet<u32>,
    turn: &Held,
) {
    let mut groups = grouped(video, samples);
    // The longest first: else it is what all wait for at the end. But frames in a row are shown in a row.
    if !are_in_a_row(&groups) {
        groups.sort_by_key(|group| std::cmp::Reverse(pictures(group)));
    }
    for group in groups {
        let place = device::place_for(video, request.stay(), &group);
        let (video, own, turn) = (Arc::clone(video), Arc::clone(request), turn.clone());
        let length = pictures(&group);
        request.submit(place, length, move |width| Group::new(video, own, width, turn, place).answer(group));
    }
}

/// Does each group begin where the one before ends?
fn are_in_a_row(groups: &[Vec<Target>]) -> bool {
    groups.windows(2).all(|pair| match (pair[0].last(), pair[1].first()) {
        // The second field of a picture may lie between them.
        (Some(last), Some(next)) => next.entry <= last.sample.saturating_add(2),
        _ => false,
    })
}

/// Groups of targets that may share pictures, in decode order.
fn grouped(video: &Shared, samples: &BTreeSet<u32>) -> Vec<Vec<Target>> {
    grouped_by(samples, |sample| video.planner.entry_for(&video.track, &*video.source, sample, Depth::Nearest).0)
}

fn grouped_by(samples: &BTreeSet<u32>, entry_for: impl Fn(u32) -> u32) -> Vec<Vec<Target>> {
    let mut groups: Vec<Vec<Target>> = Vec::new();
    for &sample in samples {
        let entry = entry_for(sample);
        match groups.last_mut() {
            // A leg over the one before passes the entry of this one: they share pictures.
            Some(group) if group.last().is_some_and(|last| entry <= last.sample) && group[0].entry <= entry => {
                group.push(Target { sample, entry });
            }
            _ => groups.push(vec![Target { sample, entry }]),
        }
    }
    groups
}

/// Runs of samples that an engine without checkpoints decodes, with the targets among them.
pub(crate) fn cold_plan(video: &Shared, indices: &[u32]) -> Vec<(Vec<u32>, Vec<u32>)> {
    let sample = |&index: &u32| video.track.frames.get(index as usize).copied();
    let targets = |group: Vec<Target>| {
        let legs = plan(&group, &needs(video), &|_| Vec::new());
        legs.into_iter().map(|leg| (leg.samples, leg.targets)).collect::<Vec<_>>()
    };
    grouped(video, &indices.iter().filter_map(sample).collect()).into_iter().flat_map(targets).collect()
}

/// The checkpoints around a target.
fn near(video: &Shared, target: Target) -> Vec<Arc<Kept>> {
    let near = video.engine.store.within(video.id, target.entry..=target.sample.saturating_add(BEHIND));
    let before = near.partition_point(|kept| kept.state.position <= target.sample);
    let (first, last) = (before.saturating_sub(CANDIDATES), (before + CANDIDATES).min(near.len()));
    near[first..last].to_vec()
}

fn needs(video: &Shared) -> Known<'_> {
    Known::new(&video.track, &*video.source, &video.planner, &video.references)
}

/// Pictures that these frames take, about: from the nearest entry or checkpoint on, each once. Reads nothing.
pub(crate) fn pictures_to_decode(video: &Shared, indices: &[u32]) -> u64 {
    let mut samples: Vec<u32> =
        indices.iter().filter_map(|&index| video.track.frames.get(index as usize).copied()).collect();
    samples.sort_unstable();
    let mut done = 0;
    let pictures = samples.into_iter().map(|sample| {
        let entry = video.planner.likely_entry(&video.track, sample).min(sample);
        let kept = video.engine.store.within(video.id, entry..=sample);
        let from = kept.last().map_or(entry, |kept| kept.state.position + 1).max(done).min(sample);
        done = sample + 1;
        u64::from(sample - from) + 1
    });
    pictures.sum()
}

/// About how many pictures a group takes.
fn pictures(group: &[Target]) -> u64 {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return 0 };
    u64::from(last.sample.saturating_sub(first.entry)) + 1
}

/// A group at work.
struct Group<T> {
    video: Arc<Shared>,
    request: Arc<Request<T>>,
    width: usize,
    turn: Held,
    place: Place,
    /// How often it was overtaken.
    overtaken: u32,
    /// What its pictures are charged to, if they are decoded on the processor.
    memory: Option<Reservation>,
}

/// Why a walk over a leg or a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// It is over.
    Over,
    /// Nobody wants more for now: cancelled, or no room.
    Stopped,
    /// It is another account's turn.
    Overtaken,
    /// The GPU does not do what is left: the processor's workers should.
    Moved,
    /// The bytes of these samples are on their way, and others have work that can be done now.
    Later(Vec<u32>),
    /// It needs more memory for pictures than it has reserved.
    NoRoom(Refused),
}

impl<T: Send + 'static> Group<T> {
    fn new(video: Arc<Shared>, request: Arc<Request<T>>, width: usize, turn: Held, place: Place) -> Group<T> {
        Group { video, request, width, turn, place, overtaken: 0, memory: None }
    }

    /// Is it another account's turn? Only where what was decoded is not lost. Each time after a slice twice as long: every
    /// group ends, even where there is no room for checkpoints.
    fn is_overtaken(&self) -> bool {
        let slice = SLICE * (1 << self.overtaken.min(16));
        self.leaves_checkpoints() && self.video.engine.workers.is_overtaken(slice)
    }

    /// Can decoding go on where it was broken off? Not dav1d's, nor a GPU's.
    fn leaves_checkpoints(&self) -> bool {
        self.place == Place::Processor && self.video.engine.store.is_open() && self.video.track.codec != Codec::Av1
    }

    /// Answers all targets, or puts off those for which there is no room.
    fn answer(mut self, targets: Vec<Target>) {
        if self.place == Place::Processor && self.memory.is_none() {
            let bytes = self.video.picture_bytes_of_run(self.width);
            self.memory = self.video.engine.pictures.try_reserve(Kind::Run, bytes);
            if self.memory.is_none() {
                return self.wait_for_room(targets, bytes);
            }
        }
        let mut pending: BTreeMap<u32, u32> = BTreeMap::new();
        for target in &targets {
            let Some(index) = self.video.planner.frame_of(target.sample) else { continue };
            pending.insert(target.sample, index);
        }
        // Each thread has pictures, and tables, of its own.
        if self.memory.as_ref().is_some_and(Reservation::is_alone) {
            self.width = 1;
        }
        let before = pending.len();
        let end = self.run(&targets, &mut pending);
        // What waits for this run's memory need not wait for what becomes of its targets.
        if let Some(memory) = self.memory.take() {
            self.video.note_pictures(self.width, &memory);
        }
        let (width, height) = self.video.track.parameters.size();
        self.video.engine.relieve((width * height * 4) as u64);
        match end {
            Ok(End::Over) => {
                debug_assert!(pending.is_empty() || self.request.is_cancelled(), "every frame gets one answer");
            }
            Ok(_) if self.request.is_cancelled() => {}
            // More would not have helped, and those that did not need it have their answers.
            Ok(End::NoRoom(refused @ Refused::ForGood { .. })) if pending.len() == before => {
                self.refuse_for_good(refused, pending);
            }
            Ok(end) => {
                let rest: Vec<Target> =
                    targets.into_iter().filter(|target| pending.contains_key(&target.sample)).collect();
                if let End::NoRoom(Refused::ForNow { needed }) = end {
                    return self.wait_for_room(rest, needed);
                }
                let (video, own) = (Arc::clone(&self.video), Arc::clone(&self.request));
                // Who waits for a reader keeps nobody else waiting.
                let turn = if let End::Later(_) | End::Overtaken = end { self.turn.clone() } else { None };
                let place = if end == End::Moved { Place::Processor } else { self.place };
                let pictures = pictures(&targets_of(&pending));
                let overtaken = self.overtaken + u32::from(end == End::Overtaken);
                let answer = move |width| {
                    Group { overtaken, ..Group::new(video, own, width, turn, place) }.answer(rest);
                };
                match end {
                    End::Later(samples) => {
                        approach::put_off(&self.video, &self.request, &samples, (place, pictures), answer);
                    }
                    _ if !pending.is_empty() => self.request.rest(place, pictures, answer),
                    _ => {}
                }
            }
            // No decoder, no memory: that is the answer for all of them.
            Err(error) => {
                let message = error.message();
                let mut error = Some(error);
                for &index in pending.values() {
                    let own = error.take().unwrap_or_else(|| ErrorKind::NeedsUnreadable(message.clone()).into());
                    self.request.give(index, Err(own.at_frame(index)), Duration::ZERO);
                }
            }
        }
    }

    fn run(&self, targets: &[Target], pending: &mut BTreeMap<u32, u32>) -> Result<End> {
        if !self.video.engine.from_entry && !self.video.planner.is_deceived() {
            over!(self.approach(targets)?);
            over!(self.short(targets, pending, self.place)?);
        }
        if self.request.stay() == Stay::Must {
            return Ok(self.refuse(pending));
        }
        if self.place == Place::Device && !pending.is_empty() {
            return Ok(End::Moved);
        }
        for depth in [Depth::Nearest, Depth::Earlier, Depth::Sequential] {
            let left: Vec<u32> = pending.keys().copied().collect();
            for job in self.jobs(&left, depth) {
                if depth != Depth::Sequential && self.lacks_samples(&job) {
                    continue;
                }
                over!(self.long(&job, depth, pending)?);
            }
        }
        Ok(End::Over)
    }

    /// Do samples say that others are missing, in a codec whose decoder does not notice? Then only the last resort will do.
    fn lacks_samples(&self, job: &Job) -> bool {
        let (track, source) = (&self.video.track, &*self.video.source);
        if track.codec != Codec::Av1 {
            return false;
        }
        track.will_need(source, job.entry..=job.last);
        Losses::has_gaps(track, source, job.entry, job.last)
    }

    /// Walks for the long way. Where they begin is not taken from an index file without a look.
    fn jobs(&self, left: &[u32], depth: Depth) -> Vec<Job> {
        let (track, source, planner) = (&self.video.track, &*self.video.source, &self.video.planner);
        let jobs = planner.plan(track, source, left, depth);
        let is_as_told = |job: &Job| {
            planner.told(track).is_none()
                || track
                    .read(source, job.entry, false)
                    .is_ok_and(|data| planner.keeps_promise(track, job.entry, data.data()))
        };
        if jobs.iter().all(is_as_told) { jobs } else { planner.plan(track, source, left, depth) }
    }

    /// The short way.
    fn short(&self, targets: &[Target], pending: &mut BTreeMap<u32, u32>, place: Place) -> Result<End> {
        let video = &*self.video;
        let (track, source) = (&video.track, &*video.source);
        let needs = needs(video);
        let mut left = Vec::with_capacity(targets.len());
        for &target in targets {
            if !pending.contains_key(&target.sample) {
                continue;
            }
            // What a key frame soon after may have dropped only a walk to that key frame tells.
            let last = video.planner.last_for(track, source, target.sample);
            if track.codec == Codec::Hevc && last != target.sample {
                continue;
            }
            if self.request.stay() != Stay::Must
                && let Some(picture) = video.engine.store.picture(video.id, target.sample)
                && !picture.is_corrupt()
                && needs.is_shown(target)
            {
                if self.let_out(target.sample, picture, pending).is_break() {
                    return Ok(End::Stopped);
                }
                continue;
            }
            left.push(target);
        }
        if left.is_empty() {
            return Ok(End::Over);
        }
        // On a device every walk begins at an entry.
        let near = |target| if place == Place::Device { Vec::new() } else { near(video, target) };
        let legs = plan(&left, &needs, &near);
        if track.codec == Codec::Av1 && left.iter().any(|&target| needs.follows_loss(target)) {
            return Ok(End::Over);
        }
        track.will_need(source, legs.iter().flat_map(|leg| leg.samples.iter().chain(&leg.sets).copied()));
        let keeper = self.keeper(&needs);
        for leg in &legs {
            over!(self.unless_awaited(leg.samples.iter().chain(&leg.sets).copied()));
            over!(match place {
                Place::Device => self.leg_on_device(leg, &keeper, pending)?,
                Place::Processor => self.leg_learned(leg, &keeper, pending)?,
            });
        }
        Ok(End::Over)
    }

    fn keeper<'a>(&'a self, needs: &'a Known<'a>) -> Keeper<'a> {
        let engine = &self.video.engine;
        Keeper { store: &engine.store, video: self.video.id, spacing: engine.spacing, needs }
    }

    /// Makes one leg. Anything unexpected ends it, and leaves what is left to the long way.
    fn leg(&self, leg: &Leg, keeper: &Keeper<'_>, pending: &mut BTreeMap<u32, u32>) -> Result<End> {
        let mut left = leg.targets.len();
        let mut end = End::Over;
        let width = self.width.min(leg.samples.len().next_power_of_two());
        let mut lease = self.video.lease_for(width, leg, self.memory.as_ref())?;
        let awaited = Cell::new(None);
        let may_read = |sample: u32| self.may_read(sample, &awaited);
        let walk = Walk { may_read: Some(&may_read), ..self.video.walk(false) };
        let run = walk.run_leg(&mut lease, leg, keeper, &mut |event| {
            let Event::Picture(sample, picture) = event else { return ControlFlow::Break(()) };
            if picture.is_corrupt() {
                return ControlFlow::Break(());
            }
            if leg.targets.binary_search(&sample).is_ok() && pending.contains_key(&sample) {
                left -= 1;
                if self.let_out(sample, picture, pending).is_break() {
                    end = End::Stopped;
                    return ControlFlow::Break(());
                }
            }
            if self.request.is_cancelled() {
                end = End::Stopped;
            }
            if end == End::Over && left > 0 && self.is_overtaken() {
                end = End::Overtaken;
            }
            // Nothing is left to wait for: what is still in the decoder nobody asked for.
            if left == 0 || end != End::Over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        self.video.learn_of_ends(lease.decoder().found(), self.memory.as_ref());
        let _ = run?;
        if left > 0 {
            end = self.unless_put_off(end, &awaited);
            if end == End::Over {
                end = self.unless_refused();
            }
        }
        Ok(end)
    }

    /// Gives a picture to whoever asked for it. Breaks when no more is wanted for now.
    fn let_out(&self, sample: u32, picture: ffi::Frame, pending: &mut BTreeMap<u32, u32>) -> ControlFlow<()> {
        let Some(index) = pending.remove(&sample) else { return ControlFlow::Continue(()) };
        self.give(index, self.video.let_out(index, sample, picture))
    }

    fn give(&self, index: u32, result: Result<crate::session::video::VideoFrame>) -> ControlFlow<()> {
        let patience = match self.place {
            Place::Device => PATIENCE_ON_DEVICE,
            Place::Processor if self.leaves_checkpoints() => Duration::ZERO,
            Place::Processor => PATIENCE,
        };
        if self.request.give(index, result, patience) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    /// The long way: makes one walk. Targets that it settles leave `pending`: a picture that nothing speaks against, and
    /// at the last resort whatever a sequential decode would give.
    fn long(&self, job: &Job, depth: Depth, pending: &mut BTreeMap<u32, u32>) -> Result<End> {
        let video = &*self.video;
        // The first try reads in place. A second one is made only when something is wrong, and then with zeros behind
        // each sample, as a sequential reader has them: a damaged sample may make the decoder look there.
        let zeros = depth > Depth::Nearest;
        let conceals = video.track.codec == Codec::H264;
        let is_last_resort = depth == Depth::Sequential || (zeros && job.is_self_contained && !conceals);
        video.track.will_need(&*video.source, job.entry..=job.last);
        over!(self.unless_awaited(job.entry..=job.last));
        let memory = self.memory.as_ref();
        let mut lease =
            if is_last_resort { video.sequential_lease(true, memory)? } else { video.lease(self.width, memory)? };
        let losses = if is_last_resort { video.losses(job.entry, job.last, memory) } else { Losses::default() };
        let verdict = Verdict { losses, ..Verdict::default() };
        // Nothing of this try is let out after damage. Where its pictures exceed the budget, none more are made for nothing.
        let is_alone = memory.is_some_and(Reservation::is_alone);
        let after_damage = if is_alone && !is_last_resort { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let mut end = End::Over;
        let mut left = job.targets.len();
        let pending = RefCell::new(pending);
        // Pictures that another job waits for may pass by here too, from an entry that does not promise them.
        let take = |sample: u32| {
            job.targets.binary_search(&sample).ok()?;
            pending.borrow_mut().remove(&sample)
        };
        let awaited = Cell::new(None);
        let may_read = |sample: u32| self.may_read(sample, &awaited);
        let walk = Walk { may_read: Some(&may_read), ..video.walk(zeros) };
        let run = walk.run(&mut lease, job.entry, job.last, &mut |event| {
            if self.request.is_cancelled() {
                end = End::Stopped;
                return ControlFlow::Break(());
            }
            let (index, result) = match event {
                Event::Damage(_, error) => {
                    verdict.damaged(error);
                    return after_damage;
                }
                Event::Unreadable(sample, error) => {
                    verdict.unreadable(sample, &error);
                    let Some(index) = take(sample) else { return ControlFlow::Continue(()) };
                    (index, Err(error.at_frame(index)))
                }
                Event::Picture(sample, mut picture) => {
                    if (verdict.damage.get().is_some() || picture.is_corrupt()) && !is_last_resort {
                        verdict.damaged(AvError::INVALID_DATA);
                        return after_damage;
                    }
                    if verdict.lost.get().is_some_and(|lost| video.may_need(sample, lost)) {
                        return ControlFlow::Continue(());
                    }
                    let Some(index) = take(sample) else { return ControlFlow::Continue(()) };
                    if verdict.losses.may_show_in(sample, video) {
                        picture.set_corrupt();
                    }
                    (index, video.let_out(index, sample, picture))
                }
            };
            left -= 1;
            if self.give(index, result).is_break() {
                end = End::Stopped;
            }
            // Nothing is left to wait for: what is still in the decoder nobody asked for.
            if left == 0 || end == End::Stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        video.learn_of_ends(lease.decoder().found(), memory);
        verdict.claims(lease.decoder().claimed_size(), video.engine.max_pixels);
        let _ = run?;
        if left > 0 {
            end = self.unless_put_off(end, &awaited);
        }
        if end == End::Over
            && left > 0
            && let End::NoRoom(refused) = self.unless_refused()
        {
            if let Refused::ForGood { .. } = refused {
                let targets = job.targets.iter().filter_map(|&sample| Some((sample, take(sample)?))).collect();
                self.refuse_for_good(refused, targets);
            }
            return Ok(End::NoRoom(refused));
        }
        let is_settled = is_last_resort || (verdict.damage.get().is_none() && job.is_self_contained);
        if end != End::Over || left == 0 || !is_settled {
            return Ok(end);
        }
        for &sample in &job.targets {
            let Some(index) = take(sample) else { continue };
            if self.give(index, Err(self.missing(index, sample, &verdict))).is_break() {
                end = End::Stopped;
            }
        }
        Ok(end)
    }

    fn missing(&self, index: u32, sample: u32, verdict: &Verdict) -> Error {
        let limit = self.video.engine.max_pixels;
        let kind = match (verdict.unreadable.borrow().clone(), verdict.damage.get(), verdict.too_large.get()) {
            (_, _, Some((width, height))) => ErrorKind::TooManyPixels { width, height, limit },
            (Some(why), ..) => ErrorKind::NeedsUnreadable(why),
            (None, Some(error), _) => ErrorKind::Damaged(error),
            (None, None, _) => ErrorKind::NotShown,
        };
        let (track, source) = (&self.video.track, &self.video.source);
        let offset = track.samples[sample as usize].offset;
        let error = Error::from(kind).at_frame(index).at_sample(sample, Some(offset)).of(source.name());
        // A source that changed explains a missing picture better than anything else.
        source.check().err().map_or(error, |changed| changed.at_frame(index))
    }
}

fn targets_of(pending: &BTreeMap<u32, u32>) -> Vec<Target> {
    pending.keys().map(|&sample| Target { sample, entry: sample }).collect()
}

/// What spoke against the pictures of a walk.
#[derive(Default)]
struct Verdict {
    damage: Cell<Option<AvError>>,
    unreadable: RefCell<Option<String>>,
    /// The last sample that is in the file and could not be read all the same. Where a file ends early, a sequential decode
    /// goes on without what is missing, and what it shows is right; a disk or a server that fails tells nothing about it.
    lost: Cell<Option<u32>>,
    /// Samples that came to nothing.
    losses: Losses,
    /// A size that is not allowed.
    too_large: Cell<Option<(usize, usize)>>,
}

impl Verdict {
    fn damaged(&self, error: AvError) {
        self.damage.set(self.damage.get().or(Some(error)));
    }

    fn claims(&self, (width, height): (usize, usize), limit: u64) {
        if self.damage.get().is_some() && width as u64 * height as u64 > limit {
            self.too_large.set(Some((width, height)));
        }
    }

    fn unreadable(&self, sample: u32, error: &Error) {
        self.damaged(AvError::INVALID_DATA);
        self.losses.add(sample);
        if !matches!(error.kind(), ErrorKind::PastEnd { .. }) {
            self.lost.set(Some(sample));
        }
        self.unreadable.borrow_mut().get_or_insert_with(|| format!("{} (sample {sample})", error.message()));
    }
}
