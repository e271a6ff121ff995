//! `sheet`: a contact sheet of a video, and a WebVTT file that says which part of it stands for which time.
//!
//! The video's frames are cut into as many slices as there are tiles; a tile shows the frame in the middle of its slice
//! (as `extract --count` has it), and its cue lasts from the slice's first frame to the next slice's.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use bucket_streamer::picture::sheet::relative_address;
use bucket_streamer::picture::{
    Fit, Grid, JfifPlanes, PictureError, Shape, StillEncoder, StillFormat, StillMaker, StillOptions,
};
use bucket_streamer::{Error, ErrorKind, Result, Video};
use serde::Serialize;

use super::args::SheetArguments;
use super::index::is_same_file;
use super::output::{Line, write_whole};
use super::{Outcome, open, say};

/// What `--json` prints.
#[derive(Serialize)]
struct Sheet {
    file: String,
    vtt: String,
    format: &'static str,
    width: usize,
    height: usize,
    columns: usize,
    rows: usize,
    tile_width: usize,
    tile_height: usize,
    tiles: Vec<Cue>,
}

/// One tile.
#[derive(Serialize)]
struct Cue {
    #[serde(flatten)]
    line: Line,
    /// When what it stands for begins and ends, in seconds.
    start_s: f64,
    end_s: f64,
    /// Left and upper edge of its cell in the sheet, in pixels.
    x: usize,
    y: usize,
}

/// A tile's pixels, or why there are none.
type Tile = (u32, Result<JfifPlanes>);

pub(crate) fn run(arguments: &SheetArguments) -> Outcome {
    let to_stdout = arguments.output == "-";
    if arguments.json && to_stdout {
        say("bucket-streamer: --json and --output - both want standard output");
        return Outcome::Usage;
    }
    let output = Path::new(&arguments.output);
    let vtt = output.with_extension("vtt");
    let inputs = [Some(arguments.video.as_str()), arguments.which.index.as_deref()];
    let is_input = |written: &Path| inputs.iter().flatten().any(|input| is_same_file(Path::new(input), written));
    if !to_stdout && (is_input(output) || is_input(&vtt) || output == vtt) {
        say(
            "bucket-streamer: neither --output nor the .vtt file beside it may be the video, its index, or the other one",
        );
        return Outcome::Usage;
    }
    let engine = super::engine(arguments.threads, None);
    let video = match open(&engine, &arguments.video, arguments.which.track, arguments.which.index.as_deref()) {
        Ok(video) => video,
        Err(outcome) => return outcome,
    };
    made(arguments, &video, to_stdout).unwrap_or_else(|error| {
        say(&format!("bucket-streamer: {error}"));
        if error.is_unreadable_video() { Outcome::Unreadable } else { Outcome::SomeFailed }
    })
}

fn made(arguments: &SheetArguments, video: &Video, to_stdout: bool) -> Result<Outcome> {
    let wanted = slices(video.frame_count(), arguments.count);
    let options = StillOptions {
        shape: Shape { width: Some(arguments.width), height: None, fit: Fit::Contain },
        ..StillOptions::for_video(video)
    };
    // Before anything is decoded: the smallest sheet that it could become.
    Grid::new((arguments.width as usize, 1), arguments.columns as usize, wanted.len()).map_err(too_large)?;
    let mut tiles = decoded(video, &wanted, &options, arguments.columns as usize)?;
    let mut outcome = Outcome::Done;
    for (_, tile) in &tiles {
        if let Err(error) = tile {
            say(&format!("bucket-streamer: {error}"));
            outcome = Outcome::SomeFailed;
        }
    }
    let Some(size) = tiles.iter().find_map(|(_, tile)| tile.as_ref().ok()).map(|tile| (tile.width, tile.height)) else {
        return Ok(Outcome::SomeFailed);
    };
    let grid = Grid::new(size, arguments.columns as usize, wanted.len()).map_err(too_large)?;
    fit_into(&grid, &mut tiles)?;
    let format = format_of(arguments);
    let bytes = encoded(&grid, &tiles, format, arguments.quality)?;
    if to_stdout {
        write_out(&bytes)?;
        return Ok(outcome);
    }
    let path = Path::new(&arguments.output);
    let vtt = written(path, &bytes, &grid, video, &wanted)?;
    report(arguments, &grid, video, (path, &vtt), (format, &tiles))?;
    Ok(outcome)
}

/// What the name of the file says, where the command line says nothing.
fn format_of(arguments: &SheetArguments) -> StillFormat {
    let extension = Path::new(&arguments.output).extension().and_then(|extension| extension.to_str());
    let named = extension.and_then(StillFormat::of_extension);
    arguments.format.and_then(|format| format.still()).or(named).unwrap_or(StillFormat::Jpeg)
}

fn too_large(error: PictureError) -> Error {
    ErrorKind::Still(error.to_string()).into()
}

/// The first frame of each slice and the one to show. A video of fewer frames has fewer slices. Slices begin at the
/// nearest whole frame: rounded down, a short one would end before the frame in its middle.
fn slices(frames: usize, count: u32) -> Vec<(u32, u32)> {
    let (frames, count) = (frames as u64, u64::from(count).min(frames as u64));
    let slice = |i: u64| (((2 * i * frames + count) / (2 * count)) as u32, ((2 * i + 1) * frames / (2 * count)) as u32);
    (0..count).map(slice).collect()
}

/// The frames, scaled as they come, in the order of the slices. The first of them tells how large the sheet will be: one
/// that is too large is not waited for.
fn decoded(video: &Video, wanted: &[(u32, u32)], options: &StillOptions, columns: usize) -> Result<Vec<Tile>> {
    let mut maker = StillMaker::new()?;
    let indices: Vec<u32> = wanted.iter().map(|(_, shown)| *shown).collect();
    let mut found = BTreeMap::new();
    let mut is_checked = false;
    for (index, frame) in video.frames(&indices) {
        let planes = frame.and_then(|frame| maker.planes(&frame.picture, options).cloned());
        if let (Ok(tile), false) = (&planes, is_checked) {
            Grid::new((tile.width, tile.height), columns, wanted.len()).map_err(too_large)?;
            is_checked = true;
        }
        found.insert(index, planes.map_err(|error| located(error, video, index)));
    }
    let unanswered = |index| Err(located(ErrorKind::Still("there was no answer".into()).into(), video, index));
    let tile = |index| (index, found.remove(&index).unwrap_or_else(|| unanswered(index)));
    Ok(indices.into_iter().map(tile).collect())
}

/// With the name of the video and the number of the frame, which an error of stills does not have.
fn located(error: Error, video: &Video, index: u32) -> Error {
    match error.kind() {
        ErrorKind::Still(why) => ErrorKind::Still(format!("{}: frame {index}: {why}", video.source().name())).into(),
        _ => error,
    }
}

/// Tiles of pictures of another shape than the first one's are made to fit.
fn fit_into(grid: &Grid, tiles: &mut [Tile]) -> Result<()> {
    let (width, height) = grid.cell();
    let shape = Shape { width: Some(width as u32), height: Some(height as u32), fit: Fit::Contain };
    for tile in tiles.iter_mut().filter_map(|(_, tile)| tile.as_mut().ok()) {
        if tile.width > width || tile.height > height {
            let mut scaled = JfifPlanes::default();
            bucket_streamer::picture::scale::Scaler::new().scale(tile, &shape, &mut scaled).map_err(too_large)?;
            *tile = scaled;
        }
    }
    Ok(())
}

fn encoded(grid: &Grid, tiles: &[Tile], format: StillFormat, quality: u8) -> Result<Vec<u8>> {
    let planes: Vec<Option<&JfifPlanes>> = tiles.iter().map(|(_, tile)| tile.as_ref().ok()).collect();
    let sheet = grid.compose(&planes).map_err(too_large)?;
    let mut bytes = Vec::new();
    StillEncoder::new()?.encode(&sheet, format, quality, &mut bytes)?;
    Ok(bytes)
}

fn write_out(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    Ok(written.map_err(|error| ErrorKind::Write { path: "standard output".to_owned(), error })?)
}

/// Writes both files; returns the name of the second.
fn written(path: &Path, bytes: &[u8], grid: &Grid, video: &Video, wanted: &[(u32, u32)]) -> Result<PathBuf> {
    write_whole(path, bytes)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let vtt = path.with_extension("vtt");
    write_whole(&vtt, grid.webvtt(&relative_address(&name), &times(video, wanted)).as_bytes())?;
    Ok(vtt)
}

/// From when to when each slice lasts, in seconds.
fn times(video: &Video, wanted: &[(u32, u32)]) -> Vec<(f64, f64)> {
    let start = |frame: u32| video.sample_of(frame).map_or(0.0, |sample| video.timeline().seconds(sample.pts));
    let ends = wanted.iter().skip(1).map(|(first, _)| start(*first)).chain([video.timeline().duration_s()]);
    wanted.iter().zip(ends).map(|((first, _), end)| (start(*first), end)).collect()
}

fn report(
    arguments: &SheetArguments,
    grid: &Grid,
    video: &Video,
    (path, vtt): (&Path, &Path),
    (format, tiles): (StillFormat, &[Tile]),
) -> Result<()> {
    let (width, height) = grid.size();
    if !arguments.json {
        let (file, vtt, count) = (path.display(), vtt.display(), tiles.len());
        say(&format!("bucket-streamer: {count} tiles in {file} ({width}x{height}), their times in {vtt}"));
        return Ok(());
    }
    let wanted = slices(video.frame_count(), arguments.count);
    let cue = |(cell, ((index, tile), (start_s, end_s))): (usize, (&Tile, (f64, f64)))| {
        let (x, y) = grid.place(cell);
        let size = tile.as_ref().ok().map(|tile| (tile.width, tile.height));
        let line = Line {
            width: size.map(|size| size.0),
            height: size.map(|size| size.1),
            error: tile.as_ref().err().map(Error::message),
            ..Line::of(video, *index)
        };
        Cue { line, start_s, end_s, x, y }
    };
    let sheet = Sheet {
        file: path.to_string_lossy().into_owned(),
        vtt: vtt.to_string_lossy().into_owned(),
        format: format.name(),
        width,
        height,
        columns: grid.columns(),
        rows: grid.rows(),
        tile_width: grid.cell().0,
        tile_height: grid.cell().1,
        tiles: tiles.iter().zip(times(video, &wanted)).enumerate().map(cue).collect(),
    };
    write_out((serde_json::to_string(&sheet).expect("plain data") + "\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::slices;

    #[test]
    fn every_tile_shows_a_frame_of_its_slice() {
        assert_eq!(slices(100, 4), [(0, 12), (25, 37), (50, 62), (75, 87)]);
        assert_eq!(slices(3, 100), [(0, 0), (1, 1), (2, 2)]);
        for (frames, count) in [(7, 3), (97, 96), (1, 1), (1000, 7), (1001, 1000), (5, 4)] {
            let slices = slices(frames, count);
            assert_eq!(slices.len(), count as usize);
            let ends = slices.iter().skip(1).map(|(first, _)| *first).chain([frames as u32]);
            assert!(slices.iter().zip(ends).all(|((first, shown), end)| first <= shown && *shown < end));
        }
    }
}
