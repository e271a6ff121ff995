//! Test clips, and the vendored `ffmpeg` and `ffprobe` as their oracle.
#![allow(clippy::print_stderr, reason = "tests report what they leave out")]

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use bucket_streamer::still::raw;
use bucket_streamer::{Engine, OmittedFrames, Video};

/// The path of a file in `fixtures/`. It need not exist.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

/// The fixtures, and the clips of `$BUCKET_STREAMER_CORPUS` if that is set.
pub fn clips() -> Vec<PathBuf> {
    let mut clips = files(&fixture(""));
    match std::env::var_os("BUCKET_STREAMER_CORPUS") {
        Some(corpus) => {
            clips.extend(files(Path::new(&corpus)));
            clips.extend(files(&Path::new(&corpus).join("remux")));
        }
        None => eprintln!("BUCKET_STREAMER_CORPUS is not set: only the bundled fixtures are tested"),
    }
    clips
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let is_clip = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
        path.is_file() && !matches!(extension, "" | "md" | "py" | "txt")
    };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.retain(is_clip);
    files.sort();
    files
}

/// Writes a clip with overwritten bytes in the middle of a slice into a folder: the decoder detects the damage, and
/// conceals the rest of the picture.
pub fn damaged(folder: &Path) -> PathBuf {
    let mut bytes = std::fs::read(fixture("h264_bframes.mp4")).expect("the fixture");
    bytes[40_327..40_340].fill(0x55);
    let clip = folder.join("damaged.mp4");
    std::fs::write(&clip, bytes).expect("to write");
    clip
}

/// The damaged and the intact frames of a clip, both ascending, neither empty.
pub fn flagged_and_sound(clip: &Path) -> (Vec<u32>, Vec<u32>) {
    let video = Engine::new(Some(1)).open_path(clip).expect("a video");
    let all: Vec<u32> = (0..video.frame_count() as u32).collect();
    let mut frames: Vec<(u32, bool)> =
        video.frames(&all).filter_map(|(index, frame)| Some((index, frame.ok()?.is_corrupt()))).collect();
    frames.sort_unstable();
    let of = |is_corrupt: bool| {
        frames.iter().filter(|(_, corrupt)| *corrupt == is_corrupt).map(|(index, _)| *index).collect()
    };
    let (flagged, sound): (Vec<u32>, Vec<u32>) = (of(true), of(false));
    assert!(!flagged.is_empty() && !sound.is_empty(), "{flagged:?} {sound:?}");
    (flagged, sound)
}

/// The file name of a clip without its folder, for messages.
pub fn name(clip: &Path) -> String {
    clip.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The path of a program of the vendored build: `ffmpeg` or `ffprobe`. The first call builds it if necessary.
///
/// # Panics
/// If the build fails.
pub fn program(name: &str) -> PathBuf {
    static PREFIX: OnceLock<vendor::Prefix> = OnceLock::new();
    PREFIX.get_or_init(|| vendor::ensure(&mut |_| {}).expect("the vendored build")).program(name)
}

fn run(program_name: &str, arguments: &[&str], clip: &Path, more: &[&str]) -> String {
    let output = Command::new(program(program_name)).args(arguments).arg(clip).args(more).output().expect("to start");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// MD5s of all frames in output order, as the vendored `ffmpeg` decodes them.
pub fn oracle_md5s(clip: &Path) -> Vec<String> {
    let more = ["-map", "0:v:0", "-fps_mode", "passthrough", "-noautoscale", "-f", "framemd5", "-"];
    let text = run("ffmpeg", &["-v", "quiet", "-threads", "1", "-noautorotate", "-i"], clip, &more);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit(',').next()).map(|md5| md5.trim().to_owned()).collect()
}

/// Presentation times of all frames in output order, from `ffprobe`; `None` if the stream has none.
pub fn oracle_pts(clip: &Path) -> Vec<Option<i64>> {
    let arguments = ["-v", "quiet", "-select_streams", "v:0", "-show_entries", "frame=pts", "-of", "csv=p=0"];
    let text = run("ffprobe", &arguments, clip, &[]);
    let lines = text.lines().map(|line| line.trim_end_matches(',')).filter(|line| !line.is_empty());
    lines.map(|line| line.parse().ok()).collect()
}

/// Presentation time and sync flag of all packets that are shown, from `ffprobe`. With `noparse` the sync flags of an
/// MP4 come from its tables, not from slice headers.
pub fn oracle_packets(clip: &Path) -> Vec<(Option<i64>, bool)> {
    let arguments = ["-v", "quiet", "-select_streams", "v:0", "-show_entries", "packet=pts,flags", "-of", "csv=p=0"];
    let is_mov = clip.extension().is_some_and(|extension| extension == "mp4" || extension == "mov");
    let arguments: Vec<&str> =
        if is_mov { ["-fflags", "+noparse"].into_iter().chain(arguments).collect() } else { arguments.into() };
    let text = run("ffprobe", &arguments, clip, &[]);
    let packet = |line: &str| {
        let mut fields = line.split(',');
        let (pts, flags) = (fields.next()?, fields.next()?);
        (!flags.contains('D')).then(|| (pts.parse().ok(), flags.contains('K')))
    };
    text.lines().filter_map(packet).collect()
}

/// All frames of a sequential decode in its order, with number and MD5, and the numbers of the omitted frames.
pub fn play(video: &Video) -> (Vec<(u32, String)>, OmittedFrames) {
    let mut frames = Vec::new();
    let left_out = video
        .play(&mut |frame| {
            frames.push((frame.index, raw::hex(&raw::md5(&frame.picture))));
            ControlFlow::Continue(())
        })
        .expect("a sequential decode");
    (frames, left_out)
}

/// A sequential decode of a clip, shared by all tests of a file.
pub struct Sequential {
    /// Number and MD5, in output order.
    pub frames: Vec<(u32, String)>,
    /// Numbers of the frames that are not shown.
    pub left_out: Vec<u32>,
}

impl Sequential {
    /// The MD5 of each shown frame, by its number.
    pub fn by_number(&self) -> HashMap<u32, String> {
        self.frames.iter().cloned().collect()
    }
}

/// The sequential decode of a clip; `None` if it cannot be opened. Later calls with the same path return the same
/// decode.
pub fn sequential(clip: &Path) -> Option<Arc<Sequential>> {
    type Memory = Mutex<HashMap<PathBuf, Arc<OnceLock<Option<Arc<Sequential>>>>>>;
    static DECODED: OnceLock<Memory> = OnceLock::new();
    let cell =
        Arc::clone(DECODED.get_or_init(Memory::default).lock().expect("no panic").entry(clip.into()).or_default());
    cell.get_or_init(|| {
        let video = open(&Engine::new(None), clip)?;
        let (frames, left_out) = play(&video);
        Some(Arc::new(Sequential { frames, left_out: left_out.frames }))
    })
    .clone()
}

/// Opens a clip; an error is printed on standard error, and gives `None`.
pub fn open(engine: &Engine, clip: &Path) -> Option<Video> {
    match engine.open_path(clip) {
        Ok(video) => Some(video),
        Err(error) => {
            eprintln!("{}: {error}", name(clip));
            None
        }
    }
}

/// The number of videos for a test with many: `BUCKET_STREAMER_VIDEOS`, else 100,000 with `BUCKET_STREAMER_EXHAUSTIVE`,
/// else `usual`.
pub fn many_videos(usual: usize) -> usize {
    let configured = std::env::var("BUCKET_STREAMER_VIDEOS").ok().and_then(|text| text.parse().ok());
    configured.unwrap_or(if std::env::var_os("BUCKET_STREAMER_EXHAUSTIVE").is_some() { 100_000 } else { usual })
}

/// Creates this many videos in nested folders, as hard links to four small clips in rotation, and returns their names.
pub fn hard_links(folder: &Path, count: usize) -> Vec<String> {
    let clips = ["hevc_gray.mp4", "hevc_rotated.mp4", "h264_slices.mp4", "hevc_10bit.mp4"];
    let originals = clips.map(|clip| {
        let copy = folder.join(format!(".{clip}"));
        std::fs::copy(fixture(clip), &copy).expect("to copy");
        copy
    });
    let name = |number: usize| format!("{}/{}/{number}.mp4", number / 10_000, number / 100 % 100);
    for number in 0..count {
        let path = folder.join(name(number));
        if number % 100 == 0 {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("to make a folder");
        }
        std::fs::hard_link(&originals[number % originals.len()], path).expect("a link");
    }
    (0..count).map(name).collect()
}
