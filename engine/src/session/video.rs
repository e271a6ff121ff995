//! An open video: ask it for frames.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use ffi::{PaddedBytes, Threads};

use crate::bitstream::Codec;
use crate::bitstream::parameter_sets::History;
use crate::container::{Index, Sample, Track};
use crate::decode::workers::Account;
use crate::decode::{DecodeRun, Event};
use crate::device::Residency;
use crate::error::{Error, ErrorKind, Result};
use crate::picture_memory::Kind;
use crate::pixels::ColourOptions;
use crate::plan::{Depth, Planner, References};
use crate::process::{Owned, WeakOwned};
use crate::session::frame::{DecodedFrame, Described, DeviceFrame, LeftOut, VideoFrame};
use crate::session::in_order::InOrder;
use crate::session::prefetch::pattern::AccessPattern;
use crate::session::results::{Charged, FrameFuture, Frames};
use crate::session::schedule;
use crate::session::sequence::Sequence;
use crate::session::shared::{EngineState, VideoState};
use crate::source::{Counted, Source};
use crate::still::{StillOptions, Turn, may_be_made_there};
use crate::time::{Nanos, Timeline};

/// An open video: one track, indexed. Can be shared between threads; cheap to clone, the clones share everything.
#[derive(Debug, Clone)]
pub struct Video {
    pub(crate) shared: Owned<VideoState>,
}

/// A video that may be closed by now: what is kept by video need not keep it open.
#[derive(Debug, Clone)]
pub struct WeakVideo(WeakOwned<VideoState>);

impl WeakVideo {
    /// The video, if it is still open.
    pub fn upgrade(&self) -> Option<Video> {
        self.0.upgrade().map(|shared| Video { shared })
    }

    /// True once the video is closed.
    pub fn is_closed(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl Video {
    pub(crate) fn open(
        engine: &Arc<EngineState>,
        source: Arc<dyn Source>,
        track: impl FnOnce(&Arc<dyn Source>) -> Result<Track>,
    ) -> Result<Video> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let before = source.counters().now();
        let track = track(&source)?;
        let (width, height) = track.parameters.size();
        let limit = engine.max_pixels;
        if width as u64 * height as u64 > limit {
            return Err(Error::from(ErrorKind::TooManyPixels { width, height, limit }).of(source.name()));
        }
        let (after, opening) = (source.counters().now(), source.opening());
        let opened_with = Counted {
            requests: opening.requests + after.requests - before.requests,
            bytes: opening.bytes + after.bytes - before.bytes,
            copied: after.copied - before.copied,
            hedged: opening.hedged + after.hedged - before.hedged,
        };
        let shared = VideoState {
            planner: Planner::new(&track),
            references: References::new(),
            timeline: Timeline::of(&track),
            engine: Arc::clone(engine),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            source,
            track,
            opened_with,
            pattern: AccessPattern::default(),
            rows_side_by_side: OnceLock::new(),
            key_frames: OnceLock::new(),
            is_refused: AtomicBool::new(false),
            pictures_of_run: Default::default(),
            ends_anywhere: OnceLock::new(),
        };
        Ok(Video { shared: Owned::of(Arc::new(shared), engine.owner) })
    }

    /// `Forked` in a child of the process that has opened the video.
    fn check_process(&self) -> Result<()> {
        self.shared.check().map_err(|error| error.of(self.source().name()))
    }

    /// The index.
    pub fn track(&self) -> &Track {
        &self.shared.track
    }

    /// The index as something that can be kept, with what every sample is made of: see [`Engine::open_with_index`](crate::Engine::open_with_index). Reads
    /// all samples, unless the video was opened with such an index.
    ///
    /// # Errors
    /// Those of the source.
    pub fn export_index(&self) -> Result<Index> {
        self.check_process()?;
        let told = self.shared.planner.told(self.track());
        let learned = told.is_none().then(|| self.shared.planner.learn(self.track(), self.source()));
        Index::of(self.track(), self.source(), told.or(learned.as_ref()))
    }

    /// The index without what samples are made of: made at once, and smaller. Reads the ends of the source.
    ///
    /// # Errors
    /// Those of the source.
    pub fn export_index_without_references(&self) -> Result<Index> {
        self.check_process()?;
        Index::of(self.track(), self.source(), None)
    }

    /// The index with what an index file told, for whoever knows the source by its version. Reads nothing.
    pub(crate) fn export_known_index(&self) -> Result<Index> {
        Index::of_known(self.track(), self.source(), self.shared.planner.told(self.track()))
    }

    /// Bytes that the index takes, with what was learned of references, about.
    pub fn index_bytes(&self) -> u64 {
        let track = self.track();
        let samples = track.samples.len() * (size_of::<Sample>() + 2 * size_of::<u32>());
        let keys = self.shared.key_frames.get().map_or(0, |keys| keys.len());
        // A frame has its sample's number, and a time in the timeline.
        let frames = track.frames.len() * (size_of::<u32>() + size_of::<i64>()) + keys * size_of::<u32>();
        let sets = track.history.as_ref().map_or(0, History::bytes);
        let learned = if self.shared.is_here() { self.shared.references.bytes() } else { 0 };
        let all = samples + frames + sets + learned + track.parameters.extradata().len();
        all as u64 + track.elsewhere.bytes()
    }

    /// The bytes.
    pub fn source(&self) -> &dyn Source {
        &*self.shared.source
    }

    /// Number of frames: displayable samples, whether or not they can be decoded.
    pub fn frame_count(&self) -> usize {
        self.shared.track.frames.len()
    }

    /// When frames are shown.
    pub fn timeline(&self) -> &Timeline {
        &self.shared.timeline
    }

    /// The number of the frame on show at a time: see [`Timeline::frame_at`].
    ///
    /// # Errors
    /// `PastEndOfVideo`.
    pub fn index_at(&self, time: Nanos, clamp: bool) -> Result<u32> {
        self.shared.timeline.frame_at(time, clamp).map_err(|error| error.of(self.source().name()))
    }

    /// What opening took.
    pub fn opened_with(&self) -> Counted {
        self.shared.opened_with
    }

    /// The sample of a frame; `None` past the last.
    pub fn sample_of(&self, frame: u32) -> Option<&Sample> {
        Some(&self.shared.track.samples[*self.shared.track.frames.get(frame as usize)? as usize])
    }

    /// The bytes of a sample (counted in decode order) as a decoder gets them first.
    ///
    /// # Errors
    /// Of the source, with the sample's place.
    ///
    /// # Panics
    /// For a number that is not one of the track's.
    pub fn sample_bytes(&self, sample: u32) -> Result<PaddedBytes> {
        self.check_process()?;
        self.shared.track.read(self.source(), sample, self.shared.reader(false).zeros)
    }

    /// What a decoder does with so many threads for these samples (in decode order), where it is the only one at work.
    pub fn use_of_threads(&self, threads: usize, samples: &[u32]) -> Threads {
        if self.shared.is_here() { self.shared.use_of(threads, samples) } else { Threads::One }
    }

    /// What an engine that has decoded nothing yet would decode for frames that are asked for together: runs of samples,
    /// with the samples among them whose pictures are the frames. Frames that do not exist need nothing.
    pub fn plan(&self, indices: &[u32]) -> Vec<(Vec<u32>, Vec<u32>)> {
        if self.shared.is_here() { schedule::cold_plan(&self.shared, indices) } else { Vec::new() }
    }

    /// One frame, exact.
    ///
    /// # Errors
    /// `NoSuchFrame`, `NotShown`, `Damaged`, and those of the source.
    pub fn frame(&self, index: u32) -> Result<VideoFrame> {
        schedule::frame(self.shared.arc(), index)
    }

    /// One frame, exact, without waiting for it: a future for any runtime. The work begins at once; dropping the future
    /// ends it.
    ///
    /// # Errors
    /// As [`Video::frame`], when polled.
    pub fn frame_async(&self, index: u32) -> FrameFuture {
        schedule::frame_async(self.shared.arc(), index)
    }

    /// The frame on show at a time: see [`Timeline::frame_at`].
    ///
    /// # Errors
    /// `PastEndOfVideo`, and as [`Video::frame`].
    pub fn frame_at(&self, time: Nanos, clamp: bool) -> Result<VideoFrame> {
        self.frame(self.index_at(time, clamp)?)
    }

    /// Frames in any order, duplicates allowed, as a batch: every distinct one once, as it comes (in decode order, GOP by
    /// GOP). No picture is decoded that none of them needs, and none twice. The result is an iterator that waits, and a
    /// [`futures_core::Stream`]; dropping it ends the work.
    ///
    /// ```no_run
    /// # let video = bucket_streamer::Engine::new(None).open_path("cam.mp4")?;
    /// for (index, frame) in video.frames(&[120, 7, 300]) {
    ///     println!("frame {index} is shown at {}", frame?.pts);
    /// }
    /// # Ok::<(), bucket_streamer::Error>(())
    /// ```
    pub fn frames(&self, indices: &[u32]) -> Frames {
        schedule::frames(self.shared.arc(), indices)
    }

    /// What `make` makes of frames, as [`Video::frames`] brings them. It is called on the engine's own threads, by the one
    /// that has decoded the frame: where the frames are spread over many GOPs, all cores share that work too, and no
    /// picture changes cores. While it runs its thread decodes nothing.
    pub fn frames_with<T: Send + 'static>(
        &self,
        indices: &[u32],
        make: impl Fn(u32, Result<VideoFrame>) -> T + Send + Sync + 'static,
    ) -> Frames<T> {
        self.frames_charged(Charged::default(), indices, make)
    }

    /// As [`Video::frames_with`], charged to a client that has other requests.
    pub fn frames_for<T: Send + 'static>(
        &self,
        account: &Arc<Account>,
        indices: &[u32],
        make: impl Fn(u32, Result<VideoFrame>) -> T + Send + Sync + 'static,
    ) -> Frames<T> {
        self.frames_charged(Charged::Client(Arc::clone(account)), indices, make)
    }

    fn frames_charged<T: Send + 'static>(
        &self,
        account: Charged,
        indices: &[u32],
        make: impl Fn(u32, Result<VideoFrame>) -> T + Send + Sync + 'static,
    ) -> Frames<T> {
        let make = move |index, frame: Result<DecodedFrame>| make(index, frame.and_then(DecodedFrame::into_host));
        schedule::request(self.shared.arc(), indices, account, Residency::Host, make)
    }

    /// How the container wants its pictures shown: the default for stills of this video. The container's sample aspect ratio
    /// counts before the stream's, as in FFmpeg: it may have been corrected there. A picture that H.265 calls interlaced is one
    /// field by itself; there is nothing in it to take apart.
    pub fn still_options(&self) -> StillOptions {
        let track = self.track();
        let (degrees, mirrored) = track.parameters.rotation();
        StillOptions {
            turn: Turn::from_rotation(degrees, mirrored),
            sample_aspect_ratio: track.sample_aspect_ratio,
            deinterlace: track.codec != Codec::Hevc,
            colour: self.colour_options(),
            ..StillOptions::default()
        }
    }

    /// The frame that shows a sample; `None` if the sample is not shown.
    pub fn frame_of_sample(&self, sample: u32) -> Option<u32> {
        self.shared.planner.frame_of(sample)
    }

    /// A number that no other open video of this process has, nor has had.
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// The video as long as it is open elsewhere.
    pub fn downgrade(&self) -> WeakVideo {
        WeakVideo(self.shared.downgrade())
    }

    /// What a worker is likely to spend on these frames, in seconds: pictures from the nearest checkpoint or entry on. Reads
    /// nothing.
    pub fn cost_s(&self, indices: &[u32]) -> f64 {
        if !self.shared.is_here() {
            return 0.0;
        }
        let pictures = schedule::pictures_to_decode(&self.shared, indices);
        pictures as f64 * schedule::picture_ns(&self.shared) as f64 / 1e9
    }

    /// As [`Video::frames_with`], where `make` makes nothing but stills with these options by a
    /// [`StillMaker`](crate::still::StillMaker): a frame that a GPU has decoded stays there if its JPEG can be made there.
    pub fn stills_with<T: Send + 'static>(
        &self,
        indices: &[u32],
        options: &StillOptions,
        make: impl Fn(u32, Result<DecodedFrame>) -> T + Send + Sync + 'static,
    ) -> Frames<T> {
        // What the container cuts off is cut off on the host.
        let may_stay = may_be_made_there(options) && !self.track().parameters.is_cropped();
        let residency = if may_stay { Residency::Either } else { Residency::Host };
        schedule::request(self.shared.arc(), indices, Charged::default(), residency, make)
    }

    /// Frames that stay in the memory of the engine's GPU, as [`Video::frames`] brings them: `picture.planes()` of each tells
    /// where. They are not cropped by what the container says, only by what the stream does. What cannot be decoded there
    /// (another format, damage, no GPU) is the error `NotOnDevice`.
    pub fn frames_on_device(&self, indices: &[u32]) -> Frames<Result<DeviceFrame>> {
        let make = |_, frame: Result<DecodedFrame>| frame.and_then(DecodedFrame::into_device);
        schedule::request(self.shared.arc(), indices, Charged::default(), Residency::Device, make)
    }

    /// Frames in the order in which they are asked for, duplicates too.
    pub fn frames_in_order(&self, indices: Vec<u32>) -> InOrder {
        InOrder::of(self.shared.clone(), indices)
    }

    /// Numbers of the frames whose samples the container marks as sync samples, ascending.
    pub fn key_indices(&self) -> Vec<u32> {
        self.key_frames().to_vec()
    }

    /// The same without a copy: they are counted once for a video.
    pub fn key_frames(&self) -> &[u32] {
        if let Some(known) = self.shared.key_frames.get() {
            return known;
        }
        // Not inside of the cell: a child of a fork in between would wait for it for ever.
        let is_key = |&(_, &sample): &(u32, &u32)| self.shared.track.samples[sample as usize].key;
        let found = (0..).zip(&self.shared.track.frames).filter(is_key).map(|(index, _)| index).collect();
        self.shared.key_frames.get_or_init(|| found)
    }

    /// The greatest number of frames from one sync sample to the next, or to the end.
    pub fn longest_gop(&self) -> usize {
        let keys = self.key_frames();
        let ends = keys.iter().skip(1).copied().chain([self.frame_count() as u32]);
        keys.iter().zip(ends).map(|(key, end)| end.saturating_sub(*key) as usize).max().unwrap_or(0)
    }

    /// The frames of all sync samples, as they come.
    pub fn keyframes(&self) -> Frames {
        self.frames(self.key_frames())
    }

    /// All frames as a sequential decode shows them, in its order. What it does not show is left out and reported.
    ///
    /// # Errors
    /// What stops everything: no decoder, no memory, a source that changed.
    pub fn play(&self, sink: &mut dyn FnMut(VideoFrame) -> ControlFlow<()>) -> Result<LeftOut> {
        let mut sequence = self.sequence();
        for frame in sequence.by_ref() {
            if sink(frame?).is_break() {
                break;
            }
        }
        self.shared.source.check()?;
        Ok(sequence.into_left_out())
    }

    /// The same as an iterator that owns what it needs. Each step decodes in the caller's thread, with the threads of a
    /// sequential decode beside it; [`Sequence::into_left_out`] says what was left out. An error ends it.
    pub fn sequence(&self) -> Sequence {
        Sequence::of(self.shared.clone())
    }

    /// How stills of this video get their colour: what the pictures do not say of themselves is filled in.
    pub fn colour_options(&self) -> ColourOptions {
        ColourOptions { dolby_vision: self.shared.track.parameters.dolby_vision(), ..ColourOptions::default() }
    }

    /// Decodes the first frame to learn what only pictures tell.
    ///
    /// # Errors
    /// As [`Video::frame`]; what can be told without a picture is in [`Video::track`].
    pub fn describe(&self) -> Result<Described> {
        self.check_process()?;
        let parameters = &self.shared.track.parameters;
        let mut described = Described {
            format: parameters.pixel_format(),
            size: parameters.size(),
            color: parameters.color(),
            sample_aspect_ratio: self.shared.track.sample_aspect_ratio,
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
        described.profile = self.shared.profile(shown.sample);
        Ok(described)
    }
}

impl VideoState {
    /// The profile, as a decoder knows it that has decoded a picture: one of our own, since a worker may still be busy with
    /// that which `shown` came from.
    fn profile(&self, shown: u32) -> Option<&'static str> {
        let memory = self.engine.pictures.reserve(Kind::Run, self.picture_bytes_of_run(1));
        let mut lease = self.lease(1, Some(&memory)).ok()?;
        let (entry, _) = self.planner.entry_for(&self.track, &*self.source, shown, Depth::Nearest);
        let (reader, mut run) = (self.reader(false), DecodeRun::over(entry, shown));
        while let Some(event) = run.next(&reader, &mut lease).ok()? {
            if matches!(event, Event::Picture(..)) {
                break;
            }
        }
        lease.decoder().profile_name()
    }
}
