//! What can be typed.

#[cfg(feature = "remote")]
use std::time::Duration;

use bucket_streamer::picture::{Fit, Part, StillFormat};
#[cfg(feature = "remote")]
use bucket_streamer::time;
use bucket_streamer::{DEFAULT_MAX_PIXELS, DeviceChoice, EngineBuilder, OnDamage};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use super::bench::BenchArguments;

/// Any frame of a video, exact, now.
#[derive(Debug, Parser)]
#[command(name = "bucket-streamer", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Show FFmpeg's warnings; twice, everything it says
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    /// Keep indexes in this folder, and open videos with those that are there
    #[arg(long, value_name = "DIR", global = true, env = "BUCKET_STREAMER_INDEX_CACHE")]
    pub(crate) index_cache: Option<std::path::PathBuf>,
    #[cfg(feature = "remote")]
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How servers are asked.
#[cfg(feature = "remote")]
#[derive(Debug, Args)]
pub(crate) struct RemoteArguments {
    /// Send this header to the http(s) server of an address; may be repeated
    #[arg(long, value_name = "NAME: VALUE", global = true)]
    pub(crate) header: Vec<String>,
    /// Trust the certificates in this file, too (PEM)
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) ca_file: Option<std::path::PathBuf>,
    /// Memory for what was fetched over a network, for all videos together: 512M, 2G [default: 256M]
    #[arg(long, value_name = "SIZE", global = true, env = "BUCKET_STREAMER_FETCH_MEMORY")]
    pub(crate) fetch_memory: Option<MemorySize>,
    /// Give up opening a video over a network after so long; time in which at least 1 MiB a second comes does not count; 0 for
    /// no limit [default: 60s; of `serve`: its --deadline]
    #[arg(long, value_name = "TIME", global = true, env = "BUCKET_STREAMER_OPEN_TIMEOUT", value_parser = timeout)]
    pub(crate) open_timeout: Option<Duration>,
}

/// A length of time, 0 for none.
#[cfg(feature = "remote")]
fn timeout(text: &str) -> Result<Duration, String> {
    let nanos = u64::try_from(time::parse(text)?.0).ok().filter(|nanos| *nanos <= 86_400_000_000_000);
    nanos.map(Duration::from_nanos).ok_or_else(|| format!("{text} is not 0 to 24h"))
}

const EXAMPLES: &str = "\
Examples:
  bucket-streamer info cam.mp4
  bucket-streamer extract cam.mp4 --frames 0,10,20-30 --output stills
  bucket-streamer extract cam.mp4 --times 1.5,0:02.25 --json
  bucket-streamer extract cam.mp4 --all --format framemd5
  bucket-streamer sheet cam.mp4 -o sheet.jpg --columns 5 --count 25
  bucket-streamer bench random cam.mp4 --engine cpu,ffmpeg-cli
  bucket-streamer index cam.ts -o cam.index
  bucket-streamer serve --root cams=/data/cams

Exit codes: 0 done, 1 done but some frames failed, 2 wrong usage, 3 the video cannot be read.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What the video is
    Info(InfoArguments),
    /// Stills of frames
    Extract(ExtractArguments),
    /// How fast frames come, and how fast they could
    Bench(BenchArguments),
    /// A contact sheet: one picture of many small ones, with their times for players
    Sheet(SheetArguments),
    /// Write an index file, with which the video opens at once
    Index(IndexArguments),
    /// Frames over HTTP and WebSocket, and a page to look at; also --serve
    #[cfg(feature = "server")]
    Serve(Box<super::serve::ServeArguments>),
    /// An address of the server that is good without a token for a while
    #[cfg(feature = "server")]
    Sign(super::serve::SignArguments),
}

impl Command {
    /// Does it end by itself when a signal asks it to?
    pub(crate) fn waits_for_signals(&self) -> bool {
        #[cfg(feature = "server")]
        return matches!(self, Command::Serve(_));
        #[cfg(not(feature = "server"))]
        false
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bucket-streamer info cam.mp4\n  bucket-streamer info cam.mp4 --json | jq .frames")]
pub(crate) struct InfoArguments {
    /// The video: a path, or an address: http(s), s3, gs, az
    pub(crate) video: String,
    /// One JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("which").required(true).args(["frames", "times", "every", "count", "keyframes", "all"])),
    after_help = EXTRACT_EXAMPLES
)]
pub(crate) struct ExtractArguments {
    /// The video: a path, or an address: http(s), s3, gs, az
    pub(crate) video: String,
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
    /// Quality of JPEG and WebP
    #[arg(short, long, default_value_t = 85, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) quality: u8,
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
    /// Compare every decoded picture of H.265 with its hash in the stream, where it has one; one that does not match counts as
    /// damaged
    #[arg(long)]
    pub(crate) check_hashes: bool,
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// Threads for decoding, and as many for encoding [default: as libavcodec chooses, and one for each processor that the
    /// process is given]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) threads: Option<u16>,
    /// Memory for checkpoints of decoders: 512M, 2G; 0 for none [default: a 16th of the memory that the process
    /// is given]
    #[arg(long, value_name = "SIZE")]
    pub(crate) checkpoint_memory: Option<MemorySize>,
    /// Where pictures are decoded: the processor, a GPU of NVIDIA's, or whichever takes less time
    #[arg(long, value_name = "auto|cpu|nvdec[:N]", default_value = "cpu")]
    pub(crate) device: DeviceName,
    /// JPEGs of what a GPU decodes are made there too (nvJPEG), if the whole picture is wanted in its own size: not the same
    /// bytes as on the CPU
    #[arg(long)]
    pub(crate) gpu_jpeg: bool,
}

/// Which track of a video, and how it is found.
#[derive(Debug, Clone, Args)]
pub(crate) struct Which {
    /// Which video track, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) track: usize,
    /// Open the video with this index file, which `index` has written. It is believed where it cannot be checked: use only
    /// files that come from where the video comes from, or --verify
    #[arg(long, value_name = "FILE", conflicts_with = "track")]
    pub(crate) index: Option<String>,
    /// Make the index anew and refuse the file of --index if it says anything else: reads the whole video if the file says
    /// what pictures refer to
    #[arg(long, requires = "index")]
    pub(crate) verify: bool,
}

impl Which {
    pub(crate) fn opening(&self) -> Opening<'_> {
        let index = |file| Opening::Index { file, verify: self.verify };
        self.index.as_deref().map_or(Opening::Track(self.track), index)
    }
}

/// How a video is opened: by looking for a track, or with an index file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Opening<'a> {
    Track(usize),
    Index {
        file: &'a str,
        /// Compare the file with an index made anew?
        verify: bool,
    },
}

impl Opening<'_> {
    /// The same once the index file has been compared.
    pub(crate) fn unverified(self) -> Self {
        match self {
            Opening::Index { file, .. } => Opening::Index { file, verify: false },
            track @ Opening::Track(_) => track,
        }
    }
}

/// What a video may cost.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Limits {
    /// Refuse videos whose pictures have more pixels: 8388608, 8192x4352
    #[arg(long, value_name = "N|WxH", default_value_t)]
    pub(crate) max_pixels: PixelCount,
    /// Memory for the pictures that all decoders have in work: 512M, 2G [default: an eighth of what the process is given, 256M to 1G]
    #[arg(long, value_name = "SIZE")]
    pub(crate) picture_memory: Option<MemorySize>,
    /// Refuse videos whose index takes more memory while it is made
    #[arg(long, value_name = "SIZE", default_value = "384M")]
    pub(crate) index_memory: MemorySize,
}

impl Limits {
    /// What they say to an engine.
    pub(crate) fn apply(self, builder: EngineBuilder) -> EngineBuilder {
        let builder = builder.max_pixels(self.max_pixels.0).index_memory(self.index_memory.0);
        match self.picture_memory {
            Some(MemorySize(bytes)) => builder.picture_memory(bytes),
            None => builder,
        }
    }
}

/// A number of pixels, as users write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PixelCount(pub(crate) u64);

impl Default for PixelCount {
    fn default() -> PixelCount {
        PixelCount(DEFAULT_MAX_PIXELS)
    }
}

impl std::fmt::Display for PixelCount {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

impl std::str::FromStr for PixelCount {
    type Err = String;

    /// `35651584`, `8192x4352`.
    fn from_str(text: &str) -> Result<PixelCount, String> {
        let number = |digits: &str| digits.parse::<u64>().ok();
        let pixels = match text.split_once(['x', 'X']) {
            Some((width, height)) => {
                number(width).zip(number(height)).and_then(|(width, height)| width.checked_mul(height))
            }
            None => number(text),
        };
        let pixels = pixels.filter(|pixels| *pixels > 0);
        pixels.map(PixelCount).ok_or_else(|| format!("{text:?} is neither a number of pixels nor WIDTHxHEIGHT"))
    }
}

#[cfg(feature = "server")]
impl<'de> serde::Deserialize<'de> for PixelCount {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<PixelCount, D::Error> {
        /// A file has a number or a text.
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Where pictures are decoded, as people write it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DeviceName(pub(crate) DeviceChoice);

impl std::str::FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<DeviceName, String> {
        text.parse().map(DeviceName)
    }
}

#[cfg(feature = "server")]
impl<'de> serde::Deserialize<'de> for DeviceName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<DeviceName, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A number of bytes, as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemorySize(pub(crate) u64);

#[cfg(feature = "server")]
impl<'de> serde::Deserialize<'de> for MemorySize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<MemorySize, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl std::str::FromStr for MemorySize {
    type Err = String;

    /// `1048576`, `512M`, `1.5G`, `512MiB`: always powers of 1024.
    fn from_str(text: &str) -> Result<MemorySize, String> {
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            unit => return Err(format!("{unit:?} is no unit of memory: K, M, G or T")),
        };
        let number: f64 = digits.parse().map_err(|_| format!("{digits:?} is no number"))?;
        let bytes = number * f64::from(1_u32 << (shift % 30)) * if shift >= 30 { f64::from(1 << 30) } else { 1.0 };
        if !(0.0..=1e15).contains(&bytes) {
            return Err(format!("{text} of memory is out of range"));
        }
        Ok(MemorySize(bytes as u64))
    }
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

#[derive(Debug, Args)]
#[command(after_help = SHEET_EXAMPLES)]
pub(crate) struct SheetArguments {
    /// The video: a path, or an address: http(s), s3, gs, az
    pub(crate) video: String,
    /// Where to write the sheet; the WebVTT file goes beside it. `-` writes the sheet alone to standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: String,
    /// Tiles a row
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) columns: u32,
    /// Tiles, evenly spread over the video; at most one a frame
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) count: u32,
    /// Width of a tile in pixels
    #[arg(long, default_value_t = 320, value_parser = clap::value_parser!(u32).range(1..=16383))]
    pub(crate) width: u32,
    /// jpeg, png or webp [default: as the name of the file says, else jpeg]
    #[arg(short, long, value_name = "FORMAT", value_parser = still_format)]
    pub(crate) format: Option<Format>,
    /// Quality of JPEG and WebP
    #[arg(short, long, default_value_t = 85, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) quality: u8,
    /// One JSON object on standard output
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) which: Which,
    /// What to do with frames that are known to be damaged: show them and say so, or leave their tiles black
    #[arg(long, value_name = "flag|error", default_value_t)]
    pub(crate) on_damage: OnDamage,
    /// Compare every decoded picture of H.265 with its hash in the stream, where it has one; one that does not match counts as
    /// damaged
    #[arg(long)]
    pub(crate) check_hashes: bool,
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// Threads for decoding [default: as libavcodec chooses]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) threads: Option<u16>,
    /// Where pictures are decoded: the processor, a GPU of NVIDIA's, or whichever takes less time
    #[arg(long, value_name = "auto|cpu|nvdec[:N]", default_value = "cpu")]
    pub(crate) device: DeviceName,
}

/// A format that a sheet can have.
fn still_format(text: &str) -> Result<Format, String> {
    let format = Format::from_str(text, false).ok().filter(|format| format.still().is_some());
    format.ok_or_else(|| "a sheet is jpeg, png or webp".to_owned())
}

const SHEET_EXAMPLES: &str = "\
Examples:
  bucket-streamer sheet cam.mp4 -o sheet.jpg
  bucket-streamer sheet cam.mp4 -o storyboard.webp --columns 10 --count 100 --width 160

A tile shows the frame in the middle of its part of the video. The .vtt file has a cue a tile: the
time that it stands for, and sheet.jpg#xywh=X,Y,WIDTH,HEIGHT.";

#[derive(Debug, Args)]
#[command(after_help = INDEX_EXAMPLES)]
pub(crate) struct IndexArguments {
    /// The video: a path, or an address: http(s), s3, gs, az
    pub(crate) video: String,
    /// Where to write the index file; `-` for standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: String,
    /// Which video track, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) track: usize,
    /// Leave out what each picture is made of: the file is made at once and is smaller, but every GOP is looked into anew
    #[arg(long)]
    pub(crate) no_references: bool,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

const INDEX_EXAMPLES: &str = "\
Examples:
  bucket-streamer index cam.ts -o cam.index
  bucket-streamer extract cam.ts --index cam.index --frames 120

The index is of this file as it is: it may be moved, but not changed. It is JSON, compressed with gzip.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// JPEG files, brought to JFIF's colour from the stream's
    Jpeg,
    /// The same picture as PNG files
    Png,
    /// The same picture as WebP files
    Webp,
    /// The planes as they are
    Raw,
    /// MD5 sums of the planes, as `ffmpeg -f framemd5` prints them
    Framemd5,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FitArgument {
    /// As large as fits inside, whole
    Contain,
    /// Fill it, cut off what stands out
    Cover,
    /// Fill it, stretched
    Fill,
}

impl Format {
    /// What kind of still it is, if it is one.
    pub(crate) fn still(self) -> Option<StillFormat> {
        match self {
            Format::Jpeg => Some(StillFormat::Jpeg),
            Format::Png => Some(StillFormat::Png),
            Format::Webp => Some(StillFormat::Webp),
            Format::Raw | Format::Framemd5 => None,
        }
    }

    /// What the names of files end with.
    pub(crate) fn extension(self) -> &'static str {
        self.still().map_or("yuv", StillFormat::extension)
    }
}

impl From<FitArgument> for Fit {
    fn from(fit: FitArgument) -> Fit {
        match fit {
            FitArgument::Contain => Fit::Contain,
            FitArgument::Cover => Fit::Cover,
            FitArgument::Fill => Fit::Fill,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MemorySize, PixelCount};

    #[test]
    fn sizes_as_people_write_them() {
        let bytes = |text: &str| text.parse::<MemorySize>().map(|size| size.0);
        assert_eq!(bytes("0"), Ok(0));
        assert_eq!(bytes("512M"), Ok(512 << 20));
        assert_eq!(bytes("1.5GiB"), Ok(3 << 29));
        assert_eq!(bytes("2t"), Ok(2 << 40));
        assert!(bytes("M").is_err() && bytes("12parsec").is_err() && bytes("-1").is_err() && bytes("9e99").is_err());
    }

    #[test]
    fn pixels_as_a_number_and_as_width_and_height() {
        let pixels = |text: &str| text.parse::<PixelCount>().map(|count| count.0);
        assert_eq!(pixels("35651584"), Ok(35_651_584));
        assert_eq!(pixels("8192x4352"), Ok(bucket_streamer::DEFAULT_MAX_PIXELS));
        assert_eq!(PixelCount::default().to_string().parse(), Ok(PixelCount::default()));
        for wrong in ["", "0", "-1", "8K", "0x4352", "8192x", "x", "1x2x3", "4294967296x4294967296", "1.5"] {
            assert!(pixels(wrong).is_err(), "{wrong}");
        }
    }
}
