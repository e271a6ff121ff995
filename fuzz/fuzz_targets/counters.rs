//! Shows libFuzzer the coverage of C that gcc compiled with `-fsanitize-coverage=trace-pc` (see `instrument/gcc`): a
//! saturating counter per edge, in the section of libFuzzer's extra counters. No other code calls it.

const COUNTERS: usize = 1 << 18;

#[used]
#[unsafe(no_mangle)]
#[unsafe(link_section = "__libfuzzer_extra_counters")]
static mut BS_FUZZ_COUNTERS: [u8; COUNTERS] = [0; COUNTERS];

std::arch::global_asm!(
    ".globl bucket_streamer_fuzz_edge",
    "bucket_streamer_fuzz_edge:",
    "mov rax, qword ptr [rsp]",
    "shr rax, 1",
    "and eax, {mask}",
    "lea rcx, [rip + {counters}]",
    "add byte ptr [rcx + rax], 1",
    "sbb byte ptr [rcx + rax], 0",
    "ret",
    mask = const COUNTERS - 1,
    counters = sym BS_FUZZ_COUNTERS,
);

unsafe extern "C" {
    fn bucket_streamer_fuzz_edge();
}

/// Keeps the linker from removing this.
pub fn keep() {
    std::hint::black_box(bucket_streamer_fuzz_edge as *const ());
}
