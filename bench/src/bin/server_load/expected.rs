//! The videos, and the expected still of every frame: computed before the clock starts.

use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bucket_streamer::pixels::{Fit, Shape};
use bucket_streamer::still::{StillMaker, StillOptions};
use bucket_streamer::{Engine, Result};
use md5::{Digest, Md5};

use crate::plan::Plan;

/// The MD5 of a still.
pub(crate) type Sum = [u8; 16];

/// The MD5 of a still.
pub(crate) fn sum(still: &[u8]) -> Sum {
    Md5::digest(still).into()
}

/// A video under the server's name, and the frames that a sequential decode shows.
pub(crate) struct LoadVideo {
    pub(crate) name: String,
    pub(crate) frames: Arc<Vec<(u32, Sum)>>,
}

/// The first videos of the folder, by name. Copies of the same file are decoded once.
pub(crate) fn videos(plan: &Plan) -> std::result::Result<Vec<LoadVideo>, String> {
    let mut files = Vec::new();
    collect(&plan.folder, &mut files).map_err(|error| format!("{}: {error}", plan.folder.display()))?;
    files.sort();
    let mut distinct: HashMap<Sum, PathBuf> = HashMap::new();
    let contents: Vec<(PathBuf, Sum)> = files
        .into_iter()
        .filter_map(|file| {
            let content = sum(&fs::read(&file).ok()?);
            distinct.entry(content).or_insert_with(|| file.clone());
            Some((file, content))
        })
        .collect();
    let (next, known) = (AtomicUsize::new(0), Mutex::new(HashMap::new()));
    let distinct: Vec<(Sum, PathBuf)> = distinct.into_iter().collect();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((content, file)) = distinct.get(next.fetch_add(1, Relaxed)) {
                    match stills(plan, file) {
                        Ok(frames) => _ = known.lock().expect("no panic").insert(*content, Arc::new(frames)),
                        Err(error) => println!("left out: {error}"),
                    }
                }
            });
        }
    });
    let known = known.into_inner().expect("no panic");
    let video = |(file, content): (PathBuf, Sum)| {
        let frames = Arc::clone(known.get(&content)?);
        let below = file.strip_prefix(&plan.folder).ok()?.to_string_lossy().into_owned();
        let name = if plan.root.is_empty() { below } else { format!("{}/{below}", plan.root) };
        (!frames.is_empty()).then_some(LoadVideo { name, frames })
    };
    let videos: Vec<LoadVideo> = contents.into_iter().filter_map(video).take(plan.videos).collect();
    if videos.is_empty() { Err(format!("{}: no videos", plan.folder.display())) } else { Ok(videos) }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn stills(plan: &Plan, file: &Path) -> Result<Vec<(u32, Sum)>> {
    // The same number of threads as the server's: the result for damaged H.264 depends on it.
    let engine = Engine::builder().checkpoint_memory(0).build();
    let video = engine.open_path(file)?;
    let usual = video.still_options();
    let shape = Shape { width: plan.width, height: None, fit: Fit::Contain };
    let options = StillOptions { shape, quality: plan.quality, ..usual };
    let (mut maker, mut bytes, mut frames) = (StillMaker::new()?, Vec::new(), Vec::new());
    video.play(&mut |frame| {
        // A damaged frame may look different when it is requested alone.
        if !frame.is_corrupt() && maker.encode(&frame.picture, &options, &mut bytes).is_ok() {
            frames.push((frame.index, sum(&bytes)));
        }
        if frames.len() < plan.frames { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(frames)
}
