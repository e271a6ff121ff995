//! Storyboards: an overview of a video as one sheet of small pictures with their times. Pixels of the sheet are left to
//! `still`.
//!
//! The video's frames are divided into as many slices as there are tiles. A tile shows one frame of its slice, and its
//! cue lasts from the slice's first frame to the next slice's.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};
use crate::pixels::scale::Scaler;
use crate::pixels::{Fit, JfifPlanes, PictureError, Shape};
use crate::session::frame::VideoFrame;
use crate::session::results::Frames;
use crate::session::video::Video;
use crate::still::{Grid, StillEncoder, StillFormat, StillMaker, StillOptions};

/// The frame of its slice that a tile shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TileFrame {
    /// The middle one, whatever its decoding costs.
    Middle,
    /// The key frame nearest to the middle, which costs one picture to decode; the middle one in a slice without key
    /// frame.
    Key,
}

/// A tile of a storyboard: a frame, the times of its slice, and its pixels or error.
#[derive(Debug)]
pub struct Tile {
    /// Number of the frame.
    pub index: u32,
    /// Start of the slice, in seconds.
    pub start_s: f64,
    /// End of the slice, in seconds.
    pub end_s: f64,
    /// Its pixels, or why there are none.
    pub planes: Result<JfifPlanes>,
    /// True if the picture is known to be damaged: see [`VideoFrame::is_corrupt`](crate::VideoFrame::is_corrupt).
    pub corrupt: bool,
}

/// A finished storyboard.
#[derive(Debug)]
pub struct Storyboard {
    /// The layout of the tiles.
    pub grid: Grid,
    /// The tiles, in presentation order.
    pub tiles: Vec<Tile>,
}

impl Storyboard {
    /// Makes a storyboard of `count` tiles (at most one per frame), `columns` in a row. A tile whose frame fails is
    /// black, and has the error. Returns `None` once `is_needed`, called after each tile, returns false.
    ///
    /// # Errors
    /// `Still` if the sheet would be too large; the first tile's error if all frames fail.
    pub fn make(
        video: &Video,
        options: &StillOptions,
        (count, columns, tile_frame): (u32, u32, TileFrame),
        is_needed: &dyn Fn() -> bool,
    ) -> Result<Option<Storyboard>> {
        let mut builder = StoryboardBuilder::new(video, options, (count, columns, tile_frame))?;
        let control = || if is_needed() { BuildControl::Continue } else { BuildControl::Abort };
        builder.advance(usize::MAX, &|indices| video.frames(indices), &control)?;
        if builder.is_done() { builder.finish().map(Some) } else { Ok(None) }
    }

    /// Encodes the sheet as a file.
    ///
    /// # Errors
    /// `Still` if the format cannot be that large.
    pub fn encode(&self, format: StillFormat, quality: u8) -> Result<Vec<u8>> {
        let planes: Vec<Option<&JfifPlanes>> = self.tiles.iter().map(|tile| tile.planes.as_ref().ok()).collect();
        let sheet = self.grid.compose(&planes).map_err(too_large)?;
        let mut bytes = Vec::new();
        StillEncoder::new()?.encode(&sheet, format, quality, &mut bytes)?;
        Ok(bytes)
    }

    /// Numbers of the frames that are shown and damaged, in the order of the tiles.
    pub fn corrupt(&self) -> Vec<u32> {
        self.tiles.iter().filter(|tile| tile.corrupt).map(|tile| tile.index).collect()
    }

    /// The WebVTT file; its cues refer to regions of the sheet at `address`.
    pub fn webvtt(&self, address: &str) -> String {
        let times: Vec<_> = self.tiles.iter().map(|tile| (tile.start_s, tile.end_s)).collect();
        self.grid.webvtt(address, &times)
    }
}

fn too_large(error: PictureError) -> Error {
    ErrorKind::Still(error.to_string()).into()
}

/// The first frame of each slice, and the frame to show.
fn slices(video: &Video, count: u32, tile_frame: TileFrame) -> Vec<(u32, u32)> {
    let mut slices = middles(video.frame_count(), count);
    if tile_frame == TileFrame::Key {
        let keys = video.key_indices();
        let ends: Vec<u32> = slices.iter().skip(1).map(|(first, _)| *first).chain([u32::MAX]).collect();
        for ((first, shown), end) in slices.iter_mut().zip(ends) {
            let own = &keys[keys.partition_point(|key| key < first)..keys.partition_point(|key| *key < end)];
            *shown = own.iter().copied().min_by_key(|key| key.abs_diff(*shown)).unwrap_or(*shown);
        }
    }
    slices
}

/// The first frame of each slice, and its middle one; fewer slices if the video has fewer frames. Slices begin at the
/// nearest whole frame: rounded down, a short slice could end before its middle frame.
fn middles(frames: usize, count: u32) -> Vec<(u32, u32)> {
    let (frames, count) = (frames as u64, u64::from(count).min(frames as u64));
    let slice = |i: u64| (((2 * i * frames + count) / (2 * count)) as u32, ((2 * i + 1) * frames / (2 * count)) as u32);
    (0..count).map(slice).collect()
}

/// The caller's answer after each tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildControl {
    /// Continue.
    Continue,
    /// Pause for other work; finished tiles stay.
    Suspend,
    /// Stop: the sheet is no longer needed.
    Abort,
}

/// A storyboard in progress, built some tiles at a time, so that other work can run in between.
pub struct StoryboardBuilder {
    video: Video,
    options: StillOptions,
    columns: usize,
    /// The first frame of each slice, and the frame to show.
    slices: Vec<(u32, u32)>,
    /// Frames without a result.
    left: Vec<u32>,
    results: BTreeMap<u32, (Result<JfifPlanes>, bool)>,
    maker: StillMaker,
    /// A tile has arrived, and the sheet is not too large.
    is_checked: bool,
}

impl StoryboardBuilder {
    /// A storyboard of `count` tiles, `columns` in a row.
    ///
    /// # Errors
    /// `Still` if the sheet would be too large.
    pub fn new(
        video: &Video,
        options: &StillOptions,
        (count, columns, tile_frame): (u32, u32, TileFrame),
    ) -> Result<StoryboardBuilder> {
        let slices = slices(video, count, tile_frame);
        let columns = columns as usize;
        // Checked before decoding, with the smallest sheet that is possible.
        let least = options.shape.width.map_or(1, |width| width as usize);
        Grid::new((least, 1), columns, slices.len()).map_err(too_large)?;
        Ok(StoryboardBuilder {
            video: video.clone(),
            options: *options,
            columns,
            left: slices.iter().map(|(_, shown)| *shown).collect(),
            slices,
            results: BTreeMap::new(),
            maker: StillMaker::new()?,
            is_checked: false,
        })
    }

    /// Numbers of the next frames to decode, at most `most`, in presentation order; empty once the storyboard is done.
    pub fn next(&self, most: usize) -> &[u32] {
        &self.left[..most.min(self.left.len())]
    }

    /// True once all frames have a result.
    pub fn is_done(&self) -> bool {
        self.left.is_empty()
    }

    /// Takes the next frames, at most `most`, from `frames`, and scales them as they arrive. Calls `control` after each
    /// tile, and returns its value unless that is [`BuildControl::Continue`]. The first tile determines the size of the
    /// sheet.
    ///
    /// # Errors
    /// `Still` if the sheet is too large.
    pub fn advance(
        &mut self,
        most: usize,
        frames: &dyn Fn(&[u32]) -> Frames,
        control: &dyn Fn() -> BuildControl,
    ) -> Result<BuildControl> {
        let mut state = BuildControl::Continue;
        for (index, frame) in frames(self.next(most)) {
            let corrupt = frame.as_ref().is_ok_and(VideoFrame::is_corrupt);
            let planes = frame.and_then(|frame| self.maker.planes(&frame.picture, &self.options).cloned());
            if let (Ok(tile), false) = (&planes, self.is_checked) {
                Grid::new((tile.width, tile.height), self.columns, self.slices.len()).map_err(too_large)?;
                self.is_checked = true;
            }
            let planes = planes.map_err(|error| located(error, &self.video, index));
            self.results.insert(index, (planes, corrupt));
            state = control();
            if state != BuildControl::Continue {
                break;
            }
        }
        // A frame without a result is not requested again.
        let requested = if state == BuildControl::Continue { most.min(self.left.len()) } else { 0 };
        let found = &self.results;
        let mut place = 0;
        self.left.retain(|index| {
            place += 1;
            place > requested && !found.contains_key(index)
        });
        Ok(state)
    }

    /// The storyboard. A frame without a result is black, and has its error.
    ///
    /// # Errors
    /// The first tile's error if all frames failed; `Still` if the sheet is too large.
    pub fn finish(self) -> Result<Storyboard> {
        let StoryboardBuilder { video, slices, results: mut found, columns, .. } = self;
        let unanswered = |index| Err(located(ErrorKind::Still("decoding gave no result".into()).into(), &video, index));
        let tile = |((_, index), (start_s, end_s)): (&(u32, u32), _)| {
            let (planes, corrupt) = found.remove(index).unwrap_or_else(|| (unanswered(*index), false));
            let corrupt = corrupt && planes.is_ok();
            Tile { index: *index, start_s, end_s, planes, corrupt }
        };
        let mut tiles: Vec<Tile> = slices.iter().zip(times(&video, &slices)).map(tile).collect();
        let Some(size) = tiles.iter().find_map(|tile| tile.planes.as_ref().ok()).map(|tile| (tile.width, tile.height))
        else {
            let first = tiles.into_iter().find_map(|tile| tile.planes.err());
            return Err(first.unwrap_or_else(|| ErrorKind::NoFrames.into()));
        };
        let grid = Grid::new(size, columns, slices.len()).map_err(too_large)?;
        fit_into(&grid, &mut tiles)?;
        Ok(Storyboard { grid, tiles })
    }
}

/// Adds the name of the video and the number of the frame, which an error of stills lacks.
fn located(error: Error, video: &Video, index: u32) -> Error {
    match error.kind() {
        ErrorKind::Still(why) => ErrorKind::Still(format!("{}: frame {index}: {why}", video.source().name())).into(),
        _ => error,
    }
}

/// Scales tiles whose shape differs from the first one's.
fn fit_into(grid: &Grid, tiles: &mut [Tile]) -> Result<()> {
    let (width, height) = grid.cell();
    let shape = Shape { width: Some(width as u32), height: Some(height as u32), fit: Fit::Contain };
    for tile in tiles.iter_mut().filter_map(|tile| tile.planes.as_mut().ok()) {
        if tile.width > width || tile.height > height {
            let mut scaled = JfifPlanes::default();
            Scaler::new().scale(tile, &shape, &mut scaled).map_err(too_large)?;
            *tile = scaled;
        }
    }
    Ok(())
}

/// Start and end of each slice, in seconds.
fn times(video: &Video, slices: &[(u32, u32)]) -> Vec<(f64, f64)> {
    let start = |frame: u32| video.sample_of(frame).map_or(0.0, |sample| video.timeline().seconds(sample.pts));
    let ends = slices.iter().skip(1).map(|(first, _)| start(*first)).chain([video.timeline().duration_s()]);
    slices.iter().zip(ends).map(|((first, _), end)| (start(*first), end)).collect()
}

#[cfg(test)]
mod tests {
    use super::middles;

    #[test]
    fn every_tile_shows_a_frame_of_its_slice() {
        assert_eq!(middles(100, 4), [(0, 12), (25, 37), (50, 62), (75, 87)]);
        assert_eq!(middles(3, 100), [(0, 0), (1, 1), (2, 2)]);
        for (frames, count) in [(7, 3), (97, 96), (1, 1), (1000, 7), (1001, 1000), (5, 4)] {
            let slices = middles(frames, count);
            assert_eq!(slices.len(), count as usize);
            let ends = slices.iter().skip(1).map(|(first, _)| *first).chain([frames as u32]);
            assert!(slices.iter().zip(ends).all(|((first, shown), end)| first <= shown && *shown < end));
        }
    }
}
