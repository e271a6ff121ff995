//! Finds videos beneath a folder, a page at a time, in the order of their paths' bytes. The search keeps only as many
//! names as the page has, and skips folders that cannot contain any of them.

use std::collections::BinaryHeap;

use cap_std::fs::{Dir, MetadataExt};

use super::name::{has_extension, is_hidden, is_name, is_segment};
use bucket_streamer::source::open_files::with_room;

/// Most nested folders.
const DEEPEST: usize = 32;

/// Most links to folders on one path: with two links in each of many folders, the number of paths would explode.
const LINKS: usize = 4;

/// Most files and folders of one search.
const MOST: usize = 4_000_000;

/// The wanted videos.
#[derive(Clone, Copy)]
pub(super) struct Sought<'a> {
    /// Only paths after this one.
    pub(super) after: Option<&'a str>,
    /// Only paths with this prefix.
    pub(super) prefix: &'a str,
    /// Most paths: the first ones.
    pub(super) limit: usize,
    /// Whether any path will do instead of the first ones.
    pub(super) is_any: bool,
    /// First segments to skip.
    pub(super) leave_out: &'a dyn Fn(&str) -> bool,
}

/// The paths of the wanted videos. Whatever cannot be read is skipped.
pub(super) fn walk(root: &Dir, sought: Sought<'_>) -> Result<Vec<String>, String> {
    let mut walk = Walk { root, sought, found: BinaryHeap::new(), above: Vec::new(), looked: 0 };
    walk.folder(root, "", 0)?;
    Ok(walk.found.into_sorted_vec())
}

struct Walk<'a> {
    root: &'a Dir,
    sought: Sought<'a>,
    /// The first paths so far, the last of them on top.
    found: BinaryHeap<String>,
    /// The folders on the current path: device and inode. A link back to one of them would never end.
    above: Vec<(u64, u64)>,
    looked: usize,
}

impl Walk<'_> {
    /// Searches a folder. `path` is empty or ends with a slash; `links` is the number of links on it.
    fn folder(&mut self, dir: &Dir, path: &str, links: usize) -> Result<(), String> {
        let unread = |error| format!("its folder cannot be read ({error})");
        let identity = dir.dir_metadata().map(|it| (it.dev(), it.ino())).map_err(unread)?;
        if self.above.contains(&identity) || self.above.len() == DEEPEST {
            return Ok(());
        }
        let entries = with_room(|| dir.entries()).map_err(unread)?;
        self.above.push(identity);
        for entry in entries.flatten() {
            if self.sought.is_any && !self.found.is_empty() {
                break;
            }
            self.looked += 1;
            if self.looked > MOST {
                return Err(format!("it has more than {MOST} files and folders, too many to list"));
            }
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| is_segment(name) && !is_hidden(name)) else { continue };
            if path.is_empty() && (self.sought.leave_out)(name) {
                continue;
            }
            if let Ok(kind) = entry.file_type() {
                self.entry(&format!("{path}{name}"), name, Kind::of(kind), links)?;
            }
        }
        self.above.pop();
        Ok(())
    }

    fn entry(&mut self, path: &str, name: &str, kind: Kind, links: usize) -> Result<(), String> {
        let links = links + usize::from(matches!(kind, Kind::Link));
        let kind = match kind {
            // Links are resolved from the root on, as in opening.
            Kind::Link => self.root.metadata(path).map_or(Kind::Other, |metadata| Kind::of(metadata.file_type())),
            known => known,
        };
        match kind {
            Kind::File if has_extension(name) && self.wants(path) => {
                self.found.push(path.to_owned());
                if self.found.len() > self.sought.limit {
                    self.found.pop();
                }
            }
            Kind::Folder => {
                let path = format!("{path}/");
                if links <= LINKS && self.may_hold(&path) {
                    // A folder that cannot be read has no videos to list.
                    if let Ok(dir) = with_room(|| self.root.open_dir(&path)) {
                        let depth = self.above.len();
                        let looked = self.folder(&dir, &path, links);
                        self.above.truncate(depth);
                        return looked.or_else(|why| if self.looked > MOST { Err(why) } else { Ok(()) });
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn is_full_before(&self, path: &str) -> bool {
        self.found.len() == self.sought.limit && self.found.peek().is_some_and(|last| &last[..] < path)
    }

    fn wants(&self, path: &str) -> bool {
        let is_later = self.sought.after.is_none_or(|after| after < path);
        is_later && path.starts_with(self.sought.prefix) && !self.is_full_before(path) && is_name(path)
    }

    /// Whether a folder may contain wanted paths. Its path ends with a slash, and its content sorts in its place.
    fn may_hold(&self, path: &str) -> bool {
        let is_later = self.sought.after.is_none_or(|after| after < path || after.starts_with(path));
        let is_within = path.starts_with(self.sought.prefix) || self.sought.prefix.starts_with(path);
        is_later && is_within && !self.is_full_before(path)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    File,
    Folder,
    Link,
    Other,
}

impl Kind {
    fn of(kind: cap_std::fs::FileType) -> Kind {
        match kind {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Folder,
            kind if kind.is_symlink() => Kind::Link,
            _ => Kind::Other,
        }
    }
}
