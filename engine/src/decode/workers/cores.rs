//! The cores that threads run on. Which worker is bound to which core is left to the pool.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The numbers of the cores that the current thread may run on; empty if the system does not report them.
pub(super) fn own_cores() -> Vec<usize> {
    let Ok(cores) = sched_getaffinity(Pid::from_raw(0)) else { return Vec::new() };
    (0..CpuSet::count()).filter(|&core| cores.is_set(core).unwrap_or(false)).collect()
}

/// Binds the current thread to one core, if the system allows it.
pub(super) fn bind_to(core: usize) {
    let mut cores = CpuSet::new();
    if cores.set(core).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(0), &cores);
    }
}
