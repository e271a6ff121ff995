//! The HTML report: one self-contained file with all plots.
//!
//! `plots` draws the plots and `tables` writes the tables; this file has the page, the facts and notices before them,
//! and their order.

mod tables;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::plots::{self, Plot, pick};
use super::records::ReportPart;
use super::records::{EngineResult, Measurement};

const STYLE: &str = include_str!("html/style.css");

/// The report.
pub(crate) fn page(entries: &[EngineResult]) -> String {
    let all = pick::measurements(entries);
    let plots = plots::of(entries);
    let sections = sections(&all, &plots);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title(&all)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title(&all)) }
                (facts(&all))
                (notices(entries, &all))
                @if sections.len() > 1 {
                    nav { @for section in &sections { a href={ "#" (section.id) } { (section.title) } } }
                }
                @for section in &sections {
                    h2 id=(section.id) { (section.title) }
                    (section.body)
                }
            }
        }
    };
    page.into_string()
}

fn title(all: &[&Measurement]) -> String {
    match (&pick::videos(all)[..], &pick::scenarios(all)[..]) {
        ([video], [scenario]) => format!("bucket-streamer bench {scenario}: {}", pick::name(video, 80)),
        (videos, _) => format!("bucket-streamer bench: {} videos", videos.len()),
    }
}

/// A part of the report with an anchor.
struct ReportSection {
    id: String,
    title: String,
    body: Markup,
}

fn sections(all: &[&Measurement], plots: &[Plot]) -> Vec<ReportSection> {
    let scenarios = pick::scenarios(all);
    let mut sections = Vec::new();
    let mut push = |id: &str, title: &str, prefixes: &[&str], table: Option<Markup>| {
        let those = plots.iter().filter(|plot| prefixes.iter().any(|prefix| plot.name.starts_with(prefix)));
        let those: Vec<&Plot> = those.collect();
        if !those.is_empty() || table.is_some() {
            let body = html! {
                div class="plots" { @for plot in &those { (figure(plot)) } }
                @if let Some(table) = table { (table) }
            };
            sections.push(ReportSection { id: id.to_owned(), title: title.to_owned(), body });
        }
    };
    push("overview", "Overview", &["speedup"], tables::overview(all));
    push("gop", "Length of GOPs", &["gop-"], None);
    for (part, title) in [
        (ReportPart::CheckpointMemory, "Memory for checkpoints"),
        (ReportPart::Threads, "Threads"),
        (ReportPart::Callers, "Concurrent callers"),
    ] {
        let name = part.name();
        push(name, title, &[&format!("{name}-")], tables::numbers(&pick::part(all, part)));
    }
    for scenario in scenarios {
        let table = tables::numbers(&pick::scenario(all, scenario));
        push(scenario, scenario, &[&format!("fps-{scenario}"), &format!("latency-{scenario}")], table);
    }
    push("videos", "Videos", &[], tables::clips(all));
    sections
}

fn figure(plot: &Plot) -> Markup {
    html! {
        figure id=(plot.name) role="img" aria-label=(plot.title) {
            (PreEscaped(&plot.svg))
            figcaption { (plot.caption) }
        }
    }
}

/// The command line, the programs and the machine.
fn facts(all: &[&Measurement]) -> Markup {
    let Some(first) = all.first() else { return html! { p { "Nothing was measured." } } };
    let machine = serde_json::to_value(&first.machine).expect("plain data");
    let field = |name: &str| match &machine[name] {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => "unknown".to_owned(),
        other => other.to_string(),
    };
    let memory = machine["memory_bytes"].as_f64().map_or_else(|| "unknown".to_owned(), tables::gibibytes);
    let peer = all.iter().find_map(|one| one.engine_version.clone());
    let rounds = all.iter().map(|one| one.rounds.len()).max().unwrap_or(0);
    let rows = [
        ("Command", html! { code { (first.command) } }),
        ("Version", html! { (field("version")) ", with FFmpeg " (field("ffmpeg")) }),
        ("Compared with", html! { (peer.as_deref().unwrap_or("no other program")) }),
        ("Processor", html! { (field("cpu")) ", " (field("cores")) " cores, " (memory) " of memory" }),
        ("System", html! { (field("os")) ", kernel " (field("kernel")) ", load " (field("load")) }),
        (
            "Measured",
            html! {
                "frames as " (first.output) ", threads " (first.threads) ", rounds " (rounds) ": shown is that of median \
                 duration"
                @if let Some(rate) = first.setup.rate_per_s { ", " (rate) " requests a second" }
                @if first.setup.part.is_none() && first.setup.callers > 1 { ", " (first.setup.callers) " callers" }
                @if first.setup.part.is_none() && first.setup.warm > 0 { ", after " (first.setup.warm) " other frames" }
            },
        ),
    ];
    html! { dl { @for (name, text) in rows { dt { (name) } dd { (text) } } } }
}

/// Notices before the numbers: faults, engines that are absent, noise.
fn notices(entries: &[EngineResult], all: &[&Measurement]) -> Markup {
    let mut absent: Vec<String> = Vec::new();
    for entry in entries {
        if let EngineResult::Unavailable { engine, unavailable } = entry {
            let text = format!("{engine} is not available: {unavailable}");
            if !absent.contains(&text) {
                absent.push(text);
            }
        }
    }
    let noisy: Vec<_> = all.iter().filter_map(|one| Some((one, one.noise()?))).collect();
    let unchecked = all.iter().filter(|one| one.checked.is_none()).count();
    html! {
        ul class="notices" {
            @for engine in pick::engines(all) { (faults(all, engine)) }
            @if unchecked > 0 {
                li class="loud" { "Frames of " (unchecked) " of " (all.len()) " measurements were not compared." }
            } @else if let Some(checked) = all.iter().map(|one| one.checked).sum::<Option<usize>>() {
                @if !all.is_empty() {
                    li class="good" { "Compared with a sequential decode: " (checked) " frames of "
                         (all.iter().map(|one| one.requested()).sum::<usize>()) " that were requested." }
                }
            }
            @for text in &absent { li { (text) } }
            @if noisy.len() > 3 {
                li { (noisy.len()) " of " (all.len()) " measurements have rounds that lie more than 25 % apart: they are \
                     marked with ~, and their single times are unreliable." }
            } @else {
                @for (one, warning) in &noisy {
                    li { (one.engine) ", " (one.scenario) ", " (pick::name(&one.video, 60)) ": " (warning) }
                }
            }
        }
    }
}

/// The number of wrong or missing frames of an engine.
fn faults(all: &[&Measurement], engine: &str) -> Markup {
    let those: Vec<_> = all.iter().filter(|one| one.engine == engine).collect();
    let faulty = those.iter().filter(|one| pick::fault(one).is_some());
    let videos = pick::videos(&faulty.clone().map(|one| **one).collect::<Vec<_>>()).len();
    let wrong: usize = faulty.clone().filter_map(|one| one.wrong).sum();
    let missing: usize = faulty.clone().map(|one| one.errors).sum();
    let requested: usize = those.iter().map(|one| one.requested()).sum();
    html! {
        @if videos > 0 {
            li class="loud" {
                "✗ " b { (engine) } ": " (wrong) " wrong and " (missing) " missing of " (requested) " frames, in "
                (videos) @if videos == 1 { " video" } @else { " videos" } ". In these, its speed is meaningless."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::page;
    use crate::plots::sample::{SCENARIOS, absent, entry, measurement, report, single};
    use crate::records::EngineResult;

    #[test]
    fn text_from_outside_is_escaped() {
        let mut one = measurement("random", "cpu", 10.0);
        one.video = "clips/<script>alert(\"&\")</script>".to_owned();
        one.command = format!("bucket-streamer bench random '{}'", one.video);
        let page = page(&[entry(one), absent()]);
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
        assert!(page.contains("nvdec is not available: not &lt;built&gt;"));
    }

    #[test]
    fn the_file_needs_no_other() {
        let page = page(&report(9));
        for way in ["src=", "href=\"http", "url(", "@import", "<script", "<link"] {
            assert!(!page.contains(way), "{way}");
        }
        for id in ["overview", "gop", "checkpoint-memory", "threads", "callers", "videos"].iter().chain(&SCENARIOS) {
            assert!(page.contains(&format!("<h2 id=\"{id}\">")), "{id}");
        }
        for tag in ["table", "tr", "td", "figure", "svg", "details", "ul", "dl"] {
            let (opened, closed) =
                (page.matches(&format!("<{tag}")).count(), page.matches(&format!("</{tag}>")).count());
            assert!(opened >= closed && closed > 0, "{tag}: {opened} {closed}");
        }
    }

    #[test]
    fn wrong_frames_are_in_the_first_notice_and_in_the_table() {
        let page = page(&single("random"));
        let places =
            ["✗ <b>ffmpeg-cli</b>: 6 wrong", "<svg", "<td class=\"loud\">✗ 6 of 10 wrong"].map(|text| page.find(text));
        assert!(places[0] < places[1] && places[1] < places[2] && places[0].is_some(), "{places:?}");
    }

    #[test]
    fn a_large_spread_of_rounds_is_reported() {
        let mut one = measurement("random", "cpu", 10.0);
        one.spread = Some(0.8);
        assert!(page(&[entry(one)]).contains("rounds lie 80% apart"));
    }

    #[test]
    fn there_is_a_page_whatever_there_is_to_tell() {
        let none: [EngineResult; 0] = [];
        assert!(page(&none).contains("Nothing was measured"));
        assert!(page(&[absent()]).contains("nvdec is not available"));
        assert!(page(&report(52)).len() < 2_000_000);
    }
}
