//! Lists the videos of all roots in one order, in pages: by the root's name, then by the bytes of the path. The last
//! name of a page is the begin of the next one, so that videos which come and go in between move no others.

use super::walk::Sought;
use super::{Clients, Place, Root, Roots, bundled, name};

/// The most videos of one page.
const LONGEST: usize = 10_000;

/// A page of videos.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The videos, in order.
    pub videos: Vec<Listed>,
    /// The value of `after` for the next page, if there may be one: usually the last video's name. A page may have
    /// fewer videos than the limit, or none, and yet not be the last.
    pub next: Option<String>,
    /// Names of roots whose videos belong here and cannot be listed, with the reasons.
    pub unlisted: Vec<(String, String)>,
}

/// A video in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name that opens it.
    pub name: String,
    /// Its length, if known.
    pub size_bytes: Option<u64>,
}

/// The part of a page from one root: paths in order, with lengths.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) videos: Vec<(String, Option<u64>)>,
    /// The search ended at this path, though there are more.
    pub(super) looked_until: Option<String>,
}

/// A part of a root: the content of a folder, or a video. The order is that of listings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Within {
    /// The name of the root.
    pub(crate) root: String,
    /// The path in the root, without a slash at the end; empty for the whole root.
    pub(crate) path: String,
}

impl Within {
    /// Whether that path of that root belongs to this part.
    pub(crate) fn has(&self, root: &str, path: &str) -> bool {
        let rest = path.strip_prefix(&self.path[..]);
        self.root == root && (self.path.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }

    /// The ranges of its paths in listings: the one video of that path, and the paths beneath a folder of that path.
    fn ranges(&self) -> Vec<Range<'_>> {
        let root = &self.root[..];
        let range = |prefix: String, is_one| Range { root, prefix, is_one };
        match &self.path[..] {
            "" => vec![range(String::new(), false)],
            path if name::is_video(path) => vec![range(path.to_owned(), true), range(format!("{path}/"), false)],
            path => vec![range(format!("{path}/"), false)],
        }
    }
}

/// Consecutive paths of one root.
struct Range<'a> {
    root: &'a str,
    prefix: String,
    /// Only the path that equals the prefix.
    is_one: bool,
}

impl Roots {
    /// At most `limit` videos (1 to 10 000) whose names come after `after` and begin with `prefix`. A root that cannot
    /// be listed does not fail the listing: it is among the unlisted.
    pub fn list(&self, after: Option<&str>, limit: usize, prefix: Option<&str>) -> Listing {
        let all = self.roots.iter().map(|root| Range { root: &root.name, prefix: String::new(), is_one: false });
        self.list_ranges(&all.collect::<Vec<_>>(), after, limit, prefix)
    }

    /// The same for videos within these parts only. No part lies within another.
    pub(crate) fn list_within(
        &self,
        within: &[Within],
        after: Option<&str>,
        limit: usize,
        prefix: Option<&str>,
    ) -> Listing {
        let mut ranges: Vec<Range<'_>> = within.iter().flat_map(Within::ranges).collect();
        ranges.sort_by(|one, other| (one.root, &one.prefix).cmp(&(other.root, &other.prefix)));
        self.list_ranges(&ranges, after, limit, prefix)
    }

    fn list_ranges(&self, ranges: &[Range<'_>], after: Option<&str>, limit: usize, prefix: Option<&str>) -> Listing {
        let limit = limit.clamp(1, LONGEST);
        let after = after.map(|after| self.place_of(after));
        let mut listing = Listing::default();
        for range in ranges {
            let Some(root) = self.named(range.root) else { continue };
            let after = match after {
                Some((name, _)) if root.name[..] < *name => continue,
                Some((name, path)) if root.name == name => Some(path),
                _ => None,
            };
            let prefix = root.prefix_within(prefix.unwrap_or_default());
            let Some(prefix) = prefix.and_then(|prefix| range.narrowed(prefix)) else { continue };
            // One more than fits shows whether there is a next page.
            let room = if range.is_one { 1 } else { limit + 1 - listing.videos.len() };
            let shadows = |first: &str| root.name.is_empty() && self.named(first).is_some();
            let sought = Sought { after, prefix, limit: room, is_any: false, leave_out: &shadows };
            match root.list(&self.clients, sought) {
                Err(why) => {
                    if listing.unlisted.iter().all(|(name, _)| *name != root.name) {
                        listing.unlisted.push((root.name.clone(), why));
                    }
                }
                Ok(found) => {
                    let videos = found.videos.into_iter().filter(|(path, _)| !range.is_one || *path == range.prefix);
                    let listed = |(path, size_bytes): (String, _)| Listed { name: root.public(&path), size_bytes };
                    listing.videos.extend(videos.map(listed));
                    let looked_until = found.looked_until.filter(|_| !range.is_one);
                    listing.next = looked_until.map(|path| format!("{}/{path}", root.name));
                }
            }
            if listing.videos.len() > limit {
                listing.videos.truncate(limit);
                listing.next = listing.videos.last().map(|last| last.name.clone());
            }
            if listing.next.is_some() {
                break;
            }
        }
        listing
    }

    /// The place in the order of a page's end: the name of a root, and a path. A name that begins with a slash is no
    /// video's: it is a place in the unnamed root, whatever the other roots.
    fn place_of<'a>(&self, after: &'a str) -> (&'a str, &'a str) {
        let (first, rest) = after.split_once('/').unwrap_or((after, ""));
        match self.named(first).is_some() || self.named("").is_none() {
            true => (first, rest),
            false => ("", after),
        }
    }
}

impl Range<'_> {
    /// The longer one of its prefix and another, if one begins with the other: the paths that both have.
    fn narrowed<'a>(&'a self, prefix: &'a str) -> Option<&'a str> {
        match (self.prefix.starts_with(prefix), prefix.starts_with(&self.prefix[..])) {
            (true, _) => Some(&self.prefix),
            (_, true) if !self.is_one => Some(prefix),
            _ => None,
        }
    }
}

impl Root {
    /// The prefix of paths in this root for names with the given prefix; `None` if no name can have it.
    fn prefix_within<'a>(&self, prefix: &'a str) -> Option<&'a str> {
        if self.name.is_empty() {
            return Some(prefix);
        }
        let own = format!("{}/", self.name);
        prefix.strip_prefix(&own[..]).or_else(|| own.starts_with(prefix).then_some(""))
    }

    fn list(&self, clients: &Clients, sought: Sought<'_>) -> Result<Found, String> {
        let _ = clients;
        match &self.place {
            Place::Folder(folder) => Ok(Found { videos: folder.list(sought)?, looked_until: None }),
            Place::Web(_) => Err("web servers cannot be listed".to_owned()),
            #[cfg(feature = "stores")]
            Place::Store(store) => store.list(&clients.stores().map_err(|error| error.message())?, sought),
            Place::Bundled => {
                let is_wanted = |path: &str| {
                    let is_later = sought.after.is_none_or(|after| after < path);
                    is_later && path.starts_with(sought.prefix) && name::is_video(path)
                };
                let clips = bundled::CLIPS.iter().filter(|(path, _)| is_wanted(path)).take(sought.limit);
                let videos = clips.map(|(path, bytes)| ((*path).to_owned(), Some(bytes.len() as u64))).collect();
                Ok(Found { videos, looked_until: None })
            }
        }
    }
}
