//! The limits of a GPU's hardware decoders (NVDEC), and the engine's use of them. `bench/nvdec/run` measures with it.
//!
//! `cargo run --release -p bucket-streamer-bench --features harness --bin nvdec -- card|ceiling|random|sequential|exact|latency [CLIP]...`; `--help` says more.
//! Lines are words of the form `name=value`, except for `exact`, which prints rows of a Markdown table. Without a GPU
//! it says so and exits with 2; after a wrong frame, with 1.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its results")]

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bucket_streamer::still::raw;
use bucket_streamer::{DecodedFrame, Device, DeviceChoice, Engine, ErrorKind, Video, VideoFrame, process};
use clap::{Args, Parser, Subcommand};
use ffi::{AvError, DamageOptions, Decoder, DecoderOutput, Frame, Gpu, GpuError, Packet, PaddedBytes, SendStatus};

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Debug, Parser)]
struct NvdecArguments {
    #[command(subcommand)]
    what: NvdecCommand,
}

#[derive(Debug, Subcommand)]
enum NvdecCommand {
    /// Show the GPU and its driver
    Card,
    /// Run bare loops over all samples of the clips, a decoder each; only the last picture of each pass is downloaded
    Ceiling(Ceiling),
    /// Request random frames of all clips, one at a time
    Random(Random),
    /// Request all frames of a clip at once, for several clips at a time
    Sequential(Sequential),
    /// Compare frames decoded on the GPU with those of the CPU
    Exact(ExactArguments),
    /// Measure single random frames, with a new engine and with a warm one
    Latency(LatencyArguments),
}

#[derive(Debug, Args)]
struct Ceiling {
    /// Clips; loops take them in turn
    #[arg(required = true)]
    clips: Vec<PathBuf>,
    /// Number of concurrent loops
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8", value_parser = clap::value_parser!(u16).range(1..=64))]
    streams: Vec<u16>,
    /// Duration for each number of loops
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// GPU, counted from 0
    #[arg(long, default_value_t = 0)]
    gpu: u32,
}

#[derive(Debug, Args)]
struct Random {
    /// Clips; frames are drawn from all of them
    #[arg(required = true)]
    clips: Vec<PathBuf>,
    /// Number of frames
    #[arg(long, default_value_t = 200)]
    count: usize,
    /// Device for decoding: nvdec, nvdec:N, cpu, auto
    #[arg(long, default_value = "nvdec")]
    device: DeviceChoice,
    /// Number of concurrent callers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    callers: u16,
    /// Frames before the clock starts [default: two per caller, and one per clip]
    #[arg(long)]
    warm: Option<usize>,
    /// Leave the pictures in the GPU's memory
    #[arg(long)]
    stay: bool,
    /// Decode every frame from its random access point on, on the CPU too
    #[arg(long)]
    no_checkpoints: bool,
    /// Seed that selects the frames
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Args)]
struct Sequential {
    /// Clips; streams take them in turn
    #[arg(required = true)]
    clips: Vec<PathBuf>,
    /// Number of concurrent streams
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8", value_parser = clap::value_parser!(u16).range(1..=64))]
    streams: Vec<u16>,
    /// Duration for each number of streams
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Device for decoding: nvdec, nvdec:N, cpu, auto
    #[arg(long, default_value = "nvdec")]
    device: DeviceChoice,
    /// Leave the pictures in the GPU's memory
    #[arg(long)]
    stay: bool,
}

#[derive(Debug, Args)]
struct ExactArguments {
    /// Clips
    #[arg(required = true)]
    clips: Vec<PathBuf>,
    /// Random frames, one request each [default: all frames in one request]
    #[arg(long)]
    count: Option<usize>,
}

#[derive(Debug, Args)]
struct LatencyArguments {
    /// A clip
    clip: PathBuf,
    /// Number of frames
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    count: u16,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if (0.01..=600.0).contains(&seconds) { Ok(seconds) } else { Err("must be between 0.01 and 600 seconds".to_owned()) }
}

/// Without a GPU there is nothing to measure.
#[derive(Debug)]
struct NoGpu(String);

impl fmt::Display for NoGpu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "no GPU to decode on: {}", self.0)
    }
}

impl Error for NoGpu {}

fn main() -> ExitCode {
    match run(&NvdecArguments::parse().what) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(failure) => {
            eprintln!("nvdec: {failure}");
            ExitCode::from(if failure.is::<NoGpu>() { 2 } else { 1 })
        }
    }
}

/// False if a frame was wrong.
fn run(what: &NvdecCommand) -> Result<bool, Failure> {
    process::dedicate()?;
    match what {
        NvdecCommand::Card => card(),
        NvdecCommand::Ceiling(arguments) => ceiling(arguments),
        NvdecCommand::Random(arguments) => random(arguments),
        NvdecCommand::Sequential(arguments) => sequential(arguments),
        NvdecCommand::Exact(arguments) => exact(arguments),
        NvdecCommand::Latency(arguments) => latency(arguments),
    }
    .map(|()| true)
    .or_else(|failure| if failure.is::<WrongFrames>() { Ok(false) } else { Err(failure) })
}

/// Frames were wrong; the rows name them.
#[derive(Debug)]
struct WrongFrames;

impl fmt::Display for WrongFrames {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("frames are wrong")
    }
}

impl Error for WrongFrames {}

/// Opens the device. A missing GPU is a failure here, even if the engine would fall back to the CPU.
fn open_device(choice: DeviceChoice) -> Result<Device, Failure> {
    let device = Device::open(choice).map_err(|error| match error.kind() {
        ErrorKind::Device(why) => NoGpu(why.clone()),
        _ => NoGpu(error.to_string()),
    })?;
    match device.unavailable_reason() {
        Some(why) => Err(NoGpu(why.to_owned()).into()),
        None => Ok(device),
    }
}

fn engine_on(device: &Device) -> Engine {
    bucket_streamer_bench::engine().device(device.clone()).build()
}

/// The same without checkpoints: then the CPU decodes every frame from its random access point, as the GPU does.
fn forgetful_engine_on(device: &Device) -> Engine {
    bucket_streamer_bench::engine().device(device.clone()).checkpoint_memory(0).build()
}

fn name(clip: &Path) -> String {
    clip.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn card() -> Result<(), Failure> {
    let device = open_device(DeviceChoice::Nvdec(0))?;
    let info = device.info().ok_or_else(|| NoGpu("no device".to_owned()))?;
    let (major, minor) = info.driver;
    println!("cuda={major}.{minor} engines={} name={}", info.engines, info.name);
    Ok(())
}

/// The error of libavcodec, or of the GPU's driver behind it.
fn decode_failure(error: AvError) -> Failure {
    GpuError::last().map_or_else(|| error.into(), Into::into)
}

/// A decoder on the GPU with its packets: the least work of decoding them.
struct BareLoop<'a> {
    decoder: Decoder,
    packets: Vec<Packet>,
    video: &'a Video,
    pictures: u64,
    /// The last picture, in GPU memory.
    last: Option<Frame>,
}

/// Duration of a loop before it is timed: the hardware decoder is created only then.
const WARM: Duration = Duration::from_millis(200);

impl<'a> BareLoop<'a> {
    fn open(gpu: &Gpu, video: &'a Video) -> Result<BareLoop<'a>, Failure> {
        GpuError::forget();
        let track = video.track();
        let mut packets = Vec::new();
        for (index, sample) in (0..).zip(&track.samples) {
            // A copy, so that no page fault occurs while the clock runs.
            let bytes = PaddedBytes::copy_of(&[video.sample_bytes(index)?.data()]);
            let mut packet = Packet::new(&bytes, index, Some(i64::from(index)))?;
            packet.set_flags(sample.key, false);
            packets.push(packet);
        }
        let damage = DamageOptions {
            owner: 1,
            lenient: false,
            check_hashes: false,
            check_ends: false,
            max_pixels: bucket_streamer::DEFAULT_MAX_PIXELS,
        };
        let decoder = Decoder::open_on(&track.parameters, gpu, &damage)?;
        let mut bare = BareLoop { decoder, packets, video, pictures: 0, last: None };
        bare.pass(Instant::now() + WARM)?;
        if bare.pictures == 0 {
            return Err(format!("{}: nothing was decoded", video.source().name()).into());
        }
        bare.pictures = 0;
        Ok(bare)
    }

    fn take(&mut self) -> Result<(), Failure> {
        while let DecoderOutput::Picture(picture) = self.decoder.receive().map_err(decode_failure)? {
            self.pictures += 1;
            self.last = Some(picture);
        }
        Ok(())
    }

    /// Sends all packets, or as many as there is time for, and waits until they are decoded.
    fn pass(&mut self, until: Instant) -> Result<(), Failure> {
        for index in 0..self.packets.len() {
            if Instant::now() >= until {
                break;
            }
            while self.decoder.send(&self.packets[index]).map_err(decode_failure)? == SendStatus::Full {
                self.take()?;
            }
            self.take()?;
        }
        self.decoder.send_end().map_err(decode_failure)?;
        self.take()?;
        // One decoder decodes in order: when the last picture is ready, all are.
        if let Some(last) = self.last.take() {
            last.download(&self.video.track().parameters)?;
        }
        self.decoder.flush();
        Ok(())
    }

    /// Runs passes until then; returns the number of pictures.
    fn passes(&mut self, until: Instant) -> Result<u64, Failure> {
        while Instant::now() < until {
            self.pass(until)?;
        }
        Ok(self.pictures)
    }
}

fn ceiling(arguments: &Ceiling) -> Result<(), Failure> {
    let gpu = Gpu::open(arguments.gpu).map_err(|error| NoGpu(error.to_string()))?;
    let engine = bucket_streamer_bench::engine().threads(1).build();
    let videos = open_all(&engine, &arguments.clips)?;
    for &streams in &arguments.streams {
        let (pictures, took) = loops(&gpu, &videos, usize::from(streams), arguments.seconds)?;
        let rate = pictures as f64 / took;
        println!("streams={streams} pictures={pictures} seconds={took:.3} per_second={rate:.1}");
    }
    Ok(())
}

/// Pictures of this many concurrent loops, and the seconds until the last loop ended.
fn loops(gpu: &Gpu, videos: &[Video], streams: usize, seconds: f64) -> Result<(u64, f64), Failure> {
    let taken = videos.iter().cycle().take(streams);
    let bares: Vec<BareLoop<'_>> = taken.map(|video| BareLoop::open(gpu, video)).collect::<Result<_, _>>()?;
    let started = Instant::now();
    let until = started + Duration::from_secs_f64(seconds);
    let pictures = at_once(bares, |mut bare| bare.passes(until))?;
    Ok((pictures.iter().sum(), started.elapsed().as_secs_f64()))
}

/// Runs a function for each item, each in a thread of its own.
fn at_once<I: Send, T: Send>(
    items: impl IntoIterator<Item = I>,
    run: impl Fn(I) -> Result<T, Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = items.into_iter().map(|item| scope.spawn(move || run(item))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked")?).collect()
    })
}

fn open_all(engine: &Engine, clips: &[PathBuf]) -> Result<Vec<Video>, Failure> {
    clips.iter().map(|clip| engine.open_path(clip).map_err(Into::into)).collect()
}

/// One frame, as a request of its own.
fn one(video: &Video, frame: u32, stays: bool) -> Result<DecodedFrame, Failure> {
    if !stays {
        return Ok(DecodedFrame::Host(video.frame(frame)?));
    }
    let (_, frame) = video.frames_on_device(&[frame]).next().ok_or("no frame")?;
    Ok(DecodedFrame::Device(frame?))
}

/// `count` frames of all videos in random order; after all frames the order begins anew.
fn shuffled(videos: &[Video], count: usize, seed: u64) -> Vec<(usize, u32)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let frames = |(video, of): (usize, &Video)| (0..of.frame_count() as u32).map(move |frame| (video, frame));
    let all: Vec<(usize, u32)> = videos.iter().enumerate().flat_map(frames).collect();
    let mut list = Vec::new();
    while list.len() < count && !all.is_empty() {
        let mut again = all.clone();
        random.shuffle(&mut again);
        list.extend(again);
    }
    list.truncate(count);
    list
}

/// Callers that take the next frame of a list each; returns the milliseconds of each frame.
fn ask(videos: &[Video], list: &[(usize, u32)], callers: u16, stays: bool) -> Result<Vec<f64>, Failure> {
    let next = AtomicUsize::new(0);
    let caller = |_| {
        let mut times = Vec::new();
        while let Some(&(video, frame)) = list.get(next.fetch_add(1, Relaxed)) {
            times.push(timed(|| one(&videos[video], frame, stays))?);
        }
        Ok(times)
    };
    Ok(at_once(0..callers, caller)?.concat())
}

/// The duration in milliseconds.
fn timed(run: impl FnOnce() -> Result<DecodedFrame, Failure>) -> Result<f64, Failure> {
    let started = Instant::now();
    run()?;
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

/// The value that this percentage of values does not exceed.
fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

fn random(arguments: &Random) -> Result<(), Failure> {
    let device = open_device(arguments.device)?;
    let engine = if arguments.no_checkpoints { forgetful_engine_on(&device) } else { engine_on(&device) };
    let videos = open_all(&engine, &arguments.clips)?;
    let warm = arguments.warm.unwrap_or(2 * usize::from(arguments.callers) + videos.len());
    ask(&videos, &shuffled(&videos, warm, !arguments.seed), arguments.callers, arguments.stay)?;
    let (before, started) = (engine.work(), Instant::now());
    let list = shuffled(&videos, arguments.count, arguments.seed);
    let times = ask(&videos, &list, arguments.callers, arguments.stay)?;
    let (took, after, frames) = (started.elapsed().as_secs_f64(), engine.work(), times.len() as f64);
    let decoded = after.decoded_pictures - before.decoded_pictures;
    print!("frames={} seconds={took:.3} per_second={:.1} ", times.len(), frames / took);
    print!("pictures_per_frame={:.2} ", decoded as f64 / frames);
    print!("on_card={} ", after.device_frames - before.device_frames);
    println!("p50_ms={:.2} p95_ms={:.2}", percentile(&times, 50), percentile(&times, 95));
    say_notes(&engine);
    Ok(())
}

fn say_notes(engine: &Engine) {
    engine.device_notes().iter().for_each(|note| eprintln!("nvdec: {note}"));
}

fn sequential(arguments: &Sequential) -> Result<(), Failure> {
    let device = open_device(arguments.device)?;
    for &streams in &arguments.streams {
        // With checkpoints, a short clip that plays over and over on the CPU would need no decoding after a while.
        let engine = forgetful_engine_on(&device);
        // Each stream opens a video of its own, so that no stream uses the references that another one has learned.
        let clips: Vec<PathBuf> = arguments.clips.iter().cycle().take(streams.into()).cloned().collect();
        let videos = open_all(&engine, &clips)?;
        at_once(&videos, |video| one(video, 0, arguments.stay))?;
        let (before, started) = (engine.work(), Instant::now());
        let until = started + Duration::from_secs_f64(arguments.seconds);
        let frames: u64 = at_once(&videos, |video| all_frames(video, until, arguments.stay))?.iter().sum();
        let took = started.elapsed().as_secs_f64();
        let on_card = engine.work().device_frames - before.device_frames;
        let rate = frames as f64 / took;
        println!("streams={streams} frames={frames} seconds={took:.3} per_second={rate:.1} on_card={on_card}");
        say_notes(&engine);
    }
    Ok(())
}

/// Plays all frames over and over, each time in one request, until then; returns the number of frames.
fn all_frames(video: &Video, until: Instant, stays: bool) -> Result<u64, Failure> {
    let all: Vec<u32> = (0..video.frame_count() as u32).collect();
    let mut count = 0;
    while Instant::now() < until {
        let frames: Box<dyn Iterator<Item = bucket_streamer::Result<()>>> = match stays {
            true => Box::new(video.frames_on_device(&all).map(|(_, frame)| frame.map(drop))),
            false => Box::new(video.frames(&all).map(|(_, frame)| frame.map(drop))),
        };
        for frame in frames {
            // Later frames do not count, and dropping the iterator cancels their decoding.
            if Instant::now() >= until {
                return Ok(count);
            }
            frame?;
            count += 1;
        }
    }
    Ok(count)
}

fn exact(arguments: &ExactArguments) -> Result<(), Failure> {
    let device = open_device(DeviceChoice::Nvdec(0))?;
    println!("| clip | codec | pixel format | size | frames | on the card | wrong | notes |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut wrong = 0;
    for clip in &arguments.clips {
        match compare(&device, clip, arguments.count) {
            Ok((row, differ)) => {
                println!("{row}");
                wrong += differ;
            }
            Err(failure) => {
                let why = failure.to_string().replace(&format!("{}: ", clip.display()), "");
                println!("| {} | | | | | | | {} |", cell(&name(clip)), cell(&why));
            }
        }
    }
    if wrong > 0 { Err(WrongFrames.into()) } else { Ok(()) }
}

/// Text that does not end a cell of a table.
fn cell(text: &str) -> String {
    text.replace(['|', '\n'], "/")
}

/// The MD5 of a frame's planes; `None` where the frame failed.
type FrameSums = HashMap<u32, Option<[u8; 16]>>;

/// The row of a clip, and the number of frames that differ.
fn compare(device: &Device, clip: &Path, count: Option<usize>) -> Result<(String, usize), Failure> {
    let (card, processor) = (engine_on(device), bucket_streamer_bench::engine().build());
    let (there, here) = (card.open_path(clip)?, processor.open_path(clip)?);
    let all = here.frame_count();
    let requests: Vec<Vec<u32>> = match count {
        Some(count) => {
            let some = shuffled(std::slice::from_ref(&here), count.min(all), 1);
            some.iter().map(|&(_, frame)| vec![frame]).collect()
        }
        None => vec![(0..all as u32).collect()],
    };
    let (found, expected) = (sums(&there, &requests), sums(&here, &requests));
    let on_card = card.work().device_frames;
    let mut wrong: Vec<u32> =
        expected.keys().copied().filter(|frame| found.get(frame) != expected.get(frame)).collect();
    wrong.sort_unstable();
    let described = here.describe()?;
    let (format, (width, height)) = (described.format.map_or("", |format| format.name()), described.size);
    let (codec, frames) = (here.track().parameters.codec_name(), expected.len());
    let notes = notes_of(&card, &there, &wrong);
    let (clip, differ) = (cell(&name(clip)), wrong.len());
    let row = format!("| {clip} | {codec} | {format} | {width}x{height} | {frames} | {on_card} | {differ} | {notes} |");
    Ok((row, differ))
}

/// The engine's notes, and the first wrong frames.
fn notes_of(card: &Engine, video: &Video, wrong: &[u32]) -> String {
    let source = format!("{}: ", video.source().name());
    let mut notes: Vec<String> = card.device_notes().iter().map(|note| note.replace(&source, "")).collect();
    if !wrong.is_empty() {
        let first: Vec<String> = wrong.iter().take(5).map(u32::to_string).collect();
        notes.push(format!("wrong: {}", first.join(", ")));
    }
    cell(&notes.join("; "))
}

/// The sums of requests, one after the other. The decoding threads compute them: there are many.
fn sums(video: &Video, requests: &[Vec<u32>]) -> FrameSums {
    let sum = |_, frame: bucket_streamer::Result<VideoFrame>| frame.ok().map(|frame| raw::md5(&frame.picture));
    requests.iter().flat_map(|frames| video.frames_with(frames, sum)).collect()
}

/// The device that decodes a frame, and whether the frame stays there.
const PLACES: [(&str, DeviceChoice, bool); 3] = [
    ("cpu", DeviceChoice::Cpu, false),
    ("nvdec", DeviceChoice::Nvdec(0), false),
    ("stay", DeviceChoice::Nvdec(0), true),
];

fn latency(arguments: &LatencyArguments) -> Result<(), Failure> {
    // While this device is open, others share its context, so that opening them takes almost no time.
    let kept = open_device(DeviceChoice::Nvdec(0))?;
    for (place, choice, stays) in PLACES {
        let is_on_card = choice != DeviceChoice::Cpu;
        let device = if is_on_card { kept.clone() } else { Device::default() };
        if is_on_card {
            // The engine has hardware decoders of its own: the first frame waits for one.
            report(place, WarmUp::First, arguments, stays, || Ok(engine_on(&open_device(choice)?)))?;
        }
        report(place, WarmUp::Cold, arguments, stays, || Ok(engine_on(&device)))?;
        let engine = engine_on(&device);
        report(place, WarmUp::Warm, arguments, stays, || Ok(engine.clone()))?;
    }
    Ok(())
}

/// What is already open when a frame is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WarmUp {
    /// Nothing, not even the device.
    First,
    /// The card.
    Cold,
    /// The card, and a decoder.
    Warm,
}

impl WarmUp {
    fn name(self) -> &'static str {
        match self {
            WarmUp::First => "first",
            WarmUp::Cold => "cold",
            WarmUp::Warm => "warm",
        }
    }
}

/// Times random frames, each with an engine that `engine` returns; the engine and the clip are opened before the clock
/// starts.
fn report(
    place: &str,
    warm_up: WarmUp,
    arguments: &LatencyArguments,
    stays: bool,
    engine: impl Fn() -> Result<Engine, Failure>,
) -> Result<(), Failure> {
    let kept = engine()?.open_path(&arguments.clip)?;
    let list = shuffled(std::slice::from_ref(&kept), usize::from(arguments.count), 1);
    let mut times = Vec::new();
    if warm_up == WarmUp::Warm {
        one(&kept, 0, stays)?;
    }
    for (_, frame) in list {
        let video = if warm_up == WarmUp::Warm { kept.clone() } else { engine()?.open_path(&arguments.clip)? };
        times.push(timed(|| one(&video, frame, stays))?);
    }
    let (p50, least, greatest) = (percentile(&times, 50), percentile(&times, 0), percentile(&times, 100));
    println!("place={place} state={} p50_ms={p50:.2} least_ms={least:.2} greatest_ms={greatest:.2}", warm_up.name());
    Ok(())
}
