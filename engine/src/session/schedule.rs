//! Schedules a request: groups targets, makes tasks of the groups, and resubmits interrupted tasks.
//!
//! Targets that can share a picture are in one group; a group is one task on one device. Groups of a remote source
//! begin when fetch admission has room for their bytes. Answering a group is left to [`attempt`](super::attempt).

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::device::{DecodeDevice, Residency};
use crate::error::{Error, ErrorKind, Result};
use crate::picture_memory::{Reservation, ReservationKind, ReservationRefusal};
use crate::plan::Depth;
use crate::plan::runs::{PlannedRun, Target, plan};
use crate::session::attempt::{Attempt, AttemptResult, Interrupt, Pending, checkpoints_near};
use crate::session::frame::{DecodedFrame, VideoFrame};
use crate::session::prefetch::admission::SharedFetchPermit;
use crate::session::prefetch::in_flight::{missing_bytes, prefetch_for_planning};
use crate::session::results::{Billing, FrameFuture, FrameRequest, Frames, RequestAccount, ResultSink, unanswered};
use crate::session::shared::VideoState;

/// The estimated decode time of one thread, in nanoseconds for each pixel.
const NS_PER_PIXEL: u64 = 4;
/// The room for bytes is divided into this many bundles, so that neighbouring ranges are fetched together.
const BUNDLES: u64 = 8;

/// Requests the frames `indices`. `make` makes the results; the tasks are charged to an account.
pub(crate) fn request<T: Send + 'static>(
    video: &Arc<VideoState>,
    indices: &[u32],
    account: RequestAccount,
    residency: Residency,
    make: impl Fn(u32, Result<DecodedFrame>) -> T + Send + Sync + 'static,
) -> Frames<T> {
    let billing = Billing { account, picture_ns: picture_ns(video) };
    let request = FrameRequest::new(video.engine.for_requests(), Box::new(make), billing, residency);
    let indices: BTreeSet<u32> = indices.iter().copied().collect();
    if !video.engine.owner.is_current() {
        return Frames::of(request, indices);
    }
    let sink: Arc<dyn ResultSink> = Arc::clone(&request) as Arc<dyn ResultSink>;
    submit(video, &sink, &indices);
    Frames::of(request, indices)
}

/// Requests the frames `indices` in the host's memory.
pub(crate) fn frames(video: &Arc<VideoState>, indices: &[u32]) -> Frames {
    let make = |_, frame: Result<DecodedFrame>| frame.and_then(DecodedFrame::into_host);
    request(video, indices, RequestAccount::default(), Residency::Host, make)
}

/// Decodes one frame in the host's memory.
pub(crate) fn frame(video: &Arc<VideoState>, index: u32) -> Result<VideoFrame> {
    let first = frames(video, &[index]).next();
    first.map_or_else(|| Err(unanswered(index).of(video.source.name())), |(_, result)| result)
}

/// As [`frame`], without a read on the caller's thread: a worker plans the task.
pub(crate) fn frame_async(video: &Arc<VideoState>, index: u32) -> FrameFuture {
    let billing = Billing { account: RequestAccount::default(), picture_ns: picture_ns(video) };
    let make = Box::new(|_, frame: Result<DecodedFrame>| frame.and_then(DecodedFrame::into_host));
    let request = FrameRequest::new(video.engine.for_requests(), make, billing, Residency::Host);
    if !video.engine.owner.is_current() {
        return FrameFuture::of(Frames::of(request, BTreeSet::new()), index);
    }
    let (video, sink) = (Arc::clone(video), Arc::clone(&request) as Arc<dyn ResultSink>);
    let (host, task_sink) = (video.engine.devices.host(), Arc::clone(&sink));
    sink.submit(&host, 1, Box::new(move |_| submit(&video, &task_sink, &BTreeSet::from([index]))));
    FrameFuture::of(Frames::of(request, BTreeSet::new()), index)
}

/// The estimated cost of one picture, in nanoseconds of one thread.
pub(crate) fn picture_ns(video: &VideoState) -> u64 {
    let (width, height) = video.track.parameters.size();
    (width as u64).saturating_mul(height as u64).saturating_mul(NS_PER_PIXEL)
}

/// Submits tasks for the frames `indices`.
fn submit(video: &Arc<VideoState>, sink: &Arc<dyn ResultSink>, indices: &BTreeSet<u32>) {
    let frames = video.track.frames.len();
    let mut samples = BTreeSet::new();
    for &index in indices {
        match video.track.frames.get(index as usize) {
            Some(&sample) => _ = samples.insert(sample),
            None => {
                let error = Error::from(ErrorKind::NoSuchFrame { frames }).at_frame(index).of(video.source.name());
                sink.deliver(index, Err(error), Duration::ZERO);
            }
        }
    }
    if video.source.is_remote() {
        submit_when_admitted(video, sink, &samples);
    } else {
        submit_groups(video, sink, &samples, &None);
    }
}

fn submit_groups(
    video: &Arc<VideoState>,
    sink: &Arc<dyn ResultSink>,
    samples: &BTreeSet<u32>,
    permit: &SharedFetchPermit,
) {
    let mut groups = grouped(video, samples);
    // The longest group first, so that it does not run alone at the end. But consecutive groups are also shown one
    // after another.
    if !are_in_a_row(&groups) {
        groups.sort_by_key(|group| std::cmp::Reverse(pictures(group)));
    }
    for group in groups {
        let device = device_for(video, sink.residency(), &group);
        let length = pictures(&group);
        let start = AttemptSetup::new(video, sink, &device, permit.clone());
        Arc::clone(sink).submit(&device, length, Box::new(move |width| start.answer(group, width)));
    }
}

/// Submits tasks for `samples` of a remote source. Samples are grouped by their likely random access points, without a
/// read. A group's task begins when admission has room for its bytes, and the bytes that planning reads have arrived.
fn submit_when_admitted(video: &Arc<VideoState>, sink: &Arc<dyn ResultSink>, samples: &BTreeSet<u32>) {
    let (track, planner, room) = (&video.track, &video.planner, video.source.prefetch_capacity());
    let host = video.engine.devices.host();
    let groups = grouped_by(samples, |sample| planner.likely_start(track, sample));
    for (bundle, bytes) in bundled(groups, room / BUNDLES, |group| missing_group_bytes(video, group)) {
        let permit = Arc::new(OnceLock::new());
        let mut waiting = Vec::with_capacity(bundle.len());
        for group in &bundle {
            let samples: BTreeSet<u32> = group.iter().map(|target| target.sample).collect();
            let (task_video, task_sink, task_permit): (_, _, SharedFetchPermit) =
                (Arc::clone(video), Arc::clone(sink), Some(Arc::clone(&permit)));
            let task = Box::new(move |_| submit_groups(&task_video, &task_sink, &samples, &task_permit));
            let when = Box::new(|then| waiting.push((group[0].start, then)));
            Arc::clone(sink).submit_when(&host, pictures(group), task, when);
        }
        let (bundle_video, bundle_sink) = (Arc::clone(video), Arc::clone(sink));
        video.engine.admission.admit(bytes, room, move |fetch_permit| {
            let _ = permit.set(fetch_permit);
            if bundle_sink.is_cancelled() {
                // A cancelled request fetches nothing.
                return waiting.into_iter().for_each(|(_, then): (u32, Box<dyn FnOnce() + Send>)| then());
            }
            let targets = bundle.iter().flatten().map(|target| target.sample);
            prefetch_for_planning(
                (&bundle_video.track, &*bundle_video.source),
                (&bundle_video.planner, &bundle_video.references),
                targets,
            );
            for (start, then) in waiting {
                let looked_at = bundle_video.planner.unread_for_sync_sample(&bundle_video.track, start);
                bundle_video.source.on_available(&mut looked_at.into_iter(), then);
            }
        });
    }
    if let (Some(&sample), 1) = (samples.first(), samples.len()) {
        let ahead = planner.frame_of(sample).and_then(|frame| {
            let start = planner.likely_start(track, sample);
            video.pattern.note(track, (sample, frame), start, |sample| planner.sync_before(sample))
        });
        // After the bytes that the request needs: the source sends its requests in this order.
        video.source.will_need(&mut ahead.into_iter());
    }
}

/// Bundles of groups that are fetched together, each with at most `most` bytes (or one group), and the bytes of each
/// bundle.
fn bundled(groups: Vec<Vec<Target>>, most: u64, bytes: impl Fn(&[Target]) -> u64) -> Vec<(Vec<Vec<Target>>, u64)> {
    let mut bundles: Vec<(Vec<Vec<Target>>, u64)> = Vec::new();
    for group in groups {
        let group_bytes = bytes(&group);
        match bundles.last_mut() {
            Some((bundle, held)) if held.saturating_add(group_bytes) <= most => {
                bundle.push(group);
                *held += group_bytes;
            }
            _ => bundles.push((vec![group], group_bytes)),
        }
    }
    bundles
}

/// Bytes from a group's first sample to its last target that have not arrived: an upper bound of the bytes to fetch.
fn missing_group_bytes(video: &VideoState, group: &[Target]) -> u64 {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return 0 };
    missing_bytes(&video.track, &*video.source, first.start..=last.sample)
}

/// The device for a group.
fn device_for(video: &VideoState, residency: Residency, group: &[Target]) -> Arc<dyn DecodeDevice> {
    let is_host_only =
        video.is_unsupported.load(std::sync::atomic::Ordering::Relaxed) || video.engine.from_random_access_point;
    let from_checkpoints = || pictures_from_checkpoints(video, group);
    video.engine.devices.choose(video.kind(), residency, is_host_only, pictures(group), from_checkpoints)
}

/// Estimated pictures of a group with the checkpoints in memory.
fn pictures_from_checkpoints(video: &VideoState, group: &[Target]) -> u64 {
    let mut decoded_to = None;
    let mut sum = 0;
    for target in group {
        let checkpoints = checkpoints_near(video, *target);
        let before =
            checkpoints.iter().rev().map(|kept| kept.state.position).find(|&position| position <= target.sample);
        let from = before.into_iter().chain(decoded_to).max().unwrap_or(target.start).max(target.start);
        sum += u64::from(target.sample.saturating_sub(from));
        decoded_to = Some(target.sample);
    }
    sum.max(1)
}

/// True if each group begins where the preceding one ends.
fn are_in_a_row(groups: &[Vec<Target>]) -> bool {
    groups.windows(2).all(|pair| match (pair[0].last(), pair[1].first()) {
        // The second field of a picture may lie between them.
        (Some(last), Some(next)) => next.start <= last.sample.saturating_add(2),
        _ => false,
    })
}

/// Groups of targets that may share pictures, in decode order.
fn grouped(video: &VideoState, samples: &BTreeSet<u32>) -> Vec<Vec<Target>> {
    grouped_by(samples, |sample| video.planner.start_for(&video.track, &*video.source, sample, Depth::Nearest).0)
}

fn grouped_by(samples: &BTreeSet<u32>, start_for: impl Fn(u32) -> u32) -> Vec<Vec<Target>> {
    let mut groups: Vec<Vec<Target>> = Vec::new();
    for &sample in samples {
        let start = start_for(sample);
        match groups.last_mut() {
            // A decode run over the group passes the random access point of this target: they share pictures.
            Some(group) if group.last().is_some_and(|last| start <= last.sample) && group[0].start <= start => {
                group.push(Target { sample, start });
            }
            _ => groups.push(vec![Target { sample, start }]),
        }
    }
    groups
}

/// Decode runs of an engine without checkpoints.
pub(crate) fn cold_plan(video: &VideoState, indices: &[u32]) -> Vec<PlannedRun> {
    let sample = |&index: &u32| video.track.frames.get(index as usize).copied();
    let groups = grouped(video, &indices.iter().filter_map(sample).collect());
    groups.iter().flat_map(|group| plan(group, &video.dependencies(), &|_| Vec::new())).collect()
}

/// Estimated pictures for these frames: from the nearest random access point or checkpoint on, each once. Reads
/// nothing.
pub(crate) fn pictures_to_decode(video: &VideoState, indices: &[u32]) -> u64 {
    let mut samples: Vec<u32> =
        indices.iter().filter_map(|&index| video.track.frames.get(index as usize).copied()).collect();
    samples.sort_unstable();
    let mut done = 0;
    let pictures = samples.into_iter().map(|sample| {
        let start = video.planner.likely_start(&video.track, sample).min(sample);
        let kept = video.engine.store.within(video.id, start..=sample);
        let from = kept.last().map_or(start, |kept| kept.state.position + 1).max(done).min(sample);
        done = sample + 1;
        u64::from(sample - from) + 1
    });
    pictures.sum()
}

/// Estimated pictures of a group without checkpoints.
fn pictures(group: &[Target]) -> u64 {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return 0 };
    u64::from(last.sample.saturating_sub(first.start)) + 1
}

/// The initial state of an attempt at a group.
struct AttemptSetup {
    video: Arc<VideoState>,
    sink: Arc<dyn ResultSink>,
    device: Arc<dyn DecodeDevice>,
    permit: SharedFetchPermit,
    /// Number of times that it was interrupted for another account.
    overtaken: u32,
    memory: Option<Reservation>,
}

impl AttemptSetup {
    fn new(
        video: &Arc<VideoState>,
        sink: &Arc<dyn ResultSink>,
        device: &Arc<dyn DecodeDevice>,
        permit: SharedFetchPermit,
    ) -> AttemptSetup {
        let (video, sink, device) = (Arc::clone(video), Arc::clone(sink), Arc::clone(device));
        AttemptSetup { video, sink, device, permit, overtaken: 0, memory: None }
    }

    /// Answers all targets with decoders of `width` threads, or waits for picture memory.
    fn answer(mut self, targets: Vec<Target>, width: usize) {
        let (video, device) = (Arc::clone(&self.video), Arc::clone(&self.device));
        if device.traits(&video.track).is_host && self.memory.is_none() {
            let bytes = video.picture_bytes_of_run(width);
            self.memory = video.engine.pictures.try_reserve(ReservationKind::Run, bytes);
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
        // Each thread holds its own pictures and tables.
        let width = if self.memory.as_ref().is_some_and(Reservation::is_exclusive) { 1 } else { width };
        let before = pending.len();
        let AttemptSetup { video, sink, device, permit, overtaken, memory } = self;
        let mut attempt = Attempt { video, sink, device, width, permit, overtaken, memory };
        let step = attempt.run(&targets, &mut pending);
        // Runs that wait for this run's memory need not wait for the resubmission of its targets.
        if let Some(memory) = attempt.memory.take() {
            attempt.video.record_peak(width, &memory);
        }
        let (columns, rows) = attempt.video.track.parameters.size();
        attempt.video.engine.trim_memory((columns * rows * 4) as u64);
        resubmit(attempt, step, targets, pending, before);
    }

    /// Resubmits the task once `bytes` can be reserved. The worker continues with other tasks.
    fn wait_for_room(self, targets: Vec<Target>, bytes: u64) {
        let (video, sink, waiting_sink) = (Arc::clone(&self.video), Arc::clone(&self.sink), Arc::clone(&self.sink));
        let (device, length) = (Arc::clone(&self.device), pictures(&targets));
        let slot = Arc::new(OnceLock::new());
        let reserved = Arc::clone(&slot);
        let task = move |width| {
            let memory = Arc::into_inner(reserved).and_then(OnceLock::into_inner);
            AttemptSetup { memory, ..self }.answer(targets, width);
        };
        let when = move |then: Box<dyn FnOnce() + Send>| {
            let is_cancelled = move || waiting_sink.is_cancelled();
            video.engine.pictures.reserve_later(ReservationKind::Run, bytes, is_cancelled, move |memory| {
                let _ = slot.set(memory);
                drop(slot);
                then();
            });
        };
        sink.submit_when(&device, length, Box::new(task), Box::new(when));
    }
}

/// Resubmits the pending targets of an attempt, or answers them with an error. `before` is the number of targets that
/// were pending at the attempt's beginning.
fn resubmit(attempt: Attempt, step: AttemptResult, targets: Vec<Target>, pending: Pending, before: usize) {
    let Err(interrupt) = step else {
        debug_assert!(pending.is_empty() || attempt.sink.is_cancelled(), "every frame gets one answer");
        return;
    };
    if let Interrupt::Failed(error) = interrupt {
        return fail(&attempt, error, &pending);
    }
    if attempt.sink.is_cancelled() {
        return;
    }
    let remaining: Vec<Target> = targets.into_iter().filter(|target| pending.contains_key(&target.sample)).collect();
    // In samples, from the first remaining target to the last.
    let length =
        remaining.first().zip(remaining.last()).map_or(0, |(first, last)| u64::from(last.sample - first.sample) + 1);
    let (sink, video) = (Arc::clone(&attempt.sink), Arc::clone(&attempt.video));
    let mut start = AttemptSetup::new(&video, &sink, &attempt.device, None);
    start.overtaken = attempt.overtaken;
    match interrupt {
        // The budget cannot grant more, and no target has an answer with less.
        Interrupt::NoRoom(ReservationRefusal::Permanent { needed }) if pending.len() == before => {
            attempt.fail_over_budget(needed, pending);
            return;
        }
        Interrupt::NoRoom(ReservationRefusal::Temporary { needed }) => {
            start.permit = attempt.permit;
            start.wait_for_room(remaining, needed);
            return;
        }
        Interrupt::InFlight(samples) => {
            start.permit = attempt.permit;
            let ranges: Vec<_> = samples.iter().filter_map(|&sample| video.track.extent(sample)).collect();
            let device = Arc::clone(&start.device);
            let answer = Box::new(move |width| start.answer(remaining, width));
            let when = Box::new(|then| video.source.on_available(&mut ranges.into_iter(), then));
            sink.submit_when(&device, length, answer, when);
            return;
        }
        Interrupt::Overtaken => {
            start.permit = attempt.permit;
            start.overtaken += 1;
        }
        Interrupt::Moved => start.device = video.engine.devices.host(),
        // A task that waits for room in its queue does not delay the bytes of other groups.
        Interrupt::Stopped | Interrupt::NoRoom(_) | Interrupt::Failed(_) => {}
    }
    if !remaining.is_empty() {
        let device = Arc::clone(&start.device);
        sink.pause(&device, length, Box::new(move |width| start.answer(remaining, width)));
    }
}

/// Answers all pending targets with an error.
fn fail(attempt: &Attempt, error: Error, pending: &Pending) {
    let message = error.message();
    // All answers have the error's kind. A read error cannot be copied: the frames after the first get its text.
    let repeat = |kind: &ErrorKind| kind.try_clone().unwrap_or_else(|| ErrorKind::NeedsUnreadable(message.clone()));
    let mut next = Some(error);
    let mut pending = pending.values().peekable();
    while let (Some(&index), Some(error)) = (pending.next(), next.take()) {
        next = pending.peek().map(|_| repeat(error.kind()).into());
        let own = error.of(attempt.video.source.name()).at_frame(index);
        attempt.sink.deliver(index, Err(own), Duration::ZERO);
    }
}
