//! The clips of the benches: fixtures, and known clips of a corpus.
#![allow(clippy::print_stderr, reason = "says what is left out")]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bucket_streamer::{Engine, Frame, Video};

/// The same seed in every run, so that the frames are the same.
const SEED: u64 = 1;

/// An input file of the benches.
pub(crate) struct BenchClip {
    /// The name of the clip in the names of benches.
    pub name: String,
    path: PathBuf,
}

impl BenchClip {
    /// A file of the repository.
    pub(crate) fn fixture(name: &str) -> BenchClip {
        BenchClip::at(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name))
    }

    /// Any file.
    pub(crate) fn at(path: &Path) -> BenchClip {
        BenchClip { name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path: path.into() }
    }

    /// Opens the clip with a new, cold engine.
    pub(crate) fn open(&self) -> Video {
        Engine::new(Some(1)).open_path(&self.path).expect("a clip that can be opened")
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// These fixtures, and the existing ones of these clips of `$BUCKET_STREAMER_CORPUS`.
pub(crate) fn clips(fixtures: &[&str], corpus: &[&str]) -> Vec<BenchClip> {
    let mut clips: Vec<BenchClip> = fixtures.iter().map(|name| BenchClip::fixture(name)).collect();
    let Some(folder) = folder() else { return clips };
    for path in corpus.iter().map(|name| folder.join(name)) {
        if path.is_file() {
            clips.push(BenchClip::at(&path));
        } else {
            eprintln!("{} does not exist: left out", path.display());
        }
    }
    clips
}

fn folder() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let folder = std::env::var_os("BUCKET_STREAMER_CORPUS").map(PathBuf::from);
        if folder.is_none() {
            eprintln!("BUCKET_STREAMER_CORPUS is not set: only the bundled fixtures are measured, nothing in 1080p");
        }
        folder
    };
    FOLDER.get_or_init(find).as_deref()
}

/// Distinct frames of a video in random order; `lot` selects the set.
pub(crate) fn random_frames(video: &Video, count: usize, lot: u64) -> Vec<u32> {
    let mut random = fastrand::Rng::with_seed(SEED + lot);
    let mut frames = random.choose_multiple(0..video.frame_count() as u32, count);
    random.shuffle(&mut frames);
    frames
}

/// The decoded picture in the middle of a video.
pub(crate) fn picture(video: &Video) -> Frame {
    video.frame(video.frame_count() as u32 / 2).expect("a frame that can be decoded").picture
}

/// The number of pixels of a picture, for throughput.
pub(crate) fn pixels(video: &Video) -> u64 {
    let (width, height) = video.track().parameters.size();
    (width * height) as u64
}
