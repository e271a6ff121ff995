//! The samples of a track: their locations in the file, their times, and the decoder's configuration.
//!
//! MP4/MOV tracks come from their tables alone (`mov`). Every other container is read once, packet by packet, and each
//! packet is located in the file (`scan`, `locate`, `ts`). The result is a [`Track`] in both cases. An [`Index`]
//! (`index`) stores it. Which samples refer to which is left to `plan`.

mod budget;
mod format;
mod index;
mod locate;
mod mov;
mod mov_tables;
mod order;
mod pictures;
mod references;
mod scan;
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
pub(crate) use references::{IndexedGop, ReferenceGraph, ReferenceRuns, ReferenceTable, TrackReferences};

use crate::bitstream::parameter_sets::ParameterSetHistory;
use crate::bitstream::{Codec, Framing};
use crate::damage::DEFAULT_MAX_PIXELS;
use crate::error::{Error, ErrorKind, Result};
use crate::machine::Machine;
use crate::picture_memory::{self, Budget, Reservation};
use crate::source::{ByteRange, Source, SourceInput};

/// Demuxers that are allowed for users' files; names of libavformat.
const FORMATS: &str = "mov,matroska,mpegts,hevc,h264,ivf,obu,av1";

/// One coded sample (access unit, temporal unit) of a track. Ticks are those of [`Track::time_base`].
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// First byte in the file; in a transport stream, of the packet in which the sample begins.
    pub offset: u64,
    /// Length in bytes.
    pub size: u32,
    /// Number of the sample description, from 0 (ISO/IEC 14496-12, 8.5.2); it selects the decoder configuration.
    pub description: u16,
    /// The container's sync flag (ISO/IEC 14496-12, 8.6.2): a claim. Its bytes decide the kind of random access point.
    pub key: bool,
    /// Decoded but not shown, because of an edit list (ISO/IEC 14496-12, 8.6.6).
    pub discard: bool,
    /// Without a picture of its own: the second field of a picture, or a hidden frame.
    pub silent: bool,
    /// Presentation time in ticks, after edit lists.
    pub pts: i64,
    /// Decoding time in ticks, where the container has one.
    pub dts: Option<i64>,
    /// Duration in ticks, 0 if unknown.
    pub duration: i64,
}

impl Sample {
    /// True if the sample has a picture that is shown.
    pub fn is_displayable(&self) -> bool {
        !self.discard && !self.silent
    }

    pub(crate) fn range(&self) -> ByteRange {
        ByteRange { start: self.offset, len: u64::from(self.size) }
    }
}

/// Properties of one stream of the container, from its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSummary {
    /// Number in the container, from 0.
    pub stream: usize,
    /// The kind: video, audio, ...
    pub kind: StreamKind,
    /// FFmpeg's name of the codec.
    pub codec: &'static str,
    /// Width and height of a video stream in pixels, from the container.
    pub size: Option<(usize, usize)>,
    /// Number of the track among the video tracks, from 0, for `--track`; `None` for other streams.
    pub track: Option<usize>,
}

/// The bytes of samples that are not one range of the file.
#[derive(Debug, Default)]
pub(crate) struct NoncontiguousSamples {
    packet_layout: Option<ts::TsPacketLayout>,
    scattered: HashMap<u32, ts::TsLocation>,
    /// Samples that the file does not contain in decodable form (a stripped header, a decompressed block).
    resident: HashMap<u32, PaddedBytes>,
    /// Bytes of the resident samples.
    resident_bytes: u64,
}

impl NoncontiguousSamples {
    /// Memory of these tables in bytes, approximately.
    pub(crate) fn bytes(&self) -> u64 {
        (self.scattered.len() * SCATTERED_BYTES + self.resident.len() * RESIDENT_BYTES) as u64 + self.resident_bytes
    }
}

/// Bytes per map entry: of a scattered sample, and of a resident one besides its data.
const SCATTERED_BYTES: usize = 96;
const RESIDENT_BYTES: usize = 224;

/// A video track with its index. Its samples and frames do not change once it is open.
#[derive(Debug)]
pub struct Track {
    /// The format of the file.
    pub container: Container,
    /// Every stream of the container.
    pub streams: Vec<StreamSummary>,
    /// Number of this track among the video tracks, from 0.
    pub track: usize,
    /// The codec of all samples.
    pub codec: Codec,
    /// Parameters with which decoders are opened, among them the decoder configuration of the first sample description.
    pub parameters: CodecParameters,
    /// The decoder configurations of MP4 tracks with several sample descriptions; otherwise empty.
    pub descriptions: Vec<Vec<u8>>,
    /// The framing of NAL units in samples.
    pub framing: Framing,
    /// Seconds per tick, positive.
    pub time_base: Rational,
    /// Sample aspect ratio of the container (width to height); both parts are zero if it is unknown.
    pub sample_aspect_ratio: Rational,
    /// Samples in decode order.
    pub samples: Vec<Sample>,
    /// Frame number to sample: displayable samples in presentation order.
    pub frames: Vec<u32>,
    /// Parameter sets inside samples, where all samples were read; `None` for MP4.
    pub(crate) history: Option<ParameterSetHistory>,
    pub(crate) noncontiguous: NoncontiguousSamples,
    /// The references of samples, if an index file has them.
    pub(crate) references: Option<TrackReferences>,
}

impl Track {
    /// Reads the index of video track `track` (0 is the first). Decodes nothing; containers without tables are read to
    /// their end. A budget for this opening alone limits memory and work.
    ///
    /// # Errors
    /// The kinds that make a video unreadable: see [`ErrorKind`].
    pub fn open(source: &Arc<dyn Source>, track: usize) -> Result<Track> {
        let pictures = Budget::new(picture_memory::default_bytes(&Machine::read(), 1));
        let index = IndexBudget::unshared();
        pictures.probe(|memory| {
            Track::open_within(source, track, ProbeLimits { pixels: DEFAULT_MAX_PIXELS, memory }, &index)
        })
    }

    /// As [`Track::open`], within `budget` for the index, and within `limits` for pictures that describe the streams.
    ///
    /// # Errors
    /// As [`Track::open`].
    pub(crate) fn open_within(
        source: &Arc<dyn Source>,
        track: usize,
        limits: ProbeLimits<'_>,
        budget: &IndexBudget,
    ) -> Result<Track> {
        let name = source.name().to_owned();
        let opened = budget.open_source(&**source, || open(source, track, limits));
        let track = opened.map_err(|error| error.of(&name))?;
        track.check();
        Ok(track)
    }

    /// The bytes of a sample, with the padding that decoders need. With `zeros` the padding is zeros, by a copy if
    /// necessary.
    ///
    /// # Errors
    /// Those of the source, with the sample's coordinates.
    ///
    /// # Panics
    /// If the track has no such sample.
    pub fn read(&self, source: &dyn Source, sample: u32, zeros: bool) -> Result<PaddedBytes> {
        let at = &self.samples[sample as usize];
        let result = if let Some(resident) = self.noncontiguous.resident.get(&sample) {
            Ok(resident.clone())
        } else if let (Some(grid), Some(location)) =
            (self.noncontiguous.packet_layout, self.noncontiguous.scattered.get(&sample))
        {
            ts::gather(source, grid, location, at.size as usize)
        } else if zeros {
            source.read_zero_padded(at.range())
        } else {
            source.read_padded(at.range())
        };
        result.map_err(|error| error.at_sample(sample, Some(at.offset)).of(source.name()))
    }

    /// Announces samples that will be read soon to the source.
    pub(crate) fn will_need(&self, source: &dyn Source, samples: impl Iterator<Item = u32>) {
        source.will_need(&mut samples.filter_map(|sample| self.extent(sample)));
    }

    /// True if a sample is in flight. See
    /// [`RemoteSource::is_pending_after`](crate::source::RemoteSource::is_pending_after).
    pub(crate) fn is_pending(&self, source: &dyn Source, sample: u32, timeout: Duration) -> bool {
        self.extent(sample).is_some_and(|range| source.is_pending_after(range, timeout))
    }

    /// True if a sample can be read without waiting.
    pub(crate) fn is_here(&self, source: &dyn Source, sample: u32) -> bool {
        self.extent(sample).is_none_or(|range| source.is_available(range))
    }

    /// The range of a sample, including headers between its parts; `None` for a sample in memory.
    pub(crate) fn extent(&self, sample: u32) -> Option<ByteRange> {
        if self.noncontiguous.resident.contains_key(&sample) {
            return None;
        }
        let whole = self.samples.get(sample as usize)?.range();
        let scattered = self.noncontiguous.scattered.get(&sample);
        Some(scattered.map_or(whole, |at| ByteRange { start: at.packet, len: at.end.saturating_sub(at.packet) }))
    }

    /// True if a sample is one range of the source.
    pub(crate) fn is_plain(&self, sample: u32) -> bool {
        !self.noncontiguous.resident.contains_key(&sample) && !self.noncontiguous.scattered.contains_key(&sample)
    }

    /// Debug builds: checks the invariants of the track.
    fn check(&self) {
        debug_assert_eq!(self.problem(), None);
    }

    /// The violated invariant, if any: the time base of an open video is usable, and its frames are its displayable
    /// samples, each once.
    fn problem(&self) -> Option<&'static str> {
        let (numerator, denominator) = self.time_base;
        let mut is_frame = vec![false; self.samples.len()];
        let mut is_new = |&sample: &u32| {
            is_frame.get_mut(sample as usize).is_some_and(|is_frame| !std::mem::replace(is_frame, true))
        };
        match () {
            () if numerator <= 0 || denominator <= 0 => Some("its time base is not positive"),
            () if self.frames.is_empty() => Some("it has no frames"),
            () if !self.frames.iter().all(&mut is_new) => Some("a frame has no sample, or that of another frame"),
            () if self.samples.iter().zip(is_frame).any(|(sample, is_frame)| sample.is_displayable() != is_frame) => {
                Some("its frames are not its displayable samples")
            }
            () => None,
        }
    }
}

/// Limits on the analysis of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProbeLimits<'a> {
    /// Pixels that a picture may have.
    pub(crate) pixels: u64,
    /// The account of pictures. If it has refused some, opening fails for that reason alone.
    pub(crate) memory: &'a Reservation,
}

fn open(source: &Arc<dyn Source>, track: usize, limits: ProbeLimits<'_>) -> Result<Track> {
    if source.is_empty() {
        return Err(ErrorKind::NotAVideo("the file is empty".into()).into());
    }
    if source.is_remote() {
        mov_tables::will_need(&**source)?;
    }
    let mut demuxer = Demuxer::open(Box::new(SourceInput(Arc::clone(source))), FORMATS).map_err(unreadable)?;
    if demuxer.is_mov() {
        return mov::index(&mut demuxer, source, track);
    }
    // The scan reads the whole file.
    source.will_need(&mut std::iter::once(ByteRange { start: 0, len: source.len() }));
    scan::index(&mut demuxer, source, track, limits)
}

/// The source's error if it failed; otherwise libavformat's error about the bytes.
fn unreadable(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::InvalidData {
        // libavformat returns this for tables and streams above its own limits.
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

/// The stream of video track `track`, and its codec.
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

/// Bytes per sample of an index, in [`Track`] and in its timeline and frame numbers.
const SAMPLE_BYTES: usize = size_of::<Sample>() + 40;

/// The limit of samples for a file of this length. A kilobyte of MP4 tables can declare a thousand million samples, and
/// an edit list can repeat each a thousand times; a real track has more bytes than samples. Their memory is limited by
/// the budget.
fn sample_limit(file_length: u64) -> usize {
    file_length.clamp(1 << 20, 1 << 24) as usize
}

/// The same where each sample is a packet: a pass over packets takes time for each, however short.
fn packet_limit(file_length: u64) -> usize {
    (file_length / 8).clamp(1 << 18, 1 << 24) as usize
}

/// A time base with positive parts: that of the file, or 1/90000 s if it has other parts.
fn sane_time_base((numerator, denominator): Rational) -> Rational {
    if numerator > 0 && denominator > 0 { (numerator, denominator) } else { (1, 90_000) }
}
