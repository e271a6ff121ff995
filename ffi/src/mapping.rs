//! File maps that survive the truncation of their file by another process (`shim/mapping.c` explains how). They need a
//! signal handler, which belongs to the process: it is installed on request.

use std::fs::File;
use std::io;
use std::sync::OnceLock;

use memmap2::{Advice, Mmap};

use crate::sys;

/// A file mapped for reading. A read past a truncation returns zeros and marks the map as broken, instead of killing
/// the process with SIGBUS.
#[derive(Debug)]
pub struct MappedFile {
    map: Mmap,
    slot: i32,
}

impl MappedFile {
    /// Maps the whole file.
    ///
    /// # Errors
    /// The system's error: not a regular file, no memory, no permission; `QuotaExceeded` for too many maps;
    /// `Unsupported` before [`survive_truncation`].
    pub fn map(file: &File) -> io::Result<MappedFile> {
        if !survives_truncation() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // SAFETY: memmap2 requires that the file is not changed while it is mapped, since that would change bytes
        // behind a `&[u8]`. We cannot guarantee that of other processes. The bytes go to libavcodec, which takes
        // arbitrary bytes; Rust code in this project reads them once, by value, into checked parsers. The guard handles
        // truncation.
        let map = unsafe { Mmap::map(file)? };
        // Samples are read at random: read-ahead over a whole GOP is left to the reader.
        let _ = map.advise(Advice::Normal);
        // SAFETY: the range is the one just mapped, and stays mapped until `drop` has removed the guard.
        let slot = unsafe { sys::bs_guard_add(map.as_ptr().cast_mut().cast(), map.len()) };
        if slot < 0 {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "too many mapped files (16384)"));
        }
        Ok(MappedFile { map, slot })
    }

    /// True once a page was missing in a read: the file has shrunk, and bytes read since may be zeros that were never
    /// in it. Results from them must not be returned.
    pub fn is_broken(&self) -> bool {
        // SAFETY: the slot is ours until drop.
        unsafe { sys::bs_guard_is_broken(self.slot) != 0 }
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        // SAFETY: the slot is ours, released once; the map itself is dropped after this.
        unsafe { sys::bs_guard_remove(self.slot) };
    }
}

/// The result of installing the handler: 0, or the system's error.
static INSTALLED: OnceLock<i32> = OnceLock::new();

/// Installs a handler for SIGBUS, for the whole process and permanently. It handles faults in [`MappedFile`]s; every
/// other fault goes to the handler that was installed before, or ends the process as before.
///
/// # Errors
/// The system's error.
pub fn survive_truncation() -> io::Result<()> {
    // SAFETY: called once; the handler is async-signal-safe, see mapping.c.
    match *INSTALLED.get_or_init(|| unsafe { sys::bs_guard_install() }) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// True if the handler is installed.
pub fn survives_truncation() -> bool {
    INSTALLED.get() == Some(&0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{MappedFile, survive_truncation};

    #[test]
    fn a_map_outlives_the_truncation_of_its_file() {
        survive_truncation().unwrap();
        let path = std::env::temp_dir().join(format!("bucket-streamer-map-{}", std::process::id()));
        let mut file = std::fs::File::create_new(&path).unwrap();
        file.write_all(&vec![7_u8; 64 * 1024]).unwrap();
        let readable = std::fs::File::open(&path).unwrap();
        let map = MappedFile::map(&readable).unwrap();
        assert_eq!(map.as_ref()[40_000], 7);
        assert!(!map.is_broken());
        file.set_len(4096).unwrap();
        assert_eq!(map.as_ref()[4095], 7, "what is left is read as before");
        assert!(!map.is_broken());
        let beyond: u64 = map.as_ref()[8192..].iter().map(|byte| u64::from(*byte)).sum();
        assert_eq!(beyond, 0, "what is gone reads as zeros");
        assert!(map.is_broken());
        let again = MappedFile::map(&readable).unwrap();
        assert!(!again.is_broken(), "a new map of the shorter file is whole");
        std::fs::remove_file(&path).unwrap();
    }
}
