//! Local files, mapped.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use ffi::{MappedFile, PaddedBytes};

use super::{ByteRange, Counters, Source, check_bounds, padded_view};
use crate::error::{Error, ErrorKind, Result};

/// A mapped file. Views of it stay valid when the source is gone. If somebody truncates the file, reads past the cut
/// give zeros instead of killing the process, and [`Source::check`] fails from then on.
#[derive(Debug)]
pub struct MappedSource {
    name: Arc<str>,
    bytes: Bytes,
    /// The same map that `bytes` refers to; `None` for an empty file, which cannot be mapped.
    map: Option<Arc<MappedFile>>,
    file: File,
    /// Where whoever opens it anew would find it, if that is to be looked at too.
    place: Option<PathBuf>,
    opened_as: Identity,
    counters: Counters,
}

/// What tells one state of a file from another, and one file from another.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    len: u64,
    modified: Option<SystemTime>,
}

/// Lets a shared map own `Bytes`.
struct SharedMap(Arc<MappedFile>);

impl AsRef<[u8]> for SharedMap {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl MappedSource {
    /// Opens and maps a regular file.
    ///
    /// # Errors
    /// `Read` with what the system says; a directory, a socket or a pipe is no video file.
    pub fn open(path: impl AsRef<Path>) -> Result<MappedSource> {
        let path = path.as_ref();
        let name: Arc<str> = path.to_string_lossy().into();
        let fail = |error: io::Error| Error::from(ErrorKind::Read(error)).of(&name);
        // A look before opening: opening a pipe would wait for its other end.
        let kind = std::fs::metadata(path).map_err(fail)?.file_type();
        if !kind.is_file() {
            let what = if kind.is_dir() { "a directory, not a file" } else { "not a regular file" };
            return Err(fail(io::Error::other(what)));
        }
        MappedSource::map(&name, File::open(path).map_err(fail)?, None)
    }

    /// Maps a file that somebody has opened for reading, called `name` in messages. `place` is where a file of that name
    /// is looked for: once another one lies there, or none, [`Source::check`] fails. Nothing is ever read from `place`.
    ///
    /// # Errors
    /// As [`MappedSource::open`].
    pub fn from_file(name: &str, file: File, place: PathBuf) -> Result<MappedSource> {
        MappedSource::map(name, file, Some(place))
    }

    fn map(name: &str, file: File, place: Option<PathBuf>) -> Result<MappedSource> {
        let fail = |error: io::Error| Error::from(ErrorKind::Read(error)).of(name);
        let metadata = file.metadata().map_err(fail)?;
        if !metadata.is_file() {
            return Err(fail(io::Error::other("not a regular file")));
        }
        // What is empty cannot be mapped.
        let map = match metadata.len() {
            0 => None,
            _ => Some(Arc::new(MappedFile::map(&file).map_err(fail)?)),
        };
        let bytes = map.as_ref().map_or_else(Bytes::new, |map| Bytes::from_owner(SharedMap(Arc::clone(map))));
        let opened_as = Identity::of(&metadata);
        Ok(MappedSource { name: name.into(), bytes, map, file, place, opened_as, counters: Counters::default() })
    }

    /// What is known now of the file that a name stands for: with a place, of what lies there, which is the open file or
    /// is not. One question to the system.
    fn now(&self) -> io::Result<Metadata> {
        match &self.place {
            Some(place) => std::fs::metadata(place),
            None => self.file.metadata(),
        }
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Identity {
        Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }
}

impl Source for MappedSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, range: ByteRange) -> Result<Bytes> {
        check_bounds(range, self.len())?;
        self.counters.read(range.len);
        Ok(self.bytes.slice(range.start as usize..range.end() as usize))
    }

    fn read_padded(&self, range: ByteRange) -> Result<PaddedBytes> {
        padded_view(&self.bytes, range, &self.counters)
    }

    fn check(&self) -> Result<()> {
        let broken = self.map.as_ref().is_some_and(|map| map.is_broken());
        let same = self.now().is_ok_and(|metadata| Identity::of(&metadata) == self.opened_as);
        if broken || !same { Err(Error::from(ErrorKind::Changed).of(&self.name)) } else { Ok(()) }
    }

    /// The time of its last change, where that says more than the second.
    fn version(&self) -> Option<String> {
        let time = self.opened_as.modified?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        (time.subsec_nanos() > 0).then(|| format!("modified {}.{:09}", time.as_secs(), time.subsec_nanos()))
    }

    fn version_hint(&self) -> Option<String> {
        let time = self.opened_as.modified?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(format!("modified {}", time.as_secs()))
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::MappedSource;
    use crate::source::{ByteRange, Source, conformance};

    fn temporary(name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("bucket-streamer-{name}-{}", std::process::id()));
        std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
        path
    }

    #[test]
    fn conforms() {
        let path = temporary("mapped", &conformance::bytes());
        conformance::run(&MappedSource::open(&path).unwrap());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn directories_and_missing_files_are_errors_and_an_empty_file_is_empty() {
        assert!(MappedSource::open(std::env::temp_dir()).unwrap_err().to_string().contains("a directory"));
        assert!(MappedSource::open("/nowhere/at all").unwrap_err().to_string().starts_with("/nowhere/at all: "));
        let path = temporary("empty", b"");
        assert!(MappedSource::open(&path).unwrap().is_empty());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_truncated_or_changed_file_fails_the_check_and_nothing_crashes() {
        let path = temporary("cut", &vec![9; 50_000]);
        let source = MappedSource::open(&path).unwrap();
        source.check().unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(100).unwrap();
        let beyond = source.read(ByteRange { start: 40_000, len: 10 }).unwrap();
        assert_eq!(beyond[..], [0; 10]);
        assert!(source.check().is_err());
        file.set_len(50_000).unwrap();
        assert!(source.check().is_err(), "grown back is not the same file");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn another_file_in_the_place_of_an_open_one_is_noticed() {
        let path = temporary("place", &[1; 5000]);
        let open = || MappedSource::from_file("a.mp4", std::fs::File::open(&path).unwrap(), path.clone()).unwrap();
        let source = open();
        source.check().unwrap();
        // Of the same length and time: only that it is another one tells.
        let other = temporary("other", &[2; 5000]);
        let time = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::OpenOptions::new().write(true).open(&other).unwrap().set_modified(time).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(source.check().unwrap_err().to_string(), "a.mp4: the file changed while it was being read");
        assert_eq!(source.read(ByteRange { start: 0, len: 1 }).unwrap()[..], [1], "what was opened is still there");
        let source = open();
        source.check().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(source.check().is_err());
    }
}
