//! The identity of this process, different from those of the processes that it was forked from (`shim/process.c`).

use crate::sys;

/// The number of this process: constant as long as it runs, and different in a child after `fork`. It is not the
/// process id.
pub fn process_number() -> u64 {
    // SAFETY: reads and sets its own atomics.
    unsafe { sys::bs_process() }
}
