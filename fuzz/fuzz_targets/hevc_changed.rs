//! H.265 streams of fixtures with changed units: decodable slices under headers and sets that do not match.

use super::choices::Choices;
use super::hevc_sets::{pps, sps};
use super::hevc_stream::{GeneratedUnit, HevcStream, message};

/// With open GOPs, from a random access point on; with a change of size in mid-stream.
const FILES: [&[u8]; 2] =
    [include_bytes!("../../fixtures/hevc_open_gop_cut.265"), include_bytes!("../../fixtures/hevc_size_change.265")];
const UNITS: usize = 30;
const CHANGES: usize = 8;
/// Bytes of a unit that contain its header and most of the slice header.
const HEAD: usize = 16;

pub fn stream(choices: &mut Choices<'_>) -> HevcStream {
    let mut units = units(choices.of(&FILES));
    let first = if choices.once_in(4) { choices.below(units.len().saturating_sub(UNITS)) } else { 0 };
    let sets: Vec<Vec<u8>> = units.iter().take(3).cloned().collect();
    units.drain(..first.max(3));
    units.truncate(UNITS);
    for _ in 0..CHANGES {
        if !choices.are_left() || units.is_empty() {
            break;
        }
        change(&mut units, choices);
    }
    HevcStream { sets, samples: samples(units), size: (320, 180) }
}

/// The units of an Annex B stream.
fn units(data: &[u8]) -> Vec<Vec<u8>> {
    let starts: Vec<usize> = (0..data.len() - 3).filter(|&at| data[at..].starts_with(&[0, 0, 1])).collect();
    let ends = starts.iter().skip(1).copied().chain([data.len()]);
    let unit = |(&start, end): (&usize, usize)| {
        let unit = &data[start + 3..end];
        unit[..unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)].to_vec()
    };
    starts.iter().zip(ends).map(unit).collect()
}

fn change(units: &mut Vec<Vec<u8>>, choices: &mut Choices<'_>) {
    let which = choices.below(units.len());
    let length = units[which].len();
    match choices.byte() % 12 {
        0 => _ = units.remove(which),
        1 => units.insert(choices.below(which + 1), units[which].clone()),
        2 => units.swap(which, choices.below(which + 1)),
        // Flips bits of the headers.
        3..=6 => {
            let at = 2 + choices.below(length.min(HEAD).max(3) - 2);
            if let Some(byte) = units[which].get_mut(at) {
                *byte ^= 1 << (choices.byte() & 7);
            }
        }
        7 => {
            // Changes the unit's type, layer or sub-layer.
            let at = choices.below(2);
            units[which][at] ^= 1 << (choices.byte() & 7);
        }
        8 => units[which].truncate(2 + choices.below(length)),
        9 => {
            let at = 2 + choices.below(length.saturating_sub(2).max(1));
            let noise = choices.noise(8);
            units[which].iter_mut().skip(at).zip(noise).for_each(|(byte, noise)| *byte = noise);
        }
        10 => {
            let kind = choices.of(&[39, 40]);
            units.insert(which, message(choices, kind));
        }
        _ => {
            let (sps_unit, sps, _) = sps(choices);
            let new = if choices.flag() { sps_unit } else { pps(choices, &sps).0 };
            units.insert(which, new);
        }
    }
}

/// A sample begins with the units before the first slice of a picture.
fn samples(units: Vec<Vec<u8>>) -> Vec<GeneratedUnit> {
    let mut samples: Vec<GeneratedUnit> = Vec::new();
    let mut waiting = Vec::new();
    for unit in units {
        let kind = unit.first().map_or(0, |byte| byte >> 1 & 63);
        let begins = unit.get(2).is_some_and(|byte| byte & 0x80 != 0);
        match samples.last_mut() {
            _ if kind >= 32 => waiting.push(unit),
            Some(sample) if !begins => sample.units.extend(waiting.drain(..).chain([unit])),
            _ => {
                waiting.push(unit);
                samples.push(GeneratedUnit { units: std::mem::take(&mut waiting), is_sync: (16..=23).contains(&kind) });
            }
        }
    }
    samples
}
