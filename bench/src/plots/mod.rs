//! Plots of results, as SVG.
//!
//! `pick` selects results that belong together; `speed`, `latency`, `gop` and `curves` turn them into charts; `chart`
//! draws one, on the axes of `axis`, in the colours of `style`. `records` has the numbers.

mod axis;
mod chart;
mod curves;
mod gop;
mod latency;
pub(crate) mod pick;
#[cfg(test)]
pub(crate) mod sample;
mod speed;
mod style;

pub(crate) use axis::number;
pub(crate) use curves::bytes;
pub(crate) use speed::SUBJECT;

use super::records::EngineResult;

/// A plot and its texts.
#[derive(Debug)]
pub(crate) struct Plot {
    /// The name of its file, without the extension.
    pub(crate) name: String,
    /// The title, which is also in the picture.
    pub(crate) title: String,
    /// Instructions for reading it.
    pub(crate) caption: String,
    pub(crate) svg: String,
}

/// The colour of an engine, in CSS.
pub(crate) fn colour(engine: &str) -> String {
    let plotters::style::RGBColor(red, green, blue) = style::engine(engine).colour;
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// All plots that these results allow, the most important ones first.
pub(crate) fn of(entries: &[EngineResult]) -> Vec<Plot> {
    let all = pick::measurements(entries);
    let mut plots: Vec<Plot> = speed::overview(&all).into_iter().collect();
    plots.extend(pick::scenarios(&all).into_iter().filter_map(|scenario| speed::by_engine(&all, scenario)));
    plots.extend(pick::scenarios(&all).into_iter().filter_map(|scenario| latency::of(&all, scenario)));
    plots.extend(gop::all(&all));
    plots.extend(curves::all(&all));
    plots
}

#[cfg(test)]
mod tests {
    use super::sample::{absent, entry, measurement, report, single};
    use super::{Plot, of};
    use crate::records::ReportPart;
    use crate::records::{EngineResult, Measurement};
    use crate::stats::Latency;

    fn names(plots: &[Plot]) -> Vec<&str> {
        plots.iter().map(|plot| plot.name.as_str()).collect()
    }

    #[test]
    fn a_folder_has_every_plot_and_one_video_those_that_make_sense() {
        let expected = "speedup fps-random fps-batch fps-sequential fps-keyframes fps-scrub latency-random gop-from-key \
                        gop-ffmpeg-cli checkpoint-memory-fps checkpoint-memory-p95 threads-fps threads-p95 callers-fps \
                        callers-p95";
        assert_eq!(names(&of(&report(6))).join(" "), expected);
        assert_eq!(names(&of(&single("scrub"))), ["fps-scrub", "latency-scrub"]);
    }

    #[test]
    fn wrong_frames_are_visible_in_every_plot() {
        let is_loud = |plot: &Plot| plot.svg.contains("✗ 6 of 10 wrong") && plot.svg.contains("stroke=\"#C61010\"");
        assert!(of(&single("random")).iter().all(is_loud));
        let plots = of(&report(6));
        let has_text = |name: &str, text: &str| plots.iter().any(|plot| plot.name == name && plot.svg.contains(text));
        assert!(has_text("fps-scrub", "ffmpeg-cli ✗ 4 of 10 wrong") && has_text("latency-random", "✗ 4 of 10 wrong"));
        assert!(has_text("threads-fps", "✗ 3 of 10 wrong") && has_text("gop-ffmpeg-cli", "#C61010"));
    }

    /// One measurement for each kind of extreme value.
    fn odd(part: ReportPart) -> impl Iterator<Item = EngineResult> {
        let changes: [fn(&mut Measurement); 5] = [
            |one| (one.fps, one.frames, one.errors, one.latency_curve_ms) = (0.0, 0, 10, vec![0.0; 101]),
            |one| (one.latency_ms, one.rounds, one.floor_ms) = (Latency::default(), Vec::new(), None),
            |one| one.fps = f64::NAN,
            |one| one.latency_curve_ms = vec![f64::INFINITY, 5.0],
            |one| (one.clip.longest_gop, one.threads, one.setup.callers) = (None, 0, 0),
        ];
        changes.into_iter().map(move |change| {
            let mut one = measurement("random", "cpu", 10.0);
            (one.setup.part, one.setup.checkpoint_memory_bytes) = (Some(part), Some(0));
            change(&mut one);
            entry(one)
        })
    }

    #[test]
    fn whatever_was_measured_can_be_plotted() {
        let parts = [ReportPart::Clips, ReportPart::CheckpointMemory, ReportPart::Threads, ReportPart::Callers];
        assert!(of(&[]).is_empty() && of(&[absent()]).is_empty());
        assert_eq!(names(&of(&[entry(measurement("random", "cpu", 10.0))])), ["fps-random", "latency-random"]);
        for one in parts.into_iter().flat_map(odd) {
            of(&[one]);
        }
        let same = (0..5).map(|_| entry(measurement("random", "cpu", 10.0)));
        let plots = of(&parts.into_iter().flat_map(odd).chain(same).chain(report(2)).collect::<Vec<_>>());
        assert!(plots.iter().all(|plot| plot.svg.ends_with("</svg>\n") && !plot.svg.contains("NaN")));
    }

    /// Plots stay within the page, and files stay small.
    #[test]
    fn plots_of_many_videos_fit() {
        for plot in of(&report(52)) {
            assert!(plot.svg.len() < 400_000, "{}: {}", plot.name, plot.svg.len());
            for place in [" x=\"-", " y=\"-", " cx=\"-", " cy=\"-"] {
                assert!(!plot.svg.contains(place), "{}: {place}", plot.name);
            }
        }
    }
}
