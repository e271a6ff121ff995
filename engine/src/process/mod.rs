//! What a program may have the engine change in its process.
//!
//! Signal handlers, settings of the allocator and the cores of threads belong to the process, and an engine is often a guest in
//! it. So building an engine and opening videos changes none of them. A program that is there for the engine, as the command
//! `bucket-streamer` is, calls [`dedicate`] when it starts; others choose. `docs/embedding.md` has the whole list.
//!
//! What was made before a `fork` refuses in the child (`owner`); [`Engine::reopen`](crate::Engine::reopen) and
//! [`Video::reopen_in`](crate::Video::reopen_in) make it anew there.

mod owner;

use std::io;

pub use owner::Owner;
pub(crate) use owner::{Owned, PerProcess, WeakOwned};

/// All of [`map_files`] and [`return_large_blocks`], for a program that does nothing but decode. To be called before the first
/// video is opened. Cores are an engine's: [`EngineBuilder::pin_threads`](crate::EngineBuilder::pin_threads).
///
/// # Errors
/// As [`map_files`].
pub fn dedicate() -> io::Result<()> {
    return_large_blocks();
    map_files()
}

/// Local files that are opened from now on are mapped, and their bytes reach decoders without a copy. For that a handler for
/// SIGBUS is installed, for the whole process and for good: a mapped file that another process cuts raises that signal. The
/// handler deals with faults in these maps; it passes all others to the handler that was there before, and without one the
/// process ends of them as before. A program that installs a handler of its own later has to pass on what it does not know.
///
/// Without this call local files are read (`pread`), and nothing raises a signal.
///
/// # Errors
/// What the system says; files are read then.
pub fn map_files() -> io::Result<()> {
    ffi::survive_truncation()
}

/// Was [`map_files`] called, with success?
pub fn maps_files() -> bool {
    ffi::survives_truncation()
}

/// glibc's allocator gives the memory of blocks of 512 KiB and more back to the system as soon as they are freed, from now on
/// and in the whole process (`mallopt(M_MMAP_THRESHOLD)`, which also ends glibc's own adapting of that threshold). Pictures are
/// such blocks. Without it the allocator raises the threshold as they are freed, up to 32 MiB, and keeps what evicted checkpoints
/// held; with it every large block of the program costs system calls and page faults. Does nothing with another allocator.
pub fn return_large_blocks() {
    ffi::return_large_blocks();
}
