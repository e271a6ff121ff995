//! Files that are being written: a signal that ends the process leaves none of them behind.
//!
//! Files are written under a temporary name, listed here, and renamed. A thread waits for SIGINT, SIGTERM and SIGHUP,
//! removes the listed files, and ends the process by the same signal, even while the other threads wait.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use ffi::Termination;

static LISTED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn listed() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    LISTED.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// From now on, terminating signals first remove unfinished files. `main` calls this before other threads start: they
/// must not receive the signals.
pub(crate) fn remove_at_termination() {
    let termination = Termination::block();
    let wait = move || {
        let signal = termination.wait();
        // The lock is held to the end: no thread begins a new file.
        let files = listed();
        remove_all(&files);
        Termination::end(signal);
    };
    if let Err(error) = std::thread::Builder::new().name("termination".to_owned()).spawn(wait) {
        crate::console::say(&format!("bucket-streamer: cannot start the thread for signals: {error}"));
    }
}

fn remove_all(files: &BTreeSet<PathBuf>) {
    for file in files {
        let _ = fs::remove_file(file);
    }
}

/// A file being written. Dropping removes it.
#[derive(Debug)]
pub(crate) struct UnfinishedFile {
    path: PathBuf,
    is_finished: bool,
}

impl UnfinishedFile {
    /// A new file beside `target`, under a name of its own.
    pub(crate) fn beside(target: &Path) -> io::Result<(UnfinishedFile, File)> {
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(format!(".{}.part", std::process::id()));
        let path = target.with_file_name(name);
        let mut files = listed();
        // A taken name belongs to a killed process with the same process id. The entry, also a link, is removed and not
        // written to.
        let file = File::create_new(&path).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => fs::remove_file(&path).and_then(|()| File::create_new(&path)),
            _ => Err(error),
        })?;
        files.insert(path.clone());
        Ok((UnfinishedFile { path, is_finished: false }, file))
    }

    /// An existing file that is to be removed.
    #[cfg(feature = "bench")]
    pub(crate) fn existing(path: &Path) -> UnfinishedFile {
        listed().insert(path.to_owned());
        UnfinishedFile { path: path.to_owned(), is_finished: false }
    }

    /// Renames the file to its place.
    pub(crate) fn finish(mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for UnfinishedFile {
    fn drop(&mut self) {
        // During termination this waits for the lock, so failures that termination causes are not reported.
        let mut files = listed();
        files.remove(&self.path);
        if !self.is_finished {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::{UnfinishedFile, listed, remove_all};

    #[test]
    fn unfinished_files_are_removed_and_finished_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let names = || fs::read_dir(folder.path()).unwrap().count();
        let place = |name: &str| folder.path().join(name);
        let (done, mut file) = UnfinishedFile::beside(&place("done")).unwrap();
        file.write_all(b"whole").unwrap();
        done.finish(&place("done")).unwrap();
        assert_eq!((names(), fs::read(place("done")).unwrap()), (1, b"whole".to_vec()));

        let (given_up, _) = UnfinishedFile::beside(&place("given_up")).unwrap();
        assert_eq!(names(), 2);
        drop(given_up);
        assert_eq!(names(), 1);

        let (in_work, _) = UnfinishedFile::beside(&place("in_work")).unwrap();
        // Only this test's files: other tests run beside it.
        let ours = listed().iter().filter(|path| path.starts_with(folder.path())).cloned().collect();
        remove_all(&ours);
        assert_eq!(names(), 1, "the signal thread removes it");
        drop(in_work);
    }

    #[test]
    fn an_existing_temporary_file_is_removed_and_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, b"precious").unwrap();
        let taken = folder.path().join(format!(".still.{}.part", std::process::id()));
        std::os::unix::fs::symlink(&victim, &taken).unwrap();
        let (still, mut file) = UnfinishedFile::beside(&folder.path().join("still")).unwrap();
        file.write_all(b"other").unwrap();
        still.finish(&folder.path().join("still")).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert_eq!(fs::read(folder.path().join("still")).unwrap(), b"other");
    }
}
