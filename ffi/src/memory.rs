//! Settings of the C library's allocator for pictures. When to apply them is left to the engine.

/// Planes and tables of pictures are larger than this; smaller blocks may stay in the allocator.
const LARGE_BYTES: i32 = 512 << 10;

/// From now on the process returns the memory of large blocks to the system as soon as they are freed. By default glibc
/// raises its threshold for that with each large block that is freed, up to 32 MiB: then pictures lie between small
/// blocks in the heaps of many threads, and the memory of evicted checkpoints stays resident. It has no effect with
/// another allocator.
pub fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number, which the allocator reads under its own lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = LARGE_BYTES;
}

/// Returns all unused pages to the system. glibc keeps them, one heap for each few threads, and small pictures and
/// tables leave gaps there that nothing fits into. Takes about a millisecond for each 10 MiB that it returns. It has no
/// effect with another allocator.
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
