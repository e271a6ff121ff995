//! Clips with the sequential decode of each of their frames.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bucket_streamer::{Engine, Video};

use testing::clips::{name, open, sequential};

use crate::lock;

/// The result of a frame in a sequential decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Truth {
    /// Its MD5.
    Shown(String),
    NotShown,
    /// Damaged, with varying results.
    Any,
}

pub(crate) struct Clip {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) is_damaged: bool,
    /// Pixels of a picture.
    pub(crate) pixels: usize,
    /// By number of threads. Intact clips have the same results for all: these are under 0.
    pub(crate) truths: Mutex<HashMap<usize, Arc<Vec<Truth>>>>,
}

impl Clip {
    pub(crate) fn of(path: PathBuf) -> Option<Clip> {
        let video = open(&Engine::new(Some(1)), &path)?;
        let count = video.frame_count();
        if count == 0 {
            return None;
        }
        let sequential = sequential(&path)?;
        let (width, height) = video.track().parameters.size();
        let mut shown = sequential.by_number();
        let truth = |frame| shown.remove(&frame).map_or(Truth::NotShown, Truth::Shown);
        let truths: Vec<Truth> = (0..count as u32).map(truth).collect();
        // Only damaged frames, and those that are not shown, are missing.
        let is_damaged = truths.contains(&Truth::NotShown) && is_damaged(&video);
        let name = name(&path);
        let is_damaged =
            is_damaged || name.contains("damaged") || name.contains("truncated") || name.starts_with("bad_");
        let truths = if is_damaged { HashMap::new() } else { HashMap::from([(0, Arc::new(truths))]) };
        Some(Clip { path, name, is_damaged, pixels: width * height, truths: Mutex::new(truths) })
    }

    /// The expected results of an engine with `threads` threads.
    pub(crate) fn truths(&self, threads: usize) -> Arc<Vec<Truth>> {
        let key = if self.is_damaged { threads } else { 0 };
        if let Some(known) = lock(&self.truths).get(&key) {
            return Arc::clone(known);
        }
        let mut truths: Vec<Truth> = Vec::new();
        for attempt in 0..3 {
            let video = open(&Engine::new(Some(threads)), &self.path).expect("opened before");
            let mut shown: HashMap<u32, String> = testing::clips::play(&video).0.into_iter().collect();
            let now = (0..video.frame_count() as u32).map(|it| shown.remove(&it).map_or(Truth::NotShown, Truth::Shown));
            if attempt == 0 {
                truths = now.collect();
            } else {
                truths.iter_mut().zip(now).filter(|(before, now)| *before != now).for_each(|(it, _)| *it = Truth::Any);
            }
        }
        let unstable = truths.iter().filter(|truth| **truth == Truth::Any).count();
        let missing = truths.iter().filter(|truth| **truth == Truth::NotShown).count();
        eprintln!("{}: damaged; with {threads} threads {unstable} frames vary, {missing} are not shown", self.name);
        Arc::clone(lock(&self.truths).entry(key).or_insert(Arc::new(truths)))
    }
}

pub(crate) fn is_damaged(video: &Video) -> bool {
    let mut is_damaged = false;
    let left_out = video.play(&mut |frame| {
        is_damaged |= frame.picture.is_corrupt();
        ControlFlow::Continue(())
    });
    is_damaged || left_out.is_ok_and(|left_out| left_out.is_damaged())
}
