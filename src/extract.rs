//! `extract`: frames to stills, planes or MD5 sums.
//!
//! When the requested frames spread over many GOPs, the threads that decode them also make the output. Otherwise one
//! thread receives decoded frames, and workers make output of them. The last thread puts results into the requested
//! order. The queues between threads are short, so that the slowest thread sets the pace.

use std::collections::HashSet;
use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bucket_streamer::pixels::{ColourOptions, Shape, colour};
use bucket_streamer::still::{StillFormat, StillOptions};
use bucket_streamer::{DecodedFrame, DeviceFrame, Error, Frame, Result, Video, VideoFrame};
use indicatif::{ProgressBar, ProgressStyle};

use crate::console::{Outcome, say};
use crate::in_flight::{Held, InFlight};
use crate::opening::{self, open};
use crate::options::Format;
use crate::output::{Destination, Maker, Record};
use crate::wanted::{Request, Wanted};

mod arguments;
mod emit;

pub(crate) use arguments::ExtractArguments;
pub(crate) use emit::ranges;

use arguments::{builder, destination, wanted};
use emit::{Emitter, Made, Order, Tally, is_write_error, reason};

/// Most bytes of pictures that wait for their turn on standard output.
const REORDER_BYTES: usize = 64 << 20;
/// From this many GOPs a thread on, the thread that decodes a frame also encodes it.
const GOPS_A_THREAD: usize = 2;

pub(crate) fn run(arguments: &ExtractArguments) -> Outcome {
    let to_stdout = arguments.output == "-";
    if arguments.json && to_stdout && arguments.format != Format::Framemd5 {
        say("bucket-streamer: --json and --output - both write to standard output: use one of them");
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

struct Run<'a> {
    arguments: &'a ExtractArguments,
    video: &'a Video,
    destination: &'a Destination,
    threads: usize,
    picture_memory: u64,
    started: Instant,
}

/// A decoded frame for a worker: its place in the output order, the frame, and its share of the byte limit.
type Decoded<'a> = (u32, VideoFrame, Held<'a>);

/// State that the threads of a run share.
#[derive(Default)]
struct Shared {
    /// Output cannot continue: decoding stops.
    stop: AtomicBool,
    hdr: AtomicBool,
}

impl Shared {
    fn make(&self, maker: &mut Maker, frame: &VideoFrame) -> Result<Record> {
        self.note(&frame.picture, maker.make(frame))
    }

    fn make_on_device(&self, maker: &mut Maker, frame: &DeviceFrame) -> Result<Record> {
        self.note(frame.picture.properties(), maker.make_on_device(frame))
    }

    fn note(&self, picture: &Frame, record: Result<Record>) -> Result<Record> {
        if colour::is_hdr_picture(picture) {
            self.hdr.store(true, Ordering::Relaxed);
        }
        if is_write_error(&record) {
            // A full disk stays full: later frames would fail, too.
            self.stop.store(true, Ordering::Relaxed);
        }
        record
    }
}

/// Makers for the engine's threads: a thread takes one for a frame and puts it back. The first one stays, because
/// others are made from it.
struct Makers {
    idle: Mutex<Vec<Maker>>,
}

impl Makers {
    fn new(first: Maker) -> Makers {
        Makers { idle: Mutex::new(vec![first]) }
    }

    fn make(&self, frame: Result<DecodedFrame>, shared: &Shared) -> Result<Record> {
        let idle = || self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut maker = {
            let mut idle = idle();
            let last = if idle.len() > 1 { idle.pop() } else { None };
            last.unwrap_or_else(|| idle[0].another())
        };
        let record = frame.and_then(|frame| match frame {
            DecodedFrame::Host(frame) => shared.make(&mut maker, &frame),
            DecodedFrame::Device(frame) => shared.make_on_device(&mut maker, &frame),
        });
        idle().push(maker);
        record
    }
}

impl Run<'_> {
    fn all(&self, wanted: &Wanted) -> Outcome {
        let requests = wanted.requests(self.video, self.arguments.clamp);
        if let Some((index, place)) = self.overwritten(&requests) {
            let place = place.display();
            say(&format!("bucket-streamer: {place} is an input: frame {index} would overwrite it (see --output)"));
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

    /// The first frame whose output would overwrite an input, and the path.
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

    /// Requests of one batch. Only bytes for standard output wait for their turn in memory, so only they limit the
    /// batch.
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

    /// Whether the frames lie in enough GOPs to keep all threads decoding.
    fn is_spread(&self, window: &[Request]) -> bool {
        let keys = self.video.key_indices();
        let gops: HashSet<usize> =
            window.iter().flatten().map(|index| keys.partition_point(|key| key <= index)).collect();
        self.threads > 1 && gops.len() >= GOPS_A_THREAD * self.threads
    }

    /// The thread that decoded a frame also makes its output; the calling thread only puts results in order.
    fn made_where_decoded(&self, window: &[Request], tally: &mut Tally) {
        let shared = Arc::new(Shared::default());
        let indices: Vec<u32> = window.iter().filter_map(|request| request.as_ref().ok().copied()).collect();
        let (makers, ours) = (Makers::new(self.blank()), Arc::clone(&shared));
        let make = move |_, frame| makers.make(frame, &ours);
        let made = match self.arguments.gpu_jpeg && self.arguments.format == Format::Still(StillFormat::Jpeg) {
            true => self.video.stills_with(&indices, &self.options(), make),
            false => self.video.frames_with(&indices, move |index, frame| make(index, frame.map(DecodedFrame::Host))),
        };
        let made = made.map(|(index, record)| (index, index, record));
        self.emitter(tally, &shared).collect(made, Order::Asked(window));
        self.warn(&shared, tally);
    }

    fn blank(&self) -> Maker {
        Maker::new(self.video.clone(), self.arguments.format, self.options(), self.destination.clone())
    }

    /// Runs `decode` in this thread with workers and a collector beside it.
    fn piped<T>(&self, order: Order<'_>, tally: &mut Tally, decode: impl FnOnce(&Feed<'_>) -> Result<T>) -> Result<T> {
        let shared = Shared::default();
        // In addition to the pictures that decoders hold.
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
            let collector = scope.spawn(move || self.emitter(tally, shared).collect(results, order));
            // Only workers hold the receiver: after the last worker ends, sending fails.
            drop(decoded);
            // Dropping the feed ends the workers, and then the collector.
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

    fn emitter<'a>(&'a self, tally: &'a mut Tally, shared: &'a Shared) -> Emitter<'a> {
        let Run { arguments, video, destination, .. } = self;
        Emitter { arguments, video, destination, tally, stop: &shared.stop }
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

/// The decoding thread's connection to the workers.
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
