//! Model check of the queue of results. Under every schedule that is tried the caller receives each result once and
//! does not sleep while there is a result, nor for ever; and once [`Frames`] is dropped, its tasks end and the request
//! is freed.

use std::future::poll_fn;
use std::sync::Weak;
use std::sync::atomic::AtomicBool as Flag;

use super::*;
use crate::container::Track;
use crate::decode::{Lease, workers::WorkerPool};
use crate::device::{CostClass, DecodedPicture, DecoderOpening, DeviceTraits};
use crate::sync::model::{TimedWaits, check};
use crate::sync::thread;

/// A device with workers and without a decoder.
#[derive(Debug)]
struct Workers(WorkerPool);

impl DecodeDevice for Workers {
    fn workers(&self) -> &WorkerPool {
        &self.0
    }

    fn traits(&self, _: &Track) -> DeviceTraits {
        unreachable!("tasks of this test decode nothing")
    }

    fn open(&self, _: &DecoderOpening<'_>) -> Result<Option<Lease>> {
        unreachable!("tasks of this test decode nothing")
    }

    fn take(&self, _: ffi::Frame, _: &Track, _: Residency) -> std::result::Result<DecodedPicture, ffi::GpuError> {
        unreachable!("tasks of this test decode nothing")
    }

    fn record_abandoned(&self, _: &str, _: &Flag, _: Option<ffi::GpuError>) {}

    fn learn(&self, _: CostClass, _: u64, _: Duration) {}
}

type ModelDevice = Arc<dyn DecodeDevice>;

/// A short queue, so that few tasks fill it.
const ROOM: usize = 2;

/// A device, and a request whose results are the indices of frames.
fn request(workers: usize) -> (ModelDevice, Arc<FrameRequest<u32>>) {
    let make = Box::new(|index, _: Result<DecodedFrame>| index);
    let request =
        FrameRequest::new((Budget::new(1 << 20), Owner::current()), make, Billing::default(), Residency::Host);
    request.lock().capacity = ROOM;
    (Arc::new(Workers(WorkerPool::new(workers, false))), request)
}

/// A task that delivers results for `indices` as an attempt does: it pauses where the queue is full.
fn deliver_all(
    sink: Arc<dyn ResultSink>,
    device: ModelDevice,
    mut indices: VecDeque<u32>,
    timeout: Duration,
) -> TaskFn {
    Box::new(move |_| {
        while let Some(index) = indices.pop_front() {
            let has_room = sink.deliver(index, Err(unanswered(index)), timeout);
            if sink.is_cancelled() {
                return;
            }
            if !has_room && !indices.is_empty() {
                let run = deliver_all(Arc::clone(&sink), Arc::clone(&device), indices, timeout);
                return sink.pause(&device, 1, run);
            }
        }
    })
}

/// Submits two tasks that deliver `each` results; a thread of its own begins the second.
fn submit(request: &Arc<FrameRequest<u32>>, device: &ModelDevice, each: u32, timeout: Duration) {
    let sink: Arc<dyn ResultSink> = Arc::clone(request) as Arc<dyn ResultSink>;
    let run = |first: u32| deliver_all(Arc::clone(&sink), Arc::clone(device), (first..first + each).collect(), timeout);
    Arc::clone(&sink).submit(device, 1, run(0));
    let later = |begin: Box<dyn FnOnce() + Send>| drop(thread::spawn(begin));
    Arc::clone(&sink).submit_when(device, 1, run(each), Box::new(later));
}

/// Each result was received once, those of each task in order.
fn assert_complete(results: &[u32], each: u32) {
    let (first, second): (Vec<u32>, Vec<u32>) = results.iter().partition(|index| **index < each);
    assert_eq!((first, second), ((0..each).collect(), (each..2 * each).collect()), "{results:?}");
}

/// Waits until the request is freed. If it never is, the run does not end, and the check fails.
fn wait_until_gone(request: &Weak<FrameRequest<u32>>) {
    while request.strong_count() > 0 {
        thread::yield_now();
    }
}

const EACH: u32 = 4;
/// The timeout of the processor and of a GPU.
const PATIENCES: [Duration; 2] = [Duration::ZERO, Duration::from_millis(100)];

#[test]
fn a_reader_that_waits_gets_each_result_once() {
    for timeout in PATIENCES {
        check(TimedWaits::MayTimeOut, move || {
            let (device, request) = request(2);
            submit(&request, &device, EACH, timeout);
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
    for timeout in PATIENCES {
        check(TimedWaits::MayTimeOut, move || {
            let (device, request) = request(2);
            submit(&request, &device, EACH, timeout);
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
    for timeout in PATIENCES {
        for read in [0, 1, 3] {
            check(TimedWaits::MayTimeOut, move || {
                let (device, request) = request(2);
                submit(&request, &device, EACH, timeout);
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
        let sink: Arc<dyn ResultSink> = Arc::clone(&request) as Arc<dyn ResultSink>;
        let run = |first| deliver_all(Arc::clone(&sink), Arc::clone(&device), [first].into(), Duration::ZERO);
        let never = |begin: Box<dyn FnOnce() + Send>| drop(thread::spawn(move || drop(begin)));
        Arc::clone(&sink).submit_when(&device, 1, run(7), Box::new(never));
        Arc::clone(&sink).submit(&device, 1, run(8));
        drop(sink);
        assert_eq!(Frames::of(request, BTreeSet::new()).map(|(index, _)| index).collect::<Vec<_>>(), [8]);
    });
}
