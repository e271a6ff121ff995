//! The public interface of an open video: frames, stills, playback, index. Decoding frames is left to
//! [`schedule`].

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use ffi::{PaddedBytes, Threads};

use crate::bitstream::Codec;
use crate::bitstream::parameter_sets::ParameterSetHistory;
use crate::container::{Index, Sample, Track};
use crate::decode::workers::Account;
use crate::decode::{DecodeRun, Event};
use crate::device::Residency;
use crate::error::{Error, ErrorKind, Result};
use crate::picture_memory::ReservationKind;
use crate::pixels::ColourOptions;
use crate::plan::runs::PlannedRun;
use crate::plan::{Depth, Planner, References};
use crate::process::{ProcessBound, WeakProcessBound};
use crate::session::frame::{DecodedFrame, DeviceFrame, OmittedFrames, StreamProperties, VideoFrame};
use crate::session::in_order::OrderedFrames;
use crate::session::prefetch::pattern::AccessPattern;
use crate::session::results::{FrameFuture, Frames, RequestAccount};
use crate::session::schedule;
use crate::session::sequence::Sequence;
use crate::session::shared::{EngineState, VideoState};
use crate::source::{ReadCounts, Source};
use crate::still::{Orientation, StillOptions, can_encode_on_device};
use crate::time::{Nanos, Timeline};

/// An open video: one indexed track. Threads can share it. Cheap to clone: all clones share one state.
#[derive(Debug, Clone)]
pub struct Video {
    pub(crate) shared: ProcessBound<VideoState>,
}

/// A weak reference to a video, for caches that must not keep it open.
#[derive(Debug, Clone)]
pub struct WeakVideo(WeakProcessBound<VideoState>);

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
        let (after, opening) = (source.counters().now(), source.opening_reads());
        let opened_with = ReadCounts {
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
            is_unsupported: AtomicBool::new(false),
            pictures_of_run: Default::default(),
            has_loose_ends: OnceLock::new(),
        };
        Ok(Video { shared: ProcessBound::of(Arc::new(shared), engine.owner) })
    }

    /// `Forked` in a child of the process that opened the video.
    fn check_process(&self) -> Result<()> {
        self.shared.check().map_err(|error| error.of(self.source().name()))
    }

    /// The track with its index: samples, frame numbers, parameters.
    pub fn track(&self) -> &Track {
        &self.shared.track
    }

    /// The index in a form that can be stored, with the references of every sample, for
    /// [`Engine::open_with_index`](crate::Engine::open_with_index). Reads all samples, unless the video was opened with
    /// such an index.
    ///
    /// # Errors
    /// Those of the source.
    pub fn export_index(&self) -> Result<Index> {
        self.check_process()?;
        let indexed = self.shared.planner.references(self.track());
        let learned = indexed.is_none().then(|| self.shared.planner.learn(self.track(), self.source()));
        Index::of(self.track(), self.source(), indexed.or(learned.as_ref()))
    }

    /// The index without references: smaller, and without a read of the samples. Reads only the ends of the source.
    ///
    /// # Errors
    /// Those of the source.
    pub fn export_index_without_references(&self) -> Result<Index> {
        self.check_process()?;
        Index::of(self.track(), self.source(), None)
    }

    /// The index with the references of the index file that the video was opened with, if any, for a source that the
    /// caller identifies by its version. Reads nothing.
    pub(crate) fn export_known_index(&self) -> Result<Index> {
        Index::of_known(self.track(), self.source(), self.shared.planner.references(self.track()))
    }

    /// Approximate memory of the index in bytes, with the references that were learned so far.
    pub fn index_bytes(&self) -> u64 {
        let track = self.track();
        let samples = track.samples.len() * (size_of::<Sample>() + 2 * size_of::<u32>());
        let keys = self.shared.key_frames.get().map_or(0, |keys| keys.len());
        // A frame has its sample's number, and a time in the timeline.
        let frames = track.frames.len() * (size_of::<u32>() + size_of::<i64>()) + keys * size_of::<u32>();
        let sets = track.history.as_ref().map_or(0, ParameterSetHistory::bytes);
        let learned = if self.shared.is_current() { self.shared.references.bytes() } else { 0 };
        let all = samples + frames + sets + learned + track.parameters.extradata().len();
        all as u64 + track.noncontiguous.bytes()
    }

    /// The source of the file's bytes, for its counters and its name.
    pub fn source(&self) -> &dyn Source {
        &*self.shared.source
    }

    /// Number of frames: displayable samples, whether or not they can be decoded.
    pub fn frame_count(&self) -> usize {
        self.shared.track.frames.len()
    }

    /// The presentation times of the frames, in ticks of the track.
    pub fn timeline(&self) -> &Timeline {
        &self.shared.timeline
    }

    /// The number of the frame on display at `time`, counted from the first frame: see [`Timeline::frame_at`]. With
    /// `clamp` a time past the end is that of the last frame.
    ///
    /// # Errors
    /// `PastEndOfVideo` for a time past the end, without `clamp`.
    pub fn index_at(&self, time: Nanos, clamp: bool) -> Result<u32> {
        self.shared.timeline.frame_at(time, clamp).map_err(|error| error.of(self.source().name()))
    }

    /// Requests and bytes that opening the video took.
    pub fn opened_with(&self) -> ReadCounts {
        self.shared.opened_with
    }

    /// The sample of a frame; `None` past the last frame.
    pub fn sample_of(&self, frame: u32) -> Option<&Sample> {
        Some(&self.shared.track.samples[*self.shared.track.frames.get(frame as usize)? as usize])
    }

    /// The bytes of a sample (counted in decode order) as a first decode sends them to the decoder.
    ///
    /// # Errors
    /// Those of the source, with the sample's number and offset.
    ///
    /// # Panics
    /// For a number past the track's last sample.
    pub fn sample_bytes(&self, sample: u32) -> Result<PaddedBytes> {
        self.check_process()?;
        self.shared.track.read(self.source(), sample, self.shared.reader(false).zeros)
    }

    /// How a decoder uses `threads` threads for these samples (in decode order) if no other decoder is running. Reads
    /// the first sample where the parameter sets are not in the configuration.
    pub fn use_of_threads(&self, threads: usize, samples: &[u32]) -> Threads {
        if self.shared.is_current() { self.shared.use_of(threads, samples) } else { Threads::One }
    }

    /// The decode runs with which an engine without checkpoints answers one request for the frames `indices`, which may
    /// be in any order. Runs are in decode order, each with its samples and targets. Numbers past the last frame are
    /// ignored, and so are frames that only the fallback decode can answer.
    ///
    /// Decodes nothing, but blocks: it reads samples where references are not known yet, and treats a sample that cannot
    /// be read as one with unknown references. Empty in a child after `fork`.
    pub fn plan(&self, indices: &[u32]) -> Vec<PlannedRun> {
        if self.shared.is_current() { schedule::cold_plan(&self.shared, indices) } else { Vec::new() }
    }

    /// Decodes one frame exactly: the picture of a sequential decode, bit for bit. Blocks; frames count from 0 in
    /// presentation order.
    ///
    /// # Errors
    /// `NoSuchFrame`, `NotShown`, `Damaged`, and those of the source.
    pub fn frame(&self, index: u32) -> Result<VideoFrame> {
        schedule::frame(self.shared.arc(), index)
    }

    /// As [`Video::frame`], without blocking: a future for any runtime. The work begins at once; dropping the future
    /// cancels it.
    ///
    /// # Errors
    /// As [`Video::frame`], when polled.
    pub fn frame_async(&self, index: u32) -> FrameFuture {
        schedule::frame_async(self.shared.arc(), index)
    }

    /// The frame on display at a time: see [`Video::index_at`].
    ///
    /// # Errors
    /// `PastEndOfVideo`, and as [`Video::frame`].
    pub fn frame_at(&self, time: Nanos, clamp: bool) -> Result<VideoFrame> {
        self.frame(self.index_at(time, clamp)?)
    }

    /// A batch of frames in any order, duplicates allowed. Each distinct frame is returned once, as soon as it is
    /// decoded (in decode order, GOP by GOP). No picture is decoded that none of the frames needs, and none twice. The
    /// result is a blocking iterator and a [`futures_core::Stream`]; dropping it cancels the work.
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

    /// As [`Video::frames`], with the results of `make`. The worker that has decoded a frame calls `make`: if frames
    /// are spread over many GOPs, all cores share this work too, and no picture moves between cores. Meanwhile that
    /// worker decodes nothing.
    pub fn frames_with<T: Send + 'static>(
        &self,
        indices: &[u32],
        make: impl Fn(u32, Result<VideoFrame>) -> T + Send + Sync + 'static,
    ) -> Frames<T> {
        self.frames_charged(RequestAccount::default(), indices, make)
    }

    /// As [`Video::frames_with`], charged to the account of a client, which the client's other requests share.
    pub fn frames_for<T: Send + 'static>(
        &self,
        account: &Arc<Account>,
        indices: &[u32],
        make: impl Fn(u32, Result<VideoFrame>) -> T + Send + Sync + 'static,
    ) -> Frames<T> {
        self.frames_charged(RequestAccount::Client(Arc::clone(account)), indices, make)
    }

    fn frames_charged<T: Send + 'static>(
        &self,
        account: RequestAccount,
        indices: &[u32],
        make: impl Fn(u32, Result<VideoFrame>) -> T + Send + Sync + 'static,
    ) -> Frames<T> {
        let make = move |index, frame: Result<DecodedFrame>| make(index, frame.and_then(DecodedFrame::into_host));
        schedule::request(self.shared.arc(), indices, account, Residency::Host, make)
    }

    /// How the container specifies the display of its pictures: the default for stills of this video. The container's
    /// sample aspect ratio takes precedence over the stream's, as in FFmpeg, since it may correct it. A picture that
    /// H.265 calls interlaced is a single field, so there is nothing to deinterlace.
    pub fn still_options(&self) -> StillOptions {
        let track = self.track();
        let (degrees, mirrored) = track.parameters.rotation();
        StillOptions {
            orientation: Orientation::from_rotation(degrees, mirrored),
            sample_aspect_ratio: track.sample_aspect_ratio,
            deinterlace: track.codec != Codec::Hevc,
            colour: self.colour_options(),
            ..StillOptions::default()
        }
    }

    /// The number of the frame of a sample; `None` if the sample is not shown.
    pub fn frame_of_sample(&self, sample: u32) -> Option<u32> {
        self.shared.planner.frame_of(sample)
    }

    /// An identifier that no other video of this process has or had.
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// A weak reference to the video; it does not keep the video open.
    pub fn downgrade(&self) -> WeakVideo {
        WeakVideo(self.shared.downgrade())
    }

    /// The estimated work of one worker for these frames, in seconds: the pictures from the nearest checkpoint or
    /// random access point on. Reads nothing.
    pub fn cost_s(&self, indices: &[u32]) -> f64 {
        if !self.shared.is_current() {
            return 0.0;
        }
        let pictures = schedule::pictures_to_decode(&self.shared, indices);
        pictures as f64 * schedule::picture_ns(&self.shared) as f64 / 1e9
    }

    /// As [`Video::frames_with`], for a `make` that uses the pictures only to make stills with these options by a
    /// [`StillMaker`](crate::still::StillMaker): a frame that a GPU has decoded stays there if its JPEG can be made
    /// there.
    pub fn stills_with<T: Send + 'static>(
        &self,
        indices: &[u32],
        options: &StillOptions,
        make: impl Fn(u32, Result<DecodedFrame>) -> T + Send + Sync + 'static,
    ) -> Frames<T> {
        // The host applies the container's crop.
        let may_stay = can_encode_on_device(options) && !self.track().parameters.is_cropped();
        let residency = if may_stay { Residency::Either } else { Residency::Host };
        schedule::request(self.shared.arc(), indices, RequestAccount::default(), residency, make)
    }

    /// As [`Video::frames`], with pictures that stay in the memory of the engine's GPU, where `picture.planes()` of
    /// each points. The stream's crop applies, the container's does not. A frame that the GPU cannot decode (another
    /// format, damage, no GPU) is the error `NotOnDevice`.
    pub fn frames_on_device(&self, indices: &[u32]) -> Frames<Result<DeviceFrame>> {
        let make = |_, frame: Result<DecodedFrame>| frame.and_then(DecodedFrame::into_device);
        schedule::request(self.shared.arc(), indices, RequestAccount::default(), Residency::Device, make)
    }

    /// Frames in the order of `indices`, duplicates included.
    pub fn frames_in_order(&self, indices: Vec<u32>) -> OrderedFrames {
        OrderedFrames::of(self.shared.clone(), indices)
    }

    /// Numbers of the frames whose samples the container marks as sync samples, ascending.
    pub fn key_indices(&self) -> Vec<u32> {
        self.key_frames().to_vec()
    }

    /// As [`Video::key_indices`] without a copy: the list is built once for a video.
    pub fn key_frames(&self) -> &[u32] {
        if let Some(known) = self.shared.key_frames.get() {
            return known;
        }
        // Not inside of the cell: a child of a `fork` in between would wait for it for ever.
        let is_key = |&(_, &sample): &(u32, &u32)| self.shared.track.samples[sample as usize].key;
        let found = (0..).zip(&self.shared.track.frames).filter(is_key).map(|(index, _)| index).collect();
        self.shared.key_frames.get_or_init(|| found)
    }

    /// The largest number of frames from one sync sample to the next, or to the end.
    pub fn longest_gop(&self) -> usize {
        let keys = self.key_frames();
        let ends = keys.iter().skip(1).copied().chain([self.frame_count() as u32]);
        keys.iter().zip(ends).map(|(key, end)| end.saturating_sub(*key) as usize).max().unwrap_or(0)
    }

    /// The frames of all sync samples, in the order of decoding, as [`Video::frames`] returns them.
    pub fn keyframes(&self) -> Frames {
        self.frames(self.key_frames())
    }

    /// Passes all frames to `sink` in the order of a sequential decode, until it breaks. Blocks. Frames that such a
    /// decode does not show are omitted; the result lists them with the reasons.
    ///
    /// # Errors
    /// Errors that end the decode: no decoder, no memory, a source that changed.
    pub fn play(&self, sink: &mut dyn FnMut(VideoFrame) -> ControlFlow<()>) -> Result<OmittedFrames> {
        let mut sequence = self.sequence();
        for frame in sequence.by_ref() {
            if sink(frame?).is_break() {
                break;
            }
        }
        self.shared.source.check()?;
        Ok(sequence.into_omitted())
    }

    /// As [`Video::play`], as an iterator that owns its state. Each step decodes on the caller's thread, besides the
    /// threads of a sequential decode; [`Sequence::into_omitted`](crate::Sequence::into_omitted) returns the omitted
    /// frames. An error ends it.
    pub fn sequence(&self) -> Sequence {
        Sequence::of(self.shared.clone())
    }

    /// The colour options for stills of this video: they supply values that the pictures do not signal.
    pub fn colour_options(&self) -> ColourOptions {
        ColourOptions { dolby_vision: self.shared.track.parameters.dolby_vision(), ..ColourOptions::default() }
    }

    /// Decodes the first frame that can be decoded (of the first 32), to read properties that only a picture has.
    /// Blocks.
    ///
    /// # Errors
    /// `Forked`. Without a decodable frame the properties come from [`Video::track`].
    pub fn describe(&self) -> Result<StreamProperties> {
        self.check_process()?;
        let parameters = &self.shared.track.parameters;
        let mut described = StreamProperties {
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
    /// The profile as a decoder reports it after a picture. It takes another decoder, since a worker may still use the
    /// decoder that has decoded `shown`.
    fn profile(&self, shown: u32) -> Option<&'static str> {
        let memory = self.engine.pictures.reserve(ReservationKind::Run, self.picture_bytes_of_run(1));
        let mut lease = self.lease(1, Some(&memory)).ok()?;
        let (entry, _) = self.planner.start_for(&self.track, &*self.source, shown, Depth::Nearest);
        let (reader, mut run) = (self.reader(false), DecodeRun::over(entry, shown));
        while let Some(event) = run.next(&reader, &mut lease).ok()? {
            if matches!(event, Event::Picture(..)) {
                break;
            }
        }
        lease.decoder().profile_name()
    }
}
