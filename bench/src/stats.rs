//! The results of a round, and their statistics.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The result of one request.
#[derive(Debug, Clone)]
pub(crate) struct MeasuredRequest {
    pub(crate) index: u32,
    /// `None` where it is unknown, and where there was no frame.
    pub(crate) latency: Option<Duration>,
    /// The reason why there is no frame.
    pub(crate) error: Option<String>,
    /// In rounds of MD5 sums only.
    pub(crate) md5: Option<String>,
}

/// One run of a scenario with a cold engine; `None` for a value that the engine does not report.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) took: Duration,
    /// Duration of opening, before the clock starts.
    pub(crate) open: Option<Duration>,
    /// In the order of the requests.
    pub(crate) answers: Vec<MeasuredRequest>,
    pub(crate) cpu: Option<Duration>,
    pub(crate) peak_rss: Option<u64>,
    pub(crate) decoded_pictures: Option<u64>,
    pub(crate) fetched_bytes: Option<u64>,
    pub(crate) copied_bytes: Option<u64>,
    pub(crate) allocations: Option<u64>,
    /// The time of a bare loop.
    pub(crate) floor: Option<Floor>,
}

/// The time of a bare loop for all requests of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Floor {
    pub(crate) took: Duration,
    pub(crate) cpu: Option<Duration>,
}

impl Round {
    pub(crate) fn errors(&self) -> usize {
        self.answers.iter().filter(|answer| answer.error.is_some()).count()
    }

    /// The number of frames that arrived.
    pub(crate) fn frames(&self) -> usize {
        self.answers.len() - self.errors()
    }

    /// The known latencies of frames.
    pub(crate) fn latencies(&self) -> Vec<Duration> {
        self.answers.iter().filter_map(|answer| answer.latency).collect()
    }

    pub(crate) fn fps(&self) -> f64 {
        self.frames() as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

/// The index of the round of median duration: the shorter of two in the middle.
pub(crate) fn median(rounds: &[Round]) -> Option<usize> {
    let mut places: Vec<usize> = (0..rounds.len()).collect();
    places.sort_by_key(|&place| rounds[place].took);
    places.get(rounds.len().checked_sub(1)? / 2).copied()
}

/// The median of all floors, in milliseconds per requested frame.
pub(crate) fn median_floor(rounds: &[Round]) -> Option<f64> {
    let mut floors: Vec<f64> = rounds.iter().filter_map(|round| each(round, round.floor?.took)).collect();
    floors.sort_unstable_by(f64::total_cmp);
    floors.get(floors.len().saturating_sub(1) / 2).copied()
}

/// A time of a whole round, in milliseconds per requested frame.
pub(crate) fn each(round: &Round, time: Duration) -> Option<f64> {
    // In nanoseconds: small pictures take only some microseconds each.
    (!round.answers.is_empty()).then(|| (time.as_secs_f64() * 1e9 / round.answers.len() as f64).round() / 1e6)
}

/// The difference of the longest and the shortest round, divided by the median one. `None` for a single round.
pub(crate) fn spread(rounds: &[Round]) -> Option<f64> {
    let middle = rounds[median(rounds).filter(|_| rounds.len() > 1)?].took.as_secs_f64();
    let times = || rounds.iter().map(|round| round.took.as_secs_f64());
    let (least, greatest) = (times().fold(f64::INFINITY, f64::min), times().fold(0.0, f64::max));
    (middle > 0.0).then(|| (((greatest - least) / middle) * 1e3).round() / 1e3)
}

/// Latencies in milliseconds; `None` where they are unknown, or there are none.
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

/// Upper bound of a request's duration: ten hours, in microseconds.
const LONGEST: u64 = 36_000_000_000;

impl Latency {
    pub(crate) fn of(round: &Round) -> Latency {
        Latency::over(&round.latencies(), round.frames(), round.took)
    }

    /// For this many frames with this total duration, and the known latencies.
    pub(crate) fn over(times: &[Duration], frames: usize, took: Duration) -> Latency {
        let (Some(min), Some(max)) = (times.iter().min(), times.iter().max()) else {
            // One process decoded all frames: only the mean is known.
            let mean = (frames > 0).then(|| milliseconds(took) / frames as f64);
            return Latency { mean: mean.map(to_microseconds), ..Latency::default() };
        };
        let histogram = histogram(times);
        // The histogram's upper bounds may exceed the measured values.
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

/// The percentiles 0 to 100 in milliseconds; none where latencies are unknown.
pub(crate) fn latency_curve(round: &Round) -> Vec<f64> {
    let times = round.latencies();
    if times.is_empty() {
        return Vec::new();
    }
    let histogram = histogram(&times);
    (0..=100).map(|percent| histogram.value_at_quantile(f64::from(percent) / 1e2) as f64 / 1e3).collect()
}

fn histogram(times: &[Duration]) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, LONGEST, 4).expect("sane bounds");
    times.iter().for_each(|time| histogram.saturating_record(time.as_micros() as u64));
    histogram
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

    use super::{Floor, Latency, MeasuredRequest, Round, latency_curve, median, median_floor, spread};

    fn round(milliseconds: &[u64]) -> Round {
        let answer = |&time: &u64| MeasuredRequest {
            index: 0,
            latency: Some(Duration::from_millis(time)),
            error: None,
            md5: None,
        };
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
    fn the_median_round_and_the_spread_are_reported() {
        let rounds = |took: &[u64]| took.iter().map(|&took| round(&[took])).collect::<Vec<_>>();
        let of = |took: &[u64]| median(&rounds(took)).map(|place| took[place]);
        assert_eq!([of(&[5]), of(&[9, 1, 5]), of(&[9, 1, 5, 2])], [Some(5), Some(5), Some(2)]);
        assert_eq!(median(&[]), None);
        assert_eq!((spread(&rounds(&[5])), spread(&rounds(&[9, 1, 5]))), (None, Some(1.6)));
    }

    #[test]
    fn floors_are_per_frame() {
        let with = |floor| {
            let floor = Floor { took: Duration::from_millis(floor), cpu: None };
            Round { floor: Some(floor), ..round(&[10, 10]) }
        };
        assert_eq!(median_floor(&[with(8), with(4), with(60)]), Some(4.0));
        assert_eq!(median_floor(&[round(&[10])]), None);
    }

    #[test]
    fn the_curve_rises_from_the_least_to_the_greatest() {
        let curve = latency_curve(&round(&[30, 10, 20]));
        assert_eq!((curve.len(), curve[0].round(), curve[50].round(), curve[100].round()), (101, 10.0, 20.0, 30.0));
        assert!(latency_curve(&round(&[])).is_empty());
    }
}
