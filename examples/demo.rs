//! Random frames of a video as JPEG files, one at a time: this library beside one `ffmpeg` run per frame.
//!
//! Run it with `scripts/demo`, or by hand: `cargo run --release --example demo -- CLIP OUTPUT_FOLDER FFMPEG`, where
//! FFMPEG is the `ffmpeg` program to compare with (`scripts/vendor path ffmpeg` prints where ours is).
//!
//! Both sides are timed from the wish for a frame to the file on disk. The library has the clip open, `ffmpeg` starts
//! and opens it for every frame: that is how each is used. What a frame has to look like, bit for bit, is told by the
//! MD5 of the same frame in a decode of the whole clip from its beginning, which is not timed.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use bucket_streamer::picture::{StillMaker, StillOptions, raw};
use bucket_streamer::{Engine, Video};

/// How many frames are asked for: as many as the contact sheet has places.
const FRAMES: usize = SHEET_COLUMNS * SHEET_ROWS;
const SHEET_COLUMNS: usize = 6;
const SHEET_ROWS: usize = 4;
/// The same frames in every run.
const SEED: u64 = 7;
/// Files come out somewhat larger than those of `ffmpeg -q:v 3`.
const QUALITY: u8 = 85;

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [clip, output, ffmpeg] = &arguments[..] else {
        eprintln!("usage: demo CLIP OUTPUT_FOLDER FFMPEG");
        return ExitCode::from(2);
    };
    match run(clip, output, ffmpeg) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => {
            eprintln!("demo: {wrong} frames are not what a sequential decode shows");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the demo, and returns how many frames were wrong.
fn run(clip: &Path, output: &Path, ffmpeg: &Path) -> Result<usize, Box<dyn Error>> {
    let started = Instant::now();
    let engine = Engine::new(None);
    let video = engine.open_path(clip)?;
    let opened = started.elapsed();

    let by_ffmpeg = output.join("ffmpeg");
    fs::create_dir_all(&by_ffmpeg).map_err(|error| format!("{}: {error}", by_ffmpeg.display()))?;
    let wanted = fastrand::Rng::with_seed(SEED).choose_multiple(0..video.frame_count() as u32, FRAMES);
    let expected = sequential_md5s(ffmpeg, clip)?;
    if expected.len() != video.frame_count() {
        // Then the n-th line of one is not the n-th frame of the other: nothing to compare with.
        return Err(format!("{}: not all of its frames can be decoded: take another clip", clip.display()).into());
    }

    println!("{}: {} frames, key frames: {}\n", clip.display(), video.frame_count(), key_frames(&video));
    println!("frame     time  key  md5       exact  bucket-streamer    ffmpeg -ss");
    let mut stills = Stills::new(&video)?;
    let (mut our_times, mut ffmpeg_times, mut wrong) = (Vec::new(), Vec::new(), 0);
    for &frame in &wanted {
        let name = format!("frame_{frame:05}.jpg");
        let still = stills.make(frame, &output.join(&name))?;
        let (ours, theirs) = (still.took, still_by_ffmpeg(ffmpeg, clip, still.time_s, &by_ffmpeg.join(&name))?);
        let is_right = still.md5 == expected[frame as usize];
        println!(
            "{frame:5} {:6.2} s  {:3}  {:8}  {:5}  {:>12} ms  {:>9} ms",
            still.time_s,
            if still.is_key { "key" } else { "" },
            &still.md5[..8],
            if is_right { "right" } else { "WRONG" },
            milliseconds(ours),
            milliseconds(theirs),
        );
        our_times.push(ours);
        ffmpeg_times.push(theirs);
        wrong += usize::from(!is_right);
    }
    println!("\n                    FPS         p50         p95     total");
    println!("bucket-streamer  {}", summary(&mut our_times));
    println!("ffmpeg -ss       {}", summary(&mut ffmpeg_times));
    println!("\nbucket-streamer opened the clip once, in {} ms; ffmpeg's times include that.", milliseconds(opened));

    let sheet = output.join("sheet.jpg");
    let mut frames = wanted;
    frames.sort_unstable();
    let paths = frames.iter().map(|frame| output.join(format!("frame_{frame:05}.jpg")));
    contact_sheet(ffmpeg, paths, &sheet)?;
    println!("stills: {} and {}", output.display(), by_ffmpeg.display());
    println!("contact sheet: {}", sheet.display());
    Ok(wrong)
}

/// Makes stills of one video.
struct Stills<'a> {
    video: &'a Video,
    jpeg: StillMaker,
    bytes: Vec<u8>,
}

struct Still {
    time_s: f64,
    is_key: bool,
    md5: String,
    took: Duration,
}

impl Stills<'_> {
    fn new(video: &Video) -> Result<Stills<'_>, Box<dyn Error>> {
        Ok(Stills { video, jpeg: StillMaker::new()?, bytes: Vec::new() })
    }

    fn make(&mut self, index: u32, path: &Path) -> Result<Still, Box<dyn Error>> {
        let started = Instant::now();
        let frame = self.video.frame(index)?;
        self.jpeg.encode(
            &frame.picture,
            &StillOptions { quality: QUALITY, ..StillOptions::for_video(self.video) },
            &mut self.bytes,
        )?;
        fs::write(path, &self.bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        let took = started.elapsed();
        Ok(Still {
            time_s: self.video.timeline().seconds(frame.pts),
            is_key: frame.key,
            md5: raw::hex(&raw::md5(&frame.picture)),
            took,
        })
    }
}

fn key_frames(video: &Video) -> usize {
    (0..video.frame_count() as u32).filter_map(|frame| video.sample_of(frame)).filter(|sample| sample.key).count()
}

/// The usual way to a single frame on the command line.
fn still_by_ffmpeg(ffmpeg: &Path, clip: &Path, time_s: f64, path: &Path) -> Result<Duration, Box<dyn Error>> {
    // Rounded down to ffmpeg's microseconds: rounded up it would miss the frame and show the next one.
    let time = format!("{:.6}", (time_s * 1e6).floor() / 1e6);
    let mut command = Command::new(ffmpeg);
    command.args(["-nostdin", "-v", "error", "-ss", &time, "-i"]).arg(clip);
    command.args(["-frames:v", "1", "-f", "image2", "-c:v", "mjpeg", "-q:v", "3", "-y"]).arg(path);
    let started = Instant::now();
    finish(command)?;
    Ok(started.elapsed())
}

/// MD5s of all frames, decoded from the first to the last.
fn sequential_md5s(ffmpeg: &Path, clip: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut command = Command::new(ffmpeg);
    command.args(["-nostdin", "-v", "error", "-noautorotate", "-i"]).arg(clip);
    command.args(["-map", "0:v:0", "-fps_mode", "passthrough", "-noautoscale", "-f", "framemd5", "-"]);
    let text = finish(command)?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Ok(lines.filter_map(|line| Some(line.rsplit(',').next()?.trim().to_owned())).collect())
}

/// Stills in rows, small, as one JPEG. `ffmpeg` gets them one behind the other through a pipe.
fn contact_sheet(ffmpeg: &Path, stills: impl Iterator<Item = PathBuf>, sheet: &Path) -> Result<(), Box<dyn Error>> {
    let layout = format!("scale=320:-2,tile={SHEET_COLUMNS}x{SHEET_ROWS}");
    let mut command = Command::new(ffmpeg);
    command.args(["-v", "error", "-f", "image2pipe", "-c:v", "mjpeg", "-i", "-", "-vf", &layout]);
    command.args(["-frames:v", "1", "-f", "image2", "-c:v", "mjpeg", "-q:v", "7", "-y"]).arg(sheet);
    let mut child = command.stdin(Stdio::piped()).spawn().map_err(|error| format!("{}: {error}", ffmpeg.display()))?;
    if let Some(mut pipe) = child.stdin.take() {
        for path in stills {
            pipe.write_all(&fs::read(path)?)?;
        }
    }
    if child.wait()?.success() { Ok(()) } else { Err("ffmpeg could not make the contact sheet".into()) }
}

/// Runs a command to its end, and returns what it printed.
fn finish(mut command: Command) -> Result<String, Box<dyn Error>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Frames per second, median, 95th percentile, sum.
fn summary(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let total: Duration = times.iter().sum();
    let percentile = |percent| milliseconds(nearest_rank(times, percent));
    format!(
        "{:6.1} {:>8} ms {:>8} ms  {:6.2} s",
        times.len() as f64 / total.as_secs_f64(),
        percentile(50),
        percentile(95),
        total.as_secs_f64(),
    )
}

/// The smallest of the sorted times that so many in a hundred are not longer than.
fn nearest_rank(times: &[Duration], percent: usize) -> Duration {
    let rank = (times.len() * percent).div_ceil(100);
    times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}
