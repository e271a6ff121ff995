//! Issues requests one by one: with one or more callers, as fast as responses arrive or at a rate. A closure defines
//! the request.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::setup::RequestLoad;
use super::stats::MeasuredRequest;

/// The result of a request: an MD5, if sums are requested; or an error.
pub(crate) type ProcessedFrame = Result<Option<String>, String>;

/// Issues a request for each frame, and returns the answers in the frames' order.
///
/// Each caller has a state of its own, created before the clock starts. Callers take the next frame from one list. With
/// a rate, request `n` is due `n / rate` seconds after the start, and its latency counts from then, whether or not a
/// caller was free: so a stall is charged to all requests that it delays, not to one (coordinated omission).
///
/// # Errors
/// Errors of `state`.
pub(crate) fn drive<S: Send, E>(
    frames: &[u32],
    load: RequestLoad,
    mut state: impl FnMut() -> Result<S, E>,
    request: impl Fn(&mut S, u32) -> ProcessedFrame + Sync,
) -> Result<Vec<MeasuredRequest>, E> {
    let states = (0..load.callers).map(|_| state()).collect::<Result<Vec<S>, E>>()?;
    let (next, answers) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let started = Instant::now();
    let call = |mut state: S| {
        let mut own = Vec::new();
        loop {
            let place = next.fetch_add(1, Relaxed);
            let Some(&index) = frames.get(place) else { break };
            let requested_at = load.rate_per_s.map_or_else(Instant::now, |rate| wait_for(started, place as f64 / rate));
            let processed = request(&mut state, index);
            own.push((place, measured_request(index, requested_at.elapsed(), processed)));
        }
        answers.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).extend(own);
    };
    let mut states = states.into_iter();
    let last = states.next();
    thread::scope(|scope| {
        // A single caller uses this thread, as a user's program would.
        states.for_each(|state| drop(scope.spawn(|| call(state))));
        last.map(&call)
    });
    let mut answers = answers.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    answers.sort_by_key(|(place, _)| *place);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

/// Sleeps until this many seconds after the start, and returns that time.
fn wait_for(started: Instant, seconds: f64) -> Instant {
    let due = started + Duration::from_secs_f64(seconds);
    thread::sleep(due.saturating_duration_since(Instant::now()));
    due
}

/// The answer to a request with this duration.
pub(crate) fn measured_request(index: u32, latency: Duration, processed: ProcessedFrame) -> MeasuredRequest {
    match processed {
        Ok(md5) => MeasuredRequest { index, latency: Some(latency), error: None, md5 },
        Err(error) => MeasuredRequest { index, latency: None, error: Some(error), md5: None },
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::thread::sleep;
    use std::time::Duration;

    use super::{MeasuredRequest, RequestLoad, drive};

    fn driven(frames: u32, load: RequestLoad, request: impl Fn(u32) + Sync) -> Vec<MeasuredRequest> {
        let frames: Vec<u32> = (0..frames).collect();
        let state = || Ok::<_, Infallible>(());
        let answers = drive(&frames, load, state, |(), index| {
            request(index);
            if index == 3 { Err("three".into()) } else { Ok(Some(index.to_string())) }
        });
        answers.unwrap_or_else(|never| match never {})
    }

    #[test]
    fn every_frame_is_answered_once_and_in_its_place() {
        for callers in [1, 4] {
            let answers = driven(50, RequestLoad { callers, rate_per_s: None }, |_| {});
            let indices: Vec<u32> = answers.iter().map(|answer| answer.index).collect();
            assert_eq!(indices, (0..50).collect::<Vec<_>>());
            assert!(answers.iter().all(|answer| answer.error.is_some() == (answer.index == 3)));
            assert!(answers.iter().all(|answer| answer.latency.is_some() == answer.md5.is_some()));
        }
    }

    #[test]
    fn a_stall_is_charged_to_all_that_were_due_meanwhile() {
        // Due every 10 ms; the first takes 100: the next ones wait for 90, 80, ...
        let stall = Duration::from_millis(100);
        let load = |rate_per_s| RequestLoad { callers: 1, rate_per_s };
        let request = |index| sleep(if index == 0 { stall } else { Duration::ZERO });
        let latency = |answers: &[MeasuredRequest], place: usize| answers[place].latency.expect("a latency");
        let due = driven(3, load(Some(100.0)), request);
        assert!((0..3).all(|place| latency(&due, place) >= stall - Duration::from_millis(10) * place as u32));
        // Without a rate nothing was due: only the first one is late.
        let free = driven(3, load(None), request);
        assert!(latency(&free, 0) >= stall && latency(&free, 1) < latency(&free, 0));
    }
}
