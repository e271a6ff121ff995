//! H.265 streams written field by field (ITU-T H.265, 7.3): parameter sets, slice headers, and noise as slice data, which
//! CABAC always makes something of.
//!
//! Fields are mostly in range and fit each other, so that a decoder comes far; each may be any other number.

use super::choices::Choices;
use super::hevc_changed;

/// Writes bits, from the most significant.
#[derive(Default)]
pub struct Bits {
    bytes: Vec<u8>,
    free: u32,
}

impl Bits {
    fn u(&mut self, count: u32, value: u32) -> &mut Bits {
        for at in (0..count).rev() {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            self.free -= 1;
            *self.bytes.last_mut().expect("one") |= ((value >> at & 1) as u8) << self.free;
        }
        self
    }

    fn flag(&mut self, value: bool) -> bool {
        self.u(1, u32::from(value));
        value
    }

    fn ue(&mut self, value: u32) -> u32 {
        let code = u64::from(value) + 1;
        let length = code.ilog2();
        self.u(length, 0);
        self.u(1, 1);
        self.u(length, (code & ((1 << length) - 1)) as u32);
        value
    }

    fn se(&mut self, value: i32) {
        self.ue(if value > 0 { 2 * value as u32 - 1 } else { value.unsigned_abs().wrapping_mul(2) });
    }

    fn end(&mut self) -> Vec<u8> {
        self.u(1, 1);
        self.free = 0;
        std::mem::take(&mut self.bytes)
    }
}

/// A NAL unit with emulation prevention (7.3.1.1).
fn unit(kind: u8, layer: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind << 1 | layer >> 5, layer << 3 | 1];
    let mut zeros = 0;
    for &byte in payload {
        if zeros >= 2 && byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

const VPS: u8 = 32;
const SPS: u8 = 33;
const PPS: u8 = 34;

/// What slice headers need of the sets.
#[derive(Clone)]
struct Sets {
    sps: Sps,
    pps: Pps,
}

#[derive(Clone)]
pub struct Sps {
    id: u32,
    chroma: u32,
    has_planes: bool,
    depth: u32,
    log2_poc: u32,
    short_term_sets: Vec<Set>,
    long_term: Option<u32>,
    temporal_mvp: bool,
    sao: bool,
    blocks: u32,
    width_in_blocks: u32,
    integer_mv: bool,
}

/// How many pictures are in a short-term reference picture set, and how many of them are referred to.
#[derive(Clone, Copy, Default)]
struct Set {
    pictures: u32,
    used: u32,
}

#[derive(Clone, Default)]
pub struct Pps {
    id: u32,
    dependent: bool,
    output_flag: bool,
    extra_bits: u32,
    lists: bool,
    cabac_init: bool,
    weighted: bool,
    bipred: bool,
    chroma_offsets: bool,
    chroma_lists: bool,
    act_offsets: bool,
    deblocking: bool,
    deblocking_override: bool,
    is_undeblocked: bool,
    across: bool,
    has_entries: bool,
    extension: bool,
    default_refs: [u32; 2],
}

/// A stream: parameter sets, and samples of one or more units.
pub struct Stream {
    pub sets: Vec<Vec<u8>>,
    pub samples: Vec<Sample>,
    pub size: (u32, u32),
}

pub struct Sample {
    pub units: Vec<Vec<u8>>,
    pub is_sync: bool,
}

const PICTURES: usize = 10;

impl Stream {
    pub fn new(choices: &mut Choices<'_>) -> Stream {
        choices.tame();
        if choices.flag() {
            return hevc_changed::stream(choices);
        }
        let vps = vps(choices);
        let (sps_unit, sps, size) = sps(choices);
        let (pps_unit, pps) = pps(choices, &sps);
        let mut sets = Sets { sps, pps };
        let mut stream = Stream { sets: vec![vps, sps_unit, pps_unit], samples: Vec::new(), size };
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

    /// An `hvcC` record (ISO/IEC 14496-15, 8.3.3.1).
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

fn profile_tier_level(bits: &mut Bits, choices: &mut Choices<'_>, sub_layers: u32) {
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

fn ordering(bits: &mut Bits, choices: &mut Choices<'_>, sub_layers: u32) {
    let each = bits.flag(choices.flag());
    for _ in 0..if each { sub_layers } else { 1 } {
        bits.ue(choices.within(4, 15));
        bits.ue(choices.within(0, 4));
        bits.ue(choices.within(0, 2));
    }
}

fn vps(choices: &mut Choices<'_>) -> Vec<u8> {
    let bits = &mut Bits::default();
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

/// Luma samples a side; most pictures are small.
fn side(choices: &mut Choices<'_>, min_block: u32) -> u32 {
    match choices.byte() % 64 {
        63 if choices.wild_once_in(2) => choices.any(),
        62 => choices.within(1, 512).wrapping_mul(8),
        _ => min_block * (1 + choices.below(128 / min_block as usize) as u32),
    }
}

pub fn sps(choices: &mut Choices<'_>) -> (Vec<u8>, Sps, (u32, u32)) {
    let bits = &mut Bits::default();
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
    if bits.flag(choices.once_in(4)) {
        bits.u(4, choices.within(0, 7)).u(4, choices.within(0, 7));
        bits.ue(choices.within(0, 2));
        bits.ue(choices.within(0, 2));
        bits.flag(choices.flag());
    }
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
    let temporal_mvp = bits.flag(choices.flag());
    bits.flag(choices.flag());
    if bits.flag(choices.once_in(6)) {
        vui(bits, choices);
    }
    let integer_mv = sps_extensions(bits, choices, chroma, depth);
    let block = 1_u64 << log2_min.saturating_add(difference).min(16);
    let blocks = |side: u32| u64::from(side).div_ceil(block).clamp(1, 1 << 15) as u32;
    let sps = Sps {
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

/// True if slices say whether motion vectors are whole numbers.
fn sps_extensions(bits: &mut Bits, choices: &mut Choices<'_>, chroma: u32, depth: u32) -> bool {
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

fn scaling_lists(bits: &mut Bits, choices: &mut Choices<'_>) {
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
fn vui(bits: &mut Bits, choices: &mut Choices<'_>) {
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

/// A short-term reference picture set (7.3.7). In a slice header `backs` has how far back pictures are that there were.
fn short_term_set(
    bits: &mut Bits,
    choices: &mut Choices<'_>,
    number: u32,
    others: &[Set],
    backs: Option<&[u32]>,
) -> Set {
    let mut set = Set::default();
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
        // Those that were decoded, mostly.
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

pub fn pps(choices: &mut Choices<'_>, sps: &Sps) -> (Vec<u8>, Pps) {
    let bits = &mut Bits::default();
    let mut pps = Pps { id: bits.ue(if choices.once_in(8) { choices.within(0, 63) } else { 0 }), ..Pps::default() };
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

fn tiles(bits: &mut Bits, choices: &mut Choices<'_>, sps: &Sps) {
    let (wide, high) = (sps.width_in_blocks, sps.blocks / sps.width_in_blocks);
    let columns = bits.ue(choices.within(0, (wide - 1).min(20)));
    let rows = bits.ue(choices.within(0, (high - 1).min(20)));
    if !bits.flag(choices.flag()) {
        (0..columns.min(20)).for_each(|_| _ = bits.ue(choices.within(0, 1)));
        (0..rows.min(20)).for_each(|_| _ = bits.ue(choices.within(0, 1)));
    }
    bits.flag(choices.flag());
}

fn pps_extensions(bits: &mut Bits, choices: &mut Choices<'_>, sps: &Sps, pps: &mut Pps, skips: bool) {
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

/// Kinds of slices (7.4.2.2): trailing ones most often.
const KINDS: [u8; 16] = [1, 1, 1, 1, 0, 1, 19, 21, 8, 9, 6, 7, 16, 20, 2, 1];

fn sample(choices: &mut Choices<'_>, sets: &mut Sets, is_first: bool, pocs: &mut Vec<u32>) -> Sample {
    let mut units = Vec::new();
    if choices.once_in(8) {
        units.push(unit(35, 0, &[0x50]));
    }
    if choices.once_in(8) {
        // In mid-stream, of the same number as a rule.
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
    Sample { units, is_sync: (16..=23).contains(&kind) != choices.once_in(24) }
}

/// A SEI message: hashes of the picture, a recovery point, or any.
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

const B: u32 = 0;
const P: u32 = 1;
const I: u32 = 2;

fn slice(
    choices: &mut Choices<'_>,
    Sets { sps, pps }: &Sets,
    kind: u8,
    poc: u32,
    is_first: bool,
    address: u32,
    pocs: &[u32],
) -> Vec<u8> {
    let bits = &mut Bits::default();
    let (is_irap, is_idr) = ((16..=23).contains(&kind), kind == 19 || kind == 20);
    bits.flag(is_first);
    if is_irap {
        bits.flag(choices.once_in(4));
    }
    bits.ue(if choices.wild_once_in(32) { choices.any() } else { pps.id });
    let mut is_dependent = false;
    if !is_first {
        is_dependent = pps.dependent && bits.flag(choices.flag());
        bits.u(
            u32::BITS - (sps.blocks - 1).leading_zeros(),
            if choices.wild_once_in(32) { choices.any() } else { address },
        );
    }
    if !is_dependent {
        independent(bits, choices, (sps, pps), (is_irap, is_idr), poc, pocs);
    }
    if pps.has_entries {
        let count = if choices.once_in(3) { choices.within(0, 8).min(64) } else { 0 };
        bits.ue(count);
        if count > 0 {
            let length = bits.ue(choices.within(3, 7)).min(31) + 1;
            (0..count).for_each(|_| _ = bits.u(length, choices.any() & 31));
        }
    }
    if pps.extension {
        let length = bits.ue(choices.within(0, 3));
        (0..length.min(64)).for_each(|_| _ = bits.u(8, choices.any()));
    }
    let mut payload = bits.end();
    let length = 40 + choices.below(600);
    payload.extend(choices.noise(length));
    unit(kind, if choices.wild_once_in(32) { choices.byte() & 63 } else { 0 }, &payload)
}

fn independent(
    bits: &mut Bits,
    choices: &mut Choices<'_>,
    (sps, pps): (&Sps, &Pps),
    (is_irap, is_idr): (bool, bool),
    poc: u32,
    pocs: &[u32],
) {
    bits.u(pps.extra_bits, 0);
    let is_intra = is_irap || pocs.is_empty();
    let kind = bits.ue(if is_intra && !choices.wild_once_in(4) { I } else { choices.within(B, I) });
    if pps.output_flag {
        bits.flag(!choices.once_in(4));
    }
    if sps.has_planes {
        bits.u(2, choices.below(3) as u32);
    }
    let (mut has_temporal_mvp, mut used) = (false, 0);
    if !is_idr {
        bits.u(sps.log2_poc, poc);
        let sets = sps.short_term_sets.len() as u32;
        let is_listed = bits.flag(sets > 0 && choices.once_in(4));
        if is_listed {
            let which = choices.below(sets as usize) as u32;
            bits.u(u32::BITS - (sets - 1).leading_zeros(), which);
            used = sps.short_term_sets[which as usize].used;
        } else {
            let mut backs: Vec<u32> = pocs.iter().rev().map(|&other| poc.wrapping_sub(other)).collect();
            backs.retain(|&back| back > 0 && back < 1 << 15);
            backs.sort_unstable();
            backs.dedup();
            used = short_term_set(bits, choices, sets, &sps.short_term_sets, Some(&backs)).used;
        }
        if let Some(listed) = sps.long_term {
            long_term(bits, choices, sps, listed);
        }
        has_temporal_mvp = sps.temporal_mvp && bits.flag(choices.flag());
    }
    let (mut has_offsets, mut is_deblocked) = (false, !pps.is_undeblocked);
    if sps.sao {
        has_offsets |= bits.flag(choices.flag());
        if sps.chroma != 0 {
            has_offsets |= bits.flag(choices.flag());
        }
    }
    if kind == P || kind == B {
        inter(bits, choices, (sps, pps), kind, has_temporal_mvp, used);
    }
    bits.se((choices.within(0, 20) as i32).wrapping_sub(10));
    if pps.chroma_offsets {
        bits.se(choices.below(9) as i32 - 4);
        bits.se(choices.below(9) as i32 - 4);
    }
    if pps.act_offsets {
        (0..3).for_each(|_| bits.se(choices.below(9) as i32 - 4));
    }
    if pps.chroma_lists {
        bits.flag(choices.flag());
    }
    if pps.deblocking {
        let overrides = pps.deblocking_override && bits.flag(choices.flag());
        if overrides {
            is_deblocked = !bits.flag(choices.flag());
        }
        if overrides && is_deblocked {
            bits.se(choices.below(13) as i32 - 6);
            bits.se(choices.below(13) as i32 - 6);
        }
    }
    if pps.across && (has_offsets || is_deblocked) {
        bits.flag(choices.flag());
    }
}

fn long_term(bits: &mut Bits, choices: &mut Choices<'_>, sps: &Sps, listed: u32) {
    let from_list = if listed > 0 { bits.ue(choices.within(0, listed.min(2))) } else { 0 };
    let own = bits.ue(choices.within(0, 2));
    for number in 0..from_list.saturating_add(own).min(32) {
        if number < from_list {
            if listed > 1 {
                bits.u(u32::BITS - (listed - 1).leading_zeros(), choices.any());
            }
        } else {
            bits.u(sps.log2_poc, choices.any()).u(1, u32::from(choices.flag()));
        }
        if bits.flag(choices.once_in(3)) {
            bits.ue(choices.within(0, 4));
        }
    }
}

fn inter(
    bits: &mut Bits,
    choices: &mut Choices<'_>,
    (sps, pps): (&Sps, &Pps),
    kind: u32,
    has_temporal_mvp: bool,
    pictures: u32,
) {
    let mut refs = pps.default_refs;
    let lists = if kind == B { 2 } else { 1 };
    if bits.flag(choices.once_in(3)) {
        (0..lists).for_each(|list| refs[list] = bits.ue(choices.within(0, 4)).saturating_add(1));
    }
    let refs = refs.map(|count| count.min(16));
    if pps.lists && pictures > 1 {
        for count in &refs[..lists] {
            if bits.flag(choices.flag()) {
                (0..*count).for_each(|_| _ = bits.u(u32::BITS - (pictures - 1).leading_zeros(), choices.any()));
            }
        }
    }
    if kind == B {
        bits.flag(choices.flag());
    }
    if pps.cabac_init {
        bits.flag(choices.flag());
    }
    if has_temporal_mvp {
        let list = if kind == B { usize::from(!bits.flag(choices.flag())) } else { 0 };
        if refs[list] > 1 {
            bits.ue(choices.within(0, refs[list] - 1));
        }
    }
    if (pps.weighted && kind == P) || (pps.bipred && kind == B) {
        weights(bits, choices, sps, &refs[..lists]);
    }
    bits.ue(choices.within(0, 4));
    if sps.integer_mv {
        bits.flag(choices.flag());
    }
}

fn weights(bits: &mut Bits, choices: &mut Choices<'_>, sps: &Sps, lists: &[u32]) {
    bits.ue(choices.within(0, 7));
    if sps.chroma != 0 {
        bits.se(choices.below(3) as i32 - 1);
    }
    for &count in lists {
        let luma: Vec<bool> = (0..count).map(|_| bits.flag(choices.flag())).collect();
        let chroma: Vec<bool> = (0..count).map(|_| sps.chroma != 0 && bits.flag(choices.flag())).collect();
        for (luma, chroma) in luma.into_iter().zip(chroma) {
            for _ in 0..if luma { 2 } else { 0 } + if chroma { 4 } else { 0 } {
                bits.se(choices.byte() as i8 as i32);
            }
        }
    }
}
