//! Every container but MP4: one pass over all packets.
//!
//! libavformat takes the container apart and cuts the elementary stream into access units; a parser of our own looks at
//! each for picture order, fields and parameter sets; [`Locator`] finds each packet's bytes again in the file, so that
//! nothing but the index stays in memory.

use std::sync::Arc;

use ffi::{Demuxed, Demuxer, PaddedBytes, Parser, PictureStructure, StreamInfo};

use super::locate::{Found, Locator};
use super::order::{self, Place};
use super::{Elsewhere, Sample, Track, choose, sane_time_base, summaries, unreadable};
use crate::bitstream::parameter_sets::History;
use crate::bitstream::{Codec, Framing, hevc, vp9};
use crate::error::{Error, ErrorKind, Result};
use crate::source::Source;

/// What samples that cannot be read in place may take, in bytes.
const RESIDENT_LIMIT: u64 = 256 << 20;

pub(super) fn index(demuxer: &mut Demuxer, source: &Arc<dyn Source>, track: usize) -> Result<Track> {
    let no_memory = |error| Error::from(ErrorKind::NotAVideo(format!("{error}")));
    demuxer.find_stream_info().map_err(unreadable)?;
    let mut streams = demuxer.streams().map_err(no_memory)?;
    let (chosen, codec) = choose(&streams, track)?;
    demuxer.keep_only(Some(chosen));
    let summaries = summaries(&streams);
    let frame_rate = demuxer.guess_frame_rate(chosen);
    let stream = streams.swap_remove(chosen);
    let container = container_name(demuxer.format_name());
    let mut scan = Scan::new(&stream, codec, source, container)?;
    while let Some(packet) = demuxer.read().map_err(unreadable)? {
        if packet.stream == chosen {
            scan.add(&packet)?;
        }
    }
    scan.finish(container, track, summaries, stream, frame_rate)
}

fn container_name(format: &'static str) -> &'static str {
    match format {
        "matroska,webm" => "matroska",
        "hevc" | "h264" => "annexb",
        other => other,
    }
}

struct Scan {
    codec: Codec,
    framing: Framing,
    parser: Option<Parser>,
    locator: Locator,
    samples: Vec<Sample>,
    places: Vec<Place>,
    elsewhere: Elsewhere,
    resident_bytes: u64,
    history: History,
    missing_pts: bool,
    /// A first field whose second has not come yet.
    open_field: Option<PictureStructure>,
}

impl Scan {
    fn new(stream: &StreamInfo, codec: Codec, source: &Arc<dyn Source>, container: &str) -> Result<Scan> {
        Ok(Scan {
            codec,
            framing: Framing::of(codec, stream.parameters.extradata()),
            // Only H.264 and H.265 have pictures whose order or pairing the parser must tell.
            parser: matches!(codec, Codec::Hevc | Codec::H264).then(|| Parser::new(&stream.parameters, true)).flatten(),
            locator: Locator::new(Arc::clone(source), (container == "mpegts").then_some(stream.id))?,
            samples: Vec::new(),
            places: Vec::new(),
            elsewhere: Elsewhere::default(),
            resident_bytes: 0,
            history: History::default(),
            missing_pts: false,
            open_field: None,
        })
    }

    fn add(&mut self, demuxed: &Demuxed) -> Result<()> {
        let data = demuxed.packet.data();
        if data.is_empty() {
            return Ok(());
        }
        let index = u32::try_from(self.samples.len()).map_err(|_| ErrorKind::IndexBudget { limit: u64::from(u32::MAX) })?;
        let offset = self.place_bytes(index, demuxed)?;
        self.history.note(index, self.codec, self.framing, data);
        let silent = self.note_picture(data);
        let pts = demuxed.packet.pts();
        self.missing_pts |= pts.is_none();
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

    /// Notes where the bytes of a packet are, and returns where they begin.
    fn place_bytes(&mut self, index: u32, demuxed: &Demuxed) -> Result<u64> {
        let data = demuxed.packet.data();
        self.elsewhere.first_piece.push(self.elsewhere.pieces.len() as u32);
        match self.locator.find(data, demuxed.position)? {
            Found::Whole(offset) => Ok(offset),
            Found::Pieces(pieces) => {
                let offset = pieces.first().map_or(0, |piece| piece.start);
                self.elsewhere.pieces.extend(pieces);
                Ok(offset)
            }
            Found::Nowhere => {
                self.resident_bytes += data.len() as u64;
                if self.resident_bytes > RESIDENT_LIMIT {
                    return Err(ErrorKind::IndexBudget { limit: RESIDENT_LIMIT }.into());
                }
                self.elsewhere.resident.insert(index, PaddedBytes::copy_of(&[data]));
                Ok(demuxed.position.unwrap_or(0))
            }
        }
    }

    /// Notes the picture's place in output order; true if the sample brings no picture of its own.
    fn note_picture(&mut self, data: &[u8]) -> bool {
        if self.codec == Codec::Vp9 {
            self.places.push(Place { sequence: 0, picture_order_count: 0 });
            return vp9::facts(data).is_some_and(|facts| !facts.shown);
        }
        let sequence = self.places.last().map_or(0, |place| place.sequence) + u32::from(self.starts_sequence(data));
        let unit = self.parser.as_mut().and_then(|parser| parser.parse(&PaddedBytes::copy_of(&[data]), 0).ok()?.1);
        let structure = unit.map_or(PictureStructure::Frame, |unit| unit.structure);
        self.places.push(Place { sequence, picture_order_count: unit.map_or(0, |unit| unit.picture_order_count) });
        self.is_second_field(structure)
    }

    /// Two fields of opposite parity in a row make one picture (H.264 7.4.1.2.4).
    fn is_second_field(&mut self, structure: PictureStructure) -> bool {
        let pairs = match (self.open_field, structure) {
            (_, PictureStructure::Frame) | (None, _) => false,
            (Some(first), second) => first != second,
        };
        self.open_field = (structure != PictureStructure::Frame && !pairs).then_some(structure);
        pairs
    }

    /// Does picture order begin anew here: at an IDR or BLA picture, or in H.264 wherever POC is reset?
    fn starts_sequence(&self, data: &[u8]) -> bool {
        self.framing.units(data).any(|unit| match self.codec {
            Codec::Hevc => hevc::header(unit).is_some_and(|(kind, layer)| layer == 0 && matches!(kind, 16..=20)),
            Codec::H264 => crate::bitstream::h264::kind(unit) == Some(5),
            _ => false,
        })
    }

    fn finish(
        mut self,
        container: &'static str,
        track: usize,
        streams: Vec<super::StreamSummary>,
        stream: StreamInfo,
        frame_rate: ffi::Rational,
    ) -> Result<Track> {
        let frames = if self.missing_pts && self.parser.is_some() {
            let frames = order::by_picture_order(&self.samples, &self.places);
            self.make_times(&frames);
            frames
        } else {
            order::by_pts(&self.samples)
        };
        if frames.is_empty() {
            return Err(ErrorKind::NoFrames.into());
        }
        if self.elsewhere.pieces.is_empty() {
            self.elsewhere.first_piece = Vec::new();
        }
        Ok(Track {
            container,
            streams,
            track,
            codec: self.codec,
            framing: self.framing,
            parameters: stream.parameters,
            descriptions: Vec::new(),
            time_base: sane_time_base(stream.time_base),
            average_frame_rate: frame_rate,
            sample_aspect_ratio: stream.sample_aspect_ratio,
            samples: self.samples,
            frames,
            history: Some(self.history),
            elsewhere: self.elsewhere,
        })
    }

    /// A raw stream has no times: frame after frame, each for as long as the parser says.
    fn make_times(&mut self, frames: &[u32]) {
        let mut time = 0;
        for &frame in frames {
            let sample = &mut self.samples[frame as usize];
            sample.duration = sample.duration.max(1);
            sample.pts = time;
            time += sample.duration;
        }
    }
}
