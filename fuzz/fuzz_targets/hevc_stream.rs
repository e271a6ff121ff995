//! H.265 streams written field by field (ITU-T H.265, 7.3): parameter sets, slice headers, and noise as slice data,
//! which CABAC decodes without error.
//!
//! Fields are mostly in range and consistent, so that a decoder gets far; each may be any other number.

use super::choices::Choices;
use super::hevc_bits::unit;
use super::hevc_changed;
use super::hevc_sets::{GeneratedSets, pps, sps, vps};
use super::hevc_slices::slice;

/// A stream: parameter sets, and samples of one or more units.
pub struct HevcStream {
    pub sets: Vec<Vec<u8>>,
    pub samples: Vec<GeneratedUnit>,
    pub size: (u32, u32),
}

pub struct GeneratedUnit {
    pub units: Vec<Vec<u8>>,
    pub is_sync: bool,
}

const PICTURES: usize = 10;

impl HevcStream {
    pub fn new(choices: &mut Choices<'_>) -> HevcStream {
        choices.tame();
        if choices.flag() {
            return hevc_changed::stream(choices);
        }
        let vps = vps(choices);
        let (sps_unit, sps, size) = sps(choices);
        let (pps_unit, pps) = pps(choices, &sps);
        let mut sets = GeneratedSets { sps, pps };
        let mut stream = HevcStream { sets: vec![vps, sps_unit, pps_unit], samples: Vec::new(), size };
        let mut pocs = Vec::new();
        for number in 0..1 + choices.below(PICTURES) {
            stream.samples.push(sample(choices, &mut sets, number == 0, &mut pocs));
        }
        stream
    }

    /// With start codes.
    pub fn annex_b(&self) -> Vec<u8> {
        let units = self.sets.iter().chain(self.samples.iter().flat_map(|sample| &sample.units));
        units.flat_map(|unit| [&[0, 0, 0, 1][..], unit].concat()).collect()
    }

    /// As an `hvcC` record (ISO/IEC 14496-15, 8.3.3.1).
    pub fn configuration(&self) -> Vec<u8> {
        let mut record =
            vec![1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93, 0xf0, 0, 0xfc, 0xfd, 0xf8, 0xf8, 0, 0, 0x0f];
        record.push(self.sets.len() as u8);
        for set in &self.sets {
            record.extend([set[0] >> 1 & 0x3f, 0, 1]);
            record.extend((set.len() as u16).to_be_bytes());
            record.extend(set);
        }
        record
    }
}

/// NAL unit types of slices (7.4.2.2), trailing ones most often.
const KINDS: [u8; 16] = [1, 1, 1, 1, 0, 1, 19, 21, 8, 9, 6, 7, 16, 20, 2, 1];

fn sample(choices: &mut Choices<'_>, sets: &mut GeneratedSets, is_first: bool, pocs: &mut Vec<u32>) -> GeneratedUnit {
    let mut units = Vec::new();
    if choices.once_in(8) {
        units.push(unit(35, 0, &[0x50]));
    }
    if choices.once_in(8) {
        // Sets in mid-stream, usually with the same identifier.
        let (sps_unit, sps, _) = sps(choices);
        units.push(sps_unit);
        sets.sps = sps;
    }
    if choices.once_in(6) {
        let (pps_unit, pps) = pps(choices, &sets.sps);
        units.push(pps_unit);
        sets.pps = pps;
    }
    if choices.once_in(8) {
        units.push(message(choices, 39));
    }
    let kind = if is_first { choices.of(&[19, 19, 21, 20, 16, 1]) } else { choices.of(&KINDS) };
    let is_idr = kind == 19 || kind == 20;
    let poc = if is_idr { 0 } else { pocs.last().map_or(0, |poc: &u32| poc.wrapping_add(choices.within(1, 3))) };
    if is_idr {
        pocs.clear();
    }
    let blocks = sets.sps.blocks;
    let slices = if blocks > 1 && choices.once_in(3) { 2 + choices.below(3) } else { 1 };
    let mut address = 0;
    for number in 0..slices {
        units.push(slice(choices, sets, kind, poc, number == 0, address, pocs));
        address = address.wrapping_add(choices.within(1, (blocks / slices as u32).max(1))) % blocks;
    }
    pocs.push(poc);
    if choices.once_in(6) {
        units.push(message(choices, 40));
    }
    if choices.once_in(24) {
        units.push(unit(36 + choices.below(3) as u8, 0, &[]));
    }
    GeneratedUnit { units, is_sync: (16..=23).contains(&kind) != choices.once_in(24) }
}

/// A SEI message: hashes of the picture, a recovery point, or any other.
pub fn message(choices: &mut Choices<'_>, kind: u8) -> Vec<u8> {
    let (what, mut payload) = match choices.below(4) {
        0 => (132, [&[0][..], &choices.noise(48)].concat()),
        1 => (132, [&[1 + (choices.byte() & 1)][..], &choices.noise(12)].concat()),
        2 => (6, choices.bytes(2)),
        _ => (choices.byte(), {
            let length = choices.below(40);
            choices.noise(length)
        }),
    };
    let mut message = vec![what, payload.len() as u8];
    message.append(&mut payload);
    message.push(0x80);
    unit(kind, 0, &message)
}
