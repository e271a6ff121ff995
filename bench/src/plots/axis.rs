//! Axes: the mapping of values to positions, and the labels.
//!
//! The drawing library's own logarithmic axes label powers of ten only; the measured values often lie within one.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// Most labels of an axis that selects its own.
const MOST_TICKS: usize = 9;

/// An axis with its title and its labels.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    pub(crate) title: String,
    pub(crate) ticks: Vec<(f64, String)>,
    is_log: bool,
    from: f64,
    to: f64,
    /// The position of zero and negative values, which have no logarithm.
    zero: f64,
}

impl Axis {
    /// Logarithmic, wide enough for all values, with labels at 1, 2, 5 times the powers of ten; at more values if that
    /// gives almost none.
    pub(crate) fn log(title: &str, values: impl IntoIterator<Item = f64>) -> Axis {
        let (least, greatest) = bounds(values.into_iter().filter(|value| *value > 0.0)).unwrap_or((1.0, 10.0));
        // A single value, or values close together, still need a readable scale.
        let room = (5.0 / (greatest / least)).max(1.0).sqrt() * (greatest / least).max(5.0).powf(0.04);
        let (from, to) = (least / room, greatest * room);
        let mut ticks = divided(from, to, &[1.0, 2.0, 5.0]);
        if ticks.len() > MOST_TICKS {
            ticks = divided(from, to, &[1.0]);
        } else if ticks.len() < 3 {
            ticks = divided(from, to, &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0]);
        }
        let ticks = ticks.into_iter().map(|tick| (tick, number(tick))).collect();
        Axis { title: title.to_owned(), ticks, is_log: true, from, to, zero: from }
    }

    /// Logarithmic, with labels at the measured values only, zero included.
    pub(crate) fn steps(title: &str, values: impl IntoIterator<Item = f64>, name: impl Fn(f64) -> String) -> Axis {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.dedup();
        let (least, greatest) = bounds(values.iter().copied().filter(|value| *value > 0.0)).unwrap_or((1.0, 1.0));
        let zero = if values.first().is_some_and(|value| *value <= 0.0) { least / 3.0 } else { least };
        let room = (greatest / zero).max(4.0).powf(0.06);
        let ticks = values.into_iter().map(|value| (value, name(value))).collect();
        Axis { title: title.to_owned(), ticks, is_log: true, from: zero / room, to: greatest * room, zero }
    }

    /// Linear, from zero to the greatest value.
    pub(crate) fn from_zero(title: &str, values: impl IntoIterator<Item = f64>) -> Axis {
        let greatest = bounds(values).map_or(1.0, |bounds| bounds.1).max(f64::MIN_POSITIVE);
        let to = greatest * 1.08;
        let step = divided(to / 8.0, to, &[1.0, 2.0, 5.0]).first().copied().unwrap_or(to);
        let ticks = (0..=8).map(|tick| f64::from(tick) * step).filter(|tick| *tick <= to);
        let ticks = ticks.map(|tick| (tick, number(tick))).collect();
        Axis { title: title.to_owned(), ticks, is_log: false, from: 0.0, to, zero: 0.0 }
    }

    /// Linear, with these labels only.
    pub(crate) fn fixed(title: &str, range: Range<f64>, ticks: &[f64]) -> Axis {
        let ticks = ticks.iter().map(|&tick| (tick, number(tick))).collect();
        Axis { title: title.to_owned(), ticks, is_log: false, from: range.start, to: range.end, zero: range.start }
    }

    /// Named rows from top to bottom: 0, 1, 2, ...
    pub(crate) fn rows(names: Vec<String>) -> Axis {
        let to = names.len().max(1) as f64 - 0.5;
        let ticks = names.into_iter().enumerate().map(|(row, name)| (row as f64, name)).collect();
        Axis { title: String::new(), ticks, is_log: false, from: to, to: -0.5, zero: -0.5 }
    }

    /// The same without a title.
    pub(crate) fn untitled(self) -> Axis {
        Axis { title: String::new(), ..self }
    }

    /// The same with at most this many labels, evenly selected.
    pub(crate) fn sparse(mut self, most: usize) -> Axis {
        let every = self.ticks.len().div_ceil(most.max(1)).max(1);
        self.ticks = self.ticks.into_iter().step_by(every).collect();
        self
    }

    /// Its least and greatest value.
    pub(crate) fn ends(&self) -> (f64, f64) {
        (self.from, self.to)
    }

    /// The length of the longest label.
    pub(crate) fn longest(&self) -> usize {
        self.ticks.iter().map(|(_, name)| name.chars().count()).max().unwrap_or(0)
    }

    /// The label of a tick.
    pub(crate) fn name(&self, tick: f64) -> String {
        self.ticks.iter().find(|(value, _)| *value == tick).map_or_else(String::new, |(_, name)| name.clone())
    }

    /// The relative position of a value: from 0 to 1.
    fn part(&self, value: f64) -> f64 {
        let part = match self.is_log {
            true if value > 0.0 => (value / self.from).ln() / (self.to / self.from).ln(),
            true => (self.zero / self.from).ln() / (self.to / self.from).ln(),
            false => (value - self.from) / (self.to - self.from),
        };
        if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        first + (f64::from(last - first) * self.part(*value)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(value, _)| *value).collect()
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        self.name(*value)
    }
}

/// The least and the greatest of the finite values.
pub(crate) fn bounds(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let values = values.into_iter().filter(|value| value.is_finite());
    values.fold(None, |bounds, value| match bounds {
        None => Some((value, value)),
        Some((least, greatest)) => Some((value.min(least), value.max(greatest))),
    })
}

/// The multiples of powers of ten within the range.
fn divided(from: f64, to: f64, multiples: &[f64]) -> Vec<f64> {
    let powers = from.log10().floor() as i32..=to.log10().ceil() as i32;
    let all = powers.flat_map(|power| multiples.iter().map(move |multiple| multiple * 10f64.powi(power)));
    all.filter(|tick| (from..=to).contains(tick)).collect()
}

/// A number with about three significant digits.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        value if value == 0.0 || value >= 99.5 => 0,
        value if value >= 9.95 => 1,
        value if value >= 0.995 => 2,
        value if value >= 0.0995 => 3,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use plotters::coord::ranged1d::Ranged;

    use super::{Axis, number};

    fn written(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, name)| name.as_str()).collect()
    }

    #[test]
    fn logarithmic_axes_are_divided_where_people_look() {
        assert_eq!(written(&Axis::log("", [3.0, 40.0])), ["5", "10", "20"]);
        assert_eq!(written(&Axis::log("", [1.0, 4.0])), ["1", "1.5", "2", "3", "4"]);
        assert_eq!(written(&Axis::log("", [0.02, 9000.0])), ["0.1", "1", "10", "100", "1000", "10000"]);
        assert!(written(&Axis::log("", [7.0])).len() > 1, "a single value");
        assert!(written(&Axis::log("", [])).len() > 1, "none");
    }

    #[test]
    fn zero_has_a_place_beside_the_least() {
        let axis = Axis::steps("", [64.0, 0.0, 256.0], number);
        assert_eq!(written(&axis), ["0", "64", "256"]);
        let places = [0.0, 64.0, 256.0].map(|value| axis.map(&value, (0, 1000)));
        assert!(0 < places[0] && places[0] < places[1] && places[1] < places[2] && places[2] < 1000, "{places:?}");
    }

    #[test]
    fn values_without_a_logarithm_are_drawn_at_an_end() {
        for axis in [Axis::log("", [0.0, 0.0]), Axis::from_zero("", [0.0]), Axis::rows(Vec::new())] {
            for value in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MAX] {
                assert!((0..=100).contains(&axis.map(&value, (0, 100))), "{axis:?} {value}");
            }
        }
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(
            [0.0, 0.0512, 0.25, 1.0, 12.34, 250.4, 12345.0].map(number),
            ["0", "0.0512", "0.25", "1", "12.3", "250", "12345"]
        );
    }
}
