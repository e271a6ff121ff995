//! The program itself: help, version, names of commands.

use super::*;

#[test]
fn version_names_the_linked_libraries_with_licences() {
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
