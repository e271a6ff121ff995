//! The arguments of `bench`, and their help texts.

#[cfg(feature = "client")]
mod client;

use bucket_streamer::quantities::MemorySize;
use clap::{Args, ValueEnum};

#[cfg(feature = "client")]
pub(crate) use client::{ClientArguments, FrameAddressing, QueuePolicy, RequestPattern, check_options};

/// Arguments of `bench`, except those that all commands share.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = DETAILS)]
pub struct BenchArguments {
    /// The frames, and how they are requested
    #[arg(value_enum)]
    pub(crate) scenario: Scenario,
    /// Path or address (http, https, s3, gs, az) of the video; for all, a folder; for http and ws, a server [default: a
    /// bundled clip, for all $BUCKET_STREAMER_CORPUS]
    pub(crate) video: Option<String>,
    /// Engines to measure, in alternating rounds [default: cpu, for all every engine]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ENGINE,...")]
    pub(crate) engine: Vec<EngineName>,
    /// Processing of each frame
    #[arg(long, value_enum, default_value_t = Output::Planes)]
    pub(crate) output: Output,
    /// Threads [default: libavcodec's choice, and for encoding one per processor available to the process]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) threads: Option<u16>,
    /// Request these frames, in this order; @FILE has them separated by commas, blanks or lines (not sequential,
    /// keyframes)
    #[arg(long, value_name = "5,3,9|@FILE", conflicts_with_all = ["count", "seed"])]
    pub(crate) indices: Option<String>,
    /// Number of frames or steps; for sequential and keyframes the first ones [default: 60, or all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) count: Option<u32>,
    /// Seed that selects the frames, or the begin of scrubbing (random, batch, scrub) [default: 1]
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// Repeat everything, each round with a cold engine; the round of median duration is reported [default: 1, for all
    /// 3]
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) rounds: Option<u16>,
    /// Report each request with the MD5 sum of its planes
    #[arg(long)]
    pub(crate) md5: bool,
    /// Skip the comparison of the frames with a sequential decode
    #[arg(long)]
    pub(crate) no_check: bool,
    /// Skip the floor, which takes about as long as a round
    #[arg(long)]
    pub(crate) no_floor: bool,
    /// Write an array with one object per engine; `-` prints it instead of the table
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<String>,
    /// Write a self-contained report with plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<String>,
    /// Write each plot of the report as NAME.svg
    #[arg(long, value_name = "DIR")]
    pub(crate) plots: Option<String>,
    /// Number of concurrent callers (random, scrub, http, ws)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) callers: u16,
    /// Issue requests at this rate, answered or not; latency counts from the due time (random, scrub, http, ws)
    #[arg(long, value_name = "PER_S", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Request this many other random frames before the clock starts (random, batch, scrub)
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(crate) warm: u32,
    /// Memory for decoder checkpoints: 512M, 2G [default: 1/16 of the memory available to the process]
    #[arg(long, value_name = "SIZE")]
    pub(crate) checkpoint_memory: Option<MemorySize>,
    /// Decoded pictures between checkpoints
    #[arg(long, value_name = "N", hide_short_help = true, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) checkpoint_spacing: Option<u32>,
    #[cfg(feature = "client")]
    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if (0.001..=1e6).contains(&rate) { Ok(rate) } else { Err("a rate must be between 0.001 and 1000000".into()) }
}

const EXAMPLES: &str = "\
Examples:
  bucket-streamer bench random cam.mp4 --count 100 --engine cpu,ffmpeg-cli --rounds 5
  bucket-streamer bench sequential cam.mp4 --threads 1 --json result.json
  bucket-streamer bench batch cam.mp4 --indices @frames.txt --md5 --json -
  bucket-streamer bench all clips/ --rounds 3 --html report.html
  bucket-streamer bench ws ws://localhost:8080/ws --video-path cams/a.mp4 --callers 8 --check a.mp4

--help describes how frames are selected and what is timed.";

const DETAILS: &str = "\
Examples:
  bucket-streamer bench random cam.mp4 --count 100 --engine cpu,ffmpeg-cli --rounds 5
  bucket-streamer bench sequential cam.mp4 --threads 1 --json result.json
  bucket-streamer bench batch cam.mp4 --indices @frames.txt --md5 --json -
  bucket-streamer bench all clips/ --rounds 3 --html report.html
  bucket-streamer bench ws ws://localhost:8080/ws --video-path cams/a.mp4 --callers 8 --check a.mp4

Selection of frames. Numbers x come from SplitMix64 that begins at --seed; a number below n is
(x * n) >> 64, in 128 bits. For random and batch the frames 0..F are shuffled from the front: for
i = 0, 1, ... swap place i with place i + (a number below F - i); the first --count are requested,
and where that is more than there are, the shuffling begins again with all of them. scrub begins
at (a number below F) and steps by +1 +1 +1 +1 -1 -1 +10 +1 +1 -1 -10 +10, over and over; a step
that would leave the video goes the other way, or not at all.

Timing. Each round opens the video with a new engine (open_ms) before the clock starts, with no
decoder open yet. random and scrub request one frame after the other: latency is that of the
request; with --rate it counts from the time when the request was due, so that it includes waiting.
batch requests all frames at once: latency is from the start until the frame arrived.
keyframes (all at once) and sequential (all frames, played): latency is the time since the frame
before. The file may or may not be in the system's cache.

Comparison. Before the clock starts each engine makes one round for the MD5 sums of its frames,
which also warms up the machine. They are compared with a sequential decode from the first sample
on (from the 20000th frame on, with one from the key frame). `wrong` is the number that differ.
Damaged frames are not compared.

Engines. ffmpeg-cli is the program that BUCKET_STREAMER_FFMPEG names, else `ffmpeg` beside this program,
else that of the PATH. random and scrub start it once a frame (-ss TIME -i VIDEO -frames:v 1), the
others once; then it does not report when each frame arrived. The program decides where it seeks to:
with open GOPs, and in transport streams, it may show another frame, or none. ffmpeg-pass is the
same program started once, whatever the scenario: it decodes everything and selects the frames.

floor is the time of a bare libavcodec loop over the packets that a cold engine sends for each
request, with a decoder that is already open; with --output jpeg it includes encoding.

all measures every scenario with every engine over a folder of videos, and how speed depends on
the budget of checkpoints, on threads and on callers. --count and --rounds say how thoroughly.

Servers. http and ws request frames of a video from a server, such as `bucket-streamer serve`: VIDEO
is http://HOST:PORT, http://HOST:PORT/frame/NAME or ws://HOST:PORT/ws, or the same with https and
wss. Each caller keeps a connection of its own; over WebSocket it is made before the clock starts,
and --pipeline frames are requested ahead. Latency is from the request, or from the time when it was
due, until the still has arrived completely. A response that is missing, duplicate or out of order
is an error, and so is a status that is not 200. With --check, `wrong` is the number of stills that
differ from those that this program makes of a copy of the video: the copy is decoded from its first
sample on, and with the same --width, --height and --quality (default 85) each still must be the same
bit for bit. Without --check, a still is wrong if the server itself says that it is another frame.";

/// The frames, and how they are requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Random frames, one request after the other
    Random,
    /// Random frames in one request
    Batch,
    /// All frames in order
    Sequential,
    /// All sync samples, in one request
    Keyframes,
    /// Steps and jumps to and fro, like a search for a place in the video, one request after the other
    Scrub,
    /// Frames of a server over HTTP, one request each
    #[cfg(feature = "client")]
    Http,
    /// Frames of a server over WebSocket
    #[cfg(feature = "client")]
    Ws,
    /// All scenarios except http and ws, over a folder of videos
    All,
}

/// The engines that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineName {
    /// This program, on the CPU
    Cpu,
    /// This program, decoding from the key frame for each request
    FromKey,
    /// The graphics card's decoder
    Nvdec,
    /// FFmpeg's command line, a process for each request
    FfmpegCli,
    /// FFmpeg's command line, one process that decodes everything
    FfmpegPass,
}

/// The processing of each frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Decoded planes in memory
    Planes,
    /// Encoded stills in memory
    Jpeg,
}

/// The name on the command line.
pub(crate) fn typed(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
