//! Model check of the results queue. Under every schedule that is tried each result arrives once, the reader does not
//! sleep while there is a result or for ever, and once the reader is dropped its tasks end and the request is freed.

use std::future::poll_fn;
use std::sync::Weak;
use std::sync::atomic::AtomicBool as Flag;

use super::*;
use crate::container::Track;
use crate::decode::{Lease, workers::WorkerPool};
use crate::device::{Decoded, Kind, Opening, Traits};
use crate::sync::model::{TimedWaits, check};
use crate::sync::thread;

/// A device with workers and without a decoder.
#[derive(Debug)]
struct Workers(WorkerPool);

impl DecodeDevice for Workers {
    fn workers(&self) -> &WorkerPool {
        &self.0
    }

    fn traits(&self, _: &Track) -> Traits {
        unreachable!("tasks of this test decode nothing")
    }

    fn open(&self, _: &Opening<'_>) -> Result<Option<Lease>> {
        unreachable!("tasks of this test decode nothing")
    }

    fn take(&self, _: ffi::Frame, _: &Track, _: Residency) -> std::result::Result<Decoded, ffi::GpuError> {
        unreachable!("tasks of this test decode nothing")
    }

    fn abandoned(&self, _: &str, _: &Flag, _: Option<ffi::GpuError>) {}

    fn learn(&self, _: Kind, _: u64, _: Duration) {}
}

type Device = Arc<dyn DecodeDevice>;

/// A short queue, so that few tasks fill it.
const ROOM: usize = 2;

/// A device, and a request whose results are the indices of frames.
fn request(workers: usize) -> (Device, Arc<Request<u32>>) {
    let make = Box::new(|index, _: Result<DecodedFrame>| index);
    let request = Request::new((Budget::new(1 << 20), Owner::this()), make, Payer::default(), Residency::Host);
    request.lock().most = ROOM;
    (Arc::new(Workers(WorkerPool::new(workers, false))), request)
}

/// A task that gives results for `indices` as an attempt does: it pauses where the queue is full.
fn give_all(reader: Arc<dyn Reader>, device: Device, mut indices: VecDeque<u32>, patience: Duration) -> Run {
    Box::new(move |_| {
        while let Some(index) = indices.pop_front() {
            let goes_on = reader.give(index, Err(unanswered(index)), patience);
            if reader.is_cancelled() {
                return;
            }
            if !goes_on && !indices.is_empty() {
                let run = give_all(Arc::clone(&reader), Arc::clone(&device), indices, patience);
                return reader.rest(&device, 1, run);
            }
        }
    })
}

/// Submits two tasks that give `each` results; a thread of its own begins the second.
fn submit(request: &Arc<Request<u32>>, device: &Device, each: u32, patience: Duration) {
    let reader: Arc<dyn Reader> = Arc::clone(request) as Arc<dyn Reader>;
    let run = |first: u32| give_all(Arc::clone(&reader), Arc::clone(device), (first..first + each).collect(), patience);
    Arc::clone(&reader).submit(device, 1, run(0));
    let later = |begin: Box<dyn FnOnce() + Send>| drop(thread::spawn(begin));
    Arc::clone(&reader).submit_when(device, 1, run(each), Box::new(later));
}

/// Each result came once, those of each task in order.
fn assert_complete(results: &[u32], each: u32) {
    let (first, second): (Vec<u32>, Vec<u32>) = results.iter().partition(|index| **index < each);
    assert_eq!((first, second), ((0..each).collect(), (each..2 * each).collect()), "{results:?}");
}

/// Waits until the request is freed. If it is never freed, the run does not end, and the check fails.
fn wait_until_gone(request: &Weak<Request<u32>>) {
    while request.strong_count() > 0 {
        thread::yield_now();
    }
}

const EACH: u32 = 4;
/// The patience of the processor and of a GPU.
const PATIENCES: [Duration; 2] = [Duration::ZERO, Duration::from_millis(100)];

#[test]
fn a_reader_that_waits_gets_each_result_once() {
    for patience in PATIENCES {
        check(TimedWaits::MayTimeOut, move || {
            let (device, request) = request(2);
            submit(&request, &device, EACH, patience);
            let alive = Arc::downgrade(&request);
            let results: Vec<u32> = Frames::of(request, BTreeSet::new()).map(|(index, _)| index).collect();
            assert_complete(&results, EACH);
            drop(device);
            wait_until_gone(&alive);
        });
    }
}

#[test]
fn a_reader_that_is_woken_gets_each_result_once() {
    for patience in PATIENCES {
        check(TimedWaits::MayTimeOut, move || {
            let (device, request) = request(2);
            submit(&request, &device, EACH, patience);
            let mut frames = Frames::of(request, BTreeSet::new());
            let results = shuttle::future::block_on(async {
                let mut results = Vec::new();
                while let Some((index, _)) = poll_fn(|context| Pin::new(&mut frames).poll_next(context)).await {
                    results.push(index);
                }
                results
            });
            assert_complete(&results, EACH);
        });
    }
}

#[test]
fn tasks_end_and_nothing_remains_when_the_reader_goes() {
    for patience in PATIENCES {
        for read in [0, 1, 3] {
            check(TimedWaits::MayTimeOut, move || {
                let (device, request) = request(2);
                submit(&request, &device, EACH, patience);
                let alive = Arc::downgrade(&request);
                let mut frames = Frames::of(request, BTreeSet::new());
                assert_eq!(frames.by_ref().take(read).count(), read);
                drop(frames);
                wait_until_gone(&alive);
            });
        }
    }
}

#[test]
fn a_task_that_never_begins_does_not_keep_its_reader() {
    check(TimedWaits::MayTimeOut, || {
        let (device, request) = request(1);
        let reader: Arc<dyn Reader> = Arc::clone(&request) as Arc<dyn Reader>;
        let run = |first| give_all(Arc::clone(&reader), Arc::clone(&device), [first].into(), Duration::ZERO);
        let never = |begin: Box<dyn FnOnce() + Send>| drop(thread::spawn(move || drop(begin)));
        Arc::clone(&reader).submit_when(&device, 1, run(7), Box::new(never));
        Arc::clone(&reader).submit(&device, 1, run(8));
        drop(reader);
        assert_eq!(Frames::of(request, BTreeSet::new()).map(|(index, _)| index).collect::<Vec<_>>(), [8]);
    });
}
