//! Streams that claim large pictures: a few bytes that demand gigabytes.

use super::{ContainerForm, IntactClip, resized};

/// The width and height of the largest pictures under the default limit, in luma samples.
pub const LARGEST: (u64, u64) = (8192, 4352);

/// Streams that claim pictures of this size, in every codec.
pub fn bombs(size: (u64, u64)) -> Vec<(String, Vec<u8>)> {
    let raw = |name: &str| {
        let clip = IntactClip::fixture(name);
        if clip.form == ContainerForm::InPlace { clip.annex_b().expect("a raw stream") } else { clip }
    };
    let names = [
        "hevc_open_gop_cut.265",
        "hevc_slices.mp4",
        "hevc_slices_10bit.mp4",
        "h264_fields.h264",
        "h264_slices.mp4",
        "h264_slices_10bit.mp4",
        "vp9_tiles.ivf",
        "vp9_tiles_10bit.ivf",
        "av1_tiles.ivf",
        "av1_tiles_10bit.ivf",
    ];
    let bombs = names.into_iter().filter_map(|name| {
        let clip = raw(name);
        Some((clip.name.clone(), resized(&clip, size)?.bytes))
    });
    bombs.collect()
}
