//! A program with its own SIGBUS handler that also calls `map_files`.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bucket_streamer::source::FileSource;
use bucket_streamer::{Engine, ErrorKind, process};
use testing::clips::fixture;

/// Faults that reached the program's own handler.
static FAULTS: AtomicUsize = AtomicUsize::new(0);
const PAGE: usize = 4096;
const LEN: usize = 8 * PAGE;

/// Maps a page over the missing one, so that the program continues.
extern "C" fn own_handler(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    FAULTS.fetch_add(1, SeqCst);
    // SAFETY: the kernel's information is valid while the handler runs. The page belongs to this test's map, and its
    // last use was the fault.
    unsafe {
        let page = ((*info).si_addr() as usize & !(PAGE - 1)) as *mut libc::c_void;
        let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        libc::mmap(page, PAGE, libc::PROT_READ, flags, -1, 0);
    }
}

fn install_own_handler() {
    // SAFETY: a handler of the type that SA_SIGINFO says; all zeros is an empty mask.
    unsafe {
        let mut action = std::mem::zeroed::<libc::sigaction>();
        action.sa_sigaction = own_handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()), 0);
    }
}

fn cut(path: &Path) {
    OpenOptions::new().write(true).open(path).expect("the file").set_len(PAGE as u64).expect("cut");
}

#[test]
fn faults_outside_of_the_engines_maps_reach_the_handler_that_was_there_before() {
    install_own_handler();
    process::map_files().expect("a signal handler");
    let folder = tempfile::tempdir().expect("a folder");

    let clip = folder.path().join("clip.mp4");
    std::fs::copy(fixture("hevc_demo.mp4"), &clip).expect("a copy");
    assert!(FileSource::open(&clip).expect("the copy").is_mapped());
    let video = Engine::builder().threads(1).build().open_path(&clip).expect("a clip");
    video.frame(3).expect("a frame");
    cut(&clip);
    assert!(matches!(video.frame(200).expect_err("it was cut").kind(), ErrorKind::Changed));
    assert_eq!(FAULTS.load(SeqCst), 0, "the engine's own faults are the engine's");

    let other = folder.path().join("other");
    std::fs::write(&other, [7; LEN]).expect("to write");
    let file = File::open(&other).expect("the file");
    // SAFETY: a private map of an open file, of the requested length.
    let map = unsafe { libc::mmap(std::ptr::null_mut(), LEN, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    assert_ne!(map, libc::MAP_FAILED);
    cut(&other);
    // SAFETY: within the map; the handler above maps a page there.
    let (first, beyond) = unsafe {
        let bytes = map.cast::<u8>();
        (bytes.read_volatile(), bytes.add(LEN - 1).read_volatile())
    };
    assert_eq!((first, beyond), (7, 0));
    assert_eq!(FAULTS.load(SeqCst), 1, "a fault of the program's own map is the program's");
}
