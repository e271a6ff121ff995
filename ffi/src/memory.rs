//! What the C library's allocator does with pictures, and how often ours is asked.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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

/// Blocks that [`CountingAllocator`] was asked for.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, counting the blocks that code in Rust asks it for, grown ones again. What C code allocates
/// (libavcodec's tables, pictures) goes past it.
///
/// A count of work that does not depend on how busy the machine is. It costs one addition a block.
#[derive(Debug, Clone, Copy, Default)]
pub struct CountingAllocator;

// SAFETY: hands every call to `System`, which keeps the contract.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promises are those that `System` wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above; the block came from `System`.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as above; the block came from `System`.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// Blocks that code in Rust has asked for since the process began. `None` where [`CountingAllocator`] is not the
/// program's allocator.
pub fn allocations() -> Option<u64> {
    Some(ALLOCATIONS.load(Relaxed)).filter(|count| *count > 0)
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
