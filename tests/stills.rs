//! The pictures of stills: formats, rotation, aspect ratio, fields, parts, sheets. The reference is the `ffmpeg` of the
//! same build, or the number in the picture.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use common::{ProgramRun, fixture, program, run_command};

/// A picture as rows of R'G'B' pixels.
#[derive(Debug, Clone, PartialEq)]
struct RgbPicture {
    width: usize,
    height: usize,
    pixels: Vec<[u8; 3]>,
}

impl RgbPicture {
    fn of_png(bytes: &[u8]) -> RgbPicture {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().expect("a PNG");
        assert!(reader.info().srgb.is_some(), "says that it is sRGB");
        let mut samples = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut samples).expect("a whole PNG");
        let pixels = match info.color_type {
            png::ColorType::Grayscale => samples.iter().map(|&grey| [grey; 3]).collect(),
            _ => samples.as_chunks::<3>().0.to_vec(),
        };
        RgbPicture { width: info.width as usize, height: info.height as usize, pixels }
    }

    fn of_webp(bytes: &[u8]) -> RgbPicture {
        let mut decoder = image_webp::WebPDecoder::new(std::io::Cursor::new(bytes)).expect("a WebP");
        let (width, height) = decoder.dimensions();
        assert!(!decoder.has_alpha());
        let mut samples = vec![0; decoder.output_buffer_size().expect("a size")];
        decoder.read_image(&mut samples).expect("a whole WebP");
        RgbPicture { width: width as usize, height: height as usize, pixels: samples.as_chunks::<3>().0.to_vec() }
    }

    fn of_jpeg(bytes: &[u8]) -> RgbPicture {
        let image = turbojpeg::decompress(bytes, turbojpeg::PixelFormat::RGB).expect("a JPEG");
        let rows = image.pixels.chunks(image.pitch).flat_map(|row| row[..3 * image.width].as_chunks::<3>().0.to_vec());
        RgbPicture { width: image.width, height: image.height, pixels: rows.collect() }
    }

    /// A frame from ffmpeg, rotated as the container says, then filtered. The chroma location, which is left in all of
    /// these clips, has to be specified.
    fn of_ffmpeg(clip: &Path, frame: u32, filters: &str, (width, height): (usize, usize)) -> RgbPicture {
        let flags = "accurate_rnd+full_chroma_int+full_chroma_inp+bilinear";
        let to_rgb = format!("scale=in_h_chr_pos=0:in_v_chr_pos=128:flags={flags},format=gbrp");
        let filters = format!("select=eq(n\\,{frame}),{to_rgb}{filters},format=rgb24");
        let mut command = Command::new(program("ffmpeg"));
        command.args(["-v", "error", "-i"]).arg(clip).args(["-vf", &filters, "-fps_mode", "passthrough"]);
        command.args(["-sws_flags", "accurate_rnd+full_chroma_int+bicubic", "-frames:v", "1", "-f", "rawvideo", "-"]);
        let ran = command.output().expect("ffmpeg runs");
        assert_eq!(ran.stdout.len(), width * height * 3, "{}", String::from_utf8_lossy(&ran.stderr));
        RgbPicture { width, height, pixels: ran.stdout.as_chunks::<3>().0.to_vec() }
    }

    fn luma(&self, x: usize, y: usize) -> f64 {
        let [red, green, blue] = self.pixels[y * self.width + x].map(f64::from);
        0.299 * red + 0.587 * green + 0.114 * blue
    }

    /// Mean difference of samples.
    fn distance(&self, other: &RgbPicture) -> f64 {
        assert_eq!((self.width, self.height), (other.width, other.height));
        let pairs = self.pixels.as_flattened().iter().zip(other.pixels.as_flattened());
        pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / self.pixels.as_flattened().len() as f64
    }

    /// The number in the picture (`fixtures/README.md`), read from the lines of one parity of the picture at `left`,
    /// `top`.
    fn number(&self, (left, top): (usize, usize), parity: usize) -> u32 {
        let cell = |bit: usize| {
            let lines = (4..12).filter(|y| y % 2 == parity);
            lines.map(|y| self.luma(left + 16 * bit + 8, top + y)).sum::<f64>() / 4.0
        };
        (0..10).filter(|&bit| cell(bit) > 128.0).map(|bit| 1 << bit).sum()
    }
}

/// Stills of frames of a clip, with their lines.
fn stills(clip: &Path, arguments: &[&str]) -> (Vec<Vec<u8>>, Vec<Value>) {
    let folder = tempfile::tempdir().expect("a folder");
    let (clip, output) = (clip.to_string_lossy(), folder.path().to_string_lossy());
    let ran = run_command(&[&["extract", &clip, "--json", "--output", &output], arguments].concat());
    assert_eq!(ran.code(), 0, "{arguments:?}: {}", ran.stderr);
    let files =
        ran.json().iter().map(|line| fs::read(line["file"].as_str().expect("a file")).expect("a still")).collect();
    (files, ran.json())
}

/// One frame as a PNG, whose size is checked against its line.
fn png(clip: &Path, frame: u32, arguments: &[&str]) -> RgbPicture {
    let (files, lines) = stills(clip, &[&["--format", "png", "--frames", &frame.to_string()], arguments].concat());
    let picture = RgbPicture::of_png(&files[0]);
    assert_eq!((&lines[0]["width"], &lines[0]["height"]), (&picture.width.into(), &picture.height.into()));
    picture
}

mod formats {
    use super::*;

    #[test]
    fn all_show_the_same_picture() {
        // WebP halves chroma, which is visible in these colour bars; the small pattern of the odd clip shows that
        // readers of JPEG and WebP assume centred chroma, and swscale the nearest. FFmpeg's converter treats gray as
        // full range, whatever the stream says, so there is no reference for it.
        for (name, size, limit, jpeg_limit, webp_limit) in [
            ("hevc_closed_gop.mp4", (320, 180), 1.5, 2.0, 4.0),
            ("hevc_444_8bit.mp4", (320, 180), 1.0, 2.0, 6.0),
            ("hevc_gray.mp4", (320, 180), f64::INFINITY, 2.0, 4.0),
            ("vp9_odd.webm", (161, 121), 5.0, 5.0, 6.0),
        ] {
            let clip = fixture(name);
            let exact = png(&clip, 20, &[]);
            let off = exact.distance(&RgbPicture::of_ffmpeg(&clip, 20, "", size));
            assert!(off < limit, "{name}: {off} from ffmpeg's");
            let (jpeg, lines) = stills(&clip, &["--frames", "20", "--quality", "95"]);
            assert_eq!(lines[0]["format"], "jpeg");
            let off = exact.distance(&RgbPicture::of_jpeg(&jpeg[0]));
            assert!(off < jpeg_limit, "{name}: JPEG {off}");
            let (webp, lines) = stills(&clip, &["--frames", "20", "--quality", "95", "--format", "webp"]);
            assert_eq!((&lines[0]["format"], &lines[0]["width"]), (&"webp".into(), &size.0.into()));
            assert!(lines[0]["file"].as_str().is_some_and(|file| file.ends_with("frame-000020.webp")));
            let off = exact.distance(&RgbPicture::of_webp(&webp[0]));
            assert!(off < webp_limit, "{name}: WebP {off}");
        }
    }

    #[test]
    fn bytes_go_to_standard_output() {
        let clip = fixture("hevc_closed_gop.mp4");
        for format in ["png", "webp"] {
            let mut command = common::bucket_streamer(&["extract", &clip.to_string_lossy(), "--frames", "3"]);
            let ran = command.args(["--format", format, "--output", "-"]).output().expect("runs");
            let (files, lines) = stills(&clip, &["--frames", "3", "--format", format]);
            assert_eq!(ran.stdout, files[0], "{format}");
            assert_eq!(lines[0]["format"], format);
        }
    }

    #[test]
    fn quality_is_that_of_webp_too() {
        let size = |quality| {
            let arguments = ["--frames", "9", "--format", "webp", "--quality", quality];
            stills(&fixture("hevc_closed_gop.mp4"), &arguments).0[0].len()
        };
        assert!(size("20") < size("85") && size("85") < size("100"));
    }
}

mod shape {
    use super::*;

    /// The clip in another container file, with options of ffmpeg for its header.
    fn with_header(name: &str, options: &[&str]) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("clip.mp4");
        let mut command = Command::new(program("ffmpeg"));
        command.args(["-v", "error"]);
        let (before, after): (Vec<&str>, Vec<&str>) = options.iter().partition(|option| option.starts_with("-display"));
        command.args(before.iter().flat_map(|option| option.split(' '))).arg("-i").arg(fixture(name));
        command.args(after.iter().flat_map(|option| option.split(' '))).args(["-c", "copy"]).arg(&path);
        let ran = command.output().expect("ffmpeg runs");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        (folder, path)
    }

    #[test]
    fn telephones_clips_stand_upright() {
        let clip = fixture("hevc_rotated.mp4");
        let picture = png(&clip, 12, &[]);
        assert_eq!((picture.width, picture.height), (180, 320));
        let off = picture.distance(&RgbPicture::of_ffmpeg(&clip, 12, "", (180, 320)));
        assert!(off < 1.5, "{off}");
    }

    #[test]
    fn every_quarter_and_mirror_is_as_ffmpeg_turns_it() {
        for rotation in ["0", "90", "180", "270", "100"] {
            for mirror in ["", "-display_hflip", "-display_vflip"] {
                let turned = format!("-display_rotation {rotation}");
                let options: Vec<&str> =
                    [turned.as_str(), mirror].into_iter().filter(|text| !text.is_empty()).collect();
                let (_folder, clip) = with_header("h264_bframes.mp4", &options);
                let picture = png(&clip, 7, &[]);
                let size = if ["90", "270", "100"].contains(&rotation) { (180, 320) } else { (320, 180) };
                assert_eq!((picture.width, picture.height), size, "{options:?}");
                // ffmpeg rotates by exactly 100 degrees, with black corners; the nearest quarter turn is expected here.
                if rotation != "100" {
                    let off = picture.distance(&RgbPicture::of_ffmpeg(&clip, 7, "", size));
                    // After rotation, chroma counts as centred.
                    assert!(off < 2.5, "{options:?}: {off}");
                }
            }
        }
    }

    #[test]
    fn width_and_height_mean_the_turned_picture() {
        let clip = fixture("hevc_rotated.mp4");
        let sized = |arguments: &str| {
            let picture = png(&clip, 3, &arguments.split_whitespace().collect::<Vec<_>>());
            (picture.width, picture.height)
        };
        assert_eq!(sized("--width 90"), (90, 160));
        assert_eq!(sized("--height 160"), (90, 160));
        assert_eq!(sized("--width 100 --height 50 --fit cover"), (100, 50));
        assert_eq!(sized("--width 100 --height 50"), (28, 50));
        assert_eq!(sized("--crop 100x60+80+260 --width 50"), (50, 30));
    }

    #[test]
    fn a_crop_is_relative_to_the_shown_picture() {
        for name in ["hevc_rotated.mp4", "hevc_444_8bit.mp4"] {
            let clip = fixture(name);
            let whole = png(&clip, 5, &[]);
            let part = png(&clip, 5, &["--crop", "100x60+34+100"]);
            assert_eq!((part.width, part.height), (100, 60));
            let rows = (100..160).flat_map(|y| whole.pixels[y * whole.width + 34..][..100].to_vec());
            let cut = RgbPicture { pixels: rows.collect(), ..part.clone() };
            // Chroma is interpolated across the edge in only one of them.
            assert!(part.distance(&cut) < 0.2, "{name}: {}", part.distance(&cut));
        }
    }

    #[test]
    fn a_part_outside_is_an_error_of_the_frame() {
        let clip = fixture("hevc_rotated.mp4");
        let folder = tempfile::tempdir().expect("a folder");
        let (clip, output) = (clip.to_string_lossy(), folder.path().to_string_lossy());
        let ran = run_command(&["extract", &clip, "--frames", "1", "-o", &output, "--crop", "320x180+0+0"]);
        assert_eq!(ran.code(), 1);
        assert!(
            ran.stderr.contains("frame 1: the part 320x180+0+0 is not within the picture, which is shown at 180x320")
        );
        let ran = run_command(&["extract", &clip, "--frames", "1", "-o", &output, "--crop", "10+10"]);
        assert_eq!(ran.code(), 2, "{}", ran.stderr);
    }

    #[test]
    fn pixels_become_square() {
        // 320x180 shown as 4:3 has a sample aspect ratio of 3:4; as 2.35:1 it is wider.
        let (_folder, clip) = with_header("h264_bframes.mp4", &["-aspect 4:3"]);
        let picture = png(&clip, 7, &[]);
        assert_eq!((picture.width, picture.height), (320, 240));
        let off = picture.distance(&RgbPicture::of_ffmpeg(&clip, 7, ",scale=320:240", (320, 240)));
        assert!(off < 2.5, "{off}");
        let (_folder, clip) = with_header("h264_bframes.mp4", &["-aspect 8:3"]);
        let picture = png(&clip, 7, &["--height", "90"]);
        assert_eq!((picture.width, picture.height), (240, 90));
    }

    #[test]
    fn one_field_is_shown_of_an_interlaced_picture() {
        let clip = fixture("h264_interlaced.mp4");
        for frame in [0, 21, 47] {
            let picture = png(&clip, frame, &[]);
            for parity in [0, 1] {
                assert_eq!(picture.number((0, 0), parity), 2 * frame, "lines of parity {parity}");
            }
        }
    }

    #[test]
    fn planes_are_untouched_by_all_this() {
        let shaped = ["--width", "50", "--crop", "20x20+1+1"];
        for name in ["hevc_rotated.mp4", "h264_interlaced.mp4"] {
            let clip = fixture(name);
            let clip = clip.to_string_lossy();
            let plain = ["extract", &clip, "--frames", "4", "--format", "framemd5"];
            assert_eq!(run_command(&plain).text(), run_command(&[&plain[..], &shaped].concat()).text());
            let raw = |arguments: &[&str]| {
                stills(&fixture(name), &[&["--frames", "4", "--format", "raw"], arguments].concat()).0
            };
            assert_eq!(raw(&[]), raw(&shaped));
        }
    }
}

mod sheet {
    use super::*;

    struct Sheet {
        folder: TempDir,
        ran: ProgramRun,
    }

    impl Sheet {
        fn of(name: &str, file: &str, arguments: &[&str]) -> Sheet {
            let folder = tempfile::tempdir().expect("a folder");
            let (clip, output) = (fixture(name), folder.path().join(file));
            let (clip, output) = (clip.to_string_lossy(), output.to_string_lossy());
            let ran = run_command(&[&["sheet", &clip, "-o", &output], arguments].concat());
            Sheet { folder, ran }
        }

        fn read(&self, file: &str) -> Vec<u8> {
            fs::read(self.folder.path().join(file)).expect("the file")
        }
    }

    #[test]
    fn nothing_that_is_read_is_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let video = folder.path().join("clip.vtt");
        fs::copy(fixture("hevc_rotated.mp4"), &video).expect("a copy");
        let (clip, output) = (video.to_string_lossy(), folder.path().join("clip.jpg"));
        let ran = run_command(&["sheet", &clip, "-o", &output.to_string_lossy(), "--count", "2"]);
        assert_eq!(ran.code(), 2, "{}", ran.stderr);
        assert_eq!(fs::read(&video).expect("the video"), fs::read(fixture("hevc_rotated.mp4")).expect("the fixture"));
    }

    #[test]
    fn one_that_is_too_large_is_refused() {
        let sheet = Sheet::of("hevc_rotated.mp4", "s.jpg", &["--columns", "1", "--count", "40", "--width", "2000"]);
        assert_eq!(sheet.ran.code(), 1);
        assert!(sheet.ran.stderr.contains("too large"), "{}", sheet.ran.stderr);
    }

    #[test]
    fn tiles_are_the_frames_in_the_middle_of_their_part() {
        let sheet = Sheet::of("hevc_closed_gop.mp4", "sheet.png", &["--columns", "3", "--count", "8", "--json"]);
        assert_eq!(sheet.ran.code(), 0, "{}", sheet.ran.stderr);
        let report = &sheet.ran.json()[0];
        let picture = RgbPicture::of_png(&sheet.read("sheet.png"));
        assert_eq!((picture.width, picture.height), (960, 540));
        assert_eq!((&report["columns"], &report["rows"], &report["format"]), (&3.into(), &3.into(), &"png".into()));
        let vtt = String::from_utf8(sheet.read("sheet.vtt")).expect("text");
        let cues: Vec<&str> = vtt.trim_end().split("\n\n").collect();
        assert_eq!((cues.len(), cues[0]), (9, "WEBVTT"));
        for i in 0..8 {
            let (frame, place) = ((2 * i + 1) * 144 / 16, (i as usize % 3 * 320, i as usize / 3 * 180));
            assert_eq!(picture.number(place, 0), frame);
            let tile = &report["tiles"][i as usize];
            assert_eq!((&tile["index"], &tile["x"], &tile["y"]), (&frame.into(), &place.0.into(), &place.1.into()));
            let time = |slice: u32| format!("00:00:{:06.3}", f64::from(slice * 18) / 25.0);
            let place = format!("sheet.png#xywh={},{},320,180", place.0, place.1);
            assert_eq!(cues[i as usize + 1], format!("{} --> {}\n{place}", time(i), time(i + 1)));
        }
        // The cell without a tile.
        assert_eq!(picture.pixels[400 * 960 + 700], [0; 3]);
    }

    #[test]
    fn names_formats_and_small_videos() {
        let sheet = Sheet::of("hevc_rotated.mp4", "a b.webp", &["--count", "100", "--columns", "7", "--width", "45"]);
        assert_eq!(sheet.ran.code(), 0, "{}", sheet.ran.stderr);
        // 24 frames, upright, cells of 46x80.
        let picture = RgbPicture::of_webp(&sheet.read("a b.webp"));
        assert_eq!((picture.width, picture.height), (7 * 46, 4 * 80));
        assert!(String::from_utf8(sheet.read("a b.vtt")).expect("text").contains("a%20b.webp#xywh=46,80,46,80"));
        assert!(sheet.ran.stderr.contains("24 tiles"), "{}", sheet.ran.stderr);
        let sheet = Sheet::of("hevc_gray.mp4", "sheet", &["--count", "4", "--columns", "2", "--width", "64"]);
        let picture = RgbPicture::of_jpeg(&sheet.read("sheet"));
        assert_eq!((picture.width, picture.height), (128, 72));
    }

    #[test]
    fn sizes_may_change_on_the_way() {
        let arguments = ["--count", "6", "--columns", "6", "--width", "100", "--json"];
        let sheet = Sheet::of("hevc_size_change.265", "sheet.jpg", &arguments);
        assert_eq!(sheet.ran.code(), 0, "{}", sheet.ran.stderr);
        assert_eq!(RgbPicture::of_jpeg(&sheet.read("sheet.jpg")).width, 600);
    }

    #[test]
    fn impossible_sheets_are_refused() {
        let sheet =
            Sheet::of("hevc_closed_gop.mp4", "sheet.jpg", &["--columns", "144", "--count", "144", "--width", "1000"]);
        assert_eq!(sheet.ran.code(), 1);
        assert!(sheet.ran.stderr.contains("too large: fewer or smaller tiles"), "{}", sheet.ran.stderr);
        let sheet = Sheet::of("hevc_closed_gop.mp4", "sheet.vtt", &[]);
        assert_eq!(sheet.ran.code(), 2, "{}", sheet.ran.stderr);
        let clip = fixture("hevc_closed_gop.mp4");
        let clip = clip.to_string_lossy();
        assert_eq!(run_command(&["sheet", &clip, "-o", &clip]).code(), 2);
        assert_eq!(run_command(&["sheet", &clip, "-o", "-", "--json"]).code(), 2);
        assert_eq!(run_command(&["sheet", &clip, "-o", "x.jpg", "--format", "raw"]).code(), 2);
        let missing = Sheet::of("hevc_closed_gop_that_is_not_there.mp4", "sheet.jpg", &[]);
        assert_eq!(missing.ran.code(), 3);
    }
}
