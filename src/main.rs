//! The `bucket-streamer` command.

#![forbid(unsafe_code)]

mod cli;

// Benchmarks tell how often it was asked.
#[global_allocator]
static ALLOCATOR: ffi::CountingAllocator = ffi::CountingAllocator;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
