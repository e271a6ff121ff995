//! The tables of the report: all numbers of the plots, and more.

use maud::{Markup, html};

use crate::plots::{self, number, pick};
use crate::records::Measurement;
use crate::records::ReportPart;

/// Longer tables are folded.
const LONG: usize = 24;
/// The engine that the others are compared with.
const SUBJECT: &str = plots::SUBJECT;

/// One line per scenario and engine, for several videos: medians over the videos.
pub(crate) fn overview(all: &[&Measurement]) -> Option<Markup> {
    if pick::videos(&pick::part(all, ReportPart::Clips)).len() < 2 {
        return None;
    }
    Some(html! {
        div class="wide" { table {
            thead { tr {
                th class="name" { "scenario" } th class="name" { "engine" } th { "videos" }
                th { "fps" small { "median" } } th { (SUBJECT) " is faster" small { "median of ratios" } }
                th { "ratio to floor" small { "median" } } th { "videos with" small { "wrong or missing frames" } }
            } }
            tbody { @for scenario in pick::scenarios(all) { (of_scenario(all, scenario)) } }
        } }
    })
}

fn of_scenario(all: &[&Measurement], scenario: &str) -> Markup {
    let all_of_it = pick::scenario(all, scenario);
    let engines = pick::engines(&all_of_it);
    html! {
        @for (row, engine) in engines.iter().enumerate() {
            @let those = all_of_it.iter().filter(|one| one.engine == *engine).collect::<Vec<_>>();
            @let sound = those.iter().filter(|one| pick::is_sound(one)).map(|one| one.fps).collect();
            @let ratio = pick::median(pick::ratios(all, scenario, SUBJECT, engine)).filter(|_| *engine != SUBJECT);
            @let faulty = those.iter().filter(|one| pick::fault(one).is_some()).count();
            tr {
                @if row == 0 { th rowspan=(engines.len()) { (scenario) } }
                td class="name" { (swatch(engine)) (engine) }
                td { (those.len()) }
                td { (cell(pick::median(sound))) }
                td { (cell(ratio)) @if ratio.is_some() { " ×" } }
                td { (cell(pick::median(those.iter().filter_map(|one| one.ratio()).collect()))) }
                @if faulty > 0 { td class="loud" { "✗ " (faulty) " of " (those.len()) } } @else { td { "0" } }
            }
        }
    }
}

/// A column: its title, its subtitle, and its values.
type TableColumn = (&'static str, &'static str, fn(&Measurement) -> Option<f64>);

const COLUMNS: [TableColumn; 15] = [
    ("p50", "ms", |one| one.latency_ms.p50),
    ("p95", "ms", |one| one.latency_ms.p95),
    ("p99", "ms", |one| one.latency_ms.p99),
    ("max", "ms", |one| one.latency_ms.max),
    ("mean", "ms", |one| one.latency_ms.mean),
    ("floor", "ms a frame", |one| one.floor_ms),
    ("ratio", "to floor", Measurement::ratio),
    ("open", "ms", |one| one.open_ms),
    ("CPU", "ms a frame", |one| one.cpu_per_frame_ms),
    ("memory", "peak, MiB", |one| one.peak_rss_bytes.map(mebibytes)),
    ("decoded", "pictures", |one| one.decoded_pictures.map(|pictures| pictures as f64)),
    ("read", "MiB", |one| one.fetched_bytes.map(mebibytes)),
    ("copied", "MiB", |one| one.copied_bytes.map(mebibytes)),
    ("allocations", "blocks", |one| one.allocations.map(|blocks| blocks as f64)),
    ("spread", "% of rounds", |one| one.spread.map(|spread| spread * 1e2)),
];

/// All numbers, a line for each engine and video, or for each point of a curve.
pub(crate) fn numbers(all: &[&Measurement]) -> Option<Markup> {
    let first = all.first()?;
    let (videos, part) = (pick::videos(all), first.setup.part.filter(|part| *part != ReportPart::Clips));
    // A column without any value is left out.
    let columns: Vec<&TableColumn> =
        COLUMNS.iter().filter(|column| all.iter().any(|one| column.2(one).is_some())).collect();
    let is_faulty = all.iter().any(|one| pick::fault(one).is_some());
    let table = html! {
        div class="wide" { table {
            thead { tr {
                @if videos.len() > 1 { th class="name" { "video" } }
                th class="name" { "engine" }
                @if let Some(part) = part { th { (part.name()) } }
                th { "frames" small { "compared" } }
                @if is_faulty { th class="name" { "faults" } }
                th { "fps" small { "least to greatest" } }
                @for (title, below, _) in &columns { th { (title) small { (below) } } }
            } }
            tbody { @for video in &videos { (lines(all, video, videos.len() > 1, part, is_faulty, &columns)) } }
        } }
    };
    Some(match all.len() > LONG {
        true => html! { details { summary { "All numbers (" (all.len()) " measurements)" } (table) } },
        false => table,
    })
}

fn lines(
    all: &[&Measurement],
    video: &str,
    is_named: bool,
    part: Option<ReportPart>,
    is_faulty: bool,
    columns: &[&TableColumn],
) -> Markup {
    let those: Vec<_> = all.iter().filter(|one| one.video == video).collect();
    html! {
        @for (row, one) in those.iter().enumerate() {
            @let fault = pick::fault(one);
            tr class=[fault.as_ref().map(|_| "faulty")] {
                @if is_named && row == 0 { th rowspan=(those.len()) title=(video) { (pick::name(video, 40)) } }
                td class="name" { (swatch(&one.engine)) (one.engine) }
                @if let Some(part) = part { td { (step(part, one)) } }
                td { (one.frames) @if let Some(checked) = one.checked { " " small { (checked) } } }
                @if is_faulty { td class=[fault.as_ref().map(|_| "loud")] { (fault.unwrap_or_default()) } }
                td class="speed" { (speed(one)) }
                @for (_, _, value) in columns { td { (cell(value(one))) } }
            }
        }
    }
}

fn speed(one: &Measurement) -> Markup {
    let range = pick::fps_range(one);
    html! {
        @if one.noise().is_some() { "~" }
        b { (number(one.fps)) }
        @if let Some((least, greatest)) = range { " " small { (number(least)) "–" (number(greatest)) } }
    }
}

/// The parameter value of a point on its curve.
fn step(part: ReportPart, one: &Measurement) -> String {
    match part {
        ReportPart::Threads => one.threads.to_string(),
        ReportPart::Callers => one.setup.callers.to_string(),
        ReportPart::Clips => String::new(),
        ReportPart::CheckpointMemory => {
            one.setup.checkpoint_memory_bytes.map_or_else(String::new, |bytes| plots::bytes(bytes as f64))
        }
    }
}

/// The properties of the videos.
pub(crate) fn clips(all: &[&Measurement]) -> Option<Markup> {
    let videos = pick::videos(all);
    let of = |video: &str| all.iter().find(|one| one.video == video).map(|one| &one.clip);
    let table = html! {
        div class="wide" { table {
            thead { tr {
                th class="name" { "video" } th class="name" { "container" } th class="name" { "codec" } th { "size" }
                th class="name" { "samples" } th { "frames" } th { "key frames" } th { "longest GOP" }
            } }
            tbody { @for video in &videos { @if let Some(clip) = of(video) { tr {
                td class="name" title=(video) { (pick::name(video, 60)) }
                td class="name" { (clip.container) }
                td class="name" { (clip.codec) }
                td { (clip.width) " × " (clip.height) }
                td class="name" { (clip.pixel_format.as_deref().unwrap_or("")) }
                td { (clip.frames) } td { (clip.keyframes) } td { @if let Some(gop) = clip.longest_gop { (gop) } }
            } } } }
        } }
    };
    (!videos.is_empty()).then_some(table)
}

/// The colour of an engine in the plots.
fn swatch(engine: &str) -> Markup {
    html! { i class="sign" style={ "background:" (plots::colour(engine)) } {} }
}

fn cell(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), number)
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The memory of a machine.
pub(crate) fn gibibytes(bytes: f64) -> String {
    format!("{} GiB", number(bytes / f64::from(1 << 30)))
}
