//! The files that `extract` writes.

use super::*;

#[test]
fn file_names_sort_in_the_order_of_frames() {
    let stills = Stills::of("h264_bframes.mp4", &["--frames", "100-102,9,10,0,99,9", "--width", "16"]);
    let files: Vec<String> =
        stills.ran.json().iter().map(|line| line["file"].as_str().expect("a file").into()).collect();
    let named = |at: usize| name(&PathBuf::from(&files[at]));
    assert_eq!(stills.names(), [5, 3, 4, 6, 0, 1, 2].map(named), "one file for a frame that is requested twice");
    assert!(stills.names().iter().all(|name| name.ends_with(".jpg")));
    assert_eq!(stills.ran.code(), 0);
}

#[test]
fn the_encoding_thread_does_not_change_the_bytes() {
    for name in ["hevc_open_gop.mp4", "h264_open_gop.mkv", "hevc_two_descriptions.mp4"] {
        // With two threads, the decoding threads encode the five GOPs. With four threads, other threads do.
        let made = |threads: &str| Stills::of(name, &["--keyframes", "--threads", threads, "--width", "64"]);
        let (spread, handed_on) = (made("2"), made("4"));
        assert!(spread.files().len() >= 4 && spread.files() == handed_on.files(), "{name}");
        assert_eq!(numbers(&spread.ran.json()), numbers(&handed_on.ran.json()), "{name}: order");
    }
}

#[test]
fn a_raw_file_has_the_bytes_whose_md5_framemd5_prints() {
    for name in ["hevc_closed_gop.mp4", "hevc_12bit_422.mp4", "hevc_gray.mp4", "vp9_odd.webm", "h264_interlaced.mp4"] {
        let files = Stills::of(name, &["--frames", "7,40", "--format", "raw"]).files();
        let md5s: Vec<String> = files.iter().map(|bytes| md5_of(bytes)).collect();
        let printed = extract(name, &["--frames", "7,40", "--format", "framemd5"]);
        assert_eq!(md5s_of(printed.text()), md5s, "{name}");
    }
}

/// Size of a JPEG, checked against its line.
fn size_of(name: &str, arguments: &[&str]) -> (usize, usize) {
    let stills = Stills::of(name, &[&["--frames", "20"], arguments].concat());
    let (lines, files) = (stills.ran.json(), stills.files());
    let image = turbojpeg::decompress_to_yuv(&files[0]).expect("a JPEG");
    let properties = json!([lines[0]["width"], lines[0]["height"], lines[0]["format"]]);
    assert_eq!(properties, json!([image.width, image.height, "jpeg"]), "{name} {arguments:?}");
    (image.width, image.height)
}

#[test]
fn sizes_follow_width_height_and_fit() {
    let sized = |arguments: &str| size_of("h264_bframes.mp4", &arguments.split_whitespace().collect::<Vec<_>>());
    assert_eq!(sized(""), (320, 180));
    assert_eq!(sized("--width 160"), (160, 90));
    assert_eq!(sized("--height 90"), (160, 90));
    assert_eq!(sized("--width 100 --height 100"), (100, 56));
    assert_eq!(sized("--width 100 --height 100 --fit contain"), (100, 56));
    assert_eq!(sized("--width 100 --height 100 --fit cover"), (100, 100));
    assert_eq!(sized("--width 100 --height 33 --fit fill"), (100, 33));
    assert_eq!(sized("--width 640 --height 640"), (640, 360), "enlarges too");
    assert_eq!(size_of("vp9_odd.webm", &[]), (161, 121));
    assert_eq!(size_of("hevc_gray.mp4", &["--width", "33"]), (33, 19));
}

/// Planes as written by `--format raw`.
struct Planes {
    width: usize,
    height: usize,
    depth: u32,
    /// Binary logarithms of luma columns and rows per chroma sample; `None` for grey.
    chroma_shift: Option<(usize, usize)>,
    samples: Vec<f64>,
}

impl Planes {
    fn of(line: &Value, bytes: &[u8]) -> Planes {
        let format = line["format"].as_str().expect("a pixel format");
        let chroma_shift = [("420", (1, 1)), ("422", (1, 0)), ("444", (0, 0))].into_iter();
        let depth = if format.ends_with("p12le") {
            12
        } else if format.ends_with("p10le") {
            10
        } else {
            8
        };
        let samples = match depth {
            8 => bytes.iter().map(|&byte| f64::from(byte)).collect(),
            _ => bytes.chunks(2).map(|pair| f64::from(u16::from_le_bytes([pair[0], pair[1]]))).collect(),
        };
        Planes {
            width: line["width"].as_u64().expect("a width") as usize,
            height: line["height"].as_u64().expect("a height") as usize,
            depth,
            chroma_shift: chroma_shift.into_iter().find(|(name, _)| format.contains(name)).map(|(_, shift)| shift),
            samples,
        }
    }

    /// Y'CbCr of a pixel, from limited range to 0..1 and -0.5..0.5; chroma is not interpolated.
    fn ycbcr(&self, x: usize, y: usize) -> [f64; 3] {
        let one = f64::from(1 << (self.depth - 8));
        let luma = (self.samples[y * self.width + x] / one - 16.0) / 219.0;
        let Some((across, down)) = self.chroma_shift else { return [luma, 0.0, 0.0] };
        let (columns, rows) = (self.width.div_ceil(1 << across), self.height.div_ceil(1 << down));
        let at = self.width * self.height + (y >> down) * columns + (x >> across);
        let chroma = |plane: usize| (self.samples[at + plane * columns * rows] / one - 128.0) / 224.0;
        [luma, chroma(0), chroma(1)]
    }
}

/// Weights of red and blue in luma.
type Weights = (f64, f64);
const BT601: Weights = (0.299, 0.114);
const BT709: Weights = (0.2126, 0.0722);
const BT2020: Weights = (0.2627, 0.0593);

/// JFIF's luma of a colour, by way of R'G'B', which the program does not compute.
fn jfif_luma([luma, cb, cr]: [f64; 3], (red, blue): Weights) -> f64 {
    let (r, b) = (luma + 2.0 * (1.0 - red) * cr, luma + 2.0 * (1.0 - blue) * cb);
    let g = (luma - red * r - blue * b) / (1.0 - red - blue);
    255.0 * (BT601.0 * r + (1.0 - BT601.0 - BT601.1) * g + BT601.1 * b).clamp(0.0, 1.0)
}

/// Mean distance between a JPEG's luma and that of the planes, if their matrix had these weights.
fn distance(jpeg: &[u8], planes: &Planes, weights: Weights) -> f64 {
    let image = turbojpeg::decompress_to_yuv(jpeg).expect("a JPEG");
    assert_eq!((image.width, image.height), (planes.width, planes.height));
    let stride = image.width.next_multiple_of(image.align);
    let pixels = (0..image.height).flat_map(|y| (0..image.width).map(move |x| (x, y)));
    let each =
        pixels.map(|(x, y)| (f64::from(image.pixels[y * stride + x]) - jfif_luma(planes.ycbcr(x, y), weights)).abs());
    each.sum::<f64>() / (image.width * image.height) as f64
}

#[test]
fn luma_is_that_of_the_planes_in_full_range_and_bt601() {
    for (name, weights) in [
        ("hevc_closed_gop.mp4", BT709),
        ("h264_bframes.mp4", BT601),
        ("hevc_444_8bit.mp4", BT601),
        ("hevc_10bit.mp4", BT2020),
        ("hevc_12bit_422.mp4", BT601),
        ("hevc_gray.mp4", BT601),
        ("vp9_odd.webm", BT601),
    ] {
        // A still of HDR has the luma of its planes only without tone mapping.
        let jpegs = Stills::of(name, &["--frames", "0,33", "--quality", "95", "--no-tonemap"]).files();
        let raw = Stills::of(name, &["--frames", "0,33", "--format", "raw"]);
        for ((jpeg, bytes), line) in jpegs.iter().zip(raw.files()).zip(raw.ran.json()) {
            let planes = Planes::of(&line, &bytes);
            let right = distance(jpeg, &planes, weights);
            assert!(right < 1.5, "{name}: frame {}: mean distance {right}", line["index"]);
            let wrong = distance(jpeg, &planes, BT601);
            assert!(weights == BT601 || wrong > 5.0, "{name}: {wrong}: the matrix makes no difference here");
        }
    }
}

#[test]
fn higher_quality_is_larger() {
    let size = |quality: &str| Stills::of("hevc_gray.mp4", &["--frames", "9", "--quality", quality]).files()[0].len();
    assert!(size("20") < size("85") && size("85") < size("100"));
}

#[test]
fn hdr_without_tone_mapping_is_reported_once() {
    let mapped = Stills::of("hevc_10bit.mp4", &["--frames", "1,2,3"]);
    assert_eq!((mapped.ran.code(), mapped.ran.stderr.as_str()), (0, ""));
    let left = Stills::of("hevc_10bit.mp4", &["--frames", "1,2,3", "--no-tonemap"]);
    assert!(mapped.files()[0] != left.files()[0]);
    let ran = left.ran;
    assert_eq!((ran.code(), ran.stderr.lines().count()), (0, 1), "{}", ran.stderr);
    assert!(ran.stderr.contains("hevc_10bit.mp4: HDR video"), "{}", ran.stderr);
    check_messages(&ran);
}
