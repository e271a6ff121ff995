//! What came of a round, and its numbers.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// What came of one request.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) index: u32,
    /// `None` where nobody could tell, and where there was no frame.
    pub(crate) latency: Option<Duration>,
    /// Why there is no frame.
    pub(crate) error: Option<String>,
    /// In rounds that are made for it.
    pub(crate) md5: Option<String>,
}

/// One run of a scenario from a cold engine. What an engine cannot tell is `None`.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) took: Duration,
    /// What opening took, before the clock.
    pub(crate) open: Option<Duration>,
    /// In the order of the requests.
    pub(crate) answers: Vec<Answer>,
    pub(crate) cpu: Option<Duration>,
    pub(crate) peak_rss: Option<u64>,
    pub(crate) decoded_pictures: Option<u64>,
    pub(crate) fetched_bytes: Option<u64>,
    /// What a bare loop took.
    pub(crate) floor: Option<Duration>,
}

impl Round {
    pub(crate) fn errors(&self) -> usize {
        self.answers.iter().filter(|answer| answer.error.is_some()).count()
    }

    /// Frames that came.
    pub(crate) fn frames(&self) -> usize {
        self.answers.len() - self.errors()
    }

    pub(crate) fn fps(&self) -> f64 {
        self.frames() as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

/// Of several rounds the one of median duration (the shorter of the two in the middle), with the median floor.
pub(crate) fn median(mut rounds: Vec<Round>) -> Option<Round> {
    let middle = rounds.len().checked_sub(1)? / 2;
    rounds.sort_by_key(|round| round.took);
    let mut floors: Vec<Duration> = rounds.iter().filter_map(|round| round.floor).collect();
    floors.sort_unstable();
    let floor = floors.get(floors.len().saturating_sub(1) / 2).copied();
    Some(Round { floor, ..rounds.swap_remove(middle) })
}

/// Latencies in milliseconds; `None` where nobody could tell, or there are none.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Latency {
    pub(crate) min: Option<f64>,
    pub(crate) p50: Option<f64>,
    pub(crate) p90: Option<f64>,
    pub(crate) p95: Option<f64>,
    pub(crate) p99: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) mean: Option<f64>,
}

/// Longer than any request: ten hours, in microseconds.
const LONGEST: u64 = 36_000_000_000;

impl Latency {
    pub(crate) fn of(round: &Round) -> Latency {
        let times: Vec<Duration> = round.answers.iter().filter_map(|answer| answer.latency).collect();
        let (Some(min), Some(max)) = (times.iter().min(), times.iter().max()) else {
            // One process made all frames: only the mean is known.
            let mean = (round.frames() > 0).then(|| milliseconds(round.took) / round.frames() as f64);
            return Latency { mean: mean.map(to_microseconds), ..Latency::default() };
        };
        let mut histogram = Histogram::<u64>::new_with_bounds(1, LONGEST, 4).expect("sane bounds");
        times.iter().for_each(|time| histogram.saturating_record(time.as_micros() as u64));
        // The histogram's upper bounds may lie above what was measured.
        let at = |quantile| Some((histogram.value_at_quantile(quantile) as f64 / 1e3).min(milliseconds(*max)));
        Latency {
            min: Some(milliseconds(*min)),
            p50: at(0.50),
            p90: at(0.90),
            p95: at(0.95),
            p99: at(0.99),
            max: Some(milliseconds(*max)),
            mean: Some(to_microseconds(times.iter().sum::<Duration>().as_secs_f64() * 1e3 / times.len() as f64)),
        }
    }
}

/// Milliseconds with three digits: clocks and schedulers are no finer.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    to_microseconds(time.as_secs_f64() * 1e3)
}

fn to_microseconds(milliseconds: f64) -> f64 {
    (milliseconds * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Answer, Latency, Round, median};

    fn round(milliseconds: &[u64]) -> Round {
        let answer =
            |&time: &u64| Answer { index: 0, latency: Some(Duration::from_millis(time)), error: None, md5: None };
        let took = Duration::from_millis(milliseconds.iter().sum());
        Round { took, answers: milliseconds.iter().map(answer).collect(), ..Round::default() }
    }

    #[test]
    fn latencies_are_those_of_the_nearest_rank() {
        let latency = Latency::of(&round(&(1..=100).collect::<Vec<_>>()));
        let near = |value: Option<f64>, expected: f64| (value.unwrap() - expected).abs() <= expected * 1e-3;
        assert_eq!((latency.min, latency.max, latency.mean), (Some(1.0), Some(100.0), Some(50.5)));
        assert!(near(latency.p50, 50.0) && near(latency.p90, 90.0) && near(latency.p95, 95.0), "{latency:?}");
        assert!(near(latency.p99, 99.0), "{latency:?}");
        assert!(Latency::of(&round(&[])).mean.is_none());
    }

    #[test]
    fn the_round_in_the_middle_is_reported() {
        let of = |took: &[u64]| median(took.iter().map(|&took| round(&[took])).collect()).unwrap().took.as_millis();
        assert_eq!((of(&[5]), of(&[9, 1, 5]), of(&[9, 1, 5, 2])), (5, 5, 2));
        assert!(median(Vec::new()).is_none());
    }
}
