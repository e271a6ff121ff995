//! Rounds of this program's own engine.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bucket_streamer::{Engine, Error, Video, VideoFrame};

use super::allocations;
use super::check::Place;
use super::load::{self, Made};
use super::machine;
use super::make::{Make, What};
use super::scenario::{Manner, Requests};
use super::setup::Load;
use super::stats::{Answer, Round};

/// A frame, or the error in its place.
type Came = Result<VideoFrame, String>;
/// A decoded frame for the thread that processes it.
type Decoded = (u32, Came);

/// A processed frame, and the time of its arrival.
struct Arrival {
    index: u32,
    at: Instant,
    made: Made,
}

/// Makes one round: with a cold engine, and the video opened before the clock starts.
///
/// # Errors
/// The error that makes the video unreadable. A failed frame is an answer.
pub(crate) fn round(
    engine: &Engine,
    (location, opening): &Place<'_>,
    requests: &Requests,
    load: Load,
    what: What,
) -> Result<Round, Error> {
    let before = Instant::now();
    let video = opening.open(engine, location)?;
    let open = Some(before.elapsed());
    // Unless frames are requested one by one, as many threads as decode make the stills.
    let makers = if what == What::Jpeg && requests.manner != Manner::OneByOne { engine.threads() } else { 0 };

    for &index in &requests.before {
        // The results of warming up do not matter.
        let _ = video.frame(index);
    }
    machine::forget_peak();
    let before = (engine.work().decoded_pictures, video.source().counters().now(), allocations::count());
    let cpu = machine::own_cpu();
    let started = Instant::now();
    let answers = match requests.manner {
        Manner::OneByOne => one_by_one(&video, &requests.frames, load, what)?,
        _ => {
            // A GPU has no sequential decode of its own: it decodes GOP by GOP, on all of its decoders.
            let plays = requests.manner == Manner::Play && engine.gpu().is_none();
            let arrivals = piped(what, makers, |deliver| ask(&video, requests, plays, deliver))?;
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

fn one_by_one(video: &Video, frames: &[u32], load: Load, what: What) -> Result<Vec<Answer>, Error> {
    load::drive(
        frames,
        load,
        || Make::new(what),
        |make, index| video.frame(index).and_then(|frame| make.make(&frame.picture)).map_err(|error| error.to_string()),
    )
}

/// Requests all frames at once.
fn ask(video: &Video, requests: &Requests, plays: bool, deliver: &mut dyn FnMut(u32, Came)) -> Result<(), Error> {
    if !plays {
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

/// Runs `decode` with `makers` threads beside it that process the frames; without any, this thread processes them.
fn piped(
    what: What,
    makers: usize,
    decode: impl FnOnce(&mut dyn FnMut(u32, Came)) -> Result<(), Error>,
) -> Result<Vec<Arrival>, Error> {
    if makers == 0 {
        let (mut make, mut arrivals) = (Make::new(what)?, Vec::new());
        decode(&mut |index, frame| arrivals.push(arrival(&mut make, index, frame)))?;
        return Ok(arrivals);
    }
    let (frames, decoded) = mpsc::sync_channel(makers);
    let (arrived, arrivals) = mpsc::channel();
    let decoded = Arc::new(Mutex::new(decoded));
    let makes = (0..makers).map(|_| Make::new(what)).collect::<Result<Vec<_>, Error>>()?;
    std::thread::scope(|scope| {
        for make in makes {
            let (decoded, arrived) = (Arc::clone(&decoded), arrived.clone());
            scope.spawn(move || work(make, &decoded, &arrived));
        }
        // Only the workers have references: after the last worker ends, the receiver is dropped.
        drop((decoded, arrived));
        decode(&mut |index, frame| frames.send((index, frame)).expect("workers end after the sender"))?;
        drop(frames);
        Ok(arrivals.into_iter().collect())
    })
}

fn work(mut make: Make, decoded: &Mutex<Receiver<Decoded>>, arrived: &Sender<Arrival>) {
    loop {
        let next = decoded.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv();
        let Ok((index, frame)) = next else { return };
        if arrived.send(arrival(&mut make, index, frame)).is_err() {
            return;
        }
    }
}

fn arrival(make: &mut Make, index: u32, frame: Came) -> Arrival {
    let made = frame.and_then(|frame| make.make(&frame.picture).map_err(|error| error.to_string()));
    Arrival { index, at: Instant::now(), made }
}

/// Brings the frames into the order of the requests. A frame that was requested twice is there twice.
fn answers(requests: &Requests, mut arrivals: Vec<Arrival>, started: Instant) -> Vec<Answer> {
    arrivals.sort_by_key(|arrival| arrival.at);
    let (mut before, mut by_frame, mut order) = (started, HashMap::new(), Vec::new());
    for Arrival { index, at, made } in arrivals {
        let since = if requests.manner == Manner::Together { started } else { before };
        by_frame.insert(index, load::answer(index, at - since, made));
        order.push(index);
        before = at;
    }
    order.sort_unstable();
    // Frames that a sequential decode does not show were not requested.
    let asked = if requests.manner == Manner::Play { &order } else { &requests.frames };
    asked.iter().filter_map(|index| by_frame.get(index).cloned()).collect()
}
