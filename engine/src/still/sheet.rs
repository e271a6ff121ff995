//! Contact sheets: small pictures in a grid, and the WebVTT file by which players find them.
//!
//! Tiles are planes, and so is the sheet, in 4:2:0 for any tiles. Cells have even sides and lie at even places, so
//! every chroma sample belongs to one cell. Space that a tile does not fill is black.

use std::fmt::Write;

use crate::pixels::JfifPlanes;
use crate::pixels::error::{MAX_SIDE, PictureError};
use crate::pixels::subsample::to_420;

/// The most pixels of a sheet, whose planes take 200 MB.
pub const MAX_PIXELS: usize = 1 << 27;

/// The layout of the tiles of a sheet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grid {
    /// Width of a cell in pixels, even.
    cell_width: usize,
    /// Height of a cell in pixels, even.
    cell_height: usize,
    /// Cells per row.
    columns: usize,
    /// Cells with a tile.
    count: usize,
}

impl Grid {
    /// A grid for `count` tiles of this width and height, `columns` in a row (fewer if there are fewer tiles). Sides
    /// are rounded up to even ones.
    ///
    /// # Errors
    /// `SheetSize` for sides above 65535 pixels, or more than [`MAX_PIXELS`]; `Empty` for tiles without pixels.
    pub fn new((width, height): (usize, usize), columns: usize, count: usize) -> Result<Grid, PictureError> {
        if width == 0 || height == 0 || columns == 0 || count == 0 {
            return Err(PictureError::Empty { width, height });
        }
        let even = |side: usize| side.saturating_add(side % 2);
        let grid = Grid { cell_width: even(width), cell_height: even(height), columns: columns.min(count), count };
        let side = |cell: usize, cells: usize| cell.saturating_mul(cells);
        let (width, height) = (side(grid.cell_width, grid.columns), side(grid.cell_height, grid.rows()));
        if width.max(height) > MAX_SIDE as usize || width.saturating_mul(height) > MAX_PIXELS {
            return Err(PictureError::SheetSize { width, height });
        }
        Ok(grid)
    }

    /// Width and height of a cell in pixels.
    pub fn cell(&self) -> (usize, usize) {
        (self.cell_width, self.cell_height)
    }

    /// Tiles per row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.count.div_ceil(self.columns)
    }

    /// Width and height of the sheet in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.cell_width * self.columns, self.cell_height * self.rows())
    }

    /// Left and upper edge of a cell in pixels.
    pub fn place(&self, cell: usize) -> (usize, usize) {
        (cell % self.columns * self.cell_width, cell / self.columns * self.cell_height)
    }

    /// The sheet: each tile is centred in its cell, cells without a tile are black.
    ///
    /// # Errors
    /// `PlaneSize` for a tile that is larger than its cell, and errors of tiles whose planes do not fit together.
    pub fn compose(&self, tiles: &[Option<&JfifPlanes>]) -> Result<JfifPlanes, PictureError> {
        let (mut sheet, mut tile_420) = (JfifPlanes::default(), JfifPlanes::default());
        let (width, height) = self.size();
        sheet.reshape(width, height, 3, 1, 1);
        for (plane, black) in sheet.planes.iter_mut().zip([0, 128, 128]) {
            plane.data.fill(black);
        }
        for (cell, tile) in tiles.iter().take(self.count).enumerate() {
            let Some(tile) = tile else { continue };
            tile.check()?;
            to_420(tile, &mut tile_420);
            self.put(cell, &tile_420, &mut sheet)?;
        }
        sheet.repeat_edges();
        Ok(sheet)
    }

    fn put(&self, cell: usize, tile: &JfifPlanes, sheet: &mut JfifPlanes) -> Result<(), PictureError> {
        let (cell_width, cell_height) = self.cell();
        if tile.width > cell_width || tile.height > cell_height {
            return Err(PictureError::PlaneSize {
                plane: 0,
                width: tile.width,
                height: tile.height,
                expected_width: cell_width,
                expected_height: cell_height,
            });
        }
        let (left, top) = self.place(cell);
        let left = left + (cell_width - tile.width) / 4 * 2;
        let top = top + (cell_height - tile.height) / 4 * 2;
        for (index, (from, to)) in tile.planes.iter().zip(&mut sheet.planes).enumerate() {
            let shift = usize::from(index > 0);
            for y in 0..from.height {
                to.row_mut((top >> shift) + y)[left >> shift..][..from.width].copy_from_slice(from.row(y));
            }
        }
        Ok(())
    }

    /// The WebVTT file: one cue per tile, with its start and end in seconds, and its rectangle of the sheet as a media
    /// fragment of the sheet's address (<https://www.w3.org/TR/media-frags/#naming-space>).
    pub fn webvtt(&self, address: &str, times: &[(f64, f64)]) -> String {
        let mut out = "WEBVTT\n".to_owned();
        let (width, height) = self.cell();
        for (cell, (from, to)) in times.iter().take(self.count).enumerate() {
            let (left, top) = self.place(cell);
            let (from, to) = (clock(*from), clock(*to));
            // Writing to a String does not fail.
            let _ = write!(out, "\n{from} --> {to}\n{address}#xywh={left},{top},{width},{height}\n");
        }
        out
    }
}

/// Formats a time as `HH:MM:SS.mmm` (WebVTT timestamp).
fn clock(seconds: f64) -> String {
    let milliseconds = (seconds.max(0.0) * 1000.0).round() as u64;
    let (seconds, milliseconds) = (milliseconds / 1000, milliseconds % 1000);
    format!("{:02}:{:02}:{:02}.{milliseconds:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// A file name as a relative address: reserved and non-ASCII bytes become `%XX`.
pub fn relative_address(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::testing::planes;

    #[test]
    fn tiles_lie_in_the_middle_of_their_cells() {
        let grid = Grid::new((15, 9), 2, 3).unwrap();
        assert_eq!((grid.cell(), grid.size(), grid.rows(), grid.columns()), ((16, 10), (32, 20), 2, 2));
        let tile = |size, value: u8| Some(planes(size, Some((0, 0)), move |plane, _, _| value + plane as u8));
        let tiles = [tile((16, 10), 10), None, tile((8, 10), 30)];
        let sheet = grid.compose(&tiles.each_ref().map(Option::as_ref)).unwrap();
        sheet.check().unwrap();
        let luma = |x: usize, y: usize| sheet.planes[0].row(y)[x];
        let cr = |x: usize, y: usize| sheet.planes[2].row(y / 2)[x / 2];
        assert_eq!([luma(0, 0), luma(15, 9), luma(16, 0), luma(31, 9)], [10, 10, 0, 0]);
        assert_eq!([luma(3, 10), luma(4, 10), luma(11, 19), luma(12, 19), luma(20, 15)], [0, 30, 30, 0, 0]);
        assert_eq!([cr(0, 0), cr(16, 0), cr(3, 10), cr(4, 10), cr(12, 10)], [12, 128, 128, 32, 128]);
    }

    #[test]
    fn tiles_lie_at_even_places() {
        // One column would be left on each side, so that chroma would belong to two places.
        let grid = Grid::new((16, 10), 1, 1).unwrap();
        let sheet = grid.compose(&[Some(&planes((14, 8), Some((1, 1)), |_, _, _| 50))]).unwrap();
        assert_eq!((sheet.planes[0].row(0)[0], sheet.planes[0].row(7)[13]), (50, 50));
        assert_eq!((sheet.planes[0].row(0)[14], sheet.planes[0].row(8)[0]), (0, 0));
    }

    #[test]
    fn grey_and_odd_tiles_fit_in() {
        let grid = Grid::new((5, 3), 4, 1).unwrap();
        assert_eq!(grid.size(), (6, 4));
        let sheet = grid.compose(&[Some(&planes((5, 3), None, |_, x, y| (10 * y + x) as u8))]).unwrap();
        assert_eq!(sheet.planes[0].row(2), [20, 21, 22, 23, 24, 0]);
        assert!(grid.compose(&[Some(&planes((7, 3), None, |_, _, _| 0))]).is_err());
    }

    #[test]
    fn sheets_that_are_too_large_are_errors() {
        assert!(matches!(Grid::new((320, 180), 300, 300), Err(PictureError::SheetSize { width: 96000, height: 180 })));
        assert!(Grid::new((320, 180), 1, 400).is_err());
        assert!(Grid::new((20000, 10000), 1, 1).is_err());
        assert!(Grid::new((usize::MAX, 1), 2, 2).is_err());
        assert!(Grid::new((0, 1), 1, 1).is_err());
        assert!(Grid::new((320, 180), 20, 400).is_ok());
    }

    #[test]
    fn cues_have_times_and_places() {
        let grid = Grid::new((160, 90), 2, 3).unwrap();
        let vtt = grid.webvtt("sheet.jpg", &[(0.0, 1.5), (1.5, 61.0004), (61.0, 3661.2345)]);
        let expected = "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nsheet.jpg#xywh=0,0,160,90\n\n\
            00:00:01.500 --> 00:01:01.000\nsheet.jpg#xywh=160,0,160,90\n\n\
            00:01:01.000 --> 01:01:01.235\nsheet.jpg#xywh=0,90,160,90\n";
        assert_eq!(vtt, expected.replace("01:01:01.235", &clock(3661.2345)));
        assert_eq!(relative_address("my sheet#1 é.jpg"), "my%20sheet%231%20%C3%A9.jpg");
    }
}
