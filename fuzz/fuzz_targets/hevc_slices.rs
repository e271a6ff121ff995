//! Slice headers of H.265, with noise as slice data.

use super::choices::Choices;
use super::hevc_bits::{FuzzBitWriter, unit};
use super::hevc_sets::{GeneratedSets, PpsFields, SpsFields, short_term_set};

const B: u32 = 0;
const P: u32 = 1;
const I: u32 = 2;

pub fn slice(
    choices: &mut Choices<'_>,
    GeneratedSets { sps, pps }: &GeneratedSets,
    kind: u8,
    poc: u32,
    is_first: bool,
    address: u32,
    pocs: &[u32],
) -> Vec<u8> {
    let bits = &mut FuzzBitWriter::default();
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
    bits: &mut FuzzBitWriter,
    choices: &mut Choices<'_>,
    (sps, pps): (&SpsFields, &PpsFields),
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
        used = references(bits, choices, sps, poc, pocs);
        has_temporal_mvp = sps.temporal_mvp && bits.flag(choices.flag());
    }
    let mut has_offsets = false;
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
    let is_deblocked = deblocking(bits, choices, pps);
    if pps.across && (has_offsets || is_deblocked) {
        bits.flag(choices.flag());
    }
}

/// The short-term set and long-term pictures of a slice; returns the number of pictures referred to.
fn references(bits: &mut FuzzBitWriter, choices: &mut Choices<'_>, sps: &SpsFields, poc: u32, pocs: &[u32]) -> u32 {
    let sets = sps.short_term_sets.len() as u32;
    let is_listed = bits.flag(sets > 0 && choices.once_in(4));
    let used = if is_listed {
        let which = choices.below(sets as usize) as u32;
        bits.u(u32::BITS - (sets - 1).leading_zeros(), which);
        sps.short_term_sets[which as usize].used
    } else {
        let mut backs: Vec<u32> = pocs.iter().rev().map(|&other| poc.wrapping_sub(other)).collect();
        backs.retain(|&back| back > 0 && back < 1 << 15);
        backs.sort_unstable();
        backs.dedup();
        short_term_set(bits, choices, sets, &sps.short_term_sets, Some(&backs)).used
    };
    if let Some(listed) = sps.long_term {
        long_term(bits, choices, sps, listed);
    }
    used
}

fn long_term(bits: &mut FuzzBitWriter, choices: &mut Choices<'_>, sps: &SpsFields, listed: u32) {
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

/// True if the slice is deblocked.
fn deblocking(bits: &mut FuzzBitWriter, choices: &mut Choices<'_>, pps: &PpsFields) -> bool {
    let mut is_deblocked = !pps.is_undeblocked;
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
    is_deblocked
}

fn inter(
    bits: &mut FuzzBitWriter,
    choices: &mut Choices<'_>,
    (sps, pps): (&SpsFields, &PpsFields),
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

fn weights(bits: &mut FuzzBitWriter, choices: &mut Choices<'_>, sps: &SpsFields, lists: &[u32]) {
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
