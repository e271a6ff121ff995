//! The distribution of latencies: the share of each engine's requests that were answered within a time.

use super::axis::Axis;
use super::chart::{self, AxisDirection, Chart, DrawResult, Guide, LegendPlacement, Mark, Point, Series};
use super::speed::SUBJECT;
use super::{Plot, pick, style};
use crate::records::Measurement;

/// Percentiles with a mark on the curve.
const MARKED: [usize; 2] = [50, 95];
/// With many videos, only this scenario is plotted: in the others a latency says less than a speed.
const SCENARIO: &str = "random";
/// Small charts per row, and their size.
const COLUMNS: usize = 4;
const CELL: (i32, i32) = (240, 180);
/// Most labels at the axis of a small chart.
const TICKS: usize = 4;
/// Shorter times are drawn at the edge: differences between immediate frames do not matter.
const SHORTEST_MS: f64 = 0.01;

/// The distribution of a scenario; for several videos a small chart each.
pub(crate) fn of(all: &[&Measurement], scenario: &str) -> Option<Plot> {
    let those = pick::scenario(all, scenario);
    let with_curve: Vec<_> = those.iter().copied().filter(|one| !curve(one).is_empty()).collect();
    let videos = pick::videos(&with_curve);
    let title = format!("Latency, {scenario}");
    let caption = "Upwards: the percentage of requests answered within the time; marks at 50 and 95 %. \
                   Engines that do not report when frames arrive are left out.";
    let svg = match videos[..] {
        [] => return None,
        [video] => {
            let chart = Chart {
                title: format!("{title}: {}", pick::name(video, 60)),
                names: LegendPlacement::Above,
                room: 20,
                is_small: false,
                guides: floor(&those).into_iter().collect(),
                ..small(&those, video, axis(&those))
            };
            chart::svg((720, 400), |area| chart.draw(area))
        }
        _ if scenario == SCENARIO => grid(&those, &videos, &title),
        _ => return None,
    };
    Some(Plot { name: format!("latency-{scenario}"), title, caption: caption.to_owned(), svg })
}

/// The finite times of the percentiles.
fn curve(one: &Measurement) -> Vec<(usize, f64)> {
    one.latency_curve_ms.iter().copied().enumerate().filter(|(_, time)| time.is_finite()).collect()
}

fn axis(those: &[&Measurement]) -> Axis {
    let times = those.iter().flat_map(|one| curve(one)).map(|(_, time)| time.max(SHORTEST_MS));
    Axis::log("milliseconds (logarithmic)", times.chain(those.iter().filter_map(|one| one.floor_ms)))
}

/// The time of a bare loop for the frames of this program's engine.
fn floor(those: &[&Measurement]) -> Option<Guide> {
    let value = those.iter().find(|one| one.engine == SUBJECT)?.floor_ms.filter(|floor| *floor > 0.0)?;
    Some(Guide { axis: AxisDirection::X, value, name: "bare loop, mean".to_owned() })
}

/// The chart of one video among many.
fn small(those: &[&Measurement], video: &str, x: Axis) -> Chart {
    let of_video = those.iter().filter(|one| one.video == video);
    let series = of_video.clone().filter(|one| !curve(one).is_empty()).map(|one| {
        let mark = |percent: usize| match (MARKED.contains(&percent), pick::is_sound(one)) {
            (false, _) => Mark::Nothing,
            (true, true) => Mark::Sound,
            (true, false) => Mark::Wrong,
        };
        let points = curve(one);
        let points = points.into_iter().map(|(percent, time)| Point::new((time, percent as f64), mark(percent)));
        let style = style::engine(&one.engine);
        Series { name: one.engine.clone(), style, points: points.collect(), is_joined: true }
    });
    // An engine without latencies may still have faults.
    let faults = of_video.filter_map(|one| Some(format!("{} {}", one.engine, pick::fault(one)?)));
    let faults: Vec<String> = faults.collect();
    let title = if x.title.is_empty() { "" } else { "percent of requests" };
    Chart {
        title: pick::name(video, 27),
        fault: (!faults.is_empty()).then(|| faults.join("  ")),
        x,
        y: Axis::fixed(title, 0.0..100.0, &[0.0, 25.0, 50.0, 75.0, 100.0]),
        series: series.collect(),
        guides: Vec::new(),
        whiskers: AxisDirection::X,
        names: LegendPlacement::Elsewhere,
        room: 10,
        is_small: true,
    }
}

/// A small chart for each video, all with the same axes.
fn grid(those: &[&Measurement], videos: &[&str], title: &str) -> String {
    let head = 62;
    let rows = videos.len().div_ceil(COLUMNS) as i32;
    let x = axis(those).untitled().sparse(TICKS);
    let mut charts: Vec<Chart> = videos.iter().map(|video| small(those, video, x.clone())).collect();
    if charts.iter().any(|chart| chart.fault.is_some()) {
        // Room for the notice in all charts, so that the axes of a row align.
        charts
            .iter_mut()
            .for_each(|chart| chart.fault = Some(style::shortened(chart.fault.as_deref().unwrap_or(""), 36)));
    }
    let size = (CELL.0 * COLUMNS as i32, head + CELL.1 * rows);
    chart::svg(size, |area| -> DrawResult {
        let (top, cells) = area.split_vertically(head);
        let all = charts.iter().flat_map(|chart| chart.series.clone()).collect::<Vec<_>>();
        chart::heading(&top, &format!("{title}: milliseconds (logarithmic), percent of requests"), &all)?;
        let cells = cells.split_evenly((rows as usize, COLUMNS));
        charts.iter().zip(&cells).try_for_each(|(chart, cell)| chart.draw(cell))
    })
}
