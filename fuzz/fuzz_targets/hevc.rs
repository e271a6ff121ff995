//! Fuzzes H.265 streams that are written field by field, or are a fixture's with changed units: opened as Annex B or
//! MP4, decoded in random order twice by independent engines, and played. Frames without damage must agree.
#![no_main]

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use bucket_streamer::source::MemorySource;
use bucket_streamer::{Engine, Video, VideoFrame};
use libfuzzer_sys::fuzz_target;

use boxes::BoxNode;
use choices::Choices;
use hevc_stream::HevcStream;

#[path = "boxes.rs"]
mod boxes;
#[path = "choices.rs"]
mod choices;
#[path = "counters.rs"]
mod counters;
#[path = "hevc_bits.rs"]
mod hevc_bits;
#[path = "hevc_changed.rs"]
mod hevc_changed;
#[path = "hevc_sets.rs"]
mod hevc_sets;
#[path = "hevc_slices.rs"]
mod hevc_slices;
#[path = "hevc_stream.rs"]
mod hevc_stream;

/// The engine refuses larger pictures.
const MAX_PIXELS: u64 = 1 << 18;
const FRAMES: u32 = 32;

static PLANNED: LazyLock<Engine> =
    LazyLock::new(|| Engine::builder().threads(1).max_pixels(MAX_PIXELS).check_hashes(true).build());
static PLAIN: LazyLock<Engine> = LazyLock::new(|| {
    Engine::builder().threads(1).max_pixels(MAX_PIXELS).check_hashes(true).from_random_access_point().build()
});

/// The hash of a frame's planes and its damage flag, or the error.
type HashedFrame = Result<(u64, bool), String>;

fuzz_target!(|data: &[u8]| {
    counters::keep();
    let mut choices = Choices::new(data);
    let is_mp4 = choices.flag();
    let stream = HevcStream::new(&mut choices);
    let file = if is_mp4 { mp4(&stream) } else { stream.annex_b() };
    choices::keep(&file);
    let open = |engine: &Engine| engine.open(Arc::new(MemorySource::new("fuzz", file.clone())), 0);
    let Ok(video) = open(&PLANNED) else { return };
    let frames = (video.frame_count() as u32).min(FRAMES);
    let mut order: Vec<u32> = (0..frames).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, choices.below(at + 1));
    }
    let first = answers(&video, &order);
    let again = open(&PLANNED).expect("as before");
    assert_eq!(first, answers(&again, &order), "the same requests, the same answers");
    let plain = open(&PLAIN).expect("as before");
    order.reverse();
    agree(&first, &answers(&plain, &order), "decoded from the random access point on");
    agree(&first, &played(&plain), "played");
});

fn answers(video: &Video, order: &[u32]) -> BTreeMap<u32, HashedFrame> {
    order.iter().map(|&index| (index, video.frame(index).map(answer).map_err(|error| error.to_string()))).collect()
}

fn played(video: &Video) -> BTreeMap<u32, HashedFrame> {
    let mut frames = BTreeMap::new();
    let _ = video.play(&mut |frame| {
        frames.insert(frame.index, Ok(answer(frame)));
        ControlFlow::Continue(())
    });
    frames
}

fn answer(frame: VideoFrame) -> (u64, bool) {
    let mut hasher = DefaultHasher::new();
    for plane in (0..frame.picture.planes()).filter_map(|index| frame.picture.plane(index)) {
        plane.rows().for_each(|row| row.hash(&mut hasher));
    }
    (hasher.finish(), frame.picture.is_corrupt())
}

/// Frames that neither run flags as damaged must be equal.
fn agree(one: &BTreeMap<u32, HashedFrame>, other: &BTreeMap<u32, HashedFrame>, how: &str) {
    for (index, one) in one {
        if let (Ok((one, false)), Some(Ok((other, false)))) = (one, other.get(index)) {
            assert_eq!(one, other, "frame {index}, {how}");
        }
    }
}

/// A minimal MP4 file: one track, one chunk.
fn mp4(stream: &HevcStream) -> Vec<u8> {
    let framed = |unit: &Vec<u8>| [&(unit.len() as u32).to_be_bytes()[..], unit].concat();
    let samples: Vec<Vec<u8>> =
        stream.samples.iter().map(|sample| sample.units.iter().flat_map(framed).collect()).collect();
    let count = samples.len() as u32;
    let (width, height) = (stream.size.0 as u16, stream.size.1 as u16);
    let mut entry = vec![0; 78];
    entry[7] = 1;
    entry[24..26].copy_from_slice(&width.to_be_bytes());
    entry[26..28].copy_from_slice(&height.to_be_bytes());
    let entry =
        BoxNode { children: vec![BoxNode::leaf(b"hvcC", stream.configuration())], ..BoxNode::leaf(b"hvc1", entry) };
    let sync = (1..).zip(&stream.samples).filter(|(_, sample)| sample.is_sync).map(|(number, _)| number);
    let sync: Vec<u32> = sync.collect();
    let sizes = samples.iter().map(|sample| sample.len() as u32);
    let tables = vec![
        BoxNode { children: vec![entry], ..BoxNode::full(b"stsd", &[1]) },
        BoxNode::full(b"stts", &[1, count, 1]),
        BoxNode::full(b"stss", &[&[sync.len() as u32], &sync[..]].concat()),
        BoxNode::full(b"stsc", &[1, 1, count, 1]),
        BoxNode::full(b"stsz", &[0, count].into_iter().chain(sizes).collect::<Vec<_>>()),
        // After `ftyp` and the header of `mdat`.
        BoxNode::full(b"stco", &[1, 16 + 8]),
    ];
    let media = vec![
        BoxNode::full(b"mdhd", &[0, 0, 25, count, 0]),
        BoxNode::leaf(b"hdlr", [&[0; 8][..], b"vide", &[0; 13]].concat()),
        BoxNode::parent(b"minf", vec![BoxNode::parent(b"stbl", tables)]),
    ];
    let mut header = vec![0; 100];
    header[15] = 1;
    let movie = vec![
        BoxNode::full(b"mvhd", &[&[0, 0, 25, count][..], &[0; 20]].concat()),
        BoxNode::parent(b"trak", vec![BoxNode::leaf(b"tkhd", header[..84].to_vec()), BoxNode::parent(b"mdia", media)]),
    ];
    boxes::bytes(&[
        BoxNode::leaf(b"ftyp", b"isom\0\0\0\0".to_vec()),
        BoxNode::leaf(b"mdat", samples.concat()),
        BoxNode::parent(b"moov", movie),
    ])
}
