//! `sheet`: a contact sheet of a video, and a WebVTT file that maps its tiles to times. [`Storyboard`] makes the
//! pictures.

use std::io::Write;
use std::path::{Path, PathBuf};

use bucket_streamer::pixels::{Fit, Shape};
use bucket_streamer::still::sheet::relative_address;
use bucket_streamer::still::{StillFormat, StillOptions};
use bucket_streamer::storyboard::{Storyboard, Tile, TileFrame};
use bucket_streamer::{Error, ErrorKind, OnDamage, Result, Video};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::console::{CommandOutcome, report, say};
use crate::extract::ranges;
use crate::opening::{self, open};
use crate::options::{Decoding, DeviceOption, Format, Location, Quality, TrackAndIndex};
use crate::output::{FrameLine, is_same_file, write_whole};

/// The object that `--json` prints.
#[derive(Serialize)]
struct SheetReport {
    file: String,
    vtt: String,
    format: &'static str,
    width: usize,
    height: usize,
    columns: usize,
    rows: usize,
    tile_width: usize,
    tile_height: usize,
    tiles: Vec<SheetTile>,
}

/// One tile of the object.
#[derive(Serialize)]
struct SheetTile {
    #[serde(flatten)]
    line: FrameLine,
    /// Begin and end of the tile's part of the video, in seconds.
    start_s: f64,
    end_s: f64,
    /// Left and upper edge of its cell in the sheet, in pixels.
    x: usize,
    y: usize,
}

#[derive(Debug, Args)]
#[command(after_help = SHEET_EXAMPLES)]
pub(crate) struct SheetArguments {
    #[command(flatten)]
    pub(crate) location: Location,
    /// File to write the sheet to; the WebVTT file goes beside it. `-` writes the sheet alone to standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: String,
    /// Tiles per row
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) columns: u32,
    /// Tiles, evenly spread over the video; at most one per frame
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) count: u32,
    /// Width of a tile in pixels
    #[arg(long, default_value_t = 320, value_parser = clap::value_parser!(u32).range(1..=16383))]
    pub(crate) width: u32,
    /// jpeg, png or webp [default: from the extension of the file's name, else jpeg]
    #[arg(short, long, value_name = "FORMAT", value_parser = still_format)]
    pub(crate) format: Option<Format>,
    #[command(flatten)]
    pub(crate) quality: Quality,
    /// Print one JSON object to standard output
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) which: TrackAndIndex,
    /// Handling of frames that are known to be damaged: show and report them, or leave their tiles black
    #[arg(long, value_name = "flag|error", default_value_t)]
    pub(crate) on_damage: OnDamage,
    #[command(flatten)]
    pub(crate) decoding: Decoding,
    /// Threads for decoding [default: libavcodec's choice]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) threads: Option<u16>,
    #[command(flatten)]
    pub(crate) device: DeviceOption,
}

/// Parses the format of a sheet.
fn still_format(text: &str) -> std::result::Result<Format, String> {
    let format = Format::from_str(text, false).ok().filter(|format| format.still().is_some());
    format.ok_or_else(|| format!("sheets are {}", StillFormat::ALL.map(StillFormat::name).join(", ")))
}

const SHEET_EXAMPLES: &str = "\
Examples:
  bucket-streamer sheet cam.mp4 -o sheet.jpg
  bucket-streamer sheet cam.mp4 -o storyboard.webp --columns 10 --count 100 --width 160

A tile shows the frame in the middle of its part of the video. The .vtt file has one cue per tile:
the time range of that part, and sheet.jpg#xywh=X,Y,WIDTH,HEIGHT.";

pub(crate) fn run(arguments: &SheetArguments) -> CommandOutcome {
    let to_stdout = arguments.output == "-";
    if arguments.json && to_stdout {
        say("bucket-streamer: --json and --output - both write to standard output: use one of them");
        return CommandOutcome::Usage;
    }
    let output = Path::new(&arguments.output);
    let vtt = output.with_extension("vtt");
    let inputs = [Some(arguments.location.video.as_str()), arguments.which.index.as_deref()];
    let is_input = |written: &Path| inputs.iter().flatten().any(|input| is_same_file(input, written));
    if !to_stdout && (is_input(output) || is_input(&vtt) || output == vtt) {
        say("bucket-streamer: --output or its .vtt file would overwrite an input or each other: change --output");
        return CommandOutcome::Usage;
    }
    let builder = opening::builder(arguments.threads, None, arguments.decoding.limits)
        .on_damage(arguments.on_damage)
        .check_hashes(arguments.decoding.check_hashes);
    let engine = match opening::engine(builder, arguments.device.device) {
        Ok(engine) => engine,
        Err(outcome) => return outcome,
    };
    let video = match open(&engine, &arguments.location.video, arguments.which.opening()) {
        Ok(video) => video,
        Err(outcome) => return outcome,
    };
    let outcome = make_sheet(arguments, &video, to_stdout).unwrap_or_else(|error| {
        report(&error);
        if error.is_unreadable_video() { CommandOutcome::Unreadable } else { CommandOutcome::SomeFailed }
    });
    opening::report_device_notes(&engine);
    outcome
}

fn make_sheet(arguments: &SheetArguments, video: &Video, to_stdout: bool) -> Result<CommandOutcome> {
    let options = StillOptions {
        shape: Shape { width: Some(arguments.width), height: None, fit: Fit::Contain },
        ..video.still_options()
    };
    let layout = (arguments.count, arguments.columns, TileFrame::Middle);
    let Some(storyboard) = Storyboard::make(video, &options, layout, &|| true)? else {
        return Ok(CommandOutcome::SomeFailed);
    };
    let mut outcome = CommandOutcome::Done;
    for error in storyboard.tiles.iter().filter_map(|tile| tile.planes.as_ref().err()) {
        report(error);
        outcome = CommandOutcome::SomeFailed;
    }
    report_damage(video, &storyboard);
    let format = format_of(arguments);
    let bytes = storyboard.encode(format, arguments.quality.quality)?;
    if to_stdout {
        write_out(&bytes)?;
        return Ok(outcome);
    }
    let path = Path::new(&arguments.output);
    let vtt = write_files(path, &bytes, &storyboard)?;
    announce(arguments, &storyboard, video, (path, &vtt), format)?;
    Ok(outcome)
}

/// Reports the tiles that show damage.
fn report_damage(video: &Video, storyboard: &Storyboard) {
    let corrupt = storyboard.corrupt();
    if !corrupt.is_empty() {
        let (name, all, list) = (video.source().name(), storyboard.tiles.len(), ranges(&corrupt));
        let count = corrupt.len();
        say(&format!("bucket-streamer: {name}: damaged pictures in the sheet: {count} of {all}, frames {list}"));
    }
}

/// The format from the command line, or else from the file's name.
fn format_of(arguments: &SheetArguments) -> StillFormat {
    let extension = Path::new(&arguments.output).extension().and_then(|extension| extension.to_str());
    let named = extension.and_then(StillFormat::of_extension);
    arguments.format.and_then(|format| format.still()).or(named).unwrap_or(StillFormat::Jpeg)
}

fn write_out(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    Ok(written.map_err(|error| ErrorKind::Write { path: "standard output".to_owned(), error })?)
}

/// Writes both files; returns the name of the second.
fn write_files(path: &Path, bytes: &[u8], storyboard: &Storyboard) -> Result<PathBuf> {
    write_whole(path, bytes)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let vtt = path.with_extension("vtt");
    write_whole(&vtt, storyboard.webvtt(&relative_address(&name)).as_bytes())?;
    Ok(vtt)
}

fn announce(
    arguments: &SheetArguments,
    storyboard: &Storyboard,
    video: &Video,
    (path, vtt): (&Path, &Path),
    format: StillFormat,
) -> Result<()> {
    let (grid, tiles) = (&storyboard.grid, &storyboard.tiles);
    let (width, height) = grid.size();
    if !arguments.json {
        let (file, vtt, count) = (path.display(), vtt.display(), tiles.len());
        say(&format!("bucket-streamer: {count} tiles in {file} ({width}x{height}), their times in {vtt}"));
        return Ok(());
    }
    let cue = |(cell, tile): (usize, &Tile)| {
        let (x, y) = grid.place(cell);
        let size = tile.planes.as_ref().ok().map(|planes| (planes.width, planes.height));
        let line = FrameLine {
            width: size.map(|size| size.0),
            height: size.map(|size| size.1),
            error: tile.planes.as_ref().err().map(Error::message),
            corrupt: tile.corrupt,
            ..FrameLine::of(video, tile.index)
        };
        SheetTile { line, start_s: tile.start_s, end_s: tile.end_s, x, y }
    };
    let sheet = SheetReport {
        file: path.to_string_lossy().into_owned(),
        vtt: vtt.to_string_lossy().into_owned(),
        format: format.name(),
        width,
        height,
        columns: grid.columns(),
        rows: grid.rows(),
        tile_width: grid.cell().0,
        tile_height: grid.cell().1,
        tiles: tiles.iter().enumerate().map(cue).collect(),
    };
    write_out((serde_json::to_string(&sheet).expect("plain data") + "\n").as_bytes())
}
