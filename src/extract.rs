//! `extract`: frames to stills, planes or MD5 sums.
//!
//! Frames that are spread over many GOPs are made into output by the threads that decode them. Else one thread takes what
//! is decoded, and others make output of it. A last one puts it in the order that was asked for. Queues between them are
//! short: whoever is slowest sets the pace.

use std::collections::{HashMap, HashSet};
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bucket_streamer::pixels::{ColourOptions, Part, Shape, colour};
use bucket_streamer::quantities::{MemorySize, frame_list};
use bucket_streamer::still::{StillFormat, StillOptions};
use bucket_streamer::time;
use bucket_streamer::{EngineBuilder, Error, ErrorKind, LeftOut, OnDamage, Result, Video, VideoFrame};
use clap::{ArgGroup, Args};
use indicatif::{ProgressBar, ProgressStyle};

use crate::console::{Outcome, say};
use crate::in_flight::{Held, InFlight};
use crate::opening::{self, open};
use crate::options::{Decoding, DeviceOption, FitArgument, Format, Location, Quality, Which};
use crate::output::{Destination, Line, Maker, Record};
use crate::wanted::{Request, Wanted};

/// Bytes of decoded pictures that may wait to be written to standard output in their order.
const REORDER_BYTES: usize = 64 << 20;
/// GOPs for each thread from which on a thread need not leave any work of its own to others.
const GOPS_A_THREAD: usize = 2;

#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("which").required(true).args(["frames", "times", "every", "count", "keyframes", "all"])),
    after_help = EXTRACT_EXAMPLES
)]
pub(crate) struct ExtractArguments {
    #[command(flatten)]
    pub(crate) location: Location,
    /// Frames by number, counted from 0; ranges are inclusive
    #[arg(long, value_name = "0,10,20-30")]
    pub(crate) frames: Option<String>,
    /// Frames on show at these times; time 0 is the first frame
    #[arg(long, value_name = "1.5,0:02.25")]
    pub(crate) times: Option<String>,
    /// A frame every so often, from time 0 on
    #[arg(long, value_name = "1s")]
    pub(crate) every: Option<String>,
    /// So many frames, evenly spread
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) count: Option<u32>,
    /// Every sync sample
    #[arg(long)]
    pub(crate) keyframes: bool,
    /// Every frame, as a sequential decode gives them
    #[arg(long)]
    pub(crate) all: bool,
    /// With --times: the last frame for times past the end, instead of an error
    #[arg(long, requires = "times")]
    pub(crate) clamp: bool,
    /// Folder for the stills; `-` writes their bytes to standard output
    #[arg(short, long, value_name = "DIR", default_value = "frames")]
    pub(crate) output: String,
    /// What to make of a frame
    #[arg(short, long, value_enum, default_value_t = Format::Jpeg)]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) quality: Quality,
    /// Only a part of the picture as it is shown: turned, with square pixels, before scaling
    #[arg(long, value_name = "WxH+X+Y")]
    pub(crate) crop: Option<Part>,
    /// Width of the still in pixels, when turned
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65535))]
    pub(crate) width: Option<u32>,
    /// Height of the still in pixels, when turned
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65535))]
    pub(crate) height: Option<u32>,
    /// With both --width and --height: how the picture is fitted in
    #[arg(long, value_enum, default_value_t = FitArgument::Contain)]
    pub(crate) fit: FitArgument,
    /// HDR and wide gamut stay as they are, instead of being brought to SDR and BT.709
    #[arg(long)]
    pub(crate) no_tonemap: bool,
    /// One JSON line per frame on standard output
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) which: Which,
    /// What to do with frames that are known to be damaged: give them out flagged, or fail
    #[arg(long, value_name = "flag|error", default_value_t)]
    pub(crate) on_damage: OnDamage,
    #[command(flatten)]
    pub(crate) decoding: Decoding,
    /// Threads for decoding, and as many for encoding [default: as libavcodec chooses, and one for each processor that the
    /// process is given]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) threads: Option<u16>,
    /// Memory for checkpoints of decoders: 512M, 2G; 0 for none [default: a 16th of the memory that the process
    /// is given]
    #[arg(long, value_name = "SIZE")]
    pub(crate) checkpoint_memory: Option<MemorySize>,
    #[command(flatten)]
    pub(crate) device: DeviceOption,
    /// JPEGs of what a GPU decodes are made there too (nvJPEG), if the whole picture is wanted in its own size: not the same
    /// bytes as on the CPU
    #[arg(long)]
    pub(crate) gpu_jpeg: bool,
}

const EXTRACT_EXAMPLES: &str = "\
Examples:
  bucket-streamer extract cam.mp4 --frames 0,10,20-30
  bucket-streamer extract cam.mp4 --times 1.5,0:02.25 --output stills --quality 95
  bucket-streamer extract cam.mp4 --every 10s --width 320 --json
  bucket-streamer extract cam.mp4 --frames 120 --output - > frame.jpg
  bucket-streamer extract cam.mp4 --frames 120 --format png --crop 640x480+100+50
  bucket-streamer extract cam.mp4 --all --format framemd5

Stills are shown as players show them: turned as the container says, with square pixels, and of an
interlaced picture one instant. raw and framemd5 are untouched by all this.

framemd5 goes to standard output, one line a frame: stream, dts, pts, duration, size, md5 of the
cropped planes in the stream's own pixel format. raw is those planes.";

pub(crate) fn run(arguments: &ExtractArguments) -> Outcome {
    let to_stdout = arguments.output == "-";
    if arguments.json && to_stdout && arguments.format != Format::Framemd5 {
        say("bucket-streamer: --json and --output - both want standard output");
        return Outcome::Usage;
    }
    let wanted = match wanted(arguments) {
        Ok(wanted) => wanted,
        Err(why) => {
            say(&format!("bucket-streamer: {why}"));
            return Outcome::Usage;
        }
    };
    let engine = match opening::engine(builder(arguments), arguments.device.device) {
        Ok(engine) => engine,
        Err(outcome) => return outcome,
    };
    let video = match open(&engine, &arguments.location.video, arguments.which.opening()) {
        Ok(video) => video,
        Err(outcome) => return outcome,
    };
    let destination = match destination(arguments) {
        Ok(destination) => destination,
        Err(error) => {
            say(&format!("bucket-streamer: {error}"));
            return Outcome::SomeFailed;
        }
    };
    let (threads, picture_memory, started) = (engine.threads(), engine.picture_memory(), Instant::now());
    let run = Run { arguments, video: &video, destination: &destination, threads, picture_memory, started };
    let outcome = run.all(&wanted);
    opening::tell_of_device(&engine);
    outcome
}

/// The frames that the command line asks for.
fn wanted(arguments: &ExtractArguments) -> std::result::Result<Wanted, String> {
    if let Some(list) = &arguments.frames {
        return frame_list(list).map(Wanted::Frames);
    }
    if let Some(list) = &arguments.times {
        let times: std::result::Result<_, _> = list.split(',').map(|part| time::parse(part.trim())).collect();
        return times.map(Wanted::Times);
    }
    if let Some(step) = &arguments.every {
        let step = time::parse(step)?;
        return if step.0 > 0 { Ok(Wanted::Every(step)) } else { Err("--every wants a time above 0".into()) };
    }
    Ok(match arguments.count {
        Some(count) => Wanted::Count(count),
        None if arguments.keyframes => Wanted::KeyFrames,
        None => Wanted::All,
    })
}

/// With `--all` frames are refused in [`Run::play`], so that the message can name them.
fn builder(arguments: &ExtractArguments) -> EngineBuilder {
    let on_damage = if arguments.all { OnDamage::Flag } else { arguments.on_damage };
    opening::builder(arguments.threads, arguments.checkpoint_memory, arguments.decoding.limits)
        .on_damage(on_damage)
        .check_hashes(arguments.decoding.check_hashes)
}

fn destination(arguments: &ExtractArguments) -> Result<Destination> {
    if arguments.output == "-" || arguments.format == Format::Framemd5 {
        return Ok(Destination::StandardOutput);
    }
    let folder = PathBuf::from(&arguments.output);
    let path = arguments.output.clone();
    std::fs::create_dir_all(&folder).map_err(|error| ErrorKind::Write { path, error })?;
    Ok(Destination::Folder(folder))
}

struct Run<'a> {
    arguments: &'a ExtractArguments,
    video: &'a Video,
    destination: &'a Destination,
    threads: usize,
    picture_memory: u64,
    started: Instant,
}

/// A frame on its way to a worker; `key` says where in the order it belongs.
type Decoded<'a> = (u32, VideoFrame, Held<'a>);
/// What a worker made of it.
type Made = (u32, u32, Result<Record>);

/// What all the threads of a run share.
#[derive(Default)]
struct Shared {
    /// Something failed for good: stop decoding.
    stop: AtomicBool,
    hdr: AtomicBool,
}

impl Shared {
    fn make(&self, maker: &mut Maker, frame: &VideoFrame) -> Result<Record> {
        if colour::is_hdr_picture(&frame.picture) {
            self.hdr.store(true, Ordering::Relaxed);
        }
        let record = maker.make(frame);
        if is_write_error(&record) {
            // A full disk does not get better by going on.
            self.stop.store(true, Ordering::Relaxed);
        }
        record
    }
}

fn is_write_error(record: &Result<Record>) -> bool {
    matches!(record.as_ref().map_err(Error::kind), Err(ErrorKind::Write { .. }))
}

/// Makers for threads that are not ours: each takes one for a frame, and puts it back. The first never leaves: the others
/// are made after it.
struct Makers {
    idle: Mutex<Vec<Maker>>,
}

impl Makers {
    fn new(first: Maker) -> Makers {
        Makers { idle: Mutex::new(vec![first]) }
    }

    fn make(&self, frame: Result<VideoFrame>, shared: &Shared) -> Result<Record> {
        let idle = || self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut maker = {
            let mut idle = idle();
            let last = if idle.len() > 1 { idle.pop() } else { None };
            last.unwrap_or_else(|| idle[0].another())
        };
        let record = frame.and_then(|frame| shared.make(&mut maker, &frame));
        idle().push(maker);
        record
    }
}

impl Run<'_> {
    fn all(&self, wanted: &Wanted) -> Outcome {
        let requests = wanted.requests(self.video, self.arguments.clamp);
        if let Some((index, place)) = self.overwritten(&requests) {
            let place = place.display();
            say(&format!("bucket-streamer: {place} is what is read: frame {index} would take its place"));
            return Outcome::Usage;
        }
        let bar = self.progress_bar(requests.len());
        let mut tally = Tally { bar, ..Tally::default() };
        if *wanted == Wanted::All {
            return self.play(tally);
        }
        for window in requests.chunks(self.window(requests.len())) {
            if self.arguments.gpu_jpeg || self.is_spread(window) {
                self.made_where_decoded(window, &mut tally);
            } else {
                let result = self.piped(Order::Asked(window), &mut tally, |frames| self.feed_frames(window, frames));
                if let Err(error) = result {
                    say(&format!("bucket-streamer: {error}"));
                    return Outcome::Unreadable;
                }
            }
            if tally.broken {
                break;
            }
        }
        self.finish(&tally)
    }

    /// The first output that would take the place of an input.
    fn overwritten(&self, requests: &[Request]) -> Option<(u32, PathBuf)> {
        let indices: Vec<u32> = requests.iter().flatten().copied().collect();
        let inputs = [Some(self.arguments.location.video.as_str()), self.arguments.which.index.as_deref()];
        let inputs: Vec<&str> = inputs.into_iter().flatten().collect();
        self.destination.overwritten(&indices, self.arguments.format, &inputs)
    }

    fn play(&self, mut tally: Tally) -> Outcome {
        let mut refused = Vec::new();
        let left_out = self.piped(Order::AsTheyCome, &mut tally, |feed| {
            let mut key = 0;
            self.video.play(&mut |frame| {
                let index = frame.index;
                let Ok(frame) = frame.unless_refused(self.arguments.on_damage) else {
                    refused.push(index);
                    return ControlFlow::Continue(());
                };
                key += 1;
                feed.frame(key - 1, frame)
            })
        });
        let left_out = match left_out {
            Ok(left_out) => left_out,
            Err(error) => {
                say(&format!("bucket-streamer: {error}"));
                return if error.is_unreadable_video() { Outcome::Unreadable } else { Outcome::SomeFailed };
            }
        };
        if !tally.broken {
            refused.sort_unstable();
            self.tell_left_out(&refused, "which are damaged or refer to damaged ones");
            self.tell_left_out(&left_out.frames, &reason(&left_out));
            tally.failed += refused.len();
            tally.failed += if left_out.is_damaged() { left_out.frames.len() } else { 0 };
        }
        self.finish(&tally)
    }

    fn tell_left_out(&self, frames: &[u32], why: &str) {
        if !frames.is_empty() {
            let (name, count, list) = (self.video.source().name(), frames.len(), ranges(frames));
            let all = self.video.frame_count();
            say(&format!("bucket-streamer: {name}: left out {count} of {all} frames, {why}: {list}"));
        }
    }

    /// How many requests are in work at once. Only bytes for standard output have to wait for their turn in memory.
    fn window(&self, requests: usize) -> usize {
        let held = *self.destination == Destination::StandardOutput && self.arguments.format != Format::Framemd5;
        let (width, height) = self.video.track().parameters.size();
        let size = (width * height * 3).max(1 << 16);
        if held { (REORDER_BYTES / size).max(1) } else { requests.max(1) }
    }

    fn feed_frames(&self, window: &[Request], feed: &Feed<'_>) -> Result<()> {
        let indices: Vec<u32> = window.iter().filter_map(|request| request.as_ref().ok().copied()).collect();
        for (index, frame) in self.video.frames(&indices) {
            let flow = match frame {
                Ok(frame) => feed.frame(index, frame),
                Err(error) => feed.error(index, error),
            };
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Are there enough GOPs among the frames to keep all threads decoding?
    fn is_spread(&self, window: &[Request]) -> bool {
        let keys = self.video.key_indices();
        let gops: HashSet<usize> =
            window.iter().flatten().map(|index| keys.partition_point(|key| key <= index)).collect();
        self.threads > 1 && gops.len() >= GOPS_A_THREAD * self.threads
    }

    /// Whoever has decoded a frame makes it into output too; this thread only puts it in order.
    fn made_where_decoded(&self, window: &[Request], tally: &mut Tally) {
        let shared = Arc::new(Shared::default());
        let indices: Vec<u32> = window.iter().filter_map(|request| request.as_ref().ok().copied()).collect();
        let (makers, ours) = (Makers::new(self.blank()), Arc::clone(&shared));
        let make = move |_, frame| makers.make(frame, &ours);
        let made = match self.arguments.gpu_jpeg && self.arguments.format == Format::Jpeg {
            true => self.video.stills_with(&indices, &self.options(), make),
            false => self.video.frames_with(&indices, make),
        };
        self.collect(made.map(|(index, record)| (index, index, record)), Order::Asked(window), tally, &shared);
        self.warn(&shared, tally);
    }

    fn blank(&self) -> Maker {
        Maker::new(self.video.clone(), self.arguments.format, self.options(), self.destination.clone())
    }

    /// Runs `decode` in this thread with workers and a collector beside it.
    fn piped<T>(&self, order: Order<'_>, tally: &mut Tally, decode: impl FnOnce(&Feed<'_>) -> Result<T>) -> Result<T> {
        let shared = Shared::default();
        // Beside the decoders' own pictures.
        let in_flight = InFlight::new(self.picture_memory / 4);
        let (frames, decoded) = mpsc::sync_channel::<Decoded<'_>>(self.threads);
        let (made, results) = mpsc::channel::<Made>();
        let decoded = Arc::new(Mutex::new(decoded));
        let result = std::thread::scope(|scope| {
            let (shared, tally) = (&shared, &mut *tally);
            for _ in 0..self.threads {
                let (decoded, made) = (Arc::clone(&decoded), made.clone());
                scope.spawn(move || self.work(&decoded, &made, shared));
            }
            let collector = scope.spawn(move || self.collect(results, order, tally, shared));
            // Only workers hold the queue's end: when the last one has gone, whoever feeds it learns of it.
            drop(decoded);
            // The feed goes when decoding ends: then the workers end, and after them the collector.
            let feed = Feed { frames, made, shared, in_flight: &in_flight };
            let result = decode(&feed);
            drop(feed);
            if let Err(panic) = collector.join() {
                std::panic::resume_unwind(panic);
            }
            result
        });
        self.warn(&shared, tally);
        result
    }

    fn warn(&self, shared: &Shared, tally: &mut Tally) {
        let is_flat = shared.hdr.load(Ordering::Relaxed) && self.arguments.no_tonemap;
        let is_new = is_flat && self.arguments.format.still().is_some() && !tally.told_hdr;
        if is_new {
            tally.told_hdr = true;
            let name = self.video.source().name();
            say(&format!("bucket-streamer: {name}: HDR video: its stills are not tone-mapped and look flat"));
        }
    }

    fn work(&self, decoded: &Mutex<Receiver<Decoded<'_>>>, made: &Sender<Made>, shared: &Shared) {
        let mut maker = self.blank();
        loop {
            let next = decoded.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv();
            let Ok((key, frame, _held)) = next else { return };
            let index = frame.index;
            if made.send((key, index, shared.make(&mut maker, &frame))).is_err() {
                return;
            }
        }
    }

    fn options(&self) -> StillOptions {
        let arguments = self.arguments;
        StillOptions {
            format: arguments.format.still().unwrap_or(StillFormat::Jpeg),
            quality: arguments.quality.quality,
            shape: Shape { width: arguments.width, height: arguments.height, fit: arguments.fit.into() },
            crop: arguments.crop,
            colour: ColourOptions { tonemap: !arguments.no_tonemap, ..self.video.colour_options() },
            ..self.video.still_options()
        }
    }

    fn collect(&self, results: impl IntoIterator<Item = Made>, order: Order<'_>, tally: &mut Tally, shared: &Shared) {
        let mut emitter = Emitter { run: self, tally, shared };
        // What cannot be written does not wait for its turn, which may not come any more.
        let mut is_over = false;
        let results =
            results.into_iter().take_while(|(_, _, record)| !std::mem::replace(&mut is_over, is_write_error(record)));
        match order {
            Order::AsTheyCome => {
                let (mut waiting, mut next) = (HashMap::new(), 0);
                for (key, index, record) in results {
                    if is_write_error(&record) {
                        emitter.emit(index, &record);
                        return;
                    }
                    waiting.insert(key, (index, record));
                    while let Some((index, record)) = waiting.remove(&next) {
                        emitter.emit(index, &record);
                        next += 1;
                    }
                }
            }
            Order::Asked(requests) => {
                let mut uses: HashMap<u32, usize> = HashMap::new();
                requests.iter().flatten().for_each(|index| *uses.entry(*index).or_default() += 1);
                let (mut waiting, mut requests) = (HashMap::new(), requests.iter().peekable());
                for (_, index, record) in results {
                    if is_write_error(&record) {
                        emitter.emit(index, &record);
                    }
                    waiting.insert(index, record);
                    emitter.emit_ready(&mut requests, &mut waiting, &mut uses);
                    if emitter.tally.broken {
                        // Nobody listens any more: going ends the work.
                        return;
                    }
                }
                if !emitter.tally.broken {
                    // Only a bug leaves a frame without an answer; it must not take those behind it along.
                    let name = self.video.source().name();
                    for index in requests.clone().flatten() {
                        let none = || ErrorKind::Still(format!("{name}: frame {index}: there was no answer")).into();
                        waiting.entry(*index).or_insert_with(|| Err(none()));
                    }
                }
                emitter.emit_ready(&mut requests, &mut waiting, &mut uses);
            }
        }
    }

    fn finish(&self, tally: &Tally) -> Outcome {
        tally.bar.finish_and_clear();
        if let Destination::Folder(folder) = self.destination
            && !self.arguments.json
        {
            let seconds = self.started.elapsed().as_secs_f64();
            let rate = tally.done as f64 / seconds.max(1e-9);
            let (done, folder) = (tally.done, folder.display());
            say(&format!("bucket-streamer: {done} stills in {folder} ({seconds:.2} s, {rate:.1} a second)"));
        }
        if tally.failed > 0 || tally.broken { Outcome::SomeFailed } else { Outcome::Done }
    }

    fn progress_bar(&self, length: usize) -> ProgressBar {
        if !io::stderr().is_terminal() || length < 2 {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} frames, {per_sec}, {eta} left");
        let bar = ProgressBar::new(length as u64);
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar
    }
}

/// In which order results are let out.
enum Order<'a> {
    /// As the list of requests has them.
    Asked(&'a [Request]),
    /// As the decoder gives them.
    AsTheyCome,
}

/// The decoding thread's way to the workers.
struct Feed<'a> {
    frames: SyncSender<Decoded<'a>>,
    made: Sender<Made>,
    shared: &'a Shared,
    in_flight: &'a InFlight,
}

impl Feed<'_> {
    fn flow(&self, sent: bool) -> ControlFlow<()> {
        if sent && !self.shared.stop.load(Ordering::Relaxed) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }

    fn frame(&self, key: u32, frame: VideoFrame) -> ControlFlow<()> {
        let held = self.in_flight.enter(&frame);
        let sent = self.frames.send((key, frame, held)).is_ok();
        self.flow(sent)
    }

    fn error(&self, index: u32, error: Error) -> ControlFlow<()> {
        let sent = self.made.send((index, index, Err(error))).is_ok();
        self.flow(sent)
    }
}

/// What has come of a run so far.
struct Tally {
    done: usize,
    failed: usize,
    /// Output cannot go on.
    broken: bool,
    told_hdr: bool,
    bar: ProgressBar,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally { done: 0, failed: 0, broken: false, told_hdr: false, bar: ProgressBar::hidden() }
    }
}

struct Emitter<'a, 'b> {
    run: &'a Run<'b>,
    tally: &'a mut Tally,
    shared: &'a Shared,
}

impl Emitter<'_, '_> {
    /// Lets out all requests from the front whose results are there.
    fn emit_ready<'r>(
        &mut self,
        requests: &mut std::iter::Peekable<impl Iterator<Item = &'r Request>>,
        waiting: &mut HashMap<u32, Result<Record>>,
        uses: &mut HashMap<u32, usize>,
    ) {
        while let Some(request) = requests.peek() {
            match request {
                Err(error) => self.emit_error(None, error),
                Ok(index) => {
                    let Some(record) = waiting.get(index) else { return };
                    self.emit(*index, record);
                    let left = uses.entry(*index).or_insert(1);
                    *left -= 1;
                    if *left == 0 {
                        waiting.remove(index);
                    }
                }
            }
            requests.next();
        }
    }

    fn emit(&mut self, index: u32, record: &Result<Record>) {
        match record {
            Ok(record) => self.emit_record(record),
            Err(error) => self.emit_error(Some(index), error),
        }
    }

    fn emit_record(&mut self, record: &Record) {
        self.tally.done += 1;
        self.tally.bar.inc(1);
        let arguments = self.run.arguments;
        if arguments.json {
            self.write(json(&record.line).as_bytes());
        } else if arguments.format == Format::Framemd5 {
            let (pts, md5) = (record.line.pts.unwrap_or(0), record.line.md5.as_deref().unwrap_or(""));
            let (duration, size) = (record.duration, record.raw_size);
            self.write(format!("0, {pts:>10}, {pts:>10}, {duration:>8}, {size:>8}, {md5}\n").as_bytes());
        } else if *self.run.destination == Destination::StandardOutput {
            self.write(&record.bytes);
        }
    }

    fn emit_error(&mut self, index: Option<u32>, error: &Error) {
        self.tally.failed += 1;
        self.tally.bar.inc(1);
        if self.run.arguments.json {
            let known = index.map_or_else(Line::default, |index| Line::of(self.run.video, index));
            self.write(json(&Line { error: Some(error.message()), ..known }).as_bytes());
        }
        // When output cannot go on, the first file that shows it says enough.
        if !self.tally.broken {
            let line = format!("bucket-streamer: {error}");
            self.tally.bar.suspend(|| say(&line));
        }
        if matches!(error.kind(), ErrorKind::Write { .. }) {
            self.stop();
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.tally.broken {
            return;
        }
        let mut stdout = io::stdout().lock();
        if let Err(error) = stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            // The reader has gone: nothing to say to it.
            if error.kind() != io::ErrorKind::BrokenPipe {
                say(&format!("bucket-streamer: standard output: {error}"));
            }
            self.stop();
        }
    }

    fn stop(&mut self) {
        self.tally.broken = true;
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// Why a sequential decode left frames out.
fn reason(left_out: &LeftOut) -> String {
    match (left_out.unreadable.first(), left_out.damage) {
        (Some(error), _) => format!("which could not be read or need what could not ({})", error.message()),
        (None, Some(error)) => format!("which could not be decoded ({error})"),
        (None, None) => "which a sequential decode does not show".to_owned(),
    }
}

fn json(line: &Line) -> String {
    serde_json::to_string(line).expect("plain data") + "\n"
}

/// `0-2, 7`: frame numbers as ranges, the first few.
pub(super) fn ranges(frames: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &frame in frames {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == frame => *last = frame,
            _ => ranges.push((frame, frame)),
        }
    }
    let show = |&(first, last): &(u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let more = if ranges.len() > 8 { ", ..." } else { "" };
    ranges.iter().take(8).map(show).collect::<Vec<_>>().join(", ") + more
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn left_out_frames_are_told_as_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 7, 9, 10]), "0-2, 7, 9-10");
        assert_eq!(ranges(&(0..40).step_by(2).collect::<Vec<_>>()), "0, 2, 4, 6, 8, 10, 12, 14, ...");
    }
}
