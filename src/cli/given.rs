//! What the process is given and what it makes of it, in one line for operators.

use bucket_streamer::{Engine, Machine};

/// `2 of 64 processors (quota of 2.0 in /sys/fs/cgroup/a), 4.0 GiB of memory: 2 workers, not pinned; checkpoints 256 MiB`
pub(crate) fn line(machine: &Machine, engine: &Engine) -> String {
    let workers = engine.threads();
    let plural = if workers == 1 { "" } else { "s" };
    let pinned = if engine.is_pinned() { "pinned" } else { "not pinned" };
    let checkpoints = engine.checkpoint_memory() >> 20;
    format!("{machine}: {workers} worker{plural}, {pinned}; checkpoints {checkpoints} MiB")
}
