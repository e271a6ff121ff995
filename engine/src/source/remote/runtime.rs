//! The threads that wait for the network: one runtime for each process, started with the first remote source.

use nix::sys::signal::{SigSet, Signal};
use tokio::runtime::{Builder, Runtime};

use crate::error::Refusal;
use crate::process::PerProcess;

/// They only pass bytes on.
const THREADS: usize = 2;

/// The runtime. It lives as long as the process.
pub(super) fn runtime() -> Result<&'static Runtime, Refusal> {
    static RUNTIME: PerProcess<Result<Runtime, String>> = PerProcess::new();
    let make = || {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(THREADS).thread_name("network").enable_all().on_thread_start(block_broken_pipes);
        let runtime = builder.build();
        runtime.map_err(|error| format!("no threads for the network: {error}"))
    };
    RUNTIME.get_or_make(make).as_ref().map_err(|why| Refusal::Connection(why.clone()))
}

/// Without this a server that resets a connection ends a process that has not said what becomes of SIGPIPE, as Rust's programs do:
/// connections are written with `writev`, which knows no `MSG_NOSIGNAL`. Blocked in a thread of ours, the signal is the error
/// `EPIPE` alone.
fn block_broken_pipes() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGPIPE);
    // It fails for signals that there are not.
    let _ = signals.thread_block();
}
