//! The threads that wait for the network: one runtime for the process, started with the first remote source.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

use crate::error::Refusal;

/// They only pass bytes on.
const THREADS: usize = 2;

/// The runtime. It lives as long as the process.
pub(super) fn runtime() -> Result<&'static Runtime, Refusal> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let make = || {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).thread_name("network").enable_all().build();
        runtime.map_err(|error| format!("no threads for the network: {error}"))
    };
    RUNTIME.get_or_init(make).as_ref().map_err(|why| Refusal::Connection(why.clone()))
}
