//! Caches indexes on disk, so that the next process opens a video without analysing it. The format of the files is left
//! to `container/index`.
//!
//! The key is address, length, version and track, so that a replaced file has another one. A cache that cannot be read
//! or written costs requests, and never a frame.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::container::Index;
use crate::error::{Error, ErrorKind, Result};
use crate::session::engine::Engine;
use crate::session::video::Video;
use crate::source::{FileSource, Source};

/// Extension of the files.
const SUFFIX: &str = "bsindex";
/// The default limit in bytes.
const LIMIT: u64 = 1 << 30;

/// A folder of indexes. Processes may share it.
#[derive(Debug, Clone)]
pub struct IndexCache {
    folder: PathBuf,
    limit: u64,
}

impl IndexCache {
    /// The cache in a folder, which is created if missing. It keeps up to 1 GiB, and then deletes the least recently
    /// used files.
    ///
    /// # Errors
    /// `Write` if the folder does not exist and cannot be created.
    pub fn open(folder: impl Into<PathBuf>) -> Result<IndexCache> {
        let folder = folder.into();
        let failed = |error| ErrorKind::Write { path: folder.to_string_lossy().into_owned(), error };
        fs::create_dir_all(&folder).map_err(failed)?;
        Ok(IndexCache { folder, limit: LIMIT })
    }

    /// Sets the limit of all files together, in bytes; 1 GiB by default. It applies with the next index that is stored.
    #[must_use]
    pub fn limit(self, bytes: u64) -> IndexCache {
        IndexCache { limit: bytes, ..self }
    }

    /// Opens video track `track`, counted from 0, with its cached index, or as [`Engine::open`] and then stores the
    /// index. A source without an exact version ([`SourceVersion::Exact`](crate::source::SourceVersion::Exact)) is
    /// opened without the cache.
    ///
    /// # Errors
    /// Those of [`Engine::open`].
    pub fn open_video(&self, engine: &Engine, source: Arc<dyn Source>, track: usize) -> Result<Video> {
        let Some(path) = self.path(&*source, track) else { return engine.open(source, track) };
        if let Some(video) = open_cached(&path, engine, &source) {
            // The time of modification records the use.
            let _ = File::options().append(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
            return Ok(video);
        }
        let video = engine.open(source, track)?;
        if let Ok(index) = video.export_known_index() {
            self.write(&path, &index.to_bytes());
        }
        Ok(video)
    }

    /// Replaces the stored index of a video by one with more references. Without an exact version of the source it
    /// stores nothing. A write that fails is ignored: the cache only saves work.
    pub fn store(&self, video: &Video, index: &Index) {
        if let Some(path) = self.path(video.source(), index.track()) {
            self.write(&path, &index.to_bytes());
        }
    }

    /// The path of an index, whether it exists or not.
    fn path(&self, source: &dyn Source, track: usize) -> Option<PathBuf> {
        let mut hash = Sha256::new();
        for part in [source.name(), &source.version()?.exact()?, &source.len().to_string(), &track.to_string()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let name: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Some(self.folder.join(format!("{name}.{SUFFIX}")))
    }

    /// Writes a file atomically: concurrent writers do not mix.
    fn write(&self, path: &Path, bytes: &[u8]) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let partial = path.with_extension(format!("{}-{}.part", std::process::id(), NEXT.fetch_add(1, Relaxed)));
        if fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, path)).is_err() {
            let _ = fs::remove_file(&partial);
        }
        let _ = self.prune();
    }

    /// Deletes the least recently used files until the rest fits, and partial files of writers that died.
    fn prune(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)?.flatten() {
            let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else { continue };
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            match path.extension().and_then(|extension| extension.to_str()) {
                Some(SUFFIX) => files.push((used, metadata.len(), path)),
                Some("part") if used.elapsed().is_ok_and(|age| age.as_secs() > 3600) => fs::remove_file(path)?,
                _ => {}
            }
        }
        files.sort_unstable();
        let mut bytes: u64 = files.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in files {
            if bytes <= self.limit {
                break;
            }
            bytes -= len;
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// The video with the index at `path`; `None` if that is missing or cannot be used.
fn open_cached(path: &Path, engine: &Engine, source: &Arc<dyn Source>) -> Option<Video> {
    let index = Index::read(&FileSource::open(path).ok()?).ok()?;
    let video = engine.open_with_known_index(Arc::clone(source), &index);
    video.map_err(|_: Error| fs::remove_file(path)).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use super::{IndexCache, SUFFIX};
    use crate::Engine;
    use crate::source::{FileSource, Source};

    fn files(folder: &Path) -> Vec<std::path::PathBuf> {
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == SUFFIX));
        files
    }

    fn places(video: &crate::Video) -> Vec<(u64, u32, i64)> {
        video.track().samples.iter().map(|sample| (sample.offset, sample.size, sample.pts)).collect()
    }

    #[test]
    fn an_index_is_found_again_and_a_replaced_file_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let clip = folder.path().join("clip.ts");
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/hevc.ts");
        fs::copy(&fixture, &clip).unwrap();
        let cache = IndexCache::open(folder.path().join("cache")).unwrap();
        let engine = Engine::new(Some(1));
        let open = || {
            let source: Arc<dyn Source> = Arc::new(FileSource::open(&clip).unwrap());
            cache.open_video(&engine, source, 0).unwrap()
        };
        let (first, second) = (open(), open());
        assert!(second.opened_with().bytes == 0 && first.opened_with().bytes > 100_000, "{:?}", second.opened_with());
        assert_eq!(places(&first), places(&second));
        let kept = files(&cache.folder);
        assert_eq!(kept.len(), 1);
        // A damaged file is replaced.
        fs::write(&kept[0], b"no index").unwrap();
        assert_eq!(places(&open()), places(&first));
        assert_eq!(open().opened_with().bytes, 0);
        fs::write(&clip, fs::read(&fixture).unwrap()).unwrap();
        assert!(open().opened_with().bytes > 0);
        assert_eq!(files(&cache.folder).len(), 2);
        // Room for one file.
        let small = cache.clone().limit(fs::metadata(&kept[0]).unwrap().len() * 3 / 2);
        small.prune().unwrap();
        assert_eq!(files(&small.folder).len(), 1);
    }
}
