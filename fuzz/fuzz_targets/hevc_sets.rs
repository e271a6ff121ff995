//! Parameter sets of H.265, and the values that slice headers need of them.

use super::choices::Choices;
use super::hevc_bits::{FuzzBitWriter, unit};

const VPS: u8 = 32;
const SPS: u8 = 33;
const PPS: u8 = 34;

/// The values of the sets that slice headers need.
#[derive(Clone)]
pub struct GeneratedSets {
    pub sps: SpsFields,
    pub pps: PpsFields,
}

#[derive(Clone)]
pub struct SpsFields {
    pub id: u32,
    pub chroma: u32,
    pub has_planes: bool,
    pub depth: u32,
    pub log2_poc: u32,
    pub short_term_sets: Vec<ReferenceSet>,
    pub long_term: Option<u32>,
    pub temporal_mvp: bool,
    pub sao: bool,
    pub blocks: u32,
    pub width_in_blocks: u32,
    pub integer_mv: bool,
}

/// The number of pictures in a short-term reference picture set, and the number of those referred to.
#[derive(Clone, Copy, Default)]
pub struct ReferenceSet {
    pub pictures: u32,
    pub used: u32,
}

#[derive(Clone, Default)]
pub struct PpsFields {
    pub id: u32,
    pub dependent: bool,
    pub output_flag: bool,
    pub extra_bits: u32,
    pub lists: bool,
    pub cabac_init: bool,
    pub weighted: bool,
    pub bipred: bool,
    pub chroma_offsets: bool,
    pub chroma_lists: bool,
    pub act_offsets: bool,
    pub deblocking: bool,
    pub deblocking_override: bool,
    pub is_undeblocked: bool,
    pub across: bool,
    pub has_entries: bool,
    pub extension: bool,
    pub default_refs: [u32; 2],
}

fn profile_tier_level(bits: &mut FuzzBitWriter, choices: &mut Choices<'_>, sub_layers: u32) {
    let profile = choices.within(1, 4) & 31;
    bits.u(8, profile).u(32, 1 << (31 - profile)).u(32, 0x9000_0000).u(16, 0).u(8, 93);
    let present: Vec<[bool; 2]> = (1..sub_layers).map(|_| [choices.once_in(4), choices.once_in(4)]).collect();
    for flags in &present {
        flags.iter().for_each(|&flag| _ = bits.flag(flag));
    }
    if sub_layers > 1 {
        bits.u(2 * (9 - sub_layers), 0);
    }
    for [profile, level] in present {
        if profile {
            bits.u(32, 0x0160_0000).u(32, 0).u(24, 0);
        }
        if level {
            bits.u(8, 93);
        }
    }
}

fn ordering(bits: &mut FuzzBitWriter, choices: &mut Choices<'_>, sub_layers: u32) {
    let each = bits.flag(choices.flag());
    for _ in 0..if each { sub_layers } else { 1 } {
        bits.ue(choices.within(4, 15));
        bits.ue(choices.within(0, 4));
        bits.ue(choices.within(0, 2));
    }
}

pub fn vps(choices: &mut Choices<'_>) -> Vec<u8> {
    let bits = &mut FuzzBitWriter::default();
    let (layers, sub_layers) = (1 + u32::from(choices.once_in(16)), 7);
    bits.u(4, 0).u(2, 3).u(6, layers - 1).u(3, sub_layers - 1).u(1, 1).u(16, 0xffff);
    profile_tier_level(bits, choices, sub_layers);
    ordering(bits, choices, sub_layers);
    bits.u(6, layers - 1).ue(0);
    if bits.flag(choices.once_in(8)) {
        bits.u(32, choices.any()).u(32, choices.any());
        if bits.flag(choices.flag()) {
            bits.ue(choices.any());
        }
        bits.ue(choices.within(0, 0));
    }
    if bits.flag(choices.once_in(8)) {
        bits.u(32, choices.any()).u(32, choices.any());
    }
    unit(VPS, 0, &bits.end())
}

/// Luma samples per side; most pictures are small.
fn side(choices: &mut Choices<'_>, min_block: u32) -> u32 {
    match choices.byte() % 64 {
        63 if choices.wild_once_in(2) => choices.any(),
        62 => choices.within(1, 512).wrapping_mul(8),
        _ => min_block * (1 + choices.below(128 / min_block as usize) as u32),
    }
}

pub fn sps(choices: &mut Choices<'_>) -> (Vec<u8>, SpsFields, (u32, u32)) {
    let bits = &mut FuzzBitWriter::default();
    let sub_layers = 1 + if choices.once_in(8) { choices.below(7) as u32 } else { 0 };
    bits.u(4, 0).u(3, sub_layers - 1).u(1, 1);
    profile_tier_level(bits, choices, sub_layers);
    let id = bits.ue(if choices.once_in(8) { choices.within(0, 15) } else { 0 });
    let chroma = bits.ue(if choices.once_in(3) { choices.within(0, 3) } else { 1 });
    let has_planes = chroma == 3 && bits.flag(choices.once_in(8));
    let log2_min = if choices.once_in(3) { choices.within(3, 6) } else { 3 };
    let min_block = 1 << log2_min.clamp(3, 6);
    let (width, height) = (side(choices, min_block), side(choices, min_block));
    bits.ue(width);
    bits.ue(height);
    if bits.flag(choices.once_in(4)) {
        (0..4).for_each(|_| _ = bits.ue(choices.within(0, 3)));
    }
    let depth = 8 + bits.ue(if choices.once_in(3) { choices.of(&[1, 2, 4, 2]) } else { 0 });
    bits.ue(if choices.wild_once_in(16) { choices.within(0, 8) } else { depth - 8 });
    let log2_poc = 4 + bits.ue(choices.within(0, 12)).min(12);
    ordering(bits, choices, sub_layers);
    bits.ue(log2_min.wrapping_sub(3));
    let difference = bits.ue(choices.within(if log2_min == 3 { 1 } else { 0 }, 3));
    // Transform blocks of 4 to at most 32 samples, smaller than coding blocks.
    let log2_transform = 2 + bits.ue(choices.within(0, u32::from(log2_min > 3))).min(8);
    bits.ue(choices.within(0, 5_u32.saturating_sub(log2_transform).min(log2_min.saturating_add(difference) - 2)));
    bits.ue(choices.within(0, 3));
    bits.ue(choices.within(0, 3));
    if bits.flag(choices.once_in(4)) && bits.flag(choices.flag()) {
        scaling_lists(bits, choices);
    }
    bits.flag(choices.flag());
    let sao = bits.flag(choices.flag());
    pcm(bits, choices);
    let (short_term_sets, long_term) = sps_references(bits, choices, log2_poc);
    let temporal_mvp = bits.flag(choices.flag());
    bits.flag(choices.flag());
    if bits.flag(choices.once_in(6)) {
        vui(bits, choices);
    }
    let integer_mv = sps_extensions(bits, choices, chroma, depth);
    let block = 1_u64 << log2_min.saturating_add(difference).min(16);
    let blocks = |side: u32| u64::from(side).div_ceil(block).clamp(1, 1 << 15) as u32;
    let sps = SpsFields {
        id,
        chroma: if has_planes { 0 } else { chroma },
        has_planes,
        depth,
        log2_poc,
        short_term_sets,
        long_term,
        temporal_mvp,
        sao,
        blocks: blocks(width) * blocks(height),
        width_in_blocks: blocks(width),
        integer_mv,
    };
    (unit(SPS, 0, &bits.end()), sps, (width, height))
}

fn pcm(bits: &mut FuzzBitWriter, choices: &mut Choices<'_>) {
    if bits.flag(choices.once_in(4)) {
        bits.u(4, choices.within(0, 7)).u(4, choices.within(0, 7));
        bits.ue(choices.within(0, 2));
        bits.ue(choices.within(0, 2));
        bits.flag(choices.flag());
    }
}

/// Short-term sets, and the number of listed long-term pictures.
fn sps_references(
    bits: &mut FuzzBitWriter,
    choices: &mut Choices<'_>,
    log2_poc: u32,
) -> (Vec<ReferenceSet>, Option<u32>) {
    let mut short_term_sets = Vec::new();
    let count = bits.ue(if choices.wild_once_in(32) { choices.any() } else { choices.below(6) as u32 });
    for number in 0..count.min(64) {
        short_term_sets.push(short_term_set(bits, choices, number, &short_term_sets, None));
    }
    let long_term = bits.flag(choices.once_in(4)).then(|| {
        let count = bits.ue(choices.within(0, 4));
        for _ in 0..count.min(32) {
            bits.u(log2_poc, choices.any()).u(1, u32::from(choices.flag()));
        }
        count
    });
    (short_term_sets, long_term)
}

/// True if slices signal whole-number motion vectors.
fn sps_extensions(bits: &mut FuzzBitWriter, choices: &mut Choices<'_>, chroma: u32, depth: u32) -> bool {
    if !bits.flag(choices.once_in(6)) {
        return false;
    }
    let range = bits.flag(choices.flag());
    let (multilayer, three_d) = (bits.flag(choices.once_in(16)), bits.flag(choices.once_in(16)));
    let screen = bits.flag(choices.once_in(4));
    bits.u(4, 0);
    if range {
        (0..9).for_each(|_| _ = bits.flag(choices.once_in(3)));
    }
    if multilayer {
        bits.u(1, 0);
    }
    if three_d {
        let noise = choices.any();
        bits.u(32, noise | 0x1111_1111);
    }
    if !screen {
        return false;
    }
    bits.flag(choices.flag());
    if bits.flag(choices.flag()) {
        bits.ue(choices.within(0, 64));
        bits.ue(choices.within(0, 64));
        if bits.flag(choices.flag()) {
            let count = bits.ue(choices.within(0, 8));
            for _ in 0..(count.min(200) + 1) * if chroma == 0 { 1 } else { 3 } {
                bits.u(depth.min(16), choices.any());
            }
        }
    }
    let control = choices.below(4) as u32;
    bits.u(2, control);
    bits.flag(choices.flag());
    control == 2
}

fn scaling_lists(bits: &mut FuzzBitWriter, choices: &mut Choices<'_>) {
    for size in 0..4_u32 {
        for matrix in (0..6).step_by(if size == 3 { 3 } else { 1 }) {
            if !bits.flag(choices.once_in(4)) {
                bits.ue(choices.within(0, matrix));
                continue;
            }
            if size > 1 {
                bits.se(choices.byte() as i8 as i32);
            }
            for _ in 0..64.min(1 << (4 + 2 * size)) {
                bits.se(choices.byte() as i8 as i32 >> 4);
            }
        }
    }
}

/// Video usability information (E.2.1).
fn vui(bits: &mut FuzzBitWriter, choices: &mut Choices<'_>) {
    if bits.flag(choices.flag()) {
        let aspect = if choices.flag() { 255 } else { choices.within(0, 16) & 255 };
        bits.u(8, aspect);
        if aspect == 255 {
            bits.u(16, choices.any()).u(16, choices.any());
        }
    }
    if bits.flag(choices.once_in(4)) {
        bits.flag(choices.flag());
    }
    if bits.flag(choices.flag()) {
        bits.u(3, 5).u(1, u32::from(choices.flag()));
        if bits.flag(choices.flag()) {
            (0..3).for_each(|_| _ = bits.u(8, choices.within(0, 18)));
        }
    }
    if bits.flag(choices.once_in(4)) {
        bits.ue(choices.within(0, 5));
        bits.ue(choices.within(0, 5));
    }
    (0..3).for_each(|_| _ = bits.flag(choices.once_in(4)));
    if bits.flag(choices.once_in(4)) {
        (0..4).for_each(|_| _ = bits.ue(choices.within(0, 3)));
    }
    if bits.flag(choices.once_in(4)) {
        bits.u(32, choices.any()).u(32, choices.any());
        if bits.flag(choices.flag()) {
            bits.ue(choices.any());
        }
        bits.flag(choices.once_in(16));
    }
    if bits.flag(choices.once_in(4)) {
        bits.u(3, choices.any());
        (0..5).for_each(|_| _ = bits.ue(choices.within(0, 16)));
    }
}

/// A short-term reference picture set (7.3.7). In a slice header `backs` has the distances to earlier pictures.
pub fn short_term_set(
    bits: &mut FuzzBitWriter,
    choices: &mut Choices<'_>,
    number: u32,
    others: &[ReferenceSet],
    backs: Option<&[u32]>,
) -> ReferenceSet {
    let mut set = ReferenceSet::default();
    if number > 0 && bits.flag(choices.once_in(if backs.is_some() { 8 } else { 3 })) {
        let of = if backs.is_some() { bits.ue(choices.within(0, number - 1)) } else { 0 };
        bits.flag(choices.flag());
        bits.ue(choices.within(0, 3));
        let from = others.get(number.saturating_sub(of.saturating_add(1)) as usize).copied().unwrap_or_default();
        for _ in 0..=from.pictures {
            let is_used = bits.flag(!choices.once_in(4));
            let is_kept = is_used || bits.flag(choices.flag());
            set.pictures += u32::from(is_kept && set.pictures < 15);
            set.used += u32::from(is_used);
        }
        return set;
    }
    let back: Vec<u32> = match backs {
        // Mostly distances to decoded pictures.
        Some(backs) if !choices.once_in(12) => backs.iter().copied().filter(|_| !choices.once_in(3)).take(5).collect(),
        _ => (0..choices.within(0, 3).min(15)).map(|_| choices.within(1, 4)).collect(),
    };
    let ahead = if choices.once_in(12) { choices.within(0, 1).min(15) } else { 0 };
    bits.ue(back.len() as u32);
    bits.ue(ahead);
    let mut before = 0;
    for &distance in &back {
        let step = if backs.is_some() { distance.saturating_sub(before).max(1) } else { distance.max(1) };
        before = distance;
        bits.ue(step - 1);
        set.used += u32::from(bits.flag(!choices.once_in(4)));
    }
    for _ in 0..ahead {
        bits.ue(choices.within(0, 2));
        set.used += u32::from(bits.flag(!choices.once_in(4)));
    }
    set.pictures = back.len() as u32 + ahead;
    set
}

pub fn pps(choices: &mut Choices<'_>, sps: &SpsFields) -> (Vec<u8>, PpsFields) {
    let bits = &mut FuzzBitWriter::default();
    let mut pps =
        PpsFields { id: bits.ue(if choices.once_in(8) { choices.within(0, 63) } else { 0 }), ..PpsFields::default() };
    bits.ue(if choices.wild_once_in(32) { choices.any() } else { sps.id });
    pps.dependent = bits.flag(choices.once_in(4));
    pps.output_flag = bits.flag(choices.once_in(6));
    pps.extra_bits = if choices.once_in(8) { choices.below(8) as u32 } else { 0 };
    bits.u(3, pps.extra_bits);
    bits.flag(choices.flag());
    pps.cabac_init = bits.flag(choices.flag());
    pps.default_refs = [0, 0].map(|_| bits.ue(choices.within(0, 2)).saturating_add(1));
    bits.se((choices.within(0, 20) as i32).wrapping_sub(10));
    bits.flag(choices.once_in(4));
    let skips = bits.flag(choices.flag());
    if bits.flag(choices.flag()) {
        bits.ue(choices.within(0, 2));
    }
    bits.se(choices.below(25) as i32 - 12);
    bits.se(choices.below(25) as i32 - 12);
    pps.chroma_offsets = bits.flag(choices.once_in(4));
    pps.weighted = bits.flag(choices.once_in(3));
    pps.bipred = bits.flag(choices.once_in(3));
    bits.flag(choices.once_in(4));
    let has_tiles = bits.flag(choices.once_in(4));
    let has_wavefronts = bits.flag(choices.once_in(4));
    pps.has_entries = has_tiles || has_wavefronts;
    if has_tiles {
        tiles(bits, choices, sps);
    }
    pps.across = bits.flag(choices.flag());
    if bits.flag(choices.once_in(3)) {
        pps.deblocking = true;
        pps.deblocking_override = bits.flag(choices.flag());
        pps.is_undeblocked = bits.flag(choices.flag());
        if !pps.is_undeblocked {
            bits.se(choices.below(13) as i32 - 6);
            bits.se(choices.below(13) as i32 - 6);
        }
    }
    if bits.flag(choices.once_in(6)) {
        scaling_lists(bits, choices);
    }
    pps.lists = bits.flag(choices.once_in(3));
    bits.ue(choices.within(0, 4));
    pps.extension = bits.flag(choices.once_in(8));
    if bits.flag(choices.once_in(6)) {
        pps_extensions(bits, choices, sps, &mut pps, skips);
    }
    (unit(PPS, 0, &bits.end()), pps)
}

fn tiles(bits: &mut FuzzBitWriter, choices: &mut Choices<'_>, sps: &SpsFields) {
    let (wide, high) = (sps.width_in_blocks, sps.blocks / sps.width_in_blocks);
    let columns = bits.ue(choices.within(0, (wide - 1).min(20)));
    let rows = bits.ue(choices.within(0, (high - 1).min(20)));
    if !bits.flag(choices.flag()) {
        (0..columns.min(20)).for_each(|_| _ = bits.ue(choices.within(0, 1)));
        (0..rows.min(20)).for_each(|_| _ = bits.ue(choices.within(0, 1)));
    }
    bits.flag(choices.flag());
}

fn pps_extensions(
    bits: &mut FuzzBitWriter,
    choices: &mut Choices<'_>,
    sps: &SpsFields,
    pps: &mut PpsFields,
    skips: bool,
) {
    let range = bits.flag(choices.flag());
    bits.u(2, 0);
    let screen = bits.flag(choices.once_in(4));
    bits.u(4, 0);
    if range {
        if skips {
            bits.ue(choices.within(0, 3));
        }
        bits.flag(sps.chroma == 3 && choices.flag());
        pps.chroma_lists = bits.flag(choices.flag());
        if pps.chroma_lists {
            bits.ue(choices.within(0, 2));
            let last = bits.ue(choices.within(0, 5));
            (0..2 * (last.min(8) + 1)).for_each(|_| bits.se(choices.below(25) as i32 - 12));
        }
        bits.ue(choices.within(0, sps.depth.saturating_sub(10)));
        bits.ue(choices.within(0, sps.depth.saturating_sub(10)));
    }
    if screen {
        bits.flag(choices.flag());
        if bits.flag(choices.flag()) {
            pps.act_offsets = bits.flag(choices.flag());
            (0..3).for_each(|_| bits.se(choices.below(25) as i32 - 12));
        }
        if bits.flag(choices.flag()) {
            let count = bits.ue(choices.within(0, 8));
            if count > 0 {
                let is_gray = bits.flag(sps.chroma == 0);
                bits.ue(sps.depth - 8);
                if !is_gray {
                    bits.ue(sps.depth - 8);
                }
                (0..count.min(200) * if is_gray { 1 } else { 3 }).for_each(|_| _ = bits.u(sps.depth, choices.any()));
            }
        }
    }
}
