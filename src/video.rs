//! The engine's face: open a video, ask for frames.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ffi::{AvError, Color, Frame, PixelFormat, Rational, Threads};

use crate::bitstream::Codec;
use crate::container::{Sample, Track};
use crate::decode::pool::Key;
use crate::decode::{Event, Lease, Pool, Walk};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Depth, Job, Planner};
use crate::source::{Counted, MappedSource, Source};
use crate::time::{Nanos, Timeline};

/// What all videos of a process share: open decoders, and how many threads one may use.
#[derive(Debug, Clone)]
pub struct Engine {
    pool: Arc<Pool>,
    threads: usize,
    decoder_threads: usize,
}

/// Decoders that stay open when nobody uses them.
const IDLE_DECODERS: usize = 4;

impl Engine {
    /// An engine whose decoders use `threads` threads; `None` for as many as libavcodec takes by itself.
    pub fn new(threads: Option<usize>) -> Engine {
        let cores = ffi::cpu_count();
        // Left to itself, libavcodec takes one thread more than there are cores, and what it makes of a damaged H.264
        // picture depends on that number: the same here, so that a sequential decode is everybody's.
        let automatic = if cores > 1 { (cores + 1).min(16) } else { 1 };
        Engine {
            pool: Pool::new(IDLE_DECODERS),
            threads: threads.unwrap_or(cores).max(1),
            decoder_threads: threads.unwrap_or(automatic).max(1),
        }
    }

    /// Opens a local file's first video track.
    ///
    /// # Errors
    /// See [`Engine::open`].
    pub fn open_path(&self, path: impl AsRef<Path>) -> Result<Video> {
        self.open(Arc::new(MappedSource::open(path)?), 0)
    }

    /// Opens video track `track` (counted from 0) of a source: reads its index, decodes nothing.
    ///
    /// # Errors
    /// What makes a video unreadable, see [`ErrorKind`].
    pub fn open(&self, source: Arc<dyn Source>, track: usize) -> Result<Video> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let before = source.counters().now();
        let track = Track::open(&source, track)?;
        let after = source.counters().now();
        let opened_with = Counted {
            requests: after.requests - before.requests,
            bytes: after.bytes - before.bytes,
            copied: after.copied - before.copied,
        };
        Ok(Video {
            planner: Planner::new(&track),
            timeline: Timeline::of(&track),
            engine: self.clone(),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            source,
            track,
            opened_with,
        })
    }

    /// Threads that were asked for, or the number of cores.
    pub fn threads(&self) -> usize {
        self.threads
    }
}

/// An open video: one track, indexed. Can be shared between threads.
#[derive(Debug)]
pub struct Video {
    engine: Engine,
    id: u64,
    source: Arc<dyn Source>,
    track: Track,
    planner: Planner,
    timeline: Timeline,
    opened_with: Counted,
}

/// A frame: which one, and its picture.
#[derive(Debug, Clone)]
pub struct VideoFrame {
    /// Number in presentation order, from 0.
    pub index: u32,
    /// Number of its sample in decode order.
    pub sample: u32,
    /// Presentation time in ticks of the stream.
    pub pts: i64,
    /// Duration in ticks of the stream, 0 if unknown.
    pub duration: i64,
    /// The container's sync flag.
    pub key: bool,
    /// The planes, the stream's own pixel format. libavcodec may say of it that it is damaged.
    pub picture: Frame,
}

/// What decoding the first frame tells of a stream.
#[derive(Debug, Clone)]
pub struct Described {
    /// Pixel format.
    pub format: Option<PixelFormat>,
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// Colour description.
    pub color: Color,
    /// Sample aspect ratio, `(0, 1)` if unknown.
    pub sample_aspect_ratio: Rational,
    /// Profile, as FFmpeg calls it.
    pub profile: Option<&'static str>,
}

/// What a sequential decode left out.
#[derive(Debug, Default)]
pub struct LeftOut {
    /// Frames that came to nothing, ascending.
    pub frames: Vec<u32>,
    /// What the decoder said, if it said anything: then they are damaged, else not meant to be shown from here.
    pub damage: Option<AvError>,
    /// What could not be read.
    pub unreadable: Vec<Error>,
}

impl LeftOut {
    /// True if something was wrong with the file, rather than pictures not meant to be shown.
    pub fn is_damaged(&self) -> bool {
        self.damage.is_some() || !self.unreadable.is_empty()
    }
}

impl Video {
    /// The index.
    pub fn track(&self) -> &Track {
        &self.track
    }

    /// The bytes.
    pub fn source(&self) -> &dyn Source {
        &*self.source
    }

    /// Number of frames: displayable samples, whether or not they can be decoded.
    pub fn frame_count(&self) -> usize {
        self.track.frames.len()
    }

    /// When frames are shown.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// The frame on show at a time: see [`Timeline::frame_at`].
    ///
    /// # Errors
    /// `PastEndOfVideo`.
    pub fn frame_at(&self, time: Nanos, clamp: bool) -> Result<u32> {
        self.timeline.frame_at(time, clamp).map_err(|error| error.of(self.source.name()))
    }

    /// What opening took.
    pub fn opened_with(&self) -> Counted {
        self.opened_with
    }

    /// The sample of a frame; `None` past the last.
    pub fn sample_of(&self, frame: u32) -> Option<&Sample> {
        Some(&self.track.samples[*self.track.frames.get(frame as usize)? as usize])
    }

    /// One frame, exact.
    ///
    /// # Errors
    /// `NoSuchFrame`, `NotShown`, `Damaged`, and those of the source.
    pub fn frame(&self, index: u32) -> Result<VideoFrame> {
        let mut result = None;
        self.frames(&[index], &mut |_, frame| {
            result = Some(frame);
            ControlFlow::Continue(())
        })?;
        result.unwrap_or_else(|| Err(Error::from(ErrorKind::NotShown).at_frame(index).of(self.source.name())))
    }

    /// Frames in any order, duplicates allowed. `sink` gets every distinct one once, as it comes (in decode order, GOP
    /// by GOP), and may break off.
    ///
    /// # Errors
    /// Only what stops everything: no decoder, no memory. A frame that cannot be had is an error given to `sink`.
    pub fn frames(
        &self,
        indices: &[u32],
        sink: &mut dyn FnMut(u32, Result<VideoFrame>) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut pending = BTreeMap::new();
        let frames = self.frame_count();
        for &index in indices.iter().collect::<BTreeSet<_>>() {
            match self.track.frames.get(index as usize) {
                Some(&sample) => {
                    pending.insert(sample, index);
                }
                None => {
                    let error = Error::from(ErrorKind::NoSuchFrame { frames }).at_frame(index).of(self.source.name());
                    if sink(index, Err(error)).is_break() {
                        return Ok(());
                    }
                }
            }
        }
        for depth in [Depth::Nearest, Depth::Earlier, Depth::Sequential] {
            let targets: Vec<u32> = pending.keys().copied().collect();
            for job in self.planner.plan(&self.track, &*self.source, &targets, depth) {
                if self.run(&job, depth, &mut pending, sink)?.is_break() {
                    return Ok(());
                }
            }
        }
        debug_assert!(pending.is_empty(), "every frame gets one answer");
        Ok(())
    }

    /// Makes one walk. Targets that it settles leave `pending`: a picture that nothing speaks against, and at the last
    /// resort whatever a sequential decode would give.
    fn run(
        &self,
        job: &Job,
        depth: Depth,
        pending: &mut BTreeMap<u32, u32>,
        sink: &mut dyn FnMut(u32, Result<VideoFrame>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        // The first try reads in place. A second one is made only when something is wrong, and then with zeros behind
        // each sample, as a sequential reader has them: a damaged sample may make the decoder look there.
        let zeros = depth > Depth::Nearest;
        let conceals = self.track.codec == Codec::H264;
        let is_last_resort = depth == Depth::Sequential || (zeros && job.is_self_contained && !conceals);
        let mut damage: Option<AvError> = None;
        let mut unreadable: Option<String> = None;
        let mut left = job.targets.len();
        // Pictures that another job waits for may pass by here too, from an entry that does not promise them.
        let mut take = |sample: u32| {
            job.targets.binary_search(&sample).ok()?;
            let index = pending.remove(&sample)?;
            left -= 1;
            Some((index, left == 0))
        };
        let stopped = Cell::new(false);
        let mut give = |index: u32, result: Result<VideoFrame>| {
            let flow = sink(index, result);
            stopped.set(flow.is_break());
            flow
        };
        let mut lease = self.lease(is_last_resort)?;
        let walk = self.walk(zeros);
        let _ = walk.run(&mut lease, job.entry, job.last, &mut |event| match event {
            Event::Damage(error) => {
                damage.get_or_insert(error);
                ControlFlow::Continue(())
            }
            Event::Unreadable(sample, error) => {
                damage.get_or_insert(AvError::INVALID_DATA);
                unreadable.get_or_insert_with(|| format!("{} (sample {sample})", error.message()));
                let Some((index, _)) = take(sample) else { return ControlFlow::Continue(()) };
                give(index, Err(error.at_frame(index)))
            }
            Event::Picture(sample, picture) => {
                if (damage.is_some() || picture.is_corrupt()) && !is_last_resort {
                    damage.get_or_insert(AvError::INVALID_DATA);
                    return ControlFlow::Continue(());
                }
                let Some((index, is_last)) = take(sample) else { return ControlFlow::Continue(()) };
                let result = self.source.check().map(|()| self.video_frame(index, sample, picture));
                give(index, result.map_err(|error| error.at_frame(index)))?;
                // Nothing is left to wait for: what is still in the decoder nobody asked for.
                if is_last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
        })?;
        if stopped.get() {
            return Ok(ControlFlow::Break(()));
        }
        if left == 0 {
            return Ok(ControlFlow::Continue(()));
        }
        let is_settled = is_last_resort || (damage.is_none() && job.is_self_contained);
        if !is_settled {
            return Ok(ControlFlow::Continue(()));
        }
        for &sample in &job.targets {
            let Some(index) = pending.remove(&sample) else { continue };
            if give(index, Err(self.missing(index, sample, damage, unreadable.as_deref()))).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn missing(&self, index: u32, sample: u32, damage: Option<AvError>, unreadable: Option<&str>) -> Error {
        let kind = match (unreadable, damage) {
            (Some(why), _) => ErrorKind::NeedsUnreadable(why.to_owned()),
            (None, Some(error)) => ErrorKind::Damaged(error),
            (None, None) => ErrorKind::NotShown,
        };
        let offset = self.track.samples[sample as usize].offset;
        let error = Error::from(kind).at_frame(index).at_sample(sample, Some(offset)).of(self.source.name());
        // A source that changed explains a missing picture better than anything else.
        self.source.check().err().map_or(error, |changed| changed.at_frame(index))
    }

    /// All frames as a sequential decode shows them, in its order. What it does not show is left out and reported.
    ///
    /// # Errors
    /// What stops everything: no decoder, no memory, a source that changed.
    pub fn play(&self, sink: &mut dyn FnMut(VideoFrame) -> ControlFlow<()>) -> Result<LeftOut> {
        let mut shown = vec![false; self.frame_count()];
        let mut left_out = LeftOut::default();
        // At the first sign of damage everything is decoded again, with zeros behind each sample (see `run`); what was
        // shown by then was not touched by it.
        for zeros in [false, true] {
            let mut changed = None;
            let (mut damaged, mut stopped) = (false, false);
            left_out = LeftOut::default();
            let last = self.track.samples.len() as u32 - 1;
            let _ = self.walk(zeros).run(&mut self.lease(zeros)?, 0, last, &mut |event| {
                damaged |= match &event {
                    Event::Picture(_, picture) => picture.is_corrupt(),
                    _ => true,
                };
                if damaged && !zeros {
                    return ControlFlow::Break(());
                }
                match event {
                    Event::Damage(error) => left_out.damage = left_out.damage.or(Some(error)),
                    Event::Unreadable(_, error) => left_out.unreadable.push(error),
                    Event::Picture(sample, picture) => {
                        let Some(index) = self.planner.frame_of(sample) else {
                            return ControlFlow::Continue(());
                        };
                        if std::mem::replace(&mut shown[index as usize], true) {
                            return ControlFlow::Continue(());
                        }
                        if let Err(error) = self.source.check() {
                            changed = Some(error.at_frame(index));
                            return ControlFlow::Break(());
                        }
                        let flow = sink(self.video_frame(index, sample, picture));
                        stopped |= flow.is_break();
                        return flow;
                    }
                }
                ControlFlow::Continue(())
            })?;
            if let Some(error) = changed {
                return Err(error);
            }
            if !damaged || stopped {
                break;
            }
        }
        self.source.check()?;
        left_out.frames = (0..).zip(&shown).filter(|(_, shown)| !**shown).map(|(index, _)| index).collect();
        Ok(left_out)
    }

    /// Decodes the first frame to learn what only pictures tell.
    ///
    /// # Errors
    /// As [`Video::frame`]; what can be told without a picture is in [`Video::track`].
    pub fn describe(&self) -> Result<Described> {
        let parameters = &self.track.parameters;
        let mut described = Described {
            format: parameters.pixel_format(),
            size: parameters.size(),
            color: parameters.color(),
            sample_aspect_ratio: self.track.sample_aspect_ratio,
            profile: None,
        };
        let Some(shown) = (0..self.frame_count().min(32) as u32).find_map(|index| self.frame(index).ok()) else {
            return Ok(described);
        };
        described.format = Some(shown.picture.format());
        described.size = (shown.picture.width(), shown.picture.height());
        described.color = shown.picture.color();
        if described.sample_aspect_ratio.0 == 0 {
            described.sample_aspect_ratio = shown.picture.sample_aspect_ratio();
        }
        // The decoder that has just been used knows the profile.
        described.profile = self.lease(false)?.decoder().profile_name();
        Ok(described)
    }

    fn video_frame(&self, index: u32, sample: u32, picture: Frame) -> VideoFrame {
        let at = &self.track.samples[sample as usize];
        VideoFrame { index, sample, pts: at.pts, duration: at.duration, key: at.key, picture }
    }

    fn walk(&self, zeros: bool) -> Walk<'_> {
        // VP9 does not notice damage: its range decoder reads on past the end of the data. So there is no second try.
        let zeros = zeros || self.track.codec == Codec::Vp9;
        Walk { track: &self.track, source: &*self.source, planner: &self.planner, zeros }
    }

    /// A decoder. For a last resort one that nothing has been through: what it makes of damage depends on what it has
    /// seen. Else, in H.265, one that reports damage: libavcodec keeps slices to itself that it could not decode.
    fn lease(&self, is_last_resort: bool) -> Result<Lease> {
        let threads = match self.engine.decoder_threads {
            1 => Threads::One,
            threads => Threads::Frame(threads),
        };
        let key = Key { video: self.id, threads, strict: !is_last_resort && self.track.codec == Codec::Hevc };
        let pool = &self.engine.pool;
        let lease = if is_last_resort { pool.lease_fresh(key, &self.track) } else { pool.lease(key, &self.track) };
        lease.map_err(|error| error.of(self.source.name()))
    }
}

impl Drop for Video {
    fn drop(&mut self) {
        self.engine.pool.forget(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::Engine;

    #[test]
    fn who_breaks_off_is_not_called_again() {
        let engine = Engine::new(Some(1));
        let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/hevc_closed_gop.mp4");
        let video = engine.open_path(clip).unwrap();
        // A walk for each; the last one is no frame at all.
        for indices in [&[0, 60, 120][..], &[500, 600, 0]] {
            let mut calls = 0;
            let sink = &mut |_, _| {
                calls += 1;
                ControlFlow::Break(())
            };
            video.frames(indices, sink).unwrap();
            assert_eq!(calls, 1, "{indices:?}");
        }
    }
}
