//! An open video: ask it for frames.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use ffi::{AvError, Color, Found, Frame, PaddedBytes, PixelFormat, PlaneBytes, PlaneLayout, Rational, Threads};

use crate::bitstream::Codec;
use crate::bitstream::hevc_sets::ParameterSets;
use crate::bitstream::parameter_sets::History;
use crate::container::{Index, Sample, Track};
use crate::damage::OnDamage;
use crate::decode::crew::Account;
use crate::decode::pool::Key;
use crate::decode::{Event, Lease, Walk};
use crate::error::{Error, ErrorKind, Result};
use crate::picture_memory::{Kind, Refused, Reservation};
use crate::pixels::ColourOptions;
use crate::plan::route::Leg;
use crate::plan::{Depth, Planner, References};
use crate::session::engine::{self, Engine};
use crate::session::fetch::{self, habit::Habit};
use crate::session::losses::Losses;
use crate::session::request::{Charged, FrameFuture, Frames, InOrder, Payer, Request, Stay, unanswered};
use crate::source::{Counted, Source};
use crate::still::on_device::may_be_made_there;
use crate::still::{StillOptions, Turn};
use crate::time::{Nanos, Timeline};

/// An open video: one track, indexed. Can be shared between threads; cheap to clone, the clones share everything.
#[derive(Debug, Clone)]
pub struct Video {
    pub(crate) shared: Arc<Shared>,
}

/// A video that may be closed by now: what is kept by video need not keep it open.
#[derive(Debug, Clone)]
pub struct WeakVideo(Weak<Shared>);

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

/// What a video's tasks share with it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Arc<engine::Shared>,
    pub(crate) id: u64,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) track: Track,
    pub(crate) planner: Planner,
    pub(crate) references: References,
    timeline: Timeline,
    opened_with: Counted,
    pub(crate) habit: Habit,
    /// Rows of blocks that can be decoded side by side, see [`ParameterSets::rows_side_by_side`].
    rows_side_by_side: OnceLock<u32>,
    /// See [`Video::key_frames`].
    key_frames: OnceLock<Box<[u32]>>,
    /// The GPU does not decode it.
    pub(crate) is_refused: AtomicBool,
    /// The most that pictures of one of its decode runs have taken, in bytes.
    pictures_of_run: [AtomicU64; WIDTHS],
    /// Where data of its slices and tiles end says nothing of damage: see [`Shared::learn_of_ends`].
    ends_anywhere: OnceLock<bool>,
}

/// Pictures that a decode run is expected to have in work at the same time, and bytes for one of small pictures.
const PICTURES_OF_RUN: u64 = 4;
const LEAST_PICTURES: u64 = 2 << 20;
/// Numbers of threads that are told apart by what their runs took: powers of two.
const WIDTHS: usize = 8;

/// Rows of blocks side by side for each thread, at least, so that threads seldom wait for the row above theirs.
const ROWS_A_THREAD: usize = 4;

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

impl VideoFrame {
    /// Width in pixels, cropped.
    pub fn width(&self) -> usize {
        self.picture.width()
    }

    /// Height in pixels, cropped.
    pub fn height(&self) -> usize {
        self.picture.height()
    }

    /// The stream's own pixel format.
    pub fn format(&self) -> PixelFormat {
        self.picture.format()
    }

    /// Colour description.
    pub fn color(&self) -> Color {
        self.picture.color()
    }

    /// The planes, where the decoder left them: rows of samples with the distance between rows. No copy is made; they
    /// live as long as the frame, whatever becomes of video and engine.
    pub fn planes(&self) -> impl Iterator<Item = PlaneBytes<'_>> {
        (0..self.picture.planes()).filter_map(|index| self.picture.plane(index))
    }

    /// True if damage is known to have touched the picture, or one that it refers to: only frames that cannot be had
    /// otherwise are let out so.
    pub fn is_corrupt(&self) -> bool {
        self.picture.is_corrupt()
    }

    /// The frame, or the error if `on_damage` refuses it.
    ///
    /// # Errors
    /// `Corrupt`, with the frame's number.
    pub fn unless_refused(self, on_damage: OnDamage) -> Result<VideoFrame> {
        if on_damage == OnDamage::Error && self.is_corrupt() {
            return Err(Error::from(ErrorKind::Corrupt).at_frame(self.index).at_sample(self.sample, None));
        }
        Ok(self)
    }
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
    /// Frames that are damaged, where the engine refuses such frames.
    pub refused: Vec<Error>,
}

impl LeftOut {
    /// True if something was wrong with the file, rather than pictures not meant to be shown.
    pub fn is_damaged(&self) -> bool {
        self.damage.is_some() || !self.unreadable.is_empty() || !self.refused.is_empty()
    }
}

/// What decoding takes, about: nanoseconds of one thread for each pixel.
const NS_PER_PIXEL: u64 = 4;

impl Video {
    pub(crate) fn open(
        engine: &Engine,
        source: Arc<dyn Source>,
        track: impl FnOnce(&Arc<dyn Source>) -> Result<Track>,
    ) -> Result<Video> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let before = source.counters().now();
        let track = track(&source)?;
        let (width, height) = track.parameters.size();
        let limit = engine.shared.max_pixels;
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
        let shared = Shared {
            planner: Planner::new(&track),
            references: References::new(),
            timeline: Timeline::of(&track),
            engine: Arc::clone(&engine.shared),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            source,
            track,
            opened_with,
            habit: Habit::default(),
            rows_side_by_side: OnceLock::new(),
            key_frames: OnceLock::new(),
            is_refused: AtomicBool::new(false),
            pictures_of_run: Default::default(),
            ends_anywhere: OnceLock::new(),
        };
        Ok(Video { shared: Arc::new(shared) })
    }

    /// The index.
    pub fn track(&self) -> &Track {
        &self.shared.track
    }

    /// The index as something that can be kept, with what every sample is made of: see [`Engine::open_with_index`]. Reads
    /// all samples, unless the video was opened with such an index.
    ///
    /// # Errors
    /// Those of the source.
    pub fn export_index(&self) -> Result<Index> {
        let told = self.shared.planner.told(self.track());
        let learned = told.is_none().then(|| self.shared.planner.learn(self.track(), self.source()));
        Index::of(self.track(), self.source(), told.or(learned.as_ref()))
    }

    /// The index without what samples are made of: made at once, and smaller. Reads the ends of the source.
    ///
    /// # Errors
    /// Those of the source.
    pub fn export_index_without_references(&self) -> Result<Index> {
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
        let all = samples + frames + sets + self.shared.references.bytes() + track.parameters.extradata().len();
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
        self.shared.track.read(self.source(), sample, self.shared.walk(false).zeros)
    }

    /// What a decoder does with so many threads for these samples (in decode order), where it is the only one at work.
    pub fn use_of_threads(&self, threads: usize, samples: &[u32]) -> Threads {
        self.shared.use_of(threads, samples)
    }

    /// What an engine that has decoded nothing yet would decode for frames that are asked for together: runs of samples,
    /// with the samples among them whose pictures are the frames. Frames that do not exist need nothing.
    pub fn plan(&self, indices: &[u32]) -> Vec<(Vec<u32>, Vec<u32>)> {
        fetch::cold_plan(&self.shared, indices)
    }

    /// One frame, exact.
    ///
    /// # Errors
    /// `NoSuchFrame`, `NotShown`, `Damaged`, and those of the source.
    pub fn frame(&self, index: u32) -> Result<VideoFrame> {
        let first = self.frames(&[index]).next();
        first.map_or_else(|| Err(unanswered(index).of(self.source().name())), |(_, result)| result)
    }

    /// One frame, exact, without waiting for it: a future for any runtime. The work begins at once; dropping the future
    /// ends it.
    ///
    /// # Errors
    /// As [`Video::frame`], when polled.
    pub fn frame_async(&self, index: u32) -> FrameFuture {
        FrameFuture::of(self.frames(&[index]), index)
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
        self.frames_with(indices, |_, frame| frame)
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
        let request = Request::new(Arc::clone(&self.shared.engine), Box::new(make), self.payer(account));
        fetch::submit(&self.shared, &request, &indices.iter().copied().collect::<BTreeSet<_>>());
        Frames::of(request)
    }

    fn payer(&self, account: Charged) -> Payer {
        let (width, height) = self.track().parameters.size();
        let picture_ns = (width as u64).saturating_mul(height as u64).saturating_mul(NS_PER_PIXEL);
        Payer { account, picture_ns }
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
        WeakVideo(Arc::downgrade(&self.shared))
    }

    /// What a worker is likely to spend on these frames, in seconds: pictures from the nearest checkpoint or entry on. Reads
    /// nothing.
    pub fn cost_s(&self, indices: &[u32]) -> f64 {
        let pictures = fetch::pictures_to_decode(&self.shared, indices);
        pictures as f64 * self.payer(Charged::default()).picture_ns as f64 / 1e9
    }

    /// As [`Video::frames_with`], where `make` makes nothing but stills with these options by a
    /// [`StillMaker`](crate::still::StillMaker): a frame that a GPU has decoded stays there if its JPEG can be made there.
    pub fn stills_with<T: Send + 'static>(
        &self,
        indices: &[u32],
        options: &StillOptions,
        make: impl Fn(u32, Result<VideoFrame>) -> T + Send + Sync + 'static,
    ) -> Frames<T> {
        // What the container cuts off is cut off on the host.
        let may_stay = may_be_made_there(options) && !self.track().parameters.is_cropped();
        let stay = if may_stay { Stay::May } else { Stay::No };
        let payer = self.payer(Charged::default());
        let request = Request::staying(Arc::clone(&self.shared.engine), Box::new(make), payer, stay);
        fetch::submit(&self.shared, &request, &indices.iter().copied().collect::<BTreeSet<_>>());
        Frames::of(request)
    }

    /// Frames that stay in the memory of the engine's GPU, as [`Video::frames`] brings them: `picture.device_planes()` of each
    /// tells where. They have no planes here, and are not cropped by what the container says, only by what the stream does.
    /// What cannot be decoded there (another format, damage, no GPU) is the error `NotOnDevice`.
    pub fn frames_on_device(&self, indices: &[u32]) -> Frames {
        let (payer, make) = (self.payer(Charged::default()), Box::new(|_, frame| frame));
        let request = Request::staying(Arc::clone(&self.shared.engine), make, payer, Stay::Must);
        fetch::submit(&self.shared, &request, &indices.iter().copied().collect::<BTreeSet<_>>());
        Frames::of(request)
    }

    /// Frames in the order in which they are asked for, duplicates too.
    pub fn frames_in_order(&self, indices: Vec<u32>) -> InOrder<'_> {
        InOrder::of(self, indices)
    }

    /// Numbers of the frames whose samples the container marks as sync samples, ascending.
    pub fn key_indices(&self) -> Vec<u32> {
        self.key_frames().to_vec()
    }

    /// The same without a copy: they are counted once for a video.
    pub fn key_frames(&self) -> &[u32] {
        self.shared.key_frames.get_or_init(|| {
            let is_key = |&(_, &sample): &(u32, &u32)| self.shared.track.samples[sample as usize].key;
            (0..).zip(&self.shared.track.frames).filter(is_key).map(|(index, _)| index).collect()
        })
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
        let shared = &*self.shared;
        let mut shown = vec![false; self.frame_count()];
        // At the first sign of damage everything is decoded again, by a decoder that gives damaged pictures out (see `run`);
        // what was shown by then was not touched by it.
        let mut played = Played { is_cut_short: true, ..Played::default() };
        if !shared.may_lack_samples() {
            played = shared.play_within_budget(false, &mut shown, sink)?;
        }
        if played.is_cut_short {
            played = shared.play_within_budget(true, &mut shown, sink)?;
        }
        shared.source.check()?;
        played.left_out.frames = (0..).zip(&shown).filter(|(_, shown)| !**shown).map(|(index, _)| index).collect();
        Ok(played.left_out)
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

/// What came of playing a whole clip once.
#[derive(Default)]
struct Played {
    left_out: LeftOut,
    /// There was damage, and a strict decoder.
    is_cut_short: bool,
    /// The caller wants no more.
    is_stopped: bool,
}

impl Shared {
    /// Lets a picture out, as the one place that does: if the source is still what was opened, and damage is not refused.
    pub(crate) fn let_out(&self, index: u32, sample: u32, picture: Frame) -> Result<VideoFrame> {
        self.source.check().map_err(|error| error.at_frame(index))?;
        let at = &self.track.samples[sample as usize];
        let frame = VideoFrame { index, sample, pts: at.pts, duration: at.duration, key: at.key, picture };
        frame.unless_refused(self.engine.on_damage).map_err(|error| error.of(self.source.name()))
    }

    /// Plays the clip, but for what was shown before, until damage comes or, with a lenient decoder, to the end. Where pictures
    /// need more memory than was reserved, it begins anew with more.
    fn play_within_budget(
        &self,
        is_lenient: bool,
        shown: &mut [bool],
        sink: &mut dyn FnMut(VideoFrame) -> ControlFlow<()>,
    ) -> Result<Played> {
        let budget = &self.engine.pictures;
        let threads = self.engine.sequential_threads;
        let mut bytes = self.picture_bytes_of_run(threads);
        loop {
            let memory = budget.reserve(Kind::Run, bytes);
            let played = self.play_with(is_lenient, &memory, shown, sink)?;
            self.note_pictures(threads, &memory);
            match memory.refusal() {
                _ if played.is_stopped => return Ok(played),
                None => return Ok(played),
                Some(Refused::ForGood { needed }) => return Err(budget.too_much(needed).of(self.source.name())),
                Some(Refused::ForNow { needed }) => bytes = needed,
            }
        }
    }

    fn play_with(
        &self,
        is_lenient: bool,
        memory: &Reservation,
        shown: &mut [bool],
        sink: &mut dyn FnMut(VideoFrame) -> ControlFlow<()>,
    ) -> Result<Played> {
        let mut played = Played::default();
        let mut changed = None;
        let last = self.track.samples.len() as u32 - 1;
        let mut lease = self.sequential_lease(is_lenient, Some(memory))?;
        let losses = if is_lenient { self.losses(0, last, Some(memory)) } else { Losses::default() };
        let run = self.walk(is_lenient).run(&mut lease, 0, last, &mut |event| {
            let is_sound = matches!(&event, Event::Picture(_, picture) if !picture.is_corrupt());
            if !is_sound && !is_lenient {
                played.is_cut_short = true;
                return ControlFlow::Break(());
            }
            let left_out = &mut played.left_out;
            match event {
                Event::Damage(_, error) => {
                    left_out.damage = left_out.damage.or(Some(error));
                }
                Event::Unreadable(sample, error) => {
                    losses.add(sample);
                    left_out.unreadable.push(error);
                }
                Event::Picture(sample, mut picture) => {
                    let Some(index) = self.planner.frame_of(sample) else { return ControlFlow::Continue(()) };
                    if shown[index as usize] {
                        return ControlFlow::Continue(());
                    }
                    if losses.may_show_in(sample, self) {
                        picture.set_corrupt();
                    }
                    match self.let_out(index, sample, picture) {
                        Ok(frame) => {
                            shown[index as usize] = true;
                            let flow = memory.paused(|| sink(frame));
                            played.is_stopped = flow.is_break();
                            return flow;
                        }
                        Err(error) if matches!(error.kind(), ErrorKind::Corrupt) => left_out.refused.push(error),
                        Err(error) => {
                            changed = Some(error);
                            return ControlFlow::Break(());
                        }
                    }
                }
            }
            ControlFlow::Continue(())
        });
        self.learn_of_ends(lease.decoder().found(), Some(memory));
        let _ = run?;
        changed.map_or(Ok(played), Err)
    }

    /// Do samples say that others are missing, in a codec whose decoder does not notice?
    fn may_lack_samples(&self) -> bool {
        let last = self.track.samples.len() as u32 - 1;
        // Behind a network that would fetch all of them before the first is shown.
        self.track.codec == Codec::Av1
            && !self.source.is_remote()
            && Losses::has_gaps(&self.track, &*self.source, 0, last)
    }

    /// Could `sample` show anything of `lost`, which was sent before it or should have been?
    pub(crate) fn may_need(&self, sample: u32, lost: u32) -> bool {
        let (track, source, planner) = (&self.track, &*self.source, &self.planner);
        // Its second field may be a sample of its own.
        let last = if track.codec == Codec::H264 { planner.last_for(track, source, sample) } else { sample };
        let (entry, is_self_contained) = planner.entry_for(track, source, sample, Depth::Nearest);
        lost <= last && !(is_self_contained && lost < entry)
    }

    pub(crate) fn walk(&self, zeros: bool) -> Walk<'_> {
        // VP9 does not notice damage: its range decoder reads on past the end of the data. So there is no second try.
        let zeros = zeros || self.track.codec == Codec::Vp9;
        let counters = &self.engine.counters;
        Walk { track: &self.track, source: &*self.source, planner: &self.planner, zeros, counters, may_read: None }
    }

    /// A decoder with `threads` threads; in H.265, one that reports damage: libavcodec keeps slices to itself that it
    /// could not decode.
    pub(crate) fn lease(&self, threads: usize, memory: Option<&Reservation>) -> Result<Lease> {
        self.lease_with(frame_threads(threads), memory)
    }

    /// The same, for a leg. One of which most pictures are wanted is as good as a sequential decode.
    pub(crate) fn lease_for(&self, threads: usize, leg: &Leg, memory: Option<&Reservation>) -> Result<Lease> {
        let is_run = leg.is_dense() && leg.samples.len() > threads;
        self.lease_with(if is_run { self.use_of_run(threads) } else { self.use_of(threads, &leg.samples) }, memory)
    }

    fn lease_with(&self, threads: Threads, memory: Option<&Reservation>) -> Result<Lease> {
        self.charged(self.engine.pool.lease(self.key(threads), &self.track), memory)
    }

    /// A lease whose pictures are charged to the run's reservation.
    fn charged(&self, lease: Result<Lease>, memory: Option<&Reservation>) -> Result<Lease> {
        let lease = lease.map_err(|error| error.of(self.source.name()))?;
        Ok(match memory {
            Some(memory) => lease.charged_to(memory),
            None => lease,
        })
    }

    /// About what the pictures of a decode run take, in bytes: a few of them, or as many as earlier runs took.
    pub(crate) fn picture_bytes_of_run(&self, threads: usize) -> u64 {
        let (width, height) = self.track.parameters.size();
        let planes = self.track.parameters.pixel_format().map_or(1, |format| {
            let bytes = |plane: &PlaneLayout| plane.bytes_per_column << 4 >> (plane.log2_width + plane.log2_height);
            format.planes().iter().map(bytes).sum::<usize>().div_ceil(16)
        });
        let picture = (width * height * (planes + 1)) as u64;
        let least = LEAST_PICTURES + PICTURES_OF_RUN * picture;
        // A run that was alone is no reason for the next one to be.
        let before = self.pictures_of_run[place_of(threads)].load(Ordering::Relaxed);
        least.max(before).min(self.engine.pictures.largest_run())
    }

    /// Takes note of what a run's pictures took.
    pub(crate) fn note_pictures(&self, threads: usize, memory: &Reservation) {
        let place = &self.pictures_of_run[place_of(threads)];
        let before = place.load(Ordering::Relaxed);
        // One that took much more than all others is forgotten in time.
        place.store(memory.account().peak().max(before - before / 8), Ordering::Relaxed);
    }

    /// A decoder for all samples in a row. For a last resort one that nothing has been through, and with one thread: what
    /// libavcodec makes of damage depends on what it has seen, and differs from run to run with several.
    pub(crate) fn sequential_lease(&self, is_last_resort: bool, memory: Option<&Reservation>) -> Result<Lease> {
        if !is_last_resort {
            let threads = if memory.is_some_and(Reservation::is_alone) { 1 } else { self.engine.sequential_threads };
            return self.lease_with(self.use_of_run(threads), memory);
        }
        // What the frame comes to must not depend on what was asked for before.
        self.look_at_ends(memory);
        self.charged(self.engine.pool.lease_fresh(Key { lenient: true, ..self.key(Threads::One) }, &self.track), memory)
    }

    fn key(&self, threads: Threads) -> Key {
        let check_ends = !self.ends_anywhere.get().copied().unwrap_or(false);
        Key { video: self.id, threads, lenient: false, check_ends, on_device: false }
    }

    /// Learns, the first time that an end is all that spoke against pictures (`found`), whether that says anything: there are
    /// encoders whose slices or tiles never end as the standards want it. The first samples of the clip tell, whatever was
    /// asked for, so that every request comes to the same.
    pub(crate) fn learn_of_ends(&self, found: Found, memory: Option<&Reservation>) {
        if found == Found::End {
            self.look_at_ends(memory);
        }
    }

    /// Where there was no memory for it, nothing was learned.
    fn look_at_ends(&self, memory: Option<&Reservation>) {
        if self.ends_anywhere.get().is_none() {
            let is_anywhere = !self.ends_are_kept(memory);
            if memory.and_then(Reservation::refusal).is_none() {
                let _ = self.ends_anywhere.set(is_anywhere);
            }
        }
    }

    /// Do more than a few of the first pictures end as they should? In AV1, does any of the first key frames?
    fn ends_are_kept(&self, memory: Option<&Reservation>) -> bool {
        const SAMPLES: u32 = 16;
        const KEY_FRAMES: usize = 4;
        let samples = &self.track.samples;
        if self.track.codec == Codec::Av1 {
            let keys = (0..).zip(samples).filter(|(_, sample)| sample.key).map(|(index, _)| index);
            let accepts = |check_ends: bool, key: u32| {
                self.strict_lease(check_ends, memory).is_ok_and(|mut lease| self.walk(true).accepts(&mut lease, key))
            };
            let mut astray = 0;
            for key in keys.take(KEY_FRAMES) {
                if accepts(true, key) {
                    return true;
                }
                astray += u32::from(accepts(false, key));
            }
            // One alone may be damaged.
            return astray < 2;
        }
        let key = Key { lenient: true, check_ends: true, ..self.key(Threads::One) };
        let Ok(mut lease) = self.charged(self.engine.pool.lease_fresh(key, &self.track), memory) else { return true };
        let (mut kept, mut astray) = (0, 0);
        let last = (samples.len() as u32).min(SAMPLES) - 1;
        let _ = self.walk(true).run_each(&mut lease, 0, last, &mut |found| match found {
            Found::Nothing => kept += 1,
            Found::End => astray += 1,
            Found::Damage => {}
        });
        // A few may be damaged, and be all that there is.
        astray < 4 || kept * 8 >= astray
    }

    /// What is damaged among samples `entry..=last` and a lenient decoder does not mark: dav1d looks at the ends of tiles only
    /// where it may reject the frame for them, and at order hints not at all.
    pub(crate) fn losses(&self, entry: u32, last: u32, memory: Option<&Reservation>) -> Losses {
        if self.track.codec != Codec::Av1 {
            return Losses::default();
        }
        match self.strict_lease(self.key(Threads::One).check_ends, memory) {
            Ok(mut lease) => Losses::of_av1(&self.walk(true), &mut lease, entry, last),
            Err(_) => Losses::default(),
        }
    }

    fn strict_lease(&self, check_ends: bool, memory: Option<&Reservation>) -> Result<Lease> {
        let key = Key { check_ends, ..self.key(Threads::One) };
        self.charged(self.engine.pool.lease_fresh(key, &self.track), memory)
    }

    /// A decoder on the engine's GPU.
    pub(crate) fn lease_on_device(&self) -> Result<Lease> {
        let key = Key { on_device: true, ..self.key(Threads::One) };
        self.engine.pool.lease(key, &self.track).map_err(|error| error.of(self.source.name()))
    }

    /// What a decoder does with so many threads for these samples. Pictures that refer to each other in a chain gain
    /// little from frame threads, and that is what leaving out all others makes of them; a few pictures gain nothing. So
    /// there wavefronts are used, where the stream has them. Who decodes from the entry as players do has frame threads,
    /// as players have.
    pub(crate) fn use_of(&self, threads: usize, samples: &[u32]) -> Threads {
        let span = samples.first().zip(samples.last()).map_or(0, |(first, last)| (last - first) as usize + 1);
        let is_chain = samples.len() < span || span <= threads;
        if threads > 1 && is_chain && !self.engine.from_entry && self.rows_side_by_side() >= ROWS_A_THREAD * threads {
            return Threads::Slice(threads);
        }
        frame_threads(threads)
    }

    /// The same for all samples in a row: there wavefronts were up to an eighth faster on two cores, and at worst as
    /// fast. More threads than processors they cannot use.
    fn use_of_run(&self, threads: usize) -> Threads {
        let useful = threads.min(self.engine.processors);
        if useful > 1 && !self.engine.from_entry && self.rows_side_by_side() >= ROWS_A_THREAD * useful {
            return Threads::Slice(useful);
        }
        frame_threads(threads)
    }

    fn rows_side_by_side(&self) -> usize {
        let rows = || {
            if self.track.codec != Codec::Hevc {
                return 0;
            }
            let mut sets = ParameterSets::from_configuration(self.track.parameters.extradata());
            // Sets that lie in the samples alone come with the first one.
            if sets.is_empty()
                && let Ok(first) = self.track.read(&*self.source, 0, false)
            {
                self.track.framing.units(first.data()).for_each(|unit| _ = sets.absorb(unit));
            }
            sets.rows_side_by_side()
        };
        *self.rows_side_by_side.get_or_init(rows) as usize
    }

    /// The profile, as a decoder knows it that has decoded a picture: one of our own, since a worker may still be busy with
    /// that which `shown` came from.
    fn profile(&self, shown: u32) -> Option<&'static str> {
        let memory = self.engine.pictures.reserve(Kind::Run, self.picture_bytes_of_run(1));
        let mut lease = self.lease(1, Some(&memory)).ok()?;
        let (entry, _) = self.planner.entry_for(&self.track, &*self.source, shown, Depth::Nearest);
        let until_picture = &mut |event| match event {
            Event::Picture(..) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let _ = self.walk(false).run(&mut lease, entry, shown, until_picture).ok()?;
        lease.decoder().profile_name()
    }
}

/// Where the pictures of runs on so many threads are kept.
fn place_of(threads: usize) -> usize {
    (threads.max(1).ilog2() as usize).min(WIDTHS - 1)
}

fn frame_threads(threads: usize) -> Threads {
    if threads == 1 { Threads::One } else { Threads::Frame(threads) }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.engine.pool.forget(self.id);
        self.engine.store.forget(self.id);
    }
}
