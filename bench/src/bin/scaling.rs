//! Time and quality of scaling, compared with swscale's bicubic filter.
//!
//! `cargo run --release -p bucket-streamer-bench --features harness --bin scaling -- FFMPEG [CLIP]` takes a frame of a
//! clip (8-bit 4:2:0), scales its planes to 640 columns here and with `ffmpeg -vf scale=flags=bicubic`, and compares
//! both with Lanczos3 in floating point. Times are processor times, medians of rounds in turn with the least and the
//! most; ffmpeg's is the additional time of a run of many pictures with the filter.
#![allow(clippy::print_stdout, reason = "this is a program")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use bucket_streamer::pixels::matrix::{ColourRange, Matrix, YcbcrView};
use bucket_streamer::pixels::planes::{JfifPlanes, Plane, PlaneView};
use bucket_streamer::pixels::scale::Scaler;
use bucket_streamer::pixels::siting::Siting;
use bucket_streamer::pixels::{Fit, Shape};
use bucket_streamer::still::raw;
use bucket_streamer::{Frame, process};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// Columns of the still.
const WIDTH: u32 = 640;
/// Number of rounds, and of the pictures of each.
const ROUNDS: usize = 5;
const PICTURES: u32 = 300;

fn main() -> Result<(), Box<dyn Error>> {
    process::dedicate()?;
    let mut arguments = std::env::args().skip(1);
    let ffmpeg = arguments.next().ok_or("usage: scaling FFMPEG [CLIP]")?;
    let clip = arguments.next().unwrap_or_else(|| "fixtures/hevc_demo.mp4".to_owned());
    let video = bucket_streamer_bench::engine().build().open_path(&clip)?;
    let frame = video.frame(video.frame_count() as u32 / 2)?;
    let picture = &frame.picture;
    if picture.format().name() != "yuv420p" {
        return Err(format!("{clip} is {}, not yuv420p", picture.format().name()).into());
    }
    let source = planes(picture)?;
    let shape = Shape { width: Some(WIDTH), height: None, fit: Fit::Contain };
    let (mut scaler, mut ours) = (Scaler::new(), JfifPlanes::default());
    scaler.scale(&source, &shape, &mut ours)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("frame.yuv");
    std::fs::write(&file, raw::write(picture))?;
    let swscale = Swscale::new(ffmpeg, &file, &source, &ours);
    let theirs = swscale.planes(&ours)?;
    let (mut our_times, mut their_times) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        let started = cpu(UsageWho::RUSAGE_SELF)?;
        for _ in 0..PICTURES {
            scaler.scale(&source, &shape, &mut ours)?;
        }
        our_times.push((cpu(UsageWho::RUSAGE_SELF)? - started) / f64::from(PICTURES));
        their_times.push(swscale.time()?);
    }
    println!("{clip}: {}x{} to {}x{}", source.width, source.height, ours.width, ours.height);
    println!("                 time                       PSNR against Lanczos3: Y, Cb, Cr");
    let exact: Vec<Vec<f64>> = source.planes.iter().zip(&ours.planes).map(|(from, to)| lanczos(from, to)).collect();
    for (name, times, planes) in
        [("this", &mut our_times, samples(&ours)), ("swscale bicubic", &mut their_times, theirs)]
    {
        let each: Vec<String> = planes.iter().zip(&exact).map(|(a, b)| format!("{:.2}", psnr(a, b))).collect();
        times.sort_by(f64::total_cmp);
        let [least, median, most] = [0, ROUNDS / 2, ROUNDS - 1].map(|index| times[index] * 1000.0);
        println!("{name:16} {median:6.3} ms ({least:.3} to {most:.3})  {} dB", each.join(", "));
    }
    println!("ratio of the medians: {:.2}", our_times[ROUNDS / 2] / their_times[ROUNDS / 2]);
    Ok(())
}

/// Processor time in seconds.
fn cpu(usage_of: UsageWho) -> nix::Result<f64> {
    let usage = getrusage(usage_of)?;
    Ok((usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6)
}

/// Samples of planes, row after row.
type Planes = Vec<Vec<u8>>;

/// The planes without conversion.
fn planes(picture: &Frame) -> Result<JfifPlanes, Box<dyn Error>> {
    let views: Vec<PlaneView<'_>> = (0..picture.planes())
        .filter_map(|plane| picture.plane(plane))
        .map(|plane| PlaneView { data: plane.data, stride: plane.stride, width: plane.columns, height: plane.rows })
        .collect();
    let (matrix, range, siting) = (Matrix::Bt601, ColourRange::Full, Siting::LEFT);
    let mut out = JfifPlanes::default();
    out.convert(&YcbcrView { planes: &views, depth: 8, log2_chroma_w: 1, log2_chroma_h: 1, matrix, range, siting })?;
    Ok(out)
}

fn samples(planes: &JfifPlanes) -> Planes {
    planes.planes.iter().map(|plane| (0..plane.height).flat_map(|y| plane.row(y).to_vec()).collect()).collect()
}

/// Scaling by ffmpeg.
struct Swscale<'a> {
    ffmpeg: String,
    file: &'a Path,
    size: String,
    filter: String,
}

impl<'a> Swscale<'a> {
    fn new(ffmpeg: String, file: &'a Path, source: &JfifPlanes, like: &JfifPlanes) -> Swscale<'a> {
        let size = format!("{}x{}", source.width, source.height);
        let filter = format!("scale={}:{}:flags=bicubic", like.width, like.height);
        Swscale { ffmpeg, file, size, filter }
    }

    /// The scaled planes, in the sizes of `like`.
    fn planes(&self, like: &JfifPlanes) -> Result<Planes, Box<dyn Error>> {
        let output: PathBuf = self.file.with_extension("out");
        self.run(&self.filter, 1, &["-f", "rawvideo", &output.to_string_lossy()])?;
        let bytes = std::fs::read(&output)?;
        let mut rest = bytes.as_slice();
        let mut planes = Vec::new();
        for plane in &like.planes {
            let (plane, after) = rest.split_at(plane.width * plane.height);
            planes.push(plane.to_vec());
            rest = after;
        }
        Ok(planes)
    }

    /// The time of one picture in seconds.
    fn time(&self) -> Result<f64, Box<dyn Error>> {
        let nowhere = ["-f", "null", "-"];
        let time = self.run(&self.filter, PICTURES, &nowhere)? - self.run("null", PICTURES, &nowhere)?;
        Ok(time / f64::from(PICTURES))
    }

    /// Processor time in seconds.
    fn run(&self, filter: &str, frames: u32, to: &[&str]) -> Result<f64, Box<dyn Error>> {
        let mut command = Command::new(&self.ffmpeg);
        command.args(["-v", "error", "-y", "-filter_threads", "1", "-stream_loop", &(frames - 1).to_string()]);
        command.args(["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", &self.size, "-i"]).arg(self.file);
        command.args(["-vf", filter, "-frames:v", &frames.to_string()]).args(to);
        let started = cpu(UsageWho::RUSAGE_CHILDREN)?;
        if !command.status()?.success() {
            return Err("ffmpeg failed".into());
        }
        Ok(cpu(UsageWho::RUSAGE_CHILDREN)? - started)
    }
}

/// `from` at the size of `to`, by Lanczos3 in floating point, with a stretched kernel for shrinking.
fn lanczos(from: &Plane, to: &Plane) -> Vec<f64> {
    let across = weights(from.width, to.width);
    let down = weights(from.height, to.height);
    let row = |y: usize| -> Vec<f64> {
        let row = from.row(y);
        across.iter().map(|taps| taps.iter().map(|&(at, weight)| f64::from(row[at]) * weight).sum()).collect()
    };
    let rows: Vec<Vec<f64>> = (0..from.height).map(row).collect();
    let sample = |x: usize, taps: &[(usize, f64)]| taps.iter().map(|&(at, weight)| rows[at][x] * weight).sum::<f64>();
    down.iter().flat_map(|taps| (0..to.width).map(|x| sample(x, taps).clamp(0.0, 255.0)).collect::<Vec<_>>()).collect()
}

/// The input samples of each output sample, with their weights.
fn weights(from: usize, to: usize) -> Vec<Vec<(usize, f64)>> {
    let step = from as f64 / to as f64;
    let stretch = step.max(1.0);
    let kernel = |x: f64| {
        let sinc =
            |x: f64| if x.abs() < 1e-9 { 1.0 } else { (std::f64::consts::PI * x).sin() / (std::f64::consts::PI * x) };
        if x.abs() < 3.0 { sinc(x) * sinc(x / 3.0) } else { 0.0 }
    };
    let of = |index: usize| {
        let centre = (index as f64 + 0.5) * step - 0.5;
        let (first, last) = ((centre - 3.0 * stretch).ceil().max(0.0), (centre + 3.0 * stretch).floor());
        let places = first as usize..=(last as usize).min(from - 1);
        let taps: Vec<_> = places.map(|at| (at, kernel((at as f64 - centre) / stretch))).collect();
        let sum: f64 = taps.iter().map(|(_, weight)| weight).sum();
        taps.into_iter().map(|(at, weight)| (at, weight / sum)).collect()
    };
    (0..to).map(of).collect()
}

fn psnr(found: &[u8], exact: &[f64]) -> f64 {
    let squares: f64 = found.iter().zip(exact).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    10.0 * (255.0 * 255.0 / (squares / found.len() as f64)).log10()
}
