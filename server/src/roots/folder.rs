//! A root in the file system. The system itself resolves paths beneath the folder (`openat2`, `RESOLVE_BENEATH`), so
//! that no other process can add a link that leads out of the folder between the check of a path and its use. Relative
//! links that stay beneath the folder are followed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf, absolute};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use nix::libc;

use super::no_such_video;
use super::walk::{PathQuery, walk};
use bucket_streamer::error::{Error, ErrorKind, Result};
use bucket_streamer::source::FileSource;
use bucket_streamer::source::open_files::retry_with_free_files;

/// Error codes of the system if no file has the name, or none can. Files other than regular ones count as absent.
const NOT_FOUND_CODES: [i32; 7] =
    [libc::ENOENT, libc::ENOTDIR, libc::ELOOP, libc::ENAMETOOLONG, libc::EINVAL, libc::ENXIO, libc::EXDEV];

#[derive(Debug)]
pub(super) struct FolderRoot {
    path: PathBuf,
}

impl FolderRoot {
    pub(super) fn new(path: &Path) -> std::result::Result<FolderRoot, String> {
        let shown = path.display();
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(format!("{shown} is not a folder")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(format!("the folder {shown} does not exist"));
            }
            Err(error) => return Err(format!("the folder {shown} cannot be read ({error})")),
        }
        let path = absolute(path).map_err(|error| format!("the path {shown} cannot be resolved ({error})"))?;
        Ok(FolderRoot { path })
    }

    /// Opens the folder. It is not kept open, because another file system may be mounted at its path.
    fn dir(&self) -> io::Result<Dir> {
        retry_with_free_files(|| open_dir(&self.path))
    }

    /// Whether the folder can be read.
    pub(super) fn is_readable(&self) -> bool {
        self.dir().is_ok_and(|dir| dir.entries().is_ok())
    }

    pub(super) fn open(&self, path: &str, video: &str) -> Result<FileSource> {
        let read = |error| Error::from(ErrorKind::Read(error)).of(video);
        let gone = |error: io::Error| read(io::Error::new(error.kind(), format!("its root cannot be read ({error})")));
        let dir = self.dir().map_err(gone)?;
        let absent = |error| if is_not_found(&error) { no_such_video(video) } else { read(error) };
        // Opening a device can have side effects.
        if !dir.metadata(path).map_err(absent)?.is_file() {
            return Err(no_such_video(video));
        }
        // The source may be closed to free descriptors: it is reopened the same way, beneath the folder.
        let (root, name) = (self.path.clone(), path.to_owned());
        let opened = FileSource::from_opener(video, self.path.join(path), move || open_file(&open_dir(&root)?, &name));
        opened.map_err(|error| match error.kind() {
            ErrorKind::Read(error) if is_not_found(error) => no_such_video(video),
            _ => error,
        })
    }

    /// Paths of videos, in the order of their bytes, with their lengths.
    pub(super) fn list(&self, query: PathQuery<'_>) -> std::result::Result<Vec<(String, Option<u64>)>, String> {
        let dir = self.dir().map_err(|error| format!("its folder cannot be read ({error})"))?;
        let found = walk(&dir, query)?;
        let len = |path: &String| dir.metadata(path).ok().map(|metadata| metadata.len());
        Ok(found.into_iter().map(|path| (len(&path), path)).map(|(len, path)| (path, len)).collect())
    }

    pub(super) fn has_videos(&self) -> bool {
        let query = PathQuery { after: None, prefix: "", limit: 1, is_any: true, leave_out: &|_| false };
        self.list(query).is_ok_and(|found| !found.is_empty())
    }
}

fn open_dir(path: &Path) -> io::Result<Dir> {
    Dir::open_ambient_dir(path, ambient_authority())
}

/// Opens a regular file. Non-blocking, because a pipe may have replaced it, and opening one waits for its writer.
fn open_file(dir: &Dir, path: &str) -> io::Result<File> {
    let options = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).clone();
    let file = dir.open_with(path, &options)?.into_std();
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// Whether an error means that no file has the name. A path that leads out of the folder results in an error without
/// a code.
fn is_not_found(error: &io::Error) -> bool {
    match error.raw_os_error() {
        Some(code) => NOT_FOUND_CODES.contains(&code),
        None => matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound),
    }
}
