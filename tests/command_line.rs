//! The command as its users see it: what stands on standard output and standard error, and which exit code comes.
#![allow(clippy::print_stderr, reason = "tests report what they leave out")]

mod common;
#[path = "command_line/files.rs"]
mod files;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use md5::{Digest, Md5};
use serde_json::{Value, json};
use tempfile::TempDir;

use common::{
    Ran, bucket_streamer, clips, fixture, name, oracle_md5s, oracle_packets, oracle_pts, program, run_command,
};

/// A fixture's path, as an argument.
fn clip(name: &str) -> String {
    fixture(name).to_string_lossy().into_owned()
}

/// `bench` is a feature; what is not built in is no command.
fn is_built_in(command: &[&str]) -> bool {
    command[0] != "bench" || cfg!(feature = "bench")
}

/// `extract` of a fixture.
fn extract(name: &str, arguments: &[&str]) -> Ran {
    run_command(&[&["extract", &clip(name)], arguments].concat())
}

/// `extract` of a fixture into a folder of its own.
struct Stills {
    folder: TempDir,
    ran: Ran,
}

impl Stills {
    fn of(name: &str, arguments: &[&str]) -> Stills {
        let folder = tempfile::tempdir().expect("a folder");
        let output = folder.path().join("stills");
        let more = ["--output", output.to_str().expect("text"), "--json"];
        let ran = extract(name, &[arguments, &more].concat());
        Stills { folder, ran }
    }

    /// Names of the files, in the order in which they sort.
    fn names(&self) -> Vec<String> {
        let files = fs::read_dir(self.folder.path().join("stills")).expect("the folder");
        let mut names: Vec<String> = files.map(|file| name(&file.expect("a file").path())).collect();
        names.sort();
        names
    }

    /// The bytes of the files, in the order of the JSON lines.
    fn files(&self) -> Vec<Vec<u8>> {
        let read = |line: Value| fs::read(line["file"].as_str().expect("a file")).expect("the still");
        self.ran.json().into_iter().map(read).collect()
    }
}

/// Every message is one line that says who speaks.
fn check_messages(ran: &Ran) {
    for line in ran.stderr.lines() {
        assert!(line.starts_with("bucket-streamer: ") && line.len() > 20, "{line}");
    }
}

fn numbers(lines: &[Value]) -> Vec<Option<u64>> {
    lines.iter().map(|line| line["index"].as_u64()).collect()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn md5_of(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The md5s of `--format framemd5` lines.
fn md5s_of(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.rsplit(", ").next()).collect()
}

mod framemd5 {
    use super::*;

    /// Where ffmpeg's command line makes up times that the file has not (`ffprobe` has ours, see `engine/tests/exact.rs`): it
    /// never goes back in time, counts the pictures of a raw stream that it shows, and guesses missing durations.
    const OTHER_TIMES: [&str; 8] = [
        "h264_fields_mixed.h264",
        "hevc_edit_segments.mp4",
        "hevc_test_1080p_fmp4_cra_rasl.mp4",
        "hevc_open_gop_cut.265",
        "vp9.ivf",
        "vp9_resized.ivf",
        "vp9_show_existing.ivf",
        "hevc_motionphoto_2tracks_rot.mp4",
    ];

    /// What `ffmpeg -f framemd5` prints, with times as the file has them.
    fn of_ffmpeg(clip: &Path) -> Vec<String> {
        let mut command = Command::new(program("ffmpeg"));
        command.args(["-v", "quiet", "-threads", "1", "-noautorotate", "-copyts", "-i"]).arg(clip);
        command.args(["-map", "0:v:0", "-fps_mode", "passthrough", "-noautoscale", "-enc_time_base", "demux"]);
        let ran = Ran::of(command.args(["-f", "framemd5", "-"]));
        ran.text().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    /// Size and md5, without stream, times and duration.
    fn without_times(line: &str) -> &str {
        line.splitn(5, ',').last().expect("fields")
    }

    #[test]
    fn prints_the_lines_that_ffmpeg_prints_and_no_others() {
        for clip in clips() {
            let path = clip.to_string_lossy();
            let ran = run_command(&["extract", &path, "--all", "--format", "framemd5"]);
            assert!([0, 1, 3].contains(&ran.code()), "{path}: {}", ran.stderr);
            let lines: Vec<&str> = ran.text().lines().collect();
            let expected = of_ffmpeg(&clip);
            assert_eq!(lines.len(), expected.len(), "{path}: number of frames");
            let has_other_times = OTHER_TIMES.contains(&name(&clip).as_str());
            for (line, expected) in lines.iter().zip(&expected) {
                if has_other_times {
                    assert_eq!(without_times(line), without_times(expected), "{path}");
                } else {
                    assert_eq!(line, expected, "{path}");
                }
            }
            check_messages(&ran);
        }
    }

    #[test]
    fn has_six_fields_and_the_size_of_the_planes() {
        for (name, size) in [
            ("hevc_closed_gop.mp4", 320 * 180 * 3 / 2),
            ("hevc_10bit.mp4", 320 * 180 * 3),
            ("hevc_12bit_422.mp4", 320 * 180 * 4),
            ("hevc_444_8bit.mp4", 320 * 180 * 3),
            ("hevc_gray.mp4", 320 * 180),
            ("hevc_rotated.mp4", 320 * 180 * 3 / 2),
            ("vp9_odd.webm", 161 * 121 + 2 * 81 * 61),
        ] {
            let ran = extract(name, &["--frames", "3", "--format", "framemd5"]);
            let fields: Vec<&str> = ran.text().trim_end().split(',').map(str::trim).collect();
            let expected = &oracle_md5s(&fixture(name))[3];
            assert_eq!(
                (fields[0], fields[4], fields[5]),
                ("0", size.to_string().as_str(), expected.as_str()),
                "{name}"
            );
            assert_eq!((fields.len(), fields[1]), (6, fields[2]), "{name}: dts is pts");
            assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""), "{name}");
        }
    }

    #[test]
    fn goes_to_standard_output_whatever_the_output_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let output = folder.path().join("stills");
        let more = ["--frames", "0", "--format", "framemd5", "--output", output.to_str().expect("text")];
        let ran = extract("hevc_gray.mp4", &more);
        assert_eq!((ran.code(), ran.text().lines().count()), (0, 1));
        assert!(!output.exists(), "nothing to put into a folder");
    }
}

mod order {
    use super::*;

    /// Across GOPs, backwards, with duplicates, and one that is not there.
    const ASKED: &str = "100,3,50-52,3,999,0,100,143,51";
    const NUMBERS: [u64; 11] = [100, 3, 50, 51, 52, 3, 999, 0, 100, 143, 51];

    #[test]
    fn json_lines_come_as_asked_and_a_missing_frame_is_an_error_among_them() {
        let expected = oracle_md5s(&fixture("hevc_closed_gop.mp4"));
        for threads in ["1", "3"] {
            let more = ["--frames", ASKED, "--format", "framemd5", "--json", "--threads", threads];
            let ran = extract("hevc_closed_gop.mp4", &more);
            assert_eq!(ran.code(), 1);
            let lines = ran.json();
            assert_eq!(numbers(&lines), NUMBERS.map(Some));
            for (line, number) in lines.iter().zip(NUMBERS) {
                assert_eq!(line["md5"].as_str(), expected.get(number as usize).map(String::as_str), "frame {number}");
                assert_eq!(line["error"].is_string(), number == 999, "frame {number}");
            }
            check_messages(&ran);
            assert!(ran.stderr.lines().count() == 1 && ran.stderr.contains("hevc_closed_gop.mp4: frame 999: "));
        }
    }

    #[test]
    fn framemd5_lines_come_as_asked() {
        let expected = oracle_md5s(&fixture("hevc_closed_gop.mp4"));
        let ran = extract("hevc_closed_gop.mp4", &["--frames", ASKED, "--format", "framemd5"]);
        let there = NUMBERS.into_iter().filter_map(|number| expected.get(number as usize));
        assert_eq!(md5s_of(ran.text()), there.collect::<Vec<_>>());
        assert_eq!(ran.code(), 1);
    }

    #[test]
    fn bytes_on_standard_output_are_those_of_the_files_as_asked() {
        for format in ["jpeg", "raw"] {
            let asked = ["--frames", "40,2,41,2,47", "--format", format];
            let files = Stills::of("hevc_10bit.mp4", &asked).files();
            let piped = extract("hevc_10bit.mp4", &[&asked[..], &["--output", "-"]].concat());
            assert_eq!(files.len(), 5);
            assert!(piped.stdout == files.concat(), "{format}");
            assert_eq!(piped.code(), 0);
        }
    }
}

mod json {
    use super::*;

    const FRAME: [&str; 7] = ["index", "pts", "time_s", "key", "width", "height", "format"];

    fn with<'a>(fields: &[&'a str], last: &'a str) -> BTreeSet<&'a str> {
        fields.iter().copied().chain([last]).collect()
    }

    #[test]
    fn lines_have_the_fields_that_are_promised_and_no_others() {
        let planes = extract("hevc_vfr.mp4", &["--frames", "0,7", "--format", "framemd5", "--json"]).json();
        assert!(planes.iter().all(|line| keys(line) == with(&FRAME, "md5")), "{planes:?}");
        for format in ["jpeg", "raw"] {
            let stills = Stills::of("hevc_vfr.mp4", &["--frames", "0,7", "--format", format]).ran.json();
            assert!(stills.iter().all(|line| keys(line) == with(&FRAME, "file")), "{stills:?}");
        }
        let missing = extract("hevc_vfr.mp4", &["--frames", "100", "--format", "framemd5", "--json"]).json();
        assert_eq!(keys(&missing[0]), with(&["index"], "error"));
        // A frame that is there but cannot be shown keeps what is known of it.
        let hidden = extract("hevc_open_gop_cut.265", &["--frames", "1", "--format", "framemd5", "--json"]).json();
        assert_eq!(keys(&hidden[0]), with(&FRAME[..4], "error"));
    }

    #[test]
    fn lines_say_when_and_what() {
        let pts = oracle_pts(&fixture("hevc.ts"));
        let keys: HashMap<Option<i64>, bool> = oracle_packets(&fixture("hevc.ts")).into_iter().collect();
        let lines = extract("hevc.ts", &["--all", "--format", "framemd5", "--json"]).json();
        assert_eq!(lines.len(), pts.len());
        for (line, pts) in lines.iter().zip(pts) {
            assert_eq!(line["pts"].as_i64(), pts);
            assert_eq!(line["key"].as_bool(), keys.get(&pts).copied());
            let seconds = (pts.expect("a time") - 133_200) as f64 / 90_000.0;
            assert!((line["time_s"].as_f64().expect("seconds") - seconds).abs() < 1e-9, "time 0 is the first frame");
            let shape = json!([320, 180, "yuv420p"]);
            assert_eq!(json!([line["width"], line["height"], line["format"]]), shape);
        }
    }

    #[test]
    fn all_keeps_the_numbers_of_frames_that_come_after_ones_left_out() {
        let ran = extract("hevc_open_gop_cut.265", &["--all", "--format", "framemd5", "--json"]);
        assert_eq!(numbers(&ran.json()), (3..99).map(Some).collect::<Vec<_>>());
        assert_eq!(ran.code(), 0, "nothing is wrong with them: a sequential decode does not show them");
        assert!(ran.stderr.contains("hevc_open_gop_cut.265: left out 3 of 99 frames"), "{}", ran.stderr);
        check_messages(&ran);
    }
}

mod selection {
    use super::*;

    /// The frames that come of a selection, with exit code 0.
    fn chosen(name: &str, arguments: &[&str]) -> Vec<u64> {
        let ran = extract(name, &[arguments, &["--format", "framemd5", "--json"]].concat());
        assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""), "{name} {arguments:?}");
        numbers(&ran.json()).into_iter().map(|number| number.expect("a number")).collect()
    }

    #[test]
    fn count_spreads_evenly() {
        for count in [1_u64, 2, 3, 7, 24, 25, 60] {
            let expected: Vec<u64> =
                (0..count).map(|i| ((i as f64 + 0.5) * 24.0 / count as f64).floor() as u64).collect();
            assert_eq!(chosen("hevc_rotated.mp4", &["--count", &count.to_string()]), expected, "{count}");
        }
    }

    #[test]
    fn keyframes_are_the_sync_samples() {
        for name in ["hevc_open_gop.mp4", "h264_bframes.mp4", "h264_open_gop.mkv", "hevc.ts", "vp9.webm", "av1.mp4"] {
            let mut packets = oracle_packets(&fixture(name));
            packets.sort();
            let sync: Vec<u64> = (0..).zip(&packets).filter(|(_, packet)| packet.1).map(|(number, _)| number).collect();
            assert!(sync.len() > 1, "{name}");
            assert_eq!(chosen(name, &["--keyframes"]), sync, "{name}");
        }
    }

    /// The last frame that has begun, by the times that `ffprobe` has.
    fn on_show(pts: &[i64], ticks: i64) -> u64 {
        pts.partition_point(|&pts| pts <= ticks).saturating_sub(1) as u64
    }

    #[test]
    fn every_takes_the_frame_on_show_at_each_step_up_to_the_end() {
        let pts: Vec<i64> = oracle_pts(&fixture("hevc_vfr.mp4")).into_iter().flatten().collect();
        for (step, ticks) in
            [("1s", 90_000), ("0.5", 45_000), ("700ms", 63_000), ("0:02", 180_000), ("1h", 324_000_000)]
        {
            let last = pts.last().expect("frames");
            let expected: Vec<u64> =
                (0..).map(|i| i * ticks).take_while(|at| at <= last).map(|at| on_show(&pts, at)).collect();
            assert_eq!(chosen("hevc_vfr.mp4", &["--every", step]), expected, "{step}");
        }
    }

    #[test]
    fn times_are_counted_from_the_first_frame_in_any_notation() {
        // 25 frames a second; the first is at 1.48 s of the stream, or after an empty edit.
        for name in ["hevc.ts", "h264_two_edits.mp4", "hevc_edit_list.mp4"] {
            assert_eq!(chosen(name, &["--times", "0"]), [0], "{name}");
            let asked = "1.5,0:02.25,0:00:01,1s,40ms,0.0399,0.039999999,0,0:0,1.5";
            assert_eq!(chosen(name, &["--times", asked]), [37, 56, 25, 25, 1, 0, 1, 0, 0, 37], "{name}");
        }
        let pts: Vec<i64> = oracle_pts(&fixture("hevc_vfr.mp4")).into_iter().flatten().collect();
        assert_eq!(
            chosen("hevc_vfr.mp4", &["--times", "1,2,4.3"]),
            [90_000, 180_000, 387_000].map(|at| on_show(&pts, at))
        );
    }

    #[test]
    fn a_time_past_the_end_is_an_error_or_the_last_frame_with_clamp() {
        let asked = ["--times", "0,5.76,99,1", "--format", "framemd5", "--json"];
        let ran = extract("hevc_closed_gop.mp4", &asked);
        let lines = ran.json();
        assert_eq!(ran.code(), 1);
        assert_eq!(numbers(&lines), [Some(0), None, None, Some(25)], "144 frames end at 5.76 s");
        assert!(lines[1]["error"].as_str().expect("why").contains("5.76 s is past the end"), "{lines:?}");
        check_messages(&ran);
        assert!(ran.stderr.lines().all(|line| line.contains("hevc_closed_gop.mp4: ")), "{}", ran.stderr);
        assert_eq!(chosen("hevc_closed_gop.mp4", &["--times", "0,5.76,99,1", "--clamp"]), [0, 143, 143, 25]);
    }

    #[test]
    fn all_is_every_frame_in_order() {
        assert_eq!(chosen("h264_bframes.mp4", &["--all"]), (0..150).collect::<Vec<_>>());
        assert_eq!(chosen("hevc_edit_list.mp4", &["--all"]), (0..74).collect::<Vec<_>>());
    }

    #[test]
    fn another_track_has_other_frames() {
        let size = |track: &str| {
            let ran = extract(
                "h264_avc3_4tracks.mp4",
                &["--frames", "5", "--json", "--format", "framemd5", "--track", track],
            );
            (ran.code(), ran.json().first().map(|line| json!([line["width"], line["height"]])))
        };
        assert_eq!(size("0"), (0, Some(json!([240, 136]))));
        assert_eq!(size("1"), (0, Some(json!([416, 240]))));
        assert_eq!(size("2"), (3, None));
    }
}

mod stills {
    use super::*;

    #[test]
    fn file_names_sort_in_the_order_of_frames() {
        let stills = Stills::of("h264_bframes.mp4", &["--frames", "100-102,9,10,0,99,9", "--width", "16"]);
        let files: Vec<String> =
            stills.ran.json().iter().map(|line| line["file"].as_str().expect("a file").into()).collect();
        let named = |at: usize| name(&PathBuf::from(&files[at]));
        assert_eq!(stills.names(), [5, 3, 4, 6, 0, 1, 2].map(named), "one file for a frame asked for twice");
        assert!(stills.names().iter().all(|name| name.ends_with(".jpg")));
        assert_eq!(stills.ran.code(), 0);
    }

    #[test]
    fn who_makes_them_does_not_matter() {
        for name in ["hevc_open_gop.mp4", "h264_open_gop.mkv", "hevc_two_descriptions.mp4"] {
            // Five GOPs on two threads are made where they are decoded, on four threads not.
            let made = |threads: &str| Stills::of(name, &["--keyframes", "--threads", threads, "--width", "64"]);
            let (spread, handed_on) = (made("2"), made("4"));
            assert!(spread.files().len() >= 4 && spread.files() == handed_on.files(), "{name}");
            assert_eq!(numbers(&spread.ran.json()), numbers(&handed_on.ran.json()), "{name}: order");
        }
    }

    #[test]
    fn a_raw_file_has_the_bytes_whose_md5_framemd5_prints() {
        for name in
            ["hevc_closed_gop.mp4", "hevc_12bit_422.mp4", "hevc_gray.mp4", "vp9_odd.webm", "h264_interlaced.mp4"]
        {
            let files = Stills::of(name, &["--frames", "7,40", "--format", "raw"]).files();
            let md5s: Vec<String> = files.iter().map(|bytes| md5_of(bytes)).collect();
            let printed = extract(name, &["--frames", "7,40", "--format", "framemd5"]);
            assert_eq!(md5s_of(printed.text()), md5s, "{name}");
        }
    }

    /// Size of a JPEG, and what its line says of it.
    fn size_of(name: &str, arguments: &[&str]) -> (usize, usize) {
        let stills = Stills::of(name, &[&["--frames", "20"], arguments].concat());
        let (lines, files) = (stills.ran.json(), stills.files());
        let image = turbojpeg::decompress_to_yuv(&files[0]).expect("a JPEG");
        let told = json!([lines[0]["width"], lines[0]["height"], lines[0]["format"]]);
        assert_eq!(told, json!([image.width, image.height, "jpeg"]), "{name} {arguments:?}");
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

    /// Planes as `--format raw` writes them.
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

        /// Y'CbCr of a pixel, from limited range to 0..1 and -0.5..0.5; chroma as it lies, not interpolated.
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

    /// JFIF's luma of a colour: by way of R'G'B', which the program never takes.
    fn jfif_luma([luma, cb, cr]: [f64; 3], (red, blue): Weights) -> f64 {
        let (r, b) = (luma + 2.0 * (1.0 - red) * cr, luma + 2.0 * (1.0 - blue) * cb);
        let g = (luma - red * r - blue * b) / (1.0 - red - blue);
        255.0 * (BT601.0 * r + (1.0 - BT601.0 - BT601.1) * g + BT601.1 * b).clamp(0.0, 1.0)
    }

    /// Mean distance of a JPEG's luma from that of the planes, were their matrix this one.
    fn distance(jpeg: &[u8], planes: &Planes, weights: Weights) -> f64 {
        let image = turbojpeg::decompress_to_yuv(jpeg).expect("a JPEG");
        assert_eq!((image.width, image.height), (planes.width, planes.height));
        let stride = image.width.next_multiple_of(image.align);
        let pixels = (0..image.height).flat_map(|y| (0..image.width).map(move |x| (x, y)));
        let each = pixels
            .map(|(x, y)| (f64::from(image.pixels[y * stride + x]) - jfif_luma(planes.ycbcr(x, y), weights)).abs());
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
            // HDR has the luma of its planes only where it is left as it is.
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
        let size =
            |quality: &str| Stills::of("hevc_gray.mp4", &["--frames", "9", "--quality", quality]).files()[0].len();
        assert!(size("20") < size("85") && size("85") < size("100"));
    }

    #[test]
    fn hdr_that_is_left_as_it_is_is_told_once() {
        let mapped = Stills::of("hevc_10bit.mp4", &["--frames", "1,2,3"]);
        assert_eq!((mapped.ran.code(), mapped.ran.stderr.as_str()), (0, ""));
        let left = Stills::of("hevc_10bit.mp4", &["--frames", "1,2,3", "--no-tonemap"]);
        assert!(mapped.files()[0] != left.files()[0]);
        let ran = left.ran;
        assert_eq!((ran.code(), ran.stderr.lines().count()), (0, 1), "{}", ran.stderr);
        assert!(ran.stderr.contains("hevc_10bit.mp4: HDR video"), "{}", ran.stderr);
        check_messages(&ran);
    }
}

mod info {
    use super::*;

    fn info(name: &str, more: &[&str]) -> Value {
        let ran = run_command(&[&["info", &clip(name), "--json"], more].concat());
        assert_eq!((ran.code(), ran.stderr.as_str(), ran.text().lines().count()), (0, "", 1), "{name}");
        ran.json().remove(0)
    }

    const FIELDS: &str = "version video container codec profile width height pixel_format bit_depth color rotation \
                          sample_aspect_ratio frames keyframes duration_s time_base start_pts average_frame_rate \
                          variable_frame_rate tracks size_bytes opened_with";

    fn fields(list: &str) -> BTreeSet<&str> {
        list.split_whitespace().collect()
    }

    #[test]
    fn has_the_fields_that_are_promised_and_no_others() {
        for name in ["hevc_closed_gop.mp4", "h264_avc3_4tracks.mp4", "vp9.ivf", "hevc_open_gop_cut.265", "hevc.mkv"] {
            let info = info(name, &[]);
            assert_eq!(keys(&info), fields(FIELDS), "{name}");
            assert_eq!(keys(&info["color"]), fields("primaries transfer matrix range assumed"), "{name}");
            assert_eq!(keys(&info["opened_with"]), fields("requests bytes"), "{name}");
            let size = fs::metadata(fixture(name)).expect("the fixture").len();
            assert_eq!(info["size_bytes"], size, "{name}");
            assert_eq!((&info["version"], &info["video"]), (&json!(1), &json!(clip(name))), "{name}");
        }
    }

    /// Checks some fields of `info --json`.
    fn check(name: &str, more: &[&str], expected: Value) {
        let info = info(name, more);
        for (field, value) in expected.as_object().expect("fields") {
            assert_eq!(&info[field], value, "{name}: {field}");
        }
    }

    #[test]
    fn says_what_each_shape_of_video_is() {
        check(
            "hevc_closed_gop.mp4",
            &[],
            json!({
                "container": "mp4", "codec": "hevc", "profile": "Main", "width": 320, "height": 180, "rotation": 0,
                "pixel_format": "yuv420p", "bit_depth": 8, "frames": 144, "keyframes": 3, "duration_s": 5.76,
                "color": {"primaries": "bt709", "transfer": "bt709", "matrix": "bt709", "range": "tv", "assumed": {}},
                "average_frame_rate": 25.0, "variable_frame_rate": false, "sample_aspect_ratio": "1:1",
            }),
        );
        check("hevc_rotated.mp4", &[], json!({"rotation": -90, "width": 320, "height": 180, "frames": 24}));
        check(
            "hevc_10bit.mp4",
            &[],
            json!({
                "profile": "Main 10", "pixel_format": "yuv420p10le", "bit_depth": 10,
                "color": {"primaries": "bt2020", "transfer": "arib-std-b67", "matrix": "bt2020nc", "range": "tv", "assumed": {}},
            }),
        );
        check("hevc_gray.mp4", &[], json!({"pixel_format": "gray", "bit_depth": 8}));
        let color = &info("vp9_odd.webm", &[])["color"];
        assert_eq!(
            (&color["matrix"], &color["assumed"]["matrix"]),
            (&json!("unknown"), &json!("smpte170m")),
            "{color}"
        );
        check(
            "hevc_vfr.mp4",
            &[],
            json!({
                "frames": 100, "variable_frame_rate": true, "time_base": "1/90000", "start_pts": 0,
            }),
        );
        // 96 coded pictures, 22 of them hidden, and with them the first key frame.
        check("hevc_edit_list.mp4", &[], json!({"frames": 74, "keyframes": 1, "duration_s": 2.96, "start_pts": 0}));
        check("h264_two_edits.mp4", &[], json!({"frames": 60, "start_pts": 10240, "duration_s": 2.4}));
        check("hevc.ts", &[], json!({"container": "mpegts", "start_pts": 133_200, "time_base": "1/90000"}));
        check("hevc.mkv", &[], json!({"container": "matroska", "frames": 120, "keyframes": 5, "time_base": "1/1000"}));
        check("vp9_odd.webm", &[], json!({"codec": "vp9", "width": 161, "height": 121, "frames": 48}));
        check("av1.ivf", &[], json!({"container": "ivf", "codec": "av1", "frames": 48, "keyframes": 2}));
        check("hevc_open_gop_cut.265", &[], json!({"container": "annexb", "frames": 99, "keyframes": 4}));
    }

    #[test]
    fn time_is_that_of_the_frames() {
        let pts: Vec<i64> = oracle_pts(&fixture("hevc_vfr.mp4")).into_iter().flatten().collect();
        let info = info("hevc_vfr.mp4", &[]);
        let (seconds, rate) =
            (info["duration_s"].as_f64().expect("s"), info["average_frame_rate"].as_f64().expect("fps"));
        let begins = (pts.last().expect("frames") - pts[0]) as f64 / 90_000.0;
        assert!(begins < seconds && seconds < begins + 0.15, "{seconds}: the last frame lasts from {begins} on");
        assert!((rate - 100.0 / seconds).abs() < 0.01, "{rate}");
    }

    #[test]
    fn lists_every_track_and_which_is_chosen() {
        let expected = |chosen: u64| {
            json!([
                {"stream": 0, "kind": "audio", "codec": "aac", "selected": false},
                {"stream": 1, "kind": "video", "codec": "h264", "width": 240, "height": 136, "track": 0, "selected": chosen == 0},
                {"stream": 2, "kind": "subtitle", "codec": "mov_text", "selected": false},
                {"stream": 3, "kind": "video", "codec": "h264", "width": 416, "height": 240, "track": 1, "selected": chosen == 1},
            ])
        };
        let first = json!({"tracks": expected(0), "width": 240, "height": 136, "frames": 48});
        check("h264_avc3_4tracks.mp4", &[], first.clone());
        check("h264_avc3_4tracks.mp4", &["--track", "0"], first);
        check("h264_avc3_4tracks.mp4", &["--track", "1"], json!({"tracks": expected(1), "width": 416, "height": 240}));
        let ran = run_command(&["info", &clip("h264_avc3_4tracks.mp4"), "--track", "2"]);
        assert_eq!((ran.code(), ran.text()), (3, ""));
        assert!(ran.stderr.contains("h264_avc3_4tracks.mp4: no video track 2: there are 2"), "{}", ran.stderr);
        check_messages(&ran);
    }

    #[test]
    fn without_json_it_is_a_table_of_the_same() {
        let ran = run_command(&["info", &clip("hevc_rotated.mp4")]);
        assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""));
        for part in ["hevc, Main", "320x180, yuv420p", "24, 1 of them key frames", "-90 degrees"] {
            assert!(ran.text().contains(part), "{part}: {}", ran.text());
        }
    }
}

mod program {
    use super::*;

    #[test]
    fn version_names_what_is_inside_with_licences() {
        let ran = run_command(&["--version"]);
        assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""));
        let text = ran.text().to_lowercase();
        assert!(text.starts_with(concat!("bucket-streamer ", env!("CARGO_PKG_VERSION"))), "{text}");
        for (part, licence) in [("ffmpeg", "lgpl-2.1"), ("dav1d", "bsd-2-clause"), ("libjpeg-turbo", "bsd-3-clause")] {
            let has = |line: &str| line.contains(part) && line.contains(licence) && line.contains(char::is_numeric);
            assert!(text.lines().any(has), "{part}: {text}");
        }
        assert!(!text.contains("--enable-gpl") && !text.contains("--enable-nonfree"), "{text}");
    }

    #[test]
    fn help_has_examples() {
        for arguments in [&["--help"][..], &["info", "--help"], &["extract", "--help"], &["help", "extract"]] {
            let ran = run_command(arguments);
            assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""), "{arguments:?}");
            let (_, examples) = ran.text().split_once("Examples:\n").unwrap_or_else(|| panic!("{arguments:?}"));
            assert!(examples.starts_with("  bucket-streamer "), "{arguments:?}: {examples}");
        }
    }

    #[test]
    fn codecs_are_linked_statically() {
        let Ok(output) = Command::new("ldd").arg(env!("CARGO_BIN_EXE_bucket-streamer")).output() else {
            eprintln!("there is no ldd: not checked");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout);
        for part in ["libav", "libsw", "libjpeg", "libturbojpeg", "dav1d", "libx26", "libvpx"] {
            assert!(!text.contains(part), "{text}");
        }
    }
}

mod damage {
    use super::*;
    use common::{damaged, flagged_and_sound};

    /// A clip with damage, and the numbers of the frames that are flagged.
    struct Damaged {
        folder: TempDir,
        clip: String,
        flagged: Vec<u64>,
    }

    impl Damaged {
        fn new() -> Damaged {
            let folder = tempfile::tempdir().expect("a folder");
            let clip = damaged(folder.path());
            let flagged = flagged_and_sound(&clip).0.into_iter().map(u64::from).collect();
            Damaged { clip: clip.to_string_lossy().into_owned(), folder, flagged }
        }

        fn extract(&self, arguments: &[&str]) -> Ran {
            run_command(&[&["extract", &self.clip, "--format", "framemd5", "--json"], arguments].concat())
        }

        /// The sheet of every frame.
        fn sheet(&self, arguments: &[&str]) -> Ran {
            let output = self.folder.path().join("sheet.jpg");
            let output = output.to_str().expect("text");
            let every = ["--count", "10000", "--columns", "20", "--width", "32"];
            run_command(&[&["sheet", &self.clip, "-o", output], &every[..], arguments].concat())
        }
    }

    /// Numbers of the lines with a field.
    fn having(lines: &[Value], field: &str) -> Vec<u64> {
        lines.iter().filter(|line| !line[field].is_null()).filter_map(|line| line["index"].as_u64()).collect()
    }

    #[test]
    fn damaged_frames_come_flagged_unless_the_command_line_says_otherwise() {
        let damaged = Damaged::new();
        for arguments in [&["--all"][..], &["--all", "--on-damage", "flag"], &["--frames", "0-149"]] {
            let ran = damaged.extract(arguments);
            assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""));
            assert_eq!(having(&ran.json(), "corrupt"), damaged.flagged, "{arguments:?}");
            assert_eq!(ran.json().len(), having(&ran.json(), "md5").len());
        }
    }

    #[test]
    fn all_leaves_damaged_frames_out_and_says_so() {
        let damaged = Damaged::new();
        let (flag, error) = (damaged.extract(&["--all"]), damaged.extract(&["--all", "--on-damage", "error"]));
        let is_sound = |line: &Value| line["corrupt"].is_null();
        let sound: Vec<Value> = flag.json().into_iter().filter(is_sound).collect();
        assert_eq!((error.code(), error.json()), (1, sound));
        let said = format!("left out {} of {} frames, which are damaged", damaged.flagged.len(), flag.json().len());
        assert!(error.stderr.lines().count() == 1 && error.stderr.contains(&said), "{}", error.stderr);
        check_messages(&error);
    }

    #[test]
    fn a_damaged_frame_that_is_asked_for_is_an_error_on_request() {
        let damaged = Damaged::new();
        let flag = damaged.extract(&["--frames", "0-149"]);
        let error = damaged.extract(&["--frames", "0-149", "--on-damage", "error"]);
        assert_eq!((error.code(), error.json().len()), (1, flag.json().len()));
        for (flag, error) in flag.json().iter().zip(error.json()) {
            if flag["corrupt"] == true {
                assert_eq!((&error["index"], &error["md5"]), (&flag["index"], &Value::Null));
                assert!(error["error"].as_str().is_some_and(|why| why.contains("the picture is damaged")), "{error}");
            } else {
                assert_eq!(*flag, error);
            }
        }
        assert_eq!(error.stderr.lines().count(), damaged.flagged.len(), "{}", error.stderr);
        check_messages(&error);
    }

    #[test]
    fn sheets_leave_damaged_pictures_out_on_request() {
        let damaged = Damaged::new();
        let sheet = damaged.sheet(&["--json", "--on-damage", "error"]);
        assert_eq!(sheet.code(), 1, "{}", sheet.stderr);
        let tiles = sheet.json()[0]["tiles"].as_array().expect("tiles").clone();
        assert_eq!((having(&tiles, "error"), having(&tiles, "corrupt")), (damaged.flagged, vec![]));
        assert!(sheet.stderr.contains("the picture is damaged"), "{}", sheet.stderr);
    }

    #[test]
    fn sheets_say_which_pictures_are_damaged() {
        let damaged = Damaged::new();
        let sheet = damaged.sheet(&["--json"]);
        assert_eq!(sheet.code(), 0, "{}", sheet.stderr);
        let tiles = sheet.json()[0]["tiles"].as_array().expect("tiles").clone();
        assert_eq!(having(&tiles, "corrupt"), damaged.flagged);
        let said = format!("damaged pictures in the sheet: {} of {}", damaged.flagged.len(), tiles.len());
        assert!(sheet.stderr.contains(&said), "{}", sheet.stderr);
        check_messages(&sheet);
        let undamaged = clip("hevc_gray.mp4");
        let output = damaged.folder.path().join("other.jpg");
        let ran = run_command(&["sheet", &undamaged, "-o", output.to_str().expect("text"), "--on-damage", "error"]);
        assert!(ran.code() == 0 && !ran.stderr.contains("damaged"), "{}", ran.stderr);
    }
}

mod exit_code {
    use super::*;

    #[test]
    fn is_0_when_everything_was_done_and_1_when_some_frames_failed() {
        let code = |frames: &str| Stills::of("hevc_gray.mp4", &["--frames", frames]).ran.code();
        assert_eq!([code("0-2"), code("0,48,2"), code("48")], [0, 1, 1]);
    }

    #[test]
    fn is_2_for_wrong_usage_told_in_one_line_before_the_video_is_looked_at() {
        for wrong in [
            "extract no-such-video",
            "extract --all",
            "extract no-such-video --all --frames 3",
            "extract no-such-video --times 1 --every 2s",
            "extract no-such-video --frames 1,x",
            "extract no-such-video --frames 1,,2",
            "extract no-such-video --frames 9-3",
            "extract no-such-video --frames 0-99999999",
            "extract no-such-video --frames=-1",
            "extract no-such-video --times 1:x",
            "extract no-such-video --times 1.2.3",
            "extract no-such-video --times=-1",
            "extract no-such-video --every 0",
            "extract no-such-video --every sometimes",
            "extract no-such-video --count 0",
            "extract no-such-video --count many",
            "extract no-such-video --all --json --output -",
            "extract no-such-video --all --format gif",
            "extract no-such-video --all --quality 0",
            "extract no-such-video --all --quality 101",
            "extract no-such-video --all --width 0",
            "extract no-such-video --all --height 70000",
            "extract no-such-video --all --fit squeeze",
            "extract no-such-video --all --threads 0",
            "extract no-such-video --all --no-such-option",
            "info",
            "extract no-such-video --all --on-damage ignore",
            "extract no-such-video --all --on-damage Error",
            "sheet no-such-video --output s.jpg --on-damage hide",
            "extract no-such-video --all --max-pixels 0",
            "info no-such-video --max-pixels 8192x",
            "index no-such-video --output i --max-pixels -1",
            "info no-such-video --track first",
            "no-such-command",
        ] {
            let ran = run_command(&wrong.split_whitespace().collect::<Vec<_>>());
            assert_eq!((ran.code(), ran.text()), (2, ""), "{wrong}: {}", ran.stderr);
            assert_eq!(ran.stderr.lines().count(), 1, "{wrong}: {}", ran.stderr);
            check_messages(&ran);
        }
    }

    #[test]
    fn is_2_with_help_on_standard_error_when_nothing_was_asked_for() {
        let ran = run_command(&[]);
        assert_eq!((ran.code(), ran.text()), (2, ""));
        assert!(ran.stderr.contains("Usage: bucket-streamer"), "{}", ran.stderr);
    }

    #[test]
    fn is_3_when_the_video_cannot_be_read() {
        for name in ["no-such-video.mp4", "empty.mp4", "not_video.txt", "audio_only.mp4"] {
            for ran in [
                run_command(&["info", &clip(name)]),
                run_command(&["info", &clip(name), "--json"]),
                Stills::of(name, &["--all"]).ran,
                extract(name, &["--frames", "0", "--format", "framemd5"]),
            ] {
                assert_eq!((ran.code(), ran.text()), (3, ""), "{name}: {}", ran.stderr);
                assert!(ran.stderr.lines().count() == 1 && ran.stderr.contains(&format!("{name}: ")), "{}", ran.stderr);
                check_messages(&ran);
            }
        }
    }

    #[test]
    fn is_3_when_pictures_have_more_pixels_than_are_allowed() {
        let (clip, folder) = (clip("hevc_gray.mp4"), tempfile::tempdir().expect("a folder"));
        let output = folder.path().join("output.jpg");
        let output = output.to_str().expect("text");
        for command in [
            &["info", &clip][..],
            &["extract", &clip, "--all", "--format", "framemd5"],
            &["extract", &clip, "--frames", "0", "--format", "framemd5"],
            &["sheet", &clip, "-o", output],
            &["index", &clip, "-o", output],
            &["bench", "random", &clip, "--count", "1"],
        ] {
            if !is_built_in(command) {
                continue;
            }
            let ran = run_command(&[command, &["--max-pixels", "1000"]].concat());
            assert_eq!((ran.code(), ran.text()), (3, ""), "{command:?}: {}", ran.stderr);
            assert!(ran.stderr.lines().count() == 1 && ran.stderr.contains("1000 pixels"), "{}", ran.stderr);
            check_messages(&ran);
        }
        assert_eq!(run_command(&["info", &clip, "--max-pixels", "640x360"]).code(), 0);
    }

    #[test]
    fn is_3_for_a_scheme_that_is_not_known() {
        let ran = run_command(&["info", "gopher://example/cam.mp4"]);
        assert_eq!((ran.code(), ran.text(), ran.stderr.lines().count()), (3, "", 1));
        assert!(ran.stderr.contains("gopher://example/cam.mp4: "), "{}", ran.stderr);
    }
}

mod streams {
    use super::*;

    #[test]
    fn a_summary_of_stills_is_a_message_not_a_result() {
        let folder = tempfile::tempdir().expect("a folder");
        let output = folder.path().to_str().expect("text");
        let ran = extract("hevc_gray.mp4", &["--frames", "0,1,1", "--output", output]);
        assert_eq!((ran.code(), ran.text()), (0, ""));
        assert!(ran.stderr.contains("3 stills in ") && ran.stderr.lines().count() == 1, "{}", ran.stderr);
        check_messages(&ran);
    }

    #[test]
    fn a_file_url_is_a_path() {
        let url = format!("file://{}", clip("hevc_gray.mp4"));
        let ran = run_command(&["extract", &url, "--frames", "0", "--format", "framemd5"]);
        assert_eq!((ran.code(), ran.text().lines().count()), (0, 1), "{}", ran.stderr);
    }

    /// Reads one line (or, of bytes, what ends at the first newline among them), then closes the pipe.
    fn first_of(arguments: &[&str]) -> (Vec<u8>, Ran) {
        let mut child =
            bucket_streamer(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("to start");
        let mut line = Vec::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_until(b'\n', &mut line).expect("a line");
        let output = child.wait_with_output().expect("an end");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (line, Ran { status: output.status, stdout: output.stdout, stderr })
    }

    #[test]
    fn standard_output_closed_early_ends_it_quietly() {
        let demo = clip("hevc_demo.mp4");
        for more in [
            &["--all", "--format", "framemd5"][..],
            &["--all", "--format", "framemd5", "--json"],
            &["--all", "--format", "raw", "--output", "-"],
            &["--all", "--output", "-"],
            &["--frames", "0-240", "--format", "raw", "--output", "-"],
        ] {
            let (line, ran) = first_of(&[&["extract", &demo], more].concat());
            assert!(!line.is_empty(), "{more:?}");
            // The last lines may have been written before the pipe was closed.
            assert!([0, 1].contains(&ran.code()), "{more:?}: {}", ran.status);
            assert_eq!(ran.stderr, "", "{more:?}");
        }
    }
}

mod index {
    use super::*;

    /// A folder with the index of a fixture in it, and the path of that.
    fn made(name: &str, more: &[&str]) -> (TempDir, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("clip.index").to_string_lossy().into_owned();
        let ran = run_command(&[&["index", &clip(name), "-o", &path], more].concat());
        assert_eq!((ran.code(), ran.text(), ran.stderr.as_str()), (0, "", ""));
        (folder, path)
    }

    #[test]
    fn info_and_extract_are_the_same_with_it() {
        for name in ["hevc.ts", "hevc.mkv", "hevc_rotated.mp4", "h264_truncated.mp4", "hevc_open_gop_cut.265"] {
            let (_folder, path) = made(name, &[]);
            let info = |more: &[&str]| run_command(&[&["info", &clip(name), "--json"], more].concat()).json().remove(0);
            let (mut without, mut with) = (info(&[]), info(&["--index", &path]));
            let opened = with["opened_with"].take();
            without["opened_with"].take();
            assert_eq!(without, with, "{name}");
            assert!(opened["requests"].as_u64() <= Some(2) && opened["bytes"].as_u64() <= Some(131_072), "{opened}");
            let wanted = ["--count", "5", "--format", "framemd5", "--json"];
            let (without, with) = (extract(name, &wanted), extract(name, &[&wanted[..], &["--index", &path]].concat()));
            assert_eq!((without.code(), without.text()), (with.code(), with.text()), "{name}");
        }
    }

    #[test]
    fn it_goes_to_standard_output_too_and_is_of_the_track_that_was_chosen() {
        let ran = run_command(&["index", &clip("h264_avc3_4tracks.mp4"), "-o", "-", "--track", "1"]);
        let (_folder, path) = made("h264_avc3_4tracks.mp4", &["--track", "1"]);
        assert_eq!((ran.code(), ran.stdout), (0, fs::read(&path).expect("the index")));
        let info = |more: &[&str]| {
            let clip = clip("h264_avc3_4tracks.mp4");
            let arguments = [&["info", &clip, "--json"], more].concat();
            run_command(&arguments).json().remove(0)["tracks"].take()
        };
        assert_eq!(info(&["--index", &path]), info(&["--track", "1"]));
    }

    /// Checks that `arguments` end with this exit code and one line on standard error, which has `why` in it.
    fn check_refused(arguments: &[&str], code: i32, why: &str) {
        let ran = run_command(arguments);
        assert_eq!((ran.code(), ran.text()), (code, ""), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.lines().count() == 1 && ran.stderr.contains(why), "{arguments:?}: {}", ran.stderr);
        check_messages(&ran);
    }

    #[test]
    fn what_cannot_be_used_is_refused_in_one_line() {
        let (folder, path) = made("hevc.ts", &[]);
        let (ts, mkv) = (clip("hevc.ts"), clip("hevc.mkv"));
        let extract = ["extract", &mkv, "--frames", "0", "--format", "framemd5", "--index", &path];
        check_refused(&extract, 3, "hevc.mkv has");
        check_refused(
            &["info", &mkv, "--index", &path],
            3,
            "clip.index: this index cannot be used: it is of a file of",
        );
        check_refused(&["info", &ts, "--index", &ts], 3, "it is no index file");
        check_refused(&["info", &ts, "--index", "/nowhere/clip.index"], 3, "/nowhere/clip.index: No such file");
        check_refused(&["info", &ts, "--index", &path, "--track", "0"], 2, "cannot be used with");
        check_refused(&["index", &clip("audio_only.mp4"), "-o", &path], 3, "no video track");
        check_refused(&["index", &ts, "-o", "/nowhere/clip.index"], 1, "/nowhere/clip.index");
        check_refused(&["index", &ts], 2, "--output <FILE>");
        let bytes = fs::read(&path).expect("the index");
        fs::write(&path, &bytes[..bytes.len() / 2]).expect("cut");
        check_refused(&["info", &ts, "--index", &path], 3, "damaged");
        let video = folder.path().join("cam.ts");
        fs::copy(&ts, &video).expect("a copy");
        let video = video.to_str().expect("text");
        check_refused(&["index", video, "-o", video], 2, "the video itself");
        assert_eq!(fs::read(video).expect("still there"), fs::read(&ts).expect("the fixture"));
    }
}
