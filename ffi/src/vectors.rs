//! Ordinary loops with the vector instructions of this processor, and its cache.
//!
//! The program is compiled for every processor of its kind. [`vectorised`] contains a second copy of a piece of work,
//! compiled for processors with AVX2, and chooses.

/// Work whose loops profit from wider vectors. Results must not depend on the instructions: no `mul_add`.
pub trait VectorWork {
    /// Does the work. Only what is inlined into this function is compiled for wider vectors, so it and its loops need
    /// `#[inline(always)]`.
    fn run(self);
}

/// Runs `work` in the copy for this processor.
pub fn vectorised(work: impl VectorWork) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { with_avx2(work) };
    }
    work.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2(work: impl VectorWork) {
    work.run();
}

/// Has the processor load bytes into its cache while it does other work. A loop that reads rows of a picture, with much
/// arithmetic for each, waits for memory at the beginning of a row otherwise.
pub fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: an address of ours; the instruction reads nothing that the program sees.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}
