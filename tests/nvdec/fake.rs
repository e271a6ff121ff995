//! Builds the fake driver and its oracle for a clip, and runs programs with it.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use bucket_streamer::bitstream::{Codec, h264};
use bucket_streamer::{Engine, Video};
use ffi::{Decoder, DecoderOutput, Frame, Packet, PixelFormat, Threads};
use tempfile::TempDir;

/// The largest oracle in bytes: more takes too long here.
const MOST_BYTES: usize = 256 << 20;

/// The files of the driver.
const DRIVER: [&str; 10] = [
    "driver/calls.c",
    "driver/memory.c",
    "driver/streams.c",
    "driver/copies.c",
    "driver/devices.c",
    "driver/oracle.c",
    "driver/decoders.c",
    "driver/decoding.c",
    "driver/frames.c",
    "kernel_host.c",
];

/// The driver's libraries, in a folder of their own.
pub(crate) struct Driver {
    folder: PathBuf,
}

impl Driver {
    /// Built once for all tests.
    pub(crate) fn build() -> Driver {
        static FOLDER: OnceLock<TempDir> = OnceLock::new();
        let folder = FOLDER.get_or_init(|| {
            let folder = tempfile::tempdir().expect("a folder");
            compile(&folder.path().join("libcuda.so.1"), &DRIVER);
            compile(&folder.path().join("libnvjpeg.so.12"), &["nvjpeg.c"]);
            std::os::unix::fs::symlink("libcuda.so.1", folder.path().join("libnvcuvid.so.1")).expect("a link");
            folder
        });
        Driver { folder: folder.path().to_owned() }
    }

    /// The driver's pictures of a clip; `None` for clips that it does not decode, or that are too large for a test.
    pub(crate) fn oracle(&self, clip: &Path) -> Option<Oracle> {
        let video = Engine::new(Some(1)).open_path(clip).ok()?;
        let (track, (width, height)) = (video.track(), video.track().parameters.size());
        let is_small = track.samples.len() * width * height * 3 <= MOST_BYTES;
        if !is_small || video.frame_count() == 0 {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("oracle");
        let hashes = (0..track.samples.len() as u32).map(|sample| hash(&video, sample)).collect::<Vec<_>>();
        let pictures = decode(&video);
        write(&path, &hashes, &pictures);
        Some(Oracle { path, frames: video.frame_count(), hashes, _folder: folder })
    }
}

fn compile(library: &Path, sources: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let headers = vendor::ensure(&mut |_| {}).expect("the vendored build").ffmpeg.join("include");
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(library);
    compile.arg("-I").arg(headers).arg("-I").arg(root.join("ffi/shim"));
    compile.args(sources.iter().map(|source| root.join("tests/nvdec").join(source))).arg("-lpthread");
    assert!(compile.status().expect("a C compiler").success());
}

/// The pictures of a clip, by the bytes that a driver gets for each.
pub(crate) struct Oracle {
    path: PathBuf,
    /// Frames of the clip.
    pub frames: usize,
    hashes: Vec<u64>,
    _folder: TempDir,
}

impl Oracle {
    /// The hash of a sample's data, in the form of the driver's settings.
    pub(crate) fn hash_of(&self, sample: usize) -> String {
        format!("{:x}", self.hashes[sample])
    }
}

/// FNV-1a of the data that libavcodec passes to the driver for a sample: its slices with start codes, of a field pair
/// the first field's.
fn hash(video: &Video, sample: u32) -> u64 {
    let track = video.track();
    let bytes = video.sample_bytes(sample).map(|bytes| bytes.data().to_vec()).unwrap_or_default();
    let mut given = Vec::new();
    let mut fields = 0;
    for unit in track.framing.units(&bytes) {
        let is_slice = match track.codec {
            Codec::Hevc => unit.len() > 2 && (unit[0] >> 1) & 63 < 32 && unit[0] & 1 == 0 && unit[1] >> 3 == 0,
            Codec::H264 => h264::kind(unit).is_some_and(h264::is_slice),
            _ => false,
        };
        if !is_slice {
            continue;
        }
        // first_mb_in_slice is 0: a picture or field begins.
        fields += usize::from(track.codec == Codec::H264 && unit.get(1).is_some_and(|byte| byte & 0x80 != 0));
        if fields < 2 {
            given.extend_from_slice(&[0, 0, 1]);
            given.extend_from_slice(unit);
        }
    }
    if track.codec == Codec::Vp9 {
        given = last_of_superframe(&bytes).to_vec();
    }
    fnv(&given)
}

/// The last frame of a VP9 sample, which is the one that is shown (VP9 bitstream specification, annex B).
fn last_of_superframe(bytes: &[u8]) -> &[u8] {
    let Some(&marker) = bytes.last().filter(|byte| **byte & 0xe0 == 0xc0) else { return bytes };
    let (frames, width) = (usize::from(marker & 7) + 1, usize::from(marker >> 3 & 3) + 1);
    let Some(index) = bytes.len().checked_sub(2 + frames * width).filter(|&index| bytes[index] == marker) else {
        return bytes;
    };
    let size = |frame: usize| {
        let at = index + 1 + frame * width;
        bytes[at..at + width].iter().rev().fold(0, |size, byte| size << 8 | usize::from(*byte))
    };
    let start: usize = (0..frames - 1).map(size).sum();
    bytes.get(start..start + size(frames - 1)).unwrap_or(bytes)
}

/// FNV-1a without zeros after a unit, as `hash_of` in `driver/oracle.c`.
fn fnv(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = 0;
    while at < bytes.len() {
        let Some(zeros) = bytes[at..].iter().position(|byte| *byte != 0) else { break };
        if zeros > 2 && bytes[at + zeros] == 1 {
            at += zeros - 2;
        }
        hash = (hash ^ u64::from(bytes[at])).wrapping_mul(0x100_0000_01b3);
        at += 1;
    }
    hash
}

/// All coded pictures with their margins, by sample.
fn decode(video: &Video) -> HashMap<u32, Frame> {
    let track = video.track();
    let mut decoder = Decoder::open(&track.parameters, Threads::One, false).expect("a decoder");
    decoder.keep_margins();
    let mut pictures = HashMap::new();
    let mut take = |decoder: &mut Decoder| {
        while let Ok(DecoderOutput::Picture(picture)) = decoder.receive() {
            if let Some(tag) = picture.tag() {
                pictures.insert(tag, picture);
            }
        }
    };
    let mut description = None;
    for sample in 0..track.samples.len() as u32 {
        let Ok(bytes) = video.sample_bytes(sample) else { continue };
        let mut packet = Packet::new(&bytes, sample, Some(i64::from(sample))).expect("a packet");
        let wanted = track.samples[sample as usize].description;
        if !track.descriptions.is_empty() && description.replace(wanted) != Some(wanted) {
            packet.set_new_extradata(&track.descriptions[usize::from(wanted)]).expect("memory");
        }
        let _ = decoder.send(&packet);
        take(&mut decoder);
    }
    let _ = decoder.send_end();
    take(&mut decoder);
    pictures
}

/// Format numbers of the driver's oracle.
fn kind_of(format: PixelFormat) -> Option<(u32, u32)> {
    match format.name() {
        "yuv420p" | "yuvj420p" => Some((0, 8)),
        "yuv420p10le" => Some((1, 10)),
        "yuv420p12le" => Some((1, 12)),
        "yuv444p" | "yuvj444p" => Some((2, 8)),
        "yuv444p10le" => Some((3, 10)),
        "yuv444p12le" => Some((3, 12)),
        _ => None,
    }
}

fn write(path: &Path, hashes: &[u64], pictures: &HashMap<u32, Frame>) {
    let known = |sample: u32| pictures.get(&sample).and_then(|picture| Some((picture, kind_of(picture.format())?)));
    let entries: Vec<_> = (0..)
        .zip(hashes)
        .filter_map(|(sample, &hash)| known(sample).map(|(picture, kind)| (hash, picture, kind)))
        .collect();
    let (mut head, mut planes) = (Vec::new(), Vec::new());
    head.extend_from_slice(b"FAKEORA1");
    head.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    let start = head.len() + 32 * entries.len();
    for (hash, picture, (format, depth)) in entries {
        head.extend_from_slice(&hash.to_le_bytes());
        head.extend_from_slice(&((start + planes.len()) as u64).to_le_bytes());
        for value in [picture.width() as u32, picture.height() as u32, format, depth] {
            head.extend_from_slice(&value.to_le_bytes());
        }
        for plane in (0..picture.planes()).filter_map(|index| picture.plane(index)) {
            plane.rows().for_each(|row| planes.extend_from_slice(row));
        }
    }
    let mut file = std::fs::File::create(path).expect("a file");
    file.write_all(&head).and_then(|()| file.write_all(&planes)).expect("room for an oracle");
}

/// A process with the fake GPU, or without one.
pub(crate) struct Run {
    environment: Vec<(String, String)>,
    folder: TempDir,
}

impl Run {
    /// A process with the GPU and this oracle.
    pub(crate) fn on(driver: &Driver, oracle: &Oracle) -> Run {
        let mut run = Run::without_card();
        let report = run.folder.path().join("report").display().to_string();
        run.set(&[
            ("LD_LIBRARY_PATH", &driver.folder.display().to_string()),
            ("FAKE_ORACLE", &oracle.path.display().to_string()),
            ("FAKE_REPORT", &report),
            ("FAKE_MIN_SIZE", "16"),
        ]);
        run
    }

    /// A process without a GPU.
    pub(crate) fn without_card() -> Run {
        Run { environment: Vec::new(), folder: tempfile::tempdir().expect("a folder") }
    }

    /// Settings of the driver; the last one of a name counts.
    pub(crate) fn set(&mut self, environment: &[(&str, &str)]) {
        self.environment.extend(environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).current_dir(self.folder.path());
        command
    }

    /// Runs bucket-streamer.
    pub(crate) fn output(&mut self, arguments: &[&str], clip: &Path) -> Output {
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_bucket-streamer")));
        command.args(arguments).arg(clip).output().expect("to start")
    }

    /// The same; returns standard output and standard error.
    pub(crate) fn program(&mut self, arguments: &[&str], clip: &Path) -> (String, String) {
        let output = self.output(arguments, clip);
        assert!(output.status.code().is_some(), "{arguments:?} {}: {:?}", clip.display(), output.status);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    }

    /// Runs one test of this file in a process of its own.
    pub(crate) fn again(&mut self, test: &str) {
        let mut command = self.command(&std::env::current_exe().expect("this program"));
        let output = command.args(["--exact", test, "--nocapture"]).output().expect("to start");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    /// The bytes of the file of a frame in an output folder of the program.
    pub(crate) fn only_file_with(&self, folder: &str, index: u32) -> Vec<u8> {
        let files = std::fs::read_dir(self.folder.path().join(folder)).expect("a folder").flatten();
        let number = format!("{index}");
        let is_it = |path: &PathBuf| {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            stem.trim_start_matches(|c: char| !c.is_ascii_digit()).trim_start_matches('0') == number
        };
        let found = files.map(|file| file.path()).find(is_it).expect("a file for the frame");
        std::fs::read(found).expect("the file")
    }

    /// The driver's counts.
    pub(crate) fn report(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(self.folder.path().join("report")).expect("the driver's report");
        serde_json::from_str(text.trim()).expect("JSON")
    }
}
