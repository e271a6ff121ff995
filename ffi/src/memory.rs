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
