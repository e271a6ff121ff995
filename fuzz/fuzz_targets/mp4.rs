//! Fuzzes MP4 files with changed boxes and consistent sizes: opened, described, a few frames decoded.
//!
//! The bytes select a fixture and the changes of its boxes, one after another.
#![no_main]

use std::sync::{Arc, LazyLock};

use bucket_streamer::Engine;
use bucket_streamer::source::MemorySource;
use libfuzzer_sys::fuzz_target;

use boxes::{BoxNode, BoxType};
use choices::Choices;

#[path = "boxes.rs"]
mod boxes;
#[path = "choices.rs"]
mod choices;
#[path = "counters.rs"]
mod counters;
#[path = "look.rs"]
mod look;

static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(Some(1)));

/// The fixtures: plain, with edits, rotated, fragmented, with two descriptions, of other codecs.
const FILES: [&[u8]; 9] = [
    include_bytes!("../../fixtures/hevc_rotated.mp4"),
    include_bytes!("../../fixtures/hevc_gray.mp4"),
    include_bytes!("../../fixtures/hevc_edit_list.mp4"),
    include_bytes!("../../fixtures/hevc_fragmented.mp4"),
    include_bytes!("../../fixtures/h264_hybrid_fragmented.mp4"),
    include_bytes!("../../fixtures/hevc_two_descriptions.mp4"),
    include_bytes!("../../fixtures/hevc_vfr.mp4"),
    include_bytes!("../../fixtures/h264_nal_length_2.mp4"),
    include_bytes!("../../fixtures/av1.mp4"),
];
const CHANGES: usize = 12;
/// More boxes are no further case.
const BOXES: usize = 400;
const SIZE_LIMIT: usize = 1 << 20;

/// Tables: numbers before the count of entries, and in each entry.
const TABLES: [(&BoxType, usize, usize); 16] = [
    (b"stts", 0, 2),
    (b"ctts", 0, 2),
    (b"stsc", 0, 3),
    (b"stco", 0, 1),
    (b"co64", 0, 2),
    (b"stss", 0, 1),
    (b"stsz", 1, 1),
    (b"elst", 0, 3),
    (b"sbgp", 1, 2),
    (b"sgpd", 2, 1),
    (b"sdtp", 0, 1),
    (b"trun", 0, 3),
    (b"tfhd", 0, 2),
    (b"tfdt", 0, 1),
    (b"sidx", 5, 3),
    (b"tfra", 2, 3),
];

/// Other boxes, which may occur anywhere.
const OTHERS: [&BoxType; 22] = [
    b"free", b"skip", b"wide", b"uuid", b"moov", b"trak", b"moof", b"traf", b"mdat", b"edts", b"mdia", b"minf",
    b"stbl", b"stsd", b"hvcC", b"avcC", b"av1C", b"colr", b"pasp", b"clap", b"tkhd", b"cmov",
];

fuzz_target!(|data: &[u8]| {
    counters::keep();
    let mut choices = Choices::new(data);
    let file = file(&mut choices);
    choices::keep(&file);
    if file.len() > SIZE_LIMIT {
        return;
    }
    for track in [0, 1] {
        let source = Arc::new(MemorySource::new("fuzz", file.clone()));
        match ENGINE.open(source, track) {
            Ok(video) => look::look(&video),
            Err(error) => assert!(!error.to_string().contains('\n'), "an error is one line"),
        }
    }
});

fn file(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut boxes = boxes::parse(choices.of(&FILES));
    data_first(&mut boxes);
    let fragments: Vec<usize> = boxes.iter().filter(|one| one.kind == *b"moof").map(BoxNode::size).collect();
    let mut root = BoxNode::parent(b"root", boxes);
    for _ in 0..CHANGES {
        if !choices.are_left() || root.count() > BOXES {
            break;
        }
        change(&mut root, choices);
    }
    keep_offsets(&mut root, &fragments);
    boxes::bytes(&root.children)
}

/// Moves boxes after the samples to the end, so that they may grow: files without fragments begin with their samples.
fn data_first(boxes: &mut Vec<BoxNode>) {
    let place = |boxes: &[BoxNode]| {
        let before = boxes.iter().take_while(|one| one.kind != *b"mdat").map(BoxNode::size).sum::<usize>();
        before as u32
    };
    let is_fragmented = boxes.iter().any(|one| one.kind == *b"moof");
    let Some(at) = boxes.iter().position(|one| one.kind == *b"moov").filter(|_| !is_fragmented) else { return };
    let before = place(boxes);
    let movie = boxes.remove(at);
    boxes.push(movie);
    let moved = place(boxes).wrapping_sub(before);
    let shift = &mut |_, one: &mut BoxNode| {
        if one.kind == *b"stco" {
            for offset in one.payload.chunks_exact_mut(4).skip(2) {
                let moved = u32::from_be_bytes(offset.try_into().expect("four")).wrapping_add(moved);
                offset.copy_from_slice(&moved.to_be_bytes());
            }
        }
    };
    boxes.iter_mut().for_each(|one| one.visit(&mut 0, shift));
}

/// The offset of a fragment's samples from its beginning, adapted to its growth.
fn keep_offsets(root: &mut BoxNode, before: &[usize]) {
    let fragments = root.children.iter_mut().filter(|one| one.kind == *b"moof");
    for (fragment, before) in fragments.zip(before) {
        let grown = (fragment.size() as i32).wrapping_sub(*before as i32);
        fragment.visit(&mut 0, &mut |_, one: &mut BoxNode| {
            let has_offset = one.kind == *b"trun" && one.payload.get(3).is_some_and(|flags| flags & 1 == 1);
            if let Some(offset) = one.payload.get_mut(8..12).filter(|_| has_offset) {
                let moved = i32::from_be_bytes((&*offset).try_into().expect("four")).wrapping_add(grown);
                offset.copy_from_slice(&moved.to_be_bytes());
            }
        });
    }
}

fn change(root: &mut BoxNode, choices: &mut Choices<'_>) {
    let (what, which) = (choices.byte(), choices.below(root.count()));
    let mut found = None;
    // Samples are not changed, except for the size of their box.
    let is_changed = |one: &BoxNode| one.kind != *b"mdat" && one.kind != *b"root";
    match what % 10 {
        0..=2 => root.visit(&mut 0, &mut |number, one| {
            if number == which && is_changed(one) {
                set(one, choices);
            }
        }),
        3..=4 => root.visit(&mut 0, &mut |number, one| {
            if number == which && is_changed(one) {
                replace(one, choices);
            }
        }),
        5 => root.visit(&mut 0, &mut |number, one| {
            if number == which && is_changed(one) {
                let length = choices.below(one.payload.len() + 1);
                if choices.flag() { one.payload.truncate(length) } else { one.payload.extend(choices.noise(length)) }
            }
        }),
        6 => root.visit(&mut 0, &mut |number, one| {
            if number == which {
                (one.claimed, one.is_large) = (Some(u64::from(choices.any())), choices.flag());
            }
        }),
        // Copies or moves a box.
        7 | 8 => {
            root.visit(&mut 0, &mut |number, one| {
                if number == which && is_changed(one) {
                    found = Some(one.clone());
                    if what % 10 == 8 {
                        one.kind = *b"free";
                    }
                }
            });
            insert(root, found, choices);
        }
        _ => insert(root, Some(random_table(choices)), choices),
    }
}

fn insert(root: &mut BoxNode, new: Option<BoxNode>, choices: &mut Choices<'_>) {
    let Some(new) = new else { return };
    let mut parents = Vec::new();
    root.visit(&mut 0, &mut |number, one| {
        if !one.children.is_empty() {
            parents.push(number);
        }
    });
    let into = choices.of(&parents);
    let mut new = Some(new);
    root.visit(&mut 0, &mut |number, one| {
        // The number of this box may occur again below the inserted one.
        if number == into
            && let Some(new) = new.take()
        {
            one.children.insert(choices.below(one.children.len() + 1), new);
        }
    });
}

/// Replaces a number.
fn set(one: &mut BoxNode, choices: &mut Choices<'_>) {
    let Some(last) = one.payload.len().checked_sub(4) else { return };
    // Most fields begin at a multiple of four, and the first ones matter most.
    let at = if choices.flag() { choices.below(last.min(32) / 4 + 1) * 4 } else { choices.below(last + 1) };
    let field = &mut one.payload[at.min(last)..at.min(last) + 4];
    let before = u32::from_be_bytes((&*field).try_into().expect("four"));
    let now = match choices.byte() & 3 {
        0 => before.wrapping_add(1),
        1 => before.wrapping_sub(1),
        _ => choices.any(),
    };
    field.copy_from_slice(&now.to_be_bytes());
}

/// Another table of its kind, or another kind.
fn replace(one: &mut BoxNode, choices: &mut Choices<'_>) {
    match TABLES.iter().find(|(kind, ..)| **kind == one.kind) {
        Some(&(kind, before, each)) if one.children.is_empty() => *one = table(kind, before, each, choices),
        _ => one.kind = *choices.of(&OTHERS),
    }
}

fn random_table(choices: &mut Choices<'_>) -> BoxNode {
    if choices.flag() {
        let kind = *choices.of(&OTHERS);
        let length = choices.below(64);
        return BoxNode::leaf(&kind, choices.bytes(length));
    }
    let (kind, before, each) = choices.of(&TABLES);
    table(kind, before, each, choices)
}

fn table(kind: &BoxType, before: usize, each: usize, choices: &mut Choices<'_>) -> BoxNode {
    let entries = choices.below(12);
    // Rarely the same one again.
    let times = if choices.once_in(8) { 1 << choices.below(11) } else { 1 };
    let mut numbers: Vec<u32> = (0..before).map(|_| number(choices)).collect();
    numbers.push(if choices.once_in(8) { choices.any() } else { (entries * times) as u32 });
    let own: Vec<u32> = (0..entries * each).map(|_| number(choices)).collect();
    numbers.extend(own.repeat(times));
    let mut table = BoxNode::full(kind, &numbers);
    if choices.once_in(4) {
        table.payload[..4].copy_from_slice(&[choices.byte() & 3, 0, choices.byte(), choices.byte()]);
    }
    table
}

/// Usually a small number.
fn number(choices: &mut Choices<'_>) -> u32 {
    if choices.once_in(6) { choices.any() } else { u32::from(choices.byte() & 0x1f) }
}
