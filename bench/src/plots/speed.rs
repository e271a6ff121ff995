//! Frames per second by engine, and the speed relative to other engines.

use super::axis::{Axis, bounds, number};
use super::chart::{self, AxisDirection, Chart, Guide, LegendPlacement, Mark, Point, Series};
use super::style::{self, SMALL};
use super::{Plot, pick};
use crate::records::Measurement;
use crate::records::ReportPart;

/// The engine that is compared with the others.
pub(crate) const SUBJECT: &str = "cpu";
/// Most characters of a clip's name beside its row.
const NAME: usize = 38;

/// Frames per second of a scenario: a row for each engine, or for each video if there are several.
pub(crate) fn by_engine(all: &[&Measurement], scenario: &str) -> Option<Plot> {
    let those = pick::scenario(all, scenario);
    let (videos, engines) = (pick::videos(&those), pick::engines(&those));
    if videos.is_empty() {
        return None;
    }
    let is_single = videos.len() == 1;
    let title = match is_single {
        true => format!("Frames per second, {scenario}: {}", pick::name(videos[0], 60)),
        false => format!("Frames per second by video, {scenario}"),
    };
    let names = match is_single {
        true => engines.iter().map(|engine| (*engine).to_owned()).collect(),
        false => videos.iter().map(|video| pick::name(video, NAME)).collect(),
    };
    let row = |one: &Measurement| match is_single {
        true => engines.iter().position(|engine| *engine == one.engine),
        false => videos.iter().position(|video| *video == one.video),
    };
    let speeds = those.iter().flat_map(|one| {
        let (least, greatest) = pick::fps_range(one).unwrap_or((one.fps, one.fps));
        [one.fps, least, greatest]
    });
    let x = Axis::log("frames per second (logarithmic)", speeds);
    let notes = |one: &Measurement| if is_single { beside(one) } else { String::new() };
    let series = engines.iter().map(|engine| Series {
        name: (*engine).to_owned(),
        style: style::engine(engine),
        is_joined: false,
        points: those
            .iter()
            .filter(|one| one.engine == *engine)
            .filter_map(|one| Some(point(one, row(one)? as f64, notes(one))))
            .collect(),
    });
    let mut series: Vec<Series> = series.collect();
    let room = if is_single { 220 } else { margin(&mut series, &those, &videos, x.ends().1) };
    let rows = if is_single { engines.len() } else { videos.len() };
    let chart = Chart {
        title: title.clone(),
        fault: None,
        x,
        y: Axis::rows(names),
        series,
        guides: Vec::new(),
        whiskers: AxisDirection::X,
        names: if is_single { LegendPlacement::Elsewhere } else { LegendPlacement::Above },
        room,
        is_small: false,
    };
    let height = rows as i32 * if is_single { 34 } else { 17 } + 120;
    Some(Plot {
        name: format!("fps-{scenario}"),
        title,
        caption: "The round of median duration; whiskers reach from the slowest to the fastest round. Crossed out: \
                  frames are wrong or missing, and the speed is meaningless."
            .to_owned(),
        svg: chart::svg((960, height), |area| chart.draw(area)),
    })
}

fn point(one: &Measurement, row: f64, note: String) -> Point {
    let mark = if pick::is_sound(one) { Mark::Sound } else { Mark::Wrong };
    Point { at: (one.fps, row), mark, whisker: pick::fps_range(one), note }
}

/// The text beside the only point of a row.
fn beside(one: &Measurement) -> String {
    let ratio = one.ratio().map_or_else(String::new, |ratio| format!("  ({ratio:.2} × floor)"));
    let fault = pick::fault(one).map_or_else(String::new, |fault| format!("  {fault}"));
    format!("{}{ratio}{fault}", number(one.fps))
}

/// Writes the faults of each row at the right margin; returns the width.
fn margin(series: &mut Vec<Series>, those: &[&Measurement], videos: &[&str], right: f64) -> i32 {
    let fault_note = |video: &&str| {
        let faults = those.iter().filter(|one| one.video == *video);
        let faults = faults.filter_map(|one| Some(format!("{} {}", one.engine, pick::fault(one)?)));
        style::shortened(&faults.collect::<Vec<_>>().join("  "), 48)
    };
    let notes: Vec<String> = videos.iter().map(fault_note).collect();
    let room = notes.iter().map(|note| style::width(note, SMALL) + 16).max().unwrap_or(0).max(14);
    let points = notes.into_iter().enumerate();
    let points = points.map(|(row, note)| Point { note, ..Point::new((right, row as f64), Mark::Nothing) });
    // No name: the series is not an engine.
    let style = style::engine("");
    series.push(Series { name: String::new(), style, is_joined: false, points: points.collect() });
    room
}

/// Prefix of the names of engines that are compared with.
const AS: &str = "as ";

fn beside_of(engine: &str) -> Series {
    Series { name: format!("{AS}{engine}"), style: style::engine(engine), points: Vec::new(), is_joined: false }
}

/// The relative speed of this program's engine in each scenario, if there are several videos.
pub(crate) fn overview(all: &[&Measurement]) -> Option<Plot> {
    let scenarios = pick::scenarios(all);
    let clips = pick::part(all, ReportPart::Clips);
    let others: Vec<&str> = pick::engines(&clips).into_iter().filter(|engine| *engine != SUBJECT).collect();
    if pick::videos(&clips).len() < 2 || others.is_empty() {
        return None;
    }
    let mut series: Vec<Series> = others.into_iter().map(beside_of).collect();
    let mut rows = Vec::new();
    for scenario in scenarios {
        let first = rows.len();
        for one in &mut series {
            let ratios = pick::ratios(all, scenario, SUBJECT, one.name.trim_start_matches(AS));
            let Some(median) = pick::median(ratios.clone()) else { continue };
            let whisker = bounds(ratios.iter().copied()).filter(|_| ratios.len() > 1);
            let note = format!("{} ×, {} videos", number(median), ratios.len());
            one.points.push(Point { whisker, note, ..Point::new((median, rows.len() as f64), Mark::Sound) });
            // The scenario is written once, at its first row.
            rows.push(if rows.len() == first { scenario.to_owned() } else { String::new() });
        }
    }
    let ends = series.iter().flat_map(|one| &one.points).flat_map(|point| {
        let (least, greatest) = point.whisker.unwrap_or((point.at.0, point.at.0));
        [least, greatest]
    });
    let title = format!("Speed of {SUBJECT} relative to other engines");
    let height = rows.len() as i32 * 22 + 120;
    let chart = Chart {
        title: title.clone(),
        fault: None,
        x: Axis::log("times as fast (logarithmic)", ends.chain([1.0])),
        y: Axis::rows(rows),
        series,
        guides: vec![Guide { axis: AxisDirection::X, value: 1.0, name: String::new() }],
        whiskers: AxisDirection::X,
        names: LegendPlacement::Above,
        room: 130,
        is_small: false,
    };
    Some(Plot {
        name: "speedup".to_owned(),
        title,
        caption: "The median over all videos for which all frames of both engines are right; whiskers reach from the \
                  video with the least ratio to the one with the greatest."
            .to_owned(),
        svg: chart::svg((960, height), |area| chart.draw(area)),
    })
}
