//! The cores that a thread may run on, and the cores that libavcodec's threads inherit from it. The choice of cores is
//! left to the engine's worker pool.

use std::cell::Cell;

/// Processor time of the calling thread so far.
pub fn thread_time() -> std::time::Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, which is ours. Without such a clock it stays zero.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    std::time::Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanos)
}

/// A set of cores.
#[derive(Clone, Copy)]
pub struct Affinity {
    mask: libc::cpu_set_t,
}

impl std::fmt::Debug for Affinity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Affinity").finish_non_exhaustive()
    }
}

thread_local! {
    static FOR_DECODERS: Cell<Option<Affinity>> = const { Cell::new(None) };
}

impl Affinity {
    /// The cores that the calling thread may run on.
    pub fn of_this_thread() -> Affinity {
        // SAFETY: all zeros is an empty set; the kernel writes at most the size that is given.
        unsafe {
            let mut mask: libc::cpu_set_t = std::mem::zeroed();
            libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut mask);
            Affinity { mask }
        }
    }

    fn apply(&self) {
        // SAFETY: a set of the size that is given. If it fails (a core is gone) nothing changes.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &self.mask) };
    }

    /// Binds to these cores the threads of all decoders that the calling thread opens from now on, whatever cores the
    /// calling thread is bound to: libavcodec's threads inherit the affinity of the thread that opens the decoder.
    pub fn is_for_decoders(self) {
        FOR_DECODERS.set(Some(self));
    }
}

/// Runs `work` on any of the cores that decoders may use. A decoder's slice threads share each picture with the thread
/// that sends it, which must not be bound to a core where one of them runs.
pub fn while_unbound<T>(work: impl FnOnce() -> T) -> T {
    let Some(wide) = FOR_DECODERS.get() else { return work() };
    let _back = AffinityGuard(Affinity::of_this_thread());
    wide.apply();
    work()
}

/// Binds the thread again, also after a panic.
struct AffinityGuard(Affinity);

impl Drop for AffinityGuard {
    fn drop(&mut self) {
        self.0.apply();
    }
}
