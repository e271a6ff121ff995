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
    use crate::Frame;
    use crate::sys;

    /// A frame of new memory, all of which is then touched.
    fn touched_frame() -> Frame {
        let mut frame = Frame::empty().unwrap();
        let raw = frame.get();
        (raw.width, raw.height, raw.format) = (1920, 1080, sys::AVPixelFormat::AV_PIX_FMT_YUV420P);
        // SAFETY: a frame with a size and a format, and without buffers.
        assert_eq!(unsafe { sys::bs_get_planes(raw) }, 0);
        for buffer in raw.buf.iter().filter(|buffer| !buffer.is_null()) {
            // SAFETY: a buffer of the new frame, which nothing else refers to.
            let bytes = unsafe { std::slice::from_raw_parts_mut((**buffer).data, (**buffer).size) };
            assert!(bytes.iter().all(|&byte| byte == 0), "memory without an owner is cleared");
            bytes.fill(1);
        }
        frame
    }

    /// Of 373 MB of pictures, those beyond the list of free blocks (64 MiB) leave memory one by one, although the
    /// pictures beside them stay.
    #[test]
    fn memory_of_pictures_goes_back_from_between_others() {
        let mut frames: Vec<Frame> = (0..120).map(|_| touched_frame()).collect();
        let full = resident_kib();
        let mut place = 0;
        frames.retain(|_| {
            place += 1;
            place % 2 == 0
        });
        let half = resident_kib();
        assert!(half + (90 << 10) < full, "{full} KiB, then {half}");
        // Some get addresses that were in use before.
        frames.extend((0..60).map(|_| touched_frame()));
        drop(frames);
        let none = resident_kib();
        assert!(none + (250 << 10) < full, "{full} KiB, then {none}");
    }

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
