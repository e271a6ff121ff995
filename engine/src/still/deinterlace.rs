//! Makes stills of interlaced pictures from one field.
//!
//! The even and the odd lines of an interlaced picture were taken at two instants, half a frame apart; shown together,
//! moving edges have combs. A still shows one instant: the lines of the field that is displayed first stay. Samples of
//! the other field stay where they fit in (nothing moved, and no vertical detail is lost; much video that is marked as
//! interlaced was never taken in fields); the teeth of a comb are interpolated from the first field. No other picture
//! is used, so nothing of another time appears, and nothing more need be decoded.
//!
//! A sample is a tooth if it lies outside the range of the samples above and below by more than `TOOTH`, and is closer
//! to a neighbour in its own field than to those: a line of a drawing is no tooth, since it differs from both fields.
//! The two samples on either side of a tooth are treated as teeth.
//!
//! A new sample is interpolated between three samples above and three below, along the direction with the least
//! difference: edge-based line averaging (Doyle and Looymans, *Progressive scan conversion using edge information*,
//! 1990), with five directions, windows of three samples and a bonus of one for the vertical, as in the spatial part of
//! the yadif filter: a flatter direction is tried only if the steeper one on its side is better.
//!
//! In interlaced 4:2:0 the lines of chroma belong to the fields alternately, and each lies at the place of a
//! progressive picture's (H.264 figures 6-1 and 6-2): so chroma planes are treated as luma. The preceding colour
//! conversion has already blended chroma of both fields into its correction of luma, which is a small part of a small
//! correction.

use crate::pixels::planes::{JfifPlanes, Plane};

/// Samples examined on either side of the one above or below.
const REACH: usize = 3;
/// How far outside of its neighbours' range a tooth must lie, in steps of 8 bits: more than noise does.
const TOOTH: u8 = 6;
/// Samples beside a tooth that are interpolated with it.
const BESIDE: usize = 2;

/// Line buffers, reused from picture to picture.
#[derive(Debug, Default)]
pub struct Deinterlacer {
    /// The lines above and below, widened.
    above: Vec<u8>,
    below: Vec<u8>,
    /// The current line before its change, and the preceding one of its field.
    lost: Vec<u8>,
    before: Vec<u8>,
    /// Its teeth (255), with [`BESIDE`] more on each side.
    teeth: Vec<u8>,
}

impl Deinterlacer {
    /// Keeps the even lines (counted from 0) if `top`, otherwise the odd ones, and replaces the teeth of the others.
    pub fn keep_field(&mut self, planes: &mut JfifPlanes, top: bool) {
        let first_lost = usize::from(top);
        for plane in &mut planes.planes {
            // A single line has no neighbour to interpolate from.
            let end = if plane.height > 1 { plane.height } else { 0 };
            for y in (first_lost..end).step_by(2) {
                self.line(plane, y);
            }
        }
        planes.repeat_edges();
    }

    /// Processes line `y`. The first and the last line have only one neighbour, which is used twice.
    fn line(&mut self, plane: &mut Plane, y: usize) {
        let (has_below, has_after) = (y + 1 < plane.height, y + 2 < plane.height);
        widen(plane.row(if y > 0 { y - 1 } else { y + 1 }), &mut self.above);
        widen(plane.row(if has_below { y + 1 } else { y - 1 }), &mut self.below);
        self.lost.clear();
        self.lost.extend_from_slice(plane.row(y));
        let after = if has_after { plane.row(y + 2) } else { &self.lost };
        let own: [&[u8]; 2] = match (y >= 2, has_after) {
            (true, true) => [&self.before, after],
            (true, false) => [&self.before, &self.before],
            (false, _) => [after, after],
        };
        find_teeth(&self.lost, [&self.above[REACH..], &self.below[REACH..]], own, &mut self.teeth);
        interpolate(&self.above, &self.below, &self.teeth, plane.row_mut(y));
        std::mem::swap(&mut self.before, &mut self.lost);
    }
}

/// Marks the teeth of a line, given its neighbours in the other field and in its own.
fn find_teeth(line: &[u8], [above, below]: [&[u8]; 2], [before, after]: [&[u8]; 2], teeth: &mut Vec<u8>) {
    teeth.clear();
    teeth.resize(BESIDE, 0);
    let others = above.iter().zip(below).zip(before.iter().zip(after));
    teeth.extend(line.iter().zip(others).map(|(&sample, ((&above, &below), (&before, &after)))| {
        let (least, most) = (above.min(below), above.max(below));
        let outside = least.saturating_sub(sample).max(sample.saturating_sub(most));
        let own = sample.abs_diff(before).min(sample.abs_diff(after));
        if outside > TOOTH && own <= outside / 2 { 255 } else { 0 }
    }));
    teeth.resize(line.len() + 2 * BESIDE, 0);
}

/// A row with repeated edge samples on both sides.
fn widen(row: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.resize(REACH, row[0]);
    out.extend_from_slice(row);
    out.resize(row.len() + 2 * REACH, row[row.len() - 1]);
}

/// Replaces the marked samples by interpolation between the two widened lines. No branch depends on a sample, so the
/// compiler vectorises it.
fn interpolate(above: &[u8], below: &[u8], teeth: &[u8], out: &mut [u8]) {
    let width = out.len();
    let teeth: [&[u8]; 2 * BESIDE + 1] = std::array::from_fn(|shift| &teeth[shift..][..width]);
    let above: [&[u8]; 2 * REACH + 1] = std::array::from_fn(|shift| &above[shift..][..width]);
    let below: [&[u8]; 2 * REACH + 1] = std::array::from_fn(|shift| &below[shift..][..width]);
    for (x, out) in out.iter_mut().enumerate() {
        // The difference of the windows along a line that is `to` - REACH to the side above, and as much to the other
        // side below.
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
        let is_lost = teeth.iter().fold(0, |any, teeth| any | teeth[x]) != 0;
        *out = if is_lost { result } else { *out };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::testing::planes;

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
                        if y % 2 == parity { (60 + x / 2 + y / 2 + plane) as u8 } else { other }
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
        // A bar that moves by six columns between the fields.
        let bar = |_: usize, x: usize, y: usize| if (20 + y % 2 * 6..30 + y % 2 * 6).contains(&x) { 200 } else { 20 };
        let out = kept(&planes((64, 32), None, bar), true);
        for y in 0..32 {
            assert_eq!(out.planes[0].row(y), out.planes[0].row(0));
        }
        assert!(out.planes[0].row(0)[20..30].iter().all(|&v| v == 200));
    }

    #[test]
    fn what_stands_still_keeps_its_detail() {
        let gratings = |_: usize, x: usize, y: usize| match (x, y) {
            (0..32, _) => (x % 2 * 200) as u8,
            // Single lines, and a slope.
            (32..64, 7 | 12 | 20) => 250,
            (64.., _) => (y * 6) as u8,
            _ => 10,
        };
        let source = planes((96, 32), Some((1, 1)), gratings);
        for top in [true, false] {
            assert_eq!(kept(&source, top).planes[0], source.planes[0]);
        }
    }

    #[test]
    fn slanted_edges_stay_smooth() {
        for slope in [-2.0, -1.0, 0.0, 1.0, 2.0] {
            let edge = |_: usize, x: usize, y: usize| {
                let distance = x as f64 - 64.0 - slope * (y as f64 - 16.0);
                (128.0 + 25.0 * distance).clamp(20.0, 235.0) as u8
            };
            let source = planes((128, 3), None, edge);
            let (above, below) = (source.planes[0].row(0), source.planes[0].row(2));
            let (mut wide_above, mut wide_below) = (Vec::new(), Vec::new());
            widen(above, &mut wide_above);
            widen(below, &mut wide_below);
            let mut out = vec![0; 128];
            interpolate(&wide_above, &wide_below, &[255; 128 + 2 * BESIDE], &mut out);
            for (found, exact) in out.iter().zip(source.planes[0].row(1)) {
                assert!(found.abs_diff(*exact) <= 2, "slope {slope}: {found} for {exact}");
            }
        }
    }
}
