//! Rounds of FFmpeg's command line, the usual tool where there is no library for single frames.
//!
//! One process makes each request that is separate, or all requests that are made together. A process reports how many
//! frames it made, not when each of them arrived.

use std::convert::Infallible;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bucket_streamer::Video;
use bucket_streamer::container::Container;

use super::check::Reference;
use super::load;
use super::machine;
use super::make::What;
use super::scenario::{Manner, Requests};
use super::setup::Load;
use super::stats::{Answer, Round};

/// Environment variable with the program's path.
const VARIABLE: &str = "BUCKET_STREAMER_FFMPEG";
/// Interval of memory samples; a sample takes a hundredth of it.
const BETWEEN_LOOKS: Duration = Duration::from_millis(3);

/// An `ffmpeg` program that can be started.
#[derive(Debug)]
pub(crate) struct Peer {
    program: PathBuf,
    /// The first line that `-version` prints.
    pub(crate) version: String,
}

impl Peer {
    /// The program that the environment names, else the one beside this program, else that of the `PATH`.
    ///
    /// # Errors
    /// Why there is none, for the user.
    pub(crate) fn find() -> Result<Peer, String> {
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
        Ok(Peer { program, version })
    }
}

/// The use of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// A process for each request.
    AsAsked,
    /// One process for all requests, which decodes the video from its beginning and selects frames.
    OnePass,
}

/// The work of the peer.
pub(crate) struct Task<'a> {
    pub(crate) peer: &'a Peer,
    pub(crate) way: Way,
    pub(crate) location: &'a str,
    pub(crate) video: &'a Video,
    pub(crate) threads: Option<usize>,
    pub(crate) load: Load,
    pub(crate) what: What,
    /// The frames that a sequential decode shows, where that is known.
    pub(crate) reference: &'a Reference,
}

/// The result of one process.
#[derive(Default)]
struct Ran {
    frames: usize,
    md5s: Vec<String>,
    /// The last line of its messages, if it failed.
    error: Option<String>,
    peak_rss: Option<u64>,
}

impl Task<'_> {
    /// Makes one round. The program opens the video each time, within the clock.
    pub(crate) fn round(&self, requests: &Requests) -> Round {
        let cpu = machine::cpu_of_children();
        let started = Instant::now();
        let (answers, peak_rss) = match (requests.manner, self.way) {
            (Manner::OneByOne, Way::AsAsked) => self.each(&requests.frames),
            // The frames of one pass are there together, at its end.
            (Manner::OneByOne, Way::OnePass) => self.together(Manner::Together, &requests.frames, started),
            (manner, _) => self.together(manner, &requests.frames, started),
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
    fn each(&self, frames: &[u32]) -> (Vec<Answer>, Option<u64>) {
        let peak_rss = Mutex::new(None);
        let answers = load::drive(
            frames,
            self.load,
            || Ok::<_, Infallible>(()),
            |(), index| {
                let ran = self.single(index)?;
                let mut peak_rss = peak_rss.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                *peak_rss = (*peak_rss).max(ran.peak_rss);
                match ran.frames {
                    0 => Err(failure(index, ran.error.as_deref().unwrap_or("no frame came"))),
                    _ => Ok(ran.md5s.into_iter().next()),
                }
            },
        );
        let answers = answers.unwrap_or_else(|never| match never {});
        (answers, peak_rss.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    fn single(&self, index: u32) -> Result<Ran, String> {
        let sample = self.video.sample_of(index).ok_or_else(|| failure(index, "there is no such frame"))?;
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
                vec!["-vf".into(), format!("select='eq(n,{})'", self.reference.place(index).unwrap_or(usize::MAX))],
            ),
            // The program counts times from the start of the stream.
            Container::MpegTs => {
                (vec!["-ss".into(), microseconds(pts - self.video.timeline().start_pts())], Vec::new())
            }
            // The stream's own time. By default times would count from the earliest of all streams, including audio.
            _ => (vec!["-seek_timestamp".into(), "1".into(), "-ss".into(), microseconds(pts)], Vec::new()),
        }
    }

    /// All frames with one process. Frames that are requested together are there when it ends; for a run only the total
    /// is known.
    fn together(&self, manner: Manner, frames: &[u32], started: Instant) -> (Vec<Answer>, Option<u64>) {
        let first = |count: usize| ["-frames:v".to_owned(), count.to_string()];
        let (asked, mut places): (Vec<u32>, Vec<usize>) = match manner {
            // Frames that are not shown were not requested.
            Manner::Play => (0..frames.len()).filter_map(|place| Some((self.reference.at(place)?, place))).unzip(),
            Manner::Run => frames.iter().copied().zip(0..).unzip(),
            // Frames that are not shown get a place without a frame.
            _ => frames.iter().map(|&index| (index, self.reference.place(index).unwrap_or(usize::MAX))).unzip(),
        };
        let of = places.clone();
        places.sort_unstable();
        places.dedup();
        let ran = match manner {
            Manner::Run => self.run(&["-skip_frame", "nokey"], &first(places.len()).each_ref().map(String::as_str)),
            Manner::Together => {
                let wanted: Vec<String> = places.iter().map(|place| format!("eq(n,{place})")).collect();
                let [option, count] = first(places.len());
                self.run(&[], &["-vf", &format!("select='{}'", wanted.join("+")), &option, &count])
            }
            _ => self.run(&[], &first(places.len()).each_ref().map(String::as_str)),
        };
        let latency = (manner == Manner::Together).then(|| started.elapsed());
        let answer = |(&index, place): (&u32, &usize)| {
            // Frames come in order; the program does not report which ones are missing.
            let place = places.binary_search(place).unwrap_or(usize::MAX);
            if place >= ran.frames {
                return failed(index, ran.error.as_deref().unwrap_or("no frame came"));
            }
            Answer { index, latency, error: None, md5: ran.md5s.get(place).cloned() }
        };
        (asked.iter().zip(&of).map(answer).collect(), ran.peak_rss)
    }

    fn run(&self, before_input: &[&str], after_input: &[&str]) -> Ran {
        let mut command = Command::new(&self.peer.program);
        // Progress reports the number of frames.
        command.args(["-nostdin", "-v", "error", "-nostats", "-progress", "pipe:2", "-noautorotate"]);
        if let Some(threads) = self.threads.map(|threads| threads.to_string()) {
            command.args(["-filter_threads", &threads, "-threads", &threads]);
        }
        // By default the filter graph is rebuilt when the size changes, and its frame count begins anew.
        command.args(["-reinit_filter", "0"]);
        let track = format!("0:v:{}", self.video.track().track);
        command.args(before_input).args(["-i", self.location, "-map", &track]);
        command.args(["-fps_mode", "passthrough", "-noautoscale"]).args(after_input);
        command.args(match self.what {
            What::Planes => &["-f", "null", "-"][..],
            What::Jpeg => &["-c:v", "mjpeg", "-q:v", "3", "-f", "image2pipe", "pipe:1"],
            What::Md5 => &["-f", "framemd5", "pipe:1"],
        });
        finish(command, self.what).unwrap_or_else(|error| Ran { error: Some(error.to_string()), ..Ran::default() })
    }
}

fn failed(index: u32, why: &str) -> Answer {
    load::answer(index, Duration::ZERO, Err(failure(index, why)))
}

fn failure(index: u32, why: &str) -> String {
    format!("frame {index}: {why}")
}

/// Runs a process to its end; reads and drops its stills.
fn finish(mut command: Command, what: What) -> io::Result<Ran> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (stdout, pid) = (child.stdout.take(), child.id());
    let stderr = child.stderr.take();
    let (ended, end) = mpsc::channel::<()>();
    let (mut ran, printed, peak_rss) = std::thread::scope(|scope| {
        let progress = scope.spawn(move || follow(stderr));
        let memory = scope.spawn(move || watch(pid, &end));
        let printed = drain(stdout, what);
        let ran = progress.join().unwrap_or_default();
        drop(ended);
        (ran, printed, memory.join().unwrap_or_default())
    });
    let status = child.wait()?;
    ran.md5s = printed?;
    ran.peak_rss = peak_rss;
    if !status.success() {
        ran.error.get_or_insert_with(|| format!("ffmpeg ended with {status}"));
    }
    Ok(ran)
}

/// Reads the output of a process, and keeps the MD5s.
fn drain(stdout: Option<impl Read>, what: What) -> io::Result<Vec<String>> {
    let Some(mut stdout) = stdout else { return Ok(Vec::new()) };
    if what != What::Md5 {
        io::copy(&mut stdout, &mut io::sink())?;
        return Ok(Vec::new());
    }
    let text = io::read_to_string(stdout)?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Ok(lines.filter_map(|line| Some(line.rsplit(',').next()?.trim().to_owned())).collect())
}

/// The peak of a process's resident memory. For children, `getrusage` begins with the parent's memory, so the process
/// is sampled until it ends: afterwards it is too late.
fn watch(pid: u32, end: &Receiver<()>) -> Option<u64> {
    let mut peak = None;
    while end.recv_timeout(BETWEEN_LOOKS) == Err(RecvTimeoutError::Timeout) {
        peak = peak.max(machine::peak_rss(&pid.to_string()));
    }
    peak
}

/// Reads progress and messages.
fn follow(stderr: Option<impl Read>) -> Ran {
    let mut ran = Ran::default();
    let lines = stderr.into_iter().flat_map(|stderr| BufReader::new(stderr).lines()).map_while(Result::ok);
    for line in lines {
        match line.split_once('=').map(|(name, value)| (name, value.trim())) {
            Some(("frame", count)) => ran.frames = count.parse().unwrap_or(ran.frames),
            Some((name, _)) if is_progress(name) => {}
            _ => ran.error = Some(line),
        }
    }
    ran
}

fn is_progress(name: &str) -> bool {
    let others = ["fps", "bitrate", "total_size", "out_time", "dup_frames", "drop_frames", "speed", "progress"];
    others.contains(&name) || name.starts_with("stream_") || name.starts_with("out_time_")
}

#[cfg(test)]
mod tests {
    use super::follow;

    #[test]
    fn progress_and_messages_are_told_apart() {
        let text = "frame=1\nfps=0.00\nstream_0_0_q=-0.0\nprogress=continue\n[hevc] x = y went wrong\nframe=  7\n\
                    out_time_us=5\nprogress=end\n";
        let ran = follow(Some(text.as_bytes()));
        assert_eq!((ran.frames, ran.error.as_deref()), (7, Some("[hevc] x = y went wrong")));
    }
}
