//! The network threads: one tokio runtime per process, started with the first remote source.

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
    RUNTIME.get_or_init(make).as_ref().map_err(|why| Refusal::Connection(why.clone()))
}

/// Blocks SIGPIPE in the network threads. Connections are written with `writev`, which has no `MSG_NOSIGNAL`: a reset
/// connection would end a process that does not ignore the signal, as Rust programs do. With the signal blocked, only
/// `EPIPE` is left.
fn block_broken_pipes() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGPIPE);
    // Fails only for signals that do not exist.
    let _ = signals.thread_block();
}
