//! Indexes every container but MP4, in one pass over all packets.
//!
//! libavformat parses the container and cuts the elementary stream into access units. [`PictureReader`] reads picture
//! order and fields of each, and [`Locator`] finds its bytes in the file, so that only the index stays in memory.

use std::io;
use std::sync::Arc;

use ffi::{DemuxedPacket, Demuxer, PaddedBytes, StreamInfo, meter};

use super::locate::{Locator, PacketLocation};
use super::order;
use super::pictures::{OutputPosition, PictureReader};
use super::{
    Container, IndexBudget, NoncontiguousSamples, ProbeLimits, RESIDENT_BYTES, SAMPLE_BYTES, SCATTERED_BYTES, Sample,
    Track, choose, packet_limit, sane_time_base, summaries, unreadable,
};
use crate::bitstream::parameter_sets::{self, ParameterSetHistory};
use crate::bitstream::{Codec, Framing};
use crate::error::{Error, ErrorKind, Result};
use crate::source::Source;

/// The limit of samples that cannot be read in place, in bytes.
pub(super) const RESIDENT_LIMIT: u64 = 256 << 20;

/// Samples between two checks of the clock.
const LOOK: u32 = 64;

pub(super) fn index(
    demuxer: &mut Demuxer,
    source: &Arc<dyn Source>,
    track: usize,
    limits: ProbeLimits<'_>,
) -> Result<Track> {
    let no_memory = |error| Error::from(ErrorKind::NotAVideo(format!("{error}")));
    demuxer.find_stream_info(limits.pixels, limits.memory.account()).map_err(unreadable)?;
    if limits.memory.account().refused().is_some() {
        // The analysis of the streams is useless; the caller checks the account.
        return Err(ErrorKind::NotAVideo("no memory for its first pictures".into()).into());
    }
    // No decoding from here on, and bytes may be slow to arrive.
    limits.memory.release_unused();
    let mut streams = demuxer.streams().map_err(no_memory)?;
    let (chosen, codec) = choose(&streams, track)?;
    demuxer.keep_only(Some(chosen));
    let summaries = summaries(&streams);
    let stream = streams.swap_remove(chosen);
    let name = demuxer.format_name();
    let unknown = || ErrorKind::NotAVideo(format!("the container {name} is not supported"));
    let container = Container::of_demuxer(name).ok_or_else(unknown)?;
    let mut scan = Scan::new(&stream, codec, source, container)?;
    loop {
        match demuxer.read() {
            Ok(Some(packet)) if packet.stream == chosen => scan.add(&packet)?,
            Ok(Some(_)) => {}
            Ok(None) => break,
            // A sequential read ends at data that libavformat cannot parse; the samples before it are valid.
            Err(error) if error.kind() == io::ErrorKind::InvalidData && !scan.samples.is_empty() => break,
            Err(error) => return Err(unreadable(error)),
        }
    }
    scan.finish(container, track, summaries, stream)
}

struct Scan {
    codec: Codec,
    framing: Framing,
    pictures: PictureReader,
    locator: Locator,
    samples: Vec<Sample>,
    sample_limit: usize,
    positions: Vec<OutputPosition>,
    noncontiguous: NoncontiguousSamples,
    history: ParameterSetHistory,
    /// For each sample: it has a time of its own, or needs none.
    has_pts: Vec<bool>,
}

impl Scan {
    fn new(stream: &StreamInfo, codec: Codec, source: &Arc<dyn Source>, container: Container) -> Result<Scan> {
        let framing = Framing::of(codec, stream.parameters.extradata());
        Ok(Scan {
            codec,
            framing,
            pictures: PictureReader::new(codec, framing, &stream.parameters),
            locator: Locator::new(Arc::clone(source), (container == Container::MpegTs).then_some(stream.id))?,
            samples: Vec::new(),
            sample_limit: packet_limit(source.len()),
            positions: Vec::new(),
            noncontiguous: NoncontiguousSamples::default(),
            history: ParameterSetHistory::default(),
            has_pts: Vec::new(),
        })
    }

    fn add(&mut self, demuxed: &DemuxedPacket) -> Result<()> {
        let data = demuxed.packet.data();
        if data.is_empty() {
            return Ok(());
        }
        let (index, limit) = (self.samples.len() as u32, self.sample_limit);
        if self.samples.len() >= limit {
            return Err(ErrorKind::TooManySamples { samples: limit + 1, limit }.into());
        }
        IndexBudget::charge(SAMPLE_BYTES)?;
        if index % LOOK == 0 && !meter::work(0) {
            return Err(ErrorKind::IndexTooCostly("").into());
        }
        let offset = self.place_bytes(index, demuxed)?;
        if !self.history.note(index, self.codec, self.framing, data) {
            return Err(ErrorKind::IndexBudget { limit: parameter_sets::LIMIT as u64 }.into());
        }
        // The parser needs padding, and the packet belongs to libavformat: a copy of data that is read once.
        let (position, silent) = self.pictures.read(&PaddedBytes::copy_of(&[data]));
        self.positions.push(position);
        let pts = demuxed.packet.pts();
        self.has_pts.push(pts.is_some() || silent);
        self.samples.push(Sample {
            offset,
            size: data.len() as u32,
            description: 0,
            key: demuxed.key,
            discard: demuxed.discard,
            silent,
            pts: pts.unwrap_or(0),
            dts: demuxed.packet.dts(),
            duration: demuxed.duration,
        });
        Ok(())
    }

    /// Records the location of a packet's bytes, and returns its offset.
    fn place_bytes(&mut self, index: u32, demuxed: &DemuxedPacket) -> Result<u64> {
        let data = demuxed.packet.data();
        match self.locator.find(data, demuxed.position)? {
            PacketLocation::Whole(offset) => Ok(offset),
            PacketLocation::Scattered(location) => {
                let packet = location.packet;
                IndexBudget::charge(SCATTERED_BYTES)?;
                self.noncontiguous.scattered.insert(index, location);
                Ok(packet)
            }
            PacketLocation::Nowhere => {
                self.noncontiguous.resident_bytes += data.len() as u64;
                if self.noncontiguous.resident_bytes > RESIDENT_LIMIT {
                    return Err(ErrorKind::IndexBudget { limit: RESIDENT_LIMIT }.into());
                }
                IndexBudget::charge(data.len() + RESIDENT_BYTES)?;
                self.noncontiguous.resident.insert(index, PaddedBytes::copy_of(&[data]));
                Ok(demuxed.position.unwrap_or(0))
            }
        }
    }

    fn finish(
        mut self,
        container: Container,
        track: usize,
        streams: Vec<super::StreamSummary>,
        stream: StreamInfo,
    ) -> Result<Track> {
        let mut frames = order::by_pts(&self.samples);
        let is_timed = self.has_pts.iter().all(|&has| has);
        let is_ordered_by_pts = is_timed && order::has_distinct_pts(&self.samples, &frames);
        if !is_ordered_by_pts && self.pictures.reorders() {
            frames = order::by_picture_order(&self.samples, &self.positions);
        }
        if !is_timed {
            self.make_times(&frames);
        }
        if frames.is_empty() {
            return Err(ErrorKind::NoFrames.into());
        }
        self.noncontiguous.packet_layout = self.locator.packet_layout();
        Ok(Track {
            container,
            streams,
            track,
            codec: self.codec,
            framing: self.framing,
            parameters: stream.parameters,
            descriptions: Vec::new(),
            time_base: sane_time_base(stream.time_base),
            sample_aspect_ratio: stream.sample_aspect_ratio,
            samples: self.samples,
            frames,
            history: Some(self.history),
            noncontiguous: self.noncontiguous,
            references: None,
        })
    }

    /// Sets times for a raw stream: the durations of the parser, one after another. Existing times stay.
    fn make_times(&mut self, frames: &[u32]) {
        let mut time = 0;
        for &frame in frames {
            let sample = &mut self.samples[frame as usize];
            sample.duration = sample.duration.max(1);
            if !self.has_pts[frame as usize] {
                sample.pts = time;
            }
            time = sample.pts.saturating_add(sample.duration);
        }
    }
}
