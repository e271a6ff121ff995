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

/// Gives all pages back to the system on which nothing is any more. glibc keeps them, one heap for each few threads, and
/// small pictures and tables leave gaps there that nothing fits into. Takes about a millisecond for each 10 MiB that it
/// gives back. Does nothing with another allocator.
pub fn return_free_pages() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator takes its own locks, and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::return_free_pages;

    fn resident_kib() -> u64 {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        4 * text.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
    }

    #[test]
    fn what_lies_free_between_blocks_in_use_goes_back() {
        let mut blocks: Vec<Vec<u8>> = (0..2000).map(|_| vec![1; 64 << 10]).collect();
        let mut place = 0;
        blocks.retain(|_| {
            place += 1;
            place % 50 == 0
        });
        let before = resident_kib();
        return_free_pages();
        let after = resident_kib();
        assert!(
            before > 120 << 10 && after + (80 << 10) < before,
            "{before} KiB, then {after}, {} blocks",
            blocks.len()
        );
    }
}
