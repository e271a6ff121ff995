//! Rotates and mirrors planes.
//!
//! Each combination of quarter turns and mirroring is one of eight: rows and columns exchanged or not, then columns
//! reversed or not, then rows reversed or not. Telephones store the sensor's picture, and its rotation in a display
//! matrix (ISO/IEC 14496-12 8.3.2); a matrix between two quarter turns counts as the nearer one.
//!
//! Planes are transposed in blocks of 8x8 bytes, held in eight registers, within tiles whose rows stay in the cache. If
//! rows and columns are exchanged, so is the subsampling: 4:2:2 becomes 4:4:0. If an odd side is mirrored, chroma
//! samples cover other pairs of luma samples than before: they become means of neighbours.

use crate::pixels::crop::Crop;
use crate::pixels::planes::{JfifPlanes, Plane};

/// The rotation of a stored picture for display: one of eight combinations of quarter turns and mirroring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Orientation {
    /// First, rows become columns.
    transpose: bool,
    /// Then columns are reversed.
    flip_x: bool,
    /// Then rows are reversed.
    flip_y: bool,
}

/// Rows and columns of a block.
const BLOCK: usize = 8;
/// Rows and columns of a tile: its source and its target take one cache line of 64 bytes per row.
const TILE: usize = 64;

impl Orientation {
    /// The rotation of a display matrix (ISO/IEC 14496-12 8.3.2): mirrored top to bottom if `mirrored`, then turned by
    /// `degrees` counter-clockwise, rounded to quarter turns. NaN counts as 0.
    pub fn from_rotation(degrees: f64, mirrored: bool) -> Orientation {
        let quarters = (-degrees / 90.0).round().rem_euclid(4.0);
        // A quarter turn clockwise: the lowest row becomes the first column.
        let (transpose, flip_x, flip_y) = match (quarters as u8, mirrored) {
            (1, false) => (true, true, false),
            (2, false) => (false, true, true),
            (3, false) => (true, false, true),
            (1, true) => (true, false, false),
            (2, true) => (false, true, false),
            (3, true) => (true, true, true),
            (_, mirrored) => (false, false, mirrored),
        };
        Orientation { transpose, flip_x, flip_y }
    }

    /// True if this neither rotates nor mirrors.
    pub fn is_none(self) -> bool {
        self == Orientation::default()
    }

    /// Width and height after rotation of a picture of this size; also the inverse.
    pub fn size<T>(self, (width, height): (T, T)) -> (T, T) {
        if self.transpose { (height, width) } else { (width, height) }
    }

    /// The stored rectangle for a rectangle of the rotated picture of size `shown`.
    pub(super) fn before(self, shown: (f64, f64), rectangle: Crop) -> Crop {
        let Crop { left, top, width, height } = rectangle;
        let left = if self.flip_x { shown.0 - left - width } else { left };
        let top = if self.flip_y { shown.1 - top - height } else { top };
        let ((left, top), (width, height)) = (self.size((left, top)), self.size((width, height)));
        Crop { left, top, width, height }
    }

    /// Fills `out` with `source`, rotated. With rows and columns exchanged, so is the subsampling.
    pub fn apply(self, source: &JfifPlanes, out: &mut JfifPlanes) {
        let (width, height) = self.size((source.width, source.height));
        let (log2_w, log2_h) = self.size((source.log2_chroma_w, source.log2_chroma_h));
        out.reshape(width, height, source.planes.len(), log2_w, log2_h);
        for (index, (from, to)) in source.planes.iter().zip(&mut out.planes).enumerate() {
            if self.transpose {
                self.transposed(from, to);
            } else {
                self.flipped(from, to);
            }
            if index > 0 && self.flip_x && log2_w == 1 && width % 2 == 1 {
                average_columns(to);
            }
            if index > 0 && self.flip_y && log2_h == 1 && height % 2 == 1 {
                average_rows(to);
            }
        }
        out.repeat_edges();
    }

    fn flipped(self, from: &Plane, to: &mut Plane) {
        for y in 0..to.height {
            let source = from.row(if self.flip_y { to.height - 1 - y } else { y });
            let row = to.row_mut(y);
            row.copy_from_slice(source);
            if self.flip_x {
                row.reverse();
            }
        }
    }

    fn transposed(self, from: &Plane, to: &mut Plane) {
        let (whole_columns, whole_rows) = (to.width / BLOCK * BLOCK, to.height / BLOCK * BLOCK);
        for tile_y in (0..whole_rows).step_by(TILE) {
            for tile_x in (0..whole_columns).step_by(TILE) {
                for y in (tile_y..whole_rows.min(tile_y + TILE)).step_by(BLOCK) {
                    for x in (tile_x..whole_columns.min(tile_x + TILE)).step_by(BLOCK) {
                        self.block(from, to, x, y);
                    }
                }
            }
        }
        for y in 0..to.height {
            let first = if y < whole_rows { whole_columns } else { 0 };
            for x in first..to.width {
                to.data[y * to.stride + x] = self.sample(from, to, x, y);
            }
        }
    }

    /// Column and row of the source for a place in the transposed plane.
    fn place(self, to: &Plane, x: usize, y: usize) -> (usize, usize) {
        let column = if self.flip_y { to.height - 1 - y } else { y };
        let row = if self.flip_x { to.width - 1 - x } else { x };
        (column, row)
    }

    fn sample(self, from: &Plane, to: &Plane, x: usize, y: usize) -> u8 {
        let (column, row) = self.place(to, x, y);
        from.data[row * from.stride + column]
    }

    /// The block of the target that begins at `x`, `y`.
    fn block(self, from: &Plane, to: &mut Plane, x: usize, y: usize) {
        // Mirrored rows run from right to left in the source: their block begins at the last one.
        let (column, _) = self.place(to, x, if self.flip_y { y + BLOCK - 1 } else { y });
        let rows: [u64; BLOCK] = std::array::from_fn(|index| {
            let (_, row) = self.place(to, x + index, y);
            load(&from.data[row * from.stride + column..])
        });
        for (index, row) in transposed(rows).into_iter().enumerate() {
            let y = y + if self.flip_y { BLOCK - 1 - index } else { index };
            to.data[y * to.stride + x..][..BLOCK].copy_from_slice(&row.to_le_bytes());
        }
    }
}

fn load(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Byte `j` of element `i` becomes byte `i` of element `j`: halves, quarters and bytes are exchanged across the
/// diagonal.
fn transposed(mut rows: [u64; BLOCK]) -> [u64; BLOCK] {
    const STEPS: [(usize, u64); 3] =
        [(4, 0x0000_0000_ffff_ffff), (2, 0x0000_ffff_0000_ffff), (1, 0x00ff_00ff_00ff_00ff)];
    for (distance, mask) in STEPS {
        for upper in (0..BLOCK).filter(|row| row & distance == 0) {
            let lower = upper + distance;
            let change = ((rows[upper] >> (8 * distance)) ^ rows[lower]) & mask;
            rows[lower] ^= change;
            rows[upper] ^= change << (8 * distance);
        }
    }
    rows
}

fn mean(a: u8, b: u8) -> u8 {
    u16::midpoint(u16::from(a) + 1, u16::from(b)) as u8
}

/// The mean of each sample and the one to its right.
fn average_columns(plane: &mut Plane) {
    for y in 0..plane.height {
        let row = plane.row_mut(y);
        for x in 1..row.len() {
            row[x - 1] = mean(row[x - 1], row[x]);
        }
    }
}

/// The mean of each sample and the one below it.
fn average_rows(plane: &mut Plane) {
    for y in 1..plane.height {
        let (upper, lower) = plane.data.split_at_mut(y * plane.stride);
        let upper = &mut upper[(y - 1) * plane.stride..];
        for (upper, lower) in upper.iter_mut().zip(lower) {
            *upper = mean(*upper, *lower);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::testing::planes;

    /// All eight rotations, with the map from `(x, y)` of the result and its size to `(x, y)` of the source.
    type Naive = fn((usize, usize), (usize, usize)) -> (usize, usize);
    const ALL: [(f64, bool, Naive); 8] = [
        (0.0, false, |(x, y), _| (x, y)),
        (-90.0, false, |(x, y), (w, _)| (y, w - 1 - x)),
        (180.0, false, |(x, y), (w, h)| (w - 1 - x, h - 1 - y)),
        (90.0, false, |(x, y), (_, h)| (h - 1 - y, x)),
        (0.0, true, |(x, y), (_, h)| (x, h - 1 - y)),
        (-90.0, true, |(x, y), _| (y, x)),
        (180.0, true, |(x, y), (w, _)| (w - 1 - x, y)),
        (90.0, true, |(x, y), (w, h)| (h - 1 - y, w - 1 - x)),
    ];

    #[test]
    fn planes_are_those_of_a_naive_turn() {
        for size in [(1, 1), (3, 5), (5, 3), (8, 8), (16, 1), (64, 64), (75, 130), (200, 9), (129, 65)] {
            let source = planes(size, None, |_, x, y| (x * 7 + y * 31) as u8);
            for (degrees, mirrored, naive) in ALL {
                let turn = Orientation::from_rotation(degrees, mirrored);
                let mut out = JfifPlanes::default();
                turn.apply(&source, &mut out);
                out.check().unwrap();
                assert_eq!((out.width, out.height), turn.size(size));
                for (x, y) in (0..out.width).flat_map(|x| (0..out.height).map(move |y| (x, y))) {
                    let (from_x, from_y) = naive((x, y), (out.width, out.height));
                    let expected = source.planes[0].row(from_y)[from_x];
                    assert_eq!(out.planes[0].row(y)[x], expected, "{size:?} {degrees} {mirrored} {x},{y}");
                }
            }
        }
    }

    #[test]
    fn other_angles_are_the_nearest_quarter() {
        let turn = |degrees| Orientation::from_rotation(degrees, false);
        assert!(turn(0.0).is_none() && turn(44.0).is_none() && turn(-44.0).is_none() && turn(360.0).is_none());
        assert_eq!(turn(-46.0), turn(-90.0));
        assert_eq!(turn(270.0), turn(-90.0));
        assert_eq!(turn(-180.0), turn(180.0));
        assert!(turn(f64::NAN).is_none());
    }

    #[test]
    fn subsampling_turns_too() {
        for subsampling in [(1, 1), (1, 0), (0, 1), (0, 0)] {
            let source = planes((32, 20), Some(subsampling), |plane, _, _| plane as u8);
            let mut out = JfifPlanes::default();
            Orientation::from_rotation(90.0, false).apply(&source, &mut out);
            out.check().unwrap();
            assert_eq!((out.log2_chroma_w, out.log2_chroma_h), (subsampling.1, subsampling.0));
        }
    }

    #[test]
    fn colour_stays_on_its_luma_at_odd_sides() {
        // Luma x has the value 4x, and so has the middle of a chroma sample's luma.
        let ramp = |plane, x: usize, y: usize| if plane == 0 { (4 * x + y) as u8 } else { (8 * x + 2 + 2 * y) as u8 };
        let source = planes((41, 9), Some((1, 1)), ramp);
        for (degrees, mirrored, _) in ALL {
            let mut out = JfifPlanes::default();
            Orientation::from_rotation(degrees, mirrored).apply(&source, &mut out);
            let (luma, chroma) = (&out.planes[0], &out.planes[1]);
            for (x, y) in (1..chroma.width - 1).flat_map(|x| (1..chroma.height - 1).map(move |y| (x, y))) {
                let sum: u32 = (0..4).map(|i| u32::from(luma.row(2 * y + i / 2)[2 * x + i % 2])).sum();
                let off = (f64::from(sum) / 4.0 - 0.5 - f64::from(chroma.row(y)[x])).abs();
                assert!(off <= 1.0, "{degrees} {mirrored} at {x},{y}: {off}");
            }
        }
    }

    #[test]
    fn rectangles_are_found_again() {
        let source = planes((24, 16), None, |_, x, y| (x + 24 * y) as u8);
        let rectangle = Crop { left: 3.0, top: 2.0, width: 5.0, height: 4.0 };
        for (degrees, mirrored, _) in ALL {
            let turn = Orientation::from_rotation(degrees, mirrored);
            let mut out = JfifPlanes::default();
            turn.apply(&source, &mut out);
            let before = turn.before((out.width as f64, out.height as f64), rectangle);
            let samples = |plane: &Plane, c: Crop| {
                let rows = (0..c.height as usize).map(|y| &plane.row(c.top as usize + y)[c.left as usize..]);
                let mut all: Vec<u8> = rows.flat_map(|row| row[..c.width as usize].to_vec()).collect();
                all.sort_unstable();
                all
            };
            assert_eq!(samples(&source.planes[0], before), samples(&out.planes[0], rectangle), "{degrees} {mirrored}");
        }
    }
}
