//! The threads that wait for the network: one runtime for each process, started with the first remote source.

use tokio::runtime::{Builder, Runtime};

use crate::error::Refusal;
use crate::process::PerProcess;

/// They only pass bytes on.
const THREADS: usize = 2;

/// The runtime. It lives as long as the process.
pub(super) fn runtime() -> Result<&'static Runtime, Refusal> {
    static RUNTIME: PerProcess<Result<Runtime, String>> = PerProcess::new();
    let make = || {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).thread_name("network").enable_all().build();
        runtime.map_err(|error| format!("no threads for the network: {error}"))
    };
    RUNTIME.get_or_make(make).as_ref().map_err(|why| Refusal::Connection(why.clone()))
}
