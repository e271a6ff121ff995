//! Waits for futures and streams without a runtime, and detects hangs.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::thread::Thread;
use std::time::{Duration, Instant};

use bucket_streamer::{Error, Frames, VideoFrame};
use futures_core::Stream;

use crate::{lock, setting};

/// Waits for a future; polls it only after a wake.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread, AtomicBool);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.1.store(true, Relaxed);
            self.0.unpark();
        }
    }
    let unpark = Arc::new(Unpark(thread::current(), AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&unpark));
    let mut future = pin!(future);
    loop {
        if unpark.1.swap(false, Relaxed)
            && let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker))
        {
            return output;
        }
        thread::park();
    }
}

/// The next item of a stream.
pub(crate) struct Next<'a>(pub(crate) &'a mut Frames);

impl Future for Next<'_> {
    type Output = Option<(u32, Result<VideoFrame, Error>)>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut *self.0).poll_next(context)
    }
}

/// Pending waits with their start, to distinguish a hang from a long decode and to name it.
#[derive(Default)]
pub(crate) struct HangWatch {
    pub(crate) waiting: Mutex<BTreeMap<usize, (Instant, String)>>,
    pub(crate) next: AtomicUsize,
}

impl HangWatch {
    pub(crate) fn start() -> Arc<HangWatch> {
        let watch = Arc::new(HangWatch::default());
        let (timeout, own) = (Duration::from_secs(setting("patience").unwrap_or(240)), Arc::downgrade(&watch));
        thread::spawn(move || {
            while let Some(watch) = own.upgrade() {
                for (since, what) in lock(&watch.waiting).values() {
                    if since.elapsed() > timeout {
                        eprintln!("HANGS: {what}");
                        std::process::abort();
                    }
                }
                drop(watch);
                thread::sleep(Duration::from_secs(1));
            }
        });
        watch
    }

    pub(crate) fn during<T>(&self, what: String, run: impl FnOnce() -> T) -> T {
        let key = self.next.fetch_add(1, Relaxed);
        lock(&self.waiting).insert(key, (Instant::now(), what));
        let result = run();
        lock(&self.waiting).remove(&key);
        result
    }
}
