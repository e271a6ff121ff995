//! Caches C builds per machine and configuration, outside Cargo's profile folders.
//!
//! An entry is a folder `NAME-KEY` below [`root`]. It is built under a lock file, in a folder beside its place, and
//! appears by one rename, so that it is never incomplete. Entries are never changed afterwards.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::VendorError;
use crate::fetch::hex;

/// Where entries live: `$BUCKET_STREAMER_CACHE`, else `$XDG_CACHE_HOME/bucket-streamer`, else
/// `~/.cache/bucket-streamer`.
///
/// # Errors
/// [`VendorError::Unfit`] when none of the three variables is set.
pub fn root() -> Result<PathBuf, VendorError> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("BUCKET_STREAMER_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("bucket-streamer")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/bucket-streamer")))
        .ok_or_else(|| VendorError::Unfit("none of BUCKET_STREAMER_CACHE, XDG_CACHE_HOME and HOME is set".into()))
}

/// The key of a build: 16 hexadecimal digits of the SHA-256 over all of its inputs, with their lengths.
pub fn key<S: AsRef<str>>(parts: impl IntoIterator<Item = S>) -> String {
    let mut all = Sha256::new();
    for part in parts {
        let part = part.as_ref();
        // The length distinguishes ("ab", "c") from ("a", "bc").
        all.update(format!("{}:{part}\n", part.len()));
    }
    hex(&all.finalize())[..16].to_owned()
}

/// The entry `name-key`; if it is missing, `make` fills an empty folder first.
///
/// # Errors
/// Those of `make`, and [`VendorError::Io`].
pub fn entry(
    name: &str,
    key: &str,
    make: impl FnOnce(&Path) -> Result<(), VendorError>,
) -> Result<PathBuf, VendorError> {
    let root = root()?;
    let dir = root.join(format!("{name}-{key}"));
    if dir.is_dir() {
        return Ok(dir);
    }
    fs::create_dir_all(&root).map_err(VendorError::io(&root))?;
    let lock_path = root.join(format!("{name}-{key}.lock"));
    let lock = File::create(&lock_path).map_err(VendorError::io(&lock_path))?;
    lock.lock().map_err(VendorError::io(&lock_path))?;
    // Another process may have built it during the wait for the lock, which is released with the file handle.
    if dir.is_dir() {
        return Ok(dir);
    }
    let staging = root.join(format!("{name}-{key}.building"));
    let _ = fs::remove_dir_all(&staging);
    fs::create_dir(&staging).map_err(VendorError::io(&staging))?;
    make(&staging)?;
    fs::rename(&staging, &dir).map_err(VendorError::io(&dir))?;
    Ok(dir)
}

/// The present path of a folder of an entry: `.pc` files have the path at the time of writing, and a cache may have
/// been moved since.
///
/// # Errors
/// [`VendorError::Unfit`] if `written` is in no existing entry: it was then not built from the pinned sources.
pub fn relocated(written: &Path) -> Result<PathBuf, VendorError> {
    relocated_to(&root()?, written)
}

fn relocated_to(root: &Path, written: &Path) -> Result<PathBuf, VendorError> {
    let now = |ancestor: &Path| {
        let entry = root.join(ancestor.file_name()?);
        let folder = entry.join(written.strip_prefix(ancestor).ok()?);
        folder.is_dir().then_some(folder)
    };
    written
        .ancestors()
        .find_map(now)
        .ok_or_else(|| VendorError::Unfit(format!("{} is no folder of an entry of the cache", written.display())))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{key, relocated_to};

    #[test]
    fn a_folder_of_an_entry_is_found_after_the_cache_moved_and_one_outside_is_refused() {
        let root = std::env::temp_dir().join(format!("bucket-streamer-relocated-{}", std::process::id()));
        let lib = root.join("dav1d-0123/lib");
        fs::create_dir_all(&lib).unwrap();
        let found = |written: &str| relocated_to(&root, Path::new(written));
        assert_eq!(found("/home/other/.cache/bucket-streamer/dav1d-0123/lib").unwrap(), lib);
        assert_eq!(relocated_to(&root, &lib).unwrap(), lib);
        for outside in ["/usr/lib", "//lib", "lib", "/cache/dav1d-4567/lib", "/cache/dav1d-0123/lib64"] {
            assert!(found(outside).unwrap_err().to_string().contains(outside));
        }
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn keys_depend_on_every_part_and_on_where_parts_end() {
        let one = key(["ab", "c"]);
        assert_eq!(one, key(["ab", "c"]));
        assert_ne!(one, key(["a", "bc"]));
        assert_ne!(one, key(["ab", "c", ""]));
        assert_eq!(one.len(), 16);
    }
}
