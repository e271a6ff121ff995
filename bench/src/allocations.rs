//! Counts allocations: a measure of work that does not depend on the load of the machine.

#![allow(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Blocks requested from a [`CountingAllocator`].
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// Wraps another allocator, and counts the blocks that Rust code requests, grown ones again. Allocations of C code
/// (libavcodec's tables, pictures) bypass it. The cost is one addition per block.
#[derive(Debug, Clone, Copy, Default)]
pub struct CountingAllocator<A>(pub A);

// SAFETY: hands every call to the allocator within, which keeps the contract.
unsafe impl<A: GlobalAlloc> GlobalAlloc for CountingAllocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is that of the allocator within.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above; the block came from the allocator within.
        unsafe { self.0.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as above.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as above; the block came from the allocator within.
        unsafe { self.0.realloc(block, layout, size) }
    }
}

/// Blocks that Rust code has requested since the process began. `None` where [`CountingAllocator`] is not the program's
/// allocator.
pub fn count() -> Option<u64> {
    Some(ALLOCATIONS.load(Relaxed)).filter(|count| *count > 0)
}
