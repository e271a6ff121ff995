//! Damaged copies of intact clips, reproducible from a seed, with their known damage.
//!
//! [`variants`] creates them; `observations` decodes them, and `foreign` detects other videos in them. `bombs` are
//! streams that claim large pictures. `clip` splits and joins clips, `sets` rewrites sizes, `tiles` finds tiles. Raw
//! streams and IVF lose and gain access units; in MP4 and Matroska bytes change in place, so that the tables stay
//! valid: removed parts become filler data, and cut parts end in zeros.

pub mod bombs;
pub mod clip;
pub mod foreign;
pub mod observations;
mod sets;
mod tiles;

use std::fmt;

use bucket_streamer::bitstream::av1_refs::Av1Tracker;
use bucket_streamer::bitstream::{Codec, vp9_refs};
use fastrand::Rng;

pub use clip::{ContainerForm, IntactClip, NumberedUnits, UnitOrigins, UnitPieces, open};

/// The kind of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DamageKind {
    /// A slice is removed. In VP9 and AV1: the last tile of a frame.
    SliceMissing,
    /// A slice is repeated.
    SliceRepeated,
    /// The second slice is marked as the first of its picture too.
    SecondFirst,
    /// A slice, or a frame, is cut.
    SliceCut,
    /// The bytes of a tile are overwritten.
    TileOverwritten,
    /// The size of a tile, of an OBU, or of a row of blocks (H.265 entry points) is changed.
    TileSize,
    /// An access unit is removed.
    PacketLost,
    /// Three consecutive ones are removed.
    PacketsLost,
    /// A key frame is removed.
    KeyLost,
    /// A referenced access unit is removed.
    ReferenceLost,
    /// The size of the pictures is rewritten.
    SizeRewritten,
    /// The file is cut.
    Truncated,
    /// Some bytes in the middle of a slice are overwritten.
    Overwritten,
    /// One bit is flipped.
    BitFlipped,
}

impl DamageKind {
    /// All kinds, in the order of [`variants`].
    pub const ALL: [DamageKind; 14] = [
        DamageKind::SliceMissing,
        DamageKind::SliceRepeated,
        DamageKind::SecondFirst,
        DamageKind::SliceCut,
        DamageKind::TileOverwritten,
        DamageKind::TileSize,
        DamageKind::PacketLost,
        DamageKind::PacketsLost,
        DamageKind::KeyLost,
        DamageKind::ReferenceLost,
        DamageKind::SizeRewritten,
        DamageKind::Truncated,
        DamageKind::Overwritten,
        DamageKind::BitFlipped,
    ];

    /// Whether a decoder can always detect the damage. Other bytes in a slice or a tile, and a tile with another
    /// beginning, may just mean other pixels.
    pub fn is_known(self) -> bool {
        use DamageKind::{BitFlipped, Overwritten, SizeRewritten, TileOverwritten, TileSize};
        !matches!(self, BitFlipped | Overwritten | TileOverwritten | TileSize | SizeRewritten)
    }
}

impl DamageKind {
    /// Whether whole access units are removed.
    pub fn is_loss(self) -> bool {
        matches!(
            self,
            DamageKind::PacketLost | DamageKind::PacketsLost | DamageKind::KeyLost | DamageKind::ReferenceLost
        )
    }
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            DamageKind::SliceMissing => "slice missing",
            DamageKind::SliceRepeated => "slice repeated",
            DamageKind::SecondFirst => "second first",
            DamageKind::SliceCut => "slice cut",
            DamageKind::TileOverwritten => "tile overwritten",
            DamageKind::TileSize => "tile size",
            DamageKind::PacketLost => "packet lost",
            DamageKind::PacketsLost => "packets lost",
            DamageKind::KeyLost => "key lost",
            DamageKind::ReferenceLost => "reference lost",
            DamageKind::SizeRewritten => "size rewritten",
            DamageKind::Truncated => "truncated",
            DamageKind::Overwritten => "overwritten",
            DamageKind::BitFlipped => "bit flipped",
        })
    }
}

/// A damaged copy of a clip.
#[derive(Debug, Clone)]
pub struct DamagedClip {
    /// The clip's name, the kind of damage, and a number: suitable as a file name.
    pub name: String,
    pub kind: DamageKind,
    pub bytes: Vec<u8>,
    /// The first damaged access unit of the intact clip, in decode order; `None` for all of them.
    pub first_damaged: Option<usize>,
    /// Offsets of access units, ascending, with their numbers in the intact clip.
    origins: UnitOrigins,
    /// Bytes by which a sample may begin early: a parser may attribute the zeros of a start code to the preceding unit.
    slack: usize,
}

impl DamagedClip {
    /// The access unit of the intact clip from which the bytes of a sample come.
    pub fn origin(&self, offset: u64) -> Option<usize> {
        let offset = usize::try_from(offset).ok()?;
        let after = self.origins.partition_point(|&(start, _)| start <= offset + self.slack);
        Some(self.origins.get(after.checked_sub(1)?)?.1)
    }
}

/// Damaged copies of the clip: for each kind of damage that is possible in it up to `times`, at positions from the seed.
/// The same arguments give the same copies. A copy without any changed byte is omitted.
pub fn variants(clip: &IntactClip, seed: u64, times: usize) -> Vec<DamagedClip> {
    let mut random = Rng::with_seed(seed);
    let mut all = Vec::new();
    for kind in DamageKind::ALL {
        for number in 0..times {
            let mut attack = DamageInjector { clip, random: Rng::with_seed(random.u64(..)) };
            if let Some((units, first_touched)) = attack.units(kind)
                && let Some((bytes, origins)) = clip.with(&units)
            {
                all.push(attack.finish(kind, number, bytes, origins, first_touched));
            } else if let Some((bytes, first_touched)) = attack.damage_file(kind, number) {
                let units = clip.units();
                let origins = clip.with(&units).map(|(_, origins)| origins).unwrap_or_default();
                all.push(attack.finish(kind, number, bytes, origins, first_touched));
            }
        }
    }
    all.retain(|damaged| damaged.bytes != clip.bytes);
    all
}

/// A copy with this picture size; `None` if the container cannot hold it.
pub fn resized(clip: &IntactClip, size: (u64, u64)) -> Option<DamagedClip> {
    let mut attack = DamageInjector { clip, random: Rng::with_seed(0) };
    let (bytes, origins) = if let Some(units) = attack.resized_units(size) {
        clip.with(&units)?
    } else {
        (attack.resized_header(size)?, clip.with(&clip.units())?.1)
    };
    (bytes != clip.bytes).then(|| attack.finish(DamageKind::SizeRewritten, size.0 as usize, bytes, origins, None))
}

/// A copy with damage of this kind in every `every`-th access unit, where possible; `None` if in none.
pub fn damage_repeatedly(clip: &IntactClip, kind: DamageKind, every: usize, seed: u64) -> Option<DamagedClip> {
    const TRIES: usize = 8;
    let mut attack = DamageInjector { clip, random: Rng::with_seed(seed) };
    let mut units = clip.units();
    for (sample, unit) in units.iter_mut().step_by(every) {
        if let Some(other) = (0..TRIES).find_map(|_| attack.damage_unit(kind, *sample)) {
            *unit = other;
        }
    }
    let (bytes, origins) = clip.with(&units)?;
    (bytes != clip.bytes).then(|| attack.finish(kind, clip.samples.len() / every, bytes, origins, Some(0)))
}

struct DamageInjector<'a> {
    clip: &'a IntactClip,
    random: Rng,
}

impl DamageInjector<'_> {
    fn finish(
        &mut self,
        kind: DamageKind,
        number: usize,
        bytes: Vec<u8>,
        origins: UnitOrigins,
        first_touched: Option<usize>,
    ) -> DamagedClip {
        let (stem, extension) = self.clip.name.rsplit_once('.').unwrap_or((&self.clip.name, ""));
        let kind_name = kind.to_string().replace(' ', "-");
        let name = format!("{stem}.{kind_name}.{number}.{extension}");
        let slack = if self.clip.form == ContainerForm::AnnexB { 4 } else { 0 };
        DamagedClip { name, kind, bytes, first_damaged: first_touched, origins, slack }
    }

    /// The access units of a copy with this damage; `None` if it is not possible in the clip.
    fn units(&mut self, kind: DamageKind) -> Option<(NumberedUnits, Option<usize>)> {
        match kind {
            DamageKind::PacketLost | DamageKind::PacketsLost | DamageKind::KeyLost | DamageKind::ReferenceLost => {
                self.remove_units(kind)
            }
            DamageKind::SizeRewritten | DamageKind::Truncated => None,
            _ => {
                // If the damage is not possible at a place, others are tried.
                (0..24).find_map(|_| {
                    let sample = self.random.usize(..self.clip.samples.len());
                    let unit = self.damage_unit(kind, sample)?;
                    let mut units = self.clip.units();
                    (units[sample].1 != unit).then_some(())?;
                    units[sample].1 = unit;
                    Some((units, Some(sample)))
                })
            }
        }
    }

    /// Damages one access unit.
    fn damage_unit(&mut self, kind: DamageKind, sample: usize) -> Option<Vec<u8>> {
        let mut pieces = self.clip.pieces(sample);
        if self.clip.has_slices() {
            self.slices(kind, &mut pieces)?;
        } else {
            self.frames(kind, &mut pieces)?;
        }
        Some(self.clip.join(&pieces))
    }

    fn slices(&mut self, kind: DamageKind, pieces: &mut UnitPieces) -> Option<()> {
        let in_place = self.clip.form == ContainerForm::InPlace;
        let slices: Vec<usize> = (0..pieces.len()).filter(|&at| self.is_slice(&pieces[at])).collect();
        let several = slices.len() > 1;
        let &chosen = slices.get(self.random.usize(..slices.len().max(1)))?;
        match kind {
            DamageKind::SliceMissing if several && in_place => self.blank(&mut pieces[chosen]),
            DamageKind::SliceMissing if several => _ = pieces.remove(chosen),
            DamageKind::SliceRepeated if several && !in_place => pieces.insert(chosen, pieces[chosen].clone()),
            // Either the flag alone, so that the header's other fields are misread, or the first slice once more.
            DamageKind::SecondFirst
                if several && self.clip.codec == Codec::Hevc && (in_place || self.random.bool()) =>
            {
                *pieces[slices[1]].get_mut(2)? |= 0x80;
            }
            DamageKind::SecondFirst if several && !in_place => pieces[slices[1]] = pieces[slices[0]].clone(),
            DamageKind::SliceCut => self.cut(&mut pieces[chosen], 12)?,
            DamageKind::TileSize if self.clip.codec == Codec::Hevc => {
                // The entry points are at these bytes of a header that has them, as those of wavefronts do.
                let is_rows = self.clip.name.contains("wavefronts");
                (is_rows && pieces[chosen].len() > 40).then_some(())?;
                self.scribble(&mut pieces[chosen][10..20]);
            }
            DamageKind::Overwritten => self.overwrite(&mut pieces[chosen], 16)?,
            DamageKind::BitFlipped => self.flip(&mut pieces[chosen], 12)?,
            _ => return None,
        }
        Some(())
    }

    fn frames(&mut self, kind: DamageKind, pieces: &mut UnitPieces) -> Option<()> {
        let codec = self.clip.codec;
        let in_place = self.clip.form == ContainerForm::InPlace;
        let with_frames: Vec<usize> =
            (0..pieces.len()).filter(|&at| !tiles::frames(codec, &pieces[at]).is_empty()).collect();
        let &chosen = with_frames.get(self.random.usize(..with_frames.len().max(1)))?;
        let frames = tiles::frames(codec, &pieces[chosen]);
        let frame = frames[self.random.usize(..frames.len())].clone();
        let is_alone = frame.end == pieces[chosen].len();
        let data = &mut pieces[chosen][frame.clone()];
        match kind {
            DamageKind::SliceMissing if is_alone && !in_place => {
                let found = tiles::find(codec, &pieces[chosen][frame.clone()])?;
                let end = frame.start + found.data.last()?.start;
                self.shorten(&mut pieces[chosen], frame.start, end);
            }
            DamageKind::SliceCut if is_alone && !in_place && frame.len() > 40 => {
                let end = frame.start + frame.len() * self.random.usize(40..80) / 100;
                self.shorten(&mut pieces[chosen], frame.start, end);
            }
            DamageKind::SliceCut => {
                let end = data.len();
                (end > 40).then_some(())?;
                data[end * 2 / 3..].fill(0);
            }
            DamageKind::TileOverwritten => {
                let found = tiles::find(codec, data)?;
                let tile = found.data[self.random.usize(..found.data.len())].clone();
                (tile.len() > 8).then_some(())?;
                self.scribble(&mut data[tile.start + tile.len() / 4..tile.end]);
            }
            DamageKind::TileSize => {
                let found = tiles::find(codec, data)?;
                let field = found.sizes[self.random.usize(..found.sizes.len())].clone();
                let low = if codec == Codec::Vp9 { field.end - 1 } else { field.start };
                let high = if codec == Codec::Vp9 { field.end - 2 } else { (field.start + 1).min(field.end - 1) };
                match self.random.u8(..3) {
                    0 => data[high] ^= 0x40,
                    1 => data[low] = data[low].wrapping_sub(self.random.u8(1..20)),
                    _ => data[low] = data[low].wrapping_add(self.random.u8(1..20)),
                }
            }
            DamageKind::Overwritten => self.overwrite(data, data.len() / 2)?,
            DamageKind::BitFlipped => self.flip(data, data.len() / 3)?,
            _ => return None,
        }
        Some(())
    }

    /// Cuts the frame in a piece, with correct sizes.
    fn shorten(&self, piece: &mut Vec<u8>, start: usize, end: usize) {
        if self.clip.codec == Codec::Av1 {
            *piece = tiles::obu_with(piece, &piece[start..end]);
        } else {
            piece.truncate(end);
        }
    }

    fn remove_units(&mut self, kind: DamageKind) -> Option<(NumberedUnits, Option<usize>)> {
        let is_reference = self.references();
        let count = self.clip.samples.len();
        let keys = &self.clip.keys;
        let candidates: Vec<usize> = (1..count.saturating_sub(3))
            .filter(|&at| match kind {
                // An AV1 key frame directly after another one leaves no trace: later frames refer to the first in its
                // place.
                DamageKind::KeyLost => keys[at] && !(self.clip.codec == Codec::Av1 && keys[at - 1]),
                DamageKind::ReferenceLost => is_reference[at] && !keys[at],
                DamageKind::PacketsLost => !keys[at..at + 3].contains(&true),
                _ => !keys[at],
            })
            .collect();
        let &first = candidates.get(self.random.usize(..candidates.len().max(1)))?;
        let lost = first..first + if kind == DamageKind::PacketsLost { 3 } else { 1 };
        let mut units = self.clip.units();
        if self.clip.form == ContainerForm::InPlace {
            for sample in lost {
                let mut pieces = self.clip.pieces(sample);
                pieces.iter_mut().for_each(|piece| self.blank(piece));
                units[sample].1 = self.clip.join(&pieces);
            }
            (self.clip.codec != Codec::Vp9).then_some(())?;
        } else {
            units.drain(lost);
        }
        Some((units, Some(first)))
    }

    /// The access units that others may refer to, according to their headers.
    fn references(&self) -> Vec<bool> {
        let clip = self.clip;
        let mut tracker = Av1Tracker::new(&clip.extradata);
        (0..clip.samples.len())
            .map(|sample| match clip.codec {
                Codec::H264 => clip.pieces(sample).iter().any(|unit| self.is_slice(unit) && unit[0] & 0x60 != 0),
                Codec::Hevc => {
                    let is_kept = |unit: &Vec<u8>| self.is_slice(unit) && (unit[0] >> 1 & 1 == 1 || unit[0] >> 1 >= 16);
                    clip.pieces(sample).iter().any(is_kept)
                }
                Codec::Vp9 => {
                    let frames = vp9_refs::frames(&clip.bytes[clip.samples[sample].clone()]).unwrap_or_default();
                    frames.iter().any(|frame| {
                        matches!(vp9_refs::Vp9FrameHeader::parse(frame),
                            Some(vp9_refs::Vp9FrameHeader::Frame { refresh, .. }) if refresh != 0)
                    })
                }
                Codec::Av1 => tracker
                    .take(sample as u32, &clip.bytes[clip.samples[sample].clone()])
                    .is_some_and(|unit| unit.refreshes),
            })
            .collect()
    }

    fn damage_file(&mut self, kind: DamageKind, number: usize) -> Option<(Vec<u8>, Option<usize>)> {
        match kind {
            DamageKind::Truncated => {
                let length = self.clip.bytes.len();
                let cut = length * self.random.usize(50..95) / 100;
                let first = self.clip.samples.iter().position(|range| range.end > cut);
                Some((self.clip.bytes[..cut].to_vec(), first))
            }
            DamageKind::SizeRewritten => {
                const SIZES: [(u64, u64); 7] =
                    [(640, 368), (240, 144), (336, 192), (304, 176), (3840, 2160), (320, 240), (384, 128)];
                let start = self.random.usize(..SIZES.len());
                let tried = (0..SIZES.len()).map(|at| SIZES[(start + at + number) % SIZES.len()]);
                for size in tried {
                    let bytes = match self.resized_units(size) {
                        Some(units) => self.clip.with(&units).map(|(bytes, _)| bytes),
                        None => self.resized_header(size),
                    };
                    if let Some(bytes) = bytes.filter(|bytes| *bytes != self.clip.bytes) {
                        return Some((bytes, None));
                    }
                }
                None
            }
            _ => None,
        }
    }

    /// The access units with another size in their headers; `None` if no header has one.
    fn resized_units(&mut self, size: (u64, u64)) -> Option<NumberedUnits> {
        let mut units = self.clip.units();
        let mut has_changed = false;
        for (sample, unit) in &mut units {
            let mut pieces = self.clip.pieces(*sample);
            for piece in &mut pieces {
                let other = match self.clip.codec {
                    codec @ (Codec::H264 | Codec::Hevc) if sets::is_sps(codec, piece) => {
                        sets::resized_sps(codec, piece, size)
                    }
                    Codec::Vp9 => sets::resized_vp9(piece, size),
                    Codec::Av1 if tiles::kind(piece) == tiles::SEQUENCE_HEADER => {
                        let (begin, _) = tiles::payload(piece)?;
                        sets::resized_av1(&piece[begin..], size).map(|payload| tiles::obu_with(piece, &payload))
                    }
                    _ => None,
                };
                if let Some(other) = other {
                    has_changed |= other != *piece;
                    *piece = other;
                }
            }
            *unit = self.clip.join(&pieces);
        }
        let fits = |&(sample, ref unit): &(usize, Vec<u8>)| unit.len() == self.clip.samples[sample].len();
        let fits = self.clip.form != ContainerForm::InPlace || units.iter().all(fits);
        (has_changed && fits).then_some(units)
    }

    /// The file with another size in the decoder configuration, of the same length.
    fn resized_header(&mut self, size: (u64, u64)) -> Option<Vec<u8>> {
        let sets = clip::configuration(self.clip.codec, &self.clip.extradata)?;
        let sps = sets.iter().find(|unit| sets::is_sps(self.clip.codec, unit))?;
        let other = sets::resized_sps(self.clip.codec, sps, size).filter(|other| other.len() == sps.len())?;
        let mut bytes = self.clip.bytes.clone();
        let at = bytes.windows(sps.len()).position(|window| window == sps)?;
        bytes[at..at + sps.len()].copy_from_slice(&other);
        Some(bytes)
    }

    fn is_slice(&self, unit: &[u8]) -> bool {
        let Some(&first) = unit.first() else { return false };
        match self.clip.codec {
            Codec::H264 => matches!(first & 31, 1..=5),
            _ => first >> 1 & 63 < 32,
        }
    }

    /// A unit of the same length that decoders ignore: filler data, padding.
    fn blank(&self, unit: &mut [u8]) {
        if let Some(first) = unit.first_mut() {
            match self.clip.codec {
                Codec::H264 => *first = 12,
                Codec::Hevc => *first = 38 << 1,
                Codec::Av1 => *first = *first & 0x87 | 15 << 3,
                Codec::Vp9 => (),
            }
        }
    }

    /// Cuts a slice: removes the rest, or zeroes it where the length must stay.
    fn cut(&mut self, unit: &mut Vec<u8>, least: usize) -> Option<()> {
        (unit.len() > 2 * least).then_some(())?;
        let end = unit.len() * self.random.usize(40..75) / 100;
        if self.clip.form == ContainerForm::InPlace {
            unit[end..].fill(0)
        } else {
            unit.truncate(end.max(least))
        }
        Some(())
    }

    /// Overwrites bytes in the middle, after the header.
    fn overwrite(&mut self, unit: &mut [u8], header: usize) -> Option<()> {
        (unit.len() > header + 16).then_some(())?;
        let begin = self.random.usize(header..unit.len() - 12);
        let end = unit.len().min(begin + self.random.usize(8..64)) - 2;
        self.scribble(&mut unit[begin..end]);
        Some(())
    }

    /// Bytes above 3, which neither make a start code nor remove emulation prevention.
    fn scribble(&mut self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = self.random.u8(4..));
    }

    /// Flips a bit after the header, without making a start code.
    fn flip(&mut self, unit: &mut [u8], header: usize) -> Option<()> {
        (unit.len() > header + 8).then_some(())?;
        let at = self.random.usize(header..unit.len() - 1);
        let is_escaped =
            |unit: &[u8]| (at.max(2)..unit.len().min(at + 3)).any(|end| unit[end - 2..=end] <= [0, 0, 3][..]);
        (!is_escaped(unit)).then_some(())?;
        unit[at] ^= 1 << self.random.u8(..8);
        (!is_escaped(unit)).then_some(())
    }
}
