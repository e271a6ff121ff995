//! The exported symbols of the engine as a shared library, and which FFmpeg it calls if there are two.
#![allow(clippy::print_stderr, reason = "tests report what they leave out")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::process::Command;

use bucket_streamer::still::raw;
use testing::clips::{fixture, sequential};

/// The path of this package's `cdylib`, which Cargo builds beside its tests.
fn library() -> PathBuf {
    let tests = std::env::current_exe().expect("this program");
    let library = tests.with_file_name("libguest.so");
    assert!(library.is_file(), "{} is not built", library.display());
    library
}

#[test]
fn a_shared_library_exports_its_own_functions_and_nothing_of_the_engine() {
    let symbols = output_of(Command::new("nm").args(["-D", "--defined-only", "--format=just-symbols"]).arg(library()));
    // A Rust dependency of `object_store` exports its own functions from every library that contains it.
    let symbols: Vec<&str> = symbols.lines().filter(|name| !name.starts_with("crc_fast_")).collect();
    assert_eq!(symbols, ["guest_frame"]);
}

#[test]
fn a_shared_library_needs_no_room_in_the_static_block_of_threads() {
    let dynamic = output_of(Command::new("readelf").args(["-dW"]).arg(library()));
    assert!(dynamic.contains("SONAME") || dynamic.contains("NEEDED"), "{dynamic}");
    assert!(!dynamic.contains("STATIC_TLS"), "{dynamic}");
}

fn output_of(command: &mut Command) -> String {
    let output = command.output().expect("binutils, which the build needs too");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The libraries behind Debian's `libavformat` and `libavcodec`, of which the engine has copies too.
const OTHERS: [&str; 9] = [
    "libavutil.so",
    "libswresample.so",
    "libdav1d.so",
    "libwebp.so",
    "libsharpyuv.so",
    "libjpeg.so",
    "libturbojpeg.so",
    "libavcodec.so",
    "libavformat.so",
];

/// The file of that library, with its version, if it is installed.
fn installed_library(name: &str) -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let entries = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let has_name = |path: &PathBuf| {
        let name = path.file_name().and_then(|file| file.to_str()?.strip_prefix(name)).unwrap_or_default();
        name.starts_with('.') && !name[1..].contains('.')
    };
    entries.map(|entry| entry.path()).find(has_name)
}

fn load(path: &CStr, flags: c_int) -> *mut c_void {
    // SAFETY: a C string; loading runs only the libraries' constructors.
    let handle = unsafe { libc::dlopen(path.as_ptr(), flags) };
    // SAFETY: called only after a failure, when it returns such a string.
    assert!(!handle.is_null(), "{}", unsafe { CStr::from_ptr(libc::dlerror()) }.to_string_lossy());
    handle
}

fn c_path(path: &std::path::Path) -> CString {
    CString::new(path.to_str().expect("a path in UTF-8")).expect("no NUL")
}

#[test]
fn beside_another_ffmpeg_the_engine_calls_its_own() {
    for name in OTHERS {
        match installed_library(name) {
            // As in a program linked with them: their symbols precede those of libraries that are loaded later.
            Some(path) => _ = load(&c_path(&path), libc::RTLD_NOW | libc::RTLD_GLOBAL),
            None => {
                eprintln!("NOT TESTED beside {name}: this machine has none (Debian 12: libavformat59, libturbojpeg0)")
            }
        }
    }
    // SAFETY: looks a name up.
    let theirs = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"avcodec_version".as_ptr()) };
    if theirs.is_null() {
        eprintln!("NOT TESTED: no libavcodec on this machine");
        return;
    }
    // SAFETY: the function's type in every version of FFmpeg.
    let theirs = unsafe { std::mem::transmute::<*mut c_void, extern "C" fn() -> u32>(theirs) }();
    eprintln!("beside libavcodec {}.{}", theirs >> 16, theirs >> 8 & 0xff);

    let guest = load(&c_path(&library()), libc::RTLD_NOW | libc::RTLD_GLOBAL);
    // SAFETY: looks a name up.
    let frame = unsafe { libc::dlsym(guest, c"guest_frame".as_ptr()) };
    assert!(!frame.is_null());
    type Frame = unsafe extern "C" fn(*const c_char, u32, *mut [u8; 16]) -> c_int;
    // SAFETY: the function's type.
    let frame = unsafe { std::mem::transmute::<*mut c_void, Frame>(frame) };
    for (clip, index) in [("hevc_demo.mp4", 120), ("h264_bframes.mp4", 77), ("av1.mp4", 30), ("vp9.webm", 20)] {
        let clip = fixture(clip);
        let (path, mut md5) = (c_path(&clip), [0; 16]);
        // SAFETY: meets the function's conditions.
        assert_eq!(unsafe { frame(path.as_ptr(), index, &mut md5) }, 0, "{}", clip.display());
        let expected = sequential(&clip).expect("a clip").by_number();
        assert_eq!(Some(&raw::hex(&md5)), expected.get(&index), "{}", clip.display());
    }
}
