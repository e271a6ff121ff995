//! Which samples a track has: where they lie, when they are shown, and what a decoder must be told.
//!
//! MP4/MOV come from their tables alone (`mov`); every other container is read once, packet by packet, and each packet
//! is found again in the file (`scan`, `locate`, `ts`). The result is the same [`Track`] for all. Written down as an
//! [`Index`] (`index`), it need not be found out again.

mod budget;
mod format;
mod index;
mod locate;
mod mov;
mod order;
mod pictures;
mod references;
mod scan;
mod tables;
mod ts;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ffi::{AvError, CodecParameters, Demuxer, PaddedBytes, Rational, StreamInfo};

pub use budget::DEFAULT_INDEX_MEMORY;
pub(crate) use budget::IndexBudget;
pub use ffi::StreamKind;
pub use format::Container;
pub use index::Index;
pub(crate) use references::{Gop as ToldGop, Graph, References, Table, Units};

use crate::bitstream::parameter_sets::History;
use crate::bitstream::{Codec, Framing};
use crate::damage::DEFAULT_MAX_PIXELS;
use crate::error::{Error, ErrorKind, Result};
use crate::machine::Machine;
use crate::picture_memory::{self, Budget, Reservation};
use crate::source::{ByteRange, Source, SourceInput};

/// Demuxers that may be used on a user's file.
const FORMATS: &str = "mov,matroska,mpegts,hevc,h264,ivf,obu,av1";

/// One coded sample (access unit, temporal unit) of a track.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// First byte in the file; in a transport stream, of the packet in which the sample begins.
    pub offset: u64,
    /// Length in bytes.
    pub size: u32,
    /// Which sample description (decoder configuration) holds.
    pub description: u16,
    /// The container's sync flag.
    pub key: bool,
    /// An edit list wants it decoded but not shown.
    pub discard: bool,
    /// It brings no picture of its own: the second field of one, or a hidden frame.
    pub silent: bool,
    /// Presentation time in ticks, after edit lists.
    pub pts: i64,
    /// Decoding time in ticks, where the container has one.
    pub dts: Option<i64>,
    /// Duration in ticks, 0 if unknown.
    pub duration: i64,
}

impl Sample {
    /// Is there a picture of this sample to be shown?
    pub fn is_displayable(&self) -> bool {
        !self.discard && !self.silent
    }

    pub(crate) fn range(&self) -> ByteRange {
        ByteRange { start: self.offset, len: u64::from(self.size) }
    }
}

/// A stream of the container, for information.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSummary {
    /// Number in the container, from 0.
    pub stream: usize,
    /// Video, audio, ...
    pub kind: StreamKind,
    /// FFmpeg's name of the codec.
    pub codec: &'static str,
    /// Width and height as the container has them, for video.
    pub size: Option<(usize, usize)>,
    /// For video: the number that `--track` takes.
    pub track: Option<usize>,
}

/// Where the bytes of samples lie that are not one range of the file.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere {
    grid: Option<ts::Grid>,
    scattered: HashMap<u32, ts::Scattered>,
    /// Samples that are not in the file as they are (a stripped header, a decompressed block).
    resident: HashMap<u32, PaddedBytes>,
    /// Bytes of those.
    resident_bytes: u64,
}

impl Elsewhere {
    /// Bytes that this takes, about.
    pub(crate) fn bytes(&self) -> u64 {
        (self.scattered.len() * SCATTERED_BYTES + self.resident.len() * RESIDENT_BYTES) as u64 + self.resident_bytes
    }
}

/// Bytes that a map takes for a sample that lies in pieces, and for one in memory beside its data.
const SCATTERED_BYTES: usize = 96;
const RESIDENT_BYTES: usize = 224;

/// A video track, indexed.
#[derive(Debug)]
pub struct Track {
    /// What holds the samples.
    pub container: Container,
    /// Every stream of the container.
    pub streams: Vec<StreamSummary>,
    /// Number of this track among the video tracks.
    pub track: usize,
    /// Codec.
    pub codec: Codec,
    /// What decoders are opened with.
    pub parameters: CodecParameters,
    /// The decoder configurations of MP4 tracks with several sample descriptions; else empty.
    pub descriptions: Vec<Vec<u8>>,
    /// How NAL units are framed in samples.
    pub framing: Framing,
    /// Seconds per tick, positive.
    pub time_base: Rational,
    /// Sample aspect ratio of the container; zero parts if unknown.
    pub sample_aspect_ratio: Rational,
    /// Samples in decode order.
    pub samples: Vec<Sample>,
    /// Frame number to sample: displayable samples in presentation order.
    pub frames: Vec<u32>,
    /// Parameter sets inside samples, where all samples were read; `None` for MP4.
    pub(crate) history: Option<History>,
    pub(crate) elsewhere: Elsewhere,
    /// Which samples each sample refers to, where an index file has said so.
    pub(crate) references: Option<References>,
}

impl Track {
    /// Reads the index of video track `track` (0 is the first).
    ///
    /// # Errors
    /// What makes a video unreadable: see [`ErrorKind`].
    pub fn open(source: &Arc<dyn Source>, track: usize) -> Result<Track> {
        let pictures = Budget::new(picture_memory::default_bytes(&Machine::read(), 1));
        let index = IndexBudget::unshared();
        pictures.probe(|memory| Track::open_within(source, track, Most { pixels: DEFAULT_MAX_PIXELS, memory }, &index))
    }

    /// The same where pictures that are decoded to find out what the streams are may take so much. Takes no more memory and
    /// work for the index than the budget has.
    ///
    /// # Errors
    /// As [`Track::open`].
    pub(crate) fn open_within(
        source: &Arc<dyn Source>,
        track: usize,
        most: Most<'_>,
        budget: &IndexBudget,
    ) -> Result<Track> {
        let name = source.name().to_owned();
        let opened = budget.open_source(&**source, || open(source, track, most));
        let track = opened.map_err(|error| error.of(&name))?;
        track.check();
        Ok(track)
    }

    /// The bytes of a sample, with padding behind. `zeros` asks for zeros as padding, by a copy if need be.
    ///
    /// # Errors
    /// Of the source, with the sample's place.
    ///
    /// # Panics
    /// If the track has no such sample.
    pub fn read(&self, source: &dyn Source, sample: u32, zeros: bool) -> Result<PaddedBytes> {
        let at = &self.samples[sample as usize];
        let result = if let Some(resident) = self.elsewhere.resident.get(&sample) {
            Ok(resident.clone())
        } else if let (Some(grid), Some(place)) = (self.elsewhere.grid, self.elsewhere.scattered.get(&sample)) {
            ts::gather(source, grid, place, at.size as usize)
        } else if zeros {
            source.read_zero_padded(at.range())
        } else {
            source.read_padded(at.range())
        };
        result.map_err(|error| error.at_sample(sample, Some(at.offset)).of(source.name()))
    }

    /// Tells the source which samples will be read soon.
    pub(crate) fn will_need(&self, source: &dyn Source, samples: impl Iterator<Item = u32>) {
        source.will_need(&mut samples.filter_map(|sample| self.extent(sample)));
    }

    /// Is a sample on its way? See [`RemoteSource::is_awaited`](crate::source::RemoteSource::is_awaited).
    pub(crate) fn is_awaited(&self, source: &dyn Source, sample: u32, patience: Duration) -> bool {
        self.extent(sample).is_some_and(|range| source.is_awaited(range, patience))
    }

    /// Can a sample be read without waiting?
    pub(crate) fn is_here(&self, source: &dyn Source, sample: u32) -> bool {
        self.extent(sample).is_none_or(|range| source.is_here(range))
    }

    /// Where a sample lies, headers between its pieces included; `None` for one that is in memory.
    pub(crate) fn extent(&self, sample: u32) -> Option<ByteRange> {
        if self.elsewhere.resident.contains_key(&sample) {
            return None;
        }
        let whole = self.samples.get(sample as usize)?.range();
        let scattered = self.elsewhere.scattered.get(&sample);
        Some(scattered.map_or(whole, |at| ByteRange { start: at.packet, len: at.end.saturating_sub(at.packet) }))
    }

    /// Does a sample lie in the source in one piece?
    pub(crate) fn is_plain(&self, sample: u32) -> bool {
        !self.elsewhere.resident.contains_key(&sample) && !self.elsewhere.scattered.contains_key(&sample)
    }

    /// Debug builds: the index is what everything else takes it for.
    fn check(&self) {
        debug_assert_eq!(self.problem(), None);
    }

    /// What is wrong with the index, if anything is: that of an open video has a usable time base, and its frames are
    /// its displayable samples, each once.
    fn problem(&self) -> Option<&'static str> {
        let (numerator, denominator) = self.time_base;
        let mut is_frame = vec![false; self.samples.len()];
        let mut is_new = |&sample: &u32| {
            is_frame.get_mut(sample as usize).is_some_and(|is_frame| !std::mem::replace(is_frame, true))
        };
        match () {
            () if numerator <= 0 || denominator <= 0 => Some("its time base is not positive"),
            () if self.frames.is_empty() => Some("it has no frames"),
            () if !self.frames.iter().all(&mut is_new) => Some("a frame is no sample, or that of another frame"),
            () if self.samples.iter().zip(is_frame).any(|(sample, is_frame)| sample.is_displayable() != is_frame) => {
                Some("its frames are not its samples that are to be shown")
            }
            () => None,
        }
    }
}

/// What may be used to find out what a file is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most<'a> {
    /// Pixels that a picture may have.
    pub(crate) pixels: u64,
    /// What pictures are charged to. Where it has refused some, opening has failed for that alone.
    pub(crate) memory: &'a Reservation,
}

fn open(source: &Arc<dyn Source>, track: usize, most: Most<'_>) -> Result<Track> {
    if source.is_empty() {
        return Err(ErrorKind::NotAVideo("the file is empty".into()).into());
    }
    if source.is_remote() {
        tables::will_need(&**source)?;
    }
    let mut demuxer = Demuxer::open(Box::new(SourceInput(Arc::clone(source))), FORMATS).map_err(unreadable)?;
    if demuxer.is_mov() {
        return mov::index(&mut demuxer, source, track);
    }
    // All of it is looked at.
    source.will_need(&mut std::iter::once(ByteRange { start: 0, len: source.len() }));
    scan::index(&mut demuxer, source, track, most)
}

/// The input's own error where it failed; else what libavformat made of the bytes.
fn unreadable(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::InvalidData {
        // libavformat says that of tables and streams above its own limits.
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<AvError>());
        if inner == Some(&AvError::NO_MEMORY) {
            return ErrorKind::IndexTooCostly(
                "it claims more entries than a table, or more streams than a file, may have",
            )
            .into();
        }
        return ErrorKind::NotAVideo(error.to_string()).into();
    }
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => ErrorKind::Read(error).into(),
    }
}

/// The wanted video track among the streams, with its codec.
fn choose(streams: &[StreamInfo], track: usize) -> Result<(usize, Codec)> {
    let videos: Vec<&StreamInfo> = streams.iter().filter(|stream| stream.kind == StreamKind::Video).collect();
    if videos.is_empty() {
        return Err(ErrorKind::NoVideoTrack.into());
    }
    let chosen = videos.get(track).ok_or(ErrorKind::NoSuchTrack { wanted: track, available: videos.len() })?;
    let name = chosen.parameters.codec_name();
    let codec = Codec::from_name(name).ok_or(ErrorKind::UnsupportedCodec(name))?;
    Ok((chosen.index, codec))
}

fn summaries(streams: &[StreamInfo]) -> Vec<StreamSummary> {
    let mut videos = 0;
    let summary = |stream: &StreamInfo| {
        let is_video = stream.kind == StreamKind::Video;
        let track = is_video.then(|| {
            videos += 1;
            videos - 1
        });
        StreamSummary {
            stream: stream.index,
            kind: stream.kind,
            codec: stream.parameters.codec_name(),
            size: is_video.then(|| stream.parameters.size()),
            track,
        }
    };
    streams.iter().map(summary).collect()
}

/// Bytes that each sample of an index takes, in [`Track`] and in what is made of it: its timeline, its frames by number.
const SAMPLE_BYTES: usize = size_of::<Sample>() + 40;

/// How many samples an index may have for a file of so many bytes. A kilobyte of MP4 tables can speak of a thousand
/// million samples, and an edit list repeat each a thousand times; a real track has more bytes than samples. How much
/// memory they may take is the budget's.
fn sample_limit(file_length: u64) -> usize {
    file_length.clamp(1 << 20, 1 << 24) as usize
}

/// The same where each sample is a packet of its own: a pass over packets takes time for each, however short they are.
fn packet_limit(file_length: u64) -> usize {
    (file_length / 8).clamp(1 << 18, 1 << 24) as usize
}

/// A time base that can be divided by, whatever the file says.
fn sane_time_base((numerator, denominator): Rational) -> Rational {
    if numerator > 0 && denominator > 0 { (numerator, denominator) } else { (1, 90_000) }
}
