//! Schedules a request: groups targets, makes tasks of the groups, and resubmits tasks that are interrupted.
//!
//! Targets that can share a picture are in one group; a group is one task on one device. Groups of a remote source
//! begin when fetch admission has room for their bytes. How a group is answered is left to [`attempt`](super::attempt).

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::device::{DecodeDevice, Residency};
use crate::error::{Error, ErrorKind, Result};
use crate::picture_memory::{Kind, Refused, Reservation};
use crate::plan::Depth;
use crate::plan::route::{Target, plan};
use crate::session::attempt::{Attempt, Interrupt, Pending, Step, checkpoints_near};
use crate::session::frame::{DecodedFrame, VideoFrame};
use crate::session::prefetch::admission::Held;
use crate::session::prefetch::in_flight::{missing_bytes, will_plan};
use crate::session::results::{Charged, FrameFuture, Frames, Payer, Reader, Request, unanswered};
use crate::session::shared::VideoState;

/// The estimated decode time of one thread, in nanoseconds for each pixel.
const NS_PER_PIXEL: u64 = 4;
/// The room for bytes is divided into this many bundles, so that neighbouring ranges are fetched together.
const BUNDLES: u64 = 8;

/// Requests the frames `indices`, made by `make`, charged to an account.
pub(crate) fn request<T: Send + 'static>(
    video: &Arc<VideoState>,
    indices: &[u32],
    account: Charged,
    residency: Residency,
    make: impl Fn(u32, Result<DecodedFrame>) -> T + Send + Sync + 'static,
) -> Frames<T> {
    let payer = Payer { account, picture_ns: picture_ns(video) };
    let request = Request::new(video.engine.for_requests(), Box::new(make), payer, residency);
    let indices: BTreeSet<u32> = indices.iter().copied().collect();
    if !video.engine.owner.is_here() {
        return Frames::of(request, indices);
    }
    let reader: Arc<dyn Reader> = Arc::clone(&request) as Arc<dyn Reader>;
    submit(video, &reader, &indices);
    Frames::of(request, indices)
}

/// Requests the frames `indices` in the host's memory.
pub(crate) fn frames(video: &Arc<VideoState>, indices: &[u32]) -> Frames {
    let make = |_, frame: Result<DecodedFrame>| frame.and_then(DecodedFrame::into_host);
    request(video, indices, Charged::default(), Residency::Host, make)
}

/// Decodes one frame in the host's memory.
pub(crate) fn frame(video: &Arc<VideoState>, index: u32) -> Result<VideoFrame> {
    let first = frames(video, &[index]).next();
    first.map_or_else(|| Err(unanswered(index).of(video.source.name())), |(_, result)| result)
}

/// As [`frame`], without a read in the caller's thread: a worker plans the task.
pub(crate) fn frame_async(video: &Arc<VideoState>, index: u32) -> FrameFuture {
    let payer = Payer { account: Charged::default(), picture_ns: picture_ns(video) };
    let make = Box::new(|_, frame: Result<DecodedFrame>| frame.and_then(DecodedFrame::into_host));
    let request = Request::new(video.engine.for_requests(), make, payer, Residency::Host);
    if !video.engine.owner.is_here() {
        return FrameFuture::of(Frames::of(request, BTreeSet::new()), index);
    }
    let (video, reader) = (Arc::clone(video), Arc::clone(&request) as Arc<dyn Reader>);
    let (host, asked) = (video.engine.devices.host(), Arc::clone(&reader));
    reader.submit(&host, 1, Box::new(move |_| submit(&video, &asked, &BTreeSet::from([index]))));
    FrameFuture::of(Frames::of(request, BTreeSet::new()), index)
}

/// The estimated cost of one picture, in nanoseconds of one thread.
pub(crate) fn picture_ns(video: &VideoState) -> u64 {
    let (width, height) = video.track.parameters.size();
    (width as u64).saturating_mul(height as u64).saturating_mul(NS_PER_PIXEL)
}

/// Submits tasks for the frames `indices`.
fn submit(video: &Arc<VideoState>, reader: &Arc<dyn Reader>, indices: &BTreeSet<u32>) {
    let frames = video.track.frames.len();
    let mut samples = BTreeSet::new();
    for &index in indices {
        match video.track.frames.get(index as usize) {
            Some(&sample) => _ = samples.insert(sample),
            None => {
                let error = Error::from(ErrorKind::NoSuchFrame { frames }).at_frame(index).of(video.source.name());
                reader.give(index, Err(error), Duration::ZERO);
            }
        }
    }
    if video.source.is_remote() {
        submit_when_admitted(video, reader, &samples);
    } else {
        submit_groups(video, reader, &samples, &None);
    }
}

fn submit_groups(video: &Arc<VideoState>, reader: &Arc<dyn Reader>, samples: &BTreeSet<u32>, admitted: &Held) {
    let mut groups = grouped(video, samples);
    // The longest first, so that it does not run alone at the end. But groups in a row are also shown in a row.
    if !are_in_a_row(&groups) {
        groups.sort_by_key(|group| std::cmp::Reverse(pictures(group)));
    }
    for group in groups {
        let device = device_for(video, reader.residency(), &group);
        let length = pictures(&group);
        let start = Start::new(video, reader, &device, admitted.clone());
        Arc::clone(reader).submit(&device, length, Box::new(move |width| start.answer(group, width)));
    }
}

/// Submits tasks for `samples` of a remote source. Samples are grouped by their likely entries, without reading. A
/// group's task begins when admission has room for its bytes and the bytes that planning looks at have arrived.
fn submit_when_admitted(video: &Arc<VideoState>, reader: &Arc<dyn Reader>, samples: &BTreeSet<u32>) {
    let (track, planner, room) = (&video.track, &video.planner, video.source.room());
    let host = video.engine.devices.host();
    let groups = grouped_by(samples, |sample| planner.likely_entry(track, sample));
    for (bundle, bytes) in bundled(groups, room / BUNDLES, |group| missing(video, group)) {
        let admitted = Arc::new(OnceLock::new());
        let mut waiting = Vec::with_capacity(bundle.len());
        for group in &bundle {
            let samples: BTreeSet<u32> = group.iter().map(|target| target.sample).collect();
            let (own, asked, held): (_, _, Held) = (Arc::clone(video), Arc::clone(reader), Some(Arc::clone(&admitted)));
            let task = Box::new(move |_| submit_groups(&own, &asked, &samples, &held));
            let when = Box::new(|then| waiting.push((group[0].entry, then)));
            Arc::clone(reader).submit_when(&host, pictures(group), task, when);
        }
        let (own, asked) = (Arc::clone(video), Arc::clone(reader));
        video.engine.admission.admit(bytes, room, move |begun| {
            let _ = admitted.set(begun);
            if asked.is_cancelled() {
                // A cancelled request fetches nothing.
                return waiting.into_iter().for_each(|(_, then): (u32, Box<dyn FnOnce() + Send>)| then());
            }
            let targets = bundle.iter().flatten().map(|target| target.sample);
            will_plan((&own.track, &*own.source), (&own.planner, &own.references), targets);
            for (entry, then) in waiting {
                let looked_at = own.planner.unread_for_entry(&own.track, entry);
                own.source.when_here(&mut looked_at.into_iter(), then);
            }
        });
    }
    if let (Some(&sample), 1) = (samples.first(), samples.len()) {
        let ahead = planner.frame_of(sample).and_then(|frame| {
            let entry = planner.likely_entry(track, sample);
            video.pattern.note(track, (sample, frame), entry, |sample| planner.sync_before(sample))
        });
        // After the bytes that the request needs: the source sends its requests in this order.
        video.source.will_need(&mut ahead.into_iter());
    }
}

/// Groups that are fetched together, each bundle with at most `most` bytes (or one group); with the bytes of each
/// bundle.
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

/// Bytes from a group's entry to its last target that are not here: an upper bound of what is fetched.
fn missing(video: &VideoState, group: &[Target]) -> u64 {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return 0 };
    missing_bytes(&video.track, &*video.source, first.entry..=last.sample)
}

/// The device for a group.
fn device_for(video: &VideoState, residency: Residency, group: &[Target]) -> Arc<dyn DecodeDevice> {
    let is_host_only = video.is_refused.load(std::sync::atomic::Ordering::Relaxed) || video.engine.from_entry;
    let from_checkpoints = || pictures_from_checkpoints(video, group);
    video.engine.devices.choose(video.kind(), residency, is_host_only, pictures(group), from_checkpoints)
}

/// Estimated pictures of a group with the checkpoints in memory.
fn pictures_from_checkpoints(video: &VideoState, group: &[Target]) -> u64 {
    let mut decoded_to = None;
    let mut sum = 0;
    for target in group {
        let held = checkpoints_near(video, *target);
        let before = held.iter().rev().map(|kept| kept.state.position).find(|&position| position <= target.sample);
        let from = before.into_iter().chain(decoded_to).max().unwrap_or(target.entry).max(target.entry);
        sum += u64::from(target.sample.saturating_sub(from));
        decoded_to = Some(target.sample);
    }
    sum.max(1)
}

/// True if each group begins where the one before ends.
fn are_in_a_row(groups: &[Vec<Target>]) -> bool {
    groups.windows(2).all(|pair| match (pair[0].last(), pair[1].first()) {
        // The second field of a picture may lie between them.
        (Some(last), Some(next)) => next.entry <= last.sample.saturating_add(2),
        _ => false,
    })
}

/// Groups of targets that may share pictures, in decode order.
fn grouped(video: &VideoState, samples: &BTreeSet<u32>) -> Vec<Vec<Target>> {
    grouped_by(samples, |sample| video.planner.entry_for(&video.track, &*video.source, sample, Depth::Nearest).0)
}

fn grouped_by(samples: &BTreeSet<u32>, entry_for: impl Fn(u32) -> u32) -> Vec<Vec<Target>> {
    let mut groups: Vec<Vec<Target>> = Vec::new();
    for &sample in samples {
        let entry = entry_for(sample);
        match groups.last_mut() {
            // A decode run over the group passes the entry of this target: they share pictures.
            Some(group) if group.last().is_some_and(|last| entry <= last.sample) && group[0].entry <= entry => {
                group.push(Target { sample, entry });
            }
            _ => groups.push(vec![Target { sample, entry }]),
        }
    }
    groups
}

/// Decode runs of an engine without checkpoints: the samples, and the targets among them.
pub(crate) fn cold_plan(video: &VideoState, indices: &[u32]) -> Vec<(Vec<u32>, Vec<u32>)> {
    let sample = |&index: &u32| video.track.frames.get(index as usize).copied();
    let targets = |group: Vec<Target>| {
        let legs = plan(&group, &video.needs(), &|_| Vec::new());
        legs.into_iter().map(|leg| (leg.samples, leg.targets)).collect::<Vec<_>>()
    };
    grouped(video, &indices.iter().filter_map(sample).collect()).into_iter().flat_map(targets).collect()
}

/// Estimated pictures for these frames: from the nearest entry or checkpoint on, each once. Reads nothing.
pub(crate) fn pictures_to_decode(video: &VideoState, indices: &[u32]) -> u64 {
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

/// Estimated pictures of a group without checkpoints.
fn pictures(group: &[Target]) -> u64 {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return 0 };
    u64::from(last.sample.saturating_sub(first.entry)) + 1
}

/// The initial state of an attempt at a group.
struct Start {
    video: Arc<VideoState>,
    reader: Arc<dyn Reader>,
    device: Arc<dyn DecodeDevice>,
    admitted: Held,
    /// Number of times that it was interrupted for another account.
    overtaken: u32,
    memory: Option<Reservation>,
}

impl Start {
    fn new(video: &Arc<VideoState>, reader: &Arc<dyn Reader>, device: &Arc<dyn DecodeDevice>, admitted: Held) -> Start {
        let (video, reader, device) = (Arc::clone(video), Arc::clone(reader), Arc::clone(device));
        Start { video, reader, device, admitted, overtaken: 0, memory: None }
    }

    /// Answers all targets with decoders of `width` threads, or waits for picture memory.
    fn answer(mut self, targets: Vec<Target>, width: usize) {
        let (video, device) = (Arc::clone(&self.video), Arc::clone(&self.device));
        if device.traits(&video.track).is_host && self.memory.is_none() {
            let bytes = video.picture_bytes_of_run(width);
            self.memory = video.engine.pictures.try_reserve(Kind::Run, bytes);
            if self.memory.is_none() {
                return self.wait_for_room(targets, bytes);
            }
        }
        // Inserted one by one: `collect` would allocate a list of them first.
        let mut pending = Pending::new();
        for target in &targets {
            if let Some(index) = video.planner.frame_of(target.sample) {
                pending.insert(target.sample, index);
            }
        }
        // Each thread has its own pictures and tables.
        let width = if self.memory.as_ref().is_some_and(Reservation::is_alone) { 1 } else { width };
        let before = pending.len();
        let Start { video, reader, device, admitted, overtaken, memory } = self;
        let mut attempt = Attempt { video, reader, device, width, admitted, overtaken, memory };
        let step = attempt.run(&targets, &mut pending);
        // Runs that wait for this run's memory need not wait for the targets to be resubmitted.
        if let Some(memory) = attempt.memory.take() {
            attempt.video.note_pictures(width, &memory);
        }
        let (columns, rows) = attempt.video.track.parameters.size();
        attempt.video.engine.relieve((columns * rows * 4) as u64);
        go_on(attempt, step, targets, pending, before);
    }

    /// Resubmits the task once `bytes` can be reserved. The worker goes on with other tasks.
    fn wait_for_room(self, targets: Vec<Target>, bytes: u64) {
        let (video, reader, waits) = (Arc::clone(&self.video), Arc::clone(&self.reader), Arc::clone(&self.reader));
        let (device, length) = (Arc::clone(&self.device), pictures(&targets));
        let slot = Arc::new(OnceLock::new());
        let held = Arc::clone(&slot);
        let task = move |width| {
            let memory = Arc::into_inner(held).and_then(OnceLock::into_inner);
            Start { memory, ..self }.answer(targets, width);
        };
        let when = move |then: Box<dyn FnOnce() + Send>| {
            let is_cancelled = move || waits.is_cancelled();
            video.engine.pictures.when_room(Kind::Run, bytes, is_cancelled, move |memory| {
                let _ = slot.set(memory);
                drop(slot);
                then();
            });
        };
        reader.submit_when(&device, length, Box::new(task), Box::new(when));
    }
}

/// Resubmits the pending targets of an attempt, or answers them with an error. `before` is the number of targets that
/// were pending at its beginning.
fn go_on(attempt: Attempt, step: Step, targets: Vec<Target>, pending: Pending, before: usize) {
    let Err(interrupt) = step else {
        debug_assert!(pending.is_empty() || attempt.reader.is_cancelled(), "every frame gets one answer");
        return;
    };
    if let Interrupt::Failed(error) = interrupt {
        return fail(&attempt, error, &pending);
    }
    if attempt.reader.is_cancelled() {
        return;
    }
    let rest: Vec<Target> = targets.into_iter().filter(|target| pending.contains_key(&target.sample)).collect();
    // In samples, from the first remaining target to the last.
    let length = rest.first().zip(rest.last()).map_or(0, |(first, last)| u64::from(last.sample - first.sample) + 1);
    let (reader, video) = (Arc::clone(&attempt.reader), Arc::clone(&attempt.video));
    let mut start = Start::new(&video, &reader, &attempt.device, None);
    start.overtaken = attempt.overtaken;
    match interrupt {
        // The budget cannot grant more, and no target got its answer with less.
        Interrupt::NoRoom(Refused::ForGood { needed }) if pending.len() == before => {
            attempt.refuse_for_good(needed, pending);
            return;
        }
        Interrupt::NoRoom(Refused::ForNow { needed }) => {
            start.admitted = attempt.admitted;
            start.wait_for_room(rest, needed);
            return;
        }
        Interrupt::InFlight(samples) => {
            start.admitted = attempt.admitted;
            let ranges: Vec<_> = samples.iter().filter_map(|&sample| video.track.extent(sample)).collect();
            let device = Arc::clone(&start.device);
            let answer = Box::new(move |width| start.answer(rest, width));
            let when = Box::new(|then| video.source.when_here(&mut ranges.into_iter(), then));
            reader.submit_when(&device, length, answer, when);
            return;
        }
        Interrupt::Overtaken => {
            start.admitted = attempt.admitted;
            start.overtaken += 1;
        }
        Interrupt::Moved => start.device = video.engine.devices.host(),
        // A task that waits for its reader does not hold back the bytes of other groups.
        Interrupt::Stopped | Interrupt::NoRoom(_) | Interrupt::Failed(_) => {}
    }
    if !rest.is_empty() {
        let device = Arc::clone(&start.device);
        reader.rest(&device, length, Box::new(move |width| start.answer(rest, width)));
    }
}

/// Answers all pending targets with an error.
fn fail(attempt: &Attempt, error: Error, pending: &Pending) {
    let message = error.message();
    // All get the error's kind. A read error cannot be copied: the frames after the first get its text.
    let repeat = |kind: &ErrorKind| kind.repeated().unwrap_or_else(|| ErrorKind::NeedsUnreadable(message.clone()));
    let mut next = Some(error);
    let mut pending = pending.values().peekable();
    while let (Some(&index), Some(error)) = (pending.next(), next.take()) {
        next = pending.peek().map(|_| repeat(error.kind()).into());
        let own = error.of(attempt.video.source.name()).at_frame(index);
        attempt.reader.give(index, Err(own), Duration::ZERO);
    }
}
