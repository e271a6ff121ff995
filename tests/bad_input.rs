//! Files that are no videos, truncated, damaged, or change during a read; folders that are not writable. There must be
//! no crash, no hang and no wrong frame, and one line with the reason.
//!
//! The reference for a damaged file is the output of the vendored `ffmpeg` with one thread, since its threads race over
//! damaged pictures. In H.265 even that varies: where a damaged slice leaves a part of a picture unwritten, the picture
//! keeps the former content of its memory. So of H.265 only the pictures that the damage does not affect are compared.
#![allow(clippy::print_stderr, reason = "tests report what they leave out")]

mod common;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use common::{ProgramRun, bucket_streamer, fixture, name, oracle_md5s, program, run_command};

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Checks for an orderly end: exit code 0, 1 or 3, and at most `most` messages of one line each.
fn check_end(ran: &ProgramRun, most: usize, what: &str) -> i32 {
    let code = ran.code();
    assert!([0, 1, 3].contains(&code), "{what}: exit code {code}: {}", ran.stderr);
    assert!(code == 0 || !ran.stderr.is_empty(), "{what}: exit code {code} without a word");
    assert!(ran.stderr.lines().count() <= most, "{what}: {}", ran.stderr);
    for line in ran.stderr.lines() {
        assert!(line.starts_with("bucket-streamer: ") && line.len() < 500, "{what}: {line}");
    }
    code
}

/// MD5s by frame number from JSON lines.
fn shown(lines: &[Value]) -> BTreeMap<u64, String> {
    let entry = |line: &Value| Some((line["index"].as_u64()?, line["md5"].as_str()?.to_owned()));
    lines.iter().filter_map(entry).collect()
}

mod no_video {
    use super::*;

    /// Checks that every command refuses a path with one line that names it.
    fn check_refused(path: &str, why: &str) {
        for arguments in [
            &["info", path][..],
            &["info", path, "--json"],
            &["extract", path, "--all", "--format", "framemd5"],
            &["extract", path, "--frames", "0,5-7", "--format", "framemd5", "--json"],
            &["extract", path, "--times", "1", "--output", "-"],
        ] {
            let ran = run_command(arguments);
            assert_eq!((check_end(&ran, 1, path), ran.text()), (3, ""), "{arguments:?}: {}", ran.stderr);
            let expected = format!("bucket-streamer: {path}: ");
            assert!(ran.stderr.starts_with(&expected) && ran.stderr.contains(why), "{arguments:?}: {}", ran.stderr);
        }
    }

    #[test]
    fn files_without_video_are_refused() {
        check_refused(text(&fixture("empty.mp4")), "the file is empty");
        check_refused(text(&fixture("not_video.txt")), "not a video that can be read");
        check_refused(text(&fixture("audio_only.mp4")), "no video track");
        check_refused(text(&fixture("boxes.py")), "not a video that can be read");
        check_refused(text(&fixture("no such file.mp4")), "No such file");
    }

    #[test]
    fn a_path_that_is_no_file_is_refused_without_waiting() {
        let folder = folder();
        check_refused(text(folder.path()), "a directory");
        check_refused("/dev/null", "not a regular file");
        let pipe = folder.path().join("pipe.mp4");
        if Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()) {
            check_refused(text(&pipe), "not a regular file");
        } else {
            eprintln!("there is no mkfifo: pipes are not tested");
        }
    }

    #[test]
    fn a_file_that_may_not_be_read_is_refused() {
        let folder = folder();
        let path = folder.path().join("secret.mp4");
        fs::copy(fixture("hevc_gray.mp4"), &path).expect("a copy");
        fs::set_permissions(&path, Permissions::from_mode(0o000)).expect("to set the mode");
        if File::open(&path).is_ok() {
            eprintln!("this user may read everything: not tested");
            return;
        }
        check_refused(text(&path), "ermission denied");
    }
}

/// An intact fixture.
struct FixtureClip {
    name: &'static str,
    bytes: Vec<u8>,
    md5s: HashSet<String>,
}

impl FixtureClip {
    fn of(name: &'static str) -> FixtureClip {
        let path = fixture(name);
        FixtureClip {
            name,
            bytes: fs::read(&path).expect("the fixture"),
            md5s: oracle_md5s(&path).into_iter().collect(),
        }
    }

    fn is_hevc(&self) -> bool {
        self.name.starts_with("hevc")
    }
}

/// A damaged copy of a clip.
struct DamagedCopy<'a> {
    clip: &'a FixtureClip,
    /// The kind of damage.
    what: String,
    folder: TempDir,
}

impl<'a> DamagedCopy<'a> {
    fn new(clip: &'a FixtureClip, what: impl std::fmt::Display, bytes: &[u8]) -> DamagedCopy<'a> {
        let copy = DamagedCopy { clip, what: format!("{} {what}", clip.name), folder: folder() };
        fs::write(copy.path(), bytes).expect("to write");
        copy
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(self.clip.name)
    }

    /// Runs `extract --format framemd5 --json`, and checks for an orderly end.
    fn extract(&self, arguments: &[&str], most: usize) -> (i32, Vec<Value>) {
        let path = self.path();
        let ran = run_command(&[&["extract", text(&path), "--format", "framemd5", "--json"], arguments].concat());
        let code = check_end(&ran, most, &self.what);
        let lines = ran.json();
        let is_answer = |line: &Value| line["md5"].is_string() != line["error"].is_string();
        assert!(lines.iter().all(is_answer), "{}: {lines:?}", self.what);
        assert!(lines.iter().all(|line| line["corrupt"].is_null() || line["corrupt"] == true), "{}", self.what);
        assert!(code != 3 || lines.is_empty(), "{}: unreadable, and yet {lines:?}", self.what);
        (code, lines)
    }

    /// The frames that the vendored `ffmpeg` shows.
    fn oracle(&self) -> Vec<String> {
        let mut command = Command::new(program("ffmpeg"));
        command.args(["-v", "quiet", "-noautorotate", "-threads", "1", "-i"]).arg(self.path());
        command.args(["-map", "0:v:0", "-fps_mode", "passthrough", "-noautoscale", "-f", "framemd5", "-"]);
        let ran = ProgramRun::run(&mut command);
        let lines = ran.text().lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.rsplit(", ").next()).map(str::to_owned).collect()
    }

    fn is_whole(&self, md5: &String) -> bool {
        self.clip.md5s.contains(md5)
    }

    /// Compares `--all` with the oracle.
    fn check_all(&self) {
        let (_, lines) = self.extract(&["--all", "--threads", "1"], 2);
        let ours: Vec<String> = shown(&lines).into_values().collect();
        let theirs = self.oracle();
        assert_eq!(ours.len(), theirs.len(), "{}: number of frames", self.what);
        for (frame, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            let is_undefined = self.clip.is_hevc() && !self.is_whole(ours) && !self.is_whole(theirs);
            assert!(ours == theirs || is_undefined, "{}: {frame}: {ours} is {theirs} for ffmpeg", self.what);
        }
    }

    /// Compares single frames with `--all`: frames that the damage did not affect are the same; frames missing there
    /// are an error here or, where only later damage affected them, still correct.
    fn check_singles(&self, numbers: &[u64]) {
        let (code, lines) = self.extract(&["--all"], 2);
        if code == 3 {
            return;
        }
        let all = shown(&lines);
        for &number in numbers {
            let (_, lines) = self.extract(&["--frames", &number.to_string()], 1);
            assert_eq!((lines.len(), lines[0]["index"].as_u64()), (1, Some(number)), "{}: {lines:?}", self.what);
            let single = lines[0]["md5"].as_str().map(str::to_owned);
            let is_right = match (all.get(&number), &single) {
                (Some(all), _) if self.is_whole(all) => single.as_ref() == Some(all),
                (Some(_), _) => true,
                (None, single) => single.as_ref().is_none_or(|md5| self.is_whole(md5)),
            };
            assert!(is_right, "{}: {number} by itself: {lines:?}; of all: {:?}", self.what, all.get(&number));
        }
    }

    /// Checks that `info` ends orderly.
    fn check_info(&self) {
        let ran = run_command(&["info", text(&self.path()), "--json"]);
        let code = check_end(&ran, 1, &self.what);
        assert_eq!(ran.json().len(), usize::from(code == 0), "{}", self.what);
    }
}

mod truncated {
    use super::*;

    /// Cuts in five parts of the file, and two near its beginning.
    fn check(name: &'static str) {
        let clip = FixtureClip::of(name);
        let mut random = fastrand::Rng::with_seed(clip.bytes.len() as u64);
        let part = clip.bytes.len() / 5;
        let places = (0..5).map(|at| at * part + random.usize(0..part));
        let places: Vec<usize> = [1, 60].into_iter().chain(places).collect();
        for at in places {
            let broken = DamagedCopy::new(&clip, format_args!("cut at {at}"), &clip.bytes[..at]);
            broken.check_all();
            broken.check_singles(&[0, random.u64(0..50), random.u64(0..100)]);
            broken.check_info();
        }
    }

    #[test]
    fn mp4_with_its_tables_in_front() {
        check("hevc_open_gop.mp4");
    }

    #[test]
    fn mp4_with_its_tables_at_the_end() {
        check("hevc_closed_gop.mp4");
    }

    #[test]
    fn fragmented_mp4() {
        check("hevc_fragmented.mp4");
        check("h264_hybrid_fragmented.mp4");
    }

    #[test]
    fn matroska() {
        check("hevc.mkv");
        check("vp9.webm");
    }

    #[test]
    fn transport_stream() {
        check("hevc.ts");
    }

    #[test]
    fn annex_b() {
        check("hevc_open_gop_cut.265");
    }

    #[test]
    fn ivf() {
        check("vp9.ivf");
        check("av1.ivf");
    }
}

mod flipped {
    use super::*;

    /// Eight copies with flipped bits: anywhere, and in the containers' tables.
    fn check(name: &'static str) {
        let clip = FixtureClip::of(name);
        let mut random = fastrand::Rng::with_seed(11);
        let length = clip.bytes.len();
        for round in 0..8 {
            let places = match round % 4 {
                0 | 1 => vec![random.usize(0..length)],
                2 => (0..6).map(|_| random.usize(0..length)).collect(),
                _ => vec![random.usize(0..2000), length - 1 - random.usize(0..2000)],
            };
            let mut bytes = clip.bytes.clone();
            places.iter().for_each(|&place| bytes[place] ^= 1 << random.u32(0..8));
            let broken = DamagedCopy::new(&clip, format_args!("round {round}, flipped at {places:?}"), &bytes);
            broken.check_all();
            broken.check_singles(&[random.u64(0..48), random.u64(0..96)]);
            broken.check_info();
        }
    }

    #[test]
    fn hevc_in_mp4() {
        check("hevc_open_gop.mp4");
        check("hevc_fragmented.mp4");
    }

    #[test]
    fn hevc_in_other_containers() {
        check("hevc.mkv");
        check("hevc.ts");
    }

    #[test]
    fn h264() {
        check("h264_bframes.mp4");
        check("h264_interlaced.mp4");
    }

    #[test]
    fn vp9() {
        check("vp9.webm");
    }

    #[test]
    fn av1() {
        check("av1.mp4");
    }
}

mod damaged {
    use super::*;

    fn frames_of(name: &str, arguments: &[&str]) -> (i32, BTreeMap<u64, String>, Vec<Value>) {
        let path = fixture(name);
        let ran = run_command(&[&["extract", text(&path), "--format", "framemd5", "--json"], arguments].concat());
        let lines = ran.json();
        (check_end(&ran, 200, name), shown(&lines), lines)
    }

    #[test]
    fn undamaged_frames_of_a_damaged_clip_still_come() {
        let right = oracle_md5s(&fixture("hevc_closed_gop.mp4"));
        for arguments in [&["--all"][..], &["--frames", "0-143"], &["--frames", "143,56,58,0,68,96"]] {
            let (_, frames, lines) = frames_of("hevc_damaged.mp4", arguments);
            for line in &lines {
                let number = line["index"].as_u64().expect("a number");
                let is_wrong = number == 57 || (69..=95).contains(&number);
                assert_eq!(frames.get(&number) == Some(&right[number as usize]), !is_wrong, "{arguments:?}: {number}");
            }
            assert!(lines.len() > 5);
        }
    }

    #[test]
    fn frames_before_the_end_of_a_broken_upload_still_come_and_the_others_are_errors() {
        let right = oracle_md5s(&fixture("h264_bframes.mp4"));
        let (code, all, _) = frames_of("h264_truncated.mp4", &["--all"]);
        assert_eq!(code, 1);
        assert!((0..=72).all(|number| all.get(&number) == Some(&right[number as usize])));
        let (code, asked, lines) = frames_of("h264_truncated.mp4", &["--frames", "149,72,0,120,30"]);
        assert_eq!((code, lines.len()), (1, 5));
        assert!([0, 30, 72].iter().all(|number| asked[number] == right[*number as usize]));
        for line in [&lines[0], &lines[3]] {
            assert!(line["error"].as_str().is_some_and(|why| why.contains("truncated")), "{line}");
        }
        assert_eq!(frames_of("h264_truncated.mp4", &["--frames", "0,72,5"]).0, 0, "nothing wrong with those");
    }

    #[test]
    fn a_damaged_picture_and_those_that_refer_to_it_are_marked_corrupt_and_no_other() {
        let clip = FixtureClip::of("h264_bframes.mp4");
        let mut bytes = clip.bytes.clone();
        // In the middle of a slice: the decoder detects the damage, and conceals the rest of the picture.
        bytes[40_327..40_340].fill(0x55);
        let (_, lines) =
            DamagedCopy::new(&clip, "overwritten at 40327", &bytes).extract(&["--all", "--threads", "1"], 2);
        let corrupt: Vec<&Value> = lines.iter().filter(|line| line["corrupt"] == true).collect();
        assert!(!corrupt.is_empty() && corrupt.len() < 20, "{corrupt:?}");
        let is_wrong = |line: &&Value| !clip.md5s.contains(line["md5"].as_str().expect("an md5"));
        assert_eq!(corrupt, lines.iter().filter(is_wrong).collect::<Vec<_>>());
    }
}

mod changing {
    use super::*;

    /// A clip with a long decode: a long one of the corpus, if there is one.
    fn long_clip() -> PathBuf {
        let corpus = std::env::var_os("BUCKET_STREAMER_CORPUS").map(PathBuf::from);
        let long = corpus.map(|corpus| corpus.join("hevc_bbb_1080p_opengop_10s.mp4"));
        long.filter(|path| path.exists()).unwrap_or_else(|| fixture("hevc_demo.mp4"))
    }

    /// Runs a command and changes its video after this many lines of output.
    fn meddle(arguments: &[&str], lines: usize, meddling: impl FnOnce()) -> ProgramRun {
        let mut command = bucket_streamer(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("to start");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut bytes = Vec::new();
        for _ in 0..lines {
            stdout.read_until(b'\n', &mut bytes).expect("a line");
        }
        meddling();
        stdout.read_to_end(&mut bytes).expect("the rest");
        let output = child.wait_with_output().expect("an end");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        ProgramRun { status: output.status, stdout: bytes, stderr }
    }

    /// Checks that every returned frame is correct, for any change of the file.
    fn check(selection: &[&str], meddling: impl Fn(&mut File, u64)) {
        let original = long_clip();
        let right = oracle_md5s(&original);
        for lines in [1, 20, 100] {
            let folder = folder();
            let path = folder.path().join(name(&original));
            // Written as a new file, because a copy of a read-only original would be read-only.
            fs::write(&path, fs::read(&original).expect("the clip")).expect("a copy");
            let arguments = [&["extract", text(&path), "--format", "framemd5", "--json"], selection].concat();
            let ran = meddle(&arguments, lines, || {
                let mut file = OpenOptions::new().write(true).open(&path).expect("the copy");
                let length = file.metadata().expect("its length").len();
                meddling(&mut file, length);
            });
            let code = check_end(&ran, right.len() + 1, "changed while it was read");
            assert!(code == 0 || (code == 1 && ran.stderr.contains("the file changed while it was being read")));
            let frames = shown(&ran.json());
            assert!(frames.len() >= lines, "what was let out before");
            assert!(code == 1 || frames.len() == right.len(), "{} frames, and no word", frames.len());
            for (number, md5) in frames {
                assert_eq!(md5, right[number as usize], "{selection:?}: frame {number}");
            }
        }
    }

    #[test]
    fn a_file_that_is_cut_while_it_is_read_ends_in_an_error_and_never_in_a_wrong_frame() {
        check(&["--all"], |file, _| file.set_len(0).expect("cut"));
        check(&["--all"], |file, length| file.set_len(length / 2).expect("cut"));
        check(&["--frames", "0-239"], |file, length| file.set_len(length / 3).expect("cut"));
    }

    #[test]
    fn a_file_that_is_overwritten_while_it_is_read_ends_in_an_error_and_never_in_a_wrong_frame() {
        check(&["--all"], |file, length| {
            file.seek(SeekFrom::Start(length / 10)).expect("to seek");
            file.write_all(&vec![0x5a; length as usize / 2]).expect("to write");
        });
    }
}

mod output {
    use super::*;

    /// Runs the command with a limit of a few thousand bytes for files, as on a full disk.
    fn with_little_room(arguments: &[&str]) -> ProgramRun {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$@\"", "sh"]);
        ProgramRun::run(command.arg(env!("CARGO_BIN_EXE_bucket-streamer")).args(arguments))
    }

    /// All entries of a folder, including hidden files.
    fn entries(folder: &Path) -> Vec<PathBuf> {
        fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path()).collect()
    }

    #[test]
    fn a_full_disk_is_reported_once_and_leaves_no_partial_file() {
        let demo = fixture("hevc_demo.mp4");
        for more in [
            &["--all", "--quality", "100"][..],
            &["--all", "--format", "raw"],
            &["--frames", "5,80-120,3", "--format", "raw"],
            &["--frames", "5,80-120,3", "--quality", "100", "--json"],
        ] {
            let folder = folder();
            let output = folder.path().join("stills");
            let ran = with_little_room(&[&["extract", text(&demo), "--output", text(&output)], more].concat());
            assert_eq!(check_end(&ran, 2, "a full disk"), 1, "{more:?}");
            let failures: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("too large")).collect();
            assert!(failures.len() == 1 && failures[0].contains(text(&output)), "{more:?}: {}", ran.stderr);
            assert_eq!(entries(&output), Vec::<PathBuf>::new(), "{more:?}");
        }
    }

    /// Stills that were written before the disk was full are complete. Their number depends on the quality and on the
    /// shell's unit of blocks.
    #[test]
    fn stills_written_before_the_disk_was_full_are_complete() {
        let clip = fixture("h264_bframes.mp4");
        let mut mixed = 0;
        for quality in ["70", "75", "80", "90", "95"] {
            let folder = folder();
            let output = ["--quality", quality, "--output", text(folder.path())];
            let ran = with_little_room(&[&["extract", text(&clip), "--all"][..], &output].concat());
            let files = entries(folder.path());
            mixed += usize::from(check_end(&ran, 2, "a nearly full disk") == 1 && !files.is_empty());
            for file in files {
                assert_eq!(file.extension().and_then(|extension| extension.to_str()), Some("jpg"), "{file:?}");
                let image = turbojpeg::decompress_to_yuv(&fs::read(&file).expect("the still")).expect("a whole JPEG");
                assert_eq!((image.width, image.height), (320, 180));
            }
        }
        assert!(mixed > 0, "some were written and some were not");
    }

    #[test]
    fn a_folder_that_cannot_be_created_is_one_line_that_names_it() {
        let folder = folder();
        let file = folder.path().join("a file");
        fs::write(&file, "something").expect("to write");
        for output in [file.clone(), file.join("below")] {
            let ran = run_command(&["extract", text(&fixture("hevc_gray.mp4")), "--all", "--output", text(&output)]);
            assert_eq!((check_end(&ran, 1, "no folder"), ran.text()), (1, ""));
            assert!(ran.stderr.starts_with(&format!("bucket-streamer: {}: ", output.display())), "{}", ran.stderr);
        }
        assert_eq!(fs::read(&file).expect("still there"), b"something");
    }

    #[test]
    fn a_full_standard_output_is_reported_once() {
        let clip = fixture("hevc_gray.mp4");
        for arguments in [
            &["info", text(&clip)][..],
            &["extract", text(&clip), "--all", "--format", "framemd5"],
            &["extract", text(&clip), "--frames", "0-40", "--format", "framemd5", "--json"],
            &["extract", text(&clip), "--all", "--output", "-"],
        ] {
            let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
                eprintln!("there is no /dev/full: not tested");
                return;
            };
            let output = bucket_streamer(arguments).stdout(full).output().expect("to start");
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            let ran = ProgramRun { status: output.status, stdout: output.stdout, stderr };
            assert_eq!(check_end(&ran, 1, "/dev/full"), 1, "{arguments:?}");
            assert!(ran.stderr.contains("standard output: No space left"), "{arguments:?}: {}", ran.stderr);
        }
    }
}

/// Hardening against memory errors in C, as linked.
#[test]
fn the_program_is_hardened() {
    let readelf = |options: &[&str]| {
        let mut command = Command::new("readelf");
        let output = command.args(options).arg("-W").arg(env!("CARGO_BIN_EXE_bucket-streamer")).output();
        String::from_utf8_lossy(&output.expect("readelf, of binutils").stdout).into_owned()
    };
    let (segments, dynamic, symbols) = (readelf(&["-l"]), readelf(&["-d"]), readelf(&["--dyn-syms"]));
    let stack = segments.lines().find(|line| line.contains("GNU_STACK")).expect("a stack segment");
    assert!(stack.contains(" RW ") && !stack.contains("RWE"), "the stack is executable: {stack}");
    assert!(segments.contains("GNU_RELRO"), "no RELRO");
    assert!(
        dynamic.contains("BIND_NOW") && dynamic.contains("PIE"),
        "not bound at start, or at a fixed place: {dynamic}"
    );
    for function in ["__stack_chk_fail", "__memcpy_chk"] {
        assert!(symbols.contains(function), "{function} is never called: C was compiled without protection");
    }
}
