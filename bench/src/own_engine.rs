//! Rounds of this program's own engine.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bucket_streamer::{Engine, Error, Video, VideoFrame};

use super::allocations;
use super::check::BenchInput;
use super::frame_output::{FrameOutput, FrameProcessor};
use super::load::{self, ProcessedFrame};
use super::machine;
use super::scenario::{RequestMode, Requests};
use super::setup::RequestLoad;
use super::stats::{MeasuredRequest, Round};

/// A frame, or the error in its place.
type FrameOrError = Result<VideoFrame, String>;
/// A decoded frame for the thread that processes it.
type NumberedFrame = (u32, FrameOrError);

/// A processed frame, and the time of its arrival.
struct Arrival {
    index: u32,
    at: Instant,
    processed: ProcessedFrame,
}

/// Runs one round: with a cold engine, and the video opened before the clock starts.
///
/// # Errors
/// The error that makes the video unreadable. A failed frame is an answer.
pub(crate) fn round(
    engine: &Engine,
    (location, opening): &BenchInput<'_>,
    requests: &Requests,
    load: RequestLoad,
    output: FrameOutput,
) -> Result<Round, Error> {
    let before = Instant::now();
    let video = opening.open(engine, location)?;
    let open = Some(before.elapsed());
    // For batches and plays the stills have as many threads of their own as the decoding.
    let processors =
        if output == FrameOutput::Jpeg && requests.mode != RequestMode::OneByOne { engine.threads() } else { 0 };

    for &index in &requests.before {
        // The results of warming up do not matter.
        let _ = video.frame(index);
    }
    machine::forget_peak();
    let before = (engine.work().decoded_pictures, video.source().counters().now(), allocations::count());
    let cpu = machine::own_cpu();
    let started = Instant::now();
    let answers = match requests.mode {
        RequestMode::OneByOne => one_by_one(&video, &requests.frames, load, output)?,
        _ => {
            // A GPU has no sequential decode of its own: it decodes GOP by GOP, on all of its decoders.
            let is_sequential = requests.mode == RequestMode::Sequential && engine.gpu().is_none();
            let arrivals =
                run_pipeline(output, processors, |deliver| request_all(&video, requests, is_sequential, deliver))?;
            answers(requests, arrivals, started)
        }
    };
    let took = started.elapsed();
    let cpu = machine::own_cpu().zip(cpu).map(|(after, before)| after.saturating_sub(before));
    let fetched = video.source().counters().now();
    Ok(Round {
        took,
        open,
        answers,
        cpu,
        peak_rss: machine::peak_rss("self"),
        decoded_pictures: Some(engine.work().decoded_pictures - before.0),
        fetched_bytes: Some(fetched.bytes - before.1.bytes),
        copied_bytes: Some(fetched.copied - before.1.copied),
        allocations: allocations::count().zip(before.2).map(|(after, before)| after - before),
        floor: None,
    })
}

fn one_by_one(
    video: &Video,
    frames: &[u32],
    load: RequestLoad,
    output: FrameOutput,
) -> Result<Vec<MeasuredRequest>, Error> {
    load::drive(
        frames,
        load,
        || FrameProcessor::new(output),
        |make, index| {
            video.frame(index).and_then(|frame| make.process(&frame.picture)).map_err(|error| error.to_string())
        },
    )
}

/// Requests all frames at once.
fn request_all(
    video: &Video,
    requests: &Requests,
    is_sequential: bool,
    deliver: &mut dyn FnMut(u32, FrameOrError),
) -> Result<(), Error> {
    if !is_sequential {
        for (index, frame) in video.frames(&requests.frames) {
            deliver(index, frame.map_err(|error| error.to_string()));
        }
        return Ok(());
    }
    let mut left = requests.frames.len();
    let left_out = video.play(&mut |frame| {
        deliver(frame.index, Ok(frame));
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    // Frames after a break are not missing.
    if left > 0 && left_out.is_damaged() {
        let damage = left_out.damage.unwrap_or(ffi::AvError::INVALID_DATA);
        let why = |index| format!("{}: frame {index}: damaged: {damage}", video.source().name());
        left_out.frames.iter().for_each(|&index| deliver(index, Err(why(index))));
    }
    Ok(())
}

/// Runs `decode`, and processes its frames in `processors` threads beside it, or with 0 in this thread.
fn run_pipeline(
    output: FrameOutput,
    processors: usize,
    decode: impl FnOnce(&mut dyn FnMut(u32, FrameOrError)) -> Result<(), Error>,
) -> Result<Vec<Arrival>, Error> {
    if processors == 0 {
        let (mut processor, mut arrivals) = (FrameProcessor::new(output)?, Vec::new());
        decode(&mut |index, frame| arrivals.push(arrival(&mut processor, index, frame)))?;
        return Ok(arrivals);
    }
    let (frames, decoded) = mpsc::sync_channel(processors);
    let (arrived, arrivals) = mpsc::channel();
    let decoded = Arc::new(Mutex::new(decoded));
    let states = (0..processors).map(|_| FrameProcessor::new(output)).collect::<Result<Vec<_>, Error>>()?;
    std::thread::scope(|scope| {
        for processor in states {
            let (decoded, arrived) = (Arc::clone(&decoded), arrived.clone());
            scope.spawn(move || run_worker(processor, &decoded, &arrived));
        }
        // Only the workers have references: after the last worker ends, the receiver is dropped.
        drop((decoded, arrived));
        decode(&mut |index, frame| frames.send((index, frame)).expect("workers end after the sender"))?;
        drop(frames);
        Ok(arrivals.into_iter().collect())
    })
}

fn run_worker(mut processor: FrameProcessor, decoded: &Mutex<Receiver<NumberedFrame>>, arrived: &Sender<Arrival>) {
    loop {
        let next = decoded.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv();
        let Ok((index, frame)) = next else { return };
        if arrived.send(arrival(&mut processor, index, frame)).is_err() {
            return;
        }
    }
}

fn arrival(processor: &mut FrameProcessor, index: u32, frame: FrameOrError) -> Arrival {
    let processed = frame.and_then(|frame| processor.process(&frame.picture).map_err(|error| error.to_string()));
    Arrival { index, at: Instant::now(), processed }
}

/// Sorts the frames into the order of the requests. A frame that was requested twice is in the result twice.
fn answers(requests: &Requests, mut arrivals: Vec<Arrival>, started: Instant) -> Vec<MeasuredRequest> {
    arrivals.sort_by_key(|arrival| arrival.at);
    let (mut before, mut by_frame, mut order) = (started, HashMap::new(), Vec::new());
    for Arrival { index, at, processed } in arrivals {
        let since = if requests.mode == RequestMode::Batch { started } else { before };
        by_frame.insert(index, load::measured_request(index, at - since, processed));
        order.push(index);
        before = at;
    }
    order.sort_unstable();
    // Frames that a sequential decode does not show were not requested.
    let indices = if requests.mode == RequestMode::Sequential { &order } else { &requests.frames };
    indices.iter().filter_map(|index| by_frame.get(index).cloned()).collect()
}
