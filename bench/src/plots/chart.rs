//! Draws one chart: axes, marks, lines, whiskers and texts. The other files of `plots` define their meaning.

use plotters::coord::Shift;
use plotters::element::{Drawable, PointCollection};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters_backend::{BackendCoord, DrawingErrorKind};

use super::axis::Axis;
use super::style::{self, GRID, INK, LOUD, MarkerShape, PAPER, SMALL, SeriesStyle, TEXT, TITLE};

/// An area to draw in.
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// The result of drawing.
pub(crate) type DrawResult = Result<(), DrawingAreaErrorKind<std::io::Error>>;
type PlotContext<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

/// Points of one colour and shape, with a name.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) style: SeriesStyle,
    pub(crate) points: Vec<Point>,
    /// Whether lines join the points.
    pub(crate) is_joined: bool,
}

/// A point of a series.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub(crate) at: (f64, f64),
    pub(crate) mark: Mark,
    /// The range of the value, along the chart's whiskers.
    pub(crate) whisker: Option<(f64, f64)>,
    /// The text beside the point.
    pub(crate) note: String,
}

/// The mark at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// No mark, only the line.
    Nothing,
    Sound,
    /// Frames are wrong: the speed is meaningless.
    Wrong,
}

/// The direction of whiskers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AxisDirection {
    X,
    Y,
}

/// The position of the names of series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LegendPlacement {
    /// Under the title.
    Above,
    /// Beside the last points.
    AtEnds,
    /// Not in this chart: the caller draws them once for several charts.
    Elsewhere,
}

/// A reference line at a value of an axis, with a name.
#[derive(Debug, Clone)]
pub(crate) struct Guide {
    pub(crate) axis: AxisDirection,
    pub(crate) value: f64,
    pub(crate) name: String,
}

/// The content of a chart.
#[derive(Debug, Clone)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// An important notice under the title; an empty one leaves room, so that the charts of a row align.
    pub(crate) fault: Option<String>,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
    pub(crate) guides: Vec<Guide>,
    pub(crate) whiskers: AxisDirection,
    pub(crate) names: LegendPlacement,
    /// Room to the right of the axes, for texts.
    pub(crate) room: i32,
    /// One of many charts: with smaller text.
    pub(crate) is_small: bool,
}

impl Point {
    pub(crate) fn new(at: (f64, f64), mark: Mark) -> Point {
        Point { at, mark, whisker: None, note: String::new() }
    }
}

impl Chart {
    pub(crate) fn draw(&self, area: &Area<'_>) -> DrawResult {
        let (title, line) = if self.is_small { (TEXT, 20) } else { (TITLE, 28) };
        area.draw_text(&self.title, &style::bold(title, INK), (4, line / 2 + 2))?;
        let line = match &self.fault {
            Some(fault) => {
                area.draw_text(fault, &style::text(SMALL, LOUD), (4, line + 6))?;
                line + 18
            }
            None => line,
        };
        let top = match self.names {
            LegendPlacement::Above => line + legend(area, &self.series, line)?,
            _ => line + 4,
        };
        let (x_title, y_title) = (18 * i32::from(!self.x.title.is_empty()), 18 * i32::from(!self.y.title.is_empty()));
        let left = style::width(&"0".repeat(self.y.longest()), SMALL) + 14 + y_title;
        let mut chart = ChartBuilder::on(area)
            .margin_top(top)
            .margin_right(self.room)
            .set_label_area_size(LabelAreaPosition::Left, left)
            .set_label_area_size(LabelAreaPosition::Bottom, 22 + x_title)
            .build_cartesian_2d(self.x.clone(), self.y.clone())?;
        self.mesh(&mut chart)?;
        self.guides(&mut chart)?;
        // Lines first, so that no line crosses a mark.
        for series in &self.series {
            line_of(&mut chart, series)?;
        }
        for series in &self.series {
            self.points(&mut chart, series)?;
        }
        if self.names == LegendPlacement::AtEnds { self.names_at_ends(&mut chart) } else { Ok(()) }
    }

    fn mesh(&self, chart: &mut PlotContext<'_, '_>) -> DrawResult {
        let (x, y) = (|value: &f64| self.x.name(*value), |value: &f64| self.y.name(*value));
        chart
            .configure_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(GRID.stroke_width(1))
            .set_all_tick_mark_size(3)
            .label_style(style::text(SMALL, INK))
            .axis_desc_style(style::text(SMALL, INK))
            .x_desc(&self.x.title)
            .y_desc(&self.y.title)
            .x_label_formatter(&x)
            .y_label_formatter(&y)
            .draw()
    }

    fn guides(&self, chart: &mut PlotContext<'_, '_>) -> DrawResult {
        let ((left, right), (low, high)) = (self.x.ends(), self.y.ends());
        for guide in &self.guides {
            let (ends, offset) = match guide.axis {
                AxisDirection::X => ([(guide.value, high), (guide.value, low)], (4, -9)),
                AxisDirection::Y => ([(left, guide.value), (right, guide.value)], (-4, 8)),
            };
            chart.draw_series([PathElement::new(ends, INK.stroke_width(1))])?;
            let side = if guide.axis == AxisDirection::X { HPos::Left } else { HPos::Right };
            let style = style::text(SMALL, INK).pos(Pos::new(side, VPos::Center));
            chart.draw_series([EmptyElement::at(ends[1]) + Text::new(guide.name.clone(), offset, style)])?;
        }
        Ok(())
    }

    fn points(&self, chart: &mut PlotContext<'_, '_>, series: &Series) -> DrawResult {
        for point in &series.points {
            let (x, y) = point.at;
            if let Some((least, greatest)) = point.whisker {
                let ends = match self.whiskers {
                    AxisDirection::X => [(least, y), (greatest, y)],
                    AxisDirection::Y => [(x, least), (x, greatest)],
                };
                chart.draw_series([PathElement::new(ends, series.style.colour.stroke_width(2))])?;
            }
            let size = if self.is_small { 3 } else { 4 };
            chart.draw_series([PointMarker { at: point.at, style: series.style, mark: point.mark, size }])?;
            if !point.note.is_empty() {
                self.note(chart, point)?;
            }
        }
        Ok(())
    }

    /// Writes the text of a point: to its right behind the whisker, or above it where a line continues to the right.
    fn note(&self, chart: &mut PlotContext<'_, '_>, point: &Point) -> DrawResult {
        let (x, y) = point.at;
        let (at, offset, side) = match self.whiskers {
            AxisDirection::Y => (x, (0, -14), HPos::Center),
            AxisDirection::X => (point.whisker.map_or(x, |whisker| whisker.1.max(x)), (10, 0), HPos::Left),
        };
        let colour = if point.mark == Mark::Sound { INK } else { LOUD };
        let style = style::text(SMALL, colour).pos(Pos::new(side, VPos::Center));
        let text = Text::new(point.note.clone(), offset, style);
        chart.draw_series([EmptyElement::at((at, y)) + text]).map(|_| ())
    }

    /// Writes each name beside its last point, without overlaps.
    fn names_at_ends(&self, chart: &mut PlotContext<'_, '_>) -> DrawResult {
        let last = |series: &'_ Series| Some((series.points.last()?.at, series.name.clone()));
        let mut names: Vec<_> = self.series.iter().filter_map(last).collect();
        names.sort_by_key(|(at, _)| chart.backend_coord(at).1);
        let mut free = i32::MIN;
        for (at, name) in names {
            let natural_y = chart.backend_coord(&at).1;
            let placed_y = natural_y.max(free);
            free = placed_y + 15;
            let text = Text::new(name, (12, placed_y - natural_y), style::text(SMALL, INK));
            chart.draw_series([EmptyElement::at(at) + text])?;
        }
        Ok(())
    }
}

fn line_of(chart: &mut PlotContext<'_, '_>, series: &Series) -> DrawResult {
    if series.is_joined && series.points.len() > 1 {
        let line: Vec<(f64, f64)> = series.points.iter().map(|point| point.at).collect();
        chart.draw_series([PathElement::new(line, series.style.colour.stroke_width(2))])?;
    }
    Ok(())
}

/// A mark: a filled shape, or if frames are wrong a hollow circle with a cross.
struct PointMarker<At> {
    at: At,
    style: SeriesStyle,
    mark: Mark,
    size: i32,
}

impl<'a, At> PointCollection<'a, At> for &'a PointMarker<At> {
    type Point = &'a At;
    type IntoIter = std::iter::Once<&'a At>;

    fn point_iter(self) -> Self::IntoIter {
        std::iter::once(&self.at)
    }
}

impl<At, DB: DrawingBackend> Drawable<DB> for PointMarker<At> {
    fn draw<I: Iterator<Item = BackendCoord>>(
        &self,
        mut points: I,
        backend: &mut DB,
        _: (u32, u32),
    ) -> Result<(), DrawingErrorKind<DB::ErrorType>> {
        let Some((x, y)) = points.next() else { return Ok(()) };
        let (colour, size) = (self.style.colour, self.size + 1);
        match (self.mark, self.style.shape) {
            (Mark::Nothing, _) => Ok(()),
            (Mark::Sound, MarkerShape::Circle) => backend.draw_circle((x, y), size as u32, &colour.filled(), true),
            (Mark::Sound, shape) => {
                let corners = shape.corners(self.size).into_iter().map(|(right, down)| (x + right, y + down));
                backend.fill_polygon(corners, &colour.filled())
            }
            (Mark::Wrong, _) => {
                backend.draw_circle((x, y), size as u32, &colour.stroke_width(2), false)?;
                let (size, loud) = (size + 1, LOUD.stroke_width(2));
                backend.draw_line((x - size, y - size), (x + size, y + size), &loud)?;
                backend.draw_line((x - size, y + size), (x + size, y - size), &loud)
            }
        }
    }
}

/// Writes the title and the legend of several charts.
pub(crate) fn heading(area: &Area<'_>, title: &str, series: &[Series]) -> DrawResult {
    area.draw_text(title, &style::bold(TITLE, INK), (4, 16))?;
    legend(area, series, 28).map(|_| ())
}

/// Writes the names of series from a height on, in as many lines as needed; returns the height.
pub(crate) fn legend(
    area: &Area<'_>,
    series: &[Series],
    from: i32,
) -> Result<i32, DrawingAreaErrorKind<std::io::Error>> {
    let line = 20;
    let (mut x, mut y) = (10, from + 10);
    let mut listed: Vec<&str> = Vec::new();
    for one in series {
        if listed.contains(&one.name.as_str()) || one.name.is_empty() {
            continue;
        }
        listed.push(&one.name);
        let taken = style::width(&one.name, TEXT) + 34;
        if x > 10 && x + taken > area.dim_in_pixel().0 as i32 {
            (x, y) = (10, y + line);
        }
        area.draw(&PointMarker { at: (x, y), style: one.style, mark: Mark::Sound, size: 4 })?;
        area.draw_text(&one.name, &style::text(TEXT, INK), (x + 11, y))?;
        x += taken;
    }
    Ok(if listed.is_empty() { 4 } else { y - from + 14 })
}

/// Draws an SVG of this size.
pub(crate) fn svg((width, height): (i32, i32), draw: impl FnOnce(&Area<'_>) -> DrawResult) -> String {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (width as u32, height as u32)).into_drawing_area();
    let drawn = area.fill(&PAPER).and_then(|()| draw(&area)).and_then(|()| area.present());
    drawn.expect("memory takes whatever is written");
    drop(area);
    svg
}
