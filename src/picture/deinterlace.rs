//! Stills of interlaced pictures.
//!
//! The even and the odd lines of an interlaced picture were taken at two instants, half a frame apart; shown together,
//! whatever moved has combs for edges. A still shows one instant: the lines of the field that is shown first stay as they
//! are, the others are made anew from them. Nothing is taken from the second field or from other pictures, so nothing
//! can ghost; what stands still keeps half of its vertical detail.
//!
//! A new sample lies between three samples above and three below, on the line that crosses it with the least difference:
//! edge-based line averaging (Doyle and Looymans, *Progressive scan conversion using edge information*, 1990), with five
//! directions, windows of three samples and a bonus of one for straight up and down, as in the spatial part of the yadif
//! filter: a flatter direction is only looked at where the steeper one on its side has won.
//!
//! In interlaced 4:2:0 the lines of chroma belong to the fields in turn, and each lies where that of a progressive picture
//! does (H.264 figures 6-1 and 6-2): so chroma planes are treated as luma is. The conversion of colour before has already
//! blended chroma of both fields into what it corrects luma by; that is a small part of a small correction.

use super::jfif::{JfifPlanes, Plane};

/// Samples that are looked at beside the one above or below.
const REACH: usize = 3;

/// Buffers for two lines; kept from picture to picture.
#[derive(Debug, Default)]
pub struct Deinterlacer {
    above: Vec<u8>,
    below: Vec<u8>,
}

impl Deinterlacer {
    /// Keeps the even lines (counted from 0) if `top`, else the odd ones, and makes the others of them.
    pub fn keep_field(&mut self, planes: &mut JfifPlanes, top: bool) {
        let first_lost = usize::from(top);
        for plane in &mut planes.planes {
            for y in (first_lost..plane.height).step_by(2) {
                self.line(plane, y);
            }
        }
        planes.repeat_edges();
    }

    /// Line `y` from its neighbours; the first and the last line have one only. A single line stays.
    fn line(&mut self, plane: &mut Plane, y: usize) {
        let start = y * plane.stride;
        match (y > 0, y + 1 < plane.height) {
            (true, true) => {
                widen(plane.row(y - 1), &mut self.above);
                widen(plane.row(y + 1), &mut self.below);
                interpolate(&self.above, &self.below, plane.row_mut(y));
            }
            (true, false) => plane.data.copy_within(start - plane.stride..start, start),
            (false, true) => plane.data.copy_within(start + plane.stride..start + 2 * plane.stride, start),
            (false, false) => {}
        }
    }
}

/// A row with its edge samples repeated outside.
fn widen(row: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.resize(REACH, row[0]);
    out.extend_from_slice(row);
    out.resize(row.len() + 2 * REACH, row[row.len() - 1]);
}

/// The line between two widened ones. No branch depends on a sample, so the compiler makes vectors of it.
fn interpolate(above: &[u8], below: &[u8], out: &mut [u8]) {
    let width = out.len();
    let above: [&[u8]; 2 * REACH + 1] = std::array::from_fn(|shift| &above[shift..][..width]);
    let below: [&[u8]; 2 * REACH + 1] = std::array::from_fn(|shift| &below[shift..][..width]);
    for (x, out) in out.iter_mut().enumerate() {
        // How much the windows differ on a line that is `to` - REACH to the side above, and as much to the other below.
        let difference = |to: usize| {
            let from = 2 * REACH - to;
            let pair = |a: usize, b: usize| i16::from(above[a][x].abs_diff(below[b][x]));
            pair(to - 1, from - 1) + pair(to, from) + pair(to + 1, from + 1)
        };
        let value = |to: usize| ((u16::from(above[to][x]) + u16::from(below[2 * REACH - to][x])) >> 1) as u8;
        let (mut best, mut result) = (difference(REACH) - 1, value(REACH));
        for side in [[REACH - 1, REACH - 2], [REACH + 1, REACH + 2]] {
            let mut wins = true;
            for to in side {
                let score = difference(to);
                wins &= score < best;
                best = if wins { score } else { best };
                result = if wins { value(to) } else { result };
            }
        }
        *out = result;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::planes;
    use super::*;

    fn kept(source: &JfifPlanes, top: bool) -> JfifPlanes {
        let mut out = source.clone();
        Deinterlacer::default().keep_field(&mut out, top);
        out.check().unwrap();
        out
    }

    #[test]
    fn lines_of_the_field_stay_and_nothing_of_the_other_remains() {
        for size in [(1, 1), (1, 2), (3, 5), (16, 1), (64, 33), (161, 121)] {
            for top in [true, false] {
                let parity = usize::from(!top);
                let sample = |other: u8| {
                    move |plane: usize, x: usize, y: usize| {
                        if y % 2 == parity { (x * 5 + y * 3 + plane) as u8 } else { other }
                    }
                };
                let source = planes(size, Some((1, 1)), sample(0));
                let out = kept(&source, top);
                for (plane, from) in out.planes.iter().zip(&source.planes) {
                    for y in (parity..plane.height).step_by(2) {
                        assert_eq!(plane.row(y), from.row(y), "{size:?} {top}");
                    }
                }
                if size.1 > 2 {
                    assert_eq!(out.planes, kept(&planes(size, Some((1, 1)), sample(255)), top).planes, "{size:?}");
                }
            }
        }
    }

    #[test]
    fn combs_go() {
        // A bar that has moved by six columns between the fields.
        let bar = |_: usize, x: usize, y: usize| if (20 + y % 2 * 6..30 + y % 2 * 6).contains(&x) { 200 } else { 20 };
        let out = kept(&planes((64, 32), None, bar), true);
        for y in 0..32 {
            assert_eq!(out.planes[0].row(y), out.planes[0].row(0));
        }
        assert!(out.planes[0].row(0)[20..30].iter().all(|&v| v == 200));
    }

    #[test]
    fn slanted_edges_stay_smooth() {
        // Two columns to the side with every line, as sampled with a soft edge; each line is made again of its neighbours.
        for slope in [-2.0, -1.0, 0.0, 1.0, 2.0] {
            let edge = |_: usize, x: usize, y: usize| {
                let distance = x as f64 - 64.0 - slope * (y as f64 - 16.0);
                (128.0 + 25.0 * distance).clamp(20.0, 235.0) as u8
            };
            let source = planes((128, 32), None, edge);
            let out = kept(&source, true);
            for y in (1..31).step_by(2) {
                for (found, exact) in out.planes[0].row(y).iter().zip(source.planes[0].row(y)) {
                    assert!(found.abs_diff(*exact) <= 2, "slope {slope}, line {y}: {found} for {exact}");
                }
            }
        }
    }
}
