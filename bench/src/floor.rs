//! The floor: the time that a bare libavcodec loop needs for the packets of each request.
//!
//! The loop has a decoder that is opened before the clock starts, with the engine's number and use of threads, and
//! packets that refer to the source's bytes; it has no planning, no pool, no retries. If the loop does not output all
//! requested pictures, there is no floor.

use std::collections::BTreeSet;
use std::time::Instant;

use bucket_streamer::plan::runs::PlannedRun;
use bucket_streamer::plan::{Depth, Planner};
use bucket_streamer::{Engine, Result, Video};
use ffi::{Decoder, DecoderOutput, Frame, Packet, SendStatus, Threads};

use super::frame_output::FrameProcessor;
use super::machine;
use super::scenario::{RequestMode, Requests};
use super::stats::Floor;

/// The packets of one request.
#[derive(Debug)]
pub(crate) struct PacketPlan {
    /// Samples to send, in decode order.
    pub(crate) samples: Vec<u32>,
    /// Samples with requested pictures.
    pub(crate) targets: BTreeSet<u32>,
}

/// The samples that a cold engine sends for each request: those that the frames need, or with `from_key` all from the
/// random access point on. Frames that do not exist need none.
pub(crate) fn plans(video: &Video, requests: &Requests, from_key: bool) -> Vec<PacketPlan> {
    let (track, planner) = (video.track(), Planner::new(video.track()));
    let whole_gops = |frames: &[u32]| -> Vec<PacketPlan> {
        let targets: BTreeSet<u32> =
            frames.iter().filter_map(|&frame| track.frames.get(frame as usize).copied()).collect();
        let targets: Vec<u32> = targets.into_iter().collect();
        let plan = |job: bucket_streamer::plan::FallbackRun| PacketPlan {
            samples: (job.first..=job.last).collect(),
            targets: job.targets.into_iter().collect(),
        };
        planner.plan(track, video.source(), &targets, Depth::Nearest).into_iter().map(plan).collect()
    };
    let plan = |frames: &[u32]| -> Vec<PacketPlan> {
        if from_key {
            return whole_gops(frames);
        }
        let plan = |run: PlannedRun| PacketPlan { samples: run.samples, targets: run.targets.into_iter().collect() };
        video.plan(frames).into_iter().map(plan).collect()
    };
    match requests.mode {
        RequestMode::OneByOne => requests.frames.iter().flat_map(|&frame| plan(&[frame])).collect(),
        RequestMode::Batch | RequestMode::Keyframes => plan(&requests.frames),
        RequestMode::Sequential => {
            let targets = requests.frames.iter().filter_map(|&frame| track.frames.get(frame as usize).copied());
            vec![PacketPlan { samples: (0..track.samples.len() as u32).collect(), targets: targets.collect() }]
        }
    }
}

/// The time of a bare loop for all plans; `None` if it does not output all requested pictures.
pub(crate) fn floor(engine: &Engine, video: &Video, plans: &[PacketPlan], make: &mut FrameProcessor) -> Option<Floor> {
    let mut decoders: Vec<(Threads, Decoder)> = Vec::new();
    let uses: Vec<Threads> = plans.iter().map(|plan| video.use_of_threads(engine.threads(), &plan.samples)).collect();
    for &threads in &uses {
        if decoders.iter().all(|(other, _)| *other != threads) {
            decoders.push((threads, Decoder::open(&video.track().parameters, threads, false).ok()?));
        }
    }
    if video.source().is_remote() {
        // Waiting for the network is not part of decoding: whatever can be cached is fetched before the clock starts.
        for &sample in plans.iter().flat_map(|plan| &plan.samples) {
            let _ = video.sample_bytes(sample);
        }
    }
    let cpu = machine::own_cpu();
    let started = Instant::now();
    for (plan, threads) in plans.iter().zip(uses) {
        let (_, decoder) = decoders.iter_mut().find(|(other, _)| *other == threads)?;
        let is_complete = run_plan(video, decoder, plan, make).ok()?;
        if !is_complete {
            return None;
        }
        decoder.flush();
    }
    let took = started.elapsed();
    Some(Floor { took, cpu: machine::own_cpu().zip(cpu).map(|(after, before)| after.saturating_sub(before)) })
}

/// Sends the packets of one plan, and receives pictures until all requested ones are complete.
fn run_plan(video: &Video, decoder: &mut Decoder, plan: &PacketPlan, make: &mut FrameProcessor) -> Result<bool> {
    let failed = |error| bucket_streamer::Error::from(bucket_streamer::ErrorKind::Damaged(error));
    let mut left = plan.targets.len();
    for &sample in &plan.samples {
        let mut packet = Packet::new(&video.sample_bytes(sample)?, sample, Some(i64::from(sample))).map_err(failed)?;
        let at = &video.track().samples[sample as usize];
        packet.set_flags(at.key, at.discard);
        while decoder.send(&packet).map_err(failed)? == SendStatus::Full {
            receive_targets(video, decoder, plan, make, &mut left)?;
        }
        receive_targets(video, decoder, plan, make, &mut left)?;
        if left == 0 {
            return Ok(true);
        }
    }
    decoder.send_end().map_err(failed)?;
    receive_targets(video, decoder, plan, make, &mut left)?;
    Ok(left == 0)
}

fn receive_targets(
    video: &Video,
    decoder: &mut Decoder,
    plan: &PacketPlan,
    make: &mut FrameProcessor,
    left: &mut usize,
) -> Result<()> {
    while *left > 0 {
        match decoder.receive() {
            Ok(DecoderOutput::Picture(picture)) if is_target(video, &picture, plan) => {
                *left -= 1;
                make.process(&picture)?;
            }
            Ok(DecoderOutput::Picture(_)) => {}
            _ => break,
        }
    }
    Ok(())
}

/// Packets carry their sample's number as their time, which returns with the picture: for a picture of two fields, that
/// of either field.
fn is_target(video: &Video, picture: &Frame, plan: &PacketPlan) -> bool {
    let Some(sample) = picture.pts().and_then(|pts| u32::try_from(pts).ok()) else { return false };
    let is_second_field = video.track().samples.get(sample as usize).is_some_and(|sample| sample.silent);
    plan.targets.contains(&sample) || (is_second_field && sample > 0 && plan.targets.contains(&(sample - 1)))
}
