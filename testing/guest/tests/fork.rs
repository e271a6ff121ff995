//! A child of a process in which the engine is at work: what was opened before the fork is refused there, never hangs, and can be
//! opened anew.

use std::future::Future;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use bucket_streamer::picture::{StillOptions, raw};
use bucket_streamer::process::Owner;
use bucket_streamer::source::remote::HttpClient;
use bucket_streamer::source::{ByteRange, FileSource, MemorySource};
use bucket_streamer::time::Nanos;
use bucket_streamer::{Catalog, Engine, Error, ErrorKind, Index, OpenOptions, Video, VideoFrame, process};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use testing::clips::{fixture, sequential};
use testing::range_server::Server;

/// What hangs is ended by a signal after so many seconds.
const HANGS: u32 = 120;

/// Runs `work` in a child of this process.
fn in_child(what: &str, work: impl FnOnce()) {
    // SAFETY: the child calls the engine, whose behaviour there is what is tested, and the allocator, which glibc keeps usable; and
    // it ends without running anything of its parent's.
    match unsafe { fork() }.expect("a child") {
        ForkResult::Child => {
            nix::unistd::alarm::set(HANGS);
            let done = catch_unwind(AssertUnwindSafe(work));
            // SAFETY: ends the process.
            unsafe { libc::_exit(i32::from(done.is_err())) }
        }
        ForkResult::Parent { child } => {
            let status = waitpid(child, None).expect("its status");
            assert!(matches!(status, WaitStatus::Exited(_, 0)), "{what}: {status:?}");
        }
    }
}

fn forked<T>(what: &str, result: Result<T, Error>) {
    match result {
        Ok(_) => panic!("{what}: not refused"),
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Forked), "{what}: {error}");
            assert!(error.to_string().contains("Engine::reopen, Video::reopen_in"), "{what}: {error}");
        }
    }
}

fn md5(frame: &VideoFrame) -> String {
    raw::hex(&raw::md5(&frame.picture))
}

fn poll<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_child_is_another_process_and_so_is_a_child_of_it() {
    let here = Owner::this();
    assert!(here.is_here() && here == Owner::this() && here.check().is_ok());
    in_child("the child", || {
        assert!(!here.is_here());
        forked("the check", here.check());
        let child = Owner::this();
        assert!(child != here && child.is_here());
        in_child("its child", || assert!(!here.is_here() && !child.is_here() && Owner::this().is_here()));
        assert!(child.is_here());
    });
    assert!(here.is_here());
}

/// Everything that a video is asked for.
fn is_refused(video: &Video) {
    forked("frame", video.frame(3));
    forked("frame_at", video.frame_at(Nanos(0), true));
    assert!(matches!(poll(video.frame_async(3)), Poll::Ready(Err(error)) if matches!(error.kind(), ErrorKind::Forked)));
    let refused: Vec<u32> = video
        .frames(&[9, 3, 3, 120])
        .map(|(index, frame)| {
            forked("frames", frame);
            index
        })
        .collect();
    assert_eq!(refused, [3, 9, 120], "each is told once");
    assert_eq!(video.frames_with(&[1, 2], |_, frame| frame.is_err()).collect::<Vec<_>>(), [(1, true), (2, true)]);
    assert!(video.keyframes().all(|(_, frame)| frame.is_err()));
    let stills = video.stills_with(&[5], &StillOptions::default(), |_, frame| frame.is_err());
    assert_eq!(stills.collect::<Vec<_>>(), [(5, true)]);
    assert!(video.frames_on_device(&[5]).all(|(_, frame)| frame.is_err()));
    let in_order: Vec<_> = video.frames_in_order(vec![7, 2, 7]).collect();
    assert_eq!(in_order.len(), 3);
    in_order.into_iter().for_each(|frame| forked("frames_in_order", frame));
    forked("play", video.play(&mut |_| ControlFlow::Continue(())));
    let mut sequence = video.sequence();
    forked("sequence", sequence.next().expect("an error"));
    assert!(sequence.next().is_none());
    forked("describe", video.describe());
    forked("export_index", video.export_index());
    forked("export_index_without_references", video.export_index_without_references());
    forked("sample_bytes", video.sample_bytes(0));
    forked("read", video.source().read(ByteRange { start: 0, len: 10 }));
    forked("check", video.source().check());
    assert!(video.plan(&[3]).is_empty() && video.cost_s(&[3]) == 0.0 && video.index_bytes() > 0);
    assert!(video.frame_count() > 0 && video.id() < u64::MAX && !video.downgrade().is_closed());
}

#[test]
fn what_was_opened_before_a_fork_is_refused_and_can_be_opened_anew() {
    // Children of some of the forks find files mapped, those of others read.
    let clips = ["hevc_demo.mp4", "hevc.ts", "h264_bframes.mp4", "av1.mp4", "hevc.mkv"];
    let expected: Vec<_> = clips.map(|clip| sequential(&fixture(clip)).expect("a clip").by_number()).into();
    let server = Server::start();
    let address = server.put("clip.mp4", std::fs::read(fixture(clips[0])).expect("the clip"), "\"1\"");
    let engine = Engine::builder().threads(3).checkpoint_memory(32 << 20).build();
    let mut videos: Vec<Video> = clips.iter().map(|clip| engine.open_path(fixture(clip)).expect("a clip")).collect();
    let client = HttpClient::shared().expect("a client");
    videos.push(engine.open(Arc::new(client.open(&address).expect("a source")), 0).expect("a clip"));
    let bytes = std::fs::read(fixture(clips[0])).expect("the clip");
    videos.push(engine.open(Arc::new(MemorySource::new("memory", bytes)), 0).expect("a clip"));
    let place = fixture(clips[0]);
    let file = std::fs::File::open(&place).expect("the clip");
    let file = FileSource::from_file("from a file", file, place).expect("the clip");
    videos.push(engine.open(Arc::new(file), 0).expect("a clip"));
    let expected = |number: usize| &expected[if number < clips.len() { number } else { 0 }];
    let catalog = Catalog::new(&engine);
    let path = fixture(clips[0]).to_string_lossy().into_owned();
    catalog.open(&path, 0).expect("a clip");
    let index: Index = videos[0].export_index().expect("an index");

    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Locks are held, and frames on their way, whenever a child is made.
        for caller in 0..3_usize {
            let (videos, is_over) = (&videos, &is_over);
            scope.spawn(move || {
                let mut round = caller;
                while !is_over.load(Relaxed) {
                    round += 1;
                    let video = &videos[round % videos.len()];
                    let frames: Vec<u32> =
                        (0..12).map(|n| (round as u32 * 31 + n * 17) % video.frame_count() as u32).collect();
                    video.frames(&frames).take(round % 12 + 1).for_each(|(_, frame)| _ = frame.expect("a frame"));
                }
            });
        }
        for round in 0..12 {
            if round == 6 {
                process::map_files().expect("a signal handler");
            }
            let (clip, again) = (round % videos.len(), (round + 1) % videos.len());
            let video = &videos[clip];
            let mut begun = video.frames(&[2, 40, 9, 20]);
            let frame = begun.next().expect("a frame").1.expect("a frame");
            let mut in_order = video.frames_in_order((0..30).collect());
            in_order.next().expect("a frame").expect("a frame");
            let mut sequence = video.sequence();
            sequence.next().expect("a frame").expect("a frame");
            let sum = md5(&frame);
            let future = video.frame_async(11);
            let weak = video.downgrade();
            let mut held = Some((begun, in_order, sequence));
            let what = format!("round {round}, {}", video.source().name());
            in_child(&what, || {
                let (mut begun, mut in_order, mut sequence) = held.take().expect("they are held");
                is_refused(video);
                // What had begun.
                forked("frames", begun.next().expect("an error").1);
                assert!(begun.next().is_none());
                for frame in in_order.by_ref() {
                    // Those that had come before the fork are here.
                    if let Err(error) = frame {
                        assert!(matches!(error.kind(), ErrorKind::Forked), "{error}");
                    }
                }
                forked("sequence", sequence.next().expect("an error"));
                assert!(matches!(poll(future), Poll::Ready(Err(error)) if matches!(error.kind(), ErrorKind::Forked)));
                assert_eq!(md5(&frame), sum, "a frame that was there stays");
                // What the engine is asked for.
                forked("open_path", engine.open_path(fixture(clips[0])));
                let source = || Arc::new(MemorySource::new("memory", vec![0; 10]));
                forked("open", engine.open(source(), 0));
                forked("open_with_index", engine.open_with_index(source(), &index));
                forked("open_with_verified_index", engine.open_with_verified_index(source(), &index));
                forked("OpenOptions", OpenOptions::new().open(&engine, &path));
                forked("Catalog", catalog.open(&path, 0));
                assert!(catalog.get(&path, 0).is_none() && catalog.count() == 0);
                assert!(
                    engine.checkpoints().checkpoints == 0 && !engine.is_pinned() && engine.device_notes().is_empty()
                );
                forked("reopen_in the same engine", video.reopen_in(&engine));
                drop((begun, in_order, sequence, frame, weak.upgrade(), video.clone(), engine.clone()));

                // Anew.
                let engine = engine.reopen();
                assert_eq!((engine.threads(), engine.checkpoint_memory()), (3, 32 << 20));
                for number in [clip, again] {
                    let (old, expected) = (&videos[number], expected(number));
                    let video = old.reopen_in(&engine).expect("the same video");
                    assert_eq!(video.frame_count(), old.frame_count());
                    let most = if old.source().is_remote() { 65_536 } else { 0 };
                    assert!(
                        video.opened_with().bytes <= most,
                        "{:?}: the index is not read again",
                        video.opened_with()
                    );
                    let mut all: Vec<u32> = (0..video.frame_count() as u32).step_by(13).collect();
                    all.push(3);
                    for (index, frame) in video.frames(&all) {
                        assert_eq!(
                            frame.ok().as_ref().map(md5).as_ref(),
                            expected.get(&index),
                            "{} {index}",
                            old.source().name()
                        );
                    }
                    assert_eq!(video.frame(5).ok().as_ref().map(md5).as_ref(), expected.get(&5));
                    video.describe().expect("a picture");
                }
                let anew = OpenOptions::new().open(&engine, &address).expect("a source of this process");
                anew.frame(7).expect("a frame");
                Catalog::new(&engine).open(&path, 0).expect("a clip").frame(7).expect("a frame");
            });
            // Here nothing has changed.
            let (begun, mut in_order, mut sequence) = held.expect("they are held");
            assert_eq!(begun.filter(|(_, frame)| frame.is_ok()).count(), 3, "{what}");
            assert!(sequence.next().expect("a frame").is_ok() && in_order.all(|frame| frame.is_ok()), "{what}");
        }
        is_over.store(true, Relaxed);
    });
}

#[test]
fn a_file_that_has_changed_is_not_opened_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("clip.mp4");
    std::fs::copy(fixture("hevc_demo.mp4"), &path).expect("a copy");
    let engine = Engine::builder().threads(1).build();
    let video = engine.open_path(&path).expect("a clip");
    std::fs::copy(fixture("h264_bframes.mp4"), &path).expect("another");
    in_child("a changed file", || {
        let error = video.reopen_in(&engine.reopen()).expect_err("another file");
        assert!(matches!(error.kind(), ErrorKind::Changed), "{error}");
    });
}
