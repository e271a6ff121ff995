//! Process-wide settings that a program may let the engine change.
//!
//! Signal handlers, allocator settings and the cores of threads belong to the process, and an engine is often a guest
//! in it. So building an engine and opening videos changes none of them. A program that exists for the engine, such as
//! the command `bucket-streamer`, calls [`dedicate`] when it starts; other programs choose. `docs/embedding.md` has the
//! whole list.
//!
//! Objects that were made before a `fork` return errors in the child (`owner`);
//! [`Engine::reopen`](crate::Engine::reopen) and [`Video::reopen_in`](crate::Video::reopen_in) open them again there.

mod owner;

use std::io;

pub use owner::Owner;
pub(crate) use owner::{PerProcess, ProcessBound, WeakProcessBound};

/// Applies [`map_files`] and [`return_large_blocks`], for a program that only decodes. It must be called before the
/// first video is opened. Cores are a setting of the engine:
/// [`EngineBuilder::pin_threads`](crate::EngineBuilder::pin_threads).
///
/// # Errors
/// As [`map_files`].
pub fn dedicate() -> io::Result<()> {
    return_large_blocks();
    map_files()
}

/// Maps local files that are opened from now on, so that their bytes reach decoders without a copy. This installs a
/// handler for SIGBUS, for the whole process and permanently: a mapped file that another process truncates raises that
/// signal. The handler treats faults in these maps; it passes all others to the handler that was installed before, and
/// without one they end the process as before. A program that later installs a handler of its own has to pass on faults
/// that it does not know.
///
/// Without this call local files are read (`pread`), and nothing raises a signal.
///
/// # Errors
/// The system's error; files are read then.
pub fn map_files() -> io::Result<()> {
    ffi::survive_truncation()
}

/// True if [`map_files`] was called successfully.
pub fn maps_files() -> bool {
    ffi::survives_truncation()
}

/// Makes glibc's allocator return blocks of 512 KiB and more to the system as soon as they are freed, from now on and
/// in the whole process (`mallopt(M_MMAP_THRESHOLD)`, which also stops glibc from adapting that threshold). Pictures
/// are such blocks. Without it the allocator raises the threshold as they are freed, up to 32 MiB, and keeps the memory
/// of evicted checkpoints; with it every large block of the program costs system calls and page faults. It has no
/// effect with another allocator.
pub fn return_large_blocks() {
    ffi::return_large_blocks();
}
