//! Videos beneath a folder, some at a time in the order of their paths' bytes. A walk keeps only as many names as were asked
//! for, however many there are, and looks into no folder that cannot have any of them.

use std::collections::BinaryHeap;

use cap_std::fs::{Dir, MetadataExt};

use super::name::{has_extension, is_hidden, is_name, is_segment};
use bucket_streamer::source::open_files::with_room;

/// So deep folders are looked into.
const DEEPEST: usize = 32;

/// So many links to folders are followed, one below the other: with two at each of many crossings there is no end to ways.
const LINKS: usize = 4;

/// So many files and folders are looked at.
const MOST: usize = 4_000_000;

/// Which videos are wanted.
#[derive(Clone, Copy)]
pub(super) struct Sought<'a> {
    /// Only what comes after that.
    pub(super) after: Option<&'a str>,
    /// Only what begins like that.
    pub(super) prefix: &'a str,
    /// So many, the first ones.
    pub(super) limit: usize,
    /// Any of them will do instead of the first ones.
    pub(super) is_any: bool,
    /// What must not be the first segment.
    pub(super) leave_out: &'a dyn Fn(&str) -> bool,
}

/// Paths of the videos that are sought. What cannot be read is as if it were not there.
pub(super) fn walk(root: &Dir, sought: Sought<'_>) -> Result<Vec<String>, String> {
    let mut walk = Walk { root, sought, found: BinaryHeap::new(), above: Vec::new(), looked: 0 };
    walk.folder(root, "", 0)?;
    Ok(walk.found.into_sorted_vec())
}

struct Walk<'a> {
    root: &'a Dir,
    sought: Sought<'a>,
    /// The first ones so far, the last of them on top.
    found: BinaryHeap<String>,
    /// The folders that the walk is in: device and inode. A link back to one of them would have no end.
    above: Vec<(u64, u64)>,
    looked: usize,
}

impl Walk<'_> {
    /// Looks into a folder. `path` is empty or ends with a slash, and goes through so many links.
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
                return Err(format!("it has more than {MOST} files: too many to be listed"));
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
            // Links are followed from the root on, as whoever opens them does.
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
                    // One that cannot be read has nothing to be listed.
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

    /// May a folder have anything that is sought? Its path ends with a slash: all in it comes where that would come.
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
