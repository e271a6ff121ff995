//! What the C library's allocator does with pictures.

/// A picture's planes and tables are larger than this; what is smaller may stay in the allocator.
const LARGE_BYTES: i32 = 512 << 10;

/// From now on the process gives the memory of large blocks back to the system as soon as they are freed. Left to itself,
/// glibc raises its limit for that with each large block that is freed, up to 32 MiB: then pictures lie between small
/// things in the heaps of many threads, and what evicted checkpoints held stays resident. Does nothing with another
/// allocator.
pub fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number, which the allocator reads under its own lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = LARGE_BYTES;
}
