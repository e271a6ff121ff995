//! Speed by the length of GOPs: the benefit of checkpoints and seeking where key frames are far apart.

use super::axis::Axis;
use super::chart::{self, AxisDirection, Chart, Guide, LegendPlacement, Mark, Point, Series};
use super::speed::SUBJECT;
use super::{Plot, pick, style};
use crate::records::Measurement;

/// The engines to compare with.
const BASELINES: [&str; 2] = ["from-key", "ffmpeg-cli"];
/// The scenario of single frames, which long GOPs slow down.
const SCENARIO: &str = "random";

/// A plot for each engine to compare with, if there are several videos.
pub(crate) fn all(all: &[&Measurement]) -> Vec<Plot> {
    let those = pick::scenario(all, SCENARIO);
    if pick::videos(&those).len() < 2 {
        return Vec::new();
    }
    BASELINES.iter().filter_map(|other| against(&those, other)).collect()
}

/// A video in the plot.
struct Dot<'a> {
    codec: &'a str,
    gop: f64,
    ratio: f64,
    is_sound: bool,
}

fn against(those: &[&Measurement], other: &str) -> Option<Plot> {
    let dot = |video: &&str| {
        let (one, other) = (pick::find(those, video, SUBJECT)?, pick::find(those, video, other)?);
        let is_sound = pick::is_sound(one) && pick::is_sound(other);
        let (codec, gop) = (one.clip.codec.as_str(), one.clip.longest_gop.unwrap_or(0).max(1) as f64);
        let ratio = Some(one.fps / other.fps).filter(|ratio| ratio.is_finite() && *ratio > 0.0)?;
        Some(Dot { codec, gop, ratio, is_sound })
    };
    let dots: Vec<Dot<'_>> = pick::videos(those).iter().filter_map(dot).collect();
    if dots.is_empty() {
        return None;
    }
    let mut codecs: Vec<&str> = dots.iter().map(|dot| dot.codec).collect();
    codecs.sort_unstable();
    codecs.dedup();
    let series = codecs.into_iter().map(|codec| Series {
        name: codec.to_owned(),
        style: style::codec(codec),
        is_joined: false,
        points: dots
            .iter()
            .filter(|dot| dot.codec == codec)
            .map(|dot| Point::new((dot.gop, dot.ratio), if dot.is_sound { Mark::Sound } else { Mark::Wrong }))
            .collect(),
    });
    let title = format!("{SUBJECT} compared with {other}, by the length of GOPs");
    let chart = Chart {
        title: title.clone(),
        fault: None,
        x: Axis::log("frames of the longest GOP (logarithmic)", dots.iter().map(|dot| dot.gop)),
        y: Axis::log(&format!("times as fast as {other} (logarithmic)"), dots.iter().map(|dot| dot.ratio).chain([1.0])),
        series: series.collect(),
        guides: vec![Guide { axis: AxisDirection::Y, value: 1.0, name: "equally fast".to_owned() }],
        whiskers: AxisDirection::Y,
        names: LegendPlacement::Above,
        room: 20,
        is_small: false,
    };
    Some(Plot {
        name: format!("gop-{other}"),
        title,
        caption: format!(
            "{SCENARIO}; a mark for each video. Crossed out: frames of one of the two are wrong or missing."
        ),
        svg: chart::svg((620, 420), |area| chart.draw(area)),
    })
}
