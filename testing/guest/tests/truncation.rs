//! Files that are truncated while a program without the engine's signal handler has them open.

use std::fs::OpenOptions;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use bucket_streamer::source::FileSource;
use bucket_streamer::still::raw;
use bucket_streamer::{Engine, ErrorKind, process};
use testing::clips::{fixture, sequential};

#[test]
fn building_an_engine_and_opening_files_installs_no_handler_and_a_cut_file_is_an_error() {
    let before = handler();
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::builder().threads(2).build();
    assert!(!engine.is_pinned());
    // One file with tables, one that is scanned, one with scattered samples.
    for (number, clip) in ["hevc_demo.mp4", "hevc.mkv", "hevc.ts"].into_iter().enumerate() {
        let path = folder.path().join(clip);
        std::fs::copy(fixture(clip), &path).expect("a copy");
        assert!(!process::maps_files() && !FileSource::open(&path).expect("the copy").is_mapped());
        let expected = sequential(&path).expect("a clip").by_number();
        let video = engine.open_path(&path).expect("a clip");
        let frames = video.frame_count() as u32;
        let cut = OpenOptions::new().write(true).open(&path).expect("the copy");
        let (right, is_cut, is_over) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicBool::new(false));
        // Readers are active during the truncation.
        std::thread::scope(|scope| {
            for reader in 0..3 {
                let (video, expected, right, is_cut) = (&video, &expected, &right, &is_cut);
                let reader_end = ReaderEnd(&is_over);
                scope.spawn(move || {
                    let _reader_end = reader_end;
                    for round in 0..400_u32 {
                        let index = (round * 37 + reader * 11) % frames;
                        let was_cut = is_cut.load(Relaxed);
                        match video.frame(index) {
                            Ok(frame) => {
                                assert!(!was_cut, "{clip} frame {index} came of a file that was cut");
                                let sum = raw::hex(&raw::md5(&frame.picture));
                                assert_eq!(Some(&sum), expected.get(&index), "{clip} frame {index}");
                                right.fetch_add(1, Relaxed);
                            }
                            Err(error) => assert!(is_of_cut(&error), "{clip} frame {index}: {error}"),
                        }
                    }
                });
            }
            scope.spawn(|| {
                // Otherwise the readers have failed with a reason.
                while right.load(Relaxed) < 20 && !is_over.load(Relaxed) {
                    std::thread::yield_now();
                }
                cut.set_len(if number == 0 { 0 } else { 20_000 }).expect("cut");
                is_cut.store(true, Relaxed);
            });
        });
        let played = video.play(&mut |_| ControlFlow::Continue(()));
        assert!(is_of_cut(&played.expect_err("the file has changed")), "{clip}");
        let errors = video.frames(&[0, 1, 2, 3, frames - 1]).map(|(_, frame)| frame.expect_err("the file has changed"));
        errors.for_each(|error| assert!(is_of_cut(&error), "{clip}: {error}"));
    }
    assert_eq!(handler(), before, "a handler was installed");
    // The engine's handler would change the action.
    process::map_files().expect("a signal handler");
    assert_ne!(handler(), before);
}

/// The process's action for SIGBUS.
fn handler() -> libc::sighandler_t {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action it only writes the old one, for which there is room.
    unsafe {
        assert_eq!(libc::sigaction(libc::SIGBUS, std::ptr::null(), action.as_mut_ptr()), 0);
        action.assume_init().sa_sigaction
    }
}

fn is_of_cut(error: &bucket_streamer::Error) -> bool {
    matches!(error.kind(), ErrorKind::Changed | ErrorKind::PastEnd { .. })
}

/// Reports the end of a reader, successful or not.
struct ReaderEnd<'a>(&'a AtomicBool);

impl Drop for ReaderEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
