//! Selects results that belong together, and summarises them.

use super::style;
use crate::records::ReportPart;
use crate::records::{EngineResult, Measurement};

/// The results with numbers.
pub(crate) fn measurements(entries: &[EngineResult]) -> Vec<&Measurement> {
    entries.iter().filter_map(EngineResult::measurement).collect()
}

/// The results of a part of the report. A result without a part is over clips, not a point of a curve.
pub(crate) fn part<'a>(all: &[&'a Measurement], part: ReportPart) -> Vec<&'a Measurement> {
    all.iter().copied().filter(|one| one.setup.part.unwrap_or(ReportPart::Clips) == part).collect()
}

/// The results of a scenario over clips.
pub(crate) fn scenario<'a>(all: &[&'a Measurement], scenario: &str) -> Vec<&'a Measurement> {
    part(all, ReportPart::Clips).into_iter().filter(|one| one.scenario == scenario).collect()
}

/// The scenarios over clips, in order of their first appearance.
pub(crate) fn scenarios<'a>(all: &[&'a Measurement]) -> Vec<&'a str> {
    distinct(part(all, ReportPart::Clips).into_iter().map(|one| one.scenario.as_str()))
}

/// The engines, in the order of their first appearance.
pub(crate) fn engines<'a>(all: &[&'a Measurement]) -> Vec<&'a str> {
    distinct(all.iter().map(|one| one.engine.as_str()))
}

/// The videos, in the order of their first appearance.
pub(crate) fn videos<'a>(all: &[&'a Measurement]) -> Vec<&'a str> {
    distinct(all.iter().map(|one| one.video.as_str()))
}

fn distinct<'a>(values: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}

/// The result of an engine and a video.
pub(crate) fn find<'a>(all: &[&'a Measurement], video: &str, engine: &str) -> Option<&'a Measurement> {
    all.iter().copied().find(|one| one.video == video && one.engine == engine)
}

/// The name of a video without its folders, of at most this many characters.
pub(crate) fn name(video: &str, most: usize) -> String {
    let file = video.trim_end_matches('/').rsplit('/').next().unwrap_or(video);
    style::shortened(file, most)
}

/// The faults of an engine's result: wrong frames and missing frames.
pub(crate) fn fault(one: &Measurement) -> Option<String> {
    let wrong = one.wrong.filter(|wrong| *wrong > 0);
    let wrong = wrong.map(|wrong| format!("{wrong} of {} wrong", one.checked.unwrap_or(one.frames)));
    let missing = (one.errors > 0).then(|| format!("{} of {} missing", one.errors, one.requested()));
    let faults: Vec<String> = wrong.into_iter().chain(missing).collect();
    (!faults.is_empty()).then(|| format!("✗ {}", faults.join(", ")))
}

/// Whether all frames arrived, and none is known to be wrong.
pub(crate) fn is_sound(one: &Measurement) -> bool {
    fault(one).is_none() && one.fps > 0.0
}

/// Frames per second of the slowest and the fastest round, if there are several.
pub(crate) fn fps_range(one: &Measurement) -> Option<(f64, f64)> {
    super::axis::bounds(one.rounds.iter().map(|round| round.fps)).filter(|_| one.rounds.len() > 1)
}

/// The median; of two middle values the lower one.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

/// The speed of an engine relative to another one, for each video of a scenario where all frames of both are right.
pub(crate) fn ratios(all: &[&Measurement], scenario_name: &str, engine: &str, other: &str) -> Vec<f64> {
    let those = scenario(all, scenario_name);
    let ratio = |video: &&str| {
        let (one, other) = (find(&those, video, engine)?, find(&those, video, other)?);
        (is_sound(one) && is_sound(other)).then(|| one.fps / other.fps)
    };
    videos(&those).iter().filter_map(ratio).collect()
}
