//! Curves: speed by memory for checkpoints, by threads, and by concurrent callers.

use super::axis::{Axis, number};
use super::chart::{self, Along, Chart, Mark, Names, Point, Series};
use super::{Plot, look, pick};
use crate::entry::Measured;
use crate::entry::Part;

/// The parameter of a curve.
struct Over {
    /// As in [`SetupTold::part`](crate::entry::SetupTold::part).
    part: Part,
    title: &'static str,
    axis: &'static str,
    x: fn(&Measured) -> Option<f64>,
    name: fn(f64) -> String,
}

/// The plotted value.
struct Value {
    name: &'static str,
    title: &'static str,
    axis: &'static str,
    y: fn(&Measured) -> Option<f64>,
    /// The range over all rounds.
    range: fn(&Measured) -> Option<(f64, f64)>,
    caption: &'static str,
}

const OVER: [Over; 3] = [
    Over {
        part: Part::CheckpointMemory,
        title: "the memory for checkpoints",
        axis: "memory for checkpoints (logarithmic)",
        x: |one| one.setup.checkpoint_memory_bytes.map(|bytes| bytes as f64),
        name: bytes,
    },
    Over {
        part: Part::Threads,
        title: "the number of threads",
        axis: "threads (logarithmic)",
        x: |one| Some(one.threads as f64),
        name: number,
    },
    Over {
        part: Part::Callers,
        title: "the number of concurrent callers",
        axis: "callers (logarithmic)",
        x: |one| Some(one.setup.callers as f64),
        name: number,
    },
];

const FPS: Value = Value {
    name: "fps",
    title: "Frames per second",
    axis: "frames per second",
    y: |one| Some(one.fps),
    range: pick::fps_range,
    caption: " Whiskers reach from the slowest to the fastest round.",
};

const P95: Value = Value {
    name: "p95",
    title: "Latency of the 95th percentile",
    axis: "milliseconds",
    y: |one| one.latency_ms.p95,
    range: |_| None,
    caption: "",
};

/// The plots of all measured curves.
pub(crate) fn all(all: &[&Measured]) -> Vec<Plot> {
    let plots = OVER.iter().flat_map(|over| {
        let those = pick::part(all, over.part);
        [FPS, P95].into_iter().filter_map(move |value| plot(over, &value, &those))
    });
    plots.collect()
}

fn plot(over: &Over, value: &Value, those: &[&Measured]) -> Option<Plot> {
    let mut those = those.to_vec();
    those.retain(|one| (over.x)(one).is_some() && (value.y)(one).is_some_and(f64::is_finite));
    let video = pick::name(pick::videos(&those).first()?, 48);
    let values: Vec<f64> = those.iter().flat_map(|one| ends(value, one)).collect();
    let series = pick::engines(&those).into_iter().map(|engine| series(over, value, &those, engine));
    let title = format!("{} against {}", value.title, over.title);
    let chart = Chart {
        title: title.clone(),
        fault: None,
        x: Axis::steps(over.axis, those.iter().filter_map(|one| (over.x)(one)), over.name),
        y: axis(value, &values),
        series: series.collect(),
        guides: Vec::new(),
        whiskers: Along::Y,
        names: Names::AtEnds,
        room: 110,
        is_small: false,
    };
    let first = those.first()?;
    let warm = match first.setup.warm {
        0 => String::new(),
        warm => format!(", after {warm} other frames"),
    };
    Some(Plot {
        name: format!("{}-{}", over.part.name(), value.name),
        title,
        caption: format!("{}, {video}{warm}.{}", first.scenario, value.caption),
        svg: chart::svg((620, 360), |area| chart.draw(area)),
    })
}

/// From zero, unless the least value would then disappear at the bottom.
fn axis(value: &Value, values: &[f64]) -> Axis {
    let (least, greatest) = super::axis::bounds(values.iter().copied()).unwrap_or((0.0, 1.0));
    match least > 0.0 && greatest > 12.0 * least {
        true => Axis::log(&format!("{} (logarithmic)", value.axis), values.iter().copied()),
        false => Axis::from_zero(value.axis, values.iter().copied()),
    }
}

/// The value, and the extremes of its rounds.
fn ends(value: &Value, one: &Measured) -> Vec<f64> {
    let range = (value.range)(one).map(|(least, greatest)| [least, greatest]);
    (value.y)(one).into_iter().chain(range.into_iter().flatten()).collect()
}

fn series(over: &Over, value: &Value, those: &[&Measured], engine: &str) -> Series {
    let point = |one: &&Measured| {
        let mark = if pick::is_sound(one) { Mark::Sound } else { Mark::Wrong };
        let point = Point::new(((over.x)(one)?, (value.y)(one)?), mark);
        Some(Point { whisker: (value.range)(one), note: pick::fault(one).unwrap_or_default(), ..point })
    };
    let mut points: Vec<Point> = those.iter().filter(|one| one.engine == engine).filter_map(point).collect();
    points.sort_by(|one, other| one.at.0.total_cmp(&other.at.0));
    Series { name: engine.to_owned(), look: look::engine(engine), points, is_joined: true }
}

/// An amount of memory in binary units.
pub(crate) fn bytes(bytes: f64) -> String {
    let unit = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")].into_iter();
    let unit = unit.map(|(size, unit)| (size as f64, unit)).find(|(size, _)| bytes >= *size);
    match unit {
        Some((size, unit)) => format!("{} {unit}", number(bytes / size)),
        None => number(bytes),
    }
}
