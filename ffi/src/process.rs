//! Which process this is, told from those that it was forked from (`shim/process.c`).

use crate::sys;

/// The number of this process: the same as long as it runs, and another one in a child after `fork`. It is no process id.
pub fn process_number() -> u64 {
    // SAFETY: reads and sets atomics of its own.
    unsafe { sys::bs_process() }
}
