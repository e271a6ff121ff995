//! Rounds of FFmpeg's command line, the usual tool where there is no library for single frames.
//!
//! One process runs each separate request, or all requests of a batch. A process reports the number of its frames, not
//! the time of each of them.

use std::convert::Infallible;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bucket_streamer::Video;
use bucket_streamer::container::Container;

use super::check::ReferenceDecode;
use super::frame_output::FrameOutput;
use super::load;
use super::machine;
use super::scenario::{RequestMode, Requests};
use super::setup::RequestLoad;
use super::stats::{MeasuredRequest, Round};

/// Environment variable with the program's path.
const VARIABLE: &str = "BUCKET_STREAMER_FFMPEG";
/// Interval of memory samples; a sample takes a hundredth of it.
const RSS_INTERVAL: Duration = Duration::from_millis(3);

/// An `ffmpeg` program that can be started.
#[derive(Debug)]
pub(crate) struct FfmpegCli {
    program: PathBuf,
    /// The first line that `-version` prints.
    pub(crate) version: String,
}

impl FfmpegCli {
    /// The program that the environment names, else the one beside this program, else that of the `PATH`.
    ///
    /// # Errors
    /// The reason why there is none, as a message for the user.
    pub(crate) fn find() -> Result<FfmpegCli, String> {
        let named = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
        let beside = || Some(std::env::current_exe().ok()?.with_file_name("ffmpeg")).filter(|path| path.is_file());
        let is_named = named.is_some();
        let program = named.or_else(beside).unwrap_or_else(|| "ffmpeg".into());
        let failed = |why: String| match is_named {
            true => format!("{VARIABLE} names {}: {why}", program.display()),
            false => format!("{}: {why} (set {VARIABLE} to another one)", program.display()),
        };
        let output = Command::new(&program).arg("-version").stdin(Stdio::null()).output();
        let output = output.map_err(|error| failed(error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.lines().next().filter(|line| output.status.success() && line.starts_with("ffmpeg"));
        let version = version.ok_or_else(|| failed("its -version is not that of ffmpeg".into()))?.to_owned();
        Ok(FfmpegCli { program, version })
    }
}

/// The use of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FfmpegMode {
    /// A process for each request.
    PerRequest,
    /// One process for all requests, which decodes the video from its beginning and selects frames.
    SinglePass,
}

/// The work of a round of FFmpeg's command line.
pub(crate) struct FfmpegTask<'a> {
    pub(crate) ffmpeg: &'a FfmpegCli,
    pub(crate) ffmpeg_mode: FfmpegMode,
    pub(crate) location: &'a str,
    pub(crate) video: &'a Video,
    pub(crate) threads: Option<usize>,
    pub(crate) load: RequestLoad,
    pub(crate) output: FrameOutput,
    /// The frames that a sequential decode shows, if they are known.
    pub(crate) reference: &'a ReferenceDecode,
}

/// The result of one process.
#[derive(Default)]
struct FfmpegRun {
    frames: usize,
    md5s: Vec<String>,
    /// The last line of its messages, if it failed.
    error: Option<String>,
    peak_rss: Option<u64>,
}

impl FfmpegTask<'_> {
    /// Runs one round. The program opens the video each time, within the clock.
    pub(crate) fn round(&self, requests: &Requests) -> Round {
        let cpu = machine::cpu_of_children();
        let started = Instant::now();
        let (answers, peak_rss) = match (requests.mode, self.ffmpeg_mode) {
            (RequestMode::OneByOne, FfmpegMode::PerRequest) => self.each(&requests.frames),
            // The frames of one pass are complete together, at its end.
            (RequestMode::OneByOne, FfmpegMode::SinglePass) => {
                self.together(RequestMode::Batch, &requests.frames, started)
            }
            (mode, _) => self.together(mode, &requests.frames, started),
        };
        Round {
            took: started.elapsed(),
            answers,
            cpu: machine::cpu_of_children().zip(cpu).map(|(after, before)| after.saturating_sub(before)),
            peak_rss,
            ..Round::default()
        }
    }

    /// Each frame with a process of its own.
    fn each(&self, frames: &[u32]) -> (Vec<MeasuredRequest>, Option<u64>) {
        let peak_rss = Mutex::new(None);
        let answers = load::drive(
            frames,
            self.load,
            || Ok::<_, Infallible>(()),
            |(), index| {
                let run = self.single(index)?;
                let mut peak_rss = peak_rss.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                *peak_rss = (*peak_rss).max(run.peak_rss);
                match run.frames {
                    0 => Err(frame_message(index, run.error.as_deref().unwrap_or("no frame"))),
                    _ => Ok(run.md5s.into_iter().next()),
                }
            },
        );
        let answers = answers.unwrap_or_else(|never| match never {});
        (answers, peak_rss.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    fn single(&self, index: u32) -> Result<FfmpegRun, String> {
        let sample = self.video.sample_of(index).ok_or_else(|| frame_message(index, "there is no such frame"))?;
        let (seek, filter) = self.seek(index, sample.pts);
        let before: Vec<&str> = seek.iter().map(String::as_str).collect();
        let after: Vec<&str> = filter.iter().map(String::as_str).chain(["-frames:v", "1"]).collect();
        Ok(self.run(&before, &after))
    }

    /// Options before and after the input that lead to a frame, as far as the program can.
    fn seek(&self, index: u32, pts: i64) -> (Vec<String>, Vec<String>) {
        let track = self.video.track();
        let microseconds = |ticks: i64| {
            // Rounded down: with a time that is rounded up the program would miss the frame.
            let (numerator, denominator) = (i128::from(track.time_base.0), i128::from(track.time_base.1));
            format!("{}us", (i128::from(ticks) * numerator * 1_000_000).div_euclid(denominator))
        };
        match track.container {
            // Raw streams have no times to seek by: the program decodes from the beginning.
            Container::AnnexB => (
                Vec::new(),
                vec![
                    "-vf".into(),
                    format!("select='eq(n,{})'", self.reference.position_of(index).unwrap_or(usize::MAX)),
                ],
            ),
            // The program counts times from the start of the stream.
            Container::MpegTs => {
                (vec!["-ss".into(), microseconds(pts - self.video.timeline().start_pts())], Vec::new())
            }
            // The stream's own time. By default times would count from the earliest of all streams, including audio.
            _ => (vec!["-seek_timestamp".into(), "1".into(), "-ss".into(), microseconds(pts)], Vec::new()),
        }
    }

    /// All frames with one process. Frames of a batch are complete at its end; for a run only the total time is known.
    fn together(&self, mode: RequestMode, frames: &[u32], started: Instant) -> (Vec<MeasuredRequest>, Option<u64>) {
        let first = |count: usize| ["-frames:v".to_owned(), count.to_string()];
        let (requested, mut places): (Vec<u32>, Vec<usize>) = match mode {
            // Frames that are not shown were not requested.
            RequestMode::Sequential => {
                (0..frames.len()).filter_map(|place| Some((self.reference.frame_at(place)?, place))).unzip()
            }
            RequestMode::Keyframes => frames.iter().copied().zip(0..).unzip(),
            // Frames that are not shown get a result without a frame.
            _ => frames.iter().map(|&index| (index, self.reference.position_of(index).unwrap_or(usize::MAX))).unzip(),
        };
        let of = places.clone();
        places.sort_unstable();
        places.dedup();
        let run = match mode {
            RequestMode::Keyframes => {
                self.run(&["-skip_frame", "nokey"], &first(places.len()).each_ref().map(String::as_str))
            }
            RequestMode::Batch => {
                let conditions: Vec<String> = places.iter().map(|place| format!("eq(n,{place})")).collect();
                let [option, count] = first(places.len());
                self.run(&[], &["-vf", &format!("select='{}'", conditions.join("+")), &option, &count])
            }
            _ => self.run(&[], &first(places.len()).each_ref().map(String::as_str)),
        };
        let latency = (mode == RequestMode::Batch).then(|| started.elapsed());
        let answer = |(&index, place): (&u32, &usize)| {
            // Frames arrive in order; the program does not report the missing ones.
            let place = places.binary_search(place).unwrap_or(usize::MAX);
            if place >= run.frames {
                return failed_result(index, run.error.as_deref().unwrap_or("no frame"));
            }
            MeasuredRequest { index, latency, error: None, md5: run.md5s.get(place).cloned() }
        };
        (requested.iter().zip(&of).map(answer).collect(), run.peak_rss)
    }

    fn run(&self, before_input: &[&str], after_input: &[&str]) -> FfmpegRun {
        let mut command = Command::new(&self.ffmpeg.program);
        // Progress reports the number of frames.
        command.args(["-nostdin", "-v", "error", "-nostats", "-progress", "pipe:2", "-noautorotate"]);
        if let Some(threads) = self.threads.map(|threads| threads.to_string()) {
            command.args(["-filter_threads", &threads, "-threads", &threads]);
        }
        // By default the filter graph is rebuilt when the size changes, and its frame count restarts.
        command.args(["-reinit_filter", "0"]);
        let track = format!("0:v:{}", self.video.track().track);
        command.args(before_input).args(["-i", self.location, "-map", &track]);
        command.args(["-fps_mode", "passthrough", "-noautoscale"]).args(after_input);
        command.args(match self.output {
            FrameOutput::Planes => &["-f", "null", "-"][..],
            FrameOutput::Jpeg => &["-c:v", "mjpeg", "-q:v", "3", "-f", "image2pipe", "pipe:1"],
            FrameOutput::Md5 => &["-f", "framemd5", "pipe:1"],
        });
        finish(command, self.output)
            .unwrap_or_else(|error| FfmpegRun { error: Some(error.to_string()), ..FfmpegRun::default() })
    }
}

fn failed_result(index: u32, why: &str) -> MeasuredRequest {
    load::measured_request(index, Duration::ZERO, Err(frame_message(index, why)))
}

fn frame_message(index: u32, why: &str) -> String {
    format!("frame {index}: {why}")
}

/// Runs a process to its end; reads and drops its stills.
fn finish(mut command: Command, output: FrameOutput) -> io::Result<FfmpegRun> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (stdout, pid) = (child.stdout.take(), child.id());
    let stderr = child.stderr.take();
    let (ended, end) = mpsc::channel::<()>();
    let (mut run, printed, peak_rss) = std::thread::scope(|scope| {
        let progress = scope.spawn(move || read_progress(stderr));
        let memory = scope.spawn(move || sample_peak_rss(pid, &end));
        let printed = drain(stdout, output);
        let run = progress.join().unwrap_or_default();
        drop(ended);
        (run, printed, memory.join().unwrap_or_default())
    });
    let status = child.wait()?;
    run.md5s = printed?;
    run.peak_rss = peak_rss;
    if !status.success() {
        run.error.get_or_insert_with(|| format!("ffmpeg ended with {status}"));
    }
    Ok(run)
}

/// Reads the output of a process, and keeps the MD5s.
fn drain(stdout: Option<impl Read>, output: FrameOutput) -> io::Result<Vec<String>> {
    let Some(mut stdout) = stdout else { return Ok(Vec::new()) };
    if output != FrameOutput::Md5 {
        io::copy(&mut stdout, &mut io::sink())?;
        return Ok(Vec::new());
    }
    let text = io::read_to_string(stdout)?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Ok(lines.filter_map(|line| Some(line.rsplit(',').next()?.trim().to_owned())).collect())
}

/// The peak of a process's resident memory. For children, `getrusage` begins with the parent's memory, so the process
/// is sampled until it ends: afterwards it is too late.
fn sample_peak_rss(pid: u32, end: &Receiver<()>) -> Option<u64> {
    let mut peak = None;
    while end.recv_timeout(RSS_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        peak = peak.max(machine::peak_rss(&pid.to_string()));
    }
    peak
}

/// Reads progress and messages.
fn read_progress(stderr: Option<impl Read>) -> FfmpegRun {
    let mut run = FfmpegRun::default();
    let lines = stderr.into_iter().flat_map(|stderr| BufReader::new(stderr).lines()).map_while(Result::ok);
    for line in lines {
        match line.split_once('=').map(|(name, value)| (name, value.trim())) {
            Some(("frame", count)) => run.frames = count.parse().unwrap_or(run.frames),
            Some((name, _)) if is_progress(name) => {}
            _ => run.error = Some(line),
        }
    }
    run
}

fn is_progress(name: &str) -> bool {
    let others = ["fps", "bitrate", "total_size", "out_time", "dup_frames", "drop_frames", "speed", "progress"];
    others.contains(&name) || name.starts_with("stream_") || name.starts_with("out_time_")
}

#[cfg(test)]
mod tests {
    use super::read_progress;

    #[test]
    fn progress_and_messages_are_distinguished() {
        let text = "frame=1\nfps=0.00\nstream_0_0_q=-0.0\nprogress=continue\n[hevc] x = y went wrong\nframe=  7\n\
                    out_time_us=5\nprogress=end\n";
        let run = read_progress(Some(text.as_bytes()));
        assert_eq!((run.frames, run.error.as_deref()), (7, Some("[hevc] x = y went wrong")));
    }
}
