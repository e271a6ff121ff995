//! No still or contact sheet shows parts of the preceding one.

use bucket_streamer::pixels::{Fit, JfifPlanes, PixelRect, Shape};
use bucket_streamer::still::{Grid, Orientation, StillEncoder, StillFormat, StillMaker, StillOptions};

use testing::damage::observations::engine;
use testing::damage::{DamageKind, IntactClip, damage_repeatedly};

use crate::{noise_and_rest, video};

/// Options of stills: whole, smaller, rotated, a part; with odd widths and heights too.
fn still_variants() -> Vec<StillOptions> {
    let shape = |width, height, fit| Shape { width, height, fit };
    let whole = StillOptions::default();
    let turned = StillOptions { orientation: Orientation::from_rotation(90.0, false), ..whole };
    vec![
        whole,
        StillOptions { shape: shape(Some(161), None, Fit::Contain), ..whole },
        StillOptions { shape: shape(Some(97), Some(151), Fit::Cover), ..whole },
        StillOptions { shape: shape(Some(33), Some(7), Fit::Fill), ..turned },
        turned,
        StillOptions { crop: Some(PixelRect { left: 3, top: 5, width: 91, height: 75 }), ..whole },
    ]
}

/// A picture of the video, as far as it can be decoded.
pub(crate) fn picture(clip: &IntactClip, frame: u32) -> bucket_streamer::Frame {
    video(&engine(1, None), clip).frame(frame).expect("a frame").picture
}

#[test]
fn stills_show_nothing_of_the_stills_before() {
    let noise = picture(&noise_and_rest("h264_slices.mp4").0, 1);
    let damaged = damage_repeatedly(&noise_and_rest("hevc_slices.mp4").1, DamageKind::SliceMissing, 1, 1)
        .expect("a damaged clip");
    let damaged = IntactClip::of(&damaged.name, damaged.bytes).expect("a clip");
    let others = ["hevc_444_8bit.mp4", "hevc_12bit_422.mp4", "hevc_gray.mp4", "vp9_odd.webm", "h264_interlaced.mp4"];
    let mut pictures = vec![(damaged.name.clone(), picture(&damaged, 2))];
    pictures.extend(others.map(|name| (name.to_owned(), picture(&IntactClip::fixture(name), 20))));
    let mut used = StillMaker::new().expect("a maker");
    let (mut found, mut expected, mut stills) = (Vec::new(), Vec::new(), 0);
    for (name, picture) in &pictures {
        for options in still_variants() {
            for format in [StillFormat::Jpeg, StillFormat::Png, StillFormat::Webp] {
                let options = StillOptions { format, ..options };
                let size = StillMaker::new().expect("a maker").encode(picture, &options, &mut expected);
                let size = size.unwrap_or_else(|error| panic!("{name}: {error}"));
                for before in still_variants() {
                    used.encode(&noise, &StillOptions { format, ..before }, &mut found).expect("a still of noise");
                    assert_eq!(used.encode(picture, &options, &mut found).expect("a still"), size, "{name}");
                    assert!(found == expected, "{name}: {options:?} after {before:?}");
                    stills += 1;
                }
            }
        }
    }
    eprintln!("{stills} stills, {} pictures", pictures.len());
}

#[test]
fn sheets_show_nothing_of_the_sheets_before() {
    let (mut maker, mut used) = (StillMaker::new().expect("a maker"), StillEncoder::new().expect("an encoder"));
    let noise = picture(&noise_and_rest("h264_slices.mp4").0, 1);
    let odd = picture(&IntactClip::fixture("vp9_odd.webm"), 20);
    let mut tile = |picture, width| {
        let shape = Shape { width: Some(width), height: None, fit: Fit::Contain };
        maker.planes(picture, &StillOptions { shape, ..StillOptions::default() }).expect("a tile").clone()
    };
    let grid = Grid::new((75, 57), 2, 4).expect("a grid");
    let of_noise = tile(&noise, 75);
    let (first, last) = (tile(&odd, 75), tile(&odd, 31));
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    for format in [StillFormat::Jpeg, StillFormat::Png, StillFormat::Webp] {
        let mut fresh = StillEncoder::new().expect("an encoder");
        let sheet = |tiles: [Option<&JfifPlanes>; 4]| grid.compose(&tiles).expect("a sheet");
        let shown = sheet([Some(&first), None, Some(&last), None]);
        fresh.encode(&shown, format, 85, &mut expected).expect("a sheet");
        used.encode(&sheet([Some(&of_noise); 4]), format, 85, &mut found).expect("a sheet of noise");
        // The cells of failed tiles contain nothing of another sheet.
        let again = sheet([Some(&first), None, Some(&last), None]);
        used.encode(&again, format, 85, &mut found).expect("a sheet");
        assert!(found == expected, "{format:?}");
        let (left, top) = grid.place(1);
        let cell = (0..56).flat_map(|y| &again.planes[0].row(top + y)[left..left + 76]);
        assert!(cell.copied().all(|luma| luma == 0), "the cell of a failed tile is black");
    }
}
