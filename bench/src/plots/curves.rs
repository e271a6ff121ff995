//! Curves: speed by memory for checkpoints, by threads, and by concurrent callers.

use super::axis::{Axis, number};
use super::chart::{self, AxisDirection, Chart, LegendPlacement, Mark, Point, Series};
use super::{Plot, pick, style};
use crate::records::Measurement;
use crate::records::ReportPart;

/// The parameter of a curve.
struct CurveParameter {
    /// As in [`SetupRecord::part`](crate::records::SetupRecord::part).
    part: ReportPart,
    title: &'static str,
    axis: &'static str,
    x: fn(&Measurement) -> Option<f64>,
    name: fn(f64) -> String,
}

/// The plotted value.
struct PlottedValue {
    name: &'static str,
    title: &'static str,
    axis: &'static str,
    y: fn(&Measurement) -> Option<f64>,
    /// The range over all rounds.
    range: fn(&Measurement) -> Option<(f64, f64)>,
    caption: &'static str,
}

const PARAMETERS: [CurveParameter; 3] = [
    CurveParameter {
        part: ReportPart::CheckpointMemory,
        title: "the memory for checkpoints",
        axis: "memory for checkpoints (logarithmic)",
        x: |one| one.setup.checkpoint_memory_bytes.map(|bytes| bytes as f64),
        name: bytes,
    },
    CurveParameter {
        part: ReportPart::Threads,
        title: "the number of threads",
        axis: "threads (logarithmic)",
        x: |one| Some(one.threads as f64),
        name: number,
    },
    CurveParameter {
        part: ReportPart::Callers,
        title: "the number of concurrent callers",
        axis: "callers (logarithmic)",
        x: |one| Some(one.setup.callers as f64),
        name: number,
    },
];

const FPS: PlottedValue = PlottedValue {
    name: "fps",
    title: "Frames per second",
    axis: "frames per second",
    y: |one| Some(one.fps),
    range: pick::fps_range,
    caption: " Whiskers reach from the slowest to the fastest round.",
};

const P95: PlottedValue = PlottedValue {
    name: "p95",
    title: "Latency of the 95th percentile",
    axis: "milliseconds",
    y: |one| one.latency_ms.p95,
    range: |_| None,
    caption: "",
};

/// The plots of all measured curves.
pub(crate) fn all(all: &[&Measurement]) -> Vec<Plot> {
    let plots = PARAMETERS.iter().flat_map(|parameter| {
        let those = pick::part(all, parameter.part);
        [FPS, P95].into_iter().filter_map(move |value| plot(parameter, &value, &those))
    });
    plots.collect()
}

fn plot(parameter: &CurveParameter, value: &PlottedValue, those: &[&Measurement]) -> Option<Plot> {
    let mut those = those.to_vec();
    those.retain(|one| (parameter.x)(one).is_some() && (value.y)(one).is_some_and(f64::is_finite));
    let video = pick::name(pick::videos(&those).first()?, 48);
    let values: Vec<f64> = those.iter().flat_map(|one| ends(value, one)).collect();
    let series = pick::engines(&those).into_iter().map(|engine| series(parameter, value, &those, engine));
    let title = format!("{} against {}", value.title, parameter.title);
    let chart = Chart {
        title: title.clone(),
        fault: None,
        x: Axis::steps(parameter.axis, those.iter().filter_map(|one| (parameter.x)(one)), parameter.name),
        y: axis(value, &values),
        series: series.collect(),
        guides: Vec::new(),
        whiskers: AxisDirection::Y,
        names: LegendPlacement::AtEnds,
        room: 110,
        is_small: false,
    };
    let first = those.first()?;
    let warm = match first.setup.warm {
        0 => String::new(),
        warm => format!(", after {warm} other frames"),
    };
    Some(Plot {
        name: format!("{}-{}", parameter.part.name(), value.name),
        title,
        caption: format!("{}, {video}{warm}.{}", first.scenario, value.caption),
        svg: chart::svg((620, 360), |area| chart.draw(area)),
    })
}

/// From zero, unless the least value would then disappear at the bottom.
fn axis(value: &PlottedValue, values: &[f64]) -> Axis {
    let (least, greatest) = super::axis::bounds(values.iter().copied()).unwrap_or((0.0, 1.0));
    match least > 0.0 && greatest > 12.0 * least {
        true => Axis::log(&format!("{} (logarithmic)", value.axis), values.iter().copied()),
        false => Axis::from_zero(value.axis, values.iter().copied()),
    }
}

/// The value, and the extremes of its rounds.
fn ends(value: &PlottedValue, one: &Measurement) -> Vec<f64> {
    let range = (value.range)(one).map(|(least, greatest)| [least, greatest]);
    (value.y)(one).into_iter().chain(range.into_iter().flatten()).collect()
}

fn series(parameter: &CurveParameter, value: &PlottedValue, those: &[&Measurement], engine: &str) -> Series {
    let point = |one: &&Measurement| {
        let mark = if pick::is_sound(one) { Mark::Sound } else { Mark::Wrong };
        let point = Point::new(((parameter.x)(one)?, (value.y)(one)?), mark);
        Some(Point { whisker: (value.range)(one), note: pick::fault(one).unwrap_or_default(), ..point })
    };
    let mut points: Vec<Point> = those.iter().filter(|one| one.engine == engine).filter_map(point).collect();
    points.sort_by(|one, other| one.at.0.total_cmp(&other.at.0));
    Series { name: engine.to_owned(), style: style::engine(engine), points, is_joined: true }
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
