//! Children of a process with a busy engine: objects from before the fork refuse in the child, never hang, and can be
//! opened again.

use std::collections::HashMap;
use std::future::Future;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use bucket_streamer::process::Owner;
use bucket_streamer::source::remote::HttpClient;
use bucket_streamer::source::{ByteRange, FileSource, MemorySource, Source};
use bucket_streamer::still::{StillOptions, raw};
use bucket_streamer::time::Nanos;
use bucket_streamer::{
    Catalog, Engine, Error, ErrorKind, FrameFuture, Frames, Index, OpenOptions, OrderedFrames, Sequence, Video,
    VideoFrame, WeakVideo, process,
};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use testing::clips::{fixture, sequential};
use testing::range_server::RangeServer;

/// Seconds after which a signal ends a hanging child.
const HANGS: u32 = 60;

/// Runs `work` in a child of this process.
fn in_child(what: &str, work: impl FnOnce()) {
    // SAFETY: the child calls the engine, whose behaviour there is under test, and the allocator, which glibc keeps
    // usable; it ends without running its parent's code.
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

fn expect_forked<T>(what: &str, result: Result<T, Error>) {
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
    let here = Owner::current();
    assert!(here.is_current() && here == Owner::current() && here.check().is_ok());
    in_child("the child", || {
        assert!(!here.is_current());
        expect_forked("the check", here.check());
        let child = Owner::current();
        assert!(child != here && child.is_current());
        in_child("its child", || assert!(!here.is_current() && !child.is_current() && Owner::current().is_current()));
        assert!(child.is_current());
    });
    assert!(here.is_current());
}

/// All requests of a video.
fn check_refused(video: &Video) {
    expect_forked("frame", video.frame(3));
    expect_forked("frame_at", video.frame_at(Nanos(0), true));
    assert!(matches!(poll(video.frame_async(3)), Poll::Ready(Err(error)) if matches!(error.kind(), ErrorKind::Forked)));
    let refused: Vec<u32> = video
        .frames(&[9, 3, 3, 120])
        .map(|(index, frame)| {
            expect_forked("frames", frame);
            index
        })
        .collect();
    assert_eq!(refused, [3, 9, 120], "each is reported once");
    assert_eq!(video.frames_with(&[1, 2], |_, frame| frame.is_err()).collect::<Vec<_>>(), [(1, true), (2, true)]);
    assert!(video.keyframes().all(|(_, frame)| frame.is_err()));
    let stills = video.stills_with(&[5], &StillOptions::default(), |_, frame| frame.is_err());
    assert_eq!(stills.collect::<Vec<_>>(), [(5, true)]);
    assert!(video.frames_on_device(&[5]).all(|(_, frame)| frame.is_err()));
    let in_order: Vec<_> = video.frames_in_order(vec![7, 2, 7]).collect();
    assert_eq!(in_order.len(), 3);
    in_order.into_iter().for_each(|frame| expect_forked("frames_in_order", frame));
    expect_forked("play", video.play(&mut |_| ControlFlow::Continue(())));
    let mut sequence = video.sequence();
    expect_forked("sequence", sequence.next().expect("an error"));
    assert!(sequence.next().is_none());
    expect_forked("describe", video.describe());
    expect_forked("export_index", video.export_index());
    expect_forked("export_index_without_references", video.export_index_without_references());
    expect_forked("sample_bytes", video.sample_bytes(0));
    // Bytes in memory are also in the child's memory.
    if video.source().name() != "memory" {
        expect_forked("read", video.source().read(ByteRange { start: 0, len: 10 }));
        expect_forked("check", video.source().check());
    }
    assert!(video.plan(&[3]).is_empty() && video.cost_s(&[3]) == 0.0 && video.index_bytes() > 0);
    assert!(video.frame_count() > 0 && video.id() < u64::MAX && !video.downgrade().is_closed());
}

/// Ends the callers on drop.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

const CLIPS: [&str; 5] = ["hevc_demo.mp4", "hevc.ts", "h264_bframes.mp4", "av1.mp4", "hevc.mkv"];

/// The objects opened before the fork.
struct Parent {
    engine: Engine,
    /// `CLIPS`, then the first of them over a network, in memory, and from an open file.
    videos: Vec<Video>,
    /// MD5s of the frames of `CLIPS`.
    expected: Vec<HashMap<u32, String>>,
    catalog: Catalog,
    index: Index,
    path: String,
    address: String,
    _server: RangeServer,
}

impl Parent {
    fn open() -> Parent {
        let server = RangeServer::start();
        let first = fixture(CLIPS[0]);
        let bytes = std::fs::read(&first).expect("the clip");
        let address = server.put("clip.mp4", bytes.clone(), "\"1\"");
        let engine = Engine::builder().threads(3).checkpoint_memory(32 << 20).build();
        let mut videos: Vec<Video> =
            CLIPS.iter().map(|clip| engine.open_path(fixture(clip)).expect("a clip")).collect();
        let remote = HttpClient::shared().expect("a client").open(&address).expect("a source");
        let file = std::fs::File::open(&first).expect("the clip");
        let file = FileSource::from_file("from a file", file, first.clone()).expect("the clip");
        let sources: [Arc<dyn Source>; 3] =
            [Arc::new(remote), Arc::new(MemorySource::new("memory", bytes)), Arc::new(file)];
        videos.extend(sources.map(|source| engine.open(source, 0).expect("a clip")));
        let path = first.to_string_lossy().into_owned();
        let catalog = Catalog::new(&engine);
        catalog.open(&path, 0).expect("a clip");
        Parent {
            expected: CLIPS.map(|clip| sequential(&fixture(clip)).expect("a clip").by_number()).into(),
            index: videos[0].export_index().expect("an index"),
            engine,
            videos,
            catalog,
            path,
            address,
            _server: server,
        }
    }

    /// Requests frames until `is_over`, so that locks are held at the time of each fork.
    fn call(&self, caller: usize, is_over: &AtomicBool) {
        for round in caller + 1.. {
            if is_over.load(Relaxed) {
                return;
            }
            let video = &self.videos[round % self.videos.len()];
            let frames: Vec<u32> = (0..12).map(|n| (round as u32 * 31 + n * 17) % video.frame_count() as u32).collect();
            video.frames(&frames).take(round % 12 + 1).for_each(|(_, frame)| _ = frame.expect("a frame"));
        }
    }

    /// In a child: the engine refuses everything.
    fn check_refused(&self, video: &Video) {
        let (engine, path) = (&self.engine, &self.path);
        let source = || Arc::new(MemorySource::new("memory", vec![0; 10]));
        expect_forked("open_path", engine.open_path(fixture(CLIPS[0])));
        expect_forked("open", engine.open(source(), 0));
        expect_forked("open_with_index", engine.open_with_index(source(), &self.index));
        expect_forked("open_with_verified_index", engine.open_with_verified_index(source(), &self.index));
        expect_forked("OpenOptions", OpenOptions::new().open(engine, path));
        expect_forked("Catalog", self.catalog.open(path, 0));
        assert!(self.catalog.get(path, 0).is_none() && self.catalog.count() == 0);
        assert!(engine.checkpoints().checkpoints == 0 && !engine.is_pinned() && engine.device_notes().is_empty());
        expect_forked("reopen_in the same engine", video.reopen_in(engine));
    }

    /// In a child: some of the videos, opened again, return the same frames.
    fn check_reopening(&self, numbers: [usize; 2]) {
        let engine = self.engine.reopen();
        assert_eq!((engine.threads(), engine.checkpoint_memory()), (3, 32 << 20));
        for number in numbers {
            let (old, expected) = (&self.videos[number], self.expected.get(number).unwrap_or(&self.expected[0]));
            let video = old.reopen_in(&engine).expect("the same video");
            assert_eq!(video.frame_count(), old.frame_count());
            let most = if old.source().is_remote() { 65_536 } else { 0 };
            assert!(video.opened_with().bytes <= most, "{:?}: the index is not read again", video.opened_with());
            let mut all: Vec<u32> = (0..video.frame_count() as u32).step_by(13).collect();
            all.push(3);
            for (index, frame) in video.frames(&all) {
                let found = frame.ok().as_ref().map(md5);
                assert_eq!(found.as_ref(), expected.get(&index), "{} {index}", old.source().name());
            }
            assert_eq!(video.frame(5).ok().as_ref().map(md5).as_ref(), expected.get(&5));
            video.describe().expect("a picture");
        }
        let anew = OpenOptions::new().open(&engine, &self.address).expect("a source of this process");
        anew.frame(7).expect("a frame");
        Catalog::new(&engine).open(&self.path, 0).expect("a clip").frame(7).expect("a frame");
    }

    /// Forks during requests, and checks both processes.
    fn fork(&self, round: usize) {
        let (clip, again) = (round % self.videos.len(), (round + 1) % self.videos.len());
        let video = &self.videos[clip];
        let what = format!("round {round}, {}", video.source().name());
        let mut ongoing = Some(OngoingRequests::of(video));
        in_child(&what, || {
            let ongoing = ongoing.take().expect("it is held");
            check_refused(video);
            ongoing.check_refused();
            self.check_refused(video);
            drop((video.clone(), self.engine.clone()));
            self.check_reopening([clip, again]);
        });
        // Nothing changes in the parent.
        ongoing.expect("it is held").check_continued(&what);
    }
}

/// Requests with some results received and others in progress.
struct OngoingRequests {
    frame: VideoFrame,
    frames: Frames<Result<VideoFrame, Error>>,
    in_order: OrderedFrames,
    sequence: Sequence,
    future: FrameFuture,
    weak: WeakVideo,
}

impl OngoingRequests {
    fn of(video: &Video) -> OngoingRequests {
        let mut frames = video.frames(&[2, 40, 9, 20]);
        let frame = frames.next().expect("a frame").1.expect("a frame");
        let mut in_order = video.frames_in_order((0..30).collect());
        in_order.next().expect("a frame").expect("a frame");
        let mut sequence = video.sequence();
        sequence.next().expect("a frame").expect("a frame");
        OngoingRequests { frame, frames, in_order, sequence, future: video.frame_async(11), weak: video.downgrade() }
    }

    /// In a child; everything is dropped at the end.
    fn check_refused(mut self) {
        let sum = md5(&self.frame);
        let mut left = vec![2, 9, 20, 40];
        left.retain(|index| *index != self.frame.index);
        let refused = self.frames.by_ref().map(|(index, frame)| {
            expect_forked("frames", frame);
            index
        });
        assert_eq!(refused.collect::<Vec<_>>(), left, "what has not come before");
        for frame in self.in_order.by_ref() {
            // Results from before the fork are available.
            if let Err(error) = frame {
                assert!(matches!(error.kind(), ErrorKind::Forked), "{error}");
            }
        }
        expect_forked("sequence", self.sequence.next().expect("an error"));
        assert!(matches!(poll(self.future), Poll::Ready(Err(error)) if matches!(error.kind(), ErrorKind::Forked)));
        assert_eq!(md5(&self.frame), sum, "a frame that was there stays");
        drop(self.weak.upgrade());
    }

    /// In the parent.
    fn check_continued(mut self, what: &str) {
        assert_eq!(self.frames.filter(|(_, frame)| frame.is_ok()).count(), 3, "{what}");
        assert!(self.sequence.next().expect("a frame").is_ok() && self.in_order.all(|frame| frame.is_ok()), "{what}");
    }
}

#[test]
fn objects_from_before_a_fork_refuse_and_can_be_opened_again() {
    let parent = Parent::open();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also after a panic, which endless callers would hide.
        let set_on_drop = SetOnDrop(&is_over);
        for caller in 0..3_usize {
            let (parent, is_over) = (&parent, &is_over);
            scope.spawn(move || parent.call(caller, is_over));
        }
        for round in 0..12 {
            // Some forks happen with mapped files, others without.
            if round == 6 {
                process::map_files().expect("a signal handler");
            }
            parent.fork(round);
        }
        drop(set_on_drop);
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
