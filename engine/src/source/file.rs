//! Local files: mapped if the program has installed the handler of SIGBUS ([`process::map_files`]), else read with
//! `pread`.
//!
//! A mapped file is read without a copy, but a page behind the end of a file that another process has cut raises
//! SIGBUS. Without the handler the signal would end the program; so each range is read into memory of its own, and a
//! cut file is a short read. How many files stay open is left to `open_files`.

use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::SystemTime;

use bytes::Bytes;
use ffi::{PADDING, PaddedBytes};
use nix::libc;

use super::open_files::{FileSlot, OpenFile, OpenFilePermit, is_exhausted, retry_with_free_files};
use super::{ByteRange, ReadCounters, Source, SourceVersion, check_bounds, padded_view};
use crate::error::{Error, ErrorKind, Result};
use crate::process::{self, Owner};

/// A local file. Its bytes stay valid after the source is dropped. Once the file is cut, [`Source::check`] fails. A
/// read past the cut returns zeros where the file is mapped, and [`ErrorKind::Changed`] where it is not; the process
/// continues in both cases.
///
/// Files opened after [`process::map_files`] are mapped. A file opened before is read.
///
/// A source closes its file when other files need the descriptor or the mapping (see [`super::open_files()`]), and
/// opens it again at the next read. If the path then names another file, or none, the read fails with
/// [`ErrorKind::Changed`]. A deleted file stays readable as long as it is open.
#[derive(Debug)]
pub struct FileSource {
    name: Arc<str>,
    slot: Arc<FileSlot>,
    is_mapped: bool,
    reopen_method: ReopenMethod,
    /// The path of the file that [`Source::check`] compares with the opened one; `None` if it examines the open file.
    lookup_path: Option<PathBuf>,
    identity: FileIdentity,
    counters: ReadCounters,
    owner: Owner,
}

/// How a closed file is opened again.
#[derive(Clone)]
enum ReopenMethod {
    Path(PathBuf),
    Opener(Arc<dyn Fn() -> io::Result<File> + Send + Sync>),
    /// It is never closed.
    None,
}

impl fmt::Debug for ReopenMethod {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReopenMethod::Path(path) => formatter.debug_tuple("Path").field(path).finish(),
            ReopenMethod::Opener(_) => formatter.write_str("Opener"),
            ReopenMethod::None => formatter.write_str("None"),
        }
    }
}

/// Identifies a file and its state. A file that was replaced, or has changed, has another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
    len: u64,
    modified: Option<SystemTime>,
}

impl FileSource {
    /// Opens a regular file.
    ///
    /// # Errors
    /// `Read` with the system's error; a directory, a socket or a pipe is no video file.
    pub fn open(path: impl AsRef<Path>) -> Result<FileSource> {
        FileSource::open_with(path.as_ref(), process::maps_files())
    }

    fn open_with(path: &Path, is_mapped: bool) -> Result<FileSource> {
        let name: Arc<str> = path.to_string_lossy().into();
        let fail = |error: io::Error| Error::from(ErrorKind::Read(error)).of(&name);
        // Examined first: to open a pipe would wait for its other end.
        let kind = std::fs::metadata(path).map_err(fail)?.file_type();
        if !kind.is_file() {
            let what = if kind.is_dir() { "a directory, not a file" } else { "not a regular file" };
            return Err(fail(io::Error::other(what)));
        }
        // Before the file is opened: the permit closes others to make room.
        let permit = OpenFilePermit::take();
        let file = retry_with_free_files(|| open_regular(path)).map_err(fail)?;
        // Absolute, since the current folder may be another one when the file is opened again.
        let reopen_method = std::path::absolute(path).map_or(ReopenMethod::None, ReopenMethod::Path);
        FileSource::new(&name, (file, permit), None, reopen_method, is_mapped)
    }

    /// A file that is open for reading, called `name` in messages. [`Source::check`] fails once another file, or none,
    /// lies at `lookup_path`. Nothing is ever read from there: the file stays open as long as the source;
    /// only sources of [`FileSource::open`] and [`FileSource::from_opener`] may close and reopen theirs.
    ///
    /// # Errors
    /// As [`FileSource::open`].
    pub fn from_file(name: &str, file: File, lookup_path: PathBuf) -> Result<FileSource> {
        FileSource::new(
            name,
            (file, OpenFilePermit::take()),
            Some(lookup_path),
            ReopenMethod::None,
            process::maps_files(),
        )
    }

    /// The file that `open` opens, as in [`FileSource::from_file`]. The source may close it when other files need the
    /// descriptor; it then calls `open` again, and accepts the result only if it is the same file.
    ///
    /// # Errors
    /// As [`FileSource::open`]; `Read` with the error of `open`.
    pub fn from_opener(
        name: &str,
        lookup_path: PathBuf,
        open: impl Fn() -> io::Result<File> + Send + Sync + 'static,
    ) -> Result<FileSource> {
        let permit = OpenFilePermit::take();
        let file = retry_with_free_files(&open).map_err(|error| Error::from(ErrorKind::Read(error)).of(name))?;
        FileSource::new(
            name,
            (file, permit),
            Some(lookup_path),
            ReopenMethod::Opener(Arc::new(open)),
            process::maps_files(),
        )
    }

    fn new(
        name: &str,
        (file, permit): (File, OpenFilePermit),
        lookup_path: Option<PathBuf>,
        reopen_method: ReopenMethod,
        is_mapped: bool,
    ) -> Result<FileSource> {
        let fail = |error: io::Error| Error::from(ErrorKind::Read(error)).of(name);
        let metadata = file.metadata().map_err(fail)?;
        if !metadata.is_file() {
            return Err(fail(io::Error::other("not a regular file")));
        }
        let identity = FileIdentity::of(&metadata);
        let broken = Arc::default();
        let file = OpenFile::new(file, is_mapped.then_some(identity.len), &broken, permit).map_err(fail)?;
        if file.bytes.as_ref().is_some_and(|bytes| bytes.len() as u64 != identity.len) {
            return Err(Error::from(ErrorKind::Changed).of(name));
        }
        let slot = FileSlot::new(file, broken, !matches!(reopen_method, ReopenMethod::None));
        let (counters, owner) = (ReadCounters::default(), Owner::current());
        Ok(FileSource { name: name.into(), slot, is_mapped, reopen_method, lookup_path, identity, counters, owner })
    }

    /// The file, opened again if it was closed.
    fn file(&self) -> Result<Arc<OpenFile>> {
        self.check_process()?;
        self.slot.get(|permit| self.open_again(permit, &self.slot.broken))
    }

    fn check_process(&self) -> Result<()> {
        self.owner.check().map_err(|error| error.of(&self.name))
    }

    fn open_again(&self, permit: OpenFilePermit, broken: &Arc<AtomicBool>) -> Result<OpenFile> {
        let changed = || Error::from(ErrorKind::Changed).of(&self.name);
        let file = retry_with_free_files(|| match &self.reopen_method {
            ReopenMethod::Path(path) => {
                // The path may name a pipe by now.
                let is_same = FileIdentity::of(&std::fs::metadata(path)?) == self.identity;
                if is_same { open_regular(path) } else { Err(io::ErrorKind::NotFound.into()) }
            }
            ReopenMethod::Opener(open) => open(),
            ReopenMethod::None => {
                self.slot.kept.as_ref().map_or(Err(io::ErrorKind::NotFound.into()), |open| open.file.try_clone())
            }
        });
        // Examines the path, not the open file: the slot is locked.
        let lies_there = || self.in_place().is_ok_and(|metadata| FileIdentity::of(&metadata) == self.identity);
        let failed = |error: io::Error| match is_exhausted(&error) || lies_there() {
            true => Error::from(ErrorKind::Read(error)).of(&self.name),
            false => changed(),
        };
        let file = file.map_err(failed)?;
        if FileIdentity::of(&file.metadata().map_err(failed)?) != self.identity {
            return Err(changed());
        }
        let len = self.is_mapped.then_some(self.identity.len);
        let file = OpenFile::new(file, len, broken, permit).map_err(failed)?;
        let is_whole = file.bytes.as_ref().is_none_or(|bytes| bytes.len() as u64 == self.identity.len);
        if is_whole { Ok(file) } else { Err(changed()) }
    }

    /// Whether the file is mapped, not read.
    pub fn is_mapped(&self) -> bool {
        self.is_mapped
    }

    /// Reads a range within the length at opening, with capacity for `padding` zeros.
    fn copy(&self, file: &File, range: ByteRange, padding: usize) -> Result<Bytes> {
        let len = range.len as usize;
        let mut bytes = Vec::new();
        // The length comes from the container: it may exceed the memory.
        let no_memory = |_| Error::from(ErrorKind::Read(io::ErrorKind::OutOfMemory.into())).of(&self.name);
        bytes.try_reserve_exact(len + padding).map_err(no_memory)?;
        bytes.resize(len + padding, 0);
        file.read_exact_at(&mut bytes[..len], range.start).map_err(|error| {
            let is_cut = error.kind() == io::ErrorKind::UnexpectedEof;
            if is_cut {
                // Recorded, since the file may have grown back by the next check.
                self.slot.broken.store(true, Relaxed);
            }
            Error::from(if is_cut { ErrorKind::Changed } else { ErrorKind::Read(error) }).of(&self.name)
        })?;
        Ok(bytes.into())
    }

    fn copy_padded(&self, file: &File, range: ByteRange) -> Result<PaddedBytes> {
        check_bounds(range, self.len())?;
        self.counters.read(range.len);
        self.counters.copy(range.len as usize);
        let bytes = self.copy(file, range, PADDING)?;
        Ok(PaddedBytes::view(bytes, range.len as usize).expect("read with its padding"))
    }

    /// Whether the file, or the one at `lookup_path`, has the identity that was opened.
    fn is_same(&self) -> bool {
        self.now().is_ok_and(|metadata| FileIdentity::of(&metadata) == self.identity)
    }

    /// The metadata of the file that the name stands for: with a `lookup_path`, of the file there, which may be another
    /// one. One system call.
    fn now(&self) -> io::Result<Metadata> {
        match self.slot.peek().filter(|_| self.lookup_path.is_none()) {
            Some(open) => open.file.metadata(),
            None => self.in_place(),
        }
    }

    /// The metadata of the file at the path.
    fn in_place(&self) -> io::Result<Metadata> {
        match (&self.lookup_path, &self.reopen_method) {
            (Some(place), _) | (None, ReopenMethod::Path(place)) => std::fs::metadata(place),
            (None, _) => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// Opens a file that was regular when it was examined. If it is a pipe by now, this does not wait for its other end.
fn open_regular(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

impl FileIdentity {
    fn of(metadata: &Metadata) -> FileIdentity {
        FileIdentity {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }
}

impl Source for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.identity.len
    }

    fn read(&self, range: ByteRange) -> Result<Bytes> {
        check_bounds(range, self.len())?;
        let file = self.file()?;
        self.counters.read(range.len);
        match &file.bytes {
            Some(bytes) => Ok(bytes.slice(range.start as usize..range.end() as usize)),
            None => self.copy(&file.file, range, 0),
        }
    }

    fn read_padded(&self, range: ByteRange) -> Result<PaddedBytes> {
        let file = self.file()?;
        match &file.bytes {
            Some(bytes) => padded_view(bytes, range, &self.counters),
            None => self.copy_padded(&file.file, range),
        }
    }

    fn read_zero_padded(&self, range: ByteRange) -> Result<PaddedBytes> {
        if !self.is_mapped {
            // `pread` pads with zeros.
            return self.read_padded(range);
        }
        let bytes = self.read(range)?;
        self.counters.copy(bytes.len());
        Ok(PaddedBytes::copy_of(&[&bytes]))
    }

    fn check(&self) -> Result<()> {
        self.check_process()?;
        if self.slot.is_broken() || !self.is_same() {
            Err(Error::from(ErrorKind::Changed).of(&self.name))
        } else {
            Ok(())
        }
    }

    /// The time of the last change: exact if it has a fraction of a second.
    fn version(&self) -> Option<SourceVersion> {
        let time = self.identity.modified?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let (seconds, nanos) = (time.as_secs(), time.subsec_nanos());
        Some(match nanos {
            0 => SourceVersion::Approximate(format!("modified {seconds}")),
            _ => SourceVersion::Exact(format!("modified {seconds}.{nanos:09}")),
        })
    }

    fn reopen(&self) -> Result<Arc<dyn Source>> {
        let broken = Arc::default();
        let file = self.open_again(OpenFilePermit::take(), &broken)?;
        let (reopen_method, may_close) =
            (self.reopen_method.clone(), !matches!(self.reopen_method, ReopenMethod::None));
        Ok(Arc::new(FileSource {
            name: Arc::clone(&self.name),
            slot: FileSlot::new(file, broken, may_close),
            is_mapped: self.is_mapped,
            reopen_method,
            lookup_path: self.lookup_path.clone(),
            identity: self.identity,
            counters: ReadCounters::default(),
            owner: Owner::current(),
        }))
    }

    fn counters(&self) -> &ReadCounters {
        &self.counters
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use super::FileSource;
    use crate::error::ErrorKind;
    use crate::process;
    use crate::source::{ByteRange, Source, conformance};

    fn temporary(name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("bucket-streamer-{name}-{}", std::process::id()));
        std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
        path
    }

    fn open(path: &Path, is_mapped: bool) -> FileSource {
        if is_mapped {
            process::map_files().unwrap();
        }
        let source = FileSource::open_with(path, is_mapped).unwrap();
        assert_eq!(source.is_mapped(), is_mapped);
        source
    }

    #[test]
    fn conforms() {
        let path = temporary("conforms", &conformance::bytes());
        for is_mapped in [true, false] {
            let source = open(&path, is_mapped);
            conformance::local(&source);
            let (before, inside) = (source.counters().now(), ByteRange { start: 10, len: 100 });
            let data = source.read_padded(inside).unwrap();
            assert_eq!(data.data(), &conformance::bytes()[10..110]);
            assert_eq!(source.counters().now().copied - before.copied, if is_mapped { 0 } else { 100 });
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn directories_and_missing_files_are_errors_and_an_empty_file_is_empty() {
        assert!(FileSource::open(std::env::temp_dir()).unwrap_err().to_string().contains("a directory"));
        assert!(FileSource::open("/nowhere/at all").unwrap_err().to_string().starts_with("/nowhere/at all: "));
        let path = temporary("empty", b"");
        for is_mapped in [true, false] {
            let source = open(&path, is_mapped);
            assert!(source.is_empty() && source.read(ByteRange { start: 0, len: 0 }).unwrap().is_empty());
            assert!(source.read(ByteRange { start: 0, len: 1 }).is_err());
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_truncated_or_changed_file_fails_the_check_and_nothing_crashes() {
        for is_mapped in [true, false] {
            let path = temporary("cut", &vec![9; 50_000]);
            let time = std::fs::metadata(&path).unwrap().modified().unwrap();
            let source = open(&path, is_mapped);
            source.check().unwrap();
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(100).unwrap();
            let beyond = ByteRange { start: 40_000, len: 10 };
            match is_mapped {
                true => assert_eq!(source.read(beyond).unwrap()[..], [0; 10]),
                false => {
                    let reads = [source.read(beyond).map(drop), source.read_padded(beyond).map(drop)];
                    for read in reads.into_iter().chain([source.read_zero_padded(beyond).map(drop)]) {
                        assert!(matches!(read.unwrap_err().kind(), ErrorKind::Changed));
                    }
                }
            }
            assert_eq!(source.read(ByteRange { start: 0, len: 100 }).unwrap()[..], [9; 100], "the rest stays readable");
            assert!(source.check().is_err());
            // As if nothing had happened.
            file.set_len(50_000).unwrap();
            file.set_modified(time).unwrap();
            assert!(source.check().is_err(), "grown back is not the same file");
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn another_file_in_the_place_of_an_open_one_is_noticed() {
        let path = temporary("place", &[1; 5000]);
        let open = || FileSource::from_file("a.mp4", std::fs::File::open(&path).unwrap(), path.clone()).unwrap();
        let source = open();
        source.check().unwrap();
        // Same length and time: only the identity differs.
        let other = temporary("other", &[2; 5000]);
        let time = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::OpenOptions::new().write(true).open(&other).unwrap().set_modified(time).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(source.check().unwrap_err().to_string(), "a.mp4: the file changed while it was being read");
        assert_eq!(source.read(ByteRange { start: 0, len: 1 }).unwrap()[..], [1], "the opened file stays readable");
        let source = open();
        source.check().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(source.check().is_err());
    }

    #[test]
    fn a_file_that_is_closed_for_others_is_opened_again_and_views_of_it_stay() {
        let path = temporary("closed", &conformance::bytes());
        let opener = {
            let path = path.clone();
            move || std::fs::File::open(&path)
        };
        let sources =
            [open(&path, true), open(&path, false), FileSource::from_opener("a.mp4", path.clone(), opener).unwrap()];
        for source in &sources {
            let view = source.read_padded(ByteRange { start: 1000, len: 100 }).unwrap();
            assert!(source.slot.close() && !source.slot.close() && source.slot.peek().is_none());
            source.check().unwrap();
            assert_eq!(view.data(), &conformance::bytes()[1000..1100]);
            conformance::local(source);
            assert!(source.slot.peek().is_some());
            source.slot.close();
            source.check().unwrap();
        }
        // Deleted while open: still readable. While closed: another file, or none.
        let [first, second, third] = &sources;
        for source in [first, second] {
            source.read(ByteRange { start: 0, len: 1 }).unwrap();
        }
        std::fs::remove_file(&path).unwrap();
        for source in [first, second] {
            source.check().unwrap();
        }
        let other = temporary("closed", &conformance::bytes());
        sources.iter().for_each(|source| _ = source.slot.close());
        for source in [first, second, third] {
            let error = source.read(ByteRange { start: 0, len: 1 }).unwrap_err();
            assert!(error.to_string().ends_with("the file changed while it was being read"), "{error}");
            assert!(source.check().is_err());
        }
        std::fs::remove_file(other).unwrap();
        assert!(first.read(ByteRange { start: 0, len: 1 }).is_err() && first.check().is_err());
    }

    #[test]
    fn a_truncation_is_known_though_its_map_was_closed_or_has_gone() {
        let bytes = vec![9; 50_000];
        for is_held in [true, false] {
            let path = temporary("cut-closed", &bytes);
            let time = std::fs::metadata(&path).unwrap().modified().unwrap();
            let source = open(&path, true);
            let view = source.read(ByteRange { start: 40_000, len: 10 }).unwrap();
            source.slot.close();
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(100).unwrap();
            assert_eq!(view[..], [0; 10]);
            // As if nothing had happened: only the map shows the cut.
            std::fs::write(&path, &bytes).unwrap();
            file.set_modified(time).unwrap();
            let view = Some(view).filter(|_| is_held);
            assert!(source.check().is_err(), "{is_held}");
            drop((view, source));
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn threads_that_read_while_files_are_closed_read_the_same() {
        let paths: Vec<_> = (1..=4_u8).map(|byte| temporary(&format!("many-{byte}"), &[byte; 9000])).collect();
        let is_mapped = [true, false].into_iter().cycle();
        let sources: Vec<_> = paths.iter().zip(is_mapped).map(|(path, is_mapped)| open(path, is_mapped)).collect();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for round in 0..2000 {
                        let source = &sources[round % 4];
                        let read = source.read(ByteRange { start: 4000, len: 4000 }).unwrap();
                        assert!(read.iter().all(|&byte| usize::from(byte) == round % 4 + 1));
                        source.check().unwrap();
                    }
                });
            }
            scope.spawn(|| (0..2000).for_each(|round| _ = sources[round % 4].slot.close()));
        });
        paths.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }
}
