//! How often the allocator is asked: a count of work that does not depend on how busy the machine is.

#![allow(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Blocks that a [`CountingAllocator`] was asked for.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// Another allocator, counting the blocks that code in Rust asks it for, grown ones again. What C code allocates
/// (libavcodec's tables, pictures) goes past it. It costs one addition a block.
#[derive(Debug, Clone, Copy, Default)]
pub struct CountingAllocator<A>(pub A);

// SAFETY: hands every call to the allocator within, which keeps the contract.
unsafe impl<A: GlobalAlloc> GlobalAlloc for CountingAllocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promises are those that the allocator within wants.
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

/// Blocks that code in Rust has asked for since the process began. `None` where [`CountingAllocator`] is not the
/// program's allocator.
pub fn count() -> Option<u64> {
    Some(ALLOCATIONS.load(Relaxed)).filter(|count| *count > 0)
}
