//! `extract`: frames to stills, planes or MD5 sums.
//!
//! When the requested frames spread over many GOPs, the threads that decode them also make the output. Otherwise one
//! thread receives decoded frames, and workers make the output. The last thread puts results into the requested order.
//! The queues between threads are short, so that the slowest thread limits the others.

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

use crate::console::{CommandOutcome, report, say};
use crate::in_flight::{InFlightPicture, PicturesInFlight};
use crate::opening::{self, open};
use crate::options::Format;
use crate::output::{Destination, OutputMaker, OutputRecord};
use crate::selection::{FrameSelection, RequestedIndex};

mod arguments;
mod emit;

pub(crate) use arguments::ExtractArguments;
pub(crate) use emit::ranges;

use arguments::{builder, destination, selection};
use emit::{Emitter, ExtractedFrame, OutputOrder, OutputTally, is_write_error, reason};

/// Most bytes of pictures that wait in the reorder queue of standard output.
const REORDER_BYTES: usize = 64 << 20;
/// From this many GOPs per thread on, the thread that decodes a frame also encodes it.
const GOPS_A_THREAD: usize = 2;

pub(crate) fn run(arguments: &ExtractArguments) -> CommandOutcome {
    let to_stdout = arguments.output == "-";
    if arguments.json && to_stdout && arguments.format != Format::Framemd5 {
        say("bucket-streamer: --json and --output - both write to standard output: use one of them");
        return CommandOutcome::Usage;
    }
    let selection = match selection(arguments) {
        Ok(selection) => selection,
        Err(why) => {
            say(&format!("bucket-streamer: {why}"));
            return CommandOutcome::Usage;
        }
    };
    let engine = match opening::engine(builder(arguments, &selection), arguments.device.device) {
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
            report(&error);
            return CommandOutcome::SomeFailed;
        }
    };
    let (threads, picture_memory, started) = (engine.threads(), engine.picture_memory(), Instant::now());
    let run = ExtractRun { arguments, video: &video, destination: &destination, threads, picture_memory, started };
    let outcome = run.all(&selection);
    opening::report_device_notes(&engine);
    opening::leave_to_exit(engine, video);
    outcome
}

struct ExtractRun<'a> {
    arguments: &'a ExtractArguments,
    video: &'a Video,
    destination: &'a Destination,
    threads: usize,
    picture_memory: u64,
    started: Instant,
}

/// A decoded frame for a worker: its place in the output order, the frame, and its share of the byte limit.
type EncoderJob<'a> = (u32, VideoFrame, InFlightPicture<'a>);

/// State that the threads of a run share.
#[derive(Default)]
struct ExtractState {
    /// Output cannot continue: decoding stops.
    stop: AtomicBool,
    hdr: AtomicBool,
}

impl ExtractState {
    fn make(&self, maker: &mut OutputMaker, frame: &VideoFrame) -> Result<OutputRecord> {
        self.note(&frame.picture, maker.make(frame))
    }

    fn make_on_device(&self, maker: &mut OutputMaker, frame: &DeviceFrame) -> Result<OutputRecord> {
        self.note(frame.picture.properties(), maker.make_on_device(frame))
    }

    fn note(&self, picture: &Frame, record: Result<OutputRecord>) -> Result<OutputRecord> {
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
struct OutputMakerPool {
    idle: Mutex<Vec<OutputMaker>>,
}

impl OutputMakerPool {
    fn new(first: OutputMaker) -> OutputMakerPool {
        OutputMakerPool { idle: Mutex::new(vec![first]) }
    }

    fn make(&self, frame: Result<DecodedFrame>, shared: &ExtractState) -> Result<OutputRecord> {
        let idle = || self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut maker = {
            let mut idle = idle();
            let last = if idle.len() > 1 { idle.pop() } else { None };
            last.unwrap_or_else(|| idle[0].fresh())
        };
        let record = frame.and_then(|frame| match frame {
            DecodedFrame::Host(frame) => shared.make(&mut maker, &frame),
            DecodedFrame::Device(frame) => shared.make_on_device(&mut maker, &frame),
        });
        idle().push(maker);
        record
    }
}

impl ExtractRun<'_> {
    fn all(&self, selection: &FrameSelection) -> CommandOutcome {
        let requests = selection.indices(self.video, self.arguments.clamp);
        if let Some((index, place)) = self.overwritten(&requests) {
            let place = place.display();
            say(&format!("bucket-streamer: {place} is an input: frame {index} would overwrite it (see --output)"));
            return CommandOutcome::Usage;
        }
        let bar = self.progress_bar(requests.len());
        let mut tally = OutputTally { bar, ..OutputTally::default() };
        if *selection == FrameSelection::All {
            return self.play(tally);
        }
        for window in requests.chunks(self.window(requests.len())) {
            if self.arguments.gpu_jpeg || self.is_spread(window) {
                self.output_in_decoder_threads(window, &mut tally);
            } else {
                let result = self.run_pipeline(OutputOrder::Requested(window), &mut tally, |frames| {
                    self.feed_frames(window, frames)
                });
                if let Err(error) = result {
                    report(&error);
                    return CommandOutcome::Unreadable;
                }
            }
            if tally.broken {
                break;
            }
        }
        self.finish(&tally)
    }

    /// The first frame whose output would overwrite an input, and the path.
    fn overwritten(&self, requests: &[RequestedIndex]) -> Option<(u32, PathBuf)> {
        let indices: Vec<u32> = requests.iter().flatten().copied().collect();
        let inputs = [Some(self.arguments.location.video.as_str()), self.arguments.which.index.as_deref()];
        let inputs: Vec<&str> = inputs.into_iter().flatten().collect();
        self.destination.overwritten(&indices, self.arguments.format, &inputs)
    }

    fn play(&self, mut tally: OutputTally) -> CommandOutcome {
        let mut refused = Vec::new();
        let left_out = self.run_pipeline(OutputOrder::Decoder, &mut tally, |feed| {
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
                report(&error);
                return if error.is_unreadable_video() {
                    CommandOutcome::Unreadable
                } else {
                    CommandOutcome::SomeFailed
                };
            }
        };
        if !tally.broken {
            refused.sort_unstable();
            self.report_left_out(&refused, "which are damaged or refer to damaged ones");
            self.report_left_out(&left_out.frames, &reason(&left_out));
            tally.failed += refused.len();
            tally.failed += if left_out.is_damaged() { left_out.frames.len() } else { 0 };
        }
        self.finish(&tally)
    }

    fn report_left_out(&self, frames: &[u32], why: &str) {
        if !frames.is_empty() {
            let (name, count, list) = (self.video.source().name(), frames.len(), ranges(frames));
            let all = self.video.frame_count();
            say(&format!("bucket-streamer: {name}: left out {count} of {all} frames, {why}: {list}"));
        }
    }

    /// Requests of one batch. Only bytes for standard output are reordered in memory, so only they limit the batch.
    fn window(&self, requests: usize) -> usize {
        let is_buffered = *self.destination == Destination::StandardOutput && self.arguments.format != Format::Framemd5;
        let (width, height) = self.video.track().parameters.size();
        let size = (width * height * 3).max(1 << 16);
        if is_buffered { (REORDER_BYTES / size).max(1) } else { requests.max(1) }
    }

    fn feed_frames(&self, window: &[RequestedIndex], feed: &WorkerFeed<'_>) -> Result<()> {
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
    fn is_spread(&self, window: &[RequestedIndex]) -> bool {
        let keys = self.video.key_indices();
        let gops: HashSet<usize> =
            window.iter().flatten().map(|index| keys.partition_point(|key| key <= index)).collect();
        self.threads > 1 && gops.len() >= GOPS_A_THREAD * self.threads
    }

    /// The thread that decoded a frame also makes its output; the calling thread only puts results in order.
    fn output_in_decoder_threads(&self, window: &[RequestedIndex], tally: &mut OutputTally) {
        let shared = Arc::new(ExtractState::default());
        let indices: Vec<u32> = window.iter().filter_map(|request| request.as_ref().ok().copied()).collect();
        let (makers, worker_state) = (OutputMakerPool::new(self.new_maker()), Arc::clone(&shared));
        let make = move |_, frame| makers.make(frame, &worker_state);
        let records = match self.arguments.gpu_jpeg && self.arguments.format == Format::Still(StillFormat::Jpeg) {
            true => self.video.stills_with(&indices, &self.options(), make),
            false => self.video.frames_with(&indices, move |index, frame| make(index, frame.map(DecodedFrame::Host))),
        };
        let records = records.map(|(index, record)| (index, index, record));
        self.emitter(tally, &shared).collect(records, OutputOrder::Requested(window));
        self.warn_of_hdr(&shared, tally);
    }

    fn new_maker(&self) -> OutputMaker {
        OutputMaker::new(self.video.clone(), self.arguments.format, self.options(), self.destination.clone())
    }

    /// Runs `decode` in this thread with workers and a collector beside it.
    fn run_pipeline<T>(
        &self,
        order: OutputOrder<'_>,
        tally: &mut OutputTally,
        decode: impl FnOnce(&WorkerFeed<'_>) -> Result<T>,
    ) -> Result<T> {
        let shared = ExtractState::default();
        // In addition to the pictures that decoders hold.
        let in_flight = PicturesInFlight::new(self.picture_memory / 4);
        let (frames, decoded) = mpsc::sync_channel::<EncoderJob<'_>>(self.threads);
        let (finished, results) = mpsc::channel::<ExtractedFrame>();
        let decoded = Arc::new(Mutex::new(decoded));
        let result = std::thread::scope(|scope| {
            let (shared, tally) = (&shared, &mut *tally);
            for _ in 0..self.threads {
                let (decoded, finished) = (Arc::clone(&decoded), finished.clone());
                scope.spawn(move || self.work(&decoded, &finished, shared));
            }
            let collector = scope.spawn(move || self.emitter(tally, shared).collect(results, order));
            // Only workers hold the receiver: after the last worker ends, sending fails.
            drop(decoded);
            // Dropping the feed ends the workers, and then the collector.
            let feed = WorkerFeed { frames, finished, shared, in_flight: &in_flight };
            let result = decode(&feed);
            drop(feed);
            if let Err(panic) = collector.join() {
                std::panic::resume_unwind(panic);
            }
            result
        });
        self.warn_of_hdr(&shared, tally);
        result
    }

    fn warn_of_hdr(&self, shared: &ExtractState, tally: &mut OutputTally) {
        let is_flat = shared.hdr.load(Ordering::Relaxed) && self.arguments.no_tonemap;
        let is_new = is_flat && self.arguments.format.still().is_some() && !tally.is_hdr_reported;
        if is_new {
            tally.is_hdr_reported = true;
            let name = self.video.source().name();
            say(&format!("bucket-streamer: {name}: HDR video: its stills are not tone-mapped and look flat"));
        }
    }

    fn work(
        &self,
        decoded: &Mutex<Receiver<EncoderJob<'_>>>,
        finished: &Sender<ExtractedFrame>,
        shared: &ExtractState,
    ) {
        let mut maker = self.new_maker();
        loop {
            let next = decoded.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv();
            let Ok((key, frame, _reservation)) = next else { return };
            let index = frame.index;
            if finished.send((key, index, shared.make(&mut maker, &frame))).is_err() {
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

    fn emitter<'a>(&'a self, tally: &'a mut OutputTally, shared: &'a ExtractState) -> Emitter<'a> {
        let ExtractRun { arguments, video, destination, .. } = self;
        Emitter { arguments, video, destination, tally, stop: &shared.stop }
    }

    fn finish(&self, tally: &OutputTally) -> CommandOutcome {
        tally.bar.finish_and_clear();
        if let Destination::Folder(folder) = self.destination
            && !self.arguments.json
        {
            let seconds = self.started.elapsed().as_secs_f64();
            let rate = tally.done as f64 / seconds.max(1e-9);
            let (done, folder) = (tally.done, folder.display());
            say(&format!("bucket-streamer: {done} stills in {folder} ({seconds:.2} s, {rate:.1} a second)"));
        }
        if tally.failed > 0 || tally.broken { CommandOutcome::SomeFailed } else { CommandOutcome::Done }
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
struct WorkerFeed<'a> {
    frames: SyncSender<EncoderJob<'a>>,
    finished: Sender<ExtractedFrame>,
    shared: &'a ExtractState,
    in_flight: &'a PicturesInFlight,
}

impl WorkerFeed<'_> {
    fn control_flow(&self, is_sent: bool) -> ControlFlow<()> {
        if is_sent && !self.shared.stop.load(Ordering::Relaxed) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }

    fn frame(&self, key: u32, frame: VideoFrame) -> ControlFlow<()> {
        let reservation = self.in_flight.reserve(&frame);
        let sent = self.frames.send((key, frame, reservation)).is_ok();
        self.control_flow(sent)
    }

    fn error(&self, index: u32, error: Error) -> ControlFlow<()> {
        let sent = self.finished.send((index, index, Err(error))).is_ok();
        self.control_flow(sent)
    }
}
