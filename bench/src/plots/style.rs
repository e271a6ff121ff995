//! The style of plots: colours, marks, sizes of text. An engine has the same style in every plot.
//!
//! The colours are distinguishable with colour blindness (Okabe and Ito's, and some of Tol's for codecs); shapes repeat
//! the distinction. Paper, ink and grid have three colours of their own, which the page's style replaces in dark mode.

use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoFont, RGBColor, TextStyle};

pub(crate) const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);
pub(crate) const INK: RGBColor = RGBColor(0x1b, 0x1f, 0x24);
pub(crate) const GRID: RGBColor = RGBColor(0xdd, 0xe1, 0xe6);
/// The colour of warnings.
pub(crate) const LOUD: RGBColor = RGBColor(0xc6, 0x10, 0x10);

/// Sizes of text. The library divides them by 1.24.
pub(crate) const TITLE: f64 = 19.0;
pub(crate) const TEXT: f64 = 16.0;
pub(crate) const SMALL: f64 = 14.5;

/// The shape of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MarkerShape {
    Circle,
    Square,
    Triangle,
    Diamond,
    Funnel,
}

impl MarkerShape {
    /// Its corners around the centre; none for a circle.
    pub(crate) fn corners(self, size: i32) -> Vec<(i32, i32)> {
        let (size, more) = (size, size + 1);
        match self {
            MarkerShape::Circle => Vec::new(),
            MarkerShape::Square => vec![(-size, -size), (size, -size), (size, size), (-size, size)],
            MarkerShape::Triangle => vec![(0, -more), (more, size), (-more, size)],
            MarkerShape::Diamond => vec![(0, -more - 1), (more + 1, 0), (0, more + 1), (-more - 1, 0)],
            MarkerShape::Funnel => vec![(0, more), (-more, -size), (more, -size)],
        }
    }
}

/// The colour and shape of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeriesStyle {
    pub(crate) colour: RGBColor,
    pub(crate) shape: MarkerShape,
}

const fn series_style(rgb: u32, shape: MarkerShape) -> SeriesStyle {
    SeriesStyle { colour: RGBColor((rgb >> 16) as u8, (rgb >> 8) as u8, rgb as u8), shape }
}

/// The style of an engine. This program's own are blue, the command line's are orange.
pub(crate) fn engine(name: &str) -> SeriesStyle {
    match name {
        "cpu" => series_style(0x0072b2, MarkerShape::Circle),
        "from-key" => series_style(0x56b4e9, MarkerShape::Square),
        "ffmpeg-cli" => series_style(0xd55e00, MarkerShape::Triangle),
        "ffmpeg-pass" => series_style(0xe69f00, MarkerShape::Diamond),
        "nvdec" => series_style(0x009e73, MarkerShape::Funnel),
        _ => series_style(0x777777, MarkerShape::Square),
    }
}

/// The style of a codec.
pub(crate) fn codec(name: &str) -> SeriesStyle {
    match name {
        "hevc" => series_style(0xaa3377, MarkerShape::Circle),
        "h264" => series_style(0x228833, MarkerShape::Square),
        "av1" => series_style(0x66ccee, MarkerShape::Triangle),
        "vp9" => series_style(0xb8a000, MarkerShape::Diamond),
        _ => series_style(0x777777, MarkerShape::Funnel),
    }
}

/// Text to the right of its position, vertically centred.
pub(crate) fn text(size: f64, colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&colour.to_rgba()).pos(Pos::new(HPos::Left, VPos::Center))
}

/// The same, bold.
pub(crate) fn bold(size: f64, colour: RGBColor) -> TextStyle<'static> {
    let font = ("sans-serif", size).into_font().style(FontStyle::Bold);
    font.color(&colour.to_rgba()).pos(Pos::new(HPos::Left, VPos::Center))
}

/// The approximate width of a text, in pixels: the viewer selects the font.
pub(crate) fn width(text: &str, size: f64) -> i32 {
    (text.chars().count() as f64 * size / 1.24 * 0.56).ceil() as i32
}

/// A text of at most this many characters: its beginning and its end.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    let characters: Vec<char> = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if characters.len() <= most {
        return characters.into_iter().collect();
    }
    let end = most.saturating_sub(1) / 3;
    let begin = most.saturating_sub(1) - end;
    let part = |range: &[char]| range.iter().collect::<String>();
    format!("{}…{}", part(&characters[..begin]), part(&characters[characters.len() - end..]))
}
