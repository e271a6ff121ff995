//! Damaged files: results, messages, and the exit code.

use super::*;
use common::{damaged, flagged_and_sound};

/// A clip with damage, and the numbers of the flagged frames.
struct DamagedFixture {
    folder: TempDir,
    clip: String,
    flagged: Vec<u64>,
}

impl DamagedFixture {
    fn new() -> DamagedFixture {
        let folder = tempfile::tempdir().expect("a folder");
        let clip = damaged(folder.path());
        let flagged = flagged_and_sound(&clip).0.into_iter().map(u64::from).collect();
        DamagedFixture { clip: clip.to_string_lossy().into_owned(), folder, flagged }
    }

    fn extract(&self, arguments: &[&str]) -> ProgramRun {
        run_command(&[&["extract", &self.clip, "--format", "framemd5", "--json"], arguments].concat())
    }

    /// A sheet of every frame.
    fn sheet(&self, arguments: &[&str]) -> ProgramRun {
        let output = self.folder.path().join("sheet.jpg");
        let output = output.to_str().expect("text");
        let every = ["--count", "10000", "--columns", "20", "--width", "32"];
        run_command(&[&["sheet", &self.clip, "-o", output], &every[..], arguments].concat())
    }
}

/// Numbers of the lines with this field.
fn having(lines: &[Value], field: &str) -> Vec<u64> {
    lines.iter().filter(|line| !line[field].is_null()).filter_map(|line| line["index"].as_u64()).collect()
}

#[test]
fn damaged_frames_are_flagged_by_default() {
    let damaged = DamagedFixture::new();
    for arguments in [&["--all"][..], &["--all", "--on-damage", "flag"], &["--frames", "0-149"]] {
        let ran = damaged.extract(arguments);
        assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""));
        assert_eq!(having(&ran.json(), "corrupt"), damaged.flagged, "{arguments:?}");
        assert_eq!(ran.json().len(), having(&ran.json(), "md5").len());
    }
}

#[test]
fn all_with_on_damage_error_omits_and_reports_damaged_frames() {
    let damaged = DamagedFixture::new();
    let (flag, error) = (damaged.extract(&["--all"]), damaged.extract(&["--all", "--on-damage", "error"]));
    let is_sound = |line: &Value| line["corrupt"].is_null();
    let sound: Vec<Value> = flag.json().into_iter().filter(is_sound).collect();
    assert_eq!((error.code(), error.json()), (1, sound));
    let said = format!("left out {} of {} frames, which are damaged", damaged.flagged.len(), flag.json().len());
    assert!(error.stderr.lines().count() == 1 && error.stderr.contains(&said), "{}", error.stderr);
    check_messages(&error);
}

#[test]
fn a_damaged_frame_is_an_error_with_on_damage_error() {
    let damaged = DamagedFixture::new();
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
fn sheets_with_on_damage_error_omit_damaged_pictures() {
    let damaged = DamagedFixture::new();
    let sheet = damaged.sheet(&["--json", "--on-damage", "error"]);
    assert_eq!(sheet.code(), 1, "{}", sheet.stderr);
    let tiles = sheet.json()[0]["tiles"].as_array().expect("tiles").clone();
    assert_eq!((having(&tiles, "error"), having(&tiles, "corrupt")), (damaged.flagged, vec![]));
    assert!(sheet.stderr.contains("the picture is damaged"), "{}", sheet.stderr);
}

#[test]
fn sheets_report_damaged_pictures() {
    let damaged = DamagedFixture::new();
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
