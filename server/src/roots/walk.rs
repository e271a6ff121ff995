//! Finds videos beneath a folder, one page at a time, sorted by the bytes of their paths. The search keeps no more
//! names than the page has, and skips folders that cannot contain any of them.

use std::collections::BinaryHeap;

use cap_std::fs::{Dir, MetadataExt};

use super::name::{has_extension, is_hidden, is_name, is_segment};
use bucket_streamer::source::open_files::retry_with_free_files;

/// Most nested folders.
const DEEPEST: usize = 32;

/// Most links to folders on one path: with two links in each of many folders, the number of paths grows exponentially.
const LINKS: usize = 4;

/// Most files and folders that one search visits.
const MOST: usize = 4_000_000;

/// The paths that a search is for.
#[derive(Clone, Copy)]
pub(super) struct PathQuery<'a> {
    /// Only paths after this one.
    pub(super) after: Option<&'a str>,
    /// Only paths with this prefix.
    pub(super) prefix: &'a str,
    /// Most paths; the first ones in order are found.
    pub(super) limit: usize,
    /// Any paths suffice instead of the first ones: the search ends at the first match.
    pub(super) is_any: bool,
    /// First segments to skip.
    pub(super) leave_out: &'a dyn Fn(&str) -> bool,
}

/// The matching paths, sorted. Subfolders that cannot be read are skipped.
///
/// # Errors
/// One line: the root cannot be read, or it has too many files and folders.
pub(super) fn walk(root: &Dir, query: PathQuery<'_>) -> Result<Vec<String>, String> {
    let mut walk = FolderWalk { root, query, found: BinaryHeap::new(), ancestors: Vec::new(), visited: 0 };
    walk.folder(root, "", 0)?;
    Ok(walk.found.into_sorted_vec())
}

struct FolderWalk<'a> {
    root: &'a Dir,
    query: PathQuery<'a>,
    /// The first matching paths so far; the last of them is on top.
    found: BinaryHeap<String>,
    /// Device and inode of the folders on the current path. A link back to one of them is a cycle.
    ancestors: Vec<(u64, u64)>,
    visited: usize,
}

impl FolderWalk<'_> {
    /// Searches a folder. `path` is empty or ends with a slash; `links` is the number of links on the path.
    fn folder(&mut self, dir: &Dir, path: &str, links: usize) -> Result<(), String> {
        let unread = |error| format!("its folder cannot be read ({error})");
        let identity = dir.dir_metadata().map(|it| (it.dev(), it.ino())).map_err(unread)?;
        if self.ancestors.contains(&identity) || self.ancestors.len() == DEEPEST {
            return Ok(());
        }
        let entries = retry_with_free_files(|| dir.entries()).map_err(unread)?;
        self.ancestors.push(identity);
        for entry in entries.flatten() {
            if self.query.is_any && !self.found.is_empty() {
                break;
            }
            self.visited += 1;
            if self.visited > MOST {
                return Err(format!("it has more than {MOST} files and folders, too many to list"));
            }
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| is_segment(name) && !is_hidden(name)) else { continue };
            if path.is_empty() && (self.query.leave_out)(name) {
                continue;
            }
            if let Ok(kind) = entry.file_type() {
                self.entry(&format!("{path}{name}"), name, EntryKind::of(kind), links)?;
            }
        }
        self.ancestors.pop();
        Ok(())
    }

    fn entry(&mut self, path: &str, name: &str, kind: EntryKind, links: usize) -> Result<(), String> {
        let links = links + usize::from(matches!(kind, EntryKind::Link));
        let kind = match kind {
            // Links are resolved from the root, as when a video is opened.
            EntryKind::Link => {
                self.root.metadata(path).map_or(EntryKind::Other, |metadata| EntryKind::of(metadata.file_type()))
            }
            known => known,
        };
        match kind {
            EntryKind::File if has_extension(name) && self.is_match(path) => {
                self.found.push(path.to_owned());
                if self.found.len() > self.query.limit {
                    self.found.pop();
                }
            }
            EntryKind::Folder => {
                let path = format!("{path}/");
                if links <= LINKS && self.may_contain(&path) {
                    // A folder that cannot be read has no videos to list.
                    if let Ok(dir) = retry_with_free_files(|| self.root.open_dir(&path)) {
                        let depth = self.ancestors.len();
                        let result = self.folder(&dir, &path, links);
                        self.ancestors.truncate(depth);
                        return result.or_else(|why| if self.visited > MOST { Err(why) } else { Ok(()) });
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn is_full_before(&self, path: &str) -> bool {
        self.found.len() == self.query.limit && self.found.peek().is_some_and(|last| &last[..] < path)
    }

    fn is_match(&self, path: &str) -> bool {
        let is_later = self.query.after.is_none_or(|after| after < path);
        is_later && path.starts_with(self.query.prefix) && !self.is_full_before(path) && is_name(path)
    }

    /// Whether a folder may contain matching paths. `path` ends with a slash: the content of the folder sorts directly
    /// after it.
    fn may_contain(&self, path: &str) -> bool {
        let is_later = self.query.after.is_none_or(|after| after < path || after.starts_with(path));
        let is_within = path.starts_with(self.query.prefix) || self.query.prefix.starts_with(path);
        is_later && is_within && !self.is_full_before(path)
    }
}

#[derive(Clone, Copy)]
enum EntryKind {
    File,
    Folder,
    Link,
    Other,
}

impl EntryKind {
    fn of(kind: cap_std::fs::FileType) -> EntryKind {
        match kind {
            kind if kind.is_file() => EntryKind::File,
            kind if kind.is_dir() => EntryKind::Folder,
            kind if kind.is_symlink() => EntryKind::Link,
            _ => EntryKind::Other,
        }
    }
}
