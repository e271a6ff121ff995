//! Intact clips, split into access units, and these into NAL units or OBUs.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bucket_streamer::bitstream::{Codec, Framing};
use bucket_streamer::container::Container;
use bucket_streamer::source::{MemorySource, Source};
use bucket_streamer::{Engine, Video};

use crate::clips::{fixture, name};

/// How a container allows its samples to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerForm {
    /// Annex B: access units are concatenated.
    AnnexB,
    /// IVF: a header of 12 bytes before each packet.
    Ivf,
    /// Tables have the offsets of samples: bytes change in place.
    InPlace,
}

/// Bytes before the first packet of an IVF file, and before each packet.
const IVF_FILE: usize = 32;
const IVF_PACKET: usize = 12;

/// An intact clip in memory.
#[derive(Debug, Clone)]
pub struct IntactClip {
    /// For messages.
    pub name: String,
    pub codec: Codec,
    pub form: ContainerForm,
    pub framing: Framing,
    pub bytes: Vec<u8>,
    /// The decoder configuration of the container.
    pub extradata: Vec<u8>,
    /// Ranges of access units, in decode order.
    pub samples: Vec<Range<usize>>,
    /// Whether each is a key frame, according to the container.
    pub keys: Vec<bool>,
}

/// The parts of an access unit: NAL units without start code or length, OBUs with header, or a whole VP9 packet.
pub type UnitPieces = Vec<Vec<u8>>;

/// Access units, each with its original number.
pub type NumberedUnits = Vec<(usize, Vec<u8>)>;

/// Offsets of access units, ascending, each with its original number.
pub type UnitOrigins = Vec<(usize, usize)>;

/// Opens the first track of `bytes` as a video. `name` is the name in messages.
pub fn open(engine: &Engine, name: &str, bytes: &[u8]) -> bucket_streamer::Result<Video> {
    let source: Arc<dyn Source> = Arc::new(MemorySource::new(name, bytes.to_vec()));
    engine.open(source, 0)
}

impl IntactClip {
    /// Reads a fixture.
    ///
    /// # Panics
    /// If the fixture is no clip that can be damaged.
    pub fn fixture(name: &str) -> IntactClip {
        IntactClip::read(&fixture(name)).unwrap_or_else(|| panic!("{name} is no clip that can be damaged"))
    }

    /// Reads a file; `None` if it is no video, or its samples are not contiguous in it.
    pub fn read(path: &Path) -> Option<IntactClip> {
        IntactClip::of(&name(path), std::fs::read(path).ok()?)
    }

    /// The clip with these bytes; `None` under the conditions of [`IntactClip::read`].
    pub fn of(name: &str, bytes: Vec<u8>) -> Option<IntactClip> {
        let video = open(&Engine::new(Some(1)), name, &bytes).ok()?;
        let track = video.track();
        let form = match track.container {
            Container::AnnexB => ContainerForm::AnnexB,
            Container::Ivf => ContainerForm::Ivf,
            Container::Mp4 | Container::Matroska => ContainerForm::InPlace,
            Container::MpegTs | Container::Obu | Container::Av1 => return None,
        };
        let range = |at: &bucket_streamer::container::Sample| {
            let start = usize::try_from(at.offset).unwrap_or(usize::MAX);
            start..start.saturating_add(at.size as usize)
        };
        let samples: Vec<_> = track.samples.iter().map(range).collect();
        samples.iter().all(|range| range.end <= bytes.len()).then_some(())?;
        Some(IntactClip {
            name: name.into(),
            codec: track.codec,
            form,
            framing: track.framing,
            extradata: track.parameters.extradata().to_vec(),
            keys: track.samples.iter().map(|sample| sample.key).collect(),
            samples,
            bytes,
        })
    }

    /// Whether the codec has slices in NAL units: H.264 or H.265.
    pub fn has_slices(&self) -> bool {
        matches!(self.codec, Codec::H264 | Codec::Hevc)
    }

    /// Splits access unit `sample`, counted in decode order, into its pieces.
    pub fn pieces(&self, sample: usize) -> UnitPieces {
        let bytes = &self.bytes[self.samples[sample].clone()];
        match self.codec {
            Codec::H264 | Codec::Hevc => self.framing.units(bytes).map(<[u8]>::to_vec).collect(),
            Codec::Av1 => super::tiles::obus(bytes),
            Codec::Vp9 => vec![bytes.to_vec()],
        }
    }

    /// The bytes of an access unit with these pieces: the reverse of [`IntactClip::pieces`].
    pub fn join(&self, pieces: &UnitPieces) -> Vec<u8> {
        if self.has_slices() {
            pieces.iter().flat_map(|piece| self.framing.frame(piece)).collect()
        } else {
            pieces.concat()
        }
    }

    /// A copy with other access units, and their offsets and original numbers. `None` if the container cannot hold
    /// them.
    pub fn with(&self, units: &[(usize, Vec<u8>)]) -> Option<(Vec<u8>, UnitOrigins)> {
        let mut origins = Vec::with_capacity(units.len());
        let mut bytes = match self.form {
            ContainerForm::AnnexB => Vec::new(),
            ContainerForm::Ivf => self.bytes.get(..IVF_FILE)?.to_vec(),
            ContainerForm::InPlace => self.bytes.clone(),
        };
        for (sample, unit) in units {
            let range = self.samples[*sample].clone();
            match self.form {
                ContainerForm::AnnexB => origins.push((bytes.len(), *sample)),
                ContainerForm::Ivf => {
                    origins.push((bytes.len(), *sample));
                    bytes.extend_from_slice(&u32::try_from(unit.len()).ok()?.to_le_bytes());
                    bytes.extend_from_slice(&self.bytes[range.start - IVF_PACKET + 4..range.start]);
                }
                ContainerForm::InPlace => {
                    (unit.len() == range.len()).then_some(())?;
                    origins.push((range.start, *sample));
                    bytes[range].copy_from_slice(unit);
                    continue;
                }
            }
            bytes.extend_from_slice(unit);
        }
        origins.sort_unstable();
        (self.form != ContainerForm::InPlace || units.len() == self.samples.len()).then_some((bytes, origins))
    }

    /// All access units in decode order, unchanged.
    pub fn units(&self) -> NumberedUnits {
        self.samples.iter().map(|range| self.bytes[range.clone()].to_vec()).enumerate().collect()
    }

    /// Some access units as a clip; the first must be a key frame. `None` if that needs other tables.
    pub fn part(&self, samples: Range<usize>) -> Option<IntactClip> {
        if self.form == ContainerForm::InPlace {
            return None;
        }
        let (bytes, _) = self.with(&self.units()[samples.clone()])?;
        let (stem, extension) = self.name.rsplit_once('.').unwrap_or((&self.name, ""));
        let name = format!("{stem}-from-{}.{extension}", samples.start);
        IntactClip::of(&name, bytes).filter(|clip| clip.samples.len() == samples.len())
    }

    /// An H.264 or H.265 clip of another container as Annex B, with the header's parameter sets before each key frame.
    pub fn annex_b(&self) -> Option<IntactClip> {
        self.has_slices().then_some(())?;
        let sets: Vec<u8> =
            configuration(self.codec, &self.extradata)?.iter().flat_map(|unit| Framing::AnnexB.frame(unit)).collect();
        let mut bytes = Vec::new();
        for sample in 0..self.samples.len() {
            if self.keys[sample] {
                bytes.extend_from_slice(&sets);
            }
            let pieces = self.pieces(sample);
            bytes.extend(pieces.iter().flat_map(|piece| Framing::AnnexB.frame(piece)));
        }
        let extension = if self.codec == Codec::Hevc { "265" } else { "264" };
        let stem = self.name.rsplit_once('.').map_or(&*self.name, |(stem, _)| stem);
        IntactClip::of(&format!("{stem}.{extension}"), bytes).filter(|clip| clip.samples.len() == self.samples.len())
    }
}

/// The parameter sets of an `avcC` or `hvcC` record.
pub fn configuration(codec: Codec, record: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut at, mut sets) = (0, Vec::new());
    let mut take = |count: usize| {
        at += count;
        record.get(at - count..at)
    };
    match codec {
        Codec::H264 => {
            take(5)?;
            for mask in [31, 255] {
                for _ in 0..take(1)?[0] & mask {
                    let length = take(2)?;
                    sets.push(take(usize::from(length[0]) << 8 | usize::from(length[1]))?.to_vec());
                }
            }
        }
        Codec::Hevc => {
            take(22)?;
            for _ in 0..take(1)?[0] {
                let array = take(3)?;
                for _ in 0..usize::from(array[1]) << 8 | usize::from(array[2]) {
                    let length = take(2)?;
                    sets.push(take(usize::from(length[0]) << 8 | usize::from(length[1]))?.to_vec());
                }
            }
        }
        Codec::Vp9 | Codec::Av1 => return None,
    }
    Some(sets)
}
